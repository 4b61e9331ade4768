#include "wire/tls_certs.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_MAX 8

struct cert {
	X509 *leaf;
	STACK_OF(X509) *
	    chain; /* NULL: none is given, OpenSSL looks for one among the authorities */
	EVP_PKEY *key;
};

/* Of one context, which frees them. */
struct certs {
	uint32_t n;
	struct cert v[];
};

static int certs_index = -1; /* of SSL_CTX's extra data */

/* --- reading --- */

BIO *flat_pem_open(const struct flat_pem *pem, char *why, size_t size)
{
	BIO *bio = pem->text ? BIO_new_mem_buf(pem->text, -1) : BIO_new_file(pem->file, "r");

	if (!bio)
		snprintf(why, size, "%s cannot be read: %s", pem->file ? pem->file : "a Secret",
			 strerror(errno));
	return bio;
}

int flat_pem_bad(const struct flat_pem *pem, const char *what, char *why, size_t size)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	snprintf(why, size, "%s of %s: %s", what, pem->text ? "the Secret" : pem->file,
		 text ? text : "not there");
	ERR_clear_error();
	return -EINVAL;
}

int flat_pem_no_passphrase(char *buf, int size, int rw, void *arg)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)arg;
	return -1;
}

static int read_chain(struct cert *c, const struct flat_pem *pem, char *why, size_t size)
{
	BIO *bio = flat_pem_open(pem, why, size);
	X509 *more = NULL;
	int err = 0;

	if (!bio)
		return -EINVAL;
	c->leaf = PEM_read_bio_X509_AUX(bio, NULL, flat_pem_no_passphrase, NULL);
	if (!c->leaf)
		err = flat_pem_bad(pem, "the certificate", why, size);
	for (int n = 0; err == 0 && n < CHAIN_MAX; n++) {
		more = PEM_read_bio_X509(bio, NULL, flat_pem_no_passphrase, NULL);
		if (!more)
			break;
		if (!c->chain)
			c->chain = sk_X509_new_null();
		if (!c->chain || sk_X509_push(c->chain, more) == 0) {
			X509_free(more);
			err = flat_pem_bad(pem, "the chain", why, size);
		}
	}
	ERR_clear_error();
	BIO_free(bio);
	return err;
}

static int read_key(struct cert *c, const struct flat_pem *pem, char *why, size_t size)
{
	BIO *bio = flat_pem_open(pem, why, size);

	if (!bio)
		return -EINVAL;
	c->key = PEM_read_bio_PrivateKey(bio, NULL, flat_pem_no_passphrase, NULL);
	BIO_free(bio);
	if (!c->key || X509_check_private_key(c->leaf, c->key) != 1)
		return flat_pem_bad(pem, "the private key", why, size);
	return 0;
}

static void certs_free(struct certs *all)
{
	for (uint32_t i = 0; all && i < all->n; i++) {
		X509_free(all->v[i].leaf);
		sk_X509_pop_free(all->v[i].chain, X509_free);
		EVP_PKEY_free(all->v[i].key);
	}
	free(all);
}

static void free_data(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	certs_free(ptr);
}

/* --- which is shown --- */

/* OpenSSL holds one certificate of each kind of key. */
static unsigned kind_bit(const struct cert *c)
{
	static const int kinds[] = {EVP_PKEY_RSA, EVP_PKEY_RSA_PSS, EVP_PKEY_EC, EVP_PKEY_ED25519,
				    EVP_PKEY_ED448};

	for (unsigned i = 0; i < FLAT_ARRAY_SIZE(kinds); i++) {
		if (EVP_PKEY_get_base_id(c->key) == kinds[i])
			return 1U << i;
	}
	return 1U << FLAT_ARRAY_SIZE(kinds);
}

/*
 * Of those that bear the name the first of each kind, where there are several of a kind the first that the client understands. What
 * it says of signatures is also held against the authority's (RFC 5246, 7.4.2), so that it may understand none: then the first is
 * as good as another. How many are taken, negative if that fails.
 */
static int take_those_of(SSL *ssl, const struct certs *all, const char *host, unsigned flags)
{
	unsigned taken = 0;
	int n = 0;

	for (int understood = 1; understood >= 0; understood--) {
		for (uint32_t i = 0; i < all->n; i++) {
			const struct cert *c = &all->v[i];

			if ((taken & kind_bit(c)) ||
			    X509_check_host(c->leaf, host, 0, flags, NULL) != 1 ||
			    (understood &&
			     !(SSL_check_chain(ssl, c->leaf, c->key, c->chain) & CERT_PKEY_VALID)))
				continue;
			if (n++ == 0)
				SSL_certs_clear(ssl);
			if (SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1) != 1)
				return -1;
			taken |= kind_bit(c);
		}
	}
	return n;
}

/* Without a name, or with one that none bears, the session has the context's own: the first of each kind. */
static int on_choice(SSL *ssl, void *arg)
{
	const struct certs *all = arg;
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	int n;

	if (!host)
		return 1;
	n = take_those_of(ssl, all, host, X509_CHECK_FLAG_NO_WILDCARDS);
	if (n == 0)
		n = take_those_of(ssl, all, host, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	ERR_clear_error();
	return n >= 0;
}

/* --- a context's --- */

/* Backwards, so that of each kind the first stays. */
static int give(SSL_CTX *ctx, const struct certs *all, const struct flat_tls_pair *pairs, char *why,
		size_t size)
{
	for (uint32_t i = all->n; i-- > 0;) {
		const struct cert *c = &all->v[i];

		if (SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key, c->chain, 1) != 1)
			return flat_pem_bad(&pairs[i].cert, "the certificate", why, size);
	}
	return 0;
}

int flat_tls_certs_use(SSL_CTX *ctx, const struct flat_tls_pair *pairs, uint32_t n, char *why,
		       size_t size)
{
	struct certs *all = calloc(1, sizeof(*all) + n * sizeof(all->v[0]));
	int err = 0;

	if (certs_index < 0)
		certs_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_data);
	if (!all || certs_index < 0 || !SSL_CTX_set_ex_data(ctx, certs_index, all)) {
		free(all);
		snprintf(why, size, "out of memory");
		return -ENOMEM;
	}
	for (all->n = 0; err == 0 && all->n < n; all->n++) {
		err = read_chain(&all->v[all->n], &pairs[all->n].cert, why, size);
		if (err == 0)
			err = read_key(&all->v[all->n], &pairs[all->n].key, why, size);
	}
	if (err == 0)
		err = give(ctx, all, pairs, why, size);
	if (err == 0 && n > 1)
		SSL_CTX_set_cert_cb(ctx, on_choice, all);
	return err;
}
