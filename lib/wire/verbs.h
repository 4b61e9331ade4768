/*
 * RDMA verbs: a device, and reliable connections on it, each with a ring each way (vring.h). One protection domain, one
 * completion queue and one registered region for each connection: a key of one opens nothing of another. docs/design/verbs.md.
 * One thread.
 */
#ifndef FLAT_WIRE_VERBS_H
#define FLAT_WIRE_VERBS_H

#include "vq/attach.h"
#include "wire/frame.h"
#include "wire/vring.h"

struct flat_verbs;
struct flat_verbs_device;

/**
 * Opens a device by name ("rxe0"), its first port. 0; -ENODEV: there is none of that name; other negative errnos. `why`
 * says it in words.
 */
FLAT_MUST_CHECK int flat_verbs_device_open(const char *name, struct flat_verbs_device **device,
					   char *why, size_t size);
/** All connections on it are closed before. */
void flat_verbs_device_close(struct flat_verbs_device *device);
/** Readable when the device has something to say. Not blocking. */
int flat_verbs_device_fd(const struct flat_verbs_device *device);
/**
 * Whether the device can be used no more: it said so, or it is being removed, which waits for us to close it. Clears what
 * made the descriptor readable.
 */
bool flat_verbs_device_gone(struct flat_verbs_device *device);
/** Memory registered with it, bytes. */
uint64_t flat_verbs_device_bytes(const struct flat_verbs_device *device);

/**
 * One end of a connection, not connected yet: its memory is registered, its receives posted. `local`: the address of the
 * link's socket, which a RoCE device must have. 0; -ENOBUFS: FLAT_VERBS_BYTES_MAX is reached; other negative errnos.
 */
FLAT_MUST_CHECK int flat_verbs_open(struct flat_verbs_device *device, const struct flat_addr *local,
				    struct flat_verbs **verbs, char *why, size_t size);
/** Stops it, if it is not stopped, and frees its memory. */
void flat_verbs_close(struct flat_verbs *v);
/** What the peer has to know of this end. */
void flat_verbs_tell(const struct flat_verbs *v, uint8_t end[FLAT_FRAME_VERBS_END]);
/**
 * Connects to the peer's end. `remote`: the address of its side of the link, which its RoCE address must be. 0, or a negative
 * errno.
 */
FLAT_MUST_CHECK int flat_verbs_connect(struct flat_verbs *v,
				       const uint8_t end[FLAT_FRAME_VERBS_END],
				       const struct flat_addr *remote, char *why, size_t size);
/** Nothing moves any more, nothing of the peer's reaches our memory; what is in the ring stays. */
void flat_verbs_stop(struct flat_verbs *v);

/** Its ring. */
struct flat_vring *flat_verbs_ring(struct flat_verbs *v);
/** Takes completions: how many there were, or a negative errno: broken; flat_verbs_why(). */
FLAT_MUST_CHECK int flat_verbs_poll(struct flat_verbs *v);
/** Readable after a completion that came after flat_verbs_arm(). Not blocking. */
int flat_verbs_fd(const struct flat_verbs *v);
/** Asks for an event; then flat_verbs_poll() has to look once more. 0, or a negative errno. */
FLAT_MUST_CHECK int flat_verbs_arm(struct flat_verbs *v);
/** Why it is broken. */
const char *flat_verbs_why(const struct flat_verbs *v);

#endif
