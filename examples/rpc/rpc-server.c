/*
 * A gRPC server without a gRPC library: four kinds of calls, of any service.
 *
 *   rpc-server ADDRESS PORT NAME
 *
 *   .../Unary  the message again; with the metadata x-fail: a status, that one
 *   .../Down   each byte of the message as a message
 *   .../Up     how many messages and bytes came
 *   .../Chat   each message as it comes
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flat/rpc.h>

enum kind { UNARY, DOWN, UP, CHAT, KINDS };
static const char *const kinds[KINDS] = {"Unary", "Down", "Up", "Chat"};

/* A call being served; what it still has to send waits in `queue`. */
struct served {
	enum kind kind;
	int fail;
	char tail[64];
	size_t n, bytes;
	char *queue; /* bytes of Down; the one message that Chat could not send */
	size_t at, len;
	int waits; /* Chat: there is one */
	int sent;  /* the client has sent all */
};

static const char *name = "";
static atomic_int stop;

static void on_signal(int number)
{
	(void)number;
	atomic_store_explicit(&stop, 1, memory_order_relaxed);
}

/* A number of digits alone, at most `max`; -1: it is none. */
static long number(const char *text, long max)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *text >= '0' && *text <= '9' && *end == 0 && n <= max ? n : -1;
}

static int text_is(const char *text, size_t len, const char *wanted)
{
	return len == strlen(wanted) && memcmp(text, wanted, len) == 0;
}

/* A status's number; what is none is UNKNOWN. */
static int status_of(const char *text, size_t len)
{
	char digits[3] = "";
	long n;

	if (len < sizeof(digits))
		memcpy(digits, text, len);
	n = number(digits, FLAT_RPC_UNAUTHENTICATED);
	return n < 0 ? FLAT_RPC_UNKNOWN : (int)n;
}

static void finish(struct flat_rpc_call *call, struct served *s, enum flat_rpc_status status,
		   const char *text)
{
	struct flat_rpc_field tail[] = {{"x-tail", 0, s->tail, 0}, {"x-name", 0, name, 0}};

	(void)flat_rpc_finish(call, status, text, tail, 2);
	free(s->queue);
	free(s);
}

static void begin(const struct flat_rpc_event *event)
{
	const char *last = strrchr(event->method, '/') + 1;
	struct flat_rpc_field first = {"x-name", 0, name, 0};
	struct served *s = calloc(1, sizeof(*s));
	int kind = 0;

	while (kind < KINDS && strcmp(last, kinds[kind]) != 0)
		kind++;
	if (!s || kind == KINDS) {
		free(s);
		(void)flat_rpc_finish(event->call, FLAT_RPC_UNIMPLEMENTED, "no such method", NULL,
				      0);
		return;
	}
	s->kind = (enum kind)kind;
	snprintf(s->tail, sizeof(s->tail), "-");
	for (size_t i = 0; i < event->n_metadata; i++) {
		const struct flat_rpc_field *f = &event->metadata[i];

		if (text_is(f->name, f->name_len, "x-tail"))
			snprintf(s->tail, sizeof(s->tail), "%.*s", (int)f->value_len, f->value);
		else if (text_is(f->name, f->name_len, "x-fail"))
			s->fail = status_of(f->value, f->value_len);
	}
	flat_rpc_set_user(event->call, s);
	if (s->kind != UNARY)
		(void)flat_rpc_reply(event->call, &first, 1);
}

/* What can be sent of what waits. */
static void go_on(struct flat_rpc_call *call, struct served *s)
{
	char text[64];

	if (s->kind == DOWN) {
		while (s->at < s->len && flat_rpc_send(call, s->queue + s->at, 1) == 0)
			s->at++;
		if (!s->sent || s->at < s->len)
			return;
	} else if (s->kind == CHAT) {
		if (s->waits && flat_rpc_send(call, s->queue, s->len) == 0) {
			s->waits = 0;
			flat_rpc_hold(call, 0);
		}
		if (!s->sent || s->waits)
			return;
	} else if (!s->sent) {
		return;
	} else if (s->kind == UP) {
		int n = snprintf(text, sizeof(text), "%zu %zu", s->n, s->bytes);

		(void)flat_rpc_send(call, text, (size_t)n);
	} else if (s->fail) {
		finish(call, s, (enum flat_rpc_status)s->fail, "asked to fail");
		return;
	} else {
		(void)flat_rpc_send(call, s->queue, s->len);
	}
	finish(call, s, FLAT_RPC_OK, NULL);
}

/* Kept for later. 0 or -ENOMEM. */
static int keep(struct served *s, const void *data, size_t len)
{
	char *queue = realloc(s->queue, s->len + len + 1);

	if (!queue)
		return -ENOMEM;
	memcpy(queue + s->len, data, len);
	s->queue = queue;
	s->len += len;
	return 0;
}

static void on_message(const struct flat_rpc_event *event, struct served *s)
{
	int err = 0;

	s->n++;
	s->bytes += event->len;
	if (s->kind == CHAT) {
		err = flat_rpc_send(event->call, event->data, event->len);
		if (err == -EAGAIN) {
			/* No other comes until this one is sent. */
			flat_rpc_hold(event->call, 1);
			s->len = 0;
			s->waits = 1;
			err = keep(s, event->data, event->len);
		}
	} else if (s->kind != UP) {
		err = keep(s, event->data, event->len);
	}
	if (err != 0)
		finish(event->call, s, FLAT_RPC_RESOURCE_EXHAUSTED, strerror(-err));
	else if (s->kind == DOWN)
		go_on(event->call, s);
}

static void serve(const struct flat_rpc_event *event)
{
	struct served *s = event->user;

	switch (event->kind) {
	case FLAT_RPC_CALLED:
		begin(event);
		break;
	case FLAT_RPC_MESSAGE:
		on_message(event, s);
		break;
	case FLAT_RPC_SENT:
		s->sent = 1;
		go_on(event->call, s);
		break;
	case FLAT_RPC_WRITABLE:
		go_on(event->call, s);
		break;
	default:
		/* The client is gone. */
		flat_rpc_release(event->call);
		free(s->queue);
		free(s);
		break;
	}
}

int main(int argc, char **argv)
{
	struct flat_rpc *rpc;
	struct flat_rpc_event event;
	int ret;

	long port = argc == 4 ? number(argv[2], 65535) : -1;
	if (port < 0) {
		fprintf(stderr, "usage: rpc-server ADDRESS PORT NAME\n");
		return 2;
	}
	name = argv[3];
	signal(SIGTERM, on_signal);
	ret = flat_rpc_open(&rpc);
	if (ret == 0)
		ret = flat_rpc_listen(rpc, argv[1], (uint16_t)port);
	if (ret < 0) {
		fprintf(stderr, "rpc-server: %s port %s: %s\n", argv[1], argv[2], strerror(-ret));
		return 1;
	}
	printf("ready at %d\n", ret);
	fflush(stdout);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		ret = flat_rpc_next(rpc, &event, -1);
		if (ret > 0)
			serve(&event);
		else if (ret < 0 && ret != -EINTR)
			break;
	}
	flat_rpc_close(rpc);
	return ret == -EINTR || ret >= 0 ? 0 : 1;
}
