/*
 * The admin socket: a client connects, sends one line, gets one answer (text, or JSON with --json), and the
 * socket is closed. Root and flatd's own user only.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/offload.h"

static struct flat_source admin_source;
static struct flat_offload *admin_offload;
static char admin_path[108];

static const char *const path_names[] = {"kernel", "direct", "forwarded"};

static void put_text(FILE *f, const char *key, const char *value)
{
	fprintf(f, "\"%s\":\"", key);
	for (; *value; value++) {
		unsigned char ch = (unsigned char)*value;
		if (ch == '"' || ch == '\\')
			fprintf(f, "\\%c", ch);
		else if (ch < 0x20)
			fprintf(f, "\\u%04x", ch);
		else
			fputc(ch, f);
	}
	fputs("\"", f);
}

static void put_addr(FILE *f, const char *key, const struct flat_addr *a)
{
	char text[FLAT_ADDR_STRLEN];
	put_text(f, key, flat_addr_str(a, text));
}

/* Bytes of a direct connection: positions are its applications' words, shown as they say, modulo 2^32. */
static uint32_t tail_of(const struct flat_conn *c, int i)
{
	const struct flat_end *e = &c->end[i];
	if (!e->lane)
		return 0;
	return atomic_load_explicit(&flat_lane_slot(&e->lane->lane, e->slot)->ring[i].prod.tail,
				    memory_order_relaxed);
}

static void put_conns(FILE *f, const struct flat_offload *o)
{
	const struct flat_conn *c;
	const char *comma = "";
	fputs("\"connections\":[", f);
	TAILQ_FOREACH(c, &o->conns, link)
	{
		bool direct = c->path == FLAT_CONN_DIRECT;
		fprintf(f, "%s{\"id\":%llu,", comma, (unsigned long long)c->id);
		comma = ",";
		put_text(f, "path", path_names[c->path]);
		fputc(',', f);
		put_text(f, "service", c->service);
		fputc(',', f);
		put_text(f, "client", c->client_name);
		fputc(',', f);
		put_text(f, "server", c->server_name);
		fputc(',', f);
		put_addr(f, "from", &c->from);
		fputc(',', f);
		put_addr(f, "to", &c->to);
		fputc(',', f);
		put_addr(f, "target", &c->target);
		fprintf(f,
			",\"client_pid\":%d,\"server_pid\":%d,\"bytes_sent\":%llu,"
			"\"bytes_received\":%llu}",
			c->client ? (int)c->client->pid : 0,
			c->listener && c->listener->session ? (int)c->listener->session->pid : 0,
			(unsigned long long)(direct ? tail_of(c, 0) : c->end[0].bytes),
			(unsigned long long)(direct ? tail_of(c, 1) : c->end[1].bytes));
	}
	fputs("]", f);
}

static void put_refusals(FILE *f, const struct flat_offload *o)
{
	uint32_t n = o->n_refusals < FLAT_REFUSALS_KEPT ? o->n_refusals : FLAT_REFUSALS_KEPT;
	fputs("\"refusals\":[", f);
	for (uint32_t i = 0; i < n; i++) {
		const struct flat_refusal *r =
		    &o->refusals[(o->n_refusals - n + i) % FLAT_REFUSALS_KEPT];
		fprintf(f, "%s{\"pid\":%d,", i ? "," : "", (int)r->pid);
		put_text(f, "client", r->client_name);
		fputc(',', f);
		put_addr(f, "to", &r->to);
		fputc(',', f);
		put_text(f, "reason", r->reason);
		fputc('}', f);
	}
	fputs("]", f);
}

static void put_state(FILE *f, const struct flat_offload *o)
{
	const struct flat_session *s;
	const struct flat_listener *l;
	const struct flat_lane_link *lane;
	const char *comma = "";
	size_t lanes = 0;
	char name[96];
	fprintf(f, "{\"epoch\":%llu,\"sessions\":[", (unsigned long long)o->epoch);
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		fprintf(f, "%s{\"pid\":%d,\"uid\":%u,\"connections\":%u,", comma, (int)s->pid,
			s->uid, s->n_conns);
		put_text(f, "workload", flat_session_name(s, name));
		fputc(',', f);
		put_text(f, "exe", s->exe ? s->exe : "");
		fputc('}', f);
		comma = ",";
	}
	fputs("],\"listeners\":[", f);
	comma = "";
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		fprintf(f, "%s{\"pid\":%d,", comma, l->session ? (int)l->session->pid : 0);
		put_addr(f, "address", &l->addr);
		fputc(',', f);
		put_text(f, "workload", l->session ? flat_session_name(l->session, name) : "");
		fputc('}', f);
		comma = ",";
	}
	fputs("],\"services\":[", f);
	for (uint32_t i = 0; i < flat_mesh_n_services(o->mesh); i++) {
		const struct flat_service *sv = flat_mesh_service(o->mesh, i);
		struct flat_ip ip;
		char text[FLAT_IP_TEXT_MAX] = "";
		fputs(i ? ",{" : "{", f);
		put_text(f, "host", sv->host);
		fputc(',', f);
		put_text(f, "address",
			 flat_service_resolve(sv, &ip) == 0 ? flat_ip_text(&ip, text) : "");
		fputc('}', f);
	}
	fputs("],", f);
	put_conns(f, o);
	fputc(',', f);
	put_refusals(f, o);
	TAILQ_FOREACH(lane, &o->lanes, link)
	lanes++;
	fprintf(f,
		",\"lanes\":%zu,\"opened_direct\":%llu,\"opened_forwarded\":%llu,"
		"\"opened_kernel\":%llu,\"closed\":%llu,\"refused\":%llu,\"revoked\":%llu,"
		"\"bytes_forwarded\":%llu,\"config_errors\":%llu}\n",
		lanes, (unsigned long long)o->stats.opened[FLAT_CONN_DIRECT],
		(unsigned long long)o->stats.opened[FLAT_CONN_FORWARDED],
		(unsigned long long)o->stats.opened[FLAT_CONN_KERNEL],
		(unsigned long long)o->stats.closed, (unsigned long long)o->stats.refused,
		(unsigned long long)o->stats.revoked, (unsigned long long)o->stats.bytes_forwarded,
		(unsigned long long)o->stats.config_errors);
}

/* --- questions --- */

static const char *service_or_address(const struct flat_conn *c, char text[FLAT_ADDR_STRLEN])
{
	return c->service[0] ? c->service : flat_addr_str(&c->to, text);
}

static void put_ls(FILE *f, const struct flat_offload *o)
{
	const struct flat_session *s;
	const struct flat_listener *l;
	const struct flat_conn *c;
	char name[96];
	char a[FLAT_ADDR_STRLEN];
	char b[FLAT_ADDR_STRLEN];
	fprintf(f, "SERVICES\n");
	for (uint32_t i = 0; i < flat_mesh_n_services(o->mesh); i++) {
		const struct flat_service *sv = flat_mesh_service(o->mesh, i);
		struct flat_ip ip;
		char text[FLAT_IP_TEXT_MAX] = "-";
		if (flat_service_resolve(sv, &ip) == 0)
			flat_ip_text(&ip, text);
		fprintf(f, "  %-48s %-20s %s:%u\n", sv->host, text, sv->where.file, sv->where.line);
	}
	fprintf(f, "SESSIONS\n");
	TAILQ_FOREACH(s, &o->sessions, link)
	fprintf(f, "  pid %-8d uid %-6u %-32s %s\n", (int)s->pid, s->uid,
		flat_session_name(s, name), s->exe ? s->exe : "?");
	fprintf(f, "LISTENERS\n");
	TAILQ_FOREACH(l, &o->listeners, link)
	fprintf(f, "  %-24s pid %-8d %s\n", flat_addr_str(&l->addr, a),
		l->session ? (int)l->session->pid : 0,
		l->session ? flat_session_name(l->session, name) : "");
	fprintf(f, "CONNECTIONS\n");
	TAILQ_FOREACH(c, &o->conns, link)
	fprintf(f, "  %-24s -> %-24s %-10s %s -> %s\n", flat_addr_str(&c->from, a),
		flat_addr_str(&c->target, b), path_names[c->path], c->client_name, c->server_name);
}

static void put_top(FILE *f, const struct flat_offload *o, bool json)
{
	if (json)
		fputs("{\"services\":[", f);
	else
		fprintf(f, "%-48s %-10s %8s %10s %14s %14s\n", "SERVICE", "PATH", "OPEN", "OPENED",
			"SENT", "RECEIVED");
	for (uint32_t i = 0; i < o->n_totals; i++) {
		const struct flat_total *t = &o->totals[i];
		const struct flat_conn *c;
		uint64_t open = 0;
		uint64_t bytes[2] = {t->bytes[0], t->bytes[1]};
		char text[FLAT_ADDR_STRLEN];
		TAILQ_FOREACH(c, &o->conns, link)
		{
			if (c->path != t->path || strcmp(service_or_address(c, text), t->name) != 0)
				continue;
			open++;
			for (int k = 0; k < 2; k++)
				bytes[k] +=
				    c->path == FLAT_CONN_DIRECT ? tail_of(c, k) : c->end[k].bytes;
		}
		if (!json) {
			fprintf(f, "%-48s %-10s %8llu %10llu %14llu %14llu\n", t->name,
				path_names[t->path], (unsigned long long)open,
				(unsigned long long)t->opened, (unsigned long long)bytes[0],
				(unsigned long long)bytes[1]);
			continue;
		}
		fputs(i ? ",{" : "{", f);
		put_text(f, "service", t->name);
		fputc(',', f);
		put_text(f, "path", path_names[t->path]);
		fprintf(f,
			",\"connections\":%llu,\"connections_opened\":%llu,\"bytes_sent\":%llu,"
			"\"bytes_received\":%llu}",
			(unsigned long long)open, (unsigned long long)t->opened,
			(unsigned long long)bytes[0], (unsigned long long)bytes[1]);
	}
	if (json)
		fputs("]}\n", f);
	else
		fprintf(f, "refused %llu, revoked %llu\n", (unsigned long long)o->stats.refused,
			(unsigned long long)o->stats.revoked);
}

/* "demo/shop", "shop.demo", "shop". */
static const struct flat_workload *workload_named(const struct flat_offload *o, const char *text)
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

static int address_named(const struct flat_offload *o, const char *text, struct flat_addr *addr)
{
	char buf[300];
	struct flat_ip ip;
	snprintf(buf, sizeof(buf), "%s", text);
	char *colon = strrchr(buf, ':');
	if (!colon)
		return -EINVAL;
	*colon = 0;
	const struct flat_service *sv = flat_mesh_service_by_host(o->mesh, buf, NULL);
	if (sv ? flat_service_resolve(sv, &ip) != 0 : flat_ip_parse(buf, &ip) != 0)
		return -ENOENT;
	*addr =
	    (struct flat_addr){.family = ip.family, .port = (uint16_t)strtoul(colon + 1, NULL, 10)};
	memcpy(addr->ip, ip.bytes, 16);
	return 0;
}

static void put_answer(FILE *f, bool json, bool allowed, const char *path, const char *reason)
{
	if (!json) {
		fprintf(f, "%s%s%s\n%s\n", allowed ? "allowed" : "denied", *path ? ", path " : "",
			path, reason);
		return;
	}
	fprintf(f, "{\"allowed\":%s,", allowed ? "true" : "false");
	put_text(f, "path", path);
	fputc(',', f);
	put_text(f, "reason", reason);
	fputs("}\n", f);
}

static void put_why(FILE *f, struct flat_offload *o, const char *src, const char *dst, bool json)
{
	struct flat_session as = {.offload = o};
	struct flat_addr to;
	struct flat_addr from = {.family = AF_INET, .ip = {127, 0, 0, 1}};
	struct flat_decision d;
	as.workload = workload_named(o, src);
	if (!as.workload) {
		put_answer(f, json, false, "",
			   "there is no such workload; give NAMESPACE/NAME, see flatctl check");
		return;
	}
	if (address_named(o, dst, &to) != 0) {
		put_answer(f, json, false, "",
			   "there is no such service or address; give HOST:PORT, see flatctl ls");
		return;
	}
	flat_admit(o, &as, &from, &to, NULL, &d);
	const char *how =
	    d.reason[0]			 ? d.reason
	    : d.path == FLAT_CONN_KERNEL ? "no mesh server listens there: the kernel carries it"
	    : d.path == FLAT_CONN_DIRECT ? "accelerated: both applications share one lane"
					 : "through flatd: the service asks for it";
	put_answer(f, json, d.status == 0, d.status == 0 ? path_names[d.path] : "", how);
}

static void put_why_fd(FILE *f, const struct flat_offload *o, int pid, unsigned long long inode,
		       bool json)
{
	const struct flat_conn *c;
	const struct flat_session *s;
	const struct flat_refusal *r;
	char reason[700];
	char text[FLAT_ADDR_STRLEN];
	TAILQ_FOREACH(c, &o->conns, link)
	{
		for (int i = 0; i < 2; i++) {
			if (c->end[i].inode != inode || inode == 0)
				continue;
			snprintf(reason, sizeof(reason), "%s -> %s (%s), %s", c->client_name,
				 c->server_name, service_or_address(c, text),
				 c->path == FLAT_CONN_DIRECT
				     ? "accelerated: both applications share one lane"
				     : "through flatd, in its private memory");
			put_answer(f, json, true, path_names[c->path], reason);
			return;
		}
	}
	TAILQ_FOREACH(s, &o->sessions, link)
	{
		if (s->pid == pid)
			break;
	}
	snprintf(
	    reason, sizeof(reason), "%s",
	    s ? "the kernel's: not TCP, or its address is not in the mesh"
	      : "the kernel's: the process has no session; it runs without libflat, or has not "
		"used a socket yet");
	for (uint32_t i = 0; i < FLAT_REFUSALS_KEPT && i < o->n_refusals; i++) {
		r = &o->refusals[i];
		if (r->pid == pid)
			snprintf(reason, sizeof(reason), "last refused %s: %s",
				 flat_addr_str(&r->to, text), r->reason);
	}
	put_answer(f, json, true, "kernel", reason);
}

/* One request line, one answer. */
static void answer(FILE *f, struct flat_offload *o, char *line)
{
	char *save = NULL;
	char *words[4] = {NULL};
	bool json = false;
	size_t n = 0;
	for (char *w = strtok_r(line, " \n", &save); w; w = strtok_r(NULL, " \n", &save)) {
		if (strcmp(w, "--json") == 0)
			json = true;
		else if (n < FLAT_ARRAY_SIZE(words))
			words[n++] = w;
	}
	if (n == 1 && strcmp(words[0], "ls") == 0)
		json ? put_state(f, o) : put_ls(f, o);
	else if (n == 1 && strcmp(words[0], "top") == 0)
		put_top(f, o, json);
	else if (n == 3 && strcmp(words[0], "why") == 0)
		put_why(f, o, words[1], words[2], json);
	else if (n == 3 && strcmp(words[0], "whyfd") == 0)
		put_why_fd(f, o, (int)strtol(words[1], NULL, 10), strtoull(words[2], NULL, 10),
			   json);
	else if (n == 1 && strcmp(words[0], "reload") == 0)
		o->reload = true;
	else
		fputs("flatd does not know this question\n", f);
}

struct asker {
	struct flat_source source;
};

static void on_question(struct flat_source *source, int events)
{
	struct asker *a = FLAT_CONTAINER_OF(source, struct asker, source);
	char line[1024];
	char *text = NULL;
	size_t len = 0;
	(void)events;
	ssize_t got = flat_sys_recv(source->fd, line, sizeof(line) - 1, MSG_DONTWAIT);
	if (got == -EAGAIN)
		return;
	FILE *f = got > 0 ? open_memstream(&text, &len) : NULL;
	if (f) {
		line[got] = 0;
		answer(f, admin_offload, line);
		fclose(f);
		int size = (int)flat_min_size(len + 4096, 64U << 20);
		(void)flat_sys_setsockopt(source->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size,
					  sizeof(size));
		/* What a slow or hostile reader leaves no room for is cut; nobody waits for it. */
		(void)flat_sys_send(source->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		free(text);
	}
	flat_loop_del(&admin_offload->loop, source);
	close(source->fd);
	free(a);
}

static void on_admin(struct flat_source *source, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	(void)source;
	if (fd < 0)
		return;
	struct asker *a = calloc(1, sizeof(*a));
	if (!a || flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
	    (cred.uid != 0 && cred.uid != geteuid()) ||
	    flat_loop_poll(&admin_offload->loop, &a->source, fd, POLLIN | POLLRDHUP, on_question)) {
		close(fd);
		free(a);
	}
}

int flat_admin_open(struct flat_offload *o, const char *control_path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s.admin", control_path);
	if (n < 0 || (size_t)n >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	int fd = flat_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	unlink(un.sun_path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) != 0 || chmod(un.sun_path, 0600) != 0 ||
	    listen(fd, 64) != 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	admin_offload = o;
	memcpy(admin_path, un.sun_path, sizeof(admin_path));
	return flat_loop_accept(&o->loop, &admin_source, fd, on_admin);
}

void flat_admin_close(struct flat_offload *o)
{
	if (admin_source.index == 0)
		return;
	flat_loop_del(&o->loop, &admin_source);
	close(admin_source.fd);
	unlink(admin_path);
}
