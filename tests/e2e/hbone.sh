#!/bin/bash
# HBONE (HTTP/2 CONNECT over mutual TLS on port 15008, as Istio's ambient mode speaks it) between two hosts, which are network
# namespaces: a flatd goes out to another one and to a peer of Python's h2, and that peer comes in. FLAT_ENVOY, or envoy in
# PATH: Envoy both ways too.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs redis-server curl "$PYTHON"
PART=$E2E_ROOT/tests/e2e/hosts_part.py
PEER=$E2E_ROOT/tests/e2e/hbone_part.py
"$PYTHON" -c 'import h2' 2>/dev/null || {
	echo "SKIP $E2E_NAME: python3-h2 is not installed"
	exit 77
}
two_hosts 10.78.0 || exit 77
on_b ip addr add 10.78.0.3/24 dev "${VETH}b"
on_b ip addr add 10.78.0.4/24 dev "${VETH}b"

# --- programs, identities, configuration ---

mkdir "$WORK/bin"
for name in shop intruder; do
	cp "$(readlink -f "$PYTHON")" "$WORK/bin/$name-python"
done
cp "$(readlink -f "$(command -v redis-server)")" "$WORK/bin/redis-server"
cp "$(readlink -f "$PYTHON")" "$WORK/bin/server-python"
flatctl ca init "$WORK/ca" || die ca-init
flatctl ca init "$WORK/other-ca" || die ca-init
issue() {
	local account
	for account in "${@:2}"; do
		flatctl ca issue "$WORK/ca" "$WORK/$1" "$account" || die ca-issue
	done
}
issue svids-a e2e/shop e2e/intruder
issue svids-b flatd e2e/server
issue svids-peer e2e/ambient e2e/shop e2e/intruder
flatctl ca issue "$WORK/other-ca" "$WORK/svids-other" e2e/shop || die ca-issue
cp "$WORK/svids-peer/cluster.local.bundle" "$WORK/svids-other/"

# remote NAME ADDRESS PORT HOST [ACCOUNT]
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
  ports: [{ number: $3, name: p, protocol: TCP }]
  endpoints:
  - address: $4
    labels: { networking.istio.io/tunnel: http }
    ${5:+serviceAccount: $5}
END
}
{
	own_workload shop shop-python
	own_workload intruder intruder-python
	remote echo 240.9.7.1 7007 10.78.0.2 server
	remote sink 240.9.7.2 7009 10.78.0.2 server
	remote nobody 240.9.7.3 7999 10.78.0.2 server
	remote mistaken 240.9.7.4 7007 10.78.0.2 somebody-else
	remote unnamed 240.9.7.5 7007 10.78.0.2
	remote ambient 240.9.7.6 9000 10.78.0.3 ambient
	remote forbidden 240.9.7.7 403 10.78.0.3 ambient
	remote envoy 240.9.7.9 7007 10.78.0.4 ambient
} >"$WORK/a.yaml"
{
	own_workload server server-python
	own_workload redis redis-server
	cat <<END
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-shop, namespace: e2e }
spec:
  action: ALLOW
  rules:
  - from:
    - source: { principals: [cluster.local/ns/e2e/sa/shop] }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: e2e }
spec: { mtls: { mode: STRICT } }
END
} >"$WORK/b.yaml"

# flatd_on a|b OPTION...: starts it there; its pid in FLATD_a, FLATD_b.
flatd_on() {
	local where=("${ON_A[@]}") name=$1
	shift
	[ "$name" = a ] || where=("${ON_B[@]}")
	start "flatd-$name" "${where[@]}" flatd --control "$WORK/$name.sock" --config "$WORK/$name.yaml" --metrics 127.0.0.1:15020 \
		--svids "$WORK/svids-$name" "$@"
	printf -v "FLATD_$name" %s "$PID"
	wait_for 10 flatctl --control "$WORK/$name.sock" ls || die "flatd-$name-starts" "$(tail -n 5 "$WORK/flatd-$name.log")"
}
# of a|b COMMAND EXPRESSION: over `s`, what flatctl COMMAND --json says there.
of() {
	flatctl --control "$WORK/$1.sock" "$2" --json |
		"$PYTHON" -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$3"
}
flatd_on a
flatd_on b --hbone 10.78.0.2:15008
MESH_A=("${ON_A[@]}" flat-run --control "$WORK/a.sock")
MESH_B=("${ON_B[@]}" flat-run --control "$WORK/b.sock")
shop() { "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" "$@"; }
intruder() { "${MESH_A[@]}" "$WORK/bin/intruder-python" -B "$PART" "$@"; }
start echo "${MESH_B[@]}" "$WORK/bin/server-python" -B "$PART" echo 7007
start sink "${MESH_B[@]}" "$WORK/bin/server-python" -B "$PART" sink 7009 "$WORK/gate"
start peer "${ON_B[@]}" "$PYTHON" -B "$PEER" serve 10.78.0.3 "$WORK/svids-peer" e2e.ambient
all_there() { [ "$(of b ls "len(s['listeners'])")" = 2 ] && grep -q listening "$WORK/peer.log"; }
wait_for 15 all_there || die servers-listen "$(tail -n 3 "$WORK"/*.log)"

# --- from flatd to flatd ---

same many-connections ok "$(shop talk echo.e2e.example 7007 50 20 3000)"
same large-messages ok "$(shop talk echo.e2e.example 7007 4 5 1000000)"
holds server-sees-the-host wait_for 10 grep -q 'from 10.78.0.1' "$WORK/echo.log"
same no-kernel-path 0 "$(of a ls "s['opened_kernel']")"
same protocol "{('hbone', 'TLSv1.3')}" "$(of a peers "{(p['protocol'], p['tls']) for p in s['peers']}")"
same one-connection-for-all 1 "$(of a peers "len(s['peers'])")"
same own-identity spiffe://cluster.local/ns/e2e/sa/shop "$(of b peers "s['peers'][0]['peer_id']")"
same workload-answers spiffe://cluster.local/ns/e2e/sa/server "$(of a peers "s['peers'][0]['peer_id']")"
holds peers-text grep -q 'HBONE to 10.78.0.2:15008 open' <(flatctl --control "$WORK/a.sock" peers)
holds metrics-links grep -q '^flat_wire_hbone_links 1$' <(on_a curl -sS http://127.0.0.1:15020/metrics 2>&1)
holds why-says-hbone grep -q 'by HBONE.*10.78.0.2:15008.*ns/e2e/sa/server' \
	<(flatctl --control "$WORK/a.sock" why e2e/shop echo.e2e.example:7007 | tr '\n' ' ')
same refused-by-identity 'PermissionError 13' "$(intruder connect echo.e2e.example 7007)"
holds refused-reason-at-the-server wait_for 10 grep -q 'refused cluster.local/ns/e2e/sa/intruder.*only-shop.*b.yaml' "$WORK/flatd-b.log"
same nobody-listens 'ConnectionRefusedError 111' "$(shop connect nobody.e2e.example 7999)"
same other-account-refused 'PermissionError 13' "$(shop connect mistaken.e2e.example 7007)"
holds other-account-reason wait_for 10 grep -q 'it is spiffe://cluster.local/ns/e2e/sa/server, not spiffe://cluster.local/ns/e2e/sa/somebody-else' \
	"$WORK/flatd-a.log"
same no-account-is-default 'PermissionError 13' "$(shop connect unnamed.e2e.example 7007)"
resets=$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")
shop abort echo.e2e.example 7007
saw_reset() { [ "$(grep -c 'server-saw ConnectionResetError' "$WORK/echo.log")" -gt "$resets" ]; }
holds reset-crosses wait_for 10 saw_reset
idle() { [ "$(of a peers "sum(p['streams'] for p in s['peers'])")$(of b peers "sum(p['streams'] for p in s['peers'])")" = 00 ]; }
holds no-stream-left wait_for 10 idle

# A receiver that does not read.
start fill "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" fill sink.e2e.example 7009 20000000
stuck() { grep -q accepted "$WORK/sink.log" && [ "$(of a peers "sum(p['streams'] for p in s['peers'])")" = 1 ]; }
wait_for 10 stuck || die slow-receiver-begins "$(tail -n 2 "$WORK/fill.log" "$WORK/sink.log")"
same others-go-on ok "$(shop talk echo.e2e.example 7007 20 50 10000)"
holds sender-waits test -z "$(grep sum "$WORK/fill.log")"
touch "$WORK/gate"
read_all() { grep -q sum "$WORK/fill.log" && grep -q sum "$WORK/sink.log"; }
wait_for 30 read_all || fail slow-receiver-ends "$(tail -n 2 "$WORK/fill.log" "$WORK/sink.log")"
same slow-receiver-hash "$(grep sum "$WORK/fill.log")" "$(grep sum "$WORK/sink.log")"

# --- from flatd to another implementation ---

same out-many-streams ok "$(shop crowd ambient.e2e.example 9000 120)"
same out-second-connection 2 "$(of a peers "sum(p['address'] == '10.78.0.3:15008' for p in s['peers'])")"
same out-large-messages ok "$(shop talk ambient.e2e.example 9000 2 3 1000000)"
holds out-asked wait_for 10 grep -q 'asked CONNECT 10.78.0.3:9000 spiffe://cluster.local/ns/e2e/sa/shop for="' "$WORK/peer.log"
same out-forbidden 'PermissionError 13' "$(shop connect forbidden.e2e.example 403)"
same out-reset-by-peer ConnectionResetError "$(shop told ambient.e2e.example 9000 RESET)"
same out-half-close 'end 70000' "$(shop half ambient.e2e.example 9000 70000)"

# --- from another implementation to flatd ---

# ask ACCOUNT FOLDER SIZE AUTHORITY...
ask() { on_a "$PYTHON" -B "$PEER" ask 10.78.0.2 "$WORK/$2" "$1" "${@:3}"; }
of_server='of spiffe://cluster.local/ns/e2e/sa/server'
same in-streams "200,end,whole 200,end,whole 200,end,whole $of_server" \
	"$(ask e2e.shop svids-peer 700000 10.78.0.2:7007 10.78.0.2:7007 10.78.0.2:7007)"
same in-refused "403 $of_server" "$(ask e2e.intruder svids-peer 10 10.78.0.2:7007)"
same in-wrong "503 400 400 200,end,whole $of_server" \
	"$(ask e2e.shop svids-peer 10 10.78.0.2:7998 10.78.0.3:7007 localhost:7007 10.78.0.2:7007)"
holds in-forwarded-port wait_for 10 grep -q 'from 10.78.0.1' "$WORK/echo.log"
same in-other-authority ConnectionResetError "$(ask e2e.shop svids-other 10 10.78.0.2:7007 | sed 's/SSLError/ConnectionResetError/')"
same in-no-certificate ConnectionResetError "$(ask - svids-peer 10 10.78.0.2:7007 | sed 's/SSLError/ConnectionResetError/')"
holds in-no-certificate-reason wait_for 10 grep -q 'peer did not return a certificate' "$WORK/flatd-b.log"
# Two workloads at one address: nobody is shown as the other, the node answers for both.
start redis "${MESH_B[@]}" "$WORK/bin/redis-server" --port 6379 --bind 10.78.0.2 --protected-mode no --save '' --appendonly no --dir "$WORK"
two_workloads() { [ "$(of b ls "len(s['listeners'])")" = 3 ]; }
wait_for 10 two_workloads || die redis-listens "$(tail -n 3 "$WORK/redis.log")"
same in-node-answers '200,end,whole of spiffe://cluster.local/ns/flat-system/sa/flatd' "$(ask e2e.shop svids-peer 10 10.78.0.2:7007)"

# --- killed ---

start wait-b "${MESH_A[@]}" "$WORK/bin/shop-python" -B "$PART" wait ambient.e2e.example 9000
wait_for 10 grep -q holding "$WORK/wait-b.log" || die kill-peer-begins
stop_hard() { kill -9 "$1" && wait "$1" 2>/dev/null; }
for pid in "${E2E_PIDS[@]}"; do
	grep -qz "$PEER" "/proc/$pid/cmdline" 2>/dev/null && stop_hard "$pid"
done
holds killed-peer-client-sees wait_for 10 grep -q 'ended ConnectionResetError' "$WORK/wait-b.log"
same killed-peer-refused 'ConnectionRefusedError 111' "$(shop connect ambient.e2e.example 9000)"

# --- Envoy ---

: "${FLAT_ENVOY:=$(command -v envoy)}"
[ -n "$FLAT_ENVOY" ] || exit 0

envoy_tls() { # ACCOUNT WHOM
	cat <<END
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: { tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }
            tls_certificates:
            - certificate_chain: { filename: $WORK/svids-peer/$1.crt }
              private_key: { filename: $WORK/svids-peer/$1.key }
            validation_context:
              trusted_ca: { filename: $WORK/svids-peer/cluster.local.bundle }
              match_typed_subject_alt_names:
              - { san_type: URI, matcher: { exact: "spiffe://cluster.local/ns/$2" } }
END
}
cat >"$WORK/envoy-server.yaml" <<END
static_resources:
  listeners:
  - name: hbone
    address: { socket_address: { address: 10.78.0.4, port_value: 15008 } }
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: true
$(envoy_tls e2e.ambient e2e/sa/shop)
      filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: hbone
          codec_type: HTTP2
          http2_protocol_options: { allow_connect: true }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { connect_matcher: {} }
                route: { cluster: echo, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: echo
    type: STATIC
    load_assignment:
      cluster_name: echo
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.78.0.4, port_value: 7017 } } } }] }]
END
cat >"$WORK/envoy-client.yaml" <<END
static_resources:
  listeners:
  - name: plain
    address: { socket_address: { address: 127.0.0.1, port_value: 7018 } }
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: hbone
          tunneling_config: { hostname: "10.78.0.2:7007" }
  clusters:
  - name: hbone
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: { allow_connect: true } }
    load_assignment:
      cluster_name: hbone
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 10.78.0.2, port_value: 15008 } } } }] }]
    transport_socket:
      name: tls
      typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
$(envoy_tls e2e.shop flat-system/sa/flatd)
END
start plain-echo "${ON_B[@]}" "$PYTHON" -B "$PART" echo 7017
start envoy-server "${ON_B[@]}" "$FLAT_ENVOY" -c "$WORK/envoy-server.yaml" --base-id 71 --concurrency 1 -l warn
start envoy-client "${ON_A[@]}" "$FLAT_ENVOY" -c "$WORK/envoy-client.yaml" --base-id 72 --concurrency 1 -l warn
envoys() { on_b ss -ltnH 'sport = :15008' | grep -q 10.78.0.4 && on_a ss -ltnH 'sport = :7018' | grep -q 7018; }
wait_for 20 envoys || die envoy-starts "$(tail -n 3 "$WORK"/envoy-*.log)"
same envoy-serves ok "$(shop talk envoy.e2e.example 7007 20 10 30000)"
same envoy-serves-half-close 'end 70000' "$(shop half envoy.e2e.example 7007 70000)"
same envoy-serves-no-intruder 'PermissionError 13' "$(intruder connect envoy.e2e.example 7007)"
plain() { on_a "$PYTHON" -B "$PART" "$@"; }
same envoy-comes ok "$(plain talk 127.0.0.1 7018 20 10 30000)"
same envoy-comes-half-close 'end 70000' "$(plain half 127.0.0.1 7018 70000)"
