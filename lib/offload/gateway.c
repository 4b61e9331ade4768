#include "offload/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/sys.h"
#include "control/limits.h"
#include "control/watch.h"
#include "offload/telling.h"

#define BACKLOG 4096

/* A server's certificate. Refers to the present mesh: made anew with each. */
struct credential {
	const struct flat_gateway_server *server;
	char *id; /* "NAMESPACE/NAME#N" */
	SSL_CTX *ctx;
	bool whole; /* with all of the server's certificates */
};

struct flat_gateway_port {
	TAILQ_ENTRY(flat_gateway_port) link;
	struct flat_gateways *all;
	struct flat_source tcp; /* fd -1: closed */
	struct flat_addr addr;
	enum flat_gate_kind kind;
	bool wanted;
	uint32_t refs;
	SSL_CTX *front;
	struct credential *credentials;
	uint32_t n_credentials;
};

struct flat_gateways {
	struct flat_offload *offload;
	char *namespace, *name; /* of the Workload */
	TAILQ_HEAD(, flat_gateway_port) ports;
	struct flat_watch *watch; /* of files with certificates */
	struct flat_source watch_source;
	uint32_t n_clients;
};

/* --- which server --- */

static const struct flat_workload *workload_of(const struct flat_gateways *all,
					       const struct flat_mesh *mesh)
{
	return flat_mesh_workload_by_name(mesh, all->namespace, all->name);
}

const struct flat_workload *flat_gateway_workload(const struct flat_offload *o)
{
	return o->gateways ? workload_of(o->gateways, o->mesh) : NULL;
}

static struct flat_addr server_addr(const struct flat_gateway_server *s)
{
	static const struct flat_ip any = {.family = AF_INET6};
	return flat_ip_addr(s->has_bind ? &s->bind : &any, s->port);
}

static enum flat_gate_kind kind_of(const struct flat_gateway_server *s)
{
	if (!s->opaque)
		return s->tls == FLAT_GATEWAY_PLAIN ? FLAT_GATE_HTTP : FLAT_GATE_HTTPS;
	return s->tls == FLAT_GATEWAY_PLAIN	    ? FLAT_GATE_TCP
	       : s->tls == FLAT_GATEWAY_PASSTHROUGH ? FLAT_GATE_PASSTHROUGH
						    : FLAT_GATE_TLS;
}

/* TLS ends here. */
static bool is_secure(enum flat_gate_kind kind)
{
	return kind == FLAT_GATE_HTTPS || kind == FLAT_GATE_TLS;
}

const char *flat_gate_kind_name(enum flat_gate_kind kind)
{
	static const char *const names[] = {
	    [FLAT_GATE_HTTP] = "HTTP",
	    [FLAT_GATE_HTTPS] = "HTTPS",
	    [FLAT_GATE_TCP] = "TCP",
	    [FLAT_GATE_TLS] = "TLS",
	    [FLAT_GATE_PASSTHROUGH] = "TLS passed through",
	};
	return names[kind];
}

/* What is done with each server of ours; false ends the walk. */
typedef bool visit_fn(void *arg, const struct flat_gateway *g,
		      const struct flat_gateway_server *server);

static void each_server(const struct flat_mesh *mesh, const struct flat_workload *w, visit_fn *fn,
			void *arg)
{
	for (uint32_t i = 0; w && i < flat_mesh_n_gateways(mesh); i++) {
		const struct flat_gateway *g = flat_mesh_gateway(mesh, i);
		if (!flat_labels_match(&g->selector, &w->labels) ||
		    (g->of_api && strcmp(g->namespace, w->namespace) != 0))
			continue;
		for (uint32_t k = 0; k < g->n_servers; k++) {
			if (g->servers[k].served && !fn(arg, g, &g->servers[k]))
				return;
		}
	}
}

struct search {
	const struct flat_gateway_port *port;
	struct flat_span host;
	uint32_t fit;
	const struct flat_gateway *gateway;
	const struct flat_gateway_server *server;
};

static bool better(void *arg, const struct flat_gateway *g,
		   const struct flat_gateway_server *server)
{
	struct search *s = arg;
	struct flat_addr addr = server_addr(server);
	if (!flat_addr_equal(&addr, &s->port->addr) || kind_of(server) != s->port->kind)
		return true;
	/* Who speaks TCP names nobody. */
	uint32_t fit =
	    s->port->kind == FLAT_GATE_TCP ? 1 : flat_gateway_server_fit(server, s->host);
	if (fit > s->fit) {
		s->fit = fit;
		s->gateway = g;
		s->server = server;
	}
	return true;
}

static struct search find_server(const struct flat_gateway_port *port, const struct flat_mesh *mesh,
				 struct flat_span host)
{
	struct search s = {.port = port, .host = host};
	each_server(mesh, workload_of(port->all, mesh), better, &s);
	return s;
}

bool flat_gate_find(const struct flat_offload *o, const struct flat_mesh *mesh,
		    const struct flat_gate *gate, struct flat_span host, struct flat_way *way)
{
	struct search s = find_server(gate->port, mesh, host);
	way->workload = workload_of(o->gateways, mesh);
	way->gateway = s.gateway;
	way->server = s.server;
	if (!s.server || !gate->tls)
		return s.server != NULL;
	/* The server whose certificates were asked for, not another one behind the same port. */
	s = find_server(gate->port, mesh, flat_span_of(flat_tls_host(gate->tls)));
	return s.server == way->server;
}

enum flat_gate_kind flat_gate_kind(const struct flat_gate *gate)
{
	return gate->port->kind;
}

const struct flat_addr *flat_gate_addr(const struct flat_gate *gate)
{
	return &gate->port->addr;
}

/* --- certificates --- */

static SSL_CTX *pick(void *arg, const char *host)
{
	const struct flat_gateway_port *port = arg;
	struct search s = find_server(port, port->all->offload->mesh, flat_span_of(host));
	for (uint32_t i = 0; s.server && i < port->n_credentials; i++) {
		if (port->credentials[i].server == s.server)
			return port->credentials[i].ctx;
	}
	return NULL;
}

static const char *or_secret(const struct flat_secret *secret, const char *ca)
{
	return secret ? secret->ca ? secret->ca : ca : NULL;
}

static const char *namespace_of(const struct flat_gateways *all,
				const struct flat_gateway_certificate *c)
{
	return c->namespace ? c->namespace : all->namespace;
}

static int pair_of(const struct flat_gateways *all, const struct flat_gateway_certificate *c,
		   struct flat_tls_pair *pair, char *why, size_t size)
{
	const struct flat_secret *secret;
	*pair = (struct flat_tls_pair){.cert.file = c->cert, .key.file = c->key};
	if (!c->secret)
		return 0;
	secret = flat_mesh_secret(all->offload->mesh, namespace_of(all, c), c->secret);
	if (secret && secret->cert && secret->key) {
		*pair = (struct flat_tls_pair){.cert.text = secret->cert, .key.text = secret->key};
		return 0;
	}
	snprintf(why, size, "there is no Secret %s/%s with tls.crt and tls.key",
		 namespace_of(all, c), c->secret);
	return -ENOENT;
}

/* The Secret that is named for it; else the first certificate's own bundle, or that of NAME-cacert, as in Istio. */
static const char *authorities_of(const struct flat_gateways *all,
				  const struct flat_gateway_server *s)
{
	const struct flat_mesh *mesh = all->offload->mesh;
	const struct flat_gateway_certificate *c = &s->certs[0];
	const struct flat_secret *secret;
	const struct flat_secret *ca;
	char name[512];
	if (s->ca_text)
		return s->ca_text;
	if (s->ca_secret) {
		ca = flat_mesh_secret(mesh, all->namespace, s->ca_secret);
		return ca ? or_secret(ca, ca->cert)
			  : flat_mesh_config_map(mesh, all->namespace, s->ca_secret);
	}
	if (!c->secret)
		return NULL;
	secret = flat_mesh_secret(mesh, namespace_of(all, c), c->secret);
	snprintf(name, sizeof(name), "%s-cacert", c->secret);
	ca = flat_mesh_secret(mesh, namespace_of(all, c), name);
	return or_secret(secret, ca ? or_secret(ca, ca->cert) : NULL);
}

/* All but its certificates. */
static int options_of(const struct flat_gateways *all, const struct flat_gateway_server *s,
		      struct flat_tls_options *o, char *why, size_t size)
{
	*o = (struct flat_tls_options){
	    .ca.file = s->ca,
	    .clients = s->tls == FLAT_GATEWAY_MUTUAL		? FLAT_TLS_REQUIRED
		       : s->tls == FLAT_GATEWAY_OPTIONAL_MUTUAL ? FLAT_TLS_OPTIONAL
								: FLAT_TLS_ANY,
	    .min_version = s->min_version,
	    .max_version = s->max_version,
	    .ciphers = s->ciphers,
	    .names = s->names,
	    .n_names = s->n_names,
	    .opaque = s->opaque,
	};
	if (o->clients != FLAT_TLS_ANY)
		o->ca.text = authorities_of(all, s);
	if (o->clients == FLAT_TLS_ANY || o->ca.text || o->ca.file)
		return 0;
	snprintf(why, size, "there is no Secret %s/%s with ca.crt",
		 s->ca_secret ? all->namespace : namespace_of(all, &s->certs[0]),
		 s->ca_secret ? s->ca_secret : s->certs[0].secret);
	return -ENOENT;
}

/* Of all its certificates. */
static int whole_context(const struct flat_gateways *all, const struct flat_gateway_server *s,
			 const struct flat_tls_options *options, SSL_CTX **out, char *why,
			 size_t size)
{
	struct flat_tls_pair pairs[FLAT_CONFIG_CERTIFICATES_MAX];
	struct flat_tls_options o = *options;
	int err = 0;
	for (uint32_t i = 0; err == 0 && i < s->n_certs; i++)
		err = pair_of(all, &s->certs[i], &pairs[i], why, size);
	o.pairs = pairs;
	o.n_pairs = s->n_certs;
	return err != 0 ? err : flat_tls_context(&o, out, why, size);
}

/* Of those of its certificates that are good; NULL: of none. */
static SSL_CTX *part_context(const struct flat_gateways *all, const struct flat_gateway_server *s,
			     const struct flat_tls_options *options)
{
	struct flat_tls_pair pairs[FLAT_CONFIG_CERTIFICATES_MAX];
	struct flat_tls_options o = *options;
	SSL_CTX *ctx = NULL;
	uint32_t n = 0;
	char why[400];
	o.n_pairs = 1;
	for (uint32_t i = 0; i < s->n_certs; i++) {
		o.pairs = &pairs[n];
		if (pair_of(all, &s->certs[i], &pairs[n], why, sizeof(why)) != 0 ||
		    flat_tls_context(&o, &ctx, why, sizeof(why)) != 0)
			continue;
		SSL_CTX_free(ctx);
		n++;
	}
	o.pairs = pairs;
	o.n_pairs = n;
	return n > 0 && flat_tls_context(&o, &ctx, why, sizeof(why)) == 0 ? ctx : NULL;
}

/* That of before, if it is as whole as that. */
static SSL_CTX *kept(const struct flat_gateway_port *port, const char *id, bool whole)
{
	for (uint32_t i = 0; i < port->n_credentials; i++) {
		const struct credential *c = &port->credentials[i];
		if (strcmp(c->id, id) == 0 && (c->whole || !whole) && SSL_CTX_up_ref(c->ctx))
			return c->ctx;
	}
	return NULL;
}

/* A context of the server as it is now, else of before, else of what is good of it; why it is not the first in `why`. */
static int take_context(const struct flat_gateway_port *port, struct credential *c, char *why,
			size_t size)
{
	const struct flat_gateways *all = port->all;
	struct flat_tls_options options;
	int err = options_of(all, c->server, &options, why, size);
	bool clear = err == 0; /* who may come in */
	if (clear)
		err = whole_context(all, c->server, &options, &c->ctx, why, size);
	c->whole = err == 0;
	if (err == 0)
		return 0;
	c->ctx = kept(port, c->id, true);
	c->whole = c->ctx != NULL;
	if (!c->ctx && clear)
		c->ctx = part_context(all, c->server, &options);
	if (!c->ctx)
		c->ctx = kept(port, c->id, false);
	return err;
}

static void forget(struct credential *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		SSL_CTX_free(v[i].ctx);
		free(v[i].id);
	}
	free(v);
}

struct reading {
	struct flat_gateway_port *port;
	struct credential *v;
	uint32_t n;
	bool oom;
};

static bool read_credential(void *arg, const struct flat_gateway *g,
			    const struct flat_gateway_server *server)
{
	struct reading *r = arg;
	struct flat_gateway_port *port = r->port;
	struct flat_addr addr = server_addr(server);
	struct credential c = {.server = server};
	char why[400];
	if (!is_secure(kind_of(server)) || !flat_addr_equal(&addr, &port->addr))
		return true;
	struct credential *v = realloc(r->v, (r->n + 1) * sizeof(*v));
	if (v)
		r->v = v;
	if (!v || asprintf(&c.id, "%s/%s#%u", g->namespace, g->name,
			   (unsigned int)(server - g->servers)) < 0) {
		r->oom = true;
		return false;
	}
	if (take_context(port, &c, why, sizeof(why)) != 0)
		flat_error("%s:%u: Gateway %s/%s: %s; %s", server->where.file, server->where.line,
			   g->namespace, g->name, why,
			   !c.ctx    ? "clients of this server are refused"
			   : c.whole ? "the certificate before stays in force"
				     : "its other certificates are shown");
	if (c.ctx)
		r->v[r->n++] = c;
	else
		free(c.id);
	return true;
}

static void take_credentials(struct flat_gateway_port *port)
{
	struct flat_gateways *all = port->all;
	struct reading r = {.port = port};
	each_server(all->offload->mesh, workload_of(all, all->offload->mesh), read_credential, &r);
	if (r.oom)
		flat_error("certificates are not read: out of memory");
	/* Those before refer to a mesh that is gone: also without memory they go. */
	forget(port->credentials, port->n_credentials);
	port->credentials = r.v;
	port->n_credentials = r.n;
}

struct files {
	const char **v;
	size_t n;
};

static void add_file(struct files *f, const char *name)
{
	const char **v = name ? realloc(f->v, (f->n + 1) * sizeof(*v)) : NULL;
	if (v) {
		f->v = v;
		f->v[f->n++] = name;
	}
}

static bool gather(void *arg, const struct flat_gateway *g,
		   const struct flat_gateway_server *server)
{
	(void)g;
	add_file(arg, server->ca);
	for (uint32_t i = 0; i < server->n_certs; i++) {
		add_file(arg, server->certs[i].cert);
		add_file(arg, server->certs[i].key);
	}
	return true;
}

static void on_files(struct flat_source *source, int events)
{
	struct flat_gateways *all = FLAT_CONTAINER_OF(source, struct flat_gateways, watch_source);
	struct flat_gateway_port *port;
	(void)events;
	if (!flat_watch_changed(all->watch))
		return;
	flat_info("certificates of gateways are read again");
	TAILQ_FOREACH(port, &all->ports, link)
	{
		if (is_secure(port->kind))
			take_credentials(port);
	}
}

static void watch_files(struct flat_gateways *all)
{
	struct flat_offload *o = all->offload;
	struct files f = {NULL, 0};
	if (all->watch) {
		flat_loop_del(&o->loop, &all->watch_source);
		flat_watch_close(all->watch);
		all->watch = NULL;
	}
	each_server(o->mesh, workload_of(all, o->mesh), gather, &f);
	int err = f.n > 0 ? flat_watch_open(f.v, f.n, &all->watch) : 0;
	if (err == 0 && all->watch) {
		flat_watch_every_file(all->watch);
		err = flat_loop_poll(&o->loop, &all->watch_source, flat_watch_fd(all->watch),
				     POLLIN, on_files);
	}
	if (err != 0)
		flat_error("files with certificates are not watched: %s", strerror(-err));
	free(f.v);
}

/* --- ports --- */

static void port_put(struct flat_gateway_port *port)
{
	if (--port->refs > 0)
		return;
	forget(port->credentials, port->n_credentials);
	SSL_CTX_free(port->front);
	free(port);
}

static void port_close(struct flat_gateway_port *port)
{
	struct flat_gateways *all = port->all;
	TAILQ_REMOVE(&all->ports, port, link);
	flat_loop_del(&all->offload->loop, &port->tcp);
	/* Given to a successor. */
	if (port->tcp.fd >= 0)
		close(port->tcp.fd);
	forget(port->credentials, port->n_credentials);
	port->credentials = NULL;
	port->n_credentials = 0;
	port_put(port);
}

static void on_client(struct flat_source *source, int fd)
{
	struct flat_gateway_port *port = FLAT_CONTAINER_OF(source, struct flat_gateway_port, tcp);
	struct flat_gateways *all = port->all;
	const struct flat_workload *w = workload_of(all, all->offload->mesh);
	int one = 1;
	if (fd < 0)
		return;
	bool full = all->n_clients >= FLAT_GATEWAY_CLIENTS_MAX;
	if (full)
		flat_tell(FLAT_LOG_WARN, "gateway clients turned away", "all",
			  "a client of the gateway's port %u was turned away: there are %u",
			  port->addr.port, all->n_clients);
	struct flat_gate *gate = !full && w ? calloc(1, sizeof(*gate)) : NULL;
	/* OpenSSL reads and writes as the descriptor says. */
	if (!gate || flat_sys_fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		free(gate);
		close(fd);
		return;
	}
	(void)flat_sys_setsockopt(fd, SOL_TCP, TCP_NODELAY, &one, sizeof(one));
	gate->port = port;
	port->refs++;
	all->n_clients++;
	if (is_secure(port->kind) && !(gate->tls = flat_tls_accept(port->front, fd))) {
		flat_gate_free(gate);
		close(fd);
		return;
	}
	flat_conn_gate(all->offload, gate, w->principal, fd);
}

void flat_gate_free(struct flat_gate *gate)
{
	if (!gate)
		return;
	gate->port->all->n_clients--;
	flat_tls_free(gate->tls);
	port_put(gate->port);
	free(gate);
}

static int port_open(struct flat_gateways *all, const struct flat_addr *addr,
		     enum flat_gate_kind kind)
{
	bool secure = is_secure(kind);
	struct flat_gateway_port *port = calloc(1, sizeof(*port));
	if (!port)
		return -ENOMEM;
	port->all = all;
	port->addr = *addr;
	port->kind = kind;
	port->refs = 1;
	port->wanted = true;
	port->front = secure ? flat_tls_front(pick, port, kind == FLAT_GATE_HTTPS) : NULL;
	int fd =
	    secure && !port->front ? -ENOMEM : flat_port_listen(all->offload, addr, true, BACKLOG);
	int err = fd < 0 ? fd : flat_loop_accept(&all->offload->loop, &port->tcp, fd, on_client);
	if (err != 0) {
		if (fd >= 0)
			close(fd);
		port_put(port);
		return err;
	}
	TAILQ_INSERT_TAIL(&all->ports, port, link);
	return 0;
}

static bool want(void *arg, const struct flat_gateway *g, const struct flat_gateway_server *server)
{
	struct flat_gateways *all = arg;
	struct flat_addr addr = server_addr(server);
	struct flat_gateway_port *port;
	char text[FLAT_ADDR_STRLEN];
	enum flat_gate_kind kind = kind_of(server);
	TAILQ_FOREACH(port, &all->ports, link)
	{
		if (!flat_addr_equal(&port->addr, &addr))
			continue;
		if (port->wanted && port->kind != kind)
			flat_error("%s:%u: Gateway %s/%s: port %u is another server's, for %s: "
				   "this one, for %s, is not opened",
				   server->where.file, server->where.line, g->namespace, g->name,
				   server->port, flat_gate_kind_name(port->kind),
				   flat_gate_kind_name(kind));
		if (!port->wanted && port->kind != kind) {
			port_close(port);
			break;
		}
		port->wanted = true;
		return true;
	}
	int err = port_open(all, &addr, kind);
	if (err != 0)
		flat_error("%s:%u: Gateway %s/%s: port %s cannot be opened: %s", server->where.file,
			   server->where.line, g->namespace, g->name, flat_addr_str(&addr, text),
			   strerror(-err));
	else
		flat_info("gateway port %s, %s", flat_addr_str(&addr, text),
			  flat_gate_kind_name(kind));
	return true;
}

static const struct flat_gateway_port *port_at(const struct flat_offload *o, uint32_t i)
{
	const struct flat_gateway_port *port = NULL;
	if (o->gateways)
		port = TAILQ_FIRST(&o->gateways->ports);
	while (port && i-- > 0)
		port = TAILQ_NEXT(port, link);
	return port;
}

int flat_gateway_socket(const struct flat_offload *o, uint32_t i)
{
	const struct flat_gateway_port *port = port_at(o, i);
	return port ? port->tcp.fd : -1;
}

const struct flat_addr *flat_gateway_port(const struct flat_offload *o, uint32_t i,
					  enum flat_gate_kind *kind)
{
	const struct flat_gateway_port *port = port_at(o, i);
	*kind = port ? port->kind : FLAT_GATE_HTTP;
	return port ? &port->addr : NULL;
}

void flat_gateways_reload(struct flat_offload *o)
{
	struct flat_gateways *all = o->gateways;
	struct flat_gateway_port *port;
	struct flat_gateway_port *next;
	if (!all || o->retired)
		return;
	const struct flat_workload *w = workload_of(all, o->mesh);
	if (!w)
		flat_error("there is no Workload %s/%s, which --gateway names: no port is open",
			   all->namespace, all->name);
	TAILQ_FOREACH(port, &all->ports, link)
	port->wanted = false;
	each_server(o->mesh, w, want, all);
	for (port = TAILQ_FIRST(&all->ports); port; port = next) {
		next = TAILQ_NEXT(port, link);
		if (!port->wanted)
			port_close(port);
		else if (is_secure(port->kind))
			take_credentials(port);
	}
	watch_files(all);
}

int flat_gateways_open(struct flat_offload *o)
{
	const char *slash = strchr(o->gateway_name, '/');
	struct flat_gateways *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	TAILQ_INIT(&all->ports);
	all->offload = o;
	o->gateways = all;
	if (slash && slash > o->gateway_name && slash[1]) {
		all->namespace = strndup(o->gateway_name, (size_t)(slash - o->gateway_name));
		all->name = strdup(slash + 1);
	} else {
		flat_error("--gateway takes NAMESPACE/NAME of a Workload");
		return -EINVAL;
	}
	if (!all->namespace || !all->name)
		return -ENOMEM;
	flat_gateways_reload(o);
	return 0;
}

void flat_gateways_retire(struct flat_offload *o)
{
	struct flat_gateway_port *port;
	if (!o->gateways)
		return;
	TAILQ_FOREACH(port, &o->gateways->ports, link)
	flat_loop_accept_end(&o->loop, &port->tcp);
}

void flat_gateways_close(struct flat_offload *o)
{
	struct flat_gateways *all = o->gateways;
	struct flat_gateway_port *port;
	struct flat_gateway_port *next;
	if (!all)
		return;
	for (port = TAILQ_FIRST(&all->ports); port; port = next) {
		next = TAILQ_NEXT(port, link);
		port_close(port);
	}
	flat_loop_del(&o->loop, &all->watch_source);
	flat_watch_close(all->watch);
	free(all->namespace);
	free(all->name);
	free(all);
	o->gateways = NULL;
}
