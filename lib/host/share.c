#include "host/share.h"

#include <fcntl.h>

void flat_share_export(struct flat_sock *s)
{
	if (s->kind != FLAT_FD_STREAM || flat_shared(s))
		return;
	flat_lock(&s->tx_lock);
	flat_lock(&s->rx_lock);
	/* Nobody is ever alone on its anchor again: bell.h. */
	if (!atomic_exchange(&s->exported, 1))
		atomic_fetch_add(&s->waiters, 1);
	flat_unlock(&s->rx_lock);
	flat_unlock(&s->tx_lock);
}

/* One byte of the anchor's inode for each direction. The lock belongs to the process: its threads have theirs. */
static void lock_range(int fd, bool tx, short type)
{
	struct flock range = {.l_type = type, .l_start = tx, .l_len = 1};
	long err;
	do {
		err = FLAT_SYS3(SYS_fcntl, fd, F_SETLKW, &range);
		/* Two threads of ours, each with a lock of its own connection, are no deadlock. */
		if (err == -EDEADLK)
			flat_sys_yield();
	} while (err == -EINTR || err == -EDEADLK);
}

int flat_share_begin(struct flat_sock *s, int fd, bool tx)
{
	flat_lock(tx ? &s->tx_lock : &s->rx_lock);
	if (flat_likely(!flat_shared(s)))
		return 0;
	lock_range(fd, tx, F_WRLCK);
	return tx ? flat_ring_tx_resume(&s->vq.tx) : flat_ring_rx_resume(&s->vq.rx);
}

void flat_share_end(struct flat_sock *s, int fd, bool tx)
{
	if (flat_unlikely(flat_shared(s)))
		lock_range(fd, tx, F_UNLCK);
	flat_unlock(tx ? &s->tx_lock : &s->rx_lock);
}

static void refresh_flags(struct flat_sock *s)
{
	if (flat_vq_own_prod_flags(&s->vq) & FLAT_PROD_FIN)
		atomic_store(&s->wr_shut, 1);
	if (flat_vq_own_cons_flags(&s->vq) & FLAT_CONS_SHUT)
		atomic_store(&s->rd_shut, 1);
}

void flat_share_refresh(struct flat_sock *s, int fd)
{
	int fl = flat_sys_fcntl(fd, F_GETFL, 0);
	if (fl >= 0)
		atomic_store(&s->nonblock, (fl & O_NONBLOCK) != 0);
	refresh_flags(s);
}

bool flat_share_moved(struct flat_sock *s)
{
	if (flat_likely(!flat_shared(s)))
		return flat_ring_moved(&s->vq.rx);
	refresh_flags(s);
	return flat_ring_moved_any(&s->vq.rx);
}

ssize_t flat_share_pending(struct flat_sock *s)
{
	if (flat_likely(!flat_shared(s)))
		return flat_ring_pending(&s->vq.rx);
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
	refresh_flags(s);
	ssize_t n = flat_ring_tx_resume(&s->vq.tx);
	if (n == 0)
		n = flat_ring_space(&s->vq.tx);
	flat_unlock(&s->tx_lock);
	return n;
}
