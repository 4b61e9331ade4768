/*
 * gRPC echo with flat/rpc.h: the server and the client of bench/cases/grpc.py.
 *   rpcecho server ADDRESS PORT
 *   rpcecho client HOST:PORT OUTSTANDING BYTES SECONDS     prints calls per second and the median in microseconds
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flat/rpc.h>

/* Calls whose times are kept for the median. */
#define TIMES_MAX (1U << 20)

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec * 1e-3;
}

/* A number of digits alone, at most `max`; -1: it is none. */
static long number(const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *text >= '0' && *text <= '9' && *end == 0 && n <= max ? n : -1;
}

static int bad(const char *what, int err)
{
	fprintf(stderr, "rpcecho: %s: %s\n", what, strerror(-err));
	return 1;
}

static int serve(struct flat_rpc *rpc, const char *address, const char *port)
{
	struct flat_rpc_event event;
	int ret = flat_rpc_listen(rpc, address, (uint16_t)number(port, 65535));

	if (ret < 0)
		return bad(address, ret);
	while (flat_rpc_next(rpc, &event, -1) == 1) {
		if (event.kind == FLAT_RPC_MESSAGE)
			(void)flat_rpc_send(event.call, event.data, event.len);
		else if (event.kind == FLAT_RPC_SENT)
			(void)flat_rpc_finish(event.call, FLAT_RPC_OK, NULL, NULL, 0);
		else if (event.kind == FLAT_RPC_ENDED)
			flat_rpc_release(event.call);
	}
	return 1;
}

struct one {
	double begun;
	int answered;
};

struct client {
	struct flat_rpc_channel *channel;
	const char *message;
	size_t bytes;
	double *took;
	size_t n;
};

static int begin(const struct client *c, struct one *one)
{
	struct flat_rpc_request request = {.size = sizeof(request),
					   .method = "/bench.Echo/Echo",
					   .timeout_us = 20000000,
					   .user = one};
	struct flat_rpc_call *call;
	int ret = flat_rpc_begin(c->channel, &request, &call);

	*one = (struct one){now_us(), 0};
	ret = ret ? ret : flat_rpc_send(call, c->message, c->bytes);
	return ret ? ret : flat_rpc_send_end(call);
}

/* What one event says. Calls that ended, or -1. */
static int take(struct client *c, const struct flat_rpc_event *event)
{
	struct one *one = event->user;

	if (event->kind == FLAT_RPC_MESSAGE)
		one->answered =
		    event->len == c->bytes && memcmp(event->data, c->message, c->bytes) == 0;
	if (event->kind != FLAT_RPC_ENDED)
		return 0;
	if (event->status != FLAT_RPC_OK || !one->answered) {
		fprintf(stderr, "rpcecho: status %d %s%s\n", (int)event->status, event->text,
			one->answered ? "" : ", and the answer is not what was sent");
		return -1;
	}
	if (c->n < TIMES_MAX)
		c->took[c->n] = now_us() - one->begun;
	c->n++;
	flat_rpc_release(event->call);
	return 1;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static int measure(struct flat_rpc *rpc, struct client *c, struct one *calls, size_t outstanding,
		   double seconds)
{
	struct flat_rpc_event event;
	double begun = now_us();
	size_t open = 0;
	int ret = 0;

	while (ret == 0 && open < outstanding)
		ret = begin(c, &calls[open++]);
	while (ret == 0 && open > 0 && flat_rpc_next(rpc, &event, 30000) == 1) {
		struct one *one = event.user;
		int ended = take(c, &event);

		if (ended < 0)
			return 1;
		if (ended > 0 && now_us() - begun < seconds * 1e6)
			ret = begin(c, one);
		else if (ended > 0)
			open--;
	}
	if (ret != 0 || open > 0)
		return bad("a call", ret);
	size_t kept = c->n < TIMES_MAX ? c->n : TIMES_MAX;
	double all = now_us() - begun;
	qsort(c->took, kept, sizeof(*c->took), by_value);
	printf("%.1f calls/s, p50 %.1f us\n", (double)c->n * 1e6 / all, c->took[kept / 2]);
	return 0;
}

static int ask(struct flat_rpc *rpc, char **argv)
{
	long outstanding = number(argv[3], 10000);
	long bytes = number(argv[4], 1000000);
	if (outstanding < 1 || bytes < 0)
		return 2;
	char *message = calloc(1, (size_t)bytes + 1);
	struct one *calls = calloc((size_t)outstanding, sizeof(*calls));
	struct client c = {
	    .message = message, .bytes = (size_t)bytes, .took = calloc(TIMES_MAX, sizeof(double))};
	int ret = 1;

	if (message && calls && c.took) {
		memset(message, 'x', (size_t)bytes);
		ret = flat_rpc_channel_open(rpc, argv[2], &c.channel);
		ret = ret ? bad(argv[2], ret)
			  : measure(rpc, &c, calls, (size_t)outstanding, strtod(argv[5], NULL));
	}
	free(c.took);
	free(calls);
	free(message);
	return ret;
}

int main(int argc, char **argv)
{
	struct flat_rpc *rpc;
	int ret = 2;

	if (flat_rpc_open(&rpc) != 0)
		return 1;
	if (argc == 4 && strcmp(argv[1], "server") == 0 && number(argv[3], 65535) >= 0)
		ret = serve(rpc, argv[2], argv[3]);
	else if (argc == 6 && strcmp(argv[1], "client") == 0)
		ret = ask(rpc, argv);
	else
		fprintf(stderr, "usage: rpcecho server ADDRESS PORT | client HOST:PORT OUTSTANDING "
				"BYTES SECONDS\n");
	flat_rpc_close(rpc);
	return ret;
}
