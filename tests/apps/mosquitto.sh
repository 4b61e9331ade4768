#!/bin/bash
# mosquitto: subscribers that keep connections open, retained messages, a message of 5 MB, a will when a client dies.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs mosquitto mosquitto_pub mosquitto_sub

app mqtt 1883
mqtt_server() {
	printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n' "$1" >"$2/conf"
	[ "$(id -u)" -ne 0 ] || echo "user nobody" >>"$2/conf"
	CMD=(mosquitto -c "$2/conf")
}
mesh
both mqtt
head -c 5000000 /dev/urandom >"$WORK/big"
messages() {
	local to subscriber dying
	to=$(mktemp -d "$WORK/to.XXXXXX")
	run mosquitto_pub -h "$1" -p "$2" -t ready -r -q 1 -m yes
	run mosquitto_sub -h "$1" -p "$2" -t 'news/#' -t ready -q 1 -C 1001 >"$to/got" &
	subscriber=$!
	ready() { grep -q yes "$to/got"; }
	wait_for 10 ready
	seq 1000 | run mosquitto_pub -h "$1" -p "$2" -t news/a -q 1 -l
	wait $subscriber
	hash_of <"$to/got"
	run mosquitto_pub -h "$1" -p "$2" -t big -r -q 1 -f "$WORK/big"
	run mosquitto_sub -h "$1" -p "$2" -t big -q 1 -C 1 -N | hash_of
	run mosquitto_sub -h "$1" -p "$2" -t will -q 1 -C 1 >"$to/will" &
	subscriber=$!
	run mosquitto_sub -h "$1" -p "$2" -t ready -t nothing --will-topic will --will-payload gone --will-qos 1 --will-retain >"$to/dies" &
	dying=$!
	dies() { grep -q yes "$to/dies"; }
	wait_for 10 dies
	{
		pkill -9 -P "$dying"
		wait "$dying"
	} 2>/dev/null
	wait $subscriber
	cat "$to/will"
	run mosquitto_pub -h "$1" -p "$2" -t will -r -n
}
each messages mqtt messages
ends
