"""Name servers and clients that no library helps, for confined_dns.sh: messages of DNS over plain sockets."""

import os
import socket
import struct
import sys
import threading
import time

A, AAAA, ANY, HTTPS, OPT = 1, 28, 255, 65, 41


def question(name, kind=A, qid=0x1234, opt=0, flags=0x0100):
    text = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"
    extra = b"\0" + struct.pack(">HHIH", OPT, opt, 0, 0) if opt else b""
    return struct.pack(">6H", qid, flags, 1, 0, 0, 1 if opt else 0) + text + struct.pack(">2H", kind, 1) + extra


def name_at(msg, at):
    labels = []
    while msg[at]:
        labels.append(msg[at + 1:at + 1 + msg[at]].decode())
        at += 1 + msg[at]
    return ".".join(labels), at + 1


def said(msg, qid=0x1234):
    """An answer as text: its rcode, or its addresses."""
    got, flags, questions, answers = struct.unpack(">4H", msg[:8])
    if got != qid:
        return f"id {got:x}"
    if flags & 0x20F:
        return ("TC " if flags & 0x200 else "") + f"rcode {flags & 15}"
    at = 12
    for _ in range(questions):
        at = name_at(msg, at)[1] + 4
    out = []
    for _ in range(answers):
        kind, _, _, size = struct.unpack(">HHIH", msg[at + 2:at + 12])
        data = msg[at + 12:at + 12 + size]
        out.append(socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, data))
        at += 12 + size
    return " ".join(out) or "nothing"


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


# --- servers ---


def answer(msg, address):
    """What the stub says: its address for most names, NXDOMAIN or nothing for some."""
    name, end = name_at(msg, 12)
    head = struct.unpack(">6H", msg[:12])
    if name.endswith("silent"):
        return None
    if name.endswith(("none", "cluster.local")):
        return struct.pack(">6H", head[0], 0x8183, 1, 0, 0, 0) + msg[12:end + 4]
    record = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 60, 4) + socket.inet_aton(address)
    more = 60 if name.startswith("big") else 0
    return struct.pack(">6H", head[0], 0x8180, 1, 1 + more, 0, 0) + msg[12:end + 4] + record * (1 + more)


def serve(host, address, log):
    """Datagrams and connections at port 53 of `host`; each name that is asked for is in `log`."""
    udp = socket.socket(family(host), socket.SOCK_DGRAM)
    udp.bind((host, 53))
    tcp = socket.create_server((host, 53), family=family(host))
    out = open(log, "ab", 0)

    def stream(sock):
        with sock:
            while size := sock.recv(2, socket.MSG_WAITALL):
                msg = sock.recv(struct.unpack(">H", size)[0], socket.MSG_WAITALL)
                out.write(b"tcp " + name_at(msg, 12)[0].encode() + b"\n")
                if reply := answer(msg, address):
                    sock.sendall(struct.pack(">H", len(reply)) + reply)

    def streams():
        while True:
            threading.Thread(target=stream, args=(tcp.accept()[0],), daemon=True).start()

    threading.Thread(target=streams, daemon=True).start()
    print("ready", flush=True)
    while True:
        msg, source = udp.recvfrom(65535)
        name = name_at(msg, 12)[0]
        out.write(name.encode() + b" id %x\n" % struct.unpack(">H", msg[:2]))
        reply = answer(msg, address)
        if name.startswith("hostile"):
            # Before the right answer: from another socket, of another id, of another question.
            with socket.socket(family(host), socket.SOCK_DGRAM) as other:
                other.sendto(answer(msg, "6.6.6.6"), source)
            wrong = answer(msg, "6.6.6.7")
            udp.sendto(bytes([wrong[0] ^ 1]) + wrong[1:], source)
            udp.sendto(answer(msg, "6.6.6.8").replace(b"hostile", b"hastile", 1), source)
        if name.startswith("flood"):
            for _ in range(100):
                udp.sendto(b"\0" * 12, source)
        if reply:
            udp.sendto(reply, source)


# --- clients ---


def asked(sock, msg, to=None, timeout=20, qid=0x1234):
    """Sends, and what is answered, with who it seems to be from."""
    sock.settimeout(timeout)
    if to:
        sock.sendto(msg, to)
    else:
        sock.send(msg)
    try:
        reply, source = sock.recvfrom(65535)
    except TimeoutError:
        return "silence"
    except ConnectionRefusedError:
        return "refused"
    return f"{said(reply, qid)} from {source[0]} {source[1]}"


def ask(host, name, kind="1", opt="0"):
    """By a datagram with an address."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        return asked(sock, question(name, int(kind), opt=int(opt)), (host, 53))


def connected(host, name, kind="1"):
    """As resolvers of Go and glibc: connect(), send(), recv()."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.connect((host, 53))
        peer = sock.getpeername()[:2]
        return f"{asked(sock, question(name, int(kind)))} peer {peer[0]} {peer[1]}"


def brief(host, name, timeout="1"):
    """Waits no longer than that."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.connect((host, 53))
        return asked(sock, question(name), timeout=float(timeout))


def several(*hosts):
    """As musl's resolver: one socket without connect() asks all servers at once. What each says."""
    with socket.socket(family(hosts[0]), socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        for i, host in enumerate(hosts):
            sock.sendto(question("other.test", qid=i), (host, 53))
        out = {}
        while len(out) < len(hosts):
            reply, source = sock.recvfrom(65535)
            out[source[0]] = said(reply, struct.unpack(">H", reply[:2])[0])
        return " ".join(f"{host}={out.get(host)}" for host in hosts)


def bound(host, name):
    """From a port of its own choice, as sendmsg() without connect() does after bind()."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 0))
        return asked(sock, question(name), (host, 53))


def raw(host, text):
    """Any bytes, as hexadecimal."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        return asked(sock, bytes.fromhex(text), (host, 53), timeout=1)


def outside(host, port, name):
    """Datagrams to the answerer itself."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        return asked(sock, question(name), (host, int(port)), timeout=1)


def marked(host, port, name, mark):
    """The same, with a mark, as only the host's administrator has it."""
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 36, int(mark))
        return asked(sock, question(name), (host, int(port)), timeout=1)


def flood(host, count, flatd):
    """
    More queries than may wait, to which nobody answers; then one that is answered. What it is told, and how many descriptors the
    process `flatd` had at most.
    """
    most = 0
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.connect((host, 53))
        for i in range(int(count)):
            try:
                sock.send(question(f"n{i}.silent", qid=i & 0xFFFF))
            except OSError:
                pass
            if i % 16 == 0:
                most = max(most, len(os.listdir(f"/proc/{flatd}/fd")))
        # What a flood loses, the network does: resolvers ask again.
        out = "silence"
        for _ in range(30):
            if out == "silence":
                out = asked(sock, question("other.test"), timeout=1)
                most = max(most, len(os.listdir(f"/proc/{flatd}/fd")))
        return f"{out} {most}"


def receive(sock):
    size = sock.recv(2, socket.MSG_WAITALL)
    return sock.recv(struct.unpack(">H", size)[0], socket.MSG_WAITALL) if len(size) == 2 else b""


def stream(host, *names):
    """All questions in one go over one connection, and their answers by their order."""
    with socket.socket(family(host), socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        try:
            sock.connect((host, 53))
            sock.sendall(b"".join(struct.pack(">H", len(q)) + q for q in (question(n, qid=i) for i, n in enumerate(names))))
            out = {}
            while len(out) < len(names):
                msg = receive(sock)
                if not msg:
                    return "ended"
                out[struct.unpack(">H", msg[:2])[0]] = msg
            return " ".join(said(out[i], i) for i in range(len(names)))
        except TimeoutError:
            return "silence"
        except OSError as e:
            return "reset" if e.errno != 111 else "refused"


def bytewise(host, name):
    """A byte at a time, then the end of what is asked."""
    with socket.create_connection((host, 53), timeout=20) as sock:
        q = question(name)
        for b in struct.pack(">H", len(q)) + q:
            sock.sendall(bytes([b]))
        sock.shutdown(socket.SHUT_WR)
        got = said(receive(sock))
        return got + (" end" if sock.recv(1) == b"" else " more")


def junk(host, text):
    """Any bytes over a connection."""
    with socket.create_connection((host, 53), timeout=20) as sock:
        try:
            sock.sendall(bytes.fromhex(text))
            msg = receive(sock)
            return said(msg) if msg else "ended"
        except OSError:
            return "reset"


def idle(host, count):
    """Holds so many connections that say nothing; whether one more is answered."""
    held = [socket.create_connection((host, 53)) for _ in range(int(count))]
    return stream(host, "db.e2e.example") + f" of {len(held)}"


def oldest(host, count):
    """Its connection makes room for its own next one: those of another process have come between."""
    held, end = os.pipe(), os.pipe()
    with socket.create_connection((host, 53)) as first:
        pid = os.fork()
        if pid == 0:
            first.close()
            os.close(end[1])
            others = [socket.create_connection((host, 53)) for _ in range(int(count))]
            os.write(held[1], b"%d" % len(others))
            os.read(end[0], 1)
            os._exit(0)
        os.read(held[0], 16)
        out = stream(host, "db.e2e.example")
        gone = first.recv(1) == b""
    os.close(end[1])
    os.waitpid(pid, 0)
    return f"{out} {'for' if gone else 'beside'} it"


def stay(host, name, turns):
    """Asks on one connected socket, once for each line that `turns` gets."""
    done = 0
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.connect((host, 53))
        while True:
            lines = os.path.getsize(turns) if os.path.exists(turns) else 0
            if lines > done:
                done += 1
                print(asked(sock, question(name)), flush=True)
            else:
                time.sleep(0.02)


def hammer(host, name, stop):
    """Asks again and again until the file `stop` is there. What was not answered meanwhile."""
    lost = 0
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        sock.connect((host, 53))
        while not os.path.exists(stop):
            lost += "from" not in asked(sock, question(name))
    return f"{lost} lost"


def main(what, *args):
    try:
        out = globals()[what](*args)
        if out:
            print(out)
    except OSError as e:
        print(os.strerror(e.errno))


main(*sys.argv[1:])
