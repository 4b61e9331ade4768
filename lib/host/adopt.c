/*
 * Descriptors that a process did not make: inherited through exec, or received with SCM_RIGHTS. What was flat there is
 * flat here: the offload half knows the anchors whose other ends it holds, and tells whoever holds one what belongs to it.
 */
#include <fcntl.h>
#include <netinet/tcp.h>

#include "host/lanes.h"
#include "host/openfds.h"
#include "host/share.h"

/* --- what it is --- */

static int int_option(int fd, int level, int name)
{
	int value = 0;
	socklen_t len = sizeof(value);
	int err = flat_sys_getsockopt(fd, level, name, &value, &len);
	return err < 0 ? err : value;
}

/* Half of an unnamed pair that the offload half made; the kernel says who made it. */
bool flat_is_anchor(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct ucred maker;
	socklen_t maker_len = sizeof(maker);
	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    len != sizeof(ss.ss_family) ||
	    flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &maker, &maker_len) < 0)
		return false;
	/* The usual pairs of a parent and its child cost no question to anybody. */
	if (maker.pid == flat_sys_getpid() || maker.pid == (int)FLAT_SYS0(SYS_getppid))
		return false;
	if (maker.pid == flat_session_peer())
		return true;
	const struct flat_directory *dir = flat_session_known();
	return dir && flat_directory_made_by(dir, maker.pid);
}

/* A TCP socket that has done nothing yet may become flat. */
static int adopt_tcp(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	if (int_option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_TCP ||
	    flat_sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.tcpi_state != TCP_CLOSE)
		return -ENOENT;
	flat_fd_set_kind(fd, FLAT_FD_CANDIDATE);
	flat_fd_mark(fd, FLAT_MARK_OPTIONS);
	flat_option_note_all();
	return 0;
}

/* --- what belongs to it --- */

/* Takes the bell. */
static struct flat_sock *make_stream(int fd, const struct flat_msg *msg, int lane_fd, int bell)
{
	struct flat_lane_use *lane = flat_lane_use(&msg->body.conn, lane_fd);
	if (bell < 0)
		bell = flat_sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct flat_sock *s =
	    lane && bell >= 0 ? flat_stream_new(&msg->body.conn, lane, bell) : NULL;
	if (!s) {
		if (lane)
			flat_lane_unuse(lane);
		if (bell >= 0)
			flat_sys_close(bell);
		return NULL;
	}
	s->vq.rx.bells_off = flat_vq_bells_rung(&s->vq);
	flat_option_adopt(s, fd, false);
	flat_share_export(s, fd);
	flat_share_refresh(s, fd);
	return s;
}

static int adopt_stream(int fd, const struct flat_msg *msg, int lane_fd, int bell)
{
	/* A process may send a descriptor to itself. */
	struct flat_sock *s =
	    flat_sock_find(msg->body.conn.conn_id, (enum flat_side)msg->body.conn.side);
	if (s && bell >= 0)
		flat_sys_close(bell);
	else if (!s)
		s = make_stream(fd, msg, lane_fd, bell);
	if (!s)
		return -ENOMEM;
	flat_fd_bind(fd, s);
	return 0;
}

/* Takes the kernel's socket. */
static int adopt_listener(int fd, const struct flat_msg *msg, int tcp)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct flat_sock *s = flat_sock_new(FLAT_FD_LISTENER);
	if (!s) {
		flat_sys_close(tcp);
		return -ENOMEM;
	}
	if (flat_sys_getsockname(tcp, (struct sockaddr *)&ss, &len) == 0)
		(void)!flat_addr_from_sockaddr(&s->local, (struct sockaddr *)&ss, len);
	s->domain = int_option(tcp, SOL_SOCKET, SO_DOMAIN);
	flat_option_note_all();
	flat_option_adopt(s, tcp, true);
	s->backlog = (int)msg->body.listen.backlog;
	s->tcp_fd = flat_fd_private(tcp);
	atomic_store(&s->nonblock, (flat_sys_fcntl(fd, F_GETFL, 0) & O_NONBLOCK) != 0);
	flat_fd_bind(fd, s);
	return 0;
}

int flat_adopt(int fd)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int domain = int_option(fd, SOL_SOCKET, SO_DOMAIN);
	if ((unsigned int)fd >= FLAT_FD_KINDS)
		return -EBADF;
	if (domain == AF_INET || domain == AF_INET6)
		return adopt_tcp(fd);
	if (domain != AF_UNIX || !flat_is_anchor(fd))
		return -ENOENT;
	flat_msg_init(&msg, FLAT_MSG_IDENTIFY, 0);
	msg.fds = FLAT_FD_ANCHOR;
	int err = flat_session_ask(&msg, fd, fds, &n);
	if (err != 0)
		return err;
	int tcp = flat_msg_fd(&msg, fds, FLAT_FD_TCP);
	int bell = flat_msg_fd(&msg, fds, FLAT_FD_BELL);
	int lane = flat_msg_fd(&msg, fds, FLAT_FD_LANE);
	flat_msg_close_fds(fds, n);
	if (msg.status != 0)
		err = msg.status;
	else if (tcp >= 0)
		err = adopt_listener(fd, &msg, tcp);
	else if (lane >= 0)
		err = adopt_stream(fd, &msg, lane, bell);
	else
		err = -EPROTO;
	if (lane >= 0)
		flat_sys_close(lane);
	return err;
}

/* --- through exec --- */

static bool adopt_one(int fd, int dir, const char *name, void *arg)
{
	(void)dir;
	(void)name;
	(void)arg;
	if (flat_fd_kind(fd) == FLAT_FD_KERNEL)
		(void)!flat_adopt(fd);
	return false;
}

__attribute__((constructor)) static void adopt_inherited(void)
{
	flat_host_init();
	(void)!flat_open_each(0, 0, adopt_one, NULL);
}
