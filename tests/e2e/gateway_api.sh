#!/bin/bash
# Gateway API's Gateways: listeners by port and hostname, TLS, which namespaces' routes they take, and the hosts that routes and listeners
# have in common. A table of requests from outside the mesh, each with the route that is to answer.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl

port && A=$PORT
port && TCP_ORIGIN=$PORT
port && HTTP=$PORT
port && OTHER=$PORT
port && HTTPS=$PORT
port && TCP=$PORT
port && CLOSED=$PORT
port && ELSEWHERE=$PORT
port && MTLS=$PORT
port && EITHER=$PORT
port && UNKNOWN=$PORT
port && SET=$PORT
port && UNWANTED=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
authority ca
issue ca one 'DNS:one.example'
issue ca one-rsa 'DNS:one.example' rsa:2048
issue ca far 'DNS:far.example'
issue ca set 'DNS:set.example'
authority clients
issue clients client 'DNS:client.example'
authority strangers
issue strangers stranger 'DNS:stranger.example'

# route NAME NAMESPACE PARENT HOSTNAMES [RULES]: an HTTPRoute whose answer says its name. Of ListenerSet $LISTENERS, where that is said.
route() {
	local parent="{ name: web, namespace: edge$3 }"
	[ -z "${LISTENERS:-}" ] || parent="{ kind: ListenerSet, name: $LISTENERS, namespace: shop$3 }"
	cat <<END
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: $1, namespace: $2 }
spec:
  parentRefs: [$parent]
  hostnames: [$4]
  rules: ${5:-"[{ filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-route, value: $1 }] } }], backendRefs: [$ORIGIN] }]"}
END
}
ORIGIN='{ group: networking.istio.io, kind: Hostname, name: origin.e2e.example, port: 80 }'
{
	ingress ingress edge 'gateway.networking.k8s.io/gateway-name: web'
	workload origin "$WORK/origin-python"
	cat <<END
---
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { tier: front } }
---
apiVersion: v1
kind: Namespace
metadata: { name: back, labels: { tier: rear } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec:
  gatewayClassName: any
  listeners:
  - { name: all, port: $HTTP, protocol: HTTP, allowedRoutes: { namespaces: { from: All } } }
  - { name: exact, port: $HTTP, protocol: HTTP, hostname: one.wild.example }
  - name: wild
    port: $HTTP
    protocol: HTTP
    hostname: "*.wild.example"
    allowedRoutes: { namespaces: { from: Selector, selector: { matchLabels: { tier: front } } } }
  - { name: other, port: $OTHER, protocol: HTTP, allowedRoutes: { namespaces: { from: All }, kinds: [{ kind: HTTPRoute }] } }
  - { name: secure, port: $HTTPS, protocol: HTTPS, hostname: one.example, tls: { certificateRefs: [{ name: one-rsa }, { name: one }, { name: one, namespace: keys }] }, allowedRoutes: { namespaces: { from: All } } }
  - { name: granted, port: $HTTPS, protocol: HTTPS, hostname: far.example, tls: { certificateRefs: [{ name: far, namespace: keys }] }, allowedRoutes: { namespaces: { from: All } } }
  - { name: closed, port: $CLOSED, protocol: HTTPS, tls: { certificateRefs: [{ name: one, namespace: keys }] }, allowedRoutes: { namespaces: { from: All } } }
  - { name: bytes, port: $TCP, protocol: TCP }
  - { name: mutual, port: $MTLS, protocol: HTTPS, tls: { certificateRefs: [{ name: one }] } }
  - { name: either, port: $EITHER, protocol: HTTPS, tls: { certificateRefs: [{ name: one }] } }
  - { name: unknown, port: $UNKNOWN, protocol: HTTPS, tls: { certificateRefs: [{ name: one }] } }
  tls:
    frontend:
      default: { validation: { caCertificateRefs: [{ kind: ConfigMap, group: "", name: missing }] } }
      perPort:
      - { port: $HTTPS, tls: {} }
      - { port: $MTLS, tls: { validation: { caCertificateRefs: [{ kind: ConfigMap, group: "", name: missing }, { kind: ConfigMap, group: "", name: clients }] } } }
      - { port: $EITHER, tls: { validation: { mode: AllowInsecureFallback, caCertificateRefs: [{ kind: ConfigMap, group: "", name: clients }] } } }
  allowedListeners: { namespaces: { from: Selector, selector: { matchLabels: { tier: front } } } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: later, namespace: shop, creationTimestamp: "2026-02-02T00:00:00Z" }
spec:
  parentRef: { name: web, namespace: edge }
  listeners:
  - { name: second, port: $SET, protocol: HTTP, hostname: A.set.example }
  - { name: own, port: $SET, protocol: HTTP, hostname: later.set.example }
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: web, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z" }
spec:
  parentRef: { kind: Gateway, group: gateway.networking.k8s.io, name: web, namespace: edge }
  listeners:
  - { name: first, port: $SET, protocol: HTTP, hostname: a.set.example }
  - { name: all, port: $SET, protocol: HTTP, allowedRoutes: { namespaces: { from: All } } }
  - { name: host, port: $HTTP, protocol: HTTP, hostname: set.example }
  - { name: taken, port: $HTTP, protocol: HTTP, hostname: one.wild.example }
  - { name: unlike, port: $TCP, protocol: HTTP }
  - { name: secure, port: $HTTPS, protocol: HTTPS, hostname: set.example, tls: { certificateRefs: [{ name: set, namespace: keys }] } }
  - { name: asks, port: $MTLS, protocol: HTTPS, hostname: set.example, tls: { certificateRefs: [{ name: set, namespace: keys }] } }
  - { name: ungranted, port: $HTTPS, protocol: HTTPS, hostname: far.set.example, tls: { certificateRefs: [{ name: far, namespace: keys }] } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: unwanted, namespace: back }
spec: { parentRef: { name: web, namespace: edge }, listeners: [{ name: http, port: $UNWANTED, protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: { name: set, namespace: keys }
spec: { from: [{ group: gateway.networking.k8s.io, kind: ListenerSet, namespace: shop }], to: [{ group: "", kind: Secret, name: set }] }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: clients, namespace: edge }
data:
  ca.crt: |
$(sed 's/^/    /' "$WORK/clients.crt")
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: elsewhere }
spec: { gatewayClassName: any, listeners: [{ name: http, port: $ELSEWHERE, protocol: HTTP }] }
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: { name: far, namespace: keys }
spec: { from: [{ group: gateway.networking.k8s.io, kind: Gateway, namespace: edge }], to: [{ group: "", kind: Secret, name: far }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: bytes, namespace: edge }
spec: { parentRefs: [{ name: web, sectionName: bytes }], rules: [{ backendRefs: [{ group: networking.istio.io, kind: Hostname, name: bytes.e2e.example, port: 80 }] }] }
END
	entry origin 240.9.11.1 http "$A"
	entry bytes 240.9.11.2 tcp "$TCP_ORIGIN"
	secret edge one
	secret edge one-rsa
	secret keys far
	secret keys set
	secret keys one
	route any edge ', sectionName: all' '"*.example"'
	route named edge ', sectionName: all' 'a.example, b.example'
	route named-more shop ', sectionName: all' a.example '[{ matches: [{ path: { value: /more } }], filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-route, value: more }] } }], backendRefs: ['"$ORIGIN"'] }]'
	route exact edge ', sectionName: exact' '"*.wild.example"'
	route front shop ', sectionName: wild' '"*.wild.example", "*.other.example"'
	route rear back ', sectionName: wild' '"*.x.wild.example"'
	route by-port edge ", port: $OTHER" ''
	route secure edge ', sectionName: secure' ''
	route granted edge ', sectionName: granted' ''
	route closed edge ', sectionName: closed' ''
	route mutual edge ', sectionName: mutual' ''
	route either edge ', sectionName: either' ''
	route unknown edge ', sectionName: unknown' ''
	route nowhere edge ', sectionName: none' nowhere.example
	route gateway-only edge '' gateway.example
	LISTENERS=web route set-first shop ', sectionName: first' ''
	LISTENERS=web route set-all edge ', sectionName: all' '"*.y.example"'
	LISTENERS=web route set-all-not edge ', sectionName: host' set.example
	LISTENERS=web route set shop '' set.example
	LISTENERS=web route set-taken shop ', sectionName: taken' one.wild.example
	LISTENERS=later route later shop '' ''
	route rules edge ', sectionName: all' rules.example "[
    { matches: [{ path: { value: /part } }], backendRefs: [$ORIGIN, { name: none, port: 80 }] },
    { matches: [{ path: { value: /denied } }], backendRefs: [$ORIGIN, { name: origin, namespace: e2e, port: 80 }] },
    { matches: [{ path: { value: /port } }], filters: [{ type: RequestRedirect, requestRedirect: { hostname: x.example } }] },
    { matches: [{ path: { value: /scheme } }], filters: [{ type: RequestRedirect, requestRedirect: { scheme: https } }] }]"
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
serve origin "$A" over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
serve bytes "$TCP_ORIGIN" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$TCP_ORIGIN" bytes
wait_for 10 listening "$HTTPS" || die gateway-opens "$(tail -n 5 "$WORK/flatd.log")"
listens() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listens || die origin "$(tail -n 3 "$WORK/origin.log")"

# asked PORT HOST PATH: the status, and the route that answered.
asked() { curl -sS -m 20 -o "$WORK/got" -w '%{http_code} %header{x-route}' -H "Host: $2" "http://127.0.0.1:$1$3"; }
while read -r name at host path wanted; do
	same "$name" "$wanted" "$(asked "${!at}" "$host" "$path" | sed 's/ $//')"
done <<'END'
any                HTTP   z.example              /status/200     200 any
any-deeper         HTTP   y.z.example            /status/200     200 any
any-not-itself     HTTP   example                /status/200     404
any-in-capitals    HTTP   Z.EXAMPLE              /status/200     200 any
any-with-port      HTTP   z.example:80           /status/200     200 any
named              HTTP   a.example              /status/200     200 named
named-second       HTTP   b.example              /status/200     200 named
routes-are-one     HTTP   a.example              /more           200 more
host-of-neither    HTTP   b.example              /more           200 named
no-listener        HTTP   other                  /status/200     404
listener-exact     HTTP   one.wild.example       /status/200     200 exact
listener-wild      HTTP   two.wild.example       /status/200     200 front
listener-wild-deep HTTP   a.two.wild.example     /status/200     200 front
isolated           HTTP   wild.example           /status/200     200 any
host-not-in-common HTTP   a.other.example        /status/200     200 any
not-selected       HTTP   y.x.wild.example       /status/200     200 front
section-is-wrong   HTTP   nowhere.example        /status/200     200 any
port               OTHER  whatever               /status/200     200 by-port
gateway-alone      HTTP   gateway.example        /status/200     200 gateway-only
set-not-gateway    SET    gateway.example        /status/200     404
set-section        SET    a.set.example          /status/200     200 set-first
set-all            SET    x.y.example            /status/200     200 set-all
set-later          SET    later.set.example      /status/200     200 later
set-on-known-port  HTTP   set.example            /status/200     200 set
set-takes-nothing  HTTP   one.wild.example       /status/200     200 exact
END
half() { for i in 1 2 3 4 5 6; do asked "$HTTP" rules.example "$1"; echo; done | sort | uniq -c | awk '{ print $1, $2 }' | paste -sd' '; }
same half-is-no-service '3 200 3 500' "$(half /part)"
same half-is-not-permitted '3 200 3 500' "$(half /denied)"
where() { curl -sS -m 20 -o "$WORK/got" -w '%{http_code} %{redirect_url}' -H 'Host: rules.example' "http://127.0.0.1:$HTTP$1"; }
same redirect-keeps-the-port "302 http://x.example:$HTTP/port" "$(where /port)"
same redirect-by-scheme '302 https://rules.example/scheme' "$(where /scheme)"
tls() { curl -sS -m 20 -o "$WORK/got" -w '%{http_code} %header{x-route}' --cacert "$WORK/ca.crt" --resolve "$1:$HTTPS:127.0.0.1" "https://$1:$HTTPS/status/200"; }
same tls '200 secure' "$(tls one.example)"
shown() { openssl s_client -connect "127.0.0.1:$HTTPS" -servername one.example ${1:+-sigalgs "$1"} </dev/null 2>/dev/null | openssl x509 -noout -serial; }
same tls-second-certificate "$(openssl x509 -noout -serial <"$WORK/one.crt")" "$(shown)"
same tls-by-signature "$(openssl x509 -noout -serial <"$WORK/one-rsa.crt")" "$(shown RSA-PSS+SHA256)"
same tls-by-another-name '200 granted' "$(tls far.example)"
same tls-of-a-set '200 set' "$(tls set.example)"
holds tls-of-a-set-not-granted test "$(tls far.set.example 2>/dev/null)" = '000 '
# A host of another listener than the one that was asked for in the handshake: its client may come again by that name.
misdirected() { curl -sSk -m 20 -o "$WORK/got" -w '%{http_code} %header{x-route}' -H "Host: $2" "${@:3}" --resolve "$1:$HTTPS:127.0.0.1" "https://$1:$HTTPS/status/200"; }
same tls-misdirected '421 ' "$(misdirected one.example far.example)"
same tls-misdirected-h2 '421 ' "$(misdirected one.example far.example --http2)"
same tls-of-no-listener '404 ' "$(misdirected one.example other)"
holds tls-no-such-name test "$(tls two.example 2>/dev/null)" = '000 '
# shows PORT [CERTIFICATE]: what a client with that certificate gets.
shows() {
	local with=()
	[ -z "${2:-}" ] || with=(--cert "$WORK/$2.crt" --key "$WORK/$2.key")
	curl -sS -m 20 -o "$WORK/got" -w '%{http_code} %header{x-route}' --cacert "$WORK/ca.crt" "${with[@]}" --resolve "one.example:$1:127.0.0.1" \
		"https://one.example:$1/status/200" 2>"$WORK/curl.err"
}
# A ListenerSet's port asks clients for what its Gateway says.
of_set() { curl -sS -m 20 -o "$WORK/got" -w '%{http_code} %header{x-route}' --cacert "$WORK/ca.crt" "$@" --resolve "set.example:$MTLS:127.0.0.1" "https://set.example:$MTLS/status/200" 2>"$WORK/curl.err"; }
same client-shows-its-certificate '200 mutual' "$(shows "$MTLS" client)"
same client-has-none '000 ' "$(shows "$MTLS")"
same client-is-a-stranger '000 ' "$(shows "$MTLS" stranger)"
same client-of-a-set-has-none '000 ' "$(of_set)"
same client-of-a-set '200 set' "$(of_set --cert "$WORK/client.crt" --key "$WORK/client.key")"
same client-may-show-one '200 either' "$(shows "$EITHER" client)"
same client-need-not '200 either' "$(shows "$EITHER")"
holds nobody-vouches-for-clients test "$(curl -sk -m 5 -o "$WORK/got" -w '%{http_code}' "https://127.0.0.1:$UNKNOWN/")" = 000
holds secret-not-granted test "$(curl -sk -m 5 -o "$WORK/got" -w '%{http_code}' "https://127.0.0.1:$CLOSED/")" = 000
holds gateway-of-another-namespace test "$(curl -s -m 5 -o "$WORK/got" -w '%{http_code}' "http://127.0.0.1:$ELSEWHERE/")" = 000
holds set-not-allowed test "$(curl -s -m 5 -o "$WORK/got" -w '%{http_code}' "http://127.0.0.1:$UNWANTED/")" = 000
same bytes '200 ' "$(asked "$TCP" any /status/200)"
said() { grep -qF "$1" "$WORK/flatd.log"; }
holds says-listener said 'no listener of Gateway "web" takes this route'
holds says-no-authorities said 'there are no authorities of ConfigMap edge/missing'
holds says-hosts-not said 'Secret keys/one is of another namespace'
holds says-certificate-not said 'Secret keys/one is of another namespace, which does not permit it: it is not shown'
holds says-set-not-allowed said 'Gateway "web" takes no listeners of this namespace'
holds says-set-taken said 'listener "taken" is not opened'
holds says-set-unlike said 'listener "unlike" is not opened'
holds says-set-second said 'listener "second" is not opened'
holds says-set-no-listener said 'no listener of ListenerSet "web" takes this route'
holds routes-say-it grep -q 'secure' <(flatctl --control "$CONTROL" routes)
