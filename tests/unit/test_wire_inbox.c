/* What a session reads is what was received, in order and whole, and then it is asked to come again. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "wire/inbox.h"

TestSuite(wire_inbox, .timeout = 30);

Test(wire_inbox, bytes_are_read_in_order_whatever_the_pieces)
{
	static uint8_t bytes[100000];
	static uint8_t got[100000];
	struct flat_inbox in = {0};
	BIO *bio = flat_inbox_open(&in);
	size_t at = 0;
	cr_assert_not_null(bio);
	srand(3);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rand();
	for (size_t i = 0; i < sizeof(bytes);) {
		size_t n = flat_min_size((size_t)rand() % 5000, sizeof(bytes) - i);
		in = (struct flat_inbox){bytes + i, n};
		cr_assert_eq((size_t)BIO_ctrl_pending(bio), n);
		for (int got_now; in.len > 0; at += (size_t)got_now) {
			got_now = BIO_read(bio, got + at, 1 + rand() % 3000);
			cr_assert_gt(got_now, 0);
		}
		i += n;
		cr_assert_eq(at, i);
		cr_assert_eq(BIO_read(bio, got, 1), -1);
		cr_assert(BIO_should_retry(bio) && BIO_should_read(bio));
	}
	cr_assert_eq(memcmp(bytes, got, sizeof(bytes)), 0);
	BIO_free(bio);
}

Test(wire_inbox, nothing_can_be_written)
{
	struct flat_inbox in = {0};
	BIO *bio = flat_inbox_open(&in);
	cr_assert_not_null(bio);
	cr_assert_lt(BIO_write(bio, "x", 1), 0);
	BIO_free(bio);
}
