/*
 * Programs for datagrams that confined workloads send to name servers. Their kernel sends the datagrams of a connected socket without
 * a hook that sees who sends: so who asks is written down when the socket names its server, and found again as the packet leaves.
 */
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include "offload/capture_code.h"

/* The address of 127.128.0.0/9 by which flatd, and the socket, know the server: at KEY. */
#define ALIAS KEY
/* 127.128.0.0/9: its first nine bits. */
#define ALIAS_NET 0x7f800000
#define ALIAS_SHIFT 23
/* Even: the last of them, 127.255.255.255, is a broadcast, which sockets are not let send to. */
#define ALIAS_HASH 0x007ffffe

/* R7 = the alias of the server in the record, in network order. Its low 23 bits are a hash of the address, and even. */
static void make_alias(struct code *c)
{
	load(c, BPF_W, R7, FP, (size_t)WORD(RECORD, 3));
	emit(c, BPF_ALU | BPF_END | BPF_TO_BE, R7, 0, 0, 32);
	/* Odd: neighbours differ. Knuth's, 2^32 over the golden ratio. */
	emit(c, BPF_ALU | BPF_MUL | BPF_K, R7, 0, 0, (int32_t)0x9e3779b1U);
	emit(c, BPF_ALU | BPF_RSH | BPF_K, R7, 0, 0, 32 - ALIAS_SHIFT);
	emit(c, BPF_ALU | BPF_AND | BPF_K, R7, 0, 0, ALIAS_HASH);
	emit(c, BPF_ALU | BPF_OR | BPF_K, R7, 0, 0, ALIAS_NET);
	emit(c, BPF_ALU | BPF_END | BPF_TO_BE, R7, 0, 0, 32);
	store(c, BPF_W, FP, ALIAS, R7);
}

/* map[key] = value, both in the stack; without room the call of the process fails. */
static void put(struct code *c, int map, int key, int value)
{
	map_and_key(c, map, key);
	point(c, R3, value);
	set(c, R4, BPF_ANY);
	call(c, BPF_FUNC_map_update_elem);
	size_t written = jump(c, BPF_JEQ, R0, 0);
	leave(c, 0);
	land(c, written);
}

/* connect(), or a datagram with an address: what is for a name server goes to flatd. */
static void make_to(struct maker *m, bool v6)
{
	struct code *c = &m->code;
	const size_t ip6 = offsetof(struct bpf_sock_addr, user_ip6);
	size_t other[3];
	move(c, R6, R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, type));
	other[0] = jump(c, BPF_JNE, R1, SOCK_DGRAM);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, protocol));
	other[1] = jump(c, BPF_JNE, R1, IPPROTO_UDP);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, user_port));
	other[2] = jump(c, BPF_JNE, R1, htons(FLAT_DNS_PORT));
	write_address(c, v6);
	is_v4(c);
	write_caller(m);
	cookie(c);
	put(c, m->maps->askers, COOKIE, RECORD);
	size_t is6 = jump(c, BPF_JEQ, R9, 0);
	make_alias(c);
	put(c, m->maps->servers, ALIAS, WORD(RECORD, 3));
	if (v6)
		store(c, BPF_W, R6, (int)(ip6 + 12), R7);
	else
		store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_ip4), R7);
	size_t done = emit(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
	land(c, is6);
	set(c, R1, 0);
	for (size_t i = 0; v6 && i < 3; i++)
		store(c, BPF_W, R6, (int)(ip6 + 4 * i), R1);
	set(c, R1, (int32_t)htonl(1));
	if (v6)
		store(c, BPF_W, R6, (int)(ip6 + 12), R1);
	land(c, done);
	set(c, R1, htons(m->port));
	store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_port), R1);
	for (size_t i = 0; i < 3; i++)
		land(c, other[i]);
	leave(c, 1);
}

void flat_capture_dns_to4(struct maker *m)
{
	make_to(m, false);
}

void flat_capture_dns_to6(struct maker *m)
{
	make_to(m, true);
}

/* The word of an address at `at` in the context (network order), if it is an alias: the server it stands for, there. */
static void unalias(struct maker *m, size_t at)
{
	struct code *c = &m->code;
	load(c, BPF_W, R1, R6, at);
	store(c, BPF_W, FP, ALIAS, R1);
	emit(c, BPF_ALU | BPF_END | BPF_TO_BE, R1, 0, 0, 32);
	emit(c, BPF_ALU | BPF_RSH | BPF_K, R1, 0, 0, ALIAS_SHIFT);
	size_t one = jump(c, BPF_JEQ, R1, (uint32_t)ALIAS_NET >> ALIAS_SHIFT);
	leave(c, 1);
	land(c, one);
	map_and_key(c, m->maps->servers, ALIAS);
	call(c, BPF_FUNC_map_lookup_elem);
	size_t known = emit(c, BPF_JMP | BPF_JNE | BPF_K, R0, 0, 0, 0);
	leave(c, 1);
	land(c, known);
	load(c, BPF_W, R1, R0, 0);
	store(c, BPF_W, R6, (int)at, R1);
}

/* Who a datagram is from, or a socket's peer: of flatd's answers the server that was asked. */
static void make_from(struct maker *m, bool v6)
{
	struct code *c = &m->code;
	const size_t ip6 = offsetof(struct bpf_sock_addr, user_ip6);
	size_t no[3];
	size_t done = PROGRAM_MAX;
	move(c, R6, R1);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, protocol));
	size_t udp = jump(c, BPF_JEQ, R1, IPPROTO_UDP);
	leave(c, 1);
	land(c, udp);
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, user_port));
	size_t ours = jump(c, BPF_JEQ, R1, htons(m->port));
	leave(c, 1);
	land(c, ours);
	if (v6) {
		for (size_t i = 0; i < 3; i++) {
			load(c, BPF_W, R1, R6, ip6 + 4 * i);
			no[i] = jump(c, BPF_JNE, R1, i < 2 ? 0 : V4_MARK);
		}
		unalias(m, ip6 + 12);
		done = emit(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
		for (size_t i = 0; i < 3; i++)
			land(c, no[i]);
		/* ::1, of which there is one: what the socket asked last. */
		load(c, BPF_W, R1, R6, ip6 + 12);
		size_t one = jump(c, BPF_JEQ, R1, htonl(1));
		leave(c, 1);
		land(c, one);
		cookie(c);
		map_and_key(c, m->maps->askers, COOKIE);
		call(c, BPF_FUNC_map_lookup_elem);
		size_t known = emit(c, BPF_JMP | BPF_JNE | BPF_K, R0, 0, 0, 0);
		leave(c, 1);
		land(c, known);
		for (size_t i = 0; i < 4; i++) {
			load(c, BPF_W, R1, R0, offsetof(struct flat_capture_record, ip) + 4 * i);
			store(c, BPF_W, R6, (int)(ip6 + 4 * i), R1);
		}
		land(c, done);
	} else {
		unalias(m, offsetof(struct bpf_sock_addr, user_ip4));
	}
	set(c, R1, htons(FLAT_DNS_PORT));
	store(c, BPF_W, R6, offsetof(struct bpf_sock_addr, user_port), R1);
	leave(c, 1);
}

void flat_capture_dns_from4(struct maker *m)
{
	make_from(m, false);
}

void flat_capture_dns_from6(struct maker *m)
{
	make_from(m, true);
}

/* A packet at R7, which ends at R3: its source is put at KEY if it is a datagram for flatd. Jumps of those that are none: `no`. */
static size_t write_packet_source(struct maker *m, bool v6, size_t no[8])
{
	struct code *c = &m->code;
	const size_t head = v6 ? sizeof(struct ip6_hdr) : sizeof(struct ip);
	const size_t from = v6 ? offsetof(struct ip6_hdr, ip6_src) : offsetof(struct ip, ip_src);
	const size_t to = v6 ? offsetof(struct ip6_hdr, ip6_dst) : offsetof(struct ip, ip_dst);
	size_t n = 0;
	move(c, R4, R7);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, R4, 0, 0, (int32_t)(head + sizeof(struct udphdr)));
	no[n++] = emit(c, BPF_JMP | BPF_JGT | BPF_X, R4, R3, 0, 0);
	load(c, BPF_B, R1, R7, v6 ? offsetof(struct ip6_hdr, ip6_nxt) : offsetof(struct ip, ip_p));
	no[n++] = jump(c, BPF_JNE, R1, IPPROTO_UDP);
	load(c, BPF_H, R1, R7, head + offsetof(struct udphdr, uh_dport));
	no[n++] = jump(c, BPF_JNE, R1, htons(m->port));
	for (size_t i = 0; v6 && i < 4; i++) {
		load(c, BPF_W, R1, R7, to + 4 * i);
		no[n++] = jump(c, BPF_JNE, R1, i < 3 ? 0 : htonl(1));
	}
	if (!v6) {
		load(c, BPF_B, R1, R7, to);
		no[n++] = jump(c, BPF_JNE, R1, 127);
		/* Without options: else the ports are elsewhere. */
		load(c, BPF_B, R1, R7, 0);
		no[n++] = jump(c, BPF_JNE, R1, 0x45);
	}
	for (int i = 0; i < 4; i++) {
		if (v6 || i == 3)
			load(c, BPF_W, R1, R7, from + (v6 ? 4 * (size_t)i : 0));
		else
			set(c, R1, i < 2 ? 0 : (int32_t)V4_MARK);
		store(c, BPF_W, FP, WORD(KEY, i), R1);
	}
	load(c, BPF_H, R1, R7, head + offsetof(struct udphdr, uh_sport));
	emit(c, BPF_ALU | BPF_END | BPF_TO_BE, R1, 0, 0, 16);
	store(c, BPF_W, FP, WORD(KEY, 4), R1);
	return n;
}

/* As a packet leaves, with its source known: who sent it is written down there, and it gets the mark. */
void flat_capture_dns_out(struct maker *m)
{
	struct code *c = &m->code;
	size_t no[2][8];
	move(c, R6, R1);
	load(c, BPF_W, R7, R6, offsetof(struct __sk_buff, data));
	load(c, BPF_W, R3, R6, offsetof(struct __sk_buff, data_end));
	load(c, BPF_W, R1, R6, offsetof(struct __sk_buff, protocol));
	size_t v6 = jump(c, BPF_JEQ, R1, htons(ETH_P_IPV6));
	size_t other = jump(c, BPF_JNE, R1, htons(ETH_P_IP));
	size_t n4 = write_packet_source(m, false, no[0]);
	size_t known = emit(c, BPF_JMP | BPF_JA, 0, 0, 0, 0);
	land(c, v6);
	size_t n6 = write_packet_source(m, true, no[1]);
	land(c, known);
	cookie(c);
	map_and_key(c, m->maps->askers, COOKIE);
	call(c, BPF_FUNC_map_lookup_elem);
	size_t none = emit(c, BPF_JMP | BPF_JEQ | BPF_K, R0, 0, 0, 0);
	move(c, R8, R0);
	map_and_key(c, m->maps->sources, KEY);
	move(c, R3, R8);
	set(c, R4, BPF_ANY);
	call(c, BPF_FUNC_map_update_elem);
	size_t full = jump(c, BPF_JNE, R0, 0);
	set(c, R1, (int32_t)m->maps->mark);
	store(c, BPF_W, R6, offsetof(struct __sk_buff, mark), R1);
	land(c, full);
	land(c, none);
	land(c, other);
	for (size_t i = 0; i < n4; i++)
		land(c, no[0][i]);
	for (size_t i = 0; i < n6; i++)
		land(c, no[1][i]);
	leave(c, 1);
}
