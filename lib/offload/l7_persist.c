/* Session persistence of requests (mesh/persist.h): what a client shows, where that takes it, what it is given. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "offload/gateway.h"
#include "offload/l7_engine.h"

/* Values of one name that are looked at: a client that sends more of them is not remembered. */
#define VALUES_MAX 8U

static uint32_t now_s(void)
{
	return (uint32_t)time(NULL);
}

/* --- a request --- */

void flat_l7_persist_begin(struct flat_l7 *l7, const struct flat_persistence *p)
{
	const struct flat_http_request *r = &l7->x.request;
	struct flat_l7_persist *x = &l7->x.persist;

	if (x->by || l7->dry)
		return;
	x->by = p;
	for (uint32_t i = 0; i < VALUES_MAX && !x->kept; i++) {
		struct flat_span value = p->header
					     ? flat_http_field_get(r, flat_span_of(p->name), i)
					     : flat_l7_cookie(r, p->name, i);

		if (!value.text)
			return;
		x->kept =
		    flat_persist_read(l7->node->offload->persist_key, p, value, now_s(), &x->token);
	}
}

static uint64_t tag_of(const struct flat_l7 *l7, const struct flat_service *service,
		       const struct flat_service_port *port, const char *subset)
{
	return flat_persist_destination(l7->node->offload->persist_key, service->host, port->number,
					subset ? subset : "");
}

/* Weights do not count: a session goes on where it began, also at a destination that new ones do not come to. */
static const struct flat_route_destination *destination_of(const struct flat_l7 *l7)
{
	const struct flat_http_route *route = l7->x.route;

	for (uint32_t i = 0; i < route->n_destinations; i++) {
		const struct flat_route_destination *d = &route->destinations[i];
		const struct flat_service_port *port =
		    d->service ? flat_route_port(d->service, d->port, l7->port) : NULL;

		if (port && (uint32_t)tag_of(l7, d->service, port, d->subset_name) ==
				l7->x.persist.token.destination)
			return d;
	}
	return NULL;
}

static const struct flat_route_destination *pick(struct flat_l7 *l7)
{
	const struct flat_http_route *route = l7->x.route;

	return flat_l7_pick(l7->node->offload, route->destinations, route->n_destinations,
			    route->weight, false);
}

const struct flat_route_destination *flat_l7_persist_destination(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_route_destination *d = NULL;

	if (!x->route->persistence)
		return pick(l7);
	flat_l7_persist_begin(l7, x->route->persistence);
	if (x->persist.kept)
		d = destination_of(l7);
	x->persist.kept = d != NULL;
	return d ? d : pick(l7);
}

bool flat_l7_persist_lost(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;

	if (!x->persist.kept)
		return false;
	x->persist.kept = false;
	/* Of the destination that is left. */
	x->cookie[0] = 0;
	if (x->route && x->persist.by == x->route->persistence)
		x->destination = pick(l7);
	return true;
}

/* --- its answer --- */

/* Of a regular expression what every path that it holds for begins with, in whole segments. */
static size_t literal_path(const char *text)
{
	size_t len = strcspn(text, "\\.[](){}*+?|^$");

	if (strchr(text, '|'))
		return 0;
	/* The last segment goes on with what is no literal. */
	while (len > 0 && text[len] != '/')
		len--;
	return len;
}

/* The path that was matched (GEP-1619, "Path"): other rules' requests do not show the cookie. */
static struct flat_span cookie_path(const struct flat_l7_exchange *x)
{
	const struct flat_text_match *m = x->match ? x->match->uri : NULL;
	struct flat_span path = flat_span_of("/");
	size_t len;

	if (x->persist.by->path)
		return flat_span_of(x->persist.by->path);
	if (!m || !m->text)
		return path;
	len = m->kind == FLAT_TEXT_REGEX ? literal_path(m->text) : m->len;
	/* What ends an attribute (RFC 6265, 4.1.1) stands in no path that is written. */
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)m->text[i] < ' ' || m->text[i] == ';' || m->text[i] == 0x7f)
			return path;
	}
	return len ? (struct flat_span){m->text, len} : path;
}

static void put_cookie(const struct flat_l7 *l7, const char *value, uint32_t made_s, uint32_t at_s,
		       struct flat_http1_out *out)
{
	const struct flat_persistence *p = l7->x.persist.by;
	struct flat_span path = cookie_path(&l7->x);
	uint32_t age = at_s > made_s ? at_s - made_s : 0;
	char text[32];

	flat_http1_puts(out, "set-cookie: ");
	flat_http1_puts(out, p->name);
	flat_http1_puts(out, "=");
	flat_http1_puts(out, value);
	if (p->permanent) {
		snprintf(text, sizeof(text), "; Max-Age=%u",
			 age < p->absolute_s ? p->absolute_s - age : 1);
		flat_http1_puts(out, text);
	}
	flat_http1_puts(out, "; Path=");
	flat_http1_put(out, path.text, path.len);
	flat_http1_puts(out, "; HttpOnly");
	/* A link on another site's page is to find its session: the token opens nothing, so Lax and not Strict. */
	if (l7->x.route && p == l7->x.route->persistence)
		flat_http1_puts(out, "; SameSite=Lax");
	if (l7->conn->gate && l7->conn->gate->tls)
		flat_http1_puts(out, "; Secure");
	flat_http1_puts(out, "\r\n");
}

void flat_l7_persist_put(const struct flat_l7 *l7, struct flat_http1_out *out)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_persistence *p = x->persist.by;
	const uint8_t *key = l7->node->offload->persist_key;
	struct flat_persist_token token = {.seen_s = p->idle_s ? now_s() : 0};
	char value[FLAT_PERSIST_TOKEN_CHARS + 1];
	uint64_t destination;

	/* Who shows what holds is told nothing new, but for the time. */
	if ((x->persist.kept && !p->idle_s) || !x->service || !x->port)
		return;
	token.made_s = x->persist.kept ? x->persist.token.made_s : p->absolute_s ? now_s() : 0;
	destination =
	    tag_of(l7, x->service, x->port, x->destination ? x->destination->subset_name : NULL);
	token.destination = (uint32_t)destination;
	token.endpoint = flat_persist_endpoint(key, destination, &x->target.addr);
	flat_persist_write(key, p, &token, value);
	if (!p->header) {
		put_cookie(l7, value, token.made_s, now_s(), out);
		return;
	}
	flat_http1_put_field(out, flat_span_of(p->name), flat_span_of(value));
}

bool flat_l7_persist_drops(const struct flat_l7_exchange *x, struct flat_span name)
{
	const struct flat_persistence *p = x->persist.by;

	return p && p->header && flat_span_equal(flat_span_of(p->name), name, true);
}
