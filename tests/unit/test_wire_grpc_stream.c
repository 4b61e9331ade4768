/* One call of gRPC, and servers that answer as they should or not: what they say lies in the socket before the call begins. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "http2_frames.h"
#include "wire/grpc_stream.h"

enum { DATA = 0, RESET = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 };

static int ends[2];
static int stop[2];
static struct frames said;
static char why[200];
static char taken[300];
static size_t n_taken;
static int take_err;
static void (*meanwhile)(void); /* NULL, or while a message is taken */
static SSL *ssl;
static sem_t all_said; /* over TLS */

static int take(void *arg, const uint8_t *bytes, size_t len)
{
	cr_assert_eq(arg, taken);
	n_taken++;
	if (len < 100)
		snprintf(taken + strlen(taken), sizeof(taken) - strlen(taken), "[%.*s]", (int)len,
			 (const char *)bytes);
	if (meanwhile)
		meanwhile();
	return take_err;
}

static void setup(void)
{
	int room = 1 << 20;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	cr_assert_eq(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	cr_assert_eq(pipe(stop), 0);
	said.len = 0;
	why[0] = taken[0] = 0;
	n_taken = 0;
	frames_frame(&said, SETTINGS, 0, 0, "", 0);
}

static void teardown(void)
{
	for (int i = 0; i < 2; i++) {
		close(ends[i]);
		close(stop[i]);
	}
}

TestSuite(wire_grpc_stream, .init = setup, .fini = teardown, .timeout = 60);

static void head(const char *status)
{
	char fields[100];
	snprintf(fields, sizeof(fields), ":status=%s|content-type=application/grpc", status);
	frames_headers(&said, END_HEADERS, 1, fields);
}

static void trailers(const char *fields)
{
	frames_headers(&said, ALL, 1, fields);
}

static void message(uint8_t compressed, size_t says, const char *bytes)
{
	uint8_t v[200] = {compressed, (uint8_t)(says >> 24), (uint8_t)(says >> 16),
			  (uint8_t)(says >> 8), (uint8_t)says};
	memcpy(v + 5, bytes, strlen(bytes));
	frames_frame(&said, DATA, 0, 1, v, 5 + strlen(bytes));
}

/* A message, and so much behind it that it takes several reads, none of which has to wait. */
static void message_and_much(void)
{
	static const uint8_t ping[8];
	message(0, 1, "a");
	for (int i = 0; i < 2000; i++)
		frames_frame(&said, PING, 1, 0, ping, sizeof(ping));
}

static int call(int timeout_ms)
{
	static const char *const fields[] = {"authorization", "Bearer x", NULL};
	const struct flat_grpc_call how = {.fd = ends[0],
					   .ssl = ssl,
					   .timeout_ms = timeout_ms,
					   .stop_fd = stop[0],
					   .path = "/a.B/C",
					   .authority = "ca",
					   .fields = fields,
					   .message = (const uint8_t *)"ask",
					   .len = 3,
					   .take = take,
					   .arg = taken,
					   .why = why,
					   .size = sizeof(why)};
	return flat_grpc_stream(&how);
}

static int call_clear(int timeout_ms)
{
	cr_assert_eq(send(ends[1], said.v, said.len, MSG_NOSIGNAL | MSG_DONTWAIT),
		     (ssize_t)said.len);
	return call(timeout_ms);
}

Test(wire_grpc_stream, a_message_goes_there_and_any_number_come_back)
{
	uint8_t buf[4096];
	head("200");
	message(0, 3, "one");
	message(0, 0, "");
	/* In three frames. */
	message(0, 6, "th");
	frames_frame(&said, DATA, 0, 1, "re", 2);
	frames_frame(&said, DATA, 0, 1, "e.", 2);
	trailers("grpc-status=0");
	cr_expect_eq(call_clear(0), 0, "%s", why);
	cr_expect_str_eq(taken, "[one][][three.]");
	ssize_t n = recv(ends[1], buf, sizeof(buf), MSG_DONTWAIT);
	cr_assert_gt(n, 24);
	cr_expect(memcmp(buf, "PRI * HTTP/2.0", 14) == 0);
	cr_expect(memmem(buf, (size_t)n, "\0\0\0\0\3ask", 8) != NULL);
}

Test(wire_grpc_stream, what_the_server_does_not_do_is_said_with_its_words)
{
	head("200");
	trailers("grpc-status=7|grpc-message=not you");
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect_str_eq(why, "gRPC status 7: not you");
}

Test(wire_grpc_stream, a_status_that_is_no_number_is_not_OK)
{
	static const char *const bad[] = {"grpc-status=", "grpc-status=x", "grpc-status=0x",
					  "grpc-status=-0", "grpc-status=4294967296"};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		if (i > 0) {
			teardown();
			setup();
		}
		head("200");
		trailers(bad[i]);
		cr_expect_eq(call_clear(0), -EPROTO, "'%s'", bad[i]);
		cr_expect_str_eq(why, "gRPC status 2", "'%s'", bad[i]);
	}
}

Test(wire_grpc_stream, an_answer_that_is_no_gRPC_is_told_by_its_HTTP_status)
{
	head("503");
	trailers("a=b");
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect_str_eq(why, "no gRPC: HTTP status 503");
}

Test(wire_grpc_stream, a_call_that_is_reset_has_no_answer)
{
	static const uint8_t refused[4] = {0, 0, 0, 7};
	frames_frame(&said, RESET, 0, 1, refused, sizeof(refused));
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect_str_eq(why, "the call was reset: REFUSED_STREAM");
}

/* A status counts where the stream ends. */
Test(wire_grpc_stream, a_status_before_a_reset_is_none)
{
	static const uint8_t internal[4] = {0, 0, 0, 2};
	frames_headers(&said, END_HEADERS, 1, ":status=200|grpc-status=0");
	message(0, 1, "a");
	frames_frame(&said, RESET, 0, 1, internal, sizeof(internal));
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect_str_eq(why, "the call was reset: INTERNAL_ERROR");
}

/* And one that has come is not undone by it: of a request's end a server that has answered need not wait. */
Test(wire_grpc_stream, a_reset_after_the_status_changes_nothing)
{
	static const uint8_t no_error[4];
	head("200");
	message(0, 1, "a");
	trailers("grpc-status=0");
	frames_frame(&said, RESET, 0, 1, no_error, sizeof(no_error));
	cr_expect_eq(call_clear(0), 0, "%s", why);
}

Test(wire_grpc_stream, a_server_that_goes_away_before_the_call_has_not_answered)
{
	static const uint8_t none_taken[8];
	frames_frame(&said, GOAWAY, 0, 0, none_taken, sizeof(none_taken));
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect_str_eq(why, "the call was reset: REFUSED_STREAM");
}

Test(wire_grpc_stream, an_answer_that_ends_within_a_message_is_none)
{
	head("200");
	message(0, 10, "half");
	trailers("grpc-status=0");
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect(strstr(why, "within a message"), "%s", why);
	cr_expect_eq(n_taken, 0);
}

Test(wire_grpc_stream, messages_that_are_compressed_are_refused)
{
	head("200");
	message(1, 3, "zip");
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect(strstr(why, "compressed"), "%s", why);
	cr_expect_eq(n_taken, 0);
}

Test(wire_grpc_stream, a_message_beyond_the_limit_is_refused_by_its_prefix)
{
	head("200");
	message(0, FLAT_GRPC_MESSAGE_MAX + 1, "");
	cr_expect_eq(call_clear(0), -EMSGSIZE);
	cr_expect(strstr(why, "too large"), "%s", why);
}

Test(wire_grpc_stream, who_takes_the_messages_ends_the_call)
{
	head("200");
	message(0, 1, "a");
	message(0, 1, "b");
	take_err = -EKEYREJECTED;
	cr_expect_eq(call_clear(0), -EKEYREJECTED);
	cr_expect_eq(n_taken, 1);
}

Test(wire_grpc_stream, a_server_that_speaks_something_else_is_told_of)
{
	said.len = 0;
	frames_add(&said, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	cr_expect_eq(call_clear(0), -EPROTO);
	cr_expect(strstr(why, "no HTTP/2"), "%s", why);
}

Test(wire_grpc_stream, a_connection_that_ends_is_told_of)
{
	head("200");
	message(0, 1, "a");
	cr_assert_eq(send(ends[1], said.v, said.len, MSG_NOSIGNAL), (ssize_t)said.len);
	cr_assert_eq(shutdown(ends[1], SHUT_WR), 0);
	cr_expect_eq(call(0), -ECONNRESET);
	cr_expect_str_eq(why, "the server ended the connection");
	cr_expect_str_eq(taken, "[a]");
}

Test(wire_grpc_stream, a_server_that_is_silent_is_waited_for_so_long)
{
	cr_expect_eq(call_clear(20), -ETIMEDOUT);
	cr_expect_str_eq(why, "no answer in time");
}

Test(wire_grpc_stream, a_stop_ends_the_call)
{
	cr_assert_eq(write(stop[1], "", 1), 1);
	cr_expect_eq(call_clear(0), -ECANCELED);
}

static void let_time_pass(void)
{
	int64_t until = flat_now_us() + 60 * 1000;
	while (flat_now_us() < until)
		(void)poll(NULL, 0, 1);
}

Test(wire_grpc_stream, a_server_that_goes_on_speaking_has_no_more_time)
{
	head("200");
	message_and_much();
	trailers("grpc-status=0");
	meanwhile = let_time_pass;
	cr_expect_eq(call_clear(50), -ETIMEDOUT);
}

/* --- over TLS --- */

/* Without certificates: who may be believed is the caller's part. */
static SSL_CTX *anonymous(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	cr_assert(ctx && SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) &&
		  SSL_CTX_set_cipher_list(ctx, "aNULL:@SECLEVEL=0") && SSL_CTX_set_dh_auto(ctx, 1));
	return ctx;
}

static void *serve(void *arg)
{
	SSL *server = arg;
	char buf[4096];
	bool all =
	    SSL_accept(server) == 1 && SSL_write(server, said.v, (int)said.len) == (int)said.len;
	sem_post(&all_said);
	while (SSL_read(server, buf, sizeof(buf)) > 0)
		continue;
	return all ? server : NULL;
}

static int call_tls(void)
{
	SSL_CTX *ctx = anonymous();
	SSL *server = SSL_new(ctx);
	pthread_t thread;
	void *all = NULL;
	signal(SIGPIPE, SIG_IGN);
	ssl = SSL_new(ctx);
	cr_assert(ssl && server && SSL_set_fd(server, ends[1]));
	SSL_set_connect_state(ssl);
	cr_assert_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	cr_assert_eq(sem_init(&all_said, 0, 0), 0);
	cr_assert_eq(pthread_create(&thread, NULL, serve, server), 0);
	int err = call(0);
	cr_assert_eq(shutdown(ends[0], SHUT_RDWR), 0);
	cr_assert_eq(pthread_join(thread, &all), 0);
	cr_expect(all);
	SSL_free(ssl);
	SSL_free(server);
	SSL_CTX_free(ctx);
	return err;
}

Test(wire_grpc_stream, over_tls_it_is_the_same)
{
	head("200");
	message(0, 3, "one");
	trailers("grpc-status=0");
	cr_expect_eq(call_tls(), 0, "%s", why);
	cr_expect_str_eq(taken, "[one]");
}

static void stop_when_all_is_said(void)
{
	while (sem_wait(&all_said) != 0)
		continue;
	cr_assert_eq(write(stop[1], "", 1), 1);
}

Test(wire_grpc_stream, a_stop_ends_what_goes_on_over_tls)
{
	head("200");
	message_and_much();
	trailers("grpc-status=0");
	meanwhile = stop_when_all_is_said;
	cr_expect_eq(call_tls(), -ECANCELED);
}

Test(wire_grpc_stream, a_server_that_speaks_no_tls_is_told_of)
{
	SSL_CTX *ctx = anonymous();
	ssl = SSL_new(ctx);
	SSL_set_connect_state(ssl);
	cr_assert_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	cr_expect_eq(call_clear(0), -ECONNRESET);
	cr_expect(why[0]);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}
