/* epoll_wait: what members report, when they rest, and sleeping on the kernel's instance. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>

#include "base/clock.h"
#include "host/epoll.h"
#include "host/user.h"

/* An active member that found nothing this often is armed and rests, while others are busy. */
#define IDLE_LOOKS 256
/* With more active members than this an idle one rests at once: ready bits find it cheaper. */
#define ACTIVE_MAX 64
/*
 * The kernel's members are looked at in each wait that found nothing, and in every eighth that did; in each as long as
 * they have something: who accepts one connection a turn, as libuv, shall not be kept from the next one.
 */
#define KERNEL_EVERY 8

#define ASKABLE ((uint32_t)EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLRDNORM | EPOLLWRNORM)

/*
 * Without the lock, by who had it and changed which members are active: who sleeps by then was counted; who comes later
 * settles them itself.
 */
static uint32_t sleepers(const struct flat_epoll *e)
{
	return atomic_load_explicit(&e->asleep, memory_order_relaxed);
}

void flat_epoll_activate(struct flat_member *m)
{
	m->idle = 0;
	if (m->active)
		return;
	m->active = true;
	m->ep->n_active++;
	TAILQ_INSERT_TAIL(&m->ep->active, m, link);
}

void flat_epoll_deactivate(struct flat_member *m)
{
	if (!m->active)
		return;
	m->active = false;
	m->ep->n_active--;
	TAILQ_REMOVE(&m->ep->active, m, link);
}

/* What a member could report now, edges not considered. */
static uint32_t level(const struct flat_member *m, int depth)
{
	if (m->events == 0)
		return 0;
	if (m->inner)
		return depth < FLAT_EPOLL_NESTS_MAX && flat_epoll_look(m->inner, depth + 1)
			   ? m->events & (EPOLLIN | EPOLLRDNORM)
			   : 0;
	/* Most looks, at most members: one shared cache line. */
	if (!m->sock || (!(m->events & (EPOLLOUT | EPOLLWRNORM)) &&
			 !flat_stream_readable(m->sock) && !flat_errqueue_waits(m->sock)))
		return 0;
	return flat_stream_events(m->sock) & ((m->events & ASKABLE) | EPOLLERR | EPOLLHUP);
}

/* Sums of what its streams' edges are told by: they change with each edge. Takes the instance's lock. */
static void inner_edges(struct flat_epoll *e, uint32_t *tails, uint32_t *flags, int depth)
{
	flat_lock(&e->lock);
	for (uint32_t i = 0; i < e->n; i++) {
		const struct flat_member *m = e->v[i];
		if (m->sock) {
			*tails += flat_ring_tail_hint(&m->sock->vq.rx);
			*flags += flat_stream_edges(m->sock);
		} else if (m->inner && depth < FLAT_EPOLL_NESTS_MAX) {
			inner_edges(m->inner, tails, flags, depth + 1);
		}
	}
	flat_unlock(&e->lock);
}

/* For EPOLLET: whether anything happened since it was reported. */
static bool edge(const struct flat_member *m, uint32_t now)
{
	const struct flat_sock *s = m->sock;
	if (m->fresh || (!s && !m->inner))
		return true;
	if (m->inner) {
		uint32_t tails = 0;
		uint32_t flags = 0;
		inner_edges(m->inner, &tails, &flags, 0);
		return tails != m->last_tail || flags != m->last_flags;
	}
	if ((now & EPOLLOUT) && atomic_load_explicit(&s->tx_blocked, memory_order_relaxed))
		return true;
	return flat_ring_tail_hint(&s->vq.rx) != m->last_tail ||
	       flat_stream_edges(s) != m->last_flags;
}

static uint32_t peek(const struct flat_member *m, int depth)
{
	uint32_t now = level(m, depth);
	return now && (m->events & EPOLLET) && !edge(m, now) ? 0 : now;
}

/* EPOLLONESHOT. What the kernel would report as well, it shall not. */
static void spent(struct flat_member *m)
{
	struct epoll_event none = {.data.u64 = FLAT_EPOLL_INNER | (uint32_t)m->id};
	m->events = 0;
	if (m->inner)
		(void)flat_sys_epoll_ctl(m->ep->epfd, EPOLL_CTL_MOD, m->fd, &none);
}

/* What it reports, remembered where edges count. */
static uint32_t report(struct flat_member *m)
{
	uint32_t tail = 0;
	uint32_t flags = 0;
	if (m->sock && (m->events & EPOLLET)) {
		/* Before the look: what comes after it is another edge. */
		tail = flat_ring_tail_hint(&m->sock->vq.rx);
		flags = flat_stream_edges(m->sock);
	} else if (m->inner && (m->events & EPOLLET)) {
		inner_edges(m->inner, &tail, &flags, 0);
	}
	uint32_t now = m->inner && m->told == m->ep->waits ? 0 : peek(m, 0);
	if (now == 0)
		return 0;
	m->told = m->ep->waits;
	if (m->sock && (now & EPOLLOUT))
		atomic_store_explicit(&m->sock->tx_blocked, 0, memory_order_relaxed);
	m->last_tail = tail;
	m->last_flags = flags;
	m->fresh = false;
	if (m->events & EPOLLONESHOT)
		spent(m);
	return now;
}

/* Arms a member. True: it has nothing to report and may rest. */
static bool rest(struct flat_member *m, int depth)
{
	if (m->events == 0)
		return true;
	/* What is there and was told of already, for EPOLLET, may stay there. */
	if (m->inner)
		return depth >= FLAT_EPOLL_NESTS_MAX || flat_epoll_settle(m->inner, depth + 1) ||
		       peek(m, depth) == 0;
	struct flat_sock *s = m->sock;
	flat_epoll_count(m);
	bool alone = m->lane && !flat_sock_shared(s) &&
		     atomic_load_explicit(&s->waiters, memory_order_relaxed) == 1;
	uint32_t how = alone ? FLAT_ARM_READY_NAP(m->ep->crowd ? 0 : m->lane->nap) : FLAT_ARM_BELL;
	flat_vq_arm_rx(&s->vq, how);
	/* For room only where it was missed: each byte taken by the peer would wake us else. */
	if ((m->events & EPOLLOUT) &&
	    (!(m->events & EPOLLET) || atomic_load_explicit(&s->tx_blocked, memory_order_relaxed)))
		flat_vq_arm_tx(&s->vq, how);
	return peek(m, depth) == 0;
}

/* As many are looked at for the place of one: beyond it the order is the slots'. */
#define ORDERED_MAX 64

/* Behind those of the same ready bits that became ready before it, as the kernel's list has them. */
static void activate_in_order(struct flat_epoll *e, struct flat_member *m)
{
	if (m->active || !m->sock) {
		flat_epoll_activate(m);
		return;
	}
	flat_epoll_activate(m);
	m->taken = e->takes;
	m->woken = flat_ring_woken(&m->sock->vq.rx);
	struct flat_member *before = TAILQ_PREV(m, flat_member_list, link);
	struct flat_member *later = NULL;
	for (int i = 0;
	     i < ORDERED_MAX && before && before->taken == e->takes && before->woken > m->woken;
	     i++) {
		later = before;
		before = TAILQ_PREV(before, flat_member_list, link);
	}
	if (!later)
		return;
	TAILQ_REMOVE(&e->active, m, link);
	TAILQ_INSERT_BEFORE(later, m, link);
}

static void take_ready(struct flat_epoll *e)
{
	e->takes++;
	for (uint32_t i = 0; i < e->n_lanes; i++) {
		struct flat_ep_lane *l = e->lanes[i];
		uint64_t bits = l->mask ? flat_lane_take_ready(l->mine, l->mask) : 0;
		for (; bits; bits &= bits - 1)
			activate_in_order(e, l->by_slot[__builtin_ctzll(bits)]);
	}
}

/* One look at each active member. Those that reported go to the end: the others have their turn first. */
static int collect(struct flat_epoll *e, struct epoll_event *out, int max)
{
	struct flat_member *m;
	struct flat_member *next;
	int n = 0;
	flat_lock(&e->lock);
	e->waits++;
	take_ready(e);
	uint32_t left = e->n_active;
	for (m = TAILQ_FIRST(&e->active); m && left > 0 && n < max; m = next, left--) {
		next = TAILQ_NEXT(m, link);
		uint32_t ev = report(m);
		if (ev == 0) {
			/* An instance inside has no bell here: it stays active. */
			if (!m->inner && (++m->idle > IDLE_LOOKS || e->n_active > ACTIVE_MAX) &&
			    rest(m, 0))
				flat_epoll_deactivate(m);
			continue;
		}
		m->idle = 0;
		out[n].events = ev;
		out[n].data.u64 = m->data;
		n++;
		if (next) {
			TAILQ_REMOVE(&e->active, m, link);
			TAILQ_INSERT_TAIL(&e->active, m, link);
		}
	}
	flat_unlock(&e->lock);
	return n;
}

bool flat_epoll_look(struct flat_epoll *e, int depth)
{
	struct flat_member *m;
	bool ready = false;
	flat_lock(&e->lock);
	take_ready(e);
	TAILQ_FOREACH(m, &e->active, link)
	{
		ready = peek(m, depth) != 0;
		if (ready)
			break;
	}
	flat_unlock(&e->lock);
	return ready;
}

bool flat_epoll_settle(struct flat_epoll *e, int depth)
{
	bool all = true;
	flat_lock(&e->lock);
	for (uint32_t k = e->n_active; k > 0; k--) {
		struct flat_member *m = TAILQ_FIRST(&e->active);
		bool still = rest(m, depth);
		all &= still;
		/* An instance inside rests only as long as this wait lasts: it stays active here. */
		if (still && !m->inner) {
			flat_epoll_deactivate(m);
		} else {
			TAILQ_REMOVE(&e->active, m, link);
			TAILQ_INSERT_TAIL(&e->active, m, link);
		}
	}
	flat_unlock(&e->lock);
	return all;
}

/* Raised: true if a ready bit came meanwhile, of a notifier that did not see us asleep. */
static bool any_ready(struct flat_epoll *e, int depth)
{
	struct flat_member *m;
	bool ready = false;
	flat_lock(&e->lock);
	for (uint32_t i = 0; i < e->n_lanes && !ready; i++)
		ready =
		    e->lanes[i]->mask && flat_lane_any_ready(e->lanes[i]->mine, e->lanes[i]->mask);
	TAILQ_FOREACH(m, &e->active, link)
	{
		if (!ready && m->inner && depth < FLAT_EPOLL_NESTS_MAX)
			ready = any_ready(m->inner, depth + 1);
	}
	flat_unlock(&e->lock);
	return ready;
}

/* Its address tells threads apart. */
static __thread char self;

void flat_epoll_lane_lower(struct flat_ep_lane *l)
{
	if (l->up)
		flat_lane_sleepers_lower(l->mine);
	if (l->up && l->nap)
		flat_lane_nap_end(l->mine, l->nap);
	l->up = false;
}

static void begin_naps(struct flat_epoll *e)
{
	e->sleeps = (e->sleeps + 1) % FLAT_NAP_MANY;
	e->sleeps += e->sleeps == 0;
	for (uint32_t i = 0; i < e->n_lanes; i++) {
		const struct flat_ep_lane *l = e->lanes[i];
		if (l->mine && l->nap)
			flat_lane_nap_begin(l->mine, l->nap, e->crowd ? FLAT_NAP_MANY : e->sleeps);
	}
}

void flat_epoll_beside(struct flat_epoll *e)
{
	bool ready = false;
	if (flat_likely(sleepers(e) == 0 || e->sleeper == &self || e->crowd))
		return;
	e->crowd = true;
	begin_naps(e);
	/* What was set while the nap was cleared is for who sleeps to find. */
	for (uint32_t i = 0; i < e->n_lanes && !ready; i++)
		ready =
		    e->lanes[i]->mask && flat_lane_any_ready(e->lanes[i]->mine, e->lanes[i]->mask);
	if (ready)
		flat_epoll_kick(e);
}

void flat_epoll_leave(struct flat_epoll *e, int depth)
{
	struct flat_member *m;
	flat_lock(&e->lock);
	bool others = sleepers(e) > 0;
	if (others)
		flat_epoll_beside(e);
	if (e->nests) {
		TAILQ_FOREACH(m, &e->active, link)
		{
			if (m->inner && depth < FLAT_EPOLL_NESTS_MAX)
				flat_epoll_leave(m->inner, depth + 1);
		}
	}
	flat_unlock(&e->lock);
	if (!others || flat_epoll_settle(e, depth))
		return;
	flat_lock(&e->lock);
	flat_epoll_kick(e);
	flat_unlock(&e->lock);
}

static void raise_one(struct flat_epoll *e)
{
	flat_epoll_beside(e);
	atomic_fetch_add_explicit(&e->asleep, 1, memory_order_relaxed);
	e->sleeper = &self;
	for (uint32_t i = 0; i < e->n_lanes; i++) {
		struct flat_ep_lane *l = e->lanes[i];
		if (l->up || !l->mine)
			continue;
		l->up = true;
		flat_lane_sleepers_raise(l->mine);
	}
	begin_naps(e);
}

static void raise_all(struct flat_epoll *e, struct flat_ep_raised *r, int depth)
{
	struct flat_member *m;
	flat_lock(&e->lock);
	raise_one(e);
	/* One too many to remember stays raised: superfluous bells, none lost. */
	if (r->n < FLAT_ARRAY_SIZE(r->v))
		r->v[r->n++] = e;
	TAILQ_FOREACH(m, &e->active, link)
	{
		if (m->inner && depth < FLAT_EPOLL_NESTS_MAX)
			raise_all(m->inner, r, depth + 1);
	}
	flat_unlock(&e->lock);
}

void flat_epoll_end_sleep(struct flat_ep_raised *r)
{
	while (r->n > 0) {
		struct flat_epoll *e = r->v[--r->n];
		flat_lock(&e->lock);
		bool last = sleepers(e) > 0 &&
			    atomic_fetch_sub_explicit(&e->asleep, 1, memory_order_relaxed) == 1;
		for (uint32_t i = 0; last && i < e->n_lanes; i++)
			flat_epoll_lane_lower(e->lanes[i]);
		flat_unlock(&e->lock);
	}
}

bool flat_epoll_begin_sleep(struct flat_epoll *e, struct flat_ep_raised *r)
{
	raise_all(e, r, 0);
	if (flat_epoll_settle(e, 0) && !any_ready(e, 0))
		return true;
	flat_epoll_end_sleep(r);
	return false;
}

/* What S says was rung: those members will be looked at. */
static void harvest(struct flat_epoll *e)
{
	struct epoll_event ev[64];
	int n;
	do {
		n = flat_sys_epoll_pwait(e->shadow, ev, 64, 0, NULL);
		flat_lock(&e->lock);
		flat_epoll_beside(e);
		for (int i = 0; i < n; i++) {
			uint32_t index = (uint32_t)ev[i].data.u64;
			struct flat_member *m = index < e->n ? e->v[index] : NULL;
			if (!m || m->id != ev[i].data.u64 || !m->sock)
				continue;
			if (ev[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
				flat_stream_died(m->sock);
			if (m->fd >= 0)
				flat_bell_trim(m->sock, m->fd);
			if (!m->gone)
				flat_epoll_activate(m);
		}
		flat_unlock(&e->lock);
	} while (n == 64);
}

/* And what those of instances inside say. */
static void harvest_all(struct flat_epoll *e, int depth)
{
	if (e->shadow >= 0)
		harvest(e);
	if (!e->nests || depth >= FLAT_EPOLL_NESTS_MAX)
		return;
	flat_lock(&e->lock);
	for (uint32_t i = 0; i < e->n; i++) {
		if (e->v[i]->inner)
			harvest_all(e->v[i]->inner, depth + 1);
	}
	flat_unlock(&e->lock);
}

bool flat_epoll_kernel_ready(struct flat_epoll *e)
{
	struct pollfd p = {.fd = e->epfd, .events = POLLIN};
	struct timespec zero = {0};
	harvest_all(e, 0);
	return flat_sys_ppoll(&p, 1, &zero, NULL) == 1 && (p.revents & POLLIN);
}

/*
 * The kernel says that an instance inside is readable: for its kernel members, or for bells of flat ones, which the looks
 * at it deal with. What to report of it now, in *out; 0: nothing that the looks will not.
 */
static int inner_event(struct flat_epoll *e, struct epoll_event *out)
{
	uint32_t index = (uint32_t)out->data.u64;
	int n = 0;
	flat_lock(&e->lock);
	struct flat_member *m = index < e->n ? e->v[index] : NULL;
	struct flat_epoll *inner = m ? m->inner : NULL;
	flat_unlock(&e->lock);
	bool kernel = inner && flat_epoll_kernel_ready(inner);
	flat_lock(&e->lock);
	if (kernel && m->inner == inner && m->told != e->waits && (m->events & EPOLLIN)) {
		out->events = EPOLLIN;
		out->data.u64 = m->data;
		m->told = e->waits;
		if (m->events & EPOLLONESHOT)
			spent(m);
		n = 1;
	}
	flat_unlock(&e->lock);
	return n;
}

/* S's own event is taken out of what the kernel said, instances inside are looked into. The rest's count, or its negative errno. */
static int without_own(struct flat_epoll *e, struct epoll_event *out, int n)
{
	int kept = 0;
	for (int i = 0; i < n; i++) {
		struct epoll_event ev = out[i];
		if (ev.data.u64 == FLAT_EPOLL_COOKIE)
			harvest(e);
		else if (flat_unlikely((ev.data.u64 & FLAT_EPOLL_INNER_MASK) == FLAT_EPOLL_INNER)) {
			if (inner_event(e, &ev))
				out[kept++] = ev;
		} else
			out[kept++] = ev;
	}
	return n < 0 ? n : kept;
}

/* One look at the kernel's members. Count, or negative errno. */
static int kernel_look(struct flat_epoll *e, int epfd, struct epoll_event *out, int max)
{
	int n = without_own(e, out, flat_sys_epoll_pwait(epfd, out, max, 0, NULL));
	e->kernel_had = n > 0;
	return n;
}

static void end_sleep(void *raised)
{
	flat_epoll_end_sleep(raised);
}

/* How long a wait lasts and what ends it besides events: a call's own. */
struct until {
	int64_t timeout_us;
	int64_t end_us;
	const sigset_t *mask;
	struct flat_ran then;
};

/* Sleeps in the kernel: a cancellation point. `raised` is lowered however it ends. Count, or negative errno. */
static int kernel_sleep(struct flat_epoll *e, int epfd, struct epoll_event *out, int max,
			int timeout_ms, const struct until *u, struct flat_ep_raised *raised)
{
	int type;
	int n;
	pthread_cleanup_push(end_sleep, raised);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	n = u->timeout_us != 0 && flat_signals_since(&u->then) != FLAT_SIGNALS_NONE
		? -EINTR
		: flat_sys_epoll_pwait(epfd, out, max, timeout_ms, u->mask);
	pthread_setcanceltype(type, NULL);
	pthread_cleanup_pop(0);
	n = without_own(e, out, n);
	e->kernel_had = n > 0;
	flat_epoll_end_sleep(raised);
	return n;
}

static int look(struct flat_epoll *e, int epfd, struct epoll_event *out, int max, bool kernel)
{
	int n = 0;
	bool first = e->kernel_first;
	if (flat_unlikely(first)) {
		n = kernel_look(e, epfd, out, max);
		n = n < 0 ? 0 : n;
	}
	if (n < max)
		n += collect(e, out + n, max - n);
	e->kernel_first = n == max && !first;
	/* Not twice: what it said it would say again. */
	if (n < max && !first &&
	    (n == 0 ? kernel : e->kernel_had || e->looks++ % KERNEL_EVERY == 0)) {
		int k = kernel_look(e, epfd, out + n, max - n);
		n += k > 0 ? k : 0;
	}
	return n;
}

static int spin(struct flat_epoll *e, int epfd, struct epoll_event *out, int max)
{
	struct flat_wait w;
	int n;
	flat_wait_begin(&w);
	do
		n = look(e, epfd, out, max, w.looks % 64 == 63);
	while (n == 0 && flat_wait_again(&w));
	return flat_wait_end(&w, n > 0) != FLAT_SIGNALS_NONE && n == 0 ? -EINTR : n;
}

static int wait_events(struct flat_epoll *e, int epfd, struct epoll_event *out, int max,
		       const struct until *u)
{
	int n = u->timeout_us != 0 && !u->mask ? spin(e, epfd, out, max)
					       : look(e, epfd, out, max, false);
	while (n == 0) {
		struct flat_ep_raised raised = {.n = 0};
		int64_t left = u->timeout_us > 0 ? u->end_us - flat_now_us() : u->timeout_us;
		int64_t ms = u->timeout_us < 0 ? -1 : left <= 0 ? 0 : (left + 999) / 1000;
		int wait_ms = ms < INT_MAX ? (int)ms : INT_MAX;
		/* Also where the looks took all of the time: what comes next shall be in its order. */
		bool asleep = u->timeout_us != 0 && flat_epoll_begin_sleep(e, &raised);
		if (wait_ms == 0 || asleep) {
			n = kernel_sleep(e, epfd, out, max, wait_ms, u, &raised);
			if (n < 0)
				return n;
		}
		if (n < max) {
			int more = collect(e, out + n, max - n);
			n += more;
		}
		if (wait_ms == 0)
			break;
	}
	return n;
}

static int wait_on(int epfd, struct epoll_event *events, int max, int64_t timeout_us,
		   const sigset_t *mask)
{
	struct flat_epoll *e = flat_epoll_find(epfd);
	/* fs/eventpoll.c, do_epoll_wait() */
	if (max <= 0 || (size_t)max > INT_MAX / sizeof(*events))
		return -EINVAL;
	if (!flat_user_possible(events, (size_t)max * sizeof(*events)))
		return -EFAULT;
	const struct until until = {
	    .timeout_us = timeout_us,
	    .end_us = timeout_us > 0 ? flat_now_us() + timeout_us : 0,
	    .mask = mask,
	    .then = flat_signals_ran(),
	};
	int n = wait_events(e, epfd, events, max, &until);
	if (flat_unlikely(e->nests || sleepers(e) > 0))
		flat_epoll_leave(e, 0);
	return n;
}

static void plain_end(void *count)
{
	atomic_fetch_sub_explicit((_Atomic uint32_t *)count, 1, memory_order_relaxed);
}

/* A wait on the kernel's instance alone: epoll_pwait2(), or epoll_pwait() where timeout_ms is given. */
struct plain {
	int epfd;
	struct epoll_event *events;
	int max;
	const int *timeout_ms;
	const struct timespec *timeout;
	const sigset_t *mask;
};

static int plain_call(const struct plain *p)
{
	if (p->timeout_ms)
		return flat_sys_epoll_pwait(p->epfd, p->events, p->max, *p->timeout_ms, p->mask);
	return (int)FLAT_SYS6(SYS_epoll_pwait2, p->epfd, p->events, p->max, p->timeout, p->mask, 8);
}

/*
 * On an instance that had no member of ours: a cancellation point. Another thread may put the first one in meanwhile, which
 * only we understand: -EAGAIN where it did so before the sleep, else it wakes who is counted here.
 */
static int plain_wait(const struct plain *p)
{
	_Atomic uint32_t *count = flat_epoll_plain(p->epfd);
	int n = -EAGAIN;
	int type;
	if (p->timeout_ms && *p->timeout_ms == 0)
		return plain_call(p);
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	/* The count, then whether the instance is known: partner of flat_epoll_kick(). */
	atomic_thread_fence(memory_order_seq_cst);
	pthread_cleanup_push(plain_end, count);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	if (!flat_epoll_find(p->epfd))
		n = plain_call(p);
	pthread_setcanceltype(type, NULL);
	pthread_cleanup_pop(1);
	return n;
}

/* What plain_wait() said, where the instance has members of ours by now: the rest of the wait is ours. */
static int told(const struct plain *p, int n, int64_t timeout_us, int64_t begin_us)
{
	struct flat_epoll *e = n > 0 || n == -EAGAIN ? flat_epoll_find(p->epfd) : NULL;
	if (flat_likely(!e))
		return n;
	n = n > 0 ? without_own(e, p->events, n) : 0;
	if (n > 0)
		return n;
	int64_t left = timeout_us > 0 ? timeout_us - (flat_now_us() - begin_us) : timeout_us;
	return wait_on(p->epfd, p->events, p->max, timeout_us > 0 && left < 0 ? 0 : left, p->mask);
}

int flat_epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout_ms,
		     const sigset_t *mask)
{
	int64_t us = timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000;
	if (flat_epoll_find(epfd))
		return (int)flat_result(wait_on(epfd, events, max, us, mask));
	const struct plain p = {epfd, events, max, &timeout_ms, NULL, mask};
	int64_t begin = us > 0 ? flat_now_us() : 0;
	return (int)flat_result(told(&p, plain_wait(&p), us, begin));
}

int flat_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	return flat_epoll_pwait(epfd, events, max, timeout_ms, NULL);
}

int flat_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		      const sigset_t *mask)
{
	if (timeout && !flat_user_possible(timeout, sizeof(*timeout)))
		return (int)flat_result(-EFAULT);
	if (flat_user_bad_time(timeout))
		return (int)flat_result(-EINVAL);
	/* More than anybody waits. */
	bool ends = timeout && timeout->tv_sec < INT64_MAX / 2000000;
	int64_t us =
	    ends ? (int64_t)timeout->tv_sec * 1000000 + (timeout->tv_nsec + 999) / 1000 : -1;
	if (!flat_epoll_find(epfd)) {
		const struct plain p = {epfd, events, max, NULL, timeout, mask};
		int64_t begin = us > 0 ? flat_now_us() : 0;
		return (int)flat_result(told(&p, plain_wait(&p), us, begin));
	}
	return (int)flat_result(wait_on(epfd, events, max, us, mask));
}
