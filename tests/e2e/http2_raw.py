"""
Frames that no honest client sends (RFC 9113; the CVEs of HTTP/2's floods), each on a connection of its own:
`http2_raw.py HOST PORT`. A line for each row: PASS or FAIL, its name, what came. Fields are literals of HPACK
unless a row says otherwise. The server is one of HTTP/1 that tells what it was asked (http_origin.py).
"""
import json
import re
import socket
import struct
import sys

HOST, PORT = sys.argv[1], int(sys.argv[2])
PATIENCE = 90  # seconds: nobody waits for them but where it fails
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 1, 4, 8, 32
ALL = END_STREAM | END_HEADERS
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CODES = ("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
         "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "CALM")


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def number(n, bits, first=0):
    top = (1 << bits) - 1
    if n < top:
        return bytes([first | n])
    out, n = [first | top], n - top
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    return bytes(out + [n])


def field(name, value, index=0):
    """RFC 7541, 6.2: a literal, by default not kept; 0x40: kept."""
    name, value = (v if isinstance(v, bytes) else v.encode() for v in (name, value))
    return bytes([index]) + number(len(name), 7) + name + number(len(value), 7) + value


def block(*fields):
    return b"".join(field(*f) for f in fields)


def request(method="GET", path="/echo", *fields, authority=HOST, scheme="http"):
    return block((":method", method), (":scheme", scheme), (":path", path), (":authority", authority), *fields)


def head(stream, flags, *args, **kw):
    return frame(HEADERS, flags, stream, request(*args, **kw))


def get(*fields, **kw):
    return frame(HEADERS, ALL, 1, request("GET", "/echo", *fields, **kw))


def post(*fields, body=b"hello", end=END_STREAM):
    return head(1, END_HEADERS, "POST", "/echo", *fields) + frame(DATA, end, 1, body)


def depends(stream, on):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", on, 15))


def goaway(last=0, code=0, text=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + text)


def opened(stream, n):
    return frame(WINDOW, 0, stream, struct.pack(">I", n))


def resized(n):
    """RFC 7541, 6.3: the table has so many bytes from here on."""
    return number(n, 5, 0x20)


def asked(payload, flags=ALL, stream=1):
    return frame(HEADERS, flags, stream, payload)


def blocked(*fields):
    """A request of these fields alone."""
    return frame(HEADERS, ALL, 1, block(*fields))


M, S, P, A = (":method", "GET"), (":scheme", "http"), (":path", "/echo"), (":authority", HOST)
SETTING = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535))
GOOD = "200"
REFUSED = "RST PROTOCOL_ERROR"
BROKEN = "GOAWAY PROTOCOL_ERROR"
CALM = "GOAWAY CALM"
SHORT = "GOAWAY FRAME_SIZE_ERROR"
SQUEEZED = "GOAWAY COMPRESSION_ERROR"
OVERFLOWN = "RST FLOW_CONTROL_ERROR"
LATE = "GOAWAY STREAM_CLOSED"
WHOLE = (1 << 31) - 1 - 65535  # what a window that nobody has touched can be opened by
MADE = 400  # what the codec hands to HTTP/1's reader
# Name, bytes, what comes of them: a status, RST or GOAWAY with its code.
HEADS = [
    ("good", get(), 200),
    ("method-missing", blocked(S, P, A), REFUSED),
    ("path-missing", blocked(M, S, A), REFUSED),
    ("scheme-missing", blocked(M, P, A), REFUSED),
    ("method-twice", blocked(M, M, S, P, A), REFUSED),
    ("path-twice", blocked(M, S, P, (":path", "/other"), A), REFUSED),
    ("scheme-twice", blocked(M, S, S, P, A), REFUSED),
    ("authority-twice", blocked(M, S, P, A, A), REFUSED),
    ("authority-missing", blocked(M, S, P), (REFUSED, MADE)),
    ("pseudo-after-field", blocked(M, S, P, ("x", "y"), A), REFUSED),
    ("pseudo-unknown", blocked(M, S, P, A, (":proto", "x")), REFUSED),
    ("pseudo-of-answer", blocked(M, S, P, A, (":status", "200")), REFUSED),
    ("pseudo-protocol", blocked((":method", "CONNECT"), S, P, A, (":protocol", "websocket")), REFUSED),
    ("name-capital", get(("X-Y", "z")), REFUSED),
    ("name-empty", get(("", "z")), REFUSED),
    ("name-blank", get(("x y", "z")), REFUSED),
    ("name-colon", get(("x:y", "z")), REFUSED),
    ("name-crlf", get(("x\r\ny", "z")), REFUSED),
    ("name-nul", get(("x\0", "z")), REFUSED),
    ("name-high", get((b"x\xe9", "z")), REFUSED),
    ("value-cr", get(("x", "a\rb")), REFUSED),
    ("value-lf", get(("x", "a\nb")), REFUSED),
    ("value-crlf", get(("x", "a\r\nhost: other")), REFUSED),
    ("value-nul", get(("x", "a\0b")), REFUSED),
    ("value-bell", get(("x", "a\x07b")), REFUSED),
    ("value-del", get(("x", "a\x7fb")), REFUSED),
    ("connection", get(("connection", "close")), REFUSED),
    ("keep-alive", get(("keep-alive", "5")), REFUSED),
    ("proxy-connection", get(("proxy-connection", "close")), REFUSED),
    ("upgrade", get(("upgrade", "websocket")), REFUSED),
    ("transfer-encoding", post(("transfer-encoding", "chunked"), body=b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"), REFUSED),
    ("te-gzip", get(("te", "gzip")), REFUSED),
    ("te-trailers", get(("te", "trailers")), 200),
    ("host-other", get(("host", "other")), REFUSED),
    ("host-same", get(("host", HOST)), 200),
    ("host-twice", get(("host", HOST), ("host", HOST)), REFUSED),
    ("host-alone", blocked(M, S, P, ("host", HOST)), 200),
    ("authority-user", get(authority="u@" + HOST), (REFUSED, MADE)),
    ("authority-blank", get(authority=HOST + " x"), (REFUSED, MADE)),
    ("authority-path", get(authority=HOST + "/x"), (REFUSED, MADE)),
    ("authority-comma", get(authority=HOST + ",other"), (REFUSED, MADE)),
    ("authority-crlf", get(authority=HOST + "\r\nx: y"), REFUSED),
    ("authority-empty", get(authority=""), (REFUSED, MADE)),
    ("authority-port", get(authority=HOST + ":99999"), (REFUSED, MADE)),
    ("method-blank", head(1, ALL, "GET /x HTTP/1.1"), (REFUSED, MADE)),
    ("method-crlf", head(1, ALL, "GET\r\nX"), REFUSED),
    ("method-empty", head(1, ALL, ""), (REFUSED, MADE)),
    ("method-lower", head(1, ALL, "get", "/echo"), 400),
    ("connect", blocked((":method", "CONNECT"), (":authority", HOST + ":80")), 405),
    ("scheme-odd", get(scheme="ht tp"), (REFUSED, MADE)),
    ("path-empty", head(1, ALL, "GET", ""), (REFUSED, MADE)),
    ("path-relative", head(1, ALL, "GET", "echo"), (REFUSED, MADE)),
    ("path-star", head(1, ALL, "GET", "*"), (REFUSED, MADE)),
    ("path-absolute", head(1, ALL, "GET", "http://other/echo"), (REFUSED, MADE)),
    ("path-blank", head(1, ALL, "GET", "/echo /x"), (REFUSED, MADE)),
    ("path-start-line", head(1, ALL, "GET", "/echo HTTP/1.1\r\nx: y"), (REFUSED, MADE)),
    ("path-version", head(1, ALL, "GET", "/echo HTTP/1.1"), (REFUSED, MADE)),
    ("path-tab", head(1, ALL, "GET", "/echo\tx"), (REFUSED, MADE)),
    ("path-nul", head(1, ALL, "GET", "/echo\0x"), (REFUSED, MADE)),
    ("path-del", head(1, ALL, "GET", "/echo\x7f"), (REFUSED, MADE)),
    ("path-high", head(1, ALL, "GET", b"/echo\xff"), (REFUSED, MADE)),
    ("path-fragment", head(1, ALL, "GET", "/echo#x"), (REFUSED, MADE)),
    ("path-backslash", head(1, ALL, "GET", "/a\\..\\echo"), (REFUSED, MADE)),
    ("path-encoded-slash", head(1, ALL, "GET", "/a%2f..%2fecho"), (REFUSED, MADE)),
    ("path-above-root", head(1, ALL, "GET", "/../echo"), (REFUSED, MADE)),
    ("path-overlong", head(1, ALL, "GET", "/%c0%ae%c0%ae/echo"), (REFUSED, MADE)),
    ("cookie-crumbs", get(("cookie", "a=1"), ("cookie", "b=2")), 200),
    ("fields-120", get(*[("x", "y")] * 120), 431),
    ("padding-of-all", frame(HEADERS, ALL | PADDED, 1, b"\xff" + request()), BROKEN),
]
BODIES = [
    ("length-right", post(("content-length", "5")), 200),
    ("length-short", post(("content-length", "4")), REFUSED),
    ("length-long", post(("content-length", "6")), REFUSED),
    ("length-none-of-it", head(1, ALL, "POST", "/echo", ("content-length", "5")), REFUSED),
    ("length-zero", post(("content-length", "0")), REFUSED),
    ("length-twice", post(("content-length", "5"), ("content-length", "5")), REFUSED),
    ("length-two", post(("content-length", "5"), ("content-length", "6")), REFUSED),
    ("length-list", post(("content-length", "5, 5")), REFUSED),
    ("length-signed", post(("content-length", "+5")), REFUSED),
    ("length-hex", post(("content-length", "0x5")), REFUSED),
    ("length-empty", post(("content-length", "")), REFUSED),
    ("length-vast", post(("content-length", "99999999999999999999")), REFUSED),
    ("length-blank", post(("content-length", "5 ")), (REFUSED, 200)),
    ("hidden-request", post(body=b"GET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"), 200),
    ("trailer", post(end=0) + frame(HEADERS, ALL, 1, block(("x-sum", "1"))), 200),
    ("trailer-pseudo", post(end=0) + frame(HEADERS, ALL, 1, block((":path", "/other"))), REFUSED),
    ("trailer-no-end", post(end=0) + frame(HEADERS, END_HEADERS, 1, block(("x-sum", "1"))), (REFUSED, BROKEN)),
    ("trailer-encoding", post(end=0) + frame(HEADERS, ALL, 1, block(("transfer-encoding", "chunked"))), REFUSED),
    ("trailer-credentials", post(end=0) + frame(HEADERS, ALL, 1, block(("authorization", "x"))), (400, REFUSED)),
    ("data-after-end", get() + frame(DATA, END_STREAM, 1, b"x"), ("GOAWAY STREAM_CLOSED", "RST STREAM_CLOSED")),
    ("padding-of-all-data", post(end=0) + frame(DATA, PADDED, 1, b"\x05abc"), BROKEN),
]
FRAMES = [
    ("data-on-0", frame(DATA, 0, 0, b"x"), BROKEN),
    ("data-idle", frame(DATA, 0, 1, b"x"), BROKEN),
    ("headers-on-0", frame(HEADERS, ALL, 0, request()), BROKEN),
    ("headers-even", frame(HEADERS, ALL, 2, request()), BROKEN),
    ("headers-backwards", frame(HEADERS, ALL, 5, request()) + frame(HEADERS, ALL, 3, request()), BROKEN),
    ("push", frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + request()), BROKEN),
    ("settings-cut", frame(SETTINGS, 0, 0, b"\0\4\0"), SHORT),
    ("settings-on-1", frame(SETTINGS, 0, 1), BROKEN),
    ("settings-ack-filled", frame(SETTINGS, 1, 0, b"\0\4\0\0\0\1"), SHORT),
    ("settings-window-vast", frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), "GOAWAY FLOW_CONTROL_ERROR"),
    ("settings-frame-tiny", frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), BROKEN),
    ("settings-push-2", frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), BROKEN),
    ("settings-protocols-2", frame(SETTINGS, 0, 0, struct.pack(">HI", 8, 2)), BROKEN),
    ("settings-priorities-2", frame(SETTINGS, 0, 0, struct.pack(">HI", 9, 2)), BROKEN),
    ("window-by-nothing", frame(WINDOW, 0, 0, b"\0\0\0\0"), BROKEN),
    ("window-too-far", frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff") * 2, "GOAWAY FLOW_CONTROL_ERROR"),
    ("ping-short", frame(PING, 0, 0, b"1234"), SHORT),
    ("ping-on-1", frame(PING, 0, 1, b"12345678"), BROKEN),
    ("reset-idle", frame(RST, 0, 1, b"\0\0\0\x08"), BROKEN),
    ("continuation-alone", frame(CONTINUATION, END_HEADERS, 1, request()), BROKEN),
    ("frame-too-long", frame(DATA, 0, 1, b"x" * 16385), SHORT),
    ("other-between", frame(HEADERS, END_STREAM, 1, request()[:10]) + frame(PING, 0, 0, b"12345678"), BROKEN),
    ("hpack-index-of-none", frame(HEADERS, ALL, 1, request() + b"\xff\xff\xff\xff\x07"), SQUEEZED),
    ("hpack-index-0", frame(HEADERS, ALL, 1, request() + b"\x80"), SQUEEZED),
    ("hpack-number-vast", frame(HEADERS, ALL, 1, request() + b"\xff" * 12 + b"\x01"), SQUEEZED),
    ("hpack-text-cut", frame(HEADERS, ALL, 1, request() + b"\0\x7f\xf0\xff\x03abc"), SQUEEZED),
    ("hpack-huffman-end", frame(HEADERS, ALL, 1, request() + b"\0\x81\xff\x81\xff"), SQUEEZED),
    ("hpack-table-too-large", frame(HEADERS, ALL, 1, number(1 << 20, 5, 0x20) + request()), SQUEEZED),
    ("hpack-resized", asked(resized(0) + request()), 200),
    ("hpack-resized-twice", asked(resized(0) + resized(4096) + request()), 200),
    ("hpack-resized-thrice", asked(resized(0) + resized(100) + resized(4096) + request()), 200),
    ("hpack-resized-to-more", asked(resized(0) + resized(4097) + request()), SQUEEZED),
    ("hpack-resized-within", asked(field(*M) + resized(0) + block(S, P, A)), SQUEEZED),
    ("hpack-resized-at-the-end", asked(request() + resized(0)), SQUEEZED),
    ("hpack-resized-alone", asked(resized(0), END_STREAM) + frame(CONTINUATION, END_HEADERS, 1, request()), 200),
    ("hpack-resized-between", asked(field(*M), END_STREAM) + frame(CONTINUATION, END_HEADERS, 1, resized(0) + block(S, P, A)),
     SQUEEZED),
    ("hpack-resized-away", asked(field("x", "y", 0x40) + resized(0) + request(), END_HEADERS), SQUEEZED),
    ("priority-on-0", depends(0, 3), BROKEN),
    ("priority-on-itself", depends(1, 1), BROKEN),
    ("priority-of-4", frame(PRIORITY, 0, 1, b"1234"), (SHORT, "RST FRAME_SIZE_ERROR")),
    ("priority-idle", depends(7, 3) + get(), 200),
    ("head-prioritized", asked(b"\x80\0\0\3\xff" + request(), ALL | PRIORITIZED), 200),
    ("head-prioritized-on-itself", asked(b"\0\0\0\1\xff" + request(), ALL | PRIORITIZED), BROKEN),
    ("head-prioritized-cut", asked(b"\0\0\0", ALL | PRIORITIZED), SHORT),
    ("goaway-alone", goaway(), "GOAWAY NO_ERROR"),
    ("goaway-then-a-request", goaway() + get(), 200),
    ("goaway-of-a-fault-then-a-request", goaway(code=2, text=b"why") + get(), 200),
    ("goaway-then-its-content", head(1, END_HEADERS, "POST", "/echo") + goaway() + frame(DATA, END_STREAM, 1, b"hello"), 200),
    ("goaway-of-7", frame(GOAWAY, 0, 0, b"1234567"), SHORT),
    ("goaway-on-1", frame(GOAWAY, 0, 1, b"12345678"), BROKEN),
    ("window-of-3", frame(WINDOW, 0, 0, b"123"), SHORT),
    ("window-idle", opened(1, 1), BROKEN),
    ("window-of-a-stream-by-nothing", head(1, END_HEADERS, "POST", "/echo") + opened(1, 0), REFUSED),
    ("window-of-a-stream-whole", post(end=0) + opened(1, WHOLE) + frame(DATA, END_STREAM, 1), 200),
    ("window-of-a-stream-too-far", post(end=0) + opened(1, WHOLE + 1) + frame(DATA, END_STREAM, 1), OVERFLOWN),
    ("window-of-a-stream-too-far-in-parts", post(end=0) + opened(1, WHOLE) + opened(1, 1), OVERFLOWN),
    ("settings-window-of-a-stream-too-far", post(end=0) + opened(1, WHOLE) +
     frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65536)), ("GOAWAY FLOW_CONTROL_ERROR", OVERFLOWN)),
    ("unknown-frame", frame(0x2A, 0xFF, 0, b"x" * 100) + get(), 200),
]

# What comes first, what follows its answer (the last: whole, or its head alone, since the window is shut), and what is said then.
# 200: nothing, and the next request is served.
NEXT = head(3, ALL)
BEHIND = [
    ("content", get(), frame(DATA, END_STREAM, 1, b"x"), True, LATE),
    ("content-of-none", get(), frame(DATA, END_STREAM, 1), True, LATE),
    ("trailers", get(), asked(block(("x-sum", "1"))), True, LATE),
    ("head", get(), get(), True, LATE),
    ("window", get(), opened(1, 1), True, 200),
    ("priority", get(), depends(1, 3), True, 200),
    ("reset", get(), frame(RST, 0, 1, b"\0\0\0\x08"), True, 200),
    ("content-in-its-midst", head(1, ALL, "GET", "/stream/200"), frame(DATA, END_STREAM, 1, b"x"), False, LATE),
    ("trailers-in-its-midst", head(1, ALL, "GET", "/stream/200"), asked(block(("x-sum", "1"))), False, LATE),
    ("head-in-its-midst", head(1, ALL, "GET", "/stream/200"), get(), False, LATE),
    ("window-too-far-in-its-midst", head(1, ALL, "GET", "/stream/200"), opened(1, (1 << 31) - 1) + opened(1, 1 << 20), False,
     OVERFLOWN),
    ("content-of-one-refused", head(1, END_HEADERS, "get"), frame(DATA, END_STREAM, 1, b"x"), True, 200),
    ("trailers-of-one-refused", head(1, END_HEADERS, "get"), asked(block(("x-sum", "1"))), True, 200),
    ("goaway", get(), goaway(), True, 200),
]
HTTP1 = b"GET /echo HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
BEGUN = PREFACE + SETTING
# Bytes of a whole connection, and what is said: statuses of HTTP/1, then a GOAWAY.
PREFACES = [
    ("without-settings", PREFACE + get(), [BROKEN]),
    ("settings-acknowledged-first", PREFACE + frame(SETTINGS, 1) + get(), [BROKEN]),
    ("ping-first", PREFACE + frame(PING, 0, 0, b"12345678") + SETTING, [BROKEN]),
    ("twice", BEGUN + PREFACE, [SHORT]),
    ("lower-case", BEGUN.lower() + get(), [400]),
    ("broken", BEGUN.replace(b"SM", b"SN") + get(), [400]),
    ("without-its-end", PREFACE[:-4] + SETTING + get(), [400]),
    ("after-a-line", b"\r\n" + BEGUN + get(), [400]),
    ("after-a-request", HTTP1 + b"\r\n" + BEGUN + get(), [200, 400]),
    ("after-an-upgrade", HTTP1 + H2C + b"\r\n" + BEGUN + get(), [200, 400]),
]


def ids(n):
    return range(1, 2 * n, 2)


def bomb():
    """4 KiB in the table, said again a thousand times each: 4 MiB of a KiB."""
    return frame(HEADERS, ALL, 1, request() + field("x", "a" * 4000, 0x40) + b"\xbe" * 1000)


FLOODS = [
    ("rapid-reset", b"".join(head(i, ALL) + frame(RST, 0, i, b"\0\0\0\x08") for i in ids(2000)), CALM),
    ("made-you-reset", b"".join(head(i, ALL) + frame(WINDOW, 0, i, b"\0\0\0\0") for i in ids(2000)), (CALM, BROKEN)),
    ("continuations", frame(HEADERS, END_STREAM, 1, request()) + frame(CONTINUATION, 0, 1, field("x", "y")) * 2000,
     CALM),
    ("empty-continuations", frame(HEADERS, END_STREAM, 1, request()) + frame(CONTINUATION, 0, 1) * 2000,
     CALM),
    ("hpack-bomb", bomb(), CALM),
    ("head-300-kib", frame(HEADERS, END_STREAM, 1, request()) +
     b"".join(frame(CONTINUATION, 0, 1, field("x%d" % i, "a" * 16000)) for i in range(20)),
     CALM),
    ("settings", SETTING * 2000, CALM),
    ("pings", frame(PING, 0, 0, b"12345678") * 20000, CALM),
    ("priorities", frame(PRIORITY, 0, 1, b"\0\0\0\3\1") * 20000, CALM),
    ("windows", frame(WINDOW, 0, 0, b"\0\0\0\1") * 20000, CALM),
    ("empty-data", head(1, END_HEADERS, "POST", "/echo") + frame(DATA, 0, 1) * 20000, CALM),
    ("padding-alone", head(1, END_HEADERS, "POST", "/echo") + frame(DATA, PADDED, 1, b"\x03\0\0\0") * 20000, CALM),
    ("bad-heads", b"".join(frame(HEADERS, ALL, i, block(M, S, P, A, ("X", "y"))) for i in ids(2000)), CALM),
    ("data-for-the-gone", get() + frame(RST, 0, 1, b"\0\0\0\x08") + frame(DATA, 0, 1, b"x") * 20000,
     (CALM, "GOAWAY STREAM_CLOSED")),
]


class Client:
    def __init__(self, settings=b"", begins=True):
        self.s = socket.create_connection((HOST, PORT))
        self.s.settimeout(PATIENCE)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.s.makefile("rb")
        if begins:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        try:
            self.s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def frames(self):
        try:
            while len(h := self.f.read(9)) == 9:
                size, stream = int.from_bytes(h[:3], "big"), int.from_bytes(h[5:9], "big")
                yield h[3], h[4], stream, self.f.read(size)
        except ConnectionResetError:
            pass
        yield None, 0, 0, b""


def status_of(payload):
    """nghttp2 writes :status by the static table (200, 204, 206, 304, 400, 404, 500) or as a literal by its name's index."""
    known = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
    while payload[0] & 0xE0 == 0x20:  # the table's size
        payload = payload[1:]
    if payload[0] in known:
        return known[payload[0]]
    n = payload[1] & 0x7F
    text = payload[2:2 + n]
    return int(text) if not payload[1] & 0x80 else int("".join(digits(text)))


def digits(text):
    """Huffman of digits (RFC 7541, B): 0, 1, 2 have five bits, the others six."""
    bits = "".join(f"{b:08b}" for b in text)
    while len(bits) >= 5 and (int(bits, 2) + 1 != 1 << len(bits) or len(bits) > 7):
        if bits[:5] in ("00000", "00001", "00010"):
            yield str(int(bits[:5], 2))
            bits = bits[5:]
        elif 0x19 <= int(bits[:6], 2) <= 0x1F:
            yield str(int(bits[:6], 2) - 0x16)
            bits = bits[6:]
        else:
            return


def said(c):
    """The first that is said of a stream or of the connection."""
    for kind, flags, stream, payload in c.frames():
        if kind is None:
            return "end"
        if kind == HEADERS:
            return status_of(payload)
        if kind == RST and payload[3]:
            return "RST " + CODES[payload[3]]
        if kind == GOAWAY:
            return "GOAWAY " + CODES[payload[7]]


def outcome(data):
    c = Client()
    c.send(data)
    return said(c)


def behind(first, more, whole):
    c = Client(b"" if whole else struct.pack(">HI", 4, 0))
    c.send(first)
    for kind, flags, _, _ in c.frames():
        if kind is None or (kind == HEADERS and not whole) or (kind in (DATA, HEADERS) and flags & END_STREAM):
            break
    c.send(more + NEXT)
    return said(c)


def begun(data):
    with socket.create_connection((HOST, PORT)) as s:
        s.settimeout(PATIENCE)
        s.sendall(data)
        got = b""
        try:
            while more := s.recv(65536):
                got += more
        except ConnectionResetError:
            pass
    statuses = [int(n) for n in re.findall(rb"HTTP/1\.1 (\d{3}) ", got)]
    gone = [at for at in frames_of(got) if at[0] == GOAWAY] if not statuses else []
    return statuses + ["GOAWAY " + CODES[payload[7]] for _, payload in gone[:1]]


def frames_of(got):
    while len(got) >= 9:
        size = int.from_bytes(got[:3], "big")
        yield got[3], got[9:9 + size]
        got = got[9 + size:]


def dripped():
    c = Client(begins=False)
    for i in range(len(BEGUN)):
        c.send(BEGUN[i:i + 1])
    c.send(get())
    return said(c)


def upgraded():
    """What a client that would rather speak HTTP/2 is answered, and what the server is told of that."""
    with socket.create_connection((HOST, PORT)) as s:
        s.settimeout(PATIENCE)
        s.sendall(HTTP1 + H2C.replace(b"Connection: ", b"Connection: close, ") + b"\r\n")
        got = b"".join(iter(lambda: s.recv(65536), b""))
    head, _, body = got.partition(b"\r\n\r\n")
    return head[:12], [n for n, v in json.loads(body)["headers"] if re.search("upgrade|http2-", n + v, re.I)]


def told(n=1):
    """A good request on a new connection: the server answers, and has seen nothing that it should not."""
    c = Client()
    c.send(get())
    body = b""
    for kind, flags, _, payload in c.frames():
        if kind == DATA:
            body += payload
        if kind is None or (kind in (DATA, HEADERS) and flags & END_STREAM):
            break
    return json.loads(body)["path"] == "/echo"


def row(name, got, *wanted):
    good = got in wanted
    print(("PASS " if good else "FAIL ") + "http2/" + name + ("" if good else f": wanted {wanted}, got {got!r}"))
    return good


def ended(data):
    """Floods: what is said first that ends the connection, and that it ends."""
    c = Client()
    c.send(data)
    said = "nothing"
    for kind, _, _, payload in c.frames():
        if kind == GOAWAY and said == "nothing":
            said = "GOAWAY " + CODES[payload[7]]
        if kind is None:
            return said


def closed_window():
    """128 answers that nobody lets come: others are served, and more are refused, not kept."""
    c = Client(struct.pack(">HI", 4, 0))
    c.send(b"".join(head(i, ALL, "GET", "/stream/200") for i in ids(140)))
    refused = 0
    for kind, _, stream, payload in c.frames():
        if kind == RST and payload[3] == 7:
            refused += 1
        if refused == 12 or kind is None:
            break
    good = told()
    # The window opens: the first answer comes whole.
    c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 20)) + frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
    size = 0
    for kind, flags, stream, payload in c.frames():
        size += len(payload) if kind == DATA and stream == 1 else 0
        if kind is None or (stream == 1 and flags & END_STREAM and kind in (DATA, HEADERS)):
            break
    return refused, good, size


def left():
    """A client that ends its side with requests on their way is gone: a server that says nothing does not keep the connection."""
    c = Client()
    c.send(head(1, ALL, "GET", "/slow/600000") + head(3, END_HEADERS, "POST", "/echo"))
    c.s.shutdown(socket.SHUT_WR)
    try:
        return [CODES[payload[3]] for kind, _, _, payload in c.frames() if kind == RST]
    except TimeoutError:
        return "waits"


ok = True
for table in (HEADS, BODIES, FRAMES):
    for name, data, wanted in table:
        ok &= row(name, outcome(data), *(wanted if isinstance(wanted, tuple) else (wanted,)))
for name, data, wanted in FLOODS:
    ok &= row("flood-" + name, ended(data), *(wanted if isinstance(wanted, tuple) else (wanted,)))
    ok &= row("flood-" + name + "-others-are-served", told(), True)
for name, first, more, whole, wanted in BEHIND:
    ok &= row("behind-an-answer-" + name, behind(first, more, whole), wanted)
for name, data, wanted in PREFACES:
    ok &= row("preface-" + name, begun(data), wanted)
ok &= row("preface-byte-by-byte", dripped(), 200)
ok &= row("upgrade-h2c", upgraded(), (b"HTTP/1.1 200", []))
ok &= row("closed-window", closed_window(), (12, True, 200000))
ok &= row("left", left(), ["INTERNAL_ERROR"] * 2)
sys.exit(not ok)
