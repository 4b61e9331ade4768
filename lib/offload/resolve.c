/*
 * From a service to one of its endpoints: who they are now, and whom the cluster (cluster.h) picks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "offload/health.h"
#include "offload/l7.h"
#include "offload/persist.h"

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

/* --- state --- */

static bool has_port(const void *arg, const char *host, uint16_t port)
{
	const struct flat_service *s = flat_mesh_service_by_host(arg, host, NULL);
	return s && flat_service_port(s, port);
}

void flat_balance_keep(struct flat_offload *o)
{
	flat_clusters_keep(&o->clusters, has_port, o->mesh);
}

void flat_balance_free(struct flat_offload *o)
{
	flat_clusters_free(&o->clusters);
}

/* --- candidates --- */

/* Endpoints of one port that can be chosen now. Those that the file names come first, in its order. */
struct flat_candidates {
	struct flat_endpoint *v;
	struct flat_listener **listener;
	struct flat_wire_way *wire;
	uint32_t n;
	enum flat_tls_mode tls; /* of the DestinationRule */
	bool wired;		/* flatd speaks to other hosts */
	bool any_live;
};

/* What Istio writes on endpoints that take mutual TLS and HBONE, and ours for the port of their flatd. */
#define LABEL_TLS_MODE "security.istio.io/tlsMode"
#define LABEL_TUNNEL "networking.istio.io/tunnel"
/* Istio's of endpoints that are about to go (mesh.h). */
#define LABEL_DRAINING "istio.io/draining"
#define LABEL_WIRE_PORT "mesh.libflat.io/wire-port"

/* Whether "http" is one of the words of the label, which commas part. */
static bool takes_hbone(const struct flat_endpoint *e)
{
	const char *at = flat_labels_get(e->labels, LABEL_TUNNEL);
	while (at) {
		if (strcmp(at, "http") == 0 || strncmp(at, "http,", 5) == 0)
			return true;
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	return false;
}

/*
 * Whether an endpoint without a mesh server here is reached over the wire: where the DestinationRule says ISTIO_MUTUAL;
 * where it says nothing, and the endpoint's labels say that it takes mutual TLS. By HBONE where they say that it takes
 * that, and not which port a flatd has there.
 */
static struct flat_wire_way way_to(const struct flat_candidates *c,
				   const struct flat_service *service,
				   const struct flat_endpoint *e)
{
	struct flat_wire_way way = {.namespace = service->namespace, .account = e->service_account};
	const char *mode = flat_labels_get(e->labels, LABEL_TLS_MODE);
	const char *port = flat_labels_get(e->labels, LABEL_WIRE_PORT);
	unsigned long number = port ? strtoul(port, NULL, 10) : 0;
	bool hbone = !port && takes_hbone(e);
	bool by_label =
	    c->wired && c->tls == FLAT_TLS_UNSET && (hbone || (mode && strcmp(mode, "istio") == 0));
	if (service->external || (!by_label && c->tls != FLAT_TLS_ISTIO_MUTUAL))
		return way;
	way.hbone = hbone;
	way.port = hbone			  ? FLAT_HBONE_PORT
		   : number > 0 && number < 65536 ? (uint16_t)number
						  : FLAT_WIRE_PORT;
	return way;
}

static void add(struct flat_candidates *c, const struct flat_service *service,
		const struct flat_endpoint *e, struct flat_listener *l)
{
	c->v[c->n] = *e;
	c->v[c->n].draining |= flat_labels_get(e->labels, LABEL_DRAINING) != NULL;
	if (!l)
		c->wire[c->n] = way_to(c, service, e);
	c->any_live |= l || c->wire[c->n].port != 0;
	c->listener[c->n++] = l;
}

/* A listener that the service's selector holds for, as an endpoint. */
static struct flat_endpoint selected(const struct flat_listener *l)
{
	struct flat_endpoint e = {.port = l->addr.port, .weight = 1};
	struct flat_addr a = l->addr;
	if (flat_addr_is_any(&a)) {
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
			   const struct flat_service_port *port, const struct flat_resolve_how *how,
			   struct flat_candidates *c)
{
	const struct flat_subset *subset = how->subset;
	size_t max = (size_t)port->n_endpoints + (service->has_selector ? o->n_listeners : 0);
	struct flat_listener *l;
	c->v = calloc(max + 1, sizeof(*c->v));
	c->listener = calloc(max + 1, sizeof(struct flat_listener *));
	c->wire = calloc(max + 1, sizeof(*c->wire));
	if (!c->v || !c->listener || !c->wire)
		return -ENOMEM;
	c->wired = o->peers != NULL;
	c->tls = how->traffic.tls;
	for (uint32_t i = 0; i < port->n_endpoints; i++) {
		const struct flat_endpoint *e = &port->endpoints[i];
		struct flat_addr a = flat_ip_addr(&e->ip, e->port);
		if (subset && !flat_labels_match(&subset->labels, e->labels))
			continue;
		/* Who speaks TLS itself is a server like those outside. */
		add(c, service, e, how->traffic.origin ? NULL : flat_listener_find(o, &a, NULL));
	}
	if (!service->has_selector)
		return 0;
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (l->gone || !selects(service, port, l) ||
		    (subset && !flat_labels_match(&subset->labels, &l->session->workload->labels)))
			continue;
		struct flat_endpoint e = selected(l);
		if (!declared(port, &e) && c->n < max)
			add(c, service, &e, how->traffic.origin ? NULL : l);
	}
	return 0;
}

/* Where one has a mesh server, or a way to one, those without are none. */
static void keep_live(struct flat_candidates *c)
{
	uint32_t n = 0;
	for (uint32_t i = 0; c->any_live && i < c->n; i++) {
		if (!c->listener[i] && c->wire[i].port == 0)
			continue;
		c->v[n] = c->v[i];
		c->listener[n] = c->listener[i];
		c->wire[n++] = c->wire[i];
	}
	c->n = c->any_live ? n : c->n;
}

void flat_candidates_free(struct flat_candidates *c)
{
	if (!c)
		return;
	free(c->wire);
	free(c->v);
	free(c->listener);
	free(c);
}

/* All that the endpoints and how they are chosen depend on. */
static uint64_t stamp_of(const struct flat_offload *o, const struct flat_service_port *port,
			 const struct flat_resolve_how *how)
{
	const uint64_t of[] = {
	    o->epoch,
	    o->listening,
	    (uintptr_t)port,
	    port->turn,
	    (uintptr_t)how->subset,
	    (uintptr_t)how->traffic.lb,
	    (uintptr_t)how->traffic.outlier,
	    (uintptr_t)how->traffic.breaker,
	    (uint64_t)how->traffic.tls << 1 | (o->peers != NULL),
	};
	return flat_hash_quick(of, sizeof(of)) | 1;
}

/* The cluster's candidates, as they are now. */
static int settle(const struct flat_offload *o, const struct flat_service *service,
		  const struct flat_service_port *port, const struct flat_resolve_how *how,
		  struct flat_cluster *cluster)
{
	uint64_t stamp = stamp_of(o, port, how);
	struct flat_candidates *c;
	int err;
	if (cluster->candidates_stamp == stamp)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	err = find_candidates(o, service, port, how, c);
	if (err != 0) {
		flat_candidates_free(c);
		return err;
	}
	keep_live(c);
	flat_candidates_free(cluster->candidates);
	cluster->candidates = c;
	cluster->candidates_stamp = stamp;
	return 0;
}

/* By its address, as text and without the port, which is another for each connection. */
static void hash_source(const struct flat_resolve_how *how, struct flat_choice *choice)
{
	struct flat_ip ip = flat_addr_ip(how->source);
	char text[FLAT_IP_TEXT_MAX];
	/* A client on this host that bound nothing is seen under the loopback address. */
	if (ip.family == 0)
		ip = flat_ip_from_v4(INADDR_LOOPBACK);
	(void)flat_ip_text(&ip, text);
	choice->hashed = true;
	choice->hash = flat_xxh64(text, strlen(text), 0);
}

int flat_resolve(struct flat_offload *o, const struct flat_service *service,
		 const struct flat_service_port *port, const struct flat_resolve_how *how,
		 struct flat_target *target)
{
	struct flat_cluster *cluster = flat_cluster_get(&o->clusters, service->host, port->number,
							how->subset ? how->subset->name : "");
	int i = cluster ? settle(o, service, port, how, cluster) : -ENOMEM;
	target->cluster = cluster;
	if (i == 0) {
		struct flat_choice choice = {
		    .traffic = how->traffic,
		    .locality = flat_mesh_locality(o->mesh),
		    .source = how->client,
		    .hashed = how->hashed,
		    .hash = how->hash,
		    .dry = how->dry,
		    .health = cluster->stamp == cluster->candidates_stamp
				  ? cluster->group
				  : flat_health_find(o, service->host, port->number),
		    .v = cluster->candidates->v,
		    .n = cluster->candidates->n,
		    .stamp = cluster->candidates_stamp,
		    .now_us = flat_now_us(),
		    .avoid = how->avoid,
		    .n_avoid = how->n_avoid,
		    .far = how->far,
		};
		const struct flat_lb *lb = how->traffic.lb;
		if (lb && lb->kind >= FLAT_LB_RING_HASH && lb->key == FLAT_HASH_SOURCE_IP &&
		    how->source)
			hash_source(how, &choice);
		if (how->kept) {
			i = flat_persist_find(cluster, o->persist_key, choice.v, choice.n,
					      how->kept);
			choice.kept = (uint32_t)(i + 1);
		}
		if (i >= 0)
			i = flat_cluster_pick(cluster, &choice);
	}
	if (i >= 0) {
		const struct flat_candidates *c = cluster->candidates;
		target->addr = flat_ip_addr(&c->v[i].ip, c->v[i].port);
		target->listener = o->twins && c->listener[i]
				       ? flat_listener_find(o, &target->addr, NULL)
				       : c->listener[i];
		target->wire = c->wire[i];
		target->origin = how->traffic.origin;
		target->host = cluster->hosts[i];
	}
	return i >= 0 ? 0 : i == -ENOMEM ? i : -ECONNREFUSED;
}

int flat_resolve_all(struct flat_offload *o, const struct flat_service *service,
		     const struct flat_service_port *port, struct flat_reach **v, uint32_t *n)
{
	const struct flat_destination_rule *rule =
	    flat_mesh_rule_for(o->mesh, service, service->namespace);
	const struct flat_resolve_how how = {.traffic =
						 flat_rule_traffic(rule, NULL, service, port)};
	struct flat_candidates *c = calloc(1, sizeof(*c));
	int err = c ? find_candidates(o, service, port, &how, c) : -ENOMEM;
	struct flat_reach *all;
	if (err == 0)
		keep_live(c);
	all = err == 0 ? calloc((size_t)c->n + 1, sizeof(*all)) : NULL;
	err = all ? 0 : -ENOMEM;
	for (uint32_t i = 0; all && i < c->n; i++)
		all[i] = (struct flat_reach){
		    .addr = flat_ip_addr(&c->v[i].ip, c->v[i].port),
		    .mesh = c->listener[i] != NULL,
		    .wired = c->wire[i].port != 0,
		    .tls = how.traffic.origin != NULL,
		};
	*v = all;
	*n = all ? c->n : 0;
	flat_candidates_free(c);
	return err;
}

bool flat_resolve_certain(const struct flat_cluster *cluster)
{
	return cluster->candidates && cluster->candidates->n == 1 &&
	       !cluster->candidates->v[0].draining && !cluster->breaker.where.line &&
	       !cluster->outlier.interval_ms && !cluster->group;
}

static bool needs_http(const struct flat_mesh *mesh, const struct flat_service_port *port,
		       const struct flat_workload *server)
{
	if (flat_authz_needs_http(mesh, server))
		return true;
	return port->declared ? flat_l7_observed_http(mesh, server, FLAT_MODE_SERVER)
			      : flat_l7_bound(mesh, server, FLAT_MODE_SERVER);
}

bool flat_resolve_needs_http(const struct flat_offload *o, const struct flat_service *service,
			     const struct flat_service_port *port)
{
	struct flat_candidates c = {0};
	struct flat_resolve_how how = {.subset = NULL};
	bool needs = false;
	if (find_candidates(o, service, port, &how, &c) == 0) {
		for (uint32_t i = 0; i < c.n && !needs; i++)
			needs = c.listener[i] &&
				needs_http(o->mesh, port, c.listener[i]->session->workload);
	}
	free(c.wire);
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
