/*
 * Any bytes of a peer that speaks HBONE, or flat/1, at either side of a link, in any pieces, while streams are opened, answered, read slowly, ended
 * and reset. What is held against it: windows (W3 of docs/design/wire.md), the order in which a stream's owner is told, and that no
 * stream outlives its end. What is sent is sealed, and goes nowhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "wire/stream.h"

#define OWNERS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a stream's owner knows of it. */
struct owner {
	struct flat_wire_stream *stream; /* NULL: it is gone */
	bool open;
	bool fin;
	uint8_t step; /* how it reads, writes and answers: of the input */
	unsigned to_give;
};

static struct owner owners[OWNERS];
static size_t n_owners;
static uint8_t step;

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* --- what the link's owner does --- */

static struct owner *own(struct flat_wire_stream *s)
{
	struct owner *o = s->owner;
	require(o && o->stream == s);
	return o;
}

static bool adopt(struct flat_wire_stream *s)
{
	if (n_owners == OWNERS)
		return false;
	owners[n_owners] = (struct owner){.stream = s, .step = step, .to_give = step * 1000U};
	s->owner = &owners[n_owners++];
	return true;
}

static void ready(struct flat_wire_link *link)
{
	/* Before anything else is said; at a client, whose owner opens streams when he likes, none is answered. */
	require(link->greeted && (!link->server || link->n_streams == 0));
}

static void opened(struct flat_wire_link *link, struct flat_wire_stream *s,
		   const struct flat_frame *f)
{
	require(link->server && f->to.port != 0);
	if (!adopt(s) || step % 8 == 7) {
		if (s->owner)
			own(s)->stream = NULL;
		flat_wire_refuse(s, step % 16 == 7 ? EACCES : ECONNREFUSED, "refused");
	} else if (step % 8 != 6) {
		own(s)->open = true;
		flat_wire_accept(s, "d/ns/a/sa/b");
	}
}

static void accepted(struct flat_wire_stream *s, const char *who)
{
	require(!s->link->server && !own(s)->open && who);
	own(s)->open = true;
}

static void refused(struct flat_wire_stream *s, int err, const char *why)
{
	require(!s->link->server && !own(s)->open && err > 0 && why);
	own(s)->stream = NULL;
}

static ssize_t take(struct flat_wire_stream *s, const uint8_t *bytes, size_t len)
{
	const struct owner *o = own(s);
	uint8_t sum = 0;
	require(o->open && !o->fin && len > 0);
	for (size_t i = 0; i < len; i++)
		sum ^= bytes[i];
	if (o->step % 16 == 15)
		return -EPIPE;
	/* Whether it reads is not of the bytes; they are looked at all the same. */
	return o->step % 4 == 3 ? 0 : (ssize_t)(o->step % 4 == 2 ? (len + (sum & 1)) / 2 : len);
}

static void fin(struct flat_wire_stream *s)
{
	struct owner *o = own(s);
	require(o->open && !o->fin);
	o->fin = true;
}

static ssize_t give(struct flat_wire_stream *s, uint8_t *buf, size_t max)
{
	struct owner *o = own(s);
	size_t n = o->to_give < max ? o->to_give : max;
	require(o->open && max > 0);
	if (o->step % 32 == 31)
		return -ECONNRESET;
	if (n == 0)
		return o->step % 2 ? -EAGAIN : 0;
	memset(buf, o->step, n);
	o->to_give -= (unsigned)n;
	return (ssize_t)n;
}

static void ended(struct flat_wire_stream *s, int err)
{
	require(err >= 0);
	own(s)->stream = NULL;
}

static const struct flat_wire_ops ops = {
    .ready = ready,
    .opened = opened,
    .accepted = accepted,
    .refused = refused,
    .take = take,
    .fin = fin,
    .give = give,
    .ended = ended,
};

/* --- a session --- */

/* Of who asks: all of its links. */
static uint32_t quota;

static struct flat_wire_link *open_link(bool server, bool flat)
{
	struct flat_wire_link *l = calloc(1, sizeof(*l));
	struct flat_secrets secrets = {0};
	require(l != NULL);
	l->ops = &ops;
	l->protocol = flat ? &flat_wire_flat : &flat_wire_hbone;
	l->server = server;
	l->tally = &l->alone;
	l->quota = &quota;
	/* Two streams may keep bytes. */
	l->hold = flat_hold_new(NULL, 2 * (size_t)FLAT_WIRE_WINDOW);
	require(l->hold != NULL);
	for (int i = 0; i < 2; i++)
		secrets.len[i] = 32;
	require(flat_records_begin(&l->records, &secrets, 0x1301, server) == 0);
	l->shaken = true;
	memcpy(l->peer.id, "spiffe://d/ns/a/sa/peer", 24);
	TAILQ_INIT(&l->streams);
	TAILQ_INIT(&l->ready);
	require(l->protocol->greet(l) == 0);
	return l;
}

static void close_link(struct flat_wire_link *l)
{
	require(flat_wire_link_end(l, ECONNRESET, true));
	l->protocol->close(l);
	require(l->n_streams == 0);
	for (size_t i = 0; i < n_owners; i++)
		require(!owners[i].stream);
	n_owners = 0;
	flat_records_fini(&l->records);
	flat_outbox_fini(&l->outbox);
	require(l->hold->bytes == 0);
	flat_hold_put(l->hold);
	free(l);
}

/* --- what happens --- */

static void look(const struct flat_wire_link *l)
{
	const struct flat_wire_stream *s;
	uint32_t n = 0;
	TAILQ_FOREACH(s, &l->streams, link_)
	{
		n++;
		require(s->window + s->kept + s->owed == FLAT_WIRE_WINDOW);
		require(!s->fin_told || s->kept == 0);
	}
	require(n == l->n_streams);
}

static void drop_output(struct flat_wire_link *l)
{
	const uint8_t *bytes;
	size_t n = flat_wire_link_output(l, &bytes);
	require(n <= FLAT_WIRE_OUT_MAX + FLAT_WIRE_OUT_HIGH);
	flat_wire_link_sent(l, n);
}

static void feed(struct flat_wire_link *l, const uint8_t *bytes, size_t len)
{
	while (len > 0 && !l->failed) {
		size_t n = flat_min_size(len, sizeof(l->plain) - l->n_plain);
		memcpy(l->plain + l->n_plain, bytes, n);
		l->n_plain += n;
		bytes += n;
		len -= n;
		/* A few frames in a turn (W17). */
		do {
			quota = 3;
			if (l->protocol->read(l) != 0)
				require(l->failed);
		} while (l->stalled && !l->failed);
		require(l->failed ||
			l->n_plain < (l->hbone ? 1 : FLAT_FRAME_HEADER + FLAT_FRAME_BODY_MAX));
	}
}

static void act(struct flat_wire_link *l, unsigned what, struct owner *o)
{
	struct flat_addr to = {.family = 2, .port = 80, .ip = {10, 0, 0, 2}};
	struct flat_wire_stream *s = o ? o->stream : NULL;
	if (what == 0 && !l->server && l->greeted && !l->draining) {
		s = n_owners < OWNERS ? flat_wire_open(l, &to, &to, NULL) : NULL;
		require(!s || adopt(s));
	} else if (what == 1 && s && l->server && !s->open) {
		o->open = true;
		flat_wire_accept(s, "");
	} else if (what == 2 && s) {
		o->step = step;
		(void)flat_wire_room(s);
	} else if (what == 3 && s) {
		flat_wire_ready(s);
	} else if (what == 4 && s) {
		o->stream = NULL;
		flat_wire_reset(s, ECONNRESET);
	} else if (what == 5) {
		flat_wire_link_ping(l);
	} else if (what == 6) {
		flat_wire_link_drain(l);
	}
}

/* A client's or a server's first words: without them everything else is refused at once. */
static void prelude(struct flat_wire_link *l)
{
	static const uint8_t words[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	const struct flat_frame hello = {.type = FLAT_FRAME_HELLO, .number = FLAT_WIRE_WINDOW};
	uint8_t buf[FLAT_FRAME_HEADER + FLAT_FRAME_FIXED_MAX];
	if (!l->hbone) {
		feed(l, buf, flat_frame_write(&hello, buf));
		return;
	}
	feed(l, words + (l->server ? 0 : 24), sizeof(words) - 1 - (l->server ? 0 : 24));
}

/*
 * The first byte: the side, whether the prelude is said, and the protocol. Then pieces: a byte that says what (0 to 127: as many bytes of the peer; else an
 * act of the owner, on a stream), and a byte of how.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct flat_wire_link *l = open_link(data[0] & 1, data[0] & 4);
	if (data[0] & 2)
		prelude(l);
	for (size_t at = 1; at + 1 < size && !l->failed;) {
		unsigned what = data[at];
		step = data[at + 1];
		at += 2;
		if (what < 128) {
			size_t n = flat_min_size(what, size - at);
			feed(l, data + at, n);
			at += n;
		} else {
			act(l, what % 8, n_owners ? &owners[step % n_owners] : NULL);
		}
		look(l);
		(void)flat_wire_link_flush(l);
		look(l);
		drop_output(l);
	}
	flat_wire_link_bye(l);
	close_link(l);
	return 0;
}
