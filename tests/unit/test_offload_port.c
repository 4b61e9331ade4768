/* Ports that the command line names, for flatd itself to listen on. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload/handover.h"

static struct flat_offload half;

Test(port, an_address_and_a_port_are_listened_on)
{
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	int on = 0;
	int fd = flat_port_open(&half, "127.0.0.1:0", 8);

	cr_assert_geq(fd, 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	cr_expect_eq(at.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	cr_expect_neq(at.sin_port, 0);
	len = sizeof(on);
	cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len), 0);
	cr_expect_eq(on, 1);
	char text[32];

	/* It is taken now. */
	snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(at.sin_port));
	cr_expect_eq(flat_port_open(&half, text, 8), -EADDRINUSE);
	close(fd);
}

Test(port, an_address_of_ipv6_stands_in_brackets)
{
	struct sockaddr_in6 at;
	socklen_t len = sizeof(at);
	int fd = flat_port_open(&half, "[::1]:0", 8);

	if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT)
		cr_skip_test("no IPv6");
	cr_assert_geq(fd, 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	cr_expect(IN6_IS_ADDR_LOOPBACK(&at.sin6_addr));
	close(fd);
}

Test(port, what_is_none_is_refused)
{
	static const char *const bad[] = {
	    "",
	    "127.0.0.1",
	    "127.0.0.1:",
	    ":80",
	    "127.0.0.1:65536",
	    "127.0.0.1:-1",
	    "127.0.0.1:+80",
	    "127.0.0.1: 80",
	    "127.0.0.1:80x",
	    "localhost:80",
	    "[::1]",
	    "[::1]80",
	    "[]:80",
	    "[::1:80",
	    "[127.0.0.1]:80",
	    "::1:80",
	    "127.0.0.1:99999999999999999999",
	    "0000000000000000000000000000000000000000000000000000000000000000000000:80",
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		int fd = flat_port_open(&half, bad[i], 1);

		cr_expect_eq(fd, -EINVAL, "%s: %d", bad[i], fd);
		if (fd >= 0)
			close(fd);
	}
}
