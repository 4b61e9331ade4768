/*
 * What belongs to an anchor: asked by a process that came by one through exec or SCM_RIGHTS. Holding the descriptor is
 * what allows it: whoever holds it could read and write there. Whose connection it is in the eyes of policies does not
 * change (docs/design/core.md, section 9).
 */
#include <errno.h>

#include "base/sys.h"
#include "offload/offload.h"

static const struct flat_listener *find_listener(const struct flat_offload *o, uint64_t inode)
{
	const struct flat_listener *l;
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (l->inode == inode)
			return l;
	}
	return NULL;
}

static const struct flat_end *find_end(const struct flat_offload *o, uint64_t inode)
{
	const struct flat_conn *c;
	TAILQ_FOREACH(c, &o->conns, link)
	{
		for (int i = 0; i < 2; i++) {
			const struct flat_end *e = &c->end[i];
			if (e->inode == inode && e->lane && !e->is_tcp && e->anchor.fd >= 0)
				return c->cut ? NULL : e;
		}
	}
	return NULL;
}

static int answer_listener(const struct flat_listener *l, struct flat_msg *reply, int *fds,
			   size_t *n)
{
	reply->body.listen.backlog = l->backlog;
	reply->body.listen.listener_id = l->id;
	reply->fds = FLAT_FD_TCP;
	fds[(*n)++] = l->tcp.fd;
	return 0;
}

static int answer_end(const struct flat_end *e, struct flat_msg *reply, int *fds, size_t *n)
{
	const struct flat_conn *c = e->conn;
	struct flat_msg_conn *m = &reply->body.conn;
	bool client = e == &c->end[FLAT_SIDE_CLIENT];
	/* No further process can map it to write there (lane.c). */
	if (e->lane->sealed)
		return -EPERM;
	m->conn_id = c->id;
	m->lane_id = e->lane->id;
	m->geo = e->lane->lane.geo;
	m->slot = e->slot;
	m->side = client ? FLAT_SIDE_CLIENT : FLAT_SIDE_SERVER;
	m->path = (uint32_t)c->path;
	m->flags = client && c->half_open ? FLAT_CONN_CONNECTING : 0;
	m->local = client ? c->from : c->target;
	m->peer = client ? c->to : c->from;
	if (c->path == FLAT_CONN_DIRECT) {
		fds[(*n)++] = c->end[client ? FLAT_SIDE_SERVER : FLAT_SIDE_CLIENT].anchor.fd;
		reply->fds |= FLAT_FD_BELL;
	}
	fds[(*n)++] = e->lane->fd;
	reply->fds |= FLAT_FD_LANE;
	return 0;
}

void flat_identify(struct flat_session *s, const struct flat_msg *msg, int fd)
{
	struct flat_msg reply;
	int fds[2];
	size_t n = 0;
	int type = 0;
	socklen_t len = sizeof(type);
	flat_msg_init(&reply, FLAT_MSG_IDENTIFY, msg->seq);
	/* A socket first: fstat() of whatever an application sent might wait for it (FUSE), or bear the same number. */
	int err = flat_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	uint64_t inode = err == 0 ? flat_inode(fd) : 0;
	const struct flat_listener *l = inode ? find_listener(s->offload, inode) : NULL;
	const struct flat_end *e = inode && !l ? find_end(s->offload, inode) : NULL;
	if (l)
		reply.status = answer_listener(l, &reply, fds, &n);
	else
		reply.status = e ? answer_end(e, &reply, fds, &n) : -ENOENT;
	flat_session_reply(s, &reply, fds, n);
}
