#!/bin/bash
# Compression of responses by EnvoyFilter: which, their heads, and that what comes out is what went in; events are not kept back.
# Unmodified curl and a server of our own under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl gzip

port && A=$PORT
port && METRICS=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(command -v curl)" "$WORK/shop-curl"
export ORIGIN_WAITS=$WORK

base() {
	workload origin "$WORK/origin-python"
	workload shop "$WORK/shop-curl"
	entry web 240.9.18.1 http "$A"
}
# compressor APP CONTEXT [RESPONSE_CONFIG [GZIP_FIELDS]]
compressor() {
	cat <<END
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: { name: compressor, namespace: istio-system }
spec:
  workloadSelector: { labels: { app: $1 } }
  configPatches:
  - applyTo: HTTP_FILTER
    match: { context: $2, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager } } } }
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.compressor
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor
          response_direction_config: { ${3:-} }
          compressor_library:
            name: text_optimized
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip
              ${4:-window_bits: 12}
END
}
web=http://web.e2e.example
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
# fields PATH [ARGUMENT...]: coding, length and Vary that curl is told, by a GET.
fields() {
	local path=$1
	shift
	shop -D "$WORK/head" -o "$WORK/body" "$@" "$web$path" >"$WORK/said"
	tr -d '\r' <"$WORK/head" | grep -iE '^(content-encoding|content-length|transfer-encoding|vary|etag):' | tr 'A-Z' 'a-z' | sort | paste -sd' '
}
field() { tr -d '\r' <"$WORK/head" | sed -n "s/^$1: //pI"; }
gz=(-H 'Accept-Encoding: gzip')
packed='content-encoding: gzip transfer-encoding: chunked vary: accept-encoding'

{ base && compressor origin SIDECAR_INBOUND; } >"$CONFIG"
start flatd flatd --control "$CONTROL" --config "$CONFIG" --metrics "127.0.0.1:$METRICS"
wait_for 10 flatctl --control "$CONTROL" ls || die flatd-starts "$(tail -n 5 "$WORK/flatd.log")"
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/compress_origin.py" "$A"
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"

# --- which, and their heads ---

same by-length "$packed" "$(fields /text/5000 "${gz[@]}")"
holds shorter test "$(wc -c <"$WORK/body")" -lt 500
same as-it-was "$(curl -sS -m 20 "http://127.0.0.1:$A/text/5000" | hash_of)" "$(gzip -dc <"$WORK/body" | hash_of)"
same server-was-told gzip "$(field x-accept)"
same by-chunks "$packed" "$(fields /chunks/50 "${gz[@]}")"
same by-chunks-as-it-was "50 lines" "$(gzip -dc <"$WORK/body" | grep -c 'lazy dog') lines"
same trailer done "$(tr -d '\r' <"$WORK/head" | sed -n 's/^x-sum: //pI')"
same many-codings "$packed" "$(fields /text/5000 -H 'Accept-Encoding: br;q=1.0, gzip;q=0.8, *;q=0.1')"
same any-coding "$packed" "$(fields /text/5000 -H 'Accept-Encoding: *')"
plain='content-length: 5000 vary: accept-encoding'
same no-coding "$plain" "$(fields /text/5000)"
same refused-coding "$plain" "$(fields /text/5000 -H 'Accept-Encoding: gzip;q=0, *')"
same rather-as-it-is "$plain" "$(fields /text/5000 -H 'Accept-Encoding: gzip;q=0.5, identity')"
same old-client "$plain" "$(fields /text/5000 -0 "${gz[@]}")"
same short 'content-length: 29' "$(fields /text/29 "${gz[@]}")"
same just-long-enough "$packed" "$(fields /text/30 "${gz[@]}")"
same another-type 'content-length: 5000' "$(fields '/text/5000?Content-Type=image/png' "${gz[@]}")"
same a-type-in-capitals "$packed" "$(fields '/text/5000?Content-Type=Application/JSON' "${gz[@]}")"
same coded-already 'content-encoding: br content-length: 5000' "$(fields '/text/5000?Content-Encoding=br' "${gz[@]}")"
same no-transform 'content-length: 5000' "$(fields '/text/5000?Cache-Control=public,%20no-transform' "${gz[@]}")"
same a-part 'content-length: 56' "$(fields '/status/206' "${gz[@]}")"
holds no-content test -z "$(fields /status/204 "${gz[@]}")"
holds not-modified test -z "$(fields '/status/304' "${gz[@]}")"
same an-error-too "$packed" "$(fields /status/500 "${gz[@]}")"
same head-alone "$plain" "$(fields /text/5000 -I "${gz[@]}")"
same vary-stays 'content-length: 5000 vary: accept-encoding, origin' "$(fields '/text/5000?Vary=Accept-Encoding,%20Origin')"
same vary-is-added "$packed vary: origin" "$(fields '/text/5000?Vary=Origin' "${gz[@]}")"
same strong-etag "$packed" "$(fields '/text/5000?ETag="a"' "${gz[@]}")"
same weak-etag "content-encoding: gzip etag: w/\"a\" transfer-encoding: chunked vary: accept-encoding" "$(fields '/text/5000?ETag=W/"a"' "${gz[@]}")"
holds until-the-end test -z "$(fields '/close/5000' "${gz[@]}")"
same until-the-end-as-it-was 5000 "$(wc -c <"$WORK/body" | tr -d ' ')"
same http2 "2 5000 gzip" "$(shop --http2-prior-knowledge --compressed -D "$WORK/head" -w '%{http_version} ' -o "$WORK/body" $web/text/5000)$(wc -c <"$WORK/body" | tr -d ' ') $(field content-encoding)"

# --- bodies ---

one() { curl -sS -m 20 "http://127.0.0.1:$A$1" | hash_of; }
fields /text/20000000 "${gz[@]}" >"$WORK/said"
same large-coded gzip "$(field content-encoding)"
holds large-is-short test "$(wc -c <"$WORK/body")" -lt 1000000
same large "$(one /text/20000000)" "$(shop --compressed $web/text/20000000 | hash_of)"
same incompressible "$(one /random/5000000)" "$(shop --compressed $web/random/5000000 | hash_of)"
same slow-reader "$(one /random/2000000)" "$(shop --limit-rate 1500k --compressed $web/random/2000000 | hash_of)"
same one-connection-many "200 200 200" "$(shop --compressed -o "$WORK/1" -o "$WORK/2" -o "$WORK/3" -w '%{http_code} ' $web/text/900 $web/random/300000 $web/chunks/9 | sed 's/ $//')"
same one-connection-as-it-was "900 300000 504" "$(cat "$WORK/1" | wc -c) $(wc -c <"$WORK/2") $(wc -c <"$WORK/3")"
broken() { ! shop "${gz[@]}" -o "$WORK/body" $web/half/50; }
holds breaks-off broken

# --- configuration ---

apply < <(base && compressor shop SIDECAR_OUTBOUND 'common_config: { min_content_length: 10, content_type: [text/event-stream] }, remove_accept_encoding_header: true' 'compression_level: BEST_SPEED')
same own-types 'content-length: 5000' "$(fields /text/5000 "${gz[@]}")"
same accept-removed none "$(field x-accept)"
same other-client gzip "$(over curl -sS -m 20 -D - -o "$WORK/body" "${gz[@]}" $web/text/5000 | tr -d '\r' | sed -n 's/^x-accept: //pI')"
start events over "$WORK/shop-curl" -sSN -m 30 --compressed -o "$WORK/events" $web/events
first() { [ "$(cat "$WORK/events")" = "data: one" ]; }
holds event-at-once wait_for 10 first
: >"$WORK/go"
second() { grep -q two "$WORK/events"; }
holds event-after-it wait_for 10 second
same events-were-coded "$packed" "$(fields /events "${gz[@]}")"
apply < <(base && compressor origin ANY 'disable_on_etag_header: true')
same etag-forbids 'content-length: 5000 etag: "a"' "$(fields '/text/5000?ETag="a"' "${gz[@]}")"
same without-etag "$packed" "$(fields '/text/5000' "${gz[@]}")"
apply < <(base && compressor origin ANY 'weaken_etag_on_compress: true')
same weakened "content-encoding: gzip etag: w/\"a\" transfer-encoding: chunked vary: accept-encoding" "$(fields '/text/5000?ETag="a"' "${gz[@]}")"
metrics() { curl -sS -m 10 -o "$WORK/metrics" "http://127.0.0.1:$METRICS/metrics" && cat "$WORK/metrics"; }
holds counted test "$(metrics | sed -n 's/^flat_compressor_bytes_total{kind="uncompressed"} //p')" -gt 27000000
apply < <(base && compressor origin ANY 'common_config: { enabled: { default_value: false } }')
same switched-off 'content-length: 5000' "$(fields /text/5000 "${gz[@]}")"

# --- check ---

{ base && compressor origin ANY 'status_header_enabled: true' && compressor origin ANY | sed 's/name: compressor,/name: c2,/; s/gzip.compressor.v3.Gzip/brotli.compressor.v3.Brotli/' && compressor origin ANY '' 'window_bits: 16' | sed 's/name: compressor,/name: c3,/'; } >"$WORK/check.yaml"
OUT=$(flatctl check "$WORK/check.yaml" 2>&1)
holds check-field grep -qE 'check.yaml:[0-9]+:[0-9]+: .*status_header_enabled' <<<"$OUT"
holds check-library grep -qE 'check.yaml:[0-9]+:[0-9]+: .*of the libraries gzip alone is' <<<"$OUT"
holds check-number grep -qE 'check.yaml:[0-9]+:[0-9]+: .*16' <<<"$OUT"
