/*
 * Session persistence through flatd: a client that shows what it was given comes to the server that gave it; what it did not get from there takes
 * it nowhere.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flat/socket.h>

#include "support_origin.h"
#include "support_whole.h"

enum { SERVERS = 2 };

static uint16_t ports[SERVERS];
static int listeners[SERVERS];

/* The service web.example has two servers, in turn; `session` is its rule's, `match` what its requests begin with. */
static void begin(const char *match, const char *session)
{
	static char yaml[4096];
	int n;

	for (int i = 0; i < SERVERS; i++)
		ports[i] = whole_free_port();
	n = snprintf(
	    yaml, sizeof(yaml),
	    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
	    "metadata: {name: all, namespace: shop}\nspec: {selectors: [{uid: %%UID%%}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
	    "metadata: {name: web, namespace: shop}\n"
	    "spec: {hosts: [web.example], addresses: [240.9.1.9], location: MESH_INTERNAL, "
	    "resolution: STATIC, ports: [{number: 80, name: http}], endpoints: ["
	    "{address: 127.0.0.1, ports: {http: %u}}, {address: 127.0.0.1, ports: {http: %u}}]}\n"
	    "---\napiVersion: v1\nkind: Service\nmetadata: {name: front, namespace: shop}\n"
	    "spec: {clusterIP: 240.9.1.1, ports: [{port: 80, name: http}]}\n"
	    "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"
	    "metadata: {name: r, namespace: shop}\n"
	    "spec: {parentRefs: [{group: '', kind: Service, name: front}], "
	    "rules: [{matches: [{path: {value: %s}}], sessionPersistence: %s, backendRefs: "
	    "[{group: networking.istio.io, kind: Hostname, name: web.example, port: 80}]}]}\n",
	    ports[0], ports[1], match, session);
	cr_assert_lt((size_t)n, sizeof(yaml));
	origin_by(whole_addr(240, 9, 1, 1, 80));
	whole_begin(yaml, NULL);
	for (int i = 0; i < SERVERS; i++)
		listeners[i] = whole_listen(ports[i]);
}

static void end(void)
{
	for (int i = 0; i < SERVERS; i++)
		flat_close(listeners[i]);
	whole_end();
}

/* A request with this field; which server got it. `answer` is what the client got, `seen` what the server did. */
static int ask(const char *field, char seen[ORIGIN_TEXT], char answer[ORIGIN_TEXT])
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	struct pollfd p[SERVERS];
	char request[1024];
	int client = origin_connect();
	int at, fd;

	snprintf(request, sizeof(request), "GET /a/b HTTP/1.1\r\nHost: front.shop\r\n%s\r\n",
		 field);
	whole_send(client, request, strlen(request));
	for (int i = 0; i < SERVERS; i++)
		p[i] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
	cr_assert_eq(flat_poll(p, SERVERS, 10000), 1);
	at = p[0].revents ? 0 : 1;
	fd = flat_accept(listeners[at], NULL, NULL);
	cr_assert_geq(fd, 0);
	cr_assert_gt(origin_read(fd, seen), 0);
	whole_send(fd, ok, sizeof(ok) - 1);
	cr_assert_gt(origin_read(client, answer), 0);
	flat_close(fd);
	flat_close(client);
	return at;
}

/* Of an answer's field `name` what is between `from` and `to`. */
static void cut(const char *text, const char *from, const char *to, char out[256])
{
	const char *at = strcasestr(text, from);
	size_t len;

	cr_assert_not_null(at, "no '%s' in:\n%s", from, text);
	at += strlen(from);
	len = strcspn(at, to);
	cr_assert(len > 0 && len < 256);
	snprintf(out, 256, "%.*s", (int)len, at);
}

TestSuite(l7_persist, .timeout = 60);

Test(l7_persist, a_cookie_leads_to_its_server)
{
	char seen[ORIGIN_TEXT], answer[ORIGIN_TEXT], token[256], field[512];
	int first, other;

	begin("/a", "{sessionName: sid}");
	first = ask("", seen, answer);
	cut(answer, "set-cookie: sid=", ";\r", token);
	/* For the paths of its rule; nothing of the page's reads it. */
	cr_expect_not_null(strstr(answer, "; Path=/a; HttpOnly; SameSite=Lax\r\n"), "%s", answer);
	cr_expect_null(strcasestr(answer, "Max-Age"), "%s", answer);
	snprintf(field, sizeof(field), "Cookie: a=b; sid=%s; c=d\r\n", token);
	for (int i = 0; i < 6; i++) {
		cr_expect_eq(ask(field, seen, answer), first);
		cr_expect_null(strcasestr(answer, "set-cookie"), "%s", answer);
	}
	/* Others have another in their turn, and a cookie that leads there. */
	do
		other = ask("", seen, answer);
	while (other == first);
	cut(answer, "set-cookie: sid=", ";\r", token);
	snprintf(field, sizeof(field), "Cookie: sid=%s\r\n", token);
	for (int i = 0; i < 6; i++)
		cr_expect_eq(ask(field, seen, answer), other);
	end();
}

Test(l7_persist, what_it_did_not_get_from_there_is_no_session)
{
	char seen[ORIGIN_TEXT], answer[ORIGIN_TEXT], token[256], field[512];
	bool came[SERVERS] = {false};

	begin("/a", "{sessionName: sid}");
	(void)ask("", seen, answer);
	cut(answer, "set-cookie: sid=", ";\r", token);
	token[0] = token[0] == 'A' ? 'B' : 'A';
	snprintf(field, sizeof(field), "Cookie: sid=%s\r\n", token);
	for (int i = 0; i < 20; i++) {
		came[ask(field, seen, answer)] = true;
		cr_expect_not_null(strcasestr(answer, "set-cookie: sid="), "%s", answer);
	}
	cr_expect(came[0] && came[1]);
	end();
}

Test(l7_persist, where_its_server_is_gone_the_session_begins_anew)
{
	char seen[ORIGIN_TEXT], answer[ORIGIN_TEXT], token[256], next[256], field[512];
	int first;

	begin("/a", "{sessionName: sid}");
	first = ask("", seen, answer);
	cut(answer, "set-cookie: sid=", ";\r", token);
	snprintf(field, sizeof(field), "Cookie: sid=%s\r\n", token);
	flat_close(listeners[first]);
	/* A listener that is there, and gets nothing: it is what poll() looks at. */
	listeners[first] = whole_listen(whole_free_port());
	cr_expect_eq(ask(field, seen, answer), 1 - first);
	cut(answer, "set-cookie: sid=", ";\r", next);
	cr_expect_str_neq(next, token);
	end();
}

Test(l7_persist, a_permanent_cookie_says_how_long_it_holds)
{
	char seen[ORIGIN_TEXT], answer[ORIGIN_TEXT], token[256], field[512];
	int first;

	begin("/", "{sessionName: sid, absoluteTimeout: 2h, idleTimeout: 1h, cookieConfig: "
		   "{lifetimeType: Permanent}}");
	first = ask("", seen, answer);
	cut(answer, "set-cookie: sid=", ";\r", token);
	cr_expect_not_null(strstr(answer, "; Max-Age=7200; Path=/; "), "%s", answer);
	snprintf(field, sizeof(field), "Cookie: sid=%s\r\n", token);
	cr_expect_eq(ask(field, seen, answer), first);
	/* That it was seen is written anew; how old it is stays. */
	cut(answer, "; Max-Age=", ";\r", token);
	cr_expect(strtol(token, NULL, 10) <= 7200 && strtol(token, NULL, 10) > 7100, "%s", token);
	end();
}

Test(l7_persist, a_header_leads_to_its_server_and_stays_between_them)
{
	char seen[ORIGIN_TEXT], answer[ORIGIN_TEXT], token[256], field[512];
	int first;

	begin("/", "{type: Header, sessionName: x-sid}");
	first = ask("", seen, answer);
	cut(answer, "x-sid: ", "\r", token);
	cr_expect_null(strcasestr(answer, "set-cookie"), "%s", answer);
	snprintf(field, sizeof(field), "X-Sid: %s\r\n", token);
	for (int i = 0; i < 6; i++)
		cr_expect_eq(ask(field, seen, answer), first);
	end();
}
