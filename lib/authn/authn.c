#include "authn/authn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "authn/fetch.h"
#include "authn/jwks.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"

/* A key set is fetched again when it is used and older than that, ms: a URL's as Envoy's default, a file's at once. */
#define FRESH_MS ((int64_t)5 * 60 * 1000)
#define FRESH_FILE_MS ((int64_t)1000)
/* Older than that it is waited for; and if it cannot be fetched, the last one holds for so long. */
#define STALE_MS (2 * FRESH_MS)
#define DEAD_MS ((int64_t)24 * 3600 * 1000)
/* After a failure, doubled each time; and the least pause before a key that nobody knows is asked for, ms. */
#define AGAIN_MS ((int64_t)1000)
#define AGAIN_MAX_MS ((int64_t)64 * 1000)
#define UNKNOWN_KEY_MS ((int64_t)5 * 1000)

/* Tokens kept: sets of a few, each as large as Envoy keeps, and what their JSON may take. */
#define CACHE_SETS 256U
#define CACHE_WAYS 4U
#define CACHE_TOKEN_MAX 4096U
#define CACHE_MEMORY_MAX ((size_t)32 * 1024)

/* One key set, had by one or more rules. */
struct source {
	char *key;	/* owned: its text, or its address */
	const char *at; /* file or address; NULL: the text is in the rule */
	bool discover;	/* `at` is of an OpenID configuration */
	bool used;	/* by the present rules */
	uint32_t timeout_ms;
	struct flat_jwks *jwks; /* NULL: none yet */
	uint64_t generation;	/* of the keys: other keys, other number */
	uint64_t digest;	/* of their text */
	bool fetching;
	int64_t fetched_ms; /* 0: never */
	int64_t failed_ms;  /* of the last failure since, 0: none */
	uint32_t failures;  /* in a row */
	char error[160];
};

struct cached {
	uint64_t hash;
	uint64_t generation; /* of the keys that it was verified by */
	uint64_t used;
	struct flat_jwt *jwt; /* NULL: free */
};

/* A fetch on its way: which source it is for. */
struct flight {
	struct flat_fetch *f;
	struct source *source;
};

struct flat_authn {
	flat_authn_resolve_fn *resolve;
	void *arg;
	struct flat_fetch_inbox *inbox;
	struct source **sources;
	uint32_t n_sources;
	struct source **by_rule; /* by the rule's index; owned by `sources` */
	uint32_t n_rules;
	struct flight flights[FLAT_FETCHES_MAX];
	uint64_t generation;
	uint64_t uses;
	struct cached cache[CACHE_SETS * CACHE_WAYS];
	struct flat_authn_stats stats;
};

/* Not 0, which is never. */
static int64_t moment_ms(void)
{
	return flat_now_ms() + 1;
}

struct flat_authn *flat_authn_new(flat_authn_resolve_fn *resolve, void *arg)
{
	struct flat_authn *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->resolve = resolve;
	a->arg = arg;
	a->inbox = flat_fetch_inbox_new();
	if (a->inbox)
		return a;
	free(a);
	return NULL;
}

static void source_free(struct source *s)
{
	flat_jwks_free(s->jwks);
	free(s->key);
	free(s);
}

void flat_authn_free(struct flat_authn *a)
{
	if (!a)
		return;
	flat_fetch_inbox_leave(a->inbox);
	for (uint32_t i = 0; i < a->n_sources; i++)
		source_free(a->sources[i]);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(a->cache); i++)
		flat_jwt_put(a->cache[i].jwt);
	free(a->sources);
	free(a->by_rule);
	free(a);
}

int flat_authn_fd(const struct flat_authn *a)
{
	return flat_fetch_inbox_fd(a->inbox);
}

const struct flat_authn_stats *flat_authn_stats(const struct flat_authn *a)
{
	return &a->stats;
}

/* --- key sets --- */

/* Takes a key set's text. The same text again changes nothing: tokens stay known. */
static enum flat_jwt_status source_take(struct flat_authn *a, struct source *s, const char *text,
					size_t len)
{
	struct flat_jwks *jwks;
	uint64_t digest = flat_hash_quick(text, len);
	enum flat_jwt_status status;

	if (s->jwks && s->digest == digest)
		return FLAT_JWT_OK;
	status = flat_jwks_read(text, len, &jwks);
	if (status != FLAT_JWT_OK)
		return status;
	flat_jwks_free(s->jwks);
	s->jwks = jwks;
	s->digest = digest;
	s->generation = ++a->generation;
	return FLAT_JWT_OK;
}

static void source_failed(struct flat_authn *a, struct source *s, const char *why)
{
	s->failed_ms = moment_ms();
	a->stats.fetch_failed++;
	/* Each reason once, not once a minute. */
	if (strcmp(s->error, why) != 0)
		flat_warn("key set %s: %s%s", s->at, why,
			  s->jwks ? "; the last one holds for a day"
				  : "; tokens that need it are refused");
	snprintf(s->error, sizeof(s->error), "%s", why);
	if (s->failures < 16)
		s->failures++;
}

static int64_t pause_ms(const struct source *s)
{
	int64_t pause = AGAIN_MS << (s->failures < 7 ? s->failures - 1 : 6);

	return pause < AGAIN_MAX_MS ? pause : AGAIN_MAX_MS;
}

static void source_fetch(struct flat_authn *a, struct source *s)
{
	struct flight *flight = NULL;
	char uri[768];
	char host[256];
	uint16_t port;
	int err = -ENOMEM;

	for (uint32_t i = 0; i < FLAT_FETCHES_MAX; i++) {
		if (!a->flights[i].f)
			flight = &a->flights[i];
	}
	/* All are taken: whoever asks next comes again. */
	if (s->fetching || !flight || (s->failed_ms && moment_ms() - s->failed_ms < pause_ms(s)))
		return;
	snprintf(uri, sizeof(uri), "%s%s", s->at,
		 !s->discover			   ? ""
		 : s->at[strlen(s->at) - 1] == '/' ? ".well-known/openid-configuration"
						   : "/.well-known/openid-configuration");
	flight->f = flat_fetch_new(uri, s->timeout_ms);
	if (flight->f) {
		flight->f->discover = s->discover;
		if (flat_fetch_host(uri, host, &port))
			flight->f->addr_len = a->resolve(a->arg, host, port, &flight->f->addr);
		err = flat_fetch_start(a->inbox, flight->f);
	}
	if (err != 0) {
		flat_fetch_free(flight->f);
		flight->f = NULL;
		source_failed(a, s, strerror(-err));
		return;
	}
	flight->source = s;
	s->fetching = true;
}

void flat_authn_turn(struct flat_authn *a)
{
	struct flat_fetch *f;

	while ((f = flat_fetch_take(a->inbox)) != NULL) {
		struct source *s = NULL;

		for (uint32_t i = 0; i < FLAT_FETCHES_MAX; i++) {
			if (a->flights[i].f != f)
				continue;
			s = a->flights[i].source;
			a->flights[i] = (struct flight){NULL, NULL};
		}
		/* Without source: a reload dropped it. */
		if (s) {
			s->fetching = false;
			if (!f->body) {
				source_failed(a, s, f->error);
			} else if (source_take(a, s, f->body, f->len) != FLAT_JWT_OK) {
				source_failed(a, s, "no key in it that can be used");
			} else {
				s->fetched_ms = moment_ms();
				s->failed_ms = 0;
				s->failures = 0;
				s->error[0] = 0;
				a->stats.fetched++;
			}
		}
		flat_fetch_free(f);
	}
}

/* Whether the keys can be used now; asks for newer ones in time. */
static enum flat_jwt_status source_ready(struct flat_authn *a, struct source *s)
{
	int64_t now, age;
	bool file;

	if (!s->at)
		return s->jwks ? FLAT_JWT_OK : FLAT_JWT_NO_KEYS;
	now = moment_ms();
	age = s->fetched_ms ? now - s->fetched_ms : DEAD_MS + 1;
	file = strncmp(s->at, "file://", 7) == 0;
	if (age > (file ? FRESH_FILE_MS : FRESH_MS))
		source_fetch(a, s);
	if (age > STALE_MS && s->fetching)
		return FLAT_JWT_WAIT;
	return s->jwks && age <= DEAD_MS ? FLAT_JWT_OK : FLAT_JWT_FETCH;
}

/* --- rules --- */

static struct source *source_find(struct flat_authn *a, const char *key)
{
	for (uint32_t i = 0; i < a->n_sources; i++) {
		if (strcmp(a->sources[i]->key, key) == 0)
			return a->sources[i];
	}
	return NULL;
}

static struct source *source_make(struct flat_authn *a, const struct flat_jwt_rule *rule)
{
	const char *key = rule->jwks ? rule->jwks : rule->jwks_uri ? rule->jwks_uri : rule->issuer;
	struct source *s = source_find(a, key);

	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (s)
		s->key = strdup(key);
	if (!s || !s->key) {
		free(s);
		return NULL;
	}
	if (rule->jwks) {
		if (source_take(a, s, rule->jwks, strlen(rule->jwks)) != FLAT_JWT_OK)
			flat_warn("%s:%u: the key set has no key that can be used; tokens of %s "
				  "are refused",
				  rule->where.file ? rule->where.file : "-", rule->where.line,
				  rule->issuer);
	} else {
		s->at = s->key;
		s->discover = !rule->jwks_uri;
	}
	a->sources[a->n_sources++] = s;
	return s;
}

/* Those that no rule names any more. */
static void drop_unused(struct flat_authn *a)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < a->n_sources; i++) {
		struct source *s = a->sources[i];

		if (s->used) {
			a->sources[kept++] = s;
			continue;
		}
		for (uint32_t k = 0; k < FLAT_FETCHES_MAX; k++) {
			if (a->flights[k].source == s)
				a->flights[k] = (struct flight){NULL, NULL};
		}
		source_free(s);
	}
	a->n_sources = kept;
}

int flat_authn_reload(struct flat_authn *a, const struct flat_mesh *mesh)
{
	uint32_t n = flat_mesh_n_jwt_rules(mesh);
	struct source **by_rule = calloc((size_t)n + 1, sizeof(struct source *));
	struct source **sources =
	    realloc(a->sources, ((size_t)a->n_sources + n + 1) * sizeof(struct source *));
	int err = 0;

	if (sources)
		a->sources = sources;
	free(a->by_rule);
	a->by_rule = by_rule;
	a->n_rules = by_rule && sources ? n : 0;
	for (uint32_t i = 0; i < a->n_sources; i++)
		a->sources[i]->used = false;
	for (uint32_t i = 0; i < a->n_rules; i++) {
		const struct flat_jwt_rule *rule = flat_mesh_jwt_rule(mesh, i);
		struct source *s = source_make(a, rule);

		by_rule[i] = s;
		if (!s) {
			err = -ENOMEM;
			continue;
		}
		s->used = true;
		s->timeout_ms = rule->timeout_ms;
		(void)source_ready(a, s);
	}
	drop_unused(a);
	return by_rule && sources ? err : -ENOMEM;
}

/* --- tokens --- */

static struct cached *cache_set(struct flat_authn *a, uint64_t hash)
{
	return &a->cache[(hash % CACHE_SETS) * CACHE_WAYS];
}

static struct flat_jwt *cache_find(struct flat_authn *a, uint64_t hash, struct flat_span token,
				   uint64_t generation)
{
	struct cached *set = cache_set(a, hash);

	for (uint32_t i = 0; i < CACHE_WAYS; i++) {
		struct cached *c = &set[i];

		if (!c->jwt || c->hash != hash || c->generation != generation ||
		    !flat_span_equal(c->jwt->token, token, false))
			continue;
		c->used = ++a->uses;
		a->stats.cached++;
		return c->jwt;
	}
	return NULL;
}

/* In place of the one used longest ago. */
static void cache_put(struct flat_authn *a, uint64_t hash, struct flat_jwt *jwt,
		      uint64_t generation)
{
	struct cached *set = cache_set(a, hash);
	struct cached *to = set;

	if (jwt->token.len > CACHE_TOKEN_MAX || jwt->pool.used_bytes > CACHE_MEMORY_MAX)
		return;
	for (uint32_t i = 1; i < CACHE_WAYS; i++) {
		if (set[i].used < to->used)
			to = &set[i];
	}
	flat_jwt_put(to->jwt);
	*to = (struct cached){hash, generation, ++a->uses, flat_jwt_get(jwt)};
}

/* What holds of a token whatever its signature is worth. */
static enum flat_jwt_status check_claims(const struct flat_jwt *jwt,
					 const struct flat_jwt_rule *rule, int64_t now_s)
{
	enum flat_jwt_status status;

	if (*rule->issuer && strcmp(jwt->iss, rule->issuer) != 0)
		return FLAT_JWT_UNKNOWN_ISSUER;
	status = flat_jwt_time(jwt, now_s);
	if (status == FLAT_JWT_OK && !flat_jwt_audience(jwt, rule->audiences, rule->n_audiences))
		status = FLAT_JWT_AUDIENCE;
	return status;
}

static enum flat_jwt_status verify(struct flat_authn *a, struct source *s, struct flat_jwt *jwt)
{
	enum flat_jwt_status status;

	if (!s)
		return FLAT_JWT_NO_KEYS;
	status = source_ready(a, s);
	if (status != FLAT_JWT_OK)
		return status;
	a->stats.verified++;
	status = flat_jwks_verify(s->jwks, jwt);
	/* Its key may be newer than our set. */
	if (status == FLAT_JWT_NO_KEY && s->at && moment_ms() - s->fetched_ms > UNKNOWN_KEY_MS)
		source_fetch(a, s);
	return status == FLAT_JWT_NO_KEY && s->fetching ? FLAT_JWT_WAIT : status;
}

enum flat_jwt_status flat_authn_check(struct flat_authn *a, const struct flat_jwt_rule *rule,
				      struct flat_span token, int64_t now_s, struct flat_jwt **out)
{
	struct source *s = rule->index < a->n_rules ? a->by_rule[rule->index] : NULL;
	uint64_t hash = flat_hash_quick(token.text, token.len);
	enum flat_jwt_status status;
	struct flat_jwt *jwt;

	*out = NULL;
	if (s && source_ready(a, s) == FLAT_JWT_OK) {
		jwt = cache_find(a, hash, token, s->generation);
		status = jwt ? check_claims(jwt, rule, now_s) : FLAT_JWT_MISSED;
		if (jwt && status == FLAT_JWT_OK)
			*out = flat_jwt_get(jwt);
		if (jwt)
			return status;
	}
	status = flat_jwt_read(token, &jwt);
	if (status != FLAT_JWT_OK)
		return status;
	status = check_claims(jwt, rule, now_s);
	if (status == FLAT_JWT_OK)
		status = verify(a, s, jwt);
	if (status == FLAT_JWT_OK) {
		cache_put(a, hash, jwt, s->generation);
		*out = jwt;
		return FLAT_JWT_OK;
	}
	flat_jwt_put(jwt);
	return status;
}

void flat_authn_describe(const struct flat_authn *a, const struct flat_jwt_rule *rule, char *text,
			 size_t size)
{
	const struct source *s = rule->index < a->n_rules ? a->by_rule[rule->index] : NULL;
	unsigned n = s && s->jwks ? flat_jwks_n(s->jwks) : 0;

	if (!s || !s->at)
		snprintf(text, size, "%u keys of the rule", n);
	else if (n > 0)
		snprintf(text, size, "%u keys of %s%s%s", n, s->at,
			 s->failed_ms ? ", which now cannot be fetched: " : "",
			 s->failed_ms ? s->error : "");
	else
		snprintf(text, size, "no keys of %s%s%s", s->at,
			 s->error[0] ? ": " : ", which is being fetched", s->error);
}
