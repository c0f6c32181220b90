# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The running half of file_restore."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host import sqlite_copy
from ansible_collections.uptier.platform.plugins.module_utils.host.restic import Repository, ResticError

# Says that a restore was completed, and of what. A directory without it was not.
MARK = ".uptier-restored.json"
RESERVE_BYTES = 256 << 20
# Shorter ones, such as `true` or a port, would make half of an answer illegible.
SECRET_CHARACTERS = 12


def moment(text: str) -> datetime:
    """Return a moment; one without a zone is in UTC."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ResticError("no_snapshot", f"{text!r} is no moment. Write it as 2026-11-26T20:00:00+01:00.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def choose(snapshots: Sequence[Mapping[str, Any]], wanted: str, before: str | None, host: str) -> Mapping[str, Any]:
    """Return the backup that is meant. `snapshots` are those of the host, oldest first, as restic lists them."""
    if not snapshots:
        raise ResticError("no_snapshot", f"There is no backup of {host}. Take one with playbooks/backup_files.yml.")
    if before:
        earlier = [entry for entry in snapshots if moment(entry["time"]) <= moment(before)]
        if not earlier:
            raise ResticError(
                "no_snapshot", f"The oldest backup of {host} is of {snapshots[0]['time'][:19]}, none was made before {before}."
            )
        return earlier[-1]
    if wanted == "latest":
        return snapshots[-1]
    fitting = [entry for entry in snapshots if entry["id"].startswith(wanted)]
    if len(fitting) != 1:
        there = ", ".join(f"{entry['short_id']} ({entry['time'][:16]})" for entry in snapshots[-5:])
        raise ResticError("no_snapshot", f"{len(fitting)} backups of {host} begin with {wanted!r}. The newest are {there}.")
    return fitting[0]


def below(path: str, parents: Iterable[str]) -> bool:
    """Tell whether a path is one of some others, or lies below one."""
    return any(path == parent or path.startswith(parent.rstrip("/") + "/") for parent in parents)


def secrets_of(settings: Mapping[str, Any]) -> set[str]:
    """Return what no output may show: the password, and what a provider's store is opened with, where it is long enough to be a secret."""
    given = [settings.get("password"), *(settings.get("environment") or {}).values()]
    return {str(value) for value in given if len(str(value or "")) >= SECRET_CHARACTERS}


class Restore:
    """One restore of files.

    Args:
        given: the options of the module.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.directory = Path(given["directory"])
        settings = self._settings()
        self.host = str(settings["name"])
        self.repository = Repository({**settings, "cache": ""})
        self.secrets = secrets_of(settings)
        self.copies = str(sqlite_copy.folder(Path(settings["staging"]))) if settings.get("staging") else ""

    def _settings(self) -> dict[str, Any]:
        content, place, mend = self.given["settings_content"], "settings_content", "Give it as JSON, through to_json."
        try:
            if not content:
                place, mend = self.given["settings"], "Run the tier's playbook with --tags state,restic first."
                content = Path(place).read_text(encoding="utf-8")
            return dict(json.loads(content))
        except (OSError, TypeError, ValueError) as error:
            raise ResticError("no_settings", f"{place} cannot be read ({error}). {mend}") from error

    def run(self, check_mode: bool) -> dict[str, Any]:
        if not self.repository.exists():
            raise ResticError("no_snapshot", f"There is no backup of {self.host}. Take one with playbooks/backup_files.yml.")
        chosen = choose(self.repository.snapshots(self.host), self.given["snapshot"], self.given["before"], self.host)
        paths = [path.rstrip("/") or "/" for path in self.given["paths"]]
        result: dict[str, Any] = {
            "snapshot": {"id": chosen["short_id"], "time": chosen["time"], "host": self.host},
            "directory": str(self.directory),
        }
        done = self._mark()
        if done and done["id"] == chosen["id"] and done["paths"] == paths:
            return {"changed": False, **result, "files": done["files"], "bytes": done["bytes"]}
        files, size, wanted = self._content(chosen, paths)
        result.update(files=files, bytes=size)
        self._refuse_directory(size)
        if check_mode:
            return {"changed": True, **result}
        begun = time.monotonic()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.repository.restore(chosen["id"], self.directory, wanted)
        self._put_copies()
        mark = {"id": chosen["id"], "paths": paths, "files": files, "bytes": size}
        (self.directory / MARK).write_text(json.dumps(mark), encoding="utf-8")
        return {"changed": True, **result, "seconds": round(time.monotonic() - begun, 2)}

    def _mark(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.directory / MARK).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def _put_copies(self) -> None:
        """Have copies of SQLite databases where their databases were."""
        if not self.copies:
            return
        copies = self.directory / self.copies.lstrip("/")
        for copy in [path for path in copies.rglob("*") if path.is_file()]:
            target = self.directory / copy.relative_to(copies)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(copy, target)
        shutil.rmtree(copies, ignore_errors=True)
        for parent in copies.relative_to(self.directory).parents:  # made for the copies alone
            if str(parent) == "." or not (self.directory / parent).is_dir() or any((self.directory / parent).iterdir()):
                break
            (self.directory / parent).rmdir()

    def _content(self, chosen: Mapping[str, Any], paths: Sequence[str]) -> tuple[int, int, list[str]]:
        """Return number and bytes of the files that are meant, and their paths in the backup; refuse one that it does not have.

        The copy of a database goes by the name of that.
        """
        files, size, missing, copies = 0, 0, set(paths), []
        for line in self.repository.run("ls", "--json", chosen["id"]).stdout.splitlines():
            entry = json.loads(line)
            if not entry.get("path"):
                continue
            names = [entry["path"]]
            if self.copies and entry["type"] == "file" and below(names[0], [self.copies]):
                names.append(names[0][len(self.copies) :])
            if paths and not any(below(name, paths) for name in names):
                continue
            missing -= {wanted for wanted in missing if any(below(name, [wanted]) for name in names)}
            if entry["type"] == "file":
                files, size = files + 1, size + int(entry.get("size") or 0)
                copies += names[:1] if names[1:] else []
        if missing:
            held = ", ".join(chosen["paths"])
            raise ResticError(
                "no_path", f"Backup {chosen['short_id']} of {self.host} has no {', '.join(sorted(missing))}. It is of {held}."
            )
        return files, size, [*paths, *copies] if paths else []

    def _refuse_directory(self, size: int) -> None:
        if self.directory.exists():
            there = sorted(path.name for path in self.directory.iterdir())
            if there:
                raise ResticError(
                    "not_empty",
                    f"{self.directory} holds {', '.join(there[:3])}{' and more' if there[3:] else ''}; nothing is written over. "
                    "Name another directory, or remove what an interrupted restore left there.",
                )
        nearest = next(path for path in (self.directory, *self.directory.parents) if path.exists())
        free = shutil.disk_usage(nearest).free
        if free < size + RESERVE_BYTES:
            raise ResticError(
                "no_room", f"{nearest} has {free >> 20} MiB left; {(size + RESERVE_BYTES) >> 20} are needed. Name another directory."
            )
