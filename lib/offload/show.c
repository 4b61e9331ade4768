/* What flatctl shows: ls and top. */
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "offload/admin.h"
#include "offload/capture.h"
#include "offload/gateway.h"

const char *flat_conn_path_name(enum flat_conn_path path)
{
	static const char *const names[] = {"kernel", "direct", "forwarded"};
	return names[path];
}

/* --- ls, as JSON --- */

static void put_addr(struct flat_json *j, const char *key, const struct flat_addr *a)
{
	char text[FLAT_ADDR_STRLEN];
	flat_json_string(j, key, flat_addr_str(a, text));
}

static void put_sessions(struct flat_json *j, const struct flat_offload *o)
{
	const struct flat_session *s;
	char name[96];
	flat_json_array(j, "sessions");
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		flat_json_object(j, NULL);
		flat_json_int(j, "pid", s->pid);
		flat_json_uint(j, "uid", s->uid);
		flat_json_uint(j, "connections", s->n_conns);
		flat_json_string(j, "workload", flat_session_name(s, name));
		flat_json_string(j, "exe", s->exe ? s->exe : "");
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
}

static void put_listeners(struct flat_json *j, const struct flat_offload *o)
{
	const struct flat_listener *l;
	char name[96];
	flat_json_array(j, "listeners");
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		const struct flat_service *service = flat_service_of(o, l);
		flat_json_object(j, NULL);
		flat_json_int(j, "pid", l->session->pid);
		put_addr(j, "address", &l->addr);
		flat_json_string(j, "workload", flat_session_name(l->session, name));
		flat_json_string(j, "service", service ? service->host : NULL);
		flat_json_uint(j, "waiting", l->n_pending);
		flat_json_bool(j, "confined", l->server != NULL);
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
}

static void put_gateways(struct flat_json *j, const struct flat_offload *o)
{
	const struct flat_addr *addr;
	enum flat_gate_kind kind;
	flat_json_array(j, "gateway_ports");
	for (uint32_t i = 0; (addr = flat_gateway_port(o, i, &kind)) != NULL; i++) {
		flat_json_object(j, NULL);
		put_addr(j, "address", addr);
		flat_json_bool(j, "tls", kind == FLAT_GATE_HTTPS || kind == FLAT_GATE_TLS);
		flat_json_string(j, "speaks", flat_gate_kind_name(kind));
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
}

static void put_confined(struct flat_json *j, const struct flat_offload *o)
{
	const char *path;
	flat_json_array(j, "confined");
	for (uint32_t i = 0; (path = flat_captures_cgroup(o, i)) != NULL; i++)
		flat_json_string(j, NULL, path);
	flat_json_array_end(j);
}

static void put_services(struct flat_json *j, const struct flat_offload *o)
{
	flat_json_array(j, "services");
	for (uint32_t i = 0; i < flat_mesh_n_services(o->mesh); i++) {
		const struct flat_service *s = flat_mesh_service(o->mesh, i);
		struct flat_ip ip;
		char text[FLAT_IP_TEXT_MAX] = "";
		flat_json_object(j, NULL);
		flat_json_string(j, "host", s->host);
		flat_json_string(j, "address",
				 flat_service_resolve(s, &ip) == 0 ? flat_ip_text(&ip, text) : "");
		flat_json_string(j, "path", flat_path_name(s->path));
		flat_json_string(j, "file", s->where.file);
		flat_json_uint(j, "line", s->where.line);
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
}

static void put_connections(struct flat_json *j, struct flat_offload *o)
{
	struct flat_conn *c;
	flat_json_array(j, "connections");
	TAILQ_FOREACH(c, &o->conns, link)
	{
		flat_json_object(j, NULL);
		flat_json_uint(j, "id", c->id);
		flat_json_string(j, "path", flat_conn_path_name(c->path));
		flat_json_bool(j, "open", !c->half_open);
		flat_json_string(j, "service", c->service);
		flat_json_string(j, "client", c->client_name);
		flat_json_string(j, "server", c->server_name);
		put_addr(j, "from", &c->from);
		put_addr(j, "to", &c->to);
		put_addr(j, "target", &c->target);
		flat_json_int(j, "client_pid", c->client ? c->client->pid : 0);
		flat_json_int(j, "server_pid", c->listener ? c->listener->session->pid : 0);
		flat_json_uint(j, "bytes_sent", flat_conn_bytes(c, 0));
		flat_json_uint(j, "bytes_received", flat_conn_bytes(c, 1));
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
}

static void put_refusals(struct flat_json *j, const struct flat_offload *o)
{
	uint32_t n = o->n_refusals < FLAT_REFUSALS_KEPT ? o->n_refusals : FLAT_REFUSALS_KEPT;
	flat_json_array(j, "refusals");
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_refusal *r =
		    &o->refusals[(o->n_refusals - n + i) % FLAT_REFUSALS_KEPT];
		flat_json_object(j, NULL);
		flat_json_int(j, "pid", r->pid);
		flat_json_string(j, "client", r->client_name);
		put_addr(j, "to", &r->to);
		flat_json_string(j, "reason", r->reason);
		flat_json_object_end(j);
	}
	flat_json_array_end(j);
}

static uint64_t count_fds(void)
{
	uint64_t n = 0;
	DIR *dir = opendir("/proc/self/fd");
	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	/* ".", "..", and the one that looks. */
	return n - 3;
}

static uint64_t refused(const struct flat_offload *o)
{
	uint64_t sum = 0;
	for (int i = 0; i < FLAT_REFUSED_KINDS; i++)
		sum += o->stats.refused[i];
	return sum;
}

static void put_counts(struct flat_json *j, const struct flat_offload *o)
{
	const struct flat_session *s;
	uint64_t ghosts = 0;
	TAILQ_FOREACH(s, &o->ghosts, link)
	ghosts++;
	flat_json_uint(j, "fds", count_fds());
	flat_json_uint(j, "lanes", o->n_lanes);
	flat_json_uint(j, "lane_bytes", o->lane_bytes);
	flat_json_uint(j, "ended_sessions_held", ghosts);
	flat_json_uint(j, "series", o->series.n);
	flat_json_uint(j, "workers", o->workers.n);
	flat_json_uint(j, "tickets", o->n_tickets);
	flat_json_uint(j, "opened_direct", o->stats.opened[FLAT_CONN_DIRECT]);
	flat_json_uint(j, "opened_forwarded", o->stats.opened[FLAT_CONN_FORWARDED]);
	flat_json_uint(j, "opened_kernel", o->stats.opened[FLAT_CONN_KERNEL]);
	flat_json_uint(j, "closed", o->stats.closed);
	flat_json_uint(j, "refused", refused(o));
	flat_json_uint(j, "revoked", o->stats.revoked);
	flat_json_uint(j, "throttled", o->stats.throttled);
	flat_json_uint(j, "sessions_ended", o->stats.sessions_ended);
	flat_json_uint(j, "bytes_forwarded", flat_workers_bytes(&o->workers));
	flat_json_uint(j, "config_errors", o->stats.config_errors);
	flat_json_uint(j, "endpoint_changes", o->stats.endpoint_changes);
}

/* --- ls, as text --- */

static void text_services(const struct flat_offload *o, struct flat_strbuf *out)
{
	flat_strbuf_puts(out, "SERVICES\n");
	for (uint32_t i = 0; i < flat_mesh_n_services(o->mesh); i++) {
		const struct flat_service *s = flat_mesh_service(o->mesh, i);
		struct flat_ip ip;
		char text[FLAT_IP_TEXT_MAX] = "-";
		if (flat_service_resolve(s, &ip) == 0)
			flat_ip_text(&ip, text);
		flat_strbuf_printf(out, "  %-48s %-20s %s:%u\n", s->host, text, s->where.file,
				   s->where.line);
	}
}

static void text_rest(const struct flat_offload *o, struct flat_strbuf *out)
{
	const struct flat_session *s;
	const struct flat_listener *l;
	const struct flat_conn *c;
	const struct flat_addr *port;
	const char *path;
	enum flat_gate_kind kind;
	char name[96];
	char a[FLAT_ADDR_STRLEN];
	char b[FLAT_ADDR_STRLEN];
	flat_strbuf_puts(out, "SESSIONS\n");
	TAILQ_FOREACH(s, &o->sessions, link)
	flat_strbuf_printf(out, "  pid %-8d uid %-6u %-32s %s\n", (int)s->pid, s->uid,
			   flat_session_name(s, name), s->exe ? s->exe : "?");
	flat_strbuf_puts(out, "LISTENERS\n");
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		const struct flat_service *service = flat_service_of(o, l);
		flat_strbuf_printf(out, "  %-24s pid %-8d %s%s%s%s\n", flat_addr_str(&l->addr, a),
				   (int)l->session->pid, flat_session_name(l->session, name),
				   l->server ? ", confined, without the library" : "",
				   service ? ", an endpoint of " : "",
				   service ? service->host : "");
	}
	for (uint32_t i = 0; (port = flat_gateway_port(o, i, &kind)) != NULL; i++)
		flat_strbuf_printf(out, "  %-24s flatd        gateway %s, %s\n",
				   flat_addr_str(port, a), o->gateway_name,
				   flat_gate_kind_name(kind));
	path = flat_captures_cgroup(o, 0);
	if (path)
		flat_strbuf_puts(out, "CONFINED\n");
	for (uint32_t i = 0; (path = flat_captures_cgroup(o, i)) != NULL; i++)
		flat_strbuf_printf(out, "  %s\n", path);
	flat_strbuf_puts(out, "CONNECTIONS\n");
	TAILQ_FOREACH(c, &o->conns, link)
	flat_strbuf_printf(out, "  %-24s -> %-24s %-10s %s -> %s%s\n", flat_addr_str(&c->from, a),
			   flat_addr_str(&c->target, b), flat_conn_path_name(c->path),
			   c->client_name, c->server_name, c->half_open ? " (half open)" : "");
}

void flat_admin_ls(struct flat_offload *o, bool json, struct flat_strbuf *out)
{
	struct flat_json j;
	if (!json) {
		text_services(o, out);
		text_rest(o, out);
		return;
	}
	flat_json_init(&j, out, false);
	flat_json_object(&j, NULL);
	flat_json_uint(&j, "epoch", o->epoch);
	put_sessions(&j, o);
	put_listeners(&j, o);
	put_gateways(&j, o);
	put_confined(&j, o);
	put_services(&j, o);
	put_connections(&j, o);
	put_refusals(&j, o);
	put_counts(&j, o);
	flat_json_object_end(&j);
	flat_strbuf_putc(out, '\n');
}

/* --- top --- */

struct row {
	const char *name;
	enum flat_conn_path path;
	uint64_t open;
	uint64_t opened;
	uint64_t bytes[2];
};

static int by_name(const void *a, const void *b)
{
	const struct row *x = a;
	const struct row *y = b;
	int order = strcmp(x->name, y->name);
	return order ? order : (int)x->path - (int)y->path;
}

/* Series with one name and path, added up. Returns the rows, malloc()ed. */
static struct row *make_rows(struct flat_offload *o, size_t *n)
{
	struct row *rows = calloc(o->series.n + 1, sizeof(*rows));
	*n = 0;
	if (!rows)
		return NULL;
	flat_series_live(o);
	for (uint32_t i = 0; i < o->series.n; i++) {
		const struct flat_series *s = o->series.v[i];
		rows[i] = (struct row){
		    .name = s->label[FLAT_LABEL_SERVICE],
		    .path = s->path,
		    .open = s->path == FLAT_CONN_KERNEL ? 0 : s->opened - s->closed,
		    .opened = s->opened,
		    .bytes = {s->bytes[0] + s->live[0], s->bytes[1] + s->live[1]},
		};
	}
	qsort(rows, o->series.n, sizeof(*rows), by_name);
	for (uint32_t i = 0; i < o->series.n; i++) {
		if (*n > 0 && by_name(&rows[*n - 1], &rows[i]) == 0) {
			rows[*n - 1].open += rows[i].open;
			rows[*n - 1].opened += rows[i].opened;
			rows[*n - 1].bytes[0] += rows[i].bytes[0];
			rows[*n - 1].bytes[1] += rows[i].bytes[1];
		} else if (rows[i].opened > 0) {
			rows[(*n)++] = rows[i];
		}
	}
	return rows;
}

static void top_json(const struct row *rows, size_t n, struct flat_strbuf *out)
{
	struct flat_json j;
	flat_json_init(&j, out, false);
	flat_json_object(&j, NULL);
	flat_json_array(&j, "services");
	for (size_t i = 0; i < n; i++) {
		flat_json_object(&j, NULL);
		flat_json_string(&j, "service", rows[i].name);
		flat_json_string(&j, "path", flat_conn_path_name(rows[i].path));
		flat_json_uint(&j, "connections", rows[i].open);
		flat_json_uint(&j, "connections_opened", rows[i].opened);
		flat_json_uint(&j, "bytes_sent", rows[i].bytes[0]);
		flat_json_uint(&j, "bytes_received", rows[i].bytes[1]);
		flat_json_object_end(&j);
	}
	flat_json_array_end(&j);
	flat_json_object_end(&j);
	flat_strbuf_putc(out, '\n');
}

void flat_admin_top(struct flat_offload *o, bool json, struct flat_strbuf *out)
{
	size_t n;
	struct row *rows = make_rows(o, &n);
	if (!rows)
		return;
	if (json) {
		top_json(rows, n, out);
		free(rows);
		return;
	}
	flat_strbuf_printf(out, "%-48s %-10s %8s %10s %14s %14s\n", "SERVICE", "PATH", "OPEN",
			   "OPENED", "SENT", "RECEIVED");
	for (size_t i = 0; i < n; i++)
		flat_strbuf_printf(
		    out, "%-48s %-10s %8" PRIu64 " %10" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n",
		    rows[i].name, flat_conn_path_name(rows[i].path), rows[i].open, rows[i].opened,
		    rows[i].bytes[0], rows[i].bytes[1]);
	flat_strbuf_printf(out, "refused %" PRIu64 ", revoked %" PRIu64 "\n", refused(o),
			   o->stats.revoked);
	free(rows);
}
