#!/bin/bash
# Connections and listeners that move between processes: exec, vfork, posix_spawn, SCM_RIGHTS. Each kind natively and through
# libflat, direct and forwarded.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON" busybox
PART=$(dirname "${BASH_SOURCE[0]}")/processes_part.py
export PYTHONDONTWRITEBYTECODE=1
: "${KINDS:=exec popen spawn message turns handle itself helper number clean static script listener}"

declare -A FLAT
port && NATIVE=$PORT
net=0
for kind in $KINDS; do
	port && FLAT[$kind]=$PORT
	net=$((net + 1))
	service "$kind" "240.9.20.$net" 7 "$PORT"
	service "$kind-forwarded" "240.9.21.$net" 7 "$PORT" forwarded
done >"$CONFIG"
port && KILLED=$PORT
service killed 240.9.20.99 7 "$KILLED" >>"$CONFIG"
start_flatd
serve native "$NATIVE" "$PYTHON" "$PART" serve helper "$NATIVE"
WANTED=$(timeout 60 "$PYTHON" "$PART" talk 127.0.0.1 "$NATIVE")
[ -n "$WANTED" ] || die native

talk_over() { over timeout 60 "$PYTHON" "$PART" "$TALK" "$@"; }
for kind in $KINDS; do
	TALK=talk
	wanted=$WANTED
	if [ $kind = static ]; then
		TALK=talk-plain
		wanted=$(seq 0 79999 | hash_of)
	fi
	if [ $kind = script ]; then
		TALK=talk-script
		wanted=right
	fi
	serve "$kind" "${FLAT[$kind]}" over "$PYTHON" "$PART" serve "$kind" "${FLAT[$kind]}"
	for way in direct forwarded; do
		suffix=${way#direct}
		went "$kind-$way-path" $way talk_over "$kind${suffix:+-$suffix}.e2e.example" 7
		same "$kind-$way" "$wanted" "$OUT"
	done
	# A client that knows of no mesh, through the kernel's socket.
	same "$kind-plain" "$wanted" "$(timeout 60 "$PYTHON" "$PART" "$TALK" 127.0.0.1 "${FLAT[$kind]}")"
done

TALK=talk-bare
went environment-emptied-path direct talk_over "${KINDS%% *}.e2e.example" 7
same environment-emptied "$WANTED" "$OUT"

same carrier-killed "b'line\\n' 1 reset" "$(over timeout 60 "$PYTHON" "$PART" killed killed.e2e.example "$KILLED")"

port
same port-of-another "100 bound" "$(over timeout 60 "$PYTHON" "$PART" after "$PORT" "$FLATD")"
