#!/usr/bin/env python3
"""
Runs every behaviour of flat-parity over the kernel's TCP, directly through libflat and forwarded by flatd, and compares
what was written line by line. The kernel is right.

  run.py [--build DIR] [--port-base N] [--jobs N] [--path direct|forwarded]... [--keep] [NAME]...

NAME may be a group (the first word of a behaviour's name) or a whole name. What is known to differ is listed in the file
`differences` beside this script: such a case is printed and is neither passed nor failed; one that differs no more fails.
"""

import argparse
import difflib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PORTS_EACH = 4     # of one behaviour
PORTS_END = 32768  # from here on the kernel chooses for those that do not bind
LIMIT_S = 20
PATHS = ("direct", "forwarded")


def service(port, path):
    """Mesh services over the loopback addresses, at the port they are served on."""
    text = ""
    for version, address in (("4", "127.0.0.1"), ("6", "::1")):
        text += f"""---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: p{port}-{version}
  namespace: parity
  annotations: {{ mesh.libflat.io/path: {"auto" if path == "direct" else path} }}
spec:
  hosts: [p{port}-{version}.parity.example]
  addresses: ["{address}"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{ number: {port}, name: tcp, protocol: TCP }}]
  endpoints: [{{ address: "{address}", ports: {{ tcp: {port} }} }}]
"""
    return text


class Flatd:
    """A private offload half."""

    def __init__(self, build, folder, path, ports):
        self.build, self.folder = build, folder
        self.control = os.path.join(folder, "control.sock")
        config = os.path.join(folder, "mesh.yaml")
        with open(config, "w") as f:
            f.write("".join(service(port, path) for port in ports))
        self.log = open(os.path.join(folder, "flatd.log"), "w")
        self.process = subprocess.Popen([f"{build}/flatd", "--control", self.control, "--config", config],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 20
        while self.state() is None:
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"run.py: flatd does not start: {open(self.log.name).read()[-800:]}")
            time.sleep(0.02)

    def state(self):
        """What `flatctl ls --json` says, or None."""
        done = subprocess.run([f"{self.build}/flatctl", "--control", self.control, "ls", "--json"],
                              capture_output=True, text=True, timeout=20, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def opened(self):
        """Connections made so far: direct, forwarded."""
        state = self.state()
        return (state["opened_direct"], state["opened_forwarded"]) if state else (0, 0)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def run(command, port, folder, wanted=None):
    """Lines of one run; the last says how the process ended. wanted: those of the kernel's run, which behaviours may wait for."""
    env = dict(os.environ, PARITY_PORT=str(port), LC_ALL="C.UTF-8", TMPDIR=folder)
    env.pop("PARITY_WANTED", None)
    if wanted:
        env["PARITY_WANTED"] = os.path.join(folder, "wanted")
        with open(env["PARITY_WANTED"], "w") as f:
            f.write("\n".join(wanted) + "\n")
    out_path = os.path.join(folder, "transcript")
    with open(out_path, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   env=env, cwd=folder, start_new_session=True)
        try:
            status = process.wait(LIMIT_S)
            ending = f"exit {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
        except subprocess.TimeoutExpired:
            ending = f"no end after {LIMIT_S} s"
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    with open(out_path, "rb") as f:
        return f.read().decode("utf-8", "replace").splitlines() + [ending]


class Worker(threading.Thread):
    """Takes behaviours from the queue; has its own ports and flatds."""

    def __init__(self, number, args, jobs, report):
        super().__init__()
        self.args, self.jobs, self.report = args, jobs, report
        self.folder = os.path.join(args.work, str(number))
        # The kernel's connections keep their ports for a minute (TIME_WAIT), and not all bind with SO_REUSEADDR: none twice,
        # unless there are too few. Those of the mesh have services.
        first = args.port_base + number * args.ports
        self.ports = list(range(first, first + args.ports))
        self.next = 0
        self.kernel_ports = iter(range(args.port_base + args.jobs * args.ports + number * PORTS_EACH, PORTS_END,
                                       args.jobs * PORTS_EACH))
        self.flatds = {}
        for path in args.path:
            os.makedirs(os.path.join(self.folder, path))
            self.flatds[path] = Flatd(args.build, os.path.join(self.folder, path), path, self.ports)

    def port(self):
        self.next = (self.next + PORTS_EACH) % len(self.ports)
        return self.ports[self.next]

    def over(self, path, name, way, wanted):
        """Lines and a word about the path, if it was not the right one."""
        flatd = self.flatds[path]
        before = flatd.opened()
        lines = run([f"{self.args.build}/flat-run", "--control", flatd.control,
                     f"{self.args.build}/tests/flat-parity", name], self.port(), flatd.folder, wanted)
        after = flatd.opened()
        if flatd.process.poll() is not None:
            return lines, f"flatd ended: {flatd.process.returncode}"
        went = dict(zip(PATHS, (after[0] - before[0], after[1] - before[1])))
        other = PATHS[1 - PATHS.index(path)]
        if (went[path] > 0) != (way == "mesh") or went[other] > 0:
            return lines, f"connections: {went['direct']} direct, {went['forwarded']} forwarded"
        return lines, ""

    def run(self):
        while True:
            try:
                name, way = self.jobs.get_nowait()
            except queue.Empty:
                break
            try:
                self.one(name, way)
            except Exception as e:  # pylint: disable=broad-except
                self.report.failed(name, f"the runner: {e!r}")
        for flatd in self.flatds.values():
            flatd.end()

    def one(self, name, way):
        wanted = run([f"{self.args.build}/tests/flat-parity", name], next(self.kernel_ports), self.folder)
        if wanted[-1] != "exit 0" or "end" not in wanted:
            self.report.failed(name + "/kernel", "\n".join(["the behaviour itself fails:"] + wanted[-6:]))
            return
        for path in self.args.path:
            got, wrong_way = self.over(path, name, way, wanted)
            self.report.compared(name, path, wanted, got, wrong_way)


class Report:
    """Counts and prints."""

    def __init__(self, differences):
        self.lock = threading.Lock()
        self.differences = differences
        self.passed_n = self.failed_n = self.known_n = 0
        self.seen = set()

    def failed(self, case, text):
        with self.lock:
            self.failed_n += 1
            print(f"FAIL parity/{case}: {text}", flush=True)

    def compared(self, name, path, wanted, got, wrong_way):
        case = f"{name}/{path}"
        reason = self.differences.get(case) or self.differences.get(name)
        text = "\n".join(list(difflib.unified_diff(wanted, got, "kernel", path, n=1, lineterm=""))[:30])
        if wrong_way:
            text += ("\n" if text else "") + wrong_way
        if text and reason:
            with self.lock:
                self.known_n += 1
                print(f"differs parity/{case}: {reason}", flush=True)
        elif text:
            self.failed(case, "\n" + text)
        elif reason:
            self.failed(case, "is in `differences` and does not differ")
        else:
            with self.lock:
                self.passed_n += 1
                print(f"PASS parity/{case}", flush=True)


def read_differences():
    """{case: reason}; a line is NAME or NAME/PATH, a colon, the reason."""
    found = {}
    with open(os.path.join(HERE, "differences")) as f:
        for line in f:
            line = line.strip()
            if line and not line.startswith("#"):
                case, _, reason = line.partition(":")
                if not reason.strip():
                    sys.exit(f"run.py: differences: no reason for {case}")
                found[case.strip()] = reason.strip()
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.environ.get("FLAT_BUILD", "build"))
    parser.add_argument("--port-base", type=int, default=int(os.environ.get("FLAT_PORT_BASE", "22000")))
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--path", action="append", choices=PATHS)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    args.path = args.path or list(PATHS)
    args.build = os.path.abspath(args.build)
    listed = subprocess.run([f"{args.build}/tests/flat-parity"], capture_output=True, text=True, check=True)
    table = [line.split() for line in listed.stdout.splitlines()]
    differences = read_differences()
    for case in differences:
        if case.split("/")[0] not in (name for name, _ in table):
            sys.exit(f"run.py: differences names {case}, which is no behaviour")
    chosen = [row for row in table if not args.names or any(
        row[0] == n or row[0].startswith(n + "_") for n in args.names)]
    # A worker may have more than its share.
    each = len(chosen) * len(args.path) * 3 // (args.jobs * 2) + 8
    args.ports = min(each * PORTS_EACH, (PORTS_END - args.port_base) * 2 // 3 // args.jobs // PORTS_EACH * PORTS_EACH)
    args.work = tempfile.mkdtemp(prefix="flat-parity.")
    os.chmod(args.work, 0o755)
    jobs = queue.Queue()
    for row in chosen:
        jobs.put(tuple(row))
    report = Report(differences)
    workers = [Worker(i, args, jobs, report) for i in range(args.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if not args.keep:
        shutil.rmtree(args.work, ignore_errors=True)
    print(f"{len(chosen)} behaviours over {' and '.join(args.path)}: {report.passed_n} passed, "
          f"{report.failed_n} failed, {report.known_n} known to differ")
    sys.exit(1 if report.failed_n or not report.passed_n else 0)


main()
