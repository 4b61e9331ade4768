#include "wire/hello.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define RECORD_HEADER 5
#define RECORD_MAX 16384 /* RFC 8446, 5.1 */
#define TYPE_HANDSHAKE 22
#define MESSAGE_HEADER 4
#define CLIENT_HELLO 1
#define EXTENSION_SERVER_NAME 0
#define NAME_HOST 0

/* What is left of a message. */
struct cursor {
	const uint8_t *at;
	size_t left;
};

static bool skip(struct cursor *c, size_t n)
{
	if (n > c->left)
		return false;
	c->at += n;
	c->left -= n;
	return true;
}

/* A number of `n` bytes, 3 at most. */
static bool number(struct cursor *c, size_t n, size_t *out)
{
	const uint8_t *p = c->at;

	if (!skip(c, n))
		return false;
	*out = 0;
	while (n-- > 0)
		*out = *out << 8 | *p++;
	return true;
}

/* A vector whose length stands before it in `n` bytes. */
static bool vector(struct cursor *c, size_t n, struct cursor *out)
{
	size_t len;

	if (!number(c, n, &len))
		return false;
	*out = (struct cursor){c->at, len};
	return skip(c, len);
}

static bool is_host_char(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* RFC 6066, 3: one name, without a dot at its end. */
static bool read_name(struct cursor c, char host[FLAT_HELLO_HOST_SIZE])
{
	struct cursor list;
	struct cursor name;
	size_t type;

	if (!vector(&c, 2, &list) || c.left > 0 || !number(&list, 1, &type) || type != NAME_HOST ||
	    !vector(&list, 2, &name) || list.left > 0)
		return false;
	if (name.left == 0 || name.left >= FLAT_HELLO_HOST_SIZE)
		return false;
	for (size_t i = 0; i < name.left; i++) {
		uint8_t byte = name.at[i];

		byte = byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
		if (!is_host_char(byte))
			return false;
		host[i] = (char)byte;
	}
	host[name.left] = 0;
	return host[0] != '.' && host[name.left - 1] != '.';
}

static bool read_extensions(struct cursor c, char host[FLAT_HELLO_HOST_SIZE])
{
	bool named = false;

	while (c.left > 0) {
		struct cursor data;
		size_t type;

		if (!number(&c, 2, &type) || !vector(&c, 2, &data))
			return false;
		if (type != EXTENSION_SERVER_NAME)
			continue;
		if (named || !read_name(data, host))
			return false;
		named = true;
	}
	return true;
}

static bool read_message(struct cursor c, char host[FLAT_HELLO_HOST_SIZE])
{
	struct cursor session;
	struct cursor ciphers;
	struct cursor compressions;
	struct cursor extensions = {NULL, 0};
	size_t version;

	/* legacy_version, random */
	if (!number(&c, 2, &version) || version >> 8 != 3 || !skip(&c, 32))
		return false;
	if (!vector(&c, 1, &session) || session.left > 32)
		return false;
	if (!vector(&c, 2, &ciphers) || ciphers.left < 2 || ciphers.left % 2 != 0)
		return false;
	if (!vector(&c, 1, &compressions) || compressions.left == 0)
		return false;
	/* TLS 1.2 does without (RFC 5246, 7.4.1.2). */
	if (c.left > 0 && (!vector(&c, 2, &extensions) || c.left > 0))
		return false;
	return read_extensions(extensions, host);
}

/* The first `n` bytes of the message out of its records. */
static void gather(const uint8_t *bytes, size_t n, uint8_t *message)
{
	while (n > 0) {
		size_t body = (size_t)bytes[3] << 8 | bytes[4];
		size_t len = flat_min_size(body, n);

		memcpy(message, bytes + RECORD_HEADER, len);
		message += len;
		n -= len;
		bytes += RECORD_HEADER + body;
	}
}

/* Whether the records are the message, -EAGAIN: a part of it. */
static int is_whole(struct flat_hello *h, const uint8_t *bytes)
{
	uint8_t header[MESSAGE_HEADER];

	if (h->have < MESSAGE_HEADER)
		return -EAGAIN;
	if (h->need == 0) {
		gather(bytes, MESSAGE_HEADER, header);
		h->need =
		    MESSAGE_HEADER + ((size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3]);
	}
	if (h->need > FLAT_HELLO_MAX - RECORD_HEADER)
		return -EMSGSIZE;
	if (h->have < h->need)
		return -EAGAIN;
	/* A client has nothing else to say yet. */
	return h->have == h->need ? 0 : -EPROTO;
}

/* The next record. 0: it is whole. */
static int read_record(struct flat_hello *h, const uint8_t *bytes, size_t len)
{
	const uint8_t *p = bytes + h->at;
	size_t left = len - h->at;
	size_t body;

	if (h->at + RECORD_HEADER >= FLAT_HELLO_MAX)
		return -EMSGSIZE;
	if (left > 0 && p[0] != TYPE_HANDSHAKE)
		return -EPROTO;
	if (left > 1 && p[1] != 3)
		return -EPROTO;
	if (left < RECORD_HEADER)
		return -EAGAIN;
	body = (size_t)p[3] << 8 | p[4];
	if (body == 0 || body > RECORD_MAX)
		return -EPROTO;
	/* Of the first: what message it is. Before its length is judged, whatever comes with it. */
	if (h->have == 0 && left == RECORD_HEADER)
		return -EAGAIN;
	if (h->have == 0 && p[RECORD_HEADER] != CLIENT_HELLO)
		return -EPROTO;
	if (h->at + RECORD_HEADER + body > FLAT_HELLO_MAX)
		return -EMSGSIZE;
	if (left < RECORD_HEADER + body)
		return -EAGAIN;
	h->at += RECORD_HEADER + body;
	h->have += body;
	return 0;
}

int flat_hello_read(struct flat_hello *h, const uint8_t *bytes, size_t len)
{
	uint8_t message[FLAT_HELLO_MAX];
	int err;

	do {
		err = read_record(h, bytes, len);
		if (err == 0)
			err = is_whole(h, bytes);
		else
			return err;
	} while (err == -EAGAIN);
	if (err != 0)
		return err;
	gather(bytes, h->have, message);
	return read_message((struct cursor){message + MESSAGE_HEADER, h->have - MESSAGE_HEADER},
			    h->host)
		   ? 0
		   : -EPROTO;
}
