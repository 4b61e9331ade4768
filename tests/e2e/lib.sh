# Shared by the scripts of this folder, which source it first. It makes a work folder with a flatd of its
# own, starts and ends programs, waits for conditions, counts what went over which path, and ends the
# script with status 1 after any FAIL. FLAT_BUILD: the build folder; FLAT_SANITIZED: a folder with another flatd.
set -u
E2E_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${FLAT_BUILD:=$E2E_ROOT/build}"
E2E_NAME=$(basename "$0" .sh)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/flat-e2e-$E2E_NAME.XXXXXX")
chmod 755 "$WORK"
CONTROL=$WORK/control.sock
CONFIG=$WORK/mesh.yaml
PYTHON=/usr/bin/python3
PATH=${FLAT_SANITIZED:+$FLAT_SANITIZED:}$FLAT_BUILD:$PATH:/usr/sbin:/sbin
E2E_PIDS=()
E2E_FAILED=0
: "${FLAT_PORT_BASE:=26000}"
E2E_PORT=$((FLAT_PORT_BASE + $$ % 400))
export LC_ALL=C.UTF-8

# The end of each program's log: a failure has to be understood from the output alone.
last_words() {
	local log
	for log in "$WORK"/*.log; do
		[ -s "$log" ] || continue
		echo "-- the end of $(basename "$log"):"
		tail -n 10 "$log" | cut -c 1-300
	done
}

# What a script has to undo once its programs have ended: it defines this anew.
tidy() { :; }

finish() {
	local status=$? pid
	trap - EXIT
	for pid in "${E2E_PIDS[@]}"; do
		kill "$pid" 2>/dev/null
	done
	for pid in "${E2E_PIDS[@]}"; do
		within 5 gone "$pid" || kill -9 "$pid" 2>/dev/null
	done
	tidy
	[ $E2E_FAILED -eq 0 ] || status=1
	if [ $status -ne 0 ] && [ $status -ne 77 ]; then
		last_words
	fi
	if [ -n "${E2E_KEEP:-}" ]; then
		echo "-- kept: $WORK"
	else
		rm -rf "$WORK"
	fi
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

pass() { echo "PASS $E2E_NAME/$1"; }
fail() {
	E2E_FAILED=1
	echo "FAIL $E2E_NAME/$1${2:+: $2}"
}
die() {
	fail "$@"
	exit 1
}

# same NAME WANTED GOT: one case.
same() {
	if [ "$2" = "$3" ] && [ -n "$2" ]; then
		pass "$1"
	else
		fail "$1" "wanted '$2', got '$3'"
	fi
}

# holds NAME COMMAND...: one case; the command's output is shown where it fails.
holds() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		pass "$name"
	else
		fail "$name" "$* -> ${out:-false}"
	fi
}

# within SECONDS COMMAND...: until it succeeds; looks every 20 ms. 1 when time is over: for what must not come.
within() {
	local end=$((${EPOCHREALTIME//[.,]/} + $1 * 1000000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "${EPOCHREALTIME//[.,]/}" -lt "$end" ] || return 1
		read -rt 0.02 <> <(:) || :
	done
}

# wait_for SECONDS COMMAND...: likewise, for what must come. So many seconds are much on an idle machine; a busy one gets
# FLAT_PATIENCE (6) times as many, and nobody waits for them but where it fails.
wait_for() { within $(($1 * ${FLAT_PATIENCE:-6})) "${@:2}"; }

gone() { ! kill -0 "$1" 2>/dev/null; }
listening() { [ -n "$(ss -ltnH "sport = :$1")" ]; }
# port: one at which nothing is, in $PORT. Not even what a test before left in TIME_WAIT, which only SO_REUSEADDR would bind over.
port() {
	while :; do
		E2E_PORT=$((E2E_PORT + 1))
		[ -n "$(ss -tanH "sport = :$E2E_PORT")" ] || break
	done
	PORT=$E2E_PORT
}

# start NAME COMMAND...: in the background, output in $WORK/NAME.log, pid in $PID; ended by finish().
start() {
	local name=$1
	shift
	# Not the function: $! would be a shell between, and its end not the program's.
	[ "$1" != over ] || set -- flat-run --control "$CONTROL" "${@:2}"
	# Whoever reads it at once finds it.
	: >"$WORK/$name.log"
	"$@" >"$WORK/$name.log" 2>&1 </dev/null &
	PID=$!
	E2E_PIDS+=("$PID")
}

# stop PID: and waits for its end.
stop() {
	kill "$1" 2>/dev/null
	wait_for 5 gone "$1" || kill -9 "$1" 2>/dev/null
	wait "$1" 2>/dev/null
}

# serve NAME PORT COMMAND...: start, and wait until somebody listens on the port.
serve() {
	local name=$1 where=$2
	shift 2
	start "$name" "$@"
	wait_for 10 listening "$where" || die "$name-starts" "$(tail -n 3 "$WORK/$name.log")"
}

# Under libflat: `over [--workload NAME] COMMAND...`.
over() { flat-run --control "$CONTROL" "$@"; }

# start_flatd: with $CONFIG as it is.
start_flatd() {
	start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off
	FLATD=$PID
	wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
}

# state EXPRESSION: a Python expression over `s`, flatd's state as `flatctl ls --json` gives it.
state() {
	flatctl --control "$CONTROL" ls --json |
		"$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"
}

# The number of the configuration in force. `apply`: puts standard input in force, and waits for it.
epoch() { state "s['epoch']"; }
apply() {
	local before
	before=$(epoch)
	cat >"$WORK/next"
	mv "$WORK/next" "$CONFIG"
	newer() { [ "$(epoch)" -gt "$before" ]; }
	wait_for 10 newer || die apply "$(tail -n 5 "$WORK/flatd.log")"
}

# opened PATH: connections made over it so far.
opened() { state "s['opened_$1']"; }

# went NAME PATH COMMAND...: the command's connections went over PATH and over no other, and there was
# at least one (also-PATH: there may be others). Its standard output goes to $OUT.
went() {
	local name=$1 path=$2 way before=() after=() status bad=
	shift 2
	for way in direct forwarded; do before+=("$(opened $way)"); done
	OUT=$("$@")
	status=$?
	for way in direct forwarded; do after+=("$(opened $way)"); done
	local direct=$((after[0] - before[0])) forwarded=$((after[1] - before[1]))
	[ $status -eq 0 ] || bad="status $status"
	case $path in
	direct) [ $direct -gt 0 ] && [ $forwarded -eq 0 ] || bad="$bad direct $direct forwarded $forwarded" ;;
	forwarded) [ $forwarded -gt 0 ] && [ $direct -eq 0 ] || bad="$bad direct $direct forwarded $forwarded" ;;
	also-direct) [ $direct -gt 0 ] || bad="$bad direct 0" ;;
	also-forwarded) [ $forwarded -gt 0 ] || bad="$bad forwarded 0" ;;
	also-none) ;;
	none) [ $forwarded -eq 0 ] && [ $direct -eq 0 ] || bad="$bad direct $direct forwarded $forwarded" ;;
	esac
	if [ -n "$bad" ]; then
		fail "$name" "$bad"
	else
		pass "$name"
	fi
}

# service NAME ADDRESS PORT TARGET_PORT [PATH]: a ServiceEntry on standard output.
service() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: $1
  namespace: e2e
  annotations: { mesh.libflat.io/path: ${5:-auto} }
spec:
  hosts: [$1.e2e.example]
  addresses: [$2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: $3, name: tcp, protocol: TCP }]
  endpoints: [{ address: 127.0.0.1, ports: { tcp: $4 } }]
END
}

# entry NAME ADDRESS PORT_NAME ENDPOINT_PORT...: likewise, at port 80, its protocol by the port's name; an endpoint has the label
# port: pENDPOINT_PORT.
entry() {
	local i
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
  ports: [{ number: 80, name: $3 }]
  endpoints:
END
	for i in "${@:4}"; do
		echo "  - { address: 127.0.0.1, ports: { $3: $i }, labels: { port: p$i } }"
	done
}

# workload NAME EXECUTABLE [NAMESPACE]: the Workload of a program, its label app and its service account NAME.
workload() {
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: $1, namespace: ${3:-e2e}, labels: { app: $1 } }
spec: { serviceAccount: $1, selectors: [{ executable: $2 }] }
END
}

# own_workload NAME PROGRAM...: likewise, of programs in $WORK/bin whose owner is who runs this.
own_workload() {
	local program list=
	for program in "${@:2}"; do
		list="$list${list:+, }{ executable: $WORK/bin/$program, executableOwner: $(id -u) }"
	done
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: $1, namespace: e2e, labels: { app: $1 } }
spec: { serviceAccount: $1, selectors: [$list] }
END
}

# ingress NAME NAMESPACE LABELS: the Workload that a flatd is as a gateway; no program is it.
ingress() {
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: $1, namespace: $2, labels: { $3 } }
spec: { serviceAccount: $1, selectors: [{ executable: $WORK/nobody }] }
END
}

# secret NAMESPACE NAME: the Secret of $WORK/NAME.crt and its key.
secret() {
	cat <<END
---
apiVersion: v1
kind: Secret
metadata: { name: $2, namespace: $1 }
type: kubernetes.io/tls
data: { tls.crt: $(base64 -w 0 "$WORK/$2.crt"), tls.key: $(base64 -w 0 "$WORK/$2.key") }
END
}

# authority NAME; issue CA NAME SUBJECT-ALT-NAME [KEY]: certificates of our own, of a key on P-256, or e.g. rsa:2048.
authority() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=$1" \
		-keyout "$WORK/$1.key" -out "$WORK/$1.crt" -addext keyUsage=critical,keyCertSign 2>"$WORK/openssl.log" ||
		die authority "$(tail -n 1 "$WORK/openssl.log")"
}
issue() {
	local key=(ec -pkeyopt ec_paramgen_curve:P-256)
	[ -z "${4:-}" ] || key=("$4")
	openssl req -newkey "${key[@]}" -nodes -subj "/CN=$2" -keyout "$WORK/$2.key" -out "$WORK/$2.csr" \
		2>"$WORK/openssl.log" &&
		openssl x509 -req -in "$WORK/$2.csr" -CA "$WORK/$1.crt" -CAkey "$WORK/$1.key" -CAcreateserial -days 1 -out "$WORK/$2.new" \
			-extfile <(printf 'subjectAltName=%s\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n' "$3") 2>"$WORK/openssl.log" &&
		mv "$WORK/$2.new" "$WORK/$2.crt" || die issue "$(tail -n 1 "$WORK/openssl.log")"
}

# needs PROGRAM...: else the script is skipped.
needs() {
	local program
	for program; do
		command -v "$program" >/dev/null || { echo "SKIP $E2E_NAME: no $program" && exit 77; }
	done
}

# --- confined workloads ---

# cgroups: where control groups of version 2 are, in $CGROUPS: mounted for the script if nowhere else. Ends it where that is not allowed.
cgroups() {
	CGROUPS=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	if [ -z "$CGROUPS" ]; then
		CGROUPS=$WORK/cgroup2
		mkdir "$CGROUPS"
		mount -t cgroup2 none "$CGROUPS" 2>/dev/null || { echo "SKIP $E2E_NAME: cgroup v2 cannot be mounted" && exit 77; }
	fi
	# One of its own keeps those above it, should a script beside this one leave; once more, since it may leave right now.
	local own=$CGROUPS/flat/e2e/$E2E_NAME$$
	mkdir -p "$own" 2>/dev/null || mkdir -p "$own" 2>/dev/null || { echo "SKIP $E2E_NAME: no cgroup can be made" && exit 77; }
}
# leave_cgroups GROUP...: of namespace e2e, for tidy().
leave_cgroups() {
	rmdir "${@/#/$CGROUPS/flat/e2e/}" "$CGROUPS/flat/e2e/$E2E_NAME$$" "$CGROUPS/flat/e2e" "$CGROUPS/flat" 2>/dev/null
	[ "$CGROUPS" != "$WORK/cgroup2" ] || umount "$CGROUPS" 2>/dev/null
}
# launch NAME [OPTION]...: a flatd that confines, its port being $CONFINE.
launch() {
	start "$1" flatd --control "$CONTROL" --config "$CONFIG" --metrics off --confine-port "$CONFINE" "${@:2}"
}
# launch_first: in $FLATD; ends the script where the kernel does not let it confine.
launch_first() {
	local refused='confined: (the kernel|.* cannot be attached)'
	launch flatd
	FLATD=$PID
	wait_for 20 flatctl --control "$CONTROL" ls
	if grep -qE "$refused" "$WORK/flatd.log"; then
		echo "SKIP $E2E_NAME: $(grep -m 1 -E "$refused" "$WORK/flatd.log" | cut -c 1-300)"
		exit 77
	fi
}
# registry_only: workloads of the label `app: client` go nowhere but to services of their namespace.
registry_only() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: client, namespace: e2e }
spec: { workloadSelector: { labels: { app: client } }, outboundTrafficPolicy: { mode: REGISTRY_ONLY }, egress: [{ hosts: ["./*"] }] }
END
}

hash_of() { sha256sum | cut -d ' ' -f 1; }

# Clients that go on asking an origin at HOST until load_end, which sets GOOD, BAD, NAMES and EPOCHS and holds that no request failed.
load_begin() {
	over "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_load.py" "$1" "$WORK/stop" >"$WORK/load.out" 2>&1 &
	LOAD=$!
	E2E_PIDS+=("$LOAD")
}
load_end() {
	local rest
	touch "$WORK/stop"
	wait_for 30 gone "$LOAD"
	read -r GOOD BAD NAMES EPOCHS rest <"$WORK/load.out"
	same no-request-failed 0 "$BAD"
	[ "$BAD" = 0 ] || echo "-- $rest"
}
# A number of `flatctl ls`, without a Python of its own each time.
ls_of() { flatctl --control "$CONTROL" ls --json | grep -oE "\"$1\": ?[0-9]+" | grep -oE '[0-9]+$'; }
own_net() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
# two_hosts PREFIX: two network namespaces joined by a veth pair, PREFIX.1 and PREFIX.2. `on_a COMMAND...`, `on_b`; as words
# ${ON_A[@]}, ${ON_B[@]}: what is started with them is the program itself, no shell of ours between. The devices are
# ${VETH}a and ${VETH}b. 77: that cannot be had here.
two_hosts() {
	local host pids=()
	needs ip unshare nsenter
	if ! unshare --net true 2>/dev/null; then
		echo "SKIP $E2E_NAME: no network namespace can be made (root, and CLONE_NEWNET, are needed)"
		return 77
	fi
	# A namespace lives as long as its sleeper, and takes its end of the pair with it.
	for host in a b; do
		unshare --net sleep 3600 </dev/null >/dev/null 2>&1 &
		pids+=($!)
		E2E_PIDS+=($!)
		wait_for 5 own_net $! || die "namespace-$host"
	done
	ON_A=(nsenter --net="/proc/${pids[0]}/ns/net")
	ON_B=(nsenter --net="/proc/${pids[1]}/ns/net")
	VETH=fw$$
	if ! ip link add "${VETH}a" netns "${pids[0]}" type veth peer name "${VETH}b" netns "${pids[1]}" 2>"$WORK/veth.log"; then
		echo "SKIP $E2E_NAME: no veth pair can be made: $(cat "$WORK/veth.log")"
		return 77
	fi
	on_a ip addr add "$1.1/24" dev "${VETH}a"
	on_b ip addr add "$1.2/24" dev "${VETH}b"
	on_a ip link set lo up && on_a ip link set "${VETH}a" up
	on_b ip link set lo up && on_b ip link set "${VETH}b" up
}
on_a() { "${ON_A[@]}" "$@"; }
on_b() { "${ON_B[@]}" "$@"; }
