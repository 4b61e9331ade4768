/* Lines of a head: where each ends, and what it is made of. What the fields mean: http1_head.c. */
#include "codec/http1.h"

#include <errno.h>

#include "codec/http1_head.h"
#include "codec/http1_scan.h"

static int fail(struct flat_http1 *p, enum flat_http1_fault fault)
{
	p->fault = (uint8_t)fault;
	return -EBADMSG;
}

void flat_http1_begin(struct flat_http1 *p, enum flat_http1_what what)
{
	/* The fields are written before they are read: clearing 1 KiB per message would be for nothing. */
	memset(p, 0, offsetof(struct flat_http1, head.fields));
	p->what = (uint8_t)what;
	p->in_fields = what == FLAT_HTTP1_TRAILERS;
	p->head.response = what == FLAT_HTTP1_RESPONSE;
}

/* "HTTP/1.1" at `text`: its minor version, or a fault, negated. */
static int read_version(const uint8_t *text, size_t len)
{
	if (len != 8 || memcmp(text, "HTTP/", 5) != 0)
		return -FLAT_HTTP1_START_LINE;
	if (memcmp(text, "HTTP/1.", 7) != 0 || (text[7] != '0' && text[7] != '1'))
		return -FLAT_HTTP1_VERSION;
	return text[7] - '0';
}

static int read_request_line(struct flat_http1 *p, const uint8_t *bytes, size_t end)
{
	struct flat_http_head *h = &p->head;
	size_t at = p->line;
	size_t target;
	int minor;

	h->start = (uint16_t)at;
	/*
	 * Methods know their case, and all that are registered have capitals: some servers take "get" for GET, which rules about GET do
	 * not.
	 */
	while (at < end && flat_is_token(bytes[at]) && (bytes[at] < 'a' || bytes[at] > 'z'))
		at++;
	if (at == p->line || at == end || bytes[at] != ' ')
		return fail(p, FLAT_HTTP1_START_LINE);
	h->method_len = (uint16_t)(at - p->line);
	h->method_id = (uint8_t)flat_http_method_of(flat_head_span(bytes, p->line, h->method_len));
	target = ++at;
	/* Visible ASCII only: what else a URL holds is written with percent signs. */
	while (at < end && bytes[at] > ' ' && bytes[at] < 0x7f)
		at++;
	if (at == target || at == end || bytes[at] != ' ')
		return fail(p, FLAT_HTTP1_START_LINE);
	h->target = (uint16_t)target;
	h->target_len = (uint16_t)(at - target);
	minor = read_version(bytes + at + 1, end - at - 1);
	if (minor < 0)
		return fail(p, (enum flat_http1_fault)(-minor));
	h->minor = (uint8_t)minor;
	p->in_fields = true;
	return flat_http1_target(h, bytes) == 0 ? 0 : fail(p, FLAT_HTTP1_TARGET);
}

static int read_status_line(struct flat_http1 *p, const uint8_t *bytes, size_t end)
{
	struct flat_http_head *h = &p->head;
	const uint8_t *line = bytes + p->line;
	size_t len = end - p->line;
	unsigned status = 0;
	int minor;

	h->start = (uint16_t)p->line;
	if (len < 12 || line[8] != ' ')
		return fail(p, FLAT_HTTP1_START_LINE);
	minor = read_version(line, 8);
	if (minor < 0)
		return fail(p, (enum flat_http1_fault)(-minor));
	h->minor = (uint8_t)minor;
	for (size_t i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return fail(p, FLAT_HTTP1_START_LINE);
		status = status * 10 + (unsigned)(line[i] - '0');
	}
	/* RFC 9112, 4: the blank stands even before an empty phrase; servers leave it out, harmlessly. */
	if (status < 100 || status > 599 || (len > 12 && line[12] != ' '))
		return fail(p, FLAT_HTTP1_START_LINE);
	h->status = (uint16_t)status;
	h->reason = (uint16_t)(p->line + (len > 12 ? 13 : 12));
	h->reason_len = (uint16_t)(end - h->reason);
	p->in_fields = true;
	return 0;
}

/*
 * Whether a name is one that frames, routes or authenticates, with underscores in place of dashes: servers that hand fields over as
 * variables (CGI, WSGI) cannot tell the two apart.
 */
static bool looks_like_another(const char *name, size_t len)
{
	char dashed[24];

	if (len > sizeof(dashed) || !memchr(name, '_', len))
		return false;
	for (size_t i = 0; i < len; i++)
		dashed[i] = (char)(name[i] == '_' ? '-' : name[i]);
	return flat_http_name_of(dashed, len) != FLAT_HTTP_OTHER;
}

static int read_field(struct flat_http1 *p, const uint8_t *bytes, size_t end)
{
	struct flat_http_head *h = &p->head;
	struct flat_http_field *f;
	size_t at = p->line;
	size_t last = end;

	if (bytes[at] == ' ' || bytes[at] == '\t')
		return fail(p, FLAT_HTTP1_FOLD);
	while (at < end && flat_is_token(bytes[at]))
		at++;
	if (at == p->line || at == end || bytes[at] != ':')
		return fail(p, FLAT_HTTP1_NAME);
	if (!h->response && looks_like_another((const char *)bytes + p->line, at - p->line))
		return fail(p, FLAT_HTTP1_NAME);
	if (h->n_fields == FLAT_HTTP_FIELDS_MAX)
		return fail(p, FLAT_HTTP1_TOO_MANY);
	f = &h->fields[h->n_fields++];
	f->name = (uint16_t)p->line;
	f->name_len = (uint16_t)(at - p->line);
	f->id = (uint8_t)flat_http_name_of((const char *)bytes + p->line, f->name_len);
	f->hidden = 0;
	at++;
	while (at < end && (bytes[at] == ' ' || bytes[at] == '\t'))
		at++;
	while (last > at && (bytes[last - 1] == ' ' || bytes[last - 1] == '\t'))
		last--;
	f->value = (uint16_t)at;
	f->value_len = (uint16_t)(last - at);
	return 0;
}

/* The line from p->line to `end`. 1 when it was the last. */
static int read_line(struct flat_http1 *p, const uint8_t *bytes, size_t end)
{
	if (end == p->line) {
		if (p->in_fields)
			return 1;
		/* RFC 9112, 2.2: one empty line before a request is forgiven (after a POST of old browsers). */
		return p->what == FLAT_HTTP1_REQUEST && p->line == 0
			   ? 0
			   : fail(p, FLAT_HTTP1_START_LINE);
	}
	if (p->in_fields)
		return read_field(p, bytes, end);
	return p->what == FLAT_HTTP1_REQUEST ? read_request_line(p, bytes, end)
					     : read_status_line(p, bytes, end);
}

int flat_http1_read(struct flat_http1 *p, const uint8_t *bytes, size_t len)
{
	size_t max =
	    p->what == FLAT_HTTP1_TRAILERS ? FLAT_HTTP_TRAILER_BYTES_MAX : FLAT_HTTP_HEAD_BYTES_MAX;
	size_t limit = flat_min_size(len, max);

	if (p->fault)
		return -EBADMSG;
	/* Fewer than last time: nothing new. */
	if (limit < p->scan)
		return 0;
	for (;;) {
		size_t at = flat_find_control(bytes, p->scan, limit);
		int ret;

		p->scan = (uint32_t)at;
		if (at < limit && bytes[at] != '\r')
			return fail(p, FLAT_HTTP1_CONTROL);
		if (at + 1 >= limit)
			return limit == max ? fail(p, FLAT_HTTP1_TOO_LARGE) : 0;
		if (bytes[at + 1] != '\n')
			return fail(p, FLAT_HTTP1_CONTROL);
		ret = read_line(p, bytes, at);
		if (ret < 0)
			return ret;
		p->line = p->scan = (uint32_t)at + 2;
		if (ret == 0)
			continue;
		p->head.bytes = p->scan;
		ret = flat_http1_settle(&p->head, bytes, (enum flat_http1_what)p->what);
		return ret == 0 ? (int)p->head.bytes : fail(p, (enum flat_http1_fault)ret);
	}
}

/* Only those fields that there are. */
static void copy(struct flat_http1 *to, const struct flat_http1 *from)
{
	memcpy(to, from,
	       offsetof(struct flat_http1, head.fields) +
		   from->head.n_fields * sizeof(from->head.fields[0]));
}

int flat_http1_read_known(struct flat_http1 *p, struct flat_http1_known *known,
			  const uint8_t *bytes, size_t len)
{
	int n;

	if (known && known->len > 0 && p->scan == 0 && p->what == known->p.what &&
	    len >= known->len && memcmp(bytes, known->text, known->len) == 0) {
		copy(p, &known->p);
		return (int)known->len;
	}
	n = flat_http1_read(p, bytes, len);
	if (known && n > 0 && (size_t)n <= sizeof(known->text)) {
		known->len = (uint32_t)n;
		copy(&known->p, p);
		memcpy(known->text, bytes, (size_t)n);
	}
	return n;
}

void flat_http1_record(const struct flat_http1 *p, struct flat_record *record)
{
	record->kind = p->what == FLAT_HTTP1_REQUEST	? FLAT_RECORD_REQUEST
		       : p->what == FLAT_HTTP1_RESPONSE ? FLAT_RECORD_RESPONSE
							: FLAT_RECORD_TRAILERS;
	record->codec = FLAT_CODEC_HTTP1;
	record->status = p->head.status;
	record->n_fields = (uint16_t)p->head.n_fields;
	record->head_bytes = p->head.bytes;
	record->payload_bytes = 0;
	record->flags =
	    p->what == FLAT_HTTP1_TRAILERS || p->head.body == FLAT_BODY_NONE ? FLAT_RECORD_END : 0;
}

bool flat_http1_fault_is_size(enum flat_http1_fault fault)
{
	return fault == FLAT_HTTP1_TOO_LARGE || fault == FLAT_HTTP1_TOO_MANY;
}

const char *flat_http1_fault_text(enum flat_http1_fault fault)
{
	static const char *const text[FLAT_HTTP1_FAULTS] = {
	    [FLAT_HTTP1_FINE] = "nothing",
	    [FLAT_HTTP1_CONTROL] = "control character",
	    [FLAT_HTTP1_START_LINE] = "start line",
	    [FLAT_HTTP1_VERSION] = "version",
	    [FLAT_HTTP1_TARGET] = "request target",
	    [FLAT_HTTP1_FOLD] = "folded field",
	    [FLAT_HTTP1_NAME] = "field name",
	    [FLAT_HTTP1_HOST] = "host",
	    [FLAT_HTTP1_LENGTH] = "content length",
	    [FLAT_HTTP1_ENCODING] = "transfer encoding",
	    [FLAT_HTTP1_CONNECTION] = "connection options",
	    [FLAT_HTTP1_CHUNK] = "chunk",
	    [FLAT_HTTP1_TRAILER] = "trailer",
	    [FLAT_HTTP1_TOO_LARGE] = "too many bytes",
	    [FLAT_HTTP1_TOO_MANY] = "too many fields",
	};

	return (unsigned)fault < FLAT_HTTP1_FAULTS ? text[fault] : "?";
}
