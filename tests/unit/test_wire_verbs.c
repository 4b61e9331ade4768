/* Devices and connections of verbs.h over devices that the test plays: what is asked of them, what they refuse, what peers say. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support_folder.h"
#include "support_verbs.h"
#include "wire/verbs_device.h"

#define RING FLAT_VERBS_RING_BYTES

static struct verbs_fake here;
static struct verbs_fake there;
static struct flat_verbs_device *mine;
static struct flat_verbs_device *theirs;
static struct flat_verbs *a;
static struct flat_verbs *b;
static const struct flat_addr addr_a = {.family = AF_INET, .ip = {10, 0, 0, 1}, .port = 4};
static const struct flat_addr addr_b = {.family = AF_INET, .ip = {10, 0, 0, 2}, .port = 5};
static char why[200];

static struct flat_verbs_device *open_device(const char *name)
{
	struct flat_verbs_device *d;
	cr_assert_eq(flat_verbs_device_open(name, &d, why, sizeof(why)), 0, "%s", why);
	return d;
}

static void add(struct verbs_fake *d, const char *name, const char *ip)
{
	folder_put(name, "");
	verbs_fake_add(d, name, path_of(name));
	/* The same address for version 1 of RoCE, and a hole, come before it. */
	verbs_fake_gid(d, 0, ip, IBV_GID_TYPE_ROCE_V1);
	verbs_fake_gid(d, 2, ip, IBV_GID_TYPE_ROCE_V2);
}

static void setup(void)
{
	folder_make();
	add(&here, "here", "10.0.0.1");
	add(&there, "there", "10.0.0.2");
	mine = open_device("here");
	theirs = open_device("there");
	a = b = NULL;
	why[0] = 0;
}

/* Nothing of any test is left with a device. */
static void teardown(void)
{
	flat_verbs_close(a);
	flat_verbs_close(b);
	cr_expect_eq(flat_verbs_device_bytes(mine), 0);
	cr_expect_eq(flat_verbs_device_bytes(theirs), 0);
	flat_verbs_device_close(mine);
	flat_verbs_device_close(theirs);
	verbs_fake_removed(&here);
	verbs_fake_removed(&there);
	folder_remove();
}

TestSuite(wire_verbs, .init = setup, .fini = teardown, .timeout = 60);

static void open_ends(void)
{
	cr_assert_eq(flat_verbs_open(mine, &addr_a, &a, why, sizeof(why)), 0, "%s", why);
	cr_assert_eq(flat_verbs_open(theirs, &addr_b, &b, why, sizeof(why)), 0, "%s", why);
}

static int to_end(struct flat_verbs *v, const uint8_t *end, const struct flat_addr *remote)
{
	return flat_verbs_connect(v, end, remote, why, sizeof(why));
}

static void connect_ends(void)
{
	uint8_t end_a[FLAT_FRAME_VERBS_END];
	uint8_t end_b[FLAT_FRAME_VERBS_END];
	open_ends();
	flat_verbs_tell(a, end_a);
	flat_verbs_tell(b, end_b);
	cr_assert_eq(to_end(b, end_a, &addr_a), 0, "%s", why);
	cr_assert_eq(to_end(a, end_b, &addr_b), 0, "%s", why);
}

static int post(struct flat_verbs *v, uint32_t at, uint32_t len, uint32_t imm)
{
	struct flat_vring *r = flat_verbs_ring(v);
	return r->ops->write(r->ctx, at, len, imm);
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, 0) > 0;
}

/* --- devices --- */

Test(wire_verbs, a_device_that_is_not_there_is_said_to_be_so)
{
	struct flat_verbs_device *d = mine;
	cr_expect_eq(flat_verbs_device_open("her", &d, why, sizeof(why)), -ENODEV);
	cr_expect_null(d);
	cr_expect(strstr(why, "device her: "), "%s", why);
	cr_expect_eq(flat_verbs_device_open("heree", &d, why, sizeof(why)), -ENODEV);
}

Test(wire_verbs, a_device_whose_port_is_down_is_not_opened)
{
	struct flat_verbs_device *d;
	there.port.state = IBV_PORT_DOWN;
	cr_expect_eq(flat_verbs_device_open("there", &d, why, sizeof(why)), -ENETDOWN);
	cr_expect(strstr(why, "device there: its port is down"), "%s", why);
	cr_expect_eq(there.opened, 1, "the suite's alone");
}

Test(wire_verbs, a_device_that_cannot_be_opened_or_asked_is_let_go)
{
	struct flat_verbs_device *d;
	for (unsigned int at = 1; at <= 2; at++) {
		there.calls = 0;
		there.fail_at = at;
		cr_expect_eq(flat_verbs_device_open("there", &d, why, sizeof(why)), -ENOMEM);
		cr_expect_null(d);
		cr_expect(strstr(why, "device there: "), "%s", why);
		cr_expect_eq(there.opened, 1);
	}
	cr_expect_eq(flat_verbs_device_open("there", &d, why, sizeof(why)), 0);
	flat_verbs_device_close(d);
}

Test(wire_verbs, a_device_is_gone_once_it_says_so_or_its_port_is_down)
{
	cr_expect(!flat_verbs_device_gone(mine), "and it does not block");
	cr_expect(!readable(flat_verbs_device_fd(mine)));
	/* Of one connection, of addresses: none of the whole. */
	verbs_fake_event(&here, IBV_EVENT_QP_FATAL);
	verbs_fake_event(&here, IBV_EVENT_GID_CHANGE);
	cr_expect(readable(flat_verbs_device_fd(mine)));
	cr_expect(!flat_verbs_device_gone(mine));
	cr_expect(!readable(flat_verbs_device_fd(mine)));
	verbs_fake_event(&here, IBV_EVENT_PORT_ERR);
	verbs_fake_event(&here, IBV_EVENT_PORT_ACTIVE);
	cr_expect(flat_verbs_device_gone(mine));
	cr_expect(!readable(flat_verbs_device_fd(mine)));
	cr_expect(flat_verbs_device_gone(mine), "it stays so");
	verbs_fake_event(&there, IBV_EVENT_DEVICE_FATAL);
	cr_expect(flat_verbs_device_gone(theirs));
}

Test(wire_verbs, a_device_whose_name_has_gone_is_gone)
{
	cr_assert_eq(unlink(path_of("here")), 0);
	cr_expect(flat_verbs_device_gone(mine));
	cr_expect(!flat_verbs_device_gone(theirs));
}

/* --- opening --- */

Test(wire_verbs, opening_that_fails_at_any_step_says_why_and_leaves_nothing)
{
	int err = -1;
	unsigned int at;
	for (at = 1; at < 100; at++) {
		here.calls = 0;
		here.fail_at = at;
		why[0] = 0;
		err = flat_verbs_open(mine, &addr_a, &a, why, sizeof(why));
		if (err == 0 && here.calls < at)
			break;
		if (err == 0) {
			/* A queue pair is asked for again, with fewer inline bytes. */
			flat_verbs_close(a);
			a = NULL;
			continue;
		}
		cr_expect_eq(err, -ENOMEM, "step %u: %d", at, err);
		cr_expect_null(a);
		cr_expect(strstr(why, "ulimit -l"), "step %u: %s", at, why);
		cr_expect_eq(here.objects, 0, "step %u: %u", at, here.objects);
		cr_expect_eq(flat_verbs_device_bytes(mine), 0, "step %u", at);
	}
	cr_expect_eq(err, 0);
	cr_expect_gt(at, 5U);
	cr_expect_eq(flat_verbs_device_bytes(mine), 2 * RING);
}

Test(wire_verbs, receives_that_cannot_be_posted_fail_the_opening)
{
	here.fail_receives = 1;
	cr_expect_eq(flat_verbs_open(mine, &addr_a, &a, why, sizeof(why)), -EIO);
	cr_expect_null(a);
	cr_expect_eq(here.objects, 0);
}

Test(wire_verbs, registered_memory_has_its_limit)
{
	mine->bytes = FLAT_VERBS_BYTES_MAX - 2 * RING + 1;
	cr_expect_eq(flat_verbs_open(mine, &addr_a, &a, why, sizeof(why)), -ENOBUFS);
	cr_expect_null(a);
	cr_expect(strstr(why, "the limit"), "%s", why);
	cr_expect_eq(here.objects, 0);
	mine->bytes = FLAT_VERBS_BYTES_MAX - 2 * RING;
	cr_expect_eq(flat_verbs_open(mine, &addr_a, &a, why, sizeof(why)), 0, "%s", why);
	cr_expect_eq(flat_verbs_device_bytes(mine), FLAT_VERBS_BYTES_MAX);
	flat_verbs_stop(a);
	mine->bytes -= FLAT_VERBS_BYTES_MAX - 2 * RING;
}

Test(wire_verbs, a_RoCE_device_must_have_the_address_of_the_link)
{
	cr_expect_eq(flat_verbs_open(mine, &addr_b, &a, why, sizeof(why)), -EADDRNOTAVAIL);
	cr_expect(strstr(why, "no RoCE v2 address 10.0.0.2"), "%s", why);
	/* Of version 1 alone: no. */
	verbs_fake_gid(&here, 2, "10.0.0.1", IBV_GID_TYPE_ROCE_V1);
	cr_expect_eq(flat_verbs_open(mine, &addr_a, &a, why, sizeof(why)), -EADDRNOTAVAIL);
	struct flat_addr six = {.family = AF_INET6, .ip = {0xfd, 0}, .port = 1};
	six.ip[15] = 9;
	cr_expect_eq(flat_verbs_open(mine, &six, &a, why, sizeof(why)), -EADDRNOTAVAIL);
	verbs_fake_gid(&here, 3, "fd00::9", IBV_GID_TYPE_ROCE_V2);
	cr_expect_eq(flat_verbs_open(mine, &six, &a, why, sizeof(why)), 0, "%s", why);
}

Test(wire_verbs, an_InfiniBand_device_is_asked_for_no_address)
{
	here.port.link_layer = there.port.link_layer = IBV_LINK_LAYER_INFINIBAND;
	flat_verbs_device_close(mine);
	flat_verbs_device_close(theirs);
	mine = open_device("here");
	theirs = open_device("there");
	verbs_fake_gid(&here, 0, "fe80::1", IBV_GID_TYPE_IB);
	verbs_fake_gid(&there, 0, "fe80::2", IBV_GID_TYPE_IB);
	connect_ends();
	cr_assert_eq(flat_vring_put(flat_verbs_ring(a), (const uint8_t *)"x", 1), 1);
	cr_assert_eq(flat_vring_push(flat_verbs_ring(a)), 0);
	cr_expect_eq(flat_verbs_poll(b), 1);
	/* One that does not say its own is not used. */
	flat_verbs_close(a);
	a = NULL;
	here.calls = 0;
	here.fail_at = 1;
	cr_expect_eq(flat_verbs_open(mine, &addr_a, &a, why, sizeof(why)), -ENODEV);
}

/* --- connecting --- */

Test(wire_verbs, ends_that_no_peer_of_ours_has_are_refused)
{
	static const struct {
		size_t at;
		uint8_t byte;
		const char *says;
	} lies[] = {
	    {20, 19, "another size"}, /* half of the ring */
	    {20, 21, "another size"}, /* twice */
	    {20, 31, "another size"},
	    {20, 32 + 20, "another size"}, /* a shift by the low bits would be right */
	    {20, 255, "another size"},
	    {21, 0, "another size"},
	    {21, IBV_MTU_4096 + 1, "another size"},
	    {21, 255, "another size"},
	    {39, 3, "not that of the link"}, /* 10.0.0.3 */
	    {24, 1, "not that of the link"},
	};
	uint8_t end[FLAT_FRAME_VERBS_END];
	uint8_t lie[FLAT_FRAME_VERBS_END];
	open_ends();
	flat_verbs_tell(b, end);
	cr_assert_eq(end[20], 20, "2^20 bytes");
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(lies); i++) {
		memcpy(lie, end, sizeof(lie));
		lie[lies[i].at] = lies[i].byte;
		cr_expect_eq(to_end(a, lie, &addr_b), -EPROTO, "%zu", i);
		cr_expect(strstr(why, lies[i].says), "%zu: %s", i, why);
	}
	cr_expect_eq(post(a, 0, 1, 1), -EIO, "nothing is connected");
	cr_expect_eq(to_end(a, end, &addr_b), 0, "%s", why);
}

Test(wire_verbs, packets_are_as_long_as_both_sides_take)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	open_ends();
	flat_verbs_tell(b, end);
	/* The device refuses what is beyond its own. */
	end[21] = IBV_MTU_4096;
	cr_expect_eq(to_end(a, end, &addr_b), 0, "%s", why);
	flat_verbs_tell(a, end);
	end[21] = IBV_MTU_256;
	cr_expect_eq(to_end(b, end, &addr_a), 0, "%s", why);
}

Test(wire_verbs, a_connection_that_the_device_refuses_fails_with_a_reason)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	open_ends();
	flat_verbs_tell(b, end);
	here.calls = 0;
	here.fail_at = 1;
	cr_expect_eq(to_end(a, end, &addr_b), -ENOMEM);
	cr_expect(strstr(why, "cannot be made"), "%s", why);
	here.calls = 0;
	here.fail_at = 2;
	cr_expect_eq(to_end(a, end, &addr_b), -ENOMEM, "ready to receive, not to send");
}

/* --- moving --- */

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* Bytes of a stream by their position. */
static uint8_t byte_at(uint64_t position, uint8_t salt)
{
	return (uint8_t)((position * 167 + (position >> 8) * 31) ^ salt);
}

static void say_some(struct flat_verbs *v, uint64_t *said, uint64_t total, size_t n, uint8_t salt)
{
	static uint8_t buf[300000];
	n = flat_min_size(n, (size_t)(total - *said));
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(*said + i, salt);
	*said += flat_vring_put(flat_verbs_ring(v), buf, n);
	cr_assert_eq(flat_vring_push(flat_verbs_ring(v)), 0, "%s", flat_verbs_why(v));
}

static void hear_some(struct flat_verbs *v, uint64_t *heard, size_t most, uint8_t salt)
{
	const uint8_t *bytes;
	size_t n;
	cr_assert_geq(flat_verbs_poll(v), 0, "%s", flat_verbs_why(v));
	while (most > 0 && (n = flat_vring_peek(flat_verbs_ring(v), &bytes)) > 0) {
		n = flat_min_size(n, most);
		for (size_t i = 0; i < n; i++)
			cr_assert_eq(bytes[i], byte_at(*heard + i, salt), "at %llu",
				     (unsigned long long)(*heard + i));
		flat_vring_take(flat_verbs_ring(v), n);
		*heard += n;
		most -= n;
	}
	cr_assert_eq(flat_vring_push(flat_verbs_ring(v)), 0, "%s", flat_verbs_why(v));
}

/* Both ways at once, in pieces of any size, many times around the ring. */
static void both_ways(bool held)
{
	const uint64_t total = 5 * (uint64_t)RING + 12345;
	uint64_t x = 88172645463325252ULL;
	uint64_t said[2] = {0};
	uint64_t heard[2] = {0};
	here.held = there.held = held;
	for (int turn = 0; heard[0] < total || heard[1] < total; turn++) {
		cr_assert_lt(turn, 100000, "nothing moves");
		size_t n = next_random(&x) % 5 ? next_random(&x) % 200 : next_random(&x) % 300000;
		say_some(a, &said[0], total, n, 1);
		say_some(b, &said[1], total, next_random(&x) % 100000, 2);
		if (held && next_random(&x) % 3 == 0)
			verbs_fake_deliver(&here);
		if (held && next_random(&x) % 3 == 0)
			verbs_fake_deliver(&there);
		hear_some(b, &heard[0], next_random(&x) % 400000, 1);
		hear_some(a, &heard[1], next_random(&x) % 4 ? 0 : 200000, 2);
	}
	cr_expect_eq(said[0], total);
	cr_expect_eq(said[1], total);
}

Test(wire_verbs, bytes_come_whole_and_in_order_both_ways)
{
	connect_ends();
	both_ways(false);
	cr_expect_gt(here.inlined, 0);
	cr_expect_lt(here.inlined, here.writes);
}

Test(wire_verbs, bytes_come_whole_when_the_device_reads_them_late)
{
	connect_ends();
	both_ways(true);
}

Test(wire_verbs, a_device_that_sends_nothing_inline_does_as_well)
{
	here.max_inline = there.max_inline = 0;
	connect_ends();
	both_ways(true);
	cr_expect_eq(here.inlined + there.inlined, 0);
}

Test(wire_verbs, messages_of_one_byte_use_up_no_queue)
{
	uint64_t said = 0;
	uint64_t heard = 0;
	connect_ends();
	for (uint64_t i = 0; i < 5000; i++) {
		say_some(a, &said, i + 1, 1, 7);
		/* As late as it may be. */
		if (i % 250 == 249)
			hear_some(b, &heard, RING, 7);
		cr_assert_geq(flat_verbs_poll(a), 0, "%s", flat_verbs_why(a));
	}
	hear_some(b, &heard, RING, 7);
	cr_expect_eq(heard, 5000);
}

Test(wire_verbs, without_room_to_post_nothing_is_posted)
{
	connect_ends();
	here.held = true;
	uint32_t n = 0;
	int err;
	/* Each passes the end of the ring: two work requests. */
	while ((err = post(a, RING - 1, 2, n + 1)) == 0)
		n++;
	cr_expect_eq(err, -EAGAIN);
	cr_expect_eq(n, 256);
	cr_expect_eq(here.writes, 0);
	cr_expect_eq(flat_verbs_why(a)[0], 0, "nothing is broken");
	verbs_fake_deliver(&here);
	cr_expect_eq(here.writes, 512);
	cr_expect_eq(flat_verbs_poll(b), 256, "%s", flat_verbs_why(b));
	cr_expect_eq(post(a, 0, 1, n + 1), -EAGAIN, "until completions are taken");
	cr_expect_eq(flat_verbs_poll(a), 16, "one of 32");
	cr_expect_eq(post(a, 0, 1, n + 1), 0);
}

Test(wire_verbs, what_comes_rings_a_bell_after_arming_and_no_other)
{
	connect_ends();
	int fd = flat_verbs_fd(b);
	cr_expect_eq(post(a, 0, 1, 1), 0);
	cr_expect(!readable(fd), "not armed");
	cr_expect_eq(flat_verbs_arm(b), 0);
	cr_expect(!readable(fd), "it came before");
	cr_expect_eq(flat_verbs_poll(b), 1);
	cr_expect_eq(post(a, 1, 1, 2), 0);
	cr_expect(readable(fd));
	cr_expect_eq(post(a, 2, 1, 3), 0);
	cr_expect_eq(flat_verbs_poll(b), 2);
	cr_expect_eq(flat_verbs_arm(b), 0);
	cr_expect(!readable(fd), "arming takes what rang");
	cr_expect_eq(flat_verbs_arm(b), 0, "and does not block");
	there.calls = 0;
	there.fail_at = 1;
	cr_expect_eq(flat_verbs_arm(b), -EIO);
	cr_expect_str_eq(flat_verbs_why(b), "arming failed");
}

/* --- breaking --- */

Test(wire_verbs, a_write_that_does_not_arrive_breaks_the_connection_with_the_devices_reason)
{
	connect_ends();
	here.next_ends = IBV_WC_RETRY_EXC_ERR;
	cr_expect_eq(post(a, 0, 1, 1), 0);
	cr_expect_eq(flat_verbs_poll(a), -EIO);
	cr_expect_str_eq(flat_verbs_why(a), ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR));
	/* The first reason stays. */
	cr_expect_eq(post(a, 0, 1, 1), 0);
	cr_expect_eq(flat_verbs_poll(a), -EIO);
	cr_expect_str_eq(flat_verbs_why(a), ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR));
	cr_expect_eq(flat_verbs_poll(b), 0, "nothing came");
}

Test(wire_verbs, a_post_that_the_device_refuses_breaks_the_connection)
{
	connect_ends();
	here.fail_posts = 1;
	cr_assert_eq(flat_vring_put(flat_verbs_ring(a), (const uint8_t *)"x", 1), 1);
	cr_expect_eq(flat_vring_push(flat_verbs_ring(a)), -EIO);
	cr_expect_str_eq(flat_verbs_why(a), "posting failed");
	cr_expect_eq(post(b, 0, 1, 1), 0);
	here.fail_receives = 1;
	cr_expect_eq(flat_verbs_poll(a), -EIO);
}

Test(wire_verbs, a_peer_that_says_what_no_honest_one_says_is_found)
{
	static const uint32_t lies[] = {
	    0,			   /* nothing new */
	    RING + 1,		   /* more than the ring holds */
	    FLAT_VRING_CREDIT,	   /* nothing new */
	    FLAT_VRING_CREDIT | 1, /* credit for what was not posted */
	    UINT32_MAX,
	};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(lies); i++) {
		connect_ends();
		cr_assert_eq(post(a, 0, 1, lies[i]), 0);
		cr_expect_eq(flat_verbs_poll(b), -EPROTO, "%zu", i);
		cr_expect(strstr(flat_verbs_why(b), "broke the rules"), "%s", flat_verbs_why(b));
		flat_verbs_close(a);
		flat_verbs_close(b);
		a = b = NULL;
	}
}

Test(wire_verbs, a_peer_with_more_messages_than_were_agreed_on_breaks_its_own_connection)
{
	int err;
	connect_ends();
	uint32_t n;
	for (n = 1; (err = post(a, n - 1, 1, n)) == 0 && n < FLAT_VERBS_MSGS + 40; n++)
		if ((err = flat_verbs_poll(a)) < 0)
			break;
	cr_expect_eq(err, -EIO);
	cr_expect_gt(n, FLAT_VERBS_MSGS, "an honest one finds a receive each time");
	cr_expect_str_eq(flat_verbs_why(a), ibv_wc_status_str(IBV_WC_RNR_RETRY_EXC_ERR));
	cr_expect_gt(flat_verbs_poll(b), (int)FLAT_VERBS_MSGS, "%s", flat_verbs_why(b));
}

/* Where the peer's memory lies in what it tells. */
static void lie_about(uint8_t *end, const uint8_t *from, size_t at, size_t n)
{
	memcpy(end + at, from + at, n);
}

Test(wire_verbs, a_key_of_one_connection_opens_nothing_of_another)
{
	uint8_t end_a[FLAT_FRAME_VERBS_END];
	uint8_t end_b[FLAT_FRAME_VERBS_END];
	uint8_t other_end[FLAT_FRAME_VERBS_END];
	struct flat_verbs *other;
	open_ends();
	cr_assert_eq(flat_verbs_open(theirs, &addr_b, &other, why, sizeof(why)), 0, "%s", why);
	flat_verbs_tell(a, end_a);
	flat_verbs_tell(b, end_b);
	flat_verbs_tell(other, other_end);
	/* Key and address of the other connection's memory. */
	lie_about(end_b, other_end, 8, 12);
	cr_assert_eq(to_end(b, end_a, &addr_a), 0, "%s", why);
	cr_assert_eq(to_end(a, end_b, &addr_b), 0, "%s", why);
	cr_assert_eq(flat_vring_put(flat_verbs_ring(a), (const uint8_t *)"x", 1), 1);
	cr_expect_eq(flat_vring_push(flat_verbs_ring(a)), 0);
	cr_expect_eq(flat_verbs_poll(a), -EIO);
	cr_expect_str_eq(flat_verbs_why(a), ibv_wc_status_str(IBV_WC_REM_ACCESS_ERR));
	cr_expect_eq(flat_verbs_ring(other)->in[0], 0);
	cr_expect_eq(flat_verbs_poll(b), 0);
	flat_verbs_close(other);
}

Test(wire_verbs, the_peer_reaches_no_memory_but_the_ring_it_writes_to)
{
	uint8_t end_a[FLAT_FRAME_VERBS_END];
	uint8_t end_b[FLAT_FRAME_VERBS_END];
	open_ends();
	flat_verbs_tell(a, end_a);
	flat_verbs_tell(b, end_b);
	/* One byte below: it ends where `in` begins, or begins before. */
	end_b[19]--;
	if (end_b[19] == 255)
		end_b[18]--;
	if (end_b[18] == 255)
		end_b[17]--;
	cr_assert_eq(to_end(b, end_a, &addr_a), 0, "%s", why);
	cr_assert_eq(to_end(a, end_b, &addr_b), 0, "%s", why);
	cr_expect_eq(post(a, 0, 1, 1), 0);
	cr_expect_eq(flat_verbs_poll(a), -EIO);
	cr_expect_str_eq(flat_verbs_why(a), ibv_wc_status_str(IBV_WC_REM_ACCESS_ERR));
}

Test(wire_verbs, what_was_stopped_takes_nothing_more_and_keeps_what_is_in_its_ring)
{
	const uint8_t *bytes;
	connect_ends();
	cr_assert_eq(flat_vring_put(flat_verbs_ring(b), (const uint8_t *)"kept", 4), 4);
	cr_expect_eq(flat_vring_push(flat_verbs_ring(b)), 0);
	flat_verbs_stop(b);
	cr_expect_eq(there.objects, 0);
	cr_expect_eq(flat_verbs_device_bytes(theirs), 0);
	cr_assert_eq(flat_vring_kept(flat_verbs_ring(b), 0, &bytes), 4);
	cr_expect(memcmp(bytes, "kept", 4) == 0);
	cr_expect_eq(flat_verbs_poll(a), 1, "what it had said before has come");
	cr_expect_eq(post(a, 0, 1, 1), 0);
	cr_expect_eq(flat_verbs_poll(a), -EIO, "there is nobody");
	flat_verbs_stop(b);
	cr_expect_eq(flat_verbs_device_bytes(theirs), 0, "once is enough");
}
