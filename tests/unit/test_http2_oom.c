/* Every allocation of an exchange over HTTP/2 fails in turn, those of HPACK too: it ends, and nothing leaks. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "codec/http2.h"
#include "oom.h"

#if OWN_MALLOC

static void wake(void *user)
{
	(void)user;
}

static int carry(struct flat_http2 *from, struct flat_http2 *to)
{
	const uint8_t *bytes;
	ssize_t n;

	while ((n = flat_http2_drain(from, &bytes)) > 0) {
		int err = flat_http2_feed(to, bytes, (size_t)n, 0);

		if (err != 0)
			return err;
	}
	return (int)n;
}

static int run(struct flat_http2 *client, struct flat_http2 *server)
{
	for (int i = 0; i < 4; i++) {
		int err = carry(client, server);

		if (err == 0)
			err = carry(server, client);
		if (err != 0)
			return err;
	}
	return 0;
}

static int put(struct flat_http2_stream *s, const char *text)
{
	ssize_t n = flat_http2_write(s, (const uint8_t *)text, strlen(text));

	return n < 0 ? (int)n : n == (ssize_t)strlen(text) ? 0 : -EBADF;
}

static int talk(struct flat_http2 *client, struct flat_http2 *server)
{
	struct flat_http2_stream *c = flat_http2_stream_open(client, client);
	struct flat_http2_stream *s = NULL;
	uint8_t buf[4096];
	int err =
	    c ? put(c, "POST / HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\nCookie: b=2\r\nX-A: "
		       "b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\nX-T: 1\r\n\r\n")
	      : -ENOMEM;

	if (err == 0)
		err = run(client, server);
	if (err == 0) {
		s = flat_http2_accept(server, server);
		err = s ? 0 : -EPROTO;
	}
	while (err == 0 && flat_http2_read(s, buf, sizeof(buf)) > 0)
		;
	if (err == 0)
		err = put(
		    s,
		    "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
		    "grpc-status: 0\r\n\r\n");
	if (err == 0)
		err = run(client, server);
	while (err == 0 && flat_http2_read(c, buf, sizeof(buf)) > 0)
		;
	if (err == 0 && !flat_http2_read_all(c))
		err = -EPROTO;
	if (c)
		flat_http2_release(c);
	if (s)
		flat_http2_release(s);
	return err;
}

/* One exchange under the current until_fail. */
static int once(void)
{
	struct flat_http2 *client = NULL;
	struct flat_http2 *server = NULL;
	int err;

	n_calls = n_live = 0;
	armed = true;
	err = flat_http2_open(&client, FLAT_HTTP2_CLIENT, wake);
	if (err == 0)
		err = flat_http2_open(&server, FLAT_HTTP2_SERVER, wake);
	if (err == 0)
		err = talk(client, server);
	flat_http2_close(client);
	flat_http2_close(server);
	armed = false;
	return err;
}

#endif

Test(http2_oom, each_allocation_of_an_exchange)
{
#if OWN_MALLOC
	long failed = 0;
	long total;

	until_fail = -1;
	cr_assert_eq(once(), 0);
	cr_assert_eq(n_live, 0);
	total = n_calls;
	cr_assert_gt(total, 60);
	for (long i = 0; i < total; i++) {
		until_fail = i;
		failed += once() != 0;
		cr_assert_eq(n_live, 0, "allocation %ld of %ld leaks %ld", i, total, n_live);
	}
	/* Some are made for the sake of speed only. */
	cr_expect_gt(failed, total * 3 / 4, "%ld of %ld", failed, total);
#else
	cr_skip_test("malloc belongs to the sanitizer");
#endif
}
