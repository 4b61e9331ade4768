/* What does not move through flatd: requests, answers and connections that stand still are ended in the time that an EnvoyFilter says. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <flat/socket.h>

#include "support_origin.h"
#include "support_whole.h"

#define TIMES(context, fields)                                                                     \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                         \
	"metadata: {name: all, namespace: shop}\nspec: {selectors: [{uid: %UID%}]}\n"              \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                          \
	"metadata: {name: web, namespace: shop}\nspec: {hosts: [web.example], http: [{retries: "   \
	"{attempts: 0}, route: [{destination: {host: web.example}}]}]}\n"                          \
	"---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                       \
	"metadata: {name: times, namespace: istio-system}\nspec: {configPatches: [{applyTo: "      \
	"NETWORK_FILTER, match: {context: " context ", listener: {filterChain: {filter: {name: "   \
	"envoy.filters.network.http_connection_manager}}}}, patch: {operation: MERGE, value: "     \
	"{typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network."           \
	"http_connection_manager.v3.HttpConnectionManager, " fields "}}}}]}\n"

#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define HALF_POST "POST /a HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nbo"

/* /none has no answer, /half a part of one. */
static const char *answer(const char *request, unsigned n)
{
	(void)n;
	if (strstr(request, " /none "))
		return NULL;
	if (strstr(request, " /half "))
		return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
	return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

/* All that comes on a connection until its end. True: that was a reset. */
static bool rest(int fd, char text[ORIGIN_TEXT])
{
	size_t len = 0;
	ssize_t n;

	while ((n = flat_recv(fd, text + len, ORIGIN_TEXT - 1 - len, 0)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return n < 0 && errno == ECONNRESET;
}

/* What comes back for bytes that are all the client sends. */
static bool send_only(const char *bytes, char text[ORIGIN_TEXT])
{
	int fd = origin_connect();
	bool reset;

	whole_send(fd, bytes, strlen(bytes));
	reset = rest(fd, text);
	flat_close(fd);
	return reset;
}

static void has(const char *text, const char *want)
{
	cr_expect_not_null(strstr(text, want), "no '%s' in:\n%s", want, text);
}

TestSuite(l7_idle, .timeout = 60);

Test(l7_idle, a_request_of_which_nothing_moves)
{
	char text[ORIGIN_TEXT];

	origin_begin(TIMES("SIDECAR_OUTBOUND", "stream_idle_timeout: 2s"), answer);
	cr_expect_not(send_only(HALF_POST, text));
	has(text, "HTTP/1.1 408 ");
	has(text, "\r\n\r\nstream timeout");
	has(origin_log("access", " 408 SI "), " 408 SI ");
	/* All of it was sent: then it is the server that is late. */
	cr_expect_not(send_only("GET /none HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", text));
	has(text, "HTTP/1.1 504 ");
	has(text, "\r\n\r\nstream timeout");
	has(origin_log("access", " 504 SI "), " 504 SI ");
	/* Of an answer that has begun the client sees that it is none. */
	cr_expect(send_only(GET("/half"), text));
	has(text, "\r\n\r\nhalf");
	has(origin_log("access", " 200 SI "), " 200 SI ");
	has(origin_ask(GET("/a")), "\r\n\r\nok");
	has(whole_ask("whyhttp shop/all GET http://web.example/"),
	    "times of its connections by EnvoyFilter istio-system/times (");
	has(whole_ask("whyhttp shop/all GET http://web.example/"),
	    "), a request of which nothing moves 2000 ms\n");
	origin_end();
}

Test(l7_idle, a_request_that_does_not_get_whole)
{
	char text[ORIGIN_TEXT];

	origin_begin(TIMES("ANY", "request_timeout: 2s"), answer);
	cr_expect_not(send_only(HALF_POST, text));
	has(text, "HTTP/1.1 408 ");
	has(text, "\r\n\r\nrequest timeout");
	/* Its head is a part of it. */
	cr_expect_not(send_only("GET /a HT", text));
	has(text, "HTTP/1.1 408 ");
	has(origin_ask(GET("/a")), "\r\n\r\nok");
	origin_end();
}

Test(l7_idle, a_head_that_does_not_get_whole)
{
	char text[ORIGIN_TEXT];

	origin_begin(TIMES("SIDECAR_OUTBOUND", "request_headers_timeout: 2s"), answer);
	cr_expect_not(send_only("GET /a HTTP/1.1\r\n" HOST, text));
	has(text, "HTTP/1.1 408 ");
	has(origin_ask(GET("/a")), "\r\n\r\nok");
	origin_end();
}

Test(l7_idle, a_connection_without_requests)
{
	char text[ORIGIN_TEXT];
	unsigned before;

	origin_begin(TIMES("SIDECAR_OUTBOUND", "common_http_protocol_options: {idle_timeout: 2s}"),
		     answer);
	before = origin_requests();
	cr_expect_not(send_only(GET("/a"), text));
	has(text, "\r\n\r\nok");
	cr_expect_eq(origin_requests(), before + 1);
	origin_end();
}

Test(l7_idle, a_stream_whose_connection_goes_on)
{
	struct origin_http2 c;

	origin_begin(TIMES("SIDECAR_OUTBOUND", "stream_idle_timeout: 2s"), answer);
	origin_http2_open(&c);
	has(origin_http2_answer(&c, origin_http2_ask(&c, GET("/a"))), "\r\n\r\nok");
	has(origin_http2_answer(&c, origin_http2_ask(&c, HALF_POST)), "HTTP/1.1 408 ");
	has(origin_http2_answer(&c, origin_http2_ask(&c, GET("/b"))), "\r\n\r\nok");
	origin_http2_close(&c);
	origin_end();
}

Test(l7_idle, times_of_other_contexts_are_not_its)
{
	int fd;

	origin_begin(TIMES("GATEWAY", "stream_idle_timeout: 0.05s"), answer);
	fd = origin_connect();
	whole_send(fd, HALF_POST, strlen(HALF_POST));
	/* Much longer than that it waits for the rest. */
	(void)flat_poll(NULL, 0, 300);
	whole_send(fd, "dy!", 3);
	char text[ORIGIN_TEXT];
	cr_assert_gt(origin_read(fd, text), 0);
	has(text, "\r\n\r\nok");
	flat_close(fd);
	origin_end();
}
