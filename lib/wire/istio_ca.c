#include "wire/istio_ca.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/strbuf.h"
#include "base/sys.h"
#include "codec/protobuf.h"
#include "wire/grpc_stream.h"

#define SCHEME "istio://"
#define PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define TOKEN_FILE "/var/run/secrets/tokens/istio-token"
#define ROOT_FILE "/var/run/secrets/istio/root-cert.pem"
/* Where Istio's injector mounts its ConfigMap istio-ca-crl. */
#define CRL_FILE "/var/run/secrets/istio/crl/ca-crl.pem"
#define TOKEN_MAX 16384
/* What is asked for; the service may give less. Istio's own default. */
#define LIFETIME_S 86400
#define IDENTITIES_MAX 256

/* One identity. Its key and certificates are the newest that were had. */
struct one {
	char id[FLAT_SPIFFE_ID_MAX]; /* "": whatever the token is for */
	EVP_PKEY *key;
	STACK_OF(X509) * certs; /* the leaf first, the roots last */
	int n_roots;
	int64_t due_s;
};

struct flat_istio_ca {
	char *uri;
	char *text; /* its parts, into which the next ones point */
	const char *host;
	const char *port;
	const char *name;
	const char *token;
	const char *root;
	const char *cluster;
	const char *domain;
	const char *crl;
	struct stat crl_seen; /* of the file in force; st_ino 0: there is none */
	struct one *v;
	uint32_t n;
};

static int64_t now_s(void)
{
	return (int64_t)time(NULL);
}

/* --- its name --- */

bool flat_istio_ca_is(const char *text)
{
	return strncmp(text, SCHEME, strlen(SCHEME)) == 0;
}

static bool set_option(struct flat_istio_ca *ca, char *option)
{
	char *value = strchr(option, '=');
	if (!value || !value[1])
		return false;
	*value++ = 0;
	const struct {
		const char *name;
		const char **to;
	} known[] = {{"name", &ca->name},	{"token", &ca->token},	 {"root", &ca->root},
		     {"cluster", &ca->cluster}, {"domain", &ca->domain}, {"crl", &ca->crl}};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(known); i++) {
		if (strcmp(option, known[i].name) == 0) {
			*known[i].to = value;
			return true;
		}
	}
	if (strcmp(option, "for") != 0 || ca->n == IDENTITIES_MAX)
		return false;
	/* Completed with the domain, which may come later. */
	snprintf(ca->v[ca->n++].id, FLAT_SPIFFE_ID_MAX, "%s", value);
	return true;
}

static bool set_identity(const struct flat_istio_ca *ca, struct one *one)
{
	char given[FLAT_SPIFFE_ID_MAX];
	memcpy(given, one->id, sizeof(given));
	char *slash = strchr(given, '/');
	if (!slash)
		return false;
	*slash = 0;
	int n = snprintf(one->id, sizeof(one->id), FLAT_SPIFFE_SCHEME "%s/ns/%s/sa/%s", ca->domain,
			 given, slash + 1);
	return n > 0 && (size_t)n < sizeof(one->id) && !strchr(slash + 1, '/') &&
	       flat_spiffe_valid(one->id);
}

static int parse(struct flat_istio_ca *ca)
{
	char *options = strchr(ca->text, '?');
	char *save = NULL;
	if (options)
		*options++ = 0;
	char *colon = strrchr(ca->text, ':');
	if (!colon || colon == ca->text || !colon[1])
		return -EINVAL;
	*colon = 0;
	ca->host = ca->name = ca->text;
	ca->port = colon + 1;
	for (char *o = options ? strtok_r(options, "&", &save) : NULL; o;
	     o = strtok_r(NULL, "&", &save)) {
		if (!set_option(ca, o))
			return -EINVAL;
	}
	for (uint32_t i = 0; i < ca->n; i++) {
		if (!set_identity(ca, &ca->v[i]))
			return -EINVAL;
	}
	/* The token's own. */
	ca->n += ca->n == 0;
	return 0;
}

int flat_istio_ca_open(const char *uri, struct flat_istio_ca **out, char *why, size_t size)
{
	struct flat_istio_ca *ca = calloc(1, sizeof(*ca));
	snprintf(why, size, "out of memory");
	if (!ca)
		return -ENOMEM;
	ca->token = TOKEN_FILE;
	ca->root = ROOT_FILE;
	ca->cluster = "Kubernetes";
	ca->domain = "cluster.local";
	ca->crl = CRL_FILE;
	ca->uri = strdup(uri);
	ca->text = strdup(uri + strlen(SCHEME));
	ca->v = calloc(IDENTITIES_MAX, sizeof(*ca->v));
	int err = ca->uri && ca->text && ca->v ? parse(ca) : -ENOMEM;
	if (err == -EINVAL)
		snprintf(why, size,
			 "give istio://HOST:PORT?token=FILE&root=FILE, and of name, cluster, "
			 "domain, crl=FILE, for=NAMESPACE/ACCOUNT what is needed");
	if (err != 0)
		flat_istio_ca_close(ca);
	else
		*out = ca;
	return err;
}

void flat_istio_ca_close(struct flat_istio_ca *ca)
{
	if (!ca)
		return;
	for (uint32_t i = 0; ca->v && i < ca->n; i++) {
		EVP_PKEY_free(ca->v[i].key);
		sk_X509_pop_free(ca->v[i].certs, X509_free);
	}
	free(ca->v);
	free(ca->text);
	free(ca->uri);
	free(ca);
}

/* --- the request --- */

static int add_name(X509_REQ *req, const char *id)
{
	char text[FLAT_SPIFFE_ID_MAX + 32];
	STACK_OF(X509_EXTENSION) *v = sk_X509_EXTENSION_new_null();
	snprintf(text, sizeof(text), "critical,URI:%s", id);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, text);
	int ok = v && e && sk_X509_EXTENSION_push(v, e) > 0 && X509_REQ_add_extensions(req, v);
	X509_EXTENSION_free(e);
	sk_X509_EXTENSION_free(v);
	return ok;
}

/* PEM. False: no memory. */
static bool put_request(struct flat_strbuf *out, EVP_PKEY *key, const char *id)
{
	X509_REQ *req = X509_REQ_new();
	BIO *pem = BIO_new(BIO_s_mem());
	char *text = NULL;
	bool ok = req && pem && key && X509_REQ_set_version(req, X509_REQ_VERSION_1) &&
		  X509_REQ_set_pubkey(req, key) && (!id[0] || add_name(req, id)) &&
		  X509_REQ_sign(req, key, EVP_sha256()) > 0 && PEM_write_bio_X509_REQ(pem, req);
	long n = ok ? BIO_get_mem_data(pem, &text) : 0;
	if (ok)
		flat_protobuf_put_bytes(out, 1, text, (size_t)n);
	BIO_free(pem);
	X509_REQ_free(req);
	ERR_clear_error();
	return ok;
}

/* Metadata, a google.protobuf.Struct: "ImpersonatedIdentity" is a string. */
static void put_impersonation(struct flat_strbuf *out, const char *id)
{
	struct flat_strbuf value = {0};
	struct flat_strbuf entry = {0};
	struct flat_strbuf all = {0};
	flat_protobuf_put_bytes(&value, 3, id, strlen(id));
	flat_protobuf_put_bytes(&entry, 1, "ImpersonatedIdentity", strlen("ImpersonatedIdentity"));
	flat_protobuf_put_bytes(&entry, 2, value.data, value.len);
	flat_protobuf_put_bytes(&all, 1, entry.data, entry.len);
	flat_protobuf_put_bytes(out, 4, all.data, all.len);
	out->failed |= value.failed || entry.failed || all.failed;
	flat_strbuf_fini(&value);
	flat_strbuf_fini(&entry);
	flat_strbuf_fini(&all);
}

/* --- the connection --- */

static SSL *session(const struct flat_istio_ca *ca, char *why, size_t size)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = NULL;
	if (ctx && SSL_CTX_load_verify_file(ctx, ca->root) != 1)
		snprintf(why, size, "%s: no certificate can be read from it", ca->root);
	else if (ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
		ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	if (!ssl)
		return NULL;
	SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	SSL_set_connect_state(ssl);
	/* 0 is success with this one. */
	if (SSL_set1_host(ssl, ca->name) == 1 && SSL_set_tlsext_host_name(ssl, ca->name) == 1 &&
	    SSL_set_alpn_protos(ssl, (const unsigned char *)"\2h2", 3) == 0)
		return ssl;
	SSL_free(ssl);
	return NULL;
}

/* Until it is connected or is not. 0, -ECANCELED: told to stop, or why not. */
static int wait_connected(int fd, int stop_fd, int ms)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLOUT}, {.fd = stop_fd, .events = POLLIN}};
	int err = 0;
	socklen_t len = sizeof(err);
	int64_t end_us = flat_now_us() + (int64_t)ms * 1000;
	int n;
	do {
		int64_t left_ms = (end_us - flat_now_us()) / 1000;
		n = poll(p, 2, left_ms > 0 ? (int)left_ms : 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	if (p[1].revents)
		return -ECANCELED;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? -err : -errno;
}

/* A connected socket, or a negative errno. */
static int connect_one(const struct addrinfo *a, int stop_fd, int ms)
{
	int fd = flat_sys_socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? fd : flat_sys_connect(fd, a->ai_addr, a->ai_addrlen);
	if (err == -EINPROGRESS)
		err = wait_connected(fd, stop_fd, ms);
	if (err == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return err;
}

/* The addresses of its name in their order; each has its part of half the time of a call. The reason is that of the last. */
static int connect_to(const struct flat_istio_ca *ca, int stop_fd, char *why, size_t size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *all = NULL;
	int code = getaddrinfo(ca->host, ca->port, &hints, &all);
	int fd = -EHOSTUNREACH;
	int n = 0;
	if (code != 0) {
		snprintf(why, size, "%s:%s: %s", ca->host, ca->port, gai_strerror(code));
		return fd;
	}
	for (const struct addrinfo *a = all; a; a = a->ai_next)
		n++;
	for (const struct addrinfo *a = all; a && fd < 0 && fd != -ECANCELED; a = a->ai_next)
		fd = connect_one(a, stop_fd, FLAT_ISTIO_CA_MS / 2 / n);
	freeaddrinfo(all);
	if (fd < 0)
		snprintf(why, size, "%s:%s: %s%s", ca->host, ca->port, strerror(-fd),
			 n > 1 ? " (the last of its addresses)" : "");
	return fd;
}

static int read_token(const struct flat_istio_ca *ca, char *bearer, size_t room, char *why,
		      size_t size)
{
	FILE *f = fopen(ca->token, "re");
	size_t n = 0;
	if (f) {
		n = (size_t)snprintf(bearer, room, "Bearer ");
		n += fread(bearer + n, 1, room - n - 1, f);
		(void)fclose(f);
	}
	while (n > 0 && (bearer[n - 1] == '\n' || bearer[n - 1] == '\r' || bearer[n - 1] == ' '))
		n--;
	bearer[n] = 0;
	for (const char *p = bearer; *p; p++)
		n = *p > 0x1f && *p < 0x7f ? n : 0;
	if (n > strlen("Bearer "))
		return 0;
	snprintf(why, size, "%s: no token can be read from it", ca->token);
	return -EINVAL;
}

/* --- the answer --- */

/* PEM, one or more. */
static bool add_pem(STACK_OF(X509) * v, struct flat_protobuf_field text)
{
	BIO *bio = BIO_new_mem_buf(text.bytes, (int)text.len);
	X509 *c;
	int before = sk_X509_num(v);
	while (bio && (c = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		if (sk_X509_push(v, c) > 0)
			continue;
		X509_free(c);
		break;
	}
	BIO_free(bio);
	ERR_clear_error();
	return sk_X509_num(v) > before;
}

struct answer {
	STACK_OF(X509) * certs;
	int before_last; /* of them before the last text */
};

static int on_answer(void *arg, const uint8_t *bytes, size_t len)
{
	struct answer *a = arg;
	struct flat_protobuf_field f;
	size_t at = 0;
	int got;
	while ((got = flat_protobuf_next(bytes, len, &at, &f)) > 0) {
		if (f.number != 1)
			continue;
		a->before_last = sk_X509_num(a->certs);
		if (!f.bytes || !add_pem(a->certs, f))
			return -EINVAL;
	}
	return got == 0 ? 0 : -EINVAL;
}

/* The last text holds the roots: two while one takes the place of the other. All in one text: its last is the root. */
static int n_roots(const struct answer *a)
{
	return a->before_last > 0 ? sk_X509_num(a->certs) - a->before_last : 1;
}

/* When half of the leaf's time is over. */
static int64_t half_time(const X509 *leaf)
{
	int days = 0;
	int seconds = 0;
	if (!ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(leaf)))
		return now_s();
	return now_s() + ((int64_t)days * 86400 + seconds) / 2;
}

/* --- one identity --- */

static int call(const struct flat_istio_ca *ca, const struct flat_grpc_call *how, char *bearer,
		size_t bearer_size)
{
	const char *const fields[] = {"authorization", bearer, "clusterid", ca->cluster, NULL};
	struct flat_grpc_call c = *how;
	int err = read_token(ca, bearer, bearer_size, c.why, c.size);
	if (err != 0)
		return err;
	c.fields = fields;
	c.ssl = session(ca, c.why, c.size);
	if (!c.ssl)
		return -EINVAL;
	c.fd = connect_to(ca, c.stop_fd, c.why, c.size);
	err = c.fd < 0 ? c.fd : flat_grpc_stream(&c);
	SSL_free(c.ssl);
	if (c.fd >= 0)
		close(c.fd);
	return err;
}

static int ask_one(const struct flat_istio_ca *ca, struct one *one, int stop_fd, char *why,
		   size_t size)
{
	struct flat_strbuf request = {0};
	char bearer[TOKEN_MAX];
	char text[256];
	EVP_PKEY *key = EVP_EC_gen("P-256");
	STACK_OF(X509) *certs = sk_X509_new_null();
	struct answer answer = {.certs = certs};
	int err = -ENOMEM;
	snprintf(why, size, "out of memory");
	if (!certs || !put_request(&request, key, one->id))
		goto out;
	flat_protobuf_put_number(&request, 3, LIFETIME_S);
	if (one->id[0])
		put_impersonation(&request, one->id);
	if (request.failed)
		goto out;
	struct flat_grpc_call c = {.stop_fd = stop_fd,
				   .path = PATH,
				   .authority = ca->name,
				   .message = (const uint8_t *)request.data,
				   .len = request.len,
				   .timeout_ms = FLAT_ISTIO_CA_MS,
				   .take = on_answer,
				   .arg = &answer,
				   .why = why,
				   .size = size};
	snprintf(why, size, "the answer is wrong");
	err = call(ca, &c, bearer, sizeof(bearer));
	char id[FLAT_SPIFFE_ID_MAX];
	if (err == 0 && sk_X509_num(certs) < 2) {
		snprintf(why, size, "the answer has no certificate with its root");
		err = -EINVAL;
	}
	if (err == 0)
		err = flat_spiffe_of_leaf(sk_X509_value(certs, 0), id, text, sizeof(text));
	if (err == 0 && one->id[0] && strcmp(id, one->id) != 0) {
		snprintf(why, size, "the certificate is of %.150s", id);
		err = -EINVAL;
	}
	if (err == 0) {
		EVP_PKEY_free(one->key);
		sk_X509_pop_free(one->certs, X509_free);
		one->key = key;
		one->certs = certs;
		one->n_roots = n_roots(&answer);
		one->due_s = half_time(sk_X509_value(certs, 0));
		key = NULL;
		certs = NULL;
	}
out:
	flat_strbuf_fini(&request);
	EVP_PKEY_free(key);
	sk_X509_pop_free(certs, X509_free);
	return err;
}

/* --- the set --- */

/* Its certificates from `from` on up to `to`, appended to `out`, which borrows them. */
static int put_certs(STACK_OF(X509) * out, const struct one *one, int from, int to)
{
	for (int i = from; i < to; i++) {
		if (sk_X509_push(out, sk_X509_value(one->certs, i)) <= 0)
			return -ENOMEM;
	}
	return 0;
}

/* Its roots go to `roots`: all identities are of one trust domain, whose bundle is what each of them was given. */
static int add(struct flat_svids *set, const struct one *one, STACK_OF(X509) * roots, char *why,
	       size_t size)
{
	char id[FLAT_SPIFFE_ID_MAX];
	STACK_OF(X509) *shown = sk_X509_new_null();
	int n = sk_X509_num(one->certs);
	int err = flat_spiffe_of_leaf(sk_X509_value(one->certs, 0), id, why, size);
	if (err == 0)
		err = shown ? put_certs(shown, one, 0, n - one->n_roots) : -ENOMEM;
	if (err == 0)
		err = flat_svids_add(set, id, shown, one->key, why, size);
	if (err == 0)
		err = put_certs(roots, one, n - one->n_roots, n);
	sk_X509_free(shown);
	return err;
}

/* What the file is now; zero: not there. */
static struct stat look_at_lists(const struct flat_istio_ca *ca)
{
	struct stat st;
	if (stat(ca->crl, &st) != 0)
		memset(&st, 0, sizeof(st));
	return st;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Of the trust domain that the roots are of. */
static int put_lists(const struct flat_istio_ca *ca, struct flat_svids *set, const char *domain,
		     char *why, size_t size)
{
	STACK_OF(X509_CRL) *lists = NULL;
	char text[200];
	int err = flat_crls_read(ca->crl, &lists, text, sizeof(text));
	if (err == -ENOENT || err == -ENOTDIR)
		return 0;
	if (err != 0)
		snprintf(why, size, "%s: %s", ca->crl, text);
	else
		err = flat_svids_add_lists(set, domain, lists, ca->crl, why, size);
	flat_crls_free(lists);
	return err;
}

static int add_roots(const struct flat_istio_ca *ca, struct flat_svids *set, STACK_OF(X509) * roots,
		     char *why, size_t size)
{
	char domain[FLAT_SPIFFE_ID_MAX];
	const char *principal = flat_spiffe_principal(set->v[0].id);
	snprintf(domain, sizeof(domain), "%.*s", (int)strcspn(principal, "/"), principal);
	int err = flat_svids_add_bundle(set, domain, roots, why, size);
	return err == 0 ? put_lists(ca, set, domain, why, size) : err;
}

static int make_set(struct flat_istio_ca *ca, struct flat_svids **out, char *why, size_t size)
{
	struct stat seen = look_at_lists(ca);
	struct flat_svids *set = flat_svids_new(ca->host);
	STACK_OF(X509) *roots = sk_X509_new_null();
	int err = set && roots ? 0 : -ENOMEM;
	for (uint32_t i = 0; err == 0 && i < ca->n; i++) {
		if (ca->v[i].certs)
			err = add(set, &ca->v[i], roots, why, size);
	}
	if (err == 0 && set->n > 0)
		err = add_roots(ca, set, roots, why, size);
	sk_X509_free(roots);
	if (err == 0)
		err = flat_svids_finish(set, why, size);
	if (err == 0) {
		*out = set;
		ca->crl_seen = seen;
	} else {
		flat_svids_put(set);
	}
	return err;
}

static bool has_news(const struct flat_istio_ca *ca)
{
	const struct stat now = look_at_lists(ca);
	bool any = false;
	for (uint32_t i = 0; i < ca->n; i++)
		any |= ca->v[i].certs != NULL;
	return any && !is_same_file(&now, &ca->crl_seen);
}

int flat_istio_ca_ask(struct flat_istio_ca *ca, int stop_fd, struct flat_svids **out, char *why,
		      size_t size)
{
	char text[256];
	bool news = has_news(ca);
	int failed = 0;
	*out = NULL;
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
	for (uint32_t i = 0; i < ca->n; i++) {
		struct one *one = &ca->v[i];
		if (one->certs && now_s() < one->due_s)
			continue;
		if (poll(&stop, 1, 0) > 0)
			return -ECANCELED;
		int err = ask_one(ca, one, stop_fd, text, sizeof(text));
		if (err == -ECANCELED)
			return err;
		news |= err == 0;
		if (err == 0 || failed != 0)
			continue;
		failed = err;
		snprintf(why, size, "%s:%s%s%s: %s", ca->host, ca->port, one->id[0] ? " for " : "",
			 one->id, text);
	}
	if (news && failed == 0)
		return make_set(ca, out, why, size);
	if (news && make_set(ca, out, text, sizeof(text)) != 0)
		snprintf(why, size, "%s", text);
	return failed;
}

int flat_istio_ca_wait_ms(const struct flat_istio_ca *ca)
{
	int64_t first = now_s() + LIFETIME_S;
	for (uint32_t i = 0; i < ca->n; i++)
		first = ca->v[i].due_s < first ? ca->v[i].due_s : first;
	/* Not more often than this, however short they live; and the file of lists may have changed. */
	int64_t left_ms = first > now_s() ? (first - now_s()) * 1000 : FLAT_SVID_RETRY_MS;
	return left_ms < FLAT_ISTIO_CRL_MS ? (int)left_ms : FLAT_ISTIO_CRL_MS;
}
