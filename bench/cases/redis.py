"""redis-server and redis-benchmark, both unmodified: SET and GET, one after the other."""

import csv
import io

from case import Case
from procs import RunError, listening, run


def serve(site):
    site.programs.start(
        "redis-server",
        site.command("redis-server", "--bind", "127.0.0.1", "--port", site.port, "--save", "",
                     "--appendonly", "no", "--dir", site.context.folder),
        site.env, ready=lambda _p: listening(site.port))


def rates(site, clients, pipeline, requests):
    """Requests per second of SET and GET, `requests` of each."""
    out = run(site.command("redis-benchmark", "-h", site.host, "-p", site.client_port,
                           "-c", clients, "-P", pipeline, "-n", requests, "-t", "set,get",
                           "--csv"), site.env)
    rows = {row["test"]: float(row["rps"]) for row in csv.DictReader(io.StringIO(out))}
    if set(rows) != {"SET", "GET"} or min(rows.values()) <= 0:
        raise RunError(f"redis-benchmark: {out.strip()}")
    return rows["SET"], rows["GET"]


def measure_with(clients, pipeline):
    def measure(site):
        # redis-benchmark counts requests, not seconds: a short run says how many to ask for.
        known = getattr(site, "requests", None)
        if not known:
            known = max(1000, int(sum(rates(site, clients, pipeline, 2000)) / 4 * site.seconds))
            site.requests = known
        both = rates(site, clients, pipeline, known)
        return 2 / sum(1 / rate for rate in both) * 1e-3
    return measure


CASES = [
    Case(name=f"redis-c{clients}-p{pipeline}",
         title=f"redis-benchmark -c {clients} -P {pipeline}, SET and GET", unit="k req/s",
         better="higher", serve=serve, measure=measure_with(clients, pipeline), ways=ways,
         needs=("redis-server", "redis-benchmark"), bars=bars)
    for clients, pipeline, ways, bars in (
        (1, 1, ("kernel", "shim", "shim-forwarded", "haproxy", "envoy"), {"shim": "5x kernel"}),
        (50, 1, ("kernel", "shim", "shim-forwarded", "haproxy", "envoy"), {"shim": "1.5x kernel; 2x is the goal"}),
        (50, 16, ("kernel", "shim"), {"shim": "1.2x kernel"}),
    )
]
