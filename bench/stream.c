/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void perf_stream_init(struct perf_stream *s, uint32_t max_msg)
{
	memset(s, 0, sizeof(*s));
	s->held_cap = max_msg;
}

void perf_stream_fini(struct perf_stream *s)
{
	free(s->held);
	s->held = NULL;
}

bool perf_stream_whole(const struct perf_stream *s)
{
	return s->have == 0;
}

/* Called when the header is complete. */
static int begin_message(struct perf_stream *s, const uint8_t *head)
{
	int rc = perf_msg_get(head, &s->msg);
	if (rc < 0)
		return rc;
	if (s->msg.length > s->held_cap)
		return -EMSGSIZE;
	if (s->msg.seq != s->next_seq)
		return -EILSEQ;
	return 0;
}

static void end_message(struct perf_stream *s)
{
	s->have = 0;
	s->next_seq++;
	s->messages++;
}

static int check_body(const struct perf_stream *s, const uint8_t *at, size_t offset, size_t len)
{
	if (!(s->msg.flags & PERF_MSG_VERIFY))
		return 0;
	return memcmp(at, perf_pattern(s->msg.seq, offset), len) ? -EILSEQ : 0;
}

/*
 * Messages that lie whole in the input, from *at on. Answers that follow each other go out in one
 * send, from where they lie.
 */
static int take_whole(struct perf_stream *s, const uint8_t **at, const uint8_t *end,
		      perf_reply_fn reply, void *context)
{
	const uint8_t *from = *at; /* answers begin here and end at *at */
	int rc = 0;
	while ((size_t)(end - *at) >= PERF_MSG_MIN) {
		rc = begin_message(s, *at);
		if (rc < 0 || (size_t)(end - *at) < s->msg.length)
			break;
		rc = check_body(s, *at + PERF_MSG_MIN, 0, s->msg.length - PERF_MSG_MIN);
		if (rc < 0)
			break;
		const uint8_t *next = *at + s->msg.length;
		if (!(s->msg.flags & PERF_MSG_REPLY)) {
			if (*at != from)
				rc = reply(context, from, (size_t)(*at - from));
			from = next;
		}
		*at = next;
		end_message(s);
		if (rc < 0)
			return rc;
	}
	if (*at != from) {
		int sent = reply(context, from, (size_t)(*at - from));
		return rc < 0 ? rc : sent;
	}
	return rc;
}

/* A message that came in pieces: take what there is of it. */
static int take_piece(struct perf_stream *s, const uint8_t **at, const uint8_t *end,
		      perf_reply_fn reply, void *context)
{
	size_t avail = (size_t)(end - *at);
	if (s->have < PERF_MSG_MIN) {
		size_t n = PERF_MSG_MIN - s->have;
		n = n < avail ? n : avail;
		memcpy(s->head + s->have, *at, n);
		*at += n;
		avail -= n;
		s->have += (uint32_t)n;
		if (s->have < PERF_MSG_MIN)
			return 0;
		int rc = begin_message(s, s->head);
		if (rc < 0)
			return rc;
		if ((s->msg.flags & PERF_MSG_REPLY) && !s->held) {
			s->held = malloc(s->held_cap);
			if (!s->held)
				return -ENOMEM;
		}
	}
	size_t n = s->msg.length - s->have;
	n = n < avail ? n : avail;
	int rc = check_body(s, *at, s->have - PERF_MSG_MIN, n);
	if (rc < 0)
		return rc;
	if ((s->msg.flags & PERF_MSG_REPLY) && n)
		memcpy(s->held + s->have, *at, n);
	*at += n;
	s->have += (uint32_t)n;
	if (s->have < s->msg.length)
		return 0;
	bool answer = s->msg.flags & PERF_MSG_REPLY;
	uint32_t length = s->msg.length;
	end_message(s);
	if (!answer)
		return 0;
	memcpy(s->held, s->head, PERF_MSG_MIN);
	return reply(context, s->held, length);
}

static int take_counter(struct perf_stream *s, const uint8_t *at, perf_reply_fn reply,
			void *context)
{
	uint64_t value = perf_counter_get(at);
	if (s->ended)
		return -EPROTO;
	if (value == PERF_COUNTER_END) {
		uint8_t count[PERF_COUNTER_BYTES];
		s->ended = true;
		perf_counter_put(count, s->next_seq);
		return reply(context, count, sizeof(count));
	}
	if (value != s->next_seq)
		return -EILSEQ;
	s->next_seq++;
	s->messages++;
	return 0;
}

static int take_counters(struct perf_stream *s, const uint8_t *at, const uint8_t *end,
			 perf_reply_fn reply, void *context)
{
	int rc = 0;
	while (at < end && rc == 0) {
		if (s->have == 0 && end - at >= (ptrdiff_t)PERF_COUNTER_BYTES) {
			rc = take_counter(s, at, reply, context);
			at += PERF_COUNTER_BYTES;
			continue;
		}
		/* One that came in pieces. */
		s->head[s->have++] = *at++;
		if (s->have == PERF_COUNTER_BYTES) {
			s->have = 0;
			rc = take_counter(s, s->head, reply, context);
		}
	}
	return rc;
}

int perf_stream_feed(struct perf_stream *s, const void *data, size_t len, perf_reply_fn reply,
		     void *context)
{
	const uint8_t *at = data;
	const uint8_t *end = at + len;
	if (!len)
		return 0;
	s->bytes += len;
	if (!s->begun) {
		s->begun = true;
		s->echo = *at == PERF_KIND_ECHO;
		s->counters = *at == PERF_KIND_COUNTERS;
		at += s->counters;
	}
	if (s->echo)
		return reply(context, data, len);
	if (s->counters)
		return take_counters(s, at, end, reply, context);
	while (at < end) {
		int rc = 0;
		if (!s->have)
			rc = take_whole(s, &at, end, reply, context);
		if (rc == 0 && at < end)
			rc = take_piece(s, &at, end, reply, context);
		if (rc < 0)
			return rc;
	}
	return 0;
}
