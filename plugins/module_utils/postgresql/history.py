# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The history of a repository that was on another host before.

Every file of it is fetched as it is, encrypted, over pgBackRest's own connection between hosts. What the repository's programs look
for first, its info files, comes last, so that a move that was interrupted counts as none and is continued by the next run. From then on
until there is a backup at the new place a marker says the same.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

INFO = re.compile(r"(?:archive|backup)/[^/]+/(?:archive|backup)\.info(?:\.copy)?")
UNFINISHED = ".pgbackrest.tmp"
# Fetches one file, whose name is $1, below the directory $0, by the words behind it. A half one never has its name.
FETCH = (
    'umask 027; root=$0 name=$1; shift; mkdir -p "$root/${name%/*}"; '
    'pgbackrest "$@" --raw repo-get "$name" >"$root/${name%/*}/.fetch.$$" && mv "$root/${name%/*}/.fetch.$$" "$root/$name" '
    '|| { rm -f "$root/${name%/*}/.fetch.$$"; exit 1; }'
)


@dataclass(frozen=True)
class Place:
    """Where a repository was, and how this host reaches it."""

    host: str  # as its certificate names it
    port: int
    path: str
    ca: str
    cert: str
    key: str

    def options(self, stanza: str) -> list[str]:
        """Return what pgBackRest is told; the settings of either host, which name another repository, are left out."""
        return [
            "--no-config",
            f"--stanza={stanza}",
            "--log-level-file=off",
            "--log-level-console=error",
            "--io-timeout=30",
            f"--repo1-path={self.path}",
            f"--repo1-host={self.host}",
            "--repo1-host-type=tls",
            f"--repo1-host-port={self.port}",
            "--repo1-host-config=/dev/null",
            f"--repo1-host-ca-file={self.ca}",
            f"--repo1-host-cert-file={self.cert}",
            f"--repo1-host-key-file={self.key}",
        ]


def listed(output: str, stanza: str) -> dict[str, int]:
    """Return the files of a stanza with their sizes in bytes, from what `repo-ls --recurse --output=json` printed."""
    beginnings = (f"archive/{stanza}/", f"backup/{stanza}/")
    return {
        name: int(entry.get("size", 0))
        for name, entry in json.loads(output or "{}").items()
        if entry.get("type") == "file" and name.startswith(beginnings) and not name.endswith(UNFINISHED)
    }


def is_history(files: Mapping[str, int], stanza: str) -> bool:
    """Tell whether there is a repository with its info files, and not what is left of one."""
    return f"archive/{stanza}/archive.info" in files and f"backup/{stanza}/backup.info" in files


def lacking(there: Mapping[str, int], here: Mapping[str, int], info: bool) -> list[str]:
    """Return what has to be fetched: the info files, or all the others."""
    return sorted(name for name, size in there.items() if bool(INFO.fullmatch(name)) == info and here.get(name) != size)


def marker(path: str, stanza: str) -> Path:
    """Return the file that tells, in the repository, that its history has not come to its end."""
    return Path(path, f".history-of-{stanza}")


def present(path: str, names: Iterable[str]) -> dict[str, int]:
    """Return the sizes of those files that are below a directory of this host."""
    found = {}
    for name in names:
        try:
            found[name] = Path(path, name).stat().st_size
        except OSError:
            continue
    return found


def fetch_command(place: Place, stanza: str, path: str, processes: int) -> str:
    """Return the shell line that fetches the files whose names it reads, ended by zeros."""
    words = ["xargs", "-0", "-r", "-P", str(processes), "-I{}", "sh", "-c", FETCH, path, "{}", *place.options(stanza)]
    return shlex.join(words)
