"""Configurations of large meshes: CPU time until one is read, checked and its look-ups are built, and time until one endpoint's
change is what a client's next connection goes by. There is no peer; a mesh of a tenth beside it shows what grows faster than
the mesh."""

import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from case import Case
from procs import RunError, run, wait_until

SERVICE = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: s{i}, namespace: ns{ns} }}
spec:
  hosts: [s{i}.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{ number: 80, name: http, protocol: HTTP }}]
  endpoints: [{endpoints}]
---
"""


def serve_nothing(_site):
    pass


def write_mesh(path, services):
    with open(path, "w", encoding="utf-8") as out:
        for i in range(services):
            endpoints = ", ".join(f"{{ address: 10.{i >> 8}.{i & 255}.{k + 1} }}" for k in range(10))
            out.write(SERVICE.format(i=i, ns=i % 100, endpoints=endpoints))


def load(services):
    def measure(site):
        path = os.path.join(site.context.folder, f"mesh-{services}.yaml")
        write_mesh(path, services)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([site.context.program("flatctl"), "check", path], check=False,
                              capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.unlink(path)
        if done.returncode != 0:
            raise RunError(f"flatctl check says: {done.stdout[:300]}")
        return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3
    return measure


SLICED = """apiVersion: v1
kind: Service
metadata: {{ name: s{i}, namespace: default }}
spec: {{ clusterIP: 240.8.{a}.{b}, ports: [{{ port: 80, name: tcp }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: s{i}-x, namespace: default, labels: {{ kubernetes.io/service-name: s{i} }} }}
addressType: IPv4
ports: [{{ name: tcp, port: {port} }}]
endpoints: [{endpoints}]
"""

# Connects to its argument without a pause until who answers is whom it was told to wait for; says when that was.
WAITER = """import socket, sys, time
for line in sys.stdin:
    said = b""
    while said != line.strip().encode():
        with socket.create_connection((sys.argv[1], 80), timeout=20) as c:
            said = c.recv(16)
    print(time.monotonic(), flush=True)
"""


ENTRY = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: s{i}, namespace: default }}
spec:
  hosts: [s{i}.example]
  addresses: [240.8.{a}.{b}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{ number: 80, name: tcp, targetPort: {port} }}]
  endpoints: [{endpoints}]
"""


def sliced(i, port, endpoints):
    listed = ", ".join(f"{{ addresses: [{e}] }}" for e in endpoints)
    return SLICED.format(i=i, a=i >> 8, b=i & 255, port=port, endpoints=listed)


def entry(i, port, endpoints):
    listed = ", ".join(f"{{ address: {e} }}" for e in endpoints)
    return ENTRY.format(i=i, a=i >> 8, b=i & 255, port=port, endpoints=listed)


class Files:
    """A folder of a file for each service."""

    def __init__(self, folder, services, text, port):
        self.folder, self.text, self.port = folder, text, port
        os.makedirs(folder, exist_ok=True)
        for i in range(1, services):
            self.write(folder, i, [f"10.{i >> 8}.{i & 255}.{k + 1}" for k in range(10)], 80)
        self.put("127.0.0.2")

    def write(self, folder, i, endpoints, port):
        with open(os.path.join(folder, f"s{i}.yaml"), "w", encoding="utf-8") as out:
            out.write(self.text(i, port, endpoints))

    def put(self, endpoint):
        """The file of the first one is renamed into place, as a whole. When that was."""
        beside = os.path.join(self.folder, "next")
        os.makedirs(beside, exist_ok=True)
        self.write(beside, 0, [endpoint], self.port)
        now = time.monotonic()
        os.rename(os.path.join(beside, "s0.yaml"), os.path.join(self.folder, "s0.yaml"))
        return now


class Volume(Files):
    """The same as Kubernetes mounts a ConfigMap: all files are written anew, and a link is swapped."""

    def __init__(self, folder, services, text, port):
        self.services, self.n = services, 0
        for i in range(services):
            os.makedirs(folder, exist_ok=True)
            os.symlink(f"..data/s{i}.yaml", os.path.join(folder, f"s{i}.yaml"))
        self.folder, self.text, self.port = folder, text, port
        self.put("127.0.0.2")

    def put(self, endpoint):
        self.n += 1
        fresh = os.path.join(self.folder, f"..{self.n}")
        os.makedirs(fresh)
        self.write(fresh, 0, [endpoint], self.port)
        for i in range(1, self.services):
            self.write(fresh, i, [f"10.{i >> 8}.{i & 255}.{k + 1}" for k in range(10)], 80)
        beside = os.path.join(self.folder, "..data_tmp")
        os.symlink(f"..{self.n}", beside)
        now = time.monotonic()
        os.rename(beside, os.path.join(self.folder, "..data"))
        return now


def say_name(listener, name):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed
        with connection:
            connection.sendall(name)


def serve_names(site):
    site.server = []
    for address in ("127.0.0.2", "127.0.0.3"):
        listener = socket.create_server((address, site.port))
        site.server.append(listener)
        threading.Thread(target=say_name, args=(listener, address.encode()), daemon=True).start()


class Waiters:
    """Client processes, each of which says when its connections go to whom it was told to wait for."""

    def __init__(self, context, control, number):
        self.processes = [
            subprocess.Popen([context.program("flat-run"), "--control", control, "--",
                              sys.executable, "-c", WAITER, "240.8.0.0"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True) for _ in range(number)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.processes:
            p.stdin.close()
        for p in self.processes:
            p.wait()
            p.stdout.close()

    def until(self, name):
        """When the last one has seen it."""
        for p in self.processes:
            p.stdin.write(f"{name}\n")
            p.stdin.flush()
        return max(float(p.stdout.readline()) for p in self.processes)


def change(services, text, kind=Files, clients=1):
    def measure(site):
        context = site.context
        folder = tempfile.mkdtemp(prefix="changing-", dir=context.folder)
        files = kind(folder, services, text, site.port)
        control = folder + ".sock"
        flatd = context.programs.start("flatd-sliced", [
            context.program("flatd"), "--control", control, "--config", folder, "--metrics", "off",
            "--foreground"])

        def answers():
            flatd.check()
            try:
                run([context.program("flatctl"), "--control", control, "ls"], timeout=20)
            except RunError:
                return False
            return True
        wait_until(answers, 60, lambda: f"flatd does not answer: {flatd.tail()}")
        with Waiters(context, control, clients) as waiters:
            took = []
            waiters.until("127.0.0.2")
            for n in range(9):
                name = f"127.0.0.{3 - n % 2}"
                begun = files.put(name)
                took.append((waiters.until(name) - begun) * 1e3)
        context.programs.stop(flatd)
        shutil.rmtree(folder)
        return statistics.median(took)
    return measure


UNTIL = "changes until a client's next connection goes to the new endpoint, median of 9"

CASES = [
    Case(name=f"{name}-change-{n}", unit="ms", better="lower", serve=serve_names,
         title=f"{title.format(n=n)} {UNTIL}", measure=change(n, text, kind), ways=("alone",),
         bars={"alone": "10"})
    for name, title, text, kind, sizes in (
        ("endpoint", "one EndpointSlice of {n:,} (a file of its own)", sliced, Files, (1000, 10000)),
        ("entry", "one ServiceEntry of {n:,} (a file of its own)", entry, Files, (1000, 10000)),
        ("volume", "one ServiceEntry of {n:,} in a ConfigMap's volume", entry, Volume, (1000,)))
    for n in sizes
] + [
    Case(name=f"entry-change-10000-by-{n}", unit="ms", better="lower", serve=serve_names,
         title=f"one ServiceEntry of 10,000 changes until each of {n} clients has a connection to the"
         " new endpoint, median of 9", measure=change(10000, entry, Files, n), ways=("alone",),
         bars={"alone": "10"})
    for n in (10, 100)
] + [
    Case(name=f"load-{n}", title=f"configuration of {n:,} services and {n * 10:,} endpoints loaded",
         unit="ms CPU", better="lower", serve=serve_nothing, measure=load(n), ways=("alone",),
         bars={"alone": "1000"})
    for n in (1000, 10000)
]
