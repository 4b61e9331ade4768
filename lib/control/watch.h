/*
 * Watching configuration files for change, with inotify: edits in place, renames over the file
 * (editors), files that come and go in a folder, and the swap of a folder's `..data` symbolic link,
 * by which Kubernetes replaces mounted ConfigMaps. Changes that come together are reported once.
 */
#ifndef FLAT_CONTROL_WATCH_H
#define FLAT_CONTROL_WATCH_H

#include <stdbool.h>

#include "base/base.h"

/* Quiet time after a change before it is reported, ms: editors and kubectl write in several steps.
 */
#define FLAT_WATCH_QUIET_MS 50
/* A change is reported after this time even if changes go on, ms. */
#define FLAT_WATCH_MAX_WAIT_MS 500

struct flat_watch;

/**
 * Watches `n_paths` files or folders; those need not exist yet, their parent folders must. 0,
 * -ENOMEM, or the error of inotify or of a parent folder (-ENOENT, -EACCES, -ENOSPC:
 * fs.inotify.max_user_watches).
 */
FLAT_MUST_CHECK int flat_watch_open(const char *const *paths, size_t n_paths,
				    struct flat_watch **out);

/* So many names are told one by one. */
#define FLAT_WATCH_NAMES_MAX 64U

/**
 * Files of watched folders that are replaced or written to their end are told by name, at once, and where Kubernetes swaps a
 * volume its folder, or the files in it that are watched by themselves; anything else as it is without.
 */
void flat_watch_name_files(struct flat_watch *watch);

/** Files of watched folders matter whatever their names; else those that are read as configuration. */
void flat_watch_every_file(struct flat_watch *watch);

/** Stops watching. NULL is allowed. */
void flat_watch_close(struct flat_watch *watch);

/** A descriptor that polls readable when flat_watch_changed() has something to do. Not to be read.
 */
int flat_watch_fd(const struct flat_watch *watch);

/**
 * To be called when the descriptor is readable; does not block. True once per settled change: time
 * to load again. One thread.
 */
bool flat_watch_changed(struct flat_watch *watch);

/**
 * Where files are named: those, and the folders, that changed while nothing else did, since it was called last; in `names`, of
 * FLAT_WATCH_NAMES_MAX, the caller's to free. How many; 0 too where a change is about to be reported, which is about them too.
 */
size_t flat_watch_take(struct flat_watch *watch, char **names);

/** As if something had changed that has no name: it is reported when it has been quiet. */
void flat_watch_touch(struct flat_watch *watch);

#endif
