#!/bin/bash
# Random tables of VirtualServices and AuthorizationPolicies at a gateway, and random requests, beside an oracle that is written from
# Istio's reference: which route, what reaches the server, what comes back; who may. FLAT_SEED: another seed.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for name in GATE A B C; do
	port && declare "$name=$PORT"
done
seed=${FLAT_SEED:-1}
tables() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/tables.py" "$@"; }
# asked NAME [TABLE]: what differs is shown.
asked() {
	local out status
	out=$(tables ask "$WORK" "${@:2}")
	status=$?
	[ $status -eq 0 ] || head -n 12 <<<"$out" | cut -c1-1500
	same "$1" 0 $status
}

tables routes "$seed" 120 "$WORK" "$GATE" "$A" "$B" "$C" || die tables
mv "$WORK/table" "$CONFIG"
start_flatd_here() {
	start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics off --gateway edge/ingress
	wait_for 10 listening "$GATE" || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
}
serve a "$A" "$PYTHON" -B "$E2E_ROOT/tests/e2e/tables_origin.py" "$A" a
serve b "$B" "$PYTHON" -B "$E2E_ROOT/tests/e2e/tables_origin.py" "$B" b
serve c "$C" "$PYTHON" -B "$E2E_ROOT/tests/e2e/tables_origin.py" "$C" c
start_flatd_here
asked routes

tables policies "$seed" 40 "$WORK" "$GATE" "$A" "$B" "$C" || die tables
for i in {0..39}; do
	apply <"$WORK/table-$i"
	asked "policies-$i" "$i"
done
