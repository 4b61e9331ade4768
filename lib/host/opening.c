/*
 * A connection whose connect() the offload half answered before its server was there: it waits for room in a listener's
 * queue, or for a server outside the mesh. One word of its slot says how that ended, and a bell tells.
 */
#include <errno.h>
#include <netinet/tcp.h>

#include "host/bell.h"
#include "host/lanes.h"

static uint32_t phase_of(const struct flat_sock *s)
{
	return flat_lane_slot_phase(&s->lane->lane, (uint32_t)__builtin_ctzll(s->vq.bit));
}

int flat_stream_opening_state(const struct flat_sock *s)
{
	uint32_t phase = phase_of(s);
	if (phase == FLAT_PHASE_OPEN)
		return TCP_ESTABLISHED;
	return phase == FLAT_PHASE_CONNECTING && !atomic_load(&s->dead) ? TCP_SYN_SENT : TCP_CLOSE;
}

static void note(struct flat_sock *s, uint32_t phase)
{
	bool dead = atomic_load(&s->dead);
	if (phase == FLAT_PHASE_CONNECTING && !dead)
		return;
	if (phase != FLAT_PHASE_OPEN) {
		/* The peer's word it may be: an errno, whatever it says. */
		int error = FLAT_PHASE_ERRNO(phase);
		atomic_store(&s->error, error ? error : ECONNREFUSED);
		atomic_store(&s->dead, 1);
		atomic_store(&s->failed, 1);
	} else if (dead && !(flat_vq_peer_prod_flags(&s->vq) & (FLAT_PROD_FIN | FLAT_PROD_RST))) {
		atomic_store(&s->error, ECONNRESET);
	}
	atomic_store(&s->pending, 0);
}

void flat_stream_settle_slow(struct flat_sock *s)
{
	/* One thread tells the error. */
	flat_lock(&s->bell_lock);
	if (atomic_load(&s->pending))
		note(s, phase_of(s));
	flat_unlock(&s->bell_lock);
}

static bool settled(struct flat_sock *s)
{
	return !flat_stream_connecting(s);
}

int flat_stream_await(struct flat_sock *s, int fd)
{
	struct flat_sleeper c = {.then = flat_signals_ran()};
	bool slept = false;
	int err = 0;
	while (err == 0 && flat_stream_connecting(s)) {
		slept = true;
		err = flat_bell_sleep(s, fd, true, settled, &c);
	}
	if (err == 0) {
		atomic_store(&s->connecting, 0);
		/* A reset that came since is for the next call to tell, unless it ended the sleep: inet_stream_connect(). */
		return slept || atomic_load(&s->failed) ? -flat_stream_take_error(s) : 0;
	}
	/* It goes on; SO_SNDTIMEO or a signal ended the wait. */
	atomic_store(&s->connecting, FLAT_CONNECT_TO_TELL);
	return err == -EAGAIN ? -EINPROGRESS : err;
}
