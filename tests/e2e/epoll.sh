#!/bin/bash
# Where io_uring is forbidden flatd works with epoll: what other scripts hold is held again, and it sleeps when nothing happens.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl "$PYTHON"

mkdir "$WORK/bin"
cat >"$WORK/bin/flatd" <<END
#!/bin/sh
exec "$PYTHON" "$E2E_ROOT/tests/e2e/forbid_uring.py" "${FLAT_SANITIZED:-$FLAT_BUILD}/flatd" "\$@"
END
chmod 755 "$WORK/bin/flatd"
PATH=$WORK/bin:$PATH
export FLAT_SANITIZED=$WORK/bin

port && HELLO=$PORT
service hello 240.9.9.1 7 "$HELLO" >"$CONFIG"
start_flatd
holds said grep -q 'io_uring is forbidden here: epoll does its work' "$WORK/flatd.log"
serve hello "$HELLO" over "$FLAT_BUILD/examples/hello-server" "$HELLO"
# A server that blocks in accept() shares its listener with flatd, for clients that are not in the mesh.
for ((i = 0; i < 20; i++)); do
	timeout 20 "$PYTHON" -B - "$HELLO" <<'END' || break
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=15) as sock:
    sock.sendall(b"hello\n")
    sys.exit(not sock.makefile().readline())
END
done
same plain-clients 20 "$i"

# Ticks of the processor that flatd has used.
ticks() { awk '{ print $14 + $15 }' "/proc/$FLATD/stat"; }
# quiet: it uses none for half a second.
quiet() {
	local before
	before=$(ticks)
	sleep 0.5
	[ "$(ticks)" -eq "$before" ]
}
holds sleeps wait_for 20 quiet

for each in policy restart handover gateway; do
	bash "$E2E_ROOT/tests/e2e/$each.sh" >"$WORK/$each.out" 2>&1
	status=$?
	sed -E "s#^(PASS|FAIL|SKIP) #\1 $E2E_NAME/#" "$WORK/$each.out"
	[ $status -eq 0 ] || fail "$each" "status $status"
done
