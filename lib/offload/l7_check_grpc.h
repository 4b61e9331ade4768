/*
 * The messages of Envoy's ext_authz, over gRPC: envoy.service.auth.v3 CheckRequest and CheckResponse
 * (external_auth.proto, attribute_context.proto), and over HTTP. No connection: what is asked, what was answered.
 */
#ifndef FLAT_OFFLOAD_L7_CHECK_GRPC_H
#define FLAT_OFFLOAD_L7_CHECK_GRPC_H

#include "codec/protobuf.h"
#include "mesh/ext_authz.h"
#include "offload/l7_mandatory.h"

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

/* What an authorizer said. */
struct flat_l7_check_answer {
	bool allowed;
	unsigned status;	     /* denied: for the client */
	struct flat_strbuf body;     /* denied */
	struct flat_strbuf upstream; /* allowed: field lines set in the request */
	struct flat_strbuf append;   /* and those added to what it has */
	struct flat_strbuf remove;   /* and names taken away, each with NUL */
	struct flat_strbuf client;   /* field lines of the client's answer */
};

/**
 * Writes the call in HTTP/1.1's form (codec/http2.h): head, and a message. `body` is NULL where the authorizer sees none.
 * out->failed: no memory.
 */
void flat_l7_check_grpc_write(struct flat_strbuf *out, const struct flat_l7 *l7,
			      const struct flat_ext_authz *ext,
			      const struct flat_http_request *request,
			      const struct flat_l7_check_body *body);

/** As flat_l7_check_grpc_write(), over HTTP: the request's head, as the provider has it, and what is seen of its body. */
void flat_l7_check_http_write(struct flat_strbuf *out, const struct flat_ext_authz *ext,
			      const struct flat_http_request *request,
			      const struct flat_l7_check_body *body);
/** What of an answer's head over HTTP goes into the request, or to the client. `text` is what the head's fields are in. */
void flat_l7_check_http_take(const struct flat_http_head *head, const void *text,
			     const struct flat_ext_authz *ext, struct flat_l7_check_answer *a);

/** False: there was no memory for a part of it, and what is there says nothing. */
bool flat_l7_check_answer_whole(const struct flat_l7_check_answer *a);

/** Reads the answer's one message with its prefix of 5 bytes. 0 or -EBADMSG. The answer's texts are empty before. */
FLAT_MUST_CHECK int flat_l7_check_grpc_read(const void *bytes, size_t len,
					    struct flat_l7_check_answer *answer);

/** core.v3.HeaderValue, with `value` as it was where it says none. 0 or -EBADMSG. */
FLAT_MUST_CHECK int flat_l7_header_value(const struct flat_protobuf_field *from,
					 struct flat_span *name, struct flat_span *value);
/** Adds a field's line as a service said it; nothing where it frames or routes a message, or has characters that none has. */
void flat_l7_said_put(struct flat_strbuf *out, struct flat_span name, struct flat_span value);

#endif
