#!/bin/bash
# apache2, prefork and event: files, CGI programs, a request body, keep-alive, and a graceful restart while requests come.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs apache2 curl ab

app prefork
app event
mkdir -p "$WORK/www" "$WORK/cgi"
head -c 10000000 /dev/urandom >"$WORK/www/big"
head -c 1024 /dev/urandom >"$WORK/www/small"
cat >"$WORK/cgi/sum" <<'END'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n%s %s\n' "$REQUEST_METHOD" "$(sha256sum)"
END
chmod 755 "$WORK/cgi/sum"
server() {
	local module modules=()
	for module in "mpm_$3" authz_core alias "$([ "$3" = event ] && echo cgid || echo cgi)"; do
		modules+=("LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so")
	done
	{
		printf '%s\n' "${modules[@]}"
		cat <<-END
			ServerName localhost
			ServerRoot $2
			Listen 127.0.0.1:$1
			PidFile $2/pid
			ErrorLog $2/error.log
			DocumentRoot $WORK/www
			KeepAlive On
			MaxKeepAliveRequests 0
			ScriptAlias /cgi/ $WORK/cgi/
			StartServers 2
			GracefulShutdownTimeout 5
		END
		[ "$(id -u)" -ne 0 ] || printf 'User www-data\nGroup www-data\n'
		[ "$3" = prefork ] || printf 'ThreadsPerChild 10\nMaxRequestWorkers 50\nScriptSock %s/cgid\n' "$2"
	} >"$2/apache2.conf"
	CMD=(apache2 -DFOREGROUND -f "$2/apache2.conf")
}
prefork_server() { server "$1" "$2" prefork; }
event_server() { server "$1" "$2" event; }
mesh
both prefork event
pages() {
	run curl -sS "http://$1:$2/big" | hash_of
	run curl -sS -w '%{num_connects} ' "http://$1:$2/small" "http://$1:$2/small" "http://$1:$2/small" | hash_of
	run curl -sS -r 1000-1999 "http://$1:$2/big" | hash_of
}
programs() { run curl -sS -H 'Expect:' --data-binary "@$WORK/www/big" "http://$1:$2/cgi/sum"; }
load() { run ab -q -c 10 -n 600 "${@:3}" "http://$1:$2/small" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'; }
both_loads() { load "$@" -r; load "$@" -k; }
restarts() {
	local pid=${FLAT_PID[$3]} children load
	[ "$WAY" != native ] || pid=${NATIVE_PID[$3]}
	children=$(pgrep -P "$pid" | sort | head -n 1)
	load "$1" "$2" -r &
	load=$!
	kill -USR1 "$pid"
	wait_for 10 ended "$children" || echo "child $children stays"
	kill -USR1 "$pid"
	wait "$load"
}
# apache wakes its children by connecting to itself.
ALSO_OTHERS=1
for mpm in prefork event; do
	each $mpm-pages $mpm pages
	each $mpm-cgi $mpm programs
	each $mpm-load $mpm both_loads
	each $mpm-restart $mpm restarts $mpm
	WAYS=(native direct)
	each $mpm-pages-after $mpm pages
	WAYS=(native direct forwarded plain)
done
ends
