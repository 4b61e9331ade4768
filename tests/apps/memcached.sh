#!/bin/bash
# memcached with four threads; an own client with eight.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs memcached

app memcached 11211
memcached_server() { CMD=(memcached -l 127.0.0.1 -p "$1" -t 4 -m 512 -I 2m -U 0 -u "$(id -un)"); }
mesh
both memcached
work() { run "$PYTHON" -B "$E2E_ROOT/tests/e2e/memcached_client.py" "$@"; }
each work memcached work
ends
