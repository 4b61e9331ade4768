/*
 * How the programs of confined workloads are written: instructions, and the pieces that several of them have. A program that
 * got too long lacks its end, and the kernel refuses it. Used by the files capture_*bpf.c alone.
 */
#ifndef FLAT_OFFLOAD_CAPTURE_CODE_H
#define FLAT_OFFLOAD_CAPTURE_CODE_H

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/stat.h>

#include "offload/capture_bpf.h"

#define PROGRAM_MAX 256
/* The first bytes of an IPv4 address in the form of IPv6. */
#define V4_MARK htonl(0xffff)

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP };

struct code {
	struct bpf_insn v[PROGRAM_MAX];
	size_t n;
};

/* What does not fit is left out: the kernel refuses a program without an end. */
static inline size_t emit(struct code *c, int op, int dst, int src, int off, int32_t imm)
{
	size_t at = c->n;
	if (at < PROGRAM_MAX)
		c->v[c->n++] = (struct bpf_insn){
		    .code = (uint8_t)op,
		    .dst_reg = (uint8_t)dst & 15U,
		    .src_reg = (uint8_t)src & 15U,
		    .off = (int16_t)off,
		    .imm = imm,
		};
	return at;
}

static inline void move(struct code *c, int dst, int src)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

static inline void set(struct code *c, int dst, int32_t value)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}

static inline void set_wide(struct code *c, int dst, int kind, uint64_t value)
{
	emit(c, BPF_LD | BPF_DW | BPF_IMM, dst, kind, 0, (int32_t)(uint32_t)value);
	emit(c, 0, 0, 0, 0, (int32_t)(uint32_t)(value >> 32));
}

static inline void load(struct code *c, int size, int dst, int from, size_t off)
{
	emit(c, BPF_LDX | BPF_MEM | size, dst, from, (int)off, 0);
}

static inline void store(struct code *c, int size, int to, int off, int src)
{
	emit(c, BPF_STX | BPF_MEM | size, to, src, off, 0);
}

/* A pointer into the stack. */
static inline void point(struct code *c, int dst, int off)
{
	move(c, dst, FP);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, off);
}

static inline void call(struct code *c, int helper)
{
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

/* Jumps, to where land() is called, if `reg` OP `value`, the low 32 bits of it. */
static inline size_t jump(struct code *c, int op, int reg, uint32_t value)
{
	return emit(c, BPF_JMP32 | op | BPF_K, reg, 0, 0, (int32_t)value);
}

static inline void land(struct code *c, size_t from)
{
	if (from < PROGRAM_MAX)
		c->v[from].off = (int16_t)(c->n - from - 1);
}

static inline void leave(struct code *c, int verdict)
{
	set(c, R0, verdict);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* --- pieces --- */

#define COOKIE (-8)
#define RECORD (-48)
#define KEY (-72)
#define PIDS (-80)
#define AT(member) (RECORD + (int)offsetof(struct flat_capture_record, member))
#define WORD(base, i) ((base) + 4 * (i))

/* How a program learns a pid that means something to flatd. */
enum pids {
	PIDS_GLOBAL,	/* flatd is in the namespace that the kernel counts in */
	PIDS_NAMESPACE, /* asked for that of flatd's (Linux 6.10) */
	PIDS_UNKNOWN,
};

struct maker {
	struct code code;
	const struct flat_capture_bpf *maps;
	uint16_t port;
	enum pids pids;
	struct stat pid_namespace;
};

static inline void cookie(struct code *c)
{
	move(c, R1, R6);
	call(c, BPF_FUNC_get_socket_cookie);
	store(c, BPF_DW, FP, COOKIE, R0);
}

/* R1 and R2 for a call: a map, and the key at `key`. */
static inline void map_and_key(struct code *c, int map, int key)
{
	set_wide(c, R1, BPF_PSEUDO_MAP_FD, (uint32_t)map);
	point(c, R2, key);
}

/* R0: the record of the socket. One that has none is let be. */
static inline void find_record(struct maker *m)
{
	struct code *c = &m->code;
	cookie(c);
	map_and_key(c, m->maps->origins, COOKIE);
	call(c, BPF_FUNC_map_lookup_elem);
	size_t known = emit(c, BPF_JMP | BPF_JNE | BPF_K, R0, 0, 0, 0);
	leave(c, 1);
	land(c, known);
}

/* Who calls, by flatd's count; left 0 where it has none for it. */
static inline void write_pid(struct maker *m)
{
	struct code *c = &m->code;
	set(c, R1, 0);
	store(c, BPF_W, FP, AT(pid), R1);
	if (m->pids == PIDS_GLOBAL) {
		call(c, BPF_FUNC_get_current_pid_tgid);
		emit(c, BPF_ALU64 | BPF_RSH | BPF_K, R0, 0, 0, 32);
		store(c, BPF_W, FP, AT(pid), R0);
	}
	if (m->pids != PIDS_NAMESPACE)
		return;
	store(c, BPF_DW, FP, PIDS, R1);
	set_wide(c, R1, 0, m->pid_namespace.st_dev);
	set_wide(c, R2, 0, m->pid_namespace.st_ino);
	point(c, R3, PIDS);
	set(c, R4, sizeof(struct bpf_pidns_info));
	call(c, BPF_FUNC_get_ns_current_pid_tgid);
	load(c, BPF_W, R1, FP, (size_t)(PIDS + (int)offsetof(struct bpf_pidns_info, tgid)));
	store(c, BPF_W, FP, AT(pid), R1);
}

static inline void write_caller(struct maker *m)
{
	struct code *c = &m->code;
	write_pid(m);
	call(c, BPF_FUNC_get_current_uid_gid);
	store(c, BPF_W, FP, AT(uid), R0);
	emit(c, BPF_ALU64 | BPF_RSH | BPF_K, R0, 0, 0, 32);
	store(c, BPF_W, FP, AT(gid), R0);
	call(c, BPF_FUNC_get_current_cgroup_id);
	store(c, BPF_DW, FP, AT(cgroup), R0);
}

/* The address that was asked for, in the record. */
static inline void write_address(struct code *c, bool v6)
{
	if (!v6) {
		set(c, R1, 0);
		store(c, BPF_DW, FP, WORD(RECORD, 0), R1);
		set(c, R1, (int32_t)V4_MARK);
		store(c, BPF_W, FP, WORD(RECORD, 2), R1);
		load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, user_ip4));
		store(c, BPF_W, FP, WORD(RECORD, 3), R1);
	}
	for (int i = 0; v6 && i < 4; i++) {
		load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, user_ip6) + 4 * (size_t)i);
		store(c, BPF_W, FP, WORD(RECORD, i), R1);
	}
	load(c, BPF_W, R1, R6, offsetof(struct bpf_sock_addr, user_port));
	store(c, BPF_W, FP, AT(port), R1);
}

/* R9 = 1 if the record's address is one of IPv4, else 0. */
static inline void is_v4(struct code *c)
{
	size_t no[3];
	set(c, R9, 0);
	for (int i = 0; i < 3; i++) {
		load(c, BPF_W, R1, FP, (size_t)WORD(RECORD, i));
		no[i] = jump(c, BPF_JNE, R1, i < 2 ? 0 : V4_MARK);
	}
	set(c, R9, 1);
	for (int i = 0; i < 3; i++)
		land(c, no[i]);
}

/* --- what capture_dns_bpf.c makes --- */

void flat_capture_dns_out(struct maker *m);
void flat_capture_dns_from4(struct maker *m);
void flat_capture_dns_from6(struct maker *m);
void flat_capture_dns_to4(struct maker *m);
void flat_capture_dns_to6(struct maker *m);

#endif
