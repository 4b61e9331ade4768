/*
 * How a connection ends, and what its state lets calls and polls see: the kernel's rules, net/ipv4/tcp.c and
 * tcp_input.c. A reset leaves what had arrived readable; it is EPIPE where a FIN came before it, else ECONNRESET, told once.
 */
#include <errno.h>
#include <netinet/tcp.h>

#include "host/bell.h"
#include "host/share.h"
#include "host/urgent.h"

void flat_stream_end(struct flat_sock *s)
{
	bool unread = flat_ring_moved(&s->vq.rx);
	bool hard = (s->linger.l_onoff && s->linger.l_linger == 0) || flat_stream_void(s);
	/* Over before: there is nothing that a reset or an end would be of, and no FIN comes after a reset. */
	if (flat_stream_state(s) == TCP_CLOSE) {
		if (!(flat_vq_own_prod_flags(&s->vq) & (FLAT_PROD_FIN | FLAT_PROD_RST)))
			flat_vq_end_tx(&s->vq, FLAT_PROD_RST);
	} else if (atomic_load(&s->wr_shut) != FLAT_WR_FIN || unread || hard)
		flat_vq_end_tx(&s->vq, unread || hard ? FLAT_PROD_RST : FLAT_PROD_FIN);
	flat_vq_end_rx(&s->vq, FLAT_CONS_CLOSED);
}

static bool anchor_hung_up(int fd)
{
	struct pollfd p = {.fd = fd};
	struct timespec zero = {0};
	return flat_sys_ppoll(&p, 1, &zero, NULL) == 1 && (p.revents & (POLLHUP | POLLERR));
}

void flat_stream_died(struct flat_sock *s)
{
	if (atomic_exchange(&s->dead, 1) || atomic_load(&s->pending))
		return;
	uint32_t flags = flat_vq_peer_prod_flags(&s->vq);
	if (!(flags & (FLAT_PROD_FIN | FLAT_PROD_RST))) {
		atomic_store(&s->voided, 1);
		atomic_store(&s->error, ECONNRESET);
	}
}

/* Nobody polices it any more. The peer may sleep, and there is nobody else who would tell it. */
static void orphaned(struct flat_sock *s)
{
	flat_stream_died(s);
	flat_vq_end_tx(&s->vq, FLAT_PROD_RST);
	flat_vq_end_rx(&s->vq, FLAT_CONS_CLOSED);
}

void flat_stream_check_reign(struct flat_sock *s, int fd)
{
	if (flat_unlikely(flat_shared(s)))
		flat_share_refresh(s, fd);
	uint64_t now = flat_session_reign_word(s->reign);
	if (flat_likely(now == atomic_load_explicit(&s->seen_reign, memory_order_relaxed)))
		return;
	atomic_store_explicit(&s->seen_reign, now, memory_order_relaxed);
	if (flat_directory_over(now))
		orphaned(s);
	else if (anchor_hung_up(fd))
		flat_stream_died(s);
}

/* Once, to whichever holder asks first. */
static bool was_told(const struct flat_sock *s)
{
	return atomic_load(&s->rst_told) || (flat_shared(s) && flat_ring_told(&s->vq.rx));
}

static int error_of(const struct flat_sock *s, uint32_t prod)
{
	int error = atomic_load_explicit(&s->error, memory_order_relaxed);
	if (error)
		return error;
	if (!(prod & FLAT_PROD_RST) && !atomic_load_explicit(&s->lost, memory_order_relaxed))
		return 0;
	if (was_told(s))
		return 0;
	/* A FIN beside the offload half's cut came after it, or is void with all the rest. */
	if (flat_prod_is_cut(prod))
		return ECONNRESET;
	return (prod & FLAT_PROD_FIN) || atomic_load(&s->lost) ? EPIPE : ECONNRESET;
}

int flat_stream_error(const struct flat_sock *s)
{
	return error_of(s, flat_vq_peer_prod_flags(&s->vq));
}

int flat_stream_take_error(struct flat_sock *s)
{
	flat_stream_settle(s);
	int error = flat_stream_error(s);
	if (error) {
		atomic_store(&s->error, 0);
		atomic_store(&s->rst_told, 1);
		if (flat_shared(s))
			flat_ring_tell(&s->vq.rx);
	}
	return error;
}

/* RST seen, sent in vain, or the anchor is gone: the kernel's state CLOSE, with both directions shut. */
static bool cut(const struct flat_sock *s, uint32_t prod)
{
	return (prod & FLAT_PROD_RST) || atomic_load_explicit(&s->dead, memory_order_relaxed) ||
	       atomic_load_explicit(&s->lost, memory_order_relaxed);
}

int flat_stream_state(const struct flat_sock *s)
{
	if (flat_unlikely(atomic_load(&s->pending))) {
		int opening = flat_stream_opening_state(s);
		if (opening != TCP_ESTABLISHED)
			return opening;
	}
	uint32_t prod = flat_vq_peer_prod_flags(&s->vq);
	bool fin = (prod & FLAT_PROD_FIN) != 0;
	bool shut = atomic_load(&s->wr_shut) == FLAT_WR_FIN;
	if (cut(s, prod) || (fin && shut))
		return TCP_CLOSE;
	return fin ? TCP_CLOSE_WAIT : shut ? TCP_FIN_WAIT2 : TCP_ESTABLISHED;
}

bool flat_stream_ended(struct flat_sock *s)
{
	/* Flags that mean nothing must not: a read would find nothing, and who waits would turn for ever. */
	return (flat_vq_peer_prod_flags(&s->vq) & (FLAT_PROD_FIN | FLAT_PROD_RST)) != 0 ||
	       atomic_load(&s->rd_shut) || atomic_load(&s->dead) || atomic_load(&s->lost);
}

bool flat_stream_readable(struct flat_sock *s)
{
	flat_stream_settle(s);
	return flat_share_moved(s) || flat_stream_ended(s);
}

bool flat_stream_writable(struct flat_sock *s)
{
	if (flat_stream_connecting(s))
		return false;
	return flat_share_space(s) != 0 ||
	       (flat_vq_peer_cons_flags(&s->vq) & FLAT_CONS_CLOSED) != 0 ||
	       (flat_vq_peer_prod_flags(&s->vq) & FLAT_PROD_RST) != 0 || atomic_load(&s->wr_shut) ||
	       atomic_load(&s->dead);
}

ssize_t flat_stream_unread(struct flat_sock *s)
{
	struct flat_urgent_state u;
	if (flat_likely(!flat_urgent_marked(s)))
		return flat_share_pending(s);
	flat_urgent_look(s, &u);
	return u.how > FLAT_URGENT_NONE && !u.in_line ? (ssize_t)u.ahead : u.bytes;
}

static bool enough(struct flat_sock *s)
{
	if (flat_likely(s->rcvlowat <= 1))
		return flat_share_moved(s);
	return flat_share_pending(s) >= s->rcvlowat;
}

/* Bytes, and an urgent one, of what may be there: tcp_poll(). */
static uint32_t urgent_events(struct flat_sock *s)
{
	struct flat_urgent_state u;
	flat_share_settle(s);
	flat_urgent_look(s, &u);
	bool skipped = u.how > FLAT_URGENT_NONE && u.ahead == 0 && !u.in_line;
	ssize_t want = (s->rcvlowat > 1 ? s->rcvlowat : 1) + skipped;
	return (u.bytes >= want || u.bytes < 0 ? EPOLLIN | EPOLLRDNORM : 0U) |
	       (u.how == FLAT_URGENT_THERE ? (uint32_t)EPOLLPRI : 0U);
}

uint32_t flat_stream_events(struct flat_sock *s)
{
	if (flat_stream_connecting(s))
		return 0;
	if (flat_unlikely(flat_shared(s)))
		flat_share_note(s);
	uint32_t prod = flat_vq_peer_prod_flags(&s->vq);
	uint32_t cons = flat_vq_peer_cons_flags(&s->vq);
	bool closed = cut(s, prod);
	bool in_end = (prod & FLAT_PROD_FIN) || atomic_load(&s->rd_shut) || closed;
	bool out_end = atomic_load(&s->wr_shut) || closed;
	uint32_t ev = 0;
	if (flat_urgent_marked(s))
		ev |= urgent_events(s);
	else if (enough(s))
		ev |= EPOLLIN | EPOLLRDNORM;
	if (in_end)
		ev |= EPOLLIN | EPOLLRDNORM;
	if (in_end)
		ev |= EPOLLRDHUP;
	if (error_of(s, prod) || flat_errqueue_waits(s))
		ev |= EPOLLERR;
	if (in_end && out_end)
		ev |= EPOLLHUP;
	if (out_end || (cons & FLAT_CONS_CLOSED) ||
	    flat_ring_writable(&s->vq.tx, flat_share_space(s)))
		ev |= EPOLLOUT | EPOLLWRNORM;
	return ev;
}

uint32_t flat_stream_edges(const struct flat_sock *s)
{
	return flat_vq_peer_prod_flags(&s->vq) | flat_vq_peer_cons_flags(&s->vq) << 4 |
	       (uint32_t)atomic_load(&s->dead) << 8 | (uint32_t)atomic_load(&s->lost) << 9 |
	       (uint32_t)atomic_load(&s->rd_shut) << 10 | (uint32_t)atomic_load(&s->wr_shut) << 11 |
	       (uint32_t)atomic_load(&s->pending) << 13 | atomic_load(&s->zc_sent) << 16;
}

/* Threads of ours that sleep on it shall see it: the offload half rings, since nobody can ring his own anchor. */
void flat_stream_wake_own(struct flat_sock *s)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	if (atomic_load(&s->waiters) == (uint32_t)flat_shared(s))
		return;
	flat_msg_init(&msg, FLAT_MSG_RING, 0);
	msg.body.ring.conn_id = s->conn_id;
	if (flat_session_ask(&msg, -1, fds, &n) == 0)
		flat_msg_close_fds(fds, n);
}

int flat_stream_shutdown(struct flat_sock *s, int how)
{
	const int state = flat_stream_state(s);
	/* net/ipv4/af_inet.c, inet_shutdown(): connect() has no more to tell. */
	if (atomic_load(&s->connecting) && state != TCP_SYN_SENT)
		atomic_store(&s->connecting, state == TCP_CLOSE ? FLAT_CONNECT_GIVEN_UP : 0);
	if (state == TCP_CLOSE)
		return -ENOTCONN;
	flat_share_settle(s);
	/* In this order: flat_vq_peer_deaf(). */
	if (how != SHUT_WR && !atomic_exchange(&s->rd_shut, 1))
		flat_vq_end_rx(&s->vq, FLAT_CONS_SHUT);
	if (how != SHUT_RD && atomic_exchange(&s->wr_shut, FLAT_WR_FIN) != FLAT_WR_FIN)
		flat_vq_end_tx(&s->vq, FLAT_PROD_FIN);
	flat_stream_wake_own(s);
	return 0;
}

void flat_stream_shut_early(struct flat_sock *s, uint16_t marks)
{
	if ((marks & FLAT_MARK_SHUT_RD) && !atomic_exchange(&s->rd_shut, 1))
		flat_vq_end_rx(&s->vq, FLAT_CONS_SHUT);
	if (!(marks & FLAT_MARK_SHUT_WR))
		return;
	/* net/ipv4/tcp_input.c, tcp_rcv_state_process(): what was accepted says FIN at once, what has connected does not. */
	const bool fin = s->side == FLAT_SIDE_SERVER;
	atomic_store(&s->wr_shut, fin ? FLAT_WR_FIN : FLAT_WR_MUTE);
	if (fin)
		flat_vq_end_tx(&s->vq, FLAT_PROD_FIN);
}
