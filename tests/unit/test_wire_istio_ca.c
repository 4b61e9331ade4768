/* How Istio's certificate service is named, and found; asking it is tests/e2e/istio_ca.sh. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support_wire.h"
#include "wire/istio_ca.h"

TestSuite(wire_istio_ca, .timeout = 60);

Test(wire_istio_ca, names_are_read_with_their_options)
{
	static const char *const good[] = {
	    "istio://istiod.istio-system.svc:15012",
	    "istio://[::1]:15012?name=istiod.test",
	    "istio://h:1?token=/a/b&root=/c&cluster=x&domain=d.example&for=shop/web&for=shop/db",
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(good); i++) {
		struct flat_istio_ca *ca = NULL;
		char why[256];
		cr_assert(flat_istio_ca_is(good[i]));
		cr_assert_eq(flat_istio_ca_open(good[i], &ca, why, sizeof(why)), 0, "%s: %s",
			     good[i], why);
		flat_istio_ca_close(ca);
	}
	cr_assert(!flat_istio_ca_is("unix:///x") && !flat_istio_ca_is("/istio://x"));
}

Test(wire_istio_ca, what_is_no_name_is_refused_with_a_sentence)
{
	static const char *const wrong[] = {
	    "istio://",
	    "istio://host",
	    "istio://host:",
	    "istio://:15012",
	    "istio://h:1?for=web",
	    "istio://h:1?for=a/b/c",
	    "istio://h:1?for=a/%",
	    "istio://h:1?to=shop/x",
	    "istio://h:1?token",
	    "istio://h:1?token=",
	    "istio://h:1?for=/",
	    "istio://h:1?domain=D&for=a/b",
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(wrong); i++) {
		struct flat_istio_ca *ca = NULL;
		char why[256] = "";
		cr_assert_eq(flat_istio_ca_open(wrong[i], &ca, why, sizeof(why)), -EINVAL, "%s",
			     wrong[i]);
		cr_assert(why[0]);
	}
}

Test(wire_istio_ca, a_service_that_cannot_be_reached_is_told)
{
	struct flat_istio_ca *ca = NULL;
	struct flat_svids *set = NULL;
	char why[256];
	cr_assert_eq(
	    flat_istio_ca_open("istio://127.0.0.1:1?token=/nowhere/token", &ca, why, sizeof(why)),
	    0);
	int err = flat_istio_ca_ask(ca, -1, &set, why, sizeof(why));
	cr_assert_lt(err, 0);
	cr_assert_null(set);
	cr_assert(why[0]);
	cr_assert_leq(flat_istio_ca_wait_ms(ca), 1000);
	flat_istio_ca_close(ca);
}

/* --- a name with several addresses --- */

static struct sockaddr_in places[3];
static struct addrinfo found[3];
static size_t n_found;

/* In the place of the C library's: what the test says. */
int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **out)
{
	(void)host;
	(void)port;
	(void)hints;
	for (size_t i = 0; i < n_found; i++)
		found[i] = (struct addrinfo){.ai_family = AF_INET,
					     .ai_socktype = SOCK_STREAM,
					     .ai_addr = (struct sockaddr *)&places[i],
					     .ai_addrlen = sizeof(places[i]),
					     .ai_next = i + 1 < n_found ? &found[i + 1] : NULL};
	*out = found;
	return n_found ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *all)
{
	(void)all;
}

/* A bound socket's address; `backlog` < 0: nobody listens. */
static int place(struct sockaddr_in *at, int backlog)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*at);
	*at =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	if (backlog >= 0)
		cr_assert_eq(listen(fd, backlog), 0);
	return fd;
}

static void *take_one_and_end_it(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);
	close(fd);
	return fd >= 0 ? arg : NULL;
}

static int ask(int stop_fd, char *why, size_t size)
{
	struct wire_folder f;
	struct flat_istio_ca *ca = NULL;
	struct flat_svids *set = NULL;
	char uri[300];
	wire_folder_init(&f, "d");
	/* A token of one line. */
	snprintf(why, size, "%s/token", f.svids);
	FILE *token = fopen(why, "we");
	fputs("t\n", token);
	(void)fclose(token);
	snprintf(uri, sizeof(uri), "istio://here:1?token=%s&root=%s/d.bundle", why, f.svids);
	cr_assert_eq(flat_istio_ca_open(uri, &ca, why, size), 0, "%s", why);
	int err = flat_istio_ca_ask(ca, stop_fd, &set, why, size);
	cr_assert_null(set);
	flat_istio_ca_close(ca);
	wire_folder_fini(&f);
	return err;
}

Test(wire_istio_ca, the_next_address_is_tried_where_one_refuses)
{
	char why[256];
	int fds[3];
	void *taken;
	pthread_t thread;
	/* As flatd: who writes by OpenSSL to one that has closed. */
	(void)signal(SIGPIPE, SIG_IGN);
	n_found = 3;
	for (int i = 0; i < 3; i++)
		fds[i] = place(&places[i], i == 2 ? 1 : -1);
	cr_assert_eq(pthread_create(&thread, NULL, take_one_and_end_it, &fds[2]), 0);
	int err = ask(-1, why, sizeof(why));
	cr_expect_lt(err, 0);
	cr_expect(strstr(why, "ended the connection") || strstr(why, "unexpected eof") ||
		      strstr(why, "reset"),
		  "%s", why);
	/* Nobody was there: who waits for it does not wait for ever. */
	shutdown(fds[2], SHUT_RDWR);
	cr_assert_eq(pthread_join(thread, &taken), 0);
	cr_expect_not_null(taken);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

Test(wire_istio_ca, where_no_address_answers_the_reason_is_told)
{
	char why[256];
	int fds[2];
	n_found = 2;
	for (int i = 0; i < 2; i++)
		fds[i] = place(&places[i], -1);
	cr_expect_eq(ask(-1, why, sizeof(why)), -ECONNREFUSED);
	cr_expect(strstr(why, "Connection refused (the last of its addresses)"), "%s", why);
	for (int i = 0; i < 2; i++)
		close(fds[i]);
}

Test(wire_istio_ca, who_is_told_to_stop_waits_for_no_address)
{
	char why[256];
	int stop = eventfd(0, EFD_CLOEXEC);
	int full = place(&places[0], 0);
	int waiting[2];
	/* The queue of those not taken yet is full: one more hears nothing. */
	for (int i = 0; i < 2; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(waiting[i], (struct sockaddr *)&places[0], sizeof(places[0]));
	}
	n_found = 1;
	cr_expect_eq(ask(-1, why, sizeof(why)), -ETIMEDOUT, "%s", why);
	cr_assert_eq(eventfd_write(stop, 1), 0);
	cr_expect_eq(ask(stop, why, sizeof(why)), -ECANCELED, "%s", why);
	for (int i = 0; i < 2; i++)
		close(waiting[i]);
	close(full);
	close(stop);
}
