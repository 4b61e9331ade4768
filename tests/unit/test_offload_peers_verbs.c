/* A link that goes over verbs and back, in the offload half, over devices that the test plays; the other host is the test. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support_folder.h"
#include "support_peers.h"
#include "support_verbs.h"

static struct verbs_fake here;	/* of the offload half */
static struct verbs_fake there; /* of the client's host */
static struct flat_verbs_device *device;
static struct peers_client c;
static struct flat_carrier carrier;
static struct flat_verbs *v; /* the client's end */
static bool v_live;
static char refusal[200];
static size_t n_refused;
static char why[200];
static const struct flat_addr at_here = {.family = AF_INET, .ip = {127, 0, 0, 1}};
static const struct flat_addr at_there = {.family = AF_INET, .ip = {127, 0, 0, 2}};

static int on_verbs(struct flat_wire_link *link, const struct flat_frame *f)
{
	(void)link;
	if (f->number == FLAT_VERBS_REFUSE) {
		snprintf(refusal, sizeof(refusal), "%.*s", (int)f->len, (const char *)f->data);
		n_refused++;
		return 0;
	}
	if (f->number == FLAT_VERBS_GO)
		return flat_carrier_gone_over(&carrier);
	cr_assert_eq(f->number, FLAT_VERBS_ANSWER);
	cr_assert_eq(flat_verbs_connect(v, f->data, &at_here, why, sizeof(why)), 0, "%s", why);
	flat_carrier_offer(&carrier, flat_verbs_ring(v));
	flat_carrier_go(&carrier);
	return 0;
}

static struct flat_wire_ops ops;

static void setup(void)
{
	folder_make();
	folder_put("here", "");
	folder_put("there", "");
	verbs_fake_add(&here, "here", path_of("here"));
	verbs_fake_add(&there, "there", path_of("there"));
	verbs_fake_gid(&here, 1, "127.0.0.1", IBV_GID_TYPE_ROCE_V2);
	verbs_fake_gid(&there, 3, "127.0.0.2", IBV_GID_TYPE_ROCE_V2);
	cr_assert_eq(flat_verbs_device_open("there", &device, why, sizeof(why)), 0, "%s", why);
	peers_setup();
	peers_half.peers->verbs_name = "here";
	ops = pair_ops;
	ops.verbs = on_verbs;
	c = peers_greet("d/ns/a/sa/client", 2);
	cr_assert(c.link->greeted && !c.over);
	c.link->ops = &ops;
	/* As flatd does: its word and the bytes behind it wait for no acknowledgement. */
	cr_assert_eq(setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
	flat_carrier_init(&carrier, c.link);
	v = NULL;
	n_refused = 0;
}

static void teardown(void)
{
	flat_verbs_close(v);
	flat_carrier_fini(&carrier);
	peers_leave(&c);
	peers_teardown();
	flat_verbs_device_close(device);
	verbs_fake_removed(&here);
	verbs_fake_removed(&there);
	folder_remove();
}

TestSuite(peers_verbs, .init = setup, .fini = teardown, .timeout = 60);

static struct flat_peer *peer(void)
{
	struct flat_peer *p = TAILQ_FIRST(&peers_half.peers->list);
	cr_assert_not_null(p);
	return p;
}

/* What the client's own flatd does with a turn. */
static void pump(void)
{
	uint8_t buf[65536];
	const uint8_t *bytes;
	size_t len;
	ssize_t n;
	(void)flat_wire_link_flush(c.link);
	if (v && ((v_live && flat_verbs_poll(v) < 0) || carrier.failed)) {
		flat_carrier_fail(&carrier);
		flat_verbs_stop(v);
		v_live = false;
	}
	c.over |= flat_carrier_pump(&carrier, SIZE_MAX) < 0;
	if (v && !v_live && flat_carrier_idle(&carrier)) {
		flat_verbs_close(v);
		v = NULL;
	}
	while ((len = flat_carrier_output(&carrier, &bytes)) > 0) {
		n = send(c.fd, bytes, len, MSG_NOSIGNAL);
		flat_carrier_sent(&carrier, n > 0 ? (size_t)n : len);
	}
	peers_turn();
	n = recv(c.fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		c.over |= flat_carrier_input(&carrier, buf, (size_t)n) != 0;
	c.over |= n == 0 || (n < 0 && errno != EAGAIN);
}

/* Where the kernel has yet to carry something from socket to socket, it is given time. */
#define TURN_UNTIL(turn, condition)                                                                \
	do {                                                                                       \
		for (int turns_ = 0; turns_ < 5000 && !(condition) && !c.over; turns_++) {         \
			turn();                                                                    \
			if (turns_ > 100)                                                          \
				(void)poll(NULL, 0, 1);                                            \
		}                                                                                  \
		cr_assert(condition, #condition ": %s, %s", refusal, c.link->why);                 \
	} while (0)
#define PUMP_UNTIL(condition) TURN_UNTIL(pump, condition)

static void say(enum flat_frame_verbs what, const void *data, size_t len)
{
	struct flat_frame f = {.type = FLAT_FRAME_VERBS, .number = what, .data = data, .len = len};
	flat_wire_link_say(c.link, &f);
}

static void open_end(void)
{
	cr_assert_eq(flat_verbs_open(device, &at_there, &v, why, sizeof(why)), 0, "%s", why);
	v_live = true;
}

static void offer(void)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	open_end();
	flat_verbs_tell(v, end);
	peer()->verbs_asked_ms = 0;
	say(FLAT_VERBS_OFFER, end, sizeof(end));
}

static void go_over(void)
{
	offer();
	PUMP_UNTIL(carrier.in_ring && carrier.out_ring);
	PUMP_UNTIL(strcmp(flat_peer_path(peer()), "verbs") == 0);
}

/* A stream is asked for, and refused: there and back. */
static void ask(void)
{
	static struct wire_end e;
	peers_ask_many(&c, 1, &e);
	PUMP_UNTIL(e.over);
}

/* Both ends have let go of it. */
static void come_back(void)
{
	ask();
	PUMP_UNTIL(!v && !peer()->verbs);
	cr_expect_str_eq(flat_peer_path(peer()), "tcp");
	cr_expect_eq(peers_half.peers->verbs_lost, 1);
	cr_expect_eq(here.objects, 0);
	uint64_t by_ring = carrier.bytes[1][0];
	ask();
	cr_expect_eq(carrier.bytes[1][0], by_ring);
	cr_expect(!c.over);
}

Test(peers_verbs, a_link_goes_over_once_both_have_agreed)
{
	cr_expect_str_eq(flat_peer_path(peer()), "tcp");
	cr_expect(strstr(flat_peer_path_why(peer()), "has not asked"), "%s",
		  flat_peer_path_why(peer()));
	go_over();
	cr_expect_str_eq(flat_peer_path_why(peer()), "here");
	cr_expect_eq(peers_half.peers->verbs_made, 1);
	cr_expect_eq(peers_half.peers->verbs_lost, 0);
	uint64_t by_tcp[2] = {carrier.bytes[0][0], carrier.bytes[0][1]};
	uint64_t by_ring[2] = {carrier.bytes[1][0], carrier.bytes[1][1]};
	ask();
	cr_expect_eq(carrier.bytes[0][0], by_tcp[0]);
	cr_expect_eq(carrier.bytes[0][1], by_tcp[1]);
	cr_expect_gt(carrier.bytes[1][0], by_ring[0]);
	cr_expect_gt(carrier.bytes[1][1], by_ring[1]);
}

Test(peers_verbs, a_link_that_is_quiet_waits_for_the_devices_bell)
{
	go_over();
	const struct flat_peer *p = peer();
	TURN_UNTIL(peers_turn, p->verbs_armed);
	/* Nothing of TCP wakes it. */
	ask();
	cr_expect_str_eq(flat_peer_path(p), "verbs");
}

Test(peers_verbs, a_write_of_ours_that_fails_brings_the_link_back_to_TCP)
{
	go_over();
	here.next_ends = IBV_WC_RETRY_EXC_ERR;
	come_back();
	cr_expect_str_eq(flat_peer_path_why(peer()), ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR));
}

Test(peers_verbs, a_write_of_the_peers_that_fails_brings_the_link_back_to_TCP)
{
	go_over();
	there.next_ends = IBV_WC_RETRY_EXC_ERR;
	come_back();
	cr_expect_str_eq(flat_peer_path_why(peer()), "the other host asks for TCP");
}

Test(peers_verbs, a_post_that_the_device_refuses_brings_the_link_back_to_TCP)
{
	go_over();
	here.fail_posts = 1;
	come_back();
	cr_expect_str_eq(flat_peer_path_why(peer()), "posting failed");
}

Test(peers_verbs, a_bell_that_cannot_be_set_brings_the_link_back_to_TCP)
{
	go_over();
	const struct flat_peer *p = peer();
	TURN_UNTIL(peers_turn, p->verbs_armed);
	here.calls = 0;
	here.fail_at = 1;
	/* Busy once more, then quiet. */
	ask();
	TURN_UNTIL(peers_turn, !p->verbs_live);
	come_back();
	cr_expect_str_eq(flat_peer_path_why(peer()), "arming failed");
}

Test(peers_verbs, a_peer_that_breaks_the_rings_rules_is_spoken_to_by_TCP)
{
	go_over();
	struct flat_vring *r = flat_verbs_ring(v);
	/* Credit for what nobody posted. */
	cr_assert_eq(r->ops->write(r->ctx, 0, 0, FLAT_VRING_CREDIT | 0x7fffffff), 0);
	come_back();
	cr_expect(strstr(flat_peer_path_why(peer()), "broke the rules"), "%s",
		  flat_peer_path_why(peer()));
}

Test(peers_verbs, a_link_that_came_back_goes_over_again)
{
	go_over();
	there.next_ends = IBV_WC_RETRY_EXC_ERR;
	come_back();
	go_over();
	cr_expect_eq(peers_half.peers->verbs_made, 2);
	ask();
}

Test(peers_verbs, a_device_that_goes_is_let_go_of_at_once)
{
	go_over();
	cr_assert_eq(here.opened, 1);
	verbs_fake_event(&here, IBV_EVENT_DEVICE_FATAL);
	PUMP_UNTIL(here.opened == 0);
	cr_expect_null(peers_half.peers->device);
	come_back();
	cr_expect(strstr(flat_peer_path_why(peer()), "device here is gone"), "%s",
		  flat_peer_path_why(peer()));
}

Test(peers_verbs, a_device_whose_name_goes_is_let_go_of_with_the_next_look)
{
	go_over();
	cr_assert_eq(unlink(path_of("here")), 0);
	flat_peers_verbs_tick(peers_half.peers);
	cr_expect_eq(here.opened, 0);
	come_back();
}

Test(peers_verbs, a_device_is_held_while_a_link_uses_it_and_no_longer)
{
	flat_peers_verbs_open(peers_half.peers);
	cr_expect_eq(here.opened, 0, "looked at");
	go_over();
	flat_peers_verbs_tick(peers_half.peers);
	cr_expect_eq(here.opened, 1);
	there.next_ends = IBV_WC_RETRY_EXC_ERR;
	come_back();
	flat_peers_verbs_tick(peers_half.peers);
	cr_expect_eq(here.opened, 0);
}

Test(peers_verbs, an_offer_beside_a_ring_in_use_is_refused)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	go_over();
	flat_verbs_tell(v, end);
	peer()->verbs_asked_ms = 0;
	say(FLAT_VERBS_OFFER, end, sizeof(end));
	PUMP_UNTIL(n_refused == 1);
	cr_expect(strstr(refusal, "in use"), "%s", refusal);
	ask();
	cr_expect_str_eq(flat_peer_path(peer()), "verbs");
}

Test(peers_verbs, an_offer_that_nobody_went_over_to_gives_way_to_the_next)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	offer();
	/* The answer is not read: the client has forgotten its offer. */
	(void)flat_wire_link_flush(c.link);
	flat_verbs_tell(v, end);
	say(FLAT_VERBS_OFFER, end, sizeof(end));
	ops.verbs = NULL;
	cr_assert_eq(peer()->verbs, NULL);
	peers_say(&c);
	TURN_UNTIL(peers_turn, peer()->verbs);
	cr_expect(strstr(flat_peer_path_why(peer()), "being agreed on"), "%s",
		  flat_peer_path_why(peer()));
	unsigned int objects = here.objects;
	peer()->verbs_asked_ms = 0;
	say(FLAT_VERBS_OFFER, end, sizeof(end));
	peers_say(&c);
	TURN_UNTIL(peers_turn, peer()->verbs_asked_ms != 0);
	cr_expect_eq(here.objects, objects, "one end of a link");
}

Test(peers_verbs, an_end_on_a_third_host_is_refused_and_nothing_is_kept)
{
	uint8_t end[FLAT_FRAME_VERBS_END];
	open_end();
	flat_verbs_tell(v, end);
	end[39] = 3;
	say(FLAT_VERBS_OFFER, end, sizeof(end));
	PUMP_UNTIL(n_refused == 1);
	cr_expect(strstr(refusal, "not that of the link"), "%s", refusal);
	cr_expect_null(peer()->verbs);
	cr_expect_eq(here.objects, 0);
	cr_expect_str_eq(flat_peer_path_why(peer()), refusal);
	ask();
}

Test(peers_verbs, a_device_without_the_links_address_is_not_used)
{
	verbs_fake_gid(&here, 1, "127.0.0.9", IBV_GID_TYPE_ROCE_V2);
	offer();
	PUMP_UNTIL(n_refused == 1);
	cr_expect(strstr(refusal, "no RoCE v2 address 127.0.0.1"), "%s", refusal);
	cr_expect_eq(here.objects, 0);
}

Test(peers_verbs, a_flatd_without_verbs_refuses)
{
	peers_half.peers->verbs_name = NULL;
	offer();
	PUMP_UNTIL(n_refused == 1);
	cr_expect(strstr(refusal, "without --verbs"), "%s", refusal);
	cr_expect(strstr(flat_peer_path_why(peer()), "without --verbs"), "%s",
		  flat_peer_path_why(peer()));
}

/* What only the other side says, or nobody says yet. */
Test(peers_verbs, frames_out_of_turn_end_the_link)
{
	static const uint8_t end[FLAT_FRAME_VERBS_END];
	static const struct {
		enum flat_frame_verbs what;
		size_t len;
	} lies[] = {{FLAT_VERBS_ANSWER, sizeof(end)}, {FLAT_VERBS_GO, 0}, {FLAT_VERBS_REFUSE, 2}};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(lies); i++) {
		struct peers_client liar = peers_greet("d/ns/a/sa/client", 2);
		struct flat_frame f = {.type = FLAT_FRAME_VERBS,
				       .number = lies[i].what,
				       .data = i == 2 ? (const uint8_t *)"no" : end,
				       .len = lies[i].len};
		flat_wire_link_say(liar.link, &f);
		for (int n = 0; n < 1000 && !liar.over; n++)
			peers_pump(&liar);
		cr_expect(liar.over, "%zu", i);
		peers_leave(&liar);
	}
	ask();
}

Test(peers_verbs, a_link_that_ends_takes_its_end_along)
{
	go_over();
	shutdown(c.fd, SHUT_RDWR);
	TURN_UNTIL(peers_turn, here.objects == 0);
	cr_expect_eq(here.objects, 0);
	flat_peers_verbs_tick(peers_half.peers);
	cr_expect_eq(here.opened, 0);
}
