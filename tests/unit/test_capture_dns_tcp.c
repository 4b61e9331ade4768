/*
 * DNS over TCP of a confined client: what the mesh has is answered, whatever the pieces that it is asked in; what it has not goes to the server
 * that was asked, and its answers come back; who breaks the protocol, or may not ask there, is told so.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "codec/dns.h"
#include "offload/admit.h"
#include "offload/capture_dns.h"
#include "support_mesh.h"

static const char mesh_yaml[] =
    "apiVersion: mesh.libflat.io/v1\nkind: Workload\nmetadata: {name: shop, namespace: demo}\n"
    "spec: {selectors: [{uid: 1000}]}\n"
    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
    "metadata: {name: shut, namespace: demo, labels: {app: shut}}\nspec: {selectors: [{uid: "
    "1001}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: "
    "demo}\n"
    "spec: {hosts: [db.example], addresses: [240.9.0.1], resolution: STATIC, ports: [{number: 80, "
    "name: tcp}], endpoints: [{address: 10.0.0.1}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: shut, namespace: "
    "demo}\n"
    "spec: {workloadSelector: {labels: {app: shut}}, outboundTrafficPolicy: {mode: "
    "REGISTRY_ONLY}}\n";

static struct flat_offload o;
static struct loaded loaded;
static struct flat_dns *dns;
static struct flat_dns_client client;
static struct flat_session shop, shut;
/* The server that is asked: 127.0.0.1. */
static int server_port;
static struct sockaddr_in server;

static int listening(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	return fd;
}

static void setup(void)
{
	TAILQ_INIT(&o.sessions);
	TAILQ_INIT(&o.listeners);
	TAILQ_INIT(&o.conns);
	cr_assert_eq(flat_loop_init(&o.loop), 0);
	loaded = load_good(mesh_yaml);
	o.mesh = loaded.mesh;
	o.epoch = 1;
	flat_balance_keep(&o);
	cr_assert_eq(flat_directory_create(&o.directory, 1U << 20), 0);
	flat_offload_publish(&o, NULL);
	shop.offload = shut.offload = &o;
	shop.workload = flat_mesh_workload_by_name(o.mesh, "demo", "shop");
	shut.workload = flat_mesh_workload_by_name(o.mesh, "demo", "shut");
	/* Its port for datagrams takes rights that a test may not have. */
	int err = flat_dns_open(&dns, &o);
	if (err == -EPERM || err == -ENOPROTOOPT)
		cr_skip("no port for datagrams: %s", strerror(-err));
	cr_assert_eq(err, 0, "%s", strerror(-err));
	cr_assert_eq(flat_dns_add(dns, &client, NULL), 0);
	server_port = listening(&server);
}

static void teardown(void)
{
	if (dns) {
		flat_dns_remove(&client);
		cr_expect_eq(shop.n_conns + shut.n_conns, 0);
		flat_dns_close(dns);
		close(server_port);
	}
	flat_directory_destroy(o.directory);
	flat_balance_free(&o);
	flat_loop_fini(&o.loop);
	loaded_fini(&loaded);
}

TestSuite(capture_dns_tcp, .init = setup, .fini = teardown);

/* A client's connection, which asked for `server`. */
static int connection(struct flat_session *s)
{
	struct sockaddr_in at;
	int door = listening(&at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int far;
	struct flat_question q = {.session = s};

	cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	far = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	close(door);
	q.from = q.to = (struct flat_addr){.family = AF_INET, .ip = {127, 0, 0, 1}};
	q.to.port = ntohs(server.sin_port);
	flat_dns_stream(&client, s, &q, far);
	return fd;
}

/* Turns until `fd` has something, or its end; 10 s at most. */
static void turn_until(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t end_ms = flat_now_ms() + 10000;

	do {
		(void)flat_loop_turn(&o.loop, 0);
		if (poll(&p, 1, 1) > 0)
			return;
	} while (flat_now_ms() < end_ms);
	cr_assert_fail("nothing came");
}

static void say(int fd, const void *bytes, size_t len)
{
	cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* One message behind its length. Bytes of the message; -1: a reset, 0: the end. */
static ssize_t hear(int fd, uint8_t *message, size_t size)
{
	uint8_t length[2];
	size_t len = 0, want = 2;

	while (len < want) {
		uint8_t *to = len < 2 ? length + len : message + len - 2;
		ssize_t n;

		turn_until(fd);
		n = recv(fd, to, len < 2 ? 2 - len : want - len, MSG_DONTWAIT);
		if (n <= 0)
			return len == 0 ? n : -2;
		len += (size_t)n;
		if (len == 2)
			want = 2 + ((size_t)length[0] << 8 | length[1]);
		cr_assert_leq(want, size + 2);
	}
	return (ssize_t)len - 2;
}

/* A query for A of this name, behind its length. Bytes. */
static size_t query(uint8_t out[300], uint8_t id, const char *name)
{
	static const uint8_t head[] = {0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
	size_t len = 3;

	out[2] = id;
	memcpy(out + len, head, sizeof(head));
	len += sizeof(head);
	while (*name) {
		size_t n = strcspn(name, ".");

		out[len++] = (uint8_t)n;
		memcpy(out + len, name, n);
		len += n;
		name += n + (name[n] == '.');
	}
	memcpy(out + len, "\0\0\1\0\1", 5);
	len += 5;
	out[0] = (uint8_t)((len - 2) >> 8);
	out[1] = (uint8_t)(len - 2);
	return len;
}

/* It is ours: of that query, and has the service's address at its end. */
static void check_ours(const uint8_t *message, ssize_t len, uint8_t id)
{
	static const uint8_t addr[] = {240, 9, 0, 1};

	cr_assert_gt(len, 16);
	cr_expect(message[0] == id && message[1] == 0 && (message[2] & 0x80) &&
		  (message[3] & 0xf) == FLAT_DNS_NOERROR && message[7] == 1);
	cr_expect_arr_eq(message + len - 4, addr, 4);
}

Test(capture_dns_tcp, a_name_of_the_mesh_is_answered_whatever_the_pieces)
{
	uint8_t q[300], heard[512];
	size_t len = query(q, 7, "db.example");
	int fd = connection(&shop);

	for (size_t piece = 1; piece <= len; piece += 9) {
		for (size_t at = 0; at < len; at += piece) {
			say(fd, q + at, len - at < piece ? len - at : piece);
			(void)flat_loop_turn(&o.loop, 0);
		}
		check_ours(heard, hear(fd, heard, sizeof(heard)), 7);
	}
	/* Two at once. */
	len += query(q + len, 8, "DB.example");
	say(fd, q, len);
	check_ours(heard, hear(fd, heard, sizeof(heard)), 7);
	check_ours(heard, hear(fd, heard, sizeof(heard)), 8);
	close(fd);
}

Test(capture_dns_tcp, another_name_goes_to_the_server_that_was_asked)
{
	static const uint8_t answers[] = "\0\6\11\0\x81\x80"
					 "ab\0\0";
	uint8_t q[300], heard[512];
	size_t len = query(q, 9, "elsewhere.example");
	int fd = connection(&shop);
	int at;

	say(fd, q, len);
	turn_until(server_port);
	at = accept4(server_port, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_eq(hear(at, heard, sizeof(heard)), (ssize_t)len - 2);
	cr_expect_arr_eq(heard, q + 2, len - 2);
	/* While that one waits, the mesh's own are answered. */
	len = query(q, 10, "db.example");
	say(fd, q, len);
	check_ours(heard, hear(fd, heard, sizeof(heard)), 10);
	/* Whatever the server says is its client's, also nothing. */
	say(at, answers, sizeof(answers) - 1);
	cr_assert_eq(hear(fd, heard, sizeof(heard)), 6);
	cr_expect_arr_eq(heard, answers + 2, 6);
	cr_assert_eq(hear(fd, heard, sizeof(heard)), 0);
	/* Who has asked all hears the rest, and the server that no more comes. */
	len = query(q, 11, "elsewhere.example");
	say(fd, q, len);
	cr_assert_eq(shutdown(fd, SHUT_WR), 0);
	cr_assert_eq(hear(at, heard, sizeof(heard)), (ssize_t)len - 2);
	cr_assert_eq(hear(at, heard, sizeof(heard)), 0);
	say(at, answers, 8);
	cr_assert_eq(hear(fd, heard, sizeof(heard)), 6);
	close(at);
	cr_expect_eq(hear(fd, heard, sizeof(heard)), 0);
	cr_expect_eq(client.n_streams, 0);
	close(fd);
}

Test(capture_dns_tcp, who_may_not_ask_there_is_told_so)
{
	uint8_t q[300], heard[512];
	size_t len = query(q, 12, "elsewhere.example");
	int fd = connection(&shut);

	say(fd, q, len);
	cr_assert_eq(hear(fd, heard, sizeof(heard)), (ssize_t)len - 2);
	cr_expect_eq(heard[3] & 0xf, FLAT_DNS_REFUSED);
	cr_expect_eq(o.n_refusals, 1);
	/* What the mesh has, it hears. */
	len = query(q, 13, "db.example");
	say(fd, q, len);
	check_ours(heard, hear(fd, heard, sizeof(heard)), 13);
	close(fd);
}

Test(capture_dns_tcp, what_is_no_query_is_told_so_or_ends_it)
{
	uint8_t q[300], heard[512];
	size_t len = query(q, 14, "db.example");
	int fd = connection(&shop);

	/* Shorter than its question. */
	q[1] = (uint8_t)(len - 2 - 3);
	say(fd, q, len - 3);
	cr_assert_geq(hear(fd, heard, sizeof(heard)), 12);
	cr_expect_eq(heard[3] & 0xf, FLAT_DNS_FORMERR);
	/* An answer is none, nor is what is shorter than a head, or nothing at all. */
	for (size_t i = 0; i < 3; i++) {
		len = query(q, 15, "db.example");
		if (i == 0)
			q[4] |= 0x80;
		else
			q[1] = i == 1 ? 11 : 0;
		say(fd, q, i == 0 ? len : 2 + (size_t)q[1]);
		cr_expect_eq(hear(fd, heard, sizeof(heard)), -1, "%zu", i);
		close(fd);
		cr_expect_eq(client.n_streams, 0);
		fd = connection(&shop);
	}
	close(fd);
}

Test(capture_dns_tcp, a_server_that_is_not_there_ends_it)
{
	uint8_t q[300], heard[512];
	size_t len = query(q, 16, "elsewhere.example");
	int fd = connection(&shop);

	/* Bound still, and listened at no more. */
	cr_assert_eq(shutdown(server_port, SHUT_RDWR), 0);
	say(fd, q, len);
	cr_expect_eq(hear(fd, heard, sizeof(heard)), -1);
	cr_expect_eq(client.n_streams, 0);
	close(fd);
}

Test(capture_dns_tcp, those_that_are_silent_make_room_and_end_in_time)
{
	int fds[FLAT_DNS_STREAMS_MAX + 1];
	uint8_t q[300], heard[512];
	int64_t now_ms;

	for (size_t i = 0; i < FLAT_DNS_STREAMS_MAX; i++)
		fds[i] = connection(&shop);
	/* The first has moved since. */
	say(fds[0], q, query(q, 17, "db.example"));
	check_ours(heard, hear(fds[0], heard, sizeof(heard)), 17);
	fds[FLAT_DNS_STREAMS_MAX] = connection(&shop);
	cr_expect_eq(client.n_streams, FLAT_DNS_STREAMS_MAX);
	cr_expect_eq(hear(fds[1], heard, sizeof(heard)), 0);
	now_ms = flat_now_ms();
	cr_expect_gt(flat_dns_streams_expire(&client, now_ms), 0);
	cr_expect_eq(client.n_streams, FLAT_DNS_STREAMS_MAX);
	cr_expect_eq(flat_dns_streams_expire(&client, now_ms + FLAT_DNS_STREAM_MS), -1);
	cr_expect_eq(client.n_streams, 0);
	for (size_t i = 0; i <= FLAT_DNS_STREAMS_MAX; i++)
		close(fds[i]);
}
