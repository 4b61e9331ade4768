/* What link.c, stream.c and hbone.c share. */
#ifndef FLAT_WIRE_STREAM_H
#define FLAT_WIRE_STREAM_H

#include "wire/link.h"

/** What is spoken inside of TLS. Streams are kept by stream.c for all; `s` is the link's and alive where it is given. */
struct flat_wire_protocol {
	/** The handshake is done: what is said first. 0 or -ENOMEM. */
	int (*greet)(struct flat_wire_link *l);
	/** l->n_plain bytes of l->plain came; those left there come again with the next. Negative errno: the link is over. */
	int (*read)(struct flat_wire_link *l);
	/** As flat_wire_link_flush(). */
	bool (*flush)(struct flat_wire_link *l);
	void (*ping)(struct flat_wire_link *l);
	void (*drain)(struct flat_wire_link *l);
	/** NULL: it has no word for it. */
	void (*bye)(struct flat_wire_link *l);
	/** Frees what greet() made. */
	void (*close)(struct flat_wire_link *l);
	uint32_t (*streams_max)(const struct flat_wire_link *l);
	/** Asks for a stream, made by flat_wire_stream_add(). NULL: no memory. */
	struct flat_wire_stream *(*open)(struct flat_wire_link *l, const struct flat_addr *to,
					 const struct flat_addr *from, void *owner);
	void (*accept)(struct flat_wire_stream *s, const char *who);
	void (*refuse)(struct flat_wire_stream *s, int err, const char *why);
	void (*reset)(struct flat_wire_stream *s, int err);
	/** s->owed bytes were taken. */
	void (*credit)(struct flat_wire_stream *s);
	/** Its owner has something to send. */
	void (*ready)(struct flat_wire_stream *s);
	/** It is freed; NULL: nothing to do. */
	void (*forget)(struct flat_wire_stream *s);
};

extern const struct flat_wire_protocol flat_wire_flat;
extern const struct flat_wire_protocol flat_wire_hbone;

/* --- link.c --- */

/** Encrypts bytes to be sent, unless the link has failed; which it does where too much waits. */
void flat_wire_link_encrypt(struct flat_wire_link *l, const uint8_t *bytes, size_t n);
/** Sends a frame of flat/1, unless the link has failed; in one record with others, until flat_wire_link_output(). */
void flat_wire_link_put(struct flat_wire_link *l, const struct flat_frame *f);
/** Where the body of a frame of flat/1 that comes next lies; *room bytes, at least `len`. Until anything else is sent. */
uint8_t *flat_wire_link_place(struct flat_wire_link *l, size_t len, size_t *room);
/** Sends `len` bytes, 1 to *room, that lie there as DATA. */
void flat_wire_link_put_data(struct flat_wire_link *l, uint32_t stream, size_t len);
/** Sends the bytes of body[0..n-1], which fill the *room of that place, as DATA from where they lie. */
void flat_wire_link_put_from(struct flat_wire_link *l, uint32_t stream, const struct iovec *body,
			     int n);
/** The link is over; the first reason stays. Returns err. */
int flat_wire_link_over(struct flat_wire_link *l, int err, const char *why);

/* --- stream.c --- */

struct flat_wire_stream *flat_wire_stream_add(struct flat_wire_link *l, uint32_t id);
/** Frees it without a word to its owner. */
void flat_wire_stream_remove(struct flat_wire_stream *s);
/** Tells its owner and frees it. */
void flat_wire_stream_end(struct flat_wire_stream *s, int err);
/** Our own finding: both sides are told. */
void flat_wire_stream_break(struct flat_wire_stream *s, int err);
/** Hands bytes that came to its owner, or keeps them; they are within the window. False: the stream is gone. */
bool flat_wire_stream_data(struct flat_wire_stream *s, const uint8_t *bytes, size_t len);
/** After fin_got or fin_sent was set. False: both directions have ended, the stream is gone. */
bool flat_wire_stream_ends(struct flat_wire_stream *s);
/** A frame of flat/1. 0, or -EPROTO: the link is over. */
FLAT_MUST_CHECK int flat_wire_stream_frame(struct flat_wire_link *l, const struct flat_frame *f);
/** One frame of a ready stream of flat/1, which then waits for its next turn, or is ready no more. */
void flat_wire_stream_send(struct flat_wire_stream *s);

struct flat_wire_stream *flat_wire_flat_open(struct flat_wire_link *l, const struct flat_addr *to,
					     const struct flat_addr *from, void *owner);
void flat_wire_flat_accept(struct flat_wire_stream *s, const char *who);
void flat_wire_flat_refuse(struct flat_wire_stream *s, int err, const char *why);
void flat_wire_flat_reset(struct flat_wire_stream *s, int err);
void flat_wire_flat_credit(struct flat_wire_stream *s);
void flat_wire_flat_ready(struct flat_wire_stream *s);

#endif
