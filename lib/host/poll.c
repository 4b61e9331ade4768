/* poll and select over flat and kernel descriptors together. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "host/epoll.h"
#include "host/openfds.h"
#include "host/user.h"

/* Sets up to this size need no allocation. */
#define SMALL_SET 64

static short stream_revents(struct flat_sock *s, short events)
{
	uint32_t ev = flat_stream_events(s);
	return (short)(ev & ((uint32_t)(unsigned short)events | POLLERR | POLLHUP));
}

/* Looks at what is ours. Count of ready entries; *kernel: entries that only the kernel can answer. */
static int look_flat(struct pollfd *fds, nfds_t n, nfds_t *kernel)
{
	int ready = 0;
	*kernel = 0;
	for (nfds_t i = 0; i < n; i++) {
		fds[i].revents = 0;
		if (fds[i].fd < 0)
			continue;
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		struct flat_epoll *e = s ? NULL : flat_epoll_find(fds[i].fd);
		if (s && s->kind == FLAT_FD_STREAM) {
			flat_stream_check_reign(s, fds[i].fd);
			fds[i].revents = stream_revents(s, fds[i].events);
		} else {
			(*kernel)++;
			if (e && flat_epoll_look(e, 0))
				fds[i].revents = (short)(fds[i].events & (POLLIN | POLLRDNORM));
		}
		ready += fds[i].revents != 0;
	}
	return ready;
}

/* Entries of `copy` for the kernel's own descriptors; streams are left out. Count of private ones: closed, to the program. */
static int kernel_part(struct pollfd *fds, struct pollfd *copy, nfds_t n)
{
	int closed = 0;
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		copy[i].fd = fds[i].fd;
		copy[i].events = fds[i].events;
		copy[i].revents = 0;
		/* Nobody writes to a listener: its anchor, which could be written to, is not asked. */
		if (s && s->kind == FLAT_FD_LISTENER)
			copy[i].events &= (short)~(POLLOUT | POLLWRNORM | POLLWRBAND);
		if (s && s->kind == FLAT_FD_STREAM) {
			copy[i].fd = -1;
		} else if (flat_fd_kind(fds[i].fd) == FLAT_FD_PRIVATE) {
			copy[i].fd = -1;
			fds[i].revents = POLLNVAL;
			closed++;
		}
	}
	return closed;
}

/* What the kernel said of its own, into fds. Count of entries that became ready. */
static int kernel_results(struct pollfd *fds, const struct pollfd *copy, nfds_t n)
{
	int ready = 0;
	for (nfds_t i = 0; i < n; i++) {
		if (copy[i].fd < 0 || copy[i].revents == 0 || copy[i].fd != fds[i].fd)
			continue;
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		if (s && s->kind == FLAT_FD_STREAM)
			continue;
		if (s)
			flat_listener_watched(s);
		struct flat_epoll *e = s ? NULL : flat_epoll_find(fds[i].fd);
		/* An instance's bells are no events of its members. Whoever takes some looks at these. */
		bool bells = e && fds[i].revents == 0 && !flat_epoll_kernel_ready(e);
		if (e && fds[i].revents == 0 && !flat_epoll_look(e, 0) && bells)
			continue;
		ready += fds[i].revents == 0;
		fds[i].revents = copy[i].revents;
	}
	return ready;
}

/* What one call waits for, and room for what it does about it. */
struct poll_set {
	struct pollfd *fds;
	nfds_t n;
	struct pollfd *copy;	   /* n + 1, for the kernel */
	struct flat_sock **joined; /* n: whose waiter an entry's sleep is; NULL: of none */
	bool *waited;		   /* of select(): its first look found nothing; else NULL */
};

static int look_all(const struct poll_set *p)
{
	struct pollfd *fds = p->fds;
	struct pollfd *copy = p->copy;
	const nfds_t n = p->n;
	struct timespec zero = {0};
	nfds_t kernel;
	int ready = look_flat(fds, n, &kernel);
	if (kernel == 0)
		return ready;
	ready += kernel_part(fds, copy, n);
	if (flat_sys_ppoll(copy, n, &zero, NULL) > 0)
		ready += kernel_results(fds, copy, n);
	return ready;
}

/* One sleep of poll: what end_sleep() takes back. */
struct poll_sleep {
	const struct poll_set *set;
	struct flat_ep_raised raised; /* one per epoll instance in the set */
	bool nap;		      /* some stream can't wake it: it looks now and then */
};

/* The thread's instance, if it watches the stream; -EINPROGRESS: the kernel polls the anchor; -EAGAIN: nobody watches it. */
static int join(struct flat_sock *s, int fd, struct pollfd *copy)
{
	copy->events = POLLIN;
	int watch = flat_bell_join(s, fd) ? -EINPROGRESS : flat_bell_watch(fd);
	if (watch >= 0)
		return watch;
	if (watch != -EINPROGRESS) {
		if (!flat_bell_level(s))
			return -EAGAIN;
		flat_bell_clear_alone(s, fd);
	}
	copy->fd = fd;
	return -EINPROGRESS;
}

/*
 * Joins the waiters of every stream, and arms. Where we are alone the anchor is polled; others ring this thread's
 * edge-triggered instance, which gets the entry behind the last.
 */
static int begin_sleep(struct poll_sleep *p)
{
	const struct pollfd *fds = p->set->fds;
	struct pollfd *copy = p->set->copy;
	const nfds_t n = p->set->n;
	int watch = -1;
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		if (!s || s->kind != FLAT_FD_STREAM)
			continue;
		int w = join(s, fds[i].fd, &copy[i]);
		p->set->joined[i] = s;
		watch = w >= 0 ? w : watch;
		p->nap |= w == -EAGAIN;
	}
	if (watch >= 0)
		flat_bell_swallow();
	copy[n].fd = watch;
	copy[n].events = POLLIN;
	copy[n].revents = 0;
	bool may_sleep = true;
	for (nfds_t i = 0; i < n && may_sleep; i++) {
		struct flat_sock *s = p->set->joined[i];
		/* Its first flat member may come while we sleep. */
		struct flat_epoll *e =
		    flat_fd_kind(fds[i].fd) == FLAT_FD_EPOLL ? flat_epoll_make(fds[i].fd) : NULL;
		if (s) {
			flat_vq_arm_rx(&s->vq, FLAT_ARM_BELL);
			if (fds[i].events & POLLOUT)
				flat_vq_arm_tx(&s->vq, FLAT_ARM_BELL);
		} else if (e) {
			may_sleep = flat_epoll_begin_sleep(e, &p->raised);
		}
	}
	return may_sleep ? 0 : -EAGAIN;
}

static void end_sleep(void *arg)
{
	struct poll_sleep *w = arg;
	const struct pollfd *fds = w->set->fds;
	const struct pollfd *copy = w->set->copy;
	flat_epoll_end_sleep(&w->raised);
	for (nfds_t i = 0; i < w->set->n; i++) {
		struct flat_sock *s = w->set->joined[i];
		if (!s)
			continue;
		/* Its number may be another one's by now. */
		if (copy[i].fd < 0) {
			flat_bell_unwatch(fds[i].fd);
		} else if (copy[i].revents && flat_fd_sock(fds[i].fd) == s) {
			flat_bell_seen(fds[i].fd, (uint32_t)(unsigned short)copy[i].revents);
			flat_bell_clear_alone(s, fds[i].fd);
		}
		flat_bell_leave(s);
	}
}

/* Takes a nap's time off what is left, if there is more: true. */
static bool shorten(const struct timespec *nap, struct timespec *left)
{
	if (!left)
		return true;
	if (left->tv_sec == 0 && left->tv_nsec <= nap->tv_nsec)
		return false;
	left->tv_nsec -= nap->tv_nsec;
	if (left->tv_nsec < 0) {
		left->tv_nsec += 1000000000L;
		left->tv_sec--;
	}
	return true;
}

/* What ends a wait besides events. */
struct until {
	struct timespec *left; /* NULL: no time does */
	const sigset_t *mask;
	struct flat_ran then; /* handlers that ran before */
};

/* The kernel's sleep: not more than are needed, as it takes no more than RLIMIT_NOFILE, which sandboxes set to 1. */
static int kernel_sleep(const struct poll_sleep *w, const struct until *u)
{
	struct timespec nap = {0, FLAT_NAP_MS * 1000000L};
	struct timespec *limit = w->nap && shorten(&nap, u->left) ? &nap : u->left;
	if (flat_signals_since(&u->then) != FLAT_SIGNALS_NONE)
		return -EINTR;
	const struct poll_set *set = w->set;
	return flat_sys_ppoll(set->copy, set->n + (set->copy[set->n].fd >= 0), limit, u->mask);
}

/* Sleeps until something may be ready: 0, or a negative errno. Count of the kernel's in *ready. */
static int sleep_once(const struct poll_set *p, const struct until *u, int *ready)
{
	struct poll_sleep w = {.set = p};
	struct pollfd *copy = p->copy;
	const nfds_t n = p->n;
	nfds_t kernel;
	int type;
	int err;
	memset(p->joined, 0, n * sizeof(struct flat_sock *));
	*ready = kernel_part(p->fds, copy, n);
	err = begin_sleep(&w);
	if (err == 0)
		*ready += look_flat(p->fds, n, &kernel);
	if (err == 0 && *ready == 0) {
		/* A cancellation point. */
		pthread_cleanup_push(end_sleep, &w);
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
		err = kernel_sleep(&w, u);
		pthread_setcanceltype(type, NULL);
		pthread_cleanup_pop(0);
		if (err > 0 && copy[n].revents)
			flat_bell_swallow();
		if (err > 0)
			*ready = kernel_results(p->fds, copy, n);
	}
	end_sleep(&w);
	return err == -EAGAIN || err > 0 ? 0 : err;
}

/* Whether there were any: put_back() is for them. */
static bool put_off(const struct poll_set *p)
{
	bool any = false;
	for (nfds_t i = 0; i < p->n; i++) {
		struct flat_sock *s = flat_fd_sock(p->fds[i].fd);
		bool off = s && s->kind == FLAT_FD_STREAM && flat_bell_put_off(s);
		p->joined[i] = off ? s : NULL;
		any |= off;
	}
	return any;
}

/* Who is told that there is something will read it. */
static void put_back(const struct poll_set *p)
{
	for (nfds_t i = 0; i < p->n; i++) {
		struct flat_sock *s = p->joined[i];
		if (s && p->fds[i].revents == 0 && flat_fd_sock(p->fds[i].fd) == s)
			flat_bell_left(s);
	}
}

/* Looks for a while. Count of what is ready; -EINTR: a signal came. */
static int spin(const struct poll_set *p)
{
	struct flat_wait w;
	nfds_t kernel;
	int ready = 0;
	bool off = put_off(p);
	flat_wait_begin(&w);
	while (ready == 0 && flat_wait_again(&w))
		ready = w.looks % 64 == 63 ? look_all(p) : look_flat(p->fds, p->n, &kernel);
	enum flat_signals came = flat_wait_end(&w, ready != 0);
	if (off)
		put_back(p);
	if (ready != 0)
		return look_all(p);
	return came != FLAT_SIGNALS_NONE ? -EINTR : 0;
}

static int poll_until(const struct poll_set *p, struct timespec *left, const sigset_t *mask)
{
	const struct until until = {left, mask, flat_signals_ran()};
	for (;;) {
		int ready = look_all(p);
		if (ready != 0 || (left && left->tv_sec == 0 && left->tv_nsec == 0))
			return ready;
		if (p->waited)
			*p->waited = true;
		ready = mask ? 0 : spin(p);
		if (ready != 0)
			return ready;
		/* ppoll keeps the rest of the time in *left */
		int err = sleep_once(p, &until, &ready);
		if (err < 0)
			return err;
		nfds_t none;
		if (ready > 0 || look_flat(p->fds, p->n, &none) > 0)
			return look_all(p);
	}
}

static int poll_loop(const struct poll_set *p, struct timespec *left, const sigset_t *mask)
{
	int ready = poll_until(p, left, mask);
	for (nfds_t i = 0; i < p->n; i++) {
		int fd = p->fds[i].fd;
		struct flat_epoll *e =
		    flat_fd_kind(fd) == FLAT_FD_EPOLL ? flat_epoll_find(fd) : NULL;
		if (e)
			flat_epoll_leave(e, 0);
	}
	return ready;
}

static void *after(struct pollfd *room, nfds_t n)
{
	return room + n;
}

int flat_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd small[SMALL_SET + 1];
	struct flat_sock *few[SMALL_SET];
	struct poll_set set = {fds, n, small, few, NULL};
	struct timespec left = timeout ? *timeout : (struct timespec){0};
	if (flat_user_bad_time(timeout))
		return (int)flat_result(-EINVAL);
	/* More than a process can have: fs/select.c, do_sys_poll(). */
	if (n > FLAT_FD_KINDS)
		return (int)flat_result(-EINVAL);
	if (!flat_user_possible(fds, n * sizeof(*fds)))
		return (int)flat_result(-EFAULT);
	struct pollfd *const room =
	    n > SMALL_SET ? calloc(n + 1, sizeof(struct pollfd) + sizeof(struct flat_sock *))
			  : NULL;
	if (n > SMALL_SET) {
		if (!room)
			return (int)flat_result(-ENOMEM);
		set.copy = room;
		set.joined = after(room, n + 1);
	}
	int ready;
	pthread_cleanup_push(free, room);
	ready = poll_loop(&set, timeout ? &left : NULL, mask);
	pthread_cleanup_pop(1);
	return (int)flat_result(ready);
}

int flat_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec ts = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000};
	return flat_ppoll(fds, n, timeout_ms < 0 ? NULL : &ts, NULL);
}

static bool in_set(const fd_set *set, int fd)
{
	/* Programs pass larger sets than FD_SETSIZE; the macro would stop them. */
	return set && (set->fds_bits[fd / 64] & (__fd_mask)(1UL << (fd % 64)));
}

static void put_in_set(fd_set *set, int fd)
{
	set->fds_bits[fd / 64] |= (__fd_mask)(1UL << (fd % 64));
}

static void clear_set(fd_set *set, int n)
{
	if (set)
		memset(set, 0, (size_t)((n + 63) / 64) * 8);
}

/* A call of select(). */
struct select_call {
	int n;
	fd_set *r;
	fd_set *w;
	fd_set *x;
	struct timespec *left;
	const sigset_t *mask;
};

static int select_result(const struct select_call *c, const struct pollfd *fds, nfds_t count)
{
	int total = 0;
	clear_set(c->r, c->n);
	clear_set(c->w, c->n);
	clear_set(c->x, c->n);
	for (nfds_t i = 0; i < count; i++) {
		short ev = fds[i].revents;
		if ((fds[i].events & POLLIN) && (ev & (POLLIN | POLLHUP | POLLERR | POLLNVAL))) {
			put_in_set(c->r, fds[i].fd);
			total++;
		}
		if ((fds[i].events & POLLOUT) && (ev & (POLLOUT | POLLERR | POLLNVAL))) {
			put_in_set(c->w, fds[i].fd);
			total++;
		}
		if ((fds[i].events & POLLPRI) && (ev & (POLLPRI | POLLNVAL))) {
			put_in_set(c->x, fds[i].fd);
			total++;
		}
	}
	return total;
}

/* The sets as entries for poll, not more than `room`. Their count; fds NULL: how many there are. */
static nfds_t select_entries(const struct select_call *c, struct pollfd *fds, nfds_t room)
{
	nfds_t count = 0;
	for (int fd = 0; fd < c->n && count < room; fd++) {
		short ev =
		    (short)((in_set(c->r, fd) ? POLLIN : 0) | (in_set(c->w, fd) ? POLLOUT : 0) |
			    (in_set(c->x, fd) ? POLLPRI : 0));
		if (ev != 0 && fds)
			fds[count] = (struct pollfd){.fd = fd, .events = ev};
		count += ev != 0;
	}
	return count;
}

static bool note_highest(int fd, int dir, const char *name, void *arg)
{
	int *top = arg;
	(void)dir;
	(void)name;
	if (fd > *top && flat_fd_kind(fd) != FLAT_FD_PRIVATE)
		*top = fd;
	return false;
}

/* The highest open number from `from` on that is the program's, or -1. Without /proc: the highest that we know of. */
static int highest_open(int from)
{
	int top = -1;
	if (flat_open_each(0, from, note_highest, &top) == 0)
		return top;
	for (int fd = flat_fd_top() - 1; fd >= from && top < 0; fd--) {
		enum flat_fd_kind kind = flat_fd_kind(fd);
		top = kind != FLAT_FD_KERNEL && kind != FLAT_FD_PRIVATE ? fd : -1;
	}
	return top;
}

/*
 * Programs say getdtablesize() of sets of 1,024. The kernel looks no further than its table of descriptors goes (fs/select.c,
 * core_sys_select()), whose size is a power of two above the highest one (fs/file.c, alloc_fdtable()); ours, far up in
 * it, are not to count.
 */
static int clamp(int n)
{
	int most = FD_SETSIZE;
	if (flat_likely(n <= most))
		return n;
	/* The usual one, one past the highest. */
	if (flat_fd_kind(n - 1) != FLAT_FD_PRIVATE && flat_sys_fcntl(n - 1, F_GETFD, 0) >= 0)
		return n;
	int top = highest_open(most);
	while (most <= top && most < n)
		most *= 2;
	return n < most ? n : most;
}

/*
 * What wakes poll() but not select(), HUP on a descriptor that is only in the write set, would wake it for ever: it is not
 * asked any more. What comes to be of it later goes unseen in this call; nothing does, of a socket.
 */
static void forget_told(const struct poll_set *p)
{
	for (nfds_t i = 0; i < p->n; i++) {
		if (p->fds[i].fd >= 0 && p->fds[i].revents != 0)
			p->fds[i].fd = -1 - p->fds[i].fd;
	}
}

static int select_wait(const struct select_call *c, const struct poll_set *p)
{
	int ready;
	for (;;) {
		ready = poll_loop(p, c->left, c->mask);
		/* One that is closed during the call is ready: fs/select.c, POLLIN_SET. */
		for (nfds_t i = 0; i < p->n && ready > 0 && !*p->waited; i++) {
			if (p->fds[i].revents & POLLNVAL)
				ready = -EBADF;
		}
		if (ready < 0)
			return ready;
		bool over = ready == 0;
		ready = select_result(c, p->fds, p->n);
		if (ready != 0 || over)
			return ready;
		forget_told(p);
	}
}
static bool possible_set(const fd_set *set, int n)
{
	return !set || flat_user_possible(set, (size_t)(n + 63) / 64 * 8);
}

static int select_loop(const struct select_call *asked)
{
	struct select_call call = *asked;
	if (call.n < 0)
		return -EINVAL;
	call.n = clamp(call.n);
	if (!possible_set(call.r, call.n) || !possible_set(call.w, call.n) ||
	    !possible_set(call.x, call.n))
		return -EFAULT;
	nfds_t most = select_entries(&call, NULL, (nfds_t)call.n);
	struct pollfd *room =
	    calloc(most + 1, 2 * sizeof(struct pollfd) + sizeof(struct flat_sock *));
	if (!room)
		return -ENOMEM;
	bool waited = false;
	const struct poll_set set = {
	    .waited = &waited,
	    .fds = room,
	    .n = select_entries(&call, room, most),
	    .copy = room + most,
	    .joined = after(room, 2 * most + 1),
	};
	int ready;
	pthread_cleanup_push(free, room);
	ready = select_wait(&call, &set);
	pthread_cleanup_pop(1);
	return ready;
}

int flat_select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	struct timespec left = {0};
	if (!flat_user_possible(timeout, timeout ? sizeof(*timeout) : 0))
		return (int)flat_result(-EFAULT);
	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
			return (int)flat_result(-EINVAL);
		left.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
		left.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	}
	int ready = select_loop(&(struct select_call){n, r, w, x, timeout ? &left : NULL, NULL});
	if (timeout) {
		timeout->tv_sec = left.tv_sec;
		timeout->tv_usec = left.tv_nsec / 1000;
	}
	return (int)flat_result(ready);
}

int flat_pselect(int n, fd_set *r, fd_set *w, fd_set *x, const struct timespec *timeout,
		 const sigset_t *mask)
{
	struct timespec left = timeout ? *timeout : (struct timespec){0};
	if (flat_user_bad_time(timeout))
		return (int)flat_result(-EINVAL);
	return (int)flat_result(
	    select_loop(&(struct select_call){n, r, w, x, timeout ? &left : NULL, mask}));
}
