/* What a filter of system calls forbids: our reading of its program against the kernel's. */
#include <criterion/criterion.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/sys.h"

#define PROGRAM(name, ...)                                                                         \
	static struct sock_filter name##_lines[] = {__VA_ARGS__};                                  \
	static const struct sock_fprog name = {                                                    \
	    .len = sizeof(name##_lines) / sizeof(name##_lines[0]), .filter = name##_lines}

#define NR BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ARG(i) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (i))
#define RET(what) BPF_STMT(BPF_RET | BPF_K, what)
#define REFUSED(e) (SECCOMP_RET_ERRNO | (e))

/* Numbers of 1000 and more exist nowhere: ENOSYS where they are allowed. */
#define FIRST 1000
#define MANY 40

PROGRAM(ranges, NR, BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST, 0, 4),
	BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, FIRST + 20, 3, 0),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 1, 0), RET(REFUSED(5)), RET(REFUSED(6)),
	RET(SECCOMP_RET_ALLOW));

/* ((nr - 1000) * 3 ^ 5) & 7 by way of memory, shifts and the other register. */
PROGRAM(sums, NR, BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST, 1, 0), RET(SECCOMP_RET_ALLOW),
	BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, FIRST), BPF_STMT(BPF_ST, 3),
	BPF_STMT(BPF_LDX | BPF_MEM, 3), BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 1),
	BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0), BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 5),
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 7), BPF_STMT(BPF_ALU | BPF_OR | BPF_K, 0x00050000),
	BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1), BPF_STMT(BPF_RET | BPF_A, 0));

PROGRAM(arguments, NR, BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST, 0, 3), ARG(2),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 2), RET(REFUSED(7)), RET(SECCOMP_RET_ALLOW),
	RET(REFUSED(8)));

/* In a child under the filter: one byte for each call, its errno. */
static void ask_kernel(const struct sock_fprog *prog, const unsigned long args[6],
		       uint8_t out[MANY])
{
	int pair[2];
	int status;
	cr_assert_eq(pipe(pair), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, prog) != 0)
			_exit(2);
		for (long i = 0; i < MANY; i++)
			out[i] = (uint8_t)-flat_syscall(FIRST + i, (long)args[0], (long)args[1],
							(long)args[2], (long)args[3], (long)args[4],
							(long)args[5]);
		_exit(write(pair[1], out, MANY) == MANY ? 0 : 3);
	}
	cr_assert_gt(pid, 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_assert_eq(read(pair[0], out, MANY), MANY);
	close(pair[0]);
	close(pair[1]);
}

static void agree(const struct sock_fprog *prog, const unsigned long args[6])
{
	uint8_t wanted[MANY];
	ask_kernel(prog, args, wanted);
	for (long i = 0; i < MANY; i++) {
		unsigned int verdict = flat_confine_verdict(prog, FIRST + i, args);
		unsigned int got = (verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW
				       ? ENOSYS
				       : verdict & SECCOMP_RET_DATA;
		cr_expect_eq(got, wanted[i], "call %ld: we say %u, the kernel %u", FIRST + i, got,
			     wanted[i]);
	}
}

Test(confine, reads_filters_as_the_kernel_does)
{
	const unsigned long none[6] = {0};
	const unsigned long seven[6] = {0, 0, 7};
	agree(&ranges, none);
	agree(&sums, none);
	agree(&arguments, none);
	agree(&arguments, seven);
}

PROGRAM(only_bytes, NR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 1, 0), RET(SECCOMP_RET_KILL_PROCESS),
	RET(SECCOMP_RET_ALLOW));

PROGRAM(no_write, NR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 1), RET(REFUSED(1)),
	RET(SECCOMP_RET_ALLOW));

/* Nothing is installed: that the calls are not made is seen by their working or failing all the same. */
Test(confine, forbidden_calls_are_not_made)
{
	int pair[2];
	char byte = 'x';
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	int pid = getpid();
	flat_confine(&only_bytes, 4711);
	cr_expect_eq(flat_sys_getpid(), 4711, "not asked for, the caller's word is taken");
	cr_expect_neq(pid, 4711);
	cr_expect_eq(flat_sys_yield(), -EPERM);
	cr_expect_eq(flat_sys_fcntl(pair[0], 1, 0), -EPERM);
	cr_expect_eq(flat_sys_recv(pair[0], &byte, 1, MSG_DONTWAIT), -EAGAIN);
	cr_expect_eq(flat_sys_send(pair[1], "ab", 2, MSG_DONTWAIT | MSG_NOSIGNAL), 2);
	cr_expect_eq(flat_sys_recv(pair[0], &byte, 1, MSG_PEEK), 1);
	cr_expect_eq(flat_sys_recv(pair[0], &byte, 1, MSG_DONTWAIT), 1);
	cr_expect_eq(byte, 'a');
	cr_expect_eq(flat_sys_recv(pair[0], &byte, 1, 0), 1);
	cr_expect_eq(byte, 'b');
	close(pair[1]);
	cr_expect_eq(flat_sys_recv(pair[0], &byte, 1, MSG_PEEK), 0);
	cr_expect_eq(flat_sys_recv(pair[0], &byte, 1, MSG_DONTWAIT), 0);
	cr_expect_eq(flat_sys_send(pair[0], "c", 1, MSG_DONTWAIT | MSG_NOSIGNAL), -EPIPE,
		     "no SIGPIPE");
	/* A second filter adds to the first. */
	flat_confine(&no_write, 4711);
	cr_expect(flat_confine_forbids(SYS_write));
	cr_expect(flat_confine_forbids(SYS_sched_yield));
	cr_expect_not(flat_confine_forbids(SYS_read));
	cr_expect_not(flat_confine_forbids(-1));
	cr_expect_not(flat_confine_forbids(100000));
}

PROGRAM(endless, NR, BPF_STMT(BPF_JMP | BPF_JA, 1000));

Test(confine, a_program_that_ends_nowhere_allows_nothing)
{
	const unsigned long none[6] = {0};
	cr_expect_eq(flat_confine_verdict(&endless, 1, none), SECCOMP_RET_KILL_PROCESS);
}

#ifdef SYS_poll
PROGRAM(no_ppoll, NR, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ppoll, 0, 1),
	RET(SECCOMP_RET_KILL_PROCESS), RET(SECCOMP_RET_ALLOW));

Test(confine, poll_stands_in_for_ppoll)
{
	int pair[2];
	cr_assert_eq(pipe(pair), 0);
	struct pollfd p = {.fd = pair[0], .events = POLLIN};
	struct timespec limit = {0, 3000000};
	flat_confine(&no_ppoll, getpid());
	cr_expect_eq(flat_sys_ppoll(&p, 1, &limit, NULL), 0);
	cr_expect(limit.tv_sec == 0 && limit.tv_nsec == 0, "as the kernel leaves it");
	cr_assert_eq(write(pair[1], "x", 1), 1);
	limit.tv_sec = 3600;
	cr_expect_eq(flat_sys_ppoll(&p, 1, &limit, NULL), 1);
	cr_expect(limit.tv_sec >= 3000 && limit.tv_sec <= 3600);
	cr_expect_eq(flat_sys_ppoll(&p, 1, NULL, NULL), 1);
}
#endif
