/*
 * What guards the servers of requests: bounds on what is on its way (connectionPool), a budget for retries, and the tale
 * of each attempt's end for outlier detection. The rules are Envoy's; its response flag for what is over a bound is UO.
 */
#include <string.h>

#include "offload/l7_admission.h"

/* --- connections --- */

static void leave_queue(struct flat_cluster *c, struct flat_waiter *w)
{
	TAILQ_REMOVE(&c->waiters, w, link);
	c->n_pending--;
	w->cluster = NULL;
}

/* One of those that wait may go on. */
static void wake(struct flat_cluster *c)
{
	struct flat_waiter *w = TAILQ_FIRST(&c->waiters);

	if (!w)
		return;
	leave_queue(c, w);
	/* Still held. */
	w->woken = c;
	flat_l7_heat(w->l7);
}

void flat_l7_bounds_reloaded(struct flat_offload *o)
{
	for (size_t i = 0; i < o->clusters.cap; i++) {
		struct flat_cluster *c =
		    o->clusters.slots[i].key ? o->clusters.slots[i].value : NULL;

		while (c && !TAILQ_EMPTY(&c->waiters))
			wake(c);
	}
}

/* The room that it was woken for is used, or there is none any more. */
static void take_room(struct flat_waiter *w)
{
	struct flat_cluster *c = w->woken;

	w->woken = NULL;
	if (c)
		flat_cluster_drop(c);
}

static void leave_idle(struct flat_l7_upstream *up)
{
	if (up->idle)
		TAILQ_REMOVE(&up->cluster->idle, up, idle_link);
	up->idle = false;
}

void flat_l7_guard_new(struct flat_l7_upstream *up, const struct flat_target *target)
{
	up->cluster = target->cluster;
	up->host = target->host;
	if (!up->cluster)
		return;
	flat_cluster_hold(up->cluster);
	up->cluster->n_conns++;
	up->host->refs++;
	up->host->conns++;
	up->conn->connect_ms = up->cluster->breaker.connect_ms;
}

void flat_l7_guard_busy(struct flat_l7_upstream *up)
{
	leave_idle(up);
	up->n_requests++;
}

bool flat_l7_guard_keep(const struct flat_l7_upstream *up)
{
	uint32_t max = up->cluster ? up->cluster->breaker.max_per_connection : 0;

	return max == 0 || up->n_requests < max;
}

void flat_l7_guard_idle(struct flat_l7_upstream *up)
{
	struct flat_cluster *c = up->cluster;

	if (!c)
		return;
	up->idle = true;
	TAILQ_INSERT_TAIL(&c->idle, up, idle_link);
	up->idle_until_us =
	    c->breaker.idle_ms ? up->l7->node->now_us + (int64_t)c->breaker.idle_ms * 1000 : 0;
	wake(c);
}

bool flat_l7_guard_rested(const struct flat_l7_upstream *up, int64_t now_us)
{
	struct flat_l7 *root = up->l7;

	if (!up->idle || up->idle_until_us == 0)
		return false;
	if (now_us >= up->idle_until_us)
		return true;
	if (!root->timed || up->idle_until_us < root->wake_us)
		flat_l7_wake_at(root, up->idle_until_us);
	return false;
}

void flat_l7_guard_gone(struct flat_l7_upstream *up)
{
	struct flat_cluster *c = up->cluster;

	if (!c)
		return;
	leave_idle(up);
	up->cluster = NULL;
	c->n_conns--;
	up->host->conns--;
	flat_cluster_host_put(up->host);
	wake(c);
	flat_cluster_drop(c);
}

/* --- requests --- */

void flat_l7_unwait(struct flat_waiter *w)
{
	struct flat_cluster *c = w->cluster;

	if (c) {
		leave_queue(c, w);
		flat_cluster_drop(c);
	}
	/* It has no use for the room: the next one may. */
	if (w->woken) {
		wake(w->woken);
		take_room(w);
	}
}

static enum flat_l7_pass overflow(struct flat_cluster *c, enum flat_overflow what)
{
	c->overflows[what]++;
	return FLAT_L7_OVERFLOW;
}

/* What holds now: a request of before a reload is not bounded by what its own configuration said. */
static const struct flat_breaker *bounds_of(const struct flat_l7 *l7, const struct flat_cluster *c)
{
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_workload *client =
	    l7->conn->client ? l7->conn->client->workload : l7->x.client;
	const char *namespace = client ? client->namespace : NULL;
	const char *subset = flat_cluster_subset(c);
	const struct flat_destination_rule *rule;
	const struct flat_service_port *port;
	const struct flat_service *s;
	struct flat_traffic traffic;

	if (mesh == l7->x.mesh)
		return &c->breaker;
	s = flat_mesh_service_by_host(mesh, c->host, namespace);
	port = s ? flat_route_port(s, c->port, c->port) : NULL;
	if (!port)
		return &c->breaker;
	rule = flat_mesh_rule_of(mesh, s, client);
	traffic =
	    flat_rule_traffic(rule, subset[0] ? flat_rule_subset(rule, subset) : NULL, s, port);
	return traffic.breaker ? traffic.breaker : &flat_unbroken;
}

enum flat_l7_pass flat_l7_may_pass(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_cluster *c = x->target.cluster;
	const struct flat_breaker *b;

	if (x->waiter.woken == c)
		take_room(&x->waiter);
	else
		flat_l7_unwait(&x->waiter);
	if (!c)
		return FLAT_L7_PASS;
	b = bounds_of(l7, c);
	if (c->n_requests >= b->max_requests)
		return overflow(c, FLAT_OVERFLOW_REQUESTS);
	if (flat_l7_upstream_ready(l7))
		return FLAT_L7_PASS;
	if (c->n_pending >= b->max_pending)
		return overflow(c, FLAT_OVERFLOW_PENDING);
	/* A server without any connection gets its first one, as in Envoy. */
	if (c->n_conns < b->max_connections || x->target.host->conns == 0)
		return FLAT_L7_PASS;
	/* Another client's that rests makes room. */
	if (!TAILQ_EMPTY(&c->idle)) {
		flat_l7_upstream_close(TAILQ_FIRST(&c->idle), false);
		return FLAT_L7_PASS;
	}
	c->overflows[FLAT_OVERFLOW_CONNECTIONS]++;
	c->n_pending++;
	flat_cluster_hold(c);
	x->waiter.cluster = c;
	x->waiter.l7 = l7;
	TAILQ_INSERT_TAIL(&c->waiters, &x->waiter, link);
	return FLAT_L7_WAIT;
}

void flat_l7_target_enter(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	x->cluster = x->target.cluster;
	x->host = x->target.host;
	if (x->cluster)
		flat_cluster_enter(x->cluster, x->host);
	if (x->n_tried < FLAT_L7_TRIED_MAX)
		x->tried[x->n_tried++] = x->target.addr;
}

void flat_l7_target_leave(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	if (x->admit)
		flat_l7_admitted_attempt(l7);
	x->try_status = 0;
	flat_l7_connecting(&x->latest, false);
	if (x->cluster)
		flat_cluster_leave(x->cluster, x->host);
	x->cluster = NULL;
	x->host = NULL;
}

void flat_l7_connecting(struct flat_l7_try *t, bool connecting)
{
	if (!t->cluster || t->connecting == connecting)
		return;
	t->connecting = connecting;
	t->cluster->n_pending += connecting ? 1U : -1U;
}

void flat_l7_outcome(struct flat_l7 *l7, enum flat_outcome outcome, unsigned status)
{
	struct flat_l7_exchange *x = &l7->x;

	/* One that was given up in time says nothing. */
	x->try_status = outcome == FLAT_OUTCOME_FAILED ? 503 : (uint16_t)status;
	if (x->cluster)
		flat_outlier_note(x->cluster, x->host, outcome, status, flat_now_us());
}

/* --- retries --- */

void flat_l7_retry_end(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	if (!x->retrying)
		return;
	x->retrying->n_retries--;
	flat_cluster_drop(x->retrying);
	x->retrying = NULL;
}

bool flat_l7_retry_begin(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_cluster *c = x->cluster;
	const struct flat_retry_budget *budget = x->traffic.budget;
	uint32_t max;

	flat_l7_retry_end(l7);
	if (!c)
		return true;
	max = c->breaker.max_retries;
	if (budget) {
		uint64_t share =
		    ((uint64_t)c->n_requests + c->n_pending) * budget->percent / FLAT_MILLION;

		max = share > budget->min ? (uint32_t)share : budget->min;
	}
	if (c->n_retries >= max) {
		c->overflows[FLAT_OVERFLOW_RETRIES]++;
		return false;
	}
	c->n_retries++;
	flat_cluster_hold(c);
	x->retrying = c;
	return true;
}
