/* May a request go to its server: identity, tokens, policies, in that order. */
#include "offload/l7_mandatory.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>

#include "base/log.h"
#include "mesh/build.h"
#include "offload/audit.h"
#include "offload/l7_admission.h"
#include "offload/l7_check.h"
#include "offload/l7_limit.h"
#include "offload/l7_rate.h"

void flat_l7_note(struct flat_l7_node *node, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	flat_strbuf_vprintf(&node->notes, fmt, args);
	va_end(args);
}

/* --- key sets --- */

socklen_t flat_l7_address_of(struct flat_l7_node *node, const struct flat_service *s, uint16_t port,
			     struct sockaddr_storage *out)
{
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

static socklen_t resolve_host(void *arg, const char *host, uint16_t port,
			      struct sockaddr_storage *out)
{
	struct flat_l7_node *node = arg;

	return flat_l7_address_of(node, flat_mesh_service_by_host(node->offload->mesh, host, NULL),
				  port, out);
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
	if (!node->authn || flat_l7_check_init(node) != 0)
		return -ENOMEM;
	return flat_loop_poll(&node->offload->loop, &node->keys, flat_authn_fd(node->authn), POLLIN,
			      on_keys);
}

void flat_l7_mandatory_fini(struct flat_l7_node *node)
{
	flat_l7_check_fini(node);
	flat_l7_rates_fini(node);
	flat_loop_del(&node->offload->loop, &node->keys);
	flat_authn_free(node->authn);
	flat_strbuf_fini(&node->notes);
}

void flat_l7_mandatory_reloaded(struct flat_l7_node *node)
{
	if (flat_authn_reload(node->authn, node->offload->mesh) != 0)
		flat_error("no memory for key sets: requests with tokens are refused");
	node->asks =
	    flat_mesh_has_custom(node->offload->mesh) || flat_mesh_n_rates(node->offload->mesh) > 0;
	node->limited = flat_mesh_n_limits(node->offload->mesh) > 0 ||
			flat_mesh_n_rates(node->offload->mesh) > 0;
	node->admits = flat_mesh_n_admissions(node->offload->mesh) > 0;
	node->compresses = flat_mesh_n_compressors(node->offload->mesh) > 0;
	flat_l7_rates_reloaded(node);
}

/* --- policies --- */

void flat_l7_text(struct flat_l7_answer *a, unsigned status, enum flat_record_verdict verdict,
		  const char *text)
{
	memset(a, 0, offsetof(struct flat_l7_answer, fields));
	a->fields[0] = 0;
	a->status = (uint16_t)status;
	a->verdict = verdict;
	if (!text)
		return;
	a->body = text;
	a->len = strlen(text);
	a->type = "text/plain";
}

void flat_l7_refused(struct flat_l7 *l7, const struct flat_workload *workload,
		     const struct flat_http_request *request, const struct flat_l7_answer *a,
		     const struct flat_authz_verdict *v)
{
	struct flat_audit e = {
	    .event = "denied",
	    .client = l7->conn->client_name,
	    .principal = l7->principal,
	    .source = flat_addr_ip(&l7->conn->from),
	    .destination = workload,
	    .service = l7->conn->service,
	    .port = l7->x.target.addr.port,
	    .request = request,
	    .status = a->status,
	    .rule = -1,
	};

	if (l7->dry)
		return;
	if (v) {
		e.policy_namespace = v->policy_namespace;
		e.policy_name = v->policy_name;
		e.rule = v->rule;
		e.where = v->where;
	} else {
		e.reason = a->body;
	}
	if (flat_audit_write(l7->node->offload->audit, &e) || !flat_l7_may_tell(l7->node))
		return;
	flat_info("denied %.*s %.*s of %s to %s: %s %s/%s (%s:%u)", (int)request->method.len,
		  request->method.text, (int)flat_min_size(request->path.len, 200),
		  request->path.text, l7->conn->client_name, l7->conn->service,
		  e.policy_name				? "policy"
		  : a->verdict == FLAT_VERDICT_EXTERNAL ? "authorizer"
							: "token",
		  e.policy_namespace ? e.policy_namespace : "-",
		  e.policy_name ? e.policy_name : "-", e.where.file ? e.where.file : "-",
		  e.where.line);
}

/* What a policy that decides nothing says of a request. */
static void note(struct flat_l7 *l7, const struct flat_authz_input *in, const char *event,
		 const char *action, const struct flat_authz_note *n, bool allowed)
{
	const struct flat_authz_policy *p = n->policy;
	struct flat_audit e = {
	    .event = event,
	    .action = action,
	    .result = !action	? NULL
		      : allowed ? "allowed"
				: "denied",
	    .client = l7->conn->client_name,
	    .principal = l7->principal,
	    .source = in->source_ip,
	    .destination = in->destination,
	    .service = l7->conn->service,
	    .port = in->destination_port,
	    .request = in->http,
	    .policy_namespace = p ? p->namespace : NULL,
	    .policy_name = p ? p->name : NULL,
	    .rule = p ? n->rule : -1,
	    .where = p ? p->rules[n->rule].where : (struct flat_where){0},
	};

	if (l7->dry) {
		flat_l7_note(l7->node, "  %s%s%s: %s%s%s\n", event, action ? " of " : "",
			     action ? action : "", p ? p->namespace : "no policy matches",
			     p ? "/" : "", p ? p->name : "");
		return;
	}
	if (flat_audit_write(l7->node->offload->audit, &e) || !flat_l7_may_tell(l7->node))
		return;
	/* Envoy's words for what policies under dry run would do. */
	if (p)
		flat_info("%s %s, matched policy ns[%s]-policy[%s]-rule[%d]: %.*s %.*s of %s to %s",
			  action ? "shadow" : "audit", e.result ? e.result : "", p->namespace,
			  p->name, n->rule, (int)in->http->method.len, in->http->method.text,
			  (int)flat_min_size(in->http->path.len, 200), in->http->path.text,
			  l7->conn->client_name, l7->conn->service);
	else
		flat_info("shadow %s, matched policy none: %.*s %.*s of %s to %s", e.result,
			  (int)in->http->method.len, in->http->method.text,
			  (int)flat_min_size(in->http->path.len, 200), in->http->path.text,
			  l7->conn->client_name, l7->conn->service);
}

/* Once a request, whatever its attempts. */
static void note_all(struct flat_l7 *l7, const struct flat_authz_input *in)
{
	struct flat_l7_node *node = l7->node;
	struct flat_authz_notes n;

	if (l7->x.noted || !flat_authz_notes(node->offload->mesh, in, &n))
		return;
	l7->x.noted = !l7->dry;
	if (n.audit.policy)
		note(l7, in, "audit", NULL, &n.audit, false);
	if (n.has_deny)
		note(l7, in, "dry-run", "DENY", &n.deny, !n.deny.policy);
	if (n.has_allow)
		note(l7, in, "dry-run", "ALLOW", &n.allow, n.allow.policy != NULL);
	if (l7->dry)
		return;
	node->audited += n.audit.policy != NULL;
	node->dry_run[0][n.allow.policy ? 0 : 1] += n.has_allow;
	node->dry_run[1][n.deny.policy ? 1 : 0] += n.has_deny;
}

static enum flat_l7_verb ask_policies(struct flat_l7 *l7, struct flat_http_request *request,
				      size_t *len, const struct flat_l7_claims *claims,
				      struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	const struct flat_listener *l = x->target.listener;
	struct flat_authz_verdict *v = &l7->node->verdict;
	struct flat_authz_input in = {
	    .source_principal = l7->principal[0] ? l7->principal : NULL,
	    .source_ip = flat_addr_ip(&l7->conn->from),
	    .remote_ip = x->remote,
	    .destination_ip = flat_addr_ip(&x->target.addr),
	    .destination_port = l->addr.port,
	    .destination = l->session->workload,
	    .http = request,
	    .claims = claims->jwt ? claims->jwt->claims : NULL,
	    .spaced = claims->rule ? claims->rule->spaced : NULL,
	    .n_spaced = claims->rule ? claims->rule->n_spaced : 0,
	    .brief = !l7->dry,
	};

	note_all(l7, &in);
	for (;;) {
		enum flat_l7_verb verb = FLAT_L7_GO;

		flat_authz_check(l7->node->offload->mesh, &in, v);
		if (v->reason != FLAT_AUTHZ_ASK)
			break;
		in.custom_from = v->order + 1;
		if (l7->dry)
			flat_l7_note(l7->node, "  %s (%s, service %s); if it allows:\n", v->text,
				     v->ext->name, v->ext->host);
		else
			verb = flat_l7_check(l7, FLAT_L7_ASKED_BY_SERVER, v->ext, request, len, a);
		if (verb == FLAT_L7_ANSWER)
			flat_l7_refused(l7, in.destination, request, a, v);
		if (verb != FLAT_L7_GO)
			return verb;
	}
	if (l7->dry)
		flat_l7_note(l7->node, "  %s\n", v->text);
	if (v->allowed)
		return FLAT_L7_GO;
	flat_l7_text(a, 403, FLAT_VERDICT_DENIED, "RBAC: access denied");
	flat_l7_refused(l7, in.destination, request, a, v);
	return FLAT_L7_ANSWER;
}

/* Local ones once for each attempt; a service once for each attempt that has another number or server. */
static enum flat_l7_verb ask_limits(struct flat_l7 *l7, struct flat_http_request *request,
				    size_t *len, struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;

	if (!x->probing && (l7->dry || x->limited_attempt != x->record.attempt + 1)) {
		x->limited_attempt = x->record.attempt + 1;
		if (flat_l7_limit(l7, request, a))
			return FLAT_L7_ANSWER;
	}
	return flat_l7_rate(l7, false, request, len, a);
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
		goto out_strict;
	if (l7->node->limited) {
		verb = ask_limits(l7, request, len, a);
		if (verb != FLAT_L7_GO)
			return verb;
	}
	verb = flat_l7_authenticate(l7, l->session->workload, request, len, &claims, a);
	if (verb == FLAT_L7_ANSWER)
		flat_l7_refused(l7, l->session->workload, request, a, NULL);
	if (verb == FLAT_L7_GO)
		verb = ask_policies(l7, request, len, &claims, a);
	/* Last: what is refused for another reason says nothing of the server. */
	if (verb == FLAT_L7_GO && l7->node->admits && !flat_l7_admit_server(l7, a))
		verb = FLAT_L7_ANSWER;
	flat_jwt_put(claims.jwt);
	return verb;
out_strict:
	flat_l7_text(a, 403, FLAT_VERDICT_DENIED, "RBAC: access denied");
	flat_l7_refused(l7, l->session->workload, request, a, NULL);
	return FLAT_L7_ANSWER;
}

void flat_l7_mandatory_metrics(const struct flat_l7_node *node, struct flat_strbuf *out)
{
	static const char *const actions[] = {"allow", "deny"};
	static const char *const results[] = {"allowed", "denied"};
	const struct flat_authn_stats *s = flat_authn_stats(node->authn);

	flat_strbuf_printf(out,
			   "# HELP flat_mirrored_total Copies of requests for mirrors: made, or "
			   "not for want of room.\n# TYPE flat_mirrored_total counter\n"
			   "flat_mirrored_total{result=\"sent\"} %llu\n"
			   "flat_mirrored_total{result=\"dropped\"} %llu\n",
			   (unsigned long long)node->mirrored,
			   (unsigned long long)node->unmirrored);

	flat_strbuf_puts(out, "# HELP flat_authz_dry_run_total Requests, by what policies under "
			      "dry run would do.\n# TYPE flat_authz_dry_run_total counter\n");
	for (int a = 0; a < 2; a++) {
		for (int r = 0; r < 2; r++)
			flat_strbuf_printf(out,
					   "flat_authz_dry_run_total{authz_dry_run_action=\"%s\","
					   "authz_dry_run_result=\"%s\"} %llu\n",
					   actions[a], results[r],
					   (unsigned long long)node->dry_run[a][r]);
	}
	flat_strbuf_printf(out,
			   "# HELP flat_authz_audit_total Requests marked by AUDIT policies.\n"
			   "# TYPE flat_authz_audit_total counter\nflat_authz_audit_total %llu\n",
			   (unsigned long long)node->audited);
	flat_strbuf_printf(out,
			   "# HELP flat_jwt_total Tokens found good: by their signature, or "
			   "because they were before.\n# TYPE flat_jwt_total counter\n"
			   "flat_jwt_total{by=\"signature\"} %llu\nflat_jwt_total{by=\"cache\"} "
			   "%llu\n",
			   (unsigned long long)s->verified, (unsigned long long)s->cached);
	flat_strbuf_printf(out,
			   "# HELP flat_jwks_fetches_total Fetches of key sets.\n"
			   "# TYPE flat_jwks_fetches_total counter\n"
			   "flat_jwks_fetches_total{result=\"good\"} %llu\n"
			   "flat_jwks_fetches_total{result=\"failed\"} %llu\n",
			   (unsigned long long)s->fetched, (unsigned long long)s->fetch_failed);
}
