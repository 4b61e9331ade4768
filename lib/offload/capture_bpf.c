/* The programs are written instruction by instruction: so small that a compiler for them would be the larger part. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "offload/capture_code.h"
#include "offload/capture_hook.h"

/* Sockets of one workload that are connected, or were, and connections that flatd has not accepted yet. */
#define ORIGINS_MAX 65536
#define ARRIVALS_MAX 16384
/* Sockets that asked name servers, and those servers. */
#define ASKERS_MAX 8192
#define SERVERS_MAX 1024
/* TCP_CLOSE of the kernel's state of a socket (include/net/tcp_states.h). */
#define STATE_CLOSE 7

/* --- programs --- */

/* Sends it to flatd: a socket of IPv6 that means an address of IPv4 stays with that. */
static void redirect(struct maker *m, bool v6)
{
	struct code *c = &m->code;
	const size_t ip6 = offsetof(struct bpf_sock_addr, user_ip6);
	set(c, R1, (int32_t)htonl(INADDR_LOOPBACK));
	if (!v6) {
		store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_ip4), R1);
	} else {
		size_t v4 = jump(c, BPF_JEQ, R9, 1);
		set(c, R2, 0);
		for (size_t i = 0; i < 3; i++)
			store(c, BPF_W, R6, (int)(ip6 + 4 * i), R2);
		set(c, R1, (int32_t)htonl(1));
		land(c, v4);
		store(c, BPF_W, R6, (int)(ip6 + 12), R1);
	}
	set(c, R1, htons(m->port));
	store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_port), R1);
}

/*
 * What is on its way to flatd already, by the program of a cgroup below or by its own wish, is let go there: flatd takes nothing
 * that is not written down. Returns the jump of those that are not.
 */
static void let_go(struct maker *m, size_t other[2])
{
	struct code *c = &m->code;
	load(c, BPF_W, R1, FP, (size_t)AT(port));
	other[0] = jump(c, BPF_JNE, R1, htons(m->port));
	load(c, BPF_W, R1, FP, (size_t)WORD(RECORD, 3));
	size_t v4 = jump(c, BPF_JEQ, R9, 1);
	size_t one = jump(c, BPF_JEQ, R1, htonl(1));
	land(c, v4);
	other[1] = jump(c, BPF_JNE, R1, htonl(INADDR_LOOPBACK));
	land(c, one);
	/* What the socket asked for before is no more. */
	cookie(c);
	map_and_key(c, m->maps->origins, COOKIE);
	call(c, BPF_FUNC_map_delete_elem);
	leave(c, 1);
}

static void make_connect(struct maker *m, bool v6)
{
	struct code *c = &m->code;
	size_t other[2];
	move(c, R6, R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, type));
	size_t stream = jump(c, BPF_JEQ, R1, SOCK_STREAM);
	leave(c, 1);
	land(c, stream);
	write_address(c, v6);
	is_v4(c);
	let_go(m, other);
	land(c, other[0]);
	land(c, other[1]);
	write_caller(m);
	cookie(c);
	map_and_key(c, m->maps->origins, COOKIE);
	point(c, R3, RECORD);
	set(c, R4, BPF_ANY);
	call(c, BPF_FUNC_map_update_elem);
	size_t written = jump(c, BPF_JEQ, R0, 0);
	leave(c, 0);
	land(c, written);
	redirect(m, v6);
	leave(c, 1);
}

static void make_connect4(struct maker *m)
{
	make_connect(m, false);
}

static void make_connect6(struct maker *m)
{
	make_connect(m, true);
}

/* Where the socket comes from, at KEY. */
static void write_source(struct code *c)
{
	const size_t ip6 = offsetof(struct bpf_sock_ops, local_ip6);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, family));
	size_t v6 = jump(c, BPF_JNE, R1, AF_INET);
	set(c, R1, 0);
	store(c, BPF_W, FP, WORD(KEY, 0), R1);
	store(c, BPF_W, FP, WORD(KEY, 1), R1);
	set(c, R1, (int32_t)V4_MARK);
	store(c, BPF_W, FP, WORD(KEY, 2), R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, local_ip4));
	store(c, BPF_W, FP, WORD(KEY, 3), R1);
	size_t done = emit(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
	land(c, v6);
	for (int i = 0; i < 4; i++) {
		load(c, BPF_W, R1, R6, ip6 + 4 * (size_t)i);
		store(c, BPF_W, FP, WORD(KEY, i), R1);
	}
	land(c, done);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, local_port));
	store(c, BPF_W, FP, WORD(KEY, 4), R1);
}

/*
 * Before its first packet leaves, a connection is written down under where it comes from; when its socket closes before flatd
 * took that, it goes again, before another socket can have the port.
 */
static void make_sockops(struct maker *m)
{
	struct code *c = &m->code;
	move(c, R6, R1);
	load(c, BPF_W, R7, R6, offsetof(struct bpf_sock_ops, op));
	size_t begins = jump(c, BPF_JEQ, R7, BPF_SOCK_OPS_TCP_CONNECT_CB);
	size_t changes = jump(c, BPF_JEQ, R7, BPF_SOCK_OPS_STATE_CB);
	leave(c, 1);

	land(c, changes);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, args) + 4);
	size_t closes = jump(c, BPF_JEQ, R1, STATE_CLOSE);
	leave(c, 1);
	land(c, closes);
	write_source(c);
	map_and_key(c, m->maps->arrivals, KEY);
	call(c, BPF_FUNC_map_delete_elem);
	leave(c, 1);

	land(c, begins);
	find_record(m);
	move(c, R8, R0);
	write_source(c);
	map_and_key(c, m->maps->arrivals, KEY);
	move(c, R3, R8);
	set(c, R4, BPF_ANY);
	call(c, BPF_FUNC_map_update_elem);
	move(c, R1, R6);
	set(c, R2, BPF_SOCK_OPS_STATE_CB_FLAG);
	call(c, BPF_FUNC_sock_ops_cb_flags_set);
	leave(c, 1);
}

static void make_release(struct maker *m)
{
	struct code *c = &m->code;
	move(c, R6, R1);
	cookie(c);
	map_and_key(c, m->maps->origins, COOKIE);
	call(c, BPF_FUNC_map_delete_elem);
	leave(c, 1);
}

/* Streams that are no TCP have no hook that sees where they go: MPTCP, SCTP, DCCP. Programs fall back to TCP. */
static void make_create(struct maker *m)
{
	struct code *c = &m->code;
	load(c, BPF_W, R2, R1, offsetof(struct bpf_sock, type));
	size_t packets = jump(c, BPF_JEQ, R2, SOCK_SEQPACKET);
	size_t dccp = jump(c, BPF_JEQ, R2, SOCK_DCCP);
	size_t other = jump(c, BPF_JNE, R2, SOCK_STREAM);
	load(c, BPF_W, R2, R1, offsetof(struct bpf_sock, protocol));
	size_t tcp = jump(c, BPF_JEQ, R2, IPPROTO_TCP);
	land(c, packets);
	land(c, dccp);
	leave(c, 0);
	land(c, other);
	land(c, tcp);
	leave(c, 1);
}

/* getpeername() tells what was asked for. */
static void make_peer(struct maker *m, bool v6)
{
	struct code *c = &m->code;
	move(c, R6, R1);
	find_record(m);
	for (size_t i = v6 ? 0 : 3; i < 4; i++) {
		size_t to = v6 ? offsetof(struct bpf_sock_addr, user_ip6) + 4 * i
			       : offsetof(struct bpf_sock_addr, user_ip4);
		load(c, BPF_W, R1, R0, offsetof(struct flat_capture_record, ip) + 4 * i);
		store(c, BPF_W, R6, (int)to, R1);
	}
	load(c, BPF_W, R1, R0, offsetof(struct flat_capture_record, port));
	store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_port), R1);
	leave(c, 1);
}

static void make_peer4(struct maker *m)
{
	make_peer(m, false);
}

static void make_peer6(struct maker *m)
{
	make_peer(m, true);
}

/* In the order in which they are attached: connect() is sent to flatd when all else is there. */
static const struct {
	struct flat_capture_hook hook;
	void (*make)(struct maker *m);
} hooks[] = {
    {{"flat_sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS}, make_sockops},
    {{"flat_release", BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_RELEASE}, make_release},
    {{"flat_peer4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME}, make_peer4},
    {{"flat_peer6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETPEERNAME}, make_peer6},
    {{"flat_create", BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_CREATE}, make_create},
    {{"flat_dns_out", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS}, flat_capture_dns_out},
    {{"flat_dns_recv4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_RECVMSG},
     flat_capture_dns_from4},
    {{"flat_dns_recv6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_RECVMSG},
     flat_capture_dns_from6},
    {{"flat_dns_peer4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME},
     flat_capture_dns_from4},
    {{"flat_dns_peer6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETPEERNAME},
     flat_capture_dns_from6},
    {{"flat_dns_send4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_SENDMSG},
     flat_capture_dns_to4},
    {{"flat_dns_send6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_SENDMSG},
     flat_capture_dns_to6},
    {{"flat_dns_conn4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT},
     flat_capture_dns_to4},
    {{"flat_dns_conn6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT},
     flat_capture_dns_to6},
    {{"flat_connect4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT}, make_connect4},
    {{"flat_connect6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT}, make_connect6},
};
#define N_HOOKS FLAT_ARRAY_SIZE(hooks)

static int load_one(size_t i, struct maker *m, char *why, size_t size)
{
	m->code.n = 0;
	hooks[i].make(m);
	return flat_capture_load(&hooks[i].hook, m->code.v, m->code.n, why, size);
}

/* --- what is attached --- */

static const struct map_kind {
	const char *name;
	size_t at; /* in struct flat_capture_bpf */
	enum bpf_map_type type;
	uint32_t key;
	uint32_t value;
	uint32_t max;
	const char *hook; /* whose program knows it */
} maps[] = {
    {"flat_origins", offsetof(struct flat_capture_bpf, origins), BPF_MAP_TYPE_HASH,
     sizeof(uint64_t), sizeof(struct flat_capture_record), ORIGINS_MAX, "flat_sockops"},
    {"flat_arrivals", offsetof(struct flat_capture_bpf, arrivals), BPF_MAP_TYPE_HASH,
     sizeof(struct flat_capture_key), sizeof(struct flat_capture_record), ARRIVALS_MAX,
     "flat_sockops"},
    {"flat_askers", offsetof(struct flat_capture_bpf, askers), BPF_MAP_TYPE_LRU_HASH,
     sizeof(uint64_t), sizeof(struct flat_capture_record), ASKERS_MAX, "flat_dns_out"},
    {"flat_sources", offsetof(struct flat_capture_bpf, sources), BPF_MAP_TYPE_LRU_HASH,
     sizeof(struct flat_capture_key), sizeof(struct flat_capture_record), ASKERS_MAX,
     "flat_dns_out"},
    {"flat_servers", offsetof(struct flat_capture_bpf, servers), BPF_MAP_TYPE_LRU_HASH,
     sizeof(uint32_t), sizeof(uint32_t), SERVERS_MAX, "flat_dns_send4"},
};

static int *fd_of(struct flat_capture_bpf *b, const struct map_kind *kind)
{
	return (int *)(void *)((char *)b + kind->at);
}

static int open_map(int dir, const struct map_kind *kind)
{
	struct bpf_map_create_opts opts = {
	    .sz = sizeof(opts),
	    .map_flags = kind->type == BPF_MAP_TYPE_HASH ? BPF_F_NO_PREALLOC : 0,
	};
	size_t i = 0;
	while (strcmp(hooks[i].hook.name, kind->hook) != 0)
		i++;
	int earlier = flat_capture_find(dir, &hooks[i].hook);
	int fd = earlier >= 0 ? flat_capture_map_of(earlier, kind->name, kind->key, kind->value)
			      : -ENOENT;
	if (earlier >= 0)
		close(earlier);
	if (fd >= 0)
		return fd;
	return bpf_map_create(kind->type, kind->name, kind->key, kind->value, kind->max, &opts);
}

static int open_maps(struct flat_capture_bpf *b, int dir, char *why, size_t size)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);
	int err = 0;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(maps) && err == 0; i++) {
		int fd = open_map(dir, &maps[i]);
		err = fd < 0 ? fd : 0;
		*fd_of(b, &maps[i]) = fd < 0 ? 0 : fd;
	}
	if (err == 0)
		err = bpf_obj_get_info_by_fd(b->sources, &info, &len);
	b->mark = info.id;
	if (err != 0) {
		snprintf(why, size, "the kernel makes no maps for programs: %s", strerror(-err));
		flat_capture_bpf_close(b);
	}
	return err;
}

int flat_capture_bpf_attach(struct flat_capture_bpf *b, int dir, uint16_t port, char *why,
			    size_t size)
{
	struct maker m = {.maps = b, .port = port};
	int programs[N_HOOKS];
	size_t n = 0;
	int err = flat_capture_know_pids(&m, why, size);
	if (err == 0)
		err = open_maps(b, dir, why, size);
	if (err != 0)
		return err;
	while (n < N_HOOKS && err == 0) {
		programs[n] = load_one(n, &m, why, size);
		if (programs[n] >= 0) {
			n++;
		} else if (m.pids == PIDS_NAMESPACE) {
			/* An older kernel: then processes are known by all but their executable. */
			m.pids = PIDS_UNKNOWN;
		} else {
			err = programs[n];
		}
	}
	for (size_t i = 0; i < n && err == 0; i++) {
		err = flat_capture_attach(dir, &hooks[i].hook, programs[i]);
		if (err != 0)
			snprintf(why, size, "%s cannot be attached: %s", hooks[i].hook.name,
				 strerror(-err));
	}
	while (n > 0)
		close(programs[--n]);
	if (err != 0)
		flat_capture_bpf_close(b);
	return err;
}

int flat_capture_bpf_detach(int dir)
{
	int done = 0;
	/* connect() first: what goes out from then on goes where it says. */
	for (size_t i = N_HOOKS; i-- > 0;) {
		int n = flat_capture_remove(dir, &hooks[i].hook);
		if (n < 0)
			return n;
		done += n;
	}
	return done;
}

void flat_capture_bpf_close(struct flat_capture_bpf *b)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(maps); i++) {
		if (*fd_of(b, &maps[i]) > 0)
			close(*fd_of(b, &maps[i]));
	}
	memset(b, 0, sizeof(*b));
}

bool flat_capture_bpf_take(const struct flat_capture_bpf *b, const struct flat_capture_key *key,
			   struct flat_capture_record *record)
{
	return bpf_map_lookup_and_delete_elem(b->arrivals, key, record) == 0;
}

bool flat_capture_bpf_asked(const struct flat_capture_bpf *b, const struct flat_capture_key *from,
			    uint32_t to, struct flat_capture_record *record)
{
	if (bpf_map_lookup_elem(b->sources, from, record) != 0)
		return false;
	if (to == 0)
		return true;
	record->ip[0] = record->ip[1] = 0;
	record->ip[2] = V4_MARK;
	return bpf_map_lookup_elem(b->servers, &to, &record->ip[3]) == 0;
}
