"""
A client that stands still: `idle_client.py ADDRESS PORT HOST CASE`. Prints what it got: a status with its text, the code of a reset
stream, or how the connection ended.
"""
import select
import socket
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

ADDRESS, PORT, HOST, CASE = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
LIMIT = 30


def connect():
    sock = socket.create_connection((ADDRESS, PORT))
    sock.settimeout(LIMIT)
    return sock


def ask(sock, line, *fields, body=b""):
    head = [line + " HTTP/1.1", "Host: " + HOST, *fields]
    sock.sendall("\r\n".join([*head, "", ""]).encode() + body)


def rest(sock):
    """All that comes until its end; how that was."""
    got = b""
    try:
        while piece := sock.recv(65536):
            got += piece
    except ConnectionResetError:
        return got, "reset"
    return got, "closed"


def answer(sock):
    got, end = rest(sock)
    head, _, body = got.decode("latin-1").partition("\r\n\r\n")
    return f"{head.split()[1] if head else '-'} {body} {end}"


def no_body():
    sock = connect()
    ask(sock, "POST /echo", "Content-Length: 5")
    return answer(sock)


def no_answer():
    sock = connect()
    ask(sock, "GET /until/the-end", "Connection: close")
    return answer(sock)


def second_answer():
    """Of a connection that rested before."""
    sock = connect()
    ask(sock, "GET /status/200")
    first = b""
    while not first.endswith(b"status\n"):
        first += sock.recv(65536)
    ask(sock, "GET /until/timed", "Connection: close")
    return f"{first.split()[1].decode()} {answer(sock)}"


def half_answer():
    sock = connect()
    ask(sock, "GET /stalls/the-end")
    got, end = rest(sock)
    return f"{got[-4:].decode()} {end}"


def drip():
    sock = connect()
    ask(sock, "POST /echo", "Content-Length: 1000000")
    for _ in range(LIMIT * 20):
        if select.select([sock], [], [], 0.05)[0]:
            break
        sock.sendall(b"x")
    return answer(sock)


def half_head():
    sock = connect()
    sock.sendall(b"GET /echo HT")
    return answer(sock)


def one_request():
    sock = connect()
    ask(sock, "GET /status/200")
    return answer(sock).replace("\n", "")


def unread():
    sock = connect()
    ask(sock, "GET /stream/100000")
    poll = select.poll()
    poll.register(sock, 0)
    # An error without a byte read: it was reset.
    return "reset" if poll.poll(LIMIT * 1000) else "nothing"


class Streams:
    def __init__(self, window=65535):
        self.sock = connect()
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.http.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.ends = {}
        self.status = {}
        self.window = window

    def ask(self, method, path, *fields, end=True):
        stream = self.http.get_next_available_stream_id()
        self.http.send_headers(stream, [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path), *fields], end)
        self.sock.sendall(self.http.data_to_send())
        return stream

    def wait(self, stream):
        while stream not in self.ends:
            data = self.sock.recv(65536)
            if not data:
                return "closed"
            for event in self.http.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.status[event.stream_id] = dict(event.headers)[":status"]
                elif isinstance(event, h2.events.DataReceived) and self.window:
                    self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.ends[event.stream_id] = self.status[event.stream_id]
                elif isinstance(event, h2.events.StreamReset):
                    self.ends.setdefault(event.stream_id, f"reset {int(event.error_code)}")
            self.sock.sendall(self.http.data_to_send())
        return self.ends[stream]


def streams():
    """One that stands still beside others that do not."""
    s = Streams()
    still = s.ask("POST", "/echo", ("content-length", "5"), end=False)
    first = s.wait(s.ask("GET", "/status/200"))
    late = s.wait(still)
    return f"{first} {late} {s.wait(s.ask('GET', '/status/200'))}"


def no_window():
    """An answer that fits what flatd keeps, and one that does not."""
    s = Streams(window=0)
    small, large = s.ask("GET", "/status/200"), s.ask("GET", "/stream/300")
    return f"{s.wait(small)}, {s.wait(large)}"


print(globals()[CASE.replace("-", "_")]())
