/* Finding and reading configuration files. */
#ifndef FLAT_CONTROL_FILES_H
#define FLAT_CONTROL_FILES_H

#include <stdbool.h>

#include "base/diag.h"

/** Called per file with its whole text; returning other than 0 ends the reading. */
typedef int config_file_fn(void *arg, const char *name, const char *text, size_t len);

/**
 * Reads files and folders; of a folder those whose names config_file_wanted(), sorted. What cannot be read
 * goes to `diags` and the rest is read nevertheless. 0, -ENOMEM, or what `fn` returned. Blocks.
 */
FLAT_MUST_CHECK int config_files_read(const char *const *paths, size_t n_paths,
				      struct flat_diags *diags, config_file_fn *fn, void *arg);

/** Whether a file of a folder is configuration: *.yaml, *.yml or *.json, not hidden. */
bool config_file_wanted(const char *name);

#endif
