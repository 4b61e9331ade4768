/* poll and select over flat and kernel descriptors together. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/host.h"

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
		if (s && s->kind == FLAT_FD_STREAM) {
			flat_stream_check_epoch(s, fds[i].fd);
			fds[i].revents = stream_revents(s, fds[i].events);
		} else {
			(*kernel)++;
			if (flat_fd_kind(fds[i].fd) == FLAT_FD_EPOLL && flat_epoll_ready(fds[i].fd))
				fds[i].revents = (short)(fds[i].events & (POLLIN | POLLRDNORM));
		}
		ready += fds[i].revents != 0;
	}
	return ready;
}

/* What the kernel says, streams by their anchors. Fills revents of kernel entries; count of those. */
static int ask_kernel(struct pollfd *fds, struct pollfd *copy, nfds_t n, struct timespec *timeout,
		      const sigset_t *mask, bool sleeping)
{
	char sink[64];
	int ready = 0;
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		copy[i] = fds[i];
		copy[i].revents = 0;
		if (s && s->kind == FLAT_FD_STREAM) {
			copy[i].events = POLLIN;
			if (!sleeping)
				copy[i].fd = -1;
		} else if (flat_fd_kind(fds[i].fd) == FLAT_FD_PRIVATE) {
			/* Closed, as far as the application knows. */
			copy[i].fd = -1;
			fds[i].revents = POLLNVAL;
			ready++;
		}
	}
	int err = flat_sys_ppoll(copy, n, timeout, mask);
	if (err < 0)
		return err;
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		if (copy[i].fd < 0 || copy[i].revents == 0)
			continue;
		if (!s || s->kind != FLAT_FD_STREAM) {
			/* An epoll instance that shows only a shadow's bell is not ready by itself. */
			if (flat_fd_kind(fds[i].fd) == FLAT_FD_EPOLL && flat_fd_count &&
			    !flat_epoll_ready(fds[i].fd) && sleeping)
				continue;
			ready += fds[i].revents == 0;
			fds[i].revents = copy[i].revents;
			continue;
		}
		ssize_t got = flat_sys_recv(fds[i].fd, sink, sizeof(sink), MSG_DONTWAIT);
		if (got > 0)
			s->vq.rx.bells_off += (uint32_t)got;
		if (got == 0) {
			atomic_store(&s->dead, 1);
			if (!(flat_vq_peer_prod_flags(&s->vq) & FLAT_PROD_FIN))
				atomic_store(&s->error, ECONNRESET);
		}
	}
	return ready;
}

static void arm(struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(fds[i].fd);
		if (!s || s->kind != FLAT_FD_STREAM)
			continue;
		flat_vq_arm_rx(&s->vq, FLAT_ARM_BELL);
		if (fds[i].events & POLLOUT)
			flat_vq_arm_tx(&s->vq, FLAT_ARM_BELL);
	}
}

static int look_all(struct pollfd *fds, struct pollfd *copy, nfds_t n)
{
	struct timespec zero = {0};
	nfds_t kernel;
	int ready = look_flat(fds, n, &kernel);
	if (kernel > 0) {
		int k = ask_kernel(fds, copy, n, &zero, NULL, false);
		ready += k > 0 ? k : 0;
	}
	return ready;
}

static int poll_loop(struct pollfd *fds, struct pollfd *copy, nfds_t n, struct timespec *left,
		     const sigset_t *mask)
{
	bool zero = left && left->tv_sec == 0 && left->tv_nsec == 0;
	nfds_t kernel;
	for (;;) {
		struct flat_wait w;
		int ready = look_all(fds, copy, n);
		if (ready != 0 || zero)
			return ready;
		flat_wait_begin(&w);
		while (!mask && flat_wait_again(&w)) {
			ready = w.looks % 64 == 63 ? look_all(fds, copy, n)
						   : look_flat(fds, n, &kernel);
			if (ready != 0) {
				flat_wait_end(&w, true);
				return ready;
			}
		}
		flat_wait_end(&w, false);
		arm(fds, n);
		ready = look_flat(fds, n, &kernel);
		if (ready != 0)
			return ready;
		/* ppoll keeps the rest of the time in *left */
		int k = ask_kernel(fds, copy, n, left, mask, true);
		if (k < 0)
			return k;
		ready = look_flat(fds, n, &kernel);
		if (ready + k > 0)
			return look_all(fds, copy, n);
		zero = left && left->tv_sec == 0 && left->tv_nsec == 0;
	}
}

int flat_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd small[SMALL_SET];
	struct pollfd *copy = small;
	struct timespec left = timeout ? *timeout : (struct timespec){0};
	if (timeout &&
	    (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999))
		return (int)flat_result(-EINVAL);
	if (n > SMALL_SET) {
		copy = calloc(n, sizeof(*copy));
		if (!copy)
			return (int)flat_result(-ENOMEM);
	}
	int ready = poll_loop(fds, copy, n, timeout ? &left : NULL, mask);
	if (copy != small)
		free(copy);
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

static int select_loop(int n, fd_set *r, fd_set *w, fd_set *x, struct timespec *left,
		       const sigset_t *mask)
{
	nfds_t count = 0;
	if (n < 0)
		return -EINVAL;
	struct pollfd *fds = calloc((size_t)n + 1, 2 * sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (int fd = 0; fd < n; fd++) {
		short ev = (short)((in_set(r, fd) ? POLLIN : 0) | (in_set(w, fd) ? POLLOUT : 0) |
				   (in_set(x, fd) ? POLLPRI : 0));
		if (ev == 0)
			continue;
		fds[count].fd = fd;
		fds[count++].events = ev;
	}
	int ready;
	do {
		ready = poll_loop(fds, fds + n + 1, count, left, mask);
		for (nfds_t i = 0; i < count && ready > 0; i++) {
			if (fds[i].revents & POLLNVAL)
				ready = -EBADF;
		}
		if (ready >= 0)
			ready = select_result(fds, count, n, r, w, x);
		/* HUP on a descriptor that is only in the write set wakes poll but not select. */
	} while (ready == 0 && !(left && left->tv_sec == 0 && left->tv_nsec == 0));
	free(fds);
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
