/*
 * Calls in an order that chance gives, by two processes on both ends of a connection: what each gives, and what both processes
 * see of both ends then. They come by the ends through fork, messages and exec, and end or are killed. random_two_told_*: each
 * also has an epoll instance of its own. Waiting: as random.c.
 */
#include "random.h"

/* What a process has: its numbers of both ends, of the listener, of its instance, and of the way to the other process. -1: none. */
struct holder {
	int fd[2];
	int l;
	int e;
	int way;
};

enum op {
	CONNECT,
	ACCEPT,
	SEND,
	RECV,
	PEEK,
	SHUT,
	CLOSE,
	ERROR,
	DUP,
	NAME,
	GIVE, /* the end travels with the answer, and stays too */
	TAKE, /* with the order comes an end */
	LINGER,
	WAITALL,
	TRUNC,
	NONE,
	AGAIN,
	ADD,
	CHANGE,
	REMOVE,
	LOOK,
	EXEC,
	END,
};

struct order {
	enum op op;
	int end;
	uint32_t n;
};

struct answer {
	long n;
	int error;
	char text[400];
};

/* One message, with a descriptor if fd is not -1. */
static void tell(int way, void *bytes, size_t len, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {bytes, len};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0) {
		h.msg_control = control;
		h.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(way, &h, MSG_NOSIGNAL) != (ssize_t)len)
		say("no way to the other process: %s", error_name(errno));
}

/* The next one; *fd: the descriptor that came, or -1. False: the other process is gone. */
static bool hear(int way, void *bytes, size_t len, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = {bytes, len};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	*fd = -1;
	if (recvmsg(way, &h, 0) != (ssize_t)len)
		return false;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return true;
}

/* --- one process --- */

static long open_end(struct holder *me, int end)
{
	struct sockaddr_in a = where(0);
	if (end == 1) {
		me->fd[1] = accept(me->l, NULL, NULL);
	} else {
		me->fd[0] = tcp(0);
		if (connect(me->fd[0], (struct sockaddr *)&a, sizeof(a)) != 0)
			return -1;
	}
	if (me->fd[end] >= 0)
		no_delay(me->fd[end]);
	return me->fd[end] < 0 ? -1 : 0;
}

/* The kernel's instance goes on to tell of a number that was closed where its file has another holder: docs/conformance.md. */
static long let_go(const struct holder *me, int fd)
{
	if (me->e >= 0)
		(void)epoll_ctl(me->e, EPOLL_CTL_DEL, fd, NULL);
	return close(fd);
}

static long dup_end(const struct holder *me, int *fd)
{
	int other = dup(*fd);
	long result = other < 0 ? -1 : let_go(me, *fd);
	*fd = other;
	return result;
}

static long watch(const struct holder *me, const struct order *o)
{
	static const uint32_t masks[] = {EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLIN | EPOLLRDHUP};
	static const int ops[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
	struct epoll_event ev = {.events = masks[o->n % 4], .data.u32 = (uint32_t)o->end};
	return epoll_ctl(me->e, ops[o->op - ADD], me->fd[o->end], &ev);
}

static size_t told(int e, char *text, size_t room)
{
	struct epoll_event ev[8];
	char names[2][128] = {"-", "-"};
	int n = epoll_wait(e, ev, 8, 0);
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u64 < 2)
			poll_names(ev[i].events, names[ev[i].data.u32]);
		else
			snprintf(names[0], sizeof(names[0]), "whose?");
	}
	return (size_t)snprintf(text, room, " told %d: %s, %s", n, names[0], names[1]);
}

static size_t in_sets(int fd, char *text, size_t room)
{
	struct timeval none = {0};
	fd_set r, w, x;
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_ZERO(&x);
	FD_SET(fd, &r);
	FD_SET(fd, &w);
	FD_SET(fd, &x);
	int n = select(fd + 1, &r, &w, &x, &none);
	return (size_t)snprintf(text, room, " select %d%s%s%s", n, FD_ISSET(fd, &r) ? " r" : "",
				FD_ISSET(fd, &w) ? " w" : "", FD_ISSET(fd, &x) ? " x" : "");
}

static void look_more(const struct holder *me, const struct order *o, char *text, size_t room)
{
	size_t len;
	look(me->fd[o->end], text, room);
	len = strlen(text);
	len += in_sets(me->fd[o->end], text + len, room - len);
	if (me->e >= 0)
		told(me->e, text + len, room - len);
}

static long ask_error(int fd, struct answer *a)
{
	int error = 0;
	socklen_t len = sizeof(error);
	long n = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	snprintf(a->text, sizeof(a->text), "%s", error ? error_name(error) : "none");
	return n;
}

static long connect_again(int fd)
{
	struct sockaddr_in a = where(0);
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static long rare(struct holder *me, const struct order *o)
{
	static char bytes[256];
	int fd = me->fd[o->end];
	switch (o->op) {
	case LINGER:
		linger(fd);
		return 0;
	case WAITALL:
		return recv(fd, bytes, o->n, MSG_DONTWAIT | MSG_WAITALL);
	case TRUNC:
		return recv(fd, NULL, o->n, MSG_DONTWAIT | MSG_TRUNC);
	case NONE:
		return o->n % 2 ? recv(fd, bytes, 0, MSG_DONTWAIT)
				: send(fd, bytes, 0, MSG_DONTWAIT | MSG_NOSIGNAL);
	case AGAIN:
		return connect_again(fd);
	case ADD:
	case CHANGE:
	case REMOVE:
		return watch(me, o);
	default:
		return 0;
	}
}

static long act(struct holder *me, const struct order *o, struct answer *a)
{
	static char bytes[256];
	int *fd = &me->fd[o->end];
	struct sockaddr_storage ss;
	socklen_t ss_len = sizeof(ss);
	long n;
	switch (o->op) {
	case CONNECT:
	case ACCEPT:
		return open_end(me, o->end);
	case SEND:
		return send(*fd, bytes, o->n, MSG_NOSIGNAL | MSG_DONTWAIT);
	case RECV:
		return recv(*fd, bytes, o->n, MSG_DONTWAIT);
	case PEEK:
		return recv(*fd, bytes, o->n, MSG_DONTWAIT | MSG_PEEK);
	case SHUT:
		return shutdown(*fd, (int)o->n % 3);
	case CLOSE:
		n = let_go(me, *fd);
		*fd = -1;
		return n;
	case ERROR:
		return ask_error(*fd, a);
	case DUP:
		return dup_end(me, fd);
	case NAME:
		return getpeername(*fd, (struct sockaddr *)&ss, &ss_len);
	case LOOK:
		look_more(me, o, a->text, sizeof(a->text));
		return 0;
	default:
		return rare(me, o);
	}
}

static void take(struct holder *me, int end, int fd)
{
	if (me->fd[end] >= 0)
		let_go(me, me->fd[end]);
	me->fd[end] = fd;
}

static void exec_again(const struct holder *me, const char *name)
{
	char text[64];
	snprintf(text, sizeof(text), "%d %d %d %d", me->fd[0], me->fd[1], me->l, me->way);
	setenv("PARITY_HOLDER", text, 1);
	execl("/proc/self/exe", "flat-parity", name, NULL);
	_exit(5);
}

/* The second process: does what it is told to, until it is to end. */
static void obey(struct holder *me, const char *name)
{
	struct order o;
	int fd;
	while (hear(me->way, &o, sizeof(o), &fd) && o.op != END) {
		struct answer a = {0};
		if (o.op == EXEC)
			exec_again(me, name);
		if (o.op == TAKE)
			take(me, o.end, fd);
		errno = 0;
		a.n = act(me, &o, &a);
		a.error = errno;
		tell(me->way, &a, sizeof(a), o.op == GIVE ? me->fd[o.end] : -1);
	}
	_exit(0);
}

/* --- both --- */

struct two {
	const char *name;
	bool told; /* both have instances */
	struct holder me;
	struct holder kid; /* which ends it has; not by which numbers */
	pid_t pid;
};

static void forget_kid(struct two *t)
{
	close(t->me.way);
	t->me.way = -1;
	t->kid.fd[0] = t->kid.fd[1] = -1;
	reap(t->pid);
}

static void begin_kid(struct two *t)
{
	int way[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, way) != 0)
		say("no socketpair");
	t->pid = fork();
	if (t->pid == 0) {
		struct holder kid = t->me;
		close(way[0]);
		kid.way = way[1];
		/* One instance in two processes: docs/conformance.md, what differs. */
		if (t->told) {
			close(kid.e);
			kid.e = epoll_create1(EPOLL_CLOEXEC);
		}
		obey(&kid, t->name);
	}
	close(way[1]);
	t->me.way = way[0];
	memcpy(t->kid.fd, t->me.fd, sizeof(t->kid.fd));
}

/* By the first process, or the second one. */
static void order(struct two *t, int who, const struct order *o, struct answer *a)
{
	struct order copy = *o;
	int fd = -1;
	memset(a, 0, sizeof(*a));
	if (who == 0) {
		errno = 0;
		a->n = act(&t->me, o, a);
		a->error = errno;
		return;
	}
	tell(t->me.way, &copy, sizeof(copy), o->op == TAKE ? t->me.fd[o->end] : -1);
	if (!hear(t->me.way, a, sizeof(*a), &fd))
		say("the other process is gone");
	if (fd >= 0)
		take(&t->me, o->end, fd);
	if (o->op == CLOSE || ((o->op == CONNECT || o->op == ACCEPT) && a->n < 0))
		t->kid.fd[o->end] = -1;
	else if (o->op == CONNECT || o->op == ACCEPT || o->op == TAKE)
		t->kid.fd[o->end] = 1;
}

static void say_holders(struct two *t)
{
	char line[2000];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	for (;;) {
		size_t len = 0;
		for (int i = 0; i < 4; i++) {
			const struct holder *h = i < 2 ? &t->me : &t->kid;
			struct order o = {.op = LOOK, .end = i % 2};
			struct answer a = {0};
			if (h->fd[i % 2] < 0)
				continue;
			order(t, i / 2, &o, &a);
			len += (size_t)snprintf(line + len, sizeof(line) - len, "%s %s: %s",
						len ? " /" : "   ", i % 2 ? "server" : "client",
						a.text);
		}
		if (len == 0)
			return;
		if (!same || strcmp(line, same) == 0 || now_ms() >= end)
			break;
		pause_ms(1);
	}
	say("%s", line);
}

static void do_one(struct two *t, int who, enum op op, int end, uint32_t n)
{
	static const char *const names[] = {"connect", "accept", "send",   "recv",    "peek",
					    "shut",    "close",	 "error",  "dup",     "name",
					    "give",    "take",	 "linger", "waitall", "trunc",
					    "none",    "again",	 "watch",  "mod",     "del"};
	struct order o = {op, end, n};
	struct answer a;
	order(t, who, &o, &a);
	say("  %s %s %s %ld%s%s %s", who ? "second" : "first", end ? "server" : "client", names[op],
	    a.n, a.n < 0 ? " " : "", a.n < 0 ? error_name(a.error) : "", a.text);
}

/* A new second process, which has what the first one has. The one before ends, or is killed. */
static void renew(struct two *t, bool killed)
{
	struct order o = {.op = END};
	if (killed)
		kill(t->pid, SIGKILL);
	else
		tell(t->me.way, &o, sizeof(o), -1);
	forget_kid(t);
	begin_kid(t);
}

/* Only what has no carrier, and no lane that is sealed: docs/design/processes.md, 10. */
static bool exec_kid(struct two *t)
{
	struct order o = {.op = EXEC};
	struct answer a;
	if (t->kid.fd[0] >= 0)
		return false;
	order(t, 1, &o, &a);
	say("  second exec");
	return true;
}

/* The end goes to the other process, and stays where it was unless n is odd. */
static void give(struct two *t, int who, int end, uint32_t n)
{
	do_one(t, 1, who ? GIVE : TAKE, end, 0);
	if (n % 2)
		do_one(t, who, CLOSE, end, 0);
}

static enum op common(const struct two *t, uint32_t what)
{
	static const enum op usual[] = {SEND, SEND,  SEND,  RECV,  RECV,  RECV, PEEK,
					SHUT, CLOSE, CLOSE, ERROR, ERROR, DUP,	NAME};
	static const enum op more[] = {WAITALL, TRUNC, NONE, AGAIN, LINGER};
	static const enum op watches[] = {ADD, ADD, ADD, CHANGE, REMOVE};
	if (t->told && chance(4) == 0)
		return watches[chance(sizeof(watches) / sizeof(*watches))];
	if (chance(4) == 0)
		return more[chance(sizeof(more) / sizeof(*more))];
	return usual[what % (sizeof(usual) / sizeof(*usual))];
}

/* False: who was chosen has nothing to do it with. */
static bool step_of_two(struct two *t)
{
	int who = (int)chance(2), end = (int)chance(2);
	uint32_t n = 1 + chance(100), what = chance(20);
	const struct holder *h = who ? &t->kid : &t->me;
	if (what == 18)
		return exec_kid(t);
	if (what >= 16 && what < 18)
		end = 1;
	if (what == 19)
		renew(t, n % 2);
	else if (h->fd[end] < 0)
		return false;
	else if (what >= 16)
		give(t, who, end, n);
	else
		do_one(t, who, common(t, what), end, n);
	return true;
}

static void open_two(struct two *t)
{
	do_one(t, (int)chance(2), CONNECT, 0, 0);
	await(t->me.l, POLLIN);
	do_one(t, (int)chance(2), ACCEPT, 1, 0);
}

static void one_round(struct two *t)
{
	t->me.fd[0] = t->me.fd[1] = t->me.e = -1;
	if (t->told)
		t->me.e = epoll_create1(EPOLL_CLOEXEC);
	begin_kid(t);
	open_two(t);
	for (int i = 0; i < 2 * STEPS; i++) {
		if (step_of_two(t))
			say_holders(t);
	}
	kill(t->pid, SIGKILL);
	forget_kid(t);
	close(t->me.e);
	close(t->me.fd[0]);
	close(t->me.fd[1]);
}

static void rounds_of_two(uint32_t first, bool with_instances, const char *name)
{
	const char *text = getenv("PARITY_HOLDER");
	struct two t = {.name = name, .told = with_instances, .me = {{-1, -1}, -1, -1, -1}};
	struct answer ready = {0};
	if (text &&
	    sscanf(text, "%d %d %d %d", &t.me.fd[0], &t.me.fd[1], &t.me.l, &t.me.way) == 4) {
		if (t.told)
			t.me.e = epoll_create1(EPOLL_CLOEXEC);
		tell(t.me.way, &ready, sizeof(ready), -1);
		obey(&t.me, name);
	}
	t.me.l = listener(0);
	for (uint32_t r = first; r < first + ROUNDS; r++) {
		begin_round(r);
		one_round(&t);
	}
}

#define ROUNDS_FROM(first)                                                                         \
	BEHAVIOUR(random_two_from_##first)                                                         \
	{                                                                                          \
		rounds_of_two(rounds_from(first + 2000), false, __func__);                         \
	}                                                                                          \
	BEHAVIOUR(random_two_told_from_##first)                                                    \
	{                                                                                          \
		rounds_of_two(rounds_from(first + 3000), true, __func__);                          \
	}

ROUNDS_FROM(0)
ROUNDS_FROM(40)
ROUNDS_FROM(80)
ROUNDS_FROM(120)
ROUNDS_FROM(160)
ROUNDS_FROM(200)
ROUNDS_FROM(240)
ROUNDS_FROM(280)
ROUNDS_FROM(320)
ROUNDS_FROM(360)
