/* Who holds a socket: processes that end in whatever way let go of theirs, and nobody else's are given away. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "host/host.h"

/* Together more than there are sockets. */
#define ROUNDS 700
#define EACH 100
/* Descriptor numbers that nothing has. */
#define FIRST 700

static uint16_t given[FLAT_SOCKS_MAX];

/* A socket under this number, whose backlog says which one it is. */
static struct flat_sock *make(int fd, int name)
{
	struct flat_sock *s = flat_sock_new(FLAT_FD_LISTENER);
	if (!s)
		return NULL;
	s->backlog = name;
	flat_fd_bind(fd, s);
	return s;
}

static void make_all(int name)
{
	for (int i = 0; i < EACH; i++)
		cr_assert_not_null(make(FIRST + i, name), "no socket is left at %d", name);
}

static void unbind_all(void)
{
	for (int i = 0; i < EACH; i++)
		flat_fd_unbind(FIRST + i);
}

static pid_t forked(void)
{
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void reap(pid_t pid)
{
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
}

enum end { EXITS, KILLED, EXECUTES, GRANDCHILD, CLONED, ENDS };

static _Noreturn void end_as(enum end end)
{
	if (end == EXECUTES)
		(void)execl("/bin/true", "true", NULL);
	if (end == GRANDCHILD && fork() > 0)
		_exit(0);
	if (end == KILLED)
		(void)raise(SIGKILL);
	_exit(0);
}

/* A process by a call that pthread_atfork() knows nothing of, or a call that fails. */
static pid_t cloned(void)
{
	flat_clone_begins();
	flat_clone_parent();
	flat_clone_begins();
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		flat_clone_child();
	else
		flat_clone_parent();
	return pid;
}

/* One that a living process holds, which its parent has closed. */
static pid_t keeper(uint32_t *index)
{
	struct flat_sock *s = make(FIRST, -1);
	cr_assert_not_null(s);
	*index = flat_sock_index(s);
	pid_t pid = forked();
	if (pid == 0) {
		for (;;)
			(void)pause();
	}
	flat_fd_unbind(FIRST);
	return pid;
}

Test(host_holders, sockets_of_processes_that_ended_are_given_out_again, .timeout = 120)
{
	uint32_t kept;
	flat_host_init();
	struct flat_sock *own = make(FIRST + EACH, -2);
	cr_assert_not_null(own);
	pid_t alive = keeper(&kept);
	for (int round = 0; round < ROUNDS; round++) {
		enum end end = (enum end)(round % ENDS);
		make_all(round);
		for (int i = 0; i < EACH; i++) {
			const struct flat_sock *s = flat_fd_sock(FIRST + i);
			cr_assert_neq(flat_sock_index(s), kept, "round %d: a living one's", round);
			cr_assert_neq(s, own, "round %d: our own", round);
		}
		pid_t pid = end == CLONED ? cloned() : forked();
		if (pid == 0)
			end_as(end);
		/* Before the child ends, and after it. */
		if (round % 2 == 0)
			reap(pid);
		unbind_all();
		if (round % 2 == 1)
			reap(pid);
	}
	cr_expect_eq(own->backlog, -2);
	cr_assert_eq(kill(alive, SIGKILL), 0);
	reap(alive);
	flat_fd_unbind(FIRST + EACH);
}

/* Children that end while nobody forks any more: who needs a socket looks. */
Test(host_holders, the_last_socket_is_looked_for, .timeout = 120)
{
	pid_t pid[8];
	uint32_t n = 0;
	flat_host_init();
	for (size_t k = 0; k < FLAT_ARRAY_SIZE(pid); k++) {
		make_all((int)k);
		pid[k] = forked();
		if (pid[k] == 0) {
			for (;;)
				(void)pause();
		}
		unbind_all();
	}
	while (flat_sock_new(FLAT_FD_LISTENER))
		n++;
	cr_expect_eq(n, FLAT_SOCKS_MAX - EACH * FLAT_ARRAY_SIZE(pid), "%u", n);
	for (size_t k = 0; k < FLAT_ARRAY_SIZE(pid); k++) {
		cr_assert_eq(kill(pid[k], SIGKILL), 0);
		reap(pid[k]);
	}
	while (flat_sock_new(FLAT_FD_LISTENER))
		n++;
	cr_expect_eq(n, FLAT_SOCKS_MAX, "%u", n);
}

/* A filter, a program or a limit may take away what tells of ends: then nobody is taken for dead. */
static void nobody_is_dead(void (*spoil)(void))
{
	flat_host_init();
	pid_t first = forked();
	if (first == 0)
		_exit(0);
	reap(first);
	spoil();
	struct flat_sock *s = make(FIRST, -1);
	cr_assert_not_null(s);
	uint32_t index = flat_sock_index(s);
	pid_t alive = forked();
	if (alive == 0) {
		for (;;)
			(void)pause();
	}
	flat_fd_unbind(FIRST);
	for (int i = 0; i < 32; i++) {
		pid_t pid = forked();
		if (pid == 0)
			_exit(0);
		reap(pid);
	}
	while ((s = flat_sock_new(FLAT_FD_LISTENER)))
		given[flat_sock_index(s)]++;
	cr_expect_eq(given[index], 0, "a living process's socket was given away");
	for (uint32_t i = 0; i < FLAT_SOCKS_MAX; i++)
		cr_assert(given[i] <= 1, "%u was given out twice", i);
	(void)kill(alive, SIGKILL);
	reap(alive);
}

static void close_all(void)
{
	/* As a program does that knows no private descriptors: by number, and past the hooks. */
	(void)FLAT_SYS3(SYS_close_range, 20, ~0U, 0);
}

static void close_and_take(void)
{
	int fds[4096];
	close_all();
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(fds); i++)
		fds[i] = memfd_create("another", MFD_CLOEXEC);
	(void)fds;
}

Test(host_holders, without_the_file_of_locks_nobody_is_dead, .timeout = 120)
{
	nobody_is_dead(close_all);
}

Test(host_holders, another_file_under_its_number_says_nothing, .timeout = 120)
{
	nobody_is_dead(close_and_take);
}
