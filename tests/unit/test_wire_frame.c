/* Frames: there and back, cut at every byte, and what is none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "wire/frame.h"

static uint8_t buf[FLAT_FRAME_HEADER + FLAT_FRAME_BODY_MAX];

static struct flat_addr address(int family, uint16_t port)
{
	struct flat_addr a = {.family = (uint16_t)family, .port = port};
	for (int i = 0; i < (family == AF_INET ? 4 : 16); i++)
		a.ip[i] = (uint8_t)(i + 1);
	return a;
}

static void back_and_forth(struct flat_frame f)
{
	struct flat_frame got;
	size_t n = flat_frame_write(&f, buf);
	for (size_t cut = 0; cut < n; cut++)
		cr_assert_eq(flat_frame_read(buf, cut, &got), 0, "type %d cut at %zu", f.type, cut);
	cr_assert_eq(flat_frame_read(buf, n, &got), (ssize_t)n, "type %d", f.type);
	cr_assert_eq(flat_frame_read(buf, sizeof(buf), &got), (ssize_t)n);
	cr_assert_eq(got.type, f.type);
	cr_assert_eq(got.stream, f.stream);
	cr_assert_eq(got.number, f.number);
	if (f.type == FLAT_FRAME_OPEN) {
		cr_assert(flat_addr_equal(&got.to, &f.to));
		cr_assert(flat_addr_equal(&got.from, &f.from));
	}
	if (f.len > 0) {
		cr_assert_eq(got.len, f.len);
		cr_assert_eq(memcmp(got.data, f.data, f.len), 0);
	}
}

Test(wire_frame, every_type_comes_back_and_is_incomplete_at_every_cut)
{
	static const uint8_t text[] = "policy a/b says no";
	static const uint8_t ping[8] = {1, 2, 3};
	static const uint8_t end[FLAT_FRAME_VERBS_END] = {9, 0, 255};
	size_t n = sizeof(text) - 1;
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_HELLO, .number = 262144});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_OPEN,
					   .stream = 1,
					   .to = address(AF_INET, 80),
					   .from = address(AF_INET6, 4000)});
	back_and_forth(
	    (struct flat_frame){.type = FLAT_FRAME_ACCEPT, .stream = 7, .data = text, .len = n});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_REFUSE,
					   .stream = UINT32_MAX,
					   .number = EACCES,
					   .data = text,
					   .len = n});
	back_and_forth(
	    (struct flat_frame){.type = FLAT_FRAME_DATA, .stream = 2, .data = text, .len = n});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_FIN, .stream = 2});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_RESET, .stream = 2, .number = 104});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_CREDIT, .stream = 2, .number = 1});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_PING, .data = ping, .len = 8});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_PONG, .data = ping, .len = 8});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_GOAWAY});
	back_and_forth((struct flat_frame){
	    .type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_OFFER, .data = end, .len = sizeof(end)});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_VERBS,
					   .number = FLAT_VERBS_ANSWER,
					   .data = end,
					   .len = sizeof(end)});
	back_and_forth((struct flat_frame){
	    .type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_REFUSE, .data = text, .len = n});
	back_and_forth((struct flat_frame){.type = FLAT_FRAME_VERBS, .number = FLAT_VERBS_GO});
}

Test(wire_frame, the_largest_body_fits_and_one_more_byte_does_not)
{
	static uint8_t body[FLAT_FRAME_BODY_MAX];
	struct flat_frame got;
	struct flat_frame f = {
	    .type = FLAT_FRAME_DATA, .stream = 1, .data = body, .len = sizeof(body)};
	size_t n = flat_frame_write(&f, buf);
	cr_assert_eq(n, sizeof(buf));
	cr_assert_eq(flat_frame_read(buf, n, &got), (ssize_t)n);
	buf[6] = (uint8_t)((FLAT_FRAME_BODY_MAX + 1) >> 8);
	buf[7] = (uint8_t)(FLAT_FRAME_BODY_MAX + 1);
	cr_assert_eq(flat_frame_read(buf, n, &got), -EPROTO);
}

struct hostile {
	const char *name;
	uint8_t bytes[64];
	size_t len;
};

Test(wire_frame, what_is_no_frame_is_refused)
{
	static const struct hostile v[] = {
	    {"type 0", {0, 0, 0, 1, 0, 0, 0, 0}, 8},
	    {"type 13", {0, 0, 0, 0, 13, 0, 0, 0}, 8},
	    {"verbs of a stream", {0, 0, 0, 1, 12, 0, 0, 1, 4}, 9},
	    {"verbs that say nothing", {0, 0, 0, 0, 12, 0, 0, 0}, 8},
	    {"verbs of no kind", {0, 0, 0, 0, 12, 0, 0, 1, 5}, 9},
	    {"go with a body", {0, 0, 0, 0, 12, 0, 0, 2, 4, 0}, 10},
	    {"short offer", {0, 0, 0, 0, 12, 0, 0, 42, 1}, 50},
	    {"long answer", {0, 0, 0, 0, 12, 0, 0, 44, 2}, 52},
	    {"verbs refused with a control character", {0, 0, 0, 0, 12, 0, 0, 2, 3, 10}, 10},
	    {"flag set", {0, 0, 0, 1, 6, 1, 0, 0}, 8},
	    {"data of the link", {0, 0, 0, 0, 5, 0, 0, 1, 9}, 9},
	    {"ping of a stream", {0, 0, 0, 1, 9, 0, 0, 8, 0}, 16},
	    {"hello of a stream", {0, 0, 0, 1, 1, 0, 0, 5, 1}, 13},
	    {"other version", {0, 0, 0, 0, 1, 0, 0, 5, 2}, 13},
	    {"short hello", {0, 0, 0, 0, 1, 0, 0, 4, 1}, 12},
	    {"empty data", {0, 0, 0, 1, 5, 0, 0, 0}, 8},
	    {"fin with a body", {0, 0, 0, 1, 6, 0, 0, 1, 0}, 9},
	    {"short credit", {0, 0, 0, 1, 8, 0, 0, 3}, 11},
	    {"long reset", {0, 0, 0, 1, 7, 0, 0, 5}, 13},
	    {"refusal without errno", {0, 0, 0, 1, 4, 0, 0, 3}, 11},
	    {"control character", {0, 0, 0, 1, 3, 0, 0, 1, 10}, 9},
	    {"byte above ASCII", {0, 0, 0, 1, 3, 0, 0, 1, 0x80}, 9},
	    {"address of no family", {0, 0, 0, 1, 2, 0, 0, 38, 5}, 46},
	    {"IPv4 with more bytes", {0, 0, 0, 1, 2, 0, 0, 38, 4, 0, 80, 1, 2, 3, 4, 9}, 46},
	    {"open too short", {0, 0, 0, 1, 2, 0, 0, 37, 4}, 45},
	};
	struct flat_frame f;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++)
		cr_assert_eq(flat_frame_read(v[i].bytes, v[i].len, &f), -EPROTO, "%s", v[i].name);
}

Test(wire_frame, an_errno_of_a_peer_is_one_that_sockets_report)
{
	cr_assert_eq(flat_frame_errno(EACCES), EACCES);
	cr_assert_eq(flat_frame_errno(ECONNREFUSED), ECONNREFUSED);
	cr_assert_eq(flat_frame_errno(0), ECONNRESET);
	cr_assert_eq(flat_frame_errno(UINT32_MAX), ECONNRESET);
	cr_assert_eq(flat_frame_errno(EBADF), ECONNRESET);
}
