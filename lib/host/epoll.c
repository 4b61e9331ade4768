/* Instances and their members: epoll_ctl, and what happens to descriptors meanwhile. */
#include "host/epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/lanes.h"
#include "host/openfds.h"
#include "host/share.h"
#include "host/user.h"

/* Of descriptor numbers, in pages that come into being as they are used. */
static struct flat_epoll **instances;
/* What the kernel lets go with EPOLLEXCLUSIVE. */
#define EXCLUSIVE_OK                                                                               \
	((uint32_t)EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET |              \
	 EPOLLEXCLUSIVE)

/* What stays of a spent EPOLLONESHOT: EP_PRIVATE_BITS of fs/eventpoll.c. */
#define PRIVATE_BITS ((uint32_t)EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)

static struct flat_epoll *all;
static struct flat_member **members; /* first of each number's chain */
static _Atomic uint64_t table_lock;  /* of chains; innermost */
static _Atomic uint32_t orphans;     /* members whose number was closed before their socket */
/* Of numbers modulo their count: where two meet an instance is kicked for nothing. */
static _Atomic uint32_t plain[256];

_Atomic uint32_t *flat_epoll_plain(int epfd)
{
	return &plain[(uint32_t)epfd % FLAT_ARRAY_SIZE(plain)];
}

static void *map_table(void)
{
	long addr = FLAT_SYS6(SYS_mmap, 0, FLAT_FD_KINDS * sizeof(void *), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return addr < 0 && addr > -4096 ? NULL : (void *)addr;
}

static bool have_tables(void)
{
	if (flat_likely(__atomic_load_n(&members, __ATOMIC_ACQUIRE) != NULL))
		return true;
	flat_lock(&table_lock);
	if (!instances)
		instances = map_table();
	if (instances && !members)
		__atomic_store_n(&members, (struct flat_member **)map_table(), __ATOMIC_RELEASE);
	flat_unlock(&table_lock);
	return members != NULL;
}

struct flat_epoll *flat_epoll_find(int epfd)
{
	if (!__atomic_load_n(&members, __ATOMIC_ACQUIRE) || (unsigned int)epfd >= FLAT_FD_KINDS)
		return NULL;
	return __atomic_load_n(&instances[epfd], __ATOMIC_ACQUIRE);
}

struct flat_epoll *flat_epoll_make(int epfd)
{
	if (!have_tables() || (unsigned int)epfd >= FLAT_FD_KINDS)
		return NULL;
	struct flat_epoll *e = flat_epoll_find(epfd);
	if (e)
		return e;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->epfd = epfd;
	e->shadow = e->kick_fd = -1;
	e->refs = 1;
	TAILQ_INIT(&e->active);
	flat_lock(&table_lock);
	if (instances[epfd]) {
		free(e);
		e = instances[epfd];
	} else {
		e->next = all;
		all = e;
		__atomic_store_n(&instances[epfd], e, __ATOMIC_RELEASE);
	}
	flat_unlock(&table_lock);
	flat_fd_set_kind(epfd, FLAT_FD_EPOLL);
	return e;
}

/* --- members --- */

static struct flat_member *member_of(const struct flat_epoll *e, int fd)
{
	flat_lock(&table_lock);
	struct flat_member *m = members[fd];
	while (m && m->ep != e)
		m = m->next;
	flat_unlock(&table_lock);
	return m;
}

static void link_number(struct flat_member *m)
{
	flat_lock(&table_lock);
	m->next = members[m->fd];
	members[m->fd] = m;
	flat_unlock(&table_lock);
}

static void unlink_number(struct flat_member *m)
{
	if (m->fd < 0)
		return;
	flat_lock(&table_lock);
	struct flat_member **at = &members[m->fd];
	while (*at && *at != m)
		at = &(*at)->next;
	if (*at)
		*at = m->next;
	flat_unlock(&table_lock);
}

static struct flat_member *member_new(struct flat_epoll *e, int fd)
{
	struct flat_member *m = e->free;
	if (m) {
		e->free = m->next;
		uint64_t id = m->id + (1ULL << 32);
		memset(m, 0, sizeof(*m));
		m->id = id;
	} else {
		if (e->n == e->cap) {
			uint32_t cap = e->cap ? e->cap * 2 : 16;
			struct flat_member **v =
			    reallocarray(e->v, cap, sizeof(struct flat_member *));
			if (!v)
				return NULL;
			e->v = v;
			e->cap = cap;
		}
		m = calloc(1, sizeof(*m));
		if (!m)
			return NULL;
		m->id = e->n;
		e->v[e->n++] = m;
	}
	m->ep = e;
	m->fd = fd;
	m->fresh = true;
	link_number(m);
	return m;
}

static struct flat_ep_lane *lane_of(struct flat_epoll *e, const struct flat_sock *s)
{
	struct flat_lane_side *mine = s->vq.mine;
	struct flat_ep_lane *unused = NULL;
	for (uint32_t i = 0; i < e->n_lanes; i++) {
		if (e->lanes[i]->mine == mine)
			return e->lanes[i];
		if (!e->lanes[i]->mine)
			unused = e->lanes[i];
	}
	if (unused) {
		unused->nap = e->crowd ? 0 : flat_lane_nap(s->lane, mine, e);
		unused->mine = mine;
		return unused;
	}
	if (e->n_lanes == e->cap_lanes) {
		uint32_t cap = e->cap_lanes ? e->cap_lanes * 2 : 8;
		struct flat_ep_lane **v =
		    reallocarray(e->lanes, cap, sizeof(struct flat_ep_lane *));
		if (!v)
			return NULL;
		e->lanes = v;
		e->cap_lanes = cap;
	}
	struct flat_ep_lane *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->nap = e->crowd ? 0 : flat_lane_nap(s->lane, mine, e);
	l->mine = mine;
	e->lanes[e->n_lanes] = l;
	/* Release: a thread that wakes up counts sleepers down over the lanes that it saw. */
	__atomic_store_n(&e->n_lanes, e->n_lanes + 1, __ATOMIC_RELEASE);
	return l;
}

/* Ready bits are taken by one party: two members of one slot in one instance do with bells. */
static void join_lane(struct flat_member *m)
{
	struct flat_vq *vq = &m->sock->vq;
	struct flat_ep_lane *l = lane_of(m->ep, m->sock);
	if (!l || (l->mask & vq->bit))
		return;
	l->by_slot[__builtin_ctzll(vq->bit)] = m;
	l->mask |= vq->bit;
	m->lane = l;
}

static void leave_lane(struct flat_member *m)
{
	if (!m->lane)
		return;
	flat_vq_leave(&m->sock->vq);
	m->lane->mask &= ~m->sock->vq.bit;
	m->lane->by_slot[__builtin_ctzll(m->sock->vq.bit)] = NULL;
	/* Without members it may be unmapped any time. */
	if (m->lane->mask == 0) {
		flat_epoll_lane_lower(m->lane);
		m->lane->mine = NULL;
	}
	m->lane = NULL;
}

void flat_epoll_count(struct flat_member *m)
{
	if (flat_likely(m->counted))
		return;
	flat_lock(&m->sock->bell_lock);
	atomic_fetch_add_explicit(&m->sock->waiters, 1, memory_order_relaxed);
	flat_unlock(&m->sock->bell_lock);
	m->counted = true;
}

static void discount(struct flat_member *m)
{
	if (m->counted)
		flat_bell_leave(m->sock);
	m->counted = false;
}

static void member_end(struct flat_member *m)
{
	struct flat_epoll *e = m->ep;
	flat_epoll_deactivate(m);
	if (m->sock) {
		leave_lane(m);
		/* As the kernel: a child's close is no end for its parent's instance. */
		if (m->fd >= 0 && !e->inherited)
			(void)flat_sys_epoll_ctl(e->shadow, EPOLL_CTL_DEL, m->fd, NULL);
		else if (m->fd < 0)
			atomic_fetch_sub(&orphans, 1);
		/* The bell of this slot may have been the one that was to wake who sleeps. */
		flat_epoll_beside(e);
		discount(m);
	}
	unlink_number(m);
	m->sock = NULL;
	m->inner = NULL;
	m->events = 0;
	m->fd = -1;
	m->next = e->free;
	e->free = m;
}

static int make_shadow(struct flat_epoll *e, int epfd)
{
	struct epoll_event in = {.events = EPOLLIN, .data.u64 = FLAT_EPOLL_COOKIE};
	int s = flat_numbers_epoll();
	if (s < 0)
		return s;
	int err = flat_sys_epoll_ctl(epfd, EPOLL_CTL_ADD, s, &in);
	if (err < 0) {
		flat_fd_close_private(s);
		return err;
	}
	e->shadow = s;
	return 0;
}

void flat_epoll_kick(struct flat_epoll *e)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = UINT64_MAX};
	uint64_t one = 1;
	/* The instance is known, then the count: partner of epoll_wait.c, plain_wait(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&e->asleep, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(flat_epoll_plain(e->epfd), memory_order_relaxed) == 0)
		return;
	if (e->shadow < 0 && make_shadow(e, e->epfd) < 0)
		return;
	if (e->kick_fd >= 0) {
		(void)flat_sys_write(e->kick_fd, &one, sizeof(one));
		return;
	}
	e->kick_fd =
	    flat_fd_private((int)FLAT_SYS2(SYS_eventfd2, 1, O_NONBLOCK | O_CLOEXEC /* as EFD_ */));
	if (e->kick_fd >= 0)
		(void)flat_sys_epoll_ctl(e->shadow, EPOLL_CTL_ADD, e->kick_fd, &ev);
}

void flat_epoll_forked(void)
{
	table_lock = 0;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(plain); i++)
		atomic_store_explicit(&plain[i], 0, memory_order_relaxed);
	for (struct flat_epoll *e = all; e; e = e->next) {
		e->lock = 0;
		atomic_store_explicit(&e->asleep, 0, memory_order_relaxed);
		/* One without flat members yet will have a shadow instance of our own. */
		e->crowd = e->inherited = e->shadow >= 0;
		/* Naps are the parent's, and so are the arms that name them: whoever rests here asks anew. */
		for (uint32_t i = 0; i < e->n_lanes; i++) {
			e->lanes[i]->up = false;
			e->lanes[i]->nap = 0;
		}
		for (uint32_t i = 0; i < e->n; i++) {
			/* Its parent's count: a child that comes to wait makes one of its own. */
			e->v[i]->counted = false;
			if (e->v[i]->sock && !e->v[i]->gone)
				flat_epoll_activate(e->v[i]);
		}
	}
}

/* A member whose descriptor is a stream, new or converted: its anchor goes into S. */
static int become_flat(struct flat_member *m, int epfd, struct flat_sock *s)
{
	struct flat_epoll *e = m->ep;
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u64 = m->id};
	int err = e->shadow < 0 ? make_shadow(e, epfd) : 0;
	if (err < 0)
		return err;
	/* Counted before its anchor is watched: from now on the last bell stays there. */
	m->sock = s;
	flat_epoll_count(m);
	err = flat_sys_epoll_ctl(e->shadow, EPOLL_CTL_ADD, m->fd, &ev);
	if (err < 0) {
		discount(m);
		m->sock = NULL;
		return err;
	}
	m->fresh = true;
	/* Of a lane's ready bits each has one taker; processes that are no relatives go by bells. */
	if (!flat_shared(s))
		join_lane(m);
	flat_epoll_activate(m);
	/* Its own listener was told first: connect.c. */
	if (s->side == FLAT_SIDE_CLIENT && flat_fd_listens(&s->peer))
		e->kernel_first = true;
	flat_epoll_kick(e);
	return 0;
}

/* --- epoll_ctl --- */

static int add(struct flat_epoll *e, int epfd, int fd, struct flat_sock *stream,
	       const struct epoll_event *event)
{
	struct flat_member *m = member_new(e, fd);
	if (!m)
		return -ENOMEM;
	m->events = event->events | EPOLLERR | EPOLLHUP;
	m->data = event->data.u64;
	int err = 0;
	if (stream)
		err = become_flat(m, epfd, stream);
	else if (flat_fd_kind(fd) == FLAT_FD_EPOLL)
		m->inner = flat_epoll_make(fd);
	e->nests |= m->inner != NULL;
	if (err < 0) {
		member_end(m);
	} else if (m->inner) {
		flat_epoll_activate(m);
		flat_epoll_kick(e);
	}
	return err;
}

/* What the kernel has members for, it has done already. */
static int control(struct flat_epoll *e, int epfd, int op, int fd, const struct epoll_event *event)
{
	struct flat_sock *s = flat_fd_sock(fd);
	bool flat = s && s->kind == FLAT_FD_STREAM;
	struct flat_member *m = member_of(e, fd);
	bool there = m && !m->gone;
	if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL)
		return -EINVAL;
	if (flat && op == EPOLL_CTL_ADD && there)
		return -EEXIST;
	if (flat && op != EPOLL_CTL_ADD && !there)
		return -ENOENT;
	if (flat && op == EPOLL_CTL_ADD && (event->events & EPOLLEXCLUSIVE) &&
	    (event->events & ~EXCLUSIVE_OK))
		return -EINVAL;
	/* epoll_ctl(2): EPOLLEXCLUSIVE is for EPOLL_CTL_ADD, and final. */
	if (flat && op == EPOLL_CTL_MOD && ((m->events | event->events) & EPOLLEXCLUSIVE))
		return -EINVAL;
	if (op == EPOLL_CTL_DEL) {
		if (m && flat) {
			m->gone = true;
			m->events = 0;
		} else if (m) {
			member_end(m);
		}
		return 0;
	}
	if (!m)
		return add(e, epfd, fd, flat ? s : NULL, event);
	/* What the kernel's list has not got goes to its end, and what it has stays. */
	if (m->gone || (!m->fresh && (m->events == 0 || (m->events & EPOLLET))))
		flat_epoll_deactivate(m);
	m->gone = false;
	m->events = event->events | EPOLLERR | EPOLLHUP;
	m->data = event->data.u64;
	m->fresh = true;
	if (m->sock || m->inner) {
		flat_epoll_activate(m);
		flat_epoll_kick(e);
	}
	return 0;
}

int flat_epoll_create1(int flags)
{
	int fd = flat_sys_epoll_create1(flags);
	if (fd >= 0) {
		flat_host_init();
		flat_fd_unbind(fd);
		flat_fd_set_kind(fd, FLAT_FD_EPOLL);
	}
	return (int)flat_result(fd);
}

/* Nobody writes to a listener: its anchor, which could be written to, is not asked. */
static int kernel_ctl(int epfd, int op, int fd, enum flat_fd_kind kind,
		      const struct epoll_event *event)
{
	struct epoll_event copy = event ? *event : (struct epoll_event){0};
	struct flat_sock *l = kind == FLAT_FD_LISTENER ? flat_fd_sock(fd) : NULL;
	if (l) {
		copy.events &= ~((uint32_t)EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
		flat_listener_watched(l);
	}
	return flat_sys_epoll_ctl(epfd, op, fd, &copy);
}

/* A spent EPOLLONESHOT of a number that became the kernel's again: there is no way to put such a member into the kernel's instance. */
static bool is_away(const struct flat_member *m)
{
	return !m->sock && !m->inner && m->events == 0;
}

/* epoll_ctl() of what the kernel watches. */
static int kernel_member_ctl(struct flat_epoll *e, int epfd, int op, int fd, enum flat_fd_kind kind,
			     const struct epoll_event *event)
{
	bool away = false;
	if (e) {
		flat_lock(&e->lock);
		const struct flat_member *m = member_of(e, fd);
		away = m && is_away(m);
		flat_unlock(&e->lock);
	}
	if (flat_likely(!away) ||
	    (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL))
		return kernel_ctl(epfd, op, fd, kind, event);
	if (op == EPOLL_CTL_DEL)
		return 0;
	if (op == EPOLL_CTL_ADD)
		return -EEXIST;
	/* epoll_ctl(2): it is for EPOLL_CTL_ADD. */
	if (event->events & EPOLLEXCLUSIVE)
		return -EINVAL;
	return kernel_ctl(epfd, EPOLL_CTL_ADD, fd, kind, event);
}

/* What the kernel says of an instance inside is ours to read: its own members, or bells (epoll_wait.c). */
static void mark_inner(const struct flat_epoll *e, int epfd, int fd)
{
	const struct flat_member *m = member_of(e, fd);
	if (!m || !m->inner)
		return;
	struct epoll_event ev = {.events = m->events,
				 .data.u64 = FLAT_EPOLL_INNER | (uint32_t)m->id};
	(void)flat_sys_epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &ev);
}

int flat_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	enum flat_fd_kind kind = flat_fd_kind(fd);
	struct flat_epoll *e = flat_epoll_find(epfd);
	struct epoll_event probe = {0};
	bool ours = kind == FLAT_FD_STREAM || kind == FLAT_FD_CANDIDATE ||
		    kind == FLAT_FD_LISTENER || kind == FLAT_FD_EPOLL;
	if (!ours || epfd == fd)
		return (int)flat_result(flat_sys_epoll_ctl(epfd, op, fd, event));
	if (op != EPOLL_CTL_DEL && !flat_user_possible(event, sizeof(*event)))
		return (int)flat_result(-EFAULT);
	if (!e && kind == FLAT_FD_STREAM) {
		/* A stream is no member in the kernel: an epoll instance says ENOENT, others what they are. */
		int err = flat_sys_epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &probe);
		if (err != -ENOENT || op != EPOLL_CTL_ADD)
			return (int)flat_result(err == 0 ? -EINVAL : err);
	} else if (!e && op != EPOLL_CTL_ADD) {
		return (int)flat_result(flat_sys_epoll_ctl(epfd, op, fd, event));
	}
	int err = kind == FLAT_FD_STREAM ? 0 : kernel_member_ctl(e, epfd, op, fd, kind, event);
	if (err < 0)
		return (int)flat_result(err);
	e = flat_epoll_make(epfd);
	if (!e)
		return (int)flat_result(-ENOMEM);
	flat_lock(&e->lock);
	err = control(e, epfd, op, fd, event);
	if (err == 0 && kind == FLAT_FD_EPOLL && op != EPOLL_CTL_DEL)
		mark_inner(e, epfd, fd);
	flat_unlock(&e->lock);
	return (int)flat_result(err);
}

/* --- what happens to descriptors --- */

/* The members of a number; each is locked by lock_member() before it is used. */
static uint32_t members_of(int fd, struct flat_member *out[FLAT_EPOLL_OF_ONE])
{
	uint32_t n = 0;
	if (!__atomic_load_n(&members, __ATOMIC_ACQUIRE) || (unsigned int)fd >= FLAT_FD_KINDS)
		return 0;
	if (flat_likely(!__atomic_load_n(&members[fd], __ATOMIC_RELAXED)))
		return 0;
	flat_lock(&table_lock);
	for (struct flat_member *m = members[fd]; m && n < FLAT_EPOLL_OF_ONE; m = m->next)
		out[n++] = m;
	flat_unlock(&table_lock);
	return n;
}

/* False: it left meanwhile, and is not locked. */
static bool lock_member(struct flat_member *m, int fd)
{
	flat_lock(&m->ep->lock);
	if (m->fd == fd)
		return true;
	flat_unlock(&m->ep->lock);
	return false;
}

/* The kernel alone knows whether it has told what it was to tell once. */
static void note_spent(struct flat_member *m)
{
	uint32_t left = 0;
	if (flat_likely(!(m->events & EPOLLONESHOT)) || m->sock || m->inner)
		return;
	if (flat_open_watched(m->ep->epfd, m->fd, &left) == 0 && (left & ~PRIVATE_BITS) == 0)
		m->events = 0;
}

void flat_epoll_converting(int fd)
{
	struct flat_member *v[FLAT_EPOLL_OF_ONE];
	uint32_t n = members_of(fd, v);
	for (uint32_t i = 0; i < n; i++) {
		if (!lock_member(v[i], fd))
			continue;
		note_spent(v[i]);
		if (!v[i]->sock)
			(void)flat_sys_epoll_ctl(v[i]->ep->epfd, EPOLL_CTL_DEL, fd, NULL);
		flat_unlock(&v[i]->ep->lock);
	}
}

void flat_epoll_converted(int fd)
{
	struct flat_member *v[FLAT_EPOLL_OF_ONE];
	struct flat_sock *s = flat_fd_sock(fd);
	uint32_t n = members_of(fd, v);
	for (uint32_t i = 0; i < n; i++) {
		struct flat_member *m = v[i];
		struct flat_epoll *e = m->ep;
		if (!lock_member(m, fd))
			continue;
		struct epoll_event ev = {.events = m->events, .data.u64 = m->data};
		if (!m->sock && s && s->kind == FLAT_FD_STREAM)
			(void)!become_flat(m, e->epfd, s);
		else if (!m->sock && !is_away(m))
			/* A listener's anchor is the kernel's to watch, as the socket before it was. */
			(void)kernel_ctl(e->epfd, EPOLL_CTL_ADD, fd, flat_fd_kind(fd), &ev);
		flat_unlock(&e->lock);
	}
}

void flat_epoll_keep(int fd, struct flat_epoll_kept *kept)
{
	struct flat_member *v[FLAT_EPOLL_OF_ONE];
	uint32_t n = members_of(fd, v);
	kept->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (!lock_member(v[i], fd))
			continue;
		if (!v[i]->gone) {
			note_spent(v[i]);
			kept->epfd[kept->n] = v[i]->ep->epfd;
			kept->event[kept->n].events = v[i]->events;
			kept->event[kept->n++].data.u64 = v[i]->data;
		}
		flat_unlock(&v[i]->ep->lock);
	}
}

static void give_back_spent(int epfd, int fd, const struct epoll_event *event)
{
	struct flat_epoll *e = flat_epoll_find(epfd);
	if (!e)
		return;
	flat_lock(&e->lock);
	struct flat_member *m = member_of(e, fd) ? NULL : member_new(e, fd);
	if (m)
		m->data = event->data.u64;
	flat_unlock(&e->lock);
}

void flat_epoll_give_back(int fd, struct flat_epoll_kept *kept)
{
	int saved = errno;
	for (uint32_t i = 0; i < kept->n; i++) {
		if (kept->event[i].events == 0)
			give_back_spent(kept->epfd[i], fd, &kept->event[i]);
		else
			(void)!flat_epoll_ctl(kept->epfd[i], EPOLL_CTL_ADD, fd, &kept->event[i]);
	}
	errno = saved;
}

/* Members that outlived their number end with their socket's last one here. */
static void end_orphans(const struct flat_sock *s)
{
	for (struct flat_epoll *e = all; e && atomic_load(&orphans) > 0; e = e->next) {
		flat_lock(&e->lock);
		for (uint32_t i = 0; i < e->n; i++) {
			if (e->v[i]->sock == s && e->v[i]->fd < 0)
				member_end(e->v[i]);
		}
		flat_unlock(&e->lock);
	}
}

static void instance_closed(int fd)
{
	flat_lock(&table_lock);
	struct flat_epoll *e = instances[fd];
	instances[fd] = NULL;
	bool last = e && --e->refs == 0;
	int other = -1;
	for (int i = 0; e && !last && e->epfd == fd && i < (int)FLAT_FD_KINDS && other < 0; i++)
		other = instances[i] == e ? i : -1;
	if (other >= 0)
		e->epfd = other;
	flat_unlock(&table_lock);
	if (!last)
		return;
	flat_lock(&e->lock);
	for (uint32_t i = 0; i < e->n; i++) {
		if (e->v[i]->fd >= 0 || e->v[i]->sock)
			member_end(e->v[i]);
	}
	flat_fd_close_private(e->shadow);
	flat_fd_close_private(e->kick_fd);
	e->shadow = e->kick_fd = -1;
	flat_unlock(&e->lock);
	/* Not freed: another thread may be waiting on it still. One small object per instance that ended. */
}

void flat_epoll_closed(int fd, bool last)
{
	struct flat_member *v[FLAT_EPOLL_OF_ONE];
	struct flat_sock *s = flat_fd_sock(fd);
	uint32_t n;
	if (!__atomic_load_n(&members, __ATOMIC_ACQUIRE) || (unsigned int)fd >= FLAT_FD_KINDS)
		return;
	if (instances[fd])
		instance_closed(fd);
	while ((n = members_of(fd, v)) > 0) {
		for (uint32_t i = 0; i < n; i++) {
			struct flat_epoll *e = v[i]->ep;
			if (!lock_member(v[i], fd))
				continue;
			/* One that the program took out would be in the way of another of this number and file. */
			if (v[i]->sock && !last && !v[i]->gone) {
				unlink_number(v[i]);
				v[i]->fd = -1;
				atomic_fetch_add(&orphans, 1);
			} else {
				member_end(v[i]);
			}
			flat_unlock(&e->lock);
		}
	}
	if (last && s && atomic_load(&orphans) > 0)
		end_orphans(s);
}

void flat_epoll_duplicated(int from, int to)
{
	struct flat_epoll *e = flat_epoll_make(from);
	flat_fd_set_kind(to, FLAT_FD_EPOLL);
	if (!e || (unsigned int)to >= FLAT_FD_KINDS)
		return;
	flat_lock(&table_lock);
	e->refs++;
	__atomic_store_n(&instances[to], e, __ATOMIC_RELEASE);
	flat_unlock(&table_lock);
}
