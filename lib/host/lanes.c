/*
 * The lanes that this process has mapped, each once, by the offload half's number of it. A lane that no socket of ours
 * uses stays for a while, since its peer may connect again; then it is unmapped, and the offload half is told if the
 * lane was made for us. A server thus does not keep the memory of every client it ever had. Where a new one finds no
 * room (RLIMIT_AS), a server's go at once, but for those that a thread may still look at.
 */
#include "host/lanes.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "base/clock.h"
#include "host/quiet.h"

/* Buckets of the table: servers of many short-lived clients have hundreds of lanes. */
#define BUCKETS 256
/* Unused lanes are kept so long, ms; and from the second number on only as long as the third. A thread that still
 * looks at a socket which another one closed looks for microseconds. */
#define IDLE_MS 2000
#define IDLE_MANY 16
#define IDLE_MANY_MS 50

LIST_HEAD(bucket, flat_lane_use);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bucket buckets[BUCKETS];
static TAILQ_HEAD(, flat_lane_use) idle = TAILQ_HEAD_INITIALIZER(idle); /* oldest first */
static uint32_t n_idle;

static struct bucket *bucket_of(uint64_t id)
{
	return &buckets[id % BUCKETS];
}

static struct flat_lane_use *find(uint64_t id)
{
	struct flat_lane_use *u;
	LIST_FOREACH(u, bucket_of(id), link)
	{
		if (u->id == id)
			return u;
	}
	return NULL;
}

static void set_idle(struct flat_lane_use *u, bool on)
{
	if (u->idle == on)
		return;
	u->idle = on;
	if (on) {
		u->since_ms = flat_now_coarse_ms();
		TAILQ_INSERT_TAIL(&idle, u, idle_link);
		n_idle++;
	} else {
		TAILQ_REMOVE(&idle, u, idle_link);
		n_idle--;
	}
}

static void unmap(struct flat_lane_use *u)
{
	set_idle(u, false);
	LIST_REMOVE(u, link);
	flat_lane_unmap(&u->lane);
	free(u);
}

/* Unmaps a server's lane that nobody looks at any more; not a client's, of which the offload half has to be told. */
static bool make_room(void)
{
	struct flat_lane_use *u;
	TAILQ_FOREACH(u, &idle, idle_link)
	{
		if (u->side == FLAT_SIDE_SERVER &&
		    flat_now_coarse_ms() - u->since_ms > IDLE_MANY_MS) {
			unmap(u);
			return true;
		}
	}
	return false;
}

/* Found, or mapped from lane_fd if there is one. */
static struct flat_lane_use *find_or_map(const struct flat_msg_conn *m, int lane_fd)
{
	if (!flat_lane_geometry_valid(&m->geo) || m->slot >= m->geo.slots || m->side > 1)
		return NULL;
	struct flat_lane_use *u = find(m->lane_id);
	if (!u && lane_fd >= 0) {
		u = calloc(1, sizeof(*u));
		int err = u ? flat_lane_map(&u->lane, lane_fd, &m->geo, 1) : -ENOMEM;
		while (u && err == -ENOMEM && make_room())
			err = flat_lane_map(&u->lane, lane_fd, &m->geo, 1);
		if (err != 0) {
			free(u);
			return NULL;
		}
		u->id = m->lane_id;
		u->side = m->side;
		LIST_INSERT_HEAD(bucket_of(u->id), u, link);
		set_idle(u, true);
	}
	/* A process may be its own peer: what the offload half counts on is the client's mapping. */
	if (u && m->side == FLAT_SIDE_CLIENT)
		u->side = FLAT_SIDE_CLIENT;
	return u && memcmp(&u->lane.geo, &m->geo, sizeof(m->geo)) == 0 ? u : NULL;
}

void flat_lane_expect(const struct flat_msg_conn *m, int lane_fd)
{
	flat_quiet_lock(&lock);
	struct flat_lane_use *u = find_or_map(m, lane_fd);
	if (u && u->idle) {
		/* Somebody is about to use it: it is the youngest. */
		set_idle(u, false);
		set_idle(u, true);
	}
	flat_quiet_unlock(&lock);
}

struct flat_lane_use *flat_lane_use(const struct flat_msg_conn *m, int lane_fd)
{
	flat_quiet_lock(&lock);
	struct flat_lane_use *u = find_or_map(m, lane_fd);
	if (u) {
		set_idle(u, false);
		u->refs++;
	}
	flat_quiet_unlock(&lock);
	return u;
}

uint32_t flat_lane_nap(struct flat_lane_use *u, struct flat_lane_side *mine, const void *waiter)
{
	const void **napper = u->napper[flat_lane_side_of(&u->lane, mine)];
	uint32_t nap = 0;
	flat_quiet_lock(&lock);
	for (uint32_t i = 0; i < FLAT_NAPS_MAX && nap == 0; i++)
		nap = napper[i] == waiter ? i + 1 : 0;
	if (nap == 0)
		nap = flat_lane_nap_new(mine);
	if (nap)
		napper[nap - 1] = waiter;
	flat_quiet_unlock(&lock);
	return nap;
}

static bool is_old(const struct flat_lane_use *u)
{
	return flat_now_coarse_ms() - u->since_ms > (n_idle > IDLE_MANY ? IDLE_MANY_MS : IDLE_MS);
}

void flat_lane_unuse(struct flat_lane_use *u)
{
	flat_quiet_lock(&lock);
	if (--u->refs == 0)
		set_idle(u, true);
	/* A server's comes with each connection again; a client's goes when it connects (session.c). */
	u = TAILQ_FIRST(&idle);
	if (u && u->side == FLAT_SIDE_SERVER && is_old(u))
		unmap(u);
	flat_quiet_unlock(&lock);
}

bool flat_lane_old(uint64_t *id, bool *ours)
{
	flat_quiet_lock(&lock);
	struct flat_lane_use *u = TAILQ_FIRST(&idle);
	bool old = u && is_old(u);
	if (old) {
		*id = u->id;
		*ours = u->side == FLAT_SIDE_CLIENT;
	}
	flat_quiet_unlock(&lock);
	return old;
}

void flat_lane_forget(uint64_t id)
{
	flat_quiet_lock(&lock);
	struct flat_lane_use *u = find(id);
	if (u && u->idle)
		unmap(u);
	flat_quiet_unlock(&lock);
}

void flat_lanes_forked(void)
{
	struct flat_lane_use *u;
	pthread_mutex_init(&lock, NULL);
	for (uint32_t i = 0; i < BUCKETS; i++) {
		LIST_FOREACH(u, &buckets[i], link)
		{
			memset(u->napper, 0, sizeof(u->napper));
		}
	}
}
