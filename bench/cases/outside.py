"""What flat-run costs a program on sockets that the mesh has nothing to do with."""

import json

from case import Case
from procs import run


def serve(site):
    # The server is no part of it: it runs as it is, at the address itself.
    site.programs.start_with_ready_fd(
        "flatperf-server", [site.context.flatperf, "server", "-i", "127.0.0.1", "-p",
                            str(site.port), "-F", "r"], None)


def measure(site):
    out = run(site.command(site.context.flatperf, "ping-pong", "-i", "127.0.0.1", "-p", site.port,
                           "-m", 64, "-t", site.seconds, "--full-rtt", "--json"), site.env)
    return json.loads(out)["latency_us"]["p50"]


CASES = [
    Case(name="outside", title="64-byte round trip of the kernel's, outside the mesh (p50)",
         unit="us", better="lower", serve=serve, measure=measure, ways=("kernel", "shim-outside"),
         bars={"shim-outside": "0.99x kernel"}),
]
