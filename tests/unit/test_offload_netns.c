/* Network namespaces of processes: which is whose, and that a number in use is not taken for another's. Needs to make some. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
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
	cr_assert_null(flat_netns_of_process(getpid(), -1));
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
	struct flat_netns *ns = flat_netns_of_process(a.pid, -1);
	struct flat_netns *same = flat_netns_of_process(a.pid, -1);
	struct flat_netns *other = flat_netns_of_process(b.pid, -1);
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
	int held = ns->fd;
	flat_netns_put(ns);
	cr_expect_eq(fcntl(held, F_GETFD), -1, "nobody refers to it, and it is held");
	/* It is given out again when nobody holds it; another program may be the first to have it. */
	if (!comes_again(number, 2000, 5))
		cr_skip_test("the number did not come again");
}

/* --- those of other users, where flatd is not root --- */

/* Somebody who connects, as another user, in a namespace of his own or not, and stays until `hold` is closed. */
static pid_t visitor(const struct sockaddr_un *at, socklen_t len, bool elsewhere, const int hold[2])
{
	char byte;
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid != 0)
		return pid;
	close(hold[1]);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (elsewhere && unshare(CLONE_NEWNET) == 0) {
		close(fd);
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	}
	if (setresuid(12345, 12345, 12345) != 0 ||
	    connect(fd, (const struct sockaddr *)at, len) != 0)
		_exit(1);
	(void)!read(hold[0], &byte, 1);
	_exit(0);
}

static int come(int listening)
{
	struct pollfd p = {.fd = listening, .events = POLLIN};
	cr_assert_eq(poll(&p, 1, 10000), 1);
	return accept4(listening, NULL, NULL, SOCK_CLOEXEC);
}

Test(netns, one_that_may_not_be_looked_at_is_known_by_its_socket)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char folder[] = "/tmp/netns-XXXXXX";
	int hold[2];
	if (geteuid() != 0)
		cr_skip_test("users can be changed by root alone");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chmod(folder, 0777), 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	int listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listening, (struct sockaddr *)&un, sizeof(un)), 0);
	cr_assert_eq(chmod(un.sun_path, 0666), 0);
	cr_assert_eq(listen(listening, 8), 0);
	cr_assert_eq(pipe(hold), 0);
	pid_t here = visitor(&un, sizeof(un), false, hold);
	int here_fd = come(listening);
	pid_t there = visitor(&un, sizeof(un), true, hold);
	int there_fd = come(listening);
	cr_assert(here_fd >= 0 && there_fd >= 0);
	bool made = number_of(there) != number_of(getpid());
	cr_assert_eq(setresuid(54321, 54321, 0), 0);
	cr_assert_eq(number_of(here), 0, "it may be looked at");
	struct flat_netns *ns = flat_netns_of_process(there, there_fd);
	struct flat_netns *none = flat_netns_of_process(there, -1);
	cr_expect_null(flat_netns_of_process(here, here_fd));
	cr_expect_not_null(none, "of whom nothing is known he is none of ours");
	if (made)
		cr_expect(ns && !ns->ours);
	flat_netns_put(ns);
	flat_netns_put(none);
	cr_assert_eq(setresuid(0, 0, 0), 0);
	close(hold[1]);
	cr_expect_eq(waitpid(here, NULL, 0), here);
	cr_expect_eq(waitpid(there, NULL, 0), there);
	unlink(un.sun_path);
	rmdir(folder);
}

/* --- what the kernel was asked --- */

Test(netns, an_answer_of_the_kernel_is_asked_for_once_a_second)
{
	struct inhabitant in;
	const struct flat_addr local = {.family = AF_INET, .ip = {127, 0, 0, 9}, .port = 1};
	struct flat_addr same = local;
	bool now = false;
	bool later = false;
	if (!settle(&in)) {
		let_go(&in);
		cr_skip_test("no namespace can be made");
	}
	struct flat_netns *ns = flat_netns_of_process(in.pid, -1);
	cr_assert_not_null(ns);
	same.port = 2;
	/* Another processor's work may take longer than an answer is good. */
	for (int i = 0; i < 100 && !later; i++) {
		/* This namespace's, for that one's: what matters is who is asked. */
		ns->routes = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
		int64_t begun = flat_now_us();
		now = flat_netns_has(ns, -1, &local);
		close(ns->routes);
		ns->routes = open("/dev/null", O_RDWR | O_CLOEXEC);
		later = flat_netns_has(ns, -1, &same);
		close(ns->routes);
		if (!later && flat_now_us() - begun < FLAT_NETNS_GOOD_US)
			break;
	}
	ns->routes = -1;
	cr_expect(now && later);
	flat_netns_put(ns);
	let_go(&in);
}
