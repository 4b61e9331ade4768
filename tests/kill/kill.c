/*
 * kill -9 of clients, servers and flatd at random moments under load. After each: whoever is left sees the right errno, soon;
 * bytes stay right; everybody comes together again; nobody holds more than before.
 *
 *   kill-kill [TRIES] [SEED]      also FLAT_KILL_TRIES, FLAT_KILL_SEED
 */
#include "kill.h"

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

#include "base/limits.h"
#include "offload/pairs.h"
#include "vq/attach.h"

#define CLIENTS 5
/* How long anything may take on a busy machine, ms. Figures really seen are printed. */
#define LIMIT_MS 30000
/* Descriptors and lanes that come and go while connections are made. */
#define SLACK 10
/* Pairs of sockets that flatd has made ahead: full when it is new, fewer or more at any later moment. */
#define STOCK (2 * FLAT_PAIRS_MAX)
/* Connections made ahead for a client: two descriptors each there, three at flatd. */
#define TICKETS_THERE (2 * (int)FLAT_MSG_TICKETS_MAX)
#define TICKETS_HERE (3 * (int)FLAT_SESSION_TICKETS_MAX)
/* Of two listeners, for forwarded connections. */
#define QUIET_LANES 4
/* Kills between two looks at a flatd without clients. */
#define QUIET_EVERY 10
/* Growth of flatd from the first kills to the last, KiB: heap and tables settle, a leak of lanes would not. */
#define RSS_KIB 8192

enum target {
	KILL_FLATD = CLIENTS,
	KILL_SERVER,
	KILL_REDIS,
	TARGETS,
};

struct role {
	const char *name;
	uint32_t ip;
	enum party_kind kind;
	int server; /* enum target */
};

static const struct role roles[CLIENTS] = {
    {"direct", 0xf0090001U, PARTY_ECHO, KILL_SERVER},
    {"direct", 0xf0090001U, PARTY_ECHO, KILL_SERVER},
    {"forwarded", 0xf0090002U, PARTY_ECHO, KILL_SERVER},
    {"redis", 0xf0090003U, PARTY_REDIS, KILL_REDIS},
    {"redis-forwarded", 0xf0090004U, PARTY_REDIS, KILL_REDIS},
};

/* The longest of its kind, ms. */
struct longest {
	int64_t end;	/* a peer killed, until its end was seen */
	int64_t again;	/* a server or flatd killed and started, until all had a new connection */
	int64_t settle; /* a kill, until flatd held no more than before */
};

static struct test_flatd flatd;
static struct party *parties; /* shared */
static pid_t pids[TARGETS];   /* without flatd's */
static uint16_t port;
static uint16_t redis_port;
static uint64_t seed;
static uint64_t chance;
static struct longest longest;
static long log_from;
static int quiet_fds;	      /* flatd's without clients, lanes not counted */
static struct test_held base; /* flatd, everybody connected */
static struct test_held base_of[TARGETS];

static int add_service(char *yaml, size_t size, const char *name, const char *path,
		       const char *address, uint16_t to)
{
	return snprintf(yaml, size,
			"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
			"metadata: {name: %s, annotations: {mesh.libflat.io/path: %s}}\n"
			"spec: {hosts: [%s.example], addresses: [%s], location: MESH_INTERNAL, "
			"resolution: STATIC, ports: [{number: 7, name: tcp, protocol: TCP}], "
			"endpoints: [{address: 127.0.0.1, ports: {tcp: %u}}]}\n",
			name, path, name, address, to);
}

static void exec_redis(void)
{
	char program[512];
	char number[8];
	snprintf(program, sizeof(program), "%s/flat-run", test_build_dir());
	snprintf(number, sizeof(number), "%u", redis_port);
	if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
		_exit(126);
	execl(program, "flat-run", "--control", flatd.control, "--", "redis-server", "--port",
	      number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--protected-mode",
	      "no", (char *)NULL);
	_exit(127);
}

static void start(int who)
{
	pids[who] = fork();
	if (pids[who] < 0)
		test_die("fork");
	if (pids[who] > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (who == KILL_SERVER)
		run_server(port);
	if (who == KILL_REDIS)
		exec_redis();
	run_client(roles[who].ip, roles[who].kind, &parties[who], seed + (uint64_t)who * 13);
}

static void kill_and_reap(int who)
{
	if (who == KILL_FLATD) {
		(void)test_flatd_end(&flatd, SIGKILL);
		return;
	}
	kill(pids[who], SIGKILL);
	(void)waitpid(pids[who], NULL, 0);
}

/* --- conditions --- */

static bool any_wrong(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		if (atomic_load(&parties[i].wrong))
			return true;
	}
	return false;
}

struct rounds {
	uint64_t since[CLIENTS];
	uint64_t conns[CLIENTS];
	int need_new; /* bit per client: a new connection is asked for */
};

static void note(struct rounds *r)
{
	for (int i = 0; i < CLIENTS; i++) {
		r->since[i] = atomic_load(&parties[i].rounds);
		r->conns[i] = atomic_load(&parties[i].conns);
	}
}

static bool all_go_on(void *arg)
{
	const struct rounds *r = arg;
	for (int i = 0; i < CLIENTS; i++) {
		if (atomic_load(&parties[i].rounds) < r->since[i] + 3 ||
		    ((r->need_new >> i & 1) && atomic_load(&parties[i].conns) == r->conns[i]))
			return any_wrong();
	}
	return true;
}

static bool holds_no_more(void *arg)
{
	struct test_held now;
	(void)arg;
	/* Who comes while a server is away may be carried another way, with a descriptor or two more. */
	return test_held(flatd.pid, &now) &&
	       now.fds <= base.fds + SLACK + STOCK + CLIENTS * TICKETS_HERE &&
	       now.lanes <= base.lanes + SLACK && now.mapped <= base.mapped + SLACK;
}

/* Without clients: the listeners, and the lanes that are kept for their next connections. */
static bool holds_nothing(void *arg)
{
	struct test_held *now = arg;
	return test_held(flatd.pid, now) && now->fds - now->lanes <= quiet_fds &&
	       now->lanes <= QUIET_LANES && now->mapped == now->lanes;
}

/* Clients whose connection the kill of `who` must end. */
static int must_end(int who)
{
	int bits = 0;
	for (int i = 0; i < CLIENTS; i++) {
		if (atomic_load(&parties[i].connected) &&
		    (roles[i].server == who || who == KILL_FLATD))
			bits |= 1 << i;
	}
	return bits;
}

struct ended {
	int bits;
	uint64_t ends[CLIENTS];
};

static bool all_ended(void *arg)
{
	const struct ended *e = arg;
	for (int i = 0; i < CLIENTS; i++) {
		if ((e->bits >> i & 1) && atomic_load(&parties[i].ends) == e->ends[i])
			return any_wrong();
	}
	return true;
}

/* --- one try --- */

static void keep(int64_t *most, int64_t value)
{
	*most = value > *most ? value : *most;
}

/* Everybody has made rounds; with `fresh` on a new connection, which only a flatd that knows them can give. */
static const char *come_together(bool fresh)
{
	static char text[200];
	struct rounds r = {.need_new = 0};
	note(&r);
	for (int i = 0; i < CLIENTS && fresh; i++) {
		r.need_new |= 1 << i;
		atomic_store(&parties[i].reconnect, 1);
	}
	if (!test_until(all_go_on, &r, LIMIT_MS)) {
		for (int i = 0; i < CLIENTS; i++) {
			if (atomic_load(&parties[i].rounds) < r.since[i] + 3)
				snprintf(text, sizeof(text), "client %d (%s) stands still, %s", i,
					 roles[i].name,
					 atomic_load(&parties[i].connected) ? "connected"
									    : "not connected");
		}
		return text[0] ? text : "a client made no new connection";
	}
	for (int i = 0; i < CLIENTS; i++) {
		if (atomic_load(&parties[i].wrong)) {
			snprintf(text, sizeof(text), "client %d (%s): %.120s", i, roles[i].name,
				 parties[i].why);
			return text;
		}
	}
	return NULL;
}

/* What the survivors hold, against what they held when all was new. */
static const char *leaks(int killed)
{
	static char text[200];
	int64_t begin_ms = test_now_ms();
	struct test_held now;
	if (!test_until(holds_no_more, NULL, LIMIT_MS)) {
		(void)test_held(flatd.pid, &now);
		snprintf(text, sizeof(text),
			 "flatd holds %d descriptors (%d before), %d lanes (%d), %d maps (%d)",
			 now.fds, base.fds, now.lanes, base.lanes, now.mapped, base.mapped);
		return text;
	}
	keep(&longest.settle, test_now_ms() - begin_ms);
	for (int i = 0; i < TARGETS; i++) {
		const struct test_held *was = &base_of[i];
		if (i == KILL_FLATD || i == killed || !test_held(pids[i], &now))
			continue;
		/* Two more: a connection that is just being made. */
		if (now.fds > was->fds + 4 + TICKETS_THERE) {
			snprintf(text, sizeof(text),
				 "survivor %d (%s) holds %d descriptors (%d before)", i,
				 i < CLIENTS ? roles[i].name : "server", now.fds, was->fds);
			return text;
		}
	}
	return NULL;
}

/* flatd's log, from its last start on, names both listeners. */
static bool both_listen(void *arg)
{
	char one[32];
	char two[32];
	(void)arg;
	snprintf(one, sizeof(one), "127.0.0.1:%u ", port);
	snprintf(two, sizeof(two), "127.0.0.1:%u ", redis_port);
	return test_log_has(&flatd, log_from, "listener", one) &&
	       test_log_has(&flatd, log_from, "listener", two);
}

/*
 * A flatd in the place of one that was killed, which both servers have found: before, a client that connects is carried by the kernel,
 * and no kill of flatd ends that.
 */
static const char *start_flatd(void)
{
	log_from = test_log_len(&flatd);
	test_flatd_start(&flatd);
	return test_until(both_listen, NULL, LIMIT_MS)
		   ? NULL
		   : "the servers did not register with flatd's successor";
}

static const char *no_end(const struct ended *e)
{
	static char text[200];
	int n = 0;
	for (int i = 0; i < CLIENTS && n < (int)sizeof(text); i++) {
		const struct party *p = &parties[i];
		if ((e->bits >> i & 1) && atomic_load(&p->ends) == e->ends[i])
			n +=
			    snprintf(text + n, sizeof(text) - (size_t)n,
				     "client %d (%s, %s%s) did not see the end; ", i, roles[i].name,
				     atomic_load(&p->connected) ? "connected" : "not connected",
				     atomic_load(&p->by_kernel) ? " by the kernel" : "");
	}
	return text;
}

static const char *try_once(int who)
{
	struct ended e = {.bits = must_end(who)};
	const char *bad = NULL;
	for (int i = 0; i < CLIENTS; i++)
		e.ends[i] = atomic_load(&parties[i].ends);
	int64_t killed_ms = test_now_ms();
	kill_and_reap(who);
	if (!test_until(all_ended, &e, LIMIT_MS))
		return no_end(&e);
	for (int i = 0; i < CLIENTS; i++) {
		if (e.bits >> i & 1)
			keep(&longest.end, atomic_load(&parties[i].end_at_ms) - killed_ms);
	}
	int64_t start_ms = test_now_ms();
	if (who == KILL_FLATD)
		bad = start_flatd();
	else
		start(who);
	bad = bad ? bad : come_together(who == KILL_FLATD);
	if (bad)
		return bad;
	if (who >= CLIENTS)
		keep(&longest.again, test_now_ms() - start_ms);
	return leaks(who);
}

/* All clients killed at once, and looked at what stays; then they are started again. */
static const char *quiet(void)
{
	static char text[200];
	struct test_held now;
	for (int i = 0; i < CLIENTS; i++)
		kill_and_reap(i);
	if (!test_until(holds_nothing, &now, LIMIT_MS))
		snprintf(
		    text, sizeof(text),
		    "without clients flatd holds %d descriptors, %d of them lanes, and %d maps; "
		    "%d when it was new",
		    now.fds, now.lanes, now.mapped, quiet_fds);
	for (int i = 0; i < CLIENTS; i++)
		start(i);
	return text[0] ? text : come_together(false);
}

static const char *const target_names[TARGETS] = {"client", "client", "client", "client",
						  "client", "flatd",  "server", "redis-server"};

/* Everybody once: lanes and pages that are kept for the next time are there. */
static bool warm_up(void)
{
	const char *bad = come_together(true);
	struct test_held now;
	/* One life of flatd with both servers and nobody else: what it holds is the measure for all others. */
	for (int i = 0; i < CLIENTS; i++)
		kill_and_reap(i);
	kill_and_reap(KILL_FLATD);
	const char *away = start_flatd();
	bad = bad ? bad : away;
	(void)test_held(flatd.pid, &now);
	quiet_fds = now.fds - now.lanes;
	for (int i = 0; i < CLIENTS; i++)
		start(i);
	bad = bad ? bad : come_together(true);
	for (int who = 0; who < TARGETS && !bad; who++) {
		kill_and_reap(who);
		if (who == KILL_FLATD)
			bad = start_flatd();
		else
			start(who);
		bad = bad ? bad : come_together(false);
	}
	bad = bad ? bad : come_together(true);
	if (bad)
		test_result(false, "kill/begin", "%s", bad);
	(void)test_held(flatd.pid, &base);
	for (int i = 0; i < TARGETS; i++) {
		if (i != KILL_FLATD)
			(void)test_held(pids[i], &base_of[i]);
	}
	return !bad;
}

static void begin(void)
{
	char yaml[4096];
	size_t n = 0;
	parties = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (parties == MAP_FAILED)
		test_die("mmap");
	port = test_free_port();
	redis_port = test_free_port();
	n += (size_t)add_service(yaml, sizeof(yaml), "a", "direct", "240.9.0.1", port);
	n += (size_t)add_service(yaml + n, sizeof(yaml) - n, "b", "forwarded", "240.9.0.2", port);
	n +=
	    (size_t)add_service(yaml + n, sizeof(yaml) - n, "c", "direct", "240.9.0.3", redis_port);
	(void)add_service(yaml + n, sizeof(yaml) - n, "d", "forwarded", "240.9.0.4", redis_port);
	test_flatd_init(&flatd, yaml);
	if (setenv("FLAT_CONTROL", flatd.control, 1) != 0)
		test_die("setenv");
	test_flatd_start(&flatd);
	start(KILL_SERVER);
	start(KILL_REDIS);
	for (int i = 0; i < CLIENTS; i++)
		start(i);
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : getenv("FLAT_KILL_TRIES");
	long tries = text ? strtol(text, NULL, 10) : 40;
	text = argc > 2 ? argv[2] : getenv("FLAT_KILL_SEED");
	seed = (text ? strtoull(text, NULL, 0) : (uint64_t)test_now_ms()) | 1;
	chance = seed;
	struct test_held first = {0};
	struct test_held last = {0};
	long counts[TARGETS] = {0};
	const char *bad = NULL;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	begin();
	bool going = warm_up();
	(void)test_held(flatd.pid, &first);
	for (long i = 0; going && i < tries && !bad; i++) {
		uint64_t r = test_random(&chance);
		/* flatd as often as all clients together. */
		int who = r % 3 == 0 ? KILL_FLATD : (int)((r >> 8) % TARGETS);
		test_pause_ms((int)(r >> 40 & 31));
		bad = try_once(who);
		counts[who]++;
		if (!bad && i % QUIET_EVERY == QUIET_EVERY - 1)
			bad = quiet();
		if (bad)
			test_result(false, "kill/tries",
				    "try %ld of %ld, %s killed: %s (seed %llu)", i, tries,
				    target_names[who], bad, (unsigned long long)seed);
	}
	(void)test_held(flatd.pid, &last);
	if (going && !bad) {
		test_result(
		    true, "kill/tries",
		    "%ld kills: %ld clients, %ld servers, %ld redis-servers, %ld flatd (seed %llu)",
		    tries, counts[0] + counts[1] + counts[2] + counts[3] + counts[4],
		    counts[KILL_SERVER], counts[KILL_REDIS], counts[KILL_FLATD],
		    (unsigned long long)seed);
		printf("     longest: end seen after %lld ms, together again after %lld ms, flatd "
		       "settled after %lld ms\n",
		       (long long)longest.end, (long long)longest.again, (long long)longest.settle);
		test_result(last.rss_kib < first.rss_kib + RSS_KIB, "kill/flatd-memory",
			    "%ld KiB, %ld KiB at the begin", last.rss_kib, first.rss_kib);
	}
	for (int i = 0; i < TARGETS; i++)
		kill_and_reap(i);
	test_flatd_fini(&flatd, test_failures() > 0);
	return test_failures() > 0;
}
