#!/bin/bash
# What clients see of the mesh: exportTo of services, Sidecar egress. A service that is hidden is not there: its name is left to
# DNS, its address to the kernel. Unmodified python clients of two namespaces under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# No name server answers for these names, and none is waited for long.
export RES_OPTIONS="timeout:1 attempts:1"
port && A=$PORT
port && P=$PORT
for program in origin shop guest; do
	cp "$(readlink -f "$PYTHON")" "$WORK/$program-python"
done
NAMES=$E2E_ROOT/tests/e2e/tcp_name.py

# db ADDRESS EXPORT-TO: the database, whose server is in the mesh, at an address where a stranger listens too.
base() {
	workload origin "$WORK/origin-python" data && workload shop "$WORK/shop-python" shop && workload guest "$WORK/guest-python" guest
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: db, namespace: data }
spec:
  hosts: [db.e2e.example]
  addresses: [127.0.0.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: $P, name: tcp }]
  endpoints: [{ address: 127.0.0.1, ports: { tcp: $A } }]
  exportTo: $1
---
apiVersion: v1
kind: Service
metadata: { name: kv, namespace: data, annotations: { networking.istio.io/exportTo: '${2:-*}' } }
spec: { clusterIP: 240.9.7.1, ports: [{ port: 6379, name: tcp }, { port: 6380, name: tcp-b }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: kv-1, namespace: data, labels: { kubernetes.io/service-name: kv } }
addressType: IPv4
ports: [{ name: tcp, port: $A }, { name: tcp-b, port: $A }]
endpoints: [{ addresses: [127.0.0.1] }]
END
}
# sidecar NAME NAMESPACE SPEC
sidecar() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: %s, namespace: %s }\nspec: %s\n' "$@"
}
only="outboundTrafficPolicy: { mode: REGISTRY_ONLY }"

base "['*']" >"$CONFIG"
start_flatd
start origin over "$WORK/origin-python" -B "$NAMES" serve mesh "$A"
serve stranger "$P" "$PYTHON" -B "$NAMES" serve stranger "$P"
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die server "$(tail -n 3 "$WORK/origin.log")"
shop() { over "$WORK/shop-python" -B "$NAMES" ask "$@" 1 2>&1; }
guest() { over "$WORK/guest-python" -B "$NAMES" ask "$@" 1 2>&1; }
why() { flatctl --control "$CONTROL" why "$@" | tr '\n' ' '; }
says() { grep -q "$1" <<<"$2" && echo yes || echo "$2"; }

same all-shop mesh=1 "$(shop db.e2e.example "$P")"
same all-guest mesh=1 "$(guest db.e2e.example "$P")"

# exportTo: to others the name is no name of the mesh, and the address is whose it is.
apply < <(base '[shop]' 'shop, ops')
same exported-name mesh=1 "$(shop db.e2e.example "$P")"
same exported-address mesh=1 "$(shop 127.0.0.1 "$P")"
same exported-service mesh=1 "$(shop kv.data.svc.cluster.local 6379)"
same exported-short-name mesh=1 "$(shop kv.data 6379)"
same hidden-name gaierror=1 "$(guest db.e2e.example "$P")"
same hidden-short-name gaierror=1 "$(guest kv.data 6379)"
same hidden-address stranger=1 "$(guest 127.0.0.1 "$P")"
same why-exported yes "$(says '^allowed, path direct' "$(why shop/shop "db.e2e.example:$P")")"
same why-hidden yes "$(says '^allowed, path kernel.*none of the mesh: ServiceEntry data/db (.*mesh.yaml:[0-9]*) has host db.e2e.example, and is not exported to namespace guest (exportTo, .*mesh.yaml:[0-9]*)' \
	"$(why guest/guest "db.e2e.example:$P")")"
same why-hidden-service yes "$(says 'Service data/kv .* is not exported to namespace guest' "$(why guest/guest kv.data:6379)")"

# Its server's own address is that of a mesh server; where no more than services may be reached, not even that.
same hidden-server mesh=1 "$(guest 127.0.0.1 "$A")"
apply < <(base '[shop]' 'shop' && sidecar s guest "{ $only }")
same only-exported mesh=1 "$(shop 127.0.0.1 "$P")"
same only-hidden PermissionError=1 "$(guest 127.0.0.1 "$P")"
same only-hidden-server PermissionError=1 "$(guest 127.0.0.1 "$A")"
same why-only yes "$(says '^denied .*REGISTRY_ONLY and no service has this address (.*mesh.yaml:[0-9]*) that the client sees: ServiceEntry data/db .*not exported to namespace guest' \
	"$(why guest/guest "db.e2e.example:$P")")"
# One of two services is enough.
apply < <(base '[shop]' '*' && sidecar s guest "{ $only }")
same only-seen-otherwise mesh=1 "$(guest 127.0.0.1 "$A")"

# A Sidecar's hosts, by name, by port, for one workload; the namespace's and the mesh's.
apply < <(base "['*']" && sidecar s guest "{ egress: [{ hosts: ['*/kv.data.svc.cluster.local'] }] }")
same imported mesh=1 "$(guest kv.data 6379)"
same not-imported-name gaierror=1 "$(guest db.e2e.example "$P")"
same not-imported-address stranger=1 "$(guest 127.0.0.1 "$P")"
same no-sidecar mesh=1 "$(shop db.e2e.example "$P")"
same why-not-imported yes "$(says 'none of the mesh: ServiceEntry data/db .* and Sidecar guest/s (.*mesh.yaml:[0-9]*) does not import it' "$(why guest/guest "db.e2e.example:$P")")"
apply < <(base "['*']" && sidecar s guest "{ $only, egress: [{ port: { number: 6379, protocol: TCP }, hosts: ['data/*'] }] }")
same imported-port mesh=1 "$(guest kv.data 6379)"
same not-imported-port yes "$(says '^denied .*Sidecar guest/s .* does not import it' "$(why guest/guest kv.data:6380)")"
apply < <(base "['*']" && sidecar root istio-system "{ egress: [{ hosts: ['./*'] }] }" && sidecar s guest "{ workloadSelector: { labels: { app: guest } }, egress: [{ hosts: ['data/*'] }] }")
same of-the-workload mesh=1 "$(guest db.e2e.example "$P")"
same of-the-mesh gaierror=1 "$(shop db.e2e.example "$P")"

# A route leads only where its client's namespace may go, though the Sidecar need not import that.
route() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: v, namespace: data }\nspec: { hosts: [kv.data.svc.cluster.local], tcp: [{ route: [{ destination: { host: db.e2e.example } }] }] }\n'
}
apply < <(base "['*']" && route && sidecar s guest "{ egress: [{ hosts: ['*/kv.data.svc.cluster.local'] }] }")
same routed mesh=1 "$(guest kv.data 6379)"
same why-routed yes "$(says 'by a tcp route .* to db.e2e.example' "$(why guest/guest kv.data:6379)")"
apply < <(base '[shop]' && route)
same routed-to-exported mesh=1 "$(shop kv.data 6379)"
same routed-to-hidden ConnectionRefusedError=1 "$(guest kv.data 6379)"
same why-routed-to-hidden yes "$(says "leads to db.e2e.example, which is not exported to the client's namespace" "$(why guest/guest kv.data:6379)")"

# Everything is there again.
apply < <(base "['*']")
same again mesh=1 "$(guest db.e2e.example "$P")"
