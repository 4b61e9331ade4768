/* An application changes its words while flatd moves its bytes into a tube: its own bytes arrive, or none, and nobody else's. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "offload/pipe.h"

#define ATTEMPTS 3000
/* Bytes before the producer went over to another ring, and after it. */
#define BEFORE 30U
#define AFTER 20000U
/* Room in the tube before its end: more than BEFORE. */
#define EDGE 50U
#define MINE 0x11
#define OTHERS 0xee

static struct flat_lane lane;
static struct flat_vq vq;
static int anchor[2];
static atomic_bool over;
static uint8_t bytes[FLAT_TUBE_BYTES];
static uint8_t scratch[FLAT_PIPE_CHUNK];

static void *lie(void *arg)
{
	_Atomic uint32_t *tail = &vq.tx.ctl->prod.tail;
	(void)arg;
	while (!atomic_load_explicit(&over, memory_order_relaxed)) {
		atomic_store(tail, BEFORE);
		atomic_store(tail, BEFORE + AFTER);
	}
	return NULL;
}

static void open_lane(void)
{
	struct flat_lane_geometry geo = {4, 4096, 65536};
	int fd = flat_lane_create(&geo, 1);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_lane_map(&lane, fd, &geo, 1), 0);
	close(fd);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, anchor), 0);
	flat_vq_init(&vq, &flat_vq_shm, &lane, 0, FLAT_SIDE_CLIENT, anchor[0], anchor[0]);
}

static void write_all(size_t n)
{
	memset(bytes, MINE, n);
	cr_assert_eq(flat_ring_write(&vq.tx, bytes, n), (ssize_t)n);
}

static void tube_close(struct flat_tube *tube)
{
	flat_tube_close(tube, FLAT_TUBE_NEAR, false);
	flat_tube_close(tube, FLAT_TUBE_FAR, false);
}

/* Its buffer was another's, and has its room around the buffer's end. */
static struct flat_tube *used_tube(void)
{
	struct flat_tube *tube = flat_tube_new();
	memset(bytes, OTHERS, sizeof(bytes));
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, bytes, sizeof(bytes)), sizeof(bytes));
	tube_close(tube);
	tube = flat_tube_new();
	memset(bytes, MINE, sizeof(bytes));
	cr_assert_eq(flat_tube_send(tube, FLAT_TUBE_NEAR, bytes, sizeof(bytes) - EDGE),
		     sizeof(bytes) - EDGE);
	cr_assert_eq(flat_tube_recv(tube, FLAT_TUBE_FAR, bytes, sizeof(bytes) - EDGE - 1),
		     sizeof(bytes) - EDGE - 1);
	return tube;
}

Test(pipe_lies, a_tail_that_goes_back_and_forth_shows_nobody_elses_bytes, .timeout = 60)
{
	pthread_t liar;
	open_lane();
	cr_assert_eq(pthread_create(&liar, NULL, lie, NULL), 0);
	for (int i = 0; i < ATTEMPTS; i++) {
		struct flat_pipe *pipe = calloc(1, sizeof(*pipe));
		struct flat_tube *tube = used_tube();
		ssize_t n;
		flat_lane_slot_reset(&lane, 0);
		flat_vq_init(&vq, &flat_vq_shm, &lane, 0, FLAT_SIDE_CLIENT, anchor[0], anchor[0]);
		flat_pipe_lane(pipe, 0, &lane, 0, anchor[1]);
		flat_pipe_tube(pipe, 1, tube);
		write_all(BEFORE);
		write_all(AFTER);
		(void)flat_pipe_pump(pipe, scratch, sizeof(scratch));
		while ((n = flat_tube_recv(tube, FLAT_TUBE_FAR, bytes, sizeof(bytes))) > 0)
			cr_assert_null(memchr(bytes, OTHERS, (size_t)n), "attempt %d", i);
		flat_pipe_free(pipe);
		tube_close(tube);
	}
	atomic_store(&over, true);
	cr_assert_eq(pthread_join(liar, NULL), 0);
	flat_tubes_spare_fini();
	close(anchor[0]);
	close(anchor[1]);
}
