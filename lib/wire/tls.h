/*
 * TLS towards clients and servers from outside the mesh: contexts made of certificates, and sessions over a socket of the
 * kernel's. (Between flatds: link.h.)
 */
#ifndef FLAT_WIRE_TLS_H
#define FLAT_WIRE_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/base.h"

/* Where a certificate, key or bundle is: a file, or its text. Both NULL: there is none. */
struct flat_pem {
	const char *file;
	const char *text;
};

/* A certificate with its chain, the leaf first, and its key, without passphrase. */
struct flat_tls_pair {
	struct flat_pem cert;
	struct flat_pem key;
};

enum flat_tls_clients {
	FLAT_TLS_ANY,	   /* no certificate is asked for */
	FLAT_TLS_OPTIONAL, /* one that is shown must be good */
	FLAT_TLS_REQUIRED,
};

struct flat_tls_options {
	/* Of a server at least one; of several tls_certs.h says which is shown. Of a client none or one. */
	const struct flat_tls_pair *pairs;
	uint32_t n_pairs;
	struct flat_pem ca; /* of clients; of servers, those of the system where none is given */
	enum flat_tls_clients clients;
	uint8_t min_version, max_version; /* 12, 13; 0: 1.2 to 1.3 */
	const char
	    *ciphers; /* of TLS 1.2, joined by colons; NULL: those with forward secrecy and AEAD */
	const char *const
	    *names;	  /* one of these the peer's certificate bears, as DNS name or URI */
	uint32_t n_names; /* 0: any */
	bool opaque;	  /* of a server: what is inside is nobody's business, no ALPN */
};

/**
 * A context for servers. No renegotiation, no compression, no early data, no tickets (a session would outlive a rotation);
 * ALPN h2 and http/1.1, unless opaque. 0, or a negative errno with a sentence in `why`: -EINVAL (what of the files is wrong), -ENOMEM.
 */
FLAT_MUST_CHECK int flat_tls_context(const struct flat_tls_options *options, SSL_CTX **out,
				     char *why, size_t size);

/** Which context serves a host; NULL: none does. `host` is "" where the client names none. */
typedef SSL_CTX *flat_tls_pick_fn(void *arg, const char *host);

/**
 * A context that lends each session the one of the host that its client names; `http`: with ALPN. `arg` outlives it. NULL
 * without memory.
 */
SSL_CTX *flat_tls_front(flat_tls_pick_fn *pick, void *arg, bool http);

/* What is spoken inside, as a client says it by ALPN. */
enum flat_tls_inside {
	FLAT_TLS_INSIDE_ANY, /* nothing is said */
	FLAT_TLS_INSIDE_HTTP1,
	FLAT_TLS_INSIDE_H2,
};

/**
 * A context for clients: TLS 1.2 and 1.3. `unverified`: any server is believed. Of the options: pairs, ca, names (which a wildcard of the certificate may stand for). As flat_tls_context().
 */
FLAT_MUST_CHECK int flat_tls_client_context(const struct flat_tls_options *options, bool unverified,
					    enum flat_tls_inside inside, SSL_CTX **out, char *why,
					    size_t size);

struct flat_tls;

/**
 * A session over a connected, non-blocking socket (borrowed), as the client: `name` is asked for (SNI), and with `by_name` the
 * certificate bears it; an IP address is not asked for. NULL without memory.
 */
struct flat_tls *flat_tls_connect(SSL_CTX *ctx, int fd, const char *name, bool by_name);
/** Goes on with the handshake. 0: done; -EAGAIN: come again when the socket is readable, or with *writes writable; -ECONNRESET. */
FLAT_MUST_CHECK int flat_tls_shake(struct flat_tls *t, bool *writes);

/** A session over a connected, non-blocking socket (borrowed), as the server. NULL without memory. */
struct flat_tls *flat_tls_accept(SSL_CTX *front, int fd);
/** NULL is allowed. */
void flat_tls_free(struct flat_tls *t);

/**
 * Reads, or goes on with the handshake. Bytes; 0: the peer's end; -EAGAIN; -ECONNRESET: the session failed, or a server ended
 * it without saying so, which may have cut its answer. Never blocks.
 */
ssize_t flat_tls_read(struct flat_tls *t, void *buf, size_t len);
/** Writes. Bytes taken; -EAGAIN: none now, come again with the same bytes first; -ECONNRESET. Never blocks. */
ssize_t flat_tls_write(struct flat_tls *t, const void *buf, size_t len);
/** Says that nothing more follows. False: there is no room for it, come again when the socket is writable. */
bool flat_tls_end(struct flat_tls *t);

/** Whether the handshake is done. */
bool flat_tls_ready(const struct flat_tls *t);
/** Whether HTTP/2 was agreed on (ALPN). */
bool flat_tls_is_h2(const struct flat_tls *t);
/** The host that the client named, in lower case, or "". */
const char *flat_tls_host(const struct flat_tls *t);
/** The SPIFFE ID of a verified client, without its scheme, if its certificate is an SVID; else "". */
const char *flat_tls_principal(struct flat_tls *t);
/** Why the session failed: OpenSSL's words, or "". */
const char *flat_tls_why(const struct flat_tls *t);

#endif
