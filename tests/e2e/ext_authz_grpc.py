"""
An external authorizer over gRPC (envoy.service.auth.v3.Authorization/Check), as Istio's sample: `ext_authz_grpc.py PORT`.
"x-ext-authz: allow" is allowed, "unsayable" with a header that none can be, "error" is an error, "failed" one with an answer, "login" is sent elsewhere with 302, "teapot" denied with 418 and a body;
anything else is denied without a word. What it was asked goes back in x-ext-authz-asked. `ext_authz_grpc.py PORT FILE`: about a
connection FILE says what is to be said, "wait" until it says another thing; FILE.asked gets a line for each question.
"""

import os
import sys
import time
from concurrent import futures

import grpc
from protobuf_fields import fields, one, put


def header(name, value, append=False):
    return put(1, put(1, name) + put(2, value)) + (put(2, put(1, 1)) if append else b"")


def peer(message):
    p = fields(message)
    socket = fields(one(fields(one(p, 1)), 1))
    return one(p, 4).decode() + "@" + one(socket, 2).decode()


def asked(context):
    http = fields(one(fields(one(context, 4)), 2))
    headers = {}
    for entry in http.get(3, []):
        e = fields(entry)
        headers[one(e, 1).decode()] = one(e, 2).decode()
    size = one(http, 9, 0)
    told = [one(http, n).decode() for n in (2, 5, 4, 6, 10)] + [
        str(size if size < 1 << 63 else size - (1 << 64)),
        peer(one(context, 1)),
        peer(one(context, 2)),
        "text:" + one(http, 11).decode("latin-1") + " bytes:" + one(http, 12).decode("latin-1"),
    ]
    return headers, " ".join(told) + " " + ",".join(sorted(headers))


def word():
    with open(sys.argv[2], encoding="ascii") as file:
        return file.read().strip()


def check_connection(attributes, call):
    """As a check of Envoy's network filter: nothing but the two sides."""
    with open(sys.argv[2] + ".asked", "a", encoding="ascii") as file:
        print(peer(one(attributes, 1)), peer(one(attributes, 2)), *sorted(attributes), file=file)
    while word() == "wait" and call.is_active():
        time.sleep(0.02)
    want = word()
    if want == "error":
        call.abort(grpc.StatusCode.UNAVAILABLE, "not today")
    if want == "garbage":
        return b"\xff\xff\xff"
    return b"" if want == "empty" else put(1, b"" if want == "allow" else put(1, 7))


def check(request, context):
    attributes = fields(one(fields(request), 1))
    if 4 not in attributes:
        return check_connection(attributes, context)
    headers, told = asked(attributes)
    want = headers.get("x-ext-authz", "")
    said = put(2, header("x-ext-authz-asked", told)) + put(2, header("x-joined", headers.get("x-many", "-")))
    if want == "error":
        context.abort(grpc.StatusCode.UNAVAILABLE, "not today")
    if want == "garbage":
        return b"\xff\xff\xff"
    if want == "allow":
        ok = (
            said
            + put(2, header("x-own", "set"))
            + put(2, header("x-more", "second", append=True))
            + put(2, header("host", "forged.example"))
            + put(2, header("x-none", "nothing", append=True))
            + put(5, "x-gone")
            + put(6, header("x-ext-authz-check-result", "allowed"))
            + put(6, header("x-name", "set") + put(3, 2))
            + put(7, put(1, "a") + put(2, "set"))
            + put(8, "gone")
        )
        return put(1, b"") + put(3, ok)
    if want == "unsayable":
        return put(1, b"") + put(3, put(2, header("x-bad", "a\r\nx-forged: 1")))
    if want == "failed":
        return put(1, put(1, 14)) + put(5, put(1, put(1, 507)) + put(2, header("x-why", "full")) + put(3, "full\n"))
    denied = said
    if want == "login":
        denied += put(1, put(1, 302)) + put(2, header("location", "/login"))
    if want == "teapot":
        denied += put(1, put(1, 418)) + put(3, "short and stout\n")
    return put(1, put(1, 7)) + put(2, denied)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    method = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})]
    )
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


main()
