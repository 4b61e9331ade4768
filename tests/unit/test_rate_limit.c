/* What rate limit services are asked and say: messages of envoy.service.ratelimit.v3, good and bad; rate_limits of routes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "codec/protobuf.h"
#include "control/config.h"
#include "mesh/route.h"
#include "offload/l7_limit.h"
#include "offload/l7_rate.h"

static void put_status(struct flat_strbuf *out, uint64_t limit, uint64_t unit, const char *name,
		       uint64_t left, uint64_t reset)
{
	struct flat_strbuf status = {0};
	struct flat_strbuf part = {0};

	flat_protobuf_put_number(&status, 1, 1);
	flat_protobuf_put_number(&part, 1, limit);
	flat_protobuf_put_number(&part, 2, unit);
	flat_protobuf_put_text(&part, 3, name);
	flat_protobuf_put_message(&status, 2, &part);
	flat_protobuf_put_number(&status, 3, left);
	flat_protobuf_put_number(&part, 1, reset);
	flat_protobuf_put_message(&status, 4, &part);
	flat_protobuf_put_message(out, 2, &status);
	flat_strbuf_fini(&part);
	flat_strbuf_fini(&status);
}

static void put_header(struct flat_strbuf *out, uint32_t field, const char *name, const char *value)
{
	struct flat_strbuf part = {0};

	flat_protobuf_put_text(&part, 1, name);
	flat_protobuf_put_text(&part, 2, value);
	flat_protobuf_put_message(out, field, &part);
	flat_strbuf_fini(&part);
}

static const char *text_of(const struct flat_strbuf *sb)
{
	const char *text = flat_strbuf_str(sb);

	return text ? text : "";
}

static void fini(struct flat_l7_rate_answer *a)
{
	flat_strbuf_fini(&a->client);
	flat_strbuf_fini(&a->upstream);
	flat_strbuf_fini(&a->body);
	flat_strbuf_fini(&a->told);
}

static struct flat_strbuf whole(void)
{
	struct flat_strbuf out = {0};

	flat_protobuf_put_number(&out, 1, 2);
	put_status(&out, 1000, 3, "", 999, 3600);
	put_status(&out, 10, 1, "per-ip", 3, 1);
	put_status(&out, 7, 0, "of no unit", 5, 2);
	put_header(&out, 3, "x-client", "a");
	put_header(&out, 3, "content-length", "1");
	put_header(&out, 3, "x-bad", "a\r\nx-forged: 1");
	put_header(&out, 3, "not a name", "b");
	put_header(&out, 4, "x-server", "c");
	put_header(&out, 4, "host", "forged.example");
	flat_protobuf_put_text(&out, 5, "slow down");
	return out;
}

Test(rate_limit, tells_of_the_limit_with_the_least_left)
{
	struct flat_strbuf in = whole();
	struct flat_l7_rate_answer a = {.over = false};

	cr_assert_eq(flat_l7_rate_read((const uint8_t *)in.data, in.len, &a), 0);
	cr_expect(a.over);
	cr_expect_str_eq(text_of(&a.told),
			 "x-ratelimit-limit: 10, 1000;w=3600, 10;w=1;name=\"per-ip\"\r\n"
			 "x-ratelimit-remaining: 3\r\nx-ratelimit-reset: 1\r\n");
	cr_expect_str_eq(text_of(&a.client), "x-client: a\r\n");
	cr_expect_str_eq(text_of(&a.upstream), "x-server: c\r\n");
	cr_expect_str_eq(text_of(&a.body), "slow down");
	fini(&a);
	flat_strbuf_fini(&in);
}

Test(rate_limit, a_name_that_ends_a_quoted_string_is_left_out)
{
	struct flat_strbuf in = {0};
	struct flat_l7_rate_answer a = {.over = false};

	put_status(&in, 1, 1, "a\"\r\nx-forged: 1", 0, 0);
	cr_assert_eq(flat_l7_rate_read((const uint8_t *)in.data, in.len, &a), 0);
	cr_expect_str_eq(text_of(&a.told), "x-ratelimit-limit: 1, 1;w=1\r\nx-ratelimit-remaining: "
					   "0\r\nx-ratelimit-reset: 0\r\n");
	fini(&a);
	flat_strbuf_fini(&in);
}

/* As protobuf has it for numbers of 32 bits and for fields that are not repeated. */
Test(rate_limit, numbers_have_32_bits_and_the_last_body_counts)
{
	struct flat_strbuf in = {0};
	struct flat_l7_rate_answer a = {.over = false};

	put_status(&in, 9, 0, "", 3, 1);
	put_status(&in, 0x100000005, 0, "", 0x100000002, 4);
	flat_protobuf_put_text(&in, 5, "first");
	flat_protobuf_put_text(&in, 5, "last");
	cr_assert_eq(flat_l7_rate_read((const uint8_t *)in.data, in.len, &a), 0);
	cr_expect_str_eq(text_of(&a.told), "x-ratelimit-limit: 5\r\nx-ratelimit-remaining: 2\r\n"
					   "x-ratelimit-reset: 4\r\n");
	cr_expect_str_eq(text_of(&a.body), "last");
	fini(&a);
	flat_strbuf_fini(&in);
}

Test(rate_limit, nothing_said_lets_pass)
{
	struct flat_l7_rate_answer a = {.over = true};

	cr_assert_eq(flat_l7_rate_read((const uint8_t *)"", 0, &a), 0);
	cr_expect(!a.over);
	cr_expect_str_eq(text_of(&a.told), "");
	fini(&a);
}

/* A message cut anywhere is read or refused; each byte turned about likewise. */
Test(rate_limit, a_message_that_is_broken_does_no_harm)
{
	struct flat_strbuf in = whole();
	uint32_t refused = 0;

	for (size_t n = 0; n < in.len; n++) {
		struct flat_l7_rate_answer a = {.over = false};

		refused += flat_l7_rate_read((const uint8_t *)in.data, n, &a) == -EBADMSG;
		fini(&a);
	}
	cr_expect_gt(refused, in.len / 2);
	for (size_t n = 0; n < in.len; n++) {
		struct flat_l7_rate_answer a = {.over = false};
		int ret;

		in.data[n] = (char)~in.data[n];
		ret = flat_l7_rate_read((const uint8_t *)in.data, in.len, &a);
		cr_expect(ret == 0 || ret == -EBADMSG);
		cr_expect_null(strstr(text_of(&a.client), "x-forged"));
		fini(&a);
		in.data[n] = (char)~in.data[n];
	}
	flat_strbuf_fini(&in);
}

/* As protoc has it: entries {a: b}, {c: ""}, hits_addend 300; the domain before. */
Test(rate_limit, writes_a_descriptor)
{
	static const uint8_t want[] = {0x0a, 1,	   'd',	 0x12, 0x14, 0x0a, 6,	 0x0a, 1,
				       'a',  0x12, 1,	 'b',  0x0a, 5,	   0x0a, 1,    'c',
				       0x12, 0,	   0x1a, 3,    0x08, 0xac, 2};
	struct flat_l7_descriptor d = {
	    .key = {"a", "c"}, .value = {{"b", 1}, {"", 0}}, .n = 2, .has_hits = true, .hits = 300};
	struct flat_strbuf out = {0};

	flat_l7_rate_put_domain(&out, "d");
	flat_l7_rate_put_descriptor(&out, &d);
	cr_assert_eq(out.len, sizeof(want));
	cr_expect_arr_eq(out.data, want, sizeof(want));
	flat_strbuf_fini(&out);
}

/* --- which rules hold --- */

#define PATCH(kind, match, value)                                                                  \
	"{applyTo: " kind ", match: {" match "}, patch: {operation: MERGE, value: {" value "}}}"
#define AT(context, vhost) "context: " context ", routeConfiguration: {vhost: {" vhost "}}"
#define LIMITS(value) "rate_limits: [{actions: [{generic_key: {descriptor_value: " value "}}]}]"

static const char patches[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n"
    "spec: {hosts: [one.x, '*.two.x', '*.x'], gateways: [g/g], http: [{name: r, "
    "directResponse: {status: 200}}]}\n---\n"
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"
    "metadata: {name: f, namespace: istio-system}\nspec: {configPatches: [" PATCH(
	"VIRTUAL_HOST", AT("SIDECAR_INBOUND", "name: ''"),
	LIMITS(
	    "any")) ", " PATCH("VIRTUAL_HOST", AT("SIDECAR_INBOUND", "name: 'inbound|http|80'"),
			       LIMITS(
				   "eighty")) ", " PATCH("VIRTUAL_HOST",
							 AT("GATEWAY", "name: '*.two.x:80'"),
							 LIMITS(
							     "two")) ", " PATCH("HTTP_ROUTE",
										AT("GATEWAY",
										   "name: "
										   "'one.x:80', "
										   "route: {name: "
										   "r}"),
										"route: {" LIMITS(
										    "route") "}") ", " PATCH("VIRTUAL_HOST",
													     AT("GATEWAY",
														"name: 'one.x:80'"),
													     LIMITS(
														 "one")) "]}\n";

static struct flat_mesh *load(const char *text)
{
	struct flat_diags diags = {0};
	struct flat_mesh *mesh = NULL;

	cr_assert_eq(flat_config_load_text("t.yaml", text, strlen(text), &mesh, &diags), 0);
	flat_diags_fini(&diags);
	return mesh;
}

/* Whether they are those, by their values, in that order. */
static bool rules_are(const struct flat_mesh *mesh, const struct flat_limit_place *place,
		      enum flat_limit_virtual virtual, const char *want)
{
	const struct flat_limit_rule *rules[FLAT_LIMIT_RULES_MAX];
	uint32_t n = flat_limit_rules(mesh, place, 0, virtual, rules);
	struct flat_strbuf text = {0};
	bool same;

	for (uint32_t i = 0; i < n; i++)
		flat_strbuf_printf(&text, "%s%s", i ? " " : "", rules[i]->actions[0].value);
	same = strcmp(text_of(&text), want) == 0;
	flat_strbuf_fini(&text);
	return same;
}

Test(rate_limit, rules_are_those_of_the_place)
{
	struct flat_mesh *mesh = load(patches);
	struct flat_limit_place server = {.port = 80, .other_port = 8080, .route = "default"};
	struct flat_limit_place gate = {
	    .gateway = true, .port = 80, .host = {"one.x", 5}, .route = "r"};

	gate.virtual = flat_mesh_virtual(mesh, 0);
	cr_expect(rules_are(mesh, &server, FLAT_LIMIT_OVERRIDE, "any eighty"));
	server.port = 8080;
	cr_expect(rules_are(mesh, &server, FLAT_LIMIT_OVERRIDE, "any"));
	/* Its own port is no way round. */
	server.other_port = 80;
	cr_expect(rules_are(mesh, &server, FLAT_LIMIT_OVERRIDE, "any eighty"));
	cr_expect(rules_are(mesh, &gate, FLAT_LIMIT_OVERRIDE, "route"));
	cr_expect(rules_are(mesh, &gate, FLAT_LIMIT_INCLUDE, "route one"));
	gate.route = NULL;
	cr_expect(rules_are(mesh, &gate, FLAT_LIMIT_OVERRIDE, "one"));
	cr_expect(rules_are(mesh, &gate, FLAT_LIMIT_IGNORE, ""));
	gate.host = (struct flat_span){"A.TWO.x", 7};
	cr_expect(rules_are(mesh, &gate, FLAT_LIMIT_OVERRIDE, "two"));
	/* A wildcard is a virtual host of its own. */
	gate.host = (struct flat_span){"three.x", 7};
	cr_expect(rules_are(mesh, &gate, FLAT_LIMIT_OVERRIDE, ""));
	flat_mesh_put(mesh);
}
