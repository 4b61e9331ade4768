#!/bin/bash
# Active health checks, as EnvoyFilters merge them into clusters: HTTP, gRPC and TCP, thresholds, servers that are silent, the panic
# threshold, servers of the mesh that want mesh clients alone. Unmodified curl and servers of our own.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
port && MESH=$PORT
port && RPC=$PORT
port && RAW=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/mesh-python"

base() {
	workload mesh "$WORK/mesh-python"
	cat <<END
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: e2e }
spec: { mtls: { mode: STRICT } }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nobody, namespace: e2e }
spec: { rules: [{ from: [{ source: { principals: ["cluster.local/ns/e2e/sa/curl"] } }] }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: e2e }
spec: { host: web.e2e.example, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
END
	entry web 240.9.25.1 http "$A" "$B"
	entry mesh 240.9.25.2 http "$MESH"
	entry rpc 240.9.25.3 grpc "$RPC"
	entry raw 240.9.25.4 tcp "$RAW"
}
# check HOST CHECK [MORE]: an EnvoyFilter
check() {
	cat <<END
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: health-$1, namespace: istio-system }
spec:
  configPatches:
  - applyTo: CLUSTER
    match: { context: SIDECAR_OUTBOUND, cluster: { service: $1.e2e.example, portNumber: 80 } }
    patch:
      operation: MERGE
      value:
        health_checks: [{ timeout: 5s, interval: 0.05s, unhealthy_threshold: 3, healthy_threshold: 2, $2 }]
        ${3:-}
END
}
BY_HTTP='http_health_check: { path: /health, host: probe.example, retriable_statuses: [{ start: 500, end: 501 }] }'
checks() { # [MORE]
	check web "$BY_HTTP" "${1:-}"
	check mesh 'http_health_check: { path: /health }'
	check rpc 'grpc_health_check: {}'
	# PING, and PONG within the answer
	check raw 'tcp_health_check: { send: { text: 50494E47 }, receive: [{ text: 504f4e47 }] }'
}

say() { echo "$2" >"$WORK/$1.new" && mv "$WORK/$1.new" "$WORK/$1.word"; }
for name in a b mesh; do say $name 200; done
say rpc 1
say raw +PONG.
SERVER=$E2E_ROOT/tests/e2e/health_server.py
serve a "$A" "$PYTHON" -B "$SERVER" "$A" a "$WORK/a.word" http
A_PID=$PID
serve b "$B" "$PYTHON" -B "$SERVER" "$B" b "$WORK/b.word" http
serve rpc "$RPC" "$PYTHON" -B "$SERVER" "$RPC" rpc "$WORK/rpc.word" grpc
serve raw "$RAW" "$PYTHON" -B "$SERVER" "$RAW" raw "$WORK/raw.word" tcp
{ base && checks; } >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --audit-log "$WORK/audit.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start mesh over "$WORK/mesh-python" -B "$SERVER" "$MESH" mesh "$WORK/mesh.word" http
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/mesh.log")"

# The word that flatd has for an endpoint: passing, failing.
health() {
	flatctl --control "$CONTROL" clusters --json | "$PYTHON" -c 'import json, sys
print(*[g["endpoints"].get("127.0.0.1:" + sys.argv[2]) for g in json.load(sys.stdin)["health"] if g["host"] == sys.argv[1] + ".e2e.example"])' "$@"
}
is() { [ "$(health "$1" "$2")" = "$3" ]; }
becomes() { holds "$1" wait_for 20 is "$2" "$3" "$4"; }
ask() { over curl -sS -m 20 "http://${1:-web}.e2e.example/" 2>&1; }
# Who answers twelve requests.
who() { over curl -sS -m 20 "http://web.e2e.example/[1-12]" -w '\n' 2>&1 | grep -v '^--_curl_--' | sort -u | tr '\n' ' '; }

# --- HTTP ---

becomes a-passes web "$A" passing
becomes b-passes web "$B" passing
same both "a b " "$(who)"
OUT=$(curl -sS -m 10 "http://127.0.0.1:$A/asked")
same asked "flatd-health probe.example" "${OUT#* }"
say a 503
becomes a-fails web "$A" failing
same b-alone "b " "$(who)"
OUT=$(flatctl --control "$CONTROL" why "GET http://web.e2e.example/" --from e2e/mesh 2>&1)
holds why grep -qE 'health check by HTTP each 50 ms \(.*mesh.yaml:[0-9]+\): 1 of 2 fail' <<<"$OUT"
OUT=$(flatctl --control "$CONTROL" clusters)
holds shown grep -q "127.0.0.1:$A: .*health check: failing" <<<"$OUT"
holds told wait_for 10 grep -q "health check of web.e2e.example:80 .*127.0.0.1:$A is failing: status 503" "$WORK/flatd.log"
say b 503
becomes b-fails web "$B" failing
same nobody "no healthy upstream" "$(ask)"
apply < <(base && checks 'common_lb_config: { healthy_panic_threshold: { value: 50 } }')
same panic "a b " "$(who)"
apply < <(base && checks)
same kept-over-reload "no healthy upstream" "$(ask)"
say a 200
becomes a-again web "$A" passing
same a-alone "a " "$(who)"
# Retriable: by the threshold, and so in the end.
say a 500
becomes retriable web "$A" failing
say a 200
say b 200
becomes a-third web "$A" passing
becomes b-again web "$B" passing
stop "$A_PID"
becomes gone web "$A" failing
holds gone-why wait_for 10 grep -q "127.0.0.1:$A is failing: Connection refused" "$WORK/flatd.log"
same gone-b "b " "$(who)"
serve a2 "$A" "$PYTHON" -B "$SERVER" "$A" a "$WORK/a.word" http
becomes back web "$A" passing

# --- a server of the mesh that wants mesh clients alone, and of these none ---

becomes strict mesh "$MESH" passing
holds strict-still test "$(curl -sS -m 10 "http://127.0.0.1:$MESH/" 2>&1 | grep -c mesh)" = 0
same policy-still "RBAC: access denied" "$(ask mesh)"
say mesh 404
becomes strict-fails mesh "$MESH" failing
same strict-nobody "no healthy upstream" "$(ask mesh)"
holds not-audited test "$(wc -l <"$WORK/audit.log")" -le 2

# --- gRPC, TCP ---

becomes grpc rpc "$RPC" passing
say rpc 2
becomes grpc-not-serving rpc "$RPC" failing
say rpc 1
becomes grpc-again rpc "$RPC" passing
say rpc fail
becomes grpc-status rpc "$RPC" failing
holds grpc-why wait_for 10 grep -q "127.0.0.1:$RPC is failing: grpc-status 7" "$WORK/flatd.log"
becomes tcp raw "$RAW" passing
apply < <(base && checks | sed 's/timeout: 5s/timeout: 0.1s/')
say raw -ERR
becomes tcp-wrong raw "$RAW" failing
holds tcp-why wait_for 10 grep -q "127.0.0.1:$RAW is failing: no answer in time" "$WORK/flatd.log"
holds tcp-refused test "$(over curl -sS -m 10 http://raw.e2e.example/ 2>&1 | grep -c 'refused\|connect')" -ge 1

# --- metrics, check ---

curl -sS -m 10 -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics"
holds failing grep -q '^flat_health_failing{service="raw.e2e.example",port="80"} 1$' "$WORK/metrics"
holds counted grep -qE '^flat_health_checks_total\{service="web.e2e.example",port="80",result="refused"\} [1-9]' "$WORK/metrics"
same not-counted 0 "$(grep 'istio_tcp_connections_opened_total.*destination_service="127.0.0.1:' "$WORK/metrics" | sed 's/.* //')"
{ base && check other "$BY_HTTP"; } >"$WORK/other.yaml"
holds check-host grep -q 'no service has the host "other.e2e.example"' <<<"$(flatctl check "$WORK/other.yaml" 2>&1)"
{ base && check web 'no_traffic_interval: 5s' && check raw 'tcp_health_check: { send: { text: ping } }' 'connect_timeout: 1s'; } >"$WORK/check.yaml"
OUT=$(flatctl check "$WORK/check.yaml" 2>&1)
holds check-kind grep -q 'a health check of no kind' <<<"$OUT"
holds check-hex grep -q '"ping" is not 1 to 1024 bytes in hex, write bytes in hex' <<<"$OUT"
holds check-interval grep -q 'field "no_traffic_interval" is not honoured' <<<"$OUT"
holds check-field grep -q 'field "connect_timeout" of a cluster is not honoured' <<<"$OUT"
