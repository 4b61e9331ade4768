#include "host/bell.h"

#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/limits.h"
#include "host/pool.h"

/* This thread's instance; -1: none yet. */
static __thread int watch_fd = -1;
/* What this thread sleeps on, or slept on when a longjmp took it away. */
static __thread struct flat_sock *held;
static __thread bool has_key;
static pthread_key_t watch_key;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void thread_ends(void *value)
{
	(void)value;
	flat_fd_close_private(watch_fd);
	watch_fd = -1;
	if (held)
		flat_bell_let_go(held);
}

static void make_key(void)
{
	(void)pthread_key_create(&watch_key, thread_ends);
}

static void at_thread_end(void)
{
	pthread_once(&watch_once, make_key);
	has_key = has_key || pthread_setspecific(watch_key, &watch_fd) == 0;
}

bool flat_bell_hold(struct flat_sock *s)
{
	if (flat_unlikely(!has_key))
		at_thread_end();
	if (held)
		flat_bell_let_go(held);
	if (!flat_sock_hold(s))
		return false;
	held = s;
	return true;
}

void flat_bell_let_go(struct flat_sock *s)
{
	/* A call in a signal handler may have done it. */
	if (held != s)
		return;
	held = NULL;
	flat_sock_release(s);
}

void flat_bell_forked(void)
{
	held = NULL;
	flat_fd_close_private(watch_fd);
	watch_fd = -1;
}

/* --- joining --- */

/* Under bell_lock, alone. */
static void empty(struct flat_sock *s, int fd, bool (*take)(struct flat_vq *vq))
{
	s->vq.anchor_fd = fd;
	if (!take(&s->vq))
		flat_stream_died(s);
}

static bool take_rung(struct flat_vq *vq)
{
	return flat_vq_take_bells(vq) == 0;
}

static bool take_any(struct flat_vq *vq)
{
	return flat_vq_drain_anchor(vq) == 0;
}

bool flat_bell_join(struct flat_sock *s, int fd)
{
	flat_lock(&s->bell_lock);
	bool alone = atomic_fetch_add_explicit(&s->waiters, 1, memory_order_relaxed) == 0;
	if (alone)
		empty(s, fd, take_rung);
	flat_unlock(&s->bell_lock);
	if (!alone)
		flat_bell_trim(s, fd);
	return alone;
}

void flat_bell_leave(struct flat_sock *s)
{
	atomic_fetch_sub_explicit(&s->waiters, 1, memory_order_release);
}

void flat_bell_clear(struct flat_sock *s, int fd)
{
	flat_lock(&s->bell_lock);
	if (atomic_load_explicit(&s->waiters, memory_order_relaxed) == 0)
		empty(s, fd, take_rung);
	flat_unlock(&s->bell_lock);
}

void flat_bell_left(struct flat_sock *s)
{
	flat_vq_arm_rx(&s->vq, FLAT_ARM_BELL);
	if (flat_unlikely(!atomic_load_explicit(&s->bell_left, memory_order_relaxed)))
		atomic_store_explicit(&s->bell_left, 1, memory_order_relaxed);
}

bool flat_bell_put_off(struct flat_sock *s)
{
	if (!atomic_load_explicit(&s->bell_left, memory_order_relaxed) || flat_sock_shared(s) ||
	    atomic_load_explicit(&s->exported, memory_order_relaxed) ||
	    atomic_load_explicit(&s->async, memory_order_relaxed))
		return false;
	/* Who waits joined under the lock before it armed. */
	flat_lock(&s->bell_lock);
	bool alone = atomic_load_explicit(&s->waiters, memory_order_relaxed) == 0;
	if (alone) {
		atomic_store_explicit(&s->bell_left, 0, memory_order_relaxed);
		flat_vq_disarm_rx(&s->vq);
	}
	flat_unlock(&s->bell_lock);
	return alone;
}

bool flat_bell_level(const struct flat_sock *s)
{
	return flat_confined && watch_fd < 0 &&
	       atomic_load_explicit(&s->waiters, memory_order_relaxed) <=
		   1U + atomic_load_explicit(&s->exported, memory_order_relaxed);
}

void flat_bell_clear_alone(struct flat_sock *s, int fd)
{
	flat_lock(&s->bell_lock);
	if (atomic_load_explicit(&s->waiters, memory_order_relaxed) == 1 || flat_bell_level(s))
		empty(s, fd, take_any);
	flat_unlock(&s->bell_lock);
}

void flat_bell_trim(struct flat_sock *s, int fd)
{
	char sink[FLAT_BELLS_MAX * 4];
	int there = 0;
	uint32_t rung = flat_vq_bells_rung(&s->vq);
	if (flat_likely(rung - s->vq.rx.bells_off < FLAT_BELLS_MAX))
		return;
	flat_lock(&s->bell_lock);
	/* Two stay: one may be flat_vq_urge()'s, which is none to a reader. */
	if (FLAT_SYS3(SYS_ioctl, fd, FIONREAD, &there) == 0 && there > 2) {
		size_t most = flat_min_size((size_t)there - 2, sizeof(sink));
		(void)flat_sys_recv(fd, sink, most, MSG_DONTWAIT);
	}
	/* The count is the peer's word, a hint: what was rung so far has been dealt with. */
	s->vq.rx.bells_off = rung;
	flat_unlock(&s->bell_lock);
}

/* --- the thread's edge-triggered instance --- */

static int instance(void)
{
	if (watch_fd >= 0)
		return watch_fd;
	int fd = flat_numbers_epoll();
	if (fd < 0)
		return fd;
	at_thread_end();
	watch_fd = fd;
	return fd;
}

int flat_bell_watch(int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
	int w = instance();
	if (w < 0)
		return w;
	int err = flat_sys_epoll_ctl(w, EPOLL_CTL_ADD, fd, &ev);
	/* Left there by a wait that a signal handler left by longjmp. */
	if (err == -EEXIST)
		err = flat_sys_epoll_ctl(w, EPOLL_CTL_MOD, fd, &ev);
	return err < 0 ? err : w;
}

void flat_bell_unwatch(int fd)
{
	(void)flat_sys_epoll_ctl(watch_fd, EPOLL_CTL_DEL, fd, NULL);
}

void flat_bell_seen(int fd, uint32_t events)
{
	struct flat_sock *s = flat_sock_behind(fd);
	if (s && s->kind == FLAT_FD_STREAM && (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)))
		flat_stream_died(s);
}

void flat_bell_swallow(void)
{
	struct epoll_event ev[16];
	int n;
	do {
		n = flat_sys_epoll_pwait(watch_fd, ev, 16, 0, NULL);
		for (int i = 0; i < n; i++)
			flat_bell_seen(ev[i].data.fd, ev[i].events);
	} while (n == 16);
}

/* --- sleeping of blocking calls --- */

static void arm(struct flat_sock *s, bool tx)
{
	if (tx)
		flat_vq_arm_tx(&s->vq, FLAT_ARM_BELL);
	else
		flat_vq_arm_rx(&s->vq, FLAT_ARM_BELL);
}

int flat_bell_limit_ms(const struct flat_sock *s, int fd, bool tx)
{
	struct timeval tv = {0};
	socklen_t len = sizeof(tv);
	if (tx)
		tv = s->sndtimeo;
	else
		(void)flat_sys_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len);
	if (tv.tv_sec == 0 && tv.tv_usec == 0)
		return -1;
	return tv.tv_sec > 2000000 ? -1 : (int)(tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000);
}

bool flat_bell_interrupted(enum flat_signals came, const struct flat_sock *s, int fd, bool tx)
{
	return came == FLAT_SIGNALS_INTERRUPT ||
	       (came == FLAT_SIGNALS_RESTART && flat_bell_limit_ms(s, fd, tx) >= 0);
}

/*
 * epoll_wait() is never restarted after a signal; recv() is if the handler was installed with SA_RESTART. Where it is not
 * known which one ran: if all there are ask for it.
 */
static bool handlers_restart(const struct flat_ran *then)
{
	enum flat_signals came =
	    flat_signals_told ? flat_signals_since(then) : flat_signals_do(~UINT64_C(0));
	return came != FLAT_SIGNALS_INTERRUPT;
}

/* Whether the number means the socket still, which another thread may have closed, or made another file's. */
static bool means(int fd, const struct flat_sock *s)
{
	return flat_sock_behind(fd) == s;
}

/* What is left of the call's time limit, ms; -1: it has none. */
static int left_ms(struct flat_sleeper *c, const struct flat_sock *s, int fd, bool tx)
{
	int64_t now = flat_now_ns();
	if (!c->asked)
		c->limit_ms = flat_bell_limit_ms(s, fd, tx);
	c->asked = true;
	if (c->begun_ns == 0)
		c->begun_ns = now;
	if (c->limit_ms < 0)
		return -1;
	int64_t left = c->limit_ms - (now - c->begun_ns) / 1000000;
	return left > 0 ? (int)left : 0;
}

/*
 * Until the anchor is readable, for so long. When its time is over poll() looks at the number once more, which another thread may
 * have closed, or made another file's: that is the limit all the same.
 */
static int poll_anchor(struct flat_sleeper *c, struct flat_sock *s, int fd, bool tx, int limit_ms)
{
	struct timespec limit = {limit_ms / 1000, limit_ms % 1000 * 1000000L};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n = flat_sys_ppoll(&p, 1, &limit, NULL);
	if (n > 0 && flat_unlikely(!means(fd, s)))
		return left_ms(c, s, fd, tx) == 0 ? -EAGAIN : 0;
	if (n > 0)
		flat_bell_seen(fd, (uint32_t)(unsigned short)p.revents);
	return n == 0 ? -EAGAIN : n < 0 ? n : 0;
}

/*
 * Alone: the anchor is empty. The kernel restarts recv() after a signal, or not, as it does on any socket; the anchor has the
 * socket's SO_RCVTIMEO, which is right for a call's first sleep.
 */
static int sleep_alone(struct flat_sock *s, int fd, bool tx, struct flat_sleeper *c)
{
	char byte;
	if (c->begun_ns == 0 && (!tx || (s->sndtimeo.tv_sec == 0 && s->sndtimeo.tv_usec == 0))) {
		c->begun_ns = flat_now_ns();
	} else {
		int limit = left_ms(c, s, fd, tx);
		if (limit >= 0)
			return poll_anchor(c, s, fd, tx, limit);
	}
	ssize_t n = flat_sys_recv(fd, &byte, 1, MSG_PEEK);
	/* Said of the number, not of its socket: look again. */
	if (n != -EAGAIN && n != -EINTR && flat_unlikely(!means(fd, s)))
		return 0;
	if (n == 0)
		flat_stream_died(s);
	/* A limit for recv() is none for send(). Without recv(), see base/confine.h, nobody restarts it but us. */
	if (n >= 0 || (tx && n == -EAGAIN) ||
	    (n == -EINTR && flat_confine_forbids(SYS_recvfrom) && handlers_restart(&c->then)))
		return 0;
	return (int)n;
}

static int sleep_edge(struct flat_sock *s, int fd, bool tx, struct flat_sleeper *c)
{
	struct epoll_event ev;
	int limit = left_ms(c, s, fd, tx);
	int n = flat_sys_epoll_pwait(watch_fd, &ev, 1, limit, NULL);
	if (n == 0)
		return -EAGAIN;
	if (n == -EINTR)
		return limit < 0 && handlers_restart(&c->then) ? 0 : -EINTR;
	if (n > 0 && (ev.data.fd != fd || means(fd, s)))
		flat_bell_seen(ev.data.fd, ev.events);
	return n < 0 ? n : 0;
}

/* The instance watches the anchor no more, whose number may be another file's by now: then by its end. */
static void end_edge(const struct flat_sock *s, int fd)
{
	if (flat_likely(means(fd, s))) {
		flat_bell_unwatch(fd);
		return;
	}
	flat_fd_close_private(watch_fd);
	watch_fd = -1;
}

/*
 * Not alone, and a filter forbids instances. Where nobody of this process's relatives waits its bells may be taken, and the
 * anchor tells by its level; else the last one stays, and it is looked now and then.
 */
static int sleep_level(struct flat_sock *s, int fd, bool tx, struct flat_sleeper *c)
{
	bool level = flat_bell_level(s);
	int left = left_ms(c, s, fd, tx);
	bool nap = !level && (left < 0 || left > FLAT_NAP_MS);
	int limit = nap ? FLAT_NAP_MS : left;
	struct timespec ts = {limit / 1000, (long)(limit % 1000) * 1000000};
	struct pollfd p = {.fd = fd, .events = level ? POLLIN | POLLRDHUP : POLLRDHUP};
	int n = flat_sys_ppoll(&p, 1, limit < 0 ? NULL : &ts, NULL);
	if (n == 0)
		return nap ? 0 : -EAGAIN;
	if (n == -EINTR)
		return left < 0 && handlers_restart(&c->then) ? 0 : -EINTR;
	if (n > 0)
		flat_bell_seen(fd, (uint32_t)(unsigned short)p.revents);
	return n < 0 ? n : 0;
}

enum how { ALONE, EDGE, LEVEL };

/* Joins. How to sleep, or a negative errno after which it has left again. */
static int begin(struct flat_sock *s, int fd)
{
	if (flat_bell_join(s, fd))
		return ALONE;
	int err = flat_bell_watch(fd);
	if (err >= 0) {
		flat_bell_swallow();
		return EDGE;
	}
	if (err == -EPERM && flat_confined) {
		flat_bell_clear_alone(s, fd);
		return LEVEL;
	}
	flat_bell_leave(s);
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE ? -ENOBUFS : err;
}

static int sleep_as(enum how how, struct flat_sock *s, int fd, bool tx, struct flat_sleeper *c)
{
	if (flat_bell_interrupted(flat_signals_since(&c->then), s, fd, tx))
		return -EINTR;
	return how == ALONE  ? sleep_alone(s, fd, tx, c)
	       : how == EDGE ? sleep_edge(s, fd, tx, c)
			     : sleep_level(s, fd, tx, c);
}

int flat_bell_sleep(struct flat_sock *s, int fd, bool tx, bool (*ready)(struct flat_sock *s),
		    struct flat_sleeper *c)
{
	int err = 0;
	int type;
	int how = begin(s, fd);
	if (how < 0)
		return how;
	arm(s, tx);
	if (!ready(s)) {
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
		err = sleep_as((enum how)how, s, fd, tx, c);
		pthread_setcanceltype(type, NULL);
		/* Not by a number that was closed meanwhile: it may be something else. */
		int now = how == EDGE ? -EBADF : flat_sock_anchor(s, fd);
		if (now >= 0)
			flat_bell_clear_alone(s, now);
	}
	if (how == EDGE)
		end_edge(s, fd);
	flat_bell_leave(s);
	return err;
}
