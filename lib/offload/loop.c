#include "offload/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload/loop_epoll.h"
#include "offload/telling.h"

#define RING_ENTRIES 4096
/* user_data of requests whose completion interests nobody (cancellations) */
#define NOBODY 0
/* In the index of user_data: an accept, whose result is a descriptor. */
#define ACCEPTED (1U << 31)

int flat_loop_init(struct flat_loop *loop)
{
	/* Completions are run at our next system call, not by an interrupt between two looks at a ring. */
	int err = io_uring_queue_init(RING_ENTRIES, &loop->ring,
				      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
	if (err == -EINVAL)
		err = io_uring_queue_init(RING_ENTRIES, &loop->ring, 0);
	loop->epoll = NULL;
	if (err < 0)
		loop->ring.ring_fd = -1;
	if (err == -EPERM || err == -ENOSYS || err == -EACCES)
		err = flat_loop_epoll_open(&loop->epoll);
	if (err < 0)
		return err;
	loop->n_late = 0;
	loop->short_told = false;
	loop->slots = NULL;
	loop->n_slots = 0;
	loop->free_head = 0;
	loop->n_ending = 0;
	return 0;
}

void flat_loop_fini(struct flat_loop *loop)
{
	while (loop->n_late > 0)
		close(loop->late[--loop->n_late]);
	flat_loop_epoll_close(loop->epoll);
	if (loop->ring.ring_fd > 0)
		io_uring_queue_exit(&loop->ring);
	free(loop->slots);
	memset(loop, 0, sizeof(*loop));
}

static void submit(struct flat_loop *loop)
{
	if (!loop->epoll)
		io_uring_submit(&loop->ring);
}

static struct io_uring_sqe *get_sqe(struct flat_loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	while (!sqe) {
		io_uring_submit(&loop->ring);
		sqe = io_uring_get_sqe(&loop->ring);
	}
	return sqe;
}

static int take_slot(struct flat_loop *loop, struct flat_source *source)
{
	if (loop->free_head == 0) {
		uint32_t n = loop->n_slots ? loop->n_slots * 2 : 64;
		struct flat_loop_slot *slots = realloc(loop->slots, n * sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		/* Slot 0 stays unused: index 0 says "not watched". */
		for (uint32_t i = loop->n_slots ? loop->n_slots : 1; i < n; i++) {
			slots[i] = (struct flat_loop_slot){.next_free = loop->free_head};
			loop->free_head = i;
		}
		loop->slots = slots;
		loop->n_slots = n;
	}
	uint32_t i = loop->free_head;
	loop->free_head = loop->slots[i].next_free;
	loop->slots[i].source = source;
	loop->slots[i].generation++;
	source->index = i;
	return 0;
}

static void give_slot(struct flat_loop *loop, struct flat_source *source)
{
	loop->n_ending -= source->ending;
	source->ending = false;
	struct flat_loop_slot *slot = &loop->slots[source->index];
	slot->source = NULL;
	slot->generation++;
	slot->next_free = loop->free_head;
	loop->free_head = source->index;
	source->index = 0;
}

static uint64_t tag(const struct flat_loop *loop, const struct flat_source *source)
{
	return ((uint64_t)loop->slots[source->index].generation << 32) |
	       (source->op == FLAT_SOURCE_ACCEPT ? ACCEPTED : 0) | source->index;
}

static int submit_source(struct flat_loop *loop, struct flat_source *source)
{
	if (loop->epoll)
		return flat_loop_epoll_watch(loop->epoll, source, tag(loop, source));
	struct io_uring_sqe *sqe = get_sqe(loop);
	if (source->op == FLAT_SOURCE_POLL)
		io_uring_prep_poll_multishot(sqe, source->fd, source->events);
	else if (source->op == FLAT_SOURCE_ONCE)
		io_uring_prep_poll_add(sqe, source->fd, source->events);
	else
		io_uring_prep_multishot_accept(sqe, source->fd, NULL, NULL,
					       SOCK_CLOEXEC | SOCK_NONBLOCK);
	io_uring_sqe_set_data64(sqe, tag(loop, source));
	return 0;
}

static bool is_short(int res)
{
	return res == -EMFILE || res == -ENFILE || res == -ENOBUFS || res == -ENOMEM;
}

static int pause_source(struct flat_loop *loop, const struct flat_source *source)
{
	static const struct __kernel_timespec pause = {.tv_nsec = FLAT_LOOP_REST_MS * 1000000LL};
	if (loop->epoll)
		return flat_loop_epoll_later(loop->epoll, tag(loop, source), -ETIME,
					     FLAT_LOOP_REST_MS);
	struct io_uring_sqe *sqe = get_sqe(loop);
	io_uring_prep_timeout(sqe, (struct __kernel_timespec *)(uintptr_t)&pause, 0, 0);
	io_uring_sqe_set_data64(sqe, tag(loop, source));
	return 0;
}

/* The one who waits would be told of again at once, and the loop do nothing else. */
static void rest(struct flat_loop *loop, struct flat_source *source, int res)
{
	/* Without memory for a pause there is none. */
	source->resting = pause_source(loop, source) == 0 || submit_source(loop, source) != 0;
	if (!loop->short_told)
		flat_tell(FLAT_LOG_ERROR, "accepts that fail", "all",
			  "no connection can be accepted: %s; tried again every %d ms%s",
			  strerror(-res), FLAT_LOOP_REST_MS,
			  res == -EMFILE ? ". Raise LimitNOFILE (ulimit -n) of flatd" : "");
	loop->short_told = true;
}

static int start(struct flat_loop *loop, struct flat_source *source, int fd, uint32_t events,
		 flat_source_fn *fn)
{
	source->fd = fd;
	source->fn = fn;
	source->events = events;
	source->resting = false;
	source->op = events ? FLAT_SOURCE_POLL : FLAT_SOURCE_ACCEPT;
	return take_slot(loop, source);
}

/* What cannot be watched has no slot. */
static int watch(struct flat_loop *loop, struct flat_source *source)
{
	int err = submit_source(loop, source);
	if (err != 0)
		give_slot(loop, source);
	return err;
}

int flat_loop_poll(struct flat_loop *loop, struct flat_source *source, int fd, uint32_t events,
		   flat_source_fn *fn)
{
	int err = start(loop, source, fd, events, fn);
	return err == 0 ? watch(loop, source) : err;
}

int flat_loop_poll_once(struct flat_loop *loop, struct flat_source *source, int fd, uint32_t events,
			flat_source_fn *fn)
{
	int err = start(loop, source, fd, events, fn);
	if (err != 0)
		return err;
	source->op = FLAT_SOURCE_ONCE;
	return watch(loop, source);
}

int flat_loop_accept(struct flat_loop *loop, struct flat_source *source, int fd, flat_source_fn *fn)
{
	int err = start(loop, source, fd, 0, fn);
	return err == 0 ? watch(loop, source) : err;
}

int flat_loop_connect(struct flat_loop *loop, struct flat_source *source, int fd,
		      const struct sockaddr *addr, socklen_t len, flat_source_fn *fn)
{
	int err = start(loop, source, fd, 0, fn);
	if (err != 0)
		return err;
	source->op = FLAT_SOURCE_CONNECT;
	if (loop->epoll) {
		err = flat_loop_epoll_connect(loop->epoll, source, tag(loop, source), addr, len);
		if (err != 0)
			give_slot(loop, source);
		return err;
	}
	struct io_uring_sqe *sqe = get_sqe(loop);
	io_uring_prep_connect(sqe, fd, addr, len);
	io_uring_sqe_set_data64(sqe, tag(loop, source));
	return 0;
}

/* Done is done: no completion says so. */
static void nobody(struct io_uring_sqe *sqe)
{
	io_uring_sqe_set_data64(sqe, NOBODY);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

/*
 * Not by poll_remove: where a poll is being woken at this very moment it fails with EALREADY, and the poll goes on, holding the
 * file, which its far end then never sees closed. A cancelled one ends, now or when its wake-up is dealt with.
 */
static void cancel(struct flat_loop *loop, const struct flat_source *source)
{
	if (loop->epoll) {
		flat_loop_epoll_unwatch(loop->epoll, source);
		return;
	}
	struct io_uring_sqe *sqe = get_sqe(loop);
	io_uring_prep_cancel64(sqe, tag(loop, source), 0);
	nobody(sqe);
}

void flat_loop_del(struct flat_loop *loop, struct flat_source *source)
{
	if (source->index == 0)
		return;
	cancel(loop, source);
	/* Now, while the descriptor is open: a poll holds the file, and its far end must see the close. */
	submit(loop);
	give_slot(loop, source);
}

void flat_loop_accept_end(struct flat_loop *loop, struct flat_source *source)
{
	if (source->index == 0 || source->ending)
		return;
	source->ending = true;
	loop->n_ending++;
	cancel(loop, source);
	submit(loop);
	close(source->fd);
	source->fd = -1;
	/* The last word, which a cancelled accept of io_uring says itself. */
	if (loop->epoll &&
	    flat_loop_epoll_later(loop->epoll, tag(loop, source), -ECANCELED, 0) != 0)
		give_slot(loop, source);
}

void flat_loop_close_fd(struct flat_loop *loop, int fd)
{
	if (loop->epoll) {
		close(fd);
		return;
	}
	struct io_uring_sqe *sqe = get_sqe(loop);
	io_uring_prep_close(sqe, fd);
	nobody(sqe);
}

static void unwatch(struct flat_loop *loop, struct flat_source *source)
{
	if (source->index == 0)
		return;
	cancel(loop, source);
	give_slot(loop, source);
}

void flat_loop_close(struct flat_loop *loop, struct flat_source *source)
{
	unwatch(loop, source);
	if (source->fd < 0)
		return;
	/* In order, both with the next submission: a poll holds the file, and its far end must see the close. */
	flat_loop_close_fd(loop, source->fd);
	source->fd = -1;
}

struct flat_source *flat_loop_source(const struct flat_loop *loop, uint64_t data)
{
	uint32_t i = (uint32_t)data & ~ACCEPTED;
	if (data == NOBODY || i >= loop->n_slots ||
	    loop->slots[i].generation != (uint32_t)(data >> 32))
		return NULL;
	return loop->slots[i].source;
}

static void close_late(struct flat_loop *loop)
{
	while (loop->n_late > 0)
		flat_loop_close_fd(loop, loop->late[--loop->n_late]);
}

void flat_loop_close_late(struct flat_loop *loop, struct flat_source *source)
{
	unwatch(loop, source);
	if (source->fd < 0)
		return;
	if (loop->n_late == FLAT_LOOP_LATE)
		close_late(loop);
	loop->late[loop->n_late++] = source->fd;
	source->fd = -1;
}

void flat_loop_dispatch(struct flat_loop *loop, uint64_t data, int res, bool more)
{
	struct flat_source *source = flat_loop_source(loop, data);
	/* Accepted before nobody wanted it any more. */
	if (!source && data != NOBODY && (data & ACCEPTED) && res >= 0)
		close(res);
	if (!source)
		return;
	if (source->op == FLAT_SOURCE_ACCEPT && res >= 0)
		loop->short_told = false;
	if (source->resting && !source->ending) {
		source->resting = false;
		if (submit_source(loop, source) != 0)
			rest(loop, source, -ENOMEM);
		return;
	}
	if (source->op == FLAT_SOURCE_CONNECT || source->op == FLAT_SOURCE_ONCE ||
	    (source->ending && !more)) {
		if (source->op == FLAT_SOURCE_ONCE && res < 0)
			res = POLLHUP;
		give_slot(loop, source);
	} else if (!more) {
		bool poll = source->op == FLAT_SOURCE_POLL;
		if (source->op == FLAT_SOURCE_ACCEPT && is_short(res))
			rest(loop, source, res);
		else if (res == -EBADF || res == -EINVAL || res == -ECANCELED)
			res = poll ? POLLHUP : res;
		else if (!(poll && (res < 0 || (res & POLLNVAL))))
			(void)submit_source(loop, source);
	}
	source->fn(source, res);
}

uint32_t flat_loop_turn(struct flat_loop *loop, int wait_ms)
{
	uint32_t handled = 0;
	if (loop->epoll) {
		if (wait_ms != 0)
			close_late(loop);
		return flat_loop_epoll_turn(loop->epoll, loop, wait_ms);
	}
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts = {.tv_sec = wait_ms / 1000,
				       .tv_nsec = (long long)(wait_ms % 1000) * 1000000};
	if (wait_ms != 0)
		close_late(loop);
	if (wait_ms == 0)
		io_uring_submit(&loop->ring);
	else
		(void)io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1,
						       wait_ms < 0 ? NULL : &ts, NULL);
	for (uint32_t n = 0; n < RING_ENTRIES && io_uring_peek_cqe(&loop->ring, &cqe) == 0; n++) {
		uint64_t data = io_uring_cqe_get_data64(cqe);
		int res = cqe->res;
		uint32_t flags = cqe->flags;
		io_uring_cqe_seen(&loop->ring, cqe);
		handled += data != NOBODY;
		flat_loop_dispatch(loop, data, res, flags & IORING_CQE_F_MORE);
	}
	return handled;
}
