#!/usr/bin/env python3
"""
Memory that a peer can write is touched by the ring files alone: there each word is loaded once,
checked, and the copy used. Elsewhere only the finalizer of the offload half, which completes the words
of a side whose process is gone.
"""

import re

import tree

# Words of lib/vq/layout.h, as they are reached through pointers into a lane.
SHARED = re.compile(r"->\s*(?:prod|cons)\s*\.|\bctl(?:\[[^\]]*\])?\s*(?:->|\.)\s*arm\b|\barm\.data\b"
                    r"|->\s*(?:ready|sleepers)\b(?=[^;]*memory_order)")
OWNERS = ("lib/vq/", "lib/offload/conn.c", "tests/unit/", "tests/hostile/", "tests/stress/", "tests/fuzz/")


def main():
    report = tree.Report()
    checked = 0
    for rel in tree.files((".c", ".h"), ("lib", "shim", "tests", "bench", "examples")):
        checked += 1
        if rel.startswith(OWNERS):
            continue
        for number, line in enumerate(tree.c_code(tree.read(rel)).split("\n"), 1):
            match = SHARED.search(line)
            if match:
                report.add(rel, number, f"`{match.group(0)}`: a shared word outside lib/vq")
    report.end(checked)


main()
