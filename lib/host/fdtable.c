#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "host/epoll.h"
#include "host/holders.h"
#include "host/pool.h"
#include "host/share.h"
#include "host/stream.h"

const uint8_t *flat_fd_kinds;
uint32_t flat_fd_count;

static uint8_t *kinds;
static uint16_t *marks;	  /* fd -> FLAT_MARK_* of a candidate */
static uint32_t *indices; /* fd -> socket index, also after it was closed */
static _Atomic uint64_t make_lock;
static _Atomic uint64_t abroad_lock;
__thread int flat_my_tid;
static _Atomic int table_pid; /* whose descriptors the tables speak of */
static _Atomic int fd_top;
static _Atomic uint32_t n_opening; /* candidates that some thread is opening */
static __thread int my_opening;	   /* the one that this thread is, + 1 */

int flat_tid(void)
{
	if (flat_unlikely(flat_my_tid == 0)) {
		/* A child of vfork() has its parent's thread memory: what it left there would be the parent's. */
		if (flat_unlikely(flat_process_foreign()))
			return flat_sys_gettid();
		flat_my_tid = flat_sys_gettid();
	}
	/* A filter forbids it: such programs have one thread. */
	if (flat_unlikely(flat_my_tid < 0))
		flat_my_tid = flat_sys_getpid();
	return flat_my_tid;
}

/* Whether who holds it, and is another thread, is there no more. */
static bool holder_gone(uint64_t held)
{
	enum flat_life life = flat_holders_life(held);
	if (life != FLAT_LIFE_UNKNOWN)
		return life == FLAT_LIFE_OVER;
	/* Its process is this one, or its row tells nothing. */
	uint32_t tid = flat_holders_tid(held);
	siginfo_t ended = {0};
	if (FLAT_SYS2(SYS_tkill, tid, 0) == -ESRCH)
		return true;
	/* A child that was killed is there until we wait for it, which we may be about to do. */
	(void)FLAT_SYS5(SYS_waitid, P_PID, tid, &ended, WEXITED | WNOHANG | WNOWAIT | __WALL, NULL);
	return ended.si_pid == (pid_t)tid;
}

void flat_lock_slow(_Atomic uint64_t *lock)
{
	uint64_t me = flat_holders_word((uint32_t)flat_tid());
	uint64_t free = 0;
	uint32_t yields = 0;
	while (!atomic_compare_exchange_weak_explicit(lock, &free, me, memory_order_acquire,
						      memory_order_relaxed)) {
		/* A signal handler of this thread, or one that was left by longjmp: see core.md, 6. */
		if (free != 0 && flat_holders_same(free, me))
			return;
		/* Held for nanoseconds: a holder that is gone was killed, in a process that shares the socket. */
		if (free != 0 && ++yields % 1024 == 0 && holder_gone(free))
			(void)atomic_compare_exchange_strong(lock, &free, 0);
		else if (free != 0)
			flat_sys_yield();
		free = 0;
	}
}

long flat_result(long value)
{
	if (flat_likely(value >= 0))
		return value;
	errno = (int)-value;
	return -1;
}

static void in_child(void)
{
	flat_my_tid = 0;
	/* Of this memory; another thread of the parent may have had it. */
	atomic_store(&abroad_lock, 0);
	atomic_store(&table_pid, flat_sys_getpid());
	/* The threads that were opening are the parent's. */
	for (int fd = 0; atomic_load(&n_opening) != 0 && fd < flat_fd_top(); fd++)
		marks[fd] &= (uint16_t)~FLAT_MARK_OPENING;
	atomic_store(&n_opening, 0);
	my_opening = 0;
	flat_pool_forked();
	flat_bell_forked();
	flat_epoll_forked();
}

void flat_clone_begins(void)
{
	if (!flat_fd_kinds)
		return;
	flat_fd_marks_forking();
	flat_pool_forking();
}

void flat_clone_parent(void)
{
	if (flat_fd_kinds)
		flat_pool_fork_over();
}

void flat_clone_child(void)
{
	if (!flat_fd_kinds)
		return;
	in_child();
	flat_session_forked();
}

/* Under the lock. What is missing for want of memory is tried again by the next call. */
static void make(void)
{
	kinds = kinds ? kinds : flat_map_zero(FLAT_FD_KINDS, MAP_PRIVATE);
	marks = marks ? marks : flat_map_zero(FLAT_FD_KINDS * sizeof(*marks), MAP_PRIVATE);
	indices = indices ? indices : flat_map_zero(FLAT_FD_KINDS * sizeof(*indices), MAP_PRIVATE);
	if (!kinds || !marks || !indices || !flat_pool_make())
		return;
	atomic_store(&table_pid, flat_sys_getpid());
	(void)pthread_atfork(flat_pool_forking, flat_pool_fork_over, in_child);
	/* release: whoever sees it sees the tables */
	__atomic_store_n(&flat_fd_kinds, kinds, __ATOMIC_RELEASE);
}

void flat_host_init(void)
{
	if (flat_likely(flat_fd_kinds))
		return;
	flat_lock(&make_lock);
	if (!flat_fd_kinds)
		make();
	flat_unlock(&make_lock);
}

static void end_opening(void)
{
	int fd = my_opening - 1;
	my_opening = 0;
	if (flat_fd_kind(fd) == FLAT_FD_CANDIDATE)
		marks[fd] &= (uint16_t)~FLAT_MARK_OPENING;
	atomic_fetch_sub(&n_opening, 1);
}

void flat_fd_opening(int fd, bool begins)
{
	/* One that this thread left, by longjmp or for a handler that connects as well, is waited for no longer. */
	if (my_opening != 0 && (begins || my_opening == fd + 1))
		end_opening();
	if (!begins)
		return;
	my_opening = fd + 1;
	atomic_fetch_add(&n_opening, 1);
	marks[fd] |= FLAT_MARK_OPENING;
}

static bool opened_elsewhere(int fd)
{
	return flat_fd_kind(fd) == FLAT_FD_CANDIDATE && my_opening != fd + 1 &&
	       (__atomic_load_n(&marks[fd], __ATOMIC_ACQUIRE) & FLAT_MARK_OPENING);
}

/*
 * An answer takes less than a wake-up, mostly. Bounded as the question is: a thread that left it by longjmp does not come
 * back to say so.
 */
static void await_opened(int fd)
{
	const struct timespec nap = {.tv_nsec = 50000};
	int64_t end_ms = 0;
	for (uint32_t looks = 0; opened_elsewhere(fd); looks++) {
		if (looks < 64) {
			flat_sys_yield();
			continue;
		}
		int64_t now = flat_now_ms();
		end_ms = end_ms ? end_ms : now + FLAT_REPLY_TIMEOUT_MS;
		if (now < end_ms)
			FLAT_SYS2(SYS_nanosleep, &nap, NULL);
		else
			marks[fd] &= (uint16_t)~FLAT_MARK_OPENING;
	}
}

struct flat_sock *flat_fd_sock(int fd)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	if (kind == FLAT_FD_CANDIDATE &&
	    flat_unlikely(atomic_load_explicit(&n_opening, memory_order_relaxed) != 0)) {
		await_opened(fd);
		kind = flat_fd_kind(fd);
	}
	if (kind != FLAT_FD_STREAM && kind != FLAT_FD_LISTENER)
		return NULL;
	return flat_pool_sock(indices[fd]);
}

bool flat_fd_foreign(void)
{
	return flat_sys_getpid() != atomic_load_explicit(&table_pid, memory_order_relaxed);
}

int flat_process_foreign(void)
{
	/* Without tables there is nothing of ours that a child could mistake. */
	return flat_fd_kinds && flat_fd_foreign();
}

int flat_fd_top(void)
{
	return atomic_load_explicit(&fd_top, memory_order_relaxed);
}

void flat_fd_mark(int fd, uint16_t which)
{
	if (flat_fd_kind(fd) != FLAT_FD_CANDIDATE)
		return;
	if (!(which & FLAT_MARK_NEW))
		marks[fd] &= (uint16_t)~FLAT_MARK_NEW;
	marks[fd] |= which;
}

void flat_fd_marks_forking(void)
{
	for (int fd = 0; kinds && fd < flat_fd_top(); fd++) {
		if (kinds[fd] == FLAT_FD_CANDIDATE)
			marks[fd] &= (uint16_t)~FLAT_MARK_NEW;
	}
}

uint16_t flat_fd_marks(int fd)
{
	return flat_fd_kind(fd) == FLAT_FD_CANDIDATE ? marks[fd] : 0;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	return flat_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

void flat_fd_twins(int fd, struct flat_twins *t)
{
	t->n = 0;
	if (flat_likely(!(flat_fd_marks(fd) & FLAT_MARK_TWINS)))
		return;
	uint64_t cookie = cookie_of(fd);
	for (int twin = 0; twin < flat_fd_top() && t->n < FLAT_TWINS_MAX; twin++) {
		if (twin != fd && (flat_fd_marks(twin) & FLAT_MARK_TWINS) && cookie &&
		    cookie_of(twin) == cookie)
			t->fd[t->n++] = twin;
	}
}

static void mark(int fd, uint16_t which, bool on)
{
	if (on)
		flat_fd_mark(fd, which);
	else if (flat_fd_kind(fd) == FLAT_FD_CANDIDATE)
		marks[fd] &= (uint16_t)~which;
}

void flat_fd_mark_each(int fd, uint16_t which, bool on)
{
	struct flat_twins twins;
	flat_fd_twins(fd, &twins);
	for (uint32_t i = 0; i < twins.n; i++)
		mark(twins.fd[i], which, on);
	mark(fd, which, on);
}

void flat_fd_set_kind(int fd, enum flat_fd_kind kind)
{
	if (!kinds || (unsigned int)fd >= FLAT_FD_KINDS)
		return;
	uint8_t old = kinds[fd];
	int top = flat_fd_top();
	while (kind != FLAT_FD_KERNEL && fd >= top &&
	       !atomic_compare_exchange_weak(&fd_top, &top, fd + 1))
		;
	if (old != kind)
		marks[fd] = 0;
	__atomic_store_n(&kinds[fd], (uint8_t)kind, __ATOMIC_RELEASE);
	bool counted = old != FLAT_FD_KERNEL && old != FLAT_FD_EPOLL;
	bool counts = kind != FLAT_FD_KERNEL && kind != FLAT_FD_EPOLL;
	if (counts && !counted)
		__atomic_fetch_add(&flat_fd_count, 1, __ATOMIC_RELAXED);
	else if (counted && !counts)
		__atomic_fetch_sub(&flat_fd_count, 1, __ATOMIC_RELAXED);
}

void flat_fd_bind(int fd, struct flat_sock *s)
{
	indices[fd] = flat_sock_index(s);
	flat_fd_set_kind(fd, (enum flat_fd_kind)s->kind);
}

/* Of those in 0::/8 a program connects to ::1 alone. */
static bool reaches(const struct flat_addr *local, const struct flat_addr *to)
{
	const struct flat_addr all = {.family = local->family, .port = to->port};
	bool loopback = to->ip[0] == (to->family == AF_INET ? 127 : 0);
	return flat_addr_equal(local, to) || (loopback && flat_addr_equal(local, &all));
}

bool flat_fd_listens(const struct flat_addr *to)
{
	const uint8_t *at = kinds;
	const uint8_t *end = kinds + flat_fd_top();
	while (at < end && (at = memchr(at, FLAT_FD_LISTENER, (size_t)(end - at))) != NULL) {
		const struct flat_sock *s = flat_pool_sock(indices[at++ - kinds]);
		if (reaches(&s->local, to))
			return true;
	}
	return false;
}

void flat_fd_forget(const struct flat_sock *s)
{
	for (int fd = 0; fd < flat_fd_top(); fd++) {
		enum flat_fd_kind kind = flat_fd_kind(fd);
		if ((kind == FLAT_FD_STREAM || kind == FLAT_FD_LISTENER) &&
		    indices[fd] == flat_sock_index(s))
			flat_fd_set_kind(fd, FLAT_FD_KERNEL);
	}
}

void flat_fd_bind_more(int fd, struct flat_sock *s)
{
	flat_sock_get(s);
	flat_fd_unbind(fd);
	flat_fd_bind(fd, s);
}

void flat_fd_unbind(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	enum flat_fd_kind kind = flat_fd_kind(fd);
	flat_epoll_closed(fd, !s || flat_sock_numbers(s) == 1);
	if (kind == FLAT_FD_KERNEL)
		return;
	/* Its index stays: another thread may have looked at the kind before. */
	flat_fd_set_kind(fd, FLAT_FD_KERNEL);
	if (s)
		flat_sock_put(s);
}

/* A duplicate out of the way, or a negative errno. */
static int raise_number(int fd)
{
	static const int bases[] = {900000, 60000, 15000, 3500, 900, 200};
	static _Atomic size_t
	    fits; /* the first one below the process's limit, when it was last asked */
	int high = -EINVAL;
	for (size_t i = atomic_load(&fits); i < FLAT_ARRAY_SIZE(bases) && high < 0; i++) {
		high = flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, bases[i]);
		if (high >= 0)
			atomic_store(&fits, i);
	}
	return high;
}

/* Numbers that follow one another, to be closed. */
struct run {
	int first;
	int n;
};

static void close_run(struct run *r)
{
	bool at_once =
	    r->n > 1 && FLAT_SYS3(SYS_close_range, r->first, r->first + r->n - 1, 0) == 0;
	for (int i = 0; i < r->n && !at_once; i++)
		flat_sys_close(r->first + i);
	r->n = 0;
}

static void close_soon(struct run *r, int fd)
{
	if (fd != r->first + r->n)
		close_run(r);
	if (r->n++ == 0)
		r->first = fd;
}

void flat_fds_private(int *fds, size_t n, int done)
{
	struct run left = {0};
	for (size_t i = 0; i < n; i++) {
		if (fds[i] < 0 || flat_fd_kind(fds[i]) == FLAT_FD_PRIVATE)
			continue;
		int high = raise_number(fds[i]);
		if (high >= 0) {
			close_soon(&left, fds[i]);
			fds[i] = high;
		}
		flat_fd_set_kind(fds[i], FLAT_FD_PRIVATE);
	}
	if (done >= 0)
		close_soon(&left, done);
	close_run(&left);
}

int flat_fd_private(int fd)
{
	flat_fds_private(&fd, 1, -1);
	return fd;
}

void flat_fd_close_private(int fd)
{
	if (fd < 0)
		return;
	if (flat_fd_kind(fd) == FLAT_FD_PRIVATE)
		flat_fd_set_kind(fd, FLAT_FD_KERNEL);
	flat_sys_close(fd);
}

/* --- the calls that make and end descriptor numbers --- */

/* Descriptors that children of vfork() made since: their parents' tables do not change. */
static struct abroad {
	pid_t pid;
	int fd;
	struct flat_sock *sock; /* NULL: something else has the number */
} abroad[64];
static uint32_t n_abroad;

struct flat_sock *flat_fd_abroad(int fd)
{
	pid_t me = flat_sys_getpid();
	struct flat_sock *s = flat_fd_sock(fd);
	flat_lock(&abroad_lock);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(abroad); i++) {
		const struct abroad *a = &abroad[(n_abroad - 1 - i) % FLAT_ARRAY_SIZE(abroad)];
		if (a->pid == me && a->fd == fd) {
			s = a->sock;
			break;
		}
	}
	flat_unlock(&abroad_lock);
	return s;
}

/* A descriptor made by a process that is not the tables' own: a program that adopts it will use it. */
static int made_abroad(int from, long made)
{
	struct flat_sock *s = flat_fd_abroad(from);
	if (s && made >= 0)
		flat_share_export(s, from);
	if (made >= 0) {
		flat_lock(&abroad_lock);
		abroad[n_abroad++ % FLAT_ARRAY_SIZE(abroad)] =
		    (struct abroad){flat_sys_getpid(), (int)made, s};
		flat_unlock(&abroad_lock);
	}
	return (int)flat_result(made);
}

/* The program closes it, or puts another file there. */
static void unbind_closing(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (s)
		flat_sock_keep(s, fd);
	flat_fd_unbind(fd);
}

int flat_close(int fd)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	if (kind == FLAT_FD_PRIVATE)
		return (int)flat_result(-EBADF);
	if (flat_unlikely(flat_fd_foreign()))
		return (int)flat_result(flat_sys_close(fd));
	unbind_closing(fd);
	return (int)flat_result(flat_sys_close(fd));
}

int flat_close_range(unsigned int first, unsigned int last, int flags)
{
	/* Before anything of ours is touched. */
	if (first > last || ((unsigned int)flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)))
		return (int)flat_result(-EINVAL);
	if ((unsigned int)flags & CLOSE_RANGE_CLOEXEC)
		return (int)flat_result(FLAT_SYS3(SYS_close_range, first, last, flags));
	/* Around what is ours: private descriptors stay, in a child of vfork() too, for what carries its sockets. */
	bool foreign = flat_fd_foreign();
	unsigned int from = first;
	long err = 0;
	for (unsigned int fd = first; fd <= last && fd < FLAT_FD_KINDS && flat_fd_kinds; fd++) {
		enum flat_fd_kind kind = flat_fd_kind((int)fd);
		if (kind == FLAT_FD_KERNEL || (foreign && kind != FLAT_FD_PRIVATE))
			continue;
		if (kind != FLAT_FD_PRIVATE) {
			unbind_closing((int)fd);
			continue;
		}
		if (fd > from)
			err = FLAT_SYS3(SYS_close_range, from, fd - 1, flags);
		from = fd + 1;
	}
	if (from <= last)
		err = FLAT_SYS3(SYS_close_range, from, last, flags);
	return (int)flat_result(err);
}

/* `to` is now a duplicate of `from` in the kernel: the same in our table. */
static void duplicated(int from, int to)
{
	struct flat_sock *s = flat_fd_sock(from);
	flat_fd_unbind(to);
	if (s) {
		flat_sock_get(s);
		flat_fd_bind(to, s);
	} else if (flat_fd_kind(from) == FLAT_FD_CANDIDATE) {
		flat_fd_set_kind(to, FLAT_FD_CANDIDATE);
		/* One file: what is set on one number from here on is set on both. */
		flat_fd_mark(from, FLAT_MARK_OPTIONS | FLAT_MARK_TWINS);
		flat_fd_mark(to, flat_fd_marks(from));
	} else if (flat_fd_kind(from) == FLAT_FD_EPOLL) {
		flat_epoll_duplicated(from, to);
	}
}

int flat_dup(int fd)
{
	(void)flat_fd_sock(fd); /* before the kernel's copy of it is made, not after */
	int to = (int)FLAT_SYS1(SYS_dup, fd);
	if (flat_unlikely(flat_fd_foreign()))
		return made_abroad(fd, to);
	if (to >= 0)
		duplicated(fd, to);
	return (int)flat_result(to);
}

int flat_dup2(int fd, int to)
{
	if (fd == to)
		return (int)flat_result(flat_sys_fcntl(fd, F_GETFD, 0) < 0 ? -EBADF : fd);
	return flat_dup3(fd, to, 0);
}

int flat_dup3(int fd, int to, int flags)
{
	if (fd == to || (flags & ~O_CLOEXEC))
		return (int)flat_result(-EINVAL);
	if (flat_unlikely(flat_fd_foreign()))
		return made_abroad(fd, flat_sys_dup3(fd, to, flags));
	if (flat_fd_kind(fd) == FLAT_FD_PRIVATE || flat_fd_kind(to) == FLAT_FD_PRIVATE)
		return (int)flat_result(-EBADF);
	(void)flat_fd_sock(fd);
	if (flat_sys_fcntl(fd, F_GETFD, 0) >= 0)
		unbind_closing(to);
	int err = flat_sys_dup3(fd, to, flags);
	if (err >= 0)
		duplicated(fd, to);
	return (int)flat_result(err);
}

int flat_fcntl(int fd, int cmd, long arg)
{
	struct flat_sock *s = flat_fd_sock(fd);
	int ret = flat_sys_fcntl(fd, cmd, arg);
	bool made = cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC;
	if (flat_unlikely(made && flat_fd_foreign()))
		return made_abroad(fd, ret);
	if (ret >= 0 && made)
		duplicated(fd, ret);
	if (ret >= 0 && !s && (cmd == F_SETOWN || cmd == F_SETOWN_EX || cmd == F_SETSIG))
		flat_fd_mark(fd, FLAT_MARK_OPTIONS);
	if (ret >= 0 && s && cmd == F_SETFL) {
		atomic_store(&s->nonblock, (arg & O_NONBLOCK) != 0);
		flat_stream_signals(s, fd, (arg & O_ASYNC) != 0);
	}
	return (int)flat_result(ret);
}
