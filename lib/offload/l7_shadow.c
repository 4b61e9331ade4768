/*
 * Mirrors: a request that was sent goes to further servers too, and nobody waits for what they say. Each copy is a client's
 * connection that is none: it has one request to give, by the same route, and drops the answer. So servers, policies,
 * protocols and times are those of any request. Copies belong to the node: they outlive the client.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/admit.h"
#include "offload/l7_engine.h"

struct flat_l7_shadow {
	struct flat_mesh *mesh; /* a reference: of the route */
	const struct flat_http_route *route;
	const struct flat_http_match *match;
	struct flat_route_destination destination;
	const struct flat_workload *client;
	struct flat_ip remote;
	bool passed; /* the head is as a gateway let it pass: nothing is to be done to it */
	char host[FLAT_HTTP_HOST_MAX + 16];
	size_t len;
	uint8_t bytes[]; /* the request, until it starts */
};

/* The request's own, as Istio has it since 1.28 (DISABLE_SHADOW_HOST_SUFFIX): Envoy by itself puts "-shadow" behind it. */
static void name_host(const struct flat_l7 *l7, char *out, size_t size)
{
	const char *own = flat_l7_authority(l7);
	struct flat_span host = own ? flat_span_of(own) : l7->x.request.authority;

	snprintf(out, size, "%.*s", (int)host.len, host.text);
}

static struct flat_l7_shadow *make(const struct flat_l7 *l7, const struct flat_http_mirror *mirror)
{
	const struct flat_l7_exchange *x = &l7->x;
	const bool gate = l7->conn->gate != NULL;
	size_t skip = gate ? x->head_len : 0;
	size_t len = l7->end.at - skip;
	struct flat_l7_shadow *s;

	if (gate && !x->passed)
		return NULL;
	s = malloc(sizeof(*s) + x->passed_len + len);
	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	s->mesh = flat_mesh_get(x->mesh);
	s->route = x->route;
	s->match = x->match;
	s->destination = mirror->to;
	/* What the one that answers is told, as in Envoy. */
	if (x->destination)
		s->destination.request = x->destination->request;
	s->client = l7->conn->client ? l7->conn->client->workload : x->client;
	s->remote = x->remote;
	name_host(l7, s->host, sizeof(s->host));
	s->passed = gate;
	if (gate)
		memcpy(s->bytes, x->passed, x->passed_len);
	memcpy(s->bytes + x->passed_len, l7->end.in + skip, len);
	s->len = x->passed_len + len;
	return s;
}

static void drop(struct flat_l7_shadow *s)
{
	flat_mesh_put(s->mesh);
	free(s);
}

static int name(struct flat_conn *c, const struct flat_conn *from)
{
	char text[96];
	snprintf(text, sizeof(text), "mirror of %.80s", from->client_name);
	int err = flat_conn_text(&c->client_name, text);
	return err != 0 ? err : flat_conn_text(&c->service, from->service);
}

static bool launch(struct flat_l7 *l7, const struct flat_http_mirror *mirror)
{
	const struct flat_conn *from = l7->conn;
	struct flat_decision d = {
	    .path = FLAT_CONN_FORWARDED, .l7 = true, .to = from->to, .target = from->target};
	struct flat_l7_shadow *s = make(l7, mirror);
	struct flat_conn *c = s ? flat_conn_new(from->offload, NULL, &d) : NULL;

	if (c) {
		c->from = from->from;
		c->series = NULL;
		/* To other hosts it goes as the original would. */
		c->gated = from->gate || from->gated;
		if (from->client && from->client->workload)
			c->speaker = strdup(from->client->workload->principal);
		/* Nobody without an identity, but one whose identity is known to be this. */
		c->principal = strdup(l7->principal);
	}
	if (!c || !c->principal || name(c, from) != 0 || flat_l7_attach(c, &d) != 0) {
		if (c)
			flat_conn_destroy(c);
		if (s)
			drop(s);
		return false;
	}
	c->l7->port = l7->port;
	c->l7->protocol = l7->protocol;
	c->l7->shadow = s;
	l7->node->n_shadows++;
	flat_conn_open(c);
	return true;
}

void flat_l7_mirror(struct flat_l7 *l7, bool whole)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_node *node = l7->node;

	if (!x->route || x->route->n_mirrors == 0 || x->mirrored || l7->shadow || x->websocket)
		return;
	x->mirrored = true;
	for (uint32_t i = 0; i < x->route->n_mirrors; i++) {
		const struct flat_http_mirror *m = &x->route->mirrors[i];

		if (flat_l7_random(node, FLAT_MILLION) >= m->of_million)
			continue;
		if (whole && node->n_shadows < FLAT_L7_SHADOWS_MAX && launch(l7, m))
			node->mirrored++;
		else
			node->unmirrored++;
	}
}

int flat_l7_shadow_start(struct flat_l7 *l7)
{
	const struct flat_l7_shadow *s = l7->shadow;

	if (flat_l7_end_sink(&l7->end, s->bytes, s->len) != 0)
		return -ENOMEM;
	flat_l7_heat(l7);
	return 0;
}

void flat_l7_shadow_decide(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_l7_shadow *s = l7->shadow;

	flat_mesh_put(x->mesh);
	x->mesh = flat_mesh_get(s->mesh);
	x->route = s->route;
	x->match = s->match;
	x->destination = &s->destination;
	x->client = s->client;
	x->remote = s->remote;
	x->record.route = s->route->index + 1;
	x->record.source = s->client ? s->client->index + 1 : 0;
}

const char *flat_l7_shadow_host(const struct flat_l7_shadow *s)
{
	return s->host;
}

bool flat_l7_shadow_is_passed(const struct flat_l7_shadow *s)
{
	return s->passed;
}

void flat_l7_shadow_free(struct flat_l7 *l7)
{
	if (!l7->shadow)
		return;
	l7->node->n_shadows--;
	drop(l7->shadow);
	l7->shadow = NULL;
}
