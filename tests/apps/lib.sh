# Shared by the scripts of this folder: an application served natively and under flat-run, the same work done with both, the results
# compared. On top of tests/e2e/lib.sh. A script names its servers (app), says how each is started (a function
# NAME_server), calls mesh and both, then each for every piece of work; the checks at the end are made by ends.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"
declare -A NATIVE FLAT NATIVE_PID FLAT_PID SERVICE_PORT
APPS=()
NOTHING=$(hash_of </dev/null)
# Ways by which `each` reaches a server.
WAYS=(native direct forwarded plain)

# app NAME [PORT]: a server to be; the services NAME and NAME-forwarded at PORT (80), its ports by turns.
app() {
	APPS+=("$1")
	SERVICE_PORT[$1]=${2:-80}
	port && NATIVE[$1]=$PORT
	port && FLAT[$1]=$PORT
	service "$1" "198.51.100.${#APPS[@]}" "${2:-80}" "${FLAT[$1]}" >>"$CONFIG"
	service "$1-forwarded" "203.0.113.${#APPS[@]}" "${2:-80}" "${FLAT[$1]}" forwarded >>"$CONFIG"
}

mesh() { start_flatd; }

registered() { [ "$(state "sum(l['address'].endswith(':$1') for l in s['listeners'])")" -gt 0 ]; }

# one NAME native|flat: starts it with the command that its function NAME_server leaves in CMD, given a port and a
# folder of its own, and waits for its listener. In a process group of its own: apache ends its whole group. FLAVOUR: which one.
one() {
	local name=$1 where
	FLAVOUR=$2
	case $FLAVOUR in native) where=${NATIVE[$1]} ;; flat) where=${FLAT[$1]} ;; esac
	mkdir -p "$WORK/$name-$FLAVOUR"
	CMD=()
	"${name}_server" "$where" "$WORK/$name-$FLAVOUR"
	if [ "$FLAVOUR" = native ]; then
		serve "$name-native" "$where" setsid "${CMD[@]}"
		NATIVE_PID[$name]=$PID
	else
		start "$name-flat" over env FLAT_LOG=warn setsid "${CMD[@]}"
		FLAT_PID[$name]=$PID
		if ! wait_for 20 registered "$where"; then
			flatctl --control "$CONTROL" ls 2>&1
			flatctl --control "$CONTROL" top --once 2>&1 | head -n 5
			ps -o pid=,ppid=,stat=,time=,args= -p "$FLATD" -p "$PID"
			die "$name-registered" "$(head -n 5 "$WORK/$name-flat.log")"
		fi
		pass "$name-registered"
	fi
}

# both NAME...: natively and under the shim.
both() {
	local name
	for name; do
		one "$name" native
		one "$name" flat
	done
}

# run COMMAND...: a client of the way that `each` is at.
run() {
	case $WAY in
	native | plain) "$@" ;;
	*) over "$@" ;;
	esac
}

# each NAME APP FUNCTION [ARG]...: calls FUNCTION HOST PORT ARG... by each way, and compares what it prints with what it
# prints natively. HOST is a name of the mesh, or 127.0.0.1. Its connections must have gone by the way, and by no other
# unless ALSO_OTHERS is set: some servers make connections themselves, or to themselves.
each() {
	local name=$1 app=$2 work=$3 path host where
	shift 3
	for WAY in "${WAYS[@]}"; do
		host=127.0.0.1 where=${FLAT[$app]} path=forwarded
		case $WAY in
		native) where=${NATIVE[$app]} path=none ;;
		direct) host=$app.e2e.example where=${SERVICE_PORT[$app]} path=direct ;;
		forwarded) host=$app-forwarded.e2e.example where=${SERVICE_PORT[$app]} ;;
		esac
		went "$name-$WAY-path" "${ALSO_OTHERS:+also-}$path" timeout_of 60 "$work" "$host" "$where" "$@"
		if [ "$WAY" = native ]; then
			WANTED=$OUT
			# The hash of nothing is nothing too.
			[ -n "$WANTED" ] && [[ $WANTED != *$NOTHING* ]] || die "$name-native" "no output to compare: $WANTED"
		else
			same "$name-$WAY" "$WANTED" "$OUT"
		fi
	done
}

# The process and all below it, the lowest first.
tree() {
	local child
	for child in $(pgrep -P "$1"); do tree "$child"; done
	echo "$1"
}

# timeout_of SECONDS FUNCTION [ARG]...: timeout(1) for a function; who hangs is shown, then ended with its children.
timeout_of() {
	local limit=$1 pid watcher status
	shift
	"$@" &
	pid=$!
	(
		read -rt "$limit" <> <(:)
		echo "no end after $limit s: $*"
		for pid in $(tree "$pid"); do
			ps -o pid=,stat=,time=,wchan:24=,args= -p "$pid" | cut -c 1-200
			kill -TERM "$pid" 2>/dev/null
		done
	) </dev/null >&2 &
	watcher=$!
	wait "$pid"
	status=$?
	kill "$watcher" 2>/dev/null
	wait "$watcher" 2>/dev/null
	return $status
}

# Hundredths of a second of processor time that flatd and every process with a session have used.
used() {
	local pid total=0 stat
	for pid in "$FLATD" $(state "' '.join(str(x['pid']) for x in s['sessions'])"); do
		stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
		read -ra stat <<<"${stat##*) }"
		total=$((total + stat[11] + stat[12]))
	done
	echo $total
}
# Nobody spins: half a second with less than a third of a processor.
idle() {
	local before after
	before=$(used)
	read -rt 0.5 <> <(:) || :
	after=$(used)
	[ $((after - before)) -lt 16 ]
}

# Connections whose client has ended; those between servers, which live on, are no leak.
leaked() { state "sum(c['client_pid'] == 0 or not __import__('os').path.exists('/proc/%d' % c['client_pid']) for c in s['connections'])"; }
no_leaks() { [ "$(leaked)" = 0 ]; }
nothing_left() { [ "$(state "len(s['connections']) + len(s['listeners']) + len(s['sessions'])")" = 0 ]; }
ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status"; }

# Ends the process with SIGTERM, or the signal STOP_SIGNAL, and prints its status; "hangs" after ten seconds.
end_status() {
	kill -"${STOP_SIGNAL:-TERM}" "$1" 2>/dev/null
	if ! wait_for 10 ended "$1"; then
		ps -eo pid=,ppid=,stat=,wchan:24=,args= >&2
		kill -9 "$1"
		STATUS=hangs
		return
	fi
	wait "$1" 2>/dev/null
	STATUS=$?
}

# stops NAME: on SIGTERM, with the status that it has natively.
stops() {
	local name=$1 wanted
	end_status "${NATIVE_PID[$name]}"
	wanted=$STATUS
	end_status "${FLAT_PID[$name]}"
	same "$name-stops" "$wanted" "$STATUS"
}

# ends: nothing spins, no connection of a client is left, every server ends on SIGTERM as it does natively, flatd holds nothing more and
# has complained of nothing but what EXPECTED (a regular expression) matches.
ends() {
	local name
	holds no-leaks wait_for 10 no_leaks
	holds idle wait_for 10 idle
	for name in "${APPS[@]}"; do
		[ -z "${FLAT_PID[$name]:-}" ] || stops "$name"
	done
	holds nothing-left wait_for 10 nothing_left
	nothing_left || flatctl --control "$CONTROL" ls
	local complaints
	complaints=$(grep -E ' (error|warn): ' "$WORK/flatd.log" | grep -vE "${EXPECTED:-^$}" | head -n 5)
	if [ -z "$complaints" ]; then pass flatd-content; else fail flatd-content "$complaints"; fi
	end_status "$FLATD"
	same flatd-stops 0 "$STATUS"
}
