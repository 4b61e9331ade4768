/*
 * Flat connections: bytes in and out with the contract of a Linux TCP socket.
 *
 * All return a count or 0, or a negative errno; none touches errno. SIGPIPE is raised here. `gen` is the file's generation
 * at look-up; a file that was closed meanwhile is -EBADF. Any thread.
 */
#ifndef FLAT_HOST_STREAM_H
#define FLAT_HOST_STREAM_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "host/file.h"

/** Binds `file` (new, kind stream) to what a CONNECT answer or an ACCEPT names. lane_fd, as flat_lanes_take(). */
FLAT_MUST_CHECK int flat_stream_open(struct flat_file *file, const struct flat_msg_conn *conn,
				     int lane_fd, bool client);

/** Ends the connection as the last close does (FIN, or RST where bytes are unread or linger is 0). */
void flat_stream_end(struct flat_file *file);

/** Gives this process's mapping of the slot back. */
void flat_stream_leave(struct flat_file *file);

/** flags: MSG_* of recv(2). Blocks unless O_NONBLOCK or MSG_DONTWAIT. */
FLAT_MUST_CHECK ssize_t flat_stream_recv(struct flat_file *file, uint32_t gen, void *buf,
					 size_t len, int flags);
FLAT_MUST_CHECK ssize_t flat_stream_recvv(struct flat_file *file, uint32_t gen,
					  const struct iovec *iov, size_t n, int flags);
FLAT_MUST_CHECK ssize_t flat_stream_send(struct flat_file *file, uint32_t gen, const void *buf,
					 size_t len, int flags);
FLAT_MUST_CHECK ssize_t flat_stream_sendv(struct flat_file *file, uint32_t gen,
					  const struct iovec *iov, size_t n, int flags);
FLAT_MUST_CHECK int flat_stream_shutdown(struct flat_file *file, uint32_t gen, int how);

/** Bytes that recv would give now (FIONREAD), and those sent but not taken by the peer (SIOCOUTQ). */
FLAT_MUST_CHECK ssize_t flat_stream_pending(struct flat_file *file);
FLAT_MUST_CHECK ssize_t flat_stream_unsent(struct flat_file *file);

/** As flat_file_events(), of a stream. */
uint32_t flat_stream_events(struct flat_file *file);

/** As flat_file_arm(), of a stream. */
void flat_stream_arm(struct flat_file *file, uint32_t events, enum flat_arm how);

/** The pending error, once (SO_ERROR): a positive errno, or 0. */
int flat_stream_take_error(struct flat_file *file);

/** The anchor's other end is gone, or the peer broke the rules: every call ends from now on. errno: positive. */
void flat_stream_cut(struct flat_file *file, int err);

/** Looks at the anchor if connections were cut since it was last looked at (directory's revoke_epoch). */
void flat_stream_check_revoked(struct flat_file *file);

/** flat_send_reserve() and friends of <flat/socket.h>, with negative errno. */
FLAT_MUST_CHECK int flat_stream_reserve(struct flat_file *file, uint32_t gen, size_t want,
					struct iovec iov[2], int flags);
FLAT_MUST_CHECK int flat_stream_commit(struct flat_file *file, uint32_t gen, size_t len);
FLAT_MUST_CHECK ssize_t flat_stream_view(struct flat_file *file, uint32_t gen, struct iovec iov[2],
					 int *n_iov, int flags);
FLAT_MUST_CHECK int flat_stream_release(struct flat_file *file, uint32_t gen, size_t len);

#endif
