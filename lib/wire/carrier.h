/*
 * What carries a link's ciphertext: TCP, and where both sides have a device a ring over verbs (vring.h), going over from one to
 * the other without losing or repeating a byte. Bytes in, bytes out; no socket, no device. docs/design/verbs.md, the
 * protocol in section 4. One thread.
 */
#ifndef FLAT_WIRE_CARRIER_H
#define FLAT_WIRE_CARRIER_H

#include "wire/link.h"
#include "wire/vring.h"

/* "RSUM", and how far the ring was taken: what is said on TCP when the ring is no more. */
#define FLAT_CARRIER_RESUME ((size_t)12)

struct flat_carrier {
	struct flat_wire_link *link;
	struct flat_vring *ring; /* NULL: none was agreed on */
	bool out_ring;		 /* what the link says from `before` bytes on goes by the ring */
	bool in_ring;		 /* the peer has gone over; TCP brings RESUME next */
	bool failed;		 /* the ring moves nothing any more */
	bool owes_resume;	 /* it has failed, and the peer is not told yet */
	bool kept;		 /* bytes from `resend` on go by TCP before what the link says */
	size_t before; /* bytes of the link's output that go by TCP before those by the ring */
	uint64_t resend;
	uint8_t words[FLAT_CARRIER_RESUME]; /* to be sent on TCP */
	size_t n_words;
	uint8_t heard[FLAT_CARRIER_RESUME]; /* read from TCP */
	size_t n_heard;
	uint8_t head[5]; /* of the TLS record that comes: where one ends */
	size_t n_head;
	size_t body;
	uint64_t bytes[2][2]; /* by TCP, by the ring: sent, received; ciphertext */
	uint8_t *left;	      /* that came by TCP, and the link did not take yet; NULL: nothing */
	size_t left_at;
	size_t n_left;		     /* bytes of it */
	struct flat_hold *left_hold; /* of whom its memory was asked; borrowed from the link */
};

/** Carries `link` by TCP. */
void flat_carrier_init(struct flat_carrier *c, struct flat_wire_link *link);

/** What it keeps is let go; before the link is. */
void flat_carrier_fini(struct flat_carrier *c);

/** A ring that both sides know of; borrowed until flat_carrier_idle() or the end. Where ring was NULL. */
void flat_carrier_offer(struct flat_carrier *c, struct flat_vring *ring);
/** Client: goes over to the ring, and tells the peer. */
void flat_carrier_go(struct flat_carrier *c);
/** The peer says that it goes over. 0, or -EPROTO where there is no ring. Inside flat_carrier_input(). */
FLAT_MUST_CHECK int flat_carrier_gone_over(struct flat_carrier *c);
/** The ring is no more, or shall be no more: back to TCP. Nothing where there is none, or it has failed. */
void flat_carrier_fail(struct flat_carrier *c);
/** Whether the ring has failed, and nothing needs its memory any more: it is forgotten here. */
bool flat_carrier_idle(struct flat_carrier *c);

/** Whether nobody has gone over to the ring, or there is none: it is forgotten. The client takes its offer back by another. */
bool flat_carrier_withdraw(struct flat_carrier *c);

/**
 * Bytes that came by TCP, while nothing waits. 0, or a negative errno: the link is over; link->why says why. What is beyond
 * the link's quota is kept here, of memory of its hold.
 */
FLAT_MUST_CHECK int flat_carrier_input(struct flat_carrier *c, const uint8_t *bytes, size_t len);
/** Whether something that came waits for the link's quota, or may. */
bool flat_carrier_waits(const struct flat_carrier *c);
/** Takes of what waits as much as the link's quota allows. As flat_carrier_input(). */
FLAT_MUST_CHECK int flat_carrier_go_on(struct flat_carrier *c);
/** Bytes to be sent by TCP: their length, in `bytes` where, until the next call. */
size_t flat_carrier_output(struct flat_carrier *c, const uint8_t **bytes);
/** So many of them were sent. */
void flat_carrier_sent(struct flat_carrier *c, size_t len);
/**
 * Moves bytes between link and ring, up to `quantum` that came. Count of bytes moved, or a negative errno: the link is over. The
 * ring's own failure is no error: flat_carrier_fail() has been called.
 */
FLAT_MUST_CHECK ssize_t flat_carrier_pump(struct flat_carrier *c, size_t quantum);

#endif
