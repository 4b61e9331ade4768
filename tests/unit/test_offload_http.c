#include <criterion/criterion.h>
#include <string.h>

#include "offload/http.h"

static int ask(const char *text, char path[FLAT_HTTP_PATH_MAX], int *head)
{
	return flat_http_request(text, strlen(text), 4096, path, head);
}

static int status(const char *text)
{
	char path[FLAT_HTTP_PATH_MAX];
	int head;
	return ask(text, path, &head);
}

Test(http, reads_what_prometheus_sends)
{
	char path[FLAT_HTTP_PATH_MAX];
	int head = 1;
	cr_assert_eq(
	    ask("GET /metrics?x=1 HTTP/1.1\r\nHost: 127.0.0.1:15020\r\nUser-Agent: "
		"Prometheus/2.42\r\nAccept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n",
		path, &head),
	    200);
	cr_assert_str_eq(path, "/metrics");
	cr_assert_eq(head, 0);
	cr_assert_eq(ask("HEAD /healthz HTTP/1.0\r\n\r\n", path, &head), 200);
	cr_assert_str_eq(path, "/healthz");
	cr_assert_eq(head, 1);
}

Test(http, waits_at_every_byte_before_the_end)
{
	static const char text[] = "GET /metrics HTTP/1.1\r\nHost: a\r\nX: \t b\r\n\r\n";
	char path[FLAT_HTTP_PATH_MAX];
	int head;
	for (size_t len = 0; len < sizeof(text) - 1; len++)
		cr_assert_eq(flat_http_request(text, len, 4096, path, &head), 0, "at %zu", len);
	cr_assert_eq(flat_http_request(text, sizeof(text) - 1, 4096, path, &head), 200);
}

Test(http, refuses_what_is_no_request)
{
	static const char *const bad[] = {
	    "\r\n\r\n",
	    "GET /\r\n\r\n",
	    "GET  / HTTP/1.1\r\n\r\n",
	    "GET / HTTP/1.1 \r\n\r\n",
	    "GET metrics HTTP/1.1\r\n\r\n",
	    "GET /a\tb HTTP/1.1\r\n\r\n",
	    "G(T / HTTP/1.1\r\n\r\n",
	    "GET / HTTP/1.1\n\n",
	    "GET / http/1.1\r\n\r\n",
	    "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
	    "GET / HTTP/1.1\r\n: empty\r\n\r\n",
	    "GET / HTTP/1.1\r\nA : b\r\n\r\n",
	    "GET / HTTP/1.1\r\n folded\r\n\r\n",
	    "GET / HTTP/1.1\r\nA: b\x01\r\n\r\n",
	    "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
	    "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(status(bad[i]), 400, "case %zu gave %d", i, status(bad[i]));
}

Test(http, says_what_it_does_not_do)
{
	cr_assert_eq(status("POST /metrics HTTP/1.1\r\n\r\n"), 405);
	cr_assert_eq(status("GET / HTTP/2.0\r\n\r\n"), 505);
	cr_assert_eq(status("GET / HTTP/1.2\r\n\r\n"), 505);
}

Test(http, is_bounded)
{
	char path[FLAT_HTTP_PATH_MAX];
	char text[8192];
	int head;
	memset(text, 'a', sizeof(text));
	memcpy(text, "GET /", 5);
	cr_assert_eq(flat_http_request(text, 4095, 4096, path, &head), 0);
	cr_assert_eq(flat_http_request(text, 4096, 4096, path, &head), 431);
	memcpy(text + 5 + FLAT_HTTP_PATH_MAX, " HTTP/1.1\r\n\r\n", 14);
	cr_assert_eq(status(text), 414);
	memcpy(text + 4 + FLAT_HTTP_PATH_MAX - 1, " HTTP/1.1\r\n\r\n", 14);
	cr_assert_eq(status(text), 200);
}

Test(http, a_nul_ends_no_check)
{
	static const char text[] = "GET /metrics HTTP/1.1\r\nA: b\0c\r\n\r\n";
	char path[FLAT_HTTP_PATH_MAX];
	int head;
	cr_assert_eq(flat_http_request(text, sizeof(text) - 1, 4096, path, &head), 400);
}
