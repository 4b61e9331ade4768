/* Loading configuration in tests. */
#ifndef FLAT_TESTS_SUPPORT_MESH_H
#define FLAT_TESTS_SUPPORT_MESH_H

#include "control/config.h"
#include "mesh/route.h"

/* One load: the mesh (NULL if it failed) and what was said. */
struct loaded {
	struct flat_mesh *mesh;
	struct flat_diags diags;
	struct flat_strbuf text; /* of the diags */
	int ret;
};

/** Loads `yaml` as the file "t.yaml". */
struct loaded load_yaml(const char *yaml);

/** Loads `yaml`; the test fails if it is refused. */
struct loaded load_good(const char *yaml);

/** What was said, as text. */
const char *loaded_text(const struct loaded *l);

void loaded_fini(struct loaded *l);

/** flat_mesh_virtual_by_host() for a client of a namespace (NULL: of none) without Sidecar. */
const struct flat_virtual_service *virtual_for(const struct flat_mesh *mesh, const char *namespace,
					       struct flat_span host,
					       const struct flat_service *service);

#endif
