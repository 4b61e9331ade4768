/* Rate limits by key: the descriptors of a request, and which of a local limit's they are. */
#include <stdio.h>
#include <string.h>

#include "offload/gateway.h"
#include "offload/l7_limit.h"

#define SCRATCH FLAT_L7_LIMIT_SCRATCH

static struct flat_span put_path(struct flat_l7_limit_making *m, struct flat_span path,
				 struct flat_span query)
{
	char *at = m->scratch + m->used;
	size_t len = path.len + 1 + query.len;

	if (len > SCRATCH - m->used)
		return flat_span_of("");
	memcpy(at, path.text, path.len);
	at[path.len] = '?';
	memcpy(at + path.len + 1, query.text, query.len);
	m->used += len;
	return (struct flat_span){at, len};
}

/* A field, or what HTTP/2 has in its place; absent: there is none. */
static struct flat_span header(struct flat_l7_limit_making *m, const char *name)
{
	const struct flat_http_request *r = m->request;
	struct flat_span value;
	bool overflow = false;

	if (strcmp(name, ":path") == 0)
		return r->query.text ? put_path(m, r->path, r->query) : r->path;
	if (strcmp(name, ":method") == 0)
		return r->method;
	if (strcmp(name, ":authority") == 0 || strcmp(name, "host") == 0)
		return r->authority;
	if (strcmp(name, ":scheme") == 0)
		return flat_span_of("http");
	value = flat_http_field_joined(r, flat_span_of(name), m->scratch + m->used,
				       SCRATCH - m->used, &overflow);
	if (overflow)
		return flat_span_of("");
	if (value.text == m->scratch + m->used)
		m->used += value.len;
	return value;
}

/* Room for a text that is made; NULL: there is none. */
static char *room(struct flat_l7_limit_making *m, size_t n)
{
	char *text = m->scratch + m->used;

	if (SCRATCH - m->used < n)
		return NULL;
	m->used += n;
	return text;
}

/* The client's address; with `a` the bits of it that count. */
static struct flat_span remote(struct flat_l7_limit_making *m, const struct flat_limit_action *a)
{
	const struct flat_l7 *l7 = m->l7;
	struct flat_ip ip = l7->x.remote.family ? l7->x.remote : flat_addr_ip(&l7->conn->from);
	char *text = room(m, FLAT_IP_TEXT_MAX + 4);
	uint8_t bits;

	if (!text)
		return flat_span_of("");
	/* A client on this host that bound nothing. */
	if (ip.family == 0)
		ip = flat_ip_from_v4(INADDR_LOOPBACK);
	if (a->kind != FLAT_LIMIT_MASKED)
		return flat_span_of(flat_ip_text(&ip, text));
	bits = ip.family == AF_INET ? a->prefix4 : a->prefix6;
	ip = flat_ip_mask(&ip, bits);
	flat_ip_text(&ip, text);
	snprintf(text + strlen(text), 5, "/%u", bits);
	return flat_span_of(text);
}

static bool headers_match(struct flat_l7_limit_making *m, const struct flat_limit_action *a)
{
	for (uint32_t i = 0; i < a->n_headers; i++) {
		const struct flat_limit_header *h = &a->headers[i];
		struct flat_span value = a->kind == FLAT_LIMIT_QUERY_MATCH
					     ? flat_l7_param(m->request->query, h->name, 0)
					     : header(m, h->name);

		if (flat_text_matches(&h->match, value) == h->invert)
			return false;
	}
	return true;
}

/* As Istio names the cluster that a proxy is of: the workload's app, else its name. */
static struct flat_span source(struct flat_l7_limit_making *m)
{
	const struct flat_workload *w = m->place->workload;
	const char *app = w ? flat_labels_get(&w->labels, "app") : NULL;
	char *text = room(m, 256);

	if (!text || !w)
		return flat_span_of("");
	snprintf(text, 256, "%s.%s", app ? app : w->name, w->namespace);
	return flat_span_of(text);
}

/* As istiod names the cluster that a request goes to. */
static struct flat_span destination(struct flat_l7_limit_making *m)
{
	const struct flat_l7_exchange *x = &m->l7->x;
	const struct flat_route_destination *to = x->destination;
	const char *host = x->service ? x->service->host : "";
	char *text = room(m, 384);

	if (!text)
		return flat_span_of("");
	if (!m->place->gateway)
		snprintf(text, 384, "inbound|%u||", m->place->other_port);
	else
		snprintf(text, 384, "outbound|%u|%s|%s", x->port ? x->port->number : 0,
			 to && to->subset_name ? to->subset_name : "",
			 to && to->host ? to->host : host);
	return flat_span_of(text);
}

/* One entry's value; absent: the action has none to give. */
static struct flat_span value_of(struct flat_l7_limit_making *m, const struct flat_limit_action *a)
{
	static const struct flat_span absent = {NULL, 0};

	switch (a->kind) {
	case FLAT_LIMIT_HEADER:
		return header(m, a->name);
	case FLAT_LIMIT_QUERY:
		return flat_l7_param(m->request->query, a->name, 0);
	case FLAT_LIMIT_REMOTE:
	case FLAT_LIMIT_MASKED:
		return remote(m, a);
	case FLAT_LIMIT_SOURCE:
		return source(m);
	case FLAT_LIMIT_DESTINATION:
		return destination(m);
	case FLAT_LIMIT_GENERIC:
		return flat_span_of(a->value);
	case FLAT_LIMIT_HEADER_MATCH:
	case FLAT_LIMIT_QUERY_MATCH:
		return headers_match(m, a) != a->unless ? flat_span_of(a->value) : absent;
	default:
		return absent;
	}
}

/* How many the request counts as, by its own word: what is no number is not said. */
static void take_hits(struct flat_l7_limit_making *m, const struct flat_limit_rule *rule,
		      struct flat_l7_descriptor *out)
{
	struct flat_span text;
	uint64_t n = 0;

	out->has_hits = rule->has_hits;
	out->hits = rule->hits;
	if (!rule->hits_header)
		return;
	text = header(m, rule->hits_header);
	if (!text.text || text.len == 0 || text.len > 10)
		return;
	for (size_t i = 0; i < text.len; i++) {
		if (text.text[i] < '0' || text.text[i] > '9')
			return;
		n = n * 10 + (uint64_t)(text.text[i] - '0');
	}
	if (n > FLAT_LIMIT_HITS_MAX)
		return;
	out->has_hits = true;
	out->hits = (uint32_t)n;
}

bool flat_l7_descriptor_make(struct flat_l7_limit_making *m, const struct flat_limit_rule *rule,
			     struct flat_l7_descriptor *out)
{
	out->n = 0;
	for (uint32_t i = 0; i < rule->n; i++) {
		struct flat_span value = value_of(m, &rule->actions[i]);

		if (!value.text && rule->actions[i].skips)
			continue;
		if (!value.text)
			return false;
		out->key[out->n] = rule->actions[i].key;
		out->value[out->n++] = value;
	}
	take_hits(m, rule, out);
	return out->n > 0;
}

void flat_l7_limit_place(const struct flat_l7 *l7, bool gateway, struct flat_limit_place *out)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_listener *l = x->target.listener;
	const char *name = x->route ? x->route->name : NULL;

	*out = (struct flat_limit_place){.gateway = gateway, .host = x->request.host};
	if (gateway) {
		out->workload = x->client;
		out->port = out->other_port = flat_gate_addr(l7->conn->gate)->port;
		out->virtual = x->virtual;
		out->route = name && *name ? name : NULL;
		return;
	}
	out->workload = l->session->workload;
	out->port = l7->port;
	out->other_port = l->addr.port;
	/* As istiod names the one that a server's side has. */
	out->route = "default";
}

/* Whether they are the same entries in the same order; *dynamic: some may have any value. */
static bool is_descriptor(const struct flat_l7_descriptor *made,
			  const struct flat_limit_descriptor *d, bool *dynamic)
{
	*dynamic = false;
	if (made->n != d->n)
		return false;
	for (uint32_t i = 0; i < d->n; i++) {
		if (strcmp(made->key[i], d->entries[i].key) != 0)
			return false;
		if (!d->entries[i].value)
			*dynamic = true;
		else if (!flat_span_equal(made->value[i], flat_span_of(d->entries[i].value), false))
			return false;
	}
	return true;
}

uint32_t flat_l7_limit_keys(const struct flat_l7 *l7, const struct flat_http_request *request,
			    const struct flat_local_limit *limit, uint64_t seed,
			    struct flat_l7_limit_key keys[FLAT_L7_LIMIT_KEYS_MAX])
{
	const struct flat_limit_rule *rules[FLAT_LIMIT_RULES_MAX];
	struct flat_limit_place place;
	struct flat_l7_limit_making m;
	struct flat_l7_descriptor d;
	uint32_t n_rules = limit->n_rules;
	uint32_t n = 0;

	m.l7 = l7;
	m.request = request;
	m.place = &place;
	flat_l7_limit_place(l7, false, &place);
	if (n_rules == 0)
		n_rules = flat_limit_rules(l7->node->offload->mesh, &place, limit->stage,
					   limit->virtual, rules);
	for (uint32_t i = 0; i < n_rules; i++) {
		m.used = 0;
		if (!flat_l7_descriptor_make(&m, limit->n_rules ? &limit->rules[i] : rules[i], &d))
			continue;
		for (uint32_t k = 0; k < limit->n_descriptors && n < FLAT_L7_LIMIT_KEYS_MAX; k++) {
			struct flat_l7_limit_key *key = &keys[n];

			*key = (struct flat_l7_limit_key){.descriptor = k,
							  .hits = d.has_hits ? d.hits : 1};
			if (!is_descriptor(&d, &limit->descriptors[k], &key->dynamic))
				continue;
			for (uint32_t e = 0; key->dynamic && e < d.n; e++)
				key->hash =
				    flat_xxh64(d.value[e].text, d.value[e].len, key->hash ^ seed) +
				    e;
			n++;
		}
	}
	return n;
}
