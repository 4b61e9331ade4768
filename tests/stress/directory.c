/*
 * The directory's readers while its writer publishes without pause, and listeners begin and end in between: what is there
 * in every generation is always found, what never was is never found, and an answer is never made of two generations.
 *
 *   stress-directory [SECONDS] [SEED]
 */
#include "mesh/directory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "stream.h"

#define NAMES 120U /* and up to as many more: one byte of an address */
#define READERS 2U
/* Listeners that come and go, in buckets that were others' before; and changes of them for each generation. */
#define LISTENERS 64U
#define CHANGES 100U
#define FIRST_PORT 3000U
#define MOVING_PORT 5000U
#define HOST_LEN 40

static struct flat_directory_writer *writer;
static struct flat_directory dir;
static _Atomic int stop;
static uint64_t seed;
static char failure[READERS][200];
static uint64_t looks[READERS];
static bool listens[LISTENERS];
static bool moved; /* the moving listener is bound to any address */

static void host_of(uint32_t i, char host[HOST_LEN])
{
	snprintf(host, HOST_LEN, "name-%u.stress.example", i);
}

/* 10.i.g.g': the index and the generation twice, so that a torn address shows. */
static struct flat_addr addr_of(uint32_t i, uint32_t generation)
{
	struct flat_addr a = {.family = AF_INET, .port = (uint16_t)(1000 + i)};
	a.ip[0] = 10;
	a.ip[1] = (uint8_t)i;
	a.ip[2] = (uint8_t)generation;
	a.ip[3] = (uint8_t)~generation;
	return a;
}

/* Of two numbers: a listener's are equal. */
static struct flat_addr listener_of(uint32_t port, uint32_t ip)
{
	return (struct flat_addr){.family = AF_INET,
				  .port = (uint16_t)(FIRST_PORT + port),
				  .ip = {10, 200, (uint8_t)ip, 1}};
}

/* One that always listens, at one address or at all. */
static struct flat_addr moving(bool any)
{
	struct flat_addr a = {.family = AF_INET, .port = MOVING_PORT, .ip = {10, 201, 0, 1}};
	if (any)
		memset(a.ip, 0, sizeof(a.ip));
	return a;
}

static int publish(uint32_t generation, uint32_t extra)
{
	static char hosts[2 * NAMES][HOST_LEN];
	struct flat_directory_name names[2 * NAMES];
	struct flat_directory_addr addrs[2 * NAMES + LISTENERS + 1];
	uint32_t n = NAMES + extra;
	for (uint32_t i = 0; i < NAMES + extra; i++) {
		/* In another order each time, so that entries change their buckets. */
		uint32_t k = (i + generation) % (NAMES + extra);
		host_of(k, hosts[i]);
		names[i].host = hosts[i];
		names[i].addr = addr_of(k, generation);
		names[i].veiled = k % 2 != 0;
		addrs[i].addr = names[i].addr;
		addrs[i].kind = FLAT_DIRECTORY_SERVICE;
	}
	for (uint32_t i = 0; i < LISTENERS; i++) {
		if (listens[i])
			addrs[n++] = (struct flat_directory_addr){listener_of(i, i),
								  FLAT_DIRECTORY_LISTENER};
	}
	addrs[n++] = (struct flat_directory_addr){moving(moved), FLAT_DIRECTORY_LISTENER};
	return flat_directory_publish(writer, addrs, n, names, NAMES + extra, 0);
}

/* Without room the whole is published anew, as the offload half does. */
static int add(const struct flat_addr *addr, uint32_t generation)
{
	int err = flat_directory_add_listener(writer, addr);
	return err == -ENOSPC ? publish(generation, 0) : err;
}

static int change_listeners(uint32_t generation, uint64_t *random)
{
	int err = 0;
	for (uint32_t i = 0; i < CHANGES && err == 0; i++) {
		/* The first of them listens for good. */
		uint32_t k = 1 + (uint32_t)(stress_random(random) % (LISTENERS - 1));
		struct flat_addr a = listener_of(k, k);
		listens[k] = !listens[k];
		if (listens[k])
			err = add(&a, generation);
		else
			flat_directory_remove_listener(writer, &a);
	}
	/* It begins at the one before it ends at the other. */
	struct flat_addr from = moving(moved);
	moved = !moved;
	struct flat_addr to = moving(moved);
	if (err == 0)
		err = flat_directory_add_listener(writer, &to);
	/* Published whole it is at its new place already, and not at the old one. */
	if (err == -ENOSPC)
		return publish(generation, 0);
	flat_directory_remove_listener(writer, &from);
	return err;
}

static const char *look_for_listeners(uint32_t random)
{
	struct flat_addr a = listener_of(0, 0);
	if (flat_directory_find_addr(&dir, &a) != FLAT_DIRECTORY_LISTENER)
		return "a listener that is always there was not found";
	a = moving(false);
	if (flat_directory_find_addr(&dir, &a) != FLAT_DIRECTORY_LISTENER)
		return "a listener that moves was not found";
	uint32_t k = random % LISTENERS;
	a = listener_of(k, (k + 1 + random / LISTENERS % (LISTENERS - 1)) % LISTENERS);
	if (flat_directory_find_addr(&dir, &a) != FLAT_DIRECTORY_NONE)
		return "a listener was found that never was";
	return NULL;
}

/* One name, forth and back. NULL, or what is wrong. */
static const char *look(uint32_t i)
{
	char host[HOST_LEN];
	char back[HOST_LEN];
	struct flat_addr a;
	host_of(i, host);
	if (flat_directory_find_name(&dir, host, &a) != (i % 2 ? FLAT_DIRECTORY_VEILED : 0))
		return "a name that is always there was not found, or not as what it is";
	if (a.family != AF_INET || a.ip[0] != 10 || a.ip[1] != i || a.ip[2] + a.ip[3] != 255)
		return "an address of no generation";
	/* The next generation may have come in between: then it is not found, but never another. */
	int err = flat_directory_find_host(&dir, &a, back, sizeof(back));
	if (err != 0 && err != -ENOENT)
		return "find_host failed";
	if (err == 0 && strcmp(back, host) != 0)
		return "the address belongs to another name";
	a.port = (uint16_t)(1000 + i);
	enum flat_directory_kind kind = flat_directory_find_addr(&dir, &a);
	if (kind != FLAT_DIRECTORY_SERVICE && kind != FLAT_DIRECTORY_NONE)
		return "an address is of a kind that nobody published";
	return NULL;
}

static void *reader(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	uint64_t random = (seed + me) | 1;
	while (!atomic_load(&stop)) {
		uint32_t i = (uint32_t)(stress_random(&random) % NAMES);
		const char *why = look(i);
		if (!why)
			why = look_for_listeners((uint32_t)(random >> 20));
		looks[me]++;
		if (why) {
			snprintf(failure[me], sizeof(failure[me]), "name %u: %s", i, why);
			break;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : getenv("FLAT_STRESS_SECONDS");
	double seconds = text ? strtod(text, NULL) : 1;
	pthread_t readers[READERS];
	uint32_t generation = 0;
	text = argc > 2 ? argv[2] : getenv("FLAT_STRESS_SEED");
	seed = text ? strtoull(text, NULL, 0) : (uint64_t)stress_now_ns();
	uint64_t random = seed | 1;
	listens[0] = true;
	if (flat_directory_create(&writer, 256U << 10) != 0 || publish(0, 0) != 0 ||
	    flat_directory_map(&dir, flat_directory_fd(writer), flat_directory_len(writer)) != 0) {
		puts("FAIL stress/directory: not made");
		return 1;
	}
	for (uintptr_t i = 0; i < READERS; i++) {
		if (pthread_create(&readers[i], NULL, reader, (void *)i) != 0)
			return 1;
	}
	int64_t end_ns = stress_now_ns() + (int64_t)(seconds * 1e9);
	int err = 0;
	while (stress_now_ns() < end_ns && err == 0) {
		err = publish(++generation, (uint32_t)(stress_random(&random) % NAMES));
		if (err == 0)
			err = change_listeners(generation, &random);
	}
	atomic_store(&stop, 1);
	const char *why = err != 0 ? "publishing failed" : generation < 2 ? "one generation" : NULL;
	for (uint32_t i = 0; i < READERS; i++) {
		pthread_join(readers[i], NULL);
		if (!why && failure[i][0])
			why = failure[i];
		if (!why && looks[i] == 0)
			why = "a reader never looked";
	}
	printf("%s stress/directory: %u generations, %llu + %llu looks%s%s (seed %llu)\n",
	       why ? "FAIL" : "PASS", generation, (unsigned long long)looks[0],
	       (unsigned long long)looks[1], why ? ": " : "", why ? why : "",
	       (unsigned long long)seed);
	flat_directory_unmap(&dir);
	flat_directory_destroy(writer);
	return why != NULL;
}
