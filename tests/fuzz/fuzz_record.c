/*
 * Any records of a peer that has the keys, and any bytes of one that has not: content comes as it was sent, whatever the pieces, until
 * something breaks the rules, and then the peer is told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

#define WIRE_BYTES ((size_t)256 * 1024)

static uint8_t wire[WIRE_BYTES];    /* what the peer sends */
static uint8_t content[WIRE_BYTES]; /* of its data */
static size_t n_wire;
static size_t n_content;

/* The peer's records: a byte that says of what type, one of how much, the bytes. What it renews, it renews on its side. */
static void compose(struct flat_seal *peer, const uint8_t *data, size_t size)
{
	static const uint8_t types[] = {23, 23, 23, 22, 21, 25, 20, 24};
	static const uint8_t update[] = {24, 0, 0, 1};
	size_t n;
	n_wire = n_content = 0;
	for (size_t at = 0; at + 2 <= size; at += 2 + n) {
		uint8_t kind = data[at];
		n = flat_min_size(data[at + 1], size - at - 2);
		if (n_wire + flat_seal_length(n) > WIRE_BYTES)
			return;
		if (kind & 0x40) {
			/* Of no key. */
			memcpy(wire + n_wire, data + at + 2, n);
			n_wire += n;
			continue;
		}
		size_t len =
		    flat_seal_record(peer, types[kind & 7], data + at + 2, n, wire + n_wire);
		require(len == flat_seal_length(n));
		n_wire += len;
		if ((kind & 7) < 3) {
			memcpy(content + n_content, data + at + 2, n);
			n_content += n;
		} else if ((kind & 7) == 3 && n == 5 && memcmp(data + at + 2, update, 4) == 0) {
			require(flat_seal_update(peer) == 0);
		}
	}
}

static void receive(struct flat_records *r, struct flat_outbox *out, size_t step)
{
	static uint8_t buf[FLAT_SEAL_INNER_MAX];
	size_t got = 0;
	ssize_t n = -EAGAIN;
	for (size_t at = 0; at < n_wire && n == -EAGAIN; at += step) {
		struct flat_inbox in = {wire + at, flat_min_size(step, n_wire - at)};
		while ((n = flat_records_read(r, &in, buf, out)) > 0) {
			require(got + (size_t)n <= n_content);
			require(memcmp(buf, content + got, (size_t)n) == 0);
			got += (size_t)n;
		}
		require(n != -EAGAIN || in.len == 0);
	}
	require(n == -EAGAIN || n == 0 || (r->why && (n == -EPROTO || n == -ECONNRESET)));
	/* What was wrong is said. */
	require(n != -EPROTO || flat_outbox_pending(out) > 0);
}

/* The first byte: the side, and the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_secrets secrets = {.len = {32, 32}};
	struct flat_records r = {0};
	struct flat_seal peer = {0};
	struct flat_outbox out = {0};
	if (size == 0)
		return 0;
	require(flat_records_begin(&r, &secrets, 0x1301, data[0] & 1) == 0);
	require(flat_seal_init(&peer, &flat_seal_evp, 0x1301, secrets.v[0], 32, true) == 0);
	compose(&peer, data + 1, size - 1);
	receive(&r, &out, (size_t)(data[0] >> 1) * (data[0] >> 1) + 1);
	require(flat_records_write(&r, data, size, &out) == 0);
	flat_records_fini(&r);
	flat_seal_fini(&peer);
	flat_outbox_fini(&out);
	return 0;
}
