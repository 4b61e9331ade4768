"""Bytes of our own making, as a client: `http_raw.py HOST PORT CASE`. Prints what a case asks for."""
import fcntl
import json
import os
import socket
import sys
import termios
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
    "http2": b"GET /echo HTTP/2.0\r\n" + H + b"\r\n",
    "http2-preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
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
    # Lengths.
    "cl-empty": POST + b"Content-Length:\r\n\r\n",
    "cl-hex": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "cl-minus": POST + b"Content-Length: -5\r\n\r\nhello",
    "cl-comma": POST + b"Content-Length: 5,\r\n\r\nhello",
    "cl-blank-inside": POST + b"Content-Length: 5 5\r\n\r\nhello",
    "cl-point": POST + b"Content-Length: 5.0\r\n\r\nhello",
    "cl-quoted": POST + b'Content-Length: "5"\r\n\r\nhello',
    "cl-vt": POST + b"Content-Length: \x0b5\r\n\r\nhello",
    "cl-get-and-te": GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "cl-space-colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "cl-nul-name": POST + b"Content-Length\0: 5\r\n\r\nhello",
    # Encodings.
    "te-xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te-identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "te-chunked-identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "te-identity-chunked": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "te-chunked-comma": POST + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "te-comma-chunked": POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "te-quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "te-parameter": POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "te-vt": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "te-nul": POST + b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
    "te-space-colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "te-tab-colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "te-empty": POST + b"Transfer-Encoding:\r\n\r\n",
    "te-folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "te-high-bytes": POST + b"Transfer-Encoding: chunked\xa0\r\n\r\n0\r\n\r\n",
    # Chunks.
    "chunk-plus": POST + b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk-minus": POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "chunk-blank-before": POST + b"Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
    "chunk-empty-size": POST + b"Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    "chunk-only-extension": POST + b"Transfer-Encoding: chunked\r\n\r\n;a=b\r\nhello\r\n0\r\n\r\n",
    "chunk-underscore": POST + b"Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n",
    "chunk-cr": POST + b"Transfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n",
    "chunk-two-cr": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\r\nhello\r\n0\r\n\r\n",
    "chunk-extension-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "chunk-extension-cr": POST + b"Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
    "chunk-extension-nul": POST + b"Transfer-Encoding: chunked\r\n\r\n5;a\0\r\nhello\r\n0\r\n\r\n",
    "chunk-extension-long": POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    "chunk-no-end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    "chunk-end-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
    "chunk-last-junk": POST + b"Transfer-Encoding: chunked\r\n\r\n0x\r\n\r\n",
    "chunk-huge": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "trailer-te": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer-host": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\n\r\n",
    "trailer-cookie": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nCookie: x\r\n\r\n",
    "trailer-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
    "trailer-fold": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n z\r\n\r\n",
    # Start lines.
    "line-tab": b"GET\t/echo\tHTTP/1.1\r\n" + H + b"\r\n",
    "line-trailing-blank": b"GET /echo HTTP/1.1 \r\n" + H + b"\r\n",
    "line-leading-blank": b" GET /echo HTTP/1.1\r\n" + H + b"\r\n",
    "line-nul": b"\0GET /echo HTTP/1.1\r\n" + H + b"\r\n",
    "line-vt": b"GET /echo\x0bHTTP/1.1\r\n" + H + b"\r\n",
    "line-lower": b"GET /echo http/1.1\r\n" + H + b"\r\n",
    "line-12": b"GET /echo HTTP/1.2\r\n" + H + b"\r\n",
    "line-110": b"GET /echo HTTP/1.10\r\n" + H + b"\r\n",
    "line-011": b"GET /echo HTTP/01.1\r\n" + H + b"\r\n",
    "line-3": b"GET /echo HTTP/3.0\r\n" + H + b"\r\n",
    "line-cr": b"GET /echo HTTP/1.1\r" + H + b"\r\n",
    "line-bad-method": b"G(T /echo HTTP/1.1\r\n" + H + b"\r\n",
    "line-empty-method": b" /echo HTTP/1.1\r\n" + H + b"\r\n",
    "target-no-slash": b"GET echo HTTP/1.1\r\n" + H + b"\r\n",
    "target-blank": b"GET /echo x HTTP/1.1\r\n" + H + b"\r\n",
    "target-star-get": b"GET * HTTP/1.1\r\n" + H + b"\r\n",
    "target-authority-get": b"GET " + HOST.encode() + b":80 HTTP/1.1\r\n" + H + b"\r\n",
    "target-user": b"GET http://u@" + HOST.encode() + b"/echo HTTP/1.1\r\n" + H + b"\r\n",
    "target-no-host": b"GET http:///echo HTTP/1.1\r\n" + H + b"\r\n",
    "target-ftp": b"GET ftp://" + HOST.encode() + b"/echo HTTP/1.1\r\n" + H + b"\r\n",
    "target-high-byte": b"GET /echo\xff HTTP/1.1\r\n" + H + b"\r\n",
    "target-del": b"GET /echo\x7f HTTP/1.1\r\n" + H + b"\r\n",
    "encoded-crlf": b"GET /echo%0d%0aX:%20y HTTP/1.1\r\n" + H + b"\r\n",
    "encoded-del": b"GET /echo%7f HTTP/1.1\r\n" + H + b"\r\n",
    # Hosts.
    "host-empty": b"GET /echo HTTP/1.1\r\nHost:\r\n\r\n",
    "host-comma": b"GET /echo HTTP/1.1\r\nHost: " + HOST.encode() + b", other\r\n\r\n",
    "host-user": b"GET /echo HTTP/1.1\r\nHost: u@" + HOST.encode() + b"\r\n\r\n",
    "host-path": b"GET /echo HTTP/1.1\r\nHost: " + HOST.encode() + b"/x\r\n\r\n",
    "host-query": b"GET /echo HTTP/1.1\r\nHost: " + HOST.encode() + b"?x\r\n\r\n",
    "host-bad-port": b"GET /echo HTTP/1.1\r\nHost: " + HOST.encode() + b":80x\r\n\r\n",
    "host-large-port": b"GET /echo HTTP/1.1\r\nHost: " + HOST.encode() + b":99999\r\n\r\n",
    "host-bracket": b"GET /echo HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "host-backslash": b"GET /echo HTTP/1.1\r\nHost: a\\b\r\n\r\n",
    "host-percent": b"GET /echo HTTP/1.1\r\nHost: a%2fb\r\n\r\n",
    "host-folded": b"GET /echo HTTP/1.1\r\nHost:\r\n " + HOST.encode() + b"\r\n\r\n",
    "host-twice-same": GET + H + b"\r\n",
    "host-space-colon": b"GET /echo HTTP/1.1\r\nHost : " + HOST.encode() + b"\r\n\r\n",
    "host-http10-twice": b"GET /echo HTTP/1.0\r\n" + H + b"Host: b\r\n\r\n",
    # Fields.
    "field-no-colon": GET + b"X\r\n\r\n",
    "field-del": GET + b"X: a\x7f\r\n\r\n",
    "field-tab-colon": GET + b"X\t: a\r\n\r\n",
    "field-high-name": GET + b"X\xe9: a\r\n\r\n",
    "field-nul-name": GET + b"X\0: a\r\n\r\n",
    "field-pseudo": GET + b":method: PUT\r\n\r\n",
    "field-two-cr": GET + b"X: a\r\r\n\r\n",
    "field-lf-end": GET + b"X: a\r\n\n",
    "field-tab-fold": GET + b"X: a\r\n\tb\r\n\r\n",
    "field-bell": GET + b"X: a\x07\r\n\r\n",
    "connection-te": POST + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "connection-cl": POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    "connection-auth": GET + b"Connection: Authorization\r\nAuthorization: x\r\n\r\n",
    "connection-cookie": GET + b"Connection: Cookie\r\nCookie: x\r\n\r\n",
}
# Path, what the server is to see.
PATHS = [("/echo/a/../b", "/echo/b"), ("//echo//a", "/echo/a"), ("/./echo/%61", "/echo/a"),
         ("/echo/%7e%2d?x=%2f..", "/echo/~-?x=%2f.."), ("/echo/caf%c3%a9", "/echo/caf%C3%A9")]


def malformed():
    """Each is answered 400, the connection ends, and no byte of it reached a server."""
    wrong = []
    for name, data in BAD.items():
        s, f = connect()
        s.settimeout(20)
        s.sendall(data)
        try:
            got = response(f)
            rest = f.read() if got else b""
        except TimeoutError:
            got, rest = None, b"it waits for more"
        if not got or got[0] != 400 or rest:
            wrong.append((name, got and got[0], rest[:20]))
        s.close()
    print("wrong:", wrong) if wrong else print(len(BAD) >= 130 and "all refused")


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
    s, f = connect()
    s.sendall(b"GET /stream/3 HTTP/1.0\r\n" + H + b"Connection: keep-alive\r\n\r\n")
    c = response(f)
    bare = b"transfer-encoding" not in c[1] and b"trailer" not in c[1] and c[1][b"connection"] == b"close"
    print(first[0], closed, a[0], b[0], c[0], bare, len(c[2]))


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
    s.sendall(GET + b"Connection: Upgrade\r\nUpgrade: other\r\n\r\n")
    first = response(f)
    s, f = connect()
    s.sendall(b"CONNECT " + HOST.encode() + b":80 HTTP/1.1\r\nHost: " + HOST.encode() + b":80\r\n\r\n")
    print(first[0], response(f)[0])


WS = b"GET /ws HTTP/1.1\r\n" + H + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n" \
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def websocket():
    """Agreed: bytes both ways, some of them sent with the request; each side ends by itself."""
    s, f = connect()
    s.sendall(WS + b"\r\nearly")
    head = response(f)
    data = bytes(range(256)) * 4096
    s.sendall(data)
    same = f.read(5 + len(data)) == b"early" + data
    s.shutdown(socket.SHUT_WR)
    print(head[0], head[1].get(b"upgrade"), head[1].get(b"connection"), head[1].get(b"sec-websocket-accept"), same, f.read())


def websocket_not():
    """Not agreed: HTTP goes on. Not asked for as RFC 6455 has it: refused. Agreed unasked: an error."""
    out = []
    s, f = connect()
    s.sendall(WS.replace(b"/ws", b"/echo") + b"\r\n" + GET + b"\r\n")
    out += [response(f)[0], response(f)[0]]
    for bad in (WS.replace(b"GET", b"POST") + b"\r\n", WS + b"Content-Length: 1\r\n\r\nx",
                WS + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", WS.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
                WS + b"Upgrade: websocket\r\n\r\n", WS.replace(b"Upgrade: WebSocket", b"Upgrade: websocket, other") + b"\r\n"):
        s, f = connect()
        s.sendall(bad)
        out.append(response(f)[0])
    s, f = connect()
    s.sendall(b"GET /switch HTTP/1.1\r\n" + H + b"\r\n")
    out.append(response(f)[0])
    print(out)


def after_close():
    """What follows a request that ends its connection is nobody's."""
    s, f = connect()
    s.sendall(GET + b"Connection: close\r\n\r\n" + GET + b"\r\n")
    first = response(f)
    s2, f2 = connect()
    s2.sendall(b"GET /echo HTTP/1.0\r\n" + H + b"\r\n" + GET + b"\r\n")
    print(first[0], f.read(), response(f2)[0], f2.read())


def responses():
    """Servers' answers that two readers could take in two ways."""
    out = []
    for case in ("cl-te", "cl-list", "te-gzip", "bare-lf", "fold", "space-colon", "status-2", "version", "chunk", "no-reason",
                 "te-204", "many-1xx"):
        s, f = connect()
        s.sendall(b"GET /bad/" + case.encode() + b" HTTP/1.1\r\n" + H + b"\r\n")
        try:
            while (got := response(f)) and got[0] < 200:
                pass
            out.append(got and got[0])
        except (ConnectionResetError, ValueError):
            out.append("cut")
    print(out)


def broken():
    """An answer that breaks off right behind its head: the head comes first, each time."""
    seen = set()
    for _ in range(20):
        s, _ = connect()
        s.sendall(b"GET /bad/chunk HTTP/1.1\r\n" + H + b"\r\n")
        got = b""
        try:
            while data := s.recv(65536):
                got += data
            seen.add((got[:12], "end"))
        except ConnectionResetError:
            seen.add((got[:12], "reset"))
    print(sorted(seen))


def left_over():
    """More than was asked for is nobody's answer: the next request has its own."""
    out = []
    for method, path in ((b"GET", b"/bad/more"), (b"HEAD", b"/bad/head-body"), (b"GET", b"/bad/body-204"), (b"GET", b"/bad/body-304")):
        s, f = connect()
        s.sendall(method + b" " + path + b" HTTP/1.1\r\n" + H + b"\r\n")
        first = response(f, method == b"HEAD")
        s.sendall(b"GET /echo/mine HTTP/1.1\r\n" + H + b"\r\n")
        out.append((first[0], json.loads(response(f)[2])["path"]))
    print(out)


def early():
    """A server that answers and then does not read: what the next request is has nothing to do with it."""
    s, f = connect()
    s.sendall(b"POST /early HTTP/1.1\r\n" + H + b"Content-Length: 300000\r\n\r\n" + b"x" * 300000)
    left = None
    while left != bytes(4):  # of the body, not taken by flatd
        left = fcntl.ioctl(s, termios.TIOCOUTQ, bytes(4))
    open(os.path.join(os.environ["ORIGIN_WAITS"], "early"), "w").close()
    first = response(f)[0]
    s.sendall(b"GET /echo/" + b"y" * 20000 + b" HTTP/1.1\r\n" + H + b"\r\n")
    print(first, len(json.loads(response(f)[2])["path"]))


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
