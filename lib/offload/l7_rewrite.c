/* Paths and addresses that a route makes of a request's: rewriting, redirecting. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "offload/gateway.h"
#include "offload/l7_engine.h"

/* --- rewriting --- */

/* The path with what a prefix matched in place of `uri`. Literally so, as in Envoy: "/" by "/a" makes "/b" "/ab". */
static ssize_t by_prefix(const struct flat_http_match *match, const char *uri,
			 struct flat_span path, char *out, size_t size)
{
	const struct flat_text_match *m = match ? match->uri : NULL;
	struct flat_span by = flat_span_of(uri);
	size_t skip = path.len;

	/* A route that matches every path is one of prefix "/". */
	if (!m || m->kind == FLAT_TEXT_PREFIX)
		skip = m ? m->len : 1;
	if (m && m->kind == FLAT_TEXT_PATH) {
		skip = m->len;
		/* Between whole segments there is one slash: "/a" by "/" makes "/a/b" "/b", and "/a" "/". */
		while (by.len > 0 && uri[by.len - 1] == '/')
			by.len--;
		if (skip == path.len && by.len == 0)
			by = flat_span_of("/");
	}
	if (skip > path.len || by.len + path.len - skip > size)
		return -EMSGSIZE;
	memcpy(out, by.text, by.len);
	memcpy(out + by.len, path.text + skip, path.len - skip);
	return (ssize_t)(by.len + path.len - skip);
}

int flat_l7_rewrite_path(struct flat_l7 *l7, struct flat_span *path)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_http_rewrite *r = x->route ? x->route->rewrite : NULL;
	struct flat_l7_node *node = l7->node;
	ssize_t n;

	*path = x->request.path;
	if (l7->shadow && flat_l7_shadow_is_passed(l7->shadow))
		r = NULL;
	if (!r || (!r->uri && !r->path && !r->regex))
		return 0;
	if (r->path)
		n = by_prefix(
		    &(struct flat_http_match){
			.uri = &(struct flat_text_match){.kind = FLAT_TEXT_EXACT}},
		    r->path, *path, node->fields, sizeof(node->fields));
	else if (r->regex)
		n = flat_regex_replace(r->regex, r->substitution, path->text, path->len,
				       node->fields, sizeof(node->fields));
	else
		n = by_prefix(x->match, r->uri, *path, node->fields, sizeof(node->fields));
	if (n < 0)
		return (int)n;
	/* Nothing at all is the root. */
	if (n == 0)
		node->fields[n++] = '/';
	return flat_path_canonical((struct flat_span){node->fields, (size_t)n}, node->path,
				   sizeof(node->path), path);
}

/* --- redirecting --- */

static bool in_clear(const struct flat_l7 *l7)
{
	return !l7->conn->gate || !l7->conn->gate->tls;
}

/* The host of the request, without its port where a port is put there, or where it was the old scheme's own. */
static struct flat_span host_of(const struct flat_http_request *q, const char *from,
				const char *scheme, bool port)
{
	struct flat_span rest = {q->authority.text + q->host.len, q->authority.len - q->host.len};
	const char *own = strcmp(from, "https") == 0 ? ":443" : ":80";

	if (port || (strcmp(from, scheme) != 0 && flat_span_equal(rest, flat_span_of(own), false)))
		return q->host;
	return q->authority;
}

bool flat_l7_location(struct flat_l7 *l7, const struct flat_http_redirect *r, char *out,
		      size_t size)
{
	const struct flat_http_request *q = &l7->x.request;
	const char *from = in_clear(l7) ? "http" : "https";
	const char *scheme = r->scheme ? r->scheme : from;
	uint16_t to_port = r->derive_port ? l7->port : r->port;
	struct flat_span path = q->path;
	struct flat_span host;
	char port[8] = "";
	bool query;
	int n;

	if (r->prefix) {
		ssize_t len = by_prefix(l7->x.match, r->prefix, q->path, l7->node->fields,
					sizeof(l7->node->fields));
		if (len < 0)
			return false;
		path = (struct flat_span){l7->node->fields, (size_t)len};
	} else if (r->uri) {
		path = flat_span_of(r->uri);
	}
	query = q->query.text && !memchr(path.text, '?', path.len);
	/* As in Istio: a port that is the scheme's own is not written. */
	if (to_port && to_port != (strcmp(scheme, "https") == 0 ? 443 : 80))
		snprintf(port, sizeof(port), ":%u", to_port);
	host = r->authority ? flat_span_of(r->authority) : host_of(q, from, scheme, to_port != 0);
	/* One port: the one that is said by itself. */
	if (r->authority && port[0])
		host = flat_http_host(host);
	n = snprintf(out, size, "location: %s://%.*s%s%.*s%s%.*s\r\n", scheme, (int)host.len,
		     host.text, port, (int)path.len, path.text, query ? "?" : "",
		     query ? (int)q->query.len : 0, query ? q->query.text : "");
	return n > 0 && (size_t)n < size;
}
