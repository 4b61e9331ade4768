/*
 * Clients without the library, who come in by a gateway: which of its hosts they may ask for, what its policies say of them, over TLS by which
 * certificate.
 */
#include <criterion/criterion.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <flat/socket.h>

#include "offload/offload.h"
#include "support_origin.h"
#include "support_whole.h"
#include "support_wire.h"

/* Ports of 127.0.0.5, which is no other test's. */
enum { HTTP, HTTPS, MUTUAL, PORTS };

static uint16_t ports[PORTS];
static struct wire_folder folder;

static const char gateway[] =
    "apiVersion: mesh.libflat.io/v1\nkind: Workload\n"
    "metadata: {name: all, namespace: shop, labels: {app: web}}\nspec: {selectors: [{uid: "
    "%%UID%%}]}\n"
    "---\napiVersion: mesh.libflat.io/v1\nkind: Workload\n"
    "metadata: {name: ingress, namespace: edge, labels: {istio: ingressgateway}}\n"
    "spec: {serviceAccount: ingress, selectors: [{uid: 12345}]}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: web, namespace: "
    "edge}\n"
    "spec:\n  selector: {istio: ingressgateway}\n  servers:\n"
    "  - {port: {number: %u, name: http, protocol: HTTP}, bind: 127.0.0.5, hosts: [one.example, "
    "'*.two.example']}\n"
    "  - {port: {number: %u, name: moved, protocol: HTTP}, bind: 127.0.0.5, hosts: "
    "[moved.example], "
    "tls: {httpsRedirect: true}}\n"
    "  - {port: {number: %u, name: https, protocol: HTTPS}, bind: 127.0.0.5, hosts: [one.example], "
    "tls: {mode: SIMPLE, serverCertificate: %s/a.client.crt, privateKey: %s/a.client.key}}\n"
    "  - {port: {number: %u, name: mutual, protocol: HTTPS}, bind: 127.0.0.5, hosts: "
    "[one.example], "
    "tls: {mode: MUTUAL, serverCertificate: %s/a.client.crt, privateKey: %s/a.client.key, "
    "caCertificates: %s/d.bundle}}\n"
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
    "metadata: {name: web, namespace: shop}\nspec:\n  hosts: [one.example, '*.two.example', "
    "moved.example]\n  gateways: [edge/web]\n"
    "  http:\n  - match: [{uri: {prefix: /in/}}]\n    rewrite: {uri: /}\n"
    "    route: [{destination: {host: web.example}}]\n"
    "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
    "metadata: {name: no, namespace: edge}\n"
    "spec: {selector: {matchLabels: {istio: ingressgateway}}, action: DENY, rules: [{to: "
    "[{operation: "
    "{paths: ['/in/secret*']}}]}]}\n";

static void with_gateway(struct flat_offload *o)
{
	o->gateway_name = "edge/ingress";
}

static struct sockaddr_in port_of(int port)
{
	return whole_addr(127, 0, 0, 5, ports[port]);
}

static void begin(void)
{
	static char yaml[8192];
	const char *dir = folder.svids;
	int n;

	wire_folder_init(&folder, "d");
	for (int i = 0; i < PORTS; i++) {
		bool taken = true;

		while (taken) {
			taken = false;
			ports[i] = whole_free_port();
			for (int k = 0; k < i; k++)
				taken |= ports[k] == ports[i];
		}
	}
	n = snprintf(yaml, sizeof(yaml), gateway, ports[HTTP], ports[HTTP], ports[HTTPS], dir, dir,
		     ports[MUTUAL], dir, dir, dir);
	cr_assert_lt((size_t)n, sizeof(yaml));
	origin_begin_tuned(yaml, NULL, with_gateway);
	origin_by(port_of(HTTP));
}

static void end(void)
{
	origin_end();
	wire_folder_fini(&folder);
}

#define GET(path, host) "GET " path " HTTP/1.1\r\nHost: " host "\r\n\r\n"

Test(ingress, the_host_and_the_gateways_policies_decide)
{
	static const struct origin_row rows[] = {
	    {GET("/in/a", "one.example"),
	     {"GET /a ", "ost: one.example", "x-forwarded-for: 127.0.0.1"},
	     {"HTTP/1.1 200 "}},
	    {GET("/in/a", "ONE.example:80"), {"GET /a "}, {"HTTP/1.1 200 "}},
	    {GET("/in/a", "x.two.example"), {"GET /a "}, {"HTTP/1.1 200 "}},
	    {GET("/in/a", "two.example"), {NULL}, {"HTTP/1.1 404 "}},
	    {GET("/in/a", "web.example"), {NULL}, {"HTTP/1.1 404 "}},
	    {GET("/out", "one.example"), {NULL}, {"HTTP/1.1 404 "}},
	    {GET("/in/a?b", "moved.example"),
	     {NULL},
	     {"HTTP/1.1 301 ", "ocation: https://moved.example/in/a?b\r\n"}},
	    {GET("/in/secret", "one.example"), {NULL}, {"HTTP/1.1 403 "}},
	    {GET("/in/%73ecret", "one.example"), {NULL}, {"HTTP/1.1 403 "}},
	    {GET("/in/x/../secret", "one.example"), {NULL}, {"HTTP/1.1 403 "}},
	    {"nonsense\r\n\r\n", {NULL}, {"HTTP/1.1 400 "}},
	};

	begin();
	ORIGIN_CHECK(rows);
	end();
}

/* A TLS client at a port: it asks for `name`, has a certificate where `identity` is one. NULL: no handshake came of it. */
static SSL *shake(int port, const char *name, const char *identity, int *fd)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char path[128];
	SSL *ssl;

	if (identity) {
		snprintf(path, sizeof(path), "%s/%s.crt", folder.svids, identity);
		cr_assert_eq(SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM), 1);
		snprintf(path, sizeof(path), "%s/%s.key", folder.svids, identity);
		cr_assert_eq(SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM), 1);
	}
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_tlsext_host_name(ssl, name);
	*fd = whole_connect(port_of(port));
	SSL_set_fd(ssl, *fd);
	if (SSL_connect(ssl) == 1)
		return ssl;
	SSL_free(ssl);
	flat_close(*fd);
	return NULL;
}

/* What a request over TLS gets; "": nothing, not even a handshake. */
static const char *ask_tls(int port, const char *name, const char *identity, const char *request)
{
	static char text[ORIGIN_TEXT];
	int len = 0, n;
	int fd;
	SSL *ssl = shake(port, name, identity, &fd);

	text[0] = '\0';
	if (!ssl)
		return text;
	if (SSL_write(ssl, request, (int)strlen(request)) > 0) {
		while ((n = SSL_read(ssl, text + len, (int)sizeof(text) - 1 - len)) > 0) {
			len += n;
			text[len] = '\0';
			if (strstr(text, "\r\n\r\n"))
				break;
		}
	}
	SSL_free(ssl);
	flat_close(fd);
	return text;
}

Test(ingress, over_tls_the_name_and_the_certificate_decide)
{
	static const struct {
		int port;
		const char *name, *identity, *request, *want;
	} some[] = {
	    {HTTPS, "one.example", NULL, GET("/in/a", "one.example"), "HTTP/1.1 200 "},
	    {HTTPS, "ONE.example", NULL, GET("/in/a", "one.example"), "HTTP/1.1 200 "},
	    {HTTPS, "one.example", NULL, GET("/in/secret", "one.example"), "HTTP/1.1 403 "},
	    {HTTPS, "other.example", NULL, GET("/in/a", "one.example"), ""},
	    {MUTUAL, "one.example", "a.other", GET("/in/a", "one.example"), "HTTP/1.1 200 "},
	    {MUTUAL, "one.example", NULL, GET("/in/a", "one.example"), ""},
	};

	begin();
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(some); i++) {
		const char *got =
		    ask_tls(some[i].port, some[i].name, some[i].identity, some[i].request);

		cr_expect(*some[i].want ? strncmp(got, some[i].want, strlen(some[i].want)) == 0
					: !*got,
			  "%zu: %s", i, got);
	}
	cr_expect_eq(origin_requests(), 3);
	cr_expect_not_null(strstr(origin_last(), "GET /a "), "%s", origin_last());
	end();
}

Test(ingress, http_is_no_tls)
{
	char text[ORIGIN_TEXT];
	int fd;

	begin();
	fd = whole_connect(port_of(HTTPS));
	whole_send(fd, GET("/in/a", "one.example"), strlen(GET("/in/a", "one.example")));
	(void)origin_read(fd, text);
	cr_expect_null(strstr(text, "HTTP/1.1 200"), "%s", text);
	flat_close(fd);
	cr_expect_eq(origin_requests(), 0);
	end();
}
