# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pg_backup_info and pg_backup_verify as a task sees them; pgBackRest is a stand-in that answers for a repository in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_verify_apply as apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_apply import PgBackRest
from ansible_collections.uptier.platform.plugins.modules import pg_backup_info, pg_backup_verify

SHA = "e12bdd2aa04f7d7ee527300437856df138e42c4d"
LABEL = "20261120-010000F"


class Repository:
    """One backup in segment 2, segments 1 to 4 on one timeline; each part can be taken away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = int(time.time())
        self.status: dict[str, Any] = {"code": 0, "message": "ok"}
        self.segments = [1, 2, 3, 4]
        self.archive_id = "15-1"
        self.label, self.more = LABEL, list[str]()
        self.files = ["backup.info", "backup.info.copy", *(f"{LABEL}/backup.manifest{end}" for end in ("", ".copy"))]
        self.verified = "valid, total files checked: 9, total valid files: 9"
        self.calls: list[str] = []
        self.heals: Callable[[], None] = lambda: None

    def info(self) -> list[dict[str, Any]]:
        backup = {
            "archive": {"start": f"{1:08X}{0:08X}{2:08X}", "stop": f"{1:08X}{0:08X}{2:08X}"},
            "database": {"id": 1, "repo-key": 1},
            "error": False,
            "info": {"repository": {"delta": 10}, "size": 1000},
            "label": LABEL,
            "lsn": {"start": "0/2000028", "stop": "0/2000138"},
            "timestamp": {"start": self.now - 20, "stop": self.now - 10},
            "type": "full",
        }
        archive = {"database": {"id": 1, "repo-key": 1}, "id": self.archive_id, "min": "x", "max": "y"}
        repo = {"key": 1, "cipher": "aes-256-cbc", "status": self.status}
        labels = [self.label, *self.more] if self.status["code"] == 0 else []
        backups = [{**backup, "label": label} for label in dict.fromkeys(labels)]
        return [{"name": "main", "status": self.status, "repo": [repo], "backup": backups, "archive": [archive]}]

    def listing(self, part: str) -> dict[str, Any]:
        if part.startswith("backup"):
            manifests = [f"{label}/backup.manifest{end}" for label in self.more for end in ("", ".copy")]
            return {name: {"type": "file"} for name in (*self.files, *manifests)}
        names = [f"{self.archive_id}/0000000100000000/00000001{0:08X}{number:08X}-{SHA}.zst" for number in self.segments]
        entries = {name: {"type": "file", "time": self.now} for name in names}
        return {**entries, "archive.info": {"type": "file"}, "archive.info.copy": {"type": "file"}}

    def once(self, argv: Sequence[str], dummy: float = 0.0) -> tuple[int, str, str]:
        command = next(word for word in argv[1:] if not word.startswith("-"))
        if argv[0] == "/usr/bin/test":
            return (0 if self.path.exists() else 1), "", ""
        self.calls.append(command)
        if command == "info":
            return 0, json.dumps(self.info()), ""
        if command == "repo-ls":
            return 0, json.dumps(self.listing(argv[-1])), ""
        assert command == "verify"
        return 0, f"archiveId: {self.archive_id}, total WAL checked: 4, total valid WAL: 4\nbackup: {LABEL}, status: {self.verified}\n", ""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    found = Repository(tmp_path)
    monkeypatch.setattr(apply, "read_config", lambda: f"[global]\nrepo1-path={tmp_path}\n")
    monkeypatch.setattr(PgBackRest, "once", lambda self, argv, seconds=0.0: found.once(argv, seconds))
    monkeypatch.setattr(apply, "stop_units", lambda: None)
    monkeypatch.setattr(apply.os, "geteuid", lambda: 0)
    monkeypatch.setattr(apply.time, "sleep", lambda seconds: found.heals())
    return found


@pytest.fixture
def run(run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(module: Any = pg_backup_verify, check: bool = False, **arguments: Any) -> dict[str, Any]:
        if module is pg_backup_verify:
            arguments = {"scratch": str(tmp_path / "scratch"), **arguments}
        return run_module(module.main, {"stanza": "main", "_ansible_check_mode": check, **arguments})

    return call


def test_a_good_repository_passes_and_is_asked_for_all(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    result = run()
    assert result["ok"], result
    assert not result["changed"]
    names = ["repository", "age", "size", "pages", "files", "histories", "wal", "checksums", "archive_age"]
    assert [check["name"] for check in result["checks"]] == names
    assert repository.calls.count("verify") == 1


@pytest.mark.parametrize(
    ("change", "arguments", "reason"),
    [
        ({"segments": [1, 2, 4]}, {}, "wal_missing"),
        ({"segments": [1, 2]}, {}, ""),
        ({"verified": "invalid, total files checked: 9, total valid files: 8"}, {}, "file_missing"),
        ({"verified": "invalid, total files checked: 9, total valid files: 8"}, {"checksums": False}, ""),
        ({"files": []}, {}, "info_missing"),
        ({"status": {"code": 2, "message": "no valid backups"}}, {}, "no_backup"),
        ({"status": {"code": 99, "message": "[CryptoError] x"}}, {}, "wrong_key"),
        ({"path": Path("/nowhere")}, {}, "unreachable"),
        ({}, {"max_age_seconds": 5}, "backup_too_old"),
        ({}, {"min_size_bytes": 2000}, "backup_too_small"),
        ({}, {"level": "restore", "target": "time", "target_value": "1"}, "no_such_point"),
        ({}, {"level": "restore", "target": "label", "target_value": "x"}, "no_such_point"),
    ],
)
def test_each_fault_has_its_reason(
    repository: Repository, run: Callable[..., dict[str, Any]], change: dict[str, Any], arguments: dict[str, Any], reason: str
) -> None:
    for name, value in change.items():
        setattr(repository, name, value)
    result = run(**arguments)
    assert result.get("reason", "") == reason
    assert result.get("failed", False) == bool(reason)


def test_what_is_missing_for_a_moment_only_is_no_fault(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    repository.segments = [1, 2, 4]
    repository.heals = lambda: repository.segments.append(3)
    assert run()["ok"]
    # What was read once is not read again.
    assert repository.calls.count("verify") == 1


def test_nothing_is_restored_without_room_or_without_a_server(
    repository: Repository, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.archive_id = "99-1"
    assert run(level="restore")["reason"] == "no_server"
    monkeypatch.setattr(apply.sandbox, "RESERVE_BYTES", 1 << 60)
    assert run(level="restore")["reason"] == "scratch_too_small"


def test_check_mode_plans_and_reads_no_file(
    repository: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply.os.path, "exists", lambda path: True)
    monkeypatch.setattr(apply.Verification, "_in_scratch", lambda *dummy: pytest.fail("restored in check mode"))
    result = run(check=True, level="restore", checksums=True, metrics=str(tmp_path / "m.prom"), reports=str(tmp_path / "reports"))
    assert result["ok"], result
    assert (result["point"], result["changed"]) == (f"{LABEL} to latest", False)
    assert "verify" not in repository.calls
    assert not (tmp_path / "reports").exists()


def test_a_backup_that_expires_while_it_is_restored_is_no_failure(
    repository: Repository, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[str] = []

    def restore(self: apply.Verification, dummy: str, programs: str, point: Any, newest: int) -> None:
        restored.append(point.backup.label)
        gone = point.backup.label == LABEL
        repository.label = "20261121-010000F"
        self.checks.append(apply.check.bad("restore", "file_missing", "x") if gone else apply.check.good("restore", "y"))

    monkeypatch.setattr(apply.os.path, "exists", lambda path: True)
    monkeypatch.setattr(apply.Verification, "_in_scratch", restore)
    repository.more = ["20261121-010000F"]
    result = run(level="restore", checksums=False, backup="oldest")
    assert result["ok"], result
    assert restored == [LABEL, "20261121-010000F"]
    assert [check["name"] for check in result["checks"]].count("scratch") == 1


def test_figures_and_reports_are_written_of_failures_too(
    repository: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    repository.segments = [1, 2, 4]
    result = run(metrics=str(tmp_path / "m.prom"), reports=str(tmp_path / "reports"))
    assert json.loads(Path(result["report"]).read_text(encoding="utf-8"))["reason"] == "wal_missing"
    assert 'backup_verify_success{stanza="main",repo="1"} 0' in (tmp_path / "m.prom").read_text(encoding="utf-8")


def test_what_a_killed_run_has_left_is_removed_and_nothing_else(
    repository: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    scratch, place = tmp_path / "scratch", tmp_path / "data"
    for name in ("proof-mine", "proof-empty", "proof-theirs"):
        (scratch / name).mkdir(parents=True)
    (scratch / "proof-mine" / "data").mkdir()
    place.mkdir()
    (scratch / "proof-mine" / ".uptier-backup-verify").write_text(f"main\n{place}\n/etc\n", encoding="utf-8")
    (scratch / "proof-theirs" / "precious").write_text("", encoding="utf-8")
    (scratch / "proof-link").symlink_to("/etc")
    run(checksums=False)
    assert sorted(path.name for path in scratch.iterdir()) == [".lock", "proof-link", "proof-theirs"]
    assert not place.exists()


def test_two_at_once_do_not_disturb_each_other(repository: Repository, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    repository.segments = [1, 2, 4]
    first = apply.Verification("main", {"scratch": str(tmp_path / "scratch"), "checksums": False})
    repository.heals = lambda: seen.append(run())
    first.run()
    assert [result["reason"] for result in seen] == ["busy"]


def test_an_option_that_is_unknown_is_refused(repository: Repository) -> None:
    with pytest.raises(apply.RepositoryError, match="Unknown options: probe"):
        apply.Verification("main", {"probe": []})


def test_info_is_data_and_names_the_backup_of_a_point(repository: Repository, run: Callable[..., dict[str, Any]]) -> None:
    result = run(pg_backup_info, target="latest")
    assert (result["newest"], result["backup"]["label"], result["earliest"]) == (LABEL, LABEL, repository.now - 10)
    assert run(pg_backup_info, target="time", target_value="1")["reason"] == "no_such_point"
    repository.status = {"code": 2, "message": "no valid backups"}
    assert run(pg_backup_info)["status"]["code"] == 2
    assert run(pg_backup_info, target="latest")["reason"] == "no_backup"
