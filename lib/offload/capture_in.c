#include "offload/capture_in.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "offload/admit.h"
#include "offload/capture.h"
#include "offload/capture_diag.h"
#include "offload/capture_in_bpf.h"

/* So many times as long as a look took, news wait after it: a cgroup may make them without end. */
#define REST 4

struct flat_in_cgroup {
	TAILQ_ENTRY(flat_in_cgroup) link;
	const char *path;
	uint64_t id;
	struct flat_in_bpf bpf;
};

/* An address at which sockets of confined cgroups listen. */
struct flat_in_server {
	TAILQ_ENTRY(flat_in_server) link;
	struct flat_listener *listener;
	struct flat_capture_key at;
	struct flat_capture_record who; /* the first of those that bound it */
	uint64_t cgroups[FLAT_CAPTURE_NESTED];
};

struct flat_captures_in {
	struct flat_offload *offload;
	struct flat_in_gate gate;
	struct ring_buffer *news;
	struct flat_source source; /* of `news` */
	int64_t rests_until_us;	   /* news wait until then: looking is not all that flatd does */
	bool waits;		   /* some do */
	TAILQ_HEAD(, flat_in_cgroup) cgroups;
	TAILQ_HEAD(, flat_in_server) servers;
};

/* A socket that listens, as found. */
struct found {
	struct flat_in_bind bind;
	const struct flat_in_cgroup *cgroup;
};

/* What is found by its address: a copy, as the server may end during the look. */
struct known {
	struct flat_capture_key at;
	struct flat_in_server *server;
};

struct look {
	struct flat_captures_in *all;
	const struct flat_in_cgroup *cgroup; /* that is being looked at */
	struct found *v;
	size_t n, max;
	bool failed;   /* no memory: what there is stays */
	bool any6;     /* some listen at all addresses of IPv6 */
	uint8_t *dual; /* a bit for each port at which that is all of IPv4 too */
	/* What there is, by address. */
	struct known *servers;
	size_t n_servers;
	struct flat_capture_key *mesh; /* where the library's servers listen */
	size_t n_mesh;
};

/* --- addresses, in the form of the kernel's programs --- */

static void ip_out(const struct flat_addr *a, uint32_t ip[4])
{
	memset(ip, 0, 16);
	if (a->family == AF_INET) {
		ip[2] = htonl(0xffff);
		memcpy(&ip[3], a->ip, 4);
	} else {
		memcpy(ip, a->ip, 16);
	}
}

static struct flat_addr addr_of(const struct flat_capture_key *at)
{
	struct flat_addr a = {.family = AF_INET6, .port = (uint16_t)at->port};
	memcpy(a.ip, at->ip, sizeof(a.ip));
	flat_addr_unmap(&a);
	return a;
}

static struct flat_in_way way_of(const struct flat_addr *from, const struct flat_addr *to)
{
	struct flat_in_way way = {.from_port = htons(from->port), .to_port = htons(to->port)};
	ip_out(from, way.from);
	ip_out(to, way.to);
	return way;
}

/* --- who listens --- */

static void on_bind(void *ctx, const struct flat_in_bind *bind)
{
	struct look *look = ctx;
	static const uint32_t any6[4];
	if (look->n == look->max) {
		size_t max = look->max ? look->max * 2 : 64;
		struct found *v = realloc(look->v, max * sizeof(*v));
		look->failed |= !v;
		if (!v)
			return;
		look->v = v;
		look->max = max;
	}
	look->v[look->n++] = (struct found){.bind = *bind, .cgroup = look->cgroup};
	look->any6 |= memcmp(bind->at.ip, any6, sizeof(any6)) == 0;
	/* What it is to count is counted by the kernel; what it missed is not lost. */
	flat_in_gate_hold(&look->all->gate, &bind->at);
}

static int by_address(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;
	return memcmp(&x->bind.at, &y->bind.at, sizeof(x->bind.at));
}

static void on_dual(void *ctx, const struct flat_diag_socket *s)
{
	struct look *look = ctx;
	if (s->addr.family == AF_INET6 && flat_addr_is_any(&s->addr) && !s->v6only)
		look->dual[s->addr.port / 8] |= (uint8_t)(1U << s->addr.port % 8);
}

static bool is_dual(const struct look *look, uint16_t port)
{
	return look->dual && (look->dual[port / 8] >> port % 8 & 1);
}

/* Of what begins with one. */
static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct flat_capture_key));
}

static struct flat_in_server *find_server(const struct look *look,
					  const struct flat_capture_key *at)
{
	const struct known *found =
	    look->n_servers > 0
		? bsearch(at, look->servers, look->n_servers, sizeof(*look->servers), by_key)
		: NULL;
	return found ? found->server : NULL;
}

static bool has_mesh_server(const struct look *look, const struct flat_capture_key *at)
{
	return look->n_mesh > 0 &&
	       bsearch(at, look->mesh, look->n_mesh, sizeof(*look->mesh), by_key) != NULL;
}

/* Sorted: a cgroup may have thousands, and each is looked for. False: no memory. */
static bool sort_what_is_there(struct look *look)
{
	struct flat_offload *o = look->all->offload;
	const struct flat_listener *l;
	look->servers = calloc(o->n_listeners + 1, sizeof(*look->servers));
	look->mesh = calloc(o->n_listeners + 1, sizeof(*look->mesh));
	if (!look->servers || !look->mesh)
		return false;
	TAILQ_FOREACH(l, &o->listeners, link)
	{
		if (l->server) {
			look->servers[look->n_servers++] =
			    (struct known){.at = l->server->at, .server = l->server};
		} else {
			ip_out(&l->addr, look->mesh[look->n_mesh].ip);
			look->mesh[look->n_mesh++].port = l->addr.port;
		}
	}
	qsort(look->servers, look->n_servers, sizeof(*look->servers), by_key);
	qsort(look->mesh, look->n_mesh, sizeof(*look->mesh), by_key);
	return true;
}

static struct flat_session *session_of(struct flat_captures_in *all, const struct found *f)
{
	const struct flat_capture_record *who = &f->bind.who;
	char path[PATH_MAX];
	if (who->cgroup != f->cgroup->id && !flat_captures_path(all->offload, who->cgroup, path))
		return NULL;
	return flat_session_captured(all->offload, (pid_t)who->pid, who->uid, who->gid,
				     who->cgroup == f->cgroup->id ? f->cgroup->path : path);
}

/* Whether both are one workload's. */
static bool alike(struct flat_captures_in *all, const struct found *a, const struct found *b)
{
	const struct flat_capture_record *x = &a->bind.who;
	const struct flat_capture_record *y = &b->bind.who;
	if (x->uid == y->uid && x->gid == y->gid && x->cgroup == y->cgroup)
		return true;
	struct flat_session *s[] = {session_of(all, a), session_of(all, b)};
	bool same = s[0] && s[1] && s[0]->workload == s[1]->workload;
	for (size_t i = 0; i < 2; i++) {
		if (s[i])
			flat_session_put(s[i]);
	}
	return same;
}

/* NULL: no memory, or its cgroup is gone. */
static struct flat_in_server *begin(struct flat_captures_in *all, const struct found *f,
				    const struct flat_addr *addr, bool dual)
{
	struct flat_in_server *s = calloc(1, sizeof(*s));
	struct flat_session *session = s ? session_of(all, f) : NULL;
	struct flat_listener like = {
	    .session = session, .addr = *addr, .v6only = !dual, .server = s};
	if (!session) {
		free(s);
		return NULL;
	}
	s->at = f->bind.at;
	s->who = f->bind.who;
	like.id = ++all->offload->next_id;
	if (flat_listener_add(all->offload, &like, -1, -1) != 0) {
		flat_session_put(session);
		free(s);
		return NULL;
	}
	s->listener = TAILQ_LAST(&all->offload->listeners, flat_listeners);
	TAILQ_INSERT_TAIL(&all->servers, s, link);
	return s;
}

/* Who had it first has ended, and others go on. */
static void inherit(struct flat_captures_in *all, struct flat_in_server *s, const struct found *f)
{
	struct flat_session *session = session_of(all, f);
	struct flat_session *old = s->listener->session;
	if (!session)
		return;
	session->n_listeners++;
	s->listener->session = session;
	s->who = f->bind.who;
	old->n_listeners--;
	flat_session_put(old);
	/* What is chosen among depends on it. */
	all->offload->listening++;
}

static void note_cgroups(struct flat_in_server *s, const struct found *f, size_t n)
{
	memset(s->cgroups, 0, sizeof(s->cgroups));
	for (size_t i = 0; i < n; i++) {
		size_t j = 0;
		while (j < FLAT_CAPTURE_NESTED && s->cgroups[j] && s->cgroups[j] != f[i].cgroup->id)
			j++;
		if (j < FLAT_CAPTURE_NESTED)
			s->cgroups[j] = f[i].cgroup->id;
	}
}

/* What listens at one address. */
static void settle(struct look *look, const struct found *f, size_t n)
{
	struct flat_captures_in *all = look->all;
	const struct flat_addr addr = addr_of(&f->bind.at);
	const bool dual =
	    addr.family == AF_INET6 && flat_addr_is_any(&addr) && is_dual(look, addr.port);
	const bool mesh = has_mesh_server(look, &f->bind.at);
	struct flat_in_server *s = find_server(look, &f->bind.at);
	bool mixed = false;
	bool same = false;
	for (size_t i = 0; i < n; i++) {
		mixed |= i > 0 && !alike(all, f, &f[i]);
		same |= s && memcmp(&f[i].bind.who, &s->who, sizeof(s->who)) == 0;
	}
	if (addr.family == AF_INET6 && flat_addr_is_any(&addr))
		flat_in_gate_dual(&all->gate, addr.port, dual);
	if (s && (mixed || s->listener->v6only == dual || mesh)) {
		flat_listener_close(s->listener);
		s = NULL;
	}
	/* Connections would come to either, and rules of one hold for both: they are reset. */
	if (mixed || mesh)
		return;
	if (s && !same)
		inherit(all, s, f);
	if (!s)
		s = begin(all, f, &addr, dual);
	if (s)
		note_cgroups(s, f, n);
}

static bool is_found(const struct look *look, const struct flat_in_server *s)
{
	const struct found key = {.bind = {.at = s->at}};
	return look->n > 0 && bsearch(&key, look->v, look->n, sizeof(*look->v), by_address) != NULL;
}

static void settle_all(struct look *look)
{
	struct flat_in_server *s;
	struct flat_in_server *next;
	if (look->n > 0)
		qsort(look->v, look->n, sizeof(*look->v), by_address);
	for (s = TAILQ_FIRST(&look->all->servers); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!is_found(look, s))
			flat_listener_close(s->listener);
	}
	if (!sort_what_is_there(look)) {
		look->failed = true;
		return;
	}
	for (size_t i = 0; i < look->n;) {
		size_t n = 1;
		while (i + n < look->n && by_address(&look->v[i], &look->v[i + n]) == 0)
			n++;
		settle(look, &look->v[i], n);
		i += n;
	}
}

void flat_captures_in_look(struct flat_offload *o)
{
	struct flat_captures_in *all = o->captures_in;
	struct flat_in_cgroup *c;
	if (!all || o->retired)
		return;
	const int64_t begun_us = flat_now_us();
	struct look look = {.all = all};
	TAILQ_FOREACH(c, &all->cgroups, link)
	{
		look.cgroup = c;
		flat_in_bpf_each(&c->bpf, on_bind, &look);
	}
	if (look.any6 && (look.dual = calloc(1, 65536 / 8)) != NULL)
		look.failed |= flat_diag_listeners(on_dual, &look) != 0;
	if (!look.failed && (look.n > 0 || !TAILQ_EMPTY(&all->servers)))
		settle_all(&look);
	if (look.failed)
		flat_warn("who listens in confined cgroups cannot be looked up: no memory");
	free(look.servers);
	free(look.mesh);
	free(look.dual);
	free(look.v);
	const int64_t now_us = flat_now_us();
	all->waits = false;
	all->rests_until_us = now_us + REST * (now_us - begun_us);
}

int flat_captures_in_expire(struct flat_offload *o)
{
	const struct flat_captures_in *all = o->captures_in;
	if (!all || !all->waits || o->retired)
		return -1;
	const int64_t left_us = all->rests_until_us - flat_now_us();
	if (left_us > 0)
		return (int)(left_us / 1000) + 1;
	flat_captures_in_look(o);
	return -1;
}

/* --- news --- */

static int on_one(void *ctx, void *data, size_t len)
{
	(void)ctx;
	(void)data;
	(void)len;
	return 0;
}

static void on_news(struct flat_source *source, int events)
{
	struct flat_captures_in *all = FLAT_CONTAINER_OF(source, struct flat_captures_in, source);
	(void)events;
	/* Before the look: what happens from here on is told again. */
	(void)ring_buffer__consume(all->news);
	all->waits = true;
	(void)flat_captures_in_expire(all->offload);
}

/* --- cgroups --- */

int flat_captures_in_open(struct flat_offload *o, int dir, const int sockets[2], char *why,
			  size_t size)
{
	struct flat_captures_in *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	all->offload = o;
	all->source.fd = -1;
	TAILQ_INIT(&all->cgroups);
	TAILQ_INIT(&all->servers);
	int err = flat_in_gate_open(&all->gate, dir, sockets, o->confine_port, why, size);
	if (err == 0) {
		all->news = ring_buffer__new(all->gate.news, on_one, NULL, NULL);
		err = all->news ? flat_loop_poll(&o->loop, &all->source,
						 ring_buffer__epoll_fd(all->news), POLLIN, on_news)
				: -ENOMEM;
	}
	o->captures_in = all;
	if (err != 0)
		flat_captures_in_close(o);
	return err;
}

struct old {
	struct flat_captures_in *all;
	struct flat_in_cgroup *cgroup;
};

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);
	return strncmp(path, top, len) == 0 && (path[len] == 0 || path[len] == '/');
}

/* It listened before anything was there that could have written it down. */
static void on_old(void *ctx, const struct flat_diag_socket *s)
{
	const struct old *old = ctx;
	char path[PATH_MAX];
	struct flat_in_bind bind = {.listens = 1};
	if (s->device != 0 || (s->cgroup != old->cgroup->id &&
			       (!flat_captures_path(old->all->offload, s->cgroup, path) ||
				!is_below(path, old->cgroup->path))))
		return;
	ip_out(&s->addr, bind.at.ip);
	bind.at.port = s->addr.port;
	bind.who.uid = s->uid;
	bind.who.gid = (gid_t)-1;
	bind.who.cgroup = s->cgroup;
	flat_in_bpf_add(&old->cgroup->bpf, s->cookie, &bind);
}

int flat_captures_in_add(struct flat_offload *o, struct flat_in_cgroup **out, int dir, uint64_t id,
			 const char *path, char *why, size_t size)
{
	struct flat_captures_in *all = o->captures_in;
	struct flat_in_cgroup *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->path = path;
	c->id = id;
	int err = flat_in_bpf_attach(&c->bpf, &all->gate, dir, id, why, size);
	if (err != 0) {
		free(c);
		return err;
	}
	struct old old = {.all = all, .cgroup = c};
	if (flat_diag_listeners(on_old, &old) != 0)
		flat_warn("servers in cgroup %s that listen already are not reached until they "
			  "listen anew: the kernel does not list them",
			  path);
	TAILQ_INSERT_TAIL(&all->cgroups, c, link);
	*out = c;
	return 0;
}

void flat_captures_in_drop(struct flat_offload *o, struct flat_in_cgroup *c)
{
	if (!c)
		return;
	TAILQ_REMOVE(&o->captures_in->cgroups, c, link);
	flat_in_bpf_close(&c->bpf);
	free(c);
	if (TAILQ_EMPTY(&o->captures_in->cgroups) && !o->retired)
		flat_captures_in_look(o);
}

void flat_captures_in_forget(struct flat_listener *l)
{
	TAILQ_REMOVE(&l->offload->captures_in->servers, l->server, link);
	free(l->server);
	l->server = NULL;
}

void flat_captures_in_yield(struct flat_offload *o, const struct flat_addr *addr)
{
	struct flat_in_server *s;
	if (!o->captures_in)
		return;
	TAILQ_FOREACH(s, &o->captures_in->servers, link)
	{
		if (flat_addr_equal(&s->listener->addr, addr))
			break;
	}
	if (s)
		flat_listener_close(s->listener);
}

void flat_captures_in_retire(struct flat_offload *o)
{
	if (o->captures_in)
		flat_loop_del(&o->loop, &o->captures_in->source);
}

void flat_captures_in_close(struct flat_offload *o)
{
	struct flat_captures_in *all = o->captures_in;
	struct flat_in_cgroup *c;
	struct flat_in_server *s;
	if (!all)
		return;
	while ((s = TAILQ_FIRST(&all->servers)) != NULL)
		flat_listener_close(s->listener);
	while ((c = TAILQ_FIRST(&all->cgroups)) != NULL) {
		TAILQ_REMOVE(&all->cgroups, c, link);
		flat_in_bpf_close(&c->bpf);
		free(c);
	}
	flat_loop_del(&o->loop, &all->source);
	ring_buffer__free(all->news);
	flat_in_gate_close(&all->gate);
	free(all);
	o->captures_in = NULL;
}

/* --- connections --- */

static struct flat_addr name_of(int fd, int call)
{
	struct sockaddr_storage ss;
	struct flat_addr a = {0};
	socklen_t len = sizeof(ss);
	memset(&ss, 0, sizeof(ss));
	int err = call == SYS_getpeername ? (int)FLAT_SYS3(SYS_getpeername, fd, &ss, &len)
					  : flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len);
	if (err == 0)
		(void)!flat_addr_from_sockaddr(&a, (struct sockaddr *)&ss, len);
	flat_addr_unmap(&a);
	return a;
}

static bool is_our_port(const struct flat_offload *o, const struct flat_addr *a)
{
	static const uint8_t one[2][16] = {{127, 0, 0, 1}, {[15] = 1}};
	return a->port == o->confine_port &&
	       memcmp(a->ip, one[a->family == AF_INET6], sizeof(a->ip)) == 0;
}

static void turn_away(struct flat_offload *o, int fd, const struct flat_addr *to, const char *why)
{
	flat_refuse(o, NULL, "plain client", to, FLAT_REFUSED_NO_ENDPOINT, why);
	flat_sys_reset_at_close(fd);
	close(fd);
}

bool flat_captures_in_came(struct flat_offload *o, int fd)
{
	struct flat_captures_in *all = o->captures_in;
	const struct flat_addr to = name_of(fd, SYS_getsockname);
	if (!all || to.family == 0 || is_our_port(o, &to))
		return false;
	const struct flat_addr from = name_of(fd, SYS_getpeername);
	const struct flat_in_way way = way_of(&from, &to);
	if (flat_in_gate_passes(&all->gate, &way)) {
		turn_away(o, fd, &to, "flatd has come to itself");
		return true;
	}
	struct flat_listener *l = flat_listener_find(o, &to, NULL);
	if (!l) {
		flat_captures_in_look(o);
		l = flat_listener_find(o, &to, NULL);
	}
	if (l)
		flat_conn_plain(l, fd);
	else
		turn_away(o, fd, &to,
			  "no server of a confined workload listens there, or several do that "
			  "are not one workload's");
	return true;
}

/* 127.0.0.0/8 is this host's: a source for each connection, whose port nobody has had in the last minute. */
static struct flat_addr source_for(const struct flat_addr *to)
{
	struct flat_addr from = *to;
	uint8_t r[3] = {0, 0, 1};
	from.port = 0;
	if (to->family != AF_INET)
		return from;
	(void)!getrandom(r, sizeof(r), GRND_NONBLOCK);
	memcpy(from.ip, (const uint8_t[]){127, r[0], r[1], (uint8_t)(r[2] | 1)}, 4);
	return from;
}

int flat_captures_in_dial(struct flat_conn *c, int fd)
{
	struct flat_captures_in *all = c->offload->captures_in;
	struct sockaddr_storage ss;
	struct flat_in_pass pass = {0};
	flat_addr_unmap(&c->target);
	if (flat_addr_is_any(&c->target) && c->target.family == AF_INET)
		memcpy(c->target.ip, (const uint8_t[]){127, 0, 0, 1}, 4);
	else if (flat_addr_is_any(&c->target))
		c->target.ip[15] = 1;
	struct flat_addr from = source_for(&c->target);
	socklen_t len = flat_addr_to_sockaddr(&from, &ss);
	int err = (int)FLAT_SYS3(SYS_bind, fd, &ss, len);
	if (err != 0)
		return err;
	from = name_of(fd, SYS_getsockname);
	c->way = malloc(sizeof(*c->way));
	if (!c->way)
		return -ENOMEM;
	*c->way = way_of(&from, &c->target);
	c->pending = true;
	c->listener->n_pending++;
	TAILQ_INSERT_TAIL(&c->listener->pending, c, pending_link);
	const struct flat_addr *guest = c->from.family ? &c->from : &from;
	ip_out(guest, pass.guest.ip);
	pass.guest.port = htons(guest->port);
	memcpy(pass.cgroups, c->listener->server->cgroups, sizeof(pass.cgroups));
	return flat_in_gate_pass(&all->gate, c->way, &pass);
}

void flat_captures_in_hung_up(struct flat_conn *c)
{
	if (c->offload->captures_in)
		flat_in_gate_unpass(&c->offload->captures_in->gate, c->way);
	free(c->way);
	c->way = NULL;
}
