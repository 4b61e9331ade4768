"""HTTP with a route, balancing and authorization of each request: sidecars against none."""

from case import Case
from nginx import measure_with, serve

CASES = [
    Case(name=f"http-c{clients}", title=f"nginx, 1 KB, routed and authorized, wrk -c {clients}",
         unit="k req/s", better="higher", serve=serve, measure=measure_with(clients),
         ways=("kernel", "shim-http", "envoy-http"), needs=("nginx", "wrk"))
    for clients in (1, 32)
]
