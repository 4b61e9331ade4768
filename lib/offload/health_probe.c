#include "offload/health_probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"
#include "codec/protobuf.h"
#include "offload/grpc_client.h"
#include "offload/worker.h"

/* Bytes of an answer over TCP among which its pieces are looked for. */
#define ANSWER_MAX 16384U
/* HealthCheckResponse.status: SERVING. */
#define SERVING 1U

struct flat_probe {
	struct flat_loop *loop;
	const struct flat_health_check *check;
	flat_probe_fn *fn;
	void *arg;
	struct flat_addr from;
	struct flat_call *call; /* HTTP, gRPC */
	/* TCP */
	struct flat_source source;
	int64_t deadline_us;
	uint32_t sent;
	uint32_t matched;      /* pieces of the answer that were found */
	struct flat_strbuf in; /* the answer; made where one is waited for */
	size_t at;	       /* behind the last piece found */
};

static void finish(struct flat_probe *p, enum flat_health_result result, const char *why)
{
	flat_probe_fn *fn = p->fn;
	void *arg = p->arg;
	char text[128];

	/* It may be the call's, which ends with it. */
	snprintf(text, sizeof(text), "%s", why);
	flat_probe_cancel(p);
	fn(arg, result, text);
}

/* --- HTTP and gRPC --- */

/* HealthCheckResponse: status 1. */
static bool is_serving(const uint8_t *bytes, size_t len)
{
	struct flat_protobuf_field f;
	uint64_t status = 0;
	size_t at = 0;

	while (flat_protobuf_next(bytes, len, &at, &f) > 0) {
		if (f.number == 1 && !f.is_bytes)
			status = f.value;
	}
	return status == SERVING;
}

static void on_answer(void *arg, const struct flat_call_answer *a)
{
	struct flat_probe *p = arg;
	char text[64];

	p->call = NULL;
	if (a->why) {
		finish(p, FLAT_HEALTH_SILENT, a->why);
	} else if (p->check->kind == FLAT_HEALTH_HTTP) {
		snprintf(text, sizeof(text), "status %u", a->status);
		finish(p, flat_health_of_status(p->check, a->status), text);
	} else if (a->status != 200 || a->grpc != 0) {
		snprintf(text, sizeof(text), "grpc-status %d", a->grpc);
		finish(p, FLAT_HEALTH_REFUSED, text);
	} else if (is_serving(a->bytes, a->len)) {
		finish(p, FLAT_HEALTH_PASSED, "SERVING");
	} else {
		finish(p, FLAT_HEALTH_REFUSED, "not SERVING");
	}
}

static bool start_call(struct flat_probe *p, const char *host, const struct sockaddr_storage *addr,
		       socklen_t len)
{
	static const struct flat_name_value agent = {.name = "user-agent", .value = "flatd-health"};
	const struct flat_health_check *c = p->check;
	bool grpc = c->kind == FLAT_HEALTH_GRPC;
	struct flat_name_value headers[FLAT_HEALTH_HEADERS_MAX + 1] = {agent};
	struct flat_strbuf message = {0};
	struct flat_call_question q = {
	    .addr = addr,
	    .addr_len = len,
	    .grpc = grpc,
	    .http2 = grpc || c->http2,
	    .status_only = !grpc,
	    .method = grpc ? NULL : c->method,
	    .authority = c->authority ? c->authority : host,
	    .path = grpc ? "/grpc.health.v1.Health/Check" : c->path,
	    .headers = headers,
	    .n_headers = 1,
	    .deadline_us = p->deadline_us,
	};

	for (uint32_t i = 0; i < c->n_headers && i < FLAT_HEALTH_HEADERS_MAX; i++)
		headers[q.n_headers++] = c->headers[i];
	/* HealthCheckRequest: service 1. */
	if (c->grpc_service)
		flat_protobuf_put_text(&message, 1, c->grpc_service);
	q.bytes = message.data;
	q.len = message.len;
	if (!message.failed)
		p->call = flat_call_start(p->loop, &q, on_answer, p);
	flat_strbuf_fini(&message);
	return p->call != NULL;
}

/* --- TCP --- */

static const uint8_t *find(const struct flat_probe *p, const struct flat_payload *piece)
{
	return memmem(p->in.data + p->at, p->in.len - p->at, piece->bytes, piece->len);
}

/* Whether all pieces are there by now, one behind the other. */
static bool all_found(struct flat_probe *p)
{
	const struct flat_health_check *c = p->check;
	const uint8_t *hit;

	while (p->in.len && p->matched < c->n_receive &&
	       (hit = find(p, &c->receive[p->matched])) != NULL) {
		p->at = (size_t)(hit - (const uint8_t *)p->in.data) + c->receive[p->matched].len;
		p->matched++;
	}
	return p->matched == c->n_receive;
}

/* What is said, as far as there is room. 0, or why there is no connection. */
static int say(struct flat_probe *p)
{
	const struct flat_payload *send = &p->check->send;

	while (p->sent < send->len) {
		ssize_t n = flat_sys_send(p->source.fd, send->bytes + p->sent, send->len - p->sent,
					  MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return n == -EAGAIN ? 0 : (int)n;
		p->sent += (uint32_t)n;
	}
	return 0;
}

/* 0: more may come; 1: nothing more comes; or a negative errno. */
static int hear(struct flat_probe *p)
{
	char bytes[2048];

	for (;;) {
		ssize_t n = flat_sys_recv(p->source.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (n <= 0)
			return n == 0 ? 1 : n == -EAGAIN ? 0 : (int)n;
		if (p->in.len + (size_t)n > ANSWER_MAX)
			return -EMSGSIZE;
		flat_strbuf_add(&p->in, bytes, (size_t)n);
		if (p->in.failed)
			return -ENOMEM;
	}
}

static void on_ready(struct flat_source *source, int events)
{
	struct flat_probe *p = FLAT_CONTAINER_OF(source, struct flat_probe, source);
	bool waits = p->check->n_receive > 0;
	int why = 0;
	socklen_t len = sizeof(why);
	int err = flat_sys_getsockopt(p->source.fd, SOL_SOCKET, SO_ERROR, &why, &len);

	(void)events;
	err = err != 0 ? err : -why;
	if (err == 0)
		err = say(p);
	if (err == 0 && waits)
		err = hear(p);
	if (err >= 0 && p->sent == p->check->send.len && all_found(p))
		finish(p, FLAT_HEALTH_PASSED, waits ? "the answer is right" : "connected");
	else if (err != 0)
		finish(p, FLAT_HEALTH_SILENT,
		       err > 0 ? "the connection ended before its answer" : strerror(-err));
}

static bool start_tcp(struct flat_probe *p, const struct sockaddr_storage *addr, socklen_t len)
{
	int err;

	p->source.fd =
	    flat_sys_socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->source.fd < 0)
		return false;
	err = flat_sys_connect(p->source.fd, (const struct sockaddr *)addr, len);
	if (err != 0 && err != -EINPROGRESS)
		return false;
	return flat_loop_poll(p->loop, &p->source, p->source.fd, POLLIN | POLLOUT | POLLRDHUP,
			      on_ready) == 0;
}

/* --- either --- */

static void learn_from(struct flat_probe *p)
{
	struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(ss);
	int fd = p->call ? flat_call_fd(p->call) : p->source.fd;

	if (flat_sys_getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
	    flat_addr_from_sockaddr(&p->from, (struct sockaddr *)&ss, len) == 0)
		flat_addr_unmap(&p->from);
}

struct flat_probe *flat_probe_start(struct flat_loop *loop, const struct flat_health_check *check,
				    const char *host, const struct flat_addr *addr,
				    flat_probe_fn *fn, void *arg)
{
	struct flat_probe *p = calloc(1, sizeof(*p));
	struct sockaddr_storage ss;
	socklen_t len;
	bool started;

	if (!p)
		return NULL;
	p->loop = loop;
	p->check = check;
	p->fn = fn;
	p->arg = arg;
	p->source.fd = -1;
	p->deadline_us = flat_now_us() + (int64_t)check->timeout_ms * 1000;
	len = flat_addr_to_sockaddr(addr, &ss);
	started =
	    check->kind == FLAT_HEALTH_TCP ? start_tcp(p, &ss, len) : start_call(p, host, &ss, len);
	if (!started) {
		flat_probe_cancel(p);
		return NULL;
	}
	learn_from(p);
	return p;
}

void flat_probe_cancel(struct flat_probe *p)
{
	if (!p)
		return;
	flat_call_cancel(p->call);
	if (p->source.fd >= 0)
		flat_loop_close(p->loop, &p->source);
	flat_strbuf_fini(&p->in);
	free(p);
}

int flat_probe_expire(struct flat_probe *p, int64_t now_us)
{
	if (p->call)
		return flat_call_expire(p->call, now_us);
	if (now_us < p->deadline_us)
		return (int)((p->deadline_us - now_us + 999) / 1000);
	finish(p, FLAT_HEALTH_SILENT, "no answer in time");
	return -1;
}

bool flat_probe_is_from(const struct flat_probe *p, const struct flat_addr *from)
{
	return flat_addr_equal(&p->from, from);
}
