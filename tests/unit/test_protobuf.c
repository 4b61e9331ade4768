/* The wire format of Protocol Buffers: examples of its specification, and messages that are none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "codec/protobuf.h"

static const uint8_t *at_of(const struct flat_strbuf *sb)
{
	return (const uint8_t *)sb->data;
}

Test(protobuf, writes_what_the_specification_shows)
{
	static const uint8_t want[] = {0x08, 0x96, 0x01, 0x12, 0x07, 't',  'e',
				       's',  't',  'i',	 'n',  'g',  0x1a, 0x00};
	struct flat_strbuf out = {0};

	flat_protobuf_put_number(&out, 1, 150);
	flat_protobuf_put_text(&out, 2, "testing");
	flat_protobuf_put_text(&out, 9, "");
	flat_protobuf_put_number(&out, 9, 0);
	flat_protobuf_put_bytes(&out, 3, "", 0);
	cr_assert_eq(out.len, sizeof(want));
	cr_expect_arr_eq(out.data, want, sizeof(want));
	flat_strbuf_fini(&out);
}

Test(protobuf, reads_what_it_writes)
{
	struct flat_strbuf out = {0};
	struct flat_protobuf_field f;
	size_t at = 0;

	flat_protobuf_put_number(&out, 536870911, UINT64_MAX);
	flat_protobuf_put_text(&out, 16, "a");
	flat_strbuf_add(&out, "\x1d\x01\x02\x03\x04\x21\x01\0\0\0\0\0\0\x80", 14);
	cr_assert_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 1);
	cr_expect(f.number == 536870911 && !f.is_bytes && f.value == UINT64_MAX);
	cr_assert_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 1);
	cr_expect(f.number == 16 && f.is_bytes && f.len == 1 && f.bytes[0] == 'a');
	cr_assert_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 1);
	cr_expect(f.number == 3 && f.value == 0x04030201);
	cr_assert_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 1);
	cr_expect(f.number == 4 && f.value == 0x8000000000000001);
	cr_expect_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 0);
	flat_strbuf_fini(&out);
}

Test(protobuf, a_strangers_string_is_utf8_whatever_it_was)
{
	/* A character; then what is none, byte by byte: a lone byte, one too long a form, a surrogate, beyond the last, one cut short. */
	static const char text[] =
	    "\xc3\xa9 \x80 \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 ok \xe2\x82";
	static const char want[] = "\xc3\xa9 ! !! !!! !!!! ok !!";
	struct flat_strbuf out = {0};
	struct flat_protobuf_field f;
	size_t at = 0;

	flat_protobuf_put_string(&out, 7, text, sizeof(text) - 1);
	flat_protobuf_put_string(&out, 8, NULL, 0);
	cr_assert_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 1);
	cr_expect(f.number == 7 && f.is_bytes);
	cr_assert_eq(f.len, sizeof(want) - 1);
	cr_expect_arr_eq(f.bytes, want, f.len);
	cr_assert_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 1);
	cr_expect(f.number == 8 && f.len == 0);
	cr_expect_eq(flat_protobuf_next(at_of(&out), out.len, &at, &f), 0);
	flat_strbuf_fini(&out);
}

static const struct {
	const char *bytes;
	size_t len;
} bad[] = {
    {"\x08", 1},					      /* no value */
    {"\x08\x80", 2},					      /* a number that does not end */
    {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12}, /* of 11 bytes */
    {"\x12\x02x", 3},					      /* fewer bytes than said */
    {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     /* of 2^64 - 1 bytes */
    {"\x02\x00", 2},					      /* field 0 */
    {"\x0b", 1},					      /* a group */
    {"\x0e", 1},					      /* a type that is none */
    {"\x0d\x01\x02\x03", 4},				      /* 3 bytes of 4 */
    {"\x09\x01", 2},					      /* 1 of 8 */
};

Test(protobuf, refuses_what_is_none)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(bad); i++) {
		struct flat_protobuf_field f;
		size_t at = 0;

		cr_expect_eq(flat_protobuf_next((const uint8_t *)bad[i].bytes, bad[i].len, &at, &f),
			     -EBADMSG, "case %zu", i);
	}
}
