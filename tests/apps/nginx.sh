#!/bin/bash
# nginx as a daemon, a master and four workers: the configuration reloaded and the binary replaced (USR2) while requests come.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs nginx curl ab

app web
mkdir -p "$WORK/www"
head -c 10000000 /dev/urandom >"$WORK/www/big"
head -c 1024 /dev/urandom >"$WORK/www/small"
web_server() {
	cat >"$2/nginx.conf" <<-END
		worker_processes 4;
		pid $2/pid;
		error_log $2/error.log;
		events { worker_connections 1024; }
		http {
			access_log off;
			client_body_temp_path $2/body; proxy_temp_path $2/proxy; fastcgi_temp_path $2/fastcgi;
			uwsgi_temp_path $2/uwsgi; scgi_temp_path $2/scgi;
			server { listen 127.0.0.1:$1; root $WORK/www; }
		}
	END
	CMD=("$(command -v nginx)" -e "$2/error.log" -c "$2/nginx.conf")
}
mesh
both web
# The master is no child of ours.
master_of() { cat "$WORK/web-$1/pid"; }
pages() {
	run curl -sS "http://$1:$2/big" | hash_of
	run curl -sS -w '%{num_connects} ' "http://$1:$2/small" "http://$1:$2/small" "http://$1:$2/small" | hash_of
}
each pages web pages
load() { run ab -q -c 10 -n 1500 "$4" "http://$1:$2/small" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'; }
loads() { load "$1" "$2" - -r; load "$1" "$2" - -k; }
each load web loads

# Requests come while the function $1 is called with native or flat.
during() {
	local before=$1 flavour=flat pid
	[ "$WAY" != native ] || flavour=native
	load "$2" "$3" - -r &
	pid=$!
	"$before" $flavour >&2
	wait "$pid"
}
workers_of() { pgrep -P "$(master_of "$1")" | sort | tr '\n' ' '; }
reloads() {
	local before
	before=$(workers_of "$1")
	kill -HUP "$(master_of "$1")"
	others() { [ "$(workers_of "$1")" != "$before" ] && [ "$(workers_of "$1" | wc -w)" -ge 4 ]; }
	wait_for 10 others "$1"
	kill -HUP "$(master_of "$1")"
}
while_reloading() { during reloads "$1" "$2"; }
each reload web while_reloading
upgrades() {
	local old
	old=$(master_of "$1")
	kill -USR2 "$old"
	successor() { [ -e "$WORK/web-$1/pid.oldbin" ] && [ -s "$WORK/web-$1/pid" ] && [ "$(workers_of "$1" | wc -w)" = 4 ]; }
	wait_for 10 successor "$1" || echo "no new master: $(tail -n 3 "$WORK/web-$1/error.log")"
	kill -QUIT "$old"
	wait_for 10 ended "$old" || echo "the old master stays"
}
while_upgrading() { during upgrades "$1" "$2"; }
each upgrade web while_upgrading
WAYS=(native direct)
each pages-after web pages
NATIVE_PID[web]=$(master_of native)
FLAT_PID[web]=$(master_of flat)
ends
