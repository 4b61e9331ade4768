#!/bin/bash
# ab, wrk and iperf (2), sockperf under load: programs that measure. What they count must be whole.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs ab wrk nginx iperf nuttcp sockperf

app web
app iperf 5001
app sockperf 11111
head -c 1024 /dev/urandom >"$WORK/small"
web_server() {
	cat >"$2/nginx.conf" <<-END
		daemon off; worker_processes 2; pid $2/pid; error_log $2/error.log;
		events { worker_connections 1024; }
		http {
			access_log off; keepalive_requests 1000000;
			client_body_temp_path $2/body; proxy_temp_path $2/proxy; fastcgi_temp_path $2/fastcgi;
			uwsgi_temp_path $2/uwsgi; scgi_temp_path $2/scgi;
			server { listen 127.0.0.1:$1 backlog=1024; root $WORK; }
		}
	END
	CMD=(nginx -e "$2/error.log" -c "$2/nginx.conf")
}
iperf_server() { CMD=(iperf -s -B 127.0.0.1 -p "$1"); }
sockperf_server() { CMD=(sockperf server --tcp -i 127.0.0.1 -p "$1"); }
mesh
both web iperf sockperf
benched() {
	local options
	for options in "-c 1" "-c 100 -k"; do
		# shellcheck disable=SC2086
		run ab -q -n 1000 -r $options "http://$1:$2/small" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr|HTML)'
	done
}
each ab web benched
worked() {
	# wrk says "Socket errors" or "Non-2xx" if there were any.
	run wrk --timeout 30s -t 2 -c 100 -d 1s "http://$1:$2/small" 2>&1 | grep -E 'Socket errors|Non-2xx|connections$'
	run wrk --timeout 30s -t 2 -c 20 -d 1s -H 'Connection: close' "http://$1:$2/small" 2>&1 | grep -E 'Socket errors|Non-2xx|connections$'
}
each wrk web worked
transfers() { run iperf -c "$1" -p "$2" -n 64M -P 3 -f M 2>&1 | awk '/SUM/ { print $4, $5 }'; }
each iperf iperf transfers
flood() {
	run sockperf throughput --tcp -i "$1" -p "$2" -t 1 -m 1000 2>&1 | grep -cE 'Message Rate is [1-9]'
	run sockperf under-load --tcp -i "$1" -p "$2" -t 1 -m 100 --mps 20000 --reply-every 10 2>&1 |
		sed 's/\x1b\[[0-9;]*m//g' | grep -oE '(dropped|duplicated|out-of-order) messages = [0-9]+'
}
address() { case $1 in *.*.*.[0-9]*) echo "$1" ;; *-forwarded.*) echo 203.0.113.3 ;; *) echo 198.51.100.3 ;; esac; }
floods() { flood "$(address "$1")" "$2"; }
each sockperf sockperf floods
ends
