/* getsockname(), getpeername() and names of hosts. */
#include <netdb.h>

#include "parity.h"

BEHAVIOUR(name_of_both_ends)
{
	int c, s;
	struct sockaddr_in a, b;
	socklen_t len = sizeof(a);
	pair(&c, &s);
	DO(getsockname(c, (struct sockaddr *)&a, &len));
	say_addr("c", (struct sockaddr *)&a, len);
	DO(getpeername(s, (struct sockaddr *)&b, &len));
	say_addr("s's peer", (struct sockaddr *)&b, len);
	say("the same %d", memcmp(&a, &b, sizeof(a)) == 0);
	DO(getpeername(c, (struct sockaddr *)&a, &len));
	say_addr("c's peer", (struct sockaddr *)&a, len);
	DO(getsockname(s, (struct sockaddr *)&b, &len));
	say("the same %d", memcmp(&a, &b, sizeof(a)) == 0);
}

BEHAVIOUR(name_truncated)
{
	int c, s;
	unsigned char buf[64];
	static const socklen_t lengths[] = {0, 1, 2, 5, 15, 16, 17, 64};
	pair(&c, &s);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		for (int peer = 0; peer < 2; peer++) {
			socklen_t len = lengths[i];
			memset(buf, 0xee, sizeof(buf));
			int r = peer ? getpeername(c, (struct sockaddr *)buf, &len)
				     : getsockname(c, (struct sockaddr *)buf, &len);
			say("%u: %d len %u first %x beyond %x", (unsigned)lengths[i], r,
			    (unsigned)len, buf[0], buf[lengths[i] < 63 ? lengths[i] : 63]);
		}
	}
}

BEHAVIOUR(name_bad_arguments)
{
	int c, s;
	struct sockaddr_in a;
	socklen_t len = (socklen_t)-1;
	pair(&c, &s);
	DO(getsockname(c, (struct sockaddr *)&a, &len));
	DO(getpeername(c, (struct sockaddr *)&a, &len));
	len = sizeof(a);
	DO(getsockname(c, NULL, &len));
	DO(getpeername(c, NULL, &len));
	DO(getsockname(c, (struct sockaddr *)&a, NULL));
	DO(getpeername(c, (struct sockaddr *)&a, NULL));
	DO(getsockname(c, bad_address, &len));
	DO(getsockname(-1, (struct sockaddr *)&a, &len));
	DO(getpeername(1, (struct sockaddr *)&a, &len));
}

BEHAVIOUR_ALONE(name_unconnected)
{
	int c = tcp(0);
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	say_addr("name", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
}

BEHAVIOUR(name_v6)
{
	int c, s;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	pair6(&c, &s);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	say_addr("c's peer", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
	say_addr("c", (struct sockaddr *)&ss, len);
	len = sizeof(ss);
	DO(getpeername(s, (struct sockaddr *)&ss, &len));
	say_addr("s's peer", (struct sockaddr *)&ss, len);
	len = 10;
	DO(getpeername(s, (struct sockaddr *)&ss, &len));
	say("len %u", (unsigned)len);
}

BEHAVIOUR(name_after_half_close)
{
	int c, s;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	pair(&c, &s);
	shutdown(c, SHUT_RDWR);
	DO(getpeername(c, (struct sockaddr *)&ss, &len));
	say_addr("peer", (struct sockaddr *)&ss, len);
	close(s);
	await(c, POLLHUP);
	len = sizeof(ss);
	DO(getsockname(c, (struct sockaddr *)&ss, &len));
}

BEHAVIOUR(name_zero_padding)
{
	int c, s;
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	pair(&c, &s);
	memset(&a, 0xff, sizeof(a));
	DO(getpeername(c, (struct sockaddr *)&a, &len));
	say_bytes("padding", a.sin_zero, sizeof(a.sin_zero));
}

static void say_info(const char *what, const struct addrinfo *a)
{
	int n = 0;
	for (; a; a = a->ai_next, n++) {
		char ip[64];
		getnameinfo(a->ai_addr, a->ai_addrlen, ip, sizeof(ip), NULL, 0, NI_NUMERICHOST);
		say("%s: family %d type %d protocol %d %s %s", what, a->ai_family, a->ai_socktype,
		    a->ai_protocol, ip, a->ai_canonname ? a->ai_canonname : "-");
	}
}

BEHAVIOUR_ALONE(name_getaddrinfo)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *res = NULL;
	DO(getaddrinfo("127.0.0.1", "80", &hints, &res));
	say_info("numeric", res);
	freeaddrinfo(res);
	hints.ai_flags = AI_CANONNAME;
	DO(getaddrinfo("localhost", "80", &hints, &res));
	say_info("localhost", res);
	freeaddrinfo(res);
	DO(getaddrinfo(NULL, "80", &hints, &res));
	hints.ai_flags = AI_PASSIVE;
	DO(getaddrinfo(NULL, "80", &hints, &res));
	say_info("passive", res);
	freeaddrinfo(res);
	hints.ai_flags = AI_NUMERICHOST;
	DO(getaddrinfo("localhost", NULL, &hints, &res));
	DO(getaddrinfo(NULL, NULL, &hints, &res));
	DO(getaddrinfo("127.0.0.1", "no-such-service", &hints, &res));
	hints.ai_flags = 1 << 30;
	DO(getaddrinfo("127.0.0.1", NULL, &hints, &res));
}

BEHAVIOUR_ALONE(name_getnameinfo)
{
	struct sockaddr_in a = where(0);
	char host[64], service[32];
	a.sin_port = htons(80);
	DO(getnameinfo((struct sockaddr *)&a, sizeof(a), host, sizeof(host), service,
		       sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV));
	say("%s %s", host, service);
	DO(getnameinfo((struct sockaddr *)&a, sizeof(a), host, 3, NULL, 0, NI_NUMERICHOST));
	DO(getnameinfo((struct sockaddr *)&a, 3, host, sizeof(host), NULL, 0, NI_NUMERICHOST));
	DO(getnameinfo((struct sockaddr *)&a, sizeof(a), host, sizeof(host), NULL, 0, 0));
	say("%s", host);
	DO(getnameinfo((struct sockaddr *)&a, sizeof(a), NULL, 0, NULL, 0, 0));
}

BEHAVIOUR_ALONE(name_gethostbyname)
{
	struct hostent *h = gethostbyname("localhost");
	struct in_addr first = {0};
	if (h)
		memcpy(&first, h->h_addr_list[0], sizeof(first));
	say("%s %d %d %s", h ? h->h_name : "-", h ? h->h_addrtype : -1, h ? h->h_length : -1,
	    h ? inet_ntoa(first) : "-");
	struct hostent entry, *result = NULL;
	char buf[1024], tiny[4];
	int err = -1;
	DO(gethostbyname_r("127.0.0.1", &entry, buf, sizeof(buf), &result, &err));
	say("%s", result ? result->h_name : "-");
	DO(gethostbyname_r("127.0.0.1", &entry, tiny, sizeof(tiny), &result, &err));
	struct in_addr ip = {htonl(INADDR_LOOPBACK)};
	h = gethostbyaddr(&ip, sizeof(ip), AF_INET);
	say("%s", h ? h->h_name : "-");
	h = gethostbyname2("localhost", AF_INET);
	say("%s", h ? h->h_name : "-");
}
