/* Fields of protocol buffers there and back, numbers at their edges, and what is no message. */
#include <criterion/criterion.h>
#include <string.h>

#include "wire/pb.h"

TestSuite(wire_pb, .timeout = 10);

Test(wire_pb, what_is_written_is_read)
{
	static const uint64_t numbers[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
	struct flat_strbuf out = {0};
	struct flat_pb_field f;
	char long_text[300];
	memset(long_text, 'x', sizeof(long_text));
	flat_pb_put(&out, 1, "csr", 3);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(numbers); i++)
		flat_pb_put_number(&out, 3, numbers[i]);
	flat_pb_put(&out, 536870911, long_text, sizeof(long_text));
	flat_pb_put(&out, 2, "", 0);
	struct flat_pb m = {(const uint8_t *)out.data, out.len};
	cr_assert_eq(flat_pb_next(&m, &f), 1);
	cr_assert(f.number == 1 && f.bytes.n == 3 && memcmp(f.bytes.p, "csr", 3) == 0);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(numbers); i++) {
		cr_assert_eq(flat_pb_next(&m, &f), 1);
		cr_assert(f.number == 3 && !f.bytes.p);
	}
	cr_assert_eq(flat_pb_next(&m, &f), 1);
	cr_assert(f.number == 536870911 && f.bytes.n == sizeof(long_text));
	cr_assert_eq(memcmp(f.bytes.p, long_text, sizeof(long_text)), 0);
	cr_assert_eq(flat_pb_next(&m, &f), 1);
	cr_assert(f.number == 2 && f.bytes.n == 0);
	cr_assert_eq(flat_pb_next(&m, &f), 0);
	flat_strbuf_fini(&out);
}

Test(wire_pb, what_is_no_message_is_refused)
{
	static const struct {
		const char *bytes;
		size_t n;
	} v[] = {
	    {"\x0a", 1}, /* no length */
	    {"\x0a\x05"
	     "abc",
	     5},						  /* longer than there is */
	    {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* longer than anything */
	    {"\x08", 1},					  /* no number */
	    {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
	     12}, /* a number that does not end */
	    {"\x09"
	     "abc",
	     4}, /* less than eight bytes */
	    {"\x0d"
	     "abc",
	     4},	     /* less than four bytes */
	    {"\x0b", 1},     /* a group */
	    {"\x02\x00", 2}, /* field 0 */
	    {"\xff", 1},
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(v); i++) {
		struct flat_pb m = {(const uint8_t *)v[i].bytes, v[i].n};
		struct flat_pb_field f;
		cr_assert_eq(flat_pb_next(&m, &f), -1, "case %zu", i);
	}
}
