/* Connections made ahead: what is given, what USE decides, and how they end. A session and a listener made by hand. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "offload/ticket.h"
#include "support_mesh.h"

static const char open_yaml[] = "apiVersion: mesh.libflat.io/v1\n"
				"kind: Workload\n"
				"metadata: { name: web, namespace: demo, labels: { app: web } }\n"
				"spec: { serviceAccount: web, selectors: [{ uid: 1000 }] }\n";

static const char closed_yaml[] = "apiVersion: mesh.libflat.io/v1\n"
				  "kind: Workload\n"
				  "metadata: { name: web, namespace: demo, labels: { app: web } }\n"
				  "spec: { serviceAccount: web, selectors: [{ uid: 1000 }] }\n"
				  "---\n"
				  "apiVersion: security.istio.io/v1\n"
				  "kind: AuthorizationPolicy\n"
				  "metadata: { name: nobody, namespace: demo }\n"
				  "spec: { selector: { matchLabels: { app: web } } }\n";

static struct flat_offload o;
static struct flat_session client;
static struct flat_session server;
static struct flat_listener listener;
static struct loaded loaded;
static int app;	      /* the client's end of its control socket */
static int accept_fd; /* the server's listener anchor */

static const struct flat_addr web = {.family = AF_INET, .port = 7000, .ip = {127, 0, 0, 1}};

static void load(const char *yaml)
{
	if (loaded.mesh)
		loaded_fini(&loaded);
	loaded = load_good(yaml);
	o.mesh = loaded.mesh;
	server.workload = flat_mesh_workload_by_name(o.mesh, "demo", "web");
}

static void setup(void)
{
	int control[2];
	int anchors[2];
	TAILQ_INIT(&o.sessions);
	TAILQ_INIT(&o.ghosts);
	TAILQ_INIT(&o.listeners);
	TAILQ_INIT(&o.conns);
	TAILQ_INIT(&o.half_open);
	TAILQ_INIT(&o.reminders);
	TAILQ_INIT(&o.lanes);
	TAILQ_INIT(&o.ready);
	cr_assert_eq(flat_loop_init(&o.loop), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, anchors), 0);
	client.offload = server.offload = &o;
	TAILQ_INIT(&client.tickets);
	TAILQ_INIT(&server.tickets);
	flat_bucket_init(&client.bucket, FLAT_SESSION_MSGS_PER_S, FLAT_SESSION_MSGS_BURST,
			 flat_now_us());
	client.greeted = true;
	client.control.fd = control[0];
	app = control[1];
	TAILQ_INSERT_TAIL(&o.sessions, &client, link);
	TAILQ_INSERT_TAIL(&o.sessions, &server, link);
	listener.offload = &o;
	listener.session = &server;
	listener.addr = web;
	listener.anchor.fd = anchors[0];
	accept_fd = anchors[1];
	TAILQ_INIT(&listener.pending);
	flat_listener_enlist(&o, &listener);
	load(open_yaml);
}

static void teardown(void)
{
	flat_balance_free(&o);
	loaded_fini(&loaded);
}

TestSuite(ticket, .init = setup, .fini = teardown);

/* What a client holds after an answer. */
struct held {
	struct flat_msg msg;
	int anchor[FLAT_MSG_TICKETS_MAX];
	uint32_t n;
};

static struct held ask(void)
{
	struct held h;
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_TICKETS, 9);
	msg.body.connect.to = web;
	flat_tickets_request(&client, &msg);
	(void)flat_loop_turn(&o.loop, 0);
	cr_assert_eq(flat_msg_recv(app, &h.msg, fds, &n, MSG_DONTWAIT), 0);
	cr_assert_eq(h.msg.status, 0);
	cr_assert_eq(h.msg.seq, 9);
	h.n = h.msg.fds & FLAT_FD_TICKETS ? h.msg.body.tickets.n : 0;
	for (uint32_t i = 0; i < h.n; i++) {
		int bell;
		flat_msg_ticket_fds(&h.msg, fds, i, &h.anchor[i], &bell);
		close(bell);
	}
	flat_msg_close_fds(fds, n);
	return h;
}

static void use(uint64_t conn_id)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_USE, 10);
	msg.body.use.conn_id = conn_id;
	flat_ticket_use(&client, &msg);
	(void)flat_loop_turn(&o.loop, 0);
}

/* Connections that arrived at the server. */
static int accepted(uint64_t *conn_id)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int count = 0;
	while (flat_msg_recv(accept_fd, &msg, fds, &n, MSG_DONTWAIT) == 0) {
		*conn_id = msg.body.conn.conn_id;
		flat_msg_close_fds(fds, n);
		count++;
	}
	return count;
}

static bool hung_up(int anchor)
{
	char byte;
	ssize_t n;
	do
		n = recv(anchor, &byte, 1, MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

Test(ticket, is_no_connection_before_its_use)
{
	uint64_t id = 0;
	struct held h = ask();
	cr_assert_gt(h.n, 0);
	cr_expect_eq(o.n_conns, 0);
	cr_expect(TAILQ_EMPTY(&o.conns));
	cr_expect_eq(client.n_conns, 0);
	cr_expect_eq(client.n_tickets, h.n);
	cr_expect_eq(accepted(&id), 0);
	use(h.msg.body.tickets.v[0].conn_id);
	cr_expect_eq(accepted(&id), 1);
	cr_expect_eq(id, h.msg.body.tickets.v[0].conn_id);
	cr_expect_eq(o.n_conns, 1);
	cr_expect_eq(o.stats.opened[FLAT_CONN_DIRECT], 1);
	cr_expect_eq(client.n_tickets, h.n - 1);
}

Test(ticket, is_used_once)
{
	uint64_t id = 0;
	struct held h = ask();
	for (int i = 0; i < 5; i++)
		use(h.msg.body.tickets.v[0].conn_id);
	use(h.msg.body.tickets.v[0].conn_id + 1000);
	cr_expect_eq(accepted(&id), 1);
	cr_expect_eq(o.n_conns, 1);
}

Test(ticket, allows_nothing_that_policies_forbid_at_its_use)
{
	uint64_t id = 0;
	struct held h = ask();
	load(closed_yaml);
	struct flat_lane_link *lane = TAILQ_FIRST(&o.lanes);
	use(h.msg.body.tickets.v[0].conn_id);
	cr_expect_eq(accepted(&id), 0);
	cr_expect_eq(o.n_conns, 0);
	cr_expect_eq(o.stats.refused[FLAT_REFUSED_POLICY], 1);
	cr_expect(hung_up(h.anchor[0]));
	cr_expect_not_null(flat_cut_find(&o, h.msg.body.tickets.v[0].conn_id), "WHY can tell");
	cr_expect_eq(lane->tainted, 1, "its slot is nobody's: the client may hold its end");
	/* And what it allows again is good again. */
	load(open_yaml);
	use(h.msg.body.tickets.v[1].conn_id);
	cr_expect_eq(accepted(&id), 1);
}

Test(ticket, meets_the_limit_of_connections_at_its_use)
{
	uint64_t id = 0;
	struct held h = ask();
	client.n_conns = FLAT_SESSION_CONNS_MAX;
	use(h.msg.body.tickets.v[0].conn_id);
	cr_expect_eq(accepted(&id), 0);
	cr_expect_eq(o.stats.refused[FLAT_REFUSED_LIMIT], 1);
	cr_expect_eq(client.n_conns, FLAT_SESSION_CONNS_MAX);
}

/* Closes it, and has the offload half see that. */
static void let_go(int anchor)
{
	uint32_t before = client.n_let_go;
	close(anchor);
	for (int i = 0; i < 20 && client.n_let_go == before; i++)
		(void)flat_loop_turn(&o.loop, 100);
	cr_assert_eq(client.n_let_go, before + 1);
}

Test(ticket, is_given_back_by_letting_go)
{
	struct held h = ask();
	struct flat_lane_link *lane = TAILQ_FIRST(&o.lanes);
	uint64_t used = lane->used;
	let_go(h.anchor[0]);
	/* It may have been used. */
	cr_expect_eq(client.n_tickets, h.n);
	(void)flat_sessions_turn(&o);
	cr_expect_eq(client.n_tickets, h.n - 1);
	cr_expect_eq(client.n_let_go, 0);
	cr_expect_eq(__builtin_popcountll(lane->used), __builtin_popcountll(used) - 1);
	cr_expect_eq(lane->tainted, 0);
}

Test(ticket, that_was_used_and_let_go_at_once_is_a_connection)
{
	uint64_t id = 0;
	struct held h = ask();
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_USE, 10);
	msg.body.use.conn_id = h.msg.body.tickets.v[0].conn_id;
	cr_assert_eq(flat_msg_send(app, &msg, NULL, 0, MSG_DONTWAIT), 0);
	let_go(h.anchor[0]);
	let_go(h.anchor[1]);
	(void)flat_sessions_turn(&o);
	cr_expect_eq(client.n_let_go, 0);
	cr_expect_eq(client.n_tickets, h.n - 2);
	/* Its server is told of the end, as of any other. */
	struct flat_conn *c = TAILQ_FIRST(&o.conns);
	cr_assert_not_null(c);
	for (int i = 0; i < 20 && !c->end[FLAT_SIDE_CLIENT].gone; i++)
		(void)flat_loop_turn(&o.loop, 100);
	cr_expect(c->end[FLAT_SIDE_CLIENT].gone);
	cr_expect_not(c->end[FLAT_SIDE_SERVER].gone);
	cr_expect_eq(accepted(&id), 1);
	cr_expect_eq(id, h.msg.body.tickets.v[0].conn_id);
}

/* Its client has connect()'s success, as one whose handshake is over: TCP gives its server what it sent, and the end. */
Test(ticket, whose_client_goes_while_its_queue_is_full_is_a_connection)
{
	uint64_t id = 0;
	struct held h = ask();
	listener.n_pending = 1; /* somebody waits before it */
	use(h.msg.body.tickets.v[0].conn_id);
	struct flat_conn *c = TAILQ_FIRST(&o.conns);
	cr_assert_not_null(c);
	cr_assert(c->pending);
	close(h.anchor[0]);
	for (int i = 0; i < 20 && o.n_conns == 1 && !c->end[FLAT_SIDE_CLIENT].gone; i++)
		(void)flat_loop_turn(&o.loop, 100);
	cr_assert_eq(o.n_conns, 1);
	cr_expect_eq(accepted(&id), 0);
	cr_expect(c->told, "nor does the end of its session end it");
	/* There is room: as on_anchor() of listen.c. */
	TAILQ_REMOVE(&listener.pending, c, pending_link);
	listener.n_pending = 0;
	c->pending = false;
	cr_assert_eq(flat_listener_offer(&listener, c), 0);
	flat_conn_open(c);
	for (int i = 0;
	     i < 20 && !c->remind &&
	     flat_vq_ended(&c->end[0].lane->lane, c->end[0].slot, FLAT_SIDE_CLIENT) == false;
	     i++)
		(void)flat_loop_turn(&o.loop, 100);
	cr_expect_eq(accepted(&id), 1);
	cr_expect_eq(id, h.msg.body.tickets.v[0].conn_id);
	cr_expect(flat_vq_ended(&c->end[0].lane->lane, c->end[0].slot, FLAT_SIDE_CLIENT),
		  "its server is told of the end");
	cr_expect_not(c->end[FLAT_SIDE_SERVER].gone);
}

Test(ticket, with_bytes_on_its_anchor_is_void)
{
	uint64_t id = 0;
	struct held h = ask();
	cr_assert_eq(write(h.anchor[0], "x", 1), 1);
	for (int i = 0; i < 20 && client.n_tickets == h.n; i++)
		(void)flat_loop_turn(&o.loop, 100);
	(void)flat_loop_turn(&o.loop, 0);
	cr_expect(hung_up(h.anchor[0]));
	use(h.msg.body.tickets.v[0].conn_id);
	cr_expect_eq(accepted(&id), 0);
	cr_expect_eq(TAILQ_FIRST(&o.lanes)->tainted, 1);
}

Test(ticket, ends_with_its_listener)
{
	uint64_t id = 0;
	struct held h = ask();
	flat_tickets_end(NULL, &listener);
	(void)flat_loop_turn(&o.loop, 0);
	cr_expect_eq(client.n_tickets, 0);
	cr_expect_eq(o.n_tickets, 0);
	for (uint32_t i = 0; i < h.n; i++)
		cr_expect(hung_up(h.anchor[i]));
	use(h.msg.body.tickets.v[0].conn_id);
	cr_expect_eq(accepted(&id), 0);
}

Test(ticket, shelves_are_bounded)
{
	uint32_t n = 0;
	for (int i = 0; i < 20; i++)
		n += ask().n;
	cr_expect_eq(n, FLAT_SESSION_TICKETS_MAX);
	cr_expect_eq(client.n_tickets, FLAT_SESSION_TICKETS_MAX);
}

Test(ticket, none_where_decisions_may_differ)
{
	struct flat_listener other = {.offload = &o, .session = &server, .addr = web};
	flat_listener_enlist(&o, &other);
	cr_expect_eq(ask().n, 0, "two listeners take turns");
	flat_listener_delist(&o, &other);
	listener.n_pending = 1;
	cr_expect_eq(ask().n, 0, "its queue is full");
	listener.n_pending = 0;
	client.n_conns = FLAT_SESSION_CONNS_MAX - FLAT_SESSION_TICKETS_MAX;
	cr_expect_eq(ask().n, 0, "the limit is near");
	client.n_conns = 0;
	load(closed_yaml);
	cr_expect_eq(ask().n, 0, "a policy forbids it");
	cr_expect_eq(o.stats.refused[FLAT_REFUSED_POLICY], 0, "nobody tried to connect");
	load(open_yaml);
	flat_listener_delist(&o, &listener);
	cr_expect_eq(ask().n, 0, "nobody listens");
	flat_listener_enlist(&o, &listener);
	cr_expect_gt(ask().n, 0);
}
