#include "inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"

static const struct {
	long nr;
	int err;
	const char *name;
} watched[] = {
    {SYS_mmap, ENOMEM, "mmap"},
    {SYS_memfd_create, EMFILE, "memfd_create"},
    {SYS_ftruncate, ENOSPC, "ftruncate"},
    {SYS_fallocate, ENOSPC, "fallocate"},
    {SYS_socket, EMFILE, "socket"},
    {SYS_socketpair, EMFILE, "socketpair"},
    {SYS_eventfd2, EMFILE, "eventfd"},
    {SYS_epoll_create1, ENOMEM, "epoll_create1"},
    {SYS_fcntl, EMFILE, "fcntl"},
    {SYS_dup, EMFILE, "dup"},
    {SYS_pidfd_open, EMFILE, "pidfd_open"},
    {SYS_openat, EMFILE, "open"},
    {SYS_timerfd_create, EMFILE, "timerfd_create"},
    {SYS_inotify_init1, EMFILE, "inotify_init1"},
    {SYS_io_uring_setup, ENOMEM, "io_uring_setup"},
};

static int notify_fd = -1;
static _Atomic bool armed;
static _Atomic long calls;
static _Atomic long fail_at;
static _Atomic bool hit;
static _Atomic long blocks;
static const char *_Atomic what = "nothing";
static _Atomic int watched_tid;
static _Thread_local bool mine;

static bool fails(const char *name)
{
	if (!atomic_load(&armed) || atomic_fetch_add(&calls, 1) != atomic_load(&fail_at))
		return false;
	atomic_store(&what, name);
	atomic_store(&hit, true);
	return true;
}

/* --- allocations --- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void __real_free(void *mem);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
void __wrap_free(void *mem);

static void *count(void *mem)
{
	if (mine && mem)
		atomic_fetch_add(&blocks, 1);
	return mem;
}

static bool refused(const char *name)
{
	if (!mine || !fails(name))
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return refused("malloc") ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refused("calloc") ? NULL : count(__real_calloc(n, size));
}

void *__wrap_realloc(void *old, size_t size)
{
	if (refused("realloc"))
		return NULL;
	void *mem = __real_realloc(old, size);
	return old ? mem : count(mem);
}

void *__wrap_reallocarray(void *old, size_t n, size_t size)
{
	if (refused("reallocarray"))
		return NULL;
	void *mem = __real_reallocarray(old, n, size);
	return old ? mem : count(mem);
}

char *__wrap_strdup(const char *text)
{
	return refused("strdup") ? NULL : count(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t len)
{
	return refused("strndup") ? NULL : count(__real_strndup(text, len));
}

void __wrap_free(void *mem)
{
	if (mine && mem)
		atomic_fetch_sub(&blocks, 1);
	__real_free(mem);
}

/* --- system calls --- */

/* Code of sanitizers and of the loader: without memory they end the program, which is not what is tested. */
static struct {
	uint64_t from;
	uint64_t to;
} others[64];
static size_t n_others;

/* Before the filter is there: whoever answers must neither allocate nor take a lock. */
static void find_others(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fgets(line, sizeof(line), f) && n_others < FLAT_ARRAY_SIZE(others)) {
		unsigned long from;
		unsigned long to;
		if (!strstr(line, "san.so") && !strstr(line, "/ld-linux"))
			continue;
		if (sscanf(line, "%lx-%lx", &from, &to) == 2) {
			others[n_others].from = from;
			others[n_others++].to = to;
		}
	}
	if (f)
		fclose(f);
}

static bool of_others(uint64_t ip)
{
	for (size_t i = 0; i < n_others; i++) {
		if (ip >= others[i].from && ip < others[i].to)
			return true;
	}
	return false;
}

static int error_of(const struct seccomp_data *data)
{
	int cmd = (int)data->args[1];
	if (of_others(data->instruction_pointer))
		return 0;
	if (data->nr == SYS_fcntl && cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC && cmd != F_ADD_SEALS)
		return 0;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(watched); i++) {
		if (watched[i].nr == data->nr)
			return fails(watched[i].name) ? watched[i].err : 0;
	}
	return 0;
}

static void *answer(void *arg)
{
	static struct seccomp_notif ask;
	static struct seccomp_notif_resp reply;
	(void)arg;
	for (;;) {
		memset(&ask, 0, sizeof(ask));
		memset(&reply, 0, sizeof(reply));
		long err = FLAT_SYS3(SYS_ioctl, notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &ask);
		if (err == -EINTR || err == -ENOENT)
			continue;
		if (err < 0)
			return NULL;
		reply.id = ask.id;
		/* Threads that were made later are under the filter too. */
		if ((int)ask.pid == atomic_load(&watched_tid))
			reply.error = -error_of(&ask.data);
		reply.flags = reply.error ? 0U : (unsigned int)SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		(void)FLAT_SYS3(SYS_ioctl, notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &reply);
	}
}

static pthread_mutex_t started = PTHREAD_MUTEX_INITIALIZER;

static void *wait_and_answer(void *arg)
{
	/* Until the filter is there; this thread was made before it, so it is not under it. */
	pthread_mutex_lock(&started);
	pthread_mutex_unlock(&started);
	return notify_fd < 0 ? NULL : answer(arg);
}

static int install(void)
{
	struct sock_filter code[2 * FLAT_ARRAY_SIZE(watched) + 2];
	unsigned short n = 0;
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(watched); i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 (unsigned int)watched[i].nr, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = {.len = n, .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	long fd =
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	return fd < 0 ? -errno : (int)fd;
}

int inject_begin(void)
{
	pthread_t thread;
	find_others();
	pthread_mutex_lock(&started);
	int err = -pthread_create(&thread, NULL, wait_and_answer, NULL);
	if (err == 0) {
		notify_fd = install();
		err = notify_fd < 0 ? notify_fd : 0;
	}
	mine = err == 0;
	atomic_store(&watched_tid, flat_sys_gettid());
	pthread_mutex_unlock(&started);
	return err;
}

void inject_arm(long nth)
{
	atomic_store(&calls, 0);
	atomic_store(&hit, false);
	atomic_store(&fail_at, nth);
	atomic_store(&armed, true);
}

bool inject_disarm(void)
{
	atomic_store(&armed, false);
	return atomic_load(&hit);
}

long inject_count(void)
{
	return atomic_load(&calls);
}

long inject_target(void)
{
	return atomic_load(&fail_at);
}

void inject_note(bool took_place)
{
	atomic_store(&hit, took_place);
}

const char *inject_what(void)
{
	return atomic_load(&what);
}

long inject_blocks(void)
{
	return atomic_load(&blocks);
}

int inject_fds(void)
{
	bool was = atomic_exchange(&armed, false);
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;
	/* The folder itself, and where seccomp tells. */
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	atomic_store(&armed, was);
	return n - 3 - (notify_fd >= 0);
}

int inject_maps(void)
{
	char line[512];
	int n = 0;
	bool was = atomic_exchange(&armed, false);
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "/memfd:") != NULL;
	if (f)
		fclose(f);
	atomic_store(&armed, was);
	return n;
}
