/*
 * The event loop on epoll. Polls are edges, as the multishot polls of io_uring are; once, connects and accepts are levels. What
 * comes of itself (a connect that was done at once, the last word of an accept, the end of a rest) waits in `due`.
 */
#include "offload/loop_epoll.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"

#define EVENTS_MAX 256
/* Connections taken from one listener in a turn. */
#define ACCEPTS_MAX 64
/* How long accept() may sleep on a listener that blocks, where somebody else took the connection first. */
#define ACCEPT_NS 1000000

struct due {
	uint64_t tag;
	int64_t at_us; /* 0: now */
	int res;
};

struct flat_loop_epoll {
	int fd;
	struct due *due;
	uint32_t n_due, due_size;
	timer_t alarm; /* wakes this thread from accept() */
	bool has_alarm;
};

int flat_loop_epoll_open(struct flat_loop_epoll **out)
{
	struct flat_loop_epoll *ep = calloc(1, sizeof(*ep));
	int err;

	if (!ep)
		return -ENOMEM;
	ep->fd = epoll_create1(EPOLL_CLOEXEC);
	if (ep->fd < 0) {
		err = -errno;
		free(ep);
		return err;
	}
	*out = ep;
	return 0;
}

void flat_loop_epoll_close(struct flat_loop_epoll *ep)
{
	if (!ep)
		return;
	if (ep->has_alarm)
		timer_delete(ep->alarm);
	close(ep->fd);
	free(ep->due);
	free(ep);
}

static int add(const struct flat_loop_epoll *ep, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event e = {.events = events, .data.u64 = tag};

	return epoll_ctl(ep->fd, EPOLL_CTL_ADD, fd, &e) == 0 ? 0 : -errno;
}

int flat_loop_epoll_watch(struct flat_loop_epoll *ep, const struct flat_source *source,
			  uint64_t tag)
{
	/* The bits of poll() and epoll are the same. */
	if (source->op == FLAT_SOURCE_POLL)
		return add(ep, source->fd, source->events | EPOLLET, tag);
	return add(ep, source->fd, source->op == FLAT_SOURCE_ONCE ? source->events : EPOLLIN, tag);
}

int flat_loop_epoll_later(struct flat_loop_epoll *ep, uint64_t tag, int res, int ms)
{
	if (ep->n_due == ep->due_size) {
		uint32_t n = ep->due_size ? ep->due_size * 2 : 16;
		struct due *due = realloc(ep->due, n * sizeof(*due));

		if (!due)
			return -ENOMEM;
		ep->due = due;
		ep->due_size = n;
	}
	ep->due[ep->n_due++] = (struct due){
	    .tag = tag, .at_us = ms ? flat_now_us() + (int64_t)ms * 1000 : 0, .res = res};
	return 0;
}

int flat_loop_epoll_connect(struct flat_loop_epoll *ep, const struct flat_source *source,
			    uint64_t tag, const struct sockaddr *addr, socklen_t len)
{
	int flags = fcntl(source->fd, F_GETFL);

	if (flags < 0 || fcntl(source->fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return -errno;
	if (connect(source->fd, addr, len) == 0)
		return flat_loop_epoll_later(ep, tag, 0, 0);
	if (errno != EINPROGRESS && errno != EINTR)
		return flat_loop_epoll_later(ep, tag, -errno, 0);
	return add(ep, source->fd, EPOLLOUT, tag);
}

void flat_loop_epoll_unwatch(const struct flat_loop_epoll *ep, const struct flat_source *source)
{
	/* ENOENT: it rests, or is done. */
	if (source->fd >= 0)
		(void)epoll_ctl(ep->fd, EPOLL_CTL_DEL, source->fd, NULL);
}

/* --- accepting --- */

static void on_alarm(int signo)
{
	(void)signo;
}

static int make_alarm(struct flat_loop_epoll *ep)
{
	struct sigaction act = {.sa_handler = on_alarm};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};

	/* Without SA_RESTART: accept() is to end. */
	event._sigev_un._tid = flat_sys_gettid();
	if (sigaction(SIGALRM, &act, NULL) != 0 ||
	    timer_create(CLOCK_MONOTONIC, &event, &ep->alarm) != 0)
		return -errno;
	ep->has_alarm = true;
	return 0;
}

static int accept_now(int fd)
{
	int res = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return res >= 0 ? res : errno == EINTR ? -EAGAIN : -errno;
}

static int set_alarm(struct flat_loop_epoll *ep, bool on)
{
	static const struct itimerspec again = {{0, ACCEPT_NS}, {0, ACCEPT_NS}};
	static const struct itimerspec off;
	int err = ep->has_alarm ? 0 : make_alarm(ep);

	if (err == 0)
		timer_settime(ep->alarm, 0, on ? &again : &off, NULL);
	return err;
}

static bool has_more(int fd)
{
	struct pollfd look = {.fd = fd, .events = POLLIN};

	return poll(&look, 1, 0) == 1;
}

/*
 * Up to ACCEPTS_MAX connections of one listener, which epoll has said is ready: *n of them, and why there are no more: 0, -EAGAIN or an
 * error. A listener that a server listens on itself is shared with it, flags and all. Where it blocks, and somebody else takes the
 * connection meanwhile, accept() would sleep: an alarm that goes off again and again ends that. Nothing else is done while it does.
 */
static int accept_many(struct flat_loop_epoll *ep, int fd, int fds[ACCEPTS_MAX], int *n)
{
	int flags = fcntl(fd, F_GETFL);
	bool blocks = flags >= 0 && !(flags & O_NONBLOCK);
	int res = blocks ? set_alarm(ep, true) : 0;

	*n = 0;
	if (res != 0)
		return res;
	while (*n < ACCEPTS_MAX) {
		res = !blocks || *n == 0 || has_more(fd) ? accept_now(fd) : -EAGAIN;
		/* A client that went before it was accepted is nobody's fault. */
		if (res == -ECONNABORTED)
			continue;
		if (res < 0)
			break;
		fds[(*n)++] = res;
	}
	if (blocks)
		(void)set_alarm(ep, false);
	return res < 0 ? res : 0;
}

/* --- a turn --- */

struct turn {
	struct flat_loop_epoll *ep;
	struct flat_loop *loop;
	uint32_t handled;
};

static void tell(struct turn *t, uint64_t tag, int res, bool more)
{
	t->handled++;
	flat_loop_dispatch(t->loop, tag, res, more);
}

static void accept_some(struct turn *t, uint64_t tag)
{
	const struct flat_source *source = flat_loop_source(t->loop, tag);
	int fds[ACCEPTS_MAX];
	int n;

	if (source->ending || source->resting)
		return;
	int err = accept_many(t->ep, source->fd, fds, &n);
	/* Whoever is told may end it: the others are closed then. */
	for (int i = 0; i < n; i++)
		tell(t, tag, fds[i], true);
	source = flat_loop_source(t->loop, tag);
	if (!source || source->ending || err == 0 || err == -EAGAIN)
		return;
	flat_loop_epoll_unwatch(t->ep, source);
	tell(t, tag, err, false);
}

static void on_event(struct turn *t, uint64_t tag, uint32_t events)
{
	const struct flat_source *source = flat_loop_source(t->loop, tag);
	socklen_t len = sizeof(int);
	int err = 0;

	if (!source)
		return;
	switch (source->op) {
	case FLAT_SOURCE_POLL:
		tell(t, tag, (int)events, true);
		break;
	case FLAT_SOURCE_ACCEPT:
		accept_some(t, tag);
		break;
	case FLAT_SOURCE_ONCE:
		flat_loop_epoll_unwatch(t->ep, source);
		tell(t, tag, (int)events, false);
		break;
	case FLAT_SOURCE_CONNECT:
		flat_loop_epoll_unwatch(t->ep, source);
		if (getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
			err = errno;
		tell(t, tag, -err, false);
		break;
	}
}

/* Those that were due when the turn began: what they bring about waits for the next one. */
static void tell_due(struct turn *t)
{
	struct flat_loop_epoll *ep = t->ep;
	uint32_t n = ep->n_due;
	uint32_t kept = 0;
	int64_t now;

	if (n == 0)
		return;
	now = flat_now_us();
	for (uint32_t i = 0; i < n; i++) {
		struct due d = ep->due[i];

		if (d.at_us > now)
			ep->due[kept++] = d;
		else
			tell(t, d.tag, d.res, false);
	}
	memmove(ep->due + kept, ep->due + n, (ep->n_due - n) * sizeof(*ep->due));
	ep->n_due -= n - kept;
}

/* How long nothing comes of itself, at most `wait_ms`. */
static int until_due(const struct flat_loop_epoll *ep, int wait_ms)
{
	int64_t now = ep->n_due ? flat_now_us() : 0;

	for (uint32_t i = 0; i < ep->n_due; i++) {
		int64_t left = (ep->due[i].at_us - now + 999) / 1000;
		int ms = left > 0 ? (int)left : 0;

		if (wait_ms < 0 || ms < wait_ms)
			wait_ms = ms;
	}
	return wait_ms;
}

uint32_t flat_loop_epoll_turn(struct flat_loop_epoll *ep, struct flat_loop *loop, int wait_ms)
{
	struct turn t = {.ep = ep, .loop = loop};
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(ep->fd, events, EVENTS_MAX, until_due(ep, wait_ms));

	for (int i = 0; i < n; i++)
		on_event(&t, events[i].data.u64, events[i].events);
	tell_due(&t);
	return t.handled;
}
