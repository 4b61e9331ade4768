"""
A server whose health is a file's word, read with each check. Arguments: port, name, file, kind.
  http   GET /health: the word is the status, or "silent": no answer for 30 s. GET /asked: how many checks there were, and
         the last one's user-agent and host. All else: 200 and the name
  tcp    answers the word to whatever comes, and goes on
  grpc   grpc.health.v1.Health/Check: the word is a status' number, or "fail": PERMISSION_DENIED; other calls echo
"""
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler

PORT, NAME, FILE, KIND = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
ASKED = [0, "", ""]


def word():
    with open(FILE, encoding="ascii") as f:
        return f.read().strip()


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, text = 200, NAME
        if self.path == "/health":
            ASKED[:] = [ASKED[0] + 1, self.headers.get("User-Agent"), self.headers.get("Host")]
            if word() == "silent":
                time.sleep(30)
            status = int(word())
        elif self.path == "/asked":
            text = " ".join(str(a) for a in ASKED)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        while self.request.recv(4096):
            self.request.sendall(word().encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def serve_grpc():
    from concurrent import futures

    import grpc

    def check(_, context):
        if word() == "fail":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "asked to fail")
        return bytes([8, int(word())])

    class All(grpc.GenericRpcHandler):
        def service(self, details):
            fn = check if details.method == "/grpc.health.v1.Health/Check" else lambda request, context: request
            return grpc.unary_unary_rpc_method_handler(fn)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((All(),))
    server.add_insecure_port(f"127.0.0.1:{PORT}")
    server.start()
    server.wait_for_termination()


if KIND == "grpc":
    serve_grpc()
else:
    with Server(("127.0.0.1", PORT), Http if KIND == "http" else Tcp) as server:
        server.serve_forever()
