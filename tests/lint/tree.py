"""The project's files and C text without comments, for the checks in this folder."""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = (".png", ".svg", ".pdf", ".bin")


def folders():
    """Folders of the tree, relative, without build folders, corpora and what begins with a dot."""
    for here, subs, names in os.walk(ROOT):
        subs[:] = sorted(s for s in subs if not s.startswith((".", "build", "__pycache__")) or s == ".ci")
        rel = os.path.relpath(here, ROOT)
        # In a second work tree .git is a file.
        yield ("" if rel == "." else rel), sorted(n for n in names if n != ".git")


def files(suffixes=None, under=None):
    """Relative names of the project's files, those with one of `suffixes`, below one of `under`."""
    for folder, names in folders():
        for name in names:
            rel = os.path.join(folder, name)
            if suffixes and not name.endswith(tuple(suffixes)):
                continue
            if under and not rel.startswith(tuple(u + "/" for u in under)):
                continue
            yield rel


def read(rel):
    """The text of a file, None where it is binary."""
    if rel.endswith(BINARY):
        return None
    with open(os.path.join(ROOT, rel), "rb") as f:
        data = f.read()
    if b"\0" in data:
        return None
    return data.decode("utf-8", "replace")


_C_NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def c_code(text):
    """C text with comments and literals blanked; lines keep their numbers."""
    def blank(match):
        word = match.group(0)
        if word[0] == "/":
            return re.sub(r"[^\n]", " ", word)
        return word[0] + " " * (len(word) - 2) + word[0]
    return _C_NOISE.sub(blank, text)


class Report:
    """Collects violations and ends the program."""

    def __init__(self):
        self.bad = 0

    def add(self, rel, line, what):
        """One violation. `line` 0: the file as a whole."""
        self.bad += 1
        print(f"{rel}:{line}: {what}" if line else f"{rel}: {what}")

    def end(self, checked):
        """Exit status 0 (nothing found in `checked` things) or 1."""
        if not checked:
            print("nothing was there to check: the check itself is broken")
            sys.exit(1)
        print(f"{checked} checked, {self.bad} violations")
        sys.exit(1 if self.bad else 0)
