/*
 * Addresses for services that declare none: one of 240.240.0.0/16 for each host, as Istio's DNS
 * proxy does (240.0.0.0/4 is reserved and routed nowhere). A host's address follows from its name
 * alone, unless two names collide; then the hosts, in order of name, take the next free one. A
 * reload keeps what the mesh before it had, so that addresses which programs hold on to stay right.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/internal.h"

/* Last octets 0 and 255 are left out: some programs take them for network and broadcast addresses.
 */
#define VIP_BASE UINT32_C(0xf0f00000)
#define VIP_OCTETS 254U
#define VIP_COUNT UINT32_C(65024) /* 256 * VIP_OCTETS */

_Static_assert(VIP_COUNT == 256 * VIP_OCTETS, "all last octets of all third ones");

struct vip_space {
	uint64_t used[65536 / 64];
};

static bool vip_used(const struct vip_space *space, uint32_t low)
{
	return (space->used[low / 64] >> (low % 64)) & 1;
}

static void vip_take(struct vip_space *space, uint32_t low)
{
	space->used[low / 64] |= UINT64_C(1) << (low % 64);
}

/* The i-th address that may be given out, as its low 16 bits. */
static uint32_t vip_low(uint32_t i)
{
	return (i / VIP_OCTETS) << 8 | (i % VIP_OCTETS + 1);
}

static bool in_space(const struct flat_ip *ip)
{
	return ip->family == AF_INET && ip->bytes[0] == 240 && ip->bytes[1] == 240;
}

static uint32_t low_bits(const struct flat_ip *ip)
{
	return (uint32_t)ip->bytes[2] << 8 | ip->bytes[3];
}

/* Declared addresses inside the range are nobody else's. A block that holds the whole range is no
 * obstacle: single addresses win over blocks. */
static void take_declared(struct vip_space *space, const struct flat_service *service)
{
	uint32_t i, j;

	for (i = 0; i < service->n_addresses; i++) {
		const struct flat_cidr *cidr = &service->addresses[i];

		if (!in_space(&cidr->ip) || cidr->prefix <= 16)
			continue;
		for (j = 0; j < UINT32_C(1) << (32 - cidr->prefix); j++)
			vip_take(space, low_bits(&cidr->ip) + j);
	}
}

static bool wants_address(const struct flat_service *service)
{
	return service->auto_address && service->n_addresses == 0;
}

static int set_address(struct flat_mesh *mesh, struct flat_service *service, uint32_t low)
{
	struct flat_cidr *cidr = flat_pool_alloc(&mesh->pool, sizeof(*cidr));

	if (!cidr)
		return -ENOMEM;
	cidr->ip = flat_ip_from_v4(VIP_BASE | low);
	cidr->prefix = 32;
	service->addresses = cidr;
	service->n_addresses = 1;
	return 0;
}

static int host_cmp(const void *a, const void *b)
{
	const struct flat_service *const *sa = a, *const *sb = b;
	int cmp = strcmp((*sa)->host, (*sb)->host);

	if (cmp)
		return cmp;
	return (*sa)->index < (*sb)->index ? -1 : 1;
}

/* Gives hosts that had an address in `previous` the same one; the others are gathered in `rest`. */
static int keep_previous(struct flat_mesh *mesh, const struct flat_mesh *previous,
			 struct vip_space *space, struct flat_service **rest, uint32_t *n_rest)
{
	uint32_t i;
	int ret;

	for (i = 0; i < mesh->services.n; i++) {
		struct flat_service *service = mesh->services.v[i];
		const struct flat_service *old = NULL;

		if (!wants_address(service))
			continue;
		if (previous)
			old = flat_map_get_str(&previous->hosts, service->host);
		if (!old || !old->auto_address || old->n_addresses == 0 ||
		    vip_used(space, low_bits(&old->addresses[0].ip))) {
			rest[(*n_rest)++] = service;
			continue;
		}
		vip_take(space, low_bits(&old->addresses[0].ip));
		ret = set_address(mesh, service, low_bits(&old->addresses[0].ip));
		if (ret)
			return ret;
	}
	return 0;
}

static int allocate_one(struct flat_mesh *mesh, struct vip_space *space,
			struct flat_service *service, struct flat_diags *diags)
{
	uint32_t first = (uint32_t)(flat_hash(service->host, strlen(service->host)) % VIP_COUNT);
	uint32_t i;

	for (i = 0; i < VIP_COUNT; i++) {
		uint32_t low = vip_low((first + i) % VIP_COUNT);

		if (vip_used(space, low))
			continue;
		vip_take(space, low);
		return set_address(mesh, service, low);
	}
	flat_diags_add(diags, FLAT_SEVERITY_ERROR, FLAT_DIAG_LIMIT, &service->where, service->name,
		       "declare addresses for some services",
		       "no address of 240.240.0.0/16 is left for host %s", service->host);
	return 0;
}

int mesh_allocate_addresses(struct flat_mesh *mesh, const struct flat_mesh *previous,
			    struct flat_diags *diags)
{
	struct vip_space *space = calloc(1, sizeof(*space));
	struct flat_service **rest = calloc((size_t)mesh->services.n + 1, sizeof(*rest));
	uint32_t n_rest = 0, i;
	int ret = -ENOMEM;

	if (!space || !rest)
		goto out;
	for (i = 0; i < mesh->services.n; i++)
		take_declared(space, mesh->services.v[i]);
	ret = keep_previous(mesh, previous, space, rest, &n_rest);
	if (ret)
		goto out;
	qsort(rest, n_rest, sizeof(struct flat_service *), host_cmp);
	for (i = 0; i < n_rest && !ret; i++)
		ret = allocate_one(mesh, space, rest[i], diags);
out:
	free(rest);
	free(space);
	return ret;
}
