#!/bin/bash
# Identities from Istio's certificate service, which a small server of our own stands for: with a token that may ask for others,
# and with one that is for itself alone. Certificates live for 10 seconds, and are renewed at half of it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs openssl "$PYTHON"
PART=$E2E_ROOT/tests/e2e/hosts_part.py
SERVICE=$E2E_ROOT/tests/e2e/istio_ca_part.py
"$PYTHON" -c 'import grpc' 2>/dev/null || {
	echo "SKIP $E2E_NAME: python3-grpcio is not installed"
	exit 77
}
two_hosts 10.80.0 || exit 77

mkdir "$WORK/bin"
for name in shop server; do
	cp "$(readlink -f "$PYTHON")" "$WORK/bin/$name-python"
done
flatctl ca init "$WORK/ca" || die ca-init
flatctl ca init "$WORK/other-ca" || die ca-init
# The root is about to be another one: both are told, the one that signs first.
flatctl ca init "$WORK/next-ca" || die ca-init
cat "$WORK/ca/ca.crt" "$WORK/next-ca/ca.crt" >"$WORK/roots"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=istiod -keyout "$WORK/tls.key" -out "$WORK/tls.csr" 2>"$WORK/openssl.log" &&
	openssl x509 -req -in "$WORK/tls.csr" -CA "$WORK/ca/ca.crt" -CAkey "$WORK/ca/ca.key" -CAcreateserial -days 2 \
		-extfile <(echo subjectAltName=DNS:istiod.test) -out "$WORK/tls.crt" 2>>"$WORK/openssl.log" || die server-certificate "$(tail -n 2 "$WORK/openssl.log")"

cat >"$WORK/mesh.yaml" <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: shop, namespace: e2e }
spec:
  serviceAccount: shop
  selectors: [{ executable: $WORK/bin/shop-python, executableOwner: $(id -u) }]
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: server, namespace: e2e }
spec:
  serviceAccount: server
  selectors: [{ executable: $WORK/bin/server-python, executableOwner: $(id -u) }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: echo, namespace: e2e }
spec:
  hosts: [echo.e2e.example]
  addresses: [240.9.5.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 7007, name: p, protocol: TCP }]
  endpoints: [{ address: 10.80.0.2, serviceAccount: server, labels: { networking.istio.io/tunnel: http } }]
END
start service "${ON_B[@]}" "$PYTHON" -B "$SERVICE" 10.80.0.2:15012 "$WORK/ca" "$WORK" 10
wait_for 10 grep -q serving "$WORK/service.log" || die service-starts "$(tail -n 3 "$WORK/service.log")"
flatd_on() { # a|b OPTIONS
	local where=("${ON_A[@]}")
	[ "$1" = a ] || where=("${ON_B[@]}")
	start "flatd-$1" "${where[@]}" flatd --control "$WORK/$1.sock" --config "$WORK/mesh.yaml" --metrics off --hbone 0.0.0.0:15008 \
		--svids "istio://10.80.0.2:15012?name=istiod.test&token=$WORK/token-$1&$2"
	printf -v "FLATD_$1" %s "$PID"
	wait_for 10 flatctl --control "$WORK/$1.sock" ls || die "flatd-$1-starts" "$(tail -n 5 "$WORK/flatd-$1.log")"
}
of() {
	flatctl --control "$WORK/$1.sock" "$2" --json |
		"$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$3"
}
: >"$WORK/ca-crl.pem"
echo node >"$WORK/token-a"
echo server >"$WORK/token-b"
flatd_on a "root=$WORK/ca/ca.crt&for=e2e/shop&for=e2e/spare"
flatd_on b "root=$WORK/ca/ca.crt&cluster=east&crl=$WORK/ca-crl.pem"
start echo "${ON_B[@]}" flat-run --control "$WORK/b.sock" "$WORK/bin/server-python" -B "$PART" echo 7007
ready() {
	[ "$(of b ls "len(s['listeners'])")" = 1 ] &&
		[ "$(of a peers "len(s['identities'])")$(of b peers "len(s['identities'])")" = 21 ]
}
holds identities-come wait_for 20 ready
same impersonated "['spiffe://cluster.local/ns/e2e/sa/shop', 'spiffe://cluster.local/ns/e2e/sa/spare']" \
	"$(of a peers "sorted(i['id'] for i in s['identities'])")"
same the-tokens-own spiffe://cluster.local/ns/e2e/sa/server "$(of b peers "s['identities'][0]['id']")"
holds what-is-asked wait_for 10 grep -q 'signs spiffe://cluster.local/ns/e2e/sa/server for server east 86400' "$WORK/service.log"
shop() { "${ON_A[@]}" flat-run --control "$WORK/a.sock" "$WORK/bin/shop-python" -B "$PART" "$@"; }
same talks ok "$(shop talk echo.e2e.example 7007 10 10 3000)"

# Twice anew: by then those of the beginning have ended or soon will.
before=$(of a peers "s['rotations']")
renewed() { [ "$(of a peers "s['rotations']")" -ge $((before + 2)) ] && [ "$(of b peers "s['rotations']")" -ge 3 ]; }
holds renewed-in-time wait_for 25 renewed
same none-has-expired True "$(of a peers "all(i['expires'] > __import__('time').time() for i in s['identities'])")"
same talks-when-renewed ok "$(shop talk echo.e2e.example 7007 10 10 3000)"

# Revocation lists, as Istio's injector mounts them: an empty file, one with a list, one of another authority.
lists() { [ "$(of b peers "[l['revoked'] for l in s['revocation_lists']]")" = "[$1]" ]; }
same no-list "[]" "$(of b peers "s['revocation_lists']")"
mkdir "$WORK/lists"
flatctl ca revoke "$WORK/ca" "$WORK/lists" || die ca-revoke
cp "$WORK/lists/cluster.local.crl" "$WORK/ca-crl.pem"
holds list-is-read wait_for 20 lists 0
same talks-with-a-list ok "$(shop talk echo.e2e.example 7007 10 10 3000)"
flatctl ca init "$WORK/far-ca" && flatctl ca revoke "$WORK/far-ca" "$WORK/lists" || die ca-revoke
cp "$WORK/lists/cluster.local.crl" "$WORK/ca-crl.pem"
holds wrong-list-is-told wait_for 20 grep -q 'ca-crl.pem: a list is not signed by the authority that it names' "$WORK/flatd-b.log"
: >"$WORK/ca-crl.pem"
holds list-is-gone wait_for 20 lists ''

# What goes wrong. No certificate is given up for it.
echo nobody >"$WORK/token-a"
holds token-is-refused wait_for 15 grep -q 'gRPC status 16: request authenticate failure.*those before stay' "$WORK/flatd-a.log"
stop "$FLATD_a"
flatd_on a "root=$WORK/other-ca/ca.crt&for=e2e/shop"
holds another-root wait_for 10 grep -q "the server's certificate: " "$WORK/flatd-a.log"
stop "$FLATD_a"
echo other >"$WORK/token-a"
flatd_on a "root=$WORK/ca/ca.crt&for=e2e/shop"
holds another-identity wait_for 10 grep -q 'for spiffe://cluster.local/ns/e2e/sa/shop: the certificate is of spiffe://cluster.local/ns/e2e/sa/other' "$WORK/flatd-a.log"
same none-is-used 'PermissionError 13' "$(shop connect echo.e2e.example 7007)"
stop "$FLATD_a"
holds name-is-checked grep -q 'give istio://HOST:PORT' \
	<(flatd --control "$WORK/c.sock" --metrics off --svids 'istio://10.80.0.2:15012?to=e2e/shop' 2>&1)
