/* Heads and chunks in their one normal form. */

#include "codec/http1.h"

void flat_http1_put(struct flat_http1_out *out, const void *text, size_t len)
{
	if (out->full || len > out->size - out->len) {
		out->full = true;
		return;
	}
	if (len == 0)
		return;
	memcpy(out->bytes + out->len, text, len);
	out->len += len;
}

void flat_http1_puts(struct flat_http1_out *out, const char *text)
{
	flat_http1_put(out, text, strlen(text));
}

void flat_http1_put_field(struct flat_http1_out *out, struct flat_span name, struct flat_span value)
{
	size_t need = name.len + value.len + 4;
	uint8_t *to = out->bytes + out->len;

	if (out->full || need > out->size - out->len) {
		out->full = true;
		return;
	}
	memcpy(to, name.text, name.len);
	to += name.len;
	*to++ = ':';
	*to++ = ' ';
	memcpy(to, value.text, value.len);
	to += value.len;
	*to++ = '\r';
	*to = '\n';
	out->len += need;
}

void flat_http1_put_request_line(struct flat_http1_out *out, struct flat_span method,
				 struct flat_span target, uint8_t minor)
{
	flat_http1_put(out, method.text, method.len);
	flat_http1_put(out, " ", 1);
	flat_http1_put(out, target.text, target.len);
	flat_http1_put(out, minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n", 11);
}

void flat_http1_put_status_line(struct flat_http1_out *out, unsigned status,
				struct flat_span reason)
{
	char line[] = "HTTP/1.1 000 ";

	line[9] = (char)('0' + status / 100 % 10);
	line[10] = (char)('0' + status / 10 % 10);
	line[11] = (char)('0' + status % 10);
	flat_http1_put(out, line, 13);
	if (!reason.text)
		reason = flat_span_of(flat_http1_reason(status));
	flat_http1_put(out, reason.text, reason.len);
	flat_http1_put(out, "\r\n", 2);
}

size_t flat_http1_chunk_line(uint8_t *to, uint64_t size)
{
	size_t digits = 1;

	while (digits < 16 && size >> (4 * digits) != 0)
		digits++;
	for (size_t i = 0; i < digits; i++)
		to[i] = (uint8_t) "0123456789abcdef"[size >> (4 * (digits - 1 - i)) & 15];
	to[digits] = '\r';
	to[digits + 1] = '\n';
	return digits + 2;
}

void flat_http1_put_chunk(struct flat_http1_out *out, uint64_t size)
{
	uint8_t line[FLAT_HTTP1_CHUNK_LINE];

	flat_http1_put(out, line, flat_http1_chunk_line(line, size));
}

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
    {511, "Network Authentication Required"},
};

const char *flat_http1_reason(unsigned status)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(reasons); i++) {
		if (reasons[i].status == status)
			return reasons[i].reason;
	}
	return "Unknown";
}
