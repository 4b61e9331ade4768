"""Configurations of large meshes: CPU time until one is read, checked and its look-ups are built, and time until one endpoint's
change is what a client's next connection goes by. There is no peer; a mesh of a tenth beside it shows what grows faster than
the mesh."""

import os
import resource
import socket
import statistics
import subprocess
import sys
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


def write_sliced(folder, i, port, endpoints):
    """Renamed into place, as a whole. When that was."""
    listed = ", ".join(f"{{ addresses: [{e}] }}" for e in endpoints)
    beside = os.path.join(folder, "next")
    with open(beside, "w", encoding="utf-8") as out:
        out.write(SLICED.format(i=i, a=i >> 8, b=i & 255, port=port, endpoints=listed))
    now = time.monotonic()
    os.rename(beside, os.path.join(folder, f"s{i}.yaml"))
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


def change(services):
    def measure(site):
        context = site.context
        folder = os.path.join(context.folder, f"sliced-{services}")
        os.makedirs(folder, exist_ok=True)
        for i in range(1, services):
            write_sliced(folder, i, 80, [f"10.{i >> 8}.{i & 255}.{k + 1}" for k in range(10)])
        write_sliced(folder, 0, site.port, ["127.0.0.2"])
        control = os.path.join(context.folder, f"sliced-{services}.sock")
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
        with subprocess.Popen([context.program("flat-run"), "--control", control, "--",
                               sys.executable, "-c", WAITER, "240.8.0.0"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as client:
            def until(name):
                client.stdin.write(f"{name}\n")
                client.stdin.flush()
                return float(client.stdout.readline())
            took = []
            until("127.0.0.2")
            for n in range(9):
                name = f"127.0.0.{3 - n % 2}"
                begun = write_sliced(folder, 0, site.port, [name])
                took.append((until(name) - begun) * 1e3)
            client.stdin.close()
        context.programs.stop(flatd)
        return statistics.median(took)
    return measure


CASES = [
    Case(name=f"endpoint-change-{n}", unit="ms", better="lower", serve=serve_names,
         title=f"one EndpointSlice of {n:,} changes (a file of its own) until a client's next "
               "connection goes to the new endpoint, median of 9",
         measure=change(n), ways=("alone",), bars={"alone": "10"})
    for n in (1000, 10000)
] + [
    Case(name=f"load-{n}", title=f"configuration of {n:,} services and {n * 10:,} endpoints loaded",
         unit="ms CPU", better="lower", serve=serve_nothing, measure=load(n), ways=("alone",),
         bars={"alone": "1000"})
    for n in (1000, 10000)
]
