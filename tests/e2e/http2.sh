#!/bin/bash
# HTTP/2 that no honest client speaks, through flatd to a server of HTTP/1: heads, lengths, frames, floods. As a client of the mesh, and
# as one of the gateway.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port && A=$PORT
port && EDGE=$PORT
port && ODD=$PORT
port && HALF=$PORT
port && HALF1=$PORT
port && EDGE_HALF=$PORT
port && EDGE_HALF1=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
{
	cat <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: ingress, namespace: e2e, labels: { istio: ingressgateway } }
spec: { serviceAccount: ingress, selectors: [{ executable: /nobody }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: e2e }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: $EDGE, name: http, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: $EDGE_HALF, name: half, protocol: HTTP }, hosts: ["half.example"] }
  - { port: { number: $EDGE_HALF1, name: half1, protocol: HTTP }, hosts: ["half.example"] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec: { hosts: ["*"], gateways: [web, mesh], http: [{ match: [{ authority: { exact: odd.e2e.example } }], route: [{ destination: { host: odd.e2e.example } }] }, { route: [{ destination: { host: web.e2e.example } }] }] }
END
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: half, namespace: e2e }
spec: { hosts: [half.example], gateways: [web], http: [{ match: [{ port: $EDGE_HALF }], route: [{ destination: { host: half.e2e.example } }] }, { route: [{ destination: { host: half1.e2e.example } }] }] }
END
	entry web 240.9.8.1 http "$A"
	entry half 240.9.8.3 http2 "$HALF"
	entry half1 240.9.8.4 http "$HALF1"
	entry odd 240.9.8.2 http2 "$ODD"
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway e2e/ingress
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
serve origin "$A" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a

table() { sed -n "s,\(PASS\|FAIL\) http2/,\1 $E2E_NAME/$1-,p"; }
over "$PYTHON" -B "$E2E_ROOT/tests/e2e/http2_raw.py" web.e2e.example 80 >"$WORK/mesh.log" 2>&1 || fail mesh "$(grep -v PASS "$WORK/mesh.log" | tail -n 5)"
table mesh <"$WORK/mesh.log"
"$PYTHON" -B "$E2E_ROOT/tests/e2e/http2_raw.py" 127.0.0.1 "$EDGE" >"$WORK/edge.log" 2>&1 || fail gateway "$(grep -v PASS "$WORK/edge.log" | tail -n 5)"
table gateway <"$WORK/edge.log"

# A server of HTTP/2 whose answers are none: its clients are told so, and not that it went. The last case is one that goes.
serve odd "$ODD" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http2_origin.py" "$ODD"
same answers-that-are-none "200 $(printf '502 %.0s' {1..13})503" "$(for _ in {1..15}; do
	curl -s -m 20 -o /dev/null -w '%{http_code} ' -H 'Host: odd.e2e.example' "http://127.0.0.1:$EDGE/"
done | sed 's/ $//')"

# Answers that break off: what came of them before, however much at once, is delivered before the client is told.
serve half "$HALF" "$PYTHON" -B "$E2E_ROOT/tests/e2e/half_answers.py" h2 serve "$HALF"
serve half1 "$HALF1" "$PYTHON" -B "$E2E_ROOT/tests/e2e/half_answers.py" h1 serve "$HALF1"
half() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/half_answers.py" "$1" ask 127.0.0.1 "$2" 4; }
same half-h2-h2 "0 reset 2 reset 20000 reset 60000 reset" "$(half h2 "$EDGE_HALF")"
same half-h1-h2 "0 reset 2 reset 20000 reset 60000 reset" "$(half h2 "$EDGE_HALF1")"
same half-h2-h1 "0 reset 2 reset 20000 reset 60000 reset" "$(half h1 "$EDGE_HALF")"
same half-h1-h1 "0 reset 2 reset 20000 reset 60000 reset" "$(half h1 "$EDGE_HALF1")"

holds flatd-lives flatctl --control "$CONTROL" ls
