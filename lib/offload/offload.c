#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/asking.h"
#include "offload/audit.h"
#include "offload/capture.h"
#include "offload/gateway.h"
#include "offload/handover.h"
#include "offload/health.h"
#include "offload/l7.h"
#include "offload/l7_end.h"
#include "offload/origin.h"
#include "offload/peers.h"
#include "offload/persist.h"
#include "offload/telling.h"
#include "offload/tube.h"

/* A predecessor that is ending has so many looks, with a pause between them, ms. */
#define TAKE_OVER_LOOKS 20
#define TAKE_OVER_MS 25
#define DIRECTORY_TABLE_BYTES (16U << 20)
/* How often sessions that never said HELLO are looked for, ms. */
#define TICK_MS 500

static void on_watch(struct flat_source *source, int result)
{
	struct flat_offload *o = FLAT_CONTAINER_OF(source, struct flat_offload, watch_source);
	(void)result;
	if (flat_watch_changed(o->watch))
		flat_reload_begin(o);
	else
		flat_reload_files(o);
}

static void on_connect(struct flat_source *source, int result)
{
	struct flat_offload *o = FLAT_CONTAINER_OF(source, struct flat_offload, control);
	if (result >= 0)
		flat_session_open(o, result);
}

/*
 * Whether a living process answers on the control socket. One that was killed may seem to for a moment: io_uring lets go of
 * its files only after the process has ended.
 */
static bool somebody_serves(const struct sockaddr_un *un)
{
	struct ucred cred = {.pid = 0};
	socklen_t len = sizeof(cred);
	int fd = flat_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool serves = flat_sys_connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0;
	/* pid 0: of another pid namespace, of which nothing can be told. */
	if (serves && flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	    cred.pid > 0 && kill(cred.pid, 0) != 0 && errno == ESRCH)
		serves = false;
	close(fd);
	return serves;
}

static int listen_control(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, path, strlen(path) + 1);
	/* Somebody answers there: not ours to take. */
	for (int i = 0; somebody_serves(&un); i++) {
		if (i == TAKE_OVER_LOOKS)
			return -EADDRINUSE;
		(void)poll(NULL, 0, TAKE_OVER_MS);
	}
	int fd = flat_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || chmod(path, 0666) != 0 ||
	    listen(fd, SOMAXCONN) != 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* The control socket of who serves there. -ENOENT: nobody does, or it is not asked for. */
static int take_over(struct flat_offload *o, const char *control_path)
{
	if (!o->take_over)
		return -ENOENT;
	int err = flat_handover_ask(&o->handover, control_path);
	if (err == -ENOENT)
		flat_info("nobody serves on %s: nothing to take over", control_path);
	else if (err != 0)
		flat_error("the flatd on %s does not hand over: %s", control_path, strerror(-err));
	return err != 0 ? err : flat_handover_control(o->handover);
}

/* The default port may be another flatd's; one that was asked for must be had. */
static int open_metrics(struct flat_offload *o)
{
	int err = flat_metrics_open(o, o->metrics_addr);
	return err == -EADDRINUSE && !o->metrics_asked ? 0 : err;
}

static void on_signal(struct flat_source *source, int events)
{
	uint64_t count;
	(void)events;
	(void)flat_sys_read(source->fd, &count, sizeof(count));
}

void flat_offload_wake(struct flat_offload *o)
{
	uint64_t one = 1;
	if (o->wake.fd > 0)
		(void)flat_sys_write(o->wake.fd, &one, sizeof(one));
}

/* Everything that others come to; `fd` is the control socket. */
static int serve(struct flat_offload *o, const char *control_path, int fd)
{
	int err = flat_loop_accept(&o->loop, &o->control, fd, on_connect);
	if (err == 0 && o->handover)
		err = flat_handover_listeners(o->handover, o);
	if (err == 0 && o->metrics_addr)
		err = open_metrics(o);
	if (err == 0)
		err = flat_peers_open(o);
	if (err == 0 && o->gateway_name)
		err = flat_gateways_open(o);
	if (err == 0)
		err = flat_captures_reload(o);
	if (err == 0 && o->n_paths > 0)
		err = flat_watch_open(o->paths, o->n_paths, &o->watch);
	if (err == 0 && o->watch) {
		flat_watch_name_files(o->watch);
		err = flat_loop_poll(&o->loop, &o->watch_source, flat_watch_fd(o->watch), POLLIN,
				     on_watch);
	}
	/* Last: the predecessor answers under this name until it is told. */
	if (err == 0)
		err = flat_admin_open(o, control_path);
	if (err == 0)
		err = flat_handover_done(o->handover);
	else
		flat_handover_drop(o->handover);
	o->handover = NULL;
	if (err == 0)
		err = flat_admin_serve();
	if (err != 0)
		flat_admin_close(o);
	return err;
}

int flat_offload_open(struct flat_offload *o, const char *control_path, const char *const *paths,
		      size_t n_paths)
{
	struct rlimit fds;
	o->control.fd = -1;
	o->fds_max = getrlimit(RLIMIT_NOFILE, &fds) == 0 ? fds.rlim_cur : 0;
	o->started_s = (int64_t)time(NULL);
	TAILQ_INIT(&o->sessions);
	TAILQ_INIT(&o->listeners);
	TAILQ_INIT(&o->conns);
	TAILQ_INIT(&o->ghosts);
	TAILQ_INIT(&o->ready);
	TAILQ_INIT(&o->half_open);
	TAILQ_INIT(&o->reminders);
	TAILQ_INIT(&o->lanes);
	TAILQ_INIT(&o->settling);
	TAILQ_INIT(&o->strangers);
	TAILQ_INIT(&o->doomed);
	flat_rests_init(&o->rests);
	if (getrandom(o->own_persist_key, sizeof(o->own_persist_key), 0) !=
	    (ssize_t)sizeof(o->own_persist_key))
		return -errno;
	flat_persist_settle(o);
	/* Lane ids are remembered by applications: a successor must not repeat them. */
	o->next_id = (uint64_t)flat_now_us() << 8;
	o->paths = paths;
	o->n_paths = n_paths;
	int err = flat_loop_init(&o->loop);
	if (err != 0) {
		flat_error("no event loop is to be had: %s", strerror(-err));
		return err;
	}
	if (o->loop.epoll)
		flat_info("io_uring is forbidden here: epoll does its work, with more system "
			  "calls; allow io_uring_setup to flatd for its full speed");
	int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = wake < 0 ? -errno : flat_loop_poll(&o->loop, &o->wake, wake, POLLIN, on_signal);
	if (err != 0)
		return err;
	err = flat_workers_open(&o->workers, o->n_workers ? o->n_workers : 1, &o->loop);
	if (err != 0)
		flat_error("%u workers could not be started: %s", o->n_workers, strerror(-err));
	if (err == 0)
		o->audit = flat_audit_open(o->audit_path);
	if (err == 0)
		err = flat_l7_init(o, o->access_log);
	if (err == 0)
		err = flat_health_open(o);
	if (err == 0)
		err = flat_reload_open(o);
	if (err == 0)
		err = flat_directory_create(&o->directory, DIRECTORY_TABLE_BYTES);
	if (err == 0)
		err = flat_directory_reign(o->directory, o->next_id);
	if (err != 0)
		return err;
	flat_offload_publish(o, NULL);
	while (flat_pairs_fill(&o->pairs))
		;
	int fd = take_over(o, control_path);
	if (fd < 0)
		fd = fd == -ENOENT ? listen_control(control_path) : fd;
	if (fd < 0) {
		flat_error("control socket %s: %s%s", control_path, strerror(-fd),
			   fd == -EADDRINUSE ? "; another flatd answers there" : "");
		return fd;
	}
	return serve(o, control_path, fd);
}

/* Connections whose bytes are all moved. */
static void reap(struct flat_offload *o)
{
	struct flat_pipe *p;
	while ((p = flat_workers_finished(&o->workers)) != NULL)
		flat_conn_destroy(p->conn);
	if (!TAILQ_EMPTY(&o->doomed))
		flat_sessions_reap(o);
}

static int sooner(int a, int b)
{
	return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* What happens by time. Returns how long the loop may sleep, ms; -1: for ever. */
static int by_time(struct flat_offload *o)
{
	o->tick_ms = flat_now_us() / 1000;
	flat_sessions_reap(o);
	flat_conns_expire(o);
	flat_conns_remind(o, o->tick_ms);
	int wait = sooner(flat_sessions_wait_ms(o), flat_metrics_expire(o));
	wait = sooner(wait, flat_l7_wait_ms(o));
	wait = sooner(wait, flat_peers_wait_ms(o));
	wait = sooner(wait, flat_admin_expire(o));
	wait = sooner(wait, flat_health_wait_ms(o));
	wait = sooner(wait, flat_captures_expire(o));
	wait = sooner(wait, flat_telling_wait_ms());
	wait = sooner(wait, flat_askings_wait_ms(o));
	if (!TAILQ_EMPTY(&o->reminders))
		wait = sooner(wait, FLAT_REMIND_MS);
	return TAILQ_EMPTY(&o->half_open) ? wait : sooner(wait, TICK_MS);
}

/* How long the control thread looks on after something happened, microseconds. */
#define LINGER_US 50

/* Retired, and of no more use to anybody. */
static bool is_over(struct flat_offload *o)
{
	return o->retired && o->n_conns == 0 && o->loop.n_ending == 0 &&
	       flat_captures_expire(o) < 0 && flat_sessions_leave(o);
}

/* False: somebody has something. Either way flat_rests_wake() follows. */
static bool may_sleep(struct flat_offload *o)
{
	flat_l7_ends_tell();
	return flat_rests_sleep(&o->rests);
}

void flat_offload_run(struct flat_offload *o)
{
	int64_t lately_us = 0;
	while (!o->stop && !is_over(o)) {
		if (o->reload) {
			o->reload = false;
			flat_reload_whole(o);
		}
		if (o->reopen) {
			o->reopen = false;
			flat_l7_reopen(o);
		}
		/* Busy for long: what goes by time has its turn all the same. */
		int64_t now_us = flat_now_us();
		int64_t now_ms = now_us / 1000;
		if (now_ms - o->tick_ms > TICK_MS)
			(void)by_time(o);
		flat_conns_remind(o, now_ms);
		bool news = flat_rests_look(&o->rests, now_us);
		bool busy = flat_worker_turn(&o->workers.v[0]);
		busy |= flat_l7_turn(o, news);
		busy |= flat_sessions_turn(o);
		busy |= flat_peers_turn(o) || !TAILQ_EMPTY(&o->settling);
		reap(o);
		/* Made while nobody waits: as many as a connection took. */
		if (!busy && flat_pairs_fill(&o->pairs))
			(void)flat_pairs_fill(&o->pairs);
		/* Who asked is about to connect, or to go, again: that takes less than a wake-up costs. */
		busy |= !o->workers.v[0].crowded_us && flat_now_us() - lately_us < LINGER_US;
		if (busy)
			flat_worker_yield(&o->workers.v[0]);
		if (flat_loop_turn(&o->loop, busy || !may_sleep(o) ? 0 : by_time(o)) > 0)
			lately_us = flat_now_us();
		flat_sessions_settle(o);
		if (!busy)
			flat_rests_wake(&o->rests);
	}
}

void flat_offload_close(struct flat_offload *o)
{
	struct flat_conn *c;
	struct flat_listener *l;
	struct flat_session *s;
	flat_reload_close(o);
	flat_workers_close(&o->workers);
	flat_peers_close(o);
	while ((c = TAILQ_FIRST(&o->conns)) != NULL)
		flat_conn_destroy(c);
	while ((l = TAILQ_FIRST(&o->listeners)) != NULL)
		flat_listener_close(l);
	while ((s = TAILQ_FIRST(&o->sessions)) != NULL)
		flat_session_close(s, NULL);
	flat_gateways_close(o);
	flat_captures_close(o);
	flat_origins_forget(o);
	flat_askings_close(o);
	flat_l7_fini(o);
	flat_health_close(o);
	flat_audit_close(o->audit);
	flat_metrics_close(o);
	flat_admin_close(o);
	flat_directory_destroy(o->directory);
	flat_watch_close(o->watch);
	flat_pairs_fini(&o->pairs);
	flat_tubes_spare_fini();
	flat_balance_free(o);
	flat_index_fini(&o->conn_ids);
	flat_index_fini(&o->anchors);
	flat_index_fini(&o->listener_anchors);
	flat_index_fini(&o->processes);
	flat_index_fini(&o->ended);
	flat_index_fini(&o->accounts);
	flat_series_fini(&o->series);
	flat_measures_fini(&o->measures);
	flat_mesh_put(o->mesh);
	flat_loop_del(&o->loop, &o->control);
	if (o->control.fd >= 0)
		close(o->control.fd);
	if (o->wake.fd > 0)
		close(o->wake.fd);
	flat_loop_fini(&o->loop);
	flat_telling_fini();
}
