/* What a Workload API answers: whole, cut anywhere, wrong. */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_wire.h"
#include "wire/ca.h"
#include "wire/workload_api.h"

struct bytes {
	uint8_t v[16384];
	size_t n;
};

static struct wire_folder folder;

static void setup(void)
{
	wire_folder_init(&folder, "d");
}

static void teardown(void)
{
	wire_folder_fini(&folder);
}

TestSuite(wire_workload_api, .init = setup, .fini = teardown, .timeout = 60);

static void put_varint(struct bytes *b, uint64_t n)
{
	for (; n > 127; n >>= 7)
		b->v[b->n++] = (uint8_t)(n & 127) | 128;
	b->v[b->n++] = (uint8_t)n;
}

static void put_field(struct bytes *b, unsigned number, const void *p, size_t n)
{
	put_varint(b, number << 3 | 2);
	put_varint(b, n);
	cr_assert_leq(b->n + n, sizeof(b->v));
	memcpy(b->v + b->n, p, n);
	b->n += n;
}

static FILE *file_of(const char *name)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/%s", folder.svids, name);
	FILE *f = fopen(path, "re");
	cr_assert_not_null(f, "%s", path);
	return f;
}

static void put_cert(struct bytes *b, unsigned number, const char *name)
{
	uint8_t *der = NULL;
	FILE *f = file_of(name);
	X509 *c = PEM_read_X509(f, NULL, NULL, NULL);
	(void)fclose(f);
	int n = i2d_X509(c, &der);
	cr_assert_gt(n, 0);
	put_field(b, number, der, (size_t)n);
	OPENSSL_free(der);
	X509_free(c);
}

static void put_key(struct bytes *b, unsigned number, const char *name)
{
	uint8_t *der = NULL;
	FILE *f = file_of(name);
	EVP_PKEY *k = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	(void)fclose(f);
	PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(k);
	int n = i2d_PKCS8_PRIV_KEY_INFO(p8, &der);
	cr_assert_gt(n, 0);
	put_field(b, number, der, (size_t)n);
	OPENSSL_free(der);
	PKCS8_PRIV_KEY_INFO_free(p8);
	EVP_PKEY_free(k);
}

static void put_svid(struct bytes *out, const char *id, const char *cert, const char *key)
{
	static struct bytes b;
	b.n = 0;
	put_field(&b, 1, id, strlen(id));
	put_cert(&b, 2, cert);
	put_key(&b, 3, key);
	put_cert(&b, 4, "d.bundle");
	/* What a later version may add: a varint, eight bytes, four bytes. */
	b.v[b.n++] = 7 << 3;
	put_varint(&b, UINT64_MAX);
	b.v[b.n++] = 8 << 3 | 1;
	b.n += 8;
	b.v[b.n++] = 9 << 3 | 5;
	b.n += 4;
	put_field(out, 1, b.v, b.n);
}

static int read_it(const struct bytes *b, size_t n, struct flat_svids **out, char why[600])
{
	/* Of its own, so that a byte too many is found. */
	uint8_t *copy = malloc(n + 1);
	memcpy(copy, b->v, n);
	copy = realloc(copy, n ? n : 1);
	int err = flat_workload_api_read("unix:x", copy, n, out, why, 600);
	free(copy);
	return err;
}

Test(wire_workload_api, svids_and_bundles_are_those_that_are_told)
{
	static struct bytes b;
	struct flat_svids *s = NULL;
	char why[600];
	put_svid(&b, "spiffe://d/ns/flat-system/sa/flatd", "flat-system.flatd.crt",
		 "flat-system.flatd.key");
	put_svid(&b, "spiffe://d/ns/a/sa/client", "a.client.crt", "a.client.key");
	put_svid(&b, "spiffe://d/ns/a/sa/client", "a.client.crt", "a.client.key");
	struct bytes *map = calloc(1, sizeof(*map));
	put_field(map, 1, "spiffe://other", strlen("spiffe://other"));
	put_cert(map, 2, "d.bundle");
	put_field(&b, 3, map->v, map->n);
	free(map);
	cr_assert_eq(read_it(&b, b.n, &s, why), 0, "%s", why);
	cr_assert_eq(s->n, 2);
	cr_assert_eq(s->n_bundles, 2);
	cr_assert_not_null(s->node);
	cr_assert_not_null(flat_svids_find(s, "d/ns/a/sa/client"));
	cr_assert_str_eq(s->bundles[1].domain, "other");
	flat_svids_put(s);
}

/* The list of f's authority. */
static void put_list(struct bytes *b, const char *folder_of_list)
{
	uint8_t *der = NULL;
	char path[200];
	snprintf(path, sizeof(path), "%s/ca.crl", folder_of_list);
	FILE *f = fopen(path, "re");
	cr_assert_not_null(f);
	X509_CRL *list = PEM_read_X509_CRL(f, NULL, NULL, NULL);
	(void)fclose(f);
	int n = i2d_X509_CRL(list, &der);
	cr_assert_gt(n, 0);
	put_field(b, 2, der, (size_t)n);
	OPENSSL_free(der);
	X509_CRL_free(list);
}

Test(wire_workload_api, revocation_lists_are_in_force_with_the_rest)
{
	static struct bytes b;
	struct flat_svids *s = NULL;
	char why[600];
	char cert[200];
	snprintf(cert, sizeof(cert), "%s/a.client.crt", folder.svids);
	cr_assert_eq(flat_ca_revoke(folder.ca, folder.svids, cert, 100, why, sizeof(why)), 0);
	put_list(&b, folder.ca);
	put_svid(&b, "spiffe://d/ns/a/sa/client", "a.client.crt", "a.client.key");
	put_svid(&b, "spiffe://d/ns/a/sa/other", "a.other.crt", "a.other.key");
	cr_assert_eq(read_it(&b, b.n, &s, why), 0, "%s", why);
	cr_expect_eq(flat_svids_revoked(s), 1);
	cr_expect(strstr(flat_svids_find(s, "d/ns/a/sa/client")->unfit, "revoked"));
	cr_expect_str_eq(flat_svids_find(s, "d/ns/a/sa/other")->unfit, "");
	flat_svids_put(s);
	put_field(&b, 2, "0", 1);
	cr_assert_eq(read_it(&b, b.n, &s, why), -EINVAL);
	cr_expect(strstr(why, "revocation list"), "%s", why);
}

Test(wire_workload_api, a_message_that_is_cut_is_none)
{
	static struct bytes b;
	struct flat_svids *s = NULL;
	char why[600];
	put_svid(&b, "spiffe://d/ns/a/sa/client", "a.client.crt", "a.client.key");
	for (size_t n = 0; n < b.n; n++)
		cr_assert_eq(read_it(&b, n, &s, why), -EINVAL, "%zu bytes", n);
	cr_assert_eq(read_it(&b, b.n, &s, why), 0, "%s", why);
	flat_svids_put(s);
}

Test(wire_workload_api, a_message_that_is_changed_is_refused_or_a_whole_one)
{
	static struct bytes b;
	char why[600];
	put_svid(&b, "spiffe://d/ns/a/sa/client", "a.client.crt", "a.client.key");
	for (size_t i = 0; i < b.n; i++) {
		struct flat_svids *s = NULL;
		b.v[i] ^= 0x81;
		if (read_it(&b, b.n, &s, why) == 0)
			flat_svids_put(s);
		else
			cr_assert(why[0]);
		b.v[i] ^= 0x81;
	}
}

Test(wire_workload_api, what_does_not_belong_together_is_refused)
{
	static const struct {
		const char *id, *cert, *key, *why;
	} v[] = {
	    {"spiffe://d/ns/a/sa/client", "a.client.crt", "a.other.key", "its key is another"},
	    {"spiffe://d/ns/a/sa/client", "a.other.crt", "a.other.key", "another identity's"},
	    {"d/ns/a/sa/client", "a.client.crt", "a.client.key", "no SPIFFE ID"},
	    {"spiffe://e/ns/a/sa/client", "a.client.crt", "a.client.key", "another identity's"},
	};
	struct flat_svids *s = NULL;
	char why[600];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		static struct bytes b;
		b.n = 0;
		put_svid(&b, v[i].id, v[i].cert, v[i].key);
		cr_assert_eq(read_it(&b, b.n, &s, why), -EINVAL);
		cr_assert(strstr(why, v[i].why), "%s", why);
	}
}
