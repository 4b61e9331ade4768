/* Bytes that open the connection that they go over: MSG_FASTOPEN. Nobody has a cookie, so the kernel connects first. */
#include "parity.h"

static char buf[64];

static ssize_t open_by(int fd, const char *bytes, int flags)
{
	struct sockaddr_in a = where(0);
	return sendto(fd, bytes, strlen(bytes), MSG_FASTOPEN | flags, (struct sockaddr *)&a,
		      sizeof(a));
}

BEHAVIOUR(fastopen_sends)
{
	int l = listener(0), c = tcp(0);
	DO(open_by(c, "hello", 0));
	int s = (int)DO(accept(l, NULL, NULL));
	await_bytes(s, 5);
	ssize_t n = DO(recv(s, buf, sizeof(buf), 0));
	say_bytes("came", buf, n);
	DO(open_by(c, "again", 0));
	DO(send(c, "x", 1, MSG_FASTOPEN));
	DO(send(s, "y", 1, MSG_FASTOPEN | MSG_DONTWAIT));
	DO(send(c, "z", 1, 0));
	n = DO(recv(s, buf, sizeof(buf), 0));
	say_bytes("came", buf, n);
}

BEHAVIOUR(fastopen_sends_a_message)
{
	struct sockaddr_in a = where(0);
	struct iovec iov[2] = {{(char *)"he", 2}, {(char *)"llo", 3}};
	struct msghdr m = {
	    .msg_name = &a, .msg_namelen = sizeof(a), .msg_iov = iov, .msg_iovlen = 2};
	int l = listener(0), c = tcp(0);
	DO(sendmsg(c, &m, MSG_FASTOPEN));
	int s = (int)DO(accept(l, NULL, NULL));
	await_bytes(s, 5);
	ssize_t n = DO(recv(s, buf, sizeof(buf), 0));
	say_bytes("came", buf, n);
	DO(sendmsg(c, &m, MSG_FASTOPEN));
	DO(sendmsg(c, &m, 0));
	say("%u", (unsigned)m.msg_namelen);
}

BEHAVIOUR(fastopen_nonblocking)
{
	int l = listener(0), c = tcp(SOCK_NONBLOCK);
	DO(open_by(c, "hello", 0));
	await(c, POLLOUT);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(send(c, "later", 5, 0));
	int s = (int)DO(accept(l, NULL, NULL));
	await_bytes(s, 5);
	ssize_t n = DO(recv(s, buf, sizeof(buf), 0));
	say_bytes("came", buf, n);
}

BEHAVIOUR_ALONE(fastopen_refused)
{
	int c = tcp(0);
	DO(open_by(c, "hello", MSG_NOSIGNAL));
	DO(send(c, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL));
	int l = listener(1);
	DO(send(l, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL));
}

BEHAVIOUR(fastopen_by_option)
{
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0), one = 1;
	DO(setsockopt(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)));
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	DO(write(c, "hello", 5));
	int s = (int)DO(accept(l, NULL, NULL));
	await_bytes(s, 5);
	ssize_t n = DO(recv(s, buf, sizeof(buf), 0));
	say_bytes("came", buf, n);
}
