/*
 * An end that was shut both ways and is still held: what is there may be read, and bytes that come then are answered by a reset
 * (net/ipv4/tcp_input.c, tcp_rcv_state_process()). Shut for reading alone it goes on receiving.
 */
#include "parity.h"

static void say_both(int c, int s)
{
	say_mask("client", c);
	say_mask("server", s);
}

static void say_error(const char *who, int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	DO(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len));
	say("%s: %s", who, error ? error_name(error) : "none");
}

static void say_state(const char *who, int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	say("%s: state %d", who, info.tcpi_state);
}

static void both_ways(int how, int then)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(s, how));
	if (then >= 0)
		DO(shutdown(s, then));
	await(c, POLLRDHUP);
	say_both(c, s);
	say_state("client", c);
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	await(s, POLLERR);
	await(c, POLLERR);
	say_both(c, s);
	say_state("client", c);
	say_state("server", s);
}

BEHAVIOUR(shut_both_then_data)
{
	both_ways(SHUT_RDWR, -1);
}

BEHAVIOUR(shut_read_then_write_then_data)
{
	both_ways(SHUT_RD, SHUT_WR);
}

BEHAVIOUR(shut_write_then_read_then_data)
{
	both_ways(SHUT_WR, SHUT_RD);
}

static void ends(int *c, int *s)
{
	pair(c, s);
	DO(shutdown(*s, SHUT_RDWR));
	await(*c, POLLRDHUP);
	DO(send(*c, "one", 3, MSG_NOSIGNAL));
	await(*s, POLLERR);
	await(*c, POLLERR);
}

BEHAVIOUR(shut_both_then_data_errors)
{
	int c, s;
	ends(&c, &s);
	say_error("client", c);
	say_error("client", c);
	say_error("server", s);
	say_error("server", s);
	say_both(c, s);
}

BEHAVIOUR(shut_both_then_data_sends)
{
	int c, s;
	ends(&c, &s);
	DO(send(c, "two", 3, MSG_NOSIGNAL));
	say_both(c, s);
	DO(send(c, "three", 5, MSG_NOSIGNAL));
	DO(send(s, "two", 3, MSG_NOSIGNAL));
	say_both(c, s);
	DO(send(s, "three", 5, MSG_NOSIGNAL));
	say_both(c, s);
}

BEHAVIOUR(shut_both_then_data_receives)
{
	int c, s;
	char bytes[8];
	ends(&c, &s);
	DO(recv(c, bytes, sizeof(bytes), 0));
	DO(recv(c, bytes, sizeof(bytes), 0));
	say_both(c, s);
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(recv(s, bytes, sizeof(bytes), 0));
	say_both(c, s);
	DO(shutdown(c, SHUT_WR));
	DO(shutdown(s, SHUT_WR));
}

BEHAVIOUR(shut_both_then_data_names)
{
	int c, s;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	ends(&c, &s);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	DO(getpeername(s, (struct sockaddr *)&ss, &len));
	DO(close(s));
	say_mask("client", c);
}

BEHAVIOUR(shut_both_with_data_there)
{
	int c, s, n = -1;
	char bytes[16];
	pair(&c, &s);
	send_all(c, "early", 5);
	await_bytes(s, 5);
	DO(shutdown(s, SHUT_RDWR));
	await(c, POLLRDHUP);
	say_both(c, s);
	DO(recv(s, bytes, 2, 0));
	DO(send(c, "late", 4, MSG_NOSIGNAL));
	await(s, POLLERR);
	await(c, POLLERR);
	DO(ioctl(s, FIONREAD, &n));
	say("there %d", n);
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(recv(s, bytes, sizeof(bytes), 0));
}

BEHAVIOUR(shut_both_after_sending)
{
	int c, s;
	char bytes[16];
	pair(&c, &s);
	send_all(s, "words", 5);
	DO(shutdown(s, SHUT_RDWR));
	await(c, POLLRDHUP);
	await_bytes(c, 5);
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	await(s, POLLERR);
	await(c, POLLERR);
	say_both(c, s);
	DO(recv(c, bytes, sizeof(bytes), 0));
	DO(recv(c, bytes, sizeof(bytes), 0));
	DO(send(c, "two", 3, MSG_NOSIGNAL));
}

BEHAVIOUR(shut_both_by_client)
{
	int c, s;
	char bytes[16];
	pair(&c, &s);
	DO(shutdown(c, SHUT_RDWR));
	await(s, POLLRDHUP);
	say_both(c, s);
	DO(send(s, "one", 3, MSG_NOSIGNAL));
	await(c, POLLERR);
	await(s, POLLERR);
	say_both(c, s);
	DO(send(s, "two", 3, MSG_NOSIGNAL));
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(recv(c, bytes, sizeof(bytes), 0));
	say_both(c, s);
}

BEHAVIOUR(shut_both_after_peer)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	DO(shutdown(s, SHUT_RDWR));
	await(c, POLLRDHUP | POLLHUP);
	say_both(c, s);
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	say_error("client", c);
	say_error("server", s);
}

BEHAVIOUR(shut_both_no_bytes)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(s, SHUT_RDWR));
	await(c, POLLRDHUP);
	DO(send(c, "", 0, MSG_NOSIGNAL));
	say_both(c, s);
	say_error("server", s);
	DO(shutdown(c, SHUT_WR));
	await_state(s, TCP_CLOSE);
	say_both(c, s);
	say_error("server", s);
	say_error("client", c);
}

BEHAVIOUR(shut_read_alone)
{
	int c, s, n = -1;
	char bytes[16];
	pair(&c, &s);
	DO(shutdown(s, SHUT_RD));
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	await_bytes(s, 3);
	DO(send(c, "two", 3, MSG_NOSIGNAL));
	await_bytes(s, 6);
	say_both(c, s);
	DO(ioctl(s, FIONREAD, &n));
	say("there %d", n);
	DO(recv(s, bytes, 4, 0));
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(send(s, "answer", 6, 0));
	await_bytes(c, 6);
	say_both(c, s);
}

static void *read_one(void *arg)
{
	char byte;
	DO(recv(*(int *)arg, &byte, 1, 0));
	return NULL;
}

/* A reader of the end that was shut sleeps not: but a poll() for its end does. */
static void *wait_for_end(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = 0};
	char text[128];
	DO(poll(&p, 1, 5000));
	say("woken: %s", poll_names((unsigned short)p.revents, text));
	return NULL;
}

BEHAVIOUR(shut_read_then_both_wakes)
{
	int c, s;
	pair(&c, &s);
	pthread_t reader = thread(read_one, &c);
	let_sleep();
	DO(shutdown(s, SHUT_RDWR));
	join(reader);
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	await(c, POLLERR);
	await(s, POLLERR);
	say_both(c, s);
}

BEHAVIOUR(shut_write_then_read_tells)
{
	int c, s;
	pair(&c, &s);
	DO(shutdown(s, SHUT_RD));
	pthread_t sleeper = thread(wait_for_end, &s);
	let_sleep();
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	await_bytes(s, 3);
	DO(shutdown(s, SHUT_WR));
	join(sleeper);
	DO(send(c, "two", 3, MSG_NOSIGNAL));
	await(s, POLLERR);
	await(c, POLLERR);
	say_both(c, s);
}

struct full {
	int fd;
	size_t sent;
};

static void *send_more(void *arg)
{
	struct full *f = arg;
	static char more[1 << 22];
	ssize_t n = send(f->fd, more, sizeof(more), MSG_NOSIGNAL);
	/* Some of it, where there was a little room. */
	say("sent: %s", n > 0 || errno == EPIPE ? "ended" : error_name(errno));
	n = send(f->fd, more, sizeof(more), MSG_NOSIGNAL);
	say("then %zd %s", n, n < 0 ? error_name(errno) : "");
	return NULL;
}

/* A sender that waits for room learns it when there is some. */
BEHAVIOUR(shut_both_with_blocked_sender)
{
	int c, s;
	struct full f;
	pair(&c, &s);
	f = (struct full){c, fill(c)};
	pthread_t sender = thread(send_more, &f);
	let_sleep();
	DO(shutdown(s, SHUT_RDWR));
	await(c, POLLRDHUP);
	let_sleep();
	say_both(c, s);
	char byte[65536];
	for (int i = 0; i < 4000 && recv(s, byte, sizeof(byte), MSG_DONTWAIT) > 0; i++)
		;
	join(sender);
	say_mask("client", c);
}

/* Before connect() it is ENOTCONN, and remembered: without a FIN, which a later shutdown() or close() sends. */
static void shut_first(int how, bool bound)
{
	struct sockaddr_in to = where(0);
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char bytes[8];
	int l = listener(0);
	int c = tcp(0);
	if (bound)
		DO(bind(c, (struct sockaddr *)&from, sizeof(from)));
	DO(shutdown(c, how));
	say_mask("before", c);
	DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	int s = accept(l, NULL, NULL);
	say_both(c, s);
	say_state("client", c);
	say_state("server", s);
	if (DO(send(c, "hello", 5, MSG_NOSIGNAL)) == 5)
		await_bytes(s, 5);
	DO(recv(s, bytes, sizeof(bytes), MSG_DONTWAIT));
	DO(send(s, "abc", 3, MSG_NOSIGNAL));
	await_bytes(c, 3);
	say_both(c, s);
	DO(recv(c, bytes, sizeof(bytes), 0));
	DO(recv(c, bytes, sizeof(bytes), MSG_DONTWAIT));
	DO(shutdown(c, SHUT_WR));
	await(s, POLLRDHUP);
	await_state(c, TCP_FIN_WAIT2);
	say_both(c, s);
	say_state("client", c);
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(close(s));
	await_state(c, TCP_CLOSE);
	say_mask("client", c);
}

BEHAVIOUR(shut_before_connect_read)
{
	shut_first(SHUT_RD, false);
}

BEHAVIOUR(shut_before_connect_write)
{
	shut_first(SHUT_WR, false);
}

BEHAVIOUR(shut_before_connect_both)
{
	shut_first(SHUT_RDWR, false);
}

BEHAVIOUR(shut_before_connect_bound)
{
	shut_first(SHUT_RDWR, true);
}

BEHAVIOUR(shut_before_connect_then_close)
{
	struct sockaddr_in to = where(0);
	char byte;
	int l = listener(0);
	int c = tcp(0);
	DO(shutdown(c, SHUT_RDWR));
	DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	int s = accept(l, NULL, NULL);
	say_mask("server", s);
	DO(close(c));
	await(s, POLLRDHUP);
	say_mask("server", s);
	DO(recv(s, &byte, 1, 0));
}

/* Two numbers of one socket. */
BEHAVIOUR(shut_before_connect_dup)
{
	struct sockaddr_in to = where(0);
	int l = listener(0);
	int c = tcp(0);
	int d = dup(c);
	DO(shutdown(d, SHUT_WR));
	DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	int s = accept(l, NULL, NULL);
	DO(send(d, "one", 3, MSG_NOSIGNAL));
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	say_both(c, s);
}

/* What came to nothing, or was connected to nobody, begins anew. */
static void shut_forgotten(bool refused, bool bound)
{
	struct sockaddr_in to = where(0);
	struct sockaddr_in from = where(1);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int c = tcp(0);
	if (bound)
		DO(bind(c, (struct sockaddr *)&from, sizeof(from)));
	DO(shutdown(c, SHUT_RDWR));
	if (refused)
		DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	else
		DO(connect(c, &none, sizeof(none)));
	say_mask("client", c);
	int l = listener(0);
	DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	int s = accept(l, NULL, NULL);
	say_both(c, s);
	DO(send(c, "one", 3, MSG_NOSIGNAL));
	await_bytes(s, 3);
}

BEHAVIOUR(shut_before_connect_refused)
{
	shut_forgotten(true, false);
}

BEHAVIOUR(shut_before_connect_refused_bound)
{
	shut_forgotten(true, true);
}

BEHAVIOUR(shut_before_connect_to_nobody)
{
	shut_forgotten(false, false);
}

/* A connection that was shut before it began ends with AF_UNSPEC, and the next one is whole. */
BEHAVIOUR(shut_before_connect_then_again)
{
	struct sockaddr_in to = where(0);
	struct sockaddr_in from = where(1);
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	int l = listener(0);
	int c = tcp(0);
	DO(bind(c, (struct sockaddr *)&from, sizeof(from)));
	DO(shutdown(c, SHUT_RDWR));
	DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	int first = accept(l, NULL, NULL);
	say_both(c, first);
	DO(connect(c, &none, sizeof(none)));
	say_mask("client", c);
	DO(connect(c, (struct sockaddr *)&to, sizeof(to)));
	int s = accept(l, NULL, NULL);
	say_both(c, s);
}

/* What a listener accepts begins as it was before listen(). */
static void shut_listener_first(int how)
{
	struct sockaddr_in at = where(0);
	char bytes[8];
	const int one = 1;
	int l = tcp(0);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	DO(shutdown(l, how));
	DO(bind(l, (struct sockaddr *)&at, sizeof(at)));
	DO(listen(l, 5));
	int c = reach(0);
	await(l, POLLIN);
	int s = (int)DO(accept(l, NULL, NULL));
	if (how != SHUT_RD)
		await(c, POLLRDHUP);
	say_both(c, s);
	if (DO(send(s, "one", 3, MSG_NOSIGNAL)) == 3)
		await_bytes(c, 3);
	DO(send(c, "two", 3, MSG_NOSIGNAL));
	if (how == SHUT_RDWR)
		await(s, POLLERR);
	else
		await_bytes(s, 3);
	DO(recv(s, bytes, sizeof(bytes), 0));
	DO(recv(s, bytes, sizeof(bytes), MSG_DONTWAIT));
}

BEHAVIOUR(shut_before_listen_read)
{
	shut_listener_first(SHUT_RD);
}

BEHAVIOUR(shut_before_listen_write)
{
	shut_listener_first(SHUT_WR);
}

BEHAVIOUR(shut_before_listen_both)
{
	shut_listener_first(SHUT_RDWR);
}
