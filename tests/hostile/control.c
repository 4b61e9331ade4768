/* Attacks on the control socket and on set-up: rules 1, 9, 13, 15. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "hostile.h"

static int joined(struct attack_env *env)
{
	int sock = raw_hello(env->control);
	if (sock < 0)
		(void)wrong(env, "could not join: %s", strerror(errno));
	return sock;
}

static int must_end(struct attack_env *env, int sock)
{
	if (raw_session_ends(sock))
		return 0;
	return wrong(env, "the session goes on");
}

/* Sends bytes of any length, with any descriptors. */
static ssize_t send_raw(int sock, const void *bytes, size_t len, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		uint8_t buf[CMSG_SPACE(sizeof(int) * 253)];
	} space;
	struct iovec iov = {(void *)(uintptr_t)bytes, len};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	memset(&space, 0, sizeof(space));
	if (n > 0) {
		hdr.msg_control = space.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n);
	}
	return sendmsg(sock, &hdr, MSG_NOSIGNAL);
}

/* A greeted session sends one message that breaks a rule. */
static int send_and_end(struct attack_env *env, const struct flat_msg *msg, size_t len,
			size_t n_fds)
{
	static int fds[253];
	int sock = joined(env);
	if (sock < 0)
		return 1;
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = 0;
	if (send_raw(sock, msg, len, fds, n_fds) < 0)
		return wrong(env, "sendmsg: %s", strerror(errno));
	return must_end(env, sock);
}

static int bad_magic(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_WHY, 2);
	msg.magic ^= 1;
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int bad_version(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_WHY, 2);
	msg.version = 99;
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int short_message(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 2);
	return send_and_end(env, &msg, sizeof(msg) - 1, 0);
}

static int long_message(struct attack_env *env)
{
	struct flat_msg msg[3];
	memset(msg, 0, sizeof(msg));
	flat_msg_init(&msg[0], FLAT_MSG_CONNECT, 2);
	return send_and_end(env, msg, sizeof(msg), 0);
}

static int endless_reason(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_WHY, 2);
	memset(msg.reason, 'x', sizeof(msg.reason));
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int endless_name(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_RESOLVE, 2);
	memset(msg.body.resolve.host, 'x', sizeof(msg.body.resolve.host));
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int unknown_type(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, (enum flat_msg_type)77, 2);
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int accept_from_client(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_ACCEPT, 2);
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int unexpected_descriptor(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 2);
	msg.fds = FLAT_FD_LANE;
	return send_and_end(env, &msg, sizeof(msg), 1);
}

static int more_than_said(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
	msg.fds = FLAT_FD_TCP;
	return send_and_end(env, &msg, sizeof(msg), 4);
}

static int too_many_descriptors(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
	msg.fds = FLAT_FD_TCP;
	return send_and_end(env, &msg, sizeof(msg), 253);
}

static int hello_twice(struct attack_env *env)
{
	struct flat_msg msg;
	flat_msg_init(&msg, FLAT_MSG_HELLO, 2);
	return send_and_end(env, &msg, sizeof(msg), 0);
}

static int before_hello(struct attack_env *env)
{
	struct flat_msg msg;
	int sock = raw_join(env->control);
	flat_msg_init(&msg, FLAT_MSG_CONNECT, 1);
	if (sock < 0 || send_raw(sock, &msg, sizeof(msg), NULL, 0) < 0)
		return wrong(env, "could not send");
	return must_end(env, sock);
}

static int never_hello(struct attack_env *env)
{
	int socks[50];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(socks); i++)
		socks[i] = raw_join(env->control);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(socks); i++) {
		if (socks[i] < 0 || must_end(env, socks[i]) != 0)
			return wrong(env, "a session without HELLO goes on");
	}
	return 0;
}

/* LISTEN with a descriptor that is no listening TCP socket. It is refused; the session may go on. */
static int listen_with(struct attack_env *env, int fd, const char *what)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int sock = joined(env);
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
	msg.fds = FLAT_FD_TCP;
	if (sock < 0 || fd < 0)
		return wrong(env, "no %s", what);
	int err = raw_ask(sock, &msg, &fd, 1, fds, &n);
	flat_msg_close_fds(fds, n);
	close(fd);
	close(sock);
	if (err == 0 && (msg.status >= 0 || n > 0))
		return wrong(env, "a %s was taken for a listener", what);
	return 0;
}

static int listen_with_anything(struct attack_env *env)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return wrong(env, "socketpair");
	close(pair[1]);
	return listen_with(env, memfd_create("x", 0), "memfd") ||
	       listen_with(env, open("/dev/null", O_RDWR), "device") ||
	       listen_with(env, socket(AF_INET, SOCK_DGRAM, 0), "UDP socket") ||
	       listen_with(env, socket(AF_INET, SOCK_STREAM, 0),
			   "TCP socket that does not listen") ||
	       listen_with(env, pair[0], "unix socket");
}

static int tcp_listener(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 &&
	    (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 || listen(fd, 1) != 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The same listener over and over, its anchors kept: each answer is one more descriptor at flatd. */
static int listen_repeated(struct attack_env *env)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int sock = joined(env);
	int tcp = tcp_listener();
	if (sock < 0 || tcp < 0)
		return wrong(env, "no listener");
	for (uint32_t i = 0; i < 300; i++) {
		flat_msg_init(&msg, FLAT_MSG_LISTEN, i + 2);
		msg.fds = FLAT_FD_TCP;
		msg.body.listen.backlog = UINT32_MAX;
		int err = raw_ask(sock, &msg, &tcp, 1, fds, &n);
		if (err != 0)
			return wrong(env, "the session ended after %u: %d", i, err);
	}
	return 0;
}

/* A listener of its own that never accepts, and plain clients and requests that pile up at it. */
static int never_accepts(struct attack_env *env)
{
	struct flat_msg msg;
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int sock = joined(env);
	int tcp = tcp_listener();
	if (sock < 0 || tcp < 0 || getsockname(tcp, (struct sockaddr *)&addr, &len) != 0)
		return wrong(env, "no listener");
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
	msg.fds = FLAT_FD_TCP;
	if (raw_ask(sock, &msg, &tcp, 1, fds, &n) != 0 || msg.status != 0)
		return wrong(env, "the listener was refused");
	for (int i = 0; i < 150; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	}
	/* Its own session connects to it as well: the answers wait, or are refused. */
	for (uint32_t i = 0; i < CONNECTIONS_MAX * 2; i++) {
		flat_msg_init(&msg, FLAT_MSG_CONNECT, i + 3);
		msg.body.connect.to = (struct flat_addr){
		    .family = AF_INET, .port = ntohs(addr.sin_port), .ip = {127, 0, 0, 1}};
		if (flat_msg_send(sock, &msg, NULL, 0, MSG_DONTWAIT) != 0)
			break;
	}
	test_pause_ms(200);
	return 0;
}

/* LISTEN: the listener's anchor, or -1. */
static int listen_raw(int sock, int tcp)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
	msg.fds = FLAT_FD_TCP;
	if (raw_ask(sock, &msg, &tcp, 1, fds, &n) != 0 || msg.status != 0)
		return -1;
	return flat_msg_fd(&msg, fds, FLAT_FD_ANCHOR);
}

/* Another socket that listens where `first` does, or -1. */
static int tcp_twin(int first)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (setsockopt(first, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0 ||
	    getsockname(first, (struct sockaddr *)&addr, &len) != 0 ||
	    bind(fd, (struct sockaddr *)&addr, len) != 0 || listen(fd, 64) != 0)
		return -1;
	return fd;
}

struct taken {
	int anchor;
	unsigned int n;
	unsigned int want;
};

static bool took(void *arg)
{
	struct taken *t = arg;
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	while (flat_msg_recv(t->anchor, &msg, fds, &n, MSG_DONTWAIT) == 0) {
		flat_msg_close_fds(fds, n);
		t->n++;
	}
	return t->n >= t->want;
}

#define TWIN_ROUNDS 8

/*
 * Of two listeners of one port the first takes nothing more, and flatd has not heard of its end: as when its process closes it, at
 * the moment in which somebody connects. All reach the other one.
 */
static int twin_takes_nothing(struct attack_env *env)
{
	struct flat_msg msg;
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	struct taken t = {.want = 2 * TWIN_ROUNDS};
	int sock = joined(env);
	int tcp = tcp_listener();
	int twin = tcp_twin(tcp);
	int anchor = listen_raw(sock, tcp);
	t.anchor = listen_raw(sock, twin);
	if (anchor < 0 || t.anchor < 0 || shutdown(anchor, SHUT_RD) != 0 ||
	    getsockname(tcp, (struct sockaddr *)&addr, &len) != 0)
		return wrong(env, "no listeners");
	for (uint32_t i = 0; i < TWIN_ROUNDS; i++) {
		int fds[FLAT_MSG_FDS_MAX];
		size_t n = 0;
		flat_msg_init(&msg, FLAT_MSG_CONNECT, i + 3);
		msg.body.connect.to = (struct flat_addr){
		    .family = AF_INET, .port = ntohs(addr.sin_port), .ip = {127, 0, 0, 1}};
		int err = raw_ask(sock, &msg, NULL, 0, fds, &n);
		/* The descriptors are kept: the connections are there until the attacker ends. */
		if (err != 0 || msg.status != 0)
			return wrong(env, "connection %u: %d, %d %.80s", i, err, msg.status,
				     msg.reason);
		/* The kernel chooses one of the two for it. */
		int plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(plain, (struct sockaddr *)&addr, len) != 0)
			return wrong(env, "plain connection %u: %s", i, strerror(errno));
	}
	if (!test_until(took, &t, OUSTED_MS))
		return wrong(env, "%u of %u reached the other listener", t.n, t.want);
	return 0;
}

static bool can_join(void *arg)
{
	struct attack_env *env = arg;
	env->sock = raw_hello(env->control);
	return env->sock >= 0;
}

/* One process takes the places of others. */
static int many_sessions(struct attack_env *env)
{
	int socks[FLAT_PROCESS_SESSIONS_MAX];
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(socks); i++) {
		socks[i] = joined(env);
		if (socks[i] < 0)
			return 1;
	}
	if (raw_hello(env->control) >= 0)
		return wrong(env, "one process has more than %u sessions",
			     FLAT_PROCESS_SESSIONS_MAX);
	close(socks[0]);
	if (!test_until(can_join, env, OUSTED_MS))
		return wrong(env, "the place of one that has ended is not given out again");
	return 0;
}

/* How often flatd made somebody wait who asked too much. */
static unsigned long long throttled(const struct attack_env *env)
{
	char line[512];
	unsigned long long n = 0;
	snprintf(line, sizeof(line), "%s/flatctl --control %s ls --json", test_build_dir(),
		 env->control);
	FILE *f = popen(line, "r");
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, "\"throttled\":");
		if (at)
			n = strtoull(at + strlen("\"throttled\":"), NULL, 10);
	}
	return f && pclose(f) == 0 ? n : 0;
}

/* So many questions are on their way: their answers find room. */
#define ASKED 64

/* Comes from another address each time, none of which is this host's. 0, or the error of the session. */
static int come_from_many(int sock, uint64_t *seed)
{
	struct flat_msg msg;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n;
	int err = 0;
	for (uint32_t i = 0; i < ASKED && err == 0; i++) {
		uint64_t from = test_random(seed);
		flat_msg_init(&msg, FLAT_MSG_CONNECT, i + 10);
		msg.body.connect.to =
		    (struct flat_addr){.family = AF_INET, .port = 9, .ip = {203, 0, 113, 1}};
		msg.body.connect.from = (struct flat_addr){.family = AF_INET, .port = 9};
		memcpy(msg.body.connect.from.ip, &from, 4);
		msg.body.connect.from.ip[0] = 10;
		err = flat_msg_send(sock, &msg, NULL, 0, 0);
	}
	for (uint32_t i = 0; i < ASKED && err == 0; i++) {
		err = flat_msg_recv(sock, &msg, fds, &n, 0);
		if (err == 0)
			flat_msg_close_fds(fds, n);
	}
	return err;
}

/* Has flatd ask the kernel about addresses without end: it waits for that as who asks too much of flatd does. */
static int many_sources(struct attack_env *env)
{
	int64_t end = test_now_ms() + OUSTED_MS;
	unsigned long long before = throttled(env);
	int sock = joined(env);
	if (sock < 0)
		return 1;
	do {
		for (int i = 0; i < 20; i++)
			if (come_from_many(sock, &env->seed) != 0)
				return wrong(env, "the session ended");
		if (throttled(env) > before)
			return 0;
	} while (test_now_ms() < end);
	return wrong(env, "each question of the kernel costs what a message costs");
}

static int foreign_ids(struct attack_env *env)
{
	struct flat_msg msg;
	struct raw_conn c;
	int fds[FLAT_MSG_FDS_MAX];
	size_t n = 0;
	int sock = joined(env);
	if (sock < 0 || raw_connect(sock, DIRECT_IP, &c) != 0)
		return wrong(env, "could not connect");
	for (uint64_t i = 0; i < 2000; i++) {
		/* Ids near its own: neighbours' connections, lanes, listeners; and any. */
		uint64_t id = i < 1000 ? c.conn_id - i : test_random(&env->seed);
		flat_msg_init(&msg, FLAT_MSG_WHY, (uint32_t)i + 10);
		msg.body.why.conn_id = id;
		if (raw_ask(sock, &msg, NULL, 0, fds, &n) != 0)
			return wrong(env, "the session ended");
		if (msg.reason[0])
			return wrong(env, "was told of connection %llu: %s", (unsigned long long)id,
				     msg.reason);
		flat_msg_close_fds(fds, n);
	}
	raw_close(&c);
	return 0;
}

/* Asks and never reads. Without an end of the session flatd would keep what it could not send. */
static int deaf(struct attack_env *env)
{
	struct flat_msg msg;
	int sock = joined(env);
	int64_t end_ms = test_now_ms() + OUSTED_MS;
	if (sock < 0)
		return 1;
	for (uint32_t i = 0; test_now_ms() < end_ms; i++) {
		flat_msg_init(&msg, FLAT_MSG_CONNECT, i + 2);
		msg.body.connect.to = (struct flat_addr){
		    .family = AF_INET, .port = SERVICE_PORT, .ip = {240, 9, 0, 1}};
		int err = flat_msg_send(sock, &msg, NULL, 0, MSG_DONTWAIT);
		if (err == -EPIPE || err == -ECONNRESET)
			return 0;
		if (err == -EAGAIN)
			test_pause_ms(1);
	}
	return wrong(env, "the session goes on");
}

/* Asks, reads everything, as fast as it can. */
static int flood(struct attack_env *env)
{
	struct flat_msg msg;
	char sink[sizeof(msg)];
	int sock = joined(env);
	int64_t end_ms = test_now_ms() + 700;
	if (sock < 0)
		return 1;
	for (uint32_t i = 0; test_now_ms() < end_ms; i++) {
		flat_msg_init(&msg, FLAT_MSG_WHY, i + 2);
		(void)!flat_msg_send(sock, &msg, NULL, 0, MSG_DONTWAIT);
		while (recv(sock, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	return 0;
}

/* As flood(), by as many sessions as a process may have: together they get no more of flatd than an account has. */
static int flood_by_many(struct attack_env *env)
{
	int socks[FLAT_PROCESS_SESSIONS_MAX - 4];
	struct flat_msg msg;
	char sink[sizeof(msg)];
	int64_t end_ms = test_now_ms() + 700;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(socks); i++) {
		socks[i] = joined(env);
		if (socks[i] < 0)
			return 1;
	}
	for (uint32_t i = 0; test_now_ms() < end_ms; i++) {
		int sock = socks[i % FLAT_ARRAY_SIZE(socks)];
		flat_msg_init(&msg, FLAT_MSG_WHY, i + 2);
		for (int k = 0; k < 32; k++)
			(void)!flat_msg_send(sock, &msg, NULL, 0, MSG_DONTWAIT);
		while (recv(sock, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
	return 0;
}

/* One process says that it is of ever another build: flatd's list of those is not for it alone. */
static int many_builds(struct attack_env *env)
{
	for (uint32_t i = 0; i < 200; i++) {
		struct flat_msg msg;
		int fds[FLAT_MSG_FDS_MAX];
		size_t n = 0;
		int sock = raw_join(env->control);
		if (sock < 0)
			return wrong(env, "could not join");
		flat_msg_init(&msg, FLAT_MSG_HELLO, 1);
		msg.body.hello.shared = FLAT_SHARED(FLAT_MSG_VERSION, 200, i);
		if (raw_ask(sock, &msg, NULL, 0, fds, &n) != 0 || msg.status != -EPROTONOSUPPORT ||
		    n > 0 || must_end(env, sock) != 0)
			return wrong(env, "build %u was not refused", i);
		close(sock);
	}
	return 0;
}

static int any_bytes(struct attack_env *env)
{
	for (int i = 0; i < 300; i++) {
		struct flat_msg msg;
		uint8_t *bytes = (uint8_t *)&msg;
		int fds[4];
		size_t len = 1 + test_random(&env->seed) % sizeof(msg);
		size_t n = test_random(&env->seed) % 5;
		int sock = test_random(&env->seed) % 2 ? joined(env) : raw_join(env->control);
		if (sock < 0)
			return wrong(env, "could not join");
		for (size_t k = 0; k < sizeof(msg); k++)
			bytes[k] = (uint8_t)test_random(&env->seed);
		if (test_random(&env->seed) % 4) {
			/* A good frame around nonsense. */
			msg.magic = FLAT_MSG_MAGIC;
			msg.version = FLAT_MSG_VERSION;
			msg.type = (uint16_t)(test_random(&env->seed) % 12);
			msg.fds = n == 1 ? FLAT_FD_TCP : 0;
			msg.reason[0] = 0;
			len = sizeof(msg);
		}
		for (size_t k = 0; k < n; k++)
			fds[k] = 1;
		(void)send_raw(sock, &msg, len, fds, n);
		close(sock);
	}
	return 0;
}

static int use_up_connections(struct attack_env *env)
{
	static struct raw_conn c[CONNECTIONS_MAX + 50];
	uint32_t n = 0;
	int err = 0;
	int sock = joined(env);
	while (sock >= 0 && n < FLAT_ARRAY_SIZE(c)) {
		err = raw_connect(sock, n % 2 ? DIRECT_IP : FORWARDED_IP, &c[n]);
		if (err != 0)
			break;
		n++;
	}
	if (n > CONNECTIONS_MAX || (err != -EAGAIN && err != -ENOBUFS))
		return wrong(env, "%u connections, then %d", n, err);
	return 0;
}

/* What a client is killed in the middle of. */
static void die_somewhere(struct attack_env *env, int where)
{
	struct flat_msg msg;
	struct raw_conn c;
	int sock = where == 0 ? raw_join(env->control) : raw_hello(env->control);
	if (where == 1) {
		flat_msg_init(&msg, FLAT_MSG_CONNECT, 2);
		msg.body.connect.to = (struct flat_addr){
		    .family = AF_INET, .port = SERVICE_PORT, .ip = {240, 9, 0, 2}};
		(void)!flat_msg_send(sock, &msg, NULL, 0, 0);
	} else if (where == 2) {
		int tcp = tcp_listener();
		flat_msg_init(&msg, FLAT_MSG_LISTEN, 2);
		msg.fds = FLAT_FD_TCP;
		(void)!flat_msg_send(sock, &msg, &tcp, 1, 0);
	} else if (where >= 3 &&
		   raw_connect(sock, where == 3 ? DIRECT_IP : FORWARDED_IP, &c) == 0) {
		(void)!flat_ring_write(&c.vq.tx, "half a mess", 11);
	}
	kill(getpid(), SIGKILL);
}

static int die_in_attach(struct attack_env *env)
{
	for (int i = 0; i < 60; i++) {
		pid_t child = fork();
		if (child < 0)
			return wrong(env, "fork");
		if (child == 0)
			die_somewhere(env, i % 5);
		if (waitpid(child, NULL, 0) != child)
			return wrong(env, "waitpid");
	}
	return 0;
}

const struct attack control_attacks[] = {
    {"rule01-listen-with-anything", listen_with_anything, NULL},
    {"rule09-foreign-ids", foreign_ids, NULL},
    {"rule11-control-flood", flood, NULL},
    {"rule11-control-flood-by-many-sessions", flood_by_many, NULL},
    {"rule13-deaf", deaf, "rule 13"},
    {"rule15-bad-magic", bad_magic, "rule 15"},
    {"rule15-bad-version", bad_version, "rule 15"},
    {"rule15-short-message", short_message, "rule 15"},
    {"rule15-long-message", long_message, "rule 15"},
    {"rule15-string-without-end", endless_reason, "rule 15"},
    {"rule15-name-without-end", endless_name, "rule 15"},
    {"rule15-unknown-type", unknown_type, "rule 15"},
    {"rule15-accept-from-client", accept_from_client, "rule 15"},
    {"rule15-unexpected-descriptor", unexpected_descriptor, "rule 15"},
    {"rule15-more-descriptors-than-said", more_than_said, "rule 15"},
    {"rule15-253-descriptors", too_many_descriptors, "rule 15"},
    {"rule15-hello-twice", hello_twice, "rule 15"},
    {"rule15-request-before-hello", before_hello, "rule 15"},
    {"rule15-never-hello", never_hello, "rule 15"},
    {"rule15-listen-repeated", listen_repeated, NULL},
    {"rule15-never-accepts", never_accepts, NULL},
    {"rule15-twin-takes-nothing", twin_takes_nothing, NULL},
    {"rule15-many-sources", many_sources, NULL},
    {"rule15-many-sessions", many_sessions, "rule 15: it has 64 sessions"},
    {"rule15-many-builds", many_builds, NULL},
    {"rule15-any-bytes", any_bytes, "rule 15"},
    {"rule15-use-up-connections", use_up_connections, "limit"},
    {"rule15-die-in-attach", die_in_attach, NULL},
    {NULL, NULL, NULL},
};
