#include "host/holders.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/pool.h"

/* Processes at a time, and bits of a word. A server with more children than this has sockets that are not given out again. */
#define ROWS 4096U
#define BITS 64U
/* Held by processes that have no row: nobody knows when they end. */
#define UNKNOWN 0U
/* Rows that are looked at for each fork. */
#define LOOKS 8U
/* Forks at a time in one process; others' children have no row. */
#define PENDING 16U

/* Of a row. OWNED: its process could not lock it, and is never taken for dead. */
enum { FREE, OWNED, LOCKED };

static struct {
	_Atomic uint32_t words; /* rows beyond so many words of bits were never used */
	uint32_t look_at;
	_Atomic uint8_t state[ROWS];
	_Atomic uint32_t turn[ROWS]; /* free-running: processes that had it and ended */
	_Atomic uint64_t file[ROWS]; /* LOCKED: the inode of the file that has the lock */
	_Atomic uint64_t bits[ROWS / BITS][FLAT_SOCKS_MAX];
} * table;

/* This process's. A child by vfork() is its parent here, as it is in memory. */
static _Atomic uint32_t my_row; /* UNKNOWN: none yet */
_Atomic uint64_t flat_holder_process;
/* The file of locks that it has, and those forked since it was made; -1: none yet. */
static _Atomic int file_fd = -1; /* release: after the next two, which do not change any more */
static uint64_t file_ino;
static uint64_t file_dev;

/* A row that is locked for a child that is being forked, by a mapping that parent and child have. */
static struct pending {
	_Atomic bool used;
	uint32_t row;
	void *lock;
} pending[PENDING];
static __thread struct pending *my_pending;

bool flat_holders_make(void)
{
	if (table)
		return true;
	table = flat_map_zero(sizeof(*table), MAP_SHARED);
	if (table)
		atomic_store(&table->words, 1);
	return table != NULL;
}

/* --- the file of locks --- */

/* Programs close numbers that they do not know, and others get these. */
static bool file_there(void)
{
	struct stat st;
	int fd = atomic_load_explicit(&file_fd, memory_order_acquire);
	return fd >= 0 && FLAT_SYS2(SYS_fstat, fd, &st) == 0 && st.st_ino == file_ino &&
	       st.st_dev == file_dev;
}

void flat_holders_prepare(void)
{
	struct stat st;
	/* A child by vfork() has its parent's memory, and descriptors of its own. */
	if (file_fd >= 0 || flat_fd_foreign())
		return;
	int fd = flat_fd_private((int)FLAT_SYS2(SYS_memfd_create, "flat-holders", MFD_CLOEXEC));
	if (fd < 0 || FLAT_SYS2(SYS_fstat, fd, &st) < 0) {
		flat_fd_close_private(fd);
		return;
	}
	file_ino = st.st_ino;
	file_dev = st.st_dev;
	atomic_store_explicit(&file_fd, fd, memory_order_release);
}

/*
 * A lock of an open file of its own, which only a mapping keeps open: so it lasts as long as the memory that has the mapping,
 * and no descriptor can be closed from under it. 0, -EAGAIN: another has it, or a negative errno.
 */
static long lock_row(uint32_t row, void **lock)
{
	struct flock byte = {.l_type = F_WRLCK, .l_start = (off_t)row, .l_len = 1};
	char path[32];
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
	int fd = (int)FLAT_SYS4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	long err = FLAT_SYS3(SYS_fcntl, fd, F_OFD_SETLK, &byte);
	long addr = err == 0 ? FLAT_SYS6(SYS_mmap, 0, 1, PROT_NONE, MAP_SHARED, fd, 0) : err;
	flat_sys_close(fd);
	if (addr < 0 && addr > -4096)
		return addr;
	*lock = (void *)addr;
	return 0;
}

static void unlock_row(void *lock)
{
	if (lock)
		(void)FLAT_SYS2(SYS_munmap, lock, 1);
}

/* With the file there. */
static bool is_dead(uint32_t row)
{
	struct flock byte = {.l_type = F_WRLCK, .l_start = (off_t)row, .l_len = 1};
	return row != my_row && atomic_load(&table->state[row]) == LOCKED &&
	       atomic_load(&table->file[row]) == file_ino &&
	       FLAT_SYS3(SYS_fcntl, file_fd, F_OFD_GETLK, &byte) == 0 && byte.l_type == F_UNLCK;
}

/* --- rows --- */

static uint64_t process_of(uint32_t row)
{
	uint64_t turn = atomic_load(&table->turn[row]) % (1U << FLAT_HOLDER_TURN_BITS);
	return (((uint64_t)row << FLAT_HOLDER_TURN_BITS) | turn) << FLAT_HOLDER_TID_BITS;
}

static void set_mine(uint32_t row)
{
	my_row = row;
	atomic_store(&flat_holder_process, row == UNKNOWN ? 0 : process_of(row));
}

enum flat_life flat_holders_life(uint64_t word)
{
	uint64_t process = word >> FLAT_HOLDER_TID_BITS << FLAT_HOLDER_TID_BITS;
	uint32_t row = (uint32_t)(word >> FLAT_HOLDER_TID_BITS >> FLAT_HOLDER_TURN_BITS);
	if (row == UNKNOWN || !table)
		return FLAT_LIFE_UNKNOWN;
	if (process != process_of(row))
		return FLAT_LIFE_OVER;
	/* The file first: what it is is known then. */
	if (row == my_row || !file_there() || atomic_load(&table->state[row]) != LOCKED ||
	    atomic_load(&table->file[row]) != file_ino)
		return FLAT_LIFE_UNKNOWN;
	return is_dead(row) ? FLAT_LIFE_OVER : FLAT_LIFE_GOES_ON;
}

/* A free row, locked if it can be: *lock, NULL else. UNKNOWN: there is none. */
static uint32_t claim(void **lock)
{
	bool lockable = file_there();
	*lock = NULL;
	for (uint32_t row = 1; row < ROWS; row++) {
		if (atomic_load_explicit(&table->state[row], memory_order_relaxed) != FREE)
			continue;
		if (lockable && lock_row(row, lock) == -EAGAIN)
			continue;
		/* Locked before it is said to be: who is killed in between has taken nothing. */
		atomic_store(&table->file[row], file_ino);
		atomic_store(&table->state[row], *lock ? LOCKED : OWNED);
		if (row / BITS >= atomic_load(&table->words))
			atomic_store(&table->words, row / BITS + 1);
		return row;
	}
	return UNKNOWN;
}

/* This process's mapping is not its children's. */
static void keep(void *lock)
{
	if (lock)
		(void)FLAT_SYS3(SYS_madvise, lock, 1, MADV_DONTFORK);
}

static uint32_t mine(void)
{
	void *lock;
	if (flat_unlikely(my_row == UNKNOWN)) {
		set_mine(claim(&lock));
		keep(lock);
	}
	return my_row;
}

/* Once there is a file: the first process had none when it got its row. */
static void lock_mine(void)
{
	uint32_t row = my_row;
	if (row == UNKNOWN || atomic_load(&table->state[row]) != OWNED || !file_there())
		return;
	void *lock;
	if (lock_row(row, &lock) != 0)
		return;
	keep(lock);
	atomic_store(&table->file[row], file_ino);
	atomic_store(&table->state[row], LOCKED);
}

/* --- bits --- */

static _Atomic uint64_t *word_of(uint32_t row, uint32_t i)
{
	return &table->bits[row / BITS][i];
}

static uint64_t bit_of(uint32_t row)
{
	return UINT64_C(1) << (row % BITS);
}

static void set(uint32_t row, uint32_t i)
{
	atomic_fetch_or_explicit(word_of(row, i), bit_of(row), memory_order_relaxed);
}

static void clear(uint32_t row, uint32_t i)
{
	atomic_fetch_and_explicit(word_of(row, i), ~bit_of(row), memory_order_relaxed);
}

void flat_holders_take(uint32_t i)
{
	set(mine(), i);
}

void flat_holders_drop(uint32_t i)
{
	/* Whose else that bit may be is not known. */
	if (my_row != UNKNOWN)
		clear(my_row, i);
}

bool flat_holders_has(uint32_t i)
{
	return atomic_load_explicit(word_of(my_row, i), memory_order_relaxed) & bit_of(my_row);
}

/* The others of one word of rows. */
static uint64_t others_in(uint32_t word, uint32_t i)
{
	uint64_t bits = atomic_load_explicit(&table->bits[word][i], memory_order_relaxed);
	uint32_t row = my_row;
	return row != UNKNOWN && row / BITS == word ? bits & ~bit_of(row) : bits;
}

bool flat_holders_others(uint32_t i)
{
	uint32_t words = atomic_load_explicit(&table->words, memory_order_relaxed);
	for (uint32_t w = 0; w < words; w++) {
		if (others_in(w, i))
			return true;
	}
	return false;
}

bool flat_holders_none(uint32_t i)
{
	uint32_t words = atomic_load_explicit(&table->words, memory_order_relaxed);
	for (uint32_t w = 0; w < words; w++) {
		if (atomic_load_explicit(&table->bits[w][i], memory_order_relaxed))
			return false;
	}
	return true;
}

bool flat_holders_others_live(uint32_t i)
{
	if (flat_likely(!flat_holders_others(i)))
		return false;
	if (!file_there())
		return true;
	uint32_t words = atomic_load(&table->words);
	for (uint32_t w = 0; w < words; w++) {
		for (uint64_t bits = others_in(w, i); bits; bits &= bits - 1) {
			uint32_t row = w * BITS + (uint32_t)__builtin_ctzll(bits);
			if (!is_dead(row))
				return true;
			clear(row, i);
		}
	}
	return false;
}

/* --- those that ended --- */

static void take_back(uint32_t row, uint32_t n, void (*freed)(uint32_t i))
{
	for (uint32_t i = 0; i < n; i++) {
		if (!(atomic_load_explicit(word_of(row, i), memory_order_relaxed) & bit_of(row)))
			continue;
		clear(row, i);
		if (flat_holders_none(i))
			freed(i);
	}
	/* Last: who is killed in here leaves a row that is dead still. Locks that name it are nobody's from the turn on. */
	atomic_fetch_add(&table->turn[row], 1);
	atomic_store(&table->state[row], FREE);
}

void flat_holders_sweep(bool all, uint32_t n, void (*freed)(uint32_t i))
{
	if (!file_there())
		return;
	uint32_t rows = atomic_load(&table->words) * BITS;
	uint32_t left = all ? rows : LOOKS;
	/* Free ones cost no question. */
	for (uint32_t k = 0; k < rows && left > 0; k++) {
		uint32_t row = table->look_at++ % rows;
		if (row == my_row || atomic_load(&table->state[row]) != LOCKED)
			continue;
		left--;
		if (is_dead(row))
			take_back(row, n, freed);
	}
}

/* --- fork --- */

static struct pending *pending_new(void)
{
	for (size_t k = 0; k < PENDING; k++) {
		if (!atomic_exchange(&pending[k].used, true))
			return &pending[k];
	}
	return NULL;
}

void flat_holders_forking(uint32_t n, bool (*held)(uint32_t i))
{
	struct pending *p = pending_new();
	bool any = false;
	lock_mine();
	my_pending = p;
	if (p) {
		p->row = UNKNOWN;
		p->lock = NULL;
	}
	for (uint32_t i = 0; i < n; i++) {
		if (!held(i))
			continue;
		if (p && !any)
			p->row = claim(&p->lock);
		any = true;
		set(p ? p->row : UNKNOWN, i);
	}
}

static void pending_over(struct pending *p)
{
	unlock_row(p->lock);
	p->lock = NULL;
	atomic_store(&p->used, false);
}

void flat_holders_fork_over(void)
{
	if (my_pending)
		pending_over(my_pending);
	my_pending = NULL;
}

void flat_holders_forked(void)
{
	struct pending *p = my_pending;
	my_pending = NULL;
	set_mine(p ? p->row : UNKNOWN);
	if (p) {
		keep(p->lock);
		p->lock = NULL;
	}
	/* And those of children that other threads were making: else we would keep their rows when they end. */
	for (size_t k = 0; k < PENDING; k++)
		pending_over(&pending[k]);
}
