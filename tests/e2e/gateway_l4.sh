#!/bin/bash
# Ports of a gateway that are not HTTP: TCP, TLS that ends at the gateway, TLS that passes through to the server whose name is
# asked for. Plain clients, servers outside and in the mesh, the gateway's own policies and the server's.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs openssl

for name in A B INSIDE NAMES GW_TCP GW_TLS GW_PASS GW_MIXED; do
	port && declare "$name=$PORT"
done
authority ca
issue ca host DNS:one.example,DNS:*.two.example
cp "$(readlink -f "$PYTHON")" "$WORK/inside-python"
head -c 3000000 /dev/urandom >"$WORK/big"
PART=$E2E_ROOT/tests/e2e/sni_part.py

serve a "$A" "$PYTHON" -B "$PART" serve a "$A" "$WORK/host.crt" "$WORK/host.key"
serve b "$B" "$PYTHON" -B "$PART" serve b "$B" "$WORK/host.crt" "$WORK/host.key"
serve names "$NAMES" "$PYTHON" -B "$E2E_ROOT/tests/e2e/tcp_name.py" serve names "$NAMES"

entry() { # NAME PORT
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec: { hosts: [$1.e2e.example], location: ${3:-MESH_EXTERNAL}, resolution: STATIC, ports: [{ number: 443, name: tls, protocol: TLS }], endpoints: [{ address: 127.0.0.1, ports: { tls: $2 } }] }
END
}
base() {
	entry a "$A" && entry b "$B" && entry inside "$INSIDE" MESH_INTERNAL && entry names "$NAMES"
	workload inside "$WORK/inside-python"
	ingress gw edge 'istio: ingress'
	secret edge host
	cat <<END
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: e2e }
spec: { mtls: { mode: STRICT } }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: edge }
spec:
  selector: { istio: ingress }
  servers:
  - { port: { number: $GW_TCP, name: tcp, protocol: TCP }, hosts: ['*'], bind: 127.0.0.1 }
  - { port: { number: $GW_TLS, name: tls, protocol: TLS }, hosts: ['*'], bind: 127.0.0.1, tls: { mode: SIMPLE, credentialName: host } }
  - { port: { number: $GW_PASS, name: pass, protocol: TLS }, hosts: [e2e/one.example, '*.two.example', elsewhere/four.example], bind: 127.0.0.1, tls: { mode: PASSTHROUGH } }
  - { port: { number: $GW_MIXED, name: mixed-a, protocol: TCP }, hosts: ['*'], bind: 127.0.0.1 }
  - { port: { number: $GW_MIXED, name: mixed-b, protocol: HTTPS }, hosts: ['*'], bind: 127.0.0.1, tls: { mode: PASSTHROUGH } }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: gw, namespace: e2e }
spec:
  hosts: ['*']
  gateways: [edge/gw]
  tcp:
  - { match: [{ port: $GW_TCP }], route: [{ destination: { host: names.e2e.example }, weight: 100 }] }
  - { match: [{ port: $GW_TLS, gateways: [edge/other] }], route: [{ destination: { host: a.e2e.example } }] }
  - { match: [{ port: $GW_TLS }], route: [{ destination: { host: names.e2e.example } }] }
  tls:
  - { match: [{ port: $GW_PASS, sniHosts: [one.example, four.example] }], route: [{ destination: { host: a.e2e.example } }] }
  - { match: [{ sniHosts: [in.two.example] }], route: [{ destination: { host: inside.e2e.example } }] }
  - { match: [{ sniHosts: [deny.two.example, '*.two.example'] }], route: [{ destination: { host: b.e2e.example } }] }
END
}
deny() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: names, namespace: edge }
spec:
  selector: { matchLabels: { istio: ingress } }
  action: DENY
  rules: [{ when: [{ key: connection.sni, values: [deny.two.example, 'no*'] }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: inside, namespace: e2e }
spec:
  selector: { matchLabels: { app: inside } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/edge/sa/$1] } }] }]
END
}
base >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/gw
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start inside over "$WORK/inside-python" -B "$PART" serve inside "$INSIDE" "$WORK/host.crt" "$WORK/host.key"
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/inside.log")"

client() { "$PYTHON" -B "$PART" "$@" 2>&1; }
names() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/tcp_name.py" ask 127.0.0.1 "$1" "$2" 2>&1; }

same tcp names=3 "$(names "$GW_TCP" 3)"
same passed-through 'a one.example' "$(client ask 127.0.0.1 "$GW_PASS" one.example)"
same passed-through-by-wildcard 'b x.two.example' "$(client ask 127.0.0.1 "$GW_PASS" x.two.example)"
same passed-through-in-pieces 'a one.example' "$(client ask 127.0.0.1 "$GW_PASS" one.example 1)"
same passed-through-into-the-mesh 'inside in.two.example' "$(client ask 127.0.0.1 "$GW_PASS" in.two.example)"
same much 'a one.example True' "$(client echo 127.0.0.1 "$GW_PASS" one.example "$WORK/big")"
same much-into-the-mesh 'inside in.two.example True' "$(client echo 127.0.0.1 "$GW_PASS" in.two.example "$WORK/big")"
same a-name-that-nobody-shows cut "$(client ask 127.0.0.1 "$GW_PASS" three.example)"
same of-another-namespace cut "$(client ask 127.0.0.1 "$GW_PASS" four.example)"
same no-name cut "$(client ask 127.0.0.1 "$GW_PASS" '')"
same no-tls cut "$(client raw 127.0.0.1 "$GW_PASS" 474554202f)"
holds says-why wait_for 10 grep -q 'no server of the gateway.s port .* shows the name "three.example"' "$WORK/flatd.log"
# TLS ends at the gateway; the server hears bytes.
same ends-here names "$(client ask 127.0.0.1 "$GW_TLS" one.example)"
same ports-are-told yes "$(flatctl --control "$CONTROL" ls | grep -q "127.0.0.1:$GW_PASS .*TLS passed through" && echo yes)"
holds kinds-do-not-mix wait_for 10 grep -q "port $GW_MIXED is another server's, for TCP: this one, for TLS passed through, is not opened" "$WORK/flatd.log"

# Names in the gateway's policies; the server's see the gateway.
apply < <(base && deny gw)
same allowed 'inside in.two.example' "$(client ask 127.0.0.1 "$GW_PASS" in.two.example)"
same denied-by-name cut "$(client ask 127.0.0.1 "$GW_PASS" deny.two.example)"
same denied-by-pattern cut "$(client ask 127.0.0.1 "$GW_PASS" now.two.example)"
same others-are-not 'b x.two.example' "$(client ask 127.0.0.1 "$GW_PASS" x.two.example)"
same ends-here-denied cut "$(client ask 127.0.0.1 "$GW_TLS" no.two.example)"
same ends-here-allowed names "$(client ask 127.0.0.1 "$GW_TLS" one.two.example)"
apply < <(base && deny other)
same denied-by-the-server cut "$(client ask 127.0.0.1 "$GW_PASS" in.two.example)"

# What is open is closed when a policy takes it back.
apply < <(base)
start held "$PYTHON" -B "$PART" hold 127.0.0.1 "$GW_PASS" deny.two.example
wait_for 10 grep -q '^b deny.two.example' "$WORK/held.log" || die held "$(cat "$WORK/held.log")"
apply < <(base && deny gw)
holds taken-back wait_for 10 grep -qE '^(cut|ended)' "$WORK/held.log"
