"""
A server of HTTP/2 by hand: `http2_origin.py PORT [CERTIFICATE KEY]`. In the clear its answers are none: each connection gets the next case,
from the first on, and after the last one the first again. Over TLS it tells the scheme that it was asked for. Fields are literals of HPACK.
"""
import socketserver
import ssl
import struct
import sys
import threading

DATA, HEADERS, RST, SETTINGS, PUSH, PING, WINDOW = 0, 1, 3, 4, 5, 6, 8
END, WHOLE = 1, 4


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def head(*fields, end=0):
    out = b""
    for name, value in fields:
        out += b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return frame(HEADERS, WHOLE | end, 1, out)


OK = (b":status", b"200")
CASES = [
    head(OK) + frame(DATA, END, 1, b"ok"),
    head((b"x", b"y")) + frame(DATA, END, 1, b"ok"),
    head((b":status", b"099"), end=END),
    head((b":status", b"101"), end=END),
    head(OK, (b"content-length", b"2"), (b"content-length", b"2")) + frame(DATA, END, 1, b"ok"),
    head(OK, (b"content-length", b"5"), end=END),
    head(OK, (b"connection", b"close"), end=END),
    head(OK, (b"x", b"a\r\nb: c"), end=END),
    frame(DATA, END, 1, b"ok"),
    frame(HEADERS, WHOLE | END, 1, b"\x80"),
    frame(PUSH, WHOLE, 1, b"\0\0\0\2\x82"),
    frame(WINDOW, 0, 1, b"\0\0\0\0"),
    frame(SETTINGS, 0, 0, b"\0\5\0\0\0\0"),
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    frame(RST, 0, 1, b"\0\0\0\x02"),
]
LOCK = threading.Lock()
SEEN = []


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        with LOCK:
            case = CASES[len(SEEN) % len(CASES)]
            SEEN.append(case)
        self.rfile.read(24)
        self.wfile.write(frame(SETTINGS))
        while len(start := self.rfile.read(9)) == 9:
            payload = self.rfile.read(int.from_bytes(start[:3], "big"))
            if start[3] == HEADERS and TLS:
                # HPACK's table has both schemes, at 6 and 7; they come right after the method.
                scheme = b"https" if b"\x87" in payload[:4] else b"http" if b"\x86" in payload[:4] else b"none"
                self.wfile.write(head(OK) + frame(DATA, END, 1, scheme))
            elif start[3] == HEADERS:
                self.wfile.write(case)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def get_request(self):
        plain, peer = super().get_request()
        return (TLS.wrap_socket(plain, server_side=True) if TLS else plain), peer


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if len(sys.argv) > 2 else None
if TLS:
    TLS.load_cert_chain(sys.argv[2], sys.argv[3])
    TLS.set_alpn_protocols(["h2"])


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
