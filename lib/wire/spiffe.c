#include "wire/spiffe.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define DOMAIN_MAX 255
#define CHAIN_MAX 8
/* 112 bits: RSA 2048, P-256 and up. */
#define AUTH_LEVEL 2

bool flat_spiffe_valid(const char *text)
{
	size_t scheme = strlen(FLAT_SPIFFE_SCHEME);
	if (strlen(text) >= FLAT_SPIFFE_ID_MAX || strncmp(text, FLAT_SPIFFE_SCHEME, scheme) != 0)
		return false;
	const char *p = text + scheme;
	size_t n = strspn(p, LOWER DIGITS ".-_");
	if (n == 0 || n > DOMAIN_MAX || p[n] != '/')
		return false;
	for (p += n; *p; p += n) {
		n = strspn(++p, LOWER UPPER DIGITS ".-_");
		bool dots = (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.');
		if (n == 0 || dots || (p[n] != 0 && p[n] != '/'))
			return false;
	}
	return true;
}

const char *flat_spiffe_principal(const char *id)
{
	return id + strlen(FLAT_SPIFFE_SCHEME);
}

bool flat_spiffe_in_domain(const char *id, const char *domain)
{
	const char *p = flat_spiffe_principal(id);
	size_t n = strlen(domain);
	return strncmp(p, domain, n) == 0 && p[n] == '/';
}

static int uri_of(X509 *leaf, char id[FLAT_SPIFFE_ID_MAX], char *why, size_t size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	int n_uris = 0;
	int err = -EINVAL;
	for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
		const char *text = (const char *)ASN1_STRING_get0_data(uri);
		size_t len = (size_t)ASN1_STRING_length(uri);
		n_uris++;
		if (len >= FLAT_SPIFFE_ID_MAX || memchr(text, 0, len))
			continue;
		memcpy(id, text, len);
		id[len] = 0;
		err = flat_spiffe_valid(id) ? 0 : -EINVAL;
	}
	GENERAL_NAMES_free(names);
	if (n_uris != 1)
		snprintf(why, size, "the certificate has %d URI names; an SVID has exactly one",
			 n_uris);
	else if (err != 0)
		snprintf(why, size, "the certificate's URI is no SPIFFE ID");
	return n_uris == 1 ? err : -EINVAL;
}

int flat_spiffe_of_leaf(X509 *leaf, char id[FLAT_SPIFFE_ID_MAX], char *why, size_t size)
{
	int err = uri_of(leaf, id, why, size);
	if (err != 0)
		return err;
	uint32_t flags = X509_get_extension_flags(leaf);
	uint32_t usage = X509_get_key_usage(leaf);
	const char *wrong = flags & EXFLAG_INVALID ? "the certificate's extensions cannot be read"
			    : flags & EXFLAG_CA	   ? "the certificate is a CA's"
			    : !(flags & EXFLAG_KUSAGE)	      ? "the certificate has no keyUsage"
			    : !(usage & KU_DIGITAL_SIGNATURE) ? "keyUsage lacks digitalSignature"
			    : usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)
				? "keyUsage allows to sign certificates or revocation lists"
				: NULL;
	if (wrong)
		snprintf(why, size, "%s", wrong);
	return wrong ? -EINVAL : 0;
}

int64_t flat_spiffe_seconds(const ASN1_TIME *at)
{
	struct tm tm;
	memset(&tm, 0, sizeof(tm));
	return ASN1_TIME_to_tm(at, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int64_t flat_spiffe_expiry(const X509 *cert)
{
	return flat_spiffe_seconds(X509_get0_notAfter(cert));
}

/* Sources renew at half of a certificate's life, or at two thirds: later none does. */
#define LATE_MIN_S 600

int64_t flat_spiffe_late(const X509 *cert)
{
	int64_t end_s = flat_spiffe_expiry(cert);
	int64_t part_s = (end_s - flat_spiffe_seconds(X509_get0_notBefore(cert))) / 8;
	return end_s - (part_s > LATE_MIN_S ? part_s : LATE_MIN_S);
}

static int64_t first_expiry(const STACK_OF(X509) * chain)
{
	int64_t first = INT64_MAX;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		int64_t one = flat_spiffe_expiry(sk_X509_value(chain, i));
		first = one < first ? one : first;
	}
	return first;
}

/* An anchor is trusted as it is: nobody is asked whether it is revoked, which no list but its own could say. */
static int on_verify(int ok, X509_STORE_CTX *ctx)
{
	int err = X509_STORE_CTX_get_error(ctx);
	if (X509_STORE_CTX_get_error_depth(ctx) + 1 < sk_X509_num(X509_STORE_CTX_get0_chain(ctx)))
		return ok;
	return ok || err == X509_V_ERR_UNABLE_TO_GET_CRL ||
	       err == X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER;
}

static void say(X509_STORE_CTX *ctx, char *why, size_t size)
{
	int err = X509_STORE_CTX_get_error(ctx);
	X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
	const char *text = X509_verify_cert_error_string(err);
	char issuer[200] = "";
	char serial[64] = "";
	BIGNUM *bn = NULL;
	if (cert)
		X509_NAME_oneline(X509_get_issuer_name(cert), issuer, sizeof(issuer));
	if (cert && err == X509_V_ERR_CERT_REVOKED)
		bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *hex = bn ? BN_bn2hex(bn) : NULL;
	snprintf(serial, sizeof(serial), "%s", hex ? hex : "");
	OPENSSL_free(hex);
	BN_free(bn);
	if (err == X509_V_ERR_CERT_REVOKED)
		snprintf(why, size, "%s (serial %s, by %s)", text, serial, issuer);
	else if (err == X509_V_ERR_UNABLE_TO_GET_CRL)
		snprintf(why, size, "there is no revocation list of %s, and there are others",
			 issuer);
	else if (err == X509_V_ERR_CRL_HAS_EXPIRED || err == X509_V_ERR_CRL_SIGNATURE_FAILURE ||
		 err == X509_V_ERR_CRL_NOT_YET_VALID)
		snprintf(why, size, "%s: the revocation list of %s", text, issuer);
	else
		snprintf(why, size, "%s", text);
}

int flat_spiffe_verify(X509_STORE *bundle, X509 *leaf, STACK_OF(X509) * untrusted, bool server,
		       int64_t *expires_s, char *why, size_t size)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int err = -ENOMEM;
	if (!ctx || !X509_STORE_CTX_init(ctx, bundle, leaf, untrusted)) {
		snprintf(why, size, "out of memory");
		goto out;
	}
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_depth(param, CHAIN_MAX);
	X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
	/* A bundle's certificates are anchors as they are, self-signed or not. */
	if (!X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) ||
	    !X509_VERIFY_PARAM_set_purpose(param, server ? X509_PURPOSE_SSL_SERVER
							 : X509_PURPOSE_SSL_CLIENT))
		goto out;
	X509_STORE_CTX_set_verify_cb(ctx, on_verify);
	err = X509_verify_cert(ctx) == 1 ? 0 : -EACCES;
	if (err != 0)
		say(ctx, why, size);
	else if (expires_s)
		*expires_s = first_expiry(X509_STORE_CTX_get0_chain(ctx));
out:
	X509_STORE_CTX_free(ctx);
	return err;
}
