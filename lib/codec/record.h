/*
 * The record: one unit of layer-7 work (a head, a piece of a body, trailers, a refusal). 64 bytes of metadata, the
 * same on every hop, before the fields and the payload. A codec fills the first line, whoever decides the others
 * (design.md, section 7: who may say what). Little endian, no pointers, so that it may travel as it is.
 */
#ifndef FLAT_CODEC_RECORD_H
#define FLAT_CODEC_RECORD_H

#include "base/base.h"

enum flat_record_kind {
	FLAT_RECORD_NONE,
	FLAT_RECORD_REQUEST,
	FLAT_RECORD_RESPONSE, /* interim ones too */
	FLAT_RECORD_BODY,
	FLAT_RECORD_TRAILERS,
	FLAT_RECORD_REFUSAL, /* a request that ends here: `status` says how, `verdict` why */
};

enum flat_record_codec {
	FLAT_CODEC_OPAQUE,
	FLAT_CODEC_HTTP1,
	FLAT_CODEC_HTTP2,
};

/* Why a request ended without its server's answer; 0: it did not. Envoy's response flags, one each. */
enum flat_record_verdict {
	FLAT_VERDICT_NONE,
	FLAT_VERDICT_MALFORMED, /* DPE: 400, 431, 408 of ours */
	FLAT_VERDICT_DENIED,	/* by a token or a policy: none, as in Envoy */
	FLAT_VERDICT_NO_ROUTE,	/* NR */
	FLAT_VERDICT_NO_HOST,	/* UH: no healthy upstream */
	FLAT_VERDICT_CONNECT,	/* UF: upstream connection failure */
	FLAT_VERDICT_RESET,	/* UC: upstream connection termination */
	FLAT_VERDICT_PROTOCOL,	/* UPE: the upstream's response is malformed */
	FLAT_VERDICT_TIMEOUT,	/* UT */
	FLAT_VERDICT_RETRIES,	/* URX: retries used up */
	FLAT_VERDICT_FAULT,	/* FI */
	FLAT_VERDICT_DELAYED,	/* DI: a delay was injected; the answer is the server's */
	FLAT_VERDICT_GONE,	/* DC: the client went away */
	FLAT_VERDICT_ANSWERED,	/* direct response, redirect, preflight: no flag */
	FLAT_VERDICT_EXTERNAL,	/* UAEX: by an external authorizer */
	FLAT_VERDICT_OVERFLOW,	/* UO: its servers have as much to do as they may */
	FLAT_VERDICT_LIMITED,	/* RL: by a local rate limit */
	FLAT_VERDICT_RATED,	/* RL: by a rate limit service */
	FLAT_VERDICT_LIMITER,	/* RLSE: it did not answer */
	FLAT_VERDICT_ADMISSION, /* by admission control: no flag, as in Envoy */
	FLAT_VERDICT_IDLE,	/* SI: nothing moved for too long */
	FLAT_VERDICTS,
};

enum flat_record_flags {
	FLAT_RECORD_END = 1 << 0, /* nothing of this message follows */
};

struct flat_record {
	uint8_t kind;		/* enum flat_record_kind */
	uint8_t codec;		/* enum flat_record_codec */
	uint16_t flags;		/* enum flat_record_flags */
	uint16_t status;	/* of a response or refusal, else 0 */
	uint16_t n_fields;	/* of a head or trailers */
	uint32_t head_bytes;	/* start line and fields as they came */
	uint32_t payload_bytes; /* of a body piece */
	uint64_t conn;		/* connection id of the client's side */
	uint32_t stream;   /* HTTP/1: number of the request on its connection; HTTP/2: its stream */
	uint32_t attempt;  /* 0: the first */
	uint32_t source;   /* workload, index + 1; 0: none */
	uint32_t service;  /* index + 1 */
	uint32_t endpoint; /* index among the port's + 1; 0: the one the client asked for */
	uint32_t route;	   /* number of the route in the mesh + 1; 0: the service itself */
	uint32_t epoch;	   /* of the configuration that decided */
	uint8_t verdict;   /* enum flat_record_verdict */
	uint8_t spare[3];
	int64_t deadline_us; /* monotonic; 0: none */
};

_Static_assert(sizeof(struct flat_record) == 64, "one cache line");
_Static_assert(offsetof(struct flat_record, conn) == 16, "layout");
_Static_assert(offsetof(struct flat_record, stream) == 24, "layout");
_Static_assert(offsetof(struct flat_record, epoch) == 48, "layout");
_Static_assert(offsetof(struct flat_record, deadline_us) == 56, "layout");

/** Envoy's response flags for a verdict: "NR", "UH", ...; "-" for none. */
const char *flat_verdict_flags(enum flat_record_verdict verdict);

#endif
