/*
 * Documents of files that did not change since they were read. Of a folder of many files the one that changed is read and
 * parsed; what is made of all of them is made anew, so that a load has the result, and the messages, that it has without.
 *
 * A file is taken to be the same where it is the same inode with the same length and times, and had not been changed for
 * some seconds when it was read: of two changes within one tick of the file system's clock the times tell but one. One that has
 * to be read has what it had where its text has the same length and the same keyed hash: then it is not parsed.
 *
 * A load that finds nothing but what the last one found makes no mesh. What makes a difference is the files' trees, places
 * included: one that was written again as it was is the same.
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

/** A load begins. `mesh`: what is in force, or NULL. */
void config_cache_begin(struct flat_config_cache *cache, const struct flat_mesh *mesh);
/** After the last file: whether all is as the load found it that made the mesh in force. */
bool config_cache_same(const struct flat_config_cache *cache);
/** What the load made, NULL: nothing; before config_cache_end(). */
void config_cache_made(struct flat_config_cache *cache, const struct flat_mesh *mesh);

/** Whether a file is known, and unchanged by what stat() says. */
bool config_cache_has(const struct flat_config_cache *cache, const char *name,
		      const struct stat *st);
/** The documents of such a file; NULL: it has none. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_take(struct flat_config_cache *cache, const char *name,
				      const struct config_document **documents);

/* A file as it is now. */
struct config_text {
	const char *name;
	const struct stat *st;
	const char *bytes; /* `len` of them */
	size_t len;
};

/** Of a file that was read: whether it is known by this text. Then it is, from now on, as it is now. */
bool config_cache_has_text(struct flat_config_cache *cache, const struct config_text *text);
/** A file whose text is to be parsed. *out NULL: it is not kept, the cache has enough. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_new(struct flat_config_cache *cache,
				     const struct config_text *text, struct config_file **out);
/** Its name, which lives as long as its trees. */
const char *config_file_name(const struct config_file *file);
/** Where its trees come from; after config_cache_new() gave one. */
struct flat_pool *config_cache_pool(struct flat_config_cache *cache);
/** One document more of it, from that pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_file_add(struct config_file *file, const struct yaml_node *root);
/** It was read to its end without an error; one that is as it was stays the one it was. *documents: those it has from now on; NULL: it is
 * not kept. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_put(struct flat_config_cache *cache, struct config_file *file,
				     const struct config_document **documents);

/** The mesh that came of the load keeps what it names. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_keep(struct flat_config_cache *cache, struct flat_mesh *mesh);

/** The load is over, well or not: what it did not meet is forgotten. */
void config_cache_end(struct flat_config_cache *cache);

/* --- one file changes --- */

/* Of an EndpointSlice: the name of its Service. */
#define CONFIG_SLICE_LABEL "kubernetes.io/service-name"

/* An EndpointSlice of the mesh that was made last. */
struct config_slice {
	const struct yaml_node *root; /* NULL: the cache does not have it */
	struct config_slice *next;    /* of the same Service, in the order of the load */
	bool changed;
};

/** Forgets all of them; adds one of a Service, "namespace/name", after the others. 0 or -ENOMEM. */
void config_cache_forget_slices(struct flat_config_cache *cache);
FLAT_MUST_CHECK int config_cache_add_slice(struct flat_config_cache *cache, const char *service,
					   const struct yaml_node *root);
/** Those of a Service; NULL: none. */
struct config_slice *config_cache_slices(const struct flat_config_cache *cache,
					 const char *service);

/** Whether files can be changed one by one: what is known is what a mesh was made of. */
bool config_cache_can_patch(struct flat_config_cache *cache, const struct flat_mesh *mesh);
/** A file that is known; NULL: there is none of this name, or the cache has enough without its new text of so many bytes. */
struct config_file *config_cache_find(const struct flat_config_cache *cache, const char *name,
				      size_t bytes);
/** Its first document, or NULL. */
const struct config_document *config_file_documents(const struct config_file *file);
/** Files of a patch begin and end, as those of a load; config_cache_pool() is where their trees come from. 0 or -ENOMEM. */
FLAT_MUST_CHECK int config_cache_patch_begin(struct flat_config_cache *cache);
void config_cache_patch_end(struct flat_config_cache *cache);
/** It has this text now, and says what it said. */
void config_cache_retell(struct flat_config_cache *cache, struct config_file *file,
			 const struct config_text *text);
/** It has this text now, and these documents, from that pool. */
void config_cache_replace(struct flat_config_cache *cache, struct config_file *file,
			  const struct config_text *text, const struct config_document *documents);
/** How many files of a folder are known. */
size_t config_cache_below(const struct flat_config_cache *cache, const char *folder);

#endif
