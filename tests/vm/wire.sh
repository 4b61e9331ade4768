# Two hosts in the virtual machine, each a flatd with an RDMA device (tests/vm/lib.sh): unmodified programs on one reach
# servers on the other, over verbs where both have a device, over TCP where not, and from one to the other under load.
# Runs in the guest.
failed=0
pass() { echo "PASS vm/$1"; }
fail() {
	echo "FAIL vm/$1: $2"
	failed=1
}
same() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "'$3', wanted '$2'"; fi; }
# holds NAME COMMAND...
holds() {
	local name=$1
	shift
	if "$@" >/dev/null 2>&1; then pass "$name"; else fail "$name" "$*"; fi
}
# wait_for SECONDS COMMAND...
wait_for() {
	local end=$(($(cut -d . -f 1 /proc/uptime) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(cut -d . -f 1 /proc/uptime)" -le $end ] || return 1
		usleep 100000
	done
}

hosts
echo "up after $(cut -d ' ' -f 1 /proc/uptime) s"

# remote NAME ADDRESS
remote() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  addresses: [$2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 7, name: p, protocol: TCP }]
  endpoints:
  - address: 10.77.0.2
    ports: { p: 7007 }
    labels: { security.istio.io/tlsMode: istio }
END
}
workload() {
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: $1, namespace: e2e, labels: { app: $1 } }
spec:
  serviceAccount: $1
  selectors:
  - { executable: /bin/$1, executableOwner: 0 }
END
}
cp /bin/vm-talk /bin/shop
cp /bin/vm-talk /bin/server
{ workload shop && workload server && remote echo 240.9.8.3; } >/tmp/mesh.yaml

# flatd_on A|B [VERBS]
flatd_on() {
	local i=0
	[ "$1" = a ] || i=1
	flatd --control /tmp/$1.sock --config /tmp/mesh.yaml --metrics 10.77.0.$((i + 1)):15020 --wire 10.77.0.$((i + 1)):15018 \
		--svids /svids-$1 ${2:+--verbs $2} >>/tmp/flatd-$1.log 2>&1 &
	eval "FLATD_$1=$!"
	wait_for 30 flatctl --control /tmp/$1.sock ls || fail "flatd-$1-starts" "$(tail -n 5 /tmp/flatd-$1.log)"
}
a() { flatctl --control /tmp/a.sock "$@"; }
b() { flatctl --control /tmp/b.sock "$@"; }
shop() { flat-run --control /tmp/a.sock /bin/shop "$@" 2>&1; }
talk() { shop talk 240.9.8.3 7 "$@"; }
over() { a peers | grep -q "over $1" && b peers | grep -q "over $1"; }

flatd_on a rxe0
flatd_on b rxe1
flat-run --control /tmp/b.sock /bin/server serve 10.77.0.2 7007 >/tmp/server.log 2>&1 &
listens() { b ls | grep -q 10.77.0.2:7007; }
wait_for 10 listens || fail server-listens "$(cat /tmp/server.log)"

# --- bytes ---

same first-connection "ok 300000" "$(talk 1 1 300000)"
holds goes-over-verbs wait_for 5 over verbs
same small-messages "ok 12800" "$(talk 1 200 64)"
same large-messages "ok 8000000" "$(talk 2 4 1000000)"
same many-streams "ok 3200000" "$(talk 40 4 20000)"
holds why-says-verbs grep -q 'over verbs (rxe0)' <<END
$(a why e2e/shop 240.9.8.3:7)
END
metric() { wget -q -O - http://10.77.0.$1:15020/metrics | sed -n "s/^$2 //p"; }
same metrics-links 1 "$(metric 1 flat_wire_verbs_links)"
same metrics-memory 2097152 "$(metric 2 flat_wire_verbs_registered_bytes)"
holds metrics-bytes test "$(metric 1 'flat_wire_carried_bytes_total{path="verbs",direction="sent"}')" -gt 8000000

# --- idle: no processor ---

ticks() { cut -d ' ' -f 14,15 /proc/$FLATD_a/stat | tr ' ' '+'; }
sleep 1
before=$(($(ticks)))
sleep 3
spent=$(($(ticks) - before))
if [ $spent -lt 30 ]; then pass "idle ($spent of 300 ticks)"; else fail idle "$spent of 300 ticks"; fi

# --- the device goes, and comes, under load ---

load() { # ROUNDS: in the background
	talk 4 $1 100000 >/tmp/load &
	LOAD=$!
	sleep 0.5
}
load 25
holds device-removal-ends timeout 20 rdma link delete rxe0
holds back-to-tcp wait_for 10 over tcp
wait $LOAD
same nothing-lost-or-twice "ok 10000000" "$(cat /tmp/load)"
holds device-gone-is-said grep -q 'goes back to TCP: device rxe0' /tmp/flatd-a.log
same tcp-meanwhile "ok 100000" "$(talk 1 1 100000)"
holds device-missing-is-said grep -q 'device rxe0' <<END
$(a peers)
END
rdma link add rxe0 type rxe netdev veth0
load 10
holds over-verbs-again wait_for 20 over verbs
wait $LOAD
same load-while-going-over "ok 4000000" "$(cat /tmp/load)"

# --- the connection breaks: packets of verbs alone have no way ---

load 25
ip rule add pref 5 from 10.77.0.1 to 10.77.0.2 ipproto 17 blackhole
holds broken-connection-is-left wait_for 15 over tcp
ip rule del pref 5
wait $LOAD
same nothing-lost-when-it-broke "ok 10000000" "$(cat /tmp/load)"
holds lost-is-counted test "$(metric 1 flat_wire_verbs_lost_total)" -ge 2
holds mended wait_for 30 over verbs

# --- a flatd is killed ---

rm -f /tmp/stop
shop hold 240.9.8.3 7 /tmp/stop >/tmp/hold &
HOLD=$!
wait_for 5 grep -q holding /tmp/hold || fail kill-begins "$(cat /tmp/hold)"
# It says nothing for a while, by verbs or by TCP: verbs are given up first.
kill -STOP $FLATD_b
holds silence-is-left wait_for 15 grep -q 'goes back to TCP: nothing comes' /tmp/flatd-a.log
kill -CONT $FLATD_b
kill -9 $FLATD_b
wait $HOLD
same killed-flatd-is-seen "ended 104" "$(sed -n 's/^\(ended [0-9]*\).*/\1/p' /tmp/hold)"
flatd_on b
works() { talk 1 1 1000 | grep -q ok; }
holds works-again wait_for 20 works
holds without-a-device-tcp over tcp
said() { a peers | grep -q 'the other host: flatd runs without --verbs'; }
holds without-a-device-is-said wait_for 10 said
kill $FLATD_b
wait $FLATD_b
same nothing-registered-after-peers-are-gone 0 "$(metric 1 flat_wire_verbs_registered_bytes)"
flatd_on b rxe1
holds works-with-a-device wait_for 20 works
holds verbs-with-a-device wait_for 20 over verbs

# --- a peer that lies, and one that is gone ---

# meets lie|lat COUNT BYTES: a server of the ring and a client, which is killed unless it lies; what the server says
meets() {
	timeout 30 vm-ring serve rxe1 10.77.0.2 5000 >/tmp/serve 2>&1 &
	SERVE=$!
	listening() { grep -q ':1388 00000000:0000 0A' /proc/net/tcp; }
	wait_for 5 listening
	vm-ring $1 rxe0 10.77.0.1 10.77.0.2 5000 $2 $3 >/tmp/meets 2>&1 &
	MET=$!
	wait_for 10 grep -q met /tmp/serve
	[ $1 = lie ] || kill -9 $MET
	wait $SERVE
	grep -v '^met' /tmp/serve
}
lie() { meets lie $1 0; }
broke='poll: the peer broke the rules of the ring'
same position-beyond-the-ring "$broke" "$(lie 2000000)"
same position-that-says-nothing "$broke" "$(lie 0)"
same credit-for-what-was-not-sent "$broke" "$(lie $((0x80000000 + 64)))"
same client-that-is-killed '' "$(meets lat 1000000 64)"

# --- limits of registered memory ---

limits=$(vm-ring limits rxe0 10.77.0.1)
holds "limit ($(echo $limits))" grep -q '^12[78] connections.* the limit$' <<END
$limits
END
chmod 666 /dev/infiniband/uverbs*
limits=$(ulimit -l 5000; /bin/setpriv --reuid 65534 --clear-groups vm-ring limits rxe0 10.77.0.1)
holds "locked-memory ($(echo $limits))" grep -q '^[12] connections.*ulimit -l' <<END
$limits
END

[ $failed = 0 ] || tail -n 15 /tmp/flatd-a.log /tmp/flatd-b.log
exit $failed
