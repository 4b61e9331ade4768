#include "offload/telling.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/map.h"
#include "offload/bucket.h"
#include "offload/offload.h"

/* Bytes of a line, as the log cuts it. */
#define LINE_MAX_BYTES 1000

/* Owner: under `lock`. */
struct slot {
	struct flat_bucket bucket;
	uint64_t left_out;
	enum flat_log_level level;	/* of the line that was left out last */
	char key[FLAT_TELLING_KEY_MAX]; /* of the first one */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[FLAT_TELLING_SLOTS];
static uint32_t n_waiting; /* slots with left_out */

/* A bucket counts whole tokens a second: its seconds are so long. */
static int64_t now_slow(void)
{
	return flat_now_us() / FLAT_TELLING_EVERY_S;
}

static void tell_left_out(struct slot *slot)
{
	if (slot->left_out == 0)
		return;
	flat_log(slot->level, "%llu lines were left out: %s", (unsigned long long)slot->left_out,
		 slot->key);
	slot->left_out = 0;
	n_waiting--;
}

void flat_telling_fini(void)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < FLAT_TELLING_SLOTS; i++)
		tell_left_out(&slots[i]);
	memset(slots, 0, sizeof(slots));
	pthread_mutex_unlock(&lock);
}

/* Whether the line is written; `lock` is held. */
static bool may_tell(enum flat_log_level level, const char *key)
{
	struct slot *slot = &slots[flat_hash(key, strlen(key)) % FLAT_TELLING_SLOTS];
	int64_t now = now_slow();
	if (slot->bucket.burst == 0)
		flat_bucket_init(&slot->bucket, 1, FLAT_TELLING_BURST, now);
	if (flat_bucket_take(&slot->bucket, now)) {
		tell_left_out(slot);
		return true;
	}
	if (slot->left_out++ == 0) {
		n_waiting++;
		memcpy(slot->key, key, sizeof(slot->key));
	}
	slot->level = level;
	return false;
}

void flat_tell(enum flat_log_level level, const char *kind, const char *account, const char *fmt,
	       ...)
{
	char key[FLAT_TELLING_KEY_MAX];
	char line[LINE_MAX_BYTES];
	va_list ap;
	if (!flat_log_wants(level))
		return;
	snprintf(key, sizeof(key), "%.50s of %.100s", kind, account);
	pthread_mutex_lock(&lock);
	if (may_tell(level, key)) {
		va_start(ap, fmt);
		vsnprintf(line, sizeof(line), fmt, ap);
		va_end(ap);
		flat_log(level, "%s", line);
	}
	pthread_mutex_unlock(&lock);
}

int flat_telling_wait_ms(void)
{
	int64_t now = now_slow();
	int64_t wait = INT64_MAX;
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; n_waiting && i < FLAT_TELLING_SLOTS; i++) {
		struct slot *slot = &slots[i];
		if (slot->left_out == 0)
			continue;
		if (flat_bucket_take(&slot->bucket, now))
			tell_left_out(slot);
		else if (flat_bucket_wait_us(&slot->bucket) < wait)
			wait = flat_bucket_wait_us(&slot->bucket);
	}
	int ms = n_waiting ? (int)(wait * FLAT_TELLING_EVERY_S / 1000) + 1 : -1;
	pthread_mutex_unlock(&lock);
	return ms;
}

const char *flat_session_account(const struct flat_session *s, char buf[96])
{
	if (s->workload)
		return flat_session_name(s, buf);
	snprintf(buf, 96, "uid %u", (unsigned int)s->uid);
	return buf;
}
