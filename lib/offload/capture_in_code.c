/* The programs for servers of confined workloads, instruction by instruction (docs/design/core.md, section 13). */
#include "offload/capture_in_code.h"

#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* TCP_CLOSE, TCP_LISTEN (include/net/tcp_states.h). */
#define STATE_CLOSE 7
#define STATE_LISTEN 10
/* Where packets between sockets of one host come from (LOOPBACK_IFINDEX, include/linux/net/net_namespace.h). */
#define LOOPBACK 1

/* On the stack, besides what capture_code.h has there. KEY to COOKIE is a struct flat_in_bind. */
#define LISTENS (-52)
#define WAY (-120)
#define COUNT (-128)
#define PACKET (-176)
#define PACKET_BYTES 40
_Static_assert(offsetof(struct flat_in_bind, listens) == LISTENS - KEY, "as on the stack");
_Static_assert(offsetof(struct flat_in_bind, who) == RECORD - KEY, "as on the stack");
_Static_assert(sizeof(struct flat_in_bind) == COOKIE - KEY, "as on the stack");
_Static_assert(sizeof(struct flat_in_way) == 36, "as on the stack");

/* --- pieces of programs --- */

static size_t jump_null(struct code *c, int reg)
{
	return emit(c, BPF_JMP | BPF_JEQ | BPF_K, reg, 0, 0, 0);
}

static size_t jump_there(struct code *c, int reg)
{
	return emit(c, BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, 0);
}

static size_t jump_always(struct code *c)
{
	return emit(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
}

static void lookup(struct code *c, int map, int key)
{
	map_and_key(c, map, key);
	call(c, BPF_FUNC_map_lookup_elem);
}

static void update(struct code *c, int map, int key, int value, int flags)
{
	map_and_key(c, map, key);
	point(c, R3, value);
	set(c, R4, flags);
	call(c, BPF_FUNC_map_update_elem);
}

static void store_word(struct code *c, int at, uint32_t value)
{
	set(c, R1, (int32_t)value);
	store(c, BPF_W, FP, at, R1);
}

/* An address on the stack, of what R6 points to: its fields at `ip4`, `ip6`. R7: the family. */
static void write_ip(struct code *c, int at, size_t ip4, size_t ip6)
{
	size_t v6 = jump(c, BPF_JNE, R7, AF_INET);
	store_word(c, WORD(at, 0), 0);
	store_word(c, WORD(at, 1), 0);
	store_word(c, WORD(at, 2), V4_MARK);
	load(c, BPF_W, R1, R6, ip4);
	store(c, BPF_W, FP, WORD(at, 3), R1);
	size_t done = jump_always(c);
	land(c, v6);
	for (int i = 0; i < 4; i++) {
		load(c, BPF_W, R1, R6, ip6 + 4 * (size_t)i);
		store(c, BPF_W, FP, WORD(at, i), R1);
	}
	land(c, done);
}

/* R1: a port, to network order. */
static void port_out(struct code *c)
{
	emit(c, BPF_ALU | BPF_END | BPF_TO_BE, R1, 0, 0, 16);
}

/* One more listens at KEY. */
static void count_up(struct in_maker *in)
{
	struct code *c = &in->m.code;
	const int ports = in->gate->ports;
	lookup(c, ports, KEY);
	size_t known = jump_there(c, R0);
	set(c, R1, 0);
	store(c, BPF_DW, FP, COUNT, R1);
	update(c, ports, KEY, COUNT, BPF_NOEXIST);
	lookup(c, ports, KEY);
	size_t full = jump_null(c, R0);
	land(c, known);
	set(c, R1, 1);
	emit(c, BPF_STX | BPF_ATOMIC | BPF_DW, R0, R1, 0, BPF_ADD);
	land(c, full);
}

/* One less. */
static void count_down(struct in_maker *in)
{
	struct code *c = &in->m.code;
	lookup(c, in->gate->ports, KEY);
	size_t unknown = jump_null(c, R0);
	set(c, R1, -1);
	emit(c, BPF_STX | BPF_ATOMIC | BPF_DW, R0, R1, 0, BPF_ADD | BPF_FETCH);
	size_t others = emit(c, BPF_JMP | BPF_JNE | BPF_K, R1, 0, 0, 1);
	map_and_key(c, in->gate->ports, KEY);
	call(c, BPF_FUNC_map_delete_elem);
	land(c, others);
	land(c, unknown);
}

static void tell(struct in_maker *in)
{
	struct code *c = &in->m.code;
	set_wide(c, R1, 0, in->id);
	store(c, BPF_DW, FP, COUNT, R1);
	set_wide(c, R1, BPF_PSEUDO_MAP_FD, (uint32_t)in->gate->news);
	point(c, R2, COUNT);
	set(c, R3, 8);
	/*
	 * Each wakes. Else only one that finds all before it taken does, by a position that the reader's processor may still hold
	 * back while it looks for the next: neither sees the other then, and the ring is silent from there on.
	 */
	set(c, R4, BPF_RB_FORCE_WAKEUP);
	call(c, BPF_FUNC_ringbuf_output);
}

/* The socket R6, if it listens, does not any more. */
static void stops(struct in_maker *in)
{
	struct code *c = &in->m.code;
	cookie(c);
	lookup(c, in->in->binds, COOKIE);
	size_t unknown = jump_null(c, R0);
	load(c, BPF_W, R1, R0, offsetof(struct flat_in_bind, listens));
	size_t idle = jump(c, BPF_JEQ, R1, 0);
	set(c, R1, 0);
	store(c, BPF_W, R0, offsetof(struct flat_in_bind, listens), R1);
	for (int i = 0; i < 5; i++) {
		load(c, BPF_W, R1, R0, offsetof(struct flat_in_bind, at) + 4 * (size_t)i);
		store(c, BPF_W, FP, WORD(KEY, i), R1);
	}
	count_down(in);
	tell(in);
	land(c, unknown);
	land(c, idle);
}

/* --- programs --- */

/* A TCP socket of this network namespace has its address: who it is. */
static void make_bind(struct in_maker *in)
{
	struct code *c = &in->m.code;
	move(c, R6, R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock, type));
	size_t no = jump(c, BPF_JNE, R1, SOCK_STREAM);
	move(c, R1, R6);
	call(c, BPF_FUNC_get_netns_cookie);
	set_wide(c, R2, 0, in->netns);
	size_t here = emit(c, BPF_JMP | BPF_JEQ | BPF_X, R0, R2, 0, 0);
	land(c, no);
	leave(c, 1);
	land(c, here);
	set(c, R1, 0);
	for (int at = KEY; at < COOKIE; at += 8)
		store(c, BPF_DW, FP, at, R1);
	write_caller(&in->m);
	cookie(c);
	/* Without room nobody reaches it. */
	update(c, in->in->binds, COOKIE, KEY, BPF_ANY);
	leave(c, 1);
}

static void make_release(struct in_maker *in)
{
	struct code *c = &in->m.code;
	move(c, R6, R1);
	stops(in);
	map_and_key(c, in->in->binds, COOKIE);
	call(c, BPF_FUNC_map_delete_elem);
	map_and_key(c, in->in->guests, COOKIE);
	call(c, BPF_FUNC_map_delete_elem);
	leave(c, 1);
}

static void want_states(struct code *c)
{
	move(c, R1, R6);
	set(c, R2, BPF_SOCK_OPS_STATE_CB_FLAG);
	call(c, BPF_FUNC_sock_ops_cb_flags_set);
}

/* listen() of a socket that was bound. One that is bound to a device is not served: others may have its port on other devices. */
static void listens(struct in_maker *in)
{
	struct code *c = &in->m.code;
	size_t no[4];
	cookie(c);
	load(c, BPF_DW, R1, R6, offsetof(struct bpf_sock_ops, sk));
	no[0] = jump_null(c, R1);
	load(c, BPF_W, R1, R1, offsetof(struct bpf_sock, bound_dev_if));
	no[1] = jump(c, BPF_JNE, R1, 0);
	lookup(c, in->in->binds, COOKIE);
	no[2] = jump_null(c, R0);
	move(c, R8, R0);
	load(c, BPF_W, R1, R8, offsetof(struct flat_in_bind, listens));
	no[3] = jump(c, BPF_JNE, R1, 0);
	load(c, BPF_W, R7, R6, offsetof(struct bpf_sock_ops, family));
	write_ip(c, KEY, offsetof(struct bpf_sock_ops, local_ip4),
		 offsetof(struct bpf_sock_ops, local_ip6));
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, local_port));
	store(c, BPF_W, FP, WORD(KEY, 4), R1);
	for (int i = 0; i < 5; i++) {
		load(c, BPF_W, R1, FP, (size_t)WORD(KEY, i));
		store(c, BPF_W, R8, (int)offsetof(struct flat_in_bind, at) + 4 * i, R1);
	}
	set(c, R1, 1);
	store(c, BPF_W, R8, offsetof(struct flat_in_bind, listens), R1);
	count_up(in);
	want_states(c);
	tell(in);
	for (int i = 0; i < 4; i++)
		land(c, no[i]);
	leave(c, 1);
}

/* A connection is there that a server will accept: the pass was for this one alone, and its client is who flatd says. */
static void comes_in(struct in_maker *in)
{
	struct code *c = &in->m.code;
	load(c, BPF_W, R7, R6, offsetof(struct bpf_sock_ops, family));
	write_ip(c, WAY, offsetof(struct bpf_sock_ops, remote_ip4),
		 offsetof(struct bpf_sock_ops, remote_ip6));
	write_ip(c, WORD(WAY, 4), offsetof(struct bpf_sock_ops, local_ip4),
		 offsetof(struct bpf_sock_ops, local_ip6));
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, remote_port));
	/* In the high half on hosts whose first byte is the low one. */
	if (htons(1) != 1)
		emit(c, BPF_ALU | BPF_RSH | BPF_K, R1, 0, 0, 16);
	store(c, BPF_H, FP, WORD(WAY, 8), R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, local_port));
	port_out(c);
	store(c, BPF_H, FP, WORD(WAY, 8) + 2, R1);
	lookup(c, in->gate->passes, WAY);
	size_t unknown = jump_null(c, R0);
	move(c, R8, R0);
	cookie(c);
	map_and_key(c, in->in->guests, COOKIE);
	move(c, R3, R8);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, R3, 0, 0, offsetof(struct flat_in_pass, guest));
	set(c, R4, BPF_ANY);
	call(c, BPF_FUNC_map_update_elem);
	want_states(c);
	map_and_key(c, in->gate->passes, WAY);
	call(c, BPF_FUNC_map_delete_elem);
	land(c, unknown);
	leave(c, 1);
}

static void make_sockops(struct in_maker *in)
{
	struct code *c = &in->m.code;
	move(c, R6, R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, op));
	size_t listen = jump(c, BPF_JEQ, R1, BPF_SOCK_OPS_TCP_LISTEN_CB);
	size_t state = jump(c, BPF_JEQ, R1, BPF_SOCK_OPS_STATE_CB);
	size_t comes = jump(c, BPF_JEQ, R1, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB);
	leave(c, 1);
	land(c, listen);
	listens(in);
	land(c, comes);
	comes_in(in);
	land(c, state);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_ops, args) + 4);
	size_t closes = jump(c, BPF_JEQ, R1, STATE_CLOSE);
	leave(c, 1);
	land(c, closes);
	stops(in);
	map_and_key(c, in->in->guests, COOKIE);
	call(c, BPF_FUNC_map_delete_elem);
	leave(c, 1);
}

/* The packet's addresses and ports to WAY. The jumps of what is no plain TCP. */
static void read_packet(struct code *c, size_t no[3])
{
	const int bytes = BPF_FUNC_skb_load_bytes;
	move(c, R1, R6);
	set(c, R2, 0);
	point(c, R3, PACKET);
	set(c, R4, PACKET_BYTES);
	call(c, bytes);
	no[0] = jump(c, BPF_JNE, R0, 0);
	load(c, BPF_B, R8, FP, (size_t)PACKET);
	move(c, R1, R8);
	emit(c, BPF_ALU64 | BPF_RSH | BPF_K, R1, 0, 0, 4);
	size_t v6 = jump(c, BPF_JNE, R1, 4);
	for (int i = 0; i < 2; i++) {
		store_word(c, WORD(WAY, 4 * i), 0);
		store_word(c, WORD(WAY, 4 * i + 1), 0);
		store_word(c, WORD(WAY, 4 * i + 2), V4_MARK);
		load(c, BPF_W, R1, FP, (size_t)(PACKET + 12 + 4 * i));
		store(c, BPF_W, FP, WORD(WAY, 4 * i + 3), R1);
	}
	emit(c, BPF_ALU64 | BPF_AND | BPF_K, R8, 0, 0, 15);
	emit(c, BPF_ALU64 | BPF_LSH | BPF_K, R8, 0, 0, 2);
	size_t done = jump_always(c);
	land(c, v6);
	load(c, BPF_B, R1, FP, (size_t)(PACKET + 6));
	no[1] = jump(c, BPF_JNE, R1, IPPROTO_TCP);
	for (int i = 0; i < 8; i++) {
		load(c, BPF_W, R1, FP, (size_t)(PACKET + 8 + 4 * i));
		store(c, BPF_W, FP, WORD(WAY, i), R1);
	}
	set(c, R8, 40);
	land(c, done);
	move(c, R1, R6);
	move(c, R2, R8);
	point(c, R3, WORD(WAY, 8));
	set(c, R4, 4);
	call(c, bytes);
	no[2] = jump(c, BPF_JNE, R0, 0);
}

/* What comes to a listening socket comes by flatd, which is there, or not at all. */
static void make_guard(struct in_maker *in)
{
	struct code *c = &in->m.code;
	size_t no[4];
	size_t mine[FLAT_CAPTURE_NESTED];
	move(c, R6, R1);
	load(c, BPF_DW, R1, R6, offsetof(struct __sk_buff, sk));
	size_t none = jump_null(c, R1);
	load(c, BPF_W, R1, R1, offsetof(struct bpf_sock, state));
	size_t listener = jump(c, BPF_JEQ, R1, STATE_LISTEN);
	land(c, none);
	leave(c, 1);
	land(c, listener);
	load(c, BPF_W, R1, R6, offsetof(struct __sk_buff, ifindex));
	no[3] = jump(c, BPF_JNE, R1, LOOPBACK);
	read_packet(c, no);
	lookup(c, in->gate->passes, WAY);
	size_t unknown = jump_null(c, R0);
	set_wide(c, R2, 0, in->id);
	for (size_t i = 0; i < FLAT_CAPTURE_NESTED; i++) {
		load(c, BPF_DW, R1, R0, offsetof(struct flat_in_pass, cgroups) + 8 * i);
		mine[i] = emit(c, BPF_JMP | BPF_JEQ | BPF_X, R1, R2, 0, 0);
	}
	size_t others = jump_always(c);
	for (size_t i = 0; i < FLAT_CAPTURE_NESTED; i++)
		land(c, mine[i]);
	/* Of a flatd that was killed a pass may be left. */
	store_word(c, COUNT, 0);
	lookup(c, in->gate->doors, COUNT);
	size_t dead = jump_null(c, R0);
	move(c, R1, R0);
	call(c, BPF_FUNC_sk_release);
	leave(c, 1);
	for (int i = 0; i < 4; i++)
		land(c, no[i]);
	land(c, unknown);
	land(c, others);
	land(c, dead);
	leave(c, 0);
}

/* accept() and getpeername() of a server tell the client. */
static void make_peer(struct in_maker *in, bool v6)
{
	struct code *c = &in->m.code;
	size_t no[4];
	int n = 0;
	move(c, R6, R1);
	cookie(c);
	lookup(c, in->in->guests, COOKIE);
	no[n++] = jump_null(c, R0);
	for (size_t i = 0; i < 3 && !v6; i++) {
		load(c, BPF_W, R1, R0, offsetof(struct flat_in_guest, ip) + 4 * i);
		no[n++] = jump(c, BPF_JNE, R1, i < 2 ? 0 : V4_MARK);
	}
	for (size_t i = v6 ? 0 : 3; i < 4; i++) {
		size_t to = v6 ? offsetof(struct bpf_sock_addr, user_ip6) + 4 * i
			       : offsetof(struct bpf_sock_addr, user_ip4);
		load(c, BPF_W, R1, R0, offsetof(struct flat_in_guest, ip) + 4 * i);
		store(c, BPF_W, R6, (int)to, R1);
	}
	load(c, BPF_W, R1, R0, offsetof(struct flat_in_guest, port));
	store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_port), R1);
	while (n > 0)
		land(c, no[--n]);
	leave(c, 1);
}

static void make_peer4(struct in_maker *in)
{
	make_peer(in, false);
}

static void make_peer6(struct in_maker *in)
{
	make_peer(in, true);
}

/* Jumps if somebody listens at KEY. */
static size_t jump_held(struct in_maker *in)
{
	struct code *c = &in->m.code;
	lookup(c, in->gate->ports, KEY);
	return jump_there(c, R0);
}

static void key_ip(struct code *c, const uint32_t ip[4])
{
	for (int i = 0; i < 4; i++)
		store_word(c, WORD(KEY, i), ip[i]);
}

/* R7: the family, R6: where it wants to go. The jumps of what is held; the others pass on. */
static void find_held(struct in_maker *in, size_t held[3])
{
	const uint32_t any4[4] = {0, 0, V4_MARK, 0};
	const uint32_t dual[4] = FLAT_IN_DUAL_IP;
	static const uint32_t any6[4];
	struct code *c = &in->m.code;
	held[0] = jump_held(in);
	size_t v6 = jump(c, BPF_JNE, R7, AF_INET);
	key_ip(c, any4);
	held[1] = jump_held(in);
	key_ip(c, dual);
	lookup(c, in->gate->ports, KEY);
	size_t single = jump_null(c, R0);
	land(c, v6);
	key_ip(c, any6);
	held[2] = jump_held(in);
	land(c, single);
}

/* Of the network namespace: where a connection begins. */
static void make_lookup(struct in_maker *in)
{
	struct code *c = &in->m.code;
	size_t held[3];
	move(c, R6, R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sk_lookup, protocol));
	size_t no = jump(c, BPF_JNE, R1, IPPROTO_TCP);
	load(c, BPF_W, R7, R6, offsetof(struct bpf_sk_lookup, family));
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sk_lookup, local_port));
	store(c, BPF_W, FP, WORD(KEY, 4), R1);
	port_out(c);
	store(c, BPF_H, FP, WORD(WAY, 8) + 2, R1);
	load(c, BPF_H, R1, R6, offsetof(struct bpf_sk_lookup, remote_port));
	store(c, BPF_H, FP, WORD(WAY, 8), R1);
	write_ip(c, KEY, offsetof(struct bpf_sk_lookup, local_ip4),
		 offsetof(struct bpf_sk_lookup, local_ip6));
	for (int i = 0; i < 4; i++) {
		load(c, BPF_W, R1, FP, (size_t)WORD(KEY, i));
		store(c, BPF_W, FP, WORD(WAY, 4 + i), R1);
	}
	write_ip(c, WAY, offsetof(struct bpf_sk_lookup, remote_ip4),
		 offsetof(struct bpf_sk_lookup, remote_ip6));
	find_held(in, held);
	land(c, no);
	leave(c, SK_PASS);
	for (int i = 0; i < 3; i++)
		land(c, held[i]);
	lookup(c, in->gate->passes, WAY);
	size_t stranger = jump_null(c, R0);
	leave(c, SK_PASS);
	land(c, stranger);
	store_word(c, COUNT, 0);
	size_t v4 = jump(c, BPF_JEQ, R7, AF_INET);
	store_word(c, COUNT, 1);
	land(c, v4);
	lookup(c, in->gate->doors, COUNT);
	size_t there = jump_there(c, R0);
	leave(c, SK_DROP);
	land(c, there);
	move(c, R8, R0);
	move(c, R1, R6);
	move(c, R2, R8);
	set(c, R3, 0);
	call(c, BPF_FUNC_sk_assign);
	move(c, R7, R0);
	move(c, R1, R8);
	call(c, BPF_FUNC_sk_release);
	size_t assigned = jump(c, BPF_JEQ, R7, 0);
	leave(c, SK_DROP);
	land(c, assigned);
	leave(c, SK_PASS);
}

const struct flat_in_program flat_in_programs[FLAT_IN_PROGRAMS] = {
    {{"flat_in_sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS}, make_sockops},
    {{"flat_in_release", BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_RELEASE}, make_release},
    {{"flat_in_bind4", BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET4_POST_BIND}, make_bind},
    {{"flat_in_bind6", BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET6_POST_BIND}, make_bind},
    {{"flat_in_peer4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME}, make_peer4},
    {{"flat_in_peer6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_GETPEERNAME}, make_peer6},
    {{"flat_in_guard", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS}, make_guard},
};

const struct flat_in_program flat_in_lookup = {
    {"flat_in_lookup", BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP},
    make_lookup,
};
