#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "offload/series.h"

static const struct flat_label shop_labels[] = {{"app", "shop"}, {"version", "v2"}};
static const struct flat_workload shop = {
    .name = "shop",
    .namespace = "demo",
    .principal = "cluster.local/ns/demo/sa/shop",
    .labels = {shop_labels, 2},
};
static const struct flat_service redis = {
    .name = "redis", .namespace = "demo", .host = "redis.demo.example"};

static struct flat_series *get(struct flat_series_table *t, const char *address)
{
	struct flat_series_key key = {
	    .source = &shop, .address = address, .path = FLAT_CONN_DIRECT, .source_in_mesh = true};
	return flat_series_get(t, &key);
}

Test(series, one_for_each_pair_and_path)
{
	struct flat_series_table t = {0};
	struct flat_series_key key = {.source = &shop, .service = &redis, .source_in_mesh = true};
	key.path = FLAT_CONN_DIRECT;
	struct flat_series *a = flat_series_get(&t, &key);
	cr_assert_eq(flat_series_get(&t, &key), a);
	key.path = FLAT_CONN_FORWARDED;
	struct flat_series *b = flat_series_get(&t, &key);
	cr_assert_neq(a, b);
	key.source = NULL;
	cr_assert_neq(flat_series_get(&t, &key), b);
	cr_assert_eq(t.n, 3);
	cr_assert_str_eq(a->label[FLAT_LABEL_SOURCE_APP], "shop");
	cr_assert_str_eq(a->label[FLAT_LABEL_SOURCE_VERSION], "v2");
	cr_assert_str_eq(a->label[FLAT_LABEL_SERVICE], "redis.demo.example");
	cr_assert_str_eq(a->label[FLAT_LABEL_DESTINATION_WORKLOAD], "unknown");
	flat_series_fini(&t);
}

Test(series, a_client_on_another_host_is_its_certificate_s)
{
	struct flat_series_table t = {0};
	struct flat_strbuf out = {0};
	struct flat_series_key key = {.service = &redis,
				      .principal = "cluster.local/ns/far/sa/away",
				      .destination_in_mesh = true};
	struct flat_series *s = flat_series_get(&t, &key);
	struct flat_metric_labels labels;
	flat_series_labels(s, false, "http", "-", &labels);
	flat_metric_labels_text(&labels, &out);
	cr_assert(strstr(flat_strbuf_str(&out),
			 "source_principal=\"spiffe://cluster.local/ns/far/sa/away\""),
		  "%s", out.data);
	cr_assert(strstr(out.data, "connection_security_policy=\"mutual_tls\""), "%s", out.data);
	cr_assert(strstr(out.data, "destination_principal=\"unknown\""), "%s", out.data);
	key.principal = NULL;
	cr_assert_neq(flat_series_get(&t, &key), s);
	flat_strbuf_fini(&out);
	flat_series_fini(&t);
}

Test(series, a_full_table_counts_the_rest_together)
{
	struct flat_series_table t = {.max = 4};
	char address[32];
	struct flat_series *rest = NULL;
	for (int i = 0; i < 100; i++) {
		snprintf(address, sizeof(address), "10.0.0.%d:80", i);
		struct flat_series *s = get(&t, address);
		cr_assert_not_null(s);
		s->opened++;
		if (i >= 4) {
			cr_assert(!rest || s == rest);
			rest = s;
		}
	}
	cr_assert_eq(t.n, 5);
	cr_assert_eq(rest->opened, 96);
	cr_assert_str_eq(rest->label[FLAT_LABEL_SERVICE], "other");
	/* Those that were there stay what they are. */
	cr_assert_eq(get(&t, "10.0.0.3:80")->opened, 1);
	flat_series_fini(&t);
}

Test(series, text_has_istio_names_and_both_reporters)
{
	struct flat_series_table t = {0};
	struct flat_measures measures = {.n = 0};
	struct flat_strbuf out = {0};
	struct flat_series_key key = {.source = &shop,
				      .service = &redis,
				      .path = FLAT_CONN_DIRECT,
				      .source_in_mesh = true,
				      .destination_in_mesh = true};
	struct flat_series *s = flat_series_get(&t, &key);
	s->opened = 3;
	s->closed = 2;
	s->bytes[0] = 100;
	s->live[0] = 11;
	s->bytes[1] = 7000;
	flat_series_text(&t, &measures, &out);
	const char *text = flat_strbuf_str(&out);
	cr_assert_not_null(text);
	cr_assert_not_null(strstr(text, "# TYPE istio_tcp_sent_bytes_total counter\n"));
	cr_assert_not_null(strstr(text,
				  "istio_tcp_received_bytes_total{reporter=\"source\","
				  "source_workload=\"shop\",source_workload_namespace=\"demo\""));
	cr_assert_not_null(strstr(text, "istio_tcp_received_bytes_total{reporter=\"destination\""));
	cr_assert_not_null(strstr(text, "request_protocol=\"tcp\",response_flags=\"-\""));
	/* received is what the client sent. */
	const char *line = strstr(text, "istio_tcp_received_bytes_total{");
	cr_assert_eq(strtoull(strstr(line, "} ") + 2, NULL, 10), 111);
	line = strstr(text, "istio_tcp_sent_bytes_total{");
	cr_assert_eq(strtoull(strstr(line, "} ") + 2, NULL, 10), 7000);
	flat_strbuf_fini(&out);
	flat_measures_fini(&measures);
	flat_series_fini(&t);
}

Test(series, what_is_counted_apart_is_not_counted_twice)
{
	struct flat_series_table t = {0};
	struct flat_measures measures = {.n = 0};
	struct flat_strbuf out = {0};
	struct flat_series_key key = {
	    .source = &shop, .service = &redis, .path = FLAT_CONN_DIRECT, .source_in_mesh = true};
	struct flat_series *s = flat_series_get(&t, &key);
	s->opened = s->apart.opened = 3;
	flat_series_text(&t, &measures, &out);
	cr_assert_null(strstr(flat_strbuf_str(&out), "{"));
	s->opened = 5;
	s->bytes[0] = 100;
	s->live[0] = 11;
	s->apart.bytes[0] = 40;
	s->apart.live[0] = 1;
	/* Labels that come to the same are one line. */
	struct flat_metric_labels labels;
	flat_series_labels(s, true, "tcp", "-", &labels);
	flat_measures_write(&measures, &labels, &measures.text);
	flat_measures_get(&measures, FLAT_METRIC_TCP_OPENED, &measures.text, NULL)->n = 40;
	flat_strbuf_reset(&out);
	flat_series_text(&t, &measures, &out);
	const char *line = strstr(flat_strbuf_str(&out), "istio_tcp_received_bytes_total{");
	cr_assert_eq(strtoull(strstr(line, "} ") + 2, NULL, 10), 70);
	line = strstr(out.data, "istio_tcp_connections_opened_total{");
	cr_assert_eq(strtoull(strstr(line, "} ") + 2, NULL, 10), 42);
	cr_assert_null(strstr(line + 1, "istio_tcp_connections_opened_total{"));
	flat_strbuf_fini(&out);
	flat_series_fini(&t);
	flat_measures_fini(&measures);
}

Test(series, messages_of_calls_have_the_labels_of_who_and_where)
{
	struct flat_series_table t = {0};
	struct flat_measures measures = {.n = 0};
	struct flat_strbuf out = {0};
	struct flat_series_key key = {.source = &shop,
				      .service = &redis,
				      .path = FLAT_CONN_FORWARDED,
				      .source_in_mesh = true};
	struct flat_series *s = flat_series_get(&t, &key);
	flat_series_text(&t, &measures, &out);
	cr_assert_not_null(
	    strstr(flat_strbuf_str(&out), "# TYPE istio_request_messages_total counter\n"));
	cr_assert_null(strstr(out.data, "istio_request_messages_total{"));
	s->messages[0] = 3;
	s->messages[1] = 4;
	/* As in Istio: how the call ends is not known when its messages are counted. */
	struct flat_metric_labels labels;
	flat_series_labels(s, true, NULL, NULL, &labels);
	flat_measures_write(&measures, &labels, &measures.text);
	flat_measures_get(&measures, FLAT_METRIC_RESPONSE_MESSAGES, &measures.text, NULL)->n = 10;
	flat_strbuf_reset(&out);
	flat_series_text(&t, &measures, &out);
	const char *line =
	    strstr(flat_strbuf_str(&out), "istio_request_messages_total{reporter=\"source\"");
	cr_assert_not_null(line);
	cr_assert_eq(strtoull(strstr(line, "} ") + 2, NULL, 10), 3);
	line = strstr(out.data, "istio_response_messages_total{reporter=\"source\"");
	cr_assert_eq(strtoull(strstr(line, "} ") + 2, NULL, 10), 14);
	cr_assert_null(strstr(line, "request_protocol"));
	cr_assert_null(strstr(line, "response_flags"));
	cr_assert_null(strstr(line, "connection_security_policy"));
	flat_strbuf_fini(&out);
	flat_measures_fini(&measures);
	flat_series_fini(&t);
}

Test(series, what_the_kernel_carries_is_not_in_istio_families)
{
	struct flat_series_table t = {0};
	struct flat_measures measures = {.n = 0};
	struct flat_strbuf out = {0};
	struct flat_series_key key = {
	    .source = &shop, .service = &redis, .path = FLAT_CONN_KERNEL, .source_in_mesh = true};
	cr_assert_not_null(flat_series_get(&t, &key));
	flat_series_text(&t, &measures, &out);
	cr_assert_null(strstr(flat_strbuf_str(&out), "{"));
	flat_strbuf_fini(&out);
	flat_measures_fini(&measures);
	flat_series_fini(&t);
}

Test(series, labels_are_escaped)
{
	struct flat_strbuf out = {0};
	flat_metrics_escape(&out, "a\"b\\c\nd");
	cr_assert_str_eq(flat_strbuf_str(&out), "a\\\"b\\\\c\\nd");
	flat_strbuf_fini(&out);
}
