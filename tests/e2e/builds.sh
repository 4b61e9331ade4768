#!/bin/bash
# Library and flatd of two builds: sockets stay the kernel's, both sides say why, and programs are taken in again by a flatd of theirs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON" redis-server

OTHER=$FLAT_BUILD/tests/other
[ -x "$OTHER/flatd" ] || { echo "SKIP $E2E_NAME: no $OTHER/flatd (target other-flatd)"; exit 77; }
port && UPPER=$PORT
port && THEIRS=$PORT
port && REDIS=$PORT
port && LATE=$PORT
service upper 240.9.17.1 7 "$UPPER" >"$CONFIG"
# With the library of the other build.
other() { FLAT_CONTROL=$CONTROL LD_PRELOAD=$OTHER/libflat.so.1:$FLAT_BUILD/libflat-preload.so "$@"; }

cat >"$WORK/upper.py" <<'END'
"""Answers each line in upper case, by blocking calls; two threads accept."""
import socket
import sys
import threading

server = socket.create_server(("127.0.0.1", int(sys.argv[1])))


def serve():
    while True:
        with server.accept()[0] as sock:
            sock.sendall(sock.makefile().readline().upper().encode())


threading.Thread(target=serve, daemon=True).start()
serve()
END
cat >"$WORK/ask.py" <<'END'
"""For each line "ADDRESS PORT": connects there and says what came of it."""
import errno
import socket
import sys

for line in sys.stdin:
    address, port = line.split()
    try:
        with socket.create_connection((address, int(port)), timeout=5) as sock:
            sock.sendall(b"hello\n")
            print(sock.makefile().readline().strip(), flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, type(e).__name__), flush=True)
END
cat >"$WORK/begin.py" <<'END'
"""What connect() to an address of the mesh says where nobody waits."""
import errno
import socket

sock = socket.socket()
sock.setblocking(False)
print(errno.errorcode.get(sock.connect_ex(("240.9.17.1", 7)), "0"))
END
cat >"$WORK/hello.py" <<'END'
"""HELLO by hand, with this version of messages and this word of versions: what the answer says."""
import errno
import socket
import struct
import sys

sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
head = struct.pack("<IHHIiII168s", 0x466C4174, int(sys.argv[2]), 1, 1, 0, 0, 0, b"")
sock.send(head + struct.pack("<I", int(sys.argv[3])) + bytes(188))
answer, rights, _, _ = socket.recv_fds(sock, 384, 20)
status = struct.unpack_from("<i", answer, 12)[0]
print(errno.errorcode[-status] if status else "0", len(rights))
END
ask() { echo "127.0.0.1 $1" | "${@:2}" timeout 20 "$PYTHON" -B "$WORK/ask.py"; }
raw() { "$PYTHON" -B "$WORK/hello.py" "$CONTROL" "$@"; }
said() { grep -q -- "$2" "$WORK/$1.log"; }
why() { flatctl --control "$CONTROL" why "$1" "$2"; }

# --- a program of another build ---

start_flatd
serve upper "$UPPER" over "$PYTHON" -B "$WORK/upper.py" "$UPPER"
SERVER=$PID
serve theirs "$THEIRS" env FLAT_LOG=warn FLAT_CONTROL="$CONTROL" \
	LD_PRELOAD="$OTHER/libflat.so.1:$FLAT_BUILD/libflat-preload.so" "$PYTHON" -B "$WORK/upper.py" "$THEIRS"
went ours direct ask "$UPPER" over
same ours-answers HELLO "$OUT"
went their-server none ask "$THEIRS" over
same their-server-answers HELLO "$OUT"
went their-client forwarded ask "$UPPER" other
same their-client-answers HELLO "$OUT"
same as-without-the-library "$("$PYTHON" "$WORK/begin.py")" "$(other "$PYTHON" "$WORK/begin.py")"
holds flatd-says-why said flatd "(pid $PID) has a libflat with shared layout 1.5.255, this flatd has 1.5.6: restart it"
holds library-says-why said theirs "has shared layout 1.5.6, this program's libflat 1.5.255: restart"
holds why-says-why eval "why $PID 3 | grep -q 'libflat with shared layout 1.5.255, flatd has 1.5.6'"
same said-once 1 "$(grep -c "(pid $PID) has a libflat" "$WORK/flatd.log")"
same of-this-build "0 1" "$(raw 1 $((1 << 16 | 5 << 8 | 6)))"
same of-before-versions-were-told "EPROTONOSUPPORT 0" "$(raw 1 0)"
same other-messages "EPROTONOSUPPORT 0" "$(raw 2 0)"
holds other-messages-are-told said flatd "shared layout 2, this flatd has 1.5.6"

# --- a flatd of another build takes its place ---

serve redis "$REDIS" over redis-server --port "$REDIS" --bind 127.0.0.1 --save '' --dir "$WORK"
mkfifo "$WORK/questions"
start client sh -c "exec flat-run --control '$CONTROL' '$PYTHON' -B '$WORK/ask.py' <'$WORK/questions'"
exec 9>"$WORK/questions"
# lasting PORT: the answers of a client that has been there all the time.
lasting() {
	local n
	n=$(wc -l <"$WORK/client.log")
	echo "127.0.0.1 $1" >&9
	more() { [ "$(wc -l <"$WORK/client.log")" -gt "$n" ]; }
	wait_for 10 more
	tail -n 1 "$WORK/client.log"
}
went lasting direct lasting "$UPPER"
same lasting-answers HELLO "$OUT"
start take-over "$OTHER/flatd" --control "$CONTROL" --config "$CONFIG" --metrics off --take-over
wait_for 10 gone "$PID" || fail take-over-is-refused
holds take-over-says-why said take-over "the running flatd has shared layout 1.5.6, this one 1.5.255: .* nothing can be handed over"
went after-take-over direct ask "$UPPER" over

stop "$FLATD"
start other-flatd "$OTHER/flatd" --control "$CONTROL" --config "$CONFIG" --metrics off
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die other-flatd-starts
came_back() { [ "$(ask "$1")" = "$2" ]; }
holds server-is-the-kernels wait_for 10 came_back "$UPPER" HELLO
ping() { [ "$(printf 'PING\r\n' | timeout 2 "$PYTHON" -c '
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2) as s:
    s.sendall(b"PING\r\n")
    print(s.recv(100).decode().strip())' "$REDIS")" = +PONG ]; }
holds server-that-polls-is-the-kernels wait_for 10 ping
for i in 1 2 3; do
	went "second-thread-$i" none ask "$UPPER"
	same "second-thread-$i-answers" HELLO "$OUT"
done
went lasting-kernel none lasting "$UPPER"
same lasting-kernel-answers HELLO "$OUT"
holds other-flatd-says-why said other-flatd "(pid $SERVER) has a libflat with shared layout 1.5.6, this flatd has 1.5.255"
same too-old "EPROTONOSUPPORT 0" "$(raw 1 0)"
stop "$FLATD"

# --- and one of theirs again ---

start_flatd
serve late "$LATE" over "$PYTHON" -B "$WORK/upper.py" "$LATE"
joined_again() { [ "$(lasting "$LATE")" = HELLO ] && [ "$(opened direct)" -gt 0 ]; }
holds lasting-is-taken-in-again wait_for 10 joined_again
