/*
 * The wire format of Protocol Buffers (protobuf.dev, "Encoding"), as far as messages of a few fields need it: written
 * into a text, read field by field. Unknown fields are the reader's to skip, by doing nothing.
 */
#ifndef FLAT_CODEC_PROTOBUF_H
#define FLAT_CODEC_PROTOBUF_H

#include <stdbool.h>

#include "base/strbuf.h"

/** Puts a number (also a bool, an enum, an int64 by its two's complement); 0 is the default and is not written. */
void flat_protobuf_put_number(struct flat_strbuf *out, uint32_t field, uint64_t value);
/** Puts bytes, a text, or a message that was written already; also of no length. */
void flat_protobuf_put_bytes(struct flat_strbuf *out, uint32_t field, const void *bytes,
			     size_t len);
/** Likewise a text that ends with NUL; "" is the default and is not written. */
void flat_protobuf_put_text(struct flat_strbuf *out, uint32_t field, const char *text);

/**
 * Puts a string that is not ours; also of no length. A message whose strings are not UTF-8 is refused by who reads it, so that one byte
 * of a stranger's would decide about all of it: each byte that is of no character becomes '!', as in Envoy.
 */
void flat_protobuf_put_string(struct flat_strbuf *out, uint32_t field, const char *text,
			      size_t len);

/** Puts fixed64 and fixed32, also 0. */
void flat_protobuf_put_fixed64(struct flat_strbuf *out, uint32_t field, uint64_t value);
void flat_protobuf_put_fixed32(struct flat_strbuf *out, uint32_t field, uint32_t value);
/** Puts a message that was written to `inner`, which is emptied; its failure is out's. */
void flat_protobuf_put_message(struct flat_strbuf *out, uint32_t field, struct flat_strbuf *inner);

/* One field of a message. */
struct flat_protobuf_field {
	uint32_t number;
	bool is_bytes;	      /* `bytes` and `len`; else `value`, also of fixed width */
	uint64_t value;	      /* 0 for bytes */
	const uint8_t *bytes; /* within the message */
	size_t len;
};

/** The field at *at, which moves on behind it. 1: there is one, 0: the message is over, or -EBADMSG. */
FLAT_MUST_CHECK int flat_protobuf_next(const uint8_t *message, size_t len, size_t *at,
				       struct flat_protobuf_field *field);

#endif
