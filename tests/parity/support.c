/* Sockets, children, threads and waiting for behaviours. */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "parity.h"

_Atomic int signals_seen;
void *bad_address;

static int base_port;

static void fatal(const char *what)
{
	say_now();
	say("the behaviour cannot go on: %s: %s", what, error_name(errno));
	_exit(4);
}

__attribute__((constructor)) static void prepare(void)
{
	const char *text = getenv("PARITY_PORT");
	base_port = text ? (int)strtoul(text, NULL, 10) : 22000;
	bad_address = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

struct sockaddr_in where(int n)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)(base_port + n)),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return a;
}

struct sockaddr_in6 where6(int n)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6,
				 .sin6_port = htons((uint16_t)(base_port + n)),
				 .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	return a;
}

int tcp(int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
	if (fd < 0)
		fatal("socket");
	return fd;
}

int listener(int n)
{
	struct sockaddr_in a = where(n);
	int fd = tcp(0);
	int one = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 64) < 0)
		fatal("listener");
	return fd;
}

int listener6(int n, const char *text, int v6only)
{
	struct sockaddr_in6 a = where6(n);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	int one = 1;
	if (fd < 0 || inet_pton(AF_INET6, text, &a.sin6_addr) != 1 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 64) < 0)
		fatal("listener6");
	return fd;
}

int reach(int n)
{
	struct sockaddr_in a = where(n);
	for (int tries = 0; tries < 500; tries++) {
		int fd = tcp(0);
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		close(fd);
		pause_ms(10);
	}
	fatal("reach");
	return -1;
}

static void join_ends(int l, const struct sockaddr *a, socklen_t len, int *c, int *s)
{
	*c = socket(a->sa_family, SOCK_STREAM, 0);
	if (*c < 0 || connect(*c, a, len) < 0)
		fatal("pair: connect");
	*s = accept(l, NULL, NULL);
	if (*s < 0)
		fatal("pair: accept");
	close(l);
}

void pair(int *c, int *s)
{
	struct sockaddr_in a = where(0);
	join_ends(listener(0), (struct sockaddr *)&a, sizeof(a), c, s);
}

void pair6(int *c, int *s)
{
	struct sockaddr_in6 a = where6(0);
	join_ends(listener6(0, "::1", 1), (struct sockaddr *)&a, sizeof(a), c, s);
}

void await(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	char text[128];
	long end = now_ms() + 5000;
	do {
		if (poll(&p, 1, 20) > 0 && (p.revents & events))
			return;
		if (p.revents)
			pause_ms(5);
	} while (now_ms() < end);
	say("waited in vain for %s", poll_names((unsigned short)events, text));
}

void await_bytes(int fd, int n)
{
	int have = -1;
	for (int tries = 0; tries < 1000; tries++) {
		if (ioctl(fd, FIONREAD, &have) == 0 && have >= n)
			return;
		pause_ms(5);
	}
	say("waited in vain for %d bytes: %d", n, have);
}

void await_state(int fd, int state)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);
	for (int tries = 0; tries < 1000; tries++) {
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
		    info.tcpi_state == state)
			return;
		pause_ms(5);
	}
	say("waited in vain for state %d: %d", state, info.tcpi_state);
}

void send_all(int fd, const void *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, (const char *)bytes + done, len - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN) {
			await(fd, POLLOUT);
			continue;
		}
		if (n <= 0)
			fatal("send_all");
		done += (size_t)n;
	}
}

size_t recv_all(int fd, void *bytes, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = recv(fd, (char *)bytes + done, len - done, 0);
		if (n < 0 && errno == EAGAIN) {
			await(fd, POLLIN);
			continue;
		}
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

void set_nonblock(int fd)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		fatal("set_nonblock");
}

size_t fill(int fd)
{
	static char block[65536];
	size_t done = 0;
	int quiet = 0;
	/* The kernel moves bytes on to the peer after the call: full is what stays full. */
	while (quiet < 25) {
		ssize_t n = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			done += (size_t)n;
			quiet = 0;
		} else if (errno == EAGAIN) {
			quiet++;
			pause_ms(4);
		} else {
			fatal("fill");
		}
	}
	return done;
}

size_t drain(int fd, size_t total)
{
	static char block[65536];
	size_t done = 0;
	while (done < total) {
		ssize_t n = recv(fd, block, sizeof(block), 0);
		if (n < 0 && errno == EAGAIN) {
			await(fd, POLLIN);
			continue;
		}
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

/* Those of child() that were not reaped yet, as far as there is room. */
#define CHILDREN 8
static pid_t children[CHILDREN];

static void replace_child(pid_t from, pid_t to)
{
	for (size_t i = 0; i < CHILDREN; i++) {
		if (children[i] == from) {
			children[i] = to;
			return;
		}
	}
}

pid_t child(void (*fn)(void *), void *arg)
{
	pid_t pid = fork();
	if (pid < 0)
		fatal("fork");
	if (pid == 0) {
		memset(children, 0, sizeof(children));
		fn(arg);
		_exit(0);
	}
	replace_child(0, pid);
	return pid;
}

void reap(pid_t pid)
{
	int status;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	replace_child(pid, 0);
	if (got != pid)
		say("child: %s", error_name(errno));
	else if (WIFSIGNALED(status))
		say("child killed by %s", sigabbrev_np(WTERMSIG(status)));
	else
		say("child ended with %d", WEXITSTATUS(status));
}

/* Threads that were not joined yet; only the first thread starts and joins others. */
static struct started {
	struct started *next;
	pthread_t id;
	void *(*fn)(void *);
	void *arg;
	struct told *told;
} * started;

static void *run_thread(void *arg)
{
	struct started *me = arg;
	say_into(me->told);
	return me->fn(me->arg);
}

pthread_t thread(void *(*fn)(void *), void *arg)
{
	struct started *me = calloc(1, sizeof(*me));
	if (!me)
		fatal("thread");
	me->fn = fn;
	me->arg = arg;
	me->told = say_later();
	errno = pthread_create(&me->id, NULL, run_thread, me);
	if (errno)
		fatal("thread");
	me->next = started;
	started = me;
	return me->id;
}

void join(pthread_t t)
{
	void *result;
	if (pthread_join(t, &result) != 0)
		fatal("join");
	for (struct started **at = &started; *at; at = &(*at)->next) {
		struct started *me = *at;
		if (!pthread_equal(me->id, t))
			continue;
		*at = me->next;
		say_told(me->told);
		free(me);
		break;
	}
	if (result == PTHREAD_CANCELED)
		say("thread was cancelled");
}

/* One letter, as ps(1) shows it; 0: it is not there. */
static char state_of(const char *folder, const char *task)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "%s/%.20s/stat", folder, task);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	const char *name_ends = strrchr(text, ')');
	return name_ends ? name_ends[2] : 0;
}

static bool runs(char state)
{
	return state == 'R' || state == 'D';
}

/* A thread of this process but the caller, or one of its children. */
static bool others_run(void)
{
	char self[20], pid[20];
	bool run = false;
	struct dirent *e;
	DIR *tasks = opendir("/proc/self/task");
	snprintf(self, sizeof(self), "%d", (int)syscall(SYS_gettid));
	while (tasks && !run && (e = readdir(tasks)))
		run = e->d_name[0] != '.' && strcmp(e->d_name, self) != 0 &&
		      runs(state_of("/proc/self/task", e->d_name));
	if (tasks)
		closedir(tasks);
	for (size_t i = 0; i < CHILDREN && !run; i++) {
		snprintf(pid, sizeof(pid), "%d", (int)children[i]);
		run = children[i] != 0 && runs(state_of("/proc", pid));
	}
	return run;
}

void let_sleep(void)
{
	int saved = errno;
	long end = now_ms() + 2000;
	/* Where the machine is busy they may not have come so far; one that sleeps may be on its way still. */
	for (int still = 0; still < 3 && now_ms() < end; still++) {
		pause_ms(20);
		if (others_run())
			still = -1;
	}
	errno = saved;
}

long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void pause_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static void count(int number)
{
	(void)number;
	signals_seen++;
}

void count_signal(int number, int flags)
{
	struct sigaction sa = {.sa_handler = count, .sa_flags = flags};
	sigaction(number, &sa, NULL);
}

void works(const char *what, int from, int to)
{
	char b = 'w', d = 0;
	ssize_t n = send(from, &b, 1, MSG_NOSIGNAL);
	await(to, POLLIN);
	if (n == 1)
		n = recv(to, &d, 1, 0);
	say("%s: %zd %d", what, n, d == 'w');
}

void echo_once(void *arg)
{
	char b[16];
	ssize_t n = recv(*(int *)arg, b, sizeof(b), 0);
	say_bytes("child got", b, n);
	send_all(*(int *)arg, b, (size_t)(n > 0 ? n : 0));
}

void accept_echo(void *arg)
{
	int s = accept(*(int *)arg, NULL, NULL);
	say("child accepted %d", s >= 0);
	echo_once(&s);
}
