#include "offload/protobuf.h"

#include <string.h>

enum wire_type {
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	WIRE_FIXED32 = 5,
};

static void put_varint(struct flat_strbuf *out, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		flat_strbuf_putc(out, (char)(uint8_t)(value | 0x80));
	flat_strbuf_putc(out, (char)value);
}

static void put_tag(struct flat_strbuf *out, uint32_t field, enum wire_type type)
{
	put_varint(out, (uint64_t)field << 3 | type);
}

static void put_little(struct flat_strbuf *out, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		flat_strbuf_putc(out, (char)(uint8_t)(value >> (8 * i)));
}

void flat_pb_number(struct flat_strbuf *out, uint32_t field, uint64_t value)
{
	put_tag(out, field, WIRE_VARINT);
	put_varint(out, value);
}

void flat_pb_fixed64(struct flat_strbuf *out, uint32_t field, uint64_t value)
{
	put_tag(out, field, WIRE_FIXED64);
	put_little(out, value, 8);
}

void flat_pb_fixed32(struct flat_strbuf *out, uint32_t field, uint32_t value)
{
	put_tag(out, field, WIRE_FIXED32);
	put_little(out, value, 4);
}

void flat_pb_bytes(struct flat_strbuf *out, uint32_t field, const void *bytes, size_t len)
{
	put_tag(out, field, WIRE_BYTES);
	put_varint(out, len);
	flat_strbuf_add(out, bytes, len);
}

void flat_pb_text(struct flat_strbuf *out, uint32_t field, const char *text)
{
	flat_pb_bytes(out, field, text, strlen(text));
}

void flat_pb_message(struct flat_strbuf *out, uint32_t field, struct flat_strbuf *inner)
{
	out->failed |= inner->failed;
	flat_pb_bytes(out, field, inner->data ? inner->data : "", inner->len);
	flat_strbuf_reset(inner);
}
