# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copies of SQLite databases that somebody writes to meanwhile. Nothing but the standard library."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

# For a lock that its program holds.
PATIENCE_SECONDS = 60.0
# What SQLite keeps beside a database.
BESIDE = ("-wal", "-shm", "-journal")


class SqliteError(Exception):
    """What was seen, where, and what to do; `reason` is for programs."""

    reason = "sqlite"


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database; `mode` is that of SQLite's file names, so that `rw` makes none."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=PATIENCE_SECONDS)


def tables(path: Path) -> int:
    """Return the number of tables of a copy, which was read from end to end.

    Raises:
        SqliteError: it cannot be read, or not all of it.
    """
    try:
        with contextlib.closing(connect(path, "ro")) as database:
            said = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if said != "ok":
                raise SqliteError(f"{path} is damaged: {said}.")
            return int(database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
    except sqlite3.Error as error:
        raise SqliteError(f"{path} cannot be read as a database of SQLite: {error}.") from error


def copy(source: Path, target: Path) -> int:
    """Copy a database as it is at one moment; return the number of its tables. The copy is one file, with owner and mode of its source.

    Raises:
        SqliteError: it cannot be copied, or it is damaged.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    end = time.monotonic() + PATIENCE_SECONDS

    def patience(status: int, left: int, pages: int) -> None:
        if time.monotonic() > end:
            raise SqliteError(f"{source} was locked by its program for {PATIENCE_SECONDS:.0f} s: it was not copied.")

    try:
        # Not read-only: what its program left half-written when it was killed is rolled back, as that program would.
        with contextlib.closing(connect(source, "rw")) as database, contextlib.closing(sqlite3.connect(target)) as copied:
            database.backup(copied, progress=patience)
            copied.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise SqliteError(f"{source} could not be copied: {error}. Look at that file, and at the room that {target.parent} has.") from error
    seen = source.stat()
    os.chown(target, seen.st_uid, seen.st_gid)
    target.chmod(seen.st_mode & 0o7777)
    return tables(target)


def without(paths: Sequence[str]) -> list[str]:
    """Return the names of databases and of what lies beside them: a copy stands for all of it."""
    return [path + end for path in paths for end in ("", *BESIDE)]


def place(staging: Path, path: str) -> Path:
    """Return where the copy of a database is until it is backed up."""
    return folder(staging) / path.lstrip("/")


def folder(staging: Path) -> Path:
    return staging / "sqlite"
