"""tcp_name.py serve NAME PORT: tells its name to whoever connects. tcp_name.py ask HOST PORT TIMES: the names, counted."""

import collections
import socket
import sys


def serve(name, port):
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(name.encode())


def name_at(host, port):
    try:
        with socket.create_connection((host, port), timeout=60) as s:
            return s.makefile("rb").read().decode() or "nothing"
    except OSError as e:
        return type(e).__name__


def ask(host, port, times):
    names = collections.Counter(name_at(host, int(port)) for _ in range(int(times)))
    print(" ".join(f"{name}={n}" for name, n in sorted(names.items())))


{"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
