#!/bin/bash
# Session persistence: Gateway API's sessionPersistence of rules, by cookie and by header, and Istio's labels of services. Clients come
# back to their server, past weights; forged values, those of other rules and old ones lead nowhere; a server that is gone is replaced.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl

for name in A B C HTTP HTTPS; do
	port && declare "$name=$PORT"
done
authority ca
issue ca host 'DNS:*.example'

# rule PATH SESSION BACKENDS: of an HTTPRoute.
rule() { printf '  - matches: [{ path: { %s } }]\n    sessionPersistence: { %s }\n    backendRefs: [%s]\n' "$1" "$2" "$3"; }
to() { echo "{ group: networking.istio.io, kind: Hostname, name: $1.e2e.example, port: 80${2:+, weight: $2} }"; }
# labelled NAME ADDRESS LABELS: a ServiceEntry of all three servers.
labelled() { entry "$1" "$2" http "$A" "$B" "$C" | sed "s|namespace: e2e }|namespace: e2e, labels: { $3 } }|"; }
# config KEY ENDPOINTS WEIGHT [PORT]: the key of tokens (-: none), the ports that `all` has, the weight of `b`, and which of those ports
# is about to go.
config() {
	ingress ingress edge 'gateway.networking.k8s.io/gateway-name: web'
	workload client "$(readlink -f "$(command -v curl)")"
	secret edge host
	[ "$1" = - ] || printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: { name: flat-sessions, namespace: istio-system }\nstringData: { key: "%s" }\n' "$1"
	cat <<END
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: edge }
spec:
  gatewayClassName: any
  listeners:
  - { name: http, port: $HTTP, protocol: HTTP, allowedRoutes: { namespaces: { from: All } } }
  - { name: https, port: $HTTPS, protocol: HTTPS, tls: { certificateRefs: [{ name: host }] }, allowedRoutes: { namespaces: { from: All } } }
END
	# shellcheck disable=SC2086
	entry all 240.9.14.1 http $2 | sed "s|port: p${4:-none} }|port: p${4:-none}, istio.io/draining: \"true\" }|"
	entry b 240.9.14.2 http "${B_IS:-$B}" && entry c 240.9.14.3 http "$C"
	labelled cookie 240.9.14.4 'istio.io/persistent-session: "stay:/echo"'
	labelled header 240.9.14.5 'istio.io/persistent-session-header: x-stay'
	cat <<END
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: web, namespace: e2e }
spec:
  parentRefs: [{ name: web, namespace: edge }]
  rules:
END
	rule 'value: /echo/plain' 'sessionName: s' "$(to all)"
	rule 'value: /echo/other' 'sessionName: s' "$(to all)"
	rule 'type: RegularExpression, value: "/echo/re/[a-z]+"' 'sessionName: re' "$(to all)"
	rule 'value: /status' '' "$(to all)"
	rule 'value: /echo/header' 'sessionName: x-session, type: Header' "$(to all)"
	rule 'value: /echo/long' 'sessionName: long, absoluteTimeout: 720h, cookieConfig: { lifetimeType: Permanent }' "$(to all)"
	rule 'value: /echo/absolute' 'sessionName: abs, absoluteTimeout: 1s' "$(to all)"
	rule 'value: /echo/idle' 'sessionName: idle, idleTimeout: 1h' "$(to all)"
	rule 'value: /echo/split' 'sessionName: split' "$(to b "$3"), $(to c 1)"
}
config 0123456789abcdef0123456789abcdef "$A $B $C" 1 >"$CONFIG"
run_flatd() {
	start "$1" flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress --access-log "$WORK/access.log" "${@:2}"
	FLATD=$PID
	wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/$1.log")"
	wait_for 10 listening "$HTTPS" || die gateway-opens "$(tail -n 5 "$WORK/$1.log")"
}
run_flatd flatd
for name in A B C; do
	serve "$name" "${!name}" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "${!name}" "${name,}"
	declare "PID_$name=$PID"
done

# ask PATH ARGUMENTS: who answered, then what the client is given; the first line of an answer that is not 200.
web=http://127.0.0.1:$HTTP
ask() { curl -sS -m 20 -D - -o /dev/null "${@:2}" "$web$1" | tr -d '\r' | sed -n '1{/^HTTP[^ ]* 200/!p}; s/^x-name: //ip; s/^set-cookie: //ip; s/^x-session: //ip' | paste -sd' '; }
# begin NAME PATH: a session at NAME: its value in $TOKEN, who has it in $SERVER.
begin() {
	local out
	out=$(ask "$2")
	SERVER=${out%% *}
	TOKEN=${out#* "$1"=}
	TOKEN=${TOKEN%%;*}
}
# servers PATH ARGUMENTS: who answers 12 requests.
servers() { for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do ask "$@"; done | sort -u | paste -sd' '; }

OUT=$(ask /echo/plain)
holds cookie grep -qE '^[abc] s=[A-Za-z0-9_-]{38}; Path=/echo/plain; HttpOnly; SameSite=Lax$' <<<"$OUT"
same cookie-of-a-regex /echo/re "$(ask /echo/re/x | sed -n 's/.*Path=\([^;]*\).*/\1/p')"
holds cookie-without-name grep -qE '^[abc] flat-session-[0-9a-f]{8}=[A-Za-z0-9_-]{38}; Path=/status; ' <<<"$(ask /status/200)"
holds cookie-that-lasts grep -qE '; Max-Age=2592000; Path=/echo/long; HttpOnly' <<<"$(ask /echo/long)"
holds cookie-over-tls grep -qE '^set-cookie: s=.*; Secure' <<<"$(curl -sSk -m 20 -D - -o /dev/null "https://127.0.0.1:$HTTPS/echo/plain" | tr -d '\r')"
holds cookie-over-http2 grep -qE '^set-cookie: s=' <<<"$(curl -sS --http2-prior-knowledge -m 20 -D - -o /dev/null "$web/echo/plain")"
same strangers 'a b c' "$(for _ in $(seq 40); do ask /echo/plain; done | cut -d ' ' -f 1 | sort -u | paste -sd' ')"
for _ in 1 2 3; do
	begin s /echo/plain
	same comes-back "$SERVER" "$(servers /echo/plain -b "a=1; s=$TOKEN")"
done
same among-others "$SERVER" "$(servers /echo/plain -b "s=; s=x; s=$TOKEN; s=y")"
same over-http2 "$SERVER" "$(servers /echo/plain --http2-prior-knowledge -b "s=$TOKEN")"
same over-tls "$SERVER" "$(curl -sSk -m 20 -D - -o /dev/null -b "s=$TOKEN" "https://127.0.0.1:$HTTPS/echo/plain" | tr -d '\r' | sed -n 's/^x-name: //ip; s/^set-cookie: //ip')"
same head "$SERVER" "$(servers /echo/plain -I -b "s=$TOKEN")"

# What is not ours is no session: the client gets a new one. The first character is replaced by one that it is not.
given() { ask "$@" | grep -cE " (s|split|abs)=[A-Za-z0-9_-]{38};"; }
forged=$(tr 'A-Za-z0-9_-' 'B-ZAb-za1-90\-_' <<<"${TOKEN:0:1}")${TOKEN:1}
same forged 1 "$(given /echo/plain -b "s=$forged")"
same cut 1 "$(given /echo/plain -b "s=${TOKEN:0:37}")"
same longer 1 "$(given /echo/plain -b "s=${TOKEN}A")"
same an-address 1 "$(given /echo/plain -b "s=$(printf '127.0.0.1:%s' "$C" | base64)")"
same of-another-rule 1 "$(given /echo/other -b "s=$TOKEN")"

# Whole words: a token may hold such a letter between two dashes.
who() { tr ' ' '\n' <<<"$1" | grep -xE '[abc]'; }
OUT=$(ask /echo/header)
holds header grep -qE '^[abc] [A-Za-z0-9_-]{38}$|^[A-Za-z0-9_-]{38} [abc]$' <<<"$OUT"
TOKEN=$(grep -oE '[A-Za-z0-9_-]{38}' <<<"$OUT")
same header-comes-back "$(who "$OUT")" "$(servers /echo/header -H "X-Session: $TOKEN")"

# Times: what is idle for an hour at most is told anew with each answer; what lasts a second is over some time after it.
begin idle /echo/idle
OUT=$(ask /echo/idle -b "idle=$TOKEN")
holds idle-goes-on grep -qE "^$SERVER idle=[A-Za-z0-9_-]{38};" <<<"$OUT"
begin abs /echo/absolute
over_again() { [ "$(given /echo/absolute -b "abs=$TOKEN")" = 1 ]; }
holds absolute-ends wait_for 20 over_again

# Weights: a session stays, also at a service that new ones do not come to.
is_at() {
	begin "$2" "$3"
	[ "$SERVER" = "$1" ]
}
begin_at() { wait_for 20 is_at "$@" || fail "begins-at-$1"; }
begin_at b split /echo/split
at_b=$TOKEN
begin_at c split /echo/split
same stays-at-b b "$(servers /echo/split -b "split=$at_b")"
same stays-at-c c "$(servers /echo/split -b "split=$TOKEN")"
config 0123456789abcdef0123456789abcdef "$A $B $C" 0 | apply
same stays-without-weight b "$(servers /echo/split -b "split=$at_b")"
same new-ones-by-weight c "$(servers /echo/split | cut -d ' ' -f 1 | sort -u)"

# Its only server is gone: the other service takes over, and says nothing of the cookie that the first one would hash.
{
	B_IS=$A config 0123456789abcdef0123456789abcdef "$A $B $C" 0
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: b, namespace: e2e }
spec: { host: b.e2e.example, trafficPolicy: { loadBalancer: { consistentHash: { httpCookie: { name: hashed, ttl: 10s } } } } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: c, namespace: e2e }
spec: { host: c.e2e.example, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
END
} | apply
holds other-service grep -qE '^c split=[A-Za-z0-9_-]{38}; Path=/echo/split; HttpOnly; SameSite=Lax$' <<<"$(ask /echo/split -b "split=$at_b")"

# A server that is gone: another one, and its session from then on. Those of others go on.
begin_at a s /echo/plain
at_a=$TOKEN
begin_at b s /echo/plain
at_b=$TOKEN
config 0123456789abcdef0123456789abcdef "$B $C" 0 | apply
OUT=$(ask /echo/plain -b "s=$at_a")
holds taken-out grep -qE '^[bc] s=[A-Za-z0-9_-]{38};' <<<"$OUT"
TOKEN=${OUT#* s=}
same goes-on-there "${OUT%% *}" "$(servers /echo/plain -b "s=${TOKEN%%;*}")"
same another-goes-on b "$(servers /echo/plain -b "s=$at_b")"
config 0123456789abcdef0123456789abcdef "$A $B $C" 1 | apply
same is-back a "$(servers /echo/plain -b "s=$at_a")"
config 0123456789abcdef0123456789abcdef "$A $B $C" 1 "$A" | apply
same draining-keeps-its-own a "$(servers /echo/plain -b "s=$at_a")"
same draining-gets-no-others 'b c' "$(for _ in $(seq 40); do ask /echo/plain; done | cut -d ' ' -f 1 | sort -u | paste -sd' ')"
stop "$PID_A"
holds refuses grep -qE '^[bc] s=[A-Za-z0-9_-]{38};' <<<"$(ask /echo/plain -b "s=$at_a")"
serve A "$A" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a

# In the mesh: labels of services.
mesh() { over curl -sS -m 20 -D - -o /dev/null "$@" 2>&1 | tr -d '\r' | sed -n 's/^x-name: //ip; s/^set-cookie: //ip; s/^x-stay: /x-stay /ip' | paste -sd' '; }
OUT=$(mesh http://cookie.e2e.example/echo)
holds label-cookie grep -qE '^[abc] stay=[A-Za-z0-9_-]{38}; Path=/echo; HttpOnly$' <<<"$OUT"
TOKEN=${OUT#* stay=}
same label-comes-back "${OUT%% *}" "$(for _ in 1 2 3 4 5 6; do mesh -b "stay=${TOKEN%%;*}" http://cookie.e2e.example/echo; done | sort -u | paste -sd' ')"
OUT=$(mesh http://header.e2e.example/echo)
holds label-header grep -qE 'x-stay [A-Za-z0-9_-]{38}' <<<"$OUT"
TOKEN=$(grep -oE '[A-Za-z0-9_-]{38}' <<<"$OUT")
same label-header-comes-back "$(who "$OUT")" "$(for _ in 1 2 3 4 5 6; do mesh -H "x-stay: $TOKEN" http://header.e2e.example/echo; done | sort -u | paste -sd' ')"
holds routes-say-it grep -q '; sessions by header x-session' <(flatctl --control "$CONTROL" routes)

# A key of the configuration outlives flatd; without one a successor gets it, and `flatctl check` says so.
stop "$FLATD"
run_flatd flatd-2
same after-a-restart b "$(servers /echo/plain -b "s=$at_b")"
holds check-is-content flatctl check "$CONFIG"
config - "$A $B $C" 1 | apply
same of-another-key 1 "$(given /echo/plain -b "s=$at_b")"
begin s /echo/plain
run_flatd flatd-3 --take-over
holds successor wait_for 10 grep -q 'retired' "$WORK/flatd-2.log"
same after-a-take-over "$SERVER" "$(servers /echo/plain -b "s=$TOKEN")"
holds check-advises grep -q 'without a Secret flat-sessions in namespace istio-system sessions hold at the flatd that began them alone' <(flatctl check "$CONFIG" 2>&1)
