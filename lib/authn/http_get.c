#include "authn/http_get.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "authn/jwks.h"
#include "base/clock.h"
#include "base/sys.h"
#include "codec/http1.h"

/* Room for the head of an answer: FLAT_HTTP_HEAD_BYTES_MAX. */
#define HEAD_BYTES ((size_t)60 * 1024)

/* A connection in the making or open. */
struct link {
	struct flat_fetch *f;
	int64_t end_ms; /* when time is over */
	int fd;
	SSL_CTX *ctx;
	SSL *ssl;
};

static bool failed(struct link *l, const char *why)
{
	if (!l->f->error[0])
		snprintf(l->f->error, sizeof(l->f->error), "%s", why);
	return false;
}

static bool wait_for(struct link *l, short events)
{
	struct pollfd p = {.fd = l->fd, .events = events};
	int64_t left = l->end_ms - flat_now_ms();

	if (left <= 0 || poll(&p, 1, (int)left) <= 0)
		return failed(l, "no answer in time");
	return true;
}

/* --- connecting --- */

static bool connect_to(struct link *l, const struct sockaddr *addr, socklen_t len)
{
	int err = 0;
	socklen_t size = sizeof(err);

	l->fd = flat_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return failed(l, strerror(-l->fd));
	err = -flat_sys_connect(l->fd, addr, len);
	if (err == EINPROGRESS) {
		if (!wait_for(l, POLLOUT))
			return false;
		if (flat_sys_getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &size) != 0)
			err = EIO;
	}
	return err == 0 || failed(l, strerror(err));
}

/* Each address in turn. */
static bool connect_by_name(struct link *l, const char *host, uint16_t port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *list = NULL;
	char service[8];
	bool good = false;
	int err;

	snprintf(service, sizeof(service), "%u", port);
	err = getaddrinfo(host, service, &hints, &list);
	if (err != 0)
		return failed(l, gai_strerror(err));
	for (struct addrinfo *a = list; a && !good; a = a->ai_next) {
		if (l->fd >= 0)
			close(l->fd);
		l->f->error[0] = 0;
		good = connect_to(l, a->ai_addr, a->ai_addrlen);
	}
	freeaddrinfo(list);
	return good;
}

/* What an SSL call waits for; false: it failed. */
static bool ssl_wait(struct link *l, int ret)
{
	char text[128];
	unsigned long code;

	switch (SSL_get_error(l->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(l, POLLIN);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(l, POLLOUT);
	default:
		code = ERR_peek_last_error();
		ERR_error_string_n(code, text, sizeof(text));
		return failed(l, code ? text : "the TLS connection ended");
	}
}

static bool start_tls(struct link *l, const char *host)
{
	int ret = 0;

	l->ctx = SSL_CTX_new(TLS_client_method());
	if (l->ctx && SSL_CTX_set_default_verify_paths(l->ctx) == 1 &&
	    SSL_CTX_set_min_proto_version(l->ctx, TLS1_2_VERSION) == 1) {
		SSL_CTX_set_verify(l->ctx, SSL_VERIFY_PEER, NULL);
		l->ssl = SSL_new(l->ctx);
	}
	if (!l->ssl || SSL_set_fd(l->ssl, l->fd) != 1)
		return failed(l, "TLS is not to be had");
	/* A number is no name to be asked for, and is compared with the certificate's addresses. */
	if (strspn(host, "0123456789.") == strlen(host) || strchr(host, ':'))
		ret = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(l->ssl), host);
	else if (SSL_set_tlsext_host_name(l->ssl, host) == 1)
		ret = SSL_set1_host(l->ssl, host);
	if (ret != 1)
		return failed(l, "a host that no certificate can be for");
	while ((ret = SSL_connect(l->ssl)) != 1) {
		if (!ssl_wait(l, ret))
			return false;
	}
	return true;
}

/* --- bytes --- */

static bool send_all(struct link *l, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n;

		if (l->ssl) {
			n = SSL_write(l->ssl, text, (int)len);
			if (n <= 0 && !ssl_wait(l, (int)n))
				return false;
		} else {
			n = flat_sys_send(l->fd, text, len, MSG_NOSIGNAL);
			if (n == -EAGAIN ? !wait_for(l, POLLOUT) : n < 0)
				return failed(l, "the connection broke");
		}
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return true;
}

/* Bytes read, 0 at the end, -1: it failed. */
static ssize_t receive(struct link *l, uint8_t *to, size_t room)
{
	for (;;) {
		ssize_t n;

		if (l->ssl) {
			n = SSL_read(l->ssl, to, (int)flat_min_size(room, 1U << 20));
			if (n > 0)
				return n;
			if (SSL_get_error(l->ssl, (int)n) == SSL_ERROR_ZERO_RETURN)
				return 0;
			if (!ssl_wait(l, (int)n))
				return -1;
		} else {
			n = flat_sys_recv(l->fd, to, room, 0);
			if (n >= 0)
				return n;
			if (n != -EAGAIN) {
				(void)failed(l, strerror((int)-n));
				return -1;
			}
			if (!wait_for(l, POLLIN))
				return -1;
		}
	}
}

/* --- the answer --- */

struct answer {
	uint8_t *in;
	size_t at, len, size;
	bool eof;
	struct flat_http1 head, trailers;
};

static bool more(struct link *l, struct answer *a)
{
	ssize_t n;

	if (a->eof)
		return failed(l, "the answer breaks off");
	if (a->len == a->size)
		return failed(l, "an answer larger than 1 MiB");
	n = receive(l, a->in + a->len, a->size - a->len);
	if (n < 0)
		return false;
	a->eof = n == 0;
	a->len += (size_t)n;
	return true;
}

static bool read_head(struct link *l, struct answer *a)
{
	int n;

	do {
		flat_http1_begin(&a->head, FLAT_HTTP1_RESPONSE);
		while ((n = flat_http1_read(&a->head, a->in + a->at, a->len - a->at)) == 0) {
			if (!more(l, a))
				return false;
		}
		if (n < 0)
			return failed(l, "an answer that is not HTTP");
		a->at += (size_t)n;
	} while (a->head.head.status < 200);
	if (a->head.head.status == 200)
		return true;
	snprintf(l->f->error, sizeof(l->f->error), "status %u", a->head.head.status);
	return false;
}

static bool read_body(struct link *l, struct answer *a)
{
	struct flat_http1_body body;
	struct flat_piece piece;
	struct flat_fetch *f = l->f;
	ssize_t n;

	f->body = malloc(FLAT_JWKS_BYTES_MAX);
	if (!f->body)
		return failed(l, "no memory");
	flat_http1_body_begin(&body, (enum flat_body_kind)a->head.head.body, a->head.head.length);
	for (;;) {
		n = flat_http1_body_read(&body, a->in + a->at, a->len - a->at, &a->trailers,
					 &piece);
		if (n < 0)
			return failed(l, "an answer whose body is malformed");
		if (piece.kind == FLAT_PIECE_END ||
		    (n == 0 && a->eof && body.kind == FLAT_BODY_OPAQUE))
			return true;
		if (piece.kind == FLAT_PIECE_DATA) {
			if (piece.size > FLAT_JWKS_BYTES_MAX - f->len)
				return failed(l, "an answer larger than 1 MiB");
			memcpy(f->body + f->len, a->in + a->at, (size_t)piece.size);
			f->len += (size_t)piece.size;
		}
		a->at += (size_t)n;
		if (n == 0 && !body.over && !more(l, a))
			return false;
	}
}

static bool ask(struct link *l, const char *host, uint16_t port)
{
	const char *uri = l->f->uri;
	bool tls = uri[4] == 's';
	const char *authority = uri + (tls ? 8 : 7);
	size_t len = strcspn(authority, "/?#");
	const char *path = authority + len;
	char text[1024];
	int n;

	if (l->f->addr_len ? !connect_to(l, (struct sockaddr *)&l->f->addr, l->f->addr_len)
			   : !connect_by_name(l, host, port))
		return false;
	if (tls && !start_tls(l, host))
		return false;
	n = snprintf(text, sizeof(text),
		     "GET %s%.*s HTTP/1.1\r\nHost: %.*s\r\nAccept: application/json\r\n"
		     "User-Agent: flatd\r\nConnection: close\r\n\r\n",
		     *path == '/' ? "" : "/", (int)strcspn(path, "#"), path, (int)len, authority);
	if (n < 0 || (size_t)n >= sizeof(text))
		return failed(l, "an address that is too long");
	return send_all(l, text, (size_t)n);
}

void flat_http_get(struct flat_fetch *f)
{
	struct link l = {.f = f, .fd = -1, .end_ms = flat_now_ms() + f->timeout_ms};
	struct answer *a = calloc(1, sizeof(*a));
	char host[256];
	uint16_t port;
	bool good = false;

	f->error[0] = 0;
	f->len = 0;
	if (a) {
		a->size = FLAT_JWKS_BYTES_MAX + HEAD_BYTES;
		a->in = malloc(a->size);
	}
	if (!a || !a->in)
		(void)failed(&l, "no memory");
	else if (!flat_fetch_host(f->uri, host, &port) || strpbrk(f->uri, " \r\n\t"))
		(void)failed(&l, "an address that is none");
	else
		good = ask(&l, host, port) && read_head(&l, a) && read_body(&l, a);
	if (!good) {
		free(f->body);
		f->body = NULL;
		f->len = 0;
	}
	SSL_free(l.ssl);
	SSL_CTX_free(l.ctx);
	if (l.fd >= 0)
		close(l.fd);
	ERR_clear_error();
	if (a)
		free(a->in);
	free(a);
}
