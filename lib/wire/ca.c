#include "wire/ca.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/spiffe.h"

#define CA_DAYS 3650
/* Clocks of hosts differ. */
#define EARLY_S 60

static int said(char *why, size_t size, int err, const char *what, const char *path)
{
	snprintf(why, size, "%s%s%s: %s", path ? path : "", path ? ": " : "", what, strerror(-err));
	return err;
}

/* --- files --- */

/* One of them is written. */
struct content {
	X509 *cert;
	EVP_PKEY *key;
	X509_CRL *list;
};

static int write_pem(FILE *f, const struct content *what)
{
	if (what->list)
		return PEM_write_X509_CRL(f, what->list);
	return what->cert ? PEM_write_X509(f, what->cert)
			  : PEM_write_PKCS8PrivateKey(f, what->key, NULL, NULL, 0, NULL, NULL);
}

/* Writes a PEM file beside its place, then puts it there. */
static int put_file(const char *path, mode_t mode, const struct content *what)
{
	char tmp[4100];
	int n = snprintf(tmp, sizeof(tmp), "%s.new", path);
	if (n < 0 || (size_t)n >= sizeof(tmp))
		return -ENAMETOOLONG;
	(void)unlink(tmp);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	FILE *f = fdopen(fd, "w");
	if (!f) {
		close(fd);
		return -ENOMEM;
	}
	int err = write_pem(f, what) == 1 ? 0 : -EIO;
	if (fclose(f) != 0 && err == 0)
		err = -errno;
	if (err == 0 && rename(tmp, path) != 0)
		err = -errno;
	if (err != 0)
		(void)unlink(tmp);
	return err;
}

static int path_of(char path[4096], const char *folder, const char *name, const char *end)
{
	int n = snprintf(path, 4096, "%s/%s%s", folder, name, end);
	return n > 0 && n < 4096 ? 0 : -ENAMETOOLONG;
}

static int put(const char *folder, const char *name, const char *end, struct content what,
	       char *why, size_t size)
{
	char path[4096];
	int err = path_of(path, folder, name, end);
	if (err == 0)
		err = put_file(path, what.key ? 0600 : 0644, &what);
	return err == 0 ? 0 : said(why, size, err, "cannot be written", path);
}

static FILE *open_in(const char *folder, const char *name)
{
	char path[4096];
	return path_of(path, folder, name, "") == 0 ? fopen(path, "re") : NULL;
}

/* --- certificates --- */

static int add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	int ok = ext ? X509_add_ext(cert, ext, -1) : 0;
	X509_EXTENSION_free(ext);
	return ok;
}

static int set_serial(X509 *cert)
{
	unsigned char bytes[16];
	BIGNUM *bn = NULL;
	if (RAND_bytes(bytes, sizeof(bytes)) == 1) {
		bytes[0] &= 0x7f;
		bn = BN_bin2bn(bytes, sizeof(bytes), NULL);
	}
	int ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL;
	BN_free(bn);
	return ok;
}

/* A certificate for `key` with the URI name `id`, signed by `ca` (NULL: by itself, to sign others). */
static X509 *make(EVP_PKEY *key, const char *id, int64_t seconds, X509 *ca, EVP_PKEY *ca_key)
{
	char san[FLAT_SPIFFE_ID_MAX + 32];
	X509 *c = X509_new();
	X509_NAME *name = X509_NAME_new();
	const unsigned char *text = (const unsigned char *)(ca ? "libflat SVID" : "libflat CA");
	snprintf(san, sizeof(san), "%sURI:%s", ca ? "critical," : "", id);
	/* An empty subject needs a critical name (RFC 5280, 4.1.2.6); with one, both kinds of readers are served. */
	int ok = c && name && X509_set_version(c, 2) && set_serial(c) &&
		 X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, text, -1, -1, 0) &&
		 X509_set_subject_name(c, name) &&
		 X509_set_issuer_name(c, ca ? X509_get_subject_name(ca) : name) &&
		 X509_gmtime_adj(X509_getm_notBefore(c), -EARLY_S) &&
		 X509_gmtime_adj(X509_getm_notAfter(c), (long)seconds) && X509_set_pubkey(c, key) &&
		 add_ext(c, ca ? ca : c, NID_basic_constraints,
			 ca ? "critical,CA:FALSE" : "critical,CA:TRUE") &&
		 add_ext(c, ca ? ca : c, NID_key_usage,
			 ca ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign") &&
		 add_ext(c, ca ? ca : c, NID_subject_key_identifier, "hash") &&
		 add_ext(c, ca ? ca : c, NID_subject_alt_name, san);
	if (ok && ca)
		ok = add_ext(c, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
		     add_ext(c, ca, NID_authority_key_identifier, "keyid");
	if (ok)
		ok = X509_sign(c, ca ? ca_key : key, EVP_sha256()) > 0;
	X509_NAME_free(name);
	if (ok)
		return c;
	X509_free(c);
	return NULL;
}

int flat_ca_init(const char *folder, const char *domain, char *why, size_t size)
{
	char id[FLAT_SPIFFE_ID_MAX];
	char path[4096];
	int n = snprintf(id, sizeof(id), FLAT_SPIFFE_SCHEME "%s/x", domain);
	if (n < 0 || (size_t)n >= sizeof(id) || !flat_spiffe_valid(id) || strchr(domain, '/'))
		return said(why, size, -EINVAL, "no name of a trust domain ([a-z0-9.-_])", domain);
	snprintf(id, sizeof(id), FLAT_SPIFFE_SCHEME "%s", domain);
	if (mkdir(folder, 0700) != 0 && errno != EEXIST)
		return said(why, size, -errno, "cannot be made", folder);
	if (path_of(path, folder, "ca.key", "") != 0 || access(path, F_OK) == 0)
		return said(why, size, -EEXIST, "there is a CA already", folder);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? make(key, id, (int64_t)CA_DAYS * 86400, NULL, NULL) : NULL;
	int err = cert ? 0 : said(why, size, -ENOMEM, "no certificate could be made", folder);
	if (err == 0)
		err = put(folder, "ca.crt", "", (struct content){.cert = cert}, why, size);
	if (err == 0)
		err = put(folder, "ca.key", "", (struct content){.key = key}, why, size);
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}

/* --- issuing --- */

static int load(const char *folder, X509 **cert, EVP_PKEY **key, char *why, size_t size)
{
	FILE *f = open_in(folder, "ca.crt");
	*cert = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	if (f)
		(void)fclose(f);
	f = open_in(folder, "ca.key");
	*key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
	if (f)
		(void)fclose(f);
	if (*cert && *key)
		return 0;
	return said(why, size, -ENOENT, "no ca.crt and ca.key to be read; see flatctl ca init",
		    folder);
}

/* The trust domain is the CA's only URI name. */
static int domain_of(X509 *ca, char domain[256])
{
	GENERAL_NAMES *names = X509_get_ext_d2i(ca, NID_subject_alt_name, NULL, NULL);
	size_t scheme = strlen(FLAT_SPIFFE_SCHEME);
	int err = -EINVAL;
	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		const char *text =
		    (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
		size_t len = (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier);
		if (len <= scheme || len - scheme > 255 ||
		    strncmp(text, FLAT_SPIFFE_SCHEME, scheme) != 0)
			continue;
		memcpy(domain, text + scheme, len - scheme);
		domain[len - scheme] = 0;
		err = 0;
	}
	GENERAL_NAMES_free(names);
	return err;
}

int flat_ca_issue(const char *folder, const char *out, const char *namespace, const char *account,
		  int64_t seconds, char *why, size_t size)
{
	X509 *ca = NULL;
	X509 *cert = NULL;
	EVP_PKEY *ca_key = NULL;
	EVP_PKEY *key = NULL;
	char domain[256];
	char id[FLAT_SPIFFE_ID_MAX];
	char stem[512];
	int err = load(folder, &ca, &ca_key, why, size);
	if (err == 0 && domain_of(ca, domain) != 0)
		err = said(why, size, -EINVAL, "ca.crt names no trust domain", folder);
	if (err != 0)
		goto out_free;
	int n = snprintf(id, sizeof(id), FLAT_SPIFFE_SCHEME "%s/ns/%s/sa/%s", domain, namespace,
			 account);
	snprintf(stem, sizeof(stem), "%s.%s", namespace, account);
	if (n < 0 || (size_t)n >= sizeof(id) || !flat_spiffe_valid(id) || strchr(namespace, '/') ||
	    strchr(account, '/') || seconds <= 0) {
		err = said(why, size, -EINVAL, "no identity can be made of it", account);
		goto out_free;
	}
	if (mkdir(out, 0700) != 0 && errno != EEXIST) {
		err = said(why, size, -errno, "cannot be made", out);
		goto out_free;
	}
	key = EVP_EC_gen("P-256");
	cert = key ? make(key, id, seconds, ca, ca_key) : NULL;
	if (!cert)
		err = said(why, size, -ENOMEM, "no certificate could be made", id);
	if (err == 0)
		err = put(out, domain, ".bundle", (struct content){.cert = ca}, why, size);
	if (err == 0)
		err = put(out, stem, ".key", (struct content){.key = key}, why, size);
	if (err == 0)
		err = put(out, stem, ".crt", (struct content){.cert = cert}, why, size);
out_free:
	X509_free(cert);
	EVP_PKEY_free(key);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	return err;
}

/* --- revoking --- */

/* The list so far, or an empty one. NULL without memory. */
static X509_CRL *list_so_far(const char *folder, X509 *ca)
{
	FILE *f = open_in(folder, "ca.crl");
	X509_CRL *list = f ? PEM_read_X509_CRL(f, NULL, NULL, NULL) : NULL;
	if (f)
		(void)fclose(f);
	if (list)
		return list;
	list = X509_CRL_new();
	if (list && X509_CRL_set_version(list, X509_CRL_VERSION_2) &&
	    X509_CRL_set_issuer_name(list, X509_get_subject_name(ca)))
		return list;
	X509_CRL_free(list);
	return NULL;
}

/* False: no memory. A certificate that is in it is so once. */
static bool add_revoked(X509_CRL *list, X509 *cert)
{
	X509_REVOKED *one = NULL;
	if (X509_CRL_get0_by_serial(list, &one, X509_get_serialNumber(cert)) == 1)
		return true;
	ASN1_TIME *now = X509_gmtime_adj(NULL, -EARLY_S);
	one = X509_REVOKED_new();
	if (one && now && X509_REVOKED_set_serialNumber(one, X509_get_serialNumber(cert)) &&
	    X509_REVOKED_set_revocationDate(one, now) && X509_CRL_add0_revoked(list, one)) {
		ASN1_TIME_free(now);
		return true;
	}
	ASN1_TIME_free(now);
	X509_REVOKED_free(one);
	return false;
}

/* RFC 5280, 5.2.1 and 5.2.3: which key has signed it, of several authorities of one name; and a number that rises. */
static bool put_extensions(X509_CRL *list, X509 *ca)
{
	X509V3_CTX ctx;
	ASN1_INTEGER *number = X509_CRL_get_ext_d2i(list, NID_crl_number, NULL, NULL);
	int at = X509_CRL_get_ext_by_NID(list, NID_authority_key_identifier, -1);
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, ca, NULL, NULL, list, 0);
	if (at >= 0)
		X509_EXTENSION_free(X509_CRL_delete_ext(list, at));
	if (!number)
		number = ASN1_INTEGER_new();
	X509_EXTENSION *key =
	    X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid");
	bool ok = number && key && ASN1_INTEGER_set_int64(number, ASN1_INTEGER_get(number) + 1) &&
		  X509_CRL_add_ext(list, key, -1) &&
		  X509_CRL_add1_ext_i2d(list, NID_crl_number, number, 0, X509V3_ADD_REPLACE) == 1;
	X509_EXTENSION_free(key);
	ASN1_INTEGER_free(number);
	return ok;
}

static bool sign_list(X509_CRL *list, X509 *ca, EVP_PKEY *key, int64_t seconds)
{
	ASN1_TIME *now = X509_gmtime_adj(NULL, -EARLY_S);
	ASN1_TIME *end = X509_gmtime_adj(NULL, (long)seconds);
	bool ok = now && end && put_extensions(list, ca) && X509_CRL_set1_lastUpdate(list, now) &&
		  X509_CRL_set1_nextUpdate(list, end) && X509_CRL_sort(list) &&
		  X509_CRL_sign(list, key, EVP_sha256()) > 0;
	ASN1_TIME_free(now);
	ASN1_TIME_free(end);
	return ok;
}

/* One that this authority has issued. */
static int load_issued(const char *path, EVP_PKEY *ca_key, X509 **cert, char *why, size_t size)
{
	FILE *f = fopen(path, "re");
	int err = f ? 0 : -errno;
	*cert = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	if (f)
		(void)fclose(f);
	if (*cert && X509_verify(*cert, ca_key) == 1)
		return 0;
	return said(why, size, err ? err : -EINVAL,
		    *cert ? "it is not a certificate of this authority"
			  : "no certificate can be read from it",
		    path);
}

int flat_ca_revoke(const char *folder, const char *out, const char *cert_file, int64_t seconds,
		   char *why, size_t size)
{
	X509 *ca = NULL;
	X509 *cert = NULL;
	EVP_PKEY *key = NULL;
	X509_CRL *list = NULL;
	char domain[256];
	int err = load(folder, &ca, &key, why, size);
	if (err == 0 && domain_of(ca, domain) != 0)
		err = said(why, size, -EINVAL, "ca.crt names no trust domain", folder);
	if (err == 0 && cert_file)
		err = load_issued(cert_file, key, &cert, why, size);
	if (err != 0)
		goto out_free;
	list = list_so_far(folder, ca);
	if (!list || (cert && !add_revoked(list, cert)) || !sign_list(list, ca, key, seconds))
		err = said(why, size, -ENOMEM, "no list could be made", folder);
	if (err == 0)
		err = put(folder, "ca.crl", "", (struct content){.list = list}, why, size);
	if (err == 0)
		err = put(out, domain, ".crl", (struct content){.list = list}, why, size);
out_free:
	X509_CRL_free(list);
	X509_free(cert);
	X509_free(ca);
	EVP_PKEY_free(key);
	return err;
}
