/* One call that moves bytes of a stream, in one piece or several. */
#ifndef FLAT_HOST_STREAM_H
#define FLAT_HOST_STREAM_H

#include "host/bell.h"

/** Belongs to its thread. From flat_call_begin() to flat_call_over(). */
struct flat_call {
	struct flat_sock *s;
	int fd;
	size_t whole; /* receiving: bytes wanted, of all pieces */
	size_t
	    before; /* bytes that the pieces before moved: an error that follows them is for the next call */
	bool slept;
	bool gathered;
	struct flat_sleeper sleeper; /* once it has slept */
};

/** `whole`: bytes wanted, receiving. What a call that does not sleep has no use for is left as it is: this is the data path. */
static inline void flat_call_begin(struct flat_call *c, struct flat_sock *s, int fd, size_t whole)
{
	c->s = s;
	c->fd = fd;
	c->whole = whole;
	c->before = 0;
	c->slept = false;
	c->gathered = false;
}

/** Moves one piece. Bytes, 0 for the end (receiving), or a negative errno. May sleep, as `flags` and the socket say. */
FLAT_MUST_CHECK ssize_t flat_call_send(struct flat_call *c, const void *buf, size_t len, int flags);
FLAT_MUST_CHECK ssize_t flat_call_recv(struct flat_call *c, void *buf, size_t len, int flags);
/**
 * Of a vector, the `len` bytes (no more than it has) after the first `skip`: as many of them as there is room for, which the other end sees together.
 * Their count. 0: there is no room, or a reason why not, which flat_call_send() tells. Does not sleep.
 */
FLAT_MUST_CHECK size_t flat_call_send_at_once(const struct flat_call *c, const struct iovec *iov,
					      size_t skip, size_t len, int flags);
/** What the call has slept on may end now. Its result. */
FLAT_MUST_CHECK ssize_t flat_call_over(struct flat_call *c, ssize_t result);

/** O_ASYNC was set or cleared on its descriptor `fd`: from now on whoever F_SETOWN names is signalled of each arrival, or is not. */
void flat_stream_signals(struct flat_sock *s, int fd, bool on);

/** Calls of one piece. */
FLAT_MUST_CHECK ssize_t flat_stream_send(struct flat_sock *s, int fd, const void *buf, size_t len,
					 int flags);
FLAT_MUST_CHECK ssize_t flat_stream_recv(struct flat_sock *s, int fd, void *buf, size_t len,
					 int flags);

/** The address of a send: 0, -EFAULT, -EINVAL. It means nothing. */
FLAT_MUST_CHECK int flat_stream_check_name(const void *to, socklen_t len);

/** SIGPIPE, but for MSG_NOSIGNAL: -EPIPE. */
FLAT_MUST_CHECK ssize_t flat_broken_pipe(int flags);

#endif
