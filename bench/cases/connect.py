"""Connections per second: connect, one byte each way, close; one after the other."""

import json

from case import Case
from procs import run


def serve(site):
    site.programs.start_with_ready_fd(
        "flatperf-server", site.flatperf("server", "-i", "127.0.0.1", "-p", site.port, "-F", "e"),
        site.env)


def measure(site):
    out = run(site.flatperf("connect", "-i", site.host, "-p", site.client_port,
                            "-t", site.seconds, "--json"), site.env)
    return json.loads(out)["connections_per_s"] * 1e-3


CASES = [
    Case(name="connect", title="Connections, one byte each way", unit="k conn/s", better="higher",
         serve=serve, measure=measure, ways=("kernel", "api", "api-forwarded", "haproxy", "envoy"),
         bars={"api": "1x kernel"}),
]
