#include "offload/handover.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/admin.h"
#include "offload/capture.h"
#include "offload/gateway.h"
#include "offload/l7.h"
#include "offload/peers.h"
#include "offload/persist.h"

#define MAGIC 0x7265766fU
#define VERSION 1U
#define EXE_MAX 4096U
#define CGROUP_MAX 8192U
#define FDS_MAX 3
/* The predecessor sends all at once; how long it may take to begin, ms. */
#define ANSWER_MS 10000
/* Room for everything a flatd may give, bytes. Without CAP_NET_ADMIN it has less, and waits for the successor to read. */
#define SEND_BYTES (256 << 20)
/* So long, all in all, ms: nothing is decided meanwhile. */
#define SEND_MS 2000

enum kind {
	ITEM_CONTROL, /* the listening control socket */
	ITEM_PORT,    /* a listening TCP socket */
	ITEM_MAKER, /* a flatd that made anchors which are given, by its pid; the last one first */
	ITEM_LISTENER, /* of a mesh server: anchor, TCP socket, pidfd if there is one */
	ITEM_END,
	ITEM_COOKIE, /* of the listener before it (`id`), in `inode`; a flatd of before sends none */
};

_Static_assert(FLAT_SIPHASH_KEY_BYTES == 2 * sizeof(uint64_t), "a key goes in two words");

/* One message; exe and cgroup follow it. Both are flatd on one host: no byte order. */
struct item {
	uint32_t magic;
	uint32_t version;
	uint32_t kind;
	uint32_t n_fds;
	uint32_t exe_len, cgroup_len;
	int32_t pid;
	uint32_t uid, gid;
	uint32_t exe_owner, exe_owner_known;
	uint32_t backlog, v6only;
	uint64_t id, inode; /* of END: the key of sessions; 0: a flatd that has none */
	struct flat_addr addr;
};

struct listener {
	struct item item;
	int fds[FDS_MAX];
	char *exe, *cgroup; /* owned; NULL: unknown */
	uint64_t cookie;    /* of its anchor; 0: unknown */
};

struct flat_handover {
	int fd;
	int control;
	int *ports;
	uint32_t n_ports;
	struct listener *listeners;
	uint32_t n_listeners;
	int32_t makers[FLAT_DIRECTORY_MAKERS];
	uint32_t n_makers;
	uint64_t persist_key[2];
};

/* --- giving --- */

/* Until then it may wait. */
static int64_t give_until_ms;

static bool has_room(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int64_t left = give_until_ms - flat_now_us() / 1000;
	return left > 0 && poll(&p, 1, (int)left) == 1 && (p.revents & POLLOUT);
}

/* Whole, or not: what is sent is far smaller than the least buffer. */
static int send_item(int fd, struct item *item, const char *exe, const char *cgroup, const int *fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control;
	struct iovec iov[3] = {{item, sizeof(*item)}, {(void *)exe, 0}, {(void *)cgroup, 0}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 3};
	item->magic = MAGIC;
	item->version = VERSION | flat_shared_version() << 8;
	item->exe_len = exe ? (uint32_t)strnlen(exe, EXE_MAX) : 0;
	item->cgroup_len = cgroup ? (uint32_t)strnlen(cgroup, CGROUP_MAX) : 0;
	iov[1].iov_len = item->exe_len;
	iov[2].iov_len = item->cgroup_len;
	if (fds && item->n_fds > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * item->n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * item->n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * item->n_fds);
	}
	size_t all = sizeof(*item) + item->exe_len + item->cgroup_len;
	ssize_t n;
	do
		n = FLAT_SYS3(SYS_sendmsg, fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n == -EAGAIN && has_room(fd));
	return n == (ssize_t)all ? 0 : n < 0 ? (int)n : -EMSGSIZE;
}

static int give_one(int fd, enum kind kind, int given)
{
	struct item item = {.kind = kind, .n_fds = 1};
	return given < 0 ? 0 : send_item(fd, &item, NULL, NULL, &given);
}

static int give_makers(const struct flat_offload *o, int fd)
{
	struct item item = {.kind = ITEM_MAKER, .pid = getpid()};
	int err = send_item(fd, &item, NULL, NULL, NULL);
	for (uint32_t i = 0; err == 0 && i < o->n_makers; i++) {
		item.pid = o->makers[i];
		err = send_item(fd, &item, NULL, NULL, NULL);
	}
	return err;
}

static int give_listener(int fd, const struct flat_listener *l)
{
	const struct flat_session *s = l->session;
	int fds[FDS_MAX] = {l->anchor.fd, l->tcp.fd, s->pidfd};
	struct item item = {
	    .kind = ITEM_LISTENER,
	    .n_fds = s->pidfd >= 0 ? 3 : 2,
	    .pid = s->pid,
	    .uid = s->uid,
	    .gid = s->gid,
	    .exe_owner = s->exe_owner,
	    .exe_owner_known = s->exe_owner_known,
	    .backlog = l->backlog,
	    .v6only = l->v6only,
	    .id = l->id,
	    .inode = l->inode,
	    .addr = l->addr,
	};
	struct item cookie = {.kind = ITEM_COOKIE, .id = l->id, .inode = l->cookie};
	int err = send_item(fd, &item, s->exe, s->cgroup, fds);
	return err == 0 && l->cookie ? send_item(fd, &cookie, NULL, NULL, NULL) : err;
}

int flat_handover_give(struct flat_offload *o, int fd)
{
	const struct flat_listener *l;
	struct item end = {.kind = ITEM_END};
	int size = SEND_BYTES;
	int port;
	if (o->giving || o->retired)
		return -EALREADY;
	(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	give_until_ms = flat_now_us() / 1000 + SEND_MS;
	int err = give_one(fd, ITEM_CONTROL, o->control.fd);
	if (err == 0)
		err = give_makers(o, fd);
	if (err == 0)
		err = give_one(fd, ITEM_PORT, flat_metrics_socket(o));
	if (err == 0)
		err = give_one(fd, ITEM_PORT, flat_peers_socket(o));
	if (err == 0)
		err = give_one(fd, ITEM_PORT, flat_peers_hbone_socket(o));
	for (uint32_t i = 0; err == 0 && (port = flat_gateway_socket(o, i)) >= 0; i++)
		err = give_one(fd, ITEM_PORT, port);
	for (int i = 0; err == 0 && i < FLAT_CAPTURE_SOCKETS; i++)
		err = give_one(fd, ITEM_PORT, flat_captures_socket(o, i));
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (err == 0 && !l->server)
			err = give_listener(fd, l);
	}
	memcpy(&end.id, o->own_persist_key, sizeof(end.id));
	memcpy(&end.inode, o->own_persist_key + sizeof(end.id), sizeof(end.inode));
	if (err == 0)
		err = send_item(fd, &end, NULL, NULL, NULL);
	if (err != 0)
		return err;
	/* What it would decide or promise from here on, its successor would not know of. */
	o->giving = true;
	flat_info("a successor asks to take over");
	return 0;
}

void flat_handover_answer(struct flat_offload *o, bool done)
{
	struct flat_listener *l;
	o->giving = false;
	if (!done) {
		flat_warn("the successor came to nothing: going on");
		return;
	}
	o->retired = true;
	flat_loop_accept_end(&o->loop, &o->control);
	flat_admin_retire(o);
	flat_metrics_close(o);
	flat_peers_retire(o);
	flat_gateways_retire(o);
	flat_captures_retire(o);
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		flat_loop_accept_end(&o->loop, &l->tcp);
	}
	flat_offload_publish(o, NULL);
	flat_l7_retire(o);
	flat_info("retired: %u connections go on until they end", o->n_conns);
}

/* --- taking --- */

static void listener_fini(struct listener *l)
{
	for (int i = 0; i < FDS_MAX; i++) {
		if (l->fds[i] >= 0)
			close(l->fds[i]);
	}
	free(l->exe);
	free(l->cgroup);
}

void flat_handover_drop(struct flat_handover *h)
{
	if (!h)
		return;
	if (h->fd >= 0)
		close(h->fd);
	if (h->control >= 0)
		close(h->control);
	for (uint32_t i = 0; i < h->n_ports; i++) {
		if (h->ports[i] >= 0)
			close(h->ports[i]);
	}
	for (uint32_t i = 0; i < h->n_listeners; i++)
		listener_fini(&h->listeners[i]);
	free(h->ports);
	free(h->listeners);
	free(h);
}

/* Whether who is at the other end still runs; who is of another pid namespace (0) is taken to. */
static bool runs(int fd)
{
	struct ucred cred = {.pid = 0};
	socklen_t len = sizeof(cred);
	return flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 ||
	       cred.pid == 0 || kill(cred.pid, 0) == 0 || errno != ESRCH;
}

int flat_handover_done(struct flat_handover *h)
{
	int err = 0;
	if (h && flat_sys_send(h->fd, "done\n", 5, MSG_NOSIGNAL) != 5) {
		err = runs(h->fd) ? -ETIMEDOUT : 0;
		if (err == 0)
			flat_warn("the predecessor is gone before it could be told");
		else
			flat_error("the predecessor has waited too long, and goes on itself: "
				   "try again");
	}
	flat_handover_drop(h);
	return err;
}

/*
 * Programs have the library of the predecessor's build, and would be told of connections by a successor whose bytes they do not
 * understand. 0, or a negative errno that was told.
 */
static int check_build(uint32_t version)
{
	char theirs[FLAT_SHARED_STRLEN];
	char mine[FLAT_SHARED_STRLEN];
	uint32_t shared = version >> 8 ? version >> 8 : FLAT_SHARED_UNTOLD;
	if ((version & 0xffU) != VERSION)
		return -EPROTO;
	if (shared == flat_shared_version())
		return 0;
	flat_error("the running flatd has shared layout %s, this one %s: programs that run have "
		   "its libflat, so nothing can be handed over. Stop that flatd, start this "
		   "one without --take-over, and restart the programs",
		   flat_shared_str(shared, theirs), flat_shared_str(flat_shared_version(), mine));
	return -EPROTONOSUPPORT;
}

/* One item with its descriptors (-1 where there are none) and texts. */
static int receive(int fd, struct listener *got)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control;
	static char text[EXE_MAX + CGROUP_MAX + 1];
	struct iovec iov[2] = {{&got->item, sizeof(got->item)}, {text, 0}};
	struct msghdr msg = {.msg_iov = iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control)};
	memset(got, 0, sizeof(*got));
	for (int i = 0; i < FDS_MAX; i++)
		got->fds[i] = -1;
	ssize_t n = FLAT_SYS3(SYS_recvmsg, fd, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(got->fds, CMSG_DATA(c),
		       flat_min_size(c->cmsg_len - CMSG_LEN(0), sizeof(got->fds)));
	const struct item *item = &got->item;
	if (n != (ssize_t)sizeof(*item))
		return n < 0 ? (int)n : -EPROTO;
	int err = item->magic == MAGIC ? check_build(item->version) : -EPROTO;
	if (err != 0)
		return err;
	if (item->exe_len > EXE_MAX || item->cgroup_len > CGROUP_MAX || item->n_fds > FDS_MAX ||
	    (item->n_fds > 0 && got->fds[item->n_fds - 1] < 0))
		return -EPROTO;
	size_t rest = item->exe_len + item->cgroup_len;
	if (rest > 0 && flat_sys_recv(fd, text, rest, MSG_WAITALL) != (ssize_t)rest)
		return -EPROTO;
	got->exe = item->exe_len ? strndup(text, item->exe_len) : NULL;
	got->cgroup = item->cgroup_len ? strndup(text + item->exe_len, item->cgroup_len) : NULL;
	return (item->exe_len && !got->exe) || (item->cgroup_len && !got->cgroup) ? -ENOMEM : 0;
}

/* Takes what `got` holds. */
static int keep(struct flat_handover *h, const struct listener *got)
{
	if (got->item.kind == ITEM_CONTROL && h->control < 0) {
		h->control = got->fds[0];
		return 0;
	}
	if (got->item.kind == ITEM_MAKER) {
		if (h->n_makers < FLAT_DIRECTORY_MAKERS)
			h->makers[h->n_makers++] = got->item.pid;
		return 0;
	}
	if (got->item.kind == ITEM_COOKIE) {
		struct listener *last = h->n_listeners ? &h->listeners[h->n_listeners - 1] : NULL;
		if (!last || last->item.id != got->item.id)
			return -EPROTO;
		last->cookie = got->item.inode;
		return 0;
	}
	if (got->item.kind == ITEM_PORT && got->item.n_fds == 1) {
		int *ports = realloc(h->ports, (h->n_ports + 1) * sizeof(*ports));
		if (!ports)
			return -ENOMEM;
		h->ports = ports;
		h->ports[h->n_ports++] = got->fds[0];
		return 0;
	}
	if (got->item.kind != ITEM_LISTENER || got->item.n_fds < 2)
		return -EPROTO;
	struct listener *v = realloc(h->listeners, (h->n_listeners + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	h->listeners = v;
	h->listeners[h->n_listeners++] = *got;
	return 0;
}

static int receive_all(struct flat_handover *h)
{
	for (;;) {
		struct listener got;
		int err = receive(h->fd, &got);
		bool end = err == 0 && got.item.kind == ITEM_END;
		if (end)
			memcpy(h->persist_key, (uint64_t[]){got.item.id, got.item.inode},
			       sizeof(h->persist_key));
		bool kept = err == 0 && !end && (err = keep(h, &got)) == 0;
		if (!kept) {
			listener_fini(&got);
			return !end ? err : h->control >= 0 ? 0 : -EPROTO;
		}
		/* Only a listener's are kept with its descriptors. */
		if (got.item.kind != ITEM_LISTENER) {
			free(got.exe);
			free(got.cgroup);
		}
	}
}

static int connect_admin(const char *control_path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ANSWER_MS / 1000};
	struct ucred who;
	socklen_t len = sizeof(who);
	int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s.admin", control_path);
	if (n < 0 || (size_t)n >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	int fd = flat_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	int err = flat_sys_connect(fd, (struct sockaddr *)&un, sizeof(un));
	/* Whoever may write where the socket lies could say that he served, and who listens. */
	if (err == 0)
		err = flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len);
	if (err == 0 && who.uid != 0 && who.uid != geteuid()) {
		flat_error("%s is answered by a process of uid %u: not by a flatd", un.sun_path,
			   (unsigned int)who.uid);
		err = -EACCES;
	}
	if (err == 0)
		err = flat_sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (err == 0)
		return fd;
	close(fd);
	return err == -ECONNREFUSED ? -ENOENT : err;
}

int flat_handover_ask(struct flat_handover **out, const char *control_path)
{
	int fd = connect_admin(control_path);
	if (fd < 0)
		return fd;
	struct flat_handover *h = calloc(1, sizeof(*h));
	if (!h) {
		close(fd);
		return -ENOMEM;
	}
	h->fd = fd;
	h->control = -1;
	int err = flat_sys_send(fd, "takeover\n", 9, MSG_NOSIGNAL) == 9 ? receive_all(h) : -EPIPE;
	if (err != 0) {
		flat_handover_drop(h);
		return err;
	}
	*out = h;
	return 0;
}

int flat_handover_control(struct flat_handover *h)
{
	int fd = h->control;
	h->control = -1;
	return fd;
}

int flat_handover_port(struct flat_handover *h, const struct flat_addr *addr, int type)
{
	for (uint32_t i = 0; h && i < h->n_ports; i++) {
		struct sockaddr_storage ss;
		struct flat_addr has;
		socklen_t len = sizeof(ss);
		int has_type = 0;
		socklen_t type_len = sizeof(has_type);
		int fd = h->ports[i];
		if (fd < 0 ||
		    flat_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &has_type, &type_len) != 0 ||
		    has_type != type ||
		    flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
		    flat_addr_from_sockaddr(&has, (struct sockaddr *)&ss, len) != 0 ||
		    !flat_addr_equal(&has, addr))
			continue;
		h->ports[i] = -1;
		return fd;
	}
	return -1;
}

/* The process that registered it, of which there is no session here: as of one that has ended. */
static struct flat_session *owner_of(struct flat_offload *o, struct listener *v)
{
	const struct item *item = &v->item;
	struct flat_session *s;
	const struct flat_session like = {
	    .pid = item->pid,
	    .pidfd = item->n_fds > 2 ? v->fds[2] : -1,
	    .uid = item->uid,
	    .gid = item->gid,
	    .exe = v->exe,
	    .exe_owner = item->exe_owner,
	    .exe_owner_known = item->exe_owner_known != 0,
	    .cgroup = v->cgroup,
	};
	/* Not by its pid alone: of two that listen one may have ended, and the other have its number. */
	s = flat_session_find_ghost(o, &like, NULL);
	if (s)
		return s;
	s = flat_session_ghost(o, &like);
	if (!s)
		return NULL;
	v->fds[2] = -1;
	v->exe = v->cgroup = NULL;
	return s;
}

int flat_handover_listeners(struct flat_handover *h, struct flat_offload *o)
{
	/* Clients come back to where they were. */
	if (h->persist_key[0] && h->persist_key[1]) {
		memcpy(o->own_persist_key, h->persist_key, sizeof(o->own_persist_key));
		flat_persist_settle(o);
	}
	memcpy(o->makers, h->makers, sizeof(o->makers));
	o->n_makers = h->n_makers;
	flat_directory_set_makers(o->directory, o->makers, o->n_makers);
	for (uint32_t i = 0; i < h->n_listeners; i++) {
		struct listener *v = &h->listeners[i];
		struct flat_session *s = owner_of(o, v);
		if (!s)
			return -ENOMEM;
		struct flat_listener like = {
		    .session = s,
		    .id = v->item.id,
		    .inode = v->item.inode,
		    .cookie = v->cookie,
		    .addr = v->item.addr,
		    .backlog = v->item.backlog,
		    .v6only = v->item.v6only != 0,
		    .handed_over = true,
		};
		int err = flat_listener_add(o, &like, v->fds[0], v->fds[1]);
		if (err != 0) {
			flat_session_put(s);
			return err;
		}
		v->fds[0] = v->fds[1] = -1;
	}
	return 0;
}
