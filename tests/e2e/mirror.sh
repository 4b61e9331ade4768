#!/bin/bash
# Mirrors: VirtualService mirror, mirrors, mirrorPercentage; HTTPRoute RequestMirror. Unmodified curl under flat-run, over
# HTTP/1 and HTTP/2; the mirrors' servers note what they get.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
port && C=$PORT
port && DEAD=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(readlink -f "$PYTHON")" "$WORK/copy-python"
cp "$(command -v curl)" "$WORK/shop-curl"

base() {
	workload origin "$WORK/origin-python" && workload copy "$WORK/copy-python" && workload shop "$WORK/shop-curl"
	entry origin 240.9.9.1 http "$A" && entry copy 240.9.9.2 http "$B" && entry more 240.9.9.3 http "$C" && entry dead 240.9.9.4 http "$DEAD"
}
# routes SPEC: a VirtualService of the origin whose one http route has this beside its destination.
routes() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: origin, namespace: e2e }\n'
	printf 'spec: { hosts: [origin.e2e.example], http: [{ route: [{ destination: { host: origin.e2e.example } }], %s }] }\n' "$1"
}

base >"$CONFIG"
start_flatd
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start copy over "$WORK/copy-python" -B "$E2E_ROOT/tests/e2e/http_record.py" "$B" "$WORK/copy.json"
start more over "$WORK/copy-python" -B "$E2E_ROOT/tests/e2e/http_record.py" "$C" "$WORK/more.json"
listeners() { [ "$(state "len(s['listeners'])")" -ge 3 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/*.log | tail -n 3)"
url=http://origin.e2e.example
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
lines() { [ "$(cat "$WORK/$1.json" 2>/dev/null | wc -l)" -ge "$2" ]; }
fresh() { rm -f "$WORK/copy.json" "$WORK/more.json"; }
# noted FILE N EXPRESSION: over `t`, the N requests noted so far, which are awaited.
noted() {
	wait_for 10 lines "$1" "$2" || { echo "only $(cat "$WORK/$1.json" 2>/dev/null | wc -l) of $2" && return; }
	"$PYTHON" -c 'import json, sys; t = [json.loads(l) for l in open(sys.argv[1])]; print(eval(sys.argv[2]))' "$WORK/$1.json" "$3"
}

apply < <(base && routes "mirror: { host: copy.e2e.example }, rewrite: { uri: /echo/ }, headers: { request: { set: { x-set: one } } }")
same answered-by-origin a "$(shop -H 'x-own: 7' "$url/old?q=1" | sed 's/.*"name": "\([a-z]*\)".*/\1/')"
same copied "GET /echo/old?q=1 origin.e2e.example one 7" \
	"$(noted copy 1 "' '.join([t[0]['method'], t[0]['path'], t[0]['host'], t[0]['headers']['x-set'], t[0]['headers']['x-own']])")"
fresh
same host-with-port 200 "$(shop -o /dev/null -w '%{http_code}' "$url:80/echo" -H 'Host: origin.e2e.example:80')"
same host-with-port-copied origin.e2e.example:80 "$(noted copy 1 "t[0]['host']")"
fresh
head -c 50000 /dev/urandom >"$WORK/body"
same post 200 "$(shop -o /dev/null -w '%{http_code}' --data-binary "@$WORK/body" $url/echo)"
same post-copied "50000 $(hash_of <"$WORK/body")" "$(noted copy 1 "str(t[0]['size']) + ' ' + t[0]['sha256']")"
fresh
same chunked 200 "$(shop -o /dev/null -w '%{http_code}' -H 'Transfer-Encoding: chunked' --data-binary "@$WORK/body" $url/echo)"
same chunked-copied "50000 $(hash_of <"$WORK/body")" "$(noted copy 1 "str(t[0]['size']) + ' ' + t[0]['sha256']")"
fresh
same h2-post 200 "$(shop --http2-prior-knowledge -o /dev/null -w '%{http_code}' --data-binary "@$WORK/body" $url/echo)"
same h2-copied "origin.e2e.example 50000 $(hash_of <"$WORK/body")" \
	"$(noted copy 1 "t[0]['host'] + ' ' + str(t[0]['size']) + ' ' + t[0]['sha256']")"
fresh
# Larger than what is kept of a request: it is served, and not copied.
head -c 3000000 /dev/urandom >"$WORK/large"
same large 200 "$(shop -o /dev/null -w '%{http_code}' --data-binary "@$WORK/large" $url/echo)"
same after-large 200 "$(shop -o /dev/null -w '%{http_code}' "$url/echo?last")"
same large-not-copied "1 GET" "$(noted copy 1 "str(len(t)) + ' ' + t[0]['method']")"
fresh

apply < <(base && routes "mirrors: [{ destination: { host: copy.e2e.example } }, { destination: { host: more.e2e.example, port: { number: 80 } }, percentage: { value: 100 } },
  { destination: { host: dead.e2e.example } }, { destination: { host: nobody.e2e.example } }]")
same many-answered 200 "$(shop -o /dev/null -w '%{http_code}' $url/echo)"
same first-of-many 1 "$(noted copy 1 'len(t)')"
same second-of-many 1 "$(noted more 1 'len(t)')"
same routes-shows-them yes "$(flatctl --control "$CONTROL" routes | grep -q 'mirror 100 % to copy.e2e.example; mirror 100 % to more.e2e.example port 80' && echo yes)"
fresh

# Of 200 requests a quarter: seven standard deviations are 43.
apply < <(base && routes "mirror: { host: copy.e2e.example }, mirrorPercentage: { value: 25 }")
same a-quarter 200 "$(shop "$url/echo?[1-200]" | grep -o '"name": "a"' | wc -l)"
apply < <(base && routes "mirror: { host: copy.e2e.example }, mirrorPercentage: { value: 0 }")
same none 20 "$(shop "$url/echo?none=[1-20]" | grep -o '"name": "a"' | wc -l)"
apply < <(base && routes "mirror: { host: copy.e2e.example }")
same the-last a "$(shop "$url/echo?last" | sed 's/.*"name": "\([a-z]*\)".*/\1/')"
last() { grep -q 'echo?last' "$WORK/copy.json"; }
wait_for 10 last || fail last-copied
same quarter-copied True "$(noted copy 8 "7 <= len([x for x in t if '?none' not in x['path'] and 'last' not in x['path']]) <= 93")"
same none-copied 0 "$(noted copy 8 "len([x for x in t if '?none' in x['path']])")"
fresh

# The mirror's own policies are asked, about what it gets.
apply < <(base && routes "mirror: { host: copy.e2e.example }" && cat <<'END'
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: copy, namespace: e2e }
spec: { selector: { matchLabels: { app: copy } }, rules: [{ from: [{ source: { principals: [cluster.local/ns/e2e/sa/shop] } }], to: [{ operation: { paths: [/echo/ok] } }] }] }
END
)
same refused-copy 200 "$(shop -o /dev/null -w '%{http_code}' $url/echo/no)"
same allowed-copy 200 "$(shop -o /dev/null -w '%{http_code}' $url/echo/ok)"
same policy-of-the-mirror /echo/ok "$(noted copy 1 "' '.join(x['path'] for x in t)")"
same none-left 0 "$(wait_for 10 eval '[ "$(state "len([c for c in s[\"connections\"] if c[\"client\"].startswith(\"mirror\")])")" = 0 ]' && echo 0)"
fresh

apply < <(base && cat <<'END'
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: origin, namespace: e2e }
spec:
  parentRefs: [{ group: networking.istio.io, kind: Hostname, name: origin.e2e.example }]
  rules:
  - backendRefs: [{ group: networking.istio.io, kind: Hostname, name: origin.e2e.example }]
    filters:
    - { type: RequestMirror, requestMirror: { backendRef: { group: networking.istio.io, kind: Hostname, name: copy.e2e.example, port: 80 } } }
    - { type: RequestMirror, requestMirror: { backendRef: { group: networking.istio.io, kind: Hostname, name: more.e2e.example, port: 80 }, fraction: { numerator: 1, denominator: 1 } } }
END
)
same http-route 200 "$(shop -o /dev/null -w '%{http_code}' $url/echo)"
same http-route-copied "1 1" "$(noted copy 1 'len(t)') $(noted more 1 'len(t)')"
