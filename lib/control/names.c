#include "control/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/map.h"
#include "base/thread.h"

#define IDLE INT64_MAX

/* Never forgotten: hosts that come and go are few. */
struct name {
	TAILQ_ENTRY(name) link;
	char *host;
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];
	uint32_t n;
	uint32_t load;	   /* the last one that spoke of it */
	uint32_t failures; /* since the last answer */
	int64_t due_ms;	   /* IDLE: the last load did not speak of it */
	bool asked;	   /* at least once */
};

struct flat_names {
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t woken; /* for the thread */
	pthread_cond_t told;  /* by it */
	TAILQ_HEAD(, name) all;
	struct flat_map by_host;
	pthread_t thread;
	int fd;
	uint32_t load;
	uint32_t refresh_ms;
	bool running;
	bool ends;
	struct flat_thread_end end;
	bool changed; /* and not told yet */
};

/* --- one question --- */

struct answer {
	struct flat_ip v[FLAT_NAME_ADDRS_MAX];
	uint32_t n;
	int error; /* EAI_... */
};

static int by_bytes(const void *a, const void *b)
{
	const struct flat_ip *x = a;
	const struct flat_ip *y = b;

	return memcmp(x->bytes, y->bytes, sizeof(x->bytes));
}

static void take(struct answer *a, const struct addrinfo *found, int family)
{
	for (; found && a->n < FLAT_NAME_ADDRS_MAX; found = found->ai_next) {
		struct flat_ip *ip = &a->v[a->n];

		if (found->ai_family != family)
			continue;
		if (family == AF_INET) {
			const struct sockaddr_in *in = (const void *)found->ai_addr;
			*ip = flat_ip_from_v4(ntohl(in->sin_addr.s_addr));
		} else {
			const struct sockaddr_in6 *in = (const void *)found->ai_addr;
			ip->family = AF_INET6;
			memcpy(ip->bytes, &in->sin6_addr, sizeof(in->sin6_addr));
		}
		a->n++;
	}
}

/* Blocks for as long as the resolver wants. */
static void ask(const char *host, struct answer *a)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *found = NULL;

	memset(a, 0, sizeof(*a));
	a->error = getaddrinfo(host, NULL, &hints, &found);
	if (a->error != 0)
		return;
	take(a, found, AF_INET);
	if (a->n == 0)
		take(a, found, AF_INET6);
	freeaddrinfo(found);
	qsort(a->v, a->n, sizeof(a->v[0]), by_bytes);
}

/* --- the thread --- */

static struct name *soonest(struct flat_names *names)
{
	struct name *best = TAILQ_FIRST(&names->all);
	struct name *name;

	TAILQ_FOREACH(name, &names->all, link)
	{
		if (name->due_ms < best->due_ms)
			best = name;
	}
	return best;
}

static void tell(struct flat_names *names)
{
	uint64_t one = 1;

	if (names->changed)
		(void)!write(names->fd, &one, sizeof(one));
	names->changed = false;
	pthread_cond_broadcast(&names->told);
}

static void note(struct flat_names *names, struct name *name, const struct answer *a)
{
	uint64_t wait = names->refresh_ms;

	if (a->error != 0 || a->n == 0) {
		if (name->failures++ == 0)
			flat_warn("the name %s of a service is not resolved: %s%s", name->host,
				  a->error ? gai_strerror(a->error) : "it has no address",
				  name->n ? "; its addresses before stay" : "");
		if (name->failures < 16)
			wait = flat_min_size(wait,
					     (uint64_t)FLAT_NAMES_RETRY_MS << (name->failures - 1));
	} else {
		name->failures = 0;
		if (a->n != name->n || memcmp(a->v, name->v, sizeof(a->v)) != 0) {
			memcpy(name->v, a->v, sizeof(a->v));
			name->n = a->n;
			names->changed = true;
		}
	}
	name->asked = true;
	if (name->due_ms != IDLE)
		name->due_ms = flat_now_ms() + (int64_t)wait;
}

/* Asks for one name, without the lock. */
static void look_up(struct flat_names *names, struct name *name)
{
	struct answer a;

	pthread_mutex_unlock(&names->lock);
	ask(name->host, &a);
	pthread_mutex_lock(&names->lock);
	note(names, name, &a);
}

static void free_all(struct flat_names *names)
{
	struct name *name, *next;

	for (name = TAILQ_FIRST(&names->all); name; name = next) {
		next = TAILQ_NEXT(name, link);
		free(name->host);
		free(name);
	}
	flat_map_fini(&names->by_host);
	pthread_cond_destroy(&names->woken);
	pthread_cond_destroy(&names->told);
	pthread_mutex_destroy(&names->lock);
	close(names->fd);
	free(names);
}

static void *run(void *arg)
{
	struct flat_names *names = arg;

	pthread_mutex_lock(&names->lock);
	while (!names->ends) {
		struct name *next = soonest(names);

		if (next && next->due_ms == IDLE)
			next = NULL;
		if (next && next->due_ms <= flat_now_ms()) {
			look_up(names, next);
			continue;
		}
		/* Many that change together are one change. */
		tell(names);
		if (next) {
			struct timespec until = flat_timespec_of_ms(next->due_ms);
			pthread_cond_timedwait(&names->woken, &names->lock, &until);
		} else {
			pthread_cond_wait(&names->woken, &names->lock);
		}
	}
	pthread_mutex_unlock(&names->lock);
	if (flat_thread_over(&names->lock, &names->end))
		free_all(names);
	return NULL;
}

static int start(struct flat_names *names)
{
	int err;

	if (names->running) {
		pthread_cond_signal(&names->woken);
		return 0;
	}
	err = flat_thread_start(&names->thread, NULL, run, names);
	names->running = err == 0;
	return err;
}

/* --- what others call --- */

int flat_names_open(struct flat_names **out)
{
	struct flat_names *names = calloc(1, sizeof(*names));
	pthread_condattr_t attr;

	if (!names)
		return -ENOMEM;
	names->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (names->fd < 0) {
		int err = -errno;
		free(names);
		return err;
	}
	(void)pthread_mutex_init(&names->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&names->woken, &attr);
	(void)pthread_cond_init(&names->told, &attr);
	(void)pthread_condattr_destroy(&attr);
	TAILQ_INIT(&names->all);
	names->refresh_ms = FLAT_NAMES_REFRESH_MS;
	*out = names;
	return 0;
}

void flat_names_close(struct flat_names *names)
{
	if (!names)
		return;
	pthread_mutex_lock(&names->lock);
	names->ends = true;
	pthread_cond_signal(&names->woken);
	pthread_mutex_unlock(&names->lock);
	if (!names->running ||
	    flat_thread_leave(names->thread, &names->lock, &names->end, FLAT_RESOLVER_END_MS))
		free_all(names);
}

int flat_names_fd(const struct flat_names *names)
{
	return names->fd;
}

bool flat_names_changed(struct flat_names *names)
{
	uint64_t count;

	return read(names->fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static struct name *add(struct flat_names *names, const char *host)
{
	struct name *name = calloc(1, sizeof(*name));

	if (name)
		name->host = strdup(host);
	if (!name || !name->host || flat_map_put_str(&names->by_host, name->host, name) != 0) {
		if (name)
			free(name->host);
		free(name);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&names->all, name, link);
	return name;
}

int flat_names_get(struct flat_names *names, const char *host, struct flat_ip *v)
{
	struct name *name;
	int n = -ENOMEM;

	pthread_mutex_lock(&names->lock);
	name = flat_map_get_str(&names->by_host, host);
	if (!name)
		name = add(names, host);
	if (name && (name->due_ms == IDLE || !name->asked)) {
		name->due_ms = flat_now_ms();
		/* Without a thread it is nowhere resolved, and the next load tries again. */
		if (start(names) != 0)
			flat_warn("names of services are not resolved: no thread is to be had");
	}
	if (name) {
		name->load = names->load;
		memcpy(v, name->v, sizeof(name->v));
		n = (int)name->n;
	}
	pthread_mutex_unlock(&names->lock);
	return n;
}

void flat_names_begin(struct flat_names *names)
{
	pthread_mutex_lock(&names->lock);
	names->load++;
	pthread_mutex_unlock(&names->lock);
}

void flat_names_settle(struct flat_names *names, uint32_t refresh_ms)
{
	struct name *name;

	pthread_mutex_lock(&names->lock);
	names->refresh_ms = refresh_ms ? refresh_ms : FLAT_NAMES_REFRESH_MS;
	TAILQ_FOREACH(name, &names->all, link)
	{
		if (name->load != names->load)
			name->due_ms = IDLE;
	}
	pthread_mutex_unlock(&names->lock);
}

static bool all_asked(const struct flat_names *names)
{
	const struct name *name;

	TAILQ_FOREACH(name, &names->all, link)
	{
		if (!name->asked && name->due_ms != IDLE)
			return false;
	}
	return true;
}

void flat_names_wait(struct flat_names *names, uint32_t ms)
{
	struct timespec until = flat_timespec_of_ms(flat_now_ms() + ms);
	int err = 0;

	pthread_mutex_lock(&names->lock);
	while (err == 0 && names->running && !all_asked(names))
		err = pthread_cond_timedwait(&names->told, &names->lock, &until);
	pthread_mutex_unlock(&names->lock);
}
