"""Istio's certificate service: signs what is asked for with `flatctl ca`'s authority, by openssl. A token is the name of an account, or `node`."""
import datetime
import os
import re
import subprocess
import sys
import tempfile
from concurrent import futures

import grpc

from spire_part import field


def say(*words):
    print(*words, flush=True)


def fields(data):
    """The fields of a message: number, value."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            b = data[at]
            at += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            at += value
            yield key >> 3, data[at - value:at]
        else:
            yield key >> 3, value


def impersonated(metadata):
    """Of a Struct: the string ImpersonatedIdentity."""
    for _, entry in fields(metadata):
        pair = dict(fields(entry))
        if pair[1] == b"ImpersonatedIdentity":
            return dict(fields(pair[2]))[3].decode()
    return None


CONFIG = """
[ca]
default_ca = it
[it]
database = {tmp}/index
new_certs_dir = {tmp}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
organizationName = optional
"""


def sign(ca, csr, uri, seconds):
    with tempfile.TemporaryDirectory() as tmp:
        open(f"{tmp}/index", "w").close()
        for name, text in (("conf", CONFIG.format(tmp=tmp)), ("csr", csr),
                           ("ext", f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                                   f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=critical,URI:{uri}\n")):
            with open(f"{tmp}/{name}", "w") as f:
                f.write(text)
        now = datetime.datetime.now(datetime.timezone.utc)
        end = now + datetime.timedelta(seconds=seconds)
        start = now - datetime.timedelta(seconds=60)
        subprocess.run(["openssl", "ca", "-batch", "-notext", "-config", f"{tmp}/conf", "-in", f"{tmp}/csr", "-subj", "/O=istio",
                        "-cert", f"{ca}/ca.crt", "-keyfile", f"{ca}/ca.key", "-extfile", f"{tmp}/ext", "-out", f"{tmp}/crt",
                        "-startdate", start.strftime("%Y%m%d%H%M%SZ"), "-enddate", end.strftime("%Y%m%d%H%M%SZ")],
                       check=True, capture_output=True)
        with open(f"{tmp}/crt", "rb") as f:
            return f.read()


def asked_uri(csr):
    text = subprocess.run(["openssl", "req", "-noout", "-text", "-verify"], input=csr.encode(), capture_output=True, check=True).stdout
    found = re.search(rb"URI:(\S+)", text)
    return found.group(1).decode() if found else None


def serve(address, ca, folder, seconds):
    with open(f"{folder}/roots", "rb") as f:
        roots = f.read()

    def create(request, context):
        token = dict(context.invocation_metadata()).get("authorization", "")
        cluster = dict(context.invocation_metadata()).get("clusterid")
        account = token.removeprefix("Bearer ")
        if not token.startswith("Bearer ") or account not in ("node", "server", "other"):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        m = dict(fields(request))
        csr = m[1].decode()
        uri = f"spiffe://cluster.local/ns/e2e/sa/{account}"
        if account == "node":
            uri = impersonated(m[4])
            if uri != asked_uri(csr):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is for another name")
        if account == "other":
            uri = "spiffe://cluster.local/ns/e2e/sa/other"
        say("signs", uri, "for", account, cluster, m[3])
        return field(1, sign(ca, csr, uri, seconds)) + field(1, roots)

    handler = grpc.method_handlers_generic_handler("istio.v1.auth.IstioCertificateService", {
        "CreateCertificate": grpc.unary_unary_rpc_method_handler(create, lambda b: b, lambda b: b)})
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    with open(f"{folder}/tls.key", "rb") as key, open(f"{folder}/tls.crt", "rb") as crt:
        server.add_secure_port(address, grpc.ssl_server_credentials([(key.read(), crt.read())]))
    server.start()
    say("serving")
    server.wait_for_termination()


if __name__ == "__main__":
    serve(*sys.argv[1:4], int(sys.argv[4]))
