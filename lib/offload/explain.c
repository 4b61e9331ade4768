/* Why a connection goes as it goes: `flatctl why`. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "mesh/ext_authz.h"
#include "mesh/l4_route.h"
#include "mesh/scope.h"
#include "offload/account.h"
#include "offload/admin.h"
#include "offload/admit.h"
#include "offload/peers.h"

const struct flat_workload *flat_admin_workload(const struct flat_offload *o, const char *text)
{
	char buf[256];
	snprintf(buf, sizeof(buf), "%s", text);
	char *slash = strchr(buf, '/');
	if (slash) {
		*slash = 0;
		return flat_mesh_workload_by_name(o->mesh, buf, slash + 1);
	}
	char *dot = strchr(buf, '.');
	if (dot)
		*dot = 0;
	return flat_mesh_workload_by_name(o->mesh, dot ? dot + 1 : NULL, buf);
}

const struct flat_service *flat_admin_service(const struct flat_offload *o, const char *host,
					      const struct flat_workload *client, uint16_t port)
{
	const struct flat_scope scope = flat_mesh_scope(o->mesh, client, port);
	const struct flat_service *hidden;
	const struct flat_service *sv = flat_scope_by_host(&scope, host, &hidden);
	return sv ? sv : hidden;
}

/* The address of a name; one that is hidden from the client is told of too, for what follows says why. */
static int address_named(const struct flat_offload *o, const char *text,
			 const struct flat_workload *client, struct flat_addr *addr)
{
	char buf[300];
	char *end;
	struct flat_ip ip;
	snprintf(buf, sizeof(buf), "%s", text);
	char *colon = strrchr(buf, ':');
	if (!colon)
		return -EINVAL;
	*colon = 0;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (end == colon + 1 || *end || port == 0 || port > 65535)
		return -EINVAL;
	char *host = buf;
	if (host[0] == '[' && colon > buf + 1 && colon[-1] == ']') {
		colon[-1] = 0;
		host++;
	}
	const struct flat_service *sv = flat_admin_service(o, host, client, (uint16_t)port);
	if (sv ? flat_service_resolve(sv, &ip) != 0 : flat_ip_parse(host, &ip) != 0)
		return -ENOENT;
	*addr = flat_ip_addr(&ip, (uint16_t)port);
	return 0;
}

static void put_answer(struct flat_strbuf *out, bool json, bool allowed, const char *path,
		       const struct flat_decision *d, const char *reason)
{
	struct flat_json j;
	char text[FLAT_ADDR_STRLEN];
	if (!json) {
		flat_strbuf_printf(out, "%s%s%s\n%s\n", allowed ? "allowed" : "denied",
				   *path ? ", path " : "", path, reason);
		return;
	}
	flat_json_init(&j, out, false);
	flat_json_object(&j, NULL);
	flat_json_bool(&j, "allowed", allowed);
	flat_json_string(&j, "path", path);
	flat_json_bool(&j, "accelerated", strcmp(path, "direct") == 0);
	if (d && d->service) {
		flat_json_string(&j, "service", d->service->host);
		flat_json_string(&j, "service_file", d->service->where.file);
		flat_json_uint(&j, "service_line", d->service->where.line);
	}
	if (d && allowed)
		flat_json_string(&j, "target", flat_addr_str(&d->target, text));
	flat_json_string(&j, "reason", reason);
	flat_json_object_end(&j);
	flat_strbuf_putc(out, '\n');
}

/* Which rule allowed it: the reason's second half. */
static void add_rule(struct flat_offload *o, const struct flat_question *q,
		     const struct flat_decision *d, char *reason, size_t size)
{
	struct flat_authz_verdict v;
	size_t len = strlen(reason);
	if (!d->listener || len >= size)
		return;
	struct flat_authz_input in = {
	    .source_principal =
		q->session && q->session->workload ? q->session->workload->principal : NULL,
	    .source_ip = flat_addr_ip(&q->from),
	    .destination_ip = flat_addr_ip(&d->target),
	    .destination_port = d->listener->addr.port,
	    .destination = d->listener->session->workload,
	    .sni = q->sni,
	};
	flat_authz_check(o->mesh, &in, &v);
	/* One over HTTP is left out, where the connection is allowed. */
	while (v.ext && len < size) {
		if (v.reason == FLAT_AUTHZ_ASK)
			len += (size_t)snprintf(reason + len, size - len, "; %s (%s); if it allows",
						v.text, v.ext->name);
		in.custom_from = v.order + 1;
		flat_authz_check(o->mesh, &in, &v);
	}
	if (len < size)
		snprintf(reason + len, size - len, "; %s", v.text);
}

/* By which route, and to which of its destinations. */
static void add_route(const struct flat_decision *d, char *reason, size_t size)
{
	const struct flat_route_destination *to = d->destination;
	size_t len = strlen(reason);
	if (!to || len >= size)
		return;
	snprintf(reason + len, size - len, "; by a %s route (%s:%u) to %s%s%s, weight %u of %llu",
		 d->route->n_matches && d->route->matches[0].n_sni ? "tls" : "tcp",
		 d->route->where.file, d->route->where.line, to->host,
		 to->subset_name ? " subset " : "", to->subset_name ? to->subset_name : "",
		 to->weight, (unsigned long long)d->route->weight);
}

/* What has the address, and is not there for this client. */
static void add_hidden(const struct flat_offload *o, const struct flat_session *as,
		       const struct flat_decision *d, char *reason, size_t size)
{
	const struct flat_scope scope = flat_mesh_scope(o->mesh, as->workload, d->to.port);
	size_t len = strlen(reason);
	char why[700];
	if (d->hidden && len < size)
		snprintf(reason + len, size - len,
			 "; to this client the address is none of the mesh: %s",
			 flat_scope_why(&scope, d->hidden, why, sizeof(why)));
}

/* Over the wire: what carries the link that there is, and why. */
static void add_carrier(const struct flat_offload *o, const struct flat_decision *d, char *reason,
			size_t size)
{
	const struct flat_peer *p;
	size_t len = strlen(reason);
	struct flat_addr addr = d->target;
	char text[FLAT_ADDR_STRLEN];
	addr.port = d->wire.port;
	if (!o->peers || len >= size)
		return;
	p = flat_peer_find(o->peers, &addr);
	if (d->wire.hbone) {
		flat_addr_str(&addr, text);
		snprintf(reason + len, size - len, "; at %s, who must be ns/%s/sa/%s%s", text,
			 d->wire.namespace, d->wire.account ? d->wire.account : "default",
			 p ? "; a connection is open" : "");
		return;
	}
	snprintf(reason + len, size - len, "; over %s (%s)", p ? flat_peer_path(p) : "tcp",
		 p			? flat_peer_path_why(p)
		 : o->peers->verbs_name ? "there is no link yet; verbs are asked for with it"
					: "flatd runs without --verbs");
}

static const char *how(const struct flat_decision *d, bool plain)
{
	if (d->path == FLAT_CONN_DIRECT)
		return "accelerated: both applications share one lane";
	if (d->path == FLAT_CONN_KERNEL)
		return "no mesh server listens there: the kernel carries it";
	if (d->wire.port && d->wire.hbone)
		return "through flatd, which reaches the server by HBONE: HTTP/2 CONNECT over "
		       "mutual TLS; its host decides too";
	if (d->wire.port)
		return "through flatd, which reaches the server's host over the wire with mutual "
		       "TLS; that host decides too";
	if (d->sniff == FLAT_SNIFF_PROTOCOL)
		return "through flatd, once it has read whether the client speaks HTTP: the port's "
		       "protocol is not declared";
	if (d->sniff)
		return "through flatd, once it has read the name that the client asks for in TLS: "
		       "give it too, to see where";
	if (d->origin)
		return "through flatd, which begins TLS with a server outside the mesh";
	if (d->listener && d->listener->server)
		return "through flatd: the server's workload is confined, and it listens without "
		       "the library";
	if (!d->listener)
		return "through flatd, which connects to a server outside the mesh: the service "
		       "asks "
		       "for it";
	return plain ? "through flatd: a plain client has no lane"
		     : "through flatd: the service asks for it";
}

void flat_admin_why(struct flat_offload *o, const char *src, const char *dst, const char *sni,
		    bool json, struct flat_strbuf *out)
{
	struct flat_session as = {.offload = o};
	struct flat_question q = {.from = {.family = AF_INET, .ip = {127, 0, 0, 1}}, .dry = true};
	struct flat_decision d;
	char reason[1400];
	char name[256];
	bool plain = strcmp(src, "plain") == 0;
	as.workload = plain ? NULL : flat_admin_workload(o, src);
	if (as.workload)
		snprintf(as.name, sizeof(as.name), "%s.%s", as.workload->name,
			 as.workload->namespace);
	q.session = plain ? NULL : &as;
	for (size_t i = 0; sni && i < sizeof(name); i++) {
		name[i] = (char)tolower((unsigned char)sni[i]);
		if (!sni[i] || i == sizeof(name) - 1) {
			name[i] = 0;
			q.sni = name;
			break;
		}
	}
	if (!plain && !as.workload) {
		put_answer(out, json, false, "", NULL,
			   "there is no such workload; give NAMESPACE/NAME as in the "
			   "configuration, or `plain` for a client without libflat");
		return;
	}
	if (address_named(o, dst, as.workload, &q.to) != 0) {
		put_answer(out, json, false, "", NULL,
			   "there is no such service or address; give HOST:PORT, see flatctl ls");
		return;
	}
	flat_admit(o, &q, &d);
	if (as.workload)
		flat_account_check(&as, &d);
	snprintf(reason, sizeof(reason), "%s", d.reason[0] ? d.reason : how(&d, plain));
	if (d.status == 0)
		add_hidden(o, &as, &d, reason, sizeof(reason));
	if (d.status == 0 && d.wire.port)
		add_carrier(o, &d, reason, sizeof(reason));
	if (d.status == 0)
		add_route(&d, reason, sizeof(reason));
	if (d.status == 0)
		add_rule(o, &q, &d, reason, sizeof(reason));
	put_answer(out, json, d.status == 0, d.status == 0 ? flat_conn_path_name(d.path) : "", &d,
		   reason);
}

/* Whether it is the connection of that socket of the kernel's: flatd has its other end. */
static bool is_captured(const struct flat_conn *c, int pid, const char *local)
{
	char text[FLAT_ADDR_STRLEN];
	return c->client && c->client->captured && c->client->pid == pid && !c->l7_upstream &&
	       strcmp(flat_addr_str(&c->from, text), local) == 0;
}

/* How the bytes of an open connection go. */
static const char *how_goes(const struct flat_conn *c)
{
	if (c->path == FLAT_CONN_DIRECT)
		return "accelerated: both applications share one lane";
	return c->client && c->client->captured
		   ? "through flatd: the process is confined, and the kernel brings it there"
		   : "through flatd, in its private memory";
}

void flat_admin_socket(struct flat_offload *o, int pid, uint64_t inode, const char *local,
		       struct flat_strbuf *out)
{
	const struct flat_conn *c;
	const struct flat_session *s;
	const struct flat_listener *l;
	char text[FLAT_ADDR_STRLEN];
	TAILQ_FOREACH(c, &o->conns, link)
	{
		if ((inode == 0 || (c->end[0].inode != inode && c->end[1].inode != inode)) &&
		    !is_captured(c, pid, local))
			continue;
		flat_strbuf_printf(out, "found %s\n%s -> %s (%s), %s\n",
				   flat_conn_path_name(c->path), c->client_name, c->server_name,
				   c->service[0] ? c->service : flat_addr_str(&c->to, text),
				   how_goes(c));
		return;
	}
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (l->server && l->session->pid == pid &&
		    strcmp(flat_addr_str(&l->addr, text), local) == 0) {
			flat_strbuf_printf(out,
					   "found listener\nlistens on %s without the library, "
					   "confined: all reach it through flatd\n",
					   text);
			return;
		}
		if (inode == 0 || l->inode != inode)
			continue;
		flat_strbuf_printf(out,
				   "found listener\nlistens on %s: mesh clients reach it directly, "
				   "plain ones through flatd\n",
				   flat_addr_str(&l->addr, text));
		return;
	}
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (s->pid == pid)
			break;
	}
	const struct flat_misfit *misfit = s ? NULL : flat_session_misfit(o, pid);
	flat_strbuf_printf(out, "unknown %s\n", s ? "session" : misfit ? "misfit" : "stranger");
	if (misfit) {
		char mine[FLAT_SHARED_STRLEN];
		char theirs[FLAT_SHARED_STRLEN];
		flat_strbuf_printf(
		    out,
		    "the process has a libflat with shared layout %s, flatd has %s: restart it "
		    "with the libflat that belongs to this flatd\n",
		    flat_shared_str(misfit->shared, theirs),
		    flat_shared_str(flat_shared_version(), mine));
		return;
	}
	for (uint32_t i = 0; i < FLAT_REFUSALS_KEPT && i < o->n_refusals; i++) {
		const struct flat_refusal *r =
		    &o->refusals[(o->n_refusals - 1 - i) % FLAT_REFUSALS_KEPT];
		if (r->pid != pid)
			continue;
		flat_strbuf_printf(out, "last refused %s: %s\n", flat_addr_str(&r->to, text),
				   r->reason);
		return;
	}
}
