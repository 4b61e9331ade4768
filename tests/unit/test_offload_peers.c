/* Links that other hosts open and leave alone: how many there may be, of whom, for how long. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "offload/guest.h"
#include "support_wire_pair.h"
#include "wire/ca.h"

static struct flat_offload o;
static struct wire_folder folder;
static struct flat_svids *svids;
static int listening;
static struct sockaddr_in at;

static void setup(void)
{
	struct rlimit fds;
	socklen_t len = sizeof(at);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &fds), 0);
	fds.rlim_cur = fds.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &fds), 0);
	wire_folder_init(&folder, "d");
	svids = wire_load(&folder);
	TAILQ_INIT(&o.listeners);
	TAILQ_INIT(&o.conns);
	cr_assert_eq(flat_loop_init(&o.loop), 0);
	o.svids = folder.svids;
	cr_assert_eq(flat_peers_open(&o), 0);
	at.sin_family = AF_INET;
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listening, 64), 0);
	cr_assert_eq(getsockname(listening, (struct sockaddr *)&at, &len), 0);
}

static void teardown(void)
{
	flat_peers_close(&o);
	flat_loop_fini(&o.loop);
	flat_svids_put(svids);
	wire_folder_fini(&folder);
	close(listening);
}

TestSuite(peers, .init = setup, .fini = teardown, .timeout = 120);

/* Comes from 127.0.0.HOST. The client's socket. */
static int come_from(uint32_t host)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(0x7f000000 | host)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	int far = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert_geq(far, 0);
	flat_peer_accept(o.peers, far, false);
	return fd;
}

static void turn(void)
{
	(void)flat_loop_turn(&o.loop, 0);
	(void)flat_peers_turn(&o);
}

static bool is_over(int fd)
{
	char sink[4096];
	ssize_t n;
	/* What was closed is so with the next turn's system call. */
	turn();
	turn();
	while ((n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT)) > 0)
		;
	return n == 0 || errno != EAGAIN;
}

static bool ends(int fd)
{
	for (int i = 0; i < 1000; i++) {
		if (is_over(fd))
			return true;
		(void)poll(NULL, 0, 1);
	}
	return false;
}

static int64_t now_ms(void)
{
	return flat_now_us() / 1000;
}

Test(peers, one_that_says_nothing_is_ended_in_time)
{
	int fd = come_from(1);
	struct flat_peer *p = TAILQ_FIRST(&o.peers->list);
	cr_assert_eq(o.peers->n_strangers, 1);
	cr_assert(flat_peer_tick(p, now_ms(), 0));
	cr_assert(!is_over(fd));
	cr_assert(flat_peer_tick(p, now_ms() + FLAT_WIRE_HANDSHAKE_MS + 1, 0));
	cr_expect(ends(fd));
	cr_expect(strstr(o.peers->last_failure, "did not answer in time"), "%s",
		  o.peers->last_failure);
	cr_expect_eq(o.peers->n_strangers, 1, "it has a socket and memory still");
	cr_expect(!flat_peer_tick(p, now_ms() + FLAT_WIRE_HANDSHAKE_MS, 0));
	cr_expect_eq(o.peers->n + o.peers->n_strangers, 0);
}

Test(peers, many_of_one_host_that_say_nothing_end_each_other_and_no_other_hosts)
{
	static int fds[FLAT_WIRE_STRANGERS_HOST];
	int other = come_from(3);
	for (size_t i = 0; i < FLAT_WIRE_STRANGERS_HOST; i++)
		fds[i] = come_from(2);
	cr_assert_eq(o.peers->n_strangers, FLAT_WIRE_STRANGERS_HOST + 1);
	cr_assert(!is_over(fds[0]));
	int more = come_from(2);
	cr_expect_eq(o.peers->n_strangers, FLAT_WIRE_STRANGERS_HOST + 1);
	cr_expect(ends(fds[0]));
	cr_expect(!is_over(fds[1]) && !is_over(other) && !is_over(more));
	cr_expect(strstr(o.peers->last_failure, "127.0.0.2") &&
		      strstr(o.peers->last_failure, "too many from its host"),
		  "%s", o.peers->last_failure);
}

Test(peers, many_of_all_hosts_that_say_nothing_leave_room_for_one_more)
{
	static int fds[FLAT_WIRE_STRANGERS_MAX];
	for (uint32_t i = 0; i < FLAT_WIRE_STRANGERS_MAX; i++)
		fds[i] = come_from(1 + i % 8);
	cr_assert_eq(o.peers->n_strangers, FLAT_WIRE_STRANGERS_MAX);
	int more = come_from(100);
	cr_expect_eq(o.peers->n_strangers, FLAT_WIRE_STRANGERS_MAX);
	cr_expect(ends(fds[0]));
	cr_expect(!is_over(fds[1]) && !is_over(more));
}

/* --- clients that greet --- */

struct client {
	int fd;
	struct flat_wire_link *link;
	bool over;
};

static void pump(struct client *c)
{
	uint8_t buf[65536];
	const uint8_t *bytes;
	size_t len;
	ssize_t n;
	(void)flat_wire_link_flush(c->link);
	while ((len = flat_wire_link_output(c->link, &bytes)) > 0) {
		n = send(c->fd, bytes, len, MSG_NOSIGNAL);
		flat_wire_link_sent(c->link, n > 0 ? (size_t)n : len);
	}
	turn();
	n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		c->over |= flat_wire_link_input(c->link, buf, (size_t)n) != 0;
	c->over |= n == 0 || (n < 0 && errno != EAGAIN);
}

static struct client greet(const char *who, uint32_t host)
{
	struct client c = {.fd = come_from(host)};
	c.link =
	    flat_wire_link_new(svids, flat_svids_find(svids, who), false, &pair_ops, &pair.client);
	cr_assert_not_null(c.link);
	for (int i = 0; i < 10000 && !c.link->greeted && !c.over; i++)
		pump(&c);
	/* The server's side has read the greeting when it has nothing more to read. */
	for (int i = 0; i < 10; i++)
		pump(&c);
	return c;
}

static void leave(struct client *c)
{
	flat_wire_link_free(c->link, ECONNRESET);
	close(c->fd);
}

/* All that it has said, before the server's side looks. */
static void say(struct client *c)
{
	const uint8_t *bytes;
	size_t len;
	while ((len = flat_wire_link_output(c->link, &bytes)) > 0) {
		ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
		cr_assert_gt(n, 0);
		flat_wire_link_sent(c->link, (size_t)n);
	}
}

Test(peers, one_that_greeted_is_no_stranger)
{
	struct client c = greet("d/ns/a/sa/client", 1);
	cr_expect(c.link->greeted && !c.over);
	cr_expect_eq(o.peers->n, 1);
	cr_expect_eq(o.peers->n_strangers, 0);
	leave(&c);
}

Test(peers, one_that_greeted_and_asks_for_nothing_is_ended_after_it_was_told)
{
	struct client c = greet("d/ns/a/sa/client", 1);
	struct flat_peer *p = TAILQ_FIRST(&o.peers->list);
	int64_t idle_ms = FLAT_WIRE_LONG_IDLE_MS;
	int64_t now_s = (int64_t)time(NULL);
	cr_assert(p->link && p->link->greeted);
	cr_assert(flat_peer_tick(p, p->quiet_ms + idle_ms, now_s));
	pump(&c);
	cr_expect(!c.link->draining);
	cr_assert(flat_peer_tick(p, p->quiet_ms + idle_ms + 1, now_s));
	for (int i = 0; i < 1000 && !c.link->draining; i++)
		pump(&c);
	cr_expect(c.link->draining && !c.over && p->link);
	cr_assert(flat_peer_tick(p, p->quiet_ms + idle_ms + FLAT_WIRE_DEAD_MS + 1, now_s));
	for (int i = 0; i < 1000 && !c.over; i++)
		pump(&c);
	cr_expect(c.over);
	leave(&c);
}

Test(peers, a_link_without_streams_is_not_silent)
{
	struct client c = greet("d/ns/a/sa/client", 1);
	struct flat_peer *p = TAILQ_FIRST(&o.peers->list);
	int64_t then_ms = p->heard_ms + 10 * FLAT_WIRE_DEAD_MS;
	int64_t now_s = (int64_t)time(NULL);
	cr_assert(p->link && p->link->greeted);
	cr_assert(flat_peer_tick(p, then_ms, now_s));
	/* One is opened, and its answer is under way when the link is looked at. */
	p->link->n_streams++;
	cr_assert(flat_peer_tick(p, then_ms + 500, now_s));
	cr_expect(p->link && p->asked_ms == 0, "%s", o.peers->last_failure);
	cr_assert(flat_peer_tick(p, then_ms + FLAT_WIRE_ASK_MS + 1, now_s));
	cr_expect(p->link && p->asked_ms != 0, "it is asked after its time");
	if (p->link)
		p->link->n_streams--;
	leave(&c);
}

/* What a client says first, which costs the server a signature. */
static void say_hello(int fd)
{
	const uint8_t *bytes;
	struct flat_wire_link *l = flat_wire_link_new(
	    svids, flat_svids_find(svids, "d/ns/a/sa/client"), false, &pair_ops, &pair.client);
	size_t n = flat_wire_link_output(l, &bytes);
	cr_assert_eq(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
	flat_wire_link_free(l, ECONNRESET);
}

static size_t answered(const int *fds, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		struct pollfd p = {.fd = fds[i], .events = POLLIN};
		count += poll(&p, 1, 0) > 0;
	}
	return count;
}

Test(peers, many_handshakes_leave_time_for_those_that_greeted)
{
	int fds[5 * FLAT_WIRE_STRANGERS_TURN];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(fds); i++) {
		fds[i] = come_from(2);
		say_hello(fds[i]);
	}
	(void)flat_peers_turn(&o);
	cr_expect_leq(answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_WIRE_STRANGERS_TURN);
	for (int i = 0; i < 1000 && answered(fds, FLAT_ARRAY_SIZE(fds)) < FLAT_ARRAY_SIZE(fds); i++)
		turn();
	cr_expect_eq(answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_ARRAY_SIZE(fds));
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* --- renewal --- */

static struct flat_addr address(uint8_t first)
{
	return (struct flat_addr){
	    .family = AF_INET, .port = 80, .ip = {first, 0, 0, first ? 2 : 0}};
}

/* What comes of a stream to there. */
static struct wire_end *ask_for(struct client *c, uint8_t first)
{
	static struct wire_end end;
	struct flat_addr to = address(first);
	memset(&end, 0, sizeof(end));
	end.stream = flat_wire_open(c->link, &to, &to, &end);
	cr_assert_not_null(end.stream);
	for (int i = 0; i < 1000 && !end.over && !c->over; i++)
		pump(c);
	return &end;
}

Test(peers, after_a_renewal_clients_are_asked_for_new_links_and_none_is_refused_for_it)
{
	struct client c = greet("d/ns/a/sa/client", 1);
	flat_peers_reload(&o);
	/* It was not heard yet. */
	struct wire_end *e = ask_for(&c, 10);
	cr_expect_eq(e->err, ECONNREFUSED, "%d: %s", e->err, e->text);
	for (int i = 0; i < 1000 && !c.link->draining; i++)
		pump(&c);
	cr_expect(c.link->draining && !c.over);
	leave(&c);
}

/* --- revocation --- */

static void revoke_client(int64_t list_lives_s)
{
	char cert[300];
	char why[300];
	snprintf(cert, sizeof(cert), "%s/a.client.crt", folder.svids);
	cr_assert_eq(flat_ca_revoke(folder.ca, folder.svids, cert, list_lives_s, why, sizeof(why)),
		     0, "%s", why);
	flat_peers_reload(&o);
}

Test(peers, a_link_whose_peer_is_revoked_ends_and_no_other)
{
	struct client c = greet("d/ns/a/sa/client", 1);
	struct client other = greet("d/ns/a/sa/other", 1);
	revoke_client(100);
	for (int i = 0; i < 1000 && !c.over; i++) {
		pump(&c);
		pump(&other);
	}
	cr_expect(c.over && !other.over);
	cr_expect(strstr(o.peers->last_failure, "revoked (serial"), "%s", o.peers->last_failure);
	struct client again = greet("d/ns/a/sa/client", 1);
	cr_expect(again.over);
	cr_expect(strstr(o.peers->last_failure, "revoked (serial"), "%s", o.peers->last_failure);
	leave(&again);
	leave(&c);
	leave(&other);
}

Test(peers, one_that_is_revoked_while_it_shakes_hands_is_refused)
{
	struct client c = {.fd = come_from(1)};
	struct flat_peer *p = TAILQ_FIRST(&o.peers->list);
	c.link = flat_wire_link_new(svids, flat_svids_find(svids, "d/ns/a/sa/client"), false,
				    &pair_ops, &pair.client);
	/* The server has begun with the identities of before, and knows nobody yet. */
	pump(&c);
	cr_assert(p->link && p->link->svids == o.peers->svids && !p->link->greeted);
	revoke_client(100);
	for (int i = 0; i < 1000 && !c.over; i++)
		pump(&c);
	cr_expect(c.over && TAILQ_EMPTY(&o.peers->guests));
	cr_expect(strstr(o.peers->last_failure, "holds no more"), "%s", o.peers->last_failure);
	leave(&c);
}

Test(peers, when_a_list_ends_so_do_links_of_its_authority)
{
	revoke_client(2);
	struct client c = greet("d/ns/a/sa/other", 1);
	cr_assert(c.link->greeted && !c.over);
	for (int i = 0; i < 10000 && !c.over; i++) {
		(void)poll(NULL, 0, 1);
		(void)flat_peers_wait_ms(&o);
		pump(&c);
	}
	cr_expect(c.over);
	cr_expect(strstr(o.peers->last_failure, "CRL has expired"), "%s", o.peers->last_failure);
	cr_expect_eq(o.peers->lists_end_s, INT64_MAX);
	leave(&c);
}

Test(peers, no_address_is_none_of_ours)
{
	struct flat_session session = {.offload = &o};
	struct flat_listener l = {.offload = &o, .session = &session, .tcp = {.fd = -1}};
	struct client c = greet("d/ns/a/sa/client", 1);
	l.addr = address(0);
	flat_listener_enlist(&o, &l);
	struct wire_end *e = ask_for(&c, 0);
	cr_expect_eq(e->err, ECONNREFUSED, "%d: %s", e->err, e->text);
	cr_expect(strstr(e->text, "no mesh server listens on 0.0.0.0"), "%s", e->text);
	flat_listener_delist(&o, &l);
	leave(&c);
}

/* --- asking once more --- */

static size_t n_asked;

static void count_asked(struct flat_wire_link *link, struct flat_wire_stream *s,
			const struct flat_frame *f)
{
	struct wire_side *side = link->owner;
	(void)f;
	n_asked++;
	s->owner = &side->ends[0];
}

/* A flatd that takes the next link, until it was asked for `n` streams in all. */
static struct client serve_until_asked(const struct flat_wire_ops *ops, size_t n)
{
	struct client s = {.fd = -1};
	for (int i = 0; i < 1000 && s.fd < 0; i++) {
		turn();
		s.fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	cr_assert_geq(s.fd, 0);
	s.link = flat_wire_link_new(svids, svids->node, true, ops, &pair.server);
	for (int i = 0; i < 10000 && n_asked < n && !s.over; i++)
		pump(&s);
	cr_assert_eq(n_asked, n);
	return s;
}

Test(peers, a_connection_that_nobody_answered_is_asked_for_by_another_link_once)
{
	char reason[400];
	char speaker[] = "d/ns/a/sa/client";
	struct flat_wire_ops ops = pair_ops;
	struct flat_conn c = {.offload = &o, .half_open = true, .speaker = speaker};
	ops.opened = count_asked;
	cr_assert_eq(fcntl(listening, F_SETFL, O_NONBLOCK), 0);
	c.target = (struct flat_addr){.family = AF_INET, .port = 7, .ip = {127, 0, 0, 1}};
	c.wire.port = ntohs(at.sin_port);
	c.wire.namespace = "a";
	cr_assert_eq(flat_bridge_dial(&c, reason, sizeof(reason)), 0, "%s", reason);
	struct client first = serve_until_asked(&ops, 1);
	cr_assert(!c.bridge->moved);
	leave(&first);
	struct client second = serve_until_asked(&ops, 2);
	cr_assert_not_null(c.bridge);
	cr_expect(c.bridge->moved && c.bridge->stream);
	/* Then it is over; nobody is there to be told. */
	c.bridge->conn = NULL;
	leave(&second);
	for (int i = 0; i < 1000 && o.peers->n > 0; i++)
		turn();
	cr_expect_eq(o.peers->n, 0);
	flat_tube_close(c.end[FLAT_SIDE_SERVER].tube, FLAT_TUBE_NEAR, true);
	free((void *)(uintptr_t)c.server_name);
}

/* What was sent may take its time to arrive on a busy machine. */
static void pump_and_wait(struct client *c)
{
	pump(c);
	(void)poll(NULL, 0, 1);
}

/* The next HBONE link's server side, which has greeted. */
static struct client serve_hbone(const struct flat_wire_ops *ops)
{
	struct client s = {.fd = -1};
	for (int i = 0; i < 1000 && s.fd < 0; i++) {
		turn();
		s.fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	cr_assert_geq(s.fd, 0);
	s.link = flat_wire_link_new_hbone(svids, flat_svids_find(svids, "d/ns/a/sa/other"), NULL,
					  ops, &pair.server);
	for (int i = 0; i < 10000 && !s.link->shaken && !s.over; i++)
		pump_and_wait(&s);
	return s;
}

/* RFC 9113, 8.7: after GOAWAY, REFUSED_STREAM says that nothing was done with it. */
Test(peers, a_stream_refused_by_a_server_that_goes_away_is_asked_for_by_another_link_once)
{
	char reason[400];
	char speaker[] = "d/ns/a/sa/client";
	char account[] = "other";
	struct flat_wire_ops ops = pair_ops;
	struct flat_conn c = {.offload = &o, .half_open = true, .speaker = speaker};
	ops.opened = count_asked;
	cr_assert_eq(fcntl(listening, F_SETFL, O_NONBLOCK), 0);
	c.target = (struct flat_addr){.family = AF_INET, .port = 7, .ip = {127, 0, 0, 1}};
	c.wire.port = ntohs(at.sin_port);
	c.wire.namespace = "a";
	c.wire.account = account;
	c.wire.hbone = true;
	cr_assert_eq(flat_bridge_dial(&c, reason, sizeof(reason)), 0, "%s", reason);
	struct client first = serve_hbone(&ops);
	(void)flat_wire_link_flush(first.link);
	say(&first);
	for (int i = 0; i < 10000 && !c.bridge->stream; i++) {
		(void)poll(NULL, 0, 1);
		turn();
	}
	turn();
	/* It is asked for; refused before its owner hears of it; that the server goes away is said before. */
	first.link->alone = FLAT_WIRE_RESETS_MAX;
	flat_wire_link_drain(first.link);
	for (int i = 0; i < 10000 && !c.bridge->moved && !first.over; i++)
		pump_and_wait(&first);
	cr_assert(c.bridge && c.bridge->moved);
	cr_assert_eq(first.link->stats.refused, 1);
	cr_assert_eq(n_asked, 0);
	struct client second = serve_hbone(&ops);
	for (int i = 0; i < 10000 && n_asked == 0 && !second.over; i++)
		pump_and_wait(&second);
	cr_expect_eq(n_asked, 1);
	cr_expect(c.bridge && c.bridge->stream && c.bridge->peer->hbone);
	cr_expect_eq(o.peers->n, 2);
	if (c.bridge)
		c.bridge->conn = NULL;
	leave(&second);
	leave(&first);
	for (int i = 0; i < 1000 && o.peers->n > 0; i++)
		turn();
	cr_expect_eq(o.peers->n, 0);
	flat_tube_close(c.end[FLAT_SIDE_SERVER].tube, FLAT_TUBE_NEAR, true);
	free((void *)(uintptr_t)c.server_name);
}

/* --- verbs --- */

static size_t n_refused;
static char refusal[200];

static int on_verbs(struct flat_wire_link *link, const struct flat_frame *f)
{
	(void)link;
	cr_assert_eq(f->number, FLAT_VERBS_REFUSE);
	snprintf(refusal, sizeof(refusal), "%.*s", (int)f->len, (const char *)f->data);
	n_refused++;
	return 0;
}

/* Many at once. The words for the last. */
static const char *offer(struct client *c, size_t n)
{
	static const uint8_t end[FLAT_FRAME_VERBS_END];
	const struct flat_frame f = {
	    .type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_OFFER, .data = end, .len = sizeof(end)};
	size_t before = n_refused;
	for (size_t i = 0; i < n; i++)
		flat_wire_link_say(c->link, &f);
	for (int i = 0; i < 1000 && n_refused < before + n && !c->over; i++)
		pump(c);
	cr_assert_eq(n_refused, before + n);
	return refusal;
}

Test(peers, verbs_are_looked_at_so_often_whoever_offers)
{
	static struct client v[FLAT_VERBS_OFFERS_TICK + 1];
	struct flat_wire_ops ops = pair_ops;
	ops.verbs = on_verbs;
	o.peers->verbs_name = "nothing";
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		v[i] = greet("d/ns/a/sa/client", 2);
		v[i].link->ops = &ops;
	}
	/* No tick of the time between. */
	o.peers->verbs_offers = 0;
	cr_expect(strstr(offer(&v[0], 1), "device nothing"), "%s", refusal);
	cr_expect(strstr(offer(&v[0], 100), "a moment ago"), "%s", refusal);
	for (size_t i = 1; i < FLAT_VERBS_OFFERS_TICK; i++)
		cr_expect(strstr(offer(&v[i], 1), "device nothing"), "%zu: %s", i, refusal);
	cr_expect(strstr(offer(&v[FLAT_VERBS_OFFERS_TICK], 1), "too many links"), "%s", refusal);
	flat_peers_verbs_tick(o.peers);
	cr_expect(strstr(offer(&v[FLAT_VERBS_OFFERS_TICK], 1), "device nothing"), "%s", refusal);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		leave(&v[i]);
}

Test(peers, one_identity_has_so_many_links_from_one_host)
{
	static struct client v[FLAT_WIRE_HOST_LINKS_MAX];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		v[i] = greet("d/ns/a/sa/client", 2);
	cr_assert(v[0].link->greeted && !v[FLAT_ARRAY_SIZE(v) - 1].over);
	struct client one_more = greet("d/ns/a/sa/client", 2);
	struct client other = greet("d/ns/a/sa/other", 2);
	struct client elsewhere = greet("d/ns/a/sa/client", 3);
	for (int i = 0; i < 1000 && !one_more.over; i++)
		pump(&one_more);
	cr_expect(one_more.over);
	cr_expect(strstr(o.peers->last_failure, "its identity has too many links"), "%s",
		  o.peers->last_failure);
	cr_expect(!v[0].over && !other.over && !elsewhere.over);
	leave(&one_more);
	leave(&other);
	leave(&elsewhere);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		leave(&v[i]);
}

/* --- what they ask for --- */

/* Streams that have no server here. What the last of them heard, in `e`. */
static void ask_many(struct client *c, size_t n, struct wire_end *e)
{
	static const struct flat_addr to = {.family = AF_INET, .ip = {10, 0, 0, 2}, .port = 80};
	memset(e, 0, sizeof(*e));
	for (size_t i = 0; i < n; i++) {
		e->stream = flat_wire_open(c->link, &to, &to, e);
		cr_assert_not_null(e->stream);
	}
}

static uint64_t refused_of(const struct client *c)
{
	return c->link->stats.refused;
}

/* The errno that a stream of it gets. */
static int ask_one(struct client *c)
{
	struct wire_end e;
	ask_many(c, 1, &e);
	for (int i = 0; i < 10000 && !e.over && !c->over; i++)
		pump(c);
	cr_assert(e.over);
	return e.err;
}

static const struct flat_wire_link *server_side(const struct client *c)
{
	const struct flat_peer *p;
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	cr_assert_eq(getsockname(c->fd, (struct sockaddr *)&in, &len), 0);
	TAILQ_FOREACH(p, &o.peers->list, link_)
	{
		if (p->addr.port == ntohs(in.sin_port) && memcmp(p->addr.ip, &in.sin_addr, 4) == 0)
			return p->link;
	}
	return NULL;
}

#define MANY ((size_t)4000)

Test(peers, many_streams_at_once_are_begun_a_few_in_a_turn_and_none_is_lost)
{
	struct client c = greet("d/ns/a/sa/client", 1);
	struct wire_end e;
	uint64_t before = 0;
	ask_many(&c, MANY, &e);
	say(&c);
	for (int i = 0; i < 10000 && before < MANY; i++) {
		turn();
		uint64_t now = server_side(&c)->stats.refused;
		cr_assert_leq(now - before, FLAT_WIRE_BEGIN_MAX, "in turn %d", i);
		before = now;
	}
	cr_assert_eq(before, MANY);
	for (int i = 0; i < 10000 && refused_of(&c) < MANY; i++)
		pump(&c);
	cr_expect_eq(refused_of(&c), MANY);
	cr_expect_eq(e.err, ECONNREFUSED);
	cr_expect_eq(c.link->n_streams, 0);
	leave(&c);
}

Test(peers, one_that_asks_for_many_streams_holds_up_no_other)
{
	struct client busy = greet("d/ns/a/sa/client", 1);
	struct client other = greet("d/ns/a/sa/other", 2);
	struct wire_end e;
	struct wire_end e2;
	ask_many(&busy, MANY, &e);
	say(&busy);
	for (int i = 0; i < 1000 && server_side(&busy)->stats.refused == 0; i++)
		turn();
	ask_many(&other, 1, &e2);
	say(&other);
	for (int i = 0; i < 1000 && server_side(&other)->stats.refused == 0; i++)
		turn();
	cr_expect_eq(server_side(&other)->stats.refused, 1);
	cr_expect_lt(server_side(&busy)->stats.refused, MANY / 2);
	/* Streams that wait end with their link. */
	leave(&busy);
	for (int i = 0; i < 1000 && !TAILQ_EMPTY(&o.peers->asking); i++)
		turn();
	cr_expect(TAILQ_EMPTY(&o.peers->asking));
	leave(&other);
}

Test(peers, one_identity_has_so_many_of_its_links_looked_at_before_others)
{
	static struct client v[5 * FLAT_WIRE_GUEST_TURN];
	int fds[FLAT_ARRAY_SIZE(v)];
	struct client other;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		v[i] = greet("d/ns/a/sa/client", 2);
		fds[i] = v[i].fd;
	}
	other = greet("d/ns/a/sa/other", 2);
	for (int i = 0; i < 100; i++)
		turn();
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		cr_assert(v[i].link->greeted && !v[i].over);
		flat_wire_link_ping(v[i].link);
		say(&v[i]);
	}
	flat_wire_link_ping(other.link);
	say(&other);
	cr_assert_eq(answered(fds, FLAT_ARRAY_SIZE(fds)), 0);
	/* All are told of before one has its turn. */
	(void)flat_loop_turn(&o.loop, 0);
	(void)flat_peers_turn(&o);
	cr_expect_leq(answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_WIRE_GUEST_TURN);
	cr_expect_eq(answered(&other.fd, 1), 1);
	for (int i = 0; i < 1000 && answered(fds, FLAT_ARRAY_SIZE(fds)) < FLAT_ARRAY_SIZE(v); i++)
		turn();
	cr_expect_eq(answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_ARRAY_SIZE(v));
	leave(&other);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		leave(&v[i]);
}

Test(peers, one_that_holds_memory_here_is_remembered)
{
	struct client c = greet("d/ns/a/sa/client", 2);
	struct flat_guest *g = TAILQ_FIRST(&o.peers->guests);
	cr_assert(flat_hold_take(g->hold, 100));
	cr_assert_eq(server_side(&c)->hold, g->hold);
	leave(&c);
	for (int i = 0; i < 1000 && o.peers->n > 0; i++)
		turn();
	flat_guests_forgive(o.peers, now_ms());
	cr_assert_eq(TAILQ_FIRST(&o.peers->guests), g);
	flat_hold_give(g->hold, 100);
	flat_guests_forgive(o.peers, now_ms());
	cr_expect(TAILQ_EMPTY(&o.peers->guests));
}

Test(peers, a_new_link_of_one_that_resets_much_is_no_new_beginning)
{
	struct client c = greet("d/ns/a/sa/client", 2);
	struct client same = greet("d/ns/a/sa/client", 2);
	struct wire_end e;
	ask_many(&c, MANY, &e);
	for (uint32_t id = 1; id <= MANY; id++) {
		const struct flat_frame f = {
		    .type = FLAT_FRAME_RESET, .stream = id, .number = ECONNRESET};
		flat_wire_link_say(c.link, &f);
	}
	say(&c);
	const struct flat_guest *guest = TAILQ_FIRST(&o.peers->guests);
	for (int i = 0; i < 1000 && guest->unanswered < 3 * FLAT_WIRE_RESETS_MAX; i++)
		turn();
	cr_assert_geq(guest->unanswered, 3 * FLAT_WIRE_RESETS_MAX);
	leave(&c);
	cr_expect_eq(ask_one(&same), EAGAIN);
	leave(&same);
	/* Without a link it is known all the same. */
	for (int i = 0; i < 1000 && o.peers->links_failed < 2; i++)
		turn();
	cr_expect_eq(o.peers->links_failed, 2);
	struct client again = greet("d/ns/a/sa/client", 2);
	struct client other = greet("d/ns/a/sa/other", 2);
	struct client elsewhere = greet("d/ns/a/sa/client", 3);
	cr_expect_eq(ask_one(&again), EAGAIN);
	cr_expect_eq(ask_one(&other), ECONNREFUSED);
	cr_expect_eq(ask_one(&elsewhere), ECONNREFUSED);
	flat_guests_forgive(o.peers, now_ms() + 1000);
	cr_expect_eq(ask_one(&again), EAGAIN);
	flat_guests_forgive(o.peers, now_ms() + (int64_t)MANY);
	cr_expect_eq(ask_one(&again), ECONNREFUSED);
	leave(&again);
	leave(&other);
	leave(&elsewhere);
	for (int i = 0; i < 100 && o.peers->n > 0; i++) {
		turn();
		struct flat_peer *p = TAILQ_FIRST(&o.peers->list);
		if (p)
			(void)flat_peer_tick(p, now_ms() + 10000, 0);
	}
	cr_expect(TAILQ_EMPTY(&o.peers->guests));
}
