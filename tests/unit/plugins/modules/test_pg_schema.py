# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pg_schema as a task sees it; what stands behind it is a stand-in here and real in test_pg_schema_server.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema_apply import Outcome
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError, SqlError
from ansible_collections.uptier.platform.plugins.modules import pg_schema as module

INDEX = {"database": "d", "table": "t", "name": "i", "columns": ["a"]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(outcome: Any = None, leads: Any = True, check: bool = False, **arguments: Any) -> dict[str, Any]:
        def answer(value: Any) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        monkeypatch.setattr(module, "leads", lambda settings: answer(leads))
        monkeypatch.setattr(module, "bring_about", lambda *given: answer(outcome or Outcome()))
        warned: list[str] = []
        # Ansible itself passes on a warning once in the life of a process.
        monkeypatch.setattr(module.AnsibleModule, "warn", lambda self, text: warned.append(text))
        return {**run_module(module.main, {"_ansible_check_mode": check, **arguments}), "warnings": warned}

    return call


def test_steps_are_the_change_and_the_diff(run: Callable[..., dict[str, Any]]) -> None:
    for check in (False, True):
        result = run(Outcome(steps=["CREATE INDEX x"], notices=["Skipped y"]), check=check, indexes=[INDEX])
        assert result["changed"]
        assert result["statements"] == ["CREATE INDEX x"]
        assert result["diff"]["after"] == "CREATE INDEX x;\n"
        assert "Skipped y" in str(result["warnings"])


def test_who_follows_leaves_it_to_the_leader(run: Callable[..., dict[str, Any]]) -> None:
    result = run(leads=False, indexes=[INDEX])
    assert (result["changed"], result["leads"]) == (False, False)


def test_problems_fail_after_all_else_was_done(run: Callable[..., dict[str, Any]]) -> None:
    result = run(Outcome(steps=["CREATE INDEX x"], problems=[("locked", "no lock"), ("overlap", "half")]))
    assert result["failed"]
    assert result["changed"]
    assert result["reason"] == "locked"
    assert [entry["reason"] for entry in result["problems"]] == ["locked", "overlap"]
    assert "half" in result["msg"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SessionError("not_reachable", "No server answers"), "not_reachable"), (SqlError({"C": "53300", "code": "53300"}), "sql_failed")],
)
def test_a_server_that_does_not_answer(run: Callable[..., dict[str, Any]], error: Exception, reason: str) -> None:
    assert run(leads=error)["reason"] == reason


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"indexes": [{**INDEX, "columns": []}]}, "takes columns or expressions"),
        ({"partitions": [{"database": "d", "table": "t"}]}, "one of the following is required: interval, modulus"),
        ({"partitions": [{"database": "d", "table": "t", "interval": "month", "modulus": 2}]}, "mutually exclusive"),
        ({"partitions": [{"database": "d", "table": "t", "interval": "month", "premake": 0}]}, "give 1 or more"),
        ({"now": "soon"}, "now is soon"),
        ({"indexes": [{**INDEX, "colums": ["a"]}]}, "colums"),
    ],
)
def test_mistakes_are_named(run: Callable[..., dict[str, Any]], arguments: dict[str, Any], words: str) -> None:
    result = run(**arguments)
    assert result["failed"]
    assert words in result["msg"]
