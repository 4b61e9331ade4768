#!/bin/bash
# A control socket that a program's user may not reach: the program goes on with the kernel's sockets, and flat-run, the library's log and
# `flatctl why` say what is in the way. Once it is not, the program is in the mesh. Unmodified Python under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs setpriv
[ "$(id -u)" -eq 0 ] || { echo "SKIP reach: only root can be another user" && exit 77; }

port && P=$PORT
entry origin 240.9.31.1 http 1 >"$CONFIG"
mkdir -m 700 "$WORK/shut"
CONTROL=$WORK/shut/control.sock
start_flatd
serve plain "$P" "$PYTHON" -m http.server --bind 127.0.0.1 "$P"

# Each line of its input: a connection that stays, and what the mesh's name means. Says so, with the connection's number.
cat >"$WORK/client.py" <<'END_OF_IT'
import socket, sys
for line in sys.stdin:
    try:
        name = socket.gethostbyname("origin.e2e.example")
    except OSError as e:
        name = type(e).__name__
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    print(line.strip(), s.detach(), name, flush=True)
END_OF_IT
chmod 644 "$WORK/client.py"
mkfifo -m 644 "$WORK/input"
# Where others may read it, too.
mkdir -m 755 "$WORK/bin"
cp "$FLAT_BUILD/flat-run" "$FLAT_BUILD"/libflat.so.1 "$FLAT_BUILD/libflat-preload.so" "$WORK/bin/"
chmod 755 "$WORK/bin"/*
export RES_OPTIONS="timeout:1 attempts:1"
# One process: setpriv, flat-run, the shell and Python each become the next.
start client setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/bin/flat-run" --control "$CONTROL" --log warn -- \
	bash -c 'exec "$@" <"$0"' "$WORK/input" "$PYTHON" -u "$WORK/client.py" "$P"
CLIENT=$PID
exec 9<>"$WORK/input"
# ask WORD: what it says to it: the number of its connection, and the name's address.
ask() {
	echo "$1" >&9
	said() { grep -q "^$1 " "$WORK/client.log"; }
	wait_for 20 said "$1" || die "$1-answers" "$(tail -n 5 "$WORK/client.log")"
	read -r _ NUMBER NAME < <(grep "^$1 " "$WORK/client.log")
}
why() { flatctl --control "$CONTROL" why "$CLIENT" "$NUMBER" | tr '\n' ' '; }
lines() { grep -c "$1" "$WORK/client.log"; }

folder="user 65534 may not enter the folder $WORK/shut; let it"
ask first
same folder-program-goes-on gaierror "$NAME"
holds folder-flat-run grep -q "^flat-run: $CONTROL: the command's sockets will be the kernel's: $folder" "$WORK/client.log"
holds folder-log grep -q "libflat.*: $CONTROL: this program's sockets are the kernel's: $folder" "$WORK/client.log"
holds folder-why grep -q "the process does not reach flatd's socket $CONTROL: $folder" <(why)
# Long enough for the library to look again, which is no reason to say it again.
look_again() {
	ask "more$1"
	sleep 0.3
}
for turn in 1 2 3; do look_again $turn; done
same folder-told-once 1 "$(lines "this program's sockets are the kernel's: user 65534 may not enter")"

chmod 600 "$CONTROL"
chmod 755 "$WORK/shut"
socket="user 65534 may not write to the socket; let it"
ask second
holds socket-why grep -q "the process does not reach flatd's socket $CONTROL: $socket" <(why)
same socket-flat-run 1 "$(setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/bin/flat-run" --control "$CONTROL" true 2>&1 | grep -c ": $socket")"

chmod 666 "$CONTROL"
in_mesh() {
	ask "try$((TRIES += 1))"
	[ "$NAME" = 240.9.31.1 ]
}
TRIES=0
holds in-the-mesh wait_for 20 in_mesh
same in-the-mesh-why 0 "$(why | grep -c 'does not reach')"
same in-the-mesh-flat-run 0 "$(setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/bin/flat-run" --control "$CONTROL" true 2>&1 | wc -l)"
