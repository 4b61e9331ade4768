/*
 * What routes change of a head's fields, as Istio and Envoy do it: of the destination first, then of the route, then of a
 * gateway; each takes away, then sets and adds. A later one sees what an earlier one made. Where a route has one destination
 * Istio makes one list of both, the route's first: all is taken away, then all is set, then all is added.
 */
#include <stdio.h>
#include <string.h>

#include "offload/l7_engine.h"

/* The longest value that variables make. */
#define VALUE_MAX 4096

struct flat_l7_ops flat_l7_ops_of(const struct flat_l7_exchange *x, bool response)
{
	struct flat_l7_ops ops = {{NULL}, x->route && x->route->n_destinations == 1};

	if (x->destination)
		ops.v[ops.one_list] =
		    response ? &x->destination->response : &x->destination->request;
	if (x->route)
		ops.v[!ops.one_list] = response ? &x->route->response : &x->route->request;
	return ops;
}

const char *flat_l7_authority(const struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_route *r = x->route;

	if (l7->shadow)
		return flat_l7_shadow_host(l7->shadow);
	/* As Istio makes it: the rewrite's, the route's, the destination's. */
	if (r && r->rewrite && r->rewrite->authority)
		return r->rewrite->authority;
	if (r && r->request.authority)
		return r->request.authority;
	return x->destination ? x->destination->request.authority : NULL;
}

bool flat_l7_ops_any(const struct flat_l7_ops *ops)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(ops->v); i++) {
		const struct flat_header_ops *o = ops->v[i];

		if (o && (o->n_set || o->n_add || o->n_remove || o->authority))
			return true;
	}
	return false;
}

static bool removes(const struct flat_header_ops *o, struct flat_span name)
{
	for (uint32_t k = 0; o && k < o->n_remove; k++) {
		if (flat_span_equal(flat_span_of(o->remove[k]), name, true))
			return true;
	}
	return false;
}

static bool sets(const struct flat_header_ops *o, struct flat_span name)
{
	for (uint32_t k = 0; o && k < o->n_set; k++) {
		if (flat_span_equal(flat_span_of(o->set[k].name), name, true))
			return true;
	}
	return false;
}

/* Whether what was there before the changes of `from` and later ones is gone after them. */
static bool dropped(const struct flat_l7_ops *ops, size_t from, struct flat_span name)
{
	for (size_t i = from; i < FLAT_ARRAY_SIZE(ops->v); i++) {
		bool before = i == 1 && from == 1 && ops->one_list;

		if ((!before && removes(ops->v[i], name)) || sets(ops->v[i], name))
			return true;
	}
	return false;
}

bool flat_l7_ops_drop(const struct flat_l7_ops *ops, struct flat_span name)
{
	return dropped(ops, 0, name);
}

/* --- variables --- */

static struct flat_span request_field(const struct flat_http_request *r, struct flat_span name)
{
	if (flat_span_equal(name, flat_span_of(":method"), true))
		return r->method;
	if (flat_span_equal(name, flat_span_of(":path"), true))
		return r->path;
	if (flat_span_equal(name, flat_span_of(":authority"), true))
		return r->authority;
	return flat_http_field_get(r, name, 0);
}

static struct flat_span address(const struct flat_addr *a, bool port, char text[FLAT_ADDR_STRLEN])
{
	struct flat_ip ip = flat_addr_ip(a);

	if (port)
		return flat_span_of(flat_addr_str(a, text));
	return flat_span_of(flat_ip_text(&ip, text));
}

/* One variable's value; `-` where there is none, as Envoy writes it. */
static struct flat_span value_of(const struct flat_l7 *l7, struct flat_span name, unsigned status,
				 char text[FLAT_ADDR_STRLEN])
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_span v = {NULL, 0};

	switch (flat_header_variable(name.text, name.len)) {
	case FLAT_VARIABLE_REQ:
		v = request_field(&x->request, (struct flat_span){name.text + 4, name.len - 5});
		break;
	case FLAT_VARIABLE_CLIENT:
		v = address(&l7->conn->from, true, text);
		break;
	case FLAT_VARIABLE_CLIENT_IP:
		v = address(&l7->conn->from, false, text);
		break;
	case FLAT_VARIABLE_LOCAL:
		v = address(&l7->conn->to, true, text);
		break;
	case FLAT_VARIABLE_LOCAL_IP:
		v = address(&l7->conn->to, false, text);
		break;
	case FLAT_VARIABLE_SERVER:
		v = address(&x->target.addr, true, text);
		break;
	case FLAT_VARIABLE_PROTOCOL:
		v = flat_span_of(l7->in.head.minor ? "HTTP/1.1" : "HTTP/1.0");
		break;
	case FLAT_VARIABLE_STATUS:
		snprintf(text, FLAT_ADDR_STRLEN, "%u", status);
		v = flat_span_of(text);
		break;
	case FLAT_VARIABLE_ROUTE:
		v = flat_span_of(x->route ? x->route->name : NULL);
		break;
	default:
		break;
	}
	return v.text && v.len ? v : flat_span_of("-");
}

/* Whole or not at all. */
static void append(char *to, size_t *len, struct flat_span s)
{
	if (*len > VALUE_MAX - s.len || s.len > VALUE_MAX)
		return;
	memcpy(to + *len, s.text, s.len);
	*len += s.len;
}

static void append_variable(const struct flat_l7 *l7, struct flat_span name, unsigned status,
			    char *to, size_t *len)
{
	char text[FLAT_ADDR_STRLEN];
	const struct flat_span query = l7->x.request.query;

	append(to, len, value_of(l7, name, status, text));
	/* Envoy's path is with the query. */
	if (!query.text || !flat_span_equal(name, flat_span_of("REQ(:PATH)"), true) ||
	    flat_header_variable(name.text, name.len) != FLAT_VARIABLE_REQ)
		return;
	append(to, len, flat_span_of("?"));
	append(to, len, query);
}

static void put_field(const struct flat_l7 *l7, const struct flat_name_value *v, unsigned status,
		      struct flat_http1_out *out)
{
	char made[VALUE_MAX];
	const char *p = v->value;
	size_t len = 0;

	if (!v->variables) {
		flat_http1_put_field(out, flat_span_of(v->name), flat_span_of(v->value));
		return;
	}
	while (*p) {
		const char *end = *p == '%' ? strchr(p + 1, '%') : NULL;

		if (!end) {
			append(made, &len, (struct flat_span){p++, 1});
			continue;
		}
		/* Two of them are one. */
		if (end == p + 1)
			append(made, &len, (struct flat_span){p, 1});
		else
			append_variable(l7, (struct flat_span){p + 1, (size_t)(end - p - 1)},
					status, made, &len);
		p = end + 1;
	}
	flat_http1_put_field(out, flat_span_of(v->name), (struct flat_span){made, len});
}

/* What one adds, unless those from `from` on take it away. */
static void put_added(const struct flat_l7 *l7, const struct flat_l7_ops *ops, size_t i,
		      size_t from, unsigned status, struct flat_http1_out *out)
{
	const struct flat_header_ops *o = ops->v[i];

	for (uint32_t k = 0; o && k < o->n_add; k++) {
		if (!dropped(ops, from, flat_span_of(o->add[k].name)))
			put_field(l7, &o->add[k], status, out);
	}
}

void flat_l7_ops_put(const struct flat_l7 *l7, const struct flat_l7_ops *ops, unsigned status,
		     struct flat_http1_out *out)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(ops->v); i++) {
		const struct flat_header_ops *o = ops->v[i];

		for (uint32_t k = 0; o && k < o->n_set; k++) {
			if (!dropped(ops, i + 1, flat_span_of(o->set[k].name)))
				put_field(l7, &o->set[k], status, out);
		}
		if (ops->one_list && i == 0)
			continue;
		if (ops->one_list && i == 1)
			put_added(l7, ops, 0, 2, status, out);
		put_added(l7, ops, i, i + 1, status, out);
	}
}
