/*
 * Any bytes as a stream of requests or responses: cut or whole gives the same; what was taken comes out in a form
 * that is read the same, and comes out again unchanged; a canonical path stays as it is. The first byte says which,
 * the second where the stream is cut. Seeds: corpus/http1.
 */
#include <stdlib.h>
#include <string.h>

#include "../http1/transcript.h"
#include "codec/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void same(const struct flat_strbuf *a, const struct flat_strbuf *b)
{
	require(a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0));
}

static void check_path(const uint8_t *bytes, size_t len)
{
	char buf[4096];
	char buf2[4096];
	struct flat_span out;
	struct flat_span again;

	if (len >= sizeof(buf) || flat_path_canonical((struct flat_span){(const char *)bytes, len},
						      buf, sizeof(buf), &out) != 0)
		return;
	require(out.len >= 1 && (out.text[0] == '/' || (out.len == 1 && out.text[0] == '*')));
	require(!memmem(out.text, out.len, "//", 2) && !memmem(out.text, out.len, "/../", 4));
	require(flat_path_canonical(out, buf2, sizeof(buf2), &again) == 0);
	require(flat_span_equal(out, again, false));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_strbuf whole = {0};
	struct flat_strbuf cut = {0};
	struct flat_strbuf once = {0};
	struct flat_strbuf twice = {0};
	size_t cuts[64];
	size_t n = 0;
	bool response;

	if (size < 2)
		return 0;
	response = data[0] & 1;
	for (size_t at = data[1]; n < 64 && at < size - 2; at += 1 + (size_t)data[1] * n / 7)
		cuts[n++] = at;
	data += 2;
	size -= 2;
	transcript(data, size, response, NULL, 0, &whole);
	transcript(data, size, response, cuts, n, &cut);
	same(&whole, &cut);
	normal_form(data, size, response, &once);
	if (once.len > 0)
		normal_form((const uint8_t *)once.data, once.len, response, &twice);
	same(&once, &twice);
	check_path(data, size);
	flat_strbuf_fini(&whole);
	flat_strbuf_fini(&cut);
	flat_strbuf_fini(&once);
	flat_strbuf_fini(&twice);
	return 0;
}
