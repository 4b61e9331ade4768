/*
 * The whole system with a server of HTTP behind it, and requests to it: what the client writes, what its server gets, what the client gets
 * back. Both are in the test's process; the offload half reads the requests between them.
 */
#ifndef FLAT_TESTS_SUPPORT_ORIGIN_H
#define FLAT_TESTS_SUPPORT_ORIGIN_H

#include <netinet/in.h>
#include <stddef.h>

/* Bytes of a message that are looked at. */
#define ORIGIN_TEXT 8192
/* The service. */
#define HOST "Host: web.example\r\n"

/** What the server answers to its `n`th request; NULL: never anything. Called by its thread, under its lock. */
typedef const char *origin_answer_fn(const char *request, unsigned n);

/** whole_begin() with the service web.example in namespace shop, and its server. `answer` NULL: 200 with the body "ok". */
void origin_begin(const char *yaml, origin_answer_fn *answer);
/** Likewise, and `tune` may change how the offload half is opened. */
struct flat_offload;
void origin_begin_tuned(const char *yaml, origin_answer_fn *answer,
			void (*tune)(struct flat_offload *o));
/** Ends the server and the whole system. */
void origin_end(void);

/** From now on requests go to this address, such as a gateway's. */
void origin_by(struct sockaddr_in to);
/** A connection to the service. */
int origin_connect(void);
/** Reads a message to its end, by its Content-Length or last chunk, or that of the connection; a NUL follows. Its bytes. */
size_t origin_read(int fd, char text[ORIGIN_TEXT]);
/** Sends a request on a connection of its own; what comes back. Valid until the next. */
const char *origin_ask(const char *request);

/** A connection to the service that speaks HTTP/2, and requests that are on their way on it. */
struct origin_http2 {
	struct flat_http2 *h2;
	int fd;
};
struct flat_http2_stream;
void origin_http2_open(struct origin_http2 *c);
/** Sends a request in HTTP/1.1's form (codec/http2.h). */
struct flat_http2_stream *origin_http2_ask(struct origin_http2 *c, const char *request);
/** What comes back for it, in the same form, to its end or as far as it came before a reset. Valid until the next. */
const char *origin_http2_answer(struct origin_http2 *c, struct flat_http2_stream *s);
void origin_http2_close(struct origin_http2 *c);

/** flatd's log "access" or "audit" once it has `want`, or after 10 s without. Valid until the next. */
const char *origin_log(const char *name, const char *want);

/** What the server got. */
unsigned origin_requests(void);
/** The last request, and the first lines of all with | behind each. Of use when no request is on its way. */
const char *origin_last(void);
const char *origin_first_lines(void);
void origin_forget(void);

/** One request and what is to be seen. Texts that begin with ! must not be there; at the server NULL: it never gets it. */
struct origin_row {
	const char *request;
	const char *at_server[4];
	const char *at_client[4];
};

void origin_check_text(const char *request, const char *where, const char *text,
		       const char *const wanted[4]);
void origin_check_rows(const struct origin_row *rows, size_t n);
#define ORIGIN_CHECK(rows) origin_check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

#endif
