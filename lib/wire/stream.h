/* What link.c and stream.c share. */
#ifndef FLAT_WIRE_STREAM_H
#define FLAT_WIRE_STREAM_H

#include "wire/link.h"

/** Sends a frame, unless the link has failed. */
void flat_wire_link_put(struct flat_wire_link *l, const struct flat_frame *f);

/** A frame of a stream. 0, or -EPROTO: the link is over. */
FLAT_MUST_CHECK int flat_wire_stream_frame(struct flat_wire_link *l, const struct flat_frame *f);
/** One frame of a ready stream, which then waits for its next turn, or is ready no more. */
void flat_wire_stream_send(struct flat_wire_stream *s);
/** Tells its owner and frees it. */
void flat_wire_stream_end(struct flat_wire_stream *s, int err);

#endif
