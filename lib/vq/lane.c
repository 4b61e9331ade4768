#include "vq/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

static int is_power_of_two(uint32_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

int flat_lane_geometry_valid(const struct flat_lane_geometry *geo)
{
	return geo->slots >= 1 && geo->slots <= FLAT_LANE_SLOTS_MAX &&
	       is_power_of_two(geo->small_bytes) && geo->small_bytes >= FLAT_SMALL_BYTES_MIN &&
	       geo->small_bytes <= FLAT_RING_BYTES_MAX && is_power_of_two(geo->bulk_bytes) &&
	       geo->bulk_bytes <= FLAT_RING_BYTES_MAX &&
	       geo->bulk_bytes / FLAT_MID_SHARE > geo->small_bytes;
}

uint32_t flat_lane_ring_bytes(const struct flat_lane_geometry *geo, enum flat_ring_size size)
{
	if (size == FLAT_RING_SMALL)
		return geo->small_bytes;
	return size == FLAT_RING_MID ? geo->bulk_bytes / FLAT_MID_SHARE : geo->bulk_bytes;
}

/* Bytes of all rings of one size, in whole pages. */
static size_t rings_len(const struct flat_lane_geometry *geo, enum flat_ring_size size)
{
	return flat_align_up(2 * (size_t)geo->slots * flat_lane_ring_bytes(geo, size),
			     FLAT_LANE_PAGE);
}

static size_t control_len(const struct flat_lane_geometry *geo)
{
	return flat_align_up(3 * (size_t)FLAT_LANE_PAGE + geo->slots * sizeof(struct flat_slot),
			     FLAT_LANE_PAGE);
}

/* Where the rings of a size begin. */
static size_t rings_at(const struct flat_lane_geometry *geo, unsigned int size)
{
	size_t at = control_len(geo);
	for (unsigned int i = 0; i < size; i++)
		at += rings_len(geo, (enum flat_ring_size)i);
	return at;
}

size_t flat_lane_hot_len(const struct flat_lane_geometry *geo)
{
	return rings_at(geo, FLAT_RING_MID);
}

size_t flat_lane_len(const struct flat_lane_geometry *geo)
{
	return rings_at(geo, FLAT_RINGS);
}

uint8_t *flat_lane_ring(const struct flat_lane *lane, uint32_t slot, unsigned int direction,
			enum flat_ring_size size)
{
	return lane->base + rings_at(&lane->geo, size) +
	       (2 * (size_t)slot + direction) * flat_lane_ring_bytes(&lane->geo, size);
}

int flat_lane_create(const struct flat_lane_geometry *geo, uint64_t lane_id)
{
	if (!flat_lane_geometry_valid(geo))
		return -EINVAL;
	int fd = flat_sys_memfd("flat-lane");
	if (fd < 0)
		return fd;
	struct flat_lane_header header = {
	    .magic = FLAT_LANE_MAGIC,
	    .version = FLAT_LANE_VERSION,
	    .slots = geo->slots,
	    .small_bytes = geo->small_bytes,
	    .bulk_bytes = geo->bulk_bytes,
	    .lane_id = lane_id,
	};
	long err = FLAT_SYS2(SYS_ftruncate, fd, flat_lane_len(geo));
	if (err == 0)
		/* io_uring's work for this thread interrupts it as a signal would (shmem_fallocate). */
		do {
			err = FLAT_SYS4(SYS_fallocate, fd, 0, 0, flat_lane_hot_len(geo));
		} while (err == -EINTR);
	if (err == 0)
		err = FLAT_SYS4(SYS_pwrite64, fd, &header, sizeof(header), 0);
	if (err > 0)
		err = flat_sys_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	if (err < 0) {
		flat_sys_close(fd);
		return (int)err;
	}
	return fd;
}

int flat_lane_seal(int fd)
{
	return flat_sys_fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
}

int flat_lane_map(struct flat_lane *lane, int fd, const struct flat_lane_geometry *geo,
		  int verify_seals)
{
	memset(lane, 0, sizeof(*lane));
	if (!flat_lane_geometry_valid(geo))
		return -EINVAL;
	size_t len = flat_lane_len(geo);
	if (verify_seals) {
		struct stat st;
		int seals = flat_sys_fcntl(fd, F_GET_SEALS, 0);
		if (seals < 0 || !(seals & F_SEAL_SHRINK) || !(seals & F_SEAL_GROW))
			return -EINVAL;
		if (FLAT_SYS2(SYS_fstat, fd, &st) != 0 || st.st_size < 0 ||
		    (size_t)st.st_size != len)
			return -EINVAL;
	}
	long addr =
	    FLAT_SYS6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (addr < 0 && addr > -4096)
		return (int)addr;
	lane->base = (uint8_t *)addr;
	lane->len_bytes = len;
	lane->geo = *geo;
	/* A refusal only means that the pages are mapped when they are first touched. */
	(void)FLAT_SYS3(SYS_madvise, lane->base, flat_lane_hot_len(geo), 23 /* POPULATE_WRITE */);
	return 0;
}

void flat_lane_unmap(struct flat_lane *lane)
{
	if (lane->base)
		FLAT_SYS2(SYS_munmap, lane->base, lane->len_bytes);
	memset(lane, 0, sizeof(*lane));
}

void flat_lane_slot_reset(const struct flat_lane *lane, uint32_t slot)
{
	struct flat_slot *s = flat_lane_slot(lane, slot);
	for (unsigned int d = 0; d < 2; d++) {
		struct flat_ring_ctl *ctl = &s->ring[d];
		atomic_store_explicit(&ctl->prod.tail, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.total, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.flags, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.turned, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.turn, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.woken, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.dropped, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.urgent, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->cons.urged, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->arm.space, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->prod.bells, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->cons.head, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->cons.carried, 0, memory_order_relaxed);
		atomic_store_explicit(&ctl->arm.flags, 0, memory_order_relaxed);
		/* A new consumer has looked at nothing yet: whoever writes first must tell it. */
		atomic_store_explicit(&ctl->arm.data, FLAT_ARM_BELL, memory_order_relaxed);
	}
	atomic_store_explicit(&s->phase, FLAT_PHASE_CONNECTING, memory_order_relaxed);
	atomic_store_explicit(&s->taken, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void flat_lane_slot_take(const struct flat_lane *lane, uint32_t slot)
{
	/* relaxed: looked at when the anchor hung up, which the kernel orders */
	atomic_store_explicit(&flat_lane_slot(lane, slot)->taken, 1, memory_order_relaxed);
}

uint32_t flat_lane_slot_phase(const struct flat_lane *lane, uint32_t slot)
{
	/* acquire: pairs with flat_vq_phase() */
	return atomic_load_explicit(&flat_lane_slot(lane, slot)->phase, memory_order_acquire);
}

void flat_lane_slot_cut(const struct flat_lane *lane, uint32_t slot)
{
	struct flat_slot *s = flat_lane_slot(lane, slot);
	for (unsigned int d = 0; d < 2; d++)
		/* release: pairs with flat_vq_peer_prod_flags() */
		atomic_fetch_or_explicit(&s->ring[d].prod.flags, FLAT_PROD_RST | FLAT_PROD_ERROR,
					 memory_order_release);
}

int flat_lane_slot_touched(const struct flat_lane *lane, uint32_t slot, enum flat_side side)
{
	const struct flat_slot *s = flat_lane_slot(lane, slot);
	unsigned int d = (unsigned int)side;
	return atomic_load_explicit(&s->ring[d].prod.tail, memory_order_relaxed) ||
	       atomic_load_explicit(&s->ring[d ^ 1U].cons.head, memory_order_relaxed);
}

uint64_t flat_lane_total(const struct flat_lane *lane, uint32_t slot, unsigned int direction)
{
	return atomic_load_explicit(&flat_lane_slot(lane, slot)->ring[direction].prod.total,
				    memory_order_relaxed);
}
