#!/bin/bash
# redis: a master and a replica (full synchronisation by both methods, a broken link resumed, WAIT), and a cluster of three nodes that
# speak to each other over the mesh.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs redis-server redis-cli redis-benchmark

declare -A BUS
for name in master replica node1 node2 node3; do
	app $name 6379
done
# A node announces one address for its clients and its bus.
for n in 1 2 3; do
	port && BUS[native$n]=$PORT
	port && BUS[flat$n]=$PORT
	service "bus$n" "198.51.100.$((n + 2))" 16379 "$PORT" >>"$CONFIG"
done
common() {
	CMD=(redis-server --port "$1" --bind 127.0.0.1 --save '' --appendonly no --dir "$2" --enable-debug-command yes
		--repl-diskless-sync-delay 0 --repl-timeout 10)
}
master_server() { common "$@"; }
replica_server() {
	common "$@"
	case $FLAVOUR in
	native) CMD+=(--replicaof 127.0.0.1 "${NATIVE[master]}") ;;
	flat) CMD+=(--replicaof master.e2e.example 6379) ;;
	esac
}
node() {
	common "$2" "$3"
	CMD+=(--cluster-enabled yes --cluster-node-timeout 5000 --cluster-port "${BUS[$FLAVOUR$1]}")
	[ "$FLAVOUR" = native ] || CMD+=(--cluster-announce-ip "198.51.100.$(($1 + 2))" --cluster-announce-port 6379
		--cluster-announce-bus-port 16379)
}
node1_server() { node 1 "$@"; }
node2_server() { node 2 "$@"; }
node3_server() { node 3 "$@"; }
mesh

# --- replication ---

both master
cli() { local port=$1 && shift && redis-cli -p "$port" "$@"; }
for port in "${NATIVE[master]}" "${FLAT[master]}"; do
	seq 100000 | sed 's/.*/set key:& value-&-&/' | cli "$port" --pipe >/dev/null
done
both replica
linked() { cli "$1" info replication | grep -q 'master_link_status:up'; }
digest() { cli "$1" debug digest; }
synchronised() { linked "$2" && [ "$(digest "$1")" = "$(digest "$2")" ]; }
WANTED=$(digest "${NATIVE[master]}")
same same-data "$WANTED" "$(digest "${FLAT[master]}")"
pair=("${FLAT[master]}" "${FLAT[replica]}")
holds synchronised-native wait_for 20 synchronised "${NATIVE[master]}" "${NATIVE[replica]}"
holds synchronised wait_for 20 synchronised "${pair[@]}"
holds link-is-direct test "$(state "sum(c['path'] == 'direct' and c['service'] == 'master.e2e.example' for c in s['connections'])")" = 1
for diskless in no yes; do
	cli "${pair[0]}" config set repl-diskless-sync $diskless >/dev/null
	cli "${pair[0]}" set "diskless" $diskless >/dev/null
	cli "${pair[1]}" replicaof no one >/dev/null
	cli "${pair[1]}" flushall >/dev/null
	cli "${pair[1]}" replicaof master.e2e.example 6379 >/dev/null
	holds "synchronised-diskless-$diskless" wait_for 20 synchronised "${pair[@]}"
done
cli "${pair[0]}" client kill type replica >/dev/null
seq 1000 | sed 's/.*/set late:& &/' | cli "${pair[0]}" --pipe >/dev/null
holds resumed wait_for 20 synchronised "${pair[@]}"
same partial-resync 1 "$(cli "${pair[0]}" info stats | tr -d '\r' | sed -n 's/^sync_partial_ok://p')"
waits() { printf 'set waited %s\nwait 1 10000\n' "$3" | run redis-cli -h "$1" -p "$2" | tr '\n' ' '; }
each wait master waits 1

# --- a cluster ---

both node1 node2 node3
cluster() {
	local nodes=()
	case $1 in
	native) nodes=("127.0.0.1:${NATIVE[node1]}" "127.0.0.1:${NATIVE[node2]}" "127.0.0.1:${NATIVE[node3]}") ;;
	flat) nodes=(198.51.100.3:6379 198.51.100.4:6379 198.51.100.5:6379) ;;
	esac
	run redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$WORK/cluster-$1.log" 2>&1
	echo $?
}
WAY=native && same cluster-native 0 "$(cluster native)"
WAY=direct && went cluster-path direct cluster flat
same cluster 0 "$OUT"
ok() { [ "$(cli "${FLAT[$1]}" cluster info | tr -d '\r' | sed -n 's/^cluster_state://p')" = ok ]; }
for name in node1 node2 node3; do holds "$name-ok" wait_for 20 ok $name; done
spread() {
	local out
	seq 600 | sed 's/.*/set key:& &/' | run redis-cli -c -h "$1" -p "$2" | grep -c '^OK'
	out=$(seq 600 | sed 's/.*/get key:&/' | run redis-cli -c -h "$1" -p "$2" | grep -E '^[0-9]+$' | hash_of)
	echo "$out"
}
# A client of the cluster is sent on to the announced addresses: by name of the mesh or not, it is the client's way.
WAYS=(native direct)
each spread node1 spread
benchmark() { run redis-benchmark --cluster -h "$1" -p "$2" -t set,get -n 20000 -c 20 --threads 2 -q 2>&1 | tr '\r' '\n' | grep -c 'requests per second'; }
each benchmark node1 benchmark
ends
