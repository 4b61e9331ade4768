"""The ends of connections between two hosts: echo servers and clients that say what they saw."""
import hashlib
import os
import socket
import ssl
import sys
import threading
import time


def say(*words):
    print(*words, flush=True)


def now_ms():
    return time.monotonic_ns() // 1000000


def how_it_ends(s):
    """Reads until the end: its name."""
    try:
        while s.recv(65536):
            pass
        return "end"
    except OSError as e:
        return type(e).__name__


def echo_one(s, quiet):
    with s:
        try:
            while True:
                data = s.recv(65536)
                if not data:
                    break
                s.sendall(data)
        except OSError as e:
            if not quiet:
                say("server-saw", type(e).__name__)
            return
    if not quiet:
        say("server-saw end")


def listen(port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    server.listen(128)
    say("listening")
    return server


def echo(port):
    server = listen(port)
    while True:
        try:
            s, peer = server.accept()
        except OSError:
            time.sleep(0.05)
            continue
        say("from", peer[0])
        threading.Thread(target=echo_one, args=(s, False), daemon=True).start()


def sink(port, gate):
    """Reads nothing until the file `gate` is there; then says the hash of each connection's bytes."""
    server = listen(port)
    while True:
        s, _ = server.accept()
        say("accepted")
        while not os.path.exists(gate):
            time.sleep(0.02)
        h = hashlib.sha256()
        n = 0
        while data := s.recv(65536):
            h.update(data)
            n += len(data)
        say("sum", n, h.hexdigest())
        s.close()


def fill(host, port, size):
    """Sends `size` bytes; says the hash when all are gone."""
    data = os.urandom(1 << 16)
    h = hashlib.sha256()
    left = size
    with socket.create_connection((host, port)) as s:
        say("filling")
        while left > 0:
            piece = data[: min(left, len(data))]
            s.sendall(piece)
            h.update(piece)
            left -= len(piece)
    say("sum", size, h.hexdigest())


def exchange(s, count, size):
    """So many messages of so many bytes there and back; each compared."""
    for i in range(count):
        sent = bytes([i & 255]) * size
        s.sendall(sent)
        got = b""
        while len(got) < size:
            more = s.recv(size - len(got))
            if not more:
                raise EOFError("the connection ended")
            got += more
        if got != sent:
            raise ValueError("other bytes came back")


def talk(host, port, conns, count, size):
    """Several connections at once, all bytes compared."""
    wrong = []

    def one():
        try:
            with socket.create_connection((host, port), timeout=30) as s:
                exchange(s, count, size)
        except Exception as e:  # whatever it is, it is reported
            wrong.append(f"{type(e).__name__}: {e}")

    threads = [threading.Thread(target=one) for _ in range(conns)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    say("ok" if not wrong else f"wrong {len(wrong)}: {wrong[0]}")
    return 1 if wrong else 0


def secure(host, port, count, size):
    """As talk(), one connection, in TLS that asks for "one.example"."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((host, port), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname="one.example") as s:
            exchange(s, count, size)
    say("ok")


def hold(host, port, stop):
    """One connection that talks until the file `stop` is there, and says how many times, or how it ended."""
    with socket.create_connection((host, port)) as s:
        exchange(s, 1, 100)
        say("holding")
        n = 0
        try:
            while not os.path.exists(stop):
                exchange(s, 1, 1000)
                n += 1
                time.sleep(0.005)
        except (OSError, EOFError, ValueError) as e:
            say("ended", type(e).__name__, n)
            return 1
    say("whole", n)
    return 0


def wait(host, port):
    """A quiet connection: says when and how it ended."""
    with socket.create_connection((host, port)) as s:
        exchange(s, 1, 100)
        say("holding")
        end = how_it_ends(s)
        say("ended", end, time.time_ns() // 1000000)
    return 0


def connect(host, port):
    try:
        with socket.create_connection((host, port), timeout=20) as s:
            exchange(s, 1, 10)
        say("ok")
    except OSError as e:
        say(type(e).__name__, e.errno)
    return 0


def abort(host, port):
    """Ends a connection by a reset."""
    s = socket.create_connection((host, port))
    exchange(s, 1, 10)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()
    return 0


def told(host, port, word):
    """Says a word: how the connection ends."""
    try:
        with socket.create_connection((host, port)) as s:
            s.sendall(word.encode())
            say(how_it_ends(s))
    except OSError as e:
        say(type(e).__name__)
    return 0


def half(host, port, size):
    """Ends its own direction after `size` bytes: how many come back, and how that ends."""
    with socket.create_connection((host, port)) as s:
        s.sendall(bytes(size))
        s.shutdown(socket.SHUT_WR)
        n = 0
        try:
            while data := s.recv(65536):
                n += len(data)
            say("end", n)
        except OSError as e:
            say(type(e).__name__, n)
    return 0


def crowd(host, port, conns):
    """So many connections, all open at once."""
    held = [socket.create_connection((host, port)) for _ in range(conns)]
    for s in held:
        exchange(s, 1, 100)
    for s in held:
        s.close()
    say("ok")
    return 0


MODES = {f.__name__: f for f in (crowd, told, half, echo, sink, fill, talk, secure, hold, wait, connect, abort)}
if __name__ == "__main__":
    sys.exit(MODES[sys.argv[1]](*(int(a) if a.isdigit() else a for a in sys.argv[2:])))
