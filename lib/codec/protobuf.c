#include "codec/protobuf.h"

#include <errno.h>
#include <string.h>

#include "base/utf8.h"

enum wire_type {
	WIRE_VARINT = 0,
	WIRE_FIXED64 = 1,
	WIRE_BYTES = 2,
	WIRE_FIXED32 = 5,
};

static void put_varint(struct flat_strbuf *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		flat_strbuf_putc(out, (char)(value | 0x80));
	flat_strbuf_putc(out, (char)value);
}

void flat_protobuf_put_number(struct flat_strbuf *out, uint32_t field, uint64_t value)
{
	if (value == 0)
		return;
	put_varint(out, (uint64_t)field << 3 | WIRE_VARINT);
	put_varint(out, value);
}

void flat_protobuf_put_bytes(struct flat_strbuf *out, uint32_t field, const void *bytes, size_t len)
{
	put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
	put_varint(out, len);
	flat_strbuf_add(out, bytes, len);
}

void flat_protobuf_put_string(struct flat_strbuf *out, uint32_t field, const char *text, size_t len)
{
	size_t done = 0;

	put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
	put_varint(out, len);
	for (size_t at = 0; at < len;) {
		size_t n = flat_utf8_len(text + at, len - at);

		if (n > 0) {
			at += n;
			continue;
		}
		flat_strbuf_add(out, text + done, at - done);
		flat_strbuf_putc(out, '!');
		done = ++at;
	}
	if (len > done)
		flat_strbuf_add(out, text + done, len - done);
}

void flat_protobuf_put_text(struct flat_strbuf *out, uint32_t field, const char *text)
{
	if (*text)
		flat_protobuf_put_bytes(out, field, text, strlen(text));
}

static void put_little(struct flat_strbuf *out, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		flat_strbuf_putc(out, (char)(uint8_t)(value >> (8 * i)));
}

void flat_protobuf_put_fixed64(struct flat_strbuf *out, uint32_t field, uint64_t value)
{
	put_varint(out, (uint64_t)field << 3 | WIRE_FIXED64);
	put_little(out, value, 8);
}

void flat_protobuf_put_fixed32(struct flat_strbuf *out, uint32_t field, uint32_t value)
{
	put_varint(out, (uint64_t)field << 3 | WIRE_FIXED32);
	put_little(out, value, 4);
}

void flat_protobuf_put_message(struct flat_strbuf *out, uint32_t field, struct flat_strbuf *inner)
{
	out->failed |= inner->failed;
	flat_protobuf_put_bytes(out, field, inner->data ? inner->data : "", inner->len);
	flat_strbuf_reset(inner);
}

static int get_varint(const uint8_t *message, size_t len, size_t *at, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; shift < 64 && *at < len; shift += 7) {
		uint8_t byte = message[(*at)++];

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return 0;
	}
	return -EBADMSG;
}

static int get_fixed(const uint8_t *message, size_t len, size_t *at, size_t size, uint64_t *value)
{
	if (len - *at < size)
		return -EBADMSG;
	*value = 0;
	for (size_t i = 0; i < size; i++)
		*value |= (uint64_t)message[*at + i] << (8 * i);
	*at += size;
	return 0;
}

int flat_protobuf_next(const uint8_t *message, size_t len, size_t *at,
		       struct flat_protobuf_field *field)
{
	uint64_t tag;
	uint64_t size;
	int err;

	if (*at >= len)
		return 0;
	*field = (struct flat_protobuf_field){0};
	err = get_varint(message, len, at, &tag);
	if (err != 0 || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
		return -EBADMSG;
	field->number = (uint32_t)(tag >> 3);
	switch (tag & 7) {
	case WIRE_VARINT:
		err = get_varint(message, len, at, &field->value);
		break;
	case WIRE_FIXED64:
		err = get_fixed(message, len, at, 8, &field->value);
		break;
	case WIRE_FIXED32:
		err = get_fixed(message, len, at, 4, &field->value);
		break;
	case WIRE_BYTES:
		err = get_varint(message, len, at, &size);
		if (err != 0 || size > len - *at)
			return -EBADMSG;
		field->is_bytes = true;
		field->bytes = message + *at;
		field->len = (size_t)size;
		*at += (size_t)size;
		break;
	default:
		err = -EBADMSG;
	}
	return err == 0 ? 1 : err;
}
