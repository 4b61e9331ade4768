/* Requests that come by a gateway's port: which server of it they mean, whether they may, and what they bring along. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/gateway.h"
#include "offload/l7_check.h"
#include "offload/l7_mandatory.h"
#include "offload/l7_rate.h"

/* What the proxies before the gateway say of the client (Envoy: use_remote_address, xff_num_trusted_hops). */
static struct flat_ip remote_of(const struct flat_l7 *l7)
{
	uint32_t trusted = flat_mesh_trusted_proxies(l7->x.mesh);
	struct flat_ip ip = {.family = 0};
	char buf[2048];
	bool overflow = false;
	struct flat_span list = {NULL, 0};

	if (trusted > 0)
		list = flat_http_field_joined(&l7->x.request, flat_span_of("x-forwarded-for"), buf,
					      sizeof(buf), &overflow);
	/* Without as many entries it is the peer itself. */
	if (!list.text || flat_ip_from_list(list.text, list.len, trusted, &ip) != 0)
		ip.family = 0;
	return ip;
}

/* What policies and routes see comes to *request: without claims that a client wrote, with those of its token. */
static enum flat_l7_gate allowed(struct flat_l7 *l7, const struct flat_way *way,
				 struct flat_http_request *request, struct flat_l7_answer *a)
{
	const struct flat_conn *c = l7->conn;
	const char *principal = c->gate->tls ? flat_tls_principal(c->gate->tls) : "";
	struct flat_authz_verdict *v = &l7->node->verdict;
	struct flat_authz_input in = {
	    .source_principal = principal[0] ? principal : NULL,
	    .source_ip = flat_addr_ip(&c->from),
	    .remote_ip = l7->x.remote,
	    .destination_ip = flat_addr_ip(&c->target),
	    .destination_port = c->target.port,
	    .destination = way->workload,
	    .sni = c->gate->tls ? flat_tls_host(c->gate->tls) : NULL,
	    .http = request,
	    .brief = true,
	};
	struct flat_l7_claims claims = {NULL, NULL};

	*request = l7->x.request;
	if (!flat_l7_verify(l7, way->workload, request, &claims, a)) {
		flat_l7_refused(l7, way->workload, &l7->x.request, a, NULL);
		return FLAT_L7_GATE_ANSWER;
	}
	flat_jwt_put(l7->x.jwt);
	l7->x.jwt = claims.jwt;
	in.claims = claims.jwt ? claims.jwt->claims : NULL;
	in.spaced = claims.rule ? claims.rule->spaced : NULL;
	in.n_spaced = claims.rule ? claims.rule->n_spaced : 0;
	l7->x.gate_asks = 0;
	for (;;) {
		flat_authz_check(l7->x.mesh, &in, v);
		if (v->reason != FLAT_AUTHZ_ASK)
			break;
		l7->x.gate_asks |= 1U << v->order;
		in.custom_from = v->order + 1;
	}
	if (v->allowed)
		return FLAT_L7_GATE_OPEN;
	flat_l7_text(a, 403, FLAT_VERDICT_DENIED, "RBAC: access denied");
	flat_l7_refused(l7, way->workload, &l7->x.request, a, v);
	return FLAT_L7_GATE_ANSWER;
}

/* What tokens changed of a request is kept for limits. False: no memory. */
static bool keep(struct flat_l7_exchange *x, const struct flat_http_request *seen)
{
	const struct flat_http_head *h = seen->head;
	struct flat_l7_seen *s;
	size_t len = 0;

	for (uint32_t i = 0; i < h->n_fields; i++) {
		size_t end = (size_t)h->fields[i].value + h->fields[i].value_len;

		len = end > len ? end : len;
	}
	s = malloc(sizeof(*s) + len);
	if (!s)
		return false;
	s->request = x->request;
	s->request.head = &s->head;
	s->request.text = s->text;
	s->head = *h;
	memcpy(s->text, seen->text, len);
	free(x->seen);
	x->seen = s;
	return true;
}

enum flat_l7_gate flat_l7_enter(struct flat_l7 *l7, struct flat_route_question *question,
				struct flat_http_request *seen,
				const struct flat_virtual_service **vs, struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	enum flat_l7_gate gate;
	struct flat_way way;

	if (!flat_gate_find(l7->node->offload, x->mesh, l7->conn->gate, x->request.host, &way))
		return way.server && way.gateway->of_api ? FLAT_L7_GATE_ELSEWHERE
							 : FLAT_L7_GATE_NOWHERE;
	if (way.server->redirect)
		return FLAT_L7_GATE_SECURE;
	x->remote = remote_of(l7);
	gate = allowed(l7, &way, seen, a);
	if (gate != FLAT_L7_GATE_OPEN)
		return gate;
	if (l7->node->limited && seen->head != x->request.head && !keep(x, seen)) {
		flat_l7_text(a, 503, FLAT_VERDICT_LIMITER, NULL);
		return FLAT_L7_GATE_ANSWER;
	}
	x->client = way.workload;
	question->request = seen;
	question->gateway = way.gateway;
	question->tls = l7->conn->gate->tls != NULL;
	question->claims = x->jwt ? x->jwt->claims : NULL;
	*vs = flat_gateway_virtual(way.gateway, way.server, x->request.host);
	return *vs ? FLAT_L7_GATE_OPEN : FLAT_L7_GATE_NOWHERE;
}

/* Authorizers are asked as the newest configuration has them. */
static enum flat_l7_verb ask(struct flat_l7 *l7, uint32_t order, struct flat_http_request *request,
			     size_t *len, struct flat_l7_answer *a)
{
	const struct flat_mesh *newest = l7->node->offload->mesh;
	const struct flat_ext_authz *ext = flat_mesh_ext_authz_in_order(l7->x.mesh, order);

	if (ext && l7->x.mesh != newest)
		ext = flat_mesh_ext_authz(newest, ext->name);
	if (ext && !ext->why_not)
		return flat_l7_check(l7, FLAT_L7_ASKED_BY_GATE, ext, request, len, a);
	flat_l7_text(a, 403, FLAT_VERDICT_DENIED, "RBAC: access denied");
	return FLAT_L7_ANSWER;
}

enum flat_l7_verb flat_l7_gate_pass(struct flat_l7 *l7, struct flat_http_request *request,
				    size_t *len, struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_claims claims = {NULL, NULL};
	enum flat_l7_verb verb = FLAT_L7_GO;

	if (l7->node->limited)
		verb = flat_l7_rate(l7, true, request, len, a);
	if (verb != FLAT_L7_GO)
		return verb;
	verb = flat_l7_authenticate(l7, x->client, request, len, &claims, a);
	flat_jwt_put(claims.jwt);
	for (uint32_t order = 0; verb == FLAT_L7_GO && order < FLAT_EXT_AUTHZ_MAX; order++) {
		if (x->gate_asks & 1U << order)
			verb = ask(l7, order, request, len, a);
	}
	if (verb == FLAT_L7_ANSWER)
		flat_l7_refused(l7, x->client, request, a, NULL);
	return verb;
}

bool flat_l7_gate_fields(const struct flat_l7 *l7, struct flat_l7_gate_fields *f)
{
	const struct flat_conn *c = l7->conn;
	struct flat_ip ip = flat_addr_ip(&c->from);
	struct flat_span before;
	bool overflow = false;
	size_t len = 0;
	char text[FLAT_IP_TEXT_MAX];

	before =
	    flat_http_field_joined(&l7->x.request, flat_span_of("x-forwarded-for"), f->forwarded,
				   sizeof(f->forwarded) - FLAT_IP_TEXT_MAX - 2, &overflow);
	if (overflow || before.len > sizeof(f->forwarded) - FLAT_IP_TEXT_MAX - 2)
		return false;
	if (before.text && before.len > 0) {
		memmove(f->forwarded, before.text, before.len);
		memcpy(f->forwarded + before.len, ", ", 2);
		len = before.len + 2;
	}
	snprintf(f->forwarded + len, sizeof(f->forwarded) - len, "%s", flat_ip_text(&ip, text));
	f->set[0] = (struct flat_name_value){.name = "x-forwarded-for", f->forwarded};
	f->set[1] =
	    (struct flat_name_value){.name = "x-forwarded-proto", c->gate->tls ? "https" : "http"};
	/* A trusted proxy's word stays. */
	bool told = flat_mesh_trusted_proxies(l7->x.mesh) > 0 &&
		    flat_http_field_get(&l7->x.request, flat_span_of("x-forwarded-proto"), 0).text;

	f->ops = (struct flat_header_ops){.set = f->set, .n_set = told ? 1 : 2};
	return true;
}
