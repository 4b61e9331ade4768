#!/bin/bash
# What does not move: requests, answers, streams and connections that stand still are ended in the time that an EnvoyFilter says.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
"$PYTHON" -c 'import h2' 2>/dev/null || { echo "SKIP $E2E_NAME: no h2" && exit 77; }

port && A=$PORT
port && IDLE=$PORT
port && WHOLE=$PORT
port && HEAD=$PORT
port && PLAIN=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(readlink -f "$PYTHON")" "$WORK/client-python"
CLIENT=$E2E_ROOT/tests/e2e/idle_client.py
HCM=envoy.filters.network.http_connection_manager

# times CONTEXT PORT FIELDS: one patch.
times() {
	cat <<END
  - applyTo: NETWORK_FILTER
    match: { context: $1, listener: { portNumber: $2, filterChain: { filter: { name: $HCM } } } }
    patch:
      operation: MERGE
      value: { typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, $3 } }
END
}
ORIGIN='{ destination: { host: origin.e2e.example } }'
{
	workload origin "$WORK/origin-python"
	workload client "$WORK/client-python"
	ingress ingress edge 'istio: ingressgateway'
	entry origin 240.9.12.1 http "$A"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: $IDLE, name: http-idle, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: $WHOLE, name: http-whole, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: $PLAIN, name: http-plain, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: $HEAD, name: http-head, protocol: HTTP }, hosts: ["*"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec: { hosts: ["*"], gateways: [edge/web], http: [{ match: [{ uri: { prefix: /until/timed } }], timeout: 1s, route: [$ORIGIN] }, { retries: { attempts: 0 }, route: [$ORIGIN] }] }
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: times, namespace: istio-system }
spec:
  configPatches:
END
	times GATEWAY "$IDLE" 'stream_idle_timeout: 4s'
	times GATEWAY "$WHOLE" 'request_timeout: 2s'
	times GATEWAY "$HEAD" 'request_headers_timeout: 2s, common_http_protocol_options: { idle_timeout: 4s }'
	times SIDECAR_OUTBOUND 80 'stream_idle_timeout: 2s'
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
export ORIGIN_WAITS=$WORK
serve origin "$A" over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
wait_for 10 listening "$HEAD" || die gateway-opens "$(tail -n 5 "$WORK/flatd.log")"
listens() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listens || die origin "$(tail -n 3 "$WORK/origin.log")"

# All at the same time, since each waits; then what they got.
ask() { "$PYTHON" -B "$CLIENT" 127.0.0.1 "$2" web.example "$1" >"$WORK/got.$1" 2>&1 & }
asked=()
for what in no-body no-answer half-answer unread streams no-window; do
	ask "$what" "$IDLE" && asked+=($!)
done
ask drip "$WHOLE" && asked+=($!)
ask second-answer "$PLAIN" && asked+=($!)
ask half-head "$HEAD" && asked+=($!)
ask one-request "$HEAD" && asked+=($!)
over "$WORK/client-python" -B "$CLIENT" 240.9.12.1 80 origin.e2e.example no-body >"$WORK/got.mesh" 2>&1 &
asked+=($!)
wait "${asked[@]}"
got() { tail -n 1 "$WORK/got.$1"; }
same request-without-its-body '408 stream timeout closed' "$(got no-body)"
same request-without-answer '504 stream timeout closed' "$(got no-answer)"
same answer-that-stops 'half reset' "$(got half-answer)"
same answer-that-is-not-read reset "$(got unread)"
same stream-beside-others '200 408 200' "$(got streams)"
same streams-without-window 'reset 8, reset 2' "$(got no-window)"
same answer-on-a-connection-that-rested '200 504 upstream request timeout closed' "$(got second-answer)"
same request-by-drops '408 request timeout closed' "$(got drip)"
same half-a-head '408  closed' "$(got half-head)"
same connection-without-requests '200 status closed' "$(got one-request)"
same mesh-client '408 stream timeout closed' "$(got mesh)"
touch "$WORK/the-end"

flags() { grep -c "$1" "$WORK/access.log"; }
logged() { [ "$(flags ' 504 SI ')" = 1 ] && [ "$(flags ' 200 SI ')" -ge 2 ] && [ "$(flags ' 408 SI ')" = 3 ] && [ "$(flags ' 408 DPE ')" = 2 ]; }
holds flags-in-the-log wait_for 5 logged
same others-go-on 200 "$(curl -sS -m 20 -o "$WORK/got" -w '%{http_code}' "http://127.0.0.1:$IDLE/slow/10")"
why() { flatctl --control "$CONTROL" why 'GET http://origin.e2e.example/' --from e2e/client; }
holds why-says-it grep -q 'times of its connections by EnvoyFilter istio-system/times .*a request of which nothing moves 2000 ms' <(why)
