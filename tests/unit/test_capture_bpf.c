/*
 * The programs of confined workloads: their form, and, where the test may load them (root, cgroup v2), what the kernel does with
 * them in a network namespace of the test's own. What flatd makes of it is tested end to end.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control/cgroup.h"
#include "offload/capture_bpf.h"
#include "offload/capture_code.h"
#include "offload/capture_in_code.h"

/* --- the form --- */

static bool is_jump(const struct bpf_insn *i)
{
	int class = BPF_CLASS(i->code);
	int op = BPF_OP(i->code);

	return (class == BPF_JMP || class == BPF_JMP32) && op != BPF_CALL && op != BPF_EXIT;
}

/* It ends; each jump goes forward to an instruction, none was left without its end. */
static void expect_whole(const struct code *c, const char *name)
{
	bool second[PROGRAM_MAX + 1] = {false};

	cr_assert_gt(c->n, 0, "%s", name);
	cr_assert_lt(c->n, PROGRAM_MAX, "%s may have been cut", name);
	for (size_t i = 0; i < c->n; i++) {
		if (c->v[i].code == (BPF_LD | BPF_DW | BPF_IMM))
			second[++i] = true;
	}
	cr_expect_eq(c->v[c->n - 1].code, BPF_JMP | BPF_EXIT, "%s has no end", name);
	for (size_t i = 0; i < c->n; i++) {
		size_t to = i + 1 + (size_t)c->v[i].off;

		if (second[i] || !is_jump(&c->v[i]))
			continue;
		cr_expect_gt(c->v[i].off, 0, "%s: the jump at %zu leads nowhere", name, i);
		cr_expect(to < c->n && !second[to], "%s: from %zu to %zu", name, i, to);
	}
}

Test(capture_code, programs_for_servers_are_whole)
{
	static const struct flat_in_gate gate = {1, 2, 3, 4, 5};
	static const struct flat_in_bpf in = {6, 7};

	for (int pids = PIDS_GLOBAL; pids <= PIDS_UNKNOWN; pids++) {
		for (size_t i = 0; i <= FLAT_IN_PROGRAMS; i++) {
			const struct flat_in_program *p =
			    i < FLAT_IN_PROGRAMS ? &flat_in_programs[i] : &flat_in_lookup;
			struct in_maker m = {.gate = &gate,
					     .in = &in,
					     .id = UINT64_MAX,
					     .netns = UINT64_MAX,
					     .m.pids = (enum pids)pids};

			p->make(&m);
			expect_whole(&m.m.code, p->hook.name);
			/* BPF_OBJ_NAME_LEN counts the end of it. */
			cr_expect_lt(strlen(p->hook.name), BPF_OBJ_NAME_LEN);
		}
	}
}

Test(capture_code, programs_for_names_are_whole)
{
	static const struct flat_capture_bpf maps = {1, 2, 3, 4, 5, 6};
	static void (*const make[])(struct maker * m) = {
	    flat_capture_dns_out, flat_capture_dns_from4, flat_capture_dns_from6,
	    flat_capture_dns_to4, flat_capture_dns_to6,
	};

	for (int pids = PIDS_GLOBAL; pids <= PIDS_UNKNOWN; pids++) {
		for (size_t i = 0; i < FLAT_ARRAY_SIZE(make); i++) {
			struct maker m = {.maps = &maps, .port = 15001, .pids = (enum pids)pids};
			char name[16];

			make[i](&m);
			snprintf(name, sizeof(name), "names %zu", i);
			expect_whole(&m.code, name);
		}
	}
}

Test(capture_code, what_does_not_fit_is_left_out)
{
	struct code c = {.n = PROGRAM_MAX - 1};

	leave(&c, 1);
	cr_expect_eq(c.n, PROGRAM_MAX);
	cr_expect_neq(c.v[PROGRAM_MAX - 1].code, BPF_JMP | BPF_EXIT);
	land(&c, jump(&c, BPF_JEQ, R1, 1));
	cr_expect_eq(c.n, PROGRAM_MAX);
}

/* --- in the kernel --- */

static struct flat_cgroup_mount mount_point;
static char cgroup_path[PATH_MAX + 64];
static int cgroup = -1;
static struct flat_capture_bpf maps;
static struct flat_in_gate gate;
static struct flat_in_bpf servers;
static uint16_t door_port;
static char why[512];

/* A process in the cgroup, and pipes to it and from it. */
static pid_t inside = -1;
static int tell = -1, hear = -1;

static void setup(void)
{
	char name[64];
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	if (flat_cgroup_v2(&mount_point) != 0 || unshare(CLONE_NEWNET) != 0)
		return;
	snprintf(name, sizeof(name), "/flat-unit-%d", (int)getpid());
	snprintf(cgroup_path, sizeof(cgroup_path), "%s%s", mount_point.mount, name);
	cgroup = flat_cgroup_open(mount_point.mount, name, false);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
}

static void teardown(void)
{
	if (inside > 0) {
		kill(inside, SIGKILL);
		waitpid(inside, NULL, 0);
	}
	flat_capture_bpf_close(&maps);
	flat_in_bpf_close(&servers);
	flat_in_gate_close(&gate);
	if (door_port)
		flat_in_gate_unpin(door_port);
	if (cgroup < 0)
		return;
	(void)!flat_in_bpf_detach(cgroup);
	(void)flat_capture_bpf_detach(cgroup);
	close(cgroup);
	rmdir(cgroup_path);
}

TestSuite(capture_bpf, .init = setup, .fini = teardown);

/* What a process of the cgroup saw of one connect(). */
struct seen {
	int err; /* of connect() */
	struct sockaddr_in from, peer;
	int no_stream; /* errno of a stream that is no TCP; 0: there was one */
	int datagram;  /* likewise, of a socket of UDP */
};

static int try_socket(int type, int protocol)
{
	int fd = socket(AF_INET, type, protocol);
	int err = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

/* Connects to each address that it reads, and says what it saw; the connection lasts until the next. */
static void live_as_client(int in, int out)
{
	struct sockaddr_in to;
	int fd = -1;

	while (read(in, &to, sizeof(to)) == sizeof(to)) {
		struct seen s = {.err = 0};
		socklen_t len = sizeof(to);

		if (fd >= 0)
			close(fd);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		s.err = connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 ? errno : 0;
		(void)getsockname(fd, (struct sockaddr *)&s.from, &len);
		(void)getpeername(fd, (struct sockaddr *)&s.peer, &len);
		s.no_stream = try_socket(SOCK_STREAM, 262 /* IPPROTO_MPTCP */);
		s.datagram = try_socket(SOCK_DGRAM, 0);
		if (write(out, &s, sizeof(s)) != sizeof(s))
			break;
	}
	_exit(0);
}

static void move_in(void (*live)(int in, int out))
{
	int there[2], back[2];
	char text[16];

	cr_assert_eq(pipe(there) + pipe(back), 0);
	inside = fork();
	cr_assert_geq(inside, 0);
	if (inside == 0) {
		close(there[1]);
		live(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);
	tell = there[1];
	hear = back[0];
	int procs = openat(cgroup, "cgroup.procs", O_WRONLY);
	int n = snprintf(text, sizeof(text), "%d", (int)inside);

	cr_assert_eq(write(procs, text, (size_t)n), n);
	close(procs);
}

static struct seen connect_inside(const char *ip, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct seen s;

	cr_assert_eq(inet_pton(AF_INET, ip, &to.sin_addr), 1);
	cr_assert_eq(write(tell, &to, sizeof(to)), sizeof(to));
	cr_assert_eq(read(hear, &s, sizeof(s)), sizeof(s));
	return s;
}

/* Listens at a port of 127.0.0.1 that the kernel chooses. */
static int listen_somewhere(uint16_t *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

/* Whether this may be done here: where it may, all that follows has to work. */
static void attach(uint16_t port)
{
	if (cgroup < 0)
		cr_skip_test("no cgroup v2, or no namespace of one's own");
	int err = flat_capture_bpf_attach(&maps, cgroup, port, why, sizeof(why));

	if (err == -EPERM)
		cr_skip_test("no programs may be loaded");
	cr_assert_eq(err, 0, "%s", why);
}

static struct flat_capture_key key_of(const struct sockaddr_in *from)
{
	return (struct flat_capture_key){.ip = {0, 0, V4_MARK, from->sin_addr.s_addr},
					 .port = ntohs(from->sin_port)};
}

Test(capture_bpf, a_connection_arrives_with_what_was_asked_for_and_by_whom)
{
	struct flat_capture_record r;
	uint16_t port;
	int listening = listen_somewhere(&port);

	attach(port);
	move_in(live_as_client);
	struct seen s = connect_inside("192.0.2.1", 80);
	struct flat_capture_key key = key_of(&s.from);
	int fd = accept(listening, NULL, NULL);

	cr_assert_eq(s.err, 0);
	cr_assert_geq(fd, 0);
	/* The program sees the peer that it wanted. */
	cr_expect_eq(s.peer.sin_addr.s_addr, inet_addr("192.0.2.1"));
	cr_expect_eq(s.peer.sin_port, htons(80));
	cr_assert(flat_capture_bpf_take(&maps, &key, &r));
	cr_expect_eq(r.ip[0] | r.ip[1], 0);
	cr_expect_eq(r.ip[2], V4_MARK);
	cr_expect_eq(r.ip[3], inet_addr("192.0.2.1"));
	cr_expect_eq(r.port, htons(80));
	cr_expect(r.pid == (uint32_t)inside || r.pid == 0);
	cr_expect_eq(r.uid, getuid());
	cr_expect_eq(r.gid, getgid());
	/* Once. */
	cr_expect_not(flat_capture_bpf_take(&maps, &key, &r));
	close(fd);
	close(listening);
}

Test(capture_bpf, what_asks_for_flatd_itself_is_not_written_down)
{
	struct flat_capture_record r;
	uint16_t port;
	int listening = listen_somewhere(&port);

	attach(port);
	move_in(live_as_client);
	struct seen s = connect_inside("127.0.0.1", port);
	struct flat_capture_key key = key_of(&s.from);

	cr_expect_eq(s.err, 0);
	cr_expect_not(flat_capture_bpf_take(&maps, &key, &r));
	close(listening);
}

Test(capture_bpf, other_streams_than_tcp_are_refused_and_datagrams_are_not)
{
	uint16_t port;
	int listening = listen_somewhere(&port);

	attach(port);
	move_in(live_as_client);
	struct seen s = connect_inside("192.0.2.1", 80);

	cr_expect_eq(s.no_stream, EPERM);
	cr_expect_eq(s.datagram, 0);
	close(listening);
}

Test(capture_bpf, without_flatd_a_connection_is_refused_and_a_later_one_goes_on)
{
	struct flat_capture_record r;
	uint16_t port, other;
	int listening = listen_somewhere(&port);

	attach(port);
	/* Before the other process is there: it would have it too. */
	close(listening);
	move_in(live_as_client);
	flat_capture_bpf_close(&maps);
	struct seen s = connect_inside("192.0.2.1", 80);

	cr_expect_eq(s.err, ECONNREFUSED);
	/* Programs are put in the place of the earlier, one for one. */
	listening = listen_somewhere(&other);
	cr_assert_eq(flat_capture_bpf_attach(&maps, cgroup, other, why, sizeof(why)), 0, "%s", why);
	s = connect_inside("198.51.100.7", 443);
	struct flat_capture_key key = key_of(&s.from);

	cr_expect_eq(s.err, 0);
	cr_assert(flat_capture_bpf_take(&maps, &key, &r));
	cr_expect_eq(r.ip[3], inet_addr("198.51.100.7"));
	cr_expect_eq(flat_capture_bpf_detach(cgroup), 16);
	cr_expect_eq(flat_capture_bpf_detach(cgroup), 0);
	s = connect_inside("127.0.0.1", other);
	cr_expect_eq(s.err, 0);
	cr_expect_eq(s.peer.sin_port, htons(other));
	/* There is no way there but that of flatd. */
	s = connect_inside("192.0.2.1", 80);
	cr_expect_eq(s.err, ENETUNREACH);
	close(listening);
}

/* --- servers --- */

/* What a server of the cgroup says: where it listens; then, of each connection, who its client is. */
static void live_as_server(int in, int out)
{
	uint16_t port;
	char byte;
	int listening = -1;

	if (read(in, &byte, 1) != 1)
		_exit(1);
	listening = listen_somewhere(&port);
	if (write(out, &port, sizeof(port)) != sizeof(port))
		_exit(1);
	(void)fcntl(listening, F_SETFL, 0);
	while (read(in, &byte, 1) == 1) {
		struct sockaddr_in peer = {.sin_family = AF_UNSPEC};
		socklen_t len = sizeof(peer);

		/* 'a': accepts one. 'c': listens no more. */
		if (byte == 'c')
			close(listening);
		else
			(void)accept(listening, (struct sockaddr *)&peer, &len);
		if (write(out, &peer, sizeof(peer)) != sizeof(peer))
			break;
	}
	_exit(0);
}

static struct sockaddr_in ask_server(char what)
{
	struct sockaddr_in peer;

	cr_assert_eq(write(tell, &what, 1), 1);
	cr_assert_eq(read(hear, &peer, sizeof(peer)), sizeof(peer));
	return peer;
}

struct listing {
	struct flat_in_bind last;
	int n;
};

static void note(void *ctx, const struct flat_in_bind *bind)
{
	struct listing *l = ctx;

	l->last = *bind;
	l->n++;
}

static struct listing listing(void)
{
	struct listing l = {.n = 0};

	flat_in_bpf_each(&servers, note, &l);
	return l;
}

/* The gate's door, the programs at the cgroup, and a server in it. */
static int open_gate(uint16_t *served)
{
	struct stat st;
	int door = listen_somewhere(&door_port);

	if (cgroup < 0)
		cr_skip_test("no cgroup v2, or no namespace of one's own");
	int err = flat_in_gate_open(&gate, -1, (int[2]){door, -1}, door_port, why, sizeof(why));

	if (err == -EPERM)
		cr_skip_test("no programs may be loaded");
	cr_assert_eq(err, 0, "%s", why);
	cr_assert_eq(fstat(cgroup, &st), 0);
	cr_expect_not(flat_in_bpf_there(cgroup));
	err = flat_in_bpf_attach(&servers, &gate, cgroup, st.st_ino, why, sizeof(why));
	cr_assert_eq(err, 0, "%s", why);
	cr_expect(flat_in_bpf_there(cgroup));
	move_in(live_as_server);
	cr_assert_eq(write(tell, "", 1), 1);
	cr_assert_eq(read(hear, served, sizeof(*served)), sizeof(*served));
	return door;
}

Test(capture_bpf, who_listens_is_known_and_its_connections_come_to_flatd)
{
	uint16_t served;
	int door = open_gate(&served);
	struct listing l = listing();
	struct sockaddr_in to = {
	    .sin_family = AF_INET, .sin_port = htons(served), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in at;
	socklen_t len = sizeof(at);

	cr_assert_eq(l.n, 1);
	cr_expect_eq(l.last.at.ip[3], htonl(INADDR_LOOPBACK));
	cr_expect_eq(l.last.at.port, served);
	cr_expect_eq(l.last.who.uid, getuid());
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	int taken = accept(door, NULL, NULL);

	cr_assert_geq(taken, 0, "%s", strerror(errno));
	/* As it was asked for. */
	cr_assert_eq(getsockname(taken, (struct sockaddr *)&at, &len), 0);
	cr_expect_eq(at.sin_port, htons(served));
	close(taken);
	close(fd);
	(void)ask_server('c');
	cr_expect_eq(listing().n, 0);
	/* Nobody listens there any more: it is the kernel's. */
	fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_expect_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
	cr_expect_eq(errno, ECONNREFUSED);
	close(fd);
	close(door);
}

Test(capture_bpf, a_pass_is_for_one_connection_and_tells_the_server_its_client)
{
	uint16_t served;
	int door = open_gate(&served);
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in to = from;
	struct flat_in_way way = {.from = {0, 0, V4_MARK, htonl(INADDR_LOOPBACK)},
				  .to = {0, 0, V4_MARK, htonl(INADDR_LOOPBACK)},
				  .to_port = htons(served)};
	struct flat_in_pass pass = {
	    .guest = {.ip = {0, 0, V4_MARK, inet_addr("203.0.113.9")}, .port = htons(4711)}};
	socklen_t len = sizeof(from);
	struct stat st;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(fstat(cgroup, &st), 0);
	pass.cgroups[0] = st.st_ino;
	to.sin_port = htons(served);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&from, &len), 0);
	way.from_port = from.sin_port;
	cr_assert_eq(flat_in_gate_pass(&gate, &way, &pass), 0);
	cr_expect(flat_in_gate_passes(&gate, &way));
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	struct sockaddr_in peer = ask_server('a');

	cr_expect_eq(peer.sin_addr.s_addr, inet_addr("203.0.113.9"));
	cr_expect_eq(peer.sin_port, htons(4711));
	cr_expect_not(flat_in_gate_passes(&gate, &way));
	cr_expect_eq(accept(door, NULL, NULL), -1);
	close(fd);
	/* One that is taken back. */
	cr_assert_eq(flat_in_gate_pass(&gate, &way, &pass), 0);
	flat_in_gate_unpass(&gate, &way);
	cr_expect_not(flat_in_gate_passes(&gate, &way));
	close(door);
}
