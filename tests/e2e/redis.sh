#!/bin/bash
# redis-server, redis-cli and redis-benchmark, unmodified: mass insert, pub/sub, blocking pops and 1 GB
# through, natively and over libflat, directly and forwarded.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs redis-server redis-cli redis-benchmark

port && NATIVE=$PORT
port && FLAT=$PORT
{
	service redis 240.9.1.1 6379 "$FLAT"
	service redis-forwarded 240.9.1.2 6379 "$FLAT" forwarded
} >"$CONFIG"
start_flatd
args=(--bind 127.0.0.1 --save '' --appendonly no --dir "$WORK" --enable-debug-command yes --proto-max-bulk-len 512mb)
serve native "$NATIVE" redis-server --port "$NATIVE" "${args[@]}"
start flat over redis-server --port "$FLAT" "${args[@]}"

native() { redis-cli -p "$NATIVE" "$@"; }
direct() { over redis-cli -h redis.e2e.example "$@"; }
forwarded() { over redis-cli -h redis-forwarded.e2e.example "$@"; }
answers() { [ "$("$1" ping)" = PONG ]; }
wait_for 10 answers direct || die answers "$(tail -n 3 "$WORK/flat.log")"

# --- mass insert: the data sets have one digest ---

"$PYTHON" -B - >"$WORK/mass" <<'END'
import sys
out = []
for i in range(200000):
    words = (b"SET", b"key:%d" % i, b"v%x" % (i * 2654435761 % 2**32) * (1 + i % 7))
    out.append(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
sys.stdout.buffer.write(b"".join(out))
END
mass() { "$1" --pipe <"$WORK/mass" | grep -o 'errors: .*'; }
WANTED=$(mass native)
same mass-insert-native 'errors: 0, replies: 200000' "$WANTED"
DIGEST=$(native debug digest)
for way in direct forwarded; do
	direct flushall >/dev/null
	went "mass-insert-$way-path" $way mass $way
	same "mass-insert-$way" "$WANTED" "$OUT"
	same "mass-insert-$way-digest" "$DIGEST" "$(direct debug digest)"
done

# --- pub/sub ---

# Bytes of 1,000 messages as a subscriber of the way $1 prints them.
pubsub() {
	local cli=$1
	"$cli" subscribe news >"$WORK/sub.$cli" 2>/dev/null </dev/null &
	local pid=$!
	E2E_PIDS+=("$pid")
	subscribed() { [ "$("$cli" pubsub numsub news | tail -n 1)" = 1 ]; }
	wait_for 10 subscribed || return 1
	seq 1000 | sed 's/.*/publish news message-&/' | "$cli" >/dev/null
	all() { grep -q message-1000 "$WORK/sub.$cli"; }
	wait_for 10 all || return 1
	local children
	children=$(ps -o pid= --ppid "$pid")
	# shellcheck disable=SC2086
	kill $pid $children 2>/dev/null
	hash_of <"$WORK/sub.$cli"
}
WANTED=$(pubsub native)
for way in direct forwarded; do
	went "pubsub-$way-path" $way pubsub $way
	same "pubsub-$way" "$WANTED" "$OUT"
done

# --- blocking pops: the waiter sleeps in the server until somebody pushes ---

pops() {
	local cli=$1 i
	"$cli" del queue >/dev/null
	for i in 1 2 3; do
		"$cli" blpop queue 20 >"$WORK/pop.$cli.$i" &
	done
	blocked() { [ "$("$cli" info clients | tr -d '\r' | sed -n 's/blocked_clients://p')" = 3 ]; }
	wait_for 10 blocked || return 1
	"$cli" rpush queue a b c >/dev/null
	wait_popped() { [ "$(cat "$WORK/pop.$cli."? | grep -c '^[abc]$')" = 3 ]; }
	wait_for 10 wait_popped || return 1
	cat "$WORK/pop.$cli."? | sort | hash_of
}
WANTED=$(pops native)
for way in direct forwarded; do
	went "blocking-pops-$way-path" $way pops $way
	same "blocking-pops-$way" "$WANTED" "$OUT"
done

# --- 1 GB there and back, in values of 64 MiB ---

head -c 67108864 /dev/urandom >"$WORK/big"
BIG=$(hash_of <"$WORK/big")
gigabyte() {
	local cli=$1 rounds=$2 i
	for ((i = 0; i < rounds; i++)); do
		[ "$("$cli" -x set big <"$WORK/big")" = OK ] || return 1
		[ "$("$cli" --raw get big | head -c 67108864 | hash_of)" = "$BIG" ] || return 1
	done
	echo "$BIG"
}
went gigabyte-direct-path direct gigabyte direct 8
same gigabyte-direct "$BIG" "$OUT"
went gigabyte-forwarded-path forwarded gigabyte forwarded 2
same gigabyte-forwarded "$BIG" "$OUT"

# --- redis-benchmark: threads, pipelines, 50 connections ---

benchmark() {
	over redis-benchmark -h "$1" -t set,get,lpush -n 30000 -c 50 -P "$2" --threads 2 -q 2>&1 |
		tr '\r' '\n' | grep -c 'requests per second'
}
went benchmark-direct-path direct benchmark redis.e2e.example 1
same benchmark-direct 3 "$OUT"
went benchmark-pipelined-path direct benchmark redis.e2e.example 16
same benchmark-pipelined 3 "$OUT"
went benchmark-forwarded-path forwarded benchmark redis-forwarded.e2e.example 1
same benchmark-forwarded 3 "$OUT"
