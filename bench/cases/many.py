"""10,000 open connections, where so many are allowed: what they cost, and what 64 active ones among them notice of the others."""

import json
import resource

from case import Case
from procs import RunError, run

ACTIVE = 64


def allowed():
    """As many as there are descriptors for: each of the three holds two for a connection, and flatd keeps a fifth for other workloads."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 10000 if hard == resource.RLIM_INFINITY else min(10000, (hard - 2000) * 2 // 5)


CONNECTIONS = allowed()


def no_room():
    return None if CONNECTIONS >= 1000 else "too few descriptors are allowed: ulimit -Hn"


def serve(site):
    site.server = site.programs.start_with_ready_fd(
        "flatperf-server", site.flatperf("server", "-i", "127.0.0.1", "-p", site.port, "-F", "e"),
        site.env)
    site.held = None


def hold(site):
    """A client that opens the connections and keeps them silent until it is ended."""
    site.held = site.programs.start_with_ready_fd(
        "flatperf-hold", site.flatperf("connect", "-i", site.host, "-p", site.client_port,
                                       "--hold", CONNECTIONS, "-t", 36000),
        site.env, timeout=120)


def release(site):
    site.held.process.terminate()
    site.held.process.wait(60)
    site.programs.started.remove(site.held)
    site.held = None


def p50(site):
    # Paced: among runnable threads the scheduler would be measured, not the open connections.
    out = run(site.flatperf("under-load", "-i", site.host, "-p", site.client_port, "-c", ACTIVE,
                            "--mps", 20, "--reply-every", 1, "-m", 64, "-t", site.seconds,
                            "--full-rtt", "--json"), site.env)
    return json.loads(out)["latency_us"]["p50"]


def measure_active(site):
    alone = p50(site)
    hold(site)
    try:
        among = p50(site)
    finally:
        release(site)
    return among / alone


def memory_kib(pid):
    """What the process has of its own, and its part of what it shares."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RunError(f"no memory of process {pid}")


def kernel_kib():
    """Sockets and files are the kernel's: its slab and the memory of TCP buffers."""
    with open("/proc/meminfo") as f:
        fields = dict(line.split(":", 1) for line in f)
    return int(fields["Slab"].split()[0])


def total_kib(site):
    pids = [site.server.pid] + ([site.mesh.flatd.pid] if site.mesh else [])
    pids += [site.held.pid] if site.held else []
    return sum(memory_kib(pid) for pid in pids) + kernel_kib()


def measure_memory(site):
    before = total_kib(site)
    hold(site)
    try:
        return (total_kib(site) - before) / CONNECTIONS
    finally:
        release(site)


CASES = [
    Case(name="active64", title=f"{ACTIVE} active among {CONNECTIONS} connections: p50 against "
         f"{ACTIVE} alone", unit="times", better="lower", serve=serve, measure=measure_active,
         ways=("kernel", "api"), skip=no_room, bars={"api": "1.2 or less"}),
    Case(name="idle-memory", title="Memory of an idle connection, both ends, flatd and the kernel",
         unit="KiB", better="lower", serve=serve, measure=measure_memory, ways=("kernel", "api"),
         skip=no_room, bars={"api": "16 KiB or less"}),
]
