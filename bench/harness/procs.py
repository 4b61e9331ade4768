"""Programs a run starts: each is known by its pid, waited for, and ended at the end."""

import os
import re
import select
import signal
import subprocess
import time


class RunError(Exception):
    """Something a measurement stands on is not so; the row says FAILED and why."""


class Program:
    """One started program and the file its output goes to."""

    def __init__(self, name, process, log):
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self):
        return self.process.pid

    def tail(self, lines=5):
        with open(self.log, errors="replace") as f:
            return " | ".join(line.strip() for line in f.readlines()[-lines:])

    def check(self):
        code = self.process.poll()
        if code is not None:
            raise RunError(f"{self.name} ended with status {code}: {self.tail()}")

    def stop(self):
        """SIGTERM, then SIGKILL to this pid; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class Programs:
    """All programs of one run, ended in reverse order."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.count = 0

    def start(self, name, argv, env=None, ready=None, timeout=10, pass_fds=()):
        """Starts argv; ready(program) is asked until true. RunError when it ends or is late."""
        self.count += 1
        log = os.path.join(self.folder, f"{self.count:03d}-{name}.log")
        with open(log, "wb") as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=env, pass_fds=pass_fds)
        program = Program(name, process, log)
        self.started.append(program)
        if ready:
            wait_until(lambda: program.check() or ready(program), timeout,
                       lambda: f"{name} was not ready in {timeout} s: {program.tail()}")
        return program

    def start_with_ready_fd(self, name, argv, env=None, timeout=30):
        """As start(), for a program that takes --ready-fd."""
        read_fd, write_fd = os.pipe()
        try:
            program = self.start(name, argv + ["--ready-fd", str(write_fd)], env,
                                 pass_fds=(write_fd,))
            os.close(write_fd)
            write_fd = -1
            readable, _, _ = select.select([read_fd], [], [], timeout)
            if not readable or not os.read(read_fd, 1):
                raise RunError(f"{name} was not ready: {program.tail()}")
            return program
        finally:
            os.close(read_fd)
            if write_fd >= 0:
                os.close(write_fd)

    def stop(self, program):
        self.started.remove(program)
        return program.stop()

    def stop_all(self):
        while self.started:
            self.started.pop().stop()


def wait_until(condition, timeout, message):
    """Asks condition() every 10 ms, RunError(message()) after timeout seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise RunError(message())
        time.sleep(0.01)


def run(argv, env=None, timeout=120):
    """Runs argv to its end, returns its standard output; RunError on a bad end."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=env, text=True, errors="replace")
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as e:
        process.kill()
        process.wait()
        if isinstance(e, subprocess.TimeoutExpired):
            raise RunError(f"{os.path.basename(argv[0])} took over {timeout} s") from None
        raise
    if process.returncode != 0:
        last = (err.strip() or out.strip()).splitlines()[-3:]
        raise RunError(f"{' '.join(argv[:4])} ...: status {process.returncode}: {' | '.join(last)}")
    return out


def listening(port, net="self"):
    """True when some socket listens on the TCP port, in the network of process `net`; found without connecting to it."""
    for table in (f"/proc/{net}/net/tcp", f"/proc/{net}/net/tcp6"):
        try:
            with open(table) as f:
                rows = f.read()
        except FileNotFoundError:
            continue
        # local address:port, remote address:port, state 0A: LISTEN (include/net/tcp_states.h)
        if re.search(rf":{port:04X} [0-9A-F]+:0000 0A ", rows):
            return True
    return False


def cpu_seconds(pid):
    """CPU time that pid's threads have used, in seconds: ns from schedstat, else ticks from stat."""
    if os.path.exists(f"/proc/{pid}/schedstat"):
        total = 0
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/schedstat") as f:
                total += int(f.read().split()[0])
        return total * 1e-9
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    # proc(5): utime and stime are fields 14 and 15; the split starts at field 3.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end_on_signals():
    """SIGINT, SIGTERM and SIGHUP unwind the run, so that what it started is ended."""
    def leave(number, _frame):
        raise SystemExit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
