/* Signals, jumps and cancellation in blocking calls. */
#include <setjmp.h>

#include "parity.h"

static char buf[256];
static sigjmp_buf out_of;

struct target {
	pthread_t who;
	int fd;
};

static void *signal_later(void *arg)
{
	let_sleep();
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void *signal_then_send(void *arg)
{
	struct target *t = arg;
	let_sleep();
	pthread_kill(t->who, SIGUSR1);
	let_sleep();
	send_all(t->fd, "x", 1);
	return NULL;
}

BEHAVIOUR(signal_interrupts_recv)
{
	int c, s;
	pthread_t me = pthread_self();
	pair(&c, &s);
	count_signal(SIGUSR1, 0);
	pthread_t t = thread(signal_later, &me);
	DO(recv(s, buf, 1, 0));
	join(t);
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(signal_restarts_recv)
{
	int c, s;
	pair(&c, &s);
	struct target x = {pthread_self(), c};
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_then_send, &x);
	DO(recv(s, buf, 1, 0));
	join(t);
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(signal_restarts_read)
{
	int c, s;
	pair(&c, &s);
	struct target x = {pthread_self(), c};
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_then_send, &x);
	DO(read(s, buf, 1));
	join(t);
}

BEHAVIOUR(signal_no_restart_with_timeout)
{
	int c, s;
	struct timeval tv = {5, 0};
	pthread_t me = pthread_self();
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_later, &me);
	DO(recv(s, buf, 1, 0));
	join(t);
}

BEHAVIOUR(signal_interrupts_send)
{
	int c, s;
	pthread_t me = pthread_self();
	pair(&c, &s);
	fill(c);
	count_signal(SIGUSR1, 0);
	pthread_t t = thread(signal_later, &me);
	DO(send(c, buf, 100, 0));
	join(t);
}

static void *signal_then_drain(void *arg)
{
	struct target *t = arg;
	static char block[65536];
	let_sleep();
	pthread_kill(t->who, SIGUSR1);
	let_sleep();
	for (int i = 0; i < 200; i++) {
		if (recv(t->fd, block, sizeof(block), MSG_DONTWAIT) < 0)
			pause_ms(2);
	}
	return NULL;
}

BEHAVIOUR(signal_restarts_send)
{
	int c, s;
	pair(&c, &s);
	fill(c);
	struct target x = {pthread_self(), s};
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_then_drain, &x);
	DO(send(c, buf, 100, 0));
	join(t);
}

BEHAVIOUR(signal_interrupts_send_timeout)
{
	int c, s;
	struct timeval tv = {5, 0};
	pthread_t me = pthread_self();
	pair(&c, &s);
	fill(c);
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_later, &me);
	DO(send(c, buf, 100, 0));
	join(t);
}

BEHAVIOUR(signal_interrupts_poll)
{
	int c, s;
	pthread_t me = pthread_self();
	pair(&c, &s);
	struct pollfd p = {.fd = s, .events = POLLIN};
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_later, &me);
	DO(poll(&p, 1, 5000));
	join(t);
}

BEHAVIOUR(signal_interrupts_select)
{
	int c, s;
	pthread_t me = pthread_self();
	fd_set set;
	pair(&c, &s);
	FD_ZERO(&set);
	FD_SET(s, &set);
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_later, &me);
	DO(select(s + 1, &set, NULL, NULL, &(struct timeval){5, 0}));
	say("set untouched %d", FD_ISSET(s, &set) != 0);
	join(t);
}

BEHAVIOUR(signal_interrupts_epoll)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	pthread_t me = pthread_self();
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(signal_later, &me);
	DO(epoll_wait(e, &ev, 1, 5000));
	join(t);
}

BEHAVIOUR(signal_ignored_does_not_interrupt)
{
	int c, s;
	pair(&c, &s);
	struct target x = {pthread_self(), c};
	signal(SIGUSR1, SIG_IGN);
	pthread_t t = thread(signal_then_send, &x);
	DO(recv(s, buf, 1, 0));
	join(t);
}

static void jump(int number)
{
	(void)number;
	siglongjmp(out_of, 1);
}

BEHAVIOUR(signal_jumps_out_of_recv)
{
	int c, s;
	pthread_t me = pthread_self();
	struct sigaction sa = {.sa_handler = jump};
	pair(&c, &s);
	sigaction(SIGUSR1, &sa, NULL);
	pthread_t t = thread(signal_later, &me);
	if (sigsetjmp(out_of, 1) == 0)
		DO(recv(s, buf, 1, 0));
	else
		say("jumped");
	join(t);
	send_all(c, "x", 1);
	DO(recv(s, buf, 1, 0));
	send_all(s, "y", 1);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(signal_jumps_out_of_send)
{
	int c, s;
	pthread_t me = pthread_self();
	struct sigaction sa = {.sa_handler = jump};
	pair(&c, &s);
	size_t n = fill(c);
	sigaction(SIGUSR1, &sa, NULL);
	pthread_t t = thread(signal_later, &me);
	if (sigsetjmp(out_of, 1) == 0)
		DO(send(c, buf, 100, 0));
	else
		say("jumped");
	join(t);
	say("drained %d", drain(s, n) == n);
	DO(send(c, "x", 1, 0));
	DO(recv(s, buf, 1, 0));
}

BEHAVIOUR(signal_jumps_out_of_poll)
{
	int c, s;
	pthread_t me = pthread_self();
	struct sigaction sa = {.sa_handler = jump};
	pair(&c, &s);
	struct pollfd p = {.fd = s, .events = POLLIN};
	sigaction(SIGUSR1, &sa, NULL);
	pthread_t t = thread(signal_later, &me);
	if (sigsetjmp(out_of, 1) == 0)
		DO(poll(&p, 1, 5000));
	else
		say("jumped");
	join(t);
	send_all(c, "x", 1);
	DO(poll(&p, 1, 5000));
}

BEHAVIOUR(signal_jumps_out_of_epoll)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	pthread_t me = pthread_self();
	struct sigaction sa = {.sa_handler = jump};
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	sigaction(SIGUSR1, &sa, NULL);
	pthread_t t = thread(signal_later, &me);
	if (sigsetjmp(out_of, 1) == 0)
		DO(epoll_wait(e, &ev, 1, 5000));
	else
		say("jumped");
	join(t);
	send_all(c, "x", 1);
	DO(epoll_wait(e, &ev, 1, 5000));
}

static int handler_fd, handler_peer;

static void use_socket(int number)
{
	char b = 0;
	(void)number;
	send(handler_peer, "h", 1, MSG_NOSIGNAL);
	recv(handler_fd, &b, 1, 0);
	signals_seen += b == 'h';
}

BEHAVIOUR(signal_handler_uses_other_socket)
{
	int c, s, d, t2;
	pthread_t me = pthread_self();
	struct sigaction sa = {.sa_handler = use_socket};
	pair(&c, &s);
	pair(&d, &t2);
	handler_fd = t2;
	handler_peer = d;
	sigaction(SIGUSR1, &sa, NULL);
	pthread_t t = thread(signal_later, &me);
	DO(recv(s, buf, 1, 0));
	say("handler %d", (int)signals_seen);
	join(t);
}

static void send_here(int number)
{
	(void)number;
	send(handler_peer, "h", 1, MSG_NOSIGNAL);
}

BEHAVIOUR(signal_handler_feeds_the_reader)
{
	int c, s;
	pthread_t me = pthread_self();
	struct sigaction sa = {.sa_handler = send_here, .sa_flags = SA_RESTART};
	pair(&c, &s);
	handler_peer = c;
	sigaction(SIGUSR1, &sa, NULL);
	pthread_t t = thread(signal_later, &me);
	DO(recv(s, buf, 1, 0));
	join(t);
}

static void *block_in_recv(void *arg)
{
	char b;
	recv(*(int *)arg, &b, 1, 0);
	return NULL;
}

static void *block_in_read(void *arg)
{
	char b;
	if (read(*(int *)arg, &b, 1) < 0)
		return NULL;
	return NULL;
}

static void *block_in_send(void *arg)
{
	static char block[100000];
	for (;;) {
		if (send(*(int *)arg, block, sizeof(block), MSG_NOSIGNAL) < 0)
			return NULL;
	}
}

static void *block_in_poll(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};
	poll(&p, 1, -1);
	return NULL;
}

static void *block_in_epoll(void *arg)
{
	struct epoll_event ev;
	epoll_wait(*(int *)arg, &ev, 1, -1);
	return NULL;
}

static void cancel(void *(*fn)(void *), int fd)
{
	pthread_t t = thread(fn, &fd);
	let_sleep();
	pthread_cancel(t);
	join(t);
}

BEHAVIOUR(signal_cancel_recv)
{
	int c, s;
	pair(&c, &s);
	cancel(block_in_recv, s);
	send_all(c, "x", 1);
	DO(recv(s, buf, 1, 0));
}

BEHAVIOUR(signal_cancel_read)
{
	int c, s;
	pair(&c, &s);
	cancel(block_in_read, s);
	send_all(c, "x", 1);
	DO(read(s, buf, 1));
}

BEHAVIOUR(signal_cancel_send)
{
	int c, s;
	pair(&c, &s);
	cancel(block_in_send, c);
	set_nonblock(s);
	for (int i = 0; i < 200; i++) {
		if (recv(s, buf, sizeof(buf), 0) < 0)
			break;
	}
	DO(send(s, "x", 1, 0));
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(signal_cancel_poll)
{
	int c, s;
	pair(&c, &s);
	cancel(block_in_poll, s);
	send_all(c, "x", 1);
	DO(recv(s, buf, 1, 0));
}

BEHAVIOUR(signal_cancel_epoll)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	cancel(block_in_epoll, e);
	send_all(c, "x", 1);
	DO(epoll_wait(e, &ev, 1, 1000));
}

/* Of the kernel's alone. */
BEHAVIOUR_ALONE(signal_cancel_epoll_empty)
{
	struct epoll_event ev;
	int e = epoll_create1(0);
	cancel(block_in_epoll, e);
	DO(epoll_wait(e, &ev, 1, 0));
}

static void *cancelled_before_recv(void *arg)
{
	char b;
	pthread_cancel(pthread_self());
	recv(*(int *)arg, &b, 1, MSG_DONTWAIT);
	say("recv is a cancellation point");
	return NULL;
}

static void *cancelled_before_send(void *arg)
{
	pthread_cancel(pthread_self());
	send(*(int *)arg, "x", 1, 0);
	say("went on");
	return NULL;
}

BEHAVIOUR(signal_cancel_pending)
{
	int c, s;
	pair(&c, &s);
	join(thread(cancelled_before_recv, &c));
	join(thread(cancelled_before_send, &c));
	DO(recv(s, buf, 1, MSG_DONTWAIT));
}

static void *cancel_disabled(void *arg)
{
	char b;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	ssize_t n = recv(*(int *)arg, &b, 1, 0);
	say("received %zd", n);
	return NULL;
}

BEHAVIOUR(signal_cancel_disabled)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(cancel_disabled, &s);
	let_sleep();
	pthread_cancel(t);
	let_sleep();
	send_all(c, "x", 1);
	join(t);
}

BEHAVIOUR(signal_alarm_in_recv)
{
	int c, s;
	pair(&c, &s);
	count_signal(SIGALRM, 0);
	alarm(1);
	DO(recv(s, buf, 1, 0));
	say("signals %d", (int)signals_seen);
}

/* --- signals at any time of a wait --- */

#define TURNS 100
struct turn {
	int (*wait)(int fd);
	int fd;
	_Atomic int begins, ended;
	bool interrupted;
};

/* A thread of its own for each wait: what one learned of waiting is not the next one's. */
static void *wait_once(void *arg)
{
	struct turn *t = arg;
	t->begins = 1;
	t->interrupted = t->wait(t->fd) == -1 && errno == EINTR;
	t->ended = 1;
	return NULL;
}

/* Signals from a few microseconds after the call on. How many waits the first one did not end: a few, where it came before. */
static void interrupt_each(int (*wait)(int fd), int fd)
{
	struct timespec step = {0, 1000000};
	int interrupted = 0;
	int missed = 0;
	count_signal(SIGUSR1, 0);
	for (int i = 0; i < TURNS; i++) {
		struct turn turn = {.wait = wait, .fd = fd};
		pthread_t t = thread(wait_once, &turn);
		while (!turn.begins)
			sched_yield();
		for (int k = 0; k < 20 + i; k++)
			sched_yield();
		pthread_kill(t, SIGUSR1);
		for (int ms = 1; !turn.ended; ms++) {
			nanosleep(&step, NULL);
			if (ms % 20 != 0 || turn.ended)
				continue;
			missed += ms == 20;
			pthread_kill(t, SIGUSR1);
		}
		join(t);
		interrupted += turn.interrupted;
	}
	say("interrupted %d, at once %s", interrupted, missed < TURNS / 3 ? "mostly" : "seldom");
}

static int wait_recv(int fd)
{
	return (int)recv(fd, buf, 1, 0);
}

static int wait_poll(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, -1);
}

static int wait_epoll(int fd)
{
	struct epoll_event ev;
	return epoll_wait(fd, &ev, 1, -1);
}

static int wait_accept(int fd)
{
	return accept(fd, NULL, NULL);
}

BEHAVIOUR(signal_at_any_time_of_recv)
{
	int c, s;
	pair(&c, &s);
	interrupt_each(wait_recv, s);
}

BEHAVIOUR(signal_at_any_time_of_poll)
{
	int c, s;
	pair(&c, &s);
	interrupt_each(wait_poll, s);
}

BEHAVIOUR(signal_at_any_time_of_epoll)
{
	int c, s;
	struct epoll_event ev = {.events = EPOLLIN};
	pair(&c, &s);
	int ep = epoll_create1(0);
	DO(epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev));
	interrupt_each(wait_epoll, ep);
}

BEHAVIOUR_ALONE(signal_at_any_time_of_accept)
{
	int l = listener(0);
	interrupt_each(wait_accept, l);
}
