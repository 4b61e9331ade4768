#include "offload/offload.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"

#define DIRECTORY_TABLE_BYTES (16U << 20)
/* How often sessions that never said HELLO are looked for, ms. */
#define TICK_MS 500

int64_t flat_now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void add_name(struct flat_directory_name *v, size_t *n, const struct flat_service *s)
{
	struct flat_ip ip;
	if (s->host[0] == '*' || flat_service_resolve(s, &ip) != 0)
		return;
	v[*n].host = s->host;
	v[*n].addr = (struct flat_addr){.family = ip.family};
	memcpy(v[*n].addr.ip, ip.bytes, 16);
	(*n)++;
}

static size_t add_service(struct flat_directory_addr *v, const struct flat_service *s)
{
	size_t n = 0;
	for (uint32_t a = 0; a < s->n_addresses; a++) {
		if (!flat_cidr_is_host(&s->addresses[a]))
			continue;
		for (uint32_t p = 0; p < s->n_ports; p++) {
			v[n].kind = FLAT_DIRECTORY_SERVICE;
			v[n].addr.family = s->addresses[a].ip.family;
			v[n].addr.port = s->ports[p].number;
			memcpy(v[n].addr.ip, s->addresses[a].ip.bytes, 16);
			n++;
		}
	}
	return n;
}

static uint32_t directory_flags(const struct flat_offload *o)
{
	struct flat_decided_by by;
	if (flat_mesh_egress(o->mesh, NULL, &by) == FLAT_EGRESS_REGISTRY_ONLY)
		return FLAT_DIRECTORY_ASK_ALL;
	for (uint32_t i = 0; i < flat_mesh_n_workloads(o->mesh); i++) {
		if (flat_mesh_egress(o->mesh, flat_mesh_workload_at(o->mesh, i), &by) ==
		    FLAT_EGRESS_REGISTRY_ONLY)
			return FLAT_DIRECTORY_ASK_ALL;
	}
	return 0;
}

void flat_offload_publish(struct flat_offload *o)
{
	static const uint8_t zero[16];
	size_t max = 0;
	size_t n = 0;
	size_t n_names = 0;
	uint32_t services = flat_mesh_n_services(o->mesh);
	struct flat_listener *l;
	for (uint32_t i = 0; i < services; i++) {
		const struct flat_service *s = flat_mesh_service(o->mesh, i);
		max += (size_t)s->n_addresses * s->n_ports;
	}
	TAILQ_FOREACH(l, &o->listeners, link)
	max++;
	struct flat_directory_addr *addrs = calloc(max + 1, sizeof(*addrs));
	struct flat_directory_name *names = calloc((size_t)services + 1, sizeof(*names));
	int err = addrs && names ? 0 : -ENOMEM;
	for (uint32_t i = 0; i < services && err == 0; i++) {
		const struct flat_service *s = flat_mesh_service(o->mesh, i);
		n += add_service(addrs + n, s);
		add_name(names, &n_names, s);
	}
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (err != 0)
			break;
		addrs[n].kind = FLAT_DIRECTORY_LISTENER;
		addrs[n].addr = l->addr;
		if (memcmp(l->addr.ip, zero, 16) == 0)
			addrs[n].addr.family = 0;
		n++;
	}
	if (err == 0)
		err = flat_directory_publish(o->directory, addrs, n, names, n_names,
					     directory_flags(o));
	if (err != 0)
		flat_error("the directory could not be published: %s", strerror(-err));
	free(addrs);
	free(names);
}

static void print_diags(const struct flat_diags *diags)
{
	for (uint32_t i = 0; i < diags->n; i++) {
		const struct flat_diag *d = &diags->v[i];
		flat_log(d->severity == FLAT_SEVERITY_ERROR ? FLAT_LOG_ERROR : FLAT_LOG_WARN,
			 "%s:%u:%u: %s%s%s", d->where.file ? d->where.file : "-", d->where.line,
			 d->where.col, d->what, d->todo ? "; " : "", d->todo ? d->todo : "");
	}
}

static int load(struct flat_offload *o)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;
	int err = flat_config_reload(o->paths, o->n_paths, o->mesh, &mesh, &diags);
	print_diags(&diags);
	flat_diags_fini(&diags);
	if (err != 0) {
		o->stats.config_errors++;
		return err;
	}
	uint32_t n = flat_mesh_n_services(mesh) * 8;
	struct flat_balance_state *balance = calloc((size_t)n + 1, sizeof(*balance));
	if (!balance) {
		flat_mesh_put(mesh);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < o->n_balance; i++)
		flat_balance_fini(&o->balance[i]);
	free(o->balance);
	o->balance = balance;
	o->n_balance = n;
	struct flat_mesh *old = o->mesh;
	o->mesh = mesh;
	struct flat_session *s;
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (s->greeted)
			flat_session_identify(s);
	}
	flat_mesh_put(old);
	o->epoch++;
	return 0;
}

void flat_offload_reload(struct flat_offload *o)
{
	struct flat_conn *c;
	struct flat_conn *next;
	char reason[512];
	if (load(o) != 0) {
		flat_error("the configuration was refused; the one before stays in force");
		return;
	}
	flat_info("configuration %llu is in force", (unsigned long long)o->epoch);
	flat_offload_publish(o);
	for (c = TAILQ_FIRST(&o->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->cut_errno || flat_still_allowed(o, c, reason, sizeof(reason)))
			continue;
		o->stats.revoked++;
		flat_conn_cut(c, ECONNRESET, reason);
	}
}

static void on_watch(struct flat_source *source, int result)
{
	struct flat_offload *o = FLAT_CONTAINER_OF(source, struct flat_offload, watch_source);
	(void)result;
	if (flat_watch_changed(o->watch))
		flat_offload_reload(o);
}

static void on_connect(struct flat_source *source, int result)
{
	struct flat_offload *o = FLAT_CONTAINER_OF(source, struct flat_offload, control);
	if (result >= 0)
		flat_session_open(o, result);
}

static int listen_control(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	memcpy(un.sun_path, path, strlen(path) + 1);
	int fd = flat_sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	/* Somebody answers there: not ours to take. */
	if (flat_sys_connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0) {
		close(fd);
		return -EADDRINUSE;
	}
	unlink(path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || chmod(path, 0666) != 0 ||
	    listen(fd, SOMAXCONN) != 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

int flat_offload_open(struct flat_offload *o, const char *control_path, const char *const *paths,
		      size_t n_paths)
{
	memset(o, 0, sizeof(*o));
	TAILQ_INIT(&o->sessions);
	TAILQ_INIT(&o->listeners);
	TAILQ_INIT(&o->conns);
	TAILQ_INIT(&o->hot);
	TAILQ_INIT(&o->lanes);
	/* Lane ids are remembered by applications: a successor must not repeat them. */
	o->next_id = (uint64_t)flat_now_us() << 8;
	o->paths = paths;
	o->n_paths = n_paths;
	int err = flat_loop_init(&o->loop);
	if (err != 0) {
		flat_error("io_uring is not to be had (%s): allow io_uring_setup for flatd",
			   strerror(-err));
		return err;
	}
	err = load(o);
	if (err == 0)
		err = flat_directory_create(&o->directory, DIRECTORY_TABLE_BYTES);
	if (err != 0)
		return err;
	flat_offload_publish(o);
	int fd = listen_control(control_path);
	if (fd < 0) {
		flat_error("control socket %s: %s%s", control_path, strerror(-fd),
			   fd == -EADDRINUSE ? "; another flatd answers there" : "");
		return fd;
	}
	err = flat_loop_accept(&o->loop, &o->control, fd, on_connect);
	if (err == 0)
		err = flat_admin_open(o, control_path);
	if (err == 0 && n_paths > 0)
		err = flat_watch_open(paths, n_paths, &o->watch);
	if (err == 0 && o->watch)
		err = flat_loop_poll(&o->loop, &o->watch_source, flat_watch_fd(o->watch), POLLIN,
				     on_watch);
	return err;
}

static bool somebody_is_silent(const struct flat_offload *o)
{
	const struct flat_session *s;
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (!s->greeted)
			return true;
	}
	return false;
}

void flat_offload_run(struct flat_offload *o)
{
	while (!o->stop) {
		if (o->reload) {
			o->reload = false;
			flat_offload_reload(o);
		}
		if (flat_forward_turn(o)) {
			/* The yield is also when io_uring's completions of this thread are run. */
			flat_sys_yield();
			flat_loop_turn(&o->loop, 0);
			if (o->doomed)
				flat_sessions_reap(o);
			continue;
		}
		flat_loop_turn(&o->loop, somebody_is_silent(o) ? TICK_MS : -1);
		flat_sessions_reap(o);
	}
}

void flat_offload_close(struct flat_offload *o)
{
	struct flat_conn *c;
	struct flat_listener *l;
	struct flat_session *s;
	while ((l = TAILQ_FIRST(&o->listeners)) != NULL)
		flat_listener_close(l);
	while ((c = TAILQ_FIRST(&o->conns)) != NULL)
		flat_conn_destroy(c);
	while ((s = TAILQ_FIRST(&o->sessions)) != NULL)
		flat_session_close(s, NULL);
	flat_admin_close(o);
	flat_directory_destroy(o->directory);
	flat_watch_close(o->watch);
	for (uint32_t i = 0; i < o->n_balance; i++)
		flat_balance_fini(&o->balance[i]);
	free(o->balance);
	flat_mesh_put(o->mesh);
	flat_loop_fini(&o->loop);
}
