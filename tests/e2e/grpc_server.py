"""
A gRPC server for the scripts, of python3-grpcio without generated code: messages are bytes. Arguments: port, name.
  /test.Echo/Unary   the request; metadata x-fail: status, x-fail-times: of the first so many calls of x-key,
                     x-sleep-ms, x-size: so many bytes instead
  /test.Echo/Down    each byte of the request as one message
  /test.Echo/Up      the number of messages and of bytes
  /test.Echo/Chat    each message as it comes
"""
import collections
import sys
import threading
import time
from concurrent import futures

import grpc

NAME = sys.argv[2]
SEEN = collections.Counter()
LOCK = threading.Lock()


def prepare(context):
    meta = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-name", NAME),))
    context.set_trailing_metadata((("x-calls", str(count(meta))), ("x-tail", meta.get("x-tail", "-"))))
    if "x-sleep-ms" in meta:
        time.sleep(int(meta["x-sleep-ms"]) / 1000)
    return meta


def count(meta):
    with LOCK:
        SEEN[meta.get("x-key", "")] += 1
        return SEEN[meta.get("x-key", "")]


def unary(request, context):
    meta = dict(context.invocation_metadata())
    calls = count(meta)
    if "x-fail" in meta and calls <= int(meta.get("x-fail-times", "1000000")):
        status = next(s for s in grpc.StatusCode if s.value[0] == int(meta["x-fail"]))
        context.abort(status, "asked to fail")
    context.set_trailing_metadata((("x-calls", str(calls)), ("x-name", NAME)))
    if "x-sleep-ms" in meta:
        time.sleep(int(meta["x-sleep-ms"]) / 1000)
    return bytes(int(meta["x-size"])) if "x-size" in meta else request


def down(request, context):
    prepare(context)
    for i in range(len(request)):
        yield request[i : i + 1]


def up(requests, context):
    prepare(context)
    n = size = 0
    for message in requests:
        n += 1
        size += len(message)
    return f"{n} {size}".encode()


def chat(requests, context):
    prepare(context)
    yield from requests


class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        return {
            "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/test.Echo/Down": grpc.unary_stream_rpc_method_handler(down),
            "/test.Echo/Up": grpc.stream_unary_rpc_method_handler(up),
            "/test.Echo/Chat": grpc.stream_stream_rpc_method_handler(chat),
        }.get(call.method)


server = grpc.server(futures.ThreadPoolExecutor(160), options=(("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)))
server.add_generic_rpc_handlers((Echo(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
