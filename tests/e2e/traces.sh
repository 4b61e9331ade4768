#!/bin/bash
# Telemetry's traces, after Istio's tasks "Configure tracing with Telemetry API" and "OpenTelemetry": whose requests have
# spans, the headers that servers get, and what a collector gets over gRPC and over HTTP. Unmodified curl and a server of
# our own under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }

port && A=$PORT
port && HTTP=$PORT
port && GRPC=$PORT
port && NOBODY=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(command -v curl)" "$WORK/shop-curl"
SPANS=$WORK/spans

base() {
	local w
	for w in origin:python shop:curl; do
		cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: ${w%:*}, namespace: e2e, labels: { app: ${w%:*}, version: v3 } }
spec: { serviceAccount: ${w%:*}, selectors: [{ executable: $WORK/${w%:*}-${w#*:} }] }
END
	done
	service collector 240.9.14.2 4318 "$HTTP"
	service collector-grpc 240.9.14.3 4317 "$GRPC"
	service away 240.9.14.4 4317 "$NOBODY"
	entry origin 240.9.14.1 http "$A"
	cat <<END
---
kind: MeshConfig
extensionProviders:
- name: over-http
  opentelemetry: { service: collector.e2e.example, port: 4318, maxTagLength: 12, http: { path: /v1/traces, headers: [{ name: x-key, value: secret }] } }
- name: over-grpc
  opentelemetry: { service: e2e/collector-grpc.e2e.example, port: 4317 }
- name: away
  opentelemetry: { service: away.e2e.example, port: 4317 }
- name: log
  envoyFileAccessLog: { path: $WORK/log, logFormat: { text: "%TRACE_ID% %REQ(:PATH)%" } }
END
}
# telemetry NAME SPEC
telemetry() {
	printf -- '---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: %s, namespace: e2e }\nspec: { %s }\n' "$@"
}

base >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS"
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
: >"$SPANS"
start collector "$PYTHON" -B "$E2E_ROOT/tests/e2e/otlp_collector.py" "$HTTP" "$GRPC" "$SPANS"
wait_for 10 listening "$HTTP" && wait_for 10 listening "$GRPC" || die collector "$(tail -n 3 "$WORK/collector.log")"
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"
url=http://origin.e2e.example
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
# sent EXPRESSION [CURL_ARGUMENT]...: of the headers `h` that the server got.
sent() { shop "${@:2}" $url/echo | "$PYTHON" -c 'import json, sys; h = {n.lower(): v for n, v in json.load(sys.stdin)["headers"]}; print(eval(sys.argv[1]))' "$1"; }
# span PATH EXPRESSION: of the spans `s` of requests for PATH, the client's first, once there are both sides'.
has_span() { [ "$(grep -cF "$1\"" "$SPANS")" -ge 2 ]; }
span() {
	wait_for 10 has_span "$1" || { echo "no spans of $1" && return; }
	"$PYTHON" -c 'import json, sys
s = [t for t in map(json.loads, open(sys.argv[1])) if t["tags"]["http.url"].endswith(sys.argv[2])]
s.sort(key=lambda t: t["kind"])
print(eval(sys.argv[3]))' "$SPANS" "$1" "$2"
}
TP=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331

# --- nobody's ---

same not-traced False "$(sent "'traceparent' in h")"

# --- over gRPC, both sides ---

apply < <(base && telemetry all 'tracing: [{ providers: [{ name: over-grpc }], randomSamplingPercentage: 100, customTags: { a: { literal: { value: b } }, t: { header: { name: x-tenant, defaultValue: none } } } }], accessLogging: [{ providers: [{ name: log }] }]')
same sampled 200 "$(shop -A tester -H 'x-tenant: acme' -o /dev/null -w '%{http_code}' $url/echo/grpc)"
same two-spans "CLIENT SERVER" "$(span /echo/grpc '" ".join(t["kind"] for t in s)')"
same one-trace True "$(span /echo/grpc 's[0]["trace"] == s[1]["trace"] and s[1]["parent"] == s[0]["span"] and s[0]["parent"] == ""')"
same how "grpc shop.e2e origin.e2e origin.e2e.example:80/*" "$(span /echo/grpc 's[0]["how"] + " " + s[0]["service"] + " " + s[1]["service"] + " " + s[0]["name"]')"
same tags "GET http://origin.e2e.example/echo/grpc 200 tester HTTP/1.1 v3 origin 36" \
	"$(span /echo/grpc '" ".join([s[1]["tags"][n] for n in ("http.method", "http.url", "http.status_code", "user_agent", "http.protocol", "istio.canonical_revision", "istio.canonical_service")] + [str(len(s[0]["tags"]["guid:x-request-id"]))])')"
same custom-tags "b acme" "$(span /echo/grpc 's[0]["tags"]["a"] + " " + s[1]["tags"]["t"]')"
same no-error False "$(span /echo/grpc 's[0]["error"]')"
has() { grep -qE -- "$2" "$1"; }
TRACE=$(span /echo/grpc 's[0]["trace"]')
holds in-the-log wait_for 10 has "$WORK/log" "^$TRACE /echo/grpc$"
shop -o /dev/null $url/status/503
same error True "$(span /status/503 's[0]["error"] and s[0]["tags"]["http.status_code"] == "503"')"
same parent-goes-on "0af7651916cd43dd8448eb211c80319c 01" "$(sent "h['traceparent'][3:35] + ' ' + h['traceparent'][-2:]" -H "traceparent: $TP-01" -H 'tracestate: a=b')"
same other-span True "$(sent "h['traceparent'][36:52] not in ('b7ad6b7169203331', '0' * 16)" -H "traceparent: $TP-01")"
same state-stays a=b "$(sent "h['tracestate']" -H "traceparent: $TP-01" -H 'tracestate: a=b')"
same caller-says-no "00 0af7" "$(sent "h['traceparent'][-2:] + ' ' + h['traceparent'][3:7]" -H "traceparent: $TP-00")"
same malformed False "$(sent "h['traceparent'][3:19] == '0af7651916cd43dd'" -H 'traceparent: 00-0af7651916cd43dd-b7ad-01')"
same b3 "80f198ee56343ba864fe8b2a57d3eff7 1 True" "$(sent "' '.join(h['b3'].split('-')[::2]) + ' ' + str(h['traceparent'][3:35] == h['b3'][:32])" -H 'b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90')"
same b3-several "0000000000000000a2fb4a1d1a96d312 1 0020000000000001" "$(sent "h['x-b3-traceid'] + ' ' + h['x-b3-sampled'] + ' ' + h['x-b3-parentspanid']" -H 'x-b3-traceid: a2fb4a1d1a96d312' -H 'x-b3-spanid: 0020000000000001' -H 'x-b3-sampled: 1')"
OUT=$(flatctl --control "$CONTROL" trace)
holds flatctl-trace grep -qE "$TRACE  GET /echo/grpc  200 -  shop.e2e -> origin.e2e.example" <<<"$OUT"
holds flatctl-steps grep -qE "^ +[0-9.]+ ms  sent to 127.0.0.1:$A$" <<<"$OUT"
same flatctl-json True "$(flatctl --control "$CONTROL" --json trace | "$PYTHON" -c 'import json, sys
r = json.load(sys.stdin)["requests"]
print(all(0 <= t["sent_us"] <= t["response_us"] <= t["end_us"] for t in r) and len(r) > 5)')"
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/shop 2>&1)
holds why grep -qE "traces of the client's side: 100 % to over-grpc, by e2e/all \(.*mesh.yaml:[0-9]+\)" <<<"$OUT"

# --- over HTTP, one side, nothing sampled, not reported ---

apply < <(base && telemetry all 'tracing: [{ match: { mode: SERVER }, providers: [{ name: over-http }], randomSamplingPercentage: 100 }]')
shop -A 'a-very-long-agent' -o /dev/null $url/echo/h
same over-http "SERVER http /v1/traces secret a-very-long-" "$(wait_for 10 grep -q v1/traces "$SPANS" && "$PYTHON" -c 'import json, sys
t = json.loads([l for l in open(sys.argv[1]) if "v1/traces" in l][0])
print(t["kind"], t["how"], t["headers"]["x-key"], t["tags"]["user_agent"])' "$SPANS")"
apply < <(base && telemetry all 'tracing: [{ providers: [{ name: over-http }], randomSamplingPercentage: 0 }]')
same not-sampled 00 "$(sent "h['traceparent'][-2:]")"
apply < <(base && telemetry all 'tracing: [{ providers: [{ name: over-grpc }], disableSpanReporting: true, randomSamplingPercentage: 100 }]')
same not-reported 01 "$(sent "h['traceparent'][-2:]")"
apply < <(base && telemetry all 'tracing: [{ providers: [{ name: away }], randomSamplingPercentage: 100 }]')
same collector-away 01 "$(sent "h['traceparent'][-2:]")"
lost() { curl -sS -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics" && grep -q '^flat_spans_total{provider="away",result="failed"} 2$' "$WORK/metrics"; }
holds lost-are-counted wait_for 10 lost
exported() { curl -sS -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics" && grep -qE '^flat_spans_total\{provider="over-grpc",result="exported"\} [1-9]' "$WORK/metrics"; }
holds sent-are-counted wait_for 10 exported

# --- check ---

{ base && telemetry all 'tracing: [{ providers: [{ name: log }] }]'; } | sed 's/port: 4318, max/port: 9, max/' >"$WORK/check.yaml"
OUT=$(flatctl check "$WORK/check.yaml" 2>&1)
holds check-provider grep -q 'there is no provider "log" for traces' <<<"$OUT"
holds check-service grep -q 'there is no service collector.e2e.example with port 9, so its spans are dropped' <<<"$OUT"
