/* One GET of a key set, from a server that answers what the test has it say, in pieces of any size. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authn/http_get.h"
#include "authn/jwks.h"

#define OK "HTTP/1.1 200 OK\r\n"

/* Serves one connection. */
struct server {
	int listening;
	struct sockaddr_in at;
	pthread_t thread;
	const char *answer;
	size_t len;
	size_t piece; /* bytes sent at a time */
	bool at_once; /* whatever is asked, not at the end of a request */
	char asked[2048];
};

static void *serve(void *arg)
{
	struct server *s = arg;
	size_t got = 0;
	int fd = accept(s->listening, NULL, NULL);

	while (fd >= 0 && got < sizeof(s->asked) - 1 && !strstr(s->asked, "\r\n\r\n")) {
		ssize_t n = recv(fd, s->asked + got, sizeof(s->asked) - 1 - got, 0);

		if (n <= 0)
			break;
		got += (size_t)n;
		if (s->at_once)
			break;
	}
	for (size_t at = 0; at < s->len;) {
		ssize_t n =
		    send(fd, s->answer + at, flat_min_size(s->piece, s->len - at), MSG_NOSIGNAL);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	/* All that the client said is read: closing resets nothing. It has asked for the end. */
	shutdown(fd, SHUT_WR);
	while (recv(fd, s->asked + sizeof(s->asked) - 1, 1, 0) > 0)
		;
	close(fd);
	return NULL;
}

static void server_open(struct server *s)
{
	socklen_t len = sizeof(s->at);

	s->at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	s->listening = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_geq(s->listening, 0);
	cr_assert_eq(bind(s->listening, (struct sockaddr *)&s->at, len), 0);
	cr_assert_eq(listen(s->listening, 1), 0);
	cr_assert_eq(getsockname(s->listening, (struct sockaddr *)&s->at, &len), 0);
}

static struct flat_fetch fetch_of(const struct server *s, char *uri, uint32_t timeout_ms)
{
	struct flat_fetch f = {.uri = uri, .timeout_ms = timeout_ms, .addr_len = sizeof(s->at)};

	memcpy(&f.addr, &s->at, sizeof(s->at));
	return f;
}

/* What comes of the answer. The caller frees its body. */
static struct flat_fetch get(struct server *s, char *uri, uint32_t timeout_ms)
{
	server_open(s);
	struct flat_fetch f = fetch_of(s, uri, timeout_ms);

	memset(s->asked, 0, sizeof(s->asked));
	cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
	flat_http_get(&f);
	pthread_join(s->thread, NULL);
	close(s->listening);
	return f;
}

static char web[] = "http://keys.example/a?b#c";

/* --- good answers --- */

Test(http_get, a_body_is_read_however_it_is_framed_and_cut)
{
	static const char *const answers[] = {
	    OK "Content-Length: 5\r\n\r\nhello",
	    OK "Content-Length: 5\r\n\r\nhello, and more than was said",
	    OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
	    OK "\r\nhello",
	    "HTTP/1.0 200 OK\r\n\r\nhello",
	    "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" OK "Content-Length: 5\r\n\r\nhello",
	};
	static const size_t pieces[] = {1, 7, 4096};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(answers); i++) {
		for (size_t k = 0; k < FLAT_ARRAY_SIZE(pieces); k++) {
			struct server s = {
			    .answer = answers[i], .len = strlen(answers[i]), .piece = pieces[k]};
			struct flat_fetch f = get(&s, web, 60000);

			cr_assert_not_null(f.body, "answer %zu: %s", i, f.error);
			cr_expect_eq(f.len, 5);
			cr_expect_eq(memcmp(f.body, "hello", 5), 0);
			free(f.body);
		}
	}
}

Test(http_get, an_empty_body_is_one)
{
	struct server s = {.answer = OK "Content-Length: 0\r\n\r\n", .len = 38, .piece = 100};
	struct flat_fetch f = get(&s, web, 60000);

	cr_expect_not_null(f.body, "%s", f.error);
	cr_expect_eq(f.len, 0);
	free(f.body);
}

Test(http_get, the_request_names_host_and_path_without_fragment)
{
	static struct {
		char uri[64];
		const char *line, *host;
	} v[] = {
	    {"http://keys.example/a?b#c", "GET /a?b HTTP/1.1\r\n", "\r\nHost: keys.example\r\n"},
	    {"http://keys.example", "GET / HTTP/1.1\r\n", "\r\nHost: keys.example\r\n"},
	    {"http://keys.example:81?q", "GET /?q HTTP/1.1\r\n", "\r\nHost: keys.example:81\r\n"},
	    {"http://[::1]:81/#x", "GET / HTTP/1.1\r\n", "\r\nHost: [::1]:81\r\n"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct server s = {
		    .answer = OK "Content-Length: 1\r\n\r\nx", .len = 39, .piece = 99};
		struct flat_fetch f = get(&s, v[i].uri, 60000);

		cr_expect_not_null(f.body, "%s", f.error);
		cr_expect_eq(strncmp(s.asked, v[i].line, strlen(v[i].line)), 0, "%s", s.asked);
		cr_expect(strstr(s.asked, v[i].host), "%s", s.asked);
		free(f.body);
	}
}

/* --- bad ones --- */

Test(http_get, an_answer_that_is_no_good_says_why)
{
	static const struct {
		const char *answer, *want;
	} v[] = {
	    {"", "the answer breaks off"},
	    {"HTTP/1.1 200", "the answer breaks off"},
	    {OK "Content-Length: 9\r\n\r\nhello", "the answer breaks off"},
	    {OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "the answer breaks off"},
	    {OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "body is malformed"},
	    {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"},
	    {OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "not HTTP"},
	    {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"},
	    {"HTTP/1.1 204 No Content\r\n\r\n", "status 204"},
	    /* Not followed. */
	    {"HTTP/1.1 302 Found\r\nLocation: http://other.example/\r\n\r\n", "status 302"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct server s = {.answer = v[i].answer, .len = strlen(v[i].answer), .piece = 3};
		struct flat_fetch f = get(&s, web, 60000);

		cr_expect_null(f.body, "%s", v[i].answer);
		cr_expect_eq(f.len, 0);
		cr_expect(strstr(f.error, v[i].want), "%s\nsaid: %s", v[i].answer, f.error);
	}
}

/* Of a body `n` bytes long, that ends with the connection. */
static struct flat_fetch get_large(size_t n)
{
	static const char head[] = OK "\r\n";
	char *text = malloc(sizeof(head) - 1 + n);

	cr_assert_not_null(text);
	memcpy(text, head, sizeof(head) - 1);
	memset(text + sizeof(head) - 1, 'x', n);
	struct server s = {.answer = text, .len = sizeof(head) - 1 + n, .piece = 1 << 16};
	struct flat_fetch f = get(&s, web, 60000);

	free(text);
	return f;
}

Test(http_get, a_body_has_a_mebibyte_at_most)
{
	struct flat_fetch f = get_large(FLAT_JWKS_BYTES_MAX);

	cr_assert_not_null(f.body, "%s", f.error);
	cr_expect_eq(f.len, FLAT_JWKS_BYTES_MAX);
	free(f.body);
	f = get_large(FLAT_JWKS_BYTES_MAX + 1);
	cr_expect_null(f.body);
	cr_expect(strstr(f.error, "larger than 1 MiB"), "%s", f.error);
	f = get_large(FLAT_JWKS_BYTES_MAX * 2);
	cr_expect_null(f.body);
	cr_expect(strstr(f.error, "larger than 1 MiB"), "%s", f.error);
}

Test(http_get, a_server_that_says_nothing_is_given_up)
{
	struct server s = {.answer = NULL};

	server_open(&s);
	/* Nobody accepts, nobody answers: the kernel alone has made the connection. */
	struct flat_fetch f = fetch_of(&s, web, 20);

	flat_http_get(&f);
	cr_expect_null(f.body);
	cr_expect_str_eq(f.error, "no answer in time");
	close(s.listening);
	/* The port is nobody's now. */
	f = fetch_of(&s, web, 60000);
	flat_http_get(&f);
	cr_expect_null(f.body);
	cr_expect_str_eq(f.error, strerror(ECONNREFUSED));
}

Test(http_get, a_server_that_speaks_no_tls_is_none)
{
	char uri[] = "https://keys.example/";
	struct server s = {.answer = OK "\r\nx", .len = 20, .piece = 99, .at_once = true};
	struct flat_fetch f = get(&s, uri, 60000);

	cr_expect_null(f.body);
	cr_expect_str_neq(f.error, "");
	cr_expect_str_neq(f.error, "no answer in time");
}

/* --- addresses --- */

Test(http_get, what_is_no_address_is_not_asked)
{
	static char uris[][48] = {
	    "ftp://keys.example/",
	    "http://",
	    "http:///a",
	    "http://user@keys.example/",
	    "http://keys.example:0/",
	    "http://keys.example:65536/",
	    "http://keys.example:8x/",
	    "http://[::1/",
	    "http://[::1]x/",
	    "http://keys.example/a b",
	    "http://keys.example/a\r\nX: y",
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(uris); i++) {
		struct flat_fetch f = {.uri = uris[i], .timeout_ms = 1000};

		flat_http_get(&f);
		cr_expect_null(f.body);
		cr_expect_str_eq(f.error, "an address that is none", "%s: %s", uris[i], f.error);
	}
}

Test(http_get, host_and_port_are_found_in_an_address)
{
	static const struct {
		const char *uri, *host;
		uint16_t port;
	} v[] = {
	    {"http://a.example", "a.example", 80},
	    {"https://a.example/x:1", "a.example", 443},
	    {"https://a.example:8443?x", "a.example", 8443},
	    {"http://[fd00::1]/", "fd00::1", 80},
	    {"http://[fd00::1]:65535#", "fd00::1", 65535},
	    {"http://10.0.0.1:1/", "10.0.0.1", 1},
	};
	char host[256];
	uint16_t port;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		cr_assert(flat_fetch_host(v[i].uri, host, &port), "%s", v[i].uri);
		cr_expect_str_eq(host, v[i].host);
		cr_expect_eq(port, v[i].port);
	}
}
