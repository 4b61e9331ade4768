/*
 * From a service to one of its endpoints. Turns are taken by weight (mesh/balance.h); how they stand is kept per host
 * and port, so that a reload which changes something else does not begin anew with the first endpoint.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "offload/offload.h"

struct flat_ip flat_addr_ip(const struct flat_addr *a)
{
	struct flat_addr u = *a;
	struct flat_ip ip = {0};
	flat_addr_unmap(&u);
	ip.family = (uint8_t)u.family;
	memcpy(ip.bytes, u.ip, 16);
	return ip;
}

struct flat_addr flat_ip_addr(const struct flat_ip *ip, uint16_t port)
{
	struct flat_addr a = {.family = ip->family, .port = port};
	memcpy(a.ip, ip->bytes, 16);
	return a;
}

/* --- state of turns --- */

/* A host, a port, and a subset's name as far as it fits: others of a like name take turns with it. */
#define KEY_MAX 600

static size_t make_key(char key[KEY_MAX], const char *host, uint16_t port, const char *subset)
{
	size_t len = flat_min_size(strlen(host), KEY_MAX - 1 - sizeof(port));
	size_t rest = flat_min_size(strlen(subset), KEY_MAX - len - 1 - sizeof(port));
	memcpy(key, host, len);
	key[len] = 0;
	memcpy(key + len + 1, &port, sizeof(port));
	memcpy(key + len + 1 + sizeof(port), subset, rest);
	return len + 1 + sizeof(port) + rest;
}

static struct flat_balance_entry *entry_get(struct flat_offload *o, const char *host, uint16_t port,
					    const char *subset)
{
	char key[KEY_MAX];
	size_t len = make_key(key, host, port, subset);
	struct flat_balance_entry *e = flat_map_get(&o->balance, key, len);
	if (e)
		return e;
	e = calloc(1, sizeof(*e) + len);
	if (!e)
		return NULL;
	e->port = port;
	memcpy(e->host, key, len);
	if (flat_map_put(&o->balance, e->host, len, e) != 0) {
		free(e);
		return NULL;
	}
	return e;
}

static void entry_free(struct flat_balance_entry *e)
{
	flat_balance_fini(&e->state);
	free(e);
}

void flat_balance_free(struct flat_offload *o)
{
	for (size_t i = 0; i < o->balance.cap; i++) {
		if (o->balance.slots[i].key)
			entry_free(o->balance.slots[i].value);
	}
	flat_map_fini(&o->balance);
}

void flat_balance_keep(struct flat_offload *o)
{
	struct flat_map old = o->balance;
	memset(&o->balance, 0, sizeof(o->balance));
	for (size_t i = 0; i < old.cap; i++) {
		if (!old.slots[i].key)
			continue;
		struct flat_balance_entry *e = old.slots[i].value;
		const struct flat_service *s = flat_mesh_service_by_host(o->mesh, e->host, NULL);
		if (!s || !flat_service_port(s, e->port) ||
		    flat_map_put(&o->balance, e->host, old.slots[i].len, e) != 0)
			entry_free(e);
	}
	flat_map_fini(&old);
}

/* --- candidates --- */

/* Endpoints of one port that can be chosen now. Those that the file names come first, in its order. */
struct candidates {
	struct flat_endpoint *v;
	struct flat_listener **listener;
	uint32_t n;
	bool any_live;
};

static void add(struct candidates *c, const struct flat_endpoint *e, struct flat_listener *l)
{
	c->v[c->n] = *e;
	c->listener[c->n++] = l;
	c->any_live |= l != NULL;
}

static bool is_any(const struct flat_addr *a)
{
	static const uint8_t zero[16];
	return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

/* A listener that the service's selector holds for, as an endpoint. */
static struct flat_endpoint selected(const struct flat_listener *l)
{
	struct flat_endpoint e = {.port = l->addr.port, .weight = 1};
	struct flat_addr a = l->addr;
	if (is_any(&a)) {
		a.family = a.family == AF_INET6 && l->v6only ? AF_INET6 : AF_INET;
		memset(a.ip, 0, sizeof(a.ip));
		if (a.family == AF_INET6)
			a.ip[15] = 1;
		else
			memcpy(a.ip, (const uint8_t[]){127, 0, 0, 1}, 4);
	}
	e.ip = flat_addr_ip(&a);
	e.labels = &l->session->workload->labels;
	return e;
}

static bool declared(const struct flat_service_port *port, const struct flat_endpoint *e)
{
	for (uint32_t i = 0; i < port->n_endpoints; i++) {
		if (port->endpoints[i].port == e->port &&
		    flat_ip_equal(&port->endpoints[i].ip, &e->ip))
			return true;
	}
	return false;
}

static bool selects(const struct flat_service *service, const struct flat_service_port *port,
		    const struct flat_listener *l)
{
	const struct flat_service_port *hit = NULL;
	return l->session->workload &&
	       flat_service_selects(service, l->session->workload, l->addr.port, &hit) &&
	       hit == port;
}

static int find_candidates(const struct flat_offload *o, const struct flat_service *service,
			   const struct flat_service_port *port, const struct flat_subset *subset,
			   struct candidates *c)
{
	size_t max = (size_t)port->n_endpoints + (service->has_selector ? o->n_listeners : 0);
	struct flat_listener *l;
	c->v = calloc(max + 1, sizeof(*c->v));
	c->listener = calloc(max + 1, sizeof(struct flat_listener *));
	if (!c->v || !c->listener)
		return -ENOMEM;
	for (uint32_t i = 0; i < port->n_endpoints; i++) {
		const struct flat_endpoint *e = &port->endpoints[i];
		struct flat_addr a = flat_ip_addr(&e->ip, e->port);
		if (subset && !flat_labels_match(&subset->labels, e->labels))
			continue;
		add(c, e, flat_listener_find(o, &a));
	}
	if (!service->has_selector)
		return 0;
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (!selects(service, port, l) ||
		    (subset && !flat_labels_match(&subset->labels, &l->session->workload->labels)))
			continue;
		struct flat_endpoint e = selected(l);
		if (!declared(port, &e) && c->n < max)
			add(c, &e, l);
	}
	return 0;
}

static bool is_live(void *arg, uint32_t index, const struct flat_endpoint *endpoint)
{
	const struct candidates *c = arg;
	(void)endpoint;
	return c->listener[index] != NULL;
}

static int pick(struct flat_offload *o, const char *host, uint16_t number, const char *subset,
		bool dry, struct candidates *c)
{
	struct flat_balance_entry *e = entry_get(o, host, number, subset);
	struct flat_balance_state copy = {0};
	if (!e)
		return -ENOMEM;
	struct flat_balance_state *state = &e->state;
	if (dry && e->state.n == c->n && c->n > 0) {
		copy.current = malloc(c->n * sizeof(*copy.current));
		if (!copy.current)
			return -ENOMEM;
		memcpy(copy.current, e->state.current, c->n * sizeof(*copy.current));
		copy.n = c->n;
	}
	if (dry)
		state = &copy;
	int i = flat_balance_pick(state, c->v, c->n, c->any_live ? is_live : NULL, c);
	flat_balance_fini(&copy);
	return i;
}

int flat_resolve(struct flat_offload *o, const struct flat_service *service,
		 const struct flat_service_port *port, const struct flat_subset *subset, bool dry,
		 struct flat_target *target)
{
	struct candidates c = {0};
	int i = find_candidates(o, service, port, subset, &c);
	if (i == 0)
		i = pick(o, service->host, port->number, subset ? subset->name : "", dry, &c);
	if (i >= 0) {
		target->addr = flat_ip_addr(&c.v[i].ip, c.v[i].port);
		target->listener = c.listener[i];
	}
	free(c.v);
	free(c.listener);
	return i >= 0 ? 0 : i == -ENOMEM ? i : -ECONNREFUSED;
}

bool flat_resolve_needs_http(const struct flat_offload *o, const struct flat_service *service,
			     const struct flat_service_port *port)
{
	struct candidates c = {0};
	bool needs = false;
	if (find_candidates(o, service, port, NULL, &c) == 0) {
		for (uint32_t i = 0; i < c.n && !needs; i++)
			needs = c.listener[i] &&
				flat_authz_needs_http(o->mesh, c.listener[i]->session->workload);
	}
	free(c.v);
	free(c.listener);
	return needs;
}

const struct flat_service *flat_service_of(const struct flat_offload *o,
					   const struct flat_listener *l)
{
	if (!l->session->workload)
		return NULL;
	for (uint32_t i = 0; i < flat_mesh_n_services(o->mesh); i++) {
		const struct flat_service *s = flat_mesh_service(o->mesh, i);
		if (flat_service_selects(s, l->session->workload, l->addr.port, NULL))
			return s;
	}
	return NULL;
}
