#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/offload.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

const char *flat_session_name(const struct flat_session *s, char buf[96])
{
	if (s->workload)
		snprintf(buf, 96, "%s.%s", s->workload->name, s->workload->namespace);
	else
		snprintf(buf, 96, "pid %d (no workload)", (int)s->pid);
	return buf;
}

void flat_session_identify(struct flat_session *s)
{
	struct flat_attest attest = {
	    .uid = s->uid,
	    .gid = s->gid,
	    .pid = s->pid,
	    .cgroup_paths = s->cgroup,
	    .exe = s->exe,
	    .exe_owner_known = s->exe_owner_known,
	    .exe_owner = s->exe_owner,
	};
	s->workload = flat_mesh_workload(s->offload->mesh, &attest);
}

/* What the kernel knows of the peer. The pidfd pins the pid while /proc is read. */
static int attest(struct flat_session *s)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int err = flat_sys_getsockopt(s->control.fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	if (err < 0)
		return err;
	s->pid = cred.pid;
	s->uid = cred.uid;
	s->gid = cred.gid;
	len = sizeof(s->pidfd);
	if (flat_sys_getsockopt(s->control.fd, SOL_SOCKET, SO_PEERPIDFD, &s->pidfd, &len) < 0)
		s->pidfd = (int)FLAT_SYS2(SYS_pidfd_open, s->pid, 0);
	char path[64];
	char text[8192];
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)s->pid);
	ssize_t n = readlink(path, text, sizeof(text) - 1);
	if (n > 0) {
		text[n] = 0;
		s->exe = strdup(text);
		struct stat st;
		if (stat(path, &st) == 0) {
			s->exe_owner_known = true;
			s->exe_owner = st.st_uid;
		}
	}
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)s->pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
		if (n > 0) {
			text[n] = 0;
			s->cgroup = strdup(text);
		}
	}
	/* Dead already: what was read may be another's, who took the pid. */
	struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
	if (s->pidfd >= 0 && poll(&p, 1, 0) == 1)
		return -ESRCH;
	return 0;
}

void flat_session_reply(struct flat_session *s, const struct flat_msg *reply, const int *fds,
			size_t n)
{
	int err = flat_msg_send(s->control.fd, reply, fds, n, MSG_DONTWAIT);
	if (err != 0 && !s->doom)
		s->doom = err == -EAGAIN ? "rule 13: it does not read its answers"
					 : "its control socket is closed";
	s->offload->doomed |= err != 0;
}

void flat_sessions_reap(struct flat_offload *o)
{
	struct flat_session *s;
	struct flat_session *next;
	int64_t now_ms = flat_now_us() / 1000;
	o->doomed = false;
	for (s = TAILQ_FIRST(&o->sessions); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->doom)
			flat_session_close(s, s->doom);
		else if (!s->greeted && now_ms - s->joined_ms > FLAT_HELLO_TIMEOUT_MS)
			flat_session_close(s, "rule 15: no HELLO within a second");
	}
}

static void answer_hello(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_offload *o = s->offload;
	struct flat_msg reply;
	int err = s->greeted ? -EPROTO : attest(s);
	if (err != 0) {
		flat_session_close(s, err == -EPROTO ? "rule 15: HELLO twice" : "died at HELLO");
		return;
	}
	s->greeted = true;
	flat_session_identify(s);
	flat_msg_init(&reply, FLAT_MSG_HELLO, msg->seq);
	reply.body.hello.session_id = s->id;
	reply.body.hello.directory_len = flat_directory_len(o->directory);
	reply.fds = FLAT_FD_DIRECTORY;
	int fd = flat_directory_fd(o->directory);
	char name[96];
	flat_debug("session %llu: pid %d uid %d exe %s is %s", (unsigned long long)s->id,
		   (int)s->pid, (int)s->uid, s->exe ? s->exe : "?", flat_session_name(s, name));
	flat_session_reply(s, &reply, &fd, 1);
}

static void answer_why(struct flat_session *s, const struct flat_msg *msg)
{
	struct flat_msg reply;
	flat_msg_init(&reply, FLAT_MSG_WHY, msg->seq);
	reply.status = -ECONNRESET;
	struct flat_conn *c = flat_conn_find(s->offload, msg->body.why.conn_id);
	if (c && c->cut_errno) {
		reply.status = -c->cut_errno;
		snprintf(reply.reason, sizeof(reply.reason), "%.*s", (int)sizeof(reply.reason) - 1,
			 c->cut_reason);
	}
	flat_session_reply(s, &reply, NULL, 0);
}

/* One message. Descriptors that it does not take are closed. False: the session is gone. */
static bool handle(struct flat_session *s, struct flat_msg *msg, int fds[FLAT_MSG_FDS_MAX],
		   size_t n)
{
	uint32_t allowed = msg->type == FLAT_MSG_LISTEN ? FLAT_FD_TCP : 0;
	uint64_t id = s->id;
	struct flat_offload *o = s->offload;
	if ((msg->fds & ~allowed) || (!s->greeted && msg->type != FLAT_MSG_HELLO)) {
		flat_msg_close_fds(fds, n);
		flat_session_close(s, "rule 15: unexpected descriptors or no HELLO");
		return false;
	}
	switch (msg->type) {
	case FLAT_MSG_HELLO:
		answer_hello(s, msg);
		break;
	case FLAT_MSG_CONNECT:
		flat_conn_request(s, msg);
		break;
	case FLAT_MSG_LISTEN:
		flat_listener_open(s, msg, flat_msg_fd(msg, fds, FLAT_FD_TCP));
		break;
	case FLAT_MSG_WHY:
		answer_why(s, msg);
		break;
	default:
		flat_session_close(s, "rule 15: unknown message");
		break;
	}
	flat_msg_close_fds(fds, n);
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (s->id == id)
			return true;
	}
	return false;
}

/* Messages taken from one session before others have their turn. */
#define QUANTUM 32

static void on_control(struct flat_source *source, int result)
{
	struct flat_session *s = FLAT_CONTAINER_OF(source, struct flat_session, control);
	(void)result;
	for (int i = 0;; i++) {
		struct flat_msg msg;
		int fds[FLAT_MSG_FDS_MAX];
		size_t n;
		int err = flat_msg_recv(s->control.fd, &msg, fds, &n, MSG_DONTWAIT);
		if (err == -EAGAIN)
			return;
		if (err == -EINTR)
			continue;
		if (err != 0) {
			flat_session_close(s, err == -EPROTO ? "rule 15: malformed message" : NULL);
			return;
		}
		if (!handle(s, &msg, fds, n))
			return;
		if (i >= QUANTUM && i % QUANTUM == 0)
			(void)flat_forward_turn(s->offload);
	}
}

void flat_session_open(struct flat_offload *o, int fd)
{
	struct flat_session *s = calloc(1, sizeof(*s));
	if (!s) {
		close(fd);
		return;
	}
	s->offload = o;
	s->pidfd = -1;
	s->id = ++o->next_id;
	s->joined_ms = flat_now_us() / 1000;
	s->control.fd = fd;
	TAILQ_INSERT_TAIL(&o->sessions, s, link);
	if (flat_loop_poll(&o->loop, &s->control, fd, POLLIN | POLLRDHUP, on_control) != 0)
		flat_session_close(s, "out of memory");
}

void flat_session_close(struct flat_session *s, const char *why)
{
	struct flat_offload *o = s->offload;
	struct flat_listener *l;
	struct flat_listener *next;
	struct flat_conn *c;
	if (why)
		flat_warn("session of pid %d (%s) ended: %s", (int)s->pid, s->exe ? s->exe : "?",
			  why);
	for (l = TAILQ_FIRST(&o->listeners); l; l = next) {
		next = TAILQ_NEXT(l, link);
		/* A listener lives as long as somebody holds its anchor: forked workers, say. */
		if (l->session == s)
			l->session = NULL;
	}
	TAILQ_FOREACH(c, &o->conns, link)
	{
		if (c->client == s)
			c->client = NULL;
	}
	flat_lanes_orphan(o, s, NULL);
	flat_loop_del(&o->loop, &s->control);
	close(s->control.fd);
	if (s->pidfd >= 0)
		close(s->pidfd);
	TAILQ_REMOVE(&o->sessions, s, link);
	free(s->exe);
	free(s->cgroup);
	free(s);
}
