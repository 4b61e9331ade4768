#include "wire/pb.h"

enum { VARINT = 0, EIGHT = 1, BYTES = 2, FOUR = 5 };

static bool varint(struct flat_pb *m, uint64_t *value)
{
	*value = 0;
	for (unsigned int shift = 0; shift < 64 && m->n > 0; shift += 7) {
		uint8_t b = *m->p++;
		m->n--;
		*value |= (uint64_t)(b & 0x7f) << shift;
		if (b < 0x80)
			return true;
	}
	return false;
}

int flat_pb_next(struct flat_pb *m, struct flat_pb_field *f)
{
	uint64_t key;
	uint64_t len;
	if (m->n == 0)
		return 0;
	if (!varint(m, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX)
		return -1;
	*f = (struct flat_pb_field){.number = (uint32_t)(key >> 3)};
	switch (key & 7) {
	case VARINT:
		return varint(m, &len) ? 1 : -1;
	case EIGHT:
		len = 8;
		break;
	case FOUR:
		len = 4;
		break;
	case BYTES:
		if (!varint(m, &len))
			return -1;
		break;
	default:
		return -1;
	}
	if (len > m->n)
		return -1;
	if ((key & 7) == BYTES)
		f->bytes = (struct flat_pb){m->p, (size_t)len};
	m->p += len;
	m->n -= (size_t)len;
	return 1;
}

static void put_varint(struct flat_strbuf *out, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		flat_strbuf_putc(out, (char)(value | 0x80));
	flat_strbuf_putc(out, (char)value);
}

void flat_pb_put(struct flat_strbuf *out, uint32_t number, const void *bytes, size_t len)
{
	put_varint(out, (uint64_t)number << 3 | BYTES);
	put_varint(out, len);
	flat_strbuf_add(out, bytes, len);
}

void flat_pb_put_number(struct flat_strbuf *out, uint32_t number, uint64_t value)
{
	put_varint(out, (uint64_t)number << 3 | VARINT);
	put_varint(out, value);
}
