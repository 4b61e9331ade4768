/* Bounds of what is read from the peers of an HTTP connection, each with the reason for its number. */
#ifndef FLAT_CODEC_LIMITS_H
#define FLAT_CODEC_LIMITS_H

/* Start line and fields of one message. Envoy takes 60 KiB, nginx and Apache less. Offsets in it fit in 16 bits. */
#define FLAT_HTTP_HEAD_BYTES_MAX (60U * 1024)
/* Fields of one message, likewise Envoy's default. */
#define FLAT_HTTP_FIELDS_MAX 100U
/* Fields after a chunked body: signatures and statuses, a few hundred bytes. */
#define FLAT_HTTP_TRAILER_BYTES_MAX (8U * 1024)
/* The line before a chunk: 16 digits and extensions that nobody uses. */
#define FLAT_HTTP_CHUNK_LINE_MAX 256U
/* Extensions of all chunks of one body: a sender of nothing else is stopped. */
#define FLAT_HTTP_CHUNK_EXTENSIONS_MAX (16U * 1024)
/* Interim (1xx) responses to one request: 100 and 103 come once or twice. */
#define FLAT_HTTP_INTERIM_MAX 16U
/* A host with its port: 253 of DNS, a colon, five digits; IPv6 in brackets is shorter. */
#define FLAT_HTTP_HOST_MAX 259U

/* Requests of one HTTP/2 connection at a time: Envoy and nginx allow 100 to 128. */
#define FLAT_HTTP2_STREAMS_MAX 128U
/* Bytes that wait to be sent: no window holds heads, so beyond this no stream begins until the peer reads. */
#define FLAT_HTTP2_OUT_MAX ((size_t)1024 * 1024)
/* Content of one stream that waits to be read (its window: the protocol's own first value), or to be sent. */
#define FLAT_HTTP2_RX_BYTES_MAX 65535U
#define FLAT_HTTP2_TX_BYTES_MAX ((size_t)32 * 1024)
/* Streams that a connection keeps for its next ones, with buffers of at most so many bytes: what calls of few bytes need. */
#define FLAT_HTTP2_SPARE_MAX 64U
#define FLAT_HTTP2_SPARE_BYTES ((size_t)1024)
/* Window of the whole connection: it shall not be what a single fast stream waits for. */
#define FLAT_HTTP2_WINDOW (1024 * 1024)
/* Bytes of fields that are read and dropped beyond the largest head, so that a plain answer can be given. */
#define FLAT_HTTP2_DROPPED_MAX ((size_t)240 * 1024)
/*
 * What floods are made of (PING, SETTINGS, PRIORITY, empty frames): so much at once, and so much per second; a frame of
 * content and a served request give some back. gRPC pings about once per frame of data.
 */
#define FLAT_HTTP2_CALM_MAX 1000
#define FLAT_HTTP2_CALM_PER_S 100
#define FLAT_HTTP2_CALM_SERVED 2
#define FLAT_HTTP2_CALM_SETTINGS 8
/*
 * Streams that the peer reset before we answered, or that we had to reset for it (CVE-2023-44487, CVE-2025-8671): so many
 * at once, and per second; a request that was answered forgives one, and no frame does: it costs its sender too little.
 * Envoy ends a connection half of whose first 500 streams were reset early, nghttp2 allows 33 a second.
 */
#define FLAT_HTTP2_RESETS_MAX 500
#define FLAT_HTTP2_RESETS_PER_S 50
/* Frames of one block of fields after its first: 60 KiB are four. */
#define FLAT_HTTP2_CONTINUATIONS_MAX 8U

#endif
