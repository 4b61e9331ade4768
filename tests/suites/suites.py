"""
The suites that run.py knows: how each is started, what is left out of it and why, how its output is read.

A suite is either a unittest module (`module`), run case by case by unittest_cases.py, or programs that say themselves how each case went
(`programs` and `parse`).
"""

import dataclasses
import fnmatch
import glob
import os
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"


@dataclasses.dataclass
class Suite:
    """Defaults are those of a small unittest module."""
    name: str
    module: str = ""
    only: tuple = ()          # patterns of cases; nothing: all
    without: tuple = ()       # patterns of cases that do not run
    flat: int = 1             # connections that must have been flat at least
    limit_s: int = 60         # without any case that ends
    slow: bool = False        # over one path alone, without --all
    more: bool = False        # with --all or by name alone
    env: dict = dataclasses.field(default_factory=dict)
    package: str = ""         # Debian source package; None of it is built but what `find` builds
    find: object = None       # folder of the source -> {program: (command, folder)}
    parse: object = None      # output -> {case: (word, detail)}
    found: dict = dataclasses.field(default_factory=dict)

    def programs(self, only):
        """(name, command, folder) of those that have cases of these names."""
        return [(name, *where) for name, where in self.found.items() if not only or any(p.startswith(name) for p in only)]

    def missing(self, sources):
        """Gets what it needs. Why it cannot run, or nothing."""
        if self.module.startswith("test.") and not os.path.exists("/usr/lib/python3.11/test/test_socket.py"):
            return "no libpython3.11-testsuite"
        if self.package:
            folder = os.path.join(sources, self.package)
            done = subprocess.run(["bash", os.path.join(HERE, "source.sh"), self.package, folder],
                                  capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return done.stdout.strip() or done.stderr.strip()
            self.found = self.find(folder)
        return "" if self.module or self.found else "no programs"


def excerpt(text, name):
    """What a suite's output says of one case."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("-- ") and line.split(" ")[-1].endswith(name):
            end = next((j for j in range(i + 1, len(lines)) if lines[j].startswith("-- ")), len(lines))
            return "\n".join(lines[i:end][:60])
    return "\n".join(lines[-40:])


def tap(text):
    """Perl's kind of output."""
    found = {}
    for line in text.splitlines():
        m = re.match(r"(not )?ok (\d+)(?: -)? ?([^#]*)(?:# *(skip|todo)\b *(.*))?$", line.strip(), re.IGNORECASE)
        if m:
            word = "skip" if (m[4] or "").lower() == "skip" else "fail" if m[1] and not m[4] else "ok"
            name = re.sub(r"\W+", "-", m[3].strip()).strip("-")
            found[f"{m[2]}{'-' + name if name else ''}"] = (word, m[5] or "" if word == "skip" else "")
    return found



def perl_programs(where, patterns):
    """perl's own modules, as the distribution's perl has them; below a folder of the source."""
    def find(folder):
        below = os.path.join(folder, where)
        inside = below if where == "t" else os.path.join(below, "t")
        found = {}
        for path in sorted(p for pattern in patterns.split() for p in glob.glob(f"{inside}/{pattern}.t")):
            # The core's tests take the modules of the tree that they stand in, which was not built here.
            command = ["perl", path] if where != "t" else [
                "perl", "-e", "require './test.pl'; no warnings; *set_up_inc = sub {}; do $ARGV[0]; die $@ if $@", path]
            found[os.path.basename(path)[:-2] + "/"] = (command, below)
        return found
    return find


def tcl_programs(folder):
    return {name + "/": (["tclsh8.6", os.path.join(folder, "tests", name + ".test"), "-verbose", "pass skip error"], "")
            for name in ("socket", "io", "ioCmd", "chanio", "event", "http")}


def tcl(text):
    """tcltest's."""
    found = {}
    for line in text.splitlines():
        m = re.match(r"(?:\+\+\+\+|====) (\S+) (?:.* )?(PASSED|SKIPPED|FAILED)(?:: (.*))?$", line)
        if m:
            found[m[1]] = ({"PASSED": "ok", "SKIPPED": "skip", "FAILED": "fail"}[m[2]], m[3] or "")
    return found


def built(folder, *options):
    """Folder where a source that has a CMakeLists.txt was built, or nothing."""
    build = folder + "-built"
    for command in (["cmake", "-S", folder, "-B", build, *options], ["cmake", "--build", build, "-j2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{' '.join(command)}: {(done.stderr or done.stdout)[-800:]}")
            return None
    return build


# libuv: what goes over sockets, or to other processes; each test is a process of its own.
UV = ("tcp_*", "poll_*", "ipc_*", "spawn_*", "fork_*", "ping_pong*", "pipe_*", "shutdown_*", "connect_*", "connection_*", "not_*",
      "emfile", "delayed_accept", "multiple_listen", "callback_order", "watcher_cross_stop", "getsockname_*", "socket_*",
      "read_*", "eintr_handling", "we_*")
# Files that are watched; the runner's own way of making processes.
UV_NOT = ("fork_fs_*", "spawn_setuid*", "spawn_setgid*")


def uv_programs(folder):
    build = built(folder)
    program = f"{build}/uv_run_tests_a"
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=False,
                           env=dict(os.environ, UV_RUN_AS_ROOT="1")).stdout.split() if build else ()
    return {f"{name}/": ([program, name], folder) for name in names
            if any(fnmatch.fnmatchcase(name, p) for p in UV) and not any(fnmatch.fnmatchcase(name, p) for p in UV_NOT)}


def libevent_programs(folder):
    build = built(folder, "-DEVENT__LIBRARY_TYPE=STATIC")
    groups = ("main", "bufferevent", "http", "listener", "rpc", "et", "ssl") if build else ()
    return {group + "/": ([f"{build}/bin/regress", group + "/.."], "") for group in groups}


def tinytest(text):
    """libevent's."""
    found, case = {}, None
    for line in text.splitlines():
        m = re.match(r"\w+/(\w+): (?:\[forking\] *)?(OK|SKIPPED|DISABLED)?", line)
        if m:
            case = m[1]
            found[case] = ("skip" if m[2] in ("SKIPPED", "DISABLED") else "ok", "")
        if case and line.endswith("FAILED]"):
            found[case] = ("fail", "")
    return found


# multiprocessing: what goes over sockets; the rest of the module, queues and barriers over pipes, takes minutes.
MP_SOCKETS = ("*Listener*", "*Connection*", "*TestPoll*", "*RemoteManager*", "*ManagerRestart*", "*TestWait*",
              "*TestTimeouts*", "*MyManager*", "*TestFlags*", "*TestIgnoreEINTR*")

SUITES = [
    # The other kinds of sockets are the kernel's; in some virtual machines these wait for ever, natively too.
    Suite("python-socket", "test.test_socket", without=("*VSOCK*", "*BasicCANTest*", "*ISOTP*", "*J1939*"), flat=80),
    Suite("python-select", "test.test_select", flat=0),
    Suite("python-poll", "test.test_poll", flat=0),
    Suite("python-epoll", "test.test_epoll", flat=4),
    Suite("python-selectors", "test.test_selectors", flat=0),
    Suite("python-socketserver", "test.test_socketserver", flat=10),
    Suite("python-httplib", "test.test_httplib", flat=10),
    Suite("python-docxmlrpc", "test.test_docxmlrpc", flat=5),
    Suite("python-fcntl", "test.test_fcntl", flat=0),
    Suite("python-fileio", "test.test_fileio", flat=0),
    Suite("python-resource", "test.test_resource", flat=0),
    Suite("python-urllib2-localnet", "test.test_urllib2_localnet", flat=20),
    Suite("python-signal", "test.test_signal", flat=0, slow=True, limit_s=120),
    Suite("python-multiprocessing-sockets", "test.test_multiprocessing_spawn", only=MP_SOCKETS, flat=5, slow=True, limit_s=120),
    Suite("python-multiprocessing", "test.test_multiprocessing_spawn", flat=5, more=True, limit_s=200),
]
for extra in ("ssl", "ftplib", "smtplib", "xmlrpc", "httpservers", "asyncore", "asynchat", "telnetlib", "poplib", "imaplib", "nntplib",
              "wsgiref", "logging", "subprocess", "os", "asyncio.test_events", "asyncio.test_streams", "asyncio.test_sock_lowlevel",
              "asyncio.test_server", "asyncio.test_sendfile", "asyncio.test_selector_events", "asyncio.test_sslproto",
              "asyncio.test_ssl", "asyncio.test_buffered_proto", "asyncio.test_unix_events", "asyncio.test_base_events",
              "asyncio.test_subprocess", "multiprocessing_fork", "multiprocessing_forkserver", "concurrent_futures", "threading", "posix",
              "io", "faulthandler", "urllib2", "urllib", "smtpd", "pty", "openpty",
              "popen", "fork1", "wait3", "wait4", "eintr", "mmap", "shutil", "tempfile", "file", "pipes",
              "asyncio.test_runners", "asyncio.test_transports", "asyncio.test_waitfor"):
    SUITES.append(Suite("python-" + extra.replace("asyncio.test_", "asyncio-"), "test.test_" + extra, more=True, flat=0, limit_s=120,
                        without=("*Networked*",)))
SUITES += [
    Suite("perl-io", package="perl", parse=tap, flat=6, find=perl_programs(
        "dist/IO", "IO cachepropagate-* io_dup io_leak io_multihomed io_pipe io_poll io_sel io_sock io_sock_errstr io_udp io_unix")),
    Suite("perl-socket", package="perl", parse=tap, flat=0, find=perl_programs("cpan/Socket", "*")),
    # 31nonblocking-connect-internet: other hosts.
    Suite("perl-io-socket-ip", package="perl", parse=tap, flat=10, find=perl_programs("cpan/IO-Socket-IP", "0* 1[0-8]* 2* 30*")),
    Suite("perl-libnet", package="perl", parse=tap, flat=2, find=perl_programs("cpan/libnet", "*")),
    Suite("perl-core", package="perl", parse=tap, flat=2, find=perl_programs(
        "t", "io/socket io/socketpair io/dup io/pipe io/eintr io/closepid")),
    # The distribution's module is tested, if it is there.
    Suite("perl-io-socket-ssl", package="libio-socket-ssl-perl", parse=tap, flat=100, more=True, find=perl_programs("", "*")),
    Suite("libuv", package="libuv1", find=uv_programs, parse=lambda text: {}, flat=100, more=True, env={"UV_RUN_AS_ROOT": "1"}),
    Suite("libevent", package="libevent", find=libevent_programs, parse=tinytest, flat=100, more=True, limit_s=200),
    Suite("tcl", package="tcl8.6", find=tcl_programs, parse=tcl, flat=20, more=True),
]
