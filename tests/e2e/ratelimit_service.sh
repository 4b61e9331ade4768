#!/bin/bash
# Rate limits by a rate limit service, after Istio's task "Enabling Rate Limits using Envoy": at servers and at a gateway, with
# rate_limits of virtual hosts and routes. Unmodified curl.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }

port && A=$PORT
port && LIMITER=$PORT
port && DEAD=$PORT
port && GATE=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

base() {
	workload origin "$WORK/origin-python"
	entry origin 240.9.16.1 http "$A"
	ingress ingress edge 'istio: ingressgateway'
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: limiter, namespace: e2e }
spec:
  hosts: [limiter.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 8081, name: grpc, protocol: GRPC }, { number: 8082, name: grpc-dead, protocol: GRPC }]
  endpoints: [{ address: 127.0.0.1, ports: { grpc: $LIMITER, grpc-dead: $DEAD } }]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: $GATE, name: http, protocol: HTTP }, hosts: ["*"] }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec:
  hosts: [one.example, '*.two.example']
  gateways: [edge/web]
  http:
  - { name: special, match: [{ uri: { prefix: /special } }], rewrite: { uri: /status/200 }, route: [{ destination: { host: origin.e2e.example } }] }
  - { name: rest, route: [{ destination: { host: origin.e2e.example } }] }
END
}
envoyfilter() { printf -- '---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: { name: %s, namespace: istio-system }\nspec:\n  configPatches:\n' "$1"; }
# filter CONTEXT [FIELDS [PORT]]: the filter as Istio's task has it.
filter() {
	envoyfilter filter-ratelimit
	cat <<END
  - applyTo: HTTP_FILTER
    match:
      context: $1
      listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } } }
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
          domain: shop
          ${2:-failure_mode_deny: true}
          ${4:-timeout: 10s}
          rate_limit_service:
            grpc_service: { envoy_grpc: { cluster_name: outbound|${3:-8081}||limiter.e2e.example, authority: limiter.e2e.example } }
            transport_api_version: V3
END
}
# patch KIND CONTEXT VHOST RULES [ROUTE-NAME [FIELDS]]: a filter of its own, by a name that no other has.
PATCHES=0
patch() {
	PATCHES=$((PATCHES + 1))
	envoyfilter "filter-ratelimit-svc-$PATCHES"
	cat <<END
  - applyTo: $1
    match: { context: $2, routeConfiguration: { vhost: { name: "$3", route: { action: ANY${5:+, name: $5} } } } }
    patch: { operation: MERGE, value: $([ "$1" = HTTP_ROUTE ] && echo "{ route: { rate_limits: [$4]${6:+, $6} } }" || echo "{ rate_limits: [$4] }") }
END
}
header_rule() { echo "{ actions: [{ request_headers: { header_name: '$1', descriptor_key: ${2} } }] }"; }
user=$(header_rule x-user user)

{ base && filter SIDECAR_INBOUND "failure_mode_deny: true
          enable_x_ratelimit_headers: DRAFT_VERSION_03" && patch VIRTUAL_HOST SIDECAR_INBOUND "" "$user"; } >"$CONFIG"
limiter() { serve limiter "$LIMITER" "$PYTHON" -B "$E2E_ROOT/tests/e2e/rate_limit_service.py" "$LIMITER"; }
limiter
SERVICE=$PID
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --gateway edge/ingress --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"
url=http://origin.e2e.example
ask() { over curl -sS -m 20 "$@" 2>&1; }
as() { ask -H "x-user: $1" "${@:2}"; }
codes() { "$@" -o /dev/null -w '%{http_code} '; }
header() { tr -d '\r' | sed -n "s/^$1: //pI"; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); h = {}; [h.setdefault(n.lower(), []).append(v) for n, v in t["headers"]]; print(eval(sys.argv[1]))' "$1"; }

OUT=$(as first -i $url/status/200)
same first "200 shop user=first" "$(head -1 <<<"$OUT" | cut -d' ' -f2) $(header x-limiter <<<"$OUT")"
same told '3, 3;w=60;name="per-user" 2 60' "$(header x-ratelimit-limit <<<"$OUT") $(header x-ratelimit-remaining <<<"$OUT") $(header x-ratelimit-reset <<<"$OUT")"
same until-it-is-used-up "200 200 429 429 " "$(codes as first "$url/status/200?[1-4]")"
OUT=$(as first -i $url/status/200)
same refused "true 0 slow down" "$(header x-envoy-ratelimited <<<"$OUT") $(header x-ratelimit-remaining <<<"$OUT") $(tail -1 <<<"$OUT")"
same nothing-is-forged "10 " "$(header content-length <<<"$OUT") $(header x-forged <<<"$OUT")$(header x-bad <<<"$OUT")"
same another-value "200 " "$(codes as second $url/status/200)"
same servers-are-told "['us'] ['origin.e2e.example']" "$(as told $url/echo | told "' '.join([str(h.get('x-limited-by')), str(h.get('host'))])")"
OUT=$(ask -i $url/status/200)
same no-descriptor "200 x" "$(head -1 <<<"$OUT" | cut -d' ' -f2) x$(header x-limiter <<<"$OUT")"
same plain-client "200 200 200 429 " "$(curl -sS -m 20 -H 'x-user: plain' -o /dev/null -w '%{http_code} ' "http://127.0.0.1:$A/status/200?[1-4]")"
same over-http2 "200 200 200 429 " "$(for _ in 1 2 3 4; do codes as two --http2-prior-knowledge $url/status/200; done)"
holds flag wait_for 10 grep -q '" 429 RL ' "$WORK/access.log"
call() { ask --http2-prior-knowledge -X POST -H 'content-type: application/grpc' -H 'te: trailers' -i "$@"; }
OUT=$(call -H 'x-user: first' $url/status/200)
same grpc-call 14 "$(header grpc-status <<<"$OUT")"
# Its standard error is curl's meter, which -s does not end.
at_once() { over curl -sS -m 20 --parallel --parallel-max 30 -o /dev/null -w '%{http_code}\n' "$@" 2>"$WORK/at-once"; }
same at-once "3 200 57 429" "$(at_once -H 'x-user: many' "$url/status/200?[1-60]" | sort | uniq -c | xargs)"
OUT=$(as connections -i $url/status/200)
same one-connection 1 "$(header x-limiter-peers <<<"$OUT")"
OUT=$(flatctl --control "$CONTROL" why "GET $url/status/200" --header 'x-user: me' --from e2e/origin 2>&1)
holds why grep -qE 'rate limit istio-system/filter-ratelimit \(.*mesh.yaml:[0-9]+\): limiter.e2e.example:8081 is asked, domain shop' <<<"$OUT"
holds why-about grep -q 'about user=me' <<<"$OUT"

# --- when it does not answer ---

same errors-refuse "500 500 " "$(codes as error $url/status/200)$(codes as garbage $url/status/200)"
holds error-flag wait_for 10 grep -q '" 500 RLSE ' "$WORK/access.log"
stop "$SERVICE"
limiter
same service-came-again "200 200 " "$(codes as again "$url/status/200?[1-2]")"
only_user() { patch VIRTUAL_HOST SIDECAR_INBOUND "" "$user"; }
apply < <(base && filter SIDECAR_INBOUND "status_on_error: { code: 503 }" 8081 "timeout: 0.1s" && only_user)
same slow-passes 200 "$(as slow -o /dev/null -w '%{http_code}' $url/status/200)"
apply < <(base && filter SIDECAR_INBOUND "failure_mode_deny: true
          status_on_error: { code: 503 }" 8081 "timeout: 0.1s" && only_user)
same slow-is-refused 503 "$(as slow -o /dev/null -w '%{http_code}' $url/status/200)"
apply < <(base && filter SIDECAR_INBOUND "failure_mode_deny: true" 8082 && only_user)
same dead-refuses "500 200 " "$(codes as dead $url/status/200)$(codes ask $url/status/200)"
apply < <(base && filter SIDECAR_INBOUND "failure_mode_deny: false" 8082 && only_user)
same dead-passes "200 " "$(codes as dead $url/status/200)"
metrics() { curl -sS -m 10 -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics" && sed -nE "s/^flat_rate_limit_total\{result=\"$1\"\} //p" "$WORK/metrics"; }
same counted-errors "6 2" "$(metrics error) $(metrics failure_mode_allowed)"
holds counted test "$(metrics ok)" -gt 10 -a "$(metrics over_limit)" -gt 5

# --- what is asked ---

for at in 81 80 "$A"; do
	apply < <(base && filter SIDECAR_INBOUND | sed "s/listener: { /&portNumber: $at, /" && only_user)
	same "asked-at-${at/$A/own}" "$([ "$at" = 81 ] || echo "user=at")." "$(as at -i $url/status/200 | header x-limiter | cut -d' ' -f2)."
done
apply < <(base && filter SIDECAR_INBOUND "rate_limited_as_resource_exhausted: true" && patch VIRTUAL_HOST SIDECAR_INBOUND "inbound|http|80" "
  { actions: [{ source_cluster: {} }, { destination_cluster: {} }, { remote_address: {} }, { masked_remote_address: { v4_prefix_mask_len: 8 } }, { generic_key: { descriptor_value: fixed } }] },
  { actions: [{ header_value_match: { descriptor_value: curls, headers: [{ name: user-agent, string_match: { prefix: curl } }] } }, { query_parameters: { query_parameter_name: q, descriptor_key: q } }], hits_addend: { number: 2 } },
  { actions: [{ query_parameter_value_match: { descriptor_value: queried, query_parameters: [{ name: q, string_match: { exact: a } }] } }] },
  { actions: [{ request_headers: { header_name: ':path', descriptor_key: path } }], hits_addend: { format: '%REQ(x-hits)%' } },
  { actions: [{ generic_key: { descriptor_value: later } }], stage: 1 }" && patch HTTP_ROUTE SIDECAR_INBOUND "inbound|http|81" "$user" && patch HTTP_ROUTE GATEWAY "" "$user")
same asked "shop source_cluster=origin.e2e,destination_cluster=inbound|$A||,remote_address=127.0.0.1,masked_remote_address=127.0.0.0/8,generic_key=fixed header_match=curls,q=a+2 query_match=queried path=/status/200?q=a+3" \
	"$(ask -i -H 'x-hits: 3' "$url/status/200?q=a" | header x-limiter)"
same hits-count 429 "$(ask -o /dev/null -w '%{http_code}' -H 'x-hits: 1' "$url/status/200?q=a")"
same hits-of-nothing "path=/status/200?q=b" "$(ask -i -H 'x-hits: 1x' "$url/status/200?q=b" | header x-limiter | sed 's/.* //')"
OUT=$(call -H 'x-hits: 4' "$url/status/200?q=c")
same grpc-exhausted 8 "$(header grpc-status <<<"$OUT")"

# --- virtual hosts and routes, at a gateway ---

out() { curl -sS -m 20 --resolve "one.example:$GATE:127.0.0.1" --resolve "a.two.example:$GATE:127.0.0.1" "$@" 2>&1; }
asked() { out -i -H 'x-user: u' "$1" | header x-limiter; }
one=http://one.example:$GATE two=http://a.two.example:$GATE
generic() { echo "{ actions: [{ generic_key: { descriptor_value: $1 } }] }"; }
apply < <(base && filter GATEWAY && patch VIRTUAL_HOST GATEWAY "" "$(generic any)" && patch VIRTUAL_HOST GATEWAY "*.two.example:$GATE" "$(generic two)" &&
	patch HTTP_ROUTE GATEWAY "one.example:$GATE" "$(header_rule :path at), { actions: [{ destination_cluster: {} }] }" special)
same gate-any "shop generic_key=any" "$(asked $one/status/200)"
same gate-virtual-host "shop generic_key=any generic_key=two" "$(asked $two/status/200)"
same gate-route-overrides "shop at=/special/x destination_cluster=outbound|80||origin.e2e.example" "$(asked $one/special/x)"
same gate-other-host "shop generic_key=any generic_key=two" "$(asked $two/special/x)"
same servers-not "200 x" "$(ask -i $url/status/200 | head -1 | cut -d' ' -f2) x$(ask -i $url/status/200 | header x-limiter)"
apply < <(base && filter GATEWAY && patch VIRTUAL_HOST GATEWAY "" "$(generic any)" && patch HTTP_ROUTE GATEWAY "" "$user" rest "include_vh_rate_limits: true")
same gate-route-includes "shop user=u generic_key=any" "$(asked $one/status/200)"
same gate-limits "200 200 429 " "$(out -H 'x-user: u' -o /dev/null -w '%{http_code} ' "$one/status/200?[1-3]")"

# A limit by a claim's header is one by what the token says, and not by what a client writes there.
jwt() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/jwt.py" "$WORK" "$@"; }
jwt key one || die key
TOKEN=$(jwt token one "{\"iss\": \"test@example\", \"sub\": \"me\", \"exp\": $(($(date +%s) + 600))}")
authn() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: jwt, namespace: edge }\n'
	printf "spec: { selector: { matchLabels: { istio: ingressgateway } }, jwtRules: [{ issuer: test@example, jwks: '%s', outputClaimToHeaders: [{ header: x-sub, claim: sub }] }] }\n" "$(jwt jwks one)"
}
apply < <(base && authn && filter GATEWAY && patch VIRTUAL_HOST GATEWAY "" "$(header_rule x-sub sub), $(header_rule :path at)")
same gate-by-claim 'shop sub=me at=/special/x?a' "$(out -i -H 'x-sub: forged' -H "Authorization: Bearer $TOKEN" "$one/special/x?a" | header x-limiter)"
same gate-by-no-claim 'shop at=/special/x?b' "$(out -i -H 'x-sub: forged' "$one/special/x?b" | header x-limiter)"
same gate-by-no-claim-h2 'shop at=/special/x?c' "$(out -i --http2-prior-knowledge -H 'x-sub: forged' "$one/special/x?c" | header x-limiter)"

# --- local limits by the rate_limits of virtual hosts ---

local_filter() {
	filter SIDECAR_INBOUND | sed 's/http.ratelimit.v3.RateLimit/http.local_ratelimit.v3.LocalRateLimit/; s/http.ratelimit$/http.local_ratelimit/; /domain:/,$d'
	cat <<END
          stat_prefix: local
          rate_limited_as_resource_exhausted: true
          token_bucket: { max_tokens: 1000, fill_interval: 3600s }
          filter_enabled: { default_value: { numerator: 100 } }
          filter_enforced: { default_value: { numerator: 100 } }
          descriptors: [{ entries: [{ key: user }], token_bucket: { max_tokens: 2, fill_interval: 3600s } }]
END
}
apply < <(base && local_filter && only_user)
same local-by-virtual-host "200 200 429 " "$(codes as local "$url/status/200?[1-3]")"
same local-exhausted 8 "$(call -H 'x-user: local' $url/status/200 | header grpc-status)"

# --- check ---

{ base && filter GATEWAY "request_type: internal" | sed 's/outbound|8081||limiter.e2e.example/rate_limit_cluster/' &&
	patch HTTP_ROUTE GATEWAY nonsense "$user" && patch HTTP_ROUTE GATEWAY "" "{ actions: [{ metadata: {} }] }, { actions: [{ remote_address: {} }], apply_on_stream_done: true }"; } >"$WORK/check.yaml"
OUT=$(flatctl check "$WORK/check.yaml" 2>&1)
holds check-cluster grep -q 'a cluster that istiod does not make: the service cannot be asked' <<<"$OUT"
holds check-type grep -q 'request_type is not honoured' <<<"$OUT"
holds check-where grep -q 'where the rate_limits hold is not understood' <<<"$OUT"
holds check-action grep -q 'the action "metadata" is not honoured' <<<"$OUT"
holds check-done grep -q 'apply_on_stream_done is not honoured' <<<"$OUT"
