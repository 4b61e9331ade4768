#!/usr/bin/env python3
"""
Memory that a peer can write is touched by lib/vq alone: there each word is loaded once, checked, and the copy
used. The directory, which the offload half alone can write, is touched by its own files.

The rule is tried on samples first: a lint that lets them pass is no lint.
"""

import re

import tree

# Words of lib/vq/layout.h, as they are reached through pointers into a lane; parts of a lane as pointers.
WORDS = "tail|head|flags|turn|space|bells|total"
SHARED = re.compile(r"(?:->|\.)\s*(?:prod|cons)\s*(?:\.\s*(?:" + WORDS + r")\b|\.|->)"
                    r"|\bctl(?:\[[^\]]*\])?\s*(?:->|\.)\s*arm\b|\barm\s*\.\s*data\b"
                    r"|(?:->|\.)\s*(?:ready|sleepers|naps?)\b(?=[^;]*memory_order)"
                    r"|\bmine\s*->|\bpeer\s*->\s*(?:ready|sleepers|naps?)\b"
                    r"|\bflat_lane_(?:slot|side|ring)\s*\("
                    r"|\blane(?:->|\.)(?:lane\.)?base\b")
DIRECTORY = re.compile(r"\bheader\s*->\s*(?:epoch|reign|first_id|makers|current|flags|table_bytes|magic|version)\b"
                       r"|\bflat_directory_(?:load|store|host|text)\s*\(")
OWNERS = ("lib/vq/", "tests/unit/", "tests/hostile/", "tests/stress/", "tests/fuzz/", "tests/failmalloc/")
DIRECTORY_OWNERS = ("lib/mesh/directory", "tests/")
# What must be found, and what must not.
BITES = (
    "x = vq->rx.ctl->prod.tail;", "slot->ring[d].prod.flags = 1;", "load(&in->cons . head);",
    "atomic_store(&s->vq.rx.ctl->arm.data, 1);", "p = flat_lane_slot(&l->lane, i);", "l->mine->sleepers++;",
    "memcpy(buf, lane->base + 4096, 10);", "atomic_load_explicit(&side->ready, memory_order_relaxed)",
    "b = flat_lane_ring(lane, 0, 1, FLAT_RING_BULK);",
)
LETS_PASS = ("x = s->vq.tx.tail;", "o->ready = 1;", "list.head = 0;", "e->flags |= 1;")


def main():
    report = tree.Report()
    checked = 0
    for sample in BITES:
        if not SHARED.search(sample):
            report.add(__file__, 0, f"does not see `{sample}`")
    for sample in LETS_PASS:
        if SHARED.search(sample):
            report.add(__file__, 0, f"takes `{sample}` for a shared word")
    for rel in tree.files((".c", ".h"), ("lib", "shim", "tests", "bench", "examples")):
        checked += 1
        for number, line in enumerate(tree.c_code(tree.read(rel)).split("\n"), 1):
            match = None if rel.startswith(OWNERS) else SHARED.search(line)
            if match:
                report.add(rel, number, f"`{match.group(0)}`: shared memory outside lib/vq")
            match = None if rel.startswith(DIRECTORY_OWNERS) else DIRECTORY.search(line)
            if match:
                report.add(rel, number, f"`{match.group(0)}`: the directory outside its files")
    report.end(checked)


main()
