#include "offload/publish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mesh/scope.h"
#include "offload/offload.h"

/* A short name of a Service: two DNS labels, and ".svc". */
#define SHORT_NAME_MAX 136

/* A name of a service, its host or another. */
static void add_name(const struct flat_mesh *mesh, struct flat_directory_name *v, size_t *n,
		     const char *host, const struct flat_service *s)
{
	struct flat_ip ip;
	if (host[0] == '*' || flat_service_resolve(s, &ip) != 0)
		return;
	v[*n].host = host;
	v[*n].veiled = flat_mesh_is_veiled(mesh, s);
	v[*n].addr = (struct flat_addr){.family = ip.family};
	memcpy(v[*n].addr.ip, ip.bytes, 16);
	(*n)++;
}

/* NAME.NAMESPACE and NAME.NAMESPACE.svc of a Kubernetes Service, where no service has that host. Texts are put in `text`. */
static void add_short_names(const struct flat_mesh *mesh, struct flat_directory_name *v, size_t *n,
			    const char *name, const char *namespace, const struct flat_service *s,
			    char (*text)[SHORT_NAME_MAX])
{
	static const char *const ends[] = {"", ".svc"};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(ends); i++) {
		int len = snprintf(text[i], SHORT_NAME_MAX, "%s.%s%s", name, namespace, ends[i]);
		if (len > 0 && len < SHORT_NAME_MAX &&
		    flat_mesh_service_by_host(mesh, text[i], NULL) == s)
			add_name(mesh, v, n, text[i], s);
	}
}

/* Of all services and their other names, in v and, of short ones, in `shorts`: room for three and two of each. */
static size_t add_names(const struct flat_mesh *mesh, struct flat_directory_name *v,
			char (*shorts)[2][SHORT_NAME_MAX])
{
	uint32_t services = flat_mesh_n_services(mesh);
	size_t n = 0;
	for (uint32_t i = 0; i < services; i++) {
		const struct flat_service *s = flat_mesh_service(mesh, i);
		add_name(mesh, v, &n, s->host, s);
		if (s->kind == FLAT_SERVICE_KUBERNETES)
			add_short_names(mesh, v, &n, s->name, s->namespace, s, shorts[i]);
	}
	for (uint32_t i = 0; i < flat_mesh_n_aliases(mesh); i++) {
		const struct flat_alias *a = flat_mesh_alias(mesh, i);
		/* A service that has the same host goes before. */
		if (!a->service || flat_mesh_service_by_host(mesh, a->host, NULL) != a->service)
			continue;
		add_name(mesh, v, &n, a->host, a->service);
		add_short_names(mesh, v, &n, a->name, a->namespace, a->service,
				shorts[services + i]);
	}
	return n;
}

static size_t add_service(struct flat_directory_addr *v, const struct flat_service *s)
{
	size_t n = 0;
	for (uint32_t a = 0; a < s->n_addresses; a++) {
		if (!flat_cidr_is_host(&s->addresses[a]))
			continue;
		for (uint32_t p = 0; p < s->n_ports; p++) {
			v[n].kind = FLAT_DIRECTORY_SERVICE;
			v[n].addr.family = s->addresses[a].ip.family;
			v[n].addr.port = s->ports[p].number;
			memcpy(v[n].addr.ip, s->addresses[a].ip.bytes, 16);
			n++;
		}
	}
	return n;
}

/* Blocks are not in the directory: whoever connects to an address asks. */
static bool has_block(const struct flat_service *s)
{
	bool any = false;
	for (uint32_t i = 0; flat_service_has_endpoints(s) && i < s->n_addresses; i++)
		any |= !flat_cidr_is_host(&s->addresses[i]);
	return any;
}

static uint32_t flags_of(const struct flat_mesh *mesh)
{
	struct flat_decided_by by;
	for (uint32_t i = 0; i < flat_mesh_n_services(mesh); i++) {
		if (has_block(flat_mesh_service(mesh, i)))
			return FLAT_DIRECTORY_ASK_ALL;
	}
	if (flat_mesh_egress(mesh, NULL, &by) == FLAT_EGRESS_REGISTRY_ONLY)
		return FLAT_DIRECTORY_ASK_ALL;
	for (uint32_t i = 0; i < flat_mesh_n_workloads(mesh); i++) {
		if (flat_mesh_egress(mesh, flat_mesh_workload_at(mesh, i), &by) ==
		    FLAT_EGRESS_REGISTRY_ONLY)
			return FLAT_DIRECTORY_ASK_ALL;
	}
	return 0;
}

int flat_listing_make(struct flat_listing *l, const struct flat_mesh *mesh)
{
	uint32_t services = flat_mesh_n_services(mesh);
	size_t named = (size_t)services + flat_mesh_n_aliases(mesh);
	size_t max = 0;
	for (uint32_t i = 0; i < services; i++) {
		const struct flat_service *s = flat_mesh_service(mesh, i);
		max += (size_t)s->n_addresses * s->n_ports;
	}
	*l = (struct flat_listing){.addrs = calloc(max + 1, sizeof(*l->addrs)),
				   .names = calloc(3 * named + 1, sizeof(*l->names)),
				   .shorts = calloc(named + 1, 2 * sizeof(char[SHORT_NAME_MAX]))};
	if (!l->addrs || !l->names || !l->shorts) {
		flat_listing_fini(l);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < services; i++)
		l->n_addrs += add_service(l->addrs + l->n_addrs, flat_mesh_service(mesh, i));
	l->n_names = add_names(mesh, l->names, l->shorts);
	l->flags = flags_of(mesh);
	return 0;
}

void flat_listing_fini(struct flat_listing *l)
{
	free(l->addrs);
	free(l->names);
	free(l->shorts);
	*l = (struct flat_listing){.n_addrs = 0};
}

static bool same_addr(const struct flat_directory_addr *a, const struct flat_directory_addr *b)
{
	return a->kind == b->kind && memcmp(&a->addr, &b->addr, sizeof(a->addr)) == 0;
}

static bool same_name(const struct flat_directory_name *a, const struct flat_directory_name *b)
{
	return a->veiled == b->veiled && memcmp(&a->addr, &b->addr, sizeof(a->addr)) == 0 &&
	       strcmp(a->host, b->host) == 0;
}

bool flat_listing_same(const struct flat_listing *a, const struct flat_listing *b)
{
	bool same = a->n_addrs == b->n_addrs && a->n_names == b->n_names && a->flags == b->flags;
	for (size_t i = 0; i < a->n_addrs && same; i++)
		same = same_addr(&a->addrs[i], &b->addrs[i]);
	for (size_t i = 0; i < a->n_names && same; i++)
		same = same_name(&a->names[i], &b->names[i]);
	return same;
}

/* Services as they are listed, and all listeners. 0 or a negative errno. */
static int publish_all(struct flat_offload *o, const struct flat_listing *list)
{
	struct flat_listener *l;
	size_t n = list->n_addrs;
	struct flat_directory_addr *addrs = calloc(n + o->n_listeners + 1, sizeof(*addrs));
	if (!addrs)
		return -ENOMEM;
	memcpy(addrs, list->addrs, n * sizeof(*addrs));
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		addrs[n].kind = FLAT_DIRECTORY_LISTENER;
		addrs[n++].addr = l->addr;
	}
	int err = flat_directory_publish(o->directory, addrs, n, list->names, list->n_names,
					 list->flags | (o->retired ? FLAT_DIRECTORY_RETIRED : 0));
	free(addrs);
	return err;
}

void flat_offload_publish(struct flat_offload *o, const struct flat_listing *list)
{
	struct flat_listing own = {.n_addrs = 0};
	int err = 0;
	o->generation++;
	if (!list) {
		err = flat_listing_make(&own, o->mesh);
		list = &own;
	}
	if (err == 0)
		err = publish_all(o, list);
	if (err != 0)
		flat_error("the directory could not be published: %s", strerror(-err));
	/* What it lacks is told with the next change. */
	o->unpublished = err != 0;
	flat_listing_fini(&own);
}

void flat_offload_renew(struct flat_offload *o)
{
	o->generation++;
	if (o->unpublished)
		flat_offload_publish(o, NULL);
	else
		flat_directory_renew(o->directory);
}

void flat_offload_listens(struct flat_offload *o, const struct flat_addr *addr)
{
	o->generation++;
	if (o->unpublished || flat_directory_add_listener(o->directory, addr) != 0)
		flat_offload_publish(o, NULL);
}

void flat_offload_listens_no_more(struct flat_offload *o, const struct flat_addr *addr)
{
	o->generation++;
	if (o->unpublished)
		flat_offload_publish(o, NULL);
	else
		flat_directory_remove_listener(o->directory, addr);
}
