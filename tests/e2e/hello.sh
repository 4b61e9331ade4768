#!/bin/bash
# examples/hello: programs linked with libflat, zero copy, against each other and a plain client.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

port && FLAT=$PORT
{
	service hello 240.9.6.1 7 "$FLAT"
	service hello-forwarded 240.9.6.2 7 "$FLAT" forwarded
} >"$CONFIG"
start_flatd
export FLAT_CONTROL=$CONTROL
serve hello "$FLAT" "$FLAT_BUILD/examples/hello-server" "$FLAT"
client() { "$FLAT_BUILD/examples/hello-client" "$@"; }
LONG=$(printf 'x%.0s' {1..100000})
WANTED=$(printf '%s\n' one "$LONG" three | hash_of)
talk() { client "$1" "$2" one "$LONG" three | hash_of; }
went direct-path direct talk hello.e2e.example 7
same direct "$WANTED" "$OUT"
went forwarded-path forwarded talk hello-forwarded.e2e.example 7
same forwarded "$WANTED" "$OUT"
plain() {
	exec 7<>"/dev/tcp/127.0.0.1/$FLAT" || return 1
	echo plain >&7
	head -n 1 <&7
	exec 7>&-
}
went plain-client-path forwarded plain
same plain-client plain "$OUT"
# Without flatd the same programs talk over the kernel.
port && ALONE=$PORT
FLAT_CONTROL=$WORK/nobody serve alone "$ALONE" "$FLAT_BUILD/examples/hello-server" "$ALONE"
same without-flatd one "$(FLAT_CONTROL=$WORK/nobody client 127.0.0.1 "$ALONE" one)"
