#include "support_calls.h"

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "codec/http2.h"
#include "codec/protobuf.h"

/* Bytes of a question. */
#define TEXT ((size_t)64 * 1024)

static void send_all(int fd, const void *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, (const char *)bytes + done, len - done, MSG_NOSIGNAL);

		/* Whoever asked may be gone. */
		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

static size_t length_of(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");
	const char *length = strcasestr(text, "\ncontent-length:");

	if (!end)
		return SIZE_MAX;
	return (size_t)(end + 4 - text) +
	       (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
}

static void serve_http1(struct calls *s, int fd)
{
	struct flat_strbuf answer = {0};
	bool keeps = true;
	char *text = malloc(TEXT);

	while (keeps) {
		size_t len = 0;

		for (text[0] = '\0'; length_of(text) > len;) {
			ssize_t n = recv(fd, text + len, TEXT - 1 - len, 0);

			if (n <= 0)
				goto out;
			len += (size_t)n;
			text[len] = '\0';
		}
		atomic_fetch_add(&s->questions, 1);
		flat_strbuf_reset(&answer);
		keeps = s->fn(text, len, &answer);
		send_all(fd, answer.data, answer.len);
	}
out:
	flat_strbuf_fini(&answer);
	free(text);
}

static void wake(void *user)
{
	(void)user;
}

static void drain(struct flat_http2 *h, int fd)
{
	const uint8_t *bytes;
	ssize_t n;

	while ((n = flat_http2_drain(h, &bytes)) > 0)
		send_all(fd, bytes, (size_t)n);
}

static void serve_grpc(struct calls *s, int fd)
{
	struct flat_strbuf answer = {0}, question = {0};
	struct flat_http2_stream *stream = NULL;
	bool keeps = true;
	struct flat_http2 *h = NULL;
	uint8_t bytes[4096];

	if (flat_http2_open(&h, FLAT_HTTP2_SERVER, wake) != 0)
		return;
	while (keeps) {
		ssize_t n;

		drain(h, fd);
		n = recv(fd, bytes, sizeof(bytes), 0);
		if (n <= 0 || flat_http2_feed(h, bytes, (size_t)n, 0) != 0)
			break;
		while (keeps && (stream || (stream = flat_http2_accept(h, s)))) {
			size_t got;

			while ((got = flat_http2_read(stream, bytes, sizeof(bytes))) > 0)
				flat_strbuf_add(&question, bytes, got);
			if (!flat_http2_read_all(stream))
				break;
			atomic_fetch_add(&s->questions, 1);
			keeps = s->fn(flat_strbuf_str(&question), question.len, &answer);
			if (answer.len > 0 &&
			    flat_http2_write(stream, (const uint8_t *)answer.data, answer.len) < 0)
				break;
			/* What is never answered stays open. */
			if (answer.len > 0) {
				flat_http2_finish(stream);
				flat_http2_release(stream);
			}
			stream = NULL;
			flat_strbuf_reset(&answer);
			flat_strbuf_reset(&question);
		}
	}
	drain(h, fd);
	if (stream)
		flat_http2_release(stream);
	flat_http2_close(h);
	flat_strbuf_fini(&answer);
	flat_strbuf_fini(&question);
}

static void *serve(void *arg)
{
	struct calls *s = arg;

	for (;;) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			return NULL;
		atomic_fetch_add(&s->connections, 1);
		if (s->grpc)
			serve_grpc(s, fd);
		else
			serve_http1(s, fd);
		close(fd);
	}
}

void calls_open(struct calls *s, bool grpc, calls_fn *fn)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);

	memset(s, 0, sizeof(*s));
	s->grpc = grpc;
	s->fn = fn;
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(s->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(s->listener, 16), 0);
	cr_assert_eq(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
	s->port = ntohs(at.sin_port);
}

void calls_begin(struct calls *s)
{
	cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

void calls_end(struct calls *s)
{
	cr_assert_eq(shutdown(s->listener, SHUT_RDWR), 0);
	cr_assert_eq(pthread_join(s->thread, NULL), 0);
	close(s->listener);
}

void calls_put_pair(struct flat_strbuf *out, uint32_t number, const char *name, const char *value)
{
	struct flat_strbuf pair = {0};

	flat_protobuf_put_text(&pair, 1, name);
	flat_protobuf_put_text(&pair, 2, value);
	flat_protobuf_put_message(out, number, &pair);
	flat_strbuf_fini(&pair);
}

void calls_grpc(struct flat_strbuf *answer, const struct flat_strbuf *message)
{
	flat_strbuf_printf(answer,
			   "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
			   "transfer-encoding: chunked\r\n\r\n%zx\r\n",
			   message->len + 5);
	flat_strbuf_putc(answer, 0);
	for (int shift = 24; shift >= 0; shift -= 8)
		flat_strbuf_putc(answer, (char)(message->len >> shift));
	flat_strbuf_add(answer, message->data, message->len);
	flat_strbuf_puts(answer, "\r\n0\r\ngrpc-status: 0\r\n\r\n");
}
