#!/bin/bash
# HTTP/2 that no honest client speaks, through flatd to a server of HTTP/1: heads, lengths, frames, floods. As a client of the mesh, and
# as one of the gateway.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port && A=$PORT
port && EDGE=$PORT
port && ODD=$PORT
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
  servers: [{ port: { number: $EDGE, name: http, protocol: HTTP }, hosts: ["*"] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec: { hosts: ["*"], gateways: [web, mesh], http: [{ match: [{ authority: { exact: odd.e2e.example } }], route: [{ destination: { host: odd.e2e.example } }] }, { route: [{ destination: { host: web.e2e.example } }] }] }
END
	entry web 240.9.8.1 http "$A"
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
holds flatd-lives flatctl --control "$CONTROL" ls
