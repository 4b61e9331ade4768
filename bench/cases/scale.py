"""Configurations of large meshes: CPU time until one is read, checked and its look-ups are built. There is no peer; a
mesh of a tenth beside it shows what grows faster than the mesh."""

import os
import resource
import subprocess

from case import Case
from procs import RunError

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


CASES = [
    Case(name=f"load-{n}", title=f"configuration of {n:,} services and {n * 10:,} endpoints loaded",
         unit="ms CPU", better="lower", serve=serve_nothing, measure=load(n), ways=("alone",),
         bars={"alone": "1000"})
    for n in (1000, 10000)
]
