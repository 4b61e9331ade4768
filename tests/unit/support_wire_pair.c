#include "support_wire_pair.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wire_pair pair;

static void on_ready(struct flat_wire_link *l)
{
	((struct wire_side *)l->owner)->ready = true;
}

static void on_opened(struct flat_wire_link *l, struct flat_wire_stream *s,
		      const struct flat_frame *f)
{
	struct wire_side *side = l->owner;
	cr_assert_eq(f->to.port, 80);
	if (side->refuse) {
		flat_wire_refuse(s, side->refuse, "because");
		return;
	}
	cr_assert_lt(side->n, PAIR_STREAMS);
	struct wire_end *e = &side->ends[side->n++];
	e->stream = s;
	s->owner = e;
	e->port = f->from.port;
	flat_wire_accept(s, "d/ns/a/sa/server");
}

static void on_accepted(struct flat_wire_stream *s, const char *who)
{
	struct wire_end *e = s->owner;
	e->accepted = true;
	snprintf(e->text, sizeof(e->text), "%s", who);
}

static void on_refused(struct flat_wire_stream *s, int err, const char *why)
{
	struct wire_end *e = s->owner;
	e->over = true;
	e->err = err;
	snprintf(e->text, sizeof(e->text), "%s", why);
}

static ssize_t take(struct flat_wire_stream *s, const uint8_t *bytes, size_t len)
{
	struct wire_end *e = s->owner;
	size_t n = len < e->room ? len : e->room;
	cr_assert_leq(e->n_in + n, PAIR_BYTES);
	memcpy(e->in + e->n_in, bytes, n);
	e->n_in += n;
	e->room -= n;
	return (ssize_t)n;
}

static void on_fin(struct flat_wire_stream *s)
{
	((struct wire_end *)s->owner)->fin = true;
}

static ssize_t give(struct flat_wire_stream *s, uint8_t *buf, size_t max)
{
	struct wire_end *e = s->owner;
	size_t n = e->n_out - e->sent < max ? e->n_out - e->sent : max;
	if (n == 0)
		return e->out_ends ? 0 : -EAGAIN;
	memcpy(buf, e->out + e->sent, n);
	e->sent += n;
	return (ssize_t)n;
}

/* In two pieces, as where a ring wraps. */
static ssize_t look(struct flat_wire_stream *s, size_t max, struct iovec iov[2], int *n_iov)
{
	const struct wire_end *e = s->owner;
	size_t n = e->n_out - e->sent < max ? e->n_out - e->sent : max;
	size_t first = e->sent % 3 ? n : n / 3;
	iov[0] = (struct iovec){e->out + e->sent, first};
	iov[1] = (struct iovec){e->out + e->sent + first, n - first};
	*n_iov = first < n ? 2 : 1;
	return n > 0 ? (ssize_t)n : e->out_ends ? 0 : -EAGAIN;
}

static void pass(struct flat_wire_stream *s, size_t len)
{
	struct wire_end *e = s->owner;
	e->sent += len;
	e->in_place += len;
}

static void on_ended(struct flat_wire_stream *s, int err)
{
	struct wire_end *e = s->owner;
	e->stream = NULL;
	e->over = true;
	e->err = err;
}

const struct flat_wire_ops pair_ops = {.ready = on_ready,
				       .opened = on_opened,
				       .accepted = on_accepted,
				       .refused = on_refused,
				       .take = take,
				       .fin = on_fin,
				       .give = give,
				       .look = look,
				       .pass = pass,
				       .ended = on_ended};

bool pair_carry(struct wire_side *from, struct wire_side *to, size_t step)
{
	const uint8_t *bytes;
	size_t n = flat_wire_link_output(from->link, &bytes);
	n = n < step ? n : step;
	if (n == 0)
		return false;
	if (to->err == 0)
		to->err = flat_wire_link_input(to->link, bytes, n);
	flat_wire_link_sent(from->link, n);
	return true;
}

/* Until nothing moves. step: bytes at a time. */
void pair_run(size_t step)
{
	bool moved = true;
	while (moved) {
		(void)flat_wire_link_flush(pair.client.link);
		(void)flat_wire_link_flush(pair.server.link);
		moved = pair_carry(&pair.client, &pair.server, step);
		moved |= pair_carry(&pair.server, &pair.client, step);
	}
}

static void clear(void)
{
	memset(&pair.client, 0, sizeof(pair.client));
	memset(&pair.server, 0, sizeof(pair.server));
	for (int i = 0; i < PAIR_STREAMS; i++) {
		pair.client.ends[i].in = malloc(PAIR_BYTES);
		pair.server.ends[i].in = malloc(PAIR_BYTES);
		pair.client.ends[i].room = pair.server.ends[i].room = SIZE_MAX;
	}
}

void pair_open(struct flat_svids *mine, const char *principal, struct flat_svids *theirs)
{
	const struct flat_svid *svid = flat_svids_find(mine, principal);
	cr_assert_not_null(svid);
	clear();
	pair.client.link = flat_wire_link_new(mine, svid, false, &pair_ops, &pair.client);
	pair.server.link = flat_wire_link_new(theirs, theirs->node, true, &pair_ops, &pair.server);
	cr_assert(pair.client.link && pair.server.link);
}

void pair_open_hbone(const char *server, const char *expect)
{
	struct flat_svids *all = pair.svids;
	clear();
	pair.client.link = flat_wire_link_new_hbone(all, flat_svids_find(all, "d/ns/a/sa/client"),
						    expect, &pair_ops, &pair.client);
	pair.server.link = flat_wire_link_new_hbone(all, flat_svids_find(all, server), NULL,
						    &pair_ops, &pair.server);
	cr_assert(pair.client.link && pair.server.link);
}

void pair_close(void)
{
	flat_wire_link_free(pair.client.link, ECONNRESET);
	flat_wire_link_free(pair.server.link, ECONNRESET);
	for (int i = 0; i < PAIR_STREAMS; i++) {
		free(pair.client.ends[i].in);
		free(pair.server.ends[i].in);
		free(pair.client.ends[i].out);
		free(pair.server.ends[i].out);
	}
}

void pair_init(void)
{
	wire_folder_init(&pair.folder, "d");
	pair.svids = wire_load(&pair.folder);
	pair_open(pair.svids, "d/ns/a/sa/client", pair.svids);
}

void pair_fini(void)
{
	pair_close();
	flat_svids_put(pair.svids);
	wire_folder_fini(&pair.folder);
}

struct wire_end *pair_stream(void)
{
	struct flat_addr to = {.family = AF_INET, .port = 80, .ip = {10, 0, 0, 2}};
	struct wire_end *e = &pair.client.ends[pair.client.n++];
	e->stream = flat_wire_open(pair.client.link, &to, &to, e);
	cr_assert_not_null(e->stream);
	return e;
}

void pair_send(struct wire_end *e, size_t n, bool ends)
{
	e->out = malloc(n + 1);
	e->n_out = n;
	e->out_ends = ends;
	for (size_t i = 0; i < n; i++)
		e->out[i] = (uint8_t)rand();
	flat_wire_ready(e->stream);
}
