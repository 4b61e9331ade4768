#!/bin/bash
# nginx with a master and two workers, curl and wrk: 100 MB files, keep-alive, many connections.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs nginx curl wrk

port && NATIVE=$PORT
port && FLAT=$PORT
{
	service web 240.9.3.1 80 "$FLAT"
	service web-forwarded 240.9.3.2 80 "$FLAT" forwarded
} >"$CONFIG"
start_flatd

mkdir -p "$WORK/www"
head -c 104857600 /dev/urandom >"$WORK/www/big"
head -c 612 /dev/urandom >"$WORK/www/small"
BIG=$(hash_of <"$WORK/www/big")
site() {
	mkdir -p "$WORK/nginx-$1"
	cat >"$WORK/nginx-$1.conf" <<END
daemon off;
worker_processes 2;
pid $WORK/nginx-$1/pid;
error_log $WORK/nginx-$1/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	sendfile $3;
	keepalive_requests 100000;
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
END
}
site native "$NATIVE" on
serve native "$NATIVE" nginx -e "$WORK/native-error" -c "$WORK/nginx-native.conf"
direct=http://web.e2e.example
forwarded=http://web-forwarded.e2e.example

same native "$BIG" "$(curl -sS "http://127.0.0.1:$NATIVE/big" | hash_of)"
WANTED=$(curl -sSi "http://127.0.0.1:$NATIVE/small" | grep -vai '^date:' | hash_of)
fetch() { over curl -sS "$1" | hash_of; }
fetch_head() { over curl -sSi "$1" | grep -vai '^date:' | hash_of; }

for sendfile in on off; do
	site flat "$FLAT" $sendfile
	start flat over nginx -e "$WORK/flat-error" -c "$WORK/nginx-flat.conf"
	NGINX=$PID
	NGINX=$PID
	up() { [ "$(over curl -sS -o /dev/null -w '%{http_code}' $direct/small)" = 200 ]; }
	wait_for 10 up || die "starts-sendfile-$sendfile" "$(cat "$WORK/flat-error" "$WORK/flat.log" | tail -n 3)"
	went "big-direct-path-sendfile-$sendfile" direct fetch $direct/big
	same "big-direct-sendfile-$sendfile" "$BIG" "$OUT"
	went "big-forwarded-path-sendfile-$sendfile" forwarded fetch $forwarded/big
	same "big-forwarded-sendfile-$sendfile" "$BIG" "$OUT"
	[ $sendfile = off ] || stop "$NGINX"
done
went answer-path direct fetch_head $direct/small
same answer "$WANTED" "$OUT"
went plain-client-path forwarded curl -sS -o "$WORK/plain" "http://127.0.0.1:$FLAT/big"
same plain-client "$BIG" "$(hash_of <"$WORK/plain")"

# Ten requests on one connection.
keepalive() {
	local urls=() i
	for i in 1 2 3 4 5 6 7 8 9 10; do urls+=(-o /dev/null "$1/small"); done
	over curl -sS -w '%{num_connects} %{size_download}\n' "${urls[@]}" |
		awk '{ n += $1; bytes += $2 } END { print n, bytes }'
}
went keepalive-path direct keepalive $direct
same keepalive '1 6120' "$OUT"

# wrk says "Socket errors" or "Non-2xx" if there were any.
load() {
	local seconds=3
	[ -z "${FLAT_QUICK:-}" ] || seconds=1
	# With the port: wrk asks for the service "http", which a bare machine cannot name.
	over wrk --timeout 30s -t 2 -c 40 -d ${seconds}s "$1:80/small" 2>&1
}
for way in direct forwarded; do
	went "wrk-$way-path" $way load "${!way}"
	if grep -qE 'Requests/sec: +[1-9]' <<<"$OUT" && ! grep -qE 'Socket errors|Non-2xx' <<<"$OUT"; then
		pass "wrk-$way"
	else
		fail "wrk-$way" "$(tr '\n' ' ' <<<"$OUT")"
	fi
done

# The lanes of clients that are gone are unmapped, and flatd has none of theirs left.
many() {
	local i
	for i in {1..120}; do
		over curl -sS -o /dev/null -w '%{http_code}\n' "$1/small"
	done | sort | uniq -c | tr -s ' '
}
went many-clients-path direct many $direct
same many-clients " 120 200" "$OUT"
workers=$(pgrep -P "$NGINX" | tr '\n' ' ')
few_mapped() {
	local pid n=0
	for pid in $NGINX $workers; do
		n=$((n + $(grep -c memfd:flat-lane "/proc/$pid/maps")))
	done
	[ $n -lt 60 ]
}
holds lanes-unmapped wait_for 10 few_mapped
