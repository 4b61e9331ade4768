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
#include "support_peers.h"

TestSuite(peers, .init = peers_setup, .fini = peers_teardown, .timeout = 120);

static bool is_over(int fd)
{
	char sink[4096];
	ssize_t n;
	/* What was closed is so with the next turn's system call. */
	peers_turn();
	peers_turn();
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
	int fd = peers_come_from(1);
	struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
	cr_assert_eq(peers_half.peers->n_strangers, 1);
	cr_assert(flat_peer_tick(p, now_ms(), 0));
	cr_assert(!is_over(fd));
	cr_assert(flat_peer_tick(p, now_ms() + FLAT_WIRE_HANDSHAKE_MS + 1, 0));
	cr_expect(ends(fd));
	cr_expect(strstr(peers_half.peers->last_failure, "did not answer in time"), "%s",
		  peers_half.peers->last_failure);
	cr_expect_eq(peers_half.peers->n_strangers, 1, "it has a socket and memory still");
	cr_expect(!flat_peer_tick(p, now_ms() + FLAT_WIRE_HANDSHAKE_MS, 0));
	cr_expect_eq(peers_half.peers->n + peers_half.peers->n_strangers, 0);
}

Test(peers, many_of_one_host_that_say_nothing_end_each_other_and_no_other_hosts)
{
	static int fds[FLAT_WIRE_STRANGERS_HOST];
	int other = peers_come_from(3);
	for (size_t i = 0; i < FLAT_WIRE_STRANGERS_HOST; i++)
		fds[i] = peers_come_from(2);
	cr_assert_eq(peers_half.peers->n_strangers, FLAT_WIRE_STRANGERS_HOST + 1);
	cr_assert(!is_over(fds[0]));
	int more = peers_come_from(2);
	cr_expect_eq(peers_half.peers->n_strangers, FLAT_WIRE_STRANGERS_HOST + 1);
	cr_expect(ends(fds[0]));
	cr_expect(!is_over(fds[1]) && !is_over(other) && !is_over(more));
	cr_expect(strstr(peers_half.peers->last_failure, "127.0.0.2") &&
		      strstr(peers_half.peers->last_failure, "too many from its host"),
		  "%s", peers_half.peers->last_failure);
}

Test(peers, many_of_all_hosts_that_say_nothing_leave_room_for_one_more)
{
	static int fds[FLAT_WIRE_STRANGERS_MAX];
	for (uint32_t i = 0; i < FLAT_WIRE_STRANGERS_MAX; i++)
		fds[i] = peers_come_from(1 + i % 8);
	cr_assert_eq(peers_half.peers->n_strangers, FLAT_WIRE_STRANGERS_MAX);
	int more = peers_come_from(100);
	cr_expect_eq(peers_half.peers->n_strangers, FLAT_WIRE_STRANGERS_MAX);
	cr_expect(ends(fds[0]));
	cr_expect(!is_over(fds[1]) && !is_over(more));
}

/* --- clients that greet --- */

Test(peers, one_that_greeted_is_no_stranger)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	cr_expect(c.link->greeted && !c.over);
	cr_expect_eq(peers_half.peers->n, 1);
	cr_expect_eq(peers_half.peers->n_strangers, 0);
	peers_leave(&c);
}

Test(peers, one_that_greeted_and_asks_for_nothing_is_ended_after_it_was_told)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
	int64_t idle_ms = FLAT_WIRE_LONG_IDLE_MS;
	int64_t now_s = (int64_t)time(NULL);
	cr_assert(p->link && p->link->greeted);
	cr_assert(flat_peer_tick(p, p->quiet_ms + idle_ms, now_s));
	peers_pump(&c);
	cr_expect(!c.link->draining);
	cr_assert(flat_peer_tick(p, p->quiet_ms + idle_ms + 1, now_s));
	for (int i = 0; i < 1000 && !c.link->draining; i++)
		peers_pump(&c);
	cr_expect(c.link->draining && !c.over && p->link);
	cr_assert(flat_peer_tick(p, p->quiet_ms + idle_ms + FLAT_WIRE_DEAD_MS + 1, now_s));
	for (int i = 0; i < 1000 && !c.over; i++)
		peers_pump(&c);
	cr_expect(c.over);
	peers_leave(&c);
}

Test(peers, a_link_without_streams_is_not_silent)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
	int64_t then_ms = p->heard_ms + 10 * FLAT_WIRE_DEAD_MS;
	int64_t now_s = (int64_t)time(NULL);
	cr_assert(p->link && p->link->greeted);
	cr_assert(flat_peer_tick(p, then_ms, now_s));
	/* One is opened, and its answer is under way when the link is looked peers_at. */
	p->link->n_streams++;
	cr_assert(flat_peer_tick(p, then_ms + 500, now_s));
	cr_expect(p->link && p->asked_ms == 0, "%s", peers_half.peers->last_failure);
	cr_assert(flat_peer_tick(p, then_ms + FLAT_WIRE_ASK_MS + 1, now_s));
	cr_expect(p->link && p->asked_ms != 0, "it is asked after its time");
	if (p->link)
		p->link->n_streams--;
	peers_leave(&c);
}

/* What a client says first, which costs the server a signature. */
static void say_hello(int fd)
{
	const uint8_t *bytes;
	struct flat_wire_link *l =
	    flat_wire_link_new(peers_svids, flat_svids_find(peers_svids, "d/ns/a/sa/client"), false,
			       &pair_ops, &pair.client);
	size_t n = flat_wire_link_output(l, &bytes);
	cr_assert_eq(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
	flat_wire_link_free(l, ECONNRESET);
}

Test(peers, many_handshakes_leave_time_for_those_that_greeted)
{
	int fds[5 * FLAT_WIRE_STRANGERS_TURN];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(fds); i++) {
		fds[i] = peers_come_from(2);
		say_hello(fds[i]);
	}
	(void)flat_peers_turn(&peers_half);
	cr_expect_leq(peers_answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_WIRE_STRANGERS_TURN);
	for (int i = 0;
	     i < 1000 && peers_answered(fds, FLAT_ARRAY_SIZE(fds)) < FLAT_ARRAY_SIZE(fds); i++)
		peers_turn();
	cr_expect_eq(peers_answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_ARRAY_SIZE(fds));
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
static struct wire_end *ask_for(struct peers_client *c, uint8_t first)
{
	static struct wire_end end;
	struct flat_addr to = address(first);
	memset(&end, 0, sizeof(end));
	end.stream = flat_wire_open(c->link, &to, &to, &end);
	cr_assert_not_null(end.stream);
	for (int i = 0; i < 1000 && !end.over && !c->over; i++)
		peers_pump(c);
	return &end;
}

Test(peers, after_a_renewal_clients_are_asked_for_new_links_and_none_is_refused_for_it)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	flat_peers_reload(&peers_half);
	/* It was not heard yet. */
	struct wire_end *e = ask_for(&c, 10);
	cr_expect_eq(e->err, ECONNREFUSED, "%d: %s", e->err, e->text);
	for (int i = 0; i < 1000 && !c.link->draining; i++)
		peers_pump(&c);
	cr_expect(c.link->draining && !c.over);
	peers_leave(&c);
}

/* --- revocation --- */

Test(peers, a_link_whose_peer_is_revoked_ends_and_no_other)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	struct peers_client other = peers_greet("d/ns/a/sa/other", 1);
	peers_revoke_client(100);
	for (int i = 0; i < 1000 && !c.over; i++) {
		peers_pump(&c);
		peers_pump(&other);
	}
	cr_expect(c.over && !other.over);
	cr_expect(strstr(peers_half.peers->last_failure, "revoked (serial"), "%s",
		  peers_half.peers->last_failure);
	struct peers_client again = peers_greet("d/ns/a/sa/client", 1);
	cr_expect(again.over);
	cr_expect(strstr(peers_half.peers->last_failure, "revoked (serial"), "%s",
		  peers_half.peers->last_failure);
	peers_leave(&again);
	peers_leave(&c);
	peers_leave(&other);
}

Test(peers, one_that_is_revoked_while_it_shakes_hands_is_refused)
{
	struct peers_client c = {.fd = peers_come_from(1)};
	struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
	c.link = flat_wire_link_new(peers_svids, flat_svids_find(peers_svids, "d/ns/a/sa/client"),
				    false, &pair_ops, &pair.client);
	/* The server has begun with the identities of before, and knows nobody yet. */
	peers_pump(&c);
	cr_assert(p->link && p->link->svids == peers_half.peers->svids && !p->link->greeted);
	peers_revoke_client(100);
	for (int i = 0; i < 1000 && !c.over; i++)
		peers_pump(&c);
	cr_expect(c.over && TAILQ_EMPTY(&peers_half.peers->guests));
	cr_expect(strstr(peers_half.peers->last_failure, "holds no more"), "%s",
		  peers_half.peers->last_failure);
	peers_leave(&c);
}

Test(peers, when_a_list_ends_so_do_links_of_its_authority)
{
	peers_revoke_client(2);
	struct peers_client c = peers_greet("d/ns/a/sa/other", 1);
	cr_assert(c.link->greeted && !c.over);
	for (int i = 0; i < 10000 && !c.over; i++) {
		(void)poll(NULL, 0, 1);
		(void)flat_peers_wait_ms(&peers_half);
		peers_pump(&c);
	}
	cr_expect(c.over);
	cr_expect(strstr(peers_half.peers->last_failure, "CRL has expired"), "%s",
		  peers_half.peers->last_failure);
	cr_expect_eq(peers_half.peers->lists_end_s, INT64_MAX);
	peers_leave(&c);
}

Test(peers, no_address_is_none_of_ours)
{
	struct flat_session session = {.offload = &peers_half};
	struct flat_listener l = {.offload = &peers_half, .session = &session, .tcp = {.fd = -1}};
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	l.addr = address(0);
	flat_listener_enlist(&peers_half, &l);
	struct wire_end *e = ask_for(&c, 0);
	cr_expect_eq(e->err, ECONNREFUSED, "%d: %s", e->err, e->text);
	cr_expect(strstr(e->text, "no mesh server listens on 0.0.0.0"), "%s", e->text);
	flat_listener_delist(&peers_half, &l);
	peers_leave(&c);
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

/* A connection of a client of ours, on its way to a server at peers_at; by HBONE where its account is told. */
static void dial(struct flat_conn *c, char *account)
{
	static char speaker[] = "d/ns/a/sa/client";
	char reason[400];
	*c = (struct flat_conn){.offload = &peers_half, .half_open = true, .speaker = speaker};
	cr_assert_eq(fcntl(peers_listening, F_SETFL, O_NONBLOCK), 0);
	c->target = (struct flat_addr){.family = AF_INET, .port = 7, .ip = {127, 0, 0, 1}};
	c->wire.port = ntohs(peers_at.sin_port);
	c->wire.namespace = "a";
	c->wire.account = account;
	c->wire.hbone = account != NULL;
	cr_assert_eq(flat_bridge_dial(c, reason, sizeof(reason)), 0, "%s", reason);
}

/* Its links are gone; then what there is of it. */
static void undial(struct flat_conn *c)
{
	for (int i = 0; i < 1000 && peers_half.peers->n > 0; i++)
		peers_turn();
	cr_expect_eq(peers_half.peers->n, 0);
	flat_tube_close(c->end[FLAT_SIDE_SERVER].tube, FLAT_TUBE_NEAR, true);
	free((void *)(uintptr_t)c->server_name);
}

/* The next link that is asked for: its socket. */
static struct peers_client take_link(void)
{
	struct peers_client s = {.fd = -1};
	for (int i = 0; i < 1000 && s.fd < 0; i++) {
		peers_turn();
		s.fd = accept4(peers_listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	cr_assert_geq(s.fd, 0);
	return s;
}

/* A flatd that takes the next link, until it was asked for `n` streams in all. */
static struct peers_client serve_until_asked(const struct flat_wire_ops *ops, size_t n)
{
	struct peers_client s = take_link();
	s.link = flat_wire_link_new(peers_svids, peers_svids->node, true, ops, &pair.server);
	for (int i = 0; i < 10000 && n_asked < n && !s.over; i++)
		peers_pump(&s);
	cr_assert_eq(n_asked, n);
	return s;
}

Test(peers, a_connection_that_nobody_answered_is_asked_for_by_another_link_once)
{
	struct flat_wire_ops ops = pair_ops;
	struct flat_conn c;
	ops.opened = count_asked;
	dial(&c, NULL);
	struct peers_client first = serve_until_asked(&ops, 1);
	cr_assert(!c.bridge->moved);
	peers_leave(&first);
	struct peers_client second = serve_until_asked(&ops, 2);
	cr_assert_not_null(c.bridge);
	cr_expect(c.bridge->moved && c.bridge->stream);
	/* Then it is over; nobody is there to be told. */
	c.bridge->conn = NULL;
	peers_leave(&second);
	undial(&c);
}

/* What was sent may take its time to arrive on a busy machine. */
static void pump_and_wait(struct peers_client *c)
{
	peers_pump(c);
	(void)poll(NULL, 0, 1);
}

/* The next HBONE link's server side, which has greeted. */
static struct peers_client serve_hbone(const struct flat_wire_ops *ops)
{
	struct peers_client s = take_link();
	s.link = flat_wire_link_new_hbone(
	    peers_svids, flat_svids_find(peers_svids, "d/ns/a/sa/other"), NULL, ops, &pair.server);
	for (int i = 0; i < 10000 && !s.link->shaken && !s.over; i++)
		pump_and_wait(&s);
	return s;
}

/* RFC 9113, 8.7: after GOAWAY, REFUSED_STREAM says that nothing was done with it. */
Test(peers, a_stream_refused_by_a_server_that_goes_away_is_asked_for_by_another_link_once)
{
	char account[] = "other";
	struct flat_wire_ops ops = pair_ops;
	struct flat_conn c;
	ops.opened = count_asked;
	dial(&c, account);
	struct peers_client first = serve_hbone(&ops);
	(void)flat_wire_link_flush(first.link);
	peers_say(&first);
	for (int i = 0; i < 10000 && !c.bridge->stream; i++) {
		(void)poll(NULL, 0, 1);
		peers_turn();
	}
	peers_turn();
	/* It is asked for; refused before its owner hears of it; that the server goes away is said before. */
	first.link->alone.unanswered = FLAT_WIRE_RESETS_MAX;
	flat_wire_link_drain(first.link);
	for (int i = 0; i < 10000 && !c.bridge->moved && !first.over; i++)
		pump_and_wait(&first);
	cr_assert(c.bridge && c.bridge->moved);
	cr_assert_eq(first.link->stats.refused, 1);
	cr_assert_eq(n_asked, 0);
	struct peers_client second = serve_hbone(&ops);
	for (int i = 0; i < 10000 && n_asked == 0 && !second.over; i++)
		pump_and_wait(&second);
	cr_expect_eq(n_asked, 1);
	cr_expect(c.bridge && c.bridge->stream && c.bridge->peer->hbone);
	cr_expect_eq(peers_half.peers->n, 2);
	if (c.bridge)
		c.bridge->conn = NULL;
	peers_leave(&second);
	peers_leave(&first);
	undial(&c);
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
static const char *offer(struct peers_client *c, size_t n)
{
	static const uint8_t end[FLAT_FRAME_VERBS_END];
	const struct flat_frame f = {
	    .type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_OFFER, .data = end, .len = sizeof(end)};
	size_t before = n_refused;
	for (size_t i = 0; i < n; i++)
		flat_wire_link_say(c->link, &f);
	for (int i = 0; i < 1000 && n_refused < before + n && !c->over; i++)
		peers_pump(c);
	cr_assert_eq(n_refused, before + n);
	return refusal;
}

Test(peers, verbs_are_looked_at_so_often_whoever_offers)
{
	static struct peers_client v[FLAT_VERBS_OFFERS_TICK + 1];
	struct flat_wire_ops ops = pair_ops;
	ops.verbs = on_verbs;
	peers_half.peers->verbs_name = "nothing";
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		v[i] = peers_greet("d/ns/a/sa/client", 2);
		v[i].link->ops = &ops;
	}
	/* No tick of the time between. */
	peers_half.peers->verbs_offers = 0;
	cr_expect(strstr(offer(&v[0], 1), "device nothing"), "%s", refusal);
	cr_expect(strstr(offer(&v[0], 100), "a moment ago"), "%s", refusal);
	for (size_t i = 1; i < FLAT_VERBS_OFFERS_TICK; i++)
		cr_expect(strstr(offer(&v[i], 1), "device nothing"), "%zu: %s", i, refusal);
	cr_expect(strstr(offer(&v[FLAT_VERBS_OFFERS_TICK], 1), "too many links"), "%s", refusal);
	flat_peers_verbs_tick(peers_half.peers);
	cr_expect(strstr(offer(&v[FLAT_VERBS_OFFERS_TICK], 1), "device nothing"), "%s", refusal);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		peers_leave(&v[i]);
}

Test(peers, one_identity_has_so_many_links_from_one_host)
{
	static struct peers_client v[FLAT_WIRE_HOST_LINKS_MAX];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		v[i] = peers_greet("d/ns/a/sa/client", 2);
	cr_assert(v[0].link->greeted && !v[FLAT_ARRAY_SIZE(v) - 1].over);
	struct peers_client one_more = peers_greet("d/ns/a/sa/client", 2);
	struct peers_client other = peers_greet("d/ns/a/sa/other", 2);
	struct peers_client elsewhere = peers_greet("d/ns/a/sa/client", 3);
	for (int i = 0; i < 1000 && !one_more.over; i++)
		peers_pump(&one_more);
	cr_expect(one_more.over);
	cr_expect(strstr(peers_half.peers->last_failure, "its identity has too many links"), "%s",
		  peers_half.peers->last_failure);
	cr_expect(!v[0].over && !other.over && !elsewhere.over);
	peers_leave(&one_more);
	peers_leave(&other);
	peers_leave(&elsewhere);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		peers_leave(&v[i]);
}

/* --- what they ask for --- */

static uint64_t refused_of(const struct peers_client *c)
{
	return c->link->stats.refused;
}

/* The errno that a stream of it gets. */
static int ask_one(struct peers_client *c)
{
	struct wire_end e;
	peers_ask_many(c, 1, &e);
	for (int i = 0; i < 10000 && !e.over && !c->over; i++)
		peers_pump(c);
	cr_assert(e.over);
	return e.err;
}

#define MANY ((size_t)4000)

Test(peers, many_streams_at_once_are_begun_a_few_in_a_turn_and_none_is_lost)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	struct wire_end e;
	uint64_t before = 0;
	peers_ask_many(&c, MANY, &e);
	peers_say(&c);
	for (int i = 0; i < 10000 && before < MANY; i++) {
		peers_turn();
		uint64_t now = peers_server_side(&c)->stats.refused;
		cr_assert_leq(now - before, FLAT_WIRE_BEGIN_MAX, "in turn %d", i);
		before = now;
	}
	cr_assert_eq(before, MANY);
	for (int i = 0; i < 10000 && refused_of(&c) < MANY; i++)
		peers_pump(&c);
	cr_expect_eq(refused_of(&c), MANY);
	cr_expect_eq(e.err, ECONNREFUSED);
	cr_expect_eq(c.link->n_streams, 0);
	peers_leave(&c);
}

Test(peers, one_that_asks_for_many_streams_holds_up_no_other)
{
	struct peers_client busy = peers_greet("d/ns/a/sa/client", 1);
	struct peers_client other = peers_greet("d/ns/a/sa/other", 2);
	struct wire_end e;
	struct wire_end e2;
	peers_ask_many(&busy, MANY, &e);
	peers_say(&busy);
	for (int i = 0; i < 1000 && peers_server_side(&busy)->stats.refused == 0; i++)
		peers_turn();
	peers_ask_many(&other, 1, &e2);
	peers_say(&other);
	for (int i = 0; i < 1000 && peers_server_side(&other)->stats.refused == 0; i++)
		peers_turn();
	cr_expect_eq(peers_server_side(&other)->stats.refused, 1);
	cr_expect_lt(peers_server_side(&busy)->stats.refused, MANY / 2);
	/* Streams that wait end with their link. */
	peers_leave(&busy);
	for (int i = 0; i < 1000 && !TAILQ_EMPTY(&peers_half.peers->asking); i++)
		peers_turn();
	cr_expect(TAILQ_EMPTY(&peers_half.peers->asking));
	peers_leave(&other);
}

Test(peers, one_identity_has_so_many_of_its_links_looked_at_before_others)
{
	static struct peers_client v[5 * FLAT_WIRE_GUEST_TURN];
	int fds[FLAT_ARRAY_SIZE(v)];
	struct peers_client other;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		v[i] = peers_greet("d/ns/a/sa/client", 2);
		fds[i] = v[i].fd;
	}
	other = peers_greet("d/ns/a/sa/other", 2);
	for (int i = 0; i < 100; i++)
		peers_turn();
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		cr_assert(v[i].link->greeted && !v[i].over);
		flat_wire_link_ping(v[i].link);
		peers_say(&v[i]);
	}
	flat_wire_link_ping(other.link);
	peers_say(&other);
	cr_assert_eq(peers_answered(fds, FLAT_ARRAY_SIZE(fds)), 0);
	/* All are told of before one has its turn. */
	(void)flat_loop_turn(&peers_half.loop, 0);
	(void)flat_peers_turn(&peers_half);
	cr_expect_leq(peers_answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_WIRE_GUEST_TURN);
	cr_expect_eq(peers_answered(&other.fd, 1), 1);
	for (int i = 0; i < 1000 && peers_answered(fds, FLAT_ARRAY_SIZE(fds)) < FLAT_ARRAY_SIZE(v);
	     i++)
		peers_turn();
	cr_expect_eq(peers_answered(fds, FLAT_ARRAY_SIZE(fds)), FLAT_ARRAY_SIZE(v));
	peers_leave(&other);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		peers_leave(&v[i]);
}

Test(peers, one_that_holds_memory_here_is_remembered)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct flat_guest *g = TAILQ_FIRST(&peers_half.peers->guests);
	cr_assert(flat_hold_take(g->hold, 100));
	cr_assert_eq(peers_server_side(&c)->hold, g->hold);
	peers_leave(&c);
	for (int i = 0; i < 1000 && peers_half.peers->n > 0; i++)
		peers_turn();
	flat_guests_forgive(peers_half.peers, now_ms());
	cr_assert_eq(TAILQ_FIRST(&peers_half.peers->guests), g);
	flat_hold_give(g->hold, 100);
	flat_guests_forgive(peers_half.peers, now_ms());
	cr_expect(TAILQ_EMPTY(&peers_half.peers->guests));
}

Test(peers, a_new_link_of_one_that_resets_much_is_no_new_beginning)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct peers_client same = peers_greet("d/ns/a/sa/client", 2);
	struct wire_end e;
	peers_ask_many(&c, MANY, &e);
	for (uint32_t id = 1; id <= MANY; id++) {
		const struct flat_frame f = {
		    .type = FLAT_FRAME_RESET, .stream = id, .number = ECONNRESET};
		flat_wire_link_say(c.link, &f);
	}
	peers_say(&c);
	const struct flat_guest *guest = TAILQ_FIRST(&peers_half.peers->guests);
	/* Some are begun, and refused, while the others' frames wait. */
	for (int i = 0; i < 1000 && guest->tally.unanswered < 2 * FLAT_WIRE_RESETS_MAX; i++)
		peers_turn();
	cr_assert_geq(guest->tally.unanswered, 2 * FLAT_WIRE_RESETS_MAX);
	peers_leave(&c);
	cr_expect_eq(ask_one(&same), EAGAIN);
	peers_leave(&same);
	/* Without a link it is known all the same. */
	for (int i = 0; i < 1000 && peers_half.peers->links_failed < 2; i++)
		peers_turn();
	cr_expect_eq(peers_half.peers->links_failed, 2);
	struct peers_client again = peers_greet("d/ns/a/sa/client", 2);
	struct peers_client other = peers_greet("d/ns/a/sa/other", 2);
	struct peers_client elsewhere = peers_greet("d/ns/a/sa/client", 3);
	cr_expect_eq(ask_one(&again), EAGAIN);
	cr_expect_eq(ask_one(&other), ECONNREFUSED);
	cr_expect_eq(ask_one(&elsewhere), ECONNREFUSED);
	flat_guests_forgive(peers_half.peers, now_ms() + 1000);
	cr_expect_eq(ask_one(&again), EAGAIN);
	flat_guests_forgive(peers_half.peers, now_ms() + (int64_t)MANY);
	cr_expect_eq(ask_one(&again), ECONNREFUSED);
	peers_leave(&again);
	peers_leave(&other);
	peers_leave(&elsewhere);
	for (int i = 0; i < 100 && peers_half.peers->n > 0; i++) {
		peers_turn();
		struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
		if (p)
			(void)flat_peer_tick(p, now_ms() + 10000, 0);
	}
	cr_expect(TAILQ_EMPTY(&peers_half.peers->guests));
}

/* As one whose flatd ends with many streams that nobody has answered. */
static void go_with_many(struct peers_client *c, const struct flat_guest *g)
{
	struct wire_end e;
	peers_ask_many(c, MANY, &e);
	peers_say(c);
	for (int i = 0; i < 1000 && g->streams < 2 * FLAT_WIRE_RESETS_MAX; i++)
		peers_turn();
	cr_assert_geq(g->streams, 2 * FLAT_WIRE_RESETS_MAX);
	peers_leave(c);
	for (int i = 0; i < 1000 && g->links > 0; i++)
		peers_turn();
	cr_assert_eq(g->links + g->streams, 0);
}

Test(peers, a_host_that_starts_anew_is_refused_nothing)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct flat_guest *g = TAILQ_FIRST(&peers_half.peers->guests);
	go_with_many(&c, g);
	cr_expect_eq(g->tally.unanswered, 0);
	cr_expect_geq(g->tally.cut, 2 * FLAT_WIRE_RESETS_MAX);
	struct peers_client again = peers_greet("d/ns/a/sa/client", 2);
	cr_assert_eq(TAILQ_FIRST(&peers_half.peers->guests), g);
	cr_expect_eq(ask_one(&again), ECONNREFUSED);
	peers_leave(&again);
	for (int i = 0; i < 1000 && g->links > 0; i++)
		peers_turn();
	/* It is remembered, and forgiven so many a second, also by looks that are a millisecond apart. */
	uint32_t cut = g->tally.cut;
	int64_t from_ms = peers_half.peers->guests_ms;
	for (int64_t ms = 1; ms <= 1000; ms++)
		flat_guests_forgive(peers_half.peers, from_ms + ms);
	cr_assert_eq(TAILQ_FIRST(&peers_half.peers->guests), g);
	cr_expect_eq(g->tally.cut, cut - FLAT_WIRE_CUT_PER_S);
	flat_guests_forgive(peers_half.peers,
			    from_ms + (int64_t)cut * 1000 / FLAT_WIRE_CUT_PER_S + 1);
	cr_expect(TAILQ_EMPTY(&peers_half.peers->guests));
}

Test(peers, streams_that_end_with_one_link_after_another_count_as_those_that_are_reset)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct flat_guest *g = TAILQ_FIRST(&peers_half.peers->guests);
	/* More than what is forgiven meanwhile. */
	g->tally.cut = 2 * FLAT_WIRE_CUT_MAX;
	go_with_many(&c, g);
	cr_assert_geq(g->tally.unanswered, 2 * FLAT_WIRE_RESETS_MAX);
	struct peers_client again = peers_greet("d/ns/a/sa/client", 2);
	struct peers_client other = peers_greet("d/ns/a/sa/other", 2);
	struct peers_client elsewhere = peers_greet("d/ns/a/sa/client", 3);
	cr_expect_eq(ask_one(&again), EAGAIN);
	cr_expect_eq(ask_one(&other), ECONNREFUSED);
	cr_expect_eq(ask_one(&elsewhere), ECONNREFUSED);
	flat_guests_forgive(peers_half.peers, now_ms() + (int64_t)MANY);
	cr_expect_eq(ask_one(&again), ECONNREFUSED);
	peers_leave(&again);
	peers_leave(&other);
	peers_leave(&elsewhere);
}

Test(peers, streams_of_a_link_that_ends_by_its_certificates_time_do_not)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
	const struct flat_guest *g = p->guest;
	struct wire_end e;
	peers_ask_many(&c, 1000, &e);
	peers_say(&c);
	for (int i = 0; i < 1000 && g->streams < FLAT_WIRE_BEGIN_MAX; i++)
		peers_turn();
	cr_assert_geq(g->streams, FLAT_WIRE_BEGIN_MAX);
	(void)flat_peer_tick(p, now_ms(), p->link->peer.expires_s);
	cr_expect_null(p->link);
	cr_expect_eq(g->tally.unanswered, 0);
	peers_leave(&c);
}
