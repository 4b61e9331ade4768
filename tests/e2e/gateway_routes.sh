#!/bin/bash
# What Gateway API's conformance tests expect of routes, as tables of requests to a Gateway: which match wins, what filters do, which
# backends fail; GRPCRoute and TLSRoute likewise. Plain clients and servers.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }

for name in A B COPY GRPC TLS_A TLS_B HTTP CALLS PASS ENDS; do
	port && declare "$name=$PORT"
done
authority ca
issue ca host 'DNS:*.example'

ORIGIN='{ group: networking.istio.io, kind: Hostname, name: a.e2e.example, port: 80 }'
OTHER='{ group: networking.istio.io, kind: Hostname, name: b.e2e.example, port: 80 }'
# told NAME: a filter by which an answer names its rule.
told() { echo "{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-route, value: $1 }] } }"; }
# rule NAME MATCHES; does FILTER MATCH [BACKENDS]; to PATH BACKENDS: one rule.
rule() { echo "  - { matches: [$2], filters: [$(told "$1")], backendRefs: [$ORIGIN] }"; }
does() { echo "  - { matches: [{ path: { value: $2 } }], filters: [$1], backendRefs: [${3-$ORIGIN}] }"; }
to() { echo "  - { matches: [{ path: { value: $1 } }], backendRefs: [$2] }"; }
# route KIND METADATA SECTION HOSTNAMES: of a Gateway, rules from standard input.
route() {
	printf -- '---\napiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: { %s }\n' "$1" "$2"
	printf 'spec:\n  parentRefs: [{ name: web, namespace: edge, sectionName: %s }]\n  hostnames: [%s]\n  rules:\n' "$3" "$4"
	cat
}
# Services of two namespaces, for references over their border.
backend() {
	cat <<END
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: $1 }
spec: { ports: [{ port: 80, name: http }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web, namespace: $1, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: $B }]
endpoints: [{ addresses: [127.0.0.1] }]
END
}
redirect() { echo "{ type: RequestRedirect, requestRedirect: { $1 } }"; }
rewrite() { echo "{ type: URLRewrite, urlRewrite: { $1 } }"; }
headers() { echo "{ type: $1HeaderModifier, $2HeaderModifier: { $3 } }"; }
{
	ingress ingress edge 'gateway.networking.k8s.io/gateway-name: web'
	secret edge host
	cat <<END
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec:
  gatewayClassName: any
  listeners:
  - { name: http, port: $HTTP, protocol: HTTP }
  - { name: calls, port: $CALLS, protocol: HTTP }
  - { name: pass, port: $PASS, protocol: TLS, hostname: '*.example', tls: { mode: Passthrough } }
  - { name: ends, port: $ENDS, protocol: TLS, tls: { certificateRefs: [{ name: host }] } }
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: { name: edge, namespace: granting }
spec: { from: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: edge }], to: [{ group: "", kind: Service }] }
END
	entry a 240.9.12.1 http "$A" && entry b 240.9.12.2 http "$B" && entry copy 240.9.12.3 http "$COPY" && entry calls 240.9.12.4 grpc "$GRPC"
	entry tls-a 240.9.12.5 tls "$TLS_A" && entry tls-b 240.9.12.6 tls "$TLS_B"
	backend granting && backend silent
	{
		rule any '{ path: { value: / } }'
		rule header '{ path: { value: /status/200/h }, headers: [{ name: x-a, value: "1" }] }'
		rule headers '{ path: { value: /status/200/h }, headers: [{ name: x-a, value: "1" }, { name: x-b, value: "1" }] }'
		rule one-name '{ path: { value: /status/200/once }, headers: [{ name: x-a, value: "1" }, { name: X-A, value: "2" }] }'
		rule one-param '{ path: { value: /status/200/once }, queryParams: [{ name: q, value: "1" }, { name: q, value: "2" }] }'
		rule by-regex '{ path: { type: RegularExpression, value: "/status/200/r/[a-z]+" } }'
		rule below '{ path: { value: /status/200/p } }'
		rule longer '{ path: { value: /status/200/p/q/ } }'
		rule exact '{ path: { type: Exact, value: /status/200/p/q } }'
		rule query '{ path: { value: /status/200/q }, queryParams: [{ name: q, value: "1" }] }'
		rule queries '{ path: { value: /status/200/q }, queryParams: [{ name: q, value: "1" }, { name: p, type: RegularExpression, value: "[0-9]+" }] }'
		rule query-or-header '{ path: { value: /status/200/o }, queryParams: [{ name: q, value: "1" }, { name: p, value: "1" }] }'
		rule header-or-query '{ path: { value: /status/200/o }, headers: [{ name: x-a, value: "1" }] }'
		rule header-or-method '{ path: { value: /status/200/n }, headers: [{ name: x-a, value: "1" }, { name: x-b, value: "1" }] }'
		rule method-or-header '{ path: { value: /status/200/n }, method: PUT }'
		rule either '{ path: { type: Exact, value: /status/200/e1 } }, { path: { type: Exact, value: /status/200/e2 }, method: PUT }'
		rule younger '{ path: { value: /status/200/age } }'
		rule name-b '{ path: { value: /status/200/name } }'
	} | route HTTPRoute 'name: b, namespace: edge, creationTimestamp: "2026-01-02T00:00:00Z"' http match.example
	rule older '{ path: { value: /status/200/age } }' | route HTTPRoute 'name: c, namespace: edge, creationTimestamp: "2026-01-01T00:00:00Z"' http match.example
	rule name-a '{ path: { value: /status/200/name } }' | route HTTPRoute 'name: a, namespace: edge, creationTimestamp: "2026-01-02T00:00:00Z"' http match.example
	{
		to /echo/none '{ kind: Pod, name: web }'
		to /echo/missing '{ name: missing, port: 80 }'
		to /echo/port '{ group: networking.istio.io, kind: Hostname, name: a.e2e.example, port: 81 }'
		to /echo/granted '{ name: web, namespace: granting, port: 80 }'
		to /echo/silent '{ name: web, namespace: silent, port: 80 }'
		to /echo/zero "${ORIGIN% \}}, weight: 0 }, $OTHER"
		to /echo/zeros "${ORIGIN% \}}, weight: 0 }"
		to /echo/nowhere ''
		to /echo/parts "${ORIGIN% \}}, weight: 3 }, $OTHER"
		to /echo/part-none "$ORIGIN, { kind: Pod, name: web }"
		does "$(headers Request request 'set: [{ name: x-set, value: new }], add: [{ name: x-add, value: more }], remove: [x-gone]')" /echo/request
		does "$(headers Response response 'set: [{ name: x-old, value: new }], add: [{ name: x-add, value: more }], remove: [x-name]')" /echo/response
		does "$(redirect 'hostname: other.example')" /redirect/host ''
		does "$(redirect 'scheme: https')" /redirect/scheme ''
		does "$(redirect 'scheme: https, port: 8443')" /redirect/both ''
		does "$(redirect 'scheme: https, port: 443')" /redirect/own ''
		does "$(redirect 'port: 80')" /redirect/port-80 ''
		does "$(redirect 'port: 8080, statusCode: 301')" /redirect/port ''
		does "$(redirect 'path: { type: ReplaceFullPath, replaceFullPath: /whole }')" /redirect/full ''
		does "$(redirect 'path: { type: ReplacePrefixMatch, replacePrefixMatch: /new }, statusCode: 308')" /redirect/prefix ''
		does "$(redirect 'path: { type: ReplacePrefixMatch, replacePrefixMatch: / }')" /redirect/root ''
		does "$(rewrite 'hostname: one.example')" /echo/host
		does "$(rewrite 'path: { type: ReplaceFullPath, replaceFullPath: /echo/whole }')" /rewrite/full
		does "$(rewrite 'path: { type: ReplacePrefixMatch, replacePrefixMatch: /echo }')" /rewrite/prefix
		does "$(rewrite 'hostname: two.example, path: { type: ReplacePrefixMatch, replacePrefixMatch: / }')" /rewrite/root
		does "{ type: RequestMirror, requestMirror: { backendRef: { group: networking.istio.io, kind: Hostname, name: copy.e2e.example, port: 80 } } }" /echo/mirror
		echo "  - { matches: [{ path: { value: /slow/3001 } }], timeouts: { request: 100ms }, backendRefs: [$ORIGIN] }"
		echo "  - { matches: [{ path: { value: /slow/3002 } }], timeouts: { request: 30s, backendRequest: 100ms }, backendRefs: [$ORIGIN] }"
		echo "  - { matches: [{ path: { value: /slow/200 } }], timeouts: { request: 0s }, backendRefs: [$ORIGIN] }"
	} | route HTTPRoute 'name: filters, namespace: edge' http filters.example
	CALL='{ group: networking.istio.io, kind: Hostname, name: calls.e2e.example, port: 80 }'
	call() { echo "  - { ${2:+matches: [$2], }filters: [$(told "$1")], backendRefs: [${3-$CALL}] }"; }
	{
		call method '{ method: { service: test.Echo, method: Unary } }'
		call service '{ method: { service: test.Echo } }'
		call method-alone '{ method: { method: Alone } }'
		call by-regex '{ method: { type: RegularExpression, service: "test[.]Re.*", method: "[A-Z].*" } }'
		call header '{ headers: [{ name: x-a, value: "1" }] }'
		call method-and-header '{ method: { service: test.Echo, method: Unary }, headers: [{ name: x-a, value: "1" }] }'
		call two-headers '{ method: { service: test.Echo, method: Unary }, headers: [{ name: x-a, value: "1" }, { name: x-b, type: RegularExpression, value: "[0-9]+" }] }'
		call none '{ method: { service: test.None } }' '{ kind: Pod, name: web }'
		call nobody '{ method: { service: test.Nobody } }' ''
		echo "  - { matches: [{ method: { service: test.Echo, method: Down } }], filters: [$(headers Request request 'set: [{ name: x-tail, value: set }]'), $(told filtered)], backendRefs: [$CALL] }"
	} | route GRPCRoute 'name: calls, namespace: edge' calls ''
	for name in a b; do
		printf '  - { backendRefs: [{ group: networking.istio.io, kind: Hostname, name: tls-%s.e2e.example, port: 80 }] }\n' $name |
			route TLSRoute "name: tls-$name, namespace: edge" pass "$([ $name = a ] && echo one.example || echo '"*.example"')" |
			sed 's|k8s.io/v1$|k8s.io/v1alpha2|'
	done
	# Where TLS ends here: the TLSRoute that fits best, whatever comes first, then the TCPRoute.
	echo "  - { backendRefs: [$OTHER] }" | route TLSRoute 'name: ends-b, namespace: edge' ends '"*.ends.example"'
	echo "  - { backendRefs: [$ORIGIN] }" | route TLSRoute 'name: ends-a, namespace: edge' ends one.ends.example
	echo "  - { backendRefs: [{ kind: Pod, name: web }] }" | route TLSRoute 'name: ends-none, namespace: edge' ends none.ends.example
	echo "  - { backendRefs: [$ORIGIN] }" | route TCPRoute 'name: ends, namespace: edge' ends '' | sed '/hostnames/d'
} >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
serve a "$A" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
serve b "$B" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
serve copy "$COPY" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_record.py" "$COPY" "$WORK/copy.json"
for name in a b; do
	to=TLS_${name^}
	serve tls-$name "${!to}" "$PYTHON" -B "$E2E_ROOT/tests/e2e/sni_part.py" serve $name "${!to}" "$WORK/host.crt" "$WORK/host.key"
done
wait_for 10 listening "$PASS" || die gateway-opens "$(tail -n 5 "$WORK/flatd.log")"

# ask HOST METHOD PATH HEADERS (with commas between, -: none) WANTED-BY-CURL
ask() {
	local header args=()
	for header in ${4//,/ }; do [ "$header" = - ] || args+=(-H "${header/:/: }"); done
	curl -sS -m 20 -o "$WORK/got" -w "$5" -X "$2" -H "Host: $1" "${args[@]}" "http://127.0.0.1:$HTTP$3"
}
while read -r name method path headers wanted; do
	same "$name" "$wanted" "$(ask match.example "$method" "$path" "$headers" '%{http_code} %header{x-route}')"
done <<'END'
any                     GET  /status/200              -             200 any
exact                   GET  /status/200/p/q          -             200 exact
exact-not-below         GET  /status/200/p/q/         -             200 longer
longest-prefix          GET  /status/200/p/q/r        -             200 longer
whole-segments          GET  /status/200/p/qr         -             200 below
whole-segments-2        GET  /status/200/px           -             200 any
prefix-itself           GET  /status/200/p            -             200 below
query-is-no-path        GET  /status/200/p/q?x=/y     -             200 exact
in-its-case             GET  /status/200/P/q          -             200 any
prefix-over-regex       GET  /status/200/r/abc        -             200 any
header                  GET  /status/200/h            x-a:1         200 header
header-name-in-any-case GET  /status/200/h            X-A:1         200 header
header-of-other-value   GET  /status/200/h            x-a:2         200 any
more-headers            GET  /status/200/h            x-a:1,x-b:1   200 headers
first-of-a-name         GET  /status/200/once         x-a:1         200 one-name
second-of-a-name        GET  /status/200/once         x-a:2         200 any
first-of-a-param        GET  /status/200/once?q=1     -             200 one-param
query                   GET  /status/200/q?q=1        -             200 query
query-absent            GET  /status/200/q?q          -             200 any
more-queries            GET  /status/200/q?p=7&q=1    -             200 queries
query-regex-of-whole    GET  /status/200/q?p=7x&q=1   -             200 query
headers-over-queries    GET  /status/200/o?q=1&p=1    x-a:1         200 header-or-query
queries-without-header  GET  /status/200/o?q=1&p=1    -             200 query-or-header
method-over-headers     PUT  /status/200/n            x-a:1,x-b:1   200 method-or-header
headers-without-method  GET  /status/200/n            x-a:1,x-b:1   200 header-or-method
either                  GET  /status/200/e1           -             200 either
either-other            PUT  /status/200/e2           -             200 either
either-not-half         GET  /status/200/e2           -             200 any
older                   GET  /status/200/age          -             200 older
by-name                 GET  /status/200/name         -             200 name-a
END
while read -r name path wanted; do
	same "$name" "$wanted" "$(ask filters.example GET "$path" - '%{http_code} %header{x-name} %{redirect_url}' | sed "s/ *$//; s/  / /; s/:$HTTP/:PORT/")"
done <<'END'
no-kind            /echo/none                 500
no-service         /echo/missing              500
no-port            /echo/port                 500
granted            /echo/granted              200 b
not-granted        /echo/silent               500
weight-0           /echo/zero                 200 b
weights-0          /echo/zeros                500
no-backends        /echo/nowhere              500
no-rule            /                          404
redirect-host      /redirect/host?q=1         302 http://other.example:PORT/redirect/host?q=1
redirect-scheme    /redirect/scheme           302 https://filters.example/redirect/scheme
redirect-both      /redirect/both             302 https://filters.example:8443/redirect/both
redirect-own-port  /redirect/own              302 https://filters.example/redirect/own
redirect-port-80   /redirect/port-80          302 http://filters.example/redirect/port-80
redirect-port      /redirect/port             301 http://filters.example:8080/redirect/port
redirect-full      /redirect/full/x?q=1       302 http://filters.example:PORT/whole?q=1
redirect-prefix    /redirect/prefix/x         308 http://filters.example:PORT/new/x
redirect-prefix-it /redirect/prefix           308 http://filters.example:PORT/new
redirect-root      /redirect/root/x           302 http://filters.example:PORT/x
redirect-root-it   /redirect/root             302 http://filters.example:PORT/
request-timeout    /slow/3001                 504
backend-timeout    /slow/3002                 504
no-timeout         /slow/200                  200 a
END
parts() { for i in 1 2 3 4 5 6 7 8; do ask filters.example GET "$1" - '%{http_code}%header{x-name}\n'; done | sort | uniq -c | awk '{ print $1, $2 }' | paste -sd' '; }
same weights '6 200a 2 200b' "$(parts /echo/parts)"
same part-of-no-kind '4 200a 4 500' "$(parts /echo/part-none)"
# seen PATH EXPRESSION: over `t`, what the server got, and `h`, its headers.
seen() {
	ask filters.example GET "$1" x-set:old,x-gone:1 '' && "$PYTHON" -c \
		'import json, sys; t = json.load(open(sys.argv[1])); h = {n.lower(): v for n, v in t["headers"]}; print(eval(sys.argv[2]))' "$WORK/got" "$2"
}
same request-headers 'new more False' "$(seen /echo/request "h['x-set'], h['x-add'], 'x-gone' in h" | tr -d "',()")"
same response-headers 'new more ' "$(ask filters.example GET /echo/response - '%header{x-old} %header{x-add} %header{x-name}')"
same rewrite-host 'one.example /echo/host/x?q=1' "$(seen '/echo/host/x?q=1' "h['host'] + ' ' + t['path']")"
same rewrite-full '/echo/whole?q=1' "$(seen '/rewrite/full/x?q=1' "t['path']")"
same rewrite-prefix '/echo/x?q=1' "$(seen '/rewrite/prefix/x?q=1' "t['path']")"
same rewrite-prefix-itself /echo "$(seen /rewrite/prefix "t['path']")"
same rewrite-root 'two.example /x' "$(seen /rewrite/root/x "h['host'] + ' ' + t['path']")"
same mirrored-answer '200 a' "$(ask filters.example GET /echo/mirror/1 - '%{http_code} %header{x-name}')"
holds mirrored wait_for 10 grep -q '/echo/mirror/1' "$WORK/copy.json"

same tls-exact 'a one.example' "$("$PYTHON" -B "$E2E_ROOT/tests/e2e/sni_part.py" ask 127.0.0.1 "$PASS" one.example)"
same tls-wildcard 'b two.example' "$("$PYTHON" -B "$E2E_ROOT/tests/e2e/sni_part.py" ask 127.0.0.1 "$PASS" two.example)"
same tls-no-listener cut "$("$PYTHON" -B "$E2E_ROOT/tests/e2e/sni_part.py" ask 127.0.0.1 "$PASS" one.other)"

ends() { curl -sSk -m 20 -o /dev/null -w '%header{x-name}' --resolve "$1:$ENDS:127.0.0.1" "https://$1:$ENDS/echo" 2>/dev/null || echo cut; }
same tls-ends-exact a "$(ends one.ends.example)"
same tls-ends-wildcard b "$(ends two.ends.example)"
same tls-ends-nowhere cut "$(ends none.ends.example)"
same tls-ends-else-tcp a "$(ends one.example)"

serve calls "$GRPC" "$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_server.py" "$GRPC" calls
while read -r name path meta wanted; do
	echo "$name $path $meta" >>"$WORK/calls" && echo "$name $wanted" >>"$WORK/wanted"
done <<'END'
call-method             /test.Echo/Unary     -            OK method
call-service            /test.Echo/Other     -            UNIMPLEMENTED service
call-service-whole      /test.EchoMore/Unary -            UNIMPLEMENTED -
call-method-alone       /any.Thing/Alone     -            UNIMPLEMENTED method-alone
call-regex              /test.Regex/Get      -            UNIMPLEMENTED by-regex
call-regex-of-whole     /test.Regex/get      -            UNIMPLEMENTED -
call-header             /any.Thing/Other     x-a=1        UNIMPLEMENTED header
call-method-over-header /test.Echo/Unary     x-a=2        OK method
call-method-and-header  /test.Echo/Unary     x-a=1        OK method-and-header
call-two-headers        /test.Echo/Unary     x-a=1,x-b=22 OK two-headers
call-filters            /test.Echo/Down      -            OK filtered
call-no-kind            /test.None/Get       -            UNAVAILABLE -
call-no-backends        /test.Nobody/Get     -            UNAVAILABLE -
END
"$PYTHON" -B "$E2E_ROOT/tests/e2e/grpc_part.py" "127.0.0.1:$CALLS" table <"$WORK/calls" >"$WORK/answered"
while read -r name wanted; do
	same "$name" "$wanted" "$(sed -n "s/^$name //p" "$WORK/answered")"
done <"$WORK/wanted"
