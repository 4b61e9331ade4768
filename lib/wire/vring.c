#include "wire/vring.h"

#include <errno.h>
#include <string.h>

#define POSITION_MASK (FLAT_VRING_CREDIT - 1)
/* Credit is given back when so much is owed: few writes, and never a stall (flat_vring_push). */
#define CREDIT_MSGS (FLAT_VERBS_MSGS / 4)

void flat_vring_init(struct flat_vring *r, const struct flat_vring_ops *ops, void *ctx,
		     uint8_t *out, const uint8_t *in, uint32_t size)
{
	memset(r, 0, sizeof(*r));
	r->ops = ops;
	r->ctx = ctx;
	r->out = out;
	r->in = in;
	r->size = size;
}

static uint32_t offset(const struct flat_vring *r, uint64_t position)
{
	return (uint32_t)(position & (r->size - 1));
}

static size_t in_one_piece(const struct flat_vring *r, uint64_t from, uint64_t to)
{
	return flat_min_size((size_t)(to - from), r->size - offset(r, from));
}

size_t flat_vring_put(struct flat_vring *r, const uint8_t *bytes, size_t len)
{
	size_t done = 0;
	while (done < len && r->put - r->credited < r->size) {
		size_t n = in_one_piece(r, r->put, r->credited + r->size);
		n = flat_min_size(n, len - done);
		memcpy(r->out + offset(r, r->put), bytes + done, n);
		r->put += n;
		done += n;
	}
	return done;
}

static int push_bytes(struct flat_vring *r)
{
	while (r->posted < r->put && r->n_ends < FLAT_VERBS_MSGS) {
		uint64_t end =
		    r->posted + flat_min_size((size_t)(r->put - r->posted),
					      flat_min_size(FLAT_VERBS_MSG_BYTES, r->size / 4));
		int err = r->ops->write(r->ctx, offset(r, r->posted), (uint32_t)(end - r->posted),
					(uint32_t)end & POSITION_MASK);
		if (err != 0)
			return err;
		r->ends[(r->first_end + r->n_ends++) % FLAT_VERBS_MSGS] = end;
		r->posted = end;
	}
	return 0;
}

/*
 * A sender that has all of its bytes taken lacks credit for less than a quarter of the ring and of the messages: it is
 * never stuck. Each credit stands for a quarter of one or the other, so few are on their way at a time.
 */
static int push_credit(struct flat_vring *r)
{
	if (r->taken == r->told)
		return 0;
	if (r->taken - r->told < r->size / 4 && (r->untold < CREDIT_MSGS || r->taken != r->come))
		return 0;
	int err =
	    r->ops->write(r->ctx, 0, 0, ((uint32_t)r->taken & POSITION_MASK) | FLAT_VRING_CREDIT);
	if (err != 0)
		return err;
	r->told = r->taken;
	/* Those that are not wholly taken yet are counted again: sooner than need be, never too late. */
	if (r->taken == r->come)
		r->untold = 0;
	return 0;
}

int flat_vring_push(struct flat_vring *r)
{
	int err = push_credit(r);
	if (err == 0)
		err = push_bytes(r);
	return err == -EAGAIN ? 0 : err;
}

int flat_vring_told(struct flat_vring *r, uint32_t imm)
{
	bool credit = (imm & FLAT_VRING_CREDIT) != 0;
	uint64_t now = credit ? r->credited : r->come;
	uint64_t limit = credit ? r->posted : r->told + r->size;
	uint32_t step = ((imm & POSITION_MASK) - (uint32_t)now) & POSITION_MASK;
	if (step == 0 || step > limit - now)
		return -EPROTO;
	if (!credit) {
		r->come += step;
		r->untold++;
		return 0;
	}
	r->credited += step;
	while (r->n_ends > 0 && r->ends[r->first_end] <= r->credited) {
		r->first_end = (r->first_end + 1) % FLAT_VERBS_MSGS;
		r->n_ends--;
	}
	return 0;
}

size_t flat_vring_peek(const struct flat_vring *r, const uint8_t **bytes)
{
	*bytes = r->in + offset(r, r->taken);
	return in_one_piece(r, r->taken, r->come);
}

void flat_vring_take(struct flat_vring *r, size_t len)
{
	r->taken += len;
}

size_t flat_vring_kept(const struct flat_vring *r, uint64_t at, const uint8_t **bytes)
{
	*bytes = r->out + offset(r, at);
	return in_one_piece(r, at, r->put);
}
