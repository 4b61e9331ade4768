/*
 * The directory's readers while its writer publishes without pause: what is published in every generation is always
 * found, and an answer is never made of two generations.
 *
 *   stress-directory [SECONDS] [SEED]
 */
#include "mesh/directory.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "stream.h"

#define NAMES 120U /* and up to as many more: one byte of an address */
#define READERS 2U
#define HOST_LEN 40

static struct flat_directory_writer *writer;
static struct flat_directory dir;
static _Atomic int stop;
static uint64_t seed;
static char failure[READERS][200];
static uint64_t looks[READERS];

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

static int publish(uint32_t generation, uint32_t extra)
{
	static char hosts[2 * NAMES][HOST_LEN];
	struct flat_directory_name names[2 * NAMES];
	struct flat_directory_addr addrs[2 * NAMES];
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
	return flat_directory_publish(writer, addrs, NAMES + extra, names, NAMES + extra, 0);
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
	while (stress_now_ns() < end_ns && err == 0)
		err = publish(++generation, (uint32_t)(stress_random(&random) % NAMES));
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
