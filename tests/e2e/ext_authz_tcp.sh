#!/bin/bash
# External authorizers over gRPC that are asked about connections (AuthorizationPolicy CUSTOM on a port that is not HTTP), as
# Envoy's network filter asks. The authorizer says what $WORK/says has.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$PYTHON" -c 'import grpc' 2>/dev/null || { echo "SKIP $E2E_NAME: no python3-grpcio" && exit 77; }

port && A=$PORT
port && EXT=$PORT
port && DEAD=$PORT
port && GW=$PORT
PART=$E2E_ROOT/tests/e2e/ext_authz_tcp_part.py
cp "$(readlink -f "$PYTHON")" "$WORK/echo-python"
cp "$(readlink -f "$PYTHON")" "$WORK/shop-python"

base() {
	workload echo "$WORK/echo-python"
	workload shop "$WORK/shop-python"
	service echo 240.9.13.1 80 "$A"
	ingress gw edge 'istio: ingress'
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gw, namespace: edge }
spec: { selector: { istio: ingress }, servers: [{ port: { number: $GW, name: tcp, protocol: TCP }, hosts: ['*'], bind: 127.0.0.1 }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: gw, namespace: e2e }
spec: { hosts: ['*'], gateways: [edge/gw], tcp: [{ match: [{ port: $GW }], route: [{ destination: { host: echo.e2e.example } }] }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ext, namespace: e2e }
spec:
  hosts: [ext.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 9000, name: grpc, protocol: GRPC }, { number: 9001, name: grpc-dead, protocol: GRPC }]
  endpoints: [{ address: 127.0.0.1, ports: { grpc: $EXT, grpc-dead: $DEAD } }]
END
}
# custom [NAME [PROVIDER [NAMESPACE LABEL]]]: a policy that asks. provider NAME KIND PORT [FIELDS]: MeshConfig's.
custom() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: %s, namespace: %s }\n' "${1:-ext}" "${3:-e2e}"
	printf "spec: { selector: { matchLabels: { %s } }, action: CUSTOM, provider: { name: %s }, rules: [{ to: [{ operation: { paths: ['/x'] } }] }] }\n" "${4:-app: echo}" "${2:-ext}"
}
provider() { printf -- '{ name: %s, %s: { service: ext.e2e.example, port: %s%s } }' "$1" "$2" "$3" "${4:-}"; }
mesh() {
	local IFS=,
	printf -- '---\nkind: MeshConfig\nextensionProviders: [%s]\n' "$*"
}
asks() { base && custom && mesh "$(provider ext envoyExtAuthzGrpc "${2:-9000}" "${1:-}")"; }

says() { echo "$1" >"$WORK/says.new" && mv "$WORK/says.new" "$WORK/says"; }
says allow
: >"$WORK/says.asked"
asks >"$CONFIG"
serve ext "$EXT" "$PYTHON" -B "$E2E_ROOT/tests/e2e/ext_authz_grpc.py" "$EXT" "$WORK/says"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/gw
FLATD=$PID
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start echo over "$WORK/echo-python" -B "$PART" server "$A"
listens() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listens || die server "$(tail -n 3 "$WORK/echo.log")"

shop() { over "$WORK/shop-python" -B "$PART" "${2:-client}" echo.e2e.example 80 "$1"; }
plain() { "$PYTHON" -B "$PART" client 127.0.0.1 "${2:-$A}" "$1"; }
why() { flatctl --control "$CONTROL" why e2e/shop echo.e2e.example:80; }
served() { grep -c connection "$WORK/echo.log" || :; }
asked() { wc -l <"$WORK/says.asked"; }
asked_of() { [ "$(asked)" -ge "$1" ]; }
says_in() { grep -q "$2" "$1"; }
# ends PID FILE: what a program in the background said last, once it has ended.
ends() { wait_for 10 gone "$1" && tail -n 1 "$WORK/$2.log"; }

went allowed-and-not-direct forwarded shop hello
same bytes-come-back hello "$OUT"
same asked-of-both-sides 'spiffe://cluster.local/ns/e2e/sa/shop@127.0.0.1 spiffe://cluster.local/ns/e2e/sa/echo@127.0.0.1 1 2' "$(tail -n 1 "$WORK/says.asked")"
same plain-clients-too 'hello @127.0.0.1 spiffe://cluster.local/ns/e2e/sa/echo@127.0.0.1 1 2' "$(plain hello) $(tail -n 1 "$WORK/says.asked")"
same once-a-connection 3 "$(shop "$(head -c 100000 /dev/zero | tr '\0' x)" >"$WORK/out" && asked)"
same all-of-it 100001 "$(wc -c <"$WORK/out")"
says empty
same an-empty-answer-is-ok hello "$(shop hello)"

says deny
BEFORE=$(served)
same denied EACCES "$(shop hello)"
same denied-plain ECONNRESET "$(plain hello)"
says error
same an-error-denies EACCES "$(shop hello)"
says garbage
same garbage-denies EACCES "$(shop hello)"
same nothing-reaches-the-server "$BEFORE" "$(served)"
holds tells-why says_in "$WORK/flatd.log" 'external authorizer ext (.*mesh.yaml:[0-9]*) denies it'
why >"$WORK/why"
holds why-says-who-is-asked says_in "$WORK/why" 'asks its external authorizer (ext); if it allows'

# --- held ---

# starts NAME KIND: a client of the mesh, in the background. wait_two: one and a plain one, who wait; N: questions before.
starts() { start "$1" over "$WORK/shop-python" -B "$PART" "$2" echo.e2e.example 80 hello; }
wait_two() {
	says wait
	N=$(asked)
	starts held early
	EARLY=$PID
	start held-plain "$PYTHON" -B "$PART" client 127.0.0.1 "$A" hello
	PLAIN=$PID
}
wait_two
starts held-blocking client
BLOCKING=$PID
wait_for 10 asked_of $((N + 3)) || die held "$(tail -n 3 "$WORK/flatd.log")"
same not-blocked pending "$(wait_for 10 says_in "$WORK/held.log" pending && cat "$WORK/held.log")"
same held-from-the-server "$BEFORE" "$(served)"
says allow
same held-then-served 'hello hello hello' "$(ends "$EARLY" held) $(ends "$PLAIN" held-plain) $(ends "$BLOCKING" held-blocking)"
says wait
N=$(asked)
starts held early
EARLY=$PID
wait_for 10 asked_of $((N + 1)) || die held "$(tail -n 3 "$WORK/flatd.log")"
says deny
same held-then-refused EACCES "$(ends "$EARLY" held)"
says wait
N=$(asked)
starts held early
GONE=$PID
wait_for 10 asked_of $((N + 1)) || die held "$(tail -n 3 "$WORK/flatd.log")"
stop "$GONE"
says allow
same the-next-after-one-that-went hello "$(shop hello)"

# --- so many wait, and no more; others are not in their way. flatd and its clients need descriptors for them ---

if [ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 16384 ]; then
	says wait
	start many "$PYTHON" -B "$PART" many 127.0.0.1 "$A" 1034
	MANY=$PID
	holds bound wait_for 20 says_in "$WORK/many.log" 'reset 10$'
	starts held early
	EARLY=$PID
	holds another-waits-too wait_for 10 says_in "$WORK/held.log" pending
	says allow
	wait_for 60 gone "$MANY"
	same those-within-are-served '10 1024' "$(tail -n 1 "$WORK/many.log")"
	same another-is-served hello "$(ends "$EARLY" held)"
	holds the-bound-is-told says_in "$WORK/flatd.log" 'too many wait for external authorizers'
fi

# --- a question that is open while a successor takes over is answered to who asked it ---

wait_two
starts held-gone early
GONE=$PID
wait_for 10 asked_of $((N + 3)) || die held "$(tail -n 3 "$WORK/flatd.log")"
BEFORE=$(served)
start successor flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/gw --take-over
holds taken-over wait_for 10 says_in "$WORK/flatd.log" 'retired: '
stop "$GONE"
same nothing-is-let-through "$BEFORE" "$(served)"
starts held-after early
AFTER=$PID
wait_for 10 asked_of $((N + 4)) || die held "$(tail -n 3 "$WORK/successor.log")"
says allow
same held-across 'hello hello hello' "$(ends "$EARLY" held) $(ends "$PLAIN" held-plain) $(ends "$AFTER" held-after)"
holds predecessor-ends wait_for 10 gone "$FLATD"

# --- time, and what a provider says for errors ---

says wait
apply < <(asks ', timeout: 300ms')
same late EACCES "$(shop hello)"
apply < <(asks ', timeout: 300ms, failOpen: true')
same late-open hello "$(shop hello)"
apply < <(asks '' 9001)
same dead EACCES "$(shop hello)"
apply < <(asks ', failOpen: true' 9001)
same dead-open hello "$(shop hello)"
says deny
apply < <(asks ', failOpen: true')
same a-denial-is-no-error EACCES "$(shop hello)"

# --- several, and what of a policy does not ask ---

says allow
apply < <(base && custom && custom second second && mesh "$(provider ext envoyExtAuthzGrpc 9000)" "$(provider second envoyExtAuthzGrpc 9000)")
N=$(asked)
same several hello "$(shop hello)"
same each-is-asked $((N + 2)) "$(asked)"
apply < <(base && custom && custom second second && mesh "$(provider ext envoyExtAuthzGrpc 9000)" "$(provider second envoyExtAuthzGrpc 9001)")
same one-of-several-dead EACCES "$(shop hello)"
apply < <(base && custom && mesh "$(provider ext envoyExtAuthzHttp 9000)")
went over-http-not-asked direct shop hello
apply < <(base | sed 's/number: 80, name: tcp, protocol: TCP/number: 80, name: tcp1/; s/{ tcp: /{ tcp1: /' && custom && mesh "$(provider ext envoyExtAuthzHttp 9000)")
same over-http-where-it-may-be-http ECONNRESET "$(shop hello)"

# --- by a gateway: it asks about its client, the server about the gateway ---

apply < <(asks && custom gate ext edge 'istio: ingress')
N=$(asked)
same by-a-gateway hello "$(plain hello "$GW")"
sides() { tail -n "+$((N + 1))" "$WORK/says.asked" | sed 's,spiffe://cluster.local/ns/,,g' | paste -sd' '; }
same a-gateway-asks-too '@127.0.0.1 edge/sa/gw@127.0.0.1 1 2 edge/sa/gw@127.0.0.1 e2e/sa/echo@127.0.0.1 1 2' "$(sides)"
says deny
N=$(asked)
same a-gateway-refuses 'ECONNRESET 1' "$(plain hello "$GW") $(($(asked) - N))"
says allow

# --- policies of later ---

apply < <(base)
starts kept kept
KEPT=$PID
wait_for 10 says_in "$WORK/kept.log" hello || die kept "$(cat "$WORK/kept.log")"
apply < <(asks)
same made-before-is-ended ECONNRESET "$(ends "$KEPT" kept)"
starts stays kept
KEPT=$PID
wait_for 10 says_in "$WORK/stays.log" hello || die stays "$(cat "$WORK/stays.log")"
says deny
apply < <(asks ', timeout: 5s')
same asked-once hello "$(tail -n 1 "$WORK/stays.log")"
kill "$KEPT"
says allow
