"""A server that notes each request as a line of JSON: port, file. Its answers are 200, or 500 below /fail."""

import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0))), []
        data, trailers = b"", []
        while n := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(n)
            self.rfile.readline()
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            trailers.append(line.decode("latin-1").strip())
        return data, trailers

    def serve(self):
        body, trailers = self.body()
        told = {
            "method": self.command,
            "path": self.path,
            "host": self.headers.get("Host"),
            "size": len(body),
            "trailers": trailers,
            "sha256": hashlib.sha256(body).hexdigest(),
            "headers": {k.lower(): v for k, v in self.headers.items()},
        }
        with LOCK, open(sys.argv[2], "a", encoding="utf-8") as log:
            log.write(json.dumps(told) + "\n")
        self.send_response(500 if self.path.startswith("/fail") else 200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"copy\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
