#!/bin/bash
# Routes of connections: VirtualService spec.tcp (weights, port, destinationSubnets, sourceLabels, sourceNamespace,
# subsets), TCPRoute. Servers that tell their names, unmodified python clients under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port && A=$PORT
port && B=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(readlink -f "$PYTHON")" "$WORK/shop-python"
cp "$(readlink -f "$PYTHON")" "$WORK/guest-python"

base() {
	workload origin "$WORK/origin-python" && workload shop "$WORK/shop-python" && workload guest "$WORK/guest-python" other
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: db, namespace: e2e }
spec:
  hosts: [db.e2e.example]
  addresses: [240.9.8.0/24]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 5432, name: tcp, protocol: TCP }, { number: 5433, name: tcp-b, protocol: TCP }]
  endpoints:
  - { address: 127.0.0.1, ports: { tcp: $A, tcp-b: $A }, labels: { version: v1 } }
  - { address: 127.0.0.1, ports: { tcp: $B, tcp-b: $B }, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: db, namespace: e2e }
spec:
  host: db.e2e.example
  exportTo: ['*']
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
---
apiVersion: v1
kind: Service
metadata: { name: kv, namespace: e2e }
spec: { clusterIP: 240.9.7.1, ports: [{ port: 6379, name: tcp, targetPort: $A }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: kv-1, namespace: e2e, labels: { kubernetes.io/service-name: kv } }
addressType: IPv4
ports: [{ name: tcp, port: $A }]
endpoints: [{ addresses: [127.0.0.1] }]
---
apiVersion: v1
kind: Service
metadata: { name: kv2, namespace: e2e }
spec: { clusterIP: 240.9.7.2, ports: [{ port: 6379, name: tcp, targetPort: $B }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: kv2-1, namespace: e2e, labels: { kubernetes.io/service-name: kv2 } }
addressType: IPv4
ports: [{ name: tcp, port: $B }]
endpoints: [{ addresses: [127.0.0.1] }]
END
}
# routes SPEC: a VirtualService of the database with these tcp routes.
routes() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: db, namespace: e2e }\n'
	printf 'spec: { hosts: [db.e2e.example], tcp: %s }\n' "$1"
}
tcp_route() {
	printf -- '---\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: { name: kv, namespace: e2e }\n'
	printf "spec: { parentRefs: [{ group: '', kind: Service, name: kv, port: 6379 }], rules: [{ backendRefs: %s }] }\n" "$1"
}
to() { printf 'route: [{ destination: { host: db.e2e.example, subset: %s } }]' "$1"; }

base >"$CONFIG"
start_flatd
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/tcp_name.py" serve a "$A"
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/tcp_name.py" serve b "$B"
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"
shop() { over "$WORK/shop-python" -B "$E2E_ROOT/tests/e2e/tcp_name.py" ask "$@" 2>&1; }
guest() { over "$WORK/guest-python" -B "$E2E_ROOT/tests/e2e/tcp_name.py" ask "$@" 2>&1; }
why() { flatctl --control "$CONTROL" why "$@"; }
says() { grep -q "$1" <<<"$2" && echo yes || echo "$2"; }

apply < <(base && routes "[{ route: [{ destination: { host: db.e2e.example, subset: v1 }, weight: 80 },
  { destination: { host: db.e2e.example, subset: v2 }, weight: 20 }] }]")
same weights "a=16 b=4" "$(shop db.e2e.example 5432 20)"
same why-weights yes "$(says 'by a tcp route .*subset v., weight .* of 100' "$(why e2e/shop db.e2e.example:5432)")"
same routes-shows-it yes "$(says 'tcp 0 .*: always -> db.e2e.example subset v1 weight 80, db.e2e.example subset v2 weight 20' "$(flatctl --control "$CONTROL" routes)")"
went still-direct direct shop db.e2e.example 5432 3

apply < <(base && routes "[{ match: [{ port: 5433, sourceLabels: { app: shop } }, { destinationSubnets: [240.9.8.77, 240.9.8.128/25] }], $(to v2) },
  { match: [{ sourceNamespace: other }], $(to v2) }, { $(to v1) }]")
same by-default a=4 "$(shop db.e2e.example 5432 4)"
same by-port-and-labels b=4 "$(shop db.e2e.example 5433 4)"
same by-subnet-host b=2 "$(shop 240.9.8.77 5432 2)"
same by-subnet-block b=2 "$(shop 240.9.8.200 5432 2)"
same by-subnet-outside a=2 "$(shop 240.9.8.78 5432 2)"
same by-namespace b=2 "$(guest db.e2e.example 5432 2)"

# Where no route holds, the service itself answers, as in Istio: by turns.
apply < <(base && routes "[{ match: [{ port: 5433 }], $(to v2) }]")
same none-holds "a b" "$(shop db.e2e.example 5432 40 | sed 's/=[0-9]*//g')"
apply < <(base && routes "[{ match: [{ gateways: [some-gateway] }], $(to v2) }, { $(to v1) }]")
same of-gateways-only a=2 "$(shop db.e2e.example 5432 2)"
apply < <(base && routes "[{ route: [{ destination: { host: nobody.e2e.example } }] }]")
same to-nobody ConnectionRefusedError=1 "$(shop db.e2e.example 5432 1)"
same why-nobody yes "$(says 'denied.*leads to nobody.e2e.example, which is no service' "$(why e2e/shop db.e2e.example:5432 | tr '\n' ' ')")"
apply < <(base && routes "[{ route: [{ destination: { host: db.e2e.example, subset: v9 } }] }]")
same to-no-subset ConnectionRefusedError=1 "$(shop db.e2e.example 5432 1)"
apply < <(base && routes "[{ route: [{ destination: { host: kv2.e2e.svc.cluster.local, port: { number: 6379 } } }] }]")
same to-another-service b=2 "$(shop db.e2e.example 5432 2)"

apply < <(base && tcp_route "[{ name: kv, port: 6379, weight: 1 }, { name: kv2, port: 6379, weight: 3 }]")
same tcp-route "a=2 b=6" "$(shop kv.e2e 6379 8)"
apply < <(base && tcp_route "[{ name: kv2, namespace: other, port: 6379 }]")
same tcp-route-not-granted ConnectionRefusedError=1 "$(shop kv.e2e 6379 1)"

# ExternalName: another name of a service, for connections and for routes.
another() { printf -- '---\napiVersion: v1\nkind: Service\nmetadata: { name: %s, namespace: other }\nspec: { type: ExternalName, externalName: %s }\n' "$@"; }
apply < <(base && another entry kv2.e2e.svc.cluster.local && another more entry.other.svc.cluster.local &&
	routes "[{ route: [{ destination: { host: entry.other.svc.cluster.local, port: { number: 6379 } } }] }]")
same another-name b=2 "$(shop entry.other.svc.cluster.local 6379 2)"
same another-short-name b=2 "$(shop more.other 6379 2)"
same route-by-another-name b=2 "$(shop db.e2e.example 5432 2)"
