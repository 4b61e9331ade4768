/* Which protocol a connection's first bytes are of. */
#include <string.h>

#include "codec/http.h"
#include "codec/http2.h"

/*
 * The methods that are taken for a request's, those of RFC 9110, WebDAV and UPnP: as in Envoy's inspector. With any token for a method, a
 * client of another protocol that says one word and waits for an answer would wait for ever.
 */
static const char *const methods[] = {
    "ACL",	 "BIND",  "CHECKOUT", "CONNECT",  "COPY",   "DELETE",	   "GET",
    "HEAD",	 "LINK",  "LOCK",     "M-SEARCH", "MERGE",  "MKACTIVITY",  "MKCALENDAR",
    "MKCOL",	 "MOVE",  "NOTIFY",   "OPTIONS",  "PATCH",  "POST",	   "PROPFIND",
    "PROPPATCH", "PURGE", "PUT",      "QUERY",	  "REBIND", "REPORT",	   "SEARCH",
    "SUBSCRIBE", "TRACE", "UNBIND",   "UNLINK",	  "UNLOCK", "UNSUBSCRIBE",
};

/* The length of the method that the bytes begin with, before a blank; 0: none. *more: they are the beginning of one. */
static size_t method_of(const uint8_t *bytes, size_t len, bool *more)
{
	*more = false;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(methods); i++) {
		size_t n = strlen(methods[i]);

		if (memcmp(bytes, methods[i], flat_min_size(n, len)) != 0)
			continue;
		if (len <= n)
			*more = true;
		else if (bytes[n] == ' ')
			return n;
	}
	return 0;
}

/* Whether the line that ends before `len` is METHOD SP TARGET SP HTTP/1.x, where `at` is behind the method. */
static bool ends_with_version(const uint8_t *bytes, size_t at, size_t len)
{
	static const char version[] = " HTTP/1.";
	size_t n = sizeof(version) - 1;

	if (len > 0 && bytes[len - 1] == '\r')
		len--;
	return len > at + n + 2 && memcmp(bytes + len - n - 1, version, n) == 0 &&
	       (bytes[len - 1] == '0' || bytes[len - 1] == '1');
}

enum flat_http_guess flat_http_guess(const uint8_t *bytes, size_t len)
{
	size_t preface = flat_min_size(len, FLAT_HTTP2_PREFACE_BYTES);
	bool more;
	size_t at;

	if (memcmp(bytes, FLAT_HTTP2_PREFACE, preface) == 0)
		return preface < FLAT_HTTP2_PREFACE_BYTES ? FLAT_HTTP_GUESS_MORE
							  : FLAT_HTTP_GUESS_2;
	at = method_of(bytes, len, &more);
	if (at == 0)
		return more ? FLAT_HTTP_GUESS_MORE : FLAT_HTTP_GUESS_OTHER;
	for (size_t i = at + 1; i < len; i++) {
		if (bytes[i] == '\n')
			return ends_with_version(bytes, at, i) ? FLAT_HTTP_GUESS_1
							       : FLAT_HTTP_GUESS_OTHER;
		if (bytes[i] < ' ' && bytes[i] != '\r')
			return FLAT_HTTP_GUESS_OTHER;
	}
	return len < FLAT_HTTP_GUESS_BYTES ? FLAT_HTTP_GUESS_MORE : FLAT_HTTP_GUESS_OTHER;
}
