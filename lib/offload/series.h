/*
 * Counts of connections, by who talks to whom: one series per client, server, service and path. What `flatctl top`
 * and the metrics show. Bounded: what does not fit any more is counted under one last series.
 */
#ifndef FLAT_OFFLOAD_SERIES_H
#define FLAT_OFFLOAD_SERIES_H

#include <stdbool.h>

#include "base/map.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "mesh/mesh.h"
#include "offload/measures.h"
#include "vq/attach.h"

enum flat_series_label {
	FLAT_LABEL_SOURCE_WORKLOAD,
	FLAT_LABEL_SOURCE_NAMESPACE,
	FLAT_LABEL_SOURCE_PRINCIPAL,
	FLAT_LABEL_SOURCE_APP,
	FLAT_LABEL_SOURCE_VERSION,
	FLAT_LABEL_DESTINATION_WORKLOAD,
	FLAT_LABEL_DESTINATION_NAMESPACE,
	FLAT_LABEL_DESTINATION_PRINCIPAL,
	FLAT_LABEL_DESTINATION_APP,
	FLAT_LABEL_DESTINATION_VERSION,
	FLAT_LABEL_SERVICE,
	FLAT_LABEL_SERVICE_NAME,
	FLAT_LABEL_SERVICE_NAMESPACE,
	FLAT_LABELS,
};

/** One series. Owner: the control thread. Lives as long as the table. */
struct flat_series {
	const char *label[FLAT_LABELS]; /* never NULL; "unknown" */
	enum flat_conn_path path;
	bool source_in_mesh;	  /* the client came over a session: reporter "source" counts it */
	bool destination_in_mesh; /* the server is a mesh listener: reporter "destination" */
	bool mutual_tls;	  /* the client showed a certificate, on another host */
	uint64_t opened;
	uint64_t closed;
	uint64_t bytes[2]; /* of closed connections, by the side that sent them */
	uint64_t live[2];  /* of open ones, as last added up by whoever shows it */
	/* Of these, what is counted under labels of Telemetry, and shown there. */
	struct flat_series_apart {
		uint64_t opened, closed;
		uint64_t bytes[2], live[2];
	} apart;
	uint64_t
	    messages[2]; /* of gRPC requests and responses; others are under labels of Telemetry */
};

/** All-zero is empty. */
struct flat_series_table {
	struct flat_map map;
	struct flat_pool pool;
	struct flat_series **v;
	uint32_t n;
	uint32_t max; /* 0: FLAT_SERIES_MAX */
};

/** Whom a connection joins. */
struct flat_series_key {
	const struct flat_workload *source;	 /* NULL: unknown */
	const struct flat_workload *destination; /* likewise */
	const struct flat_service *service;	 /* NULL: none, then `address` names it */
	const char *principal; /* of a client on another host, by its certificate; NULL: no such */
	const char *address;
	enum flat_conn_path path;
	bool source_in_mesh;
	bool destination_in_mesh;
};

/** The series of a key, made if need be; the last one when the table is full. NULL without any memory. */
struct flat_series *flat_series_get(struct flat_series_table *t, const struct flat_series_key *key);
void flat_series_fini(struct flat_series_table *t);

/** The four istio_tcp_* families and those of gRPC's messages in Prometheus's text form, version 0.0.4; with those of `measures`. */
void flat_series_text(const struct flat_series_table *t, struct flat_measures *measures,
		      struct flat_strbuf *out);

/**
 * The labels that Istio's metrics of connections and requests share. `source`: as the client's side reports it. protocol: "tcp",
 * "http"; NULL: only who and where, as Istio counts messages, while it is not known yet how it ends. All are borrowed, of the series and of what is passed.
 */
void flat_series_labels(const struct flat_series *s, bool source, const char *protocol,
			const char *flags, struct flat_metric_labels *out);

#endif
