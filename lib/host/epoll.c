/*
 * epoll with flat members. The user's instance E keeps its kernel members; its flat members' anchors are in a
 * private shadow instance S, edge-triggered, and S is a member of E. docs/design/core.md, section 5.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/host.h"

/* Data of S in E: no pointer and no small number that a program would use. */
#define COOKIE 0xf1a7e9011c00c1e5ULL

struct member {
	int fd;
	struct flat_sock *sock; /* NULL: a candidate, the kernel's until it converts */
	uint32_t events;	/* as asked for; EPOLLONESHOT spent: 0 */
	uint64_t data;
	uint32_t last_tail; /* edges: what was reported */
	uint32_t last_flags;
	bool fresh; /* report whatever is there */
	bool gone;  /* EPOLL_CTL_DEL: its anchor stays in S until it closes, as it may come back */
};

struct ep {
	_Atomic int lock;
	int epfd;
	int shadow;
	struct member *v;
	uint32_t n;
	uint32_t cap;
	uint32_t start; /* where the next look begins: fairness */
	uint32_t n_flat;
	uint32_t looks;
	struct ep *next;
};

static struct ep *eps; /* all of this process; entries are never freed before their epfd closes */
static _Atomic int eps_lock;

static struct ep *find(int epfd)
{
	for (struct ep *e = __atomic_load_n(&eps, __ATOMIC_ACQUIRE); e; e = e->next) {
		if (e->epfd == epfd)
			return e;
	}
	return NULL;
}

static struct ep *make(int epfd)
{
	struct ep *e = find(epfd);
	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->epfd = epfd;
	e->shadow = -1;
	flat_lock(&eps_lock);
	e->next = eps;
	__atomic_store_n(&eps, e, __ATOMIC_RELEASE);
	flat_unlock(&eps_lock);
	return e;
}

static struct member *member_of(struct ep *e, int fd)
{
	for (uint32_t i = 0; i < e->n; i++) {
		if (e->v[i].fd == fd)
			return &e->v[i];
	}
	return NULL;
}

static int add_member(struct ep *e, const struct member *m)
{
	if (e->n == e->cap) {
		uint32_t cap = e->cap ? e->cap * 2 : 16;
		struct member *v = realloc(e->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		e->v = v;
		e->cap = cap;
	}
	e->v[e->n++] = *m;
	return 0;
}

static int watch_anchor(struct ep *e, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
	if (e->shadow < 0) {
		struct epoll_event in = {.events = EPOLLIN, .data.u64 = COOKIE};
		int s = flat_fd_private(flat_sys_epoll_create1(EPOLL_CLOEXEC));
		if (s < 0)
			return s;
		int err = flat_sys_epoll_ctl(e->epfd, EPOLL_CTL_ADD, s, &in);
		if (err < 0) {
			flat_fd_close_private(s);
			return err;
		}
		e->shadow = s;
		flat_fd_set_kind(e->epfd, FLAT_FD_EPOLL);
	}
	ev.data.fd = fd;
	int err = flat_sys_epoll_ctl(e->shadow, EPOLL_CTL_ADD, fd, &ev);
	if (err == 0)
		e->n_flat++;
	return err;
}

static void remove_member(struct ep *e, struct member *m)
{
	if (m->sock) {
		(void)flat_sys_epoll_ctl(e->shadow, EPOLL_CTL_DEL, m->fd, NULL);
		e->n_flat--;
	}
	*m = e->v[--e->n];
}

static int control(struct ep *e, int op, int fd, const struct epoll_event *event)
{
	struct flat_sock *s = flat_fd_sock(fd);
	bool flat = s && s->kind == FLAT_FD_STREAM;
	struct member *m = member_of(e, fd);
	int err;
	if (op != EPOLL_CTL_DEL && !event)
		return -EFAULT;
	bool there = m && !m->gone;
	if (op == EPOLL_CTL_ADD && flat && there)
		return -EEXIST;
	if (op != EPOLL_CTL_ADD && flat && !there)
		return -ENOENT;
	if (!flat) {
		struct epoll_event copy = event ? *event : (struct epoll_event){0};
		err = flat_sys_epoll_ctl(e->epfd, op, fd, &copy);
		if (err < 0)
			return err;
	}
	if (op == EPOLL_CTL_DEL) {
		if (m && flat) {
			m->gone = true;
			m->events = 0;
		} else if (m) {
			remove_member(e, m);
		}
		return 0;
	}
	if (m) {
		m->gone = false;
		m->events = event->events;
		m->data = event->data.u64;
		m->fresh = true;
		return 0;
	}
	struct member add = {.fd = fd,
			     .sock = flat ? s : NULL,
			     .events = event->events,
			     .data = event->data.u64,
			     .fresh = true};
	err = flat ? watch_anchor(e, fd) : 0;
	return err < 0 ? err : add_member(e, &add);
}

int flat_epoll_create1(int flags)
{
	int fd = flat_sys_epoll_create1(flags);
	if (fd >= 0)
		flat_fd_unbind(fd);
	return (int)flat_result(fd);
}

int flat_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	struct ep *e = find(epfd);
	if (!e && kind != FLAT_FD_STREAM && kind != FLAT_FD_CANDIDATE)
		return (int)flat_result(flat_sys_epoll_ctl(epfd, op, fd, event));
	if (kind != FLAT_FD_STREAM && kind != FLAT_FD_CANDIDATE && !(e && member_of(e, fd)))
		return (int)flat_result(flat_sys_epoll_ctl(epfd, op, fd, event));
	if (!e && flat_sys_fcntl(epfd, 1 /* F_GETFD */, 0) < 0)
		return (int)flat_result(-EBADF);
	e = make(epfd);
	if (!e)
		return (int)flat_result(-ENOMEM);
	flat_lock(&e->lock);
	int err = control(e, op, fd, event);
	flat_unlock(&e->lock);
	return (int)flat_result(err);
}

void flat_epoll_converted(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	for (struct ep *e = eps; e; e = e->next) {
		flat_lock(&e->lock);
		struct member *m = member_of(e, fd);
		if (m && s && s->kind == FLAT_FD_STREAM && !m->sock) {
			m->sock = s;
			m->fresh = true;
			(void)!watch_anchor(e, fd);
		} else if (m && !m->sock) {
			/* A listener's anchor is the kernel's to watch, as the socket before it was. */
			struct epoll_event ev = {.events = m->events, .data.u64 = m->data};
			(void)flat_sys_epoll_ctl(e->epfd, EPOLL_CTL_ADD, fd, &ev);
		}
		flat_unlock(&e->lock);
	}
}

void flat_epoll_closed(int fd)
{
	for (struct ep *e = eps; e; e = e->next) {
		flat_lock(&e->lock);
		struct member *m = member_of(e, fd);
		if (m)
			remove_member(e, m);
		if (e->epfd == fd) {
			flat_fd_close_private(e->shadow);
			e->shadow = -1;
			e->epfd = -1; /* the entry stays: another thread may be walking the list */
			e->n = e->n_flat = 0;
		}
		flat_unlock(&e->lock);
	}
}

/* What a member reports now; remembers it where edges count. */
static uint32_t report(struct member *m)
{
	struct flat_sock *s = m->sock;
	uint32_t want = m->events & (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLRDNORM |
				     EPOLLWRNORM | EPOLLERR | EPOLLHUP);
	if (m->events == 0)
		return 0;
	uint32_t now = flat_stream_events(s) & (want | EPOLLERR | EPOLLHUP);
	if (now == 0)
		return 0;
	if (m->events & EPOLLET) {
		uint32_t tail = flat_ring_tail_hint(&s->vq.rx);
		uint32_t flags = flat_vq_peer_prod_flags(&s->vq) | (uint32_t)atomic_load(&s->dead)
								       << 8;
		bool room = (now & EPOLLOUT) && atomic_exchange(&s->tx_blocked, 0);
		if (!m->fresh && !room && tail == m->last_tail && flags == m->last_flags)
			return 0;
		m->last_tail = tail;
		m->last_flags = flags;
	}
	m->fresh = false;
	if (m->events & EPOLLONESHOT)
		m->events = 0;
	return now;
}

static int collect(struct ep *e, struct epoll_event *out, int max)
{
	int n = 0;
	flat_lock(&e->lock);
	for (uint32_t k = 0; k < e->n && n < max; k++) {
		uint32_t i = (e->start + k) % e->n;
		struct member *m = &e->v[i];
		uint32_t ev = m->sock ? report(m) : 0;
		if (ev == 0)
			continue;
		out[n].events = ev;
		out[n].data.u64 = m->data;
		n++;
		if (n == max)
			e->start = i + 1;
	}
	flat_unlock(&e->lock);
	return n;
}

bool flat_epoll_ready(int epfd)
{
	struct ep *e = find(epfd);
	bool ready = false;
	if (!e)
		return false;
	flat_lock(&e->lock);
	for (uint32_t i = 0; i < e->n && !ready; i++) {
		struct member *m = &e->v[i];
		ready = m->sock && m->events &&
			(flat_stream_events(m->sock) & (m->events | EPOLLERR | EPOLLHUP));
	}
	flat_unlock(&e->lock);
	return ready;
}

static void arm_all(struct ep *e)
{
	flat_lock(&e->lock);
	for (uint32_t i = 0; i < e->n; i++) {
		struct flat_sock *s = e->v[i].sock;
		if (!s || e->v[i].gone)
			continue;
		flat_vq_arm_rx(&s->vq, FLAT_ARM_BELL);
		if ((e->v[i].events & EPOLLOUT) || atomic_load(&s->tx_blocked))
			flat_vq_arm_tx(&s->vq, FLAT_ARM_BELL);
	}
	flat_unlock(&e->lock);
}

/* Takes the bells of what S says was rung, so that anchors never fill up. */
static void harvest(struct ep *e)
{
	struct epoll_event ev[64];
	char sink[256];
	int n = flat_sys_epoll_pwait(e->shadow, ev, 64, 0, NULL);
	for (int i = 0; i < n; i++) {
		struct flat_sock *s = flat_fd_sock(ev[i].data.fd);
		ssize_t got = flat_sys_recv(ev[i].data.fd, sink, sizeof(sink), MSG_DONTWAIT);
		if (!s)
			continue;
		if (got > 0)
			s->vq.rx.bells_off += (uint32_t)got;
		if (got == 0 || (ev[i].events & (EPOLLHUP | EPOLLERR))) {
			atomic_store(&s->dead, 1);
			if (!(flat_vq_peer_prod_flags(&s->vq) & FLAT_PROD_FIN))
				atomic_store(&s->error, ECONNRESET);
		}
	}
}

/* One look at the kernel's members; S's own event is taken out. Count, or negative errno. */
static int kernel_look(struct ep *e, struct epoll_event *out, int max, int timeout_ms,
		       const sigset_t *mask)
{
	int n = flat_sys_epoll_pwait(e->epfd, out, max, timeout_ms, mask);
	for (int i = 0; i < n; i++) {
		if (out[i].data.u64 != COOKIE)
			continue;
		harvest(e);
		out[i] = out[--n];
		break;
	}
	return n;
}

static int64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int wait_events(struct ep *e, struct epoll_event *out, int max, int64_t timeout_us,
		       const sigset_t *mask)
{
	int64_t end = timeout_us > 0 ? now_us() + timeout_us : 0;
	for (bool slept = false;; slept = true) {
		struct flat_wait w;
		int n;
		flat_wait_begin(&w);
		do {
			n = collect(e, out, max);
			/* Kernel members have their turn: always when we have time, else every 8th call. */
			if (n == 0 ? w.looks % 64 == 63 : n < max && e->looks++ % 8 == 0) {
				int k = kernel_look(e, out + n, max - n, 0, NULL);
				n += k > 0 ? k : 0;
			}
			if (n > 0) {
				flat_wait_end(&w, true);
				return n;
			}
		} while (timeout_us != 0 && !mask && flat_wait_again(&w));
		flat_wait_end(&w, false);
		int wait_ms = -1;
		if (timeout_us == 0) {
			wait_ms = 0;
		} else if (timeout_us > 0) {
			int64_t left = end - now_us();
			wait_ms = left <= 0 ? 0 : (int)((left + 999) / 1000);
		}
		arm_all(e);
		n = collect(e, out, max);
		if (n > 0)
			return n;
		n = kernel_look(e, out, max, wait_ms, mask);
		if (n < 0)
			return n;
		if (n == 0)
			n = collect(e, out, max);
		if (n > 0 || (wait_ms == 0 && (slept || timeout_us == 0)))
			return n;
		if (wait_ms > 0 && timeout_us > 0 && now_us() >= end)
			return 0;
	}
}

int flat_epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout_ms,
		     const sigset_t *mask)
{
	struct ep *e = flat_fd_kind(epfd) == FLAT_FD_EPOLL ? find(epfd) : NULL;
	if (!e)
		return (int)flat_result(flat_sys_epoll_pwait(epfd, events, max, timeout_ms, mask));
	if (max <= 0)
		return (int)flat_result(-EINVAL);
	return (int)flat_result(
	    wait_events(e, events, max, timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000, mask));
}

int flat_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	return flat_epoll_pwait(epfd, events, max, timeout_ms, NULL);
}

int flat_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		      const sigset_t *mask)
{
	struct ep *e = flat_fd_kind(epfd) == FLAT_FD_EPOLL ? find(epfd) : NULL;
	if (!e)
		return (int)flat_result(
		    FLAT_SYS6(SYS_epoll_pwait2, epfd, events, max, timeout, mask, 8));
	if (max <= 0)
		return (int)flat_result(-EINVAL);
	int64_t us =
	    timeout ? (int64_t)timeout->tv_sec * 1000000 + (timeout->tv_nsec + 999) / 1000 : -1;
	return (int)flat_result(wait_events(e, events, max, us, mask));
}
