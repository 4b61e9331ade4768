/*
 * Active health checks (mesh/health.h): who is asked when, and what clusters are told. One group for each port of a service
 * that has a check; it outlives a reload, and so does what is known of its endpoints. Control thread.
 */
#ifndef FLAT_OFFLOAD_HEALTH_H
#define FLAT_OFFLOAD_HEALTH_H

#include <sys/queue.h>

#include "base/json.h"
#include "base/map.h"
#include "mesh/health.h"
#include "vq/attach.h"

struct flat_offload;
struct flat_cluster;
struct flat_health;
struct flat_health_target;

struct flat_health_group {
	const struct flat_health_check *check; /* of the mesh in force */
	struct flat_map targets;	       /* by address */
	uint32_t n;
	uint32_t n_failed;
	uint64_t results[3];		    /* by enum flat_health_result */
	LIST_HEAD(, flat_cluster) clusters; /* that have settled by it */
	uint64_t seen;			    /* of the reload that named it last */
	uint16_t port;
	char host[]; /* the key is the host, a NUL, and the port */
};

/** Makes o->health. 0 or -ENOMEM. */
FLAT_MUST_CHECK int flat_health_open(struct flat_offload *o);
void flat_health_close(struct flat_offload *o);
/** A configuration is in force. */
void flat_health_reloaded(struct flat_offload *o);
/** Endpoints of it came or went. */
void flat_health_moved(struct flat_offload *o);
/** Begins and ends what is due. How long the loop may sleep for its sake, ms; -1: for ever. */
int flat_health_wait_ms(struct flat_offload *o);

/** All groups, by host and port; NULL: there is none. */
const struct flat_map *flat_health_groups(const struct flat_offload *o);
/** The group of a port of a service; NULL: it has no check. */
struct flat_health_group *flat_health_find(const struct flat_offload *o, const char *host,
					   uint16_t port);
/** Whether an endpoint failed its checks. */
bool flat_health_failed(const struct flat_health_group *group, const struct flat_addr *addr);
/** "passing", "failing", "not checked yet", "not checked"; NULL: no such endpoint. */
const char *flat_health_word(const struct flat_health_group *group, const struct flat_addr *addr);
/** A cluster belongs to a group (NULL: none) from now on. */
void flat_health_join(struct flat_cluster *cluster, struct flat_health_group *group);

/** Whether a client's connection between these is a check of ours that is on its way. */
bool flat_health_is_own(const struct flat_offload *o, const struct flat_addr *from,
			const struct flat_addr *to);

/** Counters, in Prometheus's text form. */
void flat_health_metrics(const struct flat_offload *o, struct flat_strbuf *out);

#endif
