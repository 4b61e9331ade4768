"""
A rate limit service (envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit): `rate_limit_service.py PORT`. Each descriptor
that ends with "user" or "path" has 3 requests a minute for each of its values, one that ends with "wide" 1000 an hour; others
have no limit. Of a last value "error" it is an error, "garbage" no message, "slow" never answered. What it was asked goes back
in x-limiter, and over how many connections it was asked so far in x-limiter-peers.
"""

import sys
import threading
import time
from concurrent import futures

import grpc
from protobuf_fields import fields, one, put

OK, OVER_LIMIT = 1, 2
MINUTE, HOUR = 2, 3
LIMITS = {"user": (3, MINUTE, "per-user"), "path": (3, MINUTE, ""), "wide": (1000, HOUR, "")}
used, peers, lock = {}, set(), threading.Lock()


def header(name, value):
    return put(1, name) + put(2, value)


def status(entries, hits):
    """A DescriptorStatus, and whether it is one too many."""
    if entries[-1][0] not in LIMITS:
        return put(1, OK), False
    limit, unit, name = LIMITS[entries[-1][0]]
    with lock:
        used[entries] = used.get(entries, 0) + hits
        left = max(limit - used[entries], 0)
        over = used[entries] > limit
    current = put(1, limit) + put(2, unit) + put(3, name)
    return put(1, OVER_LIMIT if over else OK) + put(2, current) + put(3, left) + put(4, put(1, 60)), over


def should_rate_limit(request, context):
    message = fields(request)
    with lock:
        peers.add(context.peer())
        n_peers = len(peers)
    told, statuses, over, last = [one(message, 1).decode()], b"", False, ""
    for descriptor in message.get(2, []):
        d = fields(descriptor)
        entries = tuple((one(fields(e), 1).decode(), one(fields(e), 2).decode()) for e in d.get(1, []))
        hits = one(fields(d[3][0]), 1, 0) if 3 in d else 1
        told.append(",".join(f"{k}={v}" for k, v in entries) + (f"+{hits}" if 3 in d else ""))
        one_status, one_over = status(entries, hits)
        statuses += put(2, one_status)
        over |= one_over
        last = entries[-1][1]
    if last == "error":
        context.abort(grpc.StatusCode.UNAVAILABLE, "not today")
    if last == "garbage":
        return b"\xff\xff\xff"
    while last == "slow" and context.is_active():
        time.sleep(0.02)
    answer = put(1, OVER_LIMIT if over else OK) + statuses
    answer += put(3, header("x-limiter", " ".join(told))) + put(3, header("x-limiter-peers", str(n_peers)))
    answer += put(3, header("content-length", "7")) + put(3, header("x-bad", "a\r\nx-forged: 1"))
    answer += put(4, header("x-limited-by", "us")) + put(4, header("host", "forged.example"))
    return answer + (put(5, "slow down\n") if over else b"")


def main():
    server = grpc.server(futures.ThreadPoolExecutor(16))
    method = grpc.unary_unary_rpc_method_handler(should_rate_limit)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "envoy.service.ratelimit.v3.RateLimitService", {"ShouldRateLimit": method}
            )
        ]
    )
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


main()
