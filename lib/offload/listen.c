#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/account.h"
#include "offload/capture_in.h"
#include "offload/netns.h"
#include "offload/telling.h"
#include "offload/ticket.h"

/* --- whose addresses --- */

/* Listeners of its port that are looked at when one begins. */
#define ENDED_LOOKS 64

bool flat_addr_is_any(const struct flat_addr *addr)
{
	static const uint8_t zero[16];
	struct flat_addr a = *addr;
	flat_addr_unmap(&a);
	return memcmp(a.ip, zero, sizeof(zero)) == 0;
}

bool flat_addr_is_here(const struct flat_addr *addr)
{
	struct flat_addr want = *addr;
	flat_addr_unmap(&want);
	return (want.family == AF_INET && want.ip[0] == 127) || flat_netns_has(NULL, -1, &want);
}

/* --- which one --- */

static struct flat_listeners *list_at(struct flat_offload *o, uint16_t port)
{
	struct flat_listeners *list = &o->ports[port % FLAT_PORTS];
	if (!list->tqh_last)
		TAILQ_INIT(list);
	return list;
}

struct flat_listener *flat_listener_at(const struct flat_offload *o, uint16_t port)
{
	return TAILQ_FIRST(&o->ports[port % FLAT_PORTS]);
}

void flat_listener_enlist(struct flat_offload *o, struct flat_listener *l)
{
	TAILQ_INSERT_TAIL(&o->listeners, l, link);
	TAILQ_INSERT_TAIL(list_at(o, l->addr.port), l, port_link);
}

void flat_listener_delist(struct flat_offload *o, struct flat_listener *l)
{
	TAILQ_REMOVE(&o->listeners, l, link);
	TAILQ_REMOVE(list_at(o, l->addr.port), l, port_link);
}

/* How well a listener's address fits: 0 not at all, 3 exactly. */
static int fit(const struct flat_listener *l, const struct flat_addr *want)
{
	struct flat_addr has = l->addr;
	if (has.port != want->port)
		return 0;
	flat_addr_unmap(&has);
	if (flat_addr_is_any(&has)) {
		if (has.family == want->family)
			return 2;
		return has.family == AF_INET6 && !l->v6only ? 1 : 0;
	}
	return flat_addr_equal(&has, want) ? 3 : 0;
}

bool flat_addr_is_loopback(const struct flat_addr *a)
{
	static const uint8_t one[16] = {[15] = 1};
	return a->family == AF_INET ? a->ip[0] == 127 : memcmp(a->ip, one, sizeof(one)) == 0;
}

/* Whether `want`, which fits so well, is an address of the place that the listener is in. *here: of this host; -1: not asked yet. */
static bool is_its_own(const struct flat_listener *l, const struct flat_addr *want, int f,
		       const struct flat_netns *netns, int *here)
{
	struct flat_netns *ns = l->netns;
	if (l->nowhere || (ns && !ns->ours))
		return false;
	if (flat_addr_is_loopback(want))
		return netns == ns;
	if (f == 3 && !ns && !l->stray)
		return true;
	if (*here < 0)
		*here = flat_addr_is_here(want);
	/* What is this host's is no other's, whatever he calls his. */
	return ns ? !*here && flat_netns_has(ns, l->tcp.fd, want) : *here;
}

struct flat_listener *flat_listener_find(const struct flat_offload *o, const struct flat_addr *addr,
					 const struct flat_session *asker)
{
	struct flat_addr want = *addr;
	struct flat_listener *l;
	struct flat_listener *best = NULL;
	int best_fit = 0;
	int here = -1;
	flat_addr_unmap(&want);
	for (l = flat_listener_at(o, want.port); l; l = TAILQ_NEXT(l, port_link)) {
		int f = l->gone ? 0 : fit(l, &want);
		if (f > best_fit && is_its_own(l, &want, f, asker ? asker->netns : NULL, &here)) {
			best = l;
			best_fit = f;
		}
	}
	return best;
}

bool flat_listener_serves(const struct flat_listener *l, const struct flat_addr *addr)
{
	struct flat_addr want = *addr;
	int here = -1;
	want.port = l->addr.port;
	flat_addr_unmap(&want);
	int f = fit(l, &want);
	return f > 0 && is_its_own(l, &want, f, NULL, &here);
}

void flat_listener_rotate(struct flat_listener *l)
{
	flat_listener_delist(l->offload, l);
	flat_listener_enlist(l->offload, l);
}

/* The pair's far end stays ours as the server's anchor; its near end goes out and is not kept. */
static int take_pair(struct flat_listener *l, struct flat_conn *c)
{
	struct flat_end *server = &c->end[FLAT_SIDE_SERVER];
	struct flat_pair pair;
	int err = flat_pairs_take(&l->offload->pairs, &pair);
	if (err < 0)
		return err;
	server->anchor.fd = pair.far;
	c->server_near = pair.near;
	flat_end_name(server, &pair);
	return 0;
}

static int send_accept(struct flat_listener *l, struct flat_conn *c)
{
	struct flat_end *server = &c->end[FLAT_SIDE_SERVER];
	struct flat_msg msg;
	int fds[4];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_ACCEPT, 0);
	msg.body.conn.conn_id = c->id;
	msg.body.conn.lane_id = server->lane->id;
	msg.body.conn.geo = server->lane->lane.geo;
	msg.body.conn.slot = server->slot;
	msg.body.conn.side = FLAT_SIDE_SERVER;
	msg.body.conn.path = (uint32_t)c->path;
	msg.body.conn.flags = flat_conn_carries_urgent(c, FLAT_SIDE_SERVER) ? FLAT_CONN_URGENT : 0;
	msg.body.conn.local = c->target;
	msg.body.conn.peer = c->from;
	snprintf(msg.body.conn.service, sizeof(msg.body.conn.service), "%.*s",
		 (int)sizeof(msg.body.conn.service) - 1, c->service);
	fds[n++] = c->server_near;
	msg.fds = FLAT_FD_ANCHOR;
	if (c->path == FLAT_CONN_DIRECT) {
		fds[n++] = c->end[FLAT_SIDE_CLIENT].anchor.fd;
		msg.fds |= FLAT_FD_BELL;
	}
	fds[n++] = server->lane->fd;
	msg.fds |= FLAT_FD_LANE;
	if (l->handed_over) {
		fds[n++] = flat_directory_fd(l->offload->directory);
		msg.fds |= FLAT_FD_DIRECTORY;
	}
	int err = flat_msg_send(l->anchor.fd, &msg, fds, n, MSG_DONTWAIT);
	if (err < 0)
		return err;
	flat_loop_close_fd(&l->offload->loop, c->server_near);
	c->server_near = -1;
	return 0;
}

int flat_listener_offer(struct flat_listener *l, struct flat_conn *c)
{
	/* Made ahead, or for one who did not take it. */
	int err = c->server_near >= 0 ? 0 : take_pair(l, c);
	if (err == 0)
		err = l->n_pending > 0 ? -EAGAIN : send_accept(l, c);
	if (err != -EAGAIN)
		return err;
	c->pending = true;
	l->n_pending++;
	TAILQ_INSERT_TAIL(&l->pending, c, pending_link);
	return 0;
}

static void on_tcp(struct flat_source *source, int result)
{
	struct flat_listener *l = FLAT_CONTAINER_OF(source, struct flat_listener, tcp);
	if (result >= 0)
		flat_conn_plain(l, result);
}

static void on_anchor(struct flat_source *source, int result)
{
	struct flat_listener *l = FLAT_CONTAINER_OF(source, struct flat_listener, anchor);
	if (result & (POLLHUP | POLLRDHUP | POLLERR)) {
		flat_listener_close(l);
		return;
	}
	if (!(result & POLLOUT))
		return;
	struct flat_conn *c;
	while ((c = TAILQ_FIRST(&l->pending)) != NULL) {
		int err = send_accept(l, c);
		if (err == -EAGAIN)
			return;
		bool over = err == -EPIPE || err == -ECONNRESET;
		if (err == 0)
			flat_conn_open(c);
		else if (!over || !flat_conn_again(c))
			flat_conn_fail(c, ECONNREFUSED, FLAT_REFUSED_UNREACHABLE,
				       "the listener is gone");
	}
}

/* The kernel's word on the socket that an application passed. 0, or why it is no listening TCP socket. */
static int verify_tcp(int fd, struct flat_addr *addr)
{
	int type = 0;
	int proto = 0;
	int accepting = 0;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(int);
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
		return -EINVAL;
	len = sizeof(int);
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) < 0 ||
	    proto != IPPROTO_TCP)
		return -EINVAL;
	len = sizeof(int);
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &len) < 0 || !accepting)
		return -EINVAL;
	len = sizeof(ss);
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -EINVAL;
	return flat_addr_from_sockaddr(addr, (struct sockaddr *)&ss, len);
}

/* Where its socket is. `like` may know. */
static void place(struct flat_listener *l, int tcp)
{
	l->stray = !flat_addr_is_any(&l->addr) && !l->netns && !flat_addr_is_here(&l->addr);
	if (l->netns || tcp < 0)
		(void)flat_netns_get(l->netns);
	else
		l->nowhere = flat_netns_of_socket(tcp, &l->netns) != 0;
}

/* Two at one address take turns. */
static bool has_twin(const struct flat_offload *o, const struct flat_addr *addr)
{
	const struct flat_listener *l = flat_listener_at(o, addr->port);
	while (l && fit(l, addr) == 0)
		l = TAILQ_NEXT(l, port_link);
	return l != NULL;
}

int flat_listener_add(struct flat_offload *o, const struct flat_listener *like, int anchor, int tcp)
{
	struct flat_listener *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	*l = *like;
	l->offload = o;
	TAILQ_INIT(&l->pending);
	l->anchor.fd = l->tcp.fd = -1;
	place(l, tcp);
	int err = anchor < 0 ? 0
			     : flat_loop_poll(&o->loop, &l->anchor, anchor, POLLOUT | POLLRDHUP,
					      on_anchor);
	if (err == 0 && tcp >= 0)
		err = flat_loop_accept(&o->loop, &l->tcp, tcp, on_tcp);
	if (err != 0) {
		flat_loop_del(&o->loop, &l->anchor);
		flat_netns_put(l->netns);
		free(l);
		return err;
	}
	if (!l->server)
		flat_captures_in_yield(o, &l->addr);
	l->session->n_listeners++;
	flat_account_add(l->session, FLAT_ACCOUNT_LISTENER);
	o->n_listeners++;
	o->listening++;
	o->twins = o->twins || has_twin(o, &l->addr);
	flat_listener_enlist(o, l);
	if (l->inode)
		flat_index_put(&o->listener_anchors, &l->by_inode, l->inode);
	flat_offload_listens(o, &l->addr);
	char text[FLAT_ADDR_STRLEN];
	char name[96];
	char account[96];
	flat_tell(FLAT_LOG_INFO, "listeners", flat_session_account(l->session, account),
		  "listener %s of %s (pid %d)%s", flat_addr_str(&l->addr, text),
		  flat_session_name(l->session, name), (int)l->session->pid,
		  l->server ? ", confined, without the library" : "");
	return 0;
}

/* Who may be found at the addresses of where it is. 0, or a negative errno and the reason. */
static int check_place(int tcp, struct flat_netns **ns, char *why, size_t size)
{
	int err = flat_netns_of_socket(tcp, ns);
	if (err != 0) {
		snprintf(why, size, "it is in a network namespace that flatd cannot look at (%s)",
			 strerror(-err));
		return err;
	}
	if (!*ns || (*ns)->ours)
		return 0;
	snprintf(why, size, "its network namespace is a user's own, who has any address there");
	return -EACCES;
}

static int check_listener(struct flat_session *s, struct flat_listener *like, int tcp, char *why,
			  size_t size)
{
	int v6only = 0;
	socklen_t len = sizeof(v6only);
	int err = tcp < 0					 ? -EINVAL
		  : s->n_listeners >= FLAT_SESSION_LISTENERS_MAX ? -ENOBUFS
								 : verify_tcp(tcp, &like->addr);
	if (err == 0)
		(void)flat_sys_getsockopt(tcp, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len);
	like->v6only = v6only != 0;
	snprintf(why, size, "%s", strerror(-err));
	if (err == 0 && !flat_account_takes_listener(s)) {
		err = -ENOBUFS;
		snprintf(why, size, "rule 15: %.60s has %u listeners, and room is left for others",
			 s->account->key, s->account->n[FLAT_ACCOUNT_LISTENER]);
	}
	return err == 0 ? check_place(tcp, &like->netns, why, size) : err;
}

/*
 * Before one listens: those of its port that were closed, and that the ring has not told of yet. The kernel gave the address away, so
 * its next connection is the new one's. No more than the first few, which are those that connections come to.
 */
static void close_ended(struct flat_offload *o, const struct flat_addr *addr)
{
	struct flat_listener *next;
	unsigned int looked_at = 0;
	for (struct flat_listener *l = flat_listener_at(o, addr->port); l; l = next) {
		next = TAILQ_NEXT(l, port_link);
		if (l->anchor.fd < 0 || l->addr.port != addr->port)
			continue;
		struct pollfd p = {.fd = l->anchor.fd, .events = POLLRDHUP};
		if (poll(&p, 1, 0) == 1)
			flat_listener_close(l);
		if (++looked_at == ENDED_LOOKS)
			return;
	}
}

void flat_listener_open(struct flat_session *s, const struct flat_msg *msg, int tcp_fd)
{
	struct flat_offload *o = s->offload;
	struct flat_msg reply;
	int pair[2] = {-1, -1};
	int sndbuf = 4 << 20;
	char account[96];
	char why[sizeof(reply.reason) - 32];
	struct flat_listener like = {.session = s, .backlog = msg->body.listen.backlog};
	flat_msg_init(&reply, FLAT_MSG_LISTEN, msg->seq);
	int err = check_listener(s, &like, tcp_fd, why, sizeof(why));
	bool checked = err == 0;
	if (err == 0)
		err = flat_sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
	if (err == 0) {
		(void)flat_sys_setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf,
					  sizeof(sndbuf));
		like.id = ++o->next_id;
		like.inode = flat_inode(pair[0]);
		like.cookie = flat_cookie(pair[0]);
		reply.body.listen.listener_id = like.id;
		reply.fds = FLAT_FD_ANCHOR;
		close_ended(o, &like.addr);
		err = flat_listener_add(o, &like, pair[1], tcp_fd);
	}
	flat_netns_put(like.netns);
	reply.status = err;
	if (err != 0) {
		reply.fds = 0;
		if (checked)
			snprintf(why, sizeof(why), "%s", strerror(-err));
		snprintf(reply.reason, sizeof(reply.reason), "flatd refuses the listener: %s", why);
		flat_tell(FLAT_LOG_WARN, "refused listeners", flat_session_account(s, account),
			  "listener of pid %d refused: %s", (int)s->pid, why);
		if (pair[1] >= 0)
			close(pair[1]);
		if (tcp_fd >= 0)
			close(tcp_fd);
	}
	flat_session_reply(s, &reply, &pair[0], err == 0);
	if (pair[0] >= 0)
		close(pair[0]);
}

void flat_listener_close(struct flat_listener *l)
{
	struct flat_offload *o = l->offload;
	struct flat_conn *c;
	l->gone = true;
	while ((c = TAILQ_FIRST(&l->pending)) != NULL) {
		if (!flat_conn_again(c))
			flat_conn_fail(c, ECONNREFUSED, FLAT_REFUSED_UNREACHABLE,
				       "the listener is gone");
	}
	flat_tickets_end(NULL, l);
	while ((c = LIST_FIRST(&l->conns)) != NULL)
		flat_conn_outlive(c);
	flat_lanes_orphan(o, NULL, l);
	flat_loop_del(&o->loop, &l->anchor);
	flat_loop_del(&o->loop, &l->tcp);
	if (l->anchor.fd >= 0)
		close(l->anchor.fd);
	/* Given to a successor. */
	if (l->tcp.fd >= 0)
		close(l->tcp.fd);
	flat_listener_delist(o, l);
	flat_index_remove(&o->listener_anchors, &l->by_inode);
	o->n_listeners--;
	o->listening++;
	l->session->n_listeners--;
	flat_account_remove(l->session, FLAT_ACCOUNT_LISTENER);
	flat_session_put(l->session);
	if (l->server)
		flat_captures_in_forget(l);
	flat_offload_listens_no_more(o, &l->addr);
	flat_netns_put(l->netns);
	free(l);
}
