/* Messages and vectors on flat sockets, by each path: what a call says is what the kernel says of its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <flat/socket.h>

#include "support_account.h"
#include "support_whole.h"

/* Where nobody has memory. */
#define NOWHERE ((void *)8)

/* One message of control data, and what the length of it all is said to be. */
static const struct {
	const char *what;
	int level;
	int type;
	size_t len;
	size_t all;
} controls[] = {
    {"rights", SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0), CMSG_SPACE(0)},
    {"credentials", SOL_SOCKET, SCM_CREDENTIALS, CMSG_LEN(12), CMSG_SPACE(12)},
    {"stamps", SOL_SOCKET, SO_TIMESTAMPING, CMSG_LEN(4), CMSG_SPACE(4)},
    {"half a stamp", SOL_SOCKET, SO_TIMESTAMPING, CMSG_LEN(2), CMSG_SPACE(4)},
    {"another's level", IPPROTO_IP, 8, CMSG_LEN(4), CMSG_SPACE(4)},
    {"unknown", SOL_SOCKET, 9999, CMSG_LEN(4), CMSG_SPACE(4)},
    {"shorter than its head", SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0) - 1, CMSG_SPACE(4)},
    {"longer than all", IPPROTO_IP, 8, CMSG_LEN(4) + 9, CMSG_SPACE(4)},
    {"less than a head", SOL_SOCKET, 9999, CMSG_LEN(4), CMSG_LEN(0) - 1},
    {"beyond an int", SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0), (size_t)INT_MAX + 1},
};

static void control(const char *path, int client, int server)
{
	union {
		struct cmsghdr head;
		char room[128];
	} c;
	char byte = 'c';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c};
	(void)server;
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		memset(&c, 0, sizeof(c));
		c.head.cmsg_level = controls[i].level;
		c.head.cmsg_type = controls[i].type;
		c.head.cmsg_len = controls[i].len;
		msg.msg_controllen = controls[i].all;
		account_call(controls[i].what, flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	}
	/* The second of two counts as well. */
	memset(&c, 0, sizeof(c));
	c.head = (struct cmsghdr){CMSG_LEN(4), IPPROTO_IP, 8};
	struct cmsghdr next = {CMSG_LEN(4), SOL_SOCKET, 9999};
	memcpy(c.room + CMSG_SPACE(4), &next, sizeof(next));
	msg.msg_controllen = 2 * CMSG_SPACE(4);
	account_call("second", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_control = NOWHERE;
	account_call("nowhere", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	account_compare(path);
}

Test(host_message, control_data_that_is_sent)
{
	whole_on_each(control);
}

static void senders(const char *path, int client, int server)
{
	const struct sockaddr_in v4 = whole_addr(240, 9, 0, 1, 7);
	struct sockaddr_storage to = {0};
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	char text[] = "abcd";
	struct iovec iov[3] = {{text, 2}, {NOWHERE, 2}, {text + 2, 2}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 1};
	(void)server;
	memcpy(&to, &v4, sizeof(v4));
	account_call("no message", flat_sendmsg(client, NOWHERE, MSG_NOSIGNAL));
	msg.msg_name = &to;
	msg.msg_namelen = sizeof(v4);
	account_call("a name", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	account_call("fast open", flat_sendmsg(client, &msg, MSG_FASTOPEN | MSG_NOSIGNAL));
	msg.msg_namelen = 4096;
	account_call("a long name", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_namelen = (socklen_t)-1;
	account_call("a name of -1", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_name = NOWHERE;
	msg.msg_namelen = sizeof(v4);
	account_call("a name nowhere", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_name = &none;
	msg.msg_namelen = sizeof(none);
	account_call("no name", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_name = NULL;
	msg.msg_iovlen = IOV_MAX + 1;
	account_call("too many", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_iovlen = 2;
	msg.msg_iov = NOWHERE;
	account_call("pieces nowhere", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_iov = iov + 1;
	account_call("bytes nowhere", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	iov[1].iov_len = 0;
	msg.msg_iov = iov;
	msg.msg_iovlen = 3;
	account_call("none nowhere", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	iov[1].iov_len = (size_t)SSIZE_MAX + 1;
	account_call("less than none", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	msg.msg_iovlen = 0;
	account_call("nothing", flat_sendmsg(client, &msg, MSG_NOSIGNAL));
	account_compare(path);
}

Test(host_message, what_is_wrong_with_a_message_that_is_sent)
{
	whole_on_each(senders);
}

static void vectors(const char *path, int client, int server)
{
	char text[] = "abcdef";
	char b[2][4] = {0};
	struct iovec out[2] = {{text, 3}, {text + 3, 3}};
	struct iovec in[2] = {{b[0], 2}, {b[1], 4}};
	struct msghdr msg = {.msg_iov = in, .msg_iovlen = 2};
	account_call("writev -1", flat_writev(client, out, -1));
	account_call("writev many", flat_writev(client, out, IOV_MAX + 1));
	account_call("writev none", flat_writev(client, out, 0));
	account_call("writev nowhere", flat_writev(client, NOWHERE, 2));
	account_call("readv -1", flat_readv(server, in, -1));
	account_call("readv many", flat_readv(server, in, IOV_MAX + 1));
	account_call("readv none", flat_readv(server, in, 0));
	account_call("readv nowhere", flat_readv(server, NOWHERE, 2));
	account_call("writev", flat_writev(client, out, 2));
	(void)whole_poll(server, POLLIN);
	account_call("look", flat_recvmsg(server, &msg, MSG_PEEK));
	account_say("\"%.2s\" \"%.4s\"\n", b[0], b[1]);
	memset(b, 0, sizeof(b));
	in[1].iov_len = 1;
	account_call("look at three", flat_recvmsg(server, &msg, MSG_PEEK));
	account_say("\"%.2s\" \"%.4s\"\n", b[0], b[1]);
	account_call("three", flat_readv(server, in, 2));
	in[0].iov_len = 0;
	in[1].iov_len = 4;
	account_call("the rest", flat_readv(server, in, 2));
	account_say("\"%.2s\" \"%.4s\"\n", b[0], b[1]);
	account_compare(path);
}

Test(host_message, vectors_and_looks_at_them)
{
	whole_on_each(vectors);
}

static void receivers(const char *path, int client, int server)
{
	char name[32];
	char buf[8] = {0};
	union {
		struct cmsghdr head;
		char room[64];
	} c = {0};
	int on = 1;
	int left = -1;
	struct iovec iov = {buf, 2};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_flags = 99};
	whole_send(client, "abcdef", 6);
	(void)whole_poll(server, POLLIN);
	account_call("no message", flat_recvmsg(server, NOWHERE, 0));
	msg.msg_name = name;
	msg.msg_namelen = (socklen_t)-1;
	account_call("a name of -1", flat_recvmsg(server, &msg, 0));
	msg.msg_namelen = sizeof(name);
	msg.msg_control = &c;
	msg.msg_controllen = sizeof(c);
	account_call("two", flat_recvmsg(server, &msg, MSG_CMSG_CLOEXEC));
	account_say("%.2s, name %u, control %zu, flags %#x\n", buf, msg.msg_namelen,
		    msg.msg_controllen, (unsigned)msg.msg_flags);
	cr_assert_eq(flat_setsockopt(server, IPPROTO_TCP, TCP_INQ, &on, sizeof(on)), 0);
	msg.msg_controllen = sizeof(c);
	account_call("two more", flat_recvmsg(server, &msg, 0));
	memcpy(&left, CMSG_DATA(&c.head), sizeof(left));
	account_say("%.2s, control %zu of %d/%d: %d left, flags %#x\n", buf, msg.msg_controllen,
		    c.head.cmsg_level, c.head.cmsg_type, left, (unsigned)msg.msg_flags);
	msg.msg_controllen = 4;
	iov.iov_len = 1;
	account_call("no room for that", flat_recvmsg(server, &msg, 0));
	account_say("%.1s, control %zu, flags %#x\n", buf, msg.msg_controllen,
		    (unsigned)msg.msg_flags);
	iov.iov_base = NOWHERE;
	msg.msg_controllen = 0;
	account_call("nowhere", flat_recvmsg(server, &msg, 0));
	msg.msg_iovlen = IOV_MAX + 1;
	account_call("too many", flat_recvmsg(server, &msg, 0));
	iov.iov_base = buf;
	msg.msg_iovlen = 1;
	account_call("what was nowhere", flat_recvmsg(server, &msg, MSG_DONTWAIT));
	account_say("%.1s\n", buf);
	msg.msg_iovlen = 0;
	account_call("none", flat_recvmsg(server, &msg, MSG_DONTWAIT));
	account_compare(path);
}

Test(host_message, what_a_message_that_is_received_says)
{
	whole_on_each(receivers);
}

/* Three messages of two bytes. */
static int receive_three(int fd, int flags, struct timespec *timeout)
{
	char b[3][2] = {0};
	struct iovec iov[3] = {{b[0], 2}, {b[1], 2}, {b[2], 2}};
	struct mmsghdr m[3] = {0};
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	int n = flat_recvmmsg(fd, m, 3, flags, timeout);
	account_call("recvmmsg", n);
	for (int i = 0; i < n; i++)
		account_say("%u: %.2s\n", m[i].msg_len, b[i]);
	return n;
}

static void several(const char *path, int client, int server)
{
	struct timespec bad = {.tv_nsec = 1000000000};
	struct timespec over = {0};
	struct timespec ample = {.tv_sec = 1000};
	struct timespec ever = {.tv_sec = INT64_MAX / 2};
	(void)receive_three(server, MSG_DONTWAIT, NULL);
	whole_send(client, "abcdefghijkl", 12);
	(void)whole_poll(server, POLLIN);
	(void)receive_three(server, 0, &bad);
	account_call("nowhere", flat_recvmmsg(server, NOWHERE, 3, 0, NULL));
	account_call("a time nowhere", flat_recvmmsg(server, NOWHERE, 3, 0, NOWHERE));
	(void)receive_three(server, 0, &ever);
	/* It is looked at after each. */
	(void)receive_three(server, 0, &over);
	account_say("%ld.%09ld\n", (long)over.tv_sec, over.tv_nsec);
	whole_send(client, "m", 1);
	while (flat_recv(server, (char[8]){0}, 8, MSG_PEEK) < 5)
		(void)flat_poll(NULL, 0, 1);
	(void)receive_three(server, 0, &ample);
	cr_expect(ample.tv_sec == 999 && ample.tv_nsec < 1000000000, "%s: what is left of it",
		  path);
	whole_send(client, "n", 1);
	(void)receive_three(server, MSG_WAITFORONE, NULL);
	(void)receive_three(server, MSG_DONTWAIT, &ample);
	account_compare(path);
}

Test(host_message, several_are_received_until_there_are_no_more)
{
	whole_on_each(several);
}

static void some(const char *path, int client, int server)
{
	char text[] = "abcd";
	struct iovec iov[2] = {{text, 2}, {NOWHERE, 2}};
	struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1}},
			       {.msg_hdr = {.msg_iov = iov + 1, .msg_iovlen = 1}}};
	(void)server;
	account_call("the second is wrong", flat_sendmmsg(client, m, 2, MSG_NOSIGNAL));
	account_call("it alone", flat_sendmmsg(client, m + 1, 1, MSG_NOSIGNAL));
	account_call("nowhere", flat_sendmmsg(client, NOWHERE, 2, MSG_NOSIGNAL));
	account_call("none", flat_sendmmsg(client, m, 0, MSG_NOSIGNAL));
	cr_assert_eq(flat_shutdown(client, SHUT_WR), 0, "%s", path);
	account_call("after the end", flat_sendmmsg(client, m, 2, MSG_NOSIGNAL));
	account_compare(path);
}

Test(host_message, of_several_that_are_sent_the_first_wrong_one_is_the_end)
{
	whole_on_each(some);
}

/* More than goes at once, by a reader that has it all before the next: pieces in their order. */
#define PIECES 7
#define PIECE ((size_t)40000)

static void large(const char *path, int client, int server)
{
	uint8_t *sent = malloc(PIECES * PIECE);
	uint8_t *got = calloc(PIECES, PIECE);
	struct iovec iov[PIECES];
	size_t done = 0;
	cr_assert(sent && got);
	for (size_t i = 0; i < PIECES * PIECE; i++)
		sent[i] = (uint8_t)((i * 2654435761U) >> 15);
	while (done < PIECES * PIECE) {
		int n = 0;
		/* What is left, cut as before. */
		for (size_t at = done; at < PIECES * PIECE; at += iov[n++].iov_len)
			iov[n] = (struct iovec){sent + at, PIECE - at % PIECE};
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
		ssize_t went = flat_sendmsg(client, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		cr_assert_gt(went, 0, "%s: %m", path);
		whole_recv(server, got + done, (size_t)went);
		done += (size_t)went;
		(void)whole_poll(client, POLLOUT);
	}
	cr_expect_eq(memcmp(sent, got, PIECES * PIECE), 0, "%s", path);
	free(sent);
	free(got);
}

Test(host_message, large_vectors_keep_their_order)
{
	whole_on_each(large);
}

static void refused(const char *path, int fd)
{
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	account_call("sendmsg", flat_sendmsg(fd, &msg, MSG_NOSIGNAL));
	account_call("recvmsg", flat_recvmsg(fd, &msg, 0));
	account_call("errors", flat_recvmsg(fd, &msg, MSG_ERRQUEUE));
	account_call("readv", flat_readv(fd, &iov, 1));
	account_compare(path);
}

Test(host_message, a_listener_has_none)
{
	struct sockaddr_in at = whole_addr(127, 0, 0, 1, 0);
	whole_begin(NULL, NULL);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	refused("kernel", fd);
	close(fd);
	fd = whole_listen(whole_port());
	refused("listener", fd);
	flat_close(fd);
	whole_end();
}
