/* HBONE between two links, and from a client made of nghttp2 alone: identities, bytes, windows, ends, heads that are none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>

#include "support_wire_pair.h"

#define OTHER "d/ns/a/sa/other"

static void setup(void)
{
	pair_init();
	pair_close();
	pair_open_hbone(OTHER, FLAT_SPIFFE_SCHEME OTHER);
}

TestSuite(wire_hbone, .init = setup, .fini = pair_fini, .timeout = 60);

Test(wire_hbone, each_side_knows_the_other_by_its_certificate_and_speaks_h2)
{
	const unsigned char *alpn = NULL;
	unsigned int len = 0;
	pair_run(SIZE_MAX);
	cr_assert(pair.client.ready);
	cr_assert_str_eq(pair.client.link->peer.id, "spiffe://d/ns/a/sa/other");
	cr_assert_str_eq(pair.server.link->peer.id, "spiffe://d/ns/a/sa/client");
	SSL_get0_alpn_selected(pair.client.link->ssl, &alpn, &len);
	cr_assert(len == 2 && memcmp(alpn, "h2", 2) == 0);
}

Test(wire_hbone, bytes_arrive_whole_and_both_ends_end_whatever_the_pieces)
{
	static const size_t steps[] = {1, 7, 1500, SIZE_MAX};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(steps); i++) {
		size_t n = steps[i] < 100 ? 20000 : 1000000;
		pair_close();
		pair_open_hbone(OTHER, FLAT_SPIFFE_SCHEME OTHER);
		pair_run(steps[i]);
		struct wire_end *c = pair_stream();
		pair_run(steps[i]);
		struct wire_end *s = &pair.server.ends[0];
		cr_assert(c->accepted);
		cr_assert_str_eq(c->text, OTHER);
		cr_assert_eq(s->port, 80);
		pair_send(c, n, true);
		pair_send(s, n / 2, true);
		pair_run(steps[i]);
		cr_assert(c->fin && s->fin && c->over && s->over);
		cr_assert_eq(c->err, 0);
		cr_assert_eq(s->n_in, n);
		cr_assert_eq(memcmp(s->in, c->out, n), 0);
		cr_assert_eq(c->n_in, n / 2);
		cr_assert_eq(memcmp(c->in, s->out, n / 2), 0);
		cr_assert_eq(pair.client.link->n_streams + pair.server.link->n_streams, 0);
	}
}

Test(wire_hbone, one_direction_ends_and_the_other_goes_on)
{
	pair_run(SIZE_MAX);
	struct wire_end *c = pair_stream();
	pair_run(SIZE_MAX);
	pair_send(c, 10, true);
	pair_run(SIZE_MAX);
	struct wire_end *s = &pair.server.ends[0];
	cr_assert(s->fin && !s->over && !c->over);
	pair_send(s, 600000, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(c->n_in, 600000);
	cr_assert(c->fin && c->over && s->over);
	cr_assert_eq(c->err + s->err, 0);
}

Test(wire_hbone, a_stream_nobody_reads_is_bounded_and_stalls_no_other)
{
	pair_run(SIZE_MAX);
	struct wire_end *slow = pair_stream();
	struct wire_end *fast = pair_stream();
	pair_run(SIZE_MAX);
	pair.server.ends[0].room = 1000;
	pair_send(slow, 3000000, true);
	pair_send(fast, 3000000, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[1].n_in, 3000000);
	cr_assert_eq(memcmp(pair.server.ends[1].in, fast->out, 3000000), 0);
	cr_assert_leq(slow->sent, FLAT_WIRE_WINDOW + 1000);
	cr_assert_eq(pair.server.ends[0].stream->kept + pair.server.ends[0].stream->window,
		     FLAT_WIRE_WINDOW);
	pair.server.ends[0].room = SIZE_MAX;
	cr_assert(flat_wire_room(pair.server.ends[0].stream));
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[0].n_in, 3000000);
	cr_assert_eq(memcmp(pair.server.ends[0].in, slow->out, 3000000), 0);
	cr_assert(pair.server.ends[0].fin);
}

Test(wire_hbone, an_end_that_comes_before_its_bytes_are_read_waits_for_them)
{
	pair_run(SIZE_MAX);
	struct wire_end *c = pair_stream();
	pair_run(SIZE_MAX);
	struct wire_end *s = &pair.server.ends[0];
	s->room = 0;
	pair_send(c, 50000, true);
	pair_send(s, 10, true);
	pair_run(SIZE_MAX);
	cr_assert(c->over && !s->fin && !s->over);
	s->room = SIZE_MAX;
	cr_assert(!flat_wire_room(s->stream));
	cr_assert(s->fin && s->over);
	cr_assert_eq(s->err, 0);
	cr_assert_eq(s->n_in, 50000);
}

Test(wire_hbone, a_refusal_is_told_by_its_status)
{
	static const struct {
		int err, seen;
	} v[] = {{EACCES, EACCES},
		 {ECONNREFUSED, ECONNREFUSED},
		 {ENOBUFS, ECONNREFUSED},
		 {ETIMEDOUT, ETIMEDOUT}};
	pair_run(SIZE_MAX);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		pair.server.refuse = v[i].err;
		struct wire_end *e = pair_stream();
		pair_run(SIZE_MAX);
		cr_assert(e->over && !e->accepted);
		cr_assert_eq(e->err, v[i].seen);
		cr_assert_eq(pair.client.link->n_streams + pair.server.link->n_streams, 0);
	}
	pair.server.refuse = 0;
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	cr_assert(e->accepted);
}

Test(wire_hbone, a_reset_reaches_the_other_side)
{
	pair_run(SIZE_MAX);
	struct wire_end *one = pair_stream();
	struct wire_end *two = pair_stream();
	pair_run(SIZE_MAX);
	flat_wire_reset(one->stream, ECONNRESET);
	flat_wire_reset(pair.server.ends[1].stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_assert(pair.server.ends[0].over && two->over);
	cr_assert_eq(pair.server.ends[0].err, ECONNRESET);
	cr_assert_eq(two->err, ECONNRESET);
	cr_assert_eq(pair.client.link->n_streams + pair.server.link->n_streams, 0);
	cr_assert_eq(pair.client.err + pair.server.err, 0);
}

Test(wire_hbone, a_server_that_is_somebody_else_is_refused)
{
	pair_close();
	pair_open_hbone(OTHER, "spiffe://d/ns/a/sa/someone");
	pair_run(SIZE_MAX);
	cr_assert(!pair.client.ready);
	cr_assert_eq(pair.client.err, -EACCES);
	cr_assert(strstr(pair.client.link->why, "not spiffe://d/ns/a/sa/someone"), "%s",
		  pair.client.link->why);
}

Test(wire_hbone, who_speaks_another_protocol_is_refused)
{
	struct flat_svids *all = pair.svids;
	flat_wire_link_free(pair.client.link, ECONNRESET);
	pair.client.link = flat_wire_link_new(all, flat_svids_find(all, "d/ns/a/sa/client"), false,
					      &pair_ops, &pair.client);
	pair_run(SIZE_MAX);
	cr_assert(!pair.client.ready);
	cr_assert_neq(pair.client.err, 0);
	cr_assert_neq(pair.server.err, 0);
}

Test(wire_hbone, no_further_streams_after_goodbye)
{
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	flat_wire_link_drain(pair.server.link);
	pair_run(SIZE_MAX);
	cr_assert(pair.client.link->draining);
	pair_send(e, 100000, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[0].n_in, 100000);
	flat_wire_link_bye(pair.client.link);
	pair_run(SIZE_MAX);
	cr_assert_neq(pair.server.err, 0);
}

Test(wire_hbone, a_stream_that_crosses_the_servers_goodbye_is_served)
{
	pair_run(SIZE_MAX);
	flat_wire_link_drain(pair.server.link);
	struct wire_end *e = pair_stream();
	/* GOAWAY is made before the stream comes. */
	(void)flat_wire_link_flush(pair.server.link);
	pair_run(SIZE_MAX);
	cr_assert(pair.client.link->draining);
	cr_assert(e->accepted, "%d %s", e->err, e->text);
	pair_send(e, 1000, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[0].n_in, 1000);
}

Test(wire_hbone, who_writes_to_a_peer_that_reads_no_more_does_not_wait)
{
	pair_run(SIZE_MAX);
	struct wire_end *c = pair_stream();
	pair_run(SIZE_MAX);
	struct wire_end *s = &pair.server.ends[0];
	s->room = 0;
	pair_send(c, 1000, true);
	pair_run(SIZE_MAX);
	/* It writes more than there is room for, before it reads. */
	pair_send(s, 3 * FLAT_WIRE_WINDOW, false);
	c->room = 0;
	pair_run(SIZE_MAX);
	cr_assert_lt(s->sent, s->n_out);
	flat_wire_reset(c->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_assert(!s->over && !s->fin);
	cr_assert_eq(s->sent, s->n_out);
	s->room = SIZE_MAX;
	(void)flat_wire_room(s->stream);
	cr_assert_eq(s->n_in, 1000);
	cr_assert(s->fin && s->over);
	cr_assert_eq(s->err, 0);
}

/* --- a client of nghttp2's --- */

struct raw {
	SSL *ssl;
	BIO *in, *out;
	struct flat_wire_peer peer;
	nghttp2_session *h2;
	int status;
	bool reset;
};

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	struct raw *r = arg;
	(void)h2;
	(void)frame;
	(void)value_len;
	(void)flags;
	if (name_len == 7 && memcmp(name, ":status", 7) == 0)
		r->status = (int)strtol((const char *)value, NULL, 10);
	return 0;
}

static int on_close(nghttp2_session *h2, int32_t id, uint32_t code, void *arg)
{
	struct raw *r = arg;
	(void)h2;
	(void)id;
	r->reset |= code != NGHTTP2_NO_ERROR;
	return 0;
}

static void raw_open(struct raw *r)
{
	const struct flat_svid *svid = flat_svids_find(pair.svids, "d/ns/a/sa/client");
	nghttp2_session_callbacks *c;
	memset(r, 0, sizeof(*r));
	r->peer = (struct flat_wire_peer){.svids = pair.svids, .server = true, .hbone = true};
	snprintf(r->peer.expect, sizeof(r->peer.expect), FLAT_SPIFFE_SCHEME OTHER);
	r->ssl = SSL_new(svid->ctx);
	r->in = BIO_new(BIO_s_mem());
	r->out = BIO_new(BIO_s_mem());
	SSL_set_bio(r->ssl, r->in, r->out);
	SSL_set_app_data(r->ssl, &r->peer);
	SSL_set_alpn_protos(r->ssl, (const unsigned char *)"\2h2", 3);
	SSL_set_connect_state(r->ssl);
	cr_assert_eq(nghttp2_session_callbacks_new(&c), 0);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_close);
	/* What an honest client would not send is sent too. */
	nghttp2_option *o;
	cr_assert_eq(nghttp2_option_new(&o), 0);
	nghttp2_option_set_no_http_messaging(o, 1);
	cr_assert_eq(nghttp2_session_client_new2(&r->h2, c, r, o), 0);
	nghttp2_option_del(o);
	nghttp2_session_callbacks_del(c);
	cr_assert_eq(nghttp2_submit_settings(r->h2, NGHTTP2_FLAG_NONE, NULL, 0), 0);
}

static void raw_run(struct raw *r)
{
	uint8_t buf[16384];
	const uint8_t *bytes;
	for (int i = 0; i < 20 && pair.server.err == 0; i++) {
		ssize_t n;
		if (SSL_do_handshake(r->ssl) == 1) {
			while ((n = nghttp2_session_mem_send(r->h2, &bytes)) > 0)
				cr_assert_eq(SSL_write(r->ssl, bytes, (int)n), n);
			while ((n = SSL_read(r->ssl, buf, sizeof(buf))) > 0)
				cr_assert_geq(nghttp2_session_mem_recv(r->h2, buf, (size_t)n), 0);
		}
		if ((n = BIO_read(r->out, buf, sizeof(buf))) > 0)
			pair.server.err = flat_wire_link_input(pair.server.link, buf, (size_t)n);
		(void)flat_wire_link_flush(pair.server.link);
		size_t len = flat_wire_link_output(pair.server.link, &bytes);
		if (len > 0)
			(void)BIO_write(r->in, bytes, (int)len);
		flat_wire_link_sent(pair.server.link, len);
	}
}

static void raw_close(struct raw *r)
{
	nghttp2_session_del(r->h2);
	SSL_free(r->ssl);
	flat_wire_peer_fini(&r->peer);
}

/* Asks, and says how it ends: the status, 0 for a reset stream, -1 for a link that is over. body: NULL: it has none. */
static int ask_for(struct raw *r, const char *method, const char *authority, const char *path,
		   const nghttp2_data_provider *body)
{
	nghttp2_nv nv[4] = {
	    {(uint8_t *)(uintptr_t) ":method", (uint8_t *)(uintptr_t)method, 7, strlen(method), 0},
	    {(uint8_t *)(uintptr_t) ":authority", (uint8_t *)(uintptr_t)authority, 10,
	     strlen(authority), 0},
	    {(uint8_t *)(uintptr_t) ":scheme", (uint8_t *)(uintptr_t) "https", 7, 5, 0},
	    {(uint8_t *)(uintptr_t) ":path", (uint8_t *)(uintptr_t)path, 5, path ? strlen(path) : 0,
	     0},
	};
	r->status = 0;
	cr_assert_gt(nghttp2_submit_request(r->h2, NULL, nv, path ? 4 : 2, body, NULL), 0);
	raw_run(r);
	return pair.server.err ? -1 : r->status;
}

static int ask(struct raw *r, const char *method, const char *authority, const char *path)
{
	return ask_for(r, method, authority, path, NULL);
}

Test(wire_hbone, what_is_no_connect_to_an_address_is_refused_and_the_link_goes_on)
{
	static const char *const wrong[] = {
	    "10.0.0.2",	    "10.0.0.2:0",    "10.0.0.2:65536",
	    "10.0.0.2:80 ", "host:80",	     ":80",
	    "[::1:80",	    "[::1]",	     "10.0.0.2:+80",
	    "::1:80",	    "[10.0.0.2]:80", "user@10.0.0.2:80",
	    "[]:80",	    "10.0.0.2:",     "99999999999999999999.1:80"};
	struct raw r;
	raw_open(&r);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(wrong); i++) {
		int status = ask(&r, "CONNECT", wrong[i], NULL);
		cr_assert(status == 400 || (status == 0 && r.reset), "%s: %d", wrong[i], status);
	}
	cr_assert_eq(ask(&r, "GET", "10.0.0.2:80", "/"), 400);
	cr_assert_eq(pair.server.n, 0);
	cr_assert_eq(ask(&r, "CONNECT", "10.0.0.2:80", NULL), 200);
	cr_assert_eq(ask(&r, "CONNECT", "[fd00::2]:80", NULL), 200);
	/* These requests had no body: their end is the stream's. */
	cr_assert(pair.server.ends[0].fin && pair.server.ends[1].fin);
	raw_close(&r);
}

static ssize_t nothing_yet(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t len,
			   uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	(void)h2, (void)id, (void)buf, (void)len, (void)flags, (void)source, (void)arg;
	return NGHTTP2_ERR_DEFERRED;
}

/* What the client has to say goes to its TLS, and not on yet. */
static void raw_say(struct raw *r)
{
	const uint8_t *bytes;
	ssize_t n;
	while ((n = nghttp2_session_mem_send(r->h2, &bytes)) > 0)
		cr_assert_eq(SSL_write(r->ssl, bytes, (int)n), n);
}

/*
 * Opens and resets n times, for as long as it may. body: the stream has no end before its reset. beside: one goes on, and others are
 * refused. forgiven: so many after each.
 */
static void open_and_reset(unsigned n, bool body, uint32_t code, bool beside, uint32_t forgiven)
{
	const nghttp2_data_provider data = {.read_callback = nothing_yet};
	struct raw r;
	raw_open(&r);
	if (beside) {
		cr_assert_eq(ask_for(&r, "CONNECT", "10.0.0.2:80", NULL, &data), 200);
		pair.server.refuse = EACCES;
	}
	for (unsigned i = 0; i < n && pair.server.err == 0; i++) {
		nghttp2_nv nv[2] = {
		    {(uint8_t *)(uintptr_t) ":method", (uint8_t *)(uintptr_t) "CONNECT", 7, 7, 0},
		    {(uint8_t *)(uintptr_t) ":authority", (uint8_t *)(uintptr_t) "10.0.0.2:80", 10,
		     11, 0},
		};
		int32_t id = nghttp2_submit_request(r.h2, NULL, nv, 2, body ? &data : NULL, NULL);
		if (beside)
			raw_say(&r);
		else
			raw_run(&r);
		pair.server.n = beside;
		(void)nghttp2_submit_rst_stream(r.h2, NGHTTP2_FLAG_NONE, id, code);
		raw_run(&r);
		flat_wire_link_forgive(pair.server.link, forgiven);
	}
	raw_close(&r);
}

static void flood(bool body, uint32_t code, bool beside)
{
	open_and_reset(2 * FLAT_HBONE_RESETS_MAX, body, code, beside, 0);
	cr_assert_neq(pair.server.err, 0);
}

Test(wire_hbone, a_client_that_opens_and_resets_without_end_is_cut_off)
{
	flood(false, NGHTTP2_CANCEL, false);
	cr_expect_leq(pair.server.link->resets, FLAT_HBONE_RESETS_MAX + 1);
}

Test(wire_hbone, no_error_is_a_reset_all_the_same)
{
	flood(true, NGHTTP2_NO_ERROR, false);
	cr_expect_str_eq(pair.server.link->why, "the peer resets too many streams");
	cr_expect_eq(pair.server.link->resets, FLAT_HBONE_RESETS_MAX + 1);
}

/*
 * A stream that both have ended, with bytes here that nobody has read yet, is over for HTTP/2: that it ended so makes up for no
 * reset, or who lets every second one end so would be cut off by nothing but time.
 */
Test(wire_hbone, a_stream_that_ends_well_makes_up_for_no_reset)
{
	pair_run(SIZE_MAX);
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	pair.server.link->resets = 7;
	pair.server.ends[0].room = 0;
	pair_send(e, 100, true);
	pair_send(&pair.server.ends[0], 100, true);
	pair_run(SIZE_MAX);
	cr_assert_eq(pair.server.ends[0].n_in, 0);
	cr_expect_eq(pair.server.link->resets, 7);
	pair.server.ends[0].room = SIZE_MAX;
	(void)flat_wire_room(pair.server.ends[0].stream);
	cr_expect_eq(pair.server.ends[0].n_in, 100);
	cr_expect(pair.server.ends[0].fin && pair.server.ends[0].over);
}

/* Each has cost a look at who listens there and at policies, and is answered by a head that its reset takes back. */
Test(wire_hbone, streams_that_are_refused_and_reset_count_too)
{
	flood(true, NGHTTP2_CANCEL, true);
	cr_expect_str_eq(pair.server.link->why, "the peer resets too many streams");
}

/* nghttp2's own limit would end it, with the stream that goes on. */
Test(wire_hbone, a_busy_host_whose_resets_are_forgiven_goes_on)
{
	open_and_reset(FLAT_HBONE_RESETS_MAX + 500, true, NGHTTP2_CANCEL, true, 1);
	cr_expect(pair.server.err == 0 && !pair.server.link->failed, "%s", pair.server.link->why);
	cr_expect_eq(pair.server.link->n_streams, 1);
}

Test(wire_hbone, streams_reset_unanswered_on_all_links_of_a_peer_are_bounded)
{
	struct flat_wire_tally tally = {.unanswered = FLAT_WIRE_RESETS_MAX - 1};
	pair_run(SIZE_MAX);
	pair.server.link->tally = &tally;
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	flat_wire_reset(e->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_expect_eq(tally.unanswered, FLAT_WIRE_RESETS_MAX);
	/* The owner does not hear of it; the peer is told that it may ask elsewhere, or later. */
	e = pair_stream();
	pair_run(SIZE_MAX);
	cr_expect_eq(e->err, EAGAIN);
	cr_expect_eq(pair.server.n, 1);
	cr_expect_eq(pair.server.link->stats.refused, 1);
	tally.unanswered--;
	e = pair_stream();
	pair_run(SIZE_MAX);
	cr_expect(e->accepted);
	/* One that was answered is none of these, nor one that the peer has ended. */
	pair_send(&pair.server.ends[1], 10, false);
	pair_run(SIZE_MAX);
	flat_wire_reset(e->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	e = pair_stream();
	pair_run(SIZE_MAX);
	pair_send(e, 10, true);
	pair_run(SIZE_MAX);
	flat_wire_reset(e->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_expect_eq(tally.unanswered, FLAT_WIRE_RESETS_MAX - 1);
	cr_expect_eq(pair.server.link->n_streams, 0);
}

Test(wire_hbone, streams_that_end_with_their_link_count_as_those_that_are_reset)
{
	struct flat_wire_tally tally = {.cut = FLAT_WIRE_CUT_MAX - 1};
	pair_run(SIZE_MAX);
	pair.server.link->tally = &tally;
	for (int i = 0; i < 4; i++)
		(void)pair_stream();
	pair_run(SIZE_MAX);
	pair_send(&pair.server.ends[0], 10, false);
	pair_run(SIZE_MAX);
	cr_expect(flat_wire_link_end(pair.server.link, ECONNRESET, true));
	cr_expect_eq(tally.unanswered, 3);
	cr_expect_eq(tally.resets, 3);
	cr_expect_eq(tally.cut, FLAT_WIRE_CUT_MAX);
}

Test(wire_hbone, resets_on_all_links_of_a_peer_are_bounded_whatever_was_answered)
{
	struct flat_wire_tally tally = {.resets = FLAT_HBONE_GUEST_RESETS_MAX - 1};
	pair_run(SIZE_MAX);
	pair.server.link->tally = &tally;
	struct wire_end *e = pair_stream();
	pair_run(SIZE_MAX);
	pair_send(&pair.server.ends[0], 10, false);
	pair_run(SIZE_MAX);
	flat_wire_reset(e->stream, ECONNRESET);
	pair_run(SIZE_MAX);
	cr_expect_eq(tally.resets, FLAT_HBONE_GUEST_RESETS_MAX);
	e = pair_stream();
	pair_run(SIZE_MAX);
	cr_expect_eq(e->err, EAGAIN);
	cr_expect_eq(pair.server.n, 1);
	/* The link goes on. */
	cr_expect_eq(pair.server.err, 0);
	tally.resets--;
	e = pair_stream();
	pair_run(SIZE_MAX);
	cr_expect(e->accepted);
}
