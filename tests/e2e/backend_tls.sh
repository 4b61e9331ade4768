#!/bin/bash
# BackendTLSPolicy: how a Service's ports are spoken to, by a gateway's requests and connections and by clients in the mesh; whose certificates
# and which names are believed; which of several policies holds. Servers outside the mesh say what they were asked for in TLS.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl nginx

for name in HOST STRANGER URI HTTP TLS PASS; do
	port && declare "$name=$PORT"
done
authority ca
authority other
issue ca host DNS:host.e2e.example
issue other stranger DNS:host.e2e.example
issue ca uri 'URI:spiffe://e2e/server,DNS:uri.e2e.example'
mkdir "$WORK/temp"

server() { # PORT CERTIFICATE
	cat <<END
	server {
		listen 127.0.0.1:$1 ssl; ssl_certificate $WORK/$2.crt; ssl_certificate_key $WORK/$2.key;
		location / { return 200 "$2 \$ssl_server_name \$http_host\\n"; }
	}
END
}
cat >"$WORK/nginx.conf" <<END
daemon off; master_process off; pid $WORK/nginx.pid; error_log $WORK/nginx-error.log;
events {}
http {
	access_log off; client_body_temp_path $WORK/temp; proxy_temp_path $WORK/temp; fastcgi_temp_path $WORK/temp;
	uwsgi_temp_path $WORK/temp; scgi_temp_path $WORK/temp;
$(server "$HOST" host)
$(server "$STRANGER" stranger)
$(server "$URI" uri)
}
END
# backend NAME PORT: a Service with a port for requests, one for bytes and one for clients that begin TLS, and one endpoint behind all.
backend() {
	cat <<END
---
apiVersion: v1
kind: Service
metadata: { name: $1, namespace: shop }
spec:
  ports: [{ name: http-web, port: 80 }, { name: tcp-bytes, port: 81 }, { name: https, port: 443 }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: $1-1, namespace: shop, labels: { kubernetes.io/service-name: $1 } }
addressType: IPv4
ports: [{ name: http-web, port: $2 }, { name: tcp-bytes, port: $2 }, { name: https, port: $2 }]
endpoints: [{ addresses: [127.0.0.1] }]
END
}
# tls NAME TARGET VALIDATION [CREATED]: a policy.
tls() {
	cat <<END
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: { name: $1, namespace: shop${4:+, creationTimestamp: $4} }
spec: { targetRefs: [{ group: "", kind: Service, name: $2 }], validation: { $3 } }
END
}
CA='caCertificateRefs: [{ group: "", kind: ConfigMap, name: ca }]'
AS='hostname: host.e2e.example'
mesh() {
	ingress ingress shop 'gateway.networking.k8s.io/gateway-name: web'
	secret shop host
	cat <<END
---
apiVersion: v1
kind: ConfigMap
metadata: { name: ca, namespace: shop }
data:
  ca.crt: |
$(sed 's/^/    /' "$WORK/ca.crt")
---
apiVersion: v1
kind: Secret
metadata: { name: other, namespace: shop }
data: { ca.crt: $(base64 -w 0 "$WORK/other.crt") }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: shop }
spec:
  gatewayClassName: any
  listeners:
  - { name: http, port: $HTTP, protocol: HTTP }
  - { name: ends, port: $TLS, protocol: TLS, tls: { certificateRefs: [{ name: host }] } }
  - { name: passes, port: $PASS, protocol: TLS, tls: { mode: Passthrough } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: ends, namespace: shop }
spec: { parentRefs: [{ name: web, sectionName: ends }], rules: [{ backendRefs: [{ name: host, port: 81 }] }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: { name: passes, namespace: shop }
spec: { parentRefs: [{ name: web, sectionName: passes }], hostnames: [host.e2e.example], rules: [{ backendRefs: [{ name: host, port: 81 }] }] }
END
	for name in host wrong stranger secret both none system uri dns-of-uri neither bare old port; do
		case $name in stranger | secret) backend "$name" "$STRANGER" ;; uri | dns-of-uri | neither) backend "$name" "$URI" ;; *) backend "$name" "$HOST" ;; esac
		cat <<END
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: $name, namespace: shop }
spec:
  parentRefs: [{ name: web, sectionName: http }]
  hostnames: [$name.example]
  rules:
  - { matches: [{ path: { value: /tcp } }], backendRefs: [{ name: $name, port: 81 }] }
  - { matches: [{ path: { value: /tls } }], backendRefs: [{ name: $name, port: 443 }] }
  - { backendRefs: [{ name: $name, port: 80 }] }
END
	done
	tls host host "$CA, $AS"
	tls wrong wrong "$CA, hostname: wrong.e2e.example"
	tls stranger stranger "$CA, $AS"
	tls secret secret 'caCertificateRefs: [{ kind: Secret, name: other, group: "" }], '"$AS"
	tls both both 'caCertificateRefs: [{ kind: ConfigMap, name: missing, group: "" }, { kind: ConfigMap, name: ca, group: "" }], '"$AS"
	tls none none 'caCertificateRefs: [{ kind: ConfigMap, name: missing, group: "" }], '"$AS"
	tls system system "wellKnownCACertificates: System, $AS"
	tls uri uri "$CA, $AS, subjectAltNames: [{ type: URI, uri: spiffe://e2e/server }]"
	tls dns-of-uri dns-of-uri "$CA, $AS, subjectAltNames: [{ type: URI, uri: spiffe://e2e/no }, { type: Hostname, hostname: uri.e2e.example }]"
	tls neither neither "$CA, $AS, subjectAltNames: [{ type: URI, uri: spiffe://e2e/no }]"
	tls a-young old "$CA, hostname: wrong.e2e.example" 2026-02-02T00:00:00Z
	tls z-old old "$CA, $AS" 2026-01-01T00:00:00Z
	tls whole port "$CA, hostname: wrong.e2e.example"
	tls one port "$CA, $AS" | sed 's/name: port }/name: port, sectionName: http-web }/'
}
mesh >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway shop/ingress
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
serve nginx "$HOST" nginx -e "$WORK/nginx-error.log" -c "$WORK/nginx.conf"
for name in STRANGER URI; do
	wait_for 10 listening "${!name}" || die "nginx-$name" "$(tail -n 5 "$WORK/nginx-error.log")"
done
wait_for 10 listening "$PASS" || die gateway-opens "$(tail -n 5 "$WORK/flatd.log")"

# asked SERVICE PATH: what the server says, else the status alone.
asked() {
	local status
	status=$(curl -sS -m 20 -o "$WORK/got" -w '%{http_code}' -H "Host: $1.example" "http://127.0.0.1:$HTTP$2" 2>&1)
	[ "$status" = 200 ] && cat "$WORK/got" || echo "$status"
}
while read -r name service path wanted; do
	same "$name" "$wanted" "$(asked "$service" "$path")"
done <<END
by-gateway            host       /     host host.e2e.example host.example
to-a-port-of-bytes    host       /tcp  host host.e2e.example host.example
to-a-port-of-tls      host       /tls  host host.e2e.example host.example
wrong-name            wrong      /     503
other-authority       stranger   /     503
by-secret             secret     /     stranger host.e2e.example secret.example
one-of-two-is-there   both       /     host host.e2e.example both.example
no-authority          none       /     503
not-of-the-system     system     /     503
by-uri                uri        /     uri host.e2e.example uri.example
by-other-name         dns-of-uri /     uri host.e2e.example dns-of-uri.example
by-neither            neither    /     503
in-the-clear          bare       /     400
older-holds           old        /     host host.e2e.example old.example
port-before-whole     port       /     host host.e2e.example port.example
whole-for-the-others  port       /tcp  503
END
holds no-authority-says-why wait_for 10 grep -q 'TLS cannot be begun.*none of its authorities is there' "$WORK/flatd.log"
holds wrong-name-says-why wait_for 10 grep -q 'no TLS with wrong.e2e.example.*[Hh]ostname mismatch' "$WORK/flatd.log"

# Clients in the mesh: the policy holds for them too, but not where they begin TLS themselves.
mine() { over curl -sS -m 20 "$@" 2>&1; }
same in-mesh 'host host.e2e.example host.shop' "$(mine http://host.shop/)"
same in-mesh-bytes 'host host.e2e.example host.shop:81' "$(mine http://host.shop:81/)"
same in-mesh-begins-tls 'host host.e2e.example host.e2e.example' \
	"$(mine --cacert "$WORK/ca.crt" --connect-to host.e2e.example:443:host.shop:443 https://host.e2e.example/)"

# TLS that ends at the gateway begins anew behind it; what passes through is the client's.
tls_to() { curl -sS -m 20 --cacert "$WORK/ca.crt" --connect-to "host.e2e.example:443:127.0.0.1:$1" https://host.e2e.example/ 2>&1; }
same ends-and-begins 'host host.e2e.example host.e2e.example' "$(tls_to "$TLS")"
same passes 'host host.e2e.example host.e2e.example' "$(tls_to "$PASS")"

holds routes-tell grep -q 'BackendTLSPolicy shop/one .*: port.shop.svc.cluster.local port http-web, TLS SIMPLE as host.e2e.example' \
	<(flatctl --control "$CONTROL" routes)
same routes-tell-json "none of its authorities is there" "$(flatctl --control "$CONTROL" routes --json |
	"$PYTHON" -c 'import json, sys; print([p["fails"] for p in json.load(sys.stdin)["backend_tls_policies"] if p["name"] == "none"][0])')"
holds check-names-what-is-not-there grep -q 'there are no authorities of ConfigMap shop/missing' <(flatctl check "$CONFIG" 2>&1)
holds check-names-what-has-no-effect grep -q 'BackendTLSPolicy shop/a-young: each port of old.shop.svc.cluster.local has a policy already' <(flatctl check "$CONFIG" 2>&1)

# A DestinationRule that says something of TLS is asked first.
apply < <(mesh && printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: host, namespace: shop }\nspec: { host: host.shop.svc.cluster.local, trafficPolicy: { tls: { mode: DISABLE } } }\n')
same rule-before-policy 400 "$(asked host /)"
