/*
 * The offload half in this process, its thread watched: sessions, listeners, direct and forwarded connections and plain
 * clients are set up by hand while each of its requests fails in turn. Afterwards the same must work, and nothing is kept.
 */
#include "flatd.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "inject.h"
#include "offload/offload.h"

/* What an answer may take, ms. */
#define ANSWER_MS 15000

/* flatd has pairs of sockets in stock, and makes new ones when it has time: so many may be more or less. */
#define STOCK 8

struct scene {
	struct test_flatd files; /* its folder and configuration; no process */
	uint16_t port;
};

static struct flat_offload offload;

static int join(const char *control)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ANSWER_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", control);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* A request and its answer, the first descriptor of which is kept in *fd. The answer's status, or a negative errno. */
static int ask(int sock, struct flat_msg *msg, int send_fd, int *fd)
{
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	*fd = -1;
	int err = flat_msg_send(sock, msg, &send_fd, send_fd >= 0, 0);
	if (err == 0)
		err = flat_msg_recv(sock, msg, fds, &n, 0);
	if (err != 0)
		return err;
	if (n > 0) {
		*fd = fds[0];
		fds[0] = -1;
	}
	flat_msg_close_fds(fds, n);
	return msg->status;
}

static int tcp_socket(uint16_t port, bool server)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	int err = server ? bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 8)
			 : connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	if (fd >= 0 && err != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * Takes one ACCEPT off a listener's anchor and lets it go. `client`: a plain client, which is turned away where none comes;
 * or -1. 0, or a negative errno.
 */
static int take_accept(int anchor, int client)
{
	struct flat_msg msg;
	struct pollfd p[2] = {{.fd = anchor, .events = POLLIN}, {.fd = client, .events = POLLIN}};
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	if (poll(p, 2, ANSWER_MS) < 1)
		return -ETIMEDOUT;
	if (!p[0].revents)
		return -ECONNRESET;
	int err = flat_msg_recv(anchor, &msg, fds, &n, MSG_DONTWAIT);
	flat_msg_close_fds(fds, n);
	return err;
}

static int connect_once(int sock, int anchor, uint8_t last)
{
	struct flat_msg msg;
	int fd;
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 3);
	msg.body.connect.to =
	    (struct flat_addr){.family = AF_INET, .port = 7, .ip = {240, 9, 0, last}};
	int err = ask(sock, &msg, -1, &fd);
	if (err == 0 && fd < 0)
		err = -EPROTO;
	if (fd >= 0)
		close(fd);
	return err == 0 ? take_accept(anchor, -1) : err;
}

/* Everything once. 0, or the first error. */
static int round_once(const struct scene *s)
{
	struct flat_msg msg;
	int fd = -1;
	int anchor = -1;
	int tcp = -1;
	/* The listener of the round before is flatd's until it has seen the end. */
	for (int64_t end_ms = test_now_ms() + ANSWER_MS; tcp < 0 && test_now_ms() < end_ms;) {
		tcp = tcp_socket(s->port, true);
		if (tcp < 0)
			test_pause_ms(1);
	}
	int sock = join(s->files.control);
	int err = sock < 0 ? sock : tcp < 0 ? -EBADF : 0;
	flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
	if (err == 0)
		err = ask(sock, &msg, -1, &fd);
	if (fd >= 0)
		close(fd);
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
	msg.fds = FLAT_FD_TCP;
	if (err == 0)
		err = ask(sock, &msg, tcp, &anchor);
	for (uint8_t i = 1; err == 0 && i <= 2; i++)
		err = connect_once(sock, anchor, i);
	if (err == 0) {
		fd = tcp_socket(s->port, false);
		err = fd < 0 ? -ECONNREFUSED : take_accept(anchor, fd);
		if (fd >= 0)
			close(fd);
	}
	if (anchor >= 0)
		close(anchor);
	if (tcp >= 0)
		close(tcp);
	if (sock >= 0)
		close(sock);
	return err;
}

struct driver {
	const struct scene *scene;
	_Atomic long nth;
	int err;  /* of a round after the failure */
	int fds;  /* this process's, once all was let go */
	int kept; /* descriptors more than that, a round later */
	bool hit;
};

static bool is_quiet(void *arg)
{
	struct driver *d = arg;
	return inject_fds() <= d->fds + STOCK;
}

/* Descriptors of this process once they have been the same for a while. */
static int settled_fds(void)
{
	int64_t begin_ms = test_now_ms();
	int64_t since_ms = begin_ms;
	int fds = inject_fds();
	while (test_now_ms() < since_ms + 100 && test_now_ms() < begin_ms + ANSWER_MS) {
		int now = inject_fds();
		if (now != fds)
			since_ms = test_now_ms();
		fds = now;
		test_pause_ms(5);
	}
	return fds;
}

static void *drive(void *arg)
{
	struct driver *d = arg;
	/* One round before, so that what is made once is there. */
	d->err = round_once(d->scene);
	d->fds = settled_fds();
	if (d->err == 0) {
		inject_arm(d->nth);
		(void)round_once(d->scene);
		d->hit = inject_disarm();
		d->err = round_once(d->scene);
	}
	if (d->err == 0 && !test_until(is_quiet, d, ANSWER_MS))
		d->kept = inject_fds() - d->fds;
	offload.stop = true;
	flat_offload_wake(&offload);
	return NULL;
}

static int serve_body(void *arg, char why[200])
{
	const struct scene *s = arg;
	const char *paths[] = {s->files.config};
	struct driver d = {.scene = s};
	pthread_t thread;
	/* Which request is to fail was said for the whole: it counts from the driver's second round on. */
	d.nth = inject_target();
	(void)inject_disarm();
	offload.n_workers = 1;
	int before = inject_fds();
	int err = flat_offload_open(&offload, s->files.control, paths, 1);
	if (err != 0 || pthread_create(&thread, NULL, drive, &d) != 0) {
		snprintf(why, 200, "flatd did not open: %d", err);
		return 1;
	}
	flat_offload_run(&offload);
	pthread_join(thread, NULL);
	flat_offload_close(&offload);
	unlink(s->files.control);
	inject_note(d.hit);
	if (d.kept != 0)
		snprintf(why, 200, "%d descriptors are kept, of %d", d.kept, d.fds);
	else if (d.err != 0)
		snprintf(why, 200, "afterwards a round failed: %s", strerror(-d.err));
	else if (inject_blocks() != 0 || inject_fds() != before)
		snprintf(why, 200, "closed, it keeps %ld blocks and %d descriptors",
			 inject_blocks(), inject_fds() - before);
	return why[0] != 0;
}

/* Opening: an error, or a flatd that can be closed. */
static int open_body(void *arg, char why[200])
{
	const struct scene *s = arg;
	const char *paths[] = {s->files.config};
	offload.n_workers = 1;
	int err = flat_offload_open(&offload, s->files.control, paths, 1);
	bool hit = inject_disarm();
	if (err == 0)
		flat_offload_close(&offload);
	unlink(s->files.control);
	inject_note(hit);
	if (err != 0 && !hit)
		snprintf(why, 200, "flatd did not open: %s", strerror(-err));
	if (err == 0 && inject_blocks() != 0)
		snprintf(why, 200, "%ld blocks are kept", inject_blocks());
	return why[0] != 0;
}

static int service(char *yaml, size_t size, const char *path, int last, uint16_t port)
{
	return snprintf(yaml, size,
			"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
			"metadata: {name: %s, annotations: {mesh.libflat.io/path: %s}}\n"
			"spec: {hosts: [%s.example], addresses: [240.9.0.%d], location: "
			"MESH_INTERNAL, resolution: STATIC, ports: [{number: 7, name: tcp}], "
			"endpoints: [{address: 127.0.0.1, ports: {tcp: %u}}]}\n",
			path, path, path, last, port);
}

int main(void)
{
	struct scene scene = {.port = test_free_port()};
	char yaml[2048];
	int n = service(yaml, sizeof(yaml), "direct", 1, scene.port);
	(void)service(yaml + n, sizeof(yaml) - (size_t)n, "forwarded", 2, scene.port);
	test_flatd_init(&scene.files, yaml);
	setvbuf(stdout, NULL, _IOLBF, 0);
	flat_log_init(-1, FLAT_LOG_NONE, "flatd");
	inject_each("failmalloc/flatd-opens", open_body, &scene, 20);
	inject_each("failmalloc/flatd-serves", serve_body, &scene, 20);
	test_flatd_fini(&scene.files, false);
	return test_failures() > 0;
}
