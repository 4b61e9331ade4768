/* epoll: level, edge, one-shot, exclusive; what epoll_ctl() refuses; instances in instances. */
#include "parity.h"

static char buf[256];

static int ctl(int e, int op, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = 0x100000000ULL + (unsigned)fd};
	return epoll_ctl(e, op, fd, &ev);
}

static int wait_for(int e, int ms)
{
	struct epoll_event ev[8];
	char names[128];
	int n = epoll_wait(e, ev, 8, ms);
	say("epoll_wait %d %s", n, n < 0 ? error_name(errno) : "");
	for (int i = 0; i < n; i++)
		say("  %llx %s", (unsigned long long)ev[i].data.u64,
		    poll_names(ev[i].events, names));
	return n;
}

static void text(int c, int s, const char *t)
{
	int before = 0;
	ioctl(s, FIONREAD, &before);
	send_all(c, t, strlen(t));
	await_bytes(s, before + (int)strlen(t));
}

BEHAVIOUR(epoll_level)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	wait_for(e, 0);
	text(c, s, "ab");
	wait_for(e, 1000);
	wait_for(e, 1000);
	recv(s, buf, 1, 0);
	wait_for(e, 1000);
	recv(s, buf, 1, 0);
	wait_for(e, 30);
}

BEHAVIOUR(epoll_level_in_out)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLRDHUP));
	wait_for(e, 1000);
	text(c, s, "a");
	wait_for(e, 1000);
	close(c);
	await(s, POLLRDHUP);
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_edge)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET));
	text(c, s, "a");
	wait_for(e, 1000);
	wait_for(e, 30);
	text(c, s, "b");
	wait_for(e, 1000);
	wait_for(e, 30);
	recv(s, buf, 1, 0);
	wait_for(e, 30);
	recv(s, buf, 1, 0);
	wait_for(e, 30);
	text(c, s, "c");
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_edge_in_out_first)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLET));
	wait_for(e, 1000);
	wait_for(e, 30);
	text(c, s, "x");
	wait_for(e, 1000);
	wait_for(e, 30);
}

BEHAVIOUR(epoll_edge_room)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	set_nonblock(c);
	DO(ctl(e, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLET));
	wait_for(e, 1000);
	size_t n = fill(c);
	wait_for(e, 30);
	say("drained %d", drain(s, n) == n);
	wait_for(e, 2000);
	wait_for(e, 30);
}

BEHAVIOUR(epoll_edge_end)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLRDHUP | EPOLLET));
	shutdown(c, SHUT_WR);
	await(s, POLLRDHUP);
	wait_for(e, 1000);
	wait_for(e, 30);
	DO(recv(s, buf, 10, 0));
	wait_for(e, 30);
}

BEHAVIOUR(epoll_edge_mod_tells_again)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET));
	text(c, s, "a");
	wait_for(e, 1000);
	DO(ctl(e, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLET));
	wait_for(e, 1000);
	wait_for(e, 30);
}

BEHAVIOUR(epoll_oneshot)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLONESHOT));
	text(c, s, "a");
	wait_for(e, 1000);
	wait_for(e, 30);
	text(c, s, "b");
	wait_for(e, 30);
	DO(ctl(e, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT));
	wait_for(e, 1000);
	wait_for(e, 30);
	close(c);
	wait_for(e, 30);
}

BEHAVIOUR(epoll_hup_always)
{
	int c, s, e = epoll_create1(0);
	struct linger hard = {1, 0};
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, 0));
	text(c, s, "a");
	wait_for(e, 30);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(c);
	await(s, POLLHUP);
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_errors)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN};
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_MOD, s, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_DEL, s, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, NULL));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(e, 77, s, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, -1, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, 900, &ev));
	DO(epoll_ctl(900, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(-1, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(c, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(1, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_ADD, e, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_DEL, s, NULL));
	DO(epoll_ctl(e, EPOLL_CTL_DEL, s, NULL));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE;
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_ctl(e, EPOLL_CTL_MOD, s, &ev));
	ev.events = EPOLLIN;
	DO(epoll_ctl(e, EPOLL_CTL_MOD, s, &ev));
}

BEHAVIOUR(epoll_wait_errors)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev[2];
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(epoll_wait(e, ev, 0, 0));
	DO(epoll_wait(e, ev, -1, 0));
	DO(epoll_wait(-1, ev, 1, 0));
	DO(epoll_wait(900, ev, 1, 0));
	DO(epoll_wait(1, ev, 1, 0));
	DO(epoll_wait(s, ev, 1, 0));
	text(c, s, "x");
	DO(epoll_wait(e, NULL, 1, 0));
	DO(epoll_wait(e, ev, 1, 0));
	DO(epoll_create(0));
	DO(epoll_create1(5));
}

BEHAVIOUR(epoll_delete_add)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	text(c, s, "a");
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET));
	wait_for(e, 1000);
	DO(ctl(e, EPOLL_CTL_DEL, s, 0));
	wait_for(e, 30);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET));
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_close_removes)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT));
	wait_for(e, 1000);
	DO(close(s));
	wait_for(e, 30);
	DO(ctl(e, EPOLL_CTL_MOD, s, EPOLLIN));
	int again = dup(c);
	say("number reused %d", again == s);
	DO(ctl(e, EPOLL_CTL_ADD, again, EPOLLOUT));
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_close_of_copy_stays)
{
	/* The registration belongs to the file: another copy keeps it, under the old number. */
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	int d = dup(s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(close(s));
	send_all(c, "x", 1);
	await(d, POLLIN);
	wait_for(e, 1000);
	close(d);
	wait_for(e, 30);
}

BEHAVIOUR(epoll_both_copies)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	int d = dup(s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(e, EPOLL_CTL_ADD, d, EPOLLIN));
	text(c, s, "x");
	struct epoll_event ev[4];
	DO(epoll_wait(e, ev, 4, 1000));
}

BEHAVIOUR(epoll_two_instances)
{
	int c, s, e = epoll_create1(0), f = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(f, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET));
	text(c, s, "x");
	wait_for(e, 1000);
	wait_for(f, 1000);
	wait_for(e, 1000);
	wait_for(f, 30);
}

static void *wait_thread(void *arg)
{
	struct epoll_event ev;
	int n = epoll_wait(*(int *)arg, &ev, 1, 5000);
	say("woken %d", n);
	return NULL;
}

static void *send_later(void *arg)
{
	let_sleep();
	send_all(*(int *)arg, "x", 1);
	return NULL;
}

BEHAVIOUR(epoll_two_instances_asleep)
{
	int c, s, e = epoll_create1(0), f = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(f, EPOLL_CTL_ADD, s, EPOLLIN));
	pthread_t a = thread(wait_thread, &e), b = thread(wait_thread, &f);
	let_sleep();
	send_all(c, "x", 1);
	join(a);
	join(b);
}

BEHAVIOUR(epoll_wait_woken)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET));
	pthread_t t = thread(send_later, &c);
	wait_for(e, 5000);
	join(t);
}

BEHAVIOUR(epoll_add_while_asleep)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	text(c, s, "x");
	pthread_t t = thread(wait_thread, &e);
	let_sleep();
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	join(t);
}

BEHAVIOUR(epoll_mod_while_asleep)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	text(c, s, "x");
	DO(ctl(e, EPOLL_CTL_ADD, s, 0));
	pthread_t t = thread(wait_thread, &e);
	let_sleep();
	DO(ctl(e, EPOLL_CTL_MOD, s, EPOLLIN));
	join(t);
}

BEHAVIOUR(epoll_room_while_other_receives)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	size_t n = fill(c);
	DO(ctl(e, EPOLL_CTL_ADD, c, EPOLLOUT));
	pthread_t t = thread(wait_thread, &e);
	let_sleep();
	say("drained %d", drain(s, n) == n);
	join(t);
}

BEHAVIOUR(epoll_nested)
{
	int c, s, e = epoll_create1(0), outer = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(outer, EPOLL_CTL_ADD, e, EPOLLIN));
	say_mask("inner", e);
	wait_for(outer, 30);
	text(c, s, "x");
	wait_for(outer, 1000);
	say_mask("inner", e);
	say_mask("outer", outer);
	wait_for(e, 1000);
	recv(s, buf, 1, 0);
	wait_for(outer, 30);
	say_mask("inner", e);
}

BEHAVIOUR(epoll_nested_before_members)
{
	int c, s, e = epoll_create1(0), outer = epoll_create1(0);
	DO(ctl(outer, EPOLL_CTL_ADD, e, EPOLLIN));
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	pthread_t t = thread(send_later, &c);
	wait_for(outer, 5000);
	wait_for(e, 1000);
	join(t);
}

/* A pipe and a socket in the inner instance, looked at often: each is told of once. */
BEHAVIOUR(epoll_nested_mixed)
{
	int c, s, p[2], e = epoll_create1(0), outer = epoll_create1(0);
	pair(&c, &s);
	DO(pipe(p));
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(e, EPOLL_CTL_ADD, p[0], EPOLLIN));
	DO(ctl(outer, EPOLL_CTL_ADD, e, EPOLLIN));
	wait_for(outer, 30);
	DO(write(p[1], "p", 1));
	wait_for(outer, 1000);
	wait_for(e, 1000);
	text(c, s, "x");
	for (int i = 0; i < 20; i++)
		wait_for(outer, 1000);
	DO(read(p[0], buf, 1));
	for (int i = 0; i < 20; i++)
		wait_for(outer, 1000);
	DO(recv(s, buf, 1, 0));
	wait_for(outer, 30);
}

BEHAVIOUR(epoll_nested_oneshot)
{
	int c, s, e = epoll_create1(0), outer = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(outer, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLONESHOT));
	text(c, s, "x");
	wait_for(outer, 1000);
	wait_for(outer, 30);
	text(c, s, "y");
	wait_for(outer, 30);
	DO(ctl(outer, EPOLL_CTL_MOD, e, EPOLLIN | EPOLLONESHOT));
	wait_for(outer, 1000);
	wait_for(outer, 30);
}

BEHAVIOUR(epoll_nested_edge_again)
{
	int c, s, e = epoll_create1(0), outer = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(outer, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLET));
	text(c, s, "x");
	wait_for(outer, 1000);
	wait_for(outer, 30);
	text(c, s, "y");
	wait_for(outer, 1000);
	wait_for(outer, 30);
	DO(recv(s, buf, 10, 0));
	wait_for(outer, 30);
	text(c, s, "z");
	wait_for(outer, 1000);
}

BEHAVIOUR(epoll_nested_three_deep)
{
	int c, s, a = epoll_create1(0), b = epoll_create1(0), d = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(a, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(b, EPOLL_CTL_ADD, a, EPOLLIN));
	DO(ctl(d, EPOLL_CTL_ADD, b, EPOLLIN));
	wait_for(d, 30);
	text(c, s, "x");
	wait_for(d, 1000);
	wait_for(d, 1000);
	wait_for(b, 1000);
	wait_for(a, 1000);
	DO(recv(s, buf, 1, 0));
	wait_for(d, 30);
	DO(close(a));
	text(c, s, "y");
	wait_for(d, 30);
}

BEHAVIOUR(epoll_nested_edge)
{
	int c, s, e = epoll_create1(0), outer = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(outer, EPOLL_CTL_ADD, e, EPOLLIN | EPOLLET));
	text(c, s, "x");
	wait_for(outer, 1000);
	wait_for(outer, 30);
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_polled)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	struct pollfd p = {.fd = e, .events = POLLIN};
	DO(poll(&p, 1, 20));
	pthread_t t = thread(send_later, &c);
	DO(poll(&p, 1, 5000));
	say("%#x", (unsigned)p.revents);
	join(t);
}

BEHAVIOUR(epoll_polled_by_select)
{
	int c, s, e = epoll_create1(0);
	fd_set set;
	struct timeval tv = {5, 0};
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	text(c, s, "x");
	FD_ZERO(&set);
	FD_SET(e, &set);
	DO(select(e + 1, &set, NULL, NULL, &tv));
}

BEHAVIOUR(epoll_mixed)
{
	int c, s, e = epoll_create1(0), p[2];
	pair(&c, &s);
	DO(pipe(p));
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	DO(ctl(e, EPOLL_CTL_ADD, p[0], EPOLLIN));
	wait_for(e, 20);
	if (write(p[1], "x", 1) != 1)
		say("pipe");
	wait_for(e, 1000);
	text(c, s, "y");
	struct epoll_event ev[4];
	DO(epoll_wait(e, ev, 4, 1000));
	DO(epoll_wait(e, ev, 1, 1000));
	say("the other next: %d", ev[0].data.u64 == 0);
}

BEHAVIOUR(epoll_fair)
{
	/* With room for one event each call, every ready member has its turn. */
	int c[3], s[3], e = epoll_create1(0), seen = 0;
	for (int i = 0; i < 3; i++) {
		pair(&c[i], &s[i]);
		ctl(e, EPOLL_CTL_ADD, s[i], EPOLLIN);
		text(c[i], s[i], "x");
	}
	for (int i = 0; i < 6; i++) {
		struct epoll_event ev = {0};
		if (epoll_wait(e, &ev, 1, 1000) != 1)
			say("nothing");
		for (int k = 0; k < 3; k++)
			seen |= (ev.data.u64 & 0xffffffff) == (unsigned)s[k] ? 1 << k : 0;
	}
	say("seen %d", seen);
}

BEHAVIOUR(epoll_listener)
{
	int l = listener(0), e = epoll_create1(0);
	DO(ctl(e, EPOLL_CTL_ADD, l, EPOLLIN));
	wait_for(e, 20);
	reach(0);
	wait_for(e, 1000);
	DO(accept(l, NULL, NULL));
	wait_for(e, 20);
}

BEHAVIOUR(epoll_listener_edge)
{
	int l = listener(0), e = epoll_create1(0);
	set_nonblock(l);
	DO(ctl(e, EPOLL_CTL_ADD, l, EPOLLIN | EPOLLET));
	reach(0);
	wait_for(e, 1000);
	wait_for(e, 20);
	reach(0);
	wait_for(e, 1000);
	DO(accept(l, NULL, NULL));
	DO(accept(l, NULL, NULL));
	DO(accept(l, NULL, NULL));
	wait_for(e, 20);
}

BEHAVIOUR(epoll_add_before_listen)
{
	int l = tcp(0), e = epoll_create1(0);
	struct sockaddr_in a = where(0);
	DO(ctl(e, EPOLL_CTL_ADD, l, EPOLLIN));
	wait_for(e, 20);
	DO(bind(l, (struct sockaddr *)&a, sizeof(a)));
	DO(listen(l, 5));
	reach(0);
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_add_before_connect)
{
	int c = tcp(SOCK_NONBLOCK), e = epoll_create1(0);
	struct sockaddr_in a = where(0);
	int l = listener(0);
	DO(ctl(e, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLIN | EPOLLET));
	wait_for(e, 20);
	DO(connect(c, (struct sockaddr *)&a, sizeof(a)));
	await(c, POLLOUT);
	wait_for(e, 1000);
	int s = (int)DO(accept(l, NULL, NULL));
	text(s, c, "x");
	wait_for(e, 1000);
	wait_for(e, 20);
}

BEHAVIOUR(epoll_exclusive)
{
	int l = listener(0), e = epoll_create1(0);
	DO(ctl(e, EPOLL_CTL_ADD, l, EPOLLIN | EPOLLEXCLUSIVE));
	reach(0);
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_exclusive_stream)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLEXCLUSIVE));
	text(c, s, "x");
	wait_for(e, 1000);
	recv(s, buf, 1, 0);
	wait_for(e, 20);
}

BEHAVIOUR(epoll_wait_timeout)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev;
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	long begin = now_ms();
	DO(epoll_wait(e, &ev, 1, 90));
	say_elapsed(begin, 90);
	begin = now_ms();
	DO(epoll_pwait2(e, &ev, 1, &(struct timespec){0, 70000000}, NULL));
	say_elapsed(begin, 70);
	DO(epoll_pwait2(e, &ev, 1, &(struct timespec){-1, 0}, NULL));
}

BEHAVIOUR(epoll_pwait_mask)
{
	int c, s, e = epoll_create1(0);
	sigset_t block, none;
	struct epoll_event ev;
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	count_signal(SIGUSR1, SA_RESTART);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	DO(epoll_wait(e, &ev, 1, 20));
	DO(epoll_pwait(e, &ev, 1, 3000, &none));
	say("signals %d", (int)signals_seen);
}

static void epoll_child(void *arg)
{
	wait_for(*(int *)arg, 5000);
}

BEHAVIOUR(epoll_in_child)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	pid_t pid = child(epoll_child, &e);
	let_sleep();
	send_all(c, "x", 1);
	reap(pid);
	wait_for(e, 1000);
}

BEHAVIOUR(epoll_dup_instance)
{
	int c, s, e = epoll_create1(0);
	pair(&c, &s);
	DO(ctl(e, EPOLL_CTL_ADD, s, EPOLLIN));
	int f = dup(e);
	text(c, s, "x");
	wait_for(f, 1000);
	close(e);
	wait_for(f, 1000);
	DO(ctl(f, EPOLL_CTL_DEL, s, 0));
	wait_for(f, 20);
}

BEHAVIOUR(epoll_many)
{
	int c[20], s[20], e = epoll_create1(0), total = 0;
	for (int i = 0; i < 20; i++) {
		pair(&c[i], &s[i]);
		ctl(e, EPOLL_CTL_ADD, s[i], EPOLLIN | EPOLLET);
	}
	for (int i = 0; i < 20; i++)
		text(c[i], s[i], "x");
	struct epoll_event ev[64];
	for (int i = 0; i < 50 && total < 20; i++) {
		int n = epoll_wait(e, ev, 7, 100);
		total += n > 0 ? n : 0;
	}
	say("events %d", total);
	DO(epoll_wait(e, ev, 64, 20));
}

/* Without time limits: at the end of one a wait looks again, and would find what nobody was woken for. */
#define MANY 8

struct many {
	int c[MANY];
	int s[MANY];
	int e;
};

static void many(struct many *m)
{
	m->e = epoll_create1(0);
	for (int i = 0; i < MANY; i++) {
		pair(&m->c[i], &m->s[i]);
		ctl(m->e, EPOLL_CTL_ADD, m->s[i], EPOLLIN);
	}
}

/* Each connection says something while its peer sleeps, again and again. */
static void *speak(void *arg)
{
	struct many *m = arg;
	for (int round = 0; round < 10; round++) {
		pause_ms(10);
		for (int i = 0; i < MANY; i++)
			send_all(m->c[i], "x", 1);
	}
	return NULL;
}

BEHAVIOUR(epoll_sleeps_on_many)
{
	struct many m;
	struct epoll_event ev[MANY];
	int bytes = 0;
	many(&m);
	pthread_t t = thread(speak, &m);
	while (bytes < 10 * MANY) {
		int n = epoll_wait(m.e, ev, MANY, -1);
		if (n <= 0)
			break;
		for (int i = 0; i < n; i++)
			bytes += (int)recv((int)(ev[i].data.u64 & 0xffff), buf, sizeof(buf), 0);
	}
	pthread_join(t, NULL);
	say("bytes %d", bytes);
}

static void *close_then_speak(void *arg)
{
	struct many *m = arg;
	for (int i = 0; i + 1 < MANY; i++) {
		pause_ms(20);
		close(m->s[i]);
		send_all(m->c[MANY - 1], "x", 1);
	}
	return NULL;
}

BEHAVIOUR(epoll_sleeps_while_members_close)
{
	struct many m;
	int bytes = 0;
	many(&m);
	pthread_t t = thread(close_then_speak, &m);
	while (bytes < MANY - 1) {
		struct epoll_event ev;
		if (epoll_wait(m.e, &ev, 1, -1) <= 0)
			break;
		bytes += (int)recv(m.s[MANY - 1], buf, sizeof(buf), 0);
	}
	pthread_join(t, NULL);
	say("bytes %d", bytes);
}

static void close_all(void *arg)
{
	struct many *m = arg;
	for (int i = 0; i < MANY; i++)
		close(m->s[i]);
}

static void speak_later(void *arg)
{
	pause_ms(50);
	send_all(((struct many *)arg)->c[1], "x", 1);
}

BEHAVIOUR(epoll_stays_when_a_child_closes)
{
	struct many m;
	many(&m);
	wait_for(m.e, 0);
	reap(child(close_all, &m));
	pid_t pid = child(speak_later, &m);
	wait_for(m.e, -1);
	reap(pid);
	/* And here none of it was shared. */
	send_all(m.c[2], "x", 1);
	await_bytes(m.s[2], 1);
	wait_for(m.e, 1000);
}
