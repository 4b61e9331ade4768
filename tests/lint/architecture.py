#!/usr/bin/env python3
"""docs/ARCHITECTURE.md lists every folder of the tree, and no other."""

import os
import re

import tree

DOCUMENT = "docs/ARCHITECTURE.md"
# A line of the tree: `lib/vq/      what it holds`.
ENTRY = re.compile(r"^\s*((?:\.ci|[a-z][\w-]*)(?:/[\w.-]+)*)/\s", re.M)
# Folders that hold data of one kind each are told of by their parent's line.
WHOLE = ("tests/fuzz/corpus/",)


def main():
    report = tree.Report()
    text = tree.read(DOCUMENT)
    block = re.search(r"^```tree\n(.*?)^```", text, re.M | re.S)
    if not block:
        report.add(DOCUMENT, 0, "no block ```tree")
        report.end(1)
    listed = {match.group(1) for match in ENTRY.finditer(block.group(1))}
    present = {folder for folder, names in tree.folders()
               if folder and names and not folder.startswith(WHOLE)}
    for folder in sorted(present - listed):
        report.add(DOCUMENT, 0, f"{folder}/ is not listed")
    for folder in sorted(listed - present):
        if not os.path.isdir(os.path.join(tree.ROOT, folder)):
            report.add(DOCUMENT, 0, f"{folder}/ is listed and not there")
    report.end(len(present))


main()
