#!/bin/bash
# A gateway on one host whose routes lead to servers on another: HTTP, TCP, TLS that ends at the gateway, TLS that passes through.
# The servers' flatd sees the gateway's identity, whoever came by it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs openssl curl "$PYTHON"
PART=$E2E_ROOT/tests/e2e/hosts_part.py
SNI=$E2E_ROOT/tests/e2e/sni_part.py

two_hosts 10.81.0 || exit 77
authority ca
issue ca host DNS:one.example
cp "$(readlink -f "$PYTHON")" "$WORK/server-python"
head -c 3000000 /dev/urandom >"$WORK/big"
mkdir "$WORK/www"
cp "$WORK/big" "$WORK/www/"
flatctl ca init "$WORK/spiffe" || die ca-init
for who in flatd edge/gw; do flatctl ca issue "$WORK/spiffe" "$WORK/svids-a" "$who" || die ca-issue; done
flatctl ca issue "$WORK/spiffe" "$WORK/svids-b" flatd || die ca-issue

remote() { # NAME PORT PROTOCOL
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: $2, name: p, protocol: $3 }]
  endpoints: [{ address: 10.81.0.2, serviceAccount: server, labels: { security.istio.io/tlsMode: istio } }]
END
}
base() {
	remote echo 7007 TCP && remote tls 7443 TLS && remote web 8080 HTTP
	workload server "$WORK/server-python"
}
{
	base
	ingress gw edge 'istio: ingress'
	secret edge host
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: edge }
spec:
  selector: { istio: ingress }
  servers:
  - { port: { number: 7100, name: tcp, protocol: TCP }, hosts: ['*'] }
  - { port: { number: 7101, name: tls, protocol: TLS }, hosts: ['*'], tls: { mode: SIMPLE, credentialName: host } }
  - { port: { number: 7102, name: pass, protocol: TLS }, hosts: ['*'], tls: { mode: PASSTHROUGH } }
  - { port: { number: 8100, name: http, protocol: HTTP }, hosts: ['*'] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: gw, namespace: e2e }
spec:
  hosts: ['*']
  gateways: [edge/gw]
  http: [{ route: [{ destination: { host: web.e2e.example } }] }]
  tcp: [{ route: [{ destination: { host: echo.e2e.example } }] }]
  tls: [{ match: [{ sniHosts: [one.example] }], route: [{ destination: { host: tls.e2e.example } }] }]
END
} >"$WORK/a.yaml"
only() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only, namespace: e2e }
spec: { action: ALLOW, rules: [{ from: [{ source: { principals: [cluster.local/ns/edge/sa/$1] } }] }] }
END
}
{ base && only gw; } >"$WORK/b.yaml"

start flatd-b "${ON_B[@]}" flatd --control "$WORK/b.sock" --config "$WORK/b.yaml" --metrics off --wire 0.0.0.0:15018 --svids "$WORK/svids-b"
start flatd-a "${ON_A[@]}" flatd --control "$WORK/a.sock" --config "$WORK/a.yaml" --metrics off --wire 0.0.0.0:15018 --svids "$WORK/svids-a" --gateway edge/gw
for side in a b; do
	wait_for 10 flatctl --control "$WORK/$side.sock" ls || die "flatd-$side-starts" "$(tail -n 5 "$WORK/flatd-$side.log")"
done
# of a|b COMMAND EXPRESSION: over `s`, what flatctl COMMAND --json says there.
of() {
	flatctl --control "$WORK/$1.sock" "$2" --json |
		"$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$3"
}
MESH_B=("${ON_B[@]}" flat-run --control "$WORK/b.sock" "$WORK/server-python" -B)
start echo "${MESH_B[@]}" "$PART" echo 7007
start tls "${MESH_B[@]}" "$SNI" serve tls 7443 "$WORK/host.crt" "$WORK/host.key" 10.81.0.2
start web "${MESH_B[@]}" -m http.server 8080 --bind 10.81.0.2 --directory "$WORK/www"
all_there() { [ "$(of b ls "len(s['listeners'])")" = 3 ]; }
wait_for 15 all_there || die servers-listen "$(tail -n 3 "$WORK/echo.log" "$WORK/tls.log" "$WORK/web.log")"

plain() { on_a timeout 60 "$PYTHON" -B "$PART" "$@" 2>&1; }
same tcp ok "$(plain talk 10.81.0.1 7100 10 10 10000)"
same tcp-large-messages ok "$(plain talk 10.81.0.1 7100 3 5 1000000)"
same tcp-half-close 'end 300000' "$(plain half 10.81.0.1 7100 300000)"
same tls-ends-here ok "$(plain secure 10.81.0.1 7101 10 100000)"
same tls-passes-through 'tls one.example True' "$(on_a timeout 60 "$PYTHON" -B "$SNI" echo 10.81.0.1 7102 one.example "$WORK/big" 2>&1)"
same http-hash "$(hash_of <"$WORK/big")" "$(on_a curl -sS --max-time 60 http://10.81.0.1:8100/big | hash_of)"
same as-the-gateway "{'spiffe://cluster.local/ns/edge/sa/gw'}" "$(of b peers "{p['peer_id'] for p in s['peers']}")"
resets=$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")
plain abort 10.81.0.1 7100
saw_reset() { [ "$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")" -gt "$resets" ]; }
holds reset-crosses wait_for 10 saw_reset

# Refused at the servers' host.
epoch=$(of b ls "s['epoch']")
{ base && only other; } >"$WORK/next" && mv "$WORK/next" "$WORK/b.yaml"
newer() { [ "$(of b ls "s['epoch']")" -gt "$epoch" ]; }
wait_for 10 newer || die config-applied "$(tail -n 3 "$WORK/flatd-b.log")"
# At which call a reset is seen is chance.
is_cut() { plain told 10.81.0.1 7100 hello | grep -qxE 'ConnectionResetError|BrokenPipeError'; }
holds refused-there is_cut
holds refused-there-says-why wait_for 10 grep -q 'refused cluster.local/ns/edge/sa/gw' "$WORK/flatd-b.log"
same http-refused-there 503 "$(on_a curl -sS --max-time 60 -o /dev/null -w '%{http_code}' http://10.81.0.1:8100/big)"

# The gateway has no identity to show.
rm "$WORK/svids-a/edge.gw.crt"
no_svid() { [ "$(of a peers "len(s['identities'])")" = 1 ]; }
holds svid-taken-away wait_for 10 no_svid
holds no-svid is_cut
holds no-svid-says-why wait_for 10 grep -q 'has no SVID for cluster.local/ns/edge/sa/gw' "$WORK/flatd-a.log"
