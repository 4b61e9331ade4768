"""The ways a case's bytes can go. Each gives the case a Site: where and how to run its programs."""

import os
from dataclasses import dataclass, replace

import hosts
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
    server_prefix: tuple = None  # before servers; None: the same
    bind: str = "127.0.0.1"  # where the server listens
    net: object = "self"  # a process of the server's network
    env: dict = None
    mesh: object = None
    chain: tuple = ()
    server: object = None  # what the case keeps of what it started
    ports: tuple = ()  # of all servers, the first one at `port`; () where there is one

    @property
    def programs(self):
        return self.context.programs

    @property
    def seconds(self):
        return self.context.seconds

    def command(self, *argv):
        return [*self.prefix, *map(str, argv)]

    def server_command(self, *argv):
        prefix = self.prefix if self.server_prefix is None else self.server_prefix
        return [*prefix, *map(str, argv)]

    def plain(self):
        """The same for a client that is not in the mesh."""
        return replace(self, prefix=(), env=dict(os.environ))

    def flatperf(self, *argv):
        return [self.context.flatperf, *map(str, argv), "--transport", self.transport]


class Kernel:
    label = "kernel TCP loopback"

    @staticmethod
    def missing(_context):
        return None

    @staticmethod
    def open(context, case):
        ports = context.free_ports(case.servers)
        return Site(context, "127.0.0.1", ports[0], ports[0], env=dict(os.environ), ports=ports)

    @staticmethod
    def before(_site):
        return None

    @staticmethod
    def after(_site, _before):
        """RunError when the bytes did not go the way they should."""


class Alone(Kernel):
    """Nothing is served: a program of ours does its work."""
    label = "by itself"


class Flat:
    """Over libflat: linked (flatperf --transport flat) or unmodified under flat-run."""

    def __init__(self, label, path, linked):
        self.label = label
        self.path = path
        self.linked = linked

    def missing(self, context):
        return mesh.missing(context, self.linked)

    def open(self, context, case):
        ports = context.free_ports(case.servers)
        flat = mesh.Mesh(context, case.name, ports[0], self.path, ports=", ".join(
            f"{{number: {port}, name: tcp-{port}, protocol: TCP}}" for port in ports))
        prefix = () if self.linked else flat.prefix()
        return Site(context, flat.address, ports[0], ports[0], "flat" if self.linked else "kernel",
                    prefix, env=flat.environment(), mesh=flat, ports=ports)

    def before(self, site):
        return site.mesh.counters()

    def after(self, site, before):
        site.mesh.check_carried(before, site.mesh.counters(), self.path)


class Outside(Flat):
    """Unmodified under flat-run, with an address that is not of the mesh: the kernel's all the same."""

    def __init__(self, label):
        super().__init__(label, "direct", False)

    def after(self, site, before):
        after = site.mesh.counters()
        if after != before:
            raise RunError(f"connections went through the mesh: {after}")


class Bare:
    """No transport at all: the case runs barering, two processes and a ring."""
    label = "bare shared-memory ring"

    @staticmethod
    def missing(context):
        return None if context.program("barering") else "not built: barering"

    @staticmethod
    def open(context, _case):
        return Site(context, "", 0, 0, transport="bare", env=dict(os.environ))

    @staticmethod
    def before(_site):
        return None

    @staticmethod
    def after(_site, _before):
        """Nothing that could go another way."""


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


class FlatHttp(Flat):
    """Each request routed, balanced and authorized by flatd."""

    def __init__(self, label, template="http", options=(), linked=False):
        super().__init__(label, "forwarded", linked)
        self.template = template
        self.options = options

    def open(self, context, case):
        port = context.free_port()
        flat = mesh.Mesh(context, case.name, port, self.path, self.template, self.options)
        prefix = () if self.linked else flat.prefix()
        return Site(context, flat.address, port, port, "kernel", prefix, env=flat.environment(),
                    mesh=flat)


class ProxiesHttp(Proxies):
    """Through two proxies that read HTTP, authorize and log."""

    def __init__(self, label, kind, template="http"):
        super().__init__(label, kind)
        self.template = template

    def open(self, context, case):
        port = context.free_port()
        inner, outer = context.free_port(), context.free_port()
        chain = proxies.start(context, self.kind, case.name, (outer, inner, port),
                              f"{self.kind}-{self.template}")
        site = Site(context, "127.0.0.1", port, outer, env=dict(os.environ))
        site.chain = chain
        return site


class Ingress:
    """Plain clients before several servers: with nothing between, the first one alone is asked."""

    def missing(self, _context):
        return None

    def __init__(self, label):
        self.label = label

    def open(self, context, case):
        ports = context.free_ports(case.servers)
        return Site(context, "127.0.0.1", ports[0], ports[0], env=dict(os.environ), ports=ports)

    def before(self, site):
        return [proxies.cpu(p) for p in site.chain]

    def after(self, site, before):
        for program, used in zip(site.chain, before):
            program.check()
            if proxies.cpu(program) <= used:
                raise RunError(f"{program.name} did nothing: the bytes went another way")


class IngressFlat(Ingress):
    """flatd as gateway, its servers in the mesh."""

    def missing(self, context):
        return mesh.missing(context, False)

    def open(self, context, case):
        ports = context.free_ports(case.servers)
        listen = context.free_port()
        endpoints = ", ".join("{address: 127.0.0.1, ports: {http: %d}}" % p for p in ports)
        flat = mesh.Mesh(context, case.name, ports[0], "forwarded", "gateway",
                         ("--gateway", "bench/gateway"), listen=listen, endpoints=endpoints)
        site = Site(context, "127.0.0.1", ports[0], listen, prefix=flat.prefix(),
                    env=flat.environment(), mesh=flat, ports=ports)
        site.chain = (flat.flatd,)
        return site


class IngressProxy(Ingress):
    """Envoy, its servers without a sidecar of their own."""

    def __init__(self, label, kind):
        super().__init__(label)
        self.kind = kind

    def missing(self, context):
        return Proxies(self.label, self.kind).missing(context)

    def open(self, context, case):
        ports = context.free_ports(case.servers)
        listen = context.free_port()
        site = Site(context, "127.0.0.1", ports[0], listen, env=dict(os.environ), ports=ports)
        site.chain = proxies.start(context, self.kind, case.name, (listen, ports[0]),
                                   f"{self.kind}-http", ports)
        return site


class HostsKernel(Kernel):
    """Client and server on two hosts: network namespaces, joined by a pair of virtual devices."""
    label = "kernel TCP between two hosts, in the clear"

    @staticmethod
    def missing(context):
        return hosts.missing(context)

    @staticmethod
    def open(context, case):
        pair = hosts.of(context)
        port = context.free_port()
        return Site(context, pair.server, port, port, env=dict(os.environ), prefix=pair.on_a,
                    server_prefix=pair.on_b, bind=pair.server, net=pair.b.pid)


class HostsFlat(HostsKernel):
    """A flatd on each, links with mutual TLS between them."""

    label = "unmodified under flat-run, mutual TLS between two flatds"

    @staticmethod
    def missing(context):
        return hosts.missing(context) or mesh.missing(context, False)

    @staticmethod
    def open(context, case):
        pair = hosts.of(context)
        port, wire = context.free_port(), context.free_port()
        a, b = hosts.meshes(pair, case.name, case.protocol, port, wire)
        return Site(context, a.address, port, port, env=dict(os.environ), mesh=a,
                    prefix=(*pair.on_a, *a.prefix()), server_prefix=(*pair.on_b, *b.prefix()),
                    bind=pair.server, net=pair.b.pid)

    @staticmethod
    def before(site):
        return site.mesh.counters()

    @staticmethod
    def after(site, before):
        site.mesh.check_carried(before, site.mesh.counters(), "forwarded")


class HostsEnvoy(Proxies):
    """A sidecar on each, mutual TLS between them."""

    def missing(self, context):
        return super().missing(context) or hosts.missing(context)

    def open(self, context, case):
        pair = hosts.of(context)
        port, outer, inner = context.free_ports(3)
        site = Site(context, "127.0.0.1", port, outer, env=dict(os.environ), prefix=pair.on_a,
                    server_prefix=pair.on_b, bind=pair.server, net=pair.b.pid)
        site.chain = hosts.envoys(pair, case.name, case.protocol, (outer, inner, port))
        return site


WAYS = {
    "hosts-kernel": HostsKernel(),
    "hosts-flat": HostsFlat(),
    "hosts-envoy": HostsEnvoy("two Envoys, mutual TLS between them (RBAC, log)", "envoy"),
    "alone": Alone(),
    "kernel": Kernel(),
    "api": Flat("libflat API, direct", "direct", True),
    "api-forwarded": Flat("libflat API, through flatd", "forwarded", True),
    "shim": Flat("unmodified under flat-run, direct", "direct", False),
    "shim-forwarded": Flat("unmodified under flat-run, through flatd", "forwarded", False),
    "shim-http": FlatHttp("unmodified under flat-run, each request decided by flatd"),
    "envoy-http": ProxiesHttp("two Envoys (HTTP, RBAC, log)", "envoy"),
    "shim-grpc": FlatHttp("unmodified under flat-run, each call decided by flatd", "grpc",
                          ("--access-log", "/dev/null")),
    "api-grpc": FlatHttp("linked with libflat-rpc, each call decided by flatd", "grpc",
                         ("--access-log", "/dev/null"), True),
    "envoy-grpc": ProxiesHttp("two Envoys (gRPC, log, RBAC, fault)", "envoy", "grpc"),
    "no-ingress": Ingress("one server, nothing between"),
    "gateway": IngressFlat("flatd as ingress gateway"),
    "envoy-ingress": IngressProxy("Envoy as ingress (HTTP, RBAC, log)", "envoy"),
    "shim-outside": Outside("unmodified under flat-run, outside the mesh"),
    "bare": Bare(),
    "haproxy": Proxies("two HAProxys (tcp mode)", "haproxy"),
    "envoy": Proxies("two Envoys (tcp_proxy)", "envoy"),
}
