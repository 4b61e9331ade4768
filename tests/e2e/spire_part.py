"""A SPIFFE Workload API, served by gRPC on a unix socket: SVIDs of a folder, told anew whenever the file `generation` there changes."""
import base64
import glob
import os
import re
import sys
import time
from concurrent import futures

import grpc


def say(*words):
    print(*words, flush=True)


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def ders(path):
    with open(path) as f:
        return [base64.b64decode(b) for b in re.findall(r"-----BEGIN [A-Z ]+-----(.*?)-----END", f.read(), re.S)]


def response(folder):
    """An X509SVIDResponse; a file NAME.wrong swaps that SVID's key for another one."""
    bundle = b"".join(ders(f"{folder}/cluster.local.bundle"))
    out = b""
    for crt in sorted(glob.glob(f"{folder}/*.crt")):
        stem = crt[:-4]
        certs = ders(crt)
        name = f"spiffe://cluster.local/ns/{'/sa/'.join(os.path.basename(stem).split('.'))}".encode()
        key = ders(stem + ".wrong" if os.path.exists(stem + ".wrong") else stem + ".key")[0]
        out += field(1, field(1, name) + field(2, b"".join(certs)) + field(3, key) + field(4, bundle))
    return out


def generation(folder):
    try:
        with open(f"{folder}/generation") as f:
            return f.read().strip()
    except FileNotFoundError:
        return ""


def serve(path, folder):
    def fetch(_request, context):
        if dict(context.invocation_metadata()).get("workload.spiffe.io") != "true":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        seen = None
        while context.is_active():
            now = generation(folder)
            if now == "none":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
            if now != seen:
                seen = now
                say("told", now)
                yield response(folder)
            time.sleep(0.02)

    handler = grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {
        "FetchX509SVID": grpc.unary_stream_rpc_method_handler(fetch, lambda b: b, lambda b: b)})
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    say("serving")
    server.wait_for_termination()


if __name__ == "__main__":
    serve(*sys.argv[1:])
