#!/bin/bash
# Servers of confined workloads that listen without the library: who comes to them is decided on by flatd as for a mesh server, the
# server sees the client, and nobody gets round it; without flatd nobody reaches them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs busybox curl ss
[ "$(id -u)" -eq 0 ] || { echo "SKIP confined_in: only root can confine" && exit 77; }

cgroups
# Where the program that refuses without flatd stays.
BPFFS=$(awk '$3 == "bpf" { print $2; exit }' /proc/mounts)
if [ -z "$BPFFS" ]; then
	mkdir "$WORK/bpf"
	mount -t bpf none "$WORK/bpf" 2>/dev/null && BPFFS=$WORK/bpf
fi
S=s$$
C=c$$
F=f$$
tidy() {
	flatctl release "/flat/e2e/$S" "/flat/e2e/$C" >/dev/null 2>&1
	leave_cgroups "$S" "$C" "$F"
	rm -f "${BPFFS:-$WORK/none}"/flat_in_*_"$CONFINE"
	[ "$BPFFS" != "$WORK/bpf" ] || umount "$BPFFS" 2>/dev/null
}

part=$E2E_ROOT/tests/e2e/confined_in_part.py
for name in CONFINE OPEN SHUT WEB DUAL SIX SHARED OLD MOVED OUTSIDE LIBRARY BIG; do
	port
	declare "$name=$PORT"
done
mkdir "$WORK/www"
echo page >"$WORK/www/page"
echo secret >"$WORK/www/secret"

# base [CONFINED]: plain clients may come to some ports, the workload `client` to all.
base() {
	entry web 240.9.30.2 http "$WEB"
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: $S, namespace: e2e, labels: { app: server } }
spec: { serviceAccount: server, confined: ${1:-true}, selectors: [{ cgroup: /flat/e2e/$S }] }
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: $C, namespace: e2e, labels: { app: client } }
spec: { serviceAccount: client, confined: ${1:-true}, selectors: [{ cgroup: /flat/e2e/$C }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: server, namespace: e2e }
spec:
  selector: { matchLabels: { app: server } }
  rules:
  - from: [{ source: { principals: ["cluster.local/ns/e2e/sa/client"] } }]
  - to: [{ operation: { ports: ["$OPEN", "$DUAL", "$SIX", "$SHARED", "$LIBRARY"] } }]
  - to: [{ operation: { ports: ["$WEB"], paths: ["/page"] } }]
END
}
strict() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: server, namespace: e2e }
spec: { selector: { matchLabels: { app: server } }, mtls: { mode: STRICT } }
END
}
deny() {
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: none, namespace: e2e }
spec: { selector: { matchLabels: { app: server } }, action: DENY, rules: [{ to: [{ operation: { ports: ["$1"] } }] }] }
END
}
inside() { flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$@"; }
client() { flat-run --control "$CONTROL" --off --workload "$C.e2e" -- "$PYTHON" "$part" "$@"; }
free() { flat-run --control "$CONTROL" --off --workload "$F.e2e" -- "$@"; }
plain() { free "$PYTHON" "$part" "$@"; }
# server NAME PORT COMMAND...: in the server's cgroup, known to flatd.
known() { [ "$(state "any(l['address'].endswith(':$1') for l in s['listeners'])")" = True ]; }
server() {
	local name=$1 where=$2
	shift 2
	serve "$name" "$where" flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$@"
	wait_for 10 known "$where" || fail "$name-is-known"
}

base >"$CONFIG"
launch_first
server open "$OPEN" "$PYTHON" "$part" serve 127.0.0.1 "$OPEN" "$WORK/open.lines" open
server shut "$SHUT" "$PYTHON" "$part" serve 0.0.0.0 "$SHUT" "$WORK/shut.lines" shut
server web "$WEB" busybox httpd -f -h "$WORK/www" -p "127.0.0.1:$WEB"

# --- who may come ---

went plain-allowed forwarded plain ask 127.0.0.1 "$OPEN"
same plain-allowed-bytes open "$OUT"
went plain-refused none plain ask 127.0.0.1 "$SHUT"
same plain-refused-how reset "$OUT"
same plain-refused-why True "$(state "any('policy' in r['reason'] and r['to'].endswith(':$SHUT') for r in s['refusals'])")"
went confined-client forwarded client ask 127.0.0.1 "$SHUT"
same confined-client-bytes shut "$OUT"
went mesh-client forwarded flat-run --control "$CONTROL" --workload "$C.e2e" -- "$PYTHON" "$part" ask 127.0.0.1 "$SHUT"
same mesh-client-bytes shut "$OUT"
same mesh-client-is-known True "$(flatctl --control "$CONTROL" why "e2e/$C" "127.0.0.1:$SHUT" | grep -q confined && echo True)"
went static forwarded free busybox wget -q -O - "http://127.0.0.1:$WEB/page"
same static-bytes page "$OUT"
same path-refused 403 "$(free curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$WEB/secret")"
went by-service forwarded flat-run --control "$CONTROL" --off --workload "$C.e2e" -- curl -s http://240.9.30.2/page
same by-service-bytes page "$OUT"
apply < <(base && strict)
same strict-plain reset "$(plain ask 127.0.0.1 "$OPEN")"
same strict-mesh shut "$(client ask 127.0.0.1 "$SHUT")"
apply < <(base)

# --- what is seen ---

SELF=$(plain name 127.0.0.1 "$OPEN")
same server-sees-the-client "$SELF True" "$(tail -n 1 "$WORK/open.lines")"
same listed "True e2e.$S" "$(state "next((str(l['confined']) + ' e2e.' + l['workload'].split('.')[0]) for l in s['listeners'] if l['address'] == '127.0.0.1:$OPEN')")"
start stays flat-run --control "$CONTROL" --off --workload "$F.e2e" -- "$PYTHON" "$part" stay 127.0.0.1 "$OPEN"
STAYS=$PID
open_now() { [ -s "$WORK/stays.log" ]; }
wait_for 20 open_now
same connection-listed "plain client $S.e2e" "$(state "next(c['client'] + ' ' + c['server'] for c in s['connections'] if c['to'] == '127.0.0.1:$OPEN')")"
same why-the-listener "listens on 127.0.0.1:$OPEN without the library, confined: all reach it through flatd" \
	"$(flatctl --control "$CONTROL" why "$(ss -ltnpH "sport = :$OPEN" | sed 's/.*pid=\([0-9]*\).*/\1/')" 3 | grep confined)"
apply < <(base && deny "$OPEN")
holds a-policy-ends-it wait_for 20 gone "$STAYS"
same a-policy-ends-it-how reset "$(tail -n 1 "$WORK/stays.log")"
apply < <(base)

# --- one that listens without end ---

port && CROWD=$PORT
start crowd flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" crowd "$CROWD" 3500 "$WORK/crowd.stop"
CROWD_PID=$PID
crowd_there() { grep -q 3500 "$WORK/crowd.log"; }
wait_for 20 crowd_there
holds a-crowd-leaves-time timeout 20 flatctl --control "$CONTROL" ls
same a-crowd-leaves-others open "$(plain ask 127.0.0.1 "$OPEN")"
touch "$WORK/crowd.stop"
wait_for 20 gone "$CROWD_PID"
crowd_is_gone() { [ "$(state "sum(l['address'].startswith('127.77.') for l in s['listeners'])")" = 0 ]; }
holds a-crowd-goes wait_for 20 crowd_is_gone

# --- addresses ---

if [ -n "$(ip -6 addr show dev lo 2>/dev/null)" ]; then
	server dual "$DUAL" "$PYTHON" "$part" serve :: "$DUAL" "$WORK/dual.lines" dual v6only=0
	went dual-v6 forwarded plain ask ::1 "$DUAL"
	same dual-v6-bytes dual "$OUT"
	SELF=$(plain name ::1 "$DUAL")
	same dual-v6-sees-the-client "$SELF True" "$(tail -n 1 "$WORK/dual.lines")"
	went dual-v4 forwarded plain ask 127.0.0.1 "$DUAL"
	same dual-v4-bytes dual "$OUT"
	SELF=$(plain name 127.0.0.1 "$DUAL")
	same dual-v4-sees-the-client "::ffff:$SELF True" "$(tail -n 1 "$WORK/dual.lines")"
	# Another's server has the port for IPv4.
	serve outside "$SIX" "$PYTHON" "$part" serve 0.0.0.0 "$SIX" "$WORK/outside.lines" outside
	start six flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" serve :: "$SIX" "$WORK/six.lines" six v6only=1
	wait_for 10 known "$SIX" || fail six-is-known
	went six-v6 forwarded plain ask ::1 "$SIX"
	same six-v6-bytes six "$OUT"
	went six-leaves-v4 none plain ask 127.0.0.1 "$SIX"
	same six-leaves-v4-bytes outside "$OUT"
fi
start any flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" serve-any "$WORK/any.lines"
said() { [ -s "$WORK/$1.log" ]; }
wait_for 10 said any
same any-port reset "$(plain ask 127.0.0.1 "$(cat "$WORK/any.log")")"
same any-port-mesh server "$(client ask 127.0.0.1 "$(cat "$WORK/any.log")")"
server shared-1 "$SHARED" "$PYTHON" "$part" serve 127.0.0.1 "$SHARED" "$WORK/shared.lines" shared reuse=1
FIRST=$PID
start shared-2 flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" serve 127.0.0.1 "$SHARED" "$WORK/shared.lines" shared reuse=1
two() { [ "$(ss -ltnH "sport = :$SHARED" | wc -l)" = "$1" ]; }
wait_for 10 two 2 || fail shared-by-two
went shared forwarded plain ask 127.0.0.1 "$SHARED"
same shared-bytes shared "$OUT"
stop "$FIRST"
wait_for 10 two 1
went shared-by-one forwarded plain ask 127.0.0.1 "$SHARED"
same shared-by-one-bytes shared "$OUT"
# Who listens beside it, outside, opens no way to it; one of another confined workload has none of its rules hold for both.
apply < <(base && deny "$SHARED")
start shared-3 flat-run --control "$CONTROL" --off --workload "$F.e2e" -- "$PYTHON" "$part" serve 127.0.0.1 "$SHARED" "$WORK/shared.lines" free reuse=1
wait_for 10 two 2
same nobody-by-one-beside reset "$(for _ in {1..8}; do plain ask 127.0.0.1 "$SHARED"; done | sort -u)"
stop "$PID"
wait_for 10 two 1
apply < <(base)
start shared-4 flat-run --control "$CONTROL" --off --workload "$C.e2e" -- "$PYTHON" "$part" serve 127.0.0.1 "$SHARED" "$WORK/shared.lines" other reuse=1
unknown() { ! known "$1"; }
holds of-two-workloads wait_for 10 unknown "$SHARED"
same of-two-workloads-nobody reset "$(plain ask 127.0.0.1 "$SHARED")"
stop "$PID"
wait_for 10 known "$SHARED"
went of-one-again forwarded plain ask 127.0.0.1 "$SHARED"
same of-one-again-bytes shared "$OUT"
# What has ended leaves its port to others.
stop "$(ss -ltnpH "sport = :$WEB" | sed 's/.*pid=\([0-9]*\).*/\1/')"
wait_for 10 unknown "$WEB"
serve after "$WEB" "$PYTHON" "$part" serve 127.0.0.1 "$WEB" "$WORK/after.lines" after
went after-it-ended none plain ask 127.0.0.1 "$WEB"
same after-it-ended-bytes after "$OUT"

# --- with the library ---

serve library "$LIBRARY" flat-run --control "$CONTROL" --workload "$S.e2e" -- "$PYTHON" "$part" serve 127.0.0.1 "$LIBRARY" "$WORK/library.lines" library
wait_for 10 known "$LIBRARY"
went library-mesh direct flat-run --control "$CONTROL" --workload "$C.e2e" -- "$PYTHON" "$part" ask 127.0.0.1 "$LIBRARY"
same library-mesh-bytes library "$OUT"
went library-plain forwarded plain ask 127.0.0.1 "$LIBRARY"
same library-plain-bytes library "$OUT"
same library-once "[False]" "$(state "[l['confined'] for l in s['listeners'] if l['address'].endswith(':$LIBRARY')]")"

# --- who tries to go round ---

# Its listening socket in other hands stays its own.
start hand flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" hand-over "$WORK/unix" "$MOVED"
unix_there() { [ -S "$WORK/unix" ]; }
wait_for 10 unix_there
start take flat-run --control "$CONTROL" --off --workload "$F.e2e" -- "$PYTHON" "$part" take-over "$WORK/unix" "$WORK/moved.lines"
wait_for 10 said take
same moved-out-plain reset "$(plain ask 127.0.0.1 "$MOVED")"
same moved-out-mesh server "$(client ask 127.0.0.1 "$MOVED")"
# One that was given to it is the giver's.
start inherits flat-run --control "$CONTROL" --off --workload "$F.e2e" -- "$PYTHON" "$part" inherit "$OUTSIDE" "$WORK/inherited.lines" \
	flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" serve-fd
wait_for 10 listening "$OUTSIDE"
went given-by-others none plain ask 127.0.0.1 "$OUTSIDE"
same given-by-others-bytes inherited "$OUT"
# It has no address that it chose, and is nobody's.
start unbound flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" unbound "$WORK/unbound.lines"
wait_for 10 said unbound
same unbound-reaches-nobody timeout "$(plain knock 127.0.0.1 "$(cat "$WORK/unbound.log")")"
# From where flatd comes nobody else does.
start load "$PYTHON" -c '
import os, subprocess, sys
while not os.path.exists(sys.argv[1]):
    subprocess.run(sys.argv[2:], check=False, stdout=subprocess.DEVNULL)' "$WORK/load.stop" flat-run --control "$CONTROL" --off --workload "$C.e2e" -- "$PYTHON" "$part" ask 127.0.0.1 "$SHUT"
LOAD=$PID
same not-from-flatds-source "0 True" "$(plain steal 127.0.0.1 "$SHUT" 4)"
touch "$WORK/load.stop"
wait_for 60 gone "$LOAD"
same nothing-but-flatd reset "$(plain ask 127.0.0.1 "$SHUT" 127.0.0.9 0)"
# An address that is this host's, from another network namespace: no flatd brings anybody there.
if unshare --net true 2>/dev/null; then
	start elsewhere flat-run --control "$CONTROL" --off --workload "$S.e2e" -- unshare --net bash -c \
		"ip link set lo up && exec '$PYTHON' '$part' serve 0.0.0.0 $BIG '$WORK/big.lines' elsewhere"
	serve here "$BIG" "$PYTHON" "$part" serve 127.0.0.1 "$BIG" "$WORK/here.lines" here
	went another-namespace-takes-nothing none plain ask 127.0.0.1 "$BIG"
	same another-namespace-takes-nothing-bytes here "$OUT"
fi

# --- listens before it is confined ---

apply < <(base false)
nobody_is_confined() { [ "$(state "len(s['confined'])")" = 0 ]; }
wait_for 10 nobody_is_confined || fail nobody-is-confined
serve old "$OLD" flat-run --control "$CONTROL" --off --workload "$S.e2e" -- "$PYTHON" "$part" serve 127.0.0.1 "$OLD" "$WORK/old.lines" old
went let-go none plain ask 127.0.0.1 "$OLD"
same let-go-bytes old "$OUT"
went let-go-others none plain ask 127.0.0.1 "$SHUT"
same let-go-others-bytes shut "$OUT"
apply < <(base)
wait_for 10 known "$OLD" || fail old-is-known
same before-it-was-confined reset "$(plain ask 127.0.0.1 "$OLD")"
same before-it-was-confined-mesh old "$(client ask 127.0.0.1 "$OLD")"

# --- flatd comes and goes ---

launch second --take-over
SECOND=$PID
holds predecessor-ends wait_for 20 gone "$FLATD"
same after-take-over reset "$(plain ask 127.0.0.1 "$SHUT")"
same after-take-over-allowed open "$(plain ask 127.0.0.1 "$OPEN")"
same after-take-over-mesh shut "$(client ask 127.0.0.1 "$SHUT")"
kill -9 "$SECOND"
wait "$SECOND" 2>/dev/null
if [ -n "$BPFFS" ]; then
	same without-flatd-nothing ECONNREFUSED "$(plain ask 127.0.0.1 "$OPEN")"
fi
launch third
THIRD=$PID
wait_for 20 flatctl --control "$CONTROL" ls
both_known() { known "$OPEN" && known "$SHUT"; }
wait_for 10 both_known || fail known-to-a-new-flatd
went a-new-flatd forwarded plain ask 127.0.0.1 "$OPEN"
same a-new-flatd-bytes open "$OUT"
same a-new-flatd-refuses reset "$(plain ask 127.0.0.1 "$SHUT")"
stop "$THIRD"
if [ -n "$BPFFS" ]; then
	same stopped-is-closed ECONNREFUSED "$(plain ask 127.0.0.1 "$OPEN")"
fi
same released "/flat/e2e/$S is confined no more" "$(flatctl release "/flat/e2e/$S")"
same released-is-open shut "$(plain ask 127.0.0.1 "$SHUT")"
