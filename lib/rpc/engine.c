/* The engine: what is ready, what epoll tells, time. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#include <flat/socket.h>

#include "rpc/rpc.h"

#define EVENTS 64
#define BACKLOG 128
#define ACCEPTS 16

void flat_rpc_wake(struct flat_rpc_call *call)
{
	if (call->ready)
		return;
	call->ready = true;
	TAILQ_INSERT_TAIL(&call->rpc->ready, call, ready_link);
}

void flat_rpc_dirty(struct flat_rpc_conn *conn)
{
	if (!conn || conn->dirty)
		return;
	conn->dirty = true;
	TAILQ_INSERT_TAIL(&conn->rpc->dirty, conn, dirty_link);
}

/* --- life --- */

int flat_rpc_open(struct flat_rpc **out)
{
	struct flat_rpc *rpc = calloc(1, sizeof(*rpc));

	if (!rpc)
		return -ENOMEM;
	rpc->epfd = flat_epoll_create1(EPOLL_CLOEXEC);
	if (rpc->epfd < 0) {
		int err = -errno;

		free(rpc);
		return err;
	}
	TAILQ_INIT(&rpc->conns);
	TAILQ_INIT(&rpc->dirty);
	TAILQ_INIT(&rpc->channels);
	TAILQ_INIT(&rpc->listeners);
	TAILQ_INIT(&rpc->ready);
	TAILQ_INIT(&rpc->all);
	TAILQ_INIT(&rpc->spare);
	*out = rpc;
	return 0;
}

static void flush(struct flat_rpc *rpc)
{
	struct flat_rpc_conn *conn;

	while ((conn = TAILQ_FIRST(&rpc->dirty)) != NULL)
		flat_rpc_conn_flush(conn);
}

void flat_rpc_close(struct flat_rpc *rpc)
{
	struct flat_rpc_listener *listener;
	struct flat_rpc_channel *channel;
	struct flat_rpc_conn *conn;
	struct flat_rpc_call *call;

	if (!rpc)
		return;
	/* Answers that are given already go out, as far as there is room. */
	flush(rpc);
	while ((channel = TAILQ_FIRST(&rpc->channels)) != NULL)
		flat_rpc_channel_close(channel);
	while ((conn = TAILQ_FIRST(&rpc->conns)) != NULL)
		flat_rpc_conn_end(conn, NULL);
	while ((listener = TAILQ_FIRST(&rpc->listeners)) != NULL) {
		TAILQ_REMOVE(&rpc->listeners, listener, link);
		flat_close(listener->source.fd);
		free(listener);
	}
	while ((call = TAILQ_FIRST(&rpc->all)) != NULL)
		flat_rpc_call_free(call);
	while ((call = TAILQ_FIRST(&rpc->spare)) != NULL) {
		TAILQ_REMOVE(&rpc->spare, call, all_link);
		flat_rpc_call_destroy(call);
	}
	flat_close(rpc->epfd);
	free(rpc);
}

/* --- listening --- */

static int make_address(const char *text, uint16_t port, struct sockaddr_storage *to,
			socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		*len = sizeof(*v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		return -EINVAL;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	*len = sizeof(*v6);
	return 0;
}

/* The port, or a negative errno. */
static int listen_on(int fd, const struct sockaddr_storage *addr, socklen_t len)
{
	struct sockaddr_storage bound;
	int on = 1;

	if (flat_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    flat_bind(fd, (const struct sockaddr *)addr, len) < 0 || flat_listen(fd, BACKLOG) < 0 ||
	    flat_getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
		return -errno;
	/* The port lies at the same place in both families. */
	return ntohs(((struct sockaddr_in *)&bound)->sin_port);
}

int flat_rpc_listen(struct flat_rpc *rpc, const char *address, uint16_t port)
{
	struct sockaddr_storage addr;
	struct flat_rpc_listener *listener;
	socklen_t len;
	int fd;
	int ret = make_address(address, port, &addr, &len);

	if (ret != 0)
		return ret;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	fd = flat_socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ret = fd < 0 ? -errno : listen_on(fd, &addr, len);
	if (ret > 0) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = listener};

		listener->source = (struct flat_rpc_source){fd, true};
		if (flat_epoll_ctl(rpc->epfd, EPOLL_CTL_ADD, fd, &event) == 0) {
			TAILQ_INSERT_TAIL(&rpc->listeners, listener, link);
			return ret;
		}
		ret = -errno;
	}
	if (fd >= 0)
		flat_close(fd);
	free(listener);
	return ret;
}

static void accept_some(struct flat_rpc *rpc, const struct flat_rpc_listener *listener)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd =
		    flat_accept4(listener->source.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		/* Without memory it is closed: its client is told so. */
		(void)flat_rpc_conn_new(rpc, fd, FLAT_HTTP2_SERVER);
	}
}

/* --- what is told --- */

static void tell(struct flat_rpc_event *event, struct flat_rpc_call *call, enum flat_rpc_kind kind)
{
	*event =
	    (struct flat_rpc_event){.kind = kind, .call = call, .user = call->user, .text = ""};
}

static void tell_head(struct flat_rpc_event *event, struct flat_rpc_call *call)
{
	call->announced = true;
	tell(event, call, call->client ? FLAT_RPC_METADATA : FLAT_RPC_CALLED);
	event->method = call->client ? NULL : call->text;
	event->metadata = call->rpc->fields;
	event->n_metadata = flat_rpc_fields(call->rpc, &call->rpc->reader.head, call->head.v);
}

static void tell_message(struct flat_rpc_event *event, struct flat_rpc_call *call)
{
	const uint8_t *v = call->message.v + call->message.at;

	tell(event, call, FLAT_RPC_MESSAGE);
	event->data = v + FLAT_RPC_PREFIX;
	event->len = (size_t)v[1] << 24 | (size_t)v[2] << 16 | (size_t)v[3] << 8 | v[4];
	call->given = event->len + FLAT_RPC_PREFIX;
}

static void tell_end(struct flat_rpc_event *event, struct flat_rpc_call *call)
{
	struct flat_http1 *p = &call->rpc->trailers;

	call->told = true;
	tell(event, call, FLAT_RPC_ENDED);
	event->status = (enum flat_rpc_status)call->status;
	event->text = call->text;
	event->metadata = call->rpc->fields;
	flat_http1_begin(p, FLAT_HTTP1_TRAILERS);
	if (call->tail.len > 0 && flat_http1_read(p, call->tail.v, call->tail.len) > 0) {
		event->n_metadata = flat_rpc_fields(call->rpc, &p->head, call->tail.v);
		return;
	}
	/* Trailers alone. */
	flat_http1_begin(p, FLAT_HTTP1_RESPONSE);
	if (call->client && call->trailers_only &&
	    flat_http1_read(p, call->head.v, call->head.len) > 0)
		event->n_metadata = flat_rpc_fields(call->rpc, &p->head, call->head.v);
}

/* A call whose user is done with it: gone once everything is said. */
static void go_on_alone(struct flat_rpc_call *call)
{
	if (!call->stream || flat_http2_is_reset(call->stream) ||
	    flat_rpc_bytes_left(&call->out) == 0)
		flat_rpc_call_free(call);
	else {
		call->ready = false;
		TAILQ_REMOVE(&call->rpc->ready, call, ready_link);
	}
}

/* False: nothing; then it is in the list no more, or gone. */
static bool produce(struct flat_rpc_call *call, struct flat_rpc_event *event)
{
	call->message.at += call->given;
	call->given = 0;
	flat_rpc_call_push(call);
	if (!call->ours && !call->told)
		flat_rpc_call_read(call);
	if (!call->client && call->ended && !call->announced)
		call->ours = true;
	if (call->ours) {
		go_on_alone(call);
		return false;
	}
	/* The status of a call whose last message is not whole is ours to say. */
	if (call->stage == FLAT_RPC_OVER && !call->told && call->status <= FLAT_RPC_OK &&
	    flat_rpc_bytes_left(&call->message) > 0 && !flat_rpc_call_has_message(call)) {
		call->ended = false;
		call->message.at = call->message.len;
		flat_rpc_call_end(call, FLAT_RPC_INTERNAL, "a message breaks off");
	}
	TAILQ_REMOVE(&call->rpc->ready, call, ready_link);
	TAILQ_INSERT_TAIL(&call->rpc->ready, call, ready_link);
	if (!call->announced && call->stage == FLAT_RPC_BODY) {
		tell_head(event, call);
		return true;
	}
	if (!call->told && !call->held && flat_rpc_call_has_message(call)) {
		tell_message(event, call);
		return true;
	}
	if (!call->client && call->stage == FLAT_RPC_OVER && !call->sent_told && !call->ended) {
		call->sent_told = true;
		tell(event, call, FLAT_RPC_SENT);
		return true;
	}
	if (call->stalled && flat_rpc_bytes_left(&call->out) == 0 && !call->closed) {
		call->stalled = false;
		tell(event, call, FLAT_RPC_WRITABLE);
		return true;
	}
	/* Messages go before the status they came with. */
	if (call->ended && !call->told &&
	    !(call->held && call->status == FLAT_RPC_OK && flat_rpc_call_has_message(call))) {
		tell_end(event, call);
		return true;
	}
	call->ready = false;
	TAILQ_REMOVE(&call->rpc->ready, call, ready_link);
	return false;
}

static bool next_ready(struct flat_rpc *rpc, struct flat_rpc_event *event)
{
	struct flat_rpc_call *call;

	while ((call = TAILQ_FIRST(&rpc->ready)) != NULL) {
		if (produce(call, event))
			return true;
	}
	return false;
}

/* --- time --- */

static void expire(struct flat_rpc *rpc)
{
	struct flat_rpc_call *call;
	int64_t now = flat_now_us();

	if (now < rpc->due_us)
		return;
	rpc->due_us = 0;
	TAILQ_FOREACH(call, &rpc->all, all_link)
	{
		if (call->due_us == 0)
			continue;
		if (call->due_us > now) {
			if (rpc->due_us == 0 || call->due_us < rpc->due_us)
				rpc->due_us = call->due_us;
			continue;
		}
		/* What was said to the end is said: only the wait is over. */
		if (!call->ours && call->stream) {
			flat_http2_reset(call->stream, FLAT_HTTP2_CANCEL);
			flat_rpc_dirty(call->conn);
		}
		call->stage = FLAT_RPC_OVER;
		flat_rpc_call_end(call, FLAT_RPC_DEADLINE_EXCEEDED, "deadline exceeded");
	}
}

/* Until the caller's time or the next deadline, whichever is first; rounded up. */
static int wait_ms(const struct flat_rpc *rpc, int64_t end_us)
{
	int64_t until = rpc->due_us && (end_us < 0 || rpc->due_us < end_us) ? rpc->due_us : end_us;
	int64_t left;

	if (until < 0)
		return -1;
	left = until == 0 ? 0 : until - flat_now_us();
	return left <= 0 ? 0 : (int)flat_min_size((size_t)(left + 999) / 1000, INT32_MAX);
}

static int wait_and_move(struct flat_rpc *rpc, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n = flat_epoll_wait(rpc->epfd, events, EVENTS, timeout_ms);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct flat_rpc_source *source = events[i].data.ptr;

		if (source->listens)
			accept_some(rpc, (void *)source);
		else
			flat_rpc_conn_move((void *)source, events[i].events);
	}
	return n;
}

int flat_rpc_next(struct flat_rpc *rpc, struct flat_rpc_event *event, int timeout_ms)
{
	int64_t end_us = timeout_ms < 0	   ? -1
			 : timeout_ms == 0 ? 0
					   : flat_now_us() + (int64_t)timeout_ms * 1000;
	bool late = false;

	for (;;) {
		int n;

		if (next_ready(rpc, event))
			return 1;
		flush(rpc);
		if (rpc->due_us)
			expire(rpc);
		/* Saying something made room, or ended something. */
		if (!TAILQ_EMPTY(&rpc->ready) || !TAILQ_EMPTY(&rpc->dirty))
			continue;
		if (late)
			return 0;
		n = wait_and_move(rpc, wait_ms(rpc, end_us));
		if (n < 0)
			return n;
		late = n == 0 && end_us >= 0 && (end_us == 0 || flat_now_us() >= end_us);
	}
}
