# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that takes a backup; pgBackRest is a program that answers what the test says."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

GOOD = {"label": "20261121-010000F", "type": "full", "error": False, "database": {"id": 1, "repo-key": 1}, "timestamp": {"stop": 100}}
BAD = {**GOOD, "label": "20261128-010000F", "error": True}
INCREMENT = {**BAD, "label": "20261128-010000F_20261128-070000I", "type": "incr"}


@pytest.fixture
def run(
    load_program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_program: Callable[[Path, str], None]
) -> Callable[..., tuple[int, list[str]]]:
    """Run it; `statuses` are what pgBackRest ends with, call after call but for info. Return its status and what it ran."""

    def call(
        *arguments: str, statuses: list[int], backups: list[dict[str, Any]] | None = None, status: tuple[int, str] = (0, "ok")
    ) -> tuple[int, list[str]]:
        program = load_program("roles/pgbackrest/files/backup.py")
        known = backups if backups is not None else [GOOD]
        for number in (1, 2):
            own = [backup for backup in known if backup["database"]["repo-key"] == number] if "--repositories=2" in arguments else known
            state = {"key": number, "status": dict(zip(("code", "message"), status if number > 1 else (0, "ok"), strict=True))}
            (tmp_path / f"info{number}").write_text(json.dumps([{"backup": own, "repo": [state]}]), encoding="utf-8")
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses), encoding="utf-8")
        script = (
            f"#!/bin/sh\ncd {tmp_path}\nnumber=1\nfor word; do last=$word; test $word = --repo=2 && number=2; done\n"
            'if test $last = info; then cat info$number; exit 0; fi\necho "$*" >> said\n'
            "status=$(head -1 statuses)\nsed -i 1d statuses\nexit $status\n"
        )
        write_program(tmp_path / "pgbackrest", script)
        monkeypatch.setattr(program, "PGBACKREST", str(tmp_path / "pgbackrest"))
        monkeypatch.setattr(sys, "argv", ["backup.py", "--stanza=main", *arguments])
        (tmp_path / "said").write_text("", encoding="utf-8")
        ended = program.main()
        said = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
        return ended, [" ".join(word for word in line.split() if not word.startswith(("--stanza", "--log"))) for line in said]

    return call


BACKUP = "--type=full --no-expire-auto backup"
STANDBY = "--type=full --no-expire-auto --backup-standby backup"
LEADER = "--type=full --no-expire-auto --no-backup-standby backup"


@pytest.mark.parametrize(
    ("arguments", "statuses", "status", "ran"),
    [
        ([], [0, 0], 0, [BACKUP, "expire"]),
        ([], [82], 82, [BACKUP]),
        ([], [0, 1], 3, [BACKUP, "expire"]),
        (["--standby"], [0, 0], 0, [STANDBY, "expire"]),
        (["--standby"], [56, 0, 0], 0, [STANDBY, LEADER, "expire"]),
        (["--standby"], [82, 0, 0], 0, [STANDBY, LEADER, "expire"]),
        (["--standby"], [56, 56], 56, [STANDBY, LEADER]),
        # What has nothing to do with the standby is not tried with the leader.
        (["--standby"], [103], 103, [STANDBY]),
        ([], [50], 50, [BACKUP]),
    ],
)
def test_a_full_backup(run: Callable[..., Any], arguments: list[str], statuses: list[int], status: int, ran: list[str]) -> None:
    assert run("--type=full", *arguments, statuses=statuses) == (status, ran)


@pytest.mark.parametrize("kind", ["diff", "incr"])
def test_one_that_runs_already_serves_as_well(run: Callable[..., Any], kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"--type={kind}", statuses=[50]) == (0, [f"--type={kind} --no-expire-auto backup"])
    assert "Another backup is running" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("backups", "expires"),
    [
        ([GOOD, BAD], False),
        ([GOOD, BAD, INCREMENT], False),
        ([BAD, {**GOOD, "label": "20261205-010000F"}], True),
        ([GOOD, INCREMENT], True),
        # Each repository by itself.
        ([{**BAD, "database": {"id": 1, "repo-key": 2}}, {**GOOD, "label": "20261205-010000F"}], False),
        ([], True),
    ],
)
def test_the_last_good_backup_stays(run: Callable[..., Any], backups: list[dict[str, Any]], expires: bool) -> None:
    status, ran = run("--type=incr", statuses=[0, 0], backups=backups)
    assert status == 0
    assert ("expire" in ran) == expires


def test_each_repository_gets_a_backup(run: Callable[..., Any]) -> None:
    first, second = (f"--type=full --no-expire-auto --repo={number} backup" for number in (1, 2))
    assert run("--type=full", "--repositories=2", statuses=[0, 0, 0, 0]) == (0, [first, "--repo=1 expire", second, "--repo=2 expire"])


@pytest.mark.parametrize(
    ("statuses", "status", "expires"),
    [
        ([49, 0, 0], 49, ["--repo=2 expire"]),
        ([0, 0, 49], 4, ["--repo=1 expire"]),
        ([49, 55], 49, []),
        ([0, 1, 0, 0], 3, ["--repo=1 expire"]),
    ],
)
def test_a_repository_that_cannot_be_had_is_told(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str], statuses: list[int], status: int, expires: list[str]
) -> None:
    """Who waits for a backup goes on where the first repository has one."""
    ended, ran = run("--type=full", "--repositories=2", statuses=statuses)
    assert ended == status
    assert len([line for line in ran if line.endswith("backup")]) == 2
    assert [line for line in ran if line.endswith("expire")][: len(expires)] == expires
    assert ("got no backup (status 49)" in capsys.readouterr().out) == (49 in statuses)


@pytest.mark.parametrize("kind", ["full", "incr"])
def test_one_that_does_not_answer_is_not_waited_for(run: Callable[..., Any], capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """pgBackRest would try for minutes, with its lock held."""
    said = (99, "[HostConnectError] connection refused\n    [HostConnectError] on retry at 5ms: connection refused")
    ended, ran = run(f"--type={kind}", "--repositories=2", statuses=[0, 0], status=said)
    assert ended == 4
    assert ran == [f"--type={kind} --no-expire-auto --repo=1 backup", "--repo=1 expire"]
    assert capsys.readouterr().out == "Repository 2 got no backup, because it cannot be used now: [HostConnectError] connection refused\n"


@pytest.mark.parametrize(("stop", "kind"), [(50, "full"), (150, "incr")])
def test_a_full_backup_that_was_missed_is_made_up_for(run: Callable[..., Any], stop: int, kind: str) -> None:
    second = {**GOOD, "database": {"id": 1, "repo-key": 2}, "timestamp": {"stop": stop}}
    ended, ran = run("--type=incr", "--repositories=2", statuses=[0, 0, 0, 0], backups=[GOOD, second])
    assert ended == 0
    assert ran[::2] == ["--type=incr --no-expire-auto --repo=1 backup", f"--type={kind} --no-expire-auto --repo=2 backup"]


def test_started_again_it_leaves_out_who_has_one(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert run("--type=full", "--repositories=2", statuses=[56, 0, 0])[0] == 56
    assert run("--type=full", "--repositories=2", statuses=[0, 0]) == (
        0,
        ["--type=full --no-expire-auto --repo=1 backup", "--repo=1 expire"],
    )


def other_disk(program: ModuleType, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Let these directories, and what is below them, be on a file system of their own."""
    stat = os.stat

    def look(path: Any) -> Any:
        mine = any(str(path).startswith(str(own)) for own in paths)
        return SimpleNamespace(st_dev=-1) if mine else stat(path)

    monkeypatch.setattr(program, "os", SimpleNamespace(stat=look, path=os.path, environ={}))


def test_a_second_repository_that_is_not_mounted_gets_nothing(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mnt" / "second"  # as after a restart, or never made
    ended, ran = run("--type=incr", "--repositories=2", "--path=/", f"--mount={place}", statuses=[0, 0])
    assert (ended, ran) == (4, ["--type=incr --no-expire-auto --repo=1 backup", "--repo=1 expire"])
    said = capsys.readouterr().out
    assert f"Repository 2 got no backup, because it cannot be used now: {place} is on the file system of /" in said
    assert run("--type=none", "--path=/", f"--mount={place}", statuses=[]) == (4, [])
    assert "Repository 2 gets nothing" in capsys.readouterr().out


def test_what_is_mounted_is_neither_the_systems_nor_the_first_repositorys(
    load_program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load_program("roles/pgbackrest/files/backup.py")
    first, second = tmp_path / "first", tmp_path / "mounted"
    first.mkdir()
    second.mkdir()
    assert " is on the file system of /," in program.unmounted(str(second), str(first))
    other_disk(program, monkeypatch, second)
    assert program.unmounted(str(second / "not" / "made" / "yet"), str(first)) == ""
    other_disk(program, monkeypatch, second, first)
    assert f" is on the file system of {first}," in program.unmounted(str(second), str(first))
