/*
 * gRPC's own C library over sockets that libflat made, in a program that is linked and not started by flat-run: a unary echo.
 *
 *   linked-echo server PORT
 *   linked-echo client HOST PORT MESSAGE
 *
 * The C library reads and writes its descriptors with libc's calls. They reach libflat because the program is linked with
 * libflat-preload.so before libc (pkg-config flat-grpc).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flat/socket.h>

static int bad(const char *what)
{
	perror(what);
	return 1;
}

/* gRPC wants descriptors that do not block. */
static int unblock(int fd)
{
	return flat_fcntl(fd, F_SETFL, flat_fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
}

static gpr_timespec in_seconds(int n)
{
	return gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_seconds(n, GPR_TIMESPAN));
}

/* Does a batch, and waits for it. 0, or -1: it failed. */
static int batch(grpc_call *call, grpc_completion_queue *queue, const grpc_op *ops, size_t n)
{
	if (grpc_call_start_batch(call, ops, n, call, NULL) != GRPC_CALL_OK)
		return -1;
	grpc_event event = grpc_completion_queue_pluck(queue, call, in_seconds(10), NULL);
	return event.type == GRPC_OP_COMPLETE && event.success ? 0 : -1;
}

/* --- the server: one thread accepts, the other serves --- */

struct server {
	grpc_server *grpc;
	grpc_completion_queue *calls, *batches;
	int fd;
};

static void *accept_all(void *arg)
{
	const struct server *s = arg;
	grpc_server_credentials *plain = grpc_insecure_server_credentials_create();

	for (;;) {
		int fd = flat_accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0)
			grpc_server_add_channel_from_fd(s->grpc, fd, plain);
		else if (errno != EINTR && errno != ECONNABORTED)
			break;
	}
	grpc_server_credentials_release(plain);
	return NULL;
}

static void echo(const struct server *s, grpc_call *call)
{
	grpc_byte_buffer *message = NULL;
	int cancelled = 0;
	grpc_op take[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}, {.op = GRPC_OP_RECV_MESSAGE}};
	grpc_op answer[3] = {{.op = GRPC_OP_SEND_MESSAGE},
			     {.op = GRPC_OP_SEND_STATUS_FROM_SERVER},
			     {.op = GRPC_OP_RECV_CLOSE_ON_SERVER}};

	take[1].data.recv_message.recv_message = &message;
	answer[1].data.send_status_from_server.status = GRPC_STATUS_OK;
	answer[2].data.recv_close_on_server.cancelled = &cancelled;
	if (batch(call, s->batches, take, 2) == 0 && message) {
		answer[0].data.send_message.send_message = message;
		(void)batch(call, s->batches, answer, 3);
	}
	grpc_byte_buffer_destroy(message);
	grpc_call_unref(call);
}

static int serve_calls(const struct server *s)
{
	grpc_call_details details;
	grpc_metadata_array metadata;

	grpc_call_details_init(&details);
	grpc_metadata_array_init(&metadata);
	for (;;) {
		grpc_call *call = NULL;

		if (grpc_server_request_call(s->grpc, &call, &details, &metadata, s->batches,
					     s->calls, NULL) != GRPC_CALL_OK)
			return 1;
		grpc_event event =
		    grpc_completion_queue_next(s->calls, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
		if (event.type != GRPC_OP_COMPLETE || !event.success)
			return 1;
		echo(s, call);
	}
}

static int serve(const char *port)
{
	struct server s = {.fd = flat_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int on = 1;
	pthread_t thread;

	if (s.fd < 0 || flat_setsockopt(s.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    flat_bind(s.fd, (struct sockaddr *)&at, sizeof(at)) < 0 || flat_listen(s.fd, 16) < 0)
		return bad(port);
	s.grpc = grpc_server_create(NULL, NULL);
	s.calls = grpc_completion_queue_create_for_next(NULL);
	s.batches = grpc_completion_queue_create_for_pluck(NULL);
	grpc_server_register_completion_queue(s.grpc, s.calls, NULL);
	grpc_server_start(s.grpc);
	if (pthread_create(&thread, NULL, accept_all, &s) != 0)
		return bad("pthread_create");
	puts("ready");
	fflush(stdout);
	return serve_calls(&s);
}

/* --- the client --- */

static int dial(const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int fd = -1;

	if (flat_getaddrinfo(host, port, &hints, &found) != 0)
		return -1;
	for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
		fd = flat_socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0 && flat_connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			flat_close(fd);
			fd = -1;
		}
	}
	flat_freeaddrinfo(found);
	return fd;
}

static void print(grpc_byte_buffer *message)
{
	grpc_byte_buffer_reader reader;

	if (!message || !grpc_byte_buffer_reader_init(&reader, message))
		return;
	grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
	printf("%.*s\n", (int)GRPC_SLICE_LENGTH(all), (const char *)GRPC_SLICE_START_PTR(all));
	grpc_slice_unref(all);
	grpc_byte_buffer_reader_destroy(&reader);
}

/* The call's status. */
static int call_once(grpc_channel *channel, const char *host, const char *text)
{
	grpc_completion_queue *queue = grpc_completion_queue_create_for_pluck(NULL);
	grpc_slice authority = grpc_slice_from_copied_string(host);
	grpc_call *call = grpc_channel_create_call(
	    channel, NULL, 0, queue, grpc_slice_from_static_string("/hello.Greeter/Unary"),
	    &authority, in_seconds(10), NULL);
	grpc_slice slice = grpc_slice_from_copied_string(text);
	grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_byte_buffer *answer = NULL;
	grpc_metadata_array first;
	grpc_metadata_array last;
	grpc_status_code status = GRPC_STATUS_UNKNOWN;
	grpc_slice details = grpc_empty_slice();
	grpc_op ops[6] = {
	    {.op = GRPC_OP_SEND_INITIAL_METADATA},  {.op = GRPC_OP_SEND_MESSAGE},
	    {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
	    {.op = GRPC_OP_RECV_MESSAGE},	    {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};

	grpc_metadata_array_init(&first);
	grpc_metadata_array_init(&last);
	ops[1].data.send_message.send_message = message;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &first;
	ops[4].data.recv_message.recv_message = &answer;
	ops[5].data.recv_status_on_client.trailing_metadata = &last;
	ops[5].data.recv_status_on_client.status = &status;
	ops[5].data.recv_status_on_client.status_details = &details;
	(void)batch(call, queue, ops, 6);
	print(answer);
	if (status != GRPC_STATUS_OK)
		fprintf(stderr, "linked-echo: %d %.*s\n", (int)status,
			(int)GRPC_SLICE_LENGTH(details),
			(const char *)GRPC_SLICE_START_PTR(details));
	grpc_slice_unref(details);
	grpc_metadata_array_destroy(&last);
	grpc_metadata_array_destroy(&first);
	grpc_byte_buffer_destroy(answer);
	grpc_byte_buffer_destroy(message);
	grpc_slice_unref(slice);
	grpc_call_unref(call);
	grpc_slice_unref(authority);
	grpc_completion_queue_shutdown(queue);
	grpc_completion_queue_destroy(queue);
	return (int)status;
}

static int ask(const char *host, const char *port, const char *text)
{
	int fd = dial(host, port);

	if (fd < 0 || unblock(fd) < 0)
		return bad(host);
	grpc_channel_credentials *plain = grpc_insecure_credentials_create();
	grpc_channel *channel = grpc_channel_create_from_fd(host, fd, plain, NULL);
	int status = call_once(channel, host, text);

	grpc_channel_destroy(channel);
	grpc_channel_credentials_release(plain);
	return status;
}

int main(int argc, char **argv)
{
	int ret = 2;

	grpc_init();
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		ret = serve(argv[2]);
	else if (argc == 5 && strcmp(argv[1], "client") == 0)
		ret = ask(argv[2], argv[3], argv[4]);
	else
		fprintf(stderr, "usage: linked-echo server PORT | client HOST PORT MESSAGE\n");
	grpc_shutdown();
	return ret;
}
