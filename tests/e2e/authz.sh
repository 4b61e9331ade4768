#!/bin/bash
# AuthorizationPolicy's other actions, after Istio's documentation tasks "External Authorization" and "Dry Run": CUSTOM, AUDIT,
# dry run; the audit log.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl

port && A=$PORT
port && B=$PORT
port && EXT=$PORT
port && DEAD=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"

base() {
	workload origin "$WORK/origin-python"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: origin, namespace: e2e }
spec:
  hosts: [origin.e2e.example]
  addresses: [240.9.11.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $A } }, { address: 127.0.0.1, ports: { http: $B } }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: origin, namespace: e2e }
spec: { host: origin.e2e.example, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ext, namespace: e2e }
spec:
  hosts: [ext.e2e.example, dead.e2e.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 8000, name: http, protocol: HTTP }, { number: 8001, name: http-dead, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $EXT, http-dead: $DEAD } }]
END
}
# providers LIST: MeshConfig's (flow style).
providers() { printf -- '---\nkind: MeshConfig\nextensionProviders: %s\n' "$1"; }
http() { echo "{ name: $1, envoyExtAuthzHttp: { service: ${2:-ext.e2e.example}, port: ${3:-8000}${4:-} } }"; }
policy() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: %s, namespace: e2e%s }\n' "$1" "${3:-}"
	printf 'spec: { selector: { matchLabels: { app: origin } }, %s }\n' "$2"
}
DRY=', annotations: { istio.io/dry-run: "true" }'
custom() { policy ext "action: CUSTOM, provider: { name: ${1:-ext} }, rules: [{ to: [{ operation: { paths: ['/echo*', '/status/*'] } }] }]"; }

serve ext "$EXT" "$PYTHON" -B "$E2E_ROOT/tests/e2e/ext_authz.py" "$EXT"
SEEN=', includeRequestHeadersInCheck: [x-ext-authz]'
{ base && providers "[$(http ext '' '' "$SEEN")]" && custom; } >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS" --audit-log "$WORK/audit.log" --access-log "$WORK/access.log"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin-a over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start origin-b over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$B" b
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(cat "$WORK"/origin-?.log | tail -n 3)"
url=http://origin.e2e.example
ask() { over curl -sS -m 20 "$@" 2>&1; }
as() { ask -H "x-ext-authz: $1" "${@:2}"; }
code() { "$@" -o /dev/null -w '%{http_code}'; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); h = {n.lower(): v for n, v in t["headers"]}; print(eval(sys.argv[1]))' "$1"; }
header() { tr -d '\r' | sed -n "s/^$1: //pI"; }

# --- an external authorizer ---

same custom-allows 200 "$(code as allow $url/echo)"
same custom-denies 'denied by ext_authz 403' "$(as deny -w ' %{http_code}' $url/echo | paste -sd' ' | tr -s ' ')"
same custom-denies-as-text text/plain "$(as deny -i $url/echo | header content-type)"
same custom-other-path 404 "$(code as deny $url/status/404 | sed 's/403/404/')"
same custom-not-asked 200 "$(code ask "$url/flaky/x/0")"
same custom-asked "GET origin.e2e.example /echo/a?b=c authorization,content-length,host,x-ext-authz" \
	"$(as deny -i -H 'Authorization: me' -H 'x-other: 1' "$url/echo/a?b=c" | header x-ext-authz-asked)"
same custom-denies-with-headers denied "$(as deny -i $url/echo | header x-ext-authz-check-result)"
same custom-redirects '302 /login' "$(as login -i -w '%{http_code} ' -o "$WORK/out" $url/echo)$(header location <"$WORK/out")"
same custom-head 403 "$(code as deny -I $url/echo)"
same custom-body 200 "$(as allow -d a=b $url/echo -o "$WORK/out" -w '%{http_code}')"
same custom-body-arrives 3 "$(told "t['size']" <"$WORK/out")"
same custom-5xx 403 "$(code as error $url/echo)"
same custom-too-long 403 "$(code as long $url/echo)"
same custom-keeps-the-connection 1 "$(as allow -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects}\n' $url/echo $url/echo $url/echo | awk '{ n += $1 } END { print n }')"
same custom-takes-turns 'a b' "$(as allow $url/echo -o "$WORK/1" $url/echo -o "$WORK/2" && for i in 1 2; do told "t['name']" <"$WORK/$i"; done | sort | paste -sd' ')"
holds custom-one-connection-to-it test "$(grep -oE '^[0-9]+ ' "$WORK/ext.log" | sort -u | wc -l)" -le 3
holds custom-flag wait_for 10 grep -q '" 403 UAEX ' "$WORK/access.log"
holds custom-audited wait_for 10 grep -q '"event":"denied".*"status":403,.*"policy":"ext","rule":0' "$WORK/audit.log"
holds custom-why grep -qE 'CUSTOM policy e2e/ext .* asks its external authorizer \(ext, service ext.e2e.example\)' \
	<(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/origin)

apply < <(base && providers "[$(http ext e2e/ext.e2e.example 8000 "$SEEN, pathPrefix: /check, includeAdditionalHeadersInCheck: { x-more: '1' }, headersToUpstreamOnAllow: [x-user, 'x-ext-authz-check*'],
  headersToDownstreamOnDeny: [x-user], headersToDownstreamOnAllow: [x-ext-authz-asked]")]" && custom && policy allow "rules: [{ when: [{ key: 'request.headers[x-user]', values: [from-authorizer] }] }]")
OUT=$(as allow -i -H 'x-user: forged' $url/echo | tr -d '\r')
same to-upstream 'from-authorizer allowed' "$(sed '1,/^$/d' <<<"$OUT" | told "h['x-user'] + ' ' + h['x-ext-authz-check-result']")"
same to-client-on-allow "GET origin.e2e.example /check/echo content-length,host,x-ext-authz,x-more" "$(header x-ext-authz-asked <<<"$OUT")"
same to-client-on-deny ' from-authorizer' "$(as deny -i $url/echo >"$WORK/out"; header x-ext-authz-check-result <"$WORK/out") $(header x-user <"$WORK/out")"

# --- endpoints of several workloads ---

cp "$(readlink -f "$PYTHON")" "$WORK/other-python"
port && C=$PORT
turns() {
	workload other "$WORK/other-python"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: turns, namespace: e2e }
spec:
  hosts: [turns.e2e.example]
  addresses: [240.9.11.2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $A } }, { address: 127.0.0.1, ports: { http: $C } }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: turns, namespace: e2e }
spec: { host: turns.e2e.example, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: all, namespace: e2e }
spec: { action: CUSTOM, provider: { name: ext }, rules: [{ to: [{ operation: { paths: ["/echo/turn/*"] } }] }] }
END
}
apply < <(base && turns && providers "[$(http ext '' '' "$SEEN, timeout: 20s")]")
start origin-c over "$WORK/other-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$C" c
listeners() { [ "$(state "len(s['listeners'])")" -ge 3 ]; }
wait_for 10 listeners || die third-server "$(tail -n 3 "$WORK/origin-c.log")"
for i in $(seq 20); do printf 'url = "http://turns.e2e.example/echo/turn/%s"\noutput = "%s/turn-%s"\n' "$i" "$WORK" "$i"; done >"$WORK/turns"
as slow -Z --parallel-immediate --parallel-max 20 -K "$WORK/turns" >/dev/null
same each-is-asked-about-once 20 "$(grep -c 'GET /echo/turn/' "$WORK/ext.log")"
same turns-are-kept '10 10' "$(for i in $(seq 20); do told "t['name']" <"$WORK/turn-$i"; done | sort | uniq -c | awk '{ printf "%s%s", sep, $1; sep = " " }')"

# --- authorizers that fail ---

apply < <(base && providers "[$(http ext dead.e2e.example 8001 ', statusOnError: "503"')]" && custom)
same dead 503 "$(code ask $url/echo)"
apply < <(base && providers "[$(http ext dead.e2e.example 8001 ', failOpen: true')]" && custom)
same dead-open 200 "$(code ask $url/echo)"
apply < <(base && providers "[$(http ext '' '' "$SEEN, timeout: 100ms")]" && custom)
same slow 403 "$(code as slow $url/echo)"
apply < <(base && providers "[$(http ext '' '' "$SEEN, timeout: 10s")]" && custom)
same slow-in-time 200 "$(code as slow $url/echo)"
apply < <(base && providers "[$(http other)]" && custom)
same unknown-provider 'RBAC: access denied 403' "$(as allow -w ' %{http_code}' $url/echo)"
same unknown-provider-elsewhere 200 "$(code as allow "$url/flaky/x/0")"
apply < <(base && providers "[{ name: ext, envoyExtAuthzGrpc: { service: ext.e2e.example, port: 8000 } }]" && custom)
same grpc-provider 403 "$(code as allow $url/echo)"
apply < <(base && providers "[$(http ext '' '' "$SEEN")]" && custom && policy deny "action: DENY, rules: [{ to: [{ operation: { methods: [PUT] } }] }]")
same allowed-then-denied 'RBAC: access denied' "$(as allow -X PUT $url/echo)"

# --- AUDIT and dry run ---

apply < <(base && policy look "action: AUDIT, rules: [{ to: [{ operation: { paths: [/echo] } }] }]")
same audit-decides-nothing 200 "$(code ask $url/echo)"
holds audit-written wait_for 10 grep -qE '"event":"audit","client":.*"method":"GET",.*"path":"/echo","policy_namespace":"e2e","policy":"look","rule":0' "$WORK/audit.log"
metric() { curl -sS -m 10 "http://127.0.0.1:$METRICS/metrics" | grep "^$1" | sed 's/.* //'; }
same audit-counted 1 "$(metric flat_authz_audit_total)"
apply < <(base && policy no "action: DENY, rules: [{ to: [{ operation: { paths: [/echo] } }] }]" "$DRY" && policy yes "rules: [{ to: [{ operation: { methods: [PUT] } }] }]" "$DRY")
same dry-run-decides-nothing 200 "$(code ask $url/echo)"
holds dry-run-deny wait_for 10 grep -qE '"event":"dry-run","action":"DENY","result":"denied".*"policy":"no"' "$WORK/audit.log"
holds dry-run-allow wait_for 10 grep -qE '"event":"dry-run","action":"ALLOW","result":"denied"' "$WORK/audit.log"
same dry-run-counted '1 1' "$(metric 'flat_authz_dry_run_total{authz_dry_run_action="deny",authz_dry_run_result="denied"}') $(metric 'flat_authz_dry_run_total{authz_dry_run_action="allow",authz_dry_run_result="denied"}')"
holds dry-run-why grep -q 'dry-run of DENY: e2e/no' <(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/origin)
