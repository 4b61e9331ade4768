"""A gRPC server without generated code: it greets. Argument: port. Needs python3-grpcio."""
import sys
from concurrent import futures

import grpc


class Greeter(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/hello.Greeter/Hello":
            return grpc.unary_unary_rpc_method_handler(lambda name, context: b"hello " + name)
        return None


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Greeter(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
