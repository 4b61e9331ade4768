"""
Asks with trailers, over HTTP/1.1 or HTTP/2, and tells of those that a server got or gave:
`trailers.py h1|h2 HOST PORT PATH [--head FIELD]... [TRAILER]...`, with fields as `name: value`. The server is http_origin.py: what of the
request it got is in its JSON; of other answers their own trailers are printed. One line, by blanks; `none` for nothing.
"""
import json
import socket
import struct
import sys

WAY, HOST, PORT, PATH = sys.argv[1:5]
HEAD, TRAILERS = [], []
rest = sys.argv[5:]
while rest:
    if rest[0] == "--head":
        HEAD.append(rest[1])
        rest = rest[2:]
    else:
        TRAILERS.append(rest.pop(0))


def h1(s):
    s.sendall((f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" +
               "".join(f + "\r\n" for f in HEAD) + "\r\n2\r\nhi\r\n0\r\n" +
               "".join(f + "\r\n" for f in TRAILERS) + "\r\n").encode())
    f = s.makefile("rb")
    status = int(f.readline().split()[1])
    fields = {}
    while (line := f.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    if fields.get("transfer-encoding") != "chunked":
        return status, f.read(int(fields["content-length"])), []
    body = b""
    while n := int(f.readline().split(b";")[0], 16):
        body += f.read(n)
        f.readline()
    return status, body, [line.decode().strip() for line in iter(f.readline, b"\r\n")]


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def number(n):
    return bytes([n]) if n < 127 else bytes([127, n - 127])


def literal(name, value):
    return b"\0" + number(len(name)) + name.encode() + number(len(value)) + value.encode()


def block(fields):
    return b"".join(literal(n.strip().lower(), v.strip()) for n, v in fields)


def pairs(fields):
    return [f.split(":", 1) for f in fields]


def h2(s):
    head = [(":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", HOST)]
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, block(head + pairs(HEAD))) +
              frame(0, 0, 1, b"hi") + frame(1, 5, 1, block(pairs(TRAILERS))))
    f = s.makefile("rb")
    body, status = b"", 0
    while True:
        start = f.read(9)
        kind, flags = start[3], start[4]
        payload = f.read(int.from_bytes(start[:3], "big"))
        if kind == 1 and not status:
            # The first field is :status: of HPACK's table.
            status = {0x88: 200}.get(payload[0], payload[0])
        elif kind == 0:
            body += payload
        elif kind in (3, 7):
            return 0, b"", [f"{'RST' if kind == 3 else 'GOAWAY'} {payload.hex()}"]
        if kind in (0, 1) and flags & 1:
            return status, body, []


with socket.create_connection(("127.0.0.1", int(PORT)), 20) as connection:
    code, content, own = (h1 if WAY == "h1" else h2)(connection)
if code != 200:
    print(code, *own)
elif content.startswith(b"{"):
    told = json.loads(content)
    print(*(told["trailers"] or ["none"]), told["size"])
else:
    print(*(own or ["none"]))
