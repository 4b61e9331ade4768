/*
 * The messages of Envoy's ext_authz, over gRPC: envoy.service.auth.v3 CheckRequest and CheckResponse
 * (external_auth.proto, attribute_context.proto), and over HTTP. No connection: what is asked, what was answered.
 */
#ifndef FLAT_OFFLOAD_L7_CHECK_GRPC_H
#define FLAT_OFFLOAD_L7_CHECK_GRPC_H

#include "codec/protobuf.h"
#include "mesh/ext_authz.h"
#include "offload/l7_mandatory.h"

/* Tells an authorizer whether the body that it sees is all of it: flatd's word, and no client's. */
#define FLAT_L7_CHECK_PARTIAL "x-envoy-auth-partial-body"
/** Whether a field has that name. */
bool flat_l7_check_says_partial(struct flat_span name);

/* What a check sees of a request's body. */
struct flat_l7_check_body {
	struct flat_strbuf bytes;
	bool partial; /* it is longer */
};

/**
 * GO: `body`, empty before, is what the authorizer sees. LATER: more of it is to come. ANSWER: it is too long, too slow or
 * malformed. (l7_check_body.c)
 */
enum flat_l7_verb flat_l7_check_gather(struct flat_l7 *l7, const struct flat_ext_authz *ext,
				       struct flat_l7_check_body *body, struct flat_l7_answer *a);

/* What a service asks of a header of an answer: core.v3.HeaderValueOption.HeaderAppendAction. */
enum flat_l7_say {
	FLAT_L7_SAY_ADD,
	FLAT_L7_SAY_ADD_ABSENT,
	FLAT_L7_SAY_SET,
	FLAT_L7_SAY_SET_PRESENT,
	FLAT_L7_SAYS,
};

/* What an authorizer said. Zeroed before; flat_l7_check_answer_fini(). */
struct flat_l7_check_answer {
	bool allowed;
	bool error;	 /* it is an error, with an answer for the client where that is refused */
	unsigned status; /* denied: for the client; error: 0 where it says none */
	struct flat_strbuf body;     /* denied, error */
	struct flat_strbuf upstream; /* allowed: field lines set in the request; each name once */
	struct flat_strbuf append;   /* and those whose values are appended to what it has */
	struct flat_strbuf remove;   /* and names taken away, each with NUL */
	struct flat_strbuf params;   /* names of the query's parameters taken away, each with NUL */
	struct flat_strbuf query;    /* and parameters put behind it: "a=b&c=d&" */
	struct flat_strbuf
	    client[FLAT_L7_SAYS]; /* field lines of the client's answer; denied: ADD alone */
};

/**
 * Writes the call of `asker` in HTTP/1.1's form (codec/http2.h): head, and a message. `body` is NULL where the authorizer sees none.
 * out->failed: no memory.
 */
void flat_l7_check_grpc_write(struct flat_strbuf *out, const struct flat_l7 *l7,
			      enum flat_l7_asker asker, const struct flat_ext_authz *ext,
			      const struct flat_http_request *request,
			      const struct flat_l7_check_body *body);

/* One side of a connection. */
struct flat_l7_check_party {
	const struct flat_addr *addr;
	const char *principal; /* NULL or "": none */
};

/** Writes the CheckRequest about a connection, without prefix, as Envoy's network filter. out->failed: no memory. */
void flat_l7_check_grpc_connection(struct flat_strbuf *out, const struct flat_l7_check_party *from,
				   const struct flat_l7_check_party *to);

/** As flat_l7_check_grpc_write(), over HTTP: the request's head, as the provider has it, and what is seen of its body. */
void flat_l7_check_http_write(struct flat_strbuf *out, const struct flat_ext_authz *ext,
			      const struct flat_http_request *request,
			      const struct flat_l7_check_body *body);
/** What of an answer's head over HTTP goes into the request, or to the client. `text` is what the head's fields are in. */
void flat_l7_check_http_take(const struct flat_http_head *head, const void *text,
			     const struct flat_ext_authz *ext, struct flat_l7_check_answer *a);

/** False: there was no memory for a part of it, and what is there says nothing. */
bool flat_l7_check_answer_whole(const struct flat_l7_check_answer *a);
void flat_l7_check_answer_fini(struct flat_l7_check_answer *a);

/* --- l7_check_said.c --- */

/** Whether one of some field lines is of a name, in any case; and takes those away. */
bool flat_l7_lines_have(const struct flat_strbuf *lines, struct flat_span name);
void flat_l7_lines_drop(struct flat_strbuf *lines, struct flat_span name);
/** Does to the head in node->head what was said of the request, as flat_l7_edit_head(). */
FLAT_MUST_CHECK int flat_l7_said_apply(struct flat_l7 *l7, const struct flat_l7_check_answer *a,
				       struct flat_http_request *request, size_t *len);
/** Whether it says something of the request's field of that name. */
bool flat_l7_said_drops(const struct flat_l7_check_answer *a, struct flat_span name);
/** Whether it takes the place of the answer's field of that name. */
bool flat_l7_said_takes(const struct flat_l7_check_answer *a, struct flat_span name);
/** Writes what it adds to an answer with the head `h` in `text`. */
void flat_l7_said_answer(const struct flat_l7_check_answer *a, const struct flat_http_head *h,
			 const void *text, struct flat_http1_out *out);

/** Reads a CheckResponse. 0 or -EBADMSG. The answer's texts are empty before. */
FLAT_MUST_CHECK int flat_l7_check_grpc_take(const void *bytes, size_t len,
					    struct flat_l7_check_answer *answer);
/** The same with its prefix of 5 bytes. */
FLAT_MUST_CHECK int flat_l7_check_grpc_read(const void *bytes, size_t len,
					    struct flat_l7_check_answer *answer);

/** core.v3.HeaderValue, with `value` as it was where it says none. 0 or -EBADMSG. */
FLAT_MUST_CHECK int flat_l7_header_value(const struct flat_protobuf_field *from,
					 struct flat_span *name, struct flat_span *value);
/**
 * The authorizer takes the fields of this name away from the request: what it sets of them is forgotten. Nothing where the field frames or
 * routes a message. All that it sets comes before.
 */
void flat_l7_said_remove(struct flat_l7_check_answer *answer, struct flat_span name);
/** Adds a field's line as a service said it; nothing where it frames or routes a message, or has characters that none has. */
void flat_l7_said_put(struct flat_strbuf *out, struct flat_span name, struct flat_span value);

#endif
