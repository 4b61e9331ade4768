/*
 * Confined workloads: TCP connections of every process in their cgroups come to flatd, whatever made them (raw system calls,
 * static programs, a library taken out), and are decided as those that the library asks for. docs/design/core.md, section 13.
 */
#ifndef FLAT_OFFLOAD_CAPTURE_H
#define FLAT_OFFLOAD_CAPTURE_H

#include <limits.h>

#include "offload/offload.h"

/* No service's (IANA), and below 1024: nobody but root can stand in for a flatd that is not there. */
#define FLAT_CONFINE_PORT 335
#define FLAT_CAPTURE_SOCKETS 4

/**
 * Confines what the present mesh says, and frees what it says no more. 0, or a negative errno of what could not be
 * done, which is logged: such a cgroup stays as it was.
 */
FLAT_MUST_CHECK int flat_captures_reload(struct flat_offload *o);
/** The sockets at the port, i below FLAT_CAPTURE_SOCKETS, for a successor; -1: there is none. */
int flat_captures_socket(const struct flat_offload *o, int i);
/** A successor goes on: takes nothing more, and changes nothing at the cgroups. */
void flat_captures_retire(struct flat_offload *o);
/** Ends what waits too long for a name server. How long the loop may sleep for its sake, ms; -1: nothing waits. */
int flat_captures_expire(struct flat_offload *o);
/** Frees all. What is confined stays so: nobody answers, and its connections are refused. */
void flat_captures_close(struct flat_offload *o);
/** The path of a cgroup by its id, as in /proc/PID/cgroup. False: it is gone, or cannot be told. */
bool flat_captures_path(const struct flat_offload *o, uint64_t id, char path[PATH_MAX]);
/** The cgroups that are confined, i from 0: the path, as in /proc/PID/cgroup; NULL: no more. */
const char *flat_captures_cgroup(const struct flat_offload *o, uint32_t i);

#endif
