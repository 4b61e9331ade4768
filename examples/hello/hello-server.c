/*
 * Linked use, the server: answers each line with the same line, in one thread, by epoll. Apart from
 * the prefix flat_ it is what one writes against libc.
 *
 *   hello-server PORT
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flat/socket.h>

#define EVENTS_MAX 64

static int listen_on(uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int on = 1;
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	flat_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (flat_bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || flat_listen(fd, 64) < 0) {
		flat_close(fd);
		return -1;
	}
	return fd;
}

/* Sends all of it; the socket blocks. */
static int send_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = flat_send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * The received bytes are read where they lie in shared memory, without a copy into a buffer of ours. A
 * client that is not in the mesh comes over the kernel: there is nothing to view (EOPNOTSUPP), and
 * flat_recv() serves either.
 */
static int echo(int fd)
{
	struct iovec piece[2];
	int pieces = 0;
	char copy[4096];
	ssize_t n = flat_recv_view(fd, piece, &pieces, MSG_DONTWAIT);
	if (n > 0) {
		for (int i = 0; i < pieces; i++)
			if (send_all(fd, piece[i].iov_base, piece[i].iov_len) < 0)
				return -1;
		return flat_recv_release(fd, (size_t)n);
	}
	if (n < 0 && errno == EOPNOTSUPP) {
		n = flat_recv(fd, copy, sizeof(copy), MSG_DONTWAIT);
		if (n > 0)
			return send_all(fd, copy, (size_t)n);
	}
	return n < 0 && errno == EAGAIN ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS_MAX];
	unsigned long port = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
	if (port == 0 || port > UINT16_MAX) {
		fprintf(stderr, "usage: hello-server PORT\n");
		return 2;
	}
	int listener = listen_on((uint16_t)port);
	int poller = flat_epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event want = {.events = EPOLLIN, .data.fd = listener};
	if (listener < 0 || poller < 0 ||
	    flat_epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want) < 0) {
		perror("hello-server");
		return 1;
	}
	for (;;) {
		int n = flat_epoll_wait(poller, events, EVENTS_MAX, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				want.data.fd = flat_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
				if (want.data.fd >= 0)
					flat_epoll_ctl(poller, EPOLL_CTL_ADD, want.data.fd, &want);
			} else if (echo(fd) < 0) {
				flat_close(fd);
			}
		}
	}
}
