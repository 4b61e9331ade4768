/* A client's first message of TLS: which name it asks for, whatever the split; what is no such message. */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "wire/hello.h"

#define RAW_MAX (FLAT_HELLO_MAX + 4096)

/* A message under construction. */
struct bytes {
	uint8_t v[RAW_MAX];
	size_t len;
};

static void put(struct bytes *b, const void *from, size_t len)
{
	cr_assert_leq(b->len + len, sizeof(b->v));
	memcpy(b->v + b->len, from, len);
	b->len += len;
}

static void put_number(struct bytes *b, size_t n, size_t value)
{
	for (; n > 0; n--)
		put(b, &(uint8_t){(uint8_t)(value >> 8 * (n - 1))}, 1);
}

static void put_vector(struct bytes *b, size_t n, const struct bytes *of)
{
	put_number(b, n, of->len);
	put(b, of->v, of->len);
}

/* An extension server_name of one host. */
static void put_sni(struct bytes *b, const char *host)
{
	put_number(b, 2, 0);
	put_number(b, 2, strlen(host) + 5);
	put_number(b, 2, strlen(host) + 3);
	put_number(b, 1, 0);
	put_number(b, 2, strlen(host));
	put(b, host, strlen(host));
}

/* A ClientHello with these extensions, NULL: without any; its header says `type`. */
static struct bytes message(const struct bytes *extensions, uint8_t type)
{
	static struct bytes body;
	struct bytes m = {.len = 0};

	body.len = 0;
	put_number(&body, 2, 0x0303);
	put(&body, "0123456789abcdef0123456789abcdef", 32);
	put_number(&body, 1, 0);
	put_number(&body, 2, 2);
	put_number(&body, 2, 0x1301);
	put_number(&body, 1, 1);
	put_number(&body, 1, 0);
	if (extensions)
		put_vector(&body, 2, extensions);
	put_number(&m, 1, type);
	put_vector(&m, 3, &body);
	return m;
}

/* In records of `piece` bytes each. */
static struct bytes records(const struct bytes *m, size_t piece)
{
	struct bytes raw = {.len = 0};

	for (size_t at = 0; at < m->len; at += piece) {
		size_t n = flat_min_size(piece, m->len - at);

		put_number(&raw, 1, 22);
		put_number(&raw, 2, 0x0301);
		put_number(&raw, 2, n);
		put(&raw, m->v + at, n);
	}
	return raw;
}

static struct bytes asking_for(const char *host)
{
	struct bytes e = {.len = 0};

	put_number(&e, 2, 43);
	put_number(&e, 2, 3);
	put(&e, "\x02\x03\x04", 3);
	put_sni(&e, host);
	return message(&e, 1);
}

/* What all of it comes to, the same when it comes byte by byte, and in two pieces wherever they part. */
static int read_all(const struct bytes *raw, char host[FLAT_HELLO_HOST_SIZE])
{
	struct flat_hello whole = {.at = 0};
	struct flat_hello single = {.at = 0};
	int err = flat_hello_read(&whole, raw->v, raw->len);
	int one = -EAGAIN;

	for (size_t n = 0; n <= raw->len && one == -EAGAIN; n++)
		one = flat_hello_read(&single, raw->v, n);
	cr_assert_eq(err, one, "whole %d, byte by byte %d", err, one);
	for (size_t n = 0; n < raw->len && raw->len < 700; n++) {
		struct flat_hello two = {.at = 0};
		uint8_t *first = malloc(n + 1);
		int part;

		cr_assert_not_null(first);
		memcpy(first, raw->v, n);
		part = flat_hello_read(&two, first, n);
		free(first);
		if (part == -EAGAIN)
			part = flat_hello_read(&two, raw->v, raw->len);
		cr_assert_eq(part, err, "parted at %zu: %d, whole %d", n, part, err);
		if (err == 0)
			cr_assert_str_eq(two.host, whole.host);
	}
	if (err == 0)
		cr_assert_str_eq(whole.host, single.host);
	memcpy(host, err == 0 ? whole.host : (char[FLAT_HELLO_HOST_SIZE]){""},
	       FLAT_HELLO_HOST_SIZE);
	return err;
}

Test(hello, the_name_is_found_wherever_the_bytes_part)
{
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes m = asking_for("Shop.Example.COM");

	for (size_t piece = 1; piece <= m.len; piece += piece < 8 ? 1 : 37) {
		struct bytes raw = records(&m, piece);

		cr_assert_eq(read_all(&raw, host), 0, "records of %zu", piece);
		cr_assert_str_eq(host, "shop.example.com");
	}
}

Test(hello, what_follows_the_message_is_left_alone)
{
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes m = asking_for("a.b");
	struct bytes raw = records(&m, m.len);

	/* Early data: a record of another type. */
	put(&raw, "\x17\x03\x03\x00\x04rest", 9);
	cr_assert_eq(read_all(&raw, host), 0);
	cr_assert_str_eq(host, "a.b");
}

Test(hello, clients_may_name_nobody)
{
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes none = {.len = 0};
	struct bytes m = message(NULL, 1);
	struct bytes raw = records(&m, m.len);

	cr_assert_eq(read_all(&raw, host), 0);
	cr_assert_str_eq(host, "");
	m = message(&none, 1);
	raw = records(&m, m.len);
	cr_assert_eq(read_all(&raw, host), 0);
	cr_assert_str_eq(host, "");
}

Test(hello, names_that_could_be_read_in_two_ways_are_none)
{
	static const char *const bad[] = {
	    "a.", ".a", "a b", "a\tb", "a/b", "*.a", "\xc3\xa9.example", "[::1]", "a:1"};
	static const char *const good[] = {"a", "a-b_c.d0", "10.0.0.1"};
	char host[FLAT_HELLO_HOST_SIZE];
	char name[FLAT_HELLO_HOST_SIZE + 1];
	struct bytes m;
	struct bytes raw;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		m = asking_for(bad[i]);
		raw = records(&m, m.len);
		cr_expect_eq(read_all(&raw, host), -EPROTO, "%s", bad[i]);
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(good); i++) {
		m = asking_for(good[i]);
		raw = records(&m, m.len);
		cr_expect_eq(read_all(&raw, host), 0, "%s", good[i]);
	}
	memset(name, 'a', sizeof(name));
	for (size_t len = 254; len <= 256; len++) {
		name[len] = 0;
		m = asking_for(name);
		raw = records(&m, m.len);
		cr_expect_eq(read_all(&raw, host), len < 256 ? 0 : -EPROTO, "%zu", len);
		name[len] = 'a';
	}
	m = asking_for("");
	raw = records(&m, m.len);
	cr_expect_eq(read_all(&raw, host), -EPROTO);
}

Test(hello, two_names_are_one_too_many)
{
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes e = {.len = 0};
	struct bytes m;
	struct bytes raw;

	put_sni(&e, "a.example");
	put_sni(&e, "b.example");
	m = message(&e, 1);
	raw = records(&m, m.len);
	cr_expect_eq(read_all(&raw, host), -EPROTO);
	/* In one extension. */
	e.len = 0;
	put_number(&e, 2, 0);
	put_number(&e, 2, 10);
	put_number(&e, 2, 8);
	put(&e, "\0\0\1a\0\0\1b", 8);
	m = message(&e, 1);
	raw = records(&m, m.len);
	cr_expect_eq(read_all(&raw, host), -EPROTO);
}

Test(hello, other_protocols_are_known_by_their_first_bytes)
{
	static const char *const first[] = {"G",
					    "\x80\x2e\x01\x03\x01",
					    "\x17\x03",
					    "\x16\x02",
					    "\x16\x03\x01\0\0",
					    "\x16\x03\x01\x40\x01",
					    "\x16\x03\x01\0\x05\x02"};
	static const size_t len[] = {1, 5, 2, 2, 5, 5, 6};
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes raw;

	for (size_t i = 0; i < FLAT_ARRAY_SIZE(first); i++) {
		raw.len = 0;
		put(&raw, first[i], len[i]);
		cr_expect_eq(read_all(&raw, host), -EPROTO, "case %zu", i);
	}
}

Test(hello, lengths_that_do_not_fit_are_refused)
{
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes m = asking_for("a.b");
	struct bytes raw = records(&m, m.len);

	/* Each byte of the message that is a length or a type, off by one. */
	for (size_t at = 5; at < raw.len; at++) {
		struct bytes other = raw;
		int err;

		other.v[at]++;
		err = read_all(&other, host);
		/* The random, the session's name, cipher suites and what is inside of extensions are anything. */
		cr_expect(err == 0 || err == -EPROTO || err == -EAGAIN || err == -EMSGSIZE,
			  "at %zu: %d", at, err);
		if (at >= 9 && at < 11)
			cr_expect_eq(err == -EPROTO, at == 9, "the version at %zu: %d", at, err);
	}
	/* More in the record than the message. */
	put(&m, "\0", 1);
	raw = records(&m, m.len);
	cr_expect_eq(read_all(&raw, host), -EPROTO);
	m = asking_for("a.b");
	m.v[3]++;
	raw = records(&m, m.len);
	cr_expect_eq(read_all(&raw, host), -EAGAIN);
}

Test(hello, long_messages_are_refused_as_soon_as_they_say_so)
{
	static uint8_t padding[FLAT_HELLO_MAX];
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes e = {.len = 0};
	struct bytes m;
	struct bytes raw;
	size_t most = FLAT_HELLO_MAX - 5 - 4 - 43 - 4;

	/* As long as may be, and one more. */
	for (size_t n = most; n <= most + 1; n++) {
		e.len = 0;
		put_number(&e, 2, 21);
		put_number(&e, 2, n);
		put(&e, padding, n);
		m = message(&e, 1);
		raw = records(&m, 16384);
		cr_expect_eq(read_all(&raw, host), n == most ? 0 : -EMSGSIZE, "%zu", raw.len);
	}
	cr_expect_eq(flat_hello_read(&(struct flat_hello){.at = 0},
				     (const uint8_t *)"\x16\x03\x01\0\x04\x01\1\0\0", 9),
		     -EMSGSIZE);
}

Test(hello, many_records_are_bounded_as_one_is)
{
	static uint8_t padding[15500];
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes e = {.len = 0};
	struct bytes m;

	put_number(&e, 2, 21);
	put_number(&e, 2, sizeof(padding));
	put(&e, padding, sizeof(padding));
	m = message(&e, 1);
	/* The last record that fits ends at any distance from the bound. */
	for (size_t piece = 60; piece < 140; piece++) {
		struct bytes raw = records(&m, piece);
		int err = read_all(&raw, host);

		cr_expect_eq(err, raw.len <= FLAT_HELLO_MAX ? 0 : -EMSGSIZE, "%zu: %d", piece, err);
	}
}

Test(hello, openssl_s_own_is_read)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *out = BIO_new(BIO_s_mem());
	char host[FLAT_HELLO_HOST_SIZE];
	struct bytes raw = {.len = 0};

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
	SSL_set_tlsext_host_name(ssl, "Real.Example");
	SSL_set_connect_state(ssl);
	cr_assert_eq(SSL_do_handshake(ssl), -1);
	raw.len = (size_t)BIO_read(out, raw.v, sizeof(raw.v));
	cr_assert_eq(read_all(&raw, host), 0);
	cr_assert_str_eq(host, "real.example");
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}
