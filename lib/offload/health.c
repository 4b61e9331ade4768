#include "offload/health.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "offload/health_probe.h"
#include "offload/l7.h"

/* Endpoints that are checked, of all services: more would be a load of their own. Others count as well. */
#define TARGETS_MAX 4096U
/* Checks on their way at once: each has a descriptor. */
#define FLIGHT_MAX 512U
/* A host name, a NUL, a port. */
#define KEY_MAX 300U

struct flat_health_target {
	TAILQ_ENTRY(flat_health_target) link;
	struct flat_health *all;
	struct flat_health_group *group;
	struct flat_addr addr;
	struct flat_health_state state;
	struct flat_probe *probe; /* on its way; NULL: none */
	int64_t due_us;		  /* of the next one */
	uint64_t seen;		  /* of the look at endpoints that found it last */
	bool mesh;		  /* a mesh server of this host: its flatd is asked */
	bool unchecked;		  /* it is reached in a way that checks do not go */
};

struct flat_health {
	struct flat_offload *offload;
	struct flat_map groups;
	TAILQ_HEAD(, flat_health_target) targets;
	uint32_t n_targets;
	uint32_t n_flight;
	uint64_t looks;		   /* at endpoints */
	uint64_t epoch, listening; /* that the last of them saw */
	int64_t next_us;	   /* nobody is due before */
	bool full;		   /* somebody waits until a check on its way is over */
	bool crowded;		   /* told of */
	uint64_t random;
};

/* --- who is well --- */

static uint32_t draw(struct flat_health *h, uint32_t below)
{
	uint64_t x = h->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	h->random = x;
	return below ? (uint32_t)((x * 0x2545f4914f6cdd1dULL >> 32) % below) : 0;
}

static size_t make_key(char key[KEY_MAX], const char *host, uint16_t port)
{
	size_t len = flat_min_size(strlen(host), KEY_MAX - 1 - sizeof(port));

	memcpy(key, host, len);
	key[len] = 0;
	memcpy(key + len + 1, &port, sizeof(port));
	return len + 1 + sizeof(port);
}

struct flat_health_group *flat_health_find(const struct flat_offload *o, const char *host,
					   uint16_t port)
{
	char key[KEY_MAX];
	size_t len = make_key(key, host, port);

	return o->health && o->health->groups.n ? flat_map_get(&o->health->groups, key, len) : NULL;
}

const struct flat_map *flat_health_groups(const struct flat_offload *o)
{
	return o->health && o->health->groups.n ? &o->health->groups : NULL;
}

static struct flat_health_target *target_of(const struct flat_health_group *group,
					    const struct flat_addr *addr)
{
	return flat_map_get(&group->targets, addr, sizeof(*addr));
}

/* What nobody checks fails no check, whatever was known of it before. */
static bool fails(const struct flat_health_target *t)
{
	return !t->unchecked && t->state.failed;
}

bool flat_health_failed(const struct flat_health_group *group, const struct flat_addr *addr)
{
	const struct flat_health_target *t = target_of(group, addr);

	return t && fails(t);
}

const char *flat_health_word(const struct flat_health_group *group, const struct flat_addr *addr)
{
	const struct flat_health_target *t = target_of(group, addr);

	return !t		   ? NULL
	       : t->unchecked	   ? "not checked"
	       : !t->state.checked ? "not checked yet"
	       : t->state.failed   ? "failing"
				   : "passing";
}

void flat_health_join(struct flat_cluster *c, struct flat_health_group *group)
{
	if (c->group == group)
		return;
	if (c->group)
		LIST_REMOVE(c, group_link);
	c->group = group;
	if (group)
		LIST_INSERT_HEAD(&group->clusters, c, group_link);
}

/* What changed of one endpoint is told to its clusters. */
static void tell(const struct flat_health_group *group, const struct flat_health_target *t)
{
	bool failed = flat_health_failed(group, &t->addr);
	struct flat_cluster *c;

	LIST_FOREACH(c, &group->clusters, group_link)
	flat_cluster_checked(c, &t->addr, failed);
}

/* --- checks --- */

static void sooner(struct flat_health *h, int64_t us)
{
	h->next_us = us < h->next_us ? us : h->next_us;
}

static void schedule(struct flat_health_target *t, uint32_t ms)
{
	const struct flat_health_check *c = t->group->check;
	uint64_t part = (uint64_t)ms * c->jitter_percent / 100;

	ms += draw(t->all, part < UINT32_MAX ? (uint32_t)part : UINT32_MAX);
	t->due_us = flat_now_us() + ((int64_t)ms + draw(t->all, c->jitter_ms)) * 1000;
	sooner(t->all, t->due_us);
}

static void on_result(void *arg, enum flat_health_result result, const char *why)
{
	struct flat_health_target *t = arg;
	struct flat_health_group *group = t->group;
	bool first = !t->state.checked;
	bool was = t->state.failed;
	char text[FLAT_ADDR_STRLEN];

	if (t->probe)
		t->all->n_flight--;
	t->probe = NULL;
	if (t->all->full)
		t->all->next_us = 0;
	t->all->full = false;
	group->results[result]++;
	schedule(t, flat_health_note(group->check, &t->state, result));
	/* A good check takes back who was put aside meanwhile. */
	if (was != t->state.failed || result == FLAT_HEALTH_PASSED)
		tell(group, t);
	group->n_failed += t->state.failed;
	group->n_failed -= was;
	if (was != t->state.failed && !(first && !t->state.failed))
		flat_warn("health check of %s:%u (%s:%u): %s is %s: %s", group->host, group->port,
			  group->check->where.file, group->check->where.line,
			  flat_addr_str(&t->addr, text),
			  t->state.failed ? "failing" : "passing again", why);
}

static struct flat_addr probed(const struct flat_health_target *t)
{
	struct flat_addr to = t->addr;

	if (t->group->check->alt_port)
		to.port = t->group->check->alt_port;
	return to;
}

static void start(struct flat_health_target *t)
{
	struct flat_health_group *group = t->group;
	struct flat_addr to = probed(t);

	t->probe =
	    flat_probe_start(&t->all->offload->loop, group->check, group->host, &to, on_result, t);
	if (t->probe)
		t->all->n_flight++;
	else /* Tried again, as any other. */
		on_result(t, FLAT_HEALTH_SILENT, "it cannot be reached");
}

static void stop(struct flat_health_target *t)
{
	if (!t->probe)
		return;
	flat_probe_cancel(t->probe);
	t->probe = NULL;
	t->all->n_flight--;
}

/* --- who there is --- */

static void target_free(struct flat_health_target *t)
{
	stop(t);
	t->group->n_failed -= fails(t);
	t->group->n--;
	TAILQ_REMOVE(&t->all->targets, t, link);
	t->all->n_targets--;
	free(t);
}

static bool some_pass(const struct flat_health_group *group)
{
	const struct flat_map *m = &group->targets;

	for (size_t i = 0; i < m->cap; i++) {
		const struct flat_health_target *t = m->slots[i].key ? m->slots[i].value : NULL;

		if (t && t->state.checked && !t->state.failed)
			return true;
	}
	return false;
}

/* One that comes where others are known to be well waits for its first check, as in Envoy; else it is taken as it is. */
static struct flat_health_target *target_new(struct flat_health *h, struct flat_health_group *group,
					     const struct flat_addr *addr)
{
	struct flat_health_target *t;

	if (h->n_targets >= TARGETS_MAX) {
		if (!h->crowded)
			flat_warn("more than %u endpoints have health checks: others are taken for "
				  "well",
				  TARGETS_MAX);
		h->crowded = true;
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->addr = *addr;
	t->all = h;
	t->group = group;
	t->state.failed = some_pass(group);
	t->due_us = flat_now_us() + (int64_t)draw(h, group->check->initial_jitter_ms) * 1000;
	if (flat_map_put(&group->targets, &t->addr, sizeof(t->addr), t) != 0) {
		free(t);
		return NULL;
	}
	group->n_failed += t->state.failed;
	group->n++;
	h->n_targets++;
	TAILQ_INSERT_TAIL(&h->targets, t, link);
	return t;
}

/* Maps only grow: what is kept is put into a new one. */
static void keep_seen(struct flat_health_group *group, uint64_t look)
{
	struct flat_map old = group->targets;

	group->targets = (struct flat_map){0};
	for (size_t i = 0; i < old.cap; i++) {
		struct flat_health_target *t = old.slots[i].key ? old.slots[i].value : NULL;

		if (t && (t->seen != look ||
			  flat_map_put(&group->targets, &t->addr, sizeof(t->addr), t) != 0))
			target_free(t);
	}
	flat_map_fini(&old);
}

/* Checks go in the clear, from this host; a connection alone can be tried with who speaks TLS too. */
static bool is_out_of_reach(const struct flat_health_check *check, const struct flat_reach *r)
{
	bool tries = check->kind == FLAT_HEALTH_TCP && !check->send.len && !check->n_receive;

	return r->wired || (r->tls && !tries);
}

static void look_at(struct flat_health *h, struct flat_health_group *group,
		    const struct flat_service *service, const struct flat_service_port *port)
{
	struct flat_reach *v = NULL;
	uint32_t n = 0;
	bool gone = false;

	if (flat_resolve_all(h->offload, service, port, &v, &n) != 0)
		return;
	for (uint32_t i = 0; i < n; i++) {
		struct flat_health_target *t = target_of(group, &v[i].addr);

		if (!t)
			t = target_new(h, group, &v[i].addr);
		if (!t)
			continue;
		t->seen = h->looks;
		t->mesh = v[i].mesh;
		if (t->unchecked != is_out_of_reach(group->check, &v[i])) {
			group->n_failed -= fails(t);
			t->unchecked = !t->unchecked;
			group->n_failed += fails(t);
			stop(t);
			tell(group, t);
		}
	}
	free(v);
	for (size_t i = 0; i < group->targets.cap && !gone; i++) {
		const struct flat_health_target *t =
		    group->targets.slots[i].key ? group->targets.slots[i].value : NULL;

		gone = t && t->seen != h->looks;
	}
	if (gone)
		keep_seen(group, h->looks);
}

/* Looks whose endpoints there are; of all services that have a check. */
static void look(struct flat_health *h)
{
	const struct flat_mesh *mesh = h->offload->mesh;

	h->looks++;
	h->next_us = 0;
	h->crowded = false;
	h->listening = h->offload->listening;
	for (uint32_t i = 0; h->groups.n && i < flat_mesh_n_services(mesh); i++) {
		const struct flat_service *s = flat_mesh_service(mesh, i);

		for (uint32_t k = 0; s->health && k < s->n_ports; k++) {
			struct flat_health_group *group =
			    s->health[k] ? flat_health_find(h->offload, s->host, s->ports[k].number)
					 : NULL;

			if (group)
				look_at(h, group, s, &s->ports[k]);
		}
	}
}

/* --- groups --- */

static void group_free(struct flat_health_group *group)
{
	struct flat_cluster *c;

	keep_seen(group, UINT64_MAX);
	while ((c = LIST_FIRST(&group->clusters)) != NULL)
		flat_health_join(c, NULL);
	flat_map_fini(&group->targets);
	free(group);
}

static struct flat_health_group *group_get(struct flat_health *h, const char *host, uint16_t port)
{
	struct flat_health_group *group = flat_health_find(h->offload, host, port);
	char key[KEY_MAX];
	size_t len = make_key(key, host, port);

	if (group)
		return group;
	group = calloc(1, sizeof(*group) + len + 1);
	if (!group)
		return NULL;
	memcpy(group->host, key, len);
	group->port = port;
	LIST_INIT(&group->clusters);
	if (flat_map_put(&h->groups, group->host, len, group) == 0)
		return group;
	free(group);
	return NULL;
}

static void keep_groups(struct flat_health *h, uint64_t seen)
{
	struct flat_map old = h->groups;
	char key[KEY_MAX];

	h->groups = (struct flat_map){0};
	for (size_t i = 0; i < old.cap; i++) {
		struct flat_health_group *g = old.slots[i].key ? old.slots[i].value : NULL;

		if (g && (g->seen != seen || flat_map_put(&h->groups, g->host,
							  make_key(key, g->host, g->port), g) != 0))
			group_free(g);
	}
	flat_map_fini(&old);
}

/* What is asked may be another thing now, and what a check borrows is of the mesh that goes: each begins anew. */
static void restart(struct flat_health *h)
{
	struct flat_health_target *t;

	TAILQ_FOREACH(t, &h->targets, link)
	{
		bool was = t->probe != NULL;

		stop(t);
		if (was)
			t->due_us = flat_now_us();
	}
}

void flat_health_reloaded(struct flat_offload *o)
{
	struct flat_health *h = o->health;
	const struct flat_mesh *mesh = o->mesh;

	if (!h || (h->groups.n == 0 && flat_mesh_n_health(mesh) == 0))
		return;
	restart(h);
	h->epoch++;
	for (uint32_t i = 0; flat_mesh_n_health(mesh) && i < flat_mesh_n_services(mesh); i++) {
		const struct flat_service *s = flat_mesh_service(mesh, i);

		for (uint32_t k = 0; s->health && k < s->n_ports; k++) {
			struct flat_health_group *group =
			    s->health[k] ? group_get(h, s->host, s->ports[k].number) : NULL;

			if (!group)
				continue;
			group->check = s->health[k];
			group->seen = h->epoch;
		}
	}
	keep_groups(h, h->epoch);
	look(h);
}

void flat_health_moved(struct flat_offload *o)
{
	if (o->health)
		look(o->health);
}

/* --- time --- */

/* Ends what takes too long, and begins what is due. */
static void turn(struct flat_health *h, int64_t now)
{
	struct flat_health_target *t;

	h->next_us = INT64_MAX;
	TAILQ_FOREACH(t, &h->targets, link)
	{
		if (t->unchecked)
			continue;
		if (t->probe)
			(void)flat_probe_expire(t->probe, now);
		if (!t->probe && t->due_us <= now && h->n_flight < FLIGHT_MAX)
			start(t);
		if (t->probe)
			sooner(h, now + (int64_t)flat_probe_expire(t->probe, now) * 1000);
		else if (t->due_us > now)
			sooner(h, t->due_us);
		else
			h->full = true;
	}
}

int flat_health_wait_ms(struct flat_offload *o)
{
	struct flat_health *h = o->health;
	int64_t now;

	if (!h || h->n_targets == 0)
		return -1;
	if (h->listening != o->listening)
		look(h);
	now = flat_now_us();
	if (now >= h->next_us)
		turn(h, now);
	if (h->next_us == INT64_MAX)
		return -1;
	return h->next_us <= now
		   ? 0
		   : (int)flat_min_size((size_t)(h->next_us - now) / 1000 + 1, 3600000);
}

/* --- what others ask --- */

bool flat_health_is_own(const struct flat_offload *o, const struct flat_addr *from,
			const struct flat_addr *to)
{
	const struct flat_health_target *t;
	struct flat_addr a = *from;
	struct flat_addr b = *to;

	if (!o->health || o->health->n_flight == 0)
		return false;
	flat_addr_unmap(&a);
	flat_addr_unmap(&b);
	TAILQ_FOREACH(t, &o->health->targets, link)
	{
		struct flat_addr at = probed(t);
		if (t->mesh && t->probe && flat_addr_equal(&at, &b) &&
		    flat_probe_is_from(t->probe, &a))
			return true;
	}
	return false;
}

void flat_health_metrics(const struct flat_offload *o, struct flat_strbuf *out)
{
	static const char *const results[] = {"passed", "refused", "silent"};
	const struct flat_map *m = flat_health_groups(o);

	if (!m)
		return;
	flat_strbuf_puts(out, "# HELP flat_health_checks_total Active health checks, by service "
			      "and result.\n# TYPE flat_health_checks_total counter\n");
	for (size_t i = 0; i < m->cap; i++) {
		const struct flat_health_group *g = m->slots[i].key ? m->slots[i].value : NULL;

		for (size_t k = 0; g && k < FLAT_ARRAY_SIZE(results); k++)
			flat_strbuf_printf(out,
					   "flat_health_checks_total{service=\"%s\",port=\"%u\","
					   "result=\"%s\"} %" PRIu64 "\n",
					   g->host, g->port, results[k], g->results[k]);
	}
	flat_strbuf_puts(out, "# HELP flat_health_failing Endpoints that fail their health checks."
			      "\n# TYPE flat_health_failing gauge\n");
	for (size_t i = 0; i < m->cap; i++) {
		const struct flat_health_group *g = m->slots[i].key ? m->slots[i].value : NULL;

		if (g)
			flat_strbuf_printf(out,
					   "flat_health_failing{service=\"%s\",port=\"%u\"} %u\n",
					   g->host, g->port, g->n_failed);
	}
}

int flat_health_open(struct flat_offload *o)
{
	struct flat_health *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->offload = o;
	h->random = (uint64_t)flat_now_us() | 1;
	TAILQ_INIT(&h->targets);
	o->health = h;
	return 0;
}

void flat_health_close(struct flat_offload *o)
{
	if (!o->health)
		return;
	keep_groups(o->health, UINT64_MAX);
	flat_map_fini(&o->health->groups);
	free(o->health);
	o->health = NULL;
}
