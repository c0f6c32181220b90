# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program of the timer for partitions; the server is a stand-in."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema import PartitionSpec
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema_apply import Outcome, State
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError

UNTIL = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
STATE = State(PartitionSpec("shop", 'tab"le', interval="month", premake=2), 2, UNTIL, 4, 5)


@pytest.fixture(scope="module")
def program(load_program: Any) -> Any:
    return load_program("roles/postgresql/files/postgresql_partitions.py")


@pytest.fixture
def run(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the program with a server that leads or not, and does what it is told; return its code and its metrics."""
    wanted = [{"database": "shop", "table": "t", "interval": "month"}]
    config = tmp_path / "partitions.json"
    config.write_text(json.dumps({"server": {"port": 1}, "partitions": wanted, "metrics": str(tmp_path / "p.prom")}), encoding="utf-8")

    def call(*arguments: str, leads: bool = True, outcome: Any = None) -> tuple[int, dict[str, float], list[bool]]:
        checks: list[bool] = []

        def bring_about(settings: Any, now: datetime, check: bool, partitions: Any, states: list[State]) -> Outcome:
            checks.append(check)
            if isinstance(outcome, Exception):
                raise outcome
            states.append(STATE)
            return outcome or Outcome()

        monkeypatch.setattr(program, "leads", lambda settings: leads)
        monkeypatch.setattr(program, "bring_about", bring_about)
        code = program.main([str(config), *arguments])
        path = tmp_path / "p.prom"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return code, {name: float(value) for name, value in re.findall(r"^(pg_\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}, checks

    return call


def test_metrics_of_a_run(run: Any) -> None:
    code, metrics, dummy = run()
    labels = '{database="shop",table="public.tab\\"le"}'
    assert code == 0
    assert metrics["pg_partitions_run_success"] == 1
    assert metrics["pg_partitions_last_success_timestamp_seconds"] > UNTIL
    assert metrics[f"pg_partitions_ahead{labels}"] == metrics[f"pg_partitions_premake{labels}"] == 2
    assert metrics[f"pg_partitions_until_timestamp_seconds{labels}"] == UNTIL
    assert metrics[f"pg_partitions_default_rows{labels}"] == 5


def test_a_problem_ends_with_1_and_the_last_success_stays(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good = run()[1]
    code, metrics, dummy = run(outcome=Outcome(problems=[("locked", "no lock")]))
    assert code == 1
    assert metrics["pg_partitions_run_success"] == 0
    assert metrics["pg_partitions_run_problems"] == 1
    assert metrics["pg_partitions_last_success_timestamp_seconds"] == good["pg_partitions_last_success_timestamp_seconds"]
    assert "locked: no lock" in capsys.readouterr().err


def test_what_could_not_be_asked_stays_as_it_was(run: Any) -> None:
    good = run()[1]
    code, metrics, dummy = run(outcome=SessionError("not_reachable", "No server answers"))
    assert code == 1
    assert {name: value for name, value in metrics.items() if "{" in name} == {name: value for name, value in good.items() if "{" in name}


def test_who_follows_only_looks(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, metrics, checks = run(leads=False, outcome=Outcome(steps=["DROP TABLE x"]))
    assert (code, checks) == (0, [True])
    assert metrics["pg_partitions_run_success"] == 1
    assert capsys.readouterr().out == ""


def test_where_nothing_is_declared_no_server_is_asked(program: Any, tmp_path: Path) -> None:
    config = tmp_path / "partitions.json"
    settings = {"port": 1, "directory": str(tmp_path)}
    config.write_text(json.dumps({"server": settings, "partitions": [], "metrics": str(tmp_path / "p.prom")}), encoding="utf-8")
    assert program.main([str(config)]) == 0
    assert "pg_partitions_run_success 1\n" in (tmp_path / "p.prom").read_text(encoding="utf-8")


def test_check_says_what_would_be_done_and_writes_nothing(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, metrics, checks = run("--check", "--now", "2025-10-15", outcome=Outcome(steps=["DROP TABLE x"]))
    assert (code, metrics, checks) == (0, {}, [True])
    assert capsys.readouterr().out == "would: DROP TABLE x\n"


def test_without_node_exporter_there_are_no_metrics(program: Any, tmp_path: Path) -> None:
    program.write(tmp_path / "gone" / "p.prom", {}, 0)
    assert list(tmp_path.iterdir()) == []
