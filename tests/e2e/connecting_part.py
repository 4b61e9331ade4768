"""A server that lets its clients wait, and a client that says what connect() and its socket do meanwhile."""

import errno
import os
import select
import socket
import struct
import sys
import threading

LIMIT_MS = 60000


def name(number):
    return errno.errorcode.get(number, str(number)) if number else "0"


def queued(listener):
    """Connections in the accept queue (tcpi_unacked of a listener)."""
    return struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


def hold(port, path):
    """Of a full accept queue the kernel answers no SYN. "fill": full; "drain N": empty, and N clients are echoed."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(0)
    control = socket.socket(socket.AF_UNIX)
    control.bind(path)
    control.listen(8)
    while True:
        asked, _ = control.accept()
        words = asked.recv(64).split()
        if words[0] == b"fill":
            filler = socket.create_connection(("127.0.0.1", port))
            while queued(listener) == 0:
                select.select([], [], [], 0.005)
            asked.sendall(b"full")
            continue
        filler.close()
        listener.accept()[0].close()
        asked.sendall(b"empty")
        left = int(words[1])
        while left > 0:
            client, _ = listener.accept()
            # One that gave up while it was connecting may have come as far as here.
            said = client.recv(2, socket.MSG_WAITALL)
            client.sendall(said)
            client.close()
            left -= len(said) == 2


def ask(path, what):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(what)
        s.recv(16)


def polled(sock, timeout_ms):
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    events = poll.poll(timeout_ms)
    return hex(events[0][1]) if events else "nothing"


def tried(call, *args):
    try:
        return call(*args)
    except OSError as e:
        return name(e.errno)


def so_error(sock):
    return name(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def state(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def round_trip(sock):
    sock.setblocking(True)
    sock.sendall(b"hi")
    got = sock.recv(2, socket.MSG_WAITALL)
    sock.close()
    return got


def other_works(other):
    """Somebody else's connection of the same process is not kept waiting."""
    with socket.create_connection(other) as s:
        return s.recv(5, socket.MSG_WAITALL)


def pending(to, other, path):
    ask(path, b"fill")
    s = socket.socket()
    s.setblocking(False)
    print("connect", name(s.connect_ex(to)))
    print("poll", polled(s, 0), "state", state(s), "SO_ERROR", so_error(s))
    print("again", name(s.connect_ex(to)), "send", tried(s.send, b"x"), "recv", tried(s.recv, 1))
    print("peer", tried(s.getpeername))
    print("other", other_works(other), "still", polled(s, 0))
    epoll = select.epoll()
    epoll.register(s, select.EPOLLOUT | select.EPOLLIN | select.EPOLLET)
    print("epoll", epoll.poll(0))
    ask(path, b"drain 1")
    print("epoll", [hex(e) for _, e in epoll.poll(LIMIT_MS / 1000)], "SO_ERROR", so_error(s))
    print("again", name(s.connect_ex(to)), name(s.connect_ex(to)), "state", state(s))
    print("bytes", round_trip(s))


def blocking(to, other, path):
    ask(path, b"fill")
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50000))
    print("timed", name(s.connect_ex(to)), name(s.connect_ex(to)))
    s.close()
    s = socket.socket()
    done = threading.Event()
    thread = threading.Thread(target=lambda: (s.connect(to), done.set()))
    thread.start()
    print("other", other_works(other), "done", done.is_set())
    s2 = socket.socket()
    s2.setblocking(False)
    print("second", name(s2.connect_ex(to)))
    s2.close()
    ask(path, b"drain 1")
    thread.join(LIMIT_MS / 1000)
    print("done", done.is_set(), "bytes", round_trip(s))


def refused(to, _other, _path):
    s = socket.socket()
    s.setblocking(False)
    print("connect", name(s.connect_ex(to)))
    print("poll", polled(s, LIMIT_MS), "state", state(s))
    print("SO_ERROR", so_error(s), so_error(s))
    print("again", name(s.connect_ex(to)), name(s.connect_ex(to)))
    print("poll", polled(s, LIMIT_MS), "connect", name(s.connect_ex(to)))
    s.setblocking(True)
    print("blocking", name(s.connect_ex(to)), name(s.connect_ex(to)))


def main():
    if sys.argv[1] == "hold":
        hold(int(sys.argv[2]), sys.argv[3])
    kind, host, port, other, other_port, path = sys.argv[1:]
    to = (socket.gethostbyname(host), int(port))
    {"pending": pending, "blocking": blocking, "refused": refused}[kind](
        to, (socket.gethostbyname(other), int(other_port)), path)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
    os._exit(0)
