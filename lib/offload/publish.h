/*
 * What applications are told of the mesh: services and their names, listed from a mesh, and listeners, which come and go one
 * by one. The directory (mesh/directory.h) is written whole only where services or names changed.
 */
#ifndef FLAT_OFFLOAD_PUBLISH_H
#define FLAT_OFFLOAD_PUBLISH_H

#include "mesh/directory.h"
#include "mesh/mesh.h"

struct flat_offload;

/** What the directory says of a mesh's services. Borrows from the mesh. Any thread. */
struct flat_listing {
	struct flat_directory_addr *addrs;
	size_t n_addrs;
	struct flat_directory_name *names;
	size_t n_names;
	void *shorts;	/* texts of short names */
	uint32_t flags; /* FLAT_DIRECTORY_* */
};

/** 0 or -ENOMEM: then there is nothing to finish. */
FLAT_MUST_CHECK int flat_listing_make(struct flat_listing *l, const struct flat_mesh *mesh);
void flat_listing_fini(struct flat_listing *l);
/** Whether both say the same, in the same order. */
bool flat_listing_same(const struct flat_listing *a, const struct flat_listing *b);

/** Publishes all services and listeners to the applications. list: of the mesh in force; NULL: none is there yet. */
void flat_offload_publish(struct flat_offload *o, const struct flat_listing *list);
/** What is published stays, but other policies hold. */
void flat_offload_renew(struct flat_offload *o);
/** A listener began, or ended, and is in the list of listeners already, or no more. */
void flat_offload_listens(struct flat_offload *o, const struct flat_addr *addr);
void flat_offload_listens_no_more(struct flat_offload *o, const struct flat_addr *addr);

#endif
