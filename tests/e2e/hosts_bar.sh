#!/bin/bash
# Two hosts under load, and what goes wrong between them: certificates that are renewed, a link that is down for a moment, either
# flatd killed again and again. Each message is accounted for: none is answered that was not seen, none is seen twice.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON"
PART=$E2E_ROOT/tests/e2e/hosts_bar_part.py
CONNS=8
: "${FLAT_KILL_TRIES:=10}"

two_hosts 10.79.0 || exit 77
flatctl ca init "$WORK/ca" || die ca-init
identities() { flatctl ca issue "$WORK/ca" "$WORK/svids" flatd && flatctl ca issue "$WORK/ca" "$WORK/svids" e2e/all; }
identities || die ca-issue
cat >"$CONFIG" <<END
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ledger, namespace: e2e }
spec:
  hosts: [ledger.e2e.example]
  addresses: [240.9.9.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 7, name: tcp, protocol: TCP }]
  endpoints: [{ address: 10.79.0.2, ports: { tcp: 7007 }, serviceAccount: all, labels: { security.istio.io/tlsMode: istio } }]
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: all, namespace: e2e }
spec: { serviceAccount: all, selectors: [{ uid: $(id -u) }] }
END

# flatd_on a|b: starts it there; its pid in FLATD_a, FLATD_b.
flatd_on() {
	local where=("${ON_A[@]}")
	[ "$1" = a ] || where=("${ON_B[@]}")
	start "flatd-$1" "${where[@]}" flatd --control "$WORK/$1.sock" --config "$CONFIG" --metrics off --wire 0.0.0.0:15018 --svids "$WORK/svids"
	printf -v "FLATD_$1" %s "$PID"
	wait_for 10 flatctl --control "$WORK/$1.sock" ls || die "flatd-$1-starts" "$(tail -n 5 "$WORK/flatd-$1.log")"
}
# peers a|b EXPRESSION: over `s`, what flatctl peers --json says there.
peers() {
	flatctl --control "$WORK/$1.sock" peers --json | "$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$2"
}
said() { grep -c "$1" "$WORK/load.log"; }
# goes_on NAME: every connection has answers beyond those so far. A number is that of its connection, times 2^32.
goes_on() {
	local before
	before=$(wc -l <"$WORK/answered")
	more() { [ "$(tail -n +$((before + 1)) "$WORK/answered" | awk '!seen[int($1 / 4294967296)]++ { n++ } END { print n }')" = $CONNS ]; }
	holds "$1" wait_for 20 more
}

flatd_on a
flatd_on b
start serve "${ON_B[@]}" flat-run --control "$WORK/b.sock" "$PYTHON" -B "$PART" serve 7007 "$WORK/seen"
SERVE=$PID
wait_for 15 grep -q listening "$WORK/serve.log" || die server-listens "$(tail -n 3 "$WORK/serve.log")"
start load "${ON_A[@]}" flat-run --control "$WORK/a.sock" "$PYTHON" -B "$PART" load ledger.e2e.example 7 $CONNS "$WORK/stop" "$WORK/answered"
LOAD=$PID
all_up() { [ "$(said '^up')" -ge "$CONNS" ]; }
wait_for 15 all_up || die load-begins "$(tail -n 3 "$WORK/load.log")"

# --- certificates are renewed ---

for i in 1 2 3; do
	before=$(peers a "s['rotations']")
	before_b=$(peers b "s['rotations']")
	identities || die ca-issue
	rotated() { [ "$(peers a "s['rotations']")" -gt "$before" ] && [ "$(peers b "s['rotations']")" -gt "$before_b" ]; }
	holds "renewed-$i" wait_for 10 rotated
	goes_on "renewed-$i-goes-on"
done
same renewed-ends-no-connection 0 "$(said '^ended\|^refused')"

# --- the link is down for a moment ---

on_a ip link set "${VETH}a" down
sleep 0.5
on_a ip link set "${VETH}a" up
goes_on down-for-a-moment-goes-on
same down-for-a-moment-ends-no-connection 0 "$(said '^ended\|^refused')"

# --- either flatd is killed ---

# held a|b: what that flatd has: descriptors without those of lanes, of which some are kept for a while; sessions, connections, links, streams.
held() {
	flatctl --control "$WORK/$1.sock" ls --json | "$PYTHON" -c 'import json, sys
s = json.load(sys.stdin)
print("fds", s["fds"] - s["lanes"], "few-lanes", s["lanes"] < 17, "sessions", len(s["sessions"]), s["ended_sessions_held"], "connections", len(s["connections"]))'
	peers "$1" "('links', len(s['peers']), 'streams', sum(p['streams'] for p in s['peers']))"
}
# has PID: what that application has: descriptors, and of them memory; lanes that are mapped, of which some are kept for a while.
has() {
	echo "fds $(find "/proc/$1/fd" -type l | wc -l) memfds $(find "/proc/$1/fd" -lname '/memfd:*' | wc -l) few-lanes $(($(grep -c /memfd:flat-lane "/proc/$1/maps") < 65))"
}
# all_hold: what those hold that live through these kills.
all_hold() { echo "flatd $other: $(held "$other" | tr '\n' ' ') load: $(has "$LOAD") serve: $(has "$SERVE")"; }

slowest=0
half=$(((FLAT_KILL_TRIES + 1) / 2))
for i in $(seq "$FLAT_KILL_TRIES"); do
	# One after the other, so that what one kill leaves at the other adds up.
	if [ "$i" -le "$half" ]; then side=b other=a; else side=a other=b; fi
	pid=FLATD_$side
	ends=$(said '^ended')
	ups=$(said '^up')
	read -rt "0.0$((RANDOM % 10))" <> <(:) || :
	since=$((${EPOCHREALTIME//[.,]/} / 1000))
	kill -9 "${!pid}" && wait "${!pid}" 2>/dev/null
	all_ended() { [ "$(said '^ended')" -ge $((ends + CONNS)) ]; }
	wait_for 15 all_ended || die "killed-$i-$side-all-see-it" "$(said '^ended') of $((ends + CONNS))"
	last=$(grep '^ended' "$WORK/load.log" | tail -n 1 | cut -d ' ' -f 4)
	[ $((last - since)) -le "$slowest" ] || slowest=$((last - since))
	flatd_on "$side"
	back() { [ "$(said '^up')" -ge $((ups + CONNS)) ]; }
	wait_for 30 back || die "killed-$i-$side-is-back" "$(tail -n 3 "$WORK/load.log")"
	# The other one has learned of the first of its kills.
	if [ "$i" = 1 ] || [ "$i" = $((half + 1)) ]; then
		base=
		settled() { base=$(all_hold) && [[ $base == *"connections $CONNS "*"'links', 1, 'streams', $CONNS)"* ]]; }
		wait_for 20 settled || die "killed-$i-$side-settles" "$base"
	elif [ "$i" = "$half" ] || [ "$i" = "$FLAT_KILL_TRIES" ]; then
		as_before() { [ "$(all_hold)" = "$base" ]; }
		wait_for 20 as_before || :
		same "killed-$i-$side-leaves-nothing-at-the-others" "$base" "$(all_hold)"
	fi
done
touch "$WORK/stop"
wait_for 30 gone "$LOAD" || die load-stops "$(tail -n 3 "$WORK/load.log")"
pass "killed-$FLAT_KILL_TRIES-times-each-connection-ended-and-came-back (the slowest end after $slowest ms)"
same killed-ends-each-once $((FLAT_KILL_TRIES * CONNS)) "$(said '^ended')"
same killed-errno ECONNRESET "$(grep '^ended' "$WORK/load.log" | cut -d ' ' -f 3 | grep -v EPIPE | sort -u)"
same each-message-once 'twice 0 lost 0 answered some' "$("$PYTHON" -B "$PART" account "$WORK/seen" "$WORK/answered")"
same no-byte-is-wrong 0 "$(cat "$WORK/load.log" "$WORK/serve.log" | grep -c corrupt)"
