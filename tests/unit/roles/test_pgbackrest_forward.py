# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What brings WAL into the second repository; pgBackRest is a program that copies files, as long as the test lets it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PGBACKREST = """#!/bin/sh
cd {here}
for word; do before=$last; last=$word; done
case $before in
repo-get) cat "first/$last";;
archive-push)
    test -e down && {{ echo "ERROR: [101]: no route to host" >&2; exit 101; }}
    echo "${{last##*/}}" >> pushed
    cp "$last" second/;;
*) exit 31;;
esac
"""
FIRST, SECOND = "17-1/0000000100000000", "17-1/0000000200000000"


class Pair:
    """Two repositories in a directory, and the program between them."""

    def __init__(self, here: Path, program: ModuleType) -> None:
        self.here, self.program = here, program
        (here / "second").mkdir()
        (here / "spool").mkdir()

    def store(self, folder: str, name: str, content: bytes, checksum: str | None = "") -> str:
        """Put a file into the first repository's archive; return its path below it."""
        if checksum is not None:
            name = f"{name}-{checksum or hashlib.sha1(content, usedforsecurity=False).hexdigest()}"
        path = self.here / "first" / "archive" / "main" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{folder}/{name}"

    def forwarder(self) -> Any:
        return self.program.Forwarder("main", self.here / "first", self.here / "second.conf", self.here / "spool")

    def spooled(self) -> list[str]:
        return sorted(path.name for path in (self.here / "spool").iterdir())

    def pushed(self) -> list[str]:
        path = self.here / "pushed"
        return path.read_text(encoding="ascii").split() if path.exists() else []


@pytest.fixture
def pair(load_program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_program: Any) -> Pair:
    program = load_program("roles/pgbackrest/files/forward.py")
    write_program(tmp_path / "pgbackrest", PGBACKREST.format(here=tmp_path))
    monkeypatch.setattr(program, "PGBACKREST", str(tmp_path / "pgbackrest"))
    return Pair(tmp_path, program)


def segment(number: int, timeline: int = 1) -> str:
    return f"{timeline:08X}{0:08X}{number:08X}"


def test_all_comes_over_in_its_order_and_once(pair: Pair) -> None:
    for number in (3, 1, 2):
        pair.store(FIRST, segment(number), b"x" * number)
    pair.store(FIRST, f"{segment(2)}.00000028.backup", b"label", checksum=None)
    pair.store("17-1", "00000002.history", b"1\t0/3000000\tno reason", checksum=None)
    pair.store(SECOND, f"{segment(3, 2)}.partial", b"half")
    pair.store("17-1", "archive.info", b"none of its business", checksum=None)
    forwarder = pair.forwarder()
    assert forwarder.forward() == 6
    names = [segment(1), segment(2), f"{segment(2)}.00000028.backup", segment(3), "00000002.history", f"{segment(3, 2)}.partial"]
    assert pair.pushed() == names
    assert (pair.here / "second" / segment(2)).read_bytes() == b"xx"
    assert forwarder.forward() == pair.forwarder().forward() == 0
    pair.store(SECOND, segment(3, 2), b"whole")
    assert pair.forwarder().forward() == 1
    assert pair.spooled() == ["main.done", "main.place"], "a copy was left"


def test_a_repository_that_is_away_gets_all_of_it_later(pair: Pair) -> None:
    pair.store(FIRST, segment(1), b"one")
    forwarder = pair.forwarder()
    forwarder.forward()
    (pair.here / "down").touch()
    for number in (2, 3):
        pair.store(FIRST, segment(number), b"more")
    with pytest.raises(pair.program.Failed, match=r"status 101.*no route to host"):
        forwarder.forward()
    assert forwarder.waiting == 2
    (pair.here / "down").unlink()
    assert forwarder.forward() == 2
    assert forwarder.waiting == 0
    assert pair.pushed() == [segment(1), segment(2), segment(3)]


def test_the_same_cause_is_the_same_text(pair: Pair) -> None:
    """It is told once, whatever the time and however often pgBackRest has tried."""
    said = (
        "2026-11-27 05:12:24.783 P00  ERROR: [103]: unable to find a valid repository:\n"
        "                                    repo2: [HostConnectError] timeout connecting to 's3.lab.test:9443'\n"
        "                                        [HostConnectError] on 7 retries from 102-5000ms: timeout\n"
        "                                        [HostConnectError] on retry at 12504ms: timeout\n"
        "                                    HINT: has a stanza-create been performed?\n"
    )
    expected = "[103]: unable to find a valid repository: repo2: [HostConnectError] timeout connecting to 's3.lab.test:9443'"
    assert pair.program.cause(said) == pair.program.cause(said.replace("05:12", "06:13").replace("on 7", "on 6")) == expected


def test_the_time_of_its_notes_says_when_nothing_waited(pair: Pair) -> None:
    pair.store(FIRST, segment(1), b"one")
    forwarder = pair.forwarder()
    forwarder.forward()
    notes = pair.here / "spool" / "main.done"
    os.utime(notes, (1700000000, 1700000000))
    (pair.here / "down").touch()
    pair.store(FIRST, segment(2), b"two")
    with pytest.raises(pair.program.Failed):
        forwarder.forward()
    assert notes.stat().st_mtime == 1700000000
    (pair.here / "first" / "archive" / "main" / FIRST).rename(pair.here / "expired")
    assert forwarder.forward() == 0
    assert notes.stat().st_mtime > 1700000000


def test_what_is_damaged_in_the_first_repository_never_comes_over(pair: Pair) -> None:
    pair.store(FIRST, segment(1), b"one")
    damaged = pair.store(FIRST, segment(2), b"two", checksum="0" * 40)
    pair.store(FIRST, segment(3), b"three")
    with pytest.raises(pair.program.Failed, match="is damaged") as caught:
        pair.forwarder().forward()
    assert damaged in str(caught.value)
    assert pair.pushed() == [segment(1)]


def test_killed_after_a_push_it_is_pushed_again(pair: Pair) -> None:
    """Also where only a part of the note was written."""
    stored = [pair.store(FIRST, segment(number), b"x") for number in (1, 2)]
    (pair.here / "spool" / "main.done").write_text(f"{stored[0]}\n{stored[1][:30]}", encoding="ascii")
    (pair.here / "spool" / segment(7)).write_bytes(b"half of one that has expired meanwhile")
    assert pair.forwarder().forward() == 1
    assert pair.spooled() == ["main.done", "main.place"]
    assert pair.pushed() == [segment(2)]
    assert pair.forwarder().forward() == 0


@pytest.mark.parametrize(("changed", "again"), [("repo2-cipher-pass=new", 0), ("repo2-s3-bucket=other", 1)])
def test_a_repository_in_another_place_gets_all_of_it(pair: Pair, changed: str, again: int) -> None:
    pair.store(FIRST, segment(1), b"x")
    settings = "[global]\nrepo2-type=s3\nrepo2-s3-bucket=one\nrepo2-cipher-pass=old\n"
    (pair.here / "second.conf").write_text(settings, encoding="utf-8")
    assert pair.forwarder().forward() == 1
    name = changed.partition("=")[0]
    lines = [changed if line.startswith(name) else line for line in settings.splitlines()]
    (pair.here / "second.conf").write_text("\n".join(lines), encoding="utf-8")
    assert pair.forwarder().forward() == again
    assert pair.forwarder().forward() == 0


def test_notes_of_what_has_expired_are_dropped(pair: Pair) -> None:
    kept = pair.store(FIRST, segment(1), b"x")
    (pair.here / "spool" / "main.done").write_text("".join(f"{FIRST}/{number}\n" for number in range(1100)) + f"{kept}\n", encoding="ascii")
    assert pair.forwarder().forward() == 0
    assert (pair.here / "spool" / "main.done").read_text(encoding="ascii") == f"{kept}\n"


@pytest.mark.parametrize("away", [True, False])
def test_once_says_whether_all_is_there(pair: Pair, away: bool) -> None:
    pair.store(FIRST, segment(1), b"x")
    if away:
        (pair.here / "down").touch()
    source = Path(pair.program.__file__ or "").read_text(encoding="utf-8").replace("/usr/bin/pgbackrest", str(pair.here / "pgbackrest"))
    (pair.here / "forward.py").write_text(source, encoding="utf-8")
    words = [
        sys.executable,
        pair.here / "forward.py",
        "--stanza=main",
        f"--path={pair.here}/first",
        "--config=x",
        f"--spool={pair.here}/spool",
        "--once",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "1 files wait" in done.stdout) == (int(away), away)
