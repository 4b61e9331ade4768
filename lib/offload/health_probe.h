/* One active health check of one endpoint: a connection of flatd's own, over TCP, HTTP or gRPC. Control thread. */
#ifndef FLAT_OFFLOAD_HEALTH_PROBE_H
#define FLAT_OFFLOAD_HEALTH_PROBE_H

#include "mesh/health.h"
#include "offload/loop.h"
#include "vq/attach.h"

struct flat_probe;

/** Called once, never before flat_probe_start() has returned; the probe is gone afterwards. `why` is for people. */
typedef void flat_probe_fn(void *arg, enum flat_health_result result, const char *why);

/**
 * Begins a check. `host`: of the service, where the check names no authority. It and `check` are borrowed until it ends.
 * NULL without memory or descriptors, or where the kernel knows no way there: `fn` is not called.
 */
struct flat_probe *flat_probe_start(struct flat_loop *loop, const struct flat_health_check *check,
				    const char *host, const struct flat_addr *addr,
				    flat_probe_fn *fn, void *arg);
/** Ends it without calling its function. NULL is allowed. */
void flat_probe_cancel(struct flat_probe *probe);
/** Ends it, with its function, where its time is over. How long it still has, ms. */
int flat_probe_expire(struct flat_probe *probe, int64_t now_us);
/** Whether `from` is the address that it connects from. */
bool flat_probe_is_from(const struct flat_probe *probe, const struct flat_addr *from);

#endif
