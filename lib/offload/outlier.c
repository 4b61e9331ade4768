/*
 * Outlier detection: an endpoint that gives errors in a row is put aside for a time that grows with each time it
 * happens. Counters, times and bounds as in Envoy (docs: "Outlier detection"); only when a time is over is looked at when
 * somebody asks, instead of by a timer.
 */
#include <stdlib.h>

#include "offload/cluster.h"

/* Envoy's max_ejection_time, which Istio does not set. */
#define MAX_EJECTION_US ((int64_t)300 * 1000000)
/* Intervals that are caught up with at once: the times aside are at most 300 s. */
#define SWEEPS_MAX 1024

static int64_t time_aside(const struct flat_outlier *o, const struct flat_cluster_host *h)
{
	int64_t base = (int64_t)o->base_ms * 1000;
	int64_t most = base > MAX_EJECTION_US ? base : MAX_EJECTION_US;
	int64_t us = base * h->ejections;

	return us < most ? us : most;
}

void flat_outlier_take_back(struct flat_cluster *c, struct flat_cluster_host *h)
{
	h->ejected = false;
	h->run_5xx = h->run_gateway = h->run_local = 0;
	c->n_ejected--;
	c->health++;
}

static void sweep_host(struct flat_cluster *c, struct flat_cluster_host *h, int64_t now_us)
{
	if (!h->ejected) {
		/* It did well since the last look: its next time aside is shorter. */
		h->ejections -= h->ejections > 0;
		return;
	}
	if (now_us - h->ejected_us >= time_aside(&c->outlier, h))
		flat_outlier_take_back(c, h);
}

void flat_outlier_sweep(struct flat_cluster *c, int64_t now_us)
{
	int64_t interval = (int64_t)c->outlier.interval_ms * 1000;

	if (interval == 0)
		return;
	if (now_us - c->sweep_us > interval * SWEEPS_MAX)
		c->sweep_us = now_us - interval * SWEEPS_MAX;
	while (now_us - c->sweep_us >= interval) {
		c->sweep_us += interval;
		for (uint32_t i = 0; i < c->n_hosts; i++)
			sweep_host(c, c->hosts[i], c->sweep_us);
	}
}

void flat_outlier_clear(struct flat_cluster *c)
{
	for (uint32_t i = 0; i < c->n_hosts; i++) {
		if (c->hosts[i]->ejected)
			flat_outlier_take_back(c, c->hosts[i]);
		c->hosts[i]->ejections = 0;
		c->hosts[i]->run_5xx = c->hosts[i]->run_gateway = c->hosts[i]->run_local = 0;
	}
}

static void eject(struct flat_cluster *c, struct flat_cluster_host *h, int64_t now_us)
{
	const struct flat_outlier *o = &c->outlier;
	bool member = false;

	for (uint32_t i = 0; i < c->n_hosts && !member; i++)
		member = c->hosts[i] == h;
	if (!member || h->ejected ||
	    100.0 * (c->n_ejected + 1) / c->n_hosts > (double)o->max_percent)
		return;
	h->ejected = true;
	h->ejected_us = now_us;
	/* Beyond the longest time it need not grow. */
	if ((int64_t)h->ejections * o->base_ms * 1000 <
	    MAX_EJECTION_US + (int64_t)o->base_ms * 1000)
		h->ejections++;
	h->n_ejected++;
	c->n_ejected++;
	c->health++;
}

/* One more error of a kind in a row; true: as many as it takes. */
static bool run(uint32_t *count, uint32_t bound)
{
	if (bound == 0 || ++*count < bound)
		return false;
	*count = 0;
	return true;
}

static void note_status(struct flat_cluster *c, struct flat_cluster_host *h, unsigned status,
			int64_t now_us)
{
	const struct flat_outlier *o = &c->outlier;
	bool gateway = status >= 502 && status <= 504;

	if (status < 500) {
		h->run_5xx = h->run_gateway = 0;
		return;
	}
	if (!gateway)
		h->run_gateway = 0;
	else if (run(&h->run_gateway, o->consecutive_gateway))
		eject(c, h, now_us);
	if (run(&h->run_5xx, o->consecutive_5xx))
		eject(c, h, now_us);
}

void flat_outlier_note(struct flat_cluster *c, struct flat_cluster_host *h,
		       enum flat_outcome outcome, unsigned status, int64_t now_us)
{
	bool failed = outcome == FLAT_OUTCOME_FAILED || outcome == FLAT_OUTCOME_TIMEOUT;

	h->n_errors += failed || status >= 500;
	if (c->outlier.interval_ms == 0)
		return;
	flat_outlier_sweep(c, now_us);
	if (outcome == FLAT_OUTCOME_STATUS) {
		note_status(c, h, status, now_us);
	} else if (c->outlier.split && failed) {
		if (run(&h->run_local, c->outlier.consecutive_local))
			eject(c, h, now_us);
	} else if (c->outlier.split) {
		h->run_local = 0;
	} else if (outcome == FLAT_OUTCOME_OPENED) {
		note_status(c, h, 200, now_us);
	} else if (failed) {
		/* Not apart: as if the server had said it. */
		note_status(c, h, outcome == FLAT_OUTCOME_TIMEOUT ? 504 : 503, now_us);
	}
}
