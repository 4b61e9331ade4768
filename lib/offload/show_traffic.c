/* What flatctl shows of DestinationRules and of what they lead to: `flatctl routes`, `flatctl clusters`. */
#include <inttypes.h>

#include "base/json.h"
#include "offload/admin.h"
#include "offload/health.h"
#include "offload/l7_engine.h"

/* --- rules --- */

void flat_put_lb(struct flat_strbuf *out, const struct flat_lb *lb)
{
	if (!lb)
		return;
	flat_strbuf_printf(out, " by %s", flat_lb_name(lb->kind));
	if (lb->kind >= FLAT_LB_RING_HASH)
		flat_strbuf_printf(out, " of %s%s%s", flat_hash_key_name(lb->key),
				   lb->name ? " " : "", lb->name ? lb->name : "");
	if (lb->warmup.ms)
		flat_strbuf_printf(out, ", warmup %u ms", lb->warmup.ms);
	if (lb->locality && lb->locality->off)
		flat_strbuf_puts(out, ", localities do not count");
	else if (lb->locality && lb->locality->n_distribute)
		flat_strbuf_puts(out, ", shared out by locality");
	else if (lb->locality && lb->locality->n_priority)
		flat_strbuf_puts(out, ", nearest by labels first");
	else if (lb->locality)
		flat_strbuf_puts(out, ", nearest locality first");
}

static void put_bound(struct flat_strbuf *out, const char *what, uint32_t bound)
{
	if (bound != FLAT_UNBOUNDED && bound != 0)
		flat_strbuf_printf(out, ", %s %u", what, bound);
}

static void put_breaker(struct flat_strbuf *out, const struct flat_breaker *b)
{
	put_bound(out, "connections", b->max_connections);
	put_bound(out, "pending", b->max_pending);
	put_bound(out, "requests", b->max_requests);
	put_bound(out, "retries", b->max_retries);
	put_bound(out, "requests a connection", b->max_per_connection);
	put_bound(out, "connect ms", b->connect_ms);
	put_bound(out, "idle ms", b->idle_ms);
}

static void put_outlier(struct flat_strbuf *out, const struct flat_outlier *o)
{
	flat_strbuf_puts(out, ", aside after");
	if (o->consecutive_5xx)
		flat_strbuf_printf(out, " %u 5xx", o->consecutive_5xx);
	if (o->consecutive_gateway)
		flat_strbuf_printf(out, " %u gateway errors", o->consecutive_gateway);
	if (o->split && o->consecutive_local)
		flat_strbuf_printf(out, " %u local errors", o->consecutive_local);
	flat_strbuf_printf(out, " for %u ms (of %u %%)", o->base_ms, o->max_percent);
}

static void put_traffic(struct flat_strbuf *out, const struct flat_traffic *t)
{
	flat_put_lb(out, t->lb);
	if (t->breaker)
		put_breaker(out, t->breaker);
	if (t->outlier)
		put_outlier(out, t->outlier);
	if (t->budget)
		flat_strbuf_printf(out, ", retries %g %% or %u", t->budget->percent / 10000.0,
				   t->budget->min);
	if (t->origin)
		flat_strbuf_printf(out, ", TLS %s%s%s", t->origin->mutual ? "MUTUAL" : "SIMPLE",
				   t->origin->sni ? " as " : "",
				   t->origin->sni ? t->origin->sni : "");
}

void flat_put_policy(struct flat_strbuf *out, const struct flat_traffic_policy *p)
{
	put_traffic(out, &p->all);
	for (uint32_t i = 0; i < p->n_ports; i++) {
		flat_strbuf_printf(out, ", port %u", p->ports[i].number);
		put_traffic(out, &p->ports[i].traffic);
	}
}

/* --- clusters --- */

static const char *const overflow_names[] = {"connections", "pending", "requests", "retries"};

static const char *health_word(const struct flat_cluster *c, const struct flat_cluster_host *h)
{
	return c->group ? flat_health_word(c->group, &h->addr) : NULL;
}

static void text_cluster(struct flat_strbuf *out, const struct flat_cluster *c)
{
	const char *subset = flat_cluster_subset(c);
	char addr[FLAT_ADDR_STRLEN];

	flat_strbuf_printf(out,
			   "%s:%u%s%s: %u on their way, %u connections, %u pending, %u retries",
			   c->host, c->port, *subset ? " subset " : "", subset, c->n_requests,
			   c->n_conns, c->n_pending, c->n_retries);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(overflow_names); i++) {
		if (c->overflows[i])
			flat_strbuf_printf(out, ", %" PRIu64 " over %s", c->overflows[i],
					   overflow_names[i]);
	}
	flat_strbuf_putc(out, '\n');
	for (uint32_t i = 0; i < c->n_hosts; i++) {
		const struct flat_cluster_host *h = c->hosts[i];

		flat_strbuf_printf(out,
				   "  %s: %u on their way, %" PRIu64 " so far, %" PRIu64
				   " errors, aside %" PRIu64 " times%s",
				   flat_addr_str(&h->addr, addr), h->active, h->n_requests,
				   h->n_errors, h->n_ejected, h->ejected ? ", aside now" : "");
		if (health_word(c, h))
			flat_strbuf_printf(out, ", health check: %s", health_word(c, h));
		flat_strbuf_putc(out, '\n');
	}
}

static void json_cluster(struct flat_json *j, const struct flat_cluster *c)
{
	char addr[FLAT_ADDR_STRLEN];

	flat_json_object(j, NULL);
	flat_json_string(j, "host", c->host);
	flat_json_uint(j, "port", c->port);
	flat_json_string(j, "subset", flat_cluster_subset(c));
	flat_json_uint(j, "active", c->n_requests);
	flat_json_uint(j, "connections", c->n_conns);
	flat_json_uint(j, "pending", c->n_pending);
	flat_json_uint(j, "retries", c->n_retries);
	flat_json_object(j, "overflows");
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(overflow_names); i++)
		flat_json_uint(j, overflow_names[i], c->overflows[i]);
	flat_json_object_end(j);
	flat_json_array(j, "endpoints");
	for (uint32_t i = 0; i < c->n_hosts; i++) {
		const struct flat_cluster_host *h = c->hosts[i];

		flat_json_object(j, NULL);
		flat_json_string(j, "address", flat_addr_str(&h->addr, addr));
		flat_json_uint(j, "active", h->active);
		flat_json_uint(j, "requests", h->n_requests);
		flat_json_uint(j, "errors", h->n_errors);
		flat_json_uint(j, "ejections", h->n_ejected);
		flat_json_bool(j, "ejected", h->ejected);
		if (health_word(c, h))
			flat_json_string(j, "health", health_word(c, h));
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
	flat_json_object_end(j);
}

void flat_put_health(struct flat_strbuf *out, const struct flat_health_group *g)
{
	if (g)
		flat_strbuf_printf(out, ", health check by %s each %u ms (%s:%u): %u of %u fail",
				   flat_health_kind_name(g->check->kind), g->check->interval_ms,
				   g->check->where.file, g->check->where.line, g->n_failed, g->n);
}

/* With and without requests: whose endpoints are checked. */
static void text_group(struct flat_strbuf *out, const struct flat_health_group *g)
{
	char addr[FLAT_ADDR_STRLEN];

	flat_strbuf_printf(out, "%s:%u", g->host, g->port);
	flat_put_health(out, g);
	flat_strbuf_putc(out, '\n');
	for (size_t i = 0; i < g->targets.cap; i++) {
		const struct flat_addr *a = g->targets.slots[i].key;

		if (a)
			flat_strbuf_printf(out, "  %s: %s\n", flat_addr_str(a, addr),
					   flat_health_word(g, a));
	}
}

static void json_group(struct flat_json *j, const struct flat_health_group *g)
{
	char addr[FLAT_ADDR_STRLEN];

	flat_json_object(j, NULL);
	flat_json_string(j, "host", g->host);
	flat_json_uint(j, "port", g->port);
	flat_json_string(j, "kind", flat_health_kind_name(g->check->kind));
	flat_json_uint(j, "failing", g->n_failed);
	flat_json_object(j, "endpoints");
	for (size_t i = 0; i < g->targets.cap; i++) {
		const struct flat_addr *a = g->targets.slots[i].key;

		if (a)
			flat_json_string(j, flat_addr_str(a, addr), flat_health_word(g, a));
	}
	flat_json_object_end(j);
	flat_json_object_end(j);
}

static void show_groups(const struct flat_offload *o, struct flat_json *j, bool json,
			struct flat_strbuf *out)
{
	const struct flat_map *m = flat_health_groups(o);

	if (json)
		flat_json_array(j, "health");
	for (size_t i = 0; m && i < m->cap; i++) {
		if (m->slots[i].key && json)
			json_group(j, m->slots[i].value);
		else if (m->slots[i].key)
			text_group(out, m->slots[i].value);
	}
	if (json)
		flat_json_array_end(j);
}

void flat_admin_clusters(struct flat_offload *o, bool json, struct flat_strbuf *out)
{
	struct flat_json j;

	flat_json_init(&j, out, false);
	if (json) {
		flat_json_object(&j, NULL);
		flat_json_array(&j, "clusters");
	}
	for (size_t i = 0; i < o->clusters.cap; i++) {
		struct flat_cluster *c =
		    o->clusters.slots[i].key ? o->clusters.slots[i].value : NULL;

		if (!c)
			continue;
		flat_outlier_sweep(c, flat_now_us());
		if (json)
			json_cluster(&j, c);
		else
			text_cluster(out, c);
	}
	if (json) {
		flat_json_array_end(&j);
	} else if (o->clusters.n == 0) {
		flat_strbuf_puts(out, "nobody has asked for a service yet\n");
	}
	show_groups(o, &j, json, out);
	if (json) {
		flat_json_object_end(&j);
		flat_strbuf_putc(out, '\n');
	}
}
