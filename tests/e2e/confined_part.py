"""A client that no library helps, for confined.sh: what the kernel's own socket calls do in a confined cgroup."""

import ctypes
import errno
import os
import select
import socket
import sys
import threading

IPPROTO_MPTCP = 262


def name_of(error):
    """Which of its signs a program sees of a reset depends on when it looks."""
    if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
        return "reset"
    return errno.errorcode[error.errno]


def answer(sock):
    """What a server says until it ends, which has been told all."""
    data = b""
    sock.shutdown(socket.SHUT_WR)
    while part := sock.recv(65536):
        data += part
    return data.decode().strip()


def connected(host, port):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.connect((host, port))
    return sock


def ask(host, port):
    """One line to an echo server, and back."""
    sock = connected(host, port)
    sock.sendall(b"hello\n")
    return answer(sock)


def by_fast_open(host, port):
    """A connect() inside of sendto()."""
    sock = socket.socket()
    sock.sendto(b"hello\n", socket.MSG_FASTOPEN, (host, port))
    return answer(sock)


def unblocked(host, port):
    """A connect() that does not wait."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((host, port))
    select.select([], [sock], [])
    sock.setblocking(True)
    sock.sendall(b"hello\n")
    return answer(sock)


def peer(host, port):
    """Who is at the other end."""
    return connected(host, port).getpeername()[:2]


def other(host, port):
    """A stream that is no TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as sock:
        sock.connect((host, port))
    return "made"


def again(host, port):
    """A socket that was connected, and is to flatd's own port after that."""
    sock = connected(host, port)
    if ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), bytes(16), 16) != 0:
        return errno.errorcode[ctypes.get_errno()]
    sock.connect(("127.0.0.1", int(sys.argv[4])))
    sock.sendall(b"hello\n")
    return answer(sock)


def leave(host, port):
    """Says something, and is no more."""
    sock = connected(host, port)
    sock.sendall(b"gone\n")
    os._exit(0)


def stay(host, port):
    """Says its descriptor, and is there until it is cut off."""
    sock = connected(host, port)
    sock.sendall(b"hello\n")
    sock.recv(6, socket.MSG_WAITALL)
    print(sock.fileno(), flush=True)
    sock.recv(1)
    return "ended"


def serve(port, log):
    """Echo servers on 127.0.0.1 and ::1; each line that comes is in `log`."""

    def one(sock):
        data = b""
        with sock, open(log, "ab", 0) as out:
            try:
                while part := sock.recv(65536):
                    out.write(part)
                    data += part
                    sock.sendall(part)
            except OSError:
                pass

    def accept(listener):
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    if socket.has_ipv6:
        try:
            six = socket.create_server(("::1", port), family=socket.AF_INET6)
            threading.Thread(target=accept, args=(six,), daemon=True).start()
        except OSError:
            pass
    accept(socket.create_server(("127.0.0.1", port)))


def main(what, *args):
    if what == "serve":
        serve(int(args[0]), args[1])
    host, port = args[0], int(args[1])
    try:
        print(CLIENTS[what](host, port))
    except OSError as e:
        print(name_of(e))


CLIENTS = {"ask": ask, "fastopen": by_fast_open, "unblocked": unblocked, "peer": peer, "other": other, "again": again, "leave": leave, "stay": stay}
main(*sys.argv[1:])
