/*
 * Loading the configuration again, in a thread of its own: what flatd does for applications goes on meanwhile. Whole or not
 * at all; what changes while one is read is read after it. Where nothing but endpoints of Services changed, in files that are
 * known by name, these alone are read and put in force (control/config.h, flat_config_patch()).
 */
#ifndef FLAT_OFFLOAD_RELOAD_H
#define FLAT_OFFLOAD_RELOAD_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/diag.h"
#include "control/config.h"
#include "control/watch.h"
#include "offload/loop.h"
#include "offload/publish.h"

struct flat_mesh;
struct flat_offload;

enum flat_reload_state {
	FLAT_RELOAD_LOADING, /* the rest is the thread's */
	FLAT_RELOAD_LOADED,  /* the control thread's, which says by `taken` that it is done */
	FLAT_RELOAD_OVER,    /* the thread ends */
};

struct flat_reload {
	struct flat_offload *offload; /* NULL: not open */
	pthread_t thread;
	struct flat_source said; /* eventfd: the state is another */
	struct flat_names *names;
	struct flat_config_cache *cache;
	struct flat_source answered; /* by who resolves them: one is another */
	sem_t taken;
	_Atomic int state;	  /* enum flat_reload_state */
	struct flat_mesh *before; /* the thread's reference to the one in force */
	struct flat_mesh *mesh;	  /* what was loaded; NULL: nothing */
	struct flat_listing
	    listing;	   /* of what was loaded; without addrs: as before, or no memory */
	bool same_listing; /* the directory says all that it would */
	char *files[FLAT_WATCH_NAMES_MAX]; /* names of those that a patch is to be made of */
	size_t n_files;			   /* 0: a load */
	struct flat_config_patches patches;
	bool anew;   /* the next load makes a mesh even where nothing changed */
	bool making; /* likewise the one that runs */
	struct flat_diags diags;
	int err;
	bool running; /* the thread is to be joined */
	bool put;     /* what it loaded was dealt with */
	bool again;   /* asked for while it ran */
};

/** Loads the first one, in the caller's thread. 0 or a negative errno, explained in the log. */
FLAT_MUST_CHECK int flat_reload_open(struct flat_offload *o);
/** Loads it again: whole, or the old one stays. Cuts what is no longer allowed, once it is loaded. */
void flat_reload_begin(struct flat_offload *o);
/** Files that the watch names changed. */
void flat_reload_files(struct flat_offload *o);
/** Likewise, and reads each file whatever is known of it; a configuration of its own even where nothing changed. */
void flat_reload_whole(struct flat_offload *o);
/** Waits for the thread. */
void flat_reload_close(struct flat_offload *o);

#endif
