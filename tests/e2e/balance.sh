#!/bin/bash
# How a DestinationRule says requests are balanced: random, least request, consistent hashing by header, cookie, query and
# source, for the whole service, a port and a subset. Unmodified curl under flat-run, three servers.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
port && C=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

base() {
	workload origin "$WORK/origin-python"
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
  - { address: 127.0.0.1, ports: { http: $C }, labels: { version: v2 } }
END
}
# rule TRAFFIC-POLICY [SUBSETS]
rule() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: origin, namespace: e2e }\n'
	printf 'spec: { host: origin.e2e.example, trafficPolicy: %s%s }\n' "$1" "${2:+, subsets: $2}"
}
route() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: origin, namespace: e2e }\n'
	printf 'spec: { hosts: [origin.e2e.example], http: %s }\n' "$1"
}
# apply: the configuration on standard input is in force when it returns.

{ base && rule '{ loadBalancer: { simple: RANDOM } }'; } >"$CONFIG"
start_flatd
export ORIGIN_WAITS=$WORK
i=0
for name in a b c; do
	i=$((i + 1))
	start "origin-$name" over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$(cut -d' ' -f$i <<<"$A $B $C")" "$name"
done
listeners() { [ "$(state "len(s['listeners'])")" -ge 3 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"
url=http://origin.e2e.example
get() { over curl -sS -m 20 "$@" 2>&1; }
# names ARGUMENTS...: who answered, a letter each.
names() { get "$@" | grep -oE '"name": "[abc]"' | cut -d'"' -f4 | tr -d '\n'; }
count() { tr -cd "$1" <<<"$2" | wc -c; }
distinct() { fold -w1 <<<"$1" | sort -u | tr -d '\n'; }

# --- without keys ---

GOT=$(names "$url/echo?n=[1-300]")
same random-all-answered 300 "${#GOT}"
# Six standard deviations of 300 draws at a third are 49.
for name in a b c; do
	holds "random-$name ($(count $name "$GOT") of 300)" test "$(count $name "$GOT")" -ge 51 -a "$(count $name "$GOT")" -le 149
done
RR=$(printf 'abc%.0s' {1..100})
holds random-is-no-turn test "$GOT" != "$RR"

apply < <(base && rule '{ loadBalancer: { simple: LEAST_REQUEST } }')
# One server is kept busy; whoever is drawn beside it has less to do.
over curl -sS -m 200 "$url/until/then" >/dev/null 2>&1 &
BUSY=$!
E2E_PIDS+=("$BUSY")
on_its_way() { [ "$(state "sum(1 for c in s['connections'] if c['service'] == 'origin.e2e.example')")" -ge 2 ]; }
wait_for 10 on_its_way || die busy "$(state "s['connections']")"
GOT=$(names "$url/echo?n=[1-300]")
same least-all-answered 300 "${#GOT}"
# Each is drawn first a third of the time; the busy one is taken only where it is drawn twice (1 in 9): 33 times, and seven
# standard deviations are 38.
LEAST=$(for name in a b c; do count $name "$GOT"; done | sort -n | head -n 1)
holds "least-request ($LEAST of 300 by the busy one)" test "$LEAST" -le 71
: >"$WORK/then"
wait "$BUSY"

# --- consistent hashing ---

sticky() {
	local name=$1 spec=$2 one
	shift 2
	apply < <(base && rule "$spec")
	one=$(names "$@" "$url/echo?n=[1-20]")
	same "$name-sticks" 20:1 "${#one}:$(distinct "$one" | wc -c)"
}
by_header() {
	local k args=()
	for k in {1..40}; do
		[ "$k" = 1 ] || args+=(--next)
		args+=(-sS -m 20 -H "x-user: $k" "$url/echo")
	done
	over curl "${args[@]}" 2>&1 | grep -oE '"name": "[abc]"' | cut -d'"' -f4 | tr -d '\n'
}
sticky header '{ loadBalancer: { consistentHash: { httpHeaderName: x-user } } }' -H 'x-user: jason'
RING=$(by_header)
same header-spreads abc "$(distinct "$RING")"
same header-again "$RING" "$(by_header)"
GOT=$(names "$url/echo?n=[1-60]")
same header-missing-is-random abc "$(distinct "$GOT")"
OUT=$(flatctl --control "$CONTROL" routes)
holds routes-say-it grep -qE 'DestinationRule e2e/origin \(.*mesh.yaml:[0-9]+\): origin.e2e.example by RING_HASH of header x-user' <<<"$OUT"
same routes-json 'by RING_HASH of header x-user' "$(flatctl --control "$CONTROL" --json routes | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["destination_rules"][0]["balanced"])')"
apply < <(base && rule '{ loadBalancer: { simple: RANDOM } }, workloadSelector: { matchLabels: { app: web, tier: front } }')
OUT=$(flatctl --control "$CONTROL" routes)
holds routes-say-for-whom grep -qE ': origin.e2e.example for clients with app=web, tier=front by RANDOM' <<<"$OUT"
same routes-json-for-whom "{'app': 'web', 'tier': 'front'}" "$(flatctl --control "$CONTROL" --json routes | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["destination_rules"][0]["workload_selector"])')"

sticky maglev '{ loadBalancer: { consistentHash: { httpHeaderName: x-user, maglev: { tableSize: 65537 } } } }' -H 'x-user: jason'
GOT=$(by_header)
same maglev-spreads abc "$(distinct "$GOT")"
sticky source '{ loadBalancer: { consistentHash: { useSourceIp: true } } }'

apply < <(base && rule '{ loadBalancer: { consistentHash: { httpQueryParameterName: user } } }')
same query-sticks 1 "$(distinct "$(names "$url/echo?n=[1-20]&user=jason")" | wc -c)"
same query-spreads abc "$(distinct "$(names "$url/echo?user=[1-40]")")"

apply < <(base && rule '{ loadBalancer: { consistentHash: { httpCookie: { name: session, path: /echo, ttl: 90s } } } }')
GOT=$(get -D "$WORK/head" "$url/echo" | grep -oE '"name": "[abc]"' | cut -d'"' -f4)
COOKIE=$(tr -d '\r' <"$WORK/head" | sed -n 's/^set-cookie: //pI')
holds "cookie-is-given ($COOKIE)" grep -qE '^session="[0-9a-f]{16}"; Max-Age=90; Path=/echo; HttpOnly$' <<<"$COOKIE"
VALUE=$(sed -E 's/session="?([0-9a-f]+).*/\1/' <<<"$COOKIE")
same cookie-sticks "$GOT$GOT$GOT$GOT" "$(names -H "Cookie: a=b; session=$VALUE" "$url/echo?n=[1-4]")"
get -D "$WORK/head" -H "Cookie: session=$VALUE" "$url/echo" >/dev/null
same cookie-is-not-given-again 0 "$(grep -ci set-cookie "$WORK/head")"

# --- which of the policies holds ---

V2='{ name: v2, labels: { version: v2 }, trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x-user } } } }'
apply < <(base && rule '{ loadBalancer: { simple: ROUND_ROBIN } }' "[$V2]" &&
	route '[{ match: [{ uri: { prefix: /v2 } }], rewrite: { uri: /echo }, route: [{ destination: { host: origin.e2e.example, subset: v2 } }] },
  { route: [{ destination: { host: origin.e2e.example } }] }]')
GOT=$(names -H 'x-user: jason' "$url/v2?n=[1-20]")
same subset-hashes 20:1 "${#GOT}:$(distinct "$GOT" | wc -c)"
same service-takes-turns abc "$(distinct "$(names -H 'x-user: jason' "$url/echo?n=[1-3]")")"
apply < <(base && rule '{ loadBalancer: { simple: ROUND_ROBIN }, portLevelSettings: [{ port: { number: 80 }, loadBalancer: { consistentHash: { httpHeaderName: x-user } } }] }')
GOT=$(names -H 'x-user: jason' "$url/echo?n=[1-20]")
same port-hashes 20:1 "${#GOT}:$(distinct "$GOT" | wc -c)"
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/origin)
holds why-says-it grep -q 'by RING_HASH of header x-user: 127.0.0.1:' <<<"$OUT"
