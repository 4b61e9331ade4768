#!/bin/bash
# Local rate limits, after Istio's task "Enabling Rate Limits using Envoy", its EnvoyFilter as it is written there. Unmodified
# curl and a server of our own under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

base() {
	workload origin "$WORK/origin-python"
	entry origin 240.9.15.1 http "$A"
}
# limit TOKENS INTERVAL ENFORCED [APP [FIELD]]
limit() {
	cat <<END
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: filter-local-ratelimit-svc, namespace: istio-system }
spec:
  workloadSelector: { labels: { app: ${4:-origin} } }
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager } } }
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: http_local_rate_limiter
            ${5:-enable_x_ratelimit_headers: DRAFT_VERSION_03}
            token_bucket: { max_tokens: $1, tokens_per_fill: $1, fill_interval: $2 }
            filter_enabled: { runtime_key: local_rate_limit_enabled, default_value: { numerator: 100, denominator: HUNDRED } }
            filter_enforced: { runtime_key: local_rate_limit_enforced, default_value: { numerator: $3, denominator: HUNDRED } }
            response_headers_to_add: [{ append: false, header: { key: x-local-rate-limit, value: 'true' } }]
END
}

{ base && limit 4 3600s 100; } >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"
url=http://origin.e2e.example
ask() { over curl -sS -m 20 "$@" 2>&1; }
codes() { ask -o /dev/null -w '%{http_code} ' "$url/status/200?[1-$1]"; }
header() { tr -d '\r' | sed -n "s/^$1: //pI"; }

OUT=$(ask -i $url/status/200)
same first 200 "$(head -1 <<<"$OUT" | cut -d' ' -f2)"
same told "4 3" "$(header x-ratelimit-limit <<<"$OUT") $(header x-ratelimit-remaining <<<"$OUT")"
holds reset test "$(header x-ratelimit-reset <<<"$OUT")" -gt 3000
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/origin 2>&1)
holds why grep -qE 'local rate limit istio-system/filter-local-ratelimit-svc \(.*mesh.yaml:[0-9]+\): 4 requests, and 4 each 3600000 ms; 3 are left' <<<"$OUT"
same until-it-is-empty "200 200 200 429 429 " "$(codes 5)"
OUT=$(ask -i $url/status/200)
same refused-header true "$(header x-local-rate-limit <<<"$OUT")"
same refused-told "4 0" "$(header x-ratelimit-limit <<<"$OUT") $(header x-ratelimit-remaining <<<"$OUT")"
same refused-text local_rate_limited "$(tail -1 <<<"$OUT")"
same plain-client 429 "$(curl -sS -m 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$A/status/200")"
holds flag wait_for 10 grep -q '" 429 RL ' "$WORK/access.log"
metrics() { curl -sS -m 10 -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics" && cat "$WORK/metrics"; }
same counted "4 4" "$(metrics | sed -nE 's/^flat_local_rate_limit_total\{result="(ok|limited)"\} //p' | tr '\n' ' ' | sed 's/ $//')"

apply < <(base && limit 2 200ms 100 origin 'status: { code: 503 }')
filled() { [ "$(codes 1)" = "200 " ]; }
holds filled-again wait_for 10 filled
apply < <(base && limit 1 3600s 100 origin 'status: { code: 503 }')
OUT=$(codes 3)
holds own-status grep -q '503 503 $' <<<"$OUT"
same nothing-told x "$(ask -i $url/status/200 | header x-ratelimit-limit)x"
apply < <(base && limit 1 3600s 0)
same not-enforced "200 200 200 " "$(codes 3)"
apply < <(base && limit 1 3600s 100 other)
same others "200 200 200 " "$(codes 3)"

# --- at one port: of the service, or the server's own ---

at() { limit 1 3600s 100 | sed "s/listener: { /&portNumber: $1, /; s/filter-local-ratelimit-svc/at-$1/"; }
apply < <(base && at 81)
same at-another-port "200 200 200 " "$(codes 3)"
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/origin 2>&1)
holds at-another-port-why test -z "$(grep 'local rate limit' <<<"$OUT")"
apply < <(base && at 80)
same at-the-service-port "200 429 429 " "$(codes 3)"
apply < <(base && at "$A")
same at-the-own-port "200 429 429 " "$(codes 3)"
# Each has its tokens.
apply < <(base && limit 3 3600s 100 | sed 's/filter-local-ratelimit-svc/all/' && at 80 | sed 's/at-80/too-80/' && at 81)
same at-one-of-them "200 429 429 " "$(codes 3)"
{ base && at 80 | sed 's/filterChain: { /&sni: a.example, /; s/context: SIDECAR_INBOUND/&\n      proxy: { proxyVersion: 1.x }/'; } >"$WORK/wider.yaml"
OUT=$(flatctl check "$WORK/wider.yaml" 2>&1)
holds match-sni-is-told grep -q 'field "sni" is not honoured' <<<"$OUT"
holds match-proxy-is-told grep -q 'field "proxy" is not honoured' <<<"$OUT"
{ base && at 0; } >"$WORK/port.yaml"
holds bad-port-is-refused grep -q 'port.yaml:[0-9]*:[0-9]*: .*"0" is not a whole number' <<<"$(flatctl check "$WORK/port.yaml" 2>&1)"

# --- by key ---

by_key() {
	limit "$1" 3600s 100 origin "always_consume_default_token_bucket: ${2:-true}
            enable_x_ratelimit_headers: DRAFT_VERSION_03
            max_dynamic_descriptors: 2
            rate_limits:
            - actions: [{ request_headers: { header_name: X-User, descriptor_key: user } }]
            - actions: [{ request_headers: { header_name: ':path', descriptor_key: path } }, { remote_address: {} }]
            - actions: [{ header_value_match: { descriptor_value: slow, headers: [{ name: x-slow, string_match: { safe_regex: { regex: 'y.*' } } }] } }]
            - actions: [{ query_parameters: { query_parameter_name: team, descriptor_key: team } }, { generic_key: { descriptor_value: q } }]
            descriptors:
            - { entries: [{ key: user, value: gold }], token_bucket: { max_tokens: 3, fill_interval: 3600s } }
            - { entries: [{ key: user }], token_bucket: { max_tokens: 2, fill_interval: 3600s } }
            - { entries: [{ key: path, value: /status/204?x }, { key: remote_address, value: 127.0.0.1 }], token_bucket: { max_tokens: 1, fill_interval: 3600s } }
            - { entries: [{ key: header_match, value: slow }], token_bucket: { max_tokens: 1, fill_interval: 3600s } }
            - { entries: [{ key: team, value: a }, { key: generic_key, value: q }], token_bucket: { max_tokens: 1, fill_interval: 3600s } }" | sed "s/filter-local-ratelimit-svc/by-key-$1/"
}
# as HEADER URL N: the statuses of N requests.
as() { ask -o /dev/null -w '%{http_code} ' -H "$1" "$2?[1-$3]"; }
plain=$url/status/200
apply < <(base && by_key 1000)
same key-of-a-value "200 200 429 " "$(as 'x-user: me' $plain 3)"
same key-of-another-value "200 200 429 " "$(as 'x-user: you' $plain 3)"
# Two are kept; a third one's place is that of the one used least.
same key-third "200 " "$(as 'x-user: they' $plain 1)"
same key-still-empty "429 " "$(as 'x-user: you' $plain 1)"
same key-made-anew "200 " "$(as 'x-user: me' $plain 1)"
same key-more-than-one "200 200 429 " "$(as 'x-user: gold' $plain 3)"
same key-none "200 200 200 200 " "$(codes 4)"
same key-path "204 429" "$(ask -o /dev/null -w '%{http_code}' "$url/status/204?x") $(ask -o /dev/null -w '%{http_code}' "$url/status/204?x")"
same key-other-path 204 "$(ask -o /dev/null -w '%{http_code}' "$url/status/204?y")"
same key-match "200 429 " "$(as 'x-slow: yes' $plain 2)"
same key-no-match "200 200 " "$(as 'x-slow: no' $plain 2)"
same key-query "200 429" "$(ask -o /dev/null -w '%{http_code}' "$plain?team=a") $(ask -o /dev/null -w '%{http_code}' "$plain?team=a&x=1")"
OUT=$(ask -i -H 'x-user: told' $plain)
same key-told "2 1" "$(header x-ratelimit-limit <<<"$OUT") $(header x-ratelimit-remaining <<<"$OUT")"
OUT=$(flatctl --control "$CONTROL" why "GET $url/status/204?x" --from e2e/origin 2>&1)
holds key-why grep -q 'as descriptor 3 (path, ...): 1 requests, and 1 each 3600000 ms' <<<"$OUT"
# What meets a descriptor leaves the bucket of all alone, where it says so.
apply < <(base && by_key 1 false)
same key-spares "200 200 429 " "$(as 'x-user: spares' $plain 3)"
same key-spared "200 429 " "$(codes 2)"

# --- check ---

{ base && limit 1 1s 0 origin 'rate_limits: [{ actions: [{ metadata: {} }] }]' && limit 1 1s 100 | sed 's/HTTP_FILTER/LISTENER/; s/ratelimit-svc/other/'; } >"$WORK/check.yaml"
OUT=$(flatctl check "$WORK/check.yaml" 2>&1)
holds check-nothing grep -q 'the limit refuses nothing' <<<"$OUT"
holds check-action grep -q 'the action "metadata" is not honoured, and so not these rate_limits' <<<"$OUT"
holds check-patch grep -q 'the patch is not honoured: of EnvoyFilters only' <<<"$OUT"
