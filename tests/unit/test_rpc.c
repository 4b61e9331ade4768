/* Calls of flat/rpc.h: client and server in one engine, over the kernel's sockets, and peers that are neither. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <flat/rpc.h>

#include "http2_frames.h"
#include "rpc/rpc.h"

#define SOON_MS 10000

struct duo {
	struct flat_rpc *rpc;
	struct flat_rpc_channel *channel;
	int port;
};

static struct duo duo_open(void)
{
	struct duo d;
	char target[32];

	cr_assert_eq(flat_rpc_open(&d.rpc), 0);
	d.port = flat_rpc_listen(d.rpc, "127.0.0.1", 0);
	cr_assert_gt(d.port, 0);
	snprintf(target, sizeof(target), "127.0.0.1:%d", d.port);
	cr_assert_eq(flat_rpc_channel_open(d.rpc, target, &d.channel), 0);
	return d;
}

static struct flat_rpc_call *call(const struct duo *d, const char *method,
				  const struct flat_rpc_field *metadata, size_t n,
				  int64_t timeout_us)
{
	struct flat_rpc_request r = {sizeof(r), method, metadata, n, timeout_us, NULL};
	struct flat_rpc_call *c = NULL;

	cr_assert_eq(flat_rpc_begin(d->channel, &r, &c), 0);
	return c;
}

/* The next event, which is of that kind. */
static struct flat_rpc_event next(const struct duo *d, enum flat_rpc_kind kind)
{
	struct flat_rpc_event e;

	cr_assert_eq(flat_rpc_next(d->rpc, &e, SOON_MS), 1, "nothing happens");
	cr_assert_eq(e.kind, kind, "kind %d: status %d %s", e.kind, (int)e.status, e.text);
	return e;
}

static struct flat_rpc_call *called(const struct duo *d, const char *method)
{
	struct flat_rpc_event e = next(d, FLAT_RPC_CALLED);

	cr_assert_str_eq(e.method, method);
	return e.call;
}

static void message(const struct duo *d, const char *text)
{
	struct flat_rpc_event e = next(d, FLAT_RPC_MESSAGE);

	cr_assert_eq(e.len, strlen(text));
	cr_assert_arr_eq(e.data, text, e.len);
}

static void ended(const struct duo *d, enum flat_rpc_status status, const char *text)
{
	struct flat_rpc_event e = next(d, FLAT_RPC_ENDED);

	cr_expect_eq(e.status, status, "%d", (int)e.status);
	cr_expect_str_eq(e.text, text);
	flat_rpc_release(e.call);
}

static bool has(const struct flat_rpc_event *e, const char *name, const char *value)
{
	for (size_t i = 0; i < e->n_metadata; i++) {
		const struct flat_rpc_field *f = &e->metadata[i];

		if (f->name_len == strlen(name) && memcmp(f->name, name, f->name_len) == 0)
			return f->value_len == strlen(value) &&
			       memcmp(f->value, value, f->value_len) == 0;
	}
	return false;
}

Test(rpc, a_call_has_metadata_messages_and_a_status)
{
	struct duo d = duo_open();
	struct flat_rpc_field asked[] = {{"x-a", 0, "1", 0}, {"x-long-name", 3, "abcd", 2}};
	struct flat_rpc_field first = {"x-first", 0, "f", 0};
	struct flat_rpc_field last = {"x-last", 0, "l", 0};
	struct flat_rpc_call *c = call(&d, "/s/M", asked, 2, 0);
	struct flat_rpc_event e;

	cr_assert_eq(flat_rpc_send(c, "one", 3), 0);
	cr_assert_eq(flat_rpc_send(c, "", 0), 0);
	cr_assert_eq(flat_rpc_send_end(c), 0);
	cr_expect_eq(flat_rpc_send(c, "x", 1), -EPIPE);
	e = next(&d, FLAT_RPC_CALLED);
	cr_expect_str_eq(e.method, "/s/M");
	cr_expect_eq(e.n_metadata, 2);
	cr_expect(has(&e, "x-a", "1"));
	cr_expect(has(&e, "x-l", "ab"));
	cr_assert_eq(flat_rpc_reply(e.call, &first, 1), 0);
	cr_expect_eq(flat_rpc_reply(e.call, &first, 1), -EPIPE);
	message(&d, "one");
	message(&d, "");
	e = next(&d, FLAT_RPC_SENT);
	cr_assert_eq(flat_rpc_send(e.call, "answer", 6), 0);
	cr_assert_eq(flat_rpc_finish(e.call, FLAT_RPC_NOT_FOUND, "50% of \xc3\xa9 gone", &last, 1),
		     0);
	e = next(&d, FLAT_RPC_METADATA);
	cr_expect(has(&e, "x-first", "f"));
	cr_expect_eq(e.n_metadata, 1);
	message(&d, "answer");
	e = next(&d, FLAT_RPC_ENDED);
	cr_expect_eq(e.status, FLAT_RPC_NOT_FOUND);
	cr_expect_str_eq(e.text, "50% of \xc3\xa9 gone");
	cr_expect(has(&e, "x-last", "l"));
	flat_rpc_release(e.call);
	flat_rpc_close(d.rpc);
}

Test(rpc, a_refusal_is_trailers_alone)
{
	struct duo d = duo_open();
	struct flat_rpc_field last = {"x-last", 0, "l", 0};
	struct flat_rpc_event e;

	(void)call(&d, "/s/M", NULL, 0, 0);
	cr_assert_eq(flat_rpc_finish(called(&d, "/s/M"), FLAT_RPC_UNIMPLEMENTED, "no", &last, 1),
		     0);
	e = next(&d, FLAT_RPC_ENDED);
	cr_expect_eq(e.status, FLAT_RPC_UNIMPLEMENTED);
	cr_expect_str_eq(e.text, "no");
	cr_expect(has(&e, "x-last", "l"));
	cr_expect_eq(e.n_metadata, 1);
	flat_rpc_close(d.rpc);
}

Test(rpc, metadata_cannot_say_more_than_itself)
{
	static const struct flat_rpc_field bad[] = {{"x-a", 0, "1\r\nx-b: 2", 0},
						    {"x-a\r\nb", 0, "1", 0},
						    {"X-A", 0, "1", 0},
						    {"x a", 0, "1", 0},
						    {":path", 0, "/", 0},
						    {"grpc-status", 0, "0", 0},
						    {"content-type", 0, "a", 0},
						    {"host", 0, "other", 0},
						    {"te", 0, "gzip", 0},
						    {"x-a", 0, " 1", 0},
						    {"x-a", 0, "\x7f", 0},
						    {"content-length", 0, "1", 0},
						    {"", 0, "1", 0}};
	struct duo d = duo_open();

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		struct flat_rpc_request r = {sizeof(r), "/s/M", &bad[i], 1, 0, NULL};
		struct flat_rpc_call *c;

		cr_expect_eq(flat_rpc_begin(d.channel, &r, &c), -EINVAL, "case %zu", i);
	}
	for (size_t i = 0; i < 4; i++) {
		static const char *const methods[] = {"", "s/M", "/s/M\r\nx: y", "/s M"};
		struct flat_rpc_request r = {sizeof(r), methods[i], NULL, 0, 0, NULL};
		struct flat_rpc_call *c;

		cr_expect_eq(flat_rpc_begin(d.channel, &r, &c), -EINVAL, "%s", methods[i]);
	}
	flat_rpc_close(d.rpc);
}

Test(rpc, a_deadline_ends_both_sides)
{
	struct duo d = duo_open();
	struct flat_rpc_event e;
	int seen = 0;

	(void)call(&d, "/s/M", NULL, 0, 50000);
	(void)called(&d, "/s/M");
	while (seen < 2) {
		cr_assert_eq(flat_rpc_next(d.rpc, &e, SOON_MS), 1);
		cr_assert_eq(e.kind, FLAT_RPC_ENDED);
		cr_expect(e.status == FLAT_RPC_DEADLINE_EXCEEDED || e.status == FLAT_RPC_CANCELLED);
		flat_rpc_release(e.call);
		seen++;
	}
	flat_rpc_close(d.rpc);
}

/* A call that its server cuts off in one turn with the answer to another one, which is told first; past its deadline, or without one. */
static void cut_call(bool reset, bool late, enum flat_rpc_status status, const char *text)
{
	struct duo d = duo_open();
	struct flat_rpc_call *first;
	struct flat_rpc_call *second;
	struct flat_rpc_call *c;

	(void)call(&d, "/s/First", NULL, 0, 0);
	c = call(&d, "/s/Second", NULL, 0, 0);
	first = called(&d, "/s/First");
	second = called(&d, "/s/Second");
	cr_assert_eq(flat_rpc_reply(first, NULL, 0), 0);
	if (reset)
		flat_rpc_release(second);
	else
		cr_assert_eq(flat_rpc_finish(second, FLAT_RPC_CANCELLED, "too late", NULL, 0), 0);
	(void)next(&d, FLAT_RPC_METADATA);
	/* By now the end of the second is here and nobody has looked at it: as if time had passed, which no test can rely on. */
	if (late)
		c->due_us = 1;
	ended(&d, status, text);
	flat_rpc_close(d.rpc);
}

Test(rpc, what_is_cut_off_past_its_deadline_has_met_it)
{
	cut_call(true, true, FLAT_RPC_DEADLINE_EXCEEDED, "deadline exceeded");
	cut_call(false, true, FLAT_RPC_DEADLINE_EXCEEDED, "deadline exceeded");
}

Test(rpc, what_is_cut_off_without_a_deadline_is_told_as_it_was)
{
	cut_call(true, false, FLAT_RPC_INTERNAL, "the stream was reset");
	cut_call(false, false, FLAT_RPC_CANCELLED, "too late");
}

Test(rpc, who_gives_a_call_back_cancels_it_and_no_other)
{
	struct duo d = duo_open();
	struct flat_rpc_call *c = call(&d, "/s/Gone", NULL, 0, 0);
	struct flat_rpc_call *other = call(&d, "/s/Stays", NULL, 0, 0);
	struct flat_rpc_call *served[2];

	served[0] = called(&d, "/s/Gone");
	served[1] = called(&d, "/s/Stays");
	flat_rpc_release(c);
	cr_assert_eq(next(&d, FLAT_RPC_ENDED).call, served[0]);
	cr_expect_eq(flat_rpc_send(served[0], "x", 1), -EPIPE);
	flat_rpc_release(served[0]);
	cr_assert_eq(flat_rpc_send(served[1], "x", 1), 0);
	cr_assert_eq(next(&d, FLAT_RPC_METADATA).call, other);
	message(&d, "x");
	flat_rpc_release(served[1]);
	ended(&d, FLAT_RPC_INTERNAL, "the stream was reset");
	flat_rpc_close(d.rpc);
}

Test(rpc, nobody_there_is_UNAVAILABLE_and_the_channel_tries_again)
{
	struct duo d = duo_open();
	struct flat_rpc *server;
	struct flat_rpc_channel *channel;
	struct flat_rpc_request r = {sizeof(r), "/s/M", NULL, 0, 0, NULL};
	struct flat_rpc_call *c;
	struct flat_rpc_event e;
	char target[32];
	int port;

	cr_assert_eq(flat_rpc_open(&server), 0);
	port = flat_rpc_listen(server, "127.0.0.1", 0);
	snprintf(target, sizeof(target), "127.0.0.1:%d", port);
	cr_assert_eq(flat_rpc_channel_open(d.rpc, target, &channel), 0);
	flat_rpc_close(server);
	cr_assert_eq(flat_rpc_begin(channel, &r, &c), 0);
	ended(&d, FLAT_RPC_UNAVAILABLE, strerror(ECONNREFUSED));
	cr_assert_eq(flat_rpc_listen(d.rpc, "127.0.0.1", (uint16_t)port), port);
	cr_assert_eq(flat_rpc_begin(channel, &r, &c), 0);
	cr_assert_eq(flat_rpc_finish(called(&d, "/s/M"), FLAT_RPC_OK, NULL, NULL, 0), 0);
	ended(&d, FLAT_RPC_OK, "");
	/* And a channel that is closed takes its calls with it. */
	cr_assert_eq(flat_rpc_begin(channel, &r, &c), 0);
	flat_rpc_channel_close(channel);
	do
		cr_assert_eq(flat_rpc_next(d.rpc, &e, SOON_MS), 1);
	while (e.call != c);
	cr_expect_eq(e.status, FLAT_RPC_UNAVAILABLE);
	flat_rpc_close(d.rpc);
}

Test(rpc, a_reader_that_holds_stops_its_writer)
{
	struct duo d = duo_open();
	struct flat_rpc_call *c = call(&d, "/s/M", NULL, 0, 0);
	struct flat_rpc_call *s = called(&d, "/s/M");
	struct flat_rpc_event e;
	static uint8_t blob[50000];
	unsigned sent = 0;
	unsigned got = 0;
	int ret;

	flat_rpc_hold(s, 1);
	/* 64 KiB of a window, 32 KiB in the codec, one message here: then no more is taken. */
	while ((ret = flat_rpc_send(c, blob, sizeof(blob))) == 0) {
		sent++;
		cr_assert_eq(flat_rpc_next(d.rpc, &e, 0), 0);
		cr_assert_lt(sent, 8U);
	}
	cr_assert_eq(ret, -EAGAIN);
	cr_assert_eq(flat_rpc_next(d.rpc, &e, 20), 0);
	flat_rpc_hold(s, 0);
	while (got < sent) {
		cr_assert_eq(flat_rpc_next(d.rpc, &e, SOON_MS), 1);
		if (e.kind == FLAT_RPC_WRITABLE) {
			cr_assert_eq(e.call, c);
			cr_assert_eq(flat_rpc_send(c, blob, sizeof(blob)), 0);
			sent++;
			cr_assert_eq(flat_rpc_send_end(c), 0);
			continue;
		}
		cr_assert_eq(e.kind, FLAT_RPC_MESSAGE);
		cr_assert_eq(e.len, sizeof(blob));
		got++;
	}
	(void)next(&d, FLAT_RPC_SENT);
	flat_rpc_close(d.rpc);
}

Test(rpc, messages_are_as_large_as_gRPC_has_them)
{
	struct duo d = duo_open();
	size_t max = (size_t)4 * 1024 * 1024;
	uint8_t *blob = calloc(1, max + 1);
	struct flat_rpc_call *c = call(&d, "/s/M", NULL, 0, 0);
	struct flat_rpc_event e;

	cr_assert_not_null(blob);
	for (size_t i = 0; i < max; i++)
		blob[i] = (uint8_t)(i * 7 + i / 251);
	cr_expect_eq(flat_rpc_send(c, blob, max + 1), -EMSGSIZE);
	cr_assert_eq(flat_rpc_send(c, blob, max), 0);
	cr_assert_eq(flat_rpc_send_end(c), 0);
	(void)called(&d, "/s/M");
	e = next(&d, FLAT_RPC_MESSAGE);
	cr_assert_eq(e.len, max);
	cr_expect(memcmp(e.data, blob, max) == 0);
	free(blob);
	flat_rpc_close(d.rpc);
}

Test(rpc, calls_are_used_again)
{
	struct duo d = duo_open();

	for (int i = 0; i < 2000; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%d", i);
		struct flat_rpc_call *c = call(&d, "/s/M", NULL, 0, 1000000);
		cr_assert_eq(flat_rpc_send(c, text, strlen(text)), 0);
		cr_assert_eq(flat_rpc_send_end(c), 0);
		struct flat_rpc_call *s = called(&d, "/s/M");
		message(&d, text);
		(void)next(&d, FLAT_RPC_SENT);
		cr_assert_eq(flat_rpc_send(s, text, strlen(text)), 0);
		cr_assert_eq(flat_rpc_finish(s, FLAT_RPC_OK, NULL, NULL, 0), 0);
		(void)next(&d, FLAT_RPC_METADATA);
		message(&d, text);
		ended(&d, FLAT_RPC_OK, "");
	}
	flat_rpc_close(d.rpc);
}

/* --- peers that are no gRPC's --- */

#define HEAD ":method=POST|:scheme=http|:authority=h|:path=/s/M|content-type="

static int dial(int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static int say(const struct duo *d, const struct frames *f)
{
	int fd = dial(d->port);

	cr_assert_eq(write(fd, f->v, f->len), (ssize_t)f->len);
	return fd;
}

/* Events until nothing happens any more: the last status, or -1. */
static int last_status(const struct duo *d, unsigned *calls, unsigned *messages)
{
	struct flat_rpc_event e;
	int status = -1;

	*calls = *messages = 0;
	while (flat_rpc_next(d->rpc, &e, 100) == 1) {
		*calls += e.kind == FLAT_RPC_CALLED;
		*messages += e.kind == FLAT_RPC_MESSAGE;
		if (e.kind == FLAT_RPC_ENDED) {
			status = (int)e.status;
			flat_rpc_release(e.call);
		}
	}
	return status;
}

Test(rpc, what_is_no_call_of_gRPC_is_never_told)
{
	static const char *const heads[] = {
	    HEAD "text/plain",
	    ":method=GET|:scheme=http|:authority=h|:path=/s/M|content-type=application/grpc",
	    HEAD "application/grpc-web", ":method=POST|:scheme=http|:authority=h|:path=/s/M"};
	static struct frames f;
	struct duo d = duo_open();
	unsigned calls;
	unsigned messages;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(heads); i++) {
		char answer[4096];

		frames_begin(&f);
		frames_headers(&f, ALL, 1, heads[i]);
		int fd = say(&d, &f);
		(void)last_status(&d, &calls, &messages);
		cr_expect_eq(calls, 0, "%s", heads[i]);
		cr_expect_gt(read(fd, answer, sizeof(answer)), 0);
		close(fd);
	}
	int fd = dial(d.port);
	cr_assert_eq(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	(void)last_status(&d, &calls, &messages);
	cr_expect_eq(calls, 0);
	close(fd);
	flat_rpc_close(d.rpc);
}

Test(rpc, messages_that_are_none_end_their_call)
{
	static const struct {
		const char *what;
		const char *bytes;
		size_t len;
		unsigned messages;
		int status;
	} cases[] = {
	    {"whole", "\0\0\0\0\1a\0\0\0\0\1b", 12, 2, -1},
	    {"compressed", "\1\0\0\0\1a", 6, 0, FLAT_RPC_INTERNAL},
	    {"too large", "\0\0\x40\0\1a", 6, 0, FLAT_RPC_RESOURCE_EXHAUSTED},
	    {"far too large", "\0\xff\xff\xff\xff\xff", 6, 0, FLAT_RPC_RESOURCE_EXHAUSTED},
	    {"compressed after another", "\0\0\0\0\1a\1\0\0\0\1a", 12, 1, FLAT_RPC_INTERNAL},
	    {"not whole", "\0\0\0\0\3a", 6, 0, -1},
	};
	static struct frames f;
	struct duo d = duo_open();

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		unsigned calls;
		unsigned messages;

		frames_begin(&f);
		frames_headers(&f, END_HEADERS, 1, HEAD "application/grpc");
		frames_frame(&f, 0, 0, 1, cases[i].bytes, cases[i].len);
		int fd = say(&d, &f);
		int status = last_status(&d, &calls, &messages);
		cr_expect_eq(calls, 1, "%s", cases[i].what);
		cr_expect_eq(messages, cases[i].messages, "%s: %u", cases[i].what, messages);
		cr_expect_eq(status, cases[i].status, "%s: %d", cases[i].what, status);
		close(fd);
		status = last_status(&d, &calls, &messages);
		cr_expect_eq(status, cases[i].status == -1 ? (int)FLAT_RPC_CANCELLED : -1, "%s: %d",
			     cases[i].what, status);
	}
	flat_rpc_close(d.rpc);
}

Test(rpc, a_message_that_breaks_off_is_no_end)
{
	static struct frames f;
	struct duo d = duo_open();
	unsigned calls;
	unsigned messages;

	frames_begin(&f);
	frames_headers(&f, END_HEADERS, 1, HEAD "application/grpc");
	frames_frame(&f, 0, END_STREAM, 1, "\0\0\0\0\1a\0\0\0\0\2b", 12);
	int fd = say(&d, &f);
	cr_expect_eq(last_status(&d, &calls, &messages), FLAT_RPC_INTERNAL);
	cr_expect_eq(messages, 1);
	close(fd);
	flat_rpc_close(d.rpc);
}
