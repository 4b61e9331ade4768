/* connect() in every state. */
#include "parity.h"

static int go(int fd, int n)
{
	struct sockaddr_in a = where(n);
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static int unspec(int fd)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	return connect(fd, &a, sizeof(a));
}

BEHAVIOUR(connect_blocking)
{
	int l = listener(0), c = tcp(0);
	say_mask("before", c);
	DO(go(c, 0));
	say_mask("after", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(connect_twice)
{
	int l = listener(0), c = tcp(0);
	DO(go(c, 0));
	DO(go(c, 0));
	DO(go(c, 1));
	int s = (int)DO(accept(l, NULL, NULL));
	DO(send(c, "x", 1, 0));
	char b;
	DO(recv(s, &b, 1, 0));
}

BEHAVIOUR(connect_nonblocking)
{
	int l = listener(0), c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLOUT);
	say_mask("after", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(connect_nonblocking_again)
{
	int l = listener(0), c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLOUT);
	DO(go(c, 0));
	DO(go(c, 0));
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(connect_nonblocking_again_after_error_read)
{
	int l = listener(0), c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLOUT);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(go(c, 0));
	DO(go(c, 1));
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(connect_nonblocking_then_send)
{
	int l = listener(0), c = tcp(SOCK_NONBLOCK);
	char b[8];
	DO(go(c, 0));
	await(c, POLLOUT);
	DO(send(c, "hello", 5, 0));
	int s = (int)DO(accept(l, NULL, NULL));
	await_bytes(s, 5);
	DO(recv(s, b, sizeof(b), 0));
	DO(recv(c, b, sizeof(b), 0));
	DO(go(c, 0));
}

BEHAVIOUR(connect_nonblocking_peername)
{
	int l = listener(0), c = tcp(SOCK_NONBLOCK);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(go(c, 0));
	await(c, POLLOUT);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	say_addr("peer", (struct sockaddr *)&ss, len);
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR_ALONE(connect_refused)
{
	int c = tcp(0);
	DO(go(c, 0));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	say_mask("after", c);
}

BEHAVIOUR_ALONE(connect_refused_send_recv)
{
	char b;
	int c = tcp(0);
	DO(go(c, 0));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	DO(recv(c, &b, 1, MSG_DONTWAIT));
	DO(shutdown(c, SHUT_RDWR));
}

BEHAVIOUR_ALONE(connect_refused_nonblocking)
{
	int c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLHUP);
	say_mask("refused", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	say_mask("told", c);
}

BEHAVIOUR_ALONE(connect_refused_nonblocking_told_by_connect)
{
	int c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLHUP);
	DO(go(c, 0));
	await(c, POLLHUP);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR_ALONE(connect_refused_nonblocking_told_by_recv)
{
	char b;
	int c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLHUP);
	DO(recv(c, &b, 1, 0));
	DO(recv(c, &b, 1, 0));
}

BEHAVIOUR_ALONE(connect_refused_nonblocking_told_by_send)
{
	int c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLHUP);
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	DO(send(c, "x", 1, MSG_NOSIGNAL));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR_ALONE(connect_refused_epoll)
{
	int c = tcp(SOCK_NONBLOCK), e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLET, .data.u32 = 5};
	char text[128];
	DO(go(c, 0));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, c, &ev));
	DO(epoll_wait(e, &ev, 1, 3000));
	say("%s data %u", poll_names(ev.events, text), ev.data.u32);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(connect_after_refusal)
{
	int c = tcp(0);
	DO(go(c, 0));
	int l = listener(0);
	DO(go(c, 0));
	int s = (int)DO(accept(l, NULL, NULL));
	DO(send(s, "x", 1, 0));
	char b;
	DO(recv(c, &b, 1, 0));
}

BEHAVIOUR(connect_after_refusal_nonblocking)
{
	int c = tcp(SOCK_NONBLOCK);
	DO(go(c, 0));
	await(c, POLLHUP);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	int l = listener(0);
	DO(go(c, 0));
	DO(go(c, 0));
	await(c, POLLOUT);
	say_mask("connected", c);
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(connect_unspec_connected)
{
	int c, s;
	char b;
	pair(&c, &s);
	DO(unspec(c));
	say_mask("client", c);
	await(s, POLLHUP);
	say_mask("server", s);
	DO(recv(s, &b, 1, 0));
	DO(recv(s, &b, 1, 0));
	DO(recv(c, &b, 1, MSG_DONTWAIT));
	DO(send(c, &b, 1, MSG_NOSIGNAL));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
}

BEHAVIOUR(connect_unspec_then_again)
{
	int l = listener(0), c = tcp(0);
	char b;
	DO(go(c, 0));
	int s = (int)DO(accept(l, NULL, NULL));
	DO(unspec(c));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
	DO(go(c, 0));
	int s2 = (int)DO(accept(l, NULL, NULL));
	DO(send(s2, "y", 1, 0));
	DO(recv(c, &b, 1, 0));
	await(s, POLLIN);
	DO(recv(s, &b, 1, 0));
}

BEHAVIOUR(connect_unspec_keeps_options)
{
	int c, s;
	pair(&c, &s);
	TRY_OPTION(c, SOL_SOCKET, SO_KEEPALIVE, 1);
	TRY_OPTION(c, IPPROTO_TCP, TCP_NODELAY, 1);
	DO(unspec(c));
	SAY_OPTION(c, SOL_SOCKET, SO_KEEPALIVE);
	SAY_OPTION(c, IPPROTO_TCP, TCP_NODELAY);
}

BEHAVIOUR_ALONE(connect_unspec_fresh)
{
	int c = tcp(0);
	DO(unspec(c));
	DO(unspec(c));
}

BEHAVIOUR_ALONE(connect_unspec_listener)
{
	int l = listener(0);
	DO(unspec(l));
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
	DO(accept(l, NULL, NULL));
	DO(listen(l, 4));
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
}

BEHAVIOUR_ALONE(connect_listener)
{
	int l = listener(0);
	DO(go(l, 1));
	SAY_OPTION(l, SOL_SOCKET, SO_ACCEPTCONN);
}

BEHAVIOUR_ALONE(connect_bad_arguments)
{
	struct sockaddr_in a = where(0);
	int c = tcp(0);
	DO(connect(c, (struct sockaddr *)&a, 2));
	DO(connect(c, (struct sockaddr *)&a, sizeof(a) - 1));
	DO(connect(c, (struct sockaddr *)&a, 0));
	DO(connect(c, (struct sockaddr *)&a, (socklen_t)-1));
	DO(connect(c, NULL, sizeof(a)));
	DO(connect(c, bad_address, sizeof(a)));
	DO(connect(-1, (struct sockaddr *)&a, sizeof(a)));
	DO(connect(999, (struct sockaddr *)&a, sizeof(a)));
	DO(connect(1, (struct sockaddr *)&a, sizeof(a)));
	a.sin_family = AF_INET6;
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	a.sin_family = AF_UNIX;
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR(connect_bad_arguments_connected)
{
	struct sockaddr_in a = where(0);
	int c, s;
	pair(&c, &s);
	DO(connect(c, NULL, sizeof(a)));
	DO(connect(c, bad_address, sizeof(a)));
	DO(connect(c, (struct sockaddr *)&a, 1));
	DO(connect(c, (struct sockaddr *)&a, 2));
	DO(connect(c, (struct sockaddr *)&a, (socklen_t)-1));
	a.sin_family = AF_UNIX;
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	a.sin_family = AF_INET6;
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR(connect_long_address)
{
	struct sockaddr_storage ss;
	struct sockaddr_in a = where(0);
	int l = listener(0), c = tcp(0);
	memset(&ss, 0, sizeof(ss));
	memcpy(&ss, &a, sizeof(a));
	DO(connect(c, (struct sockaddr *)&ss, sizeof(ss)));
	DO(accept(l, NULL, NULL));
}

/* A bound socket connects: its address before, after, and as the server sees it. */
static void go_bound(int l, int c)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	say_addr("bound", (struct sockaddr *)&ss, len);
	DO(go(c, 0));
	len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	say_addr("connected", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(accept(l, (struct sockaddr *)&ss, &len));
	say_addr("client", (struct sockaddr *)&ss, len);
}

BEHAVIOUR(connect_bound)
{
	int l = listener(0), c = tcp(0);
	struct sockaddr_in a = where(1);
	DO(bind(c, (struct sockaddr *)&a, sizeof(a)));
	go_bound(l, c);
}

BEHAVIOUR(connect_bound_keeps_its_port)
{
	struct sockaddr_in from = where(1);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char b[4];
	int l = listener(0), c = tcp(0), other = tcp(0), s;
	DO(bind(c, (struct sockaddr *)&from, sizeof(from)));
	DO(go(c, 0));
	s = accept(l, NULL, NULL);
	DO(bind(other, (struct sockaddr *)&from, sizeof(from)));
	DO(unspec(c));
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	say_addr("left", (struct sockaddr *)&ss, len);
	DO(bind(other, (struct sockaddr *)&from, sizeof(from)));
	close(s);
	DO(go(c, 0));
	s = accept(l, NULL, NULL);
	DO(bind(other, (struct sockaddr *)&from, sizeof(from)));
	/* Who ends last keeps nothing. */
	DO(close(s));
	DO(recv(c, b, sizeof(b), 0));
	DO(close(c));
	DO(bind(other, (struct sockaddr *)&from, sizeof(from)));
}

BEHAVIOUR(connect_bound_to_address_alone)
{
	/* Without a port, and with one that bind() chose. */
	for (int late = 1; late >= 0; late--) {
		int l = listener(0), c = tcp(0);
		struct sockaddr_in a = where(0);
		a.sin_addr.s_addr = htonl(0x7f000002);
		a.sin_port = 0;
		setsockopt(c, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof(late));
		DO(bind(c, (struct sockaddr *)&a, sizeof(a)));
		go_bound(l, c);
		close(c);
		close(l);
	}
}

BEHAVIOUR(connect_bound_to_port_alone)
{
	for (int i = 0; i < 2; i++) {
		int l = i ? listener6(0, "::", 0) : listener(0);
		int c = i ? socket(AF_INET6, SOCK_STREAM, 0) : tcp(0);
		struct sockaddr_in any = {.sin_family = AF_INET};
		struct sockaddr_in6 any6 = {.sin6_family = AF_INET6};
		struct sockaddr_in6 to6 = where6(0);
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		if (i) {
			DO(bind(c, (struct sockaddr *)&any6, sizeof(any6)));
			DO(connect(c, (struct sockaddr *)&to6, sizeof(to6)));
		} else {
			DO(bind(c, (struct sockaddr *)&any, sizeof(any)));
			DO(go(c, 0));
		}
		DO(getsockname(c, (struct sockaddr *)&ss, &len));
		((struct sockaddr_in *)&ss)->sin_port = 0;
		say_addr("connected", (struct sockaddr *)&ss, len);
		len = sizeof(ss);
		DO(accept(l, (struct sockaddr *)&ss, &len));
		((struct sockaddr_in *)&ss)->sin_port = 0;
		say_addr("client", (struct sockaddr *)&ss, len);
		close(l);
		close(c);
	}
}

BEHAVIOUR(connect_from_accepted)
{
	int c, s;
	pair(&c, &s);
	DO(go(s, 0));
	DO(listen(s, 3));
	DO(accept(s, NULL, NULL));
	struct sockaddr_in a = where(1);
	DO(bind(s, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR(connect_after_peer_closed)
{
	int c, s;
	pair(&c, &s);
	close(s);
	await(c, POLLIN);
	DO(go(c, 0));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	say_addr("peer", (struct sockaddr *)&ss, len);
}

BEHAVIOUR(connect_after_reset)
{
	int c, s;
	char b;
	struct linger hard = {1, 0};
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)));
	close(s);
	await(c, POLLHUP);
	DO(recv(c, &b, 1, 0));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	DO(go(c, 0));
}

BEHAVIOUR(connect_before_accept_data)
{
	int l = listener(0), c = tcp(0);
	char b[16];
	DO(go(c, 0));
	DO(send(c, "early", 5, 0));
	DO(shutdown(c, SHUT_WR));
	int s = (int)DO(accept(l, NULL, NULL));
	await_bytes(s, 5);
	DO(recv(s, b, sizeof(b), 0));
	DO(recv(s, b, sizeof(b), 0));
}

BEHAVIOUR(connect_closed_before_accept)
{
	int l = listener(0), c = tcp(0);
	char b[16];
	DO(go(c, 0));
	DO(send(c, "early", 5, 0));
	DO(close(c));
	int s = (int)DO(accept(l, NULL, NULL));
	DO(recv(s, b, sizeof(b), 0));
	DO(recv(s, b, sizeof(b), 0));
}

BEHAVIOUR(connect_reset_before_accept)
{
	int l = listener(0), c = tcp(0);
	char b[16];
	struct linger hard = {1, 0};
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(go(c, 0));
	DO(setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)));
	DO(close(c));
	int s = (int)DO(accept(l, (struct sockaddr *)&ss, &len));
	await(s, POLLHUP);
	DO(recv(s, b, sizeof(b), 0));
}

BEHAVIOUR(connect_listener_closed_unaccepted)
{
	int l = listener(0), c = tcp(0);
	char b;
	DO(go(c, 0));
	DO(close(l));
	await(c, POLLIN);
	say_mask("client", c);
	DO(recv(c, &b, 1, 0));
	DO(recv(c, &b, 1, 0));
}

BEHAVIOUR(connect_interrupted_is_not)
{
	int l = listener(0), c = tcp(0);
	count_signal(SIGALRM, 0);
	DO(go(c, 0));
	DO(accept(l, NULL, NULL));
}

BEHAVIOUR(connect_any_address)
{
	int l = listener(0), c = tcp(0);
	struct sockaddr_in a = where(0);
	struct sockaddr_in any = a;
	(void)a;
	any.sin_addr.s_addr = htonl(INADDR_ANY);
	DO(connect(c, (struct sockaddr *)&any, sizeof(any)));
	int s = (int)DO(accept(l, NULL, NULL));
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	say_addr("peer", (struct sockaddr *)&ss, len);
	DO(send(c, "x", 1, 0));
	char b;
	DO(recv(s, &b, 1, 0));
}

BEHAVIOUR(connect_v6)
{
	int c, s;
	char b[4];
	pair6(&c, &s);
	DO(send(c, "six", 3, 0));
	DO(recv(s, b, 3, MSG_WAITALL));
	SAY_OPTION(c, SOL_SOCKET, SO_DOMAIN);
	SAY_OPTION(s, SOL_SOCKET, SO_DOMAIN);
}

BEHAVIOUR(connect_v4_mapped)
{
	int l = listener(0);
	int c = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = where6(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	say_addr("peer", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	say_addr("local", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(accept(l, (struct sockaddr *)&ss, &len));
	say_addr("accepted", (struct sockaddr *)&ss, len);
}

BEHAVIOUR_ALONE(connect_v4_mapped_v6only)
{
	int c = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = where6(0);
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
	TRY_OPTION(c, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR(connect_dual_stack)
{
	int l = listener6(0, "::", 0), c = tcp(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(go(c, 0));
	int s = (int)DO(accept(l, (struct sockaddr *)&ss, &len));
	say_addr("accepted", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(getsockname(s, (struct sockaddr *)&ss, &len));
	say_addr("server's name", (struct sockaddr *)&ss, len);
	SAY_OPTION(s, SOL_SOCKET, SO_DOMAIN);
	SAY_OPTION(s, IPPROTO_IPV6, IPV6_V6ONLY);
}

/* Every address of v4, of a socket of v6. */
BEHAVIOUR(connect_v4_mapped_wildcard)
{
	int l = listener6(0, "::ffff:0.0.0.0", 0), c = tcp(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(go(c, 0));
	int s = (int)DO(accept(l, (struct sockaddr *)&ss, &len));
	say_addr("accepted", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(getsockname(s, (struct sockaddr *)&ss, &len));
	say_addr("server's name", (struct sockaddr *)&ss, len);
}

BEHAVIOUR_ALONE(connect_v6only_listener_refuses_v4)
{
	listener6(0, "::", 1);
	int c = tcp(0);
	DO(go(c, 0));
}

BEHAVIOUR_ALONE(connect_v4_socket_to_v6)
{
	listener6(0, "::1", 1);
	int c = tcp(0);
	struct sockaddr_in6 a = where6(0);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
}

BEHAVIOUR_ALONE(connect_v6_socket_to_v4)
{
	listener(0);
	int c = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in a = where(0);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
}

/* Nobody else is there, and it meets itself. */
static void to_itself(int family)
{
	struct sockaddr_in a4 = where(0);
	struct sockaddr_in6 a6 = where6(0);
	struct sockaddr *a = family == AF_INET ? (struct sockaddr *)&a4 : (struct sockaddr *)&a6;
	socklen_t len = family == AF_INET ? sizeof(a4) : sizeof(a6);
	char b[4];
	int one = 1;
	int c = socket(family, SOCK_STREAM, 0);
	setsockopt(c, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	DO(bind(c, a, len));
	DO(connect(c, a, len));
	DO(send(c, "self", 4, 0));
	DO(recv(c, b, 4, 0));
	say_bytes("came back", b, 4);
	/* The port is another behaviour's next, and is not to be kept for a minute. */
	setsockopt(c, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
}

BEHAVIOUR_ALONE(connect_to_itself)
{
	to_itself(AF_INET);
}

BEHAVIOUR_ALONE(connect_to_itself_v6)
{
	to_itself(AF_INET6);
}

/* A port that the kernel chose is nobody's after a connection that came to nothing. */
BEHAVIOUR_ALONE(connect_refused_leaves_the_port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = where(0).sin_addr};
	socklen_t len = sizeof(any);
	int c = tcp(0), next = tcp(0);
	DO(bind(c, (struct sockaddr *)&any, sizeof(any)));
	getsockname(c, (struct sockaddr *)&any, &len);
	DO(go(c, 0));
	DO(bind(next, (struct sockaddr *)&any, sizeof(any)));
	DO(go(c, 0));
	SAY_OPTION(c, SOL_SOCKET, SO_ERROR);
}

BEHAVIOUR(connect_dup_connects_both)
{
	int l = listener(0), c = tcp(0), d = dup(c);
	char b;
	DO(go(c, 0));
	int s = (int)DO(accept(l, NULL, NULL));
	DO(send(d, "d", 1, 0));
	DO(recv(s, &b, 1, 0));
	DO(close(c));
	DO(send(s, "e", 1, 0));
	DO(recv(d, &b, 1, 0));
	say_bytes("through the copy", &b, 1);
}

/* --- a server of the same process, which uses the client's descriptor as soon as it has accepted --- */

struct both {
	int l, c;
};

static void *accept_and_use(void *arg)
{
	const struct both *b = arg;
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	int s = accept(b->l, NULL, NULL);
	struct pollfd p = {.fd = b->c, .events = POLLIN | POLLOUT};
	bool right = s >= 0 && poll(&p, 1, 0) == 1 && p.revents == POLLOUT &&
		     getpeername(b->c, (struct sockaddr *)&a, &len) == 0;
	int copy = dup(b->c);
	close(s);
	right = right && recv(copy, &len, 1, 0) == 0;
	close(copy);
	return right ? arg : NULL;
}

BEHAVIOUR(connect_seen_by_other_thread)
{
	int l = listener(0);
	int right = 0;
	for (int i = 0; i < 100; i++) {
		struct both b = {l, tcp(0)};
		void *result = NULL;
		pthread_t t;
		pthread_create(&t, NULL, accept_and_use, &b);
		if (go(b.c, 0) != 0)
			say("connect: %s", error_name(errno));
		pthread_join(t, &result);
		right += result != NULL;
		close(b.c);
	}
	say("right %d", right);
}

/* --- a server that resets what it accepts, at once --- */

#define RESETS 200

static void accept_and_reset(void *arg)
{
	const struct linger hard = {1, 0};
	int l = *(int *)arg;
	for (int i = 0; i < RESETS; i++) {
		int s = accept(l, NULL, NULL);
		setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(s);
	}
}

/* However early it comes, connect() was over before, but for one that slept and had not run since: rare, with the kernel too. */
BEHAVIOUR(connect_then_reset_at_once)
{
	int l = listener(0), connected = 0, told = 0;
	pid_t pid = child(accept_and_reset, &l);
	for (int i = 0; i < RESETS; i++) {
		int c = tcp(0);
		char b;
		connected += go(c, 0) == 0;
		told += recv(c, &b, 1, 0) < 0 && errno == ECONNRESET;
		close(c);
	}
	say("most are connected: %s; those are told by recv(): %s",
	    connected > RESETS / 2 ? "yes" : "no", told == connected ? "yes" : "no");
	reap(pid);
}

BEHAVIOUR(connect_unspec_watched)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event in = {.events = EPOLLIN, .data.fd = 1}, got = {0};
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, c, &in));
	DO(epoll_wait(e, &got, 1, 0));
	DO(unspec(c));
	DO(epoll_wait(e, &got, 1, 0));
	say("%#x", got.events);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, c, &in));
	DO(epoll_ctl(e, EPOLL_CTL_MOD, c, &in));
	DO(epoll_ctl(e, EPOLL_CTL_DEL, c, NULL));
	DO(epoll_wait(e, &got, 1, 0));
}
