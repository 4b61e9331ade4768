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

static void put_addr(uint8_t *table, const struct flat_directory_head *head,
		     const struct flat_directory_addr *a)
{
	static const uint8_t zero[16];
	struct flat_directory_addr_entry new = {.addr = flat_directory_key(&a->addr),
						.kind = (uint32_t)a->kind};
	/* Bound to any address: found by any address (a v4 and a v6 listener need not be told apart). */
	if (memcmp(new.addr.ip, zero, sizeof(zero)) == 0)
		new.addr.family = 0;
	uint32_t mask = head->addr_buckets - 1;
	for (uint32_t i = flat_directory_hash_addr(&new.addr) & mask;; i = (i + 1) & mask) {
		size_t at = sizeof(*head) + i * sizeof(new);
		struct flat_directory_addr_entry old;
		flat_directory_load(&old, table, at, sizeof(old));
		if (old.kind != 0 && memcmp(&old.addr, &new.addr, sizeof(old.addr)) != 0)
			continue;
		flat_directory_store(table, at, &new, sizeof(new));
		return;
	}
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

static void fill(uint8_t *table, const struct plan *plan, const struct flat_directory_addr *addrs,
		 size_t n_addrs, const struct flat_directory_name *names, size_t n_names)
{
	static const uint64_t zero;
	for (size_t at = sizeof(plan->head); at + 8 <= plan->len_bytes; at += 8)
		flat_directory_store(table, at, &zero, sizeof(zero));
	flat_directory_store(table, 0, &plan->head, sizeof(plan->head));
	for (size_t i = 0; i < n_addrs; i++)
		put_addr(table, &plan->head, &addrs[i]);
	uint32_t at = 0;
	for (size_t i = 0; i < n_names; i++)
		put_name(table, &plan->head, &names[i], &at);
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
	atomic_fetch_add_explicit(&header->epoch, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	fill(table, &plan, addrs, n_addrs, names, n_names);
	atomic_store_explicit(&header->flags, flags, memory_order_relaxed);
	/* release: pairs with the acquire in view_begin(); whoever sees it sees the table */
	atomic_store_explicit(&header->current, next, memory_order_release);
	atomic_fetch_add_explicit(&header->epoch, 1, memory_order_release);
	return 0;
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
