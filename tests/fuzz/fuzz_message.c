/*
 * Any bytes with any descriptors as a control message: refused, or a message whose every part is in range and whose
 * descriptors are ours to close. Input: count of descriptors, then the message.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vq/attach.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void send_any(int sock, const uint8_t *data, size_t size, size_t n_fds)
{
	union {
		struct cmsghdr align;
		uint8_t buf[CMSG_SPACE(sizeof(int) * 8)];
	} space;
	struct iovec iov = {(void *)(uintptr_t)data, size};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	memset(&space, 0, sizeof(space));
	if (n_fds > 0) {
		hdr.msg_control = space.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &sock, sizeof(sock));
	}
	require(sendmsg(sock, &hdr, MSG_NOSIGNAL) == (ssize_t)size);
}

/* What a receiver does with the parts of a message that was taken. */
static void use(const struct flat_msg *msg)
{
	char text[FLAT_ADDR_STRLEN];
	struct sockaddr_storage ss;
	struct flat_addr addr = msg->body.connect.to;
	require(strlen(flat_addr_str(&addr, text)) < FLAT_ADDR_STRLEN);
	socklen_t len = flat_addr_to_sockaddr(&addr, &ss);
	require(flat_addr_from_sockaddr(&addr, (struct sockaddr *)&ss, len) == 0);
	flat_addr_unmap(&addr);
	require(flat_addr_equal(&addr, &addr));
	require(strlen(msg->reason) < sizeof(msg->reason));
	const struct flat_lane_geometry *geo = &msg->body.conn.geo;
	if (flat_lane_geometry_valid(geo))
		require(flat_lane_hot_len(geo) < flat_lane_len(geo));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_msg msg;
	int pair[2];
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	if (size < 2 || size > 4096)
		return 0;
	size_t sent_fds = data[0] % 9;
	require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	send_any(pair[0], data + 1, size - 1, sent_fds);
	int err = flat_msg_recv(pair[1], &msg, fds, &n, MSG_DONTWAIT);
	require(err == 0 || err == -EPROTO);
	require(err == 0 ? n == sent_fds : n == 0);
	if (err == 0) {
		use(&msg);
		for (uint32_t flag = 1; flag <= FLAT_FD_TCP; flag <<= 1) {
			int fd = flat_msg_fd(&msg, fds, flag);
			require((fd >= 0) == ((msg.fds & flag) != 0));
			if (fd >= 0)
				close(fd);
		}
	}
	close(pair[0]);
	close(pair[1]);
	/* Nothing is kept: the next descriptor is the number that the first one had. */
	int next = dup(0);
	require(next <= pair[0]);
	close(next);
	return 0;
}
