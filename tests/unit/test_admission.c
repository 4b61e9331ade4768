/* Admission control: what is remembered, how many are refused for it, and its configuration. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mesh/filter.h"
#include "offload/success.h"
#include "support_mesh.h"

#define S ((int64_t)1000000)

static const struct flat_admission filter = {
    .aggression = 1000,
    .success_of_million = 950000,
    .most_of_million = 800000,
};
static struct flat_success s;

static void begin(uint32_t seconds)
{
	cr_assert_eq(flat_success_init(&s, seconds), 0);
}

static void note(int64_t at_us, uint32_t good, uint32_t bad)
{
	for (uint32_t i = 0; i < good + bad; i++)
		flat_success_note(&s, at_us, i < good);
}

Test(admission, what_is_older_than_the_window_is_forgotten)
{
	begin(3);
	note(100 * S, 1, 1);
	note(101 * S, 2, 0);
	note(102 * S + S / 2, 0, 4);
	cr_expect_eq(s.requests, 8);
	cr_expect_eq(s.successes, 3);
	flat_success_look(&s, 103 * S);
	cr_expect_eq(s.requests, 6);
	cr_expect_eq(s.successes, 2);
	flat_success_look(&s, 104 * S);
	cr_expect_eq(s.requests, 4);
	flat_success_look(&s, 105 * S);
	cr_expect_eq(s.requests, 0);
	cr_expect_eq(s.successes, 0);
	/* And after a pause of any length. */
	note(106 * S, 1, 1);
	flat_success_look(&s, 1000 * S);
	cr_expect_eq(s.requests, 0);
	note(1000 * S, 1, 0);
	cr_expect_eq(s.requests, 1);
	flat_success_fini(&s);
}

Test(admission, a_window_of_one_second)
{
	begin(1);
	note(7 * S, 1, 2);
	cr_expect_eq(s.requests, 3);
	note(8 * S, 0, 1);
	cr_expect_eq(s.requests, 1);
	cr_expect_eq(s.successes, 0);
	flat_success_fini(&s);
}

/* (n - good / threshold) / (n + 1), as Envoy's documentation has it. */
Test(admission, as_many_are_refused_as_the_formula_says)
{
	struct flat_admission f = filter;

	begin(30);
	cr_expect_eq(flat_success_refused(&s, &f), 0, "nothing is known");
	note(S, 95, 5);
	cr_expect_eq(flat_success_refused(&s, &f), 0, "as good as it has to be");
	note(S, 0, 100);
	/* (200 - 100) / 201 */
	cr_expect_eq(flat_success_refused(&s, &f), 4976);
	f.success_of_million = FLAT_MILLION;
	/* (200 - 95) / 201 */
	cr_expect_eq(flat_success_refused(&s, &f), 5224);
	f.aggression = 2000;
	/* its square root */
	cr_expect_eq(flat_success_refused(&s, &f), 7228);
	f.most_of_million = 100000;
	cr_expect_eq(flat_success_refused(&s, &f), 1000);
	f.most_of_million = 0;
	cr_expect_eq(flat_success_refused(&s, &f), 0);
	flat_success_fini(&s);
}

Test(admission, one_failure_alone_refuses_half)
{
	begin(30);
	note(S, 0, 1);
	cr_expect_eq(flat_success_refused(&s, &filter), 5000);
	flat_success_fini(&s);
}

Test(admission, nobody_is_refused_below_the_rate)
{
	struct flat_admission f = filter;

	f.rps = 10;
	begin(30);
	note(100 * S, 0, 19);
	flat_success_look(&s, 101 * S);
	cr_expect_eq(flat_success_rate(&s), 19);
	flat_success_look(&s, 102 * S);
	cr_expect_eq(flat_success_rate(&s), 9);
	cr_expect_eq(flat_success_refused(&s, &f), 0);
	note(102 * S, 0, 1);
	cr_expect_eq(flat_success_rate(&s), 10);
	cr_expect_gt(flat_success_refused(&s, &f), 0);
	/* Since the oldest that is remembered, not since the window begins. */
	flat_success_look(&s, 131 * S);
	cr_expect_eq(s.requests, 1);
	cr_expect_eq(flat_success_rate(&s), 0);
	note(131 * S, 0, 58);
	cr_expect_eq(flat_success_rate(&s), 2);
	flat_success_fini(&s);
}

/* --- configuration --- */

#define HEAD(namespace, selector)                                                                  \
	"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                            \
	"metadata: {name: f, namespace: " namespace "}\nspec: {" selector "configPatches: ["
#define PATCH(match, fields)                                                                       \
	"{applyTo: HTTP_FILTER, match: {" match "}, patch: {operation: INSERT_BEFORE, value: "     \
	"{name: envoy.filters.http.admission_control, typed_config: {'@type': "                    \
	"type.googleapis.com/"                                                                     \
	"envoy.extensions.filters.http.admission_control.v3.AdmissionControl, " fields "}}}}"

static const struct flat_admission *only(const struct loaded *l, enum flat_filter_place at,
					 uint16_t port)
{
	struct flat_filter_whose whose = {.at = at, .port = port, .other_port = port};

	return flat_mesh_admission(l->mesh, &whose);
}

Test(admission, what_is_not_said_is_envoys)
{
	struct loaded l = load_good(HEAD("istio-system", "") PATCH("context: SIDECAR_OUTBOUND",
								   "success_criteria: {}") "]}\n");
	const struct flat_admission *a = only(&l, FLAT_FILTER_CLIENT, 80);

	cr_assert(a);
	cr_expect_eq(a->window_s, 30);
	cr_expect_eq(a->aggression, 1000);
	cr_expect_eq(a->success_of_million, 950000);
	cr_expect_eq(a->most_of_million, 800000);
	cr_expect_eq(a->rps, 0);
	cr_assert_eq(a->n_http, 1);
	cr_expect_eq(a->http[0].from, 100);
	cr_expect_eq(a->http[0].to, 500);
	/* OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED */
	cr_expect_eq(a->grpc, 0x11aefU);
	cr_expect_null(only(&l, FLAT_FILTER_SERVER, 80));
	cr_expect_null(only(&l, FLAT_FILTER_GATEWAY, 80));
	loaded_fini(&l);
}

Test(admission, what_is_said_is_read)
{
	struct loaded l = load_good(HEAD("istio-system", "") PATCH(
	    "context: ANY, listener: {portNumber: 8080}",
	    "enabled: {default_value: true, runtime_key: k}, sampling_window: 120s, aggression: "
	    "{default_value: 1.5, runtime_key: k}, sr_threshold: {default_value: {value: 99.5}, "
	    "runtime_key: k}, rps_threshold: {default_value: 5, runtime_key: k}, "
	    "max_rejection_probability: {default_value: {value: 100}}, success_criteria: "
	    "{http_criteria: {http_success_status: [{start: 200, end: 300}, {start: 404, end: "
	    "405}]}, grpc_criteria: {grpc_success_status: [0, 5]}}") "]}\n");
	const struct flat_admission *a = only(&l, FLAT_FILTER_SERVER, 8080);

	cr_assert(a);
	cr_expect_eq(a->window_s, 120);
	cr_expect_eq(a->aggression, 1500);
	cr_expect_eq(a->success_of_million, 995000);
	cr_expect_eq(a->most_of_million, FLAT_MILLION);
	cr_expect_eq(a->rps, 5);
	cr_assert_eq(a->n_http, 2);
	cr_expect_eq(a->http[1].from, 404);
	cr_expect_eq(a->http[1].to, 405);
	cr_expect_eq(a->grpc, 0x21U);
	cr_expect(only(&l, FLAT_FILTER_CLIENT, 8080));
	cr_expect(only(&l, FLAT_FILTER_GATEWAY, 8080));
	cr_expect_null(only(&l, FLAT_FILTER_SERVER, 80));
	loaded_fini(&l);
}

Test(admission, one_that_is_switched_off_is_none_and_a_selector_selects)
{
	struct loaded l = load_good(HEAD("a", "workloadSelector: {labels: {app: x}}, ") PATCH(
	    "context: SIDECAR_INBOUND",
	    "success_criteria: {}, enabled: "
	    "{default_value: false}") ", " PATCH("context: SIDECAR_INBOUND",
						 "success_criteria: {}") "]}\n---\n"
									 "apiVersion: "
									 "mesh.libflat.io/"
									 "v1\nkind: "
									 "Workload\nmetadata: "
									 "{name: x, namespace: a, "
									 "labels: {app: x}}\nspec: "
									 "{selectors: "
									 "[{executable: /x}]}\n");
	struct flat_filter_whose whose = {.at = FLAT_FILTER_SERVER,
					  .workload = flat_mesh_workload_at(l.mesh, 0)};

	cr_expect_eq(flat_mesh_n_admissions(l.mesh), 1);
	cr_expect(flat_mesh_admission(l.mesh, &whose));
	cr_expect(flat_mesh_filtered(l.mesh, whose.workload, FLAT_FILTER_SERVER));
	cr_expect_not(flat_mesh_filtered(l.mesh, whose.workload, FLAT_FILTER_CLIENT));
	cr_expect_null(only(&l, FLAT_FILTER_SERVER, 80));
	cr_expect(strstr(loaded_text(&l), "it is not enabled"));
	loaded_fini(&l);
}

static void refused(const char *fields, const char *why)
{
	char text[2048];
	struct loaded l;

	snprintf(text, sizeof(text), HEAD("istio-system", "") "%s%s}}}}]}\n",
		 "{applyTo: HTTP_FILTER, match: {context: ANY}, patch: {operation: INSERT_BEFORE, "
		 "value: {name: envoy.filters.http.admission_control, typed_config: {'@type': "
		 "type.googleapis.com/"
		 "envoy.extensions.filters.http.admission_control.v3.AdmissionControl, ",
		 fields);
	l = load_yaml(text);
	cr_expect_null(l.mesh, "%s", fields);
	cr_expect(strstr(loaded_text(&l), why), "%s: %s", fields, loaded_text(&l));
	loaded_fini(&l);
}

Test(admission, what_cannot_be_is_refused)
{
	refused("aggression: {default_value: 1}", "does not say what a success is");
	refused("success_criteria: {}, sampling_window: 0.5s",
		"sampling_window of less than a second");
	refused("success_criteria: {}, sampling_window: 2h",
		"sampling_window of less than a second");
	refused("success_criteria: {}, sr_threshold: {default_value: {value: 0.5}}",
		"less than 1 %");
	refused("success_criteria: {}, aggression: {default_value: much}", "is no number");
	refused(
	    "success_criteria: {http_criteria: {http_success_status: [{start: 300, end: 200}]}}",
	    "a range of statuses without any");
	refused("success_criteria: {grpc_criteria: {grpc_success_status: [17]}}", "17");
	refused("success_criteria: {}, max_rejection_probability: {default_value: {value: 101}}",
		"not a percentage");
	refused("success_criteria: {}, sampling_windw: 5s", "sampling_window");
}
