"""Connections per second: connect, one byte each way, close; one after the other."""

import json

from case import Case
from procs import run


def serve_with(threads):
    def serve(site):
        site.programs.start_with_ready_fd(
            "flatperf-server", site.flatperf("server", "-i", "127.0.0.1", "-p", site.port,
                                             "-F", "e", "--threads", threads), site.env)
    return serve


def measure_with(clients):
    def measure(site):
        out = run(site.flatperf("connect", "-i", site.host, "-p", site.client_port, "-c", clients,
                                "-t", site.seconds, "--json"), site.env)
        return json.loads(out)["connections_per_s"] * 1e-3
    return measure


CASES = [
    Case(name="connect", title="Connections, one byte each way", unit="k conn/s", better="higher",
         serve=serve_with(1), measure=measure_with(1),
         ways=("kernel", "api", "api-forwarded", "haproxy", "envoy"), bars={"api": "1x kernel"}),
    Case(name="connect-threads", title="Connections, one byte each way, 4 client and 2 server threads",
         unit="k conn/s", better="higher", serve=serve_with(2), measure=measure_with(4),
         ways=("kernel", "api", "api-forwarded", "haproxy", "envoy"),
         bars={"api": "2x kernel; 5x two Envoys"}),
]
