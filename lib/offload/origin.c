#include "offload/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "mesh/gateway.h"
#include "wire/tls.h"

/* How often the files of a context are looked at for change, us: while it is used. */
#define LOOK_US 1000000

/* A context, for as long as its rule's configuration is in force and its files stay the same. */
struct flat_origin_context {
	SLIST_ENTRY(flat_origin_context) link;
	const struct flat_tls_origin *rule;
	enum flat_tls_inside inside;
	SSL_CTX *ctx;
	uint64_t stamp; /* of the files */
	int64_t looked_us;
};

struct flat_origin {
	const struct flat_tls_origin *rule; /* the mesh's: to compare with, and for prepare */
	uint64_t epoch;
	SSL_CTX *ctx; /* a reference */
	struct flat_tls *tls;
	enum flat_tls_inside inside;
	bool by_name; /* its certificate bears `name`; else what the context asks for */
	char name[256];
};

/* --- contexts --- */

static uint64_t stamp_of(const struct flat_tls_origin *rule)
{
	const char *files[] = {rule->cert, rule->key, rule->ca};
	uint64_t of[12] = {0};
	struct stat st;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(files); i++) {
		if (!files[i] || stat(files[i], &st) != 0)
			continue;
		of[4 * i] = (uint64_t)st.st_mtim.tv_sec;
		of[4 * i + 1] = (uint64_t)st.st_mtim.tv_nsec;
		of[4 * i + 2] = (uint64_t)st.st_ino;
		of[4 * i + 3] = (uint64_t)st.st_size;
	}
	return flat_hash(of, sizeof(of));
}

static int from_secret(const struct flat_mesh *mesh, const struct flat_tls_origin *rule,
		       struct flat_tls_pair *pair, struct flat_tls_options *options, char *why,
		       size_t size)
{
	const struct flat_secret *secret =
	    flat_mesh_secret(mesh, rule->namespace, rule->credential);
	char name[512];

	snprintf(name, sizeof(name), "%s-cacert", rule->credential);
	const struct flat_secret *ca = flat_mesh_secret(mesh, rule->namespace, name);
	options->ca.text = secret && secret->ca ? secret->ca
			   : ca			? ca->ca ? ca->ca : ca->cert
						: NULL;
	if (secret && rule->mutual) {
		pair->cert.text = secret->cert;
		pair->key.text = secret->key;
	}
	if ((pair->cert.text && pair->key.text) || (!rule->mutual && options->ca.text))
		return 0;
	snprintf(why, size, "there is no Secret %s/%s with %s", rule->namespace, rule->credential,
		 rule->mutual ? "tls.crt and tls.key" : "ca.crt");
	return -ENOENT;
}

static int make(struct flat_offload *o, const struct flat_tls_origin *rule,
		enum flat_tls_inside inside, SSL_CTX **out, char *why, size_t size)
{
	struct flat_tls_pair pair = {.cert.file = rule->cert, .key.file = rule->key};
	struct flat_tls_options options = {
	    .pairs = &pair,
	    .ca.file = rule->ca,
	    .ca.text = rule->authorities,
	    .names = rule->names,
	    .n_names = rule->n_names,
	};
	if (rule->broken) {
		snprintf(why, size, "%s", rule->broken);
		return -ENOENT;
	}
	int err = rule->credential ? from_secret(o->mesh, rule, &pair, &options, why, size) : 0;

	options.n_pairs = pair.cert.file || pair.cert.text;
	return err != 0
		   ? err
		   : flat_tls_client_context(&options, rule->unverified, inside, out, why, size);
}

/* The context of a rule; one whose files cannot be read any more stays as it is. */
static SSL_CTX *context(struct flat_offload *o, const struct flat_tls_origin *rule,
			enum flat_tls_inside inside, char *why, size_t size)
{
	struct flat_origin_context *c;
	int64_t now = flat_now_us();
	SSL_CTX *fresh = NULL;

	SLIST_FOREACH(c, &o->origins, link)
	{
		if (c->rule == rule && c->inside == inside)
			break;
	}
	if (c && now - c->looked_us < LOOK_US)
		return c->ctx;
	uint64_t stamp = stamp_of(rule);
	if (c) {
		c->looked_us = now;
		if (c->stamp == stamp || make(o, rule, inside, &fresh, why, size) != 0)
			return c->ctx;
		SSL_CTX_free(c->ctx);
	} else {
		if (make(o, rule, inside, &fresh, why, size) != 0)
			return NULL;
		c = calloc(1, sizeof(*c));
		if (!c) {
			SSL_CTX_free(fresh);
			snprintf(why, size, "out of memory");
			return NULL;
		}
		*c = (struct flat_origin_context){.rule = rule, .inside = inside, .looked_us = now};
		SLIST_INSERT_HEAD(&o->origins, c, link);
	}
	c->ctx = fresh;
	c->stamp = stamp;
	return fresh;
}

void flat_origins_forget(struct flat_offload *o)
{
	struct flat_origin_context *c;
	struct flat_origin_context *next;

	for (c = SLIST_FIRST(&o->origins); c; c = next) {
		next = SLIST_NEXT(c, link);
		SSL_CTX_free(c->ctx);
		free(c);
	}
	SLIST_INIT(&o->origins);
}

/* --- one connection --- */

static struct flat_span name_for(const struct flat_tls_origin *rule, struct flat_span host)
{
	return rule->sni ? flat_span_of(rule->sni) : host;
}

struct flat_origin *flat_origin_new(const struct flat_tls_origin *rule, struct flat_span host,
				    enum flat_tls_inside inside)
{
	struct flat_origin *origin = calloc(1, sizeof(*origin));
	struct flat_span name = name_for(rule, host);

	if (!origin)
		return NULL;
	origin->rule = rule;
	origin->inside = inside;
	origin->by_name = !origin->rule->unverified && origin->rule->n_names == 0;
	snprintf(origin->name, sizeof(origin->name), "%.*s", (int)name.len, name.text);
	return origin;
}

void flat_origin_free(struct flat_origin *origin)
{
	if (!origin)
		return;
	flat_tls_free(origin->tls);
	SSL_CTX_free(origin->ctx);
	free(origin);
}

int flat_origin_prepare(struct flat_offload *o, struct flat_origin *origin, char *why, size_t size)
{
	char what[400];
	SSL_CTX *ctx = context(o, origin->rule, origin->inside, what, sizeof(what));

	origin->epoch = o->epoch;
	if (!ctx || !SSL_CTX_up_ref(ctx)) {
		snprintf(why, size, "TLS cannot be begun (%s:%u): %s", origin->rule->where.file,
			 origin->rule->where.line, what);
		return -EACCES;
	}
	origin->ctx = ctx;
	return 0;
}

static void shake(struct flat_conn *c);

static void on_turn(struct flat_source *source, int events)
{
	struct flat_end *e = FLAT_CONTAINER_OF(source, struct flat_end, anchor);

	(void)events;
	shake(e->conn);
}

static void failed(struct flat_conn *c, const char *what)
{
	char text[FLAT_ADDR_STRLEN];
	char reason[300];

	snprintf(reason, sizeof(reason), "no TLS with %s at %s: %s", c->origin->name,
		 flat_addr_str(&c->target, text), what);
	flat_conn_fail(c, ECONNRESET, FLAT_REFUSED_UNREACHABLE, reason);
}

static void shake(struct flat_conn *c)
{
	struct flat_end *e = &c->end[FLAT_SIDE_SERVER];
	struct flat_origin *origin = c->origin;
	bool writes = false;
	int err = flat_tls_shake(origin->tls, &writes);

	if (err == 0 && (origin->inside != FLAT_TLS_INSIDE_H2 || flat_tls_is_h2(origin->tls))) {
		flat_conn_open(c);
		return;
	}
	if (err == -EAGAIN)
		err = flat_loop_poll_once(&c->offload->loop, &e->anchor, e->anchor.fd,
					  writes ? POLLOUT : POLLIN, on_turn);
	else if (err == 0)
		err = -EPROTO;
	if (err != 0)
		failed(c, err == -ECONNRESET ? flat_tls_why(origin->tls)
			  : err == -EPROTO   ? "the server does not speak HTTP/2"
					     : strerror(-err));
}

void flat_origin_begin(struct flat_conn *c)
{
	struct flat_end *e = &c->end[FLAT_SIDE_SERVER];
	struct flat_origin *origin = c->origin;
	int fl = flat_sys_fcntl(e->anchor.fd, F_GETFL, 0);

	if (fl >= 0)
		(void)flat_sys_fcntl(e->anchor.fd, F_SETFL, fl | O_NONBLOCK);
	origin->tls = flat_tls_connect(origin->ctx, e->anchor.fd, origin->name, origin->by_name);
	if (origin->tls)
		shake(c);
	else
		failed(c, "out of memory");
}

struct flat_tls *flat_origin_tls(const struct flat_origin *origin)
{
	return origin ? origin->tls : NULL;
}

bool flat_origin_fits(const struct flat_offload *o, const struct flat_origin *origin,
		      const struct flat_target *target)
{
	if (!origin || !target->origin)
		return !origin && !target->origin;
	struct flat_span name = name_for(target->origin, target->origin_name);
	return origin->epoch == o->epoch && origin->rule == target->origin &&
	       flat_span_equal(name, flat_span_of(origin->name), true);
}
