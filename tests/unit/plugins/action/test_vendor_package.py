# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What vendor_package does with what a host said: which steps, which warnings, and when it is a failure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.uptier.platform.plugins.action.vendor_package import ActionModule

TESTED = "3.7.*"
SEEN = {"changed": False, "diff": [], "why": "", "beyond": False, "missing": True, "installed": ""}
DEAD = "https://apt.grafana.com/gpg-full.key: Name or service not known"


class Steps:
    """The action with a host that answers `seen`; `steps` are those that followed."""

    def __init__(self, seen: dict[str, Any], answers: dict[str, Any] | None = None, check: bool = False, **given: Any) -> None:
        self.steps: list[tuple[str, dict[str, Any]]] = []
        self.answers = answers or {}
        arguments = {"package": "loki", "version": TESTED, "vendor": "grafana", "switch": "platform_logs_enabled", **given}
        task = MagicMock(check_mode=check, diff=True, async_val=False, args=arguments)
        self.action = ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())

        def module(module_name: str, module_args: dict[str, Any], **dummy: Any) -> dict[str, Any]:
            if module_name == "uptier.platform.vendor_package":
                self.arguments = module_args
                return {**SEEN, **seen}
            return self.step(module_name, module_args)

        self.action._execute_module = module
        self.action._action = lambda name, arguments, dummy: self.step(name, arguments)
        self.result = self.action.run(None, {})

    def step(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.steps.append((name.rpartition(".")[2], arguments))
        return self.answers.get(name.rpartition(".")[2], {"changed": True})

    @property
    def names(self) -> list[str]:
        return [name for name, dummy in self.steps]


def test_nothing_is_done_where_nothing_is_missing() -> None:
    made = Steps({"missing": False, "installed": "3.7.8"})
    assert (made.steps, made.result["changed"], made.result["withheld"], made.result["warnings"]) == ([], False, {}, [])


def test_apt_gets_the_package_with_its_version() -> None:
    made = Steps({"changed": True})
    assert made.steps == [("packages", {"name": [f"loki={TESTED}"], "lists_valid_seconds": 0})]
    assert (made.result["changed"], made.result["withheld"]) == (True, {})


def test_check_mode_says_that_it_would_install() -> None:
    made = Steps({}, check=True)
    assert (made.steps, made.result["changed"]) == ([], True)


@pytest.mark.parametrize(
    ("seen", "answers"),
    [({"why": DEAD}, {}), ({}, {"packages": {"failed": True, "msg": f"{DEAD}"}})],
    ids=["no key", "no package"],
)
def test_what_the_repository_withholds_is_left_to_a_later_task(seen: dict[str, Any], answers: dict[str, Any]) -> None:
    result = Steps(seen, answers, unavailable="later").result
    assert "failed" not in result
    assert result["withheld"] == {
        "package": "loki", "version": TESTED, "vendor": "grafana", "repository": "https://apt.grafana.com", "why": DEAD,
        "switch": "platform_logs_enabled",
    }  # fmt: skip


def test_a_role_by_itself_fails_and_names_the_three_ways_on() -> None:
    result = Steps({"why": DEAD}).result
    assert (result["failed"], result["reason"]) == (True, "repository_unavailable")
    assert result["msg"] == (
        f"loki {TESTED} could not be installed from https://apt.grafana.com (gpg-full.key: Name or service not known). "
        "Name a mirror of yours (platform_grafana_repository: {url: ...}); or give a file on the controller (loki_source: package, and "
        "loki_file with its _checksum); or do without (platform_logs_enabled: false)."
    )


@pytest.mark.parametrize(
    ("seen", "version", "said"),
    [
        (
            {"installed": "3.8.0", "beyond": True, "missing": False},
            TESTED,
            f"loki 3.8.0 is installed, which is beyond {TESTED}; it is kept, since going back may cost data. "
            f"Its configuration was written for {TESTED}.",
        ),
        (
            {},
            "3.8.*",
            f"loki_version is 3.8.*; its configuration was written for {TESTED}. Read the vendor's notes on what changed.",
        ),
        (
            {},
            "",
            f"loki_version is empty, so the newest is installed; its configuration was written for {TESTED}. "
            "Read the vendor's notes on what changed.",
        ),
    ],
)
def test_another_version_than_the_tested_one_gets_one_warning(seen: dict[str, Any], version: str, said: str) -> None:
    assert Steps(seen, version=version).result["warnings"] == [said]


@pytest.mark.parametrize("version", ["3.7.8", "3.7.*"])
def test_a_version_within_the_tested_ones_gets_none(version: str) -> None:
    assert Steps({}, version=version).result["warnings"] == []


def test_a_file_that_is_not_the_one_that_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "loki.deb"
    with pytest.raises(AnsibleActionFail, match=r"loki: .*loki\.deb is no file on the controller\."):
        Steps({}, source="package", file=str(file), checksum="0" * 64)
    file.write_bytes(b"package")
    with pytest.raises(AnsibleActionFail, match=f"the SHA-256 of .* is {hashlib.sha256(b'package').hexdigest()}, and 0{{64}} was given"):
        Steps({}, source="package", file=str(file), checksum="0" * 64)


def given(path: Path) -> dict[str, str]:
    path.write_bytes(b"content")
    return {"file": str(path), "checksum": hashlib.sha256(b"content").hexdigest()}


def test_a_package_is_copied_and_installed_without_a_start(tmp_path: Path) -> None:
    made = Steps({}, source="package", **given(tmp_path / "loki.deb"))
    assert made.names == ["file", "copy", "apt"]
    assert (made.steps[2][1]["deb"], made.steps[2][1]["policy_rc_d"]) == ("/var/cache/uptier/loki.deb", 101)
    assert made.result["changed"]


@pytest.mark.parametrize(
    ("name", "steps"), [("loki.zip", ["packages", "user", "file", "unarchive"]), ("l.tar.gz", ["user", "file", "unarchive"])]
)
def test_an_archive_is_unpacked(tmp_path: Path, name: str, steps: list[str]) -> None:
    archive = {
        "directory": "/opt/uptier/loki",
        "binary": "/opt/uptier/loki/loki",
        "options": ["--strip-components=1"],
        "home": "/var/lib/loki",
    }
    made = Steps({}, source="archive", archive=archive, **given(tmp_path / name))
    assert made.names == steps
    assert ("extra_opts" in made.steps[-1][1]) == (not name.endswith(".zip"))


def test_the_first_step_that_fails_is_the_result(tmp_path: Path) -> None:
    made = Steps({}, {"copy": {"failed": True, "msg": "disk full"}}, source="package", **given(tmp_path / "loki.deb"))
    assert (made.names, made.result["msg"]) == (["file", "copy"], "disk full")


def test_a_key_on_the_controller_travels_with_the_task(tmp_path: Path) -> None:
    key = tmp_path / "grafana.asc"
    with pytest.raises(AnsibleActionFail, match="the key .* is no file on the controller"):
        Steps({}, repository={"key": str(key)})
    key.write_text("key")
    assert Steps({}, repository={"key": str(key)}).arguments["repository"]["key_content"] == "a2V5"
