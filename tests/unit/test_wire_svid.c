/* SPIFFE IDs, SVIDs in folders, and certificates that are not what an SVID must be. */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support_wire.h"
#include "wire/ca.h"

static char why[600];

Test(wire_svid, what_a_spiffe_id_is)
{
	static const char *const good[] = {"spiffe://d/a", "spiffe://cluster.local/ns/a/sa/b",
					   "spiffe://a-b_c.9/x/y.z/W_-"};
	static const char *const bad[] = {"",
					  "spiffe://",
					  "spiffe://d",
					  "spiffe://d/",
					  "spiffe://d/a/",
					  "spiffe://d//a",
					  "spiffe://D/a",
					  "spiffe:///a",
					  "SPIFFE://d/a",
					  "https://d/a",
					  "spiffe://d/./a",
					  "spiffe://d/../a",
					  "spiffe://d/a?q",
					  "spiffe://d/a#f",
					  "spiffe://d:80/a",
					  "spiffe://u@d/a",
					  "spiffe://d/%61",
					  "spiffe://d/a b"};
	char text[FLAT_SPIFFE_ID_MAX + 1] = "spiffe://d/";
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(good); i++)
		cr_assert(flat_spiffe_valid(good[i]), "%s", good[i]);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++)
		cr_assert(!flat_spiffe_valid(bad[i]), "%s", bad[i]);
	memset(text + 11, 'a', FLAT_SPIFFE_ID_MAX - 12);
	cr_assert(flat_spiffe_valid(text));
	text[FLAT_SPIFFE_ID_MAX - 1] = 'a';
	cr_assert(!flat_spiffe_valid(text));
	cr_assert(flat_spiffe_in_domain("spiffe://d/a", "d"));
	cr_assert(!flat_spiffe_in_domain("spiffe://dd/a", "d"));
}

/* A leaf with these extensions, signed by its own key. */
static X509 *leaf(const char *san, const char *constraints, const char *usage)
{
	X509V3_CTX ctx;
	const int nid[] = {NID_subject_alt_name, NID_basic_constraints, NID_key_usage};
	const char *const value[] = {san, constraints, usage};
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *c = X509_new();
	X509_set_version(c, 2);
	X509_gmtime_adj(X509_getm_notBefore(c), 0);
	X509_gmtime_adj(X509_getm_notAfter(c), 100);
	X509_set_pubkey(c, key);
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, c, c, NULL, NULL, 0);
	for (int i = 0; i < 3; i++) {
		if (!value[i])
			continue;
		X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid[i], value[i]);
		cr_assert_not_null(e);
		X509_add_ext(c, e, -1);
		X509_EXTENSION_free(e);
	}
	cr_assert_gt(X509_sign(c, key, EVP_sha256()), 0);
	EVP_PKEY_free(key);
	return c;
}

Test(wire_svid, a_leaf_that_is_no_svid_is_refused_and_why)
{
	static const struct {
		const char *san;
		const char *constraints;
		const char *usage;
		const char *why; /* NULL: good */
	} v[] = {
	    {"URI:spiffe://d/a", "CA:FALSE", "digitalSignature", NULL},
	    {"URI:spiffe://d/a,DNS:x.example", NULL, "digitalSignature", NULL},
	    {"URI:spiffe://d/a,URI:spiffe://d/b", NULL, "digitalSignature", "2 URI"},
	    {"URI:spiffe://d/a,URI:https://b", NULL, "digitalSignature", "2 URI"},
	    {"DNS:x.example", NULL, "digitalSignature", "0 URI"},
	    {NULL, NULL, "digitalSignature", "0 URI"},
	    {"URI:https://d/a", NULL, "digitalSignature", "no SPIFFE ID"},
	    {"URI:spiffe://d", NULL, "digitalSignature", "no SPIFFE ID"},
	    {"URI:spiffe://d/a", "CA:TRUE", "digitalSignature", "a CA's"},
	    {"URI:spiffe://d/a", NULL, NULL, "no keyUsage"},
	    {"URI:spiffe://d/a", NULL, "keyEncipherment", "digitalSignature"},
	    {"URI:spiffe://d/a", NULL, "digitalSignature,keyCertSign", "sign certificates"},
	    {"URI:spiffe://d/a", NULL, "digitalSignature,cRLSign", "revocation"},
	};
	char id[FLAT_SPIFFE_ID_MAX];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		X509 *c = leaf(v[i].san, v[i].constraints, v[i].usage);
		int err = flat_spiffe_of_leaf(c, id, why, sizeof(why));
		cr_assert_eq(err, v[i].why ? -EINVAL : 0, "case %zu: %s", i, why);
		if (v[i].why)
			cr_assert(strstr(why, v[i].why), "case %zu: %s", i, why);
		else
			cr_assert_str_eq(id, "spiffe://d/a");
		X509_free(c);
	}
}

/* One that lives so long, signed by `issuer` (NULL: by itself). */
static X509 *issued(EVP_PKEY *key, const char *name, bool ca, long seconds, X509 *issuer,
		    EVP_PKEY *issuer_key)
{
	static const char *const value[2][3] = {
	    {"URI:spiffe://d/a", "CA:FALSE", "digitalSignature"},
	    {"URI:spiffe://d", "critical,CA:TRUE", "keyCertSign"}};
	const int nid[] = {NID_subject_alt_name, NID_basic_constraints, NID_key_usage};
	X509 *c = X509_new();
	X509V3_CTX ctx;
	X509_set_version(c, 2);
	X509_gmtime_adj(X509_getm_notBefore(c), -10);
	X509_gmtime_adj(X509_getm_notAfter(c), seconds);
	X509_set_pubkey(c, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "O", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(c, X509_get_subject_name(issuer ? issuer : c));
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer ? issuer : c, c, NULL, NULL, 0);
	for (int i = 0; i < 3; i++) {
		X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid[i], value[ca][i]);
		X509_add_ext(c, e, -1);
		X509_EXTENSION_free(e);
	}
	cr_assert_gt(X509_sign(c, issuer ? issuer_key : key, EVP_sha256()), 0);
	return c;
}

Test(wire_svid, a_chain_lives_as_long_as_the_first_of_it)
{
	static const long lives[][3] = {{3000, 2000, 1000}, {3000, 100, 2000}, {100, 2000, 3000}};
	EVP_PKEY *key[3];
	for (int i = 0; i < 3; i++)
		key[i] = EVP_EC_gen("P-256");
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(lives); i++) {
		X509 *root = issued(key[0], "root", true, lives[i][0], NULL, NULL);
		X509 *mid = issued(key[1], "mid", true, lives[i][1], root, key[0]);
		X509 *end = issued(key[2], "end", false, lives[i][2], mid, key[1]);
		X509_STORE *bundle = X509_STORE_new();
		STACK_OF(X509) *between = sk_X509_new_null();
		int64_t least = i == 0 ? 1000 : 100;
		int64_t expires_s = 0;
		X509_STORE_add_cert(bundle, root);
		sk_X509_push(between, mid);
		cr_assert_eq(
		    flat_spiffe_verify(bundle, end, between, false, &expires_s, why, sizeof(why)),
		    0, "%s", why);
		cr_assert_leq(expires_s, (int64_t)time(NULL) + least);
		cr_assert_gt(expires_s, (int64_t)time(NULL) + least - 60);
		sk_X509_free(between);
		X509_STORE_free(bundle);
		X509_free(end);
		X509_free(mid);
		X509_free(root);
	}
	for (int i = 0; i < 3; i++)
		EVP_PKEY_free(key[i]);
}

Test(wire_svid, a_folder_gives_its_identities_and_is_checked)
{
	struct wire_folder f;
	struct wire_folder g;
	char a[300];
	char b[300];
	struct flat_svids *s = NULL;
	wire_folder_init(&f, "d");
	wire_folder_init(&g, "d");
	s = wire_load(&f);
	cr_assert_eq(s->n, 3);
	cr_assert_not_null(s->node);
	const struct flat_svid *svid = flat_svids_find(s, "d/ns/a/sa/client");
	cr_assert_not_null(svid);
	cr_assert_leq(svid->expires_s, (int64_t)time(NULL) + 3600);
	cr_assert_null(flat_svids_find(s, "d/ns/a/sa/nobody"));
	flat_svids_put(s);
	/* Another's key. */
	snprintf(a, sizeof(a), "%s/a.client.key", f.svids);
	snprintf(b, sizeof(b), "%s/a.other.key", f.svids);
	cr_assert_eq(unlink(a), 0);
	cr_assert_eq(link(b, a), 0);
	cr_assert_eq(flat_svids_load(f.svids, &s, why, sizeof(why)), -EINVAL);
	cr_assert(strstr(why, "a.client.crt") && strstr(why, ".key"), "%s", why);
	/* Another authority's certificate and key. */
	cr_assert_eq(flat_ca_issue(g.ca, f.svids, "a", "client", 60, why, sizeof(why)), 0);
	cr_assert_eq(flat_svids_load(f.svids, &s, why, sizeof(why)), -EINVAL);
	/* No bundle for its domain. */
	snprintf(a, sizeof(a), "%s/d.bundle", g.svids);
	cr_assert_eq(unlink(a), 0);
	cr_assert_eq(flat_svids_load(g.svids, &s, why, sizeof(why)), -EINVAL);
	cr_assert(strstr(why, "no bundle"), "%s", why);
	wire_folder_fini(&f);
	wire_folder_fini(&g);
	cr_assert_eq(flat_svids_load(f.svids, &s, why, sizeof(why)), -ENOENT);
}

Test(wire_svid, the_same_identity_twice_is_refused)
{
	struct wire_folder f;
	struct flat_svids *s = NULL;
	char a[300];
	char b[300];
	wire_folder_init(&f, "d");
	for (int i = 0; i < 2; i++) {
		snprintf(a, sizeof(a), "%s/a.client.%s", f.svids, i ? "key" : "crt");
		snprintf(b, sizeof(b), "%s/twice.%s", f.svids, i ? "key" : "crt");
		cr_assert_eq(link(a, b), 0);
	}
	cr_assert_eq(flat_svids_load(f.svids, &s, why, sizeof(why)), -EINVAL);
	cr_assert(strstr(why, "same identity"), "%s", why);
	wire_folder_fini(&f);
}

Test(wire_svid, the_small_ca_refuses_what_is_no_name)
{
	struct wire_folder f;
	wire_folder_init(&f, "d");
	cr_assert_eq(flat_ca_init(f.ca, "d", why, sizeof(why)), -EEXIST);
	cr_assert_eq(flat_ca_init("/tmp", "No Domain", why, sizeof(why)), -EINVAL);
	cr_assert_eq(flat_ca_init("/tmp", "d/x", why, sizeof(why)), -EINVAL);
	cr_assert_eq(flat_ca_issue(f.ca, f.svids, "a/b", "c", 60, why, sizeof(why)), -EINVAL);
	cr_assert_eq(flat_ca_issue(f.ca, f.svids, "a", "..", 60, why, sizeof(why)), -EINVAL);
	cr_assert_eq(flat_ca_issue(f.ca, f.svids, "a", "c", 0, why, sizeof(why)), -EINVAL);
	cr_assert_eq(flat_ca_issue("/nowhere", f.svids, "a", "c", 60, why, sizeof(why)), -ENOENT);
	wire_folder_fini(&f);
}
