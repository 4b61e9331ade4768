/* The admin socket's answers. Text for people, or one JSON object. Control thread. */
#ifndef FLAT_OFFLOAD_ADMIN_H
#define FLAT_OFFLOAD_ADMIN_H

#include "base/strbuf.h"
#include "offload/offload.h"

/** `ls`: services, sessions, listeners, connections; as JSON also refusals and all counts. */
void flat_admin_ls(struct flat_offload *o, bool json, struct flat_strbuf *out);
/** `top`: connections and bytes by service and path since the start. */
void flat_admin_top(struct flat_offload *o, bool json, struct flat_strbuf *out);
/** `why SRC DST`: what would be decided. Changes nothing. */
void flat_admin_why(struct flat_offload *o, const char *src, const char *dst, const char *sni,
		    bool json, struct flat_strbuf *out);
/**
 * `socket PID INODE LOCAL`, for flatctl (LOCAL: a TCP socket's own address, or -): a line "found PATH" and one that explains; or a
 * line "unknown session" or "unknown stranger", and the process's last refusal, if it had one; or "unknown misfit" and which
 * layouts differ, where its libflat is of another build.
 */
void flat_admin_socket(struct flat_offload *o, int pid, uint64_t inode, const char *local,
		       struct flat_strbuf *out);

/** The service of a name for a client's port; one that it does not see, if there is no other. NULL: none. */
const struct flat_service *flat_admin_service(const struct flat_offload *o, const char *host,
					      const struct flat_workload *client, uint16_t port);

/** The workload that a question names: "demo/shop", "shop.demo", "shop"; NULL: there is none. */
const struct flat_workload *flat_admin_workload(const struct flat_offload *o, const char *text);

/** "kernel", "direct", "forwarded". */
const char *flat_conn_path_name(enum flat_conn_path path);

/** `tophttp`: requests by service and route since the start, with the counts that make their quantiles. */
void flat_admin_top_http(struct flat_offload *o, struct flat_strbuf *out);
/** `trace`: requests of late that were traced, step by step. */
void flat_admin_trace(struct flat_offload *o, bool json, struct flat_strbuf *out);

/** `clusters`: what balancing knows of the endpoints of each service that was asked for. */
void flat_admin_clusters(struct flat_offload *o, bool json, struct flat_strbuf *out);

#endif
