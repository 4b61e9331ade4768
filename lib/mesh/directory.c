#include "mesh/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/sys.h"
#include "mesh/directory_table.h"

_Static_assert(FLAT_DIRECTORY_OWNER == FUTEX_TID_MASK, "the kernel's");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a futex is the low half of `reign`");

struct flat_directory_writer {
	struct flat_directory_header *header;
	size_t len_bytes;
	uint32_t table_bytes;
	int fd;
	uint8_t *table;	  /* the current one */
	uint32_t buckets; /* of its addresses */
	uint32_t used;	  /* those of them that are not empty */
	/* What the kernel walks when the reigning thread ends: one futex. */
	struct robust_list node;
	struct robust_list_head robust;
};

/* Where the parts of a table with so many entries lie. */
struct plan {
	struct flat_directory_head head;
	size_t len_bytes;
};

static int map_memfd(struct flat_directory_writer *w)
{
	w->fd = flat_sys_memfd("flat-directory");
	if (w->fd < 0)
		return w->fd;
	long err = FLAT_SYS2(SYS_ftruncate, w->fd, w->len_bytes);
	if (err < 0)
		return (int)err;
	long addr = FLAT_SYS6(SYS_mmap, 0, w->len_bytes, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_NORESERVE, w->fd, 0);
	if (addr < 0 && addr > -4096)
		return (int)addr;
	w->header = (struct flat_directory_header *)addr;
	w->header->magic = FLAT_DIRECTORY_MAGIC;
	w->header->version = FLAT_DIRECTORY_VERSION;
	w->header->table_bytes = w->table_bytes;
	/* FUTURE_WRITE: this mapping is the last that can write. */
	return flat_sys_fcntl(w->fd, F_ADD_SEALS,
			      F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
}

int flat_directory_create(struct flat_directory_writer **out, size_t table_bytes)
{
	if (table_bytes > UINT32_MAX - 4095)
		return -EINVAL;
	struct flat_directory_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->table_bytes = (uint32_t)flat_align_up(table_bytes, 4096);
	w->len_bytes = sizeof(struct flat_directory_header) + 2 * (size_t)w->table_bytes;
	w->fd = -1;
	int err = map_memfd(w);
	if (err == 0)
		err = flat_directory_publish(w, NULL, 0, NULL, 0, 0);
	if (err < 0) {
		flat_directory_destroy(w);
		return err;
	}
	*out = w;
	return 0;
}

void flat_directory_destroy(struct flat_directory_writer *w)
{
	if (!w)
		return;
	if (w->header) {
		/* release: whoever sees it sees what was done to the connections before. */
		atomic_fetch_and_explicit(&w->header->reign, ~(uint64_t)UINT32_MAX,
					  memory_order_release);
		if (w->robust.list.next)
			(void)FLAT_SYS2(SYS_set_robust_list, 0, sizeof(w->robust));
		FLAT_SYS2(SYS_munmap, w->header, w->len_bytes);
	}
	if (w->fd >= 0)
		flat_sys_close(w->fd);
	free(w);
}

int flat_directory_fd(const struct flat_directory_writer *w)
{
	return w->fd;
}

size_t flat_directory_len(const struct flat_directory_writer *w)
{
	return w->len_bytes;
}

/* Half of them stay empty: a quarter for listeners that begin before all are counted anew (used_max()). */
static uint32_t buckets_for(size_t n)
{
	uint32_t buckets = 16;
	while (buckets < n * 2)
		buckets *= 2;
	return buckets;
}

static int make_plan(struct plan *plan, size_t n_addrs, const struct flat_directory_name *names,
		     size_t n_names, size_t table_bytes)
{
	/* Each entry is 32 bytes, and buckets are at least twice the entries. */
	if (n_addrs > table_bytes / 64 || n_names > table_bytes / 64)
		return -ENOSPC;
	struct flat_directory_head *head = &plan->head;
	size_t text = 0;
	for (size_t i = 0; i < n_names; i++) {
		size_t len = strnlen(names[i].host, FLAT_DIRECTORY_HOST_MAX);
		if (len == 0 || len >= FLAT_DIRECTORY_HOST_MAX)
			return -EINVAL;
		text += len + 1;
	}
	head->addr_buckets = buckets_for(n_addrs);
	head->name_buckets = buckets_for(n_names);
	size_t name_at =
	    sizeof(*head) + head->addr_buckets * sizeof(struct flat_directory_addr_entry);
	size_t host_at = name_at + head->name_buckets * sizeof(struct flat_directory_name_entry);
	size_t text_at = host_at + head->name_buckets * sizeof(uint32_t);
	if (text_at + text > table_bytes)
		return -ENOSPC;
	head->name_offset = (uint32_t)name_at;
	head->host_offset = (uint32_t)host_at;
	head->text_offset = (uint32_t)text_at;
	head->text_len = (uint32_t)text;
	plan->len_bytes = text_at;
	return 0;
}

/* release: what was stored before is there for who sees it, the epoch of an earlier change too. */
static void set_state(uint8_t *table, uint32_t i, uint64_t state)
{
	atomic_store_explicit(flat_directory_state(table, i), state, memory_order_release);
}

/* The writer's own look at its table: nobody else writes it. */
static uint64_t state_at(const uint8_t *table, uint32_t i)
{
	return atomic_load_explicit(flat_directory_state(table, i), memory_order_relaxed);
}

static size_t addr_at(uint32_t i)
{
	return sizeof(struct flat_directory_head) + i * sizeof(struct flat_directory_addr_entry);
}

/* Bound to any address: found by any address (a v4 and a v6 listener need not be told apart). */
static struct flat_addr key_of(const struct flat_addr *addr)
{
	static const uint8_t zero[16];
	struct flat_addr key = flat_directory_key(addr);
	if (memcmp(key.ip, zero, sizeof(zero)) == 0)
		key.family = 0;
	return key;
}

/* Where an address is, with a claim; else where it would be put: the first that is gone, or the empty one. */
static bool find_bucket(const uint8_t *table, uint32_t buckets, const struct flat_addr *key,
			uint32_t *at)
{
	uint32_t mask = buckets - 1;
	uint32_t i = flat_directory_hash_addr(key) & mask;
	bool free = false;
	/* A quarter at least is empty. */
	for (; !flat_directory_is_empty(state_at(table, i)); i = (i + 1) & mask) {
		struct flat_addr addr;
		flat_directory_load(&addr, table, addr_at(i), sizeof(addr));
		bool claimed = flat_directory_is_claimed(state_at(table, i));
		if (claimed && memcmp(&addr, key, sizeof(*key)) == 0) {
			*at = i;
			return true;
		}
		if (!claimed && !free) {
			*at = i;
			free = true;
		}
	}
	if (!free)
		*at = i;
	return false;
}

/* So full may a table get before the whole is published anew: gone buckets count, which look-ups pass. */
static uint32_t used_max(uint32_t buckets)
{
	return buckets - buckets / 4;
}

/* One claim more; `used`: buckets that are not empty. 0, or -ENOSPC: too many of them. */
static int put_addr(uint8_t *table, uint32_t buckets, uint32_t *used,
		    const struct flat_directory_addr *a)
{
	struct flat_addr key = key_of(&a->addr);
	uint32_t i;
	bool there = find_bucket(table, buckets, &key, &i);
	uint64_t state = state_at(table, i);
	if (!there) {
		if (flat_directory_is_empty(state)) {
			if (*used >= used_max(buckets))
				return -ENOSPC;
			(*used)++;
		}
		state = (state / FLAT_DIRECTORY_STATE_TURN + 1) * FLAT_DIRECTORY_STATE_TURN +
			FLAT_DIRECTORY_STATE_USED;
		set_state(table, i, state);
		/* Keeps the address behind the turn: pairs with the acquire fence in addr_is(). */
		atomic_thread_fence(memory_order_release);
		flat_directory_store(table, addr_at(i), &key, sizeof(key));
	}
	if (a->kind == FLAT_DIRECTORY_LISTENER)
		state++;
	else
		state |= FLAT_DIRECTORY_STATE_SERVICE;
	set_state(table, i, state);
	return 0;
}

/* Makes the name in bucket `name` findable by its address; the first of an address stays. */
static void put_host(uint8_t *table, const struct flat_directory_head *head,
		     const struct flat_addr *key, uint32_t name)
{
	uint32_t mask = head->name_buckets - 1;
	for (uint32_t i = flat_directory_hash_addr(key) & mask;; i = (i + 1) & mask) {
		_Atomic uint32_t *host = flat_directory_host(table, head->host_offset, i);
		uint32_t other = atomic_load_explicit(host, memory_order_relaxed);
		if (other == 0) {
			atomic_store_explicit(host, name + 1, memory_order_relaxed);
			return;
		}
		struct flat_directory_name_entry e;
		flat_directory_load(&e, table, head->name_offset + (other - 1) * sizeof(e),
				    sizeof(e));
		if (memcmp(&e.addr, key, sizeof(*key)) == 0)
			return;
	}
}

static void put_name(uint8_t *table, const struct flat_directory_head *head,
		     const struct flat_directory_name *n, uint32_t *at)
{
	size_t len = strlen(n->host);
	struct flat_directory_name_entry new = {
	    .addr = flat_directory_key(&n->addr), .text = *at + 1, .text_len = (uint32_t)len};
	new.addr.port = 0;
	new.text_len |= n->veiled ? FLAT_DIRECTORY_VEIL : 0;
	_Atomic uint8_t *text = flat_directory_text(table, head->text_offset) + *at;
	for (size_t i = 0; i <= len; i++)
		atomic_store_explicit(&text[i], (uint8_t)n->host[i], memory_order_relaxed);
	*at += (uint32_t)len + 1;
	uint32_t mask = head->name_buckets - 1;
	uint32_t i = flat_directory_hash(n->host, len) & mask;
	for (;; i = (i + 1) & mask) {
		struct flat_directory_name_entry old;
		size_t offset = head->name_offset + i * sizeof(old);
		flat_directory_load(&old, table, offset, sizeof(old));
		if (old.text != 0)
			continue;
		flat_directory_store(table, offset, &new, sizeof(new));
		put_host(table, head, &new.addr, i);
		return;
	}
}

/* Returns how many buckets of addresses are used. */
static uint32_t fill(uint8_t *table, const struct plan *plan,
		     const struct flat_directory_addr *addrs, size_t n_addrs,
		     const struct flat_directory_name *names, size_t n_names)
{
	static const uint64_t zero;
	for (size_t at = sizeof(plan->head); at + 8 <= plan->len_bytes; at += 8)
		flat_directory_store(table, at, &zero, sizeof(zero));
	flat_directory_store(table, 0, &plan->head, sizeof(plan->head));
	uint32_t used = 0;
	/* There is room: buckets_for(). */
	for (size_t i = 0; i < n_addrs; i++)
		(void)!put_addr(table, plan->head.addr_buckets, &used, &addrs[i]);
	uint32_t at = 0;
	for (size_t i = 0; i < n_names; i++)
		put_name(table, &plan->head, &names[i], &at);
	return used;
}

int flat_directory_publish(struct flat_directory_writer *w, const struct flat_directory_addr *addrs,
			   size_t n_addrs, const struct flat_directory_name *names, size_t n_names,
			   uint32_t flags)
{
	struct plan plan = {.len_bytes = 0};
	int err = make_plan(&plan, n_addrs, names, n_names, w->table_bytes);
	if (err != 0)
		return err;
	struct flat_directory_header *header = w->header;
	uint32_t next = atomic_load_explicit(&header->current, memory_order_relaxed) ^ 1U;
	uint8_t *table = (uint8_t *)header + sizeof(*header) + (size_t)next * w->table_bytes;

	/* Odd. The fence keeps the stores into the table behind it: pairs with view_good()'s fence. */
	atomic_fetch_add_explicit(&header->turn, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	w->used = fill(table, &plan, addrs, n_addrs, names, n_names);
	w->buckets = plan.head.addr_buckets;
	w->table = table;
	atomic_store_explicit(&header->flags, flags, memory_order_relaxed);
	/* release: pairs with the acquire in view_begin(); whoever sees it sees the table */
	atomic_store_explicit(&header->current, next, memory_order_release);
	atomic_fetch_add_explicit(&header->turn, 1, memory_order_release);
	flat_directory_renew(w);
	return 0;
}

void flat_directory_renew(struct flat_directory_writer *w)
{
	/* release: whoever sees it sees the change that it counts; pairs with the acquire in view_begin() */
	atomic_fetch_add_explicit(&w->header->epoch, 1, memory_order_release);
}

int flat_directory_add_listener(struct flat_directory_writer *w, const struct flat_addr *addr)
{
	const struct flat_directory_addr a = {.addr = *addr, .kind = FLAT_DIRECTORY_LISTENER};
	int err = put_addr(w->table, w->buckets, &w->used, &a);
	if (err == 0)
		flat_directory_renew(w);
	return err;
}

/* The bucket at `i` is nobody's any more. Gone ones before an empty one are empty too: nothing lies behind them. */
static void let_go(struct flat_directory_writer *w, uint32_t i)
{
	uint32_t mask = w->buckets - 1;
	if (!flat_directory_is_empty(state_at(w->table, (i + 1) & mask)))
		return;
	for (;; i = (i - 1) & mask) {
		uint64_t state = state_at(w->table, i);
		if (flat_directory_is_empty(state) || flat_directory_is_claimed(state))
			return;
		set_state(w->table, i, state & ~FLAT_DIRECTORY_STATE_USED);
		w->used--;
	}
}

void flat_directory_remove_listener(struct flat_directory_writer *w, const struct flat_addr *addr)
{
	struct flat_addr key = key_of(addr);
	uint32_t i;
	if (!find_bucket(w->table, w->buckets, &key, &i))
		return;
	uint64_t state = state_at(w->table, i);
	if (!(state & FLAT_DIRECTORY_STATE_LISTENERS))
		return;
	state--;
	set_state(w->table, i, state);
	if (!flat_directory_is_claimed(state))
		let_go(w, i);
	flat_directory_renew(w);
}

void flat_directory_revoked(struct flat_directory_writer *w)
{
	/* release: pairs with the acquire in flat_directory_reign_word() */
	atomic_fetch_add_explicit(&w->header->reign, 1ULL << 32, memory_order_release);
}

void flat_directory_set_makers(struct flat_directory_writer *w, const int32_t *pids, uint32_t n)
{
	for (uint32_t i = 0; i < n && i < FLAT_DIRECTORY_MAKERS; i++)
		atomic_store_explicit(&w->header->makers[i], pids[i], memory_order_relaxed);
}

int flat_directory_reign(struct flat_directory_writer *w, uint64_t first_id)
{
	long tid = FLAT_SYS0(SYS_gettid);
	w->header->first_id = first_id;
	w->node.next = &w->robust.list;
	w->robust.list.next = &w->node;
	w->robust.futex_offset = (long)((uintptr_t)&w->header->reign - (uintptr_t)&w->node);
	long err = FLAT_SYS2(SYS_set_robust_list, &w->robust, sizeof(w->robust));
	if (err < 0) {
		w->robust.list.next = NULL;
		return (int)err;
	}
	atomic_fetch_or_explicit(&w->header->reign, (uint64_t)tid, memory_order_release);
	return 0;
}
