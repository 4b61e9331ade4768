/* The string, the JSON writer, the pool and the map. */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/strbuf.h"

Test(strbuf, grows_and_keeps_its_content)
{
	struct flat_strbuf sb = {0};
	char want[10001];
	int i;

	cr_expect_str_eq(flat_strbuf_str(&sb), "");
	for (i = 0; i < 10000; i++) {
		want[i] = (char)('a' + i % 26);
		flat_strbuf_putc(&sb, want[i]);
	}
	want[i] = '\0';
	cr_expect_str_eq(flat_strbuf_str(&sb), want);
	flat_strbuf_reset(&sb);
	cr_expect_str_eq(flat_strbuf_str(&sb), "");
	flat_strbuf_printf(&sb, "%s%d", want, 7);
	cr_expect_eq(sb.len, 10001);
	cr_expect_eq(sb.data[10000], '7');
	flat_strbuf_fini(&sb);
}

Test(strbuf, numbers_are_decimal)
{
	struct flat_strbuf sb = {0};

	flat_strbuf_put_u64(&sb, 0);
	flat_strbuf_putc(&sb, ' ');
	flat_strbuf_put_u64(&sb, 10);
	flat_strbuf_putc(&sb, ' ');
	flat_strbuf_put_u64(&sb, UINT64_MAX);
	cr_expect_str_eq(flat_strbuf_str(&sb), "0 10 18446744073709551615");
	flat_strbuf_fini(&sb);
}

Test(strbuf, takes_nuls_and_lengths_at_the_edge)
{
	struct flat_strbuf sb = {0};

	flat_strbuf_add(&sb, "a\0b", 3);
	cr_expect_eq(sb.len, 3);
	cr_expect_eq(memcmp(sb.data, "a\0b", 4), 0);
	flat_strbuf_add(&sb, NULL, 0);
	flat_strbuf_add(&sb, "x", SIZE_MAX - 1);
	cr_expect(sb.failed);
	cr_expect_null(flat_strbuf_str(&sb));
	flat_strbuf_puts(&sb, "more");
	cr_expect_eq(sb.len, 3);
	flat_strbuf_fini(&sb);
	cr_expect_not(sb.failed);
}

Test(json, writes_each_kind_of_value)
{
	struct flat_strbuf sb = {0};
	struct flat_json json;

	flat_json_init(&json, &sb, false);
	flat_json_object(&json, NULL);
	flat_json_string(&json, "s", "x");
	flat_json_string(&json, "n", NULL);
	flat_json_int(&json, "i", INT64_MIN);
	flat_json_uint(&json, "u", UINT64_MAX);
	flat_json_bool(&json, "b", true);
	flat_json_double(&json, "d", 0.5);
	flat_json_double(&json, "nan", NAN);
	flat_json_array(&json, "a");
	flat_json_object(&json, NULL);
	flat_json_object_end(&json);
	flat_json_null(&json, NULL);
	flat_json_array_end(&json);
	cr_expect_not(flat_json_done(&json));
	flat_json_object_end(&json);
	cr_expect(flat_json_done(&json));
	cr_expect_str_eq(flat_strbuf_str(&sb),
			 "{\"s\":\"x\",\"n\":null,\"i\":-9223372036854775808,"
			 "\"u\":18446744073709551615,\"b\":true,\"d\":0.5,\"nan\":null,"
			 "\"a\":[{},null]}");
	flat_strbuf_fini(&sb);
}

Test(json, escapes_and_repairs)
{
	static const struct {
		const char *in;
		size_t len;
		const char *out;
	} cases[] = {
	    {"a\"\\\n\r\t\x01\x7f", 8, "\"a\\\"\\\\\\n\\r\\t\\u0001\\u007f\""},
	    {"a\0b", 3, "\"a\\u0000b\""},
	    {"\xc3\xa4\xf0\x9f\x98\x80", 6, "\"\xc3\xa4\xf0\x9f\x98\x80\""},
	    {"\xff", 1, "\"\xef\xbf\xbd\""},
	    {"\xc3", 1, "\"\xef\xbf\xbd\""},
	    {"\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
	    {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	    {"\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	};
	size_t i;

	for (i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		struct flat_strbuf sb = {0};
		struct flat_json json;

		flat_json_init(&json, &sb, false);
		flat_json_string_n(&json, NULL, cases[i].in, cases[i].len);
		cr_expect_str_eq(flat_strbuf_str(&sb), cases[i].out, "case %zu", i);
		flat_strbuf_fini(&sb);
	}
}

Test(json, pretty_and_too_deep)
{
	struct flat_strbuf sb = {0};
	struct flat_json json;
	unsigned i;

	flat_json_init(&json, &sb, true);
	flat_json_object(&json, NULL);
	flat_json_int(&json, "a", 1);
	flat_json_array(&json, "b");
	flat_json_array_end(&json);
	flat_json_object_end(&json);
	cr_expect_str_eq(flat_strbuf_str(&sb), "{\n  \"a\": 1,\n  \"b\": []\n}\n");
	flat_strbuf_reset(&sb);
	flat_json_init(&json, &sb, false);
	for (i = 0; i <= FLAT_JSON_DEPTH_MAX; i++)
		flat_json_array(&json, NULL);
	cr_expect(sb.failed);
	flat_strbuf_reset(&sb);
	flat_json_init(&json, &sb, false);
	flat_json_array_end(&json);
	cr_expect_not(flat_json_done(&json));
	flat_strbuf_fini(&sb);
}

Test(pool, zeroed_aligned_and_apart)
{
	struct flat_pool pool = {0};
	unsigned char *p[200];
	size_t i, j;

	for (i = 0; i < 200; i++) {
		p[i] = flat_pool_alloc(&pool, i * 37);
		cr_assert_not_null(p[i]);
		cr_expect_eq((uintptr_t)p[i] % _Alignof(max_align_t), 0);
		for (j = 0; j < i * 37; j++)
			cr_assert_eq(p[i][j], 0);
		memset(p[i], (int)i, i * 37);
	}
	for (i = 1; i < 200; i++)
		cr_expect_eq(p[i][i * 37 - 1], i);
	flat_pool_fini(&pool);
	cr_expect_str_eq(flat_pool_printf(&pool, "%s-%d", "a", 1), "a-1");
	cr_expect_str_eq(flat_pool_strndup(&pool, "abc", 2), "ab");
	flat_pool_fini(&pool);
}

Test(pool, refuses_beyond_its_limit_and_overflow)
{
	struct flat_pool pool = {.limit_bytes = 64};

	cr_expect_not_null(flat_pool_alloc(&pool, 64));
	cr_expect_null(flat_pool_alloc(&pool, 1));
	pool.limit_bytes = 0;
	cr_expect_null(flat_pool_alloc(&pool, SIZE_MAX));
	cr_expect_null(flat_pool_array(&pool, SIZE_MAX / 2, 3));
	cr_expect_null(flat_pool_strndup(&pool, "", SIZE_MAX));
	flat_pool_fini(&pool);
}

Test(map, what_is_removed_is_gone_and_the_others_are_found)
{
	static char keys[3000][8];
	struct flat_map map = {0};
	size_t i;

	cr_expect_null(flat_map_remove(&map, "a", 1));
	for (i = 0; i < 3000; i++) {
		(void)snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		cr_assert_eq(flat_map_put_str(&map, keys[i], keys[i]), 0);
	}
	cr_expect_null(flat_map_remove(&map, "k3000", 5));
	for (i = 0; i < 3000; i += 3)
		cr_assert_eq(flat_map_remove(&map, keys[i], strlen(keys[i])), keys[i]);
	cr_expect_eq(map.n, 2000);
	for (i = 0; i < 3000; i++)
		cr_assert_eq(flat_map_get_str(&map, keys[i]), i % 3 ? keys[i] : NULL);
	for (i = 0; i < 3000; i += 3)
		cr_assert_eq(flat_map_put_str(&map, keys[i], keys[i]), 0);
	for (i = 0; i < 3000; i++)
		cr_assert_eq(flat_map_remove(&map, keys[i], strlen(keys[i])), keys[i]);
	cr_expect_eq(map.n, 0);
	flat_map_fini(&map);
}

Test(map, finds_what_was_put)
{
	static char keys[20000][8];
	struct flat_map map = {0};
	size_t i;

	cr_expect_null(flat_map_get_str(&map, "a"));
	for (i = 0; i < 20000; i++) {
		(void)snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
		cr_assert_eq(flat_map_put_str(&map, keys[i], keys[i]), 0);
	}
	for (i = 0; i < 20000; i++)
		cr_assert_eq(flat_map_get_str(&map, keys[i]), keys[i]);
	cr_expect_null(flat_map_get_str(&map, "k20000"));
	cr_expect_eq(flat_map_put_str(&map, "k5", keys[6]), -EEXIST);
	cr_expect_eq(flat_map_get_str(&map, "k5"), keys[5]);
	cr_expect_eq(map.n, 20000);
	cr_expect_leq(map.n, map.cap / 4 * 3);
	flat_map_fini(&map);
}

Test(hash, each_bit_and_the_length_count)
{
	uint8_t key[41] = {0};

	cr_expect_eq(flat_hash_quick(NULL, 0), flat_hash_quick(key, 0));
	for (size_t len = 0; len < sizeof(key); len++) {
		uint64_t none = flat_hash_quick(key, len);

		if (len > 0)
			cr_expect_neq(none, flat_hash_quick(key, len - 1), "%zu", len);
		for (size_t bit = 0; bit < len * 8; bit++) {
			key[bit / 8] ^= (uint8_t)(1U << (bit % 8));
			cr_expect_neq(flat_hash_quick(key, len), none, "bit %zu of %zu", bit, len);
			key[bit / 8] = 0;
		}
	}
}

Test(hash, low_bits_are_usable)
{
	uint32_t used[256] = {0};

	for (uint64_t i = 0; i < 25600; i++) {
		/* Pointers and counts differ in few bits. */
		uint64_t key[2] = {i * 64, i << 40};

		used[flat_hash_quick(key, sizeof(key)) & 255]++;
	}
	for (size_t i = 0; i < 256; i++)
		cr_expect(used[i] > 40 && used[i] < 180, "%zu: %u", i, used[i]);
}

Test(map, keys_are_bytes)
{
	struct flat_map map = {0};
	int a, b;

	cr_assert_eq(flat_map_put(&map, "a\0b", 3, &a), 0);
	cr_assert_eq(flat_map_put(&map, "a\0c", 3, &b), 0);
	cr_assert_eq(flat_map_put(&map, "", 0, &a), 0);
	cr_expect_eq(flat_map_get(&map, "a\0c", 3), &b);
	cr_expect_eq(flat_map_get(&map, "", 0), &a);
	cr_expect_null(flat_map_get(&map, "a", 1));
	cr_expect_eq(flat_map_reserve(&map, SIZE_MAX), -ENOMEM);
	flat_map_fini(&map);
}
