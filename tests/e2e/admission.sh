#!/bin/bash
# Admission control by EnvoyFilter: at a client, for each of its services; at a server, gRPC too. Of chance nothing is left: with
# an aggression of a million one failure closes the gate. Unmodified curl, grpc and servers of our own under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
export GRPC_DNS_RESOLVER=native
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }

port && A=$PORT
port && G=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(readlink -f "$PYTHON")" "$WORK/grpc-python"
cp "$(command -v curl)" "$WORK/shop-curl"

base() {
	workload origin "$WORK/origin-python"
	workload caller "$WORK/grpc-python"
	workload shop "$WORK/shop-curl"
	entry one 240.9.17.1 http "$A"
	entry two 240.9.17.2 http "$A"
	entry calls 240.9.17.3 grpc "$G"
	cat <<END
---
kind: MeshConfig
extensionProviders: [{ name: log, envoyFileAccessLog: { path: $WORK/log, logFormat: { text: "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%" } } }]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: { name: log, namespace: e2e }
spec: { accessLogging: [{ match: { mode: CLIENT }, providers: [{ name: log }] }] }
END
}
# control NAME APP CONTEXT [FIELDS]
control() {
	cat <<END
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: $1, namespace: istio-system }
spec:
  workloadSelector: { labels: { app: $2 } }
  configPatches:
  - applyTo: HTTP_FILTER
    match: { context: $3, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } } } }
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.admission_control
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.admission_control.v3.AdmissionControl
          enabled: { default_value: true, runtime_key: admission_control.enabled }
          sr_threshold: { default_value: { value: 100 }, runtime_key: admission_control.sr_threshold }
          max_rejection_probability: { default_value: { value: 100 } }
          aggression: { default_value: 1000000 }
          sampling_window: 3600s
          ${4:-success_criteria: { http_criteria: { http_success_status: [{ start: 100, end: 400 \}, { start: 404, end: 405 \}] \} \}}
END
}
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
code() { shop -o /dev/null -w '%{http_code}' "$1"; }
one=http://one.e2e.example
two=http://two.e2e.example
why() { flatctl --control "$CONTROL" why "GET $1/status/200" --from e2e/shop 2>&1; }

{ base && control shop shop SIDECAR_OUTBOUND; } >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start calls over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/grpc_server.py" "$G" g
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 15 listeners || die servers "$(tail -n 3 "$WORK/origin.log" "$WORK/calls.log")"

# --- at a client ---

same good "200 404 302" "$(code $one/status/200) $(code $one/status/404) $(code $one/status/302)"
holds why-good grep -qE 'admission control istio-system/shop \(.*mesh.yaml:[0-9]+\): 3 of 3 requests of the last 3600 s went well; 0.00 % of the next are refused' <<<"$(why $one)"
same failure 500 "$(code $one/status/500)"
OUT=$(shop -i $one/status/200 | tr -d '\r')
same refused "HTTP/1.1 503 Service Unavailable" "$(head -n 1 <<<"$OUT")"
same refused-without-words 0 "$(sed -n 's/^content-length: //pI' <<<"$OUT")"
holds why-refused grep -q '3 of 4 requests of the last 3600 s went well; 100.00 % of the next are refused' <<<"$(why $one)"
holds log wait_for 10 grep -qxF '/status/200 503 - denied_by_admission_control' "$WORK/log"
# Another service's requests, other clients', and those that others refuse: none of that closes or opens this gate.
same other-service 200 "$(code $two/status/200)"
same other-client 200 "$(over curl -sS -m 20 -o /dev/null -w '%{http_code}' $one/status/200)"
holds why-other grep -q '1 of 1 requests' <<<"$(why $two)"
same refused-again "503 503" "$(code $one/status/200) $(code $one/status/200)"
metrics() { curl -sS -m 10 -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics" && cat "$WORK/metrics"; }
same counted "4 1 3" "$(metrics | sed -nE 's/^flat_admission_total\{result="(success|failure|rejected)"\} //p' | tr '\n' ' ' | sed 's/ $//')"
# No answer of a server is one of 503, whoever wrote it.
same broken-off 503 "$(code $two/close)"
same broken-off-refused 503 "$(code $two/status/200)"
holds why-broken-off grep -q '1 of 2 requests' <<<"$(why $two)"

# What it knows stays over reloads, and is of so many seconds; below a rate nobody is refused.
apply < <(base && control shop shop SIDECAR_OUTBOUND 'success_criteria: {}')
same stays-over-a-reload 503 "$(code $one/status/200)"
apply < <(base && control shop shop SIDECAR_OUTBOUND 'success_criteria: {}' | sed 's/3600s/1s/')
opens() { [ "$(code $one/status/200)" = 200 ]; }
wait_for 10 opens || fail forgets-the-failure
same 4xx-is-good "401 200" "$(code $one/status/401) $(code $one/status/200)"
forgets() {
	[ "$(code $one/status/500)" = 500 ] || return 1
	[ "$(code $one/status/200)" = 503 ] || return 1
}
holds one-second-refuses wait_for 10 forgets
holds one-second-is-over wait_for 10 opens
apply < <(base && control shop shop SIDECAR_OUTBOUND 'success_criteria: {}
          rps_threshold: { default_value: 1000000 }')
same below-the-rate "500 200" "$(code $one/status/500) $(code $one/status/200)"
apply < <(base && control shop shop SIDECAR_OUTBOUND 'success_criteria: {}' | sed 's/default_value: true/default_value: false/')
same switched-off "500 200" "$(code $one/status/500) $(code $one/status/200)"

# --- at a server ---

apply < <(base && control origin origin SIDECAR_INBOUND)
plain() { curl -sS -m 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$A$1"; }
same server-good "200 500" "$(plain /status/200) $(plain /status/500)"
same server-refuses-all "503 503 503" "$(plain /status/200) $(code $one/status/200) $(code $two/status/200)"
holds server-why grep -q 'admission control istio-system/origin (.*): 1 of 2 requests' <<<"$(why $one)"

# --- calls ---

call() { over "$WORK/grpc-python" -B "$E2E_ROOT/tests/e2e/grpc_part.py" calls.e2e.example:80 "$1" 2>&1 | tail -n 1; }
same call-good "OK 1" "$(call 'status x_key=a')"
same call-default-good "NOT_FOUND asked to fail" "$(call 'status x_fail=5')"
same call-fails "DATA_LOSS asked to fail" "$(call 'status x_fail=15')"
same call-refused "UNAVAILABLE " "$(call 'status x_key=a')"
apply < <(base && control calls origin SIDECAR_INBOUND 'success_criteria: { grpc_criteria: { grpc_success_status: [0, 15] } }')
same call-own-good "DATA_LOSS asked to fail" "$(call 'status x_fail=15')"
same call-own-fails "NOT_FOUND asked to fail" "$(call 'status x_fail=5')"
same call-own-refused "UNAVAILABLE " "$(call 'status x_key=a')"

# --- check ---

{ base && control bad shop SIDECAR_OUTBOUND 'rps_threshold: { default_value: 1 }' && control odd shop SIDECAR_SOMETIMES; } >"$WORK/check.yaml"
OUT=$(flatctl check "$WORK/check.yaml" 2>&1)
holds check-criteria grep -qE 'check.yaml:[0-9]+:[0-9]+: .*admission control that does not say what a success is' <<<"$OUT"
holds check-context grep -q 'match.context is none of those' <<<"$OUT"
