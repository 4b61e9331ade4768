#include "authn/fetch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "authn/http_get.h"
#include "authn/jwks.h"
#include "base/json_read.h"
#include "base/sys.h"
#include "base/thread.h"

struct flat_fetch_inbox {
	pthread_mutex_t lock; /* of `done` */
	STAILQ_HEAD(, flat_fetch) done;
	atomic_uint refs;
	atomic_bool left;
	int fd;
};

struct flat_fetch_inbox *flat_fetch_inbox_new(void)
{
	struct flat_fetch_inbox *inbox = calloc(1, sizeof(*inbox));

	if (!inbox)
		return NULL;
	inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (inbox->fd < 0) {
		free(inbox);
		return NULL;
	}
	pthread_mutex_init(&inbox->lock, NULL);
	STAILQ_INIT(&inbox->done);
	inbox->refs = 1;
	return inbox;
}

static void inbox_put(struct flat_fetch_inbox *inbox)
{
	struct flat_fetch *f;

	if (atomic_fetch_sub(&inbox->refs, 1) != 1)
		return;
	while ((f = flat_fetch_take(inbox)) != NULL)
		flat_fetch_free(f);
	pthread_mutex_destroy(&inbox->lock);
	close(inbox->fd);
	free(inbox);
}

void flat_fetch_inbox_leave(struct flat_fetch_inbox *inbox)
{
	if (!inbox)
		return;
	inbox->left = true;
	inbox_put(inbox);
}

int flat_fetch_inbox_fd(const struct flat_fetch_inbox *inbox)
{
	return inbox->fd;
}

struct flat_fetch *flat_fetch_new(const char *uri, uint32_t timeout_ms)
{
	struct flat_fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->uri = strdup(uri);
	f->timeout_ms = timeout_ms;
	if (f->uri)
		return f;
	free(f);
	return NULL;
}

void flat_fetch_free(struct flat_fetch *f)
{
	if (!f)
		return;
	free(f->uri);
	free(f->body);
	free(f);
}

struct flat_fetch *flat_fetch_take(struct flat_fetch_inbox *inbox)
{
	struct flat_fetch *f;
	uint64_t count;

	pthread_mutex_lock(&inbox->lock);
	f = STAILQ_FIRST(&inbox->done);
	if (f)
		STAILQ_REMOVE_HEAD(&inbox->done, link);
	else
		(void)flat_sys_read(inbox->fd, &count, sizeof(count));
	pthread_mutex_unlock(&inbox->lock);
	return f;
}

static void *thread(void *arg)
{
	struct flat_fetch *f = arg;
	struct flat_fetch_inbox *inbox = f->inbox;
	uint64_t one = 1;

	flat_fetch_run(f);
	if (inbox->left) {
		flat_fetch_free(f);
	} else {
		pthread_mutex_lock(&inbox->lock);
		STAILQ_INSERT_TAIL(&inbox->done, f, link);
		(void)flat_sys_write(inbox->fd, &one, sizeof(one));
		pthread_mutex_unlock(&inbox->lock);
	}
	inbox_put(inbox);
	return NULL;
}

int flat_fetch_start(struct flat_fetch_inbox *inbox, struct flat_fetch *f)
{
	pthread_attr_t attr;
	pthread_t id;
	int err;

	f->inbox = inbox;
	err = pthread_attr_init(&attr);
	if (err != 0)
		return -err;
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add(&inbox->refs, 1);
	err = flat_thread_start(&id, &attr, thread, f);
	pthread_attr_destroy(&attr);
	if (err != 0)
		inbox_put(inbox);
	return err;
}

/* --- what is fetched --- */

static void fetch_file(struct flat_fetch *f)
{
	FILE *file = fopen(f->uri + strlen("file://"), "re");
	size_t size = FLAT_JWKS_BYTES_MAX + 1;

	f->body = file ? malloc(size) : NULL;
	if (f->body)
		f->len = fread(f->body, 1, size, file);
	if (!f->body || ferror(file) || f->len == size || f->len == 0) {
		snprintf(f->error, sizeof(f->error), "%s",
			 !file			    ? strerror(errno)
			 : f->len == size	    ? "larger than 1 MiB"
			 : f->body && !ferror(file) ? "empty"
						    : "it cannot be read");
		free(f->body);
		f->body = NULL;
	}
	if (file)
		(void)fclose(file);
}

/* The body is an OpenID configuration: goes on with what it names (OpenID Connect Discovery 1.0, 3). */
static void follow(struct flat_fetch *f)
{
	struct flat_pool pool = {.limit_bytes = 64 * FLAT_JWKS_BYTES_MAX};
	const struct flat_json_node *root = NULL;
	const char *uri = NULL;

	if (flat_json_read(f->body, f->len, &pool, &root) == 0)
		uri = flat_json_member_text(root, "jwks_uri");
	free(f->body);
	f->body = NULL;
	free(f->uri);
	f->uri = strdup(uri ? uri : "");
	f->addr_len = 0;
	flat_pool_fini(&pool);
	if (f->uri && (strncmp(f->uri, "http://", 7) == 0 || strncmp(f->uri, "https://", 8) == 0))
		flat_http_get(f);
	else
		snprintf(f->error, sizeof(f->error), "the OpenID configuration names no jwks_uri");
}

void flat_fetch_run(struct flat_fetch *f)
{
	if (strncmp(f->uri, "file://", 7) == 0) {
		fetch_file(f);
		return;
	}
	flat_http_get(f);
	if (f->body && f->discover)
		follow(f);
}

bool flat_fetch_host(const char *uri, char host[256], uint16_t *port)
{
	bool tls = strncmp(uri, "https://", 8) == 0;
	const char *at = uri + (tls ? 8 : 7);
	size_t len = strcspn(at, "/?#");
	const char *colon = NULL;
	unsigned long number = tls ? 443 : 80;
	char *end;

	if ((!tls && strncmp(uri, "http://", 7) != 0) || memchr(at, '@', len))
		return false;
	if (*at == '[') {
		const char *close = memchr(at, ']', len);

		if (!close || (close + 1 < at + len && close[1] != ':'))
			return false;
		colon = close[1] == ':' ? close + 1 : NULL;
		len = (size_t)(close - at) - 1;
		at++;
	} else {
		colon = memchr(at, ':', len);
		if (colon)
			len = (size_t)(colon - at);
	}
	if (colon) {
		number = strtoul(colon + 1, &end, 10);
		if (end == colon + 1 || (*end && !strchr("/?#", *end)))
			return false;
	}
	if (len == 0 || len > 255 || number == 0 || number > 65535)
		return false;
	memcpy(host, at, len);
	host[len] = 0;
	*port = (uint16_t)number;
	return true;
}
