#include "wire/outbox.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES ((size_t)32 * 1024)

static BIO_METHOD *method; /* made once */

/* Room for `n` more: where the front is free, or more of it. */
static bool make_room(struct flat_outbox *o, size_t n)
{
	size_t waits = o->len - o->at;
	size_t cap = o->cap ? o->cap : FIRST_BYTES;
	if (o->cap - o->len >= n)
		return true;
	/* Moved seldom: at least as much is free as has to be moved. */
	if (o->at >= waits && o->cap - waits >= n) {
		if (waits > 0)
			memmove(o->v, o->v + o->at, waits);
		o->at = 0;
		o->len = waits;
		return true;
	}
	while (cap - o->len < n)
		cap *= 2;
	uint8_t *v = realloc(o->v, cap);
	if (!v)
		return false;
	o->v = v;
	o->cap = cap;
	return true;
}

uint8_t *flat_outbox_reserve(struct flat_outbox *o, size_t len)
{
	return make_room(o, len) ? o->v + o->len : NULL;
}

void flat_outbox_commit(struct flat_outbox *o, size_t len)
{
	o->len += len;
}

static int on_write(BIO *bio, const char *bytes, int len)
{
	struct flat_outbox *o = BIO_get_data(bio);
	uint8_t *to = len > 0 ? flat_outbox_reserve(o, (size_t)len) : NULL;
	if (!to)
		return -1;
	memcpy(to, bytes, (size_t)len);
	flat_outbox_commit(o, (size_t)len);
	return len;
}

static long on_ctrl(BIO *bio, int command, long number, void *arg)
{
	const struct flat_outbox *o = BIO_get_data(bio);
	(void)number;
	(void)arg;
	if (command == BIO_CTRL_PENDING || command == BIO_CTRL_WPENDING)
		return (long)(o->len - o->at);
	/* There is nothing to be flushed: that is done. */
	return command == BIO_CTRL_FLUSH;
}

static void make_method(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "flat outbox");
	if (method &&
	    (!BIO_meth_set_write(method, on_write) || !BIO_meth_set_ctrl(method, on_ctrl)))
		method = NULL;
}

BIO *flat_outbox_open(struct flat_outbox *o)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, make_method);
	BIO *bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return NULL;
	BIO_set_data(bio, o);
	BIO_set_init(bio, 1);
	return bio;
}

void flat_outbox_fini(struct flat_outbox *o)
{
	free(o->v);
	memset(o, 0, sizeof(*o));
}

size_t flat_outbox_bytes(const struct flat_outbox *o, const uint8_t **bytes)
{
	*bytes = o->v ? o->v + o->at : NULL;
	return o->len - o->at;
}

void flat_outbox_take(struct flat_outbox *o, size_t len)
{
	o->at += flat_min_size(len, o->len - o->at);
	if (o->at == o->len)
		o->at = o->len = 0;
}
