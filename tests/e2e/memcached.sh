#!/bin/bash
# memcached with four threads, an own client with eight.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs memcached

port && NATIVE=$PORT
port && FLAT=$PORT
{
	service memcached 240.9.2.1 11211 "$FLAT"
	service memcached-forwarded 240.9.2.2 11211 "$FLAT" forwarded
} >"$CONFIG"
start_flatd
args=(-l 127.0.0.1 -t 4 -m 512 -I 2m -U 0 -u "$(id -un)")
serve native "$NATIVE" memcached -p "$NATIVE" "${args[@]}"
start flat over memcached -p "$FLAT" "${args[@]}"
listens() { [ "$(state "sum(l['address'] == '127.0.0.1:$FLAT' for l in s['listeners'])")" -gt 0 ]; }
wait_for 10 listens || die listens "$(tail -n 3 "$WORK/flat.log")"

client() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/memcached_client.py" "$@"; }
client_over() { over "$PYTHON" -B "$E2E_ROOT/tests/e2e/memcached_client.py" "$@"; }
WANTED=$(client 127.0.0.1 "$NATIVE")
went direct-path direct client_over memcached.e2e.example 11211
same direct "$WANTED" "$OUT"
went forwarded-path forwarded client_over memcached-forwarded.e2e.example 11211
same forwarded "$WANTED" "$OUT"
# A client without the library reaches the same server through flatd.
went plain-client-path forwarded client 127.0.0.1 "$FLAT"
same plain-client "$WANTED" "$OUT"
