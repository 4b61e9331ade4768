/* Fails each request of a scenario in turn, each in a process of its own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flatd.h"
#include "inject.h"

/* A scenario that goes on for so long hangs, ms. */
#define HANG_MS 60000
#define REQUESTS_MAX 2000

/* What a process tells its parent. */
struct outcome {
	bool hit;
	char what[32];
	char why[200];
};

struct run {
	pid_t pid;
	int status;
};

static bool ended(void *arg)
{
	struct run *r = arg;
	return waitpid(r->pid, &r->status, WNOHANG) != 0;
}

static int run_one(inject_body *body, void *arg, long nth, struct outcome *out)
{
	int err = inject_begin();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (err != 0) {
		snprintf(out->why, sizeof(out->why), "no injection: %s", strerror(-err));
		return 1;
	}
	inject_arm(nth);
	err = body(arg, out->why);
	out->hit = inject_disarm();
	snprintf(out->what, sizeof(out->what), "%s", inject_what());
	return err;
}

/* NULL, or what is wrong with the run in which request `nth` failed. */
static const char *fail_one(inject_body *body, void *arg, long nth, struct outcome *out)
{
	static char text[300];
	memset(out, 0, sizeof(*out));
	fflush(stdout);
	struct run r = {.pid = fork()};
	if (r.pid < 0)
		test_die("fork");
	if (r.pid == 0)
		/*
		 * Not exit(): the leak sanitizer stops the thread that would answer its own system calls. Leaks
		 * are counted by the scenarios, with and without a sanitizer.
		 */
		_exit(run_one(body, arg, nth, out));
	if (!test_until(ended, &r, HANG_MS)) {
		kill(r.pid, SIGKILL);
		(void)waitpid(r.pid, NULL, 0);
		snprintf(out->why, sizeof(out->why), "it hangs");
	} else if (r.status != 0 && !out->why[0]) {
		snprintf(out->why, sizeof(out->why), "status %x", (unsigned int)r.status);
	}
	if (!out->why[0])
		return NULL;
	snprintf(text, sizeof(text), "request %ld (%s) failing: %.200s", nth,
		 out->what[0] ? out->what : "?", out->why);
	return text;
}

void inject_each(const char *name, inject_body *body, void *arg, long least)
{
	struct outcome *out = test_shared(4096);
	const char *bad = fail_one(body, arg, -1, out);
	long n = 0;
	bool hit = true;
	while (!bad && hit && n < REQUESTS_MAX) {
		bad = fail_one(body, arg, n, out);
		hit = out->hit;
		n++;
	}
	/* The last was one too many: nothing failed any more. */
	n -= !hit;
	if (!bad && n < least)
		bad = "too few requests: nothing was tested";
	test_result(!bad, name, "%ld requests failed in turn%s%s", n, bad ? ": " : "",
		    bad ? bad : "");
	munmap(out, 4096);
}
