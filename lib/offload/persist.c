#include "offload/persist.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authn/base64url.h"
#include "offload/offload.h"

/* A token as bytes, little-endian: endpoint, destination, made, seen, and the keyed hash of those. */
#define AT_DESTINATION 8
#define AT_MADE 12
#define AT_SEEN 16
#define AT_MAC 20
#define TOKEN_BYTES 28
_Static_assert((TOKEN_BYTES * 4 + 2) / 3 == FLAT_PERSIST_TOKEN_CHARS, "base64url of a token");

/* What is hashed begins with what it is. */
enum purpose {
	OF_DESTINATION = 1,
	OF_ENDPOINT,
	OF_TOKEN,
};

#define HASHED_MAX 600U

static void put32(uint8_t *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static void put64(uint8_t *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return le64toh(value);
}

/* --- tags --- */

uint64_t flat_persist_destination(const uint8_t *key, const char *host, uint16_t port,
				  const char *subset)
{
	char text[HASHED_MAX];
	int n = snprintf(text, sizeof(text), "%c%s/%u/%s", OF_DESTINATION, host, (unsigned)port,
			 subset);

	return flat_siphash(key, text, flat_min_size((size_t)n, sizeof(text) - 1));
}

uint64_t flat_persist_endpoint(const uint8_t *key, uint64_t destination, const struct flat_addr *a)
{
	uint8_t bytes[1 + 8 + 1 + 2 + 16] = {OF_ENDPOINT};
	uint64_t tag;

	put64(bytes + 1, destination);
	bytes[9] = (uint8_t)a->family;
	bytes[10] = (uint8_t)a->port;
	bytes[11] = (uint8_t)(a->port >> 8);
	memcpy(bytes + 12, a->ip, 16);
	tag = flat_siphash(key, bytes, sizeof(bytes));
	return tag ? tag : 1;
}

/* --- tokens --- */

static uint64_t mac(const uint8_t *key, const struct flat_persistence *p, const uint8_t *token)
{
	uint8_t bytes[1 + 8 + AT_MAC] = {OF_TOKEN};

	put64(bytes + 1, p->id);
	memcpy(bytes + 9, token, AT_MAC);
	return flat_siphash(key, bytes, sizeof(bytes));
}

void flat_persist_write(const uint8_t *key, const struct flat_persistence *p,
			const struct flat_persist_token *token,
			char out[FLAT_PERSIST_TOKEN_CHARS + 1])
{
	uint8_t bytes[TOKEN_BYTES];

	put64(bytes, token->endpoint);
	put32(bytes + AT_DESTINATION, token->destination);
	put32(bytes + AT_MADE, token->made_s);
	put32(bytes + AT_SEEN, token->seen_s);
	put64(bytes + AT_MAC, mac(key, p, bytes));
	out[flat_base64url_encode(bytes, sizeof(bytes), out)] = 0;
}

/* Clocks of two hosts differ: what is of the future is of now. */
static bool is_over(uint32_t since_s, uint32_t bound_s, uint32_t now_s)
{
	return bound_s && now_s > since_s && now_s - since_s > bound_s;
}

bool flat_persist_read(const uint8_t *key, const struct flat_persistence *p, struct flat_span text,
		       uint32_t now_s, struct flat_persist_token *token)
{
	uint8_t bytes[TOKEN_BYTES];

	if (text.len != FLAT_PERSIST_TOKEN_CHARS ||
	    flat_base64url_decode(text.text, text.len, bytes) != TOKEN_BYTES ||
	    get64(bytes + AT_MAC) != mac(key, p, bytes))
		return false;
	*token = (struct flat_persist_token){
	    .endpoint = get64(bytes),
	    .destination = get32(bytes + AT_DESTINATION),
	    .made_s = get32(bytes + AT_MADE),
	    .seen_s = get32(bytes + AT_SEEN),
	};
	return token->endpoint && !is_over(token->made_s, p->absolute_s, now_s) &&
	       !is_over(token->seen_s, p->idle_s, now_s);
}

/* --- who it is --- */

struct tagged {
	uint64_t tag;
	uint32_t index;
};

struct flat_persist_table {
	uint64_t stamp; /* of the candidates */
	uint8_t key[FLAT_SIPHASH_KEY_BYTES];
	uint32_t n;
	struct tagged v[]; /* sorted */
};

static int by_tag(const void *a, const void *b)
{
	const struct tagged *p = a;
	const struct tagged *q = b;

	return p->tag < q->tag ? -1 : p->tag > q->tag;
}

static struct flat_persist_table *make_table(const struct flat_cluster *c, const uint8_t *key,
					     const struct flat_endpoint *v, uint32_t n)
{
	struct flat_persist_table *t = malloc(sizeof(*t) + n * sizeof(*t->v));
	uint64_t destination =
	    flat_persist_destination(key, c->host, c->port, flat_cluster_subset(c));

	if (!t)
		return NULL;
	t->stamp = c->candidates_stamp;
	memcpy(t->key, key, sizeof(t->key));
	t->n = n;
	for (uint32_t i = 0; i < n; i++) {
		struct flat_addr a = flat_ip_addr(&v[i].ip, v[i].port);

		t->v[i] = (struct tagged){flat_persist_endpoint(key, destination, &a), i};
	}
	qsort(t->v, n, sizeof(*t->v), by_tag);
	return t;
}

int flat_persist_find(struct flat_cluster *c, const uint8_t *key, const struct flat_endpoint *v,
		      uint32_t n, uint64_t tag)
{
	const struct tagged wanted = {.tag = tag};
	const struct tagged *found;

	if (!c->tags || c->tags->stamp != c->candidates_stamp ||
	    memcmp(c->tags->key, key, sizeof(c->tags->key)) != 0) {
		struct flat_persist_table *t = make_table(c, key, v, n);

		if (!t)
			return -ENOMEM;
		free(c->tags);
		c->tags = t;
	}
	found = bsearch(&wanted, c->tags->v, c->tags->n, sizeof(wanted), by_tag);
	return found ? (int)found->index : -ENOENT;
}

void flat_persist_settle(struct flat_offload *o)
{
	const uint8_t *key = o->mesh ? flat_mesh_persist_key(o->mesh) : NULL;

	memcpy(o->persist_key, key ? key : o->own_persist_key, sizeof(o->persist_key));
}

void flat_persist_table_free(struct flat_persist_table *table)
{
	free(table);
}
