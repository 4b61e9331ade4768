"""
Both sides of a connection for ext_authz_tcp.sh: `server PORT` sends back what comes, counting connections on standard output;
`client HOST PORT TEXT` prints what comes back, or the name of the error; `early` connects without blocking, `kept` stays;
`many` is so many connections as TEXT says: how many were reset so far, and at last that and how many were echoed.
"""

import errno
import os
import resource
import select
import socket
import sys
import threading


def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


def server(port):
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            conn, _ = listener.accept()
            print("connection", flush=True)
            threading.Thread(target=echo, args=(conn,), daemon=True).start()


def talk(conn, text):
    conn.sendall(text)
    got = b""
    while len(got) < len(text) and (data := conn.recv(65536)):
        got += data
    return got.decode() if got else "end"


def client(host, port, text):
    with socket.create_connection((host, port)) as conn:
        return talk(conn, text)


def early(host, port, text):
    address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    with socket.socket() as conn:
        conn.setblocking(False)
        said = conn.connect_ex(address)
        if said == errno.EINPROGRESS:
            print("pending", flush=True)
            select.select([], [conn], [])
            said = conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if said:
            return errno.errorcode[said]
        conn.setblocking(True)
        return talk(conn, text)


def kept(host, port, text):
    """One that stays: says so, and then how it ends."""
    with socket.create_connection((host, port)) as conn:
        print(talk(conn, text), flush=True)
        return "end" if not conn.recv(1) else "bytes"


def many(host, port, text):
    """Each sends a byte, and waits: those beyond the bound are reset while the others are held."""
    conns = {}
    poll = select.poll()
    reset = echoed = 0
    for _ in range(int(text)):
        conn = socket.create_connection((host, port))
        try:
            conn.sendall(b"x")
        except ConnectionError:
            # The error is told once: recv() would see the end.
            reset += 1
            conn.close()
            continue
        conns[conn.fileno()] = conn
        poll.register(conn, select.POLLIN)
    print("reset", reset, flush=True)
    while conns:
        for fd, _ in poll.poll():
            poll.unregister(fd)
            try:
                with conns.pop(fd) as conn:
                    echoed += conn.recv(1) == b"x"
            except ConnectionError:
                reset += 1
                print("reset", reset, flush=True)
    return f"{reset} {echoed}"


def main():
    what, *rest = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    if what == "server":
        server(int(rest[0]))
    try:
        print(globals()[what](rest[0], int(rest[1]), rest[2].encode()), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
    os._exit(0)


main()
