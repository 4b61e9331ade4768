#!/bin/bash
# RequestAuthentication, and what policies say of tokens, after Istio's documentation tasks "JWT Token", "Request
# authentication" and "Copy JWT Claims to HTTP Headers". Unmodified curl and a server of our own under flat-run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl

port && A=$PORT
port && KEYS=$PORT
port && TLS=$PORT
port && NOBODY=$PORT
cp "$(readlink -f "$PYTHON")" "$WORK/origin-python"
jwt() { "$PYTHON" -B "$E2E_ROOT/tests/e2e/jwt.py" "$WORK" "$@"; }
jwt key one && jwt key two || die keys
ISS=testing@secure.istio.io
ONE=$(jwt jwks one)
TWO=$(jwt jwks two)
claims() { echo "{\"iss\":\"$ISS\",\"sub\":\"$ISS\",\"exp\":4685989700${1:-}}"; }
GOOD=$(jwt token one "$(claims)")
GROUPS_1=$(jwt token one "$(claims ',"groups":["group1","group2"],"scope":"read write","foo":"bar","nested":{"key":["v1"]},"n":7,"yes":true')")
OTHER=$(jwt token two "$(claims)")

base() {
	workload origin "$WORK/origin-python"
	entry origin 240.9.10.1 http "$A"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: keys, namespace: e2e }
spec:
  hosts: [keys.e2e.example]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{ number: 8000, name: http, protocol: HTTP }]
  endpoints: [{ address: 127.0.0.1, ports: { http: $KEYS } }]
END
}
# authn RULES: for the origin.
authn() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: jwt, namespace: e2e }\n'
	printf 'spec: { selector: { matchLabels: { app: origin } }, jwtRules: %s }\n' "$1"
}
policy() {
	printf -- '---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: %s, namespace: e2e }\n' "$1"
	printf 'spec: { selector: { matchLabels: { app: origin } }, %s }\n' "$2"
}
rule() { echo "{ issuer: $ISS, jwks: '$ONE'${1:-} }"; }

openssl req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/tls.key" -out "$WORK/tls.crt" -days 30 -subj /CN=127.0.0.1 \
	-addext subjectAltName=IP:127.0.0.1 2>/dev/null || die certificate
echo "$ONE" >"$WORK/served"
serve keys "$KEYS" "$PYTHON" -B "$E2E_ROOT/tests/e2e/jwt.py" "$WORK" serve "$KEYS" "$WORK/served"
serve tls "$TLS" "$PYTHON" -B "$E2E_ROOT/tests/e2e/jwt.py" "$WORK" serve "$TLS" "$WORK/served" "$WORK/tls.crt" "$WORK/tls.key"

{ base && authn "[$(rule)]"; } >"$CONFIG"
export SSL_CERT_FILE=$WORK/tls.crt
start_flatd
unset SSL_CERT_FILE
start origin over "$WORK/origin-python" -B "$E2E_ROOT/tests/e2e/http_origin.py" "$A" a
listeners() { [ "$(state "len(s['listeners'])")" -ge 1 ]; }
wait_for 10 listeners || die servers "$(tail -n 3 "$WORK/origin.log")"
url=http://origin.e2e.example
ask() { over curl -sS -m 20 "$@" 2>&1; }
with() { ask -H "Authorization: Bearer $1" "${@:2}"; }
code() { "$@" -o /dev/null -w '%{http_code}' $url/echo; }
told() { "$PYTHON" -c 'import json, sys; t = json.load(sys.stdin); h = {n.lower(): v for n, v in t["headers"]}; print(eval(sys.argv[1]))' "$1"; }
header() { tr -d '\r' | sed -n "s/^$1: //pI"; }

# --- is it good ---

same without-token 200 "$(code ask)"
same good 200 "$(code with "$GOOD")"
same good-again 200 "$(code with "$GOOD")"
same not-forwarded False "$(with "$GOOD" $url/echo | told "'authorization' in h")"
OUT=$(with "$OTHER" -w ' %{http_code}' $url/echo)
same of-another-key "Jwks doesn't have key to match kid or alg from Jwt 401" "$OUT"
# The keys are new with every run: what the signature begins with is any character, so what takes its place depends on it.
SIGNATURE=${GOOD##*.}
case $SIGNATURE in x*) FORGED=${GOOD%.*}.y${SIGNATURE:1} ;; *) FORGED=${GOOD%.*}.x${SIGNATURE:1} ;; esac
same forged 'Jwt verification fails 401' "$(with "$FORGED" -w ' %{http_code}' $url/echo)"
same challenge "Bearer realm=\"$url/echo\", error=\"invalid_token\"" "$(with deadbeef -i $url/echo | header www-authenticate)"
same no-token-at-all 'Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections 401' \
	"$(with deadbeef -w ' %{http_code}' $url/echo)"
same expired 'Jwt is expired 401' "$(with "$(jwt token one "{\"iss\":\"$ISS\",\"exp\":1}")" -w ' %{http_code}' $url/echo)"
same early 'Jwt not yet valid 401' "$(with "$(jwt token one "{\"iss\":\"$ISS\",\"nbf\":4685989700}")" -w ' %{http_code}' $url/echo)"
same other-issuer 'Jwt issuer is not configured 401' "$(with "$(jwt token one '{"iss":"other"}')" -w ' %{http_code}' $url/echo)"
same alg-none 'Jwt header [alg] is not supported 401' \
	"$(with eyJhbGciOiJub25lIn0.e30.c2ln -w ' %{http_code}' $url/echo)"
same two-tokens 401 "$(code ask -H "Authorization: Bearer $GOOD" -H "Authorization: Bearer $FORGED")"
same two-good-tokens 401 "$(code ask -H "Authorization: Bearer $GOOD" -H "Authorization: Bearer $GOOD")"
same padded 200 "$(code with "$(jwt padded one "$(claims)")")"
same padded-too-much 401 "$(code with "$GOOD=")"
same empty-kid 200 "$(code with "$(jwt token one "$(claims)" '')")"
same out-of-range 'Jwt payload [exp] field is not a positive 64 bit integer 401' "$(with "$(jwt token one "{\"iss\":\"$ISS\",\"exp\":-1}")" -w ' %{http_code}' $url/echo)"
same keeps-the-connection 1 "$(with deadbeef -o /dev/null -o /dev/null -w '%{num_connects}\n' $url/echo $url/echo | awk '{ n += $1 } END { print n }')"
same plain-client 401 "$(curl -sS -m 20 -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $FORGED" "http://127.0.0.1:$A/echo")"
OUT=$(flatctl --control "$CONTROL" why "GET $url/echo" --from e2e/origin --header "Authorization: Bearer $FORGED" 2>&1)
holds why-names-the-rule grep -qE "token by rule .*mesh.yaml:[0-9]+ .*Jwt verification fails" <<<"$OUT"

# --- policies ---

apply < <(base && authn "[$(rule)]" && policy require "rules: [{ from: [{ source: { requestPrincipals: ['$ISS/$ISS'] } }] }]")
same policy-without-token 403 "$(code ask)"
same policy-with-token 200 "$(code with "$GOOD")"
same policy-bad-token 401 "$(code with "$FORGED")"
apply < <(base && authn "[$(rule)]" && policy require "rules: [{ when: [{ key: 'request.auth.claims[groups]', values: [group1] }, { key: 'request.auth.claims[nested][key]', values: [v1] },
  { key: 'request.auth.claims[scope]', values: [write] }] }]")
same claims-missing 403 "$(code with "$GOOD")"
same claims-there 200 "$(code with "$GROUPS_1")"
apply < <(base && authn "[$(rule)]" && policy deny "action: DENY, rules: [{ from: [{ source: { notRequestPrincipals: ['*'] } }], to: [{ operation: { paths: ['/echo'] } }] }]")
same deny-without-token 403 "$(code ask)"
same deny-with-token 200 "$(code with "$GOOD")"
same deny-elsewhere 200 "$(ask -o /dev/null -w '%{http_code}' $url/status/200)"

# --- what the server is told ---

apply < <(base && authn "[$(rule ", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{ header: x-foo, claim: foo }, { header: x-n, claim: n },
  { header: x-yes, claim: yes }, { header: x-none, claim: none }, { header: x-groups, claim: groups }, { header: x-nested, claim: nested }]")]" && policy foo "action: DENY, rules: [{ when: [{ key: 'request.headers[x-foo]', values: [forged] }] }]")
OUT=$(with "$GROUPS_1" -H 'x-foo: forged' -H 'x-none: forged' $url/echo)
same claims-to-headers "bar 7 true False" "$(told "h['x-foo'] + ' ' + h['x-n'] + ' ' + h['x-yes'] + ' ' + str('x-none' in h)" <<<"$OUT")"
same payload-to-header "$(cut -d. -f2 <<<"$GROUPS_1")" "$(told "h['x-payload']" <<<"$OUT")"
same claims-of-lists-and-objects '["group1","group2"] {"key":["v1"]}' "$(told "__import__('base64').b64decode(h['x-groups']).decode() + ' ' + __import__('base64').b64decode(h['x-nested']).decode()" <<<"$OUT")"
same forged-claim False "$(ask -H 'x-foo: forged' $url/echo | told "'x-foo' in h")"
apply < <(base && authn "[$(rule ', forwardOriginalToken: true')]")
same forwarded "Bearer $GOOD" "$(with "$GOOD" $url/echo | told "h['authorization']")"

# --- where tokens are ---

same by-param 401 "$(ask -o /dev/null -w '%{http_code}' "$url/echo?a=1&access_token=$FORGED")"
apply < <(base && authn "[$(rule ", fromHeaders: [{ name: x-jwt, prefix: 'T ' }], fromParams: [tok], fromCookies: [jwt]")]" && policy require "rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }]")
same own-header 200 "$(code ask -H "x-jwt: T $GOOD")"
same own-header-prefix 403 "$(code ask -H "x-jwt: $GOOD")"
same usual-header-no-more 403 "$(code with "$GOOD")"
same own-param "200 /echo?a=1&b=2" "$(ask -w '%{http_code} ' -o "$WORK/out" "$url/echo?a=1&tok=$GOOD&b=2")$(told "t['path']" <"$WORK/out")"
same own-cookie 200 "$(code ask -b "a=b; jwt=$GOOD")"
same own-cookie-twice 401 "$(code ask -b "jwt=$GOOD; a=b; jwt=$FORGED")"
same own-cookie-twice-good 200 "$(code ask -b "jwt=$GOOD; a=b; jwt=$GOOD")"
same own-param-twice 401 "$(ask -o /dev/null -w '%{http_code}' "$url/echo?tok=$GOOD&b=2&%74ok=$FORGED")"
same own-param-many 401 "$(ask -o /dev/null -w '%{http_code}' "$url/echo?$(printf "tok=$GOOD&%.0s" {1..17})")"
same own-cookie-bad 401 "$(code ask -b "a=b; jwt=$FORGED")"

# --- several rules ---

apply < <(base && authn "[$(rule), { issuer: second, audiences: [us], jwks: '$TWO' }]" && policy require "rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }]")
same first-of-two 200 "$(code with "$GOOD")"
same second-of-two 200 "$(code with "$(jwt token two '{"iss":"second","sub":"me","aud":["them","us"]}')")"
same not-their-audience 'Audiences in Jwt are not allowed 403' "$(with "$(jwt token two '{"iss":"second","sub":"me","aud":"them"}')" -w ' %{http_code}' $url/echo)"
same third-issuer 'Jwt issuer is not configured 401' "$(with "$(jwt token two '{"iss":"third"}')" -w ' %{http_code}' $url/echo)"

# --- tokens that have to be there, and issuers that do not ---

apply < <(base && authn "[$(rule ', presence: REQUIRED')]")
same required-missing 'Jwt is missing 401' "$(ask -w ' %{http_code}' $url/echo)"
same required-challenge "Bearer realm=\"$url/echo\"" "$(ask -i $url/echo | header www-authenticate)"
same required-good 200 "$(code with "$GOOD")"
same required-of-preflights-not 200 "$(code ask -X OPTIONS -H 'Origin: http://a.example' -H 'Access-Control-Request-Method: PUT')"
same required-of-other-options 401 "$(code ask -X OPTIONS -H 'Origin: http://a.example')"
apply < <(base && authn "[$(rule ', presence: REQUIRED'), { issuer: second, jwks: '$TWO' }]")
same required-of-one-missing 401 "$(code ask)"
same required-of-one-another-there 200 "$(code with "$(jwt token two '{"iss":"second"}')")"
apply < <(base && authn "[{ jwksUri: 'http://127.0.0.1:$KEYS/keys' }]")
same any-issuer 200 "$(code with "$(jwt token one '{"iss":"whoever"}')")"
same any-issuer-other-key 401 "$(code with "$(jwt token two '{"iss":"whoever"}')")"
apply < <(base && authn "[{ issuer: $ISS }]")
same no-keys-at-all 401 "$(code with "$GOOD")"
same no-keys-no-token 200 "$(code ask)"

# --- where keys are ---

echo "$ONE" >"$WORK/keys.json"
apply < <(base && authn "[{ issuer: $ISS, jwksUri: 'file://$WORK/keys.json' }]")
same keys-of-a-file 200 "$(code with "$GOOD")"
same keys-of-a-file-other 401 "$(code with "$OTHER")"
echo "$TWO" >"$WORK/keys.next" && mv "$WORK/keys.next" "$WORK/keys.json"
rotated() { [ "$(code with "$OTHER")" = 200 ] && [ "$(code with "$GOOD")" = 401 ]; }
holds keys-of-a-file-rotate wait_for 10 rotated
apply < <(base && authn "[{ issuer: $ISS, jwksUri: 'http://127.0.0.1:$KEYS/keys' }]")
same keys-by-http 200 "$(code with "$GOOD")"
apply < <(base && authn "[{ issuer: $ISS, jwksUri: 'http://keys.e2e.example:8000/keys' }]")
same keys-of-a-service 200 "$(code with "$GOOD")"
apply < <(base && authn "[{ issuer: $ISS, jwksUri: 'https://127.0.0.1:$TLS/keys' }]")
same keys-by-https 200 "$(code with "$GOOD")"
apply < <(base && authn "[{ issuer: $ISS, jwksUri: 'https://localhost:$TLS/keys' }]")
same keys-by-https-of-another-name 'Jwks remote fetch is failed 401' "$(with "$GOOD" -w ' %{http_code}' $url/echo)"
apply < <(base && authn "[{ issuer: $ISS, jwksUri: 'http://127.0.0.1:$NOBODY/keys' }]")
same keys-of-nobody 'Jwks remote fetch is failed 401' "$(with "$GOOD" -w ' %{http_code}' $url/echo)"
same keys-of-nobody-no-token 200 "$(code ask)"
holds keys-of-nobody-logged wait_for 10 grep -q "key set http://127.0.0.1:$NOBODY/keys: Connection refused" "$WORK/flatd.log"
echo '{"jwks_uri":"http://127.0.0.1:'"$KEYS"'/keys"}' >"$WORK/openid"
port && OPENID=$PORT
serve openid "$OPENID" "$PYTHON" -B "$E2E_ROOT/tests/e2e/jwt.py" "$WORK" serve "$OPENID" "$WORK/openid"
apply < <(base && authn "[{ issuer: 'http://127.0.0.1:$OPENID' }]")
same keys-by-discovery 200 "$(code with "$(jwt token one "{\"iss\":\"http://127.0.0.1:$OPENID\"}")")"

# --- connections from before ---

apply < <(base)
start before over "$PYTHON" -B -c '
import socket, sys, time
s = socket.create_connection(("origin.e2e.example", 80))
s.sendall(b"GET /status/200 HTTP/1.1\r\nHost: origin.e2e.example\r\n\r\n")
print("first", s.recv(100)[9:12], flush=True)
s.settimeout(20)
try:
    while s.recv(100):
        pass
    print("ended", flush=True)
except OSError:
    print("ended", flush=True)
'
holds before-is-there wait_for 10 grep -q "first b'200'" "$WORK/before.log"
apply < <(base && authn "[$(rule)]")
holds before-is-ended wait_for 10 grep -q ended "$WORK/before.log"
