/* Descriptors on their way to another process: through exec, or in a message (SCM_RIGHTS). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flat/unstable/preload.h>

#include "base/confine.h"
#include "base/limits.h"
#include "host/openfds.h"
#include "host/share.h"
#include "host/user.h"

/* --- exec --- */

static struct flat_sock *behind(int fd, bool foreign)
{
	return foreign ? flat_fd_abroad(fd) : flat_fd_sock(fd);
}

/* The socket that stays open under this number through exec; NULL: none does. */
static struct flat_sock *staying(int fd, bool foreign)
{
	struct flat_sock *s = behind(fd, foreign);
	int flags = s ? flat_sys_fcntl(fd, F_GETFD, 0) : -1;
	if (flags < 0 || (flags & FD_CLOEXEC))
		return NULL;
	/* In a child of vfork() the number may be something else by now. */
	return foreign && !flat_is_anchor(fd) ? NULL : s;
}

int flat_exec_inherits(int actions)
{
	int n = 0;
	if (flat_fd_count == 0)
		return 0;
	bool foreign = flat_fd_foreign();
	for (int fd = 0; fd < flat_fd_top(); fd++) {
		const struct flat_sock *s = actions ? behind(fd, foreign) : NULL;
		n += (s && s->for_spawn) || staying(fd, foreign);
	}
	return n;
}

int flat_exec_may_receive(void)
{
	int is, domain;
	for (int fd = 0; flat_fd_count != 0 && fd < FLAT_EXEC_LOOK_MAX; fd++) {
		socklen_t is_len = sizeof(is), domain_len = sizeof(domain);
		int flags = flat_sys_fcntl(fd, F_GETFD, 0);
		if (flags < 0 || (flags & FD_CLOEXEC))
			continue;
		if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is, &is_len) == 0 && is &&
		    flat_sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) == 0 &&
		    domain == AF_UNIX)
			return 1;
	}
	return 0;
}

/* Something of the kernel's takes the number until exec, or until it failed. */
static void replace(struct flat_handover *h, int fd, int by)
{
	int saved = flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (saved < 0)
		return;
	if (flat_sys_dup3(by, fd, 0) < 0) {
		flat_sys_close(saved);
		return;
	}
	h->fd[h->n] = fd;
	h->saved[h->n++] = saved;
}

/* What took the place of another number of the same socket; -1: none yet. */
static int taken_by(const struct flat_handover *h, const struct flat_sock *s, bool foreign)
{
	for (int i = 0; i < h->n; i++) {
		if (behind(h->fd[i], foreign) == s)
			return h->fd[i];
	}
	return -1;
}

/* Whether the program that gets it may read there: it is not its standard output or error alone. */
static bool may_read(const struct flat_sock *s, bool foreign)
{
	for (int fd = 0; fd < flat_fd_top(); fd++) {
		if (fd != STDOUT_FILENO && fd != STDERR_FILENO && staying(fd, foreign) == s)
			return true;
	}
	return false;
}

static void hand_over(struct flat_handover *h, int fd, struct flat_sock *s, bool library)
{
	flat_share_export(s, fd);
	if ((library && !s->sealed) || !h || h->n == FLAT_HANDOVER_MAX)
		return;
	if (s->kind == FLAT_FD_LISTENER) {
		/* Its backlog is the kernel's own, and so is the new owner. */
		if (!library && s->tcp_fd >= 0)
			replace(h, fd, s->tcp_fd);
		return;
	}
	int plain = taken_by(h, s, flat_fd_foreign());
	if (plain >= 0) {
		replace(h, fd, plain);
		return;
	}
	plain = flat_carry(s, fd, may_read(s, flat_fd_foreign()));
	if (plain < 0)
		return;
	replace(h, fd, plain);
	flat_sys_close(plain);
}

void flat_exec_prepare(int library, struct flat_handover *h)
{
	if (h)
		h->n = 0;
	if (flat_fd_count == 0)
		return;
	bool foreign = flat_fd_foreign();
	for (int fd = 0; fd < flat_fd_top(); fd++) {
		struct flat_sock *s = staying(fd, foreign);
		if (s)
			hand_over(h, fd, s, library != 0);
	}
}

void flat_exec_failed(struct flat_handover *h)
{
	while (h->n > 0) {
		h->n--;
		flat_carry_give_back(h->fd[h->n]);
		(void)flat_sys_dup3(h->saved[h->n], h->fd[h->n], 0);
		flat_sys_close(h->saved[h->n]);
	}
}

static void send_away(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (s)
		flat_share_export(s, fd);
}

void flat_exec_keeps(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (!s)
		return;
	flat_share_export(s, fd);
	s->for_spawn = true;
}

struct opened {
	const struct stat *file;
	int fd;
};

static bool is_opened(int fd, int dir, const char *name, void *arg)
{
	struct opened *o = arg;
	struct stat st;
	(void)dir;
	(void)name;
	if (FLAT_SYS2(SYS_fstat, fd, &st) < 0 || st.st_dev != o->file->st_dev ||
	    st.st_ino != o->file->st_ino)
		return false;
	int flags = flat_sys_fcntl(fd, F_GETFL, 0);
	/* One that only names it locks nothing. */
	if (flags < 0 || (flags & O_PATH))
		return false;
	o->fd = (flags & O_ACCMODE) == O_WRONLY ? -EACCES : fd;
	return o->fd >= 0;
}

int flat_exec_opened(const struct stat *file)
{
	struct opened o = {file, -ENOENT};
	int err = flat_open_each(0, 0, is_opened, &o);
	return err < 0 ? -ENOENT : o.fd;
}

/* --- messages --- */

/* Calls `each` for every descriptor that a message carries. */
static void each_right(const struct msghdr *msg, void (*each)(int fd))
{
	/* The macros want a header that they could write to. */
	struct msghdr m = *msg;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + at, sizeof(fd));
			each(fd);
		}
	}
}

static void receive(int fd)
{
	/* The number was in use by us: closed by a call that no hook saw. */
	flat_fd_unbind(fd);
	(void)!flat_adopt(fd);
}

/* Whether the kernel could read the control part; what it could not is for it to refuse. */
static bool control_readable(const struct msghdr *msg)
{
	uint8_t scratch[1024];
	for (size_t at = 0, n; at < msg->msg_controllen; at += n) {
		n = flat_min_size(msg->msg_controllen - at, sizeof(scratch));
		if (flat_user_get(scratch, (const uint8_t *)msg->msg_control + at, n) != 0)
			return false;
	}
	return true;
}

void flat_rights_sending(const struct msghdr *msg)
{
	if (flat_fd_count && flat_user_possible(msg, sizeof(*msg)) && msg->msg_controllen &&
	    control_readable(msg))
		each_right(msg, send_away);
}

void flat_rights_received(const struct msghdr *msg)
{
	flat_host_init();
	if (!flat_fd_foreign())
		each_right(msg, receive);
}

void flat_chroot_prepare(void)
{
	flat_host_init();
	if (!flat_fd_foreign())
		(void)!flat_session_directory();
}

void flat_filtered(const struct sock_fprog *prog, int pid)
{
	flat_confine(prog, pid);
}
