"""A client of memcached's text protocol: `memcached_client.py HOST PORT`. Eight threads store and read
values of many sizes, in pieces and pipelined; prints one hash over everything that came back."""

import hashlib
import socket
import sys
import threading

THREADS = 8
KEYS = 400


def value(thread, i):
    seed = hashlib.sha256(b"%d/%d" % (thread, i)).digest()
    return (seed * 4096)[: (i * 977 + thread) % 100000 + 1]


class Client:
    def __init__(self, address):
        self.sock = socket.create_connection(address, timeout=30)
        # Else each value in two pieces waits for a delayed acknowledgement of the first, natively.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def store(self, key, data):
        head = b"set %s 0 0 %d\r\n" % (key, len(data))
        self.sock.sendall(head + data[: len(data) // 2])
        self.sock.sendall(data[len(data) // 2:] + b"\r\n")
        return self.file.readline()

    def load_many(self, keys):
        self.sock.sendall(b"".join(b"get %s\r\n" % key for key in keys))
        for _ in keys:
            head = self.file.readline().split()
            data = self.file.read(int(head[3]) + 2)
            assert self.file.readline() == b"END\r\n"
            yield data


def work(address, thread, out):
    client = Client(address)
    digest = hashlib.sha256()
    for i in range(KEYS):
        digest.update(client.store(b"k%d-%d" % (thread, i), value(thread, i)))
    for first in range(0, KEYS, 20):
        keys = [b"k%d-%d" % (thread, i) for i in range(first, first + 20)]
        for i, data in enumerate(client.load_many(keys), first):
            assert data == value(thread, i) + b"\r\n", f"thread {thread} key {i}: other bytes came back"
            digest.update(data)
    out[thread] = digest.hexdigest()


def main():
    address = (sys.argv[1], int(sys.argv[2]))
    out = [None] * THREADS
    threads = [threading.Thread(target=work, args=(address, t, out)) for t in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if None in out:
        sys.exit("a thread failed")
    print(hashlib.sha256("".join(out).encode()).hexdigest())


main()
