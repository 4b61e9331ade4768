#!/bin/bash
# HTTP/1 through flatd: bodies both ways, keep-alive across servers, pipelining, what is malformed, bad servers; and that
# a program sees what it would see natively.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs nginx curl wrk

port && NATIVE=$PORT
port && A=$PORT
port && B=$PORT
port && WEB=$PORT
port && OUTSIDE=$PORT
port && DEAD=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cat >"$CONFIG" <<CFG
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: origin, namespace: e2e, labels: { app: origin } }
spec: { selectors: [{ executable: $WORK/origin-python }] }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  addresses: [240.9.8.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
  - { address: 127.0.0.1, ports: { http: $A }, labels: { version: v1 } }
  - { address: 127.0.0.1, ports: { http: $B }, labels: { version: v2 } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: origin, namespace: e2e }
spec:
  host: origin.e2e.example
  trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  http:
  - match: [{ uri: { prefix: /v2/ } }]
    rewrite: { uri: / }
    route: [{ destination: { host: origin.e2e.example, subset: v2 } }]
  - match: [{ uri: { prefix: /both/ } }]
    rewrite: { uri: / }
    route: [{ destination: { host: origin.e2e.example } }]
  - route: [{ destination: { host: origin.e2e.example, subset: v1 } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: web, namespace: e2e }
spec:
  hosts: [web.e2e.example]
  addresses: [240.9.8.2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $WEB } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec:
  hosts: [web.e2e.example]
  http: [{ route: [{ destination: { host: web.e2e.example } }] }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: outside, namespace: e2e }
spec:
  hosts: [outside.e2e.example]
  addresses: [240.9.8.3]
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $OUTSIDE } }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: outside, namespace: e2e }
spec:
  hosts: [outside.e2e.example]
  http:
  - match: [{ uri: { prefix: /dead } }]
    route: [{ destination: { host: dead.e2e.example } }]
  - route: [{ destination: { host: outside.e2e.example } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: dead, namespace: e2e }
spec:
  hosts: [dead.e2e.example]
  addresses: [240.9.8.4]
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $DEAD } }]
CFG
start_flatd

mkdir -p "$WORK/www"
head -c 104857600 /dev/urandom >"$WORK/www/big"
head -c 612 /dev/urandom >"$WORK/www/small"
BIG=$(hash_of <"$WORK/www/big")
site() {
	mkdir -p "$WORK/nginx-$1"
	cat >"$WORK/nginx-$1.conf" <<CONF
daemon off;
worker_processes 1;
pid $WORK/nginx-$1/pid;
error_log $WORK/nginx-$1/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000;
	client_body_temp_path $WORK/nginx-$1/body;
	proxy_temp_path $WORK/nginx-$1/proxy;
	fastcgi_temp_path $WORK/nginx-$1/fastcgi;
	uwsgi_temp_path $WORK/nginx-$1/uwsgi;
	scgi_temp_path $WORK/nginx-$1/scgi;
	server {
		listen 127.0.0.1:$2;
		root $WORK/www;
	}
}
CONF
}
site native "$NATIVE"
site flat "$WEB"
serve native "$NATIVE" nginx -e "$WORK/native-error" -c "$WORK/nginx-native.conf"
start web over nginx -e "$WORK/flat-error" -c "$WORK/nginx-flat.conf"
export ORIGIN_WAITS=$WORK
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
serve outside "$OUTSIDE" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$OUTSIDE" outside
listeners() { [ "$(state "len(s['listeners'])")" -ge 3 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log "$WORK/flat-error" | tail -n 3)"
origin=http://origin.e2e.example
web=http://web.e2e.example
flat_curl() { over curl -sS -m 60 "$@"; }
raw() { over "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_raw.py" origin.e2e.example 80 "$1" 2>&1 | tail -n 1; }

# --- as native ---

head_of() { grep -vai '^date:' | hash_of; }
went answer-path forwarded flat_curl -o /dev/null $web/small
same answer "$(curl -sSi "http://127.0.0.1:$NATIVE/small" | head_of)" "$(flat_curl -i $web/small | head_of)"
same answer-head "$(curl -sSI "http://127.0.0.1:$NATIVE/small" | head_of)" "$(flat_curl -I $web/small | head_of)"
same answer-304 "$(curl -sSi -H 'If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT' "http://127.0.0.1:$NATIVE/small" | head_of)" \
	"$(flat_curl -i -H 'If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT' $web/small | head_of)"
same answer-404 "$(curl -sSi "http://127.0.0.1:$NATIVE/none" | head_of)" "$(flat_curl -i $web/none | head_of)"
same answer-range "$(curl -sSi -r 100-200 "http://127.0.0.1:$NATIVE/small" | head_of)" \
	"$(flat_curl -i -r 100-200 $web/small | head_of)"
same answer-http10 "$(curl -sSi -0 "http://127.0.0.1:$NATIVE/small" | head_of)" "$(flat_curl -i -0 $web/small | head_of)"

# --- bodies ---

same download-100-mb "$BIG" "$(flat_curl $web/big | hash_of)"
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
same upload-100-mb "104857600 $BIG" "$(flat_curl -T "$WORK/www/big" $origin/echo | told "str(t['size']) + ' ' + t['sha256']")"
same upload-100-mb-chunked "104857600 $BIG" \
	"$(flat_curl -T - $origin/echo <"$WORK/www/big" | told "str(t['size']) + ' ' + t['sha256']")"
same chunks-and-endings "50000 100000 b''" "$(raw endings)"
same slow-reader 20000000 "$(raw slow_reader)"

# --- one connection, several servers ---

keepalive() {
	flat_curl -w ' %{num_connects}\n' $origin/echo -o "$WORK/1" $origin/v2/echo -o "$WORK/2" $origin/echo -o "$WORK/3" \
		$origin/both/echo -o "$WORK/4" $origin/both/echo -o "$WORK/5" | awk '{ n += $1 } END { print n }'
}
same keepalive-one-connection 1 "$(keepalive)"
same keepalive-servers "a b a" "$(for i in 1 2 3; do told "t['name']" <"$WORK/$i"; done | paste -sd' ')"
same keepalive-round-robin "a b" "$(for i in 4 5; do told "t['name']" <"$WORK/$i"; done | sort | paste -sd' ')"
same pipelined "True ['a', 'b']" "$(raw pipelined)"

# --- the letter of the protocol ---

same malformed 'all refused' "$(raw malformed)"
same smuggled "['/echo', '/echo'] None" "$(raw smuggle)"
same byte-by-byte "11 b94d27b9 ['X-T: 1']" "$(raw bytewise)"
same expect-continue '100 5' "$(raw expect)"
same canonical-paths canonical "$(raw paths)"
same one-hop "['connection', 'host', 'te', 'x-keep']" "$(raw hops)"
same http10 '200 True 200 200 200 True 3000' "$(raw http10)"
same limits '[431, 431, 200]' "$(raw limits)"
same upgrade-and-connect '403 405' "$(raw upgrade)"
same websocket "101 b'websocket' b'Upgrade' b's3pPLMBiTxaQ9kYGzzhZRbK+xOo=' True b'bye'" "$(raw websocket)"
same websocket-not '[200, 200, 403, 403, 403, 403, 403, 403, 502]' "$(raw websocket_not)"
same after-close "200 b'' 200 b''" "$(raw after_close)"
same half-closed "200 b''" "$(raw half_closed)"

# --- servers that fail ---

same bad-servers "[(503, 200), (502, 200), (200, 200), ('half', 'reset')]" "$(raw servers_faults)"
same early-answer '200 20006' "$(raw early)"
same bad-answers "[502, 502, 502, 502, 502, 502, 502, 502, 'cut', 200, 502, 502]" "$(raw responses)"
same answer-broken "[(b'HTTP/1.1 200', 'reset')]" "$(raw broken)"
same answers-left-over "[(200, '/echo/mine'), (200, '/echo/mine'), (204, '/echo/mine'), (304, '/echo/mine')]" "$(raw left_over)"
same outside outside "$(flat_curl http://outside.e2e.example/echo | told "t['name']")"
same outside-dead 503 "$(flat_curl -o /dev/null -w '%{http_code}' http://outside.e2e.example/dead)"
same still-there 200 "$(flat_curl -o /dev/null -w '%{http_code}' $origin/echo)"

# --- load, and a change of configuration under it ---

seconds=3
[ -z "${FLAT_QUICK:-}" ] || seconds=1
OUT=$(over wrk --timeout 30s -t 2 -c 40 -d ${seconds}s $web/small 2>&1)
if grep -qE 'Requests/sec: +[1-9]' <<<"$OUT" && ! grep -qE 'Socket errors|Non-2xx' <<<"$OUT"; then
	pass "wrk ($(awk '/Requests.sec/ { print $2 }' <<<"$OUT") requests/s)"
else
	fail wrk "$(tr '\n' ' ' <<<"$OUT")"
fi
epoch() { state "s['epoch']"; }
start load over wrk --timeout 30s -t 1 -c 16 -d 4s $web/small
LOAD=$PID
for i in 1 2 3 4 5 6 7 8; do
	before=$(epoch)
	service "change$i" "240.9.9.$i" 80 "$A" >>"$CONFIG"
	newer() { [ "$(epoch)" -gt "$before" ]; }
	wait_for 10 newer || break
done
wait_for 20 gone "$LOAD" || fail reload-ends "wrk goes on"
same reload-changes 8 "$i"
holds reload-under-load grep -qE 'Requests/sec: +[1-9]' "$WORK/load.log"
holds reload-loses-nothing test "$(grep -cE 'Socket errors|Non-2xx' "$WORK/load.log")" = 0
