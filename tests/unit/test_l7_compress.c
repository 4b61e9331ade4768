/*
 * Responses compressed on their way: which are, by what their client takes and what they are; what their heads say; and that every one that
 * is read back is what the server sent.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <flat/socket.h>

#include "support_origin.h"
#include "support_whole.h"

static const char compressor[] =
    "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "
    "labels: {app: web}}\nspec: {selectors: [{uid: %UID%}]}\n---\n"
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"
    "metadata: {name: gzip, namespace: shop}\nspec:\n  workloadSelector: {labels: {app: web}}\n"
    "  configPatches:\n  - applyTo: HTTP_FILTER\n"
    "    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: "
    "envoy.filters.network.http_connection_manager}}}}\n    patch:\n"
    "      operation: INSERT_BEFORE\n      value:\n        name: envoy.filters.http.compressor\n"
    "        typed_config:\n          \"@type\": "
    "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor\n"
    "          response_direction_config: {common_config: {min_content_length: 100}}\n"
    "          compressor_library:\n            name: text_optimized\n            typed_config:\n"
    "              \"@type\": "
    "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip\n"
    "              window_bits: 12\n";

#define LINE "the same line again and again, so that there is something to be gained\n"
#define LINES LINE LINE LINE LINE LINE LINE LINE LINE LINE LINE

/* Fields and body of what the server answers, by path. */
static const char *answer(const char *request, unsigned n)
{
	static const struct {
		const char *path, *fields, *body;
	} some[] = {
	    {"/text", "Content-Type: text/plain; charset=utf-8\r\nETag: \"1\"\r\n", LINES},
	    {"/weak", "Content-Type: text/plain\r\nETag: W/\"1\"\r\nVary: Accept-Encoding\r\n",
	     LINES},
	    {"/untyped", "", LINES},
	    {"/small", "Content-Type: text/plain\r\n", LINE},
	    {"/image", "Content-Type: image/png\r\n", LINES},
	    {"/coded", "Content-Type: text/plain\r\nContent-Encoding: br\r\n", LINES},
	    {"/fixed", "Content-Type: text/plain\r\nCache-Control: private, no-transform\r\n",
	     LINES},
	    {"/part", "Content-Type: text/plain\r\nContent-Range: bytes 0-709/900\r\n", LINES},
	};
	static char text[2048];

	(void)n;
	if (strstr(request, " /chunks "))
		return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: "
		       "chunked\r\n\r\n"
		       "5\r\nfirst\r\n6\r\nsecond\r\n0\r\nx-sum: 1\r\n\r\n";
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		if (!strstr(request, some[i].path))
			continue;
		snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n%s",
			 some[i].fields, strlen(some[i].body),
			 strncmp(request, "HEAD", 4) == 0 ? "" : some[i].body);
		return text;
	}
	return "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
}

/* The chunks that follow the head, joined in place. Bytes. */
static size_t dechunk(char *body)
{
	char *to = body;
	char *from = body;
	size_t len;

	while ((len = strtoul(from, &from, 16)) > 0) {
		memmove(to, from + 2, len);
		to += len;
		from += 2 + len + 2;
	}
	return (size_t)(to - body);
}

/* What gzip's bytes are. The caller frees it. */
static char *inflated(char *bytes, size_t len)
{
	char *out = calloc(1, 4096);
	z_stream z = {.next_in = (Bytef *)bytes,
		      .avail_in = (uInt)len,
		      .next_out = (Bytef *)out,
		      .avail_out = 4095};

	cr_assert_eq(inflateInit2(&z, 15 + 16), Z_OK);
	cr_expect_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
	cr_expect_eq(z.avail_in, 0);
	inflateEnd(&z);
	return out;
}

/* A request's response: its head in text, and the body as its client has it in the end. The caller frees that. */
static char *get(int fd, const char *path, const char *fields, char text[ORIGIN_TEXT])
{
	char request[256];
	char *body;
	size_t len;

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" HOST "%s\r\n", path, fields);
	whole_send(fd, request, strlen(request));
	len = origin_read(fd, text);
	body = strstr(text, "\r\n\r\n");
	cr_assert_not_null(body, "%s: %s", path, text);
	body += 4;
	len -= (size_t)(body - text);
	if (strcasestr(text, "\ntransfer-encoding: chunked"))
		len = dechunk(body);
	if (strstr(text, "\r\ncontent-encoding: gzip\r\n"))
		return inflated(body, len);
	return strndup(body, len);
}

Test(l7_compress, what_the_client_takes_and_what_it_is_decide)
{
	static const struct {
		const char *path, *accept, *head, *body;
	} some[] = {
	    {"/text", "gzip", "\r\ncontent-encoding: gzip\r\n", LINES},
	    {"/text", "gzip", "\r\nvary: Accept-Encoding\r\n", LINES},
	    {"/text", "br, GZIP;q=0.5", "\r\ncontent-encoding: gzip\r\n", LINES},
	    {"/text", "*", "\r\ncontent-encoding: gzip\r\n", LINES},
	    {"/text", "gzip;q=0", "!ncoding: gzip", LINES},
	    {"/text", "identity", "!ncoding: gzip", LINES},
	    {"/text", "gzip", "!ontent-Length", LINES},
	    /* A strong tag says that the bytes are the same; a weak one may stay. */
	    {"/text", "gzip", "!ETag", LINES},
	    {"/weak", "gzip", "\r\nETag: W/\"1\"\r\n", LINES},
	    {"/weak", "gzip", "\r\ncontent-encoding: gzip\r\n", LINES},
	    {"/untyped", "gzip", "\r\ncontent-encoding: gzip\r\n", LINES},
	    {"/small", "gzip", "!ncoding: gzip", LINE},
	    {"/image", "gzip", "!ncoding: gzip", LINES},
	    {"/coded", "gzip", "!ncoding: gzip", LINES},
	    {"/fixed", "gzip", "!ncoding: gzip", LINES},
	    {"/part", "gzip", "!ncoding: gzip", LINES},
	    /* Nobody knows how long it will be. */
	    {"/chunks", "gzip", "\r\ncontent-encoding: gzip\r\n", "firstsecond"},
	    {"/none", "gzip", "!ncoding: gzip", ""},
	};
	char text[ORIGIN_TEXT];
	char fields[64];
	int fd;

	origin_begin(compressor, answer);
	/* One after the other on one connection: compressors are used again. */
	fd = origin_connect();
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		snprintf(fields, sizeof(fields), "Accept-Encoding: %s\r\n", some[i].accept);
		char *body = get(fd, some[i].path, fields, text);

		origin_check_text(some[i].path, some[i].accept, text,
				  (const char *[4]){some[i].head});
		cr_expect_str_eq(body, some[i].body, "%s %s: %s", some[i].path, some[i].accept,
				 body);
		free(body);
	}
	flat_close(fd);
	origin_end();
}

Test(l7_compress, who_cannot_take_chunks_gets_it_as_it_was)
{
	static const struct origin_row rows[] = {
	    {"GET /text HTTP/1.0\r\n" HOST "Accept-Encoding: gzip\r\n\r\n",
	     {"GET /text "},
	     {"HTTP/1.1 200 ", "!ncoding: gzip", LINE}},
	    {"GET /text HTTP/1.1\r\n" HOST "\r\n",
	     {"GET /text "},
	     {"HTTP/1.1 200 ", "!ncoding: gzip", "vary: Accept-Encoding", LINE}},
	    {"HEAD /text HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\nConnection: close\r\n\r\n",
	     {"HEAD /text "},
	     {"HTTP/1.1 200 ", "!" LINE}},
	};

	origin_begin(compressor, answer);
	ORIGIN_CHECK(rows);
	origin_end();
}
