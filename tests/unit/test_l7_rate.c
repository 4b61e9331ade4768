/*
 * Messages of rate limit services (envoy.service.ratelimit.v3), as Envoy 1.40 writes and takes them: descriptors, what lets pass, what a
 * client is told of the limit with the least left.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "codec/protobuf.h"
#include "offload/l7_limit.h"
#include "offload/l7_rate.h"
#include "support_calls.h"

static const char *text_of(const struct flat_strbuf *sb)
{
	return sb->len ? sb->data : "";
}

static void answer_fini(struct flat_l7_rate_answer *a)
{
	flat_strbuf_fini(&a->client);
	flat_strbuf_fini(&a->upstream);
	flat_strbuf_fini(&a->body);
	flat_strbuf_fini(&a->told);
}

/* `message` is used up. */
static int read_answer(struct flat_strbuf *message, struct flat_l7_rate_answer *a)
{
	int ret;

	memset(a, 0, sizeof(*a));
	ret = flat_l7_rate_read((const uint8_t *)message->data, message->len, a);
	flat_strbuf_fini(message);
	*message = (struct flat_strbuf){0};
	return ret;
}

/* DescriptorStatus, with a limit where `unit` is not 0. */
static void put_status(struct flat_strbuf *out, unsigned limit, unsigned unit, const char *name,
		       unsigned left, unsigned reset_s)
{
	struct flat_strbuf status = {0}, part = {0};

	if (unit) {
		flat_protobuf_put_number(&part, 1, limit);
		flat_protobuf_put_number(&part, 2, unit);
		flat_protobuf_put_text(&part, 3, name);
		flat_protobuf_put_message(&status, 2, &part);
	}
	flat_protobuf_put_number(&status, 3, left);
	flat_protobuf_put_number(&part, 1, reset_s);
	flat_protobuf_put_message(&status, 4, &part);
	flat_protobuf_put_message(out, 2, &status);
	flat_strbuf_fini(&status);
	flat_strbuf_fini(&part);
}

Test(l7_rate, only_over_limit_refuses)
{
	/* UNKNOWN, OK, OVER_LIMIT, and one that is none. */
	for (unsigned code = 0; code < 4; code++) {
		struct flat_l7_rate_answer a;
		struct flat_strbuf message = {0};

		flat_protobuf_put_number(&message, 1, code);
		cr_assert_eq(read_answer(&message, &a), 0);
		cr_expect_eq(a.over, code == 2, "%u", code);
		answer_fini(&a);
	}
}

Test(l7_rate, a_client_is_told_of_the_limit_with_the_least_left_and_of_all)
{
	struct flat_l7_rate_answer a;
	struct flat_strbuf message = {0};

	put_status(&message, 0, 0, "", 1, 1);
	put_status(&message, 100, 2, "minute", 7, 30);
	put_status(&message, 5, 1, "a\"b", 3, 1);
	put_status(&message, 9, 4, "", 3, 9);
	/* Of a unit that is none the window is not known. */
	put_status(&message, 8, 99, "odd", 8, 8);
	cr_assert_eq(read_answer(&message, &a), 0);
	cr_expect_str_eq(text_of(&a.told),
			 "x-ratelimit-limit: 5, 100;w=60;name=\"minute\", 5;w=1, 9;w=86400\r\n"
			 "x-ratelimit-remaining: 3\r\nx-ratelimit-reset: 1\r\n");
	answer_fini(&a);
	/* Where it says no limit, nothing is told. */
	put_status(&message, 0, 0, "", 1, 1);
	cr_assert_eq(read_answer(&message, &a), 0);
	cr_expect_str_eq(text_of(&a.told), "");
	answer_fini(&a);
}

Test(l7_rate, headers_that_frame_a_message_or_cannot_be_are_left_out)
{
	struct flat_l7_rate_answer a;
	struct flat_strbuf message = {0};

	for (uint32_t number = 3; number <= 4; number++) {
		calls_put_pair(&message, number, "x-a", number == 3 ? "client" : "server");
		calls_put_pair(&message, number, "Content-Length", "0");
		calls_put_pair(&message, number, "transfer-encoding", "chunked");
		calls_put_pair(&message, number, ":status", "200");
		calls_put_pair(&message, number, "x-b", "c\r\nx-forged: d");
		calls_put_pair(&message, number, "x b", "c");
		calls_put_pair(&message, number, "", "c");
	}
	flat_protobuf_put_text(&message, 5, "first");
	flat_protobuf_put_text(&message, 5, "last");
	cr_assert_eq(read_answer(&message, &a), 0);
	cr_expect_str_eq(text_of(&a.client), "x-a: client\r\n");
	cr_expect_str_eq(text_of(&a.upstream), "x-a: server\r\n");
	cr_expect_str_eq(text_of(&a.body), "last");
	answer_fini(&a);
}

Test(l7_rate, an_answer_cut_anywhere_is_none)
{
	struct flat_l7_rate_answer a;
	struct flat_strbuf whole = {0}, end = {0};
	size_t ends[3];

	calls_put_pair(&whole, 3, "x-a", "b");
	ends[0] = whole.len;
	put_status(&whole, 100, 2, "minute", 7, 30);
	ends[1] = whole.len;
	calls_put_pair(&whole, 4, "x-a", "b");
	ends[2] = whole.len;
	for (size_t cut = 1; cut <= whole.len; cut++) {
		bool between = cut == ends[0] || cut == ends[1] || cut == ends[2];

		flat_strbuf_add(&end, whole.data, cut);
		cr_expect_eq(read_answer(&end, &a), between ? 0 : -EBADMSG, "cut at %zu", cut);
		answer_fini(&a);
	}
	/* Parts that are none within messages that are whole: a status, its limit, its reset, headers. */
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
	    {"\x12\x01\x08", 3}, {"\x12\x03\x12\x01\x08", 5}, {"\x12\x03\x22\x01\x08", 5},
	    {"\x1a\x01\x0a", 3}, {"\x22\x02\x0a\x05", 4},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		flat_strbuf_add(&end, bad[i].bytes, bad[i].len);
		cr_expect_eq(read_answer(&end, &a), -EBADMSG, "%zu", i);
		answer_fini(&a);
	}
	flat_strbuf_fini(&whole);
}

Test(l7_rate, descriptors_are_written_as_the_service_reads_them)
{
	static const char want[] = "\x0a\x04shop"
				   "\x12\x17"
				   "\x0a\x08\x0a\x02k1\x12\x02v1"
				   "\x0a\x07\x0a\x02k2\x12\x01!"
				   "\x1a\x02\x08\x03"
				   "\x12\x0a\x0a\x06\x0a\x02k1\x12\x00\x1a\x00";
	struct flat_l7_descriptor d = {.n = 2, .has_hits = true, .hits = 3};
	struct flat_strbuf out = {0};

	d.key[0] = "k1";
	d.value[0] = flat_span_of("v1");
	d.key[1] = "k2";
	d.value[1] = flat_span_of("\xff");
	flat_l7_rate_put_domain(&out, "shop");
	flat_l7_rate_put_descriptor(&out, &d);
	/* Of no hits: said, since none is not the default of 1. */
	d.n = 1;
	d.value[0] = flat_span_of("");
	d.hits = 0;
	flat_l7_rate_put_descriptor(&out, &d);
	cr_assert_eq(out.len, sizeof(want) - 1, "%zu", out.len);
	cr_expect_arr_eq(out.data, want, sizeof(want) - 1);
	flat_strbuf_fini(&out);
}
