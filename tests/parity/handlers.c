/* Handlers of signals: what a program sees of those that it set, and when they end a call. */
#include <sys/types.h>

#include "parity.h"

/* siginterrupt() is old, and used. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void first(int number)
{
	(void)number;
}

static void second(int number)
{
	(void)number;
}

static void third(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)info;
	(void)context;
}

static const char *name_of(sighandler_t handler)
{
	return handler == SIG_DFL				? "default"
	       : handler == SIG_IGN				? "ignored"
	       : handler == SIG_ERR				? "error"
	       : handler == first				? "first"
	       : handler == second				? "second"
	       : handler == (sighandler_t)(void (*)(void))third ? "third"
								: "another";
}

static void say_handler(const char *when, int number)
{
	struct sigaction sa;
	memset(&sa, 0, sizeof(sa));
	int ret = sigaction(number, NULL, &sa);
	say("%s: %d, %s, flags %#x, usr2 %d", when, ret, name_of(sa.sa_handler),
	    (unsigned int)sa.sa_flags, sigismember(&sa.sa_mask, SIGUSR2));
}

BEHAVIOUR_ALONE(handler_is_told_as_it_was_set)
{
	struct sigaction sa = {.sa_flags = SA_RESTART | SA_SIGINFO};
	struct sigaction old;
	sa.sa_sigaction = third;
	sigaddset(&sa.sa_mask, SIGUSR2);
	say_handler("before", SIGUSR1);
	DO(sigaction(SIGUSR1, &sa, NULL));
	say_handler("third", SIGUSR1);
	sa = (struct sigaction){.sa_handler = first};
	DO(sigaction(SIGUSR1, &sa, &old));
	say("old %s", name_of(old.sa_handler));
	DO(sigaction(SIGUSR1, &old, &sa));
	say("old %s", name_of(sa.sa_handler));
	say_handler("put back", SIGUSR1);
	say("signal %s", name_of(signal(SIGUSR1, second)));
	say_handler("signal", SIGUSR1);
	say("siginterrupt %d", siginterrupt(SIGUSR1, 1));
	say_handler("interrupts", SIGUSR1);
	say("signal %s", name_of(signal(SIGUSR1, first)));
	say_handler("signal again", SIGUSR1);
	say("siginterrupt %d", siginterrupt(SIGUSR1, 0));
	say("sysv %s", name_of(sysv_signal(SIGUSR1, second)));
	say_handler("sysv", SIGUSR1);
	say("ignored %s", name_of(signal(SIGUSR1, SIG_IGN)));
	say("default %s", name_of(signal(SIGUSR1, SIG_DFL)));
	say_handler("after", SIGUSR1);
}

BEHAVIOUR_ALONE(handler_that_cannot_be)
{
	struct sigaction sa = {.sa_handler = first};
	DO(sigaction(SIGKILL, &sa, NULL));
	DO(sigaction(SIGSTOP, NULL, &sa));
	say_handler("of no signal", 0);
	sa.sa_handler = second;
	DO(sigaction(0, &sa, NULL));
	DO(sigaction(-1, &sa, NULL));
	DO(sigaction(65, &sa, NULL));
	DO(sigaction(32, &sa, NULL));
	say("%s", name_of(signal(SIGKILL, first)));
	say("%s", name_of(signal(1000, first)));
	say("%s", name_of(signal(SIGUSR1, SIG_ERR)));
	DO(siginterrupt(1000, 1));
}

static struct {
	int number, signo, code, own, other, again, onstack;
} seen;
static char stack[65536];

static void look(int number, siginfo_t *info, void *context)
{
	sigset_t mask;
	char here;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	seen.number = number;
	seen.signo = info->si_signo;
	seen.code = info->si_code;
	seen.own = sigismember(&mask, number);
	seen.other = sigismember(&mask, SIGUSR2);
	seen.onstack = (uintptr_t)&here - (uintptr_t)stack < sizeof(stack);
	seen.again += context != NULL;
}

BEHAVIOUR_ALONE(handler_is_called_as_asked_for)
{
	static const unsigned int flags[] = {SA_SIGINFO, SA_SIGINFO | SA_NODEFER,
					     SA_SIGINFO | SA_ONSTACK, SA_SIGINFO | SA_RESETHAND};
	const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	union sigval value = {.sival_int = 7};
	DO(sigaltstack(&alternative, NULL));
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct sigaction sa = {.sa_flags = (int)flags[i]};
		sa.sa_sigaction = look;
		sigemptyset(&sa.sa_mask);
		if (i % 2 == 0)
			sigaddset(&sa.sa_mask, SIGUSR2);
		memset(&seen, 0, sizeof(seen));
		DO(sigaction(SIGUSR1, &sa, NULL));
		DO(i % 2 ? raise(SIGUSR1) : sigqueue(getpid(), SIGUSR1, value));
		say("number %d, signo %d, code %d, own %d, other %d, on its stack %d, context %d",
		    seen.number, seen.signo, seen.code, seen.own, seen.other, seen.onstack,
		    seen.again);
		say_handler("then", SIGUSR1);
	}
}

BEHAVIOUR_ALONE(handler_of_a_child_by_vfork)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};
	int status;
	count_signal(SIGUSR1, 0);
	pid_t pid = vfork();
	if (pid == 0) {
		sigaction(SIGUSR1, &sa, NULL);
		raise(SIGUSR1);
		_exit(3);
	}
	waitpid(pid, &status, 0);
	say("child: signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	sa.sa_handler = first;
	pid = vfork();
	if (pid == 0) {
		_exit(sigaction(SIGUSR1, &sa, NULL) == 0 ? 3 : 4);
	}
	waitpid(pid, &status, 0);
	say("child: %d", WEXITSTATUS(status));
	raise(SIGUSR1);
	say("signals %d", (int)signals_seen);
}

struct reader {
	pthread_t who;
	int peer, fd;
};

static void *signal_and_feed(void *arg)
{
	const struct reader *r = arg;
	struct pollfd p = {.fd = r->fd, .events = POLLPRI};
	/* Somebody else waits on it as well. */
	poll(&p, 1, 100);
	pthread_kill(r->who, SIGUSR1);
	let_sleep();
	send_all(r->peer, "x", 1);
	return NULL;
}

/* The one that runs decides, whatever others there are. */
BEHAVIOUR(handler_that_ran_restarts_the_call)
{
	char byte;
	int c, s;
	pair(&c, &s);
	struct reader r = {pthread_self(), c, s};
	count_signal(SIGUSR1, SA_RESTART);
	count_signal(SIGUSR2, 0);
	pthread_t t = thread(signal_and_feed, &r);
	DO(recv(s, &byte, 1, 0));
	join(t);
	say("signals %d", (int)signals_seen);
}

/* --- a server that is told to end while it goes to sleep --- */

#define TURNS 60

static int next_by_recv(int fd)
{
	(void)fd;
	return 1;
}

static int next_by_poll(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, -1);
}

static int next_by_epoll(int fd)
{
	static __thread int ep = -1;
	struct epoll_event ev = {.events = EPOLLIN};
	if (ep < 0) {
		ep = epoll_create1(0);
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	}
	return epoll_wait(ep, &ev, 1, -1);
}

struct server {
	int (*next)(int fd);
	int fd;
	_Atomic int ended;
};

static __thread _Atomic int told_to_end;

static void end(int number)
{
	(void)number;
	told_to_end = 1;
}

static void *serve(void *arg)
{
	struct server *v = arg;
	char byte;
	while (!told_to_end) {
		if (v->next(v->fd) == 1 && recv(v->fd, &byte, 1, 0) == 1)
			send_all(v->fd, &byte, 1);
	}
	v->ended = 1;
	return NULL;
}

/* How many did not end by the first signal, 0 to 20 us after their last answer. */
static void end_each(int (*next)(int fd), int c, int s)
{
	const struct timespec step = {0, 1000000};
	const struct sigaction sa = {.sa_handler = end};
	int missed = 0;
	char byte;
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < TURNS; i++) {
		struct server server = {.next = next, .fd = s};
		struct timespec begin, now;
		pthread_t t = thread(serve, &server);
		for (int k = 0; k < 20; k++) {
			send_all(c, "x", 1);
			recv(c, &byte, 1, 0);
		}
		clock_gettime(CLOCK_MONOTONIC, &begin);
		do
			clock_gettime(CLOCK_MONOTONIC, &now);
		while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec <
		       (long)i * 20000 / TURNS);
		pthread_kill(t, SIGUSR1);
		for (int ms = 1; !server.ended; ms++) {
			nanosleep(&step, NULL);
			if (ms % 1000 != 0 || server.ended)
				continue;
			missed += ms == 1000;
			pthread_kill(t, SIGUSR1);
		}
		join(t);
	}
	say("missed by %s", missed <= TURNS / 10 ? "few" : "many");
}

BEHAVIOUR(handler_ends_a_server_that_receives)
{
	int c, s;
	pair(&c, &s);
	end_each(next_by_recv, c, s);
}

BEHAVIOUR(handler_ends_a_server_that_polls)
{
	int c, s;
	pair(&c, &s);
	end_each(next_by_poll, c, s);
}

BEHAVIOUR(handler_ends_a_server_by_epoll)
{
	int c, s;
	pair(&c, &s);
	end_each(next_by_epoll, c, s);
}
