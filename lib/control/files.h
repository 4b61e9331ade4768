/* Finding and reading configuration files. */
#ifndef FLAT_CONTROL_FILES_H
#define FLAT_CONTROL_FILES_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/diag.h"

/* What is done with each file. Returning other than 0 ends the reading. */
struct config_file_reader {
	/* Whether its text is not needed: then it is not opened. NULL: it always is. */
	bool (*known)(void *arg, const char *name, const struct stat *st);
	/* With its whole text; NULL where known() said so. */
	int (*read)(void *arg, const char *name, const struct stat *st, const char *text,
		    size_t len);
	void *arg;
};

/**
 * Reads files and folders; of a folder those whose names config_file_wanted(), sorted. What cannot be read
 * goes to `diags` and the rest is read nevertheless. 0, -ENOMEM, or what `read` returned. Blocks.
 */
FLAT_MUST_CHECK int config_files_read(const char *const *paths, size_t n_paths,
				      struct flat_diags *diags,
				      const struct config_file_reader *reader);

/** Whether a file of a folder is configuration: *.yaml, *.yml or *.json, not hidden. */
bool config_file_wanted(const char *name);

#endif
