/* select() with numbers and sets that programs get wrong, and what only poll() is told of. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "parity.h"

static char buf[64];

/* A set that ends where the memory ends; what lies before it must stay as it was. */
static fd_set *set_at_end(void)
{
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (two == MAP_FAILED || mprotect(two + 4096, 4096, PROT_NONE) != 0)
		exit(1);
	return (fd_set *)(void *)(two + 4096 - sizeof(fd_set));
}

/* Programs say getdtablesize(), and have sets of FD_SETSIZE. */
BEHAVIOUR(ready_select_table_size)
{
	int c, s;
	fd_set *set = set_at_end();
	struct timeval now = {0, 0};
	struct timespec none = {0, 0};
	struct rlimit many = {4096, 4096};
	setrlimit(RLIMIT_NOFILE, &many);
	pair(&c, &s);
	send_all(c, "x", 1);
	await(s, POLLIN);
	FD_ZERO(set);
	FD_SET(s, set);
	DO(select(getdtablesize(), set, NULL, NULL, &now));
	say("told %d %d", FD_ISSET(s, set), FD_ISSET(c, set));
	DO(pselect(getdtablesize(), set, NULL, NULL, &none, NULL));
	DO(select(1 << 20, NULL, NULL, set, &now));
	say("told %d", FD_ISSET(s, set));
	FD_SET(c, set);
	DO(select(1 << 30, NULL, set, NULL, &now));
	say("told %d %d", FD_ISSET(s, set), FD_ISSET(c, set));
}

/* A larger set, as its program's descriptors are. */
BEHAVIOUR(ready_select_large_set)
{
	int c, s;
	fd_set sets[4];
	struct timeval now = {0, 0};
	struct rlimit many = {4096, 4096};
	setrlimit(RLIMIT_NOFILE, &many);
	pair(&c, &s);
	send_all(c, "x", 1);
	await(s, POLLIN);
	int high = (int)DO(fcntl(s, F_DUPFD, 2500));
	for (int i = 0; i < 2; i++) {
		memset(sets, 0, sizeof(sets));
		((unsigned long *)sets)[high / 64] |= 1UL << high % 64;
		DO(select(i ? 4096 : high + 1, sets, NULL, NULL, &now));
		say("told %d", (int)(((unsigned long *)sets)[high / 64] >> high % 64 & 1));
	}
}

BEHAVIOUR(ready_select_bad_pointers)
{
	int c, s;
	struct timeval now = {0, 0};
	struct timespec bad = {0, -1};
	fd_set set;
	pair(&c, &s);
	FD_ZERO(&set);
	DO(select(s + 1, (fd_set *)8, NULL, NULL, &now));
	DO(select(0, (fd_set *)8, NULL, NULL, &now));
	DO(pselect(s + 1, &set, NULL, NULL, &bad, NULL));
	DO(poll((struct pollfd *)8, 1, 0));
	DO(poll((struct pollfd *)-4096, 1, 0));
	DO(poll(NULL, 0, 0));
	DO(poll((struct pollfd *)8, 1UL << 40, 0));
}

/* What a thread asleep in the kernel is, and one that turns is not. */
static void await_asleep(const char *thread)
{
	char path[64], line[256];
	for (int i = 0, in_row = 0; i < 1000 && in_row < 5; i++) {
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/stat", thread);
		FILE *f = fopen(path, "r");
		if (!f || !fgets(line, sizeof(line), f))
			exit(1);
		fclose(f);
		in_row = strchr(line, ')')[2] == 'S' ? in_row + 1 : 0;
		if (in_row == 5)
			say("asleep");
		pause_ms(5);
	}
}

struct sleeper {
	int wake[2];
	int s;
	char tid[16];
	_Atomic int runs;
};

static void *select_other_events(void *arg)
{
	struct sleeper *w = arg;
	fd_set r, x;
	(void)snprintf(w->tid, sizeof(w->tid), "%ld", syscall(SYS_gettid));
	w->runs = 1;
	FD_ZERO(&r);
	FD_ZERO(&x);
	FD_SET(w->wake[0], &r);
	FD_SET(w->s, &x);
	DO(select(w->s + 1, &r, NULL, &x, NULL));
	say("told %d %d", FD_ISSET(w->wake[0], &r), FD_ISSET(w->s, &x));
	return NULL;
}

/* The peer's end is nothing that the third set is for: it sleeps, and does not turn. */
BEHAVIOUR(ready_select_sleeps_over_hup)
{
	int c;
	struct sleeper w = {.runs = 0};
	if (pipe(w.wake) != 0)
		exit(1);
	pair(&c, &w.s);
	shutdown(w.s, SHUT_WR);
	close(c);
	await(w.s, POLLHUP);
	pthread_t t = thread(select_other_events, &w);
	while (!w.runs)
		pause_ms(1);
	await_asleep(w.tid);
	DO(write(w.wake[1], buf, 1));
	join(t);
}

struct poller {
	struct pollfd p[2];
	_Atomic int runs;
};

static void *poll_both(void *arg)
{
	struct poller *w = arg;
	w->runs = 1;
	if (poll(w->p, 2, -1) < 1)
		exit(1);
	return NULL;
}

static void send_byte(int fd)
{
	if (write(fd, buf, 1) != 1)
		exit(1);
}

static void *recv_one(void *arg)
{
	char byte;
	if (recv(*(int *)arg, &byte, 1, 0) != 1)
		exit(1);
	return NULL;
}

/* A number that is closed, and another connection's, while a thread polls it: who reads that one is woken all the same. */
BEHAVIOUR(ready_poll_number_of_another)
{
	for (int round = 0; round < 30; round++) {
		struct poller w = {.runs = 0};
		int c, s, c2, s2, wake[2];
		pthread_t t[4];
		if (pipe(wake) != 0)
			exit(1);
		pair(&c, &s);
		w.p[0] = (struct pollfd){.fd = wake[0], .events = POLLIN};
		w.p[1] = (struct pollfd){.fd = s, .events = POLLIN};
		t[0] = thread(poll_both, &w);
		while (!w.runs)
			pause_ms(1);
		pause_ms(10);
		pair(&c2, &s2);
		if (dup2(s2, s) != s)
			exit(1);
		close(s2);
		if (round % 2 == 0)
			send_byte(wake[1]);
		for (int i = 1; i < 4; i++)
			pthread_create(&t[i], NULL, recv_one, &s);
		pause_ms(10);
		if (round % 2)
			send_byte(wake[1]);
		for (int i = 1; i < 4; i++) {
			send_all(c2, "x", 1);
			pause_ms(2);
		}
		join(t[0]);
		for (int i = 1; i < 4; i++)
			pthread_join(t[i], NULL);
		close(c);
		close(c2);
		close(s);
		close(wake[0]);
		close(wake[1]);
	}
	say("all read");
}

static void *select_both(void *arg)
{
	const int *fd = arg;
	fd_set r, w;
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(fd[0], &r);
	FD_SET(fd[1], &r);
	DO(select((fd[0] > fd[1] ? fd[0] : fd[1]) + 1, &r, NULL, NULL, NULL));
	say("the one that was closed %d, the other %d", FD_ISSET(fd[1], &r) != 0,
	    FD_ISSET(fd[0], &r) != 0);
	FD_ZERO(&r);
	FD_SET(fd[1], &r);
	DO(select(fd[1] + 1, &r, &w, NULL, NULL));
	return NULL;
}

BEHAVIOUR(select_number_closed_meanwhile)
{
	int c, s, other[2];
	pair(&c, &s);
	socketpair(AF_UNIX, SOCK_STREAM, 0, other);
	int fd[2] = {other[0], s};
	pthread_t t = thread(select_both, fd);
	let_sleep();
	close(s);
	/* It looks at both again when it is woken by one. */
	DO(write(other[1], "x", 1));
	join(t);
}
