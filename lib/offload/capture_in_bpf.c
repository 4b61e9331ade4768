#include "offload/capture_in_bpf.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "offload/capture_in_code.h"
#include "offload/netns.h"
#include "offload/offload.h"

/* Sockets of one cgroup that are bound, and those that they accepted. */
#define BINDS_MAX 4096
#define GUESTS_MAX 65536
/* Of all confined cgroups. */
#define PORTS_MAX 262144
#define PASSES_MAX 16384
#define NEWS_BYTES 4096
#define BATCH 256
#define FIRST (&flat_in_programs[0].hook)
#define GUARD (&flat_in_programs[FLAT_IN_PROGRAMS - 1].hook)

static int load_one(const struct flat_in_program *program, struct in_maker *in, char *why,
		    size_t size)
{
	in->m.code.n = 0;
	program->make(in);
	return flat_capture_load(&program->hook, in->m.code.v, in->m.code.n, why, size);
}

/* --- maps --- */

struct shape {
	const char *name;
	enum bpf_map_type type;
	uint32_t key, value, max, flags;
};
static const struct shape binds = {
    "flat_in_binds", BPF_MAP_TYPE_HASH, sizeof(uint64_t), sizeof(struct flat_in_bind),
    BINDS_MAX,	     BPF_F_NO_PREALLOC,
};
static const struct shape guests = {
    "flat_in_guests", BPF_MAP_TYPE_HASH, sizeof(uint64_t), sizeof(struct flat_in_guest),
    GUESTS_MAX,	      BPF_F_NO_PREALLOC,
};
static const struct shape ports = {
    "flat_in_ports",  BPF_MAP_TYPE_HASH, sizeof(struct flat_capture_key),
    sizeof(uint64_t), PORTS_MAX,	 BPF_F_NO_PREALLOC,
};
static const struct shape passes = {
    "flat_in_passes", BPF_MAP_TYPE_HASH, sizeof(struct flat_in_way), sizeof(struct flat_in_pass),
    PASSES_MAX,	      BPF_F_NO_PREALLOC,
};
static const struct shape doors = {
    "flat_in_doors", BPF_MAP_TYPE_SOCKMAP, sizeof(uint32_t), sizeof(uint64_t), 2, 0,
};
static const struct shape news = {"flat_in_news", BPF_MAP_TYPE_RINGBUF, 0, 0, NEWS_BYTES, 0};

/* That of an earlier flatd's program (-1: there is none), or a new one. */
static int open_map(const struct shape *s, int earlier)
{
	struct bpf_map_create_opts opts = {.sz = sizeof(opts), .map_flags = s->flags};
	int fd = earlier >= 0 ? flat_capture_map_of(earlier, s->name, s->key, s->value) : -ENOENT;
	return fd >= 0 ? fd : bpf_map_create(s->type, s->name, s->key, s->value, s->max, &opts);
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] > 0)
			close(fds[i]);
	}
}

/* --- the network namespace's program --- */

/* Where it is held for when flatd is gone; false: there is no bpffs. */
static bool pin_path(uint16_t port, char *path, size_t size)
{
	struct mntent m;
	char buf[4096];
	char link[64] = "";
	bool found = false;
	FILE *f = setmntent("/proc/self/mounts", "r");
	ssize_t n = readlink("/proc/self/ns/net", link, sizeof(link) - 1);
	unsigned long ns = n > 5 ? strtoul(link + 5, NULL, 10) : 0;
	while (f && !found && getmntent_r(f, &m, buf, sizeof(buf))) {
		found = strcmp(m.mnt_type, "bpf") == 0;
		if (found)
			snprintf(path, size, "%s/flat_in_%lu_%u", m.mnt_dir, ns, port);
	}
	if (f)
		endmntent(f);
	return found;
}

void flat_in_gate_unpin(uint16_t port)
{
	char path[4200];
	if (pin_path(port, path, sizeof(path)))
		(void)unlink(path);
}

static int open_link(struct flat_in_gate *g, uint16_t port, char *why, size_t size)
{
	struct in_maker in = {.gate = g};
	char path[4200];
	int program = load_one(&flat_in_lookup, &in, why, size);
	if (program < 0)
		return program;
	int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	g->link = ns < 0 ? -errno : bpf_link_create(program, ns, BPF_SK_LOOKUP, NULL);
	if (ns >= 0)
		close(ns);
	close(program);
	if (g->link < 0) {
		int err = g->link;
		g->link = 0;
		snprintf(why, size, "flat_in_lookup cannot be attached: %s", strerror(-err));
		return err;
	}
	if (!pin_path(port, path, sizeof(path)))
		return 0;
	(void)unlink(path);
	int err = bpf_obj_pin(g->link, path);
	if (err != 0)
		flat_warn("%s cannot be made: %s; servers of confined workloads do not answer "
			  "without flatd, instead of refusing",
			  path, strerror(-err));
	return 0;
}

/* Passes that a flatd left which is no more: their ports may be anybody's by now. */
static void forget_passes(const struct flat_in_gate *g)
{
	struct flat_in_way way;
	while (bpf_map_get_next_key(g->passes, NULL, &way) == 0 &&
	       bpf_map_delete_elem(g->passes, &way) == 0)
		;
}

static int set_doors(const struct flat_in_gate *g, const int sockets[2])
{
	int err = 0;
	for (uint32_t i = 0; err == 0 && i < 2; i++) {
		uint64_t fd = (uint64_t)sockets[i];
		if (sockets[i] >= 0)
			err = bpf_map_update_elem(g->doors, &i, &fd, BPF_ANY);
	}
	return err;
}

int flat_in_gate_open(struct flat_in_gate *g, int dir, const int sockets[2], uint16_t port,
		      char *why, size_t size)
{
	const struct shape *const shapes[] = {&ports, &passes, &doors, &news};
	int *const fds[] = {&g->ports, &g->passes, &g->doors, &g->news};
	/* Together these two know them all. */
	const int earlier[] = {flat_capture_find(dir, FIRST), flat_capture_find(dir, GUARD)};
	int err = 0;
	for (size_t i = 0; err == 0 && i < FLAT_ARRAY_SIZE(shapes); i++) {
		*fds[i] = open_map(shapes[i], earlier[shapes[i] == &doors]);
		err = *fds[i] < 0 ? *fds[i] : 0;
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(earlier); i++) {
		if (earlier[i] >= 0)
			close(earlier[i]);
	}
	uint32_t zero = 0;
	uint64_t cookie_of;
	if (err == 0 && bpf_map_lookup_elem(g->doors, &zero, &cookie_of) != 0)
		forget_passes(g);
	if (err == 0)
		err = set_doors(g, sockets);
	if (err != 0)
		snprintf(why, size, "the kernel makes no maps for servers: %s", strerror(-err));
	if (err == 0)
		err = open_link(g, port, why, size);
	if (err != 0)
		flat_in_gate_close(g);
	return err;
}

void flat_in_gate_close(struct flat_in_gate *g)
{
	int fds[] = {g->ports, g->passes, g->doors, g->news, g->link};
	close_all(fds, FLAT_ARRAY_SIZE(fds));
	memset(g, 0, sizeof(*g));
}

void flat_in_gate_hold(const struct flat_in_gate *g, const struct flat_capture_key *at)
{
	const uint64_t one = 1;
	(void)bpf_map_update_elem(g->ports, at, &one, BPF_NOEXIST);
}

void flat_in_gate_dual(const struct flat_in_gate *g, uint16_t port, bool dual)
{
	const uint64_t one = 1;
	struct flat_capture_key key = {.ip = FLAT_IN_DUAL_IP, .port = port};
	if (dual)
		(void)bpf_map_update_elem(g->ports, &key, &one, BPF_ANY);
	else
		(void)bpf_map_delete_elem(g->ports, &key);
}

int flat_in_gate_pass(const struct flat_in_gate *g, const struct flat_in_way *way,
		      const struct flat_in_pass *pass)
{
	return bpf_map_update_elem(g->passes, way, pass, BPF_ANY);
}

void flat_in_gate_unpass(const struct flat_in_gate *g, const struct flat_in_way *way)
{
	(void)bpf_map_delete_elem(g->passes, way);
}

bool flat_in_gate_passes(const struct flat_in_gate *g, const struct flat_in_way *way)
{
	struct flat_in_pass pass;
	return bpf_map_lookup_elem(g->passes, way, &pass) == 0;
}

/* --- one cgroup --- */

bool flat_in_bpf_there(int dir)
{
	int fd = flat_capture_find(dir, FIRST);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int load_all(struct in_maker *in, int *programs, size_t *n, char *why, size_t size)
{
	while (*n < FLAT_IN_PROGRAMS) {
		int fd = load_one(&flat_in_programs[*n], in, why, size);
		if (fd >= 0)
			programs[(*n)++] = fd;
		else if (in->m.pids == PIDS_NAMESPACE)
			/* An older kernel: then processes are known by all but their executable. */
			in->m.pids = PIDS_UNKNOWN;
		else
			return fd;
	}
	return 0;
}

int flat_in_bpf_attach(struct flat_in_bpf *b, const struct flat_in_gate *g, int dir, uint64_t id,
		       char *why, size_t size)
{
	struct in_maker in = {.gate = g, .in = b, .id = id};
	int programs[FLAT_IN_PROGRAMS];
	size_t n = 0;
	int earlier = flat_capture_find(dir, FIRST);
	b->binds = open_map(&binds, earlier);
	b->guests = open_map(&guests, earlier);
	if (earlier >= 0)
		close(earlier);
	int err = b->binds < 0 ? b->binds : b->guests < 0 ? b->guests : flat_netns_own(&in.netns);
	if (err != 0)
		snprintf(why, size, "the kernel makes no maps for servers: %s", strerror(-err));
	if (err == 0)
		err = flat_capture_know_pids(&in.m, why, size);
	if (err == 0)
		err = load_all(&in, programs, &n, why, size);
	for (size_t i = 0; err == 0 && i < n; i++) {
		err = flat_capture_attach(dir, &flat_in_programs[i].hook, programs[i]);
		if (err != 0)
			snprintf(why, size, "%s cannot be attached: %s",
				 flat_in_programs[i].hook.name, strerror(-err));
	}
	while (n > 0)
		close(programs[--n]);
	if (err != 0)
		flat_in_bpf_close(b);
	return err;
}

/* A socket of a cgroup that is let go: nobody counts it down. */
static void forget_port(void *ctx, const struct flat_in_bind *bind)
{
	const int *held = ctx;
	uint64_t n = 0;
	if (bpf_map_lookup_elem(*held, &bind->at, &n) != 0)
		return;
	n--;
	if (n == 0)
		(void)bpf_map_delete_elem(*held, &bind->at);
	else
		(void)bpf_map_update_elem(*held, &bind->at, &n, BPF_EXIST);
}

int flat_in_bpf_detach(int dir)
{
	int done = 0;
	int earlier = flat_capture_find(dir, FIRST);
	struct flat_in_bpf b = {0};
	int held = 0;
	if (earlier >= 0) {
		b.binds = flat_capture_map_of(earlier, binds.name, binds.key, binds.value);
		held = flat_capture_map_of(earlier, ports.name, ports.key, ports.value);
		close(earlier);
	}
	/* The guard first: what comes in from then on is not looked at. */
	for (size_t i = FLAT_IN_PROGRAMS; i-- > 0 && done >= 0;) {
		int n = flat_capture_remove(dir, &flat_in_programs[i].hook);
		done = n < 0 ? n : done + n;
	}
	if (done > 0 && b.binds > 0 && held > 0)
		flat_in_bpf_each(&b, forget_port, &held);
	int fds[] = {b.binds, held};
	close_all(fds, FLAT_ARRAY_SIZE(fds));
	return done;
}

void flat_in_bpf_close(struct flat_in_bpf *b)
{
	int fds[] = {b->binds, b->guests};
	close_all(fds, FLAT_ARRAY_SIZE(fds));
	memset(b, 0, sizeof(*b));
}

void flat_in_bpf_each(const struct flat_in_bpf *b,
		      void (*fn)(void *ctx, const struct flat_in_bind *bind), void *ctx)
{
	static struct flat_in_bind values[BATCH];
	uint64_t keys[BATCH];
	uint32_t at[2] = {0, 0};
	struct bpf_map_batch_opts opts = {.sz = sizeof(opts)};
	bool first = true;
	int err;
	do {
		uint32_t n = BATCH;
		err =
		    bpf_map_lookup_batch(b->binds, first ? NULL : at, at, keys, values, &n, &opts);
		first = false;
		for (uint32_t i = 0; (err == 0 || err == -ENOENT) && i < n; i++) {
			if (values[i].listens)
				fn(ctx, &values[i]);
		}
	} while (err == 0);
}

void flat_in_bpf_add(const struct flat_in_bpf *b, uint64_t cookie_of,
		     const struct flat_in_bind *bind)
{
	(void)bpf_map_update_elem(b->binds, &cookie_of, bind, BPF_NOEXIST);
}
