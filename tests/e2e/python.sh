#!/bin/bash
# python3: http.server, and socketserver with a thread or a process per connection.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON" curl

cat >"$WORK/upper.py" <<'END'
"""Answers each line in upper case; `upper.py threads|processes PORT`."""
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


kind = {"threads": socketserver.ThreadingTCPServer, "processes": socketserver.ForkingTCPServer}[sys.argv[1]]
kind.allow_reuse_address = True
kind.request_queue_size = 128
with kind(("127.0.0.1", int(sys.argv[2])), Handler) as server:
    server.serve_forever()
END
cat >"$WORK/lines.py" <<'END'
"""Ten connections at a time send 20,000 lines each; prints a hash of the answers."""
import hashlib
import socket
import sys
import threading

out = [None] * 10


def talk(n):
    lines = b"".join(b"line %d of connection %d\n" % (i, n) for i in range(20000))
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60) as sock:
        def send():
            sock.sendall(lines)
            sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        digest = hashlib.sha256()
        got = 0
        while data := sock.recv(65536):
            digest.update(data)
            got += len(data)
        sender.join()
    assert got == len(lines), f"{got} of {len(lines)} bytes came back"
    out[n] = digest.hexdigest()


threads = [threading.Thread(target=talk, args=(n,)) for n in range(10)]
for t in threads:
    t.start()
for t in threads:
    t.join()
if None in out:
    sys.exit("a connection failed")
print(hashlib.sha256("".join(out).encode()).hexdigest())
END

cat >"$WORK/order.py" <<'END'
"""Which of five connections epoll tells of first, second, ...: as bytes came, not as they were made. `order.py LISTEN HOST PORT`."""
import select
import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    ends = []
    for _ in range(5):
        client = socket.create_connection(sys.argv[2:4])
        ends.append((client, listener.accept()[0]))
epoll = select.epoll()
number = {}
for i, (_, server) in enumerate(ends):
    epoll.register(server, select.EPOLLIN)
    number[server.fileno()] = i
told = []
for _ in range(20):
    # Nothing is there: it sleeps, and all of them are at rest, unless it was still looking for them when its time was over.
    assert epoll.poll(0.02) == []
    for i in (2, 0, 3, 1, 4):
        ends[i][0].send(b"x")
    told.append([number[fd] for fd, _ in epoll.poll(5)])
    for _, server in ends:
        server.recv(1)
print("as bytes came" if [2, 0, 3, 1, 4] in told else told)
END

declare -A NATIVE FLAT
for what in http threads processes order; do
	port && NATIVE[$what]=$PORT
	port && FLAT[$what]=$PORT
done
{
	service http 240.9.4.1 80 "${FLAT[http]}"
	service http-forwarded 240.9.4.2 80 "${FLAT[http]}" forwarded
	service threads 240.9.4.3 7 "${FLAT[threads]}"
	service threads-forwarded 240.9.4.4 7 "${FLAT[threads]}" forwarded
	service processes 240.9.4.5 7 "${FLAT[processes]}"
	service order 240.9.4.7 7 "${FLAT[order]}"
	service processes-forwarded 240.9.4.6 7 "${FLAT[processes]}" forwarded
} >"$CONFIG"
start_flatd
mkdir "$WORK/www"
head -c 20000000 /dev/urandom >"$WORK/www/file"
http=(-m http.server --bind 127.0.0.1 -d "$WORK/www")
serve http-native "${NATIVE[http]}" "$PYTHON" "${http[@]}" "${NATIVE[http]}"
serve http-flat "${FLAT[http]}" over "$PYTHON" "${http[@]}" "${FLAT[http]}"
for kind in threads processes; do
	serve "$kind-native" "${NATIVE[$kind]}" "$PYTHON" -B "$WORK/upper.py" $kind "${NATIVE[$kind]}"
	serve "$kind-flat" "${FLAT[$kind]}" over "$PYTHON" -B "$WORK/upper.py" $kind "${FLAT[$kind]}"
done

page() { curl -sS "$@" | hash_of; }
page_over() { over curl -sS "$@" | hash_of; }
WANTED=$(page "http://127.0.0.1:${NATIVE[http]}/file")
same http-native "$(hash_of <"$WORK/www/file")" "$WANTED"
went http-direct-path direct page_over http://http.e2e.example/file
same http-direct "$WANTED" "$OUT"
went http-forwarded-path forwarded page_over http://http-forwarded.e2e.example/file
same http-forwarded "$WANTED" "$OUT"
WANTED=$(page "http://127.0.0.1:${NATIVE[http]}/" | tr -d '\r')
same http-index "$WANTED" "$(page_over http://http.e2e.example/ | tr -d '\r')"

lines_over() { over "$PYTHON" -B "$WORK/lines.py" "$@"; }
for kind in threads processes; do
	WANTED=$("$PYTHON" -B "$WORK/lines.py" 127.0.0.1 "${NATIVE[$kind]}")
	for way in direct forwarded; do
		suffix=${way#direct}
		went "$kind-$way-path" $way lines_over "$kind${suffix:+-$suffix}.e2e.example" 7
		same "$kind-$way" "$WANTED" "$OUT"
	done
done

order_over() { over "$PYTHON" -B "$WORK/order.py" "${FLAT[order]}" "$@"; }
went order-path direct order_over order.e2e.example 7
same order "as bytes came" "$OUT"
