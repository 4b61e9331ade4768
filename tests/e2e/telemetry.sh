#!/bin/bash
# Telemetry, after Istio's documentation tasks "Envoy access logs" and "Configure access logs with Telemetry API": who is
# logged, in what format, by which filter. Unmodified curl and a server of our own under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl

port && A=$PORT
port && RAW=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
cp "$(command -v curl)" "$WORK/shop-curl"
TEXT=$WORK/text.log
JSON=$WORK/json.log

base() {
	local w
	for w in origin:python shop:curl; do
		cat <<END
---
apiVersion: mesh.libflat.io/v1
kind: Workload
metadata: { name: ${w%:*}, namespace: e2e, labels: { app: ${w%:*} } }
spec: { serviceAccount: ${w%:*}, selectors: [{ executable: $WORK/${w%:*}-${w#*:} }] }
END
	done
	service raw 240.9.13.2 80 "$RAW"
	entry origin 240.9.13.1 http "$A"
	cat <<END
---
kind: MeshConfig
extensionProviders:
- name: text
  envoyFileAccessLog: { path: $TEXT }
- name: short
  envoyFileAccessLog:
    path: $TEXT
    logFormat: { text: "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %REQ(X-A?X-B):3% %RESP(X-NAME)% %UPSTREAM_CLUSTER% %START_TIME(%Y)% %%" }
- name: json
  envoyFileAccessLog:
    path: $JSON
    logFormat:
      labels: { code: "%RESPONSE_CODE%", line: "%PROTOCOL% %RESPONSE_CODE%", none: "%REQ(X-NONE)%", who: { client: "%DOWNSTREAM_PEER_URI_SAN%", server: "%UPSTREAM_PEER_URI_SAN%" }, id: "%REQ(X-REQUEST-ID)%" }
${MESH:-}
END
}
# telemetry NAME NAMESPACE SPEC
telemetry() {
	printf -- '---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: { name: %s, namespace: %s }\nspec: { %s }\n' "$@"
}
SELECT='selector: { matchLabels: { app: origin } }'

base >"$CONFIG"
start_flatd
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
start raw over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$RAW" raw
listeners() { [ "$(state "len(s['listeners'])")" -ge 2 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"
url=http://origin.e2e.example
shop() { over "$WORK/shop-curl" -sS -m 20 "$@" 2>&1; }
code() { shop -o /dev/null -w '%{http_code}' "$@"; }
has() { grep -qE -- "$2" "$1"; }
logged() { wait_for 10 has "$1" "$2"; }
fresh() { : >"$TEXT"; : >"$JSON"; }

# --- nothing is asked for ---

same unobserved 200 "$(code $url/echo)"
holds no-file test ! -e "$TEXT"
HEADERS=$(shop $url/echo | "$PYTHON" -c 'import json, sys; print(sorted(n.lower() for n, v in json.load(sys.stdin)["headers"]))')
holds no-headers-added grep -qv x-request-id <<<"$HEADERS"

# --- the whole mesh, Istio's format ---

fresh
apply < <(base && telemetry mesh istio-system 'accessLogging: [{ providers: [{ name: text }] }]')
same mesh-wide 200 "$(code -A tester $url/echo?q=1)"
logged "$TEXT" 'q=1'
holds istio-format has "$TEXT" '^\[[0-9T:.Z-]+\] "GET /echo\?q=1 HTTP/1.1" 200 - via_upstream - "-" 0 [0-9]+ [0-9]+ [0-9]+ "-" "tester" "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}" "origin.e2e.example" "127.0.0.1:'"$A"'" outbound\|80\|\|origin.e2e.example - 240.9.13.1:80 [0-9.:]+ - default$'
same one-line-for-both-sides 1 "$(grep -c 'q=1' "$TEXT")"
same tcp 200 "$(code http://raw.e2e.example/tcp)"
logged "$TEXT" '240.9.13.2:80'
holds tcp-line has "$TEXT" '^\[[0-9T:.Z-]+\] "- - -" 0 - - - "-" [1-9][0-9]* [1-9][0-9]* [0-9]+ - "-" "-" "-" "-" "127.0.0.1:'"$RAW"'" outbound\|80\|\|raw.e2e.example - 240.9.13.2:80 [0-9.:]+ - -$'
OUT=$(shop -H 'x-request-id: mine"' $url/echo)
holds request-id-stays grep -q 'mine' <<<"$OUT"
logged "$TEXT" 'mine'
holds quotes-are-escaped has "$TEXT" '"mine\\""'
ID=$(shop $url/echo | "$PYTHON" -c 'import json, sys; print(dict((n.lower(), v) for n, v in json.load(sys.stdin)["headers"])["x-request-id"])')
holds request-id-is-sent logged "$TEXT" "\"$ID\""

# --- formats of one's own ---

fresh
apply < <(base && telemetry mesh istio-system 'accessLogging: [{ providers: [{ name: short }, { name: json }] }]')
shop -H 'x-b: abcdef' -o /dev/null $url/status/404
YEAR=$(date -u +%Y)
logged "$TEXT" status/404
same own-text "GET /status/404 404 abc a outbound|80||origin.e2e.example $YEAR %" "$(cat "$TEXT")"
logged "$JSON" 404
same own-json "404 HTTP/1.1 404 None spiffe://cluster.local/ns/e2e/sa/shop spiffe://cluster.local/ns/e2e/sa/origin 36" "$("$PYTHON" -c '
import json
t = json.loads(open("'"$JSON"'").readline())
print(t["code"], t["line"], t["none"], t["who"]["client"], t["who"]["server"], len(t["id"]))')"

# --- who: namespace over mesh, workload over namespace, sides ---

fresh
apply < <(base && telemetry mesh istio-system 'accessLogging: [{ providers: [{ name: text }] }]' && telemetry ns e2e 'accessLogging: [{ disabled: true }]')
same namespace-off 200 "$(code $url/echo?off)"
apply < <(base && telemetry mesh istio-system 'accessLogging: [{ providers: [{ name: text }] }]' && telemetry ns e2e 'accessLogging: [{ disabled: true }]' &&
	telemetry origin e2e "$SELECT, accessLogging: [{ disabled: false }]")
same workload-on 200 "$(code $url/echo?on)"
logged "$TEXT" 'echo\?on'
holds server-tells-it has "$TEXT" "echo\?on.* inbound\|$A\|\| "
same off-is-off 0 "$(grep -c 'echo?off' "$TEXT")"
fresh
apply < <(base && telemetry origin e2e "$SELECT, accessLogging: [{ match: { mode: CLIENT }, providers: [{ name: text }] }]" && telemetry json e2e 'accessLogging: [{ match: { mode: SERVER }, providers: [{ name: json }] }]')
same sides 200 "$(code $url/echo?sides)"
logged "$JSON" 200
same client-mode-of-a-server 0 "$(grep -c sides "$TEXT")"

# --- filters ---

fresh
apply < <(base && telemetry mesh istio-system "accessLogging: [{ providers: [{ name: text }], filter: { expression: \"response.code >= 500 || request.url_path.startsWith('/echo/x') || 'x-log' in request.headers\" } }]")
for path in /echo/y /status/200 /status/404; do code $url$path >/dev/null; done
code $url/echo/x >/dev/null
code -H 'x-log: 1' $url/echo/z >/dev/null
same filtered-answer 503 "$(code $url/status/503)"
logged "$TEXT" '/status/503'
same filter '/echo/x /echo/z /status/503 ' "$(sed -nE 's/.*"GET ([^ ]+) HTTP.*/\1/p' "$TEXT" | sort | tr '\n' ' ')"
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/shop 2>&1)
holds why grep -qE "access log of the client's side: text to $TEXT, by istio-system/mesh \(.*mesh.yaml:[0-9]+\), where response.code >= 500" <<<"$OUT"

# --- files ---

mv "$TEXT" "$WORK/moved"
kill -USR1 "$FLATD"
again() { code $url/status/500 >/dev/null; [ -s "$TEXT" ]; }
holds reopened wait_for 10 again
holds moved-file-ended test "$(grep -c status/500 "$WORK/moved")" -le 1

# --- MeshConfig alone ---

fresh
MESH="accessLogFile: $TEXT
accessLogEncoding: JSON
accessLogFormat: '{\"p\": \"%REQ(:PATH)%\", \"ms\": \"%DURATION%\"}'"
apply < <(base)
same mesh-config 200 "$(code $url/echo?mesh)"
logged "$TEXT" mesh
holds mesh-config-json "$PYTHON" -c 'import json; t = json.loads(open("'"$TEXT"'").readlines()[-1]); assert t["p"] == "/echo?mesh" and type(t["ms"]) is int, t'
MESH=

# --- check ---

check() { flatctl check "$WORK/check.yaml" 2>&1; }
{ base && telemetry mesh istio-system 'accessLogging: [{ providers: [{ name: nobody }], filter: { expression: "wrong(" } }]'; } >"$WORK/check.yaml"
OUT=$(check)
holds check-provider grep -q 'there is no provider "nobody" for access logs' <<<"$OUT"
holds check-filter grep -q 'filter "wrong(": .*so everything is logged' <<<"$OUT"
sed -i 's/%START_TIME(%Y)%/%WHAT%/' "$WORK/check.yaml"
holds check-format grep -q 'at "%WHAT% %%": there is no such operator' <<<"$(check)"
