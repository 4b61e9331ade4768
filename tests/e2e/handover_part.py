"""
Programs for handover.sh.
  serve PORT            echoes
  jail PORT DIR         likewise, with DIR for its root, if it may: there is no way to flatd
  once PORT             likewise, one connection, and listens no more
  hold HOST PORT STOP   one connection: pieces of any size, each compared, the last one when the file STOP is there; pieces, longest pause (ms)
  churn HOST PORT STOP  a connection for each byte; connections, those that failed
  goaway PORT           an HTTP/2 connection that asks for nothing, until it is told to go and ends
  middle ADMIN OTHER    between a successor and its predecessor, whose admin socket OTHER is: gone before it is told
  inherit PORT          listens; after SIGUSR1 it becomes another process image that goes on with the same listener
"""
import os
import random
import signal
import socket
import sys
import threading
import time


def echo(conn):
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


def accept_for_ever(listener):
    while True:
        try:
            conn, _ = listener.accept()
        except InterruptedError:
            continue
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


def serve(port):
    with socket.create_server(("127.0.0.1", int(port)), backlog=256) as listener:
        accept_for_ever(listener)


def jail(port, root):
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        if os.geteuid() == 0:
            os.chroot(root)
        accept_for_ever(listener)


def once(port):
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        conn, _ = listener.accept()
    echo(conn)
    signal.pause()


def hold(host, port, stop):
    chance = random.Random(1)
    pieces, longest = 0, 0.0
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        print("connected", flush=True)
        last = False
        while not last:
            last = os.path.exists(stop)
            data = chance.randbytes(chance.choice((1, 64, 1500, 60000)))
            begin = time.monotonic()
            sock.sendall(data)
            got = b""
            while len(got) < len(data):
                piece = sock.recv(len(data) - len(got))
                if not piece:
                    sys.exit(f"ended after {pieces} pieces")
                got += piece
            if got != data:
                sys.exit(f"piece {pieces} is wrong")
            longest = max(longest, time.monotonic() - begin)
            pieces += 1
            time.sleep(0.002)
    print(pieces, round(longest * 1000), flush=True)


def churn(host, port, stop):
    done = failed = 0
    print("connected", flush=True)
    while not os.path.exists(stop):
        try:
            with socket.create_connection((host, int(port)), timeout=20) as sock:
                sock.sendall(b"x")
                if sock.recv(1) != b"x":
                    raise OSError("no answer")
            done += 1
        except OSError as e:
            failed += 1
            print(e, file=sys.stderr)
        time.sleep(0.002)
    print(done, failed, flush=True)


def goaway(port):
    settings = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        file, told = sock.makefile("rb"), False
        print("connected", flush=True)
        while head := file.read(9):
            file.read(int.from_bytes(head[:3], "big"))
            told = told or head[3] == 7
    print("told" if told else "not told", flush=True)


def middle(admin, other):
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as predecessor:
        listener.bind(admin)
        listener.listen(1)
        print("connected", flush=True)
        successor = listener.accept()[0]
        predecessor.connect(other)
        predecessor.sendall(successor.recv(64))
        # One with descriptors comes alone, and the first one is; the kind of the last, its third word, is 4.
        size, last = 0, False
        while not last:
            data, fds, _, _ = socket.recv_fds(predecessor, 65536, 16)
            size = size or len(data)
            last = int.from_bytes(data[-size:][8:12], sys.byteorder) == 4
            if last:
                successor.shutdown(socket.SHUT_RD)
            socket.send_fds(successor, [data], fds)
            for fd in fds:
                os.close(fd)
    signal.pause()


def inherit(what):
    if what.startswith("fd:"):
        listener = socket.socket(fileno=int(what[3:]))
        print("inherited", listener.getsockname(), flush=True)
        accept_for_ever(listener)
    listener = socket.create_server(("127.0.0.1", int(what)))
    os.set_inheritable(listener.fileno(), True)
    argv = [sys.executable, "-B", __file__, "inherit", f"fd:{listener.fileno()}"]
    signal.signal(signal.SIGUSR1, lambda *_: os.execv(sys.executable, argv))
    while True:
        signal.pause()


globals()[sys.argv[1]](*sys.argv[2:])
