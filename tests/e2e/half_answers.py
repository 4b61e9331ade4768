"""
Answers that break off: `half_answers.py h1|h2 serve PORT [CASE...]` is a server that gives each request the next of its cases: so many bytes of
a longer body, all at once with what ends it (h2: RST_STREAM; h1: the connection's end). `half_answers.py h1|h2 ask HOST PORT N` asks N times, each on
a connection of its own, and tells the bytes that came and what then did, in one line.
"""
import socket
import socketserver
import struct
import sys
import threading

WAY, WHAT = sys.argv[1:3]
CASES = [0, 2, 20000, 60000]
DATA, HEADERS, RST, SETTINGS = 0, 1, 3, 4
END, WHOLE = 1, 4
LOCK = threading.Lock()
SEEN = []


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def fields(*pairs):
    return b"".join(b"\0" + bytes([len(n)]) + n.encode() + bytes([len(v)]) + v.encode() for n, v in pairs)


def next_case():
    with LOCK:
        SEEN.append(CASES[len(SEEN) % len(CASES)])
        return SEEN[-1]


def half(stream, n):
    return (frame(HEADERS, WHOLE, stream, fields((":status", "200"))) +
            b"".join(frame(DATA, 0, stream, b"x" * min(16384, n - at)) for at in range(0, n, 16384)) +
            frame(RST, 0, stream, b"\0\0\0\2"))


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        if WAY == "h1":
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * next_case())
            return
        self.rfile.read(24)
        self.wfile.write(frame(SETTINGS))
        while len(start := self.rfile.read(9)) == 9:
            self.rfile.read(int.from_bytes(start[:3], "big"))
            if start[3] == HEADERS:
                self.wfile.write(half(int.from_bytes(start[5:], "big"), next_case()))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def ask_h1(s):
    s.sendall(b"GET / HTTP/1.1\r\nHost: half.example\r\n\r\n")
    got = b""
    try:
        while piece := s.recv(65536):
            got += piece
        end = "end"
    except ConnectionResetError:
        end = "reset"
    head, _, body = got.partition(b"\r\n\r\n")
    return body.count(b"x") if head.startswith(b"HTTP/1.1 200 ") else head.split(b"\r\n")[0].decode(), end


def ask_h2(s):
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS) + frame(
        HEADERS, WHOLE | END, 1,
        fields((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "half.example"))))
    f = s.makefile("rb")
    size, head = 0, False
    while len(start := f.read(9)) == 9:
        payload = f.read(int.from_bytes(start[:3], "big"))
        head |= start[3] == HEADERS and payload[0] == 0x88
        size += len(payload) if start[3] == DATA else 0
        if start[3] == RST:
            return size if head else "none", "reset"
        if start[3] in (DATA, HEADERS) and start[4] & END:
            return size if head else "none", "whole"
    return size if head else "none", "end"


if WHAT == "serve":
    CASES = [int(n) for n in sys.argv[4:]] or CASES
    Server(("127.0.0.1", int(sys.argv[3])), Handler).serve_forever()
said = []
for _ in range(int(sys.argv[5])):
    with socket.create_connection((sys.argv[3], int(sys.argv[4])), 20) as connection:
        said += map(str, (ask_h1 if WAY == "h1" else ask_h2)(connection))
print(*said)
