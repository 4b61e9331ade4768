#include "base/confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>

#include "base/sys.h"

/* Numbers of system calls that are in use; those above are not ours. */
#define NUMBERS 512

int flat_confined;
static uint64_t forbidden[NUMBERS / 64];

bool flat_confine_forbids(long nr)
{
	return nr >= 0 && nr < NUMBERS && (forbidden[nr / 64] & (1ULL << (nr % 64)));
}

/* --- a filter's program (Documentation/userspace-api/seccomp_filter.rst; net/core/filter.c for the instructions) --- */

struct machine {
	uint32_t a;
	uint32_t x;
	uint32_t memory[BPF_MEMWORDS];
	const struct seccomp_data *data;
};

static uint32_t alu(const struct machine *m, uint16_t op, uint32_t by)
{
	switch (op) {
	case BPF_ADD:
		return m->a + by;
	case BPF_SUB:
		return m->a - by;
	case BPF_MUL:
		return m->a * by;
	case BPF_DIV:
		return by ? m->a / by : 0;
	case BPF_AND:
		return m->a & by;
	case BPF_OR:
		return m->a | by;
	case BPF_XOR:
		return m->a ^ by;
	case BPF_LSH:
		return by < 32 ? m->a << by : 0;
	case BPF_RSH:
		return by < 32 ? m->a >> by : 0;
	default: /* BPF_NEG */
		return 0 - m->a;
	}
}

static bool jumps(const struct machine *m, uint16_t op, uint32_t by)
{
	switch (op) {
	case BPF_JEQ:
		return m->a == by;
	case BPF_JGT:
		return m->a > by;
	case BPF_JGE:
		return m->a >= by;
	default: /* BPF_JSET */
		return (m->a & by) != 0;
	}
}

static uint32_t loaded(const struct machine *m, const struct sock_filter *i)
{
	uint32_t word = 0;
	switch (BPF_MODE(i->code)) {
	case BPF_IMM:
		return i->k;
	case BPF_LEN:
		return sizeof(*m->data);
	case BPF_MEM:
		return m->memory[i->k % BPF_MEMWORDS];
	default: /* BPF_ABS */
		if (i->k <= sizeof(*m->data) - sizeof(word))
			memcpy(&word, (const uint8_t *)m->data + i->k, sizeof(word));
		return word;
	}
}

/* Neither a jump nor a return. */
static void step(struct machine *m, const struct sock_filter *i)
{
	uint32_t by = BPF_SRC(i->code) == BPF_X ? m->x : i->k;
	switch (BPF_CLASS(i->code)) {
	case BPF_LD:
		m->a = loaded(m, i);
		break;
	case BPF_LDX:
		m->x = loaded(m, i);
		break;
	case BPF_ST:
		m->memory[i->k % BPF_MEMWORDS] = m->a;
		break;
	case BPF_STX:
		m->memory[i->k % BPF_MEMWORDS] = m->x;
		break;
	case BPF_ALU:
		m->a = alu(m, BPF_OP(i->code), by);
		break;
	default: /* BPF_MISC */
		if (BPF_MISCOP(i->code) == BPF_TAX)
			m->x = m->a;
		else
			m->a = m->x;
	}
}

unsigned int flat_confine_verdict(const struct sock_fprog *prog, long nr,
				  const unsigned long args[6])
{
	struct seccomp_data data = {.nr = (int)nr};
	struct machine m = {.data = &data};
#if defined(__x86_64__)
	data.arch = AUDIT_ARCH_X86_64;
#else
	data.arch = AUDIT_ARCH_AARCH64;
#endif
	for (int i = 0; i < 6; i++)
		data.args[i] = args[i];
	/* Jumps go forward only: every program ends. */
	for (size_t pc = 0; pc < prog->len; pc++) {
		const struct sock_filter *i = &prog->filter[pc];
		uint32_t by = BPF_SRC(i->code) == BPF_X ? m.x : i->k;
		if (BPF_CLASS(i->code) == BPF_RET)
			return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
		if (BPF_CLASS(i->code) != BPF_JMP)
			step(&m, i);
		else if (BPF_OP(i->code) == BPF_JA)
			pc += i->k;
		else
			pc += jumps(&m, BPF_OP(i->code), by) ? i->jt : i->jf;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static bool allows(const struct sock_fprog *prog, long nr)
{
	/* Of fcntl's commands the locks of connections that processes share are the ones which filters leave out. */
	const unsigned long args[6] = {0, nr == SYS_fcntl ? F_SETLKW : 0};
	switch (flat_confine_verdict(prog, nr, args) & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_TRACE:
	case SECCOMP_RET_USER_NOTIF:
		return true;
	default:
		return false;
	}
}

void flat_confine(const struct sock_fprog *prog, int pid)
{
	for (long nr = 0; nr < NUMBERS; nr++) {
		if (!allows(prog, nr))
			forbidden[nr / 64] |= 1ULL << (nr % 64);
	}
	flat_confined = pid;
}

/* --- with fewer calls --- */

ssize_t flat_confined_send(int fd, const void *buf, size_t len, int flags)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	struct timespec zero = {0};
	int n = flat_sys_ppoll(&p, 1, flags & MSG_DONTWAIT ? &zero : NULL, NULL);
	if (n < 0)
		return n;
	if (p.revents & (POLLERR | POLLHUP))
		return -EPIPE;
	return n == 0 ? -EAGAIN : flat_sys_write(fd, buf, len);
}

ssize_t flat_confined_recv(int fd, void *buf, size_t len, int flags)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
	struct timespec zero = {0};
	int n = flat_sys_ppoll(&p, 1, flags & MSG_DONTWAIT ? &zero : NULL, NULL);
	if (n < 0)
		return n;
	if (n == 0)
		return -EAGAIN;
	if (flags & MSG_PEEK)
		return p.revents & (POLLHUP | POLLRDHUP) ? 0 : 1;
	return flat_sys_read(fd, buf, len);
}

int flat_confined_poll(struct pollfd *fds, unsigned long n, struct timespec *timeout)
{
#ifdef SYS_poll
	struct timespec begin = {0};
	struct timespec end = {0};
	long limit_ms = -1;
	if (timeout) {
		/* By the vDSO. */
		(void)clock_gettime(CLOCK_MONOTONIC, &begin);
		limit_ms = timeout->tv_sec > 2000000
			       ? 2000000000
			       : timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000;
	}
	int ready = (int)FLAT_SYS3(SYS_poll, fds, n, limit_ms);
	if (timeout) {
		(void)clock_gettime(CLOCK_MONOTONIC, &end);
		int64_t left = (timeout->tv_sec - (end.tv_sec - begin.tv_sec)) * 1000000000LL +
			       timeout->tv_nsec - (end.tv_nsec - begin.tv_nsec);
		left = ready == 0 || left < 0 ? 0 : left;
		timeout->tv_sec = left / 1000000000;
		timeout->tv_nsec = left % 1000000000;
	}
	return ready;
#else
	(void)fds;
	(void)n;
	(void)timeout;
	return -EPERM;
#endif
}
