/* Deep rings as the offload half lends them: to whom, for whose money, and how it has them back. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "offload/offload.h"
#include "vq/deep.h"

static struct flat_offload o;
static struct flat_session client = {.offload = &o};
static struct flat_session server = {.offload = &o};
static struct flat_listener listener = {.offload = &o, .session = &server};
static struct flat_conn conn;
static struct flat_end *end = &conn.end[FLAT_SIDE_CLIENT];
static struct flat_vq vq[2];
static int anchor[2];
static uint32_t deep_bytes;
static int64_t now_ms;

/* A connection whose client writes; `l`: NULL, of one session and the offload half. */
static void begin(struct flat_listener *l)
{
	struct flat_lane_link *lane = NULL;
	TAILQ_INIT(&o.lanes);
	TAILQ_INIT(&o.deeps);
	TAILQ_INIT(&o.conns);
	o.deep_max = (uint64_t)1 << 30;
	conn.id = 77;
	conn.path = l ? FLAT_CONN_DIRECT : FLAT_CONN_FORWARDED;
	conn.end[0].conn = conn.end[1].conn = &conn;
	cr_assert_eq(flat_lane_get(&o, &client, l, &lane), 0);
	flat_slot_take(end, lane);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, anchor), 0);
	end->anchor.fd = anchor[1];
	TAILQ_INSERT_TAIL(&o.conns, &conn, link);
	for (int i = 0; i < 2; i++)
		flat_vq_init(&vq[i], &flat_vq_shm, &lane->lane, end->slot, (enum flat_side)i, -1,
			     -1);
	flat_ring_tx_allow_deep(&vq[0].tx, &lane->lane, end->slot, 0);
	deep_bytes = flat_lane_deep_bytes(&lane->lane.geo);
	now_ms = flat_now_us() / 1000;
}

static size_t write_all(void)
{
	static const uint8_t block[65536] = {1};
	size_t sum = 0;
	ssize_t n;
	while ((n = flat_ring_write(&vq[0].tx, block, sizeof(block))) > 0)
		sum += (size_t)n;
	return sum;
}

static void read_some(size_t len)
{
	static uint8_t block[65536];
	ssize_t n = 1;
	for (size_t left = len; left > 0 && n > 0; left -= n > 0 ? (size_t)n : 0) {
		size_t want = flat_min_size(left, sizeof(block));
		n = flat_ring_read(&vq[1].rx, block, want, 1);
	}
	cr_assert_gt(n, 0, "fewer than %zu bytes were there", len);
}

static void ask(void)
{
	struct flat_msg msg;
	flat_vq_arm_tx(&vq[0], FLAT_ARM_BELL);
	cr_assert(flat_ring_tx_asks(&vq[0].tx));
	cr_assert_not(flat_ring_tx_asks(&vq[0].tx), "once");
	flat_msg_init(&msg, FLAT_MSG_DEEP, 0);
	msg.body.deep.conn_id = 77;
	flat_deep_request(&o, &msg);
	/* It reckons with the clock, which may have gone on. */
	int64_t clock_ms = flat_now_us() / 1000;
	now_ms = now_ms > clock_ms ? now_ms : clock_ms;
}

/* As the loop goes on. Whether the writer was woken. */
static bool pass(int64_t ms)
{
	char bell;
	bool rung = false;
	for (int64_t last = now_ms + ms; now_ms <= last; now_ms++)
		(void)flat_deeps_turn(&o, now_ms);
	while (recv(anchor[0], &bell, 1, MSG_DONTWAIT) == 1)
		rung = true;
	return rung;
}

static uint32_t lease(void)
{
	struct flat_deep_look look;
	flat_deep_look(&end->lane->lane, end->slot, 0, &look);
	return look.lease;
}

static blkcnt_t blocks(void)
{
	struct stat st;
	cr_assert_eq(fstat(end->lane->fd, &st), 0);
	return st.st_blocks;
}

Test(deep, is_lent_to_a_writer_that_stands_still_and_had_back_when_it_was_read)
{
	begin(&listener);
	size_t bulk = write_all();
	blkcnt_t before = blocks();
	ask();
	cr_assert_eq(o.deep_bytes, 0);
	cr_assert(pass(60));
	cr_assert_eq(lease(), FLAT_LEASE_GRANTED);
	cr_assert_eq(o.deep_bytes, deep_bytes);
	cr_assert_eq(end->lane->deep_bytes, deep_bytes);
	cr_assert_eq(write_all(), deep_bytes);
	cr_assert_geq(blocks(), before + deep_bytes / 512);
	read_some(bulk + deep_bytes / 2);
	pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
	cr_assert_leq(blocks(), before + deep_bytes / 1024);
	read_some(deep_bytes / 2);
	pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
	/* Of what may be written on there is one page. */
	cr_assert_leq(blocks(), before + 8);
	cr_assert_eq(o.deep_bytes, 0);
	cr_assert_eq(flat_deeps_turn(&o, now_ms), -1, "nothing is looked at");
	/* Once more, from the beginning. */
	cr_assert_gt(write_all(), 0);
	ask();
	cr_assert(pass(200));
	cr_assert_eq(write_all(), deep_bytes);
	flat_deep_end(&o, end);
	cr_assert_eq(o.deep_bytes, 0);
	cr_assert_leq(blocks(), before);
}

Test(deep, is_not_lent_to_one_whose_reader_reads)
{
	begin(&listener);
	(void)write_all();
	ask();
	for (int i = 0; i < 100; i++) {
		read_some(300);
		(void)write_all();
		cr_assert_not(pass(3));
	}
	cr_assert_eq(lease(), FLAT_LEASE_ASKED);
	/* It waits no more: nobody looks, and it asks another time. */
	vq[0].tx.ctl->prod.space = FLAT_ARM_NONE;
	pass(200);
	cr_assert_eq(lease(), FLAT_LEASE_NONE);
	cr_assert_eq(flat_deeps_turn(&o, now_ms), -1);
	ask();
	cr_assert(pass(200));
}

Test(deep, is_taken_back_unused_when_there_is_room)
{
	begin(&listener);
	size_t n = write_all();
	ask();
	cr_assert(pass(60));
	read_some(n);
	pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
	cr_assert_eq(lease(), FLAT_LEASE_NONE);
	cr_assert_eq(o.deep_bytes, 0);
}

Test(deep, is_lent_within_the_allowance_of_who_pays)
{
	struct flat_workload small = {.limit_memory_bytes = (uint64_t)4 << 20};
	begin(&listener);
	client.workload = &small;
	(void)write_all();
	ask();
	cr_assert_not(pass(1000));
	cr_assert_eq(o.deep_bytes, 0);
	small.limit_memory_bytes = (uint64_t)8 << 20;
	o.deep_max = deep_bytes - 1;
	cr_assert_not(pass(1000));
	o.deep_max = deep_bytes;
	cr_assert(pass(1000));
}

Test(deep, of_a_sealed_lane_stays_charged_and_is_lent_again_for_nothing)
{
	begin(NULL);
	size_t bulk = write_all();
	cr_assert(flat_lane_client_maps(end->lane));
	ask();
	cr_assert(pass(60));
	cr_assert_eq(write_all(), deep_bytes);
	read_some(bulk + deep_bytes);
	pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
	cr_assert_eq(o.deep_bytes, deep_bytes);
	(void)write_all();
	o.deep_max = deep_bytes;
	ask();
	cr_assert(pass(60));
	cr_assert_eq(write_all(), deep_bytes);
	flat_deep_end(&o, end);
	cr_assert_eq(o.deep_bytes, deep_bytes, "until the lane goes");
	flat_slot_give(&o, end->lane, end->slot, false);
	flat_lanes_orphan(&o, &client, NULL);
	cr_assert_eq(o.deep_bytes, 0);
	cr_assert_eq(o.n_lanes, 0);
}

Test(deep, of_lanes_that_are_sealed_a_process_is_lent_so_many)
{
	begin(NULL);
	end->lane->deep_bytes = (FLAT_DEEP_KEPT_MAX - 1) * (uint64_t)deep_bytes + 1;
	(void)write_all();
	ask();
	cr_assert_not(pass(2000));
	end->lane->deep_bytes--;
	cr_assert(pass(2000));
	cr_assert_eq(end->lane->deep_bytes, FLAT_DEEP_KEPT_MAX * (uint64_t)deep_bytes);
}

Test(deep, is_read_by_flatd_only_as_long_as_it_is_lent)
{
	static uint8_t block[65536];
	begin(NULL);
	size_t bulk = write_all();
	ask();
	cr_assert(pass(60));
	cr_assert_eq(write_all(), deep_bytes);
	read_some(bulk + deep_bytes);
	pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
	cr_assert_eq(o.deep_bytes, deep_bytes, "it could be written on there");
	/* The writer is back in its bulk ring. */
	cr_assert_eq(flat_ring_write(&vq[0].tx, block, 10), 10);
	read_some(10);
	cr_assert_eq(flat_ring_space(&vq[0].tx), (ssize_t)bulk);
	pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
	cr_assert_eq(lease(), FLAT_LEASE_NONE);
	cr_assert_eq(o.deep_bytes, 0);
	/* It says that it was lent it. */
	uint32_t tail = vq[0].tx.tail;
	vq[0].tx.ctl->prod.deep = FLAT_DEEP(tail, 0, FLAT_DEEP_OPEN);
	vq[0].tx.ctl->arm.lease = FLAT_LEASE_TAKEN;
	vq[0].tx.ctl->prod.tail = tail + 4096;
	cr_assert_eq(flat_ring_read(&vq[1].rx, block, sizeof(block), 1), -EPROTO);
}

Test(deep, words_that_say_nothing_cost_nobody_anything)
{
	const uint64_t words[] = {0, ~UINT64_C(0), FLAT_DEEP(5, 9, FLAT_DEEP_SHUT),
				  FLAT_DEEP(1U << 31, 0, FLAT_DEEP_OPEN)};
	begin(&listener);
	for (uint32_t i = 0; i < 64; i++) {
		(void)write_all();
		vq[0].tx.ctl->arm.lease = FLAT_LEASE_NONE;
		ask();
		pass(70);
		vq[0].tx.ctl->prod.deep = words[i % 4];
		vq[0].tx.ctl->cons.head = i * 0x4000001U;
		vq[0].tx.ctl->arm.lease = i % 7;
		pass(200);
		cr_assert_leq(o.deep_bytes, deep_bytes);
		vq[0].tx.ctl->arm.lease = FLAT_LEASE_NONE;
		pass(3 * (int64_t)FLAT_DEEP_REST_MS_MAX);
		cr_assert_eq(o.deep_bytes, 0);
		flat_lane_slot_reset(&end->lane->lane, end->slot);
		for (int s = 0; s < 2; s++)
			flat_vq_init(&vq[s], &flat_vq_shm, &end->lane->lane, end->slot,
				     (enum flat_side)s, -1, -1);
		flat_ring_tx_allow_deep(&vq[0].tx, &end->lane->lane, end->slot, 0);
	}
}
