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

#endif
