# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Static sites on a gateway: each version in a directory of its own, one link that says which one is served.

BASE/SITE/versions/NAME/files is what the web sees, manifest.json beside it says which files a version brought itself.
BASE/SITE/current is the link. A version is there whole or not at all, and the link changes in one step.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_link

Run = Callable[[list[str]], tuple[int, str, str]]
LENGTH = 16  # characters of the checksum in the name of a version
MANIFEST = "manifest.json"


class SiteError(Exception):
    """`reason` is for programs; the message names the site, what was seen and the fix."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def version_of(checksum: str) -> str:
    return checksum[:LENGTH]


def kept(unpacked: Mapping[str, float], current: str, keep: int) -> set[str]:
    """Return the versions that stay: the one served, and the newest of the others."""
    others = sorted((name for name in unpacked if name != current), key=lambda name: unpacked[name], reverse=True)
    return {current, *others[: max(keep - 1, 0)]}


def outliving(own: Mapping[str, Sequence[str]], names: Sequence[str], new: str) -> dict[str, str]:
    """Return the files that a version takes over from others (newest first in `names`), each with where it comes from.

    Only what a version brought itself is taken, so that a file is gone with the last version that had it.
    """
    found: dict[str, str] = {}
    for name in names:
        for path in own[name]:
            if name != new and path not in own[new]:
                found.setdefault(path, name)
    return found


class Site:
    def __init__(self, base: str, name: str, run: Run) -> None:
        self.name, self.run = name, run
        self.folder = Path(base) / name
        self.versions = self.folder / "versions"
        self.link = self.folder / "current"

    def served(self) -> str:
        """Return the name of the version that the link leads to; empty where there is none."""
        try:
            return Path(os.readlink(self.link)).parent.name
        except OSError:
            return ""

    def has(self, version: str) -> bool:
        return (self.versions / version / MANIFEST).is_file()

    def manifests(self) -> dict[str, dict[str, Any]]:
        found = {}
        for path in sorted(self.versions.glob(f"*/{MANIFEST}")):
            with suppress(OSError, ValueError):
                found[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def unpack(self, archive: str, version: str, immutable: Sequence[str]) -> None:
        """Unpack beside and rename; refuse what is no site."""
        self.versions.mkdir(parents=True, exist_ok=True)
        work = self.versions / f".{version}.new"
        shutil.rmtree(work, ignore_errors=True)
        files = work / "files"
        files.mkdir(parents=True)
        old = os.umask(0o022)
        try:
            code, out, err = self.run(["tar", "-xf", archive, "-C", str(files), "--no-same-owner", "--no-same-permissions"])
        finally:
            os.umask(old)
        try:
            if code:
                raise SiteError(
                    "bad_archive", f"Site {self.name}: the archive could not be unpacked: {(err or out).strip()}. Build it again."
                )
            if not (files / "index.html").is_file():
                seen = ", ".join(sorted(path.name for path in files.iterdir())[:5]) or "nothing"
                raise SiteError(
                    "no_index",
                    f"Site {self.name}: the archive has no index.html at its top (there is {seen}). Make it from within the directory of "
                    "the built site: tar -czf site.tar.gz -C dist .",
                )
            os.chmod(files, 0o755)
            own = [str(path.relative_to(files)) for top in immutable for path in sorted((files / top).rglob("*")) if path.is_file()]
            (work / MANIFEST).write_text(json.dumps({"unpacked_at": time.time(), "own": own}), encoding="utf-8")
        except SiteError:
            shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(self.versions / version, ignore_errors=True)
        os.replace(work, self.versions / version)

    def take_over(self, version: str) -> None:
        """Give a version the immutable files of the others: who has an older page open goes on reading what it names."""
        manifests = self.manifests()
        newest = sorted(manifests, key=lambda name: manifests[name]["unpacked_at"], reverse=True)
        files = self.versions / version / "files"
        for path, name in outliving({key: entry["own"] for key, entry in manifests.items()}, newest, version).items():
            target = files / path
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):
                    os.link(self.versions / name / "files" / path, target)

    def switch(self, version: str) -> None:
        replace_link(self.link, f"versions/{version}/files")

    def prune(self, keep: int) -> list[str]:
        """Remove all versions but those that stay; return what was removed."""
        unpacked = {name: float(entry["unpacked_at"]) for name, entry in self.manifests().items()}
        gone = sorted(set(unpacked) - kept(unpacked, self.served(), keep))
        for name in gone:
            shutil.rmtree(self.versions / name, ignore_errors=True)
        return gone
