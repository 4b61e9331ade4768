#include <criterion/criterion.h>

#include "offload/worker.h"

/* Rounds in which everybody who may moves a chunk. Returns what each has moved. */
static void rounds(struct flat_share *v, uint64_t *moved, int n, uint32_t weight_max, int count)
{
	for (uint64_t round = 1; round <= (uint64_t)count; round++) {
		for (int i = 0; i < n; i++) {
			if (!flat_share_turn(&v[i], round, weight_max))
				continue;
			v[i].deficit -= (int64_t)FLAT_PIPE_CHUNK;
			moved[i] += FLAT_PIPE_CHUNK;
		}
	}
}

Test(share, equal_weights_have_equal_turns)
{
	struct flat_share v[2] = {{.weight = 1}, {.weight = 1}};
	uint64_t moved[2] = {0};
	rounds(v, moved, 2, 1, 1000);
	cr_assert_eq(moved[0], moved[1]);
	cr_assert_geq(moved[0], 999 * FLAT_PIPE_CHUNK);
}

Test(share, bytes_follow_the_weights)
{
	struct flat_share v[3] = {{.weight = 1}, {.weight = 10}, {.weight = 1000}};
	uint64_t moved[3] = {0};
	rounds(v, moved, 3, 1000, 100000);
	cr_assert_float_eq((double)moved[2] / (double)moved[1], 100.0, 2.0);
	cr_assert_float_eq((double)moved[1] / (double)moved[0], 10.0, 0.5);
}

Test(share, who_was_away_has_no_more_than_one_quantum)
{
	struct flat_share s = {.weight = 1};
	cr_assert(flat_share_turn(&s, 1, 1));
	cr_assert(flat_share_turn(&s, UINT64_C(1) << 60, 1));
	cr_assert_eq(s.deficit, (int64_t)FLAT_PIPE_CHUNK);
}

Test(share, a_debt_is_made_up_round_by_round)
{
	struct flat_share s = {.weight = 1};
	cr_assert(flat_share_turn(&s, 1, 4));
	s.deficit -= (int64_t)FLAT_PIPE_CHUNK;
	int waited = 0;
	for (uint64_t round = 2; !flat_share_turn(&s, round, 4); round++)
		waited++;
	cr_assert_eq(waited, 3);
}

Test(share, a_long_pause_forgives_a_debt)
{
	struct flat_share s = {.weight = 1};
	cr_assert(flat_share_turn(&s, 1, 1000));
	s.deficit -= (int64_t)FLAT_PIPE_CHUNK;
	cr_assert_not(flat_share_turn(&s, 2, 1000));
	cr_assert(flat_share_turn(&s, 2 + FLAT_PIPE_CHUNK + 1, 1000));
}
