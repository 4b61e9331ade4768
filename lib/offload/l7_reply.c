/* Answers in the server's place. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "offload/l7_engine.h"

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

void flat_l7_reply(struct flat_l7 *l7, const struct flat_l7_answer *a)
{
	struct flat_l7_exchange *x = &l7->x;
	struct flat_l7_end *e = &l7->end;
	struct flat_http1_out out = {.size = flat_l7_end_room(e)};
	bool head = x->head_len > 0 && l7->in.head.method_id == FLAT_METHOD_HEAD;
	char line[64];

	/* Room for it was kept when the request was begun. */
	out.bytes = e->out + e->out_len;
	if (x->upstream)
		flat_l7_upstream_close(x->upstream, true);
	/* What could not be read one way only is not read on. */
	if (!swallow_body(l7) || a->verdict == FLAT_VERDICT_MALFORMED)
		x->close = true;
	flat_http1_put_status_line(&out, a->status, (struct flat_span){NULL, 0});
	if (a->status != 204 && a->status != 304) {
		snprintf(line, sizeof(line), "content-length: %zu\r\n", a->len);
		flat_http1_puts(&out, line);
	}
	if (a->type) {
		snprintf(line, sizeof(line), "content-type: %s\r\n", a->type);
		flat_http1_puts(&out, line);
	}
	flat_http1_puts(&out, a->fields);
	put_date(&out);
	if (x->close)
		flat_http1_puts(&out, "connection: close\r\n");
	else if (l7->in.head.says_keep_alive)
		flat_http1_puts(&out, "connection: keep-alive\r\n");
	flat_http1_put(&out, "\r\n", 2);
	if (!head && a->status != 204 && a->status != 304)
		flat_http1_put(&out, a->body, a->len);
	e->out_len += out.full ? 0 : out.len;
	x->record.kind = FLAT_RECORD_REFUSAL;
	x->record.status = a->status;
	x->record.verdict = (uint8_t)a->verdict;
	x->down_bytes = head ? 0 : a->len;
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
