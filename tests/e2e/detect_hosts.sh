#!/bin/bash
# A port of no declared protocol on another host: its flatd reads whether the client speaks HTTP, and asks its policies about requests or about
# the connection, with the identity of the certificate.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl "$PYTHON"
PART=$E2E_ROOT/tests/e2e/detect_part.py
two_hosts 10.79.0 || exit 77

mkdir "$WORK/bin"
for name in shop guest; do
	cp "$(readlink -f "$(command -v curl)")" "$WORK/bin/$name-curl"
	cp "$(readlink -f "$PYTHON")" "$WORK/bin/$name-python"
done
cp "$(readlink -f "$PYTHON")" "$WORK/bin/web-python"
flatctl ca init "$WORK/ca" || die ca-init
for account in flatd e2e/shop e2e/guest; do
	flatctl ca issue "$WORK/ca" "$WORK/svids-a" "$account" || die ca-issue
done
flatctl ca issue "$WORK/ca" "$WORK/svids-b" flatd || die ca-issue

base() {
	own_workload shop shop-curl shop-python
	own_workload guest guest-curl guest-python
	own_workload web web-python
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: web, namespace: e2e }
spec:
  hosts: [web.e2e.example]
  addresses: [240.9.20.3]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: any }]
  endpoints: [{ address: 10.79.0.2, ports: { any: 7012 }, labels: { security.istio.io/tlsMode: istio } }]
END
}
base >"$WORK/a.yaml"
{
	base
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: web, namespace: e2e }
spec:
  action: ALLOW
  rules:
  - { from: [{ source: { principals: [cluster.local/ns/e2e/sa/shop] } }] }
  - { from: [{ source: { principals: [cluster.local/ns/e2e/sa/guest] } }], to: [{ operation: { paths: [/open] } }] }
END
} >"$WORK/b.yaml"
# flatd_on a|b NSENTER...
flatd_on() {
	start "flatd-$1" "${@:2}" flatd --control "$WORK/$1.sock" --config "$WORK/$1.yaml" --metrics off --wire 0.0.0.0:15018 --svids "$WORK/svids-$1"
	wait_for 10 flatctl --control "$WORK/$1.sock" ls || die "flatd-$1-starts" "$(tail -n 5 "$WORK/flatd-$1.log")"
}
flatd_on a "${ON_A[@]}"
flatd_on b "${ON_B[@]}"
start web "${ON_B[@]}" flat-run --control "$WORK/b.sock" "$WORK/bin/web-python" -B "$PART" serve web 7012 10.79.0.2
there() { flatctl --control "$WORK/b.sock" ls | grep -q 7012; }
wait_for 15 there || die web-listens "$(tail -n 3 "$WORK/web.log")"

# as NAME PROGRAM ARGUMENT...
as() { "${ON_A[@]}" flat-run --control "$WORK/a.sock" "$WORK/bin/$1-$2" "${@:3}" 2>&1; }
ask() { as "$1" curl -sS --max-time 20 -o /dev/null -w '%{http_code}' "http://web.e2e.example$2"; }
say() { as "$1" python -B "$PART" say web.e2e.example 80 "${@:2}"; }
same http 'web /a' "$(as shop curl -sS --max-time 20 http://web.e2e.example/a)"
same http-open 200 "$(ask guest /open)"
same http-denied 403 "$(ask guest /a)"
same http-denied-in-pieces 403 "$(say guest 'GE' 'T /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' | head -n 1 | cut -d ' ' -f 2)"
same bytes 'web [ping]' "$(say shop 'ping\n')"
same bytes-in-pieces 'web [ping it]' "$(say shop 'p' 'ing it' '\n')"
same bytes-cut-short 'web [GET /]' "$(say shop 'GET /' -)"
same bytes-none 'web []' "$(say shop -)"
same bytes-denied cut "$(say guest 'ping\n')"
holds bytes-denied-says-why wait_for 10 grep -q 'sa/guest.*is denied' "$WORK/flatd-b.log"
same links 2 "$(flatctl --control "$WORK/a.sock" peers --json | grep -o '"state": *"open"' | wc -l)"
