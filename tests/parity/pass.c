/* Sockets that travel between processes by SCM_RIGHTS. */
#include <sys/un.h>

#include "parity.h"

static char buf[256];

static void give(int u, int fd)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} m;
	struct iovec iov = {(char *)"f", 1};
	struct msghdr msg = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &m, .msg_controllen = sizeof(m)};
	memset(&m, 0, sizeof(m));
	m.h.cmsg_level = SOL_SOCKET;
	m.h.cmsg_type = SCM_RIGHTS;
	m.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&m.h), &fd, sizeof(fd));
	if (sendmsg(u, &msg, 0) != 1)
		say("give: %s", error_name(errno));
}

static int take(int u)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} m;
	char b;
	int fd = -1;
	struct iovec iov = {&b, 1};
	struct msghdr msg = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &m, .msg_controllen = sizeof(m)};
	if (recvmsg(u, &msg, 0) != 1)
		say("take: %s", error_name(errno));
	else
		memcpy(&fd, CMSG_DATA(&m.h), sizeof(fd));
	return fd;
}

BEHAVIOUR(process_pass_to_self)
{
	int c, s, u[2];
	pair(&c, &s);
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	give(u[0], s);
	close(s);
	int t = take(u[1]);
	works("taken", c, t);
	works("back", t, c);
	close(t);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

/* dovecot's and postfix's services: no environment, a listening UNIX socket as standard input, and connections are sent there. */
BEHAVIOUR(process_pass_to_service)
{
	static char program[] = "import socket; c = socket.socket(fileno=0).accept()[0]; "
				"s = socket.socket(fileno=socket.recv_fds(c, 9, 1)[1][0]); "
				"s.sendall(s.recv(9).upper())";
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(sa_family_t);
	int c, s, u = socket(AF_UNIX, SOCK_STREAM, 0), l = socket(AF_UNIX, SOCK_STREAM, 0);
	pair(&c, &s);
	/* A name that the kernel gives. */
	bind(l, (struct sockaddr *)&name, len);
	len = sizeof(name);
	getsockname(l, (struct sockaddr *)&name, &len);
	listen(l, 1);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(l, 0);
		closefrom(3);
		execle("/usr/bin/python3", "python3", "-Ic", program, NULL, (char *[]){NULL});
		_exit(127);
	}
	DO(connect(u, (struct sockaddr *)&name, len));
	give(u, s);
	close(s);
	send_all(c, "a service", 9);
	ssize_t n = (ssize_t)recv_all(c, buf, 100);
	say_bytes("came", buf, n);
	reap(pid);
}

static void take_and_echo(void *arg)
{
	int s = take(*(int *)arg);
	say("child has it %d", s >= 0);
	echo_once(&s);
}

BEHAVIOUR(process_pass_to_child)
{
	int c, s, u[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(take_and_echo, &u[1]);
	close(u[1]);
	pair(&c, &s);
	give(u[0], s);
	close(s);
	send_all(c, "ping", 4);
	DO(recv(c, buf, 16, 0));
	reap(pid);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(process_pass_with_data_waiting)
{
	int c, s, u[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(take_and_echo, &u[1]);
	close(u[1]);
	pair(&c, &s);
	send_all(c, "early", 5);
	await_bytes(s, 5);
	give(u[0], s);
	close(s);
	DO(recv(c, buf, 16, 0));
	reap(pid);
}

static void take_two_and_echo(void *arg)
{
	take_and_echo(arg);
	take_and_echo(arg);
}

/* A proxy whose one process connects, and hands each connection to another that talks (dante). It has others that wait. */
BEHAVIOUR(process_pass_clients_one_after_another)
{
	int waiting, other, c, s, u[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(take_two_and_echo, &u[1]);
	close(u[1]);
	pair(&waiting, &other);
	for (int i = 0; i < 2; i++) {
		pair(&c, &s);
		give(u[0], c);
		close(c);
		send_all(s, "ping", 4);
		DO(recv(s, buf, 16, 0));
		close(s);
	}
	reap(pid);
	works("waited", waiting, other);
}

static void take_and_return(void *arg)
{
	int u = *(int *)arg;
	int s = take(u);
	send_all(s, "child", 5);
	give(u, s);
}

BEHAVIOUR(process_pass_there_and_back)
{
	int c, s, u[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(take_and_return, &u[1]);
	pair(&c, &s);
	give(u[0], s);
	close(s);
	int t = take(u[0]);
	reap(pid);
	DO(recv(c, buf, 5, MSG_WAITALL));
	works("returned", c, t);
	works("back", t, c);
}

static void take_listener(void *arg)
{
	int l = take(*(int *)arg);
	accept_echo(&l);
}

BEHAVIOUR(process_pass_listener)
{
	int u[2];
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(take_listener, &u[1]);
	int l = listener(0);
	give(u[0], l);
	close(l);
	int c = reach(0);
	send_all(c, "hey", 3);
	DO(recv(c, buf, 10, 0));
	reap(pid);
}

BEHAVIOUR(process_pass_unread_and_dropped)
{
	/* In flight when its carrier goes: the connection ends. */
	int c, s, u[2];
	pair(&c, &s);
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	give(u[0], s);
	close(s);
	pause_ms(20);
	say_mask("in flight", c);
	close(u[0]);
	close(u[1]);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

static void take_with_options(void *arg)
{
	struct linger l = {0};
	struct timeval tv = {0};
	socklen_t len = sizeof(l), tv_len = sizeof(tv);
	int s = take(*(int *)arg);
	SAY_OPTION(s, SOL_SOCKET, SO_RCVLOWAT);
	SAY_OPTION(s, SOL_SOCKET, SO_KEEPALIVE);
	getsockopt(s, SOL_SOCKET, SO_LINGER, &l, &len);
	getsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &tv, &tv_len);
	say("linger %d %d, limit %ld", l.l_onoff, l.l_linger, (long)tv.tv_sec);
	await_bytes(s, 5);
	say_mask("five bytes", s);
	send_all(*(int *)arg, "n", 1);
	await_bytes(s, 10);
	say_mask("ten bytes", s);
	DO(recv(s, buf, 10, 0));
}

BEHAVIOUR(process_pass_keeps_options)
{
	int c, s, u[2], ten = 10, one = 1;
	struct linger hard = {1, 0};
	struct timeval limit = {7, 0};
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(take_with_options, &u[1]);
	pair(&c, &s);
	setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &ten, sizeof(ten));
	setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	give(u[0], s);
	close(s);
	send_all(c, "fives", 5);
	DO(read(u[0], buf, 1));
	send_all(c, "fives", 5);
	/* Nothing is unread, and it ends by a reset. */
	await(c, POLLHUP);
	DO(recv(c, buf, 1, 0));
	reap(pid);
}
