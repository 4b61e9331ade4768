/*
 * What an external authorizer says over gRPC, as Envoy 1.40 takes it: which of two headers of a name counts, what is taken away, what of
 * the client's answer takes the place of the server's, errors.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "codec/protobuf.h"
#include "offload/l7_check_grpc.h"

/* How a header is to be put: append_action, or `append` above them. */
enum { NO_APPEND = FLAT_L7_SAYS, APPEND, NOTHING };

static void put_header(struct flat_strbuf *out, uint32_t number, const char *name,
		       const char *value, unsigned how)
{
	struct flat_strbuf pair = {0}, option = {0}, wrapped = {0};

	flat_protobuf_put_text(&pair, 1, name);
	flat_protobuf_put_text(&pair, 2, value);
	flat_protobuf_put_bytes(&option, 1, pair.data, pair.len);
	if (how == APPEND)
		flat_protobuf_put_number(&wrapped, 1, 1);
	if (how == APPEND || how == NO_APPEND)
		flat_protobuf_put_bytes(&option, 2, wrapped.len ? wrapped.data : "", wrapped.len);
	if (how < FLAT_L7_SAYS)
		flat_protobuf_put_number(&option, 3, how);
	flat_protobuf_put_bytes(out, number, option.data, option.len);
	flat_strbuf_fini(&pair);
	flat_strbuf_fini(&option);
	flat_strbuf_fini(&wrapped);
}

static void put_param(struct flat_strbuf *out, const char *name, const char *value)
{
	struct flat_strbuf pair = {0};

	flat_protobuf_put_text(&pair, 1, name);
	flat_protobuf_put_text(&pair, 2, value);
	flat_protobuf_put_bytes(out, 7, pair.data, pair.len);
	flat_strbuf_fini(&pair);
}

/* The answer with status `code`, in which `part`, used up, is field `number`. */
static int read_answer(unsigned code, uint32_t number, struct flat_strbuf *part,
		       struct flat_l7_check_answer *a)
{
	struct flat_strbuf status = {0}, message = {0}, framed = {0};
	int ret;

	memset(a, 0, sizeof(*a));
	flat_protobuf_put_number(&status, 1, code);
	flat_protobuf_put_bytes(&message, 1, status.data, status.len);
	flat_protobuf_put_bytes(&message, number, part->len ? part->data : "", part->len);
	flat_strbuf_putc(&framed, 0);
	for (int shift = 24; shift >= 0; shift -= 8)
		flat_strbuf_putc(&framed, (char)(message.len >> shift));
	flat_strbuf_add(&framed, message.data, message.len);
	ret = flat_l7_check_grpc_read(framed.data, framed.len, a);
	flat_strbuf_fini(&status);
	flat_strbuf_fini(&message);
	flat_strbuf_fini(&framed);
	flat_strbuf_fini(part);
	*part = (struct flat_strbuf){0};
	return ret;
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
	put_param(&ok, "a", "1");
	put_param(&ok, "b", "x y#\x80");
	put_param(&ok, "gone", "2");
	put_param(&ok, "a", "3");
	put_param(&ok, "", "4");
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

/* The text at a path of fields. */
static struct flat_span at(const void *bytes, size_t len, const uint32_t *path)
{
	struct flat_protobuf_field f = {.bytes = bytes, .len = len};

	for (; *path; path++) {
		const uint8_t *in = f.bytes;
		size_t size = f.len;
		size_t pos = 0;

		do {
			if (flat_protobuf_next(in, size, &pos, &f) <= 0)
				return (struct flat_span){NULL, 0};
		} while (f.number != *path);
	}
	return (struct flat_span){(const char *)f.bytes, f.len};
}

#define AT(...) at(out.data, out.len, (const uint32_t[]){__VA_ARGS__, 0})
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
