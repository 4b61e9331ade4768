/* What flatctl and Prometheus are told of a mesh with connections: as text, and as JSON that says the same; why a connection would go as it does. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flat/socket.h>

#include "base/json_read.h"
#include "offload/offload.h"
#include "support_whole.h"

/* This process is demo/shop, which only itself may connect to, and which may reach nothing but the mesh. */
static const char mesh[] =
    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
    "metadata: {name: shop, namespace: demo, labels: {app: shop}}\n"
    "spec: {serviceAccount: shop, selectors: [{uid: %UID%}]}\n"
    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
    "metadata: {name: other, namespace: demo}\nspec: {selectors: [{uid: 12345}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
    "metadata: {name: nobody, namespace: demo}\n"
    "spec: {hosts: [nobody.example], addresses: [240.9.0.3], location: MESH_INTERNAL, resolution: "
    "STATIC, ports: [{number: 7, name: tcp}], endpoints: [{address: 10.99.0.1, ports: {tcp: 7}}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n"
    "metadata: {name: shop, namespace: demo}\n"
    "spec: {workloadSelector: {labels: {app: shop}}, outboundTrafficPolicy: {mode: "
    "REGISTRY_ONLY}}\n"
    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
    "metadata: {name: only-shop, namespace: demo}\n"
    "spec: {selector: {matchLabels: {app: shop}}, rules: [{from: [{source: {principals: "
    "[cluster.local/ns/demo/sa/shop]}}]}]}\n";

static char metrics_addr[32];
static int listener, direct[2], forwarded[2];

static void with_metrics(struct flat_offload *o)
{
	o->metrics_addr = metrics_addr;
}

/* A connection of each path, five bytes on the second, and one that was refused. */
static void begin(void)
{
	struct sockaddr_in to = whole_addr(127, 0, 0, 4, 1);
	char bytes[5];
	int fd;

	/* No other test's address. */
	snprintf(metrics_addr, sizeof(metrics_addr), "127.0.0.3:%u", whole_free_port());
	whole_begin(mesh, with_metrics);
	whole_pair(WHOLE_DIRECT, direct);
	whole_pair(WHOLE_FORWARDED, forwarded);
	whole_send(forwarded[0], "bytes", 5);
	whole_recv(forwarded[1], bytes, 5);
	listener = whole_listen(whole_port());
	fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(flat_connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
	cr_expect_eq(errno, EACCES, "%m");
	flat_close(fd);
}

static void end(void)
{
	for (int i = 0; i < 2; i++) {
		flat_close(direct[i]);
		flat_close(forwarded[i]);
	}
	flat_close(listener);
	whole_end();
}

/* Waits until the answer has it, 10 s at most: what happens on flatd's other threads is counted a little later. The answer. */
static const char *has(const char *(*ask)(const char *question), const char *question,
		       const char *want)
{
	const char *text = ask(question);

	for (int i = 0; i < 1000 && !strstr(text, want); i++) {
		(void)flat_poll(NULL, 0, 10);
		text = ask(question);
	}
	cr_expect_not_null(strstr(text, want), "%s: no '%s' in:\n%s", question, want, text);
	return text;
}

Test(admin, lists_say_what_there_is)
{
	static const char *const questions[] = {"ls", "top", "clusters"};
	static const char *const want[3][5] = {
	    {"direct.example ", " 240.9.0.2 ", " shop.demo ",
	     " direct     shop.demo -> shop.demo\n", " forwarded  shop.demo -> shop.demo\n"},
	    {"direct.example                                   direct            1          1 ",
	     "forwarded.example                                forwarded         1          1      "
	     "    "
	     "    5              0\n",
	     "refused 1, revoked 0\n"},
	    {"forwarded.example:7: 1 on their way", "direct.example:7: 1 on their way"},
	};
	char process[64];

	begin();
	for (size_t i = 0; i < 3; i++) {
		for (size_t k = 0; k < 5 && want[i][k]; k++)
			has(whole_ask, questions[i], want[i][k]);
	}
	snprintf(process, sizeof(process), "  pid %-8d uid %-6u shop.demo", (int)getpid(),
		 (unsigned)getuid());
	has(whole_ask, "ls", process);
	cr_expect_str_eq(whole_ask("peers"), "flatd runs without --svids: no other hosts\n");
	end();
}

/* A member of the first object in the list of that name of an answer. */
static const struct flat_json_node *first(const struct flat_json_node *doc, const char *list,
					  const char *member)
{
	const struct flat_json_node *l = flat_json_member(doc, list);

	return l && l->first ? flat_json_member(l->first, member) : NULL;
}

Test(admin, json_is_whole_and_says_the_same)
{
	static const char *const questions[] = {
	    "ls --json",       "top --json",
	    "peers --json",    "trace --json",
	    "clusters --json", "routes --json",
	    "tophttp",	       "why --json demo/shop forwarded.example:7"};
	const struct flat_json_node *doc;
	double number = 0;

	begin();
	has(whole_ask, "ls", "LISTENERS\n  127.0.0.1:");
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(questions); i++) {
		struct flat_pool pool = {.limit_bytes = 1 << 20};
		const char *text = whole_ask(questions[i]);

		cr_assert_eq(flat_json_read(text, strlen(text), &pool, &doc), 0, "%s: %s",
			     questions[i], text);
		if (i == 0) {
			cr_expect_str_eq(flat_json_member_text(
					     flat_json_member(doc, "sessions")->first, "workload"),
					 "shop.demo");
			cr_assert(flat_json_number(first(doc, "sessions", "pid"), &number));
			cr_expect_eq((int)number, getpid());
			cr_expect_not_null(first(doc, "listeners", "address"));
			cr_expect_not_null(first(doc, "connections", "path"));
			/* Where the refused one wanted to go, and why it did not. */
			cr_expect_not_null(first(doc, "refusals", "reason"));
		}
		if (i == 7) {
			cr_expect_str_eq(flat_json_member_text(doc, "service"),
					 "forwarded.example");
			cr_expect_str_eq(flat_json_member_text(doc, "path"), "forwarded");
		}
		flat_pool_fini(&pool);
	}
	end();
}

Test(admin, why_says_which_way_and_by_which_rule)
{
	static const struct {
		const char *question, *verdict, *reason;
	} some[] = {
	    {"demo/shop direct.example:7",
	     "allowed, path direct\naccelerated: ", "rule 0 of ALLOW policy demo/only-shop ("},
	    {"shop.demo forwarded.example:7", "allowed, path forwarded\n",
	     "the service asks for it; "},
	    {"demo/shop 240.9.0.1:7", "allowed, path direct\n", "accelerated"},
	    {"demo/other direct.example:7", "denied\n", "sa/default (127.0.0.1)"},
	    {"plain direct.example:7", "denied\n", "a client without identity"},
	    {"demo/shop nobody.example:7", "allowed, path kernel\n",
	     "no mesh server listens there"},
	    {"demo/shop 127.0.0.4:1", "denied\n", "REGISTRY_ONLY"},
	    {"demo/other 127.0.0.4:1", "allowed, path kernel\n", ""},
	    {"demo/other [::1]:80", "allowed, path kernel\n", ""},
	    {"demo/none direct.example:7", "denied\n", "there is no such workload"},
	    {"demo/shop nowhere.example:7", "denied\n", "there is no such service or address"},
	    {"demo/shop direct.example", "denied\n", "give HOST:PORT"},
	    {"demo/shop direct.example:0", "denied\n", "give HOST:PORT"},
	    {"demo/shop direct.example:65536", "denied\n", "give HOST:PORT"},
	    {"demo/shop direct.example:7x", "denied\n", "give HOST:PORT"},
	    {"demo/shop []:7", "denied\n", "there is no such service or address"},
	};
	char question[128];

	begin();
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		const char *text;

		snprintf(question, sizeof(question), "why %s", some[i].question);
		text = has(whole_ask, question, some[i].reason);
		cr_expect_eq(strncmp(text, some[i].verdict, strlen(some[i].verdict)), 0, "%s: %s",
			     question, text);
	}
	end();
}

Test(admin, a_socket_is_found_or_its_last_refusal_told)
{
	char question[64];
	struct stat st;

	begin();
	cr_assert_eq(fstat(forwarded[0], &st), 0);
	snprintf(question, sizeof(question), "socket %d %llu -", (int)getpid(),
		 (unsigned long long)st.st_ino);
	has(whole_ask, question,
	    "found forwarded\nshop.demo -> shop.demo (forwarded.example), through flatd");
	cr_assert_eq(fstat(listener, &st), 0);
	snprintf(question, sizeof(question), "socket %d %llu -", (int)getpid(),
		 (unsigned long long)st.st_ino);
	has(whole_ask, question, "found listener\nlistens on 127.0.0.1:");
	snprintf(question, sizeof(question), "socket %d 0 -", (int)getpid());
	has(whole_ask, question, "unknown session\nlast refused 127.0.0.4:1: ");
	cr_expect_str_eq(whole_ask("socket 1 0 -"), "unknown stranger\n");
	end();
}

Test(admin, what_is_no_question_is_answered)
{
	static const char *const questions[] = {
	    "",
	    "\n",
	    "nonsense",
	    "ls more",
	    "why demo/shop",
	    "socket 1 2",
	    "a b c d e f g h i j k l m n o p q r s t",
	};

	begin();
	for (size_t i = 1; i < FLAT_ARRAY_SIZE(questions); i++)
		cr_expect_str_eq(whole_ask(questions[i]), "flatd does not know this question\n",
				 "%s", questions[i]);
	end();
}

/* What the port of metrics answers to `request`, sent in two pieces. */
static const char *scrape(const char *request)
{
	static char text[65536];
	struct sockaddr_in at = whole_addr(127, 0, 0, 3, 0);
	size_t half = strlen(request) / 2;
	size_t len = 0;
	unsigned port;
	ssize_t n;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(sscanf(metrics_addr, "127.0.0.3:%u", &port), 1);
	at.sin_port = htons((uint16_t)port);
	cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0, "%m");
	cr_assert_eq(send(fd, request, half, MSG_NOSIGNAL), (ssize_t)half);
	cr_assert_eq(send(fd, request + half, strlen(request) - half, MSG_NOSIGNAL),
		     (ssize_t)(strlen(request) - half));
	while ((n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
		len += (size_t)n;
	cr_expect_eq(n, 0, "%m");
	text[len] = '\0';
	close(fd);
	return text;
}

Test(admin, metrics_are_counted_and_nothing_else_is_served)
{
	static const struct {
		const char *request, *want;
	} some[] = {
	    {"GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 "},
	    {"GET /metrics HTTP/1.1\r\n\r\n", "\nflat_refused_total{reason=\"egress\"} 1\n"},
	    {"GET /metrics HTTP/1.1\r\n\r\n", "Content-Type: text/plain; version=0.0.4"},
	    {"GET /healthz HTTP/1.1\r\n\r\n", "\r\n\r\nok\n"},
	    {"HEAD /healthz HTTP/1.1\r\n\r\n", "Content-Length: 3\r\nConnection: close\r\n\r\n"},
	    {"GET /etc HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "},
	    {"POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "},
	    {"POST /metrics HTTP/1.1\r\n\r\n", "Allow: GET, HEAD\r\n"},
	    {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
	};
	const char *text;

	begin();
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++)
		has(scrape, some[i].request, some[i].want);
	text = scrape("HEAD /healthz HTTP/1.1\r\n\r\n");
	cr_expect_null(strstr(text, "ok\n"), "%s", text);
	end();
}
