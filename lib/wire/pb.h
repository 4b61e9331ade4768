/* Protocol buffers (protobuf.dev, "Encoding"): fields of one message read, and written. As much as identities need. */
#ifndef FLAT_WIRE_PB_H
#define FLAT_WIRE_PB_H

#include <stdbool.h>

#include "base/base.h"
#include "base/strbuf.h"

/* What is left of a message. */
struct flat_pb {
	const uint8_t *p;
	size_t n;
};

struct flat_pb_field {
	uint32_t number;
	struct flat_pb bytes; /* of one with a length, in the message; else none */
};

/** Takes the next field. 1; 0: the message is at its end; -1: it is none. */
int flat_pb_next(struct flat_pb *m, struct flat_pb_field *f);

/** Adds a field with a length. */
void flat_pb_put(struct flat_strbuf *out, uint32_t number, const void *bytes, size_t len);
/** Adds a number. */
void flat_pb_put_number(struct flat_strbuf *out, uint32_t number, uint64_t value);

#endif
