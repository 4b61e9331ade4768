"""Calls the server of this folder. Arguments: HOST:PORT, name, metadata as NAME=VALUE."""
import sys

import grpc

hello = grpc.insecure_channel(sys.argv[1]).unary_unary("/hello.Greeter/Hello")
try:
    metadata = [tuple(word.split("=", 1)) for word in sys.argv[3:]]
    print(hello(sys.argv[2].encode(), timeout=5, metadata=metadata).decode())
except grpc.RpcError as error:
    sys.exit(f"{error.code().name}: {error.details()}")
