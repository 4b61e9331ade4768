#!/bin/bash
# Confined workloads: programs that know nothing of libflat, static ones, and calls that no library sees come to flatd, are who the
# kernel says they are, and get what policies let them have; without flatd they get nothing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs busybox curl
[ "$(id -u)" -eq 0 ] || { echo "SKIP confined: only root can confine" && exit 77; }

cgroups
tidy() {
	leave_cgroups c$$ free$$
}

part=$E2E_ROOT/tests/e2e/confined_part.py
port && ECHO=$PORT
port && PLAIN=$PORT
port && WEB=$PORT
port && CONFINE=$PORT
mkdir "$WORK/bin" "$WORK/www"
echo page >"$WORK/www/page"
echo secret >"$WORK/www/secret"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/server"

# base [CONFINED]: what there is, and whether it is confined.
base() {
	service echo 240.9.20.1 7 "$ECHO"
	entry web 240.9.20.2 http "$WEB"
	own_workload server server
	cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: c$$, namespace: e2e, labels: { app: client } }
spec: { serviceAccount: client, confined: ${1:-true}, selectors: [{ cgroup: /flat/e2e/c$$ }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: server, namespace: e2e }
spec:
  selector: { matchLabels: { app: server } }
  rules:
  - from: [{ source: { principals: ["cluster.local/ns/e2e/sa/client"] } }]
    to: [{ operation: { ports: ["$ECHO"] } }]
  - from: [{ source: { principals: ["cluster.local/ns/e2e/sa/client"] } }]
    to: [{ operation: { paths: ["/page"] } }]
END
}
# In the workload's cgroup, without the library; `free`: in another, which nobody confines.
confined() { flat-run --control "$CONTROL" --off --workload "c$$.e2e" -- "$@"; }
free() { flat-run --control "$CONTROL" --off --workload "free$$.e2e" -- "$@"; }
raw() { confined "$PYTHON" "$part" "$@"; }

base >"$CONFIG"
launch_first
same says-what-is-confined "['/flat/e2e/c$$']" "$(state "s['confined']")"
serve echo "$ECHO" over "$WORK/bin/server" "$part" serve "$ECHO" "$WORK/echo.lines"
serve web "$WEB" over "$WORK/bin/server" -m http.server -d "$WORK/www" -b 127.0.0.1 "$WEB"
# A server outside the mesh.
serve plain "$PLAIN" "$PYTHON" "$part" serve "$PLAIN" "$WORK/plain.lines"
listeners() { [ "$(state "len(s['listeners'])")" -ge 3 ]; }
wait_for 20 listeners

# --- who it is, and what it may ---

went raw-calls forwarded raw ask 240.9.20.1 7
same raw-calls-bytes hello "$OUT"
went unblocked forwarded raw unblocked 240.9.20.1 7
same unblocked-bytes hello "$OUT"
went in-a-message forwarded raw fastopen 240.9.20.1 7
same in-a-message-bytes hello "$OUT"
went mapped forwarded raw ask ::ffff:240.9.20.1 7
same mapped-bytes hello "$OUT"
same peer-is-who-was-asked "('240.9.20.1', 7)" "$(raw peer 240.9.20.1 7)"
same peer-mapped "('::ffff:240.9.20.1', 7)" "$(raw peer ::ffff:240.9.20.1 7)"
went static forwarded confined busybox wget -q -O - http://240.9.20.2/page
same static-bytes page "$OUT"
same path-refused 403 "$(confined curl -s -o /dev/null -w '%{http_code}' http://240.9.20.2/secret)"
same no-other-streams EPERM "$(raw other 240.9.20.1 7)"
went by-the-servers-own-address forwarded raw ask 127.0.0.1 "$ECHO"
same by-the-servers-own-address-bytes hello "$OUT"
# With the library it has what it always had.
went with-the-library direct flat-run --control "$CONTROL" --workload "c$$.e2e" -- "$PYTHON" "$part" ask 240.9.20.1 7
# The same program elsewhere is nobody.
same not-confined-is-nobody reset "$(free "$PYTHON" "$part" ask 127.0.0.1 "$ECHO")"
said() { grep -q gone "$WORK/echo.lines"; }
raw leave 240.9.20.1 7
holds who-has-gone-is-heard wait_for 20 said

# --- outside the mesh ---

went plain forwarded raw ask 127.0.0.1 "$PLAIN"
same plain-bytes hello "$OUT"
if [ -n "$(ss -ltnH "src [::1]:$PLAIN")" ]; then
	went plain-v6 forwarded raw ask ::1 "$PLAIN"
	same plain-v6-bytes hello "$OUT"
	same peer-v6 "('::1', $PLAIN)" "$(raw peer ::1 "$PLAIN")"
fi
same nobody-there reset "$(raw ask 127.0.0.1 1)"
same not-by-itself reset "$(free "$PYTHON" "$part" ask 127.0.0.1 "$CONFINE")"
same not-by-its-own-wish reset "$(raw ask 127.0.0.1 "$CONFINE")"
same not-by-its-own-wish-after-another reset "$(raw again 240.9.20.1 7 "$CONFINE")"
apply < <(base && registry_only)
same registry-only reset "$(raw ask 127.0.0.1 "$PLAIN")"
same registry-only-refused True "$(state "any('REGISTRY_ONLY' in r['reason'] and 'c$$' in r['client'] for r in s['refusals'])")"
same registry-only-mesh hello "$(raw ask 240.9.20.1 7)"
apply < <(base)

# --- what is seen of it, and what ends it ---

start stays flat-run --control "$CONTROL" --off --workload "c$$.e2e" -- "$PYTHON" "$part" stay 240.9.20.1 7
STAYS=$PID
open_now() { [ -s "$WORK/stays.log" ]; }
wait_for 20 open_now
OUT=$(flatctl --control "$CONTROL" why "$STAYS" "$(head -n 1 "$WORK/stays.log")")
holds why-says-forwarded grep -q 'path forwarded' <<<"$OUT"
holds why-says-confined grep -q 'the process is confined' <<<"$OUT"
apply < <(base && cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: none, namespace: e2e }
spec: { selector: { matchLabels: { app: server } }, action: DENY, rules: [{ to: [{ operation: { ports: ["$ECHO"] } }] }] }
END
)
holds a-policy-ends-it wait_for 20 gone "$STAYS"
same a-policy-ends-it-how reset "$(tail -n 1 "$WORK/stays.log")"
same a-policy-refuses reset "$(raw ask 240.9.20.1 7)"
apply < <(base)

# --- the cgroup ---

confined true
inode() { stat -c %i "$CGROUPS/flat/e2e/c$$" 2>/dev/null; }
BEFORE=$(inode)
vacant() { rmdir "$CGROUPS/flat/e2e/c$$"; }
wait_for 20 vacant || fail cgroup-vacant
made_again() { [ -n "$(inode)" ] && [ "$(inode)" != "$BEFORE" ] && [ "$(grep -c "cgroup /flat/e2e/c$$ is confined" "$WORK/flatd.log")" -ge 2 ]; }
holds removed-is-made-again wait_for 20 made_again
went removed-is-confined-again forwarded raw ask 240.9.20.1 7
# flat-run removes what it made and nobody is in; what flatd confines stays.
free true
free true
holds flat-run-leaves-it test -d "$CGROUPS/flat/e2e/c$$"

# --- flatd comes and goes ---

launch second --take-over
SECOND=$PID
holds predecessor-ends wait_for 20 gone "$FLATD"
same after-take-over hello "$(raw ask 240.9.20.1 7)"
same after-take-over-plain hello "$(raw ask 127.0.0.1 "$PLAIN")"
kill -9 "$SECOND"
wait "$SECOND" 2>/dev/null
same without-flatd-nothing ECONNREFUSED "$(raw ask 127.0.0.1 "$PLAIN")"
same without-flatd-others hello "$(free "$PYTHON" "$part" ask 127.0.0.1 "$PLAIN")"
launch third
THIRD=$PID
wait_for 20 flatctl --control "$CONTROL" ls
went a-new-flatd forwarded raw ask 127.0.0.1 "$PLAIN"
same a-new-flatd-bytes hello "$OUT"
apply < <(base false)
went let-go none raw ask 127.0.0.1 "$PLAIN"
same let-go-bytes hello "$OUT"
apply < <(base)
stop "$THIRD"
same stopped-is-closed ECONNREFUSED "$(raw ask 127.0.0.1 "$PLAIN")"
same released "/flat/e2e/c$$ is confined no more" "$(flatctl release "/flat/e2e/c$$")"
same released-is-open hello "$(raw ask 127.0.0.1 "$PLAIN")"
same released-twice "/flat/e2e/c$$ was not confined" "$(flatctl release "/flat/e2e/c$$")"
