/* Megabytes that nobody reads yet: taken of the writer, and there for the reader whatever happens meanwhile. */
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "parity.h"

/* The kernel's loopback takes some more of a writer before anybody reads. */
#define MUCH ((size_t)2000000)

static char much[MUCH];
static char buf[100];

static void fill_much(void)
{
	for (size_t i = 0; i < MUCH; i++)
		much[i] = (char)(i * 31 + (i >> 9));
}

/* Reads the bytes from `from` to `to` and says whether they are the ones. */
static void read_part(int fd, size_t from, size_t to)
{
	static char got[MUCH];
	size_t n = from;
	ssize_t part;
	while (n < to && (part = recv(fd, got + n, to - n, 0)) > 0)
		n += (size_t)part;
	say("read %zu, the same: %d", n - from, memcmp(got + from, much + from, to - from) == 0);
}

static void read_much(int fd)
{
	read_part(fd, 0, MUCH);
}

static void write_much(int fd, void (*wait_for_room)(int fd))
{
	size_t n = 0;
	while (n < MUCH) {
		ssize_t part = send(fd, much + n, MUCH - n, 0);
		if (part < 0 && errno != EAGAIN) {
			say("send: %s", error_name(errno));
			return;
		}
		n += part > 0 ? (size_t)part : 0;
		if (n < MUCH)
			wait_for_room(fd);
	}
	say("written %zu", n);
}

static void poll_for_room(int fd)
{
	await(fd, POLLOUT);
}

BEHAVIOUR(bytes_much_before_anybody_reads)
{
	int c, s;
	char end;
	fill_much();
	pair(&c, &s);
	set_nonblock(c);
	write_much(c, poll_for_room);
	DO(shutdown(c, SHUT_WR));
	read_much(s);
	DO(recv(s, &end, 1, 0));
}

BEHAVIOUR(bytes_much_from_both_ends_before_they_read)
{
	int c, s;
	fill_much();
	pair(&c, &s);
	send_all(c, "head", 4);
	DO(send(c, much, MUCH, 0) == (ssize_t)MUCH);
	DO(send(s, much, MUCH, 0) == (ssize_t)MUCH);
	char head[4];
	DO(recv(s, head, 4, MSG_WAITALL));
	read_much(s);
	read_much(c);
	/* And it goes on as before. */
	send_all(c, "after", 5);
	await_bytes(s, 5);
	DO(recv(s, buf, 100, 0));
}

static int room_epoll;

static void epoll_for_room(int fd)
{
	struct epoll_event ev;
	(void)fd;
	while (epoll_wait(room_epoll, &ev, 1, -1) < 0)
		;
}

BEHAVIOUR(bytes_much_by_edges_before_anybody_reads)
{
	int c, s;
	fill_much();
	pair(&c, &s);
	set_nonblock(c);
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLET, .data.fd = c};
	room_epoll = epoll_create1(0);
	epoll_ctl(room_epoll, EPOLL_CTL_ADD, c, &ev);
	write_much(c, epoll_for_room);
	read_much(s);
	write_much(c, epoll_for_room);
	read_much(s);
}

static void child_writes(void *arg)
{
	if (send(*(int *)arg, much, MUCH, 0) != (ssize_t)MUCH)
		_exit(1);
}

BEHAVIOUR(bytes_much_of_a_child_that_is_gone_when_they_are_read)
{
	int c, s;
	char end;
	fill_much();
	pair(&c, &s);
	reap(child(child_writes, &c));
	close(c);
	read_much(s);
	DO(recv(s, &end, 1, 0));
}

BEHAVIOUR(bytes_little_where_buffers_are_small)
{
	int c, s;
	int small = 16384;
	pair(&c, &s);
	DO(setsockopt(c, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
	DO(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)));
	size_t n = fill_as_it_is(c);
	say("less than a megabyte: %d", n < 1000000);
	say("drained %d", drain(s, n) == n);
}

/* A single thread writes, and reads it itself. */
BEHAVIOUR(bytes_much_then_read_by_who_wrote)
{
	int c, s;
	fill_much();
	pair(&c, &s);
	set_nonblock(c);
	set_nonblock(s);
	size_t written = 0;
	size_t half = MUCH / 2;
	while (written < half) {
		ssize_t n = send(c, much + written, half - written, 0);
		written += n > 0 ? (size_t)n : 0;
		if (n < 0)
			await(c, POLLOUT);
	}
	say("written %zu", written);
	await(s, POLLIN);
	say_mask("s", s);
	for (size_t n = 0; n < half;) {
		static char got[MUCH];
		ssize_t part = recv(s, got, sizeof(got), 0);
		if (part < 0) {
			await(s, POLLIN);
			continue;
		}
		if (part == 0 || memcmp(got, much + n, (size_t)part) != 0) {
			say("wrong after %zu", n);
			return;
		}
		n += (size_t)part;
	}
	say("read");
	DO(recv(s, much, 1, 0));
}

BEHAVIOUR(bytes_much_then_closed)
{
	int c, s;
	char end;
	fill_much();
	pair(&c, &s);
	DO(send(c, much, MUCH, 0) == (ssize_t)MUCH);
	DO(close(c));
	read_much(s);
	DO(recv(s, &end, 1, 0));
	DO(close(s));
}

BEHAVIOUR(bytes_much_thrown_away)
{
	int c, s;
	char end;
	fill_much();
	pair(&c, &s);
	DO(send(c, much, MUCH, 0) == (ssize_t)MUCH);
	await(s, POLLIN);
	DO(close(s));
	await(c, POLLHUP);
	DO(recv(c, &end, 1, 0));
	DO(send(c, much, 1, MSG_NOSIGNAL));
	DO(close(c));
	/* The next connection begins empty. */
	pair(&c, &s);
	DO(send(c, much, MUCH, 0) == (ssize_t)MUCH);
	read_much(s);
}

struct writer {
	int fd, told;
};

static void writes_and_waits(void *arg)
{
	const struct writer *w = arg;
	bool done = send(w->fd, much, MUCH, 0) == (ssize_t)MUCH;
	(void)!write(w->told, &done, 1);
	for (;;)
		pause();
}

BEHAVIOUR(bytes_much_of_a_writer_that_was_killed)
{
	int c, s, told[2];
	char end;
	bool done = false;
	fill_much();
	pair(&c, &s);
	(void)!pipe(told);
	struct writer w = {c, told[1]};
	pid_t pid = child(writes_and_waits, &w);
	close(c);
	DO(read(told[0], &done, 1));
	say("written %d", done);
	kill(pid, SIGKILL);
	reap(pid);
	read_much(s);
	DO(recv(s, &end, 1, 0));
}

static void writes_the_rest(void *arg)
{
	if (send(*(int *)arg, much + MUCH / 2, MUCH - MUCH / 2, 0) != MUCH - MUCH / 2)
		_exit(1);
}

static void reads_a_quarter(void *arg)
{
	read_part(*(int *)arg, 0, MUCH / 4);
}

BEHAVIOUR(bytes_much_of_two_processes_read_by_two)
{
	int c, s;
	char end;
	fill_much();
	pair(&c, &s);
	DO(send(c, much, MUCH / 2, 0) == MUCH / 2);
	reap(child(writes_the_rest, &c));
	reap(child(reads_a_quarter, &s));
	read_part(s, MUCH / 4, MUCH);
	DO(shutdown(c, SHUT_WR));
	DO(recv(s, &end, 1, 0));
}

static void takes_and_reads_half(void *arg)
{
	int u = *(int *)arg;
	int s = take(u);
	read_part(s, 0, MUCH / 2);
	give(u, s);
}

/* How much is where differs; not that it is somewhere, nor that it is gone when it was read. */
static void say_counts(int c, int s, size_t most)
{
	int in = -1, out = -1;
	DO(ioctl(s, FIONREAD, &in));
	DO(ioctl(c, SIOCOUTQ, &out));
	say("some %d, in bounds %d", in > 0,
	    in >= 0 && (size_t)in <= most && out >= 0 && (size_t)out <= most);
}

BEHAVIOUR(bytes_much_passed_on_while_they_lie_there)
{
	int c, s, u[2], out;
	fill_much();
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(takes_and_reads_half, &u[1]);
	close(u[1]);
	pair(&c, &s);
	DO(send(c, much, MUCH, 0) == (ssize_t)MUCH);
	await(s, POLLIN);
	say_counts(c, s, MUCH);
	give(u[0], s);
	close(s);
	s = take(u[0]);
	reap(pid);
	await(s, POLLIN);
	say_counts(c, s, MUCH / 2);
	read_part(s, MUCH / 2, MUCH);
	do
		ioctl(c, SIOCOUTQ, &out);
	while (out > 0);
	say_counts(c, s, 0);
	/* And it goes on. */
	send_all(c, "after", 5);
	await_bytes(s, 5);
	DO(recv(s, much, 100, 0));
}

BEHAVIOUR(bytes_little_where_the_writer_keeps_its_buffer_small)
{
	int c, s;
	int small = 16384;
	pair(&c, &s);
	DO(setsockopt(c, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
	size_t n = fill_as_it_is(c);
	say("less than a megabyte: %d", n < 1000000);
	say("drained %d", drain(s, n) == n);
}

BEHAVIOUR(bytes_little_where_address_space_is_bounded)
{
	int c, s;
	struct rlimit limit = {0};
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	fill_much();
	if (!f || fscanf(f, "%lu", &pages) != 1 || getrlimit(RLIMIT_AS, &limit) != 0)
		say("statm: %s", error_name(errno));
	if (f)
		(void)fclose(f);
	/* For the directory, 32 MiB, and a lane without deep rings, which are 32 MiB more. */
	limit.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + (56UL << 20);
	DO(setrlimit(RLIMIT_AS, &limit));
	pair(&c, &s);
	send_all(c, much, 100000);
	read_part(s, 0, 100000);
	size_t n = fill_as_it_is(c);
	say("some %d, drained %d", n > 100000, drain(s, n) == n);
	send_all(s, much, 100000);
	read_part(c, 0, 100000);
}
