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

BACKUP = {"label": "20261121-181447F", "error": False}


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
        leader = f"#!/bin/sh\ncd {tmp_path}\necho \"$*\" >> asked\necho '7710689688293393202|{timeline}|0/145E5E40|'\n"
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
    assert "--delta --type=standby restore" in (tmp_path / "said").read_text(encoding="utf-8")
    question = (tmp_path / "asked").read_text(encoding="utf-8")
    assert r"-d user=replicator host=10.0.0.31 application_name=it\ is replication=true -c IDENTIFY_SYSTEM" in question


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
    answers = [1, 1, 0]

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
    assert "0 s after the restore, sh ended with 2: connection refused. Patroni copies" in capsys.readouterr().err
