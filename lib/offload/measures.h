/*
 * Counts under labels that an administrator chose (Telemetry's metric overrides): one for each metric and text of labels. Used only
 * where a workload has such overrides; all others are counted in offload/series.h and l7_log.c, whose lines these join where the
 * labels come to the same. Owner: the control thread.
 *
 * Values of labels may be a client's words. M1: a client cannot make counts without end: FLAT_MEASURES_OF_ONE of each owner, and
 * FLAT_MEASURES_MAX / 2 of all, have values that were computed; after that such values are "other", so that sums stay right.
 * M2: nor long ones: FLAT_METRIC_VALUE_MAX bytes of each value. M3: nor ones that fall into one slot: what is looked up is a keyed hash.
 * M4: nor text that Prometheus refuses: what is not UTF-8 becomes a question mark, quotes are escaped.
 *
 * Most requests come to the labels of one before: what those were counted under is found by what they were made of (flat_measures_recent()),
 * without making the text. M5: that is of one configuration, and a hash of which a client can choose neither the key nor the slot.
 */
#ifndef FLAT_OFFLOAD_MEASURES_H
#define FLAT_OFFLOAD_MEASURES_H

#include "base/map.h"
#include "base/pool.h"
#include "base/siphash.h"
#include "mesh/measure.h"
#include "offload/histogram.h"

/* Counts of all owners: as many as of connections and requests, together. */
#define FLAT_MEASURES_MAX 8192U
/* Of one workload on one side with computed values: 4 metrics of requests times 512 hosts, paths or codes. */
#define FLAT_MEASURES_OF_ONE 2048U
/* Bytes of a value: a host's name, or a path that somebody wants to see in a graph. */
#define FLAT_METRIC_VALUE_MAX 128U
/* Labels of one count: Istio's are 24. */
#define FLAT_METRIC_LABELS_MAX (FLAT_METRIC_TAGS_MAX + 32)

/* Of the labels of requests that were counted lately: places (200 bytes each), and bytes of computed values in one. */
#define FLAT_MEASURES_RECENT 1024U
#define FLAT_MEASURES_RECENT_BYTES 128U

struct flat_metric_label {
	const char *name;   /* borrowed, as all */
	const char *before; /* of the value: "spiffe://" */
	const char *value;
};

struct flat_metric_labels {
	struct flat_metric_label v[FLAT_METRIC_LABELS_MAX];
	uint32_t n;
};

/** Appends a label; what there is no room for is dropped. */
void flat_metric_labels_add(struct flat_metric_labels *l, const char *name, const char *value);
/** Sets the label of a name, or adds it; value NULL: takes it away. */
void flat_metric_labels_set(struct flat_metric_labels *l, const char *name, const char *value);
/** Appends an opening brace and all labels: the caller goes on with a comma or the closing brace. */
void flat_metric_labels_text(const struct flat_metric_labels *l, struct flat_strbuf *out);

/* Labels as text, and its keyed hash: one text is looked up for several metrics. */
struct flat_metric_text {
	struct flat_strbuf buf;
	uint64_t hash;
};

/** Appends what is said of a metric before its values, in Prometheus' text format; `type`: counter, gauge, histogram. */
void flat_metrics_head(struct flat_strbuf *out, const char *name, const char *type,
		       const char *help);
/** A metric of one value, without labels, likewise. */
void flat_metrics_one(struct flat_strbuf *out, const char *name, const char *type, const char *help,
		      uint64_t value);
/** Appends `value` as Prometheus wants it between the quotes of a label. */
void flat_metrics_escape(struct flat_strbuf *out, const char *value);

/** Makes text of `len` bytes fit for a label in place, M4: what is not UTF-8, or controls a terminal, is a question mark. */
void flat_metric_clean(char *text, size_t len);

struct flat_measure {
	enum flat_metric metric;
	const char *labels; /* an open brace and the labels */
	size_t len;
	uint64_t n;    /* requests, connections, or bytes of those that are over */
	uint64_t live; /* bytes of open ones, as last added up by whoever shows it */
	struct flat_histogram histogram; /* DURATION, REQUEST_BYTES, RESPONSE_BYTES */
	bool shown;
};

enum flat_measure_bound {
	FLAT_BOUND_VALUE,  /* values that were cut short, M2 */
	FLAT_BOUND_SERIES, /* counts that went to "other", M1 */
	FLAT_BOUND_TABLE,  /* counts that had no room at all */
	FLAT_BOUNDS,
};

/* What the labels of a request's metric are made of. Hashed and compared as bytes, up to the end of the values: no padding. */
struct flat_measure_made_of {
	uint64_t epoch;	  /* of the configuration, which says what the addresses below mean */
	const void *tags; /* of the rule; NULL: Istio's labels alone */
	const void *base; /* the series */
	uint64_t outcome; /* struct flat_l7_outcome */
	uint32_t kind;	  /* 0: as the server's side tells it, 1: the client's; 2 more: messages */
	uint32_t len;	  /* bytes of the values */
	char values[FLAT_MEASURES_RECENT_BYTES]; /* that were computed, each with a NUL */
};

struct flat_measure_recent {
	struct flat_measure_made_of of;
	struct flat_measure *v[FLAT_METRICS]; /* NULL: not found yet */
};

/** All-zero is empty. */
struct flat_measures {
	struct flat_map map;
	struct flat_map owners;
	struct flat_pool pool;
	struct flat_measure **v;
	uint32_t n, room;
	uint32_t n_computed;
	uint32_t max, max_of_one; /* 0: FLAT_MEASURES_MAX, FLAT_MEASURES_OF_ONE */
	uint8_t key[FLAT_SIPHASH_KEY_BYTES];
	bool keyed;
	struct flat_measure_recent *recent; /* FLAT_MEASURES_RECENT; NULL: none yet */
	uint64_t bounded[FLAT_BOUNDS];
	struct flat_metric_text text, other; /* for whoever makes labels */
};

void flat_measures_fini(struct flat_measures *t);

/** Makes the text of labels in the place of what was there. */
void flat_measures_write(struct flat_measures *t, const struct flat_metric_labels *l,
			 struct flat_metric_text *out);

/**
 * The count of a metric under labels, made if need be. owner: whose values were computed; NULL: none were. NULL: over a bound, or no
 * memory; the first time for an owner the log says so.
 */
struct flat_measure *flat_measures_get(struct flat_measures *t, enum flat_metric metric,
				       const struct flat_metric_text *text, const char *owner);

/**
 * What labels made of `of` were counted under lately: what is not known is NULL in it, to be filled in. Valid until the next call. NULL: no
 * memory.
 */
struct flat_measure_recent *flat_measures_recent(struct flat_measures *t,
						 const struct flat_measure_made_of *of);

/** That count if it is there; it is then shown by the caller. */
struct flat_measure *flat_measures_take(struct flat_measures *t, enum flat_metric metric,
					const struct flat_metric_text *text);

/** Those of a metric that nobody took, in Prometheus's text form; all may be taken again. */
void flat_measures_text(struct flat_measures *t, enum flat_metric metric, const char *name,
			struct flat_strbuf *out);

/** flat_metric_bounded_total. */
void flat_measures_bounds_text(const struct flat_measures *t, struct flat_strbuf *out);

#endif
