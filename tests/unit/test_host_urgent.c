/* Urgent bytes (MSG_OOB) of flat sockets, by each path: what is said of each step is what the kernel says of its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <flat/socket.h>

#include "support_account.h"
#include "support_whole.h"

/* What a receive gives, bytes or why there are none. */
static void take(int fd, size_t len, int flags)
{
	char buf[64] = {0};
	ssize_t n = flat_recv(fd, buf, len, flags | MSG_DONTWAIT);
	if (n < 0)
		account_say("recv %zu %#x: %s\n", len, (unsigned)flags, strerrorname_np(errno));
	else
		account_say("recv %zu %#x: %zd \"%s\"\n", len, (unsigned)flags, n, buf);
}

/* What can be asked without a receive. */
static void look(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI};
	int mark = -1;
	int unread = -1;
	cr_assert_geq(flat_poll(&p, 1, 0), 0);
	cr_assert_eq(flat_ioctl(fd, SIOCATMARK, &mark), 0);
	cr_assert_eq(flat_ioctl(fd, FIONREAD, &unread), 0);
	account_say("poll %s%s, mark %d, unread %d\n", p.revents & POLLIN ? "in " : "",
		    p.revents & POLLPRI ? "pri" : "", mark, unread);
}

static void send_urgent(int fd, const char *text)
{
	size_t len = strlen(text);
	cr_assert_eq(flat_send(fd, text, len, MSG_OOB | MSG_NOSIGNAL), (ssize_t)len, "%m");
}

/* Until the newest urgent byte that has arrived is this one. */
static void await_urgent(int fd, char byte)
{
	char c = 0;
	for (int i = 0; i < 10000; i++) {
		if (flat_recv(fd, &c, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) == 1 && c == byte)
			return;
		(void)flat_poll(NULL, 0, 1);
	}
	cr_assert(false, "no urgent %c", byte);
}

static void in_line(int fd, int on)
{
	cr_assert_eq(flat_setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
}

static void taken(const char *path, int client, int server)
{
	take(server, 1, MSG_OOB);
	whole_send(client, "ab", 2);
	(void)whole_poll(server, POLLIN);
	take(server, 1, MSG_OOB);
	send_urgent(client, "cd!");
	cr_expect(whole_poll(server, POLLPRI) & POLLPRI, "%s", path);
	look(server);
	take(server, 1, MSG_OOB | MSG_PEEK);
	take(server, 8, MSG_OOB);
	take(server, 1, MSG_OOB);
	look(server);
	take(server, 3, 0);
	look(server);
	/* A call ends before the byte, and the next begins behind it. */
	take(server, 8, 0);
	look(server);
	take(server, 8, 0);
	whole_send(client, "ef", 2);
	(void)whole_poll(server, POLLIN);
	look(server);
	take(server, 8, MSG_PEEK);
	take(server, 8, 0);
	look(server);
	account_compare(path);
}

Test(host_urgent, a_byte_is_taken_beside_the_others)
{
	whole_on_each(taken);
}

static void read_over(const char *path, int client, int server)
{
	char b[2][4] = {0};
	struct iovec iov[2] = {{b[0], 2}, {b[1], 4}};
	send_urgent(client, "ab!");
	await_urgent(server, '!');
	take(server, 2, 0);
	look(server);
	whole_send(client, "cd", 2);
	(void)whole_poll(server, POLLIN);
	take(server, 1, MSG_OOB | MSG_PEEK);
	take(server, 8, MSG_PEEK);
	look(server);
	take(server, 8, 0);
	/* It was not taken in time. */
	take(server, 1, MSG_OOB);
	look(server);
	/* No call goes beyond it with bytes from before it. */
	send_urgent(client, "ef?");
	await_urgent(server, '?');
	whole_send(client, "gh", 2);
	account_call("readv", flat_readv(server, iov, 2));
	(void)whole_poll(server, POLLIN);
	take(server, 2, MSG_WAITALL);
	account_compare(path);
}

Test(host_urgent, a_byte_that_was_read_over_is_gone)
{
	whole_on_each(read_over);
}

static void among(const char *path, int client, int server)
{
	in_line(server, 1);
	send_urgent(client, "ab!");
	cr_expect(whole_poll(server, POLLPRI) & POLLPRI, "%s", path);
	look(server);
	take(server, 1, MSG_OOB);
	take(server, 8, MSG_PEEK);
	take(server, 8, 0);
	look(server);
	take(server, 8, MSG_PEEK);
	take(server, 8, 0);
	look(server);
	/* From then on beside them again. */
	in_line(server, 0);
	send_urgent(client, "?");
	await_urgent(server, '?');
	look(server);
	in_line(server, 1);
	look(server);
	take(server, 8, 0);
	look(server);
	account_compare(path);
}

Test(host_urgent, in_line_it_is_one_of_the_others_behind_a_mark)
{
	whole_on_each(among);
}

static void newer(const char *path, int client, int server)
{
	send_urgent(client, "a1");
	await_urgent(server, '1');
	send_urgent(client, "b2");
	await_urgent(server, '2');
	look(server);
	/* The older one is a byte like the others. */
	take(server, 8, 0);
	look(server);
	take(server, 8, MSG_OOB);
	send_urgent(client, "3");
	await_urgent(server, '3');
	look(server);
	/* It stood next to be read, and nobody wanted it: it is none of the others. */
	send_urgent(client, "4");
	await_urgent(server, '4');
	look(server);
	take(server, 8, 0);
	whole_send(client, "c", 1);
	(void)whole_poll(server, POLLIN);
	take(server, 8, 0);
	take(server, 1, MSG_OOB);
	account_compare(path);
}

Test(host_urgent, a_newer_byte_takes_the_place_of_an_older_one)
{
	whole_on_each(newer);
}

static void odd(const char *path, int client, int server)
{
	char b[2][4] = {0};
	struct iovec iov[2] = {{b[0], 2}, {b[1], 4}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	send_urgent(client, "1");
	await_urgent(server, '1');
	/* Room for none: it is taken nevertheless. */
	take(server, 0, MSG_OOB);
	take(server, 1, MSG_OOB);
	send_urgent(client, "2");
	await_urgent(server, '2');
	take(server, 4, MSG_OOB | MSG_TRUNC);
	take(server, 1, MSG_OOB);
	send_urgent(client, "3");
	await_urgent(server, '3');
	cr_expect_eq(flat_recv(server, (void *)8, 1, MSG_OOB), -1, "%s", path);
	cr_expect_eq(errno, EFAULT, "%s: %m", path);
	take(server, 1, MSG_OOB);
	/* Of a message's bytes the last one. */
	memcpy(b, "ab\0\0cde5", 8);
	cr_assert_eq(flat_sendmsg(client, &msg, MSG_OOB), 6, "%s: %m", path);
	await_urgent(server, '5');
	look(server);
	memset(b, 0, sizeof(b));
	account_call("urgent", flat_recvmsg(server, &msg, MSG_OOB));
	account_say("%#x \"%.2s\"\n", (unsigned)msg.msg_flags, b[0]);
	account_call("others", flat_recvmsg(server, &msg, MSG_DONTWAIT));
	account_say("%#x \"%.2s%.4s\"\n", (unsigned)msg.msg_flags, b[0], b[1]);
	account_compare(path);
}

Test(host_urgent, calls_that_nobody_makes)
{
	whole_on_each(odd);
}

static void last(const char *path, int client, int server)
{
	send_urgent(client, "ab!");
	await_urgent(server, '!');
	cr_assert_eq(flat_shutdown(client, SHUT_WR), 0, "%s", path);
	(void)whole_poll(server, POLLRDHUP);
	look(server);
	take(server, 8, 0);
	look(server);
	take(server, 1, MSG_OOB);
	take(server, 8, 0);
	take(server, 1, MSG_OOB);
	account_compare(path);
}

Test(host_urgent, a_byte_before_the_end)
{
	whole_on_each(last);
}

static void none(const char *path, int client, int server)
{
	flat_close(client);
	(void)whole_poll(server, POLLRDHUP);
	take(server, 1, MSG_OOB);
	cr_assert_eq(flat_shutdown(server, SHUT_WR), 0, "%s", path);
	(void)whole_poll(server, POLLHUP);
	take(server, 1, MSG_OOB);
	account_call("send", flat_send(server, "x", 1, MSG_OOB | MSG_NOSIGNAL));
	account_compare(path);
}

Test(host_urgent, none_where_the_connection_has_ended)
{
	whole_on_each(none);
}
