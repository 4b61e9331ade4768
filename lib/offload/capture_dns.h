/*
 * The names of the mesh for confined workloads: datagrams to port 53, and connections that nobody else in the mesh is asked for
 * by, are answered by flatd. What is no name that the mesh has, and the client sees, goes on to the server that was asked, and its
 * answer comes back. docs/design/core.md, section 13. Control thread.
 */
#ifndef FLAT_OFFLOAD_CAPTURE_DNS_H
#define FLAT_OFFLOAD_CAPTURE_DNS_H

#include "mesh/directory.h"
#include "offload/bucket.h"
#include "offload/capture_bpf.h"
#include "offload/offload.h"

struct flat_dns;
struct flat_dns_query;
struct flat_dns_waiting;
struct flat_dns_stream;

/** One confined cgroup that asks. Embedded in its owner, zeroed before. */
struct flat_dns_client {
	TAILQ_ENTRY(flat_dns_client) link;
	struct flat_dns *dns;		    /* NULL: not added */
	const struct flat_capture_bpf *bpf; /* borrowed */
	struct flat_bucket bucket;
	struct flat_dns_waiting *table;		/* of FLAT_DNS_QUERIES_MAX */
	TAILQ_HEAD(, flat_dns_waiting) waiting; /* oldest first */
	TAILQ_HEAD(, flat_dns_waiting) spare;
	TAILQ_HEAD(, flat_dns_stream) streams; /* that moved last at the end */
	uint32_t n_streams;
};

/* --- capture_dns.c --- */

/** Opens the port. NULL in *out and a negative errno: it cannot be had. */
FLAT_MUST_CHECK int flat_dns_open(struct flat_dns **out, struct flat_offload *o);
/** NULL is allowed. All clients were removed. */
void flat_dns_close(struct flat_dns *dns);
/** A successor reads what comes; what waits for its answer goes on. */
void flat_dns_retire(struct flat_dns *dns);
/** The sockets, i from 0 to 1; -1: there is none. */
int flat_dns_socket(const struct flat_dns *dns, int i);
/** A cgroup more, and less. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_dns_add(struct flat_dns *dns, struct flat_dns_client *client,
				 const struct flat_capture_bpf *bpf);
void flat_dns_remove(struct flat_dns_client *client);
/** Ends what waited too long. How long until there is more of it, ms; -1: nothing waits. */
int flat_dns_expire(struct flat_dns *dns);
/**
 * The address of the name that is asked for, as a library of the mesh has it: 0; FLAT_DIRECTORY_VEILED: flat_session_resolve() knows;
 * -ENOENT: it is none of the mesh.
 */
FLAT_MUST_CHECK int flat_dns_find(const struct flat_dns *dns, const struct flat_dns_query *q,
				  struct flat_addr *addr);
/** A number that nobody guesses. */
uint16_t flat_dns_random(void);
struct flat_offload *flat_dns_offload(const struct flat_dns *dns);

/* --- capture_dns_tcp.c --- */

/** Whether a connection to this address is one to a name server that is none of the mesh's. */
bool flat_dns_takes(const struct flat_offload *o, const struct flat_addr *to);
/** Takes the accepted socket `fd` of a confined process (owned from here), whose session is `s` and q->session. */
void flat_dns_stream(struct flat_dns_client *client, struct flat_session *s,
		     const struct flat_question *q, int fd);
/** Ends it. */
void flat_dns_stream_close(struct flat_dns_stream *stream);
/** As flat_dns_expire(), of one client's. */
int flat_dns_streams_expire(struct flat_dns_client *client, int64_t now_ms);

/* --- capture.c --- */

/** The process that a record is of. NULL: its cgroup is gone, or no memory. */
struct flat_session *flat_capture_session(struct flat_dns_client *client,
					  const struct flat_capture_record *r);
/** What a record asked for, and where somebody comes from in the form in which programs write it down. */
struct flat_addr flat_capture_address(const struct flat_capture_record *r);
struct flat_capture_key flat_capture_key_of(const struct flat_addr *from);

#endif
