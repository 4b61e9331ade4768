#include "offload/pipe.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/sys.h"
#include "offload/rest.h"
#include "offload/telling.h"
#include "wire/frame.h"
#include "wire/tls.h"

/* A TCP read of this size or more makes the next one go straight into the ring. */
#define BULKY_BYTES ((size_t)16 * 1024)

void flat_pipe_lane(struct flat_pipe *p, int i, const struct flat_lane *lane, uint32_t slot, int fd)
{
	struct flat_pipe_end *e = &p->end[i];
	e->pipe = p;
	e->source.fd = fd;
	e->lane = *lane;
	e->slot = slot;
	e->side = (enum flat_side)i;
	/* The client's peer in its lane is the server side: us; and the other way round. */
	flat_vq_init(&e->vq, &flat_vq_shm, lane, slot, (enum flat_side)(i ^ 1), fd, fd);
}

void flat_pipe_rest(struct flat_pipe *p, int i, struct flat_rest *rest)
{
	p->end[i].rest = rest;
}

void flat_pipe_tcp(struct flat_pipe *p, int i, int fd, struct flat_tls *tls)
{
	struct flat_pipe_end *e = &p->end[i];
	e->pipe = p;
	e->source.fd = fd;
	e->is_tcp = true;
	e->tls = tls;
}

void flat_pipe_tube(struct flat_pipe *p, int i, struct flat_tube *tube)
{
	flat_pipe_tcp(p, i, -1, NULL);
	p->end[i].tube = tube;
}

/* --- bytes that the other end has not taken --- */

static int hold(struct flat_pipe_end *e, const uint8_t *bytes, size_t len)
{
	e->held = malloc(len);
	if (!e->held)
		return -ENOMEM;
	memcpy(e->held, bytes, len);
	e->held_at = 0;
	e->held_len = len;
	return 0;
}

static void let_go(struct flat_pipe_end *e)
{
	free(e->held);
	e->held = NULL;
}

int flat_pipe_hold(struct flat_pipe *p, int i, const uint8_t *bytes, size_t len)
{
	return len > 0 ? hold(&p->end[i], bytes, len) : 0;
}

void flat_pipe_free(struct flat_pipe *p)
{
	if (!p)
		return;
	for (int i = 0; i < 2; i++) {
		struct flat_pipe_end *e = &p->end[i];
		let_go(e);
		if (e->rest)
			flat_rest_leave(e->rest, &e->vq);
	}
	free(p);
}

static void count(struct flat_pipe_end *src, size_t n)
{
	/* relaxed: a count, with one writer */
	atomic_store_explicit(&src->bytes,
			      atomic_load_explicit(&src->bytes, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* Tells an end that no byte follows, or that its peer is gone: a reset may come after the end. False: there is no room for it yet. */
static bool end_write(struct flat_pipe_end *e, bool reset)
{
	if (reset ? e->hard : e->fin_sent)
		return true;
	if (!reset && e->tls && !flat_tls_end(e->tls))
		return false;
	e->fin_sent = true;
	e->hard = reset;
	if (!e->is_tcp) {
		flat_vq_end_tx(&e->vq, reset ? FLAT_PROD_RST : FLAT_PROD_FIN);
		if (reset)
			flat_vq_end_rx(&e->vq, FLAT_CONS_CLOSED);
		return true;
	}
	/* Closed by the control thread: with this, by a reset. */
	if (!reset && e->tube)
		flat_tube_end(e->tube, FLAT_TUBE_NEAR);
	else if (!reset)
		flat_sys_shutdown(e->source.fd, SHUT_WR);
	else if (!e->tube)
		flat_sys_reset_at_close(e->source.fd);
	e->gone |= reset;
	return true;
}

/* Words that no honest party writes (rule 6): nothing more goes to or comes from that application's end. */
static void breach(struct flat_pipe_end *e)
{
	if (e->broken)
		return;
	e->broken = true;
	e->reset = true;
	flat_tell(FLAT_LOG_WARN, "breaches", "all",
		  "connection %llu is closed: rule 6: positions of its %s that cannot be",
		  (unsigned long long)e->pipe->conn_id,
		  e->side == FLAT_SIDE_CLIENT ? "client" : "server");
	(void)end_write(e, true);
	/* Its holders see a hang-up, and so do we: the end is over. */
	flat_sys_shutdown(e->source.fd, SHUT_RDWR);
}

/* `dst` takes nothing any more. As TCP: the sender learns by a reset. */
static void broken(struct flat_pipe_end *src)
{
	src->reset = true;
	(void)end_write(src, true);
}

static bool takes_nothing(struct flat_pipe_end *e)
{
	if (e->gone || e->broken)
		return true;
	enum flat_deaf deaf = e->is_tcp ? FLAT_DEAF_NOT : flat_vq_peer_deaf(&e->vq);
	return flat_unlikely(deaf != FLAT_DEAF_NOT) &&
	       (deaf == FLAT_DEAF_GONE || flat_ring_space(&e->vq.tx) != 0);
}

/* What a source without bytes has to say. */
static void look_at_end(struct flat_pipe_end *src, uint32_t flags)
{
	if (flags & FLAT_PROD_RST)
		src->reset = true;
	else if (flags & FLAT_PROD_FIN)
		src->eof = true;
}

static void put(const struct iovec *iov, int n, const uint8_t *from)
{
	memcpy(iov[0].iov_base, from, iov[0].iov_len);
	if (n == 2)
		memcpy(iov[1].iov_base, from + iov[0].iov_len, iov[1].iov_len);
}

static size_t lane_to_lane(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch);

/* What an end sent before it closed goes to the other before that one's reset, and its FIN: as much as it has room for. */
static void last_words(struct flat_pipe_end *closed, struct flat_pipe_end *other, uint8_t *scratch)
{
	size_t done = 0;
	if (closed->held || closed->broken || takes_nothing(other))
		return;
	while (done < 4 * FLAT_PIPE_CHUNK && !closed->eof && !closed->reset) {
		size_t n = lane_to_lane(closed, other, scratch);
		if (n == 0)
			break;
		count(closed, n);
		done += n;
	}
	if (closed->eof && !closed->reset)
		(void)end_write(other, false);
}

/* Of `n` bytes that were taken and are about to be committed: whether one is urgent, and is marked there too. */
static bool pass_urgent(struct flat_pipe_end *src, struct flat_pipe_end *dst, size_t n)
{
	struct flat_urgent_passed u;
	if (!flat_ring_urgent_in(&src->vq.rx, (uint32_t)n, &u))
		return false;
	flat_ring_mark_passed(&dst->vq.tx, &u);
	return true;
}

static size_t lane_to_lane(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch)
{
	struct iovec iov[2];
	int n_iov = 0;
	/* Flags before bytes: after FIN no byte follows. */
	uint32_t flags = flat_vq_peer_prod_flags(&src->vq);
	ssize_t n = flat_ring_pending(&src->vq.rx);
	if (n == 0) {
		look_at_end(src, flags);
		return 0;
	}
	if (n > 0 && takes_nothing(dst)) {
		last_words(dst, src, scratch);
		broken(src);
		return 0;
	}
	ssize_t room =
	    n < 0 ? 0
		  : flat_ring_reserve(&dst->vq.tx, flat_min_size((size_t)n, FLAT_PIPE_CHUNK), iov,
				      &n_iov);
	dst->full = room == 0;
	if (n > 0 && room == 0)
		return 0;
	if (room < 0) {
		breach(dst);
		broken(src);
		return 0;
	}
	if (n > 0)
		n = flat_ring_read(&src->vq.rx, scratch, (size_t)room, 1);
	if (n <= 0) {
		breach(src);
		return 0;
	}
	if (n < room)
		(void)!flat_ring_reserve(&dst->vq.tx, (size_t)n, iov, &n_iov);
	put(iov, n_iov, scratch);
	bool urgent =
	    flat_unlikely(flat_ring_marked(&src->vq.rx)) && pass_urgent(src, dst, (size_t)n);
	flat_ring_commit(&dst->vq.tx, (size_t)n);
	flat_vq_notify_data(&dst->vq);
	if (flat_unlikely(urgent))
		flat_vq_urge(&dst->vq);
	flat_vq_notify_room(&src->vq);
	return (size_t)n;
}

static void consume(struct flat_ring_rx *rx, size_t len)
{
	struct iovec iov[2];
	int n_iov;
	while (len > 0) {
		ssize_t n = flat_ring_peek(rx, iov, &n_iov);
		if (n <= 0)
			return;
		flat_ring_consume(rx, flat_min_size((size_t)n, len));
		len -= flat_min_size((size_t)n, len);
	}
}

/* What a session takes: whole records, each of which it may keep. */
static ssize_t put_tls(struct flat_tls *tls, const uint8_t *bytes, size_t len)
{
	size_t done = 0;
	ssize_t n = 0;
	while (done < len && (n = flat_tls_write(tls, bytes + done, len - done)) > 0)
		done += (size_t)n;
	return done > 0 ? (ssize_t)done : n;
}

/* What a socket takes of the bytes, 0: nothing now; negative: never again. */
static ssize_t put_socket(struct flat_pipe_end *dst, const uint8_t *bytes, size_t len)
{
	ssize_t sent = dst->tube ? flat_tube_send(dst->tube, FLAT_TUBE_NEAR, bytes, len)
		       : dst->tls
			   ? put_tls(dst->tls, bytes, len)
			   : flat_sys_send(dst->source.fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	dst->full = sent < (ssize_t)len;
	return sent == -EAGAIN || sent == -EINTR ? 0 : sent;
}

/* One byte, as what is put into a socket. */
static ssize_t put_urgent(struct flat_pipe_end *dst, const uint8_t *byte)
{
	ssize_t sent =
	    flat_sys_send(dst->source.fd, byte, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
	dst->full = sent < 1;
	return sent == -EAGAIN || sent == -EINTR ? 0 : sent;
}

/* Whether a look into the ring, which found `n` bytes, found none: then what that means is noted. Flags before bytes. */
static bool is_empty(struct flat_pipe_end *src, ssize_t n, uint32_t flags)
{
	if (n < 0)
		breach(src);
	if (n == 0)
		look_at_end(src, flags);
	return n <= 0;
}

/*
 * Before `n` bytes of its ring go to a socket of the kernel: those before an urgent one, which goes by itself (*urgent). The kernel
 * would take the last byte of a part that it took for the urgent one.
 */
static size_t until_urgent(struct flat_pipe_end *src, const struct flat_pipe_end *dst, size_t n,
			   bool *urgent)
{
	uint32_t ahead = 0;
	*urgent = false;
	if (dst->tls || dst->tube ||
	    flat_ring_urgent(&src->vq.rx, true, &ahead) <= FLAT_URGENT_NONE || ahead >= n)
		return n;
	*urgent = ahead == 0;
	return ahead == 0 ? 1 : ahead;
}

static size_t lane_to_tcp(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch)
{
	uint32_t flags = flat_vq_peer_prod_flags(&src->vq);
	ssize_t n = flat_ring_read(&src->vq.rx, scratch, FLAT_PIPE_CHUNK, 0);
	if (is_empty(src, n, flags))
		return 0;
	if (takes_nothing(dst)) {
		broken(src);
		return 0;
	}
	bool urgent = false;
	if (flat_unlikely(flat_ring_marked(&src->vq.rx)))
		n = (ssize_t)until_urgent(src, dst, (size_t)n, &urgent);
	ssize_t sent =
	    flat_unlikely(urgent) ? put_urgent(dst, scratch) : put_socket(dst, scratch, (size_t)n);
	if (sent == 0)
		return 0;
	if (sent < 0) {
		broken(src);
		return 0;
	}
	if (flat_unlikely(urgent))
		flat_ring_urgent_pass(&src->vq.rx);
	consume(&src->vq.rx, (size_t)sent);
	flat_vq_notify_room(&src->vq);
	return (size_t)sent;
}

static ssize_t take(struct flat_pipe_end *src, uint8_t *to, size_t room)
{
	return src->tube  ? flat_tube_recv(src->tube, FLAT_TUBE_NEAR, to, room)
	       : src->tls ? flat_tls_read(src->tls, to, room)
			  : flat_sys_recv(src->source.fd, to, room, MSG_DONTWAIT);
}

/* What a socket said instead of bytes. */
static void note_end(struct flat_pipe_end *src, ssize_t n)
{
	if (n < 0)
		src->reset = true;
	else
		src->eof = true;
}

/* Of `n` bytes, as many as fill frames, and all where they fill none: the remainder goes with what comes after it. */
static size_t of_frames(size_t n)
{
	n = flat_min_size(n, FLAT_PIPE_CHUNK);
	return n > FLAT_FRAME_BODY_MAX ? n - n % FLAT_FRAME_BODY_MAX : n;
}

/* The tube is private memory. */
static size_t lane_to_tube(struct flat_pipe_end *src, struct flat_pipe_end *dst)
{
	struct iovec iov[2];
	int n_iov = 0;
	uint32_t flags = flat_vq_peer_prod_flags(&src->vq);
	ssize_t n = flat_ring_pending(&src->vq.rx);
	if (is_empty(src, n, flags))
		return 0;
	ssize_t room =
	    flat_tube_reserve(dst->tube, FLAT_TUBE_NEAR, of_frames((size_t)n), iov, &n_iov);
	dst->full = room == -EAGAIN;
	if (room == -EAGAIN)
		return 0;
	if (room < 0 || dst->gone) {
		broken(src);
		return 0;
	}
	size_t done = 0;
	/* Fewer than there were are an application's lie: what followed would lie behind a gap, which has others' bytes. */
	for (int i = 0; i < n_iov; i++) {
		n = flat_ring_read(&src->vq.rx, iov[i].iov_base, iov[i].iov_len, 1);
		done += n > 0 ? (size_t)n : 0;
		if (n < (ssize_t)iov[i].iov_len)
			break;
	}
	if (n < 0)
		breach(src);
	if (done == 0)
		return 0;
	flat_tube_commit(dst->tube, FLAT_TUBE_NEAR, done);
	flat_vq_notify_room(&src->vq);
	return done;
}

static ssize_t receive_tube(struct flat_pipe_end *src, struct flat_pipe_end *dst, size_t room)
{
	struct iovec iov[2];
	int n_iov = 0;
	size_t done = 0;
	size_t n = flat_min_size(flat_tube_pending(src->tube, FLAT_TUBE_NEAR), room);
	if (n == 0)
		return flat_tube_recv(src->tube, FLAT_TUBE_NEAR, iov, 0);
	if (takes_nothing(dst))
		return -EPIPE;
	ssize_t got = flat_ring_reserve(&dst->vq.tx, n, iov, &n_iov);
	if (got < 0)
		breach(dst);
	if (got <= 0)
		return got == 0 ? -EAGAIN : -EPIPE;
	for (int i = 0; i < n_iov; i++) {
		ssize_t taken =
		    flat_tube_recv(src->tube, FLAT_TUBE_NEAR, iov[i].iov_base, iov[i].iov_len);
		if (taken < 0)
			return taken;
		done += (size_t)taken;
	}
	flat_ring_commit(&dst->vq.tx, done);
	return (ssize_t)done;
}

/* Receives straight into the ring, where much is coming; else into scratch, so that the ring's choice fits. */
static ssize_t receive(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch,
		       size_t room)
{
	struct iovec iov[2];
	int n_iov = 0;
	ssize_t n;
	if (src->bulky && !src->tls) {
		ssize_t got = flat_ring_reserve(&dst->vq.tx, room, iov, &n_iov);
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n_iov};
		if (got < 0)
			breach(dst);
		if (got <= 0)
			return got == 0 ? -EAGAIN : -EPIPE;
		n = flat_sys_recvmsg(src->source.fd, &msg, MSG_DONTWAIT);
	} else {
		n = take(src, scratch, room);
		if (n > 0 && flat_ring_reserve(&dst->vq.tx, (size_t)n, iov, &n_iov) != n)
			return -EPIPE;
		if (n > 0)
			put(iov, n_iov, scratch);
	}
	if (n > 0)
		flat_ring_commit(&dst->vq.tx, (size_t)n);
	src->bulky = n >= (ssize_t)BULKY_BYTES;
	return n;
}

static size_t tcp_to_lane(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch)
{
	ssize_t room = flat_ring_space(&dst->vq.tx);
	if (room < 0)
		breach(dst);
	if (takes_nothing(dst))
		room = (ssize_t)
		    FLAT_PIPE_CHUNK; /* read on: bytes for nobody are answered by a reset */
	dst->full = room == 0;
	if (room == 0)
		return 0;
	size_t max = flat_min_size((size_t)(room < 0 ? 0 : room), FLAT_PIPE_CHUNK);
	ssize_t n = room < 0	? -EPIPE
		    : src->tube ? receive_tube(src, dst, max)
				: receive(src, dst, scratch, max);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n == -EPIPE || (n > 0 && takes_nothing(dst)))
		broken(src);
	else if (n <= 0)
		note_end(src, n);
	else
		flat_vq_notify_data(&dst->vq);
	return n > 0 ? (size_t)n : 0;
}

static size_t tcp_to_tcp(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch)
{
	ssize_t n = take(src, scratch, FLAT_PIPE_CHUNK);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0) {
		note_end(src, n);
		return 0;
	}
	ssize_t sent = takes_nothing(dst) ? -EPIPE : put_socket(dst, scratch, (size_t)n);
	/* They cannot be left where they were. */
	if (sent < 0 || (sent < n && hold(src, scratch + sent, (size_t)(n - sent)) != 0)) {
		broken(src);
		return 0;
	}
	return (size_t)sent;
}

static ssize_t put_lane(struct flat_pipe_end *dst, const uint8_t *bytes, size_t len)
{
	struct iovec iov[2];
	int n_iov = 0;
	ssize_t room = flat_ring_reserve(&dst->vq.tx, len, iov, &n_iov);
	dst->full = room == 0;
	if (room < 0)
		breach(dst);
	if (room <= 0)
		return room;
	put(iov, n_iov, bytes);
	flat_ring_commit(&dst->vq.tx, (size_t)room);
	return room;
}

/* What is held of `src` goes before everything else that it sends. */
static size_t held_on(struct flat_pipe_end *src, struct flat_pipe_end *dst)
{
	const uint8_t *bytes = src->held + src->held_at;
	size_t len = src->held_len - src->held_at;
	ssize_t n = takes_nothing(dst) ? -EPIPE
		    : dst->is_tcp      ? put_socket(dst, bytes, len)
				       : put_lane(dst, bytes, len);
	if (n < 0) {
		let_go(src);
		broken(src);
		return 0;
	}
	if (n > 0 && !dst->is_tcp)
		flat_vq_notify_data(&dst->vq);
	src->held_at += (size_t)n;
	if (src->held_at == src->held_len)
		let_go(src);
	return (size_t)n;
}

size_t flat_pipe_deliver(struct flat_pipe_end *e, const uint8_t *bytes, size_t len)
{
	struct flat_pipe_end *dst = &e->pipe->end[e == e->pipe->end];
	if (dst->is_tcp || e->held || e->eof || e->reset || takes_nothing(dst))
		return 0;
	ssize_t n = put_lane(dst, bytes, len);
	if (n <= 0)
		return 0;
	e->untold = true;
	count(e, (size_t)n);
	return (size_t)n;
}

static void tell(struct flat_pipe_end *e)
{
	if (e->untold)
		flat_vq_notify_data(&e->pipe->end[e == e->pipe->end].vq);
	e->untold = false;
}

static size_t move(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch)
{
	if (src->held)
		return held_on(src, dst);
	if (src->eof)
		return 0;
	if (src->is_tcp)
		return dst->is_tcp ? tcp_to_tcp(src, dst, scratch) : tcp_to_lane(src, dst, scratch);
	if (dst->tube)
		return lane_to_tube(src, dst);
	return dst->is_tcp ? lane_to_tcp(src, dst, scratch) : lane_to_lane(src, dst, scratch);
}

static size_t pump_one(struct flat_pipe_end *src, struct flat_pipe_end *dst, uint8_t *scratch,
		       size_t max)
{
	size_t done = 0;
	while (done < max && !src->reset) {
		size_t n = move(src, dst, scratch);
		if (n == 0)
			break;
		count(src, n);
		done += n;
		/* Small messages: the next look finds nothing, and costs a system call where it is TCP. */
		if (n < BULKY_BYTES)
			break;
	}
	if (src->eof && !src->is_tcp && (flat_vq_peer_prod_flags(&src->vq) & FLAT_PROD_RST))
		src->reset = true;
	if ((src->reset ? !dst->hard : src->eof && !src->held && !dst->fin_sent) &&
	    end_write(dst, src->reset))
		done = done ? done : 1;
	return done;
}

/* `dst` takes nothing, closed or shut both ways, and `src` has been told that nothing more comes: so it learns at its first send that nobody is there. */
static void pass_closed(struct flat_pipe_end *src, struct flat_pipe_end *dst)
{
	if (src->is_tcp || dst->is_tcp || src->deaf || !src->fin_sent || !takes_nothing(dst))
		return;
	src->deaf = true;
	flat_vq_end_rx(&src->vq, FLAT_CONS_CLOSED);
}

size_t flat_pipe_pump(struct flat_pipe *p, uint8_t *scratch, size_t max)
{
	tell(&p->end[0]);
	tell(&p->end[1]);
	size_t moved = pump_one(&p->end[0], &p->end[1], scratch, max);
	moved += pump_one(&p->end[1], &p->end[0], scratch, max);
	pass_closed(&p->end[0], &p->end[1]);
	pass_closed(&p->end[1], &p->end[0]);
	for (int i = 0; i < 2; i++) {
		struct flat_pipe_end *e = &p->end[i];
		const struct flat_pipe_end *other = &p->end[i ^ 1];
		/* A socket of the kernel has no holder to hang up: done when both ways are. */
		if (e->is_tcp && (e->reset || (e->fin_sent && (e->eof || other->gone))))
			e->gone = true;
	}
	return moved;
}

void flat_pipe_event(struct flat_pipe_end *e, int events)
{
	tell(e);
	if (e->is_tcp)
		return;
	if ((events & (POLLHUP | POLLRDHUP | POLLERR)) && !e->gone) {
		e->gone = true;
		/* In a forwarded lane we are our own neighbour: nobody needs a bell. */
		flat_vq_complete(&e->lane, e->slot, e->side, -1);
	} else if (events & POLLIN) {
		(void)!flat_vq_drain_anchor(&e->vq);
	}
}

void flat_pipe_arm(struct flat_pipe *p)
{
	for (int i = 0; i < 2; i++) {
		struct flat_pipe_end *e = &p->end[i];
		if (e->is_tcp)
			continue;
		if (e->rest) {
			const struct flat_resting resting = {&e->source, &e->vq,
							     !e->eof && !e->reset, e->full};
			flat_rest_begin(e->rest, &resting);
			continue;
		}
		flat_vq_arm_rx(&e->vq, FLAT_ARM_BELL);
		if (e->full)
			flat_vq_arm_tx(&e->vq, FLAT_ARM_BELL);
	}
}

void flat_pipe_disarm(struct flat_pipe *p)
{
	for (int i = 0; i < 2; i++) {
		struct flat_pipe_end *e = &p->end[i];
		if (e->is_tcp)
			continue;
		if (e->rest)
			flat_rest_end(e->rest, &e->vq);
		flat_vq_disarm_rx(&e->vq);
	}
}

bool flat_pipe_over(const struct flat_pipe *p)
{
	return p->end[0].gone && p->end[1].gone;
}
