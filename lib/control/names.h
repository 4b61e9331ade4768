/*
 * Endpoints by name (ServiceEntry, resolution DNS): a thread asks the system's resolver for the names that the last load
 * spoke of, again and again, and says when an answer is another. Then the configuration is loaded again, with the new
 * addresses in it. A name that was answered keeps its addresses while its server does not answer.
 */
#ifndef FLAT_CONTROL_NAMES_H
#define FLAT_CONTROL_NAMES_H

#include <stdbool.h>

#include "base/base.h"
#include "mesh/addr.h"

/* Addresses of one name that count; larger answers are cut. */
#define FLAT_NAME_ADDRS_MAX 64U
/* How often each is asked for without MeshConfig.dnsRefreshRate, ms: Istio's. */
#define FLAT_NAMES_REFRESH_MS 60000U
/* A name without an answer is asked for again after this, then twice this, ... up to the refresh rate, ms. */
#define FLAT_NAMES_RETRY_MS 1000U

struct flat_names;

/** 0 or a negative errno. No thread yet: that begins with the first name. */
FLAT_MUST_CHECK int flat_names_open(struct flat_names **out);
/** Waits for the thread, but not for long where it asks the resolver: then it frees the rest by itself. NULL is allowed. */
void flat_names_close(struct flat_names *names);

/** Readable when flat_names_changed() has something to tell. */
int flat_names_fd(const struct flat_names *names);
/** Whether an answer is another since the last call: time to load. Does not block. */
bool flat_names_changed(struct flat_names *names);

/**
 * The addresses of a host, as far as they are known, in `v` of FLAT_NAME_ADDRS_MAX, sorted; IPv4 ones alone where there are any.
 * It is asked for from now on. How many; -ENOMEM. Any thread.
 */
FLAT_MUST_CHECK int flat_names_get(struct flat_names *names, const char *host, struct flat_ip *v);

/** Begins a load; names that flat_names_get() is not called for until flat_names_settle() are asked for no more. */
void flat_names_begin(struct flat_names *names);
void flat_names_settle(struct flat_names *names, uint32_t refresh_ms);

/** Waits until each name was asked for once, `ms` at the most. */
void flat_names_wait(struct flat_names *names, uint32_t ms);

#endif
