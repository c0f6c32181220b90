# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What file_restore returns is legible, and shows no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import restic_restore
from ansible_collections.uptier.platform.plugins.modules import file_restore

SETTINGS = {
    "name": "node1",
    "location": "/var/backups/restic/node1",
    "password": "a-long-password-of-node1",
    "environment": {"AWS_DEFAULT_REGION": "eu", "AWS_SECRET_ACCESS_KEY": "another-long-secret"},
    "cache": "",
    "upload_kib": 0,
    "redis": {"address": "10.0.0.1", "port": 6379},
}


class Fake:
    """A repository with one backup; where it cannot be read, its message tells a secret."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def exists(self) -> bool:
        return True

    def snapshots(self, host: str) -> list[dict[str, Any]]:
        if self.settings["location"] == "broken":
            raise restic_restore.ResticError("failed", f"{host}: AWS says no to {self.settings['environment']['AWS_SECRET_ACCESS_KEY']}")
        return [{"id": "84d0a0006ee", "short_id": "84d0a", "time": "2026-11-27T00:00:00Z", "paths": ["/etc"]}]

    def run(self, *dummy: str) -> Any:
        class Done:
            stdout = json.dumps({"path": "/etc/fstab", "type": "file", "size": 63790})

        return Done()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_module: Callable[..., dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    monkeypatch.setattr(restic_restore, "Repository", Fake)
    given = {"directory": str(tmp_path / "new"), "_ansible_check_mode": True}
    return lambda content: run_module(file_restore.main, {**given, "settings_content": content})


def test_no_value_of_the_settings_makes_the_answer_illegible(run: Callable[[str], dict[str, Any]]) -> None:
    result = run(json.dumps(SETTINGS))
    assert result["snapshot"] == {"id": "84d0a", "time": "2026-11-27T00:00:00Z", "host": "node1"}
    assert (result["bytes"], result["files"]) == (63790, 1)


def test_a_secret_is_not_shown_by_a_failure(run: Callable[[str], dict[str, Any]]) -> None:
    said = json.dumps(run(json.dumps({**SETTINGS, "location": "broken"})))
    assert "AWS says no to ****" in said
    assert "node1" in said
    assert "another-long-secret" not in said


@pytest.mark.parametrize("content", ["{'name': 'node1'}", "[1]", "7", "null"])
def test_settings_that_are_no_json_object_are_refused(run: Callable[[str], dict[str, Any]], content: str) -> None:
    result = run(content)
    assert result["reason"] == "no_settings"
    assert "settings_content cannot be read" in result["msg"]
