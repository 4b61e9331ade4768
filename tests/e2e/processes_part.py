"""
A server whose connections, or whose listener, end up in another process: `processes_part.py serve KIND PORT`; and the
client that each kind is tried with: `processes_part.py talk HOST PORT`, which prints a hash of what came back;
`talk-bare` empties its environment before its first socket.
`processes_part.py killed HOST PORT`: what a reader sees when the process that carries its connection for another program is killed.
`processes_part.py after PORT FLATD`: a port that one process closed is free for another one, however late flatd hears of it.
"""

import ctypes
import hashlib
import multiprocessing
import multiprocessing.reduction
import os
import signal
import socket
import subprocess
import sys
import threading
import time

ME = os.path.abspath(__file__)
LENGTHS = (1, 7, 1000, 70_000, 3, 1_500_000, 40, 5_000, 300_000, 2)


def exactly(sock, n):
    parts = []
    while n > 0:
        part = sock.recv(min(n, 65536))
        if not part:
            raise EOFError(f"{n} bytes are missing")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


# --- the server's work: echo in messages of 4 bytes of length, then bytes ---

def one(sock):
    """One message back. False: the stream has ended."""
    first = sock.recv(1)
    if not first:
        return False
    n = int.from_bytes(first + exactly(sock, 3), "big")
    sock.sendall(n.to_bytes(4, "big") + exactly(sock, n)[::-1])
    return True


def echo(sock):
    while one(sock):
        pass
    sock.close()


def adopted(fd):
    return socket.socket(fileno=fd)


def by_exec(sock):
    """One message here, the rest in another program under the same descriptor."""
    if os.fork() == 0:
        one(sock)
        os.set_inheritable(sock.fileno(), True)
        os.execv(sys.executable, [sys.executable, "-B", ME, "echo", str(sock.fileno())])
    sock.close()


def by_popen(sock):
    """As inetd: standard input and output; the child is made by vfork()."""
    one(sock)
    child = subprocess.Popen([sys.executable, "-B", ME, "echo", "0"], stdin=sock, stdout=sock)
    sock.close()
    child.wait()


CAT = """
import socket, sys
sys.path.insert(0, sys.argv[1])
import processes_part
processes_part.echo(socket.socket(fileno=0))
"""


def by_clean(sock):
    """A child whose environment was made anew."""
    one(sock)
    child = subprocess.Popen([sys.executable, "-B", "-c", CAT, os.path.dirname(ME)], stdin=sock, env={})
    sock.close()
    child.wait()


def by_static(sock):
    """A static program on standard input and output, as inetd starts it; another flat process talks to it."""
    child = subprocess.Popen(["busybox", "cat"], stdin=sock, stdout=sock)
    sock.close()
    child.wait()


SCRIPT = 'while read -r n; do busybox dd bs=1 count="$n" 2>/dev/null; echo "end $n"; done'


def by_script(sock):
    """A shell with the library, and static programs that it starts, read and write by turns, and take no more than is theirs."""
    child = subprocess.Popen(["sh", "-c", SCRIPT], stdin=sock, stdout=sock)
    sock.close()
    child.wait()


def by_spawn(sock):
    one(sock)
    child = os.posix_spawn(sys.executable, [sys.executable, "-B", ME, "echo", "0"], os.environ,
                           file_actions=[(os.POSIX_SPAWN_DUP2, sock.fileno(), 0)])
    sock.close()
    os.waitpid(child, 0)


def by_turns(sock):
    """Two programs that are no relatives hold the socket, and answer by turns; both keep it to the end."""
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([sys.executable, "-B", ME, "turns", str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    socket.send_fds(ours, [b"x"], [sock.fileno()])
    while True:
        ours.sendall(b"t")
        if ours.recv(1) != b"m" or not one(sock):
            break
    ours.close()
    child.wait()
    sock.close()


def by_message(sock):
    """SCM_RIGHTS to a process that is no relative, and the same descriptor back."""
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([sys.executable, "-B", ME, "bounce", str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    one(sock)
    socket.send_fds(ours, [b"x"], [sock.fileno()])
    sock.close()
    back = socket.recv_fds(ours, 1, 1)[1][0]
    echo(adopted(back))
    child.wait()


def by_handle(sock):
    """multiprocessing's way, to a process made by spawn."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=handle_child, args=(theirs,))
    child.start()
    one(sock)
    multiprocessing.reduction.send_handle(ours, sock.fileno(), child.pid)
    sock.close()
    child.join()


def handle_child(pipe):
    echo(adopted(multiprocessing.reduction.recv_handle(pipe)))


def to_itself(sock):
    """A process may send a descriptor to itself; both numbers mean one socket."""
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [sock.fileno()])
    other = adopted(socket.recv_fds(theirs, 1, 1)[1][0])
    while one(sock) and one(other):
        pass
    sock.close()
    other.close()


def by_helper(sock):
    """A child that does not get the socket closes all it inherits, as subprocess does: ours must stay."""
    one(sock)
    subprocess.run(["true"], check=True)
    os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
    os.system("true")
    echo(sock)


def by_number(sock):
    """System calls by number, through libc's syscall()."""
    numbers = {"x86_64": (0, 1, 3), "aarch64": (63, 64, 57)}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buf = ctypes.create_string_buffer(65536)

    def call(which, *args):
        got = libc.syscall(ctypes.c_long(numbers[which]), *args)
        if got < 0:
            raise OSError(ctypes.get_errno(), "syscall()")
        return got

    class Raw:
        def recv(self, n):
            got = call(0, ctypes.c_long(fd), buf, ctypes.c_long(min(n, len(buf))))
            return buf.raw[:got]

        def sendall(self, data):
            while data:
                data = data[call(1, ctypes.c_long(fd), data, ctypes.c_long(len(data))):]

    fd = sock.detach()
    while one(Raw()):
        pass
    call(2, ctypes.c_long(fd))


KINDS = {"exec": by_exec, "popen": by_popen, "spawn": by_spawn, "turns": by_turns, "message": by_message,
         "handle": by_handle, "itself": to_itself, "helper": by_helper, "number": by_number, "clean": by_clean, "static": by_static,
         "script": by_script}


def accept_all(listener, handle):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=handle, args=(sock,), daemon=True).start()


def serve(kind, port):
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    if kind == "listener":
        # As systemd hands sockets over: descriptor 3, LISTEN_FDS, and another program.
        if listener.fileno() != 3:
            os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execv(sys.executable, [sys.executable, "-B", ME, "activated"])
    accept_all(listener, KINDS[kind])


def turns(fd):
    pipe = adopted(fd)
    sock = adopted(socket.recv_fds(pipe, 1, 1)[1][0])
    while pipe.recv(1):
        one(sock)
        pipe.sendall(b"m")


def bounce(fd):
    pipe = adopted(fd)
    got = socket.recv_fds(pipe, 1, 1)[1][0]
    sock = adopted(got)
    one(sock)
    one(sock)
    socket.send_fds(pipe, [b"x"], [got])


# --- the client ---

def talk(host, port):
    digest = hashlib.sha256()
    for connection in range(3):
        with socket.create_connection((host, port), timeout=60) as sock:
            for n in LENGTHS:
                message = bytes((i * 7 + n + connection) & 0xff for i in range(min(n, 251))) * (n // 251 + 1)
                message = message[:n]
                sender = threading.Thread(target=sock.sendall, args=(n.to_bytes(4, "big") + message,))
                sender.start()
                if int.from_bytes(exactly(sock, 4), "big") != n:
                    sys.exit("an answer of another length")
                answer = exactly(sock, n)
                sender.join()
                if answer[::-1] != message:
                    sys.exit(f"another answer than was sent, of {n} bytes")
                digest.update(answer)
            sock.shutdown(socket.SHUT_WR)
            if sock.recv(1):
                sys.exit("more came than was asked for")
    print(digest.hexdigest())


def talk_plain(host, port):
    """To a server that sends back what it gets: half a megabyte, half closed, and all of it back."""
    data = b"".join(b"%d\n" % n for n in range(80000))
    for _ in range(3):
        with socket.create_connection((host, port), timeout=60) as sock:
            def send():
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            sender = threading.Thread(target=send)
            sender.start()
            back = b"".join(iter(lambda: sock.recv(65536), b""))
            sender.join()
            if back != data:
                sys.exit(f"{len(back)} bytes came back of {len(data)}")
    print(hashlib.sha256(data).hexdigest())


def talk_script(host, port):
    """All at once, of which each program of the script takes its part."""
    parts = [(bytes(10 if i % 5 == 0 else 97 + i % 26 for i in range(n)), n) for n in (1, 7, 1000, 3, 400, 5)]
    for _ in range(3):
        with socket.create_connection((host, port), timeout=60) as sock:
            sock.sendall(b"".join(b"%d\n" % n + part for part, n in parts))
            sock.shutdown(socket.SHUT_WR)
            back = b"".join(iter(lambda: sock.recv(65536), b""))
            if back != b"".join(part + b"end %d\n" % n for part, n in parts):
                sys.exit(f"other bytes came back: {back[:200]}")
    print("right")


def carriers():
    """Those of this mesh."""
    mine = b"FLAT_CONTROL=" + os.environ["FLAT_CONTROL"].encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", "rb") as comm, open(f"/proc/{pid}/environ", "rb") as env:
                if comm.read() == b"flat-carry\n" and mine in env.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def killed(host, port):
    """Its program has read one line of two, as far as anybody knows: then no byte may come, rather than a wrong one."""
    with socket.create_server(("127.0.0.1", port)) as listener, socket.create_connection((host, 7), timeout=60) as client:
        sock, _ = listener.accept()
        sock.settimeout(30)
        with subprocess.Popen(["busybox", "sh", "-c", "read -r line; echo $line >&2; exec sleep 60"], stdin=sock,
                              stderr=subprocess.PIPE) as child:
            client.sendall(b"line\nrest")
            said = child.stderr.readline()
            found = carriers()
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            while carriers():
                time.sleep(0.01)
            try:
                came = repr(sock.recv(100))
            except ConnectionResetError:
                came = "reset"
            child.kill()
    print(said, len(found), came)


def bound(port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def bind_when_told(port):
    for _ in sys.stdin:
        try:
            bound(port).close()
            print("bound", flush=True)
        except OSError as e:
            print(e, flush=True)


def after(port, flatd):
    """The end of a listener and the question whether it is let go come to flatd in one turn."""
    with subprocess.Popen([sys.executable, ME, "bind-when-told", str(port)], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        said = []
        for _ in range(100):
            listener = bound(port)
            listener.listen(1)
            os.kill(flatd, signal.SIGSTOP)
            try:
                listener.close()
                other.stdin.write("now\n")
                other.stdin.flush()
                time.sleep(0.002)
            finally:
                os.kill(flatd, signal.SIGCONT)
            said.append(other.stdout.readline().strip())
        other.stdin.close()
    print(", ".join(f"{said.count(word)} {word}" for word in sorted(set(said))))


def main():
    what, *args = sys.argv[1:]
    if what == "serve":
        serve(args[0], int(args[1]))
    elif what == "talk":
        talk(args[0], int(args[1]))
    elif what == "talk-bare":
        os.environ.clear()
        talk(args[0], int(args[1]))
    elif what == "talk-plain":
        talk_plain(args[0], int(args[1]))
    elif what == "talk-script":
        talk_script(args[0], int(args[1]))
    elif what == "killed":
        killed(args[0], int(args[1]))
    elif what == "after":
        after(int(args[0]), int(args[1]))
    elif what == "bind-when-told":
        bind_when_told(int(args[0]))
    elif what == "echo":
        echo(adopted(int(args[0])))
    elif what == "activated":
        listener = adopted(3)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert listener.family == socket.AF_INET
        accept_all(listener, echo)
    else:
        {"turns": turns, "bounce": bounce}[what](int(args[0]))


if __name__ == "__main__":
    main()
