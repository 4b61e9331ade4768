#!/bin/bash
# haproxy with two threads before two servers: HTTP and TCP mode, health checks, and a reload whose new process takes the
# listening sockets from the old one (-x) while requests come.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs haproxy curl ab

app back
app front
mkdir -p "$WORK/www"
head -c 5000000 /dev/urandom >"$WORK/www/big"
head -c 1024 /dev/urandom >"$WORK/www/small"
back_server() {
	cat >"$2/nginx.conf" <<-END
		daemon off; worker_processes 2; pid $2/pid; error_log $2/error.log;
		events { worker_connections 1024; }
		http {
			access_log off; keepalive_requests 100000;
			client_body_temp_path $2/body; proxy_temp_path $2/proxy; fastcgi_temp_path $2/fastcgi;
			uwsgi_temp_path $2/uwsgi; scgi_temp_path $2/scgi;
			server { listen 127.0.0.1:$1; root $WORK/www; }
		}
	END
	CMD=(nginx -e "$2/error.log" -c "$2/nginx.conf")
}
front_server() {
	local back=back.e2e.example:80
	[ "$FLAVOUR" = flat ] || back=127.0.0.1:${NATIVE[back]}
	cat >"$2/haproxy.cfg" <<-END
		global
			nbthread 2
			maxconn 2000
			stats socket $2/stats mode 600 level admin expose-fd listeners
			hard-stop-after 10s
		defaults
			mode http
			timeout connect 5s
			timeout client 20s
			timeout server 20s
		frontend f
			bind 127.0.0.1:$1
			default_backend b
		backend b
			option httpchk GET /small
			server s1 $back check inter 500ms
			server s2 $back
	END
	CMD=(haproxy -db -f "$2/haproxy.cfg")
}
mesh
# haproxy asks its servers for their health all the time.
ALSO_OTHERS=1
both back front
pages() {
	run curl -sS "http://$1:$2/big" | hash_of
	run curl -sS "http://$1:$2/small" "http://$1:$2/small" "http://$1:$2/small" | hash_of
	run curl -sS -o /dev/null -w '%{http_code}\n' "http://$1:$2/none"
}
# haproxy's own connections to its servers are direct, whatever the way to haproxy is.
WAYS=(native direct)
each pages front pages
reloads() {
	local old=$1 dir=$WORK/front-$2
	if [ "$2" = native ]; then
		start reloaded-native haproxy -db -f "$dir/haproxy.cfg" -x "$dir/stats" -sf "$old"
		NATIVE_PID[front]=$PID
	else
		start reloaded-flat over haproxy -db -f "$dir/haproxy.cfg" -x "$dir/stats" -sf "$old"
		FLAT_PID[front]=$PID
	fi
	wait_for 15 ended "$old" || echo "the old process stays" >&2
}
load() { run ab -q -c 8 -n "$3" -r "http://$1:$2/small" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'; }
# loaded WAY HOST PORT: the answers while the process of the flavour is replaced twice.
loaded() {
	local flavour=flat
	WAY=$1
	[ "$WAY" != native ] || flavour=native
	load "$2" "$3" 1500 >"$WORK/load.out" &
	local client=$!
	if [ $flavour = native ]; then
		reloads "${NATIVE_PID[front]}" native
		reloads "${NATIVE_PID[front]}" native
	else
		reloads "${FLAT_PID[front]}" flat
		reloads "${FLAT_PID[front]}" flat
	fi
	wait $client
	OUT=$(<"$WORK/load.out")
}
loaded native 127.0.0.1 "${NATIVE[front]}"
WANTED=$OUT
same reload-native 'Complete requests:      1500
Failed requests:        0' "$WANTED"
loaded direct front.e2e.example 80
same reload-direct "$WANTED" "$OUT"
loaded forwarded front-forwarded.e2e.example 80
same reload-forwarded "$WANTED" "$OUT"
loaded plain 127.0.0.1 "${FLAT[front]}"
same reload-plain "$WANTED" "$OUT"
WAYS=(native direct)
each pages-after front pages
ends
