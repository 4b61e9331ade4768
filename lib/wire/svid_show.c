/* What is told of identities: `flatctl peers`, `flatctl check --svids`. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "wire/svid.h"

const char *flat_svid_until(int64_t at_s, char buf[32])
{
	int64_t left = at_s - (int64_t)time(NULL);
	if (left <= 0)
		snprintf(buf, 32, "expired");
	else
		snprintf(buf, 32, "%" PRId64 "h%02" PRId64 "m", left / 3600, left / 60 % 60);
	return buf;
}

static void put_list(struct flat_strbuf *out, const struct flat_bundle *b, X509_CRL *list)
{
	char issuer[200];
	char left[32];
	int64_t end_s = flat_crl_end(list);
	flat_strbuf_printf(
	    out, "revocation list of %s by %s: %zu certificates, %s%s (%s)\n", b->domain,
	    X509_NAME_oneline(X509_CRL_get_issuer(list), issuer, sizeof(issuer)),
	    flat_crl_count(list), end_s == INT64_MAX ? "no end" : flat_svid_until(end_s, left),
	    end_s == INT64_MAX || end_s <= (int64_t)time(NULL) ? "" : " left", b->lists_file);
}

void flat_svids_show(const struct flat_svids *s, struct flat_strbuf *out)
{
	char left[32];
	for (uint32_t i = 0; i < s->n; i++)
		flat_strbuf_printf(out, "identity %s, %s left (%s)%s%s\n", s->v[i].id,
				   flat_svid_until(s->v[i].expires_s, left), s->v[i].file,
				   s->v[i].unfit[0] ? ", of no use: " : "", s->v[i].unfit);
	for (uint32_t i = 0; i < s->n_bundles; i++) {
		for (int k = 0; k < sk_X509_CRL_num(s->bundles[i].lists); k++)
			put_list(out, &s->bundles[i], sk_X509_CRL_value(s->bundles[i].lists, k));
	}
}
