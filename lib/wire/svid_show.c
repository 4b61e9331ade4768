/* What is told of identities: `flatctl peers`, `flatctl check --svids`. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "wire/svid.h"

static const char *until(int64_t at_s, int64_t now_s, char buf[32])
{
	int64_t left = at_s - now_s;
	if (left <= 0)
		snprintf(buf, 32, "expired");
	else
		snprintf(buf, 32, "%" PRId64 "h%02" PRId64 "m", left / 3600, left / 60 % 60);
	return buf;
}

const char *flat_svid_until(int64_t at_s, char buf[32])
{
	return until(at_s, (int64_t)time(NULL), buf);
}

/* Told of again after so long at the least, seconds. */
#define AGAIN_S 60

/* When to ask again for what should have a successor from late_s on, and ends at end_s. */
static int64_t ask_again(int64_t late_s, int64_t end_s, int64_t now_s)
{
	int64_t half_s = now_s + (end_s - now_s) / 2;
	if (now_s >= end_s)
		return INT64_MAX;
	if (now_s < late_s)
		return late_s;
	half_s = half_s < now_s + AGAIN_S ? now_s + AGAIN_S : half_s;
	return half_s < end_s ? half_s : end_s;
}

/* Whom a list no longer in time speaks of is refused, all of them. */
static int64_t lists_due(const struct flat_bundle *b, int64_t now_s, struct flat_strbuf *out)
{
	char left[32];
	int64_t next = INT64_MAX;
	for (int k = 0; k < sk_X509_CRL_num(b->lists); k++) {
		char issuer[200];
		X509_CRL *list = sk_X509_CRL_value(b->lists, k);
		int64_t end_s = flat_crl_end(list);
		int64_t late_s = flat_crl_late(list);
		int64_t again_s = ask_again(late_s, end_s, now_s);
		next = again_s < next ? again_s : next;
		X509_NAME_oneline(X509_CRL_get_issuer(list), issuer, sizeof(issuer));
		if (now_s >= end_s)
			flat_strbuf_printf(
			    out,
			    "the revocation list of %s by %s (%s) has ended: peers with a "
			    "certificate of its authority are refused until there is a newer one\n",
			    b->domain, issuer, b->lists_file);
		else if (now_s >= late_s)
			flat_strbuf_printf(out,
					   "the revocation list of %s by %s (%s) ends in %s, and "
					   "there is no newer one: peers with a certificate of its "
					   "authority are refused then\n",
					   b->domain, issuer, b->lists_file,
					   until(end_s, now_s, left));
	}
	return next;
}

int64_t flat_svids_due(const struct flat_svids *s, int64_t now_s, struct flat_strbuf *out)
{
	char left[32];
	int64_t next = INT64_MAX;
	for (uint32_t i = 0; i < s->n_bundles; i++) {
		int64_t again_s = lists_due(&s->bundles[i], now_s, out);
		next = again_s < next ? again_s : next;
	}
	for (uint32_t i = 0; i < s->n; i++) {
		const struct flat_svid *v = &s->v[i];
		int64_t again_s = ask_again(v->late_s, v->expires_s, now_s);
		next = again_s < next ? again_s : next;
		if (now_s >= v->expires_s)
			flat_strbuf_printf(out, "the SVID of %s (%s) has expired\n", v->id,
					   v->file);
		else if (now_s >= v->late_s)
			flat_strbuf_printf(
			    out, "the SVID of %s (%s) expires in %s, and there is no newer one\n",
			    v->id, v->file, until(v->expires_s, now_s, left));
	}
	return next;
}

static void put_list(struct flat_strbuf *out, const struct flat_bundle *b, X509_CRL *list)
{
	char issuer[200];
	char left[32];
	int64_t end_s = flat_crl_end(list);
	int64_t now_s = (int64_t)time(NULL);
	flat_strbuf_printf(
	    out, "revocation list of %s by %s: %zu certificates, %s%s%s (%s)\n", b->domain,
	    X509_NAME_oneline(X509_CRL_get_issuer(list), issuer, sizeof(issuer)),
	    flat_crl_count(list), end_s == INT64_MAX ? "no end" : flat_svid_until(end_s, left),
	    end_s == INT64_MAX || end_s <= now_s ? "" : " left",
	    now_s < end_s && now_s >= flat_crl_late(list) ? ", a newer one is due" : "",
	    b->lists_file);
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
