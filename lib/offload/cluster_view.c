/*
 * A cluster as one client sees it: endpoints in levels of nearness, how many requests each level gets, and within a level
 * who is picked. Made when endpoints, their health or their weights change, so that a pick looks at few of them.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/cluster.h"

/* Views of one cluster: clients that differ in where they are. One more forgets all. */
#define VIEWS_MAX 64U
/* Weights are multiplied where shares are fractions. */
#define SCALE 10000.0
/* How often another endpoint is looked for instead of one that was tried: Istio's. */
#define AVOID_TRIES 5U
/* A level that warms up is weighed anew that many times on the way. */
#define WARMUP_STEPS 200

/* The usable endpoints of a level. */
struct level {
	struct flat_endpoint *v; /* copies, with the weights that hold here */
	struct flat_cluster_host **hosts;
	uint32_t *index; /* among the cluster's */
	uint64_t *upto;	 /* sum of the weights up to and with each */
	uint32_t n;
	uint32_t load; /* percent */
	bool even;     /* all weights are equal */
	bool scaled;   /* weights are multiplied */
	struct flat_balance_state turns;
	struct flat_hash_table table;
	uint64_t sum; /* of what the table was made of */
};

struct flat_view {
	const void *key; /* whose: a workload, or NULL where nearness does not count */
	uint64_t health;
	int64_t made_us;
	int64_t warm_us; /* somebody warms up: until when it holds; 0: nobody */
	struct level *levels;
	uint32_t n;
	bool made;
};

static void level_clear(struct level *l)
{
	free(l->v);
	free(l->hosts);
	free(l->index);
	free(l->upto);
	l->v = NULL;
	l->hosts = NULL;
	l->index = NULL;
	l->upto = NULL;
	l->n = 0;
}

static void view_fini(struct flat_view *view)
{
	for (uint32_t i = 0; i < view->n; i++) {
		level_clear(&view->levels[i]);
		flat_balance_fini(&view->levels[i].turns);
		flat_hash_table_fini(&view->levels[i].table);
	}
	free(view->levels);
	memset(view, 0, sizeof(*view));
}

void flat_views_free(struct flat_cluster *c)
{
	for (uint32_t i = 0; i < c->n_views; i++)
		view_fini(&c->views[i]);
	free(c->views);
	c->views = NULL;
	c->n_views = 0;
}

/* --- making --- */

static const struct flat_locality_lb *locality_of(const struct flat_choice *choice)
{
	const struct flat_lb *lb = choice->traffic.lb;

	return lb && lb->locality ? lb->locality : choice->locality;
}

/* Whether it makes a difference who asks. */
static bool nearness_counts(const struct flat_choice *choice)
{
	const struct flat_locality_lb *lb = locality_of(choice);

	return choice->source && !(lb && lb->off) &&
	       ((lb && lb->n_distribute > 0) || choice->traffic.outlier);
}

/* What of its weight an endpoint has by now, as Envoy's slow start has it. */
static double warmth(const struct flat_warmup *w, const struct flat_cluster_host *h, int64_t now_us)
{
	double age = (double)(now_us - h->since_us) / 1000.0;
	double least = w->min_percent / 100.0;
	double part;

	if (w->ms == 0 || h->since_us == 0 || age >= w->ms)
		return 1;
	part = pow((age > 1 ? age : 1) / w->ms, 1 / w->aggression);
	return part > least ? part : least;
}

static int level_alloc(struct level *l, uint32_t n)
{
	level_clear(l);
	l->v = calloc((size_t)n + 1, sizeof(*l->v));
	l->hosts = calloc((size_t)n + 1, sizeof(struct flat_cluster_host *));
	l->index = calloc((size_t)n + 1, sizeof(*l->index));
	l->upto = calloc((size_t)n + 1, sizeof(*l->upto));
	return l->v && l->hosts && l->index && l->upto ? 0 : -ENOMEM;
}

/* How well an endpoint's locality can bear its share: what is put aside of it is missing. */
static double locality_health(const struct flat_cluster *c, const struct flat_choice *choice,
			      uint32_t at)
{
	const char *of = choice->v[at].locality;
	uint32_t all = 0;
	uint32_t well = 0;

	for (uint32_t i = 0; i < choice->n; i++) {
		if (choice->v[i].draining || flat_locality_distance(of, choice->v[i].locality) != 0)
			continue;
		all++;
		well += !flat_cluster_host_down(c->hosts[i]);
	}
	/* What is left in the locality takes over from the others there. */
	return well ? fmin(1.0, 1.4 * well / all) * all / well : 1;
}

struct making {
	struct flat_cluster *c;
	const struct flat_choice *choice;
	struct flat_view *view;
	struct flat_place *places;
	struct flat_level_load *loads;
	uint32_t n; /* levels */
};

/* An endpoint's weight in its level. */
static uint32_t weigh(const struct making *m, uint32_t i, bool scaled)
{
	const struct flat_lb *lb = m->choice->traffic.lb;
	double w = m->choice->v[i].weight;

	if (!scaled)
		return m->choice->v[i].weight;
	w *= m->places[i].share;
	if (m->places[i].share != 1)
		w *= locality_health(m->c, m->choice, i);
	if (lb)
		w *= warmth(&lb->warmup, m->c->hosts[i], m->choice->now_us);
	w = ceil(w * SCALE);
	return w < 1 ? 1 : w > INT32_MAX ? INT32_MAX : (uint32_t)w;
}

static int fill_level(const struct making *m, uint32_t at, bool scaled)
{
	struct level *l = &m->view->levels[at];
	const struct flat_level_load *load = &m->loads[at];
	uint64_t sum = 0;

	if (level_alloc(l, load->total) != 0)
		return -ENOMEM;
	/* Turns count in the weights they were taken with. */
	if (l->scaled != scaled)
		flat_balance_fini(&l->turns);
	l->scaled = scaled;
	l->load = load->load;
	l->even = true;
	for (uint32_t i = 0; i < m->choice->n; i++) {
		if (m->places[i].level != at || m->places[i].share <= 0 ||
		    (flat_cluster_host_down(m->c->hosts[i]) && !load->panic))
			continue;
		l->v[l->n] = m->choice->v[i];
		l->v[l->n].weight = weigh(m, i, scaled);
		l->hosts[l->n] = m->c->hosts[i];
		l->index[l->n] = i;
		sum += l->v[l->n].weight;
		l->even &= l->v[l->n].weight == l->v[0].weight;
		l->upto[l->n++] = sum;
	}
	return 0;
}

static bool somebody_warms(const struct making *m)
{
	const struct flat_lb *lb = m->choice->traffic.lb;
	bool any = false;

	for (uint32_t i = 0; lb && lb->warmup.ms && lb->kind < FLAT_LB_RANDOM && i < m->choice->n;
	     i++)
		any |= warmth(&lb->warmup, m->c->hosts[i], m->choice->now_us) < 1;
	return any;
}

static int fill(struct making *m)
{
	const struct flat_choice *choice = m->choice;
	const struct flat_workload *s = choice->source;
	bool near = nearness_counts(choice);
	bool warm = somebody_warms(m);
	bool scaled = warm;
	int err = 0;

	m->n = 1;
	for (uint32_t i = 0; !near && i < choice->n; i++)
		m->places[i] = (struct flat_place){.level = 0, .share = 1};
	if (near)
		m->n =
		    flat_locality_places(locality_of(choice), choice->traffic.outlier != NULL,
					 s->locality, &s->labels, choice->v, choice->n, m->places);
	if (m->n > m->view->n) {
		struct level *v = realloc(m->view->levels, m->n * sizeof(*v));

		if (!v)
			return -ENOMEM;
		memset(v + m->view->n, 0, (m->n - m->view->n) * sizeof(*v));
		m->view->levels = v;
		m->view->n = m->n;
	}
	m->loads = calloc(m->view->n, sizeof(*m->loads));
	if (!m->loads)
		return -ENOMEM;
	for (uint32_t i = 0; i < choice->n; i++) {
		struct flat_level_load *load = &m->loads[m->places[i].level];

		if (choice->v[i].draining)
			m->places[i].share = 0;
		else
			scaled |= m->places[i].share != 1;
		load->total += m->places[i].share > 0;
		load->healthy += m->places[i].share > 0 && !flat_cluster_host_down(m->c->hosts[i]);
	}
	flat_level_loads(m->loads, m->view->n, m->c->panic);
	for (uint32_t i = 0; i < m->view->n && err == 0; i++)
		err = fill_level(m, i, scaled);
	m->view->warm_us =
	    warm ? choice->now_us + (int64_t)choice->traffic.lb->warmup.ms * 1000 / WARMUP_STEPS
		 : 0;
	free(m->loads);
	return err;
}

static int make(struct flat_cluster *c, const struct flat_choice *choice, struct flat_view *view)
{
	struct making m = {.c = c, .choice = choice, .view = view};
	int err;

	m.places = calloc((size_t)choice->n + 1, sizeof(*m.places));
	err = m.places ? fill(&m) : -ENOMEM;
	free(m.places);
	view->made = err == 0;
	view->health = c->health;
	view->made_us = choice->now_us;
	return err;
}

static struct flat_view *find_view(struct flat_cluster *c, const struct flat_choice *choice)
{
	const void *key = nearness_counts(choice) ? choice->source : NULL;
	struct flat_view *v;

	for (uint32_t i = 0; i < c->n_views; i++) {
		if (c->views[i].key == key)
			return &c->views[i];
	}
	if (c->n_views == VIEWS_MAX)
		flat_views_free(c);
	v = realloc(c->views, (c->n_views + 1) * sizeof(*v));
	if (!v)
		return NULL;
	c->views = v;
	memset(&v[c->n_views], 0, sizeof(*v));
	v[c->n_views].key = key;
	return &v[c->n_views++];
}

/* --- picking --- */

/* xorshift64*: shares of work want no secrets. */
static uint64_t draw(uint64_t *state, uint64_t below)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return (x * 0x2545f4914f6cdd1dULL >> 16) % below;
}

/* One by weight. */
static int pick_random(const struct level *l, uint64_t *random)
{
	uint64_t at;
	uint32_t low = 0;
	uint32_t high = l->n;

	if (l->even)
		return (int)draw(random, l->n);
	at = draw(random, l->upto[l->n - 1]);
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (l->upto[mid] <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return (int)low;
}

static uint64_t sum_of(const struct level *l, const struct flat_lb *lb)
{
	uint64_t sum = ((uint64_t)lb->kind << 32) | lb->size;

	for (uint32_t i = 0; i < l->n; i++) {
		struct flat_addr a = l->hosts[i]->addr;

		a.scope_id = l->v[i].weight;
		sum = flat_xxh64(&a, sizeof(a), sum + i);
	}
	return sum | 1;
}

static int build_table(struct level *l, const struct flat_lb *lb)
{
	struct flat_hash_host *hosts = calloc((size_t)l->n + 1, sizeof(*hosts));
	char(*names)[FLAT_ADDR_STRLEN] = calloc((size_t)l->n + 1, sizeof(*names));
	int err = -ENOMEM;

	for (uint32_t i = 0; hosts && names && i < l->n; i++) {
		hosts[i].name = flat_addr_str(&l->hosts[i]->addr, names[i]);
		hosts[i].weight = l->v[i].weight;
		hosts[i].index = i;
	}
	if (hosts && names)
		err = flat_hash_table_build(&l->table, lb->kind, lb->size, hosts, l->n);
	free(names);
	free(hosts);
	return err;
}

static int pick_hashed(struct level *l, const struct flat_lb *lb, uint64_t hash, uint32_t try)
{
	/* `sum` is cleared where the level is made anew. */
	if (l->sum == 0) {
		int err = build_table(l, lb);

		if (err != 0)
			return err;
		l->sum = sum_of(l, lb);
	}
	return flat_hash_table_pick(&l->table, hash, try);
}

/* Turns, each by its weight over what it has to do: Envoy's least request where weights differ. */
static int turn_of_least(struct level *l, struct flat_balance_state *turns)
{
	int64_t total = 0;
	uint32_t best = 0;

	if (turns->n != l->n && flat_balance_reset(turns, l->n) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->n; i++) {
		int64_t w = ((int64_t)l->v[i].weight << 16) / (l->hosts[i]->active + 1LL);

		turns->current[i] += w;
		total += w;
		if (turns->current[i] > turns->current[best])
			best = i;
	}
	turns->current[best] -= total;
	return (int)best;
}

/* Whose turn it is; of a question the state is a copy. */
static int pick_turn(struct level *l, bool least, bool dry)
{
	struct flat_balance_state copy = {0};
	struct flat_balance_state *turns = dry ? &copy : &l->turns;
	int i;

	if (dry && l->turns.n == l->n && l->n > 0) {
		copy.current = malloc(l->n * sizeof(*copy.current));
		if (!copy.current)
			return -ENOMEM;
		memcpy(copy.current, l->turns.current, l->n * sizeof(*copy.current));
		copy.n = l->n;
	}
	i = least ? turn_of_least(l, turns) : flat_balance_pick(turns, l->v, l->n, NULL, NULL);
	flat_balance_fini(&copy);
	return i;
}

/* Of two drawn by chance the one with less to do (Mitzenmacher 2001: almost as good as of all). */
static int pick_least(struct level *l, uint64_t *random, bool dry)
{
	int a;
	int b;

	if (!l->even)
		return pick_turn(l, true, dry);
	a = pick_random(l, random);
	b = pick_random(l, random);
	return l->hosts[b]->active < l->hosts[a]->active ? b : a;
}

static bool was_tried(const struct flat_choice *choice, const struct level *l)
{
	for (uint32_t i = 0; i < l->n; i++) {
		for (uint32_t k = 0; k < choice->n_avoid; k++) {
			if (flat_addr_equal(&l->hosts[i]->addr, &choice->avoid[k]))
				return true;
		}
	}
	return false;
}

static struct level *pick_level(struct flat_view *view, const struct flat_choice *choice,
				uint64_t by)
{
	uint32_t at = (uint32_t)(by % 100);

	/* Envoy's previous_priorities, as Istio sets it: after two attempts another level. */
	for (uint32_t i = 0; choice->far && choice->n_avoid > 1 && i < view->n; i++) {
		if (view->levels[i].n && !was_tried(choice, &view->levels[i]))
			return &view->levels[i];
	}

	for (uint32_t i = 0; i < view->n; i++) {
		if (at < view->levels[i].load)
			return &view->levels[i];
		at -= view->levels[i].load;
	}
	return &view->levels[0];
}

/* One look; `try` counts them. */
static int pick_once(struct flat_view *view, const struct flat_choice *choice, uint64_t *random,
		     uint32_t try)
{
	const struct flat_lb *lb = choice->traffic.lb;
	enum flat_lb_kind kind = flat_lb_kind_of(lb);
	bool hashed = kind >= FLAT_LB_RING_HASH && choice->hashed;
	struct level *l =
	    view->n == 1 ? &view->levels[0]
			 : pick_level(view, choice, hashed ? choice->hash : draw(random, 1U << 30));
	int i;

	if (l->n == 0)
		return -EHOSTUNREACH;
	if (hashed)
		i = pick_hashed(l, lb, choice->hash, try);
	else if (kind == FLAT_LB_ROUND_ROBIN)
		i = pick_turn(l, false, choice->dry);
	else if (kind == FLAT_LB_LEAST_REQUEST)
		i = pick_least(l, random, choice->dry);
	else
		i = pick_random(l, random);
	return i < 0 ? i : (int)l->index[i];
}

static bool avoided(const struct flat_cluster *c, const struct flat_choice *choice, int i)
{
	for (uint32_t k = 0; i >= 0 && k < choice->n_avoid; k++) {
		if (flat_addr_equal(&c->hosts[i]->addr, &choice->avoid[k]))
			return true;
	}
	return false;
}

/* A table outlives what changed nothing of it. */
static void renew_tables(struct flat_view *view, const struct flat_lb *lb)
{
	for (uint32_t i = 0; i < view->n; i++) {
		struct level *l = &view->levels[i];

		if (l->sum && (!lb || lb->kind < FLAT_LB_RING_HASH || sum_of(l, lb) != l->sum))
			l->sum = 0;
	}
}

int flat_view_pick(struct flat_cluster *c, const struct flat_choice *choice)
{
	uint64_t copy = c->random;
	uint64_t *random = choice->dry ? &copy : &c->random;
	struct flat_view *view = find_view(c, choice);
	int i;

	if (!view)
		return -ENOMEM;
	if (!view->made || view->health != c->health ||
	    (view->warm_us && choice->now_us >= view->warm_us)) {
		int err = make(c, choice, view);

		if (err != 0)
			return err;
		renew_tables(view, choice->traffic.lb);
	}
	i = pick_once(view, choice, random, 0);
	for (uint32_t try = 1; try < AVOID_TRIES && avoided(c, choice, i); try++)
		i = pick_once(view, choice, random, try);
	return i;
}
