"""
A server that answers when it is told to, over HTTP/1 and HTTP/2: `hedge_origin.py PORT NAME FOLDER`.
A request of /KEY is written down as FOLDER/KEY.N, the Nth of that key that came to any server of the folder: the server's port, the
number of its connection, the length of the body and its hash. Then it waits for FOLDER/KEY.N.go, whose words say what to do:
  STATUS    that status, with the body "KEY.N"
  close     the connection, or the stream, ends without an answer
  garbage   something that is not HTTP; over HTTP/2 as close
  103       an interim response, then what KEY.N.go2 says
  half      200 and half of the body, the rest once there is KEY.N.go2
  grpc N    a call's status alone; 0: a message, then the status
If the client leaves while it waits there is FOLDER/KEY.N.gone: "over", or "reset CODE" of a stream.
"""
import hashlib
import os
import socket
import sys
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions

PORT, NAME, FOLDER = int(sys.argv[1]), sys.argv[2], sys.argv[3]
PREFACE = b"PRI * HTTP/2.0"
PAUSE = 0.004


def note(name, text):
    """Whole or not at all."""
    path = os.path.join(FOLDER, name)
    with open(f"{path}.{NAME}.new", "w", encoding="ascii") as f:
        f.write(text)
    os.rename(f"{path}.{NAME}.new", path)


def told(name):
    try:
        with open(os.path.join(FOLDER, name), encoding="ascii") as f:
            return f.read().split()
    except FileNotFoundError:
        return None


class Asked:
    """One request that came, with its number."""

    def __init__(self, path, body, connection):
        self.key = path.strip("/").split("?")[0].replace("/", "-")
        n = 1
        while True:
            try:
                os.close(os.open(os.path.join(FOLDER, f"{self.key}.{n}.taken"), os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                n += 1
        self.id = f"{self.key}.{n}"
        self.step = "go"
        note(self.id, f"{PORT} {NAME}-{connection} {len(body)} {hashlib.sha256(body).hexdigest()}\n")

    def word(self):
        words = told(f"{self.id}.{self.step}")
        if words:
            self.step = "go2"
        return words

    def gone(self, how):
        note(f"{self.id}.gone", how + "\n")


# --- HTTP/1 ---


def is_over(sock):
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def read_body(f, headers):
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while n := int(f.readline().split(b";")[0], 16):
            body += f.read(n)
            f.readline()
        f.readline()
        return body
    return f.read(int(headers.get("content-length", 0)))


def wait_h1(sock, asked):
    while not (words := asked.word()):
        if is_over(sock):
            asked.gone("over")
            return None
        time.sleep(PAUSE)
    return words


def answer_h1(sock, asked):
    """False: the connection ends."""
    words = wait_h1(sock, asked)
    if words and words[0] == "103":
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        words = wait_h1(sock, asked)
    if not words or words[0] == "close":
        return False
    if words[0] == "garbage":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
        return False
    body = asked.id.encode()
    status = "200" if words[0] == "half" else words[0]
    head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    if words[0] != "half":
        sock.sendall(head + body)
        return True
    sock.sendall(head + body[:2])
    if not wait_h1(sock, asked):
        return False
    sock.sendall(body[2:])
    return True


def serve_h1(sock, number):
    f = sock.makefile("rb")
    while line := f.readline():
        headers = {}
        while (field := f.readline()) not in (b"\r\n", b""):
            name, value = field.decode("latin-1").split(":", 1)
            headers[name.lower()] = value.strip()
        asked = Asked(line.split()[1].decode(), read_body(f, headers), number)
        if not answer_h1(sock, asked):
            break


# --- HTTP/2 ---


class H2:
    def __init__(self, sock, number):
        self.sock, self.number = sock, number
        self.c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.paths, self.bodies, self.asked = {}, {}, {}

    def event(self, e):
        if isinstance(e, h2.events.RequestReceived):
            self.paths[e.stream_id] = dict(e.headers)[b":path"].decode()
            self.bodies[e.stream_id] = b""
        elif isinstance(e, h2.events.DataReceived):
            self.bodies[e.stream_id] += e.data
            self.c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded):
            body = self.bodies.pop(e.stream_id)
            self.asked[e.stream_id] = Asked(self.paths.pop(e.stream_id), body, self.number)
        elif isinstance(e, h2.events.StreamReset):
            asked = self.asked.pop(e.stream_id, None)
            if asked:
                asked.gone(f"reset {int(e.error_code)}")

    def answer(self, stream, asked, words):
        over = True
        if asked.step == "go3":
            self.c.send_data(stream, asked.id.encode()[2:], end_stream=True)
        elif words[0] in ("close", "garbage"):
            self.c.reset_stream(stream, 2)
        elif words[0] == "103":
            self.c.send_headers(stream, [(":status", "103"), ("link", "</x>")])
            over = False
        elif words[0] == "half":
            self.c.send_headers(stream, [(":status", "200"), ("content-length", str(len(asked.id)))])
            self.c.send_data(stream, asked.id.encode()[:2])
            asked.half = True
            over = False
        elif words[0] == "grpc":
            head = [(":status", "200"), ("content-type", "application/grpc")]
            if words[1] == "0":
                self.c.send_headers(stream, head)
                message = asked.id.encode()
                self.c.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
                self.c.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            else:
                self.c.send_headers(stream, head + [("grpc-status", words[1])], end_stream=True)
        else:
            self.c.send_headers(stream, [(":status", words[0]), ("content-length", str(len(asked.id)))])
            self.c.send_data(stream, asked.id.encode(), end_stream=True)
        if over:
            del self.asked[stream]

    def look(self):
        for stream, asked in list(self.asked.items()):
            words = asked.word()
            if not words:
                continue
            if getattr(asked, "half", False):
                asked.step = "go3"
            try:
                self.answer(stream, asked, words)
            except h2.exceptions.ProtocolError:
                self.asked.pop(stream, None)

    def run(self):
        self.c.initiate_connection()
        self.sock.settimeout(PAUSE)
        while True:
            self.look()
            self.sock.sendall(self.c.data_to_send())
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            for e in self.c.receive_data(data):
                self.event(e)


def serve_h2(sock, number):
    c = H2(sock, number)
    try:
        c.run()
    finally:
        for asked in c.asked.values():
            asked.gone("over")


def serve(sock, number):
    try:
        first = sock.recv(len(PREFACE), socket.MSG_PEEK | socket.MSG_WAITALL)
        (serve_h2 if first == PREFACE else serve_h1)(sock, number)
    except OSError:
        pass
    sock.close()


server = socket.create_server(("127.0.0.1", PORT), backlog=128)
for count in range(sys.maxsize):
    threading.Thread(target=serve, args=(server.accept()[0], count), daemon=True).start()
