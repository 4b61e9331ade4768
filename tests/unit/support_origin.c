#include "support_origin.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <flat/socket.h>

#include "codec/http2.h"
#include "offload/offload.h"
#include "support_whole.h"

/* The server: it keeps what it got last. */
static struct {
	pthread_mutex_t lock;
	pthread_t thread;
	int listener;
	origin_answer_fn *answer;
	void (*tune)(struct flat_offload *o);
	unsigned requests;
	char last[ORIGIN_TEXT];
	char first_lines[ORIGIN_TEXT]; /* of all */
} origin = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Where requests go. */
static struct sockaddr_in way;

/* Where the chunks that begin at `at` end, with their trailers; SIZE_MAX: not yet. */
static size_t chunks_end(const char *text, size_t at, size_t len)
{
	while (at < len) {
		const char *line = memmem(text + at, len - at, "\r\n", 2);
		size_t size = strtoul(text + at, NULL, 16);
		const char *end = line && size == 0
				      ? memmem(line, (size_t)(text + len - line), "\r\n\r\n", 4)
				      : NULL;

		if (!line || size == 0)
			return end ? (size_t)(end + 4 - text) : SIZE_MAX;
		at = (size_t)(line + 2 - text) + size + 2;
	}
	return SIZE_MAX;
}

/* Bytes of the message that begins so; SIZE_MAX: not known yet. */
static size_t length_of(const char *text, size_t len)
{
	const char *end = strstr(text, "\r\n\r\n");
	const char *length = strcasestr(text, "\ncontent-length:");
	const char *chunked = strcasestr(text, "\ntransfer-encoding: chunked");

	if (!end)
		return SIZE_MAX;
	if (chunked && chunked < end)
		return chunks_end(text, (size_t)(end + 4 - text), len);
	return (size_t)(end + 4 - text) +
	       (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
}

size_t origin_read(int fd, char text[ORIGIN_TEXT])
{
	size_t len = 0;
	size_t wanted = SIZE_MAX;

	text[0] = '\0';
	while (len < ORIGIN_TEXT - 1 && len < wanted) {
		ssize_t n = flat_recv(fd, text + len, ORIGIN_TEXT - 1 - len, 0);

		if (n <= 0)
			break;
		len += (size_t)n;
		text[len] = '\0';
		wanted = length_of(text, len);
	}
	return len;
}

static const char *answer_to(const char *request)
{
	if (origin.answer)
		return origin.answer(request, origin.requests);
	return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

/* Whether one came, and not a part of it before the connection's end. */
static bool read_request(int fd, char text[ORIGIN_TEXT])
{
	size_t len = origin_read(fd, text);

	return len == ORIGIN_TEXT - 1 || len >= length_of(text, len);
}

static void *serve(void *arg)
{
	char text[ORIGIN_TEXT];

	(void)arg;
	for (;;) {
		int fd = flat_accept(origin.listener, NULL, NULL);

		if (fd < 0)
			return NULL;
		while (read_request(fd, text)) {
			pthread_mutex_lock(&origin.lock);
			origin.requests++;
			memcpy(origin.last, text, sizeof(text));
			size_t at = strlen(origin.first_lines);
			snprintf(origin.first_lines + at, ORIGIN_TEXT - at, "%.*s|",
				 (int)strcspn(text, "\r"), text);
			const char *answer = answer_to(text);
			pthread_mutex_unlock(&origin.lock);
			if (!answer)
				continue;
			whole_send(fd, answer, strlen(answer));
			if (strcasestr(text, "\r\nconnection: close"))
				break;
		}
		flat_close(fd);
	}
}

unsigned origin_requests(void)
{
	pthread_mutex_lock(&origin.lock);
	unsigned n = origin.requests;
	pthread_mutex_unlock(&origin.lock);
	return n;
}

const char *origin_last(void)
{
	return origin.last;
}

const char *origin_first_lines(void)
{
	return origin.first_lines;
}

void origin_forget(void)
{
	pthread_mutex_lock(&origin.lock);
	origin.requests = 0;
	origin.first_lines[0] = '\0';
	pthread_mutex_unlock(&origin.lock);
}

const char *origin_log(const char *name, const char *want)
{
	static char text[ORIGIN_TEXT];
	char path[128];

	snprintf(path, sizeof(path), "%s/%s.log", whole_dir(), name);
	text[0] = '\0';
	for (int i = 0; i < 1000 && !strstr(text, want); i++) {
		FILE *f = fopen(path, "re");
		size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

		text[n] = '\0';
		if (f)
			fclose(f);
		(void)flat_poll(NULL, 0, 10);
	}
	return text;
}

static void log_to_files(struct flat_offload *o)
{
	static char access[96], audit[96];

	snprintf(access, sizeof(access), "%s/access.log", whole_dir());
	snprintf(audit, sizeof(audit), "%s/audit.log", whole_dir());
	o->access_log = access;
	o->audit_path = audit;
	if (origin.tune)
		origin.tune(o);
}

void origin_begin(const char *yaml, origin_answer_fn *answer)
{
	origin_begin_tuned(yaml, answer, NULL);
}

void origin_begin_tuned(const char *yaml, origin_answer_fn *answer,
			void (*tune)(struct flat_offload *o))
{
	static char all[16384];
	int n = snprintf(
	    all, sizeof(all),
	    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
	    "metadata: {name: web, namespace: shop}\n"
	    "spec: {hosts: [web.example], addresses: [240.9.1.1], location: MESH_INTERNAL, "
	    "resolution: STATIC, ports: [{number: 80, name: http}], "
	    "endpoints: [{address: 127.0.0.1, ports: {http: %%PORT%%}}]}\n---\n%s",
	    yaml);

	cr_assert_lt((size_t)n, sizeof(all));
	origin.tune = tune;
	origin_by(whole_addr(240, 9, 1, 1, 80));
	whole_begin(all, log_to_files);
	origin.answer = answer;
	origin.listener = whole_listen(whole_port());
	cr_assert_eq(pthread_create(&origin.thread, NULL, serve, NULL), 0);
}

void origin_end(void)
{
	cr_assert_eq(flat_shutdown(origin.listener, SHUT_RDWR), 0);
	cr_assert_eq(pthread_join(origin.thread, NULL), 0);
	flat_close(origin.listener);
	whole_end();
}

void origin_by(struct sockaddr_in to)
{
	way = to;
}

int origin_connect(void)
{
	return whole_connect(way);
}

const char *origin_ask(const char *request)
{
	static char text[ORIGIN_TEXT];
	int fd = origin_connect();

	whole_send(fd, request, strlen(request));
	(void)origin_read(fd, text);
	flat_close(fd);
	return text;
}

static void woken(void *user)
{
	(void)user;
}

static void drain(struct origin_http2 *c)
{
	const uint8_t *bytes;
	ssize_t n;

	while ((n = flat_http2_drain(c->h2, &bytes)) > 0)
		whole_send(c->fd, bytes, (size_t)n);
}

void origin_http2_open(struct origin_http2 *c)
{
	cr_assert_eq(flat_http2_open(&c->h2, FLAT_HTTP2_CLIENT, woken), 0);
	c->fd = origin_connect();
}

struct flat_http2_stream *origin_http2_ask(struct origin_http2 *c, const char *request)
{
	struct flat_http2_stream *s = flat_http2_stream_open(c->h2, c);

	cr_assert_not_null(s);
	cr_assert_eq(flat_http2_write(s, (const uint8_t *)request, strlen(request)),
		     (ssize_t)strlen(request), "%s", request);
	drain(c);
	return s;
}

const char *origin_http2_answer(struct origin_http2 *c, struct flat_http2_stream *s)
{
	static char text[ORIGIN_TEXT];
	uint8_t bytes[4096];
	size_t len = 0;
	ssize_t n = 1;

	for (;;) {
		len += flat_http2_read(s, (uint8_t *)text + len, sizeof(text) - 1 - len);
		if (n <= 0 || flat_http2_read_all(s) || flat_http2_is_reset(s))
			break;
		drain(c);
		n = flat_recv(c->fd, bytes, sizeof(bytes), 0);
		cr_assert(n <= 0 || flat_http2_feed(c->h2, bytes, (size_t)n, 0) == 0);
	}
	text[len] = '\0';
	flat_http2_release(s);
	return text;
}

void origin_http2_close(struct origin_http2 *c)
{
	flat_http2_close(c->h2);
	flat_close(c->fd);
}

void origin_check_text(const char *request, const char *where, const char *text,
		       const char *const wanted[4])
{
	for (int i = 0; i < 4 && wanted[i]; i++) {
		bool absent = wanted[i][0] == '!';

		cr_expect_eq(strstr(text, wanted[i] + absent) == NULL, absent,
			     "%.30s: %s has %s'%s':\n%s", request, where, absent ? "" : "no ",
			     wanted[i] + absent, text);
	}
}

void origin_check_rows(const struct origin_row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct origin_row *r = &rows[i];
		unsigned before = origin_requests();
		const char *got = origin_ask(r->request);

		origin_check_text(r->request, "the client", got, r->at_client);
		cr_expect_eq(origin_requests() == before, r->at_server[0] == NULL,
			     "%.30s: %u requests", r->request, origin_requests() - before);
		if (r->at_server[0])
			origin_check_text(r->request, "the server", origin.last, r->at_server);
	}
}
