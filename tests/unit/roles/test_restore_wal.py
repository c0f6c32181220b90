# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program behind restore_command: what it asks of the repository, for how long, and what a promotion changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/postgresql/files/restore_wal.py"
REMOTE = """
[global]
io-timeout=30
repo1-host=backup.internal
repo1-host-type=tls
repo1-host-port=8432
"""
# Says what it was asked and behaves as the files beside it say: seconds to wait and the status to end with, by command.
REPOSITORY = """#!/bin/sh
here={folder}
for word; do case $word in server-ping | archive-get) command=$word ;; esac; done
trap 'kill $! 2>/dev/null; echo "cut off $command" >> $here/said; exit 143' TERM
echo "$*" >> $here/said
test -e $here/$command || exit 0
read wait status < $here/$command
sleep $wait & wait $!
test $status != 0 || for word; do target=$word; done
test -z "$target" || echo WAL > "$target"
exit $status
"""


@dataclass
class Repository:
    """A repository that a test makes slow, silent or empty, and a server that asks for files."""

    module: ModuleType
    folder: Path

    @property
    def words(self) -> list[str]:
        options = {"stanza": "main", "pgbackrest": self.folder / "pgbackrest", "config": self.folder / "pgbackrest.conf"}
        options |= {"data": self.folder, "promotion": self.folder / "promotion", "memory": self.folder / "memory"}
        return [f"--{name}={value}" for name, value in options.items()]

    def behaves(self, command: str, status: int, seconds: float = 0) -> None:
        (self.folder / command).write_text(f"{seconds} {status}\n", encoding="ascii")

    def ask(self, name: str = "00000002.history", target: str = "RECOVERYHISTORY") -> tuple[int, float]:
        """Return the status and the seconds that it took."""
        begin = time.monotonic()
        return self.module.main([*self.words, name, target]), time.monotonic() - begin

    def said(self) -> list[str]:
        """Return the commands since the last time."""
        path = self.folder / "said"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [
            next((word for word in line.split() if word in ("server-ping", "archive-get")), line) for line in lines if "cut" not in line
        ]

    def until(self, words: str) -> None:
        """Wait until it has said something."""
        deadline = time.monotonic() + 60
        while not (self.folder / "said").exists() or words not in (self.folder / "said").read_text(encoding="ascii"):
            assert time.monotonic() < deadline, f"never said: {words}"
            time.sleep(0.05)

    def memory(self) -> dict[str, float]:
        lines = (self.folder / "memory").read_text(encoding="utf-8").splitlines()
        return {name: float(value) for name, value in (line.split() for line in lines)}

    def later(self, seconds: float) -> None:
        """Let what is remembered be older."""
        seen = self.memory()
        changed = {
            key: value - seconds if key in ("last_failure", "last_answer", "failing_since") else value for key, value in seen.items()
        }
        (self.folder / "memory").write_text("".join(f"{key} {value}\n" for key, value in changed.items()), encoding="utf-8")

    def promote(self, ago: float = 0, server_started_ago: float = 3600) -> None:
        now = time.time()
        (self.folder / "postmaster.pid").write_text(f"1\n{self.folder}\n{int(now - server_started_ago)}\n5432\n", encoding="ascii")
        (self.folder / "promotion").touch()
        os.utime(self.folder / "promotion", (now - ago, now - ago))


@pytest.fixture
def repository(
    load_program: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_program: Callable[[Path, str], None],
) -> Repository:
    module = load_program("roles/postgresql/files/restore_wal.py")
    # Room for the start of a shell on a busy machine. What is to take longer waits for a minute, so that nobody mistakes the one for the other.
    monkeypatch.setattr(module, "BUDGET", 3.0)
    monkeypatch.setattr(module, "PING", 1.0)
    monkeypatch.chdir(tmp_path)
    write_program(tmp_path / "pgbackrest", REPOSITORY.format(folder=tmp_path))
    (tmp_path / "pgbackrest.conf").write_text(REMOTE, encoding="utf-8")
    made = Repository(module, tmp_path)
    made.behaves("archive-get", 0)
    return made


# Without a promotion ------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_and_the_server_is_not_pinged_again(repository: Repository) -> None:
    assert repository.ask()[0] == 0
    assert (repository.folder / "RECOVERYHISTORY").read_text(encoding="ascii") == "WAL\n"
    repository.behaves("archive-get", 1)
    assert repository.ask()[0] == 1  # it says that it has none: that is an answer too
    assert repository.said() == ["server-ping", "archive-get", "archive-get"]
    repository.later(11)
    assert repository.ask()[0] == 1
    assert repository.said() == ["server-ping", "archive-get"]


def test_a_server_that_does_not_answer_is_left_alone_and_gets_more_time(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.behaves("server-ping", 0, seconds=3)
    assert (repository.ask()[0], repository.said()) == (1, ["server-ping"])
    assert "The backup repository has not answered within 1 s. It is asked again in 10 s." in capsys.readouterr().err
    assert repository.ask()[0] == 1
    assert repository.said() == []
    repository.later(10)
    assert repository.ask()[0] == 1  # twice as long is not enough either
    assert "within 2 s" in capsys.readouterr().err
    repository.later(10)
    assert repository.ask()[0] == 0  # four times is
    assert repository.said() == ["server-ping", "server-ping", "archive-get"]
    assert "failing_since" not in repository.memory()
    assert repository.memory()["failures"] == 0


def test_a_failure_after_a_pause_is_the_first_again(repository: Repository) -> None:
    repository.behaves("server-ping", 49)
    for expected in (1, 2):
        assert repository.ask()[0] == 1
        assert repository.memory()["failures"] == expected
        repository.later(11)
    since = repository.memory()["failing_since"]
    repository.later(61)
    assert repository.ask()[0] == 1
    assert repository.memory()["failures"] == 1
    assert repository.memory()["failing_since"] > since


def test_a_file_may_take_its_time_but_not_for_ever(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.behaves("archive-get", 0, seconds=1)
    assert repository.ask()[0] == 0
    monkeypatch.setattr(repository.module, "PATIENCE", 0.5)
    assert repository.ask()[0] == 1
    assert (
        "Fetching 00000002.history from the backup repository took longer than 0.5 s. It is asked again in 10 s." in capsys.readouterr().err
    )
    assert repository.memory()["failures"] == 1
    assert repository.ask()[0] == 1
    assert repository.said() == ["server-ping", "archive-get", "archive-get"]


def test_a_wrong_certificate_is_a_failure_that_is_named(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.behaves("archive-get", 103)
    assert repository.ask()[0] == 1
    assert (
        "Fetching 00000002.history from the backup repository ended with status 103. It is asked again in 10 s." in capsys.readouterr().err
    )
    assert repository.memory()["failures"] == 1


@pytest.mark.parametrize("config", ["[global]\nrepo1-path=/var/lib/pgbackrest\n", REMOTE + "repo2-type=s3\n", REMOTE.replace("tls", "ssh")])
def test_what_has_no_server_is_not_pinged(repository: Repository, config: str) -> None:
    (repository.folder / "pgbackrest.conf").write_text(config, encoding="utf-8")
    assert repository.ask()[0] == 0
    assert repository.said() == ["archive-get"]


def test_one_of_two_servers_is_enough(repository: Repository) -> None:
    second = "repo2-host=other.internal\nrepo2-host-type=tls\n"
    (repository.folder / "pgbackrest.conf").write_text(REMOTE + second, encoding="utf-8")
    assert repository.module.servers(REMOTE + second) == [("backup.internal", "8432"), ("other.internal", "8432")]
    repository.behaves("server-ping", 49)
    assert repository.ask()[0] == 1
    assert repository.said() == ["server-ping", "server-ping"]


def test_what_cannot_be_remembered_fetches_all_the_same(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    (repository.folder / "memory").mkdir()
    assert repository.ask()[0] == 0
    assert "memory: Is a directory" in capsys.readouterr().err


def test_a_missing_program_is_a_missing_file(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    """More than 125 would be the end of the standby."""
    (repository.folder / "pgbackrest").unlink()
    assert repository.ask()[0] == 1
    assert "00000002.history cannot be fetched from the backup repository: " in capsys.readouterr().err


# With one -----------------------------------------------------------------------------------------------------------------


def test_a_promotion_waits_once_for_all_files(repository: Repository) -> None:
    repository.promote()
    repository.behaves("archive-get", 0, seconds=60)
    status, seconds = repository.ask("000000010000000000000007", "RECOVERYXLOG")
    assert status == 1
    assert 2.9 < seconds < 30
    repository.until("cut off archive-get")
    for name in ("00000002.history", "00000003.history", "000000010000000000000007"):
        assert repository.ask(name)[0] == 1
    assert repository.said() == ["archive-get"]  # no ping: the time is bounded anyway
    assert not (repository.folder / "RECOVERYXLOG").exists()
    # That it was cut off says nothing against the repository.
    assert "failures" not in repository.memory()


def test_what_does_not_come_is_counted_together_and_what_comes_is_not(repository: Repository) -> None:
    repository.promote()
    repository.behaves("archive-get", 1, seconds=1.1)
    assert [repository.ask()[0] for dummy in range(3)] == [1, 1, 1]
    assert "archive-get" in repository.said()
    repository.ask()
    assert repository.said() == []
    repository.promote(ago=-0.001)  # another promotion
    repository.behaves("archive-get", 0, seconds=0.3)
    assert [repository.ask()[0] for dummy in range(4)] == [0] * 4
    assert repository.memory()["waited"] == 0


def test_a_promotion_does_not_wait_for_a_server_that_is_known_to_be_dead(repository: Repository) -> None:
    repository.behaves("server-ping", 49)
    repository.ask()
    repository.promote()
    repository.said()
    assert (repository.ask()[0], repository.said()) == (1, [])


def test_a_fetch_under_way_is_cut_off_by_a_promotion(repository: Repository) -> None:
    repository.behaves("archive-get", 0, seconds=120)
    with subprocess.Popen([sys.executable, "-I", "-S", PROGRAM, *repository.words, "00000002.history", "RECOVERYHISTORY"]) as process:
        repository.until("archive-get")
        assert process.poll() is None
        repository.promote()
        assert process.wait(60) == 1
    repository.until("cut off archive-get")


def test_a_promotion_by_hand_is_seen_too(repository: Repository) -> None:
    repository.promote(ago=7200, server_started_ago=3600)  # of an earlier server
    repository.behaves("archive-get", 1, seconds=60)
    (repository.folder / "promote").touch()
    assert repository.ask()[1] < 30
    (repository.folder / "promote").unlink()  # as soon as PostgreSQL has seen it
    assert "archive-get" in repository.said()
    assert (repository.ask()[0], repository.said()) == (1, [])


@pytest.mark.parametrize(("ago", "started_ago"), [(301, 3600), (60, 30), (-30, 3600)])
def test_a_promotion_of_another_time_is_none(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, ago: float, started_ago: float
) -> None:
    monkeypatch.setattr(repository.module, "BUDGET", 0.5)
    repository.promote(ago, started_ago)
    repository.behaves("archive-get", 0, seconds=1)
    assert repository.ask()[0] == 0


def test_rewinding_waits_whatever_is_known(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that was promoted a minute ago has crashed and is rewound: no promotion waits for that."""
    monkeypatch.setattr(repository.module, "BUDGET", 0.5)
    repository.behaves("server-ping", 49)
    repository.ask()
    repository.said()
    repository.promote()
    repository.behaves("archive-get", 0, seconds=1)
    target = str(repository.folder / "pg_wal_000000010000000000000001")
    assert repository.ask("000000010000000000000001", target)[0] == 0
    assert repository.said() == ["archive-get"]
    assert Path(target).exists()


def test_a_signal_of_the_server_ends_it(repository: Repository) -> None:
    repository.behaves("archive-get", 0, seconds=120)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", PROGRAM, *repository.words, "00000002.history", "RECOVERYHISTORY"], start_new_session=True
    ) as process:
        repository.until("archive-get")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    repository.until("cut off archive-get")
