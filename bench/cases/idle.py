"""CPU time while 1,000 open connections are silent: client, server, and what lies between."""

import time

from case import Case
from procs import cpu_seconds

CONNECTIONS = 1000


def serve(site):
    site.server = site.programs.start_with_ready_fd(
        "flatperf-server", site.flatperf("server", "-i", "127.0.0.1", "-p", site.port, "-F", "e"),
        site.env)


def measure(site):
    # The client holds longer than the window; it then checks that each connection still works.
    client = site.programs.start_with_ready_fd(
        "flatperf-hold", site.flatperf("connect", "-i", site.host, "-p", site.client_port,
                                       "--hold", CONNECTIONS, "-t", site.seconds + 3, "--json"),
        site.env, timeout=60)
    watched = [site.server, client]
    if site.mesh:
        watched.append(site.mesh.flatd)
    time.sleep(1)  # the last connections' own work is no part of idleness
    before = [cpu_seconds(p.pid) for p in watched]
    start = time.monotonic()
    time.sleep(site.seconds)
    used = sum(cpu_seconds(p.pid) - b for p, b in zip(watched, before))
    window = time.monotonic() - start
    client.process.wait(60)
    site.programs.started.remove(client)
    if client.process.returncode != 0:
        client.check()
    return used / window * 1e3


CASES = [
    Case(name="idle", title="CPU used by 1,000 silent connections", unit="ms CPU/s",
         better="lower", serve=serve, measure=measure, ways=("kernel", "api", "api-forwarded"),
         bars={"api": "0", "api-forwarded": "0"}),
]
