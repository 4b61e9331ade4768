/* A request's descriptors of rate limits, against Envoy's actions of the same names, and which buckets they are of. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "codec/http1.h"
#include "offload/l7_limit.h"

static struct flat_l7 l7;
static struct flat_conn conn;
static struct flat_label labels[] = {{"app", "shop"}};
static struct flat_workload workload = {.name = "w", .namespace = "demo"};
static struct flat_session session;
static struct flat_listener listener;
static struct flat_service service = {.host = "web.example"};
static struct flat_http1 parser;
static struct flat_http_request request;
static struct flat_l7_limit_making making;
static struct flat_limit_place place;

static void setup(void)
{
	conn.from = (struct flat_addr){.family = AF_INET, .ip = {10, 1, 2, 3}, .port = 1};
	workload.labels = (struct flat_labels){labels, 1};
	session.workload = &workload;
	listener.session = &session;
	listener.addr.port = 8080;
	l7.conn = &conn;
	l7.port = 80;
	l7.x.target.listener = &listener;
	l7.x.service = &service;
	flat_l7_limit_place(&l7, false, &place);
	making.l7 = &l7;
	making.request = &request;
	making.place = &place;
}

TestSuite(limit_keys, .init = setup);

/* A GET of "/a" with this query (NULL: none) and these fields. */
static void ask(const char *query, const char *fields)
{
	static char text[4096];
	int n = snprintf(text, sizeof(text), "GET /a HTTP/1.1\r\nHost: web.example:80\r\n%s\r\n",
			 fields);

	flat_http1_begin(&parser, FLAT_HTTP1_REQUEST);
	cr_assert_eq(flat_http1_read(&parser, (uint8_t *)text, (size_t)n), n);
	request = (struct flat_http_request){
	    .method = flat_span_of("GET"),
	    .path = flat_span_of("/a"),
	    .query = {query, query ? strlen(query) : 0},
	    .authority = flat_span_of("web.example:80"),
	    .host = flat_span_of("web.example"),
	    .head = &parser.head,
	    .text = text,
	};
}

/* "key=value;..." of one rule's descriptor; "-": there is none. Valid until the next call. */
static const char *made_by(struct flat_limit_action *actions, uint32_t n)
{
	static char text[1024];
	struct flat_limit_rule rule = {.actions = actions, .n = n};
	struct flat_l7_descriptor d;
	size_t len = 0;

	making.used = 0;
	if (!flat_l7_descriptor_make(&making, &rule, &d))
		return "-";
	for (uint32_t i = 0; i < d.n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%.*s", i ? ";" : "",
					d.key[i], (int)d.value[i].len, d.value[i].text);
	return text;
}

static const char *made(struct flat_limit_action action)
{
	action.key = "k";
	return made_by(&action, 1);
}

static struct flat_limit_action of_header(const char *name)
{
	return (struct flat_limit_action){.kind = FLAT_LIMIT_HEADER, .name = name};
}

Test(limit_keys, a_header_or_what_stands_for_one)
{
	ask("q=1", "X-User: ann\r\nX-Many: a\r\nx-many: b\r\nX-Empty:\r\n");
	cr_expect_str_eq(made(of_header("x-user")), "k=ann");
	cr_expect_str_eq(made(of_header("x-many")), "k=a,b");
	cr_expect_str_eq(made(of_header("x-empty")), "k=");
	cr_expect_str_eq(made(of_header("x-none")), "-");
	cr_expect_str_eq(made(of_header(":method")), "k=GET");
	cr_expect_str_eq(made(of_header(":path")), "k=/a?q=1");
	cr_expect_str_eq(made(of_header(":authority")), "k=web.example:80");
	cr_expect_str_eq(made(of_header("host")), "k=web.example:80");
	ask(NULL, "");
	cr_expect_str_eq(made(of_header(":path")), "k=/a");
	/* A question mark with nothing behind it was written. */
	ask("", "");
	cr_expect_str_eq(made(of_header(":path")), "k=/a?");
}

Test(limit_keys, without_a_value_there_is_none_or_the_others_count)
{
	struct flat_limit_action v[] = {
	    {.kind = FLAT_LIMIT_HEADER, .key = "h", .name = "x-none", .skips = true},
	    {.kind = FLAT_LIMIT_GENERIC, .key = "g", .value = "v"},
	};

	ask(NULL, "");
	cr_expect_str_eq(made_by(v, 2), "g=v");
	cr_expect_str_eq(made_by(v, 1), "-");
	v[0].skips = false;
	cr_expect_str_eq(made_by(v, 2), "-");
	cr_expect_str_eq(made_by(v, 0), "-");
}

Test(limit_keys, the_clients_address_and_its_network)
{
	struct flat_limit_action masked = {.kind = FLAT_LIMIT_MASKED, .prefix4 = 20, .prefix6 = 56};
	struct flat_limit_action remote = {.kind = FLAT_LIMIT_REMOTE};

	ask(NULL, "");
	cr_expect_str_eq(made(remote), "k=10.1.2.3");
	cr_expect_str_eq(made(masked), "k=10.1.0.0/20");
	masked.prefix4 = 0;
	cr_expect_str_eq(made(masked), "k=0.0.0.0/0");
	/* Who bound nothing is of this host. */
	conn.from.family = 0;
	cr_expect_str_eq(made(remote), "k=127.0.0.1");
	/* What a trusted proxy said counts more. */
	cr_assert_eq(flat_ip_parse("2001:db8:1:2ff::9", &l7.x.remote), 0);
	cr_expect_str_eq(made(remote), "k=2001:db8:1:2ff::9");
	cr_expect_str_eq(made(masked), "k=2001:db8:1:200::/56");
}

Test(limit_keys, clusters_are_named_as_istiod_names_them)
{
	struct flat_limit_action from = {.kind = FLAT_LIMIT_SOURCE};
	struct flat_limit_action to = {.kind = FLAT_LIMIT_DESTINATION};

	ask(NULL, "");
	cr_expect_str_eq(made(from), "k=shop.demo");
	cr_expect_str_eq(made(to), "k=inbound|8080||");
	workload.labels.n = 0;
	cr_expect_str_eq(made(from), "k=w.demo");
	place.workload = NULL;
	cr_expect_str_eq(made(from), "k=");
	place.gateway = true;
	cr_expect_str_eq(made(to), "k=outbound|0||web.example");
	struct flat_service_port port = {.number = 80};
	struct flat_route_destination d = {.host = "web", .subset_name = "v1"};

	l7.x.port = &port;
	l7.x.destination = &d;
	cr_expect_str_eq(made(to), "k=outbound|80|v1|web");
}

Test(limit_keys, matches_of_headers_and_parameters)
{
	struct flat_limit_header h = {.name = "x-a",
				      .match = {.kind = FLAT_TEXT_EXACT, .text = "1", .len = 1}};
	struct flat_limit_action a = {
	    .kind = FLAT_LIMIT_HEADER_MATCH, .value = "yes", .headers = &h, .n_headers = 1};

	ask("x-a=2&b=3", "X-A: 1\r\n");
	cr_expect_str_eq(made(a), "k=yes");
	h.invert = true;
	cr_expect_str_eq(made(a), "-");
	a.unless = true;
	cr_expect_str_eq(made(a), "k=yes");
	h.invert = a.unless = false;
	a.kind = FLAT_LIMIT_QUERY_MATCH;
	cr_expect_str_eq(made(a), "-");
	h.match.text = "2";
	cr_expect_str_eq(made(a), "k=yes");
	struct flat_limit_action q = {.kind = FLAT_LIMIT_QUERY, .name = "b"};

	cr_expect_str_eq(made(q), "k=3");
	q.name = "c";
	cr_expect_str_eq(made(q), "-");
}

Test(limit_keys, a_request_says_how_many_it_counts_as)
{
	static const struct {
		const char *fields;
		bool has;
		uint32_t hits;
	} v[] = {
	    {"", true, 7},
	    {"X-Hits: 0\r\n", true, 0},
	    {"X-Hits: 12\r\n", true, 12},
	    {"X-Hits: 1000000000\r\n", true, 1000000000},
	    {"X-Hits: 1000000001\r\n", true, 7},
	    {"X-Hits: -1\r\n", true, 7},
	    {"X-Hits: 1x\r\n", true, 7},
	    {"X-Hits: 99999999999\r\n", true, 7},
	    {"X-Hits: 1\r\nX-Hits: 2\r\n", true, 7},
	    {"X-Hits:\r\n", true, 7},
	};
	struct flat_limit_action a = {.kind = FLAT_LIMIT_GENERIC, .key = "k", .value = "v"};
	struct flat_limit_rule rule = {
	    .actions = &a, .n = 1, .has_hits = true, .hits = 7, .hits_header = "x-hits"};

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct flat_l7_descriptor d;

		ask(NULL, v[i].fields);
		making.used = 0;
		cr_assert(flat_l7_descriptor_make(&making, &rule, &d));
		cr_expect_eq(d.has_hits, v[i].has, "%s", v[i].fields);
		cr_expect_eq(d.hits, v[i].hits, "%s: %u", v[i].fields, d.hits);
	}
}

/* --- buckets --- */

Test(limit_keys, buckets_are_of_the_same_entries_in_the_same_order)
{
	struct flat_limit_action actions[] = {
	    {.kind = FLAT_LIMIT_GENERIC, .key = "g", .value = "v"},
	    {.kind = FLAT_LIMIT_HEADER, .key = "u", .name = "x-user"},
	};
	struct flat_limit_rule rule = {.actions = actions, .n = 2};
	struct flat_limit_entry fixed[] = {{"g", "v"}, {"u", "ann"}};
	struct flat_limit_entry turned[] = {{"u", "ann"}, {"g", "v"}};
	struct flat_limit_entry any[] = {{"g", "v"}, {"u", NULL}};
	struct flat_limit_descriptor d[] = {{.entries = fixed, .n = 2},
					    {.entries = turned, .n = 2},
					    {.entries = fixed, .n = 1},
					    {.entries = any, .n = 2}};
	struct flat_local_limit limit = {
	    .rules = &rule, .n_rules = 1, .descriptors = d, .n_descriptors = 4};
	struct flat_l7_limit_key keys[FLAT_L7_LIMIT_KEYS_MAX];

	ask(NULL, "X-User: ann\r\n");
	cr_assert_eq(flat_l7_limit_keys(&l7, &request, &limit, 1, keys), 2);
	cr_expect_eq(keys[0].descriptor, 0);
	cr_expect_not(keys[0].dynamic);
	cr_expect_eq(keys[0].hash, 0);
	cr_expect_eq(keys[0].hits, 1);
	cr_expect_eq(keys[1].descriptor, 3);
	cr_expect(keys[1].dynamic);
	uint64_t ann = keys[1].hash;

	/* The same again is the same bucket; another value, and another seed, are others. */
	cr_assert_eq(flat_l7_limit_keys(&l7, &request, &limit, 1, keys), 2);
	cr_expect_eq(keys[1].hash, ann);
	cr_assert_eq(flat_l7_limit_keys(&l7, &request, &limit, 2, keys), 2);
	cr_expect_neq(keys[1].hash, ann);
	ask(NULL, "X-User: bob\r\n");
	cr_assert_eq(flat_l7_limit_keys(&l7, &request, &limit, 1, keys), 1);
	cr_expect_eq(keys[0].descriptor, 3);
	cr_expect_neq(keys[0].hash, ann);
	ask(NULL, "");
	cr_expect_eq(flat_l7_limit_keys(&l7, &request, &limit, 1, keys), 0);
}
