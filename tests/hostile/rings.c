/* Attacks through the words and bytes of a lane: rules 4 to 7 and 11, and the bells: rules 13, 14, 16. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "hostile.h"

/* A connection that has carried bytes both ways, so that peer and offload half are in the middle of it. */
static int begin(struct attack_env *env, uint32_t ip, struct raw_conn *c)
{
	int sock = raw_hello(env->control);
	if (sock < 0)
		return wrong(env, "could not join");
	env->sock = sock;
	int err = raw_connect(sock, ip, c);
	if (err != 0)
		return wrong(env, "could not connect: %d", err);
	if (raw_echo(c, 1500) != 0)
		return wrong(env, "an honest echo failed before the attack");
	return 0;
}

static int must_end(struct attack_env *env, struct raw_conn *c, const char *what)
{
	if (raw_conn_ends(c))
		return 0;
	return wrong(env, "%s: the connection goes on", what);
}

typedef void lie_fn(struct raw_conn *c, uint32_t value);

/* One lie on a connection of its own; then one more byte is announced, so that somebody looks. */
static int lie_once(struct attack_env *env, uint32_t ip, lie_fn *lie, uint32_t value,
		    const char *what)
{
	struct raw_conn c;
	if (begin(env, ip, &c) != 0)
		return 1;
	lie(&c, value);
	flat_vq_notify_data(&c.vq);
	flat_vq_notify_room(&c.vq);
	int failed = must_end(env, &c, what);
	raw_close(&c);
	return failed;
}

static void lie_tail(struct raw_conn *c, uint32_t value)
{
	atomic_store(&c->vq.tx.ctl->prod.tail, c->vq.tx.tail + value);
}

static void lie_turn(struct raw_conn *c, uint32_t value)
{
	struct flat_ring_prod *prod = &c->vq.tx.ctl->prod;
	atomic_store(&prod->turn,
		     FLAT_TURN(c->vq.tx.tail + value, 5, FLAT_RING_SMALL, FLAT_RING_BULK));
	atomic_store(&prod->tail, c->vq.tx.tail + 1);
}

static void lie_head(struct raw_conn *c, uint32_t value)
{
	/* Looked at when the ring seems full: more comes back by the echo than the small ring holds. */
	static const uint8_t bytes[3 * FLAT_SMALL_BYTES_DEFAULT];
	atomic_store(&c->vq.rx.ctl->cons.head, c->vq.rx.head + value);
	(void)!flat_ring_write(&c->vq.tx, bytes, sizeof(bytes));
}

static int tails(struct attack_env *env, uint32_t ip)
{
	/* Beyond both rings, half way round, back by one, back by much. */
	static const uint32_t by[] = {1U << 25, 0x80000000U, UINT32_MAX, UINT32_MAX - 5000};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(by); i++) {
		if (lie_once(env, ip, lie_tail, by[i], "tail") != 0)
			return 1;
	}
	return 0;
}

static int turns(struct attack_env *env, uint32_t ip)
{
	static const uint32_t by[] = {0x40000000U, 0x80000000U, UINT32_MAX - 100};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(by); i++) {
		if (lie_once(env, ip, lie_turn, by[i], "turn") != 0)
			return 1;
	}
	return 0;
}

static int tails_forwarded(struct attack_env *env)
{
	return tails(env, FORWARDED_IP);
}

static int tails_direct(struct attack_env *env)
{
	return tails(env, DIRECT_IP);
}

static int turns_forwarded(struct attack_env *env)
{
	return turns(env, FORWARDED_IP);
}

static int turns_direct(struct attack_env *env)
{
	return turns(env, DIRECT_IP);
}

/* A consumer that says it took more than there was, or less than before. */
static int heads_forwarded(struct attack_env *env)
{
	return lie_once(env, FORWARDED_IP, lie_head, 0x7fffffffU, "head ahead") ||
	       lie_once(env, FORWARDED_IP, lie_head, UINT32_MAX - 100000, "head back");
}

/* --- changing what was checked --- */

struct flipper {
	struct raw_conn *c;
	_Atomic int stop;
	uint64_t seed;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;
	struct flat_ring_ctl *out = f->c->vq.tx.ctl;
	struct flat_ring_ctl *in = f->c->vq.rx.ctl;
	uint32_t tail = f->c->vq.tx.tail;
	uint32_t head = f->c->vq.rx.head;
	while (!atomic_load(&f->stop)) {
		uint64_t r = test_random(&f->seed);
		/* Right for a moment, wrong for the next. */
		atomic_store(&out->prod.tail, tail + (uint32_t)(r & 4095));
		atomic_store(&out->prod.turn,
			     FLAT_TURN(tail + (r >> 12 & 255), r >> 20 & 3, r >> 22, r >> 24));
		atomic_store(&out->prod.tail, (uint32_t)(r >> 32));
		atomic_store(&out->prod.turn, r);
		atomic_store(&in->cons.head, head + (uint32_t)(r >> 16 & 4095));
		atomic_store(&in->cons.head, (uint32_t)(r >> 24));
		atomic_store(&out->arm.data, (uint32_t)r & 3);
		atomic_store(&out->arm.space, (uint32_t)r);
		atomic_store(&in->arm.data, (uint32_t)r & 7);
		atomic_store(&f->c->vq.mine->sleepers, (uint32_t)r);
		atomic_store(&f->c->vq.mine->ready, r);
	}
	return NULL;
}

static int flip_words(struct attack_env *env, uint32_t ip)
{
	struct raw_conn c;
	struct flipper f = {.c = &c, .seed = env->seed | 1};
	pthread_t thread;
	if (begin(env, ip, &c) != 0)
		return 1;
	if (pthread_create(&thread, NULL, flip, &f) != 0)
		return wrong(env, "no thread");
	int64_t end_ms = test_now_ms() + OUSTED_MS;
	bool over = false;
	while (!over && test_now_ms() < end_ms) {
		struct pollfd p = {.fd = c.anchor, .events = POLLIN};
		char sink[256];
		(void)send(c.bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)poll(&p, 1, 1);
		ssize_t n = recv(c.anchor, sink, sizeof(sink), MSG_DONTWAIT);
		over = n == 0 || (n < 0 && errno != EAGAIN) ||
		       (flat_vq_peer_prod_flags(&c.vq) & FLAT_PROD_RST) ||
		       (flat_vq_peer_cons_flags(&c.vq) & FLAT_CONS_CLOSED);
	}
	atomic_store(&f.stop, 1);
	pthread_join(thread, NULL);
	raw_close(&c);
	return over ? 0 : wrong(env, "the connection goes on");
}

static int flip_forwarded(struct attack_env *env)
{
	return flip_words(env, FORWARDED_IP);
}

static int flip_direct(struct attack_env *env)
{
	return flip_words(env, DIRECT_IP);
}

/* Noise over everything that is shared, header and both sides' words included. */
static int noise(struct attack_env *env, uint32_t ip)
{
	for (int i = 0; i < 5; i++) {
		struct raw_conn c;
		if (begin(env, ip, &c) != 0)
			return 1;
		size_t words = flat_lane_hot_len(&c.lane.geo) / 8;
		_Atomic uint64_t *at = (_Atomic uint64_t *)(void *)c.lane.base;
		for (size_t w = 0; w < words; w++)
			atomic_store_explicit(&at[w], test_random(&env->seed),
					      memory_order_relaxed);
		for (int k = 0; k < 50; k++)
			(void)send(c.bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		test_pause_ms(10);
		raw_close(&c);
	}
	return 0;
}

static int noise_forwarded(struct attack_env *env)
{
	return noise(env, FORWARDED_IP);
}

static int noise_direct(struct attack_env *env)
{
	return noise(env, DIRECT_IP);
}

/* Flags in combinations that no honest end has. A reader that took them for readiness would turn for ever. */
static int odd_flags(struct attack_env *env)
{
	static const uint32_t said[] = {FLAT_PROD_ERROR, FLAT_PROD_ERROR | FLAT_PROD_FIN, 8,
					~(uint32_t)(FLAT_PROD_FIN | FLAT_PROD_RST),
					~(uint32_t)FLAT_PROD_RST};
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct raw_conn c;
		if (begin(env, i % 2 ? FORWARDED_IP : DIRECT_IP, &c) != 0)
			return 1;
		flat_vq_end_rx(&c.vq, ~(uint32_t)FLAT_CONS_CLOSED);
		flat_vq_end_tx(&c.vq, said[i]);
		test_pause_ms(10);
		raw_close(&c);
		if (begin(env, DIRECT_IP, &c) != 0)
			return 1;
		raw_close(&c);
	}
	return 0;
}

static int all_zero(struct attack_env *env)
{
	struct raw_conn c;
	for (int i = 0; i < 2; i++) {
		if (begin(env, i ? DIRECT_IP : FORWARDED_IP, &c) != 0)
			return 1;
		memset(c.lane.base, 0, c.lane.len_bytes);
		for (int k = 0; k < 50; k++)
			(void)send(c.bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		test_pause_ms(10);
		raw_close(&c);
	}
	return 0;
}

/* --- work without end --- */

static int endless_writer(struct attack_env *env)
{
	struct raw_conn c;
	static uint8_t bytes[65536];
	if (begin(env, FORWARDED_IP, &c) != 0)
		return 1;
	int64_t end_ms = test_now_ms() + 500;
	while (test_now_ms() < end_ms) {
		ssize_t n = flat_ring_write(&c.vq.tx, bytes, sizeof(bytes));
		if (n < 0)
			break;
		flat_vq_notify_data(&c.vq);
		n = flat_ring_pending(&c.vq.rx);
		if (n > 0)
			flat_ring_consume(&c.vq.rx, 0);
	}
	raw_close(&c);
	return 0;
}

/* Says that bytes are there, for ever, and never lets them be taken. */
static int never_reads(struct attack_env *env)
{
	struct raw_conn c;
	static uint8_t bytes[65536];
	if (begin(env, FORWARDED_IP, &c) != 0)
		return 1;
	for (int i = 0; i < 200; i++) {
		(void)!flat_ring_write(&c.vq.tx, bytes, sizeof(bytes));
		flat_vq_notify_data(&c.vq);
		test_pause_ms(1);
	}
	raw_close(&c);
	return 0;
}

static int bell_storm(struct attack_env *env, uint32_t ip)
{
	struct raw_conn c;
	char many[512] = {0};
	if (begin(env, ip, &c) != 0)
		return 1;
	int64_t end_ms = test_now_ms() + 300;
	while (test_now_ms() < end_ms)
		(void)send(c.bell, many, sizeof(many), MSG_DONTWAIT | MSG_NOSIGNAL);
	raw_close(&c);
	return 0;
}

static int storm_forwarded(struct attack_env *env)
{
	return bell_storm(env, FORWARDED_IP);
}

static int storm_direct(struct attack_env *env)
{
	return bell_storm(env, DIRECT_IP);
}

/* Makes both its descriptors blocking and full: whoever rings it must not wait. */
static int blocked_bell(struct attack_env *env)
{
	struct raw_conn c;
	if (begin(env, DIRECT_IP, &c) != 0)
		return 1;
	(void)fcntl(c.anchor, F_SETFL, 0);
	(void)fcntl(c.bell, F_SETFL, 0);
	while (send(c.bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
		;
	/* And asks to be rung for each byte, without ever taking a bell. */
	for (int i = 0; i < 20000; i++) {
		atomic_store(&c.vq.rx.ctl->arm.data, FLAT_ARM_BELL);
		ssize_t n = flat_ring_write(&c.vq.tx, "x", 1);
		if (n > 0)
			flat_vq_notify_data(&c.vq);
		n = flat_ring_pending(&c.vq.rx);
		if (n > 0)
			flat_ring_consume(&c.vq.rx, 1);
		if (n < 0)
			break;
	}
	raw_close(&c);
	return 0;
}

/* Bytes on an anchor by a call that no hook sees: of no meaning to anybody, or the end of that connection. */
static int raw_bytes(struct attack_env *env)
{
	struct raw_conn c;
	char text[] = "GET / HTTP/1.1\r\n\r\n";
	for (int i = 0; i < 2; i++) {
		if (begin(env, i ? DIRECT_IP : FORWARDED_IP, &c) != 0)
			return 1;
		for (int k = 0; k < 200; k++)
			(void)send(c.anchor, text, sizeof(text), MSG_DONTWAIT | MSG_NOSIGNAL);
		test_pause_ms(20);
		raw_close(&c);
	}
	return 0;
}

/* A connection that was cut is still held: its slot must not carry the next one. */
static int slot_after_a_cut(struct attack_env *env)
{
	struct raw_conn old;
	struct raw_conn new;
	char text[64];
	if (begin(env, FORWARDED_IP, &old) != 0)
		return 1;
	lie_tail(&old, 1U << 25);
	flat_vq_notify_data(&old.vq);
	if (must_end(env, &old, "tail") != 0)
		return 1;
	for (int i = 0; i < 10; i++) {
		int err = raw_connect(env->sock, FORWARDED_IP, &new);
		if (err != 0)
			return wrong(env, "could not connect: %d", err);
		if (new.lane_id == old.lane_id &&new.slot == old.slot)
			return wrong(env, "the slot was given out while it was held");
		/* The peer may not see it either: what is written to the old one is void. */
		(void)recv(new.anchor, text, sizeof(text), MSG_DONTWAIT);
		atomic_store(&old.vq.tx.ctl->prod.tail, (uint32_t)test_random(&env->seed));
		raw_close(&new);
	}
	raw_close(&old);
	return 0;
}

const struct attack ring_attacks[] = {
    {"rule04-all-zero", all_zero, NULL},
    {"rule05-words-change-forwarded", flip_forwarded, NULL},
    {"rule05-words-change-direct", flip_direct, NULL},
    {"rule05-noise-forwarded", noise_forwarded, NULL},
    {"rule05-noise-direct", noise_direct, NULL},
    {"rule05-odd-flags", odd_flags, NULL},
    {"rule06-tail-forwarded", tails_forwarded, "rule 6"},
    {"rule06-tail-direct", tails_direct, NULL},
    {"rule06-head-forwarded", heads_forwarded, "rule 6"},
    {"rule06-slot-after-a-cut", slot_after_a_cut, "rule 6"},
    {"rule07-turn-forwarded", turns_forwarded, "rule 6"},
    {"rule07-turn-direct", turns_direct, NULL},
    {"rule11-endless-writer", endless_writer, NULL},
    {"rule11-never-reads", never_reads, NULL},
    {"rule13-blocked-bell", blocked_bell, NULL},
    {"rule14-bell-storm-forwarded", storm_forwarded, NULL},
    {"rule14-bell-storm-direct", storm_direct, NULL},
    {"rule16-raw-bytes-on-an-anchor", raw_bytes, NULL},
    {NULL, NULL, NULL},
};
