"""A flatd for one case, what its programs run under, and the proof that it carried the bytes."""

import json
import os
import string

from procs import RunError, run, wait_until

CONFIG = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "config")
PROGRAMS = ("flatd", "flatctl", "flat-run")


def missing(context, linked):
    wanted = PROGRAMS[:2] if linked else PROGRAMS
    absent = [name for name in wanted if not context.program(name)]
    return f"not built: {', '.join(absent)}" if absent else None


class Mesh:
    count = 0

    def __init__(self, context, name, port, path, template="mesh", options=(), prefix=(), **more):
        """
        `template` of config/, which knows $name, $address, $port, $path, $uid and `more`; options are flatd's, prefix is put
        before it.
        """
        more.setdefault("ports", f"{{number: {port}, name: tcp, protocol: TCP}}")
        Mesh.count += 1
        self.context = context
        self.name = f"bench-{name}-{path}"
        # 240.0.0.0/4 is reserved (RFC 1112): nothing real is hidden by these addresses.
        self.address = f"240.7.{Mesh.count // 250}.{Mesh.count % 250 + 1}"
        self.control = os.path.join(context.folder, f"flatd-{Mesh.count}.sock")
        config = os.path.join(context.folder, f"mesh-{Mesh.count}.yaml")
        with open(os.path.join(CONFIG, f"{template}.yaml.in")) as f:
            text = string.Template(f.read()).substitute(
                name=self.name, address=self.address, port=port, path=path, uid=os.getuid(), **more)
        with open(config, "w") as f:
            f.write(text)
        self.flatd = context.programs.start(
            f"flatd-{Mesh.count}",
            [*prefix, context.program("flatd"), "--control", self.control, "--config", config,
             "--foreground", *options])
        wait_until(self._answers, 10, lambda: f"flatd does not answer: {self.flatd.tail()}")

    def _answers(self):
        self.flatd.check()
        try:
            self._ask("ls")
        except RunError:
            return False
        return True

    def _ask(self, what, *more):
        return run([self.context.program("flatctl"), "--control", self.control, what, *more],
                   timeout=10)

    def prefix(self):
        return (self.context.program("flat-run"), "--control", self.control, "--")

    def environment(self):
        """For programs that are linked with libflat."""
        return {**os.environ, "FLAT_CONTROL": self.control}

    def counters(self):
        """What went through this flatd so far: {path: (connections, bytes)}."""
        totals = {}
        for row in json.loads(self._ask("top", "--json"))["services"]:
            connections, moved = totals.get(row["path"], (0, 0))
            totals[row["path"]] = (connections + row["connections_opened"],
                                   moved + row["bytes_sent"] + row["bytes_received"])
        return totals

    def check_carried(self, before, after, path):
        """RunError unless bytes went over `path`, and over it alone."""
        def moved(way):
            return tuple(a - b for a, b in zip(after.get(way, (0, 0)), before.get(way, (0, 0))))
        if moved(path)[1] <= 0:
            raise RunError(f"flatd saw no bytes go {path}")
        for other in after:
            if other != path and moved(other)[0] > 0:
                raise RunError(f"{moved(other)[0]} connections went {other}, not {path}")
