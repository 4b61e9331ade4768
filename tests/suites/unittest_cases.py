#!/usr/bin/env python3
"""
Runs the cases of unittest modules one after the other, and writes a line for each to a file as soon as it is known, so that
whoever started this process can tell which case it was that never ended, and go on behind it.

  unittest_cases.py [--not PATTERN]... [--only PATTERN]... [--done FILE] RESULTS MODULE...

A line is `begin ID`, then `WORD ID SECONDS DETAIL`, WORD being ok, skip, fail or error. IDs are without the modules' package.
Cases that FILE has a line for are left out.
"""

import argparse
import faulthandler
import fnmatch
import importlib
import os
import signal
import sys
import time
import unittest

# What the modules of CPython ask for: all but names outside, and what takes minutes or gigabytes.
RESOURCES = ["network", "subprocess", "cpu", "walltime"]


def name_of(test):
    words = test.id().split(".")
    return ".".join(words[1:] if words[0] == "test" else words)


class Result(unittest.TestResult):
    """Writes what became of each case."""

    def __init__(self, out):
        super().__init__()
        self.out = out
        self.word = self.detail = None
        self.begin = 0.0

    def say(self, *words):
        os.write(self.out, (" ".join(str(w) for w in words).replace("\n", " ") + "\n").encode())

    def startTest(self, test):
        super().startTest(test)
        self.word, self.detail = "ok", ""
        self.begin = time.monotonic()
        self.say("begin", name_of(test))

    def stopTest(self, test):
        super().stopTest(test)
        self.say(self.word, name_of(test), f"{time.monotonic() - self.begin:.2f}", self.detail)
        self.word = None

    def note(self, test, word, detail):
        # Outside of any case: a class or a module that could not be set up.
        if self.word is None:
            self.say(word, name_of(test).replace(" ", ""), "0", detail)
        elif self.word in ("ok", "skip"):
            self.word, self.detail = word, detail

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, "skip", reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.failed(test, "fail", err)

    def addError(self, test, err):
        super().addError(test, err)
        self.failed(test, "error", err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.failed(subtest, "fail", err)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.note(test, "fail", "unexpected success")

    def failed(self, test, word, err):
        text = self._exc_info_to_string(err, test)
        print(f"-- {word} {test.id()}\n{text}", flush=True)
        self.note(test, word, f"{err[0].__name__}: {err[1]}"[:200])


def cases_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases_of(item)
        else:
            yield item


def done_before(path):
    """IDs that a process before this one began."""
    if not path:
        return set()
    with open(path, encoding="utf-8", errors="replace") as f:
        return {line.split()[1] for line in f if line.startswith("begin ")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--not", dest="without", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--done")
    parser.add_argument("results")
    parser.add_argument("modules", nargs="+")
    args = parser.parse_args()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    done = done_before(args.done)
    out = os.open(args.results, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    # The lowest numbers are the cases' own.
    high = 200
    os.dup2(out, high, inheritable=False)
    os.close(out)
    if any(m.startswith("test.") for m in args.modules):
        from test import support
        support.use_resources = RESOURCES
        support.verbose = 0
    result = Result(high)
    for module in args.modules:
        suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
        chosen = unittest.TestSuite()
        classes = {}
        for case in cases_of(suite):
            name = name_of(case)
            if name in done or any(fnmatch.fnmatchcase(name, p) for p in args.without):
                continue
            if args.only and not any(fnmatch.fnmatchcase(name, p) for p in args.only):
                continue
            # A class and its fixtures by itself; the module's fixtures around all of them.
            classes.setdefault(type(case), unittest.TestSuite()).addTest(case)
        chosen.addTests(classes.values())
        chosen.run(result)
    result.say("end", "end")
    sys.stdout.flush()
    # Threads that a failed case left behind keep nobody from ending.
    os._exit(0)


if __name__ == "__main__":
    main()
