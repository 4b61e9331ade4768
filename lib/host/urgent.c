#include "host/urgent.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#include "host/user.h"

/* With the lock and the positions of the way in. */
static void look(struct flat_sock *s, struct flat_urgent_state *u)
{
	u->in_line = flat_option_in_line(s);
	u->ahead = 0;
	u->how = flat_ring_urgent(&s->vq.rx, u->in_line, &u->ahead);
	u->bytes = u->how < 0 ? u->how : flat_ring_pending(&s->vq.rx);
}

void flat_urgent_look(struct flat_sock *s, struct flat_urgent_state *u)
{
	uint32_t lost = 0;
	u->in_line = flat_option_in_line(s);
	u->ahead = 0;
	flat_lock(&s->rx_lock);
	/* A look, no more: processes that are no relatives have another lock. */
	u->how = flat_shared(s) ? flat_ring_rx_resume(&s->vq.rx) : 0;
	if (u->how == 0)
		u->how = flat_ring_urgent_look(&s->vq.rx, u->in_line, &u->ahead, &lost);
	u->bytes = u->how < 0 ? u->how : flat_ring_pending(&s->vq.rx);
	flat_unlock(&s->rx_lock);
	u->bytes -= u->bytes >= (ssize_t)lost ? (ssize_t)lost : 0;
}

/* Bytes from `skip` places behind the next one on, which all stay. */
static ssize_t peek_from(struct flat_sock *s, size_t skip, uint8_t *buf, size_t len)
{
	struct iovec iov[4];
	int n;
	size_t done = 0;
	ssize_t there = flat_ring_look(&s->vq.rx, skip, iov, &n);
	for (int i = 0; i < n && done < len; i++) {
		size_t part = flat_min_size(iov[i].iov_len, len - done);
		memcpy(buf + done, iov[i].iov_base, part);
		done += part;
	}
	return there < 0 ? there : (ssize_t)done;
}

static void pass(struct flat_sock *s, bool in_line)
{
	flat_ring_urgent_pass(&s->vq.rx);
	if (!in_line)
		flat_ring_consume(&s->vq.rx, 1);
}

void flat_urgent_step_over(struct flat_sock *s)
{
	struct flat_urgent_state u;
	flat_lock(&s->rx_lock);
	look(s, &u);
	if (u.how > FLAT_URGENT_NONE && u.ahead == 0)
		pass(s, u.in_line);
	flat_unlock(&s->rx_lock);
}

ssize_t flat_urgent_read_on(struct flat_sock *s, void *buf, size_t len, int flags, bool some)
{
	struct flat_urgent_state u;
	look(s, &u);
	if (u.how < 0)
		return u.how;
	if (u.how == FLAT_URGENT_NONE || u.ahead > 0)
		return flat_ring_read(&s->vq.rx, buf, len, !(flags & MSG_PEEK));
	if (some)
		return FLAT_AT_URGENT;
	if (flags & MSG_PEEK)
		return peek_from(s, !u.in_line, buf, len);
	pass(s, u.in_line);
	return flat_ring_read(&s->vq.rx, buf, len, 1);
}

/* tcp_recv_urg() of a byte that is there. */
static ssize_t take_urgent(struct flat_sock *s, uint32_t ahead, void *buf, size_t len, int flags)
{
	uint8_t byte;
	if (peek_from(s, ahead, &byte, 1) != 1)
		return -EPROTO;
	if (!(flags & MSG_PEEK))
		flat_ring_urgent_take(&s->vq.rx);
	if (len == 0 || (flags & MSG_TRUNC))
		return len > 0;
	if (!flat_user_possible(buf, 1))
		return -EFAULT;
	memcpy(buf, &byte, 1);
	return 1;
}

ssize_t flat_urgent_recv(struct flat_sock *s, int fd, void *buf, size_t len, int flags)
{
	struct flat_urgent_state u = {0};
	ssize_t n = flat_share_begin(s, fd, false);
	if (n == 0 && !flat_stream_connecting(s))
		look(s, &u);
	if (n == 0 && u.how < 0)
		n = u.how;
	else if (n == 0 && (u.in_line || u.how != FLAT_URGENT_THERE))
		n = -EINVAL; /* yes, this is right */
	else if (n == 0 && flat_stream_state(s) == TCP_CLOSE &&
		 !(flat_vq_peer_prod_flags(&s->vq) & FLAT_PROD_FIN))
		n = -ENOTCONN;
	else if (n == 0)
		n = take_urgent(s, u.ahead, buf, len, flags);
	flat_share_end(s, fd, false);
	if (n == -EPROTO) {
		atomic_store(&s->dead, 1);
		atomic_store(&s->error, ECONNRESET);
		n = -ECONNRESET;
	}
	return n;
}

bool flat_urgent_is_next(struct flat_sock *s)
{
	struct flat_urgent_state u;
	if (!flat_urgent_marked(s))
		return false;
	flat_urgent_look(s, &u);
	return u.how > FLAT_URGENT_NONE && u.ahead == 0;
}

bool flat_urgent_stands(struct flat_sock *s)
{
	struct flat_urgent_state u;
	flat_urgent_look(s, &u);
	return u.how > FLAT_URGENT_NONE;
}
