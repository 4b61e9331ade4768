/*
 * Any bytes as content of a gRPC call, as its status and time, and as what an external authorizer answers: messages are counted alike
 * however they are cut; what an authorizer says comes out as field lines that the reader of trailers takes, or not at all.
 */
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "codec/grpc.h"
#include "codec/http1.h"
#include "codec/limits.h"
#include "offload/l7_check_grpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_frames(const uint8_t *data, size_t size)
{
	struct flat_grpc_frames whole = {.n = 0};
	struct flat_grpc_frames cut = {.n = 0};
	size_t step = 1 + data[0] % 16;

	flat_grpc_frames_feed(&whole, data, size);
	for (size_t at = 0; at < size; at += step)
		flat_grpc_frames_feed(&cut, data + at, flat_min_size(step, size - at));
	require(whole.n == cut.n && whole.bad == cut.bad);
	require(whole.bad || (whole.left == cut.left && whole.at == cut.at));
	require(whole.n <= size);
}

static void check_values(const uint8_t *data, size_t size)
{
	struct flat_span text = {(const char *)data, size};
	char message[64];

	require(flat_grpc_status_read(text) < FLAT_GRPC_STATUSES);
	require(flat_grpc_status_parse(text) < FLAT_GRPC_STATUSES);
	require(flat_grpc_timeout_us(text) >= 0);
	flat_grpc_message(text, message, sizeof(message));
	for (const char *c = message; *c; c++)
		require(*c >= ' ' && *c < 0x7f);
	require(strlen(message) < sizeof(message));
}

/* Lines of fields are those of a head, and frame nothing. */
static void check_lines(struct flat_strbuf *lines)
{
	static struct flat_http1 p;
	int n;

	if (lines->len == 0)
		return;
	flat_strbuf_puts(lines, "\r\n");
	flat_http1_begin(&p, FLAT_HTTP1_TRAILERS);
	n = flat_http1_read(&p, (const uint8_t *)lines->data, lines->len);
	/* Who authenticates by one may: it is the authorizer's word. */
	require(n == (int)lines->len || p.fault == FLAT_HTTP1_TRAILER ||
		flat_http1_fault_is_size((enum flat_http1_fault)p.fault));
	for (uint32_t i = 0; n > 0 && i < p.head.n_fields; i++)
		require(p.head.fields[i].id == FLAT_HTTP_OTHER);
}

static void check_answer(const uint8_t *data, size_t size)
{
	struct flat_l7_check_answer a = {.allowed = false};
	struct flat_strbuf framed = {0};

	flat_strbuf_putc(&framed, 0);
	for (int shift = 24; shift >= 0; shift -= 8)
		flat_strbuf_putc(&framed, (char)(size >> shift));
	flat_strbuf_add(&framed, data, size);
	require(!framed.failed);
	if (flat_l7_check_grpc_read(framed.data, framed.len, &a) == 0) {
		require(a.allowed ? a.status == 200
				  : (a.status >= 200 && a.status <= 599) || (a.error && !a.status));
		check_lines(&a.upstream);
		check_lines(&a.append);
		for (int how = 0; how < FLAT_L7_SAYS; how++)
			check_lines(&a.client[how]);
		for (size_t i = 0; i < a.query.len; i++)
			require(a.query.data[i] > ' ' && a.query.data[i] < 0x7f);
		require(a.query.len == 0 || a.query.data[a.query.len - 1] == '&');
	}
	flat_strbuf_fini(&framed);
	flat_l7_check_answer_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 16384)
		return 0;
	check_frames(data, size);
	check_values(data, size);
	check_answer(data, size);
	return 0;
}
