#!/bin/bash
# Servers found by the name that a TLS client asks for (SNI): VirtualService spec.tls, TLSRoute, and services without addresses
# under REGISTRY_ONLY. Servers outside and in the mesh; first messages in pieces, too long, without a name, or none at all.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs openssl

for name in A B C D; do
	port && declare "$name=$PORT"
done
authority ca
issue ca host DNS:one.example,DNS:*.two.example
cp "$(readlink -f "$PYTHON")" "$WORK/shop-python"
cp "$(readlink -f "$PYTHON")" "$WORK/shut-python"
cp "$(readlink -f "$PYTHON")" "$WORK/inside-python"
head -c 3000000 /dev/urandom >"$WORK/big"
PART=$E2E_ROOT/tests/e2e/sni_part.py

serve a "$A" "$PYTHON" -B "$PART" serve a "$A" "$WORK/host.crt" "$WORK/host.key"
serve b "$B" "$PYTHON" -B "$PART" serve b "$B" "$WORK/host.crt" "$WORK/host.key"
serve d "$D" "$PYTHON" -B "$PART" serve d "$D" "$WORK/host.crt" "$WORK/host.key"

base() {
	workload shop "$WORK/shop-python" && workload shut "$WORK/shut-python" && workload inside "$WORK/inside-python"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: web, namespace: e2e }
spec:
  hosts: [web.e2e.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{ number: 443, name: tls, protocol: TLS }, { number: 8443, name: https, protocol: HTTPS }, { number: 9443, name: tcp, protocol: TCP }]
  endpoints:
  - { address: 127.0.0.1, ports: { tls: $A, https: $A, tcp: $A }, labels: { version: a } }
  - { address: 127.0.0.1, ports: { tls: $B, https: $B, tcp: $B }, labels: { version: b } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: inside, namespace: e2e }
spec:
  hosts: [inside.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 443, name: tls, protocol: TLS }]
  endpoints: [{ address: 127.0.0.1, ports: { tls: $C } }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: e2e }
spec: { host: web.e2e.example, subsets: [{ name: a, labels: { version: a } }, { name: b, labels: { version: b } }] }
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: shut, namespace: e2e }
spec: { workloadSelector: { labels: { app: shut } }, outboundTrafficPolicy: { mode: REGISTRY_ONLY } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: allowed, namespace: e2e }
spec: { hosts: ['*.allowed.example', exact.example], location: MESH_EXTERNAL, resolution: NONE, ports: [{ number: $D, name: tls, protocol: TLS }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: other, namespace: e2e }
spec: { hosts: [other.example], location: MESH_EXTERNAL, resolution: NONE, ports: [{ number: $D, name: https, protocol: HTTPS }] }
END
}
routes() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: web, namespace: e2e }\n'
	printf 'spec: { hosts: [web.e2e.example], tls: %s }\n' "$1"
}
to() { printf 'route: [{ destination: { host: web.e2e.example, subset: %s } }]' "$1"; }
base >"$CONFIG"
start_flatd
start inside over "$WORK/inside-python" -B "$PART" serve inside "$C" "$WORK/host.crt" "$WORK/host.key"
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/inside.log")"

shop() { over "$WORK/shop-python" -B "$PART" "$@" 2>&1; }
shut() { over "$WORK/shut-python" -B "$PART" "$@" 2>&1; }
why() { flatctl --control "$CONTROL" why "$@" | tr '\n' ' '; }
says() { grep -q "$1" <<<"$2" && echo yes || echo "$2"; }
letters() { sed 's/[0-9]* \([ab]\) [a-z.]*;/\1;/g' <<<"$1"; }

apply < <(base && routes "[{ match: [{ port: 443, sniHosts: [one.example] }], $(to b) },
  { match: [{ sniHosts: ['*.two.example'], sourceLabels: { app: shut } }], $(to a) },
  { match: [{ sniHosts: ['*.two.example', three.example] }], $(to b) },
  { match: [{ sniHosts: [inside.example] }], route: [{ destination: { host: inside.e2e.example } }] },
  { match: [{ sniHosts: [parts.example] }], route: [{ destination: { host: web.e2e.example, subset: a }, weight: 75 },
      { destination: { host: web.e2e.example, subset: b }, weight: 25 }] },
  { match: [{ sniHosts: [nobody.example] }], route: [{ destination: { host: nobody.e2e.example } }] }]")
same by-name '4 b one.example;' "$(shop ask web.e2e.example 443 one.example 0 4)"
same by-name-in-any-case '4 b ONE.Example;' "$(shop ask web.e2e.example 443 ONE.Example 0 4)"
same by-wildcard '3 b x.y.two.example;' "$(shop ask web.e2e.example 443 x.y.two.example 0 3)"
same by-another-name-of-the-match '2 b three.example;' "$(shop ask web.e2e.example 8443 three.example 0 2)"
same by-labels '3 a x.two.example;' "$(shut ask web.e2e.example 443 x.two.example 0 3)"
same by-weight '6 a parts.example;2 b parts.example;' "$(shop ask web.e2e.example 443 parts.example 0 8)"
went into-the-mesh forwarded shop ask web.e2e.example 443 inside.example
same into-the-mesh-answer 'inside inside.example' "$OUT"
same pieces-of-a-byte 'b one.example' "$(shop ask web.e2e.example 443 one.example 1)"
same pieces-of-7 'inside inside.example' "$(shop ask web.e2e.example 443 inside.example 7)"
same much-both-ways 'b one.example True' "$(shop echo web.e2e.example 443 one.example "$WORK/big")"
same much-into-the-mesh 'inside inside.example True' "$(shop echo web.e2e.example 443 inside.example "$WORK/big")"
# Where no route holds, the service itself answers: by turns.
same another-port 'a;b;' "$(letters "$(shop ask web.e2e.example 8443 one.example 0 40)")"
same no-route 'a;b;' "$(letters "$(shop ask web.e2e.example 443 other.example 0 40)")"
same the-wildcard-s-own-name yes "$(says 'through flatd, which connects\|the kernel carries it' "$(why e2e/shop web.e2e.example:443 two.example)")"
same no-name yes "$(says '^[ab] None$' "$(shop ask web.e2e.example 443 '')")"
shop raw web.e2e.example 443 474554202f >/dev/null
holds no-tls wait_for 10 grep -q HTTP_REQUEST "$WORK/a.log" "$WORK/b.log"
same half-a-message cut "$(shop raw web.e2e.example 443 1603010040010000)"
same silence open "$(shop silent web.e2e.example 443)"
# A port that is not declared as TLS is not looked into.
went tcp-port none shop ask web.e2e.example 9443 one.example

# A first message that is too long: nobody knows what name would have come.
same too-long cut "$(shop raw web.e2e.example 443 16030140000100ff00 "$(head -c 17000 /dev/zero | od -An -v -tx1 | tr -d ' \n')")"
holds too-long-says-why wait_for 10 grep -q 'rule 11: the client.s first message of TLS is too long' "$WORK/flatd.log"
same to-nobody cut "$(shop ask web.e2e.example 443 nobody.example)"
holds to-nobody-says-why wait_for 10 grep -q 'leads to nobody.e2e.example, which is no service' "$WORK/flatd.log"

same why-before yes "$(says 'forwarded.*once it has read the name' "$(why e2e/shop web.e2e.example:443)")"
same why yes "$(says 'by a tls route .*subset b' "$(why e2e/shop web.e2e.example:443 One.example)")"
same routes-show-it yes "$(says 'tls 0 .*: SNI one.example port 443 -> web.e2e.example subset b' "$(flatctl --control "$CONTROL" routes)")"

# Only what is declared may be reached: of services without addresses by name.
same allowed 'd x.allowed.example' "$(shut ask 127.0.0.1 "$D" x.allowed.example)"
same allowed-exactly 'd exact.example' "$(shut ask 127.0.0.1 "$D" exact.example)"
same allowed-by-another 'd other.example' "$(shut ask 127.0.0.1 "$D" other.example)"
same forbidden cut "$(shut ask 127.0.0.1 "$D" evil.example)"
same forbidden-parent cut "$(shut ask 127.0.0.1 "$D" allowed.example)"
same forbidden-nameless cut "$(shut ask 127.0.0.1 "$D" '')"
same forbidden-port PermissionError "$(shut ask 127.0.0.1 1 x.allowed.example)"
same endpoint-of-a-service 'a evil.example' "$(shut ask 127.0.0.1 "$A" evil.example)"
same forbidden-why yes "$(says 'denied.*nor the name "evil.example" on port' "$(why e2e/shut "127.0.0.1:$D" evil.example)")"
same unbounded-client 'd evil.example' "$(shop ask 127.0.0.1 "$D" evil.example)"

tls_route() {
	cat <<END
---
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: TLSRoute
metadata: { name: web, namespace: e2e }
spec:
  parentRefs: [{ group: networking.istio.io, kind: Hostname, name: web.e2e.example, port: 443 }]
  hostnames: [one.example, '*.two.example']
  rules: [{ backendRefs: [{ group: networking.istio.io, kind: Hostname, name: inside.e2e.example, port: 443 }] }]
END
}
apply < <(base && tls_route)
same tls-route 'inside x.two.example' "$(shop ask web.e2e.example 443 x.two.example)"
same tls-route-other yes "$(says '^[ab] other.example$' "$(shop ask web.e2e.example 443 other.example)")"

# Of names below a wildcard service those that have routes of their own follow them.
wild() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: wild, namespace: e2e }
spec:
  hosts: ['*.wild.example']
  addresses: [240.9.9.77]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{ number: 443, name: tls, protocol: TLS }]
  endpoints: [{ address: 127.0.0.1, ports: { tls: $A } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: below, namespace: e2e }
spec: { hosts: [one.wild.example], tls: [{ match: [{ sniHosts: [one.wild.example] }], $(to b) }] }
END
}
apply < <(base && wild)
same below-a-wildcard '3 b one.wild.example;' "$(shop ask 240.9.9.77 443 one.wild.example 0 3)"
same below-a-wildcard-other '3 a other.wild.example;' "$(shop ask 240.9.9.77 443 other.wild.example 0 3)"
same below-a-wildcard-stranger '2 a one.example;' "$(shop ask 240.9.9.77 443 one.example 0 2)"
