#include "host/share.h"

#include <fcntl.h>
#include <signal.h>

/* Options of the file description, as the kernel keeps them for any socket. */
static void give_options(const struct flat_sock *s, int fd)
{
	const int one = 1;
	if (s->rcvlowat > 1)
		(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &s->rcvlowat,
					  sizeof(s->rcvlowat));
	if (s->linger.l_onoff)
		(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &s->linger, sizeof(s->linger));
	if (s->sndtimeo.tv_sec || s->sndtimeo.tv_usec)
		(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &s->sndtimeo,
					  sizeof(s->sndtimeo));
	if (s->keepalive)
		(void)flat_sys_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

void flat_share_export(struct flat_sock *s, int fd)
{
	if (s->kind != FLAT_FD_STREAM || flat_shared(s))
		return;
	flat_lock(&s->tx_lock);
	flat_lock(&s->rx_lock);
	/* Nobody is ever alone on its anchor again: bell.h. */
	if (!atomic_exchange(&s->exported, 1))
		atomic_fetch_add(&s->waiters, 1);
	give_options(s, fd);
	if (atomic_load(&s->rst_told))
		flat_ring_tell(&s->vq.rx);
	flat_unlock(&s->rx_lock);
	flat_unlock(&s->tx_lock);
}

/* The lock belongs to the process: its threads have theirs. */
bool flat_share_lock(int fd, int at, int len, short type, bool wait)
{
	struct flock range = {.l_type = type, .l_start = at, .l_len = len};
	long err;
	do {
		err = FLAT_SYS3(SYS_fcntl, fd, wait ? F_SETLKW : F_SETLK, &range);
		/* Two threads of ours, each with a lock of its own connection, are no deadlock. */
		if (err == -EDEADLK)
			flat_sys_yield();
	} while (err == -EINTR || err == -EDEADLK);
	return err == 0;
}

/* --- carriers --- */

struct flat_carrying flat_carrying;

static uint32_t carried(const struct flat_sock *s)
{
	return flat_likely(!flat_carrying.on) ? flat_ring_carried(&s->vq.rx) : 0;
}

/* The first of these bytes that another process has under a lock. */
static bool first_held(int fd, int at, int len, struct flock *found)
{
	*found = (struct flock){.l_type = F_WRLCK, .l_start = at, .l_len = len};
	return FLAT_SYS3(SYS_fcntl, fd, F_GETLK, found) == 0 && found->l_type != F_UNLCK;
}

/* A carrier that was killed: nobody knows what its program read, or what it wrote. `tx`: LENT may change meanwhile. */
static bool killed(const struct flat_sock *s, int fd, bool tx)
{
	struct flock found;
	bool lent = !tx && (carried(s) & FLAT_CARRY_LENT);
	bool there = lent ? first_held(fd, FLAT_LOCK_LEND, 1, &found)
			  : first_held(fd, FLAT_LOCK_LIFE, FLAT_CARRIERS_MAX, &found);
	/* One that has ended properly said so before it let its lock go. */
	return !there && carried(s) != 0;
}

void flat_share_want(int fd, int self)
{
	struct flock found;
	(void)flat_share_lock(fd, FLAT_LOCK_WANT, 1, F_WRLCK, self < 0);
	while (!flat_share_lock(fd, FLAT_LOCK_WORK, FLAT_CARRIERS_MAX, F_WRLCK, false) &&
	       first_held(fd, FLAT_LOCK_WORK, FLAT_CARRIERS_MAX, &found)) {
		/* Blocked there, and read; to anybody else who may have the number by now it means nothing. */
		if (found.l_pid > 0)
			(void)FLAT_SYS2(SYS_kill, found.l_pid, SIGURG);
		if (!flat_share_lock(fd, (int)found.l_start, 1, F_WRLCK, true))
			return;
	}
}

void flat_share_unwant(int fd, int self)
{
	int mine = self < 0 ? 0 : self;
	if (mine > 0)
		(void)flat_share_lock(fd, FLAT_LOCK_WORK, mine, F_UNLCK, true);
	int after = self < 0 ? 0 : self + 1;
	if (after < FLAT_CARRIERS_MAX)
		(void)flat_share_lock(fd, FLAT_LOCK_WORK + after, FLAT_CARRIERS_MAX - after,
				      F_UNLCK, true);
	(void)flat_share_lock(fd, FLAT_LOCK_WANT, 1, F_UNLCK, true);
}

void flat_share_settle(struct flat_sock *s)
{
	if (flat_likely(!flat_shared(s)) || carried(s) == 0)
		return;
	for (int fd = 0; fd < flat_fd_top(); fd++) {
		if (flat_fd_sock(fd) != s)
			continue;
		flat_share_want(fd, -1);
		flat_share_unwant(fd, -1);
		return;
	}
}

/* --- one use --- */

static void lock_both(struct flat_sock *s, int fd, bool tx)
{
	flat_lock(tx ? &s->tx_lock : &s->rx_lock);
	if (flat_unlikely(flat_shared(s)))
		(void)flat_share_lock(fd, tx ? FLAT_LOCK_TX : FLAT_LOCK_RX, 1, F_WRLCK, true);
}

/*
 * What a program wrote comes before what is sent now, and what it did not read is there to be taken. A carrier that goes on
 * lends under the lock that is held afterwards, so that nothing is lent while it is.
 */
static int make_way(struct flat_sock *s, int fd, bool tx)
{
	do {
		if (killed(s, fd, tx))
			return -EPROTO;
		flat_share_end(s, fd, tx);
		flat_share_want(fd, -1);
		lock_both(s, fd, tx);
		flat_share_unwant(fd, -1);
	} while (!tx && (carried(s) & FLAT_CARRY_LENT));
	return 0;
}

int flat_share_begin_shared(struct flat_sock *s, int fd, bool tx)
{
	(void)flat_share_lock(fd, tx ? FLAT_LOCK_TX : FLAT_LOCK_RX, 1, F_WRLCK, true);
	uint32_t now = carried(s);
	int err = flat_unlikely(tx ? now : now & FLAT_CARRY_LENT) ? make_way(s, fd, tx) : 0;
	if (err != 0)
		return err;
	return tx ? flat_ring_tx_resume(&s->vq.tx) : flat_ring_rx_resume(&s->vq.rx);
}

void flat_share_end_shared(int fd, bool tx)
{
	(void)flat_share_lock(fd, tx ? FLAT_LOCK_TX : FLAT_LOCK_RX, 1, F_UNLCK, true);
}

void flat_share_note(struct flat_sock *s)
{
	uint32_t own = flat_vq_own_prod_flags(&s->vq);
	if (own & FLAT_PROD_FIN)
		atomic_store(&s->wr_shut, FLAT_WR_FIN);
	/* Another holder's send met a peer that had closed; a reset by the peer is told of as such. */
	if ((own & FLAT_PROD_RST) && !(flat_vq_peer_prod_flags(&s->vq) & FLAT_PROD_RST))
		atomic_store(&s->lost, 1);
	if (flat_vq_own_cons_flags(&s->vq) & FLAT_CONS_SHUT)
		atomic_store(&s->rd_shut, 1);
}

void flat_share_refresh(struct flat_sock *s, int fd)
{
	/* A carrier never waits in a call. */
	int fl = flat_carrying.on ? -1 : flat_sys_fcntl(fd, F_GETFL, 0);
	if (fl >= 0) {
		atomic_store(&s->nonblock, (fl & O_NONBLOCK) != 0);
		atomic_store(&s->async, (fl & O_ASYNC) != 0);
	}
	flat_share_note(s);
}

bool flat_share_moved(struct flat_sock *s)
{
	if (flat_likely(!flat_shared(s)))
		return flat_ring_moved(&s->vq.rx);
	flat_share_note(s);
	if (flat_carrying.on)
		return flat_ring_moved_beyond(&s->vq.rx, flat_carrying.lent);
	if (!flat_ring_moved_any(&s->vq.rx))
		return false;
	/* Read by a program, maybe, of which its carrier has not taken note. */
	if (carried(s) & FLAT_CARRY_LENT)
		flat_share_settle(s);
	return flat_ring_moved_any(&s->vq.rx);
}

ssize_t flat_share_pending(struct flat_sock *s)
{
	if (flat_likely(!flat_shared(s)))
		return flat_ring_pending(&s->vq.rx);
	if (carried(s) & FLAT_CARRY_LENT)
		flat_share_settle(s);
	flat_lock(&s->rx_lock);
	ssize_t n = flat_ring_rx_resume(&s->vq.rx);
	if (n == 0)
		n = flat_ring_pending(&s->vq.rx);
	flat_unlock(&s->rx_lock);
	return n;
}

ssize_t flat_share_space(struct flat_sock *s)
{
	if (flat_likely(!flat_shared(s)))
		return flat_ring_space(&s->vq.tx);
	flat_lock(&s->tx_lock);
	flat_share_note(s);
	ssize_t n = flat_ring_tx_resume(&s->vq.tx);
	if (n == 0)
		n = flat_ring_space(&s->vq.tx);
	flat_unlock(&s->tx_lock);
	return n;
}
