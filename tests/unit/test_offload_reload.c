/* The configuration again, under connections: what is refused changes nothing, what is taken holds for what there is too. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flat/socket.h>

#include "support_whole.h"

#define WORKLOAD                                                                                   \
	"---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"                                    \
	"metadata: {name: shop, namespace: demo}\nspec: {selectors: [{uid: %UID%}]}\n"
#define POLICY(rules)                                                                              \
	WORKLOAD "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"              \
		 "metadata: {name: p, namespace: demo}\nspec: {action: DENY, rules: [" rules       \
		 "]}\n"

enum { DIRECT, FORWARDED, PAIRS };

static int pairs[PAIRS][2];
static int listener;

static void begin(const char *yaml)
{
	whole_begin(yaml, NULL);
	whole_pair(WHOLE_DIRECT, pairs[DIRECT]);
	whole_pair(WHOLE_FORWARDED, pairs[FORWARDED]);
	listener = whole_listen(whole_port());
}

static void end(void)
{
	for (int i = 0; i < PAIRS; i++) {
		flat_close(pairs[i][0]);
		flat_close(pairs[i][1]);
	}
	flat_close(listener);
	whole_end();
}

/* Each goes both ways. */
static void all_go_on(void)
{
	char bytes[2];

	for (int i = 0; i < PAIRS; i++) {
		whole_send(pairs[i][0], "ab", 2);
		whole_recv(pairs[i][1], bytes, 2);
		cr_expect_eq(memcmp(bytes, "ab", 2), 0);
		whole_send(pairs[i][1], "cd", 2);
		whole_recv(pairs[i][0], bytes, 2);
		cr_expect_eq(memcmp(bytes, "cd", 2), 0);
	}
}

/* Both sides of each hear of it. */
static void all_end(void)
{
	char byte;

	for (int i = 0; i < PAIRS; i++) {
		for (int side = 0; side < 2; side++) {
			(void)whole_poll(pairs[i][side], POLLIN);
			cr_expect_eq(flat_recv(pairs[i][side], &byte, 1, 0), -1);
			cr_expect_eq(errno, ECONNRESET, "%d %d: %m", i, side);
		}
	}
}

/* Waits until flatctl's answer has it, 10 s at most. */
static void becomes(const char *question, const char *want)
{
	const char *text = whole_ask(question);

	for (int i = 0; i < 1000 && !strstr(text, want); i++) {
		(void)flat_poll(NULL, 0, 10);
		text = whole_ask(question);
	}
	cr_assert_not_null(strstr(text, want), "%s: no '%s' in:\n%s", question, want, text);
}

/* -1: refused, with the errno. */
static int try_connect(void)
{
	struct sockaddr_in to = whole_addr(240, 9, 0, 1, 7);
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret = flat_connect(fd, (struct sockaddr *)&to, sizeof(to));
	int err = errno;

	flat_close(fd);
	errno = err;
	return ret;
}

TestSuite(offload_reload, .timeout = 60);

Test(offload_reload, what_is_refused_changes_nothing)
{
	unsigned long before;

	begin(WORKLOAD);
	before = whole_epoch();
	whole_write(POLICY("{to: [{operation: {prots: ['1']}}]}"));
	becomes("ls --json", "\"config_errors\":1");
	cr_expect_eq(whole_epoch(), before);
	all_go_on();
	cr_expect_eq(try_connect(), 0);
	/* Nor does it keep the next one out. */
	whole_apply(POLICY("{}"));
	cr_expect_eq(try_connect(), -1);
	cr_expect_eq(errno, EACCES, "%m");
	end();
}

Test(offload_reload, what_a_policy_forbids_from_now_on_ends)
{
	begin(WORKLOAD);
	all_go_on();
	whole_apply(POLICY("{to: [{operation: {ports: ['1']}}]}"));
	all_go_on();
	whole_apply(POLICY("{}"));
	all_end();
	cr_expect_eq(try_connect(), -1);
	cr_expect_eq(errno, EACCES, "%m");
	becomes("top", "revoked 2");
	end();
}

/* Its listener's port is what policies speak of then too. */
Test(offload_reload, a_server_that_listens_no_more_is_under_its_policies)
{
	begin(WORKLOAD);
	flat_close(listener);
	whole_apply(POLICY("{to: [{operation: {ports: ['1']}}]}"));
	all_go_on();
	whole_apply(POLICY("{to: [{operation: {ports: ['%PORT%']}}]}"));
	all_end();
	listener = whole_listen(whole_port());
	end();
}

/* One connection, at which it listens no more; ends with what it was asked for. */
static void serve_one(void) __attribute__((noreturn));
static void serve_one(void)
{
	int at = whole_listen(whole_port());
	int fd = flat_accept(at, NULL, NULL);
	char byte;

	if (fd < 0 || flat_close(at) != 0 || flat_send(fd, "x", 1, MSG_NOSIGNAL) != 1 ||
	    flat_recv(fd, &byte, 1, 0) != 1)
		_exit(1);
	_exit(0);
}

Test(offload_reload, a_server_that_ends_is_forgotten_with_what_it_served)
{
	int fd, status;
	pid_t server;
	char byte;

	whole_begin(WORKLOAD, NULL);
	server = fork();
	cr_assert_geq(server, 0);
	if (server == 0)
		serve_one();
	becomes("ls", "LISTENERS\n  127.0.0.1:");
	fd = whole_connect(whole_addr(240, 9, 0, 1, 7));
	whole_recv(fd, &byte, 1);
	whole_apply(POLICY("{to: [{operation: {ports: ['1']}}]}"));
	whole_send(fd, "y", 1);
	cr_assert_eq(waitpid(server, &status, 0), server);
	cr_expect_eq(status, 0, "%#x", (unsigned)status);
	cr_expect_leq(flat_recv(fd, &byte, 1, 0), 0);
	flat_close(fd);
	becomes("ls --json", "\"connections\":[]");
	/* Nobody that is gone is asked who it is. */
	whole_apply(WORKLOAD);
	becomes("ls --json", "\"listeners\":[]");
	whole_end();
}

Test(offload_reload, who_a_process_is_follows_it)
{
	char who[64];

	begin(WORKLOAD);
	snprintf(who, sizeof(who), "  pid %-8d uid %-6u shop.demo", (int)getpid(),
		 (unsigned)getuid());
	becomes("ls", who);
	whole_apply("---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
		    "metadata: {name: bank, namespace: demo}\nspec: {selectors: [{uid: %UID%}]}\n");
	snprintf(who, sizeof(who), "  pid %-8d uid %-6u bank.demo", (int)getpid(),
		 (unsigned)getuid());
	becomes("ls", who);
	all_go_on();
	end();
}

Test(offload_reload, of_many_changes_the_last_one_holds)
{
	begin(WORKLOAD);
	for (int i = 0; i < 20; i++)
		whole_write(i % 2 ? WORKLOAD : POLICY("{to: [{operation: {ports: ['1']}}]}"));
	whole_write(POLICY("{from: [{source: {namespaces: [demo]}}]}"));
	becomes("why demo/shop direct.example:7", "denied\n");
	/* And stays: nothing of what came before is loaded later. */
	becomes("top", "revoked 2");
	cr_expect_eq(try_connect(), -1);
	end();
}

/* The service web.example, whose server is at this port. */
static const char *web(uint16_t port)
{
	static char yaml[1024];

	snprintf(yaml, sizeof(yaml),
		 "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
		 "metadata: {name: shop, namespace: demo}\nspec: {selectors: [{uid: %%UID%%}]}\n"
		 "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
		 "metadata: {name: web, namespace: demo}\n"
		 "spec: {hosts: [web.example], addresses: [240.9.1.1], location: MESH_INTERNAL, "
		 "resolution: STATIC, ports: [{number: 7, name: tcp}], endpoints: [{address: "
		 "127.0.0.1, ports: {tcp: %u}}]}\n",
		 port);
	return yaml;
}

Test(offload_reload, servers_that_come_and_go_are_used_and_left)
{
	uint16_t ports[2] = {whole_free_port(), whole_free_port()};
	int listeners[2], first[2], fd;
	char want[32];
	char byte;

	whole_begin(web(ports[0]), NULL);
	for (int i = 0; i < 2; i++)
		listeners[i] = whole_listen(ports[i]);
	first[0] = whole_connect(whole_addr(240, 9, 1, 1, 7));
	first[1] = flat_accept(listeners[0], NULL, NULL);
	cr_assert_geq(first[1], 0);
	whole_write(web(ports[1]));
	snprintf(want, sizeof(want), "to port %u of ", ports[1]);
	becomes("why demo/shop web.example:7", want);
	fd = whole_connect(whole_addr(240, 9, 1, 1, 7));
	whole_poll(listeners[1], POLLIN);
	flat_close(fd);
	/* Who is connected stays so. */
	whole_send(first[0], "x", 1);
	whole_recv(first[1], &byte, 1);
	cr_expect_eq(byte, 'x');
	for (int i = 0; i < 2; i++) {
		flat_close(first[i]);
		flat_close(listeners[i]);
	}
	whole_end();
}
