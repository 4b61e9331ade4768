#!/bin/bash
# Metrics with labels of one's own, after Istio's documentation tasks "Customizing Istio Metrics with Telemetry API": labels that
# are served after real requests over HTTP/1.1, HTTP/2 and gRPC and of connections, on both sides; and a client that makes up values.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
GRPC=
"$PYTHON" -c 'import grpc' 2>/dev/null && GRPC=yes
export GRPC_DNS_RESOLVER=native

port && A=$PORT
port && RAW=$PORT
port && CALLS=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(readlink -f "$PYTHON")" "$WORK/shop-python"
cp "$(command -v curl)" "$WORK/shop-curl"

base() {
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: origin, namespace: e2e, labels: { app: origin } }
spec: { serviceAccount: origin, selectors: [{ executable: $WORK/origin-python }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: shop, namespace: e2e, labels: { app: shop } }
spec: { serviceAccount: shop, selectors: [{ executable: $WORK/shop-curl }, { executable: $WORK/shop-python }] }
END
	service raw 240.9.14.2 80 "$RAW"
	entry origin 240.9.14.1 http "$A"
	entry calls 240.9.14.3 grpc "$CALLS"
}
# telemetry NAME NAMESPACE OVERRIDES [SELECTOR]
telemetry() {
	printf -- '---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: %s, namespace: %s }\nspec: { %s metrics: [{ providers: [{ name: prometheus }], overrides: [%s] }] }\n' "$1" "$2" "${4:-}" "$3"
}

base >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS"
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start raw over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$RAW" raw
[ -z "$GRPC" ] || start calls over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/grpc_server.py" "$CALLS" calls
listeners() { [ "$(state "len(s['listeners'])")" -ge $((2 + ${#GRPC} / 3)) ]; }
wait_for 15 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"
url=http://origin.e2e.example
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
code() { shop -o /dev/null -w '%{http_code}' "$@"; }

# Reads metrics as Prometheus would: labels are parsed, and what is there twice is an error.
cat >"$WORK/metrics.py" <<'END'
"""metrics.py PORT EXPRESSION: all(NAME, LABEL=VALUE...) is the sum of what has these labels (None: has no such label), n() how many."""
import re
import sys
import urllib.request

text = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=20).read().decode("utf-8", "strict")
series = {}
for line in text.splitlines():
    if line.startswith("#"):
        continue
    m = re.fullmatch(r'([a-zA-Z_:]\w*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\["\\n])*",?)*)\})? (\S+)', line)
    assert m, line
    labels = {k: re.sub(r"\\(.)", lambda e: "\n" if e[1] == "n" else e[1], v) for k, v in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or "")}
    key = (m[1], tuple(sorted(labels.items())))
    assert key not in series, f"twice: {line}"
    series[key] = float(m[3])


def found(name, labels):
    for (n, l), value in series.items():
        d = dict(l)
        if n == name and all(d.get(k) == v for k, v in labels.items()):
            yield value


def all_(name, **labels):
    return int(sum(found(name, labels)))


def n(name, **labels):
    return len(list(found(name, labels)))


def values(name, label):
    return sorted({dict(l).get(label, "-") for (x, l), _ in series.items() if x == name})


print(eval(sys.argv[2], {"all": all_, "n": n, "values": values, "any": any, "len": len, "max": max}))
END
metrics() { "$PYTHON" -B "$WORK/metrics.py" "$METRICS" "$1" 2>&1 | tail -n 1; }
become() { [ "$(metrics "$1")" = "$2" ]; }
# sees NAME EXPRESSION VALUE
sees() { if wait_for 10 become "$2" "$3"; then pass "$1"; else fail "$1" "$2 is $(metrics "$2"), not $3"; fi; }

# --- the mesh, both sides ---

same plain 200 "$(code $url/echo)"
sees without-overrides 'n("istio_requests_total", request_host="origin.e2e.example")' 0
apply < <(base && telemetry mesh istio-system "{ match: { metric: REQUEST_COUNT, mode: CLIENT_AND_SERVER }, tagOverrides: { request_host: { value: request.host }, request_method: { value: request.method }, path: { operation: REMOVE }, who: { value: \"has(request.headers['x-who']) ? request.headers['x-who'] : 'unknown'\" }, response_code: { value: 'response.code >= 400 ? \"bad\" : \"good\"' }, kind: { value: \"response.headers['content-type']\" } } }")
same h1 200 "$(code -H 'x-who: me"\' $url/echo)"
same h1-put 200 "$(code -X PUT -d x $url/echo)"
same h1-404 404 "$(code $url/status/404)"
for side in source destination; do
	sees $side-host "all('istio_requests_total', reporter='$side', request_host='origin.e2e.example', path=None)" 3
	sees $side-method "all('istio_requests_total', reporter='$side', request_method='PUT', who='unknown')" 1
	sees $side-header "all('istio_requests_total', reporter='$side', who='me\"\\\\')" 1
	sees $side-code "(all('istio_requests_total', reporter='$side', response_code='bad', who='unknown'), all('istio_requests_total', reporter='$side', response_code='good'))" '(1, 2)'
	sees $side-response-header "all('istio_requests_total', reporter='$side', kind='application/json') > 0" True
	sees $side-other-metrics "(all('istio_request_bytes_count', reporter='$side', path='forwarded', request_host=None), n('istio_request_bytes_count', reporter='$side', path=None))" '(3, 0)'
done
holds no-headers-added grep -qv x-request-id <<<"$(shop $url/echo)"
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/shop 2>&1)
holds why grep -qE "metrics of the client's side: overridden by istio-system/mesh \(.*mesh.yaml:[0-9]+\)" <<<"$OUT"

# --- HTTP/2 and gRPC ---

same h2 200 "$(code --http2-prior-knowledge -H 'x-who: h2' $url/echo)"
for side in source destination; do
	sees h2-$side "all('istio_requests_total', reporter='$side', who='h2', request_method='GET', request_host='origin.e2e.example')" 1
done
if [ -n "$GRPC" ]; then
	apply < <(base && telemetry mesh istio-system "{ match: { metric: REQUEST_COUNT }, tagOverrides: { call: { value: request.url_path }, code: { value: 'response.grpc_status' } } }")
	ask() { over "$WORK/shop-python" -B "$E2E_ROOT/tests/e2e/grpc_part.py" "calls.e2e.example:80" "$1" 2>&1 | tail -n 1; }
	same grpc 'NOT_FOUND asked to fail' "$(ask 'status x_fail=5')"
	for side in source destination; do
		sees grpc-$side "(all('istio_requests_total', reporter='$side', call='/test.Echo/Unary', code='5', request_protocol='grpc', grpc_response_status='5') > 0)" True
	done
	# Messages of one call of each kind: Unary 1 and 1, Down 1 and 3, Up 2 and 1, Chat 3 and 3.
	messages() { echo "(all('istio_request_messages_total', reporter='$1'), all('istio_response_messages_total', reporter='$1'))"; }
	BEFORE=("$(metrics "$(messages source)")" "$(metrics "$(messages destination)")")
	holds kinds grep -q a <<<"$(ask kinds)"
	for i in 0 1; do
		side=$([ $i = 0 ] && echo source || echo destination)
		sees messages-$side "[a - b for a, b in zip($(messages $side), ${BEFORE[i]})]" '[7, 8]'
		sees messages-labels-$side "[n('istio_request_messages_total', reporter='$side', **{l: None}) == n('istio_request_messages_total', reporter='$side') > 0 for l in ('request_protocol', 'response_code', 'grpc_response_status', 'response_flags', 'connection_security_policy')]" '[True, True, True, True, True]'
	done
	apply < <(base && telemetry mesh istio-system "{ match: { metric: GRPC_REQUEST_MESSAGES }, tagOverrides: { call: { value: request.url_path } } }, { match: { metric: GRPC_RESPONSE_MESSAGES, mode: CLIENT }, disabled: true }")
	BEFORE=$(metrics "all('istio_response_messages_total', reporter='source')")
	ask kinds >/dev/null
	for side in source destination; do
		sees messages-by-call-$side "[all('istio_request_messages_total', reporter='$side', call='/test.Echo/' + c) for c in ('Unary', 'Down', 'Up', 'Chat')]" '[1, 1, 2, 3]'
	done
	sees messages-off "all('istio_response_messages_total', reporter='source')" "$BEFORE"
	# Those of a call that goes on are told before its end, and once.
	mkfifo "$WORK/talk"
	over "$WORK/shop-python" -B "$E2E_ROOT/tests/e2e/grpc_part.py" calls.e2e.example:80 talk <"$WORK/talk" >"$WORK/talk.out" 2>&1 &
	TALKER=$!
	exec 7>"$WORK/talk"
	wait_for 20 grep -q talking "$WORK/talk.out" || fail talker "$(cat "$WORK/talk.out")"
	sees messages-live "all('istio_request_messages_total', reporter='source', call='/test.Echo/Chat')" 8
	exec 7>&-
	wait "$TALKER"
	sees messages-once "[all('istio_request_messages_total', reporter=r, call='/test.Echo/Chat') for r in ('source', 'destination')]" '[8, 8]'
fi

# --- connections ---

apply < <(base && telemetry mesh istio-system "{ match: { metric: TCP_OPENED_CONNECTIONS }, tagOverrides: { port: { value: 'string(destination.port)' }, host: { value: request.host } } }, { match: { metric: TCP_SENT_BYTES, mode: SERVER }, tagOverrides: { destination_workload: { value: \"'w'\" }, source_app: { operation: REMOVE } } }, { match: { metric: TCP_CLOSED_CONNECTIONS, mode: CLIENT }, disabled: true }")
RAWS="destination_service='raw.e2e.example'"
same tcp 200 "$(code http://raw.e2e.example/tcp)"
for side in source destination; do
	sees tcp-opened-$side "all('istio_tcp_connections_opened_total', reporter='$side', port='80', host='unknown', $RAWS)" 1
done
sees tcp-closed-server "all('istio_tcp_connections_closed_total', reporter='destination', $RAWS)" 1
sees tcp-closed-client "all('istio_tcp_connections_closed_total', reporter='source', $RAWS)" 0
sees tcp-sent-server "(all('istio_tcp_sent_bytes_total', reporter='destination', destination_workload='w', source_app=None, $RAWS) > 100, n('istio_tcp_sent_bytes_total', reporter='destination', source_app='shop', $RAWS))" '(True, 0)'
sees tcp-sent-client "all('istio_tcp_sent_bytes_total', reporter='source', destination_workload='origin', source_app='shop', $RAWS) == all('istio_tcp_sent_bytes_total', reporter='destination', $RAWS)" True
sees top "[all('istio_tcp_connections_opened_total', reporter='source', $RAWS)]" '[1]'
holds top-counts-it test "$(flatctl --control "$CONTROL" top --once --json 2>/dev/null | grep -c raw.e2e.example)" -ge 1
# An open connection's bytes are there before it ends.
cat >"$WORK/hold.py" <<'END'
import socket
import sys

s = socket.create_connection(("raw.e2e.example", 80))
s.sendall(b"GET /tcp HTTP/1.1\r\nHost: a\r\n\r\n")
s.recv(10)
print("held", flush=True)
sys.stdin.read()
END
BEFORE=$(metrics "all('istio_tcp_sent_bytes_total', reporter='destination', $RAWS)")
mkfifo "$WORK/hold"
over "$WORK/shop-python" -B "$WORK/hold.py" <"$WORK/hold" >"$WORK/hold.out" 2>&1 &
HOLDER=$!
exec 8>"$WORK/hold"
wait_for 10 grep -q held "$WORK/hold.out" || fail holder "$(cat "$WORK/hold.out")"
sees open-bytes "all('istio_tcp_sent_bytes_total', reporter='destination', destination_workload='w', $RAWS) > $BEFORE" True
exec 8>&-
wait "$HOLDER"

# --- who: workload over namespace over mesh; off ---

apply < <(base && telemetry mesh istio-system '{ tagOverrides: { a: { value: "1" }, b: { value: "1" } } }' && telemetry ns e2e '{ tagOverrides: { b: { value: "2" } } }' &&
	telemetry shop e2e '{ match: { metric: REQUEST_COUNT }, tagOverrides: { a: { operation: REMOVE }, c: { value: "3" } } }' 'selector: { matchLabels: { app: shop } },')
same precedence 200 "$(code $url/echo)"
sees client-by-workload "all('istio_requests_total', reporter='source', a=None, b='2', c='3')" 1
sees server-by-namespace "all('istio_requests_total', reporter='destination', a='1', b='2', c=None)" 1
sees other-metric "all('istio_request_duration_milliseconds_count', reporter='source', a='1', b='2', c=None)" 1
plain() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: origin, namespace: e2e }\nspec: { hosts: [origin.e2e.example], http: [{ route: [{ destination: { host: origin.e2e.example } }] }] }\n'
}
apply < <(base && plain && telemetry mesh istio-system '{ match: { mode: SERVER }, disabled: true }')
S=$(metrics "(all('istio_requests_total', reporter='source'), all('istio_requests_total', reporter='destination'))")
same off 200 "$(code $url/echo)"
sees off-server-only "(all('istio_requests_total', reporter='source') - 1, all('istio_requests_total', reporter='destination'))" "$S"
apply < <(base && printf -- '---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: t, namespace: e2e }\nspec: { targetRefs: [{ group: networking.istio.io, kind: ServiceEntry, name: origin }], metrics: [{ overrides: [{ tagOverrides: { t: { value: "9" } } }] }] }\n')
grep -q workloadSelector "$CONFIG" || holds target-without-selector grep -q 'selects no workloads' <<<"$(flatctl check "$CONFIG" 2>&1)"

# --- a client that makes up values ---

apply < <(base && telemetry mesh istio-system "{ match: { metric: REQUEST_COUNT, mode: SERVER }, tagOverrides: { who: { value: \"request.headers['x-who']\" } } }")
same bad-bytes 200 "$(code -H "x-who: $(printf 'a\xff\xc3')" $url/echo)"
sees bad-bytes "all('istio_requests_total', reporter='destination', who='a??')" 1
LONG=$(printf 'x%.0s' {1..300})
same long 200 "$(code -H "x-who: $LONG" $url/echo)"
sees long "all('istio_requests_total', reporter='destination', who='${LONG:0:128}')" 1
sees long-told 'all("flat_metric_bounded_total", bound="value")' 1
for i in $(seq 3000); do printf 'url = "%s/status/200"\noutput = /dev/null\nheader = "x-who: v%s"\nnext\n' $url "$i"; done >"$WORK/urls"
shop -K "$WORK/urls" >/dev/null
sees bounded "len(values('istio_requests_total', 'who')) <= 2051" True
sees bounded-sum "all('istio_requests_total', reporter='destination', who='other') > 900" True
sees bounded-told 'all("flat_metric_bounded_total", bound="series") > 900' True
same bounded-log 1 "$(grep -c 'metrics of e2e/origin as a server: labels' "$WORK/flatd.log")"
same after-the-bound 200 "$(code -H "x-who: me\"\\" $url/echo)"
sees others-unhurt "all('istio_requests_total', reporter='source', destination_service='origin.e2e.example') > 3000" True

# --- check ---

{ base && telemetry mesh istio-system "{ match: { metric: REQUEST_COUNT }, tagOverrides: { x: { value: 'request.hots' } } }"; } >"$WORK/check.yaml"
holds check-expression grep -qE 'check.yaml:[0-9]+:[0-9]+: .*value "request.hots": there is no such attribute here, so the label stays as it was' <<<"$(flatctl check "$WORK/check.yaml" 2>&1)"
sed -i 's/request.hots/request.host/' "$WORK/check.yaml"
same check-good 0 "$(flatctl check "$WORK/check.yaml" >/dev/null 2>&1; echo $?)"
