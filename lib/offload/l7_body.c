/* Bodies, piece by piece, from one end to another. */
#include <errno.h>

#include "offload/l7_engine.h"

void flat_l7_put_piece(struct flat_l7_end *to, const struct flat_piece *piece, const uint8_t *bytes,
		       const struct flat_http1 *trailers)
{
	struct flat_http1_out out = {.size = flat_l7_end_room(to)};
	const struct flat_http_head *h = trailers ? &trailers->head : NULL;

	if (to->bare && piece->kind != FLAT_PIECE_DATA)
		return;
	out.bytes = to->out + to->out_len;
	switch (piece->kind) {
	case FLAT_PIECE_DATA:
		flat_l7_end_put(to, bytes, (size_t)piece->size);
		return;
	case FLAT_PIECE_CHUNK:
		flat_http1_put_chunk(&out, piece->size);
		break;
	case FLAT_PIECE_CHUNK_END:
		flat_http1_put(&out, "\r\n", 2);
		break;
	case FLAT_PIECE_LAST:
		flat_http1_put_chunk(&out, 0);
		for (uint32_t i = 0; h && i < h->n_fields; i++) {
			const struct flat_http_field *f = &h->fields[i];

			if (!f->hidden)
				flat_http1_put_field(&out,
						     flat_head_span(bytes, f->name, f->name_len),
						     flat_head_span(bytes, f->value, f->value_len));
		}
		flat_http1_put(&out, "\r\n", 2);
		break;
	default:
		return;
	}
	to->out_len += out.len;
}

int flat_l7_move_piece(struct flat_l7 *l7, struct flat_l7_end *from, struct flat_l7_end *to,
		       struct flat_http1_body *b, uint64_t *bytes, struct flat_grpc_frames *frames)
{
	struct flat_http1 *trailers = &l7->x.trailers;
	struct flat_piece piece;
	size_t room = flat_l7_end_room(to);
	ssize_t n;

	/* Trailers and lines are never more than that. */
	if (room < FLAT_L7_ROOM_BYTES)
		return 0;
	n = flat_http1_body_read(b, from->in + from->at,
				 flat_min_size(from->len - from->at, room - FLAT_L7_ROOM_BYTES / 2),
				 trailers, &piece);
	if (n < 0)
		return -EBADMSG;
	if (piece.kind == FLAT_PIECE_LAST && from == &l7->end)
		flat_l7_trailers_request(l7, from->in + from->at);
	else if (piece.kind == FLAT_PIECE_LAST)
		flat_l7_trailers_response(l7, from->in + from->at);
	flat_l7_put_piece(to, &piece, from->in + from->at, trailers);
	if (piece.kind == FLAT_PIECE_DATA)
		*bytes += piece.size;
	if (piece.kind == FLAT_PIECE_DATA && frames)
		flat_grpc_frames_feed(frames, from->in + from->at, (size_t)piece.size);
	from->at += (size_t)n;
	return n > 0;
}
