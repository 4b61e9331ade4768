#include "host/pool.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "host/bell.h"
#include "host/holders.h"
#include "host/lanes.h"
#include "host/share.h"

/* Listeners that ended and may be held by the offload half still. */
#define CLOSED_KEPT 16U
#define CLOSED_MS 1000

/*
 * Sockets that ended and are not given out again yet: a call of another thread that had found its socket, and comes to it when
 * that has ended, shall not find somebody else's connection there.
 */
#define RESTING 256U

static struct {
	_Atomic uint64_t lock;
	uint32_t free_head; /* the one that rests longest; socket index + 1 */
	uint32_t free_tail;
	uint32_t n_free; /* as far as known: a process may be killed between two changes */
	uint32_t fresh;
	_Atomic uint32_t n_closed;
	_Atomic uint64_t closed[CLOSED_KEPT]; /* listeners that ended: CLOSED_ENTRY */
	struct flat_sock socks[FLAT_SOCKS_MAX];
} * pool;

/*
 * Of this process, by socket. Its users are one word: a call that may sleep is counted without the lock, which is shared by all
 * relatives. What goes from nobody to somebody, or back, does so under it.
 */
static _Atomic uint32_t *users;
static uint32_t *turns; /* flat_sock.turn of those that it holds */

/* By socket: the private number, + 1, of an anchor whose descriptors were closed under calls that sleep; 0: none. */
static _Atomic int *kept;
static _Atomic uint32_t n_kept;
static _Atomic uint64_t
    kept_lock; /* of this process; who changes them, and whether anybody sleeps */

#define REF 1U		      /* a descriptor, or a hold */
#define HOLD (0x10000U | REF) /* a call that may sleep on it */
#define REFS(n) ((n)&0xffffU)
#define HOLDS(n) ((n) >> 16)
#define NUMBERS(n) (REFS(n) - HOLDS(n))

void *flat_map_zero(size_t len, int flags)
{
	long addr = FLAT_SYS6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE,
			      flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return addr < 0 && addr > -4096 ? NULL : (void *)addr;
}

bool flat_pool_make(void)
{
	users = users ? users : flat_map_zero(FLAT_SOCKS_MAX * sizeof(*users), MAP_PRIVATE);
	turns = turns ? turns : flat_map_zero(FLAT_SOCKS_MAX * sizeof(*turns), MAP_PRIVATE);
	kept = kept ? kept : flat_map_zero(FLAT_SOCKS_MAX * sizeof(*kept), MAP_PRIVATE);
	pool = pool ? pool : flat_map_zero(sizeof(*pool), MAP_SHARED);
	return users && turns && kept && pool && flat_holders_make();
}

struct flat_sock *flat_pool_sock(uint32_t i)
{
	return &pool->socks[i];
}

uint32_t flat_sock_index(const struct flat_sock *s)
{
	return (uint32_t)(s - pool->socks);
}

uint32_t flat_sock_numbers(const struct flat_sock *s)
{
	return NUMBERS(users[flat_sock_index(s)]);
}

bool flat_sock_shared(const struct flat_sock *s)
{
	return flat_holders_others(flat_sock_index(s));
}

static bool in_use(const struct flat_sock *s)
{
	return atomic_load_explicit(&s->turn, memory_order_relaxed) & 1;
}

/* --- those that nobody holds --- */

/* Under the lock. Behind those that rest. */
static void rest(uint32_t i)
{
	pool->socks[i].next_free = 0;
	if (pool->free_head != 0)
		pool->socks[pool->free_tail - 1].next_free = i + 1;
	else
		pool->free_head = i + 1;
	pool->free_tail = i + 1;
	pool->n_free++;
}

/*
 * Under the lock: its holders were killed, or ended by what no hook saw. Its connection is for the offload half to end, which saw
 * its anchor go with them; the words of its slot may be another connection's by now.
 */
static void freed(uint32_t i)
{
	if (!in_use(&pool->socks[i]))
		return;
	atomic_fetch_add(&pool->socks[i].turn, 1);
	rest(i);
}

/* Under the lock: what the list has lost, since a process was killed while it changed it, and sockets whose holders were. */
static void rebuild(void)
{
	pool->free_head = pool->n_free = 0;
	for (uint32_t i = 0; i < pool->fresh; i++) {
		if (in_use(&pool->socks[i]) && flat_holders_none(i))
			freed(i);
		else if (!in_use(&pool->socks[i]))
			rest(i);
	}
}

/* Under the lock. Socket index + 1; 0: all are in use. */
static uint32_t next(void)
{
	uint32_t i = pool->free_head;
	if (pool->fresh < FLAT_SOCKS_MAX && (i == 0 || pool->n_free <= RESTING))
		return ++pool->fresh;
	if (i != 0) {
		pool->free_head = pool->socks[i - 1].next_free;
		pool->n_free -= pool->n_free > 0;
	}
	return i;
}

struct flat_sock *flat_sock_new(enum flat_fd_kind kind)
{
	flat_lock(&pool->lock);
	uint32_t i = next();
	if (flat_unlikely(i == 0)) {
		flat_holders_sweep(true, pool->fresh, freed);
		rebuild();
		i = next();
	}
	struct flat_sock *s = i ? &pool->socks[i - 1] : NULL;
	if (s) {
		turns[i - 1] = s->turn | 1U;
		atomic_store(&s->turn, turns[i - 1]);
		flat_holders_take(i - 1);
		users[i - 1] = REF;
	}
	flat_unlock(&pool->lock);
	if (!s)
		return NULL;
	/* The turn stays: who looks for sockets that nobody holds shall never see it without. */
	memset(&s->next_free, 0, sizeof(*s) - offsetof(struct flat_sock, next_free));
	s->kind = (uint8_t)kind;
	s->bell_fd = s->tcp_fd = -1;
	return s;
}

/*
 * When (24 bits of ms), the address in short (24 bits, 0: all addresses) and the port. Two addresses of one short form cost a
 * bind() that fails some patience, and nothing else.
 */
#define CLOSED_ENTRY(ms, brief, port) ((uint64_t)(ms) << 40 | (uint64_t)(brief) << 16 | (port))
#define CLOSED_AGE(now, entry) (((uint32_t)(now) - (uint32_t)((entry) >> 40)) & 0xffffffU)
#define CLOSED_BRIEF(entry) ((uint32_t)((entry) >> 16) & 0xffffffU)

static uint32_t brief_of(const struct flat_addr *addr)
{
	struct flat_addr a = *addr;
	uint32_t sum = 0;
	uint8_t any = 0;
	flat_addr_unmap(&a);
	for (size_t i = 0; i < sizeof(a.ip); i++) {
		any |= a.ip[i];
		sum = (sum ^ a.ip[i]) * 16777619U;
	}
	return any ? (sum >> 8) | 1U : 0;
}

static bool closed_at(uint64_t entry, uint64_t now, const struct flat_addr *addr)
{
	if (entry == 0 || (uint16_t)entry != addr->port || CLOSED_AGE(now, entry) >= CLOSED_MS)
		return false;
	uint32_t brief = brief_of(addr);
	return brief == 0 || CLOSED_BRIEF(entry) == 0 || CLOSED_BRIEF(entry) == brief;
}

static void note_closed(const struct flat_addr *addr)
{
	uint32_t i = atomic_fetch_add(&pool->n_closed, 1) % CLOSED_KEPT;
	atomic_store(&pool->closed[i],
		     CLOSED_ENTRY(flat_now_coarse_ms(), brief_of(addr), addr->port));
}

bool flat_listener_just_closed(const struct flat_addr *addr)
{
	uint64_t now = (uint64_t)flat_now_coarse_ms();
	for (uint32_t i = 0; pool && i < CLOSED_KEPT; i++)
		if (closed_at(atomic_load(&pool->closed[i]), now, addr))
			return true;
	return false;
}

void flat_listener_let_go(const struct flat_addr *addr)
{
	uint64_t now = (uint64_t)flat_now_coarse_ms();
	for (uint32_t i = 0; pool && i < CLOSED_KEPT; i++) {
		uint64_t entry = atomic_load(&pool->closed[i]);
		if (closed_at(entry, now, addr))
			(void)atomic_compare_exchange_strong(&pool->closed[i], &entry, 0);
	}
}

/* --- descriptors and holds --- */

void flat_sock_get(struct flat_sock *s)
{
	uint32_t i = flat_sock_index(s);
	if (flat_likely(atomic_fetch_add(&users[i], REF) != 0))
		return;
	flat_lock(&pool->lock);
	turns[i] = s->turn;
	flat_holders_take(i);
	flat_unlock(&pool->lock);
}

struct flat_sock *flat_sock_find(uint64_t conn_id, enum flat_side side)
{
	for (uint32_t i = 0; i < FLAT_SOCKS_MAX && i < pool->fresh; i++) {
		struct flat_sock *s = &pool->socks[i];
		if (users[i] && s->kind == FLAT_FD_STREAM && s->conn_id == conn_id &&
		    s->side == side) {
			flat_sock_get(s);
			return s;
		}
	}
	return NULL;
}

static void end(struct flat_sock *s, uint32_t i)
{
	/* Where others may hold it, the kernel knows when the last one closes; the offload half ends it. */
	if (s->kind == FLAT_FD_STREAM && !flat_shared(s))
		flat_stream_end(s);
	if (s->kind == FLAT_FD_LISTENER)
		note_closed(&s->local);
	atomic_store(&s->wr_shut, FLAT_WR_FIN);
	atomic_store(&s->rd_shut, 1);
	flat_lock(&pool->lock);
	flat_holders_drop(i);
	freed(i);
	flat_unlock(&pool->lock);
}

/* True: it was not the last one. */
static bool one_of_several(uint32_t i, uint32_t user)
{
	uint32_t n = atomic_load_explicit(&users[i], memory_order_relaxed);
	while (REFS(n) > 1)
		if (atomic_compare_exchange_weak(&users[i], &n, n - user))
			return true;
	return false;
}

static void put(struct flat_sock *s, uint32_t user)
{
	uint32_t i = flat_sock_index(s);
	if (flat_likely(one_of_several(i, user)))
		return;
	int bell = s->bell_fd;
	int tcp = s->tcp_fd;
	/* Somebody sleeps on it still, in another thread: it will look at the lane again. */
	struct flat_lane_use *lane =
	    atomic_load(&s->waiters) == atomic_load(&s->exported) ? s->lane : NULL;
	flat_lock(&pool->lock);
	/* Who wants to hold it does so before this, or sees that it is over. */
	bool last_here = REFS(atomic_fetch_sub(&users[i], user)) == 1;
	/* The last one's bit stays until its words are complete: who is killed in between is found to have held it. */
	bool last = last_here && !flat_holders_others_live(i);
	if (last_here && !last)
		flat_holders_drop(i);
	flat_unlock(&pool->lock);
	if (last)
		end(s, i);
	if (last_here) {
		flat_fd_close_private(bell);
		flat_fd_close_private(tcp);
		if (lane)
			flat_lane_unuse(lane);
	}
}

void flat_sock_put(struct flat_sock *s)
{
	put(s, REF);
}

bool flat_sock_hold(struct flat_sock *s)
{
	_Atomic uint32_t *u = &users[flat_sock_index(s)];
	uint32_t n = atomic_load_explicit(u, memory_order_relaxed);
	while (REFS(n) > 0)
		if (atomic_compare_exchange_weak(u, &n, n + HOLD))
			return true;
	return false;
}

/* Nobody sleeps any more who needs it. */
static void let_kept_go(uint32_t i)
{
	int fd = -1;
	flat_lock(&kept_lock);
	if (kept[i] != 0 && HOLDS(atomic_load(&users[i])) == 0) {
		fd = kept[i] - 1;
		atomic_store(&kept[i], 0);
		atomic_fetch_sub(&n_kept, 1);
	}
	flat_unlock(&kept_lock);
	flat_fd_close_private(fd);
}

void flat_sock_release(struct flat_sock *s)
{
	put(s, HOLD);
	/* seq_cst: either this sees it, or flat_sock_keep() that nobody sleeps */
	if (flat_unlikely(atomic_load(&n_kept) != 0))
		let_kept_go(flat_sock_index(s));
}

void flat_sock_keep(struct flat_sock *s, int fd)
{
	uint32_t i = flat_sock_index(s);
	if (flat_likely(HOLDS(users[i]) == 0) || s->kind != FLAT_FD_STREAM)
		return;
	/* A signal handler that closes it, or who left the call by longjmp: the call is over. */
	flat_bell_let_go(s);
	flat_lock(&kept_lock);
	if (kept[i] == 0 && HOLDS(users[i]) != 0) {
		int high = flat_fd_private(flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0));
		atomic_store(&kept[i], high >= 0 ? high + 1 : 0);
		atomic_fetch_add(&n_kept, high >= 0);
	}
	flat_unlock(&kept_lock);
	let_kept_go(i);
}

int flat_sock_anchor(const struct flat_sock *s, int fd)
{
	if (flat_likely(flat_fd_sock(fd) == s))
		return fd;
	int number = atomic_load(&kept[flat_sock_index(s)]);
	return number ? number - 1 : -EBADF;
}

struct flat_sock *flat_sock_behind(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	bool may = !s && flat_fd_kind(fd) == FLAT_FD_PRIVATE && atomic_load(&n_kept) != 0;
	for (uint32_t i = 0; may && i < FLAT_SOCKS_MAX && i < pool->fresh; i++) {
		if (kept[i] == fd + 1)
			return &pool->socks[i];
	}
	return s;
}

/* --- fork --- */

static bool held(uint32_t i)
{
	/* The threads that sleep are not in the child. */
	return NUMBERS(users[i]) > 0;
}

void flat_pool_forking(void)
{
	flat_lock(&pool->lock);
	if (pool->fresh > 0)
		flat_holders_prepare();
	flat_holders_sweep(false, pool->fresh, freed);
	flat_holders_forking(pool->fresh, held);
	flat_unlock(&pool->lock);
}

void flat_pool_fork_over(void)
{
	flat_holders_fork_over();
}

/*
 * Another thread of the parent may have opened or closed it when the row was written and the child was not there yet. What it
 * opened is the child's too if it is there still. False: it is not.
 */
static bool settle(uint32_t i)
{
	bool have = flat_holders_has(i);
	bool same = true;
	if (users[i] == 0 && have) {
		flat_holders_drop(i);
		if (flat_holders_none(i))
			freed(i);
	} else if (users[i] != 0 && !have) {
		same = pool->socks[i].turn == turns[i] && in_use(&pool->socks[i]);
		if (same)
			flat_holders_take(i);
	}
	return same;
}

void flat_pool_forked(void)
{
	bool keeps = atomic_exchange(&n_kept, 0) != 0;
	atomic_store(&kept_lock, 0);
	flat_holders_forked();
	for (uint32_t i = 0; i < FLAT_SOCKS_MAX && i < pool->fresh; i++) {
		/* The calls that it is kept for are the parent's. */
		if (flat_unlikely(keeps && kept[i] != 0)) {
			flat_fd_close_private(kept[i] - 1);
			kept[i] = 0;
		}
		/* Written to only where need be: these pages are the parent's too. */
		if (flat_unlikely(users[i] != NUMBERS(users[i])))
			users[i] = NUMBERS(users[i]);
		if (flat_likely((users[i] != 0) == flat_holders_has(i)))
			continue;
		flat_lock(&pool->lock);
		bool same = settle(i);
		flat_unlock(&pool->lock);
		if (!same) {
			users[i] = 0;
			flat_fd_forget(&pool->socks[i]);
		}
	}
}
