/*
 * The admin socket: a client connects, gets one JSON document of the present state, and the socket is closed.
 * flatctl picks what it was asked for. Root and flatd's own user only.
 */
#include <errno.h>
#include <fcntl.h>
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
	return atomic_load_explicit(
		&flat_lane_slot(&e->lane->lane, e->slot)->ring[i].prod.tail, memory_order_relaxed);
}

static void put_conns(FILE *f, const struct flat_offload *o)
{
	const struct flat_conn *c;
	const char *comma = "";
	fputs("\"connections\":[", f);
	TAILQ_FOREACH (c, &o->conns, link) {
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
		fprintf(f, ",\"client_pid\":%d,\"server_pid\":%d,\"bytes_sent\":%llu,"
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
	TAILQ_FOREACH (s, &o->sessions, link) {
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
	TAILQ_FOREACH (l, &o->listeners, link) {
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
		put_text(f, "address", flat_service_resolve(sv, &ip) == 0 ? flat_ip_text(&ip, text) : "");
		fputc('}', f);
	}
	fputs("],", f);
	put_conns(f, o);
	fputc(',', f);
	put_refusals(f, o);
	TAILQ_FOREACH (lane, &o->lanes, link)
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

static void on_admin(struct flat_source *source, int fd)
{
	char *text = NULL;
	size_t len = 0;
	(void)source;
	if (fd < 0)
		return;
	struct ucred cred;
	socklen_t cred_len = sizeof(cred);
	if (flat_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0 ||
	    (cred.uid != 0 && cred.uid != geteuid())) {
		close(fd);
		return;
	}
	FILE *f = open_memstream(&text, &len);
	if (f) {
		put_state(f, admin_offload);
		fclose(f);
		int size = (int)flat_min_size(len, 64U << 20);
		(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
		/* What a slow or hostile reader leaves no room for is cut; flatctl sees that it is. */
		(void)flat_sys_send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		free(text);
	}
	close(fd);
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
