/*
 * What an external authorizer over HTTP is asked and what its answer does, as Envoy 1.40 takes it (ext_authz_http_impl.cc): which fields
 * of the client's it sees, which of its own go into the request or to the client, what it takes away.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "offload/l7_check_grpc.h"

#define NAMES(...)                                                                                 \
	{                                                                                          \
		.v = (const char *const[]){__VA_ARGS__},                                           \
		.n = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)             \
	}

static struct flat_http1 parsed;

static void parse(enum flat_http1_what what, const char *text)
{
	flat_http1_begin(&parsed, what);
	cr_assert_gt(flat_http1_read(&parsed, (const uint8_t *)text, strlen(text)), 0, "%s", text);
}

/* The question about a request with these fields; the caller frees it. */
static struct flat_strbuf question(const struct flat_ext_authz *ext, const char *fields,
				   const struct flat_l7_check_body *body)
{
	static char text[2048];
	struct flat_strbuf out = {0};
	struct flat_http_request r = {
	    .method = flat_span_of("POST"),
	    .path = flat_span_of("/a"),
	    .query = flat_span_of("b=c"),
	    .authority = flat_span_of("web.example:80"),
	    .head = &parsed.head,
	    .text = text,
	};

	snprintf(text, sizeof(text), "POST /a?b=c HTTP/1.1\r\nHost: web.example:80\r\n%s\r\n",
		 fields);
	parse(FLAT_HTTP1_REQUEST, text);
	flat_l7_check_http_write(&out, ext, &r, body);
	cr_assert_not(out.failed);
	return out;
}

static struct flat_l7_check_answer answer(const struct flat_ext_authz *ext, const char *text)
{
	struct flat_l7_check_answer a = {.allowed = false};

	parse(FLAT_HTTP1_RESPONSE, text);
	flat_l7_check_http_take(&parsed.head, text, ext, &a);
	cr_assert(flat_l7_check_answer_whole(&a));
	return a;
}

static const char *text_of(const struct flat_strbuf *sb)
{
	return sb->len ? sb->data : "";
}

Test(l7_check_http, only_named_fields_and_authorization_are_seen)
{
	static const struct flat_name_value added[] = {{.name = "x-mesh", .value = "ours"}};
	const struct flat_ext_authz ext = {
	    .path_prefix = "/check",
	    .to_check = NAMES("x-team", "x-id-*"),
	    .add_to_check = added,
	    .n_add_to_check = 1,
	};
	struct flat_strbuf out =
	    question(&ext,
		     "Authorization: Bearer t\r\nCookie: secret\r\nX-Team: a\r\n"
		     "x-id-user: u\r\nX-Mesh: forged\r\nContent-Length: 3\r\n",
		     NULL);

	cr_expect_str_eq(text_of(&out), "POST /check/a?b=c HTTP/1.1\r\n"
					"host: web.example:80\r\n"
					"content-length: 0\r\n"
					"Authorization: Bearer t\r\n"
					"X-Team: a\r\n"
					"x-id-user: u\r\n"
					"x-mesh: ours\r\n"
					"\r\n");
	flat_strbuf_fini(&out);
}

Test(l7_check_http, what_frames_the_question_is_never_the_clients)
{
	/* Whatever the provider's list says: a client could else cut the question in two. */
	const struct flat_ext_authz ext = {.path_prefix = "", .to_check = NAMES("*")};
	struct flat_l7_check_body body = {.partial = true};
	struct flat_strbuf out;

	flat_strbuf_puts(&body.bytes, "abc");
	out = question(&ext,
		       "Transfer-Encoding: chunked\r\nConnection: x-hop\r\nx-hop: 1\r\n"
		       "Expect: 100-continue\r\nX-Envoy-Auth-Partial-Body: false\r\nx-a: b\r\n",
		       &body);
	cr_expect_str_eq(text_of(&out), "POST /a?b=c HTTP/1.1\r\n"
					"host: web.example:80\r\n"
					"content-length: 3\r\n"
					"x-envoy-auth-partial-body: true\r\n"
					"x-a: b\r\n"
					"\r\nabc");
	flat_strbuf_fini(&out);
	/* Nor is it where no body is seen, and nothing is said of one. */
	out = question(&ext, "X-Envoy-Auth-Partial-Body: true\r\n", NULL);
	cr_expect_null(strcasestr(text_of(&out), "partial"), "%s", text_of(&out));
	flat_strbuf_fini(&out);
	flat_strbuf_fini(&body.bytes);
}

Test(l7_check_http, an_allowed_request_gets_the_named_fields_the_last_of_a_name)
{
	const struct flat_ext_authz ext = {
	    .to_upstream = NAMES("x-user", "x-group*"),
	    .to_client_on_allow = NAMES("x-quota"),
	    .to_client_on_deny = NAMES("x-reason"),
	};
	struct flat_l7_check_answer a = answer(
	    &ext,
	    "HTTP/1.1 200 OK\r\nX-User: first\r\nx-user: last\r\nx-groups: g\r\nx-quota: 9\r\n"
	    "x-reason: no\r\nx-other: no\r\nDate: today\r\nContent-Length: 0\r\n\r\n");

	cr_expect_str_eq(text_of(&a.upstream), "x-user: last\r\nx-groups: g\r\n");
	cr_expect_str_eq(text_of(&a.client[FLAT_L7_SAY_ADD]), "x-quota: 9\r\n");
	cr_expect_eq(a.remove.len, 0);
	flat_l7_check_answer_fini(&a);
}

Test(l7_check_http, a_denied_client_is_told_the_named_fields_or_all)
{
	static const char text[] =
	    "HTTP/1.1 302 Found\r\nLocation: /login\r\nWWW-Authenticate: Basic\r\nx-reason: r\r\n"
	    "x-user: u\r\nDate: today\r\nContent-Length: 4\r\nConnection: close\r\n"
	    "x-envoy-auth-headers-to-remove: x-reason\r\n\r\n";
	const struct flat_ext_authz all = {.to_upstream = NAMES("x-user")};
	const struct flat_ext_authz some = {.to_client_on_deny = NAMES("x-reason")};
	struct flat_l7_check_answer a = answer(&all, text);

	cr_expect_str_eq(
	    text_of(&a.client[FLAT_L7_SAY_ADD]),
	    "Location: /login\r\nWWW-Authenticate: Basic\r\nx-reason: r\r\nx-user: u\r\n");
	cr_expect_eq(a.upstream.len + a.remove.len, 0);
	flat_l7_check_answer_fini(&a);
	a = answer(&some, text);
	cr_expect_str_eq(text_of(&a.client[FLAT_L7_SAY_ADD]),
			 "Location: /login\r\nWWW-Authenticate: Basic\r\nx-reason: r\r\n");
	flat_l7_check_answer_fini(&a);
}

Test(l7_check_http, an_allowed_request_loses_what_the_authorizer_takes_away)
{
	const struct flat_ext_authz ext = {
	    .to_upstream = NAMES("*"),
	    .to_client_on_allow = NAMES("*"),
	};
	struct flat_l7_check_answer a = answer(
	    &ext, "HTTP/1.1 200 OK\r\nX-Envoy-Auth-Headers-To-Remove: cookie ,, x-kept,Host\r\n"
		  "x-kept: set\r\nx-envoy-auth-headers-to-remove: authorization,a b\r\n"
		  "x-set: s\r\nContent-Length: 0\r\n\r\n");

	/* Each name with its NUL; the request's host and what is no name are not the authorizer's to take. */
	static const char removed[] = "cookie\0x-kept\0authorization";

	cr_assert_eq(a.remove.len, sizeof(removed));
	cr_expect_arr_eq(a.remove.data, removed, sizeof(removed));
	cr_expect_str_eq(text_of(&a.upstream), "x-set: s\r\n");
	cr_expect_str_eq(text_of(&a.client[FLAT_L7_SAY_ADD]), "x-kept: set\r\nx-set: s\r\n");
	flat_l7_check_answer_fini(&a);
}
