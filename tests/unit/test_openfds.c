/* What /proc says of descriptors, beside what fcntl() and epoll_ctl() say of them one by one. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/openfds.h"

/* Above all numbers that a test has, and more than one piece of the listing. */
#define TOP 2048
#define MANY 300

struct seen {
	int n;
	int last;  /* -1: none */
	int until; /* the number after which it is enough */
	int calls[TOP];
};

static bool see(int fd, int dir, const char *name, void *arg)
{
	struct seen *s = arg;
	struct stat by_name;
	struct stat by_fd;
	cr_assert_gt(fd, s->last, "in their order");
	cr_assert_lt(fd, TOP);
	s->calls[fd]++;
	s->last = fd;
	s->n++;
	if (fstatat(dir, name, &by_name, 0) == 0 && fstat(fd, &by_fd) == 0)
		cr_expect_eq(by_name.st_ino, by_fd.st_ino, "%d", fd);
	return fd == s->until;
}

/* Copies of a descriptor, with holes between them. */
static void open_many(int fd)
{
	for (int i = 0; i < MANY; i++)
		cr_assert_geq(fcntl(fd, F_DUPFD_CLOEXEC, 100 + 3 * i), 0);
}

static int opened(int from)
{
	int n = 0;
	for (int fd = from; fd < TOP; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

Test(openfds, each_number_that_is_open_in_its_order)
{
	const int begins[] = {0, 1, 100, 101, 500, 997, 998, TOP};
	open_many(0);
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		static struct seen s;
		memset(&s, 0, sizeof(s));
		s.last = s.until = -1;
		cr_assert_eq(flat_open_each(0, begins[i], see, &s), 0);
		cr_expect_eq(s.n, opened(begins[i]), "from %d: %d", begins[i], s.n);
		for (int fd = 0; fd < TOP; fd++)
			cr_expect_eq(s.calls[fd], fd >= begins[i] && fcntl(fd, F_GETFD) >= 0,
				     "from %d: %d", begins[i], fd);
	}
}

Test(openfds, enough_is_enough)
{
	static struct seen s = {.last = -1, .until = 400};
	open_many(0);
	cr_assert_eq(flat_open_each(0, 0, see, &s), 0);
	cr_expect_eq(s.last, 400);
}

static bool close_it(int fd, int dir, const char *name, void *arg)
{
	int *n = arg;
	(void)dir;
	(void)name;
	*n += close(fd) == 0;
	return false;
}

Test(openfds, those_that_are_told_of_may_be_closed)
{
	int n = 0;
	open_many(0);
	cr_assert_eq(flat_open_each(0, 100, close_it, &n), 0);
	cr_expect_eq(n, MANY);
	cr_expect_eq(opened(100), 0);
}

Test(openfds, another_process_has_its_own)
{
	static struct seen s = {.last = -1, .until = -1};
	int ready[2];
	char byte;
	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		int last = fcntl(ready[1], F_DUPFD, 700);
		if (last == 700 && close_range(0, 699, 0) == 0 && write(last, "r", 1) == 1)
			(void)pause();
		_exit(1);
	}
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	cr_expect_eq(flat_open_each(pid, 0, see, &s), 0);
	cr_expect(s.n == 1 && s.last == 700, "%d, the last one %d", s.n, s.last);
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	/* Nobody is there to be looked at. */
	cr_expect_eq(flat_open_each(pid, 0, see, &s), -ENOENT);
	cr_expect_eq(s.n, 1);
}

/* What epoll_ctl() was told of the i-th. */
static uint32_t asked(int i)
{
	static const uint32_t events[] = {EPOLLIN, EPOLLOUT | EPOLLET, 0,
					  EPOLLIN | EPOLLONESHOT | EPOLLRDHUP | EPOLLPRI};
	return events[i % 4];
}

/* More members than one piece of fdinfo tells of. */
Test(openfds, what_an_instance_watches)
{
	int fds[MANY];
	int ends[2];
	uint32_t events;
	int epfd = epoll_create1(EPOLL_CLOEXEC);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	cr_expect_eq(flat_open_watched(epfd, ends[0], &events), -ENOENT, "it has no member");
	for (int i = 0; i < MANY; i++) {
		struct epoll_event ev = {.events = asked(i), .data.u64 = UINT64_MAX};
		fds[i] = fcntl(ends[0], F_DUPFD_CLOEXEC, 100 + 3 * i);
		cr_assert_eq(epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &ev), 0);
	}
	for (int i = 0; i < MANY; i++) {
		events = 0;
		cr_expect_eq(flat_open_watched(epfd, fds[i], &events), 0, "%d", fds[i]);
		/* These two are told of anyway. */
		cr_expect_eq(events, asked(i) | EPOLLERR | EPOLLHUP, "%d: %#x", fds[i], events);
		cr_expect_eq(flat_open_watched(epfd, fds[i] + 1, &events), -ENOENT);
	}
	cr_assert_eq(epoll_ctl(epfd, EPOLL_CTL_DEL, fds[7], NULL), 0);
	cr_expect_eq(flat_open_watched(epfd, fds[7], &events), -ENOENT, "it is none any more");
	cr_expect_eq(flat_open_watched(ends[0], fds[8], &events), -ENOENT, "a pipe watches none");
	close(epfd);
	cr_expect_eq(flat_open_watched(epfd, fds[8], &events), -ENOENT, "nobody is there");
}
