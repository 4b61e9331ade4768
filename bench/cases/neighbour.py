"""A quiet program's round trips beside a noisy one that sends as fast as it can through the same flatd."""

import json
import subprocess

from case import Case
from procs import run


def serve(site):
    # As programs of two tenants: a server each.
    for name, port in (("quiet", site.port), ("noisy", site.ports[1])):
        site.programs.start_with_ready_fd(
            f"flatperf-{name}", site.flatperf("server", "-i", "127.0.0.1", "-p", port, "-F", "e"),
            site.env)


def p99(site):
    out = run(site.flatperf("ping-pong", "-i", site.host, "-p", site.client_port, "-m", 64,
                            "--mps", 5000, "-t", site.seconds, "--full-rtt", "--json"), site.env)
    return json.loads(out)["latency_us"]["p99"]


def measure(site):
    alone = p99(site)
    noisy = site.programs.start(
        "flatperf-noise", site.flatperf("throughput", "-i", site.host, "-p", site.ports[1], "-m", 65536,
                                        "-t", site.seconds + 1), site.env)
    beside = p99(site)
    try:
        noisy.process.wait(site.seconds + 30)
    except subprocess.TimeoutExpired:
        noisy.check()
    site.programs.started.remove(noisy)
    if noisy.process.returncode != 0:
        noisy.check()
    return beside / alone


CASES = [
    Case(name="neighbour", title="p99 of 64-byte round trips, 5,000 a second, beside a noisy neighbour, as a multiple of alone",
         unit="times", better="lower", serve=serve, measure=measure,
         ways=("kernel", "api-forwarded"), bars={"api-forwarded": "2 or less"}, servers=2),
]
