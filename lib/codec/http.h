/*
 * An HTTP message's head, whatever version carried it: where its pieces lie in the bytes that came, and what they
 * mean. Offsets, not pointers: the bytes may be moved.
 */
#ifndef FLAT_CODEC_HTTP_H
#define FLAT_CODEC_HTTP_H

#include <stdbool.h>
#include <string.h>

#include "base/base.h"
#include "codec/limits.h"

/* Bytes of somebody else. text NULL: absent, which is not the same as empty. */
struct flat_span {
	const char *text;
	size_t len;
};

/** The span of a string; NULL gives the absent one. */
static inline struct flat_span flat_span_of(const char *text)
{
	return (struct flat_span){text, text ? strlen(text) : 0};
}

/** Whether two spans hold the same bytes; `fold`: ASCII letters of either case are equal. */
bool flat_span_equal(struct flat_span a, struct flat_span b, bool fold);

/** A span without the blanks and tabs around it (RFC 9110, 5.6.3). The absent one stays absent. */
struct flat_span flat_span_trim(struct flat_span span);

/* Names that mean something to us. */
enum flat_http_name {
	FLAT_HTTP_OTHER,
	FLAT_HTTP_HOST,
	FLAT_HTTP_CONTENT_LENGTH,
	FLAT_HTTP_TRANSFER_ENCODING,
	FLAT_HTTP_CONNECTION,
	FLAT_HTTP_KEEP_ALIVE,
	FLAT_HTTP_PROXY_CONNECTION,
	FLAT_HTTP_TE,
	FLAT_HTTP_TRAILER,
	FLAT_HTTP_UPGRADE,
	FLAT_HTTP_HTTP2_SETTINGS,
	FLAT_HTTP_EXPECT,
	FLAT_HTTP_AUTHORIZATION,
	FLAT_HTTP_COOKIE,
	FLAT_HTTP_SET_COOKIE,
	FLAT_HTTP_PROXY_AUTHORIZATION,
	FLAT_HTTP_XFCC, /* x-forwarded-client-cert */
};

/** Whether two names are one to servers that hand fields over as variables: in any case, an underscore as a dash. */
bool flat_http_name_alike(struct flat_span a, struct flat_span b);

/** Which of the names this is; any case. */
enum flat_http_name flat_http_name_of(const char *name, size_t len);

struct flat_http_field {
	uint16_t name; /* offset in the head's bytes */
	uint16_t name_len;
	uint16_t value; /* without blanks around it */
	uint16_t value_len;
	uint8_t id;	/* enum flat_http_name */
	uint8_t hidden; /* not delivered: hop by hop, or taken away by a rule */
};

enum flat_http_form {
	FLAT_FORM_ORIGIN,   /* /path?query */
	FLAT_FORM_ABSOLUTE, /* http://host/path?query */
	FLAT_FORM_ASTERISK, /* OPTIONS * */
	FLAT_FORM_AUTHORITY /* CONNECT host:port */
};

enum flat_body_kind {
	FLAT_BODY_NONE,
	FLAT_BODY_LENGTH,
	FLAT_BODY_CHUNKED,
	FLAT_BODY_OPAQUE, /* whatever comes until the end of the stream */
};

enum flat_http_method {
	FLAT_METHOD_OTHER,
	FLAT_METHOD_GET,
	FLAT_METHOD_HEAD,
	FLAT_METHOD_OPTIONS,
	FLAT_METHOD_CONNECT,
};

/** Which of the methods this is. */
enum flat_http_method flat_http_method_of(struct flat_span name);

/** Whether a content-type is gRPC's: application/grpc, also with a suffix (+proto) or parameters; not gRPC-Web. */
bool flat_http_is_grpc(struct flat_span type);

struct flat_http_head {
	bool response;
	uint8_t minor; /* HTTP/1.x */
	/* Requests. */
	uint8_t method_id;	     /* enum flat_http_method */
	uint8_t form;		     /* enum flat_http_form */
	uint16_t method_len;	     /* at offset `start` */
	uint16_t target, target_len; /* as it came */
	uint16_t path,
	    path_len; /* of the target, without query; absolute form without path: 0 long */
	uint16_t query, query_len;	   /* after the question mark */
	bool has_query;			   /* there is one, maybe empty */
	uint16_t authority, authority_len; /* value of Host */
	/* Responses. */
	uint16_t status;
	uint16_t reason, reason_len;
	/* Both. */
	uint16_t start;	      /* of the start line: 2 after a leading CRLF */
	uint8_t body;	      /* enum flat_body_kind; of a response as if it answered a GET */
	bool has_length;      /* a Content-Length was there */
	bool keep_alive;      /* the sender wants the connection to stay */
	bool says_keep_alive; /* and says so in Connection */
	bool says_close;
	bool expect_continue;
	bool upgrade;	 /* Connection: upgrade with an Upgrade field */
	uint64_t length; /* Content-Length */
	uint32_t bytes;	 /* the whole head with its last line */
	uint32_t n_fields;
	struct flat_http_field fields[FLAT_HTTP_FIELDS_MAX];
};

/** The bytes `len` long at `offset` of a head whose bytes begin at `text`. */
static inline struct flat_span flat_head_span(const void *text, uint32_t offset, uint32_t len)
{
	return (struct flat_span){(const char *)text + offset, len};
}

/*
 * A request as decisions see it, and as it is delivered: no hop-by-hop fields, the path in its one canonical form.
 * Borrowed from the head, its bytes, and whoever made the path canonical.
 */
struct flat_http_request {
	struct flat_span method;
	struct flat_span path;	    /* canonical, without query */
	struct flat_span query;	    /* without the question mark; absent: none */
	struct flat_span authority; /* value of Host */
	struct flat_span host;	    /* the same without port */
	const struct flat_http_head *head;
	const void *text; /* the head's bytes */
};

/** The value of the first delivered field of a name (any case) of a head whose bytes begin at `text`, or absent. */
struct flat_span flat_head_field(const struct flat_http_head *head, const void *text,
				 struct flat_span name);

/** The host of an authority: without a port. */
struct flat_span flat_http_host(struct flat_span authority);

/** The path with the query, as Envoy's ":path" is: in `room`, if there is a query. Absent: they are longer than `size`. */
struct flat_span flat_http_target(const struct flat_http_request *request, char *room, size_t size);

/** The `n`th (from 0) delivered field of a name (any case), or absent. */
struct flat_span flat_http_field_get(const struct flat_http_request *request, struct flat_span name,
				     uint32_t n);

/**
 * The values of all delivered fields of a name, joined by "," (as Envoy does) where there are several (then copied into `buf` of
 * `size`; too long for it: absent with *overflow true, and the caller fails safe). Absent: no such field.
 */
struct flat_span flat_http_field_joined(const struct flat_http_request *request,
					struct flat_span name, char *buf, size_t size,
					bool *overflow);

/** Takes the first element off a comma-separated list that is not empty, without the blanks around it; it may be empty. */
struct flat_span flat_http_list_next(struct flat_span *list);
/** Whether a comma-separated list holds a token (any case). */
bool flat_http_list_has(struct flat_span list, const char *token);

/**
 * Whether an Accept-Encoding (absent: no) takes a coding, by its name, another name of it (NULL: none) or `*`, and does not rather have it
 * as it is. Elements that are not well-formed are passed over (http_accept.c).
 */
bool flat_http_accepts_coding(struct flat_span accept, const char *coding, const char *alias);

enum flat_http_guess {
	FLAT_HTTP_GUESS_MORE, /* the next bytes will say */
	FLAT_HTTP_GUESS_1,
	FLAT_HTTP_GUESS_2,
	FLAT_HTTP_GUESS_OTHER, /* neither */
};

/* A request line that is longer is taken for none, as by Envoy's http_inspector. */
#define FLAT_HTTP_GUESS_BYTES ((size_t)8 * 1024)

/**
 * What the first `len` bytes of a client are the beginning of: a request line of HTTP/1.0 or 1.1, the preface of HTTP/2, or something else
 * (http_guess.c). However they are cut, the answer comes to the same.
 */
enum flat_http_guess flat_http_guess(const uint8_t *bytes, size_t len);

#endif
