/*
 * Any bytes as frames of the wire: refused, or a frame whose parts lie inside the bytes, and which is written again as
 * it was read.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static uint8_t out[FLAT_FRAME_HEADER + FLAT_FRAME_BODY_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_frame f;
	ssize_t n;
	for (size_t at = 0; at < size; at += (size_t)n) {
		n = flat_frame_read(data + at, size - at, &f);
		require(n == -EPROTO || (n >= 0 && (size_t)n <= size - at));
		if (n <= 0)
			return 0;
		require(f.type >= FLAT_FRAME_HELLO && f.type <= FLAT_FRAME_VERBS);
		require(f.len == 0 || (f.data >= data + at && f.data + f.len <= data + at + n));
		require(flat_frame_errno(f.number) > 0);
		/* What is kept as numbers is written from them alone. */
		if (f.type == FLAT_FRAME_HELLO || f.type == FLAT_FRAME_RESET ||
		    f.type == FLAT_FRAME_CREDIT)
			f.len = 0;
		require(flat_frame_write(&f, out) == (size_t)n);
		require(memcmp(out, data + at, (size_t)n) == 0);
	}
	return 0;
}
