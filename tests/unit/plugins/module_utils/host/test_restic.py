# SPDX-License-Identifier: GPL-3.0-or-later
"""What restic says is told apart, a restore refuses before it writes, and figures survive a failure."""

from __future__ import annotations

import json
import stat
import string
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import files, restic_restore
from ansible_collections.uptier.platform.plugins.module_utils.host import restic as module
from ansible_collections.uptier.platform.plugins.module_utils.host.restic import Repository, ResticError
from hypothesis import given
from hypothesis import strategies as st

SNAPSHOTS = [
    {"id": "aa11" * 16, "short_id": "aa11aa11", "time": "2026-11-25T18:20:03.123456789+00:00", "paths": ["/etc"]},
    {"id": "bb22" * 16, "short_id": "bb22bb22", "time": "2026-11-26T00:20:03.1+01:00", "paths": ["/etc"]},
    {"id": "bb33" * 16, "short_id": "bb33bb33", "time": "2026-11-26T12:20:03Z", "paths": ["/etc"]},
]
CONTENT = [
    {"struct_type": "snapshot", "id": "bb33"},
    {"path": "/etc", "type": "dir"},
    {"path": "/etc/fstab", "type": "file", "size": 100},
    {"path": "/etc/nginx", "type": "dir"},
    {"path": "/etc/nginx/nginx.conf", "type": "file", "size": 11},
    {"path": "/etc/nginx.old", "type": "file", "size": 7},
]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Fatal: wrong password or no key found", "wrong_password"),
        ("Fatal: unable to create lock in backend: repository is already locked exclusively by PID 4 on backup", "locked"),
        ('Fatal: unable to open config file: Head "https://b:8433/a/config": dial tcp 10.0.0.1:8433: connect: connection refused\n'
         "Is there a repository at the following location?\nrest:https://b:8433/a/", "unreachable"),
        ("x509: certificate signed by unknown authority", "unreachable"),
        ("write /x/data/tmp: no space left on device", "disk_full"),
        ("error for tree 12345678:\n  ciphertext verification failed\nFatal: repository contains errors", "damaged"),
        ("no matching ID found for prefix \"abc\"", "no_snapshot"),
        ("something new", "failed"),
        ("", "failed"),
    ],
)  # fmt: skip
def test_what_restic_says_is_told_apart(said: str, reason: str) -> None:
    error = module.failure("check", "/r", 1, said)
    assert error.reason == reason
    assert "restic check on /r ended with 1" in str(error)


def test_a_repository_that_cannot_be_asked_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    settings = {"location": "rest:https://127.0.0.1:1/a", "password": "x", "tls": {"ca": str(tmp_path / "ca"), "cert": "/x", "key": "/x"}}
    with pytest.raises(ResticError) as caught:
        Repository(settings).exists()
    assert caught.value.reason == "unreachable"


def test_a_local_one_is_there_or_not(tmp_path: Path) -> None:
    repository = Repository({"location": str(tmp_path), "password": "x"})
    assert not repository.exists()
    (tmp_path / "config").touch()
    assert repository.exists()


@given(path=st.text(string.printable, min_size=1).map(lambda text: "/" + text.replace("\n", "")))
def test_a_path_is_no_pattern(path: str) -> None:
    """As Go's filepath.Match reads it: a backslash takes the meaning from what follows."""
    repository, seen = Repository({"location": "/r", "password": "x"}), []
    repository.run = lambda *words, **dummy: seen.extend(words)  # type: ignore[assignment, method-assign]
    repository.restore("latest", Path("/t"), [path])
    pattern = seen[-1].removeprefix("--include=")
    read, left = "", iter(pattern)
    for sign in left:
        assert sign not in "*?["
        read += next(left) if sign == "\\" else sign
    assert read == path


@pytest.mark.parametrize(
    ("wanted", "before", "chosen"),
    [("latest", None, "bb33"), ("aa", None, "aa11"), ("latest", "2026-11-26T00:00:00+00:00", "bb22"), ("latest", "2026-11-25T23:00:00", "aa11"),
     ("bb2", None, "bb22")],
)  # fmt: skip
def test_the_backup_that_is_meant(wanted: str, before: str | None, chosen: str) -> None:
    assert restic_restore.choose(SNAPSHOTS, wanted, before, "app1")["id"].startswith(chosen)


@pytest.mark.parametrize(
    ("there", "wanted", "before", "said"),
    [
        ([], "latest", None, "There is no backup of app1. Take one with playbooks/backup_files.yml."),
        (SNAPSHOTS, "bb", None, "2 backups of app1 begin with 'bb'."),
        (SNAPSHOTS, "ff", None, "0 backups of app1 begin with 'ff'."),
        (SNAPSHOTS, "latest", "2026-11-01", "The oldest backup of app1 is of 2026-11-25T18:20:03, none was made before 2026-11-01."),
        (SNAPSHOTS, "latest", "yesterday", "'yesterday' is no moment."),
    ],
)
def test_no_such_backup(there: list[dict[str, Any]], wanted: str, before: str | None, said: str) -> None:
    with pytest.raises(ResticError) as caught:
        restic_restore.choose(there, wanted, before, "app1")
    assert caught.value.reason == "no_snapshot"
    assert str(caught.value).startswith(said)


class Fake(Repository):
    """A repository with one backup, that writes a file for each path."""

    restored = 0

    def exists(self) -> bool:
        return True

    def snapshots(self, host: str = "", latest: int = 0) -> list[dict[str, Any]]:
        return SNAPSHOTS

    def run(self, *words: str, **dummy: Any) -> Any:
        class Done:
            stdout = "\n".join(map(json.dumps, CONTENT))

        if words[0] == "restore":
            Fake.restored += 1
            target = Path(next(word.partition("=")[2] for word in words if word.startswith("--target")))
            (target / "etc").mkdir()
        return Done()


def restore(monkeypatch: pytest.MonkeyPatch, directory: Path, paths: list[str], check_mode: bool = False) -> dict[str, Any]:
    monkeypatch.setattr(restic_restore, "Repository", Fake)
    options = {
        "settings_content": json.dumps({"name": "app1", "location": "/r", "password": "x"}),
        "settings": "",
        "snapshot": "latest",
        "before": None,
    }
    return restic_restore.Restore({**options, "paths": paths, "directory": str(directory)}).run(check_mode)


def test_a_restore_is_done_once_and_touches_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fake.restored = 0
    planned = restore(monkeypatch, tmp_path / "new", ["/etc/nginx"], check_mode=True)
    assert (planned["changed"], planned["files"], planned["bytes"], Fake.restored) == (True, 1, 11, 0)
    assert not (tmp_path / "new").exists()
    assert restore(monkeypatch, tmp_path / "new", ["/etc/nginx/"])["changed"]
    assert not restore(monkeypatch, tmp_path / "new", ["/etc/nginx"])["changed"]
    assert Fake.restored == 1
    with pytest.raises(ResticError, match="holds .*; nothing is written over") as caught:
        restore(monkeypatch, tmp_path / "new", ["/etc/fstab"])
    assert caught.value.reason == "not_empty"
    assert restore(monkeypatch, tmp_path / "all", [])["files"] == 3


def test_a_restore_that_cannot_be_is_refused_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Fake.restored = 0
    with pytest.raises(ResticError, match="has no /etc/ngin, /srv. It is of /etc.") as caught:
        restore(monkeypatch, tmp_path / "new", ["/etc/ngin", "/srv", "/etc/fstab"])
    assert caught.value.reason == "no_path"
    monkeypatch.setattr(restic_restore, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(ResticError) as caught:
        restore(monkeypatch, tmp_path / "new", ["/etc"])
    assert caught.value.reason == "no_room"
    assert Fake.restored == 0
    assert not (tmp_path / "new").exists()


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    files.replace_file(
        path, module.metrics({"a": ("What.", {'{host="b"}': 1.5}), "b": ("None.", {}), "c_total": ("That.", {"": 1764000000.0})}), 0o644
    )
    assert path.read_text().splitlines() == [
        "# HELP a What.", "# TYPE a gauge", 'a{host="b"} 1.5', "# HELP c_total That.", "# TYPE c_total gauge", "c_total 1764000000",
    ]  # fmt: skip
    assert module.read_metric(path, "a") == {'{host="b"}': 1.5}
    assert module.read_metric(path, "c_total") == {"": 1764000000.0}
    assert module.read_metric(path, "b") == {}
    assert module.read_metric(tmp_path / "none", "a") == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["x.prom"]


def test_messages_are_found_among_other_words() -> None:
    text = 'x\n{"message_type": "status"}\n[1]\n{"message_type": "summary", "files": 1}\n{"message_type"'
    assert module.messages(text, "summary") == [{"message_type": "summary", "files": 1}]


COPY = "/var/lib/uptier/restic/sqlite/srv/tool/tool.db"


class WithCopy(Fake):
    """A repository with a copy of a database, of which it restores what is named."""

    def run(self, *words: str, **dummy: Any) -> Any:
        done = super().run(*words) if words[0] != "restore" else None
        if done is None:
            target = Path(next(word.partition("=")[2] for word in words if word.startswith("--target")))
            named = [word.partition("=")[2] for word in words if word.startswith("--include")]
            for path in (COPY, "/srv/tool/notes"):
                if not named or restic_restore.below(path, named):
                    (target / path.lstrip("/")).parent.mkdir(parents=True)
                    (target / path.lstrip("/")).write_text(path, encoding="utf-8")
        else:
            extra = [{"path": COPY, "type": "file", "size": 5}, {"path": "/srv/tool/notes", "type": "file", "size": 3}]
            done.stdout += "\n" + "\n".join(map(json.dumps, extra))
        return done


@pytest.mark.parametrize(
    ("paths", "files", "there"),
    [
        (["/srv/tool/tool.db"], 1, ["tool.db"]),
        (["/srv"], 2, ["notes", "tool.db"]),
        (["/srv/tool/notes"], 1, ["notes"]),
        ([COPY], 1, ["tool.db"]),
        ([], 5, ["notes", "tool.db"]),
    ],
)
def test_the_copy_of_a_database_comes_back_in_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paths: list[str], files: int, there: list[str]
) -> None:
    monkeypatch.setattr(restic_restore, "Repository", WithCopy)
    settings = {"name": "app1", "location": "/r", "password": "x", "staging": "/var/lib/uptier/restic"}
    options = {"settings_content": json.dumps(settings), "settings": "", "snapshot": "latest", "before": None}
    done = restic_restore.Restore({**options, "paths": paths, "directory": str(tmp_path / "new")}).run(False)
    assert done["files"] == files
    assert sorted(item.name for item in (tmp_path / "new" / "srv" / "tool").iterdir()) == there
    assert sorted(item.name for item in (tmp_path / "new").iterdir()) == [".uptier-restored.json", "srv"]
