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

#define CHUNK ((size_t)64 * 1024)

/* A pair has no names, so one that its program's side was given tells the carrier. */
void flat_carry_give_back(int plain)
{
	struct sockaddr any = {.sa_family = AF_UNIX};
	(void)FLAT_SYS3(SYS_bind, plain, &any, sizeof(any.sa_family));
}

static bool given_back(int plain)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	return FLAT_SYS3(SYS_getpeername, plain, &ss, &len) == 0 && len > sizeof(ss.ss_family);
}

/* One direction: bytes read and not written yet. */
struct way {
	int from;
	int to;
	bool to_flat;
	bool over; /* nothing more will be read */
	size_t at;
	size_t len;
	uint8_t buf[CHUNK];
};

/* Nobody holds the program's side any more; one that was only shut down is held. */
static bool program_gone(int plain)
{
	struct pollfd p = {.fd = plain};
	struct timespec zero = {0};
	return flat_sys_ppoll(&p, 1, &zero, NULL) == 1 && (p.revents & POLLHUP);
}

static void end(struct way *w)
{
	/* exec failed: the connection is its old owner's again, and goes on. */
	if (w->to_flat && given_back(w->from))
		_exit(0);
	w->over = true;
	w->len = 0;
	/* Who ends lets go, no more: others may hold the connection, and the offload half sees the last one go. */
	if (w->to_flat && program_gone(w->from))
		return;
	(void)(w->to_flat ? flat_shutdown(w->to, SHUT_WR) : flat_sys_shutdown(w->to, SHUT_WR));
}

/* One step. True: something happened. */
static bool move(struct way *w)
{
	if (w->len > 0) {
		int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
		ssize_t n = flat_send(w->to, w->buf + w->at, w->len, flags);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			end(w);
		if (n <= 0)
			return n < 0 && errno != EAGAIN;
		w->at += (size_t)n;
		w->len -= (size_t)n;
		return true;
	}
	if (w->over)
		return false;
	/* What comes now is for who holds the connection still. */
	if (!w->to_flat && program_gone(w->to)) {
		w->over = true;
		return true;
	}
	ssize_t n = flat_recv(w->from, w->buf, CHUNK, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		end(w);
	w->at = 0;
	w->len = n > 0 ? (size_t)n : 0;
	return true;
}

static short wanted(const struct way *in, const struct way *out)
{
	return (short)((in->len == 0 && !in->over ? POLLIN : 0) | (out->len > 0 ? POLLOUT : 0));
}

/* Until both ways are over, or the program that is served is gone with nothing left that it wrote. */
static void carry(struct way *up, struct way *down)
{
	for (;;) {
		bool moved = true;
		while (moved) {
			moved = move(up);
			moved = move(down) || moved;
		}
		if (up->over && down->over && up->len == 0 && down->len == 0)
			return;
		struct pollfd p[2] = {
		    {.fd = up->from, .events = wanted(up, down)},
		    {.fd = down->from, .events = wanted(down, up)},
		};
		/* An end that was told already would be told again and again. */
		if (down->over && down->len == 0 && p[1].events == 0)
			p[1].fd = -1;
		if (flat_poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		if ((p[0].revents & (POLLHUP | POLLERR)) && up->over && up->len == 0)
			return;
	}
}

/* Everything but these two and what is private: programs that wait for a pipe's end must not wait for us. */
static void close_others(int a, int b)
{
	unsigned int low = (unsigned int)(a < b ? a : b);
	unsigned int high = (unsigned int)(a < b ? b : a);
	if (low > 0)
		(void)flat_close_range(0, low - 1, 0);
	if (high > low + 1)
		(void)flat_close_range(low + 1, high - 1, 0);
	(void)flat_close_range(high + 1, ~0U, 0);
}

static void run(struct flat_sock *s, int anchor, int plain)
{
	int fd = flat_sys_fcntl(anchor, F_DUPFD_CLOEXEC, 3);
	struct way *w =
	    mmap(NULL, 2 * sizeof(*w), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || w == MAP_FAILED)
		return;
	/* In a child of vfork() these numbers meant something else in the tables. */
	flat_fd_bind_more(fd, s);
	flat_fd_unbind(plain);
	close_others(fd, plain);
	(void)FLAT_SYS0(SYS_setsid);
	(void)!chdir("/");
	(void)prctl(PR_SET_NAME, "flat-carry");
	w[0].from = w[1].to = plain;
	w[0].to = w[1].from = fd;
	w[0].to_flat = true;
	carry(&w[0], &w[1]);
}

int flat_carry(struct flat_sock *s, int anchor)
{
	int pair[2];
	int status;
	uint64_t all = ~0ULL;
	uint64_t old = 0;
	int err = flat_sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
	if (err < 0)
		return err;
	flat_share_export(s);
	/* The program's handlers are not for the processes made here. */
	(void)FLAT_SYS4(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, sizeof(all));
	pid_t pid = fork();
	if (pid == 0) {
		/* A grandchild is nobody's to wait for. */
		if (fork() == 0)
			run(s, anchor, pair[1]);
		(void)flat_close_range(0, ~0U, 0);
		_exit(0);
	}
	if (pid > 0)
		(void)FLAT_SYS4(SYS_wait4, pid, &status, 0, NULL);
	(void)FLAT_SYS4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	flat_sys_close(pair[1]);
	if (pid < 0) {
		flat_sys_close(pair[0]);
		return -EAGAIN;
	}
	int fl = flat_sys_fcntl(anchor, F_GETFL, 0);
	if (fl & O_NONBLOCK)
		(void)flat_sys_fcntl(pair[0], F_SETFL, O_NONBLOCK);
	return pair[0];
}
