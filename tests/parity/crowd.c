/*
 * Several threads that wait on one epoll instance: while one of them is busy with what it was told, what comes is told
 * to another. Waits have no time limit: at the end of one an instance is looked at again, which would find what nobody
 * was woken for.
 */
#include <semaphore.h>
#include <sys/eventfd.h>

#include "parity.h"

static int instance;
static int own[2];   /* the ends that are watched */
static int peers[2]; /* theirs */
static int rounds;
static sem_t go_on; /* posted for a thread that shall come back from its work */
static sem_t took;
static _Atomic int taken;

static void watch(int e, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};
	if (epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev) < 0)
		say("epoll_ctl: %s", error_name(errno));
}

static void begin(uint32_t events)
{
	instance = epoll_create1(0);
	for (int i = 0; i < 2; i++) {
		pair(&peers[i], &own[i]);
		set_nonblock(own[i]);
		watch(instance, own[i], events);
	}
	sem_init(&go_on, 0, 0);
	sem_init(&took, 0, 0);
}

/* One event, whose bytes stay where they are. */
static void *told_once(void *arg)
{
	struct epoll_event ev;
	int n = epoll_wait(instance, &ev, 1, -1);
	(void)arg;
	if (n == 1)
		taken |= ev.data.fd == own[0] ? 1 : 2;
	say("epoll_wait %d", n);
	return NULL;
}

/* As one of a pool: waits, reads, and works until it is told to go on. */
static void *worker(void *arg)
{
	int *e = arg;
	for (int left = rounds; left > 0;) {
		struct epoll_event ev;
		char byte;
		int n = epoll_wait(*e, &ev, 1, -1);
		if (n != 1 || recv(own[0], &byte, 1, 0) != 1)
			continue;
		left--;
		sem_post(&took);
		sem_wait(&go_on);
	}
	return NULL;
}

/* A byte for each of two that wait; the second comes while the first one is worked on. */
static void two_workers(int *first, int *second)
{
	rounds = 1;
	pthread_t a = thread(worker, first);
	pthread_t b = thread(worker, second);
	for (int i = 0; i < 2; i++) {
		let_sleep();
		send_all(peers[0], "x", 1);
		sem_wait(&took);
		say("byte %d", i);
	}
	sem_post(&go_on);
	sem_post(&go_on);
	join(a);
	join(b);
}

BEHAVIOUR(crowd_level_while_one_works)
{
	begin(EPOLLIN);
	two_workers(&instance, &instance);
}

BEHAVIOUR(crowd_edge_while_one_works)
{
	begin(EPOLLIN | EPOLLET);
	two_workers(&instance, &instance);
}

/* Two that sleep, and two members that become ready. */
static void one_each(uint32_t events)
{
	begin(events);
	pthread_t a = thread(told_once, NULL);
	pthread_t b = thread(told_once, NULL);
	let_sleep();
	send_all(peers[0], "x", 1);
	send_all(peers[1], "x", 1);
	join(a);
	join(b);
	say("told of %d", taken);
}

BEHAVIOUR(crowd_edges_go_to_one_each)
{
	one_each(EPOLLIN | EPOLLET);
}

BEHAVIOUR(crowd_oneshots_go_to_one_each)
{
	one_each(EPOLLIN | EPOLLONESHOT);
}

BEHAVIOUR(crowd_level_wakes_all)
{
	begin(EPOLLIN);
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		t[i] = thread(told_once, NULL);
	let_sleep();
	send_all(peers[0], "x", 1);
	for (int i = 0; i < 4; i++)
		join(t[i]);
}

static void *poller(void *arg)
{
	struct pollfd p = {.fd = instance, .events = POLLIN};
	(void)arg;
	say("poll %d", poll(&p, 1, -1));
	return NULL;
}

BEHAVIOUR(crowd_poll_and_epoll_wait)
{
	begin(EPOLLIN);
	pthread_t a = thread(told_once, NULL);
	pthread_t b = thread(poller, NULL);
	let_sleep();
	send_all(peers[0], "x", 1);
	join(a);
	join(b);
}

BEHAVIOUR(crowd_looks_beside_a_sleeper)
{
	struct epoll_event ev;
	char byte;
	begin(EPOLLIN);
	pthread_t t = thread(told_once, NULL);
	let_sleep();
	say("epoll_wait %d", epoll_wait(instance, &ev, 1, 0));
	say("epoll_wait %d", epoll_wait(instance, &ev, 1, 30));
	watch(instance, peers[0], EPOLLIN);
	send_all(own[0], "x", 1);
	join(t);
	say("recv %zd", recv(peers[0], &byte, 1, 0));
	t = thread(told_once, NULL);
	let_sleep();
	say("epoll_wait %d", epoll_wait(instance, &ev, 1, 30));
	say("epoll_wait %d", epoll_wait(instance, &ev, 1, 0));
	send_all(peers[0], "x", 1);
	join(t);
}

BEHAVIOUR(crowd_inside_while_one_works)
{
	begin(EPOLLIN);
	int outer = epoll_create1(0);
	watch(outer, instance, EPOLLIN);
	two_workers(&outer, &instance);
}

BEHAVIOUR(crowd_nested_edges_go_to_one_each)
{
	int inner[2];
	begin(EPOLLIN);
	for (int i = 0; i < 2; i++) {
		inner[i] = epoll_create1(0);
		watch(inner[i], own[i], EPOLLIN);
	}
	int members = instance;
	instance = epoll_create1(0);
	for (int i = 0; i < 2; i++)
		watch(instance, inner[i], EPOLLIN | EPOLLET);
	close(members);
	pthread_t a = thread(told_once, NULL);
	pthread_t b = thread(told_once, NULL);
	let_sleep();
	send_all(peers[0], "x", 1);
	send_all(peers[1], "x", 1);
	join(a);
	join(b);
}

/* What is inside was told of, and is still there: no reason to look again and again. */
BEHAVIOUR(crowd_nested_edge_sleeps)
{
	begin(EPOLLIN);
	int outer = epoll_create1(0);
	struct pollfd p = {.fd = outer, .events = POLLIN};
	struct epoll_event ev;
	watch(outer, instance, EPOLLIN | EPOLLET);
	send_all(peers[0], "x", 1);
	await_bytes(own[0], 1);
	say("poll %d", poll(&p, 1, 1000));
	say("epoll_wait %d", epoll_wait(outer, &ev, 1, 1000));
	say("poll %d", poll(&p, 1, 0));
	say("epoll_wait %d", epoll_wait(outer, &ev, 1, 0));
	count_signal(SIGALRM, 0);
	alarm(1);
	say("epoll_wait %d", epoll_wait(outer, &ev, 1, -1));
	say("%s", error_name(errno));
	pthread_t t = thread(poller, NULL);
	join(t);
	send_all(peers[0], "x", 1);
	say("epoll_wait %d", epoll_wait(outer, &ev, 1, 1000));
}

/* --- sleepers from before an instance had a socket: of the kernel's it had an event descriptor, as loops are woken by --- */

static void begin_without(void)
{
	instance = epoll_create1(0);
	watch(instance, eventfd(0, 0), EPOLLIN);
	pair(&peers[0], &own[0]);
}

BEHAVIOUR(crowd_first_member_while_one_sleeps)
{
	begin_without();
	pthread_t t = thread(told_once, NULL);
	let_sleep();
	watch(instance, own[0], EPOLLOUT | EPOLLONESHOT);
	join(t);
	say("%x", (unsigned)taken);
}

BEHAVIOUR(crowd_first_members_while_two_sleep)
{
	begin_without();
	pthread_t a = thread(told_once, NULL);
	pthread_t b = thread(told_once, NULL);
	let_sleep();
	watch(instance, own[0], EPOLLOUT | EPOLLONESHOT);
	let_sleep();
	watch(instance, peers[0], EPOLLOUT | EPOLLONESHOT);
	join(a);
	join(b);
	say("%x", (unsigned)taken);
}

BEHAVIOUR(crowd_first_member_gets_data_while_one_sleeps)
{
	begin_without();
	pthread_t t = thread(told_once, NULL);
	let_sleep();
	watch(instance, own[0], EPOLLIN);
	let_sleep();
	send_all(peers[0], "x", 1);
	join(t);
	say("%x", (unsigned)taken);
}

BEHAVIOUR(crowd_first_member_while_one_polls)
{
	begin_without();
	pthread_t t = thread(poller, NULL);
	let_sleep();
	watch(instance, own[0], EPOLLOUT);
	join(t);
}
