#include "mesh/traffic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mesh/internal.h"

/* --- which rule --- */

/* Whose rule is looked for. */
struct client {
	const char *namespace; /* NULL: none */
	const struct flat_labels
	    *labels; /* of its workload; NULL: no rule for some workloads holds */
};

/* The rule of a namespace in a chain that a client sees: one that selects it, else the one for all. */
static const struct flat_destination_rule *of_namespace(const struct flat_destination_rule *r,
							const char *namespace,
							const struct client *client)
{
	bool own = client->namespace && strcmp(namespace, client->namespace) == 0;
	const struct flat_destination_rule *all = NULL;

	for (; r; r = r->next) {
		if (strcmp(r->namespace, namespace) != 0)
			continue;
		if (r->selector.n == 0 && !all &&
		    (own || mesh_exported(&r->export, r->namespace, client->namespace)))
			all = r;
		if (r->selector.n > 0 && own && client->labels &&
		    flat_labels_match(&r->selector, client->labels))
			return r;
	}
	return all;
}

/* Of a namespace's rules that of the host itself, else of the longest wildcard that holds it. */
static const struct flat_destination_rule *in_namespace(const struct flat_mesh *mesh,
							const char *host, const char *namespace,
							const struct client *client)
{
	const struct flat_destination_rule *r =
	    of_namespace(flat_map_get_str(&mesh->rules_by_host, host), namespace, client);
	char key[256] = "*";

	for (const char *dot = strchr(host, '.'); mesh->wild_rules && !r && dot;
	     dot = strchr(dot + 1, '.')) {
		size_t len = strlen(dot);

		if (len + 2 > sizeof(key))
			continue;
		memcpy(key + 1, dot, len + 1);
		r = of_namespace(flat_map_get(&mesh->rules_by_host, key, len + 1), namespace,
				 client);
	}
	if (mesh->wild_rules && !r)
		r = of_namespace(flat_map_get(&mesh->rules_by_host, "*", 1), namespace, client);
	return r;
}

static const struct flat_destination_rule *rule_for(const struct flat_mesh *mesh,
						    const struct flat_service *service,
						    const struct client *client)
{
	const char *root = mesh->root_namespace;
	const struct flat_destination_rule *r = NULL;

	if (mesh->rules.n == 0)
		return NULL;
	/* Its own rules hold for a client whether they are exported or not. */
	if (client->namespace && strcmp(client->namespace, root) != 0)
		r = in_namespace(mesh, service->host, client->namespace, client);
	if (!r)
		r = in_namespace(mesh, service->host, service->namespace, client);
	return r ? r : in_namespace(mesh, service->host, root, client);
}

const struct flat_destination_rule *flat_mesh_rule_for(const struct flat_mesh *mesh,
						       const struct flat_service *service,
						       const char *namespace)
{
	return rule_for(mesh, service, &(struct client){.namespace = namespace});
}

const struct flat_destination_rule *flat_mesh_rule_of(const struct flat_mesh *mesh,
						      const struct flat_service *service,
						      const struct flat_workload *client)
{
	const struct client of = {client ? client->namespace : NULL,
				  client ? &client->labels : NULL};

	return rule_for(mesh, service, &of);
}

const struct flat_subset *flat_rule_subset(const struct flat_destination_rule *rule,
					   const char *name)
{
	for (uint32_t i = 0; rule && i < rule->n_subsets; i++) {
		if (strcmp(rule->subsets[i].name, name) == 0)
			return &rule->subsets[i];
	}
	return NULL;
}

/* --- what it says --- */

/* As in Istio: a port's settings take the place of all, a subset's of those that it names. Ports have no retry budgets to take that one's place. */
static void settle(struct flat_traffic *t, const struct flat_traffic_policy *policy, uint16_t port)
{
	const struct flat_traffic *all = &policy->all;
	const struct flat_retry_budget *budget = t->budget;

	t->lb = all->lb ? all->lb : t->lb;
	t->breaker = all->breaker ? all->breaker : t->breaker;
	t->outlier = all->outlier ? all->outlier : t->outlier;
	t->budget = all->budget ? all->budget : t->budget;
	if (all->tls != FLAT_TLS_UNSET) {
		t->tls = all->tls;
		t->origin = all->origin;
	}
	for (uint32_t i = 0; i < policy->n_ports; i++) {
		if (policy->ports[i].number == port) {
			*t = policy->ports[i].traffic;
			t->budget = budget;
			return;
		}
	}
}

struct flat_traffic flat_rule_traffic(const struct flat_destination_rule *rule,
				      const struct flat_subset *subset,
				      const struct flat_service *service,
				      const struct flat_service_port *port)
{
	struct flat_traffic t = {.lb = NULL};

	if (rule)
		settle(&t, &rule->policy, port->number);
	if (rule && subset)
		settle(&t, &subset->policy, port->number);
	if (t.tls == FLAT_TLS_UNSET && service->tls && service->tls[port - service->ports]) {
		t.tls = FLAT_TLS_SIMPLE;
		t.origin = service->tls[port - service->ports];
	}
	return t;
}

static bool says(const struct flat_traffic *t)
{
	return t->lb || t->breaker || t->outlier || t->budget || t->tls != FLAT_TLS_UNSET;
}

static bool policy_says(const struct flat_traffic_policy *policy)
{
	bool any = says(&policy->all);

	for (uint32_t i = 0; i < policy->n_ports; i++)
		any |= says(&policy->ports[i].traffic);
	return any;
}

bool flat_mesh_has_traffic(const struct flat_mesh *mesh, const struct flat_service *service,
			   const struct flat_workload *client)
{
	const struct flat_destination_rule *rule = flat_mesh_rule_of(mesh, service, client);
	bool any = service->tls || service->persistence || (rule && policy_says(&rule->policy));

	for (uint32_t i = 0; rule && i < rule->n_subsets; i++)
		any |= policy_says(&rule->subsets[i].policy);
	return any;
}

const struct flat_locality_lb *flat_mesh_locality(const struct flat_mesh *mesh)
{
	return mesh->locality;
}

enum flat_lb_kind flat_lb_kind_of(const struct flat_lb *lb)
{
	return lb ? lb->kind : FLAT_LB_DEFAULT;
}

const char *flat_lb_name(enum flat_lb_kind kind)
{
	static const char *const names[] = {"ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH",
					    "MAGLEV"};

	return names[kind];
}

const char *flat_hash_key_name(enum flat_hash_key key)
{
	static const char *const names[] = {"header", "cookie", "query parameter",
					    "source address"};

	return names[key];
}

/* --- building --- */

/* Two rules of one namespace for one host and the same clients are one: subsets of both, the first policy. */
static int merge(struct flat_mesh *mesh, struct flat_destination_rule *into,
		 const struct flat_destination_rule *from, const char *resource,
		 struct flat_diags *diags)
{
	uint32_t n = into->n_subsets;
	struct flat_subset *v =
	    flat_pool_array(&mesh->pool, (size_t)n + from->n_subsets + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		v[i] = into->subsets[i];
	for (uint32_t i = 0; i < from->n_subsets; i++) {
		if (!flat_rule_subset(into, from->subsets[i].name))
			v[n++] = from->subsets[i];
		else
			flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED,
				       &from->subsets[i].where, resource, "rename one of them",
				       "host \"%.253s\" has a subset \"%.100s\" already: this one "
				       "has no effect",
				       from->host, from->subsets[i].name);
	}
	if (!policy_says(&into->policy))
		into->policy = from->policy;
	else if (policy_says(&from->policy))
		flat_diags_add(
		    diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_NOT_HONOURED, &from->where, resource,
		    "put it into one of them",
		    "host \"%.253s\" has a DestinationRule with a trafficPolicy already: "
		    "this one's has no effect",
		    from->host);
	into->subsets = v;
	into->n_subsets = n;
	return 0;
}

static bool same_labels(const struct flat_labels *a, const struct flat_labels *b)
{
	return a->n == b->n && flat_labels_match(a, b);
}

static int index_rule(struct flat_mesh *mesh, struct flat_destination_rule *rule,
		      struct flat_diags *diags)
{
	struct flat_destination_rule *r;
	const char *key = rule->host;
	char resource[MESH_RESOURCE_MAX];

	mesh_resource(resource, "DestinationRule", rule->namespace, rule->name);
	rule->service = flat_mesh_service_by_host(mesh, rule->host, rule->namespace);
	/* What is said of one name says nothing of the wildcard service that has it. */
	if (rule->service && rule->service->host[0] == '*')
		rule->service = NULL;
	if (rule->service && rule->host[0] != '*')
		key = rule->service->host;
	mesh->wild_rules |= rule->host[0] == '*';
	if (!rule->service && rule->host[0] != '*') {
		flat_diags_add(diags, FLAT_SEVERITY_WARNING, FLAT_DIAG_ADVICE, &rule->where,
			       resource, NULL, "no service has the host \"%.253s\"", rule->host);
		return 0;
	}
	r = flat_map_get_str(&mesh->rules_by_host, key);
	if (!r)
		return flat_map_put_str(&mesh->rules_by_host, key, rule);
	for (;; r = r->next) {
		if (strcmp(r->namespace, rule->namespace) == 0 &&
		    same_labels(&r->selector, &rule->selector))
			return merge(mesh, r, rule, resource, diags);
		if (!r->next)
			break;
	}
	r->next = rule;
	return 0;
}

int mesh_index_rules(struct flat_mesh *mesh, struct flat_diags *diags)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < mesh->rules.n; i++)
		ret = index_rule(mesh, mesh->rules.v[i], diags);
	return ret;
}
