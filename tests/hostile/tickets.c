/* Attacks with connections made ahead: rules 5, 8, 9, 11, 15. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "hostile.h"

/* What TICKETS gave: as connections that have not begun. */
struct raw_tickets {
	struct raw_conn v[FLAT_MSG_TICKETS_MAX];
	uint32_t n;
};

static int begin(struct attack_env *env)
{
	int sock = raw_hello(env->control);
	if (sock < 0)
		(void)wrong(env, "could not join: %s", strerror(errno));
	return sock;
}

/* Asks for tickets to the direct service. The lane is mapped from the connection `first`, which brought it. */
static int ask(int sock, const struct raw_conn *first, struct raw_tickets *t)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	memset(t, 0, sizeof(*t));
	flat_msg_init(&msg, FLAT_MSG_TICKETS, 5);
	msg.body.connect.to =
	    (struct flat_addr){.family = AF_INET, .port = SERVICE_PORT, .ip = {240, 9, 0, 1}};
	int err = raw_ask(sock, &msg, NULL, 0, fds, &n);
	if (err != 0 || msg.status != 0)
		return err ? err : msg.status;
	int lane_fd = flat_msg_fd(&msg, fds, FLAT_FD_LANE);
	const struct flat_msg_tickets *m = &msg.body.tickets;
	for (; t->n < m->n; t->n++) {
		struct raw_conn *c = &t->v[t->n];
		c->conn_id = m->v[t->n].conn_id;
		c->lane_id = m->lane_id;
		c->slot = m->v[t->n].slot;
		c->lane_fd = -1;
		flat_msg_ticket_fds(&msg, fds, t->n, &c->anchor, &c->bell);
		int from = lane_fd >= 0			  ? lane_fd
			   : first->lane_id == m->lane_id ? first->lane_fd
							  : -1;
		if (from >= 0 && flat_lane_map(&c->lane, from, &m->geo, 1) == 0)
			flat_vq_init(&c->vq, &flat_vq_shm, &c->lane, c->slot, FLAT_SIDE_CLIENT,
				     c->anchor, c->bell);
	}
	if (lane_fd >= 0)
		close(lane_fd);
	flat_msg_close_fds(fds, n);
	return 0;
}

static void give_back(struct raw_tickets *t)
{
	while (t->n > 0)
		raw_close(&t->v[--t->n]);
}

static int use(int sock, uint64_t conn_id)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_USE, 6);
	msg.body.use.conn_id = conn_id;
	return flat_msg_send(sock, &msg, NULL, 0, 0);
}

/* Whether the session still answers. */
static bool answers(int sock)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_WHY, 7);
	bool ok = raw_ask(sock, &msg, NULL, 0, fds, &n) == 0 && msg.type == FLAT_MSG_WHY;
	flat_msg_close_fds(fds, n);
	return ok;
}

/* A session with a connection of its own, and tickets beside it. */
static int with_tickets(struct attack_env *env, struct raw_conn *first, struct raw_tickets *t)
{
	int sock = begin(env);
	if (sock < 0)
		return sock;
	if (raw_connect(sock, DIRECT_IP, first) != 0 || raw_echo(first, 100) != 0)
		return (void)wrong(env, "could not connect"), -1;
	int err = ask(sock, first, t);
	/* The first lane may be full. */
	if (err == 0 && t->n == 0)
		err = ask(sock, first, t);
	if (err != 0 || t->n == 0)
		return (void)wrong(env, "%u tickets, error %d", t->n, err), -1;
	return sock;
}

static int of_others(struct attack_env *env)
{
	struct raw_conn first;
	struct raw_tickets t;
	int sock = with_tickets(env, &first, &t);
	if (sock < 0)
		return 1;
	for (uint64_t i = 0; i < 2000; i++) {
		/* Neighbours' connections, its own one that is open, and any. */
		uint64_t id = i < 1000 ? first.conn_id - i : test_random(&env->seed);
		if (use(sock, id) != 0)
			return wrong(env, "the session ended");
	}
	if (!answers(sock) || raw_echo(&first, 100) != 0)
		return wrong(env, "its own connection is no more");
	give_back(&t);
	raw_close(&first);
	return 0;
}

static int hoard(struct attack_env *env)
{
	struct raw_conn first;
	static struct raw_tickets t[50];
	uint32_t n = 0;
	int sock = with_tickets(env, &first, &t[0]);
	if (sock < 0)
		return 1;
	for (size_t i = 1; i < FLAT_ARRAY_SIZE(t); i++) {
		if (ask(sock, &first, &t[i]) != 0)
			return wrong(env, "the session ended");
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(t); i++)
		n += t[i].n;
	if (n > FLAT_SESSION_TICKETS_MAX)
		return wrong(env, "%u tickets at once", n);
	return 0;
}

/* Before it begins it has bytes, flags and bells; USE comes thrice, and the connection is one. */
static int before_use(struct attack_env *env)
{
	struct raw_conn first;
	struct raw_tickets t;
	int sock = with_tickets(env, &first, &t);
	if (sock < 0)
		return 1;
	for (uint32_t i = 0; i < t.n; i++) {
		struct raw_conn *c = &t.v[i];
		if (!c->lane.base)
			continue;
		for (int k = 0; k < 100; k++)
			(void)send(c->bell, "xxxx", 4, MSG_DONTWAIT | MSG_NOSIGNAL);
		for (int k = 0; k < 3; k++)
			(void)!use(sock, c->conn_id);
		if (raw_echo(c, 1000) != 0)
			return wrong(env, "a connection that was used thrice does not answer");
	}
	/* One that is cut by its own words before it begins: the server's business, and soon over. */
	give_back(&t);
	if (ask(sock, &first, &t) != 0)
		return wrong(env, "the session ended");
	for (uint32_t i = 0; i < t.n; i++) {
		if (t.v[i].lane.base)
			flat_lane_slot_cut(&t.v[i].lane, t.v[i].slot);
		(void)!use(sock, t.v[i].conn_id);
	}
	if (!answers(sock))
		return wrong(env, "the session ended");
	give_back(&t);
	raw_close(&first);
	return 0;
}

/* Bytes where no bytes belong: the ticket is void, whatever is said of it afterwards. */
static int raw_bytes(struct attack_env *env)
{
	struct raw_conn first;
	struct raw_tickets t;
	int sock = with_tickets(env, &first, &t);
	if (sock < 0)
		return 1;
	for (uint32_t i = 0; i < t.n; i++) {
		struct raw_conn bare = {.anchor = t.v[i].anchor};
		(void)send(t.v[i].anchor, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (!raw_conn_ends(&bare))
			return wrong(env, "a ticket with bytes on its anchor is held on to");
		(void)!use(sock, t.v[i].conn_id);
	}
	if (!answers(sock))
		return wrong(env, "the session ended");
	return 0;
}

/* It gives anchors back and keeps copies: no slot of theirs may come again. */
static int kept_copies(struct attack_env *env)
{
	struct raw_conn first;
	struct raw_tickets t;
	struct {
		uint64_t lane_id;
		uint32_t slot;
	} kept[CONNECTIONS_MAX];
	uint32_t n = 0;
	int sock = with_tickets(env, &first, &t);
	if (sock < 0)
		return 1;
	for (int round = 0; round < 10; round++) {
		for (uint32_t i = 0; i < t.n && n < CONNECTIONS_MAX; i++) {
			const struct raw_conn *c = &t.v[i];
			for (uint32_t k = 0; k < n; k++) {
				if (kept[k].lane_id == c->lane_id && kept[k].slot == c->slot)
					return wrong(env, "slot %u was given out twice", c->slot);
			}
			kept[n].lane_id = c->lane_id;
			kept[n++].slot = c->slot;
			if (dup(c->anchor) < 0)
				return wrong(env, "dup: %s", strerror(errno));
			if (i % 2)
				(void)!use(sock, c->conn_id);
		}
		give_back(&t);
		if (ask(sock, &first, &t) != 0)
			return wrong(env, "the session ended");
	}
	return 0;
}

const struct attack ticket_attacks[] = {
    {"rule05-ticket-before-use", before_use, NULL},
    {"rule08-ticket-raw-bytes", raw_bytes, NULL},
    {"rule09-tickets-of-others", of_others, NULL},
    {"rule11-ticket-copies-kept", kept_copies, NULL},
    {"rule15-tickets-hoarded", hoard, NULL},
    {NULL, NULL, NULL},
};
