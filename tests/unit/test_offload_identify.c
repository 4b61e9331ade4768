/* IDENTIFY: what belongs to a socket, and that another socket with the same inode number is another one. Things made by hand. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
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
	conn.from = (struct flat_addr){.family = AF_INET, .port = 1};
	conn.to = (struct flat_addr){.family = AF_INET, .port = 2};
	conn.target = (struct flat_addr){.family = AF_INET, .port = 3};
}

TestSuite(identify, .init = setup);

/* Whose bell the answer brought; 0: none. */
static uint64_t bell;

static struct flat_msg ask(int fd)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_IDENTIFY, 3);
	flat_identify(&asker, &msg, fd);
	cr_assert_eq(flat_msg_recv(app, &msg, fds, &n, MSG_DONTWAIT), 0);
	bell = msg.fds & FLAT_FD_BELL ? flat_inode(fds[0]) : 0;
	flat_msg_close_fds(fds, n);
	return msg;
}

/* An end's socket. */
static void name_end(int side, uint64_t inode, uint64_t cookie)
{
	struct flat_lane_link *lane;
	const struct flat_pair of = {
	    .near = pair[0], .far = pair[1], .inode = inode, .cookie = cookie};
	cr_assert_eq(flat_lane_get(&o, &asker, NULL, &lane), 0);
	flat_slot_take(&conn.end[side], lane);
	flat_end_name(&conn.end[side], &of);
}

static void name(uint64_t inode, uint64_t cookie)
{
	name_end(FLAT_SIDE_CLIENT, inode, cookie);
}

Test(identify, a_connection_by_its_anchor)
{
	cr_assert_neq(flat_cookie(pair[0]), 0);
	name(flat_inode(pair[0]), flat_cookie(pair[0]));
	struct flat_msg msg = ask(pair[0]);
	cr_assert_eq(msg.status, 0);
	cr_assert_eq(msg.body.conn.conn_id, 12);
	cr_assert(conn.end[0].lane->shared);
	cr_assert_eq(ask(pair[1]).status, -ENOENT);
}

Test(identify, each_end_has_its_own_addresses_and_the_others_bell)
{
	int other[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
	conn.path = FLAT_CONN_DIRECT;
	conn.half_open = true;
	conn.end[1].anchor.fd = other[1];
	name(flat_inode(pair[0]), flat_cookie(pair[0]));
	name_end(FLAT_SIDE_SERVER, flat_inode(other[0]), flat_cookie(other[0]));
	struct flat_msg msg = ask(pair[0]);
	cr_expect_eq(msg.body.conn.side, FLAT_SIDE_CLIENT);
	cr_expect_eq(msg.body.conn.local.port, 1);
	cr_expect_eq(msg.body.conn.peer.port, 2);
	cr_expect_eq(msg.body.conn.flags, FLAT_CONN_CONNECTING);
	cr_expect_eq(bell, flat_inode(other[1]));
	msg = ask(other[0]);
	cr_expect_eq(msg.body.conn.side, FLAT_SIDE_SERVER);
	cr_expect_eq(msg.body.conn.local.port, 3);
	cr_expect_eq(msg.body.conn.peer.port, 1);
	cr_expect_eq(msg.body.conn.flags, 0);
	cr_expect_eq(bell, flat_inode(pair[1]));
}

Test(identify, what_is_over_or_no_vq_is_nobodys)
{
	name(flat_inode(pair[0]), flat_cookie(pair[0]));
	cr_assert_eq(ask(pair[0]).status, 0);
	conn.cut = true;
	cr_expect_eq(ask(pair[0]).status, -ENOENT);
	conn.cut = false;
	conn.end[0].is_tcp = true;
	cr_expect_eq(ask(pair[0]).status, -ENOENT);
	conn.end[0].is_tcp = false;
	/* No further process can map it. */
	conn.end[0].lane->sealed = true;
	cr_expect_eq(ask(pair[0]).status, -EPERM);
}

Test(identify, what_is_no_socket_is_nobodys_whatever_its_number)
{
	int file = memfd_create("no socket", MFD_CLOEXEC);
	cr_assert_geq(file, 0);
	name(flat_inode(file), 0);
	cr_expect_eq(ask(file).status, -ENOENT);
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
