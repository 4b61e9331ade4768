#include "offload/series.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* Between the values of a key: in no name of Kubernetes, and in no address. */
#define SEPARATOR '\n'

static const char *or_unknown(const char *text)
{
	return text && *text ? text : "unknown";
}

/* Istio's own order of labels that name a version: of the app label, then of Kubernetes' recommended one. */
static const char *label(const struct flat_workload *w, const char *first, const char *second)
{
	const char *value = w ? flat_labels_get(&w->labels, first) : NULL;
	if (!value && w)
		value = flat_labels_get(&w->labels, second);
	return or_unknown(value);
}

static void workload_labels(const char **v, const struct flat_workload *w)
{
	v[0] = or_unknown(w ? w->name : NULL);
	v[1] = or_unknown(w ? w->namespace : NULL);
	v[2] = or_unknown(w ? w->principal : NULL);
	v[3] = label(w, "app", "app.kubernetes.io/name");
	v[4] = label(w, "version", "app.kubernetes.io/version");
}

static void labels_of(const struct flat_series_key *key, const char *v[FLAT_LABELS])
{
	const struct flat_service *service = key->service;
	workload_labels(v + FLAT_LABEL_SOURCE_WORKLOAD, key->source);
	if (!key->source && key->principal)
		v[FLAT_LABEL_SOURCE_PRINCIPAL] = or_unknown(key->principal);
	workload_labels(v + FLAT_LABEL_DESTINATION_WORKLOAD, key->destination);
	v[FLAT_LABEL_SERVICE] = or_unknown(service ? service->host : key->address);
	v[FLAT_LABEL_SERVICE_NAME] = or_unknown(service ? service->name : NULL);
	v[FLAT_LABEL_SERVICE_NAMESPACE] = or_unknown(service ? service->namespace : NULL);
}

static struct flat_series *add(struct flat_series_table *t, const struct flat_strbuf *text,
			       const struct flat_series_key *key, const char *const *labels)
{
	struct flat_series *s = flat_pool_alloc(&t->pool, sizeof(*s));
	char *copy = text ? flat_pool_strndup(&t->pool, text->data, text->len) : NULL;
	struct flat_series **v = realloc(t->v, (t->n + 1) * sizeof(struct flat_series *));
	if (v)
		t->v = v;
	if (!s || !v || (text && !copy))
		return NULL;
	for (int i = 0; i < FLAT_LABELS; i++) {
		s->label[i] = flat_pool_strdup(&t->pool, labels[i]);
		if (!s->label[i])
			return NULL;
	}
	s->path = key->path;
	s->mutual_tls = key->principal != NULL;
	s->source_in_mesh = key->source_in_mesh;
	s->destination_in_mesh = key->destination_in_mesh;
	if (text && flat_map_put(&t->map, copy, text->len, s) != 0)
		return NULL;
	t->v[t->n++] = s;
	return s;
}

/* Those who came too late, by path, so that sums are right. */
static struct flat_series *others(struct flat_series_table *t, const struct flat_series_key *key)
{
	static const char *const labels[FLAT_LABELS] = {"other", "other", "other", "other", "other",
							"other", "other", "other", "other", "other",
							"other", "other", "other"};
	struct flat_strbuf text = {0};
	flat_strbuf_printf(&text, "%d%d%d", (int)key->path, key->source_in_mesh,
			   key->destination_in_mesh);
	struct flat_series *s = text.failed ? NULL : flat_map_get(&t->map, text.data, text.len);
	if (!s && !text.failed)
		s = add(t, &text, key, labels);
	flat_strbuf_fini(&text);
	return s ? s : t->n > 0 ? t->v[t->n - 1] : NULL;
}

struct flat_series *flat_series_get(struct flat_series_table *t, const struct flat_series_key *key)
{
	const char *labels[FLAT_LABELS];
	struct flat_strbuf text = {0};
	struct flat_series *s = NULL;
	labels_of(key, labels);
	flat_strbuf_printf(&text, "%d%d%d%d", (int)key->path, key->source_in_mesh,
			   key->destination_in_mesh, key->principal != NULL);
	for (int i = 0; i < FLAT_LABELS; i++) {
		flat_strbuf_putc(&text, SEPARATOR);
		flat_strbuf_puts(&text, labels[i]);
	}
	if (!text.failed)
		s = flat_map_get(&t->map, text.data, text.len);
	if (!s && !text.failed && t->n < (t->max ? t->max : FLAT_SERIES_MAX))
		s = add(t, &text, key, labels);
	flat_strbuf_fini(&text);
	return s ? s : others(t, key);
}

void flat_series_fini(struct flat_series_table *t)
{
	flat_map_fini(&t->map);
	flat_pool_fini(&t->pool);
	free(t->v);
	memset(t, 0, sizeof(*t));
}

/* --- text --- */

static const char *const label_names[FLAT_LABELS] = {
    [FLAT_LABEL_SOURCE_WORKLOAD] = "source_workload",
    [FLAT_LABEL_SOURCE_NAMESPACE] = "source_workload_namespace",
    [FLAT_LABEL_SOURCE_PRINCIPAL] = "source_principal",
    [FLAT_LABEL_SOURCE_APP] = "source_app",
    [FLAT_LABEL_SOURCE_VERSION] = "source_version",
    [FLAT_LABEL_DESTINATION_WORKLOAD] = "destination_workload",
    [FLAT_LABEL_DESTINATION_NAMESPACE] = "destination_workload_namespace",
    [FLAT_LABEL_DESTINATION_PRINCIPAL] = "destination_principal",
    [FLAT_LABEL_DESTINATION_APP] = "destination_app",
    [FLAT_LABEL_DESTINATION_VERSION] = "destination_version",
    [FLAT_LABEL_SERVICE] = "destination_service",
    [FLAT_LABEL_SERVICE_NAME] = "destination_service_name",
    [FLAT_LABEL_SERVICE_NAMESPACE] = "destination_service_namespace",
};

static const char *const path_names[] = {"kernel", "direct", "forwarded"};

void flat_series_labels(const struct flat_series *s, bool source, const char *protocol,
			const char *flags, struct flat_metric_labels *out)
{
	/* Istio says "unknown" at the source; at the destination nothing is encrypted on one host, and the
	 * client's identity comes from the kernel, which Istio has no word for. */
	const char *security = source || s->source_in_mesh ? "unknown"
			       : s->mutual_tls		   ? "mutual_tls"
							   : "none";
	out->n = 0;
	flat_metric_labels_add(out, "reporter", source ? "source" : "destination");
	for (int i = 0; i < FLAT_LABELS; i++) {
		bool is_principal =
		    i == FLAT_LABEL_SOURCE_PRINCIPAL || i == FLAT_LABEL_DESTINATION_PRINCIPAL;

		flat_metric_labels_add(out, label_names[i], s->label[i]);
		if (is_principal && strchr(s->label[i], '/'))
			out->v[out->n - 1].before = "spiffe://";
	}
	/* Istio's canonical names follow from the same labels of a workload. */
	flat_metric_labels_add(out, "source_canonical_service", s->label[FLAT_LABEL_SOURCE_APP]);
	flat_metric_labels_add(out, "source_canonical_revision",
			       s->label[FLAT_LABEL_SOURCE_VERSION]);
	flat_metric_labels_add(out, "destination_canonical_service",
			       s->label[FLAT_LABEL_DESTINATION_APP]);
	flat_metric_labels_add(out, "destination_canonical_revision",
			       s->label[FLAT_LABEL_DESTINATION_VERSION]);
	if (protocol) {
		flat_metric_labels_add(out, "request_protocol", protocol);
		flat_metric_labels_add(out, "response_flags", flags);
		flat_metric_labels_add(out, "connection_security_policy", security);
	}
	flat_metric_labels_add(out, "path", path_names[s->path]);
}

struct family {
	enum flat_metric metric;
	bool messages; /* of gRPC calls, not of connections */
	const char *name, *help;
	uint64_t (*value)(const struct flat_series *);
};

static void put_one(const struct flat_series *s, bool source, const struct family *f,
		    struct flat_measures *measures, struct flat_strbuf *out)
{
	struct flat_metric_labels labels;
	const struct flat_measure *same;
	struct flat_metric_text *text = &measures->text;

	flat_series_labels(s, source, f->messages ? NULL : "tcp", "-", &labels);
	flat_measures_write(measures, &labels, text);
	same = flat_measures_take(measures, f->metric, text);
	flat_strbuf_puts(out, f->name);
	flat_strbuf_add(out, text->buf.data, text->buf.len);
	flat_strbuf_printf(out, "} %" PRIu64 "\n", f->value(s) + (same ? same->n + same->live : 0));
}

static bool is_hidden(const struct flat_series *s, const struct family *f)
{
	if (f->messages)
		return f->value(s) == 0;
	/* What the kernel carries is counted when it is opened, and not seen again. */
	return s->path == FLAT_CONN_KERNEL || (s->apart.opened > 0 && s->apart.opened == s->opened);
}

static void put_family(const struct flat_series_table *t, const struct family *f,
		       struct flat_measures *measures, struct flat_strbuf *out)
{
	flat_metrics_head(out, f->name, "counter", f->help);
	for (uint32_t i = 0; i < t->n; i++) {
		const struct flat_series *s = t->v[i];

		if (is_hidden(s, f))
			continue;
		if (s->source_in_mesh)
			put_one(s, true, f, measures, out);
		if (s->destination_in_mesh)
			put_one(s, false, f, measures, out);
	}
	flat_measures_text(measures, f->metric, f->name, out);
}

/* Of what is not counted apart. */
static uint64_t sent(const struct flat_series *s)
{
	return s->bytes[1] + s->live[1] - s->apart.bytes[1] - s->apart.live[1];
}

static uint64_t received(const struct flat_series *s)
{
	return s->bytes[0] + s->live[0] - s->apart.bytes[0] - s->apart.live[0];
}

static uint64_t opened(const struct flat_series *s)
{
	return s->opened - s->apart.opened;
}

static uint64_t closed(const struct flat_series *s)
{
	return s->closed - s->apart.closed;
}

static uint64_t requests(const struct flat_series *s)
{
	return s->messages[0];
}

static uint64_t responses(const struct flat_series *s)
{
	return s->messages[1];
}

void flat_series_text(const struct flat_series_table *t, struct flat_measures *measures,
		      struct flat_strbuf *out)
{
	/* Istio's directions: sent is what the server's side sent in response. */
	static const struct family families[] = {
	    {FLAT_METRIC_TCP_SENT, false, "istio_tcp_sent_bytes_total", "Bytes of responses.",
	     sent},
	    {FLAT_METRIC_TCP_RECEIVED, false, "istio_tcp_received_bytes_total",
	     "Bytes of requests.", received},
	    {FLAT_METRIC_TCP_OPENED, false, "istio_tcp_connections_opened_total",
	     "Connections opened.", opened},
	    {FLAT_METRIC_TCP_CLOSED, false, "istio_tcp_connections_closed_total",
	     "Connections closed.", closed},
	    {FLAT_METRIC_REQUEST_MESSAGES, true, "istio_request_messages_total",
	     "Messages of gRPC requests.", requests},
	    {FLAT_METRIC_RESPONSE_MESSAGES, true, "istio_response_messages_total",
	     "Messages of gRPC responses.", responses},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(families); i++)
		put_family(t, &families[i], measures, out);
}
