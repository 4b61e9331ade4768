"""postgres and pgbench, both unmodified: one row by its key, a process for each connection."""

import glob
import os
import pwd
import re
import shutil

from case import Case
from procs import RunError, listening, run

CLIENTS = 4
# Debian keeps the server's programs out of PATH.
FOLDERS = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)


def server_program(name):
    for folder in FOLDERS:
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    return shutil.which(name)


def not_here():
    absent = [n for n in ("initdb", "postgres") if not server_program(n)]
    return f"not installed: {', '.join(absent)}" if absent else None


def as_user():
    """postgres does not run as root."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def serve(site):
    data = os.path.join(site.context.folder, f"postgres-{site.port}")
    os.mkdir(data, 0o700)
    if os.geteuid() == 0:
        os.chown(data, pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    run([*as_user(), server_program("initdb"), "-D", data, "-U", "bench", "-A", "trust", "-N",
         "--no-instructions"], timeout=120)
    site.programs.start(
        "postgres",
        [*as_user(), *site.command(server_program("postgres"), "-D", data, "-h", "127.0.0.1",
                                   "-p", site.port, "-k", "", "-F")],
        site.env, ready=lambda _p: listening(site.port))
    run(["pgbench", "-i", "-q", "-s", "1", "-h", "127.0.0.1", "-p", str(site.port), "-U", "bench",
         "postgres"], timeout=120)


def measure(site):
    out = run(site.command("pgbench", "-S", "-n", "-c", CLIENTS, "-j", 2, "-M", "prepared",
                           "-T", max(1, round(site.seconds)), "-h", site.host,
                           "-p", site.client_port, "-U", "bench", "postgres"), site.env)
    rate = re.search(r"tps = ([0-9.]+)", out)
    failed = re.search(r"failed transactions: ([1-9][0-9]*)", out)
    if not rate or failed or float(rate.group(1)) <= 0:
        raise RunError(f"pgbench: {out.strip()[-200:]}")
    return float(rate.group(1)) * 1e-3


CASES = [
    Case(name="pgbench", title=f"pgbench select-only, {CLIENTS} clients", unit="k tx/s",
         better="higher", serve=serve, measure=measure, ways=("kernel", "shim"),
         needs=("pgbench", "setpriv"), skip=not_here, bars={"shim": "1.5x kernel"}),
]
