#include "wire/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "wire/verbs_device.h"

/* Receives: one for each message without credit, and credits: each stands for a quarter of the ring or of the messages,
 * counted twice at worst. */
#define RECEIVES ((int)FLAT_VERBS_MSGS + 32)
/* Work requests: messages, twice where they pass the ring's end, and credits. */
#define SENDS 512
/* Every so many work requests one asks for a completion, by which those before it are done too. */
#define SIGNAL_EVERY 32
/* Wanted; devices may have less. What is sent so is not fetched from memory by the device. */
#define INLINE_BYTES 256
/* Completions taken at once. */
#define POLLED 32
/*
 * 4.096 us * 2^16 = 268 ms (devices may take up to four times as long: InfiniBand, 9.7.6.1.3), five sends: what is not
 * acknowledged breaks the connection before FLAT_WIRE_DEAD_MS breaks the link.
 */
#define ACK_TIMEOUT 16
#define RETRIES 4
/* Receives are always posted: these are for a peer that breaks the rule. 12: 0.64 ms. */
#define RNR_RETRIES 3
#define RNR_TIMER 12

struct flat_verbs {
	struct flat_verbs_device *device;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr_in;
	struct ibv_mr *mr_out;
	uint8_t *memory; /* out, then in */
	size_t bytes;
	uint64_t remote_addr; /* of the peer's `in` */
	uint32_t remote_key;
	uint32_t psn;
	uint32_t inline_max;
	uint32_t posted;      /* work requests without completion */
	uint32_t unsignalled; /* the last of them, which ask for none */
	int gid_index;
	union ibv_gid gid;
	struct flat_vring ring;
	char why[160];
};

static void put_bytes(uint8_t **p, uint64_t v, int n)
{
	for (int i = n - 1; i >= 0; i--)
		*(*p)++ = (uint8_t)(v >> (8 * i));
}

static uint64_t get_bytes(const uint8_t **p, int n)
{
	uint64_t v = 0;
	for (int i = 0; i < n; i++)
		v = v << 8 | *(*p)++;
	return v;
}

static int broken(struct flat_verbs *v, int err, const char *what)
{
	if (!v->why[0])
		snprintf(v->why, sizeof(v->why), "%s", what);
	return err;
}

/* --- moving --- */

static int write_ring(void *ctx, uint32_t at, uint32_t len, uint32_t imm)
{
	struct flat_verbs *v = ctx;
	uint32_t first = (uint32_t)flat_min_size(len, v->ring.size - at);
	struct ibv_sge sge[2] = {
	    {.addr = (uintptr_t)v->ring.out + at, .length = first, .lkey = v->mr_out->lkey},
	    {.addr = (uintptr_t)v->ring.out, .length = len - first, .lkey = v->mr_out->lkey},
	};
	struct ibv_send_wr wr[2];
	struct ibv_send_wr *bad;
	uint32_t n = first < len ? 2 : 1;
	if (v->posted + n > SENDS)
		return -EAGAIN;
	memset(wr, 0, sizeof(wr));
	for (uint32_t i = 0; i < n; i++) {
		wr[i].sg_list = &sge[i];
		wr[i].num_sge = len > 0;
		wr[i].opcode = IBV_WR_RDMA_WRITE;
		wr[i].wr.rdma.remote_addr = v->remote_addr + (i == 0 ? at : 0);
		wr[i].wr.rdma.rkey = v->remote_key;
		if (sge[i].length <= v->inline_max)
			wr[i].send_flags = IBV_SEND_INLINE;
	}
	wr[0].next = n == 2 ? &wr[1] : NULL;
	/* Behind the bytes: the peer's device completes it when they are all placed. */
	wr[n - 1].opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	wr[n - 1].imm_data = htobe32(imm);
	v->unsignalled += n;
	if (v->unsignalled >= SIGNAL_EVERY) {
		wr[n - 1].send_flags |= IBV_SEND_SIGNALED;
		wr[n - 1].wr_id = v->unsignalled;
		v->unsignalled = 0;
	}
	v->posted += n;
	return ibv_post_send(v->qp, wr, &bad) == 0 ? 0 : broken(v, -EIO, "posting failed");
}

static const struct flat_vring_ops ring_ops = {.write = write_ring};

static int post_receives(struct flat_verbs *v, int n)
{
	/* No bytes: the immediate is all that a receive is used up by. */
	struct ibv_recv_wr wr[POLLED];
	struct ibv_recv_wr *bad;
	memset(wr, 0, sizeof(wr));
	while (n > 0) {
		int now = n < POLLED ? n : POLLED;
		for (int i = 0; i < now; i++)
			wr[i].next = i + 1 < now ? &wr[i + 1] : NULL;
		if (ibv_post_recv(v->qp, wr, &bad) != 0)
			return broken(v, -EIO, "posting receives failed");
		n -= now;
	}
	return 0;
}

/* 1: a receive was used; 0: not; negative: broken. */
static int on_completion(struct flat_verbs *v, const struct ibv_wc *wc)
{
	if (wc->status != IBV_WC_SUCCESS)
		return broken(v, -EIO, ibv_wc_status_str(wc->status));
	if (!(wc->opcode & IBV_WC_RECV)) {
		v->posted -= (uint32_t)wc->wr_id;
		return 0;
	}
	if (wc->opcode != IBV_WC_RECV_RDMA_WITH_IMM ||
	    flat_vring_told(&v->ring, be32toh(wc->imm_data)) != 0)
		return broken(v, -EPROTO, "the peer broke the rules of the ring");
	return 1;
}

int flat_verbs_poll(struct flat_verbs *v)
{
	struct ibv_wc wc[POLLED];
	int total = 0;
	int n;
	/* As many as were ever posted: no peer keeps us here. */
	while (total < RECEIVES + SENDS && (n = ibv_poll_cq(v->cq, POLLED, wc)) != 0) {
		int used = 0;
		if (n < 0)
			return broken(v, -EIO, "polling failed");
		for (int i = 0; i < n; i++) {
			int one = on_completion(v, &wc[i]);
			if (one < 0)
				return one;
			used += one;
		}
		int err = post_receives(v, used);
		if (err != 0)
			return err;
		total += n;
		if (n < POLLED)
			break;
	}
	return total;
}

int flat_verbs_arm(struct flat_verbs *v)
{
	struct ibv_cq *cq;
	void *ctx;
	while (ibv_get_cq_event(v->channel, &cq, &ctx) == 0)
		ibv_ack_cq_events(cq, 1);
	return ibv_req_notify_cq(v->cq, 0) == 0 ? 0 : broken(v, -EIO, "arming failed");
}

int flat_verbs_fd(const struct flat_verbs *v)
{
	return v->channel->fd;
}

struct flat_vring *flat_verbs_ring(struct flat_verbs *v)
{
	return &v->ring;
}

const char *flat_verbs_why(const struct flat_verbs *v)
{
	return v->why;
}

/* --- opening --- */

static int map(struct flat_verbs *v)
{
	v->memory = mmap(NULL, v->bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (v->memory == MAP_FAILED) {
		v->memory = NULL;
		return -ENOMEM;
	}
	/* A child must not take the pages with it that the device writes to. */
	if (madvise(v->memory, v->bytes, MADV_DONTFORK) != 0)
		return -errno;
	v->mr_out = ibv_reg_mr(v->pd, v->memory, v->bytes / 2, 0);
	if (v->mr_out)
		v->mr_in = ibv_reg_mr(v->pd, v->memory + v->bytes / 2, v->bytes / 2,
				      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	return v->mr_in ? 0 : -(errno ? errno : ENOMEM);
}

static int make_qp(struct flat_verbs *v)
{
	struct ibv_qp_init_attr init = {
	    .send_cq = v->cq,
	    .recv_cq = v->cq,
	    .qp_type = IBV_QPT_RC,
	    .cap = {.max_send_wr = SENDS,
		    .max_recv_wr = RECEIVES,
		    .max_send_sge = 1,
		    .max_recv_sge = 1,
		    .max_inline_data = INLINE_BYTES},
	};
	struct ibv_qp_attr attr = {
	    .qp_state = IBV_QPS_INIT,
	    .port_num = FLAT_VERBS_PORT,
	    .qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	/* A device refuses more than its limit, and has no way to ask for it. */
	while (!(v->qp = ibv_create_qp(v->pd, &init)) && init.cap.max_inline_data > 0)
		init.cap.max_inline_data /= 2;
	if (!v->qp)
		return -(errno ? errno : ENOMEM);
	v->inline_max = init.cap.max_inline_data;
	int err = ibv_modify_qp(
	    v->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	return err ? -err : post_receives(v, RECEIVES);
}

static int make(struct flat_verbs *v, const struct flat_addr *local)
{
	struct ibv_context *ctx = v->device->ctx;
	v->gid_index = flat_verbs_gid_find(v->device, local, &v->gid);
	if (v->gid_index < 0)
		return v->gid_index;
	if (getrandom(&v->psn, sizeof(v->psn), 0) != (ssize_t)sizeof(v->psn))
		return -EIO;
	v->psn &= 0xffffff;
	v->pd = ibv_alloc_pd(ctx);
	v->channel = v->pd ? ibv_create_comp_channel(ctx) : NULL;
	v->cq = v->channel ? ibv_create_cq(ctx, RECEIVES + SENDS, NULL, v->channel, 0) : NULL;
	if (!v->cq)
		return -(errno ? errno : ENOMEM);
	if (fcntl(v->channel->fd, F_SETFL, O_NONBLOCK) != 0)
		return -errno;
	int err = map(v);
	return err ? err : make_qp(v);
}

int flat_verbs_open(struct flat_verbs_device *d, const struct flat_addr *local,
		    struct flat_verbs **out, char *why, size_t size)
{
	char text[FLAT_ADDR_STRLEN];
	struct flat_verbs *v;
	*out = NULL;
	if (d->bytes + (uint64_t)2 * FLAT_VERBS_RING_BYTES > FLAT_VERBS_BYTES_MAX) {
		snprintf(why, size, "%llu bytes are registered, the limit",
			 (unsigned long long)d->bytes);
		return -ENOBUFS;
	}
	v = calloc(1, sizeof(*v));
	if (!v) {
		snprintf(why, size, "no memory");
		return -ENOMEM;
	}
	v->device = d;
	v->bytes = (size_t)2 * FLAT_VERBS_RING_BYTES;
	d->bytes += v->bytes;
	int err = make(v, local);
	if (err == -EADDRNOTAVAIL)
		snprintf(why, size, "the device has no RoCE v2 address %s",
			 flat_addr_str(local, text));
	else if (err != 0)
		snprintf(why, size, "%s%s", strerror(-err),
			 err == -ENOMEM ? ", as far as memory may be locked (ulimit -l)" : "");
	if (err != 0) {
		flat_verbs_close(v);
		return err;
	}
	flat_vring_init(&v->ring, &ring_ops, v, v->memory, v->memory + v->bytes / 2,
			FLAT_VERBS_RING_BYTES);
	*out = v;
	return 0;
}

/* --- connecting --- */

/* Queue pair 4 bytes, first packet 4, key 4, address 8, log2 of the ring 1, path MTU 1, LID 2, GID 16, 2 of zero. */
void flat_verbs_tell(const struct flat_verbs *v, uint8_t end[FLAT_FRAME_VERBS_END])
{
	uint8_t *p = end;
	put_bytes(&p, v->qp->qp_num, 4);
	put_bytes(&p, v->psn, 4);
	put_bytes(&p, v->mr_in->rkey, 4);
	put_bytes(&p, (uintptr_t)v->ring.in, 8);
	put_bytes(&p, (uint64_t)__builtin_ctz(v->ring.size), 1);
	put_bytes(&p, v->device->port.active_mtu, 1);
	put_bytes(&p, v->device->port.lid, 2);
	memcpy(p, v->gid.raw, 16);
	memset(p + 16, 0, 2);
}

static int to_ready(struct flat_verbs *v, struct ibv_qp_attr *attr)
{
	attr->qp_state = IBV_QPS_RTR;
	attr->min_rnr_timer = RNR_TIMER;
	int err =
	    ibv_modify_qp(v->qp, attr,
			  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			      IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	if (err != 0)
		return -err;
	struct ibv_qp_attr send = {.qp_state = IBV_QPS_RTS,
				   .timeout = ACK_TIMEOUT,
				   .retry_cnt = RETRIES,
				   .rnr_retry = RNR_RETRIES,
				   .sq_psn = v->psn};
	return -ibv_modify_qp(v->qp, &send,
			      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				  IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

int flat_verbs_connect(struct flat_verbs *v, const uint8_t end[FLAT_FRAME_VERBS_END],
		       const struct flat_addr *remote, char *why, size_t size)
{
	const uint8_t *p = end;
	struct ibv_qp_attr attr;
	memset(&attr, 0, sizeof(attr));
	attr.dest_qp_num = (uint32_t)get_bytes(&p, 4) & 0xffffff;
	attr.rq_psn = (uint32_t)get_bytes(&p, 4) & 0xffffff;
	v->remote_key = (uint32_t)get_bytes(&p, 4);
	v->remote_addr = get_bytes(&p, 8);
	unsigned int log2_size = (unsigned int)get_bytes(&p, 1);
	unsigned int mtu = (unsigned int)get_bytes(&p, 1);
	attr.ah_attr.dlid = (uint16_t)get_bytes(&p, 2);
	memcpy(attr.ah_attr.grh.dgid.raw, p, 16);
	if (log2_size > 30 || 1U << log2_size != v->ring.size || mtu < IBV_MTU_256 ||
	    mtu > IBV_MTU_4096) {
		snprintf(why, size, "the peer's ring or packets are of another size");
		return -EPROTO;
	}
	/* What we write goes to the host that the link leads to, and to no third one. */
	if (flat_verbs_is_roce(v->device) && !flat_verbs_gid_is(p, remote)) {
		snprintf(why, size, "the peer's RoCE address is not that of the link");
		return -EPROTO;
	}
	attr.path_mtu =
	    mtu < (unsigned int)v->device->port.active_mtu ? mtu : v->device->port.active_mtu;
	attr.ah_attr.is_global = 1;
	attr.ah_attr.grh.hop_limit = 64;
	attr.ah_attr.grh.sgid_index = (uint8_t)v->gid_index;
	attr.ah_attr.port_num = FLAT_VERBS_PORT;
	int err = to_ready(v, &attr);
	if (err != 0)
		snprintf(why, size, "the connection cannot be made: %s", strerror(-err));
	return err;
}

/* --- ending --- */

void flat_verbs_stop(struct flat_verbs *v)
{
	/* The queue pair first: what refers to another cannot go before it. */
	if (v->qp)
		(void)ibv_destroy_qp(v->qp);
	if (v->cq)
		(void)ibv_destroy_cq(v->cq);
	if (v->channel)
		(void)ibv_destroy_comp_channel(v->channel);
	if (v->mr_in)
		(void)ibv_dereg_mr(v->mr_in);
	if (v->mr_out)
		(void)ibv_dereg_mr(v->mr_out);
	if (v->pd)
		(void)ibv_dealloc_pd(v->pd);
	v->qp = NULL;
	v->cq = NULL;
	v->channel = NULL;
	v->mr_in = v->mr_out = NULL;
	v->pd = NULL;
	if (v->device)
		v->device->bytes -= v->bytes;
	v->device = NULL;
}

void flat_verbs_close(struct flat_verbs *v)
{
	if (!v)
		return;
	flat_verbs_stop(v);
	if (v->memory)
		(void)munmap(v->memory, v->bytes);
	free(v);
}
