/*
 * A server found by the name that a TLS client asks for, through flatd: whatever the pieces in which the name comes, its server gets every
 * byte that the client sent; what nobody can decide is reset.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <flat/socket.h>

#include "support_whole.h"
#include "wire/hello.h"

/* web.example has two servers, at 127.0.0.1 and 127.0.0.2; by name each has its own. */
static const char routes[] =
    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec: {hosts: [web.example], addresses: [240.9.1.1], location: MESH_INTERNAL, resolution: "
    "STATIC, ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [{address: 127.0.0.1, "
    "ports: {tls: %PORT%}, labels: {at: one}}, {address: 127.0.0.2, ports: {tls: %PORT%}, labels: "
    "{at: two}}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec: {host: web.example, subsets: [{name: one, labels: {at: one}}, {name: two, labels: {at: "
    "two}}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [web.example]\n  tls:\n"
    "  - match: [{sniHosts: [one.example]}]\n"
    "    route: [{destination: {host: web.example, subset: one}}]\n"
    "  - match: [{sniHosts: ['*.two.example']}]\n"
    "    route: [{destination: {host: web.example, subset: two}}]\n"
    "  - match: [{sniHosts: [gone.example]}]\n"
    "    route: [{destination: {host: nowhere.example}}]\n";

static int servers[2];

static void begin(void)
{
	struct sockaddr_in two;
	int on = 1;

	whole_begin(routes, NULL);
	two = whole_addr(127, 0, 0, 2, whole_port());
	servers[0] = whole_listen(whole_port());
	servers[1] = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(flat_setsockopt(servers[1], SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	cr_assert_eq(flat_bind(servers[1], (struct sockaddr *)&two, sizeof(two)), 0);
	cr_assert_eq(flat_listen(servers[1], 8), 0);
}

static void end(void)
{
	flat_close(servers[0]);
	flat_close(servers[1]);
	whole_end();
}

static int client(void)
{
	return whole_connect(whole_addr(240, 9, 1, 1, 443));
}

/* OpenSSL's first message to a server of that name; NULL: it names none. Bytes. */
static size_t first_message(const char *name, uint8_t *bytes, size_t size)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *out = BIO_new(BIO_s_mem());
	int n;

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
	if (name)
		SSL_set_tlsext_host_name(ssl, name);
	SSL_set_connect_state(ssl);
	cr_assert_eq(SSL_do_handshake(ssl), -1);
	n = BIO_read(out, bytes, (int)size);
	cr_assert_gt(n, 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

/* Its connection gets there, and carries bytes both ways. */
static void check_at(int server, int fd, const uint8_t *bytes, size_t len)
{
	uint8_t got[4096];
	int at;

	cr_assert_leq(len, sizeof(got));
	whole_poll(server, POLLIN);
	at = flat_accept4(server, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(at, 0);
	whole_recv(at, got, len);
	cr_expect_arr_eq(got, bytes, len);
	whole_send(at, "answer", 6);
	whole_recv(fd, got, 6);
	cr_expect_arr_eq(got, "answer", 6);
	whole_send(fd, "more", 4);
	whole_recv(at, got, 4);
	cr_expect_arr_eq(got, "more", 4);
	flat_close(at);
	flat_close(fd);
}

/* It is reset, and no server hears of it. */
static void check_reset(int fd)
{
	struct pollfd p[2] = {{.fd = servers[0], .events = POLLIN},
			      {.fd = servers[1], .events = POLLIN}};
	char byte;

	whole_poll(fd, POLLIN);
	cr_expect_eq(flat_recv(fd, &byte, 1, 0), -1);
	cr_expect_eq(errno, ECONNRESET, "%m");
	cr_expect_eq(flat_poll(p, 2, 0), 0);
	flat_close(fd);
}

Test(sniff, the_name_decides_whatever_the_pieces_that_it_comes_in)
{
	static const struct {
		const char *name;
		int server;
		size_t piece;
	} some[] = {
	    {"one.example", 0, 4096}, {"One.Example", 0, 4096}, {"a.b.two.example", 1, 4096},
	    {"a.two.example", 1, 1},  {"one.example", 0, 7},	{"a.two.example", 1, 200},
	};
	uint8_t bytes[4096];

	begin();
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		size_t len = first_message(some[i].name, bytes, sizeof(bytes));
		int fd = client();

		for (size_t at = 0; at < len; at += some[i].piece)
			whole_send(fd, bytes + at,
				   len - at < some[i].piece ? len - at : some[i].piece);
		check_at(servers[some[i].server], fd, bytes, len);
	}
	end();
}

Test(sniff, who_names_nobody_gets_to_the_service_with_all_it_said)
{
	static const char http[] = "GET / HTTP/1.1\r\n\r\n";
	uint8_t bytes[4096];
	size_t len;
	int fd;

	begin();
	for (int tls = 0; tls < 2; tls++) {
		len = tls ? first_message(NULL, bytes, sizeof(bytes)) : sizeof(http) - 1;
		if (!tls)
			memcpy(bytes, http, len);
		fd = client();
		whole_send(fd, bytes, len);
		struct pollfd p[2] = {{.fd = servers[0], .events = POLLIN},
				      {.fd = servers[1], .events = POLLIN}};
		cr_assert_eq(flat_poll(p, 2, 10000), 1);
		check_at(servers[p[0].revents ? 0 : 1], fd, bytes, len);
	}
	end();
}

Test(sniff, what_cannot_be_decided_is_reset)
{
	static uint8_t bytes[FLAT_HELLO_MAX + 4096];
	size_t len;
	int fd;

	begin();
	/* A name whose service there is not. */
	len = first_message("gone.example", bytes, sizeof(bytes));
	fd = client();
	whole_send(fd, bytes, len);
	check_reset(fd);
	/* One that ends before it has said whom it wants. */
	fd = client();
	whole_send(fd, bytes, len / 2);
	cr_assert_eq(flat_shutdown(fd, SHUT_WR), 0);
	check_reset(fd);
	/* A message that says it is longer than a name is looked for in. */
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, "\x16\x03\x01\x40\x00\x01\x00\xff\x00", 9);
	fd = client();
	(void)flat_send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
	check_reset(fd);
	end();
}

Test(sniff, one_that_goes_away_early_leaves_nothing_behind)
{
	uint8_t bytes[4096];
	size_t len;
	int fd;

	begin();
	len = first_message("one.example", bytes, sizeof(bytes));
	for (size_t cut = 0; cut < len; cut += 50) {
		fd = client();
		if (cut > 0)
			whole_send(fd, bytes, cut);
		flat_close(fd);
	}
	/* The next one is served, and is the first that its server hears of. */
	fd = client();
	whole_send(fd, bytes, len);
	check_at(servers[0], fd, bytes, len);
	end();
}
