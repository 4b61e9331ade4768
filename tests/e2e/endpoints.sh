#!/bin/bash
# A Service's EndpointSlice changes 200 times while connections and requests go on: none fails, the next connection goes where
# the slice says, and no new configuration is made of it. Whatever else changes makes one; what is the same makes nothing.
# Likewise a ServiceEntry's endpoints, and where Kubernetes swaps the volume that the file is in.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port && A=$PORT
port && B=$PORT
CONFIG=$WORK/mesh.d
mkdir "$CONFIG"
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

put() {
	cat >"$WORK/next"
	mv "$WORK/next" "$CONFIG/$1"
}
# origin PORTS [PATH]: the Service, and its slice's endpoints at these ports, a slice for each.
origin() {
	cat <<END
apiVersion: v1
kind: Service
metadata: { name: origin, namespace: e2e, annotations: { mesh.libflat.io/path: ${2:-auto} } }
spec: { clusterIP: 240.9.9.1, ports: [{ port: 80, name: http }] }
END
	local n=0 p
	for p in $1; do
		n=$((n + 1))
		cat <<END
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: origin-$n, namespace: e2e, labels: { kubernetes.io/service-name: origin } }
addressType: IPv4
ports: [{ name: http, port: $p }]
endpoints: [{ addresses: [127.0.0.1] }]
END
	done
}
put base.yaml <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: origin, namespace: e2e }
spec: { selectors: [{ executable: $WORK/origin-python }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: origin, namespace: e2e }
spec: { hosts: [origin.e2e.svc.cluster.local], http: [{ retries: { attempts: 0 }, route: [{ destination: { host: origin.e2e.svc.cluster.local } }] }] }
END
origin "$A" | put origin.yaml
start_flatd
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"

# Clients on kept connections and on new ones, until the file is there.
load_begin origin.e2e
changed() { [ "$(ls_of endpoint_changes)" -ge "$1" ]; }
EPOCH=$(ls_of epoch)
for n in $(seq 200); do
	# Each time the other one.
	origin "$([ $((n % 2)) -eq 0 ] && echo "$A" || echo "$B")" | put origin.yaml
	wait_for 10 changed "$n" || die change "$n: $(tail -n 5 "$WORK/flatd.log")"
done
load_end
same both-answered 2 "$NAMES"
holds "requests-went-on ($GOOD)" test "$GOOD" -ge 200
same each-change-counted 200 "$(ls_of endpoint_changes)"
same no-configuration-of-its-own "$EPOCH" "$(ls_of epoch)"

# --- the next connection goes where the slice says, and no earlier one ---

who() { over "$PYTHON" -c 'import http.client; c = http.client.HTTPConnection("'"${1:-origin.e2e}"'", timeout=20); c.request("GET", "/echo"); print(c.getresponse().read().decode())' | grep -oE '"name": "[ab]"' | cut -d'"' -f4; }
for name in b a b a; do
	CHANGES=$(ls_of endpoint_changes)
	origin "$([ $name = a ] && echo "$A" || echo "$B")" | put origin.yaml
	wait_for 10 changed $((CHANGES + 1)) || die next "$(tail -n 5 "$WORK/flatd.log")"
	same "next-goes-to-$name" $name "$(who)"
done

# --- what is the same is nothing ---

EPOCH=$(ls_of epoch)
touch "$CONFIG/base.yaml" "$CONFIG/origin.yaml"
cp "$CONFIG/base.yaml" "$WORK/same" && mv "$WORK/same" "$CONFIG/base.yaml"
# As where Kubernetes swaps a volume: the whole is looked at.
ln -s . "$CONFIG/..data"
stays() { grep -q "configuration $EPOCH stays in force" "$WORK/flatd.log"; }
wait_for 10 stays || die same "$(tail -n 5 "$WORK/flatd.log")"
same nothing-is-no-configuration "$EPOCH" "$(ls_of epoch)"

origin "$B" | put origin.yaml
moved() { [ "$(who)" = b ]; }
wait_for 10 moved || die moved "$(tail -n 5 "$WORK/flatd.log")"

# --- errors, and what else there is in the file ---

ERRORS=$(ls_of config_errors)
origin "no-port" | put origin.yaml
refused() { [ "$(ls_of config_errors)" -gt "$ERRORS" ]; }
wait_for 10 refused || die refused "$(tail -n 5 "$WORK/flatd.log")"
same what-was-stays-in-force b "$(who)"
holds the-place-is-told wait_for 10 grep -q 'origin.yaml:10:' "$WORK/flatd.log"
EPOCH=$(ls_of epoch)
newer() { [ "$(ls_of epoch)" -gt "$EPOCH" ]; }
origin "$A" forwarded | put origin.yaml
wait_for 10 newer || die another "$(tail -n 5 "$WORK/flatd.log")"
same the-service-changed a "$(who)"
CHANGES=$(ls_of endpoint_changes)
origin "$B" forwarded | put origin.yaml
wait_for 10 changed $((CHANGES + 1)) || die patched "$(tail -n 5 "$WORK/flatd.log")"
same changes-after-a-load b "$(who)"
EPOCH=$(ls_of epoch)
origin "$A $B" forwarded | put origin.yaml
wait_for 10 newer || die slices "$(tail -n 5 "$WORK/flatd.log")"
holds another-slice-is-loaded test -n "$(who)"

# --- a ServiceEntry, and a volume ---

# elsewhere PORT: as the API server writes it, endpoints first.
elsewhere() {
	cat <<END
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: elsewhere, namespace: e2e }
spec:
  addresses: [240.9.9.2]
  endpoints:
$(for p in $1; do printf '  - { address: 127.0.0.1, ports: { http: %s } }\n' "$p"; done)
  hosts: [elsewhere.e2e.example]
  location: MESH_INTERNAL
  ports: [{ number: 80, name: http }]
  resolution: STATIC
END
}
EPOCH=$(ls_of epoch)
elsewhere "$A" | put elsewhere.yaml
wait_for 10 newer || die entry "$(tail -n 5 "$WORK/flatd.log")"
same entry-is-there a "$(who elsewhere.e2e.example)"
EPOCH=$(ls_of epoch)
for ports in "$B" "$A $A" "$B $B" "$A"; do
	CHANGES=$(ls_of endpoint_changes)
	elsewhere "$ports" | put elsewhere.yaml
	wait_for 10 changed $((CHANGES + 1)) || die entry-changes "$(tail -n 5 "$WORK/flatd.log")"
	same "entry-goes-to-$ports" "$([ "${ports%% *}" = "$A" ] && echo a || echo b)" "$(who elsewhere.e2e.example)"
done
same entry-is-no-configuration "$EPOCH" "$(ls_of epoch)"

# volume PORT: all files anew in a folder, then the link.
volume() {
	local fresh
	fresh=$(mktemp -d "$CONFIG/..XXXXXX")
	elsewhere "$1" >"$fresh/elsewhere.yaml"
	cp "$WORK/also" "$fresh/also.yaml"
	ln -s "${fresh##*/}" "$CONFIG/..data_tmp"
	mv -T "$CONFIG/..data_tmp" "$CONFIG/..data"
}
elsewhere "$A" | sed 's/elsewhere/also/g; s/240.9.9.2/240.9.9.3/' >"$WORK/also"
rm "$CONFIG/..data" "$CONFIG/elsewhere.yaml"
volume "$A"
ln -s ..data/elsewhere.yaml "$CONFIG/elsewhere.yaml"
ln -s ..data/also.yaml "$CONFIG/also.yaml"
there() { [ "$(who also.e2e.example)" = a ]; }
wait_for 10 there || die volume "$(tail -n 5 "$WORK/flatd.log")"
EPOCH=$(ls_of epoch)
for p in "$B" "$A" "$B"; do
	CHANGES=$(ls_of endpoint_changes)
	volume "$p"
	wait_for 10 changed $((CHANGES + 1)) || die volume-changes "$(tail -n 5 "$WORK/flatd.log")"
	same "volume-goes-to-$p" "$([ "$p" = "$A" ] && echo a || echo b)" "$(who elsewhere.e2e.example)"
	same only-one-changed $((CHANGES + 1)) "$(ls_of endpoint_changes)"
done
same a-swap-is-no-configuration "$EPOCH" "$(ls_of epoch)"
