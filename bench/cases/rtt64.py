"""64-byte round trips, one at a time."""

import json
import re

from case import Case
from procs import RunError, listening, run


def serve_flatperf(site):
    if site.transport == "bare":
        return
    site.programs.start_with_ready_fd(
        "flatperf-server", site.flatperf("server", "-i", "127.0.0.1", "-p", site.port, "-F", "r"),
        site.env)


def measure_flatperf(site):
    if site.transport == "bare":
        out = run([site.context.program("barering"), "ping-pong", str(site.seconds)], site.env)
        return json.loads(out)["latency_us"]["p50"]
    out = run(site.flatperf("ping-pong", "-i", site.host, "-p", site.client_port, "-m", 64,
                            "-t", site.seconds, "--full-rtt", "--verify", "--json"), site.env)
    return json.loads(out)["latency_us"]["p50"]


def serve_sockperf(site):
    site.programs.start(
        "sockperf-server", site.command("sockperf", "server", "--tcp", "-i", "127.0.0.1",
                                        "-p", site.port),
        site.env, ready=lambda _p: listening(site.port))


# sockperf has room for 600,000 round trips a second and fails beyond that: paced a little below.
MPS = 500000


def measure_sockperf(site):
    out = run(site.command("sockperf", "ping-pong", "--tcp", "-i", site.host, "-p",
                           site.client_port, "-m", 64, "-t", max(1, round(site.seconds)), "--mps", MPS,
                           "--full-rtt", "--data-integrity"), site.env)
    p50 = re.search(r"percentile 50\.000 *= *([0-9.]+)", out)
    if not p50 or re.search(r"# (?:dropped|duplicated) messages = [1-9]", out):
        raise RunError(f"sockperf: {out.strip().splitlines()[-1:]}")
    return float(p50.group(1))


CASES = [
    Case(name="rtt64", title="64-byte round trip, flatperf (p50)", unit="us", better="lower",
         serve=serve_flatperf, measure=measure_flatperf,
         ways=("kernel", "api", "api-forwarded", "haproxy", "envoy"),
         bars={"api": "1.5 us or less", "api-forwarded": "15 us or less; 8 us is the goal"}),
    Case(name="rtt64-sockperf", title="64-byte round trip, unmodified sockperf (p50)", unit="us",
         better="lower", serve=serve_sockperf, measure=measure_sockperf,
         ways=("kernel", "shim", "shim-forwarded"), needs=("sockperf",),
         bars={"shim": "3 us or less; 1 us is the goal"}),
    Case(name="rtt64-bare", title="64-byte round trip beside a bare ring (p50)", unit="us",
         better="lower", serve=serve_flatperf, measure=measure_flatperf, ways=("bare", "api"),
         bars={"api": "0.8x the bare ring"}),
]
