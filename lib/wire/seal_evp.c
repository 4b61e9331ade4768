/* AEAD by OpenSSL. */
#include <openssl/evp.h>

#include "wire/seal.h"

static bool knows(enum flat_seal_cipher cipher)
{
	(void)cipher;
	return true;
}

static const EVP_CIPHER *of(enum flat_seal_cipher cipher)
{
	return cipher == FLAT_SEAL_AES128_GCM	? EVP_aes_128_gcm()
	       : cipher == FLAT_SEAL_AES256_GCM ? EVP_aes_256_gcm()
						: EVP_chacha20_poly1305();
}

static void *make_key(enum flat_seal_cipher cipher, const uint8_t *key, bool encrypts)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	if (ctx && EVP_CipherInit_ex(ctx, of(cipher), NULL, key, NULL, encrypts) == 1)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static bool seal(void *key, const uint8_t *iv, const uint8_t *header, const struct iovec *in,
		 int n_in, uint8_t type, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = key;
	int n = 0;
	bool ok = EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, iv) == 1 &&
		  EVP_EncryptUpdate(ctx, NULL, &n, header, (int)FLAT_SEAL_HEADER) == 1;
	for (int i = 0; i < n_in && ok; i++) {
		ok = EVP_EncryptUpdate(ctx, out, &n, in[i].iov_base, (int)in[i].iov_len) == 1;
		out += n;
	}
	ok = ok && EVP_EncryptUpdate(ctx, out, &n, &type, 1) == 1;
	out += n;
	/* Stream ciphers: nothing is left for the end. */
	return ok && EVP_EncryptFinal_ex(ctx, out, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, (int)FLAT_SEAL_TAG, out) == 1;
}

static bool open_record(void *key, const uint8_t *iv, const uint8_t *header, const uint8_t *in,
			size_t len, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = key;
	int n = 0;
	int end = 0;
	/* OpenSSL takes a copy of the tag. */
	return EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, iv) == 1 &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, (int)FLAT_SEAL_TAG,
				   (void *)(uintptr_t)(in + len)) == 1 &&
	       EVP_DecryptUpdate(ctx, NULL, &n, header, (int)FLAT_SEAL_HEADER) == 1 &&
	       EVP_DecryptUpdate(ctx, out, &n, in, (int)len) == 1 &&
	       EVP_DecryptFinal_ex(ctx, out + n, &end) == 1;
}

static void forget(void *key)
{
	EVP_CIPHER_CTX_free(key);
}

const struct flat_seal_ops flat_seal_evp = {
    .name = "OpenSSL",
    .knows = knows,
    .key = make_key,
    .seal = seal,
    .open = open_record,
    .forget = forget,
};
