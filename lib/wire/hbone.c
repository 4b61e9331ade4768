/*
 * HBONE inside a link's TLS: HTTP/2 (RFC 9113) in which each stream is a CONNECT to an address, as Istio's ztunnel speaks
 * it. nghttp2 keeps the frames and their windows; streams are those of stream.c. What a stream receives has the window of
 * flat/1; the connection's own is given back at once, so that no stream waits for another's reader.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/spiffe.h"
#include "wire/stream.h"

/* A DATA frame with its header (RFC 9113, 4.1) fits one TLS record. */
#define DATA_MAX ((size_t)16384 - 9)

/* The head that comes; the blocks of two streams are never mixed (RFC 9113, 4.3). */
struct head {
	bool connect;
	bool wrong; /* more than one :authority, or one too long */
	char authority[64];
	unsigned status;
	uint16_t port; /* of the client, as "forwarded" says; 0: it does not */
};

struct flat_hbone {
	nghttp2_session *h2;
	struct head head;
};

static int fail(struct flat_wire_link *l, const char *why)
{
	return flat_wire_link_over(l, -EPROTO, why);
}

/* Whatever nghttp2 refuses to keep for us for want of memory. */
static void check(struct flat_wire_link *l, int result)
{
	if (result != 0 && nghttp2_is_fatal(result))
		(void)flat_wire_link_over(l, -ENOMEM, "out of memory");
}

static struct flat_wire_stream *stream_of(nghttp2_session *h2, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h2, id);
}

static void rst(struct flat_wire_link *l, int32_t id, uint32_t code)
{
	check(l, nghttp2_submit_rst_stream(l->hbone->h2, NGHTTP2_FLAG_NONE, id, code));
}

/* --- heads --- */

static bool number(const char *text, size_t len, uint16_t *port)
{
	uint32_t n = 0;
	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		n = n * 10 + (uint32_t)(text[i] - '0');
	}
	*port = (uint16_t)n;
	return n > 0 && n < 65536;
}

/* "10.0.0.1:80", "[::1]:80". */
static bool parse_authority(const char *text, struct flat_addr *a)
{
	char host[64];
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	bool v6 = len > 2 && text[0] == '[' && colon[-1] == ']';
	memset(a, 0, sizeof(*a));
	if (len == 0 || len >= sizeof(host) || !number(colon + 1, strlen(colon + 1), &a->port))
		return false;
	memcpy(host, text + v6, len - 2 * (size_t)v6);
	host[len - 2 * (size_t)v6] = 0;
	a->family = v6 ? AF_INET6 : AF_INET;
	return inet_pton(a->family, host, a->ip) == 1;
}

/* RFC 7239: for="10.0.0.1:4000";host=... Of it the client's port alone, for the server's logs. */
static uint16_t forwarded_port(const char *text, size_t len)
{
	uint16_t port = 0;
	size_t end = 0;
	size_t colon = 0;
	if (len < 5 || strncmp(text, "for=\"", 5) != 0)
		return 0;
	for (end = 5; end < len && text[end] != '"'; end++) {
		if (text[end] == ':')
			colon = end;
	}
	return colon && number(text + colon + 1, end - colon - 1, &port) ? port : 0;
}

/* nghttp2 prescribes the parameters. */
/* NOLINTNEXTLINE(readability-function-size) */
static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	const struct flat_wire_link *l = arg;
	struct head *h = &l->hbone->head;
	const char *n = (const char *)name;
	const char *v = (const char *)value;
	(void)h2;
	(void)frame;
	(void)flags;
	if (name_len == 7 && memcmp(n, ":method", 7) == 0)
		h->connect = value_len == 7 && memcmp(v, "CONNECT", 7) == 0;
	else if (name_len == 7 && memcmp(n, ":status", 7) == 0 && value_len == 3)
		h->status = (unsigned)strtoul(v, NULL, 10);
	else if (name_len == 9 && memcmp(n, "forwarded", 9) == 0)
		h->port = forwarded_port(v, value_len);
	else if (name_len == 10 && memcmp(n, ":authority", 10) == 0)
		h->wrong |=
		    h->authority[0] || value_len >= sizeof(h->authority) || memchr(v, 0, value_len);
	else
		return 0;
	if (name_len == 10 && !h->wrong)
		memcpy(h->authority, v, value_len);
	return 0;
}

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	const struct flat_wire_link *l = arg;
	(void)h2;
	(void)frame;
	memset(&l->hbone->head, 0, sizeof(l->hbone->head));
	return 0;
}

/* --- bytes out --- */

/* nghttp2 prescribes the parameters. */
/* NOLINTNEXTLINE(readability-function-size) */
static ssize_t on_give(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t max, uint32_t *flags,
		       nghttp2_data_source *source, void *arg)
{
	struct flat_wire_link *l = arg;
	struct flat_wire_stream *s = stream_of(h2, id);
	(void)source;
	if (!s || !s->open)
		return NGHTTP2_ERR_DEFERRED;
	ssize_t n = l->ops->give(s, buf, max);
	if (n == -EAGAIN)
		return NGHTTP2_ERR_DEFERRED;
	if (n < 0) {
		/* nghttp2 tells the peer. */
		flat_wire_stream_end(s, ECONNRESET);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	if (n == 0) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		s->fin_sent = true;
		(void)flat_wire_stream_ends(s);
		return 0;
	}
	s->bytes[0] += (uint64_t)n;
	l->stats.bytes[0] += (uint64_t)n;
	return n;
}

/* NOLINTNEXTLINE(readability-function-size) */
static ssize_t on_length(nghttp2_session *h2, uint8_t type, int32_t id, int32_t window,
			 int32_t stream_window, uint32_t frame_max, void *arg)
{
	(void)h2;
	(void)type;
	(void)id;
	(void)window;
	(void)stream_window;
	(void)frame_max;
	(void)arg;
	return (ssize_t)DATA_MAX;
}

static bool flush(struct flat_wire_link *l)
{
	const uint8_t *bytes;
	ssize_t n;
	while (l->hbone && !l->failed) {
		if (flat_outbox_pending(&l->outbox) >= FLAT_WIRE_OUT_HIGH)
			return nghttp2_session_want_write(l->hbone->h2) != 0;
		n = nghttp2_session_mem_send(l->hbone->h2, &bytes);
		if (n < 0)
			(void)flat_wire_link_over(l, -ENOMEM, nghttp2_strerror((int)n));
		if (n <= 0)
			break;
		flat_wire_link_encrypt(l, bytes, (size_t)n);
	}
	/* After GOAWAY for what the peer did wrong. One that is drained is its owner's to end. */
	if (l->hbone && !l->failed && (!l->draining || l->n_streams > 0) &&
	    !nghttp2_session_want_read(l->hbone->h2) && !nghttp2_session_want_write(l->hbone->h2))
		(void)fail(l, "HTTP/2 is over");
	return false;
}

/* A refusal is whole; what follows of the request is not wanted (RFC 9113, 8.1). */
static int on_sent(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	struct flat_wire_link *l = arg;
	(void)h2;
	if (l->server && frame->hd.type == NGHTTP2_HEADERS &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		rst(l, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

/* --- bytes in --- */

/* nghttp2 prescribes the parameters. */
/* NOLINTNEXTLINE(readability-function-size) */
static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
		   void *arg)
{
	struct flat_wire_stream *s = stream_of(h2, id);
	(void)flags;
	check(arg, nghttp2_session_consume_connection(h2, len));
	/* nghttp2 has held it against the stream's window, which is no larger than ours. */
	if (s && len <= s->window)
		(void)flat_wire_stream_data(s, bytes, len);
	else if (s)
		flat_wire_stream_break(s, ENOBUFS);
	return 0;
}

static void credit(struct flat_wire_stream *s)
{
	struct flat_wire_link *l = s->link;
	check(l, nghttp2_session_consume_stream(l->hbone->h2, (int32_t)s->id, s->owed));
	s->window += s->owed;
	s->owed = 0;
}

static void on_request(struct flat_wire_link *l, int32_t id)
{
	const struct head *h = &l->hbone->head;
	struct flat_frame f = {.type = FLAT_FRAME_OPEN, .stream = (uint32_t)id};
	struct flat_wire_stream *s = flat_wire_stream_add(l, (uint32_t)id);
	f.from.port = h->port;
	if (l->tally->unanswered >= FLAT_WIRE_RESETS_MAX ||
	    l->tally->resets >= FLAT_HBONE_GUEST_RESETS_MAX) {
		l->stats.refused++;
		if (s)
			flat_wire_stream_remove(s);
		rst(l, id, NGHTTP2_REFUSED_STREAM);
	} else if (!s || nghttp2_session_set_stream_user_data(l->hbone->h2, id, s) != 0) {
		if (s)
			flat_wire_stream_remove(s);
		rst(l, id, NGHTTP2_REFUSED_STREAM);
	} else if (!h->connect || h->wrong || !parse_authority(h->authority, &f.to)) {
		flat_wire_refuse(s, EINVAL, "no CONNECT to an address and port");
	} else {
		l->ops->opened(l, s, &f);
	}
}

static int errno_of_status(unsigned status)
{
	switch (status) {
	case 401:
	case 403:
		return EACCES;
	case 504:
		return ETIMEDOUT;
	default:
		return ECONNREFUSED;
	}
}

static void on_response(struct flat_wire_link *l, struct flat_wire_stream *s)
{
	char text[64];
	unsigned status = l->hbone->head.status;
	if (s->open || status < 200)
		return;
	if (status == 200) {
		s->open = true;
		l->stats.opened++;
		l->ops->accepted(s, flat_spiffe_principal(l->peer.id));
		return;
	}
	snprintf(text, sizeof(text), "HBONE: it answers %u", status);
	l->stats.refused++;
	l->ops->refused(s, errno_of_status(status), text);
	rst(l, (int32_t)s->id, NGHTTP2_CANCEL);
	flat_wire_stream_remove(s);
}

static void on_settings(struct flat_wire_link *l, uint8_t flags)
{
	if ((flags & NGHTTP2_FLAG_ACK) || l->greeted)
		return;
	l->greeted = true;
	l->ops->ready(l);
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	struct flat_wire_link *l = arg;
	int32_t id = frame->hd.stream_id;
	struct flat_wire_stream *s;
	flat_wire_link_spend(l, 1);
	if (frame->hd.type == NGHTTP2_SETTINGS) {
		on_settings(l, frame->hd.flags);
		return 0;
	}
	/* A server can reset no more than we open. Of a client each counts, those of streams that we have refused too. */
	if (frame->hd.type == NGHTTP2_RST_STREAM && l->server)
		l->tally->resets++;
	if (frame->hd.type == NGHTTP2_RST_STREAM && l->server &&
	    l->resets++ == FLAT_HBONE_RESETS_MAX)
		return fail(l, "the peer resets too many streams");
	s = stream_of(h2, id);
	if (frame->hd.type == NGHTTP2_RST_STREAM && l->server && s && !s->fin_got &&
	    s->bytes[0] == 0)
		l->tally->unanswered++;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		l->draining = true;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		on_request(l, id);
	else if (frame->hd.type == NGHTTP2_HEADERS && s && !l->server)
		on_response(l, s);
	s = stream_of(h2, id);
	if (s && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
		s->fin_got = true;
		(void)flat_wire_stream_ends(s);
	}
	return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *arg)
{
	struct flat_wire_link *l = arg;
	struct flat_wire_stream *s = stream_of(h2, id);
	if (!s)
		return 0;
	if (!l->server && !s->open) {
		l->stats.refused++;
		l->ops->refused(s, code == NGHTTP2_REFUSED_STREAM ? EAGAIN : ECONNRESET,
				"HBONE: the peer reset the stream before it answered");
		flat_wire_stream_remove(s);
	} else if (s->open && s->fin_got) {
		/* All is here, and nothing more is wanted: what was kept is delivered still. */
		s->fin_sent = s->deaf = true;
		if (flat_wire_stream_ends(s))
			flat_wire_ready(s);
	} else {
		/* Without its end, a reset, whatever it calls it. */
		flat_wire_stream_end(s, ECONNRESET);
	}
	return 0;
}

static int read_bytes(struct flat_wire_link *l)
{
	ssize_t n = nghttp2_session_mem_recv(l->hbone->h2, l->plain, l->n_plain);
	l->n_plain = 0;
	if (n < 0 && !l->failed)
		return fail(l, nghttp2_strerror((int)n));
	return l->failed ? -EPROTO : 0;
}

/* --- opening --- */

static nghttp2_nv field(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
			    .value = (uint8_t *)(uintptr_t)value,
			    .namelen = strlen(name),
			    .valuelen = strlen(value),
			    .flags = NGHTTP2_NV_FLAG_NONE};
}

static struct flat_wire_stream *open_stream(struct flat_wire_link *l, const struct flat_addr *to,
					    const struct flat_addr *from, void *owner)
{
	char authority[FLAT_ADDR_STRLEN];
	char text[FLAT_ADDR_STRLEN];
	char forwarded[FLAT_ADDR_STRLEN + 8];
	nghttp2_data_provider body = {.read_callback = on_give};
	int32_t id = nghttp2_session_get_next_stream_id(l->hbone->h2) < INT32_MAX
			 ? (int32_t)nghttp2_session_get_next_stream_id(l->hbone->h2)
			 : -1;
	struct flat_wire_stream *s = id > 0 ? flat_wire_stream_add(l, (uint32_t)id) : NULL;
	if (!s)
		return NULL;
	s->owner = owner;
	snprintf(forwarded, sizeof(forwarded), "for=\"%s\"", flat_addr_str(from, text));
	const nghttp2_nv head[] = {field(":method", "CONNECT"),
				   field(":authority", flat_addr_str(to, authority)),
				   field("forwarded", forwarded)};
	if (nghttp2_submit_request(l->hbone->h2, NULL, head, FLAT_ARRAY_SIZE(head), &body, s) == id)
		return s;
	flat_wire_stream_remove(s);
	return NULL;
}

static void accept_stream(struct flat_wire_stream *s, const char *who)
{
	struct flat_wire_link *l = s->link;
	nghttp2_data_provider body = {.read_callback = on_give};
	const nghttp2_nv head[] = {field(":status", "200")};
	(void)who;
	check(l, nghttp2_submit_response(l->hbone->h2, (int32_t)s->id, head, 1, &body));
}

/* Why is not told: the peer may be no flatd, and whose policies these are is not its business. */
static void refuse_stream(struct flat_wire_stream *s, int err, const char *why)
{
	struct flat_wire_link *l = s->link;
	const char *status = err == EACCES	? "403"
			     : err == EINVAL	? "400"
			     : err == ETIMEDOUT ? "504"
						: "503";
	const nghttp2_nv head[] = {field(":status", status)};
	(void)why;
	check(l, nghttp2_submit_response(l->hbone->h2, (int32_t)s->id, head, 1, NULL));
}

static void reset_stream(struct flat_wire_stream *s, int err)
{
	(void)err;
	rst(s->link, (int32_t)s->id, NGHTTP2_CANCEL);
}

static void ready_stream(struct flat_wire_stream *s)
{
	check(s->link, nghttp2_session_resume_data(s->link->hbone->h2, (int32_t)s->id));
}

static void forget_stream(struct flat_wire_stream *s)
{
	if (s->link->hbone)
		(void)nghttp2_session_set_stream_user_data(s->link->hbone->h2, (int32_t)s->id,
							   NULL);
}

/* --- the session --- */

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *c;
	if (nghttp2_session_callbacks_new(&c) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_close);
	nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_length);
	return c;
}

static int open_session(struct flat_wire_link *l)
{
	nghttp2_session_callbacks *c = make_callbacks();
	nghttp2_option *o = NULL;
	int err = nghttp2_option_new(&o);
	if (c && err == 0) {
		nghttp2_option_set_no_auto_window_update(o, 1);
		nghttp2_option_set_no_closed_streams(o, 1);
#ifdef FLAT_NGHTTP2_LIMITS_RESETS
		/* Its own limit, 33 a second, ends a busy host's link with all that is open on it. Ours (on_frame()) is met first. */
		nghttp2_option_set_stream_reset_rate_limit(o, (uint64_t)2 * FLAT_HBONE_RESETS_MAX,
							   FLAT_WIRE_RESETS_MAX);
#endif
		err = l->server ? nghttp2_session_server_new2(&l->hbone->h2, c, l, o)
				: nghttp2_session_client_new2(&l->hbone->h2, c, l, o);
	}
	if (c)
		nghttp2_session_callbacks_del(c);
	if (o)
		nghttp2_option_del(o);
	return c && err == 0 ? 0 : -ENOMEM;
}

static int greet(struct flat_wire_link *l)
{
	nghttp2_settings_entry v[] = {
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, FLAT_WIRE_WINDOW},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, FLAT_HBONE_HEAD_MAX},
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->server ? FLAT_HBONE_STREAMS_MAX : 0},
	    {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	};
	l->hbone = calloc(1, sizeof(*l->hbone));
	if (!l->hbone || open_session(l) != 0 ||
	    nghttp2_submit_settings(l->hbone->h2, NGHTTP2_FLAG_NONE, v, l->server ? 3 : 4) != 0)
		return -ENOMEM;
	return nghttp2_session_set_local_window_size(l->hbone->h2, NGHTTP2_FLAG_NONE, 0,
						     FLAT_HBONE_WINDOW);
}

static void close_session(struct flat_wire_link *l)
{
	if (l->hbone)
		nghttp2_session_del(l->hbone->h2);
	free(l->hbone);
	l->hbone = NULL;
}

static void ping(struct flat_wire_link *l)
{
	if (l->hbone)
		check(l, nghttp2_submit_ping(l->hbone->h2, NGHTTP2_FLAG_NONE, NULL));
}

/* RFC 9113, 6.8: a server takes what was opened before it was heard, and says the last one in bye(). */
static void drain(struct flat_wire_link *l)
{
	if (l->hbone && l->server)
		check(l, nghttp2_submit_shutdown_notice(l->hbone->h2));
	else if (l->hbone)
		check(l,
		      nghttp2_submit_goaway(l->hbone->h2, NGHTTP2_FLAG_NONE,
					    nghttp2_session_get_last_proc_stream_id(l->hbone->h2),
					    NGHTTP2_NO_ERROR, NULL, 0));
}

static void bye(struct flat_wire_link *l)
{
	if (!l->hbone)
		return;
	check(l, nghttp2_session_terminate_session(l->hbone->h2, NGHTTP2_NO_ERROR));
	(void)flush(l);
	flat_records_close(&l->records, &l->outbox);
}

static uint32_t streams_max(const struct flat_wire_link *l)
{
	uint32_t max = l->hbone ? nghttp2_session_get_remote_settings(
				      l->hbone->h2, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
				: 0;
	return max < FLAT_WIRE_STREAMS_MAX ? max : FLAT_WIRE_STREAMS_MAX;
}

const struct flat_wire_protocol flat_wire_hbone = {
    .greet = greet,
    .read = read_bytes,
    .flush = flush,
    .ping = ping,
    .drain = drain,
    .bye = bye,
    .close = close_session,
    .streams_max = streams_max,
    .open = open_stream,
    .accept = accept_stream,
    .refuse = refuse_stream,
    .reset = reset_stream,
    .credit = credit,
    .ready = ready_stream,
    .forget = forget_stream,
};
