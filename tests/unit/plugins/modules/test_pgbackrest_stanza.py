# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pgbackrest_stanza as a task sees it; pgBackRest is a stand-in that keeps a record of its calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.modules import pgbackrest_stanza as module


class Repository:
    """Answers `info` with a status and ends other commands with given codes, then with success."""

    def __init__(self) -> None:
        self.status = 1
        self.repositories: dict[int, tuple[int, str]] = {}
        self.silent: set[int] = set()
        self.codes: dict[str, list[int]] = {}
        self.calls: list[str] = []
        self.elsewhere: dict[str, dict[str, Any]] = {}
        self.fetched: list[list[str]] = []
        self.path = Path()

    def run(self, argv: list[str], **more: Any) -> tuple[int, str, str]:
        command = argv[-1]
        if command == "repo-ls":
            asked = next(word.partition("=")[2] for word in argv if word.startswith("--repo1-host="))
            return 0, json.dumps(self.elsewhere.get(asked, {})), ""
        if command.startswith("xargs "):
            names = more["data"].split("\0")
            self.fetched.append(names)
            for name in names:
                if "broken" not in name:
                    (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.path / name).write_bytes(b"12345")
            return (123 if any("broken" in name for name in names) else 0), "", ""
        if command == "info":
            entry = {"name": "main", "status": {"code": self.status, "message": "x"}, "backup": [{"label": "20261120-010000F"}]}
            asked = [int(word.removeprefix("--repo=")) for word in argv if word.startswith("--repo=")]
            if asked and asked[0] in self.silent:
                return 103, "", f"P00  ERROR: [103]: {NO_ANSWER}"
            if self.repositories:
                found = {key: self.repositories[key] for key in asked}
                entry["repo"] = [{"key": key, "status": {"code": code, "message": text}} for key, (code, text) in found.items()]
                entry["status"] = {"code": found[asked[0]][0], "message": "x"}
            return 0, json.dumps([entry]), ""
        self.calls.append(" ".join([command, *(word for word in argv if word.startswith(("--type", "--repo")))]))
        code = (self.codes.get(command) or [0]).pop(0)
        return code, "", f"P00  ERROR: [{code:03}]: seen" if code else ""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Repository:
    found = Repository()
    monkeypatch.setattr(AnsibleModule, "run_command", lambda self, argv, **more: found.run(argv, **more))
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(
        module, "read_config", lambda: "[global]\n" + "".join(f"repo{number}-path=/{number}\n" for number in found.repositories or [1])
    )
    return found


@pytest.fixture
def run(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(check: bool = False, **arguments: Any) -> dict[str, Any]:
        return run_module(module.main, {"stanza": "main", "_ansible_check_mode": check, **arguments})

    return call


def test_an_empty_repository_gets_all_in_order(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    assert run()["steps"] == repository.calls == ["stanza-create", "check", "backup --type=full"]


def test_check_mode_says_the_same_and_runs_nothing(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    assert run(check=True)["steps"] == ["stanza-create", "check", "backup --type=full"]
    assert repository.calls == []


def test_a_usable_backup_is_left_alone(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    repository.status = 0
    result = run()
    assert not result["changed"]
    assert result["backups"] == ["20261120-010000F"]


def test_a_lock_is_waited_for_and_other_failures_are_not(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    repository.codes = {"stanza-create": [50, 50, 0], "check": [82]}
    result = run()
    assert repository.calls == ["stanza-create"] * 3 + ["check"]
    assert result["failed"]
    assert result["reason"] == "archive_timeout"
    assert "[082]" in result["msg"]


BAD_KEY, NO_ANSWER = "[CryptoError] unable to flush", "[HostConnectError] timeout connecting to 's3.example.test:443'"
NO_BUCKET = "[ProtocolError] HTTP request failed with 404 (Not Found): *** Path/Query ***: GET /b/"
TOLD = "Repository 2 of main cannot be used now, and gets neither WAL nor backups"


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        ({1: (0, "ok"), 2: (0, "ok")}, []),
        ({1: (0, "ok"), 2: (1, "missing stanza path")}, ["stanza-create", "check", "backup --type=full --repo=2"]),
        ({1: (0, "ok"), 2: (2, "no valid backups")}, ["check", "backup --type=full --repo=2"]),
        (
            {1: (1, "missing stanza path"), 2: (1, "missing stanza path")},
            ["stanza-create", "check", "backup --type=full --repo=1", "backup --type=full --repo=2"],
        ),
        ({1: (0, "ok"), 2: (99, NO_ANSWER)}, []),
        ({1: (0, "ok"), 2: (99, NO_BUCKET)}, []),
        ({1: (2, "no valid backups"), 2: (99, NO_ANSWER)}, ["backup --type=full --repo=1"]),
    ],
)
def test_each_repository_gets_what_it_lacks(
    repository: Repository,
    run: Callable[..., dict[str, Any]],
    found: dict[int, tuple[int, str]],
    steps: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text: warned.append(text))
    repository.repositories = found
    assert run()["steps"] == repository.calls == steps
    assert [text.partition(": ")[0] for text in warned] == [TOLD for code, dummy in found.values() if code == 99]
    assert all((NO_ANSWER in text) == (NO_ANSWER in str(found)) and ("create it" in text) == (NO_BUCKET in str(found)) for text in warned)


@pytest.mark.parametrize(
    ("found", "reason"), [({1: (0, "ok"), 2: (99, BAD_KEY)}, "wrong_key"), ({1: (99, NO_ANSWER), 2: (0, "ok")}, "repository")]
)
def test_a_wrong_key_and_a_first_repository_that_is_lost_are_refused(
    repository: Repository, run: Callable[..., dict[str, Any]], found: dict[int, tuple[int, str]], reason: str
) -> None:
    repository.repositories = found
    result = run()
    assert result["failed"]
    assert result["reason"] == reason
    assert repository.calls == []


@pytest.mark.parametrize(("silent", "failed"), [(1, True), (2, False)])
def test_a_repository_without_an_answer(
    repository: Repository, run: Callable[..., dict[str, Any]], silent: int, failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, text: warned.append(text))
    repository.repositories, repository.silent = {1: (0, "ok"), 2: (0, "ok")}, {silent}
    result = run()
    assert result.get("failed", False) == failed
    assert repository.calls == []
    assert [NO_ANSWER in text for text in warned] == ([] if failed else [True])


FILE = {"type": "file", "size": 5}
HISTORY = {"archive/main/17-1/0/1.zst": FILE, "archive/main/archive.info": FILE, "backup/main/backup.info": FILE}


@pytest.fixture
def moved(repository: Repository, tmp_path: Path) -> Repository:
    """The repository was on the second of two hosts before."""
    repository.path = tmp_path
    repository.elsewhere = {"two.internal": dict(HISTORY)}
    return repository


FORMER = ["one.internal", "two.internal"]


def test_history_comes_before_the_stanza_and_info_files_last(moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = run(former=FORMER, path=str(tmp_path))
    assert result["steps"] == ["history", "stanza-create", "check", "backup --type=full"]
    assert result["moved"] == {"host": "two.internal", "files": 3, "bytes": 15}
    assert moved.calls == ["stanza-create", "check", "backup --type=full"]
    assert moved.fetched == [["archive/main/17-1/0/1.zst"], ["archive/main/archive.info", "backup/main/backup.info"]]


def test_what_was_archived_there_meanwhile_is_fetched_after_the_check(
    moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = moved.run

    def archived(argv: list[str], **more: Any) -> tuple[int, str, str]:
        if argv[-1] == "check":
            moved.elsewhere["two.internal"]["archive/main/17-1/0/2.zst"] = FILE
        return answer(argv, **more)

    monkeypatch.setattr(moved, "run", archived)
    assert run(former=FORMER, path=str(tmp_path))["changed"]
    assert moved.fetched[-1] == ["archive/main/17-1/0/2.zst"]


def test_history_that_does_not_come_whole_ends_before_its_info_files(
    moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    moved.elsewhere["two.internal"]["backup/main/broken"] = FILE
    result = run(former=FORMER, path=str(tmp_path))
    assert result["reason"] == "history"
    assert "1 of 4 files are not here, among them backup/main/broken" in result["msg"]
    assert moved.calls == []
    assert not (tmp_path / "backup/main/backup.info").exists()
    del moved.elsewhere["two.internal"]["backup/main/broken"]
    assert run(former=FORMER, path=str(tmp_path))["changed"]
    assert moved.fetched[-1] == ["archive/main/archive.info", "backup/main/backup.info"], "what was there was fetched again"


def test_a_move_that_failed_behind_its_info_files_is_continued(
    moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    moved.codes = {"check": [56]}
    assert run(former=FORMER, path=str(tmp_path))["reason"] == "no_leader"
    moved.status, moved.calls = 0, []
    moved.elsewhere["two.internal"]["archive/main/17-1/0/2.zst"] = FILE
    assert run(former=FORMER, path=str(tmp_path))["steps"] == ["history", "stanza-create", "check", "backup --type=full"]
    assert moved.calls == ["stanza-create", "check", "backup --type=full"]
    assert moved.fetched[-1] == ["archive/main/17-1/0/2.zst"]
    assert not run(former=FORMER, path=str(tmp_path))["changed"]


def test_check_mode_names_the_history_and_fetches_nothing(moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = run(check=True, former=FORMER, path=str(tmp_path))
    assert result["steps"] == ["history", "stanza-create", "check", "backup --type=full"]
    assert moved.fetched == moved.calls == []


def test_nobody_is_asked_where_there_is_a_stanza(moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    moved.status = 2
    assert run(former=FORMER, path=str(tmp_path))["moved"] == {}
    assert moved.calls == ["check", "backup --type=full"]
    assert moved.fetched == []


def test_a_new_second_repository_is_no_reason_to_look_for_history(
    moved: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """What a move left elsewhere long ago would be written over what the first repository holds now."""
    moved.repositories = {1: (0, "ok"), 2: (1, "missing stanza path")}
    assert run(former=FORMER, path=str(tmp_path))["moved"] == {}
    assert moved.fetched == []
