/*
 * What an external authorizer is asked over gRPC and what it says, as in Envoy 1.40: which of two headers of a name counts, what is taken
 * away, what of the client's answer takes the place of the server's, errors.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/protobuf.h"
#include "offload/l7_check_grpc.h"
#include "support_calls.h"

/* How a header is to be put: append_action, or `append` above them. */
enum { NO_APPEND = FLAT_L7_SAYS, APPEND, NOTHING };

static void put_header(struct flat_strbuf *out, uint32_t number, const char *name,
		       const char *value, unsigned how)
{
	struct flat_strbuf option = {0}, wrapped = {0};

	calls_put_pair(&option, 1, name, value);
	if (how == APPEND)
		flat_protobuf_put_number(&wrapped, 1, 1);
	if (how == APPEND || how == NO_APPEND)
		flat_protobuf_put_message(&option, 2, &wrapped);
	if (how < FLAT_L7_SAYS)
		flat_protobuf_put_number(&option, 3, how);
	flat_protobuf_put_message(out, number, &option);
	flat_strbuf_fini(&option);
	flat_strbuf_fini(&wrapped);
}

/* A message with its prefix of 5 bytes; `message` is used up. */
static int read_framed(struct flat_strbuf *message, struct flat_l7_check_answer *a)
{
	struct flat_strbuf framed = {0};
	int ret;

	flat_strbuf_putc(&framed, 0);
	for (int shift = 24; shift >= 0; shift -= 8)
		flat_strbuf_putc(&framed, (char)(message->len >> shift));
	flat_strbuf_add(&framed, message->data, message->len);
	memset(a, 0, sizeof(*a));
	ret = flat_l7_check_grpc_read(framed.data, framed.len, a);
	flat_strbuf_fini(&framed);
	flat_strbuf_fini(message);
	return ret;
}

/* The answer with status `code`, in which `part`, used up, is field `number`. */
static int read_answer(unsigned code, uint32_t number, struct flat_strbuf *part,
		       struct flat_l7_check_answer *a)
{
	struct flat_strbuf status = {0}, message = {0};

	flat_protobuf_put_number(&status, 1, code);
	flat_protobuf_put_message(&message, 1, &status);
	flat_protobuf_put_message(&message, number, part);
	flat_strbuf_fini(&status);
	flat_strbuf_fini(part);
	*part = (struct flat_strbuf){0};
	return read_framed(&message, a);
}

static const char *text_of(const struct flat_strbuf *sb)
{
	return sb->len ? sb->data : "";
}

Test(l7_check, of_a_requests_header_the_last_counts_and_what_is_removed_is_gone)
{
	struct flat_l7_check_answer a;
	struct flat_strbuf ok = {0};

	flat_protobuf_put_text(&ok, 5, "x-gone");
	put_header(&ok, 2, "x-a", "1", NOTHING);
	put_header(&ok, 2, "x-b", "2", APPEND);
	put_header(&ok, 2, "X-A", "3", NO_APPEND);
	put_header(&ok, 2, "x-gone", "4", NOTHING);
	put_header(&ok, 2, "x-gone", "5", APPEND);
	put_header(&ok, 2, "x-b", "6", APPEND);
	/* append_action says nothing of a request. */
	put_header(&ok, 2, "x-c", "7", FLAT_L7_SAY_ADD_ABSENT);
	cr_assert_eq(read_answer(0, 3, &ok, &a), 0);
	cr_expect(a.allowed);
	cr_expect_str_eq(text_of(&a.upstream), "X-A: 3\r\nx-c: 7\r\n");
	cr_expect_str_eq(text_of(&a.append), "x-b: 2\r\nx-b: 6\r\n");
	cr_expect_str_eq(text_of(&a.remove), "x-gone");
	flat_l7_check_answer_fini(&a);
}

/* Protobuf's rules: the last one counts, what is unknown or of another wire type does not, and of a message said twice all. */
Test(l7_check, whether_a_value_is_appended_is_a_bool_value)
{
	static const struct {
		struct flat_span wrapped[2];
		int ret;
		bool append;
	} some[] = {
	    {{{"", 0}}, 0, false},
	    {{{"\x08\x01", 2}}, 0, true},
	    {{{"\x08\x01\x10\x00", 4}}, 0, true},
	    {{{"\x08\x01\x12\x00", 4}}, 0, true},
	    {{{"\x10\x01", 2}}, 0, false},
	    {{{"\x08\x01\x0a\x01\x00", 5}}, 0, true},
	    {{{"\x0a\x01\x01", 3}}, 0, false},
	    {{{"\x08\x01\x08\x00", 4}}, 0, false},
	    {{{"\x08\x00\x08\x01", 4}}, 0, true},
	    {{{"\x08\x80\x80\x80\x80\x10", 6}}, 0, true},
	    {{{"\x08\x01", 2}, {"", 0}}, 0, true},
	    {{{"\x08\x01", 2}, {"\x08\x00", 2}}, 0, false},
	    {{{"\x08", 1}}, -EBADMSG, false},
	    {{{"\x08\x01\x12\x01", 4}}, -EBADMSG, false},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		struct flat_l7_check_answer a;
		struct flat_strbuf ok = {0}, option = {0};

		calls_put_pair(&option, 1, "x-a", "1");
		for (size_t k = 0; k < 2 && some[i].wrapped[k].text; k++)
			flat_protobuf_put_bytes(&option, 2, some[i].wrapped[k].text,
						some[i].wrapped[k].len);
		flat_protobuf_put_message(&ok, 2, &option);
		cr_expect_eq(read_answer(0, 3, &ok, &a), some[i].ret, "%zu", i);
		if (some[i].ret == 0) {
			cr_expect_eq(a.append.len > 0, some[i].append, "%zu", i);
			cr_expect_eq(a.upstream.len > 0, !some[i].append, "%zu", i);
		}
		flat_l7_check_answer_fini(&a);
		flat_strbuf_fini(&option);
	}
}

Test(l7_check, who_is_let_through_does_not_go_without_a_header_that_cannot_be)
{
	static const struct {
		const char *name, *value;
		int ret;
	} some[] = {
	    {"x-a", "b\r\nx-c: d", -EBADMSG},
	    {"x a", "b", -EBADMSG},
	    {"x-a", "b\tc", 0},
	    {"host", "forged", 0},
	    {":path", "/forged", 0},
	    {"content-length", "3", 0},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		struct flat_l7_check_answer a;
		struct flat_strbuf ok = {0}, denied = {0};

		put_header(&ok, 2, some[i].name, some[i].value, NOTHING);
		cr_expect_eq(read_answer(0, 3, &ok, &a), some[i].ret, "%zu", i);
		cr_expect_eq(a.upstream.len > 0, strcmp(some[i].value, "b\tc") == 0, "%zu", i);
		flat_l7_check_answer_fini(&a);
		/* Who is not stays out. */
		put_header(&denied, 2, some[i].name, some[i].value, NOTHING);
		cr_expect_eq(read_answer(7, 2, &denied, &a), 0, "%zu", i);
		cr_expect(!a.allowed && !a.error && a.status == 403, "%zu", i);
		flat_l7_check_answer_fini(&a);
	}
}

Test(l7_check, the_clients_answer_is_changed_as_is_said)
{
	static const char head[] =
	    "HTTP/1.1 200 OK\r\nx-a: server\r\nx-b: server\r\nContent-Length: 0\r\n\r\n";
	static struct flat_http1 p;
	struct flat_l7_check_answer a;
	struct flat_strbuf ok = {0};
	char written[512];
	struct flat_http1_out out = {.bytes = (uint8_t *)written, .size = sizeof(written)};

	put_header(&ok, 6, "x-a", "added", NOTHING);
	put_header(&ok, 6, "x-new", "added", APPEND);
	put_header(&ok, 6, "x-b", "gone", NO_APPEND);
	put_header(&ok, 6, "x-b", "set", FLAT_L7_SAY_SET);
	put_header(&ok, 6, "x-a", "no", FLAT_L7_SAY_ADD_ABSENT);
	put_header(&ok, 6, "x-c", "absent", FLAT_L7_SAY_ADD_ABSENT);
	put_header(&ok, 6, "x-d", "no", FLAT_L7_SAY_SET_PRESENT);
	cr_assert_eq(read_answer(0, 3, &ok, &a), 0);
	flat_http1_begin(&p, FLAT_HTTP1_RESPONSE);
	cr_assert_gt(flat_http1_read(&p, (const uint8_t *)head, sizeof(head) - 1), 0);
	flat_l7_said_answer(&a, &p.head, head, &out);
	written[out.len] = '\0';
	cr_expect_str_eq(written, "x-a: added\r\nx-new: added\r\nx-c: absent\r\nx-b: set\r\n");
	cr_expect(flat_l7_said_takes(&a, flat_span_of("X-B")));
	cr_expect_not(flat_l7_said_takes(&a, flat_span_of("x-a")));
	flat_l7_check_answer_fini(&a);
}

Test(l7_check, parameters_of_the_query_are_set_once_and_taken_away)
{
	struct flat_l7_check_answer a;
	struct flat_strbuf ok = {0};

	flat_protobuf_put_text(&ok, 8, "gone");
	calls_put_pair(&ok, 7, "a", "1");
	calls_put_pair(&ok, 7, "b", "x y#\x80");
	calls_put_pair(&ok, 7, "gone", "2");
	calls_put_pair(&ok, 7, "a", "3");
	calls_put_pair(&ok, 7, "", "4");
	cr_assert_eq(read_answer(0, 3, &ok, &a), 0);
	cr_expect_str_eq(text_of(&a.query), "b=x%20y%23%80&a=3&");
	flat_l7_check_answer_fini(&a);
}

Test(l7_check, an_error_is_the_authorizers_own_word)
{
	struct flat_l7_check_answer a;
	struct flat_strbuf part = {0}, status = {0};

	flat_protobuf_put_number(&status, 1, 504);
	flat_protobuf_put_bytes(&part, 1, status.data, status.len);
	flat_protobuf_put_text(&part, 3, "words");
	put_header(&part, 2, "x-a", "b", NOTHING);
	cr_assert_eq(read_answer(14, 5, &part, &a), 0);
	cr_expect(a.error && !a.allowed && a.status == 504);
	cr_expect_str_eq(text_of(&a.body), "words");
	cr_expect_str_eq(text_of(&a.client[FLAT_L7_SAY_ADD]), "x-a: b\r\n");
	flat_l7_check_answer_fini(&a);
	cr_assert_eq(read_answer(14, 5, &part, &a), 0);
	cr_expect(a.error && a.status == 0);
	flat_l7_check_answer_fini(&a);
	/* Beside a status that allows it is nothing. */
	cr_assert_eq(read_answer(0, 5, &part, &a), 0);
	cr_expect(a.allowed && !a.error);
	flat_l7_check_answer_fini(&a);
	flat_strbuf_fini(&status);
}

/* The `n`th field of that number; absent: there is none. */
static struct flat_span field(struct flat_span message, uint32_t number, unsigned n)
{
	struct flat_protobuf_field f;
	size_t at = 0;

	while (flat_protobuf_next((const uint8_t *)message.text, message.len, &at, &f) > 0) {
		if (f.number == number && f.is_bytes && n-- == 0)
			return (struct flat_span){(const char *)f.bytes, f.len};
	}
	return (struct flat_span){NULL, 0};
}

/* The first field at a path of numbers. */
static struct flat_span at(const struct flat_strbuf *message, const uint32_t *path)
{
	struct flat_span got = {message->data, message->len};

	for (; *path && got.text; path++)
		got = field(got, *path, 0);
	return got;
}

#define AT(...) at(&out, (const uint32_t[]){__VA_ARGS__, 0})
#define IS(text, span) flat_span_equal(flat_span_of(text), (span), false)

Test(l7_check, about_a_connection_its_two_sides_are_told_and_no_request)
{
	struct flat_addr from = {.family = AF_INET, .ip = {10, 0, 0, 1}, .port = 1234};
	struct flat_addr to = {.family = AF_INET, .ip = {10, 0, 0, 2}, .port = 80};
	struct flat_l7_check_party client = {&from, "cluster.local/ns/a/sa/b"};
	struct flat_l7_check_party server = {&to, NULL};
	struct flat_strbuf out = {0};

	flat_l7_check_grpc_connection(&out, &client, &server);
	cr_assert_not(out.failed);
	cr_expect(IS("10.0.0.1", AT(1, 1, 1, 1, 2)));
	cr_expect(IS("spiffe://cluster.local/ns/a/sa/b", AT(1, 1, 4)));
	cr_expect(IS("10.0.0.2", AT(1, 2, 1, 1, 2)));
	cr_expect_null(AT(1, 2, 4).text);
	cr_expect_null(AT(1, 4).text);
	flat_strbuf_fini(&out);
}

/* A header of AttributeContext.HttpRequest. */
static struct flat_span header(struct flat_span http, const char *name)
{
	struct flat_span entry;

	for (unsigned i = 0; (entry = field(http, 3, i)).text; i++) {
		if (flat_span_equal(field(entry, 1, 0), flat_span_of(name), false))
			return field(entry, 2, 0);
	}
	return entry;
}

static void expect_span(struct flat_span got, const char *want)
{
	cr_expect(flat_span_equal(got, flat_span_of(want), false), "%.*s is not %s", (int)got.len,
		  got.text ? got.text : "-", want);
}

/* What is asked of a gateway's client about a request with these fields: `out`, and in it AttributeContext.HttpRequest. */
static struct flat_span question(const struct flat_ext_authz *ext, const char *fields,
				 const struct flat_l7_check_body *body, struct flat_strbuf *out)
{
	static struct flat_l7 l7;
	static struct flat_conn conn = {.id = 7};
	char text[1024];
	struct flat_http_request r = {
	    .method = flat_span_of("PUT"),
	    .path = flat_span_of("/a"),
	    .query = flat_span_of("q"),
	    .authority = flat_span_of("web.example"),
	    .head = &l7.in.head,
	    .text = text,
	};
	const char *message;

	l7.conn = &conn;
	l7.root = &l7;
	snprintf(text, sizeof(text), "PUT /a?q HTTP/1.1\r\nHost: web.example\r\n%s\r\n", fields);
	flat_http1_begin(&l7.in, FLAT_HTTP1_REQUEST);
	cr_assert_gt(flat_http1_read(&l7.in, (const uint8_t *)text, strlen(text)), 0);
	flat_l7_check_grpc_write(out, &l7, FLAT_L7_ASKED_BY_GATE, ext, &r, body);
	message = memmem(out->data, out->len, "\r\n\r\n", 4) + 4 + 5;
	return field(
	    field(
		field((struct flat_span){message, (size_t)(out->data + out->len - message)}, 1, 0),
		4, 0),
	    2, 0);
}

Test(l7_check, the_question_is_about_all_that_the_client_said)
{
	static const struct flat_ext_authz ext = {.host = "ext.example", .timeout_ms = 250};
	struct flat_strbuf out = {0};
	struct flat_span http = question(
	    &ext, "X-A: 1\r\nCookie: c\r\nx-a: 2\r\nConnection: x-hop\r\nx-hop: 3\r\n", NULL, &out);

	cr_expect_not_null(strstr(out.data, "\r\ngrpc-timeout: 250m\r\n"));
	expect_span(field(http, 2, 0), "PUT");
	expect_span(field(http, 4, 0), "/a?q");
	expect_span(field(http, 5, 0), "web.example");
	expect_span(header(http, ":path"), "/a?q");
	/* One entry for a name, in small letters. */
	expect_span(header(http, "x-a"), "1,2");
	expect_span(header(http, "cookie"), "c");
	cr_expect_null(header(http, "x-hop").text);
	flat_strbuf_fini(&out);
}

Test(l7_check, no_client_makes_the_question_one_that_cannot_be_read)
{
	/* An authorizer refuses a message with a string that is not UTF-8; with failOpen whoever sent one would go unasked. */
	static const struct flat_ext_authz ext = {.host = "ext.example", .body_max = 8};
	static const struct flat_ext_authz raw = {
	    .host = "e", .body_max = 8, .body_as_bytes = true};
	struct flat_l7_check_body body = {.partial = false};
	struct flat_strbuf out = {0};
	struct flat_span http;

	flat_strbuf_puts(&body.bytes, "a\xff");
	http =
	    question(&ext, "X-A: \xe9\xc3\xa9\r\nX-Envoy-Auth-Partial-Body: true\r\n", &body, &out);
	expect_span(header(http, "x-a"), "!\xc3\xa9");
	expect_span(field(http, 11, 0), "a!");
	expect_span(header(http, "x-envoy-auth-partial-body"), "false");
	flat_strbuf_fini(&out);
	http = question(&raw, "", &body, &out);
	expect_span(field(http, 12, 0), "a\xff");
	cr_expect_null(field(http, 11, 0).text);
	flat_strbuf_fini(&out);
	flat_strbuf_fini(&body.bytes);
	/* Whether a body is whole is ours to say, and nothing is said of none. */
	http = question(&ext, "X-Envoy-Auth-Partial-Body: true\r\n", NULL, &out);
	cr_expect_null(header(http, "x-envoy-auth-partial-body").text);
	flat_strbuf_fini(&out);
}

Test(l7_check, an_answer_cut_anywhere_lets_nobody_through)
{
	struct flat_strbuf ok = {0}, message = {0};
	char whole[256];
	size_t len;

	put_header(&ok, 2, "x-a", "1", APPEND);
	put_header(&ok, 6, "x-b", "2", FLAT_L7_SAY_SET);
	calls_put_pair(&ok, 7, "q", "3");
	flat_strbuf_putc(&message, 0);
	for (int i = 0; i < 4; i++)
		flat_strbuf_putc(&message, 0);
	flat_protobuf_put_message(&message, 3, &ok);
	len = message.len;
	cr_assert_lt(len, sizeof(whole));
	memcpy(whole, message.data, len);
	for (size_t cut = 0; cut <= len; cut++) {
		struct flat_l7_check_answer a = {.allowed = false};
		int ret;

		whole[4] = (char)(cut > 5 ? cut - 5 : 0);
		ret = flat_l7_check_grpc_read(whole, cut, &a);
		/* Without anything it is an answer whose status is the default: 0. */
		cr_expect_eq(ret, cut == 5 || cut == len ? 0 : -EBADMSG, "cut at %zu", cut);
		flat_l7_check_answer_fini(&a);
	}
	/* Nor does a length that is not the message's, or one that is compressed. */
	for (size_t i = 0; i < 5; i++) {
		struct flat_l7_check_answer a = {.allowed = false};

		whole[4] = (char)(len - 5);
		whole[i] ^= 1;
		cr_expect_eq(flat_l7_check_grpc_read(whole, len, &a), -EBADMSG, "byte %zu", i);
		whole[i] ^= 1;
		flat_l7_check_answer_fini(&a);
	}
	flat_strbuf_fini(&ok);
	flat_strbuf_fini(&message);
}

Test(l7_check, a_status_that_is_none_of_http_is_403)
{
	static const struct {
		unsigned said, want;
	} some[] = {{200, 200}, {199, 403}, {401, 401}, {599, 599}, {600, 403}, {0, 403}};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		struct flat_l7_check_answer a;
		struct flat_strbuf part = {0}, status = {0};

		flat_protobuf_put_number(&status, 1, some[i].said);
		flat_protobuf_put_message(&part, 1, &status);
		cr_assert_eq(read_answer(7, 2, &part, &a), 0);
		cr_expect_eq(a.status, some[i].want, "%u: %u", some[i].said, a.status);
		cr_expect(!a.allowed && !a.error);
		flat_l7_check_answer_fini(&a);
		flat_strbuf_fini(&status);
	}
}
