/* fork, exec, spawn, and sockets that travel between processes. */
#include <spawn.h>

#include "parity.h"

extern char **environ;
static char buf[256];

BEHAVIOUR(process_child_uses_socket)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = child(echo_once, &s);
	close(s);
	send_all(c, "ping", 4);
	DO(recv(c, buf, 16, 0));
	say_bytes("back", buf, 4);
	reap(pid);
	DO(recv(c, buf, 16, 0));
}

BEHAVIOUR(process_both_use_socket)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = child(echo_once, &s);
	send_all(c, "one", 3);
	DO(recv(c, buf, 3, MSG_WAITALL));
	reap(pid);
	send_all(c, "two", 3);
	DO(recv(s, buf, 3, MSG_WAITALL));
	say_bytes("parent got", buf, 3);
}

static void close_it(void *arg)
{
	close(*(int *)arg);
}

BEHAVIOUR(process_child_closes)
{
	int c, s;
	pair(&c, &s);
	reap(child(close_it, &s));
	say_mask("peer", c);
	works("parent's copy", c, s);
}

static void nothing(void *arg)
{
	(void)arg;
}

BEHAVIOUR(process_child_exits)
{
	int c, s;
	pair(&c, &s);
	reap(child(nothing, NULL));
	works("parent's copy", c, s);
	close(s);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

BEHAVIOUR(process_parent_closes_child_keeps)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = child(echo_once, &s);
	close(s);
	pause_ms(30);
	say_mask("peer", c);
	send_all(c, "x", 1);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 10, 0));
	DO(recv(c, buf, 10, 0));
	reap(pid);
}

static void shut(void *arg)
{
	shutdown(*(int *)arg, SHUT_WR);
}

BEHAVIOUR(process_child_shuts_down)
{
	int c, s;
	pair(&c, &s);
	reap(child(shut, &s));
	await(c, POLLRDHUP);
	DO(recv(c, buf, 10, 0));
	DO(send(s, "x", 1, MSG_NOSIGNAL));
	say_mask("s", s);
}

BEHAVIOUR(process_child_accepts)
{
	int l = listener(0);
	pid_t pid = child(accept_echo, &l);
	int c = reach(0);
	send_all(c, "hi", 2);
	DO(recv(c, buf, 10, 0));
	reap(pid);
	DO(recv(c, buf, 10, 0));
}

BEHAVIOUR(process_child_accepts_parent_closed)
{
	int l = listener(0);
	pid_t pid = child(accept_echo, &l);
	close(l);
	int c = reach(0);
	send_all(c, "hi", 2);
	DO(recv(c, buf, 10, 0));
	reap(pid);
	int d = tcp(0);
	struct sockaddr_in a = where(0);
	DO(connect(d, (struct sockaddr *)&a, sizeof(a)));
}

static void accept_some(void *arg)
{
	int l = *(int *)arg;
	for (;;) {
		int s = accept(l, NULL, NULL);
		char b;
		if (s < 0 || recv(s, &b, 1, 0) != 1)
			_exit(1);
		if (b == 'q')
			_exit(0);
		send_all(s, &b, 1);
		close(s);
	}
}

BEHAVIOUR(process_several_accept)
{
	int l = listener(0), answers = 0;
	pid_t pids[3];
	for (int i = 0; i < 3; i++)
		pids[i] = child(accept_some, &l);
	for (int i = 0; i < 30; i++) {
		int c = reach(0);
		char b = 'x';
		send_all(c, &b, 1);
		answers += recv(c, &b, 1, 0) == 1;
		close(c);
	}
	say("answers %d", answers);
	for (int i = 0; i < 3; i++)
		send_all(reach(0), "q", 1);
	for (int i = 0; i < 3; i++)
		reap(pids[i]);
}

static void connect_out(void *arg)
{
	(void)arg;
	int c = reach(0);
	send_all(c, "child", 5);
	recv_all(c, buf, 2);
	say_bytes("child got", buf, 2);
}

BEHAVIOUR(process_child_connects)
{
	int l = listener(0);
	pid_t pid = child(connect_out, NULL);
	int s = accept(l, NULL, NULL);
	DO(recv(s, buf, 5, MSG_WAITALL));
	send_all(s, "ok", 2);
	reap(pid);
}

static void grandchild(void *arg)
{
	reap(child(echo_once, arg));
}

BEHAVIOUR(process_grandchild)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = child(grandchild, &s);
	close(s);
	send_all(c, "deep", 4);
	/* Said when both have ended: they go on at the same time. */
	ssize_t n = recv(c, buf, 4, MSG_WAITALL);
	reap(pid);
	say_bytes("came", buf, n);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
}

static void read_two(void *arg)
{
	char b[2];
	DO(recv(*(int *)arg, b, 2, MSG_WAITALL));
}

BEHAVIOUR(process_readers_share_position)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "abcdef", 6);
	await_bytes(s, 6);
	reap(child(read_two, &s));
	DO(recv(s, buf, 2, 0));
	say_bytes("next", buf, 2);
	reap(child(read_two, &s));
	DO(recv(s, buf, 2, MSG_DONTWAIT));
}

static void write_some(void *arg)
{
	for (int i = 0; i < 200; i++)
		send_all(*(int *)arg, "0123456789", 10);
}

BEHAVIOUR(process_writers_share_socket)
{
	int c, s, wrong = 0;
	pair(&c, &s);
	pid_t a = child(write_some, &c), b = child(write_some, &c);
	close(c);
	size_t n = 0;
	for (;;) {
		char d[10];
		size_t got = recv_all(s, d, 10);
		if (got == 0)
			break;
		n += got;
		wrong += got != 10 || memcmp(d, "0123456789", 10) != 0;
	}
	say("came %zu wrong %d", n, wrong);
	reap(a);
	reap(b);
}

/* A program that was started anew, and has made no call of a socket before, binds what one before it listened at. */
BEHAVIOUR_ALONE(process_exec_binds_what_ended)
{
	struct sockaddr_in a = where(0);
	int failed = 0;
	if (getenv("PARITY_STARTED")) {
		int fd = tcp(0), one = 1;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 1) != 0)
			_exit(errno);
		_exit(0);
	}
	setenv("PARITY_STARTED", "1", 1);
	for (int i = 0; i < 40; i++) {
		int status;
		pid_t pid = fork();
		if (pid == 0) {
			execl("/proc/self/exe", "flat-parity", __func__, NULL);
			_exit(127);
		}
		failed += waitpid(pid, &status, 0) != pid || status != 0;
	}
	say("%d", failed);
}

static void say_locked(void *arg)
{
	struct flock all = {.l_type = F_WRLCK};
	say("%s", fcntl(*(int *)arg, F_GETLK, &all) != 0 ? "failed"
		  : all.l_type == F_RDLCK		 ? "locked"
							 : "free");
}

static void spawn_self(char *const argv[])
{
	pid_t pid;
	int status = 0;
	DO(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ));
	say("%d", waitpid(pid, &status, 0) == pid ? status : -1);
}

/* A lock in its own file, which it holds on while others are made from that; with a socket that they inherit. */
BEHAVIOUR(process_spawn_keeps_locks)
{
	char *argv[] = {"flat-parity", "process_spawn_keeps_locks", NULL};
	struct flock all = {.l_type = F_RDLCK};
	int c, s, fd;
	if (getenv("PARITY_STARTED"))
		_exit(0);
	setenv("PARITY_STARTED", "1", 1);
	pair(&c, &s);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	DO(fcntl(fd, F_SETLK, &all));
	reap(child(say_locked, &fd));
	spawn_self(argv);
	reap(child(say_locked, &fd));
	DO(execl("/proc/self/exe/none", "none", NULL));
	reap(child(say_locked, &fd));
	works("goes on", c, s);
}

/* --- other programs on our socket: coreutils do the reading and writing, with libc's own calls --- */

static pid_t run_program(int in, int out, char *const argv[])
{
	pid_t pid = fork();
	if (pid == 0) {
		if (in >= 0)
			dup2(in, 0);
		if (out >= 0)
			dup2(out, 1);
		closefrom(3);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

BEHAVIOUR(process_exec_writes)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = run_program(-1, s, (char *[]){"echo", "from another program", NULL});
	close(s);
	ssize_t n = (ssize_t)recv_all(c, buf, 100);
	say_bytes("came", buf, n);
	reap(pid);
}

BEHAVIOUR(process_exec_reads)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = run_program(s, -1, (char *[]){"cat", NULL});
	close(s);
	send_all(c, "to another program\n", 19);
	shutdown(c, SHUT_WR);
	reap(pid);
}

BEHAVIOUR(process_exec_reads_what_waits)
{
	int c, s;
	pair(&c, &s);
	send_all(c, "early\n", 6);
	await_bytes(s, 6);
	shutdown(c, SHUT_WR);
	pid_t pid = run_program(s, -1, (char *[]){"cat", NULL});
	close(s);
	reap(pid);
}

BEHAVIOUR(process_exec_both_ways)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = run_program(s, s, (char *[]){"tr", "a-z", "A-Z", NULL});
	close(s);
	send_all(c, "loud please", 11);
	shutdown(c, SHUT_WR);
	ssize_t n = (ssize_t)recv_all(c, buf, 100);
	say_bytes("came", buf, n);
	reap(pid);
}

BEHAVIOUR(process_exec_without_preload)
{
	int c, s;
	pair(&c, &s);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		unsetenv("LD_PRELOAD");
		dup2(s, 0);
		dup2(s, 1);
		closefrom(3);
		execlp("tr", "tr", "a-z", "A-Z", NULL);
		_exit(127);
	}
	close(s);
	send_all(c, "slow path", 9);
	shutdown(c, SHUT_WR);
	ssize_t n = (ssize_t)recv_all(c, buf, 100);
	say_bytes("came", buf, n);
	reap(pid);
}

BEHAVIOUR(process_exec_closes_cloexec)
{
	int c, s;
	pair(&c, &s);
	fcntl(s, F_SETFD, FD_CLOEXEC);
	pid_t pid = fork();
	if (pid == 0) {
		execlp("sleep", "sleep", "1", NULL);
		_exit(127);
	}
	close(s);
	long begin = now_ms();
	await(c, POLLRDHUP);
	say("at once %d", now_ms() - begin < 700);
	reap(pid);
}

BEHAVIOUR(process_exec_keeps_open)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = fork();
	if (pid == 0) {
		execlp("sleep", "sleep", "0.4", NULL);
		_exit(127);
	}
	close(s);
	pause_ms(100);
	say_mask("held by the program", c);
	await(c, POLLRDHUP);
	DO(recv(c, buf, 1, 0));
	reap(pid);
}

BEHAVIOUR(process_spawn)
{
	int c, s;
	pid_t pid;
	posix_spawn_file_actions_t actions;
	pair(&c, &s);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, s, 1);
	DO(posix_spawnp(&pid, "echo", &actions, NULL, (char *[]){"echo", "spawned", NULL},
			environ));
	close(s);
	ssize_t n = (ssize_t)recv_all(c, buf, 8);
	say_bytes("came", buf, n);
	reap(pid);
	await(c, POLLRDHUP);
}

/* A server of FastCGI gets its listener as standard input, and no more of the environment than it was told to get. */
BEHAVIOUR(process_spawn_named_listener)
{
	char *argv[] = {"flat-parity", "process_spawn_named_listener", NULL};
	char *env[] = {"PARITY_STARTED=1", NULL};
	pid_t pid;
	posix_spawn_file_actions_t actions;
	if (getenv("PARITY_STARTED")) {
		int s = accept(0, NULL, NULL);
		_exit(send(s, "served", 6, MSG_NOSIGNAL) != 6);
	}
	int l = listener(0);
	fcntl(l, F_SETFD, FD_CLOEXEC);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, l, 0);
	DO(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, env));
	posix_spawn_file_actions_destroy(&actions);
	int c = reach(0);
	close(l);
	ssize_t n = (ssize_t)recv_all(c, buf, 6);
	say_bytes("came", buf, n);
	reap(pid);
}

BEHAVIOUR(process_spawn_leaves_parent_alone)
{
	int c, s;
	pid_t pid;
	posix_spawn_file_actions_t actions;
	pair(&c, &s);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclose(&actions, s);
	posix_spawn_file_actions_addclose(&actions, c);
	DO(posix_spawnp(&pid, "true", &actions, NULL, (char *[]){"true", NULL}, environ));
	reap(pid);
	works("parent", c, s);
}

BEHAVIOUR(process_vfork)
{
	int c, s;
	pair(&c, &s);
	pid_t pid = vfork();
	if (pid == 0) {
		close(s);
		close(c);
		execlp("true", "true", NULL);
		_exit(127);
	}
	reap(pid);
	works("parent", c, s);
}

BEHAVIOUR(process_system)
{
	int c, s;
	pair(&c, &s);
	DO(system("true"));
	FILE *f = popen("echo pipe", "r");
	say("%d", f && fgets(buf, sizeof(buf), f) != NULL);
	say_bytes("popen", buf, 4);
	pclose(f);
	works("still", c, s);
}

/* Programs that programs start inherit the connection, and end; it is still its owner's. */
BEHAVIOUR(process_system_of_programs)
{
	int c, s, right = 0;
	char b = 'x';
	pair(&c, &s);
	for (int i = 0; i < 20; i++) {
		right += system("/bin/true; :") == 0;
		right += send(c, &b, 1, MSG_NOSIGNAL) == 1 && recv(s, &b, 1, 0) == 1;
		right += send(s, &b, 1, MSG_NOSIGNAL) == 1 && recv(c, &b, 1, 0) == 1;
	}
	say("right %d", right);
}

static void in_daemon(void *arg)
{
	int *fds = arg;
	if (daemon(1, 1) < 0)
		say("daemon");
	send_all(fds[0], "from the daemon", 15);
	_exit(0);
}

BEHAVIOUR(process_daemon)
{
	int c, s;
	pair(&c, &s);
	int fds[1] = {s};
	pid_t pid = child(in_daemon, fds);
	close(s);
	reap(pid);
	ssize_t n = (ssize_t)recv_all(c, buf, 100);
	say_bytes("came", buf, n);
}

static void sleep_on(void *arg)
{
	send_all(*(int *)arg, "h", 1);
	for (;;)
		pause();
}

BEHAVIOUR(process_killed_resets_with_linger)
{
	int c, s, u[2];
	struct linger hard = {1, 0};
	socketpair(AF_UNIX, SOCK_STREAM, 0, u);
	pair(&c, &s);
	setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	pid_t pid = child(sleep_on, &u[1]);
	DO(read(u[0], buf, 1));
	close(s);
	kill(pid, SIGKILL);
	reap(pid);
	await(c, POLLRDHUP);
	say_mask("killed", c);
	DO(recv(c, buf, 1, 0));
}
