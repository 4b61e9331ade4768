/*
 * Every option number of SOL_SOCKET, TCP, IP and IPv6, known or not, with lengths that fit and that do not, in each state of a
 * socket: what getsockopt() and setsockopt() say, and the length that comes back. A value that is of this machine, or of what
 * happened to a connection's segments, is not written.
 */
#include "parity.h"

#define NAMES 82

/* linux/in.h, which does not go with libc's. Of a stream it gives the port. */
#ifndef IP_PROTOCOL
#define IP_PROTOCOL 52
#endif

static const struct level {
	const char *name;
	int level;
} levels[] = {
    {"socket", SOL_SOCKET}, {"tcp", IPPROTO_TCP}, {"ip", IPPROTO_IP}, {"ipv6", IPPROTO_IPV6}};

struct place {
	int level;
	int name;
};

static bool among(const struct place *list, size_t n, int level, int name)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].level == level && list[i].name == name)
			return true;
	return false;
}

static bool is_noise(int level, int name)
{
	static const struct place list[] = {
	    {SOL_SOCKET, SO_SNDBUF},	   {SOL_SOCKET, SO_RCVBUF},
	    {SOL_SOCKET, SO_PEERNAME},	   {SOL_SOCKET, SO_COOKIE},
	    {SOL_SOCKET, SO_MEMINFO},	   {SOL_SOCKET, SO_INCOMING_CPU},
	    {IPPROTO_TCP, TCP_MAXSEG},	   {IPPROTO_TCP, TCP_WINDOW_CLAMP},
	    {IPPROTO_TCP, TCP_INFO},	   {IPPROTO_TCP, TCP_TIMESTAMP},
	    {IPPROTO_TCP, TCP_CC_INFO},	   {IPPROTO_TCP, TCP_QUICKACK},
	    {SOL_SOCKET, SO_NETNS_COOKIE},
	};
	return among(list, sizeof(list) / sizeof(*list), level, name);
}

/* What differs and is of no use to a connection: its port by another name, who maps its pages, a key of a listener's. */
static bool is_left_out(int level, int name)
{
	static const struct place list[] = {{IPPROTO_IP, IP_PROTOCOL},
					    {IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE},
					    {IPPROTO_TCP, TCP_FASTOPEN_KEY}};
	return among(list, sizeof(list) / sizeof(*list), level, name);
}

/* One call's result, after what is in `text`. */
static void ask(char text[900], int fd, int level, int name, void *value, socklen_t *len)
{
	size_t at = strlen(text);
	errno = 0;
	int err = getsockopt(fd, level, name, value, len);
	at += (size_t)snprintf(text + at, 900 - at, "; %s", err ? error_name(errno) : "0");
	if (len)
		at += (size_t)snprintf(text + at, 900 - at, " len %d", (int)*len);
	if (err || !value || is_noise(level, name))
		return;
	for (socklen_t i = 0; len && i < *len && i < 40; i++)
		at += (size_t)snprintf(text + at, 900 - at, "%s%02x", i ? "" : " ",
				       ((unsigned char *)value)[i]);
}

static void say_get(const struct level *l, int fd, int name)
{
	static const int lengths[] = {200, 8, 4, 3, 1, 0, -1};
	char text[900] = "";
	unsigned char value[256];
	socklen_t len;
	if (is_left_out(l->level, name))
		return;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		memset(value, 0, sizeof(value));
		len = (socklen_t)lengths[i];
		ask(text, fd, l->level, name, value, &len);
	}
	len = 4;
	ask(text, fd, l->level, name, NULL, &len);
	ask(text, fd, l->level, name, bad_address, &len);
	ask(text, fd, l->level, name, value, NULL);
	say("%s %d%s", l->name, name, text);
}

static void all_of(int fd)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		for (int name = -1; name < NAMES; name++)
			say_get(&levels[i], fd, name);
}

BEHAVIOUR_ALONE(option_table_new)
{
	all_of(tcp(0));
}

BEHAVIOUR_ALONE(option_table_bound)
{
	struct sockaddr_in a = where(0);
	int c = tcp(0);
	DO(bind(c, (struct sockaddr *)&a, sizeof(a)));
	all_of(c);
}

BEHAVIOUR_ALONE(option_table_listener)
{
	all_of(listener(0));
}

BEHAVIOUR_ALONE(option_table_listener_v6)
{
	all_of(listener6(0, "::", 0));
}

BEHAVIOUR_ALONE(option_table_refused)
{
	struct sockaddr_in a = where(0);
	int c = tcp(0);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	all_of(c);
}

BEHAVIOUR_ALONE(option_table_refused_and_not_told)
{
	struct sockaddr_in a = where(0);
	int c = tcp(SOCK_NONBLOCK);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	await(c, POLLHUP);
	all_of(c);
}

BEHAVIOUR(option_table_client)
{
	int c, s;
	pair(&c, &s);
	all_of(c);
}

BEHAVIOUR(option_table_server)
{
	int c, s;
	pair(&c, &s);
	all_of(s);
}

BEHAVIOUR(option_table_client_v6)
{
	int c, s;
	pair6(&c, &s);
	all_of(c);
}

BEHAVIOUR(option_table_server_v6)
{
	int c, s;
	pair6(&c, &s);
	all_of(s);
}

BEHAVIOUR(option_table_peer_closed)
{
	int c, s;
	pair(&c, &s);
	close(s);
	await_state(c, TCP_CLOSE_WAIT);
	all_of(c);
}

BEHAVIOUR(option_table_ended)
{
	int c, s;
	pair(&c, &s);
	shutdown(c, SHUT_WR);
	await(s, POLLRDHUP);
	close(s);
	await_state(c, TCP_CLOSE);
	all_of(c);
}

BEHAVIOUR(option_table_reset)
{
	int c, s;
	struct linger hard = {1, 0};
	pair(&c, &s);
	setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(s);
	await(c, POLLHUP);
	all_of(c);
}

BEHAVIOUR(option_table_disconnected)
{
	int c, s;
	struct sockaddr none = {.sa_family = AF_UNSPEC};
	pair(&c, &s);
	DO(connect(c, &none, sizeof(none)));
	all_of(c);
}

/* --- setsockopt() --- */

static void try(char text[900], int fd, int level, int name, const void *value, socklen_t len)
{
	size_t at = strlen(text);
	errno = 0;
	int err = setsockopt(fd, level, name, value, len);
	snprintf(text + at, 900 - at, "; %s", err ? error_name(errno) : "0");
}

static void say_set(const struct level *l, int fd, int name)
{
	char text[900] = "";
	int value[8] = {1};
	unsigned char was[64] = {0};
	socklen_t len = sizeof(was);
	if (is_left_out(l->level, name))
		return;
	try(text, fd, l->level, name, NULL, 4);
	try(text, fd, l->level, name, NULL, 0);
	try(text, fd, l->level, name, bad_address, 4);
	try(text, fd, l->level, name, value, 0);
	try(text, fd, l->level, name, value, (socklen_t)-1);
	try(text, fd, l->level, name, value, 3);
	try(text, fd, l->level, name, value, 1);
	try(text, fd, l->level, name, value, 4);
	ask(text, fd, l->level, name, was, &len);
	try(text, fd, l->level, name, value, 8);
	try(text, fd, l->level, name, value, 32);
	value[0] = 0;
	try(text, fd, l->level, name, value, 4);
	len = sizeof(was);
	ask(text, fd, l->level, name, was, &len);
	say("%s %d%s", l->name, name, text);
}

static void set_client(const struct level *l)
{
	int lfd = listener(0);
	for (int name = -1; name < NAMES; name++) {
		int c = reach(0), s = accept(lfd, NULL, NULL);
		say_set(l, c, name);
		close(s);
		close(c);
	}
}

BEHAVIOUR(option_table_set_socket)
{
	set_client(&levels[0]);
}

BEHAVIOUR(option_table_set_tcp)
{
	set_client(&levels[1]);
}

BEHAVIOUR(option_table_set_ip)
{
	set_client(&levels[2]);
}

BEHAVIOUR(option_table_set_ipv6)
{
	struct sockaddr_in6 a = where6(0);
	int lfd = listener6(0, "::1", 1);
	for (int name = -1; name < NAMES; name++) {
		int c = socket(AF_INET6, SOCK_STREAM, 0);
		if (connect(c, (struct sockaddr *)&a, sizeof(a)) != 0)
			say("connect: %s", error_name(errno));
		int s = accept(lfd, NULL, NULL);
		say_set(&levels[3], c, name);
		close(s);
		close(c);
	}
}

static void set_listener(const struct level *l, bool v6)
{
	for (int name = -1; name < NAMES; name++) {
		int fd = v6 ? listener6(0, "::1", 1) : listener(0);
		say_set(l, fd, name);
		close(fd);
	}
}

BEHAVIOUR_ALONE(option_table_set_listener)
{
	set_listener(&levels[0], false);
	set_listener(&levels[1], false);
}

BEHAVIOUR_ALONE(option_table_set_listener_ip)
{
	set_listener(&levels[2], false);
	set_listener(&levels[3], true);
}
