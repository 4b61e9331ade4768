#include "wire/workload_api.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/protobuf.h"

/* --- certificates --- */

/* DER, one behind the other. NULL: none, or something else among them. */
static STACK_OF(X509) * certificates(struct flat_protobuf_field m)
{
	STACK_OF(X509) *v = sk_X509_new_null();
	const uint8_t *p = m.bytes;
	while (v && p && p < m.bytes + m.len) {
		X509 *c = d2i_X509(NULL, &p, (long)(m.bytes + m.len - p));
		if (c && sk_X509_push(v, c) > 0)
			continue;
		X509_free(c);
		sk_X509_pop_free(v, X509_free);
		v = NULL;
	}
	if (v && sk_X509_num(v) == 0) {
		sk_X509_free(v);
		v = NULL;
	}
	ERR_clear_error();
	return v;
}

struct reading {
	struct flat_svids *set;
	char *why;
	size_t size;
};

static int wrong(const struct reading *r, const char *what)
{
	snprintf(r->why, r->size, "%s: %s", r->set->origin, what);
	ERR_clear_error();
	return -EINVAL;
}

static int add_bundle(const struct reading *r, const char *domain, struct flat_protobuf_field der)
{
	STACK_OF(X509) *certs = certificates(der);
	int err = certs ? flat_svids_add_bundle(r->set, domain, certs, r->why, r->size)
			: wrong(r, "a bundle has no certificates");
	sk_X509_pop_free(certs, X509_free);
	return err;
}

/* "spiffe://DOMAIN/..." or without a path. */
static bool domain_of(struct flat_protobuf_field id, char domain[256])
{
	size_t scheme = strlen(FLAT_SPIFFE_SCHEME);
	size_t n = 0;
	if (id.len > scheme && memcmp(id.bytes, FLAT_SPIFFE_SCHEME, scheme) == 0) {
		id.bytes += scheme;
		id.len -= scheme;
	}
	while (n < id.len && id.bytes[n] != '/')
		n++;
	if (n == 0 || n > 255 || memchr(id.bytes, 0, n))
		return false;
	memcpy(domain, id.bytes, n);
	domain[n] = 0;
	return true;
}

/* --- the message --- */

/* X509SVID: 1 SPIFFE ID, 2 certificates, 3 key (PKCS#8), 4 bundle, 5 hint. */
static int add_svid(const struct reading *r, struct flat_protobuf_field m)
{
	struct flat_protobuf_field part[6] = {0};
	struct flat_protobuf_field f;
	size_t at = 0;
	char domain[256];
	char name[FLAT_SPIFFE_ID_MAX];
	int got;
	while ((got = flat_protobuf_next(m.bytes, m.len, &at, &f)) > 0) {
		if (f.number < FLAT_ARRAY_SIZE(part))
			part[f.number] = f;
	}
	if (got < 0 || !domain_of(part[1], domain) || part[1].len >= sizeof(name))
		return wrong(r, "an SVID is no message");
	snprintf(name, sizeof(name), "%.*s", (int)part[1].len, (const char *)part[1].bytes);
	if (!flat_spiffe_valid(name))
		return wrong(r, "an SVID has no SPIFFE ID");
	if (flat_svids_find(r->set, flat_spiffe_principal(name)))
		return 0; /* the first one of an identity counts, as the API has it */
	const uint8_t *p = part[3].bytes;
	STACK_OF(X509) *certs = certificates(part[2]);
	EVP_PKEY *key = p ? d2i_AutoPrivateKey(NULL, &p, (long)part[3].len) : NULL;
	int err = certs && key ? flat_svids_add(r->set, name, certs, key, r->why, r->size)
			       : wrong(r, "an SVID has no certificate or key");
	if (err == 0 && strcmp(r->set->v[r->set->n - 1].id, name) != 0)
		err = wrong(r, "a certificate is another identity's than is said");
	sk_X509_pop_free(certs, X509_free);
	EVP_PKEY_free(key);
	return err == 0 ? add_bundle(r, domain, part[4]) : err;
}

/* A map's entry: 1 trust domain, 2 bundle. */
static int add_federated(const struct reading *r, struct flat_protobuf_field m)
{
	struct flat_protobuf_field part[3] = {0};
	struct flat_protobuf_field f;
	size_t at = 0;
	char domain[256];
	int got;
	while ((got = flat_protobuf_next(m.bytes, m.len, &at, &f)) > 0) {
		if (f.number < FLAT_ARRAY_SIZE(part))
			part[f.number] = f;
	}
	if (got < 0 || !domain_of(part[1], domain))
		return wrong(r, "a federated bundle is no message");
	return add_bundle(r, domain, part[2]);
}

/*
 * Whose a list is the message does not say: of the domains whose authority signed it; of an authority in between: of the first
 * SVID's.
 */
static int add_list(const struct reading *r, X509_CRL *list)
{
	STACK_OF(X509_CRL) *one = sk_X509_CRL_new_null();
	char domain[FLAT_SPIFFE_ID_MAX];
	const char *first = r->set->n > 0 ? flat_spiffe_principal(r->set->v[0].id) : "";
	int err = one && sk_X509_CRL_push(one, list) > 0 ? 0 : -ENOMEM;
	bool found = false;
	for (uint32_t i = 0; err == 0 && i < r->set->n_bundles; i++) {
		if (flat_crl_is_of(list, r->set->bundles[i].store) != 1)
			continue;
		found = true;
		err = flat_svids_add_lists(r->set, r->set->bundles[i].domain, one, "its lists",
					   r->why, r->size);
	}
	snprintf(domain, sizeof(domain), "%.*s", (int)strcspn(first, "/"), first);
	if (err == 0 && !found)
		err = flat_svids_add_lists(r->set, domain, one, "its lists", r->why, r->size);
	sk_X509_CRL_free(one);
	return err;
}

static int add_lists(const struct reading *r, const uint8_t *bytes, size_t len)
{
	STACK_OF(X509_CRL) *lists = sk_X509_CRL_new_null();
	struct flat_protobuf_field f;
	size_t at = 0;
	int err = lists ? 0 : -ENOMEM;
	while (err == 0 && flat_protobuf_next(bytes, len, &at, &f) > 0) {
		if (f.number != 2 || !f.is_bytes)
			continue;
		err = flat_crls_add_der(lists, f.bytes, f.len);
		if (err == -EINVAL)
			(void)wrong(r, "a revocation list is none");
	}
	for (int i = 0; err == 0 && i < sk_X509_CRL_num(lists); i++)
		err = add_list(r, sk_X509_CRL_value(lists, i));
	flat_crls_free(lists);
	return err;
}

int flat_workload_api_read(const char *origin, const uint8_t *bytes, size_t len,
			   struct flat_svids **out, char *why, size_t size)
{
	struct reading r = {.set = flat_svids_new(origin), .why = why, .size = size};
	struct flat_protobuf_field f;
	size_t at = 0;
	int err = 0;
	int got = 0;
	snprintf(why, size, "out of memory");
	if (!r.set)
		return -ENOMEM;
	/* X509SVIDResponse: 1 SVIDs, 2 CRLs, 3 bundles of other domains. */
	while (err == 0 && (got = flat_protobuf_next(bytes, len, &at, &f)) > 0) {
		if (f.number == 1)
			err = add_svid(&r, f);
		else if (f.number == 3)
			err = add_federated(&r, f);
	}
	if (err == 0 && got < 0)
		err = wrong(&r, "the answer is no message");
	if (err == 0)
		err = add_lists(&r, bytes, len);
	if (err == 0)
		err = flat_svids_finish(r.set, why, size);
	if (err != 0)
		flat_svids_put(r.set);
	else
		*out = r.set;
	return err;
}
