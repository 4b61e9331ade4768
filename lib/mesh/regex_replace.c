/*
 * Replacing what a regular expression finds: the automaton of regex.c, whose states carry where their groups began and
 * ended (R. Cox, "Regular Expression Matching: the Virtual Machine Approach", Pike's algorithm). States stand in the order
 * of preference, so that what is found is what RE2 finds: the leftmost, then by greed and laziness.
 */
#include <errno.h>
#include <string.h>

#include "mesh/regex_program.h"

/* Begin and end of the whole and of nine groups. */
#define SLOTS 20U
#define NOWHERE UINT32_MAX

struct slots {
	uint32_t v[SLOTS];
};

struct threads {
	uint16_t at[FLAT_REGEX_STATES_MAX];
	struct slots slots[FLAT_REGEX_STATES_MAX];
	uint32_t n;
};

/* What is left to follow: a state, or a slot to be put back (old). */
struct todo {
	uint16_t at;
	uint16_t slot; /* SLOTS: a state */
	uint32_t old;
};

struct search {
	const struct flat_regex *regex;
	uint64_t in[FLAT_REGEX_STATES_MAX / 64];
	struct todo todo[FLAT_REGEX_STATES_MAX * 2 + SLOTS];
	size_t len;
	uint32_t steps; /* that are left */
};

/* Adds a state and all that it leads to without a byte, in the order of preference. */
static void follow(struct search *s, struct threads *to, uint32_t from, struct slots *slots,
		   size_t pos)
{
	uint32_t n = 0;

	s->todo[n++] = (struct todo){.at = (uint16_t)from, .slot = SLOTS};
	while (n > 0) {
		struct todo t = s->todo[--n];
		const struct regex_state *state = &s->regex->v[t.at];

		if (s->steps > 0)
			s->steps--;
		if (t.slot != SLOTS) {
			slots->v[t.slot] = t.old;
			continue;
		}
		if (s->in[t.at >> 6] >> (t.at & 63) & 1)
			continue;
		s->in[t.at >> 6] |= 1ULL << (t.at & 63);
		switch (state->op) {
		case OP_SPLIT:
			s->todo[n++] = (struct todo){.at = state->y, .slot = SLOTS};
			s->todo[n++] = (struct todo){.at = state->x, .slot = SLOTS};
			break;
		case OP_JUMP:
			s->todo[n++] = (struct todo){.at = state->x, .slot = SLOTS};
			break;
		case OP_BEGIN:
		case OP_END:
			if (state->op == OP_BEGIN ? pos == 0 : pos == s->len)
				s->todo[n++] =
				    (struct todo){.at = (uint16_t)(t.at + 1), .slot = SLOTS};
			break;
		case OP_SAVE:
			s->todo[n++] = (struct todo){.slot = state->x, .old = slots->v[state->x]};
			s->todo[n++] = (struct todo){.at = (uint16_t)(t.at + 1), .slot = SLOTS};
			slots->v[state->x] = (uint32_t)pos;
			break;
		default:
			to->slots[to->n] = *slots;
			to->at[to->n++] = t.at;
			break;
		}
	}
}

/* The first match at or behind `from`. Without a step left: false. */
static bool find(struct search *s, const char *text, size_t from, struct threads lists[2],
		 struct slots *found)
{
	struct threads *now = &lists[0];
	struct threads *next = &lists[1];
	bool any = false;

	now->n = 0;
	memset(s->in, 0, sizeof(s->in));
	for (size_t pos = from; s->steps > 0; pos++) {
		struct threads *used = now;

		/* One more begins here, after those that began before. */
		if (!any) {
			struct slots none;

			memset(&none, 0xff, sizeof(none));
			none.v[0] = (uint32_t)pos;
			follow(s, now, 0, &none, pos);
		}
		memset(s->in, 0, sizeof(s->in));
		next->n = 0;
		for (uint32_t k = 0; k < now->n; k++) {
			const struct regex_state *state = &s->regex->v[now->at[k]];
			unsigned byte = pos < s->len ? (unsigned char)text[pos] : 0;

			if (state->op == OP_MATCH) {
				/* Whoever stands behind it is liked less. */
				*found = now->slots[k];
				found->v[1] = (uint32_t)pos;
				any = true;
				break;
			}
			if (pos < s->len && (state->class[byte >> 5] >> (byte & 31) & 1))
				follow(s, next, now->at[k] + 1U, &now->slots[k], pos + 1);
		}
		if (pos >= s->len || (any && next->n == 0))
			return any;
		now = next;
		next = used;
	}
	return false;
}

struct output {
	char *v;
	size_t len, size;
	bool full;
};

static void put(struct output *out, const char *text, size_t len)
{
	if (len > out->size - out->len) {
		out->full = true;
		return;
	}
	memcpy(out->v + out->len, text, len);
	out->len += len;
}

static void substitute(struct output *out, const char *by, const char *text, const struct slots *m)
{
	for (; *by; by++) {
		uint32_t slot = (uint32_t)(by[1] - '0') * 2;

		if (*by != '\\') {
			put(out, by, 1);
		} else if (by[1] >= '0' && by[1] <= '9') {
			if (m->v[slot] != NOWHERE && m->v[slot + 1] != NOWHERE)
				put(out, text + m->v[slot], m->v[slot + 1] - m->v[slot]);
			by++;
		} else {
			put(out, by[1] ? ++by : by, 1);
		}
	}
}

ssize_t flat_regex_replace(const struct flat_regex *regex, const char *by, const char *text,
			   size_t len, char *buf, size_t size)
{
	struct search s = {.regex = regex, .len = len, .steps = FLAT_REGEX_REPLACE_STEPS_MAX};
	struct threads lists[2];
	struct output out = {.v = buf, .size = size};
	size_t at = 0;
	size_t last = SIZE_MAX;
	struct slots m;

	if (len >= NOWHERE)
		return -EMSGSIZE;
	while (at <= len && !out.full && find(&s, text, at, lists, &m)) {
		put(&out, text + at, m.v[0] - at);
		/* Nothing is not found right behind something. */
		if (m.v[0] == m.v[1] && m.v[0] == last) {
			if (m.v[0] < len)
				put(&out, text + m.v[0], 1);
			at = m.v[0] + 1U;
			continue;
		}
		substitute(&out, by, text, &m);
		at = last = m.v[1];
	}
	if (at < len)
		put(&out, text + at, len - at);
	return out.full || s.steps == 0 ? -EMSGSIZE : (ssize_t)out.len;
}
