#!/bin/bash
# Services of the old school: vsftpd (passive and active transfers; processes by clone(), in a chroot), lighttpd, stunnel before
# it, dnsmasq over TCP.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs vsftpd lighttpd stunnel dnsmasq dig curl openssl ab

mkdir -p "$WORK/www/empty" && chmod 755 "$WORK/www"
head -c 5000000 /dev/urandom >"$WORK/www/big"
head -c 1024 /dev/urandom >"$WORK/www/small"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/key" -out "$WORK/cert" -days 2 -subj /CN=test 2>/dev/null || die certificate
cat "$WORK/key" "$WORK/cert" >"$WORK/pem"
app ftp 21
app web
app tls 443
app dns 53
ftp_server() {
	cat >"$2/conf" <<-END
		listen=YES
		background=NO
		listen_address=127.0.0.1
		listen_port=$1
		anonymous_enable=YES
		local_enable=NO
		anon_root=$WORK/www
		secure_chroot_dir=$WORK/www/empty
		ftp_username=games
		nopriv_user=nobody
		xferlog_enable=NO
		connect_from_port_20=NO
	END
	[ "$(id -u)" -eq 0 ] || echo run_as_launching_user=YES >>"$2/conf"
	CMD=(vsftpd "$2/conf")
}
web_server() {
	cat >"$2/conf" <<-END
		server.bind = "127.0.0.1"
		server.port = $1
		server.document-root = "$WORK/www"
		server.errorlog = "$2/error.log"
		server.max-worker = 2
	END
	CMD=(lighttpd -D -f "$2/conf")
}
tls_server() {
	local back=web.e2e.example:80
	[ "$FLAVOUR" = flat ] || back=127.0.0.1:${NATIVE[web]}
	cat >"$2/conf" <<-END
		foreground = yes
		pid =
		syslog = no
		[web]
		accept = 127.0.0.1:$1
		connect = $back
		cert = $WORK/pem
	END
	CMD=(stunnel "$2/conf")
}
dns_server() {
	CMD=(dnsmasq -k -p "$1" -a 127.0.0.1 -z -i lo -R -h --pid-file= --log-facility=- -u "$(id -un)" --host-record=host17.test,10.1.2.3)
}
mesh
both ftp web tls dns
# With the address that the server says: what curl would put in its place, the service's, has one port.
files() {
	run curl -sS --disable-epsv --no-ftp-skip-pasv-ip "ftp://$1:$2/big" | hash_of
	run curl -sS --disable-eprt -P 127.0.0.1 "ftp://$1:$2/small" | hash_of
	run curl -sS --disable-epsv --no-ftp-skip-pasv-ip -l "ftp://$1:$2/" | sort | tr -d '\r'
}
ALSO_OTHERS=1
each ftp ftp files
ALSO_OTHERS=
pages() {
	run curl -sS -k "$3://$1:$2/big" | hash_of
	run ab -q -c 8 -n 300 -k -r "$3://$1:$2/small" 2>&1 | grep -E '^(Complete|Failed|Non-2xx|apr)'
}
each lighttpd web pages http
ALSO_OTHERS=1
each stunnel tls pages https
ALSO_OTHERS=
address() { case $1 in 127.*) echo "$1" ;; *-forwarded.*) echo 203.0.113.4 ;; *) echo 198.51.100.4 ;; esac; }
asks() { run dig +tcp +short +time=20 -p "$2" "@$(address "$1")" host17.test; }
each dnsmasq dns asks
ends
