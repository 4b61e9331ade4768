/* Overrides of metrics: Istio's reference "Telemetry" (MetricsOverrides), and its merging of mesh, namespace and workload. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mesh/build.h"
#include "mesh/telemetry.h"
#include "support_mesh.h"

#define MESH                                                                                       \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: w, namespace: foo, labels: {app: w}}\nspec: {selectors: [{uid: 1}]}\n"   \
	"---\nkind: MeshConfig\nextensionProviders:\n"                                             \
	"- {name: p, prometheus: {}}\n- {name: a, envoyFileAccessLog: {path: /a}}\n"
#define T(name, ns, spec)                                                                          \
	"---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n"                                \
	"metadata: {name: " name ", namespace: " ns "}\nspec: {" spec "}\n"
#define M(items) "metrics: [{overrides: [" items "]}]"
#define MP(provider, items) "metrics: [{providers: [{name: " provider "}], overrides: [" items "]}]"
#define OF_W "selector: {matchLabels: {app: w}}, "
#define SET(name, value) "tagOverrides: {" name ": {value: \"" value "\"}}"
#define GONE(name) "tagOverrides: {" name ": {operation: REMOVE}}"
#define ON(metric, what) "{match: {metric: " metric "}, " what "}"

/* "-" of a metric that is off, else "name=value" of its labels, "name" of one that goes; of each metric that differs. */
static const char *text_of(const struct flat_metric_rules *r, char out[512])
{
	static const char letters[FLAT_METRICS + 1] = "ndioOCSRqp";
	size_t len = 0;

	out[0] = 0;
	for (unsigned i = 0; r && i < FLAT_METRICS; i++) {
		const struct flat_metric_rule *m = &r->of[i];

		if (!m->disabled && m->n_tags == 0)
			continue;
		len += (size_t)snprintf(out + len, 512 - len, "%s%c:%s", len ? " " : "", letters[i],
					m->disabled ? "-" : "");
		for (uint32_t k = 0; k < m->n_tags && !m->disabled; k++)
			len += (size_t)snprintf(out + len, 512 - len, "%s%s%s%s", k ? "," : "",
						m->tags[k].name, m->tags[k].value ? "=" : "",
						m->tags[k].value ? flat_cel_text(m->tags[k].value)
								 : "");
	}
	return out;
}

#define ALL_OFF "n:- d:- i:- o:- O:- C:- S:- R:- q:- p:-"
#define ALL(x) "n:" x " d:" x " i:" x " o:" x " O:" x " C:" x " S:" x " R:" x " q:" x " p:" x

static const struct measure_case {
	const char *yaml, *client, *server;
} cases[] = {
    {MESH, "", ""},
    {MESH T("m", "istio-system", M("{" SET("a", "request.host") "}")), ALL("a=request.host"),
     ALL("a=request.host")},
    {MESH T("m", "istio-system", M(ON("REQUEST_COUNT", GONE("path")))), "n:path", "n:path"},
    {MESH T("m", "istio-system", M(ON("TCP_SENT_BYTES", "disabled: true"))), "S:-", "S:-"},
    {MESH T("m", "istio-system", M(ON("GRPC_REQUEST_MESSAGES", "disabled: true"))), "q:-", "q:-"},
    {MESH T("m", "istio-system",
	    M("{match: {customMetric: response_messages_total}, " SET("a", "request.host") "}")),
     "p:a=request.host", "p:a=request.host"},
    {MESH T("m", "istio-system", M("{match: {customMetric: istio_request_bytes}, disabled: true}")),
     "i:-", "i:-"},
    {MESH T("m", "istio-system", M("{disabled: true}")), ALL_OFF, ALL_OFF},
    {MESH T("m", "istio-system", M("{match: {mode: CLIENT}, disabled: true}")), ALL_OFF, ""},
    {MESH T("m", "istio-system",
	    M("{match: {metric: REQUEST_SIZE, mode: SERVER}, disabled: true}")),
     "", "i:-"},
    /* A narrower one adds to a wider one, and replaces what is said of the same label. */
    {MESH T("m", "istio-system", M(ON("REQUEST_COUNT", SET("a", "1"))))
	 T("n", "foo", M(ON("REQUEST_COUNT", SET("b", "2")))),
     "n:a=1,b=2", "n:a=1,b=2"},
    {MESH T("m", "istio-system", M(ON("REQUEST_COUNT", SET("a", "1"))))
	 T("n", "foo", M(ON("REQUEST_COUNT", SET("a", "2"))))
	     T("w", "foo", OF_W M(ON("REQUEST_COUNT", GONE("a")))),
     "n:a", "n:a"},
    {MESH T("m", "istio-system", M(ON("REQUEST_COUNT", "disabled: true")))
	 T("n", "foo", M(ON("REQUEST_COUNT", "disabled: false"))),
     "", ""},
    /* All that is off comes back when something narrower is on. */
    {MESH T("m", "istio-system", M("{disabled: true}"))
	 T("n", "foo", M(ON("REQUEST_COUNT", "disabled: false"))),
     "", ""},
    {MESH T("m", "istio-system", M("{disabled: true}"))
	 T("w", "foo", "selector: {matchLabels: {app: x}}, " M("{disabled: false}")),
     ALL_OFF, ALL_OFF},
    {MESH T("m", "bar", M("{disabled: true}")), "", ""},
    /* Whose metrics: the last item says it. */
    {MESH T("m", "istio-system", MP("prometheus", "{disabled: true}")), ALL_OFF, ALL_OFF},
    {MESH T("m", "istio-system", MP("p", ON("REQUEST_COUNT", GONE("path")))), "n:path", "n:path"},
    {MESH T("m", "istio-system", MP("a", ON("REQUEST_COUNT", GONE("path")))), ALL_OFF, ALL_OFF},
    {MESH T("m", "istio-system", MP("a", "{disabled: true}"))
	 T("n", "foo", MP("prometheus", ON("REQUEST_COUNT", GONE("path")))),
     "n:path", "n:path"},
    {MESH "defaultProviders: {metrics: [a]}\n", ALL_OFF, ALL_OFF},
    /* Attached to a Service of the workload's. */
    {MESH "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: foo}\nspec: {"
	  "clusterIP: 10.0.0.1, selector: {app: w}, ports: [{port: 80}]}\n" T(
	      "t", "foo", "targetRefs: [{kind: Service, name: s}], " M("{disabled: true}")),
     ALL_OFF, ALL_OFF},
    {MESH T("t", "foo", "targetRefs: [], " M("{disabled: true}")), ALL_OFF, ALL_OFF},
    {MESH T("t", "foo", "metrics: [{reportingInterval: 5s}]"), "", ""},
};

Test(measure, overrides_are_merged_as_in_istio)
{
	char text[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct loaded l = load_good(cases[i].yaml);
		const struct flat_workload *w = flat_mesh_workload_by_name(l.mesh, "foo", "w");

		text_of(flat_mesh_observation(l.mesh, w, FLAT_MODE_CLIENT)->metrics, text);
		cr_assert_str_eq(text, cases[i].client, "case %zu as a client: %s", i, text);
		text_of(flat_mesh_observation(l.mesh, w, FLAT_MODE_SERVER)->metrics, text);
		cr_assert_str_eq(text, cases[i].server, "case %zu as a server: %s", i, text);
		cr_assert(!flat_mesh_tells(l.mesh), "case %zu", i);
		loaded_fini(&l);
	}
}

Test(measure, metrics_with_the_same_labels_share_them)
{
	struct loaded l = load_good(MESH T(
	    "m", "foo", M("{" SET("a", "request.host") "}, " ON("RESPONSE_SIZE", GONE("b")))));
	const struct flat_metric_rules *r =
	    flat_mesh_observation(l.mesh, flat_mesh_workload_by_name(l.mesh, "foo", "w"),
				  FLAT_MODE_SERVER)
		->metrics;

	cr_assert_not_null(r);
	cr_assert_eq(r->of[FLAT_METRIC_REQUESTS].tags, r->of[FLAT_METRIC_DURATION].tags);
	cr_assert_neq(r->of[FLAT_METRIC_REQUESTS].tags, r->of[FLAT_METRIC_RESPONSE_BYTES].tags);
	cr_assert_str_eq(r->owner, "foo/w as a server");
	cr_assert(r->labels_http);
	cr_assert(r->computes_http);
	loaded_fini(&l);
	l = load_good(MESH T("m", "foo",
			     M(ON("TCP_SENT_BYTES", SET("a", "request.host")) ", " ON(
				 "REQUEST_COUNT", SET("a", "'x'")))));
	r = flat_mesh_observation(l.mesh, flat_mesh_workload_by_name(l.mesh, "foo", "w"),
				  FLAT_MODE_SERVER)
		->metrics;
	cr_assert(r->labels_http);
	/* Texts alone: nothing has to be known of a request. */
	cr_assert(!r->computes_http);
	loaded_fini(&l);
}

static void count_expression(void *arg, const struct flat_cel *cel)
{
	(void)cel;
	++*(int *)arg;
}

Test(measure, every_expression_is_found)
{
	struct loaded l =
	    load_good(MESH T("m", "foo",
			     "accessLogging: [{filter: {expression: 'true'}}], " M(
				 "{tagOverrides: {a: {value: '1'}, b: {operation: REMOVE}}}")));
	int n = 0;

	flat_mesh_each_expression(l.mesh, count_expression, &n);
	cr_assert_eq(n, 2);
	loaded_fini(&l);
}

static const struct said_case {
	const char *yaml, *said;
	bool refused;
} said[] = {
    {MESH T("m", "foo", M("{" SET("a", "request.") "}")),
     "value \"request.\": there is no such attribute here, so the label stays as it was", false},
    {MESH T("m", "foo", M("{" SET("a", "'x") "}")), "a text has no end", false},
    {MESH T("m", "foo", M("{" SET("le", "'x'") "}")), "\"le\" can be no label", true},
    {MESH T("m", "foo", M("{" SET("__x", "'x'") "}")), "\"__x\" can be no label", true},
    {MESH T("m", "foo", M("{tagOverrides: {a: {}}}")), "UPSERT needs a value", true},
    {MESH T("m", "foo", M("{tagOverrides: {a: {operation: REMOVE, value: '1'}}}")),
     "REMOVE has no value", true},
    {MESH T("m", "foo", M("{tagOverrides: {a: {operation: DROP, value: '1'}}}")), "UPSERT", true},
    {MESH T("m", "foo", M(ON("REQUEST_COUNTS", "disabled: true"))), "REQUEST_COUNT", true},
    {MESH T("m", "foo", M("{match: {customMetric: mine}, disabled: true}")),
     "customMetric \"mine\": there is no such metric here", false},
    {MESH T("m", "foo", M("{match: {customMetric: mine, metric: REQUEST_COUNT}}")),
     "exclude each other", true},
    {MESH T("m", "foo", MP("a", "{disabled: true}")), "there is no provider \"a\" for metrics",
     false},
    {MESH T("m", "foo", "metrics: [{reportingInterval: often}]"), "often", true},
    {MESH T("m", "foo", "targetRefs: [{kind: Service, name: s}], " M("{disabled: true}")),
     "its target \"s\" selects no workloads", false},
    {MESH T("m", "foo", OF_W "targetRefs: [{kind: Service, name: s}], " M("{disabled: true}")),
     "selector and targetRef exclude each other", true},
};

Test(measure, what_is_wrong_is_said)
{
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct loaded l = load_yaml(said[i].yaml);

		cr_assert(strstr(loaded_text(&l), said[i].said), "case %zu: %s", i,
			  loaded_text(&l));
		cr_assert(strstr(loaded_text(&l), "t.yaml:"), "case %zu: %s", i, loaded_text(&l));
		cr_assert_eq(!l.mesh, said[i].refused, "case %zu: %s", i, loaded_text(&l));
		loaded_fini(&l);
	}
}

Test(measure, names_become_those_that_prometheus_takes)
{
	struct loaded l =
	    load_good(MESH T("m", "foo",
			     M(ON("REQUEST_COUNT", "tagOverrides: {request.host: {value: \"'a'\"}, "
						   "9: {value: \"'b'\"}}"))));
	char text[512];

	text_of(flat_mesh_observation(l.mesh, flat_mesh_workload_by_name(l.mesh, "foo", "w"),
				      FLAT_MODE_CLIENT)
		    ->metrics,
		text);
	cr_assert_str_eq(text, "n:_9='b',request_host='a'", "%s", text);
	loaded_fini(&l);
}
