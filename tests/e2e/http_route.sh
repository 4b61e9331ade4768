#!/bin/bash
# Gateway API's HTTPRoute for a Service: splitting, rewriting, redirecting, headers, what is not permitted. Unmodified curl under
# flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

cat >"$CONFIG" <<END
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: origin, namespace: e2e }
spec: { selectors: [{ executable: $WORK/origin-python }] }
END
i=0
for name in one two; do
	i=$((i + 1))
	cat >>"$CONFIG" <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $name, namespace: e2e }
spec:
  hosts: [$name.e2e.example]
  addresses: [240.9.9.$i]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $(cut -d' ' -f$i <<<"$A $B") } }]
END
done
cat >>"$CONFIG" <<'END'
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: one, namespace: e2e }
spec:
  parentRefs: [{ group: networking.istio.io, kind: Hostname, name: one.e2e.example }]
  rules:
  - name: split
    matches: [{ path: { value: /echo } }]
    backendRefs:
    - { group: networking.istio.io, kind: Hostname, name: one.e2e.example, port: 80, weight: 9 }
    - group: networking.istio.io
      kind: Hostname
      name: two.e2e.example
      port: 80
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-two, value: "yes" }] } }]
  - name: rewrite
    matches: [{ path: { value: /old } }]
    filters:
    - type: URLRewrite
      urlRewrite: { hostname: new.example, path: { type: ReplacePrefixMatch, replacePrefixMatch: /echo/new } }
    - type: RequestHeaderModifier
      requestHeaderModifier: { set: [{ name: x-set, value: new }], add: [{ name: x-add, value: more }], remove: [x-gone] }
    backendRefs: [{ group: networking.istio.io, kind: Hostname, name: two.e2e.example }]
  - name: redirect
    matches: [{ path: { value: /moved } }]
    filters:
    - type: RequestRedirect
      requestRedirect: { scheme: https, hostname: secure.example, path: { type: ReplacePrefixMatch, replacePrefixMatch: / }, statusCode: 301 }
  - name: again
    matches: [{ path: { value: /flaky } }]
    retry: { attempts: 3, backoff: 10ms, codes: [503] }
    backendRefs: [{ group: networking.istio.io, kind: Hostname, name: two.e2e.example }]
  - name: origins
    matches: [{ path: { value: /status } }]
    filters:
    - type: CORS
      cors: { allowOrigins: ["https://*.a.example"], allowMethods: ["*"], allowHeaders: ["*"], exposeHeaders: [x-name], allowCredentials: true, maxAge: 60 }
    backendRefs: [{ group: networking.istio.io, kind: Hostname, name: two.e2e.example }]
  - name: not-permitted
    matches: [{ path: { value: /far } }]
    backendRefs: [{ name: far, namespace: other, port: 80 }]
END
start_flatd
i=0
for name in one two; do
	i=$((i + 1))
	start "origin-$name" over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$(cut -d' ' -f$i <<<"$A $B")" "$name"
done
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-*.log | tail -n 3)"
url=http://one.e2e.example
get() { over curl -sS -m 20 "$@" 2>&1; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

GOT=$(get "$url/echo?n=[1-20]" | grep -oE '"name": "(one|two)"' | sort | uniq -c | awk '{ print $1 }' | paste -sd' ')
same split '18 2' "$GOT"
same split-filter 2 "$(get -i "$url/echo?n=[1-20]" | grep -ci '^x-two: yes')"
OUT=$(get -H 'x-set: old' -H 'x-gone: 1' "$url/old/x?q=1")
same rewrite-server two "$(told "t['name']" <<<"$OUT")"
same rewrite-path '/echo/new/x?q=1' "$(told "t['path']" <<<"$OUT")"
same rewrite-headers 'new more new.example False' \
	"$(told "' '.join(dict((n.lower(), v) for n, v in t['headers'])[k] for k in ('x-set', 'x-add', 'host')) + ' ' + str('x-gone' in [n.lower() for n, v in t['headers']])" <<<"$OUT")"
same whole-segments 404 "$(get -o /dev/null -w '%{http_code}' "$url/older")"
same redirect '301 https://secure.example/x' "$(get -o /dev/null -w '%{http_code} %{redirect_url}' "$url/moved/x")"
same redirect-root '301 https://secure.example/' "$(get -o /dev/null -w '%{http_code} %{redirect_url}' "$url/moved")"
same retried 200 "$(get -o /dev/null -w '%{http_code}' "$url/flaky/a/3")"
same retried-enough 503 "$(get -o /dev/null -w '%{http_code}' "$url/flaky/b/4")"
preflight() {
	get -X OPTIONS -i -H "Origin: $1" -H 'Access-Control-Request-Method: PUT' -H 'Access-Control-Request-Headers: x-a, x-b' "$url/status/201" |
		tr -d '\r' | sed -n '1s/ [A-Z].*//p; s/^access-control-//ip' | sort | paste -sd'|'
}
same preflight 'HTTP/1.1 200|allow-credentials: true|allow-headers: x-a, x-b|allow-methods: PUT|allow-origin: https://x.y.a.example|expose-headers: x-name|max-age: 60' \
	"$(preflight https://x.y.a.example)"
same preflight-of-another 'HTTP/1.1 200' "$(preflight https://a.example.other)"
same shared-answer 'https://b.a.example' "$(get -i -H 'Origin: https://b.a.example' "$url/status/200" | tr -d '\r' | sed -n 's/^access-control-allow-origin: //ip')"
same not-permitted 500 "$(get -o /dev/null -w '%{http_code}' "$url/far")"
same no-rule 404 "$(get -o /dev/null -w '%{http_code}' "$url/nothing")"
holds routes-say-it grep -qE '^  [0-9]+ rewrite \(line [0-9]+\): uri below /old -> two.e2e.example; rewrite //new.example/echo/new' <(flatctl --control "$CONTROL" routes)
