/*
 * Linked use, the client: sends its words and prints what comes back.
 *
 *   hello-client HOST PORT WORD...
 *
 * HOST may be a name of the mesh. A connection refused by policy fails with EACCES; `flatctl why` tells
 * the rule.
 */
#include <stdio.h>
#include <string.h>

#include <flat/socket.h>

static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int fd = -1;
	int err = flat_getaddrinfo(host, port, &hints, &found);
	if (err != 0) {
		fprintf(stderr, "hello-client: %s: %s\n", host, gai_strerror(err));
		return -1;
	}
	for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
		fd = flat_socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0 && flat_connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			perror("hello-client: connect");
			flat_close(fd);
			fd = -1;
		}
	}
	flat_freeaddrinfo(found);
	return fd;
}

/* Writes `word` straight into the ring that the server reads; 1 where the socket is the kernel's. */
static int send_in_place(int fd, const char *word, size_t len)
{
	while (len > 0) {
		struct iovec room[2];
		size_t done = 0;
		int pieces = flat_send_reserve(fd, len, room, 0);
		if (pieces < 0)
			return 1;
		for (int i = 0; i < pieces && done < len; i++) {
			size_t n = room[i].iov_len < len - done ? room[i].iov_len : len - done;
			memcpy(room[i].iov_base, word + done, n);
			done += n;
		}
		if (flat_send_commit(fd, done) < 0)
			return -1;
		word += done;
		len -= done;
	}
	return 0;
}

static int exchange(int fd, const char *word)
{
	char back[4096];
	size_t len = strlen(word);
	size_t have = 0;
	int how = send_in_place(fd, word, len);
	if (how < 0 || (how > 0 && flat_send(fd, word, len, MSG_NOSIGNAL) != (ssize_t)len))
		return -1;
	while (have < len) {
		size_t want = len - have < sizeof(back) ? len - have : sizeof(back);
		ssize_t n = flat_recv(fd, back, want, 0);
		if (n <= 0)
			return -1;
		fwrite(back, 1, (size_t)n, stdout);
		have += (size_t)n;
	}
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: hello-client HOST PORT WORD...\n");
		return 2;
	}
	int fd = connect_to(argv[1], argv[2]);
	if (fd < 0)
		return 1;
	for (int i = 3; i < argc; i++) {
		if (exchange(fd, argv[i]) < 0) {
			perror("hello-client");
			return 1;
		}
	}
	flat_close(fd);
	return 0;
}
