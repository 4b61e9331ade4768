/* Local rate limits by key: the descriptors of a request, and which of a limit's they are. */
#include <stdio.h>
#include <string.h>

#include "offload/l7_limit.h"

/* Bytes of values that are not in the request as they are. One more is "". */
#define SCRATCH 4096U

struct making {
	const struct flat_l7 *l7;
	const struct flat_http_request *request;
	char scratch[SCRATCH];
	size_t used;
};

static struct flat_span put_path(struct making *m, struct flat_span path, struct flat_span query)
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
static struct flat_span header(struct making *m, const char *name)
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

static struct flat_span remote(struct making *m)
{
	const struct flat_l7 *l7 = m->l7;
	struct flat_ip ip = l7->x.remote.family ? l7->x.remote : flat_addr_ip(&l7->conn->from);
	char *text = m->scratch + m->used;

	if (SCRATCH - m->used < FLAT_IP_TEXT_MAX)
		return flat_span_of("");
	/* A client on this host that bound nothing. */
	if (ip.family == 0)
		ip = flat_ip_from_v4(INADDR_LOOPBACK);
	m->used += FLAT_IP_TEXT_MAX;
	return flat_span_of(flat_ip_text(&ip, text));
}

static bool headers_match(struct making *m, const struct flat_limit_action *a)
{
	for (uint32_t i = 0; i < a->n_headers; i++) {
		const struct flat_limit_header *h = &a->headers[i];

		if (flat_text_matches(&h->match, header(m, h->name)) == h->invert)
			return false;
	}
	return true;
}

/* One entry's value; absent: the action has none to give. */
static struct flat_span value_of(struct making *m, const struct flat_limit_action *a)
{
	static const struct flat_span absent = {NULL, 0};

	switch (a->kind) {
	case FLAT_LIMIT_HEADER:
		return header(m, a->name);
	case FLAT_LIMIT_QUERY:
		return flat_l7_param(m->request->query, a->name);
	case FLAT_LIMIT_REMOTE:
		return remote(m);
	case FLAT_LIMIT_GENERIC:
		return flat_span_of(a->value);
	case FLAT_LIMIT_HEADER_MATCH:
		return headers_match(m, a) != a->unless ? flat_span_of(a->value) : absent;
	default:
		return absent;
	}
}

/* A request's descriptor. */
struct made {
	const char *key[FLAT_LIMIT_ENTRIES_MAX];
	struct flat_span value[FLAT_LIMIT_ENTRIES_MAX];
	uint32_t n;
};

/* False: by this rule the request has none. */
static bool make(struct making *m, const struct flat_limit_rule *rule, struct made *out)
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
	return out->n > 0;
}

/* Whether they are the same entries in the same order; *dynamic: some may have any value. */
static bool is_descriptor(const struct made *made, const struct flat_limit_descriptor *d,
			  bool *dynamic)
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
	struct making m = {.l7 = l7, .request = request};
	struct made made;
	uint32_t n = 0;

	for (uint32_t i = 0; i < limit->n_rules; i++) {
		m.used = 0;
		if (!make(&m, &limit->rules[i], &made))
			continue;
		for (uint32_t k = 0; k < limit->n_descriptors && n < FLAT_L7_LIMIT_KEYS_MAX; k++) {
			struct flat_l7_limit_key *key = &keys[n];

			*key = (struct flat_l7_limit_key){.descriptor = k};
			if (!is_descriptor(&made, &limit->descriptors[k], &key->dynamic))
				continue;
			for (uint32_t e = 0; key->dynamic && e < made.n; e++)
				key->hash = flat_xxh64(made.value[e].text, made.value[e].len,
						       key->hash ^ seed) +
					    e;
			n++;
		}
	}
	return n;
}
