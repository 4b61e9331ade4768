#!/bin/bash
# h2spec against flatd: a plain client of a service that flatd reads, a client in the mesh, and one of the gateway (by TLS, HTTP/2 by ALPN, and
# in the clear). h2spec is taken from PATH, else built by Go from its module proxy; where neither is there, this is skipped. FLAT_BUILD: the
# build folder. The library does not reach programs in Go: what h2spec says goes into the mesh by a relay.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"
needs curl openssl nghttpd
H2SPEC=$(command -v h2spec)
if [ -z "$H2SPEC" ]; then
	needs go
	SOURCES=$(cd "$FLAT_BUILD" && pwd)/sources/go
	H2SPEC=$SOURCES/bin/h2spec
	[ -x "$H2SPEC" ] || GOPATH=$SOURCES GOBIN=$SOURCES/bin GOFLAGS=-modcacherw timeout 120 go install \
		github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible >"$WORK/go.log" 2>&1 ||
		{ echo "SKIP $E2E_NAME: $(tail -n 1 "$WORK/go.log")" && exit 77; }
fi

port && PLAIN=$PORT
port && TLS=$PORT
port && EDGE=$PORT
port && RELAY=$PORT
cp "$(command -v nghttpd)" "$WORK/origin"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=h2.example -addext subjectAltName=IP:127.0.0.1 \
	-keyout "$WORK/h2.key" -out "$WORK/h2.crt" 2>"$WORK/openssl.log" || die certificate "$(tail -n 1 "$WORK/openssl.log")"
# The policy makes flatd read what plain clients say.
cat >"$CONFIG" <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: ingress, namespace: e2e, labels: { istio: ingressgateway } }
spec: { serviceAccount: ingress, selectors: [{ executable: /nobody }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: origin, namespace: e2e, labels: { app: origin } }
spec: { selectors: [{ executable: $WORK/origin }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: h2, namespace: e2e }
spec:
  hosts: [h2.e2e.example]
  addresses: [240.9.15.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http2 }]
  endpoints: [{ address: 127.0.0.1, ports: { http2: $PLAIN } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: h2, namespace: e2e }
spec: { hosts: ["*"], gateways: [web], http: [{ route: [{ destination: { host: h2.e2e.example } }] }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: e2e }
spec:
  selector: { istio: ingressgateway }
  servers:
  - port: { number: $TLS, name: https, protocol: HTTPS }
    hosts: ["*"]
    tls: { mode: SIMPLE, serverCertificate: $WORK/h2.crt, privateKey: $WORK/h2.key }
  - port: { number: $EDGE, name: http, protocol: HTTP }
    hosts: ["*"]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: secret, namespace: e2e }
spec: { selector: { matchLabels: { app: origin } }, action: DENY, rules: [{ to: [{ operation: { paths: [/secret] } }] }] }
END
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway e2e/ingress
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
mkdir "$WORK/www"
echo hello >"$WORK/www/index.html"
start origin over "$WORK/origin" --no-tls --address=127.0.0.1 -d "$WORK/www" "$PLAIN"
listens() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listens || die origin-starts "$(tail -n 3 "$WORK/origin.log")"
same plain-read "2 403" "$(curl -s -m 10 --http2-prior-knowledge -o "$WORK/got" -w '%{http_version} %{http_code}' "http://127.0.0.1:$PLAIN/secret")"
same gateway-serves "2 200" "$(curl -sk -m 10 -o "$WORK/got" -w '%{http_version} %{http_code}' "https://127.0.0.1:$TLS/")"

same gateway-serves-plain "2 200" "$(curl -s -m 10 --http2-prior-knowledge -o "$WORK/got" -w '%{http_version} %{http_code}' "http://127.0.0.1:$EDGE/")"
serve relay "$RELAY" flat-run --control "$CONTROL" "$PYTHON" -B "$E2E_ROOT/tests/suites/h2spec_relay.py" "$RELAY" h2.e2e.example 80
same mesh-read "2 403" "$(curl -s -m 10 --http2-prior-knowledge -o "$WORK/got" -w '%{http_version} %{http_code}' "http://127.0.0.1:$RELAY/secret")"

# cases NAME OPTION...: one line for each of h2spec's; 140 of them at least. In the clear a gateway speaks HTTP/1 as well: what is no preface of
# HTTP/2 is a bad request of it, and is answered so.
cases() {
	"$H2SPEC" -h 127.0.0.1 -o 5 -j "$WORK/$1.xml" "${@:2}" >"$WORK/$1.log" 2>&1
	"$PYTHON" - "$E2E_NAME/$1" "$WORK/$1.xml" <<'END' || fail "$1" "$(tail -n 5 "$WORK/$1.log")"
import sys
import xml.etree.ElementTree as tree

name, path = sys.argv[1:]
known = {"h2spec/gateway-plain/http2/3.5/2"}
n = bad = 0
for suite in tree.parse(path).getroot().iter("testsuite"):
    for number, case in enumerate(suite.findall("testcase"), 1):
        said = [part for part in ("failure", "error") if case.find(part) is not None]
        skipped = case.find("skipped") is not None
        if f"{name}/{suite.get('package')}/{number}" in known:
            print(f"SKIP {name}/{suite.get('package')}/{number}: answered in HTTP/1")
            continue
        word = "FAIL" if said else "SKIP" if skipped else "PASS"
        n += not skipped
        bad += bool(said)
        why = f": {case.get('classname')}: {' '.join((case.find(said[0]).text or '').split())}" if said else ""
        print(f"{word} {name}/{suite.get('package')}/{number}{why}")
sys.exit(bad > 0 or n < 140)
END
}
cases plain -p "$PLAIN"
cases mesh -p "$RELAY"
cases gateway -t -k -p "$TLS"
cases gateway-plain -p "$EDGE"
holds flatd-lives flatctl --control "$CONTROL" ls
