/* What follows the handshake, against OpenSSL as the peer: content, keys, tickets, alerts, ends, and what breaks the rules. */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "wire/record.h"

#define BYTES ((size_t)100000)

/* `near` shakes hands and then leaves it to `r`; `far` is OpenSSL to the end. */
static struct {
	SSL *near;
	SSL *far;
	BIO *far_in;
	BIO *far_out;
	struct flat_inbox inbox;
	struct flat_outbox outbox;
	struct flat_secrets secrets;
	struct flat_records r;
	uint8_t got[BYTES];
	size_t n_got;
	ssize_t end; /* what the last read said instead of bytes */
} t;

static uint8_t sent[BYTES];

static void on_line(const SSL *ssl, const char *line)
{
	(void)ssl;
	flat_secrets_take(&t.secrets, line);
}

static SSL_CTX *context(bool server, const char *suite)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	cr_assert(ctx && SSL_CTX_set_ciphersuites(ctx, suite) &&
		  SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION));
	if (server) {
		EVP_PKEY *key = EVP_EC_gen("P-256");
		X509 *cert = X509_new();
		cr_assert(key && cert && X509_set_pubkey(cert, key) &&
			  X509_gmtime_adj(X509_getm_notBefore(cert), 0) &&
			  X509_gmtime_adj(X509_getm_notAfter(cert), 1000) &&
			  X509_sign(cert, key, EVP_sha256()) &&
			  SSL_CTX_use_certificate(ctx, cert) && SSL_CTX_use_PrivateKey(ctx, key));
		X509_free(cert);
		EVP_PKEY_free(key);
	}
	return ctx;
}

/* What we wrote, to the far end. */
static void carry(void)
{
	const uint8_t *bytes;
	size_t n = flat_outbox_bytes(&t.outbox, &bytes);
	if (n > 0)
		cr_assert_eq(BIO_write(t.far_in, bytes, (int)n), (int)n);
	flat_outbox_take(&t.outbox, n);
}

/* Bytes that came, in pieces of `step`, read until they are used up or it is over. */
static void take(const uint8_t *bytes, size_t len, size_t step)
{
	uint8_t buf[FLAT_SEAL_INNER_MAX];
	for (size_t at = 0; at < len && t.end == -EAGAIN; at += step) {
		t.inbox = (struct flat_inbox){bytes + at, flat_min_size(step, len - at)};
		while ((t.end = flat_records_read(&t.r, &t.inbox, buf, &t.outbox)) > 0) {
			cr_assert_leq(t.n_got + (size_t)t.end, BYTES);
			memcpy(t.got + t.n_got, buf, (size_t)t.end);
			t.n_got += (size_t)t.end;
		}
		cr_assert(t.end != -EAGAIN || t.inbox.len == 0);
	}
}

/* What the far end wrote. */
static void hear(size_t step)
{
	char *bytes;
	size_t n = (size_t)BIO_get_mem_data(t.far_out, &bytes);
	take((const uint8_t *)bytes, n, step);
	cr_assert(BIO_reset(t.far_out) == 1);
}

static void open_pair(bool server, const char *suite, int tickets)
{
	SSL_CTX *near = context(server, suite);
	SSL_CTX *far = context(!server, suite);
	memset(&t, 0, sizeof(t));
	SSL_CTX_set_keylog_callback(near, on_line);
	cr_assert(SSL_CTX_set_num_tickets(near, 0) &&
		  SSL_CTX_set_num_tickets(far, (size_t)tickets));
	t.near = SSL_new(near);
	t.far = SSL_new(far);
	t.far_in = BIO_new(BIO_s_mem());
	t.far_out = BIO_new(BIO_s_mem());
	cr_assert(t.near && t.far && t.far_in && t.far_out);
	SSL_set_bio(t.near, flat_inbox_open(&t.inbox), flat_outbox_open(&t.outbox));
	SSL_set_bio(t.far, t.far_in, t.far_out);
	if (server) {
		SSL_set_accept_state(t.near);
		SSL_set_connect_state(t.far);
	} else {
		SSL_set_connect_state(t.near);
		SSL_set_accept_state(t.far);
	}
	for (int i = 0; i < 4; i++) {
		char *bytes;
		(void)SSL_do_handshake(t.far);
		size_t n = (size_t)BIO_get_mem_data(t.far_out, &bytes);
		t.inbox = (struct flat_inbox){(uint8_t *)bytes, n};
		if (!SSL_is_init_finished(t.near))
			(void)SSL_do_handshake(t.near);
		/* OpenSSL has left what is not of the handshake. */
		n -= t.inbox.len;
		uint8_t skip[16384];
		cr_assert(n == 0 || BIO_read(t.far_out, skip, (int)n) == (int)n);
		carry();
	}
	cr_assert(SSL_is_init_finished(t.near) && SSL_is_init_finished(t.far));
	cr_assert_eq(flat_records_begin(&t.r, &t.secrets,
					SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(t.near)),
					server),
		     0);
	SSL_CTX_free(near);
	SSL_CTX_free(far);
	t.end = -EAGAIN;
	for (size_t i = 0; i < BYTES; i++)
		sent[i] = (uint8_t)(i * 31 + (i >> 8));
}

static void close_pair(void)
{
	SSL_free(t.near);
	SSL_free(t.far);
	flat_records_fini(&t.r);
	flat_outbox_fini(&t.outbox);
	ERR_clear_error();
}

/* `len` bytes from us to OpenSSL. */
static void say(size_t len)
{
	static uint8_t buf[BYTES];
	size_t n = 0;
	int one;
	cr_assert_eq(flat_records_write(&t.r, sent, len, &t.outbox), 0);
	carry();
	while (n < len && (one = SSL_read(t.far, buf + n, (int)(len - n))) > 0)
		n += (size_t)one;
	cr_assert_eq(n, len);
	cr_assert_eq(memcmp(buf, sent, len), 0);
}

/* And from OpenSSL to us. */
static void listen_to(size_t len, size_t step)
{
	t.n_got = 0;
	cr_assert_eq(SSL_write(t.far, sent, (int)len), (int)len);
	hear(step);
	cr_assert_eq(t.end, -EAGAIN);
	cr_assert_eq(t.n_got, len);
	cr_assert_eq(memcmp(t.got, sent, len), 0);
}

Test(wire_record, content_goes_both_ways_with_each_suite_as_either_side)
{
	static const char *const suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
					     "TLS_CHACHA20_POLY1305_SHA256"};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(suites) * 2; i++) {
		open_pair(i & 1, suites[i / 2], 0);
		for (size_t len = 1; len <= BYTES; len = len * 3 + 1) {
			say(len);
			listen_to(len, SIZE_MAX / 2);
		}
		close_pair();
	}
}

Test(wire_record, pieces_of_any_size_make_the_same_content)
{
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
	for (size_t step = 1; step < 50; step++)
		listen_to(60, step);
	listen_to(40000, 1);
	listen_to(BYTES, 16384 + 21);
	listen_to(BYTES, 16384 + 22);
	listen_to(BYTES, 16384 + 23);
	listen_to(BYTES, 30011);
	close_pair();
}

Test(wire_record, the_peer_renews_its_keys_and_ours)
{
	for (int i = 0; i < 6; i++) {
		open_pair(i & 1, i < 4 ? "TLS_AES_128_GCM_SHA256" : "TLS_AES_256_GCM_SHA384", 0);
		say(100);
		listen_to(100, 7);
		cr_assert(SSL_key_update(t.far, i & 2 ? SSL_KEY_UPDATE_REQUESTED
						      : SSL_KEY_UPDATE_NOT_REQUESTED));
		listen_to(BYTES, 7);
		cr_assert_eq(t.r.renews, (i & 2) != 0);
		say(BYTES);
		cr_assert(!t.r.renews);
		listen_to(10, 1);
		say(10);
		close_pair();
	}
}

Test(wire_record, keys_are_renewed_before_they_are_worn)
{
	static struct flat_records peer;
	static uint8_t buf[FLAT_SEAL_INNER_MAX];
	const uint8_t *bytes;
	ssize_t n;
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
	memset(&peer, 0, sizeof(peer));
	cr_assert_eq(flat_records_begin(&peer, &t.secrets, 0x1301, false), 0);
	/* As if all but one had been written. */
	t.r.out.records = peer.in.records = FLAT_RECORDS_PER_KEY - 1;
	cr_assert_eq(flat_records_write(&t.r, sent, 3 * FLAT_SEAL_CONTENT_MAX, &t.outbox), 0);
	cr_assert_eq(t.r.out.records, 2);
	t.inbox.len = flat_outbox_bytes(&t.outbox, &bytes);
	t.inbox.v = bytes;
	for (size_t at = 0; at < 3 * FLAT_SEAL_CONTENT_MAX; at += (size_t)n) {
		n = flat_records_read(&peer, &t.inbox, buf, &t.outbox);
		cr_assert_gt(n, 0);
		cr_assert_eq(memcmp(buf, sent + at, (size_t)n), 0);
	}
	cr_assert_eq(peer.in.records, 2);
	cr_assert_eq(t.inbox.len, 0);
	t.inbox.v = NULL;
	flat_records_fini(&peer);
	close_pair();
}

Test(wire_record, tickets_of_a_server_are_passed_over_in_any_pieces)
{
	static const size_t steps[] = {1, 5, 100, SIZE_MAX / 2};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(steps); i++) {
		open_pair(false, "TLS_AES_128_GCM_SHA256", 3);
		listen_to(1000, steps[i]);
		say(1000);
		cr_assert(SSL_new_session_ticket(t.far));
		listen_to(1000, steps[i]);
		close_pair();
	}
}

Test(wire_record, each_side_sees_the_other_close)
{
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
	listen_to(10, 3);
	(void)SSL_shutdown(t.far);
	hear(3);
	cr_assert_eq(t.end, 0);
	flat_records_close(&t.r, &t.outbox);
	carry();
	char c;
	int n = SSL_read(t.far, &c, 1);
	cr_assert_eq(SSL_get_error(t.far, n), SSL_ERROR_ZERO_RETURN);
	close_pair();
}

/* A record as the peer would write it, under its key and number. */
static void lie(uint8_t type, const void *bytes, size_t len)
{
	static uint8_t record[FLAT_SEAL_CONTENT_MAX + 64];
	struct flat_seal s = {0};
	cr_assert_eq(flat_seal_init(&s, NULL, 0x1301, t.r.in.secret, 32, true), 0);
	s.records = t.r.in.records;
	size_t n = flat_seal_record(&s, type, bytes, len, record);
	cr_assert_gt(n, 0);
	take(record, n, SIZE_MAX / 2);
	flat_seal_fini(&s);
}

static void is_refused(uint8_t with)
{
	char c;
	cr_assert_eq(t.end, -EPROTO);
	cr_assert(t.r.why && t.r.why[0]);
	/* The peer is told why. */
	carry();
	ERR_clear_error();
	cr_assert_leq(SSL_read(t.far, &c, 1), 0);
	cr_assert_eq(ERR_GET_REASON(ERR_peek_last_error()), SSL_AD_REASON_OFFSET + with, "%s",
		     ERR_reason_error_string(ERR_peek_last_error()));
	close_pair();
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
}

Test(wire_record, what_breaks_the_rules_is_refused_and_the_peer_is_told)
{
	static const uint8_t update[] = {24, 0, 0, 1, 0};
	static const uint8_t two[] = {24, 0, 0, 1, 0, 24, 0, 0, 1, 0};
	static const uint8_t odd[] = {24, 0, 0, 1, 2};
	static const uint8_t wide[] = {24, 0, 0, 2, 0, 0};
	static const uint8_t ticket[] = {4, 0, 0, 1, 0};
	static const uint8_t hello[] = {1, 0, 0, 1, 0};
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
	/* Of a type that there is not, or not any more. */
	lie(20, "\1", 1);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(24, "x", 1);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(0, "\0\0", 2);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	/* Messages. */
	lie(22, two, sizeof(two));
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(22, odd, sizeof(odd));
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(22, wide, sizeof(wide));
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(22, ticket, sizeof(ticket));
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(22, hello, sizeof(hello));
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(22, "", 0);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	/* Data, or an alert, in the middle of one. */
	lie(22, update, 3);
	cr_assert_eq(t.end, -EAGAIN);
	lie(23, "x", 1);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(22, update, 3);
	lie(21, "\1\0", 2);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	lie(21, "\2", 1);
	is_refused(SSL_AD_DECODE_ERROR);
	for (int i = 0; i < 33; i++)
		lie(23, "", 0);
	is_refused(SSL_AD_UNEXPECTED_MESSAGE);
	/* Keys, and no content under any of them; the same with content is nobody's fault. */
	for (int i = 0; i < 33; i++) {
		lie(22, update, sizeof(update));
		lie(23, "x", 1);
	}
	for (int i = 0; i < 32; i++)
		lie(22, update, sizeof(update));
	cr_assert_eq(t.end, -EAGAIN);
	lie(22, update, sizeof(update));
	cr_assert_eq(t.end, -EPROTO);
	close_pair();
}

Test(wire_record, headers_that_no_record_has_are_refused)
{
	static const struct {
		uint8_t v[5];
		uint8_t alert;
	} cases[] = {
	    {{21, 3, 3, 0, 2}, SSL_AD_UNEXPECTED_MESSAGE},
	    {{20, 3, 3, 0, 1}, SSL_AD_UNEXPECTED_MESSAGE},
	    {{0x16, 3, 1, 2, 0}, SSL_AD_UNEXPECTED_MESSAGE},
	    {{23, 2, 0, 0, 20}, SSL_AD_UNEXPECTED_MESSAGE},
	    {{23, 3, 3, 0x40, 0x12}, SSL_AD_RECORD_OVERFLOW},
	    {{23, 3, 3, 0xff, 0xff}, SSL_AD_RECORD_OVERFLOW},
	    {{23, 3, 3, 0, 0}, SSL_AD_BAD_RECORD_MAC},
	    {{23, 3, 3, 0, 15}, SSL_AD_BAD_RECORD_MAC},
	};
	uint8_t bytes[64] = {0};
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases) * 2; i++) {
		memcpy(bytes, cases[i / 2].v, 5);
		take(bytes, sizeof(bytes), i & 1 ? 1 : sizeof(bytes));
		is_refused(cases[i / 2].alert);
	}
	close_pair();
}

Test(wire_record, an_alert_ends_it_with_its_name)
{
	open_pair(true, "TLS_AES_128_GCM_SHA256", 0);
	lie(21, "\1\132", 2); /* user_canceled: says nothing yet */
	cr_assert_eq(t.end, -EAGAIN);
	lie(21, "\2\52", 2);
	cr_assert_eq(t.end, -ECONNRESET);
	cr_assert_str_eq(t.r.why, "bad certificate");
	close_pair();
}

Test(wire_record, lines_of_a_key_log_are_read_strictly)
{
	struct flat_secrets s = {0};
	char line[256];
	flat_secrets_take(&s, "SERVER_HANDSHAKE_TRAFFIC_SECRET 00 0102");
	flat_secrets_take(&s, "CLIENT_TRAFFIC_SECRET_1 00 0102");
	flat_secrets_take(&s, "");
	cr_assert_eq(s.len[0] + s.len[1], 0);
	flat_secrets_take(&s, "CLIENT_TRAFFIC_SECRET_0 00 01020a");
	cr_assert_eq(s.len[0], 3);
	cr_assert_eq(s.v[0][2], 10);
	flat_secrets_take(&s, "SERVER_TRAFFIC_SECRET_0 00 01020");
	cr_assert_eq(s.len[1], 0);
	snprintf(line, sizeof(line), "SERVER_TRAFFIC_SECRET_0 00 %0100d", 0);
	flat_secrets_take(&s, line);
	cr_assert_eq(s.len[1], 0);
	cr_assert_eq(s.len[0], 3);
	flat_secrets_forget(&s);
	cr_assert_eq(s.len[0] + s.v[0][2], 0);
}
