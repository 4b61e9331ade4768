/* AES-GCM by Intel's multi-buffer library (libipsec-mb), which uses VAES; OpenSSL does from 3.1 on. */
#include "wire/seal.h"

#ifdef FLAT_HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>

/* As the library wants its keys. */
#define ALIGNED ((size_t)64)

static IMB_MGR *
    mgr; /* made once, kept: its functions; NULL: the processor has no VAES, or there was no memory */

struct key {
	struct gcm_key_data data;
	aes_gcm_init_t init;
	aes_gcm_enc_dec_update_t update;
	aes_gcm_enc_dec_finalize_t finalize;
	aes_gcm_enc_dec_t open;
};

/* What the library's AVX-512 code asks for. */
#define NEEDS                                                                                      \
	(IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ | IMB_FEATURE_AVX512_SKX | IMB_FEATURE_AESNI)

static void find(void)
{
	IMB_ARCH arch;
	IMB_MGR *m = alloc_mb_mgr(0);
	if (!m)
		return;
	if ((m->features & NEEDS) == NEEDS) {
		init_mb_mgr_auto(m, &arch);
		if (imb_get_errno(m) == 0) {
			mgr = m;
			return;
		}
	}
	free_mb_mgr(m);
}

static bool knows(enum flat_seal_cipher cipher)
{
	return cipher != FLAT_SEAL_CHACHA20_POLY1305;
}

static void *make_key(enum flat_seal_cipher cipher, const uint8_t *key, bool encrypts)
{
	struct key *k = aligned_alloc(ALIGNED, (sizeof(*k) + ALIGNED - 1) / ALIGNED * ALIGNED);
	bool wide = cipher == FLAT_SEAL_AES256_GCM;
	(void)encrypts;
	if (!k)
		return NULL;
	k->init = wide ? mgr->gcm256_init : mgr->gcm128_init;
	k->update = wide ? mgr->gcm256_enc_update : mgr->gcm128_enc_update;
	k->finalize = wide ? mgr->gcm256_enc_finalize : mgr->gcm128_enc_finalize;
	k->open = wide ? mgr->gcm256_dec : mgr->gcm128_dec;
	(wide ? mgr->gcm256_pre : mgr->gcm128_pre)(key, &k->data);
	return k;
}

static bool seal(void *key, const uint8_t *iv, const uint8_t *header, const struct iovec *in,
		 int n_in, uint8_t type, uint8_t *out)
{
	const struct key *k = key;
	struct gcm_context_data c;
	k->init(&k->data, &c, iv, header, FLAT_SEAL_HEADER);
	for (int i = 0; i < n_in; i++) {
		k->update(&k->data, &c, out, in[i].iov_base, in[i].iov_len);
		out += in[i].iov_len;
	}
	k->update(&k->data, &c, out, &type, 1);
	k->finalize(&k->data, &c, out + 1, FLAT_SEAL_TAG);
	return true;
}

static bool open_record(void *key, const uint8_t *iv, const uint8_t *header, const uint8_t *in,
			size_t len, uint8_t *out)
{
	const struct key *k = key;
	struct gcm_context_data c;
	uint8_t tag[FLAT_SEAL_TAG];
	k->open(&k->data, &c, out, in, len, iv, header, FLAT_SEAL_HEADER, tag, sizeof(tag));
	return CRYPTO_memcmp(tag, in + len, sizeof(tag)) == 0;
}

static void forget(void *key)
{
	OPENSSL_cleanse(key, sizeof(struct key));
	free(key);
}

static const struct flat_seal_ops ops = {
    .name = "libipsec-mb",
    .knows = knows,
    .key = make_key,
    .seal = seal,
    .open = open_record,
    .forget = forget,
};

const struct flat_seal_ops *flat_seal_mb(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, find);
	return mgr ? &ops : NULL;
}

#else

const struct flat_seal_ops *flat_seal_mb(void)
{
	return NULL;
}

#endif
