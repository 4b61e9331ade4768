#include "offload/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/thread.h"
#include "offload/worker.h"

/* Lines gather for so long before they are written, ms: a reader of the file hardly sees it. */
#define GATHER_MS 20
/* How often a file is looked for under its name, and how long a pipe may take nothing at the end, ms. */
#define LOOK_MS 1000

struct buffer {
	char *bytes; /* FLAT_LOG_WAITING_MAX, once there is a line */
	size_t len;
};

struct flat_log_file {
	struct flat_log_files *files;
	char *path;
	int fd;	     /* the thread's; -1: it could not be opened again */
	bool own_fd; /* a name of its own: may be moved away */
	dev_t dev;
	ino_t ino;
	int64_t looked_ms;
	struct buffer waiting; /* files->lock */
	struct buffer going;   /* the thread's */
};

struct flat_log_files {
	pthread_mutex_t lock; /* held for a copy at most; below no other lock */
	pthread_cond_t some;
	pthread_t thread;
	bool running;
	bool stop;	    /* lock */
	bool any;	    /* lock: something waits */
	atomic_bool reopen; /* set by any thread, taken by ours; relaxed: nothing goes with it */
	_Atomic uint64_t dropped; /* relaxed: a counter */
	struct flat_log_file *v[FLAT_LOG_FILES_MAX];
	atomic_uint n; /* release by the control thread when v[n - 1] is whole; acquire by ours */
};

/* --- the thread --- */

static void note_identity(struct flat_log_file *f)
{
	struct stat st;

	f->looked_ms = flat_now_ms();
	if (fstat(f->fd, &st) != 0)
		return;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
}

static int open_path(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

/* The file again under its name, where another or none is there. */
static void look(struct flat_log_file *f, bool again)
{
	struct stat st;
	int fd;

	if (!f->own_fd || (!again && flat_now_ms() - f->looked_ms < LOOK_MS))
		return;
	f->looked_ms = flat_now_ms();
	if (!again && f->fd >= 0 && stat(f->path, &st) == 0 && st.st_dev == f->dev &&
	    st.st_ino == f->ino)
		return;
	fd = open_path(f->path);
	if (fd < 0) {
		flat_warn("access log %s cannot be opened again: %s; %s", f->path, strerror(errno),
			  f->fd >= 0 ? "the old file is written on" : "lines are dropped");
		return;
	}
	if (f->fd >= 0)
		close(f->fd);
	f->fd = fd;
	note_identity(f);
}

static uint64_t lines_of(const char *bytes, size_t len)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += bytes[i] == '\n';
	return n;
}

static bool stopping(struct flat_log_files *files)
{
	bool stop;

	pthread_mutex_lock(&files->lock);
	stop = files->stop;
	pthread_mutex_unlock(&files->lock);
	return stop;
}

/* Waits for a pipe's reader: in the meantime the control thread drops what does not fit. */
static void write_all(struct flat_log_file *f, bool last)
{
	size_t at = 0;
	int64_t end_ms = flat_now_ms() + LOOK_MS;

	while (f->fd >= 0 && at < f->going.len) {
		struct pollfd p = {.fd = f->fd, .events = POLLOUT};
		ssize_t n = -EAGAIN;

		/* Standard output may be a pipe that blocks: what is writable takes PIPE_BUF bytes. */
		if (f->own_fd)
			n = flat_sys_write(f->fd, f->going.bytes + at, f->going.len - at);
		else if (poll(&p, 1, 0) == 1)
			n = flat_sys_write(f->fd, f->going.bytes + at,
					   flat_min_size(f->going.len - at, PIPE_BUF));
		if (n > 0) {
			at += (size_t)n;
			continue;
		}
		if (n == -EINTR)
			continue;
		if (n != -EAGAIN || (last && flat_now_ms() > end_ms))
			break;
		(void)poll(&p, 1, LOOK_MS / 10);
		if (!last && stopping(f->files)) {
			last = true;
			end_ms = flat_now_ms() + LOOK_MS;
		}
	}
	atomic_fetch_add_explicit(&f->files->dropped,
				  lines_of(f->going.bytes + at, f->going.len - at),
				  memory_order_relaxed);
	f->going.len = 0;
}

static void write_some(struct flat_log_files *files, bool last)
{
	bool again = atomic_exchange_explicit(&files->reopen, false, memory_order_relaxed);
	uint32_t n = atomic_load_explicit(&files->n, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		struct flat_log_file *f = files->v[i];
		struct buffer swap;

		pthread_mutex_lock(&files->lock);
		swap = f->waiting;
		f->waiting = f->going;
		f->going = swap;
		last |= files->stop;
		pthread_mutex_unlock(&files->lock);
		if (again || f->going.len > 0)
			look(f, again);
		if (f->going.len > 0)
			write_all(f, last);
	}
}

static void *run(void *arg)
{
	struct flat_log_files *files = arg;
	const struct timespec gather = {.tv_nsec = (long)GATHER_MS * 1000000};
	bool stop = false;

	while (!stop) {
		pthread_mutex_lock(&files->lock);
		while (!files->any && !files->stop)
			pthread_cond_wait(&files->some, &files->lock);
		stop = files->stop;
		pthread_mutex_unlock(&files->lock);
		if (!stop)
			nanosleep(&gather, NULL);
		pthread_mutex_lock(&files->lock);
		files->any = false;
		pthread_mutex_unlock(&files->lock);
		write_some(files, stop);
	}
	return NULL;
}

/* --- the control thread --- */

struct flat_log_files *flat_log_files_new(void)
{
	struct flat_log_files *files = calloc(1, sizeof(*files));

	if (!files)
		return NULL;
	pthread_mutex_init(&files->lock, NULL);
	pthread_cond_init(&files->some, NULL);
	return files;
}

static void wake(struct flat_log_files *files)
{
	files->any = true;
	pthread_cond_signal(&files->some);
}

void flat_log_files_free(struct flat_log_files *files)
{
	if (!files)
		return;
	pthread_mutex_lock(&files->lock);
	files->stop = true;
	wake(files);
	pthread_mutex_unlock(&files->lock);
	if (files->running)
		pthread_join(files->thread, NULL);
	for (uint32_t i = 0; i < atomic_load(&files->n); i++) {
		struct flat_log_file *f = files->v[i];

		if (f->fd >= 0)
			close(f->fd);
		free(f->waiting.bytes);
		free(f->going.bytes);
		free(f->path);
		free(f);
	}
	pthread_mutex_destroy(&files->lock);
	pthread_cond_destroy(&files->some);
	free(files);
}

static int open_first(struct flat_log_file *f)
{
	/* Names of what the process has already: a socket cannot be opened by them. */
	if (strcmp(f->path, "/dev/stdout") == 0)
		f->fd = fcntl(1, F_DUPFD_CLOEXEC, 3);
	else if (strcmp(f->path, "/dev/stderr") == 0)
		f->fd = fcntl(2, F_DUPFD_CLOEXEC, 3);
	else
		f->own_fd = true;
	if (f->own_fd)
		f->fd = open_path(f->path);
	return f->fd < 0 ? -errno : 0;
}

static bool start(struct flat_log_files *files)
{
	if (!files->running)
		files->running = flat_thread_start(&files->thread, NULL, run, files) == 0;
	return files->running;
}

struct flat_log_file *flat_log_file_find(const struct flat_log_files *files, const char *path)
{
	uint32_t n = atomic_load_explicit(&files->n, memory_order_relaxed);

	for (uint32_t i = 0; i < n; i++) {
		if (strcmp(files->v[i]->path, path) == 0)
			return files->v[i];
	}
	return NULL;
}

struct flat_log_file *flat_log_file_get(struct flat_log_files *files, const char *path)
{
	uint32_t n = atomic_load_explicit(&files->n, memory_order_relaxed);
	struct flat_log_file *f = flat_log_file_find(files, path);
	int err;

	if (f)
		return f;
	f = n < FLAT_LOG_FILES_MAX ? calloc(1, sizeof(*f)) : NULL;
	if (!f)
		return NULL;
	f->files = files;
	f->path = strdup(path);
	err = f->path && start(files) ? open_first(f) : -ENOMEM;
	if (err != 0) {
		flat_error("access log %s: %s; requests are not logged there", path,
			   strerror(-err));
		free(f->path);
		free(f);
		return NULL;
	}
	note_identity(f);
	files->v[n] = f;
	atomic_store_explicit(&files->n, n + 1, memory_order_release);
	return f;
}

static bool has_room(struct buffer *b, size_t len)
{
	if (!b->bytes)
		b->bytes = malloc(FLAT_LOG_WAITING_MAX);
	return b->bytes && len <= FLAT_LOG_WAITING_MAX - b->len;
}

void flat_log_file_put(struct flat_log_file *f, const void *bytes, size_t len)
{
	struct flat_log_files *files = f->files;

	pthread_mutex_lock(&files->lock);
	if (has_room(&f->waiting, len)) {
		memcpy(f->waiting.bytes + f->waiting.len, bytes, len);
		f->waiting.len += len;
		if (!files->any)
			wake(files);
	} else {
		atomic_fetch_add_explicit(&files->dropped, lines_of(bytes, len),
					  memory_order_relaxed);
	}
	pthread_mutex_unlock(&files->lock);
}

void flat_log_files_reopen(struct flat_log_files *files)
{
	atomic_store_explicit(&files->reopen, true, memory_order_relaxed);
	pthread_mutex_lock(&files->lock);
	wake(files);
	pthread_mutex_unlock(&files->lock);
}

uint64_t flat_log_files_dropped(const struct flat_log_files *files)
{
	return files ? atomic_load_explicit(&files->dropped, memory_order_relaxed) : 0;
}
