#include "support_peers.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "wire/ca.h"

struct flat_offload peers_half;
struct wire_folder peers_folder;
struct flat_svids *peers_svids;
int peers_listening;
struct sockaddr_in peers_at;

void peers_setup(void)
{
	struct rlimit fds;
	socklen_t len = sizeof(peers_at);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &fds), 0);
	fds.rlim_cur = fds.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &fds), 0);
	wire_folder_init(&peers_folder, "d");
	peers_svids = wire_load(&peers_folder);
	TAILQ_INIT(&peers_half.listeners);
	TAILQ_INIT(&peers_half.conns);
	cr_assert_eq(flat_loop_init(&peers_half.loop), 0);
	peers_half.svids = peers_folder.svids;
	cr_assert_eq(flat_peers_open(&peers_half), 0);
	peers_at.sin_family = AF_INET;
	peers_at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	peers_listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(peers_listening, (struct sockaddr *)&peers_at, sizeof(peers_at)), 0);
	cr_assert_eq(listen(peers_listening, 64), 0);
	cr_assert_eq(getsockname(peers_listening, (struct sockaddr *)&peers_at, &len), 0);
}

void peers_teardown(void)
{
	flat_peers_close(&peers_half);
	flat_loop_fini(&peers_half.loop);
	flat_svids_put(peers_svids);
	wire_folder_fini(&peers_folder);
	close(peers_listening);
}

int peers_come_from(uint32_t host)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(0x7f000000 | host)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&peers_at, sizeof(peers_at)), 0);
	int far = accept4(peers_listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert_geq(far, 0);
	flat_peer_accept(peers_half.peers, far, false);
	return fd;
}

void peers_turn(void)
{
	(void)flat_loop_turn(&peers_half.loop, 0);
	(void)flat_peers_turn(&peers_half);
}

void peers_pump(struct peers_client *c)
{
	uint8_t buf[65536];
	const uint8_t *bytes;
	size_t len;
	ssize_t n;
	(void)flat_wire_link_flush(c->link);
	while ((len = flat_wire_link_output(c->link, &bytes)) > 0) {
		n = send(c->fd, bytes, len, MSG_NOSIGNAL);
		flat_wire_link_sent(c->link, n > 0 ? (size_t)n : len);
	}
	peers_turn();
	n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		c->over |= flat_wire_link_input(c->link, buf, (size_t)n) != 0;
	c->over |= n == 0 || (n < 0 && errno != EAGAIN);
}

struct peers_client peers_greet(const char *who, uint32_t host)
{
	struct peers_client c = {.fd = peers_come_from(host)};
	c.link = flat_wire_link_new(peers_svids, flat_svids_find(peers_svids, who), false,
				    &pair_ops, &pair.client);
	cr_assert_not_null(c.link);
	for (int i = 0; i < 10000 && !c.link->greeted && !c.over; i++)
		peers_pump(&c);
	/* The server's side has read the greeting when it has nothing more to read. */
	for (int i = 0; i < 10; i++)
		peers_pump(&c);
	return c;
}

void peers_leave(struct peers_client *c)
{
	flat_wire_link_free(c->link, ECONNRESET);
	close(c->fd);
}

void peers_say(struct peers_client *c)
{
	const uint8_t *bytes;
	size_t len;
	while ((len = flat_wire_link_output(c->link, &bytes)) > 0) {
		ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
		cr_assert_gt(n, 0);
		flat_wire_link_sent(c->link, (size_t)n);
	}
}

size_t peers_answered(const int *fds, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		struct pollfd p = {.fd = fds[i], .events = POLLIN};
		count += poll(&p, 1, 0) > 0;
	}
	return count;
}

void peers_ask_many(struct peers_client *c, size_t n, struct wire_end *e)
{
	static const struct flat_addr to = {.family = AF_INET, .ip = {10, 0, 0, 2}, .port = 80};
	memset(e, 0, sizeof(*e));
	for (size_t i = 0; i < n; i++) {
		e->stream = flat_wire_open(c->link, &to, &to, e);
		cr_assert_not_null(e->stream);
	}
}

const struct flat_wire_link *peers_server_side(const struct peers_client *c)
{
	const struct flat_peer *p;
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	cr_assert_eq(getsockname(c->fd, (struct sockaddr *)&in, &len), 0);
	TAILQ_FOREACH(p, &peers_half.peers->list, link_)
	{
		if (p->addr.port == ntohs(in.sin_port) && memcmp(p->addr.ip, &in.sin_addr, 4) == 0)
			return p->link;
	}
	return NULL;
}

void peers_revoke_client(int64_t list_lives_s)
{
	char cert[300];
	char why[300];
	snprintf(cert, sizeof(cert), "%s/a.client.crt", peers_folder.svids);
	cr_assert_eq(flat_ca_revoke(peers_folder.ca, peers_folder.svids, cert, list_lives_s, why,
				    sizeof(why)),
		     0, "%s", why);
	flat_peers_reload(&peers_half);
}
