#include "wire/inbox.h"

#include <pthread.h>
#include <string.h>

static BIO_METHOD *method; /* made once */

static int on_read(BIO *bio, char *to, int len)
{
	struct flat_inbox *in = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (len <= 0)
		return 0;
	if (in->len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t n = flat_min_size((size_t)len, in->len);
	memcpy(to, in->v, n);
	in->v += n;
	in->len -= n;
	return (int)n;
}

static long on_ctrl(BIO *bio, int command, long number, void *arg)
{
	const struct flat_inbox *in = BIO_get_data(bio);
	(void)number;
	(void)arg;
	return command == BIO_CTRL_PENDING ? (long)in->len : 0;
}

static void make_method(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "flat inbox");
	if (method && (!BIO_meth_set_read(method, on_read) || !BIO_meth_set_ctrl(method, on_ctrl)))
		method = NULL;
}

BIO *flat_inbox_open(struct flat_inbox *in)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, make_method);
	BIO *bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return NULL;
	BIO_set_data(bio, in);
	BIO_set_init(bio, 1);
	return bio;
}
