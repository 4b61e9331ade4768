"""
A server for compress.sh. Arguments: port. Query parameters are fields of the answer's head; X-Accept is the request's Accept-Encoding.
  /text/N     N bytes of text with their length
  /random/N   N bytes that cannot be made shorter, in chunks
  /chunks/N   N chunks of text and a trailer
  /events     an event; once there is a file `go` in the folder $ORIGIN_WAITS, another
  /half/N     N chunks, then the connection ends
  /close/N    N bytes that end with the connection
  /status/N   that status
"""
import http.server
import os
import random
import sys
import time
import urllib.parse

LINE = b"The quick brown fox jumps over the lazy dog, and again.\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def head(self, status, **fields):
        query = urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)
        self.send_response(status)
        self.send_header("X-Accept", self.headers.get("Accept-Encoding", "none"))
        for name, value in {"Content-Type": "text/plain; charset=utf-8", **{n.replace("_", "-"): v for n, v in fields.items()}, **dict(query)}.items():
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path).path.split("/")
        n = int(parts[2]) if len(parts) > 2 else 0
        if parts[1] == "text":
            self.head(200, Content_Length=str(n))
            if self.command != "HEAD":
                self.wfile.write((LINE * (n // len(LINE) + 1))[:n])
        elif parts[1] == "random":
            self.head(200, Transfer_Encoding="chunked")
            source = random.Random(1)
            for i in range(0, n, 50000):
                self.chunk(source.randbytes(min(50000, n - i)))
            self.wfile.write(b"0\r\n\r\n")
        elif parts[1] in ("chunks", "half"):
            self.head(200, Transfer_Encoding="chunked")
            for _ in range(n):
                self.chunk(LINE)
            if parts[1] == "chunks":
                self.wfile.write(b"0\r\nX-Sum: done\r\n\r\n")
            self.close_connection = parts[1] == "half"
        elif parts[1] == "events":
            self.head(200, Transfer_Encoding="chunked", Content_Type="text/event-stream")
            self.chunk(b"data: one\n\n")
            while not os.path.exists(os.path.join(os.environ["ORIGIN_WAITS"], "go")):
                time.sleep(0.01)
            self.chunk(b"data: two\n\n")
            self.wfile.write(b"0\r\n\r\n")
        elif parts[1] == "close":
            self.head(200)
            self.wfile.write((LINE * (n // len(LINE) + 1))[:n])
            self.close_connection = True
        else:
            self.head(n, **({} if n in (204, 304) else {"Content_Length": str(len(LINE))}))
            if n not in (204, 304):
                self.wfile.write(LINE)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
