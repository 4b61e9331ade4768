#include "offload/l7_observe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/gateway.h"
#include "offload/l7_mandatory.h"

struct flat_l7_observer {
	struct flat_log_files *files;
	/* By provider of the mesh in force; NULL: it has no file. */
	struct flat_log_file **by_provider;
	struct flat_access_headers wanted;
	struct flat_strbuf line;
	char hostname[256];
	uint64_t seed[2]; /* of ids: another in each flatd */
};

/* --- the node --- */

int flat_l7_observe_init(struct flat_l7_node *node)
{
	struct flat_l7_observer *o = calloc(1, sizeof(*o));

	if (!o)
		return -ENOMEM;
	node->observer = o;
	o->files = flat_log_files_new();
	if (!o->files || flat_l7_traces_init(node) != 0)
		return -ENOMEM;
	if (gethostname(o->hostname, sizeof(o->hostname) - 1) != 0)
		o->hostname[0] = 0;
	if (getrandom(o->seed, sizeof(o->seed), 0) != (ssize_t)sizeof(o->seed))
		o->seed[0] = node->random;
	return 0;
}

void flat_l7_observe_fini(struct flat_l7_node *node)
{
	struct flat_l7_observer *o = node->observer;

	if (!o)
		return;
	flat_l7_traces_fini(node);
	flat_log_files_free(o->files);
	for (uint32_t i = 0; i < o->wanted.n; i++)
		free((char *)(uintptr_t)o->wanted.name[i]);
	free(o->by_provider);
	flat_strbuf_fini(&o->line);
	free(o);
	node->observer = NULL;
}

struct flat_log_file *flat_l7_observe_file(struct flat_l7_node *node, const char *path)
{
	return flat_log_file_get(node->observer->files, path);
}

void flat_l7_observe_reopen(struct flat_l7_node *node)
{
	flat_log_files_reopen(node->observer->files);
}

static void want_keys(void *arg, const struct flat_cel *cel)
{
	flat_access_want_keys(arg, cel);
}

void flat_l7_observe_reloaded(struct flat_l7_node *node)
{
	struct flat_l7_observer *o = node->observer;
	const struct flat_mesh *mesh = node->offload->mesh;
	uint32_t n = flat_mesh_n_telemetry_providers(mesh);

	node->observes = flat_mesh_observes(mesh);
	free(o->by_provider);
	o->by_provider = NULL;
	if (!node->observes)
		return;
	o->by_provider = calloc((size_t)n + 1, sizeof(*o->by_provider));
	/* Files are opened when there is something to write: most providers are nobody's. */
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_telemetry_provider *p = flat_mesh_telemetry_provider(mesh, i);

		if (p->kind == FLAT_PROVIDER_FILE_LOG)
			flat_access_want(&o->wanted, p->format);
	}
	flat_mesh_each_expression(mesh, want_keys, &o->wanted);
}

/* splitmix64 of a counter that nobody else has: ids want to be unlike, and are no secrets. */
uint64_t flat_l7_observe_id(struct flat_l7_node *node)
{
	struct flat_l7_observer *o = node->observer;
	uint64_t z = o->seed[0] += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return (z ^ (z >> 31)) ^ o->seed[1];
}

/* RFC 9562, version 4. */
static void make_uuid(struct flat_l7_node *node, char text[37])
{
	uint64_t a = flat_l7_observe_id(node);
	uint64_t b = flat_l7_observe_id(node);

	snprintf(text, 37, "%08" PRIx32 "-%04x-4%03x-%04x-%012" PRIx64, (uint32_t)(a >> 32),
		 (unsigned)(a >> 16) & 0xffffU, (unsigned)a & 0xfffU,
		 ((unsigned)(b >> 48) & 0x3fffU) | 0x8000U, (uint64_t)(b & 0xffffffffffffULL));
}

/* --- a request --- */

static bool wants(const struct flat_observation *o)
{
	return o->n_logs > 0 || o->trace;
}

static void add_request_id(struct flat_l7 *l7, struct flat_l7_observed *o)
{
	if (!flat_mesh_tells(o->mesh))
		return;
	/* One from outside the mesh is not believed, as in Istio's gateways. */
	if (!l7->conn->gate &&
	    flat_http_field_get(&l7->x.request, flat_span_of("x-request-id"), 0).text)
		return;
	make_uuid(l7->node, o->request_id);
	o->set[0] = (struct flat_name_value){.name = "x-request-id", .value = o->request_id};
	o->ops = (struct flat_header_ops){.set = o->set, .n_set = 1};
}

static struct flat_l7_observed *make_observed(struct flat_l7 *l7)
{
	struct flat_l7_observed *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->mesh = flat_mesh_get(l7->node->offload->mesh);
	o->client = o->server = flat_mesh_observation(o->mesh, NULL, FLAT_MODE_CLIENT);
	o->wanted = l7->node->observer->wanted;
	return o;
}

void flat_l7_observe_begin(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_observed *o = x->observed ? x->observed : make_observed(l7);

	if (!o)
		return;
	x->observed = o;
	/* Both are of the mesh in force: the gateway's was found in it just now. */
	o->client_workload = l7->conn->client ? l7->conn->client->workload : x->client;
	if (o->client_workload)
		o->client = flat_mesh_observation(o->mesh, o->client_workload, FLAT_MODE_CLIENT);
	if (x->request.head && !o->request_id[0])
		add_request_id(l7, o);
	flat_l7_trace_client(l7, o);
}

void flat_l7_observe_target(struct flat_l7 *l7)
{
	struct flat_l7_observed *o = l7->x.observed;
	const struct flat_listener *listener = l7->x.target.listener;

	o->attempt_us = flat_now_us();
	/* Where a reload came between, its listeners' workloads are another mesh's. */
	if (o->mesh == l7->node->offload->mesh && listener) {
		o->server_workload = listener->session->workload;
		o->server = flat_mesh_observation(o->mesh, o->server_workload, FLAT_MODE_SERVER);
	}
	flat_l7_trace_server(l7, o);
}

void flat_l7_observe_response(struct flat_l7 *l7, const struct flat_http_head *head,
			      const void *text)
{
	struct flat_l7_observed *o = l7->x.observed;
	size_t len = 0;

	o->response_us = flat_now_us();
	memset(o->response, 0, sizeof(o->response));
	for (uint32_t i = 0; i < o->wanted.n; i++) {
		struct flat_span s = flat_head_field(head, text, flat_span_of(o->wanted.name[i]));

		if (!s.text)
			continue;
		if (!o->bytes)
			o->bytes = malloc(FLAT_OBSERVED_BYTES_MAX);
		s.len = flat_min_size(s.len, FLAT_OBSERVED_BYTES_MAX - len);
		if (!o->bytes)
			return;
		memcpy(o->bytes + len, s.text, s.len);
		o->response[i] = (struct flat_span){o->bytes + len, s.len};
		len += s.len;
	}
}

void flat_l7_observed_free(struct flat_l7_observed *o)
{
	if (!o)
		return;
	flat_mesh_put(o->mesh);
	free(o->bytes);
	free(o);
}

/* --- lines --- */

static int64_t wall_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static struct flat_log_file *file_of(struct flat_l7_node *node, const struct flat_mesh *mesh,
				     const struct flat_telemetry_provider *p)
{
	struct flat_l7_observer *o = node->observer;

	if (mesh != node->offload->mesh || !o->by_provider)
		return flat_log_file_find(o->files, p->path);
	if (!o->by_provider[p->index])
		o->by_provider[p->index] = flat_log_file_get(o->files, p->path);
	return o->by_provider[p->index];
}

/* One line for each provider, whichever side asks for it: the client's side tells it where both do. */
static void write_lines(struct flat_l7_node *node, const struct flat_mesh *mesh,
			const struct flat_observation *client,
			const struct flat_observation *server, struct flat_access *a)
{
	struct flat_strbuf *line = &node->observer->line;

	for (uint32_t i = 0; i < client->n_logs + server->n_logs; i++) {
		bool inbound = i >= client->n_logs;
		const struct flat_log_rule *rule =
		    inbound ? &server->logs[i - client->n_logs] : &client->logs[i];
		struct flat_log_file *file;
		bool told = false;

		for (uint32_t k = 0; inbound && k < client->n_logs; k++)
			told |= client->logs[k].provider == rule->provider;
		a->inbound = inbound;
		if (told || !flat_access_passes(rule->filter, a))
			continue;
		file = file_of(node, mesh, rule->provider);
		if (!file)
			continue;
		flat_strbuf_reset(line);
		flat_access_write(rule->provider->format, a, line);
		if (flat_strbuf_str(line))
			flat_log_file_put(file, line->data, line->len);
	}
}

static const char *protocol_of(const struct flat_l7 *l7)
{
	if (l7->x.head_len == 0)
		return NULL;
	if (l7 != l7->root)
		return "HTTP/2";
	return l7->in.head.minor ? "HTTP/1.1" : "HTTP/1.0";
}

void flat_l7_observe_access(const struct flat_l7 *l7, const struct flat_l7_observed *o,
			    struct flat_access *a, char trace_id[33])
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_conn *c = l7->conn;
	int64_t now = flat_now_us();
	int64_t start = x->start_us ? x->start_us : now;

	flat_trace_hex(o->trace.id, 16, trace_id);
	*a = (struct flat_access){
	    .request = x->request.head ? &x->request : NULL,
	    .wanted = &o->wanted,
	    .response = o->response,
	    .protocol = protocol_of(l7),
	    .status = x->record.status,
	    .grpc = x->grpc ? x->grpc_status : -1,
	    .flags = flat_verdict_flags((enum flat_record_verdict)x->record.verdict),
	    .details = flat_access_details(x->record.verdict, x->record.status),
	    .received = x->up_bytes,
	    .sent = x->down_bytes,
	    .start_us = wall_us() - (now - start),
	    .duration_us = now - start,
	    .response_us = o->response_us ? o->response_us - start : -1,
	    .service_us = o->response_us && o->attempt_us ? o->response_us - o->attempt_us : -1,
	    .server = x->target.addr,
	    .local = c->to,
	    .client = c->from,
	    .service = x->service ? x->service->host : NULL,
	    .service_port = x->port ? x->port->number : l7->port,
	    .subset = x->destination ? x->destination->subset_name : NULL,
	    .sni = c->gate && c->gate->tls ? flat_tls_host(c->gate->tls) : NULL,
	    .route = x->route ? x->route->name : "default",
	    .trace_id = o->traced ? trace_id : NULL,
	    .request_id = flat_span_of(o->request_id[0] ? o->request_id : NULL),
	    .hostname = l7->node->observer->hostname,
	    .connection = c->id,
	    .attempts = o->attempt_us ? x->record.attempt + 1 : 0,
	    .client_principal = l7->principal,
	    .server_principal = o->server_workload ? o->server_workload->principal : NULL,
	    .mtls = l7->principal[0] != 0,
	};
}

void flat_l7_observe_end(struct flat_l7 *l7)
{
	struct flat_l7_observed *o = l7->x.observed;
	struct flat_access a;
	char trace_id[33];

	/* A head that was none has no route, but a client. */
	if (!o)
		flat_l7_observe_begin(l7);
	o = l7->x.observed;
	if (!o || !(wants(o->client) || wants(o->server)))
		return;
	flat_l7_observe_access(l7, o, &a, trace_id);
	flat_l7_trace_end(l7, o, &a);
	write_lines(l7->node, o->mesh, o->client, o->server, &a);
}

/* --- connections --- */

void flat_observe_access(struct flat_conn *c, struct flat_access *a)
{
	const struct flat_l7_node *node = c->offload->l7;
	const struct flat_workload *client = c->client ? c->client->workload : NULL;
	const struct flat_workload *server = c->listener ? c->listener->session->workload : NULL;
	int64_t us = flat_now_us() - c->since_ms * 1000;

	*a = (struct flat_access){
	    .grpc = -1,
	    .flags = c->cut ? "UC" : "-",
	    .received = flat_conn_bytes(c, FLAT_SIDE_CLIENT),
	    .sent = flat_conn_bytes(c, FLAT_SIDE_SERVER),
	    .start_us = wall_us() - us,
	    .duration_us = us,
	    .response_us = -1,
	    .service_us = -1,
	    .server = c->target,
	    .local = c->to,
	    .client = c->from,
	    .service = c->service,
	    .service_port = c->to.port,
	    .sni = c->gate && c->gate->tls ? flat_tls_host(c->gate->tls) : NULL,
	    .hostname = node->observer->hostname,
	    .connection = c->id,
	    .attempts = 1,
	    .client_principal = client ? client->principal : c->principal,
	    .server_principal = server ? server->principal : NULL,
	    .mtls = client || c->principal,
	};
}

void flat_observe_conn(struct flat_conn *c)
{
	struct flat_l7_node *node = c->offload->l7;
	const struct flat_mesh *mesh = c->offload->mesh;
	const struct flat_observation *of_client, *of_server;
	struct flat_access a;

	if (!node || !node->observes || c->own || c->l7 || c->l7_upstream)
		return;
	of_client =
	    flat_mesh_observation(mesh, c->client ? c->client->workload : NULL, FLAT_MODE_CLIENT);
	of_server = flat_mesh_observation(mesh, NULL, FLAT_MODE_CLIENT);
	if (c->listener)
		of_server =
		    flat_mesh_observation(mesh, c->listener->session->workload, FLAT_MODE_SERVER);
	if (!wants(of_client) && !wants(of_server))
		return;
	flat_observe_access(c, &a);
	write_lines(node, mesh, of_client, of_server, &a);
}

/* --- told --- */

static void note_logs(struct flat_l7 *l7, const struct flat_observation *o, const char *side)
{
	for (uint32_t i = 0; i < o->n_logs; i++) {
		const struct flat_log_rule *r = &o->logs[i];
		const struct flat_telemetry *by = r->by;

		flat_l7_note(
		    l7->node, "  access log of the %s's side: %s to %s, by %s%s%s (%s:%u)%s%s\n",
		    side, r->provider->name, r->provider->path, by ? by->namespace : "MeshConfig",
		    by ? "/" : "", by ? by->name : "", by && by->where.file ? by->where.file : "-",
		    by ? by->where.line : 0, r->filter ? ", where " : "",
		    r->filter ? flat_cel_text(r->filter) : "");
	}
}

static void note_trace(struct flat_l7 *l7, const struct flat_observation *o, const char *side)
{
	const struct flat_trace_rule *r = o->trace;
	const struct flat_telemetry *by = r ? r->by : NULL;

	if (r)
		flat_l7_note(
		    l7->node, "  traces of the %s's side: %g %% to %s%s, by %s%s%s (%s:%u)\n", side,
		    r->of_million / 10000.0, r->provider->name, r->report ? "" : ", not reported",
		    by ? by->namespace : "MeshConfig", by ? "/" : "", by ? by->name : "",
		    by && by->where.file ? by->where.file : "-", by ? by->where.line : 0);
}

static void note_metrics(struct flat_l7 *l7, const struct flat_observation *o, const char *side)
{
	const struct flat_telemetry *by = o->metrics ? o->metrics->by : NULL;

	if (o->metrics)
		flat_l7_note(l7->node, "  metrics of the %s's side: overridden by %s%s%s (%s:%u)\n",
			     side, by ? by->namespace : "MeshConfig", by ? "/" : "",
			     by ? by->name : "", by && by->where.file ? by->where.file : "-",
			     by ? by->where.line : 0);
}

void flat_l7_observe_note(struct flat_l7 *l7, const struct flat_workload *client,
			  const struct flat_workload *server)
{
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_workload *const of[] = {client, server};
	static const char *const sides[] = {"client", "server"};

	for (int i = 0; i < 2; i++) {
		const struct flat_observation *o = flat_mesh_observation(
		    mesh, of[i], i == 0 ? FLAT_MODE_CLIENT : FLAT_MODE_SERVER);

		if (!of[i])
			continue;
		note_logs(l7, o, sides[i]);
		note_trace(l7, o, sides[i]);
		note_metrics(l7, o, sides[i]);
	}
}

void flat_l7_observe_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	flat_strbuf_printf(out,
			   "# HELP flat_access_log_dropped_total Lines of access logs that were "
			   "dropped because nobody took them in time.\n"
			   "# TYPE flat_access_log_dropped_total counter\n"
			   "flat_access_log_dropped_total %" PRIu64 "\n",
			   flat_log_files_dropped(node->observer->files));
	flat_l7_traces_metrics(node, out);
}
