"""Servers and clients that no library helps, for confined_in.sh: what the kernel's own socket calls do."""

import array
import errno
import os
import resource
import socket
import subprocess
import sys
import threading
import time


def name_of(error):
    """Which of its signs a program sees of a reset depends on when it looks."""
    if error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
        return "reset"
    return errno.errorcode[error.errno] if error.errno else "timeout"


def listening(host, port, reuse=False, v6only=None, device=None):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6only is not None:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((host, port))
    sock.listen(128)
    return sock


def echo(sock, word):
    with sock:
        try:
            while part := sock.recv(65536):
                sock.sendall(part.replace(b"who", word.encode()))
        except OSError:
            pass


def serve(listener, log, word="server"):
    """Echoes; `log` has who came, by accept() and by getpeername()."""
    while True:
        sock, peer = listener.accept()
        same = peer[:2] == sock.getpeername()[:2]
        with open(log, "a", encoding="ascii") as out:
            print(f"{peer[0]} {peer[1]} {same}", file=out)
        threading.Thread(target=echo, args=(sock, word), daemon=True).start()


def ask(host, port, *source, seconds=20):
    """One line to an echo server, and back; a source: what it binds before."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(seconds)
    if source:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((source[0], int(source[1])))
    sock.connect((host, port))
    sock.sendall(b"who\n")
    sock.shutdown(socket.SHUT_WR)
    data = b""
    while part := sock.recv(65536):
        data += part
    return data.decode().strip()


def knock(host, port):
    """Whether it gets in at all."""
    return ask(host, port, seconds=3)


def name(host, port):
    """What it is called itself, when the server has answered."""
    sock = socket.create_connection((host, port))
    sock.sendall(b"hello\n")
    sock.recv(6, socket.MSG_WAITALL)
    return " ".join(map(str, sock.getsockname()[:2]))


def stay(host, port):
    sock = socket.create_connection((host, port))
    sock.sendall(b"hello\n")
    sock.recv(6, socket.MSG_WAITALL)
    print(sock.fileno(), flush=True)
    sock.recv(1)
    return "ended"


def hand_over(path, port):
    """A listening socket for whoever connects to `path`, by SCM_RIGHTS; lives on without it."""
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen(1)
    with listening("127.0.0.1", port) as mine:
        other = unix.accept()[0]
        other.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [mine.fileno()]))])
    time.sleep(3600)


def take_over(path, log):
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(path)
    fds = array.array("i", [0])
    _, control, _, _ = unix.recvmsg(1, socket.CMSG_SPACE(4))
    fds[:] = array.array("i", control[0][2])
    print("took", flush=True)
    serve(socket.socket(fileno=fds[0]), log)


def inherit(port, log, *command):
    """Listens outside, and becomes the command, which runs inside, to serve it."""
    sock = listening("127.0.0.1", port)
    os.set_inheritable(sock.fileno(), True)
    os.execvp(command[0], [*command, str(sock.fileno()), log])


def steal(host, port, seconds):
    """
    Connects from where flatd connects from, as soon as it is seen, for so many seconds and until it was tried; how often a server
    answered, and whether it was tried.
    """
    got = tried = 0
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end or (not tried and now < end + 60):
        out = subprocess.run(["ss", "-tanH", f"dst {host} and dport = :{port}"], capture_output=True, text=True, check=False).stdout
        for line in out.splitlines():
            address, _, source = line.split()[3].rpartition(":")
            for options in ((socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
                sock = socket.socket()
                sock.settimeout(0.2)
                tried += 1
                try:
                    for option in options:
                        sock.setsockopt(socket.SOL_SOCKET, option, 1)
                    sock.bind((address.strip("[]"), int(source)))
                    sock.connect((host, port))
                    sock.sendall(b"who\n")
                    got += sock.recv(16) != b""
                except OSError:
                    pass
                sock.close()
    return f"{got} {tried > 0}"


def crowd(port, count, stop):
    """Listens at so many addresses, and at one more again and again until the file `stop` is there."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = [listening(f"127.77.{i // 200}.{i % 200 + 1}", port) for i in range(count)]
    print(len(held), flush=True)
    while not os.path.exists(stop):
        listening("127.78.0.1", port).close()


def main(what, *args):
    try:
        if what == "serve":
            host, port, log, word = args[:4]
            options = dict(o.split("=") for o in args[4:])
            serve(listening(host, int(port), **{k: bool(int(v)) for k, v in options.items()}), log, word)
        elif what == "serve-any":
            sock = listening("127.0.0.1", 0)
            print(sock.getsockname()[1], flush=True)
            serve(sock, args[0])
        elif what == "serve-fd":
            serve(socket.socket(fileno=int(args[0])), args[1], "inherited")
        elif what == "unbound":
            sock = socket.socket()
            sock.listen()
            print(sock.getsockname()[1], flush=True)
            serve(sock, args[0])
        elif what == "hand-over":
            hand_over(args[0], int(args[1]))
        elif what == "take-over":
            take_over(*args)
        elif what == "inherit":
            inherit(int(args[0]), *args[1:])
        elif what == "crowd":
            crowd(int(args[0]), int(args[1]), args[2])
        elif what == "steal":
            print(steal(args[0], int(args[1]), float(args[2])))
        else:
            print({"ask": ask, "knock": knock, "name": name, "stay": stay}[what](args[0], int(args[1]), *args[2:]))
    except OSError as e:
        print(name_of(e))


main(*sys.argv[1:])
