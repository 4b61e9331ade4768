/*
 * Calls in an order that chance gives, on both ends of connections: what each gives, and what poll(), FIONREAD and TCP_INFO say of
 * both ends then. The chance is the same each time. random_two_*: by two processes, which come by the ends through fork, messages
 * and exec, and end or are killed; PARITY_ROUND=N counts the rounds from N on.
 *
 * Where bytes and ends take a while to arrive, each step waits until both ends say what the kernel's said there (wanted()), which it
 * has in a file; it waits no longer than a bound, and then says what is.
 */
#include "parity.h"

#define ROUNDS 40
#define STEPS 14
#define WAIT_MS 1500

static uint32_t state;
static bool watched;
static bool
    renumbered; /* in this round, which has an epoll instance: docs/conformance.md, what differs */

static uint32_t chance(uint32_t n)
{
	state = state * 1664525U + 1013904223U;
	return (state >> 16) % n;
}

static void say_call(const char *who, const char *what, long n)
{
	say("  %s %s %ld%s%s", who, what, n, n < 0 ? " " : "", n < 0 ? error_name(errno) : "");
}

static int tcp_state(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -1;
	/* Whether the peer has said that it has our FIN yet is a matter of time. */
	return info.tcpi_state == TCP_FIN_WAIT1 ? TCP_FIN_WAIT2 : info.tcpi_state;
}

static void look(int fd, char *text, size_t room)
{
	char names[128];
	int there = -1;
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP | POLLPRI};
	if (fd < 0) {
		snprintf(text, room, "closed");
		return;
	}
	(void)poll(&p, 1, 0);
	(void)ioctl(fd, FIONREAD, &there);
	snprintf(text, room, "%s %d state %d", poll_names((unsigned)p.revents, names), there,
		 tcp_state(fd));
}

static void say_both(const int fd[2])
{
	char line[512], one[200], two[200];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	for (;;) {
		look(fd[0], one, sizeof(one));
		look(fd[1], two, sizeof(two));
		snprintf(line, sizeof(line), "    %s / %s", one, two);
		if (!same || strcmp(line, same) == 0 || now_ms() >= end)
			break;
		pause_ms(1);
	}
	say("%s", line);
}

static void say_error(const char *who, int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);
	long err = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	say("  %s error %ld %s", who, err, error ? error_name(error) : "none");
}

static void linger(int fd)
{
	struct linger now = {1, 0};
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* What is sent arrives, whether the bytes before it were acknowledged or not. */
static void no_delay(int fd)
{
	int one = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void low_water(int fd, int n)
{
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
}

static void unspec(const char *who, int fd)
{
	struct sockaddr a = {.sa_family = AF_UNSPEC};
	say_call(who, "unspec", connect(fd, &a, sizeof(a)));
}

static void name(const char *who, int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	say_call(who, "peer", getpeername(fd, (struct sockaddr *)&ss, &len));
}

/* Another number for the same end, and the first one closed. */
static void renumber(const char *who, int *fd)
{
	int other = dup(*fd);
	say_call(who, "dup", other < 0 ? other : 0);
	say_call(who, "close one", close(*fd));
	*fd = other;
	renumbered = watched;
}

static void receive(const char *who, const char *what, int fd, void *bytes, size_t n, int flags)
{
	say_call(who, what, recv(fd, bytes, n, MSG_DONTWAIT | flags));
}

static void rare_step(const char *who, int *fd, void *bytes, uint32_t n)
{
	switch (chance(10)) {
	case 0:
		linger(*fd);
		break;
	case 1:
		say_call(who, "send none", send(*fd, bytes, 0, MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 2:
		receive(who, "recv none", *fd, bytes, 0, 0);
		break;
	case 3:
		low_water(*fd, (int)n);
		break;
	case 4:
		if (chance(2) == 0 && !renumbered)
			unspec(who, *fd);
		break;
	case 5:
		renumber(who, fd);
		break;
	case 6:
		receive(who, "waitall", *fd, bytes, n, MSG_WAITALL);
		break;
	case 7:
		receive(who, "trunc", *fd, NULL, n, MSG_TRUNC);
		break;
	case 8:
		receive(who, "peek", *fd, bytes, n, MSG_PEEK);
		break;
	default:
		name(who, *fd);
		break;
	}
}

static void step(const char *who, int *fd)
{
	static char bytes[256];
	uint32_t n = 1 + chance(100);
	switch (chance(16)) {
	case 0:
	case 1:
	case 2:
		say_call(who, "send", send(*fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT));
		break;
	case 3:
	case 4:
		receive(who, "recv", *fd, bytes, n, 0);
		break;
	case 5:
		say_call(who, "shut rd", shutdown(*fd, SHUT_RD));
		break;
	case 6:
		say_call(who, "shut wr", shutdown(*fd, SHUT_WR));
		break;
	case 7:
		say_call(who, "shut", shutdown(*fd, SHUT_RDWR));
		break;
	case 8:
		say_call(who, "close", close(*fd));
		*fd = -1;
		break;
	case 9:
	case 10:
		say_error(who, *fd);
		break;
	default:
		rare_step(who, fd, bytes, n);
		break;
	}
}

static int watch(const int fd[2])
{
	int e = epoll_create1(EPOLL_CLOEXEC);
	for (uint32_t i = 0; i < 2; i++) {
		struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.u32 = i};
		if (epoll_ctl(e, EPOLL_CTL_ADD, fd[i], &ev) != 0)
			say("not added");
	}
	return e;
}

static void look_events(int e, char *text, size_t room)
{
	struct epoll_event ev[4];
	char names[2][128] = {"-", "-"};
	int n = epoll_wait(e, ev, 4, 0);
	for (int i = 0; i < n; i++)
		poll_names(ev[i].events, names[ev[i].data.u32]);
	snprintf(text, room, "    told %d: %s / %s", n, names[0], names[1]);
}

/* Several looks: what the kernel has beside connections that are ready may come a few waits later. */
static void say_events(int e)
{
	char line[512];
	const char *same = wanted();
	long end = now_ms() + WAIT_MS;
	do
		look_events(e, line, sizeof(line));
	while (same && strcmp(line, same) != 0 && now_ms() < end);
	say("%s", line);
}

/* Other rounds than those that the behaviours have. */
static uint32_t rounds_from(uint32_t first)
{
	const char *from = getenv("PARITY_ROUND");
	return first + (from ? (uint32_t)strtoul(from, NULL, 10) : 0);
}

static void rounds(uint32_t first, bool told)
{
	for (uint32_t r = first; r < first + ROUNDS; r++) {
		int fd[2], e = -1;
		state = r * 2654435761U;
		pair(&fd[0], &fd[1]);
		no_delay(fd[0]);
		no_delay(fd[1]);
		say("round %u", r);
		watched = told;
		renumbered = false;
		if (told)
			e = watch(fd);
		for (int i = 0; i < STEPS; i++) {
			uint32_t who = chance(2);
			if (fd[who] < 0)
				continue;
			step(who ? "server" : "client", &fd[who]);
			say_both(fd);
			if (told)
				say_events(e);
		}
		close(e);
		close(fd[0]);
		close(fd[1]);
	}
}

/* --- two processes --- */

/* What a process has: its numbers of both ends, of the listener, and of the way to the other process. -1: it has not got it. */
struct holder {
	int fd[2];
	int l;
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
	char text[200];
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

static long dup_end(int *fd)
{
	int other = dup(*fd);
	long result = other < 0 ? -1 : close(*fd);
	*fd = other;
	return result;
}

static long act(struct holder *me, const struct order *o, struct answer *a)
{
	static char bytes[256];
	int *fd = &me->fd[o->end];
	int error = 0;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(error), ss_len = sizeof(ss);
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
		n = close(*fd);
		*fd = -1;
		return n;
	case ERROR:
		n = getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &len);
		snprintf(a->text, sizeof(a->text), "%s", error ? error_name(error) : "none");
		return n;
	case DUP:
		return dup_end(fd);
	case NAME:
		return getpeername(*fd, (struct sockaddr *)&ss, &ss_len);
	case LOOK:
		look(*fd, a->text, sizeof(a->text));
		return 0;
	default:
		return 0;
	}
}

static void take(struct holder *me, int end, int fd)
{
	if (me->fd[end] >= 0)
		close(me->fd[end]);
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

struct two {
	const char *name;
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
	char line[900];
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
	static const char *const names[] = {"connect", "accept", "send", "recv", "peek", "shut",
					    "close",   "error",	 "dup",	 "name", "give", "take"};
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

/* The server's end goes to the other process, and stays where it was unless n is odd. */
static void give(struct two *t, int who, uint32_t n)
{
	do_one(t, 1, who ? GIVE : TAKE, 1, 0);
	if (n % 2)
		do_one(t, who, CLOSE, 1, 0);
}

/* False: who was chosen has nothing to do it with. */
static bool step_of_two(struct two *t)
{
	static const enum op common[] = {SEND, SEND,  SEND,  RECV,  RECV,  RECV, PEEK,
					 SHUT, CLOSE, CLOSE, ERROR, ERROR, DUP,	 NAME};
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
		give(t, who, n);
	else
		do_one(t, who, common[what % (sizeof(common) / sizeof(*common))], end, n);
	return true;
}

static void open_two(struct two *t)
{
	do_one(t, (int)chance(2), CONNECT, 0, 0);
	await(t->me.l, POLLIN);
	do_one(t, (int)chance(2), ACCEPT, 1, 0);
}

static void rounds_of_two(uint32_t first, const char *name)
{
	const char *text = getenv("PARITY_HOLDER");
	struct two t = {.name = name, .me = {{-1, -1}, -1, -1}};
	struct answer ready = {0};
	if (text &&
	    sscanf(text, "%d %d %d %d", &t.me.fd[0], &t.me.fd[1], &t.me.l, &t.me.way) == 4) {
		tell(t.me.way, &ready, sizeof(ready), -1);
		obey(&t.me, name);
	}
	t.me.l = listener(0);
	for (uint32_t r = first; r < first + ROUNDS; r++) {
		state = r * 2654435761U;
		say("round %u", r);
		t.me.fd[0] = t.me.fd[1] = -1;
		begin_kid(&t);
		open_two(&t);
		for (int i = 0; i < 2 * STEPS; i++) {
			if (step_of_two(&t))
				say_holders(&t);
		}
		kill(t.pid, SIGKILL);
		forget_kid(&t);
		close(t.me.fd[0]);
		close(t.me.fd[1]);
	}
}

#define ROUNDS_FROM(first)                                                                         \
	BEHAVIOUR(random_from_##first)                                                             \
	{                                                                                          \
		rounds(rounds_from(first), false);                                                 \
	}                                                                                          \
	BEHAVIOUR(random_told_from_##first)                                                        \
	{                                                                                          \
		rounds(rounds_from(first + 1000), true);                                           \
	}                                                                                          \
	BEHAVIOUR(random_two_from_##first)                                                         \
	{                                                                                          \
		rounds_of_two(rounds_from(first + 2000), __func__);                                \
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
