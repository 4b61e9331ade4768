#!/bin/bash
# Who may talk to whom: refusals with their reason, STRICT and PERMISSIVE, plain clients, revocation
# of live connections, a broken configuration, egress, weights. Processes are told apart by their
# executable, which anybody can have of his own.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs redis-server redis-cli "$PYTHON"

mkdir "$WORK/bin"
cp "$(readlink -f "$(command -v redis-cli)")" "$WORK/bin/shop-cli"
cp "$(readlink -f "$(command -v redis-cli)")" "$WORK/bin/intruder-cli"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/shop-python"
cp "$(readlink -f "$(command -v redis-server)")" "$WORK/bin/redis-server"
port && A=$PORT
port && B=$PORT
port && OUTSIDE=$PORT
port && ALL=$PORT

base() {
	own_workload shop shop-cli shop-python
	own_workload intruder intruder-cli
	own_workload redis redis-server
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: redis, namespace: e2e }
spec:
  hosts: [redis.e2e.example]
  addresses: [240.9.7.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 6379, name: tcp-redis, protocol: TCP }]
  endpoints:
  - { address: 127.0.0.1, ports: { tcp-redis: $A }, weight: 80 }
  - { address: 127.0.0.1, ports: { tcp-redis: $B }, weight: 20 }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: redis, namespace: e2e }
spec: { host: redis.e2e.example, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
END
}

authorize() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-$1, namespace: e2e }
spec:
  selector: { matchLabels: { app: redis } }
  action: ALLOW
  rules:
  - from:
    - source: { principals: [cluster.local/ns/e2e/sa/$1] }
END
}

mtls() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: e2e }
spec: { mtls: { mode: $1 } }
END
}

# apply: standard input becomes the configuration, at once and as a whole; waits until flatd has it.
# The moment of the change is in $CHANGED (microseconds).
apply() {
	local before
	before=$(state "s['epoch']")
	cat >"$WORK/next.yaml"
	CHANGED=${EPOCHREALTIME//[.,]/}
	mv "$WORK/next.yaml" "$CONFIG"
	newer() { [ "$(state "s['epoch']")" -gt "$before" ]; }
	wait_for 10 newer || die config-applied "$(tail -n 3 "$WORK/flatd.log")"
}

{ base && authorize shop; } >"$CONFIG"
start_flatd
args=(--bind 127.0.0.1 --save '' --appendonly no --dir "$WORK")
start a over "$WORK/bin/redis-server" --port "$A" "${args[@]}"
start b over "$WORK/bin/redis-server" --port "$B" "${args[@]}"
serve outside "$OUTSIDE" redis-server --port "$OUTSIDE" "${args[@]}"
both() { [ "$(state "len(s['listeners'])")" = 2 ]; }
wait_for 10 both || die servers-listen "$(tail -n 3 "$WORK/a.log" "$WORK/b.log")"
shop() { over "$WORK/bin/shop-cli" -h redis.e2e.example "$@" 2>&1; }
intruder() { over "$WORK/bin/intruder-cli" -h redis.e2e.example "$@" 2>&1; }
plain() { timeout 60 redis-cli -h 127.0.0.1 -p "$A" ping 2>&1; }

# --- admitted and refused ---

went allowed-path direct shop ping
same allowed PONG "$OUT"
OUT=$(intruder ping)
holds refused-with-eacces grep -q 'Permission denied' <(echo "$OUT")
WHY=$(flatctl --control "$CONTROL" why e2e/intruder redis.e2e.example:6379 2>&1)
holds refused-reason-names-policy grep -q only-shop <(echo "$WHY")
holds refused-reason-names-line grep -qE 'mesh\.yaml:[0-9]+' <(echo "$WHY")
holds refused-in-the-log wait_for 10 grep -q intruder "$WORK/flatd.log"

# --- a server at all addresses: those of this host ---

serve all "$ALL" over "$WORK/bin/redis-server" --port "$ALL" --bind 0.0.0.0 --protected-mode no --save ""
listed() { flatctl --control "$CONTROL" ls | grep -q "0\.0\.0\.0:$ALL"; }
wait_for 10 listed || die all-addresses "$(tail -n 3 "$WORK/all.log")"
path_to() { flatctl --control "$CONTROL" why e2e/shop "$1:$ALL" 2>&1 | head -n 1; }
same all-addresses-of-this-host 'allowed, path direct' "$(path_to 127.9.8.7)"
same no-address-of-another 'allowed, path kernel' "$(path_to 198.51.100.7)"

# --- plain clients: PERMISSIVE, a policy, STRICT ---

apply < <(base && mtls PERMISSIVE)
went permissive-plain-path forwarded plain
same permissive-plain PONG "$OUT"
went permissive-mesh-path direct shop ping
same permissive-mesh PONG "$OUT"
apply < <(base && mtls PERMISSIVE && authorize shop)
OUT=$(plain)
holds plain-client-meets-policy test "$OUT" != PONG
apply < <(base && mtls STRICT)
OUT=$(plain)
holds strict-plain-refused test "$OUT" != PONG
went strict-mesh-path direct shop ping
same strict-mesh PONG "$OUT"

# --- revocation: a live direct connection ends with the change ---

cat >"$WORK/hold.py" <<'END'
"""Holds a connection, and says when it ended (microseconds) and how."""
import socket
import sys
import time

s = socket.create_connection((sys.argv[1], 6379))
s.sendall(b"PING\r\n")
assert s.recv(100) == b"+PONG\r\n"
print("holding", flush=True)
try:
    end = "end" if s.recv(100) == b"" else "data"
except OSError as e:
    end = type(e).__name__
print(time.time_ns() // 1000, end, flush=True)
END
best=999999
for try in 1 2 3; do
	apply < <(base && authorize shop)
	start hold over "$WORK/bin/shop-python" -B "$WORK/hold.py" redis.e2e.example
	wait_for 10 grep -q holding "$WORK/hold.log" || die revocation-holds "$(tail -n 2 "$WORK/hold.log")"
	one_direct() { [ "$(state "sum(c['path'] == 'direct' for c in s['connections'])")" = 1 ]; }
	[ $try -gt 1 ] || holds revocation-direct wait_for 10 one_direct
	# Not in a pipeline: $CHANGED is wanted.
	apply < <(base && authorize somebody-else)
	wait_for 10 gone "$PID" || die revoked "the connection lives on"
	read -r when how < <(tail -n 1 "$WORK/hold.log")
	took=$(((when - CHANGED) / 1000))
	[ $took -ge $best ] || best=$took
done
# The best of three: two cores run servers, clients and this script. A busy machine keeps to no limit, so the time is only told.
same "revoked-with (after $best ms)" ConnectionResetError "$how"
OUT=$(shop ping)
holds revoked-stays-out grep -q 'Permission denied' <(echo "$OUT")

# --- a configuration that is wrong changes nothing, and is said ---

apply < <(base && authorize shop)
errors=$(state "s['config_errors']")
{ base && echo '---' && echo 'kind: ServiceEntry' && echo 'spec: [what'; } >"$WORK/next.yaml"
mv "$WORK/next.yaml" "$CONFIG"
refused() { [ "$(state "s['config_errors']")" -gt "$errors" ]; }
holds bad-config-counted wait_for 10 refused
holds bad-config-located wait_for 10 grep -qE 'mesh\.yaml:[0-9]+:[0-9]+' "$WORK/flatd.log"
same bad-config-keeps-the-old PONG "$(shop ping)"
OUT=$(intruder ping)
holds bad-config-keeps-refusing grep -q 'Permission denied' <(echo "$OUT")

# --- egress ---

outward() { over "$WORK/bin/shop-cli" -h 127.0.0.1 -p "$OUTSIDE" ping 2>&1; }
mesh_config() { printf -- '---\nkind: MeshConfig\noutboundTrafficPolicy: { mode: %s }\n' "$1"; }
apply < <(base && mesh_config ALLOW_ANY)
same egress-allow-any PONG "$(outward)"
apply < <(base && mesh_config REGISTRY_ONLY)
OUT=$(outward)
holds egress-registry-only-refuses test "$OUT" != PONG
same egress-registry-only-serves-the-mesh PONG "$(shop ping)"

# --- weights ---

apply < <(base)
received() { redis-cli -p "$1" info stats 2>/dev/null | tr -d '\r' | sed -n 's/total_connections_received://p'; }
cat >"$WORK/many.py" <<'END'
import socket
import sys

for _ in range(1000):
    with socket.create_connection((sys.argv[1], 6379)) as s:
        s.sendall(b"PING\r\n")
        assert s.recv(100) == b"+PONG\r\n"
END
a=$(received "$A")
b=$(received "$B")
went weights-path direct over "$WORK/bin/shop-python" -B "$WORK/many.py" redis.e2e.example
a=$(($(received "$A") - a - 1))
b=$(($(received "$B") - b - 1))
same weights-all 1000 $((a + b))
# Seven standard deviations of 1,000 draws at 0.8 are 89.
holds "weights-80-20 ($a to $b)" test $a -ge 711 -a $a -le 889
