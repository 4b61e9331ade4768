/* How Istio's certificate service is named; asking it is tests/e2e/istio_ca.sh. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "wire/istio_ca.h"

TestSuite(wire_istio_ca, .timeout = 10);

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
