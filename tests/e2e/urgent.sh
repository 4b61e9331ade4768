#!/bin/bash
# Urgent data (MSG_OOB) of an application of the mesh by way of flatd: it reaches a plain server, a plain client and another
# application. Where flatd reads HTTP it is refused.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON"
port && HTTP=$PORT
port
{
	service tcp 127.0.0.1 "$PORT" "$PORT" forwarded
	service http 127.0.0.1 "$HTTP" "$HTTP" forwarded | sed 's/protocol: TCP/protocol: HTTP/; s/name: tcp/name: http/; s/{ tcp: /{ http: /'
	cat <<'END'
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: http, namespace: e2e }
spec: { hosts: [http.e2e.example], http: [{ route: [{ destination: { host: http.e2e.example } }] }] }
END
} >"$CONFIG"
start_flatd

cat >"$WORK/end.py" <<'END'
"""end.py listen|connect PORT send|take: one urgent byte among others, one way."""
import select
import socket
import sys

how, port, what = sys.argv[1:]
address = ("127.0.0.1", int(port))
if how == "listen":
    listener = socket.create_server(address)
    print("ready", flush=True)
    sock = listener.accept()[0]
else:
    sock = socket.create_connection(address)
sock.settimeout(20)
if what == "send":
    try:
        for i in range(50):
            sock.sendall(b"before" + b"x" * i)
            sock.send(b"!", socket.MSG_OOB)
            sock.sendall(b"after")
            assert sock.recv(1) == b"y"
    except OSError as e:
        sys.exit(e.strerror)
else:
    for i in range(50):
        poll = select.poll()
        poll.register(sock, select.POLLPRI)
        assert poll.poll(20000), "no urgent byte"
        assert sock.recv(1, socket.MSG_OOB) == b"!"
        before = sock.recv(6 + i, socket.MSG_WAITALL)
        assert before == b"before" + b"x" * i, before
        after = sock.recv(5, socket.MSG_WAITALL)
        assert after == b"after", after
        sock.sendall(b"y")
print(how, what, "done")
END

is_ready() { grep -q ready "$1"; }

# between NAME TAKES SENDS: the listener is run with $SERVER before it, the client with $CLIENT.
between() {
	local log=$WORK/$1.log
	start "$1" $SERVER "$PYTHON" "$WORK/end.py" listen "$PORT" "$2"
	wait_for 20 is_ready "$log"
	went "$1" forwarded $CLIENT "$PYTHON" "$WORK/end.py" connect "$PORT" "$3"
	same "$1-client" "connect $3 done" "$OUT"
	wait "$PID"
	same "$1-server" "listen $2 done" "$(tail -n 1 "$log")"
}

SERVER='' CLIENT=over between client-to-plain-server take send
SERVER=over CLIENT='' between server-to-plain-client send take
SERVER=over CLIENT=over between both-in-the-mesh take send

serve http "$HTTP" over "$PYTHON" -m http.server --bind 127.0.0.1 "$HTTP"
same refused-where-http-is-read "Operation not supported" "$(over "$PYTHON" "$WORK/end.py" connect "$HTTP" send 2>&1)"
