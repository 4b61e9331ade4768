/*
 * Configuration files -> mesh. YAML or JSON, several documents a file, in the formats of Istio and
 * Kubernetes (docs/configuration.md lists each field). Applied whole or not at all.
 */
#ifndef FLAT_CONTROL_CONFIG_H
#define FLAT_CONTROL_CONFIG_H

#include <stdint.h>

#include "base/diag.h"
#include "mesh/mesh.h"

/**
 * Loads files and folders (of a folder *.yaml, *.yml and *.json, sorted by name, not its
 * subfolders).
 *
 * @param paths  `n_paths` names of files or folders
 * @param out    the mesh, one reference owned by the caller; set only on success
 * @param diags  takes errors and warnings, sorted; the caller's, may hold entries already
 * @return 0; -EINVAL if anything is wrong (the entries say what and where); -ENOMEM. Blocks on file
 * reads; any thread.
 */
FLAT_MUST_CHECK int flat_config_load(const char *const *paths, size_t n_paths,
				     struct flat_mesh **out, struct flat_diags *diags);

struct flat_names;
struct flat_config_cache;

/* A file that changed later than so many seconds before it was read is read again by the next load. */
#define FLAT_CONFIG_SETTLE_S 3

/** Documents of files, kept from load to load (control/cache.h). 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_config_cache_open(int64_t settle_s, struct flat_config_cache **out);
/** When no load runs. Meshes may outlive it. NULL is allowed. */
void flat_config_cache_close(struct flat_config_cache *cache);
/** The next load reads everything. Any thread. */
void flat_config_cache_forget(struct flat_config_cache *cache);
/** How many files the last load, or patch, read, and how many of them had another text. When none runs. */
uint32_t flat_config_cache_read(const struct flat_config_cache *cache);
uint32_t flat_config_cache_parsed(const struct flat_config_cache *cache);

/** What a load begins with. */
struct flat_config_sources {
	const char *const *paths;
	size_t n_paths;
	const struct flat_mesh
	    *previous; /* a host keeps the address that it has there; NULL: none */
	/* Has the addresses of endpoints by name (control/names.h), and asks for those that this load speaks of; NULL: none. */
	struct flat_names *names;
	struct flat_config_cache *cache; /* NULL: none */
	bool anew;			 /* a mesh is made even where nothing changed */
};

/* There is nothing but what `previous` was made of. */
#define FLAT_CONFIG_SAME 1

/**
 * flat_config_load() that takes over allocated addresses, whatever hosts were added or removed since, and documents of
 * files that did not change. FLAT_CONFIG_SAME: the cache has made `previous` of the same; nothing is made.
 */
FLAT_MUST_CHECK int flat_config_reload(const struct flat_config_sources *from,
				       struct flat_mesh **out, struct flat_diags *diags);

/* Of services' endpoints. */
struct flat_config_patches {
	struct flat_mesh_patch **v; /* malloc()ed; not owned once in force */
	size_t n;
};

/**
 * What files that changed, and nothing else, make of a mesh that is in force: where nothing but endpoints of services did
 * (EndpointSlices, ServiceEntries), only these files are read, and only these services made.
 *
 * @param mesh   in force, with all patches before; only read
 * @param names  `n` names of files that were replaced or written since, and of folders whose files may all be others
 * @return 0, where out->n == 0 says that nothing changed; -EAGAIN: it takes a load of everything; -ENOMEM. After an error
 *         `out` is empty, and the next load makes a mesh.
 */
FLAT_MUST_CHECK int flat_config_patch(struct flat_config_cache *cache, const struct flat_mesh *mesh,
				      const char *const *names, size_t n,
				      struct flat_config_patches *out, struct flat_diags *diags);

/** flat_config_load() of one text in memory, as if it were the file `name`. For tests and fuzzing.
 */
FLAT_MUST_CHECK int flat_config_load_text(const char *name, const char *text, size_t len,
					  struct flat_mesh **out, struct flat_diags *diags);

#endif
