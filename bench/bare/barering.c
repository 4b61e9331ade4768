/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What shared memory alone can do: two processes, a ring each way, no sockets, no sleeping, no checks. The yardstick that
 * bench/run sets beside libflat for round trips and message rates. A ring has slots of 64 bytes; either side keeps its own
 * position and the last one it saw of the other, on lines of their own.
 *
 *   barering ping-pong SECONDS     64 bytes there and back: percentiles of the round trip
 *   barering rate SECONDS          8 bytes one way, each published by itself: messages per second
 */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../clock.h"
#include "../hist.h"

#define SLOTS 4096U
#define STRETCH 256

struct side {
	_Alignas(64) _Atomic uint32_t pos; /* published */
	_Alignas(64) uint32_t mine;	   /* the same, not shared */
	uint32_t other;			   /* last seen of the other side */
};

struct ring {
	struct side producer;
	struct side consumer;
	_Alignas(64) uint8_t slot[SLOTS][64];
};

/* Where the other side has no processor of its own it must get ours now and then. */
static void wait_a_moment(uint32_t *looks)
{
	if (++*looks % 4096 == 0)
		sched_yield();
	else
		perf_relax();
}

static void put(struct ring *r, const void *bytes, size_t len)
{
	struct side *p = &r->producer;
	uint32_t looks = 0;
	while (p->mine - p->other == SLOTS) {
		/* acquire: pairs with take()'s release; the slot has been read */
		p->other = atomic_load_explicit(&r->consumer.pos, memory_order_acquire);
		if (p->mine - p->other == SLOTS)
			wait_a_moment(&looks);
	}
	memcpy(r->slot[p->mine % SLOTS], bytes, len);
	/* release: pairs with take()'s acquire */
	atomic_store_explicit(&p->pos, ++p->mine, memory_order_release);
}

static void take(struct ring *r, void *bytes, size_t len)
{
	struct side *c = &r->consumer;
	uint32_t looks = 0;
	while (c->mine == c->other) {
		c->other = atomic_load_explicit(&r->producer.pos, memory_order_acquire);
		if (c->mine == c->other)
			wait_a_moment(&looks);
	}
	memcpy(bytes, r->slot[c->mine % SLOTS], len);
	atomic_store_explicit(&c->pos, ++c->mine, memory_order_release);
}

/* The other process: sends back what comes, or counts. */
static void serve(struct ring *in, struct ring *out, int echo)
{
	uint8_t bytes[64];
	uint64_t value;
	for (uint64_t next = 0;; next++) {
		if (echo) {
			take(in, bytes, sizeof(bytes));
			put(out, bytes, sizeof(bytes));
			continue;
		}
		take(in, &value, sizeof(value));
		if (value == UINT64_MAX) {
			put(out, &next, sizeof(next));
			return;
		}
		if (value != next)
			exit(1);
	}
}

static int ping_pong(struct ring *out, struct ring *in, double seconds)
{
	static struct perf_hist hist;
	uint8_t bytes[64] = {1};
	uint64_t end = perf_ticks() + perf_ns_to_ticks(seconds * 1e9);
	perf_hist_init(&hist);
	for (uint64_t now = 0; now < end;) {
		uint64_t start = perf_ticks();
		bytes[1]++;
		put(out, bytes, sizeof(bytes));
		take(in, bytes, sizeof(bytes));
		now = perf_ticks();
		perf_hist_add(&hist, perf_ticks_to_ns(now - start));
	}
	printf("{\"latency_us\": {\"count\": %llu, \"p50\": %.3f, \"p99\": %.3f}}\n",
	       (unsigned long long)hist.count, (double)perf_hist_percentile(&hist, 50) * 1e-3,
	       (double)perf_hist_percentile(&hist, 99) * 1e-3);
	return 0;
}

static int rate(struct ring *out, struct ring *in, double seconds)
{
	uint64_t value = 0;
	uint64_t counted;
	uint64_t begin = perf_monotonic_ns();
	uint64_t end = perf_ticks() + perf_ns_to_ticks(seconds * 1e9);
	while (perf_ticks() < end) {
		for (int i = 0; i < STRETCH; i++, value++)
			put(out, &value, sizeof(value));
	}
	put(out, &(uint64_t){UINT64_MAX}, sizeof(value));
	take(in, &counted, sizeof(counted));
	double s = (double)(perf_monotonic_ns() - begin) * 1e-9;
	printf("{\"messages\": %llu, \"messages_per_s\": %.1f}\n", (unsigned long long)value,
	       (double)value / s);
	return counted == value ? 0 : 1;
}

int main(int argc, char **argv)
{
	double seconds = argc == 3 ? strtod(argv[2], NULL) : 0;
	int echo = argc == 3 && strcmp(argv[1], "ping-pong") == 0;
	if (!(seconds > 0) || (!echo && strcmp(argv[1], "rate") != 0)) {
		fprintf(stderr, "Usage: barering ping-pong|rate SECONDS\n");
		return 2;
	}
	struct ring *rings = mmap(NULL, 2 * sizeof(*rings), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (rings == MAP_FAILED) {
		perror("barering: mmap");
		return 1;
	}
	perf_clock_init(true);
	pid_t pid = fork();
	if (pid < 0) {
		perror("barering: fork");
		return 1;
	}
	if (pid == 0) {
		serve(&rings[0], &rings[1], echo);
		_exit(0);
	}
	int status =
	    echo ? ping_pong(&rings[0], &rings[1], seconds) : rate(&rings[0], &rings[1], seconds);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return status;
}
