/*
 * The configuration again. A large one takes a third of a second to read: a thread of its own does it, and frees the one that
 * went; the control thread only puts the new one in force, between two turns of its loop.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "base/thread.h"
#include "control/config.h"
#include "control/names.h"
#include "mesh/build.h"
#include "offload/admit.h"
#include "offload/capture.h"
#include "offload/gateway.h"
#include "offload/health.h"
#include "offload/l7.h"
#include "offload/offload.h"
#include "offload/origin.h"
#include "offload/peers.h"

/* How long the first names are waited for, ms. */
#define NAMES_MS 2000

static void print_diags(const struct flat_diags *diags)
{
	for (uint32_t i = 0; i < diags->n; i++) {
		const struct flat_diag *d = &diags->v[i];
		flat_log(d->severity == FLAT_SEVERITY_ERROR ? FLAT_LOG_ERROR : FLAT_LOG_WARN,
			 "%s:%u:%u: %s%s%s", d->where.file ? d->where.file : "-", d->where.line,
			 d->where.col, d->what, d->todo ? "; " : "", d->todo ? d->todo : "");
	}
}

/* --- in the thread --- */

static void load(struct flat_reload *r)
{
	const struct flat_config_sources from = {.paths = r->offload->paths,
						 .n_paths = r->offload->n_paths,
						 .previous = r->before,
						 .names = r->names,
						 .cache = r->cache,
						 .anew = r->making};
	r->mesh = NULL;
	r->err = flat_config_reload(&from, &r->mesh, &r->diags);
}

static void patch(struct flat_reload *r)
{
	r->err = flat_config_patch(r->cache, r->before, (const char *const *)r->files, r->n_files,
				   &r->patches, &r->diags);
}

/* What applications are to be told, and whether it is anything new. */
static void list(struct flat_reload *r)
{
	struct flat_listing before;
	r->same_listing = false;
	if (r->err != 0 || flat_listing_make(&r->listing, r->mesh) != 0)
		return;
	if (flat_listing_make(&before, r->before) != 0)
		return;
	r->same_listing = flat_listing_same(&before, &r->listing);
	flat_listing_fini(&before);
}

static void say(struct flat_reload *r, enum flat_reload_state state)
{
	uint64_t one = 1;
	/* release: what the thread wrote is there for who reads the state */
	atomic_store_explicit(&r->state, state, memory_order_release);
	(void)flat_sys_write(r->said.fd, &one, sizeof(one));
}

static void *in_thread(void *arg)
{
	struct flat_reload *r = arg;
	if (r->n_files > 0) {
		patch(r);
	} else {
		load(r);
		list(r);
	}
	say(r, FLAT_RELOAD_LOADED);
	while (sem_wait(&r->taken) != 0)
		;
	flat_listing_fini(&r->listing);
	/* Most often the last reference. */
	flat_mesh_put(r->before);
	r->before = NULL;
	say(r, FLAT_RELOAD_OVER);
	return NULL;
}

/* --- in the control thread --- */

static void tell_diags(struct flat_reload *r, bool print)
{
	if (print)
		print_diags(&r->diags);
	flat_diags_fini(&r->diags);
	r->diags = (struct flat_diags){0};
}

/* The mesh that was loaded, or nothing where that failed. 0 or the negative errno of the loading; FLAT_CONFIG_SAME. */
static int take(struct flat_reload *r)
{
	struct flat_offload *o = r->offload;
	struct flat_session *s;
	tell_diags(r, true);
	if (r->err != 0) {
		o->stats.config_errors += r->err != FLAT_CONFIG_SAME;
		return r->err;
	}
	struct flat_mesh *old = o->mesh;
	o->mesh = r->mesh;
	r->mesh = NULL;
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (s->greeted)
			flat_session_identify(s);
	}
	TAILQ_FOREACH(s, &o->ghosts, link)
	flat_session_identify(s);
	flat_l7_bounds_reloaded(o);
	flat_balance_keep(o);
	flat_l7_reloaded(o);
	flat_origins_forget(o);
	o->epoch++;
	/* Before what is checked, and by what, is freed. */
	flat_health_reloaded(o);
	flat_mesh_put(old);
	return 0;
}

/* Ends connections that are not allowed any more: all of them are looked at, or those to an endpoint that came or went. */
static void police(struct flat_offload *o, const struct flat_mesh_patch *patch)
{
	struct flat_conn *c;
	struct flat_conn *next;
	char reason[512];
	for (c = TAILQ_FIRST(&o->conns); c; c = next) {
		struct flat_ip ip = flat_addr_ip(&c->target);
		next = TAILQ_NEXT(c, link);
		if (c->cut || (patch && !flat_mesh_patch_touches(patch, &ip, c->target.port)) ||
		    flat_still_allowed(o, c, reason, sizeof(reason)))
			continue;
		o->stats.revoked++;
		flat_conn_cut(c, ECONNRESET, reason);
	}
}

/* 0, or -ENOMEM: it takes a load. */
static int put_patch(struct flat_offload *o, struct flat_mesh_patch *patch)
{
	const struct flat_service *s = patch->service;
	int err = flat_mesh_patch(o->mesh, patch);
	if (err != 0) {
		flat_mesh_patch_free(patch);
		return err;
	}
	o->stats.endpoint_changes++;
	if (s->health)
		flat_health_moved(o);
	flat_offload_renew(o);
	police(o, patch);
	flat_mesh_patch_told(patch);
	flat_info("endpoints of service %s are others", s->host);
	return 0;
}

/* What became of files that were named. */
static void put_patches(struct flat_offload *o)
{
	struct flat_reload *r = &o->reloading;
	int err = r->err;
	/* What a load says is not said twice. */
	tell_diags(r, err == 0);
	for (size_t i = 0; i < r->patches.n; i++) {
		int failed = put_patch(o, r->patches.v[i]);
		if (failed != 0)
			flat_config_cache_forget(r->cache);
		err = failed ? failed : err;
	}
	free(r->patches.v);
	r->patches = (struct flat_config_patches){.n = 0};
	while (r->n_files > 0)
		free(r->files[--r->n_files]);
	if (err != 0)
		flat_watch_touch(o->watch);
}

/* What was loaded is in force, for what there is too. */
static void put_in_force(struct flat_offload *o)
{
	int err = take(&o->reloading);
	if (err != 0) {
		if (err == FLAT_CONFIG_SAME)
			flat_info("configuration %llu stays in force: nothing of it changed",
				  (unsigned long long)o->epoch);
		else
			flat_error("the configuration was refused; the one before stays in force");
		return;
	}
	flat_peers_reload(o);
	flat_gateways_reload(o);
	if (flat_captures_reload(o) != 0)
		o->stats.config_errors++;
	flat_info("configuration %llu is in force", (unsigned long long)o->epoch);
	if (o->reloading.same_listing)
		flat_offload_renew(o);
	else
		flat_offload_publish(o, o->reloading.listing.addrs ? &o->reloading.listing : NULL);
	police(o, NULL);
}

static bool start(struct flat_reload *r)
{
	r->before = flat_mesh_get(r->offload->mesh);
	atomic_store(&r->state, FLAT_RELOAD_LOADING);
	r->running = flat_thread_start(&r->thread, NULL, in_thread, r) == 0;
	if (!r->running)
		flat_mesh_put(r->before);
	return r->running;
}

void flat_reload_begin(struct flat_offload *o)
{
	struct flat_reload *r = &o->reloading;
	/* What it has read may be older than the change that is told now. */
	r->again = r->running;
	if (r->running)
		return;
	r->making = r->anew;
	r->anew = false;
	if (start(r))
		return;
	/* No thread to be had: then nobody else moves meanwhile. */
	r->before = o->mesh;
	load(r);
	list(r);
	r->before = NULL;
	put_in_force(o);
	flat_listing_fini(&r->listing);
}

void flat_reload_files(struct flat_offload *o)
{
	struct flat_reload *r = &o->reloading;
	if (r->running || !o->watch)
		return;
	r->n_files = flat_watch_take(o->watch, r->files);
	if (r->n_files == 0 || start(r))
		return;
	/* No thread to be had. */
	r->err = -EAGAIN;
	put_patches(o);
}

void flat_reload_whole(struct flat_offload *o)
{
	o->reloading.anew = true;
	if (o->reloading.cache)
		flat_config_cache_forget(o->reloading.cache);
	flat_reload_begin(o);
}

static void on_said(struct flat_source *source, int events)
{
	struct flat_reload *r = FLAT_CONTAINER_OF(source, struct flat_reload, said);
	uint64_t count;
	(void)events;
	(void)flat_sys_read(source->fd, &count, sizeof(count));
	/* acquire: pairs with the release in say() */
	int state = atomic_load_explicit(&r->state, memory_order_acquire);
	if (state != FLAT_RELOAD_LOADING && !r->put) {
		r->put = true;
		if (r->n_files > 0)
			put_patches(r->offload);
		else
			put_in_force(r->offload);
		sem_post(&r->taken);
	}
	if (state != FLAT_RELOAD_OVER)
		return;
	pthread_join(r->thread, NULL);
	r->running = r->put = false;
	if (r->again)
		flat_reload_begin(r->offload);
	else
		flat_reload_files(r->offload);
}

static void on_answered(struct flat_source *source, int events)
{
	struct flat_reload *r = FLAT_CONTAINER_OF(source, struct flat_reload, answered);
	(void)events;
	if (!flat_names_changed(r->names))
		return;
	r->anew = true;
	flat_reload_begin(r->offload);
}

static int open_sources(struct flat_reload *r)
{
	struct flat_loop *loop = &r->offload->loop;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int err = fd < 0 ? -errno : flat_loop_poll(loop, &r->said, fd, POLLIN, on_said);
	if (err == 0)
		err = flat_names_open(&r->names);
	if (err == 0)
		err = flat_loop_poll(loop, &r->answered, flat_names_fd(r->names), POLLIN,
				     on_answered);
	return err;
}

int flat_reload_open(struct flat_offload *o)
{
	struct flat_reload *r = &o->reloading;
	r->offload = o;
	if (sem_init(&r->taken, 0, 0) != 0)
		return -errno;
	int err = open_sources(r);
	if (err != 0)
		return err;
	err = flat_config_cache_open(FLAT_CONFIG_SETTLE_S, &r->cache);
	if (err != 0)
		return err;
	load(r);
	err = take(r);
	if (err != 0)
		return err;
	/* Whoever is served at once finds the servers that have names. */
	flat_names_wait(r->names, NAMES_MS);
	if (!flat_names_changed(r->names))
		return 0;
	r->before = o->mesh;
	r->making = true;
	load(r);
	r->before = NULL;
	return take(r);
}

void flat_reload_close(struct flat_offload *o)
{
	struct flat_reload *r = &o->reloading;
	if (!r->offload)
		return;
	if (r->running) {
		if (!r->put)
			sem_post(&r->taken);
		pthread_join(r->thread, NULL);
		flat_mesh_put(r->mesh);
		for (size_t i = 0; i < r->patches.n; i++)
			flat_mesh_patch_free(r->patches.v[i]);
		free(r->patches.v);
		while (r->n_files > 0)
			free(r->files[--r->n_files]);
		flat_diags_fini(&r->diags);
	}
	(void)sem_destroy(&r->taken);
	if (r->names)
		flat_loop_del(&o->loop, &r->answered);
	flat_names_close(r->names);
	flat_config_cache_close(r->cache);
	flat_loop_del(&o->loop, &r->said);
	if (r->said.fd > 0)
		close(r->said.fd);
}
