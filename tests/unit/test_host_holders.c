/* Who holds a socket: processes that end in whatever way let go of theirs, and nobody else's are given away. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <flat/socket.h>
#include <flat/unstable/preload.h>

#include "host/holders.h"
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

/*
 * All sockets that are left: so many. A process's memory may outlast it by moments, for who reads of it in /proc; so nobody else
 * lets go of them later than that.
 */
static void take_all(uint32_t n)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	struct flat_sock *s;
	uint32_t had = 0;
	for (int looks = 0; had < n && looks < 20000; looks++) {
		while ((s = flat_sock_new(FLAT_FD_LISTENER))) {
			given[flat_sock_index(s)]++;
			had++;
		}
		if (had < n)
			(void)nanosleep(&nap, NULL);
	}
	cr_expect_eq(had, n, "%u, not %u", had, n);
	for (uint32_t i = 0; i < FLAT_SOCKS_MAX; i++)
		cr_assert(given[i] <= 1, "%u was given out twice", i);
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
	take_all(FLAT_SOCKS_MAX - EACH * FLAT_ARRAY_SIZE(pid));
	for (size_t k = 0; k < FLAT_ARRAY_SIZE(pid); k++) {
		cr_assert_eq(kill(pid[k], SIGKILL), 0);
		reap(pid[k]);
	}
	take_all(EACH * FLAT_ARRAY_SIZE(pid));
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

/* Makes, shares and ends sockets without end; a byte for each turn. */
static _Noreturn void churn(int told)
{
	(void)setpgid(0, 0);
	for (int turn = 0;; turn++) {
		for (int i = 0; i < EACH; i++)
			(void)make(FIRST + i, turn);
		if (turn % 4 == 0 && fork() == 0) {
			for (int i = 0; i < EACH / 2; i++)
				flat_fd_unbind(FIRST + i);
			_exit(0);
		}
		unbind_all();
		(void)!write(told, "", 1);
	}
}

/* A family that is killed somewhere in the middle; this process needs a socket before it has seen that it ended. */
static void kill_a_family(unsigned int *chance)
{
	int told[2];
	char bytes[64];
	cr_assert_eq(pipe2(told, O_CLOEXEC), 0);
	pid_t pid = forked();
	if (pid == 0)
		churn(told[1]);
	close(told[1]);
	for (int left = rand_r(chance) % 32; left >= 0; left--)
		cr_assert_eq(read(told[0], bytes, 1), 1);
	for (int spin = rand_r(chance) % 256; spin > 0; spin--)
		(void)sched_yield();
	cr_assert_eq(kill(-pid, SIGKILL), 0);
	for (int i = 0; i < EACH; i++)
		cr_assert_not_null(make(FIRST + i, 0));
	unbind_all();
	close(told[0]);
	/* And those forked from it, which are ours to wait for. */
	while (waitpid(-1, NULL, 0) > 0)
		;
}

Test(host_holders, families_that_are_killed_leave_nothing_held, .timeout = 120)
{
	unsigned int chance = 7;
	flat_host_init();
	cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	struct flat_sock *own = make(FIRST + EACH, -2);
	cr_assert_not_null(own);
	for (int round = 0; round < 40; round++)
		kill_a_family(&chance);
	take_all(FLAT_SOCKS_MAX - 1);
	cr_expect_eq(given[flat_sock_index(own)], 0);
	cr_expect_eq(own->backlog, -2);
}

#define STEPS 200000

static struct {
	_Atomic uint64_t lock;
	_Atomic int ready;
	long n;
} * counted;

/* A child in a namespace of its own says nothing to the test's runner, which would not know the number that it has there. */
static bool count(int fd)
{
	if (!make(fd, 0))
		return false;
	atomic_fetch_add(&counted->ready, 1);
	while (atomic_load(&counted->ready) < 3)
		(void)sched_yield();
	for (int i = 0; i < STEPS; i++) {
		flat_lock(&counted->lock);
		/* Others come while it is held. */
		long n = counted->n;
		if (i % 64 == 0)
			(void)sched_yield();
		counted->n = n + 1;
		flat_unlock(&counted->lock);
	}
	return true;
}

/* Process ids of another namespace are other processes', or nobody's. */
Test(host_holders, a_lock_is_one_holders_across_pid_namespaces, .timeout = 120)
{
	pid_t pid[2];
	flat_host_init();
	counted =
	    mmap(NULL, sizeof(*counted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(counted, MAP_FAILED);
	cr_assert_not_null(make(FIRST + 1, 0));
	for (int k = 0; k < 2; k++) {
		flat_clone_begins();
		pid[k] = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
		if (pid[k] == 0) {
			flat_clone_child();
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(count(FIRST) ? 0 : 1);
		}
		flat_clone_parent();
		if (pid[k] < 0 && errno == EPERM)
			cr_skip("it takes root");
		cr_assert_gt(pid[k], 0);
	}
	cr_expect(count(FIRST));
	reap(pid[0]);
	reap(pid[1]);
	cr_expect_eq(counted->n, 3 * STEPS, "%ld", counted->n);
}

/* With a row that tells, and without any: the parent has not waited for the child yet, and may be about to. */
static void outlives(bool rows)
{
	siginfo_t ended;
	flat_host_init();
	counted =
	    mmap(NULL, sizeof(*counted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(counted, MAP_FAILED);
	if (rows)
		cr_assert_not_null(make(FIRST, 0));
	pid_t pid = forked();
	if (pid == 0) {
		flat_lock(&counted->lock);
		(void)raise(SIGKILL);
	}
	cr_assert_eq(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
	cr_assert_neq(counted->lock, 0);
	cr_assert_eq(counted->lock >> FLAT_HOLDER_TID_BITS != 0, rows);
	flat_lock(&counted->lock);
	cr_expect_eq(counted->lock, flat_holders_word((uint32_t)flat_tid()));
	flat_unlock(&counted->lock);
	reap(pid);
}

Test(host_holders, a_killed_childs_lock_is_free_before_it_is_waited_for, .timeout = 120)
{
	outlives(true);
}

Test(host_holders, and_so_is_one_of_a_child_without_a_row, .timeout = 120)
{
	outlives(false);
}

static _Atomic bool taken;

static void *take(void *arg)
{
	flat_lock(arg);
	atomic_store(&taken, true);
	flat_unlock(arg);
	return NULL;
}

/* 0: another thread of this process got the lock when it was free, not before. */
static int hold_long(void)
{
	static _Atomic uint64_t lock;
	struct timespec used = {0};
	clockid_t clock;
	pthread_t thread;
	flat_lock(&lock);
	if (pthread_create(&thread, NULL, take, &lock) != 0 ||
	    pthread_getcpuclockid(thread, &clock) != 0)
		return 2;
	/* It has asked many times whether this one is there. */
	while (!taken && used.tv_sec == 0 && used.tv_nsec < 200000000) {
		(void)sched_yield();
		(void)clock_gettime(clock, &used);
	}
	bool early = taken;
	flat_unlock(&lock);
	(void)pthread_join(thread, NULL);
	return early || !taken;
}

/* In a process whose row was another's before: its words tell thread and turn apart. */
Test(host_holders, a_lock_of_a_living_thread_is_not_taken, .timeout = 120)
{
	const uint64_t turns = (UINT64_C(1) << FLAT_HOLDER_TURN_BITS) - 1;
	int status = 0;
	flat_host_init();
	cr_assert_not_null(make(FIRST, 0));
	for (int tries = 0; tries == 0 || (WEXITSTATUS(status) == 3 && tries < 1000); tries++) {
		pid_t pid = forked();
		if (pid == 0) {
			bool first = ((flat_holder_process >> FLAT_HOLDER_TID_BITS) & turns) == 0;
			_exit(first ? 3 : hold_long());
		}
		cr_assert_eq(waitpid(pid, &status, 0), pid);
	}
	cr_expect_eq(status, 0, "%#x", status);
}
