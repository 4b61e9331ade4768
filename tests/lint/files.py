#!/usr/bin/env python3
"""
Every file: at most 800 lines, no path of the machine it was written on, no marks of unfinished work,
no trailing blanks; functions of lib and shim at most 70 lines.
"""

import os
import re

import tree

MAX_LINES = 800
MAX_FUNCTION_LINES = 70
STANDARD = ("bin boot dev etc home lib lib32 lib64 libx32 lost+found media mnt opt proc root run sbin snap "
            "srv sys tmp usr var").split()
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X{3}|HA" r"CK)\b|\b[Ff]or no" r"w\b")
FIXED_PLACE = re.compile("/t" "mp/(?:build-|flat/)")
SOURCE = (".c", ".h", ".sh", ".py", ".cmake", ".pml", ".yaml", ".yml", ".json", ".in")
# A function's end is a brace in the first column; its begin the nearest one before.
FUNCTION = re.compile(r"^\{\n(.*?)^\}", re.M | re.S)


def machine_paths():
    """Patterns of absolute paths that mean something on this machine only."""
    tops = [name for name in os.listdir("/") if name not in STANDARD
            and os.path.isdir("/" + name) and not name.startswith(".")]
    places = {"/" + name + "/" for name in tops}
    home = os.path.expanduser("~")
    if home not in ("/", "/root"):
        places.add(home + "/")
    if not tree.ROOT.startswith("/usr/"):  # where clean-machine.sh puts the tree, as anybody may
        places.add(tree.ROOT)
    if not places:
        return re.compile("(?!)")  # a bare machine: no path means anything
    return re.compile("(?<![\\w.$}~)-])(?:" + "|".join(map(re.escape, sorted(places))) + ")")


def check_lines(report, rel, text, local):
    for number, line in enumerate(text.split("\n"), 1):
        match = local.search(line)
        if match:
            report.add(rel, number, f"`{match.group(0)}` is a path of this machine")
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
    local = machine_paths()
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
