"""memcached and memcaslap (Debian: libmemcached-tools), both unmodified."""

import re

from case import Case
from procs import RunError, listening, run


def serve(site):
    site.programs.start(
        "memcached",
        site.command("memcached", "-u", "root", "-l", "127.0.0.1", "-p", site.port, "-U", 0,
                     "-t", 1, "-m", 256),
        site.env, ready=lambda _p: listening(site.port))


def measure_with(clients):
    def measure(site):
        out = run(site.command("memcaslap", "-s", f"{site.host}:{site.client_port}", "-T", 1,
                               "-c", clients, "-t", f"{max(1, round(site.seconds))}s",
                               "-X", 64), site.env)
        rate = re.search(r"TPS: *([0-9]+)", out)
        errors = re.search(r"(?:verify_failed|get_misses|packet_drop): *([1-9][0-9]*)", out)
        if not rate or int(rate.group(1)) == 0 or errors:
            raise RunError(f"memcaslap: {errors.group(0) if errors else out.strip()[-200:]}")
        return int(rate.group(1)) * 1e-3
    return measure


CASES = [
    Case(name=f"memcached-c{clients}", title=f"memcaslap -c {clients}, 64-byte values",
         unit="k req/s", better="higher", serve=serve, measure=measure_with(clients),
         ways=("kernel", "shim"), needs=("memcached", "memcaslap"), bars={"shim": "2x kernel"})
    for clients in (1, 32)
]
