/*
 * Configuration files -> mesh. YAML or JSON, several documents a file, in the formats of Istio and
 * Kubernetes (docs/configuration.md lists each field). Applied whole or not at all.
 */
#ifndef FLAT_CONTROL_CONFIG_H
#define FLAT_CONTROL_CONFIG_H

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

/**
 * flat_config_load() that takes over allocated addresses: a host keeps the address it has in
 * `previous` (NULL: none) whatever hosts were added or removed since. Endpoints by name have the addresses that
 * `names` knows (control/names.h; NULL: none), which asks for those that this configuration speaks of from now on.
 */
FLAT_MUST_CHECK int flat_config_reload(const char *const *paths, size_t n_paths,
				       const struct flat_mesh *previous, struct flat_names *names,
				       struct flat_mesh **out, struct flat_diags *diags);

/** flat_config_load() of one text in memory, as if it were the file `name`. For tests and fuzzing.
 */
FLAT_MUST_CHECK int flat_config_load_text(const char *name, const char *text, size_t len,
					  struct flat_mesh **out, struct flat_diags *diags);

#endif
