"""
A collector of traces, OpenTelemetry's protocol over HTTP and over gRPC, without generated code. Arguments: port of HTTP,
port of gRPC, a file to which each span is appended as a line of JSON. Numbers of fields: opentelemetry-proto, trace.proto.
"""
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

LOCK = threading.Lock()


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, value) of each field; messages and texts are bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                assert kind == 2, kind
                size, at = varint(data, at)
            value = data[at : at + size]
            assert len(value) == size
            at += size
            if kind != 2:
                value = int.from_bytes(value, "little")
        yield tag >> 3, value


def one(data, number, default=b""):
    return next((v for n, v in fields(data) if n == number), default)


def tags(data, number):
    return {one(v, 1).decode(): one(one(v, 2), 1).decode() for n, v in fields(data) if n == number}


def take(request, how, headers):
    with LOCK, open(sys.argv[3], "a", encoding="utf-8") as out:
        for resource_spans in (v for n, v in fields(request) if n == 1):
            resource = tags(one(resource_spans, 1), 1)
            for scope in (v for n, v in fields(resource_spans) if n == 2):
                for span in (v for n, v in fields(scope) if n == 2):
                    line = {
                        "how": how,
                        "headers": headers,
                        "service": resource["service.name"],
                        "trace": one(span, 1).hex(),
                        "span": one(span, 2).hex(),
                        "state": one(span, 3).decode(),
                        "parent": one(span, 4).hex(),
                        "name": one(span, 5).decode(),
                        "kind": {2: "SERVER", 3: "CLIENT"}[one(span, 6, 0)],
                        "ns": one(span, 8, 0) - one(span, 7, 0),
                        "tags": tags(span, 9),
                        "error": one(one(span, 15), 3, 0) == 2,
                    }
                    out.write(json.dumps(line) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-type"] == "application/x-protobuf"
        take(body, "http " + self.path, {n.lower(): v for n, v in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        pass


def export(request, context):
    take(request, "grpc", dict(context.invocation_metadata()))
    return b""


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    method = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
    assert server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    server.start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


main()
