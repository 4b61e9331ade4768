/* What an authorizer sees of a request's body, which waits in its client's buffer meanwhile. */
#include <errno.h>

#include "offload/l7_check_grpc.h"

/* A client that waits to be told that its body is wanted. */
static void ask_for_body(struct flat_l7 *l7)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct flat_span expect = flat_head_field(&l7->in.head, l7->end.in, flat_span_of("expect"));

	if (l7->x.continued || !expect.text || l7->in.head.minor == 0 ||
	    !flat_span_equal(expect, flat_span_of("100-continue"), true))
		return;
	l7->x.continued = true;
	flat_l7_end_put(&l7->end, text, sizeof(text) - 1);
}

/*
 * The body, as far as it is in its client's buffer and the authorizer sees it. 1: enough, 0: more is to come, -EMSGSIZE:
 * it is longer than the authorizer sees, and that is not allowed; -EBADMSG.
 */
static int read_body(struct flat_l7 *l7, const struct flat_ext_authz *ext,
		     struct flat_l7_check_body *out)
{
	const struct flat_l7_end *e = &l7->end;
	struct flat_http1_body b;
	struct flat_piece piece;
	size_t at = l7->x.head_len;

	flat_http1_body_begin(&b, (enum flat_body_kind)l7->in.head.body, l7->in.head.length);
	while (!b.over) {
		ssize_t n =
		    flat_http1_body_read(&b, e->in + at, e->len - at, &l7->node->trailers, &piece);

		if (n < 0)
			return -EBADMSG;
		if (piece.kind == FLAT_PIECE_DATA) {
			size_t room = ext->body_max - out->bytes.len;

			out->partial = piece.size > room;
			flat_strbuf_add(&out->bytes, e->in + at,
					out->partial ? room : (size_t)piece.size);
		}
		if (out->bytes.failed)
			return -EBADMSG;
		if (out->partial)
			return ext->body_partial ? 1 : -EMSGSIZE;
		if (n == 0 && !b.over)
			break;
		at += (size_t)n;
	}
	if (b.over)
		return 1;
	/* What does not fit the buffer is longer, whatever it is. */
	if (!flat_l7_end_is_full(e))
		return 0;
	out->partial = true;
	return ext->body_partial ? 1 : -EMSGSIZE;
}

enum flat_l7_verb flat_l7_check_gather(struct flat_l7 *l7, const struct flat_ext_authz *ext,
				       struct flat_l7_check_body *body, struct flat_l7_answer *a)
{
	switch (read_body(l7, ext, body)) {
	case 1:
		return FLAT_L7_GO;
	case 0:
		ask_for_body(l7);
		if (flat_now_us() - l7->x.start_us < FLAT_L7_HEAD_US)
			return FLAT_L7_LATER;
		flat_l7_text(a, 408, FLAT_VERDICT_MALFORMED, NULL);
		return FLAT_L7_ANSWER;
	case -EMSGSIZE:
		flat_l7_text(a, 413, FLAT_VERDICT_EXTERNAL, "Payload Too Large");
		return FLAT_L7_ANSWER;
	default:
		flat_l7_text(a, 400, FLAT_VERDICT_MALFORMED, NULL);
		return FLAT_L7_ANSWER;
	}
}
