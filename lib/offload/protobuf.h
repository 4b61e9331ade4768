/*
 * Writing Protocol Buffers: fields of a message into a strbuf, whose sticky failure they share. Source: protobuf.dev,
 * "Encoding". A message within another is written to a strbuf of its own, and then put as bytes.
 */
#ifndef FLAT_OFFLOAD_PROTOBUF_H
#define FLAT_OFFLOAD_PROTOBUF_H

#include <stdint.h>

#include "base/strbuf.h"

/** A field of a number: uint64, int64, enum, bool. */
void flat_pb_number(struct flat_strbuf *out, uint32_t field, uint64_t value);
/** fixed64 and fixed32. */
void flat_pb_fixed64(struct flat_strbuf *out, uint32_t field, uint64_t value);
void flat_pb_fixed32(struct flat_strbuf *out, uint32_t field, uint32_t value);
/** bytes, string, message. */
void flat_pb_bytes(struct flat_strbuf *out, uint32_t field, const void *bytes, size_t len);
void flat_pb_text(struct flat_strbuf *out, uint32_t field, const char *text);
/** A message that was written to `inner`, which is emptied. */
void flat_pb_message(struct flat_strbuf *out, uint32_t field, struct flat_strbuf *inner);

#endif
