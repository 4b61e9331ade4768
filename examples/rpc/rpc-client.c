/*
 * A gRPC client without a gRPC library: one call, of any kind.
 *
 *   rpc-client [-t TIMEOUT-MS] [-m NAME=VALUE]... HOST:PORT METHOD [MESSAGE]...
 *
 * Prints the metadata, each message, and the status. Exit status: the call's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flat/rpc.h>

#define FIELDS_MAX 16

static void print_fields(const char *what, const struct flat_rpc_event *event)
{
	for (size_t i = 0; i < event->n_metadata; i++) {
		const struct flat_rpc_field *f = &event->metadata[i];

		printf("%s %.*s: %.*s\n", what, (int)f->name_len, f->name, (int)f->value_len,
		       f->value);
	}
}

/* Sends what there is room for. The number of the next one. */
static int send_some(struct flat_rpc_call *call, char **messages, int at, int n)
{
	while (at < n && flat_rpc_send(call, messages[at], strlen(messages[at])) == 0)
		at++;
	if (at == n)
		(void)flat_rpc_send_end(call);
	return at;
}

/* The call's status, or a negative errno. */
static int run(struct flat_rpc *rpc, struct flat_rpc_call *call, char **messages, int n)
{
	struct flat_rpc_event event;
	int at = send_some(call, messages, 0, n);
	int ret;

	while ((ret = flat_rpc_next(rpc, &event, -1)) == 1) {
		switch (event.kind) {
		case FLAT_RPC_METADATA:
			print_fields("first", &event);
			break;
		case FLAT_RPC_MESSAGE:
			printf("message %.*s\n", (int)event.len, (const char *)event.data);
			break;
		case FLAT_RPC_WRITABLE:
			at = send_some(call, messages, at, n);
			break;
		default:
			print_fields("last", &event);
			printf("status %d%s%s\n", (int)event.status, *event.text ? " " : "",
			       event.text);
			return (int)event.status;
		}
	}
	return ret;
}

int main(int argc, char **argv)
{
	struct flat_rpc_field metadata[FIELDS_MAX];
	struct flat_rpc_request request = {.size = sizeof(request), .metadata = metadata};
	struct flat_rpc *rpc = NULL;
	struct flat_rpc_channel *channel;
	struct flat_rpc_call *call;
	int option;
	int ret;

	while ((option = getopt(argc, argv, "t:m:")) != -1) {
		char *equals = option == 'm' ? strchr(optarg, '=') : NULL;

		if (option == 't') {
			request.timeout_us = strtoll(optarg, NULL, 10) * 1000;
		} else if (equals && request.n_metadata < FIELDS_MAX) {
			metadata[request.n_metadata++] = (struct flat_rpc_field){
			    optarg, (size_t)(equals - optarg), equals + 1, 0};
		} else {
			return 2;
		}
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: rpc-client [-t TIMEOUT-MS] [-m NAME=VALUE]... HOST:PORT "
				"METHOD [MESSAGE]...\n");
		return 2;
	}
	request.method = argv[optind + 1];
	ret = flat_rpc_open(&rpc);
	ret = ret ? ret : flat_rpc_channel_open(rpc, argv[optind], &channel);
	ret = ret ? ret : flat_rpc_begin(channel, &request, &call);
	if (ret == 0) {
		ret = run(rpc, call, argv + optind + 2, argc - optind - 2);
		flat_rpc_release(call);
	}
	flat_rpc_close(rpc);
	if (ret < 0) {
		fprintf(stderr, "rpc-client: %s: %s\n", argv[optind], strerror(-ret));
		return 100;
	}
	return ret;
}
