/*
 * Many connections of one lane, one waiter: the peer's threads write to random slots, the waiter finds them by
 * ready bits and sleeps on all anchors at once, as an epoll instance does (core.md, section 5). A wake-up
 * that is lost ends the test after STRESS_LOST_MS. Half of the time each slot rings for itself (sleepers), half of it one for all (naps).
 *
 *   stress-ready [SECONDS] [SEED]
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sys.h"
#include "stream.h"

#define SLOTS 64U
#define WRITERS 2U

static const struct stress_case how = {.name = "ready",
				       .geo = {SLOTS, 1024, 16384},
				       .write_max = 100,
				       .read_max = 4000,
				       .start = UINT32_MAX - 2000};

static struct flat_lane lane;
static int anchor[SLOTS][2];
static struct stress_party client[SLOTS]; /* each owned by one writer: slot % WRITERS */
static struct stress_party server[SLOTS]; /* the waiter's */
static struct stress_result sent[SLOTS];
static struct stress_result taken[SLOTS];
static int64_t end_ns;
static uint64_t seed;
static uint32_t nap; /* the waiter's; 0: none */

static int lane_open(void)
{
	int fd = flat_lane_create(&how.geo, 1);
	int err = fd < 0 ? fd : flat_lane_map(&lane, fd, &how.geo, 1);
	for (uint32_t i = 0; i < SLOTS && err == 0; i++) {
		err = flat_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, anchor[i]);
		stress_place(&lane, i, how.start);
		client[i] = (struct stress_party){
		    .how = &how, .result = &sent[i], .random = (seed + i) | 1};
		server[i] = (struct stress_party){
		    .how = &how, .result = &taken[i], .random = (seed + i + SLOTS) | 1};
		stress_party_init(&client[i], &lane, i, FLAT_SIDE_CLIENT, -1, anchor[i][1]);
		stress_party_init(&server[i], &lane, i, FLAT_SIDE_SERVER, anchor[i][0], -1);
	}
	if (fd >= 0)
		close(fd);
	return err;
}

/* Writes to its slots for the time given, then ends them all. */
static void *writer(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	uint64_t random = (seed + me * 1000) | 1;
	struct timespec pause = {.tv_nsec = 30000};
	while (stress_now_ns() < end_ns) {
		uint32_t i = (uint32_t)(stress_random(&random) % (SLOTS / WRITERS)) * WRITERS + me;
		if (stress_write(&client[i]) < 0)
			break;
		if (stress_random(&random) % 16 == 0)
			nanosleep(&pause, NULL);
	}
	for (uint32_t i = me; i < SLOTS; i += WRITERS)
		flat_vq_end_tx(&client[i].vq, FLAT_PROD_FIN);
	return NULL;
}

/* Takes all of a slot's bytes and asks to be told of more. True at its end. */
static bool serve(struct stress_party *p)
{
	for (;;) {
		bool ended = (flat_vq_peer_prod_flags(&p->vq) & FLAT_PROD_FIN) != 0;
		int got = stress_read(p);
		if (got < 0)
			return true;
		if (got > 0)
			continue;
		if (ended)
			return true;
		flat_vq_arm_rx(&p->vq, FLAT_ARM_READY_NAP(nap));
		if (!flat_ring_moved(&p->vq.rx) && !flat_vq_peer_prod_flags(&p->vq))
			return false;
	}
}

/* Sleeps until a bell. -1 after a lost one. */
static int sleep_on_all(uint64_t open, uint64_t *sleeps)
{
	struct pollfd fds[SLOTS];
	struct flat_lane_side *mine = server[0].vq.mine;
	int n = 1;
	static uint32_t count;
	if (nap)
		flat_lane_nap_begin(mine, nap, ++count);
	else
		flat_lane_sleepers_raise(mine);
	if (!flat_lane_any_ready(mine, open)) {
		for (uint32_t i = 0; i < SLOTS; i++)
			fds[i] = (struct pollfd){.fd = anchor[i][0], .events = POLLIN};
		(*sleeps)++;
		n = poll(fds, SLOTS, STRESS_LOST_MS);
		for (uint32_t i = 0; i < SLOTS && n > 0; i++) {
			if (fds[i].revents)
				(void)!flat_vq_drain_anchor(&server[i].vq);
		}
	}
	if (nap)
		flat_lane_nap_end(mine, nap);
	else
		flat_lane_sleepers_lower(mine);
	return n > 0 ? 0 : -1;
}

static const char *wait_for_all(uint64_t *sleeps)
{
	uint64_t open = ~0ULL;
	/* New slots are armed with BELL by the reset; the first look finds them all. */
	uint64_t bits = ~0ULL;
	while (open != 0) {
		for (uint32_t i = 0; i < SLOTS; i++) {
			if (((bits & open) >> i & 1) && serve(&server[i]))
				open &= ~(1ULL << i);
		}
		bits = flat_lane_take_ready(server[0].vq.mine, open);
		if (bits == 0 && open != 0 && sleep_on_all(open, sleeps) != 0)
			return "lost wake-up";
	}
	return NULL;
}

static const char *run(double seconds, uint64_t *sleeps, uint64_t *bytes)
{
	pthread_t writers[WRITERS];
	if (lane_open() != 0)
		return "no lane";
	nap = nap ? flat_lane_nap_new(server[0].vq.mine) : 0;
	end_ns = stress_now_ns() + (int64_t)(seconds * 1e9);
	for (uintptr_t i = 0; i < WRITERS; i++) {
		if (pthread_create(&writers[i], NULL, writer, (void *)i) != 0)
			return "no thread";
	}
	const char *why = wait_for_all(sleeps);
	for (uint32_t i = 0; i < WRITERS; i++)
		pthread_join(writers[i], NULL);
	for (uint32_t i = 0; i < SLOTS; i++) {
		*bytes += taken[i].received;
		if (!why)
			why = taken[i].failed ? taken[i].why : sent[i].failed ? sent[i].why : NULL;
		if (!why && sent[i].sent != taken[i].received)
			why = "bytes sent and received differ";
		close(anchor[i][0]);
		close(anchor[i][1]);
	}
	flat_lane_unmap(&lane);
	memset(sent, 0, sizeof(sent));
	memset(taken, 0, sizeof(taken));
	if (!why && (*sleeps == 0 || *bytes == 0))
		why = "it never slept: nothing was tested";
	return why;
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : getenv("FLAT_STRESS_SECONDS");
	double seconds = text ? strtod(text, NULL) : 2;
	int status = 0;
	text = argc > 2 ? argv[2] : getenv("FLAT_STRESS_SEED");
	seed = text ? strtoull(text, NULL, 0) : (uint64_t)stress_now_ns();
	stress_fill_table(seed);
	for (uint32_t naps = 0; naps < 2; naps++) {
		uint64_t sleeps = 0;
		uint64_t bytes = 0;
		nap = naps;
		const char *why = run(seconds / 2, &sleeps, &bytes);
		printf("%s stress/ready/%u-slots-%s: %llu KiB, %llu sleeps%s%s (seed %llu)\n",
		       why ? "FAIL" : "PASS", SLOTS, naps ? "naps" : "sleepers",
		       (unsigned long long)bytes >> 10, (unsigned long long)sleeps, why ? ": " : "",
		       why ? why : "", (unsigned long long)seed);
		status |= why != NULL;
	}
	return status;
}
