/*
 * HTTP filters of EnvoyFilters beside those that limit rates (mesh/limit.h): admission control, compressors; and the times of
 * connections. Source: Envoy's AdmissionControl, Compressor and HttpConnectionManager (v3) and their documentation.
 */
#ifndef FLAT_MESH_FILTER_H
#define FLAT_MESH_FILTER_H

#include "mesh/health.h"
#include "mesh/limit.h"

/* Filters of one kind: each is looked at when one is searched for. */
#define FLAT_FILTERS_MAX 64U
/* Ranges of statuses that are a success: one or two are usual. */
#define FLAT_ADMISSION_RANGES_MAX 16U
/* Seconds that are remembered, each in 8 bytes; Envoy's default is 30. */
#define FLAT_ADMISSION_WINDOW_MAX 3600U

/* Where a filter stands, as bits. */
enum flat_filter_place {
	FLAT_FILTER_CLIENT = 1,	 /* SIDECAR_OUTBOUND */
	FLAT_FILTER_GATEWAY = 2, /* GATEWAY */
	FLAT_FILTER_SERVER = 4,	 /* SIDECAR_INBOUND */
};

struct flat_filter {
	struct flat_limit_for by;
	uint8_t at;    /* enum flat_filter_place */
	uint16_t port; /* of the service or gateway; of a server its own too; 0: any */
};

/* Whose filter is searched for. */
struct flat_filter_whose {
	enum flat_filter_place at;
	const struct flat_workload *workload; /* NULL: of none */
	uint16_t port, other_port;
};

/* Requests are refused by chance, the more of them the fewer of the last ones went well. */
struct flat_admission {
	struct flat_filter filter;
	bool disabled;
	uint32_t window_s;	     /* 1 to FLAT_ADMISSION_WINDOW_MAX */
	uint32_t aggression;	     /* thousandths, at least 1000 */
	uint32_t success_of_million; /* sr_threshold */
	uint32_t most_of_million;    /* max_rejection_probability */
	uint32_t rps;		     /* nobody is refused below */
	struct flat_status_range http[FLAT_ADMISSION_RANGES_MAX];
	uint32_t n_http;
	uint32_t grpc; /* bit N: status N is a success */
};

/** The first one in the files that stands there; NULL: none. */
const struct flat_admission *flat_mesh_admission(const struct flat_mesh *mesh,
						 const struct flat_filter_whose *whose);
uint32_t flat_mesh_n_admissions(const struct flat_mesh *mesh);

/* Responses are compressed with gzip. */
struct flat_compressor {
	struct flat_filter filter;
	bool disabled;
	bool not_with_etag;	  /* disable_on_etag_header */
	bool weakens_etag;	  /* a strong one becomes weak; else it goes */
	bool removes_accept;	  /* servers are not asked for a coding */
	uint32_t min_length;	  /* of those that say their length */
	const char *const *types; /* content-types; none: the usual ones */
	uint32_t n_types;
	int8_t level;	     /* 1 to 9, -1: zlib's default */
	uint8_t memory;	     /* zlib's memLevel, 1 to 9 */
	uint8_t window_bits; /* 9 to 15 */
	uint8_t strategy;    /* zlib's number */
};

/** Likewise. */
const struct flat_compressor *flat_mesh_compressor(const struct flat_mesh *mesh,
						   const struct flat_filter_whose *whose);
uint32_t flat_mesh_n_compressors(const struct flat_mesh *mesh);
FLAT_MUST_CHECK int flat_mesh_add_compressor(struct flat_mesh *mesh,
					     struct flat_compressor *compressor);

/* How long a client's connection and its requests may take, ms; 0: as long as they like. */
struct flat_http_times {
	uint32_t idle_ms;	  /* a connection without requests */
	uint32_t head_ms;	  /* a request's head */
	uint32_t request_ms;	  /* a whole request, until it is received */
	uint32_t stream_idle_ms;  /* a request of which nothing moves, in either direction */
	uint32_t client_stall_ms; /* likewise, where it is the client who is waited for */
};

/* What an EnvoyFilter says of them. */
struct flat_times_patch {
	struct flat_filter filter;
	bool has_idle, has_head, has_request, has_stream_idle;
	struct flat_http_times times;
};

/** Puts what holds there into `times`, field by field, the last one in the files before those above it. */
void flat_mesh_times(const struct flat_mesh *mesh, const struct flat_filter_whose *whose,
		     struct flat_http_times *times);
/** Those that stand there, in turn: the next one from `*i` on, NULL: none. */
const struct flat_times_patch *flat_mesh_next_times(const struct flat_mesh *mesh,
						    const struct flat_filter_whose *whose,
						    uint32_t *i);
uint32_t flat_mesh_n_times(const struct flat_mesh *mesh);
FLAT_MUST_CHECK int flat_mesh_add_times(struct flat_mesh *mesh, struct flat_times_patch *patch);

/*
 * Requests are hedged: a try whose time is over goes on beside the next one. Of routes, or of the virtual hosts they are in. Source:
 * Envoy's HedgePolicy (v3) and istiod's names of virtual hosts.
 */
struct flat_hedge_patch {
	struct flat_filter filter;
	bool of_route; /* else of the virtual host: where no patch speaks of the route */
	bool on;
	const char *host;  /* of the virtual host, as it is written; NULL: any */
	const char *route; /* its name; NULL: any */
};

/* A request, for these. */
struct flat_hedge_place {
	struct flat_filter_whose whose;
	struct flat_span host;			    /* of the request, at a gateway */
	const struct flat_virtual_service *virtual; /* at a gateway */
	const struct flat_service *service;	    /* that a client asks for; NULL: none */
	const char *route;			    /* its name; NULL: none */
};

/** The last one in the files that holds there, a route's before a virtual host's; NULL: none, or it is not on. */
const struct flat_hedge_patch *flat_mesh_hedge(const struct flat_mesh *mesh,
					       const struct flat_hedge_place *place);
uint32_t flat_mesh_n_hedges(const struct flat_mesh *mesh);
FLAT_MUST_CHECK int flat_mesh_add_hedge(struct flat_mesh *mesh, struct flat_hedge_patch *patch);

/** Whether some filter wants the requests of a workload read, as a client's (not NULL) or as a server's. */
bool flat_mesh_filtered(const struct flat_mesh *mesh, const struct flat_workload *workload,
			enum flat_filter_place at);

/** Adds one, from the mesh's pool. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_mesh_add_admission(struct flat_mesh *mesh,
					    struct flat_admission *admission);

#endif
