# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copies of SQLite databases, by SQLite itself."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import sqlite_copy as module


@pytest.fixture(params=["delete", "wal"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Give a database that its program has open, in each way in which SQLite writes."""
    path = tmp_path / "state" / "a?b #1.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        program.execute(f"PRAGMA journal_mode = {request.param}")
        program.execute("CREATE TABLE t (n)")
        program.execute("INSERT INTO t VALUES (1)")
        path.chmod(0o640)
        yield path, program


def rows(path: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as copied:
        return copied.execute("SELECT n FROM t").fetchall()


def test_a_copy_has_what_was_committed_and_nothing_else(database: tuple[Path, sqlite3.Connection], tmp_path: Path) -> None:
    path, program = database
    program.execute("BEGIN")
    program.execute("INSERT INTO t VALUES (2)")
    target = module.place(tmp_path / "staging", str(path))
    assert module.copy(path, target) == 1
    assert rows(target) == [(1,)]
    assert [item.name for item in target.parent.iterdir()] == [path.name], "a copy is one file"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    program.execute("COMMIT")
    target.unlink()
    module.copy(path, target)
    assert rows(target) == [(1,), (2,)]


def test_a_database_that_stays_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "locked", isolation_level=None)) as program:
        program.execute("CREATE TABLE t (n)")
        program.execute("BEGIN EXCLUSIVE")
        with pytest.raises(module.SqliteError, match="locked"):
            module.copy(tmp_path / "locked", tmp_path / "copy")


def test_what_is_no_database_and_what_is_damaged_is_told(database: tuple[Path, sqlite3.Connection], tmp_path: Path) -> None:
    path, program = database
    program.execute("BEGIN")
    program.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(5000)])
    program.execute("COMMIT")
    copied = tmp_path / "copy"
    assert module.copy(path, copied) == 1
    content = bytearray(copied.read_bytes())
    content[8192:12288] = bytes(4096)
    copied.write_bytes(content)
    with pytest.raises(module.SqliteError, match="is damaged|cannot be read"):
        module.tables(copied)
    copied.write_bytes(b"no database at all" * 100)
    with pytest.raises(module.SqliteError, match="not a database"):
        module.tables(copied)
    with pytest.raises(module.SqliteError, match="could not be copied: unable to open"):
        module.copy(tmp_path / "nothing", tmp_path / "other")
    assert not (tmp_path / "nothing").exists()
