#include "offload/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "control/cgroup.h"
#include "offload/admit.h"
#include "offload/capture_bpf.h"
#include "offload/capture_dns.h"
#include "offload/capture_in.h"
#include "offload/capture_in_bpf.h"

#define BACKLOG 4096
/* Type of a handle that is the id of a cgroup (FILEID_KERNFS, include/linux/exportfs.h). */
#define HANDLE_CGROUP 0xfe
/* Another process may remove a cgroup between two of our calls. */
#define TRIES 16

/* One cgroup of a confined workload. */
struct capture {
	TAILQ_ENTRY(capture) link;
	struct flat_captures *all;
	char *path; /* as its selector has it */
	uint64_t id;
	struct flat_capture_bpf bpf;
	struct flat_dns_client dns;
	struct flat_in_cgroup *in; /* its servers; NULL: not yet */
	bool wanted;
};

/* 127.0.0.1, or ::1. */
struct port {
	struct flat_source tcp; /* fd -1: none */
	struct flat_captures *all;
};

struct flat_captures {
	struct flat_offload *offload;
	struct port ports[2];
	struct flat_dns *dns;
	struct flat_source watch; /* inotify: folders in which our cgroups are */
	struct flat_cgroup_mount mount;
	TAILQ_HEAD(, capture) list;
};

/* --- who comes --- */

bool flat_captures_path(const struct flat_offload *o, uint64_t id, char path[PATH_MAX])
{
	const struct flat_captures *all = o->captures;
	struct {
		struct file_handle h;
		uint64_t id;
	} handle = {.h = {.handle_bytes = sizeof(id), .handle_type = HANDLE_CGROUP}, .id = id};
	char link[64];
	char text[PATH_MAX];
	int mount = open(all->mount.mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = mount >= 0 ? open_by_handle_at(mount, &handle.h, O_PATH | O_CLOEXEC) : -1;
	ssize_t n = -1;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (fd >= 0)
		n = readlink(link, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (mount >= 0)
		close(mount);
	size_t base = strlen(all->mount.mount);
	if (n < (ssize_t)base || strncmp(text, all->mount.mount, base) != 0)
		return false;
	text[n] = 0;
	return snprintf(path, PATH_MAX, "%s%s", all->mount.root, text + base) < PATH_MAX;
}

struct flat_addr flat_capture_address(const struct flat_capture_record *r)
{
	static const struct in6_addr any4 = {{.__u6_addr8 = {[10] = 0xff, [11] = 0xff}}};
	struct flat_addr a = {.family = AF_INET6, .port = ntohs((uint16_t)r->port)};
	memcpy(a.ip, r->ip, sizeof(a.ip));
	/* No address is this host, as for the kernel. */
	if (memcmp(a.ip, &any4, sizeof(any4)) == 0)
		memcpy(a.ip + 12, (const uint8_t[]){127, 0, 0, 1}, 4);
	else if (memcmp(a.ip, &in6addr_any, sizeof(in6addr_any)) == 0)
		a.ip[15] = 1;
	flat_addr_unmap(&a);
	return a;
}

struct flat_capture_key flat_capture_key_of(const struct flat_addr *from)
{
	struct flat_capture_key key = {.port = from->port};
	if (from->family == AF_INET) {
		key.ip[2] = htonl(0xffff);
		memcpy(&key.ip[3], from->ip, 4);
	} else {
		memcpy(key.ip, from->ip, sizeof(key.ip));
	}
	return key;
}

struct flat_session *flat_capture_session(struct flat_dns_client *client,
					  const struct flat_capture_record *r)
{
	const struct capture *c = FLAT_CONTAINER_OF(client, struct capture, dns);
	char path[PATH_MAX];
	if (r->cgroup != c->id && !flat_captures_path(c->all->offload, r->cgroup, path))
		return NULL;
	return flat_session_captured(c->all->offload, (pid_t)r->pid, r->uid, r->gid,
				     r->cgroup == c->id ? c->path : path);
}

static void turn_away(struct flat_offload *o, int fd, const struct flat_addr *from,
		      const char *reason)
{
	flat_refuse(o, NULL, "confined process", from, FLAT_REFUSED_RESOURCES, reason);
	flat_sys_reset_at_close(fd);
	close(fd);
}

static void on_client(struct flat_source *source, int fd)
{
	struct flat_captures *all = FLAT_CONTAINER_OF(source, struct port, tcp)->all;
	struct flat_offload *o = all->offload;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct flat_question q = {0};
	struct flat_capture_record r;
	struct capture *c;
	if (fd < 0 || flat_captures_in_came(o, fd))
		return;
	memset(&ss, 0, sizeof(ss));
	if (FLAT_SYS3(SYS_getpeername, fd, &ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&q.from, (struct sockaddr *)&ss, len);
	flat_addr_unmap(&q.from);
	const struct flat_capture_key key = flat_capture_key_of(&q.from);
	TAILQ_FOREACH(c, &all->list, link)
	{
		if (flat_capture_bpf_take(&c->bpf, &key, &r))
			break;
	}
	if (!c) {
		turn_away(o, fd, &q.from, "it came to the port of confined workloads by itself");
		return;
	}
	q.to = flat_capture_address(&r);
	struct flat_session *s = flat_capture_session(&c->dns, &r);
	q.session = s;
	if (!s)
		turn_away(o, fd, &q.to, "its cgroup is gone, or flatd is out of memory");
	else if (flat_dns_takes(o, &q.to))
		flat_dns_stream(&c->dns, s, &q, fd);
	else
		flat_conn_captured(s, &q, fd);
}

/* --- what is confined --- */

static void capture_free(struct flat_captures *all, struct capture *c)
{
	TAILQ_REMOVE(&all->list, c, link);
	flat_dns_remove(&c->dns);
	flat_captures_in_drop(all->offload, c->in);
	flat_capture_bpf_close(&c->bpf);
	free(c->path);
	free(c);
}

/* A cgroup that is removed is made, and confined, again: what is started in it later finds it so. */
static void watch_parent(struct flat_captures *all, const char *below)
{
	char path[2 * PATH_MAX];
	snprintf(path, sizeof(path), "%s%s", all->mount.mount, below);
	*strrchr(path, '/') = 0;
	if (inotify_add_watch(all->watch.fd, path, IN_DELETE | IN_DELETE_SELF | IN_MOVED_FROM) < 0)
		flat_warn("%s is not watched: %s", path, strerror(errno));
}

/* Whether flatd is in it itself: it would wait for its own answers. */
static bool holds_us(const struct capture *c)
{
	char text[PATH_MAX + 8] = "";
	char *line = text;
	int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	size_t len = strlen(c->path);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	while (line && strncmp(line, "0::", 3) != 0) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return line && strncmp(line + 3, c->path, len) == 0 &&
	       (line[3 + len] == '/' || line[3 + len] == '\n');
}

/* Its folder, which stays: flat-run removes those that it made and that nobody runs in. */
static int open_cgroup(const struct flat_captures *all, const char *below, struct stat *st)
{
	int fd = flat_cgroup_open(all->mount.mount, below, false);
	if (fd < 0)
		return fd;
	/* Without the privilege for it (CAP_SYS_ADMIN) one that was removed is made again. */
	(void)fremovexattr(fd, FLAT_CGROUP_MARK);
	int err = fstat(fd, st) == 0 ? 0 : -errno;
	if (err == 0)
		return fd;
	close(fd);
	return err;
}

/* Puts the programs there, unless it is the cgroup that has them. */
static int confine_once(struct flat_captures *all, struct capture *c, const char *below, char *why,
			size_t size)
{
	struct flat_capture_bpf bpf = {0};
	struct stat st;
	int dir = open_cgroup(all, below, &st);
	if (dir < 0)
		snprintf(why, size, "its folder: %s", strerror(-dir));
	if (dir < 0 || c->id == st.st_ino) {
		if (dir >= 0)
			close(dir);
		return dir < 0 ? dir : 0;
	}
	struct flat_in_cgroup *in = NULL;
	int err = flat_capture_bpf_attach(&bpf, dir, all->offload->confine_port, why, size);
	if (err == 0)
		err = flat_captures_in_add(all->offload, &in, dir, st.st_ino, c->path, why, size);
	close(dir);
	if (err != 0) {
		flat_capture_bpf_close(&bpf);
		return err;
	}
	flat_captures_in_drop(all->offload, c->in);
	c->in = in;
	flat_capture_bpf_close(&c->bpf);
	c->bpf = bpf;
	c->id = st.st_ino;
	flat_info("cgroup %s is confined", c->path);
	return 0;
}

static int confine(struct flat_captures *all, struct capture *c, char *why, size_t size)
{
	const char *below = flat_cgroup_below(&all->mount, c->path);
	int err = -ENOENT;
	snprintf(why, size, "the cgroups that are mounted at %.400s do not have it",
		 all->mount.mount);
	if (below && holds_us(c)) {
		snprintf(why, size, "flatd runs in it itself");
		return -ELOOP;
	}
	for (int i = 0; below && i < TRIES && (err == -ENOENT || err == -ENODEV); i++)
		err = confine_once(all, c, below, why, size);
	if (err == 0)
		watch_parent(all, below);
	return err;
}

static void release(struct flat_captures *all, struct capture *c)
{
	const char *below = flat_cgroup_below(&all->mount, c->path);
	int dir = below ? flat_cgroup_open(all->mount.mount, below, false) : -ENOENT;
	int err = dir < 0 ? dir : flat_capture_bpf_detach(dir);
	if (err >= 0)
		err = flat_in_bpf_detach(dir);
	if (dir >= 0)
		close(dir);
	if (err < 0)
		flat_error("cgroup %s stays confined: %s", c->path, strerror(-err));
	else
		flat_info("cgroup %s is confined no more", c->path);
	capture_free(all, c);
	if (TAILQ_EMPTY(&all->list))
		flat_in_gate_unpin(all->offload->confine_port);
}

static struct capture *want(struct flat_captures *all, const char *path)
{
	struct capture *c;
	TAILQ_FOREACH(c, &all->list, link)
	{
		if (strcmp(c->path, path) == 0)
			break;
	}
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c || !(c->path = strdup(path)) ||
		    flat_dns_add(all->dns, &c->dns, &c->bpf) != 0) {
			if (c)
				free(c->path);
			free(c);
			return NULL;
		}
		c->all = all;
		TAILQ_INSERT_TAIL(&all->list, c, link);
	}
	c->wanted = true;
	return c;
}

static int confine_workload(struct flat_captures *all, const struct flat_workload *w)
{
	int first = 0;
	for (uint32_t i = 0; i < w->n_selectors; i++) {
		char why[1024] = "out of memory";
		struct capture *c = want(all, w->selectors[i].cgroup);
		int err = c ? confine(all, c, why, sizeof(why)) : -ENOMEM;
		if (err == 0)
			continue;
		flat_error("%s:%u: Workload %s/%s: cgroup %s is not confined: %s", w->where.file,
			   w->where.line, w->namespace, w->name, w->selectors[i].cgroup, why);
		if (err == -EPERM)
			flat_error("confined workloads want a flatd that runs as root, with "
				   "CAP_BPF and CAP_NET_ADMIN");
		first = first ? first : err;
	}
	return first;
}

/* A cgroup of the workload at which an earlier flatd has its programs; -1: there is none. */
static int find_earlier(const struct flat_captures *all, const struct flat_workload *w)
{
	for (uint32_t i = 0; w->confined && i < w->n_selectors; i++) {
		const char *below = flat_cgroup_below(&all->mount, w->selectors[i].cgroup);
		int dir = below ? flat_cgroup_open(all->mount.mount, below, false) : -1;
		if (dir >= 0 && flat_in_bpf_there(dir))
			return dir;
		if (dir >= 0)
			close(dir);
	}
	return -1;
}

/* What all confined servers share, once. */
static int open_in(struct flat_captures *all)
{
	const struct flat_mesh *mesh = all->offload->mesh;
	const int sockets[] = {all->ports[0].tcp.fd, all->ports[1].tcp.fd};
	char why[1024] = "out of memory";
	int dir = -1;
	if (all->offload->captures_in)
		return 0;
	for (uint32_t i = 0; dir < 0 && i < flat_mesh_n_workloads(mesh); i++)
		dir = find_earlier(all, flat_mesh_workload_at(mesh, i));
	int err = flat_captures_in_open(all->offload, dir, sockets, why, sizeof(why));
	if (dir >= 0)
		close(dir);
	if (err != 0)
		flat_error("servers of workloads are not confined: %s", why);
	if (err == -EPERM)
		flat_error("confined workloads want a flatd that runs as root, with CAP_BPF and "
			   "CAP_NET_ADMIN");
	return err;
}

static int confine_all(struct flat_captures *all)
{
	const struct flat_mesh *mesh = all->offload->mesh;
	struct capture *c;
	struct capture *next;
	int first = open_in(all);
	if (first != 0)
		return first;
	TAILQ_FOREACH(c, &all->list, link)
	c->wanted = false;
	for (uint32_t i = 0; i < flat_mesh_n_workloads(mesh); i++) {
		const struct flat_workload *w = flat_mesh_workload_at(mesh, i);
		int err = w->confined ? confine_workload(all, w) : 0;
		first = first ? first : err;
	}
	for (c = TAILQ_FIRST(&all->list); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->wanted)
			release(all, c);
	}
	flat_captures_in_look(all->offload);
	return first;
}

static void on_removed(struct flat_source *source, int events)
{
	struct flat_captures *all = FLAT_CONTAINER_OF(source, struct flat_captures, watch);
	char events_buf[4096];
	(void)events;
	while (flat_sys_read(source->fd, events_buf, sizeof(events_buf)) > 0)
		;
	if (!all->offload->retired)
		(void)!confine_all(all);
}

/* --- the port --- */

static int listen_at(struct flat_captures *all, int i)
{
	const struct flat_addr addr = {
	    .family = i == 0 ? AF_INET : AF_INET6,
	    .port = all->offload->confine_port,
	    .ip = {[0] = i == 0 ? 127 : 0, [3] = i == 0 ? 1 : 0, [15] = i == 0 ? 0 : 1},
	};
	int fd = flat_port_listen(all->offload, &addr, false, BACKLOG);
	int err =
	    fd < 0 ? fd : flat_loop_accept(&all->offload->loop, &all->ports[i].tcp, fd, on_client);
	if (err != 0 && fd >= 0)
		close(fd);
	return err;
}

static int captures_open(struct flat_offload *o)
{
	struct flat_captures *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	all->offload = o;
	all->ports[0].tcp.fd = all->ports[1].tcp.fd = all->watch.fd = -1;
	all->ports[0].all = all->ports[1].all = all;
	TAILQ_INIT(&all->list);
	o->captures = all;
	int err = flat_cgroup_v2(&all->mount);
	if (err == -ENOENT)
		flat_error("confined workloads want cgroup v2: mount -t cgroup2 none DIR");
	if (err != 0)
		return err;
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	err = fd < 0 ? -errno : flat_loop_poll(&o->loop, &all->watch, fd, POLLIN, on_removed);
	all->watch.fd = fd;
	if (err == 0)
		err = listen_at(all, 0);
	/* A host may be without IPv6: then its processes are too. */
	int err6 = err == 0 ? listen_at(all, 1) : 0;
	if (err6 != 0 && err6 != -EADDRNOTAVAIL && err6 != -EAFNOSUPPORT)
		err = err6;
	if (err == 0)
		err = flat_dns_open(&all->dns, o);
	if (err != 0)
		flat_error("the port of confined workloads, %u, cannot be opened: %s; "
			   "--confine-port says another one",
			   o->confine_port, strerror(-err));
	return err;
}

static bool any_confined(const struct flat_mesh *mesh)
{
	for (uint32_t i = 0; i < flat_mesh_n_workloads(mesh); i++) {
		if (flat_mesh_workload_at(mesh, i)->confined)
			return true;
	}
	return false;
}

int flat_captures_reload(struct flat_offload *o)
{
	if (o->retired || (!o->captures && !any_confined(o->mesh)))
		return 0;
	int err = o->captures ? 0 : captures_open(o);
	if (err == 0)
		err = confine_all(o->captures);
	else
		flat_captures_close(o);
	return err;
}

int flat_captures_socket(const struct flat_offload *o, int i)
{
	if (!o->captures)
		return -1;
	return i < 2 ? o->captures->ports[i].tcp.fd : flat_dns_socket(o->captures->dns, i - 2);
}

int flat_captures_expire(struct flat_offload *o)
{
	int dns = o->captures && o->captures->dns ? flat_dns_expire(o->captures->dns) : -1;
	int news = flat_captures_in_expire(o);
	return dns < 0 || (news >= 0 && news < dns) ? news : dns;
}

void flat_captures_retire(struct flat_offload *o)
{
	flat_captures_in_retire(o);
	for (int i = 0; o->captures && i < 2; i++) {
		if (o->captures->ports[i].tcp.fd >= 0)
			flat_loop_accept_end(&o->loop, &o->captures->ports[i].tcp);
	}
	if (o->captures)
		flat_dns_retire(o->captures->dns);
}

void flat_captures_close(struct flat_offload *o)
{
	struct flat_captures *all = o->captures;
	struct capture *c;
	struct capture *next;
	if (!all)
		return;
	for (c = TAILQ_FIRST(&all->list); c; c = next) {
		next = TAILQ_NEXT(c, link);
		capture_free(all, c);
	}
	flat_captures_in_close(o);
	flat_dns_close(all->dns);
	struct flat_source *const sources[] = {&all->ports[0].tcp, &all->ports[1].tcp, &all->watch};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(sources); i++) {
		flat_loop_del(&o->loop, sources[i]);
		if (sources[i]->fd >= 0)
			close(sources[i]->fd);
	}
	free(all);
	o->captures = NULL;
}

const char *flat_captures_cgroup(const struct flat_offload *o, uint32_t i)
{
	const struct capture *c = o->captures ? TAILQ_FIRST(&o->captures->list) : NULL;
	while (c && i-- > 0)
		c = TAILQ_NEXT(c, link);
	return c ? c->path : NULL;
}
