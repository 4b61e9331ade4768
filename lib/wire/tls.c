#include "wire/tls.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/spiffe.h"
#include "wire/tls_certs.h"

#define HOST_MAX 256
#define CHAIN_MAX 8
/* What browsers and Envoy speak; TLS 1.3 has its own. */
#define CIPHERS                                                                                    \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:" \
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

struct flat_tls {
	SSL *ssl;
	bool failed;
	bool asked; /* for the principal */
	char host[HOST_MAX];
	char principal[FLAT_SPIFFE_ID_MAX];
	char why[128];
};

/* What a front's sessions choose by. */
struct front {
	flat_tls_pick_fn *pick;
	void *arg;
};

static int front_index = -1; /* of SSL_CTX's extra data */
static int names_index = -1;

/* --- authorities --- */

static int use_ca(SSL_CTX *ctx, const struct flat_pem *pem, char *why, size_t size)
{
	BIO *bio = flat_pem_open(pem, why, size);
	X509 *cert;
	int n = 0;

	if (!bio)
		return -EINVAL;
	while ((cert = PEM_read_bio_X509(bio, NULL, flat_pem_no_passphrase, NULL)) != NULL) {
		int ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert) &&
			 SSL_CTX_add_client_CA(ctx, cert);
		X509_free(cert);
		if (!ok)
			break;
		n++;
	}
	BIO_free(bio);
	if (cert || n == 0)
		return flat_pem_bad(pem, "the authorities", why, size);
	ERR_clear_error();
	return 0;
}

/* --- a context --- */

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		   const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* The names that a client's certificate may bear, each with its NUL, and one more NUL. */
struct names {
	char text[1];
};

static struct names *copy_names(const struct flat_tls_options *o)
{
	size_t len = 1;
	struct names *all;
	char *p;

	for (uint32_t i = 0; i < o->n_names; i++)
		len += strlen(o->names[i]) + 1;
	all = calloc(1, len);
	if (!all)
		return NULL;
	p = all->text;
	for (uint32_t i = 0; i < o->n_names; i++) {
		size_t size = strlen(o->names[i]) + 1;
		memcpy(p, o->names[i], size);
		p += size;
	}
	return all;
}

/* A server's certificate may stand for a name by a wildcard. */
static bool covers(X509 *leaf, const struct names *names)
{
	for (const char *p = names->text; *p; p += strlen(p) + 1) {
		if (X509_check_host(leaf, p, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1)
			return true;
	}
	return false;
}

/* One of them stands in the certificate, as DNS name or URI. */
static bool bears(X509 *leaf, const struct names *names)
{
	GENERAL_NAMES *v = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; v && !found && i < sk_GENERAL_NAME_num(v); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(v, i);
		if (name->type != GEN_URI && name->type != GEN_DNS)
			continue;
		const ASN1_IA5STRING *s = name->d.ia5;
		size_t len = (size_t)ASN1_STRING_length(s);
		for (const char *p = names->text; *p && !found; p += strlen(p) + 1)
			found = strlen(p) == len && memcmp(p, ASN1_STRING_get0_data(s), len) == 0;
	}
	GENERAL_NAMES_free(v);
	return found;
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	const struct names *names = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), names_index);

	if (!ok || X509_STORE_CTX_get_error_depth(store) != 0 || !names || !names->text[0])
		return ok;
	X509 *leaf = X509_STORE_CTX_get_current_cert(store);
	if (bears(leaf, names) || (!SSL_is_server(ssl) && covers(leaf, names)))
		return 1;
	X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
	return 0;
}

static void free_data(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	free(ptr);
}

static int version(uint8_t n, int otherwise)
{
	return n == 12 ? TLS1_2_VERSION : n == 13 ? TLS1_3_VERSION : otherwise;
}

static int set_rules(SSL_CTX *ctx, const struct flat_tls_options *o, char *why, size_t size)
{
	struct names *names = copy_names(o);

	if (!names || !SSL_CTX_set_ex_data(ctx, names_index, names)) {
		free(names);
		snprintf(why, size, "out of memory");
		return -ENOMEM;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
				     SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (!o->opaque)
		SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_verify_depth(ctx, CHAIN_MAX);
	SSL_CTX_set_verify(ctx,
			   o->clients == FLAT_TLS_ANY ? SSL_VERIFY_NONE
			   : o->clients == FLAT_TLS_REQUIRED
			       ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
			       : SSL_VERIFY_PEER,
			   on_verify);
	if (!SSL_CTX_set_min_proto_version(ctx, version(o->min_version, TLS1_2_VERSION)) ||
	    !SSL_CTX_set_max_proto_version(ctx, version(o->max_version, TLS1_3_VERSION)) ||
	    !SSL_CTX_set_num_tickets(ctx, 0) ||
	    !SSL_CTX_set_cipher_list(ctx, o->ciphers ? o->ciphers : CIPHERS)) {
		snprintf(why, size, "OpenSSL knows none of the cipher suites \"%.200s\"",
			 o->ciphers ? o->ciphers : CIPHERS);
		ERR_clear_error();
		return -EINVAL;
	}
	return 0;
}

/* Once, by the control thread. */
static int indexes(void)
{
	if (front_index < 0)
		front_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_data);
	if (names_index < 0)
		names_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_data);
	return front_index < 0 || names_index < 0 ? -ENOMEM : 0;
}

int flat_tls_context(const struct flat_tls_options *o, SSL_CTX **out, char *why, size_t size)
{
	SSL_CTX *ctx = indexes() == 0 ? SSL_CTX_new(TLS_server_method()) : NULL;
	int err = ctx ? set_rules(ctx, o, why, size) : -ENOMEM;

	if (!ctx)
		snprintf(why, size, "out of memory");
	if (err == 0)
		err = flat_tls_certs_use(ctx, o->pairs, o->n_pairs, why, size);
	if (err == 0 && (o->ca.file || o->ca.text))
		err = use_ca(ctx, &o->ca, why, size);
	if (err == 0)
		*out = ctx;
	else
		SSL_CTX_free(ctx);
	return err;
}

/* --- a client's --- */

static int set_client_rules(SSL_CTX *ctx, const struct flat_tls_options *o, bool unverified,
			    enum flat_tls_inside inside)
{
	static const char *const alpn[] = {
	    [FLAT_TLS_INSIDE_HTTP1] = "\x08http/1.1", [FLAT_TLS_INSIDE_H2] = "\x02h2"};
	const char *says = alpn[inside];
	struct names *names = copy_names(o);

	if (!names || !SSL_CTX_set_ex_data(ctx, names_index, names)) {
		free(names);
		return -ENOMEM;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify_depth(ctx, CHAIN_MAX);
	SSL_CTX_set_verify(ctx, unverified ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
			   unverified ? NULL : on_verify);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
		       SSL_CTX_set_cipher_list(ctx, CIPHERS) &&
		       (!says || SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)says,
							 (unsigned)strlen(says)) == 0)
		   ? 0
		   : -ENOMEM;
}

int flat_tls_client_context(const struct flat_tls_options *o, bool unverified,
			    enum flat_tls_inside inside, SSL_CTX **out, char *why, size_t size)
{
	SSL_CTX *ctx = indexes() == 0 ? SSL_CTX_new(TLS_client_method()) : NULL;
	int err = ctx ? set_client_rules(ctx, o, unverified, inside) : -ENOMEM;

	if (err != 0)
		snprintf(why, size, "out of memory");
	if (err == 0 && o->n_pairs > 0)
		err = flat_tls_certs_use(ctx, o->pairs, 1, why, size);
	if (err == 0 && (o->ca.file || o->ca.text)) {
		err = use_ca(ctx, &o->ca, why, size);
	} else if (err == 0 && !unverified && !SSL_CTX_set_default_verify_paths(ctx)) {
		snprintf(why, size, "the system has no authorities");
		err = -EINVAL;
	}
	if (err == 0)
		*out = ctx;
	else
		SSL_CTX_free(ctx);
	return err;
}

/* --- which context --- */

/* RFC 6066, 3: one name of type host_name. False: there is none, or it is none. */
static bool read_host(SSL *ssl, char out[HOST_MAX])
{
	const unsigned char *p;
	size_t len;

	out[0] = 0;
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len))
		return true;
	if (len < 5 || (size_t)(p[0] << 8 | p[1]) != len - 2 || p[2] != TLSEXT_NAMETYPE_host_name)
		return false;
	size_t n = (size_t)(p[3] << 8 | p[4]);
	if (n != len - 5 || n == 0 || n >= HOST_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[5 + i] <= ' ' || p[5 + i] >= 0x7f)
			return false;
		out[i] = (char)tolower(p[5 + i]);
	}
	out[n] = 0;
	return true;
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
	struct flat_tls *t = SSL_get_app_data(ssl);
	const struct front *f = arg;
	SSL_CTX *ctx;

	*alert = SSL_AD_UNRECOGNIZED_NAME;
	if (!read_host(ssl, t->host)) {
		*alert = SSL_AD_DECODE_ERROR;
		return SSL_CLIENT_HELLO_ERROR;
	}
	ctx = f->pick(f->arg, t->host);
	if (!ctx || !SSL_set_SSL_CTX(ssl, ctx))
		return SSL_CLIENT_HELLO_ERROR;
	/* What a session takes from its first context stays with it otherwise. */
	SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), SSL_CTX_get_verify_callback(ctx));
	if (!SSL_set_min_proto_version(ssl, (int)SSL_CTX_get_min_proto_version(ctx)) ||
	    !SSL_set_max_proto_version(ssl, (int)SSL_CTX_get_max_proto_version(ctx)))
		return SSL_CLIENT_HELLO_ERROR;
	return SSL_CLIENT_HELLO_SUCCESS;
}

SSL_CTX *flat_tls_front(flat_tls_pick_fn *pick, void *arg, bool http)
{
	struct front *f = malloc(sizeof(*f));
	SSL_CTX *ctx = f && indexes() == 0 ? SSL_CTX_new(TLS_server_method()) : NULL;

	if (!ctx || !SSL_CTX_set_ex_data(ctx, front_index, f)) {
		free(f);
		SSL_CTX_free(ctx);
		return NULL;
	}
	*f = (struct front){pick, arg};
	SSL_CTX_set_client_hello_cb(ctx, on_hello, f);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
				     SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (http)
		SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_CTX_set_num_tickets(ctx, 0);
	return ctx;
}

/* --- sessions --- */

static struct flat_tls *session(SSL_CTX *ctx, int fd)
{
	struct flat_tls *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ssl = SSL_new(ctx);
	if (!t->ssl || !SSL_set_fd(t->ssl, fd)) {
		flat_tls_free(t);
		return NULL;
	}
	SSL_set_app_data(t->ssl, t);
	return t;
}

struct flat_tls *flat_tls_accept(SSL_CTX *front, int fd)
{
	struct flat_tls *t = session(front, fd);

	if (t)
		SSL_set_accept_state(t->ssl);
	return t;
}

/* RFC 6066, 3: no literal addresses in SNI. */
static bool ask_for(SSL *ssl, const char *name, bool by_name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);

	ERR_clear_error();
	if (ip) {
		ASN1_OCTET_STRING_free(ip);
		return !by_name || X509_VERIFY_PARAM_set1_ip_asc(param, name);
	}
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, name) && (!by_name || SSL_set1_host(ssl, name));
}

struct flat_tls *flat_tls_connect(SSL_CTX *ctx, int fd, const char *name, bool by_name)
{
	struct flat_tls *t = session(ctx, fd);

	if (!t)
		return NULL;
	if (!ask_for(t->ssl, name, by_name)) {
		flat_tls_free(t);
		return NULL;
	}
	SSL_set_connect_state(t->ssl);
	return t;
}

void flat_tls_free(struct flat_tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t);
}

/* 0 for the end, -EAGAIN, or -ECONNRESET for good. */
static ssize_t failed(struct flat_tls *t, int ret)
{
	int err = SSL_get_error(t->ssl, ret);

	if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE)
		return -EAGAIN;
	if (err == SSL_ERROR_ZERO_RETURN)
		return 0;
	unsigned long code = ERR_peek_last_error();
	const char *text = ERR_reason_error_string(code);
	long verify = SSL_get_verify_result(t->ssl);
	if (verify != X509_V_OK && !SSL_is_init_finished(t->ssl))
		text = X509_verify_cert_error_string(verify);
	snprintf(t->why, sizeof(t->why), "%s", text ? text : "the connection ended");
	ERR_clear_error();
	t->failed = true;
	/* Many clients hang up without close_notify. Of a server it may be the end of an answer (RFC 9112, 9.8). */
	if (SSL_is_init_finished(t->ssl) && SSL_is_server(t->ssl) &&
	    ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return 0;
	return -ECONNRESET;
}

int flat_tls_shake(struct flat_tls *t, bool *writes)
{
	if (t->failed)
		return -ECONNRESET;
	ERR_clear_error();
	int n = SSL_do_handshake(t->ssl);
	if (n == 1)
		return 0;
	*writes = SSL_get_error(t->ssl, n) == SSL_ERROR_WANT_WRITE;
	return failed(t, n) == -EAGAIN ? -EAGAIN : -ECONNRESET;
}

ssize_t flat_tls_read(struct flat_tls *t, void *buf, size_t len)
{
	if (t->failed)
		return -ECONNRESET;
	ERR_clear_error();
	int n = SSL_read(t->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
	return n > 0 ? n : failed(t, n);
}

ssize_t flat_tls_write(struct flat_tls *t, const void *buf, size_t len)
{
	if (t->failed)
		return -ECONNRESET;
	ERR_clear_error();
	int n = SSL_write(t->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
	if (n > 0)
		return n;
	ssize_t err = failed(t, n);
	return err == 0 ? -ECONNRESET : err;
}

bool flat_tls_end(struct flat_tls *t)
{
	if (t->failed || !SSL_is_init_finished(t->ssl))
		return true;
	ERR_clear_error();
	int n = SSL_shutdown(t->ssl);
	bool full = n < 0 && SSL_get_error(t->ssl, n) == SSL_ERROR_WANT_WRITE;
	ERR_clear_error();
	return !full;
}

bool flat_tls_ready(const struct flat_tls *t)
{
	return SSL_is_init_finished(t->ssl);
}

bool flat_tls_is_h2(const struct flat_tls *t)
{
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(t->ssl, &name, &len);
	return len == 2 && memcmp(name, "h2", 2) == 0;
}

const char *flat_tls_host(const struct flat_tls *t)
{
	return t->host;
}

const char *flat_tls_principal(struct flat_tls *t)
{
	char id[FLAT_SPIFFE_ID_MAX];
	char why[128];

	if (t->asked || !flat_tls_ready(t))
		return t->principal;
	t->asked = true;
	X509 *leaf = SSL_get0_peer_certificate(t->ssl);
	if (leaf && SSL_get_verify_result(t->ssl) == X509_V_OK &&
	    flat_spiffe_of_leaf(leaf, id, why, sizeof(why)) == 0)
		snprintf(t->principal, sizeof(t->principal), "%s", flat_spiffe_principal(id));
	return t->principal;
}

const char *flat_tls_why(const struct flat_tls *t)
{
	return t->why;
}
