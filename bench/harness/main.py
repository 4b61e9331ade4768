"""bench/run: each comparison beside its peer in one run."""

import argparse
import importlib
import json
import os
import shutil
import socket
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.dirname(HERE)
SOURCE = os.path.dirname(BENCH)
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(BENCH, "cases"))

import machine  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402
import results  # noqa: E402
from procs import Programs, RunError, end_on_signals  # noqa: E402
from ways import WAYS  # noqa: E402

# In the order of the report.
CASE_FILES = ("rtt64", "rate", "iperf", "redis", "memcached", "nginx", "pgbench", "requests", "grpc", "ingress",
              "connect", "pairs", "many", "idle", "outside", "neighbour", "scale", "between")


class Context:
    """What all cases of a run share."""

    def __init__(self, args, folder):
        self.build = os.path.abspath(args.build)
        self.folder = folder
        self.programs = Programs(folder)
        self.seconds = args.time
        self.peers = [p for p in args.peers.split(",") if p]
        self.envoy = args.envoy
        self.next_port = args.port_base
        self.last_port = args.port_base + 999
        self.flatperf = self.program("flatperf") or "flatperf"

    def program(self, name):
        """The path of one of our programs in the build folder, else of an installed one."""
        for folder in ("bin", ".", "bench", "lib/cmd", "cmd"):
            path = os.path.join(self.build, folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")

    def free_port(self):
        while self.next_port <= self.last_port:
            port = self.next_port
            self.next_port += 1
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    continue
            return port
        raise RunError("no free port left: give --port-base")

    def free_ports(self, n):
        return tuple(self.free_port() for _ in range(n))


def arguments():
    p = argparse.ArgumentParser(
        prog="bench/run", description="Run every comparison beside its peer, write a Markdown table "
        "and a plot. Exit status: 0 all rows have figures or a reason not to be run, 1 a row FAILED. "
        "A figure is never a reason to fail.")
    p.add_argument("--rounds", type=int, help="rounds of each case (default 5)")
    p.add_argument("--time", type=float, help="seconds of each measurement (default 3)")
    p.add_argument("--quick", action="store_true", help="2 rounds of 1 s each")
    p.add_argument("--cases", default="", help="only cases whose names begin with one of these, "
                   "separated by commas")
    p.add_argument("--ways", default="", help=f"only these ways besides the kernel "
                   f"({', '.join(w for w in WAYS if w != 'kernel')})")
    p.add_argument("--peers", default="", help="also run haproxy, envoy or both")
    p.add_argument("--envoy", help="the envoy program, where it is not in PATH")
    p.add_argument("--build", default=os.path.join(SOURCE, "build"), help="build folder (build)")
    p.add_argument("--out", help="results folder (BUILD/bench)")
    p.add_argument("--port-base", type=int, default=21000, help="first of 1,000 ports (21000)")
    p.add_argument("--keep", action="store_true", help="keep logs and configurations of the run")
    p.add_argument("--list", action="store_true", help="list cases and their ways")
    args = p.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.time = args.time or (1.0 if args.quick else 3.0)
    args.out = args.out or os.path.join(args.build, "bench")
    unknown = [w for w in args.ways.split(",") if w and w not in WAYS]
    unknown += [w for w in args.peers.split(",") if w and w not in ("haproxy", "envoy")]
    if unknown or args.rounds < 1 or args.time <= 0:
        p.error(f"no such way: {', '.join(unknown)}" if unknown else "--rounds or --time")
    return args


def load_cases(only):
    cases = [case for name in CASE_FILES for case in importlib.import_module(name).CASES]
    prefixes = tuple(p for p in only.split(",") if p)
    return [c for c in cases if not prefixes or c.name.startswith(prefixes)]


def why_not(context, case, way):
    if case.skip and case.skip():
        return case.skip()
    absent = [n for n in case.needs if not context.program(n)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return WAYS[way].missing(context)


def open_site(context, case, row):
    """Starts what the way needs and the case's server; None with the row marked when it fails."""
    try:
        row.not_run = why_not(context, case, row.way)
        if row.not_run:
            return None
        site = WAYS[row.way].open(context, case)
        case.serve(site)
        return site
    except (RunError, OSError) as e:
        row.fail(e)
        return None


def measure(case, row, site, number):
    way = WAYS[row.way]
    try:
        before = way.before(site)
        value = case.measure(site)
        way.after(site, before)
        row.values[number] = value
    except (RunError, OSError, ValueError, KeyError) as e:
        row.fail(e if isinstance(e, RunError) else f"{type(e).__name__}: {e}")


def run_case(context, case, rounds, only_ways):
    rows = [results.Row(case, way, WAYS[way].label) for way in case.ways
            if way == case.ways[0] or not only_ways or way in only_ways]
    try:
        sites = {row.way: open_site(context, case, row) for row in rows}
        for number in range(rounds):
            for row in rows:
                if sites[row.way] and not row.failed:
                    measure(case, row, sites[row.way], number)
            said = ", ".join(f"{row.way} {report.number(row.values[number])}" for row in rows
                             if number in row.values)
            print(f"{case.name} round {number + 1}/{rounds}: {said or 'nothing'} {case.unit}",
                  flush=True)
    finally:
        context.programs.stop_all()
    for row in rows:
        if row.failed:
            print(f"{case.name} {row.way}: FAILED: {row.failed}", flush=True)
        elif row.not_run:
            print(f"{case.name} {row.way}: not run: {row.not_run}", flush=True)
    return rows


def write_results(args, about, groups):
    os.makedirs(args.out, exist_ok=True)
    settings = {"rounds": args.rounds, "seconds": args.time, "peers": args.peers,
                "arguments": " ".join(f"--{name} {getattr(args, name)}" for name in
                                      ("cases", "ways", "peers") if getattr(args, name))}
    rows = [row for group in groups for row in group]
    for name, text in (
            ("RESULTS.md", report.markdown(about, settings, groups, "ratios.svg")),
            ("ratios.svg", plot.svg(groups, about)),
            ("results.json", json.dumps(results.as_json(about, settings, rows), indent=1) + "\n")):
        with open(os.path.join(args.out, name), "w") as f:
            f.write(text)
    print(f"written: {args.out}/RESULTS.md, ratios.svg, results.json")
    return 1 if any(row.failed for row in rows) else 0


def main():
    args = arguments()
    cases = load_cases(args.cases)
    if args.list:
        for case in cases:
            print(f"{case.name:18} {case.title}: {', '.join(case.ways)}")
        return 0
    if not cases:
        print(f"bench/run: no case begins with {args.cases}; --list shows them", file=sys.stderr)
        return 2
    end_on_signals()
    folder = tempfile.mkdtemp(prefix="flat-bench-")
    os.chmod(folder, 0o755)  # servers that drop root read their files here
    context = Context(args, folder)
    if not context.program("flatperf"):
        print(f"bench/run: no flatperf in {args.build}: build first, or give --build",
              file=sys.stderr)
        return 2
    about = machine.describe(SOURCE)
    groups = []
    try:
        only_ways = [w for w in args.ways.split(",") if w]
        only_ways += context.peers if only_ways else []
        for case in cases:
            groups.append(run_case(context, case, args.rounds, only_ways))
        return write_results(args, about, groups)
    finally:
        context.programs.stop_all()
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
