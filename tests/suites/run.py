#!/usr/bin/env python3
"""
Runs other people's test suites natively and over libflat, directly and forwarded by flatd, and compares the results case by case.
Every TCP port of the loopback addresses from 1024 is a mesh service, so the sockets that a suite opens there become flat ones;
flatd's counters say whether they did.

  run.py [--build DIR] [--sources DIR] [--jobs N] [--path direct|forwarded]... [--all] [--quick] [--list] [--keep] [PATTERN]...

PATTERN chooses suites (`python-socket`), or cases (`python-socket/*Timeout*`). Suites and what of them runs: suites.py. Without --all
slow cases run over one path alone, and the suites that are marked `more` do not run.

What is known to differ is in the file `differences`: such a case is printed and is neither passed nor failed; one that differs no
more fails. A case that differs is run once more by itself, natively and over libflat: where that makes it equal it is called
unsteady, which many cases of such suites are on a busy machine. One that hangs always fails.
"""

import argparse
import fnmatch
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import suites

HERE = os.path.dirname(os.path.abspath(__file__))
PATHS = ("direct", "forwarded")
PORTS = range(1024, 65536)
PORTS_EACH = 250    # of one service


def mesh(path):
    """Every port of the loopback addresses, as itself."""
    text = []
    for first in range(PORTS.start, PORTS.stop, PORTS_EACH):
        ports = range(first, min(first + PORTS_EACH, PORTS.stop))
        text.append(f"""---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: p{first}
  namespace: suites
  annotations: {{ mesh.libflat.io/path: {"auto" if path == "direct" else path} }}
spec:
  hosts: [p{first}.suites.example]
  addresses: ["127.0.0.0/8", "::1"]
  location: MESH_INTERNAL
  resolution: NONE
  ports:
""")
        text += [f"  - {{ number: {port}, name: tcp-{port}, protocol: TCP }}\n" for port in ports]
    return "".join(text)


class Flatd:
    """A private offload half."""

    def __init__(self, build, folder, path):
        self.build, self.folder, self.path = build, folder, path
        self.control = os.path.join(folder, "control.sock")
        config = os.path.join(folder, "mesh.yaml")
        with open(config, "w", encoding="ascii") as f:
            f.write(mesh(path))
        self.log = open(os.path.join(folder, "flatd.log"), "w", encoding="ascii")
        self.process = subprocess.Popen(
            [f"{build}/flatd", "--control", self.control, "--config", config, "--metrics", "off"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 20
        while self.state() is None:
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"run.py: flatd does not start: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()[-800:]

    def state(self):
        """What `flatctl ls --json` says, or None."""
        done = subprocess.run([f"{self.build}/flatctl", "--control", self.control, "ls", "--json"],
                              capture_output=True, text=True, timeout=20, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def opened(self):
        """Connections made so far, by path."""
        state = self.state() or {}
        return {path: state.get(f"opened_{path}", 0) for path in PATHS + ("kernel",)}

    def command(self):
        return [f"{self.build}/flat-run", "--control", self.control]

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def group_members(group):
    """Pids of a process group."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                if int(f.read().rpartition(")")[2].split()[2]) == group:
                    found.append(int(pid))
        except OSError:
            pass
    return found


def waiting_places(group):
    """Each thread of a process group and where it waits."""
    text = []
    for pid in group_members(group):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                text.append(f"pid {pid}: " + f.read().replace(b"\0", b" ").decode("utf-8", "replace")[:150])
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/wchan", encoding="ascii") as where, \
                     open(f"/proc/{pid}/task/{tid}/syscall", encoding="ascii") as call:
                    text.append(f"  thread {tid} in {where.read()}, system call {call.read().strip()[:60]}")
        except OSError:
            pass
    return "\n".join(text)


class Run:
    """One process of a suite, and what becomes of it."""

    def __init__(self, folder, command, env, cwd):
        self.out_path = os.path.join(folder, "out")
        own = os.path.join(folder, "own")
        os.makedirs(own, exist_ok=True)
        env = dict(os.environ, LC_ALL="C.UTF-8", TMPDIR=own, HOME=own, PYTHONDONTWRITEBYTECODE="1", **env)
        env.pop("LD_PRELOAD", None)
        with open(self.out_path, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                            env=env, cwd=cwd or own, start_new_session=True)

    def wait(self, seconds, progress=None):
        """False when nothing came for so long: neither the end nor, where given, a change of `progress()`."""
        end = time.monotonic() + seconds
        last = progress() if progress else None
        while time.monotonic() < end:
            try:
                self.process.wait(0.2)
                return True
            except subprocess.TimeoutExpired:
                pass
            if progress and progress() != last:
                last = progress()
                end = time.monotonic() + seconds
        return False

    def describe_hang(self, by_signal):
        with open(self.out_path, "ab") as out:
            out.write(("-- no end in sight\n" + waiting_places(self.process.pid) + "\n").encode())
        if by_signal:
            for pid in group_members(self.process.pid):
                try:
                    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                        if f.read().startswith("python"):
                            os.kill(pid, signal.SIGUSR2)
                except OSError:
                    pass
            time.sleep(0.5)

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.process.wait()

    def output(self):
        with open(self.out_path, "rb") as f:
            return f.read().decode("utf-8", "replace")


def read_results(path):
    """{case: (word, detail)}, whether the end was reached, and the case that began and did not end."""
    found, begun, ended = {}, None, False
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        word, case, *rest = line.split(" ", 3)
        if word == "end":
            ended = True
        elif word == "begin":
            begun = case
        else:
            begun = None if case == begun else begun
            found[case] = (word, rest[1] if len(rest) > 1 else "")
    return found, ended, begun


def run_unittest(suite, prefix, folder, only):
    """Cases of a python module. A process that hangs or dies is followed by another one for the rest."""
    results = os.path.join(folder, "results")
    command = prefix + [suites.PYTHON, os.path.join(HERE, "unittest_cases.py")]
    command += [f"--only={p}" for p in only or suite.only] + [f"--not={p}" for p in suite.without]
    while True:
        run = Run(folder, command + ["--done", results, results, suite.module] if os.path.exists(results)
                  else command + [results, suite.module], suite.env, None)
        in_time = run.wait(suite.limit_s, lambda: os.path.exists(results) and os.path.getsize(results))
        if not in_time:
            run.describe_hang(True)
        status = run.end()
        found, ended, begun = read_results(results)
        if ended or begun is None:
            break
        with open(results, "a", encoding="utf-8") as f:
            f.write(f"{'hang' if not in_time else 'died'} {begun} 0 status {status}\n")
    if not ended:
        found["end"] = ("hang" if not in_time else "died", f"status {status}")
    return found, run.output()


def run_program(suite, prefix, folder, only):
    """Cases of a program that says itself how each went."""
    found, text = {}, ""
    for name, command, cwd in suite.programs(only):
        run = Run(folder, prefix + command, suite.env, cwd)
        if not run.wait(suite.limit_s):
            run.describe_hang(False)
            run.end()
            found[f"{name}end"] = ("hang", "")
        else:
            found[f"{name}end"] = ("ok", "") if run.end() == 0 else ("fail", f"status {run.process.returncode}")
        out = run.output()
        os.unlink(run.out_path)
        found.update({name + case: result for case, result in suite.parse(out).items()})
        text += out
    return found, text


class Report:
    """Counts and prints."""

    def __init__(self, differences):
        self.lock = threading.Lock()
        self.differences = differences
        self.counts = dict.fromkeys(("passed", "failed", "known to differ", "unsteady"), 0)
        self.seconds = {}

    def say(self, kind, word, case, text=""):
        with self.lock:
            self.counts[kind] += 1
            print(f"{word} {case}" + (f": {text}" if text else ""), flush=True)

    def failed(self, case, text):
        self.say("failed", "FAIL", case, text)

    def passed(self, case, text=""):
        self.say("passed", "PASS", case, text)

    def reason(self, case):
        """Why a case differs, and whether it does always."""
        for name in (case, case.rpartition("/")[0]):
            if name in self.differences:
                return self.differences[name]
        return None, False


class Worker(threading.Thread):
    """Takes suites from the queue; has its own flatds."""

    def __init__(self, number, args, jobs, report):
        super().__init__()
        self.args, self.jobs, self.report = args, jobs, report
        self.folder = os.path.join(args.work, str(number))
        self.runs = 0
        self.flatds = {}
        for path in args.path:
            os.makedirs(os.path.join(self.folder, path))
            self.flatds[path] = Flatd(args.build, os.path.join(self.folder, path), path)

    def run(self):
        while True:
            try:
                suite, only, paths = self.jobs.get_nowait()
            except queue.Empty:
                break
            begin = time.monotonic()
            try:
                self.suite(suite, only, paths)
            except Exception as e:  # pylint: disable=broad-except
                self.report.failed(suite.name, f"the runner: {e!r}")
            self.report.seconds[suite.name] = time.monotonic() - begin + self.report.seconds.get(suite.name, 0)
        for flatd in self.flatds.values():
            flatd.end()

    def once(self, suite, path, only):
        """Results of one run, its output, and how many connections took which path."""
        self.runs += 1
        folder = os.path.join(self.folder, f"run{self.runs}")
        os.makedirs(folder)
        flatd = self.flatds.get(path)
        prefix = flatd.command() if flatd else []
        before = flatd.opened() if flatd else {}
        how = run_unittest if suite.module else run_program
        found, text = how(suite, prefix, folder, only)
        after = flatd.opened() if flatd else {}
        if flatd and flatd.process.poll() is not None:
            raise RuntimeError(f"flatd ended with {flatd.process.returncode}: {flatd.last_words()}")
        with open(os.path.join(self.args.work, f"{suite.name}-{path}.txt"), "a", encoding="utf-8") as f:
            f.write(text)
        if not self.args.keep:
            shutil.rmtree(folder, ignore_errors=True)
        return found, text, {k: after[k] - before[k] for k in after}

    def suite(self, suite, only, paths):
        wanted, _, _ = self.once(suite, "native", only)
        if not any(word in ("ok", "skip") for word, _ in wanted.values()):
            self.report.failed(suite.name, f"nothing passes natively: {list(wanted.items())[:3]}")
            return
        for path in paths:
            got, text, went = self.once(suite, path, only)
            case = f"{suite.name}/connections/{path}"
            count = ", ".join(f"{n} {way}" for way, n in went.items() if n)
            # A client that connects while its server's listen() is on its way to flatd is a plain one: forwarded.
            stray = path == "forwarded" and went["direct"]
            if stray or (suite.flat and not only and went[path] < suite.flat):
                self.report.failed(case, f"{count or 'none'}; wanted {suite.flat} {path}")
            elif went[path]:
                self.report.passed(case, count)
            for name in sorted(set(wanted) | set(got)):
                self.compare(suite, path, name, wanted.get(name, ("missing", "")), got.get(name, ("missing", "")), text)

    @staticmethod
    def equal(wanted, got):
        # Why a case is skipped may name a process, as part of a file's name.
        return wanted[0] == got[0] and (wanted[0] != "skip" or re.sub(r"\d+", "N", wanted[1]) == re.sub(r"\d+", "N", got[1]))

    def compare(self, suite, path, name, wanted, got, text):
        case = f"{suite.name}/{name}/{path}"
        reason, always = self.report.reason(case)
        if self.equal(wanted, got):
            if always:
                self.report.failed(case, "is in `differences` and does not differ")
            else:
                self.report.passed(case)
            return
        difference = f"{' '.join(wanted)} natively, {' '.join(got)} {path}"
        if reason:
            self.report.say("known to differ", "differs", case, reason)
            return
        if "hang" not in (wanted[0], got[0]):
            again = self.once(suite, "native", [name])[0].get(name)
            over, more, _ = self.once(suite, path, [name])
            if again and name in over and self.equal(again, over[name]):
                self.report.say("unsteady", "unsteady", case, difference)
                return
            text = more
        self.report.failed(case, difference + "\n" + suites.excerpt(text, name))


def read_differences():
    """{case: (reason, whether it differs always)}; a line is [sometimes ]CASE[/PATH], a colon and a blank, the reason."""
    found = {}
    with open(os.path.join(HERE, "differences"), encoding="utf-8") as f:
        for line in f:
            line = line.strip()
            if line and not line.startswith("#"):
                case, _, reason = line.partition(": ")
                if not reason.strip():
                    sys.exit(f"run.py: differences: no reason for {case}")
                always = not case.startswith("sometimes ")
                found[case.removeprefix("sometimes ").strip()] = (reason.strip(), always)
    return found


def chosen_suites(args):
    """(suite, cases, paths) to run."""
    for suite in suites.SUITES:
        patterns = [p for p in args.patterns if fnmatch.fnmatchcase(suite.name, p.split("/")[0])]
        if args.patterns and not patterns or not args.patterns and (suite.more and not args.all or suite.slow and args.quick):
            continue
        only = [p.split("/", 1)[1] for p in patterns if "/" in p]
        yield suite, only if len(only) == len(patterns) else [], args.path if args.all or not suite.slow else args.path[:1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.environ.get("FLAT_BUILD", "build"))
    parser.add_argument("--sources", help="folder of the suites' sources, filled as needed (BUILD/sources)")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--path", action="append", choices=PATHS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--quick", action="store_true", help="without the slow ones")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("patterns", nargs="*")
    args = parser.parse_args()
    args.path = args.path or list(PATHS)
    args.build = os.path.abspath(args.build)
    args.sources = os.path.abspath(args.sources or f"{args.build}/sources")
    if args.list:
        for suite in suites.SUITES:
            print(suite.name, "slow" if suite.slow else "", "more" if suite.more else "")
        return
    report = Report(read_differences())
    args.work = tempfile.mkdtemp(prefix="flat-suites.")
    os.chmod(args.work, 0o755)
    jobs = queue.Queue()
    for job in chosen_suites(args):
        why = job[0].missing(args.sources)
        if why:
            report.failed(job[0].name, why)
        else:
            jobs.put(job)
    workers = [Worker(i, args, jobs, report) for i in range(min(args.jobs, jobs.qsize()))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for name, seconds in sorted(report.seconds.items(), key=lambda item: -item[1])[:8]:
        print(f"  {seconds:6.1f} s {name}")
    if args.keep:
        print(f"kept: {args.work}")
    else:
        shutil.rmtree(args.work, ignore_errors=True)
    print(", ".join(f"{n} {kind}" for kind, n in report.counts.items()))
    sys.exit(1 if report.counts["failed"] or not report.counts["passed"] else 0)


main()
