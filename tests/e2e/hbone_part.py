"""A peer that speaks HBONE and is not ours: HTTP/2 CONNECT over mutual TLS with h2 and OpenSSL, as server and as client."""
import socket
import ssl
import sys
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events


def say(*words):
    print(*words, flush=True)


def context(server, folder, name):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    c.minimum_version = ssl.TLSVersion.TLSv1_3
    c.check_hostname = False
    c.verify_mode = ssl.CERT_REQUIRED
    if name != "-":
        c.load_cert_chain(f"{folder}/{name}.crt", f"{folder}/{name}.key")
    c.load_verify_locations(f"{folder}/cluster.local.bundle")
    c.set_alpn_protocols(["h2"])
    return c


def identity(s):
    return [v for kind, v in s.getpeercert()["subjectAltName"] if kind == "URI"][0]


class Peer:
    """One connection: bytes that wait for room, per stream."""

    def __init__(self, sock, client):
        self.sock = sock
        self.h = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding="utf-8",
                                      # It does not know what a CONNECT has (RFC 9113, 8.5).
                                      validate_inbound_headers=False, validate_outbound_headers=False))
        self.h.initiate_connection()
        self.waiting = {}
        self.ends = set()
        self.flush()

    def flush(self):
        for sid in list(self.waiting):
            self.send_some(sid)
        data = self.h.data_to_send()
        if data:
            self.sock.sendall(data)

    def send_some(self, sid):
        data = self.waiting[sid]
        while data:
            n = min(self.h.local_flow_control_window(sid), self.h.max_outbound_frame_size, len(data))
            if n == 0:
                break
            self.h.send_data(sid, bytes(data[:n]))
            del data[:n]
        if not data and sid in self.ends:
            self.ends.discard(sid)
            del self.waiting[sid]
            self.h.end_stream(sid)

    def events(self):
        data = self.sock.recv(65536)
        return self.h.receive_data(data) if data else None


def serve_one(sock):
    try:
        who = identity(sock)
        p = Peer(sock, False)
        while (events := p.events()) is not None:
            for e in events:
                if isinstance(e, h2.events.RequestReceived):
                    head = dict(e.headers)
                    say("asked", head[":method"], head[":authority"], who, head.get("forwarded"))
                    if head[":authority"].endswith(":403"):
                        p.h.send_headers(e.stream_id, [(":status", "403")], end_stream=True)
                    else:
                        p.h.send_headers(e.stream_id, [(":status", "200")])
                        p.waiting[e.stream_id] = bytearray()
                elif isinstance(e, h2.events.DataReceived):
                    p.h.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                    if e.data.startswith(b"RESET") and e.stream_id in p.waiting:
                        del p.waiting[e.stream_id]
                        p.h.reset_stream(e.stream_id, h2.errors.ErrorCodes.CANCEL)
                    elif e.stream_id in p.waiting:
                        p.waiting[e.stream_id] += e.data
                elif isinstance(e, h2.events.StreamEnded) and e.stream_id in p.waiting:
                    p.ends.add(e.stream_id)
                elif isinstance(e, h2.events.StreamReset):
                    say("reset", e.stream_id)
                    p.waiting.pop(e.stream_id, None)
            p.flush()
    except OSError as e:
        say("connection ends:", type(e).__name__)


def serve(address, folder, name):
    """Echoes on every stream; one to port 403 is forbidden; one that says RESET is reset."""
    c = context(True, folder, name)
    server = socket.create_server((address, 15008))
    say("listening")
    while True:
        raw, _ = server.accept()

        def one(raw=raw):
            try:
                s = c.wrap_socket(raw, server_side=True)
            except OSError as e:
                say("handshake:", type(e).__name__)
                return
            serve_one(s)

        threading.Thread(target=one, daemon=True).start()


def read_streams(p, want):
    """Until each stream in `want` (id: bytes) is over. What came: id: [status, bytes, how it ended]."""
    seen = {sid: [None, bytearray(), None] for sid in want}
    while any(v[2] is None for v in seen.values()):
        events = p.events()
        if events is None:
            for v in seen.values():
                v[2] = v[2] or "closed"
            break
        for e in events:
            v = seen.get(getattr(e, "stream_id", None))
            if v is None:
                continue
            if isinstance(e, h2.events.ResponseReceived):
                v[0] = dict(e.headers)[":status"]
                if v[0] == "200" and want[e.stream_id]:
                    p.waiting[e.stream_id] = bytearray(want[e.stream_id])
                    p.ends.add(e.stream_id)
            elif isinstance(e, h2.events.DataReceived):
                v[1] += e.data
                p.h.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            elif isinstance(e, h2.events.StreamEnded):
                v[2] = v[2] or "end"
            elif isinstance(e, h2.events.StreamReset):
                v[2] = v[2] or "reset"
        p.flush()
    return seen


def ask(address, folder, name, size, *authorities):
    """One connection, a stream for each authority, all at once; each sends `size` bytes and wants them back."""
    try:
        raw = socket.create_connection((address, 15008), timeout=20)
        s = context(False, folder, name).wrap_socket(raw)
        p = Peer(s, True)
        data = bytes(i * 7 & 255 for i in range(1024)) * (size // 1024 + 1)
        want = {}
        for a in authorities:
            sid = p.h.get_next_available_stream_id()
            method = "GET" if a.startswith("GET") else "CONNECT"
            p.h.send_headers(sid, [(":method", method), (":authority", a.removeprefix("GET")),
                                   ("forwarded", f'for="{s.getsockname()[0]}:4{sid:04}"')])
            want[sid] = data[:size]
        p.flush()
        seen = read_streams(p, want)
    except OSError as e:
        say(type(e).__name__)
        return 0
    say(*(f"{status}{'' if status != '200' else ',' + how + (',whole' if bytes(got) == want[sid] else ',other')}"
          for sid, (status, got, how) in seen.items()), "of", identity(s))
    return 0


MODES = {f.__name__: f for f in (serve, ask)}
if __name__ == "__main__":
    sys.exit(MODES[sys.argv[1]](*(int(a) if a.isdigit() else a for a in sys.argv[2:])))
