/* Calls that sleep on a socket whose number another thread closes, or puts another file under: they hold it, as any file. */
#include "parity.h"

static _Atomic int returned;

struct reader {
	int fd;
	size_t want;
	int flags;
};

/* Until `n` calls have come back. */
static void await_returned(int n)
{
	long end = now_ms() + 10000;
	while (returned < n && now_ms() < end)
		pause_ms(1);
	if (returned < n)
		say("%d calls came back", (int)returned);
}

/* Which of several reads a byte is chance: they say how much it was. */
static void *read_some(void *arg)
{
	const struct reader *r = arg;
	char bytes[16];
	ssize_t n = recv(r->fd, bytes, r->want, r->flags);
	say("recv %zd%s%s", n, n < 0 ? " " : "", n < 0 ? error_name(errno) : "");
	returned++;
	return NULL;
}

static void *send_much(void *arg)
{
	static char block[300000];
	say("sent %zd", send(*(int *)arg, block, sizeof(block), MSG_NOSIGNAL));
	returned++;
	return NULL;
}

static void say_end(int c)
{
	char byte;
	await(c, POLLRDHUP);
	DO(recv(c, &byte, 1, 0));
}

BEHAVIOUR(closed_under_two_readers)
{
	int c, s;
	pair(&c, &s);
	struct reader r = {s, 16, 0};
	pthread_t a = thread(read_some, &r), b = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	send_all(c, "x", 1);
	await_returned(1);
	say_mask("one reads on", c);
	send_all(c, "y", 1);
	join(a);
	join(b);
	say_end(c);
}

BEHAVIOUR(closed_under_four_readers)
{
	int c, s;
	pthread_t t[4];
	pair(&c, &s);
	struct reader r = {s, 16, 0};
	for (int i = 0; i < 4; i++)
		t[i] = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	for (int i = 0; i < 4; i++) {
		send_all(c, "x", 1);
		await_returned(i + 1);
	}
	for (int i = 0; i < 4; i++)
		join(t[i]);
	say_end(c);
}

BEHAVIOUR(closed_under_two_readers_peer_ends)
{
	int c, s;
	pair(&c, &s);
	struct reader r = {s, 16, 0};
	pthread_t a = thread(read_some, &r), b = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	DO(close(c));
	join(a);
	join(b);
}

/* The number is another connection's: each has its own bytes. */
BEHAVIOUR(closed_by_dup2_under_two_readers)
{
	int c, s, c2, s2;
	char byte = 0;
	pair(&c, &s);
	pair(&c2, &s2);
	struct reader r = {s, 16, 0};
	pthread_t a = thread(read_some, &r), b = thread(read_some, &r);
	let_sleep();
	say("dup2 %d", dup2(s2, s) == s);
	send_all(c2, "other", 5);
	send_all(c, "x", 1);
	await_returned(1);
	send_all(c, "y", 1);
	join(a);
	join(b);
	say_end(c);
	say("%zu of the other", recv_all(s, (char[5]){0}, 5));
	DO(send(s, "z", 1, 0));
	DO(recv(c2, &byte, 1, 0));
	say_mask("the other", c2);
}

BEHAVIOUR(closed_under_reader_of_all)
{
	int c, s;
	pair(&c, &s);
	struct reader r = {s, 4, MSG_WAITALL};
	pthread_t t = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	for (int i = 0; i < 4; i++) {
		send_all(c, "x", 1);
		pause_ms(5);
	}
	join(t);
	say_end(c);
}

/* Other numbers mean it still. */
BEHAVIOUR(closed_one_of_two_numbers_under_two_readers)
{
	int c, s;
	pair(&c, &s);
	int other = dup(s);
	struct reader r = {s, 16, 0};
	pthread_t a = thread(read_some, &r), b = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	send_all(c, "x", 1);
	await_returned(1);
	send_all(c, "y", 1);
	join(a);
	join(b);
	say_mask("held on", c);
	DO(send(other, "z", 1, 0));
	DO(recv(c, (char[1]){0}, 1, 0));
	DO(close(other));
	say_end(c);
}

BEHAVIOUR(closed_under_reader_and_writer)
{
	int c, s;
	pair(&c, &s);
	size_t n = fill(s);
	struct reader r = {s, 16, 0};
	pthread_t a = thread(send_much, &s), b = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	say("drained %d", drain(c, n + 300000) == n + 300000);
	await_returned(1);
	say_mask("the reader holds it", c);
	send_all(c, "x", 1);
	join(a);
	join(b);
	say_end(c);
}

/* A child that was forked meanwhile has nothing of it. */
static void wait_for_end(void *arg)
{
	char byte;
	(void)!read(*(int *)arg, &byte, 1);
}

BEHAVIOUR(closed_under_two_readers_and_forked)
{
	int c, s, p[2];
	pair(&c, &s);
	struct reader r = {s, 16, 0};
	pthread_t a = thread(read_some, &r), b = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	if (pipe(p) != 0)
		say("no pipe");
	pid_t pid = fork();
	if (pid == 0) {
		close(p[1]);
		close(c);
		wait_for_end(&p[0]);
		_exit(0);
	}
	send_all(c, "x", 1);
	await_returned(1);
	send_all(c, "y", 1);
	join(a);
	join(b);
	say_end(c);
	close(p[1]);
	reap(pid);
}

/* Who waits with a time limit has it on. */
BEHAVIOUR(closed_under_two_readers_with_limits)
{
	int c, s;
	struct timeval tv = {.tv_usec = 400000};
	pair(&c, &s);
	DO(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	struct reader r = {s, 16, 0};
	pthread_t a = thread(read_some, &r), b = thread(read_some, &r);
	let_sleep();
	DO(close(s));
	join(a);
	join(b);
	say_end(c);
}
