# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What file_restore returns is legible, and shows no secret."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
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
    """A repository with one backup, whose location tells a secret."""

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


def run(monkeypatch: pytest.MonkeyPatch, directory: Path, content: str) -> dict[str, Any]:
    monkeypatch.setattr(restic_restore, "Repository", Fake)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    given = {"settings_content": content, "directory": str(directory), "_ansible_check_mode": True}
    with patch_module_args(given), pytest.raises(SystemExit):
        file_restore.main()
    return dict(json.loads(out.getvalue()))


def test_no_value_of_the_settings_makes_the_answer_illegible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run(monkeypatch, tmp_path / "new", json.dumps(SETTINGS))
    assert result["snapshot"] == {"id": "84d0a", "time": "2026-11-27T00:00:00Z", "host": "node1"}
    assert (result["bytes"], result["files"]) == (63790, 1)


def test_a_secret_is_not_shown_by_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = json.dumps(run(monkeypatch, tmp_path / "new", json.dumps({**SETTINGS, "location": "broken"})))
    assert "AWS says no to ****" in said
    assert "node1" in said
    assert "another-long-secret" not in said


def test_settings_that_are_no_json_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, tmp_path / "new", "{'name': 'node1'}")["reason"] == "no_settings"
