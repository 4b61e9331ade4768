"""Two hosts: network namespaces, joined by a pair of virtual devices; flatds and Envoys with mutual TLS between them."""

import os
import string
import subprocess

import mesh
import proxies
from procs import listening, run

CLIENT, SERVER = "10.76.0.1", "10.76.0.2"
DOMAIN = "cluster.local"


def missing(context):
    """Why there can be no namespaces; None: there can."""
    absent = [p for p in ("unshare", "nsenter", "ip") if not context.program(p)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if made.returncode == 0 else "no network namespace can be made (root is needed)"


def of(context):
    """The pair of this context, made anew where its programs have ended."""
    pair = getattr(context, "pair", None)
    if not pair or pair.a.process.poll() is not None or pair.b.process.poll() is not None:
        context.pair = Pair(context)
    return context.pair


class Pair:
    def __init__(self, context):
        self.context = context
        self.client, self.server = CLIENT, SERVER
        self.a, self.b = (self._namespace(name) for name in ("host-a", "host-b"))
        self.on_a = self._enter(self.a)
        self.on_b = self._enter(self.b)
        a, b = f"fb{os.getpid()}a", f"fb{os.getpid()}b"
        run(["ip", "link", "add", a, "netns", str(self.a.pid), "type", "veth", "peer", "name", b,
             "netns", str(self.b.pid)])
        for enter, device, address in ((self.on_a, a, CLIENT), (self.on_b, b, SERVER)):
            run([*enter, "ip", "addr", "add", f"{address}/24", "dev", device])
            run([*enter, "ip", "link", "set", "lo", "up"])
            run([*enter, "ip", "link", "set", device, "up"])
        self.identities = os.path.join(context.folder, "svids")
        if not os.path.exists(self.identities):
            flatctl = context.program("flatctl")
            run([flatctl, "ca", "init", os.path.join(context.folder, "ca")])
            for who in ("flatd", "bench/all"):
                run([flatctl, "ca", "issue", os.path.join(context.folder, "ca"), self.identities, who])

    def _namespace(self, name):
        own = os.readlink("/proc/self/ns/net")
        return self.context.programs.start(
            name, ["unshare", "--net", "sleep", "86400"],
            ready=lambda p: os.readlink(f"/proc/{p.pid}/ns/net") != own)

    @staticmethod
    def _enter(host):
        return ("nsenter", f"--net=/proc/{host.pid}/ns/net")


def meshes(pair, name, protocol, port, wire):
    """A flatd on each host, for a server at SERVER, port; their links come in at port `wire`."""
    operation = "to: [{ operation: { methods: [GET], paths: [/1k] } }]" if protocol == "HTTP" else ""
    more = {"server": SERVER, "protocol": protocol, "wire": wire, "operation": operation}
    made = [mesh.Mesh(pair.context, name, port, "forwarded", "hosts",
                      ("--wire", f"0.0.0.0:{wire}", "--svids", pair.identities, "--metrics", "off"),
                      prefix, **more)
            for prefix in (pair.on_a, pair.on_b)]
    return made


def tls(pair):
    """Both sides' certificates, and who the other one must be."""
    stem = os.path.join(pair.identities, "bench.all")
    return f"""common_tls_context:
              tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
              tls_certificates:
              - certificate_chain: {{filename: {stem}.crt}}
                private_key: {{filename: {stem}.key}}
              validation_context:
                trusted_ca: {{filename: {os.path.join(pair.identities, DOMAIN)}.bundle}}
                match_typed_subject_alt_names:
                - {{san_type: URI, matcher: {{exact: "spiffe://{DOMAIN}/ns/bench/sa/all"}}}}"""


TRANSPORT = """transport_socket:
        name: tls
        typed_config:
            "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext
            {more}
            """


def envoys(pair, name, protocol, ports):
    """One on each host: plain on the client's, mutual TLS between them. ports: at the client's, between, the server's."""
    context = pair.context
    outer, inner, port = ports
    into = TRANSPORT.format(kind="Downstream", more="require_client_certificate: true") + tls(pair)
    out = TRANSPORT.format(kind="Upstream", more="sni: bench") + tls(pair)
    chain = []
    for enter, host, listen, address, target, secure in (
            (pair.on_b, pair.b, (SERVER, inner), SERVER, port, {"into": into, "out": ""}),
            (pair.on_a, pair.a, ("127.0.0.1", outer), SERVER, inner, {"into": "", "out": out})):
        template = os.path.join(proxies.CONFIG, f"envoy-hosts-{protocol.lower()}.yaml.in")
        with open(template) as f:
            text = string.Template(f.read()).substitute(
                address=listen[0], listen=listen[1], target_address=address, target=target, **secure)
        path = os.path.join(context.folder, f"{name}-hosts-{listen[1]}.yaml")
        with open(path, "w") as f:
            f.write(text)
        chain.append(context.programs.start(
            f"envoy-{listen[1]}",
            [*enter, proxies.binary(context, "envoy"), "-c", path, "--concurrency", "1",
             "--disable-hot-restart", "-l", "warning"],
            timeout=20, ready=lambda _p, at=listen[1], net=host.pid: listening(at, net)))
    return chain
