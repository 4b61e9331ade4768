/* What a session writes is taken in order and whole, whatever the pieces; moved and grown on the way. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "wire/outbox.h"

TestSuite(wire_outbox, .timeout = 30);

Test(wire_outbox, bytes_are_taken_in_order_whatever_the_pieces)
{
	struct flat_outbox o = {0};
	BIO *bio = flat_outbox_open(&o);
	uint8_t piece[20000];
	uint8_t put = 0;
	uint8_t got = 0;
	size_t waits = 0;
	const uint8_t *bytes;
	cr_assert_not_null(bio);
	cr_assert_eq(flat_outbox_bytes(&o, &bytes), 0);
	srand(7);
	for (int i = 0; i < 20000; i++) {
		/* Now more comes, now more goes. */
		size_t n = (size_t)rand() % ((i / 1000) % 2 ? sizeof(piece) : 3000) + 1;
		size_t gone = (size_t)rand() % ((i / 1000) % 2 ? 3000 : sizeof(piece));
		for (size_t k = 0; k < n; k++)
			piece[k] = put++;
		if (waits + n < (size_t)4 << 20) {
			cr_assert_eq(BIO_write(bio, piece, (int)n), (int)n);
			waits += n;
		} else {
			put = (uint8_t)(put - n);
		}
		cr_assert_eq((size_t)BIO_ctrl_pending(bio), waits);
		cr_assert_eq(flat_outbox_bytes(&o, &bytes), waits);
		gone = gone < waits ? gone : waits;
		for (size_t k = 0; k < gone; k++)
			cr_assert_eq(bytes[k], got++);
		flat_outbox_take(&o, gone);
		waits -= gone;
	}
	cr_assert_leq(o.cap, (size_t)16 << 20);
	flat_outbox_take(&o, waits);
	cr_assert_eq(flat_outbox_bytes(&o, &bytes), 0);
	cr_assert_eq(BIO_flush(bio), 1);
	BIO_free(bio);
	flat_outbox_fini(&o);
}
