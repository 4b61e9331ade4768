#!/bin/bash
# VirtualService, DestinationRule and AuthorizationPolicy over HTTP, after Istio's documentation tasks: request routing,
# traffic shifting, fault injection, timeouts, retries, HTTP authorization. Unmodified curl under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
port && DEAD=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(command -v curl)" "$WORK/shop-curl"
cp "$(command -v curl)" "$WORK/guest-curl"

base() {
	workload origin "$WORK/origin-python"
	workload shop "$WORK/shop-curl"
	workload guest "$WORK/guest-curl"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  addresses: [240.9.9.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
  - { address: 127.0.0.1, ports: { http: $A }, labels: { version: v1 } }
  - { address: 127.0.0.1, ports: { http: $B }, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: mixed, namespace: e2e }
spec:
  hosts: [mixed.e2e.example]
  addresses: [240.9.9.2]
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
  - { address: 127.0.0.1, ports: { http: $DEAD }, labels: { version: dead } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: raw, namespace: e2e }
spec:
  hosts: [raw.e2e.example]
  addresses: [240.9.9.3]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: tcp, protocol: TCP }]
  endpoints: [{ address: 127.0.0.1, ports: { tcp: $A } }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: origin, namespace: e2e }
spec:
  host: origin.e2e.example
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
END
}
# routes SPEC: a VirtualService of the origin with these http routes (flow style).
routes() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: origin, namespace: e2e }\n'
	printf 'spec: { hosts: [origin.e2e.example, public.example], http: %s }\n' "$1"
}
# policy NAME SPEC
policy() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: %s, namespace: e2e }\n' "$1"
	printf 'spec: { selector: { matchLabels: { app: origin } }, %s }\n' "$2"
}
# apply: the configuration on standard input is in force when it returns.
V1='route: [{ destination: { host: origin.e2e.example, subset: v1 } }]'
V2='route: [{ destination: { host: origin.e2e.example, subset: v2 } }]'
ANY='route: [{ destination: { host: origin.e2e.example } }]'

{ base && routes "[{ $V1 }]"; } >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"
url=http://origin.e2e.example
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
guest() { over "$WORK/guest-curl" -sS -m 20 "$@" 2>&1; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
name() { told "t['name']"; }
code() { "$1" -o /dev/null -w '%{http_code}' "${@:2}"; }
header() { tr -d '\r' | sed -n "s/^$1: //pI"; }

# --- request routing ---

apply < <(base && routes "[{ match: [{ headers: { end-user: { exact: jason } } }], $V2 },
  { match: [{ uri: { regex: '/item/[0-9]+' } }], $V2 }, { match: [{ queryParams: { beta: { exact: '1' } } }], $V2 },
  { match: [{ method: { exact: PUT } }], $V2 }, { match: [{ sourceLabels: { app: guest } }], $V2 },
  { match: [{ uri: { prefix: /none }, withoutHeaders: { x-ok: {} } }], directResponse: { status: 404 } }, { $V1 }]")
same by-default a "$(shop $url/echo | name)"
same by-header b "$(shop -H 'end-user: jason' $url/echo | name)"
same by-header-other a "$(shop -H 'end-user: jim' $url/echo | name)"
same by-regex b "$(shop $url/item/42 | name)"
same by-regex-other a "$(shop $url/item/x | name)"
same by-query b "$(shop "$url/echo?a=b&beta=1" | name)"
same by-method b "$(shop -X PUT $url/echo | name)"
same by-source b "$(guest $url/echo | name)"
same without-header 404 "$(code shop $url/none)"
same with-header 200 "$(code shop -H 'x-ok: 1' $url/none)"
same host-says-which a "$(shop -H 'Host: origin.e2e.example' http://240.9.9.1/echo | name)"
apply < <(base && routes "[{ match: [{ uri: { exact: /a } }], $V1 }]")
same no-route 404 "$(code shop $url/b)"

# --- traffic shifting ---

apply < <(base && routes "[{ route: [{ destination: { host: origin.e2e.example, subset: v1 }, weight: 80 },
  { destination: { host: origin.e2e.example, subset: v2 }, weight: 20 }] }]")
names() { grep -oE '"name": "[ab]"' | sort | uniq -c | awk '{ print $1 }' | paste -sd' '; }
same weights-one-connection '80 20' "$(shop "$url/echo?n=[1-100]" | names)"
same weights-connections '8 2' "$(for _ in 1 2 3 4 5 6 7 8 9 10; do shop $url/echo; done | names)"

# --- what a route changes ---

apply < <(base && routes "[{ match: [{ uri: { prefix: /api/ } }], rewrite: { uri: /echo/, authority: inner.example },
  headers: { request: { set: { x-set: new }, add: { x-add: more }, remove: [x-gone] }, response: { set: { x-old: '2' }, add: { x-new: '1' } } }, $V1 },
  { match: [{ uri: { prefix: /old } }], redirect: { uri: /new, authority: other.example, redirectCode: 302 } },
  { match: [{ uri: { exact: /teapot } }], directResponse: { status: 418, body: { string: short } } },
  { corsPolicy: { allowOrigins: [{ exact: 'http://a.example' }], allowMethods: [GET, PUT], maxAge: 60s }, $V1 }]")
OUT=$(shop -i -H 'x-set: old' -H 'x-add: one' -H 'x-gone: 1' "$url/api/x?q=1" | tr -d '\r')
BODY=$(sed '1,/^$/d' <<<"$OUT")
same rewrite-path '/echo/x?q=1' "$(told "t['path']" <<<"$BODY")"
same rewrite-authority inner.example "$(told "dict(t['headers'])['Host']" <<<"$BODY")"
same headers-request "['new', 'one', 'more'] False" \
	"$(told "str([v for k in ('x-set', 'x-add') for n, v in t['headers'] if n.lower() == k]) + ' ' + str('x-gone' in dict(t['headers']))" <<<"$BODY")"
same headers-response '2 1' "$(header x-old <<<"$OUT") $(header x-new <<<"$OUT")"
same redirect '302 http://other.example/new' "$(shop -o /dev/null -w '%{http_code} %{redirect_url}' $url/old/x)"
same direct-response 'short 418' "$(shop -w ' %{http_code}' $url/teapot)"
same preflight 'GET,PUT http://a.example 60' "$(shop -i -X OPTIONS -H 'Origin: http://a.example' -H 'Access-Control-Request-Method: PUT' $url/x |
	tr -d '\r' | grep -i '^access-control' | sort | sed 's/^[^ ]* //' | paste -sd' ')"
same cors http://a.example "$(shop -i -H 'Origin: http://a.example' $url/status/200 | header access-control-allow-origin)"
same cors-other 0 "$(shop -i -H 'Origin: http://b.example' $url/status/200 | grep -ci access-control)"

apply < <(base && routes "[{ match: [{ uri: { prefix: /pre } }], rewrite: { uri: / }, $V1 },
  { match: [{ uri: { regex: '/re/.*' } }], rewrite: { uri: /whole }, $V1 },
  { match: [{ uri: { prefix: /groups } }], rewrite: { uriRegexRewrite: { match: '^/groups/([^/]+)(/.*)$', rewrite: '\\2/of/\\1' } }, $V1 },
  { match: [{ uri: { prefix: /r/port } }], redirect: { port: 8080 } }, { match: [{ uri: { prefix: /r/derive } }], redirect: { derivePort: FROM_REQUEST_PORT, authority: o.example } },
  { match: [{ uri: { prefix: /r/tls } }], redirect: { scheme: https, uri: '/in?a=b', redirectCode: 308 } },
  { match: [{ uri: { prefix: /vars } }], headers: { request: { set: { x-a: '%REQ(x-in)% 100%% %PROTOCOL%', x-b: '%REQ(x-none)%', host: set.example } },
    response: { set: { x-status: '%RESPONSE_CODE%' } } }, rewrite: { uri: /echo }, $V1 },
  { match: [{ uri: { prefix: /levels } }], rewrite: { uri: /echo }, headers: { request: { remove: [x-a], add: { x-a: route }, set: { x-b: route } } },
    route: [{ destination: { host: origin.e2e.example, subset: v1 }, headers: { request: { set: { x-a: dest, x-b: dest, x-c: dest, host: dest.example } } } }] },
  { rewrite: { uri: /any }, $V1 }]")
path() { shop "$@" | told "t['path']"; }
same rewrite-to-root /x "$(path "$url/pre/x")"
same rewrite-to-root-alone / "$(path "$url/pre")"
same rewrite-literally /anyother "$(path "$url/other")"
same rewrite-of-a-regex '/whole?q' "$(path "$url/re/x?q")"
same rewrite-by-groups '/b/c/of/a?q' "$(path "$url/groups/a/b/c?q")"
same rewrite-without-groups /groups "$(path "$url/groups")"
location() { shop -o /dev/null -w '%{http_code} %{redirect_url}' "$@"; }
same redirect-port '301 http://origin.e2e.example:8080/r/port?q' "$(location "$url/r/port?q")"
same redirect-derived-port '301 http://o.example/r/derive' "$(location "$url/r/derive")"
same redirect-scheme-and-query '308 https://origin.e2e.example/in?a=b' "$(location -H 'Host: origin.e2e.example:80' "$url/r/tls?q")"
OUT=$(shop -i -H 'x-in: one' "$url/vars" | tr -d '\r')
same headers-variables 'one 100% HTTP/1.1,-,set.example' "$(sed '1,/^$/d' <<<"$OUT" | told "','.join(v for k in ('x-a', 'x-b', 'host') for n, v in t['headers'] if n.lower() == k)")"
same headers-variables-response 200 "$(header x-status <<<"$OUT")"
same headers-of-both-levels 'dest,route,dest,dest,dest.example' "$(shop -H 'x-a: client' "$url/levels" | told "','.join(v for k in ('x-a', 'x-b', 'x-c', 'host') for n, v in t['headers'] if n.lower() == k)")"
apply < <(base && routes "[{ corsPolicy: { allowOrigins: [{ exact: 'http://a.example' }], unmatchedPreflights: IGNORE, exposeHeaders: [x-old] }, $V1 }]")
preflight() { shop -i -X OPTIONS -H "Origin: $1" -H 'Access-Control-Request-Method: PUT' $url/echo | tr -d '\r'; }
same preflight-unmatched '0 0' "$(preflight http://b.example | grep -ci '^access-control') $(preflight http://b.example | grep -c '"name"')"
same preflight-matched 1 "$(preflight http://a.example | grep -ci '^access-control-allow-origin: http://a.example$')"

# --- faults, timeouts, retries ---

apply < <(base && routes "[{ match: [{ uri: { prefix: /abort } }], fault: { abort: { httpStatus: 555, percentage: { value: 100 } } }, $V1 },
  { match: [{ uri: { prefix: /delay } }], fault: { delay: { fixedDelay: 300ms, percentage: { value: 100 } } }, rewrite: { uri: /echo }, $V1 },
  { match: [{ uri: { prefix: /some } }], fault: { abort: { httpStatus: 555, percentage: { value: 50 } } }, rewrite: { uri: /echo }, $V1 },
  { match: [{ uri: { exact: /slow/10 } }], timeout: 15s, $V1 }, { match: [{ uri: { prefix: /slow } }], timeout: 200ms, $V1 },
  { match: [{ uri: { prefix: /flaky } }], retries: { attempts: 3, retryOn: gateway-error }, $V1 },
  { match: [{ uri: { prefix: /close } }], retries: { attempts: 2, retryOn: reset }, $V1 },
  { match: [{ uri: { prefix: /dead } }], route: [{ destination: { host: mixed.e2e.example } }] },
  { match: [{ uri: { prefix: /lost } }], route: [{ destination: { host: nobody.e2e.example } }] }, { $ANY }]")
same fault-abort 'fault filter abort 555' "$(shop -w ' %{http_code}' $url/abort)"
slow() { shop -o /dev/null -w '%{http_code} %{time_total}' "$1" | awk '{ print $1, ($2 >= '"$2"') }'; }
same fault-delay '200 1' "$(slow $url/delay 0.3)"
COUNT=$(shop -o /dev/null -w '%{http_code}\n' "$url/some?n=[1-200]" | grep -c 555)
# Seven standard deviations of 200 draws at a half are 49.
holds "fault-percentage ($COUNT of 200)" test "$COUNT" -ge 51 -a "$COUNT" -le 149
same timeout '504 1' "$(slow $url/slow/5000 0.2)"
same timeout-not-met 200 "$(code shop $url/slow/10)"
same retries 200 "$(code shop $url/flaky/one/2)"
same retries-used-up 503 "$(code shop $url/flaky/two/9)"
same retries-with-body 200 "$(code shop -d a=b $url/flaky/three/1)"
same retries-reset 503 "$(code shop $url/close)"
same dead 503 "$(code shop $url/dead)"
same no-service 503 "$(code shop $url/lost)"

# --- authorization of requests ---

apply < <(base && routes "[{ $V1 }]" && policy allow 'rules: [{ from: [{ source: { principals: [cluster.local/ns/e2e/sa/shop] } }], to: [{ operation: { methods: [GET], paths: ["/echo*", "/item/{*}"] } }] },
  { to: [{ operation: { hosts: [public.example] } }] }, { when: [{ key: "request.headers[x-token]", values: [admin] }] }]')
same allow-get 200 "$(code shop $url/echo)"
same allow-template 200 "$(code shop $url/item/1)"
same deny-method 403 "$(code shop -d a=b $url/echo)"
same deny-path 403 "$(code shop $url/status/200)"
same deny-principal 403 "$(code guest $url/echo)"
same denied-as-istio 'RBAC: access denied' "$(guest $url/echo)"
same allow-host 200 "$(code guest -H 'Host: public.example' $url/echo)"
same allow-header 200 "$(code guest -H 'x-token: admin' $url/echo)"
same deny-header-twice 403 "$(code guest -H 'x-token: admin' -H 'x-token: guest' $url/echo)"
same keeps-the-connection 1 "$(guest -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects}\n' $url/echo $url/echo $url/echo | awk '{ n += $1 } END { print n }')"
same plain-client 403 "$(curl -sS -m 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$A/echo")"
same plain-client-by-header 200 "$(curl -sS -m 20 -o /dev/null -w '%{http_code}' -H 'x-token: admin' "http://127.0.0.1:$A/echo")"
same by-its-own-address 403 "$(code guest "http://127.0.0.1:$A/echo")"
# The same server by a port that is not HTTP: nothing can be allowed there.
OUT=$(shop http://raw.e2e.example/echo)
holds by-a-tcp-port grep -qE "Permission denied|[Cc]ould not connect|Failed to connect|Couldn.t connect" <(echo "$OUT")

apply < <(base && policy deny 'action: DENY, rules: [{ to: [{ operation: { paths: ["/admin*"] } }] }]' && routes "[{ match: [{ uri: { prefix: /public } }], rewrite: { uri: /admin }, $V1 }, { $ANY }]")
i=0
for path in /admin /admin/x //admin /./admin /x/../admin /%61dmin /%2e/admin /x/%2E%2e/admin '/admin?x' /public; do
	i=$((i + 1))
	same "deny-path-$i" 403 "$(code shop --path-as-is "$url$path")"
done
for path in '/admin%2fx' '/x/..%2fadmin' '/x/..\admin' '/admin;x' '/%c0%ae/admin'; do
	i=$((i + 1))
	same "refuse-path-$i" 400 "$(code shop --path-as-is "$url$path")"
done
same deny-leaves-others 200 "$(code shop $url/echo)"
OUT=$(flatctl --control "$CONTROL" why "GET $url/x/../admin" --from e2e/shop)
holds why-denied grep -q 'denied, answered 403' <<<"$OUT"
holds why-names-the-rule grep -qE 'rule 0 of DENY policy e2e/deny \(.*mesh.yaml:[0-9]+\)' <<<"$OUT"
same why-allowed True "$(flatctl --control "$CONTROL" --json why "GET $url/echo" --from e2e/shop | told "t['allowed']")"
same routes-listed 2 "$(flatctl --control "$CONTROL" --json routes | told "len(t['virtual_services'][0]['routes'])")"

# --- what is told of it ---

holds access-log wait_for 10 grep -qE '^\[[0-9TZ:.-]+\] "GET /admin HTTP/1.1" 403 - 0 19 [0-9]+ - "-" "curl/[0-9.]+" "-" "origin.e2e.example" "127.0.0.1:[0-9]+"$' "$WORK/access.log"
code shop -A 'a"b\c' "$url/echo?quoted" >/dev/null
holds access-log-quotes wait_for 10 grep -qF '"GET /echo?quoted HTTP/1.1" 200 ' "$WORK/access.log"
holds access-log-escapes wait_for 10 grep -qF ' "-" "a\"b\\c" "-" ' "$WORK/access.log"
holds access-log-flags wait_for 10 grep -qE '"GET /slow/5000 HTTP/1.1" 504 UT ' "$WORK/access.log"
metric() { curl -sS -m 10 "http://127.0.0.1:$METRICS/metrics" | grep "^$1" | grep -c "$2"; }
holds metrics-requests test "$(metric istio_requests_total 'reporter="source",source_workload="shop".*destination_workload="origin".*response_code="403"')" -ge 1
holds metrics-sizes test "$(metric istio_request_bytes_count 'reporter="destination",source_workload="guest"')" = "$(metric istio_requests_total 'reporter="destination",source_workload="guest"')"
holds metrics-size-of-response test "$(metric istio_response_bytes_sum 'reporter="source",source_workload="shop".*response_code="200".*} [1-9]')" -ge 1
holds metrics-principals test "$(metric istio_requests_total 'source_principal="spiffe://cluster.local/ns/e2e/sa/shop".*destination_principal="spiffe://cluster.local/ns/e2e/sa/origin"')" -ge 1
OUT=$(flatctl --control "$CONTROL" top --http --once)
holds top-http grep -qE '^origin.e2e.example +line [0-9]+ +[1-9][0-9]* +0 +[0-9.]+ +[0-9.]+ +[0-9.]+$' <<<"$OUT"
same top-http-json True "$(flatctl --control "$CONTROL" --json top --http | "$PYTHON" -c 'import json, sys
r = json.load(sys.stdin)["routes"]
print(all(t["requests"] == sum(t["buckets"][1::2]) >= t["errors"] for t in r) and any(t["errors"] for t in r))')"
holds metrics-duration test "$(metric istio_request_duration_milliseconds_bucket 'source_workload="guest".*le="+Inf"')" -ge 1

# --- paths that are spelt otherwise ---

normal() { printf -- '---\nkind: MeshConfig\npathNormalization: { normalization: %s }\n' "$1"; }
DENY_ADMIN='action: DENY, rules: [{ to: [{ operation: { paths: [/echo/admin] } }] }]'
apply < <(base && routes "[{ $V1 }]" && policy deny "$DENY_ADMIN" && normal MERGE_SLASHES)
same slashes-are-merged 403 "$(code shop --path-as-is $url/echo//admin)"
same encoded-slashes-are-refused 400 "$(code shop --path-as-is $url/echo%2Fadmin)"
apply < <(base && routes "[{ $V1 }]" && policy deny "$DENY_ADMIN" && normal DECODE_AND_MERGE_SLASHES)
same encoded-slashes-are-slashes 403 "$(code shop --path-as-is $url/echo%2F%5Cadmin)"
same and-are-sent-as-slashes /echo/a/b "$(shop --path-as-is "$url/echo%2fa%5cb" | told "t['path']")"
