#!/bin/bash
# Who may be found at an address: servers in network namespaces of root's and of anybody's, and such that bind an address
# which is not this host's.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON" ip unshare setpriv
[ "$(id -u)" = 0 ] || { echo "SKIP $E2E_NAME: not root" && exit 77; }
NS=flat-e2e-$$
ip netns add "$NS" 2>/dev/null || { echo "SKIP $E2E_NAME: no network namespaces" && exit 77; }
tidy() { ip netns delete "$NS"; }
# Words, not a function: started with them is the program itself, no shell of ours between.
ANYBODY=(setpriv --reuid 65534 --regid 65534 --clear-groups)
"${ANYBODY[@]}" unshare -Urn true 2>/dev/null || { echo "SKIP $E2E_NAME: no user namespaces" && exit 77; }
"${ANYBODY[@]}" test -r "$FLAT_BUILD/libflat-preload.so" || { echo "SKIP $E2E_NAME: others cannot read the build" && exit 77; }
ip -n "$NS" link set lo up
ip -n "$NS" address add 10.98.0.2/32 dev lo

port && A=$PORT
port && B=$PORT
port && C=$PORT
port && D=$PORT

# server.py NAME ADDR:PORT...: says its name to whoever connects; called "peer": the client's address. freebind: IP_FREEBIND.
cat >"$WORK/server.py" <<'END'
import selectors, socket, sys
loop = selectors.DefaultSelector()
for at in sys.argv[2:]:
    free = at.startswith("freebind:")
    host, port = at.removeprefix("freebind:").rsplit(":", 1)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if free:
        s.setsockopt(socket.IPPROTO_IP, 15, 1)
    s.bind((host, int(port)))
    s.listen(20)
    loop.register(s, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in loop.select():
        c, peer = key.fileobj.accept()
        c.sendall((peer[0] if sys.argv[1] == "peer" else sys.argv[1]).encode())
        c.close()
END
# claim.py ADDR HOST PORT: connects from that address, whosever it is; what the server says.
cat >"$WORK/claim.py" <<'END'
import socket, sys
s = socket.socket()
s.settimeout(10)
s.setsockopt(socket.IPPROTO_IP, 15, 1)
s.bind((sys.argv[1], 0))
s.connect((sys.argv[2], int(sys.argv[3])))
print(s.recv(100).decode())
END
# thief.py: a child in a network namespace of its own binds and gives its sockets to its parent, which listens.
cat >"$WORK/thief.py" <<'END'
import os, selectors, socket, subprocess, sys
if sys.argv[1] == "bind":
    up = socket.socket(fileno=int(sys.argv[2]))
    os.system("ip link set lo up; ip address add 192.0.2.5/32 dev lo")
    for at in sys.argv[3:]:
        host, port = at.rsplit(":", 1)
        s = socket.socket()
        s.bind((host, int(port)))
        socket.send_fds(up, [b"x"], [s.fileno()])
    up.recv(1)
    sys.exit()
ours, theirs = socket.socketpair()
child = subprocess.Popen(["unshare", "-Urn", sys.executable, sys.argv[0], "bind", str(theirs.fileno()), *sys.argv[1:]],
                         pass_fds=[theirs.fileno()], env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"})
theirs.close()
loop = selectors.DefaultSelector()
for at in sys.argv[1:]:
    s = socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])
    s.listen(20)
    loop.register(s, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in loop.select():
        c, _ = key.fileobj.accept()
        c.sendall(b"thief")
        c.close()
END
# client.py HOST PORT SECONDS: who answers ten connections in so many seconds each, each name once; "nobody".
cat >"$WORK/client.py" <<'END'
import socket, sys
got = set()
for i in range(10):
    s = socket.socket()
    s.settimeout(float(sys.argv[3]))
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        got.add(s.recv(100).decode() or "nobody")
    except OSError:
        got.add("nobody")
    s.close()
    if got == {"nobody"} and i >= 2:
        break
print(*sorted(got))
END
chmod 644 "$WORK"/*.py

# served NAME ADDRESS ENDPOINT PORT
served() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  addresses: [$2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: tcp, protocol: TCP }]
  endpoints: [{ address: $3, ports: { tcp: $4 } }]
END
}
config() {
	cat <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: anybody, namespace: e2e }
spec: { selectors: [{ uid: 65534 }] }
END
	served near 240.9.8.1 127.0.0.1 "$A"
	served far 240.9.8.2 192.0.2.5 "$B"
	served box 240.9.8.3 10.98.0.2 "$C"
	served seen 240.9.8.4 127.0.0.1 "$D"
}
config >"$CONFIG"
start_flatd

# ask HOST PORT [SECONDS]: few of them where nobody is to answer.
ask() { timeout 200 flat-run --control "$CONTROL" "$PYTHON" "$WORK/client.py" "$1" "$2" "${3:-15}" 2>&1; }
inside() { timeout 200 ip netns exec "$NS" flat-run --control "$CONTROL" "$PYTHON" "$WORK/client.py" "$1" "$2" 15 2>&1; }
says() { grep -q "$2" "$WORK/$1.log"; }
# serve NAME PREFIX... -- ADDR:PORT...
serve() {
	local name=$1 before=()
	shift
	while [ "$1" != -- ]; do
		before+=("$1")
		shift
	done
	shift
	start "$name" "${before[@]}" flat-run --control "$CONTROL" "$PYTHON" "$WORK/server.py" "$name" "$@"
	wait_for 20 says "$name" listening || die "$name"
}

serve honest -- "127.0.0.1:$A"
same near "honest" "$(ask near.e2e.example 80)"

# --- a network namespace that anybody makes ---
start thief "${ANYBODY[@]}" flat-run --control "$CONTROL" "$PYTHON" "$WORK/thief.py" "127.0.0.1:$A" "192.0.2.5:$B" "0.0.0.0:$C"
wait_for 20 says thief listening || die thief
THIEF=$PID
holds thief-is-refused wait_for 10 grep -q "refused: its network namespace is a user's own" "$WORK/flatd.log"
same no-loopback-of-others "honest" "$(ask near.e2e.example 80)"
same no-loopback-by-address "honest" "$(ask 127.0.0.1 "$A")"
same no-address-of-others "nobody" "$(ask far.e2e.example 80 0.5)"
same no-any-address "nobody" "$(ask box.e2e.example 80 0.5)"
stop "$THIEF"

# --- an address that this host has not got ---
serve squatter "${ANYBODY[@]}" -- "freebind:192.0.2.5:$B"
SQUATTER=$PID
same no-address-by-freebind "nobody" "$(ask far.e2e.example 80 0.5)"
stop "$SQUATTER"

# --- a network namespace that root made: a container ---
serve box ip netns exec "$NS" -- "0.0.0.0:$C" "127.0.0.1:$A"
same container-by-its-address "box" "$(ask box.e2e.example 80)"
same container-has-no-other "nobody" "$(ask far.e2e.example 80 0.5)"
same container-loopback-is-its-own "nobody" "$(ask 127.0.0.1 "$C" 0.5)"
same container-loopback-inside "box" "$(inside 127.0.0.1 "$A")"
same host-loopback-outside "honest" "$(ask 127.0.0.1 "$A")"
same endpoint-of-the-host-inside "honest" "$(inside near.e2e.example 80)"
same container-by-its-address-inside "box" "$(inside 10.98.0.2 "$C")"

stop "$PID"

# --- where a client comes from, which policies go by ---
HOST=$(ip -o -4 address show scope global | sed -n '1s/.* inet \([0-9.]*\).*/\1/p')
if [ -n "$HOST" ]; then
	serve peer -- "127.0.0.1:$D"
	claim() { timeout 60 "$@" flat-run --control "$CONTROL" "$PYTHON" "$WORK/claim.py" "$HOST" seen.e2e.example 80 2>&1; }
	same host-address-of-the-host "$HOST" "$(claim env)"
	same host-address-not-of-a-container 127.0.0.1 "$(claim ip netns exec "$NS")"
	stop "$PID"
fi

# --- a flatd of an ordinary user's, and his rootless container ---
mkdir "$WORK/user"
chown 65534:65534 "$WORK/user"
CONTROL=$WORK/user/control.sock
start user-flatd setpriv --reuid 65534 --regid 65534 --clear-groups flatd --control "$CONTROL" --config "$CONFIG" --metrics off
wait_for 20 flatctl --control "$CONTROL" ls || die user-flatd
ask() { "${ANYBODY[@]}" timeout 200 flat-run --control "$CONTROL" "$PYTHON" "$WORK/client.py" "$1" "$2" "${3:-15}" 2>&1; }
serve neighbour "${ANYBODY[@]}" -- "127.0.0.1:$C"
serve rootless "${ANYBODY[@]}" unshare -Urn --kill-child /bin/sh -c 'ip link set lo up; ip address add 192.0.2.5/32 dev lo; exec "$@"' sh -- \
	"127.0.0.1:$C" "0.0.0.0:$B"
same rootless-by-its-address "rootless" "$(ask far.e2e.example 80)"
same rootless-not-at-the-hosts "neighbour" "$(ask 127.0.0.1 "$C")"
