/* SPDX-License-Identifier: Apache-2.0 */
/* flatperf's command line: sockperf's words where sockperf has them. */
#ifndef PERF_OPTS_H
#define PERF_OPTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PERF_MSG_MIN 14U /* the message header, as in sockperf */
#define PERF_MSG_MAX (16U << 20)
#define PERF_CLIENTS_MAX 4096U
#define PERF_HOLD_MAX 100000U
#define PERF_PIN_MAX 64U
/* A client sends a whole burst before it reads; both sides' buffers must hold it, or both wait for
 * the other for ever. */
#define PERF_BURST_BYTES_MAX (128U << 10)

enum perf_mode {
	PERF_PING_PONG,
	PERF_UNDER_LOAD,
	PERF_THROUGHPUT,
	PERF_CONNECT,
	PERF_RATE,
	PERF_SERVER,
};

/* How to wait for input: sockperf's --iomux-type, plus a spin on non-blocking receives. */
enum perf_wait {
	PERF_WAIT_RECV,
	PERF_WAIT_SPIN,
	PERF_WAIT_POLL,
	PERF_WAIT_EPOLL,
};

struct perf_opts {
	enum perf_mode mode;
	enum perf_wait wait;
	const char *transport; /* "kernel" or "flat" */
	const char *host;      /* address or name; points into argv */
	uint16_t port;	       /* 0 (server only): any free port, printed */
	uint32_t msg_size;     /* bytes, PERF_MSG_MIN..PERF_MSG_MAX; rate: 8 */
	double time_s;	       /* measured time, seconds */
	double mps;	       /* messages per second and client; 0: as fast as it goes */
	uint32_t burst;	       /* messages sent before replies are awaited */
	uint32_t reply_every;  /* under-load: one reply for so many messages */
	uint32_t clients;      /* connections, a thread each (two for under-load) */
	uint32_t threads;      /* server: event loops; unused with one thread a connection */
	uint32_t hold;	       /* connect: open so many, keep them open and silent for time_s */
	uint32_t buffer_size;  /* SO_SNDBUF and SO_RCVBUF, 0: the system's default */
	int ready_fd;	       /* server: one byte is written here once it listens; -1: none */
	bool nodelay;
	bool warmup;
	bool full_rtt;
	bool verify;
	bool zerocopy;
	bool json;
	bool use_tsc;
	uint32_t pin_count;
	uint16_t pin[PERF_PIN_MAX]; /* thread i runs on pin[i % pin_count] */
};

/**
 * perf_opts_parse() - read the command line.
 * @o: filled with defaults first, then with what was given.
 * @out: where --help and --version are printed; @err: where complaints go.
 *
 * Returns 0 to go on, 1 when help or version was asked for and printed, -EINVAL after a complaint
 * that names the option and what it takes.
 */
int perf_opts_parse(struct perf_opts *o, int argc, char **argv, FILE *out, FILE *err);

/** perf_mode_name() - the subcommand's full name. */
const char *perf_mode_name(enum perf_mode mode);

#endif
