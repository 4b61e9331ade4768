#include "support_whole.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flat/socket.h>

#include "base/log.h"
#include "offload/offload.h"

/* What one step may take, ms: a sanitized build on a busy machine. */
#define LIMIT_MS 10000

const char *const whole_path_names[WHOLE_PATHS] = {"kernel", "direct", "forwarded"};

static struct flat_offload offload;
static pid_t flatd;
static char dir[64];
static char control[96];
static char config[96];
static uint16_t served;

const char *whole_dir(void)
{
	return dir;
}

int whole_pid(void)
{
	return flatd;
}

const char *whole_control(void)
{
	return control;
}

const char *whole_ask(const char *question)
{
	static char text[65536];
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0;
	ssize_t n;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s.admin", control);
	cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0, "%m");
	cr_assert_eq(send(fd, question, strlen(question), MSG_NOSIGNAL), (ssize_t)strlen(question));
	while ((n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(fd);
	return text;
}

uint16_t whole_port(void)
{
	return served;
}

struct sockaddr_in whole_addr(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	uint8_t ip[4] = {a, b, c, d};
	memcpy(&addr.sin_addr, ip, sizeof(ip));
	return addr;
}

uint16_t whole_free_port(void)
{
	struct sockaddr_in addr = whole_addr(127, 0, 0, 1, 0);
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

static void put_service(FILE *f, const char *path, int last)
{
	fprintf(f,
		"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
		"metadata: {name: %s, annotations: {mesh.libflat.io/path: %s}}\n"
		"spec: {hosts: [%s.example], addresses: [240.9.0.%d], location: MESH_INTERNAL, "
		"resolution: STATIC, "
		"ports: [{number: 7, name: tcp}], endpoints: [{address: 127.0.0.1, ports: {tcp: "
		"%u}}]}\n",
		path, path, path, last, served);
}

/* %PORT% and %UID% are what they are in this test. */
static void put_filled(FILE *f, const char *yaml)
{
	for (const char *at; (at = strchr(yaml, '%')); yaml = at) {
		fprintf(f, "%.*s", (int)(at - yaml), yaml);
		if (strncmp(at, "%PORT%", 6) == 0) {
			fprintf(f, "%u", served);
			at += 6;
		} else if (strncmp(at, "%UID%", 5) == 0) {
			fprintf(f, "%u", (unsigned)getuid());
			at += 5;
		} else {
			fputc(*at++, f);
		}
	}
	fputs(yaml, f);
}

void whole_write(const char *yaml)
{
	char next[112];
	FILE *f;
	snprintf(next, sizeof(next), "%s.next", config);
	f = fopen(next, "we");
	cr_assert_not_null(f);
	put_service(f, "direct", 1);
	put_service(f, "forwarded", 2);
	put_filled(f, yaml ? yaml : "");
	cr_assert_eq(fclose(f), 0);
	cr_assert_eq(rename(next, config), 0);
}

unsigned long whole_epoch(void)
{
	const char *at = strstr(whole_ask("ls --json"), "\"epoch\":");
	cr_assert_not_null(at);
	return strtoul(at + 8, NULL, 10);
}

void whole_apply(const char *yaml)
{
	unsigned long before = whole_epoch();
	whole_write(yaml);
	for (int i = 0; i < LIMIT_MS / 10 && whole_epoch() == before; i++)
		(void)flat_poll(NULL, 0, 10);
	cr_assert_gt(whole_epoch(), before, "the configuration is not in force");
}

static void stop(int sig)
{
	(void)sig;
	atomic_store(&offload.stop, true);
	flat_offload_wake(&offload);
}

/* The offload half's own process: a byte to `ready` when it serves. Its exit status: 0, all went well. */
static void serve(void (*tune)(struct flat_offload *o), int ready) __attribute__((noreturn));
static void serve(void (*tune)(struct flat_offload *o), int ready)
{
	static const char *paths[] = {config};
	struct sigaction action = {.sa_handler = stop};
	flat_log_init(2, FLAT_LOG_ERROR, "whole");
	offload.n_workers = 1;
	/* A test that fails ends it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		exit(1);
	if (tune)
		tune(&offload);
	if (flat_offload_open(&offload, control, paths, 1) != 0 ||
	    sigaction(SIGTERM, &action, NULL) != 0 || write(ready, "r", 1) != 1)
		exit(1);
	flat_offload_run(&offload);
	flat_offload_close(&offload);
	exit(0);
}

void whole_begin(const char *yaml, void (*tune)(struct flat_offload *o))
{
	int ready[2];
	char byte;
	snprintf(dir, sizeof(dir), "/tmp/flat-whole-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(control, sizeof(control), "%s/control.sock", dir);
	snprintf(config, sizeof(config), "%s/mesh.yaml", dir);
	served = whole_free_port();
	whole_write(yaml);
	cr_assert_eq(pipe2(ready, O_CLOEXEC), 0);
	flatd = fork();
	cr_assert_geq(flatd, 0);
	if (flatd == 0)
		serve(tune, ready[1]);
	close(ready[1]);
	cr_assert_eq(read(ready[0], &byte, 1), 1, "the offload half did not open");
	close(ready[0]);
	cr_assert_eq(setenv("FLAT_CONTROL", control, 1), 0);
}

void whole_end(void)
{
	char command[128];
	int status;
	cr_assert_eq(kill(flatd, SIGTERM), 0);
	cr_assert_eq(waitpid(flatd, &status, 0), flatd);
	cr_expect_eq(status, 0, "the offload half ended with status %#x", (unsigned)status);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	cr_assert_eq(system(command), 0);
}

int whole_listen(uint16_t port)
{
	struct sockaddr_in addr = whole_addr(127, 0, 0, 1, port);
	int on = 1;
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	cr_assert_eq(flat_bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0, "%m");
	cr_assert_eq(flat_listen(fd, 64), 0, "%m");
	return fd;
}

int whole_connect(struct sockaddr_in to)
{
	int fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(flat_connect(fd, (struct sockaddr *)&to, sizeof(to)), 0, "%m");
	return fd;
}

void whole_pair(enum whole_path path, int fds[2])
{
	struct sockaddr_in to = whole_addr(240, 9, 0, path == WHOLE_DIRECT ? 1 : 2, 7);
	int listener;
	if (path == WHOLE_KERNEL) {
		to = whole_addr(127, 0, 0, 1, 0);
		socklen_t len = sizeof(to);
		listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		cr_assert_eq(bind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
		cr_assert_eq(listen(listener, 1), 0);
		cr_assert_eq(getsockname(listener, (struct sockaddr *)&to, &len), 0);
		fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		cr_assert_eq(connect(fds[0], (struct sockaddr *)&to, sizeof(to)), 0);
		fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		close(listener);
	} else {
		listener = whole_listen(served);
		fds[0] = whole_connect(to);
		fds[1] = flat_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		flat_close(listener);
	}
	cr_assert_geq(fds[1], 0, "%m");
}

void whole_send(int fd, const void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = flat_send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
		cr_assert_gt(n, 0, "send at %zu: %m", done);
		done += (size_t)n;
	}
}

void whole_recv(int fd, void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = flat_recv(fd, (char *)data + done, len - done, 0);
		cr_assert_gt(n, 0, "recv at %zu: %zd", done, n);
		done += (size_t)n;
	}
}

short whole_poll(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	cr_assert_eq(flat_poll(&p, 1, LIMIT_MS), 1, "no event %#x", (unsigned)events);
	return p.revents;
}

void whole_on_each(void (*check)(const char *path, int client, int server))
{
	whole_begin(NULL, NULL);
	for (int path = 0; path < WHOLE_PATHS; path++) {
		int fd[2];
		whole_pair((enum whole_path)path, fd);
		check(whole_path_names[path], fd[0], fd[1]);
		flat_close(fd[0]);
		flat_close(fd[1]);
	}
	whole_end();
}
