/* Network namespaces of processes: which is whose, and that a number in use is not taken for another's. Needs to make some. */
#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "offload/netns.h"

TestSuite(netns, .timeout = 60);

/* A process in a namespace of its own, until it is let go. */
struct inhabitant {
	pid_t pid;
	int hold;
};

static bool settle(struct inhabitant *in)
{
	int ready[2];
	int hold[2];
	char byte = 0;
	cr_assert(pipe(ready) == 0 && pipe(hold) == 0);
	in->pid = fork();
	cr_assert_geq(in->pid, 0);
	if (in->pid == 0) {
		close(hold[1]);
		byte = unshare(CLONE_NEWNET) == 0;
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		(void)!read(hold[0], &byte, 1);
		_exit(0);
	}
	close(ready[1]);
	close(hold[0]);
	in->hold = hold[1];
	bool ok = read(ready[0], &byte, 1) == 1 && byte == 1;
	close(ready[0]);
	return ok;
}

static void let_go(const struct inhabitant *in)
{
	close(in->hold);
	cr_assert_eq(waitpid(in->pid, NULL, 0), in->pid);
}

static uint64_t number_of(pid_t pid)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* Makes namespaces, one after the other, until one has this number. */
static bool comes_again(uint64_t number, int tries, int pause_ms)
{
	const struct timespec pause = {.tv_nsec = pause_ms * 1000000L};
	for (int i = 0; i < tries; i++) {
		struct inhabitant in;
		cr_assert(settle(&in));
		bool same = number_of(in.pid) == number;
		let_go(&in);
		if (same)
			return true;
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

Test(netns, flatds_own_is_none)
{
	cr_assert_null(flat_netns_of_process(getpid()));
	cr_assert_null(flat_netns_of_process(-1));
}

Test(netns, one_in_use_keeps_its_number)
{
	struct inhabitant a;
	struct inhabitant b;
	if (!settle(&a)) {
		let_go(&a);
		cr_skip_test("no namespace can be made");
	}
	cr_assert(settle(&b));
	struct flat_netns *ns = flat_netns_of_process(a.pid);
	struct flat_netns *same = flat_netns_of_process(a.pid);
	struct flat_netns *other = flat_netns_of_process(b.pid);
	cr_assert(ns && other);
	cr_expect_eq(ns, same);
	cr_expect_neq(ns, other);
	uint64_t number = number_of(a.pid);
	cr_expect_eq(ns->id, number);
	flat_netns_put(same);
	flat_netns_put(other);
	let_go(&b);
	let_go(&a);
	cr_expect(!comes_again(number, 60, 5));
	flat_netns_put(ns);
	/* It is given out again when nobody holds it. */
	cr_expect(comes_again(number, 2000, 5));
}
