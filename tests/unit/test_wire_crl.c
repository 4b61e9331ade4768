/* Certificate revocation lists: which chains they refuse, and what of a folder with one is an error. */
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

/* --- chains: root, between, leaf --- */

struct party {
	EVP_PKEY *key;
	X509 *cert;
};

static struct party root, between, leaf;

static void put_ext(X509 *c, X509V3_CTX *ctx, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
	cr_assert_not_null(e);
	X509_add_ext(c, e, -1);
	X509_EXTENSION_free(e);
}

static struct party issue(const char *name, long serial, bool ca, const struct party *issuer)
{
	struct party p = {EVP_EC_gen("P-256"), X509_new()};
	X509V3_CTX ctx;
	X509_set_version(p.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial);
	X509_gmtime_adj(X509_getm_notBefore(p.cert), -10);
	X509_gmtime_adj(X509_getm_notAfter(p.cert), 3600);
	X509_set_pubkey(p.cert, p.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(p.cert), "O", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(p.cert, X509_get_subject_name(issuer ? issuer->cert : p.cert));
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer ? issuer->cert : p.cert, p.cert, NULL, NULL, 0);
	put_ext(p.cert, &ctx, NID_subject_alt_name, ca ? "URI:spiffe://d" : "URI:spiffe://d/a");
	put_ext(p.cert, &ctx, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
	put_ext(p.cert, &ctx, NID_key_usage, ca ? "keyCertSign,cRLSign" : "digitalSignature");
	cr_assert_gt(X509_sign(p.cert, issuer ? issuer->key : p.key, EVP_sha256()), 0);
	return p;
}

static void lose(struct party *p)
{
	X509_free(p->cert);
	EVP_PKEY_free(p->key);
}

static void setup(void)
{
	root = issue("root", 1, true, NULL);
	between = issue("between", 2, true, &root);
	leaf = issue("leaf", 3, false, &between);
}

static void teardown(void)
{
	lose(&root);
	lose(&between);
	lose(&leaf);
}

TestSuite(wire_crl, .init = setup, .fini = teardown, .timeout = 60);

/* serial 0: nobody. */
static X509_CRL *list_by(const struct party *signer, const struct party *named, long serial,
			 long begins, long ends)
{
	X509_CRL *list = X509_CRL_new();
	ASN1_TIME *from = X509_gmtime_adj(NULL, begins);
	ASN1_TIME *to = X509_gmtime_adj(NULL, ends);
	X509_CRL_set_version(list, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(list, X509_get_subject_name(named->cert));
	X509_CRL_set1_lastUpdate(list, from);
	X509_CRL_set1_nextUpdate(list, to);
	if (serial) {
		X509_REVOKED *r = X509_REVOKED_new();
		ASN1_INTEGER *n = ASN1_INTEGER_new();
		ASN1_INTEGER_set(n, serial);
		X509_REVOKED_set_serialNumber(r, n);
		X509_REVOKED_set_revocationDate(r, from);
		X509_CRL_add0_revoked(list, r);
		ASN1_INTEGER_free(n);
	}
	X509_CRL_sort(list);
	cr_assert_gt(X509_CRL_sign(list, signer->key, EVP_sha256()), 0);
	ASN1_TIME_free(from);
	ASN1_TIME_free(to);
	/* As read from a file: OpenSSL takes two for one whose fingerprints it has not made. */
	uint8_t *der = NULL;
	int n = i2d_X509_CRL(list, &der);
	const uint8_t *p = der;
	X509_CRL_free(list);
	list = d2i_X509_CRL(NULL, &p, n);
	OPENSSL_free(der);
	return list;
}

/* What a set with these lists says of the leaf. NULL ends them; they are taken. */
static int look_up(const struct party *anchor, X509_CRL *const lists[])
{
	struct flat_svids *set = flat_svids_new("test");
	STACK_OF(X509) *bundle = sk_X509_new_null();
	STACK_OF(X509) *chain = sk_X509_new_null();
	STACK_OF(X509_CRL) *v = sk_X509_CRL_new_null();
	struct flat_wire_peer peer = {.leaf = leaf.cert, .chain = chain};
	sk_X509_push(bundle, anchor->cert);
	sk_X509_push(chain, between.cert);
	for (; *lists; lists++)
		sk_X509_CRL_push(v, *lists);
	cr_assert_eq(flat_svids_add_bundle(set, "d", bundle, why, sizeof(why)), 0);
	/* One that is ours, so that it is a set. */
	STACK_OF(X509) *own = sk_X509_new_null();
	struct party mine = issue("own", 9, false, anchor);
	sk_X509_push(own, mine.cert);
	cr_assert_eq(flat_svids_add(set, "own", own, mine.key, why, sizeof(why)), 0, "%s", why);
	int err = flat_svids_add_lists(set, "d", v, "lists", why, sizeof(why));
	if (err == 0)
		err = flat_svids_finish(set, why, sizeof(why));
	if (err == 0)
		err = flat_svids_check(set, &peer, why, sizeof(why));
	flat_svids_put(set);
	lose(&mine);
	sk_X509_free(own);
	flat_crls_free(v);
	sk_X509_free(chain);
	sk_X509_free(bundle);
	return err;
}

#define LOOK_UP(anchor, ...) look_up(anchor, (X509_CRL *const[]){__VA_ARGS__, NULL})

Test(wire_crl, without_lists_nobody_is_revoked)
{
	cr_assert_eq(look_up(&root, (X509_CRL *const[]){NULL}), 0, "%s", why);
}

Test(wire_crl, a_chain_of_which_nothing_is_revoked_is_good)
{
	cr_assert_eq(LOOK_UP(&root, list_by(&root, &root, 77, -10, 100),
			     list_by(&between, &between, 78, -10, 100)),
		     0, "%s", why);
}

Test(wire_crl, a_revoked_leaf_is_refused_and_its_serial_told)
{
	cr_assert_eq(LOOK_UP(&root, list_by(&root, &root, 0, -10, 100),
			     list_by(&between, &between, 3, -10, 100)),
		     -EACCES);
	cr_expect(strstr(why, "revoked (serial 03, by /O=between)"), "%s", why);
}

Test(wire_crl, a_revoked_authority_in_between_is_refused)
{
	cr_assert_eq(LOOK_UP(&root, list_by(&root, &root, 2, -10, 100),
			     list_by(&between, &between, 0, -10, 100)),
		     -EACCES);
	cr_expect(strstr(why, "revoked (serial 02, by /O=root)"), "%s", why);
}

Test(wire_crl, an_authority_without_a_list_where_others_have_one_is_refused)
{
	cr_assert_eq(LOOK_UP(&root, list_by(&root, &root, 0, -10, 100)), -EACCES);
	cr_expect(strstr(why, "no revocation list of /O=between"), "%s", why);
	cr_assert_eq(LOOK_UP(&root, list_by(&between, &between, 0, -10, 100)), -EACCES);
	cr_expect(strstr(why, "no revocation list of /O=root"), "%s", why);
}

Test(wire_crl, an_anchor_is_asked_for_no_list)
{
	cr_assert_eq(LOOK_UP(&between, list_by(&between, &between, 0, -10, 100)), 0, "%s", why);
	cr_assert_eq(LOOK_UP(&between, list_by(&between, &between, 3, -10, 100)), -EACCES);
}

Test(wire_crl, a_list_that_is_not_in_time_refuses)
{
	cr_assert_eq(LOOK_UP(&between, list_by(&between, &between, 0, -100, -10)), -EACCES);
	cr_expect(strstr(why, "CRL has expired") && strstr(why, "/O=between"), "%s", why);
	cr_assert_eq(LOOK_UP(&between, list_by(&between, &between, 0, 50, 100)), -EACCES);
	cr_expect(strstr(why, "not yet valid"), "%s", why);
	/* A newer one beside it is what counts. */
	cr_assert_eq(LOOK_UP(&between, list_by(&between, &between, 3, -100, -10),
			     list_by(&between, &between, 0, -10, 100)),
		     0, "%s", why);
}

Test(wire_crl, a_list_of_another_key_is_an_error_or_refuses)
{
	/* In the bundle: seen when it is read. */
	cr_assert_eq(LOOK_UP(&root, list_by(&between, &root, 0, -10, 100)), -EINVAL);
	cr_expect(strstr(why, "not signed by the authority"), "%s", why);
	/* Of an authority in between: when a chain comes. */
	cr_assert_eq(LOOK_UP(&root, list_by(&root, &root, 0, -10, 100),
			     list_by(&root, &between, 0, -10, 100)),
		     -EACCES);
	cr_expect(strstr(why, "signature"), "%s", why);
}

/* --- folders --- */

static int load_with(const struct wire_folder *f, const char *text, struct flat_svids **s)
{
	char path[300];
	snprintf(path, sizeof(path), "%s/d.crl", f->svids);
	FILE *out = fopen(path, "we");
	cr_assert_not_null(out);
	fputs(text, out);
	(void)fclose(out);
	return flat_svids_load(f->svids, s, why, sizeof(why));
}

Test(wire_crl, a_folder_may_have_an_empty_list_and_no_broken_one)
{
	struct wire_folder f;
	struct flat_svids *s = NULL;
	static char text[8192];
	char path[300];
	wire_folder_init(&f, "d");
	cr_assert_eq(load_with(&f, "", &s), 0, "%s", why);
	cr_expect_null(s->bundles[0].lists);
	flat_svids_put(s);
	cr_assert_eq(load_with(&f, " \n", &s), 0, "%s", why);
	flat_svids_put(s);
	cr_assert_eq(load_with(&f, "no list\n", &s), -EINVAL);
	cr_expect(strstr(why, "d.crl: no revocation list"), "%s", why);
	cr_assert_eq(load_with(&f, "0", &s), -EINVAL);
	cr_assert_eq(flat_ca_revoke(f.ca, f.svids, NULL, 100, why, sizeof(why)), 0, "%s", why);
	/* A good one, and one that is cut. */
	snprintf(path, sizeof(path), "%s/d.crl", f.svids);
	FILE *in = fopen(path, "re");
	size_t n = fread(text, 1, sizeof(text) / 2, in);
	(void)fclose(in);
	cr_assert_gt(n, 100);
	memcpy(text + n, text, n - 60);
	cr_assert_eq(load_with(&f, text, &s), -EINVAL, "%s", why);
	snprintf(path, sizeof(path), "%s/d.bundle", f.svids);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(flat_svids_load(f.svids, &s, why, sizeof(why)), -EINVAL);
	wire_folder_fini(&f);
}

Test(wire_crl, the_small_ca_revokes_one_more_each_time)
{
	struct wire_folder f;
	struct flat_svids *s = NULL;
	char cert[300];
	wire_folder_init(&f, "d");
	snprintf(cert, sizeof(cert), "%s/a.client.crt", f.svids);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(flat_ca_revoke(f.ca, f.svids, cert, 100, why, sizeof(why)), 0, "%s",
			     why);
	s = wire_load(&f);
	cr_expect_eq(flat_svids_revoked(s), 1);
	/* Our own is of no use, and the list in force all the same. */
	cr_expect(strstr(flat_svids_find(s, "d/ns/a/sa/client")->unfit, "revoked"));
	cr_expect_str_eq(flat_svids_find(s, "d/ns/a/sa/other")->unfit, "");
	cr_expect_eq(flat_svids_lists_end(s, 0), flat_svids_lists_end(s, (int64_t)time(NULL)));
	cr_expect_leq(flat_svids_lists_end(s, 0), (int64_t)time(NULL) + 100);
	cr_expect_eq(flat_svids_lists_end(s, (int64_t)time(NULL) + 101), INT64_MAX);
	flat_svids_put(s);
	snprintf(cert, sizeof(cert), "%s/a.other.crt", f.svids);
	cr_assert_eq(flat_ca_revoke(f.ca, f.svids, cert, 100, why, sizeof(why)), 0, "%s", why);
	s = wire_load(&f);
	cr_expect_eq(flat_svids_revoked(s), 2);
	cr_expect(strstr(flat_svids_find(s, "d/ns/a/sa/other")->unfit, "revoked"));
	flat_svids_put(s);
	/* What is not its own. */
	struct wire_folder g;
	wire_folder_init(&g, "d");
	snprintf(cert, sizeof(cert), "%s/a.client.crt", g.svids);
	cr_expect_eq(flat_ca_revoke(f.ca, f.svids, cert, 100, why, sizeof(why)), -EINVAL);
	cr_expect_eq(flat_ca_revoke(f.ca, f.svids, "/nowhere", 100, why, sizeof(why)), -ENOENT);
	wire_folder_fini(&g);
	wire_folder_fini(&f);
}

/* --- what is told before it ends --- */

Test(wire_crl, a_list_of_which_a_quarter_is_left_is_told_of_again_and_again)
{
	struct wire_folder f;
	struct flat_strbuf text = {0};
	int64_t begin_s = (int64_t)time(NULL);
	wire_folder_init(&f, "d");
	cr_assert_eq(flat_ca_revoke(f.ca, f.svids, NULL, 40000, why, sizeof(why)), 0, "%s", why);
	struct flat_svids *s = wire_load(&f);
	const X509_CRL *list = sk_X509_CRL_value(s->bundles[0].lists, 0);
	int64_t end_s = flat_crl_end(list);
	int64_t late_s = flat_crl_late(list);
	cr_expect(late_s >= begin_s + 29900 && late_s <= begin_s + 30010, "%lld",
		  (long long)(late_s - begin_s));
	/* The SVIDs are of another time. */
	s->n = 0;
	cr_expect_eq(flat_svids_due(s, late_s - 1, &text), late_s);
	cr_expect_eq(text.len, 0);
	int64_t at_s = flat_svids_due(s, late_s, &text);
	cr_expect(at_s > late_s + 4990 && at_s < late_s + 5050, "%lld", (long long)(at_s - late_s));
	cr_expect(strstr(flat_strbuf_str(&text), "ends in 2h46m, and there is no newer one"), "%s",
		  text.data);
	size_t times = 1;
	while (at_s < end_s) {
		int64_t next_s = flat_svids_due(s, at_s, &text);
		cr_assert_geq(next_s - at_s, end_s - at_s < 60 ? 1 : 60);
		at_s = next_s;
		times++;
	}
	cr_expect(times > 5 && times < 20, "%zu", times);
	cr_expect_eq(at_s, end_s);
	flat_strbuf_reset(&text);
	cr_expect_eq(flat_svids_due(s, end_s, &text), INT64_MAX);
	cr_expect(strstr(flat_strbuf_str(&text), "has ended: peers"), "%s", text.data);
	flat_strbuf_fini(&text);
	flat_svids_put(s);
	wire_folder_fini(&f);
}

Test(wire_crl, an_svid_without_a_successor_is_told_of_before_it_expires)
{
	struct wire_folder f;
	struct flat_strbuf text = {0};
	wire_folder_init(&f, "d");
	struct flat_svids *s = wire_load(&f);
	const struct flat_svid *v = &s->v[0];
	int64_t left_s = v->expires_s - v->late_s;
	cr_assert_geq(left_s, 600);
	s->n = 1;
	cr_expect_eq(flat_svids_due(s, v->late_s - 1, &text), v->late_s);
	cr_expect_eq(text.len, 0);
	cr_expect_eq(flat_svids_due(s, v->late_s, &text), v->late_s + left_s / 2);
	cr_expect(strstr(flat_strbuf_str(&text), "expires in"), "%s", text.data);
	flat_strbuf_reset(&text);
	cr_expect_eq(flat_svids_due(s, v->expires_s, &text), INT64_MAX);
	cr_expect(strstr(flat_strbuf_str(&text), "has expired"), "%s", text.data);
	flat_strbuf_fini(&text);
	flat_svids_put(s);
	wire_folder_fini(&f);
}
