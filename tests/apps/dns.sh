#!/bin/bash
# named: questions and a whole zone over TCP, many on one connection.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs named dig

app dns 53
dns_server() {
	{
		printf '$TTL 60\n@ SOA ns a 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n'
		seq 5000 | sed 's/.*/host& A 10.1.2.3/'
	} >"$2/zone"
	cat >"$2/conf" <<-END
		options {
			directory "$2"; pid-file none; session-keyfile none; recursion no; dnssec-validation no;
			listen-on port $1 { 127.0.0.1; }; listen-on-v6 { none; }; allow-transfer { any; }; managed-keys-directory "$2";
		};
		controls { };
		zone "test" { type primary; file "$2/zone"; };
	END
	CMD=(named -f -g -n 2 -c "$2/conf")
}
mesh
both dns
# dig wants an address.
address() { case $1 in 127.*) echo "$1" ;; *-forwarded.*) echo 203.0.113.1 ;; *) echo 198.51.100.1 ;; esac; }
ask() {
	local at
	at=$(address "$1")
	run dig +tcp +short -p "$2" "@$at" host17.test
	seq 200 | sed 's/.*/host&.test/' >"$WORK/questions.$WAY"
	run dig +tcp +keepopen +short -p "$2" "@$at" -f "$WORK/questions.$WAY" | sort | uniq -c
	run dig -p "$2" "@$at" test axfr | grep -v '^;' | hash_of
}
each questions dns ask
ends
