/*
 * Any bytes as the trailers of a request or of its response: those that the codec's reader takes are hidden where the head was kept from
 * saying them, and no other. What the head is kept from is said twice: by the route, tokens and the gateway as flatd has them, and by
 * a list of names here.
 *
 * The first byte: bit 0, by a gateway; bit 1, the route has one destination.
 */
#include <stdlib.h>
#include <string.h>

#include "control/config.h"
#include "mesh/authn.h"
#include "offload/gateway.h"
#include "offload/l7_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* In the spelling in which all that servers may take for one are the same. */
#define RULES "x-claim", "x-payload", "x-token"
#define OUTSIDE "x-forwarded-for", "x-forwarded-proto"

static const char *const of_request[] = {RULES, NULL};
static const char *const of_gate[] = {RULES, OUTSIDE, NULL};
/* What routes say is said of one spelling. */
static const char *const of_route[] = {"x-set", "x_set", "x-gone", "x-to-set", "x-to-gone", NULL};
static const char *const of_response[] = {"x-answer", "x-answer-gone", NULL};

static const char yaml[] =
    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
    "metadata: {name: web, namespace: foo, labels: {app: web}}\n"
    "spec: {serviceAccount: web, selectors: [{uid: 1}]}\n"
    "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"
    "metadata: {name: jwt, namespace: foo}\n"
    "spec: {jwtRules: [{issuer: me, jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}', "
    "outputPayloadToHeader: X-Payload, "
    "outputClaimToHeaders: [{header: x-claim, claim: sub}], "
    "fromHeaders: [{name: X-Token}]}]}\n";

/* --- what flatd has --- */

static struct {
	struct flat_offload offload;
	struct flat_l7_node node;
	struct flat_session session;
	struct flat_listener listener;
	struct flat_conn client, server;
	struct flat_gate gate;
	struct flat_l7_upstream up;
	struct flat_http_route route;
	struct flat_route_destination destination;
	struct flat_l7 l7;
} all;

static void begin(void)
{
	static const struct flat_name_value sets[] = {{.name = "x-set", .value = "1"},
						      {.name = "x_set", .value = "2"}};
	static const struct flat_name_value to_sets[] = {{.name = "X-To-Set", .value = "1"}};
	static const struct flat_name_value answers[] = {{.name = "x-answer", .value = "1"}};
	static const char *const gone[] = {"x-gone"}, *const to_gone[] = {"x-to-gone"};
	static const char *const answer_gone[] = {"X-Answer-Gone"};
	struct flat_diags diags = {0};

	require(flat_config_load_text("fuzz", yaml, sizeof(yaml) - 1, &all.offload.mesh, &diags) ==
		0);
	flat_diags_fini(&diags);
	all.session.workload = flat_mesh_workload_by_name(all.offload.mesh, "foo", "web");
	require(all.session.workload != NULL);
	all.node.offload = &all.offload;
	all.listener.session = &all.session;
	all.server.listener = &all.listener;
	all.up.conn = &all.server;
	all.up.mesh = true;
	all.route.request =
	    (struct flat_header_ops){.set = sets, .n_set = 2, .remove = gone, .n_remove = 1};
	all.route.response = (struct flat_header_ops){.remove = answer_gone, .n_remove = 1};
	all.destination.request =
	    (struct flat_header_ops){.set = to_sets, .n_set = 1, .remove = to_gone, .n_remove = 1};
	all.destination.response = (struct flat_header_ops){.set = answers, .n_set = 1};
	all.l7.node = &all.node;
	all.l7.conn = &all.client;
	all.l7.root = &all.l7;
	all.l7.x.upstream = &all.up;
	all.l7.x.route = &all.route;
	all.l7.x.destination = &all.destination;
}

/* --- what is to be --- */

static bool is_one(const char *const *names, struct flat_span name, bool alike)
{
	for (; *names; names++) {
		struct flat_span want = flat_span_of(*names);
		size_t i = 0;

		while (i < name.len && i < want.len) {
			char c = name.text[i];

			c = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : alike && c == '_' ? '-' : c);
			if (c != want.text[i])
				break;
			i++;
		}
		if (i == name.len && i == want.len)
			return true;
	}
	return false;
}

static bool is_ours(struct flat_span name)
{
	static const char *const own[] = {"x-envoy-", NULL};

	return name.len > 8 && is_one(own, (struct flat_span){name.text, 8}, true);
}

static void check(const void *text, bool response)
{
	static bool was[FLAT_HTTP_FIELDS_MAX];
	struct flat_http_head *h = &all.l7.x.trailers.head;
	bool gate = all.client.gate != NULL;

	for (uint32_t i = 0; i < h->n_fields; i++)
		was[i] = h->fields[i].hidden;
	if (response)
		flat_l7_trailers_response(&all.l7, text);
	else
		flat_l7_trailers_request(&all.l7, text);
	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct flat_http_field *f = &h->fields[i];
		struct flat_span name = flat_head_span(text, f->name, f->name_len);
		bool hide = response ? is_one(of_response, name, false)
				     : is_one(of_route, name, false) ||
					   is_one(gate ? of_gate : of_request, name, true) ||
					   (gate && is_ours(name));

		require(f->hidden == (hide || was[i]));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flat_http1 *p = &all.l7.x.trailers;

	if (size < 1)
		return 0;
	if (!all.offload.mesh)
		begin();
	all.client.gate = data[0] & 1 ? &all.gate : NULL;
	all.l7.x.client = data[0] & 1 ? all.session.workload : NULL;
	all.route.n_destinations = data[0] & 2 ? 1 : 2;
	for (int response = 0; response < 2; response++) {
		flat_http1_begin(p, FLAT_HTTP1_TRAILERS);
		if (flat_http1_read(p, data + 1, size - 1) > 0)
			check(data + 1, response);
	}
	return 0;
}
