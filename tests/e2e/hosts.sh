#!/bin/bash
# Two hosts, each with a flatd: two network namespaces joined by a veth pair. Unmodified programs on one reach
# servers on the other over mutual TLS; who may is decided at the receiver by the certificate. Then what goes wrong:
# other identities, another authority, either flatd killed, a link that is down, a receiver that does not read.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs nginx redis-server redis-cli curl "$PYTHON"
PART=$E2E_ROOT/tests/e2e/hosts_part.py

two_hosts 10.77.0 || exit 77

# --- programs, identities, configuration ---

mkdir "$WORK/bin" "$WORK/www"
for name in shop intruder; do
	cp "$(readlink -f "$(command -v curl)")" "$WORK/bin/$name-curl"
	cp "$(readlink -f "$(command -v redis-cli)")" "$WORK/bin/$name-redis-cli"
	cp "$(readlink -f "$PYTHON")" "$WORK/bin/$name-python"
done
cp "$(readlink -f "$(command -v nginx)")" "$WORK/bin/nginx"
cp "$(readlink -f "$(command -v redis-server)")" "$WORK/bin/redis-server"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/server-python"

flatctl ca init "$WORK/ca" || die ca-init
flatctl ca init "$WORK/other-ca" || die ca-init
# identities CA: of both hosts, from this authority.
identities() {
	flatctl ca issue "$1" "$2" flatd && flatctl ca issue "$1" "$2" e2e/shop &&
		flatctl ca issue "$1" "$2" e2e/intruder
}
identities "$WORK/ca" "$WORK/svids-a" || die ca-issue
identities "$WORK/other-ca" "$WORK/svids-other" || die ca-issue
flatctl ca issue "$WORK/ca" "$WORK/svids-b" flatd || die ca-issue
flatctl ca init "$WORK/ca" 2>/dev/null && fail ca-is-not-overwritten || pass ca-is-not-overwritten
same key-is-private 600 "$(stat -c %a "$WORK/svids-a/e2e.shop.key")"

# remote NAME ADDRESS PORT TARGET [PROTOCOL [ACCOUNT]]
remote() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  addresses: [$2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: $3, name: p, protocol: ${5:-TCP} }]
  endpoints:
  - address: 10.77.0.2
    ports: { p: $4 }
    labels: { security.istio.io/tlsMode: istio }
    ${6:+serviceAccount: $6}
END
}
base() {
	own_workload shop shop-curl shop-redis-cli shop-python
	own_workload intruder intruder-curl intruder-redis-cli intruder-python
	own_workload web nginx
	own_workload redis redis-server
	own_workload server server-python
	remote web 240.9.8.1 80 8080
	remote redis 240.9.8.2 6379 6379 TCP redis
	remote echo 240.9.8.3 7 7007 TCP server
	remote sink 240.9.8.4 9 7009
	remote mistaken 240.9.8.5 7 7007 TCP somebody-else
	remote nobody 240.9.8.6 7 7999
	remote late 240.9.8.7 7 7011
}
only_shop() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-shop, namespace: e2e }
spec:
  action: ALLOW
  rules:
  - from:
    - source: { principals: [cluster.local/ns/e2e/sa/shop] }
      ${1:-}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: e2e }
spec: { mtls: { mode: STRICT } }
END
}
base >"$WORK/a.yaml"
{ base && only_shop; } >"$WORK/b.yaml"

# flatd_on a|b [OPTIONS]: starts it there; its pid in FLATD_a, FLATD_b.
flatd_on() {
	local where=("${ON_A[@]}") log=flatd-$1
	[ "$1" = a ] || where=("${ON_B[@]}")
	[ $# -eq 1 ] || log=$log-2
	start "$log" "${where[@]}" flatd --control "$WORK/$1.sock" --config "$WORK/$1.yaml" --metrics 127.0.0.1:15020 \
		--wire 0.0.0.0:15018 --svids "$WORK/svids-$1" "${@:2}"
	printf -v "FLATD_$1" %s "$PID"
	wait_for 10 flatctl --control "$WORK/$1.sock" ls || die "flatd-$1-starts" "$(tail -n 5 "$WORK/flatd-$1.log")"
}
ctl_a() { flatctl --control "$WORK/a.sock" "$@"; }
ctl_b() { flatctl --control "$WORK/b.sock" "$@"; }
# of a|b COMMAND EXPRESSION: over `s`, what flatctl COMMAND --json says there.
of() {
	flatctl --control "$WORK/$1.sock" "$2" --json |
		"$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$3"
}
flatd_on a
flatd_on b
MESH_A=("${ON_A[@]}" flat-run --control "$WORK/a.sock")
MESH_B=("${ON_B[@]}" flat-run --control "$WORK/b.sock")
mesh_a() { "${MESH_A[@]}" "$@"; }
shop() { mesh_a "$WORK/bin/shop-python" -B "$PART" "$@"; }
intruder() { mesh_a "$WORK/bin/intruder-python" -B "$PART" "$@"; }

head -c 32000000 /dev/urandom >"$WORK/www/big"
echo hello >"$WORK/www/hello"
cat >"$WORK/nginx.conf" <<END
daemon off; master_process off; pid $WORK/nginx.pid; error_log $WORK/nginx-error.log;
events { worker_connections 256; }
http {
  access_log off; client_body_temp_path $WORK/t1; proxy_temp_path $WORK/t2; fastcgi_temp_path $WORK/t3;
  uwsgi_temp_path $WORK/t4; scgi_temp_path $WORK/t5;
  log_format who '\$host \$request_uri \$status';
  server { listen 8080; root $WORK/www; access_log $WORK/access.log who; }
}
END
start nginx "${MESH_B[@]}" "$WORK/bin/nginx" -c "$WORK/nginx.conf" -p "$WORK"
start redis "${MESH_B[@]}" "$WORK/bin/redis-server" --port 6379 --bind 10.77.0.2 --protected-mode no --save '' --appendonly no --dir "$WORK"
start echo "${MESH_B[@]}" "$WORK/bin/server-python" -B "$PART" echo 7007
start sink "${MESH_B[@]}" "$WORK/bin/server-python" -B "$PART" sink 7009 "$WORK/gate"
all_there() { [ "$(of b ls "len(s['listeners'])")" = 4 ]; }
wait_for 15 all_there || die servers-listen "$(tail -n 3 "$WORK/nginx.log" "$WORK/redis.log" "$WORK/echo.log")"

# --- bytes ---

same http-small hello "$(mesh_a "$WORK/bin/shop-curl" -sS http://web.e2e.example/hello 2>&1)"
same http-32-MB-hash "$(hash_of <"$WORK/www/big")" "$(mesh_a "$WORK/bin/shop-curl" -sS http://web.e2e.example/big | hash_of)"
head -c 3000000 "$WORK/www/big" | base64 -w 0 >"$WORK/value"
same redis-set OK "$(mesh_a "$WORK/bin/shop-redis-cli" -h redis.e2e.example -x set k <"$WORK/value" 2>&1)"
same redis-get-hash "$(hash_of < <(cat "$WORK/value"; echo))" "$(mesh_a "$WORK/bin/shop-redis-cli" -h redis.e2e.example get k | hash_of)"
same many-connections ok "$(shop talk echo.e2e.example 7 50 20 3000)"
same large-messages ok "$(shop talk echo.e2e.example 7 4 5 1000000)"
holds server-sees-the-host wait_for 10 grep -q 'from 10.77.0.1' "$WORK/echo.log"
same no-kernel-path 0 "$(of a ls "s['opened_kernel']")"
same tls-1.3 "{'TLSv1.3'}" "$(of a peers "{p['tls'] for p in s['peers']}")"
same one-link-for-all 1 "$(of a peers "sum(p['state'] == 'open' for p in s['peers'])")"
same own-identity spiffe://cluster.local/ns/e2e/sa/shop "$(of b peers "s['peers'][0]['peer_id']")"
same node-identity spiffe://cluster.local/ns/flat-system/sa/flatd "$(of a peers "s['peers'][0]['peer_id']")"
# What is on the wire is not what was said: nothing of the answer is in the clear.
holds peers-text grep -q 'as spiffe://cluster.local/ns/e2e/sa/shop, TLSv1.3' <(ctl_a peers)
holds metrics-links grep -q '^flat_wire_links 1$' <(on_a curl -sS http://127.0.0.1:15020/metrics)
holds why-says-wire grep -q 'over the wire' <(ctl_a why e2e/shop echo.e2e.example:7)

# --- refusals ---

same refused-by-identity 'PermissionError 13' "$(intruder connect echo.e2e.example 7)"
holds refused-reason-at-the-server wait_for 10 grep -q 'refused cluster.local/ns/e2e/sa/intruder.*only-shop.*b.yaml' "$WORK/flatd-b.log"
told_at_a() { sed 's/intruder.e2e/e2e/' "$WORK/flatd-a.log" | grep -q 'refused e2e.*10.77.0.2:7007.*only-shop'; }
holds refused-reason-at-the-client wait_for 10 told_at_a
same shop-still-passes ok "$(shop connect echo.e2e.example 7)"
same other-account-refused 'PermissionError 13' "$(shop connect mistaken.e2e.example 7)"
same nobody-listens 'ConnectionRefusedError 111' "$(shop connect nobody.e2e.example 7)"
OUT=$(on_a timeout 60 "$PYTHON" -B "$PART" connect 10.77.0.2 7007)
holds "strict-refuses-plain-tcp ($OUT)" test "${OUT%% *}" = ConnectionResetError
rm "$WORK/svids-a/e2e.intruder.crt"
no_intruder() { [ "$(of a peers "len(s['identities'])")" = 2 ]; }
holds svid-taken-away wait_for 10 no_intruder
same no-svid 'PermissionError 13' "$(intruder connect echo.e2e.example 7)"
holds no-svid-reason wait_for 10 grep -q 'has no SVID for cluster.local/ns/e2e/sa/intruder' "$WORK/flatd-a.log"

# --- ends ---

resets=$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")
shop abort echo.e2e.example 7
saw_reset() { [ "$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")" -gt "$resets" ]; }
holds reset-crosses wait_for 10 saw_reset
idle() { [ "$(of a peers "sum(p['streams'] for p in s['peers'])")$(of b peers "sum(p['streams'] for p in s['peers'])")" = 00 ]; }
holds no-stream-left wait_for 10 idle

# --- a receiver that does not read ---

start fill "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" fill sink.e2e.example 9 20000000
stuck() { grep -q accepted "$WORK/sink.log" && [ "$(of a peers "sum(p['streams'] for p in s['peers'])")" = 1 ]; }
wait_for 10 stuck || die slow-receiver-begins "$(tail -n 2 "$WORK/fill.log" "$WORK/sink.log")"
same 99-others-go-on ok "$(shop talk echo.e2e.example 7 99 10 10000)"
holds sender-waits test -z "$(grep sum "$WORK/fill.log")"
touch "$WORK/gate"
read_all() { grep -q sum "$WORK/fill.log" && grep -q sum "$WORK/sink.log"; }
wait_for 30 read_all || fail slow-receiver-ends "$(tail -n 2 "$WORK/fill.log" "$WORK/sink.log")"
same slow-receiver-hash "$(grep sum "$WORK/fill.log")" "$(grep sum "$WORK/sink.log")"

# --- certificates that are renewed ---

start hold "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" hold echo.e2e.example 7 "$WORK/stop"
wait_for 10 grep -q holding "$WORK/hold.log" || die rotation-begins
before=$(of a peers "s['rotations']")
before_b=$(of b peers "s['rotations']")
identities "$WORK/ca" "$WORK/svids-a" && flatctl ca issue "$WORK/ca" "$WORK/svids-b" flatd || die ca-issue
rotated() { [ "$(of a peers "s['rotations']")" -gt "$before" ] && [ "$(of b peers "s['rotations']")" -gt "$before_b" ]; }
holds rotation-read wait_for 10 rotated
same new-connections-after-rotation ok "$(shop talk echo.e2e.example 7 10 10 1000)"
works() { shop connect echo.e2e.example 7 | grep -q ok; }
# Several sets may have been read, file by file: links of those between close by themselves.
two_links() { works && [ "$(of a peers "sorted(p['state'] for p in s['peers'])")" = "['draining', 'open']" ]; }
holds second-link wait_for 10 two_links
touch "$WORK/stop"
wait_for 10 grep -qE 'whole|ended' "$WORK/hold.log"
holds rotation-without-drops grep -q whole "$WORK/hold.log"
# A certificate that ends soon: the link ends with it.
flatctl ca issue "$WORK/ca" "$WORK/svids-a" e2e/shop 0.0012
short() { shop connect echo.e2e.example 7 | grep -q PermissionError; }
holds expired-svid-refused wait_for 20 short
identities "$WORK/ca" "$WORK/svids-a"
holds renewed-svid-works wait_for 10 works

# --- a certificate that is revoked: open connections end too, others' stay ---

rm "$WORK/stop"
flatctl ca issue "$WORK/ca" "$WORK/svids-a" e2e/intruder
start revoked "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" wait echo.e2e.example 7
wait_for 10 grep -q holding "$WORK/revoked.log" || die revoked-begins
flatctl ca revoke "$WORK/ca" "$WORK/svids-b" "$WORK/svids-a/e2e.intruder.crt" || die ca-revoke
listed() { [ "$(of b peers "[l['revoked'] for l in s['revocation_lists']]")" = "[$1]" ]; }
holds list-read wait_for 10 listed 1
same who-is-not-revoked-goes-on ok "$(shop connect echo.e2e.example 7)"
holds nor-ends test -z "$(grep ended "$WORK/revoked.log")"
flatctl ca revoke "$WORK/ca" "$WORK/svids-b" "$WORK/svids-a/e2e.shop.crt" || die ca-revoke
wait_for 10 grep -q '^ended' "$WORK/revoked.log" || fail revoked-ends "no end seen"
same revoked-sees ConnectionResetError "$(sed -n 's/^ended \([A-Za-z]*\).*/\1/p' "$WORK/revoked.log")"
holds revoked-reason wait_for 10 grep -q 'link from .* ends: .*certificate holds no more: certificate revoked (serial' "$WORK/flatd-b.log"
same revoked-is-refused 'PermissionError 13' "$(shop connect echo.e2e.example 7)"
holds list-shown grep -q 'revocation list of cluster.local by /O=libflat CA: 2 certificates, .* left (cluster.local.crl)' <(ctl_b peers)
holds list-metrics grep -q '^flat_wire_revoked_certificates 2$' <(on_b curl -sS http://127.0.0.1:15020/metrics)
holds list-checked grep -q 'list of cluster.local by /O=libflat CA: 2 certificates' <(flatctl check --svids "$WORK/svids-b")
# A list that is none changes nothing, and is told.
cp "$WORK/svids-b/cluster.local.crl" "$WORK/good.crl"
echo broken >"$WORK/svids-b/cluster.local.crl"
holds broken-list-is-told wait_for 10 grep -q 'cluster.local.crl: no revocation list can be read from it; those before stay' "$WORK/flatd-b.log"
same broken-list-changes-nothing 'PermissionError 13' "$(shop connect echo.e2e.example 7)"
holds broken-list-checked grep -q '^error: .*cluster.local.crl: no revocation list' <(flatctl check --svids "$WORK/svids-b")
cp "$WORK/good.crl" "$WORK/svids-b/cluster.local.crl"
# Its own host is told as well, and does not ask with it.
cp "$WORK/good.crl" "$WORK/svids-a/cluster.local.crl"
listed_a() { [ "$(of a peers "len(s['revocation_lists'])")" = 1 ]; }
holds list-read-by-a wait_for 10 listed_a
same own-is-revoked 'PermissionError 13' "$(shop connect echo.e2e.example 7)"
holds own-is-revoked-reason wait_for 10 grep -q 'the SVID of cluster.local/ns/e2e/sa/shop is of no use: certificate revoked' "$WORK/flatd-a.log"
identities "$WORK/ca" "$WORK/svids-a"
holds new-certificate-works wait_for 10 works
: >"$WORK/stop"

# --- flatds that do not run for a while: the hosts are overloaded, no peer is silent ---

rm "$WORK/stop"
start stall "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" hold echo.e2e.example 7 "$WORK/stop"
wait_for 10 grep -q holding "$WORK/stall.log" || die stall-begins
kill -STOP "$FLATD_a" "$FLATD_b"
sleep 7
kill -CONT "$FLATD_a" "$FLATD_b"
holds works-after-a-stall wait_for 10 works
touch "$WORK/stop"
wait_for 10 grep -qE 'whole|ended' "$WORK/stall.log"
holds stall-ends-no-connection grep -q whole "$WORK/stall.log"

# --- killed ---

# How long it took is told: how long it may take is nothing that a busy machine keeps to.
ended() { # NAME LOG SINCE_MS
	wait_for 30 grep -q '^ended' "$2" || { fail "$1" "no end seen" && return; }
	local how at
	read -r _ how at < <(grep '^ended' "$2")
	same "$1 (after $((at - $3)) ms)" ConnectionResetError "$how"
}
start wait-b "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" wait echo.e2e.example 7
wait_for 10 grep -q holding "$WORK/wait-b.log" || die kill-b-begins
since=$((${EPOCHREALTIME//[.,]/} / 1000))
kill -9 "$FLATD_b" && wait "$FLATD_b" 2>/dev/null
ended killed-flatd-b-client-sees "$WORK/wait-b.log" "$since"
same killed-flatd-b-refused 'ConnectionRefusedError 111' "$(shop connect echo.e2e.example 7)"
flatd_on b
holds flatd-b-is-back wait_for 20 works
resets=$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")
start wait-a "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" wait echo.e2e.example 7
wait_for 10 grep -q holding "$WORK/wait-a.log" || die kill-a-begins
since=$((${EPOCHREALTIME//[.,]/} / 1000))
kill -9 "$FLATD_a" && wait "$FLATD_a" 2>/dev/null
ended killed-flatd-a-client-sees "$WORK/wait-a.log" "$since"
holds killed-flatd-a-server-sees wait_for 10 saw_reset

# --- another authority ---

mv "$WORK/svids-a" "$WORK/svids-good"
mv "$WORK/svids-other" "$WORK/svids-a"
flatd_on a
same wrong-authority 'PermissionError 13' "$(shop connect echo.e2e.example 7)"
holds wrong-authority-reason wait_for 10 grep -qE "link (to|from) .* ends: .*certificate" "$WORK/flatd-a.log"
stop "$FLATD_a"
mv "$WORK/svids-a" "$WORK/svids-other"
mv "$WORK/svids-good" "$WORK/svids-a"
flatd_on a
holds right-authority wait_for 10 works

# --- a flatd of another trust domain, whose bundle is there ---

flatctl ca init "$WORK/far-ca" far.example && flatctl ca issue "$WORK/far-ca" "$WORK/svids-far" flatd || die far-ca
cp -r "$WORK/svids-b" "$WORK/svids-b-good"
cp "$WORK/svids-far/far.example.bundle" "$WORK/svids-a/"
cp "$WORK/svids-far/"* "$WORK/svids-b/"
far() { "$@" >/dev/null; [ "$(of a peers "[p['peer_id'] for p in s['peers'] if p['state'] == 'open']")" = "['spiffe://far.example/ns/flat-system/sa/flatd']" ]; }
holds far-flatd-serves-whom-nobody-names wait_for 20 far mesh_a "$WORK/bin/shop-curl" -sS http://web.e2e.example/hello
same far-flatd-is-not-whom-an-endpoint-names 'PermissionError 13' "$(shop connect echo.e2e.example 7)"
holds far-flatd-reason wait_for 10 grep -q 'as spiffe://far.example/.* says; its endpoint' "$WORK/flatd-a.log"
cp "$WORK/svids-b-good/"* "$WORK/svids-b/"
holds own-flatd-is-back wait_for 20 works

# --- a successor at the servers' host ---

rm -f "$WORK/stop"
start over "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" hold echo.e2e.example 7 "$WORK/stop"
wait_for 10 grep -q holding "$WORK/over.log" || die take-over-begins
before=$FLATD_b
flatd_on b --take-over
holds flatd-b-retires wait_for 10 grep -q 'retired: ' "$WORK/flatd-b.log"
# The link is the predecessor's, which knows nothing of this server.
start late "${MESH_B[@]}" "$WORK/bin/server-python" -B "$PART" echo 7011
late_is_there() { [ "$(of b ls "len(s['listeners'])")" = 5 ]; }
wait_for 15 late_is_there || die late-listens "$(tail -n 3 "$WORK/late.log")"
same server-of-the-successor ok "$(shop connect late.e2e.example 7)"
same servers-of-before ok "$(shop talk echo.e2e.example 7 10 10 1000)"
touch "$WORK/stop"
wait_for 10 grep -qE 'whole|ended' "$WORK/over.log"
holds take-over-ends-no-connection grep -q whole "$WORK/over.log"
holds predecessor-ends wait_for 20 gone "$before"

# --- HTTP policies, at the receiver ---

base_http() { base | sed 's/number: 80, name: p, protocol: TCP/number: 80, name: p, protocol: HTTP/'; }
{
	base_http
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-hello, namespace: e2e }
spec:
  selector: { matchLabels: { app: web } }
  action: ALLOW
  rules:
  - from:
    - source: { principals: [cluster.local/ns/e2e/sa/shop] }
    to:
    - operation: { paths: [/hello] }
END
} >"$WORK/next.yaml"
epoch=$(of b ls "s['epoch']")
mv "$WORK/next.yaml" "$WORK/b.yaml"
reloaded() { [ "$(of "$1" ls "s['epoch']")" -gt "$epoch" ]; }
wait_for 10 reloaded b || die config-applied
code() { mesh_a "$WORK/bin/$1-curl" -sS -o "$WORK/body" -w '%{http_code}' "http://web.e2e.example/$2" 2>&1; }
same http-policy-allows 200 "$(code shop hello)"
same http-policy-denies 403 "$(code shop big)"
same http-policy-denies-others 403 "$(code intruder hello)"

# --- a copy of a request goes to the other host as its client ---

{
	base_http
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web, namespace: e2e }
spec:
  hosts: [web.e2e.example]
  http:
  - route: [{ destination: { host: web.e2e.example } }]
    mirror: { host: web.e2e.example }
END
} >"$WORK/next.yaml"
epoch=$(of a ls "s['epoch']")
mv "$WORK/next.yaml" "$WORK/a.yaml"
wait_for 10 reloaded a || die mirror-applied
same mirror-of-who-may-not 403 "$(code intruder 'hello?refused')"
same mirror-of-who-may 200 "$(code shop 'hello?twice')"
copied() { [ "$(grep -cx 'web.e2e.example /hello?twice 200' "$WORK/access.log")" -eq 2 ]; }
holds mirror-arrives wait_for 10 copied
same mirror-as-its-client 0 "$(grep -c refused "$WORK/access.log")"

# --- the link goes down ---

start wait-down "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" wait echo.e2e.example 7
wait_for 10 grep -q holding "$WORK/wait-down.log" || die link-down-begins
since=$((${EPOCHREALTIME//[.,]/} / 1000))
on_a ip link set "${VETH}a" down
ended link-down-client-sees "$WORK/wait-down.log" "$since"
on_a ip link set "${VETH}a" up
holds link-up-again wait_for 20 works
