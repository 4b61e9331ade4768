#include "control/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "control/files.h"

/* In a folder: names that come, go or were written. Of a path itself: content, or another file there. */
#define FOLDER_EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE)
#define SELF_EVENTS (IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)
/* The symbolic link that Kubernetes swaps to replace all files of a volume at once. */
#define KUBERNETES_DATA "..data"

struct watched {
	char *path;
	char *parent;	  /* folder that holds it */
	const char *name; /* its name there; points into path */
	int parent_wd;	  /* -1: none */
	int self_wd;	  /* -1: does not exist now */
};

/* One thread. */
struct flat_watch {
	int epoll_fd; /* what the caller polls: inotify and timer */
	int inotify_fd;
	int timer_fd;
	uint64_t first_ms; /* when the changes began that wait to be reported; 0: none wait */
	bool all;	   /* every file of a folder matters */
	bool by_name;	   /* flat_watch_name_files() */
	char *names[FLAT_WATCH_NAMES_MAX]; /* that were not taken yet */
	size_t n_names;
	size_t n;
	struct watched v[];
};

/* Splits `path` into folder and name; a final slash does not count. */
static int split(struct watched *w, const char *path)
{
	size_t len = strlen(path);
	char *slash;

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len == 0)
		return -ENOENT;
	w->path = strndup(path, len);
	if (!w->path)
		return -ENOMEM;
	slash = strrchr(w->path, '/');
	w->name = slash && slash[1] ? slash + 1 : slash ? "." : w->path;
	if (!slash)
		w->parent = strdup(".");
	else
		w->parent = strndup(w->path, slash == w->path ? 1 : (size_t)(slash - w->path));
	return w->parent ? 0 : -ENOMEM;
}

static void drop(struct flat_watch *watch, int wd)
{
	size_t i;

	/* The same inode has one descriptor, which several paths may share. */
	for (i = 0; i < watch->n; i++)
		if (watch->v[i].parent_wd == wd || watch->v[i].self_wd == wd)
			return;
	(void)inotify_rm_watch(watch->inotify_fd, wd);
}

/*
 * Watches what is at the path now. IN_MASK_ADD, because a folder may be both the parent of one path and
 * another path itself. A path that does not exist is no error: its parent tells when it comes.
 */
static int watch_self(struct flat_watch *watch, struct watched *w)
{
	int old = w->self_wd;

	w->self_wd = inotify_add_watch(watch->inotify_fd, w->path,
				       SELF_EVENTS | FOLDER_EVENTS | IN_MASK_ADD);
	if (w->self_wd < 0 && (errno == ENOSPC || errno == ENOMEM))
		return -errno;
	if (old >= 0 && old != w->self_wd)
		drop(watch, old);
	return 0;
}

static int watch_parent(struct flat_watch *watch, struct watched *w)
{
	int old = w->parent_wd;

	w->parent_wd = inotify_add_watch(watch->inotify_fd, w->parent,
					 FOLDER_EVENTS | IN_ONLYDIR | IN_MASK_ADD);
	if (w->parent_wd < 0)
		return -errno;
	if (old >= 0 && old != w->parent_wd)
		drop(watch, old);
	return 0;
}

static int open_fds(struct flat_watch *watch)
{
	struct epoll_event event = {.events = EPOLLIN};

	watch->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (watch->inotify_fd < 0)
		return -errno;
	watch->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (watch->timer_fd < 0)
		return -errno;
	watch->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (watch->epoll_fd < 0)
		return -errno;
	if (epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, watch->inotify_fd, &event) ||
	    epoll_ctl(watch->epoll_fd, EPOLL_CTL_ADD, watch->timer_fd, &event))
		return -errno;
	return 0;
}

int flat_watch_open(const char *const *paths, size_t n_paths, struct flat_watch **out)
{
	struct flat_watch *watch;
	size_t i;
	int ret;

	if (n_paths > (SIZE_MAX - sizeof(*watch)) / sizeof(watch->v[0]))
		return -ENOMEM;
	watch = calloc(1, sizeof(*watch) + n_paths * sizeof(watch->v[0]));
	if (!watch)
		return -ENOMEM;
	watch->epoll_fd = watch->inotify_fd = watch->timer_fd = -1;
	watch->n = n_paths;
	for (i = 0; i < n_paths; i++)
		watch->v[i].parent_wd = watch->v[i].self_wd = -1;
	ret = open_fds(watch);
	for (i = 0; i < n_paths && !ret; i++) {
		ret = split(&watch->v[i], paths[i]);
		if (!ret)
			ret = watch_parent(watch, &watch->v[i]);
		if (!ret)
			ret = watch_self(watch, &watch->v[i]);
	}
	if (ret) {
		flat_watch_close(watch);
		return ret;
	}
	*out = watch;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void drop_names(struct flat_watch *watch)
{
	while (watch->n_names > 0)
		free(watch->names[--watch->n_names]);
}

void flat_watch_close(struct flat_watch *watch)
{
	size_t i;

	if (!watch)
		return;
	close_fd(watch->epoll_fd);
	close_fd(watch->inotify_fd);
	close_fd(watch->timer_fd);
	drop_names(watch);
	for (i = 0; i < watch->n; i++) {
		free(watch->v[i].path);
		free(watch->v[i].parent);
	}
	free(watch);
}

int flat_watch_fd(const struct flat_watch *watch)
{
	return watch->epoll_fd;
}

void flat_watch_every_file(struct flat_watch *watch)
{
	watch->all = true;
}

void flat_watch_name_files(struct flat_watch *watch)
{
	watch->by_name = true;
}

/* One name more, ours from now on. False: there is no room, or no memory (NULL). */
static bool add_name(struct flat_watch *watch, char *path)
{
	if (!path)
		return false;
	for (size_t i = 0; i < watch->n_names; i++) {
		if (strcmp(watch->names[i], path) != 0)
			continue;
		free(path);
		return true;
	}
	if (watch->n_names == FLAT_WATCH_NAMES_MAX) {
		free(path);
		return false;
	}
	watch->names[watch->n_names++] = path;
	return true;
}

static char *path_in(const char *folder, const char *name)
{
	size_t len = strlen(folder) + strlen(name) + 2;
	char *path = malloc(len);

	if (path)
		(void)snprintf(path, len, "%s/%s", folder, name);
	return path;
}

/* Whether an event is about one file of one folder, which is whole: then its name is noted. */
static bool names_file(struct flat_watch *watch, const struct inotify_event *event)
{
	const struct watched *of = NULL;

	if (!watch->by_name || event->len == 0 || !(event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) ||
	    (event->mask & IN_ISDIR) || !config_file_wanted(event->name))
		return false;
	for (size_t i = 0; i < watch->n; i++) {
		const struct watched *w = &watch->v[i];

		if (event->wd != w->self_wd && event->wd != w->parent_wd)
			continue;
		if (of || event->wd != w->self_wd)
			return false;
		of = w;
	}
	return of && add_name(watch, path_in(of->path, event->name));
}

/* A file that is reached by the link is another one now, and watched as such; a folder takes more than that. */
static bool is_other_file(struct flat_watch *watch, struct watched *w)
{
	struct stat st;

	return stat(w->path, &st) == 0 && S_ISREG(st.st_mode) && watch_self(watch, w) == 0 &&
	       w->self_wd >= 0;
}

/* Whether an event is the swap of a volume by Kubernetes: then the folders and files that it concerns are noted. */
static bool names_swap(struct flat_watch *watch, const struct inotify_event *event)
{
	bool any = false;

	if (!watch->by_name || event->len == 0 || !(event->mask & IN_MOVED_TO) ||
	    strcmp(event->name, KUBERNETES_DATA) != 0)
		return false;
	for (size_t i = 0; i < watch->n; i++) {
		struct watched *w = &watch->v[i];

		if (event->wd != w->self_wd && event->wd != w->parent_wd)
			continue;
		if (event->wd != w->self_wd && !is_other_file(watch, w))
			return false;
		if (!add_name(watch, strdup(w->path)))
			return false;
		any = true;
	}
	return any;
}

/* Whether an event can have changed what a load would read. */
static bool matters(const struct flat_watch *watch, const struct inotify_event *event)
{
	const char *name = event->len ? event->name : "";
	size_t i;

	if (event->mask & IN_Q_OVERFLOW)
		return true;
	if (event->mask & IN_IGNORED)
		return false;
	for (i = 0; i < watch->n; i++) {
		const struct watched *w = &watch->v[i];

		if (event->wd == w->self_wd && (!*name || watch->all || config_file_wanted(name) ||
						strcmp(name, KUBERNETES_DATA) == 0))
			return true;
		if (event->wd == w->parent_wd &&
		    (strcmp(name, w->name) == 0 || strcmp(name, KUBERNETES_DATA) == 0))
			return true;
	}
	return false;
}

/* Reads all events; true if one matters that names no file. */
static bool drain(struct flat_watch *watch)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool found = false;
	ssize_t n;

	while ((n = read(watch->inotify_fd, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
		ssize_t at = 0;

		while (at < n) {
			const struct inotify_event *event = (const void *)(buf + at);

			found |= matters(watch, event) && !names_file(watch, event) &&
				 !names_swap(watch, event);
			at += (ssize_t)(sizeof(*event) + event->len);
		}
	}
	return found;
}

/* The timer goes off when it has been quiet, or when it has not been for too long. */
static void arm(struct flat_watch *watch)
{
	uint64_t now = (uint64_t)flat_now_ms(), at = now + FLAT_WATCH_QUIET_MS;
	struct itimerspec spec = {0};

	if (!watch->first_ms)
		watch->first_ms = now;
	if (at > watch->first_ms + FLAT_WATCH_MAX_WAIT_MS)
		at = watch->first_ms + FLAT_WATCH_MAX_WAIT_MS;
	spec.it_value.tv_sec = (time_t)(at / 1000);
	/* Zero would disarm it: an instant that lies in the past is wanted at once. */
	spec.it_value.tv_nsec = (long)(at % 1000) * 1000000 + 1;
	(void)timerfd_settime(watch->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

bool flat_watch_changed(struct flat_watch *watch)
{
	uint64_t expired;
	size_t i;

	/* The timer first: setting it again would forget that it went off. */
	if (read(watch->timer_fd, &expired, sizeof(expired)) == (ssize_t)sizeof(expired)) {
		watch->first_ms = 0;
		/* What is at the paths now may be other files. Watched before they are read, so that
		 * a change after the reading is seen; the events up to here are covered by it. */
		for (i = 0; i < watch->n; i++) {
			(void)watch_parent(watch, &watch->v[i]);
			(void)watch_self(watch, &watch->v[i]);
		}
		(void)drain(watch);
		drop_names(watch);
		return true;
	}
	if (drain(watch))
		arm(watch);
	return false;
}

size_t flat_watch_take(struct flat_watch *watch, char **names)
{
	size_t n = watch->first_ms ? 0 : watch->n_names;

	if (n > 0) {
		memcpy(names, watch->names, n * sizeof(*names));
		watch->n_names = 0;
	}
	return n;
}

void flat_watch_touch(struct flat_watch *watch)
{
	arm(watch);
}
