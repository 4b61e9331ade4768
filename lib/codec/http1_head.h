/* Between the files of the HTTP/1 reader. Nobody else includes this. */
#ifndef FLAT_CODEC_HTTP1_HEAD_H
#define FLAT_CODEC_HTTP1_HEAD_H

#include "codec/http1.h"

/** Takes the request target apart (h->form, path, query, authority of an absolute URL). 0, or -EBADMSG. */
FLAT_MUST_CHECK int flat_http1_target(struct flat_http_head *h, const uint8_t *bytes);

/** What the fields of a whole head mean together, and which are not delivered. 0, or the fault. */
FLAT_MUST_CHECK int flat_http1_settle(struct flat_http_head *h, const uint8_t *bytes,
				      enum flat_http1_what what);

#endif
