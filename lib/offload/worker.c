#include "offload/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/thread.h"

/* How long a pipe that moves nothing is still looked at, microseconds. */
#define HOT_US 100

/* --- queues between threads --- */

/* Returns true if it was empty: then somebody must be woken. */
static bool push(_Atomic(struct flat_pipe *) *queue, struct flat_pipe *p)
{
	struct flat_pipe *head = atomic_load_explicit(queue, memory_order_relaxed);
	do
		p->next = head;
	/* release: pairs with take_all(); the pipe is the other thread's from here */
	while (!atomic_compare_exchange_weak_explicit(queue, &head, p, memory_order_release,
						      memory_order_relaxed));
	return head == NULL;
}

/* All of it, oldest first. */
static struct flat_pipe *take_all(_Atomic(struct flat_pipe *) *queue)
{
	if (!atomic_load_explicit(queue, memory_order_relaxed))
		return NULL;
	/* acquire: pairs with push() */
	struct flat_pipe *p = atomic_exchange_explicit(queue, NULL, memory_order_acquire);
	struct flat_pipe *first = NULL;
	while (p) {
		struct flat_pipe *next = p->next;
		p->next = first;
		first = p;
		p = next;
	}
	return first;
}

static void ring(int fd)
{
	uint64_t one = 1;
	(void)flat_sys_write(fd, &one, sizeof(one));
}

static void on_wake(struct flat_source *source, int events)
{
	uint64_t count;
	(void)events;
	(void)flat_sys_read(source->fd, &count, sizeof(count));
}

/* --- shares --- */

bool flat_share_turn(struct flat_share *share, uint64_t round, uint32_t weight_max)
{
	int64_t quantum = (int64_t)FLAT_PIPE_CHUNK * share->weight / weight_max;
	uint64_t rounds = round - share->round;
	share->round = round;
	/* A share that was away for long has no more than one that was here all the time. */
	if (rounds <= FLAT_PIPE_CHUNK)
		share->deficit += quantum * (int64_t)rounds;
	if (rounds > FLAT_PIPE_CHUNK || share->deficit > quantum)
		share->deficit = quantum;
	return share->deficit > 0;
}

static void find_weight_max(struct flat_worker *w)
{
	const struct flat_share *s;
	w->weight_max = 1;
	TAILQ_FOREACH(s, &w->shares, link)
	{
		if (s->weight > w->weight_max)
			w->weight_max = s->weight;
	}
}

static struct flat_share *share_get(struct flat_worker *w, const struct flat_pipe *p)
{
	struct flat_share *s;
	TAILQ_FOREACH(s, &w->shares, link)
	{
		if (s->key == p->share_key)
			break;
	}
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return NULL;
		s->key = p->share_key;
		s->round = w->round;
		TAILQ_INSERT_HEAD(&w->shares, s, link);
		w->n_shares++;
	}
	s->weight = p->weight ? p->weight : 1;
	s->n_pipes++;
	find_weight_max(w);
	return s;
}

static void share_put(struct flat_worker *w, struct flat_share *s)
{
	if (!s || --s->n_pipes > 0)
		return;
	TAILQ_REMOVE(&w->shares, s, link);
	w->n_shares--;
	free(s);
	find_weight_max(w);
}

/* --- a pipe's life at its worker --- */

static void heat(struct flat_pipe *p)
{
	p->last_us = flat_now_us();
	if (p->hot)
		return;
	p->hot = true;
	TAILQ_INSERT_TAIL(&p->worker->hot, p, hot_link);
	flat_pipe_disarm(p);
}

/* What its ends moved since it was last asked. */
static void count(struct flat_worker *w, struct flat_pipe *p)
{
	uint64_t sum = atomic_load_explicit(&p->end[0].bytes, memory_order_relaxed) +
		       atomic_load_explicit(&p->end[1].bytes, memory_order_relaxed);
	/* relaxed: a count, with one writer */
	if (sum != p->counted)
		atomic_store_explicit(&w->bytes,
				      atomic_load_explicit(&w->bytes, memory_order_relaxed) + sum -
					  p->counted,
				      memory_order_relaxed);
	p->counted = sum;
}

/* Pumps, and counts what was moved. */
static size_t pump(struct flat_worker *w, struct flat_pipe *p)
{
	size_t moved = flat_pipe_pump(p, w->scratch, FLAT_PIPE_CHUNK);
	count(w, p);
	return moved;
}

static void cool(struct flat_pipe *p)
{
	flat_pipe_arm(p);
	if (pump(p->worker, p) > 0) {
		flat_pipe_disarm(p);
		return;
	}
	p->hot = false;
	TAILQ_REMOVE(&p->worker->hot, p, hot_link);
}

static void on_event(struct flat_source *source, int events)
{
	struct flat_pipe_end *e = FLAT_CONTAINER_OF(source, struct flat_pipe_end, source);
	flat_pipe_event(e, events);
	heat(e->pipe);
}

/* From a tube straight to the application, while it is the share's turn; else they wait for that. */
static size_t on_bytes(struct flat_source *source, const uint8_t *bytes, size_t len)
{
	struct flat_pipe_end *e = FLAT_CONTAINER_OF(source, struct flat_pipe_end, source);
	struct flat_pipe *p = e->pipe;
	struct flat_worker *w = p->worker;
	bool alone = w->n_shares <= 1;
	if (!alone && p->share->deficit <= 0)
		return 0;
	size_t n = flat_pipe_deliver(e, bytes, len);
	p->share->deficit -= alone ? 0 : (int64_t)n;
	count(w, p);
	return n;
}

static bool has_socket(const struct flat_pipe *p)
{
	return (p->end[0].is_tcp && !p->end[0].tube) || (p->end[1].is_tcp && !p->end[1].tube);
}

static void unwatch(struct flat_worker *w, struct flat_pipe_end *e)
{
	if (e->tube)
		flat_tube_watch(e->tube, FLAT_TUBE_NEAR, NULL);
	else
		flat_loop_del(w->loop, &e->source);
}

static int watch(struct flat_worker *w, struct flat_pipe_end *e)
{
	uint32_t events = POLLIN | POLLRDHUP | (e->is_tcp ? POLLOUT : 0U);
	if (!e->tube)
		return flat_loop_poll(w->loop, &e->source, e->source.fd, events, on_event);
	e->source.fn = on_event;
	flat_tube_watch(e->tube, FLAT_TUBE_NEAR, &e->source);
	flat_tube_sink(e->tube, FLAT_TUBE_NEAR, on_bytes);
	return 0;
}

static void finish(struct flat_worker *w, struct flat_pipe *p)
{
	struct flat_workers *all = w->all;
	if (p->hot)
		TAILQ_REMOVE(&w->hot, p, hot_link);
	p->hot = false;
	p->finished = true;
	for (int i = 0; i < 2; i++)
		unwatch(w, &p->end[i]);
	share_put(w, p->share);
	w->n_tcp -= has_socket(p);
	if (push(&all->done, p) && w != all->v)
		ring(all->done_wake.fd);
}

static void begin(struct flat_worker *w, struct flat_pipe *p)
{
	int err = 0;
	p->share = share_get(w, p);
	w->n_tcp += has_socket(p);
	for (int i = 0; i < 2 && err == 0; i++)
		err = watch(w, &p->end[i]);
	if (err != 0 || !p->share)
		finish(w, p);
	else
		heat(p);
}

/* One pipe's turn. Returns the bytes moved. */
static size_t serve(struct flat_worker *w, struct flat_pipe *p, int64_t now)
{
	size_t moved = pump(w, p);
	p->share->deficit -= (int64_t)moved;
	if (flat_pipe_over(p)) {
		finish(w, p);
	} else if (moved) {
		p->last_us = now;
		/* Behind the others, so that pipes of one share take turns too. */
		TAILQ_REMOVE(&w->hot, p, hot_link);
		TAILQ_INSERT_TAIL(&w->hot, p, hot_link);
	} else if (now - p->last_us > (w->crowded_us ? 0 : HOT_US)) {
		cool(p);
	}
	return moved;
}

/* One look at every hot pipe. Returns the bytes moved. */
static size_t look(struct flat_worker *w)
{
	struct flat_pipe *last = TAILQ_LAST(&w->hot, flat_pipes);
	struct flat_pipe *next = TAILQ_FIRST(&w->hot);
	int64_t now = last ? flat_now_us() : 0;
	size_t all = 0;
	bool waited = false;
	w->round++;
	for (struct flat_pipe *p = NULL; p != last;) {
		p = next;
		next = TAILQ_NEXT(p, hot_link);
		if (w->n_shares > 1 && !flat_share_turn(p->share, w->round, w->weight_max))
			waited = true;
		else
			all += serve(w, p, now);
	}
	if (all == 0 && waited)
		w->round += FLAT_PIPE_CHUNK + 1;
	return all;
}

bool flat_worker_turn(struct flat_worker *w)
{
	/* Several looks before the caller yields, unless each costs a system call. */
	int looks = w->taken ? FLAT_YIELD_TAKEN_LOOKS : FLAT_YIELD_LOOKS;
	for (int i = 0; i < looks && !TAILQ_EMPTY(&w->hot); i++) {
		if (look(w) > 0 || w->n_tcp > 0)
			break;
		flat_pause();
	}
	return !TAILQ_EMPTY(&w->hot);
}

void flat_worker_yield(struct flat_worker *w)
{
	int64_t before = flat_now_us();
	if (before < w->crowded_us)
		return;
	/* The yield is also when io_uring's completions of this thread are run. */
	flat_sys_yield();
	int64_t now = flat_now_us();
	w->taken = now - before > FLAT_YIELD_TAKEN_US;
	w->crowded_us =
	    now - before > FLAT_YIELD_LATE_US ? now + (now - before) * FLAT_YIELD_LATE_COST : 0;
}

/* --- threads --- */

static void take_inbox(struct flat_worker *w)
{
	struct flat_pipe *p = take_all(&w->inbox);
	while (p) {
		struct flat_pipe *next = p->next;
		begin(w, p);
		p = next;
	}
}

static void *run(void *arg)
{
	struct flat_worker *w = arg;
	/* acquire: pairs with flat_workers_close() */
	while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
		take_inbox(w);
		if (flat_worker_turn(w)) {
			flat_worker_yield(w);
			flat_loop_turn(w->loop, 0);
		} else {
			flat_loop_turn(w->loop, -1);
		}
	}
	return NULL;
}

static int open_one(struct flat_workers *all, uint32_t i, struct flat_loop *loop)
{
	struct flat_worker *w = &all->v[i];
	w->all = all;
	w->wake.fd = -1;
	w->weight_max = 1;
	TAILQ_INIT(&w->hot);
	TAILQ_INIT(&w->shares);
	w->loop = i == 0 ? loop : &w->own_loop;
	if (i == 0)
		return 0;
	int err = flat_loop_init(&w->own_loop);
	if (err != 0)
		return err;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	w->wake.fd = fd;
	err = flat_loop_poll(w->loop, &w->wake, fd, POLLIN, on_wake);
	if (err == 0)
		err = flat_thread_start(&w->thread, NULL, run, w);
	w->started = err == 0;
	return err;
}

int flat_workers_open(struct flat_workers *w, uint32_t n, struct flat_loop *loop)
{
	int err = 0;
	memset(w, 0, sizeof(*w));
	w->done_wake.fd = -1;
	w->v = calloc(n, sizeof(*w->v));
	if (!w->v)
		return -ENOMEM;
	w->n = n;
	if (n > 1) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		err = fd < 0 ? -errno : flat_loop_poll(loop, &w->done_wake, fd, POLLIN, on_wake);
	}
	for (uint32_t i = 0; i < n && err == 0; i++)
		err = open_one(w, i, loop);
	if (err != 0)
		flat_workers_close(w);
	return err;
}

static void shares_free(struct flat_worker *w)
{
	struct flat_share *s;
	while ((s = TAILQ_FIRST(&w->shares)) != NULL) {
		TAILQ_REMOVE(&w->shares, s, link);
		free(s);
	}
}

void flat_workers_close(struct flat_workers *w)
{
	for (uint32_t i = 1; i < w->n; i++) {
		struct flat_worker *one = &w->v[i];
		if (one->started) {
			/* release: pairs with run() */
			atomic_store_explicit(&one->stop, true, memory_order_release);
			ring(one->wake.fd);
			pthread_join(one->thread, NULL);
		}
		if (one->wake.fd > 0)
			close(one->wake.fd);
		if (one->loop)
			flat_loop_fini(&one->own_loop);
	}
	for (uint32_t i = 0; i < w->n; i++) {
		if (w->v[i].all)
			shares_free(&w->v[i]);
	}
	if (w->n > 1 && w->done_wake.fd >= 0)
		close(w->done_wake.fd);
	free(w->v);
	memset(w, 0, sizeof(*w));
}

void flat_worker_start(struct flat_workers *w, struct flat_pipe *p)
{
	struct flat_worker *best = &w->v[0];
	bool tube = p->end[0].tube || p->end[1].tube;
	for (uint32_t i = 1; i < w->n && !tube; i++) {
		if (w->v[i].n_pipes < best->n_pipes)
			best = &w->v[i];
	}
	p->worker = best;
	p->local = best == w->v;
	/* They are the control thread's alone. */
	for (int i = 0; i < 2 && !p->local; i++)
		flat_pipe_rest(p, i, NULL);
	best->n_pipes++;
	if (best == w->v)
		begin(best, p);
	else if (push(&best->inbox, p))
		ring(best->wake.fd);
}

struct flat_pipe *flat_workers_finished(struct flat_workers *w)
{
	if (!w->taken)
		w->taken = take_all(&w->done);
	struct flat_pipe *p = w->taken;
	if (p) {
		w->taken = p->next;
		p->worker->n_pipes--;
	}
	return p;
}

uint64_t flat_workers_bytes(const struct flat_workers *w)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < w->n; i++)
		sum += atomic_load_explicit(&w->v[i].bytes, memory_order_relaxed);
	return sum;
}
