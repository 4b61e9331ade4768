/* Records of TLS 1.3: the RFC's own example, each cipher by each library, and what was changed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "wire/seal.h"

static const uint16_t suites[] = {0x1301, 0x1302, 0x1303};
static uint8_t in[FLAT_SEAL_CONTENT_MAX];
static uint8_t out[FLAT_SEAL_CONTENT_MAX + 64];
static uint8_t back[FLAT_SEAL_INNER_MAX];

static size_t secret_of(uint16_t suite)
{
	return suite == 0x1302 ? 48 : 32;
}

static void both(uint16_t suite, const struct flat_seal_ops *to, const struct flat_seal_ops *from,
		 struct flat_seal *s, struct flat_seal *o)
{
	uint8_t secret[FLAT_SEAL_SECRET_MAX];
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(suite + 7 * i);
	memset(s, 0, sizeof(*s));
	memset(o, 0, sizeof(*o));
	cr_assert_eq(flat_seal_init(s, to, suite, secret, secret_of(suite), true), 0);
	cr_assert_eq(flat_seal_init(o, from, suite, secret, secret_of(suite), false), 0);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * i + suite);
}

/* A record there and back. */
static size_t trip(struct flat_seal *s, struct flat_seal *o, size_t len)
{
	uint8_t type = 0;
	size_t n = flat_seal_record(s, 23, in, len, out);
	cr_assert_eq(n, flat_seal_length(len));
	cr_assert_eq(flat_seal_open(o, out, n - FLAT_SEAL_HEADER, back, &type), (ssize_t)len);
	cr_assert_eq(type, 23);
	cr_assert_eq(memcmp(in, back, len), 0);
	return n;
}

/* RFC 8448, section 3: the client's application data, and its secret. */
Test(wire_seal, a_record_is_the_one_of_the_rfc)
{
	static const uint8_t secret[] = {0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d,
					 0xc0, 0x5a, 0xf8, 0x88, 0x9b, 0xce, 0x65, 0x52,
					 0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf, 0x00, 0x87,
					 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5};
	static const uint8_t record[] = {
	    0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94,
	    0xd0, 0xaf, 0xfa, 0xfe, 0x82, 0x28, 0xba, 0x55, 0xcb, 0xef, 0xac, 0xea,
	    0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc, 0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8,
	    0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5, 0x4a, 0x9a, 0x20, 0x44, 0x1e, 0x2b,
	    0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62, 0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd,
	    0x1e, 0x3d, 0xea, 0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4};
	const struct flat_seal_ops *ways[] = {&flat_seal_evp, NULL};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(ways); i++) {
		struct flat_seal s = {0};
		cr_assert_eq(flat_seal_init(&s, ways[i], 0x1301, secret, sizeof(secret), true), 0);
		for (uint8_t k = 0; k < 50; k++)
			in[k] = k;
		cr_assert_eq(flat_seal_record(&s, 23, in, 50, out), sizeof(record));
		cr_assert_eq(memcmp(out, record, sizeof(record)), 0);
		flat_seal_fini(&s);
	}
}

Test(wire_seal, each_cipher_and_length_arrives_whichever_library_has_done_it)
{
	static const size_t lengths[] = {0,  1,	  14,  15,   16,   17,	  31,	 47,   48,
					 63, 255, 256, 1000, 4095, 16368, 16383, 16384};
	const struct flat_seal_ops *ways[] = {&flat_seal_evp, NULL};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(suites) * 4; i++) {
		struct flat_seal s;
		struct flat_seal o;
		both(suites[i / 4], ways[i & 1], ways[i >> 1 & 1], &s, &o);
		for (size_t k = 0; k < FLAT_ARRAY_SIZE(lengths); k++)
			(void)trip(&s, &o, lengths[k]);
		cr_assert_eq(s.records, FLAT_ARRAY_SIZE(lengths));
		flat_seal_fini(&s);
		flat_seal_fini(&o);
	}
}

Test(wire_seal, what_was_changed_anywhere_is_refused_and_the_next_is_not_taken_for_it)
{
	const struct flat_seal_ops *ways[] = {&flat_seal_evp, NULL};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(suites) * 2; i++) {
		struct flat_seal s;
		struct flat_seal o;
		uint8_t type;
		both(suites[i / 2], NULL, ways[i & 1], &s, &o);
		size_t n = flat_seal_record(&s, 23, in, 100, out);
		for (size_t k = 0; k < n; k++) {
			out[k] ^= 0x40;
			cr_assert_eq(flat_seal_open(&o, out, n - FLAT_SEAL_HEADER, back, &type),
				     -EBADMSG);
			out[k] ^= 0x40;
		}
		cr_assert_eq(flat_seal_open(&o, out, FLAT_SEAL_TAG - 1, back, &type), -EBADMSG);
		cr_assert_eq(flat_seal_open(&o, out, n - FLAT_SEAL_HEADER, back, &type), 100);
		/* The same once more: its number has passed. */
		cr_assert_eq(flat_seal_open(&o, out, n - FLAT_SEAL_HEADER, back, &type), -EBADMSG);
		flat_seal_fini(&s);
		flat_seal_fini(&o);
	}
}

Test(wire_seal, both_sides_go_on_to_the_same_next_key)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(suites); i++) {
		struct flat_seal s;
		struct flat_seal o;
		uint8_t first[64];
		both(suites[i], NULL, &flat_seal_evp, &s, &o);
		size_t n = trip(&s, &o, 10);
		memcpy(first, out, n);
		cr_assert_eq(flat_seal_update(&s) + flat_seal_update(&o), 0);
		cr_assert_eq(s.records, 0);
		(void)trip(&s, &o, 10);
		cr_assert_neq(memcmp(first, out, n), 0);
		(void)trip(&s, &o, 1000);
		flat_seal_fini(&s);
		flat_seal_fini(&o);
	}
}

Test(wire_seal, bytes_that_lie_in_pieces_make_the_same_record)
{
	static uint8_t whole[FLAT_SEAL_CONTENT_MAX + 64];
	static const size_t cuts[] = {0, 1, 8, 15, 16, 17, 100, 4095, 16383, 16384};
	const struct flat_seal_ops *ways[] = {&flat_seal_evp, NULL};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(suites) * 2; i++) {
		struct flat_seal s;
		struct flat_seal o;
		both(suites[i / 2], ways[i & 1], NULL, &s, &o);
		size_t n = flat_seal_record(&s, 23, in, FLAT_SEAL_CONTENT_MAX, whole);
		for (size_t k = 0; k < FLAT_ARRAY_SIZE(cuts); k++) {
			size_t second = (FLAT_SEAL_CONTENT_MAX - cuts[k]) / 3;
			const struct iovec pieces[] = {
			    {in, cuts[k]},
			    {in + cuts[k], second},
			    {in + cuts[k] + second, FLAT_SEAL_CONTENT_MAX - cuts[k] - second}};
			s.records = 0;
			cr_assert_eq(flat_seal_gather(&s, 23, pieces, 3, out), n);
			cr_assert_eq(memcmp(out, whole, n), 0);
		}
		flat_seal_fini(&s);
		flat_seal_fini(&o);
	}
}

Test(wire_seal, padding_is_taken_off_and_nothing_but_padding_is_no_record)
{
	struct flat_seal s;
	struct flat_seal o;
	uint8_t type;
	both(0x1301, NULL, NULL, &s, &o);
	/* Content, its type, and zeros: the last of them as if it were the type. */
	memset(in, 0, 64);
	in[0] = 'x';
	in[1] = 22;
	size_t n = flat_seal_record(&s, 0, in, 64, out);
	cr_assert_eq(flat_seal_open(&o, out, n - FLAT_SEAL_HEADER, back, &type), 1);
	cr_assert_eq(type, 22);
	cr_assert_eq(back[0], 'x');
	memset(in, 0, 64);
	n = flat_seal_record(&s, 0, in, 64, out);
	cr_assert_eq(flat_seal_open(&o, out, n - FLAT_SEAL_HEADER, back, &type), -EPROTO);
	flat_seal_fini(&s);
	flat_seal_fini(&o);
}

Test(wire_seal, other_suites_and_secrets_of_another_length_are_refused)
{
	struct flat_seal s = {0};
	uint8_t secret[FLAT_SEAL_SECRET_MAX] = {1};
	cr_assert_eq(flat_seal_init(&s, NULL, 0xc02f, secret, 32, true), -EINVAL);
	cr_assert_eq(flat_seal_init(&s, NULL, 0x1301, secret, 48, true), -EINVAL);
	cr_assert_eq(flat_seal_init(&s, NULL, 0x1302, secret, 0, true), -EINVAL);
	cr_assert_eq(flat_seal_record(&s, 23, secret, 1, out), 0);
	flat_seal_fini(&s);
}
