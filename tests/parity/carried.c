/* A connection that a program without the library shares with one that has it, or holds alone. */
#include <libgen.h>
#include <limits.h>

#include "parity.h"

#define MUCH 3000000

static char buf[4096];

/* What `static` tells and waits for, if it does. */
struct pipes {
	int told[2];
	int go[2];
};

static void put_at(int fd, int number)
{
	if (fd != number)
		dup2(fd, number);
	else
		fcntl(fd, F_SETFD, 0);
}

static const char *static_path(void)
{
	static char path[PATH_MAX + 20];
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	snprintf(path, sizeof(path), "%s/parity-static", dirname(self));
	return path;
}

/* tests/parity/static with these arguments, on standard input. */
static pid_t run_static(int fd, struct pipes *p, char *const argv[])
{
	const char *path = static_path();
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		/* Beyond what they are put over. */
		int in = fcntl(fd, F_DUPFD, 50);
		int told = p ? fcntl(p->told[1], F_DUPFD, 50) : -1;
		int go = p ? fcntl(p->go[0], F_DUPFD, 50) : -1;
		put_at(in, 0);
		if (p) {
			put_at(told, 3);
			put_at(go, 4);
		}
		closefrom(p ? 5 : 3);
		execv(path, argv);
		_exit(127);
	}
	if (p) {
		close(p->told[1]);
		close(p->go[0]);
	}
	return pid;
}

#define STATIC(fd, p, ...) run_static(fd, p, (char *[]){"parity-static", __VA_ARGS__, NULL})

static void make_pipes(struct pipes *p)
{
	if (pipe2(p->told, O_CLOEXEC) != 0 || pipe2(p->go, O_CLOEXEC) != 0)
		say("no pipes");
}

static void await_told(const struct pipes *p)
{
	char byte;
	if (read(p->told[0], &byte, 1) != 1)
		say("it told nothing");
}

static void go_on(const struct pipes *p)
{
	if (write(p->go[1], ".", 1) != 1)
		say("it waits for nothing");
}

static void take(int fd, size_t len, int flags)
{
	errno = 0;
	ssize_t n = recv(fd, buf, len, flags);
	int error = errno;
	say_result("recv", n, n < 0 ? error : 0);
	if (n > 0)
		say_bytes("came", buf, n);
}

static void with_thirty(int *c, int *s)
{
	pair(c, s);
	send_all(*c, "0123456789abcdefghijABCDEFGHIJ", 30);
	await_bytes(*s, 30);
}

BEHAVIOUR(carried_reads_part)
{
	int c, s;
	with_thirty(&c, &s);
	reap(STATIC(s, NULL, "r", "10"));
	take(s, 100, MSG_DONTWAIT);
	take(s, 100, MSG_DONTWAIT);
}

BEHAVIOUR(carried_reads_nothing)
{
	int c, s;
	with_thirty(&c, &s);
	reap(STATIC(s, NULL, "w", "x"));
	take(s, 100, MSG_DONTWAIT);
	take(c, 100, 0);
	say_mask("still", c);
}

BEHAVIOUR(carried_peeks)
{
	int c, s;
	with_thirty(&c, &s);
	reap(STATIC(s, NULL, "p", "10", "r", "5", "p", "20"));
	take(s, 100, MSG_DONTWAIT);
}

BEHAVIOUR(carried_killed)
{
	int c, s;
	with_thirty(&c, &s);
	reap(STATIC(s, NULL, "r", "3", "k"));
	take(s, 100, MSG_DONTWAIT);
}

/* The end that connected, which no other process can map where flatd is in between. */
BEHAVIOUR(carried_client)
{
	int c, s;
	pair(&c, &s);
	send_all(s, "0123456789abcdefghijABCDEFGHIJ", 30);
	await_bytes(c, 30);
	reap(STATIC(c, NULL, "r", "10", "w", "(program)"));
	send_all(c, "(ours)", 6);
	take(c, 10, 0);
	reap(STATIC(c, NULL, "p", "7", "r", "5"));
	take(c, 100, MSG_DONTWAIT);
	recv_all(s, buf, 15);
	say_bytes("came", buf, 15);
}

/* The one that would have started it goes on, with what came meanwhile. */
BEHAVIOUR(carried_exec_fails)
{
	int c, s;
	with_thirty(&c, &s);
	char *much = calloc(1, 1 << 20);
	memset(much, 'x', (1 << 20) - 1);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(s, 0);
		DO(execl(static_path(), "parity-static", much, NULL));
		take(0, 10, 0);
		send_all(0, "on", 2);
		_exit(0);
	}
	reap(pid);
	free(much);
	take(s, 100, MSG_DONTWAIT);
	take(c, 2, 0);
}

/* Others read while it holds the socket, and has not read yet what came. */
BEHAVIOUR(carried_by_turns)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	with_thirty(&c, &s);
	pid_t pid = STATIC(s, &p, "r", "10", "t", "g", "r", "7", "t", "g", "r", "3");
	await_told(&p);
	take(s, 4, MSG_PEEK);
	take(s, 5, 0);
	int left = 0;
	DO(ioctl(s, FIONREAD, &left));
	say("left %d", left);
	go_on(&p);
	await_told(&p);
	take(s, 2, 0);
	go_on(&p);
	reap(pid);
	take(s, 100, MSG_DONTWAIT);
	take(s, 100, MSG_DONTWAIT);
}

BEHAVIOUR(carried_readiness)
{
	int c, s;
	struct pipes p;
	struct epoll_event ev = {.events = EPOLLIN};
	make_pipes(&p);
	pair(&c, &s);
	int e = epoll_create1(EPOLL_CLOEXEC);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	pid_t pid = STATIC(s, &p, "t", "g", "r", "4", "t", "g", "r", "6", "t", "g");
	await_told(&p);
	say_mask("nothing", s);
	DO(epoll_wait(e, &ev, 1, 0));
	send_all(c, "0123456789", 10);
	await_bytes(s, 10);
	say_mask("not read", s);
	DO(epoll_wait(e, &ev, 1, 1000));
	go_on(&p);
	await_told(&p);
	say_mask("in part", s);
	DO(epoll_wait(e, &ev, 1, 1000));
	go_on(&p);
	await_told(&p);
	say_mask("all read", s);
	DO(epoll_wait(e, &ev, 1, 0));
	take(s, 10, MSG_DONTWAIT);
	go_on(&p);
	reap(pid);
}

/* One who sleeps when the bytes come gets them: the program does not read. */
static void *sleeper(void *arg)
{
	take(*(int *)arg, 10, 0);
	return NULL;
}

BEHAVIOUR(carried_sleeping_reader)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	pair(&c, &s);
	pid_t pid = STATIC(s, &p, "t", "g");
	await_told(&p);
	pthread_t t = thread(sleeper, &s);
	let_sleep();
	send_all(c, "0123456789", 10);
	join(t);
	go_on(&p);
	reap(pid);
}

BEHAVIOUR(carried_program_after_program)
{
	int c, s;
	char text[400];
	pair(&c, &s);
	for (int i = 0; i < (int)sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	send_all(c, text, sizeof(text));
	for (int i = 0; i < 12; i++) {
		reap(STATIC(s, NULL, "r", "20"));
		take(s, 13, 0);
	}
	take(s, 13, MSG_DONTWAIT);
}

/* What a program wrote goes before what others write after it. */
BEHAVIOUR(carried_writes_in_order)
{
	int c, s;
	pair(&c, &s);
	for (int i = 0; i < 12; i++) {
		reap(STATIC(s, NULL, "w", "(program)"));
		send_all(s, "(ours)", 6);
		reap(STATIC(s, NULL, "w", "[one]"));
		reap(STATIC(s, NULL, "w", "[two]"));
	}
	shutdown(s, SHUT_WR);
	size_t n = recv_all(c, buf, sizeof(buf));
	for (size_t i = 0; i < n; i += 100)
		say_bytes("came", buf + i, (ssize_t)(n - i < 100 ? n - i : 100));
}

BEHAVIOUR(carried_end_behind_the_rest)
{
	int c, s;
	with_thirty(&c, &s);
	shutdown(c, SHUT_WR);
	await(s, POLLRDHUP);
	reap(STATIC(s, NULL, "r", "10"));
	take(s, 100, MSG_DONTWAIT);
	take(s, 100, MSG_DONTWAIT);
}

/* What others leave it is still there for the program, and the end behind it. */
BEHAVIOUR(carried_end_after_turns)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	with_thirty(&c, &s);
	shutdown(c, SHUT_WR);
	pid_t pid = STATIC(s, &p, "r", "10", "t", "g", "r", "100");
	await_told(&p);
	take(s, 5, 0);
	go_on(&p);
	reap(pid);
	take(s, 100, 0);
}

BEHAVIOUR(carried_alone_to_the_end)
{
	int c, s;
	with_thirty(&c, &s);
	shutdown(c, SHUT_WR);
	pid_t pid = STATIC(s, NULL, "r", "100", "w", "answer");
	close(s);
	recv_all(c, buf, 6);
	say_bytes("answer", buf, 6);
	take(c, 1, 0);
	reap(pid);
}

/* Nobody is left who could read it: a reset. */
BEHAVIOUR(carried_alone_leaves_unread)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	with_thirty(&c, &s);
	pid_t pid = STATIC(s, &p, "r", "10", "t", "g");
	await_told(&p);
	close(s);
	go_on(&p);
	reap(pid);
	await(c, POLLHUP);
	say_mask("reset", c);
	take(c, 1, 0);
}

BEHAVIOUR(carried_closes_and_lives)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	pair(&c, &s);
	pid_t pid = STATIC(s, &p, "w", "bye", "c", "t", "g");
	close(s);
	await_told(&p);
	recv_all(c, buf, 3);
	say_bytes("came", buf, 3);
	take(c, 1, 0);
	go_on(&p);
	reap(pid);
}

BEHAVIOUR(carried_shuts_down)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	with_thirty(&c, &s);
	pid_t pid = STATIC(s, &p, "w", "bye", "s", "t", "g", "r", "10");
	await_told(&p);
	recv_all(c, buf, 3);
	take(c, 1, 0);
	go_on(&p);
	reap(pid);
	take(s, 100, MSG_DONTWAIT);
}

/* Its child, which holds the socket on when it has ended. */
BEHAVIOUR(carried_forks)
{
	int c, s;
	struct pipes p;
	make_pipes(&p);
	with_thirty(&c, &s);
	pid_t pid = STATIC(s, &p, "r", "10", "f", "t", "g", "r", "20", "w", "answer");
	await_told(&p);
	close(s);
	reap(pid);
	go_on(&p);
	size_t n = recv_all(c, buf, 6);
	say_bytes("answer", buf, (ssize_t)n);
	take(c, 1, 0);
}

/* --- much --- */

static void *send_much(void *arg)
{
	static char block[50000];
	for (long at = 0; at < MUCH; at += (long)sizeof(block)) {
		for (long i = 0; i < (long)sizeof(block); i++)
			block[i] = (char)((at + i) * 7LL / 3);
		send_all(*(int *)arg, block, sizeof(block));
	}
	shutdown(*(int *)arg, SHUT_WR);
	return NULL;
}

static long read_much(int fd, long from, long want)
{
	long done = 0;
	long wrong = 0;
	while (done < want) {
		size_t most = (size_t)(want - done);
		ssize_t n = recv(fd, buf, most < sizeof(buf) ? most : sizeof(buf), 0);
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			wrong += buf[i] != (char)((from + done + i) * 7LL / 3);
		done += n;
	}
	say("ours %ld wrong %ld", done, wrong);
	return done;
}

BEHAVIOUR(carried_much_by_turns)
{
	int c, s;
	char text[2][24];
	pair(&c, &s);
	pthread_t t = thread(send_much, &c);
	long at = 0;
	for (long n = 1; at < MUCH; n = n * 5 + 3) {
		n = n > 700000 ? 700001 : n;
		snprintf(text[0], sizeof(text[0]), "%ld", n);
		snprintf(text[1], sizeof(text[1]), "%ld", at);
		reap(STATIC(s, NULL, "v", text[0], text[1]));
		at += n;
		at += read_much(s, at, n / 3 + 1);
	}
	join(t);
	take(s, 1, 0);
}

/* Two programs and we, as each comes to it. */
BEHAVIOUR(carried_much_by_all)
{
	int c, s;
	pid_t pid[2];
	long sum[2] = {0, 0};
	struct pipes p[2];
	ssize_t n;
	pair(&c, &s);
	for (int i = 0; i < 2; i++) {
		make_pipes(&p[i]);
		pid[i] = STATIC(s, &p[i], "t", "a");
		await_told(&p[i]);
	}
	pthread_t t = thread(send_much, &c);
	while ((n = recv(s, buf, sizeof(buf), 0)) > 0) {
		sum[0] += n;
		for (ssize_t i = 0; i < n; i++)
			sum[1] += (unsigned char)buf[i];
	}
	for (int i = 0; i < 2; i++) {
		long told[2];
		if (read(p[i].told[0], told, sizeof(told)) != sizeof(told))
			say("it told nothing");
		sum[0] += told[0];
		sum[1] += told[1];
		reap(pid[i]);
	}
	join(t);
	say("all %ld sum %ld", sum[0], sum[1]);
}
