/*
 * Runs the attacks one after the other. After each: the attacker was thrown out or refused, flatd lives, logged it and
 * holds nothing of it, and the neighbours' bytes go on and are right. At the end flatd ends by itself, and with the
 * sanitizers compiled in has nothing to report.
 *
 *   hostile-hostile [NAME-PART]      FLAT_HOSTILE_ROUNDS=N repeats all, FLAT_HOSTILE_SEED
 */
#include "hostile.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "offload/pairs.h"

#define NEIGHBOURS 2
#define ATTACK_MS 120000
#define SETTLE_MS 20000
/* Connections end within milliseconds; ten times the bell's way round on a busy machine. */
#define KEPT_MS 5000
/* Pairs of sockets that flatd has made ahead, more or fewer at any moment. Lanes and maps are counted exactly. */
#define STOCK (2 * FLAT_PAIRS_MAX)
/* Rounds that each neighbour must still make after an attack. */
#define ROUNDS_AFTER 5

static struct test_flatd flatd;
static struct neighbour *neighbours; /* shared */
static char *why;		     /* shared */
static pid_t children[1 + NEIGHBOURS];
static uint64_t seed;

static void make_config(char *yaml, size_t size, uint16_t port)
{
	static const char entry[] =
	    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
	    "metadata: {name: %s, annotations: {mesh.libflat.io/path: %s}}\n"
	    "spec: {hosts: [%s.example], addresses: [%s], location: MESH_INTERNAL, "
	    "resolution: STATIC, ports: [{number: 7, name: tcp, protocol: TCP}], "
	    "endpoints: [{address: 127.0.0.1, ports: {tcp: %u}}]}\n";
	int n = snprintf(yaml, size,
			 "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: all}\n"
			 "spec: {selectors: [{uid: %u}], limits: {connections: %d}}\n",
			 (unsigned int)getuid(), CONNECTIONS_MAX);
	n += snprintf(yaml + n, size - (size_t)n, entry, "straight", "direct", "straight",
		      "240.9.0.1", port);
	snprintf(yaml + n, size - (size_t)n, entry, "through", "forwarded", "through", "240.9.0.2",
		 port);
}

static pid_t start_child(int which, uint16_t port)
{
	pid_t pid = fork();
	if (pid < 0)
		test_die("fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (which == 0)
		serve_honestly(port);
	go_round(which == 1 ? DIRECT_IP : FORWARDED_IP, &neighbours[which - 1],
		 seed + (uint64_t)which);
}

/* Waits for progress of each neighbour since `since`. */
struct progress {
	uint64_t since[NEIGHBOURS];
};

static bool went_on(void *arg)
{
	const struct progress *p = arg;
	for (int i = 0; i < NEIGHBOURS; i++) {
		if (atomic_load(&neighbours[i].rounds) < p->since[i] + ROUNDS_AFTER &&
		    !atomic_load(&neighbours[i].errors))
			return false;
	}
	return true;
}

static bool progress(char *text, size_t size)
{
	struct progress p;
	for (int i = 0; i < NEIGHBOURS; i++)
		p.since[i] = atomic_load(&neighbours[i].rounds);
	bool moved = test_until(went_on, &p, SETTLE_MS);
	for (int i = 0; i < NEIGHBOURS; i++) {
		if (!moved || atomic_load(&neighbours[i].errors)) {
			snprintf(text, size, "the %s neighbour %s%.150s",
				 i == 0 ? "direct" : "forwarded",
				 moved ? "failed: " : "stands still", neighbours[i].why);
			return false;
		}
	}
	return true;
}

static bool flatd_lives(void)
{
	if (flatd.pid != 0 && waitpid(flatd.pid, NULL, WNOHANG) != 0)
		flatd.pid = 0;
	return flatd.pid != 0;
}

static bool holds_no_more(void *arg)
{
	const struct test_held *before = arg;
	struct test_held now;
	return test_held(flatd.pid, &now) && now.fds <= before->fds + STOCK &&
	       now.lanes <= before->lanes && now.mapped <= before->mapped;
}

struct logged {
	long from;
	const char *text;
};

static bool was_logged(void *arg)
{
	const struct logged *l = arg;
	/* Attacks that are repeated often enough are told of by their number alone (offload/telling.h). */
	return test_log_has(&flatd, l->from, l->text, "") ||
	       test_log_has(&flatd, l->from, "lines were left out", "");
}

struct attacker {
	pid_t pid;
	int status;
};

static bool attacker_ended(void *arg)
{
	struct attacker *a = arg;
	return waitpid(a->pid, &a->status, WNOHANG) == a->pid;
}

static int run_attacker(const struct attack *attack)
{
	struct attack_env env = {
	    .control = flatd.control, .neighbour = children[1], .seed = seed, .why = why};
	struct attacker a = {.pid = fork()};
	why[0] = 0;
	if (a.pid < 0)
		test_die("fork");
	if (a.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(attack->fn(&env));
	}
	if (!test_until(attacker_ended, &a, ATTACK_MS)) {
		kill(a.pid, SIGKILL);
		(void)waitpid(a.pid, NULL, 0);
		snprintf(why, WHY_BYTES, "the attack came to no end");
		return -1;
	}
	if (a.status != 0 && !why[0])
		snprintf(why, WHY_BYTES, "the attacker ended with status %x",
			 (unsigned int)a.status);
	return a.status;
}

/* One attack and what must hold after it. NULL, or what does not; `text`: room for it. *kept: flatd holds more. */
static const char *attack_once(const struct attack *attack, char text[WHY_BYTES], bool *kept)
{
	struct test_held before;
	struct test_held after;
	struct logged logged = {.from = test_log_len(&flatd), .text = attack->logged};
	*kept = false;
	if (!test_held(flatd.pid, &before))
		return "flatd is gone";
	if (run_attacker(attack) != 0)
		return why;
	if (!flatd_lives())
		return "flatd died";
	if (!progress(text, WHY_BYTES))
		return text;
	if (attack->logged && !test_until(was_logged, &logged, SETTLE_MS))
		return "flatd did not log the rule that was broken";
	if (test_until(holds_no_more, &before, KEPT_MS))
		return NULL;
	(void)test_held(flatd.pid, &after);
	snprintf(text, WHY_BYTES, "flatd keeps %d descriptors more, %d lanes, %d maps",
		 after.fds - before.fds, after.lanes - before.lanes, after.mapped - before.mapped);
	*kept = true;
	return text;
}

static void run_attack(const struct attack *attack)
{
	char name[96];
	char text[WHY_BYTES];
	bool kept;
	snprintf(name, sizeof(name), "hostile/%s", attack->name);
	const char *bad = attack_once(attack, text, &kept);
	/* Lanes of a listener are kept for its next connections: a leak is what grows with each attack. */
	if (kept)
		bad = attack_once(attack, text, &kept);
	test_result(!bad, name, "%s", bad ? bad : "attacker out, neighbours well, nothing kept");
	if (bad)
		printf("     seed %llu\n", (unsigned long long)seed);
}

static void run_all(const char *part)
{
	static const struct attack *const tables[] = {control_attacks, ring_attacks, memory_attacks,
						      ticket_attacks};
	for (size_t t = 0; t < FLAT_ARRAY_SIZE(tables); t++) {
		for (const struct attack *a = tables[t]; a->name; a++) {
			if (part && !strstr(a->name, part))
				continue;
			if (!flatd_lives()) {
				test_result(false, "hostile/flatd",
					    "it is dead, after which no "
					    "attack means anything");
				return;
			}
			run_attack(a);
		}
	}
}

static void begin(void)
{
	char yaml[4096];
	char text[WHY_BYTES];
	uint16_t port = test_free_port();
	void *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		test_die("mmap");
	neighbours = shared;
	why = (char *)shared + 4096;
	make_config(yaml, sizeof(yaml), port);
	test_flatd_init(&flatd, yaml);
	if (setenv("FLAT_CONTROL", flatd.control, 1) != 0)
		test_die("setenv");
	test_flatd_start(&flatd);
	children[0] = start_child(0, port);
	for (int i = 1; i <= NEIGHBOURS; i++) {
		struct logged listening = {.text = "listener"};
		if (!test_until(was_logged, &listening, SETTLE_MS))
			test_die("the server does not listen");
		children[i] = start_child(i, port);
	}
	if (!progress(text, sizeof(text))) {
		printf("FAIL hostile/neighbours: before any attack: %s\n", text);
		test_flatd_fini(&flatd, true);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	const char *text = getenv("FLAT_HOSTILE_SEED");
	char line[512];
	seed = (text ? strtoull(text, NULL, 0) : (uint64_t)test_now_ms()) | 1;
	text = getenv("FLAT_HOSTILE_ROUNDS");
	long rounds = text ? strtol(text, NULL, 10) : 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	begin();
	for (long i = 0; i < rounds && test_failures() == 0; i++, seed += 1000)
		run_all(argc > 1 ? argv[1] : NULL);
	for (int i = 0; i <= NEIGHBOURS; i++) {
		kill(children[i], SIGKILL);
		(void)waitpid(children[i], NULL, 0);
	}
	int status = test_flatd_end(&flatd, SIGTERM);
	bool report = test_log_report(&flatd, line, sizeof(line));
	test_result(status == 0 && !report, "hostile/flatd-ends-clean",
		    "status %x%s%s; neighbours' rounds %llu and %llu, longest %lld and %lld ms",
		    (unsigned int)status, report ? ", " : "", report ? line : "",
		    (unsigned long long)neighbours[0].rounds,
		    (unsigned long long)neighbours[1].rounds, (long long)neighbours[0].worst_ms,
		    (long long)neighbours[1].worst_ms);
	test_flatd_fini(&flatd, test_failures() > 0);
	return test_failures() > 0;
}
