/* A device of libibverbs: opening it, what it says of itself, and its end. */
#include "wire/verbs_device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

static int open_by_name(struct flat_verbs_device *d, const char *name)
{
	int n = 0;
	int err = -ENODEV;
	struct ibv_device **list = ibv_get_device_list(&n);
	for (int i = 0; list && i < n; i++) {
		if (strcmp(ibv_get_device_name(list[i]), name) != 0)
			continue;
		snprintf(d->path, sizeof(d->path), "%s", list[i]->dev_path);
		errno = 0;
		d->ctx = ibv_open_device(list[i]);
		err = d->ctx ? 0 : -(errno ? errno : EIO);
	}
	if (list)
		ibv_free_device_list(list);
	if (!d->ctx)
		return err;
	if (fcntl(d->ctx->async_fd, F_SETFL, O_NONBLOCK) != 0)
		return -errno;
	err = ibv_query_port(d->ctx, FLAT_VERBS_PORT, &d->port);
	if (err != 0)
		return -err;
	return d->port.state == IBV_PORT_ACTIVE ? 0 : -ENETDOWN;
}

int flat_verbs_device_open(const char *name, struct flat_verbs_device **out, char *why, size_t size)
{
	struct flat_verbs_device *d = calloc(1, sizeof(*d));
	int err = d ? open_by_name(d, name) : -ENOMEM;
	*out = NULL;
	if (err == 0) {
		*out = d;
		return 0;
	}
	snprintf(why, size, "device %s: %s", name,
		 err == -ENETDOWN ? "its port is down" : strerror(-err));
	flat_verbs_device_close(d);
	return err;
}

void flat_verbs_device_close(struct flat_verbs_device *d)
{
	if (d && d->ctx)
		ibv_close_device(d->ctx);
	free(d);
}

int flat_verbs_device_fd(const struct flat_verbs_device *d)
{
	return d->ctx->async_fd;
}

uint64_t flat_verbs_device_bytes(const struct flat_verbs_device *d)
{
	return d->bytes;
}

bool flat_verbs_device_gone(struct flat_verbs_device *d)
{
	struct ibv_async_event event;
	while (ibv_get_async_event(d->ctx, &event) == 0) {
		enum ibv_event_type type = event.event_type;
		ibv_ack_async_event(&event);
		/* Of one connection: its completions say it too. */
		d->gone |= type == IBV_EVENT_DEVICE_FATAL || type == IBV_EVENT_PORT_ERR;
	}
	/*
	 * A driver that cannot take its device from under a user (rxe on Linux 6.1: no disassociate_ucontext) says nothing: its removal
	 * waits for us, and what is seen of it is the name that goes first (drivers/infiniband/core/uverbs_main.c).
	 */
	d->gone |= access(d->path, F_OK) != 0;
	return d->gone;
}

/* IPv4 addresses stand in GIDs as IPv6 maps them. */
static void gid_of(const struct flat_addr *a, uint8_t gid[16])
{
	memset(gid, 0, 16);
	if (a->family == AF_INET) {
		gid[10] = gid[11] = 0xff;
		memcpy(gid + 12, a->ip, 4);
	} else {
		memcpy(gid, a->ip, 16);
	}
}

bool flat_verbs_is_roce(const struct flat_verbs_device *d)
{
	return d->port.link_layer == IBV_LINK_LAYER_ETHERNET;
}

bool flat_verbs_gid_is(const uint8_t gid[16], const struct flat_addr *a)
{
	uint8_t want[16];
	gid_of(a, want);
	return memcmp(gid, want, sizeof(want)) == 0;
}

int flat_verbs_gid_find(const struct flat_verbs_device *d, const struct flat_addr *local,
			union ibv_gid *gid)
{
	struct ibv_gid_entry e;
	if (!flat_verbs_is_roce(d))
		return ibv_query_gid(d->ctx, FLAT_VERBS_PORT, 0, gid) == 0 ? 0 : -ENODEV;
	for (int i = 0; i < d->port.gid_tbl_len; i++) {
		if (ibv_query_gid_ex(d->ctx, FLAT_VERBS_PORT, (uint32_t)i, &e, 0) != 0 ||
		    e.gid_type != IBV_GID_TYPE_ROCE_V2 || !flat_verbs_gid_is(e.gid.raw, local))
			continue;
		*gid = e.gid;
		return i;
	}
	return -EADDRNOTAVAIL;
}
