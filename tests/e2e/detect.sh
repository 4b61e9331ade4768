#!/bin/bash
# Ports whose protocol is not declared: what speaks HTTP is routed and authorized by its requests, all else is carried as bytes. Clients of
# the mesh, by the service and by the address of its server, and plain ones.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl
PART=$E2E_ROOT/tests/e2e/detect_part.py

port && A=$PORT
port && B=$PORT
port && OUT_PORT=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/web-python"
cp "$(readlink -f "$PYTHON")" "$WORK/shop-python"
cp "$(command -v curl)" "$WORK/shop-curl"
cp "$(command -v curl)" "$WORK/guest-curl"

base() {
	workload web "$WORK/web-python"
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: shop, namespace: e2e }
spec: { serviceAccount: shop, selectors: [{ executable: $WORK/shop-curl }, { executable: $WORK/shop-python }] }
END
	workload guest "$WORK/guest-curl"
	entry web 240.9.20.1 any "$A" "$B"
	entry out 240.9.20.2 any "$OUT_PORT"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: e2e }
spec: { host: web.e2e.example, subsets: [{ name: a, labels: { port: p$A } }, { name: b, labels: { port: p$B } }] }
END
}
routes() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  http:
  - { match: [{ uri: { prefix: /b } }], route: [{ destination: { host: web.e2e.example, subset: b } }] }
  - { match: [{ uri: { prefix: /direct } }], directResponse: { status: 418 } }
  - { route: [{ destination: { host: ${2:-web.e2e.example, subset: a} } }] }
END
}
policy() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web, namespace: e2e }
spec: { selector: { matchLabels: { app: web } }, $1 }
END
}
{
	base
	routes web
} >"$CONFIG"
start_flatd
serve a "$A" flat-run --control "$CONTROL" "$WORK/web-python" -B "$PART" serve a "$A"
serve b "$B" flat-run --control "$CONTROL" "$WORK/web-python" -B "$PART" serve b "$B"
serve out "$OUT_PORT" "$PYTHON" -B "$PART" serve out "$OUT_PORT"

shop() { over "$WORK/shop-curl" -sS --max-time 20 "$@" 2>&1; }
status() { over "$WORK/$1-curl" -sS --max-time 20 -o /dev/null -w '%{http_code}' "$2"; }
say() { over "$WORK/shop-python" -B "$PART" say "$@"; }
WEB=http://web.e2e.example

# --- HTTP ---

went http forwarded shop $WEB/a
same http-answer 'a /a' "$OUT"
same http-route 'b /b1 b /b2' "$(shop $WEB/b1 $WEB/b2 | tr '\n' ' ' | sed 's/ $//')"
same http-direct-response 418 "$(status shop $WEB/direct)"
same http2 418 "$(shop --http2-prior-knowledge -o /dev/null -w '%{http_code}' $WEB/direct)"
# As in Istio: to a server whose protocol is not declared, as its client speaks.
same http2-route 'b h2' "$(shop --http2-prior-knowledge $WEB/b3)"
same http-in-pieces 'b /b4' "$(say web.e2e.example 80 'G' 'ET /b4 HT' 'TP/1.1\r\nHost: web.e2e.exa' 'mple\r\nConnection: close\r\n\r\n' | tail -n 1)"
same http-bad-request 'HTTP/1.1 400 Bad Request' "$(say web.e2e.example 80 'GET / HTTP/1.1\r\nno field\r\n\r\n' | head -n 1 | tr -d '\r')"
same why yes "$(flatctl --control "$CONTROL" why e2e/shop web.e2e.example:80 | grep -q 'whether the client speaks HTTP' && echo yes)"
same why-request yes "$(flatctl --control "$CONTROL" why "GET $WEB/b" --from e2e/shop | grep -q 'subset b' && echo yes)"

# --- what is none ---

# Either of the two, as the service has no route for it.
bytes() { "$@" | sed 's/^[ab] //'; }
went bytes forwarded say web.e2e.example 80 'ping\n'
same bytes-answer '[ping]' "$(sed 's/^[ab] //' <<<"$OUT")"
same bytes-in-pieces '[get it]' "$(bytes say web.e2e.example 80 'g' 'et' ' it' '\n')"
# A word without an end: no method begins so.
same bytes-a-word '[hello]' "$(bytes say web.e2e.example 80 'hello' -)"
same bytes-binary yes "$(bytes say web.e2e.example 80 '\x00\x01\n' | grep -qa '\[' && echo yes)"
# One that was not decided when its client ended: as bytes, and all of them.
same bytes-cut-short '[GET /]' "$(bytes say web.e2e.example 80 'GET /' -)"
same bytes-none '[]' "$(bytes say web.e2e.example 80 -)"
same http-0.9 '[GET /b]' "$(bytes say web.e2e.example 80 'GET /b\n')"
over "$WORK/shop-python" -B "$PART" gone web.e2e.example 80 'POST and gone'
came() { grep -q 'POST and gone' "$WORK/a.log" "$WORK/b.log"; }
holds bytes-of-who-is-gone wait_for 10 came

# --- an idle client is no half-open one ---

over "$WORK/shop-python" -B - >"$WORK/idle" <<'END' &
import socket, sys
idle = [socket.create_connection(("web.e2e.example", 80)) for _ in range(200)]
late = socket.create_connection(("web.e2e.example", 80))
late.sendall(b"GET /b5 HTTP/1.1\r\nHost: web.e2e.example\r\nConnection: close\r\n\r\n")
answer = b""
while piece := late.recv(65536):
    answer += piece
print(answer.split()[-1].decode())
for s in idle:
    s.sendall(b"GET /b6 HTTP/1.1\r\nHost: web.e2e.example\r\nConnection: close\r\n\r\n")
for s in idle:
    answer = b""
    while piece := s.recv(65536):
        answer += piece
    assert answer.endswith(b"b /b6\n"), answer
print("all")
END
wait $!
same idle '/b5 all' "$(tr '\n' ' ' <"$WORK/idle" | sed 's/ $//')"
none_left() { [ "$(state 'len(s["connections"])')" = 0 ]; }
holds none-left wait_for 10 none_left

# --- a server outside the mesh, and one without anything to decide by request ---

went nothing-to-decide none say out.e2e.example 80 'ping\n'
same nothing-to-decide-answer 'out [ping]' "$OUT"
{
	base
	routes web
	routes out out.e2e.example
} | apply
went outside forwarded shop http://out.e2e.example/x
same outside-answer 'out /x' "$OUT"
same outside-route 'b /b' "$(shop http://out.e2e.example/b)"
same outside-bytes 'out [ping]' "$(say out.e2e.example 80 'ping\n')"

# --- policies, of all who come ---

{
	base
	policy 'action: DENY, rules: [{ to: [{ operation: { paths: ["/no*"] } }] }]'
} | apply
same denied 403 "$(status shop $WEB/no)"
same not-denied 200 "$(status shop $WEB/yes)"
# As on a port of TCP: a rule that denies holds without its HTTP fields.
same denied-bytes cut "$(say web.e2e.example 80 'ping\n')"
same plain-denied 403 "$(curl -sS --max-time 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$A/no")"
same plain-not-denied 'a /yes' "$(curl -sS --max-time 20 "http://127.0.0.1:$A/yes")"
same own-address-denied 403 "$(status shop "http://127.0.0.1:$A/no")"
same own-address-not-denied 'a /yes' "$(shop "http://127.0.0.1:$A/yes")"
same own-address-denied-bytes cut "$(say 127.0.0.1 "$A" 'ping\n')"
same plain-denied-bytes cut "$("$PYTHON" -B "$PART" say 127.0.0.1 "$A" 'ping\n')"
same plain-denied-in-pieces 403 "$("$PYTHON" -B "$PART" say 127.0.0.1 "$A" 'GE' 'T /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' | head -n 1 | cut -d ' ' -f 2)"
{
	base
	policy 'action: ALLOW, rules: [{ from: [{ source: { principals: ["cluster.local/ns/e2e/sa/shop"] } }], to: [{ operation: { methods: [GET] } }] }]'
} | apply
same allowed 200 "$(status shop $WEB/x)"
same not-allowed 403 "$(status guest $WEB/x)"
same not-allowed-method 403 "$(shop -o /dev/null -w '%{http_code}' -X PUT $WEB/x)"
same not-allowed-bytes cut "$(say web.e2e.example 80 'ping\n')"
same plain-not-allowed 403 "$(curl -sS --max-time 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$A/x")"
{
	base
	policy 'action: ALLOW, rules: [{ from: [{ source: { namespaces: [e2e] } }] }, { to: [{ operation: { methods: [GET] } }] }]'
} | apply
same bytes-allowed '[ping]' "$(bytes say web.e2e.example 80 'ping\n')"
same plain-allowed 'a /x' "$(curl -sS --max-time 20 "http://127.0.0.1:$A/x")"
same plain-bytes-denied cut "$("$PYTHON" -B "$PART" say 127.0.0.1 "$A" 'ping\n')"

# --- declared in the meantime: who waits is decided as things are then ---

{
	base
	routes web
} | apply
mkfifo "$WORK/go"
over "$WORK/shop-python" -B - "$WORK/go" >"$WORK/waits" <<'END' &
import socket, sys
s = socket.create_connection(("web.e2e.example", 80))
print("open", flush=True)
open(sys.argv[1]).read()
s.sendall(b"GET /b HTTP/1.1\r\nHost: web.e2e.example\r\nConnection: close\r\n\r\n")
answer = b""
while piece := s.recv(65536):
    answer += piece
print(answer.split()[-2].decode())
END
WAITS=$!
is_open() { grep -q open "$WORK/waits"; }
holds waits wait_for 10 is_open
{
	base
	routes web | sed 's/subset: b/subset: a/'
} | apply
echo >"$WORK/go"
wait $WAITS
same waits-answer 'open a' "$(tr '\n' ' ' <"$WORK/waits" | sed 's/ $//')"
same flatd-well yes "$(kill -0 "$FLATD" && echo yes)"
