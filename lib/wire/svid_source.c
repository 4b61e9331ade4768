#include "wire/svid_source.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/sys.h"
#include "base/thread.h"
#include "wire/grpc_stream.h"
#include "wire/istio_ca.h"
#include "wire/workload_api.h"

struct flat_svid_source {
	char *uri;
	struct flat_istio_ca *istio; /* NULL: a Workload API, at: */
	struct sockaddr_un addr;
	pthread_t thread;
	int news;
	int stop;
	pthread_mutex_t lock; /* of the next three */
	struct flat_svids *newest;
	char why[600];
	struct flat_thread_end end;
	uint32_t pause_ms; /* the thread's: before the next call */
};

static const char *path_of(const char *uri)
{
	if (strncmp(uri, "unix://", 7) == 0)
		return uri + 7;
	return strncmp(uri, "unix:", 5) == 0 ? uri + 5 : NULL;
}

bool flat_svid_source_is(const char *text)
{
	return path_of(text) != NULL || flat_istio_ca_is(text);
}

/* --- its thread --- */

static void tell(struct flat_svid_source *s, struct flat_svids *set, const char *why)
{
	uint64_t one = 1;
	pthread_mutex_lock(&s->lock);
	if (set) {
		flat_svids_put(s->newest);
		s->newest = set;
	}
	snprintf(s->why, sizeof(s->why), "%s", why);
	pthread_mutex_unlock(&s->lock);
	(void)flat_sys_write(s->news, &one, sizeof(one));
}

/* A set that is wrong changes nothing; the call goes on, for the next one. */
static int on_message(void *arg, const uint8_t *bytes, size_t len)
{
	struct flat_svid_source *s = arg;
	struct flat_svids *set = NULL;
	char why[sizeof(s->why)];
	s->pause_ms = FLAT_SVID_RETRY_MS;
	int err = flat_workload_api_read(s->uri, bytes, len, &set, why, sizeof(why));
	tell(s, set, err == 0 ? "" : why);
	return err == -ENOMEM ? err : 0;
}

static int ask(struct flat_svid_source *s, char *why, size_t size)
{
	static const char *const fields[] = {"workload.spiffe.io", "true", NULL};
	int fd = flat_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err =
	    fd < 0 ? fd : flat_sys_connect(fd, (const struct sockaddr *)&s->addr, sizeof(s->addr));
	struct flat_grpc_call call = {
	    .fd = fd,
	    .stop_fd = s->stop,
	    .path = "/SpiffeWorkloadAPI/FetchX509SVID",
	    .authority = "localhost",
	    .fields = fields,
	    .message = (const uint8_t *)"",
	    .take = on_message,
	    .arg = s,
	    .why = why,
	    .size = size,
	};
	if (err != 0)
		snprintf(why, size, "%s", strerror(-err));
	else
		err = flat_grpc_stream(&call);
	if (fd >= 0)
		close(fd);
	return err;
}

/* 0: all was had; what is next is in *wait_ms. */
static int ask_istio(struct flat_svid_source *s, int *wait_ms, char *why, size_t size)
{
	struct flat_svids *set;
	int err = flat_istio_ca_ask(s->istio, s->stop, &set, why, size);
	if (set)
		tell(s, set, "");
	if (err == 0)
		s->pause_ms = FLAT_SVID_RETRY_MS;
	*wait_ms = flat_istio_ca_wait_ms(s->istio);
	return err;
}

static void ask_on(struct flat_svid_source *s)
{
	struct pollfd stop = {.fd = s->stop, .events = POLLIN};
	char why[400];
	char text[sizeof(s->why)];
	for (;;) {
		int wait_ms = 0;
		int err =
		    s->istio ? ask_istio(s, &wait_ms, why, sizeof(why)) : ask(s, why, sizeof(why));
		if (err == -ECANCELED)
			return;
		if (err == 0 && s->istio) {
			if (poll(&stop, 1, wait_ms) > 0)
				return;
			continue;
		}
		snprintf(text, sizeof(text), "%.150s%s%.400s; it is asked again in %u ms",
			 s->istio ? "istio" : s->uri, ": ", err ? why : "the call has ended",
			 s->pause_ms);
		tell(s, NULL, text);
		if (poll(&stop, 1, (int)s->pause_ms) > 0)
			return;
		s->pause_ms = s->pause_ms * 2 > FLAT_SVID_RETRY_MAX_MS ? FLAT_SVID_RETRY_MAX_MS
								       : s->pause_ms * 2;
	}
}

static void free_source(struct flat_svid_source *s)
{
	if (s->news >= 0)
		close(s->news);
	if (s->stop >= 0)
		close(s->stop);
	flat_svids_put(s->newest);
	flat_istio_ca_close(s->istio);
	pthread_mutex_destroy(&s->lock);
	free(s->uri);
	free(s);
}

static void *run(void *arg)
{
	struct flat_svid_source *s = arg;
	ask_on(s);
	if (flat_thread_over(&s->lock, &s->end))
		free_source(s);
	return NULL;
}

/* --- its owner --- */

static int start(struct flat_svid_source *s)
{
	s->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->stop = eventfd(0, EFD_CLOEXEC);
	if (s->news < 0 || s->stop < 0)
		return errno ? -errno : -EMFILE;
	return flat_thread_start(&s->thread, NULL, run, s);
}

static int find(struct flat_svid_source *s, char *why, size_t size)
{
	const char *path = path_of(s->uri);
	if (!path)
		return flat_istio_ca_open(s->uri, &s->istio, why, size);
	if (path[0] != '/' || strlen(path) >= sizeof(s->addr.sun_path)) {
		snprintf(why, size, "give unix:///PATH of a Workload API's socket");
		return -EINVAL;
	}
	s->addr.sun_family = AF_UNIX;
	memcpy(s->addr.sun_path, path, strlen(path) + 1);
	return 0;
}

int flat_svid_source_open(const char *uri, struct flat_svid_source **out, char *why, size_t size)
{
	struct flat_svid_source *s = calloc(1, sizeof(*s));
	snprintf(why, size, "out of memory, threads or descriptors");
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	s->news = s->stop = -1;
	s->pause_ms = FLAT_SVID_RETRY_MS;
	s->uri = strdup(uri);
	int err = s->uri ? find(s, why, size) : -ENOMEM;
	if (err == 0)
		err = start(s);
	if (err != 0)
		free_source(s);
	else
		*out = s;
	return err;
}

int flat_svid_source_fd(const struct flat_svid_source *s)
{
	return s->news;
}

struct flat_svids *flat_svid_source_take(struct flat_svid_source *s, char *why, size_t size)
{
	uint64_t count;
	(void)flat_sys_read(s->news, &count, sizeof(count));
	pthread_mutex_lock(&s->lock);
	struct flat_svids *set = s->newest;
	s->newest = NULL;
	snprintf(why, size, "%s", s->why);
	s->why[0] = 0;
	pthread_mutex_unlock(&s->lock);
	return set;
}

void flat_svid_source_close(struct flat_svid_source *s)
{
	uint64_t one = 1;
	if (!s)
		return;
	(void)flat_sys_write(s->stop, &one, sizeof(one));
	if (flat_thread_leave(s->thread, &s->lock, &s->end, FLAT_RESOLVER_END_MS))
		free_source(s);
}
