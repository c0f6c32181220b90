# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""systemd_units against a systemctl that remembers."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.modules import systemd_units as module


class Exit(Exception):
    """What the module would have printed."""


class Systemd:
    """Units by name: [exists, running, enabled]; a unit in `doomed` dies right after its start."""

    def __init__(self, **units: list[bool]) -> None:
        self.units = {f"{name}.service": state for name, state in units.items()}
        self.doomed: set[str] = set()
        self.calls: list[str] = []

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "journalctl":
            return 0, "bad configuration, line 7\n", ""
        verb, names = argv[1], argv[argv.index("--") + 1 :]
        if verb == "show":
            return 0, "\n\n".join(self.show(name) for name in names), ""
        self.calls.append(f"{verb} {names[0]}")
        unit = self.units[names[0]]
        if verb in ("start", "restart", "reload-or-restart"):
            unit[1] = True
        elif verb == "stop":
            unit[1] = False
        else:
            unit[2] = verb == "enable"
        return 0, "", ""

    def show(self, name: str) -> str:
        exists, running, enabled = self.units.get(name, [False, False, False])
        died = running and name in self.doomed
        lines = {
            "Id": name,
            "LoadState": "loaded" if exists else "not-found",
            "ActiveState": "failed" if died else "active" if running else "inactive",
            "SubState": "failed" if died else "running" if running else "dead",
            "UnitFileState": "enabled" if enabled else "disabled",
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items()).rstrip()


@pytest.fixture
def call(monkeypatch):
    """Return a function that runs the module over a Systemd."""

    def run(systemd: Systemd, units: list[dict[str, Any]], pending: list[str] | None = None, check_mode: bool = False) -> dict[str, Any]:
        class FakeModule:
            def __init__(self, argument_spec: dict[str, Any], **dummy: Any) -> None:
                defaults = {"state": "started", "enabled": None, "restart_files": [], "reload_files": []}
                self.params = {"units": [{**defaults, **unit} for unit in units], "pending": pending or [], "settle": 0}
                self.check_mode = check_mode

            def run_command(self, argv: list[str]) -> tuple[int, str, str]:
                return systemd.run(argv)

            def fail_json(self, **result: Any) -> None:
                raise Exit({"failed": True, **result})

            def exit_json(self, **result: Any) -> None:
                raise Exit(result)

        monkeypatch.setattr(module, "AnsibleModule", FakeModule)
        with pytest.raises(Exit) as ended:
            module.main()
        return ended.value.args[0]

    return run


def test_starts_once_and_then_leaves_alone(call):
    systemd = Systemd(a=[True, False, False], b=[True, True, True])
    units = [{"name": "a.service"}, {"name": "b.service"}]
    first = call(systemd, units)
    assert first["steps"] == systemd.calls == ["enable a.service", "start a.service"]
    assert first["started"] == ["a.service"]
    assert call(systemd, units)["changed"] is False


def test_check_mode_says_the_same_and_does_nothing(call):
    systemd = Systemd(a=[True, False, False])
    planned = call(systemd, [{"name": "a.service"}], check_mode=True)
    assert systemd.calls == []
    assert planned["steps"] == call(systemd, [{"name": "a.service"}])["steps"]


def test_check_mode_on_a_bare_host(call):
    result = call(Systemd(), [{"name": "a.service"}], check_mode=True)
    assert result["changed"] is True
    assert result["steps"] == ["start a.service"]


def test_a_missing_unit_is_a_failure_that_names_it(call):
    result = call(Systemd(), [{"name": "a.service"}])
    assert result["reason"] == "unit_missing"
    assert "a.service" in result["msg"]


def test_restarts_and_reloads_by_what_is_pending(call):
    systemd = Systemd(a=[True, True, True], b=[True, True, True], c=[True, True, True])
    units = [
        {"name": "a.service", "restart_files": ["/etc/a/*"]},
        {"name": "b.service", "reload_files": ["/etc/b"]},
        {"name": "c.service", "restart_files": ["/etc/c"]},
    ]
    result = call(systemd, units, ["/etc/a/x", "/etc/b"])
    assert systemd.calls == ["restart a.service", "reload-or-restart b.service"]
    assert result["changed"] is True


def test_stops_what_is_not_wanted_and_forgives_what_is_not_there(call):
    systemd = Systemd(a=[True, True, True])
    call(systemd, [{"name": "a.service", "state": "stopped"}, {"name": "gone.service", "state": "stopped"}])
    assert systemd.calls == ["disable a.service", "stop a.service"]


def test_a_unit_that_dies_at_once_is_a_failure_with_its_journal(call):
    systemd = Systemd(a=[True, False, True])
    systemd.doomed.add("a.service")
    result = call(systemd, [{"name": "a.service"}])
    assert result["reason"] == "unit_died"
    assert "bad configuration, line 7" in result["msg"]
