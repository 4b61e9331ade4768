#!/usr/bin/env python3
"""Who may include whom (docs/ARCHITECTURE.md): the layers of lib/, and programs outside it."""

import os
import re

import tree

# What a folder of lib/ may include besides itself, base and include/flat.
MAY = {
    "base": [],
    "vq": [],
    "codec": [],
    "elem": ["codec"],
    "mesh": ["codec", "elem"],
    "control": ["codec", "elem", "mesh"],
    "wire": ["vq", "codec"],
    "host": ["vq", "codec", "elem", "mesh"],
    "authn": ["codec", "mesh"],
    "rpc": ["codec"],
    "offload": ["vq", "codec", "elem", "mesh", "control", "wire", "authn"],
    "cmd": ["vq", "codec", "elem", "mesh", "control", "wire", "host", "offload"],
}
# Single files that a folder may include besides: the directory speaks of addresses in the form
# that the control messages carry them.
MAY_FILE = {
    "mesh": ["vq/attach.h"],
}
# Outside libraries and the folders that know them.
LIBRARIES = {
    "liburing.h": ["offload", "wire", "vq"],
    "yaml.h": ["control"],
    "openssl/": ["wire", "control", "authn"],
    "nghttp2/": ["codec", "control", "wire"],
    "zlib.h": ["offload"],
}
PUBLIC_ONLY = ("shim", "examples", "bench")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def check_lib(report, rel, line, kind, name):
    folder = rel.split("/")[1]
    if folder not in MAY:
        report.add(rel, line, f"lib/{folder} has no place in the layers: state it in {__file__}")
        return
    if kind == "<":
        for library, users in LIBRARIES.items():
            if name.startswith(library) and folder not in users:
                report.add(rel, line, f"lib/{folder} may not use <{name}>")
        return
    if "/" not in name:
        report.add(rel, line, f'include "{name}" must carry its folder')
        return
    target = name.split("/")[0]
    if not os.path.exists(os.path.join(tree.ROOT, "lib", name)):
        report.add(rel, line, f'"{name}" is not a file of lib/')
    elif (target not in (folder, "base") and target not in MAY[folder]
          and name not in MAY_FILE.get(folder, [])):
        report.add(rel, line, f"lib/{folder} may not include lib/{target}")


def check_outside(report, rel, line, kind, name):
    if kind == '"' and not os.path.exists(os.path.join(tree.ROOT, os.path.dirname(rel), name)):
        report.add(rel, line, f'"{name}" is not beside the file: only <flat/...> is in sight here')


def main():
    report = tree.Report()
    checked = 0
    for rel in tree.files((".c", ".h"), ("lib", "include") + PUBLIC_ONLY):
        text = tree.read(rel)
        checked += 1
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            kind, name = match.groups()
            if rel.startswith("lib/"):
                check_lib(report, rel, line, kind, name)
            elif rel.startswith("include/"):
                if kind == '"':
                    report.add(rel, line, "public headers include with <>")
            else:
                check_outside(report, rel, line, kind, name)
    report.end(checked)


main()
