# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which packages a host lacks: the question to dpkg, and what its answer means. Pure functions."""

from __future__ import annotations

import fnmatch
import re
import shlex
from dataclasses import dataclass

LISTS = "lists"
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?")
APT = "python3-apt"


@dataclass(frozen=True)
class Host:
    """What dpkg said: versions of the installed packages by name, and whether there are package lists."""

    installed: dict[str, str]
    has_lists: bool


def split(wanted: str) -> tuple[str, str]:
    """Return name and version of ``name`` or ``name=version``; a version may hold wildcards, as apt takes them.

    Raises:
        ValueError: this is no name of a Debian package.
    """
    name, equals, version = wanted.partition("=")
    if not NAME.fullmatch(name) or (equals and not version):
        raise ValueError(f"{wanted!r} is not a package: expected a Debian package name, or name=version.")
    return name, version


def question(wanted: list[str]) -> str:
    """Return the shell command whose output `answer` reads. It succeeds whatever is installed."""
    names = " ".join(shlex.quote(name) for name in sorted({split(entry)[0] for entry in wanted} | {APT}))
    return (
        rf"dpkg-query -W -f='${{Package}}:${{Architecture}} ${{db:Status-Status}} ${{Version}}\n' {names} 2>/dev/null; "
        f"ls /var/lib/apt/lists 2>/dev/null | grep -q -e Packages -e Release && echo {LISTS}; true"
    )


def answer(output: str) -> Host:
    """Read the output of `question`. A package that is only half installed, or only left its configuration, is not installed."""
    installed: dict[str, str] = {}
    has_lists = False
    for line in output.replace("\r", "").splitlines():
        words = line.split()
        if words == [LISTS]:
            has_lists = True
        elif len(words) == 3 and words[1] == "installed":
            installed[words[0].partition(":")[0]] = installed[words[0]] = words[2]
    return Host(installed, has_lists)


def missing(wanted: list[str], host: Host) -> list[str]:
    """Return the entries that apt has to look at, in their order: not installed, or in another version."""
    found = []
    for entry in wanted:
        name, version = split(entry)
        seen = host.installed.get(name)
        if seen is None or (version and not fnmatch.fnmatchcase(seen, version)):
            found.append(entry)
    return found
