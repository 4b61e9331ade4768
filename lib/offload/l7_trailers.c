/*
 * Trailers. Servers may take a field behind the body for one of the head, so that what a head is kept from saying no trailer says: names
 * that a gateway, a route, a token or an authorizer sets or takes away. Who frames, routes or authenticates by one is refused by the
 * codec.
 */
#include "offload/l7_check.h"
#include "offload/l7_compress.h"
#include "offload/l7_observe.h"

/* The rules' own names, and those that tokens come by: nobody looked at one here. */
static bool is_of_rules(const struct flat_mesh *mesh, const struct flat_workload *workload,
			struct flat_span name)
{
	const struct flat_jwt_rule *rules[2 * FLAT_JWT_RULES_MAX];
	struct flat_l7_edit edit = {.rules = rules};

	edit.n_rules = flat_mesh_jwt_rules(mesh, workload, rules);
	for (uint32_t i = 0; i < edit.n_rules; i++) {
		const struct flat_jwt_rule *r = rules[i];

		for (uint32_t k = 0; k < r->n_locations; k++) {
			const struct flat_jwt_location *l = &r->locations[k];

			if (l->place == FLAT_JWT_HEADER &&
			    flat_http_name_alike(flat_span_of(l->name), name))
				return true;
		}
	}
	return flat_l7_edit_drops(&edit, name);
}

/* By tokens and authorizers: the gateway's, and the server's. */
static bool is_mandatory(const struct flat_l7 *l7, const struct flat_l7_upstream *up,
			 struct flat_span name)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_mesh *mesh = l7->node->offload->mesh;
	const struct flat_listener *l = up->conn->listener;

	for (size_t i = 0; i < FLAT_L7_CHECKS; i++) {
		if (x->check[i] && flat_l7_check_drops(x->check[i], name))
			return true;
	}
	if (l7->conn->gate && is_of_rules(mesh, x->client, name))
		return true;
	/* A server of the mesh that listens no more: nobody knows whose rules were its own. */
	if (up->mesh && !l)
		return true;
	return l && is_of_rules(mesh, l->session->workload, name);
}

static bool is_forwarding(struct flat_span name)
{
	return flat_http_name_alike(name, flat_span_of("x-forwarded-for")) ||
	       flat_http_name_alike(name, flat_span_of("x-forwarded-proto"));
}

void flat_l7_trailers_request(struct flat_l7 *l7, const void *text)
{
	const struct flat_l7_exchange *x = &l7->x;
	const struct flat_l7_upstream *up =
	    x->upstream->is_stream ? x->upstream->carrier : x->upstream;
	struct flat_http_head *h = &l7->x.trailers.head;
	struct flat_l7_ops ops = flat_l7_ops_of(x, false);

	if (x->observed)
		ops.v[3] = &x->observed->ops;
	if (l7->node->compresses)
		ops.v[4] = flat_l7_compress_request(l7);
	for (uint32_t i = 0; i < h->n_fields; i++) {
		struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(text, f->name, f->name_len);

		/* A copy of what a gateway let pass has nobody to ask any more. */
		if (!up || (l7->shadow && flat_l7_shadow_is_passed(l7->shadow)) ||
		    (l7->conn->gate && is_forwarding(name)) || flat_l7_from_outside(l7, name) ||
		    flat_l7_ops_drop(&ops, name) || is_mandatory(l7, up, name))
			f->hidden = 1;
	}
}

void flat_l7_trailers_response(struct flat_l7 *l7, const void *text)
{
	const struct flat_l7_exchange *x = &l7->x;
	struct flat_http_head *h = &l7->x.trailers.head;
	struct flat_l7_ops ops = flat_l7_ops_of(x, true);

	for (uint32_t i = 0; i < h->n_fields; i++) {
		struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(text, f->name, f->name_len);

		if (flat_l7_ops_drop(&ops, name) || flat_l7_persist_drops(x, name) ||
		    flat_l7_check_takes(x, name))
			f->hidden = 1;
	}
}
