"""The gRPC client of grpc.sh. Arguments: HOST:PORT, what to do. The last line it prints is the result."""
import concurrent.futures
import queue
import sys
import time

import grpc

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0))
TARGET, WHAT = sys.argv[1:3]
channel = grpc.insecure_channel(TARGET, options=OPTIONS)


def call(kind, method):
    return getattr(channel, kind)(f"/test.Echo/{method}")


unary, down = call("unary_unary", "Unary"), call("unary_stream", "Down")
up, chat = call("stream_unary", "Up"), call("stream_stream", "Chat")
T = 20


def status(method="Unary", **meta):
    """Status and text of a call that has this metadata."""
    try:
        _, it = call("unary_unary", method).with_call(b"x", timeout=T, metadata=tuple((k.replace("_", "-"), v) for k, v in meta.items()))
        return "OK", dict(it.trailing_metadata()).get("x-calls")
    except grpc.RpcError as e:
        return e.code().name, e.details()


def kinds():
    """All four kinds of calls, with their metadata at both ends."""
    out = [unary(b"hello", timeout=T).decode()]
    d = down(b"abc", timeout=T, metadata=(("x-tail", "t"),))
    out.append(b"|".join(d).decode())
    out.append(dict(d.initial_metadata())["x-name"])
    out.append(dict(d.trailing_metadata())["x-tail"])
    out.append(up(iter([b"12", b"345"]), timeout=T).decode())
    out.append(b"|".join(chat(iter([b"a", b"b", b"c"]), timeout=T)).decode())
    return out


def interleaved():
    """A conversation: each question waits for the answer before it."""
    asked = queue.Queue()
    answers = chat(iter(asked.get, None), timeout=T)
    n = 0
    for i in range(200):
        asked.put(b"%d" % i)
        n += next(answers) == b"%d" % i
    asked.put(None)
    return n, list(answers)


def talk():
    """Five messages each way, and nothing more until standard input ends."""
    asked = queue.Queue()
    answers = chat(iter(asked.get, None), timeout=60)
    for _ in range(5):
        asked.put(b"x")
        next(answers)
    print("talking", flush=True)
    sys.stdin.read()
    asked.put(None)
    return len(list(answers))


def large():
    """20 MB each way in one message, and 64 MB in a stream."""
    blob = bytes(range(256)) * 80000
    piece = bytes(1 << 20)
    return unary(blob, timeout=T) == blob, up((piece for _ in range(64)), timeout=60).decode()


def many():
    """500 calls, 50 at a time, on one connection."""
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        got = list(pool.map(lambda i: unary(b"%d" % i, timeout=T) == b"%d" % i, range(500)))
    return sum(got)


def streams():
    """100 conversations open at once on one connection."""
    pairs = []
    for i in range(100):
        q = queue.Queue()
        pairs.append((q, chat(iter(q.get, None), timeout=T)))
    good = 0
    for turn in range(3):
        for i, (q, _) in enumerate(pairs):
            q.put(b"%d %d" % (turn, i))
        for i, (_, answers) in enumerate(pairs):
            good += next(answers) == b"%d %d" % (turn, i)
    for q, _ in pairs:
        q.put(None)
    return good, sum(len(list(a)) for _, a in pairs)


def slow_reader():
    """The server must wait for a reader that does not read; a neighbour on the connection must not."""
    d = down(bytes(100), timeout=T)
    big = chat((bytes(100000) for _ in range(100)), timeout=T)
    first = next(big)
    time.sleep(0.3)
    neighbour = unary(b"n", timeout=T)
    return len(first), neighbour.decode(), sum(len(m) for m in big), len(list(d))


def cancelled():
    """Cancelling one call leaves the connection to the others."""
    for _ in range(50):
        answers = chat(iter(queue.Queue().get, None), timeout=T)
        time.sleep(0.002)
        answers.cancel()
    return unary(b"still", timeout=T).decode()


def deadline():
    """By the client, and what the server is told of it."""
    try:
        unary(b"x", timeout=0.3, metadata=(("x-sleep-ms", "2000"),))
    except grpc.RpcError as e:
        return e.code().name


def spread():
    """Which servers twenty calls reach."""
    seen = {}
    for _ in range(20):
        _, it = unary.with_call(b"x", timeout=T, metadata=(("x-route", "both"),))
        name = dict(it.trailing_metadata())["x-name"]
        seen[name] = seen.get(name, 0) + 1
    return dict(sorted(seen.items()))


def hang():
    """Calls that are never over."""
    calls = [chat(iter(queue.Queue().get, None)) for _ in range(10)]
    unary(b"x", timeout=T)
    print("hanging", flush=True)
    time.sleep(600)
    return len(calls)


def survive():
    """Calls while one of two servers is killed: those of the other are not touched."""
    lost = 0
    print("calling", flush=True)
    begin = time.monotonic()
    dead = False
    while time.monotonic() - begin < 15 and not dead:
        try:
            unary(b"x", timeout=T, metadata=(("x-route", "two"),))
        except grpc.RpcError:
            dead = True
        try:
            unary(b"x", timeout=T)
        except grpc.RpcError:
            lost += 1
    for _ in range(50):
        try:
            unary(b"x", timeout=T)
        except grpc.RpcError:
            lost += 1
    return f"lost {lost} of the others" if dead else "it was never killed"


def table():
    """Of each line of standard input, NAME PATH METADATA: the call's status, and what x-route of its answer says."""
    for line in sys.stdin:
        name, path, meta = line.split()
        pairs = tuple(tuple(m.split("=")) for m in meta.split(",") if m != "-")
        done = channel.unary_unary(path).with_call
        try:
            _, it = done(b"x", timeout=T, metadata=pairs)
        except grpc.RpcError as e:
            it = e
        told = dict(it.initial_metadata() or ()) | dict(it.trailing_metadata() or ())
        print(name, it.code().name, told.get("x-route", "-"))
    return "done"


def run(what):
    words = what.split()
    if len(words) > 1 or what == "status":
        return " ".join(str(x) for x in status(**dict(w.split("=") for w in words[1:])))
    return globals()[what]()


print(run(WHAT))
sys.stdout.flush()
channel.close()
