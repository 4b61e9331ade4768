/*
 * The audit log: a line of JSON for each request or connection that was refused, that an AUDIT policy marks, or that a
 * policy under dry run would decide otherwise. Without a file what AUDIT and dry run say goes to flatd's own log, a few
 * lines a second.
 */
#ifndef FLAT_OFFLOAD_AUDIT_H
#define FLAT_OFFLOAD_AUDIT_H

#include "codec/http.h"
#include "offload/offload.h"

struct flat_audit {
	const char *event;  /* "denied", "audit", "dry-run" */
	const char *result; /* of dry run: "allowed" or "denied"; else NULL */
	const char *action; /* likewise: "ALLOW" or "DENY" */
	const char *client;
	const char *principal; /* NULL or "": none */
	struct flat_ip source;
	const struct flat_workload *destination; /* NULL: none */
	const char *service;
	uint16_t port;				    /* of the server */
	const struct flat_http_request *request;    /* NULL: a connection */
	unsigned status;			    /* answered; 0: none */
	const char *reason;			    /* NULL: the policy says it */
	const char *policy_namespace, *policy_name; /* NULL: none */
	int rule;				    /* -1: none */
	struct flat_where where;
};

struct flat_audit_log;

/** Opens the file to append to. NULL where that fails, which is said in flatd's log; or `path` is NULL. */
struct flat_audit_log *flat_audit_open(const char *path);
void flat_audit_close(struct flat_audit_log *log);
/** One line. False: there is no file. */
bool flat_audit_write(struct flat_audit_log *log, const struct flat_audit *e);

#endif
