"""Bytes of our own making, as a client: `http_raw.py HOST PORT CASE`. Prints what a case asks for."""
import json
import socket
import sys
import time

HOST, PORT, CASE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
H = b"Host: " + HOST.encode() + b"\r\n"
GET = b"GET /echo HTTP/1.1\r\n" + H
POST = b"POST /echo HTTP/1.1\r\n" + H


def connect():
    s = socket.create_connection((HOST, PORT))
    s.settimeout(20)
    return s, s.makefile("rb")


def response(f, head=False):
    """status, fields, body of one response."""
    line = f.readline()
    if not line:
        return None
    fields = {}
    while (text := f.readline()) not in (b"\r\n", b""):
        name, _, value = text.partition(b":")
        fields[name.lower()] = value.strip()
    status = int(line.split()[1])
    if head or status < 200 or status in (204, 304):
        return status, fields, b""
    if fields.get(b"transfer-encoding") == b"chunked":
        pieces = []
        while n := int(f.readline().split(b";")[0], 16):
            pieces.append(f.read(n))
            f.readline()
        body = b"".join(pieces)
        while f.readline() not in (b"\r\n", b""):
            pass
        return status, fields, body
    if b"content-length" in fields:
        return status, fields, f.read(int(fields[b"content-length"]))
    return status, fields, f.read()


BAD = {
    "cl-and-te": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two-cl": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "same-cl-twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "cl-list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "cl-signed": POST + b"Content-Length: +5\r\n\r\nhello",
    "cl-19-digits": POST + b"Content-Length: 1000000000000000000\r\n\r\n",
    "te-gzip": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te-twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te-http10": b"POST /echo HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare-lf": b"GET /echo HTTP/1.1\n" + H + b"\r\n",
    "bare-lf-field": b"GET /echo HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare-cr": GET + b"X: a\rb\r\n\r\n",
    "nul": GET + b"X: a\0b\r\n\r\n",
    "obs-fold": GET + b"X: a\r\n b\r\n\r\n",
    "space-before-colon": GET + b"X : a\r\n\r\n",
    "leading-space": b"GET /echo HTTP/1.1\r\n X: a\r\n" + H + b"\r\n",
    "empty-name": GET + b": a\r\n\r\n",
    "bad-name": GET + b"X(: a\r\n\r\n",
    "http09": b"GET /echo\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two-spaces": b"GET  /echo HTTP/1.1\r\n" + H + b"\r\n",
    "no-host": b"GET /echo HTTP/1.1\r\n\r\n",
    "two-hosts": GET + b"Host: other\r\n\r\n",
    "bad-host": b"GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n",
    "absolute-not-host": b"GET http://other/echo HTTP/1.1\r\n" + H + b"\r\n",
    "fragment": b"GET /echo#x HTTP/1.1\r\n" + H + b"\r\n",
    "encoded-slash": b"GET /echo%2fx HTTP/1.1\r\n" + H + b"\r\n",
    "encoded-backslash": b"GET /echo%5cx HTTP/1.1\r\n" + H + b"\r\n",
    "backslash": b"GET /echo\\x HTTP/1.1\r\n" + H + b"\r\n",
    "encoded-nul": b"GET /echo%00 HTTP/1.1\r\n" + H + b"\r\n",
    "parameter": b"GET /echo;x HTTP/1.1\r\n" + H + b"\r\n",
    "above-root": b"GET /../echo HTTP/1.1\r\n" + H + b"\r\n",
    "overlong": b"GET /%c0%ae%c0%ae/echo HTTP/1.1\r\n" + H + b"\r\n",
    "bad-percent": b"GET /echo%zz HTTP/1.1\r\n" + H + b"\r\n",
    "chunk-size": POST + b"Transfer-Encoding: chunked\r\n\r\n5g\r\nhello\r\n0\r\n\r\n",
    "chunk-0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk-17-digits": POST + b"Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "chunk-end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    "trailer-cl": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
    "trailer-auth": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: x\r\n\r\n",
    "connection-host": GET + b"Connection: host\r\n\r\n",
}
# Path, what the server is to see.
PATHS = [("/echo/a/../b", "/echo/b"), ("//echo//a", "/echo/a"), ("/./echo/%61", "/echo/a"),
         ("/echo/%7e%2d?x=%2f..", "/echo/~-?x=%2f.."), ("/echo/caf%c3%a9", "/echo/caf%C3%A9")]


def malformed():
    """Each is answered 400, the connection ends, and no byte of it reached a server."""
    wrong = []
    for name, data in BAD.items():
        s, f = connect()
        s.sendall(data)
        got = response(f)
        rest = f.read() if got else b""
        if not got or got[0] != 400 or rest:
            wrong.append((name, got and got[0], rest[:20]))
        s.close()
    print("wrong:", wrong) if wrong else print(len(BAD) >= 40 and "all refused")


def smuggle():
    """A second request hidden in a first one's body never runs as one."""
    s, f = connect()
    inner = b"GET /echo/smuggled HTTP/1.1\r\n" + H + b"\r\n"
    s.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(inner) + inner + GET + b"\r\n")
    first, second = response(f), response(f)
    s.shutdown(socket.SHUT_WR)
    paths = [json.loads(r[2])["path"] for r in (first, second)]
    print(paths, response(f))


def pipelined():
    """A hundred requests at once: a hundred answers, in order, from both kinds of server."""
    s, f = connect()
    s.sendall(b"".join(b"GET /%s?n=%d HTTP/1.1\r\n" % (b"v2/echo" if i % 3 == 0 else b"echo", i) + H + b"\r\n"
                       for i in range(100)))
    seen, names = [], set()
    for _ in range(100):
        told = json.loads(response(f)[2])
        seen.append(int(told["path"].split("=")[1]))
        names.add(told["name"])
    print(seen == list(range(100)), sorted(names))


def bytewise():
    """One byte at a time."""
    s, f = connect()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = POST + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n"
    for i in range(len(data)):
        s.sendall(data[i:i + 1])
    told = json.loads(response(f)[2])
    print(told["size"], told["sha256"][:8], told["trailers"])


def expect():
    """100-continue comes before the body is sent."""
    s, f = connect()
    s.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    first = response(f)
    s.sendall(b"hello")
    print(first[0], json.loads(response(f)[2])["size"])


def paths():
    out = []
    for asked, want in PATHS:
        s, f = connect()
        s.sendall(b"GET " + asked.encode() + b" HTTP/1.1\r\n" + H + b"\r\n")
        got = json.loads(response(f)[2])["path"]
        if got != want:
            out.append((asked, got))
    print(out or "canonical")


def hops():
    """What is of one hop does not reach the server."""
    s, f = connect()
    s.sendall(GET + b"Connection: keep-alive, X-Drop\r\nX-Drop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
              b"X-Forwarded-Client-Cert: URI=spiffe://forged\r\nUpgrade: h2c\r\nX-Keep: 1\r\n\r\n")
    print(sorted(n.lower() for n, _ in json.loads(response(f)[2])["headers"]))


def http10():
    """Closed after the answer, unless asked for."""
    s, f = connect()
    s.sendall(b"GET /echo HTTP/1.0\r\n" + H + b"\r\n")
    first = response(f)
    closed = f.read() == b""
    s, f = connect()
    s.sendall(b"GET /echo HTTP/1.0\r\n" + H + b"Connection: keep-alive\r\n\r\n")
    a = response(f)
    s.sendall(b"GET /echo HTTP/1.0\r\n" + H + b"Connection: keep-alive\r\n\r\n")
    b = response(f)
    print(first[0], closed, a[0], b[0])


def limits():
    """431 for a head too large or of too many fields."""
    out = []
    for data in (GET + b"X: " + b"a" * 70000 + b"\r\n\r\n", GET + b"X: y\r\n" * 120 + b"\r\n"):
        s, f = connect()
        s.sendall(data)
        out.append(response(f)[0])
    s, f = connect()
    s.sendall(GET + b"X: " + b"a" * 50000 + b"\r\n\r\n")
    out.append(response(f)[0])
    print(out)


def upgrade():
    s, f = connect()
    s.sendall(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n")
    first = response(f)
    s, f = connect()
    s.sendall(b"CONNECT " + HOST.encode() + b":80 HTTP/1.1\r\nHost: " + HOST.encode() + b":80\r\n\r\n")
    print(first[0], response(f)[0])


def servers_faults():
    """What a bad server does: its client is told, and its connection goes on where that can be."""
    out = []
    for path in (b"/close", b"/garbage", b"/echo"):
        s, f = connect()
        s.sendall(b"POST " + path + b" HTTP/1.1\r\n" + H + b"Content-Length: 1\r\n\r\nx")
        got = response(f)
        s.sendall(GET + b"\r\n")
        again = response(f)
        out.append((got[0], again and again[0]))
    s, f = connect()
    s.sendall(b"GET /half HTTP/1.1\r\n" + H + b"\r\n")
    try:
        out.append(("half", len(response(f)[2])))
    except ConnectionResetError:
        out.append(("half", "reset"))
    print(out)


def endings():
    """Chunks are made normal, and what ends with its connection ends."""
    s, f = connect()
    s.sendall(b"GET /stream/50 HTTP/1.1\r\n" + H + b"\r\n")
    got = response(f)
    s.sendall(b"GET /until-close/100000 HTTP/1.1\r\n" + H + b"\r\n")
    again = response(f)
    print(len(got[2]), len(again[2]), f.read())


def slow_reader():
    """A client that does not read: nothing is lost."""
    s, f = connect()
    s.sendall(b"GET /stream/20000 HTTP/1.1\r\n" + H + b"\r\n")
    time.sleep(0.3)
    print(len(response(f)[2]))


def half_closed():
    """A client that ends its side after the request has its answer."""
    s, f = connect()
    s.sendall(GET + b"\r\n")
    s.shutdown(socket.SHUT_WR)
    print(response(f)[0], f.read())


globals()[CASE]()
