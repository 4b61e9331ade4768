#!/bin/bash
# openssl s_server and s_client: handshakes of TLS 1.2 and 1.3 with a certificate asked of the client, files, lines turned round, sessions
# resumed.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs openssl curl

cd "$WORK" || exit 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 2 -subj /CN=test 2>/dev/null || die certificate
head -c 20000000 /dev/urandom >"$WORK/big"
app files 443
app lines 443
files_server() { CMD=(openssl s_server -accept "127.0.0.1:$1" -cert cert -key key -WWW -Verify 1 -CAfile cert -quiet); }
lines_server() { CMD=(openssl s_server -accept "127.0.0.1:$1" -cert cert -key key -rev -quiet); }
mesh
both files lines
fetch() {
	local version
	for version in 1.2 1.3; do
		run curl -sS -k --cert cert --key key --tlsv$version --tls-max $version "https://$1:$2/big" | hash_of
	done
	printf 'GET /big HTTP/1.0\r\n\r\n' | run openssl s_client -connect "$1:$2" -cert cert -key key -quiet -ign_eof 2>/dev/null | hash_of
}
each files files fetch
turned() {
	{
		seq 20000
		echo CLOSE
	} | run openssl s_client -connect "$1:$2" -quiet -ign_eof 2>/dev/null | hash_of
	run openssl s_client -connect "$1:$2" -reconnect -tls1_2 </dev/null 2>/dev/null | grep -oE '^(New|Reused)'
}
each lines lines turned
ends
