#!/bin/bash
# The configuration changes 200 times while requests go on: rules, weights, endpoints; no request fails. Unmodified Python under
# flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port && A=$PORT
port && B=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

# mesh N: the N-th configuration.
mesh() {
	cat <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: origin, namespace: e2e }
spec: { selectors: [{ executable: $WORK/origin-python }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  addresses: [240.9.9.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
  - { address: 127.0.0.1, ports: { http: $A }, labels: { version: v1 } }
END
	[ $(($1 % 3)) -eq 0 ] || echo "  - { address: 127.0.0.1, ports: { http: $B }, labels: { version: v1 }, weight: $(($1 % 3)) }"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: origin, namespace: e2e }
spec:
  host: origin.e2e.example
  trafficPolicy:
    loadBalancer: { $([ $(($1 % 2)) -eq 0 ] && echo 'simple: ROUND_ROBIN' || echo 'consistentHash: { httpHeaderName: x-n }') }
    connectionPool: { tcp: { maxConnections: $((4 + $1 % 5)) } }
    outlierDetection: { consecutive5xxErrors: $((1 + $1 % 4)) }
  subsets: [{ name: v1, labels: { version: v1 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  http:
  - { match: [{ headers: { x-n: { regex: '.*[02468]' } } }], headers: { response: { set: { x-epoch: "$1" } } }, route: [{ destination: { host: origin.e2e.example, subset: v1 } }] }
  - route: [{ destination: { host: origin.e2e.example } }]
END
}
mesh 0 >"$CONFIG"
start_flatd
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"

load_begin origin.e2e.example
FIRST=$(ls_of epoch)
for n in $(seq 200); do
	mesh "$n" >"$WORK/next"
	mv "$WORK/next" "$CONFIG"
	kill -HUP "$FLATD"
	newer() { [ "$(ls_of epoch)" -ge $((FIRST + n)) ]; }
	wait_for 10 newer || die reload "$n: $(tail -n 5 "$WORK/flatd.log")"
done
load_end
holds "requests-went-on ($GOOD over $EPOCHS configurations)" test "$GOOD" -ge 200 -a "$EPOCHS" -ge 50
on_their_way() { flatctl --control "$CONTROL" --json clusters | "$PYTHON" -c 'import json, sys; print(sum(c["active"] + c["pending"] for c in json.load(sys.stdin)["clusters"]))'; }
none_is() { [ "$(on_their_way)" = 0 ]; }
holds all-are-back wait_for 10 none_is
