#!/bin/bash
# Servers that make their children by clone() without libc's fork, and those whose children forbid themselves all but a few system calls (seccomp), as sshd's do, with their client's socket in
# hand: forked, and started anew with the socket as standard input and output. What is not allowed ends them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON"

cat >"$WORK/children.py" <<'END'
"""`children.py forked|started|cloned|plain PORT`: gives back what comes, in capitals. `children.py child`: one connection, confined."""
import ctypes
import os
import platform
import resource
import select
import socket
import subprocess
import sys

# read, write, poll or ppoll, close, and what the interpreter itself needs.
ALLOWED = {
    "x86_64": (0, 1, 3, 7, 5, 8, 9, 10, 11, 12, 13, 14, 15, 28, 202, 228, 231, 262, 318),
    "aarch64": (63, 64, 57, 73, 80, 62, 222, 226, 215, 214, 134, 135, 139, 233, 98, 113, 94, 79, 278),
}[platform.machine()]
CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]


class Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]


def confine():
    lines = [(0x20, 0, 0, 0)]
    for i, number in enumerate(ALLOWED):
        lines.append((0x15, len(ALLOWED) - i, 0, number))
    lines += [(0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7fff0000)]
    program = Program(len(lines), (Filter * len(lines))(*(Filter(*line) for line in lines)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        os._exit(9)


def serve(fd_in, fd_out, waits):
    """Waits by poll every other time."""
    poll = select.poll()
    poll.register(fd_in, select.POLLIN)
    while True:
        if waits:
            poll.poll()
        waits = not waits
        data = os.read(fd_in, 65536)
        if not data:
            break
        data = data.upper()
        while data:
            data = data[os.write(fd_out, data):]
    os._exit(0)


def main():
    kind, port = sys.argv[1], int(sys.argv[2])
    listening = socket.create_server(("127.0.0.1", port), backlog=50)
    children = []
    while True:
        conn, _ = listening.accept()
        if kind == "forked":
            if os.fork() == 0:
                listening.close()
                confine()
                serve(conn.fileno(), conn.fileno(), True)
        elif kind in ("cloned", "plain"):
            # clone(SIGCHLD) by number, and fork() without handlers: libc and the interpreter know nothing of it.
            if (libc.syscall(CLONE, 17, 0, 0, 0, 0) if kind == "cloned" else libc._Fork()) == 0:
                listening.close()
                serve(conn.fileno(), conn.fileno(), True)
        else:
            children.append(subprocess.Popen([sys.executable, "-B", __file__, "child"], stdin=conn, stdout=conn))
        conn.close()


libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[1] == "child":
    confine()
    serve(0, 1, False)
else:
    main()
END
cat >"$WORK/asks.py" <<'END'
"""`asks.py HOST PORT`: a conversation line by line, with pauses in which the other side sleeps, then much at once."""
import hashlib
import socket
import sys
import threading
import time

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as sock:
    lines = sock.makefile()
    for n in range(30):
        sock.sendall(b"line %d\n" % n)
        assert lines.readline() == f"LINE {n}\n"
        time.sleep(0.02 if n % 3 == 0 else 0)
    lines.close()
    much = b"abcdefgh" * 500000
    sender = threading.Thread(target=lambda: (sock.sendall(much), sock.shutdown(socket.SHUT_WR)))
    sender.start()
    time.sleep(0.2)
    got = b""
    while data := sock.recv(65536):
        got += data
    sender.join()
    print(len(got), hashlib.sha256(got).hexdigest())
END
for kind in forked started cloned plain; do
	app $kind 7
	eval "${kind}_server() { CMD=('$PYTHON' -B '$WORK/children.py' $kind \"\$1\"); }"
done
mesh
both forked started cloned plain
asks() { run "$PYTHON" -B "$WORK/asks.py" "$1" "$2"; }
for kind in forked started cloned plain; do each $kind $kind asks; done
ends
