/*
 * What belongs to an anchor: asked by a process that came by one through exec or SCM_RIGHTS. Holding the descriptor is
 * what allows it: whoever holds it could read and write there. Whose connection it is in the eyes of policies does not
 * change (docs/design/core.md, section 9).
 */
#include <errno.h>

#include "base/sys.h"
#include "offload/offload.h"

/*
 * The inode's number alone would not do: it comes again, and our end of a connection may be there for as long as its other side
 * lives, when the socket that it belonged to has long been closed. Of a listener that a predecessor made the cookie may be unknown.
 */
static bool is_same(uint64_t known, uint64_t cookie)
{
	return known == 0 || known == cookie;
}

static const struct flat_listener *find_listener(const struct flat_offload *o, uint64_t inode,
						 uint64_t cookie)
{
	const struct flat_indexed *at = flat_index_find(&o->listener_anchors, inode);
	for (; at; at = flat_indexed_next(at)) {
		const struct flat_listener *l =
		    FLAT_CONTAINER_OF(at, struct flat_listener, by_inode);
		if (is_same(l->cookie, cookie))
			return l;
	}
	return NULL;
}

static const struct flat_end *find_end(const struct flat_offload *o, uint64_t inode,
				       uint64_t cookie)
{
	const struct flat_indexed *at = flat_index_find(&o->anchors, inode);
	for (; at; at = flat_indexed_next(at)) {
		const struct flat_end *e = FLAT_CONTAINER_OF(at, struct flat_end, by_inode);
		/* What was made ahead is nobody's connection yet. */
		if (is_same(e->cookie, cookie) && e->lane && !e->is_tcp && e->anchor.fd >= 0 &&
		    !e->conn->shelved)
			return e->conn->cut ? NULL : e;
	}
	return NULL;
}

static int answer_listener(const struct flat_listener *l, struct flat_msg *reply, int *fds,
			   size_t *n)
{
	/* Retired: its successor has the socket. */
	if (l->tcp.fd < 0)
		return -ESTALE;
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
	flat_lane_share(e->lane);
	m->conn_id = c->id;
	m->lane_id = e->lane->id;
	m->geo = e->lane->lane.geo;
	m->slot = e->slot;
	m->side = client ? FLAT_SIDE_CLIENT : FLAT_SIDE_SERVER;
	m->path = (uint32_t)c->path;
	m->flags = (client && c->half_open ? FLAT_CONN_CONNECTING : 0) |
		   (flat_conn_carries_urgent(c, client ? FLAT_SIDE_CLIENT : FLAT_SIDE_SERVER)
			? FLAT_CONN_URGENT
			: 0);
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
	uint64_t cookie = inode ? flat_cookie(fd) : 0;
	const struct flat_listener *l = inode ? find_listener(s->offload, inode, cookie) : NULL;
	const struct flat_end *e = inode && !l ? find_end(s->offload, inode, cookie) : NULL;
	if (l)
		reply.status = answer_listener(l, &reply, fds, &n);
	else
		reply.status = e ? answer_end(e, &reply, fds, &n) : -ENOENT;
	flat_session_reply(s, &reply, fds, n);
}
