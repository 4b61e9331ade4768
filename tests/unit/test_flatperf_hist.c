/* SPDX-License-Identifier: Apache-2.0 */
/* flatperf's histogram, options and stream checker; the program is no library, so its files are
 * compiled in here. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../bench/hist.c"
#include "../../bench/msg.c"
#include "../../bench/opts.c"
#include "../../bench/stream.c"

/* --- histogram --- */

Test(flatperf_hist, every_value_lies_in_its_bucket_and_within_one_in_128)
{
	uint64_t x = 1;
	for (int i = 0; i < 200000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		uint64_t v = (x >> 24) >> (unsigned)(i % 40);
		uint32_t index = perf_hist_index(v);
		cr_assert_lt(index, PERF_HIST_BUCKETS);
		cr_assert_geq(perf_hist_upper(index), v);
		cr_assert_leq(perf_hist_upper(index) - v, v / 128);
		if (index)
			cr_assert_lt(perf_hist_upper(index - 1), v);
	}
}

Test(flatperf_hist, buckets_join_without_gap)
{
	for (uint32_t i = 0; i + 1 < PERF_HIST_BUCKETS; i++) {
		cr_assert_eq(perf_hist_index(perf_hist_upper(i)), i);
		cr_assert_eq(perf_hist_index(perf_hist_upper(i) + 1), i + 1);
	}
	cr_assert_eq(perf_hist_upper(PERF_HIST_BUCKETS - 1), (1ULL << PERF_HIST_MAX_BITS) - 1);
}

Test(flatperf_hist, empty_gives_zero)
{
	struct perf_hist h;
	perf_hist_init(&h);
	cr_assert_eq(perf_hist_percentile(&h, 50.0), 0);
	cr_assert_float_eq(perf_hist_mean(&h), 0.0, 1e-9);
}

Test(flatperf_hist, percentiles_are_those_of_the_sorted_values)
{
	struct perf_hist h;
	perf_hist_init(&h);
	/* 1..200 have exact buckets, so ranks can be told exactly. */
	for (uint64_t v = 200; v >= 1; v--)
		perf_hist_add(&h, v);
	cr_assert_eq(perf_hist_percentile(&h, 50.0), 100);
	cr_assert_eq(perf_hist_percentile(&h, 50.1), 101);
	cr_assert_eq(perf_hist_percentile(&h, 99.0), 198);
	cr_assert_eq(perf_hist_percentile(&h, 99.99), 200);
	cr_assert_eq(perf_hist_percentile(&h, 100.0), 200);
	cr_assert_eq(perf_hist_percentile(&h, 0.0001), 1);
	cr_assert_eq(h.min, 1);
	cr_assert_eq(h.max, 200);
	cr_assert_float_eq(perf_hist_mean(&h), 100.5, 1e-9);
}

Test(flatperf_hist, one_outlier_shows_in_max_and_not_in_the_median)
{
	struct perf_hist h;
	perf_hist_init(&h);
	for (int i = 0; i < 9999; i++)
		perf_hist_add(&h, 1000);
	perf_hist_add(&h, 5000000);
	cr_assert_eq(perf_hist_percentile(&h, 99.99), perf_hist_upper(perf_hist_index(1000)));
	cr_assert_eq(perf_hist_percentile(&h, 99.995), 5000000);
	cr_assert_eq(h.max, 5000000);
}

Test(flatperf_hist, a_value_past_the_last_bucket_is_kept_exactly_as_max)
{
	struct perf_hist h;
	perf_hist_init(&h);
	perf_hist_add(&h, UINT64_MAX);
	perf_hist_add(&h, 3);
	cr_assert_eq(perf_hist_percentile(&h, 100.0), UINT64_MAX);
	cr_assert_eq(perf_hist_percentile(&h, 50.0), 3);
}

Test(flatperf_hist, merge_equals_adding_all_to_one)
{
	static struct perf_hist a, b, all;
	perf_hist_init(&a);
	perf_hist_init(&b);
	perf_hist_init(&all);
	for (uint64_t v = 1; v < 100000; v += 7) {
		perf_hist_add(v % 2 ? &a : &b, v);
		perf_hist_add(&all, v);
	}
	perf_hist_merge(&a, &b);
	cr_assert_eq(memcmp(&a, &all, sizeof(a)), 0);
}

/* --- options --- */

#define PARSE(o, ...) parse((o), (const char *const[]){"flatperf", __VA_ARGS__, NULL})

static int parse(struct perf_opts *o, const char *const *words)
{
	static char store[32][32]; /* o->host points in here: until the next call */
	char *argv[33];
	int argc = 0;
	for (; words[argc]; argc++) {
		snprintf(store[argc], sizeof(store[argc]), "%s", words[argc]);
		argv[argc] = store[argc];
	}
	argv[argc] = NULL;
	FILE *quiet = fopen("/dev/null", "w");
	int rc = perf_opts_parse(o, argc, argv, quiet, quiet);
	fclose(quiet);
	return rc;
}

Test(flatperf_opts, sockperf_words_mean_what_they_mean_there)
{
	struct perf_opts o;
	cr_assert_eq(PARSE(&o, "pp", "--tcp", "-i", "10.0.0.1", "-p", "80", "-m", "64", "-t", "2",
			   "-b", "3", "--mps=max", "--full-rtt", "--data-integrity"),
		     0);
	cr_assert_eq(o.mode, PERF_PING_PONG);
	cr_assert_str_eq(o.host, "10.0.0.1");
	cr_assert_eq(o.port, 80);
	cr_assert_eq(o.msg_size, 64);
	cr_assert_float_eq(o.time_s, 2.0, 1e-9);
	cr_assert_eq(o.burst, 3);
	cr_assert_float_eq(o.mps, 0.0, 1e-9);
	cr_assert(o.full_rtt && o.verify && o.nodelay && o.warmup);
}

Test(flatperf_opts, defaults_differ_by_mode)
{
	struct perf_opts o;
	cr_assert_eq(PARSE(&o, "under-load"), 0);
	cr_assert_float_eq(o.mps, 10000.0, 1e-9);
	cr_assert_eq(o.reply_every, 100);
	cr_assert_eq(PARSE(&o, "throughput"), 0);
	cr_assert(!o.nodelay);
	cr_assert_eq(PARSE(&o, "throughput", "--tcp-avoid-nodelay"), 0);
	cr_assert(o.nodelay);
	cr_assert_eq(PARSE(&o, "server"), 0);
	cr_assert_eq(o.wait, PERF_WAIT_EPOLL);
	cr_assert_eq(o.port, 11111);
	cr_assert_eq(PARSE(&o, "pp"), 0);
	cr_assert_eq(o.wait, PERF_WAIT_RECV);
	cr_assert_str_eq(o.transport, "kernel");
}

Test(flatperf_opts, pin_takes_lists_and_ranges)
{
	struct perf_opts o;
	cr_assert_eq(PARSE(&o, "pp", "--pin", "4,0-2"), 0);
	cr_assert_eq(o.pin_count, 4);
	cr_assert(o.pin[0] == 4 && o.pin[1] == 0 && o.pin[2] == 1 && o.pin[3] == 2);
	cr_assert_eq(PARSE(&o, "pp", "--pin", "2-1"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "--pin", ""), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "--pin", "1;2"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "--pin", "0-1000"), -EINVAL);
}

Test(flatperf_opts, boundaries)
{
	struct perf_opts o;
	cr_assert_eq(PARSE(&o, "pp", "-m", "14"), 0);
	cr_assert_eq(PARSE(&o, "pp", "-m", "13"), -EINVAL);
	cr_assert_eq(PARSE(&o, "tp", "-m", "16777216"), 0);
	cr_assert_eq(PARSE(&o, "tp", "-m", "16777217"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-p", "65535"), 0);
	cr_assert_eq(PARSE(&o, "pp", "-p", "65536"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-p", "0"), -EINVAL);
	cr_assert_eq(PARSE(&o, "server", "-p", "0"), 0);
	cr_assert_eq(PARSE(&o, "pp", "-t", "0"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-t", "nan"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-c", "-1"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-c", "1x"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-b", "128", "-m", "1024"), 0);
	cr_assert_eq(PARSE(&o, "pp", "-b", "129", "-m", "1024"), -EINVAL);
}

Test(flatperf_opts, what_does_not_go_together_is_refused)
{
	struct perf_opts o;
	cr_assert_eq(PARSE(&o, "tp", "--zerocopy"), -EINVAL);
	cr_assert_eq(PARSE(&o, "tp", "--zerocopy", "--transport", "flat"), 0);
	cr_assert_eq(PARSE(&o, "pp", "--zerocopy", "--transport", "flat"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "--hold", "5"), -EINVAL);
	cr_assert_eq(PARSE(&o, "connect", "--hold", "5", "-c", "2"), -EINVAL);
	cr_assert_eq(PARSE(&o, "connect", "--hold", "5", "--ready-fd", "1"), 0);
	cr_assert_eq(PARSE(&o, "connect", "--ready-fd", "1"), -EINVAL);
	cr_assert_eq(PARSE(&o, "server", "-F", "p"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-F", "p"), 0);
	cr_assert_eq(PARSE(&o, "pp", "--transport", "rdma"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "stray"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "--no-such-option"), -EINVAL);
	cr_assert_eq(PARSE(&o, "pp", "-m"), -EINVAL);
	cr_assert_eq(PARSE(&o, "nothing"), -EINVAL);
	cr_assert_eq(PARSE(&o, "--help"), 1);
	cr_assert_eq(PARSE(&o, "pp", "-h"), 1);
}

Test(flatperf_opts, a_complaint_names_what_was_wrong)
{
	char *text = NULL;
	size_t len = 0;
	FILE *err = open_memstream(&text, &len);
	char words[3][16] = {"flatperf", "pp", "--bogus"};
	char *argv[] = {words[0], words[1], words[2], NULL};
	struct perf_opts o;
	cr_assert_eq(perf_opts_parse(&o, 3, argv, stdout, err), -EINVAL);
	fclose(err);
	cr_assert(strstr(text, "--bogus"), "%s", text);
	free(text);
}

/* --- stream --- */

struct answers {
	uint8_t bytes[1 << 16];
	size_t len;
	unsigned int calls;
};

static int collect(void *context, const void *buf, size_t len)
{
	struct answers *a = context;
	memcpy(a->bytes + a->len, buf, len);
	a->len += len;
	a->calls++;
	return 0;
}

/* Writes message @seq; returns its length. */
static size_t put(uint8_t *at, uint64_t seq, uint32_t length, uint8_t flags)
{
	struct perf_msg m = {.flags = flags, .length = length, .seq = seq};
	perf_msg_put(at, &m);
	memcpy(at + PERF_MSG_MIN, perf_pattern(seq, 0), length - PERF_MSG_MIN);
	return length;
}

static const uint8_t BOTH = PERF_MSG_REPLY | PERF_MSG_VERIFY;

/* Four messages, the first, the second and the last answered; @want: the answers. */
static size_t sample(uint8_t *buf, struct answers *want)
{
	size_t n = put(buf, 0, 14, BOTH);
	n += put(buf + n, 1, 100, BOTH);
	memcpy(want->bytes, buf, n);
	want->len = n;
	size_t skipped = put(buf + n, 2, 77, PERF_MSG_VERIFY);
	size_t last = put(buf + n + skipped, 3, 30, BOTH);
	memcpy(want->bytes + want->len, buf + n + skipped, last);
	want->len += last;
	return n + skipped + last;
}

Test(flatperf_stream, answers_are_the_same_wherever_the_bytes_are_split)
{
	static uint8_t buf[512];
	static struct answers want, got;
	cr_assert_eq(perf_pattern_init(4096), 0);
	size_t len = sample(buf, &want);
	for (size_t split = 0; split <= len; split++) {
		struct perf_stream s;
		perf_stream_init(&s, 4096);
		got.len = 0;
		cr_assert_eq(perf_stream_feed(&s, buf, split, collect, &got), 0);
		cr_assert_eq(perf_stream_feed(&s, buf + split, len - split, collect, &got), 0);
		cr_assert_eq(got.len, want.len, "split at %zu", split);
		cr_assert_eq(memcmp(got.bytes, want.bytes, want.len), 0, "split at %zu", split);
		cr_assert(perf_stream_whole(&s));
		cr_assert_eq(s.messages, 4);
		cr_assert_eq(s.bytes, len);
		perf_stream_fini(&s);
	}
}

Test(flatperf_stream, answers_side_by_side_go_out_at_once)
{
	static uint8_t buf[512];
	static struct answers want, got;
	cr_assert_eq(perf_pattern_init(4096), 0);
	size_t len = sample(buf, &want);
	struct perf_stream s;
	perf_stream_init(&s, 4096);
	cr_assert_eq(perf_stream_feed(&s, buf, len, collect, &got), 0);
	cr_assert_eq(got.calls, 2);
	perf_stream_fini(&s);
}

Test(flatperf_stream, any_changed_byte_is_noticed)
{
	static uint8_t buf[512];
	static struct answers want, got;
	cr_assert_eq(perf_pattern_init(4096), 0);
	size_t len = sample(buf, &want);
	for (size_t at = 0; at < len; at++) {
		/* The flags' other bits have no meaning; a lost VERIFY flag only checks less. */
		if (at == 1 || at == 15 || at == 115 || at == 192)
			continue;
		buf[at] ^= 0x20;
		struct perf_stream s;
		perf_stream_init(&s, 4096);
		got.len = 0;
		int rc = perf_stream_feed(&s, buf, len, collect, &got);
		/* A length that grew is noticed at the end, when the message is not whole. */
		cr_assert(rc < 0 || !perf_stream_whole(&s), "byte %zu", at);
		perf_stream_fini(&s);
		buf[at] ^= 0x20;
	}
}

Test(flatperf_stream, lost_doubled_and_swapped_messages_are_noticed)
{
	static const uint64_t orders[][3] = {{0, 2, 3}, {0, 0, 1}, {0, 2, 1}, {1, 2, 3}};
	static struct answers got;
	cr_assert_eq(perf_pattern_init(4096), 0);
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		uint8_t buf[192];
		size_t len = 0;
		for (size_t k = 0; k < 3; k++)
			len += put(buf + len, orders[i][k], 64, PERF_MSG_VERIFY);
		struct perf_stream s;
		perf_stream_init(&s, 4096);
		cr_assert_eq(perf_stream_feed(&s, buf, len, collect, &got), -EILSEQ);
		perf_stream_fini(&s);
	}
}

Test(flatperf_stream, a_message_longer_than_allowed_is_refused)
{
	static struct answers got;
	uint8_t buf[128];
	cr_assert_eq(perf_pattern_init(4096), 0);
	put(buf, 0, 65, 0);
	struct perf_stream s;
	perf_stream_init(&s, 64);
	cr_assert_eq(perf_stream_feed(&s, buf, 65, collect, &got), -EMSGSIZE);
	perf_stream_fini(&s);
}

Test(flatperf_stream, echo_connections_send_each_byte_back)
{
	static struct answers got;
	uint8_t byte = PERF_KIND_ECHO;
	struct perf_stream s;
	perf_stream_init(&s, 64);
	cr_assert_eq(perf_stream_feed(&s, &byte, 1, collect, &got), 0);
	cr_assert_eq(perf_stream_feed(&s, "xyz", 3, collect, &got), 0);
	cr_assert_eq(got.len, 4);
	cr_assert_eq(memcmp(got.bytes, "Exyz", 4), 0);
	perf_stream_fini(&s);
}

static size_t put_counters(uint8_t *at, uint64_t n)
{
	at[0] = PERF_KIND_COUNTERS;
	for (uint64_t i = 0; i < n; i++)
		perf_counter_put(at + 1 + 8 * i, i);
	perf_counter_put(at + 1 + 8 * n, PERF_COUNTER_END);
	return 1 + 8 * (n + 1);
}

Test(flatperf_stream, counters_are_counted_wherever_the_bytes_are_split)
{
	uint8_t buf[128];
	size_t len = put_counters(buf, 10);
	for (size_t split = 0; split <= len; split++) {
		static struct answers got;
		struct perf_stream s;
		memset(&got, 0, sizeof(got));
		perf_stream_init(&s, 64);
		cr_assert_eq(perf_stream_feed(&s, buf, split, collect, &got), 0);
		cr_assert_eq(perf_stream_feed(&s, buf + split, len - split, collect, &got), 0);
		cr_assert_eq(got.len, 8);
		cr_assert_eq(perf_counter_get(got.bytes), 10);
		cr_assert_eq(s.messages, 10);
		cr_assert(perf_stream_whole(&s));
		perf_stream_fini(&s);
	}
}

Test(flatperf_stream, a_counter_that_is_wrong_or_comes_after_the_end_is_noticed)
{
	static struct answers got;
	uint8_t buf[128];
	size_t len = put_counters(buf, 10);
	struct perf_stream s;
	for (size_t at = 1; at < len; at++) {
		buf[at] ^= 1;
		perf_stream_init(&s, 64);
		int rc = perf_stream_feed(&s, buf, len, collect, &got);
		cr_assert(rc == -EILSEQ || rc == -EPROTO, "byte %zu: %d", at, rc);
		perf_stream_fini(&s);
		buf[at] ^= 1;
	}
	perf_stream_init(&s, 64);
	cr_assert_eq(perf_stream_feed(&s, buf, len, collect, &got), 0);
	cr_assert_eq(perf_stream_feed(&s, buf + 1, 8, collect, &got), -EPROTO);
	perf_stream_fini(&s);
}
