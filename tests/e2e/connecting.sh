#!/bin/bash
# What connect() does while its server is not there yet, and when it never comes: natively and through flatd to a server that
# lets its clients wait.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON"
PART=$(dirname "${BASH_SOURCE[0]}")/connecting_part.py
export PYTHONDONTWRITEBYTECODE=1
port && HOLD=$PORT
port && CLOSED=$PORT
port && OTHER=$PORT
{
	service hold 240.9.30.1 7 "$HOLD" forwarded
	service closed 240.9.30.2 7 "$CLOSED" forwarded
	service other 240.9.30.3 7 "$OTHER"
	service nobody 240.9.30.4 7 7 | grep -v endpoints:
} >"$CONFIG"
start_flatd
serve hold "$HOLD" "$PYTHON" "$PART" hold "$HOLD" "$WORK/hold.sock"
serve other "$OTHER" over "$PYTHON" -c '
import socket, sys
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c, _ = l.accept()
    c.sendall(b"other")
    c.close()' "$OTHER"

for kind in pending blocking refused; do
	case $kind in
	refused) to=closed at=$CLOSED ;;
	*) to=hold at=$HOLD ;;
	esac
	wanted=$(timeout 100 "$PYTHON" "$PART" $kind 127.0.0.1 "$at" 127.0.0.1 "$OTHER" "$WORK/hold.sock" 2>&1)
	got=$(over timeout 100 "$PYTHON" "$PART" $kind $to.e2e.example 7 other.e2e.example 7 "$WORK/hold.sock" 2>&1)
	same "$kind" "$wanted" "$got"
done
# A service without endpoints: flatd says so at once, connect() as ever.
got=$(over timeout 100 "$PYTHON" "$PART" refused nobody.e2e.example 7 other.e2e.example 7 "$WORK/hold.sock" 2>&1)
same refused-no-endpoint "$wanted" "$got"
