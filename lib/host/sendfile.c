/* sendfile() to a flat socket. */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#include "base/confine.h"
#include "base/limits.h"
#include "host/share.h"
#include "host/user.h"

static bool may_send(struct flat_sock *s, int fd)
{
	return s->kind == FLAT_FD_STREAM && !flat_stream_connecting(s) &&
	       flat_stream_may_send(s, fd);
}

/*
 * What of a file is in the page cache goes straight into the ring, half a ring at a time before the peer is told: told of
 * each bit, one that shares our processor takes it from us for each. Bytes; 0: no room, or it has to be gone about otherwise.
 */
static ssize_t file_to_ring(struct flat_sock *s, int fd, int in_fd, off_t at, size_t count)
{
	size_t half = ((size_t)s->vq.tx.mask[FLAT_RING_BULK] + 1) / 2;
	struct iovec iov[2];
	ssize_t got = 0;
	int n;
	/* A filter may not know the call. */
	if (flat_confined || !may_send(s, fd))
		return 0;
	if (flat_share_begin(s, fd, true) == 0 &&
	    flat_ring_reserve(&s->vq.tx, flat_min_size(count, half), iov, &n) > 0)
		/* RWF_NOWAIT: a disk is not waited for under the lock. */
		got = FLAT_SYS6(SYS_preadv2, in_fd, iov, n, at, 0, RWF_NOWAIT);
	if (got > 0)
		flat_ring_commit(&s->vq.tx, (size_t)got);
	flat_share_end(s, fd, true);
	if (got > 0)
		flat_vq_notify_data(&s->vq);
	return got > 0 ? got : 0;
}

ssize_t flat_sendfile(int out_fd, int in_fd, off_t *offset, size_t count)
{
	struct flat_sock *s = flat_fd_sock(out_fd);
	char buf[65536];
	ssize_t done = 0;
	if (!s && !flat_fd_sock(in_fd))
		return flat_result(FLAT_SYS4(SYS_sendfile, out_fd, in_fd, offset, count));
	if (!s || flat_fd_sock(in_fd))
		return flat_result(-EINVAL);
	if (offset && !flat_user_possible(offset, sizeof(*offset)))
		return flat_result(-EFAULT);
	if (offset && *offset < 0)
		return flat_result(-EINVAL);
	off_t at = offset ? *offset : FLAT_SYS3(SYS_lseek, in_fd, 0, 1 /* SEEK_CUR */);
	if (at < 0)
		return flat_result(at);
	while ((size_t)done < count) {
		size_t want = flat_min_size(count - (size_t)done, sizeof(buf));
		ssize_t moved = file_to_ring(s, out_fd, in_fd, at + done, count - (size_t)done);
		done += moved;
		if (moved > 0)
			continue;
		/* Without room nothing is read for nothing. */
		if (atomic_load_explicit(&s->nonblock, memory_order_relaxed) &&
		    may_send(s, out_fd) && flat_share_space(s) == 0)
			want = 1;
		long got = FLAT_SYS4(SYS_pread64, in_fd, buf, want, at + done);
		if (got <= 0) {
			if (got < 0 && done == 0)
				return flat_result(got);
			break;
		}
		ssize_t sent = flat_send(out_fd, buf, (size_t)got, 0);
		/* errno says it. */
		if (sent < 0 && done == 0)
			return -1;
		if (sent < 0)
			break;
		done += sent;
		if (sent < got)
			break;
	}
	if (offset)
		*offset = at + done;
	else
		(void)FLAT_SYS3(SYS_lseek, in_fd, at + done, 0 /* SEEK_SET */);
	return done;
}
