#include "offload/success.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int flat_success_init(struct flat_success *s, uint32_t seconds)
{
	memset(s, 0, sizeof(*s));
	s->v = calloc(seconds, sizeof(*s->v));
	if (!s->v)
		return -ENOMEM;
	s->n = seconds;
	return 0;
}

void flat_success_fini(struct flat_success *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}

static struct flat_success_second *second(const struct flat_success *s, int64_t at)
{
	return &s->v[at % s->n];
}

void flat_success_look(struct flat_success *s, int64_t now_us)
{
	int64_t now = now_us / 1000000;

	if (now == s->newest && s->oldest == now)
		return;
	if (now - s->newest >= s->n) {
		memset(s->v, 0, s->n * sizeof(*s->v));
		s->requests = s->successes = 0;
		s->newest = now;
	}
	while (s->newest < now) {
		struct flat_success_second *old = second(s, ++s->newest);

		s->requests -= old->requests;
		s->successes -= old->successes;
		*old = (struct flat_success_second){0, 0};
	}
	if (s->oldest <= now - s->n)
		s->oldest = now - s->n + 1;
	while (s->oldest < now && second(s, s->oldest)->requests == 0)
		s->oldest++;
}

void flat_success_note(struct flat_success *s, int64_t now_us, bool good)
{
	struct flat_success_second *this;

	flat_success_look(s, now_us);
	this = second(s, s->newest);
	this->requests++;
	this->successes += good;
	s->requests++;
	s->successes += good;
}

uint32_t flat_success_rate(const struct flat_success *s)
{
	uint64_t seconds = s->newest > s->oldest ? (uint64_t)(s->newest - s->oldest) : 1;
	uint64_t rate = s->requests / seconds;

	return rate < UINT32_MAX ? (uint32_t)rate : UINT32_MAX;
}

uint32_t flat_success_refused(const struct flat_success *s, const struct flat_admission *filter)
{
	double n = (double)s->requests;
	double good = (double)s->successes * FLAT_MILLION / filter->success_of_million;
	double most = (double)filter->most_of_million / FLAT_MILLION;
	double p = (n - good) / (n + 1);

	if (p <= 0 || flat_success_rate(s) < filter->rps)
		return 0;
	if (filter->aggression != 1000)
		p = pow(p, 1000.0 / filter->aggression);
	return (uint32_t)ceil(10000 * (p < most ? p : most));
}
