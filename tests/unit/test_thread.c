/* A thread and its owner that part: whoever is the last frees, once. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"

#define LONG_MS 60000

struct shared {
	pthread_t thread;
	pthread_mutex_t lock;
	struct flat_thread_end end;
	int gate;  /* the thread is held until it can be read */
	int freed; /* where whoever frees says so, by a byte */
};

static void let_go(struct shared *s, const char *who)
{
	cr_assert_eq(write(s->freed, who, 1), 1);
	pthread_mutex_destroy(&s->lock);
	close(s->gate);
	free(s);
}

static void *run(void *arg)
{
	struct shared *s = arg;
	char c;
	cr_assert_eq(read(s->gate, &c, 1), 1);
	if (flat_thread_over(&s->lock, &s->end))
		let_go(s, "t");
	return NULL;
}

/* Starts the thread; *gate lets it end, *freed says who has freed. */
static struct shared *started(int *gate, int *freed)
{
	struct shared *s = calloc(1, sizeof(*s));
	int in[2];
	int out[2];
	cr_assert(s && pipe(in) == 0 && pipe(out) == 0);
	pthread_mutex_init(&s->lock, NULL);
	s->gate = in[0];
	s->freed = out[1];
	*gate = in[1];
	*freed = out[0];
	cr_assert_eq(flat_thread_start(&s->thread, NULL, run, s), 0);
	return s;
}

static char who_freed(int freed)
{
	struct pollfd p = {.fd = freed, .events = POLLIN};
	char c = 0;
	cr_assert_eq(poll(&p, 1, LONG_MS), 1, "nobody");
	cr_assert_eq(read(freed, &c, 1), 1);
	return c;
}

Test(thread, one_that_ends_in_time_is_its_owners_to_free, .timeout = 120)
{
	int gate;
	int freed;
	struct shared *s = started(&gate, &freed);
	cr_assert_eq(write(gate, "x", 1), 1);
	cr_assert(flat_thread_leave(s->thread, &s->lock, &s->end, LONG_MS));
	cr_expect(s->end.over && !s->end.left);
	let_go(s, "o");
	cr_expect_eq(who_freed(freed), 'o');
}

Test(thread, one_that_is_left_frees_when_it_ends, .timeout = 120)
{
	int gate;
	int freed;
	struct shared *s = started(&gate, &freed);
	struct pollfd p = {.fd = freed, .events = POLLIN};
	cr_assert_not(flat_thread_leave(s->thread, &s->lock, &s->end, 1));
	cr_expect_eq(poll(&p, 1, 0), 0, "not before its end");
	cr_assert_eq(write(gate, "x", 1), 1);
	cr_expect_eq(who_freed(freed), 't');
}

/* Whether the thread or its owner is first is by chance here: one of them frees, and it is never both. */
Test(thread, one_of_them_frees_whoever_is_first, .timeout = 120)
{
	for (int i = 0; i < 300; i++) {
		int gate;
		int freed;
		struct shared *s = started(&gate, &freed);
		struct pollfd p = {.fd = freed, .events = POLLIN};
		int out = s->freed;
		cr_assert_eq(write(gate, "x", 1), 1);
		bool ours = flat_thread_leave(s->thread, &s->lock, &s->end, 0);
		if (ours)
			let_go(s, "o");
		cr_expect_eq(who_freed(freed), ours ? 'o' : 't');
		cr_expect_eq(poll(&p, 1, 0), 0, "twice");
		close(gate);
		close(freed);
		close(out);
	}
}

static void *mask_of(void *arg)
{
	pthread_sigmask(SIG_SETMASK, NULL, arg);
	return NULL;
}

Test(thread, it_takes_no_signals_and_its_maker_still_does)
{
	sigset_t there;
	sigset_t here;
	pthread_t thread;
	sigemptyset(&there);
	cr_assert_eq(flat_thread_start(&thread, NULL, mask_of, &there), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &here);
	cr_expect(sigismember(&there, SIGTERM) == 1 && sigismember(&there, SIGCHLD) == 1);
	cr_expect(sigismember(&here, SIGTERM) == 0 && sigismember(&here, SIGCHLD) == 0);
}
