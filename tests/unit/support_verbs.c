#include "support_verbs.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES_MAX 4
#define COMPLETIONS_MAX 1024
#define FLIGHTS_MAX 1024
#define INLINE_MAX 256

/* The library's macro asks for it by this name. */
#undef ibv_query_port
#undef ibv_reg_mr

struct region {
	struct ibv_mr mr;
	int access;
};

struct completions {
	struct ibv_cq cq;
	struct ibv_wc wc[COMPLETIONS_MAX];
	uint32_t slots[COMPLETIONS_MAX]; /* of the send queue, that each sets free */
	struct ibv_qp *of[COMPLETIONS_MAX];
	unsigned int n;
	unsigned int pairs; /* that refer to it */
	unsigned int events;
	unsigned int acked;
	bool armed;
};

/* A write between its posting and its end. */
struct flight {
	struct ibv_send_wr wr;
	struct ibv_sge sge;
	const uint8_t *from;	   /* where its bytes lie, which are read when it is carried out */
	uint8_t bytes[INLINE_MAX]; /* or are taken when it is posted */
};

struct pair {
	struct ibv_qp qp;
	struct ibv_qp_attr attr;
	struct ibv_qp_cap cap;
	struct flight *flights;
	unsigned int n_flights;
	uint32_t sending;   /* slots of the send queue in use */
	uint32_t unclaimed; /* of them, carried out without a completion */
	uint32_t receives;
};

static struct verbs_fake *devices[DEVICES_MAX];
static struct pair *pairs[64];
static struct region *regions[128];
static uint32_t next_number = 7;
static unsigned int unacked; /* events of devices, that were read */

static struct verbs_fake *of_context(struct ibv_context *ctx)
{
	return FLAT_CONTAINER_OF(ctx, struct verbs_fake, ctx);
}

/* Whether this call fails. */
static bool fails(struct ibv_context *ctx)
{
	struct verbs_fake *d = of_context(ctx);
	if (++d->calls != d->fail_at)
		return false;
	errno = ENOMEM;
	return true;
}

static void *object(struct ibv_context *ctx, size_t size)
{
	void *o = fails(ctx) ? NULL : calloc(1, size);
	of_context(ctx)->objects += o != NULL;
	return o;
}

static int destroyed(struct ibv_context *ctx, void *o)
{
	of_context(ctx)->objects--;
	free(o);
	return 0;
}

/* --- devices --- */

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
static int req_notify_cq(struct ibv_cq *cq, int solicited);
static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);

void verbs_fake_add(struct verbs_fake *d, const char *name, const char *path)
{
	memset(d, 0, sizeof(*d));
	snprintf(d->device.name, sizeof(d->device.name), "%s", name);
	snprintf(d->device.dev_path, sizeof(d->device.dev_path), "%s", path);
	d->port = (struct ibv_port_attr){.state = IBV_PORT_ACTIVE,
					 .active_mtu = IBV_MTU_1024,
					 .gid_tbl_len = VERBS_GIDS,
					 .lid = 0x1234,
					 .link_layer = IBV_LINK_LAYER_ETHERNET};
	d->ctx.device = &d->device;
	d->ctx.ops.poll_cq = poll_cq;
	d->ctx.ops.req_notify_cq = req_notify_cq;
	d->ctx.ops.post_send = post_send;
	d->ctx.ops.post_recv = post_recv;
	d->max_inline = 64;
	cr_assert_eq(pipe2(d->events, O_CLOEXEC), 0);
	d->ctx.async_fd = d->events[0];
	for (size_t i = 0; i < DEVICES_MAX; i++) {
		if (!devices[i]) {
			devices[i] = d;
			return;
		}
	}
	cr_assert(false, "more devices than the support has room for");
}

void verbs_fake_removed(struct verbs_fake *d)
{
	for (size_t i = 0; i < DEVICES_MAX; i++)
		devices[i] = devices[i] == d ? NULL : devices[i];
	cr_assert_eq(d->objects, 0, "%u objects are left", d->objects);
	cr_assert_eq(d->opened, 0);
	close(d->events[0]);
	close(d->events[1]);
}

void verbs_fake_gid(struct verbs_fake *d, unsigned int index, const char *ip,
		    enum ibv_gid_type type)
{
	uint8_t *raw = d->gids[index].raw;
	memset(raw, 0, 16);
	if (inet_pton(AF_INET6, ip, raw) != 1) {
		raw[10] = raw[11] = 0xff;
		cr_assert_eq(inet_pton(AF_INET, ip, raw + 12), 1);
	}
	d->gid_types[index] = type;
}

void verbs_fake_event(struct verbs_fake *d, enum ibv_event_type type)
{
	cr_assert_eq(write(d->events[1], &type, sizeof(type)), (ssize_t)sizeof(type));
}

struct ibv_device **ibv_get_device_list(int *n)
{
	struct ibv_device **list = calloc(DEVICES_MAX + 1, sizeof(struct ibv_device *));
	*n = 0;
	for (size_t i = 0; list && i < DEVICES_MAX; i++) {
		if (devices[i])
			list[(*n)++] = &devices[i]->device;
	}
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct verbs_fake *d = FLAT_CONTAINER_OF(device, struct verbs_fake, device);
	if (fails(&d->ctx))
		return NULL;
	d->opened++;
	return &d->ctx;
}

int ibv_close_device(struct ibv_context *ctx)
{
	struct verbs_fake *d = of_context(ctx);
	cr_assert_eq(d->objects, 0, "closed under %u objects", d->objects);
	cr_assert_eq(unacked, 0);
	d->opened--;
	return 0;
}

int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *attr)
{
	cr_assert_eq(port, 1);
	if (fails(ctx))
		return errno;
	memcpy(attr, &of_context(ctx)->port, sizeof(struct ibv_port_attr));
	return 0;
}

int ibv_query_gid(struct ibv_context *ctx, uint8_t port, int index, union ibv_gid *gid)
{
	cr_assert_eq(port, 1);
	if (fails(ctx))
		return -1;
	*gid = of_context(ctx)->gids[index];
	return 0;
}

int _ibv_query_gid_ex(struct ibv_context *ctx, uint32_t port, uint32_t index,
		      struct ibv_gid_entry *e, uint32_t flags, size_t size)
{
	static const union ibv_gid none;
	struct verbs_fake *d = of_context(ctx);
	(void)flags;
	cr_assert_eq(size, sizeof(*e));
	/* A hole in the table is an error, as it is in the kernel's. */
	if (index >= VERBS_GIDS || memcmp(&d->gids[index], &none, sizeof(none)) == 0)
		return ENODATA;
	*e = (struct ibv_gid_entry){.gid = d->gids[index],
				    .gid_index = index,
				    .port_num = port,
				    .gid_type = d->gid_types[index]};
	return 0;
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
	ssize_t n = read(ctx->async_fd, &event->event_type, sizeof(event->event_type));
	unacked += n > 0;
	return n > 0 ? 0 : -1;
}

void ibv_ack_async_event(struct ibv_async_event *event)
{
	(void)event;
	unacked--;
}

/* --- objects --- */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
	struct ibv_pd *pd = object(ctx, sizeof(*pd));
	if (pd)
		pd->context = ctx;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(regions); i++) {
		if (regions[i] && regions[i]->mr.pd == pd)
			return EBUSY;
	}
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pairs); i++) {
		if (pairs[i] && pairs[i]->qp.pd == pd)
			return EBUSY;
	}
	return destroyed(pd->context, pd);
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct region *r = object(pd->context, sizeof(*r));
	if (!r)
		return NULL;
	r->mr = (struct ibv_mr){.context = pd->context, .pd = pd, .addr = addr, .length = length};
	r->mr.lkey = next_number++;
	r->mr.rkey = next_number++;
	r->access = access;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(regions); i++) {
		if (!regions[i]) {
			regions[i] = r;
			return &r->mr;
		}
	}
	cr_assert(false, "more regions than the support has room for");
	return NULL;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return reg_mr(pd, addr, length, access);
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	cr_assert_eq(iova, (uintptr_t)addr);
	return reg_mr(pd, addr, length, (int)access);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	struct region *r = FLAT_CONTAINER_OF(mr, struct region, mr);
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(regions); i++)
		regions[i] = regions[i] == r ? NULL : regions[i];
	return destroyed(mr->context, r);
}

/* Its descriptor is a pipe's: what is written to it are events. The other end stands where libibverbs counts users. */
struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	int fds[2];
	struct ibv_comp_channel *c = object(ctx, sizeof(*c));
	if (!c)
		return NULL;
	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	*c = (struct ibv_comp_channel){.context = ctx, .fd = fds[0], .refcnt = fds[1]};
	return c;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *c)
{
	close(c->fd);
	close(c->refcnt);
	return destroyed(c->context, c);
}

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *cq_context,
			     struct ibv_comp_channel *channel, int vector)
{
	struct completions *c = object(ctx, sizeof(*c));
	cr_assert_leq(cqe, COMPLETIONS_MAX);
	cr_assert_eq(vector, 0);
	if (!c)
		return NULL;
	c->cq.context = ctx;
	c->cq.channel = channel;
	c->cq.cq_context = cq_context;
	c->cq.cqe = cqe;
	return &c->cq;
}

int ibv_destroy_cq(struct ibv_cq *cq)
{
	struct completions *c = FLAT_CONTAINER_OF(cq, struct completions, cq);
	if (c->pairs > 0)
		return EBUSY;
	cr_assert_eq(c->events, c->acked, "libibverbs would wait here for ever");
	return destroyed(cq->context, c);
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **cq_context)
{
	if (read(channel->fd, cq, sizeof(struct ibv_cq *)) != (ssize_t)sizeof(struct ibv_cq *))
		return -1;
	*cq_context = (*cq)->cq_context;
	FLAT_CONTAINER_OF(*cq, struct completions, cq)->events++;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n)
{
	FLAT_CONTAINER_OF(cq, struct completions, cq)->acked += n;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *init)
{
	if (init->cap.max_inline_data > of_context(pd->context)->max_inline) {
		errno = EINVAL;
		return NULL;
	}
	struct pair *q = object(pd->context, sizeof(*q));
	if (!q)
		return NULL;
	cr_assert_eq(init->qp_type, IBV_QPT_RC);
	cr_assert_leq(init->cap.max_inline_data, INLINE_MAX);
	q->cap = init->cap;
	q->flights = calloc(FLIGHTS_MAX, sizeof(*q->flights));
	q->qp = (struct ibv_qp){.context = pd->context,
				.pd = pd,
				.send_cq = init->send_cq,
				.recv_cq = init->recv_cq,
				.state = IBV_QPS_RESET,
				.qp_num = next_number++};
	FLAT_CONTAINER_OF(init->send_cq, struct completions, cq)->pairs++;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pairs); i++) {
		if (!pairs[i]) {
			pairs[i] = q;
			return &q->qp;
		}
	}
	cr_assert(false, "more queue pairs than the support has room for");
	return NULL;
}

/* Steps of a reliable connection, and the attributes without which the kernel refuses them (ib_modify_qp_is_ok()). */
static int required(enum ibv_qp_state from, enum ibv_qp_state to)
{
	if (from == IBV_QPS_RESET && to == IBV_QPS_INIT)
		return IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	if (from == IBV_QPS_INIT && to == IBV_QPS_RTR)
		return IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
		       IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	if (from == IBV_QPS_RTR && to == IBV_QPS_RTS)
		return IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
		       IBV_QP_MAX_QP_RD_ATOMIC;
	return -1;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	struct pair *q = FLAT_CONTAINER_OF(qp, struct pair, qp);
	struct verbs_fake *d = of_context(qp->context);
	if (fails(qp->context))
		return errno;
	if (!(mask & IBV_QP_STATE) || mask != (required(qp->state, attr->qp_state) | IBV_QP_STATE))
		return EINVAL;
	if (attr->qp_state == IBV_QPS_RTS) {
		q->attr.sq_psn = attr->sq_psn;
	} else {
		if (attr->qp_state == IBV_QPS_RTR &&
		    (attr->path_mtu > d->port.active_mtu || attr->ah_attr.port_num != 1 ||
		     attr->ah_attr.grh.sgid_index >= VERBS_GIDS))
			return EINVAL;
		unsigned int access = q->attr.qp_access_flags;
		q->attr = *attr;
		if (attr->qp_state == IBV_QPS_RTR)
			q->attr.qp_access_flags = access;
	}
	qp->state = attr->qp_state;
	return 0;
}

int ibv_destroy_qp(struct ibv_qp *qp)
{
	struct pair *q = FLAT_CONTAINER_OF(qp, struct pair, qp);
	struct completions *c = FLAT_CONTAINER_OF(qp->send_cq, struct completions, cq);
	unsigned int kept = 0;
	c->pairs--;
	for (unsigned int i = 0; i < c->n; i++) {
		if (c->of[i] == qp)
			continue;
		c->wc[kept] = c->wc[i];
		c->slots[kept] = c->slots[i];
		c->of[kept++] = c->of[i];
	}
	c->n = kept;
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pairs); i++)
		pairs[i] = pairs[i] == q ? NULL : pairs[i];
	free(q->flights);
	return destroyed(qp->context, q);
}

/* --- moving --- */

static void complete(struct pair *q, struct ibv_cq *cq, const struct ibv_wc *wc, uint32_t slots)
{
	struct completions *c = FLAT_CONTAINER_OF(cq, struct completions, cq);
	cr_assert_lt(c->n, (unsigned int)cq->cqe, "the completion queue overflows");
	c->wc[c->n] = *wc;
	c->slots[c->n] = slots;
	c->of[c->n++] = &q->qp;
	if (!c->armed)
		return;
	c->armed = false;
	cr_assert_eq(write(cq->channel->refcnt, &cq, sizeof(struct ibv_cq *)),
		     (ssize_t)sizeof(struct ibv_cq *));
}

static int poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	struct completions *c = FLAT_CONTAINER_OF(cq, struct completions, cq);
	unsigned int got = (unsigned int)n < c->n ? (unsigned int)n : c->n;
	for (unsigned int i = 0; i < got; i++) {
		wc[i] = c->wc[i];
		FLAT_CONTAINER_OF(c->of[i], struct pair, qp)->sending -= c->slots[i];
	}
	c->n -= got;
	memmove(c->wc, c->wc + got, c->n * sizeof(c->wc[0]));
	memmove(c->slots, c->slots + got, c->n * sizeof(c->slots[0]));
	memmove(c->of, c->of + got, c->n * sizeof(c->of[0]));
	return (int)got;
}

static int req_notify_cq(struct ibv_cq *cq, int solicited)
{
	(void)solicited;
	if (fails(cq->context))
		return errno;
	FLAT_CONTAINER_OF(cq, struct completions, cq)->armed = true;
	return 0;
}

static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct pair *q = FLAT_CONTAINER_OF(qp, struct pair, qp);
	struct verbs_fake *d = of_context(qp->context);
	for (; wr; wr = wr->next) {
		*bad = wr;
		if (d->fail_receives > 0) {
			d->fail_receives--;
			return ENOMEM;
		}
		if (q->receives == q->cap.max_recv_wr)
			return ENOMEM;
		q->receives++;
	}
	return 0;
}

static struct region *region_of(struct ibv_pd *pd, uint32_t key, bool remote)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(regions); i++) {
		struct region *r = regions[i];
		if (r && r->mr.pd == pd && (remote ? r->mr.rkey : r->mr.lkey) == key)
			return r;
	}
	return NULL;
}

static bool inside(const struct region *r, uint64_t addr, uint64_t len)
{
	uint64_t base = (uintptr_t)r->mr.addr;
	return addr >= base && len <= r->mr.length && addr - base <= r->mr.length - len;
}

/* The other end: of this number, at this address, connected to ours, waiting for the packet number that we begin with. */
static struct pair *peer_of(const struct pair *q)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pairs); i++) {
		struct pair *p = pairs[i];
		if (!p || p->qp.qp_num != q->attr.dest_qp_num ||
		    p->attr.dest_qp_num != q->qp.qp_num ||
		    (p->qp.state != IBV_QPS_RTR && p->qp.state != IBV_QPS_RTS) ||
		    p->attr.rq_psn != q->attr.sq_psn)
			continue;
		const struct verbs_fake *d = of_context(p->qp.context);
		if (memcmp(&d->gids[p->attr.ah_attr.grh.sgid_index], &q->attr.ah_attr.grh.dgid,
			   sizeof(union ibv_gid)) == 0)
			return p;
	}
	return NULL;
}

static enum ibv_wc_status write_to(struct pair *p, const struct flight *f)
{
	struct verbs_fake *d = of_context(p->qp.context);
	if (f->wr.num_sge > 0) {
		const struct region *r = region_of(p->qp.pd, f->wr.wr.rdma.rkey, true);
		if (!r || !(r->access & IBV_ACCESS_REMOTE_WRITE) ||
		    !(p->attr.qp_access_flags & IBV_ACCESS_REMOTE_WRITE) ||
		    !inside(r, f->wr.wr.rdma.remote_addr, f->sge.length))
			return IBV_WC_REM_ACCESS_ERR;
		memcpy((uint8_t *)r->mr.addr + (f->wr.wr.rdma.remote_addr - (uintptr_t)r->mr.addr),
		       f->wr.send_flags & IBV_SEND_INLINE ? f->bytes : f->from, f->sge.length);
	}
	if (f->wr.opcode != IBV_WR_RDMA_WRITE_WITH_IMM)
		return IBV_WC_SUCCESS;
	if (p->receives == 0 || d->receives_missing > 0) {
		d->receives_missing -= d->receives_missing > 0;
		return IBV_WC_RNR_RETRY_EXC_ERR;
	}
	p->receives--;
	struct ibv_wc wc = {.opcode = IBV_WC_RECV_RDMA_WITH_IMM,
			    .qp_num = p->qp.qp_num,
			    .byte_len = f->sge.length,
			    .imm_data = f->wr.imm_data,
			    .wc_flags = IBV_WC_WITH_IMM};
	complete(p, p->qp.recv_cq, &wc, 0);
	return IBV_WC_SUCCESS;
}

static void carry_out(struct pair *q, const struct flight *f)
{
	struct verbs_fake *d = of_context(q->qp.context);
	struct pair *p = peer_of(q);
	struct ibv_wc wc = {.wr_id = f->wr.wr_id, .opcode = IBV_WC_RDMA_WRITE};
	wc.status = d->next_ends;
	d->next_ends = IBV_WC_SUCCESS;
	if (q->qp.state == IBV_QPS_ERR)
		wc.status = IBV_WC_WR_FLUSH_ERR;
	else if (wc.status == IBV_WC_SUCCESS)
		wc.status = p ? write_to(p, f) : IBV_WC_RETRY_EXC_ERR;
	d->writes++;
	d->inlined += f->sge.length > 0 && (f->wr.send_flags & IBV_SEND_INLINE);
	q->unclaimed++;
	if (wc.status != IBV_WC_SUCCESS)
		q->qp.state = IBV_QPS_ERR;
	if (wc.status == IBV_WC_SUCCESS && !(f->wr.send_flags & IBV_SEND_SIGNALED))
		return;
	complete(q, q->qp.send_cq, &wc, q->unclaimed);
	q->unclaimed = 0;
}

static void deliver(struct pair *q)
{
	for (unsigned int i = 0; i < q->n_flights; i++)
		carry_out(q, &q->flights[i]);
	q->n_flights = 0;
}

void verbs_fake_deliver(struct verbs_fake *d)
{
	for (size_t i = 0; i < FLAT_ARRAY_SIZE(pairs); i++) {
		if (pairs[i] && pairs[i]->qp.context == &d->ctx)
			deliver(pairs[i]);
	}
}

static int post_one(struct pair *q, const struct ibv_send_wr *wr)
{
	if (q->qp.state != IBV_QPS_RTS && q->qp.state != IBV_QPS_ERR)
		return EINVAL;
	if (q->sending == q->cap.max_send_wr || wr->num_sge > (int)q->cap.max_send_sge)
		return ENOMEM;
	cr_assert_lt(q->n_flights, FLIGHTS_MAX);
	struct flight *f = &q->flights[q->n_flights++];
	f->wr = *wr;
	f->wr.next = NULL;
	f->wr.sg_list = NULL;
	memset(&f->sge, 0, sizeof(f->sge));
	if (wr->num_sge > 0) {
		f->sge = wr->sg_list[0];
		const struct region *r = region_of(q->qp.pd, f->sge.lkey, false);
		cr_assert(r && inside(r, f->sge.addr, f->sge.length), "bytes of no region");
		f->from = (uint8_t *)r->mr.addr + (f->sge.addr - (uintptr_t)r->mr.addr);
		cr_assert(!(wr->send_flags & IBV_SEND_INLINE) ||
			  f->sge.length <= q->cap.max_inline_data);
		if (wr->send_flags & IBV_SEND_INLINE)
			memcpy(f->bytes, f->from, f->sge.length);
	}
	q->sending++;
	return 0;
}

static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct pair *q = FLAT_CONTAINER_OF(qp, struct pair, qp);
	struct verbs_fake *d = of_context(qp->context);
	for (; wr; wr = wr->next) {
		*bad = wr;
		if (d->fail_posts > 0) {
			d->fail_posts--;
			return ENOMEM;
		}
		int err = post_one(q, wr);
		if (err != 0)
			return err;
	}
	if (!d->held)
		deliver(q);
	return 0;
}
