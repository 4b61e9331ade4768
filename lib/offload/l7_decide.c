/* Where a request goes, and what it and its answer look like on the way. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mesh/scope.h"
#include "offload/gateway.h"
#include "offload/l7_admission.h"
#include "offload/l7_check.h"
#include "offload/l7_compress.h"
#include "offload/l7_limit.h"
#include "offload/l7_observe.h"
#include "offload/l7_rate.h"

static enum flat_l7_verb answer_text(struct flat_l7_answer *a, unsigned status,
				     enum flat_record_verdict verdict, const char *text)
{
	memset(a, 0, offsetof(struct flat_l7_answer, fields));
	a->fields[0] = 0;
	a->status = (uint16_t)status;
	a->verdict = verdict;
	if (text) {
		a->body = text;
		a->len = strlen(text);
		a->type = "text/plain";
	}
	return FLAT_L7_ANSWER;
}

/* --- which service, which route --- */

static const struct flat_workload *source_of(const struct flat_l7 *l7)
{
	return l7->conn->client ? l7->conn->client->workload : NULL;
}

/* The service of a host name, if it is one with an HTTP port of the number that the client connected to. */
static const struct flat_service *
service_named(const struct flat_l7 *l7, const struct flat_scope *scope, struct flat_span host)
{
	const struct flat_service *s;
	const struct flat_service *hidden;
	const struct flat_service_port *port;
	char name[FLAT_HTTP_HOST_MAX + 1];

	memcpy(name, host.text, host.len);
	name[host.len] = 0;
	s = flat_scope_by_host(scope, name, &hidden);
	port = s ? flat_service_port(s, l7->port) : NULL;
	return port && (flat_protocol_is_http(port->protocol) || !port->declared) ? s : NULL;
}

/* As in Istio, the request's host says which service is meant; one that means nothing, the address. */
static const struct flat_virtual_service *find_virtual(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_scope scope = flat_mesh_scope(x->mesh, source_of(l7), l7->port);
	const struct flat_virtual_service *vs;

	x->service = service_named(l7, &scope, x->request.host);
	if (x->service)
		return flat_mesh_virtual_by_host(&scope, x->request.host, x->service);
	x->service = flat_mesh_service_by_host(x->mesh, l7->conn->service, NULL);
	vs = flat_mesh_virtual_by_host(&scope, x->request.host, NULL);
	if (vs || !x->service)
		return vs;
	return flat_mesh_virtual_by_host(&scope, flat_span_of(x->service->host), x->service);
}

const struct flat_route_destination *flat_l7_pick(struct flat_offload *o,
						  const struct flat_route_destination *v,
						  uint32_t n, uint64_t total, bool dry)
{
	struct flat_l7_node *node = o->l7;
	const struct flat_route_destination *best = NULL;
	int64_t most = INT64_MIN;

	/* Smooth weighted round robin, as in mesh/balance.h. */
	for (uint32_t i = 0; i < n; i++) {
		int64_t share = v[i].weight;

		if (v[i].weight == 0)
			continue;
		if (node && v[i].index < node->n_shares) {
			share += node->shares[v[i].index];
			node->shares[v[i].index] = dry ? share - v[i].weight : share;
		}
		if (!best || share > most) {
			best = &v[i];
			most = share;
		}
	}
	if (best && !dry && node && best->index < node->n_shares)
		node->shares[best->index] -= (int64_t)total;
	return best;
}

/* --- answers of our own --- */

static void put_redirect(struct flat_l7 *l7, const struct flat_http_redirect *r,
			 struct flat_l7_answer *a)
{
	(void)answer_text(a, r->status, FLAT_VERDICT_ANSWERED, NULL);
	if (!flat_l7_location(l7, r, a->fields, sizeof(a->fields)))
		(void)answer_text(a, 414, FLAT_VERDICT_MALFORMED, NULL);
	else
		a->of_route = true;
}

static bool origin_allowed(const struct flat_http_cors *cors, struct flat_span origin)
{
	for (uint32_t i = 0; i < cors->n_origins; i++) {
		const struct flat_text_match *m = &cors->origins[i];

		if ((m->kind == FLAT_TEXT_EXACT && strcmp(m->text, "*") == 0) ||
		    flat_text_matches(m, origin))
			return origin.text != NULL;
	}
	return false;
}

static bool is_preflight(const struct flat_l7_exchange *x)
{
	struct flat_span origin = flat_http_field_get(&x->request, flat_span_of("origin"), 0);

	return x->request.head->method_id == FLAT_METHOD_OPTIONS &&
	       (x->route->cors->ignore || origin_allowed(x->route->cors, origin)) && origin.text &&
	       flat_http_field_get(&x->request, flat_span_of("access-control-request-method"), 0)
		   .text;
}

static void add_line(struct flat_l7_answer *a, const char *name, const char *value)
{
	size_t len = strlen(a->fields);
	int n;

	if (!value)
		return;
	n = snprintf(a->fields + len, sizeof(a->fields) - len, "%s: %s\r\n", name, value);
	/* Whole or not at all. */
	if (n < 0 || (size_t)n >= sizeof(a->fields) - len)
		a->fields[len] = 0;
}

/* What is allowed of `name`; a star may stand for what the preflight asks for. */
static void add_allowed(const struct flat_l7_exchange *x, struct flat_l7_answer *a,
			const char *name, const char *value, const char *asked)
{
	struct flat_span wanted;
	char text[512];

	if (value && x->route->cors->echo && flat_http_list_has(flat_span_of(value), "*")) {
		wanted = flat_http_field_get(&x->request, flat_span_of(asked), 0);
		if (wanted.len >= sizeof(text))
			return;
		snprintf(text, sizeof(text), "%.*s", (int)wanted.len,
			 wanted.text ? wanted.text : "");
		value = wanted.text ? text : NULL;
	}
	add_line(a, name, value);
}

static void put_preflight(const struct flat_l7_exchange *x, struct flat_l7_answer *a)
{
	const struct flat_http_cors *cors = x->route->cors;
	struct flat_span origin = flat_http_field_get(&x->request, flat_span_of("origin"), 0);
	char text[512];

	(void)answer_text(a, 200, FLAT_VERDICT_ANSWERED, NULL);
	if (!origin_allowed(cors, origin))
		return;
	snprintf(text, sizeof(text), "%.*s", (int)flat_min_size(origin.len, 511), origin.text);
	add_line(a, "access-control-allow-origin", text);
	add_line(a, "access-control-allow-credentials", cors->credentials ? "true" : NULL);
	add_allowed(x, a, "access-control-allow-methods", cors->methods,
		    "access-control-request-method");
	add_allowed(x, a, "access-control-allow-headers", cors->headers,
		    "access-control-request-headers");
	add_line(a, "access-control-expose-headers", cors->expose);
	add_line(a, "access-control-max-age", cors->max_age);
}

/* --- deciding --- */

bool flat_l7_is_websocket(const struct flat_http_head *h, const void *text)
{
	uint32_t n = 0;

	if (!h->upgrade || h->minor == 0 || h->body == FLAT_BODY_CHUNKED || h->length > 0)
		return false;
	if (!h->response && h->method_id != FLAT_METHOD_GET)
		return false;
	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];

		if (f->id != FLAT_HTTP_UPGRADE)
			continue;
		if (++n > 1 || !flat_span_equal(flat_head_span(text, f->value, f->value_len),
						flat_span_of("websocket"), true))
			return false;
	}
	return n == 1;
}

static enum flat_l7_verb check_form(struct flat_l7 *l7, struct flat_l7_answer *a)
{
	const struct flat_http_head *h = &l7->in.head;

	if (h->form == FLAT_FORM_AUTHORITY) {
		(void)answer_text(a, 405, FLAT_VERDICT_MALFORMED, "CONNECT is not allowed");
		return FLAT_L7_ANSWER;
	}
	/* As in Envoy: OPTIONS * is about a server, and here are routes by paths. */
	if (h->form == FLAT_FORM_ASTERISK && l7->conn->gate)
		return answer_text(a, 404, FLAT_VERDICT_NO_ROUTE, NULL);
	/* As in Istio: WebSocket wherever there is HTTP, and nothing else. */
	l7->x.websocket = flat_l7_is_websocket(h, l7->end.in);
	if (!h->upgrade || l7->x.websocket)
		return FLAT_L7_GO;
	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];

		/* RFC 9113 dropped it, and it may be ignored: the request goes on as HTTP/1.1. */
		if (f->id == FLAT_HTTP_UPGRADE &&
		    !flat_http_list_has(flat_head_span(l7->end.in, f->value, f->value_len), "h2c"))
			return answer_text(a, 403, FLAT_VERDICT_MALFORMED,
					   "upgrade is not allowed");
	}
	return FLAT_L7_GO;
}

static int make_request(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_head *h = &l7->in.head;
	struct flat_http_request *r = &x->request;
	const uint8_t *text = l7->end.in;
	struct flat_span path;
	int err;

	r->head = h;
	r->text = text;
	r->method = flat_head_span(text, h->start, h->method_len);
	r->authority = flat_head_span(text, h->authority, h->authority_len);
	r->host = flat_http_host(r->authority);
	r->query = (struct flat_span){NULL, 0};
	if (h->has_query)
		r->query = flat_head_span(text, h->query, h->query_len);
	path = flat_head_span(text, h->path, h->path_len);
	if (flat_mesh_decodes_slashes(x->mesh))
		path = flat_path_decode_slashes(path, l7->node->fields);
	err = flat_path_canonical(path, l7->node->path, sizeof(l7->node->path), &r->path);
	if (err == 0 && (r->path.text == l7->node->path || r->path.text == l7->node->fields)) {
		x->path = malloc(r->path.len);
		if (!x->path)
			return -ENOMEM;
		memcpy(x->path, r->path.text, r->path.len);
		r->path.text = x->path;
	}
	return err;
}

static enum flat_l7_verb abort_by_fault(const struct flat_l7 *l7, const struct flat_http_fault *f,
					struct flat_l7_answer *a)
{
	(void)answer_text(a, f->abort_status, FLAT_VERDICT_FAULT, "fault filter abort");
	if (l7->x.grpc && f->abort_grpc >= 0)
		a->grpc = (uint8_t)(f->abort_grpc + 1);
	return FLAT_L7_ANSWER;
}

static enum flat_l7_verb apply_fault(struct flat_l7 *l7, struct flat_l7_answer *a,
				     uint32_t *delay_ms)
{
	const struct flat_http_fault *f = l7->x.route->fault;

	if (l7->phase != FLAT_L7_DELAY && f->delay_ms &&
	    flat_l7_random(l7->node, FLAT_MILLION) < f->delay_of_million) {
		*delay_ms = f->delay_ms;
		return FLAT_L7_LATER;
	}
	if (f->abort_status && flat_l7_random(l7->node, FLAT_MILLION) < f->abort_of_million)
		return abort_by_fault(l7, f, a);
	return FLAT_L7_GO;
}

static enum flat_l7_verb act(struct flat_l7 *l7, struct flat_l7_answer *a, uint32_t *delay_ms)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_route *route = x->route;
	enum flat_l7_verb verb = FLAT_L7_GO;

	if (l7->dry)
		return FLAT_L7_GO;
	if (route->cors && is_preflight(x)) {
		put_preflight(x, a);
		return FLAT_L7_ANSWER;
	}
	if (route->fault)
		verb = apply_fault(l7, a, delay_ms);
	if (verb != FLAT_L7_GO)
		return verb;
	/* Whoever must be asked is asked with the request on its way to a server. */
	if (x->gate_asks && !route->n_destinations)
		return answer_text(a, 403, FLAT_VERDICT_DENIED, "RBAC: access denied");
	if (route->redirect) {
		put_redirect(l7, route->redirect, a);
		return FLAT_L7_ANSWER;
	}
	if (route->direct) {
		(void)answer_text(a, route->direct->status, FLAT_VERDICT_ANSWERED,
				  route->direct->body);
		a->len = route->direct->len;
		a->of_route = true;
		return FLAT_L7_ANSWER;
	}
	x->destination = flat_l7_persist_destination(l7);
	return FLAT_L7_GO;
}

static enum flat_l7_verb enter_gate(struct flat_l7 *l7, struct flat_l7_answer *a,
				    struct flat_route_question *question,
				    struct flat_http_request *seen,
				    const struct flat_virtual_service **vs)
{
	static const struct flat_http_redirect secure = {.scheme = "https", .status = 301};

	switch (flat_l7_enter(l7, question, seen, vs, a)) {
	case FLAT_L7_GATE_OPEN:
		return FLAT_L7_GO;
	case FLAT_L7_GATE_SECURE:
		put_redirect(l7, &secure, a);
		return FLAT_L7_ANSWER;
	case FLAT_L7_GATE_ANSWER:
		return FLAT_L7_ANSWER;
	case FLAT_L7_GATE_ELSEWHERE:
		/* RFC 9110, 15.5.20: its client may ask again over a connection of that name. */
		return answer_text(a, 421, FLAT_VERDICT_NO_ROUTE, NULL);
	default:
		return answer_text(a, 404, FLAT_VERDICT_NO_ROUTE, NULL);
	}
}

static enum flat_l7_verb decide(struct flat_l7 *l7, struct flat_l7_answer *a, uint32_t *delay_ms)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_workload *source = source_of(l7);
	const struct flat_virtual_service *vs;
	struct flat_http_request seen;
	struct flat_route_question question = {
	    .request = &x->request, .port = l7->port, .source = source};

	/* After a delay everything but the delay is there already. */
	if (l7->phase == FLAT_L7_DELAY)
		return act(l7, a, delay_ms);
	x->mesh = flat_mesh_get(l7->node->offload->mesh);
	x->record.epoch = (uint32_t)l7->node->offload->epoch;
	x->record.source = source ? source->index + 1 : 0;
	if (l7->conn->client && l7->principal_epoch != l7->node->offload->epoch) {
		snprintf(l7->principal, sizeof(l7->principal), "%s",
			 source && source->principal ? source->principal : "");
		l7->principal_epoch = l7->node->offload->epoch;
	}
	if (check_form(l7, a) != FLAT_L7_GO)
		return FLAT_L7_ANSWER;
	if (make_request(l7) != 0)
		return answer_text(a, 400, FLAT_VERDICT_MALFORMED, NULL);
	if (l7->shadow) {
		flat_l7_shadow_decide(l7);
		return FLAT_L7_GO;
	}
	if (l7->pinned.family) {
		x->service = flat_mesh_service_by_host(x->mesh, l7->conn->service, NULL);
		x->record.service = x->service ? x->service->index + 1 : 0;
		return FLAT_L7_GO;
	}
	if (l7->conn->gate) {
		enum flat_l7_verb verb = enter_gate(l7, a, &question, &seen, &vs);
		if (verb != FLAT_L7_GO)
			return verb;
		x->virtual = vs;
	} else {
		vs = find_virtual(l7);
	}
	x->record.service = x->service ? x->service->index + 1 : 0;
	if (!vs)
		return x->service ? FLAT_L7_GO : answer_text(a, 404, FLAT_VERDICT_NO_ROUTE, NULL);
	x->route = flat_route_find(vs, &question, &x->match);
	if (!x->route)
		return answer_text(a, 404, FLAT_VERDICT_NO_ROUTE, NULL);
	x->record.route = x->route->index + 1;
	if (l7->node->hedges)
		x->hedge = flat_l7_hedge_of(l7, source, l7->conn->gate ? vs : NULL);
	return act(l7, a, delay_ms);
}

enum flat_l7_verb flat_l7_decide(struct flat_l7 *l7, struct flat_l7_answer *a, uint32_t *delay_ms)
{
	enum flat_l7_verb verb = decide(l7, a, delay_ms);

	if (l7->node->observes && !l7->dry && !l7->x.observed)
		flat_l7_observe_begin(l7);
	if (verb == FLAT_L7_GO && l7->node->admits && !l7->dry && !flat_l7_admit_client(l7, a))
		return FLAT_L7_ANSWER;
	return verb;
}

/* --- one attempt: what is sent --- */

/*
 * What proxies say to each other is not a client's to say: as Envoy does at its edge. Nor is what takes the place of the gateway's own
 * fields at servers that hand fields over as variables.
 */
bool flat_l7_from_outside(const struct flat_l7 *l7, struct flat_span name)
{
	static const char own[] = "x-envoy-";
	size_t len = sizeof(own) - 1;

	if (!l7->conn->gate)
		return false;
	if (memchr(name.text, '_', name.len) &&
	    (flat_http_name_alike(name, flat_span_of("x-forwarded-for")) ||
	     flat_http_name_alike(name, flat_span_of("x-forwarded-proto"))))
		return true;
	return name.len > len &&
	       flat_http_name_alike((struct flat_span){name.text, len}, flat_span_of(own));
}

/* Servers that know the word in small letters alone would take what follows for another message. */
static struct flat_span said(const struct flat_http_field *f, struct flat_span value)
{
	return f->id == FLAT_HTTP_TRANSFER_ENCODING ? flat_span_of("chunked") : value;
}

static void put_request_fields(const struct flat_l7 *l7, const struct flat_l7_ops *ops,
			       struct flat_http1_out *out)
{
	const struct flat_http_head *h = &l7->in.head;
	const char *authority = flat_l7_authority(l7);
	bool connection = false;

	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(l7->end.in, f->name, f->name_len);
		struct flat_span value = flat_head_span(l7->end.in, f->value, f->value_len);

		if (f->id == FLAT_HTTP_CONNECTION && !connection) {
			/* The client's wish, and no more of it: what it sends next comes elsewhere anyway. */
			connection = true;
			if (!l7->x.websocket && (h->says_close || h->says_keep_alive))
				flat_http1_put_field(
				    out, name,
				    flat_span_of(h->says_close ? "close" : "keep-alive"));
			continue;
		}
		if (f->hidden || flat_l7_ops_drop(ops, name) || flat_l7_from_outside(l7, name))
			continue;
		if (f->id == FLAT_HTTP_HOST && authority)
			value = flat_span_of(authority);
		flat_http1_put_field(out, name, said(f, value));
	}
	flat_l7_ops_put(l7, ops, 0, out);
	if (l7->x.websocket)
		flat_http1_puts(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
	flat_http1_put(out, "\r\n", 2);
}

/* Writes the head into node->head. 0, or -EMSGSIZE, -EBADMSG. */
static int write_head(struct flat_l7 *l7, const struct flat_l7_ops *ops, size_t *len)
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_node *node = l7->node;
	struct flat_http1_out out = {.bytes = node->head, .size = sizeof(node->head)};
	struct flat_span path;
	int err = flat_l7_rewrite_path(l7, &path);

	if (err != 0)
		return err;
	flat_http1_put(&out, x->request.method.text, x->request.method.len);
	flat_http1_put(&out, " ", 1);
	flat_http1_put(&out, path.text, path.len);
	if (x->request.query.text) {
		flat_http1_put(&out, "?", 1);
		flat_http1_put(&out, x->request.query.text, x->request.query.len);
	}
	flat_http1_puts(&out, l7->in.head.minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
	put_request_fields(l7, ops, &out);
	*len = out.len;
	return out.full ? -EMSGSIZE : 0;
}

/* What was changed is read again, so that policies see what the server will. */
int flat_l7_read_again(struct flat_l7 *l7, size_t len, struct flat_http_request *r)
{
	struct flat_l7_node *node = l7->node;
	const struct flat_http_head *h = &node->scratch.head;

	flat_http1_begin(&node->scratch, FLAT_HTTP1_REQUEST);
	if (flat_http1_read(&node->scratch, node->head, len) != (int)len)
		return -EBADMSG;
	r->head = h;
	r->text = node->head;
	r->method = flat_head_span(node->head, h->start, h->method_len);
	r->authority = flat_head_span(node->head, h->authority, h->authority_len);
	r->host = flat_http_host(r->authority);
	r->query = (struct flat_span){NULL, 0};
	if (h->has_query)
		r->query = flat_head_span(node->head, h->query, h->query_len);
	return flat_path_canonical(flat_head_span(node->head, h->path, h->path_len), node->path,
				   sizeof(node->path), &r->path);
}

/* The head that was asked about, where it is the one to be sent, and not only what that one means. */
static void note_sent(struct flat_l7_exchange *x, const struct flat_http_request *request)
{
	bool as_it_came = request->head == x->request.head;

	x->sent = NULL;
	x->sent_text = request->text;
	/* Another spelling of its path is what is sent. */
	if (!as_it_came || (request->head->form == FLAT_FORM_ORIGIN && !x->path && !x->websocket))
		x->sent = request->head;
}

/* The head goes to a stream, from what was read of it: nobody is to read its text, unless a policy changes it. */
static bool goes_as_it_came(const struct flat_l7 *l7, const struct flat_l7_ops *ops)
{
	const struct flat_l7_exchange *x = &l7->x;

	return l7->in.head.form == FLAT_FORM_ORIGIN && !x->path && !x->websocket && !l7->shadow &&
	       !l7->dry && !l7->conn->gate && !(x->route && x->route->rewrite) &&
	       !flat_l7_ops_any(ops) && flat_l7_wants_h2(l7);
}

int flat_l7_head_text(struct flat_l7 *l7, size_t *len)
{
	struct flat_l7_ops none = {.one_list = false};

	if (!l7->x.unwritten)
		return 0;
	l7->x.unwritten = false;
	return write_head(l7, &none, len);
}

/*
 * What a gateway took away of a request, changed and added is so in its copies too. Without memory for it there is none: what a client
 * wrote goes nowhere as it came.
 */
static void note_passed(struct flat_l7 *l7, size_t len)
{
	struct flat_l7_exchange *x = &l7->x;

	if (l7->dry || x->probing || !x->route || x->route->n_mirrors == 0)
		return;
	free(x->passed);
	x->passed = malloc(len);
	x->passed_len = len;
	if (x->passed)
		memcpy(x->passed, l7->node->head, len);
}

static enum flat_l7_verb try_once(struct flat_l7 *l7, struct flat_l7_answer *a, size_t *len)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_ops ops = {.one_list = false};
	struct flat_http_request request = x->request;
	struct flat_l7_gate_fields fields;
	int err = flat_l7_target(l7);

	if (err != 0 && x->destination && x->destination->fails &&
	    (!x->destination->service || !x->port))
		return answer_text(a, 500, FLAT_VERDICT_NO_HOST, NULL);
	if (err != 0)
		return answer_text(a, 503, FLAT_VERDICT_NO_HOST, "no healthy upstream");
	if (!l7->dry)
		flat_l7_join(l7);
	if (!l7->shadow || !flat_l7_shadow_is_passed(l7->shadow))
		ops = flat_l7_ops_of(x, false);
	if (l7->conn->gate && flat_l7_gate_fields(l7, &fields))
		ops.v[2] = &fields.ops;
	else if (l7->conn->gate)
		return answer_text(a, 431, FLAT_VERDICT_MALFORMED, NULL);
	if (x->observed)
		ops.v[3] = &x->observed->ops;
	if (l7->node->compresses)
		ops.v[4] = flat_l7_compress_request(l7);
	*len = x->head_len;
	x->unwritten = goes_as_it_came(l7, &ops);
	if (!x->unwritten)
		err = write_head(l7, &ops, len);
	if (err == 0 && (l7->shadow || (x->route && x->route->rewrite) || flat_l7_ops_any(&ops)))
		err = flat_l7_read_again(l7, *len, &request);
	if (err != 0)
		return answer_text(a, 431, FLAT_VERDICT_MALFORMED, NULL);
	if (l7->conn->gate) {
		enum flat_l7_verb verb = flat_l7_gate_pass(l7, &request, len, a);
		if (verb != FLAT_L7_GO)
			return verb;
		note_passed(l7, *len);
	}
	/* A server outside the mesh has no policies here: it asks for itself. */
	if (x->target.listener) {
		enum flat_l7_verb verb = flat_l7_mandatory(l7, &request, len, a);
		if (verb != FLAT_L7_GO)
			return verb;
	}
	note_sent(x, &request);
	return FLAT_L7_GO;
}

enum flat_l7_verb flat_l7_attempt(struct flat_l7 *l7, struct flat_l7_answer *a, size_t *len)
{
	struct flat_l7_exchange *x = &l7->x;
	enum flat_l7_verb verb;

	/* Whoever is asked is asked about one server: its turn is used up once, and the answer is about it. */
	x->probing = l7->node->asks && !x->settled && !l7->dry;
	verb = try_once(l7, a, len);
	if (verb == FLAT_L7_LATER)
		flat_l7_target_stay(l7);
	if (!x->probing || verb != FLAT_L7_GO)
		return verb;
	x->probing = false;
	x->settled = true;
	return try_once(l7, a, len);
}

/* --- the answer on its way back --- */

static void put_cors(const struct flat_l7_exchange *x, struct flat_http1_out *out)
{
	const struct flat_http_cors *cors = x->route->cors;
	struct flat_span origin = flat_http_field_get(&x->request, flat_span_of("origin"), 0);

	flat_http1_put_field(out, flat_span_of("access-control-allow-origin"), origin);
	if (cors->credentials)
		flat_http1_put_field(out, flat_span_of("access-control-allow-credentials"),
				     flat_span_of("true"));
	if (cors->expose)
		flat_http1_put_field(out, flat_span_of("access-control-expose-headers"),
				     flat_span_of(cors->expose));
}

/* Whether its answer says that another origin may see it. */
static bool is_shared(const struct flat_l7_exchange *x)
{
	const struct flat_http_cors *cors = x->route ? x->route->cors : NULL;

	return cors &&
	       origin_allowed(cors, flat_http_field_get(&x->request, flat_span_of("origin"), 0));
}

/* What the route says takes the place of what the server says. */
static bool is_cors(struct flat_span name)
{
	return flat_span_equal(name, flat_span_of("access-control-allow-origin"), true) ||
	       flat_span_equal(name, flat_span_of("access-control-allow-credentials"), true) ||
	       flat_span_equal(name, flat_span_of("access-control-expose-headers"), true);
}

/* Whether it goes to a stream as it came: nothing is added or taken away. */
static bool is_plain(const struct flat_l7 *l7, const struct flat_http_head *h)
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_ops ops = flat_l7_ops_of(x, true);

	if (h->status < 200 || flat_l7_ops_any(&ops) || x->observed || x->limit.max ||
	    x->cookie[0] || x->persist.by || x->rates || x->gzip || x->vary)
		return false;
	for (size_t i = 0; i < FLAT_L7_CHECKS; i++) {
		if (x->check[i])
			return false;
	}
	return !x->route || !x->route->cors;
}

static bool is_of_chunks(const struct flat_http_field *f)
{
	return f->id == FLAT_HTTP_TRANSFER_ENCODING || f->id == FLAT_HTTP_TRAILER;
}

/* False: it does not fit. */
static bool write_response(struct flat_l7 *l7, const struct flat_http_head *h, const void *text,
			   struct flat_http1_out *out)
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_ops ops = flat_l7_ops_of(x, true);
	bool interim = h->status < 200;
	bool connection = interim;
	bool cors = !interim && is_shared(x);
	size_t before = out->len;

	if (!interim && x->observed)
		flat_l7_observe_response(l7, h, text);
	if (interim)
		ops = (struct flat_l7_ops){.one_list = false};
	flat_http1_put_status_line(out, h->status, flat_head_span(text, h->reason, h->reason_len));
	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(text, f->name, f->name_len);

		if (f->id == FLAT_HTTP_CONNECTION && !connection &&
		    (x->close || h->says_keep_alive)) {
			connection = true;
			flat_http1_put_field(out, name,
					     flat_span_of(x->close ? "close" : "keep-alive"));
		}
		struct flat_span value = flat_head_span(text, f->value, f->value_len);
		if (f->hidden || flat_l7_ops_drop(&ops, name) || (cors && is_cors(name)) ||
		    flat_l7_persist_drops(x, name) || (!interim && flat_l7_check_takes(x, name)) ||
		    (l7->end.bare && is_of_chunks(f)) ||
		    (x->gzip && flat_l7_compress_drops(f, name, value)))
			continue;
		flat_http1_put_field(out, name, said(f, value));
	}
	flat_l7_ops_put(l7, &ops, h->status, out);
	for (size_t i = 0; i < FLAT_L7_CHECKS && !interim; i++)
		flat_l7_check_put(x->check[i], h, text, out);
	if (cors)
		put_cors(x, out);
	if (!interim && x->traffic.lb)
		flat_l7_put_cookie(x, out);
	if (!interim && x->persist.by)
		flat_l7_persist_put(l7, out);
	if (!interim && x->limit.max)
		flat_l7_limit_put(x, out);
	if (x->gzip || x->vary)
		flat_l7_compress_put(l7, h, text, out);
	if (!interim && x->rates)
		flat_l7_rate_put(x->rates, out);
	if (h->status == 101)
		flat_http1_puts(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
	else if (!connection && x->close)
		flat_http1_puts(out, "Connection: close\r\n");
	flat_http1_put(out, "\r\n", 2);
	l7->x.down_head = (uint32_t)(out->len - before);
	return !out->full;
}

bool flat_l7_response_put(struct flat_l7 *l7, struct flat_l7_upstream *up, size_t n)
{
	struct flat_l7_end *e = &l7->end;
	struct flat_http1_out out = {.size = flat_l7_end_room(e)};
	const uint8_t *text = up->end.in + up->end.at;

	if (e->stream && is_plain(l7, &up->in.head) && flat_l7_end_head(e, &up->in.head, text, n)) {
		l7->x.down_head = (uint32_t)n;
		up->end.at += n;
		return true;
	}
	out.bytes = e->out + e->out_len;
	if (!write_response(l7, &up->in.head, text, &out))
		return false;
	e->out_len += out.len;
	up->end.at += n;
	return true;
}
