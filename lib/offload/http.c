#include "offload/http.h"

#include <string.h>
#include <strings.h>

/* RFC 9110, 5.6.2: token. */
static int is_token(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
	       (ch != 0 && strchr("!#$%&'*+-.^_`|~", ch) != NULL);
}

static int is_field_byte(char ch)
{
	unsigned char c = (unsigned char)ch;
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/* One header line, without its CRLF. */
static int check_field(const char *line, size_t len)
{
	size_t name = 0;
	while (name < len && is_token(line[name]))
		name++;
	if (name == 0 || name == len || line[name] != ':')
		return 400;
	for (size_t i = name + 1; i < len; i++) {
		if (!is_field_byte(line[i]))
			return 400;
	}
	/* A body would be bytes that nobody reads. */
	if ((name == 14 && strncasecmp(line, "content-length", 14) == 0) ||
	    (name == 17 && strncasecmp(line, "transfer-encoding", 17) == 0))
		return 400;
	return 0;
}

static int take_path(const char *from, size_t len, char path[FLAT_HTTP_PATH_MAX])
{
	const char *query = memchr(from, '?', len);
	size_t n = query ? (size_t)(query - from) : len;
	if (len == 0 || from[0] != '/')
		return 400;
	for (size_t i = 0; i < len; i++) {
		if (from[i] <= 0x20 || from[i] == 0x7f)
			return 400;
	}
	if (n >= FLAT_HTTP_PATH_MAX)
		return 414;
	memcpy(path, from, n);
	path[n] = 0;
	return 0;
}

/* GET /metrics HTTP/1.1 */
static int check_line(const char *line, size_t len, char path[FLAT_HTTP_PATH_MAX], int *head)
{
	const char *a = memchr(line, ' ', len);
	const char *b = a ? memchr(a + 1, ' ', len - (size_t)(a + 1 - line)) : NULL;
	if (!a || !b || a == line)
		return 400;
	size_t method = (size_t)(a - line);
	size_t version = len - (size_t)(b + 1 - line);
	for (size_t i = 0; i < method; i++) {
		if (!is_token(line[i]))
			return 400;
	}
	if (version != 8 || memcmp(b + 1, "HTTP/", 5) != 0)
		return 400;
	if (memcmp(b + 1, "HTTP/1.0", 8) != 0 && memcmp(b + 1, "HTTP/1.1", 8) != 0)
		return 505;
	int status = take_path(a + 1, (size_t)(b - a - 1), path);
	if (status != 0)
		return status;
	*head = method == 4 && memcmp(line, "HEAD", 4) == 0;
	return *head || (method == 3 && memcmp(line, "GET", 3) == 0) ? 0 : 405;
}

int flat_http_request(const char *text, size_t len, size_t len_max, char path[FLAT_HTTP_PATH_MAX],
		      int *head)
{
	size_t at = 0;
	int first = 0;
	for (size_t line = 0;; line++) {
		const char *end = memchr(text + at, '\n', len - at);
		if (!end)
			return len >= len_max ? 431 : 0;
		size_t n = (size_t)(end - (text + at));
		if (n == 0 || text[at + n - 1] != '\r')
			return 400;
		n--;
		if (line == 0)
			first = check_line(text, n, path, head);
		else if (n == 0)
			return first ? first : 200;
		else if (check_field(text + at, n) != 0)
			return 400;
		if (line == 0 && first == 400)
			return 400;
		at = (size_t)(end - text) + 1;
	}
}

const char *flat_http_reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 414:
		return "URI Too Long";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Bad Request";
	}
}
