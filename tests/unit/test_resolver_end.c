/* Threads that ask a resolver which does not answer are not waited for by who ends. The resolver is the test's. */
#include <criterion/criterion.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "control/names.h"
#include "wire/ca.h"
#include "wire/svid_source.h"

static sem_t asked;
static sem_t answer;
static sem_t answered;

/* In place of libc's: says nothing before the test lets it. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		struct addrinfo **found)
{
	(void)node;
	(void)service;
	(void)hints;
	*found = NULL;
	sem_post(&asked);
	sem_wait(&answer);
	sem_post(&answered);
	return EAI_AGAIN;
}

static void setup(void)
{
	sem_init(&asked, 0, 0);
	sem_init(&answer, 0, 0);
	sem_init(&answered, 0, 0);
}

static void now_it_answers(void)
{
	sem_post(&answer);
	sem_wait(&answered);
}

/* Whose thread is in the resolver. */
static struct flat_names *asking(void)
{
	struct flat_names *names = NULL;
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];
	cr_assert_eq(flat_names_open(&names), 0);
	flat_names_begin(names);
	(void)!flat_names_get(names, "nobody.example", v);
	flat_names_settle(names, 0);
	sem_wait(&asked);
	return names;
}

TestSuite(resolver_end, .init = setup, .timeout = 60);

Test(resolver_end, of_endpoints_by_name)
{
	struct flat_names *names = asking();
	/* Comes back, or the test's time is over. */
	flat_names_close(names);
	now_it_answers();
}

Test(resolver_end, of_istios_certificate_service)
{
	char folder[] = "/tmp/flat-resolver.XXXXXX";
	char path[64];
	char uri[256];
	char why[600];
	struct flat_svid_source *source = NULL;
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/ca", folder);
	cr_assert_eq(flat_ca_init(path, "d.example", why, sizeof(why)), 0, "%s", why);
	snprintf(path, sizeof(path), "%s/token", folder);
	FILE *f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs("token", f);
	fclose(f);
	snprintf(uri, sizeof(uri),
		 "istio://nobody.example:15012?token=%s/token&root=%s/ca/ca.crt&for=a/b", folder,
		 folder);
	cr_assert_eq(flat_svid_source_open(uri, &source, why, sizeof(why)), 0, "%s", why);
	sem_wait(&asked);
	flat_svid_source_close(source);
	now_it_answers();
	static const char *const files[] = {"ca/ca.crt", "ca/ca.key", "ca", "token", ""};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
		(void)remove(path);
	}
}

Test(resolver_end, a_thread_that_asks_nobody_is_waited_for)
{
	struct flat_names *names = asking();
	now_it_answers();
	flat_names_close(names);
}
