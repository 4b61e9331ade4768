/* bind(), listen(), accept() and what listeners are. */
#include <sys/resource.h>

#include "parity.h"

static int go(int fd, int n)
{
	struct sockaddr_in a = where(n);
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static int flags_of(int fd)
{
	return fcntl(fd, F_GETFL);
}

BEHAVIOUR(accept_plain)
{
	int l = listener(0), c = reach(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int s = (int)DO(accept(l, (struct sockaddr *)&ss, &len));
	say_addr("peer", (struct sockaddr *)&ss, len);
	say("flags %#x fd flags %d", (unsigned)flags_of(s), fcntl(s, F_GETFD));
	say_mask("accepted", s);
	say_mask("listener", l);
	say_mask("client", c);
}

BEHAVIOUR(accept4_flags)
{
	int l = listener(0);
	static const int flags[] = {0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC};
	for (int i = 0; i < 4; i++) {
		int c = reach(0);
		int s = accept4(l, NULL, NULL, flags[i]);
		say("flags %#x fd flags %d", (unsigned)flags_of(s), fcntl(s, F_GETFD));
		close(s);
		close(c);
	}
}

BEHAVIOUR(accept4_bad_flags)
{
	int l = listener(0);
	reach(0);
	DO(accept4(l, NULL, NULL, 1));
	DO(accept4(l, NULL, NULL, -1));
	DO(accept4(l, NULL, NULL, O_APPEND));
	DO(accept4(l, NULL, NULL, 0));
}

BEHAVIOUR(accept_does_not_inherit_nonblock)
{
	int l = listener(0);
	set_nonblock(l);
	reach(0);
	await(l, POLLIN);
	int s = (int)DO(accept(l, NULL, NULL));
	say("flags %#x", (unsigned)flags_of(s));
}

BEHAVIOUR_ALONE(accept_nonblocking_empty)
{
	int l = listener(0);
	set_nonblock(l);
	DO(accept(l, NULL, NULL));
	DO(accept4(l, NULL, NULL, SOCK_NONBLOCK));
	say_mask("empty", l);
}

BEHAVIOUR(accept_nonblocking_then_one)
{
	int l = listener(0);
	set_nonblock(l);
	DO(accept(l, NULL, NULL));
	reach(0);
	await(l, POLLIN);
	say_mask("one waits", l);
	DO(accept(l, NULL, NULL));
	DO(accept(l, NULL, NULL));
	say_mask("taken", l);
}

BEHAVIOUR_ALONE(accept_not_listening)
{
	struct sockaddr_in a = where(0);
	int fd = tcp(0);
	DO(accept(fd, NULL, NULL));
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	DO(accept(fd, NULL, NULL));
	DO(accept4(fd, NULL, NULL, 7));
	DO(accept(-1, NULL, NULL));
	DO(accept(1, NULL, NULL));
}

BEHAVIOUR(accept_on_connection)
{
	int c, s;
	pair(&c, &s);
	DO(accept(c, NULL, NULL));
	DO(accept(s, NULL, NULL));
}

BEHAVIOUR(accept_truncated_name)
{
	int l = listener(0);
	unsigned char buf[64];
	static const socklen_t lengths[] = {0, 1, 2, 4, 8, 15, 16, 17, 28, 64};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		socklen_t len = lengths[i];
		int c = reach(0);
		memset(buf, 0xee, sizeof(buf));
		int s = accept(l, (struct sockaddr *)buf, &len);
		size_t touched = 0;
		for (size_t k = 0; k < sizeof(buf); k++)
			touched += buf[k] != 0xee;
		say("%u: accepted %d len %u, written beyond: %d", (unsigned)lengths[i], s > 0,
		    (unsigned)len, touched > lengths[i]);
		close(s);
		close(c);
	}
}

BEHAVIOUR(accept_bad_name)
{
	int l = listener(0);
	struct sockaddr_in a;
	socklen_t len = (socklen_t)-1;
	set_nonblock(l);
	reach(0);
	await(l, POLLIN);
	DO(accept(l, (struct sockaddr *)&a, &len));
	say_mask("after -1", l);
	reach(0);
	await(l, POLLIN);
	DO(accept(l, (struct sockaddr *)&a, NULL));
	say_mask("after NULL", l);
	len = sizeof(a);
	reach(0);
	await(l, POLLIN);
	DO(accept(l, NULL, &len));
	say("len %u", (unsigned)len);
}

BEHAVIOUR(accept_bad_pointers)
{
	int l = listener(0);
	socklen_t len = sizeof(struct sockaddr_in);
	set_nonblock(l);
	reach(0);
	await(l, POLLIN);
	DO(accept(l, bad_address, &len));
	reach(0);
	await(l, POLLIN);
	DO(accept(l, (struct sockaddr *)&len, bad_address));
}

BEHAVIOUR(accept_lowest_number)
{
	int l = listener(0), c = reach(0);
	int hole = dup(1);
	int top = dup(1);
	close(hole);
	int s = accept(l, NULL, NULL);
	say("lowest %d", s == hole);
	say("%d %d %d", l, c, s);
	close(top);
}

static void *connect_soon(void *arg)
{
	(void)arg;
	let_sleep();
	reach(0);
	return NULL;
}

BEHAVIOUR(accept_blocking_waits)
{
	int l = listener(0);
	pthread_t t = thread(connect_soon, NULL);
	DO(accept(l, NULL, NULL) >= 0);
	join(t);
}

BEHAVIOUR_ALONE(accept_timeout)
{
	int l = listener(0);
	struct timeval tv = {0, 120000};
	DO(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	long begin = now_ms();
	DO(accept(l, NULL, NULL));
	say_elapsed(begin, 120);
}

static void *shut_soon(void *arg)
{
	let_sleep();
	DO(shutdown(*(int *)arg, SHUT_RDWR));
	return NULL;
}

BEHAVIOUR_ALONE(accept_woken_by_shutdown)
{
	int l = listener(0);
	pthread_t t = thread(shut_soon, &l);
	int r = accept(l, NULL, NULL);
	int err = errno;
	join(t);
	say("accept %d %s", r, error_name(err));
	say_mask("shut", l);
	DO(accept(l, NULL, NULL));
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
}

BEHAVIOUR_ALONE(accept_after_shutdown_rd)
{
	int l = listener(0);
	DO(shutdown(l, SHUT_RD));
	DO(accept(l, NULL, NULL));
	say_mask("shut", l);
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
	int c = tcp(0);
	DO(go(c, 0));
}

BEHAVIOUR(accept_after_shutdown_wr)
{
	int l = listener(0);
	DO(shutdown(l, SHUT_WR));
	say_mask("shut for writing", l);
	reach(0);
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(accept_listen_again_after_shutdown)
{
	int l = listener(0);
	DO(shutdown(l, SHUT_RDWR));
	DO(listen(l, 5));
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
	reach(0);
	DO(accept(l, NULL, NULL));
}

static void *accept_one(void *arg)
{
	int r = accept(*(int *)arg, NULL, NULL);
	say("accepted %d %s", r >= 0, r < 0 ? error_name(errno) : "");
	return NULL;
}

BEHAVIOUR(accept_close_in_other_thread)
{
	/* The sleeper keeps the file: it still accepts. */
	int l = listener(0);
	int keep = dup(l);
	pthread_t t = thread(accept_one, &l);
	let_sleep();
	DO(close(l));
	reach(0);
	join(t);
	DO(close(keep));
}

BEHAVIOUR_ALONE(accept_interrupted)
{
	int l = listener(0);
	count_signal(SIGALRM, 0);
	alarm(1);
	DO(accept(l, NULL, NULL));
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR(accept_restarted)
{
	int l = listener(0);
	count_signal(SIGUSR1, SA_RESTART);
	pthread_t t = thread(accept_one, &l);
	let_sleep();
	pthread_kill(t, SIGUSR1);
	let_sleep();
	reach(0);
	join(t);
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR_ALONE(accept_cancelled)
{
	int l = listener(0);
	pthread_t t = thread(accept_one, &l);
	let_sleep();
	pthread_cancel(t);
	join(t);
}

BEHAVIOUR(accept_many_in_order)
{
	int l = listener(0);
	for (int i = 0; i < 8; i++) {
		int c = reach(0);
		char b = (char)('a' + i);
		send_all(c, &b, 1);
	}
	for (int i = 0; i < 8; i++) {
		char b = '-';
		int s = accept(l, NULL, NULL);
		DO(recv(s, &b, 1, MSG_WAITALL));
		say_bytes("in order", &b, 1);
	}
}

BEHAVIOUR(accept_inherits_options)
{
	int l = tcp(0);
	struct sockaddr_in a = where(0);
	struct linger linger = {1, 7};
	struct timeval tv = {3, 250000};
	socklen_t len = sizeof(linger);
	TRY_OPTION(l, SOL_SOCKET, SO_REUSEADDR, 1);
	TRY_OPTION(l, SOL_SOCKET, SO_KEEPALIVE, 1);
	TRY_OPTION(l, IPPROTO_TCP, TCP_NODELAY, 1);
	TRY_OPTION(l, IPPROTO_TCP, TCP_KEEPIDLE, 77);
	TRY_OPTION(l, IPPROTO_TCP, TCP_KEEPCNT, 5);
	TRY_OPTION(l, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
	TRY_OPTION(l, IPPROTO_IP, IP_TOS, 16);
	TRY_OPTION(l, IPPROTO_IP, IP_TTL, 33);
	TRY_OPTION(l, SOL_SOCKET, SO_SNDBUF, 30000);
	TRY_OPTION(l, SOL_SOCKET, SO_RCVBUF, 40000);
	TRY_OPTION(l, SOL_SOCKET, SO_RCVLOWAT, 3);
	TRY_OPTION(l, SOL_SOCKET, SO_PRIORITY, 4);
	TRY_OPTION(l, SOL_SOCKET, SO_OOBINLINE, 1);
	DO(setsockopt(l, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	DO(setsockopt(l, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	DO(bind(l, (struct sockaddr *)&a, sizeof(a)));
	DO(listen(l, 4));
	reach(0);
	int s = (int)DO(accept(l, NULL, NULL));
	SAY_OPTION(s, SOL_SOCKET, SO_REUSEADDR);
	SAY_OPTION(s, SOL_SOCKET, SO_KEEPALIVE);
	SAY_OPTION(s, IPPROTO_TCP, TCP_NODELAY);
	SAY_OPTION(s, IPPROTO_TCP, TCP_KEEPIDLE);
	SAY_OPTION(s, IPPROTO_TCP, TCP_KEEPCNT);
	SAY_OPTION(s, IPPROTO_TCP, TCP_USER_TIMEOUT);
	SAY_OPTION(s, IPPROTO_IP, IP_TOS);
	SAY_OPTION(s, IPPROTO_IP, IP_TTL);
	SAY_OPTION(s, SOL_SOCKET, SO_SNDBUF);
	SAY_OPTION(s, SOL_SOCKET, SO_RCVBUF);
	SAY_OPTION(s, SOL_SOCKET, SO_RCVLOWAT);
	SAY_OPTION(s, SOL_SOCKET, SO_PRIORITY);
	SAY_OPTION(s, SOL_SOCKET, SO_OOBINLINE);
	memset(&linger, 0, sizeof(linger));
	DO(getsockopt(s, SOL_SOCKET, SO_LINGER, &linger, &len));
	say("linger %d %d", linger.l_onoff, linger.l_linger);
	memset(&tv, 0, sizeof(tv));
	len = sizeof(tv);
	DO(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	say("timeout %ld %ld", (long)tv.tv_sec, (long)tv.tv_usec);
}

BEHAVIOUR_ALONE(listen_unbound)
{
	int fd = tcp(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(listen(fd, 5));
	DO(getsockname(fd, (struct sockaddr *)&ss, &len));
	say_addr("name", (struct sockaddr *)&ss, len);
	SAY_OPTION(fd, SOL_SOCKET, SO_ACCEPTCONN);
}

BEHAVIOUR_ALONE(listen_twice)
{
	int l = listener(0);
	DO(listen(l, 2));
	DO(listen(l, -1));
	DO(listen(l, 0));
	DO(listen(l, 100000));
}

BEHAVIOUR(listen_on_connection)
{
	int c, s;
	pair(&c, &s);
	DO(listen(c, 5));
	DO(listen(s, 5));
	say_mask("still connected", c);
}

BEHAVIOUR_ALONE(listen_bad_fd)
{
	DO(listen(-1, 1));
	DO(listen(1, 1));
	DO(listen(777, 1));
	int u = socket(AF_INET, SOCK_DGRAM, 0);
	DO(listen(u, 1));
}

BEHAVIOUR_ALONE(listen_backlog_zero)
{
	struct sockaddr_in a = where(0);
	int l = tcp(0);
	DO(bind(l, (struct sockaddr *)&a, sizeof(a)));
	DO(listen(l, 0));
	say_mask("listener", l);
}

BEHAVIOUR(listen_backlog_zero_holds_one)
{
	struct sockaddr_in a = where(0);
	int l = tcp(0);
	DO(bind(l, (struct sockaddr *)&a, sizeof(a)));
	DO(listen(l, 0));
	int c = tcp(0);
	DO(go(c, 0));
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(listen_backlog_full_nonblocking)
{
	/* A full queue answers nothing: the connection stays under way. */
	struct sockaddr_in a = where(0);
	int l = tcp(0), under_way = 0, done = 0;
	DO(bind(l, (struct sockaddr *)&a, sizeof(a)));
	DO(listen(l, 1));
	int fds[5];
	for (int i = 0; i < 5; i++) {
		fds[i] = tcp(SOCK_NONBLOCK);
		if (go(fds[i], 0) < 0 && errno != EINPROGRESS)
			say("connect: %s", error_name(errno));
	}
	pause_ms(100);
	for (int i = 0; i < 5; i++) {
		struct pollfd p = {.fd = fds[i], .events = POLLOUT};
		if (poll(&p, 1, 0) == 1)
			done++;
		else
			under_way++;
	}
	say("connected %d, under way %d", done, under_way);
}

BEHAVIOUR_ALONE(listener_as_stream)
{
	int l = listener(0);
	char b[4];
	struct iovec iov = {b, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	int n = -1;
	DO(recv(l, b, 4, 0));
	DO(read(l, b, 4));
	DO(recvmsg(l, &m, 0));
	DO(recv(l, b, 4, MSG_PEEK | MSG_DONTWAIT));
	DO(send(l, b, 4, MSG_NOSIGNAL));
	DO(sendmsg(l, &m, MSG_NOSIGNAL));
	DO(recv(l, b, 0, 0));
	DO(send(l, b, 0, MSG_NOSIGNAL));
	DO(ioctl(l, FIONREAD, &n));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getpeername(l, (struct sockaddr *)&ss, &len));
	SAY_OPTION(l, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(l, SOL_SOCKET, SO_TYPE);
}

BEHAVIOUR_ALONE(listener_write_raises_sigpipe)
{
	int l = listener(0);
	count_signal(SIGPIPE, 0);
	DO(write(l, "x", 1));
	say("signals %d", (int)signals_seen);
}

BEHAVIOUR_ALONE(listener_name)
{
	int l = listener(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getsockname(l, (struct sockaddr *)&ss, &len));
	say_addr("v4", (struct sockaddr *)&ss, len);
	int l6 = listener6(1, "::", 0);
	len = sizeof(ss);
	DO(getsockname(l6, (struct sockaddr *)&ss, &len));
	say_addr("v6", (struct sockaddr *)&ss, len);
	len = 4;
	DO(getsockname(l6, (struct sockaddr *)&ss, &len));
	say("len %u", (unsigned)len);
}

BEHAVIOUR_ALONE(listener_file)
{
	int l = listener(0);
	struct stat st;
	DO(fstat(l, &st));
	say("mode %o socket %d", st.st_mode, S_ISSOCK(st.st_mode));
	say("flags %#x", (unsigned)flags_of(l));
	DO(lseek(l, 0, SEEK_CUR));
	DO(isatty(l));
	set_nonblock(l);
	say("flags %#x", (unsigned)flags_of(l));
}

BEHAVIOUR_ALONE(bind_in_use)
{
	struct sockaddr_in a = where(0);
	listener(0);
	int fd = tcp(0);
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	TRY_OPTION(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	a.sin_addr.s_addr = 0;
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR_ALONE(bind_twice)
{
	struct sockaddr_in a = where(0), b = where(1);
	int fd = tcp(0);
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	DO(bind(fd, (struct sockaddr *)&b, sizeof(b)));
	DO(listen(fd, 1));
	DO(bind(fd, (struct sockaddr *)&b, sizeof(b)));
}

BEHAVIOUR_ALONE(bind_listen_close_bind)
{
	struct sockaddr_in a = where(0);
	for (int i = 0; i < 3; i++) {
		int fd = tcp(0);
		DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
		DO(listen(fd, 1));
		DO(close(fd));
	}
}

BEHAVIOUR(bind_listen_again_and_connect)
{
	/* The listener that was there a moment ago takes none of the next one's connections. */
	struct sockaddr_in a = where(0);
	int came = 0;
	for (int i = 0; i < 400; i++) {
		int l = tcp(0);
		if (setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
		    bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 8) < 0) {
			say("round %d: no listener", i);
			break;
		}
		int c = tcp(0);
		bool connected = connect(c, (struct sockaddr *)&a, sizeof(a)) == 0;
		came += connected;
		if (connected)
			close(accept(l, NULL, NULL));
		close(c);
		shutdown(l, SHUT_RDWR);
		close(l);
	}
	say("connected: %d", came);
}

BEHAVIOUR_ALONE(bind_in_use_again_and_again)
{
	/* Somebody listened here, and elsewhere at this port, a moment ago; somebody else does now: bind() fails, without patience. */
	struct sockaddr_in a = where(0);
	int failed = 0;
	for (int i = 0; i < 60; i++) {
		int l = listener(0), fd = tcp(0);
		close(listener6(0, "::1", 1));
		failed += bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == EADDRINUSE;
		close(fd);
		close(l);
	}
	say("in use: %d", failed);
}

BEHAVIOUR_ALONE(bind_bad_arguments)
{
	struct sockaddr_in a = where(0);
	int fd = tcp(0);
	DO(bind(fd, (struct sockaddr *)&a, 3));
	DO(bind(fd, NULL, sizeof(a)));
	DO(bind(-1, (struct sockaddr *)&a, sizeof(a)));
	DO(bind(1, (struct sockaddr *)&a, sizeof(a)));
	a.sin_family = AF_INET6;
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	a = where(0);
	a.sin_addr.s_addr = htonl(0x01020304);
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR(bind_port_after_connections)
{
	/* With connections of it still there, the port is taken without SO_REUSEADDR and free with it. */
	struct sockaddr_in a = where(0);
	int c, s;
	pair(&c, &s);
	int fd = tcp(0);
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	TRY_OPTION(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	DO(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	DO(listen(fd, 1));
}

BEHAVIOUR(reuseport_two_listeners)
{
	struct sockaddr_in a = where(0);
	int l[2], got[2] = {0, 0};
	for (int i = 0; i < 2; i++) {
		l[i] = tcp(0);
		TRY_OPTION(l[i], SOL_SOCKET, SO_REUSEPORT, 1);
		DO(bind(l[i], (struct sockaddr *)&a, sizeof(a)));
		DO(listen(l[i], 64));
		set_nonblock(l[i]);
	}
	for (int i = 0; i < 40; i++)
		reach(0);
	for (int tries = 0; tries < 200 && got[0] + got[1] < 40; tries++) {
		for (int i = 0; i < 2; i++) {
			while (accept(l[i], NULL, NULL) >= 0)
				got[i]++;
		}
		pause_ms(5);
	}
	say("all came: %d, to both: %d", got[0] + got[1], got[0] > 0 && got[1] > 0);
}

BEHAVIOUR(reuseport_one_closed)
{
	struct sockaddr_in a = where(0);
	int l[2], n = 0;
	for (int i = 0; i < 2; i++) {
		l[i] = tcp(0);
		TRY_OPTION(l[i], SOL_SOCKET, SO_REUSEPORT, 1);
		DO(bind(l[i], (struct sockaddr *)&a, sizeof(a)));
		DO(listen(l[i], 16));
	}
	DO(close(l[0]));
	for (int i = 0; i < 6; i++)
		reach(0);
	for (int i = 0; i < 6; i++)
		n += accept(l[1], NULL, NULL) >= 0;
	say("accepted %d", n);
}

static void limit_numbers(rlim_t limit)
{
	struct rlimit r = {limit, limit};
	setrlimit(RLIMIT_NOFILE, &r);
}

/* All of them but the highest `left`. */
static void use_up_numbers(int left)
{
	int last = 0;
	for (int fd; (fd = dup(0)) >= 0;)
		last = fd;
	for (; left > 0; left--)
		close(last--);
}

BEHAVIOUR(accept_without_a_number)
{
	struct sockaddr_in a = where(0);
	char got[8];
	int l, c, d, s;
	limit_numbers(100);
	l = listener(0);
	use_up_numbers(2);
	c = tcp(0);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	d = tcp(0);
	DO(connect(d, (struct sockaddr *)&a, sizeof(a)));
	DO(accept(l, NULL, NULL));
	DO(accept4(l, NULL, NULL, SOCK_NONBLOCK));
	DO(poll(&(struct pollfd){l, POLLIN, 0}, 1, 1000));
	DO(send(c, "kept", 4, 0));
	close(0);
	s = accept(l, NULL, NULL);
	DO(recv(s, got, sizeof(got), 0));
	DO(accept(l, NULL, NULL));
	DO(close(d));
	say("%d", accept(l, NULL, NULL) >= 0);
}

BEHAVIOUR(accept_and_epoll_without_a_number)
{
	struct sockaddr_in a = where(0);
	struct epoll_event in = {.events = EPOLLOUT}, got;
	int l, e, c;
	limit_numbers(100);
	l = listener(0);
	e = epoll_create1(0);
	use_up_numbers(1);
	c = tcp(0);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, c, &in));
	DO(epoll_wait(e, &got, 1, 1000));
	DO(dup(0));
	DO(accept(l, NULL, NULL));
}

/* Taken by files, which no hook of sockets sees. */
static int use_up_numbers_by_files(void)
{
	int last = -1;
	for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;)
		last = fd;
	return last;
}

BEHAVIOUR(connect_without_a_number)
{
	struct sockaddr_in a = where(0);
	char got[8];
	limit_numbers(100);
	int l = listener(0), c = tcp(0), last = use_up_numbers_by_files();
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	DO(accept(l, NULL, NULL));
	DO(send(c, "there", 5, 0));
	close(last);
	int s = accept(l, NULL, NULL);
	say("%d", s >= 0);
	DO(recv(s, got, sizeof(got), 0));
	close(s);
	DO(recv(c, got, sizeof(got), 0));
	DO(fcntl(l, F_SETFL, O_NONBLOCK));
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(listener_shutdown_is_told_by_epoll)
{
	int l = listener(0), e = epoll_create1(0), c, s;
	struct epoll_event in = {.events = EPOLLIN, .data.fd = 1}, got;
	set_nonblock(l);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, l, &in));
	c = reach(0);
	DO(epoll_wait(e, &got, 1, 1000));
	s = accept(l, NULL, NULL);
	DO(epoll_wait(e, &got, 1, 0));
	DO(shutdown(l, SHUT_RDWR));
	got.events = 0;
	DO(epoll_wait(e, &got, 1, 0));
	say("%#x", got.events);
	DO(accept(l, NULL, NULL));
	DO(epoll_wait(e, &got, 1, 0));
	DO(epoll_ctl(e, EPOLL_CTL_DEL, l, NULL));
	DO(epoll_wait(e, &got, 1, 0));
	DO(send(c, "on", 2, 0));
	await(s, POLLIN);
	DO(recv(s, &(char[4]){0}, 4, 0));
}

/* 64 MB more than there are mapped now. */
static void leave_little_room(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	if (!f || fscanf(f, "%lu", &pages) != 1)
		say("statm");
	fclose(f);
	rlim_t room = (rlim_t)(pages * (unsigned long)sysconf(_SC_PAGESIZE)) + (64U << 20);
	setrlimit(RLIMIT_AS, &(struct rlimit){room, room});
}

static void serve_in_little_room(void *arg)
{
	int served = 0;
	for (int i = 0; i < 24; i++) {
		int l = listener(0);
		send_all(*(int *)arg, "l", 1);
		int s = accept(l, NULL, NULL);
		if (s < 0)
			say("accept %s", error_name(errno));
		else
			served += send(s, "x", 1, MSG_NOSIGNAL) == 1;
		close(s);
		close(l);
		if (i == 0)
			leave_little_room();
		pause_ms(20);
	}
	say("served %d", served);
}

/* A listener for each connection, in a process whose address space is limited (vsftpd's, in passive mode). */
BEHAVIOUR(accept_many_listeners_in_little_room)
{
	char b;
	int u[2], came = 0;
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pid_t pid = child(serve_in_little_room, &u[1]);
	close(u[1]);
	while (recv(u[0], &b, 1, 0) == 1) {
		int c = reach(0);
		came += recv(c, &b, 1, 0) == 1;
		close(c);
	}
	say("came %d", came);
	reap(pid);
}
