#include "wire/seal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <string.h>

/* The length of a label's structure: two lengths, "tls13 ", the label, no context (RFC 8446, 7.1), and the counter of RFC 5869. */
#define INFO_MAX 32

struct flat_seal_suite {
	uint16_t number;
	enum flat_seal_cipher cipher;
	size_t key;
	size_t hash;
	const EVP_MD *(*md)(void);
};

static const struct flat_seal_suite suites[] = {
    {0x1301, FLAT_SEAL_AES128_GCM, 16, 32, EVP_sha256},
    {0x1302, FLAT_SEAL_AES256_GCM, 32, 48, EVP_sha384},
    {0x1303, FLAT_SEAL_CHACHA20_POLY1305, 32, 32, EVP_sha256},
};

static const struct flat_seal_suite *find_suite(uint16_t number)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(suites); i++) {
		if (suites[i].number == number)
			return &suites[i];
	}
	return NULL;
}

/* HKDF-Expand-Label (RFC 8446, 7.1) of no more than one block of the hash, with an empty context. */
static bool expand(const struct flat_seal *s, const char *label, uint8_t *out, size_t len)
{
	uint8_t info[INFO_MAX] = {(uint8_t)(len >> 8), (uint8_t)len};
	uint8_t block[EVP_MAX_MD_SIZE];
	size_t n = strlen(label);
	info[2] = (uint8_t)(6 + n);
	memcpy(info + 3, "tls13 ", 6);
	memcpy(info + 9, label, n);
	info[9 + n] = 0;
	info[10 + n] = 1;
	bool ok =
	    HMAC(s->suite->md(), s->secret, (int)s->suite->hash, info, 11 + n, block, NULL) != NULL;
	if (ok)
		memcpy(out, block, len);
	OPENSSL_cleanse(block, sizeof(block));
	return ok;
}

static int derive(struct flat_seal *s)
{
	uint8_t key[FLAT_SEAL_KEY_MAX];
	if (s->key)
		s->ops->forget(s->key);
	s->key = NULL;
	s->records = 0;
	if (expand(s, "key", key, s->suite->key) && expand(s, "iv", s->iv, sizeof(s->iv)))
		s->key = s->ops->key(s->suite->cipher, key, s->encrypts);
	OPENSSL_cleanse(key, sizeof(key));
	return s->key ? 0 : -ENOMEM;
}

int flat_seal_init(struct flat_seal *s, const struct flat_seal_ops *ops, uint16_t suite,
		   const uint8_t *secret, size_t len, bool encrypts)
{
	s->suite = find_suite(suite);
	if (!s->suite || len != s->suite->hash)
		return -EINVAL;
	s->ops = ops ? ops : flat_seal_mb();
	if (!s->ops || !s->ops->knows(s->suite->cipher))
		s->ops = &flat_seal_evp;
	s->encrypts = encrypts;
	memcpy(s->secret, secret, len);
	return derive(s);
}

void flat_seal_fini(struct flat_seal *s)
{
	if (s->key)
		s->ops->forget(s->key);
	OPENSSL_cleanse(s, sizeof(*s));
}

int flat_seal_update(struct flat_seal *s)
{
	uint8_t next[FLAT_SEAL_SECRET_MAX];
	bool ok = expand(s, "traffic upd", next, s->suite->hash);
	if (ok)
		memcpy(s->secret, next, s->suite->hash);
	OPENSSL_cleanse(next, sizeof(next));
	return ok ? derive(s) : -ENOMEM;
}

/* RFC 8446, 5.3 */
static void nonce(const struct flat_seal *s, uint8_t iv[FLAT_SEAL_IV])
{
	memcpy(iv, s->iv, FLAT_SEAL_IV);
	for (size_t i = 0; i < 8; i++)
		iv[FLAT_SEAL_IV - 1 - i] ^= (uint8_t)(s->records >> (8 * i));
}

size_t flat_seal_gather(struct flat_seal *s, uint8_t type, const struct iovec *in, int n_in,
			uint8_t *out)
{
	uint8_t iv[FLAT_SEAL_IV];
	size_t body = 1 + FLAT_SEAL_TAG;
	if (!s->key)
		return 0;
	for (int i = 0; i < n_in; i++)
		body += in[i].iov_len;
	/* All look like data of TLS 1.2. */
	const uint8_t header[FLAT_SEAL_HEADER] = {23, 3, 3, (uint8_t)(body >> 8), (uint8_t)body};
	memcpy(out, header, sizeof(header));
	nonce(s, iv);
	if (!s->ops->seal(s->key, iv, header, in, n_in, type, out + FLAT_SEAL_HEADER))
		return 0;
	s->records++;
	return FLAT_SEAL_HEADER + body;
}

size_t flat_seal_record(struct flat_seal *s, uint8_t type, const uint8_t *bytes, size_t len,
			uint8_t *out)
{
	/* The const is ours: iovec has none, and what is sealed is not written to. */
	const struct iovec in = {(void *)(uintptr_t)bytes, len};
	return flat_seal_gather(s, type, &in, 1, out);
}

ssize_t flat_seal_open(struct flat_seal *s, const uint8_t *bytes, size_t len, uint8_t *out,
		       uint8_t *type)
{
	uint8_t iv[FLAT_SEAL_IV];
	if (!s->key || len < FLAT_SEAL_TAG || len > FLAT_SEAL_INNER_MAX + FLAT_SEAL_TAG)
		return -EBADMSG;
	size_t n = len - FLAT_SEAL_TAG;
	nonce(s, iv);
	if (!s->ops->open(s->key, iv, bytes, bytes + FLAT_SEAL_HEADER, n, out))
		return -EBADMSG;
	s->records++;
	/* Padding is zeros behind the type. */
	while (n > 0 && out[n - 1] == 0)
		n--;
	if (n == 0)
		return -EPROTO;
	*type = out[n - 1];
	return (ssize_t)n - 1;
}
