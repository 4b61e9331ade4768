#!/usr/bin/env python3
"""
Every file: at most 800 lines, no path of the place it lies at, no marks of unfinished work,
no trailing blanks; functions of lib and shim at most 70 lines.
"""

import re

import tree

MAX_LINES = 800
MAX_FUNCTION_LINES = 70
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X{3}|HA" r"CK)\b|\b[Ff]or no" r"w\b")
FIXED_PLACE = re.compile("/t" "mp/(?:build-|flat/)")
SOURCE = (".c", ".h", ".sh", ".py", ".cmake", ".pml", ".yaml", ".yml", ".json", ".in")
# A function's end is a brace in the first column; its begin the nearest one before.
FUNCTION = re.compile(r"^\{\n(.*?)^\}", re.M | re.S)


def this_place():
    """The pattern of the path at which this tree lies: it means something on this machine only."""
    if tree.ROOT.startswith("/usr/"):  # where clean-machine.sh puts the tree, as anybody may
        return re.compile("(?!)")
    return re.compile("(?<![\\w.$}~)-])" + re.escape(tree.ROOT) + "(?![\\w.-])")


def check_lines(report, rel, text, local):
    for number, line in enumerate(text.split("\n"), 1):
        match = local.search(line)
        if match:
            report.add(rel, number, f"`{match.group(0)}` is where this tree lies")
        if rel.endswith((".sh", ".py", ".md", ".txt")) and FIXED_PLACE.search(line):
            report.add(rel, number, "a fixed place below /tmp")
        if rel.endswith(SOURCE):
            match = UNFINISHED.search(line)
            if match:
                report.add(rel, number, f"`{match.group(0)}`: unfinished work belongs to an issue")
            if line != line.rstrip() and not rel.endswith((".in",)):
                report.add(rel, number, "blanks at the end of the line")


def main():
    report = tree.Report()
    local = this_place()
    checked = 0
    for rel in tree.files():
        if "/corpus/" in rel:
            continue
        text = tree.read(rel)
        if text is None:
            if not rel.endswith((".png", ".svg")):
                report.add(rel, 0, "a binary file has no place here")
            continue
        checked += 1
        lines = text.count("\n")
        if lines > MAX_LINES:
            report.add(rel, 0, f"{lines} lines, at most {MAX_LINES}")
        check_lines(report, rel, text, local)
        if rel.startswith(("lib/", "shim/")) and rel.endswith((".c", ".h")):
            for match in FUNCTION.finditer(text):
                length = match.group(1).count("\n")
                if length > MAX_FUNCTION_LINES:
                    begin = text.count("\n", 0, match.start()) + 1
                    report.add(rel, begin, f"a function of {length} lines, at most {MAX_FUNCTION_LINES}")
    report.end(checked)


main()
