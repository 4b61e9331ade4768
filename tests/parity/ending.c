/* Shutting down, closing, resetting: what both sides see, in each order. */
#include <sys/ioctl.h>

#include "parity.h"

static char buf[4096];

static void reset(int fd)
{
	struct linger hard = {1, 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
}

static void both(const char *what, int c, int s)
{
	say("%s", what);
	say_mask("  c", c);
	say_mask("  s", s);
}

BEHAVIOUR(ending_half_close)
{
	int c, s;
	pair(&c, &s);
	DO(send(c, "last", 4, 0));
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	both("c shut for writing", c, s);
	DO(recv(s, buf, 100, 0));
	DO(recv(s, buf, 100, 0));
	DO(recv(s, buf, 100, 0));
	DO(send(s, "answer", 6, 0));
	await_bytes(c, 6);
	DO(recv(c, buf, 100, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	DO(close(s));
	await(c, POLLHUP);
	say_mask("closed", c);
	DO(recv(c, buf, 100, 0));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(ending_shutdown_rd)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_RD));
	both("c shut for reading", c, s);
	DO(recv(c, buf, 10, 0));
	DO(send(c, "still", 5, 0));
	await_bytes(s, 5);
	DO(recv(s, buf, 10, 0));
	DO(shutdown(c, SHUT_RD));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(ending_shutdown_rd_with_data)
{
	int c, s;
	pair(&c, &s);
	send_all(s, "before", 6);
	await_bytes(c, 6);
	DO(shutdown(c, SHUT_RD));
	say_mask("shut", c);
	DO(recv(c, buf, 3, 0));
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(ending_shutdown_rd_then_data)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_RD));
	DO(send(s, "after", 5, 0));
	await_bytes(c, 5);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
	say_mask("sender", s);
}

BEHAVIOUR(ending_shutdown_rdwr)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_RDWR));
	await(s, POLLRDHUP);
	both("c shut", c, s);
	DO(recv(c, buf, 10, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	DO(recv(s, buf, 10, 0));
	DO(shutdown(c, SHUT_RDWR));
	DO(close(s));
	await_state(c, TCP_CLOSE);
	say_mask("closed", c);
	DO(shutdown(c, SHUT_RDWR));
}

BEHAVIOUR(ending_both_shut_writing)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(shutdown(s, SHUT_WR));
	await(c, POLLRDHUP);
	await(s, POLLHUP);
	await(c, POLLHUP);
	both("both", c, s);
	DO(recv(c, buf, 10, 0));
	DO(recv(s, buf, 10, 0));
	DO(send(s, "x", 1, MSG_NOSIGNAL));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(s, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(ending_shutdown_twice)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_WR));
	DO(shutdown(c, SHUT_WR));
	DO(shutdown(c, SHUT_RD));
	DO(shutdown(c, SHUT_RDWR));
	DO(shutdown(c, 3));
	DO(shutdown(c, -1));
}

BEHAVIOUR(ending_shutdown_after_both)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(close(s));
	await(c, POLLHUP);
	DO(shutdown(c, SHUT_WR));
	DO(shutdown(c, SHUT_RD));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
}

BEHAVIOUR(ending_close_clean)
{
	int c, s;
	pair(&c, &s);
	DO(close(s));
	await(c, POLLRDHUP);
	say_mask("peer closed", c);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(ending_send_after_close)
{
	int c, s;
	pair(&c, &s);
	DO(close(s));
	await(c, POLLRDHUP);
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	await(c, POLLERR);
	say_mask("after first", c);
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	say_mask("after second", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(recv(c, buf, 1, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
}

/* More than the kernel takes before it looks: a program that writes until all is written learns of it. */
static void much_after_close(int flags)
{
	int c, s;
	size_t len = (size_t)10 << 20;
	char *much = calloc(1, len);
	pair(&c, &s);
	DO(close(s));
	await(c, POLLRDHUP);
	say("all: %d", send(c, much, len, MSG_NOSIGNAL | flags) == (ssize_t)len);
	await(c, POLLERR);
	say_mask("after first", c);
	DO(send(c, much, len, MSG_NOSIGNAL | flags));
	DO(recv(c, buf, 1, 0));
	free(much);
}

BEHAVIOUR(ending_send_much_after_close)
{
	much_after_close(0);
}

BEHAVIOUR(ending_send_much_after_close_nonblocking)
{
	much_after_close(MSG_DONTWAIT);
}

BEHAVIOUR(ending_send_after_close_then_recv)
{
	int c, s;
	pair(&c, &s);
	DO(close(s));
	await(c, POLLRDHUP);
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	await(c, POLLERR);
	DO(recv(c, buf, 1, 0));
	DO(recv(c, buf, 1, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	say_mask("then", c);
}

BEHAVIOUR(ending_data_then_close)
{
	int c, s;
	pair(&c, &s);
	send_all(s, "bye", 3);
	DO(close(s));
	await(c, POLLRDHUP);
	say_mask("data and end", c);
	DO(recv(c, buf, 2, 0));
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(ending_close_with_unread)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "unread", 6);
	await_bytes(s, 6);
	DO(close(s));
	await(c, POLLERR);
	say_mask("reset", c);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	say_mask("told", c);
}

BEHAVIOUR(ending_close_with_unread_both_ways)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "unread", 6);
	send_all(s, "void", 4);
	await_bytes(s, 6);
	await_bytes(c, 4);
	DO(close(s));
	await(c, POLLERR);
	say_mask("reset", c);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(ending_reset_error_by_option)
{
	int c, s;
	pair(&c, &s);
	reset(s);
	await(c, POLLERR);
	say_mask("reset", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	say_mask("told", c);
	DO(recv(c, buf, 10, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
}

BEHAVIOUR(ending_reset_error_by_recv)
{
	int c, s;
	pair(&c, &s);
	reset(s);
	await(c, POLLERR);
	DO(recv(c, buf, 10, 0));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(recv(c, buf, 10, 0));
	say_mask("told", c);
}

BEHAVIOUR(ending_reset_error_by_send)
{
	int c, s;
	pair(&c, &s);
	reset(s);
	await(c, POLLERR);
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(ending_reset_voids_data)
{
	int c, s;
	pair(&c, &s);
	send_all(s, "data", 4);
	await_bytes(c, 4);
	reset(s);
	await(c, POLLERR);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
	int n = -1;
	DO(ioctl(c, FIONREAD, &n));
	say("pending %d", n);
}

BEHAVIOUR(ending_reset_names)
{
	int c, s;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	pair(&c, &s);
	reset(s);
	await(c, POLLERR);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	DO(shutdown(c, SHUT_RDWR));
	DO(shutdown(c, SHUT_WR));
}

BEHAVIOUR(ending_linger_zero_after_shutdown)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(s, SHUT_WR));
	await(c, POLLRDHUP);
	reset(s);
	await(c, POLLHUP);
	say_mask("c", c);
	DO(recv(c, buf, 10, 0));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(ending_linger_time)
{
	int c, s;
	struct linger soft = {1, 2};
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_LINGER, &soft, sizeof(soft)));
	send_all(s, "bye", 3);
	long begin = now_ms();
	DO(close(s));
	say("at once: %d", now_ms() - begin < 1500);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(ending_sigpipe)
{
	int c, s;
	pair(&c, &s);
	count_signal(SIGPIPE, 0);
	DO(shutdown(c, SHUT_WR));
	DO(send(c, "x", 1, 0));
	say("signals %d", (int)signals_seen);
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	say("signals %d", (int)signals_seen);
	DO(write(c, "x", 1));
	say("signals %d", (int)signals_seen);
	DO(writev(c, &(struct iovec){buf, 1}, 1));
	DO(sendmsg(c, &(struct msghdr){.msg_iov = &(struct iovec){buf, 1}, .msg_iovlen = 1}, 0));
	DO(sendto(c, "x", 1, 0, NULL, 0));
	say("signals %d", (int)signals_seen);
	DO(send(c, "x", 0, 0));
	say("signals %d", (int)signals_seen);
}

static void die_by_sigpipe(void *arg)
{
	int fd = *(int *)arg;
	shutdown(fd, SHUT_WR);
	if (write(fd, "x", 1) < 0)
		say("survived");
}

BEHAVIOUR(ending_sigpipe_kills)
{
	int c, s;
	pair(&c, &s);
	reap(child(die_by_sigpipe, &c));
}

BEHAVIOUR(ending_sigpipe_ignored)
{
	int c, s;
	pair(&c, &s);
	signal(SIGPIPE, SIG_IGN);
	DO(shutdown(c, SHUT_WR));
	DO(write(c, "x", 1));
}

BEHAVIOUR(ending_simultaneous)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "1", 1);
	send_all(s, "2", 1);
	DO(shutdown(c, SHUT_WR));
	DO(shutdown(s, SHUT_WR));
	DO(recv(c, buf, 10, MSG_WAITALL));
	DO(recv(s, buf, 10, MSG_WAITALL));
	DO(close(c));
	DO(close(s));
}

static void *recv_one(void *arg)
{
	char b[16];
	ssize_t n = recv(*(int *)arg, b, sizeof(b), 0);
	say("woken: %zd %s", n, n < 0 ? error_name(errno) : "");
	return NULL;
}

BEHAVIOUR(ending_shutdown_wakes_own_reader)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(recv_one, &c);
	let_sleep();
	DO(shutdown(c, SHUT_RD));
	join(t);
}

BEHAVIOUR(ending_shutdown_rdwr_wakes_own_reader)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(recv_one, &c);
	let_sleep();
	DO(shutdown(c, SHUT_RDWR));
	join(t);
}

BEHAVIOUR(ending_peer_close_wakes_reader)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(recv_one, &c);
	let_sleep();
	DO(close(s));
	join(t);
}

BEHAVIOUR(ending_peer_reset_wakes_reader)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(recv_one, &c);
	let_sleep();
	reset(s);
	join(t);
}

static void *send_much(void *arg)
{
	static char block[1 << 20];
	long n;
	do
		n = send(*(int *)arg, block, sizeof(block), MSG_NOSIGNAL);
	while (n > 0);
	say("sender woken: %ld %s", n, error_name(errno));
	return NULL;
}

BEHAVIOUR(ending_peer_reset_wakes_writer)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(send_much, &c);
	let_sleep();
	reset(s);
	join(t);
}

BEHAVIOUR(ending_peer_close_wakes_writer)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(send_much, &c);
	let_sleep();
	close(s);
	join(t);
}

BEHAVIOUR(ending_half_close_then_close_wakes_writer)
{
	int c, s;
	char b;
	pair(&c, &s);
	DO(shutdown(c, SHUT_WR));
	DO(recv(s, &b, 1, 0));
	pthread_t t = thread(send_much, &s);
	let_sleep();
	close(c);
	join(t);
	SAY_OPTION(s, SOL_SOCKET, SO_ERROR);
	DO(send(s, "x", 1, MSG_NOSIGNAL));
}

BEHAVIOUR(ending_send_after_half_close_then_close)
{
	int c, s;
	char b;
	pair(&c, &s);
	DO(shutdown(c, SHUT_WR));
	DO(recv(s, &b, 1, 0));
	say_mask("half", s);
	DO(close(c));
	pause_ms(50);
	say_mask("closed", s);
	DO(send(s, "x", 1, MSG_NOSIGNAL));
	await(s, POLLHUP);
	say_mask("sent", s);
	DO(send(s, "x", 1, MSG_NOSIGNAL));
	DO(recv(s, &b, 1, 0));
}

BEHAVIOUR(ending_own_shutdown_wakes_writer)
{
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(send_much, &c);
	let_sleep();
	DO(shutdown(c, SHUT_WR));
	join(t);
}

/* Until it may no more. Without room it does not wait: nobody reads, and who waits holds what the other closes. */
static void *write_on(void *arg)
{
	int fd = *(const int *)arg;
	while (send(fd, "A", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 || errno == EAGAIN)
		;
	return NULL;
}

/* What came on a connection whose client sends "b" alone; -1: something else did. */
static long read_alone(int fd)
{
	char bytes[64];
	long sum = 0;
	ssize_t n;
	while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] != 'b')
				return -1;
		}
		sum += n;
	}
	return sum;
}

/* As a Java program closes a channel: another file is put over the number while a thread writes there. */
BEHAVIOUR(ending_close_while_another_writes)
{
	int over = open("/dev/null", O_RDONLY);
	long alone = 0;
	for (int i = 0; i < 50; i++) {
		int c, s, next, server;
		char byte;
		pair(&c, &s);
		pthread_t t = thread(write_on, &c);
		while (recv(s, &byte, 1, 0) != 1)
			;
		dup2(over, c);
		pair(&next, &server);
		if (send(next, "b", 1, MSG_NOSIGNAL) == 1 && shutdown(next, SHUT_WR) == 0)
			alone += read_alone(server) == 1;
		join(t);
		close(c);
		close(s);
		close(next);
		close(server);
	}
	say("%ld of 50 connections had what was theirs", alone);
}

BEHAVIOUR(ending_close_keeps_sleeping_reader)
{
	/* A blocked recv holds the file: closing the number does not end it. */
	int c, s;
	pair(&c, &s);
	pthread_t t = thread(recv_one, &c);
	let_sleep();
	DO(close(c));
	send_all(s, "late", 4);
	join(t);
}

static void *send_one(void *arg)
{
	DO(send(*(const int *)arg, "x", 1, MSG_NOSIGNAL));
	return NULL;
}

BEHAVIOUR(ending_close_keeps_writer_with_limit)
{
	int c, s;
	struct timeval tv = {.tv_usec = 300000};
	pair(&c, &s);
	fill(c);
	DO(setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	pthread_t t = thread(send_one, &c);
	let_sleep();
	DO(close(c));
	join(t);
}

static void hold(void *arg)
{
	int *fds = arg;
	close(fds[1]);
	raise(SIGSTOP);
}

BEHAVIOUR(ending_peer_killed)
{
	int fds[2], status;
	pair(&fds[0], &fds[1]);
	pid_t pid = child(hold, fds);
	close(fds[0]);
	waitpid(pid, &status, WUNTRACED);
	say_mask("alive", fds[1]);
	kill(pid, SIGKILL);
	await(fds[1], POLLRDHUP);
	say_mask("killed", fds[1]);
	DO(recv(fds[1], buf, 10, 0));
	reap(pid);
}

static void hold_half(void *arg)
{
	shutdown(((int *)arg)[0], SHUT_WR);
	hold(arg);
}

static void killed_with_unread(void (*held)(void *))
{
	int fds[2], status;
	pair(&fds[0], &fds[1]);
	pid_t pid = child(held, fds);
	close(fds[0]);
	waitpid(pid, &status, WUNTRACED);
	send_all(fds[1], "unread", 6);
	/* Who forwards has taken them; what nobody stands between stays ours until it is read. */
	for (int left = 1, i = 0; left > 0 && i < 200; i++) {
		pause_ms(5);
		ioctl(fds[1], TIOCOUTQ, &left);
	}
	kill(pid, SIGKILL);
	await(fds[1], POLLERR);
	say_mask("killed", fds[1]);
	DO(recv(fds[1], buf, 10, 0));
	DO(recv(fds[1], buf, 10, 0));
	DO(send(fds[1], "x", 1, MSG_NOSIGNAL));
	reap(pid);
}

BEHAVIOUR(ending_peer_killed_with_unread)
{
	killed_with_unread(hold);
}

BEHAVIOUR(ending_peer_killed_half_shut_with_unread)
{
	killed_with_unread(hold_half);
}

BEHAVIOUR(ending_write_order_kept)
{
	int c, s;
	pair(&c, &s);
	for (int i = 0; i < 10; i++) {
		char d = (char)('0' + i);
		send_all(c, &d, 1);
	}
	DO(close(c));
	DO(recv(s, buf, 100, MSG_WAITALL));
	say_bytes("all", buf, 10);
}

BEHAVIOUR(ending_big_then_close)
{
	int c, s;
	static char block[200000];
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		close(s);
		send_all(c, block, sizeof(block));
		close(c);
		_exit(0);
	}
	close(c);
	say("came %zu", drain(s, sizeof(block)));
	DO(recv(s, buf, 1, 0));
	reap(pid);
}

BEHAVIOUR(ending_tcp_states)
{
	int c, s;
	struct tcp_info info;
	socklen_t len = sizeof(info);
	pair(&c, &s);
	getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("established %d len %d", info.tcpi_state, len >= 104);
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	pause_ms(20);
	getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("c %d", info.tcpi_state);
	getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("s %d", info.tcpi_state);
	DO(shutdown(s, SHUT_WR));
	await(s, POLLHUP);
	await(c, POLLHUP);
	getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("s %d", info.tcpi_state);
	getsockopt(c, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("c %d", info.tcpi_state);
}

/* --- an answer without a look at the question --- */

#define ANSWERS 60

static void *answer_unasked(void *arg)
{
	for (int i = 0; i < ANSWERS; i++) {
		int s = accept(*(int *)arg, NULL, NULL);
		send_all(s, "an answer", 9);
		close(s);
	}
	return NULL;
}

/* The question meets the end of who answered: the answer was sent before, and is read. */
BEHAVIOUR(ending_answer_before_reset)
{
	int l = listener(0);
	int whole = 0;
	char answer[9];
	signal(SIGPIPE, SIG_IGN);
	pthread_t t = thread(answer_unasked, &l);
	for (int i = 0; i < ANSWERS; i++) {
		int c = reach(0);
		(void)!send(c, "a question", 10, 0);
		whole += recv(c, answer, sizeof(answer), MSG_WAITALL) == sizeof(answer);
		close(c);
	}
	join(t);
	say("%d", whole);
}
