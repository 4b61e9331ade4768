/* One active health check, against a server that the test plays: TCP and HTTP/1. gRPC's is tested end to end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "offload/health_probe.h"
#include "offload/worker.h"

static struct flat_loop loop;
static struct flat_addr at;
static int listening, server;

/* What was told, and how often. */
static enum flat_health_result result;
static char why[128];
static int told;

static void on_result(void *arg, enum flat_health_result r, const char *text)
{
	(void)arg;
	result = r;
	snprintf(why, sizeof(why), "%s", text);
	told++;
}

static void setup(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(in);

	cr_assert_eq(flat_loop_init(&loop), 0);
	listening = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(listening, (struct sockaddr *)&in, len), 0);
	cr_assert_eq(listen(listening, 8), 0);
	cr_assert_eq(getsockname(listening, (struct sockaddr *)&in, &len), 0);
	cr_assert_eq(flat_addr_from_sockaddr(&at, (struct sockaddr *)&in, len), 0);
	server = -1;
}

static void teardown(void)
{
	flat_loop_fini(&loop);
	close(listening);
	if (server >= 0)
		close(server);
}

TestSuite(health_probe, .init = setup, .fini = teardown);

/* Begins; the server has the connection. */
static struct flat_probe *begin(const struct flat_health_check *check)
{
	struct flat_probe *p = flat_probe_start(&loop, check, "web.example", &at, on_result, NULL);

	cr_assert_not_null(p);
	cr_expect_eq(told, 0);
	server = accept(listening, NULL, NULL);
	cr_assert_geq(server, 0);
	return p;
}

/* Until something is told: of the loop alone, whose events the kernel has or will have. */
static void until_told(void)
{
	for (int i = 0; i < 1000 && told == 0; i++)
		(void)flat_loop_turn(&loop, 10000);
	cr_assert_eq(told, 1);
}

/* The server reads exactly so much; the probe gets its turns. */
static void hear(char *text, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(server, text + got, len - got, MSG_DONTWAIT);

		cr_assert(n > 0 || (n < 0 && errno == EAGAIN), "%zd", n);
		if (n > 0)
			got += (size_t)n;
		else
			(void)flat_loop_turn(&loop, 10000);
	}
}

static void say(const char *text)
{
	cr_assert_eq(send(server, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* --- TCP --- */

static struct flat_payload pieces[] = {{(const uint8_t *)"+PO", 3}, {(const uint8_t *)"NG", 2}};
static const struct flat_health_check connects = {.kind = FLAT_HEALTH_TCP, .timeout_ms = 60000};
static const struct flat_health_check talks = {
    .kind = FLAT_HEALTH_TCP,
    .timeout_ms = 60000,
    .send = {(const uint8_t *)"PI\0NG", 5},
    .receive = pieces,
    .n_receive = 2,
};

Test(health_probe, a_connection_is_enough_where_nothing_is_expected)
{
	begin(&connects);
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_PASSED);
	cr_expect_str_eq(why, "connected");
}

Test(health_probe, nobody_who_listens_is_silence)
{
	close(listening);
	listening = -1;
	struct flat_probe *p =
	    flat_probe_start(&loop, &connects, "web.example", &at, on_result, NULL);

	/* The kernel may say so at once: then there is no probe. */
	if (!p)
		return;
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_SILENT);
	cr_expect_str_eq(why, strerror(ECONNREFUSED));
}

Test(health_probe, the_answers_pieces_are_found_in_their_order_however_cut)
{
	static const char answer[] = "xNG+P+PO..N.NGx";
	char text[5];

	begin(&talks);
	hear(text, sizeof(text));
	cr_expect_eq(memcmp(text, "PI\0NG", 5), 0);
	for (size_t i = 0; i < sizeof(answer) - 1 && !told; i++) {
		cr_assert_eq(send(server, &answer[i], 1, MSG_NOSIGNAL), 1);
		/* All is there with the second piece's last byte, and not before. */
		if (i < 13)
			(void)flat_loop_turn(&loop, 0);
		cr_expect_eq(told, 0, "at %zu", i);
	}
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_PASSED);
	cr_expect_str_eq(why, "the answer is right");
}

Test(health_probe, an_end_before_the_answer_is_silence)
{
	char text[5];

	begin(&talks);
	hear(text, sizeof(text));
	say("NG+PO");
	shutdown(server, SHUT_WR);
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_SILENT);
	cr_expect_str_eq(why, "the connection ended before its answer");
}

Test(health_probe, an_answer_with_its_end_is_right)
{
	char text[5];

	begin(&talks);
	hear(text, sizeof(text));
	say("+PONG");
	shutdown(server, SHUT_WR);
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_PASSED);
}

Test(health_probe, an_endless_answer_is_given_up)
{
	char text[5];
	char noise[4096];

	memset(noise, 'x', sizeof(noise));
	begin(&talks);
	hear(text, sizeof(text));
	for (int i = 0; i < 100 && !told; i++) {
		(void)send(server, noise, sizeof(noise), MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)flat_loop_turn(&loop, 10000);
	}
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_SILENT);
	cr_expect_str_eq(why, strerror(EMSGSIZE));
}

/* --- time --- */

Test(health_probe, time_is_over_when_it_is)
{
	struct flat_probe *p = begin(&talks);
	int64_t now = flat_now_us();
	int left = flat_probe_expire(p, now);

	cr_expect(left > 0 && left <= 60000, "%d", left);
	cr_expect_eq(told, 0);
	cr_expect_eq(flat_probe_expire(p, now + 60000000), -1);
	cr_assert_eq(told, 1);
	cr_expect_eq(result, FLAT_HEALTH_SILENT);
	cr_expect_str_eq(why, "no answer in time");
}

Test(health_probe, one_that_is_cancelled_tells_nothing)
{
	char byte;

	flat_probe_cancel(begin(&talks));
	/* The server sees its end. */
	while (recv(server, &byte, 1, MSG_DONTWAIT) != 0)
		(void)flat_loop_turn(&loop, 0);
	cr_expect_eq(told, 0);
	flat_probe_cancel(NULL);
}

Test(health_probe, it_knows_where_it_comes_from)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	struct flat_addr from;
	struct flat_probe *p = begin(&talks);

	cr_assert_eq(getpeername(server, (struct sockaddr *)&peer, &len), 0);
	cr_assert_eq(flat_addr_from_sockaddr(&from, (struct sockaddr *)&peer, len), 0);
	cr_expect(flat_probe_is_from(p, &from));
	from.port++;
	cr_expect_not(flat_probe_is_from(p, &from));
	flat_probe_cancel(p);
}

/* --- HTTP --- */

static struct flat_name_value header = {.name = "x-check", .value = "1"};
static const struct flat_status_range good[] = {{200, 300}};
static const struct flat_status_range pass_over[] = {{503, 504}};
static const struct flat_health_check http = {
    .kind = FLAT_HEALTH_HTTP,
    .timeout_ms = 60000,
    .method = "GET",
    .path = "/healthz",
    .expected = {good, 1},
    .retriable = {pass_over, 1},
    .headers = &header,
    .n_headers = 1,
};

/* The server reads a request's head, and answers. */
static void serve(const char *answer, char *text, size_t size)
{
	size_t got = 0;

	memset(text, 0, size);
	while (!strstr(text, "\r\n\r\n")) {
		cr_assert_lt(got, size - 1);
		hear(text + got++, 1);
	}
	say(answer);
}

Test(health_probe, a_status_decides)
{
	static const struct {
		const char *answer;
		enum flat_health_result result;
		const char *why;
	} v[] = {
	    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", FLAT_HEALTH_PASSED, "status 200"},
	    {"HTTP/1.1 299 X\r\nContent-Length: 0\r\n\r\n", FLAT_HEALTH_PASSED, "status 299"},
	    {"HTTP/1.1 300 X\r\nContent-Length: 0\r\n\r\n", FLAT_HEALTH_REFUSED, "status 300"},
	    {"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", FLAT_HEALTH_REFUSED, "status 500"},
	    {"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", FLAT_HEALTH_SILENT, "status 503"},
	};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		char text[1024];

		told = 0;
		begin(&http);
		serve(v[i].answer, text, sizeof(text));
		until_told();
		cr_expect_eq(result, v[i].result, "%s", v[i].answer);
		cr_expect_str_eq(why, v[i].why);
		cr_expect_eq(strncmp(text, "GET /healthz HTTP/1.1\r\n", 23), 0, "%s", text);
		cr_expect(strcasestr(text, "\r\nhost: web.example\r\n"), "%s", text);
		cr_expect(strcasestr(text, "\r\nx-check: 1\r\n"), "%s", text);
		close(server);
		server = -1;
	}
}

Test(health_probe, what_is_no_http_is_silence)
{
	char text[1024];

	begin(&http);
	serve("SSH-2.0-OpenSSH_9.2\r\n\r\n", text, sizeof(text));
	until_told();
	cr_expect_eq(result, FLAT_HEALTH_SILENT);
	cr_expect_str_neq(why, "");
}
