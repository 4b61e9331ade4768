/* Answers in the server's place. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "codec/grpc.h"
#include "offload/l7_limit.h"

/* RFC 9110, 6.6.1. Not strftime(): day and month are English whatever the locale. */
static void put_date(struct flat_http1_out *out)
{
	static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = time(NULL);
	struct tm tm;
	char text[64];

	if (!gmtime_r(&now, &tm))
		return;
	snprintf(text, sizeof(text), "date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
		 days[tm.tm_wday % 7], tm.tm_mday, months[tm.tm_mon % 12], tm.tm_year + 1900,
		 tm.tm_hour, tm.tm_min, tm.tm_sec);
	flat_http1_puts(out, text);
}

/* Whether the request's body, if it has one, is here whole; it is then used up. */
static bool swallow_body(struct flat_l7 *l7)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_end *e = &l7->end;
	struct flat_piece piece = {.kind = FLAT_PIECE_MORE};
	ssize_t n = 1;

	if (x->head_len == 0)
		return false;
	while (n > 0) {
		n = flat_http1_body_read(&x->up, e->in + e->at, e->len - e->at, &x->trailers,
					 &piece);
		if (n > 0)
			e->at += (size_t)n;
	}
	return n == 0 && piece.kind == FLAT_PIECE_END;
}

/* A field of our own, unless the route takes it away or sets another. */
static void put_line(const struct flat_l7_ops *ops, const char *name, const char *line,
		     struct flat_http1_out *out)
{
	if (!flat_l7_ops_drop(ops, flat_span_of(name)))
		flat_http1_puts(out, line);
}

/* HTTP/1 has a length for it, and says what becomes of the connection. */
static void put_answer(const struct flat_l7 *l7, const struct flat_l7_answer *a,
		       struct flat_http1_out *out)
{
	bool none = a->status == 204 || a->status == 304;
	struct flat_l7_ops ops = {.one_list = false};
	char line[64];

	if (a->of_route)
		ops = flat_l7_ops_of(&l7->x, true);
	flat_http1_put_status_line(out, a->status, (struct flat_span){NULL, 0});
	if (!none) {
		snprintf(line, sizeof(line), "content-length: %zu\r\n", a->len);
		flat_http1_puts(out, line);
	}
	if (a->type) {
		snprintf(line, sizeof(line), "content-type: %s\r\n", a->type);
		put_line(&ops, "content-type", line, out);
	}
	/* Of a route it is the target of a redirect. */
	put_line(&ops, "location", a->fields, out);
	flat_l7_ops_put(l7, &ops, a->status, out);
	if (a->verdict == FLAT_VERDICT_LIMITED && l7->x.limit.max)
		flat_l7_limit_put(&l7->x, out);
	put_date(out);
	if (l7->x.close)
		flat_http1_puts(out, "connection: close\r\n");
	else if (l7->in.head.says_keep_alive)
		flat_http1_puts(out, "connection: keep-alive\r\n");
	flat_http1_put(out, "\r\n", 2);
	if (!none && (l7->x.head_len == 0 || l7->in.head.method_id != FLAT_METHOD_HEAD))
		flat_http1_put(out, a->body, a->len);
}

/* For a gRPC call: Trailers-Only, which is one head with the status in it. */
static void put_grpc(struct flat_l7 *l7, const struct flat_l7_answer *a, struct flat_http1_out *out)
{
	struct flat_l7_exchange *x = &l7->x;
	char message[512];
	char line[64];

	x->grpc_status = (int16_t)(a->grpc ? a->grpc - 1 : (int)flat_grpc_of_http(a->status));
	flat_grpc_message((struct flat_span){a->body, a->body ? a->len : 0}, message,
			  sizeof(message));
	flat_http1_puts(out, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n");
	snprintf(line, sizeof(line), "grpc-status: %d\r\n", x->grpc_status);
	flat_http1_puts(out, line);
	if (message[0])
		flat_http1_put_field(out, flat_span_of("grpc-message"), flat_span_of(message));
	flat_http1_puts(out, a->fields);
	put_date(out);
	flat_http1_puts(out, "content-length: 0\r\n\r\n");
}

void flat_l7_reply(struct flat_l7 *l7, const struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_end *e = &l7->end;
	struct flat_http1_out out = {.size = flat_l7_end_room(e)};
	/* A redirection is HTTP's word, and an answer of the configuration's the caller's own business. */
	bool grpc = x->grpc && (a->status < 300 || a->status >= 400);
	bool bodiless = grpc || (x->head_len > 0 && l7->in.head.method_id == FLAT_METHOD_HEAD);

	/* Room for it was kept when the request was begun. */
	out.bytes = e->out + e->out_len;
	if (x->upstream)
		flat_l7_upstream_close(x->upstream, true);
	/* What could not be read one way only is not read on. */
	if (!swallow_body(l7) || a->verdict == FLAT_VERDICT_MALFORMED)
		x->close = true;
	if (grpc)
		put_grpc(l7, a, &out);
	else
		put_answer(l7, a, &out);
	e->out_len += out.full ? 0 : out.len;
	x->record.kind = FLAT_RECORD_REFUSAL;
	x->record.status = grpc ? 200 : a->status;
	x->record.verdict = (uint8_t)a->verdict;
	x->down_bytes = bodiless ? 0 : a->len;
	x->down_head = (uint32_t)(out.len - flat_min_size(out.len, x->down_bytes));
	x->up_done = true;
	x->close |= out.full;
	flat_l7_finish(l7);
}

void flat_l7_reply_status(struct flat_l7 *l7, unsigned status, enum flat_record_verdict verdict,
			  const char *text)
{
	struct flat_l7_answer a = {.status = (uint16_t)status, .verdict = verdict};

	if (text) {
		a.body = text;
		a.len = strlen(text);
		a.type = "text/plain";
	}
	flat_l7_reply(l7, &a);
}
