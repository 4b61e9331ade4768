#!/bin/bash
# Rows of Istio's and Gateway API's references: requests by a gateway and by a client in the mesh, and what `flatctl check` says.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for name in GATE API ORIGIN; do
	port && declare "$name=$PORT"
done
rules() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/rules.py" "$@"; }
# answered NAME COMMAND...: what differs is shown.
answered() {
	local name=$1 out
	shift
	out=$("$@") && pass "$name" || fail "$name" "$(head -n 12 <<<"$out" | cut -c1-1500)"
}

answered check rules check flatctl "$WORK"

rules config "$GATE" "$API" "$ORIGIN" >"$CONFIG"
serve origin "$ORIGIN" "$PYTHON" -B "$E2E_ROOT/tests/e2e/tables_origin.py" "$ORIGIN" origin
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress
wait_for 10 listening "$GATE" || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
wait_for 10 listening "$API" || die listener-opens "$(tail -n 5 "$WORK/flatd.log")"
answered gateway rules ask "$GATE" gateway
answered http-routes rules ask "$API" api
answered mesh over "$PYTHON" -B "$E2E_ROOT/tests/e2e/rules.py" ask 80 mesh
