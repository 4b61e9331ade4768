#!/usr/bin/env python3
"""Calls and words that C files of the project may not use, each with what to use instead."""

import re

import tree

EVERYWHERE = [
    (r"\bstrcpy\s*\(|\bstrcat\s*\(|\bstpcpy\s*\(", "no bound: use flat_strbuf or memcpy with a checked length"),
    (r"\bsprintf\s*\(|\bvsprintf\s*\(", "no bound: use snprintf or flat_strbuf"),
    (r"\bgets\s*\(", "no bound"),
    (r"\bstrtok\s*\(", "hidden state: use strcspn or strtok_r"),
    (r"\balloca\s*\(", "no bound on the stack"),
    (r"\b(?:tmpnam|tempnam|mktemp)\s*\(", "a race: use mkstemp or memfd_create"),
    (r"\batoi\s*\(|\batol\s*\(|\batof\s*\(", "errors unseen: use strtoul and check"),
    (r"(?<!__asm__ )\bvolatile\b", "use C11 atomics with a stated order"),
    (r"\btypedef\s+(?:struct|enum|union)\b", "no typedef of structs and enums"),
]
# Not for tests, which may call a shell to tidy up.
PRODUCT = [
    (r"\bsystem\s*\(|\bpopen\s*\(", "a shell"),
]
# Loaded into applications: the kernel is reached by base/sys.h alone, since libc's names may be
# somebody's hooks (our own shim's first of all), set errno and are cancellation points.
SOCKET_CALLS = ("socket socketpair bind listen accept accept4 connect shutdown close close_range dup dup2 "
                "dup3 fcntl ioctl send sendto sendmsg sendmmsg write writev recv recvfrom recvmsg recvmmsg "
                "read readv sendfile splice poll ppoll select pselect epoll_create epoll_create1 epoll_ctl "
                "epoll_wait epoll_pwait epoll_pwait2 getsockopt setsockopt getsockname getpeername").split()
WRAPPERS = re.compile(r"(?<![\w.>])(" + "|".join(SOCKET_CALLS) + r")\s*\(")
APPLICATION_SIDE = ("lib/host/", "lib/vq/", "lib/base/")


def main():
    report = tree.Report()
    checked = 0
    everywhere = [(re.compile(pattern), why) for pattern, why in EVERYWHERE]
    product = everywhere + [(re.compile(pattern), why) for pattern, why in PRODUCT]
    for rel in tree.files((".c", ".h")):
        checked += 1
        code = tree.c_code(tree.read(rel))
        for number, line in enumerate(code.split("\n"), 1):
            for rule, why in everywhere if rel.startswith("tests/") else product:
                match = rule.search(line)
                if match:
                    report.add(rel, number, f"`{match.group(0).strip()}`: {why}")
            if rel.startswith(APPLICATION_SIDE):
                match = WRAPPERS.search(line)
                if match:
                    report.add(rel, number, f"`{match.group(1)}()` of libc: use flat_sys_{match.group(1)}")
    report.end(checked)


main()
