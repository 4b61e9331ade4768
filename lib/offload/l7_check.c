#include "offload/l7_check.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "codec/grpc.h"
#include "offload/l7_check_grpc.h"

/* Bytes of an authorizer's answer: a head, and a body that a client is shown. */
#define BODY_MAX ((size_t)32 * 1024)
#define IN_BYTES (BODY_MAX + (size_t)64 * 1024)
/* Idle connections kept, of all authorizers together. */
#define IDLE_MAX 64U
/* Of the name of a trailer that is looked for in lists; longer ones have no place beside authorizers. */
#define NAME_BYTES 256U

enum state {
	ASKING,
	ALLOWED,
	DENIED,
	FAILED,
};

/* A connection to an authorizer. Owner: its check; idle ones: the node. */
struct link {
	TAILQ_ENTRY(link) entry;
	struct flat_source source;
	struct flat_l7_node *node;
	struct flat_l7_check *check; /* NULL: idle */
	struct sockaddr_storage addr;
	socklen_t addr_len;
	bool used; /* an answer came on it before */
	/* Of one that speaks HTTP/2: one question at a time is a stream on it. */
	struct flat_http2 *h2;
	struct flat_http2_stream *stream;
	const uint8_t *frame; /* bytes of the codec's that are not sent yet */
	size_t frame_len;
	int grpc_status; /* of the answer; -1: none was seen */
	size_t at, len;
	struct flat_http1 in, trailers;
	struct flat_http1_body body;
	bool head; /* read */
	uint8_t bytes[IN_BYTES];
};

struct flat_l7_check {
	struct flat_l7_check *next; /* the one before it, of another provider */
	struct flat_l7 *l7;
	/* What it is about; compared only. */
	uint64_t epoch;
	uint32_t provider;
	const struct flat_workload *workload;
	bool is_head;
	enum state state;
	struct link *link; /* while ASKING */
	bool again;	   /* it was asked on a connection that had been closed */
	int64_t deadline_us;
	struct flat_strbuf out; /* the question */
	size_t out_at;
	struct flat_l7_check_answer a;
	char why[96]; /* FAILED */
};

TAILQ_HEAD(links, link);

struct flat_l7_checks {
	struct links idle;
	uint32_t n_idle;
};

static void release(struct link *k)
{
	if (k->stream)
		flat_http2_release(k->stream);
	k->stream = NULL;
}

static void link_free(struct link *k)
{
	release(k);
	flat_http2_close(k->h2);
	flat_loop_close(&k->node->offload->loop, &k->source);
	free(k);
}

static void drop_link(struct flat_l7_check *c)
{
	if (c->link)
		link_free(c->link);
	c->link = NULL;
}

/* --- the answer --- */

/* The request is looked at again, whatever came of it. */
static void settle(struct flat_l7_check *c, enum state state, const char *why)
{
	c->state = state;
	snprintf(c->why, sizeof(c->why), "%s", why);
	flat_l7_resume(c->l7);
}

static void fail(struct flat_l7_check *c, const char *why)
{
	drop_link(c);
	settle(c, FAILED, why);
}

static void keep_link(struct flat_l7_check *c)
{
	struct link *k = c->link;
	struct flat_l7_checks *all = k->node->checks;

	c->link = NULL;
	k->check = NULL;
	release(k);
	if ((k->h2 && !flat_http2_usable(k->h2)) || !k->in.head.keep_alive ||
	    k->body.kind == FLAT_BODY_OPAQUE || k->at != k->len || all->n_idle >= IDLE_MAX) {
		link_free(k);
		return;
	}
	k->used = true;
	k->at = k->len = 0;
	k->head = false;
	TAILQ_INSERT_HEAD(&all->idle, k, entry);
	all->n_idle++;
}

/* The provider again: a reload may have come between. NULL: it is another now. */
static const struct flat_ext_authz *provider_of(const struct flat_l7_check *c)
{
	const struct flat_offload *o = c->l7->node->offload;

	return c->epoch == o->epoch ? flat_mesh_ext_authz_at(o->mesh, c->provider) : NULL;
}

/* 1: the answer is whole, 0: more is needed, -EBADMSG. */
static int read_answer(struct flat_l7_check *c)
{
	struct link *k = c->link;
	struct flat_piece piece;
	ssize_t n;

	while (!k->head) {
		int head = flat_http1_read(&k->in, k->bytes + k->at, k->len - k->at);

		if (head <= 0)
			return head;
		if (k->in.head.status < 200) {
			k->at += (size_t)head;
			flat_http1_begin(&k->in, FLAT_HTTP1_RESPONSE);
			continue;
		}
		/* Its fields are offsets from the front. */
		memmove(k->bytes, k->bytes + k->at, k->len - k->at);
		k->len -= k->at;
		k->at = (size_t)head;
		k->head = true;
		flat_http1_body_begin(&k->body,
				      flat_http1_response_body(&k->in.head, c->is_head
										? FLAT_METHOD_HEAD
										: FLAT_METHOD_GET),
				      k->in.head.length);
	}
	for (;;) {
		n = flat_http1_body_read(&k->body, k->bytes + k->at, k->len - k->at, &k->trailers,
					 &piece);
		if (n < 0)
			return -EBADMSG;
		/* The piece that ends it is its trailers. */
		if (k->h2 && n > 0 && k->body.over && k->body.kind == FLAT_BODY_CHUNKED)
			k->grpc_status = flat_grpc_status_read(flat_head_field(
			    &k->trailers.head, k->bytes + k->at, flat_span_of("grpc-status")));
		if (piece.kind == FLAT_PIECE_END)
			return 1;
		if (piece.kind == FLAT_PIECE_DATA) {
			if (piece.size > BODY_MAX - c->a.body.len)
				return -EBADMSG;
			flat_strbuf_add(&c->a.body, k->bytes + k->at, (size_t)piece.size);
		}
		k->at += (size_t)n;
		if (n == 0 && !k->body.over)
			return 0;
	}
}

/* Who is let through must not go without what the authorizer sets in the request. */
static void decided(struct flat_l7_check *c, bool allowed)
{
	if (!allowed)
		settle(c, DENIED, "");
	else if (!flat_l7_check_answer_whole(&c->a))
		settle(c, FAILED, "no memory");
	else
		settle(c, ALLOWED, "");
}

/* The answer of one that speaks gRPC. */
static void answered_grpc(struct flat_l7_check *c)
{
	struct link *k = c->link;
	struct flat_strbuf message = c->a.body;
	bool bad;

	if (k->grpc_status < 0)
		k->grpc_status = flat_grpc_status_read(
		    flat_head_field(&k->in.head, k->bytes, flat_span_of("grpc-status")));
	bad = k->in.head.status != 200 || k->grpc_status != 0;
	c->a.body = (struct flat_strbuf){0};
	keep_link(c);
	if (bad)
		settle(c, FAILED, "its answer is an error");
	else if (flat_l7_check_grpc_read(message.data, message.len, &c->a) != 0)
		settle(c, FAILED, "its answer is malformed");
	else if (c->a.error)
		settle(c, FAILED, "it says that it failed");
	else
		decided(c, c->a.allowed);
	flat_strbuf_fini(&message);
}

static void answered(struct flat_l7_check *c)
{
	const struct flat_ext_authz *ext = provider_of(c);

	if (c->link->h2) {
		answered_grpc(c);
		return;
	}
	c->a.status = c->link->in.head.status;
	if (ext)
		flat_l7_check_http_take(&c->link->in.head, c->link->bytes, ext, &c->a);
	keep_link(c);
	if (!ext)
		settle(c, FAILED, "the configuration changed");
	else if (c->a.status >= 500)
		settle(c, FAILED, "its answer is an error");
	else
		decided(c, c->a.status == 200);
}

/* --- the connection --- */

static void ask(struct flat_l7_check *c);

/* A kept connection may have been closed meanwhile: once more on a new one. */
static void broke(struct flat_l7_check *c, const char *why)
{
	bool stale = c->link->used && c->link->len == 0 && !c->again;

	if (!stale) {
		fail(c, why);
		return;
	}
	drop_link(c);
	c->again = true;
	c->out_at = 0;
	ask(c);
}

/* Sends what the codec has to say. 0, or why not. */
static int drain(struct link *k)
{
	for (;;) {
		ssize_t n = 0;

		if (k->frame_len == 0) {
			n = flat_http2_drain(k->h2, &k->frame);
			if (n <= 0)
				return (int)n;
			k->frame_len = (size_t)n;
		}
		n = flat_sys_send(k->source.fd, k->frame, k->frame_len,
				  MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return n == -EAGAIN ? 0 : (int)n;
		k->frame += n;
		k->frame_len -= (size_t)n;
	}
}

/* Sends the question, as far as there is room. 0, or why not. */
static int send_question(struct flat_l7_check *c)
{
	struct link *k = c->link;

	while (c->out_at < c->out.len) {
		ssize_t n =
		    k->h2 ? flat_http2_write(k->stream, (const uint8_t *)c->out.data + c->out_at,
					     c->out.len - c->out_at)
			  : flat_sys_send(k->source.fd, c->out.data + c->out_at,
					  c->out.len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n == -EAGAIN || n == 0)
			break;
		if (n < 0)
			return (int)n;
		c->out_at += (size_t)n;
	}
	return k->h2 ? drain(k) : 0;
}

/* Bytes from an authorizer that speaks HTTP/2. Their count, 0: its end, or a negative errno. */
static ssize_t feed(struct link *k)
{
	uint8_t bytes[16 * 1024];
	ssize_t n = flat_sys_recv(k->source.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0 && flat_http2_feed(k->h2, bytes, (size_t)n, flat_now_us()) != 0)
		return -EPROTO;
	return n;
}

/* Reads what is there: the last result of it, and -EMSGSIZE for an answer that is too large. */
static ssize_t receive(struct link *k)
{
	ssize_t n;

	do {
		if (k->len == sizeof(k->bytes))
			return -EMSGSIZE;
		n = k->h2 ? feed(k)
			  : flat_sys_recv(k->source.fd, k->bytes + k->len,
					  sizeof(k->bytes) - k->len, MSG_DONTWAIT);
		if (k->h2)
			k->len += flat_http2_read(k->stream, k->bytes + k->len,
						  sizeof(k->bytes) - k->len);
		else if (n > 0)
			k->len += (size_t)n;
	} while (n > 0);
	if (k->h2 && n == -EAGAIN && flat_http2_is_reset(k->stream))
		return -ECONNRESET;
	return n;
}

static void pump(struct flat_l7_check *c)
{
	struct link *k = c->link;
	int ret = send_question(c);
	ssize_t n;

	if (ret < 0) {
		broke(c, strerror(-ret));
		return;
	}
	n = receive(k);
	/* It may have opened the window for the rest of the question. */
	if (k->h2 && n == -EAGAIN && send_question(c) < 0)
		n = -EPIPE;
	if (n == -EMSGSIZE) {
		fail(c, "its answer is too large");
		return;
	}
	ret = read_answer(c);
	if (ret > 0 || (ret == 0 && n == 0 && k->head && k->body.kind == FLAT_BODY_OPAQUE))
		answered(c);
	else if (ret < 0)
		fail(c, "its answer is malformed");
	else if (n == 0 || (n < 0 && n != -EAGAIN))
		broke(c, "the connection ended before its answer");
}

/* What an authorizer says that nobody asked: over HTTP/2 a word about the connection. False: it is over. */
static bool heard_idle(struct link *k)
{
	char byte;

	if (!k->h2)
		return flat_sys_recv(k->source.fd, &byte, 1, MSG_DONTWAIT) == -EAGAIN;
	for (;;) {
		ssize_t n = feed(k);

		if (n <= 0)
			return n == -EAGAIN && drain(k) == 0 && flat_http2_usable(k->h2);
	}
}

static void on_ready(struct flat_source *source, int events)
{
	struct link *k = FLAT_CONTAINER_OF(source, struct link, source);

	(void)events;
	if (k->check) {
		pump(k->check);
		return;
	}
	if (heard_idle(k))
		return;
	TAILQ_REMOVE(&k->node->checks->idle, k, entry);
	k->node->checks->n_idle--;
	link_free(k);
}

static struct link *idle_link(struct flat_l7_node *node, const struct sockaddr_storage *addr,
			      socklen_t len, bool h2)
{
	struct link *k;

	TAILQ_FOREACH(k, &node->checks->idle, entry)
	{
		if ((k->h2 != NULL) == h2 && k->addr_len == len && memcmp(&k->addr, addr, len) == 0)
			break;
	}
	if (!k)
		return NULL;
	TAILQ_REMOVE(&node->checks->idle, k, entry);
	node->checks->n_idle--;
	return k;
}

/* What flat_http2 calls: a link is looked at when its socket is. */
static void on_wake(void *user)
{
	(void)user;
}

static int new_link(struct flat_l7_check *c, const struct sockaddr_storage *addr, socklen_t len,
		    bool h2)
{
	struct flat_l7_node *node = c->l7->node;
	struct link *k = calloc(1, sizeof(*k));
	int fd, err;

	if (!k || (h2 && flat_http2_open(&k->h2, FLAT_HTTP2_CLIENT, on_wake) != 0)) {
		free(k);
		return -ENOMEM;
	}
	fd = flat_sys_socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		flat_http2_close(k->h2);
		free(k);
		return fd;
	}
	k->node = node;
	k->check = c;
	k->addr = *addr;
	k->addr_len = len;
	flat_http1_begin(&k->in, FLAT_HTTP1_RESPONSE);
	/* Until it is open a send says EAGAIN, and then why it is not. */
	err = flat_sys_connect(fd, (const struct sockaddr *)addr, len);
	if (err == 0 || err == -EINPROGRESS)
		err = flat_loop_poll(&node->offload->loop, &k->source, fd,
				     POLLIN | POLLOUT | POLLRDHUP, on_ready);
	if (err != 0) {
		close(fd);
		flat_http2_close(k->h2);
		free(k);
		return err;
	}
	c->link = k;
	return 0;
}

static void ask(struct flat_l7_check *c)
{
	const struct flat_ext_authz *ext = provider_of(c);
	struct sockaddr_storage addr;
	socklen_t len;
	int err;

	len = ext ? flat_l7_address_of(c->l7->node, ext->service, ext->port, &addr) : 0;
	if (len == 0) {
		settle(c, FAILED, "it has no endpoint");
		return;
	}
	c->link = c->again ? NULL : idle_link(c->l7->node, &addr, len, ext->grpc);
	if (!c->link) {
		err = new_link(c, &addr, len, ext->grpc);
		if (err != 0) {
			settle(c, FAILED, strerror(-err));
			return;
		}
	}
	c->link->check = c;
	c->link->grpc_status = -1;
	flat_http1_begin(&c->link->in, FLAT_HTTP1_RESPONSE);
	if (ext->grpc) {
		c->link->stream = flat_http2_stream_open(c->link->h2, c->link);
		if (!c->link->stream) {
			fail(c, "no memory");
			return;
		}
	}
	if (c->link->used)
		pump(c);
}

/* --- the verdict --- */

/* The answer that the authorizer has for the client. */
static enum flat_l7_verb deny(const struct flat_l7_check *c, unsigned status,
			      struct flat_l7_answer *a)
{
	const struct flat_strbuf *said = &c->a.client[FLAT_L7_SAY_ADD];
	const char *lines = flat_strbuf_str(said);

	flat_l7_text(a, status, FLAT_VERDICT_EXTERNAL, NULL);
	a->body = flat_strbuf_str(&c->a.body);
	a->len = a->body ? c->a.body.len : 0;
	/* Whole or not at all. */
	bool fits = lines && said->len < sizeof(a->fields);
	if (fits)
		memcpy(a->fields, lines, said->len + 1);
	/* As Envoy: else clients guess at what it is, and may take it for a page. */
	if (a->len > 0 && !(fits && flat_l7_lines_have(said, flat_span_of("content-type"))))
		a->type = "text/plain";
	return FLAT_L7_ANSWER;
}

static enum flat_l7_verb failed(struct flat_l7 *l7, const struct flat_l7_check *c,
				const struct flat_ext_authz *ext, struct flat_l7_answer *a)
{
	if (flat_l7_may_tell(l7->node))
		flat_warn("external authorizer %s (%s:%u): %s; the request is %s", ext->name,
			  ext->where.file ? ext->where.file : "-", ext->where.line, c->why,
			  ext->fail_open ? "allowed" : "refused");
	if (ext->fail_open)
		return FLAT_L7_GO;
	if (c->a.error)
		return deny(c, c->a.status ? c->a.status : ext->status_on_error, a);
	flat_l7_text(a, ext->status_on_error, FLAT_VERDICT_EXTERNAL, NULL);
	return FLAT_L7_ANSWER;
}

/* Does what the authorizer says to the request. */
static enum flat_l7_verb allow(struct flat_l7 *l7, const struct flat_l7_check *c,
			       struct flat_http_request *request, size_t *len,
			       struct flat_l7_answer *a)
{
	if (flat_l7_said_apply(l7, &c->a, request, len) == 0)
		return FLAT_L7_GO;
	flat_l7_text(a, 431, FLAT_VERDICT_MALFORMED, NULL);
	return FLAT_L7_ANSWER;
}

static void free_one(struct flat_l7_check *c)
{
	drop_link(c);
	flat_strbuf_fini(&c->out);
	flat_l7_check_answer_fini(&c->a);
	free(c);
}

/* What a provider was asked, or NULL. What was asked in another configuration, or about another server, is dropped. */
static struct flat_l7_check *find_check(struct flat_l7_check **list, uint64_t epoch,
					const struct flat_workload *workload, uint32_t provider)
{
	struct flat_l7_check *found = NULL;

	while (*list) {
		struct flat_l7_check *c = *list;

		if (c->epoch != epoch || c->workload != workload) {
			*list = c->next;
			free_one(c);
			continue;
		}
		if (c->provider == provider)
			found = c;
		list = &c->next;
	}
	return found;
}

static bool begin(struct flat_l7 *l7, enum flat_l7_asker asker, const struct flat_ext_authz *ext,
		  const struct flat_workload *workload, const struct flat_http_request *request,
		  const struct flat_l7_check_body *body)
{
	struct flat_l7_check **list = &l7->x.check[asker];
	struct flat_l7_check *c = calloc(1, sizeof(*c));

	if (!c)
		return false;
	c->l7 = l7;
	c->epoch = l7->node->offload->epoch;
	c->provider = ext->index;
	c->workload = workload;
	c->is_head = !ext->grpc && flat_span_equal(request->method, flat_span_of("HEAD"), false);
	c->deadline_us = flat_now_us() + (int64_t)ext->timeout_ms * 1000;
	c->next = *list;
	*list = c;
	if (ext->grpc)
		flat_l7_check_grpc_write(&c->out, l7, asker, ext, request, body);
	else
		flat_l7_check_http_write(&c->out, ext, request, body);
	if (!flat_strbuf_str(&c->out))
		settle(c, FAILED, "no memory");
	else
		ask(c);
	return true;
}

enum flat_l7_verb flat_l7_check(struct flat_l7 *l7, enum flat_l7_asker asker,
				const struct flat_ext_authz *ext, struct flat_http_request *request,
				size_t *len, struct flat_l7_answer *a)
{
	const struct flat_workload *workload = asker == FLAT_L7_ASKED_BY_GATE
						   ? l7->x.client
						   : l7->x.target.listener->session->workload;
	struct flat_l7_check **list = &l7->x.check[asker];
	struct flat_l7_check *c = find_check(list, l7->node->offload->epoch, workload, ext->index);

	if (!c) {
		struct flat_l7_check_body body = {.partial = false};
		/* Of a request without a body nothing is said of one, as by Envoy. */
		bool shown = ext->body_max && l7->in.head.body != FLAT_BODY_NONE;
		enum flat_l7_verb verb =
		    shown ? flat_l7_check_gather(l7, ext, &body, a) : FLAT_L7_GO;
		bool begun = verb == FLAT_L7_GO &&
			     begin(l7, asker, ext, workload, request, shown ? &body : NULL);

		flat_strbuf_fini(&body.bytes);
		if (!begun)
			return verb == FLAT_L7_GO ? FLAT_L7_LATER : verb;
		c = *list;
	}
	if (c->state == ASKING && flat_now_us() >= c->deadline_us)
		fail(c, "no answer in time");
	switch (c->state) {
	case ALLOWED:
		return allow(l7, c, request, len, a);
	case DENIED:
		return deny(c, c->a.status > 599 ? 403 : c->a.status, a);
	case FAILED:
		return failed(l7, c, ext, a);
	default:
		return FLAT_L7_LATER;
	}
}

void flat_l7_check_put(const struct flat_l7_check *c, const struct flat_http_head *h,
		       const void *text, struct flat_http1_out *out)
{
	for (; c; c = c->next) {
		if (c->state == ALLOWED)
			flat_l7_said_answer(&c->a, h, text, out);
	}
}

bool flat_l7_check_takes(const struct flat_l7_exchange *x, struct flat_span name)
{
	for (size_t i = 0; i < FLAT_L7_CHECKS; i++) {
		const struct flat_l7_check *c = x->check[i];

		for (; c; c = c->next) {
			if (c->state == ALLOWED && flat_l7_said_takes(&c->a, name))
				return true;
		}
	}
	return false;
}

static bool check_drops(const struct flat_l7_check *c, struct flat_span name)
{
	const struct flat_ext_authz *ext = provider_of(c);
	char dashed[NAME_BYTES];

	if (flat_l7_said_drops(&c->a, name))
		return true;
	if (!ext || ext->to_upstream.n == 0)
		return false;
	if (name.len > sizeof(dashed))
		return true;
	for (size_t i = 0; i < name.len; i++)
		dashed[i] = (char)(name.text[i] == '_' ? '-' : name.text[i]);
	return flat_name_list_has(&ext->to_upstream, name) ||
	       flat_name_list_has(&ext->to_upstream, (struct flat_span){dashed, name.len});
}

bool flat_l7_check_drops(const struct flat_l7_check *c, struct flat_span name)
{
	while (c && !check_drops(c, name))
		c = c->next;
	return c != NULL;
}

void flat_l7_check_free(struct flat_l7_check *c)
{
	while (c) {
		struct flat_l7_check *next = c->next;

		free_one(c);
		c = next;
	}
}

int flat_l7_check_init(struct flat_l7_node *node)
{
	node->checks = calloc(1, sizeof(*node->checks));
	if (!node->checks)
		return -ENOMEM;
	TAILQ_INIT(&node->checks->idle);
	return 0;
}

void flat_l7_check_fini(struct flat_l7_node *node)
{
	struct link *k;

	while (node->checks && (k = TAILQ_FIRST(&node->checks->idle)) != NULL) {
		TAILQ_REMOVE(&node->checks->idle, k, entry);
		link_free(k);
	}
	free(node->checks);
}
