/* What handlers mean for a call that waits. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>

#include <flat/unstable/preload.h>

#include "host/host.h"

static void handler(int number)
{
	(void)number;
}

static void set(int number, void (*how)(int), int flags)
{
	const struct sigaction sa = {.sa_handler = how, .sa_flags = flags};
	cr_assert_eq(sigaction(number, &sa, NULL), 0);
}

#define BIT(number) (UINT64_C(1) << ((number)-1))

Test(signals, mean_what_the_kernel_would_make_of_their_handlers)
{
	set(SIGUSR1, handler, SA_RESTART);
	set(SIGUSR2, handler, 0);
	set(SIGHUP, SIG_IGN, 0);
	set(SIGCHLD, SIG_DFL, 0);
	cr_expect_eq(flat_signals_do(0), FLAT_SIGNALS_NONE);
	cr_expect_eq(flat_signals_do(BIT(SIGHUP) | BIT(SIGCHLD)), FLAT_SIGNALS_NONE);
	cr_expect_eq(flat_signals_do(BIT(SIGUSR1) | BIT(SIGHUP)), FLAT_SIGNALS_RESTART);
	cr_expect_eq(flat_signals_do(BIT(SIGUSR1) | BIT(SIGUSR2)), FLAT_SIGNALS_INTERRUPT);
}

static void *elsewhere(void *arg)
{
	struct flat_ran *then = arg;
	flat_handler_ran(0);
	*then = flat_signals_ran();
	return NULL;
}

Test(signals, that_were_told_of_count_for_their_thread_since_the_call_began)
{
	struct flat_ran other;
	pthread_t t;
	flat_handler_ran(0);
	struct flat_ran then = flat_signals_ran();
	cr_expect_eq(flat_signals_since(&then), FLAT_SIGNALS_NONE);
	flat_handler_ran(1);
	cr_expect_eq(flat_signals_since(&then), FLAT_SIGNALS_RESTART);
	cr_assert_eq(pthread_create(&t, NULL, elsewhere, &other), 0);
	pthread_join(t, NULL);
	cr_expect_eq(flat_signals_since(&then), FLAT_SIGNALS_RESTART, "another thread's");
	cr_expect_eq(other.interrupts, 1);
	flat_handler_ran(0);
	cr_expect_eq(flat_signals_since(&then), FLAT_SIGNALS_INTERRUPT);
	then = flat_signals_ran();
	cr_expect_eq(flat_signals_since(&then), FLAT_SIGNALS_NONE);
}
