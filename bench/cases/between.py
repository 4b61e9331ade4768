"""Two hosts: HTTP and one stream, with mutual TLS and authorization by certificate on the way, or in the clear with nothing."""

import iperf
import nginx
from case import Case

WAYS = ("hosts-kernel", "hosts-flat", "hosts-envoy")
CASES = [
    Case(name=f"hosts-http-c{clients}", unit="k req/s", better="higher",
         title=f"nginx on another host, 1 KB, authorized, wrk -c {clients}", serve=nginx.serve,
         measure=nginx.measure_with(clients), ways=WAYS, needs=("nginx", "wrk"),
         bars={"hosts-flat": "1x kernel, 8x two Envoys"})
    for clients in (1, 32)
] + [
    Case(name="hosts-stream", title="One stream to another host, 64 KiB writes, iperf3",
         unit="Gbit/s", better="higher", serve=iperf.serve, measure=iperf.measure, ways=WAYS,
         needs=("iperf3",), protocol="TCP", bars={"hosts-flat": "4x two Envoys"}),
]
