#!/bin/bash
# iperf3, sockperf and socat, unmodified, over libflat: what they count themselves, bytes by hash.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs iperf3 sockperf socat

port && IPERF=$PORT
port && SOCKPERF=$PORT
port && SOCAT=$PORT
port && NATIVE=$PORT
{
	service iperf 240.9.5.1 5201 "$IPERF"
	service iperf-forwarded 240.9.5.2 5201 "$IPERF" forwarded
	service sockperf 240.9.5.3 11111 "$SOCKPERF"
	service sockperf-forwarded 240.9.5.4 11111 "$SOCKPERF" forwarded
	service socat 240.9.5.5 9 "$SOCAT"
	service socat-forwarded 240.9.5.6 9 "$SOCAT" forwarded
} >"$CONFIG"
start_flatd

# --- iperf3: forwards, backwards, both ways at once, four streams ---

serve iperf "$IPERF" over iperf3 -s -B 127.0.0.1 -p "$IPERF" --forceflush
# The receiver counts less than was sent, over the kernel too: the end of the test comes over a connection of
# its own, while some streams still have bytes on the way (up to 7 % seen natively). So: everything was
# sent, and nearly all was counted; that every byte arrives is held by socat below and by redis.sh.
transfer() {
	local host=$1
	shift
	over iperf3 -c "$host.e2e.example" -n 256M -J "$@" >"$WORK/iperf.json" || {
		"$PYTHON" -c 'import json, sys; print(json.load(open(sys.argv[1])).get("error"))' "$WORK/iperf.json"
		return 1
	}
	"$PYTHON" -c '
import json, sys
end = json.load(open(sys.argv[1]))["end"]
asked = 256 << 20
for way in ("", "_bidir_reverse"):
    if way and "sum_sent" + way not in end:
        continue
    sent, got = end["sum_sent" + way]["bytes"], end["sum_received" + way]["bytes"]
    # With --bidir the test ends when one way has got the amount.
    enough = sent >= asked or "sum_sent_bidir_reverse" in end and sent > 0
    print("whole" if enough and 0.8 * sent <= got <= sent else f"{way} sent {sent} received {got}")' \
		"$WORK/iperf.json" | sort -u
}
for way in direct forwarded; do
	host=iperf${way#direct}
	host=${host/iperfforwarded/iperf-forwarded}
	for options in "" "-R" "--bidir" "-P 4"; do
		name=iperf3-$way${options// /}
		# shellcheck disable=SC2086
		went "$name-path" $way transfer "$host" $options
		same "$name" whole "$OUT"
	done
done

# --- sockperf ---

serve sockperf "$SOCKPERF" over sockperf server --tcp -i 127.0.0.1 -p "$SOCKPERF"
# It keeps a table of as many messages as it deems possible in the time, and fails where a round trip is
# faster: so the rate is bounded.
ping_pong() {
	over sockperf ping-pong --tcp -i "$1" -p 11111 -t 2 -m 64 --mps 100000 --data-integrity 2>&1 |
		sed 's/\x1b\[[0-9;]*m//g'
}
for pair in "direct 240.9.5.3" "forwarded 240.9.5.4"; do
	read -r way address <<<"$pair"
	went "sockperf-$way-path" "$way" ping_pong "$address"
	if grep -qE 'Summary: Latency is [0-9.]+ usec' <<<"$OUT" &&
		grep -qE 'dropped messages = 0; .*duplicated messages = 0; .*out-of-order messages = 0' <<<"$OUT"; then
		pass "sockperf-$way"
	else
		fail "sockperf-$way" "$(tail -n 4 <<<"$OUT" | tr '\n' ' ')"
	fi
done

# --- socat: a process per connection, half close, 200 MB there and back ---

head -c 209715200 /dev/urandom >"$WORK/file"
WANTED=$(hash_of <"$WORK/file")
serve socat-native "$NATIVE" socat "TCP-LISTEN:$NATIVE,bind=127.0.0.1,fork,reuseaddr" EXEC:cat
serve socat "$SOCAT" over socat "TCP-LISTEN:$SOCAT,bind=127.0.0.1,fork,reuseaddr" EXEC:cat
same socat-native "$WANTED" "$(socat -t 30 - "TCP:127.0.0.1:$NATIVE" <"$WORK/file" | hash_of)"
through() { over socat -t 30 - "TCP:$1:9" <"$WORK/file" | hash_of; }
went socat-direct-path direct through socat.e2e.example
same socat-direct "$WANTED" "$OUT"
went socat-forwarded-path forwarded through socat-forwarded.e2e.example
same socat-forwarded "$WANTED" "$OUT"
