"""More threads than processors: eight round trips at once on two processors."""

import json
import os

from case import Case
from procs import run

PAIRS = 8


def two():
    return ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:2])


def serve(site):
    site.programs.start_with_ready_fd(
        "flatperf-server", ["taskset", "-c", two(), *site.flatperf(
            "server", "-i", "127.0.0.1", "-p", site.port, "-F", "r")], site.env)


def measure(site):
    out = run(["taskset", "-c", two(), *site.flatperf(
        "ping-pong", "-i", site.host, "-p", site.client_port, "-c", PAIRS, "-m", 64,
        "-t", site.seconds, "--verify", "--json")], site.env)
    return json.loads(out)["messages_per_s"] * 1e-3


CASES = [
    Case(name="pairs8", title=f"{PAIRS} pairs of threads on 2 processors, 64-byte round trips",
         unit="k round trips/s", better="higher", serve=serve, measure=measure,
         ways=("kernel", "api", "api-forwarded"), needs=("taskset",), bars={"api": "1x kernel"}),
]
