/* Control messages, their descriptors, and addresses as messages carry them. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vq/attach.h"

static int pair[2];

static void setup(void)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void teardown(void)
{
	close(pair[0]);
	close(pair[1]);
}

TestSuite(attach, .init = setup, .fini = teardown);

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

Test(attach, a_message_arrives_with_its_descriptors_in_order)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 77);
	msg.fds = FLAT_FD_ANCHOR | FLAT_FD_LANE;
	cr_assert_eq(flat_msg_send(pair[0], &msg, (int[]){pair[0], pair[1]}, 2, MSG_DONTWAIT), 0);
	memset(&msg, 0, sizeof(msg));
	cr_assert_eq(flat_msg_recv(pair[1], &msg, fds, &n, MSG_DONTWAIT), 0);
	cr_expect_eq(msg.seq, 77);
	cr_expect_eq(msg.type, FLAT_MSG_CONNECT);
	cr_expect_eq(n, 2);
	cr_expect_eq(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	int lane = flat_msg_fd(&msg, fds, FLAT_FD_LANE);
	cr_expect_geq(lane, 0);
	cr_expect_eq(flat_msg_fd(&msg, fds, FLAT_FD_LANE), -1, "taken once");
	cr_expect_eq(flat_msg_fd(&msg, fds, FLAT_FD_BELL), -1, "not there");
	cr_expect_geq(fds[0], 0, "the anchor is still there");
	flat_msg_close_fds(fds, n);
	cr_expect_eq(fds[0], -1);
	cr_expect_eq(fcntl(lane, F_GETFD), FD_CLOEXEC, "what was taken stays open");
	close(lane);
}

/* Sends `msg` with n descriptors; it must be refused, and none of them stay. */
static void refused(const struct flat_msg *msg, size_t len, size_t n_fds)
{
	union {
		struct cmsghdr align;
		uint8_t buf[CMSG_SPACE(sizeof(int) * 32)];
	} space = {.buf = {0}};
	struct iovec iov = {(void *)(uintptr_t)msg, len};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	struct flat_msg got;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 9;
	int before = open_fds();
	if (n_fds > 0) {
		hdr.msg_control = space.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &pair[0], sizeof(int));
	}
	cr_assert_eq(sendmsg(pair[0], &hdr, 0), (ssize_t)len);
	cr_expect_eq(flat_msg_recv(pair[1], &got, fds, &n, MSG_DONTWAIT), -EPROTO);
	cr_expect_eq(n, 0);
	cr_expect_eq(open_fds(), before, "descriptors are kept");
}

Test(attach, what_breaks_the_rules_is_refused_and_leaks_nothing)
{
	struct flat_msg two[2];
	struct flat_msg msg;
	memset(two, 0, sizeof(two));
	flat_msg_init(&two[0], FLAT_MSG_HELLO, 1);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	refused(&msg, sizeof(msg) - 1, 0);
	refused(&msg, 1, 0);
	refused(&two[0], sizeof(two), 0);
	refused(&msg, sizeof(msg), 1);
	refused(&msg, sizeof(msg), 4);
	refused(&msg, sizeof(msg), 5);
	refused(&msg, sizeof(msg), 16);
	refused(&msg, sizeof(msg), 32);
	msg.fds = FLAT_FD_ANCHOR | FLAT_FD_BELL;
	refused(&msg, sizeof(msg), 1);
	msg.fds = FLAT_FD_TICKETS << 1;
	refused(&msg, sizeof(msg), 1);
	/* Tickets: two descriptors each, as many as are named, in their own message alone. */
	msg.fds = FLAT_FD_TICKETS;
	msg.body.tickets.n = 1;
	refused(&msg, sizeof(msg), 2);
	flat_msg_init(&msg, FLAT_MSG_TICKETS, 1);
	msg.fds = FLAT_FD_TICKETS | FLAT_FD_LANE;
	refused(&msg, sizeof(msg), 1);
	msg.body.tickets.n = 2;
	refused(&msg, sizeof(msg), 4);
	refused(&msg, sizeof(msg), 6);
	msg.body.tickets.n = FLAT_MSG_TICKETS_MAX + 1;
	refused(&msg, sizeof(msg), 2 * FLAT_MSG_TICKETS_MAX + 1);
	refused(&msg, sizeof(msg), 2 * FLAT_MSG_TICKETS_MAX + 3);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	msg.fds = 0;
	memset(msg.reason, 'x', sizeof(msg.reason));
	refused(&msg, sizeof(msg), 0);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	msg.magic++;
	refused(&msg, sizeof(msg), 0);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	msg.version++;
	refused(&msg, sizeof(msg), 0);
}

/* What a HELLO of these versions comes to at the other end. */
static uint32_t other_build(uint16_t version, uint32_t shared, size_t len, int want)
{
	struct flat_msg hello[2];
	struct flat_msg got;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n;
	int both[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, both), 0);
	memset(hello, 0, sizeof(hello));
	memset(&got, 0xff, sizeof(got));
	flat_msg_init(&hello[0], FLAT_MSG_HELLO, 1);
	hello[0].version = version;
	hello[0].body.hello.shared = shared;
	cr_assert_eq(send(both[0], hello, len, 0), (ssize_t)len);
	int err = flat_msg_recv(both[1], &got, fds, &n, MSG_DONTWAIT);
	cr_expect_eq(err, want, "%d", err);
	close(both[0]);
	close(both[1]);
	return flat_msg_other_build(&got, err);
}

Test(attach, halves_of_two_builds_know_it)
{
	char text[FLAT_SHARED_STRLEN];
	const size_t whole = sizeof(struct flat_msg);
	const uint32_t ours = flat_shared_version();
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	cr_expect_eq(msg.body.hello.shared, ours);
	cr_expect_eq(other_build(FLAT_MSG_VERSION, ours, whole, 0), 0);
	cr_expect_eq(other_build(FLAT_MSG_VERSION, ours + 1, whole, 0), ours + 1);
	cr_expect_eq(other_build(FLAT_MSG_VERSION, UINT32_MAX, whole, 0), UINT32_MAX);
	cr_expect_eq(other_build(FLAT_MSG_VERSION, 0, whole, 0),
		     ours == FLAT_SHARED_UNTOLD ? 0 : FLAT_SHARED_UNTOLD);
	/* Of other messages, which may be longer or shorter. */
	cr_expect_eq(other_build(9, 0, whole, -EPROTO), FLAT_SHARED(9, 0, 0));
	cr_expect_eq(other_build(9, 0, 2 * whole, -EPROTO), FLAT_SHARED(9, 0, 0));
	cr_expect_eq(other_build(9, 0, 8, -EPROTO), FLAT_SHARED(9, 0, 0));
	/* Too short to say so, and malformed ones of our own. */
	cr_expect_eq(other_build(9, 0, 4, -EPROTO), 0);
	cr_expect_eq(other_build(FLAT_MSG_VERSION, ours, whole - 1, -EPROTO), 0);
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 1);
	cr_expect_eq(flat_msg_other_build(&msg, 0), 0);
	cr_expect_eq(flat_msg_other_build(&msg, -ECONNRESET), 0);
	cr_expect_str_eq(flat_shared_str(FLAT_SHARED(1, 4, 4), text), "1.4.4");
	cr_expect_str_eq(flat_shared_str(FLAT_SHARED(9, 0, 0), text), "9");
	cr_expect_str_eq(flat_shared_str(UINT32_MAX, text), "65535.255.255");
}

/* A message with two descriptors comes to a process that has numbers for none, one, and both; it needs so many. */
static void of_two(enum flat_msg_type type, uint32_t kinds, size_t need)
{
	struct flat_msg msg, got;
	struct rlimit limit;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 9;
	flat_msg_init(&msg, type, 7);
	msg.fds = kinds;
	const int sent[2] = {pair[0], pair[1]};
	int before = open_fds();
	int end = dup(0);
	close(end);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	const struct rlimit was = limit;
	for (size_t room = 0; room < 3; room++) {
		cr_assert_eq(flat_msg_send(pair[0], &msg, sent, 2, 0), 0);
		limit.rlim_cur = (rlim_t)end;
		cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		int err = flat_msg_recv(pair[1], &got, fds, &n, MSG_DONTWAIT);
		cr_assert_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
		cr_expect_eq(err, room < need ? -EMFILE : 0, "room for %zu: %d", room, err);
		cr_expect_eq(got.seq, 7);
		cr_expect_eq(n, room < need ? 0 : room);
		if (err == 0)
			cr_expect_eq(got.fds, room == 2 ? kinds : FLAT_FD_ANCHOR);
		flat_msg_close_fds(fds, n);
		cr_expect_eq(open_fds(), before, "descriptors are kept");
		/* One free number more. */
		while (fcntl(end++, F_GETFD) >= 0)
			;
	}
}

Test(attach, descriptors_that_find_no_number_are_told_of)
{
	of_two(FLAT_MSG_CONNECT, FLAT_FD_ANCHOR | FLAT_FD_BELL, 2);
	of_two(FLAT_MSG_ACCEPT, FLAT_FD_ANCHOR | FLAT_FD_LANE, 2);
	of_two(FLAT_MSG_HELLO, FLAT_FD_ANCHOR | FLAT_FD_DIRECTORY, 2);
}

Test(attach, a_connection_is_accepted_without_the_directory_where_it_finds_no_number)
{
	of_two(FLAT_MSG_ACCEPT, FLAT_FD_ANCHOR | FLAT_FD_DIRECTORY, 1);
}

Test(attach, tickets_come_with_two_descriptors_each)
{
	struct flat_msg msg;
	int send[FLAT_MSG_FDS_MAX];
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int before = open_fds();
	for (size_t i = 0; i < FLAT_MSG_FDS_MAX; i++)
		send[i] = pair[i % 2];
	flat_msg_init(&msg, FLAT_MSG_TICKETS, 3);
	msg.fds = FLAT_FD_LANE | FLAT_FD_TICKETS;
	msg.body.tickets.n = FLAT_MSG_TICKETS_MAX;
	cr_assert_eq(flat_msg_send(pair[0], &msg, send, FLAT_MSG_FDS_MAX, MSG_DONTWAIT), 0);
	cr_assert_eq(flat_msg_recv(pair[1], &msg, fds, &n, MSG_DONTWAIT), 0);
	cr_assert_eq(n, FLAT_MSG_FDS_MAX);
	int lane = flat_msg_fd(&msg, fds, FLAT_FD_LANE);
	int last = fds[FLAT_MSG_FDS_MAX - 1];
	int anchor;
	int bell;
	flat_msg_ticket_fds(&msg, fds, FLAT_MSG_TICKETS_MAX - 1, &anchor, &bell);
	cr_expect_eq(bell, last);
	cr_expect_eq(fds[FLAT_MSG_FDS_MAX - 1], -1, "taken");
	cr_expect_geq(fds[FLAT_MSG_FDS_MAX - 3], 0, "the one before is still there");
	close(lane);
	close(anchor);
	close(bell);
	flat_msg_close_fds(fds, n);
	cr_expect_eq(open_fds(), before);
}

Test(attach, an_empty_socket_and_an_ended_one_are_told_apart)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n;
	cr_expect_eq(flat_msg_recv(pair[1], &msg, fds, &n, MSG_DONTWAIT), -EAGAIN);
	shutdown(pair[0], SHUT_RDWR);
	cr_expect_eq(flat_msg_recv(pair[1], &msg, fds, &n, MSG_DONTWAIT), -ENOTCONN);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	cr_expect_eq(flat_msg_send(pair[1], &msg, NULL, 0, MSG_DONTWAIT), -EPIPE);
	cr_expect_eq(flat_msg_send(pair[1], &msg, NULL, FLAT_MSG_FDS_MAX + 1, 0), -EINVAL);
}

static struct flat_addr from_text(int family, const char *ip, uint16_t port)
{
	struct flat_addr a = {.family = (uint16_t)family, .port = port};
	cr_assert_eq(inet_pton(family, ip, a.ip), 1);
	return a;
}

Test(attach, addresses_go_to_the_kernels_form_and_back)
{
	struct flat_addr v4 = from_text(AF_INET, "10.1.2.3", 80);
	struct flat_addr v6 = from_text(AF_INET6, "fe80::1", 443);
	struct flat_addr back;
	struct sockaddr_storage ss;
	char text[FLAT_ADDR_STRLEN];
	v6.scope_id = 3;
	socklen_t len = flat_addr_to_sockaddr(&v4, &ss);
	cr_expect_eq(len, sizeof(struct sockaddr_in));
	cr_expect_eq(flat_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len), 0);
	cr_expect_eq(memcmp(&back, &v4, sizeof(v4)), 0);
	cr_expect_eq(flat_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len - 1), -EINVAL);
	len = flat_addr_to_sockaddr(&v6, &ss);
	cr_expect_eq(flat_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len), 0);
	cr_expect_eq(memcmp(&back, &v6, sizeof(v6)), 0);
	cr_expect_eq(flat_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len - 4), 0,
		     "without a scope, as Linux");
	cr_expect_eq(flat_addr_from_sockaddr(&back, (struct sockaddr *)&ss, 1), -EINVAL);
	ss.ss_family = AF_UNIX;
	cr_expect_eq(flat_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len), -EAFNOSUPPORT);
	cr_expect_str_eq(flat_addr_str(&v4, text), "10.1.2.3:80");
	struct flat_addr none = {.family = AF_INET};
	cr_expect_str_eq(flat_addr_str(&none, text), "0.0.0.0:0");
	struct flat_addr all = {.family = AF_INET, .port = 65535, .ip = {255, 255, 255, 255}};
	cr_expect_str_eq(flat_addr_str(&all, text), "255.255.255.255:65535");
	cr_expect_str_eq(flat_addr_str(&v6, text), "[fe80::1]:443");
}

Test(attach, mapped_addresses_equal_their_v4_form)
{
	struct flat_addr v4 = from_text(AF_INET, "10.1.2.3", 80);
	struct flat_addr mapped = from_text(AF_INET6, "::ffff:10.1.2.3", 80);
	struct flat_addr other = from_text(AF_INET6, "::10.1.2.3", 80);
	cr_expect(flat_addr_equal(&v4, &mapped));
	cr_expect_not(flat_addr_equal(&v4, &other));
	mapped.port++;
	cr_expect_not(flat_addr_equal(&v4, &mapped));
	flat_addr_unmap(&mapped);
	cr_expect_eq(mapped.family, AF_INET);
	cr_expect_eq(memcmp(mapped.ip, v4.ip, 16), 0);
}
