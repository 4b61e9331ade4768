#!/bin/bash
# After Istio's documentation tasks: circuit breaking (connectionPool), outlier detection, locality failover and distribution,
# retry budgets; and what holds for connections that are not read as HTTP. Unmodified curl and wrk-like load under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
port && DEAD=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(command -v curl)" "$WORK/near-curl"

base() {
	workload origin "$WORK/origin-python"
	entry one 240.9.9.1 http "$A"
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: near, namespace: e2e }
spec: { locality: us/a/1, selectors: [{ executable: $WORK/near-curl }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: two, namespace: e2e }
spec:
  hosts: [two.e2e.example]
  addresses: [240.9.9.2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
  - { address: 127.0.0.1, ports: { http: $A }, locality: us/a/1 }
  - { address: 127.0.0.1, ports: { http: $B }, locality: us/b/1 }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: plain, namespace: e2e }
spec:
  hosts: [plain.e2e.example]
  addresses: [240.9.9.3]
  resolution: STATIC
  ports: [{ number: 80, name: tcp, protocol: TCP }]
  endpoints: [{ address: 127.0.0.1, ports: { tcp: $DEAD } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: raw, namespace: e2e }
spec:
  hosts: [raw.e2e.example]
  addresses: [240.9.9.4]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: tcp, protocol: TCP }]
  endpoints: [{ address: 127.0.0.1, ports: { tcp: $A } }]
END
}
# rule HOST TRAFFIC-POLICY
rule() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: %s, namespace: e2e }\n' "$1"
	printf 'spec: { host: %s.e2e.example, trafficPolicy: %s }\n' "$1" "$2"
}
# route HOST HTTP-ROUTES
route() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: %s, namespace: e2e }\n' "$1"
	printf 'spec: { hosts: [%s.e2e.example], http: %s }\n' "$1" "$2"
}
# apply: the configuration on standard input is in force when it returns.
# cluster HOST EXPRESSION: of what `flatctl clusters` tells of it, as `c`.
cluster() {
	flatctl --control "$CONTROL" --json clusters | "$PYTHON" -c 'import json, sys
c = [c for c in json.load(sys.stdin)["clusters"] if c["host"] == sys.argv[1] + ".e2e.example"][0]
print(eval(sys.argv[2]))' "$1" "$2"
}
get() { over curl -sS -m 20 "$@" 2>&1; }
near() { over "$WORK/near-curl" -sS -m 20 "$@" 2>&1; }
code() { get -o /dev/null -w '%{http_code}' "$@"; }
names() { grep -oE '"name": "[ab]"' | cut -d'"' -f4 | tr -d '\n'; }
count() { tr -cd "$1" <<<"$2" | wc -c; }

base >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --access-log "$WORK/access.log"
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
# /until/NAME of the servers: they answer once there is this file.
export ORIGIN_WAITS=$WORK
i=0
for name in a b; do
	i=$((i + 1))
	start "origin-$name" over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$(cut -d' ' -f$i <<<"$A $B")" "$name"
done
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"
one=http://one.e2e.example
two=http://two.e2e.example

# --- circuit breaking ---

apply < <(base && rule one '{ connectionPool: { tcp: { maxConnections: 1 }, http: { http1MaxPendingRequests: 1 } } }')
# hold NAME: a request that the server answers after let_go NAME.
hold() {
	over curl -sS -m 60 -o /dev/null -w '%{http_code}\n' "$one/until/let-$1" >"$WORK/held-$1" 2>&1 &
	E2E_PIDS+=("$!")
	HELD=$!
}
let_go() { : >"$WORK/let-$1"; }
busy() { [ "$(cluster one "c['active']")" = 1 ]; }
waits() { [ "$(cluster one "c['pending']")" = 1 ]; }
hold 1
FIRST=$HELD
wait_for 10 busy || die busy "$(cluster one c)"
let_go 2
hold 2
SECOND=$HELD
wait_for 10 waits || die waits "$(cluster one c)"
OUT=$(get -i "$one/echo" | tr -d '\r')
same overflow-status 'HTTP/1.1 503 ' "$(head -n 1 <<<"$OUT" | cut -c 1-13)"
same overflow-header true "$(sed -n 's/^x-envoy-overloaded: //pI' <<<"$OUT")"
same overflow-body 'upstream connect error or disconnect/reset before headers. reset reason: overflow' "$(tail -n 1 <<<"$OUT")"
holds overflow-flag wait_for 10 grep -q '"GET /echo HTTP/1.1" 503 UO ' "$WORK/access.log"
let_go 1
wait "$FIRST" "$SECOND"
same busy-is-answered 200 "$(cat "$WORK/held-1")"
same pending-is-answered 200 "$(cat "$WORK/held-2")"
same overflow-counted '1 1' "$(cluster one "c['overflows']['pending']") $(cluster one "c['overflows']['connections']")"
same nothing-is-left '0 0' "$(cluster one "c['active']") $(cluster one "c['pending']")"
# An idle connection of another client makes room.
same idle-makes-room '200 200 200' "$(code $one/echo) $(code $one/echo) $(code $one/echo)"
# A client that waits for room may go away, or run out of time.
apply < <(base && rule one '{ connectionPool: { tcp: { maxConnections: 1 } } }' && route one '[{ match: [{ uri: { prefix: /until } }], route: [{ destination: { host: one.e2e.example } }] }, { timeout: 100ms, route: [{ destination: { host: one.e2e.example } }] }]')
hold 3
wait_for 10 busy || die busy "$(cluster one c)"
same pending-times-out 504 "$(code $one/echo)"
same pending-client-goes '(28)' "$(over curl -sS -m 0.3 "$one/until/let-3" 2>&1 | grep -oF '(28)')"
leaves() { [ "$(cluster one "c['pending']")" = 0 ]; }
holds pending-client-is-gone wait_for 10 leaves
let_go 3
wait "$HELD"
# One that is refused when its turn comes leaves the room to the next, though nothing else moves: its holder stays connected.
apply < <(base && rule one '{ connectionPool: { tcp: { maxConnections: 1 } } }')
cat >"$WORK/keep.py" <<'END'
import http.client, os, sys, time
c = http.client.HTTPConnection("one.e2e.example", timeout=60)
c.request("GET", "/until/let-5")
c.getresponse().read()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
END
over "$PYTHON" "$WORK/keep.py" "$WORK/let-6" >"$WORK/keep.log" 2>&1 &
KEEPER=$!
E2E_PIDS+=("$KEEPER")
wait_for 10 busy || die busy "$(cluster one c)"
# in_line N PATH: the Nth that waits.
in_line() {
	over curl -sS -m 60 -o /dev/null -w '%{http_code}' "$one$2" >"$WORK/line-$1" 2>&1 &
	E2E_PIDS+=("$!")
	all_wait() { [ "$(cluster one "c['pending']")" = "$1" ]; }
	wait_for 10 all_wait "$1" || die "in-line-$1" "$(cluster one c)"
}
in_line 1 /echo
in_line 2 /status/200
apply < <(
	base && rule one '{ connectionPool: { tcp: { maxConnections: 1 } } }'
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-echo, namespace: e2e }
spec: { selector: { matchLabels: { app: origin } }, action: DENY, rules: [{ to: [{ operation: { paths: [/echo] } }] }] }
END
)
let_go 5
told() { [ "$(cat "$WORK/line-1") $(cat "$WORK/line-2")" = '403 200' ]; }
holds room-is-passed-on wait_for 10 told
let_go 6
wait "$KEEPER"
# A reload that raises the bound, or takes it away, lets those go on that wait, though no connection moves.
apply < <(base && rule one '{ connectionPool: { tcp: { maxConnections: 1 } } }')
hold 7
wait_for 10 busy || die busy "$(cluster one c)"
in_line 1 /status/201
apply < <(base && rule one '{ connectionPool: { tcp: { maxConnections: 2 } } }')
raised() { [ "$(cat "$WORK/line-1")" = 201 ]; }
holds raised-bound-wakes wait_for 10 raised
one_left() { [ "$(cluster one "c['connections']")" = 1 ]; }
wait_for 10 one_left || die one-left "$(cluster one c)"
apply < <(base && rule one '{ connectionPool: { tcp: { maxConnections: 1 } } }')
in_line 1 /status/201
apply < <(base)
removed() { [ "$(cat "$WORK/line-1")" = 201 ]; }
holds removed-bound-wakes wait_for 10 removed
let_go 7
wait "$HELD"
apply < <(base && rule one '{ connectionPool: { http: { http2MaxRequests: 1, maxRequestsPerConnection: 1 } } }')
hold 4
wait_for 10 busy || die busy "$(cluster one c)"
same max-requests 503 "$(code $one/echo)"
let_go 4
wait "$HELD"
same one-request-a-connection '200 200' "$(get -o /dev/null -o /dev/null -w '%{http_code}\n' $one/echo $one/echo | paste -sd' ')"
same one-request-a-connection-closed 0 "$(cluster one "c['connections']")"
apply < <(base && rule one '{ connectionPool: { http: { idleTimeout: 200ms } } }')
cat >"$WORK/idle.py" <<'END'
import http.client, sys, time
c = http.client.HTTPConnection("one.e2e.example", timeout=10)
for pause in (0, 5):
    c.request("GET", "/echo")
    print(c.getresponse().read() != b"", flush=True)
    sys.stdin.readline()
END
coproc CLIENT { over "$PYTHON" "$WORK/idle.py" 2>&1; }
read -r OUT <&"${CLIENT[0]}"
same idle-first True "$OUT"
rested() { [ "$(cluster one "c['connections']")" = 0 ]; }
holds idle-timeout-closes wait_for 10 rested
echo >&"${CLIENT[1]}"
read -r OUT <&"${CLIENT[0]}"
same idle-again True "$OUT"
echo >&"${CLIENT[1]}"
wait "$CLIENT_PID" 2>/dev/null

# --- retries ---

RETRY='{ retries: { attempts: 3, retryOn: 5xx }, route: [{ destination: { host: one.e2e.example } }] }'
apply < <(base && rule one '{ retryBudget: { percent: 0, minRetryConcurrency: 0 } }' && route one "[$RETRY]")
same no-budget-no-retry '503 1' "$(code $one/flaky/budget/1) $(cluster one "c['overflows']['retries']")"
apply < <(base && rule one '{ retryBudget: { percent: 0 } }' && route one "[$RETRY]")
same least-budget 200 "$(code $one/flaky/least/2)"
apply < <(base && route two '[{ retries: { attempts: 5, retryOn: "503" }, route: [{ destination: { host: two.e2e.example } }] }]')
# Each server refuses the first of a key: a retry goes to the other one, then back.
for k in 1 2 3 4 5; do get -o /dev/null "$two/flaky/elsewhere$k/1"; done
same retries-go-elsewhere True "$(cluster two "min(e['errors'] for e in c['endpoints']) >= 4")"

# --- outlier detection ---

OUTLIER='outlierDetection: { consecutive5xxErrors: 2, interval: 100ms, baseEjectionTime: 300s, maxEjectionPercent: 100 }'
apply < <(base && rule two "{ $OUTLIER, loadBalancer: { simple: ROUND_ROBIN } }")
get -o /dev/null "$two/status/500?[1-4]"
same outlier-all-aside 'no healthy upstream' "$(get $two/echo)"
holds outlier-flag wait_for 10 grep -q '"GET /echo HTTP/1.1" 503 UH ' "$WORK/access.log"
same outlier-shown '2' "$(cluster two "sum(e['ejected'] for e in c['endpoints'])")"
# Who is aside for a second alone may be back before anybody has looked; so the time is made shorter afterwards. A cluster takes its
# rule with the next request.
apply < <(base && rule two "{ ${OUTLIER/300s/1s}, loadBalancer: { simple: ROUND_ROBIN } }")
get -o /dev/null $two/echo
back() { [ "$(cluster two "sum(e['ejected'] for e in c['endpoints'])")" = 0 ]; }
holds outlier-comes-back wait_for 20 back
same outlier-works-again 200 "$(code $two/echo)"
apply < <(base && rule two "{ outlierDetection: { consecutive5xxErrors: 2, maxEjectionPercent: 100, minHealthPercent: 50 } }")
get -o /dev/null "$two/status/500?[1-8]"
same panic-uses-all 200 "$(code $two/echo)"
# Without the rule all are back.
apply < <(base && rule two '{ loadBalancer: { simple: ROUND_ROBIN } }')
get -o /dev/null $two/echo
apply < <(base && rule two "{ outlierDetection: { consecutive5xxErrors: 2, maxEjectionPercent: 50 } }")
get -o /dev/null "$two/status/500?[1-8]"
same outlier-leaves-half 1 "$(cluster two "sum(e['ejected'] for e in c['endpoints'])")"
same outlier-one-answers 1 "$(get "$two/echo?[1-10]" | names | fold -w1 | sort -u | wc -l)"

# --- localities ---

# Without outlier detection nobody is nearer.
apply < <(base && rule two '{ loadBalancer: { simple: ROUND_ROBIN } }')
same locality-without-outlier 'a b' "$(near "$two/echo?[1-10]" | names | fold -w1 | sort -u | paste -sd' ')"
apply < <(base && rule two "{ $OUTLIER, loadBalancer: { simple: ROUND_ROBIN } }")
same locality-nearest aaaaaaaaaa "$(near "$two/echo?[1-10]" | names)"
same locality-of-others 'a b' "$(get "$two/echo?[1-10]" | names | fold -w1 | sort -u | paste -sd' ')"
apply < <(base && rule two "{ outlierDetection: { consecutive5xxErrors: 1, maxEjectionPercent: 100 }, loadBalancer: { simple: ROUND_ROBIN } }")
near -o /dev/null "$two/status/500"
same locality-fails-over bbbbbbbbbb "$(near "$two/echo?[1-10]" | names)"
apply < <(base && rule two "{ loadBalancer: { simple: ROUND_ROBIN, localityLbSetting: { distribute: [{ from: us/a/*, to: { 'us/a/*': 80, us/b: 20 } }] } } }")
GOT=$(near "$two/echo?[1-100]" | names)
same locality-distribute '80 20' "$(count a "$GOT") $(count b "$GOT")"
apply < <(base && rule two "{ $OUTLIER, loadBalancer: { simple: ROUND_ROBIN, localityLbSetting: { enabled: false } } }")
same locality-off 'a b' "$(near "$two/echo?[1-10]" | names | fold -w1 | sort -u | paste -sd' ')"

# --- connections that are not read as HTTP ---

apply < <(base && rule raw '{ connectionPool: { tcp: { maxConnections: 1 } } }')
over curl -sS -m 60 -o /dev/null "http://raw.e2e.example/until/let-raw" &
HELD=$!
E2E_PIDS+=("$HELD")
raw_busy() { [ "$(cluster raw "c['active']")" = 1 ]; }
wait_for 10 raw_busy || die raw-busy "$(cluster raw c)"
holds tcp-max-connections grep -qE 'refused|Failed to connect|Could.?n.t connect|Could not connect' <(get http://raw.e2e.example/echo)
let_go raw
wait "$HELD"
raw_free() { [ "$(cluster raw "c['active']")" = 0 ]; }
holds tcp-is-given-back wait_for 10 raw_free
same tcp-again 200 "$(code http://raw.e2e.example/echo)"
apply < <(base && rule plain '{ outlierDetection: { consecutive5xxErrors: 2, maxEjectionPercent: 100 } }')
get http://plain.e2e.example/ >/dev/null
get http://plain.e2e.example/ >/dev/null
same tcp-outlier True "$(cluster plain "c['endpoints'][0]['ejected']")"

OUT=$(flatctl --control "$CONTROL" routes)
holds routes-say-it grep -q 'plain.e2e.example, aside after 2 5xx for 30000 ms (of 100 %)' <<<"$OUT"
holds clusters-say-it grep -qE '^  127.0.0.1:[0-9]+: 0 on their way, 2 so far, 2 errors, aside 1 times, aside now$' <(flatctl --control "$CONTROL" clusters)
