#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "mesh/directory.h"
#include "mesh/directory_table.h"

/* A reader is overtaken by two publications at once only if it is stopped for as long; again and again: never. */
#define READ_TRIES 1000

int flat_directory_map(struct flat_directory *dir, int fd, size_t len_bytes)
{
	struct stat st;
	memset(dir, 0, sizeof(*dir));
	int seals = flat_sys_fcntl(fd, F_GET_SEALS, 0);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (FLAT_SYS2(SYS_fstat, fd, &st) != 0 || st.st_size < 0 ||
	    (size_t)st.st_size != len_bytes || len_bytes < sizeof(struct flat_directory_header))
		return -EINVAL;
	long addr = FLAT_SYS6(SYS_mmap, 0, len_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (addr < 0 && addr > -4096)
		return (int)addr;
	dir->header = (const struct flat_directory_header *)addr;
	dir->len_bytes = len_bytes;
	dir->table_bytes = dir->header->table_bytes;
	dir->first_id = dir->header->first_id;
	int err = 0;
	if (dir->header->magic == FLAT_DIRECTORY_MAGIC &&
	    dir->header->version != FLAT_DIRECTORY_VERSION)
		err = -EPROTONOSUPPORT;
	else if (dir->header->magic != FLAT_DIRECTORY_MAGIC || dir->table_bytes % 8 != 0 ||
		 dir->table_bytes < sizeof(struct flat_directory_head) ||
		 dir->table_bytes > (len_bytes - sizeof(*dir->header)) / 2)
		err = -EINVAL;
	if (err != 0)
		flat_directory_unmap(dir);
	return err;
}

bool flat_directory_made_by(const struct flat_directory *dir, int32_t pid)
{
	for (int i = 0; pid > 0 && i < FLAT_DIRECTORY_MAKERS; i++) {
		if (atomic_load_explicit(&dir->header->makers[i], memory_order_relaxed) == pid)
			return true;
	}
	return false;
}

void flat_directory_unmap(struct flat_directory *dir)
{
	if (dir->header)
		FLAT_SYS2(SYS_munmap, dir->header, dir->len_bytes);
	memset(dir, 0, sizeof(*dir));
}

/* A table as looked at once: its head, checked against the private length. */
struct view {
	uint8_t *
	    table; /* mapped read-only; not const, since C11 loads atomics through non-const only */
	struct flat_directory_head head;
	uint64_t turn;
	uint64_t epoch;
};

/* Whether buckets and offsets lie within the table. If not, it is being written. */
static int head_valid(const struct flat_directory_head *h, size_t table_bytes)
{
	size_t addrs = (size_t)h->addr_buckets * sizeof(struct flat_directory_addr_entry);
	size_t names = (size_t)h->name_buckets * sizeof(struct flat_directory_name_entry);
	size_t hosts = (size_t)h->name_buckets * sizeof(uint32_t);
	if (h->addr_buckets == 0 || (h->addr_buckets & (h->addr_buckets - 1)) != 0 ||
	    h->name_buckets == 0 || (h->name_buckets & (h->name_buckets - 1)) != 0)
		return 0;
	return h->name_offset % 8 == 0 && h->host_offset % 8 == 0 &&
	       sizeof(*h) + addrs <= h->name_offset && h->name_offset + names <= h->host_offset &&
	       h->host_offset + hosts <= h->text_offset &&
	       (size_t)h->text_offset + h->text_len <= table_bytes;
}

static int view_begin(const struct flat_directory *dir, struct view *v)
{
	const struct flat_directory_header *header = dir->header;
	/* acquire: pairs with the release at the end of each change */
	v->epoch = atomic_load_explicit(&header->epoch, memory_order_acquire);
	v->turn = atomic_load_explicit(&header->turn, memory_order_acquire);
	/* acquire: pairs with the release in flat_directory_publish() */
	uint32_t current = atomic_load_explicit(&header->current, memory_order_acquire) & 1U;
	v->table =
	    (uint8_t *)(uintptr_t)header + sizeof(*header) + (size_t)current * dir->table_bytes;
	flat_directory_load(&v->head, v->table, 0, sizeof(v->head));
	return head_valid(&v->head, dir->table_bytes);
}

/*
 * Whether what was read through `v` was one whole table. Publication k makes the turn 2k - 1, writes a table, makes
 * it current, and makes the turn 2k. The table that was current at turn 2k or 2k + 1 (or a later one) is
 * written again by publication k + 2 at the earliest, so not before the turn was 2k + 3.
 */
static int view_good(const struct flat_directory *dir, const struct view *v)
{
	/* acquire fence: pairs with the release fence in flat_directory_publish() */
	atomic_thread_fence(memory_order_acquire);
	uint64_t now = atomic_load_explicit(&dir->header->turn, memory_order_relaxed);
	return now - (v->turn & ~1ULL) <= 2;
}

/*
 * Whether nothing changed meanwhile. What was found was there at some moment of the look-up, and that is an answer. To
 * be nowhere is one only of a moment: a listener may go from one of the two places that are looked at to the other.
 */
static bool view_same(const struct flat_directory *dir, const struct view *v)
{
	/* Behind the looks: who sees an address that is gone by one change sees the change before it counted. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&dir->header->epoch, memory_order_relaxed) == v->epoch;
}

/* Whether the entry at `i` is this address's. 1, 0, or -EAGAIN: the entry became another one's meanwhile. */
static int addr_is(const struct view *v, uint32_t i, const struct flat_addr *key, uint64_t state)
{
	struct flat_addr addr;
	flat_directory_load(&addr, v->table,
			    sizeof(v->head) + i * sizeof(struct flat_directory_addr_entry),
			    sizeof(addr));
	/* acquire fence: pairs with the release fence in put_addr() */
	atomic_thread_fence(memory_order_acquire);
	uint64_t now =
	    atomic_load_explicit(flat_directory_state(v->table, i), memory_order_relaxed);
	if (now / FLAT_DIRECTORY_STATE_TURN != state / FLAT_DIRECTORY_STATE_TURN)
		return -EAGAIN;
	return memcmp(&addr, key, sizeof(*key)) == 0;
}

/* A kind, or -EAGAIN. */
static int look_up(const struct view *v, const struct flat_addr *key)
{
	uint32_t mask = v->head.addr_buckets - 1;
	uint32_t i = flat_directory_hash_addr(key) & mask;
	for (uint32_t n = 0; n <= mask; n++, i = (i + 1) & mask) {
		/* acquire: pairs with the releases in set_state() */
		uint64_t state =
		    atomic_load_explicit(flat_directory_state(v->table, i), memory_order_acquire);
		if (flat_directory_is_empty(state))
			break;
		int is = flat_directory_is_claimed(state) ? addr_is(v, i, key, state) : 0;
		if (is < 0)
			return is;
		if (is)
			return state & FLAT_DIRECTORY_STATE_LISTENERS ? FLAT_DIRECTORY_LISTENER
								      : FLAT_DIRECTORY_SERVICE;
	}
	return FLAT_DIRECTORY_NONE;
}

enum flat_directory_kind flat_directory_find_addr(const struct flat_directory *dir,
						  const struct flat_addr *addr)
{
	struct flat_addr key = flat_directory_key(addr);
	struct flat_addr any = {.port = key.port};
	for (int tries = 0; tries < READ_TRIES; tries++) {
		struct view v;
		if (!view_begin(dir, &v))
			continue;
		int kind = look_up(&v, &key);
		if (kind == FLAT_DIRECTORY_NONE)
			kind = look_up(&v, &any);
		if (kind < 0 || !view_good(dir, &v) ||
		    (kind == FLAT_DIRECTORY_NONE && !view_same(dir, &v)))
			continue;
		return (enum flat_directory_kind)kind;
	}
	return FLAT_DIRECTORY_NONE;
}

/* The name as it is published: lower case, no final dot. Returns its length, or -ENOENT. */
static int fold_host(const char *host, char out[FLAT_DIRECTORY_HOST_MAX])
{
	size_t len = strnlen(host, FLAT_DIRECTORY_HOST_MAX + 1);
	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= FLAT_DIRECTORY_HOST_MAX)
		return -ENOENT;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + ('a' - 'A') : host[i]);
	out[len] = 0;
	return (int)len;
}

/* Returns whether not everybody sees it; e->text_len is the text's length alone. */
static bool load_name(const struct view *v, uint32_t i, struct flat_directory_name_entry *e)
{
	flat_directory_load(e, v->table, v->head.name_offset + i * sizeof(*e), sizeof(*e));
	bool veiled = e->text_len & FLAT_DIRECTORY_VEIL;
	e->text_len &= ~FLAT_DIRECTORY_VEIL;
	return veiled;
}

/* Copies an entry's text. Returns its length, or -ENOENT if the entry is not a whole one. */
static int load_text(const struct view *v, const struct flat_directory_name_entry *e,
		     char out[FLAT_DIRECTORY_HOST_MAX])
{
	uint32_t at = e->text - 1;
	uint32_t len = e->text_len;
	if (len >= FLAT_DIRECTORY_HOST_MAX || at >= v->head.text_len ||
	    len >= v->head.text_len - at)
		return -ENOENT;
	_Atomic uint8_t *text = flat_directory_text(v->table, v->head.text_offset) + at;
	for (uint32_t i = 0; i < len; i++)
		out[i] = (char)atomic_load_explicit(&text[i], memory_order_relaxed);
	out[len] = 0;
	return (int)len;
}

static int look_up_name(const struct view *v, const char *key, int len, struct flat_addr *addr)
{
	uint32_t mask = v->head.name_buckets - 1;
	uint32_t i = flat_directory_hash(key, (size_t)len) & mask;
	for (uint32_t n = 0; n <= mask; n++, i = (i + 1) & mask) {
		struct flat_directory_name_entry e;
		char text[FLAT_DIRECTORY_HOST_MAX];
		bool veiled = load_name(v, i, &e);
		if (e.text == 0)
			break;
		if (e.text_len != (uint32_t)len || load_text(v, &e, text) != len ||
		    memcmp(text, key, (size_t)len) != 0)
			continue;
		*addr = e.addr;
		return veiled ? FLAT_DIRECTORY_VEILED : 0;
	}
	return -ENOENT;
}

int flat_directory_find_name(const struct flat_directory *dir, const char *host,
			     struct flat_addr *addr)
{
	char key[FLAT_DIRECTORY_HOST_MAX];
	int len = fold_host(host, key);
	if (len < 0)
		return len;
	for (int tries = 0; tries < READ_TRIES; tries++) {
		struct view v;
		struct flat_addr got;
		if (!view_begin(dir, &v))
			continue;
		int err = look_up_name(&v, key, len, &got);
		if (!view_good(dir, &v))
			continue;
		if (err >= 0)
			*addr = got;
		return err;
	}
	return -ENOENT;
}

static int look_up_host(const struct view *v, const struct flat_addr *key,
			char text[FLAT_DIRECTORY_HOST_MAX])
{
	uint32_t mask = v->head.name_buckets - 1;
	uint32_t i = flat_directory_hash_addr(key) & mask;
	for (uint32_t n = 0; n <= mask; n++, i = (i + 1) & mask) {
		struct flat_directory_name_entry e;
		uint32_t name = atomic_load_explicit(
		    flat_directory_host(v->table, v->head.host_offset, i), memory_order_relaxed);
		if (name == 0 || name > v->head.name_buckets)
			break;
		load_name(v, name - 1, &e);
		if (memcmp(&e.addr, key, sizeof(*key)) == 0)
			return load_text(v, &e, text);
	}
	return -ENOENT;
}

int flat_directory_find_host(const struct flat_directory *dir, const struct flat_addr *addr,
			     char *host, size_t size)
{
	struct flat_addr key = flat_directory_key(addr);
	key.port = 0;
	for (int tries = 0; tries < READ_TRIES; tries++) {
		struct view v;
		char text[FLAT_DIRECTORY_HOST_MAX];
		if (!view_begin(dir, &v))
			continue;
		int len = look_up_host(&v, &key, text);
		if (!view_good(dir, &v))
			continue;
		if (len < 0)
			return len;
		if ((size_t)len >= size)
			return -ENOSPC;
		memcpy(host, text, (size_t)len + 1);
		return 0;
	}
	return -ENOENT;
}
