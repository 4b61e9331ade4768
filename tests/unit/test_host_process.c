/* Flat sockets that other processes hold too: after fork, before exec, in a message. Beside the kernel's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "host/host.h"
#include "support_whole.h"

#define ROUNDS 500

/* Two processes write to one connection: each of their messages is whole, none is lost. */
static void shared(const char *path, int client, int server)
{
	long got[2] = {0};
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	char message[8];
	memset(message, pid == 0 ? 'c' : 'p', sizeof(message));
	for (int i = 0; i < ROUNDS; i++) {
		ssize_t n = flat_send(client, message, sizeof(message), MSG_NOSIGNAL);
		if (pid == 0 && n != (ssize_t)sizeof(message))
			_exit(1);
		cr_assert_eq(n, (ssize_t)sizeof(message), "%s: %m", path);
	}
	if (pid == 0)
		_exit(0);
	for (int i = 0; i < 2 * ROUNDS; i++) {
		whole_recv(server, message, sizeof(message));
		for (size_t at = 1; at < sizeof(message); at++)
			cr_assert_eq(message[at], message[0], "%s: mixed", path);
		got[message[0] == 'c']++;
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0, "%s", path);
	cr_expect(got[0] == ROUNDS && got[1] == ROUNDS, "%s: %ld and %ld", path, got[0], got[1]);
	/* The parent's own reads go on. */
	whole_send(server, "on", 2);
	whole_recv(client, message, 2);
}

Test(host_process, forked_writers_share_a_connection)
{
	whole_on_each(shared);
}

static int count(const char *path)
{
	return strcmp(path, "kernel") != 0;
}

/* What a program without the library would find: the kernel's calls work on the same number. */
static void executed(const char *path, int client, int server)
{
	struct flat_handover h = {0};
	char buf[8] = {0};
	struct pollfd p = {.fd = client, .events = POLLIN};
	cr_expect_eq(flat_exec_inherits(0), 0, "%s: closed by exec", path);
	cr_assert_eq(flat_fcntl(client, F_SETFD, 0), 0);
	cr_expect_eq(flat_exec_inherits(0), count(path), "%s", path);
	flat_exec_prepare(0, &h);
	cr_expect_eq(h.n, count(path), "%s", path);
	cr_assert_eq(write(client, "hello", 5), 5, "%s: %m", path);
	whole_recv(server, buf, 5);
	cr_expect_str_eq(buf, "hello", "%s", path);
	whole_send(server, "back", 4);
	cr_assert_eq(poll(&p, 1, 10000), 1, "%s", path);
	cr_expect_eq(read(client, buf, 4), 4, "%s: %m", path);
	cr_expect_eq(memcmp(buf, "back", 4), 0, "%s", path);
	/* It failed: what it was before, it is again. */
	flat_exec_failed(&h);
	cr_expect_eq(flat_exec_inherits(0), count(path), "%s", path);
	whole_send(client, "again", 5);
	whole_recv(server, buf, 5);
	cr_expect_str_eq(buf, "again", "%s", path);
	/* With the library nothing is replaced. */
	flat_exec_prepare(1, &h);
	flat_exec_failed(&h);
	whole_send(server, "last", 4);
	whole_recv(client, buf, 4);
	cr_expect_eq(memcmp(buf, "last", 4), 0, "%s", path);
}

Test(host_process, what_exec_hands_over)
{
	whole_on_each(executed);
}

/* Sends `fd` to this process; the number it has then. */
static int passed(int fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char c = 'f';
	struct iovec iov = {&c, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	int pair[2];
	int got = -1;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	flat_rights_sending(&msg);
	cr_assert_eq(sendmsg(pair[0], &msg, 0), 1);
	memset(&control, 0, sizeof(control));
	cr_assert_eq(recvmsg(pair[1], &msg, MSG_CMSG_CLOEXEC), 1);
	flat_rights_received(&msg);
	memcpy(&got, CMSG_DATA(head), sizeof(got));
	close(pair[0]);
	close(pair[1]);
	return got;
}

static void sent(const char *path, int client, int server)
{
	char buf[4] = {0};
	int fd = passed(server);
	cr_assert(fd >= 0 && fd != server, "%s", path);
	whole_send(client, "one", 3);
	whole_recv(fd, buf, 3);
	cr_expect_str_eq(buf, "one", "%s", path);
	flat_close(server);
	/* Open as long as somebody has it. */
	whole_send(fd, "two", 3);
	whole_recv(client, buf, 3);
	cr_expect_str_eq(buf, "two", "%s", path);
	cr_expect_eq(flat_close(fd), 0, "%s", path);
	cr_expect_eq(flat_recv(client, buf, 1, 0), 0, "%s", path);
}

Test(host_process, a_descriptor_in_a_message_is_the_same_connection)
{
	whole_on_each(sent);
}

static void numbered(const char *path, int client, int server)
{
	char buf[2];
	int low = flat_fcntl(client, F_DUPFD_CLOEXEC, 200);
	cr_expect_eq(low, 200, "%s: %d", path, low);
	cr_expect_eq(flat_fcntl(low, F_GETFD, 0), FD_CLOEXEC, "%s", path);
	cr_expect_eq(flat_dup2(client, 201), 201, "%s", path);
	cr_expect_eq(flat_dup3(client, client, 0), -1, "%s", path);
	cr_expect_eq(errno, EINVAL, "%s: %m", path);
	cr_expect_eq(flat_close_range(200, 210, 0), 0, "%s", path);
	cr_expect_eq(flat_send(201, "x", 1, MSG_NOSIGNAL), -1, "%s", path);
	cr_expect_eq(errno, EBADF, "%s: %m", path);
	int next = flat_dup(server);
	flat_close(next);
	int again = flat_socket(AF_INET, SOCK_STREAM, 0);
	cr_expect_eq(again, next, "%s: the lowest number that is free", path);
	flat_close(again);
	whole_send(client, "ok", 2);
	whole_recv(server, buf, 2);
	cr_expect_eq(memcmp(buf, "ok", 2), 0, "%s", path);
}

Test(host_process, numbers_are_given_as_by_the_kernel)
{
	whole_on_each(numbered);
}

static int lanes_mapped(void)
{
	char line[512];
	int n = 0;
	FILE *f = fopen("/proc/self/maps", "re");
	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "flat-lane") != NULL;
	fclose(f);
	return n;
}

/* Connections between the same two share their memory. */
Test(host_process, many_connections_need_few_lanes)
{
	enum { PAIRS = 40 };
	int fd[PAIRS][2];
	int one = 0;
	whole_begin(NULL, NULL);
	int listener = whole_listen(whole_port());
	for (int i = 0; i < PAIRS; i++) {
		fd[i][0] = whole_connect(whole_addr(240, 9, 0, 1, 7));
		fd[i][1] = flat_accept(listener, NULL, NULL);
		cr_assert_geq(fd[i][1], 0, "%m");
		if (i == 0)
			one = lanes_mapped();
	}
	int many = lanes_mapped();
	cr_expect_gt(one, 0);
	cr_expect_lt(many, one * PAIRS / 4, "%d lanes for one, %d for all", one, many);
	for (int i = 0; i < PAIRS; i++) {
		char c = 0;
		whole_send(fd[i][0], "x", 1);
		flat_close(fd[i][0]);
		whole_recv(fd[i][1], &c, 1);
		cr_expect_eq(flat_recv(fd[i][1], &c, 1, 0), 0);
		flat_close(fd[i][1]);
	}
	cr_expect_leq(lanes_mapped(), many);
	flat_close(listener);
	whole_end();
}

static uint32_t waiters(int fd)
{
	return atomic_load(&flat_fd_sock(fd)->waiters);
}

/* Where a child closes what its parent's instance watches, the parent is among those who wait still; a child that waits is too. */
static void watched(const char *path, int client, int server)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int e = flat_epoll_create1(0);
	if (strcmp(path, "kernel") == 0)
		return;
	cr_assert_eq(flat_epoll_ctl(e, EPOLL_CTL_ADD, server, &ev), 0);
	uint32_t one = waiters(server);
	for (int round = 0; round < 3; round++) {
		pid_t pid = fork();
		if (pid == 0) {
			/* Its time may be over before it comes to sleep. */
			for (int ms = 1; round == 2 && waiters(server) == one && ms < 2000; ms *= 2)
				(void)flat_epoll_wait(e, &ev, 1, ms);
			if (waiters(server) != (round == 2 ? one + 1 : one))
				_exit(1);
			if (round == 0)
				(void)flat_close(server);
			else
				(void)flat_close(e);
			_exit(0);
		}
		int status;
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_expect_eq(status, 0, "%s, round %d", path, round);
		cr_expect_eq(waiters(server), one, "%s, round %d", path, round);
	}
	whole_send(client, "x", 1);
	cr_expect_eq(flat_epoll_wait(e, &ev, 1, 10000), 1, "%s", path);
	cr_expect_eq(flat_close(e), 0);
	cr_expect_eq(waiters(server), 0, "%s", path);
}

Test(host_process, a_child_is_no_waiter_before_it_waits)
{
	whole_on_each(watched);
}

static sigjmp_buf out;

static void leave(int signal)
{
	(void)signal;
	siglongjmp(out, 1);
}

/* Whether this thread of the parent is asleep in the kernel. */
static bool parent_sleeps(void)
{
	char path[64];
	char text[512] = {0};
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)getppid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	const char *state = n > 0 ? strrchr(text, ')') : NULL;
	return state && state[2] == 'S';
}

/* As programs limit the time of a call: a handler of theirs leaves it, while the answer of the offload half is waited for. */
Test(host_process, a_call_that_a_handler_leaves_holds_nothing, .timeout = 60)
{
	whole_begin(NULL, NULL);
	int l = whole_listen(whole_port());
	struct sockaddr_in to = whole_addr(240, 9, 0, 1, 7);
	cr_assert(signal(SIGUSR1, leave) != SIG_ERR);
	/* Joined. */
	int first = whole_connect(to);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(kill(whole_pid(), SIGSTOP), 0);
	pid_t helper = fork();
	if (helper == 0) {
		while (!parent_sleeps())
			(void)usleep(1000);
		(void)kill(getppid(), SIGUSR1);
		(void)kill(whole_pid(), SIGCONT);
		_exit(0);
	}
	if (sigsetjmp(out, 1) == 0) {
		(void)flat_connect(fd, (struct sockaddr *)&to, sizeof(to));
		(void)pause();
	}
	cr_assert_eq(waitpid(helper, NULL, 0), helper);
	/* The handler ran when the connection was there, under its number: nothing of it is left elsewhere. */
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	cr_expect_eq(flat_getpeername(fd, (struct sockaddr *)&peer, &len), 0, "%m");
	int second = whole_connect(to);
	cr_expect_eq(flat_close(second), 0);
	cr_expect_eq(flat_close(first), 0);
	flat_close(fd);
	flat_close(l);
	whole_end();
}
