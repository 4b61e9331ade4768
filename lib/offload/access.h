/* One request or connection as access logs tell it: lines by a format, and values for filters. */
#ifndef FLAT_OFFLOAD_ACCESS_H
#define FLAT_OFFLOAD_ACCESS_H

#include "base/strbuf.h"
#include "mesh/telemetry.h"
#include "vq/attach.h"

/* Response headers that formats and filters in force name. */
#define FLAT_ACCESS_HEADERS_MAX 32U

/* What is wanted of a response's head, and what was there. */
struct flat_access_headers {
	const char *name[FLAT_ACCESS_HEADERS_MAX];
	uint32_t n;
};

/* All texts are borrowed. An address of family 0 is not there. */
struct flat_access {
	const struct flat_http_request *request;  /* NULL: a connection, or a head that was none */
	const struct flat_access_headers *wanted; /* NULL: none */
	const struct flat_span *response;	  /* of each of `wanted` */
	const char *protocol;			  /* NULL: none */
	unsigned status;			  /* 0: none */
	int grpc;				  /* -1: none */
	const char *flags;			  /* "-": none */
	const char *details;			  /* NULL: none */
	uint64_t received, sent;		  /* bytes of bodies, or of the connection */
	int64_t start_us;			  /* of the epoch */
	int64_t duration_us;
	int64_t response_us; /* from the start to the response's head; -1: none came */
	int64_t service_us;  /* from the last attempt to the response's head; -1 */
	struct flat_addr server, local, client;
	bool inbound; /* told as the server's side would */
	const char *service, *subset;
	uint16_t service_port;
	const char *sni;
	const char *route; /* NULL or "": none */
	const char *trace_id;
	struct flat_span request_id; /* where the request has none of its own */
	const char *hostname;
	uint64_t connection;
	uint32_t attempts;
	const char *client_principal, *server_principal; /* without "spiffe://"; NULL or "": none */
	bool mtls; /* the client's identity is known to the server */
};

/** Appends a line. */
void flat_access_write(const struct flat_log_format *format, const struct flat_access *a,
		       struct flat_strbuf *out);

/** Whether a filter lets it be logged; NULL lets everything. */
bool flat_access_passes(const struct flat_cel *filter, const struct flat_access *a);

/**
 * Writes what an expression says as text, at most `size` bytes of it without a NUL; how many. 0: nothing. *cut: there was more.
 */
size_t flat_access_value(const struct flat_cel *cel, const struct flat_access *a, char *to,
			 size_t size, bool *cut);

/** Notes response headers that an expression names, likewise. */
void flat_access_want_keys(struct flat_access_headers *wanted, const struct flat_cel *cel);

/** Notes response headers that a format names, as far as there is room. */
void flat_access_want(struct flat_access_headers *wanted, const struct flat_log_format *format);

/** Envoy's response code details for why a request ended. */
const char *flat_access_details(unsigned verdict, unsigned status);

/** "NotFound" and the like, of gRPC's statuses; NULL: there is no such. */
const char *flat_access_grpc_name(int status);

#endif
