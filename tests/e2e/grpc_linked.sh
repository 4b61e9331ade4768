#!/bin/bash
# gRPC's C library in a program that is linked with libflat and the shim (examples/grpc/linked-echo.c): its descriptors are flat sockets,
# directly to another such program and to one of flat/rpc.h, and through flatd, which decides each call.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
ECHO=$FLAT_BUILD/examples/linked-echo
[ -x "$ECHO" ] || { echo "SKIP $E2E_NAME: no libgrpc-dev" && exit 77; }
export FLAT_CONTROL=$CONTROL
port && ONE=$PORT
port && TWO=$PORT
{
	entry direct 240.9.10.1 tcp "$ONE"
	entry decided 240.9.10.2 grpc "$ONE"
	entry other 240.9.10.3 tcp "$TWO"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: decided, namespace: e2e }
spec:
  hosts: [decided.e2e.example]
  http:
  - match: [{ uri: { exact: /hello.Greeter/Secret } }]
    fault: { abort: { grpcStatus: PERMISSION_DENIED, percentage: { value: 100 } } }
    route: [{ destination: { host: decided.e2e.example } }]
  - route: [{ destination: { host: decided.e2e.example } }]
END
} >"$CONFIG"
start_flatd
start linked "$ECHO" server "$ONE"
start rpc "$FLAT_BUILD/examples/rpc-server" 127.0.0.1 "$TWO" rpc
ready() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 ready || die servers "$(cat "$WORK"/linked.log "$WORK"/rpc.log | tail -n 5)"

went linked-directly direct "$ECHO" client direct.e2e.example 80 hello
same linked-to-linked hello "$OUT"
went rpc-directly direct "$ECHO" client other.e2e.example 80 hello
same linked-to-rpc hello "$OUT"
went decided-through-flatd also-forwarded "$ECHO" client decided.e2e.example 80 hello
same linked-through-flatd hello "$OUT"
same rpc-to-linked "message hello|status 0" "$("$FLAT_BUILD/examples/rpc-client" -t 10000 decided.e2e.example:80 /hello.Greeter/Unary hello | paste -sd '|')"
same nobody-there 1 "$("$ECHO" client 127.0.0.1 1 hello >"$WORK/got" 2>&1 || echo $?)"
holds nothing-cut test "$(grep -c ' cut ' "$WORK/flatd.log")" = 0
