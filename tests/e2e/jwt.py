"""
Tokens and keys of our own, made with openssl's program: `jwt.py DIR COMMAND...`.
  key NAME              makes a key of 2048 bits
  jwks NAME...          prints the public halves as a key set
  token NAME CLAIMS [KID]   prints a token with these claims (JSON), signed RS256
  padded NAME CLAIMS    likewise, in base64 with padding
  serve PORT FILE [CRT KEY]   serves FILE to every GET, over TLS where a certificate is named
"""
import base64
import json
import os
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

DIR, COMMAND, ARGS = sys.argv[1], sys.argv[2], sys.argv[3:]


def path(name):
    return os.path.join(DIR, name + ".key")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*args, **more):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, **more).stdout


def key(name):
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path(name))


def jwks(*names):
    keys = []
    for name in names:
        text = openssl("rsa", "-in", path(name), "-noout", "-modulus").decode()
        n = bytes.fromhex(text.strip().split("=")[1])
        keys.append({"kty": "RSA", "kid": name, "n": b64(n), "e": "AQAB"})
    print(json.dumps({"keys": keys}))


def token(name, claims, kid=None, encode=b64):
    head = encode(json.dumps({"alg": "RS256", "kid": name if kid is None else kid, "typ": "JWT"}).encode())
    body = encode(claims.encode())
    signed = f"{head}.{body}".encode()
    print(signed.decode() + "." + encode(openssl("dgst", "-sha256", "-sign", path(name), input=signed)))


def padded(name, claims):
    token(name, claims, encode=lambda data: base64.urlsafe_b64encode(data).decode())


def serve(port, file, crt=None, private=None):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with open(file, "rb") as f:
                data = f.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = HTTPServer(("127.0.0.1", int(port)), Handler)
    if crt:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, private)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


globals()[COMMAND](*ARGS)
