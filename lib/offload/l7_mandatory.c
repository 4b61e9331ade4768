/* May a request go to its server: identity, tokens, policies, in that order. */
#include "offload/l7_mandatory.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>

#include "base/log.h"

void flat_l7_note(struct flat_l7_node *node, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	flat_strbuf_vprintf(&node->notes, fmt, args);
	va_end(args);
}

/* --- key sets --- */

/* An address of a service of the mesh, whoever listens there: for flatd's own requests. */
static socklen_t resolve_host(void *arg, const char *host, uint16_t port,
			      struct sockaddr_storage *out)
{
	struct flat_l7_node *node = arg;
	const struct flat_service *s = flat_mesh_service_by_host(node->offload->mesh, host, NULL);
	const struct flat_service_port *p = s ? flat_service_port(s, port) : NULL;
	struct flat_resolve_how how = {.dry = true};
	struct flat_target target = {.listener = NULL};
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	if (!p || flat_resolve(node->offload, s, p, &how, &target) != 0 || target.wire.port)
		return 0;
	memset(out, 0, sizeof(*out));
	if (target.addr.family == AF_INET) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(target.addr.port);
		memcpy(&v4->sin_addr, target.addr.ip, 4);
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(target.addr.port);
	memcpy(&v6->sin6_addr, target.addr.ip, 16);
	return sizeof(*v6);
}

static void on_keys(struct flat_source *source, int events)
{
	struct flat_l7_node *node = FLAT_CONTAINER_OF(source, struct flat_l7_node, keys);

	(void)events;
	flat_authn_turn(node->authn);
}

int flat_l7_mandatory_init(struct flat_l7_node *node)
{
	node->authn = flat_authn_new(resolve_host, node);
	if (!node->authn)
		return -ENOMEM;
	return flat_loop_poll(&node->offload->loop, &node->keys, flat_authn_fd(node->authn), POLLIN,
			      on_keys);
}

void flat_l7_mandatory_fini(struct flat_l7_node *node)
{
	flat_loop_del(&node->offload->loop, &node->keys);
	flat_authn_free(node->authn);
	flat_strbuf_fini(&node->notes);
}

void flat_l7_mandatory_reloaded(struct flat_l7_node *node)
{
	if (flat_authn_reload(node->authn, node->offload->mesh) != 0)
		flat_error("no memory for key sets: requests with tokens are refused");
}

/* --- policies --- */

static enum flat_l7_verb refuse(struct flat_l7_answer *a, const char *text)
{
	memset(a, 0, offsetof(struct flat_l7_answer, fields));
	a->fields[0] = 0;
	a->status = 403;
	a->verdict = FLAT_VERDICT_DENIED;
	a->body = text;
	a->len = strlen(text);
	a->type = "text/plain";
	return FLAT_L7_ANSWER;
}

static enum flat_l7_verb ask_policies(struct flat_l7 *l7, const struct flat_http_request *request,
				      const struct flat_l7_claims *claims, struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_listener *l = x->target.listener;
	struct flat_authz_verdict *v = &l7->node->verdict;
	struct flat_authz_input in = {
	    .source_principal = l7->principal[0] ? l7->principal : NULL,
	    .source_ip = flat_addr_ip(&l7->conn->from),
	    .destination_ip = flat_addr_ip(&x->target.addr),
	    .destination_port = l->addr.port,
	    .destination = l->session->workload,
	    .http = request,
	    .claims = claims->jwt ? claims->jwt->claims : NULL,
	    .spaced = claims->rule ? claims->rule->spaced : NULL,
	    .n_spaced = claims->rule ? claims->rule->n_spaced : 0,
	    .brief = !l7->dry,
	};

	flat_authz_check(l7->node->offload->mesh, &in, v);
	if (l7->dry)
		flat_l7_note(l7->node, "  %s\n", v->text);
	if (v->allowed)
		return FLAT_L7_GO;
	if (!l7->dry && flat_l7_may_tell(l7->node))
		flat_info("denied %.*s %.*s of %s to %s: policy %s/%s (%s:%u)",
			  (int)request->method.len, request->method.text,
			  (int)flat_min_size(request->path.len, 200), request->path.text,
			  l7->conn->client_name, l7->conn->service,
			  v->policy_namespace ? v->policy_namespace : "-",
			  v->policy_name ? v->policy_name : "-",
			  v->where.file ? v->where.file : "-", v->where.line);
	return refuse(a, "RBAC: access denied");
}

enum flat_l7_verb flat_l7_mandatory(struct flat_l7 *l7, struct flat_http_request *request,
				    size_t *len, struct flat_l7_answer *a)
{
	const struct flat_listener *l = l7->x.target.listener;
	/* The listener's workload is of the newest mesh: so is what decides about it. */
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	struct flat_l7_claims claims = {NULL, NULL};
	struct flat_decided_by by;
	enum flat_l7_verb verb;

	if (!l7->conn->client && !l7->conn->principal &&
	    flat_mesh_mtls(mesh, l->session->workload, l->addr.port, &by) == FLAT_MTLS_STRICT)
		return refuse(a, "RBAC: access denied");
	verb = flat_l7_authenticate(l7, l->session->workload, request, len, &claims, a);
	if (verb == FLAT_L7_GO)
		verb = ask_policies(l7, request, &claims, a);
	flat_jwt_put(claims.jwt);
	return verb;
}
