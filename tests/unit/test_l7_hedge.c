/*
 * Hedging through flatd: an attempt whose time is over goes on beside the next one. The servers are the test's own, which answer in the order
 * that each test says; what it waits for is always something that comes.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>

#include <flat/socket.h>

#include "support_origin.h"
#include "support_whole.h"

/* Two attempts: the first has so long, ms, before the second is made. */
#define ATTEMPTS_1 "1"
#define ATTEMPTS_2 "2"
#define MESH(attempts)                                                                             \
	"---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                    \
	"metadata: {name: all, namespace: shop}\nspec: {selectors: [{uid: %UID%}]}\n"              \
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"                            \
	"metadata: {name: web, namespace: shop}\n"                                                 \
	"spec: {hosts: [web.example], addresses: [240.9.1.1], location: MESH_INTERNAL, "           \
	"resolution: STATIC, ports: [{number: 80, name: http}], "                                  \
	"endpoints: [{address: 127.0.0.1, ports: {http: %PORT%}}]}\n"                              \
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"                          \
	"metadata: {name: web, namespace: shop}\n"                                                 \
	"spec: {hosts: [web.example], http: ["                                                     \
	"{name: plain, match: [{uri: {prefix: /plain}}], retries: {attempts: 0}, route: "          \
	"[{destination: {host: web.example}}]}, "                                                  \
	"{name: all, retries: {attempts: " attempts ", perTryTimeout: 50ms, retryOn: 5xx}, "       \
	"route: [{destination: {host: web.example}}]}]}\n"                                         \
	"---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n"                       \
	"metadata: {name: hedges, namespace: istio-system}\n"                                      \
	"spec: {configPatches: [{applyTo: VIRTUAL_HOST, match: {context: SIDECAR_OUTBOUND}, "      \
	"patch: {operation: MERGE, value: {hedge_policy: {hedge_on_per_try_timeout: true}}}}]}\n"

#define GET "GET /a HTTP/1.1\r\n" HOST "\r\n"
#define ANSWER(status, word) "HTTP/1.1 " status "\r\nContent-Length: 3\r\n\r\n" word

static int listener, client;

static void begin(const char *mesh, const char *request)
{
	whole_begin(mesh, NULL);
	listener = whole_listen(whole_port());
	client = whole_connect(whole_addr(240, 9, 1, 1, 80));
	whole_send(client, request, strlen(request));
}

static void end(void)
{
	flat_close(client);
	flat_close(listener);
	whole_end();
}

/* The next attempt, which has `want` in it. */
static int come(const char *want)
{
	char text[ORIGIN_TEXT];
	int fd;

	whole_poll(listener, POLLIN);
	fd = flat_accept(listener, NULL, NULL);
	cr_assert_geq(fd, 0, "%m");
	cr_assert_gt(origin_read(fd, text), 0);
	cr_expect_not_null(strstr(text, want), "no '%s' in:\n%s", want, text);
	return fd;
}

static void say(int fd, const char *answer)
{
	whole_send(fd, answer, strlen(answer));
}

static void client_gets(const char *want)
{
	char text[ORIGIN_TEXT];

	(void)origin_read(client, text);
	cr_expect_not_null(strstr(text, want), "no '%s' in:\n%s", want, text);
}

/* Its server is told that nobody waits any more. */
static void is_left(int fd)
{
	char byte;

	whole_poll(fd, POLLIN);
	cr_expect_leq(flat_recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	flat_close(fd);
}

static void nobody_comes(int within_ms)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	cr_expect_eq(flat_poll(&p, 1, within_ms), 0);
}

TestSuite(l7_hedge, .timeout = 60);

Test(l7_hedge, the_latest_answers_and_the_earlier_ends)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	say(second, ANSWER("200 OK", "two"));
	client_gets("two");
	is_left(first);
	flat_close(second);
	end();
}

Test(l7_hedge, the_earlier_answers_and_the_latest_ends)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	say(first, ANSWER("200 OK", "one"));
	client_gets("one");
	is_left(second);
	flat_close(first);
	end();
}

Test(l7_hedge, an_answer_to_try_again_after_is_not_the_clients_while_another_goes_on)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	say(first, ANSWER("503 No", "one"));
	is_left(first);
	say(second, ANSWER("200 OK", "two"));
	client_gets("two");
	flat_close(second);
	end();
}

Test(l7_hedge, one_that_breaks_off_leaves_it_to_the_other)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	flat_close(first);
	say(second, ANSWER("200 OK", "two"));
	client_gets("two");
	flat_close(second);
	end();
}

Test(l7_hedge, the_earlier_goes_on_where_the_latest_fails)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	say(second, ANSWER("503 No", "two"));
	is_left(second);
	say(first, ANSWER("200 OK", "one"));
	client_gets("one");
	flat_close(first);
	end();
}

Test(l7_hedge, the_last_of_all_that_fail_is_the_clients_answer)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	say(first, ANSWER("503 No", "one"));
	is_left(first);
	say(second, ANSWER("503 No", "two"));
	client_gets("HTTP/1.1 503 No\r\n");
	flat_close(second);
	end();
}

Test(l7_hedge, there_are_as_many_as_the_route_has_tries)
{
	int fd[3];

	begin(MESH(ATTEMPTS_2), GET);
	for (int i = 0; i < 3; i++)
		fd[i] = come("GET /a ");
	say(fd[1], ANSWER("200 OK", "two"));
	client_gets("two");
	is_left(fd[0]);
	is_left(fd[2]);
	nobody_comes(0);
	flat_close(fd[1]);
	end();
}

Test(l7_hedge, each_attempt_has_the_whole_body)
{
	int first, second;

	begin(MESH(ATTEMPTS_1), "POST /a HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody");
	first = come("\r\n\r\nbody");
	second = come("\r\n\r\nbody");
	say(first, ANSWER("200 OK", "one"));
	client_gets("one");
	is_left(second);
	flat_close(first);
	end();
}

Test(l7_hedge, a_part_of_a_body_makes_no_second_one)
{
	char text[ORIGIN_TEXT];
	int first;

	begin(MESH(ATTEMPTS_1), "POST /a HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbo");
	whole_poll(listener, POLLIN);
	first = flat_accept(listener, NULL, NULL);
	cr_assert_geq(first, 0);
	nobody_comes(200);
	say(client, "dy");
	cr_assert_gt(origin_read(first, text), 0);
	cr_expect_not_null(strstr(text, "\r\n\r\nbody"), "%s", text);
	say(first, ANSWER("200 OK", "one"));
	client_gets("one");
	flat_close(first);
	end();
}

Test(l7_hedge, a_connection_goes_on_after_it)
{
	char text[ORIGIN_TEXT];
	int first, second;

	begin(MESH(ATTEMPTS_1), GET);
	first = come("GET /a ");
	second = come("GET /a ");
	say(second, ANSWER("200 OK", "two"));
	client_gets("two");
	is_left(first);
	/* The next request goes to the server that answered, on the connection that is there. */
	say(client, "GET /plain HTTP/1.1\r\n" HOST "\r\n");
	cr_assert_gt(origin_read(second, text), 0);
	cr_expect_not_null(strstr(text, "GET /plain "), "%s", text);
	say(second, ANSWER("200 OK", "six"));
	client_gets("six");
	flat_close(second);
	end();
}
