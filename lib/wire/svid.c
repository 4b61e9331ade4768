#include "wire/svid.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/limits.h"

/* RFC 7301: what is spoken inside. */
static const unsigned char alpn[] = {6, 'f', 'l', 'a', 't', '/', '1'};
static const unsigned char alpn_h2[] = {2, 'h', '2'};
/* Of TLS 1.3 (RFC 8446, B.4). The first is the fastest where processors have AES, and what Envoy takes there; OpenSSL's own order
 * begins with the second. */
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

struct loading {
	const char *folder;
	struct flat_svids *set;
	char *why;
	size_t size;
};

static int wrong(const struct loading *l, const char *file, const char *what)
{
	snprintf(l->why, l->size, "%s/%s: %s", l->folder, file, what);
	ERR_clear_error();
	return -EINVAL;
}

/* --- the peer's certificate, at the handshake --- */

static X509_STORE *bundle_of(const struct flat_svids *s, const char *id)
{
	for (uint32_t i = 0; i < s->n_bundles; i++) {
		if (flat_spiffe_in_domain(id, s->bundles[i].domain))
			return s->bundles[i].store;
	}
	return NULL;
}

static int verify(const struct flat_svids *s, X509 *leaf, STACK_OF(X509) * chain, bool server,
		  int64_t *expires_s, char *why, size_t size)
{
	char id[FLAT_SPIFFE_ID_MAX];
	int err = flat_spiffe_of_leaf(leaf, id, why, size);
	if (err != 0)
		return err;
	X509_STORE *store = bundle_of(s, id);
	if (!store) {
		snprintf(why, size, "there is no bundle for the trust domain of %s", id);
		return -EACCES;
	}
	return flat_spiffe_verify(store, leaf, chain, server, expires_s, why, size);
}

int flat_svids_check(const struct flat_svids *s, struct flat_wire_peer *peer, char *why,
		     size_t size)
{
	if (!peer->leaf)
		return -EACCES;
	return verify(s, peer->leaf, peer->chain, peer->server, &peer->expires_s, why, size);
}

/* The client's side knows whom it asks: a flatd, of a trust domain that it has a bundle of. */
static bool is_node(const char *id)
{
	const char *slash = strchr(flat_spiffe_principal(id), '/');
	return slash && strcmp(slash, FLAT_WIRE_NODE_PATH) == 0;
}

static int on_certificate(X509_STORE_CTX *ctx, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct flat_wire_peer *p = SSL_get_app_data(ssl);
	X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(ctx);
	(void)arg;
	int err = verify(p->svids, leaf, chain, p->server, &p->expires_s, p->why, sizeof(p->why));
	if (err == 0)
		err = flat_spiffe_of_leaf(leaf, p->id, p->why, sizeof(p->why));
	if (err == 0 && p->server && !p->hbone && !is_node(p->id)) {
		snprintf(p->why, sizeof(p->why), "%.200s is no flatd's identity", p->id);
		err = -EACCES;
	}
	if (err == 0 && p->server && p->hbone && strcmp(p->id, p->expect) != 0) {
		snprintf(p->why, sizeof(p->why), "it is %.100s, not %.100s", p->id, p->expect);
		err = -EACCES;
	}
	if (err == 0) {
		p->chain = chain ? X509_chain_up_ref(chain) : NULL;
		p->leaf = X509_up_ref(leaf) ? leaf : NULL;
	}
	X509_STORE_CTX_set_error(ctx, err == 0 ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
	return err == 0;
}

void flat_wire_peer_fini(struct flat_wire_peer *peer)
{
	flat_secrets_forget(&peer->secrets);
	X509_free(peer->leaf);
	sk_X509_pop_free(peer->chain, X509_free);
	peer->leaf = NULL;
	peer->chain = NULL;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		   const unsigned char *in, unsigned int in_len, void *arg)
{
	const struct flat_wire_peer *p = SSL_get_app_data(ssl);
	(void)arg;
	return SSL_select_next_proto(
		   (unsigned char **)(uintptr_t)out, out_len, p->hbone ? alpn_h2 : alpn,
		   p->hbone ? sizeof(alpn_h2) : sizeof(alpn), in, in_len) == OPENSSL_NPN_NEGOTIATED
		   ? SSL_TLSEXT_ERR_OK
		   : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void on_secret(const SSL *ssl, const char *line)
{
	struct flat_wire_peer *p = SSL_get_app_data(ssl);
	if (p)
		flat_secrets_take(&p->secrets, line);
}

/* --- one SVID --- */

static SSL_CTX *new_ctx(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	if (!ctx)
		return NULL;
	/* No tickets, no resumption, no early data, no compression: each link shows its certificate. */
	SSL_CTX_set_options(ctx,
			    SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, on_certificate, NULL);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	/* Nothing is logged: what comes after the handshake is record.h's. */
	SSL_CTX_set_keylog_callback(ctx, on_secret);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(ctx, CIPHERS) || !SSL_CTX_set_num_tickets(ctx, 0) ||
	    SSL_CTX_set_alpn_protos(ctx, alpn, sizeof(alpn)) != 0) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static bool too_long(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && (size_t)st.st_size > FLAT_WIRE_FILE_MAX;
}

/* An expired one is told when it is used: the others are of use still. */
static int check_own(const struct loading *l, const struct flat_svid *s, const char *file)
{
	char why[256];
	X509 *leaf = SSL_CTX_get0_certificate(s->ctx);
	STACK_OF(X509) *chain = NULL;
	SSL_CTX_get0_chain_certs(s->ctx, &chain);
	if (s->expires_s <= (int64_t)time(NULL))
		return 0;
	int err = verify(l->set, leaf, chain, false, NULL, why, sizeof(why));
	if (err == 0 && is_node(s->id))
		err = verify(l->set, leaf, chain, true, NULL, why, sizeof(why));
	return err == 0 ? 0 : wrong(l, file, why);
}

/* What its certificate and key say, both in s->ctx. */
static int complete(const struct loading *l, struct flat_svid *s)
{
	char why[256];
	X509 *leaf = SSL_CTX_get0_certificate(s->ctx);
	if (flat_spiffe_of_leaf(leaf, s->id, why, sizeof(why)) != 0)
		return wrong(l, s->file, why);
	if (flat_svids_find(l->set, flat_spiffe_principal(s->id)) != s)
		return wrong(l, s->file, "another one has the same identity");
	s->expires_s = flat_spiffe_expiry(leaf);
	s->late_s = flat_spiffe_late(leaf);
	return 0;
}

/* The next place; s->ctx and s->file are there. */
static int begin_svid(const struct loading *l, const char *name, struct flat_svid **out)
{
	struct flat_svids *set = l->set;
	struct flat_svid *s = &set->v[set->n];
	if (set->n == FLAT_WIRE_SVIDS_MAX)
		return wrong(l, name, "there are too many");
	s->ctx = new_ctx();
	s->file = strdup(name);
	set->n++;
	*out = s;
	return s->ctx && s->file ? 0 : -ENOMEM;
}

static int add_svid(const struct loading *l, const char *file)
{
	struct flat_svid *s;
	char path[4096];
	size_t stem = strlen(file) - 4;
	int n = snprintf(path, sizeof(path), "%s/%s", l->folder, file);
	if (n < 0 || (size_t)n >= sizeof(path) || too_long(path))
		return wrong(l, file, "it is too large");
	int err = begin_svid(l, file, &s);
	if (err != 0)
		return err;
	if (SSL_CTX_use_certificate_chain_file(s->ctx, path) != 1)
		return wrong(l, file, "no certificate can be read from it");
	snprintf(path, sizeof(path), "%s/%.*s.key", l->folder, (int)stem, file);
	if (too_long(path) || SSL_CTX_use_PrivateKey_file(s->ctx, path, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(s->ctx) != 1)
		return wrong(l, file, "its .key is missing, or is another certificate's");
	return complete(l, s);
}

int flat_svids_add(struct flat_svids *set, const char *name, STACK_OF(X509) * certs, EVP_PKEY *key,
		   char *why, size_t size)
{
	struct loading l = {.folder = set->origin, .set = set, .why = why, .size = size};
	struct flat_svid *s;
	int err = begin_svid(&l, name, &s);
	if (err != 0)
		return err;
	if (SSL_CTX_use_certificate(s->ctx, sk_X509_value(certs, 0)) != 1)
		return wrong(&l, name, "its certificate is none");
	for (int i = 1; i < sk_X509_num(certs); i++) {
		if (SSL_CTX_add1_chain_cert(s->ctx, sk_X509_value(certs, i)) != 1)
			return -ENOMEM;
	}
	if (SSL_CTX_use_PrivateKey(s->ctx, key) != 1 || SSL_CTX_check_private_key(s->ctx) != 1)
		return wrong(&l, name, "its key is another certificate's");
	return complete(&l, s);
}

/* --- bundles --- */

static int begin_bundle(const struct loading *l, const char *name, size_t len,
			struct flat_bundle **out)
{
	struct flat_svids *set = l->set;
	struct flat_bundle *b = &set->bundles[set->n_bundles];
	if (set->n_bundles == FLAT_WIRE_SVIDS_MAX)
		return wrong(l, name, "there are too many bundles");
	b->domain = strndup(name, len);
	b->store = X509_STORE_new();
	set->n_bundles++;
	*out = b;
	return b->domain && b->store ? 0 : -ENOMEM;
}

static struct flat_bundle *bundle_named(const struct flat_svids *set, const char *domain)
{
	for (uint32_t i = 0; i < set->n_bundles; i++) {
		if (strcmp(set->bundles[i].domain, domain) == 0)
			return &set->bundles[i];
	}
	return NULL;
}

int flat_svids_add_bundle(struct flat_svids *set, const char *domain, STACK_OF(X509) * certs,
			  char *why, size_t size)
{
	struct loading l = {.folder = set->origin, .set = set, .why = why, .size = size};
	struct flat_bundle *b;
	if (bundle_named(set, domain))
		return 0;
	int err = begin_bundle(&l, domain, strlen(domain), &b);
	for (int i = 0; err == 0 && i < sk_X509_num(certs); i++) {
		if (X509_STORE_add_cert(b->store, sk_X509_value(certs, i)) != 1)
			err = -ENOMEM;
	}
	return err;
}

static int add_bundle(const struct loading *l, const char *file)
{
	struct flat_bundle *b;
	char path[4096];
	size_t stem = strlen(file) - strlen(".bundle");
	int n = snprintf(path, sizeof(path), "%s/%s", l->folder, file);
	if (n < 0 || (size_t)n >= sizeof(path) || too_long(path))
		return wrong(l, file, "it is too large");
	int err = begin_bundle(l, file, stem, &b);
	if (err != 0)
		return err;
	if (X509_STORE_load_file(b->store, path) != 1)
		return wrong(l, file, "no certificate can be read from it");
	ERR_clear_error();
	return 0;
}

/* --- revocation lists --- */

int flat_svids_add_lists(struct flat_svids *set, const char *domain, STACK_OF(X509_CRL) * lists,
			 const char *name, char *why, size_t size)
{
	struct loading l = {.folder = set->origin, .set = set, .why = why, .size = size};
	struct flat_bundle *b = bundle_named(set, domain);
	if (sk_X509_CRL_num(lists) == 0)
		return 0;
	if (!b)
		return wrong(&l, name, "there is no bundle of its trust domain");
	if (!b->lists)
		b->lists = sk_X509_CRL_new_null();
	if (!b->lists_file)
		b->lists_file = strdup(name);
	if (!b->lists || !b->lists_file)
		return -ENOMEM;
	for (int i = 0; i < sk_X509_CRL_num(lists); i++) {
		X509_CRL *one = sk_X509_CRL_value(lists, i);
		if (flat_crl_is_of(one, b->store) < 0)
			return wrong(&l, name,
				     "a list is not signed by the authority that it names");
		if (X509_STORE_add_crl(b->store, one) != 1 || !X509_CRL_up_ref(one))
			return -ENOMEM;
		if (sk_X509_CRL_push(b->lists, one) <= 0) {
			X509_CRL_free(one);
			return -ENOMEM;
		}
	}
	return 0;
}

static int add_lists(const struct loading *l, const char *file)
{
	STACK_OF(X509_CRL) *lists = NULL;
	char path[4096];
	char domain[256];
	char text[200];
	int stem = (int)(strlen(file) - strlen(".crl"));
	int n = snprintf(path, sizeof(path), "%s/%s", l->folder, file);
	int m = snprintf(domain, sizeof(domain), "%.*s", stem, file);
	if (n < 0 || (size_t)n >= sizeof(path) || m < 0 || (size_t)m >= sizeof(domain))
		return wrong(l, file, "its name is too long");
	if (flat_crls_read(path, &lists, text, sizeof(text)) != 0)
		return wrong(l, file, text);
	int err = flat_svids_add_lists(l->set, domain, lists, file, l->why, l->size);
	flat_crls_free(lists);
	return err;
}

int64_t flat_svids_lists_end(const struct flat_svids *s, int64_t now_s)
{
	int64_t next = INT64_MAX;
	for (uint32_t i = 0; i < s->n_bundles; i++) {
		for (int k = 0; k < sk_X509_CRL_num(s->bundles[i].lists); k++) {
			int64_t end = flat_crl_end(sk_X509_CRL_value(s->bundles[i].lists, k));
			next = end > now_s && end < next ? end : next;
		}
	}
	return next;
}

size_t flat_svids_revoked(const struct flat_svids *s)
{
	size_t n = 0;
	for (uint32_t i = 0; i < s->n_bundles; i++) {
		for (int k = 0; k < sk_X509_CRL_num(s->bundles[i].lists); k++)
			n += flat_crl_count(sk_X509_CRL_value(s->bundles[i].lists, k));
	}
	return n;
}

/* From here on each chain is looked up. What that says of our own keeps no list from being in force: it would be how to stay. */
static int begin_lists(struct flat_svids *set)
{
	for (uint32_t i = 0; i < set->n_bundles; i++) {
		const struct flat_bundle *b = &set->bundles[i];
		if (b->lists && X509_STORE_set_flags(b->store, X509_V_FLAG_CRL_CHECK |
								   X509_V_FLAG_CRL_CHECK_ALL) != 1)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < set->n; i++) {
		struct flat_svid *s = &set->v[i];
		STACK_OF(X509) *chain = NULL;
		SSL_CTX_get0_chain_certs(s->ctx, &chain);
		if (s->expires_s <= (int64_t)time(NULL) ||
		    verify(set, SSL_CTX_get0_certificate(s->ctx), chain, false, NULL, s->unfit,
			   sizeof(s->unfit)) == 0)
			s->unfit[0] = 0;
	}
	return 0;
}

/* --- the set --- */

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name);
	size_t m = strlen(end);
	return n > m && strcmp(name + n - m, end) == 0;
}

/* lists: those alone, which want their bundles; else the others. */
static int read_folder(const struct loading *l, bool lists)
{
	DIR *dir = opendir(l->folder);
	int err = 0;
	struct dirent *d;
	if (!dir) {
		err = errno;
		snprintf(l->why, l->size, "%s: %s", l->folder, strerror(err));
		return err ? -err : -EIO;
	}
	while (err == 0 && (d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		if (lists)
			err = ends_with(d->d_name, ".crl") ? add_lists(l, d->d_name) : 0;
		else if (ends_with(d->d_name, ".crt"))
			err = add_svid(l, d->d_name);
		else if (ends_with(d->d_name, ".bundle"))
			err = add_bundle(l, d->d_name);
	}
	closedir(dir);
	return err;
}

int flat_svids_finish(struct flat_svids *set, char *why, size_t size)
{
	struct loading loading = {.folder = set->origin, .set = set, .why = why, .size = size};
	const struct loading *l = &loading;
	for (uint32_t i = 0; i < set->n; i++) {
		struct flat_svid *s = &set->v[i];
		int err = check_own(l, s, s->file);
		if (err != 0)
			return err;
		if (is_node(s->id))
			set->node = s;
	}
	if (set->n == 0) {
		snprintf(why, size, "%s: no SVID is there", l->folder);
		return -EINVAL;
	}
	return begin_lists(set);
}

struct flat_svids *flat_svids_new(const char *origin)
{
	struct flat_svids *set = calloc(1, sizeof(*set));
	if (!set)
		return NULL;
	set->refs = 1;
	set->origin = strdup(origin);
	set->v = calloc(FLAT_WIRE_SVIDS_MAX, sizeof(*set->v));
	set->bundles = calloc(FLAT_WIRE_SVIDS_MAX, sizeof(*set->bundles));
	if (set->origin && set->v && set->bundles)
		return set;
	flat_svids_put(set);
	return NULL;
}

int flat_svids_load(const char *folder, struct flat_svids **out, char *why, size_t size)
{
	struct flat_svids *set = flat_svids_new(folder);
	struct loading l = {.folder = folder, .set = set, .why = why, .size = size};
	int err = -ENOMEM;
	snprintf(why, size, "out of memory");
	if (!set)
		return err;
	err = read_folder(&l, false);
	if (err == 0)
		err = read_folder(&l, true);
	if (err == 0)
		err = flat_svids_finish(set, why, size);
	if (err != 0)
		flat_svids_put(set);
	else
		*out = set;
	return err;
}

struct flat_svids *flat_svids_get(struct flat_svids *s)
{
	s->refs++;
	return s;
}

void flat_svids_put(struct flat_svids *s)
{
	if (!s || --s->refs > 0)
		return;
	for (uint32_t i = 0; s->v && i < s->n; i++) {
		SSL_CTX_free(s->v[i].ctx);
		free(s->v[i].file);
	}
	for (uint32_t i = 0; s->bundles && i < s->n_bundles; i++) {
		X509_STORE_free(s->bundles[i].store);
		flat_crls_free(s->bundles[i].lists);
		free(s->bundles[i].lists_file);
		free(s->bundles[i].domain);
	}
	free(s->v);
	free(s->bundles);
	free(s->origin);
	free(s);
}

const struct flat_svid *flat_svids_find(const struct flat_svids *s, const char *principal)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (strcmp(flat_spiffe_principal(s->v[i].id), principal) == 0)
			return &s->v[i];
	}
	return NULL;
}
