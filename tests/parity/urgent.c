/* Urgent data: MSG_OOB, SO_OOBINLINE, SIOCATMARK, SIGURG and what tells of them. */
#include "parity.h"

static char buf[65536];

static void say_urgent(const char *what, int s)
{
	int mark = -1, inq = -1;
	int a = ioctl(s, SIOCATMARK, &mark), b = ioctl(s, FIONREAD, &inq);
	say("%s: %d mark %d, %d unread %d", what, a, mark, b, inq);
	say_mask("  and", s);
}

/* What recv() gives, with the bytes. */
static void take(const char *what, int s, size_t len, int flags)
{
	char text[400];
	memset(buf, 0, 300);
	errno = 0;
	ssize_t n = recv(s, buf, len, flags);
	(void)snprintf(text, sizeof(text), "%s %zu %#x", what, len, (unsigned)flags);
	say_result(text, n, errno);
	if (n > 0)
		say_bytes("  bytes", buf, n);
}

/* "ab!cd" with the urgent byte in the middle, all of it there. */
static void in_the_middle(int c, int s)
{
	DO(send(c, "ab!", 3, MSG_OOB));
	DO(send(c, "cd", 2, 0));
	await(s, POLLPRI);
}

/* Until this is the urgent byte. */
static void await_urgent(int s, char byte)
{
	char now = 0;
	for (int i = 0; i < 1000; i++) {
		if (recv(s, &now, 1, MSG_OOB | MSG_PEEK) == 1 && now == byte)
			return;
		pause_ms(5);
	}
	say("no %c", byte);
}

/* Until a look finds as many bytes. */
static void await_seen(int s, ssize_t n)
{
	for (int i = 0; i < 1000 && recv(s, buf, (size_t)n, MSG_PEEK | MSG_DONTWAIT) != n; i++)
		pause_ms(5);
}

static void set_inline(int s)
{
	int on = 1;
	DO(setsockopt(s, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
}

BEHAVIOUR(urgent_halts_a_read)
{
	int c, s;
	pair(&c, &s);
	say_urgent("nothing", s);
	in_the_middle(c, s);
	say_urgent("there", s);
	take("before", s, 10, 0);
	await_seen(s, 2);
	say_urgent("before it", s);
	take("urgent", s, 1, MSG_OOB);
	say_urgent("taken", s);
	take("again", s, 1, MSG_OOB);
	take("after", s, 10, 0);
	say_urgent("after", s);
	take("gone", s, 1, MSG_OOB);
}

BEHAVIOUR(urgent_taken_before_the_bytes)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	take("look", s, 1, MSG_OOB | MSG_PEEK);
	take("urgent", s, 5, MSG_OOB);
	say_urgent("taken", s);
	take("one", s, 1, 0);
	say_urgent("one before it", s);
	take("rest", s, 10, 0);
	await_seen(s, 2);
	say_urgent("before it", s);
	take("after", s, 10, 0);
}

BEHAVIOUR(urgent_never_taken)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	take("before", s, 10, MSG_DONTWAIT);
	await_seen(s, 2);
	take("after", s, 10, MSG_DONTWAIT);
	say_urgent("after", s);
	take("late", s, 1, MSG_OOB);
	take("nothing", s, 10, MSG_DONTWAIT);
}

BEHAVIOUR(urgent_alone)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	say_urgent("alone", s);
	take("look", s, 10, MSG_PEEK | MSG_DONTWAIT);
	say_urgent("looked", s);
	take("nothing", s, 10, MSG_DONTWAIT);
	say_urgent("read over", s);
	take("late", s, 1, MSG_OOB);
	DO(send(c, "x", 1, 0));
	await_bytes(s, 1);
	take("next", s, 10, 0);
}

BEHAVIOUR(urgent_in_line)
{
	int c, s;
	pair(&c, &s);
	set_inline(s);
	in_the_middle(c, s);
	await_bytes(s, 5);
	say_urgent("there", s);
	take("oob", s, 1, MSG_OOB);
	take("before", s, 10, 0);
	await_seen(s, 3);
	say_urgent("before it", s);
	take("look", s, 2, MSG_PEEK);
	say_urgent("looked", s);
	take("from it on", s, 10, 0);
	say_urgent("after", s);
	in_the_middle(c, s);
	take("one by one", s, 2, 0);
	await_seen(s, 3);
	take("one by one", s, 1, 0);
	say_urgent("just read", s);
	take("one by one", s, 1, 0);
}

BEHAVIOUR(urgent_in_line_by_the_listener)
{
	int on = 1, l = listener(0);
	DO(setsockopt(l, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
	int c = reach(0);
	int s = accept(l, NULL, NULL);
	in_the_middle(c, s);
	take("before", s, 10, 0);
	await_seen(s, 3);
	take("from it on", s, 10, 0);
}

BEHAVIOUR(urgent_in_line_before_connect)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0);
	set_inline(c);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	int s = accept(l, NULL, NULL);
	in_the_middle(s, c);
	take("oob", c, 1, MSG_OOB);
	take("before", c, 10, 0);
	await_seen(c, 3);
	take("from it on", c, 10, 0);
}

BEHAVIOUR(urgent_second_one)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	DO(send(c, "ef?", 3, MSG_OOB));
	await_bytes(s, 7);
	say_urgent("both", s);
	take("urgent", s, 1, MSG_OOB);
	take("before", s, 20, 0);
	take("after", s, 20, MSG_DONTWAIT);
}

BEHAVIOUR(urgent_second_one_at_the_first)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	take("before", s, 20, 0);
	DO(send(c, "ef?", 3, MSG_OOB));
	await_bytes(s, 4);
	say_urgent("both", s);
	take("before", s, 20, 0);
	take("urgent", s, 1, MSG_OOB);
	take("after", s, 20, MSG_DONTWAIT);
}

BEHAVIOUR(urgent_many_unread)
{
	int c, s;
	pair(&c, &s);
	for (int i = 0; i < 5; i++) {
		send(c, "0123456789" + i, 1, MSG_OOB);
		await_urgent(s, (char)('0' + i));
	}
	say_urgent("all", s);
	take("urgent", s, 1, MSG_OOB);
	take("rest", s, 20, MSG_DONTWAIT);
	send_all(c, "end", 3);
	await(s, POLLIN);
	take("rest", s, 20, MSG_DONTWAIT);
}

BEHAVIOUR(urgent_many_unread_apart)
{
	int c, s;
	pair(&c, &s);
	send(c, "1", 1, MSG_OOB);
	await_urgent(s, '1');
	send(c, "2", 1, MSG_OOB);
	await_urgent(s, '2');
	send(c, "xy", 2, 0);
	await_seen(s, 2);
	send(c, "3", 1, MSG_OOB);
	await_urgent(s, '3');
	say_urgent("all", s);
	take("rest", s, 20, MSG_DONTWAIT);
	take("urgent", s, 1, MSG_OOB);
	take("rest", s, 20, MSG_DONTWAIT);
}

BEHAVIOUR(urgent_many_in_line)
{
	int c, s;
	pair(&c, &s);
	set_inline(s);
	send(c, "1", 1, MSG_OOB);
	send(c, "2", 1, MSG_OOB);
	send(c, "xy", 2, 0);
	send(c, "3", 1, MSG_OOB);
	await_bytes(s, 5);
	say_urgent("all", s);
	take("rest", s, 20, MSG_DONTWAIT);
	take("rest", s, 20, MSG_DONTWAIT);
}

BEHAVIOUR(urgent_wait_for_all_halts)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	take("all", s, 4, MSG_WAITALL);
	take("all", s, 2, MSG_WAITALL);
	in_the_middle(c, s);
	take("look", s, 4, MSG_WAITALL | MSG_PEEK);
	take("away", s, 4, MSG_TRUNC);
	take("look", s, 2, MSG_WAITALL | MSG_PEEK);
	take("away", s, 4, MSG_TRUNC | MSG_DONTWAIT);
}

BEHAVIOUR(urgent_vectors)
{
	int c, s;
	char one[2] = "", two[2] = "", three[4] = "";
	struct iovec v[3] = {{one, 1}, {two, 1}, {three, 3}};
	pair(&c, &s);
	in_the_middle(c, s);
	DO(readv(s, v, 3));
	say_bytes("one", one, 1);
	say_bytes("two", two, 1);
	say_bytes("three", three, 3);
	DO(readv(s, v, 3));
	say_bytes("one", one, 1);
	say_bytes("two", two, 1);
	say_bytes("three", three, 3);
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
	memcpy(one, "a", 1);
	memcpy(two, "b", 1);
	memcpy(three, "cd!", 3);
	DO(sendmsg(c, &m, MSG_OOB));
	await(s, POLLPRI);
	await_bytes(s, 4);
	memset(three, 0, 3);
	DO(recvmsg(s, &m, MSG_OOB | MSG_PEEK));
	say("flags %#x", (unsigned)m.msg_flags);
	say_bytes("one", one, 1);
	DO(recvmsg(s, &m, MSG_OOB));
	say("flags %#x", (unsigned)m.msg_flags);
	DO(recvmsg(s, &m, MSG_OOB));
	DO(recvmsg(s, &m, 0));
	say("flags %#x", (unsigned)m.msg_flags);
	say_bytes("three", three, 3);
}

BEHAVIOUR(urgent_of_no_bytes)
{
	int c, s;
	struct iovec v = {buf, 0};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	pair(&c, &s);
	DO(send(c, "", 0, MSG_OOB));
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	DO(recvmsg(s, &m, MSG_OOB));
	say("flags %#x", (unsigned)m.msg_flags);
	take("once", s, 1, MSG_OOB);
	DO(send(c, "?", 1, MSG_OOB));
	await(s, POLLPRI);
	take("away", s, 1, MSG_OOB | MSG_TRUNC);
	take("once", s, 1, MSG_OOB);
}

BEHAVIOUR(urgent_before_the_end)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	say_urgent("ended", s);
	take("urgent", s, 1, MSG_OOB);
	take("before", s, 10, 0);
	take("after", s, 10, 0);
	take("end", s, 10, 0);
	take("urgent", s, 1, MSG_OOB);
}

BEHAVIOUR(urgent_alone_before_the_end)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "!", 1, MSG_OOB));
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	say_urgent("ended", s);
	take("end", s, 10, 0);
	take("urgent", s, 1, MSG_OOB);
	say_urgent("read", s);
}

BEHAVIOUR(urgent_after_shutdown)
{
	int c, s;
	pair(&c, &s);
	signal(SIGPIPE, SIG_IGN);
	DO(shutdown(c, SHUT_WR));
	DO(send(c, "!", 1, MSG_OOB));
	/* Nothing behind it: what comes after both are shut is answered by a reset. */
	DO(send(s, "ab!", 3, MSG_OOB));
	await(c, POLLPRI);
	DO(shutdown(c, SHUT_RD));
	take("urgent", c, 1, MSG_OOB);
	take("none", c, 1, MSG_OOB);
}

BEHAVIOUR(urgent_before_a_reset)
{
	int c, s;
	struct linger hard = {1, 0};
	pair(&c, &s);
	in_the_middle(c, s);
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)));
	close(c);
	await(s, POLLHUP);
	take("urgent", s, 1, MSG_OOB);
	take("bytes", s, 10, 0);
}

BEHAVIOUR(urgent_close_with_it_unread)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	take("urgent", s, 1, MSG_OOB);
	close(s);
	await(c, POLLHUP);
	say_mask("closed", c);
	take("closed", c, 1, 0);
}

BEHAVIOUR(urgent_without_room)
{
	int c, s;
	pair(&c, &s);
	set_nonblock(c);
	size_t n = fill(c);
	DO(send(c, "!", 1, MSG_OOB));
	say_mask("full", s);
	drain(s, n);
	await(c, POLLOUT);
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	take("urgent", s, 1, MSG_OOB);
}

BEHAVIOUR(urgent_lowat)
{
	int c, s, low = 3;
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	say_urgent("one", s);
	DO(send(c, "ab", 2, 0));
	await_seen(s, 2);
	say_urgent("three", s);
	DO(send(c, "c", 1, 0));
	await(s, POLLIN);
	say_urgent("four", s);
}

BEHAVIOUR(urgent_splice)
{
	int c, s, p[2];
	pair(&c, &s);
	DO(pipe(p));
	in_the_middle(c, s);
	DO(splice(s, NULL, p[1], NULL, 10, 0));
	await_seen(s, 2);
	say_urgent("spliced", s);
	DO(splice(s, NULL, p[1], NULL, 10, 0));
	DO(splice(s, NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK));
	take("urgent", s, 1, MSG_OOB);
	take("rest", s, 10, 0);
}

/* --- who waits --- */

static void *send_later(void *arg)
{
	let_sleep();
	send(*(int *)arg, "!", 1, MSG_OOB);
	return NULL;
}

BEHAVIOUR(urgent_wakes_poll)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "ab", 2);
	await_bytes(s, 2);
	struct pollfd p = {.fd = s, .events = POLLPRI};
	DO(poll(&p, 1, 10));
	pthread_t t = thread(send_later, &c);
	DO(poll(&p, 1, 5000));
	say("events %#x", (unsigned)p.revents);
	join(t);
	take("urgent", s, 1, MSG_OOB);
	DO(poll(&p, 1, 10));
}

BEHAVIOUR(urgent_wakes_select)
{
	int c, s;
	fd_set r, x;
	struct timeval tv = {5, 0};
	pair(&c, &s);
	pthread_t t = thread(send_later, &c);
	FD_ZERO(&r);
	FD_ZERO(&x);
	FD_SET(s, &r);
	FD_SET(s, &x);
	DO(select(s + 1, &r, NULL, &x, &tv));
	say("read %d except %d", FD_ISSET(s, &r) != 0, FD_ISSET(s, &x) != 0);
	join(t);
	send_all(c, "x", 1);
	await(s, POLLIN);
	FD_SET(s, &r);
	FD_SET(s, &x);
	DO(select(s + 1, &r, NULL, &x, &tv));
	say("read %d except %d", FD_ISSET(s, &r) != 0, FD_ISSET(s, &x) != 0);
}

static void say_events(const char *what, int e, int timeout)
{
	struct epoll_event ev[4];
	char text[128];
	int n = epoll_wait(e, ev, 4, timeout);
	say("%s: %d %s", what, n, n > 0 ? poll_names(ev[0].events, text) : "");
}

static void by_epoll(uint32_t events)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	struct epoll_event ev = {.events = events, .data.fd = s};
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	send_all(c, "ab", 2);
	await_bytes(s, 2);
	say_events("bytes", e, 10);
	if (events & EPOLLIN) {
		send(c, "!", 1, MSG_OOB);
		await(s, POLLPRI);
		say_events("urgent", e, 5000);
	} else {
		pthread_t t = thread(send_later, &c);
		say_events("urgent", e, 5000);
		join(t);
	}
	say_events("again", e, 10);
	take("urgent", s, 1, MSG_OOB);
	say_events("taken", e, 10);
	send_all(c, "cd", 2);
	say_events("bytes", e, 10);
	take("before", s, 10, 0);
	DO(send(c, "?", 1, MSG_OOB));
	await(s, POLLPRI);
	say_events("second", e, 5000);
}

BEHAVIOUR(urgent_epoll_level)
{
	by_epoll(EPOLLPRI);
}

BEHAVIOUR(urgent_epoll_edge)
{
	by_epoll(EPOLLPRI | EPOLLET);
}

BEHAVIOUR(urgent_epoll_level_with_bytes)
{
	by_epoll(EPOLLIN | EPOLLPRI);
}

BEHAVIOUR(urgent_epoll_once)
{
	by_epoll(EPOLLPRI | EPOLLONESHOT);
}

static void *send_more_later(void *arg)
{
	let_sleep();
	send(*(int *)arg, "!", 1, MSG_OOB);
	let_sleep();
	send(*(int *)arg, "x", 1, 0);
	return NULL;
}

BEHAVIOUR(urgent_is_skipped_by_a_sleeper)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(send_more_later, &c);
	take("asleep", s, 10, 0);
	join(t);
	take("late", s, 1, MSG_OOB);
}

static void await_signal(int n)
{
	for (int i = 0; i < 1000 && signals_seen < n; i++)
		pause_ms(5);
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(urgent_signal)
{
	int c, s;
	pair(&c, &s);
	count_signal(SIGURG, SA_RESTART);
	DO(send(c, "!", 1, MSG_OOB));
	await(s, POLLPRI);
	/* Whoever passes this on has told of the urgent byte before. */
	DO(send(c, "a", 1, 0));
	await(s, POLLIN);
	say("nobody asked: %d", (int)signals_seen);
	DO(fcntl(s, F_SETOWN, getpid()));
	DO(send(c, "b", 1, 0));
	await_seen(s, 2);
	say("no urgent byte: %d", (int)signals_seen);
	DO(send(c, "bc!", 3, MSG_OOB));
	await_signal(1);
	await_bytes(s, 4);
	take("urgent", s, 1, MSG_OOB);
	DO(send(c, "?", 1, MSG_OOB));
	await_signal(2);
}

BEHAVIOUR(urgent_signal_by_ioctl_before_connect)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0);
	pid_t me = getpid();
	count_signal(SIGURG, SA_RESTART);
	DO(ioctl(c, SIOCSPGRP, &me));
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	int s = accept(l, NULL, NULL);
	DO(send(s, "!", 1, MSG_OOB));
	await_signal(1);
	take("urgent", c, 1, MSG_OOB);
}

static int signalled;
static _Atomic int got, atmark;

static void on_urgent(int n)
{
	char byte = 0;
	int mark = 0;
	(void)n;
	if (recv(signalled, &byte, 1, MSG_OOB) == 1)
		got = byte;
	ioctl(signalled, SIOCATMARK, &mark);
	atmark = mark;
}

BEHAVIOUR(urgent_taken_in_the_handler)
{
	int c, s;
	struct sigaction sa = {.sa_handler = on_urgent};
	pair(&c, &s);
	signalled = s;
	sigaction(SIGURG, &sa, NULL);
	DO(fcntl(s, F_SETOWN, getpid()));
	send_all(c, "ab", 2);
	await_bytes(s, 2);
	DO(send(c, "c!", 2, MSG_OOB));
	for (int i = 0; i < 1000 && !got; i++)
		pause_ms(5);
	say("byte %d mark %d", (int)got, (int)atmark);
	take("before", s, 10, 0);
	say_urgent("before it", s);
}

/* A sleeper in a call that its handler ends. */
BEHAVIOUR(urgent_ends_a_poll)
{
	int c, s;
	pair(&c, &s);
	struct pollfd p = {.fd = c, .events = POLLIN};
	count_signal(SIGURG, 0);
	DO(fcntl(s, F_SETOWN, getpid()));
	pthread_t t = thread(send_later, &c);
	DO(poll(&p, 1, 5000));
	join(t);
	take("urgent", s, 1, MSG_OOB);
}

/* --- who else holds it --- */

static void take_in_child(void *arg)
{
	int s = *(int *)arg;
	take("child", s, 1, MSG_OOB);
	take("child", s, 1, 0);
}

BEHAVIOUR(urgent_forked)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	reap(child(take_in_child, &s));
	take("urgent", s, 1, MSG_OOB);
	take("rest", s, 10, 0);
	await_seen(s, 2);
	say_urgent("before it", s);
	take("rest", s, 10, 0);
}

static void send_in_child(void *arg)
{
	DO(send(*(int *)arg, "e?", 2, MSG_OOB));
}

BEHAVIOUR(urgent_sent_by_both)
{
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	reap(child(send_in_child, &c));
	await_bytes(s, 6);
	take("before", s, 20, 0);
	take("urgent", s, 1, MSG_OOB);
	DO(send(c, "f!", 2, MSG_OOB));
	await_bytes(s, 1);
	take("before", s, 20, 0);
	take("urgent", s, 1, MSG_OOB);
}

/* Many, with bytes between them, each read where it is. */
BEHAVIOUR(urgent_round_and_round)
{
	int c, s, wrong = 0, mark;
	pair(&c, &s);
	for (int i = 0; i < 3000; i++) {
		size_t n = (size_t)(i * 37 % 900);
		char byte = 0;
		memset(buf, 'a' + i % 26, n);
		buf[n] = (char)('A' + i % 26);
		if (send(c, buf, n + 1, MSG_OOB) != (ssize_t)n + 1)
			wrong++;
		struct pollfd p = {.fd = s, .events = POLLPRI};
		if (poll(&p, 1, 5000) != 1 || recv(s, &byte, 1, MSG_OOB) != 1 ||
		    byte != 'A' + i % 26)
			wrong++;
		for (size_t at = 0; at < n;) {
			ssize_t got = recv(s, buf, sizeof(buf), MSG_DONTWAIT);
			if (got > 0 && buf[0] != 'a' + i % 26)
				wrong++;
			at += got > 0 ? (size_t)got : 0;
			if (got <= 0 && poll(&p, 1, 0) < 0)
				break;
		}
		if (ioctl(s, SIOCATMARK, &mark) != 0 || !mark)
			wrong++;
	}
	say("wrong %d", wrong);
}

/* A program that is no relative by its memory takes some, and leaves the rest. */
BEHAVIOUR(urgent_taken_by_another_program)
{
	static const char program[] = "import socket, sys\n"
				      "s = socket.socket(fileno=int(sys.argv[1]))\n"
				      "print(s.recv(1, socket.MSG_OOB), s.recv(1))\n"
				      "s.send(b'xy?', socket.MSG_OOB)\n"
				      "s.detach()\n";
	char number[16];
	int c, s;
	pair(&c, &s);
	in_the_middle(c, s);
	say_now();
	pid_t pid = fork();
	if (pid == 0) {
		(void)snprintf(number, sizeof(number), "%d", s);
		execl("/usr/bin/python3", "python3", "-Ic", program, number, NULL);
		_exit(9);
	}
	reap(pid);
	await(c, POLLPRI);
	take("its own", c, 1, MSG_OOB);
	take("its own", c, 20, 0);
	take("taken", s, 1, MSG_OOB);
	take("before", s, 10, 0);
	await_seen(s, 2);
	say_urgent("before it", s);
	take("after", s, 10, 0);
	DO(send(c, "z!", 2, MSG_OOB));
	await(s, POLLPRI);
	say_urgent("another", s);
	take("another", s, 1, MSG_OOB);
}

/* More than goes in one piece of memory: of all of it the last byte. */
BEHAVIOUR(urgent_long_vector)
{
	static char more[9000];
	struct iovec v[3] = {{more, 3000}, {more + 3000, 3000}, {more + 6000, 3000}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
	int c, s;
	memset(more, 'm', sizeof(more));
	more[8999] = '!';
	pair(&c, &s);
	DO(sendmsg(c, &m, MSG_OOB));
	await_urgent(s, '!');
	await_bytes(s, 8999);
	DO(recv(s, buf, 9000, MSG_WAITALL));
	say_urgent("before it", s);
	take("urgent", s, 1, MSG_OOB);
}
