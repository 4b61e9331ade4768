/* One link's socket: connecting, moving ciphertext, ending, and what happens by time. */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/guest.h"
#include "offload/peers.h"
#include "offload/telling.h"

/* Bytes read from one socket in a turn before the others have theirs: a stream's window, which wakes its reader once. */
#define TURN_BYTES ((size_t)256 * 1024)
/* How often in a turn streams are asked for FLAT_WIRE_OUT_HIGH bytes, while a ring takes them. */
#define FLUSHES 4
/* What is unacknowledged for so long ends the socket, ms: with FLAT_WIRE_DEAD_MS, by the kernel. */
#define USER_TIMEOUT_MS 6000
/* A socket whose link is over waits so long for its peer to take the last words, ms. */
#define LAST_WORDS_MS 1000
/* As Linux's FIN_WAIT2: a stream whose connection is gone waits so long for its peer's end, ms. */
#define ORPHAN_MS 60000

void flat_peer_heat(struct flat_peer *p)
{
	if (p->hot)
		return;
	p->hot = true;
	TAILQ_INSERT_TAIL(&p->all->hot, p, hot_link);
}

static void on_tcp(struct flat_source *source, int events)
{
	struct flat_peer *p = FLAT_CONTAINER_OF(source, struct flat_peer, tcp);
	if (events & (POLLIN | POLLHUP | POLLRDHUP | POLLERR))
		p->readable = true;
	p->ending |= (events & ~(POLLIN | POLLOUT)) != 0;
	if (events & POLLOUT)
		p->writable = true;
	flat_peer_heat(p);
}

/* expect: as in flat_peer_to(). */
static struct flat_peer *peer_new(struct flat_peers *all, const struct flat_svid *svid, bool server,
				  bool hbone, const char *expect)
{
	struct flat_peer *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->all = all;
	p->server = server;
	p->hbone = hbone;
	p->tcp.fd = -1;
	p->since_ms = p->heard_ms = p->quiet_ms = flat_now_us() / 1000;
	/* Nobody was looked at while there was none. */
	if (all->n == 0)
		all->tick_ms = p->since_ms;
	TAILQ_INIT(&p->bridges);
	p->link = hbone ? flat_wire_link_new_hbone(all->svids, svid, expect, &flat_bridge_ops, p)
			: flat_wire_link_new(all->svids, svid, server, &flat_bridge_ops, p);
	if (!p->link) {
		free(p);
		return NULL;
	}
	p->frames = FLAT_WIRE_FRAMES_TURN;
	p->link->quota = &p->frames;
	flat_carrier_init(&p->carrier, p->link);
	TAILQ_INSERT_TAIL(&all->list, p, link_);
	all->n++;
	return p;
}

static void set_options(int fd)
{
	int one = 1;
	int timeout = USER_TIMEOUT_MS;
	(void)flat_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)flat_sys_setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

static int watch(struct flat_peer *p)
{
	p->connected = true;
	p->readable = p->writable = true;
	flat_peer_heat(p);
	return flat_loop_poll(&p->all->offload->loop, &p->tcp, p->tcp.fd,
			      POLLIN | POLLRDHUP | POLLOUT, on_tcp);
}

static void on_connected(struct flat_source *source, int result)
{
	struct flat_peer *p = FLAT_CONTAINER_OF(source, struct flat_peer, tcp);
	char text[FLAT_ADDR_STRLEN];
	char why[200];
	if (result == 0 && p->link)
		result = watch(p);
	if (result == 0)
		return;
	snprintf(why, sizeof(why), "flatd could not connect to %s at %s: %s",
		 p->hbone ? "HBONE" : "the flatd", flat_addr_str(&p->addr, text),
		 strerror(-result));
	flat_peer_end(p, -result, why);
}

void flat_peer_ready(struct flat_peer *p)
{
	struct flat_bridge *b;
	char text[FLAT_ADDR_STRLEN];
	if (!flat_peers_vouch(p))
		return;
	if (p->server) {
		flat_guest_join(p);
		return;
	}
	flat_info("%s to %s (%s) as %s", p->hbone ? "HBONE" : "link", flat_addr_str(&p->addr, text),
		  p->link->peer.id, p->link->own_id);
	flat_peer_verbs_offer(p);
	/* Anew each time: one that fails may take others with it. */
	do {
		TAILQ_FOREACH(b, &p->bridges, link)
		{
			if (!b->stream && b->conn)
				break;
		}
		if (b)
			flat_bridge_start(b);
	} while (b);
}

/* HBONE: not before it is known how many streams the peer takes. */
static bool has_room(const struct flat_peer *p)
{
	return !p->hbone || (p->n_bridges < FLAT_HBONE_POOL &&
			     (!p->link->greeted || !flat_wire_link_full(p->link)));
}

static bool is_for(const struct flat_peer *p, const struct flat_svid *svid, const char *expect)
{
	return p->hbone == (expect != NULL) && strcmp(p->link->own_id, svid->id) == 0 &&
	       (!expect || strcmp(p->link->peer.expect, expect) == 0);
}

struct flat_peer *flat_peer_to(struct flat_peers *all, const struct flat_addr *addr,
			       const struct flat_svid *svid, const char *expect, int *err)
{
	struct flat_peer *p;
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (!p->server && p->link && !p->link->draining && !p->link->failed &&
		    flat_addr_equal(&p->addr, addr) && is_for(p, svid, expect) && has_room(p))
			return p;
	}
	*err = all->n >= FLAT_WIRE_LINKS_MAX ? -ENOBUFS : -ENOMEM;
	p = all->n >= FLAT_WIRE_LINKS_MAX ? NULL
					  : peer_new(all, svid, false, expect != NULL, expect);
	if (!p)
		return NULL;
	p->addr = *addr;
	socklen_t len = flat_addr_to_sockaddr(addr, &p->ss);
	int fd = flat_sys_socket(addr->family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	*err = fd < 0 ? fd : 0;
	if (fd >= 0) {
		p->tcp.fd = fd;
		set_options(fd);
		*err = flat_loop_connect(&all->offload->loop, &p->tcp, fd,
					 (const struct sockaddr *)&p->ss, len, on_connected);
	}
	if (*err == 0)
		return p;
	flat_peer_free(p);
	return NULL;
}

const struct flat_peer *flat_peer_find(const struct flat_peers *all, const struct flat_addr *addr)
{
	const struct flat_peer *p;
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (!p->server && p->link && p->link->greeted && flat_addr_equal(&p->addr, addr))
			return p;
	}
	return NULL;
}

/*
 * Who answers an HBONE client, which does not say before the handshake whom it wants: the workload that listens at the
 * address it came to, where that is one alone; else the node. NULL: nobody who has an SVID.
 */
static const struct flat_svid *server_at(const struct flat_peers *all, const struct flat_addr *at)
{
	const struct flat_svid *one = NULL;
	const struct flat_listener *l;
	TAILQ_FOREACH(l, &all->offload->listeners, link)
	{
		const struct flat_workload *w = l->session->workload;
		const struct flat_svid *its;
		if (!w || !flat_listener_serves(l, at))
			continue;
		its = flat_svids_find(all->svids, w->principal);
		if (!its || (one && one != its))
			return all->svids->node;
		one = its;
	}
	return one ? one : all->svids->node;
}

/* --- who comes --- */

bool flat_peer_is_same_host(const struct flat_addr *a, const struct flat_addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, a->family == AF_INET ? 4 : 8) == 0;
}

static void turn_away(struct flat_peers *all, struct flat_peer *p, const char *why)
{
	char text[FLAT_ADDR_STRLEN];
	all->links_failed++;
	snprintf(all->last_failure, sizeof(all->last_failure), "%s: %.300s",
		 flat_addr_str(&p->addr, text), why);
	flat_tell(FLAT_LOG_WARN, "links ended", "other hosts", "link from %s ends: %s",
		  flat_addr_str(&p->addr, text), why);
	flat_peer_free(p);
}

/* For one more from there: who has not greeted, and came first, goes. False: all that there are have greeted. */
static bool make_room(struct flat_peers *all, const struct flat_addr *from)
{
	struct flat_peer *p;
	struct flat_peer *oldest = NULL;
	char text[FLAT_ADDR_STRLEN];
	uint32_t n = 0;
	TAILQ_FOREACH(p, &all->strangers, stranger_link)
	{
		if (!flat_peer_is_same_host(&p->addr, from))
			continue;
		oldest = oldest ? oldest : p;
		n++;
	}
	if (n >= FLAT_WIRE_STRANGERS_HOST)
		turn_away(all, oldest, "too many from its host have not greeted");
	else if (all->n_strangers >= FLAT_WIRE_STRANGERS_MAX)
		turn_away(all, TAILQ_FIRST(&all->strangers), "too many have not greeted");
	else if (all->n >= FLAT_WIRE_LINKS_MAX && all->n_strangers > 0)
		turn_away(all, TAILQ_FIRST(&all->strangers), "there are too many links");
	if (all->n < FLAT_WIRE_LINKS_MAX)
		return true;
	flat_tell(FLAT_LOG_WARN, "links turned away", "other hosts",
		  "a link from %s was turned away: there are %u links", flat_addr_str(from, text),
		  all->n);
	return false;
}

static void meet(struct flat_peer *p)
{
	p->stranger = true;
	p->all->n_strangers++;
	TAILQ_INSERT_TAIL(&p->all->strangers, p, stranger_link);
}

static void part(struct flat_peer *p)
{
	if (!p->stranger)
		return;
	p->stranger = false;
	p->all->n_strangers--;
	TAILQ_REMOVE(&p->all->strangers, p, stranger_link);
}

/* It is known now. */
static void greeted(struct flat_peer *p)
{
	part(p);
	if (p->all->offload->retired)
		flat_wire_link_drain(p->link);
	if (p->guest->links > FLAT_WIRE_HOST_LINKS_MAX)
		flat_peer_end(p, ENOBUFS, "its identity has too many links from its host");
}

void flat_peer_accept(struct flat_peers *all, int fd, bool hbone)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct flat_peer *p = NULL;
	struct flat_addr local = {0};
	struct flat_addr from;
	const struct flat_svid *svid = all->svids->node;
	memset(&ss, 0, sizeof(ss));
	if (FLAT_SYS3(SYS_getpeername, fd, &ss, &len) != 0 ||
	    flat_addr_from_sockaddr(&from, (struct sockaddr *)&ss, len) != 0) {
		close(fd);
		return;
	}
	flat_addr_unmap(&from);
	len = sizeof(ss);
	memset(&ss, 0, sizeof(ss));
	if (hbone && flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	    flat_addr_from_sockaddr(&local, (struct sockaddr *)&ss, len) == 0) {
		flat_addr_unmap(&local);
		svid = server_at(all, &local);
	}
	if (svid && make_room(all, &from))
		p = peer_new(all, svid, true, hbone, NULL);
	if (!p) {
		close(fd);
		return;
	}
	p->tcp.fd = fd;
	p->addr = from;
	p->local = local;
	meet(p);
	set_options(fd);
	if (watch(p) != 0)
		flat_peer_free(p);
}

/* --- ending --- */

/* Streams of a link that is over end, each of which wakes its application: all, or some now and the others in turns to come. */
static void end_streams(struct flat_peer *p, bool all)
{
	struct flat_bridge *b;
	struct flat_wire_link *link = p->past;
	if (!link)
		return;
	if (!flat_wire_link_end(link, p->past_err, all)) {
		flat_peer_heat(p);
		return;
	}
	p->past = NULL;
	flat_wire_link_free(link, p->past_err);
	while ((b = TAILQ_FIRST(&p->bridges)) != NULL)
		flat_bridge_fail(b, p->past_err, p->past_why);
	flat_guest_leave(p);
}

static void drop_link(struct flat_peer *p, int err, const char *why)
{
	struct flat_wire_link *link = p->link;
	struct flat_wire_stats *past = &p->all->past;
	if (!link)
		return;
	/* Nothing new comes to it while its streams are told. */
	p->link = NULL;
	past->opened += link->stats.opened;
	past->refused += link->stats.refused;
	past->reset += link->stats.reset + link->n_streams;
	past->bytes[0] += link->stats.bytes[0];
	past->bytes[1] += link->stats.bytes[1];
	for (int i = 0; i < 4; i++)
		p->all->carried[i / 2][i % 2] += p->carrier.bytes[i / 2][i % 2];
	flat_peer_verbs_end(p);
	flat_carrier_fini(&p->carrier);
	p->past = link;
	p->past_err = err;
	snprintf(p->past_why, sizeof(p->past_why), "%s", why);
	end_streams(p, false);
}

void flat_peer_free(struct flat_peer *p)
{
	drop_link(p, ECONNRESET, "the link is closed");
	end_streams(p, true);
	part(p);
	if (p->hot)
		TAILQ_REMOVE(&p->all->hot, p, hot_link);
	TAILQ_REMOVE(&p->all->list, p, link_);
	p->all->n--;
	flat_loop_close(&p->all->offload->loop, &p->tcp);
	free(p);
}

static void send_out(struct flat_peer *p)
{
	const uint8_t *bytes;
	size_t n;
	while (p->writable && p->connected && (n = flat_carrier_output(&p->carrier, &bytes)) > 0) {
		ssize_t sent = flat_sys_send(p->tcp.fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent > 0)
			flat_carrier_sent(&p->carrier, (size_t)sent);
		else if (sent == -EAGAIN)
			p->writable = false;
		else if (sent != -EINTR)
			return;
	}
}

void flat_peer_end(struct flat_peer *p, int err, const char *why)
{
	char text[FLAT_ADDR_STRLEN];
	struct flat_peers *all = p->all;
	bool mine = err != 0;
	if (!p->link)
		return;
	if (mine) {
		all->links_failed++;
		snprintf(all->last_failure, sizeof(all->last_failure), "%s: %.300s",
			 flat_addr_str(&p->addr, text), why);
		flat_tell(FLAT_LOG_WARN, "links ended",
			  p->server ? "other hosts" : flat_addr_str(&p->addr, text),
			  "link %s %s ends: %s", p->server ? "from" : "to",
			  flat_addr_str(&p->addr, text), why);
	}
	flat_wire_link_bye(p->link);
	send_out(p);
	drop_link(p, mine ? err : ECONNRESET, why);
	p->since_ms = flat_now_us() / 1000;
	/* What was said last reaches the peer only where nothing of its own is left unread. */
	if (p->connected)
		flat_sys_shutdown(p->tcp.fd, SHUT_WR);
	else
		p->ended = true;
	flat_peer_heat(p);
}

/* --- moving --- */

/* The link says why. */
static void end_by_link(struct flat_peer *p, int err)
{
	char why[sizeof(p->link->why)];
	snprintf(why, sizeof(why), "%s", p->link->why);
	flat_peer_end(p, err, why);
}

/* What was left for this turn. Who said it is not silent. */
static void go_on(struct flat_peer *p)
{
	if (!p->link || (!p->link->stalled && !p->carrier.left))
		return;
	p->heard_ms = p->all->tick_ms;
	p->asked_ms = 0;
	int err = flat_carrier_go_on(&p->carrier);
	if (err != 0)
		end_by_link(p, -err);
}

static void read_in(struct flat_peer *p)
{
	uint8_t *buf = p->all->scratch;
	size_t total = 0;
	while (p->readable && !p->ended && total < TURN_BYTES &&
	       !(p->link && flat_carrier_waits(&p->carrier))) {
		ssize_t n = flat_sys_recv(p->tcp.fd, buf, sizeof(p->all->scratch), MSG_DONTWAIT);
		if (n == -EAGAIN) {
			p->readable = false;
		} else if (n <= 0 && n != -EINTR) {
			p->ended = true;
			flat_peer_end(p, n < 0 ? (int)-n : ECONNRESET,
				      n < 0 ? strerror((int)-n) : "the peer is gone");
		} else if (n > 0) {
			total += (size_t)n;
			/* There was no more; what comes is told of. An end that was told of already is yet to be read. */
			p->readable = p->ending || (size_t)n == sizeof(p->all->scratch);
			p->heard_ms = p->all->tick_ms;
			p->asked_ms = 0;
			int err = p->link ? flat_carrier_input(&p->carrier, buf, (size_t)n) : 0;
			if (err != 0)
				end_by_link(p, -err);
		}
	}
}

/* Streams are asked for what the carrier has room for. True: there is more, and room. */
static bool write_out(struct flat_peer *p)
{
	const uint8_t *bytes;
	bool warm = false;
	bool more;
	bool moved;
	int err = flat_peer_verbs_turn(p, &warm);
	if (err != 0) {
		end_by_link(p, -err);
		return false;
	}
	/* A ring takes several times what a link holds back for its socket. */
	for (int i = 0; i < FLUSHES; i++) {
		more = flat_wire_link_flush(p->link);
		moved = flat_peer_verbs_put(p);
		warm |= moved;
		if (!more || !moved)
			break;
	}
	send_out(p);
	flat_peer_verbs_sent(p);
	return warm || (more && flat_wire_link_output(p->link, &bytes) < FLAT_WIRE_OUT_HIGH);
}

void flat_peer_turn(struct flat_peer *p)
{
	bool more = false;
	if (!p->connected && p->link)
		return;
	go_on(p);
	read_in(p);
	if (p->stranger && p->link && p->link->greeted)
		greeted(p);
	/* What it asked for, or others did before. */
	flat_guests_begin(p->all);
	if (p->link)
		more = write_out(p);
	if (p->link && p->link->failed)
		end_by_link(p, ECONNRESET);
	end_streams(p, false);
	if (!p->link && !p->past && p->ended)
		flat_peer_free(p);
	else if (more || p->readable || (p->link && flat_carrier_waits(&p->carrier)))
		flat_peer_heat(p);
}

/* --- time --- */

/* Its client should have ended it. A stream that it opens at this moment must not be lost: it is told first. */
static void end_idle_server(struct flat_peer *p, int64_t quiet_ms)
{
	char text[FLAT_ADDR_STRLEN];
	if (quiet_ms > FLAT_WIRE_LONG_IDLE_MS + FLAT_WIRE_DEAD_MS) {
		flat_info("link from %s ends: it had no stream for %lld s",
			  flat_addr_str(&p->addr, text), (long long)quiet_ms / 1000);
		flat_peer_end(p, 0, "idle");
	} else if (quiet_ms > FLAT_WIRE_LONG_IDLE_MS && !p->link->draining) {
		flat_wire_link_drain(p->link);
		flat_peer_heat(p);
	}
}

static void tick_link(struct flat_peer *p, int64_t now_ms, int64_t now_s)
{
	struct flat_wire_link *l = p->link;
	if (!l->greeted) {
		if (now_ms - p->since_ms > FLAT_WIRE_HANDSHAKE_MS)
			flat_peer_end(p, ETIMEDOUT, "the peer did not answer in time");
		return;
	}
	if (now_s >= l->peer.expires_s || now_s >= l->own_expires_s) {
		flat_wire_link_excuse(l);
		flat_peer_end(p, ECONNRESET,
			      now_s >= l->peer.expires_s ? "the peer's certificate has expired"
							 : "our certificate has expired");
		return;
	}
	flat_peer_verbs_offer(p);
	if (l->n_streams > 0) {
		p->quiet_ms = now_ms;
		if (now_ms - p->heard_ms > FLAT_WIRE_DEAD_MS) {
			flat_peer_end(p, ETIMEDOUT, "the peer is silent");
		} else if (now_ms - p->heard_ms > FLAT_VERBS_SILENT_MS && p->asked_ms != 0) {
			flat_peer_verbs_lose(p, "nothing comes by verbs, although asked for");
		} else if (now_ms - p->heard_ms > FLAT_WIRE_ASK_MS && p->asked_ms == 0) {
			p->asked_ms = now_ms;
			flat_wire_link_ping(l);
			flat_peer_heat(p);
		}
		return;
	}
	/* Nothing was asked for: its silence counts from the first stream on. */
	p->heard_ms = now_ms;
	p->asked_ms = 0;
	if (!TAILQ_EMPTY(&p->bridges))
		return;
	if (p->server)
		end_idle_server(p, now_ms - p->quiet_ms);
	else if (l->draining || now_ms - p->quiet_ms > FLAT_WIRE_IDLE_MS)
		flat_peer_end(p, 0, "idle");
}

/* Connections are gone, and their peers neither read on nor end. */
static void reset_orphans(struct flat_peer *p, int64_t now_ms)
{
	struct flat_bridge *b;
	struct flat_bridge *next;
	for (b = TAILQ_FIRST(&p->bridges); b; b = next) {
		next = TAILQ_NEXT(b, link);
		if (b->orphan_ms != 0 && now_ms - b->orphan_ms > ORPHAN_MS)
			flat_bridge_gone(b, true);
	}
}

/* For the time since the last tick. */
static void forgive(struct flat_peer *p, int64_t now_ms)
{
	int64_t ms = now_ms - p->all->tick_ms;
	if (ms > 0)
		flat_wire_link_forgive(p->link, ms < 1000
						    ? (uint32_t)ms * FLAT_WIRE_RESETS_MAX / 1000
						    : FLAT_WIRE_RESETS_MAX);
}

bool flat_peer_tick(struct flat_peer *p, int64_t now_ms, int64_t now_s)
{
	reset_orphans(p, now_ms);
	if (p->link) {
		forgive(p, now_ms);
		tick_link(p, now_ms, now_s);
	} else if (!p->past && now_ms - p->since_ms > LAST_WORDS_MS) {
		flat_peer_free(p);
		return false;
	}
	return true;
}
