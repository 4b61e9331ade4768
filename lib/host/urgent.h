/* Urgent bytes of a stream (MSG_OOB), as TCP of Linux has them: net/ipv4/tcp.c, tcp_input.c; the ring's part is in vq/ring.h. */
#ifndef FLAT_HOST_URGENT_H
#define FLAT_HOST_URGENT_H

#include "host/share.h"

/** What recv() found: it stands before an urgent byte, and has bytes already. */
#define FLAT_AT_URGENT (-ENODATA)

/** Whether there may be one that was not read over. One load. */
static inline bool flat_urgent_marked(const struct flat_sock *s)
{
	return flat_unlikely(flat_likely(!flat_shared(s)) ? flat_ring_marked(&s->vq.rx)
							  : flat_ring_marked_any(&s->vq.rx));
}

/** How it stands. The calls below ask for it only where one may be there. */
struct flat_urgent_state {
	int how;       /* enum flat_urgent */
	bool in_line;  /* SO_OOBINLINE */
	ssize_t bytes; /* unread, with this one; negative: positions that cannot be */
	uint32_t ahead;
};
void flat_urgent_look(struct flat_sock *s, struct flat_urgent_state *u);

/**
 * Under flat_share_begin() for reading, where flat_ring_read() gave nothing: it may have halted. Bytes from behind the urgent
 * byte, or from it on; 0: there are none; FLAT_AT_URGENT with `some`; -EPROTO.
 */
FLAT_MUST_CHECK ssize_t flat_urgent_read_on(struct flat_sock *s, void *buf, size_t len, int flags,
					    bool some);

/** recv(MSG_OOB): 1, 0, or a negative errno. */
FLAT_MUST_CHECK ssize_t flat_urgent_recv(struct flat_sock *s, int fd, void *buf, size_t len,
					 int flags);

/** SIOCATMARK. */
bool flat_urgent_is_next(struct flat_sock *s);

/** Bytes are there to be looked at: an urgent one before them is as if it had been read over. */
void flat_urgent_step_over(struct flat_sock *s);

/** Whether there is one, read or not: a peek does not look beyond it, so that more bytes behind it are nothing to wait for. */
bool flat_urgent_stands(struct flat_sock *s);

#endif
