#!/bin/bash
# flat/rpc.h (the programs of examples/rpc) with python3-grpcio as its peer, both ways: without a mesh, directly, and with each call decided by
# flatd.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }
# gRPC's own resolver asks name servers; libc's knows the mesh.
export GRPC_DNS_RESOLVER=native FLAT_CONTROL=$CONTROL
SERVER=$(readlink -f "$FLAT_BUILD")/examples/rpc-server
CLIENT=$FLAT_BUILD/examples/rpc-client

port && OURS=$PORT
port && THEIRS=$PORT
port && PLAIN=$PORT
port && DEAD=$PORT
# routes NAME: what makes flatd read its calls.
routes() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  http:
  - match: [{ headers: { x-route: { exact: fault } } }]
    fault: { abort: { grpcStatus: RESOURCE_EXHAUSTED, percentage: { value: 100 } } }
    route: [{ destination: { host: $1.e2e.example } }]
  - route: [{ destination: { host: $1.e2e.example } }]
END
}
{
	cat <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: ours, namespace: e2e, labels: { app: ours } }
spec: { selectors: [{ executable: $SERVER }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: calls, namespace: e2e }
spec:
  selector: { matchLabels: { app: ours } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/test.Echo/Secret] } }] }]
END
	entry ours 240.9.9.1 grpc "$OURS"
	entry theirs 240.9.9.2 grpc "$THEIRS"
	entry direct 240.9.9.3 tcp "$THEIRS"
	entry dead 240.9.9.4 grpc "$DEAD"
	routes ours
	routes theirs
	routes dead
} >"$CONFIG"
start_flatd
start ours "$SERVER" 127.0.0.1 "$OURS" ours
OURS_PID=$PID
start plain env FLAT_CONTROL="$WORK/none" "$SERVER" 127.0.0.1 "$PLAIN" plain
start theirs over "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_server.py" "$THEIRS" theirs
ready() {
	[ "$(state "len(s['listeners'])")" -ge 2 ] && grep -q ready "$WORK/ours.log" && grep -q ready "$WORK/theirs.log" &&
		listening "$PLAIN"
}
wait_for 20 ready || die servers "$(cat "$WORK"/{ours,theirs,plain}.log | tail -n 5)"

# call OPTION... HOST METHOD MESSAGE...: what our client prints, in one line; said: without the last metadata.
call() { "$CLIENT" -t 20000 "$@" 2>&1 | paste -sd '|'; }
said() { call "$@" | sed 's/last [^|]*|//g'; }
# ask HOST:PORT WHAT: the last line of python's.
ask() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_part.py" "$1" "$2" 2>&1 | tail -n 1; }
kinds() {
	local where=$1 name=$2
	same "$where-unary" "message hello|status 0" "$(said "${@:3}" /test.Echo/Unary hello)"
	same "$where-down" "first x-name: $name|message a|message b|message c|last x-tail: t|status 0" \
		"$(call -m x-tail=t "${@:3}" /test.Echo/Down abc | sed 's/last x-\(calls\|name\)[^|]*|//g')"
	same "$where-up" "first x-name: $name|message 2 5|status 0" "$(said "${@:3}" /test.Echo/Up 12 345)"
	same "$where-chat" "first x-name: $name|message a|message b|status 0" "$(said "${@:3}" /test.Echo/Chat a b)"
	same "$where-status" "status 5 asked to fail" "$(said -m x-fail=5 "${@:3}" /test.Echo/Unary x)"
}

# --- our client ---

kinds ours-plain plain "127.0.0.1:$PLAIN"
went ours-to-theirs-directly direct kinds direct theirs direct.e2e.example:80
echo "$OUT"
kinds through-flatd theirs theirs.e2e.example:80
kinds ours-to-ours ours ours.e2e.example:80
same no-method "status 12 no such method" "$(said ours.e2e.example:80 /test.Echo/Nope x)"
same fault "status 8 fault filter abort" "$(said -m x-route=fault ours.e2e.example:80 /test.Echo/Unary x)"
same denied "status 7 RBAC: access denied" "$(said ours.e2e.example:80 /test.Echo/Secret x)"
same deadline "status 4" "$(said -t 200 -m x-sleep-ms=3000 theirs.e2e.example:80 /test.Echo/Unary x | cut -c 1-8)"
same unavailable "status 14" "$(said dead.e2e.example:80 /test.Echo/Unary x | cut -c 1-9)"
same refused "status 14 Connection refused" "$(said "127.0.0.1:$DEAD" /test.Echo/Unary x)"

# --- python's client ---

over_ask() { flat-run --control "$CONTROL" "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_part.py" "$1" "$2" 2>&1 | tail -n 1; }
same python-plain "['hello', 'a|b|c', 'plain', 't', '2 5', 'a|b|c']" "$(ask "127.0.0.1:$PLAIN" kinds)"
same python-kinds "['hello', 'a|b|c', 'ours', 't', '2 5', 'a|b|c']" "$(over_ask ours.e2e.example:80 kinds)"
same python-interleaved '(200, [])' "$(over_ask ours.e2e.example:80 interleaved)"
same python-streams '(300, 0)' "$(over_ask ours.e2e.example:80 streams)"
same python-slow-reader "(100000, 'n', 9900000, 100)" "$(over_ask ours.e2e.example:80 slow_reader)"
same python-cancelled still "$(over_ask ours.e2e.example:80 cancelled)"
same python-status 'NOT_FOUND asked to fail' "$(over_ask ours.e2e.example:80 'status x_fail=5')"

# --- the server ends ---

kill "$OURS_PID"
wait_for 10 gone "$OURS_PID" || fail stops-at-a-signal "it goes on"
same after-its-end "status 14" "$(said ours.e2e.example:80 /test.Echo/Unary x | cut -c 1-9)"
holds flatd-lives flatctl --control "$CONTROL" ls
