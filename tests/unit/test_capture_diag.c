#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload/capture_diag.h"

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

struct seek {
	uint64_t cookie;
	struct flat_diag_socket s;
	int n;
};

static void note(void *ctx, const struct flat_diag_socket *s)
{
	struct seek *seek = ctx;
	if (s->cookie != seek->cookie)
		return;
	seek->s = *s;
	seek->n++;
}

/* What is told of the socket. */
static struct seek ask(int fd)
{
	struct seek seek = {.n = 0};
	socklen_t len = sizeof(seek.cookie);
	cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &seek.cookie, &len), 0);
	cr_assert_eq(flat_diag_listeners(note, &seek), 0);
	return seek;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
	return ntohs(((struct sockaddr_in *)&ss)->sin_port);
}

Test(capture_diag, tells_of_a_socket_while_it_listens)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_expect_eq(ask(fd).n, 0);
	cr_assert_eq(listen(fd, 1), 0);
	struct seek seek = ask(fd);
	cr_assert_eq(seek.n, 1);
	cr_expect_eq(seek.s.addr.family, AF_INET);
	cr_expect_eq(seek.s.addr.port, port_of(fd));
	cr_expect_eq(memcmp(seek.s.addr.ip, &a.sin_addr, 4), 0);
	cr_expect_eq(seek.s.uid, getuid());
	cr_expect_eq(seek.s.device, 0);
	cr_assert_eq(shutdown(fd, SHUT_RD), 0);
	cr_expect_eq(ask(fd).n, 0);
	close(fd);
}

Test(capture_diag, tells_whether_an_address_of_ipv6_is_that_of_ipv4_too)
{
	for (int only = 0; only < 2; only++) {
		int fd = socket(AF_INET6, SOCK_STREAM, 0);
		struct sockaddr_in6 a = {.sin6_family = AF_INET6};
		if (fd < 0)
			cr_skip_test("no IPv6");
		cr_assert_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)), 0);
		cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
		cr_assert_eq(listen(fd, 1), 0);
		struct seek seek = ask(fd);
		cr_assert_eq(seek.n, 1);
		cr_expect_eq(seek.s.addr.family, AF_INET6);
		cr_expect_eq(seek.s.v6only, only != 0);
		close(fd);
	}
}
