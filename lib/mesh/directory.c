#include "mesh/directory.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"

#define HOST_MAX 256
/* A reader meets a writer for microseconds; more tries than this mean a dead or hostile writer. */
#define READ_TRIES 1000

/* Start of a table. Buckets are powers of two; offsets count from the table's first byte. */
struct table_head {
	uint32_t addr_buckets;
	uint32_t name_buckets;
	uint32_t name_offset;
	uint32_t text_offset;
	uint32_t text_len;
	uint32_t pad;
};

struct addr_entry {
	struct flat_addr addr;
	uint32_t kind; /* 0: empty */
	uint32_t pad;
};

struct name_entry {
	struct flat_addr addr;
	uint32_t text; /* offset in text + 1; 0: empty */
	uint32_t pad;
};

struct flat_directory_writer {
	struct flat_directory_header *header;
	size_t len_bytes;
	int fd;
};

static uint32_t hash_bytes(const void *data, size_t len)
{
	/* FNV-1a, 32 bits */
	const uint8_t *p = data;
	uint32_t h = 2166136261U;
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 16777619U;
	return h;
}

static uint32_t hash_addr(const struct flat_addr *a)
{
	uint8_t key[20];
	memcpy(key, &a->family, 2);
	memcpy(key + 2, &a->port, 2);
	memcpy(key + 4, a->ip, 16);
	return hash_bytes(key, sizeof(key));
}

static uint32_t buckets_for(size_t n)
{
	uint32_t b = 16;
	while (b < n * 2)
		b *= 2;
	return b;
}

int flat_directory_create(struct flat_directory_writer **out, size_t table_bytes)
{
	size_t len = sizeof(struct flat_directory_header) + 2 * table_bytes;
	struct flat_directory_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fd = (int)FLAT_SYS2(SYS_memfd_create, "flat-directory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	long err = w->fd < 0 ? w->fd : FLAT_SYS2(SYS_ftruncate, w->fd, len);
	if (err < 0)
		goto out_free;
	long addr = FLAT_SYS6(SYS_mmap, 0, len, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	if (addr < 0 && addr > -4096) {
		err = addr;
		goto out_free;
	}
	w->header = (struct flat_directory_header *)addr;
	w->len_bytes = len;
	w->header->magic = FLAT_DIRECTORY_MAGIC;
	w->header->version = FLAT_DIRECTORY_VERSION;
	w->header->table_bytes = (uint32_t)table_bytes;
	err = flat_sys_fcntl(w->fd, F_ADD_SEALS,
			     F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL);
	if (err == 0)
		err = flat_directory_publish(w, NULL, 0, NULL, 0, 0);
	if (err < 0)
		goto out_free;
	*out = w;
	return 0;
out_free:
	flat_directory_destroy(w);
	return (int)err;
}

void flat_directory_destroy(struct flat_directory_writer *w)
{
	if (!w)
		return;
	if (w->header)
		FLAT_SYS2(SYS_munmap, w->header, w->len_bytes);
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

static void put_addr(struct addr_entry *v, uint32_t buckets, const struct flat_directory_addr *a)
{
	struct flat_addr key = a->addr;
	flat_addr_unmap(&key);
	key.scope_id = 0;
	for (uint32_t i = hash_addr(&key) & (buckets - 1);; i = (i + 1) & (buckets - 1)) {
		if (v[i].kind != 0 && memcmp(&v[i].addr, &key, sizeof(key)) != 0)
			continue;
		v[i].addr = key;
		v[i].kind = (uint32_t)a->kind;
		return;
	}
}

static void put_name(struct name_entry *v, uint32_t buckets, const struct flat_directory_name *n,
		     char *text, uint32_t *at)
{
	size_t len = strlen(n->host);
	for (uint32_t i = hash_bytes(n->host, len) & (buckets - 1);; i = (i + 1) & (buckets - 1)) {
		if (v[i].text != 0)
			continue;
		v[i].addr = n->addr;
		v[i].text = *at + 1;
		memcpy(text + *at, n->host, len + 1);
		*at += (uint32_t)len + 1;
		return;
	}
}

int flat_directory_publish(struct flat_directory_writer *w, const struct flat_directory_addr *addrs,
			   size_t n_addrs, const struct flat_directory_name *names, size_t n_names,
			   uint32_t flags)
{
	struct table_head head = {.addr_buckets = buckets_for(n_addrs),
				  .name_buckets = buckets_for(n_names)};
	size_t text = 0;
	for (size_t i = 0; i < n_names; i++) {
		if (strlen(names[i].host) >= HOST_MAX)
			return -EINVAL;
		text += strlen(names[i].host) + 1;
	}
	size_t name_at = sizeof(head) + head.addr_buckets * sizeof(struct addr_entry);
	size_t text_at = name_at + head.name_buckets * sizeof(struct name_entry);
	if (text_at + text > w->header->table_bytes)
		return -ENOSPC;
	head.name_offset = (uint32_t)name_at;
	head.text_offset = (uint32_t)text_at;
	head.text_len = (uint32_t)text;

	uint32_t next = atomic_load_explicit(&w->header->current, memory_order_relaxed) ^ 1U;
	uint8_t *table =
	    (uint8_t *)w->header + sizeof(*w->header) + (size_t)next * w->header->table_bytes;
	/* Odd epoch before the first change; seq_cst pairs with the reader's two looks. */
	atomic_fetch_add_explicit(&w->header->epoch, 1, memory_order_seq_cst);
	memset(table, 0, text_at);
	memcpy(table, &head, sizeof(head));
	struct addr_entry *av = (struct addr_entry *)(void *)(table + sizeof(head));
	struct name_entry *nv = (struct name_entry *)(void *)(table + name_at);
	for (size_t i = 0; i < n_addrs; i++)
		put_addr(av, head.addr_buckets, &addrs[i]);
	uint32_t at = 0;
	for (size_t i = 0; i < n_names; i++)
		put_name(nv, head.name_buckets, &names[i], (char *)table + text_at, &at);
	atomic_store_explicit(&w->header->flags, flags, memory_order_relaxed);
	atomic_store_explicit(&w->header->current, next, memory_order_release);
	atomic_fetch_add_explicit(&w->header->epoch, 1, memory_order_seq_cst);
	return 0;
}

void flat_directory_revoked(struct flat_directory_writer *w)
{
	atomic_fetch_add_explicit(&w->header->revoke_epoch, 1, memory_order_release);
}

int flat_directory_map(struct flat_directory *dir, int fd, size_t len_bytes)
{
	struct stat st;
	memset(dir, 0, sizeof(*dir));
	int seals = flat_sys_fcntl(fd, F_GET_SEALS, 0);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (FLAT_SYS2(SYS_fstat, fd, &st) != 0 || (size_t)st.st_size != len_bytes ||
	    len_bytes < sizeof(struct flat_directory_header))
		return -EINVAL;
	long addr = FLAT_SYS6(SYS_mmap, 0, len_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (addr < 0 && addr > -4096)
		return (int)addr;
	dir->header = (const struct flat_directory_header *)addr;
	dir->len_bytes = len_bytes;
	dir->table_bytes = dir->header->table_bytes;
	if (dir->header->magic != FLAT_DIRECTORY_MAGIC ||
	    dir->header->version != FLAT_DIRECTORY_VERSION ||
	    dir->table_bytes > (len_bytes - sizeof(*dir->header)) / 2) {
		flat_directory_unmap(dir);
		return -EINVAL;
	}
	return 0;
}

void flat_directory_unmap(struct flat_directory *dir)
{
	if (dir->header)
		FLAT_SYS2(SYS_munmap, dir->header, dir->len_bytes);
	memset(dir, 0, sizeof(*dir));
}

/* A table as read once: its head checked against the private length. */
struct view {
	const uint8_t *base;
	struct table_head head;
	uint64_t epoch;
};

static int view_begin(const struct flat_directory *dir, struct view *v)
{
	v->epoch = atomic_load_explicit(&dir->header->epoch, memory_order_acquire);
	uint32_t cur = atomic_load_explicit(&dir->header->current, memory_order_acquire) & 1U;
	v->base =
	    (const uint8_t *)dir->header + sizeof(*dir->header) + (size_t)cur * dir->table_bytes;
	memcpy(&v->head, v->base, sizeof(v->head));
	const struct table_head *h = &v->head;
	size_t names = (size_t)h->name_buckets * sizeof(struct name_entry);
	size_t addrs = (size_t)h->addr_buckets * sizeof(struct addr_entry);
	return h->addr_buckets && h->name_buckets && !(h->addr_buckets & (h->addr_buckets - 1)) &&
	       !(h->name_buckets & (h->name_buckets - 1)) && sizeof(*h) + addrs <= h->name_offset &&
	       h->name_offset + names <= h->text_offset &&
	       (size_t)h->text_offset + h->text_len <= dir->table_bytes;
}

/* Whether what was read through `v` was one table: at most one publication began since. */
static int view_good(const struct flat_directory *dir, const struct view *v)
{
	atomic_thread_fence(memory_order_acquire);
	uint64_t now = atomic_load_explicit(&dir->header->epoch, memory_order_relaxed);
	return now - (v->epoch & ~1ULL) <= 1;
}

static enum flat_directory_kind look_up(const struct view *v, const struct flat_addr *key)
{
	const struct addr_entry *e =
	    (const struct addr_entry *)(const void *)(v->base + sizeof(v->head));
	uint32_t mask = v->head.addr_buckets - 1;
	for (uint32_t n = 0, i = hash_addr(key) & mask; n <= mask; n++, i = (i + 1) & mask) {
		if (e[i].kind == 0)
			return FLAT_DIRECTORY_NONE;
		if (memcmp(&e[i].addr, key, sizeof(*key)) == 0)
			return (enum flat_directory_kind)e[i].kind;
	}
	return FLAT_DIRECTORY_NONE;
}

enum flat_directory_kind flat_directory_find_addr(const struct flat_directory *dir,
						  const struct flat_addr *addr)
{
	struct flat_addr key = *addr;
	flat_addr_unmap(&key);
	key.scope_id = 0;
	struct flat_addr any = {.port = key.port};
	for (int tries = 0; tries < READ_TRIES; tries++) {
		struct view v;
		if (!view_begin(dir, &v))
			continue;
		enum flat_directory_kind kind = look_up(&v, &key);
		if (kind == FLAT_DIRECTORY_NONE)
			kind = look_up(&v, &any);
		if (view_good(dir, &v))
			return kind;
	}
	return FLAT_DIRECTORY_NONE;
}

static int lower_host(const char *host, char out[HOST_MAX])
{
	size_t len = strlen(host);
	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= HOST_MAX)
		return -ENOENT;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)tolower((unsigned char)host[i]);
	out[len] = 0;
	return (int)len;
}

int flat_directory_find_name(const struct flat_directory *dir, const char *host,
			     struct flat_addr *addr)
{
	char key[HOST_MAX];
	int len = lower_host(host, key);
	if (len < 0)
		return len;
	for (int tries = 0; tries < READ_TRIES; tries++) {
		struct view v;
		int found = -ENOENT;
		if (!view_begin(dir, &v))
			continue;
		const struct name_entry *e =
		    (const struct name_entry *)(const void *)(v.base + v.head.name_offset);
		const char *text = (const char *)v.base + v.head.text_offset;
		uint32_t mask = v.head.name_buckets - 1;
		uint32_t i = hash_bytes(key, (size_t)len) & mask;
		for (uint32_t n = 0; n <= mask && e[i].text != 0; n++, i = (i + 1) & mask) {
			uint32_t at = e[i].text - 1;
			if (at > v.head.text_len || v.head.text_len - at < (uint32_t)len + 1 ||
			    memcmp(text + at, key, (size_t)len + 1) != 0)
				continue;
			*addr = e[i].addr;
			found = 0;
			break;
		}
		if (view_good(dir, &v))
			return found;
	}
	return -ENOENT;
}

int flat_directory_find_host(const struct flat_directory *dir, const struct flat_addr *addr,
			     char *host, size_t size)
{
	for (int tries = 0; tries < READ_TRIES; tries++) {
		struct view v;
		int found = -ENOENT;
		if (!view_begin(dir, &v))
			continue;
		const struct name_entry *e =
		    (const struct name_entry *)(const void *)(v.base + v.head.name_offset);
		const char *text = (const char *)v.base + v.head.text_offset;
		for (uint32_t i = 0; i < v.head.name_buckets && found == -ENOENT; i++) {
			uint32_t at = e[i].text - 1;
			if (e[i].text == 0 || e[i].addr.family != addr->family ||
			    memcmp(e[i].addr.ip, addr->ip, 16) != 0 || at >= v.head.text_len)
				continue;
			size_t len = strnlen(text + at, v.head.text_len - at);
			found = len < size ? 0 : -ENOSPC;
			if (found == 0) {
				memcpy(host, text + at, len);
				host[len] = 0;
			}
		}
		if (view_good(dir, &v))
			return found;
	}
	return -ENOENT;
}
