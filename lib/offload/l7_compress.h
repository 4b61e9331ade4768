/* Compression of responses with gzip (mesh/filter.h). Control thread. */
#ifndef FLAT_OFFLOAD_L7_COMPRESS_H
#define FLAT_OFFLOAD_L7_COMPRESS_H

#include "mesh/filter.h"
#include "offload/l7_engine.h"

/* Responses that are compressed at once: each needs up to 400 KiB. What comes beyond goes as it came. */
#define FLAT_L7_GZIPS_MAX 1024U
/* Compressors kept for the next responses. */
#define FLAT_L7_GZIPS_SPARE 16U

/** What is changed of an attempt's request: nothing (NULL), or Accept-Encoding is taken away. */
const struct flat_header_ops *flat_l7_compress_request(const struct flat_l7 *l7);
/** A response's head is read, and x.down begun: decides, in x.gzip and x.vary. */
void flat_l7_compress_begin(struct flat_l7 *l7, const struct flat_l7_upstream *up);
/** With x.gzip: whether a field of the head is not sent. */
bool flat_l7_compress_drops(const struct flat_http_field *f, struct flat_span name,
			    struct flat_span value);
/** Writes what is added to the head. */
void flat_l7_compress_put(const struct flat_l7 *l7, const struct flat_http_head *h,
			  const void *text, struct flat_http1_out *out);
/** With x.gzip: as flat_l7_move_piece(). x.down is over when all of it is written. */
FLAT_MUST_CHECK int flat_l7_compress_piece(struct flat_l7 *l7, struct flat_l7_upstream *up);
/** The exchange is over. */
void flat_l7_compress_end(struct flat_l7 *l7);
/** Counters, in Prometheus's text form. */
void flat_l7_compress_metrics(const struct flat_l7_node *node, struct flat_strbuf *out);
void flat_l7_compress_fini(struct flat_l7_node *node);

#endif
