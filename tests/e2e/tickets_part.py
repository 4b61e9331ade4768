"""Client of tickets.sh: server and client in one program, flatctl looked at from beside. Says PASS and FAIL lines."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

PORT, CONFIG, DENY, CONTROL = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
ADDRESS = ("127.0.0.1", PORT)
failed = []


def case(name, good, text=""):
    print(f"{'PASS' if good else 'FAIL'} tickets/{name}{'' if good else f': {text}'}", flush=True)
    if not good:
        failed.append(name)


def state():
    clean = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    return json.loads(subprocess.run(["flatctl", "--control", CONTROL, "ls", "--json"], env=clean,
                                     check=True, capture_output=True).stdout)


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Server:
    """Echoes one message of each connection. A process of its own, so that it can be killed."""

    def __init__(self, address=ADDRESS):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        self.address = listener.getsockname()
        self.pid = os.fork()
        if self.pid == 0:
            while True:
                c, _ = listener.accept()
                threading.Thread(target=self.serve, args=(c,), daemon=True).start()
        listener.close()

    @staticmethod
    def serve(c):
        while data := c.recv(100):
            c.sendall(data)
        c.close()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def echo(text, address=ADDRESS):
    with socket.create_connection(address, timeout=20) as c:
        c.sendall(text)
        return c.recv(100) == text


def error_of(call):
    try:
        call()
    except OSError as e:
        return e.errno
    return 0


def many(count, address=ADDRESS):
    return sum(echo(b"%d" % i, address) for i in range(count))


def some_left():
    """Connects until there are tickets: the last one of a batch may be used just now."""
    return any(echo(b"x") and state()["tickets"] > 0 for _ in range(30))


def counted():
    before = state()["opened_direct"]
    good = many(100)
    now = state()
    case("a-hundred-one-after-the-other", good == 100, good)
    case("each-is-counted-once", now["opened_direct"] - before == 100, now["opened_direct"] - before)
    case("tickets-are-no-connections",
         wait_for(lambda: not state()["connections"]), state()["connections"])
    case("there-are-tickets", some_left(), now)


def threads():
    good = []
    all_of = [threading.Thread(target=lambda: good.append(many(50))) for _ in range(6)]
    for t in all_of:
        t.start()
    for t in all_of:
        t.join()
    case("six-threads", good == [50] * 6, good)


def two_servers():
    """Tickets for the one are still on their way when the other is connected to."""
    other = Server(("127.0.0.1", 0))
    good = [(many(n, ADDRESS), many(7, other.address)) for n in range(1, 21)]
    case("two-servers-in-turn", good == [(n, 7) for n in range(1, 21)], good)
    other.kill()


def nonblocking():
    good = 0
    for i in range(30):
        c = socket.socket()
        c.setblocking(False)
        err = c.connect_ex(ADDRESS)
        c.setblocking(True)
        c.settimeout(20)
        good += err in (0, errno.EINPROGRESS)
        c.sendall(b"x")
        good += c.recv(1) == b"x"
        good += c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        good += c.getpeername() == ADDRESS and c.getsockname()[1] > 1023
        c.close()
    case("non-blocking", good == 120, good)


def bound():
    many(10)
    with socket.socket() as c:
        c.bind(("127.0.0.1", 0))
        name = c.getsockname()
        c.connect(ADDRESS)
        case("a-bound-socket-keeps-its-name", c.getsockname() == name, c.getsockname())


def low_numbers(last):
    """Those that are open, up to `last`; the library's own are far above."""
    return {int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) <= last}


def numbers():
    """Descriptors of its own lie between the numbers under which those of a message arrive."""
    many(10)
    own = [os.memfd_create("own") for _ in range(90)]
    for i, fd in enumerate(own):
        if i % 7 in (0, 2, 3, 4):
            os.close(fd)
    kept = {fd: os.fstat(fd).st_ino for i, fd in enumerate(own) if i % 7 not in (0, 2, 3, 4)}
    before = low_numbers(own[-1])
    got = set()
    for _ in range(40):
        with socket.create_connection(ADDRESS, timeout=20) as c:
            got.add(c.fileno())
            c.sendall(b"x")
            c.recv(1)
    case("each-socket-has-the-lowest-number", got == {own[0]}, (got, own[0]))
    now = {fd: os.fstat(fd).st_ino for fd in kept if os.path.exists(f"/proc/self/fd/{fd}")}
    case("what-lies-between-stays-open", now == kept, (now, kept))
    after = low_numbers(own[-1])
    case("and-nothing-more-is", after == before, after ^ before)
    for fd in kept:
        os.close(fd)


def forked():
    many(10)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if many(40) == 40 else 1)
    good = many(40)
    _, status = os.waitpid(pid, 0)
    case("parent-and-child", good == 40 and status == 0, (good, status))


def configure(text):
    """The file is another one at once: nobody reads half of it."""
    with open(CONFIG + ".new", "w") as f:
        f.write(text)
    os.replace(CONFIG + ".new", CONFIG)


def denied():
    case("tickets-before-the-policy", some_left())
    with open(CONFIG) as f:
        before = f.read()
    with open(DENY) as f:
        deny = f.read()
    configure(before + deny)
    case("a-new-policy-refuses-in-connect",
         wait_for(lambda: error_of(lambda: echo(b"x")) == errno.EACCES))
    again = [error_of(lambda: echo(b"x")) for _ in range(20)]
    case("and-each-one-after", again == [errno.EACCES] * 20, again)
    configure(before)
    case("allowed-again", wait_for(lambda: error_of(lambda: echo(b"x")) == 0))


def server_goes(server):
    many(10)
    server.kill()
    case("no-server-is-refused-in-connect",
         wait_for(lambda: error_of(lambda: echo(b"x")) == errno.ECONNREFUSED))
    case("its-tickets-are-gone", wait_for(lambda: state()["tickets"] == 0))
    server = Server()
    case("another-server", many(30) == 30)
    return server


one = Server()
counted()
threads()
two_servers()
nonblocking()
bound()
numbers()
forked()
denied()
one = server_goes(one)
one.kill()
sys.exit(1 if failed else 0)
