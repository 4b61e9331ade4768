"""Plain HTTP clients, an ingress, eight servers behind it: the rate, and what a request costs behind the client."""

import nginx
from case import Case
from procs import cpu_seconds

WAYS = ("no-ingress", "gateway", "envoy-ingress")


def serve(site):
    site.server = nginx.serve(site)


def rate(clients):
    load = nginx.measure_with(clients)

    def measure(site):
        return load(site.plain())
    return measure


def per_cpu(clients):
    load = rate(clients)

    def used(site):
        return sum(cpu_seconds(p.pid) for p in (*site.chain, site.server))

    def measure(site):
        before = used(site)
        return load(site) * site.seconds / (used(site) - before)
    return measure


CASES = [
    Case(name=f"ingress-{name}-c{clients}", title=f"1 KB by an ingress, 8 servers, wrk -c {clients}: {what}",
         unit=unit, better="higher", serve=serve, measure=measure(clients), ways=WAYS, needs=("nginx", "wrk"), servers=8)
    for name, what, unit, measure in (
        ("rate", "rate", "k req/s", rate),
        ("cpu", "per CPU-second of proxy and server", "k req/CPU-s", per_cpu))
    for clients in (1, 32)
]
