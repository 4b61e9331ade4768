/* Sessions: whose messages are read when many have some, what is kept of those that are of another build, and of those that end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "offload/account.h"
#include "support_mesh.h"
#include "vq/versions.h"

/* All of one process, the test's: fewer than FLAT_PROCESS_SESSIONS_MAX. */
#define FLOOD 40U
#define EACH 32U
#define SENT ((size_t)FLOOD * EACH)

static struct flat_offload o;
static struct loaded loaded;

static void setup(void)
{
	TAILQ_INIT(&o.sessions);
	TAILQ_INIT(&o.ghosts);
	TAILQ_INIT(&o.ready);
	TAILQ_INIT(&o.strangers);
	TAILQ_INIT(&o.doomed);
	TAILQ_INIT(&o.settling);
	TAILQ_INIT(&o.half_open);
	TAILQ_INIT(&o.lanes);
	cr_assert_eq(flat_loop_init(&o.loop), 0);
	loaded = load_good("apiVersion: mesh.libflat.io/v1\n"
			   "kind: Workload\n"
			   "metadata: { name: web, namespace: demo, labels: { app: web } }\n"
			   "spec: { serviceAccount: web, selectors: [{ uid: 1000 }] }\n");
	o.mesh = loaded.mesh;
}

static void teardown(void)
{
	while (!TAILQ_EMPTY(&o.sessions))
		flat_session_close(TAILQ_FIRST(&o.sessions), NULL);
	flat_loop_fini(&o.loop);
	loaded_fini(&loaded);
}

TestSuite(session, .init = setup, .fini = teardown, .timeout = 60);

/* The process's end of a session's control socket. */
static int come(void)
{
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	flat_session_open(&o, pair[0]);
	cr_assert_not_null(TAILQ_FIRST(&o.sessions));
	return pair[1];
}

/* As if the last one had said HELLO under this user. */
static void greet(uid_t uid)
{
	struct flat_session *s = TAILQ_LAST(&o.sessions, flat_sessions);
	TAILQ_REMOVE(&o.strangers, s, stranger_link);
	s->greeted = true;
	s->uid = uid;
	flat_session_identify(s);
}

static void ask(int app, size_t n)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_WHY, 1);
	msg.body.why.conn_id = 1;
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(flat_msg_send(app, &msg, NULL, 0, MSG_DONTWAIT), 0);
}

static size_t answers(int app)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n_fds;
	size_t n = 0;
	while (flat_msg_recv(app, &msg, fds, &n_fds, MSG_DONTWAIT) == 0) {
		flat_msg_close_fds(fds, n_fds);
		n++;
	}
	return n;
}

static size_t turn(const int *app, size_t n)
{
	size_t sum = 0;
	(void)flat_loop_turn(&o.loop, 0);
	(void)flat_sessions_turn(&o);
	for (size_t i = 0; i < n; i++)
		sum += answers(app[i]);
	return sum;
}

Test(session, a_flood_by_many_sessions_of_one_account_leaves_its_turn_to_others)
{
	int app[FLOOD];
	size_t got[FLOOD] = {0};
	size_t done = 0;
	for (size_t i = 0; i < FLOOD; i++) {
		app[i] = come();
		greet(1000);
		ask(app[i], EACH);
	}
	int other = come();
	greet(1001);
	ask(other, 1);
	/* What the loop tells of is read at once, within the same bound. */
	done = turn(app, FLOOD);
	cr_expect_gt(done, 0);
	cr_expect_leq(done, 2 * FLAT_ACCOUNT_MSGS_TURN);
	cr_expect_eq(answers(other), 1);
	/* Each of them has its part before one has all. */
	for (size_t i = 0; done < SENT && i < SENT / FLAT_ACCOUNT_MSGS_TURN + 2; i++) {
		(void)flat_loop_turn(&o.loop, 0);
		(void)flat_sessions_turn(&o);
		for (size_t k = 0; k < FLOOD; k++) {
			size_t n = answers(app[k]);
			got[k] += n;
			done += n;
		}
	}
	cr_expect_eq(done, SENT);
	for (size_t i = 0; i < FLOOD; i++)
		close(app[i]);
	close(other);
}

Test(session, those_that_are_left_for_the_next_turn_come_before_those_that_had_theirs)
{
	int app[FLOOD];
	bool had[FLOOD] = {false};
	size_t n = 0;
	for (size_t i = 0; i < FLOOD; i++) {
		app[i] = come();
		greet(1000);
		ask(app[i], EACH);
	}
	/* 16 sessions have theirs in each. */
	for (size_t i = 0; i < 1 + FLOOD / 16; i++) {
		(void)flat_loop_turn(&o.loop, 0);
		(void)flat_sessions_turn(&o);
	}
	for (size_t i = 0; i < FLOOD; i++) {
		had[i] = answers(app[i]) > 0;
		n += had[i];
		close(app[i]);
	}
	cr_expect_eq(n, FLOOD);
}

Test(session, a_process_of_another_build_has_one_entry_whatever_it_says)
{
	const uint32_t said[] = {FLAT_SHARED(1, 2, 3), FLAT_SHARED(1, 2, 4), FLAT_SHARED(1, 2, 5)};
	o.misfits[o.n_misfits++] = (struct flat_misfit){.pid = 1, .shared = FLAT_SHARED(1, 1, 1)};
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(said); i++) {
		struct flat_msg msg;
		int fds[FLAT_MSG_FDS_MAX];
		size_t n;
		int app = come();
		flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
		msg.body.hello.shared = said[i];
		cr_assert_eq(flat_msg_send(app, &msg, NULL, 0, MSG_DONTWAIT), 0);
		(void)turn(&app, 0);
		cr_assert_eq(flat_msg_recv(app, &msg, fds, &n, MSG_DONTWAIT), 0);
		cr_expect_eq(msg.status, -EPROTONOSUPPORT);
		cr_expect_eq(flat_session_misfit(&o, getpid())->shared, said[i]);
		flat_sessions_reap(&o);
		cr_expect(TAILQ_EMPTY(&o.sessions) && TAILQ_EMPTY(&o.strangers) &&
			  TAILQ_EMPTY(&o.doomed));
		close(app);
	}
	cr_expect_eq(o.n_misfits, 2);
	cr_expect_eq(flat_session_misfit(&o, 1)->shared, FLAT_SHARED(1, 1, 1));
}

Test(session, who_says_nothing_ends_in_time_and_the_first_one_first)
{
	int app[2] = {come(), come()};
	TAILQ_FIRST(&o.strangers)->joined_ms -= FLAT_HELLO_TIMEOUT_MS + 1000;
	flat_sessions_reap(&o);
	cr_expect_eq(o.n_sessions, 1);
	char byte;
	cr_expect_eq(recv(app[0], &byte, 1, MSG_DONTWAIT), 0);
	cr_expect_eq(recv(app[1], &byte, 1, MSG_DONTWAIT), -1);
	close(app[0]);
	close(app[1]);
}

static struct flat_session *captured(pid_t pid, const char *cgroup)
{
	struct flat_session *s = flat_session_captured(&o, pid, 1000, 1000, cgroup);
	cr_assert_not_null(s);
	cr_assert(s->captured && s->pid == pid);
	return s;
}

Test(session, a_confined_process_has_one_record_while_it_lives_and_another_by_each_thing_known)
{
	int app = come();
	greet(1000);
	close(app);
	/* What this process had as one that says HELLO is another record. */
	TAILQ_FIRST(&o.sessions)->n_conns++;
	flat_session_close(TAILQ_FIRST(&o.sessions), NULL);
	struct flat_session *hello = TAILQ_FIRST(&o.ghosts);
	struct flat_session *s = captured(getpid(), "/a");
	struct flat_session *other = captured(getpid(), "/b");
	cr_expect(s != hello && s != other);
	cr_expect_eq(captured(getpid(), "/a"), s);
	cr_expect_eq(captured(getpid(), "/b"), other);
	/* Of nobody known there is nothing to be found. */
	struct flat_session *unknown = captured(0, "/a");
	struct flat_session *again = captured(0, "/a");
	cr_expect_neq(unknown, again);
	cr_expect_eq(o.ended.n, 3);
	flat_session_put(unknown);
	flat_session_put(again);
	flat_session_put(s);
	cr_expect_eq(o.ended.n, 2);
	cr_expect_eq(captured(getpid(), "/b"), other);
	flat_session_put(other);
	hello->n_conns--;
	flat_session_put(hello);
	cr_expect_eq(o.ended.n, 0);
	cr_expect(TAILQ_EMPTY(&o.ghosts));
}

Test(session, a_confined_process_that_died_is_not_who_has_its_number)
{
	siginfo_t end;
	pid_t child = fork();
	if (child == 0) {
		for (;;)
			pause();
	}
	cr_assert_gt(child, 0);
	struct flat_session *s = captured(child, "/a");
	cr_expect_eq(captured(child, "/a"), s);
	cr_assert_eq(kill(child, SIGKILL), 0);
	cr_assert_eq(waitid(P_PID, (id_t)child, &end, WEXITED | WNOWAIT), 0);
	/* The number may be another's by now: here it is kept, for the test. */
	struct flat_session *next = captured(child, "/a");
	cr_expect_neq(next, s);
	flat_session_put(next);
	flat_session_put(s);
	cr_expect_eq(waitpid(child, NULL, 0), child);
}
