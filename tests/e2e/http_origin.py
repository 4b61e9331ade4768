"""
A server for the HTTP scripts: what it got is what it tells. Arguments: port, name, address (127.0.0.1).
  /echo...       method, path, header fields and body (length, sha256) as JSON
  /status/N      answers N
  /flaky/KEY/N   503 for the first N requests of KEY, then 200
  /slow/MS       answers after MS milliseconds
  /until/NAME    answers once there is a file NAME in the folder $ORIGIN_WAITS
  /early         answers once there is a file `early` in $ORIGIN_WAITS, and never reads the body
  /close         ends the connection without an answer
  /half          half an answer, then ends the connection
  /stream/N      N chunks of 1000 bytes and a trailer
  /until-close/N N bytes, ended by the connection's end
  /garbage       something that is not HTTP
  /ws            agrees to WebSocket, sends back what comes, and "bye" after its end
  /switch        switches protocols unasked
  /bad/CASE      an answer that is not as it should be
"""
import hashlib
import json
import os
import select
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler

NAME = sys.argv[2]
OK = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "cl-te": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "cl-list": OK + b"Content-Length: 2, 2\r\n\r\nxx",
    "te-gzip": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nxx",
    "fold": OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nxx",
    "space-colon": OK + b"Content-Length : 2\r\n\r\nxx",
    "status-2": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nxx",
    "version": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nxx",
    "chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n0\r\n\r\n",
    "no-reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nxx",
    "te-204": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "many-1xx": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + OK + b"Content-Length: 2\r\n\r\nxx",
    "more": OK + b"Content-Length: 2\r\n\r\nxx" + OK + b"Content-Length: 6\r\n\r\nforged",
    "head-body": OK + b"Content-Length: 2\r\n\r\nxx",
    "body-204": b"HTTP/1.1 204 No Content\r\n\r\n" + OK + b"Content-Length: 6\r\n\r\nforged",
    "body-304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nxx",
}
FLAKY = {}
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        digest, size, trailers = hashlib.sha256(), 0, []
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                if n == 0:
                    break
                data = self.rfile.read(n)
                digest.update(data)
                size += n
                self.rfile.readline()
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                trailers.append(line.decode("latin-1").rstrip("\r\n"))
        else:
            left = int(self.headers.get("Content-Length", 0))
            while left:
                data = self.rfile.read(min(left, 65536))
                if not data:
                    break
                digest.update(data)
                size += len(data)
                left -= len(data)
        return {"size": size, "sha256": digest.hexdigest(), "trailers": trailers}

    def answer(self, status, data, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Name", NAME)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def early(self):
        while not os.path.exists(os.path.join(os.environ["ORIGIN_WAITS"], "early")):
            time.sleep(0.01)
        self.wfile.write(OK + b"Content-Length: 0\r\n\r\n")
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        poll.poll()
        self.close_connection = True

    def do_any(self):
        if self.path == "/early":
            self.early()
            return
        body = self.body()
        parts = self.path.split("?")[0].split("/")
        kind = parts[1]
        if kind == "status":
            self.answer(int(parts[2]), b"status\n")
        elif kind == "flaky":
            with LOCK:
                FLAKY[parts[2]] = FLAKY.get(parts[2], 0) + 1
                good = FLAKY[parts[2]] > int(parts[3])
            self.answer(200 if good else 503, NAME.encode())
        elif kind == "slow":
            time.sleep(int(parts[2]) / 1000)
            self.answer(200, b"slow\n")
        elif kind == "until":
            while not os.path.exists(os.path.join(os.environ["ORIGIN_WAITS"], parts[2])):
                time.sleep(0.01)
            self.answer(200, b"now\n")
        elif kind == "stalls":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            while not os.path.exists(os.path.join(os.environ["ORIGIN_WAITS"], parts[2])):
                time.sleep(0.01)
            self.close_connection = True
        elif kind == "close":
            self.close_connection = True
        elif kind == "half":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            self.close_connection = True
        elif kind == "ws" and "upgrade" in self.headers.get("Connection", "").lower():
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            while data := self.rfile.read1(65536):
                self.wfile.write(data)
            self.wfile.write(b"bye")
            self.close_connection = True
        elif kind == "switch":
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        elif kind == "bad":
            self.wfile.write(BAD[parts[2]])
        elif kind == "garbage":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
            self.close_connection = True
        elif kind == "stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Sum")
            self.end_headers()
            for i in range(int(parts[2])):
                self.wfile.write((b"3E8" if i else b"3e8;ext=1") + b"\r\n" + bytes([97 + i % 26]) * 1000 + b"\r\n")
            self.wfile.write(b"0\r\nX-Sum: done\r\n\r\n")
        elif kind == "until-close":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"z" * int(parts[2]))
            self.close_connection = True
        else:
            told = {"name": NAME, "method": self.command, "path": self.path,
                    "headers": [[n, v] for n, v in self.headers.items()], **body}
            self.answer(200, json.dumps(told).encode(), [("X-Old", "1"), ("Content-Type", "application/json")])

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = do_any

    def log_message(self, *args):
        pass

    # What is no request of HTTP/1 is told.
    def log_error(self, form, *args):
        sys.stdout.write(form % args + "\n")
        sys.stdout.flush()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


Server((sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
