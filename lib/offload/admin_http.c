/* What is told of routes and requests: `flatctl routes`, `flatctl why 'GET http://...'`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "mesh/build.h"
#include "mesh/l4_route.h"
#include "mesh/persist.h"
#include "mesh/scope.h"
#include "offload/admin.h"
#include "offload/admit.h"
#include "offload/l7_admission.h"
#include "offload/l7_observe.h"

/* --- routes --- */

static void put_text(struct flat_strbuf *out, const char *what, const char *name,
		     const struct flat_text_match *m)
{
	static const char *const kinds[] = {"present", "exact", "prefix", "regex", "below"};
	if (!m)
		return;
	flat_strbuf_printf(out, " %s%s%s %s%s%s", what, name ? " " : "", name ? name : "",
			   kinds[m->kind], m->text ? " " : "", m->text ? m->text : "");
}

static void put_source(struct flat_strbuf *out, const char *namespace,
		       const struct flat_labels *labels)
{
	if (namespace)
		flat_strbuf_printf(out, " source namespace %s", namespace);
	for (uint32_t i = 0; i < labels->n; i++)
		flat_strbuf_printf(out, " source %s=%s", labels->v[i].key, labels->v[i].value);
}

static void put_match(struct flat_strbuf *out, const struct flat_http_match *m)
{
	if (m->also) {
		put_match(out, m->also);
		flat_strbuf_puts(out, " and");
	}
	if (m->never)
		flat_strbuf_puts(out, " never (gateways only)");
	put_text(out, "uri", NULL, m->uri);
	put_text(out, "method", NULL, m->method);
	put_text(out, "scheme", NULL, m->scheme);
	put_text(out, "authority", NULL, m->authority);
	for (uint32_t i = 0; i < m->n_headers; i++)
		put_text(out, "header", m->headers[i].name, &m->headers[i].match);
	for (uint32_t i = 0; i < m->n_without; i++)
		put_text(out, "without", m->without[i].name, &m->without[i].match);
	for (uint32_t i = 0; i < m->n_query; i++)
		put_text(out, "query", m->query[i].name, &m->query[i].match);
	if (m->port)
		flat_strbuf_printf(out, " port %u", m->port);
	if (!m->for_gateways)
		put_source(out, m->source_namespace, &m->source_labels);
}

static void put_destinations(struct flat_strbuf *out, const struct flat_route_destination *v,
			     uint32_t n, const char *none)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_route_destination *to = &v[i];
		flat_strbuf_printf(out, "%s %s%s%s", i ? "," : "", to->host,
				   to->subset_name ? " subset " : "",
				   to->subset_name ? to->subset_name : "");
		if (to->port)
			flat_strbuf_printf(out, " port %u", to->port);
		if (n > 1)
			flat_strbuf_printf(out, " weight %u", to->weight);
		if (!to->service || (to->subset_name && !to->subset))
			flat_strbuf_puts(out, none);
	}
}

static void put_action(struct flat_strbuf *out, const struct flat_http_route *r)
{
	const struct flat_http_redirect *d = r->redirect;
	if (d)
		flat_strbuf_printf(out, " redirect %u to %s%s", d->status,
				   d->authority ? d->authority : "", d->uri ? d->uri : "");
	if (r->direct)
		flat_strbuf_printf(out, " answer %u", r->direct->status);
	put_destinations(out, r->destinations, r->n_destinations, " (there is none: 503)");
	for (uint32_t i = 0; i < r->n_mirrors; i++) {
		flat_strbuf_printf(out, "; mirror %g %% to", r->mirrors[i].of_million / 10000.0);
		put_destinations(out, &r->mirrors[i].to, 1, " (there is none)");
	}
	if (r->rewrite)
		flat_strbuf_printf(out, "; rewrite %s%s%s%s%s", r->rewrite->authority ? "//" : "",
				   r->rewrite->authority ? r->rewrite->authority : "",
				   r->rewrite->uri ? r->rewrite->uri : "",
				   r->rewrite->path ? r->rewrite->path : "",
				   r->rewrite->regex ? r->rewrite->substitution : "");
	if (r->timeout_ms)
		flat_strbuf_printf(out, "; timeout %u ms", r->timeout_ms);
	if (r->retries)
		flat_strbuf_printf(out, "; %u retries", r->retries->attempts);
	if (r->fault && r->fault->delay_ms)
		flat_strbuf_printf(out, "; delay %u ms of %g %%", r->fault->delay_ms,
				   r->fault->delay_of_million / 10000.0);
	if (r->fault && r->fault->abort_status)
		flat_strbuf_printf(out, "; abort %u of %g %%", r->fault->abort_status,
				   r->fault->abort_of_million / 10000.0);
	if (r->cors)
		flat_strbuf_puts(out, "; CORS");
	if (r->persistence)
		flat_strbuf_printf(out, "; sessions by %s %s",
				   r->persistence->header ? "header" : "cookie",
				   r->persistence->name);
}

/* "uri prefix /a, or method exact PUT": the text of a route's condition. */
static void put_condition(struct flat_strbuf *out, const struct flat_http_route *r)
{
	if (r->n_matches == 0)
		flat_strbuf_puts(out, " always");
	for (uint32_t i = 0; i < r->n_matches; i++) {
		flat_strbuf_puts(out, i ? ", or" : "");
		size_t before = out->len;
		put_match(out, &r->matches[i]);
		if (out->len == before)
			flat_strbuf_puts(out, " always");
	}
}

static void put_l4_match(struct flat_strbuf *out, const struct flat_l4_match *m)
{
	char text[FLAT_CIDR_TEXT_MAX];
	size_t before = out->len;
	if (m->never)
		flat_strbuf_puts(out, " never (gateways only)");
	for (uint32_t i = 0; i < m->n_sni; i++)
		flat_strbuf_printf(out, "%s %s", i ? "," : " SNI", m->sni[i]);
	if (m->port)
		flat_strbuf_printf(out, " port %u", m->port);
	for (uint32_t i = 0; i < m->n_subnets; i++)
		flat_strbuf_printf(out, "%s %s", i ? "," : " to",
				   flat_cidr_text(&m->subnets[i], text));
	put_source(out, m->source_namespace, &m->source_labels);
	if (out->len == before)
		flat_strbuf_puts(out, " always");
}

/* The condition and the destinations of a route of connections. */
static void put_l4_condition(struct flat_strbuf *out, const struct flat_l4_route *r)
{
	if (r->n_matches == 0)
		flat_strbuf_puts(out, " always");
	for (uint32_t i = 0; i < r->n_matches; i++) {
		flat_strbuf_puts(out, i ? ", or" : "");
		put_l4_match(out, &r->matches[i]);
	}
}

static void put_l4_action(struct flat_strbuf *out, const struct flat_l4_route *r)
{
	put_destinations(out, r->destinations, r->n_destinations, " (there is none: refused)");
}

static void json_where(struct flat_json *j, const struct flat_where *where)
{
	flat_json_string(j, "file", where->file);
	flat_json_uint(j, "line", where->line);
}

static void json_text(struct flat_json *j, const char *key,
		      void (*put)(struct flat_strbuf *out, const struct flat_http_route *r),
		      const struct flat_http_route *r)
{
	struct flat_strbuf text = {0};
	put(&text, r);
	if (flat_strbuf_str(&text))
		flat_json_string(j, key, text.len > 0 ? text.data + 1 : "");
	flat_strbuf_fini(&text);
}

static void json_l4(struct flat_json *j, const char *key, const struct flat_l4_route *v, uint32_t n)
{
	flat_json_array(j, key);
	for (uint32_t i = 0; i < n; i++) {
		struct flat_strbuf match = {0};
		struct flat_strbuf action = {0};
		put_l4_condition(&match, &v[i]);
		put_l4_action(&action, &v[i]);
		flat_json_object(j, NULL);
		json_where(j, &v[i].where);
		flat_json_string(j, "match", flat_strbuf_str(&match) ? match.data + 1 : "");
		flat_json_string(j, "action", flat_strbuf_str(&action) ? action.data + 1 : "");
		flat_json_object_end(j);
		flat_strbuf_fini(&match);
		flat_strbuf_fini(&action);
	}
	flat_json_array_end(j);
}

static void put_l4(struct flat_strbuf *out, const char *kind, const struct flat_l4_route *v,
		   uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		flat_strbuf_printf(out, "  %s %u (line %u):", kind, i, v[i].where.line);
		put_l4_condition(out, &v[i]);
		flat_strbuf_puts(out, " ->");
		put_l4_action(out, &v[i]);
		flat_strbuf_putc(out, '\n');
	}
}

static void json_virtual(struct flat_json *j, const struct flat_virtual_service *vs)
{
	flat_json_object(j, NULL);
	flat_json_string(j, "namespace", vs->namespace);
	flat_json_string(j, "name", vs->name);
	json_where(j, &vs->where);
	flat_json_bool(j, "in_force", !vs->detached);
	flat_json_array(j, "hosts");
	for (uint32_t i = 0; i < vs->n_hosts; i++)
		flat_json_string(j, NULL, vs->hosts[i]);
	flat_json_array_end(j);
	flat_json_array(j, "gateways");
	for (uint32_t i = 0; i < vs->n_gateways; i++)
		flat_json_string(j, NULL, vs->gateways[i]);
	flat_json_array_end(j);
	flat_json_array(j, "routes");
	for (uint32_t i = 0; i < vs->n_routes; i++) {
		const struct flat_http_route *r = &vs->routes[i];
		flat_json_object(j, NULL);
		flat_json_string(j, "name", r->name);
		json_where(j, &r->where);
		json_text(j, "match", put_condition, r);
		json_text(j, "action", put_action, r);
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
	json_l4(j, "tls", vs->tls, vs->n_tls);
	json_l4(j, "tcp", vs->tcp, vs->n_tcp);
	flat_json_object_end(j);
}

static void put_rule(struct flat_strbuf *out, const struct flat_destination_rule *r)
{
	flat_strbuf_printf(out, "DestinationRule %s/%s (%s:%u): %s", r->namespace, r->name,
			   r->where.file, r->where.line, r->host);
	for (uint32_t i = 0; i < r->selector.n; i++)
		flat_strbuf_printf(out, "%s %s=%s", i ? "," : " for clients with",
				   r->selector.v[i].key, r->selector.v[i].value);
	flat_put_policy(out, &r->policy);
	flat_strbuf_putc(out, '\n');
	for (uint32_t i = 0; i < r->n_subsets; i++) {
		flat_strbuf_printf(out, "  subset %s (line %u)", r->subsets[i].name,
				   r->subsets[i].where.line);
		flat_put_policy(out, &r->subsets[i].policy);
		flat_strbuf_putc(out, '\n');
	}
}

static void json_policy(struct flat_json *j, const struct flat_traffic_policy *p)
{
	struct flat_strbuf text = {0};
	flat_put_policy(&text, p);
	if (flat_strbuf_str(&text))
		flat_json_string(j, "balanced", text.len > 0 ? text.data + 1 : "");
	flat_strbuf_fini(&text);
}

static void json_rule(struct flat_json *j, const struct flat_destination_rule *r)
{
	flat_json_object(j, NULL);
	flat_json_string(j, "namespace", r->namespace);
	flat_json_string(j, "name", r->name);
	json_where(j, &r->where);
	flat_json_string(j, "host", r->host);
	if (r->selector.n > 0) {
		flat_json_object(j, "workload_selector");
		for (uint32_t i = 0; i < r->selector.n; i++)
			flat_json_string(j, r->selector.v[i].key, r->selector.v[i].value);
		flat_json_object_end(j);
	}
	json_policy(j, &r->policy);
	flat_json_array(j, "subsets");
	for (uint32_t i = 0; i < r->n_subsets; i++) {
		flat_json_object(j, NULL);
		flat_json_string(j, "name", r->subsets[i].name);
		json_where(j, &r->subsets[i].where);
		json_policy(j, &r->subsets[i].policy);
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
	flat_json_object_end(j);
}

static void put_backend_tls(struct flat_strbuf *out, const struct flat_backend_tls *p)
{
	flat_strbuf_printf(out, "BackendTLSPolicy %s/%s (%s:%u):", p->namespace, p->name,
			   p->origin.where.file, p->origin.where.line);
	for (uint32_t i = 0; i < p->n_targets; i++)
		flat_strbuf_printf(out, "%s %s%s%s", i ? "," : "", p->targets[i].host,
				   p->targets[i].section ? " port " : "",
				   p->targets[i].section ? p->targets[i].section : "");
	flat_strbuf_printf(out, ", TLS SIMPLE as %s", p->origin.sni);
	for (uint32_t i = 0; i < p->origin.n_names; i++)
		flat_strbuf_printf(out, "%s %s", i ? "," : ", named", p->origin.names[i]);
	flat_strbuf_printf(out, "%s%s\n", p->origin.broken ? ": fails, " : "",
			   p->origin.broken ? p->origin.broken : "");
}

static void json_backend_tls(struct flat_json *j, const struct flat_backend_tls *p)
{
	flat_json_object(j, NULL);
	flat_json_string(j, "namespace", p->namespace);
	flat_json_string(j, "name", p->name);
	json_where(j, &p->origin.where);
	flat_json_array(j, "targets");
	for (uint32_t i = 0; i < p->n_targets; i++) {
		flat_json_object(j, NULL);
		flat_json_string(j, "host", p->targets[i].host);
		if (p->targets[i].section)
			flat_json_string(j, "port", p->targets[i].section);
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
	flat_json_string(j, "sni", p->origin.sni);
	flat_json_array(j, "names");
	for (uint32_t i = 0; i < p->origin.n_names; i++)
		flat_json_string(j, NULL, p->origin.names[i]);
	flat_json_array_end(j);
	if (p->origin.broken)
		flat_json_string(j, "fails", p->origin.broken);
	flat_json_object_end(j);
}

void flat_admin_routes(struct flat_offload *o, bool json, struct flat_strbuf *out)
{
	uint32_t n = flat_mesh_n_virtual(o->mesh);
	struct flat_json j;
	flat_json_init(&j, out, false);
	if (json) {
		flat_json_object(&j, NULL);
		flat_json_array(&j, "virtual_services");
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_virtual_service *vs = flat_mesh_virtual(o->mesh, i);
		if (json) {
			json_virtual(&j, vs);
			continue;
		}
		flat_strbuf_printf(out, "VirtualService %s/%s (%s:%u)%s:", vs->namespace, vs->name,
				   vs->where.file, vs->where.line,
				   !vs->detached    ? ""
				   : vs->n_gateways ? ", for gateways"
						    : ", for nobody here");
		for (uint32_t k = 0; k < vs->n_hosts; k++)
			flat_strbuf_printf(out, " %s", vs->hosts[k]);
		for (uint32_t k = 0; k < vs->n_gateways; k++)
			flat_strbuf_printf(out, "%s %s", k ? "," : " at", vs->gateways[k]);
		flat_strbuf_putc(out, '\n');
		for (uint32_t k = 0; k < vs->n_routes; k++) {
			const struct flat_http_route *r = &vs->routes[k];
			flat_strbuf_printf(out, "  %u%s%s (line %u):", k, *r->name ? " " : "",
					   r->name, r->where.line);
			put_condition(out, r);
			flat_strbuf_puts(out, " ->");
			put_action(out, r);
			flat_strbuf_putc(out, '\n');
		}
		put_l4(out, "tls", vs->tls, vs->n_tls);
		put_l4(out, "tcp", vs->tcp, vs->n_tcp);
	}
	if (!json && n == 0)
		flat_strbuf_puts(out, "no VirtualService: each host is its service\n");
	if (json) {
		flat_json_array_end(&j);
		flat_json_array(&j, "destination_rules");
	}
	for (uint32_t i = 0; i < flat_mesh_n_rules(o->mesh); i++) {
		if (json)
			json_rule(&j, flat_mesh_rule(o->mesh, i));
		else
			put_rule(out, flat_mesh_rule(o->mesh, i));
	}
	if (json) {
		flat_json_array_end(&j);
		flat_json_array(&j, "backend_tls_policies");
	}
	for (uint32_t i = 0; i < flat_mesh_n_backend_tls(o->mesh); i++) {
		if (json)
			json_backend_tls(&j, flat_mesh_backend_tls(o->mesh, i));
		else
			put_backend_tls(out, flat_mesh_backend_tls(o->mesh, i));
	}
	if (json) {
		flat_json_array_end(&j);
		flat_json_object_end(&j);
		flat_strbuf_putc(out, '\n');
	}
}

/* --- why --- */

/* What would be decided, step by step, in lines. */
struct steps {
	struct flat_strbuf text;
	bool allowed;
	unsigned status; /* of flatd's own answer; 0: the server's */
};

/* A client's connection that is none. */
struct stand_in {
	struct flat_session session;
	struct flat_conn conn;
	struct flat_l7 l7;
};

/* %XX: how a question carries blanks. */
static void decode(char *text)
{
	char *to = text;
	for (; *text; text++) {
		char digits[3] = {0};
		char *end = digits;
		unsigned long byte = 0;
		if (*text == '%') {
			memcpy(digits, text + 1, strnlen(text + 1, 2));
			byte = strtoul(digits, &end, 16);
		}
		if (end == digits + 2 && byte != 0) {
			*to++ = (char)byte;
			text += 2;
		} else {
			*to++ = *text;
		}
	}
	*to = 0;
}

/* The request as a client would send it. False: the URL is none. */
static bool write_request(struct flat_l7 *l7, char **words, size_t n, uint16_t *port)
{
	static const char scheme[] = "http://";
	struct flat_http1_out out = {.bytes = l7->end.in, .size = FLAT_L7_IN_BYTES};
	const char *url = words[1];
	size_t len = strcspn(url + (strncmp(url, scheme, 7) == 0 ? 7 : 0), "/?#");
	struct flat_span authority = {url + 7, len};
	struct flat_span path;
	const char *colon;
	if (strncmp(url, scheme, 7) != 0 || len == 0)
		return false;
	path = flat_span_of(url + 7 + len);
	flat_http1_puts(&out, words[0]);
	flat_http1_puts(&out, path.text[0] == '/' ? " " : " /");
	flat_http1_put(&out, path.text, path.len);
	flat_http1_puts(&out, " HTTP/1.1\r\n");
	flat_http1_put_field(&out, flat_span_of("Host"), authority);
	for (size_t i = 2; i < n; i++) {
		decode(words[i]);
		flat_http1_puts(&out, words[i]);
		flat_http1_puts(&out, "\r\n");
	}
	flat_http1_puts(&out, "\r\n");
	l7->end.len = out.len;
	colon = memchr(authority.text, ':', authority.len);
	*port = colon ? (uint16_t)strtoul(colon + 1, NULL, 10) : 80;
	return !out.full;
}

static void explain_policy(struct stand_in *in, struct steps *s)
{
	const char *notes = flat_strbuf_str(&in->l7.node->notes);
	if (!in->l7.x.target.listener)
		flat_strbuf_puts(&s->text, "  a server outside the mesh: no policy is asked\n");
	else if (notes)
		flat_strbuf_puts(&s->text, notes);
}

static void explain_telemetry(struct stand_in *in, struct steps *s)
{
	struct flat_l7 *l7 = &in->l7;
	const struct flat_listener *l = l7->x.target.listener;
	const char *notes;

	flat_strbuf_reset(&l7->node->notes);
	if (l7->node->admits)
		flat_l7_admission_note(l7, in->session.workload);
	if (flat_mesh_n_times(l7->node->offload->mesh) > 0)
		flat_l7_idle_note(l7, in->session.workload);
	flat_l7_hedge_note(l7);
	flat_l7_observe_note(l7, in->session.workload, l ? l->session->workload : NULL);
	notes = flat_strbuf_str(&l7->node->notes);
	if (notes)
		flat_strbuf_puts(&s->text, notes);
}

static void explain_attempt(struct stand_in *in, const struct flat_route_destination *d,
			    struct steps *s)
{
	struct flat_l7 *l7 = &in->l7;
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_answer answer = {0};
	size_t len = 0;
	const char *end;
	char host[FLAT_ADDR_STRLEN];
	x->destination = d;
	memset(&x->target, 0, sizeof(x->target));
	flat_strbuf_reset(&l7->node->notes);
	enum flat_l7_verb verb = flat_l7_attempt(l7, &answer, &len);
	flat_strbuf_printf(&s->text, "to %s%s%s",
			   x->service ? x->service->host
			   : d	      ? d->host
				      : "?",
			   d && d->subset_name ? " subset " : "",
			   d && d->subset_name ? d->subset_name : "");
	if (d && x->route->n_destinations > 1)
		flat_strbuf_printf(&s->text, ", weight %u of %llu", d->weight,
				   (unsigned long long)x->route->weight);
	if (verb == FLAT_L7_ANSWER && answer.verdict == FLAT_VERDICT_NO_HOST && d && d->service &&
	    !flat_service_exported(d->service, in->session.workload->namespace)) {
		const struct flat_scope scope = flat_mesh_scope(x->mesh, in->session.workload, 0);
		char why[700];
		flat_strbuf_printf(&s->text, ": answered %u, %s\n", answer.status,
				   flat_scope_why(&scope, d->service, why, sizeof(why)));
		s->status = answer.status;
		return;
	}
	if (verb == FLAT_L7_ANSWER && answer.verdict == FLAT_VERDICT_NO_HOST) {
		flat_put_health(&s->text, x->target.cluster ? x->target.cluster->group : NULL);
		flat_strbuf_printf(&s->text, ": it has no endpoint, answered %u\n", answer.status);
		s->status = answer.status;
		return;
	}
	flat_put_lb(&s->text, x->traffic.lb);
	flat_put_health(&s->text, x->target.cluster ? x->target.cluster->group : NULL);
	flat_strbuf_printf(&s->text, ": %s\n", flat_addr_str(&x->target.addr, host));
	end = memchr(l7->node->head, '\r', len);
	if (end)
		flat_strbuf_printf(&s->text, "  sent as %.*s\n",
				   (int)(end - (const char *)l7->node->head),
				   (const char *)l7->node->head);
	explain_policy(in, s);
	explain_telemetry(in, s);
	if (verb == FLAT_L7_ANSWER)
		s->status = answer.status;
	else
		s->allowed = true;
}

static void explain_request(struct stand_in *in, struct steps *s)
{
	struct flat_l7 *l7 = &in->l7;
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_answer answer = {0};
	uint32_t delay_ms = 0;
	int n = flat_http1_read(&l7->in, l7->end.in, l7->end.len);
	if (n <= 0) {
		flat_strbuf_printf(&s->text, "malformed: %s\n",
				   flat_http1_fault_text((enum flat_http1_fault)l7->in.fault));
		s->status = 400;
		return;
	}
	x->head_len = (size_t)n;
	if (flat_l7_decide(l7, &answer, &delay_ms) == FLAT_L7_ANSWER) {
		flat_strbuf_printf(&s->text, "%s\n",
				   answer.status == 404 ? "no route matches"
							: "refused for its form");
		s->status = answer.status;
		return;
	}
	flat_strbuf_printf(&s->text, "path %.*s\n", (int)x->request.path.len, x->request.path.text);
	if (!x->route) {
		flat_strbuf_puts(&s->text, "no VirtualService: the service itself\n");
		explain_attempt(in, NULL, s);
		return;
	}
	flat_strbuf_printf(&s->text, "route %s%s(%s:%u):", x->route->name,
			   *x->route->name ? " " : "", x->route->where.file, x->route->where.line);
	if (x->match)
		put_match(&s->text, x->match);
	flat_strbuf_puts(&s->text, " ->");
	put_action(&s->text, x->route);
	flat_strbuf_putc(&s->text, '\n');
	s->status = x->route->redirect ? x->route->redirect->status
		    : x->route->direct ? x->route->direct->status
				       : 0;
	s->allowed = s->status != 0;
	for (uint32_t i = 0; i < x->route->n_destinations; i++)
		explain_attempt(in, &x->route->destinations[i], s);
}

static void explain(struct flat_offload *o, struct stand_in *in, char **words, size_t n,
		    struct steps *s)
{
	struct flat_decision d;
	struct flat_question q = {.session = &in->session, .dry = true};
	const struct flat_service *service;
	struct flat_ip ip;
	char host[FLAT_HTTP_HOST_MAX + 1];
	uint16_t port = 80;
	if (!write_request(&in->l7, words, n, &port)) {
		flat_strbuf_puts(&s->text, "give METHOD http://HOST[:PORT]/PATH\n");
		return;
	}
	size_t len = strcspn(words[1] + 7, ":/?");
	snprintf(host, sizeof(host), "%.*s", (int)flat_min_size(len, FLAT_HTTP_HOST_MAX),
		 words[1] + 7);
	service = flat_admin_service(o, host, in->session.workload, port);
	if (service ? flat_service_resolve(service, &ip) != 0 : flat_ip_parse(host, &ip) != 0) {
		flat_strbuf_printf(&s->text, "there is no service %s\n", host);
		return;
	}
	q.to = flat_ip_addr(&ip, port);
	q.heard = q.http = true;
	q.from = (struct flat_addr){.family = AF_INET, .ip = {127, 0, 0, 1}};
	flat_admit(o, &q, &d);
	if (d.hidden && d.status == 0) {
		const struct flat_scope scope =
		    flat_mesh_scope(o->mesh, in->session.workload, port);
		char why[700];
		s->allowed = true;
		flat_strbuf_printf(&s->text, "to this client the address is none of the mesh: %s\n",
				   flat_scope_why(&scope, d.hidden, why, sizeof(why)));
		return;
	}
	if (d.status != 0 || !d.l7) {
		s->allowed = d.status == 0;
		flat_strbuf_printf(&s->text, "the connection is not read as HTTP: %s\n",
				   d.status != 0 ? d.reason
						 : "no VirtualService, policy or Telemetry speaks "
						   "of its requests, or its port is not HTTP");
		return;
	}
	in->conn.from = q.from;
	in->conn.to = q.to;
	in->l7.port = d.port ? d.port->number : port;
	if (d.l7_pinned)
		in->l7.pinned = d.target;
	in->conn.service = d.service ? d.service->host : "";
	in->conn.client_name = in->conn.server_name = "";
	if (d.service)
		flat_strbuf_printf(&s->text, "service %s (%s:%u), HTTP on port %u\n",
				   d.service->host, d.service->where.file, d.service->where.line,
				   in->l7.port);
	explain_request(in, s);
}

static void put_steps(const struct steps *s, bool json, struct flat_strbuf *out)
{
	struct flat_json j;
	const char *line = flat_strbuf_str(&s->text);
	if (!json) {
		flat_strbuf_puts(out, s->allowed ? "allowed" : "denied");
		if (s->status)
			flat_strbuf_printf(out, ", answered %u by flatd", s->status);
		flat_strbuf_printf(out, "\n%s", line ? line : "");
		return;
	}
	flat_json_init(&j, out, false);
	flat_json_object(&j, NULL);
	flat_json_bool(&j, "allowed", s->allowed);
	flat_json_uint(&j, "status", s->status);
	flat_json_array(&j, "steps");
	while (line && *line) {
		size_t len = strcspn(line, "\n");
		flat_json_string_n(&j, NULL, line, len);
		line += len + (line[len] != 0);
	}
	flat_json_array_end(&j);
	flat_json_object_end(&j);
	flat_strbuf_putc(out, '\n');
}

void flat_admin_why_http(struct flat_offload *o, const char *src, char **words, size_t n, bool json,
			 struct flat_strbuf *out)
{
	struct steps s = {.allowed = false};
	struct stand_in *in = calloc(1, sizeof(*in));
	uint8_t *text = malloc(FLAT_L7_IN_BYTES);
	if (in && text) {
		in->session.offload = o;
		in->session.workload = flat_admin_workload(o, src);
		in->conn.offload = o;
		in->conn.client = &in->session;
		in->l7.node = o->l7;
		in->l7.conn = &in->conn;
		in->l7.root = &in->l7;
		in->l7.end.in = text;
		in->l7.dry = true;
		flat_http1_begin(&in->l7.in, FLAT_HTTP1_REQUEST);
		if (in->session.workload)
			explain(o, in, words, n, &s);
		else
			flat_strbuf_printf(&s.text, "there is no workload %s\n", src);
		free(in->l7.x.path);
		flat_mesh_put(in->l7.x.mesh);
	}
	put_steps(&s, json, out);
	flat_strbuf_fini(&s.text);
	free(text);
	free(in);
}
