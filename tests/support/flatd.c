#include "flatd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A sanitized flatd on a busy machine of two cores. */
#define START_MS 30000
#define END_MS 30000

static int failures;

void test_die(const char *what)
{
	printf("FAIL %s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

int64_t test_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void test_pause_ms(int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
	nanosleep(&ts, NULL);
}

bool test_until(bool (*check)(void *arg), void *arg, int limit_ms)
{
	int64_t end_ms = test_now_ms() + limit_ms;
	while (!check(arg)) {
		if (test_now_ms() > end_ms)
			return check(arg);
		test_pause_ms(5);
	}
	return true;
}

uint16_t test_free_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) != 0)
		test_die("no free port");
	close(fd);
	return ntohs(addr.sin_port);
}

void *test_shared(size_t len)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		test_die("mmap");
	return mem;
}

uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

void test_result(bool passed, const char *name, const char *fmt, ...)
{
	va_list ap;
	printf("%s %s: ", passed ? "PASS" : "FAIL", name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	failures += !passed;
}

int test_failures(void)
{
	return failures;
}

const char *test_build_dir(void)
{
	static char dir[256];
	ssize_t n = dir[0] ? 0 : readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	if (n < 0)
		test_die("readlink");
	/* <build>/tests/<program> */
	for (int i = 0; i < 2 && n > 0; i++) {
		char *slash = strrchr(dir, '/');
		if (slash)
			*slash = 0;
	}
	return dir;
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		test_die(path);
}

void test_flatd_init(struct test_flatd *f, const char *yaml)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/flat-test-XXXXXX");
	if (!mkdtemp(f->dir))
		test_die("mkdtemp");
	snprintf(f->control, sizeof(f->control), "%s/control", f->dir);
	snprintf(f->config, sizeof(f->config), "%s/mesh.yaml", f->dir);
	snprintf(f->log, sizeof(f->log), "%s/flatd.log", f->dir);
	put_file(f->config, yaml);
}

static void run_flatd(const struct test_flatd *f, int ready)
{
	char path[512];
	char number[16];
	int log = open(f->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	snprintf(path, sizeof(path), "%s/flatd", test_build_dir());
	snprintf(number, sizeof(number), "%d", ready);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (log < 0 || dup2(log, 2) < 0 || fcntl(ready, F_SETFD, 0) < 0)
		_exit(126);
	execl(path, "flatd", "--control", f->control, "--config", f->config, "--ready-fd", number,
	      "--metrics", "off", (char *)NULL);
	_exit(127);
}

void test_flatd_start(struct test_flatd *f)
{
	int ready[2];
	char byte;
	if (pipe2(ready, O_CLOEXEC) != 0)
		test_die("pipe");
	f->pid = fork();
	if (f->pid < 0)
		test_die("fork");
	if (f->pid == 0)
		run_flatd(f, ready[1]);
	close(ready[1]);
	struct pollfd p = {.fd = ready[0], .events = POLLIN};
	if (poll(&p, 1, START_MS) != 1 || read(ready[0], &byte, 1) != 1) {
		test_flatd_fini(f, true);
		test_die("flatd did not start");
	}
	close(ready[0]);
}

struct child {
	pid_t pid;
	int status;
};

static bool has_ended(void *arg)
{
	struct child *c = arg;
	return waitpid(c->pid, &c->status, WNOHANG) != 0;
}

int test_flatd_end(struct test_flatd *f, int sig)
{
	struct child c = {.pid = f->pid, .status = -1};
	if (f->pid == 0)
		return 0;
	kill(f->pid, sig);
	if (!test_until(has_ended, &c, END_MS)) {
		kill(f->pid, SIGKILL);
		(void)waitpid(f->pid, NULL, 0);
	}
	f->pid = 0;
	return c.status;
}

static void remove_file(const struct test_flatd *f, const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	unlink(path);
}

void test_flatd_fini(struct test_flatd *f, bool keep_log)
{
	char line[512];
	FILE *log = keep_log ? fopen(f->log, "r") : NULL;
	(void)test_flatd_end(f, SIGKILL);
	if (log) {
		/* The end of it is what tells. */
		if (fseek(log, -4000, SEEK_END) != 0)
			rewind(log);
		while (fgets(line, sizeof(line), log))
			printf("    %s", line);
		fclose(log);
	}
	remove_file(f, "control");
	remove_file(f, "control.admin");
	remove_file(f, "mesh.yaml");
	remove_file(f, "flatd.log");
	rmdir(f->dir);
}

long test_log_len(const struct test_flatd *f)
{
	struct stat st;
	return stat(f->log, &st) == 0 ? (long)st.st_size : 0;
}

bool test_log_has(const struct test_flatd *f, long from, const char *one, const char *two)
{
	char line[2048];
	bool found = false;
	FILE *log = fopen(f->log, "r");
	if (!log)
		return false;
	if (fseek(log, from, SEEK_SET) == 0) {
		while (!found && fgets(line, sizeof(line), log))
			found = strstr(line, one) && strstr(line, two);
	}
	fclose(log);
	return found;
}

bool test_log_report(const struct test_flatd *f, char *line, size_t size)
{
	bool found = false;
	FILE *log = fopen(f->log, "r");
	while (log && !found && fgets(line, (int)size, log)) {
		line[strcspn(line, "\n")] = 0;
		found = strstr(line, "Sanitizer") || strstr(line, "runtime error:");
	}
	if (log)
		fclose(log);
	return found;
}

static long rss_kib(pid_t pid)
{
	char path[64];
	long pages = 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%*s %ld", &pages) != 1)
		pages = 0;
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int mapped_lanes(pid_t pid)
{
	char path[64];
	char line[512];
	int n = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "memfd:flat-lane") != NULL;
	if (f)
		fclose(f);
	return n;
}

bool test_held(pid_t pid, struct test_held *held)
{
	char path[320];
	char target[256];
	memset(held, 0, sizeof(*held));
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	if (!dir)
		return false;
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, e->d_name);
		ssize_t n = e->d_name[0] == '.' ? -1 : readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = 0;
		held->fds++;
		held->memfds += strncmp(target, "/memfd:flat", 11) == 0;
		held->lanes += strncmp(target, "/memfd:flat-lane", 16) == 0;
		held->sockets += strncmp(target, "socket:", 7) == 0;
	}
	closedir(dir);
	held->mapped = mapped_lanes(pid);
	held->rss_kib = rss_kib(pid);
	return true;
}
