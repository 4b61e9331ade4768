#!/bin/bash
# Identities from a SPIFFE Workload API, which a small server of our own stands for: two hosts, each with its API. What is
# served is used, and used anew when it changes, without an end to what is open; what is wrong is not.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs "$PYTHON"
PART=$E2E_ROOT/tests/e2e/hosts_part.py
API=$E2E_ROOT/tests/e2e/spire_part.py
"$PYTHON" -c 'import grpc' 2>/dev/null || {
	echo "SKIP $E2E_NAME: python3-grpcio is not installed"
	exit 77
}
two_hosts 10.79.0 || exit 77

mkdir "$WORK/bin"
for name in shop intruder server; do
	cp "$(readlink -f "$PYTHON")" "$WORK/bin/$name-python"
done
flatctl ca init "$WORK/ca" || die ca-init
issue() {
	local account
	for account in "${@:2}"; do
		flatctl ca issue "$WORK/ca" "$WORK/$1" "$account" || die ca-issue
	done
}
issue api-a flatd e2e/shop
issue api-b flatd e2e/server

# remote NAME ADDRESS LABEL
remote() {
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
  ports: [{ number: 7007, name: p, protocol: TCP }]
  endpoints: [{ address: 10.79.0.2, serviceAccount: server, labels: { $3 } }]
END
}
{
	own_workload shop shop-python
	own_workload intruder intruder-python
	own_workload server server-python
	remote echo 240.9.6.1 'security.istio.io/tlsMode: istio'
	remote tunnel 240.9.6.2 'networking.istio.io/tunnel: http'
} >"$WORK/mesh.yaml"

flatd_on() {
	local where=("${ON_A[@]}")
	[ "$1" = a ] || where=("${ON_B[@]}")
	start "flatd-$1" "${where[@]}" flatd --control "$WORK/$1.sock" --config "$WORK/mesh.yaml" --metrics off \
		--svids "unix://$WORK/api-$1.sock" --wire 0.0.0.0:15018 --hbone 0.0.0.0:15008
	printf -v "FLATD_$1" %s "$PID"
	wait_for 10 flatctl --control "$WORK/$1.sock" ls || die "flatd-$1-starts" "$(tail -n 5 "$WORK/flatd-$1.log")"
}
api_on() {
	start "api-$1" "$PYTHON" -B "$API" "$WORK/api-$1.sock" "$WORK/api-$1"
	printf -v "API_$1" %s "$PID"
	wait_for 10 grep -q serving "$WORK/api-$1.log" || die "api-$1-starts" "$(tail -n 3 "$WORK/api-$1.log")"
}
of() {
	flatctl --control "$WORK/$1.sock" "$2" --json |
		"$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$3"
}
identities() { of "$1" peers "sorted(i['id'].split('/')[-1] for i in s['identities'])"; }
on_both() { [ "$(identities a)$(identities b)" = "['flatd', 'shop']['flatd', 'server']" ]; }

# flatd is there before its API: nobody has an identity yet.
flatd_on a
flatd_on b
start echo "${ON_B[@]}" flat-run --control "$WORK/b.sock" "$WORK/bin/server-python" -B "$PART" echo 7007
listens() { [ "$(of b ls "len(s['listeners'])")" = 1 ]; }
wait_for 15 listens || die server-listens "$(tail -n 3 "$WORK/echo.log")"
MESH_A=("${ON_A[@]}" flat-run --control "$WORK/a.sock")
shop() { "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" "$@"; }
same none-before-the-api 'PermissionError 13' "$(shop connect echo.e2e.example 7007)"
holds none-is-said wait_for 10 grep -q "identities: unix:.*api-a.sock: No such file" "$WORK/flatd-a.log"
api_on a
api_on b
holds identities-come wait_for 20 on_both
same over-the-wire ok "$(shop talk echo.e2e.example 7007 10 10 3000)"
same by-hbone ok "$(shop talk tunnel.e2e.example 7007 10 10 3000)"
same who-has-none 'PermissionError 13' \
	"$("${MESH_A[@]}" "$WORK/bin/intruder-python" -B "$PART" connect echo.e2e.example 7007)"

# Rotation, and an answer that is wrong.
start hold "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" hold echo.e2e.example 7007 "$WORK/stop"
wait_for 10 grep -q holding "$WORK/hold.log" || die rotation-begins
before=$(of a peers "s['rotations']")
issue api-a flatd e2e/shop
echo 2 >"$WORK/api-a/generation"
rotated() { [ "$(of a peers "s['rotations']")" = $((before + 1)) ]; }
holds rotation-comes wait_for 10 rotated
works() { shop connect echo.e2e.example 7007 | grep -q ok; }
holds works-after-rotation works
second_link() { [ "$(of a peers "sorted(p['state'] for p in s['peers'] if p['protocol'] == 'flat/1')")" = "['draining', 'open']" ]; }
holds second-link wait_for 10 second_link
cp "$WORK/api-a/flat-system.flatd.key" "$WORK/api-a/e2e.shop.wrong"
echo 3 >"$WORK/api-a/generation"
holds wrong-key-is-said wait_for 10 grep -q "sa/shop: its key is another certificate's; those before stay in force" "$WORK/flatd-a.log"
holds works-with-those-before works
rm "$WORK/api-a/e2e.shop.wrong"

# The API says that there are none, goes, and comes back.
echo none >"$WORK/api-a/generation"
stop "$API_a"
holds api-gone-is-said wait_for 10 grep -q "asked again in" "$WORK/flatd-a.log"
holds works-without-api works
before=$(of a peers "s['rotations']")
: >"$WORK/api-a.log"
api_on a
holds denied-is-said wait_for 20 grep -q "gRPC status 7: no identity issued" "$WORK/flatd-a.log"
holds works-while-denied works
echo 4 >"$WORK/api-a/generation"
holds identities-come-again wait_for 30 rotated
touch "$WORK/stop"
wait_for 10 grep -qE 'whole|ended' "$WORK/hold.log"
holds nothing-ended grep -q whole "$WORK/hold.log"
kill "$FLATD_a"
holds ends-at-once wait_for 10 gone "$FLATD_a"
