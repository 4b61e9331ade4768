"""
Our reader of HTTP/1 beside h11, another parser: streams that grammar and chance produce are read by both.
What ours takes, h11 must take too and read in the same way: method, target, fields, body, where it ends.
(Not the other way round: ours refuses more.) Argument: the program http1-dump.
"""
import random
import subprocess
import sys

import h11

SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 4000
rng = random.Random(SEED)

HEADS = [b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"GET http://a/x HTTP/1.1", b"OPTIONS * HTTP/1.1",
         b"PUT /p HTTP/1.0", b"HEAD /%41 HTTP/1.1"]
FIELDS = [b"Accept: */*", b"X-A:1", b"X-B: \t two words \t", b"Connection: close", b"Connection: keep-alive, X-A",
          b"Expect: 100-continue", b"Cookie: a=b", b"X-Empty:", b"X-High: \xff\xfe", b"TE: trailers", b"TE: gzip;q=0.5 , trailers"]
BODIES = [(b"", b""), (b"Content-Length: 5", b"hello"), (b"Content-Length: 0", b""),
          (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
          (b"Transfer-Encoding: chunked", b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n")]
SPICE = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"0", b"a", b"\x0b", b";", b",", b"\xff", b"chunked",
         b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"\r\n\r\n", b"#", b"//"]


def message():
    head = rng.choice(HEADS)
    fields = [b"Host: a"] + rng.sample(FIELDS, rng.randrange(4))
    field, body = rng.choice(BODIES)
    if field:
        fields.append(field)
    rng.shuffle(fields)
    return b"\r\n".join([head] + fields) + b"\r\n\r\n" + body


def stream():
    data = bytearray(b"".join(message() for _ in range(rng.randrange(1, 4))))
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(3)
        if what == 0:
            data[at:at] = rng.choice(SPICE)
        elif what == 1:
            del data[at:at + rng.randrange(1, 4)]
        elif at < len(data):
            data[at] = rng.randrange(256)
    return bytes(data)


def parse_dump(text):
    """Messages that ours took whole, and how it ended."""
    out, now, end = [], None, None
    for line in text.split(b"\n"):
        word, _, rest = line.partition(b" ")
        if word == b"request":
            method, target, minor = rest.split(b" ")
            now = {"method": method, "target": target, "version": b"1." + minor, "fields": [], "size": 0}
        elif word in (b"field", b"hidden") and now is not None:
            name, _, value = rest.partition(b": ")
            if not now.get("last"):
                now["fields"].append((name.lower(), value))
        elif word == b"last":
            now["last"] = True
        elif word == b"end":
            now["size"], now["hash"] = int(rest.split(b" ")[0]), rest.split(b" ")[2]
            now.pop("last", None)
            out.append(now)
            now = None
        elif word in (b"fault", b"more"):
            end = line
    return out, end


def fnv(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return b"%016x" % value


def twin(data, count):
    """The first `count` messages as h11 reads them; raises if it refuses one."""
    out = []
    for _ in range(count):
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=100000)
        # h11 does not forgive an empty line in front of a request, ours does (RFC 9112, 2.2).
        if data.startswith(b"\r\n"):
            data = data[2:]
        conn.receive_data(data)
        event = conn.next_event()
        assert isinstance(event, h11.Request), event
        body = b""
        while True:
            more = conn.next_event()
            if isinstance(more, h11.Data):
                body += bytes(more.data)
            elif isinstance(more, h11.EndOfMessage):
                break
            else:
                raise AssertionError(more)
        out.append({"method": event.method, "target": event.target, "version": event.http_version,
                    "fields": sorted((bytes(n), bytes(v)) for n, v in event.headers),
                    "size": len(body), "hash": fnv(body)})
        data = conn.trailing_data[0]
    return out


def value_of(name, value):
    if name == b"te" and b"trailers" in [word.strip(b" \t").lower() for word in value.split(b",")]:
        return b"trailers"
    return value.lower() if name == b"transfer-encoding" else value


def canonical(fields):
    """h11 lowers `chunked` and drops what repeats of Content-Length; ours has neither to do, and of TE it keeps one word."""
    return sorted((n, value_of(n, v)) for n, v in fields)


def main():
    streams = [stream() for _ in range(ROUNDS)]
    done = subprocess.run([sys.argv[1]], input=b"".join(s.hex().encode() + b"\n" for s in streams),
                          stdout=subprocess.PIPE, check=True)
    dumps = done.stdout.split(b"\n.\n")
    taken = refused = bad = 0
    for data, dump in zip(streams, dumps):
        ours, end = parse_dump(dump)
        taken += len(ours)
        refused += end is not None and end.startswith(b"fault")
        try:
            theirs = twin(data, len(ours))
        except (h11.RemoteProtocolError, AssertionError) as error:
            print("h11 refuses what ours takes:", error, data)
            bad += 1
            continue
        for a, b in zip(ours, theirs):
            a["fields"] = canonical(a["fields"])
            b["fields"] = canonical(b["fields"])
            if a != b:
                print("read differently:", data, a, b, sep="\n  ")
                bad += 1
                break
    print(f"{ROUNDS} streams, {taken} messages read alike, {refused} streams refused, {bad} differences")
    sys.exit(1 if bad or not taken or not refused else 0)


main()
