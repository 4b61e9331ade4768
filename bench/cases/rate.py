"""Messages of 8 bytes one way, a send() each, beside a ring in shared memory with nothing around it."""

import json

from case import Case
from procs import RunError, run


def serve(site):
    if site.transport == "bare":
        return
    site.programs.start_with_ready_fd(
        "flatperf-server", site.flatperf("server", "-i", "127.0.0.1", "-p", site.port, "-F", "r"),
        site.env)


def measure(site):
    if site.transport == "bare":
        out = run([site.context.program("barering"), "rate", str(site.seconds)], site.env)
    else:
        out = run(site.flatperf("rate", "-i", site.host, "-p", site.client_port,
                                "-t", site.seconds, "--json"), site.env)
    value = json.loads(out)["messages_per_s"] * 1e-6
    if value <= 0:
        raise RunError("no messages")
    return value


CASES = [
    Case(name="rate8", title="Messages of 8 bytes, a send() each", unit="M msg/s", better="higher",
         serve=serve, measure=measure, ways=("bare", "api", "kernel"),
         bars={"api": "20 M/s, or 0.85x the bare ring"}),
]
