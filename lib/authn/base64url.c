#include "authn/base64url.h"

#include <errno.h>
#include <openssl/evp.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int value_of(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

ssize_t flat_base64url_decode(const char *text, size_t len, uint8_t *out)
{
	uint32_t bits = 0;
	unsigned n = 0;
	size_t at = 0;

	if (len % 4 == 1)
		return -EBADMSG;
	for (size_t i = 0; i < len; i++) {
		int v = value_of((unsigned char)text[i]);

		if (v < 0)
			return -EBADMSG;
		bits = bits << 6 | (uint32_t)v;
		n += 6;
		if (n >= 8) {
			n -= 8;
			out[at++] = (uint8_t)(bits >> n);
		}
	}
	/* RFC 4648, 3.5: what is left over must be zero, or one value had several spellings. */
	return bits & ((1U << n) - 1) ? -EBADMSG : (ssize_t)at;
}

size_t flat_base64url_encode(const uint8_t *bytes, size_t len, char *out)
{
	uint32_t bits = 0;
	unsigned n = 0;
	size_t at = 0;

	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | bytes[i];
		for (n += 8; n >= 6; n -= 6)
			out[at++] = alphabet[bits >> (n - 6) & 63];
	}
	if (n > 0)
		out[at++] = alphabet[bits << (6 - n) & 63];
	return at;
}

size_t flat_base64_encode(const uint8_t *bytes, size_t len, char *out)
{
	return (size_t)EVP_EncodeBlock((unsigned char *)out, bytes, (int)len);
}
