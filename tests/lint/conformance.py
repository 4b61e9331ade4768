#!/usr/bin/env python3
"""
docs/conformance.md names tests: each exists, and each known difference of tests/parity is told of there. The rule is tried on
samples first.
"""

import fnmatch
import os
import re
import sys

import tree

NAMED = re.compile(r"`(parity|unit|hostile|e2e|kill|stress|failmalloc|fuzz|spin|lint)/([^`]+)`")


def texts(folder, ending):
    return "\n".join(tree.read(name) for name in tree.files([ending], [folder]))


def cases():
    """The names that there are, by folder."""
    found = {
        "parity": set(re.findall(r"^BEHAVIOUR(?:_ALONE)?\((\w+)\)", texts("tests/parity", ".c"), re.M)),
        "unit": {f"{suite}::{name}" for suite, name in
                 re.findall(r"^Test\((\w+),\s*(\w+)", texts("tests/unit", ".c"), re.M)},
        "hostile": set(re.findall(r'"(rule\d\d-[\w-]+)"', texts("tests/hostile", ".c"))),
    }
    for folder in ("e2e", "kill", "stress", "failmalloc", "fuzz", "spin", "lint"):
        names = os.listdir(os.path.join(tree.ROOT, "tests", folder))
        found[folder] = set(names) | {os.path.splitext(name)[0] for name in names}
    return found


def missing(text, found):
    return [f"{folder}/{name}" for folder, name in NAMED.findall(text) if not fnmatch.filter(found[folder], name)]


def main():
    found = cases()
    sample = {"parity": {"a_b", "a_c"}, "unit": {"x::y"}}
    if missing("`parity/a_*`, `unit/x::y`", sample) or missing("`parity/b_*` `unit/x::z`", sample) != ["parity/b_*", "unit/x::z"]:
        sys.exit("the rule does not see its samples")
    text = tree.read("docs/conformance.md")
    wrong = [f"docs/conformance.md: no test {name}" for name in missing(text, found)]
    for line in tree.read("tests/parity/differences").splitlines():
        name = line.split(":")[0].split("/")[0]
        if line.strip() and not line.startswith("#") and f"`parity/{name}` |" not in text:
            wrong.append(f"docs/conformance.md: tests/parity/differences has {name}, its first table has not")
    for line in wrong:
        print(line)
    print(f"{len(NAMED.findall(text))} checked, {len(wrong)} violations")
    sys.exit(1 if wrong else 0)


main()
