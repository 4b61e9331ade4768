/* What a flat connection is made of; part of struct flat_file. Handled by stream.c. */
#ifndef FLAT_HOST_STREAM_STATE_H
#define FLAT_HOST_STREAM_STATE_H

#include <stdatomic.h>

#include "host/lock.h"
#include "host/wait.h"
#include "vq/attach.h"
#include "vq/vq.h"

/* flat_stream.state: only ever set. */
#define FLAT_STREAM_SHUT_RD 1U	 /* shutdown(SHUT_RD) here */
#define FLAT_STREAM_SHUT_WR 2U	 /* shutdown(SHUT_WR) here */
#define FLAT_STREAM_RESET 4U	 /* the stream is cut; the errno is in so_error until somebody reads it */
#define FLAT_STREAM_CUT 8U	 /* by the offload half, or by its death: nothing more is read */
#define FLAT_STREAM_EOF_SEEN 16U /* the peer's FIN came before */

struct flat_stream {
	struct flat_lock rx_lock;
	struct flat_lock tx_lock;
	_Atomic uint32_t state;
	_Atomic int32_t so_error;      /* positive errno, read once */
	_Atomic uint64_t revoke_seen;  /* revoke_epoch when the anchor was last looked at */
	struct flat_vq vq;	       /* anchor_fd and bell_fd in it are not used: see flat_file_local */
	uint32_t lane_place;	       /* in flat_lanes; same in a child, which copies the table */
	uint32_t slot;
	uint32_t side;
	uint32_t path; /* enum flat_conn_path */
	uint64_t conn_id;
	_Atomic uint32_t connecting; /* non-blocking connect() said EINPROGRESS; the next one says 0 */
	uint32_t reserved;	     /* bytes of flat_send_reserve() not committed */
	uint32_t viewed;	     /* bytes of flat_recv_view() not released */
	struct flat_addr local;
	struct flat_addr peer;
	struct flat_wait_history rx_wait;
	struct flat_wait_history tx_wait;
};

#endif
