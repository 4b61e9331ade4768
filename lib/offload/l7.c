/* HTTP connections: how they begin and end, who is looked at, time. */
#include "offload/l7.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mesh/scope.h"
#include "offload/admit.h"
#include "offload/gateway.h"
#include "offload/l7_mandatory.h"
#include "offload/l7_observe.h"
#include "offload/origin.h"
#include "offload/sniff.h"

/* How long a connection that moves nothing is still looked at, microseconds; and flatd, before it sleeps. */
#define HOT_US 20
#define AWAKE_US 100
/* Connections that moved before the applications are told of it: they work while we go on with the next. */
#define TELL_EVERY 2

/* --- the node --- */

int flat_l7_init(struct flat_offload *o, const char *access_log)
{
	struct flat_l7_node *node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	node->offload = o;
	node->random = (uint64_t)flat_now_us() | 1;
	TAILQ_INIT(&node->hot);
	TAILQ_INIT(&node->timers);
	TAILQ_INIT(&node->spare);
	TAILQ_INIT(&node->spare_up);
	o->l7 = node;
	if (flat_l7_observe_init(node) != 0)
		return -ENOMEM;
	if (access_log)
		node->log = flat_l7_observe_file(node, access_log);
	return flat_l7_mandatory_init(node);
}

void flat_l7_fini(struct flat_offload *o)
{
	struct flat_l7_node *node = o->l7;
	if (!node)
		return;
	flat_l7_log_fini(node);
	flat_l7_observe_fini(node);
	flat_l7_mandatory_fini(node);
	flat_l7_end_spare_fini();
	flat_l7_mux_spare_fini(node);
	flat_l7_carrier_spare_fini(node);
	free(node->shares);
	free(node);
	o->l7 = NULL;
}

static bool has_rules(const struct flat_mesh *mesh)
{
	if (flat_mesh_n_virtual(mesh) > 0 || flat_mesh_n_rules(mesh) > 0 ||
	    flat_mesh_n_backend_tls(mesh) > 0 || flat_mesh_persists(mesh))
		return true;
	for (uint32_t i = 0; i < flat_mesh_n_workloads(mesh); i++) {
		if (flat_authz_needs_http(mesh, flat_mesh_workload_at(mesh, i)))
			return true;
	}
	return flat_authz_needs_http(mesh, NULL);
}

void flat_l7_retire(struct flat_offload *o)
{
	struct flat_conn *c;
	TAILQ_FOREACH(c, &o->conns, link)
	{
		if (c->l7 && c->l7->end.open)
			flat_l7_heat(c->l7);
	}
}

void flat_l7_reopen(struct flat_offload *o)
{
	if (o->l7)
		flat_l7_observe_reopen(o->l7);
}

void flat_l7_reloaded(struct flat_offload *o)
{
	struct flat_l7_node *node = o->l7;
	uint32_t n = flat_mesh_n_destinations(o->mesh);
	if (!node)
		return;
	flat_l7_observe_reloaded(node);
	flat_persist_settle(o);
	node->rules = node->observes || flat_mesh_n_limits(o->mesh) > 0 ||
		      flat_mesh_n_rates(o->mesh) > 0 || flat_mesh_n_health(o->mesh) > 0 ||
		      flat_mesh_n_admissions(o->mesh) > 0 || flat_mesh_n_compressors(o->mesh) > 0 ||
		      flat_mesh_n_times(o->mesh) > 0 || flat_mesh_n_hedges(o->mesh) > 0 ||
		      has_rules(o->mesh);
	node->hedges = flat_mesh_n_hedges(o->mesh) > 0;
	flat_l7_mandatory_reloaded(node);
	free(node->shares);
	node->shares = calloc((size_t)n + 1, sizeof(*node->shares));
	node->n_shares = node->shares ? n : 0;
}

/* xorshift64*: faults and pauses want no secrets. */
uint32_t flat_l7_random(struct flat_l7_node *node, uint32_t n)
{
	uint64_t x = node->random;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	node->random = x;
	return (uint32_t)(((x * 0x2545f4914f6cdd1dULL >> 32) * n) >> 32);
}

/* The service's VirtualService, as the client has it. */
static const struct flat_virtual_service *virtual_of(const struct flat_offload *o,
						     const struct flat_service *service,
						     const struct flat_service_port *port,
						     const struct flat_workload *client)
{
	const struct flat_scope scope = flat_mesh_scope(o->mesh, client, port->number);

	return flat_mesh_virtual_by_host(&scope, flat_span_of(service->host), service);
}

bool flat_l7_wanted(struct flat_offload *o, const struct flat_service *service,
		    const struct flat_service_port *port, const struct flat_listener *pinned,
		    const struct flat_workload *client)
{
	if (!o->l7 || !o->l7->rules || !port || !flat_protocol_is_http(port->protocol))
		return false;
	if (flat_l7_observed_http(o->mesh, client, FLAT_MODE_CLIENT))
		return pinned || flat_service_has_endpoints(service);
	if (pinned)
		return flat_authz_needs_http(o->mesh, pinned->session->workload) ||
		       flat_l7_observed_http(o->mesh, pinned->session->workload, FLAT_MODE_SERVER);
	return flat_service_has_endpoints(service) &&
	       (service->routes_below || virtual_of(o, service, port, client) ||
		flat_mesh_has_traffic(o->mesh, service, client) ||
		flat_service_health(service, port) || flat_resolve_needs_http(o, service, port));
}

/* Istio's wellKnownPorts: of SMTP, DNS, MySQL and MongoDB. Some of their servers speak first. */
static bool is_of_others(uint16_t port)
{
	return port == 25 || port == 53 || port == 3306 || port == 27017;
}

bool flat_l7_wanted_if_http(struct flat_offload *o, const struct flat_service *service,
			    const struct flat_service_port *port,
			    const struct flat_listener *pinned, const struct flat_workload *client)
{
	const struct flat_virtual_service *vs;

	if (!o->l7 || !o->l7->rules || !port || port->declared || is_of_others(port->number))
		return false;
	if (pinned)
		return flat_l7_bound(o->mesh, client, FLAT_MODE_CLIENT) ||
		       flat_l7_bound(o->mesh, pinned->session->workload, FLAT_MODE_SERVER) ||
		       flat_authz_needs_http(o->mesh, pinned->session->workload);
	if (!flat_service_has_endpoints(service))
		return false;
	if (flat_l7_bound(o->mesh, client, FLAT_MODE_CLIENT))
		return true;
	vs = virtual_of(o, service, port, client);
	return service->routes_below || (vs && vs->n_routes > 0) ||
	       flat_resolve_needs_http(o, service, port);
}

/* --- heads --- */

/* Without memory for it each head is read. */
static struct flat_http1_known *known_of(struct flat_http1_known **known)
{
	if (!*known) {
		*known = malloc(sizeof(**known));
		if (*known)
			(*known)->len = 0;
	}
	return *known;
}

int flat_l7_read_request(struct flat_l7 *l7)
{
	struct flat_l7 *root = l7->root;
	const struct flat_l7_end *e = &l7->end;

	return flat_http1_read_known(&l7->in, root->n_requests > 1 ? known_of(&root->known) : NULL,
				     e->in, e->len);
}

int flat_l7_read_answer(struct flat_l7_upstream *up)
{
	struct flat_l7_upstream *c = up->is_stream ? up->carrier : up;
	const struct flat_l7_end *e = &up->end;

	/* It was read, and had to wait. */
	if (up->in.head.bytes > 0)
		return (int)up->in.head.bytes;
	return flat_http1_read_known(&up->in, c && c->used ? known_of(&c->known) : NULL,
				     e->in + e->at, e->len - e->at);
}

/* --- who is looked at --- */

static void each_end(struct flat_l7 *l7, void (*fn)(struct flat_l7_end *e))
{
	struct flat_l7_upstream *up;
	fn(&l7->end);
	TAILQ_FOREACH(up, &l7->root->upstreams, link)
	{
		if (up->user == l7 || (!up->user && l7 == l7->root))
			fn(&up->end);
	}
}

static struct flat_l7_list *hot_of(const struct flat_l7 *l7)
{
	return l7 == l7->root ? &l7->node->hot : &l7->root->mux->hot;
}

void flat_l7_heat(struct flat_l7 *l7)
{
	l7->last_us = l7->node->now_us;
	/* A stream moves with its connection. */
	if (l7 != l7->root)
		flat_l7_heat(l7->root);
	if (l7->hot)
		return;
	l7->hot = true;
	TAILQ_INSERT_TAIL(hot_of(l7), l7, hot_link);
	each_end(l7, flat_l7_end_disarm);
}

void flat_l7_resume(struct flat_l7 *l7)
{
	/* Else another attempt has answered meanwhile: its time is another. */
	if (l7->phase == FLAT_L7_BACKOFF)
		l7->x.try_us = flat_now_us();
	flat_l7_heat(l7);
}

static bool over(const struct flat_l7 *l7)
{
	return l7->end.open && l7->end.gone;
}

static void leave_hot(struct flat_l7 *l7)
{
	if (l7->hot)
		TAILQ_REMOVE(hot_of(l7), l7, hot_link);
	l7->hot = false;
}

int64_t flat_l7_hot_us(const struct flat_l7_node *node)
{
	/* Where others want the processor, looking on keeps it from them. */
	return node->offload->workers.v[0].crowded_us ? 0 : HOT_US;
}

/* Streams on both sides: each is told of what happens, and nothing comes between two looks. */
static bool is_told(const struct flat_l7 *l7)
{
	return l7 != l7->root && flat_l7_on_streams(l7);
}

static void rest_streams(struct flat_l7 *l7)
{
	if (l7->x.upstream)
		flat_l7_end_rest(&l7->x.upstream->end);
	flat_l7_asides_rest(l7);
	if (l7->x.head_len == 0)
		flat_l7_end_rest(&l7->end);
	leave_hot(l7);
}

void flat_l7_cool(struct flat_l7 *l7)
{
	struct flat_l7_upstream *up;

	if (is_told(l7)) {
		rest_streams(l7);
		return;
	}
	each_end(l7, flat_l7_end_arm);
	/* Streams are looked at with their connection. */
	if (flat_l7_pump(l7) || over(l7) || (l7->mux && !TAILQ_EMPTY(&l7->mux->hot))) {
		each_end(l7, flat_l7_end_disarm);
		return;
	}
	/* The head of a request stays where it is until its exchange is over. */
	TAILQ_FOREACH(up, &l7->root->upstreams, link)
	{
		if (!up->user || up->user == l7)
			flat_l7_end_rest(&up->end);
	}
	if (l7->x.upstream && l7->x.upstream->is_stream)
		flat_l7_end_rest(&l7->x.upstream->end);
	flat_l7_asides_rest(l7);
	if (l7->x.head_len == 0)
		flat_l7_end_rest(&l7->end);
	leave_hot(l7);
}

void flat_l7_wake_at(struct flat_l7 *l7, int64_t us)
{
	struct flat_l7_node *node = l7->node;
	if (l7->timed && l7->wake_us <= us)
		return;
	if (!l7->timed)
		TAILQ_INSERT_TAIL(&node->timers, l7, timer_link);
	l7->timed = true;
	l7->wake_us = us;
	if (node->next_us == 0 || us < node->next_us)
		node->next_us = us;
}

static void untime(struct flat_l7 *l7)
{
	if (l7->timed)
		TAILQ_REMOVE(&l7->node->timers, l7, timer_link);
	l7->timed = false;
}

void flat_l7_forget(struct flat_l7 *l7)
{
	leave_hot(l7);
	untime(l7);
}

/* Those that are due are looked at; what they wait for, they ask again. */
static void expire(struct flat_l7_node *node, int64_t now)
{
	struct flat_l7 *l7;
	struct flat_l7 *next;
	if (node->next_us == 0 || now < node->next_us)
		return;
	node->next_us = 0;
	for (l7 = TAILQ_FIRST(&node->timers); l7; l7 = next) {
		next = TAILQ_NEXT(l7, timer_link);
		if (l7->wake_us > now) {
			if (node->next_us == 0 || l7->wake_us < node->next_us)
				node->next_us = l7->wake_us;
			continue;
		}
		untime(l7);
		flat_l7_heat(l7);
	}
}

int flat_l7_wait_ms(struct flat_offload *o)
{
	struct flat_l7_node *node = o->l7;
	int64_t now;
	int spans;
	int wait;
	if (!node)
		return -1;
	spans = flat_l7_traces_turn(node);
	if (node->next_us == 0)
		return spans;
	now = flat_now_us();
	/* Rounded up: too early would be for nothing. */
	wait = node->next_us <= now ? 0 : (int)((node->next_us - now + 999) / 1000);
	return spans >= 0 && spans < wait ? spans : wait;
}

bool flat_l7_turn(struct flat_offload *o, bool news)
{
	struct flat_l7_node *node = o->l7;
	struct flat_l7 *l7;
	struct flat_l7 *next;
	unsigned n_moved = 0;
	int64_t now;
	if (TAILQ_EMPTY(&node->hot) && TAILQ_EMPTY(&o->rests.list) && node->next_us == 0)
		return false;
	now = node->now_us = flat_now_us();
	if (news)
		node->moved_us = now;
	expire(node, now);
	for (l7 = TAILQ_FIRST(&node->hot); l7; l7 = next) {
		next = TAILQ_NEXT(l7, hot_link);
		bool moved = flat_l7_pump(l7);
		if (over(l7)) {
			flat_conn_destroy(l7->conn);
			continue;
		}
		if (moved) {
			l7->last_us = node->moved_us = now;
			if (++n_moved % TELL_EVERY == 0)
				flat_l7_ends_tell();
		} else if (now - l7->last_us > flat_l7_hot_us(node)) {
			flat_l7_cool(l7);
		}
	}
	flat_l7_ends_tell();
	return !TAILQ_EMPTY(&node->hot) ||
	       (!o->workers.v[0].crowded_us && now - node->moved_us < AWAKE_US);
}

/* --- clients --- */

int flat_l7_attach(struct flat_conn *c, const struct flat_decision *d)
{
	struct flat_l7 *l7 = calloc(1, sizeof(*l7));
	if (!l7)
		return -ENOMEM;
	l7->node = c->offload->l7;
	l7->conn = c;
	l7->root = l7;
	l7->port = d->port ? d->port->number : d->to.port;
	l7->protocol =
	    (uint8_t)(d->port && flat_protocol_is_http(d->port->protocol) ? d->port->protocol
									  : FLAT_PROTOCOL_HTTP);
	if (d->l7_pinned)
		l7->pinned = d->target;
	if (c->principal)
		snprintf(l7->principal, sizeof(l7->principal), "%s", c->principal);
	TAILQ_INIT(&l7->upstreams);
	flat_http1_begin(&l7->in, FLAT_HTTP1_REQUEST);
	c->l7 = l7;
	flat_l7_idle_begin(l7);
	return 0;
}

static void on_client(struct flat_source *source, int events)
{
	struct flat_l7_end *e = FLAT_CONTAINER_OF(source, struct flat_l7_end, source);
	struct flat_l7 *l7 = FLAT_CONTAINER_OF(e, struct flat_l7, end);
	flat_l7_end_event(e, events);
	flat_l7_heat(l7);
}

static void on_upstream(struct flat_source *source, int events)
{
	struct flat_l7_end *e = FLAT_CONTAINER_OF(source, struct flat_l7_end, source);
	struct flat_l7_upstream *up = FLAT_CONTAINER_OF(e, struct flat_l7_upstream, end);
	flat_l7_end_event(e, events);
	if (up->l7)
		flat_l7_heat(up->user ? up->user : up->l7);
	else if (e->gone)
		flat_conn_destroy(up->conn);
}

static void start_lane(struct flat_offload *o, const struct flat_end *from, int i,
		       struct flat_l7_end *e)
{
	struct flat_lane_link *lane = from->lane;
	flat_l7_end_lane(e, &lane->lane, from->slot, (enum flat_side)i, from->anchor.fd);
	e->rest = flat_lane_rest(o, lane, e->vq.mine);
}

static int start_end(struct flat_conn *c, int i, struct flat_l7_end *e, flat_source_fn *fn)
{
	const struct flat_end *from = &c->end[i];
	if (from->tube) {
		flat_l7_end_tube(e, from->tube, fn);
		return 0;
	}
	if (from->is_tcp)
		flat_l7_end_tcp(e, from->anchor.fd,
				i == FLAT_SIDE_SERVER ? flat_origin_tls(c->origin)
				: c->gate	      ? c->gate->tls
						      : NULL);
	else
		start_lane(c->offload, from, i, e);
	uint32_t events = POLLIN | POLLRDHUP | (e->is_tcp ? POLLOUT : 0U);
	return flat_loop_poll(&c->offload->loop, &e->source, from->anchor.fd, events, fn);
}

/* A client that was read from before it was known to speak HTTP. */
static int resume(struct flat_conn *c, struct flat_l7_end *e)
{
	const struct flat_pipe_end *before = &c->pipe->end[FLAT_SIDE_CLIENT];

	if (!e->is_tcp)
		e->vq = before->vq;
	if (flat_l7_end_buffers(e) != 0)
		return -ENOMEM;
	e->len = flat_sniff_take(c->sniff, e->in, FLAT_L7_IN_BYTES);
	e->bytes_in = e->len;
	if (flat_l7_is_preface(c->l7))
		c->l7->protocol = FLAT_PROTOCOL_HTTP2;
	flat_pipe_free(c->pipe);
	c->pipe = NULL;
	return 0;
}

int flat_l7_start(struct flat_conn *c)
{
	int err;
	if (c->l7 && c->l7->shadow)
		return flat_l7_shadow_start(c->l7);
	if (c->l7) {
		err = start_end(c, FLAT_SIDE_CLIENT, &c->l7->end, on_client);
		if (err == 0 && c->pipe)
			err = resume(c, &c->l7->end);
		if (err == 0)
			flat_l7_heat(c->l7);
		return err;
	}
	struct flat_l7_upstream *up = c->l7_upstream;
	err = start_end(c, FLAT_SIDE_SERVER, &up->end, on_upstream);
	up->open = err == 0;
	if (err == 0 && up->l7)
		flat_l7_heat(up->user ? up->user : up->l7);
	return err;
}

static void forget(struct flat_l7_upstream *up)
{
	if (!up->l7)
		return;
	flat_l7_guard_gone(up);
	TAILQ_REMOVE(&up->l7->upstreams, up, link);
	up->l7->n_upstreams--;
	up->l7 = NULL;
}

static void upstream_gone(struct flat_conn *c)
{
	struct flat_l7_upstream *up = c->l7_upstream;
	struct flat_l7 *user = up->user;
	if (up->h2)
		flat_l7_carrier_gone(up);
	forget(up);
	flat_loop_del(&c->offload->loop, &up->end.source);
	flat_l7_end_fini(&up->end);
	c->l7_upstream = NULL;
	if (user) {
		flat_l7_upstream_leave(up);
		flat_l7_heat(user);
	}
	free(up->known);
	free(up);
}

void flat_l7_gone(struct flat_conn *c)
{
	struct flat_l7 *l7 = c->l7;
	struct flat_l7_upstream *up;
	if (c->l7_upstream)
		upstream_gone(c);
	if (!l7)
		return;
	flat_l7_mux_fini(l7);
	flat_l7_abandon(l7);
	flat_l7_forget(l7);
	while ((up = TAILQ_FIRST(&l7->upstreams)) != NULL)
		flat_l7_upstream_close(up, false);
	flat_loop_del(&c->offload->loop, &l7->end.source);
	flat_l7_end_fini(&l7->end);
	c->l7 = NULL;
	flat_l7_shadow_free(l7);
	free(l7->known);
	free(l7);
}

bool flat_l7_broken(const struct flat_conn *c)
{
	return (c->l7 && c->l7->end.broken) || (c->l7_upstream && c->l7_upstream->end.broken);
}

uint64_t flat_l7_bytes(const struct flat_conn *c, int i)
{
	const struct flat_l7_end *e = c->l7 ? &c->l7->end : &c->l7_upstream->end;
	return (c->l7 != NULL) == (i == FLAT_SIDE_CLIENT) ? e->bytes_in : e->bytes_out;
}

/* --- upstreams --- */

void flat_l7_upstream_leave(struct flat_l7_upstream *up)
{
	struct flat_l7_exchange *x = &up->user->x;
	struct flat_l7_aside *a;
	if (x->upstream == up)
		x->upstream = NULL;
	SLIST_FOREACH(a, &x->asides, link)
	{
		if (a->t.upstream == up)
			a->t.upstream = NULL;
	}
	up->user = NULL;
}

void flat_l7_upstream_close(struct flat_l7_upstream *up, bool reset)
{
	if (up->is_stream) {
		flat_l7_carrier_stream_close(up, reset);
		return;
	}
	if (up->h2)
		flat_l7_carrier_gone(up);
	if (up->user)
		flat_l7_upstream_leave(up);
	forget(up);
	if (reset)
		flat_l7_end_abort(&up->end);
	else
		flat_l7_end_leave(&up->end);
	/* The application's anchor says when it has let go; a socket of the kernel is ours to close. */
	if (!up->open || up->end.is_tcp || up->end.gone)
		flat_conn_destroy(up->conn);
	else
		flat_l7_end_fini(&up->end);
}

static bool idle(const struct flat_l7_upstream *up)
{
	return !up->user && up->open && !up->end.gone && !up->end.eof && !up->end.reset;
}

void flat_l7_upstream_idle(struct flat_l7_upstream *up)
{
	if (up->is_stream) {
		flat_l7_carrier_stream_close(up, false);
		return;
	}
	flat_l7_upstream_leave(up);
	up->used = true;
	flat_http1_begin(&up->in, FLAT_HTTP1_RESPONSE);
	flat_l7_guard_idle(up);
}

static bool is_free(const struct flat_l7_upstream *up, bool h2)
{
	if (h2)
		return up->h2 && flat_l7_carrier_usable(up);
	return !up->h2 && idle(up);
}

/* One of `root` that takes a request for the target. */
static struct flat_l7_upstream *find_free(const struct flat_l7 *root,
					  const struct flat_target *target, bool h2)
{
	struct flat_l7_upstream *up;
	TAILQ_FOREACH(up, &root->upstreams, link)
	{
		if (up->mesh == (target->listener != NULL) && is_free(up, h2) &&
		    up->cluster == target->cluster && flat_addr_equal(&up->target, &target->addr) &&
		    up->conn->listener == target->listener &&
		    up->conn->wire.port == target->wire.port &&
		    up->conn->wire.hbone == target->wire.hbone &&
		    flat_origin_fits(root->node->offload, up->conn->origin, target))
			break;
	}
	return up;
}

/* Makes room for one more: of those idle the one unused longest goes. */
static void evict(struct flat_l7 *root)
{
	struct flat_l7_upstream *up;
	if (root->n_upstreams < FLAT_L7_UPSTREAMS_MAX)
		return;
	TAILQ_FOREACH(up, &root->upstreams, link)
	{
		if (!up->user && (!up->h2 || TAILQ_EMPTY(&up->streams))) {
			flat_l7_upstream_close(up, false);
			return;
		}
	}
}

static struct flat_l7_upstream *upstream_new(struct flat_l7 *l7, const struct flat_target *target,
					     bool h2)
{
	struct flat_conn *c = flat_conn_upstream(l7->conn, target, h2);
	struct flat_l7_upstream *up = c ? calloc(1, sizeof(*up)) : NULL;
	if (!up) {
		if (c)
			flat_conn_destroy(c);
		return NULL;
	}
	up->l7 = l7->root;
	up->conn = c;
	up->target = target->addr;
	up->mesh = target->listener != NULL;
	TAILQ_INIT(&up->streams);
	flat_http1_begin(&up->in, FLAT_HTTP1_RESPONSE);
	TAILQ_INSERT_TAIL(&l7->root->upstreams, up, link);
	l7->root->n_upstreams++;
	c->l7_upstream = up;
	flat_l7_guard_new(up, target);
	return up;
}

/* A server at an undeclared port is spoken to as its client speaks, as in Istio. */
static int protocol_of(const struct flat_l7 *l7)
{
	const struct flat_service_port *port = l7->x.port;

	return port && port->declared ? (int)port->protocol : l7->protocol;
}

bool flat_l7_holds_content(const struct flat_l7 *l7)
{
	const struct flat_l7_upstream *up = l7->x.upstream;
	const struct flat_l7_upstream *carrier = up->carrier;

	if (!up->is_stream || !carrier)
		return up->is_stream;
	return (!carrier->heard || carrier->http1) && protocol_of(l7) == FLAT_PROTOCOL_HTTP;
}

bool flat_l7_wants_h2(const struct flat_l7 *l7)
{
	const struct flat_l7_exchange *x = &l7->x;
	int protocol = protocol_of(l7);
	if (protocol == FLAT_PROTOCOL_HTTP2 || protocol == FLAT_PROTOCOL_GRPC)
		return true;
	/* What carries gRPC, but to a server that was found not to speak it. */
	return protocol == FLAT_PROTOCOL_HTTP && x->grpc && !x->http1 &&
	       !(l7->root->http1.family && flat_addr_equal(&l7->root->http1, &x->target.addr));
}

bool flat_l7_upstream_ready(const struct flat_l7 *l7)
{
	return find_free(l7->root, &l7->x.target, flat_l7_wants_h2(l7)) != NULL;
}

struct flat_l7_upstream *flat_l7_upstream_get(struct flat_l7 *l7, int *err)
{
	const struct flat_target *target = &l7->x.target;
	bool h2 = flat_l7_wants_h2(l7);
	struct flat_l7_upstream *up = find_free(l7->root, target, h2);
	struct flat_l7_upstream *stream = NULL;
	bool made = !up;
	*err = -ENOMEM;
	if (!up) {
		evict(l7->root);
		up = upstream_new(l7, target, h2);
	}
	if (!up)
		return NULL;
	/* The one used last stands last: the first is the one to go. */
	TAILQ_REMOVE(&l7->root->upstreams, up, link);
	TAILQ_INSERT_TAIL(&l7->root->upstreams, up, link);
	if (h2) {
		if (made && flat_l7_carrier_init(up) != 0) {
			flat_l7_upstream_close(up, true);
			return NULL;
		}
		stream = flat_l7_carrier_stream(up, l7);
		if (!stream) {
			if (made)
				flat_l7_upstream_close(up, true);
			return NULL;
		}
	} else {
		up->user = l7;
	}
	flat_l7_guard_busy(up);
	*err = made ? flat_conn_upstream_open(up->conn) : 0;
	/* Open, or on its way; where it failed, it is gone, and the stream with it. */
	if (*err != 0)
		return NULL;
	return h2 ? stream : up;
}

void flat_l7_look_at_idle(struct flat_l7 *l7)
{
	struct flat_l7_upstream *up;
	struct flat_l7_upstream *next;
	int64_t now = l7->node->now_us;

	for (up = TAILQ_FIRST(&l7->upstreams); up; up = next) {
		next = TAILQ_NEXT(up, link);
		if (up->user || up->h2 || !up->open)
			continue;
		if (flat_l7_end_buffers(&up->end) == 0)
			(void)flat_l7_end_read(&up->end, 1);
		if (up->end.eof || up->end.reset || up->end.gone || up->end.len > up->end.at ||
		    flat_l7_guard_rested(up, now))
			flat_l7_upstream_close(up, up->end.len > up->end.at);
	}
}
