/* A TCP port that flatd itself listens on, as the command line gives it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"
#include "offload/handover.h"

/* "127.0.0.1:15020", "[::1]:15020". */
static int parse(const char *text, struct flat_addr *addr)
{
	char host[64];
	char *end;
	struct flat_ip ip;
	const char *colon = strrchr(text, ':');
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return -EINVAL;
	size_t len = (size_t)(colon - text);
	bool v6 = len > 2 && text[0] == '[' && text[len - 1] == ']';
	memcpy(host, text + v6, len - (v6 ? 2 : 0));
	host[len - (v6 ? 2 : 0)] = 0;
	unsigned long port = strtoul(colon + 1, &end, 10);
	/* Without brackets "::1:80" would be an address as well. strtoul() takes blanks and signs. */
	if (v6 != (strchr(host, ':') != NULL) || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	if (flat_ip_parse(host, &ip) != 0 || *end || port > 65535)
		return -EINVAL;
	*addr = flat_ip_addr(&ip, (uint16_t)port);
	return 0;
}

int flat_port_listen(const struct flat_offload *o, const struct flat_addr *addr, bool dual,
		     int backlog)
{
	struct sockaddr_storage ss;
	int on = 1;
	int off = 0;
	int given = flat_handover_port(o->handover, addr, SOCK_STREAM);
	if (given >= 0)
		return given;
	socklen_t len = flat_addr_to_sockaddr(addr, &ss);
	int fd = flat_sys_socket(addr->family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return fd;
	(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (dual && addr->family == AF_INET6)
		(void)flat_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	int err = (int)FLAT_SYS3(SYS_bind, fd, &ss, len);
	if (err == 0)
		err = (int)FLAT_SYS2(SYS_listen, fd, backlog);
	if (err == 0)
		return fd;
	close(fd);
	return err;
}

int flat_port_open(const struct flat_offload *o, const char *text, int backlog)
{
	struct flat_addr addr;
	int err = parse(text, &addr);
	return err != 0 ? err : flat_port_listen(o, &addr, false, backlog);
}
