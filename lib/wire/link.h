/*
 * A link: one TLS connection between two offload halves, or between one and a peer that speaks HBONE, and the streams
 * inside it. Ciphertext in, ciphertext out; no socket, no clock. The TLS client opens streams, under one identity: its
 * certificate's. docs/design/wire.md says what goes over it and what each side may rely on. One thread.
 */
#ifndef FLAT_WIRE_LINK_H
#define FLAT_WIRE_LINK_H

#include <sys/queue.h>
#include <sys/uio.h>

#include "base/hold.h"
#include "base/limits.h"
#include "wire/frame.h"
#include "wire/inbox.h"
#include "wire/outbox.h"
#include "wire/record.h"
#include "wire/svid.h"

struct flat_wire_link;
struct flat_wire_stream;
struct flat_wire_protocol;
struct flat_hbone;

/**
 * What a link's owner does. `owner` is the stream's, set by whoever opened or took it. Called inside flat_wire_link_input()
 * and flat_wire_link_flush() alone; none may free the link. A stream whose `ended` was called is gone.
 */
struct flat_wire_ops {
	/** The peer is known, and has said nothing else yet. Client: streams may be opened. */
	void (*ready)(struct flat_wire_link *link);
	/** Server: somebody asks for f->to, as f->from (HBONE: the port alone, 0: unknown). Sets s->owner; answers now or later by _accept() or _refuse(). */
	void (*opened)(struct flat_wire_link *link, struct flat_wire_stream *s,
		       const struct flat_frame *f);
	/** Client: it is open; `who` is the server's principal, or "". */
	void (*accepted)(struct flat_wire_stream *s, const char *who);
	/** Client: errno and reason. The stream is gone. */
	void (*refused)(struct flat_wire_stream *s, int err, const char *why);
	/** Bytes have come: how many were taken (the others are kept), or a negative errno: the stream is reset. */
	ssize_t (*take)(struct flat_wire_stream *s, const uint8_t *bytes, size_t len);
	/** All bytes were taken, and none follows. */
	void (*fin)(struct flat_wire_stream *s);
	/** Up to `max` bytes to be sent: their count, 0 at the end, -EAGAIN: none now, another: the stream is reset. */
	ssize_t (*give)(struct flat_wire_stream *s, uint8_t *buf, size_t max);
	/**
	 * Where the first `max` bytes that give() would copy lie: iov[0..1], *n_iov of them; their count, or as give(). Nobody
	 * changes them before pass() takes them. NULL: give() alone.
	 */
	ssize_t (*look)(struct flat_wire_stream *s, size_t max, struct iovec iov[2], int *n_iov);
	void (*pass)(struct flat_wire_stream *s, size_t len);
	/** Gone: err 0 when both directions ended, else why (positive). Never after refused(). */
	void (*ended)(struct flat_wire_stream *s, int err);
	/** A VERBS frame (wire/frame.h). 0, or -EPROTO: the link is over. NULL: nothing is known of verbs. */
	int (*verbs)(struct flat_wire_link *link, const struct flat_frame *f);
};

LIST_HEAD(flat_wire_bucket, flat_wire_stream);
TAILQ_HEAD(flat_wire_streams, flat_wire_stream);

struct flat_wire_stream {
	LIST_ENTRY(flat_wire_stream) hash_link;
	TAILQ_ENTRY(flat_wire_stream) link_;
	TAILQ_ENTRY(flat_wire_stream) ready_link;
	struct flat_wire_link *link;
	void *owner;
	uint32_t id;
	uint32_t credit; /* bytes that may be sent */
	uint32_t
	    window;	/* bytes that the peer may send; window + kept + owed == FLAT_WIRE_WINDOW */
	uint32_t kept;	/* bytes in `buf` */
	uint32_t owed;	/* taken, credit not yet given back */
	uint32_t start; /* of the first byte kept */
	uint8_t *buf;	/* FLAT_WIRE_WINDOW bytes; NULL: nothing is kept */
	bool open;	/* accepted */
	bool ready;	/* in the link's `ready` */
	bool fin_sent;
	bool fin_got;
	bool fin_told;
	bool deaf;	   /* the peer reads no more, and has bytes here that were not taken yet */
	uint64_t bytes[2]; /* sent, received */
};

struct flat_wire_stats {
	uint64_t opened;
	uint64_t refused;
	uint64_t reset;
	uint64_t bytes[2]; /* of streams: sent, received */
};

/** Streams for which their peer did not wait, each less those forgiven. */
struct flat_wire_tally {
	uint32_t
	    unanswered; /* reset before a byte was sent to it, or ended so with a link: FLAT_WIRE_RESETS_MAX */
	uint32_t
	    resets; /* HBONE: all that were reset, or ended with a link: FLAT_HBONE_GUEST_RESETS_MAX */
	uint32_t
	    cut; /* that ended with a link, and are none of the others yet: FLAT_WIRE_CUT_MAX */
};

struct flat_wire_link {
	const struct flat_wire_ops *ops;
	const struct flat_wire_protocol *protocol; /* what is spoken inside of TLS */
	struct flat_hbone *hbone;		   /* NULL: flat/1, or not begun */
	void *owner;
	struct flat_svids *svids; /* of its beginning; referenced */
	char own_id[FLAT_SPIFFE_ID_MAX];
	int64_t own_expires_s;
	struct flat_wire_peer peer;
	SSL *ssl; /* for the handshake; then: */
	struct flat_records records;
	struct flat_inbox inbox; /* empty outside of flat_wire_link_input() */
	size_t left;		 /* of its bytes, those that were not taken */
	struct flat_outbox outbox;
	bool server;
	bool shaken;   /* the handshake is done */
	bool greeted;  /* the peer's HELLO (HBONE: SETTINGS) is here */
	bool draining; /* no further streams here */
	bool failed;
	bool paused;  /* a frame was the last in its record, and what comes next is no TLS */
	bool stalled; /* frames that came were left for later: `quota` */
	uint32_t n_streams;
	uint32_t last_id;
	uint32_t first_credit; /* by the peer's HELLO */
	uint32_t resets;       /* HBONE, server: streams that the peer reset, less those forgiven */
	struct flat_wire_tally
	    *tally; /* server: `alone`, or its owner's for several links; borrowed */
	struct flat_wire_tally alone;
	struct flat_hold *hold; /* of who is asked for memory of streams (borrowed); NULL: nobody */
	uint32_t *
	    quota; /* frames and ends that may come yet, and what its owner does for them; borrowed. NULL: no end */
	struct flat_wire_bucket buckets[256];
	struct flat_wire_streams streams;
	struct flat_wire_streams ready;
	struct flat_wire_stats stats;
	char why[320]; /* why it failed */
	size_t n_plain;
	uint8_t plain[FLAT_FRAME_HEADER + FLAT_FRAME_BODY_MAX + FLAT_SEAL_INNER_MAX];
	size_t n_frame; /* bytes in `frame`: frames of flat/1 for the next record */
	uint8_t frame[FLAT_FRAME_HEADER + FLAT_FRAME_BODY_MAX];
};

/** A link under the identity of `svid` (of `svids`, which gains a reference). NULL without memory. */
FLAT_MUST_CHECK struct flat_wire_link *flat_wire_link_new(struct flat_svids *svids,
							  const struct flat_svid *svid, bool server,
							  const struct flat_wire_ops *ops,
							  void *owner);
/**
 * Likewise one that speaks HBONE. expect: the client's side, which takes no other server than this SPIFFE ID (bytes are
 * copied); NULL: the server's side.
 */
FLAT_MUST_CHECK struct flat_wire_link *
flat_wire_link_new_hbone(struct flat_svids *svids, const struct flat_svid *svid, const char *expect,
			 const struct flat_wire_ops *ops, void *owner);
/** Ends every stream with `err` (positive), then frees. */
void flat_wire_link_free(struct flat_wire_link *link, int err);

/**
 * Ciphertext that came, after the frames that were left. 0, or a negative errno: the link is over, `link->why` says why; what is to be
 * sent still is.
 */
FLAT_MUST_CHECK int flat_wire_link_input(struct flat_wire_link *link, const uint8_t *bytes,
					 size_t len);
/** Of those bytes, how many of the last were not taken: they come again, with *link->quota above 0. */
size_t flat_wire_link_left(const struct flat_wire_link *link);
/** *link->quota is 0: bytes would be left. */
bool flat_wire_link_is_spent(const struct flat_wire_link *link);
/** So much of it is used, for what its owner does. */
void flat_wire_link_spend(struct flat_wire_link *link, uint32_t n);
/** The link ends, and not by its peer's doing: its streams are not counted as such that the peer reset. */
void flat_wire_link_excuse(struct flat_wire_link *link);
/**
 * The link is over: ends its streams with `err` (positive), as many as the quota has room for, or all. They count as if the
 * peer had reset them. Whether there are no more.
 */
bool flat_wire_link_end(struct flat_wire_link *link, int err, bool all);
/** Asks ready streams for bytes, one frame each in turn, until enough waits to be sent. True: some are ready still. */
bool flat_wire_link_flush(struct flat_wire_link *link);
/** Ciphertext to be sent: its length and, in `bytes`, where it lies until the next call. */
size_t flat_wire_link_output(struct flat_wire_link *link, const uint8_t **bytes);
/** So much of it was sent. */
void flat_wire_link_sent(struct flat_wire_link *link, size_t len);

/** Sends a frame of the link's own (VERBS), after what waits to be sent. */
void flat_wire_link_say(struct flat_wire_link *link, const struct flat_frame *f);
/** Inside ops->verbs: the frame must end its record, and input ends with it. */
void flat_wire_link_pause(struct flat_wire_link *link);
/** The link is over by the peer's fault. -EPROTO. */
int flat_wire_link_fail(struct flat_wire_link *link, const char *why);

/** Client: whether the peer takes no further stream before one has ended. */
bool flat_wire_link_full(const struct flat_wire_link *link);
/** Of the streams that the peer reset, HBONE, so many are forgotten: FLAT_WIRE_RESETS_MAX a second. */
void flat_wire_link_forgive(struct flat_wire_link *link, uint32_t n);
/** Says that it is over, where the protocol has a word for it; with flat_wire_link_output(). */
void flat_wire_link_bye(struct flat_wire_link *link);
/** Asks whether the peer is alive. */
void flat_wire_link_ping(struct flat_wire_link *link);
/** No further streams: tells the peer. */
void flat_wire_link_drain(struct flat_wire_link *link);

/** Client, ready and not draining: asks for a stream. NULL: no memory, or too many. */
FLAT_MUST_CHECK struct flat_wire_stream *flat_wire_open(struct flat_wire_link *link,
							const struct flat_addr *to,
							const struct flat_addr *from, void *owner);
/** Server: it is open. */
void flat_wire_accept(struct flat_wire_stream *s, const char *who);
/** Server: it is not, and is gone; no `ended`. */
void flat_wire_refuse(struct flat_wire_stream *s, int err, const char *why);
/** give() has something, or its end. */
void flat_wire_ready(struct flat_wire_stream *s);
/** take() has room again. Whether the stream lives still. */
bool flat_wire_room(struct flat_wire_stream *s);
/** Over in both directions, and gone; no `ended`. */
void flat_wire_reset(struct flat_wire_stream *s, int err);

#endif
