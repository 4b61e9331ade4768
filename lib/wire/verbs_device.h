/* What verbs_device.c and verbs.c share. */
#ifndef FLAT_WIRE_VERBS_DEVICE_H
#define FLAT_WIRE_VERBS_DEVICE_H

#include <infiniband/verbs.h>

#include "wire/verbs.h"

#define FLAT_VERBS_PORT 1

struct flat_verbs_device {
	struct ibv_context *ctx;
	struct ibv_port_attr port;
	uint64_t bytes; /* registered */
	bool gone;
	char path[IBV_SYSFS_PATH_MAX]; /* what vanishes first when it is removed */
};

/** Ethernet: its addresses are IP's. */
bool flat_verbs_is_roce(const struct flat_verbs_device *d);
/** Whether a GID is this IP address (its port is not looked at). */
bool flat_verbs_gid_is(const uint8_t gid[16], const struct flat_addr *a);
/** The index of the device's GID of this address (RoCE v2), on InfiniBand 0; -EADDRNOTAVAIL, -ENODEV. */
FLAT_MUST_CHECK int flat_verbs_gid_find(const struct flat_verbs_device *d,
					const struct flat_addr *local, union ibv_gid *gid);

#endif
