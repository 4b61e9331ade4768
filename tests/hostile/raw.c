#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hostile.h"

int wrong(struct attack_env *env, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(env->why, WHY_BYTES, fmt, ap);
	va_end(ap);
	return 1;
}

int raw_join(const char *control)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = OUSTED_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", control);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int raw_ask(int sock, struct flat_msg *msg, const int *send_fds, size_t n_send,
	    int fds[FLAT_MSG_FDS_MAX], size_t *n)
{
	*n = 0;
	int err = flat_msg_send(sock, msg, send_fds, n_send, 0);
	return err != 0 ? err : flat_msg_recv(sock, msg, fds, n, 0);
}

int raw_hello(const char *control)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int sock = raw_join(control);
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	if (sock >= 0 && raw_ask(sock, &msg, NULL, 0, fds, &n) != 0) {
		close(sock);
		return -1;
	}
	flat_msg_close_fds(fds, n);
	return sock;
}

int raw_connect(int sock, uint32_t ip, struct raw_conn *c)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	memset(c, 0, sizeof(*c));
	c->anchor = c->bell = c->lane_fd = -1;
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 2);
	msg.body.connect.to = (struct flat_addr){
	    .family = AF_INET,
	    .port = SERVICE_PORT,
	    .ip = {(uint8_t)(ip >> 24), (uint8_t)(ip >> 16), (uint8_t)(ip >> 8), (uint8_t)ip}};
	int err = raw_ask(sock, &msg, NULL, 0, fds, &n);
	if (err != 0 || msg.status != 0)
		return err != 0 ? err : msg.status;
	const struct flat_msg_conn *m = &msg.body.conn;
	c->conn_id = m->conn_id;
	c->lane_id = m->lane_id;
	c->slot = m->slot;
	c->anchor = flat_msg_fd(&msg, fds, FLAT_FD_ANCHOR);
	c->bell = flat_msg_fd(&msg, fds, FLAT_FD_BELL);
	c->lane_fd = flat_msg_fd(&msg, fds, FLAT_FD_LANE);
	flat_msg_close_fds(fds, n);
	if (c->bell < 0)
		c->bell = dup(c->anchor);
	/* Only the first connection of a lane brings it: what is asked for once is enough here. */
	if (c->lane_fd < 0)
		return 0;
	err = flat_lane_map(&c->lane, c->lane_fd, &m->geo, 1);
	if (err == 0)
		flat_vq_init(&c->vq, &flat_vq_shm, &c->lane, c->slot, (enum flat_side)m->side,
			     c->anchor, c->bell);
	return err;
}

void raw_close(struct raw_conn *c)
{
	flat_lane_unmap(&c->lane);
	for (int *fd = (int[]){c->anchor, c->bell, c->lane_fd, -2}; *fd != -2; fd++) {
		if (*fd >= 0)
			close(*fd);
	}
}

/* Sleeps until a bell or a little while. */
static void wait_a_little(struct raw_conn *c)
{
	struct pollfd p = {.fd = c->anchor, .events = POLLIN};
	flat_vq_arm_rx(&c->vq, FLAT_ARM_BELL);
	flat_vq_arm_tx(&c->vq, FLAT_ARM_BELL);
	(void)poll(&p, 1, 5);
	(void)!flat_vq_drain_anchor(&c->vq);
}

int raw_echo(struct raw_conn *c, size_t len)
{
	uint8_t out[4096];
	uint8_t in[4096];
	int64_t end_ms = test_now_ms() + OUSTED_MS;
	len = flat_min_size(len, sizeof(out));
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 7 + 1);
	for (size_t sent = 0, got = 0; got < len;) {
		ssize_t n = flat_ring_write(&c->vq.tx, out + sent, len - sent);
		if (n < 0 || test_now_ms() > end_ms)
			return -1;
		sent += (size_t)n;
		flat_vq_notify_data(&c->vq);
		n = flat_ring_read(&c->vq.rx, in + got, len - got, 1);
		if (n < 0 || memcmp(in + got, out + got, (size_t)n) != 0)
			return -1;
		got += (size_t)n;
		flat_vq_notify_room(&c->vq);
		if (n == 0)
			wait_a_little(c);
	}
	return 0;
}

static bool session_over(void *arg)
{
	char sink[512];
	ssize_t n;
	do
		n = recv(*(int *)arg, sink, sizeof(sink), MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || (errno != EAGAIN && errno != EINTR);
}

bool raw_session_ends(int sock)
{
	return test_until(session_over, &sock, OUSTED_MS);
}

static bool conn_over(void *arg)
{
	struct raw_conn *c = arg;
	char sink[512];
	ssize_t n;
	do
		n = recv(c->anchor, sink, sizeof(sink), MSG_DONTWAIT);
	while (n > 0);
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		return true;
	return c->lane.base && ((flat_vq_peer_prod_flags(&c->vq) & FLAT_PROD_RST) ||
				(flat_vq_peer_cons_flags(&c->vq) & FLAT_CONS_CLOSED));
}

bool raw_conn_ends(struct raw_conn *c)
{
	return test_until(conn_over, c, OUSTED_MS);
}
