/* Of a server's several certificates the one that a session shows: by the name that is asked for, by what the client understands. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/tls.h"

#define PEM_MAX 4096

/* A certificate that its own key has signed. */
struct made {
	char cert[PEM_MAX];
	char key[PEM_MAX];
};

static void take(BIO *bio, char out[PEM_MAX])
{
	int n = BIO_read(bio, out, PEM_MAX - 1);

	cr_assert(n > 0);
	out[n] = 0;
	BIO_free(bio);
}

static void write_down(struct made *m, X509 *c, EVP_PKEY *key)
{
	BIO *cert = BIO_new(BIO_s_mem());
	BIO *text = BIO_new(BIO_s_mem());

	cr_assert(PEM_write_bio_X509(cert, c));
	cr_assert(PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL));
	take(cert, m->cert);
	take(text, m->key);
}

/* Its common name is `name`, by which the test knows it again. */
static void make(struct made *m, EVP_PKEY *key, const char *name, const char *alt)
{
	X509 *c = X509_new();
	X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);

	cr_assert(c && san && key);
	X509_set_version(c, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(c), 1);
	X509_gmtime_adj(X509_getm_notBefore(c), -60);
	X509_gmtime_adj(X509_getm_notAfter(c), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(c, X509_get_subject_name(c));
	X509_set_pubkey(c, key);
	X509_add_ext(c, san, -1);
	cr_assert(X509_sign(c, key, EVP_sha256()) > 0);
	write_down(m, c, key);
	X509_EXTENSION_free(san);
	X509_free(c);
	EVP_PKEY_free(key);
}

enum { EC, RSA2, CURVE, OTHER, WILD, N };

static struct made made[N];
static struct flat_tls_pair pairs[N];

static void make_all(void)
{
	make(&made[EC], EVP_EC_gen("P-256"), "ec", "DNS:one.example");
	make(&made[RSA2], EVP_RSA_gen(2048), "rsa", "DNS:one.example");
	make(&made[CURVE], EVP_EC_gen("P-384"), "curve", "DNS:one.example");
	make(&made[OTHER], EVP_EC_gen("P-256"), "other", "DNS:other.example,DNS:a.wild.example");
	make(&made[WILD], EVP_RSA_gen(2048), "wild", "DNS:*.wild.example,DNS:*.more.example");
	for (int i = 0; i < N; i++)
		pairs[i] = (struct flat_tls_pair){{NULL, made[i].cert}, {NULL, made[i].key}};
}

static SSL_CTX *pick(void *arg, const char *host)
{
	(void)host;
	return arg;
}

struct client {
	int version;
	const char *host;	/* NULL: none is asked for */
	const char *signatures; /* NULL: OpenSSL's */
};

static SSL *client_of(const struct client *c, SSL_CTX *ctx, int fd)
{
	SSL *ssl = SSL_new(ctx);
	bool set = ssl && SSL_set_fd(ssl, fd) && SSL_set_min_proto_version(ssl, c->version) &&
		   SSL_set_max_proto_version(ssl, c->version) &&
		   (!c->host || SSL_set_tlsext_host_name(ssl, c->host)) &&
		   (!c->signatures || SSL_set1_sigalgs_list(ssl, c->signatures));

	cr_assert(set);
	return ssl;
}

/* The common name of what is shown to a client, which believes anybody; "" if the handshake fails. */
static const char *shown(SSL_CTX *front, const struct client *c)
{
	static char name[64];
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int fds[2];
	int done = -1;
	char byte;

	name[0] = 0;
	cr_assert(ctx && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	SSL *client = client_of(c, ctx, fds[1]);
	struct flat_tls *server = flat_tls_accept(front, fds[0]);
	cr_assert_not_null(server);
	for (int i = 0; i < 20 && done != 1; i++) {
		done = SSL_connect(client);
		(void)flat_tls_read(server, &byte, 1);
	}
	X509 *leaf = done == 1 ? SSL_get0_peer_certificate(client) : NULL;
	if (leaf)
		X509_NAME_get_text_by_NID(X509_get_subject_name(leaf), NID_commonName, name,
					  sizeof(name));
	SSL_free(client);
	SSL_CTX_free(ctx);
	flat_tls_free(server);
	close(fds[0]);
	close(fds[1]);
	return name;
}

static SSL_CTX *context_of(const struct flat_tls_pair *v, uint32_t n)
{
	struct flat_tls_options options = {.pairs = v, .n_pairs = n};
	SSL_CTX *ctx = NULL;
	char why[200] = "";

	cr_assert_eq(flat_tls_context(&options, &ctx, why, sizeof(why)), 0, "%s", why);
	return ctx;
}

Test(tls_certs, a_session_shows_the_one_that_bears_the_name_and_that_the_client_understands)
{
	static const struct {
		const char *host;
		const char *signatures;
		const char *shown;
		const char *shown12; /* of TLS 1.2, where it is another */
	} cases[] = {
	    {"one.example", NULL, "ec", NULL},
	    {"one.example", "RSA+SHA256:RSA-PSS+SHA256", "rsa", NULL},
	    /* TLS 1.2 binds no curve to a signature (RFC 8446, 4.2.3). */
	    {"one.example", "ECDSA+SHA384:RSA-PSS+SHA256", "curve", "ec"},
	    {"ONE.example", NULL, "ec", NULL},
	    {"other.example", NULL, "other", NULL},
	    /* Exactly borne before a wildcard, whatever the key. */
	    {"a.wild.example", NULL, "other", NULL},
	    {"b.wild.example", NULL, "wild", NULL},
	    {"b.more.example", NULL, "wild", NULL},
	    /* None bears it, or none is asked for: as if there were no names. */
	    {"c.b.wild.example", NULL, "ec", NULL},
	    {"elsewhere.test", "RSA+SHA256:RSA-PSS+SHA256", "rsa", NULL},
	    {NULL, NULL, "ec", NULL},
	    {NULL, "RSA+SHA256:RSA-PSS+SHA256", "rsa", NULL},
	};
	SSL_CTX *ctx;
	SSL_CTX *front;

	make_all();
	ctx = context_of(pairs, N);
	front = flat_tls_front(pick, ctx, true);
	cr_assert_not_null(front);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		const char *old = cases[i].shown12 ? cases[i].shown12 : cases[i].shown;

		struct client c = {TLS1_3_VERSION, cases[i].host, cases[i].signatures};

		cr_expect_str_eq(shown(front, &c), cases[i].shown, "case %zu", i);
		c.version = TLS1_2_VERSION;
		cr_expect_str_eq(shown(front, &c), old, "case %zu of TLS 1.2", i);
	}
	SSL_CTX_free(front);
	SSL_CTX_free(ctx);
}

Test(tls_certs, a_client_that_understands_no_key_is_refused)
{
	SSL_CTX *ctx;
	SSL_CTX *front;

	make_all();
	ctx = context_of(pairs, 1);
	front = flat_tls_front(pick, ctx, true);
	cr_assert_not_null(front);
	cr_expect_str_eq(
	    shown(front, &(struct client){TLS1_3_VERSION, "one.example", "RSA-PSS+SHA256"}), "");
	cr_expect_str_eq(shown(front, &(struct client){TLS1_3_VERSION, "elsewhere.test", NULL}),
			 "ec", "the one that there is, whatever it bears");
	SSL_CTX_free(front);
	SSL_CTX_free(ctx);
}

Test(tls_certs, what_is_wrong_with_one_of_them_is_said)
{
	struct flat_tls_options options = {.pairs = pairs, .n_pairs = 2};
	SSL_CTX *ctx = NULL;
	char why[200] = "";

	make_all();
	pairs[1].key.text = made[WILD].key;
	cr_expect_eq(flat_tls_context(&options, &ctx, why, sizeof(why)), -EINVAL);
	cr_expect(strstr(why, "the private key of the Secret: key values mismatch"), "%s", why);
	pairs[1].key.text = made[EC].key;
	cr_expect_eq(flat_tls_context(&options, &ctx, why, sizeof(why)), -EINVAL);
	cr_expect(strstr(why, "the private key of the Secret: key type mismatch"), "%s", why);
	pairs[1] = (struct flat_tls_pair){{NULL, "x"}, {NULL, made[EC].key}};
	cr_expect_eq(flat_tls_context(&options, &ctx, why, sizeof(why)), -EINVAL);
	cr_expect(strstr(why, "the certificate of the Secret: no start line"), "%s", why);
	pairs[1].cert = (struct flat_pem){.file = "/nowhere/a.crt"};
	cr_expect_eq(flat_tls_context(&options, &ctx, why, sizeof(why)), -EINVAL);
	cr_expect(strstr(why, "/nowhere/a.crt cannot be read"), "%s", why);
	cr_expect_null(ctx);
}
