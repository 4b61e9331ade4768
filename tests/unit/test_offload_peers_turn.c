/* What is taken of a peer in one turn of flatd: frames, ends of streams, ends of links with many. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "base/limits.h"
#include "support_peers.h"
#include "wire/ca.h"

#define MANY ((size_t)4000)

TestSuite(peers_turn, .init = peers_setup, .fini = peers_teardown, .timeout = 120);

static void reset_many(const struct peers_client *c, size_t n)
{
	for (uint32_t id = 1; id <= n; id++) {
		const struct flat_frame f = {
		    .type = FLAT_FRAME_RESET, .stream = id, .number = ECONNRESET};
		flat_wire_link_say(c->link, &f);
	}
}

Test(peers_turn, many_resets_at_once_are_taken_in_turns_and_others_are_answered_meanwhile)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	struct peers_client other = peers_greet("d/ns/a/sa/other", 2);
	struct wire_end e;
	peers_ask_many(&c, MANY, &e);
	reset_many(&c, MANY);
	peers_say(&c);
	const struct flat_wire_link *l = peers_server_side(&c);
	const struct flat_guest *g = TAILQ_FIRST(&peers_half.peers->guests);
	uint64_t before = 0;
	size_t turns = 0;
	for (; l->stats.reset + l->stats.refused < MANY && turns < 1000; turns++) {
		if (turns == 3) {
			flat_wire_link_ping(other.link);
			peers_say(&other);
		}
		peers_turn();
		cr_assert_leq(l->stats.reset - before, FLAT_WIRE_FRAMES_TURN, "turn %zu", turns);
		before = l->stats.reset;
		if (turns == 5)
			cr_expect_eq(peers_answered(&other.fd, 1), 1);
	}
	/* Each OPEN and each RESET was a frame. */
	cr_expect_geq(turns, 2 * MANY / FLAT_WIRE_FRAMES_TURN);
	cr_expect_eq(l->stats.reset + l->stats.refused, MANY);
	/* Those that came for streams that were refused. */
	for (int i = 0; i < 100; i++)
		peers_turn();
	cr_expect_eq(g->streams, 0);
	cr_expect(l->n_streams == 0 && !l->stalled && !l->failed);
	cr_expect_eq(g->hold->bytes, 0, "what waited is given back");
	peers_leave(&c);
	peers_leave(&other);
}

Test(peers_turn, a_peer_whose_frames_wait_here_is_not_silent)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 1);
	struct flat_peers *all = peers_half.peers;
	struct flat_peer *p = TAILQ_FIRST(&all->list);
	struct wire_end e;
	peers_ask_many(&c, MANY, &e);
	peers_say(&c);
	for (int i = 0; i < 1000 && !p->link->stalled; i++)
		peers_turn();
	cr_assert(p->link->stalled);
	/* Others had the time meanwhile. */
	all->tick_ms += (int64_t)10 * FLAT_WIRE_DEAD_MS;
	peers_turn();
	cr_expect(flat_peer_tick(p, all->tick_ms + 1, 0) && p->link, "%s", all->last_failure);
	peers_leave(&c);
}

Test(peers_turn, links_that_end_end_their_streams_in_turns)
{
	static struct peers_client v[FLAT_WIRE_GUEST_TURN];
	const struct flat_guest *g;
	struct wire_end e;
	uint32_t before;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		v[i] = peers_greet("d/ns/a/sa/client", 1);
	g = TAILQ_FIRST(&peers_half.peers->guests);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		peers_ask_many(&v[i], MANY, &e);
		peers_say(&v[i]);
	}
	/* A few are begun meanwhile, and refused. */
	for (int i = 0; i < 1000 && g->streams < 2 * MANY; i++)
		peers_turn();
	cr_assert_geq(g->streams, 2 * MANY);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		peers_leave(&v[i]);
	before = g->streams;
	for (int i = 0; i < 1000 && g->links > 0; i++) {
		peers_turn();
		cr_assert_leq(before - flat_min_size(g->streams, before),
			      FLAT_WIRE_FRAMES_TURN + FLAT_WIRE_BEGIN_MAX, "turn %d", i);
		before = g->streams;
	}
	cr_expect(g->links == 0 && g->streams == 0);
	cr_expect(TAILQ_EMPTY(&peers_half.peers->asking));
}

Test(peers_turn, resets_of_hbone_are_counted_for_all_links_of_one_and_forgiven)
{
	struct peers_client c = peers_greet("d/ns/a/sa/client", 2);
	struct peers_client same = peers_greet("d/ns/a/sa/client", 2);
	struct peers_client elsewhere = peers_greet("d/ns/a/sa/client", 3);
	struct flat_guest *g = TAILQ_FIRST(&peers_half.peers->guests);
	cr_assert_eq(peers_server_side(&c)->tally, &g->tally);
	cr_expect_eq(peers_server_side(&same)->tally, &g->tally);
	cr_expect_neq(peers_server_side(&elsewhere)->tally, &g->tally);
	g->tally.resets = FLAT_HBONE_GUEST_RESETS_MAX + 100;
	peers_leave(&c);
	peers_leave(&same);
	peers_leave(&elsewhere);
	for (int i = 0; i < 1000 && peers_half.peers->n > 0; i++)
		peers_turn();
	int64_t now_ms = peers_half.peers->guests_ms;
	flat_guests_forgive(peers_half.peers, now_ms + 1000);
	cr_assert_eq(TAILQ_FIRST(&peers_half.peers->guests), g, "it is remembered");
	cr_expect_leq(g->tally.resets, 100);
	flat_guests_forgive(peers_half.peers, now_ms + 2000);
	cr_expect(TAILQ_EMPTY(&peers_half.peers->guests));
}

Test(peers_turn, a_list_that_ends_before_long_is_told_of_in_time_without_any_link)
{
	struct flat_peers *all = peers_half.peers;
	char why[300];
	cr_assert_eq(
	    flat_ca_revoke(peers_folder.ca, peers_folder.svids, NULL, 40000, why, sizeof(why)), 0,
	    "%s", why);
	flat_peers_reload(&peers_half);
	int64_t due_s = all->due_s;
	cr_assert_neq(due_s, INT64_MAX);
	all->tick_ms = 0;
	int wait_ms = flat_peers_wait_ms(&peers_half);
	cr_expect(wait_ms > 0 && wait_ms <= 3600 * 1000, "flatd sleeps no longer: %d", wait_ms);
	/* As if it were time. */
	all->due_s = 1;
	all->tick_ms = 0;
	(void)flat_peers_wait_ms(&peers_half);
	cr_expect_eq(all->due_s, due_s);
}
