/* IDENTIFY: what belongs to a socket, and that another socket with the same inode number is another one. Things made by hand. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload/offload.h"

static struct flat_offload o;
static struct flat_session asker;
static struct flat_listener listener;
static struct flat_conn conn;
static int app;
static int pair[2]; /* near, far */

static void setup(void)
{
	int control[2];
	TAILQ_INIT(&o.lanes);
	TAILQ_INIT(&o.listeners);
	cr_assert_eq(flat_loop_init(&o.loop), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	asker.offload = &o;
	asker.control.fd = control[0];
	app = control[1];
	listener.offload = &o;
	listener.id = 11;
	listener.tcp.fd = pair[1];
	conn.offload = &o;
	conn.id = 12;
	conn.path = FLAT_CONN_FORWARDED;
	conn.end[0].conn = conn.end[1].conn = &conn;
	conn.end[0].anchor.fd = pair[1];
}

TestSuite(identify, .init = setup);

static struct flat_msg ask(int fd)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_IDENTIFY, 3);
	flat_identify(&asker, &msg, fd);
	cr_assert_eq(flat_msg_recv(app, &msg, fds, &n, MSG_DONTWAIT), 0);
	flat_msg_close_fds(fds, n);
	return msg;
}

static void name(uint64_t inode, uint64_t cookie)
{
	struct flat_lane_link *lane;
	const struct flat_pair of = {
	    .near = pair[0], .far = pair[1], .inode = inode, .cookie = cookie};
	cr_assert_eq(flat_lane_get(&o, &asker, NULL, &lane), 0);
	flat_slot_take(&conn.end[0], lane);
	flat_end_name(&conn.end[0], &of);
}

Test(identify, a_connection_by_its_anchor)
{
	cr_assert_neq(flat_cookie(pair[0]), 0);
	name(flat_inode(pair[0]), flat_cookie(pair[0]));
	struct flat_msg msg = ask(pair[0]);
	cr_assert_eq(msg.status, 0);
	cr_assert_eq(msg.body.conn.conn_id, 12);
	cr_assert_eq(ask(pair[1]).status, -ENOENT);
}

Test(identify, another_socket_of_the_same_number_is_not_it)
{
	name(flat_inode(pair[0]), flat_cookie(pair[0]) + 1);
	cr_assert_eq(ask(pair[0]).status, -ENOENT);
}

Test(identify, a_connection_that_has_not_begun_is_nobodys)
{
	name(flat_inode(pair[0]), flat_cookie(pair[0]));
	conn.shelved = true;
	cr_assert_eq(ask(pair[0]).status, -ENOENT);
}

Test(identify, a_listener_by_its_anchor_and_no_other_socket_of_the_number)
{
	flat_index_put(&o.listener_anchors, &listener.by_inode, flat_inode(pair[0]));
	listener.cookie = flat_cookie(pair[0]);
	struct flat_msg msg = ask(pair[0]);
	cr_assert_eq(msg.status, 0);
	cr_assert_eq(msg.body.listen.listener_id, 11);
	listener.cookie++;
	cr_assert_eq(ask(pair[0]).status, -ENOENT);
	/* Of a predecessor that did not tell. */
	listener.cookie = 0;
	cr_assert_eq(ask(pair[0]).status, 0);
	/* A successor has it. */
	listener.tcp.fd = -1;
	cr_assert_eq(ask(pair[0]).status, -ESTALE);
}
