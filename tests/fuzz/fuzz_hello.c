/*
 * Any bytes as the beginning of a client's connection: what is read of it does not depend on how it came, a name has the
 * characters of one, and OpenSSL, where it takes the message too, reads the same name. Seeds: corpus/hello.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "wire/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* What OpenSSL's reader saw. */
static char theirs[512];
static bool seen;

static int on_hello(SSL *ssl, int *alert, void *arg)
{
	const unsigned char *p;
	size_t len;

	(void)arg;
	*alert = SSL_AD_INTERNAL_ERROR;
	seen = true;
	theirs[0] = 0;
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len) && len > 5 &&
	    len - 5 < sizeof(theirs)) {
		memcpy(theirs, p + 5, len - 5);
		theirs[len - 5] = 0;
	}
	return SSL_CLIENT_HELLO_ERROR;
}

static void ask_openssl(const uint8_t *data, size_t size)
{
	static SSL_CTX *ctx;
	SSL *ssl;
	BIO *in = BIO_new_mem_buf(data, (int)size);

	if (!ctx) {
		ctx = SSL_CTX_new(TLS_server_method());
		SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
	}
	ssl = SSL_new(ctx);
	require(in && ssl);
	SSL_set_bio(ssl, in, BIO_new(BIO_s_mem()));
	SSL_set_accept_state(ssl);
	seen = false;
	(void)SSL_do_handshake(ssl);
	ERR_clear_error();
	SSL_free(ssl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_hello whole = {.at = 0};
	struct flat_hello pieces = {.at = 0};
	int err = flat_hello_read(&whole, data, size);
	int last = -EAGAIN;
	size_t step = size > 0 ? 1 + data[size - 1] % 7 : 1;

	for (size_t n = 0; last == -EAGAIN; n = n + step < size ? n + step : size) {
		last = flat_hello_read(&pieces, data, n);
		if (n == size)
			break;
	}
	require(last == err);
	require(err == 0 || err == -EAGAIN || err == -EPROTO || err == -EMSGSIZE);
	require(whole.at <= size && whole.at <= FLAT_HELLO_MAX);
	if (err != 0)
		return 0;
	require(strcmp(whole.host, pieces.host) == 0 && strlen(whole.host) < FLAT_HELLO_HOST_SIZE);
	require(strspn(whole.host, "abcdefghijklmnopqrstuvwxyz0123456789-._") ==
		strlen(whole.host));
	ask_openssl(data, size);
	require(!seen || strcasecmp(whole.host, theirs) == 0);
	return 0;
}
