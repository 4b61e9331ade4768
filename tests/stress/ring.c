/*
 * Two parties of one connection, as threads and as processes, over a real lane and real anchors: random
 * sizes, both rings, positions that pass 2^32, sleeping and waking. Every byte is compared.
 *
 *   stress-ring [SECONDS-PER-CASE] [SEED]      also FLAT_STRESS_SECONDS, FLAT_STRESS_SEED
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"
#include "stream.h"

static const struct stress_case cases[] = {
    {.name = "small",
     .geo = {4, 1024, 16384},
     .write_max = 64,
     .read_max = 256,
     .pause_one_in = 256},
    {.name = "full",
     .geo = {4, 1024, 16384},
     .write_max = 1200,
     .read_max = 300,
     .pause_one_in = 64},
    /* Often drained, with writes of each ring's size. */
    {.name = "mid",
     .geo = {4, 1024, 32768},
     .write_max = 3000,
     .read_max = 10000,
     .turns_min = 2,
     .calm_one_in = 50,
     .pause_one_in = 256},
    {.name = "mixed",
     .geo = {4, 4096, 65536},
     .write_max = 20000,
     .read_max = 20000,
     .turns_min = 2,
     .calm_one_in = 2000,
     .pause_one_in = 256},
    {.name = "large",
     .geo = {4, 4096, 262144},
     .write_max = 65000,
     .calm_one_in = 200,
     .read_max = 65000,
     .turns_min = 2,
     .pause_one_in = 64},
    {.name = "wrap",
     .geo = {4, 1024, 16384},
     .write_max = 5000,
     .read_max = 5000,
     .start = UINT32_MAX - 100000,
     .calm_one_in = 500,
     .wraps_each = 1,
     .turns_min = 2,
     .pause_one_in = 256},
};

/* Both parties' ends of one connection. */
struct pair {
	const struct stress_case *how;
	struct stress_result *result; /* of side 0 and 1, in shared memory */
	int lane_fd;
	int anchor[2][2]; /* by side: what the application holds, and its far end */
	uint32_t slot;
	int64_t end_ns;
	uint64_t seed;
};

static int run_side(struct pair *p, const struct flat_lane *lane, enum flat_side side)
{
	unsigned int i = (unsigned int)side;
	struct stress_party party = {.how = p->how,
				     .result = &p->result[i],
				     .random = (p->seed + 77 * i) | 1,
				     .end_ns = p->end_ns};
	/* My bell is the far end of the peer's anchor (core.md, section 1). */
	stress_party_init(&party, lane, p->slot, side, p->anchor[i][0], p->anchor[i ^ 1][1]);
	stress_party_run(&party);
	return party.result->failed;
}

struct thread_arg {
	struct pair *pair;
	const struct flat_lane *lane;
};

static void *client_thread(void *arg)
{
	struct thread_arg *a = arg;
	(void)run_side(a->pair, a->lane, FLAT_SIDE_CLIENT);
	return NULL;
}

static int run_threads(struct pair *p, const struct flat_lane *lane)
{
	struct thread_arg arg = {p, lane};
	pthread_t client;
	if (pthread_create(&client, NULL, client_thread, &arg) != 0)
		return -1;
	(void)run_side(p, lane, FLAT_SIDE_SERVER);
	return pthread_join(client, NULL);
}

/* Each process maps the memory by its descriptor, as an application does. */
static int run_mapped(struct pair *p, enum flat_side side)
{
	struct flat_lane lane;
	if (flat_lane_map(&lane, p->lane_fd, &p->how->geo, 1) != 0)
		return 1;
	int failed = run_side(p, &lane, side);
	flat_lane_unmap(&lane);
	return failed;
}

static int run_processes(struct pair *p, const struct flat_lane *lane)
{
	int status = 0;
	(void)lane;
	pid_t child = fork();
	if (child < 0)
		return -1;
	if (child == 0)
		_exit(run_mapped(p, FLAT_SIDE_CLIENT));
	int failed = run_mapped(p, FLAT_SIDE_SERVER);
	if (waitpid(child, &status, 0) != child || status != 0)
		return -1;
	return failed;
}

/* What must hold afterwards. NULL, or what does not. */
static const char *judge(const struct pair *p)
{
	const struct stress_result *r = p->result;
	for (int i = 0; i < 2; i++) {
		if (r[i].failed)
			return r[i].why;
		if (r[i].sent != r[i ^ 1].received)
			return "bytes sent and received differ";
		if (r[i].sent == 0 || r[0].sleeps + r[1].sleeps == 0)
			return "a side never sent, or nobody slept: nothing was tested";
		if (r[i].turns < p->how->turns_min)
			return "too few turns: the other ring was not tested";
		if (p->how->wraps_each && r[i].sent < UINT32_MAX - p->how->start + 8192ULL)
			return "positions did not pass 2^32";
	}
	return NULL;
}

static int pair_open(struct pair *p, struct flat_lane *lane)
{
	p->lane_fd = flat_lane_create(&p->how->geo, 1);
	if (p->lane_fd < 0)
		return p->lane_fd;
	int err = flat_lane_map(lane, p->lane_fd, &p->how->geo, 1);
	for (int i = 0; i < 2 && err == 0; i++)
		err = flat_sys_socketpair(AF_UNIX, SOCK_STREAM, 0, p->anchor[i]);
	p->slot = (uint32_t)(p->seed % p->how->geo.slots);
	if (err == 0)
		stress_place(lane, p->slot, p->how->start);
	return err;
}

static void pair_close(struct pair *p, struct flat_lane *lane)
{
	for (int i = 0; i < 2; i++) {
		close(p->anchor[i][0]);
		close(p->anchor[i][1]);
	}
	flat_lane_unmap(lane);
	close(p->lane_fd);
}

typedef int run_fn(struct pair *p, const struct flat_lane *lane);

static int run_case(const struct stress_case *how, const char *what, run_fn *run, double seconds,
		    uint64_t seed, struct stress_result *result)
{
	struct pair p = {.how = how, .result = result, .seed = seed};
	struct flat_lane lane;
	memset(result, 0, 2 * sizeof(*result));
	if (pair_open(&p, &lane) != 0) {
		printf("FAIL stress/ring/%s-%s: no lane\n", what, how->name);
		return 1;
	}
	p.end_ns = stress_now_ns() + (int64_t)(seconds * 1e9);
	int ran = run(&p, &lane);
	const char *why = judge(&p);
	if (ran != 0 && !result[0].failed && !result[1].failed)
		why = "a party did not come to its end";
	pair_close(&p, &lane);
	printf("%s stress/ring/%s-%s: %llu + %llu KiB, %llu + %llu sleeps, %llu + %llu turns%s%s\n",
	       why ? "FAIL" : "PASS", what, how->name, (unsigned long long)result[0].sent >> 10,
	       (unsigned long long)result[1].sent >> 10, (unsigned long long)result[0].sleeps,
	       (unsigned long long)result[1].sleeps, (unsigned long long)result[0].turns,
	       (unsigned long long)result[1].turns, why ? ": " : "", why ? why : "");
	if (why)
		printf("     seed %llu\n", (unsigned long long)seed);
	return why != NULL;
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : getenv("FLAT_STRESS_SECONDS");
	double seconds = text ? strtod(text, NULL) : 0.6;
	text = argc > 2 ? argv[2] : getenv("FLAT_STRESS_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)stress_now_ns();
	int failed = 0;
	struct stress_result *result =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	stress_fill_table(seed);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(cases); i++) {
		failed |= run_case(&cases[i], "threads", run_threads, seconds, seed + i, result);
		failed |=
		    run_case(&cases[i], "processes", run_processes, seconds, seed + i, result);
	}
	return failed;
}
