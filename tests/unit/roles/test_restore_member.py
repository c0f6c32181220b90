# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that makes a standby from the repository; pgBackRest and the leader are programs that answer what the test says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def backup(label: str, timeline: int, stop: str = "0/3000100", error: bool = False) -> dict[str, Any]:
    return {
        "label": label,
        "error": error,
        "archive": {"stop": f"{timeline:08X}0000000000000003"},
        "lsn": {"start": "0/3000028", "stop": stop},
    }


BACKUP = backup("20261121-181447F", 9)


@pytest.fixture
def program(load_program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("roles/postgresql/files/restore_member.py")
    monkeypatch.setattr(module, "LOOK", 0.01)
    return module


@pytest.fixture
def run(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_program: Callable[[Path, str], None]
) -> Callable[..., int]:
    """Run it with what the repository says, look after look (the last for ever), and the leader's timeline."""

    def call(looks: list[dict[str, Any]], timeline: int = 10, restored: int = 0, patience: float = 30) -> int:
        for number, look in enumerate(looks):
            (tmp_path / f"info-{number}").write_text(json.dumps([look]), encoding="utf-8")
        script = (
            f'#!/bin/sh\ncd {tmp_path}\nfor word; do last=$word; done\necho "$*" >> said\n'
            f"if test $last = restore; then exit {restored}; fi\ncat $(ls -v info-* | head -1)\n"
            "test $(ls info-* | wc -l) = 1 || rm $(ls -v info-* | head -1)\n"
        )
        leader = (
            f'#!/bin/sh\ncd {tmp_path}\necho "$*" >> asked\ncase "$*" in\n'
            f"*TIMELINE_HISTORY*) printf '{timeline:08X}.history|8\\t0/2000000\\tno recovery target specified\\n\\n9\\t0/9000000\\tbefore\\n' ;;\n"
            f"*) echo '7710689688293393202|{timeline}|0/145E5E40|' ;;\nesac\n"
        )
        for name, text in (("pgbackrest", script), ("psql", leader)):
            write_program(tmp_path / name, text)
        monkeypatch.setattr(program, "PGBACKREST", str(tmp_path / "pgbackrest"))
        words = ["--stanza=main", f"--psql={tmp_path}/psql", f"--patience={patience}", "--keep_data=True", "--scope=main", "--role=replica"]
        connstring = r"user=replicator host=10.0.0.31 application_name=it\ is"
        monkeypatch.setattr(sys, "argv", ["restore_member.py", *words, "--datadir=/var/lib", f"--connstring={connstring}"])
        return program.main()

    return call


def info(newest: str | None, *backups: dict[str, Any]) -> dict[str, Any]:
    """What the repository says of a cluster that was upgraded from another major release."""
    return {"archive": [{"id": "14-1", "max": "0000000F0000000000000009"}, {"id": "15-2", "max": newest}], "backup": list(backups)}


def said(folder: Path) -> list[str]:
    return [line.rsplit(" ", 1)[-1] for line in (folder / "said").read_text(encoding="utf-8").splitlines()]


def test_a_repository_that_is_up_to_date(run: Callable[..., int], tmp_path: Path) -> None:
    assert run([info("0000000A0000000000000014", BACKUP)]) == 0
    assert said(tmp_path) == ["info", "restore", "info"]
    assert "--set=20261121-181447F --delta --type=standby restore" in (tmp_path / "said").read_text(encoding="utf-8")
    question = (tmp_path / "asked").read_text(encoding="utf-8")
    assert r"-d user=replicator host=10.0.0.31 application_name=it\ is replication=true -c IDENTIFY_SYSTEM" in question


@pytest.mark.parametrize(
    ("backups", "taken"),
    [
        # Newest first by their names: a differential one is named after its full one.
        (
            [backup("20261121-010000F", 9), backup("20261121-010000F_20261122-010000D", 9), backup("20261121-010000F_20261121-130000I", 9)],
            1,
        ),
        # The history was left at 0/9000000: what was backed up later on it does not lead to the leader.
        ([backup("20261121-010000F", 9), backup("20261122-010000F", 9, stop="0/9000001")], 0),
        ([backup("20261121-010000F", 8, stop="0/2000000"), backup("20261122-010000F", 8, stop="0/2000001")], 0),
        ([backup("20261121-010000F", 9), backup("20261122-010000F", 10, stop="0/A000000")], 1),
        ([backup("20261121-010000F", 9), backup("20261122-010000F", 10, error=True)], 0),
    ],
)
def test_the_newest_backup_on_the_leaders_history(
    run: Callable[..., int], tmp_path: Path, backups: list[dict[str, Any]], taken: int
) -> None:
    assert run([info("0000000A0000000000000014", *backups)]) == 0
    assert f"--set={backups[taken]['label']} " in (tmp_path / "said").read_text(encoding="utf-8")


def test_no_backup_on_the_leaders_history(run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a restore to a time before it."""
    assert run([info("0000000A0000000000000014", backup("20261122-010000F", 9, stop="0/9000001"))]) == 1
    assert said(tmp_path) == ["info"]
    assert "no backup lies on the history of the leader's timeline 10. Patroni copies from the leader." in capsys.readouterr().err


def test_it_waits_for_the_leaders_timeline(run: Callable[..., int], tmp_path: Path) -> None:
    """The old timeline's segments come first: timeline 9 has more of them than timeline 10."""
    old = info("00000009000000000000FFFF", BACKUP)
    assert run([old, old, old, info("0000000A0000000000000014", BACKUP)]) == 0
    assert said(tmp_path) == ["info", "restore", "info", "info", "info"]


def test_a_timeline_that_never_comes(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([info("000000090000000000000014", BACKUP)], patience=0.1) == 1
    assert capsys.readouterr().err == (
        "The repository cannot make this standby: 0 s after the restore, it has WAL of timeline 9, and the leader is on 10. Patroni copies from "
        "the leader.\n"
    )


@pytest.mark.parametrize("backups", [(), ({"label": "x", "error": True},)])
def test_no_backup(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], backups: tuple[dict[str, Any], ...]
) -> None:
    """A first standby comes before the first backup. Nothing is waited for."""
    assert run([info(None, *backups)]) == 1
    assert said(tmp_path) == ["info"]
    assert "the stanza main has no backup yet. Patroni copies from the leader." in capsys.readouterr().err


def test_a_restore_that_fails(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([info("0000000A0000000000000014", BACKUP)], restored=82) == 1
    assert "the restore ended with 82" in capsys.readouterr().err


def test_nothing_is_archived(program: ModuleType) -> None:
    assert [program.archived_timeline(found) for found in ({}, {"archive": []}, info(None))] == [0, 0, 0]


def test_a_leader_that_refuses_for_a_moment(program: ModuleType, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not read yet that there is a new member."""
    answers = [1, 1, 0, 0]

    def refusing(psql: str, connstring: str) -> int:
        return 10 if not answers.pop(0) else int(program.answer(["false"]))

    monkeypatch.setattr(program, "leaders_timeline", refusing)
    assert run([info("0000000A0000000000000014", BACKUP)]) == 0
    assert answers == []


def test_a_leader_that_is_silent(program: ModuleType, run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def silent(psql: str, connstring: str) -> int:
        return int(program.answer(["sh", "-c", "echo connection refused >&2; exit 2"]))

    monkeypatch.setattr(program, "leaders_timeline", silent)
    assert run([info("0000000A0000000000000014", BACKUP)], patience=0.05) == 1
    assert "cannot make this standby: sh ended with 2: connection refused. Patroni copies" in capsys.readouterr().err
