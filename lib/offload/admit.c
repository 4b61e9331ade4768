#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "offload/offload.h"

static struct flat_ip to_ip(const struct flat_addr *a)
{
	struct flat_addr u = *a;
	struct flat_ip ip = {0};
	flat_addr_unmap(&u);
	ip.family = (uint8_t)u.family;
	memcpy(ip.bytes, u.ip, 16);
	return ip;
}

static struct flat_addr to_addr(const struct flat_ip *ip, uint16_t port)
{
	struct flat_addr a = {.family = ip->family, .port = port};
	memcpy(a.ip, ip->bytes, 16);
	return a;
}

void flat_refuse(struct flat_offload *o, pid_t pid, const char *who, const struct flat_addr *to,
		 const char *reason)
{
	struct flat_refusal *r = &o->refusals[o->n_refusals++ % FLAT_REFUSALS_KEPT];
	char text[FLAT_ADDR_STRLEN];
	r->at_ms = flat_now_us() / 1000;
	r->pid = pid;
	r->to = *to;
	snprintf(r->client_name, sizeof(r->client_name), "%s", who);
	snprintf(r->reason, sizeof(r->reason), "%s", reason);
	o->stats.refused++;
	flat_warn("refused %s -> %s: %s", who, flat_addr_str(to, text), reason);
}

/* Authorization and mutual identity of one connection to a mesh server. */
static void authorize(struct flat_offload *o, const struct flat_session *s,
		      const struct flat_addr *from, const struct flat_listener *l,
		      struct flat_decision *d)
{
	struct flat_authz_verdict v;
	struct flat_decided_by by;
	const struct flat_workload *dest = l->session ? l->session->workload : NULL;
	struct flat_addr src = *from;
	flat_addr_unmap(&src);
	struct flat_authz_input in = {
	    .source_principal = s && s->workload ? s->workload->principal : NULL,
	    .source_ip = to_ip(&src),
	    .destination_ip = to_ip(&d->target),
	    .destination_port = l->addr.port,
	    .destination = dest,
	};
	if (!s && flat_mesh_mtls(o->mesh, dest, l->addr.port, &by) == FLAT_MTLS_STRICT) {
		d->status = -EACCES;
		snprintf(d->reason, sizeof(d->reason),
			 "%s %s/%s is STRICT: plain clients are refused (%s:%u)",
			 by.kind ? by.kind : "default", by.namespace ? by.namespace : "-",
			 by.name ? by.name : "-", by.where.file ? by.where.file : "-",
			 by.where.line);
		return;
	}
	flat_authz_check(o->mesh, &in, &v);
	if (v.allowed)
		return;
	d->status = -EACCES;
	snprintf(d->reason, sizeof(d->reason), "policy %s/%s (%s:%u): %.300s",
		 v.policy_namespace ? v.policy_namespace : "-", v.policy_name ? v.policy_name : "-",
		 v.where.file ? v.where.file : "-", v.where.line, v.text);
}

struct usable_arg {
	struct flat_offload *o;
};

static bool endpoint_is_live(void *arg, uint32_t index, const struct flat_endpoint *endpoint)
{
	struct usable_arg *u = arg;
	struct flat_addr a = to_addr(&endpoint->ip, endpoint->port);
	(void)index;
	return flat_listener_find(u->o, &a) != NULL;
}

/* Picks an endpoint: one with a live mesh listener if there is any, else by weight alone. */
static int pick(struct flat_offload *o, const struct flat_service *service,
		const struct flat_service_port *port, struct flat_addr *target)
{
	struct usable_arg arg = {o};
	size_t slot = (size_t)service->index * 8U + (size_t)(port - service->ports) % 8U;
	if (port->n_endpoints == 0 || slot >= o->n_balance)
		return -ECONNREFUSED;
	struct flat_balance_state *state = &o->balance[slot];
	int i =
	    flat_balance_pick(state, port->endpoints, port->n_endpoints, endpoint_is_live, &arg);
	if (i < 0)
		i = flat_balance_pick(state, port->endpoints, port->n_endpoints, NULL, NULL);
	if (i < 0)
		return -ECONNREFUSED;
	*target = to_addr(&port->endpoints[i].ip, port->endpoints[i].port);
	return 0;
}

void flat_admit(struct flat_offload *o, const struct flat_session *s, const struct flat_addr *from,
		const struct flat_addr *to, struct flat_listener *pinned, struct flat_decision *d)
{
	struct flat_ip ip = to_ip(to);
	const struct flat_service_port *port = NULL;
	memset(d, 0, sizeof(*d));
	d->target = *to;
	d->listener = pinned;
	if (!pinned)
		d->service = flat_mesh_service_by_addr(o->mesh, &ip, to->port, &port);
	if (d->service && port && d->service->resolution == FLAT_RESOLUTION_STATIC) {
		d->status = pick(o, d->service, port, &d->target);
		if (d->status != 0) {
			snprintf(d->reason, sizeof(d->reason),
				 "service %s has no endpoint for port %u", d->service->host,
				 to->port);
			return;
		}
	}
	if (!d->listener)
		d->listener = flat_listener_find(o, &d->target);
	if (!d->service)
		d->service = flat_mesh_service_by_endpoint(o->mesh, &ip, d->target.port, &port);
	if (d->listener) {
		d->path = s ? FLAT_CONN_DIRECT : FLAT_CONN_FORWARDED;
		if (d->service && d->service->path == FLAT_PATH_FORWARDED)
			d->path = FLAT_CONN_FORWARDED;
		authorize(o, s, from, d->listener, d);
		return;
	}
	d->path = FLAT_CONN_KERNEL;
	struct flat_decided_by by;
	if (!d->service && s &&
	    flat_mesh_egress(o->mesh, s->workload, &by) == FLAT_EGRESS_REGISTRY_ONLY) {
		d->status = -EACCES;
		snprintf(d->reason, sizeof(d->reason),
			 "egress is REGISTRY_ONLY and no service has this address (%s:%u)",
			 by.where.file ? by.where.file : "-", by.where.line);
	}
}

bool flat_still_allowed(struct flat_offload *o, const struct flat_conn *c, char *reason,
			size_t size)
{
	struct flat_decision d = {.target = c->target};
	bool plain = c->end[FLAT_SIDE_CLIENT].is_tcp;
	/* Without a live session the identity can't be attested again; the process is gone or going. */
	if (!c->listener || (!plain && !c->client))
		return true;
	authorize(o, plain ? NULL : c->client, &c->from, c->listener, &d);
	snprintf(reason, size, "%s", d.reason);
	return d.status == 0;
}
