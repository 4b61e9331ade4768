/* What of gRPC over HTTP/2 is not HTTP: statuses, and how long a caller waits. */
#ifndef FLAT_CODEC_GRPC_H
#define FLAT_CODEC_GRPC_H

#include <stdbool.h>
#include <stdint.h>

#include "codec/http.h"

/* grpc-status. */
enum flat_grpc_status {
	FLAT_GRPC_OK = 0,
	FLAT_GRPC_CANCELLED = 1,
	FLAT_GRPC_UNKNOWN = 2,
	FLAT_GRPC_DEADLINE_EXCEEDED = 4,
	FLAT_GRPC_PERMISSION_DENIED = 7,
	FLAT_GRPC_RESOURCE_EXHAUSTED = 8,
	FLAT_GRPC_UNIMPLEMENTED = 12,
	FLAT_GRPC_INTERNAL = 13,
	FLAT_GRPC_UNAVAILABLE = 14,
	FLAT_GRPC_UNAUTHENTICATED = 16,
	FLAT_GRPC_STATUSES = 17,
};

/* Messages of one direction of a call: each is a flag, its length (4 bytes, big-endian) and as many bytes (gRPC's PROTOCOL-HTTP2.md). All-zero is none. */
struct flat_grpc_frames {
	uint64_t n;    /* that have begun, as Envoy counts them */
	uint32_t left; /* bytes of the last one that are yet to come */
	uint32_t size;
	uint8_t at; /* bytes of its front that came, while that is not whole */
	bool bad;   /* it is something else: nothing is counted any more */
};

/** Content of the direction goes by, whole messages or not. */
void flat_grpc_frames_feed(struct flat_grpc_frames *f, const void *bytes, size_t len);

/** What a client makes of an HTTP status without grpc-status (gRPC's http-grpc-status-mapping.md). */
enum flat_grpc_status flat_grpc_of_http(unsigned status);

/** A status by name ("UNAVAILABLE", any case) or number; -1: it is none. */
int flat_grpc_status_parse(struct flat_span text);

/** The value of a grpc-status field; -1: absent or no number of a status. */
int flat_grpc_status_read(struct flat_span value);

/** The value of a grpc-timeout field in microseconds, at least 1; 0: absent, or not 1 to 8 digits and a unit. */
int64_t flat_grpc_timeout_us(struct flat_span value);

/** Writes a grpc-message: percent-encoded, NUL-terminated, cut to `size`. */
void flat_grpc_message(struct flat_span text, char *buf, size_t size);

#endif
