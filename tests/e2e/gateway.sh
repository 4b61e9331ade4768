#!/bin/bash
# flatd as ingress gateway: clients without the library reach services of the mesh by Gateway and VirtualService; TLS with
# several certificates, rotation, client certificates; policies of the gateway and of the servers behind it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl

port && A=$PORT
port && B=$PORT
port && HTTP=$PORT
port && HTTPS=$PORT
port && MTLS=$PORT
port && MOVED=$PORT
port && BOTH=$PORT
port && SEVERAL=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

authority ca
authority other
issue ca one DNS:one.example
issue ca two 'DNS:*.two.example'
issue ca one-rsa DNS:one.example rsa:2048
issue ca two-rsa 'DNS:*.two.example' rsa:2048
issue ca three DNS:three.example
issue ca client URI:spiffe://cluster.local/ns/out/sa/client
issue ca guest URI:spiffe://cluster.local/ns/out/sa/guest
issue other stranger URI:spiffe://cluster.local/ns/out/sa/client

base() {
	workload origin "$WORK/origin-python"
	ingress ingress edge 'istio: ingressgateway'
	secret edge two
	secret edge two-rsa
	secret edge three
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
  - { address: 127.0.0.1, ports: { http: $A }, labels: { version: v1 } }
  - { address: 127.0.0.1, ports: { http: $B }, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: origin, namespace: e2e }
spec:
  host: origin.e2e.example
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: all, namespace: e2e }
spec: { mtls: { mode: STRICT } }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec:
  selector: { istio: ingressgateway }
  servers:
  - { port: { number: $HTTP, name: http, protocol: HTTP }, hosts: ["e2e/one.example", "*/*.two.example"] }
  - { port: { number: $HTTP, name: moved, protocol: HTTP }, hosts: [moved.example], tls: { httpsRedirect: true } }
  - port: { number: $HTTPS, name: https-one, protocol: HTTPS }
    hosts: [one.example]
    tls: { mode: SIMPLE, serverCertificate: $WORK/one.crt, privateKey: $WORK/one.key }
  - port: { number: $HTTPS, name: https-two, protocol: HTTPS }
    hosts: ["*.two.example"]
    tls: { mode: SIMPLE, credentialName: two }
  - port: { number: $MTLS, name: https-mutual, protocol: HTTPS }
    hosts: [one.example]
    tls: { mode: MUTUAL, serverCertificate: $WORK/one.crt, privateKey: $WORK/one.key, caCertificates: $WORK/ca.crt, minProtocolVersion: TLSV1_3 }
  - port: { number: $BOTH, name: https-both, protocol: HTTPS }
    hosts: [one.example]
    tls:
      mode: SIMPLE
      tlsCertificates: [{ serverCertificate: $WORK/one-rsa.crt, privateKey: $WORK/one-rsa.key }, { serverCertificate: $WORK/one.crt, privateKey: $WORK/one.key }]
  - port: { number: $SEVERAL, name: https-several, protocol: HTTPS }
    hosts: ["*"]
    tls: { mode: MUTUAL, credentialNames: [three, two, two-rsa], caCertCredentialName: clients }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: clients, namespace: edge }
data:
  ca.crt: |
$(sed 's/^/    /' "$WORK/ca.crt")
END
}
# routes HOSTS GATEWAYS ROUTES [NAME]
routes() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: ${4:-web}, namespace: e2e }
spec: { hosts: [$1], gateways: [$2], http: $3 }
END
}
allow() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: $1, namespace: $2 }
spec: { selector: { matchLabels: { $3 } }, action: $4, rules: [$5] }
END
}
V1='{ destination: { host: origin.e2e.example, subset: v1 } }'
V2='{ destination: { host: origin.e2e.example, subset: v2 } }'

{
	base
	routes "one.example, '*.two.example', moved.example" edge/web "[{ match: [{ uri: { prefix: /v2 } }], rewrite: { uri: / }, route: [$V2] },
  { match: [{ scheme: { exact: https }, uri: { exact: /secure } }], directResponse: { status: 299 } },
  { match: [{ uri: { exact: /inside }, gateways: [mesh] }], directResponse: { status: 298 } }, { route: [$V1] }]"
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"

out() { curl -sS -m 20 --resolve "one.example:$HTTP:127.0.0.1" --resolve "one.example:$HTTPS:127.0.0.1" \
	--resolve "one.example:$MTLS:127.0.0.1" --resolve "a.two.example:$HTTPS:127.0.0.1" --resolve "a.two.example:$HTTP:127.0.0.1" \
	--resolve "no.example:$HTTPS:127.0.0.1" --resolve "moved.example:$HTTP:127.0.0.1" --cacert "$WORK/ca.crt" "$@" 2>&1; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
code() { out -o /dev/null -w '%{http_code}' "$@"; }
one=http://one.example:$HTTP
sec=https://one.example:$HTTPS

# --- in the clear ---

same plain a "$(out "$one/echo" | told "t['name']")"
same subset-and-rewrite 'b /echo' "$(out "$one/v2/echo" | told "t['name'] + ' ' + t['path']")"
same strict-server-reached 200 "$(code "$one/status/200")"
same forwarded-fields '127.0.0.1 http' "$(out "$one/echo" | told "t['headers'] and ' '.join(dict((k.lower(), v) for k, v in t['headers'])[n] for n in ('x-forwarded-for', 'x-forwarded-proto'))")"
same forwarded-for-appended '192.0.2.1, 127.0.0.1' \
	"$(out -H 'X-Forwarded-For: 192.0.2.1' -H 'X-Forwarded-Proto: https' "$one/echo" | told "dict((k.lower(), v) for k, v in t['headers'])['x-forwarded-for']")"
same proto-is-ours http "$(out -H 'X-Forwarded-Proto: https' "$one/echo" | told "dict((k.lower(), v) for k, v in t['headers'])['x-forwarded-proto']")"
same wildcard-host a "$(out "http://a.two.example:$HTTP/echo" | told "t['name']")"
same unknown-host 404 "$(code -H 'Host: no.example' "$one/echo")"
same redirect "301 https://moved.example/x?y=1" "$(out -o /dev/null -w '%{http_code} %{redirect_url}' -H 'Host: moved.example' "http://moved.example:$HTTP/x?y=1")"
same match-of-mesh-alone a "$(out "$one/inside" | told "t['name']" 2>/dev/null || code "$one/inside")"
same scheme-in-clear 200 "$(code "$one/secure")"
head -c 3000000 /dev/urandom >"$WORK/blob"
same upload "$(hash_of <"$WORK/blob")" "$(out --data-binary "@$WORK/blob" "$one/echo" | told "t['sha256']")"
same keep-alive 20 "$(out "$one/status/200?n=[1-20]" -o /dev/null -w '%{http_code}\n' | grep -c 200)"

# --- TLS ---

same tls a "$(out "$sec/echo" | told "t['name']")"
same tls-proto https "$(out "$sec/echo" | told "dict((k.lower(), v) for k, v in t['headers'])['x-forwarded-proto']")"
same tls-scheme 299 "$(code "$sec/secure")"
same tls-certificate-by-name a "$(out "https://a.two.example:$HTTPS/echo" | told "t['name']")"
same tls-upload "$(hash_of <"$WORK/blob")" "$(out --data-binary "@$WORK/blob" "$sec/echo" | told "t['sha256']")"
same tls-http2 '2 200' "$(out -o /dev/null -w '%{http_version} %{http_code}' "$sec/status/200")"
same tls-http1 '1.1 200' "$(out --http1.1 -o /dev/null -w '%{http_version} %{http_code}' "$sec/status/200")"
same clear-http2 '2 200' "$(out --http2-prior-knowledge -o /dev/null -w '%{http_version} %{http_code}' "$one/status/200")"
same http2-policy-of-host 404 "$(code --http2-prior-knowledge -H 'Host: no.example' "$one/status/200")"
same tls-versions 'TLSv1.2 TLSv1.3' "$(for v in 1.2 1.3; do out --tlsv$v --tls-max $v -v -o /dev/null "$sec/status/200" | sed -n 's/.*SSL connection using \(TLSv1[.0-9]*\).*/\1/p'; done | paste -sd' ')"
holds tls-unknown-name bash -c "! curl -sS -m 5 -k --resolve no.example:$HTTPS:127.0.0.1 https://no.example:$HTTPS/ 2>/dev/null"
same tls-other-servers-host 404 "$(code -H 'Host: a.two.example' "$sec/echo")"
same tls-old-version refused "$(code --tls-max 1.1 --ciphers 'DEFAULT@SECLEVEL=0' "$sec/" >/dev/null 2>&1 && echo taken || echo refused)"

# --- client certificates ---

mtls=https://one.example:$MTLS
with() { code --cert "$WORK/$1.crt" --key "$WORK/$1.key" "$mtls/status/200"; }
same mutual 200 "$(with client)"
holds mutual-none bash -c "! curl -sS -m 5 --cacert '$WORK/ca.crt' --resolve one.example:$MTLS:127.0.0.1 $mtls/ 2>/dev/null"
same mutual-stranger refused "$(with stranger >/dev/null 2>&1 && echo taken || echo refused)"

# --- several certificates of one server ---

# shown PORT NAME [SIGNATURES]: the serial number of what it shows a client that names that host and understands these.
shown() {
	openssl s_client -connect "127.0.0.1:$1" -servername "$2" ${3:+-sigalgs "$3"} </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null
}
serial_of() { openssl x509 -noout -serial <"$WORK/$1.crt"; }
RSA=RSA-PSS+SHA256:RSA+SHA256
same both-ecdsa "$(serial_of one)" "$(shown "$BOTH" one.example)"
same both-rsa "$(serial_of one-rsa)" "$(shown "$BOTH" one.example $RSA)"
same both-serve a "$(out --resolve "one.example:$BOTH:127.0.0.1" "https://one.example:$BOTH/echo" | told "t['name']")"
same several-by-name "$(serial_of two)" "$(shown "$SEVERAL" a.two.example)"
same several-by-name-and-key "$(serial_of two-rsa)" "$(shown "$SEVERAL" a.two.example $RSA)"
same several-first-otherwise "$(serial_of three)" "$(shown "$SEVERAL" elsewhere.example)"
several() { out --resolve "a.two.example:$SEVERAL:127.0.0.1" "$@" -o /dev/null -w '%{http_code}' "https://a.two.example:$SEVERAL/status/200"; }
same several-client-certificate 200 "$(several --cert "$WORK/client.crt" --key "$WORK/client.key")"
holds several-no-client-certificate bash -c "! curl -sS -m 5 --cacert '$WORK/ca.crt' --resolve a.two.example:$SEVERAL:127.0.0.1 https://a.two.example:$SEVERAL/ 2>/dev/null"

# --- policies ---

rules() { base; routes "one.example, '*.two.example'" edge/web "[{ route: [$V1] }]"; }
apply < <(rules; allow at-gate edge 'istio: ingressgateway' DENY "{ to: [{ operation: { paths: [/admin*] } }] }")
same gate-denies 403 "$(code "$one/admin/x")"
same gate-lets-others 200 "$(code "$one/status/200")"
apply < <(rules; allow at-gate edge 'istio: ingressgateway' ALLOW "{ from: [{ source: { principals: ['cluster.local/ns/out/sa/client'] } }] }")
same gate-by-certificate '200 403' "$(with client) $(with guest)"
same gate-without-certificate 403 "$(code "$one/status/200")"
apply < <(rules; allow server e2e 'app: origin' ALLOW "{ from: [{ source: { principals: ['cluster.local/ns/edge/sa/ingress'] } }], to: [{ operation: { paths: [/status/*] } }] }")
same server-knows-the-gateway '200 403' "$(code "$one/status/200") $(code "$one/echo")"
apply < <(rules; allow server e2e 'app: origin' ALLOW "{ from: [{ source: { principals: ['cluster.local/ns/edge/sa/other'] } }] }")
same server-refuses-others 403 "$(code "$one/status/200")"

# --- who may use a server's hosts ---

apply < <(base; routes one.example edge/web "[{ route: [$V1] }]" | sed 's/namespace: e2e/namespace: thief/')
same host-of-another-namespace 404 "$(code "$one/status/200")"
apply < <(base; routes one.example web "[{ route: [$V1] }]")
same gateway-of-another-namespace 404 "$(code "$one/status/200")"

# --- rotation ---

apply < <(rules)
serial() { openssl s_client -connect "127.0.0.1:$HTTPS" -servername "$1" </dev/null 2>/dev/null | openssl x509 -noout -serial; }
before=$(serial one.example)
issue ca one DNS:one.example
rotated() { [ -n "$(serial one.example)" ] && [ "$(serial one.example)" != "$before" ]; }
holds rotation-of-files wait_for 10 rotated
before=$(serial a.two.example)
issue ca two 'DNS:*.two.example'
apply < <(rules)
same rotation-of-secret "$(openssl x509 -noout -serial <"$WORK/two.crt")" "$(serial a.two.example)"
issue ca one-rsa DNS:one.example rsa:2048
rotated_rsa() { [ "$(shown "$BOTH" one.example $RSA)" = "$(serial_of one-rsa)" ]; }
holds rotation-of-one-of-two wait_for 10 rotated_rsa
same rotation-leaves-the-other "$(serial_of one)" "$(shown "$BOTH" one.example)"
before=$(shown "$SEVERAL" a.two.example $RSA)
apply < <(rules | sed 's/credentialNames: \[three, two, two-rsa\]/credentialNames: [three, two, gone]/')
same rotation-one-is-gone-all-stay "$before" "$(shown "$SEVERAL" a.two.example $RSA)"
apply < <(rules)
echo broken >"$WORK/one.crt.new" && mv "$WORK/one.crt.new" "$WORK/one.crt"
told_of() { grep -q 'certificate before stays in force' "$WORK/flatd.log"; }
holds rotation-refused wait_for 10 told_of
same rotation-refused-serves 200 "$(code "$sec/status/200")"

# --- ports come and go ---

apply < <(rules | sed "s/number: $MTLS,/number: $MOVED,/")
holds port-opened wait_for 10 listening "$MOVED"
closed() { ! listening "$MTLS"; }
holds port-closed wait_for 10 closed
apply < <(rules | sed "s/number: $SEVERAL,/number: $MTLS,/; s/credentialNames: \[three, two, two-rsa\]/credentialNames: [gone, two]/")
holds port-opened-with-what-is-good wait_for 10 listening "$MTLS"
same good-one-is-shown "$(serial_of two)" "$(shown "$MTLS" a.two.example)"
holds missing-one-is-said wait_for 10 grep -q 'no Secret edge/gone .*its other certificates are shown' "$WORK/flatd.log"
kill -0 "$PID" && pass alive
