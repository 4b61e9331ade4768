"""What the figures were measured on."""

import os
import platform
import re
import shutil
import subprocess
import time

VERSIONS = {
    "sockperf": ["--version"], "iperf3": ["--version"], "redis-server": ["--version"],
    "memcached": ["--version"], "nginx": ["-v"], "wrk": ["-v"], "haproxy": ["-v"],
}


def _first(pattern, path, default):
    try:
        with open(path) as f:
            found = re.search(pattern, f.read(), re.M)
            return found.group(1).strip() if found else default
    except OSError:
        return default


def _version(program, arguments):
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if not path:
        return "not installed"
    done = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=10, check=False)
    number = re.search(r"\d+\.\d+[.\d]*", done.stdout + done.stderr)
    return number.group(0) if number else "?"


def _commit(folder):
    done = subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def describe(source):
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": _first(r"^model name\s*:\s*(.*)$", "/proc/cpuinfo", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": bool(_first(r"^flags.*\b(hypervisor)\b", "/proc/cpuinfo", "")),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo", "0")) / 2**20, 1),
        "kernel": platform.release(),
        "load_at_start": os.getloadavg()[0],
        "commit": _commit(source),
        "versions": {name: _version(name, how) for name, how in VERSIONS.items()},
    }
