/*
 * Documents of files that did not change since they were read. Of a folder of many files the one that changed is read and
 * parsed; what is made of all of them is made anew, so that a load has the result, and the messages, that it has without.
 *
 * A file is taken to be the same where it is the same inode with the same length and times, and had not been changed for
 * some seconds when it was read: of two changes within one tick of the file system's clock the times tell but one.
 *
 * Trees and names live in batches, one for each load that read something. The cache and the meshes refer to them: what a mesh
 * says of a place names its file for as long as the mesh lives.
 */
#ifndef FLAT_CONTROL_CACHE_H
#define FLAT_CONTROL_CACHE_H

#include <sys/stat.h>

#include "control/config.h"
#include "control/yaml.h"

struct config_document {
	const struct yaml_node *root;
	struct config_document *next;
};

/* A file as it was read. Lives in its batch. */
struct config_file;

/** A load begins. */
void config_cache_begin(struct flat_config_cache *cache);

/** Whether a file is known, and unchanged by what stat() says. */
bool config_cache_has(const struct flat_config_cache *cache, const char *name,
		      const struct stat *st);
/** The documents of such a file; NULL: it has none. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_take(struct flat_config_cache *cache, const char *name,
				      const struct config_document **documents);

/** A file that is to be read, as it is now. *out NULL: it is not kept, the cache has enough. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_new(struct flat_config_cache *cache, const char *name,
				     const struct stat *st, struct config_file **out);
/** Its name, which lives as long as its trees. */
const char *config_file_name(const struct config_file *file);
/** Where its trees come from; after config_cache_new() gave one. */
struct flat_pool *config_cache_pool(struct flat_config_cache *cache);
/** One document more of it, from that pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_file_add(struct config_file *file, const struct yaml_node *root);
/** It was read to its end without an error. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_put(struct flat_config_cache *cache, struct config_file *file);

/** The mesh that came of the load keeps what it names. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_keep(struct flat_config_cache *cache, struct flat_mesh *mesh);

/** The load is over, well or not: what it did not meet is forgotten. */
void config_cache_end(struct flat_config_cache *cache);

#endif
