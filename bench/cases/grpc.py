"""gRPC echo of 64 bytes, each call logged, authorized and with a fault filter on its way: unmodified grpc++ (bench/grpc), and
flat/rpc.h (bench/rpc)."""

import re

from case import Case
from procs import RunError, listening, run


def serve(site):
    return site.programs.start(
        "grpcecho", site.command(site.context.program("grpcecho"), "server", f"127.0.0.1:{site.port}"),
        site.env, ready=lambda _p: listening(site.port))


def serve_rpc(site):
    return site.programs.start(
        "rpcecho", [site.context.program("rpcecho"), "server", "127.0.0.1", str(site.port)],
        site.env, ready=lambda _p: listening(site.port))


def measure_with(program, outstanding, scheme=""):
    def measure(site):
        out = run(site.command(site.context.program(program), "client",
                               f"{scheme}{site.host}:{site.client_port}", outstanding, 64, site.seconds),
                  site.env)
        rate = re.match(r"([0-9.]+) calls/s", out)
        if not rate or float(rate.group(1)) <= 0:
            raise RunError(f"{program}: {out.strip()[-200:]}")
        return float(rate.group(1)) * 1e-3
    return measure


CASES = [
    Case(name=f"grpc-c{outstanding}", title=f"gRPC echo, 64 bytes, {outstanding} outstanding",
         unit="k calls/s", better="higher", serve=serve, measure=measure_with("grpcecho", outstanding, "ipv4:"),
         ways=("kernel", "shim-grpc", "envoy-grpc"), needs=("grpcecho",),
         bars={"shim-grpc": "faster than no mesh, 10x two Envoys"})
    for outstanding in (1, 32)
] + [
    Case(name=f"rpc-c{outstanding}", title=f"gRPC echo by flat/rpc.h, 64 bytes, {outstanding} outstanding",
         unit="k calls/s", better="higher", serve=serve_rpc,
         measure=measure_with("rpcecho", outstanding),
         ways=("kernel", "api", "api-grpc", "envoy-grpc"), needs=("rpcecho",),
         bars={"api-grpc": "12x two Envoys"})
    for outstanding in (1, 128)
]
