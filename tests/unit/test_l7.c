/*
 * What flatd makes of requests, one by one: what the client writes, what its server gets, what the client gets back. Both are in
 * this process; the offload half reads the requests between them.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <flat/socket.h>

#include "offload/offload.h"
#include "support_whole.h"

#define TEXT 8192

/* The server: it keeps what it got last, and answers every request alike. */
static struct {
	pthread_mutex_t lock;
	pthread_t thread;
	int listener;
	unsigned requests;
	char last[TEXT];
	char first_lines[TEXT]; /* of all */
} origin = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Reads until `done` says that it is enough, or the end. */
static size_t read_message(int fd, char text[TEXT])
{
	size_t len = 0;
	size_t wanted = SIZE_MAX;
	text[0] = '\0';
	while (len < TEXT - 1 && len < wanted) {
		ssize_t n = flat_recv(fd, text + len, TEXT - 1 - len, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
		text[len] = '\0';
		const char *end = strstr(text, "\r\n\r\n");
		const char *body = strcasestr(text, "\ncontent-length:");
		if (end)
			wanted = (size_t)(end + 4 - text) +
				 (body && body < end ? strtoul(body + 16, NULL, 10) : 0);
	}
	return len;
}

static const char *answer_to(const char *request)
{
	if (strncmp(request, "GET /flaky ", 11) == 0 && origin.requests % 2 == 1)
		return "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
	if (strncmp(request, "GET /teapot", 11) == 0)
		return "HTTP/1.1 418 Tea\r\nServer: origin\r\nContent-Length: 0\r\n\r\n";
	return "HTTP/1.1 200 OK\r\nServer: origin\r\nX-Gone: 1\r\nContent-Length: 2\r\n\r\nok";
}

static void *serve(void *arg)
{
	char text[TEXT];
	(void)arg;
	for (;;) {
		int fd = flat_accept(origin.listener, NULL, NULL);
		if (fd < 0)
			return NULL;
		while (read_message(fd, text) > 0 && strstr(text, "\r\n\r\n")) {
			pthread_mutex_lock(&origin.lock);
			origin.requests++;
			memcpy(origin.last, text, sizeof(text));
			size_t at = strlen(origin.first_lines);
			snprintf(origin.first_lines + at, TEXT - at, "%.*s|",
				 (int)strcspn(text, "\r"), text);
			const char *answer = answer_to(text);
			pthread_mutex_unlock(&origin.lock);
			/* It never answers. */
			if (strncmp(text, "GET /slow", 9) == 0)
				continue;
			whole_send(fd, answer, strlen(answer));
			if (strcasestr(text, "\r\nconnection: close"))
				break;
		}
		flat_close(fd);
	}
}

static unsigned requests(void)
{
	pthread_mutex_lock(&origin.lock);
	unsigned n = origin.requests;
	pthread_mutex_unlock(&origin.lock);
	return n;
}

static void log_to_file(struct flat_offload *o)
{
	static char path[96];
	snprintf(path, sizeof(path), "%s/access.log", whole_dir());
	o->access_log = path;
}

static void begin(const char *routes)
{
	static char yaml[16384];
	snprintf(yaml, sizeof(yaml),
		 "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
		 "metadata: {name: web, namespace: shop}\n"
		 "spec: {hosts: [web.example], addresses: [240.9.1.1], location: MESH_INTERNAL, "
		 "resolution: STATIC, ports: [{number: 80, name: http}], "
		 "endpoints: [{address: 127.0.0.1, ports: {http: %%PORT%%}}]}\n---\n%s",
		 routes);
	whole_begin(yaml, log_to_file);
	origin.listener = whole_listen(whole_port());
	cr_assert_eq(pthread_create(&origin.thread, NULL, serve, NULL), 0);
}

static void end(void)
{
	cr_assert_eq(flat_shutdown(origin.listener, SHUT_RDWR), 0);
	cr_assert_eq(pthread_join(origin.thread, NULL), 0);
	flat_close(origin.listener);
	whole_end();
}

/* Sends a request of its own connection; what comes back. Valid until the next. */
static const char *ask(const char *request)
{
	static char text[TEXT];
	int fd = whole_connect(whole_addr(240, 9, 1, 1, 80));
	whole_send(fd, request, strlen(request));
	(void)read_message(fd, text);
	flat_close(fd);
	return text;
}

/* One request and what is to be seen. Texts that begin with ! must not be there; at the server NULL: it never gets it. */
struct row {
	const char *request;
	const char *at_server[4];
	const char *at_client[4];
};

static void check_text(const char *request, const char *where, const char *text,
		       const char *const wanted[4])
{
	for (int i = 0; i < 4 && wanted[i]; i++) {
		bool absent = wanted[i][0] == '!';
		cr_expect_eq(strstr(text, wanted[i] + absent) == NULL, absent,
			     "%.30s: %s has %s'%s':\n%s", request, where, absent ? "" : "no ",
			     wanted[i] + absent, text);
	}
}

static void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct row *r = &rows[i];
		unsigned before = requests();
		const char *got = ask(r->request);
		check_text(r->request, "the client", got, r->at_client);
		cr_expect_eq(requests() == before, r->at_server[0] == NULL, "%.30s: %u requests",
			     r->request, requests() - before);
		if (r->at_server[0])
			check_text(r->request, "the server", origin.last, r->at_server);
	}
}

#define ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static const char routes[] =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: "
    "shop}\n"
    "spec:\n  hosts: [web.example]\n  http:\n"
    "  - match: [{uri: {exact: /old}}]\n    redirect: {uri: /new, redirectCode: 302}\n"
    "  - match: [{uri: {prefix: /was/}}]\n    redirect: {prefixRewrite: /is/, authority: "
    "b.example}\n"
    "  - match: [{uri: {exact: /tea}}]\n    directResponse: {status: 418, body: {string: short and "
    "stout}}\n"
    "  - match: [{uri: {exact: /broken}}]\n    fault: {abort: {httpStatus: 501, percentage: "
    "{value: 100}}}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {prefix: /a/}}]\n    rewrite: {uri: /b/, authority: inner.example}\n"
    "    headers: {request: {set: {x-set: s}, add: {x-add: '%REQ(X-HAS)%'}, remove: [x-secret]}, "
    "response: {set: {server: us}, remove: [x-gone]}}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {prefix: /re/}}]\n    rewrite: {uriRegexRewrite: {match: "
    "'^/re/([a-z]+)/([0-9]+)', rewrite: '/\\2/\\1'}}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {exact: /flaky}}]\n    retries: {attempts: 2, retryOn: 5xx}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{uri: {exact: /slow}}]\n    timeout: 50ms\n    route: [{destination: {host: "
    "web.example}}]\n"
    "  - match: [{uri: {exact: /cors}}]\n    corsPolicy: {allowOrigins: [{exact: "
    "'http://good.example'}], allowMethods: [GET], maxAge: 60s}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "  - match: [{headers: {x-version: {exact: v9}}}]\n    route: [{destination: {host: "
    "nowhere.example}}]\n"
    "  - match: [{method: {exact: PUT}, queryParams: {q: {exact: '1'}}}]\n    directResponse: "
    "{status: 405}\n"
    "  - match: [{uri: {prefix: /}, withoutHeaders: {x-lost: {}}}]\n    route: [{destination: "
    "{host: web.example}}]\n";

#define HOST "Host: web.example\r\n"

Test(l7, requests_are_routed_and_edited)
{
	static const struct row rows[] = {
	    {"GET /plain HTTP/1.1\r\n" HOST "\r\n",
	     {"GET /plain HTTP/1.1\r\n", "ost: web.example\r\n"},
	     {"HTTP/1.1 200 ", "\r\n\r\nok", "erver: origin"}},
	    {"GET /old HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 302 ", "http://web.example/new"}},
	    {"GET /was/a/b?c HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 301 ", "http://b.example/is/a/b?c\r\n"}},
	    {"GET /tea HTTP/1.1\r\n" HOST "\r\n", {NULL}, {"HTTP/1.1 418 ", "short and stout"}},
	    {"GET /broken HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 501 ", "fault filter abort"}},
	    {"GET /a/c?d=e HTTP/1.1\r\n" HOST "X-Secret: 1\r\nX-Has: h\r\n\r\n",
	     {"GET /b/c?d=e HTTP/1.1", "ost: inner.example", "x-set: s", "!ecret"},
	     {"HTTP/1.1 200 ", "erver: us", "!-Gone", "!origin"}},
	    {"GET /a/ HTTP/1.1\r\n" HOST "X-Has: h\r\n\r\n", {"x-add: h"}, {"HTTP/1.1 200 "}},
	    {"GET /re/abc/42?q HTTP/1.1\r\n" HOST "\r\n", {"GET /42/abc?q "}, {"HTTP/1.1 200 "}},
	    {"GET /slow HTTP/1.1\r\n" HOST "\r\n", {"GET /slow "}, {"HTTP/1.1 504 ", "timeout"}},
	    {"GET /cors HTTP/1.1\r\n" HOST "Origin: http://good.example\r\n\r\n",
	     {"GET /cors "},
	     {"access-control-allow-origin: http://good.example"}},
	    {"OPTIONS /cors HTTP/1.1\r\n" HOST
	     "Origin: http://good.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 200 ", "access-control-allow-methods: GET", "access-control-max-age: 60"}},
	    {"GET /cors HTTP/1.1\r\n" HOST "Origin: http://bad.example\r\n\r\n",
	     {"GET /cors "},
	     {"HTTP/1.1 200 ", "!access-control"}},
	    {"GET / HTTP/1.1\r\n" HOST "X-Version: v9\r\n\r\n", {NULL}, {"HTTP/1.1 503 "}},
	    {"POST /any HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
	     {"ransfer-Encoding: chunked\r\n", "!CHUNKED"},
	     {"HTTP/1.1 200 "}},
	    {"PUT /any?q=1 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
	     {NULL},
	     {"HTTP/1.1 405 "}},
	    {"PUT /any?q=2 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
	     {"PUT /any?q=2 ", "\r\n\r\nabc"},
	     {"HTTP/1.1 200 "}},
	    {"GET / HTTP/1.1\r\n" HOST "X-Lost: 1\r\n\r\n", {NULL}, {"HTTP/1.1 404 "}},
	    {"GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 400 "}},
	    {"GET / HTTP/1.1\r\n\r\n", {NULL}, {"HTTP/1.1 400 "}},
	};
	begin(routes);
	ROWS(rows);
	origin.requests = 0;
	origin.first_lines[0] = '\0';
	check_text("/flaky", "the client", ask("GET /flaky HTTP/1.1\r\n" HOST "\r\n"),
		   (const char *[4]){"HTTP/1.1 200 "});
	cr_expect_str_eq(origin.first_lines, "GET /flaky HTTP/1.1|GET /flaky HTTP/1.1|");
	end();
}

static const char guarded[] =
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no, namespace: "
    "shop}\n"
    "spec: {action: DENY, rules: [{to: [{operation: {paths: [/secret*], methods: [GET]}}]}]}\n---\n"
    "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: who, "
    "namespace: shop}\n"
    "spec: {jwtRules: [{issuer: i, jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}'}]}\n---\n"
    "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "
    "labels: {app: web}}\n"
    "spec: {selectors: [{uid: %UID%}]}\n---\n"
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: few, namespace: "
    "shop}\n"
    "spec:\n  workloadSelector: {labels: {app: web}}\n  configPatches:\n"
    "  - applyTo: HTTP_FILTER\n    match: {context: SIDECAR_INBOUND}\n    patch:\n      operation: "
    "INSERT_BEFORE\n"
    "      value:\n        name: envoy.filters.http.local_ratelimit\n        typed_config:\n"
    "          \"@type\": "
    "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit\n"
    "          stat_prefix: few\n"
    "          token_bucket: {max_tokens: 4, tokens_per_fill: 1, fill_interval: 3600s}\n"
    "          filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}\n"
    "          filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}\n";

Test(l7, what_is_mandatory_is_asked_before_the_server)
{
	static const struct row rows[] = {
	    {"GET /secret/1 HTTP/1.1\r\n" HOST "\r\n",
	     {NULL},
	     {"HTTP/1.1 403 ", "RBAC: access denied"}},
	    {"POST /secret/1 HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
	     {"POST /secret/1 "},
	     {"HTTP/1.1 200 "}},
	    {"GET /a HTTP/1.1\r\n" HOST "Authorization: Bearer a.b.c\r\n\r\n",
	     {NULL},
	     {"HTTP/1.1 401 ", "Jwt"}},
	    {"GET /open HTTP/1.1\r\n" HOST "\r\n", {"GET /open "}, {"HTTP/1.1 200 "}},
	};
	bool limited = false;
	begin(guarded);
	ROWS(rows);
	/* Four tokens and no more. */
	for (int i = 0; i < 6 && !limited; i++)
		limited =
		    strstr(ask("GET /open HTTP/1.1\r\n" HOST "\r\n"), "HTTP/1.1 429 ") != NULL;
	cr_expect(limited);
	end();
}

/* The frames of a request for / of web.example: the preface, SETTINGS, HEADERS that end the stream. */
static const uint8_t http2_request[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
				       "\0\0\0\4\0\0\0\0\0"
				       "\0\0\20\1\5\0\0\0\1"
				       "\x82\x86\x84\x41\x0bweb.example";

Test(l7, http2_is_spoken_to_a_server_of_http1)
{
	uint8_t head[9];
	uint8_t payload[TEXT];
	char body[16] = "";
	bool over = false;
	begin(routes);
	int fd = whole_connect(whole_addr(240, 9, 1, 1, 80));
	whole_send(fd, http2_request, sizeof(http2_request) - 1);
	while (!over) {
		whole_recv(fd, head, sizeof(head));
		size_t len = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
		cr_assert_lt(len, sizeof(payload));
		whole_recv(fd, payload, len);
		if (head[8] != 1)
			continue;
		cr_assert(head[3] != 3, "the stream was reset");
		/* :status 200, of the static table. */
		if (head[3] == 1)
			cr_expect_eq(payload[0], 0x88);
		if (head[3] == 0 && len < sizeof(body))
			strncat(body, (char *)payload, len);
		over = head[4] & 1;
	}
	cr_expect_str_eq(body, "ok");
	check_text("/", "the server", origin.last,
		   (const char *[4]){"GET / HTTP/1.1\r\n", "ost: web.example\r\n"});
	flat_close(fd);
	end();
}

Test(l7, each_request_is_logged)
{
	char path[128];
	char text[TEXT] = "";
	begin(routes);
	snprintf(path, sizeof(path), "%s/access.log", whole_dir());
	(void)ask("GET /one HTTP/1.1\r\n" HOST "User-Agent: us\r\n\r\n");
	(void)ask("GET /teapot HTTP/1.1\r\n" HOST "\r\n");
	for (int i = 0; i < 1000 && !strstr(text, "/teapot"); i++) {
		FILE *f = fopen(path, "re");
		size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
		text[n] = '\0';
		if (f)
			fclose(f);
		(void)flat_poll(NULL, 0, 10);
	}
	cr_expect_not_null(strstr(text, "\"GET /one HTTP/1.1\" 200 - 0 2 "), "%s", text);
	cr_expect_not_null(strstr(text, "\"GET /teapot HTTP/1.1\" 418 "), "%s", text);
	cr_expect_not_null(strstr(text, "\"us\""), "%s", text);
	end();
}

/* DestinationRules for some clients: what is said of the traffic of these has their connections read, and holds. */
#define COOKIE_FOR(app)                                                                            \
	"apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all, namespace: shop, "  \
	"labels: {app: client}}\nspec: {selectors: [{uid: %UID%}]}\n---\n"                         \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"                              \
	"metadata: {name: some, namespace: shop}\n"                                                \
	"spec: {host: web.example, workloadSelector: {matchLabels: {app: " app "}}, "              \
	"trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 5s}}}}}\n"

static void check_cookie(const char *yaml, bool want)
{
	begin(yaml);
	cr_expect_eq(
	    strcasestr(ask("GET /plain HTTP/1.1\r\n" HOST "\r\n"), "set-cookie: c=") != NULL, want);
	end();
}

Test(l7, rules_for_some_clients_hold_for_these)
{
	check_cookie(COOKIE_FOR("client"), true);
}

Test(l7, rules_for_some_clients_hold_for_no_others)
{
	check_cookie(COOKIE_FOR("other"), false);
}
