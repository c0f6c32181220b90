# SPDX-License-Identifier: GPL-3.0-or-later
"""Shorten the package lists of a test host to what a server may need, and what that depends on.

apt reads all of its lists whenever it starts. Debian's have 70,000 packages, four fifths of them for desktops and for those who build
software: without these a start takes a quarter of the processor. A package that is missing here is not found, with apt's own message:
its section, or its name, is added below. An update that finds newer lists fetches them whole.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

LISTS = Path("/var/lib/apt/lists")
SECTIONS = {"admin", "database", "httpd", "interpreters", "misc", "net", "shells", "utils", "web"}
NAMES = {"pebble", "prometheus-blackbox-exporter", "python3-venv"}  # Debian has them among what developers use
NAME = re.compile(r"(?:^|[,|])\s*([\w.+-]+)")


def value(entry: str, field: str) -> str:
    """Return what an entry says in one of its fields; most fields of most entries are never looked at."""
    start = entry.find(f"\n{field}: ")
    return entry[start + len(field) + 3 : entry.find("\n", start + 1)] if start >= 0 else ""


def shortened(lists: Iterable[str]) -> list[str]:
    """Return lists with the wanted packages only; who depends on a name that others provide gets all of those."""
    read = [[f"{entry}\n" for entry in text.rstrip("\n").split("\n\n")] for text in lists]
    known: dict[str, list[str]] = {}
    wanted: list[str] = []
    for entry in (entry for entries in read for entry in entries):
        name = entry.partition("\n")[0].removeprefix("Package: ")
        for one in (name, *NAME.findall(value(entry, "Provides"))):
            known.setdefault(one, []).append(entry)
        if value(entry, "Section").rpartition("/")[2] in SECTIONS or name in NAMES:
            wanted.append(name)
    kept: set[str] = set()
    while wanted:
        for entry in known.pop(wanted.pop(), ()):
            if entry not in kept:
                kept.add(entry)
                wanted += NAME.findall(value(entry, "Depends")) + NAME.findall(value(entry, "Pre-Depends"))
    return ["".join(f"{entry}\n" for entry in entries if entry in kept) for entries in read]


def main() -> None:
    """Shorten all lists together; they keep their times, by which apt knows them."""
    paths = sorted(LISTS.glob("*_Packages"))
    if not paths:
        sys.exit(f"server_packages.py: {LISTS} has no lists. Run apt-get update first.")
    for path, text in zip(paths, shortened(path.read_text(encoding="utf-8") for path in paths), strict=True):
        times = path.stat()
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


if __name__ == "__main__":
    main()
