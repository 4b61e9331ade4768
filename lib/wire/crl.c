#include "wire/crl.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "wire/spiffe.h"

/* The first byte of a list in DER: a SEQUENCE. */
#define DER_FIRST 0x30

void flat_crls_free(STACK_OF(X509_CRL) * lists)
{
	sk_X509_CRL_pop_free(lists, X509_CRL_free);
}

static int add(STACK_OF(X509_CRL) * lists, X509_CRL *one)
{
	if (sk_X509_CRL_push(lists, one) > 0)
		return 0;
	X509_CRL_free(one);
	return -ENOMEM;
}

int flat_crls_add_der(STACK_OF(X509_CRL) * lists, const uint8_t *bytes, size_t len)
{
	const uint8_t *p = bytes;
	int err = 0;
	while (err == 0 && p < bytes + len) {
		X509_CRL *one = d2i_X509_CRL(NULL, &p, (long)(bytes + len - p));
		err = one ? add(lists, one) : -EINVAL;
	}
	ERR_clear_error();
	return err;
}

/* All of them, or none: what follows a list that is broken must not be left out unseen. */
static int add_pem(STACK_OF(X509_CRL) * lists, BIO *bio)
{
	X509_CRL *one;
	int err = 0;
	while (err == 0 && (one = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL)
		err = add(lists, one);
	if (err == 0 && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		err = -EINVAL;
	ERR_clear_error();
	return err;
}

static bool is_blank(const char *text, size_t len)
{
	return strspn(text, " \t\r\n") >= len;
}

/* text[len] is 0. */
static int parse(STACK_OF(X509_CRL) * lists, const char *text, size_t len)
{
	if (is_blank(text, len))
		return 0;
	if ((uint8_t)text[0] == DER_FIRST)
		return flat_crls_add_der(lists, (const uint8_t *)text, len);
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	int err = bio ? add_pem(lists, bio) : -ENOMEM;
	BIO_free(bio);
	return err == 0 && sk_X509_CRL_num(lists) == 0 ? -EINVAL : err;
}

static int read_file(const char *path, char **text, size_t *len)
{
	struct stat st;
	FILE *f = fopen(path, "re");
	int err = f ? 0 : -errno;
	if (err == 0 && fstat(fileno(f), &st) != 0)
		err = -errno;
	if (err == 0 && (size_t)st.st_size > FLAT_WIRE_FILE_MAX)
		err = -EFBIG;
	*text = err == 0 ? malloc(FLAT_WIRE_FILE_MAX + 2) : NULL;
	if (err == 0 && !*text)
		err = -ENOMEM;
	if (err == 0) {
		*len = fread(*text, 1, FLAT_WIRE_FILE_MAX + 1, f);
		(*text)[*len] = 0;
		err = ferror(f) ? -EIO : *len > FLAT_WIRE_FILE_MAX ? -EFBIG : 0;
	}
	if (f)
		(void)fclose(f);
	return err;
}

int flat_crls_read(const char *path, STACK_OF(X509_CRL) * *out, char *why, size_t size)
{
	STACK_OF(X509_CRL) *lists = sk_X509_CRL_new_null();
	char *text = NULL;
	size_t len = 0;
	int err = lists ? read_file(path, &text, &len) : -ENOMEM;
	if (err == 0)
		err = parse(lists, text, len);
	free(text);
	if (err == 0) {
		*out = lists;
		return 0;
	}
	flat_crls_free(lists);
	snprintf(why, size, "%s",
		 err == -EINVAL	 ? "no revocation list can be read from it"
		 : err == -EFBIG ? "it is too large"
				 : strerror(-err));
	return err;
}

int flat_crl_is_of(X509_CRL *list, X509_STORE *bundle)
{
	STACK_OF(X509) *all = X509_STORE_get1_all_certs(bundle);
	int result = 0;
	for (int i = 0; i < sk_X509_num(all) && result != 1; i++) {
		X509 *ca = sk_X509_value(all, i);
		if (X509_NAME_cmp(X509_CRL_get_issuer(list), X509_get_subject_name(ca)) == 0)
			result = X509_CRL_verify(list, X509_get0_pubkey(ca)) == 1 ? 1 : -1;
	}
	sk_X509_pop_free(all, X509_free);
	ERR_clear_error();
	return result;
}

int64_t flat_crl_end(const X509_CRL *list)
{
	const ASN1_TIME *at = X509_CRL_get0_nextUpdate(list);
	return at ? flat_spiffe_seconds(at) : INT64_MAX;
}

int64_t flat_crl_late(const X509_CRL *list)
{
	int64_t end_s = flat_crl_end(list);
	int64_t begin_s = flat_spiffe_seconds(X509_CRL_get0_lastUpdate(list));
	return end_s == INT64_MAX || begin_s >= end_s ? end_s : end_s - (end_s - begin_s) / 4;
}

size_t flat_crl_count(X509_CRL *list)
{
	int n = sk_X509_REVOKED_num(X509_CRL_get_REVOKED(list));
	return n > 0 ? (size_t)n : 0;
}
