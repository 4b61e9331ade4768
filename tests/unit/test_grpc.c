/* Messages of gRPC calls as they go by: gRPC's PROTOCOL-HTTP2.md, "Length-Prefixed-Message"; what is counted is what Envoy counts. */
#include <criterion/criterion.h>
#include <string.h>

#include "codec/grpc.h"

static const struct {
	const char *bytes;
	size_t len;
	uint64_t n;
	bool bad;
} bodies[] = {
    {"", 0, 0, false},
    {"\0\0\0\0\0", 5, 1, false},
    {"\0\0\0\0\2ab", 7, 1, false},
    {"\1\0\0\0\2ab", 7, 1, false},
    {"\0\0\0\0\2ab\0\0\0\0\0\1\0\0\0\1c", 18, 3, false},
    /* Those that have begun count. */
    {"\0\0\0\0\2ab\0", 8, 2, false},
    {"\0\0\0\0\7ab", 7, 1, false},
    {"\0\0\0\1\0", 5, 1, false},
    /* What a flag cannot be is no message, and whatever follows is none. */
    {"\2\0\0\0\0\0\0\0\0\0", 10, 0, true},
    {"\0\0\0\0\1a\x80\0\0\0\0\0\0\0\0\0", 16, 1, true},
    {"upstream connect error", 22, 0, true},
    {"\0\xff\xff\xff\xff\2\2\2", 8, 1, false},
};

Test(grpc, messages_are_counted_however_they_are_cut)
{
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		for (size_t cut = 0; cut <= bodies[i].len; cut++) {
			struct flat_grpc_frames f = {.n = 0};

			flat_grpc_frames_feed(&f, bodies[i].bytes, cut);
			flat_grpc_frames_feed(&f, bodies[i].bytes + cut, bodies[i].len - cut);
			cr_assert_eq(f.n, bodies[i].n, "body %zu cut at %zu: %llu", i, cut,
				     (unsigned long long)f.n);
			cr_assert_eq(f.bad, bodies[i].bad, "body %zu cut at %zu", i, cut);
		}
	}
}

Test(grpc, a_message_of_any_length_goes_by_in_pieces)
{
	struct flat_grpc_frames f = {.n = 0};
	char piece[4096];

	memset(piece, 2, sizeof(piece));
	for (int i = 0; i < 3; i++) {
		flat_grpc_frames_feed(&f, "\0\0\x10\0\0", 5);
		for (int k = 0; k < 256; k++)
			flat_grpc_frames_feed(&f, piece, sizeof(piece));
	}
	cr_assert_eq(f.n, 3);
	cr_assert_eq(f.left, 0);
	cr_assert(!f.bad);
}
