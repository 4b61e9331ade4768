#!/bin/bash
# HTTP/2 and gRPC through flatd: each version to each, unmodified gRPC programs with all kinds of calls, and what flatd
# itself answers, retries, counts and logs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl nghttpd h2load
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }
# gRPC's own resolver asks name servers; libc's knows the mesh.
export GRPC_DNS_RESOLVER=native

port && ONE=$PORT
port && TWO=$PORT
port && H1=$PORT
port && H1_OUTSIDE=$PORT
port && H2=$PORT
port && OUTSIDE=$PORT
port && DEAD=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/server-python"
# plain NAME: a VirtualService that only has its requests read.
plain() {
	cat <<CFG
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: $1, namespace: e2e }
spec: { hosts: [$1.e2e.example], http: [{ route: [{ destination: { host: $1.e2e.example } }] }] }
CFG
}
{
	cat <<CFG
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: server, namespace: e2e, labels: { app: server } }
spec: { selectors: [{ executable: $WORK/server-python }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: calls, namespace: e2e }
spec:
  selector: { matchLabels: { app: server } }
  action: DENY
  rules: [{ to: [{ operation: { paths: [/test.Echo/Secret] } }] }]
CFG
	entry echo 240.9.8.1 grpc "$ONE" "$TWO"
	entry named 240.9.8.2 http-calls "$ONE"
	entry h1 240.9.8.3 http "$H1"
	entry h1-outside 240.9.8.7 http "$H1_OUTSIDE"
	entry h2 240.9.8.4 http2 "$H2"
	entry outside 240.9.8.5 grpc "$OUTSIDE"
	entry dead 240.9.8.6 grpc "$DEAD"
	for name in named h1 h1-outside h2 outside dead; do plain $name; done
	cat <<CFG
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: echo, namespace: e2e }
spec:
  host: echo.e2e.example
  trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }
  subsets: [{ name: one, labels: { port: p$ONE } }, { name: two, labels: { port: p$TWO } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: echo, namespace: e2e }
spec:
  hosts: [echo.e2e.example]
  http:
  - match: [{ headers: { x-route: { exact: fault } } }]
    fault: { abort: { grpcStatus: RESOURCE_EXHAUSTED, percentage: { value: 100 } } }
    route: [{ destination: { host: echo.e2e.example } }]
  - match: [{ headers: { x-route: { exact: http-fault } } }]
    fault: { abort: { httpStatus: 401, percentage: { value: 100 } } }
    route: [{ destination: { host: echo.e2e.example } }]
  - match: [{ headers: { x-route: { exact: none } } }]
    route: [{ destination: { host: echo.e2e.example, subset: three } }]
  - match: [{ headers: { x-route: { exact: short } } }]
    timeout: 0.2s
    route: [{ destination: { host: echo.e2e.example } }]
  - match: [{ headers: { x-route: { exact: retry } } }]
    retries: { attempts: 3, retryOn: "unavailable,resource-exhausted" }
    route: [{ destination: { host: echo.e2e.example, subset: one } }]
  - match: [{ headers: { x-route: { exact: two } } }]
    route: [{ destination: { host: echo.e2e.example, subset: two } }]
  - match: [{ headers: { x-route: { exact: both } } }]
    route: [{ destination: { host: echo.e2e.example } }]
  - route: [{ destination: { host: echo.e2e.example, subset: one } }]
CFG
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --access-log "$WORK/access"
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"

mkdir "$WORK/www"
head -c 30000000 /dev/urandom >"$WORK/www/big"
echo small >"$WORK/www/small"
server() { start "$1" over "$WORK/server-python" -B "$E2E_ROOT/tests/e2e/grpc_server.py" "$2" "$1"; }
server one "$ONE"
server two "$TWO"
TWO_PID=$PID
start h1 over "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$H1" h1
start h2 over nghttpd --no-tls --address=127.0.0.1 -d "$WORK/www" "$H2"
serve h1-outside "$H1_OUTSIDE" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$H1_OUTSIDE" h1-outside
start outside "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_server.py" "$OUTSIDE" outside
ready() {
	[ "$(state "len(s['listeners'])")" -ge 4 ] && grep -q ready "$WORK/one.log" "$WORK/two.log" &&
		grep -q ready "$WORK/outside.log"
}
wait_for 15 ready || die servers "$(cat "$WORK"/{one,two,outside,h2}.log | tail -n 5)"
# ask HOST WHAT: the client's last line.
ask() { over "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_part.py" "$1.e2e.example:80" "$2" 2>&1 | tail -n 1; }

# --- each version to each ---

web() { over curl -sS -m 30 "$@"; }
BIG=$(hash_of <"$WORK/www/big")
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
same h1-to-h2 "HTTP/1.1 200 OK small" "$(web -i http://h2.e2e.example/small | tr -d '\r' | sed -n '1p;$p' | paste -sd' ')"
same h2-to-h2 "2 200 small" "$(web --http2-prior-knowledge -w '%{http_version} %{http_code} ' -o "$WORK/got" http://h2.e2e.example/small)$(cat "$WORK/got")"
same h2-to-h1 "2 200 GET" "$(web --http2-prior-knowledge -w '%{http_version} %{http_code} ' -o "$WORK/got" http://h1.e2e.example/echo)$(told "t['method']" <"$WORK/got")"
same h2-head "2 200 0" "$(web --http2-prior-knowledge -I -w '%{http_version} %{http_code} %{size_download}' -o "$WORK/got" http://h2.e2e.example/small)"
same h1-to-h2-large "$BIG" "$(web http://h2.e2e.example/big | hash_of)"
same h2-to-h2-large "$BIG" "$(web --http2-prior-knowledge http://h2.e2e.example/big | hash_of)"
same h2-to-h1-upload "30000000 $BIG" "$(web --http2-prior-knowledge -T "$WORK/www/big" http://h1.e2e.example/echo | told "str(t['size']) + ' ' + t['sha256']")"
same h2-to-h1-chunks "10000" "$(web --http2-prior-knowledge http://h1.e2e.example/stream/10 | wc -c | tr -d ' ')"
same h2-path-refused 400 "$(web --http2-prior-knowledge --path-as-is -o "$WORK/got" -w '%{http_code}' 'http://h1.e2e.example/a%2Fb')"
same h2-upstream-dies 503 "$(web --http2-prior-knowledge -o "$WORK/got" -w '%{http_code}' http://h1.e2e.example/close)"
same h2-answer-breaks-off 92 "$(web --http2-prior-knowledge -o "$WORK/got" http://h1.e2e.example/half 2>/dev/null || echo $?)"
# A call to a server that speaks HTTP/1 alone, on a port called so: it is asked in that, and which it speaks is found out once.
call() { web --http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' --data-binary @"$WORK/www/small" "$@"; }
for name in h1 h1-outside; do
	same "call-to-$name" "2 200 POST 6 $name" "$(call -w '%{http_version} %{http_code} ' -o "$WORK/got" "http://$name.e2e.example/echo")$(told "t['method'] + ' ' + str(t['size']) + ' ' + t['name']" <"$WORK/got")"
	# More than a buffer holds: its content waits until it is known what the server speaks.
	same "call-of-much-to-$name" "200 30000000 $BIG" "$(web --http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' -w '%{http_code} ' -o "$WORK/got" -T "$WORK/www/big" -X POST "http://$name.e2e.example/echo")$(told "str(t['size']) + ' ' + t['sha256']" <"$WORK/got")"
	BEFORE=$(grep -c 'code 505' "$WORK/$name.log")
	same "calls-to-$name" 100 "$(over h2load -n 100 -c 1 -m 10 -d "$WORK/www/small" -H 'content-type: application/grpc' "http://$name.e2e.example/echo" 2>&1 | awk '/^status codes:/ { print $3 }')"
	same "calls-to-$name-try-once" 1 $(($(grep -c 'code 505' "$WORK/$name.log") - BEFORE))
done
load() { over h2load -n "$1" -c "$2" -m "$3" "$4" 2>&1 | awk '/^status codes:/ { print $3 }'; }
same h2-load-h2 3000 "$(load 3000 4 50 http://h2.e2e.example/small)"
same h2-load-h1 600 "$(load 600 2 20 http://h1.e2e.example/echo)"

# --- gRPC programs as they are ---

same kinds "['hello', 'a|b|c', 'one', 't', '2 5', 'a|b|c']" "$(ask echo kinds)"
same interleaved '(200, [])' "$(ask echo interleaved)"
same large "(True, '64 67108864')" "$(ask echo large)"
same many 500 "$(ask echo many)"
same streams '(300, 0)' "$(ask echo streams)"
same slow-reader "(100000, 'n', 9900000, 100)" "$(ask echo slow_reader)"
same cancelled still "$(ask echo cancelled)"
same port-named-http "['hello', 'a|b|c', 'one', 't', '2 5', 'a|b|c']" "$(ask named kinds)"
same outside "['hello', 'a|b|c', 'outside', 't', '2 5', 'a|b|c']" "$(ask outside kinds)"

# --- what flatd decides ---

same round-robin "{'one': 10, 'two': 10}" "$(ask echo spread)"
same denied 'PERMISSION_DENIED RBAC: access denied' "$(ask echo 'status method=Secret')"
same fault 'RESOURCE_EXHAUSTED fault filter abort' "$(ask echo 'status x_route=fault')"
same fault-by-http 'UNAUTHENTICATED fault filter abort' "$(ask echo 'status x_route=http-fault')"
same no-endpoint 'UNAVAILABLE no healthy upstream' "$(ask echo 'status x_route=none')"
same timeout 'UNAVAILABLE upstream request timeout' "$(ask echo 'status x_route=short x_sleep_ms=5000')"
same server-dead UNAVAILABLE "$(ask dead status | cut -d ' ' -f 1)"
same status-of-the-server 'NOT_FOUND asked to fail' "$(ask echo 'status x_fail=5')"
same deadline DEADLINE_EXCEEDED "$(ask echo deadline)"
same retried 'OK 3' "$(ask echo 'status x_route=retry x_fail=14 x_fail_times=2 x_key=a')"
same retried-no-longer 'RESOURCE_EXHAUSTED asked to fail' "$(ask echo 'status x_route=retry x_fail=8 x_key=b')"
same not-retried 'INTERNAL asked to fail' "$(ask echo 'status x_route=retry x_fail=13 x_fail_times=1 x_key=c')"

# --- told of it ---

metric() { curl -sS -m 10 "http://127.0.0.1:$METRICS/metrics" | grep '^istio_requests_total' | grep -c "$1"; }
holds metrics-denied test "$(metric 'request_protocol="grpc".*response_code="200",grpc_response_status="7"')" -ge 1
holds metrics-ok test "$(metric 'request_protocol="grpc".*response_code="200",grpc_response_status="0"')" -ge 1
holds metrics-server test "$(metric 'request_protocol="grpc".*response_code="200",grpc_response_status="5"')" -ge 1
holds metrics-http test "$(metric 'request_protocol="http".*response_code="200"}')" -ge 1
holds log wait_for 10 grep -q '"POST /test.Echo/Chat HTTP/2" 200' "$WORK/access"
holds log-fault wait_for 10 grep -q '"POST /test.Echo/Unary HTTP/2" 200 FI ' "$WORK/access"

# --- servers and clients that go ---

start gone-client over "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_part.py" echo.e2e.example:80 hang
GONE=$PID
wait_for 10 grep -q hanging "$WORK/gone-client.log" || fail hang-starts
kill -9 "$GONE"
same after-a-killed-client still "$(ask echo cancelled)"
start survivor over "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_part.py" echo.e2e.example:80 survive
SURVIVOR=$PID
wait_for 10 grep -q calling "$WORK/survivor.log" || fail survive-starts
kill -9 "$TWO_PID"
wait_for 20 gone "$SURVIVOR" || fail survives "it hangs"
same after-a-killed-server "lost 0 of the others" "$(tail -n 1 "$WORK/survivor.log")"
holds still-there test "$(ask echo kinds | cut -c 1-8)" = "['hello'"
