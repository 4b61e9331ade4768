/* poll, select, ppoll, pselect and several waiters at once. */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "parity.h"

static char buf[256];

static int select_of(int fd, long ms, bool r, bool w, bool x)
{
	fd_set rs, ws, xs;
	struct timeval tv = {ms / 1000, ms % 1000 * 1000};
	FD_ZERO(&rs);
	FD_ZERO(&ws);
	FD_ZERO(&xs);
	if (r)
		FD_SET(fd, &rs);
	if (w)
		FD_SET(fd, &ws);
	if (x)
		FD_SET(fd, &xs);
	int n = select(fd + 1, &rs, &ws, &xs, ms < 0 ? NULL : &tv);
	say("select %d: %s%s%s", n, FD_ISSET(fd, &rs) ? "r" : "-", FD_ISSET(fd, &ws) ? "w" : "-",
	    FD_ISSET(fd, &xs) ? "x" : "-");
	return n;
}

BEHAVIOUR(ready_states)
{
	int u = tcp(0), l = listener(1), c, s;
	say_mask("unconnected", u);
	say_mask("listening", l);
	pair(&c, &s);
	say_mask("connected", c);
	say_mask("accepted", s);
	send_all(c, "x", 1);
	await(s, POLLIN);
	say_mask("data", s);
}

BEHAVIOUR(ready_select)
{
	int c, s;
	pair(&c, &s);
	select_of(s, 0, true, true, true);
	send_all(c, "x", 1);
	await(s, POLLIN);
	select_of(s, 0, true, true, true);
	recv(s, buf, 1, 0);
	close(c);
	await(s, POLLIN);
	select_of(s, 0, true, true, true);
	select_of(s, 50, false, false, true);
}

BEHAVIOUR(ready_select_reset)
{
	int c, s;
	struct linger hard = {1, 0};
	pair(&c, &s);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(c);
	await(s, POLLHUP);
	select_of(s, 0, true, true, true);
}

BEHAVIOUR(ready_select_errors)
{
	int c, s;
	fd_set set;
	struct timeval bad = {-1, 0};
	pair(&c, &s);
	FD_ZERO(&set);
	FD_SET(s, &set);
	DO(select(-1, &set, NULL, NULL, NULL));
	DO(select(s + 1, &set, NULL, NULL, &bad));
	close(s);
	struct timeval now = {0, 0};
	DO(select(s + 1, &set, NULL, NULL, &now));
	DO(select(0, NULL, NULL, NULL, &now));
}

BEHAVIOUR_ALONE(ready_select_by_number_unmapped)
{
	void *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	DO(syscall(SYS_select, 1, NULL, NULL, NULL, none) < 0 ? -errno : 0);
	DO(syscall(SYS_select, 1, none, NULL, NULL, NULL) < 0 ? -errno : 0);
}

BEHAVIOUR(ready_select_timeout_is_updated)
{
	int c, s;
	fd_set set;
	struct timeval tv = {0, 80000};
	pair(&c, &s);
	FD_ZERO(&set);
	FD_SET(s, &set);
	long begin = now_ms();
	DO(select(s + 1, &set, NULL, NULL, &tv));
	say_elapsed(begin, 80);
	say("left %ld %ld", (long)tv.tv_sec, (long)tv.tv_usec);
	send_all(c, "x", 1);
	await(s, POLLIN);
	FD_SET(s, &set);
	tv.tv_sec = 10;
	DO(select(s + 1, &set, NULL, NULL, &tv));
	say("left %d", tv.tv_sec >= 9);
}

BEHAVIOUR(ready_poll_events_zero)
{
	int c, s;
	struct pollfd p;
	pair(&c, &s);
	send_all(c, "x", 1);
	await(s, POLLIN);
	p = (struct pollfd){.fd = s};
	DO(poll(&p, 1, 30));
	close(c);
	await(s, POLLRDHUP);
	DO(poll(&p, 1, 30));
	say("revents %#x", (unsigned)p.revents);
	shutdown(s, SHUT_WR);
	await(s, POLLHUP);
	char names[128];
	DO(poll(&p, 1, 1000));
	say("%s", poll_names((unsigned)p.revents, names));
}

BEHAVIOUR(ready_poll_errors)
{
	int c, s;
	struct pollfd p[4];
	pair(&c, &s);
	p[0] = (struct pollfd){.fd = -1, .events = POLLIN, .revents = 5};
	p[1] = (struct pollfd){.fd = 900, .events = POLLIN};
	p[2] = (struct pollfd){.fd = c, .events = POLLOUT};
	p[3] = (struct pollfd){.fd = -7, .events = POLLOUT, .revents = 6};
	DO(poll(p, 4, 0));
	for (int i = 0; i < 4; i++) {
		char names[128];
		say("%d %s", i, poll_names((unsigned)p[i].revents, names));
	}
	DO(poll(p, 1, 20));
	DO(poll(NULL, 0, 20));
	DO(poll(NULL, 1, 0));
	struct timespec bad = {-1, 0}, bad2 = {0, 2000000000};
	DO(ppoll(p, 4, &bad, NULL));
	DO(ppoll(p, 4, &bad2, NULL));
}

BEHAVIOUR(ready_poll_timeout)
{
	int c, s;
	struct pollfd p;
	pair(&c, &s);
	p = (struct pollfd){.fd = s, .events = POLLIN};
	long begin = now_ms();
	DO(poll(&p, 1, 90));
	say_elapsed(begin, 90);
}

BEHAVIOUR(ready_poll_mixed)
{
	int c, s, pipes[2];
	pair(&c, &s);
	DO(pipe(pipes));
	struct pollfd p[3] = {{.fd = s, .events = POLLIN},
			      {.fd = pipes[0], .events = POLLIN},
			      {.fd = c, .events = POLLIN}};
	DO(poll(p, 3, 20));
	send_all(pipes[1] >= 0 ? c : c, "x", 1);
	await(s, POLLIN);
	if (write(pipes[1], "y", 1) != 1)
		say("pipe");
	DO(poll(p, 3, 1000));
	for (int i = 0; i < 3; i++)
		say("%d: %#x", i, (unsigned)p[i].revents);
}

BEHAVIOUR(ready_poll_same_twice)
{
	int c, s;
	pair(&c, &s);
	struct pollfd p[2] = {{.fd = c, .events = POLLIN}, {.fd = c, .events = POLLOUT}};
	DO(poll(p, 2, 1000));
	say("%#x %#x", (unsigned)p[0].revents, (unsigned)p[1].revents);
}

static void *write_pipe_later(void *arg)
{
	let_sleep();
	if (write(*(int *)arg, "p", 1) != 1)
		say("pipe");
	return NULL;
}

BEHAVIOUR(ready_poll_woken_by_pipe)
{
	int c, s, pipes[2];
	pair(&c, &s);
	DO(pipe(pipes));
	struct pollfd p[2] = {{.fd = s, .events = POLLIN}, {.fd = pipes[0], .events = POLLIN}};
	pthread_t t = thread(write_pipe_later, &pipes[1]);
	DO(poll(p, 2, 5000));
	say("%#x %#x", (unsigned)p[0].revents, (unsigned)p[1].revents);
	join(t);
}

static void *send_later(void *arg)
{
	let_sleep();
	send_all(*(int *)arg, "x", 1);
	return NULL;
}

BEHAVIOUR(ready_poll_woken_by_data)
{
	int c, s;
	pair(&c, &s);
	struct pollfd p = {.fd = s, .events = POLLIN};
	pthread_t t = thread(send_later, &c);
	DO(poll(&p, 1, 5000));
	say("%#x", (unsigned)p.revents);
	join(t);
}

BEHAVIOUR(ready_select_woken_by_data)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(send_later, &c);
	select_of(s, 5000, true, false, true);
	join(t);
}

static void *connect_later(void *arg)
{
	(void)arg;
	let_sleep();
	reach(0);
	return NULL;
}

BEHAVIOUR(ready_poll_woken_by_connection)
{
	int l = listener(0);
	struct pollfd p = {.fd = l, .events = POLLIN};
	pthread_t t = thread(connect_later, NULL);
	DO(poll(&p, 1, 5000));
	say("%#x", (unsigned)p.revents);
	/* Its number depends on what the other thread has open at the moment. */
	say("accepted %d", accept(l, NULL, NULL) >= 0);
	join(t);
}

static void *poll_in(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = POLLIN | POLLRDHUP};
	int n = poll(&p, 1, 5000);
	say("poll %d %#x", n, (unsigned)p.revents);
	return NULL;
}

static void *poll_out(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = POLLOUT};
	int n = poll(&p, 1, 5000);
	say("poll for room %d %#x", n, (unsigned)p.revents);
	return NULL;
}

static void *recv_one(void *arg)
{
	char b[4];
	ssize_t n = recv(*(int *)arg, b, sizeof(b), 0);
	say("recv %zd", n);
	return NULL;
}

BEHAVIOUR(ready_poll_in_two_threads)
{
	int c, s;
	pair(&c, &s);
	pthread_t a = thread(poll_in, &s), b = thread(poll_in, &s);
	let_sleep();
	send_all(c, "x", 1);
	join(a);
	join(b);
}

BEHAVIOUR(ready_recv_and_poll_room)
{
	/* One waits for bytes, one for room on the same socket: each gets its own. */
	int c, s;
	pair(&c, &s);
	size_t n = fill(c);
	pthread_t a = thread(recv_one, &c);
	pthread_t b = thread(poll_out, &c);
	let_sleep();
	say("drained %d", drain(s, n) == n);
	join(b);
	send_all(s, "x", 1);
	join(a);
}

BEHAVIOUR(ready_recv_first_then_poll_room)
{
	int c, s;
	pair(&c, &s);
	size_t n = fill(c);
	pthread_t a = thread(poll_out, &c);
	pthread_t b = thread(recv_one, &c);
	let_sleep();
	send_all(s, "x", 1);
	join(b);
	say("drained %d", drain(s, n) == n);
	join(a);
}

static void *send_block(void *arg)
{
	static char block[100000];
	send_all(*(int *)arg, block, sizeof(block));
	say("sent");
	return NULL;
}

BEHAVIOUR(ready_send_and_recv_on_one_socket)
{
	/* One thread sleeps in send, another in recv, on the same socket. */
	int c, s;
	pair(&c, &s);
	size_t n = fill(c);
	pthread_t a = thread(send_block, &c);
	pthread_t b = thread(recv_one, &c);
	let_sleep();
	say("drained %d", drain(s, n + 100000) == n + 100000);
	join(a);
	send_all(s, "y", 1);
	join(b);
}

BEHAVIOUR(ready_recv_then_send_on_one_socket)
{
	int c, s;
	pair(&c, &s);
	size_t n = fill(c);
	pthread_t b = thread(recv_one, &c);
	let_sleep();
	pthread_t a = thread(send_block, &c);
	let_sleep();
	send_all(s, "y", 1);
	join(b);
	say("drained %d", drain(s, n + 100000) == n + 100000);
	join(a);
}

BEHAVIOUR(ready_two_readers)
{
	int c, s;
	pair(&c, &s);
	pthread_t a = thread(recv_one, &s), b = thread(recv_one, &s);
	let_sleep();
	send_all(c, "x", 1);
	pause_ms(100);
	send_all(c, "y", 1);
	join(a);
	join(b);
}

BEHAVIOUR(ready_two_writers)
{
	int c, s;
	pair(&c, &s);
	size_t n = fill(c);
	pthread_t a = thread(send_block, &c), b = thread(send_block, &c);
	let_sleep();
	say("drained %d", drain(s, n + 200000) == n + 200000);
	join(a);
	join(b);
}

BEHAVIOUR(ready_poll_and_recv)
{
	/* Who polls is woken although another takes the byte. */
	int c, s;
	pair(&c, &s);
	pthread_t a = thread(poll_in, &s);
	let_sleep();
	send_all(c, "xy", 2);
	join(a);
	pthread_t b = thread(recv_one, &s);
	join(b);
}

BEHAVIOUR(ready_poll_end_in_two_threads)
{
	int c, s;
	pair(&c, &s);
	pthread_t a = thread(poll_in, &s), b = thread(recv_one, &s);
	let_sleep();
	close(c);
	join(a);
	join(b);
}

static void poll_child(void *arg)
{
	poll_in(arg);
}

BEHAVIOUR(ready_poll_in_two_processes)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = child(poll_child, &s);
	pthread_t a = thread(poll_in, &s);
	let_sleep();
	send_all(c, "x", 1);
	join(a);
	reap(pid);
}

BEHAVIOUR(ready_pselect)
{
	int c, s;
	fd_set set;
	sigset_t none;
	struct timespec ts = {0, 30000000};
	pair(&c, &s);
	sigemptyset(&none);
	FD_ZERO(&set);
	FD_SET(s, &set);
	DO(pselect(s + 1, &set, NULL, NULL, &ts, &none));
	say("unchanged %ld", ts.tv_nsec);
}

BEHAVIOUR(ready_ppoll_mask)
{
	int c, s;
	sigset_t block, none;
	struct pollfd p;
	struct timespec ts = {5, 0};
	pair(&c, &s);
	p = (struct pollfd){.fd = s, .events = POLLIN};
	count_signal(SIGUSR1, 0);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	say("signals %d", (int)signals_seen);
	DO(ppoll(&p, 1, &ts, &none));
	say("signals %d", (int)signals_seen);
	DO(ppoll(&p, 1, &(struct timespec){0, 20000000}, &none));
}

BEHAVIOUR(ready_pselect_mask)
{
	int c, s;
	sigset_t block, none;
	fd_set set;
	struct timespec ts = {5, 0};
	pair(&c, &s);
	FD_ZERO(&set);
	FD_SET(s, &set);
	count_signal(SIGUSR1, 0);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	DO(pselect(s + 1, &set, NULL, NULL, &ts, &none));
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(ready_poll_closed_number)
{
	int c, s;
	struct pollfd p;
	pair(&c, &s);
	close(s);
	p = (struct pollfd){.fd = s, .events = POLLIN};
	DO(poll(&p, 1, 0));
	say("%#x", (unsigned)p.revents);
}
