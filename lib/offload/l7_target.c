/* Which server an attempt goes to, and what of the request that depends on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/scope.h"
#include "offload/l7_mandatory.h"

/* --- what is hashed --- */

struct flat_span flat_l7_cookie(const struct flat_http_request *r, const char *name, uint32_t nth)
{
	size_t want = strlen(name);
	struct flat_span field;

	for (uint32_t n = 0; (field = flat_http_field_get(r, flat_span_of("cookie"), n)).text;
	     n++) {
		const char *p = field.text;
		const char *end = field.text + field.len;

		while (p < end) {
			const char *stop = memchr(p, ';', (size_t)(end - p));
			size_t len = (size_t)((stop ? stop : end) - p);

			if (len > want && p[want] == '=' && memcmp(p, name, want) == 0 &&
			    nth-- == 0)
				return (struct flat_span){p + want + 1, len - want - 1};
			p += len + 1;
			while (p < end && *p == ' ')
				p++;
		}
	}
	return (struct flat_span){NULL, 0};
}

static struct flat_span hash_text(struct flat_l7 *l7, const struct flat_lb *lb)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_span text = {NULL, 0};

	if (lb->key == FLAT_HASH_QUERY)
		return flat_route_query(x->request.query, lb->name);
	if (lb->key != FLAT_HASH_COOKIE)
		return text;
	/* The first of the name: RFC 6265, 5.4 leaves the order open. */
	text = flat_l7_cookie(&x->request, lb->name, 0);
	if (text.text || !lb->makes_cookie || l7->dry)
		return text;
	if (!x->cookie[0])
		snprintf(x->cookie, sizeof(x->cookie), "%08x%08x",
			 flat_l7_random(l7->node, UINT32_MAX),
			 flat_l7_random(l7->node, UINT32_MAX));
	return flat_span_of(x->cookie);
}

static int by_text(const void *a, const void *b)
{
	const struct flat_span *p = a;
	const struct flat_span *q = b;
	int order = memcmp(p->text, q->text, flat_min_size(p->len, q->len));

	return order != 0 ? order : (p->len > q->len) - (p->len < q->len);
}

/* Of several values each seeds the next, in the order of their texts, as in Envoy. False: there is none. */
static bool hash_header(const struct flat_http_request *r, const char *name, uint64_t *hash)
{
	struct flat_span v[FLAT_HTTP_FIELDS_MAX];
	uint32_t n = 0;

	while (n < FLAT_HTTP_FIELDS_MAX) {
		v[n] = flat_http_field_get(r, flat_span_of(name), n);
		if (!v[n].text)
			break;
		n++;
	}
	qsort(v, n, sizeof(*v), by_text);
	*hash = 0;
	for (uint32_t i = 0; i < n; i++)
		*hash = flat_xxh64(v[i].text, v[i].len, *hash);
	return n > 0;
}

/* At a gateway its tokens say what stands in the headers of their claims, and not the client: as servers get it. */
static bool hash_seen(struct flat_l7 *l7, const char *name, uint64_t *hash)
{
	struct flat_http_request seen = l7->x.request;
	struct flat_l7_claims claims = {NULL, NULL};
	struct flat_l7_answer ignored;
	bool good = !l7->conn->gate || flat_l7_verify(l7, l7->x.client, &seen, &claims, &ignored);

	flat_jwt_put(claims.jwt);
	/* A token whose time is over since is refused soon. */
	return good && hash_header(&seen, name, hash);
}

/* The hash of what the rule names; without it the choice is chance's. */
static void hash_request(struct flat_l7 *l7, const struct flat_lb *lb, struct flat_resolve_how *how)
{
	struct flat_span text;

	if (lb->key == FLAT_HASH_HEADER) {
		how->hashed = hash_seen(l7, lb->name, &how->hash);
		return;
	}
	text = hash_text(l7, lb);
	how->hashed = text.text != NULL;
	if (text.text)
		how->hash = flat_xxh64(text.text, text.len, 0);
}

void flat_l7_put_cookie(const struct flat_l7_exchange *x, struct flat_http1_out *out)
{
	char age[32] = "";

	/* It may be of another attempt's destination. */
	if (!x->cookie[0] || !x->traffic.lb->makes_cookie)
		return;
	if (x->traffic.lb->ttl_s)
		snprintf(age, sizeof(age), "; Max-Age=%u", x->traffic.lb->ttl_s);
	flat_http1_puts(out, "set-cookie: ");
	flat_http1_puts(out, x->traffic.lb->name);
	flat_http1_puts(out, "=\"");
	flat_http1_puts(out, x->cookie);
	flat_http1_puts(out, "\"");
	flat_http1_puts(out, age);
	if (x->traffic.lb->path) {
		flat_http1_puts(out, "; Path=");
		flat_http1_puts(out, x->traffic.lb->path);
	}
	flat_http1_puts(out, "; HttpOnly\r\n");
}

/* --- the server --- */

static int find_target(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_offload *o = l7->node->offload;
	const struct flat_route_destination *d = x->destination;
	const struct flat_workload *client =
	    l7->conn->client ? l7->conn->client->workload : x->client;
	const struct flat_http_retries *retries = x->route ? x->route->retries : NULL;
	const struct flat_destination_rule *rule;
	const struct flat_lb *lb;
	const struct flat_addr remote = flat_ip_addr(&x->remote, 0);
	struct flat_resolve_how how = {
	    .client = client,
	    .source = x->remote.family ? &remote : &l7->conn->from,
	    .dry = l7->dry || x->probing,
	    .avoid = x->tried,
	    .n_avoid = retries && retries->repeats ? 0 : x->n_tried,
	    .far = retries && retries->far,
	};

	memset(&x->traffic, 0, sizeof(x->traffic));
	if (l7->pinned.family) {
		x->target.addr = l7->pinned;
		x->target.listener = flat_listener_find(o, &l7->pinned, l7->conn->client);
		x->target.cluster = NULL;
		x->target.origin = NULL;
		return x->target.listener ? 0 : -ECONNREFUSED;
	}
	if (d) {
		x->service = d->service;
		if (!d->service ||
		    !flat_service_exported(d->service, client ? client->namespace : NULL))
			return -ECONNREFUSED;
	}
	x->port = x->service ? flat_route_port(x->service, d ? d->port : 0, l7->port) : NULL;
	if (!x->port)
		return -ECONNREFUSED;
	x->record.service = x->service->index + 1;
	rule = flat_mesh_rule_of(x->mesh, x->service, client);
	how.subset = d && d->subset_name ? flat_rule_subset(rule, d->subset_name) : NULL;
	if (d && d->subset_name && !how.subset)
		return -ECONNREFUSED;
	x->traffic = flat_rule_traffic(rule, how.subset, x->service, x->port);
	lb = x->traffic.lb;
	if (lb && lb->kind >= FLAT_LB_RING_HASH)
		hash_request(l7, lb, &how);
	how.traffic = x->traffic;
	if (x->service->persistence)
		flat_l7_persist_begin(l7, x->service->persistence);
	how.kept = x->persist.kept ? x->persist.token.endpoint : x->stay;
	x->target.origin_name =
	    x->service->host[0] == '*' ? x->request.host : flat_span_of(x->service->host);
	return flat_resolve(o, x->service, x->port, &how, &x->target);
}

int flat_l7_target(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	int err = find_target(l7);

	if (err != 0 && x->stay) {
		x->stay = 0;
		err = find_target(l7);
	}
	return err != 0 && flat_l7_persist_lost(l7) ? find_target(l7) : err;
}

void flat_l7_target_stay(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_target target = x->target;
	const uint8_t *key = l7->node->offload->persist_key;
	uint64_t tag;

	if (x->stay || x->persist.kept || !target.cluster)
		return;
	tag = flat_persist_destination(key, target.cluster->host, target.cluster->port,
				       flat_cluster_subset(target.cluster));
	tag = flat_persist_endpoint(key, tag, &target.addr);
	/* The turn that was only looked at is used up, or all that come meanwhile would stay at the same one. */
	if (x->probing) {
		x->probing = false;
		(void)find_target(l7);
		x->probing = true;
		x->target = target;
	}
	x->stay = tag;
}
