"""Load between two hosts of which every message is accounted for: who sent it, who has seen it, how each connection ended."""

import errno
import os
import socket
import struct
import sys
import threading
import time

HEAD = struct.Struct("!QI")  # number of the message, bytes that follow
SIZES = (100, 1000, 5000, 40000, 200000)


def say(*words):
    # One write: threads do not get into each other's lines.
    os.write(1, (" ".join(str(w) for w in words) + "\n").encode())


def body(number):
    return struct.pack("!Q", number) * (SIZES[number % len(SIZES)] // 8)


def receive(s, size):
    got = bytearray()
    while len(got) < size:
        more = s.recv(size - len(got))
        if not more:
            raise EOFError
        got += more
    return bytes(got)


def serve_one(s, log):
    with s:
        try:
            while True:
                number, size = HEAD.unpack(receive(s, HEAD.size))
                if receive(s, size) != body(number):
                    say("corrupt", number)
                os.write(log, b"%d\n" % number)
                s.sendall(HEAD.pack(number, 0))
        except EOFError:
            pass
        except OSError as e:
            say("server-saw", errno.errorcode[e.errno])


def serve(port, path):
    """Writes the number of each message that came whole into the file, then answers with it."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen(128)
        say("listening")
        while True:
            try:
                s, _ = server.accept()
            except OSError:
                time.sleep(0.02)
                continue
            threading.Thread(target=serve_one, args=(s, log), daemon=True).start()


def load(host, port, conns, stop, path):
    """
    Connections that send and have answered, each made anew when it has ended, until the file `stop` is there. Numbers whose
    answer came go into the file at `path`.
    """
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def one(which):
        number = which << 32
        while not os.path.exists(stop):
            try:
                s = socket.create_connection((host, port), timeout=20)
            except OSError as e:
                say("refused", which, errno.errorcode.get(e.errno, type(e).__name__))
                time.sleep(0.05)
                continue
            with s:
                answers = 0
                try:
                    while not os.path.exists(stop):
                        number += 1
                        data = body(number)
                        s.sendall(HEAD.pack(number, len(data)) + data)
                        if HEAD.unpack(receive(s, HEAD.size)) != (number, 0):
                            say("corrupt", number)
                        os.write(log, b"%d\n" % number)
                        answers += 1
                        if answers == 1:
                            say("up", which)
                except (EOFError, OSError) as e:
                    how = errno.errorcode[e.errno] if isinstance(e, OSError) and e.errno else type(e).__name__
                    # Without an answer: never quite there.
                    say("ended" if answers else "refused", which, how, time.time_ns() // 1000000)

    threads = [threading.Thread(target=one, args=(i + 1,)) for i in range(conns)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    say("stopped")


def account(seen, answered):
    """What the server has seen and what was answered: nothing twice, nothing answered that was not seen."""
    def numbers(path):
        with open(path) as f:
            return [int(line) for line in f]
    there, back = numbers(seen), numbers(answered)
    twice = len(there) - len(set(there)) + len(back) - len(set(back))
    lost = len(set(back) - set(there))
    say("twice", twice, "lost", lost, "answered", "some" if len(back) > 100 else len(back))


MODES = {f.__name__: f for f in (serve, load, account)}
if __name__ == "__main__":
    sys.exit(MODES[sys.argv[1]](*(int(a) if a.isdigit() else a for a in sys.argv[2:])))
