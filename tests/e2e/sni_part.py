"""Clients and servers of TLS whose bytes are under control. sni_part.py COMMAND ..."""

import collections
import errno
import socket
import ssl
import sys


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    return c


def serve(name, port, cert, key, address="127.0.0.1"):
    """Tells its name and the one that it was asked for, then gives back what comes."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(cert, key)
    asked = {}
    c.sni_callback = lambda s, host, _: asked.update({s: host})
    listener = socket.create_server((address, int(port)))
    while True:
        try:
            with c.wrap_socket(listener.accept()[0], server_side=True) as s:
                s.sendall(f"{name} {asked.pop(s, None)}\n".encode())
                while piece := s.recv(65536):
                    s.sendall(piece)
        except OSError as e:
            print(e, flush=True)


def how(e):
    """What is told of an error; at which call a reset is seen is chance."""
    seen = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
    return "cut" if e.errno in seen else type(e).__name__


def whole(s):
    """All that comes, or how it ended."""
    try:
        return b"".join(iter(lambda: s.recv(65536), b""))
    except OSError as e:
        return how(e).encode()


def answer(host, port, name, step):
    """The server's first line; the client's bytes in pieces of `step`, 0: as they are."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, outgoing, server_hostname=name or None)

    def flush(s):
        data = outgoing.read()
        for at in range(0, len(data), step or len(data) or 1):
            s.sendall(data[at : at + (step or len(data))])

    def until(s, call):
        while True:
            try:
                result = call()
                flush(s)
                return result
            except ssl.SSLWantReadError:
                flush(s)
                got = s.recv(65536)
                if not got:
                    return b"ended"
                incoming.write(got)

    try:
        with socket.create_connection((host, port), timeout=20) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            until(s, tls.do_handshake)
            return until(s, lambda: tls.read(200)).decode().strip()
    except OSError as e:
        return how(e)


def ask(host, port, name, step="0", times="1"):
    """The answers, counted where there are several."""
    answers = collections.Counter(
        answer(host, int(port), name, int(step)) for _ in range(int(times))
    )
    for text, n in sorted(answers.items()):
        print(text if times == "1" else f"{n} {text}", end="\n" if times == "1" else ";")


def raw(host, port, *pieces):
    """Sends the pieces (in hexadecimal), then its end; tells what came back."""
    with socket.create_connection((host, int(port)), timeout=20) as s:
        try:
            for piece in pieces:
                s.sendall(bytes.fromhex(piece))
            s.shutdown(socket.SHUT_WR)
        except OSError as e:
            print(how(e))
            return
        print(whole(s)[:60].decode(errors="replace").split("\n")[0] or "nothing")


def silent(host, port):
    """Is there, says nothing, and goes."""
    with socket.create_connection((host, int(port)), timeout=20):
        print("open")


def echo(host, port, name, path):
    with open(path, "rb") as f:
        data = f.read()
    with context().wrap_socket(
        socket.create_connection((host, int(port)), timeout=30), server_hostname=name
    ) as s:
        line = b""
        while not line.endswith(b"\n"):
            line += s.recv(1)
        back = b""
        for at in range(0, len(data), 65536):
            s.sendall(data[at : at + 65536])
            while len(back) < min(at + 65536, len(data)):
                back += s.recv(65536)
        print(line.decode().strip(), back == data)


def hold(host, port, name):
    """Tells the server's line, and then how the connection ends."""
    with context().wrap_socket(
        socket.create_connection((host, int(port)), timeout=30), server_hostname=name
    ) as s:
        print(s.recv(200).decode().strip(), flush=True)
        print(whole(s).decode() or "ended", flush=True)


globals()[sys.argv[1]](*sys.argv[2:])
