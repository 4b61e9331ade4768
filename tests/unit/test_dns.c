/* Queries of DNS, read strictly, and the answers to them. */
#include <criterion/criterion.h>
#include <string.h>

#include "codec/dns.h"

#define HEAD 12

/* A message put together. */
struct message {
	uint8_t v[2048];
	size_t n;
};

static void bytes(struct message *m, const void *v, size_t n)
{
	memcpy(m->v + m->n, v, n);
	m->n += n;
}

static void number(struct message *m, unsigned int value)
{
	const uint8_t v[] = {(uint8_t)(value >> 8), (uint8_t)value};

	bytes(m, v, 2);
}

/* "db.shop" as labels and the root. */
static void name(struct message *m, const char *text)
{
	while (*text) {
		const char *dot = strchr(text, '.');
		size_t len = dot ? (size_t)(dot - text) : strlen(text);
		uint8_t n = (uint8_t)len;

		bytes(m, &n, 1);
		bytes(m, text, len);
		text += len + (dot != NULL);
	}
	bytes(m, "", 1);
}

static void head(struct message *m, unsigned int flags, const unsigned int counts[4])
{
	m->n = 0;
	number(m, 0x1234);
	number(m, flags);
	for (int i = 0; i < 4; i++)
		number(m, counts[i]);
}

/* One question, and an OPT where `opt` says how much the client takes. */
static struct message query(const char *host, unsigned int type, unsigned int opt)
{
	struct message m = {.n = 0};

	head(&m, 0x0110, (const unsigned int[]){1, 0, 0, opt != 0});
	name(&m, host);
	number(&m, type);
	number(&m, 1);
	if (opt) {
		bytes(&m, "", 1);
		number(&m, FLAT_DNS_OPT);
		number(&m, opt);
		bytes(&m, "\0\0\x80\0\0\0", 6);
	}
	return m;
}

static enum flat_dns_kind kind_of(const struct message *m, struct flat_dns_query *q)
{
	return flat_dns_read(m->v, m->n, q);
}

static unsigned int at16(const uint8_t *p)
{
	return (unsigned int)p[0] << 8 | p[1];
}

Test(dns, reads_a_question)
{
	struct message m = query("DB.Shop.example", FLAT_DNS_A, 0);
	struct flat_dns_query q;

	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	cr_expect_eq(q.id, 0x1234);
	cr_expect_eq(q.type, FLAT_DNS_A);
	cr_expect_eq(q.class, 1);
	cr_expect_str_eq(q.name, "db.shop.example");
	cr_expect_eq(q.question_len, m.n - HEAD);
	cr_expect_eq(q.edns_bytes, 0);
}

Test(dns, reads_opt)
{
	struct message m = query("a", FLAT_DNS_AAAA, 1400);
	struct flat_dns_query q;

	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	cr_expect_eq(q.edns_bytes, 1400);
	cr_expect(q.dnssec);
	cr_expect_eq(q.edns_version, 0);
	m = query("a", FLAT_DNS_AAAA, 100);
	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	cr_expect_eq(q.edns_bytes, FLAT_DNS_UDP_BYTES, "less than 512 counts as 512");
}

Test(dns, every_shorter_message_is_malformed_or_none)
{
	struct message m = query("db.shop.example", FLAT_DNS_A, 1400);
	struct flat_dns_query q;

	for (size_t n = 0; n < m.n; n++) {
		enum flat_dns_kind kind = flat_dns_read(m.v, n, &q);

		cr_expect_eq(kind, n < HEAD ? FLAT_DNS_SILENCE : FLAT_DNS_MALFORMED, "%zu", n);
		cr_expect_eq(q.question_len, 0);
	}
	bytes(&m, "x", 1);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED, "bytes behind its end");
}

Test(dns, an_answer_is_no_query)
{
	struct message m = query("a", FLAT_DNS_A, 0);
	struct flat_dns_query q;

	m.v[2] |= 0x80;
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_SILENCE);
}

Test(dns, other_operations_are_foreign)
{
	struct message m = {.n = 0};
	struct flat_dns_query q;

	head(&m, 0x2800, (const unsigned int[]){1, 0, 1, 0});
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_FOREIGN);
	cr_expect_eq(q.question_len, 0);
}

Test(dns, one_question)
{
	struct message m = query("a", FLAT_DNS_A, 0);
	struct flat_dns_query q;

	m.v[5] = 0;
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
	m.v[5] = 2;
	name(&m, "a");
	number(&m, 1);
	number(&m, 1);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
}

Test(dns, a_question_s_name_has_no_pointer)
{
	struct message m = {.n = 0};
	struct flat_dns_query q;

	/* To itself: a loop for who follows it. */
	head(&m, 0, (const unsigned int[]){1, 0, 0, 0});
	bytes(&m, "\xc0\x0c\0\1\0\1", 6);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
	head(&m, 0, (const unsigned int[]){1, 0, 0, 0});
	bytes(&m, "\1a\xc0\x0c\0\1\0\1", 8);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
	/* Lengths that are none (RFC 6891 took 0x40 back). */
	head(&m, 0, (const unsigned int[]){1, 0, 0, 0});
	bytes(&m, "\x40\1a\0\0\1\0\1", 8);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
}

/* A name of labels of 63 bytes, and one of `last`; 0: none. */
static struct message long_name(size_t labels, size_t last)
{
	struct message m = {.n = 0};
	uint8_t label[64];

	memset(label, 'a', sizeof(label));
	head(&m, 0, (const unsigned int[]){1, 0, 0, 0});
	for (size_t i = 0; i < labels + (last > 0); i++) {
		label[0] = (uint8_t)(i < labels ? 63 : last);
		bytes(&m, label, 1 + (size_t)label[0]);
		label[0] = 'a';
	}
	bytes(&m, "\0\0\1\0\1", 5);
	return m;
}

Test(dns, names_of_up_to_255_bytes)
{
	struct flat_dns_query q;
	struct message m = long_name(3, 61);

	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	cr_expect_eq(strlen(q.name), FLAT_DNS_NAME_MAX - 1);
	cr_expect_eq(q.question_len, FLAT_DNS_QUESTION_MAX);
	m = long_name(3, 62);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
	m = long_name(20, 0);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
}

Test(dns, other_bytes_are_no_host_s_name)
{
	static const char *const labels[] = {"\4a.bc", "\3a b", "\3a\0b", "\2*a", "\2\xc3\xa4", ""};
	static const size_t lens[] = {5, 4, 4, 3, 3, 0};
	struct flat_dns_query q;

	for (size_t i = 0; i < 6; i++) {
		struct message m = {.n = 0};

		head(&m, 0, (const unsigned int[]){1, 0, 0, 0});
		bytes(&m, labels[i], lens[i]);
		bytes(&m, "\0\0\1\0\1", 5);
		cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION, "%zu", i);
		cr_expect_str_eq(q.name, "", "%zu", i);
	}
}

Test(dns, records_are_stepped_over)
{
	struct message m = query("a", FLAT_DNS_A, 0);
	struct flat_dns_query q;

	/* As IXFR has it, its owner a pointer. */
	m.v[9] = 1;
	bytes(&m, "\xc0\x0c\0\6\0\1\0\0\0\0\0\3abc", 15);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	m.v[m.n - 4] = 4;
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED, "longer than the message");
	m.v[8] = 0xff;
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED, "more records than there are");
}

Test(dns, one_opt_at_the_root_and_at_the_end)
{
	struct message m = query("a", FLAT_DNS_A, 1400);
	struct flat_dns_query q;

	m.v[11] = 2;
	bytes(&m, m.v + m.n - 11, 11);
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED);
	m = query("a", FLAT_DNS_A, 1400);
	m.v[11] = 0;
	m.v[7] = 1;
	cr_expect_eq(kind_of(&m, &q), FLAT_DNS_MALFORMED, "among the answers");
}

static const uint8_t ip4[4] = {240, 240, 0, 1};
static const uint8_t ip6[16] = {0xfd, [15] = 1};

Test(dns, answers_with_the_address)
{
	struct message m = query("Db.shop", FLAT_DNS_A, 0);
	struct flat_dns_query q;
	uint8_t out[FLAT_DNS_ANSWER_MAX];

	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	size_t n = flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_NOERROR, ip4, 4);
	cr_assert_eq(n, m.n + 16);
	cr_expect_eq(at16(out), 0x1234);
	cr_expect_eq(at16(out + 2), 0x8590, "QR, AA, RD, RA, CD: %x", at16(out + 2));
	cr_expect(at16(out + 4) == 1 && at16(out + 6) == 1 && at16(out + 8) == 0 &&
		  at16(out + 10) == 0);
	cr_expect_arr_eq(out + HEAD, m.v + HEAD, q.question_len, "the question as it was asked");
	cr_expect_arr_eq(out + m.n, "\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\xf0\xf0\0\1", 16);
}

Test(dns, another_type_has_no_data)
{
	static const unsigned int types[] = {FLAT_DNS_AAAA, 65, 15, 6, 33, 12};
	struct flat_dns_query q;
	uint8_t out[FLAT_DNS_ANSWER_MAX];

	for (size_t i = 0; i < 6; i++) {
		struct message m = query("db.shop", types[i], 0);

		cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
		cr_expect_eq(flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_NOERROR, ip4, 4),
			     m.n, "%u", types[i]);
		cr_expect_eq(at16(out + 2) & 0xf, 0);
		cr_expect_eq(at16(out + 6), 0);
	}
	struct message m = query("db.shop", FLAT_DNS_ANY, 0);
	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	cr_expect_eq(flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_NOERROR, ip4, 4), m.n + 16);
	m = query("db.shop", FLAT_DNS_AAAA, 0);
	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	cr_expect_eq(flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_NOERROR, ip6, 16),
		     m.n + 28);
}

Test(dns, opt_is_answered_with_opt)
{
	struct message m = query("db.shop", FLAT_DNS_A, 1400);
	struct flat_dns_query q;
	uint8_t out[FLAT_DNS_ANSWER_MAX];

	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	size_t n = flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_NOERROR, ip4, 4);
	cr_assert_eq(n, m.n + 16);
	cr_expect_eq(at16(out + 10), 1);
	cr_expect_arr_eq(out + n - 11, "\0\0\x29\x04\xd0\0\0\x80\0\0\0", 11);
	n = flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_BADVERS, ip4, 4);
	cr_assert_eq(n, m.n, "no address");
	cr_expect_eq(at16(out + 2) & 0xf, 0);
	cr_expect_eq(out[n - 6], 1, "its upper bits are in OPT");
}

Test(dns, what_does_not_fit_is_told)
{
	struct message m = query("db.shop", FLAT_DNS_A, 1400);
	struct flat_dns_query q;
	uint8_t out[FLAT_DNS_ANSWER_MAX + 1];

	cr_assert_eq(kind_of(&m, &q), FLAT_DNS_QUESTION);
	for (size_t size = HEAD; size < m.n + 16; size++) {
		out[size] = 0xaa;
		size_t n = flat_dns_write(out, size, m.v, &q, FLAT_DNS_NOERROR, ip4, 4);

		cr_expect(n <= size && out[size] == 0xaa, "%zu", size);
		cr_expect(at16(out + 2) & 0x0200, "TC");
		cr_expect_eq(at16(out + 6), 0);
	}
	struct message most = long_name(3, 61);
	cr_assert_eq(kind_of(&most, &q), FLAT_DNS_QUESTION);
	q.type = FLAT_DNS_AAAA;
	q.edns_bytes = 1232;
	cr_expect_eq(
	    flat_dns_write(out, FLAT_DNS_ANSWER_MAX, most.v, &q, FLAT_DNS_NOERROR, ip6, 16),
	    FLAT_DNS_ANSWER_MAX);
}

Test(dns, malformed_is_answered_by_a_head)
{
	struct message m = query("a", FLAT_DNS_A, 0);
	struct flat_dns_query q;
	uint8_t out[HEAD];

	cr_assert_eq(flat_dns_read(m.v, m.n - 1, &q), FLAT_DNS_MALFORMED);
	cr_assert_eq(flat_dns_write(out, sizeof(out), m.v, &q, FLAT_DNS_FORMERR, NULL, 0), HEAD);
	cr_expect_arr_eq(out, "\x12\x34\x81\x91\0\0\0\0\0\0\0\0", HEAD);
}

Test(dns, answers_are_known)
{
	struct message m = query("db.shop", FLAT_DNS_A, 0);
	const uint8_t *question = m.v + HEAD;
	struct message a = m;
	size_t len = m.n - HEAD;

	cr_expect(!flat_dns_is_answer(a.v, a.n, 0x1234, question, len), "a query");
	a.v[2] |= 0x80;
	cr_expect(flat_dns_is_answer(a.v, a.n, 0x1234, question, len));
	cr_expect(!flat_dns_is_answer(a.v, a.n, 0x1235, question, len));
	cr_expect(!flat_dns_is_answer(a.v, a.n - 1, 0x1234, question, len));
	cr_expect(!flat_dns_is_answer(a.v, 11, 0x1234, question, len));
	a.v[HEAD + 1] = 'D';
	cr_expect(flat_dns_is_answer(a.v, a.n, 0x1234, question, len), "another case");
	a.v[HEAD + 1] = 'x';
	cr_expect(!flat_dns_is_answer(a.v, a.n, 0x1234, question, len), "another name");
	a.v[HEAD + 1] = 'd';
	a.v[a.n - 3] = 28;
	cr_expect(!flat_dns_is_answer(a.v, a.n, 0x1234, question, len), "another type");
	/* 65 and 97 are no letters there. */
	m = query("db.shop", 65, 0);
	a = query("db.shop", 97, 0);
	a.v[2] |= 0x80;
	cr_expect(!flat_dns_is_answer(a.v, a.n, 0x1234, m.v + HEAD, len));
	a.v[5] = 0;
	cr_expect(!flat_dns_is_answer(a.v, HEAD, 0x1234, question, len), "no question, no error");
	a.v[3] |= 2;
	cr_expect(flat_dns_is_answer(a.v, HEAD, 0x1234, question, len),
		  "SERVFAIL may leave it out");
}

Test(dns, ids_are_changed_in_place)
{
	uint8_t v[2] = {0x12, 0x34};

	cr_expect_eq(flat_dns_id(v), 0x1234);
	flat_dns_set_id(v, 0xfe01);
	cr_expect_eq(flat_dns_id(v), 0xfe01);
}
