/*
 * What a carrier does (docs/design/processes.md, section 5). Bytes for the program are *lent*: they are copied into its socket
 * and stay unread in the ring until the program has taken them. So they are there for whoever reads next: the carrier takes
 * back what the program left, when another holder wants to read and when the program ends.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "host/openfds.h"
#include "host/share.h"

/* Bytes that are lent at once. */
#define CHUNK ((size_t)64 * 1024)

/* Steps before it is looked whether others want something. */
#define STEPS_MAX 16

/* Milliseconds: how long a carrier does without bytes that another has lent, and until it looks whether they are read. */
#define STARVED_MS 5U
#define STARVED_MAX_MS 1000U
#define SHY_MS 50U
/* For how long a program that took nothing of what it was lent, while others wanted it, is lent nothing. */
#define IDLE_MAX_MS 64U
/* Between two looks whether a program that lives has closed its socket: from the last byte on, and at most. */
#define LOOK_MS 20U
#define LOOK_MAX_MS 1000U

static bool given_back(int plain)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	return FLAT_SYS3(SYS_getpeername, plain, &ss, &len) == 0 && len > sizeof(ss.ss_family);
}

/* Nobody holds the program's side any more; one that was only shut down is held. */
static bool program_gone(int plain)
{
	struct pollfd p = {.fd = plain};
	struct timespec zero = {0};
	return flat_sys_ppoll(&p, 1, &zero, NULL) == 1 && (p.revents & POLLHUP);
}

/* --- what is lent --- */

/* With the lock of the way in, and positions as they are: `n` bytes of what is lent were read. */
static void took(struct flat_carrier *c, uint32_t n)
{
	struct flat_ring_rx *rx = &c->s->vq.rx;
	if (n == 0 || flat_ring_pending(rx) < (ssize_t)n)
		return;
	flat_ring_consume(rx, n);
	flat_carrying.lent -= n;
	c->idle = false;
}

static void none_lent(struct flat_carrier *c)
{
	flat_carrying.lent = 0;
	if (flat_ring_carried(&c->s->vq.rx) & FLAT_CARRY_LENT)
		flat_ring_carry(&c->s->vq.rx, -FLAT_CARRY_LENT);
}

/* What the program has not read yet. */
static uint32_t left_there(const struct flat_carrier *c)
{
	int left = 0;
	if (FLAT_SYS3(SYS_ioctl, c->program, FIONREAD, &left) < 0 || left < 0)
		return 0;
	return (uint32_t)left < flat_carrying.lent ? (uint32_t)left : flat_carrying.lent;
}

/* Takes note of what the program has read, with the lock and the positions of the way in. Whether there is more room now. */
static bool account_locked(struct flat_carrier *c)
{
	uint32_t read = flat_carrying.lent ? flat_carrying.lent - left_there(c) : 0;
	took(c, read);
	if (flat_carrying.lent == 0)
		none_lent(c);
	/* It may have passed a turn. */
	return read > 0 && flat_ring_rx_resume(&c->s->vq.rx) == 0;
}

static void account(struct flat_carrier *c)
{
	if (flat_carrying.lent == 0 || left_there(c) == flat_carrying.lent)
		return;
	if (flat_share_begin(c->s, c->anchor, false) == 0 && account_locked(c))
		(void)!flat_ring_pending(&c->s->vq.rx);
	flat_share_end(c->s, c->anchor, false);
	flat_vq_notify_room(&c->s->vq);
}

/*
 * Bytes taken out of the program's socket, all that is there, in one call: what the program reads meanwhile comes before them
 * then, and the ring goes on behind it. They are in the ring still, so one piece of memory will do for all.
 */
static uint32_t take_back(const struct flat_carrier *c)
{
	uint8_t sink[16384];
	struct iovec iov[UIO_MAXIOV];
	struct msghdr msg = {.msg_iov = iov};
	for (size_t room = 0; room <= flat_carrying.lent && msg.msg_iovlen < UIO_MAXIOV;
	     room += sizeof(sink))
		iov[msg.msg_iovlen++] = (struct iovec){sink, sizeof(sink)};
	ssize_t n = flat_sys_recvmsg(c->program, &msg, MSG_DONTWAIT);
	return n > 0 ? (uint32_t)n : 0;
}

/* Takes back what the program has not read: nothing is lent afterwards. */
static void recall(struct flat_carrier *c)
{
	if (flat_carrying.lent > 0) {
		bool right = flat_share_begin(c->s, c->anchor, false) == 0;
		uint32_t back = take_back(c);
		if (right && back <= flat_carrying.lent)
			took(c, flat_carrying.lent - back);
		none_lent(c);
		flat_share_end(c->s, c->anchor, false);
		flat_vq_notify_room(&c->s->vq);
	}
	c->full = false;
	if (c->lends)
		(void)flat_share_lock(c->anchor, FLAT_LOCK_LEND, 1, F_UNLCK, true);
	c->lends = false;
}

/* From here on others that hold the program's side are seen to go; what they are given counts as read. */
static void let_go(struct flat_carrier *c)
{
	if (c->program < 0)
		return;
	recall(c);
	flat_sys_close(c->program);
	flat_sys_close(c->edges);
	if (c->pidfd >= 0)
		flat_sys_close(c->pidfd);
	c->program = c->edges = c->pidfd = -1;
}

/* --- bytes for the program --- */

static void pause_for(struct flat_carrier *c, uint32_t least, uint32_t most)
{
	c->pause_ms = c->pause_ms < least ? least : c->pause_ms * 2 > most ? most : c->pause_ms * 2;
	c->not_before_ns = flat_now_ns() + c->pause_ms * INT64_C(1000000);
}

/* Whether this carrier may lend: one of them does at a time. One that is not let for some time has the other give way. */
static bool may_lend(struct flat_carrier *c)
{
	if (flat_likely(c->lends) || c->program < 0)
		return true;
	if (!c->reads && !c->starved) {
		c->starved = true;
		pause_for(c, SHY_MS, STARVED_MAX_MS);
		return false;
	}
	bool late = c->starved && c->reads;
	c->starved = false;
	/* Somebody wants them already: then we are told. */
	if (late && !flat_share_lock(c->anchor, FLAT_LOCK_WANT, 1, F_WRLCK, false))
		late = false;
	if (late)
		flat_share_want(c->anchor, c->number);
	c->lends = flat_share_lock(c->anchor, FLAT_LOCK_LEND, 1, F_WRLCK, false);
	if (late)
		flat_share_unwant(c->anchor, c->number);
	if (c->lends) {
		c->pause_ms = 0;
		return true;
	}
	c->starved = true;
	pause_for(c, STARVED_MS, STARVED_MAX_MS);
	return false;
}

/* Copies what comes next to the program. Bytes, 0: none is there, -EAGAIN: it takes no more, or another error. */
static ssize_t lend(struct flat_carrier *c)
{
	struct iovec iov[4];
	int n = 0;
	struct flat_sock *s = c->s;
	bool room = false;
	ssize_t there = flat_share_begin(s, c->anchor, false);
	if (there == 0)
		room = account_locked(c);
	if (there == 0)
		there = flat_ring_look(&s->vq.rx, flat_carrying.lent, iov, &n);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
	size_t want = 0;
	for (int i = 0; i < n; i++) {
		iov[i].iov_len = flat_min_size(iov[i].iov_len, CHUNK - want);
		want += iov[i].iov_len;
	}
	/* Said first: who is killed in between has lent it. */
	if (there > 0 && c->program >= 0 && flat_carrying.lent == 0) {
		flat_ring_carry(&s->vq.rx, FLAT_CARRY_LENT);
		c->idle = true;
	}
	ssize_t got =
	    there > 0 ? flat_sys_sendmsg(c->plain, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) : there;
	if (got > 0) {
		flat_carrying.lent += (uint32_t)got;
		if (c->program < 0) {
			took(c, (uint32_t)got);
			flat_carrying.lent = 0;
			room = true;
		}
	}
	if (flat_carrying.lent == 0)
		none_lent(c);
	flat_share_end(s, c->anchor, false);
	if (room)
		flat_vq_notify_room(&s->vq);
	return got;
}

static void end_down(struct flat_carrier *c)
{
	if (c->program >= 0)
		recall(c);
	c->down_over = true;
	(void)flat_sys_shutdown(c->plain, SHUT_WR);
}

/* One step. True: something happened. */
static bool down(struct flat_carrier *c)
{
	if (c->down_over || c->full)
		return false;
	/* What comes now is for who holds the connection still. While we hold the program's side we are told otherwise. */
	if (c->program < 0 && program_gone(c->plain)) {
		c->down_over = true;
		return true;
	}
	flat_stream_check_reign(c->s, c->anchor);
	/* Flags before bytes: after FIN no byte follows. */
	bool ended = flat_stream_ended(c->s);
	if (flat_stream_void(c->s)) {
		end_down(c);
		return true;
	}
	if (!flat_share_moved(c->s)) {
		/* The end is behind what is lent, which the program may leave to others. */
		if (ended && flat_carrying.lent == 0)
			end_down(c);
		return c->down_over;
	}
	if (c->not_before_ns > flat_now_ns() || !may_lend(c))
		return false;
	ssize_t n = lend(c);
	c->full = n == -EAGAIN;
	if (n < 0 && n != -EAGAIN && n != -EINTR)
		end_down(c);
	return n != 0 && !c->full;
}

/* --- bytes of the program --- */

/* No more comes of it, or its bytes go nowhere (`lost`). */
static void end_up(struct flat_carrier *c, bool lost)
{
	c->up_over = true;
	c->len = 0;
	if (lost)
		(void)flat_sys_shutdown(c->plain, SHUT_RD);
	/* Who ends lets go, no more: others may hold the connection, and the offload half sees the last one go. */
	else if (!program_gone(c->plain))
		(void)flat_shutdown(c->anchor, SHUT_WR);
}

static bool up(struct flat_carrier *c)
{
	if (c->len > 0) {
		ssize_t n =
		    flat_send(c->anchor, c->buf + c->at, c->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			end_up(c, true);
		if (n <= 0)
			return n < 0 && errno != EAGAIN;
		c->at += (size_t)n;
		c->len -= (size_t)n;
		return true;
	}
	if (c->up_over)
		return false;
	ssize_t n = flat_sys_recv(c->plain, c->buf, sizeof(c->buf), MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n <= 0)
		end_up(c, false);
	c->at = 0;
	c->len = n > 0 ? (size_t)n : 0;
	return true;
}

/* --- others that hold the connection --- */

/* Bytes that the program has written by now, as far as there is room; more may follow while we do. */
static void flush(struct flat_carrier *c)
{
	int there = 0;
	(void)FLAT_SYS3(SYS_ioctl, c->plain, FIONREAD, &there);
	for (size_t left = c->len + (size_t)there; left > 0;) {
		size_t before = c->len;
		if (!up(c))
			break;
		left -= c->len < before ? flat_min_size(before - c->len, left) : 0;
	}
}

static void give_way(struct flat_carrier *c)
{
	struct signalfd_siginfo info;
	(void)flat_sys_read(c->told, &info, sizeof(info));
	bool lent = flat_carrying.lent > 0;
	flush(c);
	if (c->program >= 0)
		recall(c);
	(void)flat_share_lock(c->anchor, FLAT_LOCK_WORK + c->number, 1, F_UNLCK, true);
	(void)flat_share_lock(c->anchor, FLAT_LOCK_WANT, 1, F_RDLCK, true);
	(void)flat_share_lock(c->anchor, FLAT_LOCK_WANT, 1, F_UNLCK, true);
	(void)flat_share_lock(c->anchor, FLAT_LOCK_WORK + c->number, 1, F_WRLCK, true);
	if (lent && c->idle)
		pause_for(c, 1, IDLE_MAX_MS);
	else if (lent)
		c->pause_ms = 0;
}

/* --- whether the program holds its side --- */

struct wanted {
	struct stat file;
	bool found;
};

static bool same_file(int fd, int dir, const char *name, void *arg)
{
	struct wanted *w = arg;
	struct stat st;
	(void)fd;
	w->found = fstatat(dir, name, &st, 0) == 0 && st.st_dev == w->file.st_dev &&
		   st.st_ino == w->file.st_ino;
	return w->found;
}

/* False too where nobody may look: then it is better to miss what it leaves unread than to miss its end. */
static bool program_holds(const struct flat_carrier *c)
{
	struct wanted w = {0};
	return fstat(c->program, &w.file) == 0 && flat_open_each(c->pid, 0, same_file, &w) == 0 &&
	       w.found;
}

static void look_after(struct flat_carrier *c, bool moved)
{
	if (c->program < 0)
		return;
	int64_t now = flat_now_ns();
	if (moved)
		c->look_ms = LOOK_MS;
	else if (now < c->look_ns)
		return;
	else if (!program_holds(c))
		let_go(c);
	else
		c->look_ms = c->look_ms * 2 < LOOK_MAX_MS ? c->look_ms * 2 : LOOK_MAX_MS;
	c->look_ns = now + c->look_ms * INT64_C(1000000);
}

/* --- waiting --- */

static int limit_ms(const struct flat_carrier *c)
{
	int64_t now = flat_now_ns();
	int64_t until = c->program >= 0 ? c->look_ns : INT64_MAX;
	if (c->not_before_ns > now && c->not_before_ns < until && !c->down_over)
		until = c->not_before_ns;
	if (until == INT64_MAX)
		return -1;
	return until <= now ? 0 : (int)((until - now + 999999) / 1000000);
}

/* The program's reading is of interest where the end waits behind what it has, and where its peer may wait for room. */
static bool watches_reading(const struct flat_carrier *c)
{
	return c->program >= 0 && flat_carrying.lent > 0 &&
	       (flat_stream_ended(c->s) ||
		flat_carrying.lent > c->s->vq.rx.mask[FLAT_RING_BULK] / 4);
}

/* Drops what the program's side told of its reading so far; what it tells from now on is new. */
static void forget_edges(const struct flat_carrier *c)
{
	struct epoll_event ev;
	(void)flat_sys_epoll_pwait(c->edges, &ev, 1, 0, NULL);
}

enum { PLAIN, ANCHOR, TOLD, PIDFD, EDGES, N_POLL };

/* False: it is over. */
static bool wait(struct flat_carrier *c)
{
	bool ended = flat_stream_ended(c->s) && flat_carrying.lent > 0;
	bool waits = c->not_before_ns > flat_now_ns();
	bool watches = watches_reading(c);
	if (watches)
		forget_edges(c);
	account(c);
	if (watches && !watches_reading(c))
		return true;
	bool in = !c->down_over && !c->full && !waits && !ended;
	struct pollfd p[N_POLL] = {
	    [PLAIN] = {.fd = c->plain,
		       .events = (short)((c->len == 0 && !c->up_over ? POLLIN : 0) |
					 (c->full ? POLLOUT : 0))},
	    [ANCHOR] = {.fd = c->anchor,
			.events = (short)((in ? POLLIN : 0) | (c->len > 0 ? POLLOUT : 0))},
	    [TOLD] = {.fd = c->told, .events = POLLIN},
	    [PIDFD] = {.fd = c->pidfd, .events = POLLIN},
	    [EDGES] = {.fd = watches ? c->edges : -1, .events = POLLIN},
	};
	/* An end that was told already would be told again and again. */
	if (p[ANCHOR].events == 0 && (c->down_over || ended))
		p[ANCHOR].fd = -1;
	if (flat_poll(p, N_POLL, limit_ms(c)) < 0 && errno != EINTR)
		return false;
	if (p[PLAIN].revents & POLLOUT)
		c->full = false;
	if (p[TOLD].revents)
		give_way(c);
	if (p[PIDFD].revents)
		let_go(c);
	return !((p[PLAIN].revents & (POLLHUP | POLLERR)) && c->up_over && c->len == 0);
}

static void serve(struct flat_carrier *c)
{
	for (;;) {
		bool any = false;
		bool moved = true;
		for (int i = 0; moved && i < STEPS_MAX; i++) {
			moved = up(c);
			/* exec failed: the connection is its old owner's again, and goes on. */
			if (c->up_over && given_back(c->plain))
				return;
			moved = down(c) || moved;
			any |= moved;
		}
		if (c->up_over && c->down_over && c->len == 0)
			return;
		look_after(c, any);
		if (!wait(c))
			return;
	}
}

bool flat_carrier_join(struct flat_carrier *c)
{
	uint64_t urgent = UINT64_C(1) << (SIGURG - 1);
	struct epoll_event ev = {.events = EPOLLOUT | EPOLLET};
	c->told =
	    (int)FLAT_SYS4(SYS_signalfd4, -1, &urgent, sizeof(urgent), SFD_CLOEXEC | SFD_NONBLOCK);
	c->edges = (int)FLAT_SYS1(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (c->told < 0 || c->edges < 0 ||
	    flat_sys_epoll_ctl(c->edges, EPOLL_CTL_ADD, c->plain, &ev) < 0)
		return false;
	for (c->number = 0; c->number < FLAT_CARRIERS_MAX; c->number++) {
		if (flat_share_lock(c->anchor, FLAT_LOCK_LIFE + c->number, 1, F_WRLCK, false))
			break;
	}
	if (c->number == FLAT_CARRIERS_MAX)
		return false;
	(void)flat_share_lock(c->anchor, FLAT_LOCK_WORK + c->number, 1, F_WRLCK, true);
	flat_carrying.on = true;
	flat_ring_carry(&c->s->vq.rx, FLAT_CARRIER);
	return true;
}

void flat_carrier_run(struct flat_carrier *c)
{
	c->look_ms = LOOK_MS;
	c->look_ns = flat_now_ns() + LOOK_MS * INT64_C(1000000);
	/* Without it nobody would say that the program ended. */
	if (c->pidfd < 0)
		let_go(c);
	serve(c);
	if (c->program >= 0)
		recall(c);
	flat_ring_carry(&c->s->vq.rx, -FLAT_CARRIER);
}
