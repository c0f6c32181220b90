# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""firewall_table as the action plugin calls it, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host import firewall_apply
from ansible_collections.uptier.platform.plugins.modules import firewall_table as module

Run = Callable[..., dict[str, Any]]
RULE = {"name": "ssh", "protocol": "tcp", "ports": [22], "sources": ["admin"]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]], tmp_path: Path) -> Run:
    monkeypatch.setattr(firewall_apply, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(firewall_apply, "CONFIRMED", str(tmp_path / "confirmed"))

    def call(nft: str | None = "/usr/sbin/nft", refuse: str = "", check: bool = False, **arguments: Any) -> dict[str, Any]:
        def command(dummy: Any, argv: list[str]) -> tuple[int, str, str]:
            return (1, "", "line 3: syntax error") if refuse in argv else (0, "table", "")

        monkeypatch.setattr(AnsibleModule, "get_bin_path", lambda *dummy, **dummies: nft)
        monkeypatch.setattr(AnsibleModule, "run_command", command)
        given = {"rules": [RULE], "path": str(tmp_path / "rules"), "_ansible_check_mode": check, "_ansible_remote_tmp": str(tmp_path)}
        return run_module(module.main, {**given, **arguments})

    return call


def test_the_first_look_returns_what_the_controller_renders_from(run: Run) -> None:
    result = run()
    assert not result["changed"]
    assert result["parameters"]["rules"] == [RULE]


@pytest.mark.parametrize("phase", ["try", "confirm"])
def test_check_mode_only_looks(run: Run, phase: str) -> None:
    assert "parameters" in run(phase=phase, text="rules", check=True)


def test_a_host_without_nft(run: Run) -> None:
    for phase in ("compare", "try"):
        result = run(nft=None, phase=phase, text="rules")
        assert (result["failed"], result["reason"]) == (True, "nft_missing")
    assert run(nft=None, phase="compare", text="rules", check=True)["changed"]


@pytest.mark.parametrize(
    ("phase", "refuse", "reason"),
    [("compare", "-c", "invalid_rules"), ("try", "systemd-run", "timer_failed"), ("try", "-f", "rollback_failed")],
)
def test_a_command_that_fails_says_what_it_said(run: Run, phase: str, refuse: str, reason: str) -> None:
    result = run(phase=phase, refuse=refuse, text="rules")
    assert result["reason"] == reason
    assert "ended with 1: line 3: syntax error" in result["msg"]
