#!/bin/bash
# TLS that flatd begins: applications speak in the clear, HTTP or anything else, servers outside the mesh see TLS, and are believed only as the
# DestinationRule says; certificates of ours, their rotation, HTTP/2, answers that are cut short.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
needs curl openssl nginx

for name in HOST OTHER MUTUAL H2 CUT ECHO SCHEME; do
	port && declare "$name=$PORT"
done
authority ca
authority other
issue ca host DNS:host.e2e.example
issue ca wild 'DNS:*.wild.example'
issue other stranger DNS:host.e2e.example
issue ca client URI:spiffe://example/client
head -c 5000000 /dev/urandom >"$WORK/big"
mkdir "$WORK/temp"

server() { # PORT CERTIFICATE [LISTEN-OPTIONS] [LINE]
	cat <<END
	server {
		listen 127.0.0.1:$1 ssl $3;
		ssl_certificate $WORK/$2.crt; ssl_certificate_key $WORK/$2.key; ssl_client_certificate $WORK/ca.crt; $4
		root $WORK;
		location = / { return 200 "\$server_protocol \$ssl_server_name \$ssl_client_s_dn \$http_host\\n"; }
	}
END
}
cat >"$WORK/nginx.conf" <<END
daemon off; master_process off; pid $WORK/nginx.pid; error_log $WORK/nginx-error.log;
events {}
http {
	access_log off; client_body_temp_path $WORK/temp; proxy_temp_path $WORK/temp; fastcgi_temp_path $WORK/temp;
	uwsgi_temp_path $WORK/temp; scgi_temp_path $WORK/temp;
$(server "$HOST" host '' '')
$(server "$OTHER" stranger '' '')
$(server "$MUTUAL" wild '' 'ssl_verify_client on;')
$(server "$H2" host http2 '')
}
END
serve nginx "$HOST" nginx -e "$WORK/nginx-error.log" -c "$WORK/nginx.conf"
serve scheme "$SCHEME" "$PYTHON" -B "$E2E_ROOT/tests/e2e/http2_origin.py" "$SCHEME" "$WORK/host.crt" "$WORK/host.key"
# An answer that the connection's end ends, and a connection that ends without a word of TLS.
serve cut "$CUT" "$PYTHON" -B -c '
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    plain = listener.accept()[0]
    try:
        s = context.wrap_socket(plain, server_side=True)
        request = s.recv(4096)
        s.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
        if b"/whole" in request:
            s.unwrap()
        s.close()
    except OSError as e:
        print(e, flush=True)
        plain.close()' "$CUT" "$WORK/host.crt" "$WORK/host.key"

# Bytes that are no HTTP: both ends of each way count, and what they carried.
serve echo "$ECHO" "$PYTHON" -B -c '
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    try:
        with context.wrap_socket(listener.accept()[0], server_side=True) as s:
            s.sendall(b"first %s\n" % str(s.selected_alpn_protocol()).encode())
            while piece := s.recv(65536):
                s.sendall(piece)
            s.unwrap()
    except OSError as e:
        print(e, flush=True)' "$ECHO" "$WORK/host.crt" "$WORK/host.key"

# entry NAME HOST PROTOCOL TARGET TLS: a service, and how its servers are spoken to.
entry() {
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: $1, namespace: e2e }
spec:
  hosts: ['$2']
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: port, protocol: $3, targetPort: $4 }]
  endpoints: [{ address: 127.0.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: $1, namespace: e2e }
spec: { host: '$2', trafficPolicy: { tls: { $5 } } }
END
}
CA="caCertificates: $WORK/ca.crt"
mesh() {
	entry host host.e2e.example HTTP "$HOST" "mode: SIMPLE, $CA"
	entry renamed renamed.e2e.example HTTP "$HOST" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry alt alt.e2e.example HTTP "$HOST" "mode: SIMPLE, $CA, subjectAltNames: [no.example, host.e2e.example]"
	entry wrong wrong.e2e.example HTTP "$HOST" "mode: SIMPLE, $CA"
	entry wrong-alt wrong-alt.e2e.example HTTP "$HOST" "mode: SIMPLE, $CA, subjectAltNames: [no.example]"
	entry stranger stranger.e2e.example HTTP "$OTHER" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry system system.e2e.example HTTP "$HOST" "mode: SIMPLE, sni: host.e2e.example"
	entry unverified unverified.e2e.example HTTP "$OTHER" "mode: SIMPLE, insecureSkipVerify: true"
	entry mutual mutual.wild.example HTTP "$MUTUAL" "mode: MUTUAL, $CA, clientCertificate: $WORK/client.crt, privateKey: $WORK/client.key"
	entry bare bare.wild.example HTTP "$MUTUAL" "mode: SIMPLE, $CA"
	entry secret secret.wild.example HTTP "$MUTUAL" "mode: MUTUAL, credentialName: ours"
	entry h2 h2.e2e.example HTTP2 "$H2" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry no-h2 no-h2.e2e.example HTTP2 "$HOST" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry scheme scheme.e2e.example HTTP2 "$SCHEME" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry cut cut.e2e.example HTTP "$CUT" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry tcp tcp.e2e.example TCP "$HOST" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry tcp-wrong tcp-wrong.e2e.example TCP "$HOST" "mode: SIMPLE, $CA"
	entry tcp-mutual tcp.wild.example TCP "$MUTUAL" "mode: MUTUAL, credentialName: ours"
	entry echo echo.e2e.example TCP "$ECHO" "mode: SIMPLE, $CA, sni: host.e2e.example"
	entry nofile nofile.e2e.example HTTP "$HOST" "mode: SIMPLE, caCertificates: $WORK/none.crt"
	cat <<END
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: any, namespace: e2e }
spec: { hosts: ['*.any.example'], addresses: [240.9.6.1], resolution: STATIC, ports: [{ number: 80, name: tcp, protocol: TCP }], endpoints: [{ address: 127.0.0.1 }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: any, namespace: e2e }
spec: { host: '*.any.example', trafficPolicy: { tls: { mode: SIMPLE } } }
---
apiVersion: v1
kind: Secret
metadata: { name: ours, namespace: e2e }
data: { tls.crt: $(base64 -w 0 "$WORK/client.crt"), tls.key: $(base64 -w 0 "$WORK/client.key"), ca.crt: $(base64 -w 0 "$WORK/ca.crt") }
END
}
mesh >"$CONFIG"
start_flatd

get() { over curl -s -m 10 "$@" 2>/dev/null; }
code() { get -o /dev/null -w '%{http_code}' "$@"; }
logged() { holds "$1-says-why" wait_for 10 grep -q "no TLS with $2.*$3" "$WORK/flatd.log"; }

same by-host 'HTTP/1.1 host.e2e.example  host.e2e.example' "$(get http://host.e2e.example/)"
same by-sni 'HTTP/1.1 host.e2e.example  renamed.e2e.example' "$(get http://renamed.e2e.example/)"
same by-alternative-name 'HTTP/1.1 alt.e2e.example  alt.e2e.example' "$(get http://alt.e2e.example/)"
same wrong-name 503 "$(code http://wrong.e2e.example/)"
logged wrong-name wrong.e2e.example '[Hh]ostname mismatch'
same wrong-alternative-name 503 "$(code http://wrong-alt.e2e.example/)"
same other-authority 503 "$(code http://stranger.e2e.example/)"
same not-an-authority-of-the-system 503 "$(code http://system.e2e.example/)"
same unverified 200 "$(code http://unverified.e2e.example/)"
same no-such-file 503 "$(code http://nofile.e2e.example/)"
holds no-such-file-says-why wait_for 10 grep -q 'TLS cannot be begun.*none.crt' "$WORK/flatd.log"
same mutual 'HTTP/1.1 mutual.wild.example CN=client mutual.wild.example' "$(get http://mutual.wild.example/)"
same mutual-by-secret 'HTTP/1.1 secret.wild.example CN=client secret.wild.example' "$(get http://secret.wild.example/)"
same without-certificate 400 "$(code http://bare.wild.example/)"
same http2 'HTTP/2.0 host.e2e.example  h2.e2e.example' "$(get http://h2.e2e.example/)"
# The scheme is the connection's: some servers take no other.
same http2-scheme https "$(get http://scheme.e2e.example/)"
same no-http2 503 "$(code http://no-h2.e2e.example/)"
logged no-http2 host.e2e.example 'no application protocol'
same large "$(hash_of <"$WORK/big")" "$(get http://host.e2e.example/big | hash_of)"
same keep-alive '200 200 200' "$(get -o /dev/null -o /dev/null -o /dev/null -w '%{http_code} ' http://host.e2e.example/{,big,} | xargs)"
same whole-answer 'half 0' "$(get http://cut.e2e.example/whole) $?"
OUT=$(get http://cut.e2e.example/cut)
holds cut-answer-is-an-error test $? -ne 0

# A port that is not HTTP: its bytes go as they are.
same tcp 'HTTP/1.1 host.e2e.example  tcp.e2e.example' "$(get http://tcp.e2e.example/)"
same tcp-large "$(hash_of <"$WORK/big")" "$(get http://tcp.e2e.example/big | hash_of)"
same tcp-wrong-name 000 "$(code http://tcp-wrong.e2e.example/)"
logged tcp-wrong-name tcp-wrong.e2e.example '[Hh]ostname mismatch'
same tcp-mutual 'HTTP/1.1 tcp.wild.example CN=client tcp.wild.example' "$(get http://tcp.wild.example/)"
# The server speaks first; then both ways at once, and the client's end before the server's.
echoed() {
	over "$PYTHON" -B -c '
import socket, sys, threading
data = open(sys.argv[1], "rb").read()
s = socket.create_connection(("echo.e2e.example", 80), timeout=30)
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
first = s.recv(1)
threading.Thread(target=send).start()
got = first + b"".join(iter(lambda: s.recv(65536), b""))
line, rest = got.split(b"\n", 1)
print(line.decode(), rest == data)' "$WORK/big" 2>&1
}
same tcp-both-ways 'first None True' "$(echoed)"
same tcp-why yes "$(flatctl --control "$CONTROL" why plain echo.e2e.example:80 | grep -q 'through flatd, which begins TLS' && echo yes)"
same tcp-without-a-name yes "$(flatctl --control "$CONTROL" why plain 240.9.6.1:80 | grep -q 'is no name to ask a server for: give it sni' && echo yes)"
holds routes-tell grep -q 'TLS SIMPLE as host.e2e.example' <(flatctl --control "$CONTROL" routes)

# Another certificate in the same files: what connects from then on shows it.
issue ca second URI:spiffe://example/second
mv "$WORK/second.key" "$WORK/client.key" && mv "$WORK/second.crt" "$WORK/client.crt"
shows() { [ "$(get http://mutual.wild.example/ | cut -d ' ' -f 3)" = "$1" ]; }
holds rotation wait_for 20 shows CN=second
