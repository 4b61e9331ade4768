/*
 * Threads that sleep on one end in calls that chance gives, and what the peer, or another thread of theirs, does then: which calls
 * come back, and what they say. Waiting: as random.c.
 */
#include "random.h"

#define WAITERS_MAX 3
#define FEW 6

struct waiter {
	int fd;
	uint32_t how;
	pthread_t thread;
	_Atomic bool back;
	bool told;
	char text[160];
};

static void note(struct waiter *w, const char *what, long n, const char *more)
{
	snprintf(w->text, sizeof(w->text), "%s %ld %s%s", what, n, n < 0 ? error_name(errno) : "",
		 more);
}

static void wait_in_select(struct waiter *w)
{
	fd_set r;
	FD_ZERO(&r);
	FD_SET(w->fd, &r);
	note(w, "select", select(w->fd + 1, &r, NULL, NULL, NULL), "");
}

static void wait_in_poll(struct waiter *w, short events)
{
	char names[128];
	struct pollfd p = {.fd = w->fd, .events = events};
	int n = poll(&p, 1, -1);
	note(w, "poll", n, poll_names((unsigned int)p.revents, names));
}

static void *wait_in_call(void *arg)
{
	struct waiter *w = arg;
	char bytes[2];
	switch (w->how) {
	case 0:
		note(w, "recv", recv(w->fd, bytes, 1, 0), "");
		break;
	case 1:
		note(w, "read", read(w->fd, bytes, 1), "");
		break;
	case 2:
		note(w, "all", recv(w->fd, bytes, 2, MSG_WAITALL), "");
		break;
	case 3:
		wait_in_select(w);
		break;
	case 4:
		wait_in_poll(w, POLLRDHUP);
		break;
	default:
		wait_in_poll(w, POLLIN);
		break;
	}
	w->back = true;
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Those that came back since the last look, in the order of what they say: who of several gets a byte is chance. */
static void gather(struct waiter *w, uint32_t n, char *line, size_t room)
{
	char *back[WAITERS_MAX];
	size_t count = 0, len = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (w[i].back && !w[i].told)
			back[count++] = w[i].text;
	}
	qsort(back, count, sizeof(*back), by_text);
	len = (size_t)snprintf(line, room, "    back:");
	for (size_t i = 0; i < count; i++)
		len += (size_t)snprintf(line + len, room - len, " [%s]", back[i]);
}

static void say_back(struct waiter *w, uint32_t n)
{
	char line[600];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	if (!same)
		let_sleep();
	for (;;) {
		gather(w, n, line, sizeof(line));
		if (!same || strcmp(line, same) == 0 || now_ms() >= end)
			break;
		pause_ms(1);
	}
	for (uint32_t i = 0; i < n; i++)
		w[i].told = w[i].back;
	say("%s", line);
}

/* What happens to the ends; fd[0] is the peer's. */
static void happen(int fd[2], int quiet, uint32_t what)
{
	static const char *const names[] = {"peer sends",  "peer sends", "peer shuts",
					    "peer resets", "shut rd",	 "shut wr",
					    "shut",	   "close",	 "dup2"};
	if (fd[what < 4 ? 0 : 1] < 0)
		return;
	say("  %s", names[what]);
	if (what < 2) {
		send(fd[0], "x", 1, MSG_NOSIGNAL);
	} else if (what == 2) {
		shutdown(fd[0], SHUT_WR);
	} else if (what == 3) {
		linger(fd[0]);
		close(fd[0]);
		fd[0] = -1;
	} else if (what < 7) {
		shutdown(fd[1], (int)what - 4);
	} else {
		if (what == 7)
			close(fd[1]);
		else
			dup2(quiet, fd[1]);
		fd[1] = -1;
	}
}

static void one_round(void)
{
	struct waiter w[WAITERS_MAX] = {0};
	int fd[2], quiet[2];
	/* Who is before another is chance: readers take what others look at, and of two that want it all each may get a part. */
	const bool reads = chance(2) == 0;
	const uint32_t kind = chance(3), n = reads && kind == 2 ? 1 : 1 + chance(WAITERS_MAX);
	socketpair(AF_UNIX, SOCK_STREAM, 0, quiet);
	pair(&fd[0], &fd[1]);
	no_delay(fd[0]);
	int s = fd[1];
	for (uint32_t i = 0; i < n; i++) {
		w[i].fd = s;
		w[i].how = reads ? kind : 3 + chance(3);
		pthread_create(&w[i].thread, NULL, wait_in_call, &w[i]);
	}
	for (int i = 0; i < 4; i++) {
		let_sleep();
		/* A number that is closed under poll(): docs/conformance.md, what differs. */
		happen(fd, quiet[0], chance(reads ? 9 : 7));
		say_back(w, n);
	}
	close(fd[0]);
	let_sleep();
	say_back(w, n);
	/* poll() of a number that is another file's by now sleeps on. */
	for (uint32_t i = 0; i < n; i++) {
		if (!w[i].back)
			pthread_kill(w[i].thread, SIGUSR1);
	}
	for (uint32_t i = 0; i < n; i++)
		pthread_join(w[i].thread, NULL);
	say_back(w, n);
	close(quiet[1]);
	close(s);
	close(quiet[0]);
}

static void rounds(uint32_t first)
{
	count_signal(SIGUSR1, 0);
	for (uint32_t r = first; r < first + FEW; r++) {
		begin_round(r);
		one_round();
	}
}

#define ROUNDS_FROM(first)                                                                         \
	BEHAVIOUR(random_threads_from_##first)                                                     \
	{                                                                                          \
		rounds(rounds_from(first + 4000));                                                 \
	}

ROUNDS_FROM(0)
ROUNDS_FROM(10)
