/* Sockets among timers, event descriptors, signals and pipes; epoll instances that travel; many readers. */
#include <dlfcn.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "parity.h"

static char buf[4096];

static int timer_ms(long ms)
{
	int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec at = {.it_value = {ms / 1000, ms % 1000 * 1000000}};
	timerfd_settime(t, 0, &at, NULL);
	return t;
}

static void say_polled(const char *what, struct pollfd *p, nfds_t n, int ready)
{
	char text[128];
	say("%s: %d", what, ready);
	for (nfds_t i = 0; i < n; i++)
		say("  %d: %s", (int)i, poll_names((unsigned short)p[i].revents, text));
}

BEHAVIOUR(mixed_poll_kinds)
{
	int c, s, e = eventfd(0, EFD_NONBLOCK), t = timer_ms(60);
	uint64_t one = 1;
	pair(&c, &s);
	struct pollfd p[4] = {{s, POLLIN, 0}, {e, POLLIN, 0}, {t, POLLIN, 0}, {-1, POLLIN, 0}};
	say_polled("timer", p, 4, poll(p, 4, 5000));
	DO(read(t, &one, sizeof(one)));
	DO(write(e, &one, sizeof(one)));
	say_polled("event", p, 4, poll(p, 4, 5000));
	DO(read(e, &one, sizeof(one)));
	send_all(c, "x", 1);
	say_polled("socket", p, 4, poll(p, 4, 5000));
	DO(write(e, &one, sizeof(one)));
	await(s, POLLIN);
	say_polled("both", p, 4, poll(p, 4, 5000));
}

static void *feed_later(void *arg)
{
	let_sleep();
	send_all(*(int *)arg, "late", 4);
	return NULL;
}

static void *event_later(void *arg)
{
	uint64_t one = 1;
	let_sleep();
	DO(write(*(int *)arg, &one, sizeof(one)));
	return NULL;
}

BEHAVIOUR(mixed_poll_woken_by_event)
{
	int c, s, e = eventfd(0, 0);
	pair(&c, &s);
	struct pollfd p[2] = {{s, POLLIN, 0}, {e, POLLIN, 0}};
	pthread_t t = thread(event_later, &e);
	say_polled("woken", p, 2, poll(p, 2, 5000));
	join(t);
	t = thread(feed_later, &c);
	uint64_t n;
	DO(read(e, &n, sizeof(n)));
	say_polled("woken", p, 2, poll(p, 2, 5000));
	join(t);
}

BEHAVIOUR(mixed_select_kinds)
{
	int c, s, e = eventfd(1, 0), p[2];
	fd_set r, w;
	struct timeval tv = {5, 0};
	pair(&c, &s);
	DO(pipe(p));
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(s, &r);
	FD_SET(e, &r);
	FD_SET(p[0], &r);
	FD_SET(s, &w);
	FD_SET(p[1], &w);
	int max = p[1] > e ? p[1] : e;
	DO(select(max + 1, &r, &w, NULL, &tv));
	say("r %d %d %d w %d %d", FD_ISSET(s, &r) != 0, FD_ISSET(e, &r) != 0,
	    FD_ISSET(p[0], &r) != 0, FD_ISSET(s, &w) != 0, FD_ISSET(p[1], &w) != 0);
}

BEHAVIOUR(mixed_epoll_kinds)
{
	int c, s, e = epoll_create1(0), t = timer_ms(60), v = eventfd(0, EFD_NONBLOCK), p[2];
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 0}, got[8];
	int fds[4];
	uint64_t one = 1;
	pair(&c, &s);
	DO(pipe(p));
	fds[0] = s;
	fds[1] = t;
	fds[2] = v;
	fds[3] = p[0];
	for (int i = 0; i < 4; i++) {
		ev.data.u32 = (uint32_t)i;
		DO(epoll_ctl(e, EPOLL_CTL_ADD, fds[i], &ev));
	}
	DO(epoll_wait(e, got, 8, 5000));
	say("timer %u", got[0].data.u32);
	DO(read(t, &one, sizeof(one)));
	one = 1;
	DO(write(v, &one, sizeof(one)));
	DO(write(p[1], "x", 1));
	send_all(c, "x", 1);
	await(s, POLLIN);
	int n = (int)DO(epoll_wait(e, got, 8, 5000));
	unsigned int which = 0;
	for (int i = 0; i < n; i++)
		which |= 1U << got[i].data.u32;
	say("which %#x", which);
	/* One at a time, each in its turn. */
	which = 0;
	for (int i = 0; i < 12; i++) {
		if (epoll_wait(e, got, 1, 0) == 1)
			which |= 1U << got[0].data.u32;
	}
	say("one at a time %#x", which);
}

/* Both always have something: neither is told less often for the other. */
BEHAVIOUR(mixed_epoll_tells_kernel_member_each_time)
{
	int c, s, e = epoll_create1(0), v = eventfd(5, EFD_SEMAPHORE);
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 0}, got[8];
	uint64_t one;
	int waits = 0, reads = 0;
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	ev.data.u32 = 1;
	DO(epoll_ctl(e, EPOLL_CTL_ADD, v, &ev));
	send_all(c, "x", 1);
	await(s, POLLIN);
	while (reads < 5 && waits < 100) {
		int n = epoll_wait(e, got, 8, 5000);
		for (int i = 0; i < n; i++)
			reads += got[i].data.u32 == 1 && read(v, &one, sizeof(one)) > 0;
		/* Counted from the first one on. */
		waits += reads > 0;
	}
	say("%d reads in %d waits", reads, waits);
}

BEHAVIOUR(mixed_signalfd)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN}, got[4];
	sigset_t set;
	pair(&c, &s);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int sfd = signalfd(-1, &set, 0);
	ev.data.u32 = 1;
	epoll_ctl(e, EPOLL_CTL_ADD, s, &ev);
	ev.data.u32 = 2;
	epoll_ctl(e, EPOLL_CTL_ADD, sfd, &ev);
	raise(SIGUSR1);
	DO(epoll_wait(e, got, 4, 5000));
	say("%u", got[0].data.u32);
}

/* --- epoll instances that travel --- */

static void wait_in_child(void *arg)
{
	struct epoll_event got;
	DO(epoll_wait(*(int *)arg, &got, 1, 5000));
	say("child: %#x %u", got.events, got.data.u32);
}

BEHAVIOUR(mixed_epoll_forked_then_data)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 7}, got;
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	pid_t pid = child(wait_in_child, &e);
	pause_ms(30);
	send_all(c, "x", 1);
	reap(pid);
	DO(epoll_wait(e, &got, 1, 5000));
	say("parent: %#x %u", got.events, got.data.u32);
	DO(recv(s, buf, 1, 0));
	DO(epoll_wait(e, &got, 1, 10));
}

static void close_in_child(void *arg)
{
	int *fds = arg;
	close(fds[0]);
	close(fds[1]);
}

BEHAVIOUR(mixed_epoll_child_closes_its_copies)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 7}, got;
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	int fds[2] = {e, s};
	reap(child(close_in_child, fds));
	send_all(c, "x", 1);
	DO(epoll_wait(e, &got, 1, 5000));
	say("parent: %#x %u", got.events, got.data.u32);
}

static void child_has_own(void *arg)
{
	int e = epoll_create1(0), s = *(int *)arg;
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u32 = 9}, got;
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	DO(epoll_wait(e, &got, 1, 5000));
	say("child: %#x %u", got.events, got.data.u32);
}

BEHAVIOUR(mixed_epoll_in_both)
{
	int c, s, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 7}, got;
	pair(&c, &s);
	DO(epoll_ctl(e, EPOLL_CTL_ADD, s, &ev));
	pid_t pid = child(child_has_own, &s);
	pause_ms(60);
	send_all(c, "x", 1);
	int n = epoll_wait(e, &got, 1, 5000);
	reap(pid);
	say("parent: %d %#x %u", n, got.events, got.data.u32);
}

/* --- prefork with epoll, as nginx --- */

static void worker(void *arg)
{
	int l = *(int *)arg, e = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE}, got;
	epoll_ctl(e, EPOLL_CTL_ADD, l, &ev);
	for (;;) {
		char b = 0;
		if (epoll_wait(e, &got, 1, 10000) != 1)
			_exit(1);
		int s = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		if (s < 0 && errno == EAGAIN)
			continue;
		if (s < 0 || recv(s, &b, 1, 0) != 1)
			_exit(2);
		if (b == 'q') {
			close(l);
			_exit(0);
		}
		send_all(s, &b, 1);
		close(s);
	}
}

BEHAVIOUR(mixed_prefork_exclusive)
{
	int l = listener(0), answers = 0;
	pid_t pids[3];
	set_nonblock(l);
	for (int i = 0; i < 3; i++)
		pids[i] = child(worker, &l);
	for (int i = 0; i < 40; i++) {
		int c = reach(0);
		char b = 'x';
		send_all(c, &b, 1);
		answers += recv(c, &b, 1, 0) == 1;
		close(c);
	}
	say("answers %d", answers);
	for (int i = 0; i < 3; i++)
		send_all(reach(0), "q", 1);
	for (int i = 0; i < 3; i++)
		reap(pids[i]);
}

static void *count_bytes(void *arg)
{
	char b[64];
	size_t total = 0;
	ssize_t n;
	while ((n = recv(*(int *)arg, b, sizeof(b), 0)) > 0)
		total += (size_t)n;
	return (void *)total;
}

BEHAVIOUR(mixed_readers_share_all)
{
	int c, s;
	pthread_t t[4];
	size_t total = 0;
	pair(&c, &s);
	for (int i = 0; i < 4; i++) {
		if (pthread_create(&t[i], NULL, count_bytes, &s) != 0)
			say("no thread");
	}
	for (int i = 0; i < 500; i++)
		send_all(c, "0123456789", 10);
	shutdown(c, SHUT_WR);
	for (int i = 0; i < 4; i++) {
		void *n;
		pthread_join(t[i], &n);
		total += (size_t)n;
	}
	say("total %zu", total);
}

/* --- processes by clone() --- */

static int cloned(void *arg)
{
	send_all(*(int *)arg, "cloned", 6);
	return 3;
}

BEHAVIOUR(mixed_clone)
{
	int c, s;
	static char stack[65536] __attribute__((aligned(16)));
	pair(&c, &s);
	pid_t pid = clone(cloned, stack + sizeof(stack), SIGCHLD, &s);
	say("%d", pid > 0);
	close(s);
	DO(recv(c, buf, 6, MSG_WAITALL));
	reap(pid);
	DO(recv(c, buf, 6, 0));
}

BEHAVIOUR(mixed_bare_fork)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = _Fork();
	if (pid == 0) {
		send_all(s, "bare", 4);
		_exit(0);
	}
	close(s);
	DO(recv(c, buf, 4, MSG_WAITALL));
	reap(pid);
	DO(recv(c, buf, 4, 0));
}

static void double_fork(void *arg)
{
	if (fork() == 0) {
		pause_ms(30);
		send_all(*(int *)arg, "orphan", 6);
		_exit(0);
	}
}

BEHAVIOUR(mixed_orphan_keeps_it)
{
	int c, s;
	pair(&c, &s);
	reap(child(double_fork, &s));
	close(s);
	DO(recv(c, buf, 6, MSG_WAITALL));
	DO(recv(c, buf, 6, 0));
}

/* --- libraries loaded at run time --- */

/* One that lies beside this program. */
static void *library(const char *name, int mode)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	while (n > 0 && path[n - 1] != '/')
		n--;
	if (n <= 0)
		return NULL;
	(void)snprintf(path + n, 32, "%s", name);
	void *handle = dlopen(path, mode);
	if (!handle)
		say("%s: %s", name, dlerror());
	return handle;
}

static void echo_by(const char *name, int mode)
{
	int c, s;
	int (*echo)(int);
	pair(&c, &s);
	*(void **)&echo = dlsym(library(name, mode), "library_echo");
	send_all(c, name, strlen(name));
	DO(echo(s));
	say_bytes("came", buf, (ssize_t)recv_all(c, buf, strlen(name)));
	close(s);
	DO(recv(c, buf, sizeof(buf), 0));
	close(c);
}

BEHAVIOUR(mixed_library)
{
	echo_by("parity-lazy.so", RTLD_LAZY);
	echo_by("parity-now.so", RTLD_NOW);
}

/* These look for libc's names in libc first. */
BEHAVIOUR(mixed_library_deepbind)
{
	echo_by("parity-lazy.so", RTLD_LAZY | RTLD_DEEPBIND);
	echo_by("parity-now.so", RTLD_NOW | RTLD_DEEPBIND);
	echo_by("parity-now.so", RTLD_LAZY | RTLD_GLOBAL | RTLD_DEEPBIND);
}

BEHAVIOUR_ALONE(mixed_library_opens_by_its_own_path)
{
	int (*opens)(const char *, int);
	*(void **)&opens = dlsym(library("parity-lazy.so", RTLD_LAZY), "library_opens");
	DO(opens("parity-now.so", RTLD_LAZY | RTLD_NOLOAD));
	DO(opens("parity-now.so", RTLD_LAZY));
	DO(opens("parity-now.so", RTLD_LAZY | RTLD_DEEPBIND));
	DO(opens("parity-none.so", RTLD_LAZY | RTLD_DEEPBIND));
	say("%d", dlerror() != NULL);
}

/* --- exec and flags --- */

BEHAVIOUR(mixed_exec_numbers)
{
	int c, s;
	char command[100];
	pair(&c, &s);
	int keep = fcntl(s, F_DUPFD, 60);
	int gone = fcntl(s, F_DUPFD_CLOEXEC, 60);
	say("%d %d", keep, gone);
	fcntl(s, F_SETFD, FD_CLOEXEC);
	fcntl(c, F_SETFD, FD_CLOEXEC);
	(void)snprintf(command, sizeof(command),
		       "echo kept >&%d; (echo gone >&%d) 2>/dev/null || echo no >&%d", keep, gone,
		       keep);
	pid_t pid = fork();
	if (pid == 0) {
		execlp("bash", "bash", "-c", command, NULL);
		_exit(127);
	}
	close(s);
	close(keep);
	close(gone);
	ssize_t n = (ssize_t)recv_all(c, buf, 100);
	say_bytes("came", buf, n);
	reap(pid);
}

/* --- sleeping calls and descriptors that end --- */

static void *poll_it(void *arg)
{
	struct pollfd p = {*(int *)arg, POLLIN, 0};
	int n = poll(&p, 1, 3000);
	say("poll %d %#x", n, (unsigned)p.revents);
	return NULL;
}

BEHAVIOUR(mixed_poll_sees_peer_death)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	close(s);
	pthread_t t = thread(poll_it, &c);
	let_sleep();
	kill(pid, SIGKILL);
	join(t);
	reap(pid);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(mixed_listener_in_poll_and_accept)
{
	int l = listener(0);
	set_nonblock(l);
	struct pollfd p = {l, POLLIN, 0};
	DO(poll(&p, 1, 10));
	int c = reach(0);
	DO(poll(&p, 1, 5000));
	int s = accept(l, NULL, NULL);
	say("%d", s >= 0);
	DO(poll(&p, 1, 10));
	say_mask("listener", l);
	close(c);
	close(s);
}

BEHAVIOUR(mixed_many_in_poll)
{
	static struct pollfd p[400];
	int c[200], s[200], ready = 0;
	for (int i = 0; i < 200; i++) {
		pair(&c[i], &s[i]);
		p[2 * i] = (struct pollfd){c[i], POLLIN, 0};
		p[2 * i + 1] = (struct pollfd){s[i], POLLIN, 0};
	}
	DO(poll(p, 400, 0));
	for (int i = 0; i < 200; i += 2)
		send_all(c[i], "x", 1);
	for (int i = 0; i < 200; i += 2)
		await(s[i], POLLIN);
	DO(poll(p, 400, 1000));
	for (int i = 0; i < 400; i++)
		ready += p[i].revents == POLLIN;
	say("ready %d", ready);
}
