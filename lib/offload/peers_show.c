/* What is told of other hosts: `flatctl peers`, and metrics. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "offload/peers.h"

static const char *state_of(const struct flat_peer *p)
{
	return !p->link		   ? "ending"
	       : !p->connected	   ? "connecting"
	       : !p->link->greeted ? "handshake"
	       : p->link->draining ? "draining"
				   : "open";
}

static void json_peer(struct flat_json *j, const struct flat_peer *p)
{
	const struct flat_wire_link *l = p->link;
	char text[FLAT_ADDR_STRLEN];
	flat_json_object(j, NULL);
	flat_json_string(j, "address", flat_addr_str(&p->addr, text));
	flat_json_string(j, "direction", p->server ? "in" : "out");
	flat_json_string(j, "state", state_of(p));
	flat_json_string(j, "protocol", p->hbone ? "hbone" : "flat/1");
	flat_json_string(j, "path", flat_peer_path(p));
	flat_json_string(j, "path_reason", flat_peer_path_why(p));
	flat_json_string(j, "own_id", l ? l->own_id : NULL);
	flat_json_string(j, "peer_id", l && l->greeted ? l->peer.id : NULL);
	flat_json_string(j, "tls", l && l->shaken ? SSL_get_version(l->ssl) : NULL);
	flat_json_string(j, "cipher", l && l->shaken ? SSL_get_cipher_name(l->ssl) : NULL);
	flat_json_int(j, "peer_expires", l ? l->peer.expires_s : 0);
	flat_json_int(j, "own_expires", l ? l->own_expires_s : 0);
	flat_json_uint(j, "streams", l ? l->n_streams : 0);
	flat_json_uint(j, "opened", l ? l->stats.opened : 0);
	flat_json_uint(j, "refused", l ? l->stats.refused : 0);
	flat_json_uint(j, "bytes_sent", l ? l->stats.bytes[0] : 0);
	flat_json_uint(j, "bytes_received", l ? l->stats.bytes[1] : 0);
	flat_json_object_end(j);
}

static void json_list(struct flat_json *j, const struct flat_bundle *b, X509_CRL *list)
{
	char issuer[200];
	int64_t end_s = flat_crl_end(list);
	flat_json_object(j, NULL);
	flat_json_string(j, "trust_domain", b->domain);
	flat_json_string(j, "issuer",
			 X509_NAME_oneline(X509_CRL_get_issuer(list), issuer, sizeof(issuer)));
	flat_json_uint(j, "revoked", flat_crl_count(list));
	flat_json_int(j, "ends", end_s == INT64_MAX ? 0 : end_s);
	flat_json_int(j, "late", end_s == INT64_MAX ? 0 : flat_crl_late(list));
	flat_json_string(j, "file", b->lists_file);
	flat_json_object_end(j);
}

static void json_lists(struct flat_json *j, const struct flat_svids *s)
{
	flat_json_array(j, "revocation_lists");
	for (uint32_t i = 0; s && i < s->n_bundles; i++) {
		for (int k = 0; k < sk_X509_CRL_num(s->bundles[i].lists); k++)
			json_list(j, &s->bundles[i], sk_X509_CRL_value(s->bundles[i].lists, k));
	}
	flat_json_array_end(j);
}

static void put_json(const struct flat_peers *all, struct flat_strbuf *out)
{
	struct flat_json j;
	const struct flat_peer *p;
	flat_json_init(&j, out, false);
	flat_json_object(&j, NULL);
	flat_json_array(&j, "identities");
	for (uint32_t i = 0; all && i < all->svids->n; i++) {
		flat_json_object(&j, NULL);
		flat_json_string(&j, "id", all->svids->v[i].id);
		flat_json_int(&j, "expires", all->svids->v[i].expires_s);
		flat_json_string(&j, "file", all->svids->v[i].file);
		flat_json_string(&j, "unfit",
				 all->svids->v[i].unfit[0] ? all->svids->v[i].unfit : NULL);
		flat_json_object_end(&j);
	}
	flat_json_array_end(&j);
	json_lists(&j, all ? all->svids : NULL);
	flat_json_array(&j, "peers");
	if (all) {
		TAILQ_FOREACH(p, &all->list, link_)
		json_peer(&j, p);
	}
	flat_json_array_end(&j);
	flat_json_uint(&j, "rotations", all ? all->rotations : 0);
	flat_json_uint(&j, "links_failed", all ? all->links_failed : 0);
	flat_json_string(&j, "last_failure", all ? all->last_failure : NULL);
	flat_json_object_end(&j);
	flat_strbuf_putc(out, '\n');
}

void flat_admin_peers(struct flat_offload *o, bool json, struct flat_strbuf *out)
{
	const struct flat_peers *all = o->peers;
	const struct flat_peer *p;
	char text[FLAT_ADDR_STRLEN];
	char left[32];
	if (json) {
		put_json(all, out);
		return;
	}
	if (!all) {
		flat_strbuf_puts(out, "flatd runs without --svids: no other hosts\n");
		return;
	}
	flat_svids_show(all->svids, out);
	TAILQ_FOREACH(p, &all->list, link_)
	{
		const struct flat_wire_link *l = p->link;
		flat_strbuf_printf(out, "%s%s %s %s", p->hbone ? "HBONE " : "",
				   p->server ? "from" : "to", flat_addr_str(&p->addr, text),
				   state_of(p));
		if (l && l->greeted)
			flat_strbuf_printf(
			    out,
			    ": %s, as %s, %s over %s (%s), %" PRIu32 " streams, %" PRIu64
			    " bytes sent, %" PRIu64 " received, %s left",
			    l->peer.id, l->own_id, SSL_get_version(l->ssl), flat_peer_path(p),
			    flat_peer_path_why(p), l->n_streams, l->stats.bytes[0],
			    l->stats.bytes[1], flat_svid_until(l->peer.expires_s, left));
		flat_strbuf_putc(out, '\n');
	}
	if (all->last_failure[0])
		flat_strbuf_printf(out, "last failure: %s\n", all->last_failure);
}

static void put_carried(struct flat_strbuf *out, uint64_t carried[2][2])
{
	static const char name[] = "flat_wire_carried_bytes_total";
	static const char *const path[] = {"tcp", "verbs"};
	static const char *const direction[] = {"sent", "received"};
	flat_metrics_head(out, name, "counter", "Ciphertext of links by what carried it.");
	for (int i = 0; i < 4; i++)
		flat_strbuf_printf(out, "%s{path=\"%s\",direction=\"%s\"} %" PRIu64 "\n", name,
				   path[i / 2], direction[i % 2], carried[i / 2][i % 2]);
}

/* Of its name (SPIFFE-ID, 2.1). */
#define TRUST_DOMAIN "abcdefghijklmnopqrstuvwxyz0123456789.-_"

/* The first of each trust domain's. */
static void put_list_ends(const struct flat_svids *s, struct flat_strbuf *out)
{
	static const char name[] = "flat_wire_list_end_seconds";
	bool any = false;
	for (uint32_t i = 0; i < s->n_bundles; i++) {
		const struct flat_bundle *b = &s->bundles[i];
		int64_t first = INT64_MAX;
		for (int k = 0; k < sk_X509_CRL_num(b->lists); k++) {
			int64_t end_s = flat_crl_end(sk_X509_CRL_value(b->lists, k));
			first = end_s < first ? end_s : first;
		}
		/* A file may have any name; one of other bytes is no trust domain's. */
		if (first == INT64_MAX || b->domain[strspn(b->domain, TRUST_DOMAIN)])
			continue;
		if (!any)
			flat_metrics_head(out, name, "gauge",
					  "When the first revocation list of a trust domain ends, "
					  "seconds since 1970.");
		any = true;
		flat_strbuf_printf(out, "%s{trust_domain=\"%s\"} %" PRId64 "\n", name, b->domain,
				   first);
	}
}

static void put_identities(const struct flat_svids *s, struct flat_strbuf *out)
{
	int64_t lists_end_s = flat_svids_lists_end(s, 0);
	int64_t first = INT64_MAX;
	for (uint32_t i = 0; i < s->n; i++)
		first = s->v[i].expires_s < first ? s->v[i].expires_s : first;
	flat_metrics_one(out, "flat_wire_revoked_certificates", "gauge",
			 "Certificates that the revocation lists in force name.",
			 flat_svids_revoked(s));
	flat_metrics_one(out, "flat_wire_first_list_end_seconds", "gauge",
			 "When the first revocation list ends, seconds since 1970; 0: none does.",
			 lists_end_s == INT64_MAX ? 0 : (uint64_t)lists_end_s);
	put_list_ends(s, out);
	flat_metrics_one(out, "flat_wire_first_expiry_seconds", "gauge",
			 "When the first identity of this host expires, seconds since 1970.",
			 s->n ? (uint64_t)first : 0);
}

void flat_peers_metrics(const struct flat_offload *o, struct flat_strbuf *out)
{
	const struct flat_peers *all = o->peers;
	const struct flat_peer *p;
	struct flat_wire_stats sum;
	uint64_t carried[2][2];
	uint64_t links = 0;
	uint64_t by_verbs = 0;
	uint64_t by_hbone = 0;
	uint64_t streams = 0;
	if (!all)
		return;
	sum = all->past;
	memcpy(carried, all->carried, sizeof(carried));
	TAILQ_FOREACH(p, &all->list, link_)
	{
		if (!p->link)
			continue;
		links += p->link->greeted;
		by_hbone += p->link->greeted && p->hbone;
		by_verbs += strcmp(flat_peer_path(p), "verbs") == 0;
		for (int i = 0; i < 4; i++)
			carried[i / 2][i % 2] += p->carrier.bytes[i / 2][i % 2];
		streams += p->link->n_streams;
		sum.opened += p->link->stats.opened;
		sum.refused += p->link->stats.refused;
		sum.reset += p->link->stats.reset;
		sum.bytes[0] += p->link->stats.bytes[0];
		sum.bytes[1] += p->link->stats.bytes[1];
	}
	flat_metrics_one(out, "flat_wire_links", "gauge", "Links to and from other hosts.", links);
	flat_metrics_one(out, "flat_wire_hbone_links", "gauge", "Those of them that speak HBONE.",
			 by_hbone);
	flat_metrics_one(out, "flat_wire_streams", "gauge", "Streams on them.", streams);
	flat_metrics_one(out, "flat_wire_streams_opened_total", "counter",
			 "Streams that were accepted.", sum.opened);
	flat_metrics_one(out, "flat_wire_streams_refused_total", "counter",
			 "Streams that were refused.", sum.refused);
	flat_metrics_one(out, "flat_wire_streams_reset_total", "counter",
			 "Streams that ended by a reset.", sum.reset);
	flat_metrics_one(out, "flat_wire_sent_bytes_total", "counter", "Bytes of streams sent.",
			 sum.bytes[0]);
	flat_metrics_one(out, "flat_wire_received_bytes_total", "counter",
			 "Bytes of streams received.", sum.bytes[1]);
	flat_metrics_one(out, "flat_wire_verbs_links", "gauge", "Links that go over verbs.",
			 by_verbs);
	flat_metrics_one(out, "flat_wire_verbs_registered_bytes", "gauge",
			 "Memory registered with the RDMA device.",
			 all->device ? flat_verbs_device_bytes(all->device) : 0);
	flat_metrics_one(out, "flat_wire_verbs_made_total", "counter",
			 "Times that a link went over to verbs.", all->verbs_made);
	flat_metrics_one(out, "flat_wire_verbs_lost_total", "counter",
			 "Times that a link went back from verbs to TCP.", all->verbs_lost);
	put_carried(out, carried);
	flat_metrics_one(out, "flat_wire_link_failures_total", "counter", "Links that failed.",
			 all->links_failed);
	flat_metrics_one(out, "flat_wire_rotations_total", "counter",
			 "Times that identities were read anew.", all->rotations);
	put_identities(all->svids, out);
}
