"""One stream of 64 KiB writes."""

import json

from case import Case
from procs import RunError, listening, run


def serve(site):
    site.programs.start("iperf3-server",
                        site.server_command("iperf3", "-s", "-B", site.bind, "-p", site.port),
                        site.env, ready=lambda _p: listening(site.port, site.net))


def measure(site):
    result = json.loads(run(
        site.command("iperf3", "-c", site.host, "-p", site.client_port, "-l", "64K", "-J",
                     "-t", max(1, round(site.seconds))), site.env))
    if result.get("error"):
        raise RunError(f"iperf3: {result['error']}")
    return result["end"]["sum_received"]["bits_per_second"] * 1e-9


def serve_flatperf(site):
    argv = site.flatperf("server", "-i", "127.0.0.1", "-p", site.port, "-F", "r")
    site.programs.start_with_ready_fd(
        "flatperf-server", argv + (["--zerocopy"] if site.transport == "flat" else []), site.env)


def measure_flatperf(site):
    argv = site.flatperf("throughput", "-i", site.host, "-p", site.client_port, "-m", 65536,
                         "-t", site.seconds, "--json")
    out = run(argv + (["--zerocopy"] if site.transport == "flat" else []), site.env)
    return json.loads(out)["gbit_per_s"]


CASES = [
    Case(name="iperf3", title="One stream, 64 KiB writes, unmodified iperf3", unit="Gbit/s",
         better="higher", serve=serve, measure=measure,
         ways=("kernel", "shim", "shim-forwarded", "haproxy", "envoy"), needs=("iperf3",),
         bars={"shim": "2x kernel"}),
    Case(name="stream-zerocopy", title="One stream, 64 KiB messages, flatperf, in place over flat",
         unit="Gbit/s", better="higher", serve=serve_flatperf, measure=measure_flatperf,
         ways=("kernel", "api", "api-forwarded")),
]
