#include "control/cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/map.h"
#include "base/pool.h"
#include "base/siphash.h"
#include "control/limits.h"
#include "mesh/build.h"

/* What one load read. */
struct config_batch {
	atomic_uint refs; /* of files in the cache, of the running load, of meshes */
	uint64_t load;	  /* that last counted it */
	struct flat_pool pool;
};

/* By which a file is known to be what it was. */
struct looks {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified;
	struct timespec changed;
	bool settled; /* not changed for some time when it was read */
	/* Of its text: so many bytes, and their keyed hash. */
	size_t len;
	uint64_t hash;
};

struct config_file {
	const char *name;
	struct looks looks;
	bool met; /* by the running load */
	struct config_batch *batch;
	struct config_batch *home; /* where it lives itself, if its trees do not; else NULL */
	size_t held_bytes;	   /* of the batch */
	const struct config_document *first;
	struct config_document *last;
};

/* Those of one load. */
struct files {
	struct flat_map by_name;
	struct config_file **v;
	size_t n;
	size_t cap;
	size_t text_bytes;
};

/* One load at a time; `forget` is any thread's. */
struct flat_config_cache {
	struct files known;	    /* of the last load */
	struct files next;	    /* of the running one */
	struct config_batch *batch; /* of the running one; NULL: it has read nothing yet */
	int64_t begun_s;
	int64_t settle_s;
	uint8_t key[FLAT_SIPHASH_KEY_BYTES]; /* of the texts' hashes */
	bool keyed;			     /* else no two texts are the same */
	uint64_t load;
	uint32_t n_read, n_parsed;
	atomic_bool forget;
	const struct flat_mesh *made; /* of the known files; only compared; NULL: nothing */
	bool same;		      /* the running load has met nothing that is not known */
	struct flat_map slices;	      /* a Service's "namespace/name" -> struct config_slice */
	struct flat_pool slices_pool;
};

static void batch_put(void *arg)
{
	struct config_batch *batch = arg;

	/* Release pairs with the acquire of the last putter: no use may sink below the free. */
	if (atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_release) != 1)
		return;
	atomic_thread_fence(memory_order_acquire);
	flat_pool_fini(&batch->pool);
	free(batch);
}

static void batch_get(struct config_batch *batch)
{
	/* Relaxed: whoever takes a reference knows of one. */
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
}

/* Files that another list goes on with keep their reference. */
static void files_fini(struct files *files, bool all)
{
	for (size_t i = 0; i < files->n; i++) {
		struct config_batch *batch = files->v[i]->batch, *home = files->v[i]->home;

		if (!all && files->v[i]->met)
			continue;
		batch_put(batch);
		if (home)
			batch_put(home);
	}
	flat_map_fini(&files->by_name);
	free(files->v);
	*files = (struct files){.n = 0};
}

static int files_add(struct files *files, struct config_file *file)
{
	if (files->n == files->cap) {
		size_t cap = files->cap ? files->cap * 2 : 16;
		struct config_file **v = realloc(files->v, cap * sizeof(struct config_file *));

		if (!v)
			return -ENOMEM;
		files->v = v;
		files->cap = cap;
	}
	int ret = flat_map_put_str(&files->by_name, file->name, file);
	if (ret)
		return ret;
	files->v[files->n++] = file;
	files->text_bytes += (size_t)file->looks.size;
	return 0;
}

int flat_config_cache_open(int64_t settle_s, struct flat_config_cache **out)
{
	struct flat_config_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return -ENOMEM;
	cache->settle_s = settle_s;
	cache->keyed = getrandom(cache->key, sizeof(cache->key), 0) == (ssize_t)sizeof(cache->key);
	*out = cache;
	return 0;
}

void flat_config_cache_close(struct flat_config_cache *cache)
{
	if (!cache)
		return;
	files_fini(&cache->known, true);
	config_cache_forget_slices(cache);
	free(cache);
}

void flat_config_cache_forget(struct flat_config_cache *cache)
{
	atomic_store(&cache->forget, true);
}

uint32_t flat_config_cache_read(const struct flat_config_cache *cache)
{
	return cache->n_read;
}

uint32_t flat_config_cache_parsed(const struct flat_config_cache *cache)
{
	return cache->n_parsed;
}

static void note_time(struct flat_config_cache *cache)
{
	struct timespec now = {0};

	/* Not time(): that may lag behind what a file system has written. */
	(void)clock_gettime(CLOCK_REALTIME, &now);
	cache->begun_s = now.tv_sec;
}

void config_cache_begin(struct flat_config_cache *cache, const struct flat_mesh *mesh)
{
	if (atomic_exchange(&cache->forget, false)) {
		files_fini(&cache->known, true);
		cache->made = NULL;
	}
	note_time(cache);
	cache->same = mesh && cache->made == mesh;
	cache->load++;
	cache->n_read = cache->n_parsed = 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool unchanged(const struct config_file *file, const struct stat *st)
{
	const struct looks *was = &file->looks;

	return was->settled && was->dev == st->st_dev && was->ino == st->st_ino &&
	       was->size == st->st_size && same_time(&was->modified, &st->st_mtim) &&
	       same_time(&was->changed, &st->st_ctim);
}

bool config_cache_has(const struct flat_config_cache *cache, const char *name,
		      const struct stat *st)
{
	const struct config_file *file = flat_map_get_str(&cache->known.by_name, name);

	return file && unchanged(file, st);
}

/* A known one goes on; in the order of the load before where nothing changed. */
static int take(struct flat_config_cache *cache, struct config_file *file)
{
	size_t at = cache->next.n;
	int ret = files_add(&cache->next, file);

	cache->same &= at < cache->known.n && cache->known.v[at] == file;
	file->met = ret == 0;
	return ret;
}

int config_cache_take(struct flat_config_cache *cache, const char *name,
		      const struct config_document **documents)
{
	struct config_file *file = flat_map_get_str(&cache->known.by_name, name);

	*documents = file->first;
	/* Named twice it is read twice. */
	if (file->met) {
		cache->same = false;
		return 0;
	}
	return take(cache, file);
}

struct flat_pool *config_cache_pool(struct flat_config_cache *cache)
{
	return &cache->batch->pool;
}

static int make_batch(struct flat_config_cache *cache)
{
	if (cache->batch)
		return 0;
	cache->batch = calloc(1, sizeof(*cache->batch));
	if (!cache->batch)
		return -ENOMEM;
	cache->batch->pool.limit_bytes = FLAT_CONFIG_MEMORY_MAX;
	atomic_init(&cache->batch->refs, 1);
	return 0;
}

static uint64_t hash_of(const struct flat_config_cache *cache, const struct config_text *text)
{
	return cache->keyed ? flat_siphash(cache->key, text->bytes, text->len) : 0;
}

static void note_looks(const struct flat_config_cache *cache, struct config_file *file,
		       const struct config_text *text, uint64_t hash)
{
	const struct stat *st = text->st;

	file->looks = (struct looks){
	    .dev = st->st_dev,
	    .ino = st->st_ino,
	    .size = st->st_size,
	    .modified = st->st_mtim,
	    .changed = st->st_ctim,
	    .settled = st->st_ctim.tv_sec + cache->settle_s <= cache->begun_s,
	    .len = text->len,
	    .hash = hash,
	};
}

/* Of one that is known: what is known together has another length. */
static void note_known(struct flat_config_cache *cache, struct config_file *file,
		       const struct config_text *text, uint64_t hash)
{
	cache->known.text_bytes += (size_t)text->st->st_size - (size_t)file->looks.size;
	note_looks(cache, file, text, hash);
}

bool config_cache_has_text(struct flat_config_cache *cache, const struct config_text *text)
{
	struct config_file *file = flat_map_get_str(&cache->known.by_name, text->name);

	cache->n_read++;
	if (!file || !cache->keyed || file->looks.len != text->len)
		return false;
	uint64_t hash = hash_of(cache, text);

	if (file->looks.hash != hash)
		return false;
	note_known(cache, file, text, hash);
	return true;
}

int config_cache_new(struct flat_config_cache *cache, const struct config_text *text,
		     struct config_file **out)
{
	struct config_file *file;

	*out = NULL;
	cache->n_parsed++;
	if (cache->next.text_bytes + (size_t)text->st->st_size > FLAT_CONFIG_CACHED_BYTES_MAX) {
		cache->same = false;
		return 0;
	}
	if (make_batch(cache))
		return -ENOMEM;
	file = flat_pool_alloc(&cache->batch->pool, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->held_bytes = cache->batch->pool.used_bytes;
	file->name = flat_pool_strdup(&cache->batch->pool, text->name);
	if (!file->name)
		return -ENOMEM;
	note_looks(cache, file, text, hash_of(cache, text));
	file->batch = cache->batch;
	*out = file;
	return 0;
}

const char *config_file_name(const struct config_file *file)
{
	return file->name;
}

int config_file_add(struct config_file *file, const struct yaml_node *root)
{
	struct config_document *document = flat_pool_alloc(&file->batch->pool, sizeof(*document));

	if (!document)
		return -ENOMEM;
	document->root = root;
	if (file->last)
		file->last->next = document;
	else
		file->first = document;
	file->last = document;
	return 0;
}

static bool same_documents(const struct config_document *a, const struct config_document *b)
{
	for (; a && b; a = a->next, b = b->next)
		if (!yaml_same(a->root, b->root))
			return false;
	return !a && !b;
}

/* The known one if it has the same documents; else NULL. */
static struct config_file *as_it_was(const struct flat_config_cache *cache,
				     const struct config_file *file)
{
	struct config_file *was = flat_map_get_str(&cache->known.by_name, file->name);

	if (!was || was->met || !same_documents(was->first, file->first))
		return NULL;
	was->looks = file->looks;
	return was;
}

int config_cache_put(struct flat_config_cache *cache, struct config_file *file,
		     const struct config_document **documents)
{
	struct config_file *was = as_it_was(cache, file);
	int ret;

	*documents = was ? was->first : NULL;
	if (was)
		return take(cache, was);
	cache->same = false;
	ret = files_add(&cache->next, file);
	/* Named twice: the first stays. */
	if (ret == -EEXIST)
		return 0;
	if (ret)
		return ret;
	*documents = file->first;
	file->held_bytes = file->batch->pool.used_bytes - file->held_bytes;
	batch_get(file->batch);
	return 0;
}

static int keep(struct flat_mesh *mesh, struct config_batch *batch)
{
	int ret = flat_mesh_keep(mesh, batch_put, batch);

	if (!ret)
		batch_get(batch);
	return ret;
}

static int keep_once(struct flat_config_cache *cache, struct flat_mesh *mesh,
		     struct config_batch *batch)
{
	if (!batch || batch->load == cache->load)
		return 0;
	batch->load = cache->load;
	return keep(mesh, batch);
}

int config_cache_keep(struct flat_config_cache *cache, struct flat_mesh *mesh)
{
	int ret = 0;

	for (size_t i = 0; i < cache->next.n && !ret; i++) {
		ret = keep_once(cache, mesh, cache->next.v[i]->batch);
		if (!ret)
			ret = keep_once(cache, mesh, cache->next.v[i]->home);
	}
	/* A file that was read and is not kept by itself has its name there. */
	return ret ? ret : keep_once(cache, mesh, cache->batch);
}

bool config_cache_same(const struct flat_config_cache *cache)
{
	return cache->same && cache->next.n == cache->known.n;
}

void config_cache_made(struct flat_config_cache *cache, const struct flat_mesh *mesh)
{
	cache->made = mesh;
	if (!mesh)
		config_cache_forget_slices(cache);
}

/* Whether more than half of what is held is of files that have changed since. */
static bool is_wasteful(const struct files *files, uint64_t load)
{
	size_t held = 0, used = 0;

	for (size_t i = 0; i < files->n; i++) {
		struct config_batch *batch = files->v[i]->batch;

		used += files->v[i]->held_bytes;
		held += batch->load == load ? 0 : batch->pool.used_bytes;
		batch->load = load;
	}
	return held > 2 * used + FLAT_CONFIG_CACHED_SLACK;
}

void config_cache_end(struct flat_config_cache *cache)
{
	files_fini(&cache->known, false);
	cache->known = cache->next;
	cache->next = (struct files){.n = 0};
	for (size_t i = 0; i < cache->known.n; i++)
		cache->known.v[i]->met = false;
	if (cache->batch)
		batch_put(cache->batch);
	cache->batch = NULL;
	/* All is read again: that is dear once, and seldom. */
	if (is_wasteful(&cache->known, ++cache->load)) {
		files_fini(&cache->known, true);
		config_cache_made(cache, NULL);
	}
}

/* --- one file changes --- */

void config_cache_forget_slices(struct flat_config_cache *cache)
{
	flat_map_fini(&cache->slices);
	flat_pool_fini(&cache->slices_pool);
}

int config_cache_add_slice(struct flat_config_cache *cache, const char *service,
			   const struct yaml_node *root)
{
	struct config_slice *slice = flat_pool_alloc(&cache->slices_pool, sizeof(*slice));
	struct config_slice *first = config_cache_slices(cache, service);
	char *id;

	if (!slice)
		return -ENOMEM;
	slice->root = root;
	if (first) {
		while (first->next)
			first = first->next;
		first->next = slice;
		return 0;
	}
	id = flat_pool_strdup(&cache->slices_pool, service);
	return id ? flat_map_put_str(&cache->slices, id, slice) : -ENOMEM;
}

struct config_slice *config_cache_slices(const struct flat_config_cache *cache, const char *service)
{
	return flat_map_get_str(&cache->slices, service);
}

bool config_cache_can_patch(struct flat_config_cache *cache, const struct flat_mesh *mesh)
{
	return cache->made == mesh && !atomic_load(&cache->forget);
}

struct config_file *config_cache_find(const struct flat_config_cache *cache, const char *name,
				      size_t bytes)
{
	struct config_file *file = flat_map_get_str(&cache->known.by_name, name);

	if (!file || cache->known.text_bytes - (size_t)file->looks.size + bytes >
			 FLAT_CONFIG_CACHED_BYTES_MAX)
		return NULL;
	return file;
}

const struct config_document *config_file_documents(const struct config_file *file)
{
	return file->first;
}

int config_cache_patch_begin(struct flat_config_cache *cache)
{
	note_time(cache);
	cache->n_read = cache->n_parsed = 0;
	return make_batch(cache);
}

void config_cache_patch_end(struct flat_config_cache *cache)
{
	if (cache->batch)
		batch_put(cache->batch);
	cache->batch = NULL;
}

void config_cache_retell(struct flat_config_cache *cache, struct config_file *file,
			 const struct config_text *text)
{
	cache->n_parsed++;
	note_known(cache, file, text, hash_of(cache, text));
}

size_t config_cache_below(const struct flat_config_cache *cache, const char *folder)
{
	size_t len = strlen(folder), n = 0;

	for (size_t i = 0; i < cache->known.n; i++) {
		const char *name = cache->known.v[i]->name;

		n += strncmp(name, folder, len) == 0 && name[len] == '/' &&
		     !strchr(name + len + 1, '/');
	}
	return n;
}

void config_cache_replace(struct flat_config_cache *cache, struct config_file *file,
			  const struct config_text *text, const struct config_document *documents)
{
	struct config_batch *trees = file->batch;

	config_cache_retell(cache, file, text);
	file->first = documents;
	file->last = NULL;
	file->held_bytes = cache->batch->pool.used_bytes;
	file->batch = cache->batch;
	batch_get(file->batch);
	if (!file->home)
		file->home = trees;
	else
		batch_put(trees);
}
