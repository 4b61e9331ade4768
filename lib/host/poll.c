/* poll and select over flat and kernel descriptors together. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "host/epoll.h"
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

static int look_all(struct pollfd *fds, struct pollfd *copy, nfds_t n)
{
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
	struct pollfd *fds;
	struct pollfd *copy;
	nfds_t n;
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
	struct pollfd *fds = p->fds;
	struct pollfd *copy = p->copy;
	nfds_t n = p->n;
	int watch = -1;
	p->raised.n = 0;
	p->nap = false;
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		if (!s || s->kind != FLAT_FD_STREAM)
			continue;
		int w = join(s, fds[i].fd, &copy[i]);
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
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		/* Its first flat member may come while we sleep. */
		struct flat_epoll *e =
		    flat_fd_kind(fds[i].fd) == FLAT_FD_EPOLL ? flat_epoll_make(fds[i].fd) : NULL;
		if (s && s->kind == FLAT_FD_STREAM) {
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
	struct pollfd *fds = w->fds;
	const struct pollfd *copy = w->copy;
	nfds_t n = w->n;
	flat_epoll_end_sleep(&w->raised);
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		if (!s || s->kind != FLAT_FD_STREAM)
			continue;
		if (copy[i].fd < 0) {
			flat_bell_unwatch(fds[i].fd);
		} else if (copy[i].revents) {
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
	return flat_sys_ppoll(w->copy, w->n + (w->copy[w->n].fd >= 0), limit, u->mask);
}

/* Sleeps until something may be ready: 0, or a negative errno. Count of the kernel's in *ready. */
static int sleep_once(struct pollfd *fds, struct pollfd *copy, nfds_t n, const struct until *u,
		      int *ready)
{
	struct poll_sleep w = {.fds = fds, .copy = copy, .n = n};
	nfds_t kernel;
	int type;
	int err;
	*ready = kernel_part(fds, copy, n);
	err = begin_sleep(&w);
	if (err == 0)
		*ready += look_flat(fds, n, &kernel);
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
			*ready = kernel_results(fds, copy, n);
	}
	end_sleep(&w);
	return err == -EAGAIN || err > 0 ? 0 : err;
}

static int poll_until(struct pollfd *fds, struct pollfd *copy, nfds_t n, struct timespec *left,
		      const sigset_t *mask)
{
	const struct until until = {left, mask, flat_signals_ran()};
	nfds_t kernel;
	for (;;) {
		struct flat_wait w;
		int ready = look_all(fds, copy, n);
		if (ready != 0 || (left && left->tv_sec == 0 && left->tv_nsec == 0))
			return ready;
		flat_wait_begin(&w);
		while (!mask && flat_wait_again(&w)) {
			ready = w.looks % 64 == 63 ? look_all(fds, copy, n)
						   : look_flat(fds, n, &kernel);
			if (ready != 0) {
				flat_wait_end(&w, true);
				return look_all(fds, copy, n);
			}
		}
		if (flat_wait_end(&w, false) != FLAT_SIGNALS_NONE)
			return -EINTR;
		/* ppoll keeps the rest of the time in *left */
		int err = sleep_once(fds, copy, n, &until, &ready);
		if (err < 0)
			return err;
		nfds_t none;
		if (ready > 0 || look_flat(fds, n, &none) > 0)
			return look_all(fds, copy, n);
	}
}

static int poll_loop(struct pollfd *fds, struct pollfd *copy, nfds_t n, struct timespec *left,
		     const sigset_t *mask)
{
	int ready = poll_until(fds, copy, n, left, mask);
	for (nfds_t i = 0; i < n; i++) {
		struct flat_epoll *e =
		    flat_fd_kind(fds[i].fd) == FLAT_FD_EPOLL ? flat_epoll_find(fds[i].fd) : NULL;
		if (e)
			flat_epoll_leave(e, 0);
	}
	return ready;
}

int flat_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	if (!flat_user_possible(fds, n * sizeof(*fds)))
		return (int)flat_result(-EFAULT);
	struct pollfd small[SMALL_SET + 1];
	struct pollfd *copy = small;
	struct timespec left = timeout ? *timeout : (struct timespec){0};
	if (timeout &&
	    (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999))
		return (int)flat_result(-EINVAL);
	if (n > SMALL_SET) {
		copy = calloc(n + 1, sizeof(*copy));
		if (!copy)
			return (int)flat_result(-ENOMEM);
	}
	int ready;
	pthread_cleanup_push(free, n > SMALL_SET ? copy : NULL);
	ready = poll_loop(fds, copy, n, timeout ? &left : NULL, mask);
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

static int select_result(const struct pollfd *fds, nfds_t count, int n, fd_set *r, fd_set *w,
			 fd_set *x)
{
	int total = 0;
	clear_set(r, n);
	clear_set(w, n);
	clear_set(x, n);
	for (nfds_t i = 0; i < count; i++) {
		short ev = fds[i].revents;
		if ((fds[i].events & POLLIN) && (ev & (POLLIN | POLLHUP | POLLERR))) {
			put_in_set(r, fds[i].fd);
			total++;
		}
		if ((fds[i].events & POLLOUT) && (ev & (POLLOUT | POLLERR))) {
			put_in_set(w, fds[i].fd);
			total++;
		}
		if ((fds[i].events & POLLPRI) && (ev & POLLPRI)) {
			put_in_set(x, fds[i].fd);
			total++;
		}
	}
	return total;
}

/* The sets as entries for poll. Their count. */
static nfds_t select_entries(struct pollfd *fds, int n, const fd_set *r, const fd_set *w,
			     const fd_set *x)
{
	nfds_t count = 0;
	for (int fd = 0; fd < n; fd++) {
		short ev = (short)((in_set(r, fd) ? POLLIN : 0) | (in_set(w, fd) ? POLLOUT : 0) |
				   (in_set(x, fd) ? POLLPRI : 0));
		if (ev == 0)
			continue;
		fds[count].fd = fd;
		fds[count++].events = ev;
	}
	return count;
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

static int select_wait(const struct select_call *c, struct pollfd *fds)
{
	nfds_t count = select_entries(fds, c->n, c->r, c->w, c->x);
	int ready;
	do {
		ready = poll_loop(fds, fds + c->n + 1, count, c->left, c->mask);
		for (nfds_t i = 0; i < count && ready > 0; i++) {
			if (fds[i].revents & POLLNVAL)
				ready = -EBADF;
		}
		if (ready >= 0)
			ready = select_result(fds, count, c->n, c->r, c->w, c->x);
		/* HUP on a descriptor that is only in the write set wakes poll but not select. */
	} while (ready == 0 && !(c->left && c->left->tv_sec == 0 && c->left->tv_nsec == 0));
	return ready;
}

static int select_loop(int n, fd_set *r, fd_set *w, fd_set *x, struct timespec *left,
		       const sigset_t *mask)
{
	const struct select_call call = {n, r, w, x, left, mask};
	int ready;
	if (n < 0)
		return -EINVAL;
	struct pollfd *fds =
	    calloc((size_t)n + 1, 2 * sizeof(*fds)); /* the set, and poll_loop's copy */
	if (!fds)
		return -ENOMEM;
	pthread_cleanup_push(free, fds);
	ready = select_wait(&call, fds);
	pthread_cleanup_pop(1);
	return ready;
}

int flat_select(int n, fd_set *r, fd_set *w, fd_set *x, struct timeval *timeout)
{
	struct timespec left = {0};
	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
			return (int)flat_result(-EINVAL);
		left.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
		left.tv_nsec = timeout->tv_usec % 1000000 * 1000;
	}
	int ready = select_loop(n, r, w, x, timeout ? &left : NULL, NULL);
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
	return (int)flat_result(select_loop(n, r, w, x, timeout ? &left : NULL, mask));
}
