#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "offload/loop.h"
#include "offload/telling.h"

static struct flat_loop loop;
static int calls;
static int last;

static void on_event(struct flat_source *source, int result)
{
	(void)source;
	calls++;
	last = result;
}

static void setup(void)
{
	cr_assert_eq(flat_loop_init(&loop), 0);
	cr_assert_null(loop.epoll);
}

/* As the default profile of container engines has it. */
static void forbid_io_uring(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void setup_epoll(void)
{
	forbid_io_uring();
	cr_assert_eq(flat_loop_init(&loop), 0);
	cr_assert_not_null(loop.epoll);
}

static void teardown(void)
{
	flat_loop_fini(&loop);
}

TestSuite(loop, .init = setup, .fini = teardown);
TestSuite(loop_epoll, .init = setup_epoll, .fini = teardown);

/* One test for both. */
#define BOTH(name)                                                                                 \
	static void name(void);                                                                    \
	Test(loop, name)                                                                           \
	{                                                                                          \
		name();                                                                            \
	}                                                                                          \
	Test(loop_epoll, name)                                                                     \
	{                                                                                          \
		name();                                                                            \
	}                                                                                          \
	static void name(void)

/* Turns until `n` calls were made, or for two seconds. */
static void turn_until(int n)
{
	for (int i = 0; calls < n && i < 20; i++)
		flat_loop_turn(&loop, 100);
	cr_assert_eq(calls, n);
}

static int listener(struct sockaddr_in *sa)
{
	socklen_t len = sizeof(*sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*sa =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	cr_assert_eq(bind(fd, (struct sockaddr *)sa, sizeof(*sa)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)sa, &len), 0);
	return fd;
}

BOTH(a_poll_tells_again_and_again)
{
	struct flat_source s = {0};
	int fds[2];
	char byte;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(flat_loop_poll(&loop, &s, fds[0], POLLIN, on_event), 0);
	for (int i = 1; i <= 3; i++) {
		cr_assert_eq(write(fds[1], "x", 1), 1);
		turn_until(i);
		cr_assert(last & POLLIN);
		cr_assert_eq(read(fds[0], &byte, 1), 1);
	}
	close(fds[1]);
	turn_until(4);
	cr_assert(last & POLLHUP);
}

BOTH(nothing_comes_after_del)
{
	struct flat_source s = {0};
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(flat_loop_poll(&loop, &s, fds[0], POLLIN, on_event), 0);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	flat_loop_turn(&loop, 0);
	flat_loop_del(&loop, &s);
	int before = calls;
	cr_assert_eq(write(fds[1], "x", 1), 1);
	for (int i = 0; i < 3; i++)
		flat_loop_turn(&loop, 20);
	cr_assert_eq(calls, before);
	flat_loop_del(&loop, &s);
}

BOTH(a_slot_used_again_hears_nothing_of_the_one_before)
{
	struct flat_source a = {0};
	struct flat_source b = {0};
	int x[2];
	int y[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, x), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, y), 0);
	cr_assert_eq(flat_loop_poll(&loop, &a, x[0], POLLIN, on_event), 0);
	flat_loop_turn(&loop, 0);
	cr_assert_eq(write(x[1], "x", 1), 1);
	flat_loop_del(&loop, &a);
	cr_assert_eq(flat_loop_poll(&loop, &b, y[0], POLLIN, on_event), 0);
	for (int i = 0; i < 3; i++)
		flat_loop_turn(&loop, 20);
	cr_assert_eq(calls, 0);
}

BOTH(close_is_seen_at_the_far_end)
{
	struct flat_source s = {0};
	struct pollfd far = {.events = POLLIN};
	int fds[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(flat_loop_poll(&loop, &s, fds[0], POLLIN, on_event), 0);
	flat_loop_turn(&loop, 0);
	flat_loop_close(&loop, &s);
	cr_assert_eq(s.fd, -1);
	flat_loop_turn(&loop, 20);
	far.fd = fds[1];
	cr_assert_eq(poll(&far, 1, 10000), 1);
	cr_assert(far.revents & POLLHUP);
}

static int connected_to(const struct sockaddr_in *sa)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(fd, (const struct sockaddr *)sa, sizeof(*sa)), 0);
	return fd;
}

/* Whether the peer of a connected socket has closed it. */
static bool is_closed(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
	return poll(&p, 1, 10000) == 1 && (p.revents & (POLLRDHUP | POLLHUP));
}

Test(loop, what_was_accepted_for_nobody_is_closed)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_event), 0);
	flat_loop_turn(&loop, 0);
	int client = connected_to(&sa);
	/* Accepted by the kernel's worker, and not looked at before the source is gone. */
	cr_assert_eq(io_uring_submit_and_get_events(&loop.ring), 0);
	flat_loop_del(&loop, &s);
	flat_loop_turn(&loop, 100);
	flat_loop_turn(&loop, 0);
	close(fd);
	cr_expect_eq(calls, 0);
	cr_expect(is_closed(client));
	close(client);
}

Test(loop, an_accept_that_ends_tells_what_it_has_and_that_it_is_over)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	int other = dup(fd);
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_event), 0);
	flat_loop_turn(&loop, 0);
	int client = connected_to(&sa);
	cr_assert_eq(io_uring_submit_and_get_events(&loop.ring), 0);
	flat_loop_accept_end(&loop, &s);
	cr_expect_eq(s.fd, -1);
	cr_expect_eq(loop.n_ending, 1);
	turn_until(2);
	cr_expect_eq(last, -ECANCELED);
	cr_expect_eq(s.index, 0);
	cr_expect_eq(loop.n_ending, 0);
	/* The next one is for whoever has the socket too. */
	int next = connected_to(&sa);
	flat_loop_turn(&loop, 50);
	cr_expect_eq(calls, 2);
	int got = accept(other, NULL, NULL);
	cr_expect_geq(got, 0);
	close(got);
	close(next);
	close(client);
	close(other);
}

BOTH(accepts_for_ever)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_event), 0);
	for (int i = 1; i <= 3; i++) {
		int c = socket(AF_INET, SOCK_STREAM, 0);
		flat_loop_turn(&loop, 0);
		cr_assert_eq(connect(c, (struct sockaddr *)&sa, sizeof(sa)), 0);
		turn_until(i);
		cr_assert_geq(last, 0);
		close(last);
		close(c);
	}
}

BOTH(a_connect_says_how_it_went_once)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	int fd = listener(&sa);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(flat_loop_connect(&loop, &s, c, (struct sockaddr *)&sa, sizeof(sa), on_event),
		     0);
	turn_until(1);
	cr_assert_eq(last, -ECONNREFUSED);
	cr_assert_eq(s.index, 0);
	close(c);
	cr_assert_eq(listen(fd, 8), 0);
	c = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(flat_loop_connect(&loop, &s, c, (struct sockaddr *)&sa, sizeof(sa), on_event),
		     0);
	turn_until(2);
	cr_assert_eq(last, 0);
}

BOTH(many_sources)
{
	static struct flat_source s[500];
	static int fds[500][2];
	for (int i = 0; i < 500; i++) {
		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
		cr_assert_eq(flat_loop_poll(&loop, &s[i], fds[i][0], POLLIN, on_event), 0);
	}
	for (int i = 0; i < 500; i++)
		cr_assert_eq(write(fds[i][1], "x", 1), 1);
	turn_until(500);
	for (int i = 0; i < 500; i++)
		flat_loop_close(&loop, &s[i]);
	flat_loop_turn(&loop, 0);
}

/* Lines of the log that say it. */
static unsigned int lines(FILE *file)
{
	static char text[1 << 16];
	unsigned int n = 0;
	ssize_t len = pread(fileno(file), text, sizeof(text) - 1, 0);
	text[len > 0 ? len : 0] = 0;
	for (char *line = text; (line = strstr(line, "no connection can be")) != NULL; line++)
		n++;
	return n;
}

/* The next descriptor is none that may be had; the limit is that of when the request is made. The limit before. */
static struct rlimit no_more_descriptors(void)
{
	struct rlimit limit;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	int next = dup(STDERR_FILENO);
	close(next);
	struct rlimit none = {.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	return limit;
}

BOTH(an_accept_without_descriptors_rests_and_goes_on)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	struct rlimit limit;
	FILE *log = tmpfile();
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	flat_log_init(fileno(log), FLAT_LOG_INFO, "t");
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	limit = no_more_descriptors();
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_event), 0);
	cr_assert_eq(connect(client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	/* Told of once for each rest: it spun, some hundred thousand times a second. */
	for (int i = 0; i < 200 && calls < 3; i++)
		flat_loop_turn(&loop, 10);
	cr_expect_eq(calls, 3);
	cr_expect_eq(last, -EMFILE);
	for (int i = 0; i < 50; i++)
		flat_loop_turn(&loop, 0);
	cr_expect_leq(calls, 4);
	cr_expect_eq(lines(log), 1);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < 100 && last < 0; i++)
		flat_loop_turn(&loop, 10);
	cr_assert_geq(last, 0);
	close(last);
	flat_log_init(-1, FLAT_LOG_NONE, "t");
	close(client);
	close(fd);
	fclose(log);
}

BOTH(an_accept_that_rests_can_end)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	struct rlimit limit;
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	limit = no_more_descriptors();
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_event), 0);
	cr_assert_eq(connect(client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	turn_until(1);
	cr_assert(s.resting);
	flat_loop_accept_end(&loop, &s);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	turn_until(2);
	cr_assert_lt(last, 0);
	cr_assert_eq(loop.n_ending, 0);
	cr_assert_eq(s.index, 0);
	close(client);
}

/* What the listener has when accepting ends is for whoever has the socket too. */
Test(loop_epoll, an_accept_that_ends_says_so)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	int other = dup(fd);
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_event), 0);
	int client = connected_to(&sa);
	flat_loop_accept_end(&loop, &s);
	cr_expect_eq(loop.n_ending, 1);
	turn_until(1);
	cr_expect_eq(last, -ECANCELED);
	cr_expect_eq(s.index, 0);
	cr_expect_eq(loop.n_ending, 0);
	int got = accept(other, NULL, NULL);
	cr_expect_geq(got, 0);
	close(got);
	close(client);
	close(other);
}

static _Atomic int taken;

static void *take_too(void *arg)
{
	int *fd = arg;
	for (;;) {
		int got = accept(*fd, NULL, NULL);
		if (got < 0)
			return NULL;
		close(got);
		taken++;
	}
}

static void on_accepted(struct flat_source *source, int result)
{
	(void)source;
	if (result >= 0)
		close(result);
	taken++;
}

static void on_first(struct flat_source *source, int result)
{
	on_accepted(source, result);
	flat_loop_del(&loop, source);
}

/* Those that came with the first one are nobody's. */
BOTH(who_is_told_of_a_connection_may_end_its_source)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	int clients[3];
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 8), 0);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(clients); i++)
		clients[i] = connected_to(&sa);
	taken = 0;
	cr_assert_eq(flat_loop_accept(&loop, &s, fd, on_first), 0);
	for (int i = 0; i < 200 && taken < 1; i++)
		flat_loop_turn(&loop, 10);
	flat_loop_turn(&loop, 0);
	cr_expect_eq(taken, 1);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(clients); i++) {
		cr_expect(is_closed(clients[i]));
		close(clients[i]);
	}
	close(fd);
}

/* Its server blocks in accept() too: which of the two takes a connection, nobody knows; the loop sleeps in none. */
BOTH(a_listener_that_blocks_is_shared_with_its_server)
{
	struct flat_source s = {0};
	struct sockaddr_in sa;
	pthread_t server;
	int fd = listener(&sa);
	cr_assert_eq(listen(fd, 64), 0);
	int own = dup(fd);
	cr_assert_eq(flat_loop_accept(&loop, &s, own, on_accepted), 0);
	cr_assert_eq(pthread_create(&server, NULL, take_too, &fd), 0);
	for (int i = 0; i < 500; i++) {
		int client = connected_to(&sa);
		flat_loop_turn(&loop, 0);
		close(client);
	}
	for (int i = 0; i < 200 && taken < 500; i++)
		flat_loop_turn(&loop, 10);
	cr_expect_eq(taken, 500);
	shutdown(fd, SHUT_RD);
	cr_assert_eq(pthread_join(server, NULL), 0);
	flat_loop_del(&loop, &s);
	close(own);
	close(fd);
}
