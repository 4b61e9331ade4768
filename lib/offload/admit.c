#include "offload/admit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/authn.h"
#include "mesh/l4_route.h"
#include "mesh/scope.h"
#include "offload/asking.h"
#include "offload/audit.h"
#include "offload/gateway.h"
#include "offload/l7.h"
#include "offload/sniff.h"
#include "offload/telling.h"

const char *flat_refusal_name(enum flat_refusal_kind kind)
{
	static const char *const names[FLAT_REFUSED_KINDS] = {
	    [FLAT_REFUSED_POLICY] = "policy",		[FLAT_REFUSED_STRICT] = "strict",
	    [FLAT_REFUSED_EGRESS] = "egress",		[FLAT_REFUSED_NO_PORT] = "no-port",
	    [FLAT_REFUSED_NO_ENDPOINT] = "no-endpoint", [FLAT_REFUSED_LIMIT] = "limit",
	    [FLAT_REFUSED_UNREACHABLE] = "unreachable", [FLAT_REFUSED_RESOURCES] = "resources",
	};
	return names[kind];
}

void flat_refuse(struct flat_offload *o, const struct flat_session *s, const char *who,
		 const struct flat_addr *to, enum flat_refusal_kind kind, const char *reason)
{
	char told[64];
	char account[96];
	struct flat_refusal *r = &o->refusals[o->n_refusals++ % FLAT_REFUSALS_KEPT];
	char text[FLAT_ADDR_STRLEN];
	r->at_ms = flat_now_us() / 1000;
	r->pid = s ? s->pid : 0;
	r->to = *to;
	snprintf(r->client_name, sizeof(r->client_name), "%s", who);
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	o->stats.refused[kind]++;
	snprintf(told, sizeof(told), "refusals, %s,", flat_refusal_name(kind));
	flat_tell(FLAT_LOG_WARN, told, s ? flat_session_account(s, account) : who,
		  "refused %s -> %s: %s", who, flat_addr_str(to, text), reason);
	if (kind == FLAT_REFUSED_POLICY || kind == FLAT_REFUSED_STRICT) {
		struct flat_audit e = {.event = "denied",
				       .client = who,
				       .service = text,
				       .reason = reason,
				       .rule = -1};
		(void)flat_audit_write(o->audit, &e);
	}
}

static void refuse(struct flat_decision *d, int err, enum flat_refusal_kind kind)
{
	d->status = -err;
	d->kind = kind;
}

/* Plain clients of a server that wants mesh clients alone. False: refused. */
static bool check_strict(struct flat_offload *o, const struct flat_listener *l,
			 struct flat_decision *d)
{
	struct flat_decided_by by;
	const struct flat_workload *dest = l->session->workload;
	if (flat_mesh_mtls(o->mesh, dest, l->addr.port, &by) != FLAT_MTLS_STRICT)
		return true;
	refuse(d, EACCES, FLAT_REFUSED_STRICT);
	snprintf(d->reason, sizeof(d->reason),
		 "%s %s/%s is STRICT: plain clients are refused (%s:%u)",
		 by.kind ? by.kind : "default", by.namespace ? by.namespace : "-",
		 by.name ? by.name : "-", by.where.file ? by.where.file : "-", by.where.line);
	return false;
}

static bool denied(struct flat_decision *d, const struct flat_authz_verdict *v)
{
	refuse(d, EACCES, FLAT_REFUSED_POLICY);
	snprintf(d->reason, sizeof(d->reason), "policy %s/%s (%s:%u): %.300s",
		 v->policy_namespace ? v->policy_namespace : "-",
		 v->policy_name ? v->policy_name : "-", v->where.file ? v->where.file : "-",
		 v->where.line, v->text);
	return false;
}

/* Whether all services say of the server's port that it is not HTTP: authorizers over HTTP do not hold for it, as in Istio. */
static bool is_opaque(const struct flat_offload *o, const struct flat_listener *l,
		      const struct flat_addr *target)
{
	const struct flat_service_port *port;
	struct flat_ip ip = flat_addr_ip(target);
	uint32_t n = 0;
	if (flat_mesh_service_by_endpoint(o->mesh, &ip, target->port, &port)) {
		if (!port->declared || flat_protocol_is_http(port->protocol))
			return false;
		n++;
	}
	return flat_mesh_says_opaque(o->mesh, l->session->workload, l->addr.port, &n) && n > 0;
}

/*
 * What the policies say; whom they ask comes to d->asks, for the gateway where `l` is NULL. Those who would be refused in any
 * case are not asked about. The sentence is for who is refused: it takes longer than the decision, and most are let in.
 */
static bool is_allowed(const struct flat_offload *o, struct flat_authz_input *in,
		       const struct flat_listener *l, struct flat_decision *d)
{
	uint32_t *asks = &d->asks[l ? FLAT_ASKED_BY_SERVER : FLAT_ASKED_BY_GATE];
	struct flat_authz_verdict v;
	in->brief = true;
	for (;;) {
		flat_authz_check(o->mesh, in, &v);
		if (v.reason == FLAT_AUTHZ_ASK)
			*asks |= 1U << v.order;
		else if (!v.ext || (l && !is_opaque(o, l, &d->target)))
			break;
		in->custom_from = v.order + 1;
	}
	if (v.allowed)
		return true;
	*asks = 0;
	in->brief = false;
	flat_authz_check(o->mesh, in, &v);
	return denied(d, &v);
}

/* Authorization and mutual identity of one connection to a mesh server. */
static void authorize(struct flat_offload *o, const struct flat_session *s, const char *principal,
		      const char *sni, const struct flat_addr *from, const struct flat_listener *l,
		      struct flat_decision *d)
{
	const struct flat_workload *dest = l->session->workload;
	struct flat_authz_input in = {
	    .source_principal = !s	      ? principal
				: s->workload ? s->workload->principal
					      : NULL,
	    .source_ip = flat_addr_ip(from),
	    .destination_ip = flat_addr_ip(&d->target),
	    .destination_port = l->addr.port,
	    .destination = dest,
	    .sni = sni,
	};
	if (!s && !principal && !check_strict(o, l, d))
		return;
	(void)is_allowed(o, &in, l, d);
}

/* What the gateway's own policies say of a client. False: refused. */
static bool authorize_at_gate(struct flat_offload *o, const struct flat_gate *gate,
			      const struct flat_addr *from, const char *sni,
			      const struct flat_workload *w, struct flat_decision *d)
{
	const char *principal = gate->tls ? flat_tls_principal(gate->tls) : "";
	struct flat_authz_input in = {
	    .source_principal = principal[0] ? principal : NULL,
	    .source_ip = flat_addr_ip(from),
	    .destination_ip = flat_addr_ip(&d->to),
	    .destination_port = d->to.port,
	    .destination = w,
	    .sni = sni,
	};
	return is_allowed(o, &in, NULL, d);
}

/* What may be asked of the service at once (connectionPool). False: refused. */
static bool bounded(struct flat_decision *d, bool dry)
{
	struct flat_cluster *c = d->cluster;
	if (c->n_requests < c->breaker.max_connections)
		return true;
	refuse(d, ECONNREFUSED, FLAT_REFUSED_LIMIT);
	snprintf(d->reason, sizeof(d->reason), "service %s has its %u connections (%s:%u)",
		 d->service->host, c->breaker.max_connections, c->breaker.where.file,
		 c->breaker.where.line);
	c->overflows[FLAT_OVERFLOW_CONNECTIONS] += !dry;
	return false;
}

/* To one of the route's destinations, for a connection that asked for `port`. False: there is none. */
static bool take_route(struct flat_offload *o, const struct flat_question *q,
		       struct flat_decision *d, uint16_t port, const struct flat_workload *client)
{
	const struct flat_route_destination *to = flat_l7_pick(
	    o, d->route->destinations, d->route->n_destinations, d->route->weight, q->dry);
	const char *what = "is no service";
	d->destination = to;
	d->service = to ? to->service : NULL;
	if (d->service && !flat_service_exported(d->service, client ? client->namespace : NULL)) {
		what = "is not exported to the client's namespace";
		d->service = NULL;
	}
	d->port = d->service ? flat_route_port(d->service, to->port, port) : NULL;
	if (d->port)
		return true;
	refuse(d, ECONNREFUSED, FLAT_REFUSED_NO_ENDPOINT);
	snprintf(d->reason, sizeof(d->reason), "the route (%s:%u) leads to %.253s, which %s",
		 d->route->where.file, d->route->where.line, to ? to->host : "nobody",
		 d->service ? "has no such port" : what);
	return false;
}

/* Where a route of connections leads, if the service has one. False: nowhere. */
static bool follow(struct flat_offload *o, const struct flat_question *q, struct flat_decision *d,
		   const struct flat_workload *client)
{
	const struct flat_l4_question question = {
	    .to = flat_addr_ip(&q->to),
	    .port = d->port->number,
	    .source = client,
	    .tls = flat_protocol_is_tls(d->port->protocol),
	    .sni = q->sni,
	};
	enum flat_l4_answer answer;

	if (flat_protocol_is_http(d->port->protocol))
		return true;
	answer = flat_l4_route_find(o->mesh, d->service, &question, &d->route);
	if (answer == FLAT_L4_NAME)
		d->sniff = FLAT_SNIFF_NAME;
	if (answer != FLAT_L4_ROUTE)
		return true;
	return take_route(o, q, d, d->port->number, client);
}

/* The subset that the route names. False: there is none. */
static bool find_subset(struct flat_decision *d, const struct flat_destination_rule *rule,
			const struct flat_subset **subset)
{
	const char *name = d->destination ? d->destination->subset_name : NULL;

	*subset = name ? flat_rule_subset(rule, name) : NULL;
	if (!name || *subset)
		return true;
	refuse(d, ECONNREFUSED, FLAT_REFUSED_NO_ENDPOINT);
	snprintf(d->reason, sizeof(d->reason),
		 "the route (%s:%u) leads to %.253s, which has "
		 "no subset %.100s",
		 d->route->where.file, d->route->where.line, d->destination->host, name);
	return false;
}

/* A server that TLS is begun with has a name to be asked for, and known by. False: refused. */
static bool nameable(struct flat_decision *d)
{
	if (!d->origin || d->origin->sni || d->service->host[0] != '*')
		return true;
	refuse(d, EACCES, FLAT_REFUSED_POLICY);
	snprintf(d->reason, sizeof(d->reason),
		 "the DestinationRule wants TLS (%s:%u), and host %s is no name to ask a server "
		 "for: give it sni",
		 d->origin->where.file, d->origin->where.line, d->service->host);
	return false;
}

/* Of services without addresses that one is meant whose name is asked for, where others are not for this client. */
static void find_by_name(struct flat_offload *o, const struct flat_question *q,
			 struct flat_decision *d, const struct flat_workload *client)
{
	struct flat_ip ip = flat_addr_ip(&q->to);
	if (!q->session || !flat_mesh_names_at(o->mesh, q->to.port) ||
	    flat_mesh_service_by_endpoint(o->mesh, &ip, q->to.port, NULL) ||
	    flat_mesh_egress(o->mesh, client, NULL) != FLAT_EGRESS_REGISTRY_ONLY)
		return;
	if (!q->sni) {
		d->sniff = FLAT_SNIFF_NAME;
		return;
	}
	const struct flat_scope scope = flat_mesh_scope(o->mesh, client, q->to.port);
	d->service = flat_mesh_service_by_sni(o->mesh, q->sni, q->to.port, &d->port);
	if (d->service && !flat_scope_sees(&scope, d->service)) {
		d->hidden = d->service;
		d->service = NULL;
		d->port = NULL;
	}
}

/* As whom it is made: the client's workload, or that of the gateway it came in by. */
static const struct flat_workload *client_of(const struct flat_offload *o,
					     const struct flat_question *q)
{
	struct flat_way way;
	if (q->session)
		return q->session->workload;
	/* A server that shows the name is looked for later: the workload is there without. */
	if (q->gate) {
		(void)flat_gate_find(o, o->mesh, q->gate, flat_span_of(q->sni), &way);
		return way.workload;
	}
	return NULL;
}

/* Whether the client's bytes are TLS already: its port says so, or it passes through a gateway. */
static bool begins_tls(const struct flat_question *q, const struct flat_decision *d)
{
	return q->gate ? flat_gate_kind(q->gate) == FLAT_GATE_PASSTHROUGH
		       : flat_protocol_is_tls(d->port->protocol);
}

/* One of the service's endpoints. False: refused. */
static bool pick_endpoint(struct flat_offload *o, const struct flat_question *q,
			  struct flat_decision *d, const struct flat_workload *client)
{
	const struct flat_destination_rule *rule = flat_mesh_rule_of(o->mesh, d->service, client);
	const struct flat_subset *subset;
	struct flat_target target = {0};
	if (!find_subset(d, rule, &subset))
		return false;
	/* A connection has no more to be hashed than where it comes from. */
	struct flat_resolve_how how = {
	    .subset = subset,
	    .traffic = flat_rule_traffic(rule, subset, d->service, d->port),
	    .client = client,
	    .source = &q->from,
	    .dry = q->dry,
	};
	if (how.traffic.origin && how.traffic.origin->of_service && begins_tls(q, d)) {
		how.traffic.tls = FLAT_TLS_UNSET;
		how.traffic.origin = NULL;
	}
	int err = flat_resolve(o, d->service, d->port, &how, &target);
	if (err != 0) {
		refuse(d, err == -ENOMEM ? ENOMEM : ECONNREFUSED, FLAT_REFUSED_NO_ENDPOINT);
		snprintf(d->reason, sizeof(d->reason), "service %s has no endpoint for port %u",
			 d->service->host, d->port->number);
		return false;
	}
	d->origin = target.origin;
	if (!nameable(d))
		return false;
	d->target = target.addr;
	d->listener = target.listener;
	d->wire = target.wire;
	d->cluster = target.cluster;
	d->host = target.host;
	return bounded(d, q->dry);
}

/* Where the gateway's routes lead, if its own policies let the client in. False: refused. */
static bool come_in(struct flat_offload *o, const struct flat_question *q, struct flat_decision *d,
		    const struct flat_workload *client)
{
	struct flat_way way;
	if (!flat_gate_find(o, o->mesh, q->gate, flat_span_of(q->sni), &way)) {
		refuse(d, ECONNREFUSED, FLAT_REFUSED_NO_ENDPOINT);
		snprintf(d->reason, sizeof(d->reason),
			 "no server of the gateway's port %u shows the name \"%s\"", q->to.port,
			 q->sni);
		return false;
	}
	if (!authorize_at_gate(o, q->gate, &q->from, q->sni, client, d))
		return false;
	const struct flat_l4_question question = {
	    .to = flat_addr_ip(&q->to),
	    .port = way.server->port,
	    .source = NULL,
	    .tls = true,
	    .sni = q->sni,
	    .gateway = way.gateway,
	};
	d->route = flat_gateway_l4(o->mesh, way.gateway, way.server, &question);
	if (d->route)
		return take_route(o, q, d, question.port, client);
	refuse(d, ECONNREFUSED, FLAT_REFUSED_NO_ENDPOINT);
	snprintf(d->reason, sizeof(d->reason),
		 "Gateway %s/%s (%s:%u) has no route for port %u, name \"%s\"",
		 way.gateway->namespace, way.gateway->name, way.server->where.file,
		 way.server->where.line, question.port, q->sni);
	return false;
}

/* Whether it is read as HTTP; d->sniff: its first bytes will say. `d` has service and port; pinned: the one server. */
static bool is_http(struct flat_offload *o, const struct flat_question *q, struct flat_decision *d,
		    const struct flat_listener *pinned, const struct flat_workload *client)
{
	if (flat_l7_wanted(o, d->service, d->port, pinned, client))
		return true;
	if (q->heard && !q->http)
		return false;
	if (!flat_l7_wanted_if_http(o, d->service, d->port, pinned, client))
		return false;
	if (!q->heard)
		d->sniff = FLAT_SNIFF_PROTOCOL;
	return q->heard;
}

/* Which service is meant, without a gateway between. False: refused. */
static bool find_service(struct flat_offload *o, const struct flat_question *q,
			 struct flat_decision *d, const struct flat_workload *client)
{
	const struct flat_service_port *port = NULL;
	struct flat_ip ip = flat_addr_ip(&q->to);
	struct flat_scope scope = flat_mesh_scope(o->mesh, client, q->to.port);
	/* Who comes to a server from outside of libflat has no Sidecar. */
	scope.unbounded = !q->session;
	d->service = flat_scope_by_addr(&scope, &ip, &port, &d->hidden);
	const struct flat_service *owner = d->service ? NULL : flat_scope_owning(&scope, &ip);
	d->port = port;
	if (d->service && is_http(o, q, d, NULL, client)) {
		/* Each request finds its own server. */
		d->l7 = true;
		return true;
	}
	if (d->sniff)
		return true;
	d->listener = d->service ? NULL : flat_listener_find(o, &q->to, q->session);
	if (owner && !d->hidden && !d->listener && flat_service_has_endpoints(owner)) {
		refuse(d, ECONNREFUSED, FLAT_REFUSED_NO_PORT);
		snprintf(d->reason, sizeof(d->reason), "service %s has no port %u (%s:%u)",
			 owner->host, q->to.port, owner->where.file, owner->where.line);
		return false;
	}
	if (!d->service && !d->listener)
		find_by_name(o, q, d, client);
	return !d->service || !d->port || follow(o, q, d, client);
}

/* Which service is meant, and where its connection goes. False: refused. */
static bool resolve(struct flat_offload *o, const struct flat_question *q, struct flat_decision *d)
{
	const struct flat_workload *client = client_of(o, q);
	if (!(q->gate ? come_in(o, q, d, client) : find_service(o, q, d, client)))
		return false;
	if (d->l7 || d->sniff || !d->service)
		return true;
	if (d->port && flat_service_has_endpoints(d->service))
		return pick_endpoint(o, q, d, client);
	if (q->gate) {
		refuse(d, ECONNREFUSED, FLAT_REFUSED_NO_ENDPOINT);
		snprintf(
		    d->reason, sizeof(d->reason),
		    "service %s has no endpoints (resolution NONE), and who comes by a gateway "
		    "asked for its address",
		    d->service->host);
		return false;
	}
	d->listener = flat_listener_find(o, &d->target, q->session);
	return true;
}

/* Outside of what the client sees of the mesh: may it go there? False: refused. */
static bool check_egress(struct flat_offload *o, const struct flat_question *q,
			 struct flat_decision *d)
{
	struct flat_decided_by by;
	char why[700];
	size_t len;
	if (!q->session ||
	    flat_mesh_egress(o->mesh, q->session->workload, &by) != FLAT_EGRESS_REGISTRY_ONLY)
		return true;
	refuse(d, EACCES, FLAT_REFUSED_EGRESS);
	snprintf(d->reason, sizeof(d->reason),
		 "egress is REGISTRY_ONLY and no service has this address");
	len = strlen(d->reason);
	if (q->sni && !d->listener)
		snprintf(d->reason + len, sizeof(d->reason) - len,
			 ", nor the name \"%s\" on port %u", q->sni, q->to.port);
	len = strlen(d->reason);
	snprintf(d->reason + len, sizeof(d->reason) - len, " (%s:%u)",
		 by.where.file ? by.where.file : "-", by.where.line);
	len = strlen(d->reason);
	if (d->hidden) {
		const struct flat_scope scope =
		    flat_mesh_scope(o->mesh, q->session->workload, q->to.port);
		snprintf(d->reason + len, sizeof(d->reason) - len, " that the client sees: %s",
			 flat_scope_why(&scope, d->hidden, why, sizeof(why)));
	}
	return false;
}

/* Of the services that a mesh server is selected for, the first, if the client sees none of them. */
static const struct flat_service *hidden_selector(const struct flat_offload *o,
						  const struct flat_listener *l,
						  struct flat_scope *scope)
{
	const struct flat_workload *w = l->session->workload;
	const struct flat_service *hidden = NULL;
	for (uint32_t i = 0; w && i < flat_mesh_n_services(o->mesh); i++) {
		const struct flat_service *s = flat_mesh_service(o->mesh, i);
		const struct flat_service_port *port;
		if (!flat_service_selects(s, w, l->addr.port, &port))
			continue;
		scope->port = port->number;
		if (flat_scope_sees(scope, s))
			return NULL;
		hidden = hidden ? hidden : s;
	}
	return hidden;
}

/* An address that no service has for the client: d->hidden becomes one that it has for others, if no other is there. */
static void find_hidden(const struct flat_offload *o, const struct flat_question *q,
			struct flat_decision *d)
{
	if (!q->session || d->service || !flat_mesh_is_scoped(o->mesh))
		return;
	struct flat_scope scope = flat_mesh_scope(o->mesh, q->session->workload, q->to.port);
	const struct flat_ip ip = flat_addr_ip(&q->to);
	const struct flat_service *hidden = NULL;
	if (flat_scope_hides_endpoint(&scope, &ip, &hidden))
		d->hidden = d->hidden ? d->hidden : hidden;
	else if (flat_mesh_service_by_endpoint(o->mesh, &ip, q->to.port, NULL))
		d->hidden = NULL;
	else if (d->listener && !d->hidden)
		d->hidden = hidden_selector(o, d->listener, &scope);
}

/* The service of a mesh server that is reached by its own address. */
static const struct flat_service *service_behind(const struct flat_offload *o,
						 const struct flat_listener *l,
						 const struct flat_addr *target,
						 const struct flat_service_port **port)
{
	struct flat_ip ip = flat_addr_ip(target);
	const struct flat_service *s =
	    flat_mesh_service_by_endpoint(o->mesh, &ip, target->port, port);
	if (s || !l)
		return s;
	s = flat_service_of(o, l);
	if (s)
		(void)flat_service_selects(s, l->session->workload, l->addr.port, port);
	return s;
}

void flat_admit(struct flat_offload *o, const struct flat_question *q, struct flat_decision *d)
{
	memset(d, 0, sizeof(*d));
	d->to = d->target = q->to;
	d->listener = q->pinned;
	if (q->own) {
		d->path = FLAT_CONN_FORWARDED;
		return;
	}
	if (!q->pinned && !resolve(o, q, d))
		return;
	if (!q->pinned && !d->sniff)
		find_hidden(o, q, d);
	if (d->hidden && d->listener && !check_egress(o, q, d))
		return;
	/* A server is known by its services whoever asks: its policies need its port's protocol. */
	if (!d->service && !d->sniff && (!d->hidden || d->listener))
		d->service = service_behind(o, d->listener, &d->target, &d->port);
	if (!d->l7 && !d->sniff && d->listener && is_http(o, q, d, d->listener, NULL)) {
		d->l7 = d->l7_pinned = true;
		if (!q->session && !q->principal && !check_strict(o, d->listener, d))
			return;
	}
	if (d->l7 || d->sniff) {
		/* Policies are asked request by request, or when it is known whose they are. */
		d->path = FLAT_CONN_FORWARDED;
		d->listener = d->sniff ? q->pinned : NULL;
		return;
	}
	bool asked = d->service && d->service->path == FLAT_PATH_FORWARDED;
	if (d->listener) {
		d->path = q->session && !asked && !d->listener->server ? FLAT_CONN_DIRECT
								       : FLAT_CONN_FORWARDED;
		authorize(o, q->session, q->principal, q->sni, &q->from, d->listener, d);
		/* It waits for their answers, with what its client sends. */
		if (d->asks[FLAT_ASKED_BY_SERVER])
			d->path = FLAT_CONN_FORWARDED;
		if (!q->dry && !q->pinned && d->status == 0)
			flat_listener_rotate(d->listener);
		return;
	}
	/* What a rule counts must be seen. */
	bool counted =
	    d->cluster && (d->cluster->outlier.interval_ms || d->cluster->breaker.where.line);
	d->path =
	    asked || d->wire.port || d->origin || counted ? FLAT_CONN_FORWARDED : FLAT_CONN_KERNEL;
	if (d->path == FLAT_CONN_KERNEL)
		d->cluster = NULL;
	if (!d->service)
		(void)check_egress(o, q, d);
}

/* Whether those whom policies ask now were asked about the connection. */
static bool all_asked(const struct flat_conn *c, const struct flat_decision *d, char *reason,
		      size_t size)
{
	const char *who = "-";
	if (flat_asking_covers(c, d, &who))
		return true;
	snprintf(reason, size,
		 "a policy asks external authorizer %.100s now, which was not asked about it", who);
	return false;
}

bool flat_still_allowed(struct flat_offload *o, const struct flat_conn *c, char *reason,
			size_t size)
{
	struct flat_decision d = {.to = c->to, .target = c->target};
	const struct flat_service_port *port = NULL;
	const char *name = c->sniff ? flat_sniff_name(c->sniff) : NULL;
	/* It is decided on when its first bytes are there. */
	if (flat_sniff_waits(c->sniff))
		return true;
	/* A server that closed its listener is the same server. */
	const struct flat_listener closed = {
	    .session = c->served_by,
	    .addr.port = c->served_port,
	};
	const struct flat_listener *l = c->listener || !c->served_by ? c->listener : &closed;
	if (c->gate && c->sniff) {
		const struct flat_question q = {.gate = c->gate, .sni = name};
		if (!authorize_at_gate(o, c->gate, &c->from, name, client_of(o, &q), &d)) {
			snprintf(reason, size, "%s", d.reason);
			return false;
		}
	}
	if (!l && !all_asked(c, &d, reason, size))
		return false;
	if (!l || c->l7_upstream || c->own)
		return true;
	/* Made before tokens were asked for, by a way on which nobody looks at them. */
	if (flat_mesh_wants_jwt(o->mesh, l->session->workload)) {
		const struct flat_service *s = service_behind(o, l, &c->target, &port);
		if (flat_l7_wanted(o, s, port, l, NULL)) {
			snprintf(reason, size,
				 "a RequestAuthentication holds for the server now: "
				 "its tokens are looked at on new connections");
			return false;
		}
	}
	authorize(o, c->client, c->principal, name, &c->from, l, &d);
	snprintf(reason, size, "%s", d.reason);
	return d.status == 0 && all_asked(c, &d, reason, size);
}
