#!/bin/bash
# What a gateway's own policies do: tokens and the routes by their claims (Istio's task "JWT claim based routing"), claims
# as headers, external authorizers. curl without the library.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl

port && A=$PORT
port && B=$PORT
port && GATE=$PORT
port && EXT=$PORT
port && SECOND=$PORT
port && COPY=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
jwt() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/jwt.py" "$WORK" "$@"; }
jwt key one || die key
ONE=$(jwt jwks one)
# token CLAIMS: a token that is good for ten minutes.
token() { jwt token one "{\"iss\": \"test@example\", \"sub\": \"me\", \"exp\": $(($(date +%s) + 600))$1}"; }

base() {
	workload origin "$WORK/origin-python"
	ingress ingress edge 'istio: ingressgateway'
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
spec: { host: origin.e2e.example, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ext, namespace: e2e }
spec:
  hosts: [ext.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 8000, name: http, protocol: HTTP }, { number: 8001, name: http-second, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $EXT, http-second: $SECOND } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: copy, namespace: e2e }
spec:
  hosts: [copy.e2e.example]
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $COPY } }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec: { selector: { istio: ingressgateway }, servers: [{ port: { number: $GATE, name: http, protocol: HTTP }, hosts: ["*/one.example"] }] }
END
}
# routes HTTP: of the gateway's host (flow style).
routes() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: web, namespace: e2e }\n'
	printf 'spec: { hosts: [one.example], gateways: [edge/web], http: %s }\n' "$1"
}
authn() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: jwt, namespace: edge }\n'
	printf "spec: { selector: { matchLabels: { istio: ingressgateway } }, jwtRules: [{ issuer: test@example, jwks: '%s'%s }] }\n" "$ONE" "${1:-}"
}
custom() {
	printf -- '---\nkind: MeshConfig\nextensionProviders: [{ name: ext, envoyExtAuthzHttp: { service: ext.e2e.example, port: 8000, includeRequestHeadersInCheck: [x-ext-authz], headersToUpstreamOnAllow: [x-user] } }]\n'
	printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ext, namespace: edge }\n'
	printf 'spec: { selector: { matchLabels: { istio: ingressgateway } }, action: CUSTOM, provider: { name: ext }, rules: [{ to: [{ operation: { paths: ["/echo*", "/moved"] } }] }] }\n'
}
V1='route: [{ destination: { host: origin.e2e.example, subset: v1 } }]'
V2='route: [{ destination: { host: origin.e2e.example, subset: v2 } }]'

{ base && authn && routes "[{ match: [{ headers: { '@request.auth.claims.group': { exact: admin } } }], $V2 },
  { match: [{ headers: { '@request.auth.claims[realm][roles]': { prefix: ops- } } }], $V2 },
  { match: [{ uri: { prefix: /only }, withoutHeaders: { '@request.auth.claims[sub]': {} } }], directResponse: { status: 299 } }, { $V1 }]"; } >"$CONFIG"
serve ext "$EXT" "$PYTHON" -B "$E2E_ROOT/tests/e2e/ext_authz.py" "$EXT"
serve second "$SECOND" "$PYTHON" -B "$E2E_ROOT/tests/e2e/ext_authz.py" "$SECOND" x-second
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"
url=http://one.example:$GATE
out() { curl -sS -m 20 --resolve "one.example:$GATE:127.0.0.1" "$@" 2>&1; }
code() { out -o /dev/null -w '%{http_code}' "$@"; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); h = {n.lower(): v for n, v in t["headers"]}; print(eval(sys.argv[1]))' "$1"; }
name() { told "t['name']"; }
bearer() { out -H "Authorization: Bearer $(token "$1")" "${@:2}"; }

same without-token a "$(out $url/echo | name)"
same by-claim b "$(bearer ', "group": "admin"' $url/echo | name)"
same by-another-value a "$(bearer ', "group": "users"' $url/echo | name)"
same by-claim-in-a-list b "$(bearer ', "group": ["users", "admin"]' $url/echo | name)"
same by-nested-claim b "$(bearer ', "realm": {"roles": ["x", "ops-1"]}' $url/echo | name)"
same not-by-a-header a "$(out -H '@request.auth.claims.group: admin' -H 'group: admin' $url/echo | name)"
same bad-token 401 "$(code -H 'Authorization: Bearer x.y.z' $url/echo)"
same without-claim 299 "$(code $url/only/x)"
same with-claim 404 "$(bearer '' -o /dev/null -w '%{http_code}' $url/status/404)"
same token-stays-here None "$(bearer '' $url/echo | told "h.get('authorization')")"

apply < <(base && authn ', forwardOriginalToken: true, outputPayloadToHeader: x-payload, outputClaimToHeaders: [{ header: x-sub, claim: sub }]' && routes "[{ $V1 }]")
same claims-to-headers "me True True" "$(bearer '' -H 'x-sub: forged' $url/echo | told "' '.join([h.get('x-sub'), str('x-payload' in h), str('authorization' in h)])")"
same no-forged-claims None "$(out -H 'x-sub: forged' $url/echo | told "h.get('x-sub')")"

# Routes too see a token's claims in their headers, and not what a client writes there.
apply < <(base && authn ', outputClaimToHeaders: [{ header: x-sub, claim: sub }]' && routes "[{ match: [{ headers: { x-sub: { regex: 'me|admin' } } }], $V2 },
  { match: [{ uri: { prefix: /only }, withoutHeaders: { x-sub: {} } }], directResponse: { status: 299 } }, { $V1 }]")
same route-by-claim-header b "$(bearer '' $url/echo | name)"
same route-by-forged-claim a "$(out -H 'x-sub: admin' $url/echo | name)"
same route-by-forged-claim-h2 a "$(out --http2-prior-knowledge -H 'x-sub: admin' $url/echo | name)"
same route-without-forged-claim 299 "$(code -H 'x-sub: admin' $url/only/x)"
same route-by-claim-beside-a-forged-one b "$(bearer '' -H 'x-sub: x' $url/echo | name)"

# So do endpoints that are chosen by such a header: the claim's hash counts, and a client cannot choose one by writing it.
both() { printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: all, namespace: edge }\nspec: { host: origin.e2e.example, trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x-sub } } } }\n'; }
apply < <(base && both && authn ', outputClaimToHeaders: [{ header: x-sub, claim: sub }]' && routes '[{ route: [{ destination: { host: origin.e2e.example } }] }]')
hashed() { # hashed CURL-ARGUMENTS...: who answered 24 requests that write another x-sub each.
	local k
	for k in {1..24}; do out -H "x-sub: $k" "$@" $url/echo | name; done | sort -u | paste -sd' '
}
same hashed-by-claim 1 "$(hashed -H "Authorization: Bearer $(token '')" | wc -w)"
same hashed-by-nothing 'a b' "$(hashed)"

# Copies are as the gateway lets a request pass, and not as it came.
serve copy "$COPY" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_record.py" "$COPY" "$WORK/copy.json"
# copied N PATH EXPRESSION: over `h`, the headers of the copy with this path, and `t`, the copy; it is awaited.
copied() {
	wait_for 10 grep -q "\"path\": \"$1\"" "$WORK/copy.json" || { echo none && return; }
	"$PYTHON" -c 'import json, sys
t = [t for t in map(json.loads, open(sys.argv[1])) if t["path"] == sys.argv[2]][0]
h = t["headers"]
print(eval(sys.argv[3]))' "$WORK/copy.json" "$1" "$2"
}
MIRROR="$V1, mirror: { host: copy.e2e.example }"
apply < <(base && authn ', outputClaimToHeaders: [{ header: x-sub, claim: sub }]' && routes "[{ match: [{ uri: { prefix: /old/ } }], rewrite: { uri: /echo/, authority: two.example }, headers: { request: { add: { x-add: once } } }, $MIRROR }, { $MIRROR }]")
same mirrored 200 "$(code -H 'x-sub: forged' -H 'x-envoy-forged: 1' -H 'X-Forwarded-For: 10.1.1.1' -d body $url/echo/forged)"
same copy-of-forged 'None None 10.1.1.1, 127.0.0.1 http 4' "$(copied /echo/forged "' '.join(map(str, [h.get('x-sub'), h.get('x-envoy-forged'), h.get('x-forwarded-for'), h.get('x-forwarded-proto'), t['size']]))")"
same mirrored-with-token 200 "$(bearer '' -H 'x-sub: forged' -o /dev/null -w '%{http_code}' $url/old/token?q=1)"
same copy-with-token 'me None once two.example' "$(copied '/echo/token?q=1' "' '.join(map(str, [h.get('x-sub'), h.get('authorization'), h.get('x-add'), t['host']]))")"
same mirrored-h2 200 "$(bearer '' --http2-prior-knowledge -H 'x-sub: forged' -d body -o /dev/null -w '%{http_code}' $url/echo/h2)"
same copy-h2 "me None 4 one.example:$GATE" "$(copied /echo/h2 "' '.join(map(str, [h.get('x-sub'), h.get('authorization'), t['size'], t['host']]))")"

# A gateway's own policies see what its token says, and not what a client writes in its place.
apply < <(base && authn ', outputClaimToHeaders: [{ header: x-sub, claim: sub }]' && routes "[{ $V1 }]" && cat <<'END'
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: by-claim-header, namespace: edge }
spec: { selector: { matchLabels: { istio: ingressgateway } }, rules: [{ when: [{ key: 'request.headers[x-sub]', values: [me, admin] }] }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: not-by-claim-header, namespace: edge }
spec: { selector: { matchLabels: { istio: ingressgateway } }, action: DENY, rules: [{ when: [{ key: 'request.headers[x-sub]', values: [me] }], to: [{ operation: { paths: [/echo/not-me] } }] }] }
END
)
same policy-by-claim-header 200 "$(bearer '' -o /dev/null -w '%{http_code}' $url/echo)"
same policy-by-forged-claim 403 "$(code -H 'x-sub: admin' $url/echo)"
same policy-by-forged-claim-h2 403 "$(code --http2-prior-knowledge -H 'x-sub: admin' $url/echo)"
same policy-by-forged-claim-beside-a-token 403 "$(bearer '' -H 'x-sub: admin' -o /dev/null -w '%{http_code}' $url/echo/not-me)"

# --- an external authorizer ---

ask() { out -H "x-ext-authz: $1" "${@:2}"; }
apply < <(base && custom && routes "[{ match: [{ uri: { exact: /moved } }], redirect: { uri: /echo } }, { $V1 }]")
same gate-asks-allowed 'from-authorizer' "$(ask allow $url/echo | told "h.get('x-user')")"
same gate-asks-underscore "None from-authorizer" "$(ask allow -H 'X_User: forged' $url/echo | told "str(h.get('x_user')) + ' ' + h['x-user']")"
same gate-asks-denied 'denied by ext_authz 403' "$(ask deny -w ' %{http_code}' $url/echo | paste -sd' ' | tr -s ' ')"
same gate-asks-error 403 "$(ask error -o /dev/null -w '%{http_code}' $url/echo)"
same gate-asks-not 200 "$(code $url/status/200)"
same gate-asks-h2 '200 403' "$(ask allow --http2-prior-knowledge -o /dev/null -w '%{http_code}' $url/echo) $(ask deny --http2-prior-knowledge -o /dev/null -w '%{http_code}' $url/echo)"
# Whoever must be asked, and is not, is not answered either.
same gate-redirects-nobody-unasked 403 "$(ask allow -o /dev/null -w '%{http_code}' $url/moved)"
# Both the gateway's authorizer and the server's.
apply < <(base && custom && routes "[{ $V1 }]" && cat <<'END'
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: server, namespace: e2e }
spec: { selector: { matchLabels: { app: origin } }, action: CUSTOM, provider: { name: ext }, rules: [{ to: [{ operation: { paths: [/echo/both] } }] }] }
END
)
same both-allow 200 "$(ask allow -o /dev/null -w '%{http_code}' $url/echo/both)"
same both-were-asked 2 "$(grep -c 'GET /echo/both' "$WORK/ext.log")"

# Several of the gateway's own, in the order of their names; "ext" stands before "second".
apply < <(base && custom | sed 's|^extensionProviders: \[|&{ name: second, envoyExtAuthzHttp: { service: ext.e2e.example, port: 8001, includeRequestHeadersInCheck: [x-second, x-user], headersToUpstreamOnAllow: [x-ext-authz-asked] } }, |' &&
	routes "[{ $V1 }]" && cat <<'END'
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: second, namespace: edge }
spec: { selector: { matchLabels: { istio: ingressgateway } }, action: CUSTOM, provider: { name: second }, rules: [{ to: [{ operation: { paths: ["/echo*"] } }] }] }
END
)
two() { ask "$1" -H "x-second: $2" -o "$WORK/out" -w '%{http_code}' $url/echo/two; }
same gate-asks-two '200 403 403' "$(two allow allow) $(two deny allow) $(two allow deny)"
same gate-asks-one-after-the-other 'GET one.example:'"$GATE"' /echo/two content-length,host,x-second,x-user' "$(two allow allow >"$WORK/code" && told "h['x-ext-authz-asked']" <"$WORK/out")"

# --- clients that proxies before the gateway tell of ---

# trusting N: so many proxies; the gateway refuses clients of 10.1.0.0/16, the server takes those of 10.2.0.0/16 alone.
trusting() {
	printf -- '---\nkind: MeshConfig\ndefaultConfig: { gatewayTopology: { numTrustedProxies: %s } }\n' "$1"
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: not-from, namespace: edge }
spec: { action: DENY, rules: [{ from: [{ source: { remoteIpBlocks: [10.1.0.0/16] } }] }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-from, namespace: e2e }
spec: { selector: { matchLabels: { app: origin } }, rules: [{ when: [{ key: remote.ip, values: [10.2.0.0/16] }], from: [{ source: { ipBlocks: [127.0.0.0/8] } }] }] }
END
}
# from LIST...: the status for a request with these X-Forwarded-For.
from() {
	local list fields=()
	for list; do fields+=(-H "X-Forwarded-For: $list"); done
	code "${fields[@]}" $url/status/200
}
apply < <(base && trusting 2 && routes "[{ $V1 }]")
same remote-second 200 "$(from '10.2.0.1, 10.9.9.9')"
same remote-forged-before 200 "$(from '10.1.0.1, 10.2.0.1, 10.9.9.9')"
same remote-denied-at-gate 403 "$(from '10.2.0.1, 10.1.0.1, 10.9.9.9')"
same remote-denied-at-server 403 "$(from '10.2.0.1, 10.3.0.1, 10.9.9.9')"
same remote-two-fields 200 "$(from '10.1.0.1, 10.2.0.1' 10.9.9.9)"
same remote-too-few 403 "$(from 10.2.0.1)"
same remote-none 403 "$(from)"
same remote-no-address 403 "$(from 'unknown, 10.9.9.9')"
same remote-h2 200 "$(code --http2-prior-knowledge -H 'X-Forwarded-For: 10.2.0.1, 10.9.9.9' $url/status/200)"
same proto-stays "https 10.2.0.1, 10.9.9.9, 127.0.0.1" "$(out -H 'X-Forwarded-Proto: https' -H 'X-Forwarded-For: 10.2.0.1, 10.9.9.9' $url/echo | told "h['x-forwarded-proto'] + ' ' + h['x-forwarded-for']")"
apply < <(base && trusting 0 && routes "[{ $V1 }]")
same remote-untrusted 403 "$(from '10.2.0.1, 10.9.9.9')"
same remote-untrusted-deny 403 "$(from '10.1.0.1, 10.9.9.9')"
apply < <(base && routes "[{ $V1 }]")
same proto-ours http "$(out -H 'X-Forwarded-Proto: https' $url/echo | told "h['x-forwarded-proto']")"

# What a head is kept from saying no trailer says, whoever keeps it from that: the gateway, a route, a token, an authorizer.
behind() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/trailers.py" "$1" one.example "$GATE" "${@:2}"; }
FORGED=('X-Forwarded-For: 10.1.1.1' 'x_forwarded_for: 10.1.1.1' 'x-forwarded-proto: https' 'X-Envoy-Internal: true' 'x_envoy-internal: true')
for way in h1 h2; do
	same trailers-of-the-gateway-$way 'x-sum: 1 2' "$(behind $way /echo "${FORGED[@]}" 'x-sum: 1')"
done
apply < <(base && authn ', outputPayloadToHeader: x-payload, outputClaimToHeaders: [{ header: x-sub, claim: sub }], fromHeaders: [{ name: x-token }]' &&
	routes "[{ match: [{ uri: { prefix: /stream } }], headers: { response: { remove: [x-sum] } }, $V1 }, { headers: { request: { remove: [x-gone], set: { x-set: '1' }, add: { x-added: '1' } } }, $V1 }]")
for way in h1 h2; do
	same trailers-of-tokens-$way 'x-sum: 1 2' "$(behind $way /echo 'x-sub: admin' 'X_Sub: admin' 'x-payload: e30' 'x-token: x.y.z' 'x-sum: 1')"
	same trailers-of-routes-$way 'x-added: 2 x-sum: 1 2' "$(behind $way /echo 'X-Gone: 1' 'x-set: 2' 'x-added: 2' 'x-sum: 1')"
done
same trailers-of-answers none "$(behind h1 /stream/2)"
apply < <(base && custom && routes "[{ $V1 }]")
for way in h1 h2; do
	same trailers-of-authorizers-$way 'x-sum: 1 2' "$(behind $way /echo --head 'x-ext-authz: allow' 'X-User: admin' 'x_user: admin' 'x-sum: 1')"
done
apply < <(base && routes "[{ $MIRROR }]")
same trailers-of-mirrored 'x-sum: 1 2' "$(behind h1 /echo/trailers "${FORGED[@]}" 'x-sum: 1')"
same trailers-of-copies '[] 2' "$(copied /echo/trailers "str(t['trailers']) + ' ' + str(t['size'])")"

# To servers that hand fields over as variables (CGI, WSGI, PHP) an underscore is a dash.
same proto-with-underscores '[] http' "$(out -H 'X_Forwarded_For: 10.1.1.1' -H 'x-forwarded_proto: https' -H 'X_Envoy_Internal: true' -H 'x_Own: 1' $url/echo | told "str([n for n in h if '_' in n and n != 'x_own']) + ' ' + h['x-forwarded-proto']")"

# Of the gateway as a whole, and of no route.
server_options() { code -X OPTIONS --request-target '*' "$@" $url/; }
same options-of-the-server '404 404' "$(server_options) $(server_options --http2-prior-knowledge)"
