#include "wire/record.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

/* RFC 8446, B.1 and B.3 */
enum content { ALERT = 21, HANDSHAKE = 22, DATA = 23 };
enum message { NEW_SESSION_TICKET = 4, KEY_UPDATE = 24 };
/* Of alerts: "closure", and what kind of error; of those that are sent. */
enum { WARNING = 1, FATAL = 2 };

#define RECORD_MAX (FLAT_SEAL_HEADER + FLAT_SEAL_INNER_MAX + FLAT_SEAL_TAG)
/* Records without content in a row: OpenSSL's number. */
#define EMPTY_MAX 32
/* Keys in a row without content between: BoringSSL's number. Each is derived anew, a hundred times the cost of a record. */
#define UPDATES_MAX 32

/* --- secrets --- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* LABEL CLIENT_RANDOM SECRET, the latter two in hexadecimal. */
void flat_secrets_take(struct flat_secrets *s, const char *line)
{
	static const char *const labels[] = {"CLIENT_TRAFFIC_SECRET_0 ",
					     "SERVER_TRAFFIC_SECRET_0 "};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(labels); i++) {
		const char *p =
		    strncmp(line, labels[i], strlen(labels[i])) == 0 ? strrchr(line, ' ') + 1 : "";
		size_t n = 0;
		for (; n < FLAT_SEAL_SECRET_MAX && digit(p[0]) >= 0 && digit(p[1]) >= 0; p += 2)
			s->v[i][n++] = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
		if (n > 0)
			s->len[i] = *p ? 0 : n;
	}
}

void flat_secrets_forget(struct flat_secrets *s)
{
	OPENSSL_cleanse(s, sizeof(*s));
}

/* --- life --- */

int flat_records_begin(struct flat_records *r, const struct flat_secrets *secrets, uint16_t suite,
		       bool server)
{
	/* The client's secret is the first one: what a server reads by. */
	int err =
	    flat_seal_init(&r->in, NULL, suite, secrets->v[!server], secrets->len[!server], false);
	r->tickets = !server;
	return err ? err
		   : flat_seal_init(&r->out, NULL, suite, secrets->v[server], secrets->len[server],
				    true);
}

void flat_records_fini(struct flat_records *r)
{
	flat_seal_fini(&r->in);
	flat_seal_fini(&r->out);
	free(r->part);
	memset(r, 0, sizeof(*r));
}

/* --- out --- */

static int put(struct flat_records *r, enum content type, const struct iovec *in, int n_in,
	       struct flat_outbox *out)
{
	size_t len = 0;
	for (int i = 0; i < n_in; i++)
		len += in[i].iov_len;
	uint8_t *to = flat_outbox_reserve(out, flat_seal_length(len));
	size_t n = to ? flat_seal_gather(&r->out, (uint8_t)type, in, n_in, to) : 0;
	flat_outbox_commit(out, n);
	return n > 0 ? 0 : -ENOMEM;
}

static int renew(struct flat_records *r, struct flat_outbox *out)
{
	/* Nothing is asked of the peer. */
	uint8_t update[] = {KEY_UPDATE, 0, 0, 1, 0};
	const struct iovec in = {update, sizeof(update)};
	int err = put(r, HANDSHAKE, &in, 1, out);
	r->renews = false;
	return err ? err : flat_seal_update(&r->out);
}

int flat_records_gather(struct flat_records *r, const struct iovec *in, int n_in,
			struct flat_outbox *out)
{
	int err = 0;
	if (r->renews || r->out.records >= FLAT_RECORDS_PER_KEY)
		err = renew(r, out);
	return err ? err : put(r, DATA, in, n_in, out);
}

int flat_records_write(struct flat_records *r, const uint8_t *bytes, size_t len,
		       struct flat_outbox *out)
{
	int err = 0;
	while (len > 0 && err == 0) {
		size_t n = flat_min_size(len, FLAT_SEAL_CONTENT_MAX);
		/* The const is ours: iovec has none. */
		const struct iovec in = {(void *)(uintptr_t)bytes, n};
		err = flat_records_gather(r, &in, 1, out);
		bytes += n;
		len -= n;
	}
	return err;
}

static void alert(struct flat_records *r, uint8_t level, uint8_t what, struct flat_outbox *out)
{
	uint8_t bytes[] = {level, what};
	const struct iovec in = {bytes, sizeof(bytes)};
	/* Without memory it goes without saying. */
	(void)put(r, ALERT, &in, 1, out);
}

void flat_records_close(struct flat_records *r, struct flat_outbox *out)
{
	alert(r, WARNING, SSL3_AD_CLOSE_NOTIFY, out);
}

/* --- in --- */

static int wrong(struct flat_records *r, uint8_t what, const char *why, struct flat_outbox *out)
{
	r->why = why;
	alert(r, FATAL, what, out);
	return -EPROTO;
}

static int on_alert(struct flat_records *r, const uint8_t *bytes, size_t len,
		    struct flat_outbox *out)
{
	if (len != 2)
		return wrong(r, SSL_AD_DECODE_ERROR, "an alert of TLS has two bytes", out);
	if (bytes[1] == TLS1_AD_USER_CANCELLED)
		return 0;
	r->closed = bytes[1] == SSL3_AD_CLOSE_NOTIFY;
	r->why = SSL_alert_desc_string_long(bytes[1]);
	return -ECONNRESET;
}

/* The header of a message is whole; what follows it in its record begins at `bytes`. */
static int on_message(struct flat_records *r, const uint8_t *bytes, size_t len,
		      struct flat_outbox *out)
{
	uint32_t n = (uint32_t)r->head[1] << 16 | (uint32_t)r->head[2] << 8 | r->head[3];
	r->n_head = 0;
	if (r->head[0] == NEW_SESSION_TICKET && r->tickets) {
		r->passing = n;
		return 0;
	}
	/* A key ends with its record (RFC 8446, 5.1). */
	if (r->head[0] != KEY_UPDATE || n != 1 || len != 1 || bytes[0] > 1)
		return wrong(r, SSL_AD_UNEXPECTED_MESSAGE, "a message that TLS has no place for",
			     out);
	if (++r->updates > UPDATES_MAX)
		return wrong(r, SSL_AD_UNEXPECTED_MESSAGE, "a flood of new keys", out);
	r->passing = 1;
	r->renews |= bytes[0] == 1;
	if (flat_seal_update(&r->in) == 0)
		return 0;
	r->why = "out of memory";
	return -ENOMEM;
}

static int on_handshake(struct flat_records *r, const uint8_t *bytes, size_t len,
			struct flat_outbox *out)
{
	while (len > 0) {
		size_t n = r->passing ? flat_min_size(r->passing, len) : 1;
		int err = 0;
		if (r->passing)
			r->passing -= (uint32_t)n;
		else
			r->head[r->n_head++] = bytes[0];
		bytes += n;
		len -= n;
		if (r->n_head == sizeof(r->head))
			err = on_message(r, bytes, len, out);
		if (err != 0)
			return err;
	}
	return 0;
}

/* A record that lies whole at `bytes`: as flat_records_read(), or 0: there was no content in it. */
static ssize_t on_record(struct flat_records *r, const uint8_t *bytes, size_t body, uint8_t *buf,
			 struct flat_outbox *out)
{
	uint8_t type;
	ssize_t n = flat_seal_open(&r->in, bytes, body, buf, &type);
	if (n == -EPROTO)
		return wrong(r, SSL_AD_UNEXPECTED_MESSAGE, "a record of TLS without a type", out);
	if (n < 0)
		return wrong(r, SSL_AD_BAD_RECORD_MAC, "a record of TLS that was changed", out);
	/* An update of keys is not looked for among its bytes. */
	bool inside = r->n_head > 0 || r->passing > 0;
	if (type == ALERT && !inside)
		return on_alert(r, buf, (size_t)n, out);
	if (type == HANDSHAKE && n > 0)
		return on_handshake(r, buf, (size_t)n, out);
	if (type != DATA || inside)
		return wrong(r, SSL_AD_UNEXPECTED_MESSAGE, "a record that TLS has no place for",
			     out);
	r->empty = n > 0 ? 0 : r->empty + 1;
	r->updates = n > 0 ? 0 : r->updates;
	if (r->empty > EMPTY_MAX)
		return wrong(r, SSL_AD_UNEXPECTED_MESSAGE, "a flood of empty records", out);
	return n;
}

/* How long the body is that this header speaks of; -EPROTO. */
static ssize_t read_header(struct flat_records *r, const uint8_t *h, struct flat_outbox *out)
{
	size_t body = (size_t)h[3] << 8 | h[4];
	if (h[0] != DATA || h[1] != 3)
		return wrong(r, SSL_AD_UNEXPECTED_MESSAGE, "no record of TLS 1.3", out);
	if (body > FLAT_SEAL_INNER_MAX + FLAT_SEAL_TAG)
		return wrong(r, SSL_AD_RECORD_OVERFLOW, "a record of TLS that is too long", out);
	return (ssize_t)body;
}

/* Adds to the record of which a part is here, up to `size` bytes. Whether they are. */
static bool fill(struct flat_records *r, struct flat_inbox *in, size_t size)
{
	size_t n = flat_min_size(size - flat_min_size(size, r->n_part), in->len);
	memcpy(r->part + r->n_part, in->v, n);
	r->n_part += n;
	in->v += n;
	in->len -= n;
	return r->n_part >= size;
}

/* A record in pieces: *at is where it lies when it is whole. As flat_records_read(), its body's length. */
static ssize_t gather(struct flat_records *r, struct flat_inbox *in, const uint8_t **at,
		      struct flat_outbox *out)
{
	if (!r->part)
		r->part = calloc(1, RECORD_MAX);
	if (!r->part) {
		r->why = "out of memory";
		return -ENOMEM;
	}
	if (!fill(r, in, FLAT_SEAL_HEADER))
		return -EAGAIN;
	ssize_t body = read_header(r, r->part, out);
	if (body < 0)
		return body;
	if (!fill(r, in, FLAT_SEAL_HEADER + (size_t)body))
		return -EAGAIN;
	r->n_part = 0;
	*at = r->part;
	return body;
}

ssize_t flat_records_read(struct flat_records *r, struct flat_inbox *in, uint8_t *buf,
			  struct flat_outbox *out)
{
	ssize_t n = 0;
	while (n == 0) {
		const uint8_t *at = in->v;
		ssize_t body = FLAT_SEAL_INNER_MAX;
		if (r->n_part == 0 && in->len == 0)
			return -EAGAIN;
		if (r->n_part == 0 && in->len >= FLAT_SEAL_HEADER)
			body = read_header(r, at, out);
		if (body < 0)
			return body;
		if (r->n_part == 0 && in->len >= FLAT_SEAL_HEADER + (size_t)body) {
			in->v += FLAT_SEAL_HEADER + (size_t)body;
			in->len -= FLAT_SEAL_HEADER + (size_t)body;
		} else {
			body = gather(r, in, &at, out);
			if (body < 0)
				return body;
		}
		n = on_record(r, at, (size_t)body, buf, out);
	}
	return n == -ECONNRESET && r->closed ? 0 : n;
}
