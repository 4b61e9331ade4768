/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "client.h"

static const struct {
	const char *name;
	double percent;
} percentiles[] = {
    {"p50", 50.0}, {"p75", 75.0},   {"p90", 90.0},     {"p95", 95.0},
    {"p99", 99.0}, {"p99.9", 99.9}, {"p99.99", 99.99},
};

#define PERCENTILES (sizeof(percentiles) / sizeof(percentiles[0]))

/* sockperf calls half a round trip latency. A connection's time is never halved. */
static double scale(const struct perf_opts *o)
{
	return o->full_rtt || o->mode == PERF_CONNECT ? 1e-3 : 0.5e-3;
}

static double seconds(const struct perf_tally *t)
{
	return (double)(t->end_ns - t->start_ns) * 1e-9;
}

static void report_json(const struct perf_net *net, const struct perf_opts *o,
			const struct perf_tally *t)
{
	double s = seconds(t);
	double us = scale(o);
	printf("{\"mode\": \"%s\", \"transport\": \"%s\", \"host\": \"%s\", \"port\": %u, "
	       "\"msg_size\": %u, \"clients\": %u, \"burst\": %u, \"time_s\": %.6f,\n",
	       perf_mode_name(o->mode), net->name, o->host, o->port, o->msg_size, o->clients,
	       o->burst, s);
	printf(" \"full_rtt\": %s, \"verified\": %s, \"zerocopy\": %s,\n",
	       o->full_rtt ? "true" : "false", o->verify ? "true" : "false",
	       o->zerocopy ? "true" : "false");
	printf(" \"messages\": %llu, \"replies\": %llu, \"connections\": %llu, \"bytes\": %llu,\n",
	       (unsigned long long)t->messages, (unsigned long long)t->replies,
	       (unsigned long long)t->connections, (unsigned long long)t->bytes);
	printf(" \"messages_per_s\": %.1f, \"connections_per_s\": %.1f, \"gbit_per_s\": %.6f",
	       (double)t->messages / s, (double)t->connections / s, (double)t->bytes * 8e-9 / s);
	if (t->hist.count) {
		printf(",\n \"latency_us\": {\"count\": %llu, \"mean\": %.3f, \"min\": %.3f",
		       (unsigned long long)t->hist.count, perf_hist_mean(&t->hist) * us,
		       (double)t->hist.min * us);
		for (size_t i = 0; i < PERCENTILES; i++)
			printf(", \"%s\": %.3f", percentiles[i].name,
			       (double)perf_hist_percentile(&t->hist, percentiles[i].percent) * us);
		printf(", \"max\": %.3f}", (double)t->hist.max * us);
	}
	printf("}\n");
}

static void report_text(const struct perf_net *net, const struct perf_opts *o,
			const struct perf_tally *t)
{
	double s = seconds(t);
	double us = scale(o);
	printf(
	    "flatperf: [%s, %s transport] %u connection%s, %u-byte messages, run time %.3f s%s\n",
	    perf_mode_name(o->mode), net->name, o->clients, o->clients == 1 ? "" : "s", o->msg_size,
	    s, o->verify ? ", every byte checked" : "");
	if (o->mode == PERF_CONNECT)
		printf("flatperf: Summary: Connection rate is %.0f per second (%llu connections)\n",
		       (double)t->connections / s, (unsigned long long)t->connections);
	else
		printf("flatperf: Summary: Message rate is %.0f [msg/sec], bandwidth is %.3f MBps "
		       "(%.3f Mbps); %llu sent, %llu answered\n",
		       (double)t->messages / s, (double)t->bytes / s / 1048576.0,
		       (double)t->bytes * 8e-6 / s, (unsigned long long)t->messages,
		       (unsigned long long)t->replies);
	if (!t->hist.count)
		return;
	const char *what = o->mode == PERF_CONNECT ? "Connection time"
			   : o->full_rtt	   ? "Round trip"
						   : "Latency";
	printf("flatperf: Summary: %s is %.3f usec; total %llu observations\n", what,
	       perf_hist_mean(&t->hist) * us, (unsigned long long)t->hist.count);
	printf("flatperf: ---> <MAX> observation = %12.3f\n", (double)t->hist.max * us);
	for (size_t i = PERCENTILES; i > 0; i--)
		printf("flatperf: ---> percentile %-7.2f = %12.3f\n", percentiles[i - 1].percent,
		       (double)perf_hist_percentile(&t->hist, percentiles[i - 1].percent) * us);
	printf("flatperf: ---> <MIN> observation = %12.3f\n", (double)t->hist.min * us);
}

void perf_report(const struct perf_net *net, const struct perf_opts *o,
		 const struct perf_tally *sum)
{
	if (o->json)
		report_json(net, o, sum);
	else
		report_text(net, o, sum);
}
