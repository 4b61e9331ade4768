/* Geometry, seals and parts of lanes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vq/vq.h"

static const struct flat_lane_geometry good = {4, 1024, 16384};

Test(lane, geometry_out_of_range_is_refused)
{
	static const struct flat_lane_geometry bad[] = {
	    {0, 1024, 16384},
	    {FLAT_LANE_SLOTS_MAX + 1, 1024, 16384},
	    {4, 512, 16384},
	    {4, 1025, 16384},
	    {4, 0, 16384},
	    {4, FLAT_RING_BYTES_MAX * 2, 16384},
	    {4, 1024, 8192},
	    {4, 1024, 16383},
	    {4, 1024, FLAT_RING_BYTES_MAX * 2},
	    {UINT32_MAX, UINT32_MAX, UINT32_MAX},
	};
	static const struct flat_lane_geometry edge[] = {
	    {1, FLAT_SMALL_BYTES_MIN, FLAT_SMALL_BYTES_MIN * FLAT_MID_SHARE * 2},
	    {FLAT_LANE_SLOTS_MAX, FLAT_SMALL_BYTES_MIN, FLAT_RING_BYTES_MAX},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		cr_expect_not(flat_lane_geometry_valid(&bad[i]), "%zu", i);
		cr_expect_eq(flat_lane_create(&bad[i], 1), -EINVAL, "%zu", i);
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(edge); i++)
		cr_expect(flat_lane_geometry_valid(&edge[i]), "%zu", i);
}

Test(lane, parts_lie_within_and_do_not_overlap)
{
	struct flat_lane lane;
	int fd = flat_lane_create(&good, 1);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_lane_map(&lane, fd, &good, 1), 0);
	uint8_t *end = lane.base + flat_lane_hot_len(&good);
	uint8_t *last = (uint8_t *)flat_lane_slot(&lane, good.slots - 1) + sizeof(struct flat_slot);
	for (unsigned int size = 0; size < FLAT_RINGS; size++) {
		uint32_t bytes = flat_lane_ring_bytes(&good, size);
		cr_expect_leq(last, flat_lane_ring(&lane, 0, 0, size));
		cr_expect_eq(flat_lane_ring(&lane, 1, 0, size),
			     flat_lane_ring(&lane, 0, 1, size) + bytes);
		last = flat_lane_ring(&lane, good.slots - 1, 1, size) + bytes;
		if (size == FLAT_RING_SMALL)
			cr_expect_leq(last, end);
	}
	cr_expect_eq(flat_lane_ring(&lane, 0, 0, FLAT_RING_MID), end);
	cr_expect_eq(last, lane.base + flat_lane_len(&good));
	flat_lane_unmap(&lane);
	cr_expect_null(lane.base);
	flat_lane_unmap(&lane);
	close(fd);
}

Test(lane, cannot_be_cut_or_grown)
{
	int fd = flat_lane_create(&good, 1);
	cr_assert_geq(fd, 0);
	cr_expect_eq(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
		     F_SEAL_SHRINK | F_SEAL_GROW);
	cr_expect_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cr_expect_eq(ftruncate(fd, 0), -1);
	cr_expect_eq(ftruncate(fd, (off_t)flat_lane_len(&good) + 4096), -1);
	close(fd);
}

Test(lane, once_sealed_is_mapped_for_writing_no_more)
{
	struct flat_lane lane;
	struct flat_lane late;
	int fd = flat_lane_create(&good, 1);
	cr_assert_eq(flat_lane_map(&lane, fd, &good, 1), 0);
	cr_assert_eq(flat_lane_seal(fd), 0);
	cr_expect_eq(flat_lane_map(&late, fd, &good, 1), -EPERM);
	cr_expect_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	cr_expect_eq(madvise(lane.base, 4096, MADV_REMOVE), -1, "holes in what a peer relies on");
	flat_lane_unmap(&lane);
	close(fd);
}

Test(lane, of_another_size_or_without_seals_is_refused)
{
	struct flat_lane lane;
	struct flat_lane_geometry other = {8, 1024, 16384};
	int fd = flat_lane_create(&good, 1);
	int bare = memfd_create("bare", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	cr_expect_eq(flat_lane_map(&lane, fd, &other, 1), -EINVAL);
	cr_assert_eq(ftruncate(bare, (off_t)flat_lane_len(&good)), 0);
	cr_expect_eq(flat_lane_map(&lane, bare, &good, 1), -EINVAL);
	cr_assert_eq(fcntl(bare, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	cr_expect_eq(flat_lane_map(&lane, bare, &good, 1), -EINVAL, "it may still grow");
	cr_expect_eq(flat_lane_map(&lane, -1, &good, 1), -EINVAL);
	close(fd);
	close(bare);
}

Test(lane, a_reset_slot_has_no_past)
{
	struct flat_lane lane;
	struct flat_vq vq;
	int fd = flat_lane_create(&good, 1);
	cr_assert_eq(flat_lane_map(&lane, fd, &good, 1), 0);
	flat_lane_slot_reset(&lane, 2);
	flat_vq_init(&vq, &flat_vq_shm, &lane, 2, FLAT_SIDE_CLIENT, -1, -1);
	cr_expect_not(flat_lane_slot_touched(&lane, 2, FLAT_SIDE_CLIENT));
	cr_assert_eq(flat_ring_write(&vq.tx, "abc", 3), 3);
	cr_expect(flat_lane_slot_touched(&lane, 2, FLAT_SIDE_CLIENT));
	cr_expect_not(flat_lane_slot_touched(&lane, 2, FLAT_SIDE_SERVER));
	cr_expect_not(flat_lane_slot_touched(&lane, 1, FLAT_SIDE_CLIENT));
	cr_expect_eq(flat_lane_total(&lane, 2, FLAT_SIDE_CLIENT), 3);
	flat_lane_slot_cut(&lane, 2);
	cr_expect_eq(flat_vq_peer_prod_flags(&vq), FLAT_PROD_RST | FLAT_PROD_ERROR);
	flat_lane_slot_reset(&lane, 2);
	cr_expect_eq(flat_vq_peer_prod_flags(&vq), 0);
	cr_expect_not(flat_lane_slot_touched(&lane, 2, FLAT_SIDE_CLIENT));
	cr_expect_eq(flat_lane_total(&lane, 2, FLAT_SIDE_CLIENT), 0);
	cr_expect_eq(vq.tx.ctl->arm.data, FLAT_ARM_BELL, "whoever writes first must tell");
	flat_lane_unmap(&lane);
	close(fd);
}

/* One side of a slot is gone with bytes unread or not, having said FIN or not. */
static void complete(bool accepted, size_t unread, uint32_t said, uint32_t want)
{
	struct flat_lane lane;
	struct flat_vq gone;
	struct flat_vq left;
	int pair[2];
	char byte;
	int fd = flat_lane_create(&good, 1);
	cr_assert_eq(flat_lane_map(&lane, fd, &good, 1), 0);
	flat_lane_slot_reset(&lane, 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	flat_vq_init(&gone, &flat_vq_shm, &lane, 0, FLAT_SIDE_SERVER, -1, -1);
	flat_vq_init(&left, &flat_vq_shm, &lane, 0, FLAT_SIDE_CLIENT, pair[0], -1);
	if (unread)
		cr_assert_eq(flat_ring_write(&left.tx, "unread", unread), (ssize_t)unread);
	if (said)
		atomic_fetch_or(&gone.tx.ctl->prod.flags, said);
	if (accepted)
		flat_lane_slot_take(&lane, 0);
	flat_vq_complete(&lane, 0, FLAT_SIDE_SERVER, pair[1]);
	cr_expect_eq(flat_vq_peer_prod_flags(&left), want);
	cr_expect_eq(flat_vq_peer_cons_flags(&left), FLAT_CONS_CLOSED);
	cr_expect_eq(recv(pair[0], &byte, 1, MSG_DONTWAIT), 1, "whoever is left is told");
	close(pair[0]);
	close(pair[1]);
	flat_lane_unmap(&lane);
	close(fd);
}

Test(lane, the_words_of_a_side_that_is_gone_are_completed)
{
	complete(true, 0, 0, FLAT_PROD_FIN);
	complete(true, 3, 0, FLAT_PROD_RST);
	complete(true, 0, FLAT_PROD_FIN, FLAT_PROD_FIN);
	complete(true, 3, FLAT_PROD_FIN, FLAT_PROD_FIN | FLAT_PROD_RST);
	complete(true, 0, FLAT_PROD_RST, FLAT_PROD_RST);
}

Test(lane, a_connection_that_ends_in_its_listeners_queue_is_reset)
{
	complete(false, 0, 0, FLAT_PROD_RST);
}
