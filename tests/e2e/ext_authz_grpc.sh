#!/bin/bash
# External authorizers over gRPC (envoyExtAuthzGrpc), after Istio's task "External Authorization"; requests' bodies for
# authorizers over gRPC and HTTP. Unmodified curl under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }

port && A=$PORT
port && EXT=$PORT
port && HTTP=$PORT
port && SECOND=$PORT
port && DEAD=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

base() {
	workload origin "$WORK/origin-python"
	entry origin 240.9.11.1 http "$A"
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: shop, namespace: e2e, labels: { app: shop } }
spec: { serviceAccount: shop, selectors: [{ executable: $(readlink -f "$(command -v curl)") }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ext, namespace: e2e }
spec:
  hosts: [ext.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 9000, name: grpc, protocol: GRPC }, { number: 8000, name: http, protocol: HTTP }, { number: 9001, name: grpc-dead, protocol: GRPC },
    { number: 8002, name: http-second, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { grpc: $EXT, http: $HTTP, grpc-dead: $DEAD, http-second: $SECOND } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ext, namespace: e2e }
spec: { selector: { matchLabels: { app: origin } }, action: CUSTOM, provider: { name: ext }, rules: [{ to: [{ operation: { paths: ['/echo*'] } }] }] }
END
}
# provider KIND PORT FIELDS: MeshConfig's.
provider() { printf -- '---\nkind: MeshConfig\nextensionProviders: [{ name: ext, %s: { service: ext.e2e.example, port: %s%s } }]\n' "$1" "$2" "${3:-}"; }
grpc() { provider envoyExtAuthzGrpc "${2:-9000}" "${1:-}"; }

{ base && grpc; } >"$CONFIG"
serve ext "$EXT" "$PYTHON" -B "$E2E_ROOT/tests/e2e/ext_authz_grpc.py" "$EXT"
serve second "$SECOND" "$PYTHON" -B "$E2E_ROOT/tests/e2e/ext_authz.py" "$SECOND" x-second
serve http "$HTTP" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$HTTP" authorizer
start_flatd
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin.log | tail -n 3)"
url=http://origin.e2e.example
ask() { over curl -sS -m 20 "$@" 2>&1; }
as() { ask -H "x-ext-authz: $1" "${@:2}"; }
code() { "$@" -o /dev/null -w '%{http_code}'; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); h = {}; [h.setdefault(n.lower(), []).append(v) for n, v in t["headers"]]; print(eval(sys.argv[1]))' "$1"; }
header() { tr -d '\r' | sed -n "s/^$1: //pI"; }

same allows 200 "$(code as allow $url/echo)"
same denies 403 "$(code as deny $url/echo)"
same denied-with-its-status-and-body '418 short and stout' "$(as teapot -o "$WORK/out" -w '%{http_code} ' $url/echo)$(cat "$WORK/out")"
same redirects '302 /login' "$(as login -i -w '%{http_code} ' -o "$WORK/out" $url/echo)$(header location <"$WORK/out")"
same not-asked 200 "$(code ask $url/flaky/x/0)"
same an-error-denies 403 "$(code as error $url/echo)"
same garbage-denies 403 "$(code as garbage $url/echo)"
same asked "POST origin.e2e.example /echo/a?b=c http HTTP/1.1 3 spiffe://cluster.local/ns/e2e/sa/shop@127.0.0.1 spiffe://cluster.local/ns/e2e/sa/origin@127.0.0.1 text: bytes: :authority,:method,:path,:scheme,accept,content-length,content-type,user-agent,x-ext-authz,x-many" \
	"$(as deny -i -d a=b -H 'x-many: 1' -H 'x-many: 2' "$url/echo/a?b=c" | header x-ext-authz-asked)"
same values-are-joined 1,2 "$(as deny -i -H 'x-many: 1' -H 'x-many: 2' "$url/echo" | header x-joined)"
OUT=$(as allow -i -H 'x-own: forged' -H 'x-more: first' -H 'x-gone: 1' $url/echo | tr -d '\r')
same sets-appends-removes "['set'] ['first,second'] None None" "$(sed '1,/^$/d' <<<"$OUT" | told "' '.join(str(h.get(n)) for n in ['x-own', 'x-more', 'x-gone', 'x-none'])")"
same forges-nothing "['origin.e2e.example']" "$(sed '1,/^$/d' <<<"$OUT" | told "h.get('host')")"
same nothing-goes-without-what-cannot-be-said 403 "$(code as unsayable $url/echo)"
same fails-with-its-answer '507 full full' "$(as failed -i -w '%{http_code} ' -o "$WORK/out" $url/echo)$(header x-why <"$WORK/out") $(tail -n 1 "$WORK/out")"
same takes-the-place-of-the-servers set "$(header x-name <<<"$OUT")"
same changes-the-query '/echo?b=2&c&a=set' "$(as allow "$url/echo?a=1&b=2&gone=3&a=4&c" | told "t['path']")"
same makes-a-query '/echo?a=set' "$(as allow "$url/echo" | told "t['path']")"
same told-to-the-client allowed "$(header x-ext-authz-check-result <<<"$OUT")"
same many 50 "$(as allow "$url/echo?[1-50]" | grep -o '"name": "a"' | wc -l)"
same over-http2 "200 403" "$(code as allow --http2-prior-knowledge $url/echo) $(code as deny --http2-prior-knowledge $url/echo)"
same body-arrives "200 3" "$(as allow -d a=b -o "$WORK/out" -w '%{http_code} ' $url/echo)$(told "t['size']" <"$WORK/out")"

apply < <(base && grpc ', timeout: 1s, statusOnError: "503"' 9001)
same dead 503 "$(code ask $url/echo)"
apply < <(base && grpc ', failOpen: true' 9001)
same dead-open 200 "$(code ask $url/echo)"

# --- bodies ---

body() { as deny -i -H 'Expect:' "$@" | header x-ext-authz-asked | sed 's/.* text:/text:/; s/ :authority.*//'; }
apply < <(base && grpc ', includeRequestBodyInCheck: { maxRequestBytes: 8 }')
same body 'text:a=b bytes:' "$(body -d a=b $url/echo)"
same body-none 'text: bytes:' "$(body $url/echo)"
same body-chunked 'text:a=b bytes:' "$(body -H 'Transfer-Encoding: chunked' -d a=b $url/echo)"
same body-of-h2 'text:a=b bytes:' "$(body --http2-prior-knowledge -d a=b $url/echo)"
same body-exactly 'text:12345678 bytes:' "$(body -d 12345678 $url/echo)"
same body-too-long 413 "$(code as allow -d 123456789 $url/echo)"
same body-goes-on "200 8" "$(as allow -d 12345678 -o "$WORK/out" -w '%{http_code} ' $url/echo)$(told "t['size']" <"$WORK/out")"
same told-to-go-on "200 8" "$(as allow -H 'Expect: 100-continue' --expect100-timeout 15 -d 12345678 -o "$WORK/out" -w '%{http_code} ' $url/echo)$(told "t['size']" <"$WORK/out")"
apply < <(base && grpc ', includeRequestBodyInCheck: { maxRequestBytes: 8, allowPartialMessage: true, packAsBytes: true }')
same body-partial 'text: bytes:12345678' "$(body -d 123456789abc $url/echo)"
same no-body-none-said no "$(as deny -i $url/echo | header x-ext-authz-asked | grep -q x-envoy-auth-partial-body && echo yes || echo no)"
same partial-is-said yes "$(as deny -i -d 123456789abc $url/echo | header x-ext-authz-asked | grep -q x-envoy-auth-partial-body && echo yes)"
head -c 300000 /dev/zero | tr '\0' x >"$WORK/large"
same large-goes-on "200 300000" "$(as allow --data-binary "@$WORK/large" -o "$WORK/out" -w '%{http_code} ' $url/echo)$(told "t['size']" <"$WORK/out")"

# Over HTTP the authorizer is asked with the body: http_origin.py tells what it got, and its 200 allows.
apply < <(base && provider envoyExtAuthzHttp 8000 ", includeRequestBodyInCheck: { maxRequestBytes: 8, allowPartialMessage: true }, headersToUpstreamOnAllow: ['x-*']")
same http-body "200 12" "$(ask -d 123456789abc -o "$WORK/out" -w '%{http_code} ' $url/echo)$(told "t['size']" <"$WORK/out")"
apply < <(base && provider envoyExtAuthzHttp 8000 ", includeRequestBodyInCheck: { maxRequestBytes: 8 }")
same http-body-too-long 413 "$(code ask -d 123456789abc $url/echo)"
same http-body-short 200 "$(code ask -d 1234 $url/echo)"

# --- several for one workload: "ext", over gRPC, and "second", over HTTP, in this order ---

# several EXT SECOND: further fields of the two.
several() {
	base
	printf -- '---\nkind: MeshConfig\nextensionProviders:\n- { name: second, envoyExtAuthzHttp: { service: ext.e2e.example, port: 8002, includeRequestHeadersInCheck: [x-second, x-own], headersToUpstreamOnAllow: [x-user, x-ext-authz-asked], headersToDownstreamOnAllow: [x-user]%s } }\n' "$2"
	printf -- '- { name: ext, envoyExtAuthzGrpc: { service: ext.e2e.example%s } }\n' "$1"
	custom second "${3:-second}" '"/echo*", "/slow/*"'
}
# custom NAME PROVIDER PATHS: a policy that asks.
custom() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: %s, namespace: e2e }\n' "$1"
	printf 'spec: { selector: { matchLabels: { app: origin } }, action: CUSTOM, provider: { name: %s }, rules: [{ to: [{ operation: { paths: [%s] } }] }] }\n' "$2" "$3"
}
# both EXT SECOND CURL...: what the two are to say.
both() { ask -H "x-ext-authz: $1" -H "x-second: $2" "${@:3}"; }
# asked: how often the second was.
asked() { grep -c '"[A-Z]* /' "$WORK/second.log" || :; }
apply < <(several ', port: 9000' '')
OUT=$(both allow allow -i -H 'x-user: forged' $url/echo | tr -d '\r')
same several-allow 'HTTP/1.1 200 OK' "$(head -n 1 <<<"$OUT")"
same several-set "['set'] ['from-authorizer']" "$(sed '1,/^$/d' <<<"$OUT" | told "str(h['x-own']) + ' ' + str(h['x-user'])")"
same the-second-sees-what-the-first-set "['GET origin.e2e.example /echo?a=set content-length,host,x-own,x-second']" \
	"$(sed '1,/^$/d' <<<"$OUT" | told "h['x-ext-authz-asked'][-1:]")"
same several-tell-the-client 'from-authorizer allowed' "$(header x-user <<<"$OUT") $(header x-ext-authz-check-result <<<"$OUT")"
BEFORE=$(asked)
same first-denies 403 "$(code both deny allow $url/echo)"
same the-second-is-not-asked-then "$BEFORE" "$(asked)"
same second-denies 'denied by ext_authz 403' "$(both allow deny -w ' %{http_code}' $url/echo | paste -sd' ' | tr -s ' ')"
same only-the-second-matches '200 403' "$(code both deny allow $url/slow/0) $(code both allow deny $url/slow/0)"
same several-over-http2 '200 403 403' "$(for want in 'allow allow' 'deny allow' 'allow deny'; do code both $want --http2-prior-knowledge $url/echo; echo; done | paste -sd' ')"
same several-keep-the-connection 1 "$(both allow allow -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects}\n' $url/echo $url/echo $url/echo | awk '{ n += $1 } END { print n }')"
same several-body "200 3" "$(both allow allow -d a=b -o "$WORK/out" -w '%{http_code} ' $url/echo)$(told "t['size']" <"$WORK/out")"
same several-in-why 'ext second' "$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/shop | sed -n 's/.*asks its external authorizer (\([a-z]*\),.*/\1/p' | paste -sd' ')"

# A policy about what they set is asked behind both.
apply < <(several ', port: 9000' '' && printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: user, namespace: e2e }\n' &&
	echo "spec: { selector: { matchLabels: { app: origin } }, rules: [{ when: [{ key: 'request.headers[x-user]', values: [from-authorizer] }, { key: 'request.headers[x-own]', values: [set] }] }] }")
same policies-see-what-both-set 200 "$(code both allow allow $url/echo)"

# Each has its own time, body and word for an error.
apply < <(several ', port: 9001, failOpen: true' ', timeout: 100ms, statusOnError: "504"')
same first-fails-open '200 403' "$(code both - allow $url/echo) $(code both - deny $url/echo)"
same second-is-late 504 "$(code both - slow $url/echo)"
apply < <(several ', port: 9000, includeRequestBodyInCheck: { maxRequestBytes: 8 }' ', includeRequestBodyInCheck: { maxRequestBytes: 4 }')
same bodies-of-both '200 413 413' "$(for body in 1234 12345 123456789; do code both allow allow -d $body $url/echo; echo; done | paste -sd' ')"
apply < <(several ', port: 9000' '' none)
same one-that-is-not-there '403 200' "$(code both allow allow $url/echo) $(code ask $url/flaky/x/0)"
