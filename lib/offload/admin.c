/*
 * The admin socket: a client connects, sends one line, gets one answer, and the socket is closed. Root and flatd's own
 * user only.
 */
#include "offload/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/handover.h"
#include "offload/l7.h"
#include "offload/peers.h"

static struct flat_source admin_source;
static struct flat_offload *admin_offload;
static char admin_path[108];

/* One request line, one answer. */
static void answer(struct flat_strbuf *out, struct flat_offload *o, char *line)
{
	char *save = NULL;
	char *words[16] = {NULL};
	bool json = false;
	size_t n = 0;
	for (char *w = strtok_r(line, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
		if (strcmp(w, "--json") == 0)
			json = true;
		else if (n < FLAT_ARRAY_SIZE(words))
			words[n++] = w;
	}
	if (n == 1 && strcmp(words[0], "ls") == 0)
		flat_admin_ls(o, json, out);
	else if (n == 1 && strcmp(words[0], "top") == 0)
		flat_admin_top(o, json, out);
	else if ((n == 3 || n == 4) && strcmp(words[0], "why") == 0)
		flat_admin_why(o, words[1], words[2], words[3], json, out);
	else if (n == 1 && strcmp(words[0], "peers") == 0)
		flat_admin_peers(o, json, out);
	else if (n == 1 && strcmp(words[0], "routes") == 0)
		flat_admin_routes(o, json, out);
	else if (n == 1 && strcmp(words[0], "clusters") == 0)
		flat_admin_clusters(o, json, out);
	else if (n == 1 && strcmp(words[0], "tophttp") == 0)
		flat_admin_top_http(o, out);
	else if (n == 1 && strcmp(words[0], "trace") == 0)
		flat_admin_trace(o, json, out);
	else if (n >= 4 && strcmp(words[0], "whyhttp") == 0)
		flat_admin_why_http(o, words[1], words + 2, n - 2, json, out);
	else if (n == 4 && strcmp(words[0], "socket") == 0)
		flat_admin_socket(o, (int)strtol(words[1], NULL, 10), strtoull(words[2], NULL, 10),
				  words[3], out);
	else if (n == 1 && strcmp(words[0], "reload") == 0)
		o->reload = true;
	else
		flat_strbuf_puts(out, "flatd does not know this question\n");
}

struct asker {
	struct flat_source source;
};

/* Who was told everything, and since when; NULL: nobody. */
static struct asker *successor;
static int64_t successor_ms;
/* How long it may take to open everything: nothing is decided meanwhile. */
#define SUCCESSOR_MS 3000

static void asker_free(struct asker *a)
{
	if (a == successor)
		successor = NULL;
	flat_loop_del(&admin_offload->loop, &a->source);
	close(a->source.fd);
	free(a);
}

/* A successor: this socket stays until it says that it serves. */
static void give(struct asker *a)
{
	int err = flat_handover_give(admin_offload, a->source.fd);
	if (err == 0) {
		successor = a;
		successor_ms = flat_now_us() / 1000;
		return;
	}
	flat_error("a successor could not be told everything: %s", strerror(-err));
	asker_free(a);
}

static void on_question(struct flat_source *source, int events)
{
	struct asker *a = FLAT_CONTAINER_OF(source, struct asker, source);
	char line[1024];
	struct flat_strbuf text = {0};
	(void)events;
	ssize_t got = flat_sys_recv(source->fd, line, sizeof(line) - 1, MSG_DONTWAIT);
	if (got == -EAGAIN)
		return;
	if (a == successor) {
		flat_handover_answer(admin_offload, got == 5 && memcmp(line, "done\n", 5) == 0);
		asker_free(a);
		return;
	}
	if (got == 9 && memcmp(line, "takeover\n", 9) == 0) {
		give(a);
		return;
	}
	if (got > 0) {
		line[got] = 0;
		answer(&text, admin_offload, line);
	}
	if (text.len > 0 && !text.failed) {
		int size = (int)flat_min_size(text.len + 4096, (size_t)64 << 20);
		(void)flat_sys_setsockopt(source->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size,
					  sizeof(size));
		/* What a slow or hostile reader leaves no room for is cut; nobody waits for it. */
		(void)flat_sys_send(source->fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	flat_strbuf_fini(&text);
	asker_free(a);
}

static void on_admin(struct flat_source *source, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	(void)source;
	if (fd < 0)
		return;
	struct asker *a = calloc(1, sizeof(*a));
	if (!a || flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    (cred.uid != 0 && cred.uid != geteuid()) ||
	    flat_loop_poll(&admin_offload->loop, &a->source, fd, POLLIN | POLLRDHUP, on_question)) {
		close(fd);
		free(a);
	}
}

int flat_admin_open(struct flat_offload *o, const char *control_path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	/* As long as the name that it gets when it serves, which until then is a predecessor's. */
	int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s.adnew", control_path);
	if (n < 0 || (size_t)n >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	int fd = flat_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	unlink(un.sun_path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || chmod(un.sun_path, 0600) != 0 ||
	    listen(fd, 64) != 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	admin_offload = o;
	memcpy(admin_path, un.sun_path, sizeof(admin_path));
	return flat_loop_accept(&o->loop, &admin_source, fd, on_admin);
}

int flat_admin_serve(void)
{
	char path[sizeof(admin_path)];
	size_t len = strlen(admin_path);
	memcpy(path, admin_path, len - 5);
	memcpy(path + len - 5, "admin", sizeof("admin"));
	if (rename(admin_path, path) != 0)
		return -errno;
	memcpy(admin_path, path, sizeof(path));
	return 0;
}

int flat_admin_expire(struct flat_offload *o)
{
	int64_t left = successor_ms + SUCCESSOR_MS - flat_now_us() / 1000;
	if (!successor)
		return -1;
	if (left > 0)
		return (int)left;
	/* It has said so by now, or cannot any more: there are never two that serve. */
	char line[8];
	(void)flat_sys_shutdown(successor->source.fd, SHUT_RD);
	ssize_t got = flat_sys_recv(successor->source.fd, line, sizeof(line), MSG_DONTWAIT);
	flat_handover_answer(o, got == 5 && memcmp(line, "done\n", 5) == 0);
	asker_free(successor);
	return -1;
}

void flat_admin_retire(struct flat_offload *o)
{
	if (admin_source.index == 0)
		return;
	flat_loop_del(&o->loop, &admin_source);
	close(admin_source.fd);
	admin_path[0] = 0;
}

void flat_admin_close(struct flat_offload *o)
{
	char path[sizeof(admin_path)];
	memcpy(path, admin_path, sizeof(path));
	flat_admin_retire(o);
	if (path[0])
		unlink(path);
}
