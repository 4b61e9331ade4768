"""The ways a case's bytes can go. Each gives the case a Site: where and how to run its programs."""

import os
from dataclasses import dataclass

import mesh
import proxies
from procs import RunError


@dataclass
class Site:
    """What a case needs to know of the way it is measured over."""
    context: object  # main.Context: programs, settings, free ports
    host: str  # the client's target
    port: int  # the server listens on 127.0.0.1, port; the client's target is host, client_port
    client_port: int
    transport: str = "kernel"  # flatperf's --transport
    prefix: tuple = ()  # put before unmodified programs
    env: dict = None
    mesh: object = None
    chain: tuple = ()

    @property
    def programs(self):
        return self.context.programs

    @property
    def seconds(self):
        return self.context.seconds

    def command(self, *argv):
        return [*self.prefix, *map(str, argv)]

    def flatperf(self, *argv):
        return [self.context.flatperf, *map(str, argv), "--transport", self.transport]


class Kernel:
    label = "kernel TCP loopback"

    @staticmethod
    def missing(_context):
        return None

    @staticmethod
    def open(context, _case):
        port = context.free_port()
        return Site(context, "127.0.0.1", port, port, env=dict(os.environ))

    @staticmethod
    def before(_site):
        return None

    @staticmethod
    def after(_site, _before):
        """RunError when the bytes did not go the way they should."""


class Flat:
    """Over libflat: linked (flatperf --transport flat) or unmodified under flat-run."""

    def __init__(self, label, path, linked):
        self.label = label
        self.path = path
        self.linked = linked

    def missing(self, context):
        return mesh.missing(context, self.linked)

    def open(self, context, case):
        port = context.free_port()
        flat = mesh.Mesh(context, case.name, port, self.path)
        prefix = () if self.linked else flat.prefix()
        return Site(context, flat.address, port, port, "flat" if self.linked else "kernel", prefix,
                    flat.environment(), flat)

    def before(self, site):
        return site.mesh.counters()

    def after(self, site, before):
        site.mesh.check_carried(before, site.mesh.counters(), self.path)


class Proxies:
    """Through two proxies over the kernel, as a mesh with a sidecar on each side."""

    def __init__(self, label, kind):
        self.label = label
        self.kind = kind

    def missing(self, context):
        if self.kind not in context.peers:
            return f"not asked for (--peers {self.kind})"
        return proxies.missing(context, self.kind)

    def open(self, context, case):
        port = context.free_port()
        inner, outer = context.free_port(), context.free_port()
        chain = proxies.start(context, self.kind, case.name, (outer, inner, port))
        site = Site(context, "127.0.0.1", port, outer, env=dict(os.environ))
        site.chain = chain
        return site

    @staticmethod
    def before(site):
        return [proxies.cpu(p) for p in site.chain]

    @staticmethod
    def after(site, before):
        for program, used in zip(site.chain, before):
            program.check()
            if proxies.cpu(program) <= used:
                raise RunError(f"{program.name} did nothing: the bytes went another way")


WAYS = {
    "kernel": Kernel(),
    "api": Flat("libflat API, direct", "direct", True),
    "api-forwarded": Flat("libflat API, through flatd", "forwarded", True),
    "shim": Flat("unmodified under flat-run, direct", "direct", False),
    "shim-forwarded": Flat("unmodified under flat-run, through flatd", "forwarded", False),
    "haproxy": Proxies("two HAProxys (tcp mode)", "haproxy"),
    "envoy": Proxies("two Envoys (tcp_proxy)", "envoy"),
}
