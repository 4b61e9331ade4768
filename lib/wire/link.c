#include "wire/link.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/stream.h"

/* --- life --- */

static struct flat_wire_link *make(struct flat_svids *svids, const struct flat_svid *svid,
				   bool server, const struct flat_wire_ops *ops, void *owner)
{
	struct flat_wire_link *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->ops = ops;
	l->owner = owner;
	l->server = server;
	l->svids = flat_svids_get(svids);
	memcpy(l->own_id, svid->id, sizeof(l->own_id));
	l->own_expires_s = svid->expires_s;
	l->peer.svids = svids;
	l->peer.server = !server;
	l->tally = &l->alone;
	TAILQ_INIT(&l->streams);
	TAILQ_INIT(&l->ready);
	l->ssl = SSL_new(svid->ctx);
	BIO *in = flat_inbox_open(&l->inbox);
	BIO *out = flat_outbox_open(&l->outbox);
	if (!l->ssl || !in || !out) {
		BIO_free(in);
		BIO_free(out);
		SSL_free(l->ssl);
		flat_svids_put(l->svids);
		free(l);
		return NULL;
	}
	/* The session owns both from here. */
	SSL_set_bio(l->ssl, in, out);
	SSL_set_app_data(l->ssl, &l->peer);
	return l;
}

static struct flat_wire_link *begin(struct flat_wire_link *l,
				    const struct flat_wire_protocol *protocol)
{
	l->protocol = protocol;
	if (l->server) {
		SSL_set_accept_state(l->ssl);
	} else {
		SSL_set_connect_state(l->ssl);
		/* The first flight. */
		(void)SSL_do_handshake(l->ssl);
		ERR_clear_error();
	}
	return l;
}

struct flat_wire_link *flat_wire_link_new(struct flat_svids *svids, const struct flat_svid *svid,
					  bool server, const struct flat_wire_ops *ops, void *owner)
{
	struct flat_wire_link *l = make(svids, svid, server, ops, owner);
	return l ? begin(l, &flat_wire_flat) : NULL;
}

struct flat_wire_link *flat_wire_link_new_hbone(struct flat_svids *svids,
						const struct flat_svid *svid, const char *expect,
						const struct flat_wire_ops *ops, void *owner)
{
	struct flat_wire_link *l = make(svids, svid, !expect, ops, owner);
	if (!l)
		return NULL;
	l->peer.hbone = true;
	if (expect) {
		snprintf(l->peer.expect, sizeof(l->peer.expect), "%s", expect);
		/* 0 is success. Without memory the peer, which wants no flat/1, ends it. */
		(void)SSL_set_alpn_protos(l->ssl, (const unsigned char *)"\2h2", 3);
	}
	return begin(l, &flat_wire_hbone);
}

/*
 * A stream that ends with its link costs what one costs that is reset: else who resets many would end links instead. But a host
 * that starts anew loses all it has, once.
 */
static void count_cut(const struct flat_wire_stream *s)
{
	const struct flat_wire_link *l = s->link;
	struct flat_wire_tally *tally = l->tally;
	bool unanswered = s->bytes[0] == 0;
	if (!l->server || !(unanswered || l->hbone))
		return;
	if (tally->cut < FLAT_WIRE_CUT_MAX) {
		tally->cut++;
		return;
	}
	tally->unanswered += unanswered;
	tally->resets += l->hbone != NULL;
}

bool flat_wire_link_end(struct flat_wire_link *l, int err, bool all)
{
	struct flat_wire_stream *s;
	l->failed = true;
	while ((all || !flat_wire_link_is_spent(l)) && (s = TAILQ_FIRST(&l->streams)) != NULL) {
		flat_wire_link_spend(l, 1);
		count_cut(s);
		flat_wire_stream_end(s, err);
	}
	return TAILQ_EMPTY(&l->streams);
}

void flat_wire_link_free(struct flat_wire_link *l, int err)
{
	(void)flat_wire_link_end(l, err, true);
	l->protocol->close(l);
	SSL_free(l->ssl);
	flat_records_fini(&l->records);
	flat_outbox_fini(&l->outbox);
	flat_wire_peer_fini(&l->peer);
	flat_svids_put(l->svids);
	free(l);
}

int flat_wire_link_over(struct flat_wire_link *l, int err, const char *why)
{
	if (!l->failed) {
		snprintf(l->why, sizeof(l->why), "%s", why);
		l->failed = true;
		/* What was said before is still sent. */
		if (l->n_frame > 0)
			(void)!flat_records_write(&l->records, l->frame, l->n_frame, &l->outbox);
		l->n_frame = 0;
	}
	ERR_clear_error();
	return err;
}

/* --- frames out --- */

/* Into memory: whole, or there is none left. */
static void written(struct flat_wire_link *l, int err)
{
	if (err != 0)
		(void)flat_wire_link_over(l, -ENOMEM, "TLS could not write");
	else if (flat_outbox_pending(&l->outbox) > FLAT_WIRE_OUT_MAX)
		(void)flat_wire_link_over(l, -ENOBUFS,
					  "the peer asks and does not read the answers");
}

void flat_wire_link_encrypt(struct flat_wire_link *l, const uint8_t *bytes, size_t n)
{
	if (!l->failed && l->shaken)
		written(l, flat_records_write(&l->records, bytes, n, &l->outbox));
}

static void seal(struct flat_wire_link *l)
{
	size_t n = l->n_frame;
	l->n_frame = 0;
	if (n > 0)
		flat_wire_link_encrypt(l, l->frame, n);
}

uint8_t *flat_wire_link_place(struct flat_wire_link *l, size_t len, size_t *room)
{
	if (sizeof(l->frame) - l->n_frame < FLAT_FRAME_HEADER + len)
		seal(l);
	*room = sizeof(l->frame) - l->n_frame - FLAT_FRAME_HEADER;
	return l->frame + l->n_frame + FLAT_FRAME_HEADER;
}

void flat_wire_link_put(struct flat_wire_link *l, const struct flat_frame *f)
{
	size_t room;
	if (l->failed || !l->shaken)
		return;
	(void)flat_wire_link_place(l, f->len + FLAT_FRAME_FIXED_MAX, &room);
	l->n_frame += flat_frame_write(f, l->frame + l->n_frame);
}

void flat_wire_link_put_data(struct flat_wire_link *l, uint32_t stream, size_t len)
{
	const struct flat_frame f = {.type = FLAT_FRAME_DATA,
				     .stream = stream,
				     .data = l->frame + l->n_frame + FLAT_FRAME_HEADER,
				     .len = len};
	l->n_frame += flat_frame_write(&f, l->frame + l->n_frame);
	if (l->n_frame == sizeof(l->frame))
		seal(l);
}

void flat_wire_link_put_from(struct flat_wire_link *l, uint32_t stream, const struct iovec *body,
			     int n)
{
	struct iovec in[3] = {{l->frame, l->n_frame + FLAT_FRAME_HEADER}};
	struct flat_frame f = {.type = FLAT_FRAME_DATA,
			       .stream = stream,
			       .data = l->frame + l->n_frame + FLAT_FRAME_HEADER};
	for (int i = 0; i < n; i++) {
		in[1 + i] = body[i];
		f.len += body[i].iov_len;
	}
	(void)flat_frame_write(&f, l->frame + l->n_frame);
	l->n_frame = 0;
	if (!l->failed && l->shaken)
		written(l, flat_records_gather(&l->records, in, 1 + n, &l->outbox));
}

size_t flat_wire_link_output(struct flat_wire_link *l, const uint8_t **bytes)
{
	seal(l);
	return flat_outbox_bytes(&l->outbox, bytes);
}

void flat_wire_link_sent(struct flat_wire_link *l, size_t len)
{
	flat_outbox_take(&l->outbox, len);
}

void flat_wire_link_say(struct flat_wire_link *l, const struct flat_frame *f)
{
	flat_wire_link_put(l, f);
}

void flat_wire_link_pause(struct flat_wire_link *l)
{
	l->paused = true;
}

int flat_wire_link_fail(struct flat_wire_link *l, const char *why)
{
	return flat_wire_link_over(l, -EPROTO, why);
}

void flat_wire_link_bye(struct flat_wire_link *l)
{
	if (l->protocol->bye && l->shaken && !l->failed)
		l->protocol->bye(l);
}

void flat_wire_link_excuse(struct flat_wire_link *l)
{
	l->tally = &l->alone;
}

bool flat_wire_link_full(const struct flat_wire_link *l)
{
	return l->n_streams >= l->protocol->streams_max(l);
}

void flat_wire_link_forgive(struct flat_wire_link *l, uint32_t n)
{
	l->resets -= n < l->resets ? n : l->resets;
}

void flat_wire_link_ping(struct flat_wire_link *l)
{
	l->protocol->ping(l);
}

static void ping(struct flat_wire_link *l)
{
	static const uint8_t zero[8];
	struct flat_frame f = {.type = FLAT_FRAME_PING, .data = zero, .len = sizeof(zero)};
	flat_wire_link_put(l, &f);
}

void flat_wire_link_drain(struct flat_wire_link *l)
{
	if (l->draining)
		return;
	l->draining = true;
	l->protocol->drain(l);
}

static void drain(struct flat_wire_link *l)
{
	struct flat_frame f = {.type = FLAT_FRAME_GOAWAY};
	flat_wire_link_put(l, &f);
}

/* --- frames in --- */

static int on_link_frame(struct flat_wire_link *l, const struct flat_frame *f)
{
	struct flat_frame pong = {.type = FLAT_FRAME_PONG, .data = f->data, .len = f->len};
	uint8_t copy[8];
	switch (f->type) {
	case FLAT_FRAME_HELLO:
		if (l->greeted || f->number == 0 || f->number > FLAT_WIRE_WINDOW)
			return -EPROTO;
		l->greeted = true;
		l->first_credit = f->number;
		l->ops->ready(l);
		return 0;
	case FLAT_FRAME_PING:
		memcpy(copy, f->data, sizeof(copy));
		pong.data = copy;
		flat_wire_link_put(l, &pong);
		return 0;
	case FLAT_FRAME_GOAWAY:
		l->draining = true;
		return 0;
	case FLAT_FRAME_VERBS:
		return l->ops->verbs ? l->ops->verbs(l, f) : -EPROTO;
	default:
		return 0;
	}
}

static int on_frame(struct flat_wire_link *l, const struct flat_frame *f)
{
	if (!l->greeted && f->type != FLAT_FRAME_HELLO)
		return -EPROTO;
	return f->stream == 0 ? on_link_frame(l, f) : flat_wire_stream_frame(l, f);
}

/* Frames that are whole in `plain`. */
static int read_frames(struct flat_wire_link *l)
{
	size_t at = 0;
	struct flat_frame f;
	ssize_t n = 0;
	l->stalled = false;
	while (!l->failed && (n = flat_frame_read(l->plain + at, l->n_plain - at, &f)) > 0) {
		l->stalled = flat_wire_link_is_spent(l);
		if (l->stalled)
			break;
		flat_wire_link_spend(l, 1);
		if (on_frame(l, &f) != 0)
			return flat_wire_link_over(l, -EPROTO,
						   "the peer broke the rules of the wire");
		at += (size_t)n;
		if (l->paused && at != l->n_plain)
			return flat_wire_link_over(
			    l, -EPROTO, "the peer said more after it went over to verbs");
		l->paused = false;
	}
	if (n < 0)
		return flat_wire_link_over(l, -EPROTO, "the peer sent what is no frame");
	l->n_plain -= at;
	if (l->n_plain > 0)
		memmove(l->plain, l->plain + at, l->n_plain);
	return l->failed ? -ENOBUFS : 0;
}

static int greet(struct flat_wire_link *l)
{
	struct flat_frame f = {.type = FLAT_FRAME_HELLO, .number = FLAT_WIRE_WINDOW};
	flat_wire_link_put(l, &f);
	return 0;
}

/* In TLS 1.3 a client learns what is wrong with its certificate after it is done. */
static int tls_over(struct flat_wire_link *l, const char *why)
{
	return flat_wire_link_over(l, l->greeted ? -ECONNRESET : -EACCES, why);
}

static bool has_alpn(const SSL *ssl)
{
	const unsigned char *name;
	unsigned int len;
	SSL_get0_alpn_selected(ssl, &name, &len);
	return len > 0;
}

static int shake(struct flat_wire_link *l)
{
	char text[256] = "the peer ended the connection";
	int done = SSL_do_handshake(l->ssl);
	/* Who names no protocol may mean another one (RFC 9325, 3.7). HBONE's peers are of other makes: not all name theirs. */
	if (done == 1 && l->protocol == &flat_wire_flat && !has_alpn(l->ssl))
		return flat_wire_link_over(l, -EPROTO, "the peer does not speak flat/1 (ALPN)");
	if (done == 1) {
		int err = flat_records_begin(
		    &l->records, &l->peer.secrets,
		    SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(l->ssl)), l->server);
		flat_secrets_forget(&l->peer.secrets);
		l->shaken = err == 0;
		return err ? flat_wire_link_over(l, err, "TLS has no keys for what follows") : 0;
	}
	int code = SSL_get_error(l->ssl, done);
	unsigned long e = ERR_peek_last_error();
	if (code == SSL_ERROR_WANT_READ)
		return -EAGAIN;
	if (l->peer.why[0])
		snprintf(text, sizeof(text), "the peer's certificate: %.220s", l->peer.why);
	else if (code == SSL_ERROR_ZERO_RETURN)
		snprintf(text, sizeof(text), "the peer closed the link");
	else if (e != 0)
		ERR_error_string_n(e, text, sizeof(text));
	return l->peer.why[0] ? flat_wire_link_over(l, -EACCES, text) : tls_over(l, text);
}

/* As flat_records_read(), which was no content. */
static int read_over(struct flat_wire_link *l, int result)
{
	char text[256];
	if (result == -ENOMEM)
		return flat_wire_link_over(l, result, l->records.why);
	if (result == 0)
		return flat_wire_link_over(l, -ECONNRESET, "the peer closed the link");
	snprintf(text, sizeof(text), result == -EPROTO ? "TLS: %s" : "the peer's TLS says: %s",
		 l->records.why);
	return tls_over(l, text);
}

static int read_in(struct flat_wire_link *l)
{
	if (!l->shaken) {
		int err = shake(l);
		if (err != 0)
			return err == -EAGAIN ? 0 : err;
		if (l->protocol->greet(l) != 0)
			return flat_wire_link_over(l, -ENOMEM, "out of memory");
	}
	int err = l->stalled ? l->protocol->read(l) : 0;
	while (err == 0 && !l->stalled && !flat_wire_link_is_spent(l)) {
		ssize_t n =
		    flat_records_read(&l->records, &l->inbox, l->plain + l->n_plain, &l->outbox);
		if (n <= 0)
			return n == -EAGAIN ? 0 : read_over(l, (int)n);
		l->n_plain += (size_t)n;
		err = l->protocol->read(l);
	}
	return err;
}

int flat_wire_link_input(struct flat_wire_link *l, const uint8_t *bytes, size_t len)
{
	if (l->failed)
		return -ECONNRESET;
	l->inbox = (struct flat_inbox){bytes, len};
	int err = read_in(l);
	l->left = l->inbox.len;
	l->inbox = (struct flat_inbox){0};
	return err;
}

size_t flat_wire_link_left(const struct flat_wire_link *l)
{
	return l->left;
}

bool flat_wire_link_is_spent(const struct flat_wire_link *l)
{
	return l->quota && *l->quota == 0;
}

void flat_wire_link_spend(struct flat_wire_link *l, uint32_t n)
{
	if (l->quota)
		*l->quota -= n < *l->quota ? n : *l->quota;
}

bool flat_wire_link_flush(struct flat_wire_link *l)
{
	return l->protocol->flush(l);
}

static bool flush(struct flat_wire_link *l)
{
	struct flat_wire_stream *s;
	while (!l->failed && (s = TAILQ_FIRST(&l->ready)) != NULL) {
		if (flat_outbox_pending(&l->outbox) >= FLAT_WIRE_OUT_HIGH)
			return true;
		flat_wire_stream_send(s);
	}
	return false;
}

static void close_nothing(struct flat_wire_link *l)
{
	(void)l;
}

static uint32_t streams_max(const struct flat_wire_link *l)
{
	(void)l;
	return FLAT_WIRE_STREAMS_MAX;
}

const struct flat_wire_protocol flat_wire_flat = {
    .greet = greet,
    .read = read_frames,
    .flush = flush,
    .ping = ping,
    .drain = drain,
    .close = close_nothing,
    .streams_max = streams_max,
    .open = flat_wire_flat_open,
    .accept = flat_wire_flat_accept,
    .refuse = flat_wire_flat_refuse,
    .reset = flat_wire_flat_reset,
    .credit = flat_wire_flat_credit,
    .ready = flat_wire_flat_ready,
};
