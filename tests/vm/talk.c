/*
 * An application for tests of the wire: an echo server, and clients that check each byte. libc's sockets alone.
 *
 *   vm-talk serve ADDRESS PORT
 *   vm-talk talk ADDRESS PORT CONNECTIONS ROUNDS BYTES   each connection sends and reads at the same time
 *   vm-talk hold ADDRESS PORT FILE                       one byte and back, until FILE is there; says how it ended
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct job {
	pthread_t thread;
	struct sockaddr_in to;
	int fd;
	long rounds;
	size_t bytes;
	uint64_t seed;
	size_t done;
	const char *failed;
	int err;
};

static int address(const char *ip, const char *port, struct sockaddr_in *a)
{
	memset(a, 0, sizeof(*a));
	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	return inet_pton(AF_INET, ip, &a->sin_addr) == 1 ? 0 : -1;
}

static int whole(int fd, uint8_t *p, size_t n, int writes)
{
	while (n > 0) {
		ssize_t k = writes ? send(fd, p, n, MSG_NOSIGNAL) : recv(fd, p, n, 0);
		if (k <= 0) {
			errno = k == 0 ? EPIPE : errno;
			return -1;
		}
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static void *echo(void *arg)
{
	uint8_t buf[65536];
	int fd = (int)(intptr_t)arg;
	ssize_t n;
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		if (whole(fd, buf, (size_t)n, 1) != 0)
			break;
	}
	close(fd);
	return NULL;
}

static int serve(const struct sockaddr_in *at)
{
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) != 0 || listen(fd, 128) != 0) {
		perror("serve");
		return 1;
	}
	for (;;) {
		pthread_t t;
		int c = accept(fd, NULL, NULL);
		if (c < 0 || pthread_create(&t, NULL, echo, (void *)(intptr_t)c) != 0)
			continue;
		pthread_detach(t);
	}
}

static uint8_t next(uint64_t *s)
{
	*s = *s * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint8_t)(*s >> 56);
}

static void *reader(void *arg)
{
	struct job *j = arg;
	uint64_t s = j->seed;
	uint8_t *buf = malloc(j->bytes);
	for (long i = 0; i < j->rounds && !j->failed; i++) {
		if (whole(j->fd, buf, j->bytes, 0) != 0) {
			j->err = errno;
			j->failed = "recv";
		}
		for (size_t k = 0; k < j->bytes && !j->failed; k++) {
			if (buf[k] != next(&s))
				j->failed = "a byte is another";
		}
		j->done += j->bytes;
	}
	free(buf);
	return NULL;
}

static void *talk_one(void *arg)
{
	struct job *j = arg;
	uint64_t s = j->seed;
	pthread_t t;
	uint8_t *buf = malloc(j->bytes);
	j->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(j->fd, (struct sockaddr *)&j->to, sizeof(j->to)) != 0) {
		j->err = errno;
		j->failed = "connect";
		free(buf);
		return NULL;
	}
	pthread_create(&t, NULL, reader, j);
	for (long i = 0; i < j->rounds; i++) {
		for (size_t k = 0; k < j->bytes; k++)
			buf[k] = next(&s);
		if (whole(j->fd, buf, j->bytes, 1) != 0)
			break;
	}
	pthread_join(t, NULL);
	close(j->fd);
	free(buf);
	return NULL;
}

static int talk(const struct sockaddr_in *to, int n, long rounds, size_t bytes)
{
	struct job *jobs = calloc((size_t)n, sizeof(*jobs));
	size_t total = 0;
	int bad = 0;
	for (int i = 0; i < n; i++) {
		jobs[i] = (struct job){.to = *to,
				       .rounds = rounds,
				       .bytes = bytes,
				       .seed = (uint64_t)getpid() * 1000 + (uint64_t)i};
		pthread_create(&jobs[i].thread, NULL, talk_one, &jobs[i]);
	}
	for (int i = 0; i < n; i++) {
		pthread_join(jobs[i].thread, NULL);
		total += jobs[i].done;
		if (jobs[i].failed && bad++ == 0)
			printf("failed: %s %s after %zu bytes\n", jobs[i].failed,
			       strerror(jobs[i].err), jobs[i].done);
	}
	if (!bad)
		printf("ok %zu\n", total);
	free(jobs);
	return bad ? 1 : 0;
}

static int hold(const struct sockaddr_in *to, const char *file)
{
	uint8_t b = 0;
	long n = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) != 0) {
		printf("ended %d %s\n", errno, strerror(errno));
		return 1;
	}
	printf("holding\n");
	while (access(file, F_OK) != 0) {
		uint8_t sent = (uint8_t)n++;
		b = sent;
		if (whole(fd, &b, 1, 1) != 0 || whole(fd, &b, 1, 0) != 0) {
			printf("ended %d %s\n", errno, strerror(errno));
			return 1;
		}
		if (b != sent) {
			printf("a byte is another\n");
			return 1;
		}
		usleep(1000);
	}
	printf("whole %ld\n", n);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in a;
	if (argc < 4 || address(argv[2], argv[3], &a) != 0)
		return 2;
	if (strcmp(argv[1], "serve") == 0)
		return serve(&a);
	if (strcmp(argv[1], "talk") == 0 && argc == 7)
		return talk(&a, (int)strtol(argv[4], NULL, 10), strtol(argv[5], NULL, 10),
			    strtoul(argv[6], NULL, 10));
	if (strcmp(argv[1], "hold") == 0 && argc == 5)
		return hold(&a, argv[4]);
	return 2;
}
