#!/bin/bash
# php-fpm behind nginx: pages, a body of 3 MB, a page that asks another server, and a reload of php-fpm while requests come.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PHP_FPM=$(compgen -c php-fpm | head -n 1)
needs nginx "${PHP_FPM:-php-fpm}" curl ab

mkdir "$WORK/www"
cat >"$WORK/www/page.php" <<'END'
<?php
$body = file_get_contents('php://input');
echo $_SERVER['REQUEST_METHOD'], ' ', hash('sha256', $body), ' ', str_repeat('w', 100000);
END
cat >"$WORK/www/asks.php" <<'END'
<?php
$other = $_GET['base'] . '/page.php';
echo hash('sha256', file_get_contents($other));
$handle = stream_socket_client('tcp://' . parse_url($other, PHP_URL_HOST) . ':' . parse_url($other, PHP_URL_PORT));
fwrite($handle, "GET /page.php HTTP/1.0\r\n\r\n");
echo ' ', strlen(strstr(stream_get_contents($handle), "\r\n\r\n"));
END
app fpm 9000
app web
fpm_server() {
	cat >"$2/fpm.conf" <<-END
		[global]
		daemonize = no
		error_log = $2/error.log
		process_control_timeout = 5
		[www]
		listen = 127.0.0.1:$1
		pm = dynamic
		pm.max_children = 6
		pm.start_servers = 3
		pm.min_spare_servers = 2
		pm.max_spare_servers = 4
		pm.max_requests = 200
	END
	[ "$(id -u)" -ne 0 ] || printf 'user = www-data\ngroup = www-data\n' >>"$2/fpm.conf"
	CMD=("$PHP_FPM" -F -y "$2/fpm.conf" -d opcache.enable=0)
}
web_server() {
	local fpm=fpm.e2e.example:9000
	[ "$FLAVOUR" = flat ] || fpm=127.0.0.1:${NATIVE[fpm]}
	cat >"$2/nginx.conf" <<-END
		daemon off; worker_processes 2; pid $2/pid; error_log $2/error.log;
		events { worker_connections 1024; }
		http {
			access_log off; client_max_body_size 10m;
			client_body_temp_path $2/body; proxy_temp_path $2/proxy; fastcgi_temp_path $2/fastcgi;
			uwsgi_temp_path $2/uwsgi; scgi_temp_path $2/scgi;
			upstream php { server $fpm; keepalive 1; }
			server {
				listen 127.0.0.1:$1; root $WORK/www;
				location ~ \.php\$ {
					fastcgi_pass php; fastcgi_keep_conn on; include /etc/nginx/fastcgi_params;
					fastcgi_param SCRIPT_FILENAME \$document_root\$fastcgi_script_name;
				}
			}
		}
	END
	CMD=(nginx -e "$2/error.log" -c "$2/nginx.conf")
}
mesh
both fpm web
head -c 3000000 /dev/urandom >"$WORK/body"
pages() {
	local base=http://127.0.0.1:${NATIVE[web]}
	[ "$WAY" = native ] || base=http://web.e2e.example:80
	run curl -sS "http://$1:$2/page.php" | hash_of
	run curl -sS -H Expect: --data-binary "@$WORK/body" "http://$1:$2/page.php" | hash_of
	run curl -sS "http://$1:$2/asks.php?base=$base"
	run ab -q -c 6 -n 600 -r "http://$1:$2/page.php" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'
}
# What nginx and php-fpm do among themselves is direct.
WAYS=(native direct)
each pages web pages
from_plain() { WAY=plain pages 127.0.0.1 "${FLAT[web]}"; }
same pages-plain "$OUT" "$(timeout_of 60 from_plain)"
reloads() {
	local pid=${FLAT_PID[fpm]} child load
	[ "$WAY" != native ] || pid=${NATIVE_PID[fpm]}
	child=$(pgrep -P "$pid" | head -n 1)
	run ab -q -c 4 -n 600 -r "http://$1:$2/page.php" 2>&1 | grep -E '^(Complete|apr)' &
	load=$!
	kill -USR2 "$pid"
	wait_for 10 ended "$child" || echo "child $child stays"
	wait "$load"
	run curl -sS "http://$1:$2/page.php" | hash_of
}
each reload web reloads
ends
