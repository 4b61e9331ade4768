/*
 * TLS that flatd begins towards servers outside the mesh: whom it believes, what it asks for and shows, by the DestinationRule; which
 * connections serve for the next request; certificates that change. The server says which name it was asked for, and who came.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <flat/socket.h>

#include "base/strbuf.h"
#include "support_origin.h"
#include "support_whole.h"
#include "support_wire.h"

#define CONNECTIONS 64

static struct wire_folder folder, other;
static SSL_CTX *ctx;
static int listener;
static uint16_t port;
static pthread_t accepts, each[CONNECTIONS];
static atomic_uint connections;

/* --- the server --- */

/* Its URI, or "-". */
static void put_client(SSL *ssl, struct flat_strbuf *out)
{
	X509 *cert = SSL_get1_peer_certificate(ssl);
	GENERAL_NAMES *names =
	    cert ? X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL) : NULL;
	if (names) {
		const ASN1_STRING *uri = sk_GENERAL_NAME_value(names, 0)->d.ia5;
		flat_strbuf_add(out, (const char *)ASN1_STRING_get0_data(uri),
				(size_t)ASN1_STRING_length(uri));
	} else {
		flat_strbuf_puts(out, "-");
	}
	GENERAL_NAMES_free(names);
	X509_free(cert);
}

static bool answer(SSL *ssl)
{
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct flat_strbuf body = {0}, all = {0};
	flat_strbuf_printf(&body, "%s|", asked ? asked : "-");
	put_client(ssl, &body);
	flat_strbuf_puts(&body, "|");
	flat_strbuf_printf(&all, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", body.len,
			   flat_strbuf_str(&body));
	bool done = SSL_write(ssl, all.data, (int)all.len) == (int)all.len;
	flat_strbuf_fini(&body);
	flat_strbuf_fini(&all);
	return done;
}

static void *converse(void *arg)
{
	char text[4096] = "";
	size_t len = 0;
	int fd = (int)(intptr_t)arg;
	int n;
	SSL *ssl = SSL_new(ctx);
	if (ssl && SSL_set_fd(ssl, fd) && SSL_accept(ssl) == 1) {
		while ((n = SSL_read(ssl, text + len, (int)(sizeof(text) - 1 - len))) > 0) {
			len += (size_t)n;
			text[len] = '\0';
			if (!strstr(text, "\r\n\r\n"))
				continue;
			if (!answer(ssl))
				break;
			len = 0;
		}
	}
	SSL_free(ssl);
	close(fd);
	return NULL;
}

static void *serve(void *arg)
{
	int fd;
	(void)arg;
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		unsigned i = atomic_fetch_add(&connections, 1);
		if (i >= CONNECTIONS ||
		    pthread_create(&each[i], NULL, converse, (void *)(intptr_t)fd) != 0)
			abort();
	}
	return NULL;
}

/* --- the mesh --- */

/* One service at 240.9.3.`i`, and how its servers are spoken to. */
struct service {
	const char *protocol, *tls;
	const char *want; /* of the answer */
	const char *why;  /* NULL, or what is told of the refusal */
};

static void put_service(struct flat_strbuf *out, size_t i, const char *protocol, const char *tls)
{
	flat_strbuf_printf(
	    out,
	    "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
	    "metadata: {name: s%zu, namespace: shop}\n"
	    "spec: {hosts: [s%zu.example], addresses: [240.9.3.%zu], location: MESH_EXTERNAL, "
	    "resolution: STATIC, ports: [{number: 80, name: port, protocol: %s, targetPort: %u}], "
	    "endpoints: [{address: 127.0.0.1}]}\n"
	    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
	    "metadata: {name: s%zu, namespace: shop}\n"
	    "spec: {host: s%zu.example, trafficPolicy: {tls: {%s}}}\n",
	    i, i, i, protocol, port, i, i, tls);
}

/* A file's text within double quotes. */
static void put_file(struct flat_strbuf *out, const char *key, const char *path)
{
	FILE *f = fopen(path, "re");
	int c;
	cr_assert_not_null(f);
	flat_strbuf_printf(out, ", %s: \"", key);
	while ((c = fgetc(f)) != EOF) {
		if (c == '\n')
			flat_strbuf_puts(out, "\\n");
		else
			flat_strbuf_putc(out, (char)c);
	}
	flat_strbuf_puts(out, "\"");
	fclose(f);
}

/* Files are named from the folder of identities on. */
static void open_all(void)
{
	struct sockaddr_in at = whole_addr(127, 0, 0, 1, 0);
	socklen_t len = sizeof(at);
	wire_folder_init(&folder, "d");
	wire_folder_init(&other, "d");
	cr_assert_eq(chdir(folder.svids), 0);
	ctx = SSL_CTX_new(TLS_server_method());
	cr_assert(ctx && SSL_CTX_use_certificate_chain_file(ctx, "a.client.crt") == 1 &&
		  SSL_CTX_use_PrivateKey_file(ctx, "a.client.key", SSL_FILETYPE_PEM) == 1 &&
		  SSL_CTX_load_verify_locations(ctx, "d.bundle", NULL) == 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(listener, 16), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	port = ntohs(at.sin_port);
}

/* The threads after the process that is forked. */
static void begin(const struct flat_strbuf *yaml)
{
	origin_begin(flat_strbuf_str(yaml), NULL);
	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(pthread_create(&accepts, NULL, serve, NULL), 0);
}

static void end(void)
{
	origin_end();
	cr_assert_eq(shutdown(listener, SHUT_RDWR), 0);
	cr_assert_eq(pthread_join(accepts, NULL), 0);
	for (unsigned i = 0; i < atomic_load(&connections); i++)
		cr_assert_eq(pthread_join(each[i], NULL), 0);
	close(listener);
	SSL_CTX_free(ctx);
	cr_assert_eq(chdir("/"), 0);
	wire_folder_fini(&folder);
	wire_folder_fini(&other);
}

static void by_service(size_t i)
{
	origin_by(whole_addr(240, 9, 3, (uint8_t)i, 80));
}

static const char *request_to(size_t i)
{
	static char text[100];
	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: s%zu.example\r\n\r\n", i);
	return text;
}

static void expect_in(const char *text, const char *want, const char *tls)
{
	cr_expect(strstr(text, want), "%s: no '%s' in '%s'", tls, want, text);
}

/* --- tests --- */

#define CA "caCertificates: d.bundle"
#define NAMED ", subjectAltNames: [no.example, 'spiffe://d/ns/a/sa/client']"
#define SHOWN ", clientCertificate: a.other.crt, privateKey: a.other.key"
#define OTHER "spiffe://d/ns/a/sa/other"

Test(offload_origin, the_rule_says_who_is_believed_asked_and_shown)
{
	static const struct service rows[] = {
	    {"HTTP", "mode: SIMPLE, " CA NAMED, "\r\n\r\ns0.example|-|", NULL},
	    {"TCP", "mode: SIMPLE, " CA NAMED, "\r\n\r\ns1.example|-|", NULL},
	    {"HTTP", "mode: SIMPLE, sni: x.example, " CA NAMED, "\r\n\r\nx.example|-|", NULL},
	    {"HTTP", "mode: SIMPLE, insecureSkipVerify: true", "\r\n\r\ns3.example|-|", NULL},
	    {"HTTP", "mode: MUTUAL, " CA NAMED SHOWN, "\r\n\r\ns4.example|" OTHER "|", NULL},
	    {"HTTP", "mode: MUTUAL, credentialName: ours" NAMED, "\r\n\r\ns5.example|" OTHER "|",
	     NULL},
	    {"HTTP", "mode: SIMPLE, credentialName: ours" NAMED, "\r\n\r\ns6.example|-|", NULL},
	    {"HTTP", "mode: SIMPLE, credentialName: theirs" NAMED, "\r\n\r\ns7.example|-|", NULL},
	    /* Its certificate has no DNS name. */
	    {"HTTP", "mode: SIMPLE, " CA, " 503 ", "no TLS with s8.example at 127.0.0.1"},
	    {"HTTP", "mode: SIMPLE, " CA ", subjectAltNames: [no.example]", " 503 ",
	     "no TLS with s9.example at 127.0.0.1"},
	    {"HTTP", "mode: SIMPLE, caCertificates: other.bundle" NAMED, " 503 ",
	     "no TLS with s10.example at 127.0.0.1"},
	    {"HTTP", "mode: SIMPLE" NAMED, " 503 ", "no TLS with s11.example at 127.0.0.1"},
	    {"HTTP2", "mode: SIMPLE, " CA NAMED, " 503 ", "the server does not speak HTTP/2"},
	    {"HTTP", "mode: SIMPLE, caCertificates: none.crt", " 503 ", "none.crt"},
	    {"HTTP", "mode: MUTUAL, credentialName: none", " 503 ",
	     "there is no Secret shop/none with tls.crt and tls.key"},
	    {"HTTP", "mode: SIMPLE, credentialName: none", " 503 ",
	     "there is no Secret shop/none with ca.crt"},
	};
	struct flat_strbuf yaml = {0};
	char path[128];
	open_all();
	snprintf(path, sizeof(path), "%s/d.bundle", other.svids);
	cr_assert_eq(rename(path, "other.bundle"), 0);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++)
		put_service(&yaml, i, rows[i].protocol, rows[i].tls);
	flat_strbuf_puts(&yaml, "---\napiVersion: v1\nkind: Secret\n"
				"metadata: {name: ours, namespace: shop}\nstringData: {a: b");
	put_file(&yaml, "tls.crt", "a.other.crt");
	put_file(&yaml, "tls.key", "a.other.key");
	put_file(&yaml, "ca.crt", "d.bundle");
	flat_strbuf_puts(&yaml, "}\n---\napiVersion: v1\nkind: Secret\n"
				"metadata: {name: theirs-cacert, namespace: shop}\n"
				"stringData: {a: b");
	put_file(&yaml, "ca.crt", "d.bundle");
	flat_strbuf_puts(&yaml, "}\n");
	begin(&yaml);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(rows); i++) {
		by_service(i);
		expect_in(origin_ask(request_to(i)), rows[i].want, rows[i].tls);
		if (rows[i].why)
			expect_in(whole_ask("ls --json"), rows[i].why, rows[i].tls);
	}
	end();
	flat_strbuf_fini(&yaml);
}

static const char *ask_on(int fd)
{
	static char text[ORIGIN_TEXT];
	whole_send(fd, request_to(0), strlen(request_to(0)));
	(void)origin_read(fd, text);
	return text;
}

Test(offload_origin, a_connection_serves_for_as_long_as_its_rule_holds)
{
	static const char *const tls = "mode: SIMPLE, " CA NAMED;
	static const char *const renamed = "mode: SIMPLE, sni: x.example, " CA NAMED;
	struct flat_strbuf yaml = {0};
	open_all();
	put_service(&yaml, 0, "HTTP", tls);
	begin(&yaml);
	by_service(0);
	int fd = origin_connect();
	expect_in(ask_on(fd), "s0.example|", tls);
	expect_in(ask_on(fd), "s0.example|", tls);
	cr_expect_eq(atomic_load(&connections), 1);
	flat_strbuf_reset(&yaml);
	put_service(&yaml, 0, "HTTP", renamed);
	whole_apply(flat_strbuf_str(&yaml));
	expect_in(ask_on(fd), "x.example|", renamed);
	cr_expect_eq(atomic_load(&connections), 2);
	flat_close(fd);
	end();
	flat_strbuf_fini(&yaml);
}

Test(offload_origin, certificates_are_read_again_when_their_files_change)
{
	static const char *const tls = "mode: MUTUAL, " CA NAMED SHOWN;
	struct flat_strbuf yaml = {0};
	const char *got = NULL;
	open_all();
	put_service(&yaml, 0, "HTTP", tls);
	begin(&yaml);
	by_service(0);
	expect_in(origin_ask(request_to(0)), OTHER, tls);
	/* They do not belong together, and those before stay, however often they are looked at. */
	cr_assert_eq(rename("flat-system.flatd.crt", "a.other.crt"), 0);
	for (int i = 0; i < 8; i++) {
		expect_in(origin_ask(request_to(0)), OTHER, tls);
		(void)flat_poll(NULL, 0, 200);
	}
	cr_assert_eq(rename("flat-system.flatd.key", "a.other.key"), 0);
	for (int i = 0; i < CONNECTIONS - 10; i++) {
		got = origin_ask(request_to(0));
		if (strstr(got, "flatd"))
			break;
		(void)flat_poll(NULL, 0, 200);
	}
	expect_in(got, "spiffe://d/ns/flat-system/sa/flatd", tls);
	end();
	flat_strbuf_fini(&yaml);
}
