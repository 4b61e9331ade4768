/*
 * Carrying: a program without the library gets a plain pair of the kernel's instead of a flat socket, and a process of its
 * own, forked from the one that hands over, moves the bytes between the two (docs/design/processes.md, section 5). It holds
 * the connection as any other process would, so policies and the offload half's checks are the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/share.h"

/* A pair has no names, so one that its program's side was given tells the carrier. */
void flat_carry_give_back(int plain)
{
	struct sockaddr any = {.sa_family = AF_UNIX};
	/* It holds this side too. What has a name is no pair, but a listening socket of the kernel's, which others share. */
	if (FLAT_SYS3(SYS_bind, plain, &any, sizeof(any.sa_family)) == 0)
		(void)flat_sys_shutdown(plain, SHUT_RDWR);
}

/* The descriptors that a carrier begins with. */
enum { ANCHOR, PLAIN, PROGRAM, PIDFD, READY, N_KEPT };

/* Everything but these and what is private: programs that wait for a pipe's end must not wait for us. */
static void close_others(const int kept[N_KEPT])
{
	unsigned int from = 0;
	for (;;) {
		unsigned int next = ~0U;
		for (int i = 0; i < N_KEPT; i++) {
			if (kept[i] >= 0 && (unsigned int)kept[i] >= from &&
			    (unsigned int)kept[i] < next)
				next = (unsigned int)kept[i];
		}
		if (next > from)
			(void)flat_close_range(from, next == ~0U ? next : next - 1, 0);
		if (next == ~0U)
			return;
		from = next + 1;
	}
}

/* In the carrier. `kept`: what flat_carry() made; the anchor as it is there. */
static void run(struct flat_sock *s, int kept[N_KEPT], int pid, bool reads)
{
	kept[ANCHOR] = flat_sys_fcntl(kept[ANCHOR], F_DUPFD_CLOEXEC, 3);
	struct flat_carrier *c =
	    mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (kept[ANCHOR] < 0 || c == MAP_FAILED)
		return;
	/* In a child of vfork() these numbers meant something else in the tables. */
	flat_fd_bind_more(kept[ANCHOR], s);
	for (int i = PLAIN; i < N_KEPT; i++) {
		if (kept[i] >= 0)
			flat_fd_unbind(kept[i]);
	}
	/* Before locks are taken: the kernel drops them with any descriptor of the anchor that is closed. */
	close_others(kept);
	(void)FLAT_SYS0(SYS_setsid);
	(void)!chdir("/");
	(void)prctl(PR_SET_NAME, "flat-carry");
	c->s = s;
	c->anchor = kept[ANCHOR];
	c->plain = kept[PLAIN];
	c->program = kept[PROGRAM];
	c->pidfd = kept[PIDFD];
	c->pid = pid;
	c->reads = reads;
	if (!flat_carrier_join(c))
		return;
	(void)flat_sys_write(kept[READY], "", 1);
	flat_sys_close(kept[READY]);
	flat_carrier_run(c);
}

/* Makes the carrier, and waits until it has taken its place. False: there is none. */
static bool start(struct flat_sock *s, int kept[N_KEPT], int ready, int pid, bool reads)
{
	int status;
	char byte;
	ssize_t n;
	pid_t child = fork();
	if (child == 0) {
		/* A grandchild is nobody's to wait for. */
		if (fork() == 0)
			run(s, kept, pid, reads);
		(void)flat_close_range(0, ~0U, 0);
		_exit(0);
	}
	flat_sys_close(kept[READY]);
	kept[READY] = -1;
	if (child < 0)
		return false;
	(void)FLAT_SYS4(SYS_wait4, child, &status, 0, NULL);
	do
		n = flat_sys_read(ready, &byte, 1);
	while (n == -EINTR);
	return n == 1;
}

static void close_all(const int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		if (fds[i] >= 0)
			flat_sys_close(fds[i]);
	}
}

int flat_carry(struct flat_sock *s, int anchor, bool reads)
{
	int pair[2];
	int ready[2];
	uint64_t all = ~0ULL;
	uint64_t old = 0;
	int err = flat_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	if (err < 0)
		return err;
	err = (int)FLAT_SYS2(SYS_pipe2, ready, O_CLOEXEC);
	if (err < 0) {
		close_all(pair, 2);
		return err;
	}
	flat_share_export(s, anchor);
	/* What programs before this one wrote goes before what it writes. */
	if (flat_ring_carried(&s->vq.rx) != 0) {
		flat_share_want(anchor, -1);
		flat_share_unwant(anchor, -1);
	}
	int pid = flat_sys_getpid();
	int kept[N_KEPT] = {[ANCHOR] = anchor,
			    [PLAIN] = pair[1],
			    [PROGRAM] = pair[0],
			    [PIDFD] = (int)FLAT_SYS2(SYS_pidfd_open, pid, 0),
			    [READY] = ready[1]};
	/* The program's handlers are not for the processes made here. */
	(void)FLAT_SYS4(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, sizeof(all));
	bool right = start(s, kept, ready[0], pid, reads);
	(void)FLAT_SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	close_all((int[]){pair[1], kept[PIDFD], ready[0]}, 3);
	if (!right) {
		flat_sys_close(pair[0]);
		return -EAGAIN;
	}
	int fl = flat_sys_fcntl(anchor, F_GETFL, 0);
	if (fl & O_NONBLOCK)
		(void)flat_sys_fcntl(pair[0], F_SETFL, O_NONBLOCK);
	return pair[0];
}
