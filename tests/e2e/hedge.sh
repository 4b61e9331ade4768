#!/bin/bash
# Hedging: a try whose time is over goes on beside the next one. Servers that answer when they are told to (hedge_origin.py), so that who
# is first is said here, not by chance. HTTP/1, HTTP/2 and gRPC, to servers of the mesh and to one outside.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
"$PYTHON" -c 'import h2' 2>/dev/null || { echo "SKIP $E2E_NAME: no h2" && exit 77; }

port && A=$PORT
port && B=$PORT
port && C=$PORT
port && D=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(command -v curl)" "$WORK/near-curl"
mkdir "$WORK/asked"
: >"$WORK/body"

# A try's time, ms; and how many more tries there are.
TRY=150
base() {
	workload origin "$WORK/origin-python"
	workload near "$WORK/near-curl"
	entry h1 240.9.10.1 http "$A" "$B"
	entry h2 240.9.10.2 http2 "$A" "$B"
	entry out 240.9.10.3 http "$C" "$D"
}
# route HOST ATTEMPTS RETRY-ON [MORE]: its VirtualService.
route() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  http:
  - name: plain
    match: [{ uri: { prefix: /plain } }]
    retries: { attempts: $2, perTryTimeout: ${TRY}ms, retryOn: "$3" }
    route: [{ destination: { host: $1.e2e.example } }]
  - name: short
    match: [{ uri: { prefix: /short } }]
    timeout: 2s
    retries: { attempts: $2, perTryTimeout: ${TRY}ms, retryOn: "$3" }
    route: [{ destination: { host: $1.e2e.example } }]
  - name: all
    retries: { attempts: $2, perTryTimeout: ${TRY}ms, retryOn: "$3" }
    route: [{ destination: { host: $1.e2e.example } }]
END
}
rule() {
	printf -- '---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: %s, namespace: e2e }\n' "$1"
	printf 'spec: { host: %s.e2e.example, trafficPolicy: %s }\n' "$1" "$2"
}
hedges() {
	cat <<END
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: hedges, namespace: istio-system }
spec:
  configPatches:
  - applyTo: VIRTUAL_HOST
    match: { context: SIDECAR_OUTBOUND }
    patch: { operation: MERGE, value: { hedge_policy: { hedge_on_per_try_timeout: true } } }
  - applyTo: HTTP_ROUTE
    match: { context: SIDECAR_OUTBOUND, routeConfiguration: { vhost: { route: { name: plain } } } }
    patch: { operation: MERGE, value: { route: { hedge_policy: { hedge_on_per_try_timeout: false } } } }
END
}
# with ATTEMPTS RETRY-ON [RULE]: in force when it returns.
with() {
	apply < <(
		base
		for host in h1 h2 out; do
			route "$host" "$1" "$2"
			[ -z "${3:-}" ] || rule "$host" "$3"
		done
		hedges
	)
}
cluster() {
	flatctl --control "$CONTROL" --json clusters | "$PYTHON" -c 'import json, sys
c = [c for c in json.load(sys.stdin)["clusters"] if c["host"] == sys.argv[1] + ".e2e.example"][0]
print(eval(sys.argv[2]))' "$1" "$2"
}
on_their_way() { [ "$(cluster "$HOST" "c['active']")" = "$1" ]; }
metric() { curl -sS "http://127.0.0.1:$METRICS/metrics" | sed -n "s/^$1 //p"; }
reaches() { [ "$(metric "$1")" -ge "$2" ]; }

# ask KEY [CURL-OPTION...]: a request, in the background, as $CURL says; `answer`: waits for it, its status and body in $ANSWER.
ask() {
	KEY=$1
	# shellcheck disable=SC2086
	flat-run --control "$CONTROL" "$WORK/near-curl" -sS $CURL -m 60 -w '%{http_code} ' -o "$WORK/body" "${@:2}" \
		"http://$HOST.e2e.example/$KEY" <"${BODY:-/dev/null}" >"$WORK/code" 2>"$WORK/error" &
	CLIENT=$!
	E2E_PIDS+=("$CLIENT")
}
answer() {
	wait "$CLIENT"
	ANSWER="$(cat "$WORK/code")$(tr -d '\0-\37' <"$WORK/body")"
	: >"$WORK/body"
}
# answers NAME WANTED: one case, of the request that was asked last.
answers() {
	answer
	same "$1" "$2" "$ANSWER"
}
there() { [ -e "$WORK/asked/$KEY.$1" ]; }
# came N: the Nth try is at a server. left N: nobody waits for it any more.
came() { wait_for 20 there "$1" || die "$CASE-came-$1" "$(ls "$WORK/asked" | tail -n 5)"; }
left() {
	wait_for 20 there "$1.gone" || die "$CASE-left-$1" "$(ls "$WORK/asked" | tail -n 5)"
	cat "$WORK/asked/$KEY.$1.gone"
}
# go N WORDS: it does that. go2: then.
go() {
	echo "${*:2}" >"$WORK/asked/.go"
	mv "$WORK/asked/.go" "$WORK/asked/$KEY.$1.${STEP:-go}"
}
tries() { find "$WORK/asked" -name "$KEY.*.taken" | wc -l; }

base >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
for name in a:$A b:$B; do
	start "origin-${name%:*}" over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/hedge_origin.py" "${name#*:}" "${name%:*}" "$WORK/asked"
done
for name in c:$C d:$D; do
	serve "origin-${name%:*}" "${name#*:}" "$PYTHON" -B "$E2E_ROOT/tests/e2e/hedge_origin.py" "${name#*:}" "${name%:*}" "$WORK/asked"
done
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"

# --- one more try, at most ---

with 1 5xx
one_more() {
	local gone=$1 made

	made=$(metric 'flat_hedges_total{result="made"}')
	CASE=$WAY-second-answers
	ask "$WAY-1"
	came 1
	came 2
	go 2 200
	answers "$CASE" "200 $KEY.2"
	same "$CASE-first-ends" "$gone" "$(left 1)"
	same "$CASE-counted" $((made + 1)) "$(metric 'flat_hedges_total{result="made"}')"

	CASE=$WAY-first-answers
	ask "$WAY-2"
	came 2
	go 1 200
	answers "$CASE" "200 $KEY.1"
	same "$CASE-second-ends" "$gone" "$(left 2)"
	# The line names the server that answered.
	logged() { grep -q "GET /$KEY HTTP.* 200 - .*\"127.0.0.1:$(cut -d' ' -f1 "$WORK/asked/$KEY.1")\"$" "$WORK/access.log"; }
	holds "$CASE-logged" wait_for 10 logged

	for how in 503 close garbage; do
		CASE=$WAY-first-$how
		ask "$WAY-3-$how"
		came 2
		go 1 $how
		holds "$CASE-waits" wait_for 10 on_their_way 1
		go 2 200
		answers "$CASE" "200 $KEY.2"

		CASE=$WAY-second-$how
		ask "$WAY-4-$how"
		came 2
		go 2 $how
		holds "$CASE-waits" wait_for 10 on_their_way 1
		go 1 200
		answers "$CASE" "200 $KEY.1"
	done

	# An answer that no route tries again after is one, whatever it is; one that it does is the client's if it is the last.
	CASE=$WAY-first-404
	ask "$WAY-5"
	came 2
	go 1 404
	answers "$CASE" "404 $KEY.1"
	left 2 >/dev/null
	CASE=$WAY-both-fail
	ask "$WAY-6"
	came 2
	go 2 503
	wait_for 10 on_their_way 1 || fail "$CASE-waits"
	go 1 500
	answers "$CASE" "500 $KEY.1"

	CASE=$WAY-both-slow
	ask "short-$WAY-7"
	came 2
	answers "$CASE" '504 upstream request timeout'
	same "$CASE-end" "$gone $gone" "$(left 1) $(left 2)"
	same "$CASE-tries" 2 "$(tries)"
	logged() { grep -q "GET /$KEY HTTP.* 504 UT " "$WORK/access.log"; }
	holds "$CASE-logged" wait_for 10 logged
	holds "$CASE-nothing-left" wait_for 10 on_their_way 0

	CASE=$WAY-client-leaves
	ask "$WAY-8"
	came 2
	kill "$CLIENT"
	wait "$CLIENT" 2>/dev/null
	# Its connections to servers go with it.
	left 1 >/dev/null
	left 2 >/dev/null
	holds "$CASE-nothing-left" wait_for 10 on_their_way 0

	# Both have all of the body; what outgrows the buffer is sent once.
	head -c 50000 /dev/urandom >"$WORK/small"
	head -c 400000 /dev/urandom >"$WORK/large"
	for body in --data-binary --upload-file; do
		CASE=$WAY-body$body
		# The one with its length, the other without.
		BODY=$WORK/small ask "$WAY-9$body" -H 'Expect:' -X POST $body "$([ $body = --upload-file ] && echo - || echo @-)"
		came 2
		for try in 1 2; do
			same "$CASE-$try" "50000 $(hash_of <"$WORK/small")" "$(cut -d' ' -f 3- "$WORK/asked/$KEY.$try")"
		done
		go $((RANDOM % 2 + 1)) 200
		answer
		same "$CASE" 200 "${ANSWER%% *}"
	done
	CASE=$WAY-large
	refused=$(metric 'flat_hedges_total{result="refused"}')
	ask "$WAY-10" -H 'Expect:' -X POST --data-binary "@$WORK/large"
	came 1
	holds "$CASE-goes-on" wait_for 10 reaches 'flat_hedges_total{result="refused"}' $((refused + 1))
	go 1 200
	answers "$CASE" "200 $KEY.1"
	same "$CASE-tries" 1 "$(tries)"

	# Both at once: one of them, once.
	CASE=$WAY-both-at-once
	for i in 1 2 3 4 5 6 7 8; do
		ask "$WAY-11-$i"
		came 2
		go 1 200
		go 2 200
		answer
		[ "$ANSWER" = "200 $KEY.1" ] || [ "$ANSWER" = "200 $KEY.2" ] || fail "$CASE" "$ANSWER"
	done
	holds "$CASE-nothing-left" wait_for 10 on_their_way 0

	CASE=$WAY-interim
	ask "$WAY-12"
	came 2
	go 1 103
	same "$CASE-others-end" "$gone" "$(left 2)"
	STEP=go2 go 1 200
	answers "$CASE" "200 $KEY.1"

	# Without hedging the first one ends when its time is over.
	CASE=$WAY-plain
	KEY=plain-$WAY-13
	go 2 200
	ask "$KEY"
	same "$CASE-first-ends" "$gone" "$(left 1)"
	answers "$CASE" "200 $KEY.2"
	# No time ends an answer that has begun: as long as it takes till another try of another request.
	CASE=$WAY-begun
	KEY=plain-$WAY-14
	go 1 half
	ask "$KEY"
	came 1
	KEY=$WAY-15
	flat-run --control "$CONTROL" "$WORK/near-curl" -sS -m 60 -o "$WORK/other" "http://$HOST.e2e.example/$KEY" &
	OTHER=$!
	E2E_PIDS+=("$OTHER")
	came 2
	go 2 200
	wait "$OTHER"
	KEY=plain-$WAY-14
	STEP=go2 go 1 200
	answers "$CASE" "200 $KEY.1"
}
HOST=h1 CURL='' WAY=h1
one_more over
HOST=out CURL='' WAY=outside
one_more over
HOST=h2 CURL=--http2-prior-knowledge WAY=h2
one_more 'reset 8'
HOST=h2 CURL='' WAY=h1-h2
one_more 'reset 8'
HOST=h1 CURL=--http2-prior-knowledge WAY=h2-h1
one_more over

# A stream that ends leaves its connection to the others.
HOST=h2 WAY=same-connection KEY=same-1
flat-run --control "$CONTROL" "$WORK/near-curl" -sS -m 60 "http://h2.e2e.example/same-1" "http://h2.e2e.example/same-2" "http://h2.e2e.example/same-3" >"$WORK/same" 2>&1 &
CLIENT=$!
E2E_PIDS+=("$CLIENT")
CASE=$WAY
came 2
go 1 200
left 2 >/dev/null
for KEY in same-2 same-3; do
	came 1
	go 1 200
done
wait "$CLIENT"
same "$WAY" same-1.1same-2.1same-3.1 "$(cat "$WORK/same")"
same "$WAY-kept" 2 "$(cat "$WORK"/asked/same-?.[12] | cut -d' ' -f2 | sort -u | wc -l)"

# --- more of them ---

with 3 5xx
more() {
	CASE=$WAY-third
	ask "$WAY-20"
	came 3
	holds "$CASE-all-counted" test "$(cluster "$HOST" "c['active']")" -ge 3
	go 2 200
	answers "$CASE" "200 $KEY.2"
	left 1 >/dev/null
	left 3 >/dev/null

	# A try that fails is made again while the first goes on.
	CASE=$WAY-fails-again
	ask "$WAY-21"
	came 2
	go 2 503
	came 3
	go 3 close
	came 4
	go 4 200
	answers "$CASE" "200 $KEY.4"
	left 1 >/dev/null

	CASE=$WAY-all-slow
	ask "short-$WAY-22"
	answers "$CASE" '504 upstream request timeout'
	same "$CASE-tries" 4 "$(tries)"
	for try in 1 2 3 4; do left $try >/dev/null; done
	holds "$CASE-nothing-left" wait_for 10 on_their_way 0
}
HOST=h1 CURL='' WAY=h1
more
HOST=h2 CURL=--http2-prior-knowledge WAY=h2
more

# --- bounds and what is known of servers ---

NONE='retryBudget: { percent: 0, minRetryConcurrency: 0 }'
with 3 5xx "{ $NONE }"
HOST=h1 CURL='' CASE=budget
ask budget-1
came 1
full() { [ "$(cluster h1 "c['overflows']['retries']")" -ge 1 ]; }
holds budget-refuses wait_for 10 full
go 1 200
answers budget-goes-on "200 $KEY.1"
same budget-tries 1 "$(tries)"

with 3 5xx '{ connectionPool: { http: { maxRetries: 1 } } }'
CASE=max-retries
ask max-1
came 2
two_full() { [ "$(cluster h1 "c['overflows']['retries']")" -ge 2 ]; }
holds max-retries-refuses wait_for 10 two_full
same max-retries-tries 2 "$(tries)"
go 2 200
answers max-retries "200 $KEY.2"

# No room for a request more: the one that goes on is waited for.
with 1 5xx '{ connectionPool: { http: { http2MaxRequests: 1 } } }'
CASE=max-requests
before=$(cluster h1 "c['overflows']['requests']")
ask max-2
came 1
no_room() { [ "$(cluster h1 "c['overflows']['requests']")" -gt "$before" ]; }
holds max-requests-refuses wait_for 10 no_room
go 1 200
answers max-requests "200 $KEY.1"

# Each whose time is over is an error of its server, once, though it answers later.
with 1 5xx '{ outlierDetection: { consecutive5xxErrors: 5 }, loadBalancer: { simple: ROUND_ROBIN } }'
CASE=outlier
errors() { cluster h1 "sum(e['errors'] for e in c['endpoints'])"; }
before=$(errors)
refused=$(metric 'flat_hedges_total{result="refused"}')
ask outlier-1
came 2
# The second one's time is over too, and there is no third.
wait_for 10 reaches 'flat_hedges_total{result="refused"}' $((refused + 1)) || fail outlier-second
same outlier-times-out $((before + 2)) "$(errors)"
go 1 200
answers outlier "200 $KEY.1"
left 2 >/dev/null
same outlier-once $((before + 2)) "$(errors)"

# --- gRPC ---

with 1 unavailable
HOST=h2 CURL='--http2-prior-knowledge -X POST -H content-type:application/grpc -H te:trailers' WAY=grpc
printf '\0\0\0\0\5hello' >"$WORK/message"
# call KEY: likewise; its answer is the message.
call() { ask "$1" --data-binary "@$WORK/message" -D "$WORK/heads"; }
CASE=grpc-second
call grpc-1
came 2
go 2 grpc 0
answers grpc-second "200 $KEY.2"
same grpc-second-trailers 'grpc-status: 0' "$(grep -i '^grpc-status' "$WORK/heads" | tr -d '\r')"
left 1 >/dev/null
CASE=grpc-unavailable
call grpc-2
came 2
go 1 grpc 14
holds grpc-unavailable-waits wait_for 10 on_their_way 1
go 2 grpc 0
answers grpc-unavailable "200 $KEY.2"
# Of another status the caller is told.
CASE=grpc-not-found
call grpc-3
came 2
go 1 grpc 5
answer
same grpc-not-found 'grpc-status: 5' "$(grep -i '^grpc-status' "$WORK/heads" | tr -d '\r')"
left 2 >/dev/null

# --- what is told ---

holds why grep -q "hedged after $TRY ms, up to 1 more, by EnvoyFilter istio-system/hedges (.*mesh.yaml:[0-9]*)" \
	<(flatctl --control "$CONTROL" why 'GET http://h1.e2e.example/x' --from e2e/near 2>&1)
holds why-not test -z "$(flatctl --control "$CONTROL" why 'GET http://h1.e2e.example/plain' --from e2e/near 2>&1 | grep hedged)"
for by in earlier latest; do holds "counted-$by" reaches "flat_hedged_answers_total{by=\"$by\"}" 5; done

# --- a try that is made at once and waits for room has no time of the one before it ---

# Two keys of the hash, of either server; B's is one of those (31 of 32, and the ring is made of the ports) whose next try is A's. Then one
# client holds a connection to A; when there may be one alone the other's request goes to B, which closes it.
CASE=room
HOST=h3
CURL=
# at_most [POOL]
at_most() {
	apply < <(
		base
		entry h3 240.9.10.4 http "$A" "$B"
		rule h3 "{ ${1:-}loadBalancer: { consistentHash: { httpHeaderName: x-key } } }"
		cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: h3, namespace: e2e }
spec:
  hosts: [h3.e2e.example]
  http:
  - match: [{ uri: { prefix: /room-held } }]
    route: [{ destination: { host: h3.e2e.example } }]
  - retries: { attempts: 3, perTryTimeout: 1500ms, retryOn: 5xx }
    route: [{ destination: { host: h3.e2e.example } }]
END
	)
}
at_most
declare -A key_of=()
for i in {1..40}; do
	KEY=room-probe-$i
	go 1 close
	go 2 200
	ask "$KEY" -H "x-key: $i"
	answer
	case $(cat "$WORK/asked/$KEY.1" "$WORK/asked/$KEY.2" | cut -d' ' -f2 | cut -c1 | xargs) in
	a*) key_of[a]=$i ;;
	'b a') key_of[b]=$i ;;
	esac
	[ "${#key_of[@]}" -lt 2 ] || break
done
ask room-held -H "x-key: ${key_of[a]}"
came 1
HOLDER=$CLIENT
at_most 'connectionPool: { tcp: { maxConnections: 1 } }, '
KEY=room-waits
go 1 200
go 2 close
for i in {3..9}; do go "$i" 200; done
ask room-waits -H "x-key: ${key_of[b]}" "http://h3.e2e.example/room-waits" -o "$WORK/body-2"
came 2
waiting() { [ "$(cluster h3 "c['pending']")" -ge "$1" ]; }
holds room-waits wait_for 20 waiting 1
# Longer than a try may take.
if within 4 waiting 2; then fail room-waits-once "$(cluster h3 c)"; else pass room-waits-once; fi
same room-not-tried 2 "$(tries)"
KEY=room-held
go 1 200
wait "$HOLDER"
KEY=room-waits
answer
same room-is-answered '200 200' "$(xargs <"$WORK/code")"
nobody_waits() { ! waiting 1; }
holds room-nobody-waits wait_for 20 nobody_waits
