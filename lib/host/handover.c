/* Descriptors on their way to another process: through exec, or in a message (SCM_RIGHTS). */
#include <fcntl.h>
#include <string.h>

#include <flat/unstable/preload.h>

#include "host/share.h"

void flat_exec_prepare(void)
{
	if (flat_fd_count == 0)
		return;
	for (int fd = 0; fd < flat_fd_top(); fd++) {
		int flags =
		    flat_fd_kind(fd) == FLAT_FD_STREAM ? flat_sys_fcntl(fd, F_GETFD, 0) : -1;
		struct flat_sock *s = flags >= 0 && !(flags & FD_CLOEXEC) ? flat_fd_sock(fd) : NULL;
		if (s)
			flat_share_export(s);
	}
}

void flat_exec_keeps(int fd)
{
	struct flat_sock *s = flat_fd_sock(fd);
	if (s)
		flat_share_export(s);
}

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

void flat_rights_sending(const struct msghdr *msg)
{
	if (flat_fd_count)
		each_right(msg, flat_exec_keeps);
}

void flat_rights_received(const struct msghdr *msg)
{
	flat_host_init();
	if (!flat_fd_foreign())
		each_right(msg, receive);
}
