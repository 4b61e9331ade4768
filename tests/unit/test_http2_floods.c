/* What only floods are made of ends a connection of HTTP/2, and what is none does not. */
#include <criterion/criterion.h>

#include "codec/limits.h"
#include "http2_frames.h"

static void wake(void *user)
{
	(void)user;
}

enum flood {
	RAPID_RESET,
	MADE_YOU_RESET,
	PAID_RESET,
	PAID_MADE_YOU_RESET,
	CONTINUATIONS,
	PINGS,
	SETTINGS,
	PRIORITIES,
	EMPTY_DATA,
	WINDOW_UPDATES,
	FLOODS,
};

static const char *const flood_names[] = {
    "rapid reset",
    "made you reset",
    "rapid reset, with content",
    "made you reset, with content",
    "CONTINUATION",
    "PING",
    "SETTINGS",
    "PRIORITY",
    "empty DATA",
    "WINDOW_UPDATE",
};

/* A request that begins to have content, and never has it. */
static void flood_content(struct frames *f, uint32_t id)
{
	frames_headers(f, END_HEADERS, id, POST);
	for (int i = 0; i < 8; i++)
		frames_frame(f, 0, 0, id, "x", 1);
}

static void flood_frame(struct frames *f, enum flood kind, uint32_t i)
{
	uint32_t id = 2 * i + 1;

	f->len = 0;
	if (i == 0)
		frames_begin(f);
	switch (kind) {
	case RAPID_RESET:
		frames_headers(f, ALL, id, GET);
		frames_frame(f, 3, 0, id, "\0\0\0\10", 4);
		break;
	case MADE_YOU_RESET:
		/* A window that grows by nothing is an error of the stream. */
		frames_headers(f, ALL, id, GET);
		frames_frame(f, 8, 0, id, "\0\0\0\0", 4);
		break;
	case PAID_RESET:
		flood_content(f, id);
		frames_frame(f, 3, 0, id, "\0\0\0\10", 4);
		break;
	case PAID_MADE_YOU_RESET:
		flood_content(f, id);
		frames_frame(f, 8, 0, id, "\0\0\0\0", 4);
		break;
	case CONTINUATIONS:
		if (i == 0)
			frames_headers(f, 0, 1, GET);
		frames_frame(f, 9, 0, 1, "", 0);
		break;
	case PINGS:
		frames_frame(f, 6, 0, 0, "12345678", 8);
		break;
	case SETTINGS:
		frames_frame(f, 4, 0, 0, "\0\4\0\1\0\0", 6);
		break;
	case PRIORITIES:
		frames_frame(f, 2, 0, 1, "\0\0\0\3\1", 5);
		break;
	case EMPTY_DATA:
		if (i == 0)
			frames_headers(f, END_HEADERS, 1, POST);
		frames_frame(f, 0, 0, 1, "", 0);
		break;
	default:
		if (i == 0)
			frames_headers(f, END_HEADERS, 1, POST);
		frames_frame(f, 8, 0, i % 2, "\0\0\0\1", 4);
		break;
	}
}

/* How many until the connection is over. */
static uint32_t flood(enum flood kind, uint32_t max)
{
	static struct frames f;
	struct flat_http2 *h;
	struct flat_http2_stream *held = NULL;
	uint32_t i;
	const uint8_t *said;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	for (i = 0; i < max; i++) {
		struct flat_http2_stream *s;

		flood_frame(&f, kind, i);
		if (flat_http2_feed(h, f.v, f.len, 0) != 0)
			break;
		/* Those that content is awaited for are kept. */
		while ((s = flat_http2_accept(h, h)) != NULL) {
			if (kind != EMPTY_DATA)
				flat_http2_release(s);
			else
				held = s;
		}
		while (flat_http2_drain(h, &said) > 0)
			;
		if (flat_http2_over(h))
			break;
		cr_assert_leq(flat_http2_streams(h), FLAT_HTTP2_STREAMS_MAX + 1);
	}
	flat_http2_close(h);
	if (held)
		flat_http2_release(held);
	return i;
}

Test(http2_floods, floods_end_the_connection)
{
	for (int kind = 0; kind < FLOODS; kind++) {
		uint32_t n = flood((enum flood)kind, 20000);

		cr_expect_lt(n, 1100, "%s: %u frames", flood_names[kind], n);
	}
}

Test(http2_floods, time_forgives)
{
	struct flat_http2 *h;
	static struct frames f;
	const uint8_t *said;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		flood_frame(&f, PINGS, i);
		cr_assert_eq(flat_http2_feed(h, f.v, f.len, (int64_t)i * 20000), 0);
		while (flat_http2_drain(h, &said) > 0)
			;
		cr_assert_not(flat_http2_over(h), "after %u", i);
	}
	flat_http2_close(h);
}

/* Resets are forgiven by time alone, or by what was answered. */
Test(http2_floods, resets_at_leisure_are_no_flood)
{
	struct flat_http2 *h;
	static struct frames f;
	const uint8_t *said;

	cr_assert_eq(flat_http2_open(&h, FLAT_HTTP2_SERVER, wake), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		flood_frame(&f, i % 2 ? RAPID_RESET : MADE_YOU_RESET, i);
		cr_assert_eq(flat_http2_feed(h, f.v, f.len, (int64_t)i * 25000), 0);
		while (flat_http2_drain(h, &said) > 0)
			;
		cr_assert_not(flat_http2_over(h), "after %u", i);
	}
	flat_http2_close(h);
}
