#include "codec/path.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>

static int hex_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986, 2.3. */
static bool unreserved(unsigned c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* What a URL has only as %XX (RFC 3986, 3.3) and is often sent as it is: the same path, and so one form. */
static bool escaped(unsigned char c)
{
	return c == '"' || c == '<' || c == '>' || c == '^' || c == '`' || c == '{' || c == '|' ||
	       c == '}';
}

/* Nothing to do, and nothing to look at closer. */
static bool plain(struct flat_span path)
{
	if (path.len == 0 || path.text[0] != '/')
		return false;
	for (size_t i = 0; i < path.len; i++) {
		unsigned char c = (unsigned char)path.text[i];
		if (c <= ' ' || c >= 0x7f || c == '%' || c == '\\' || c == ';' || c == '#' ||
		    c == '?' || escaped(c))
			return false;
		if (c == '/' && i + 1 < path.len &&
		    (path.text[i + 1] == '/' || path.text[i + 1] == '.'))
			return false;
	}
	return true;
}

/* The byte that stands at text[*i], decoded if it is %XX; moves *i past it. -EBADMSG: refused. */
static int next_byte(struct flat_span path, size_t *i, bool *encoded)
{
	unsigned char c = (unsigned char)path.text[(*i)++];
	int high;
	int low;

	*encoded = c == '%';
	if (!*encoded)
		return c <= ' ' || c >= 0x7f || c == '\\' || c == ';' || c == '#' || c == '?'
			   ? -EBADMSG
			   : c;
	if (path.len - *i < 2)
		return -EBADMSG;
	high = hex_of(path.text[*i]);
	low = hex_of(path.text[*i + 1]);
	if (high < 0 || low < 0)
		return -EBADMSG;
	*i += 2;
	c = (unsigned char)(high << 4 | low);
	return c < ' ' || c == 0x7f || c == '/' || c == '\\' ? -EBADMSG : c;
}

/*
 * Overlong forms of UTF-8: a second spelling of `/` and `.` for decoders that do not look. What is no UTF-8 at all
 * (Latin-1 of old) has one spelling only, and stays.
 */
static bool overlong(int before, int c)
{
	return c == 0xc0 || c == 0xc1 || (before == 0xe0 && c >= 0x80 && c < 0xa0) ||
	       (before == 0xf0 && c >= 0x80 && c < 0x90);
}

/* Takes the last segment of buf[0..len) off: "/a/b/" -> "/a/". -EBADMSG above the root. */
static ssize_t pop(const char *buf, size_t len)
{
	if (len <= 1)
		return -EBADMSG;
	len--;
	while (len > 0 && buf[len - 1] != '/')
		len--;
	return (ssize_t)len;
}

/* At the end of a segment that begins at `from`: resolves . and .. The new length. */
static ssize_t close_segment(const char *buf, size_t from, size_t len)
{
	if (len - from == 1 && buf[from] == '.')
		return (ssize_t)from;
	if (len - from == 2 && buf[from] == '.' && buf[from + 1] == '.')
		return pop(buf, from);
	return (ssize_t)len;
}

/* Writes a byte that next_byte() gave, as it is or as %XX. The new length. */
static size_t put(char *buf, size_t len, int c, bool as_code)
{
	static const char digits[] = "0123456789ABCDEF";

	if (!as_code) {
		buf[len] = (char)c;
		return len + 1;
	}
	buf[len] = '%';
	buf[len + 1] = digits[c >> 4];
	buf[len + 2] = digits[c & 15];
	return len + 3;
}

static ssize_t rebuild(struct flat_span path, char *buf)
{
	size_t segment = 1;
	size_t len = 1;
	size_t i = 1;
	int before = 0;
	ssize_t n;

	buf[0] = '/';
	while (i < path.len) {
		bool encoded;
		int c = next_byte(path, &i, &encoded);
		if (c < 0 || overlong(before, c))
			return -EBADMSG;
		before = c;
		if (c == '/') {
			n = close_segment(buf, segment, len);
			if (n < 0)
				return n;
			len = (size_t)n;
			if (buf[len - 1] != '/')
				buf[len++] = '/';
			segment = len;
		} else {
			len = put(buf, len, c,
				  encoded ? !unreserved((unsigned)c) : escaped((unsigned char)c));
		}
	}
	return close_segment(buf, segment, len);
}

/* What its form takes at most. */
static size_t longest(struct flat_span path)
{
	size_t n = path.len + 1;

	for (size_t i = 0; i < path.len; i++)
		n += escaped((unsigned char)path.text[i]) ? 2 : 0;
	return n;
}

int flat_path_canonical(struct flat_span path, char *buf, size_t size, struct flat_span *out)
{
	static const char root[] = "/";
	ssize_t n;

	*out = path;
	if (plain(path))
		return 0;
	if (path.len == 0) {
		*out = (struct flat_span){root, 1};
		return 0;
	}
	if (path.len == 1 && path.text[0] == '*')
		return 0;
	if (path.text[0] != '/')
		return -EBADMSG;
	if (longest(path) > size)
		return -ENOBUFS;
	n = rebuild(path, buf);
	if (n < 0)
		return (int)n;
	*out = (struct flat_span){buf, (size_t)n};
	return 0;
}

/* Whether text[i] begins %2F or %5C. */
static bool is_slash(struct flat_span path, size_t i)
{
	int high;
	int low;

	if (path.text[i] != '%' || path.len - i < 3)
		return false;
	high = hex_of(path.text[i + 1]);
	low = hex_of(path.text[i + 2]);
	return (high == 2 && low == 15) || (high == 5 && low == 12);
}

struct flat_span flat_path_decode_slashes(struct flat_span path, char *buf)
{
	bool any = false;
	size_t n = 0;

	for (size_t i = 0; i < path.len; i++) {
		bool slash = is_slash(path, i);

		any |= slash;
		buf[n++] = (char)(slash ? '/' : path.text[i]);
		i += slash ? 2 : 0;
	}
	return any ? (struct flat_span){buf, n} : path;
}

/* Whether `text` has a segment that canonical paths have not: an empty one, "." or "..". */
static bool has_odd_segment(const char *text, bool ends)
{
	for (const char *p = strchr(text, '/'); p; p = strchr(p + 1, '/')) {
		size_t dots = strspn(p + 1, ".");

		if (p[1] == '/' || (dots > 0 && dots <= 2 &&
				    (p[1 + dots] == '/' || (ends && p[1 + dots] == '\0'))))
			return true;
	}
	return false;
}

bool flat_path_spell(const char *piece, bool ends, char *buf)
{
	struct flat_span span = {piece, strlen(piece)};
	bool good = true;
	size_t len = 0;
	size_t i = 0;
	int before = 0;

	while (i < span.len) {
		size_t from = i;
		bool encoded;
		int c = next_byte(span, &i, &encoded);

		good &= !overlong(before, c);
		before = c;
		if (c < 0) {
			/* As it is written: what follows is spelled all the same. */
			good = false;
			i = from + 1;
			buf[len++] = piece[from];
		} else {
			len = put(buf, len, c,
				  encoded ? !unreserved((unsigned)c)
					  : c != '{' && c != '}' && escaped((unsigned char)c));
		}
	}
	buf[len] = '\0';
	return good && !has_odd_segment(buf, ends);
}
