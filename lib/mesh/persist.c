#include "mesh/persist.h"

#include <string.h>

#include "mesh/gateway.h"
#include "mesh/internal.h"

/* The first that is configured; NULL: there is none. */
static const struct flat_persistence *any_persistence(const struct flat_mesh *mesh)
{
	for (uint32_t i = 0; i < mesh->services.n; i++) {
		const struct flat_service *s = mesh->services.v[i];

		if (s->persistence)
			return s->persistence;
	}
	for (uint32_t i = 0; i < mesh->virtual.n; i++) {
		const struct flat_virtual_service *vs = mesh->virtual.v[i];

		for (uint32_t k = 0; k < vs->n_routes; k++) {
			if (vs->routes[k].persistence)
				return vs->routes[k].persistence;
		}
	}
	return NULL;
}

void mesh_index_persistence(struct flat_mesh *mesh, struct flat_diags *diags)
{
	const struct flat_secret *secret =
	    flat_mesh_secret(mesh, mesh->root_namespace, FLAT_PERSIST_SECRET);
	const struct flat_persistence *p = any_persistence(mesh);
	const char *key = secret ? secret->key : NULL;

	mesh->persists = p != NULL;
	if (secret && (!key || strlen(key) < FLAT_PERSIST_SECRET_MIN))
		flat_diags_add(diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_BAD_VALUE, &secret->where,
			       "Secret " FLAT_PERSIST_SECRET,
			       "give it a `key` of chance: `openssl rand -hex 32`",
			       "sessions need a key of at least %u characters",
			       FLAT_PERSIST_SECRET_MIN);
	else if (key)
		mesh->persist_key = secret->digest;
	else if (p)
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &p->where, NULL,
			       "declare it, with a `key` of chance",
			       "without a Secret " FLAT_PERSIST_SECRET
			       " in namespace %s sessions hold at the flatd that began them "
			       "alone, until it is started anew",
			       mesh->root_namespace);
}

bool flat_mesh_persists(const struct flat_mesh *mesh)
{
	return mesh->persists;
}

const uint8_t *flat_mesh_persist_key(const struct flat_mesh *mesh)
{
	return mesh->persist_key;
}
