#!/bin/bash
# Services whose endpoints have names (resolution DNS): resolved by flatd, here from a hosts file of its own; followed
# when the answer is another, kept when there is none, and in the registry that REGISTRY_ONLY allows.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl unshare mount
unshare --mount true 2>/dev/null || { echo "SKIP $E2E_NAME: no mount namespaces" && exit 77; }

port && WEB=$PORT
port && OTHER=$PORT
HOSTS=$WORK/hosts

entry() { # NAME PROTOCOL [ENDPOINTS]
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec:
  hosts: [$1.e2e.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{ number: 80, name: port, protocol: $2, targetPort: $WEB }]
  ${3:+endpoints: [$3]}
END
}
mesh() {
	cat <<END
kind: MeshConfig
spec: { dnsRefreshRate: 1s, outboundTrafficPolicy: { mode: REGISTRY_ONLY } }
END
	entry api HTTP
	entry named HTTP '{ address: one.e2e.internal, weight: 1 }, { address: 127.0.0.4 }'
	entry lost HTTP
}
for i in 2 3 4; do
	serve "server-$i" "$WEB" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$WEB" "s$i" "127.0.0.$i"
done
serve other "$OTHER" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$OTHER" other 127.0.0.3

# hosts LINE...: what flatd's resolver knows from now on.
hosts() { printf '%s\n' '127.0.0.1 localhost' "$@" >"$HOSTS"; }
hosts '127.0.0.2 api.e2e.example' '127.0.0.3 one.e2e.internal'
mesh >"$CONFIG"
# That file alone: how long the machine's name servers take for a name that is not there is theirs.
echo 'hosts: files' >"$WORK/nsswitch"
# shellcheck disable=SC2016
start flatd unshare --mount --propagation private /bin/sh -c \
	'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec flatd "$@"' sh "$HOSTS" "$WORK/nsswitch" \
	--control "$CONTROL" --config "$CONFIG" --metrics off
wait_for 20 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"

# who HOST[:PORT] [TIMES]: the servers that answered, each once.
who() {
	local names
	names=$(over curl -s -m 20 -H "Connection: close" "http://$1/echo?[1-${2:-1}]" 2>/dev/null | grep -oE '"name": "[a-z0-9]+"' | cut -d '"' -f 4 | sort -u | xargs)
	echo "${names:-nobody}"
}
# Who draws one of two 40 times has both, but once in 2^39 runs.
MANY=40
is() { [ "$(who "$1" "${3:-1}")" = "$2" ]; }

same resolved-at-once s2 "$(who api.e2e.example)"
same by-name-and-by-address 's3 s4' "$(who named.e2e.example $MANY)"
same not-resolved nobody "$(who lost.e2e.example)"
holds not-resolved-is-told wait_for 10 grep -q 'the name lost.e2e.example of a service is not resolved' "$WORK/flatd.log"
same unknown-hosts-are-refused nobody "$(who 127.0.0.3:"$OTHER")"
same endpoints-are-in-the-registry s2 "$(who 127.0.0.2:"$WEB")"

hosts '127.0.0.3 api.e2e.example' '127.0.0.3 one.e2e.internal' '127.0.0.2 lost.e2e.example'
holds another-address wait_for 20 is api.e2e.example s3
holds found-later wait_for 20 is lost.e2e.example s2
hosts '127.0.0.2 api.e2e.example' '127.0.0.3 api.e2e.example' '127.0.0.3 one.e2e.internal'
holds two-addresses wait_for 20 is api.e2e.example 's2 s3' $MANY
hosts '127.0.0.3 one.e2e.internal'
holds no-answer-is-seen wait_for 20 grep -q 'api.e2e.example of a service is not resolved.*its addresses before stay' "$WORK/flatd.log"
same kept-without-answer 's2 s3' "$(who api.e2e.example $MANY)"

# Requests are routed as those to any other service.
apply < <(
	mesh
	cat <<'END'
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: api, namespace: e2e }
spec:
  hosts: [api.e2e.example]
  http: [{ match: [{ uri: { prefix: /teapot } }], directResponse: { status: 418 } }, { route: [{ destination: { host: api.e2e.example } }] }]
END
)
same routed 418 "$(over curl -s -m 10 -o /dev/null -w '%{http_code}' http://api.e2e.example/teapot)"
same routed-to-a-name 's2 s3' "$(who api.e2e.example $MANY)"
holds nothing-is-not-honoured test -z "$(flatctl check "$CONFIG" 2>&1 | grep "not honoured")"
