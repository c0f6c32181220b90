# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a restore reads on a host, and the settings of a copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_apply import (
    BLOCK_TEXT,
    MAKING,
    SEGMENT,
    Member,
    own_server,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_copy import limits, refuse_small, server_settings
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import Choice, needed_bytes

DATABASE = "[global]\nrepo1-host=mon1\n\n[global:archive-push]\narchive-async=y\n\n[main]\npg1-path=/data/15/main\npg1-port = 5434\n"
SEGMENT_NAME = "000000010000000000000039"
CHOICE = Choice("F1", 1, 3, 1 << 30, ("--set=F1",), "then")


def test_the_data_directory_is_the_one_of_pgbackrest(tmp_path: Path) -> None:
    config = tmp_path / "pgbackrest.conf"
    config.write_text(DATABASE, encoding="utf-8")
    assert own_server("main", str(config)) == {"path": "/data/15/main", "port": "5434", "socket-path": "/run/postgresql"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DATABASE.replace("[main]", "[other]"), "names no data directory on this host for the stanza main"),
        # The repository's host knows where others have it.
        (DATABASE + "pg1-host=db1.internal\n", "names no data directory on this host for the stanza main"),
        (None, "cannot be read: .* The role pgbackrest writes it"),
    ],
)
def test_a_host_without_a_database(tmp_path: Path, text: str | None, message: str) -> None:
    config = tmp_path / "pgbackrest.conf"
    if text is not None:
        config.write_text(text, encoding="utf-8")
    with pytest.raises(PostgresqlError, match=message):
        own_server("main", str(config))


@pytest.mark.parametrize(
    ("words", "making"),
    [
        ("/usr/bin/python3 /usr/local/lib/uptier/postgresql-restore-member.py --stanza=main", True),
        ("/usr/bin/pgbackrest --stanza=main --set=F1 --delta --type=standby restore", True),
        ("pgbackrest --exec-id=1 --process=1 restore:local", True),
        ("/usr/lib/postgresql/15/bin/pg_basebackup --pgdata=/var/lib/postgresql/15/main", True),
        ("/usr/lib/postgresql/15/bin/pg_rewind -D /var/lib/postgresql/15/main", True),
        ("/usr/bin/pgbackrest --stanza=main archive-get 000000010000000000000001 pg_wal/RECOVERYXLOG", False),
        ("/usr/bin/pgbackrest server", False),
        ("/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main", False),
        ("grep pg_basebackup log", False),
    ],
)
def test_what_patroni_leaves_behind(words: str, making: bool) -> None:
    assert bool(MAKING.search(words)) == making


@pytest.mark.parametrize(("number", "config"), [(1, "pgbackrest.conf"), (2, "second-repository.conf")])
def test_the_end_of_the_log_goes_where_the_restore_comes_from(tmp_path: Path, number: int, config: str) -> None:
    """And nowhere else: pgBackRest fails where one of several repositories is lost."""
    asked: list[list[str]] = []
    member = object.__new__(Member)
    member.data, member.stanza, member.notes, member.unarchived = tmp_path, "main", [], False
    member.waiting = lambda: [SEGMENT_NAME]  # type: ignore[method-assign]
    member.backups = SimpleNamespace(once=lambda argv, seconds: asked.append(argv) or (len(asked) - 1, "", "no room"))  # type: ignore[assignment]
    record: Any = SimpleNamespace(choice=replace(CHOICE, repository=number), request=SimpleNamespace(kind="latest"))
    member._push(record)
    ((dummy, where, *dummies, path),) = asked
    assert (where.rpartition("/")[2], path) == (config, f"{tmp_path}/pg_wal/{SEGMENT_NAME}")
    assert where.startswith("--config=/etc/pgbackrest/")
    with pytest.raises(PostgresqlError, match="no room"):
        member._push(record)


def test_what_goes_to_the_archive() -> None:
    names = ["0000000100000000000000AF", "00000002.history", "0000000100000000000000AF.partial", "0000000100000000000000AF.00000028.backup"]
    assert [name for name in names if SEGMENT.fullmatch(name)] == names[:2]


def test_patroni_is_kept_from_starting_by_a_file_that_explains_itself() -> None:
    assert "restore_postgresql.yml" in BLOCK_TEXT
    assert BLOCK_TEXT.splitlines()[-2:] == ["[Unit]", "AssertPathExists=!/etc/systemd/system/patroni.service.d/restore.conf"]


# A copy -------------------------------------------------------------------------------------------------------------------


def test_a_copy_speaks_to_nobody() -> None:
    control = "max_prepared_xacts setting:           7\nmax_connections setting: 400\n"
    settings = dict(line.split(" = ", 1) for line in server_settings("/copy", control, 1024).splitlines())
    assert {name: settings[name] for name in ("archive_mode", "listen_addresses", "max_wal_senders", "hot_standby")} == {
        "archive_mode": "'off'",
        "listen_addresses": "''",
        "max_wal_senders": "'0'",
        "hot_standby": "'off'",
    }
    assert settings["max_prepared_transactions"] == "'7'"
    assert settings["shared_buffers"] == "'256MB'"
    assert "ReadWritePaths=/copy" in " ".join(limits("/copy", 1024))
    assert "InaccessiblePaths=-/var/lib/postgresql -/run/postgresql" in " ".join(limits("/copy", 1024))


def test_a_copy_needs_room() -> None:
    refuse_small(CHOICE, needed_bytes(CHOICE), "/copy")
    with pytest.raises(Refusal, match="/copy has 1587 MiB free, and F1 needs 1587 MiB. Make room, or name another directory."):
        refuse_small(CHOICE, needed_bytes(CHOICE) - 1, "/copy")
