# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of stages, what happens to those whose preparation fails, and the table of budgets."""

from __future__ import annotations

import ast
import sys
import threading
import time
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

T = TypeVar("T", bound=ast.AST)
ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import run_tests  # noqa: E402 - the path has to be set first
from run_tests import Runner, Schedule, Stage  # noqa: E402


def stage(name: str, *needs: str, lane: bool = False, group: str = "molecule", status: int = 0, optional: bool = False) -> Stage:
    command = [sys.executable, "-c", f"print('1 passed in 0.1s'); raise SystemExit({status})"]
    return Stage(name, group, [command], needs, lane=lane, optional=optional)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_tests, "LOGS", tmp_path)
    monkeypatch.setattr(run_tests, "ROOT", tmp_path.parent)
    monkeypatch.setattr(run_tests, "say", lambda text: None)
    return tmp_path


def run(stages: list[Stage]) -> Runner:
    runner = Runner(stages)
    threads = [threading.Thread(target=runner.work, args=(lane,)) for lane in (True, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread waits for what nobody will bring"
    return runner


def test_a_stage_starts_after_what_it_needs(logs: Path) -> None:
    stages = [
        stage("engine", group="prepare"),
        stage("images", "engine", group="prepare"),
        stage("growth", "images", lane=True),
        stage("ops", "images", lane=True),
        stage("role", "images"),
        stage("lint", group="lint"),
    ]
    order = [item.name for item in run(stages).done]
    assert sorted(order) == sorted(item.name for item in stages)
    for item in stages:
        assert all(order.index(need) < order.index(item.name) for need in item.needs)


def test_scenarios_of_the_platform_run_one_after_the_other() -> None:
    schedule = Schedule([stage("growth", lane=True), stage("ops_a", "growth", lane=True), stage("role")])
    taken = schedule.take(lane=True)
    assert taken is not None
    assert taken[0].name == "growth"
    late = threading.Thread(target=schedule.take, args=(True,), daemon=True)
    late.start()
    time.sleep(0.1)
    assert late.is_alive(), "the second scenario did not wait for the first"
    schedule.end(taken[0], good=True)
    late.join(10)
    assert not late.is_alive()


def test_what_needs_a_failed_stage_fails_and_says_so(logs: Path) -> None:
    stages = [stage("engine", group="prepare", status=1), stage("role", "engine"), stage("growth", "engine", lane=True), stage("lint")]
    runner = run(stages)
    assert {item.name: item.failed for item in runner.done} == {"engine": 1, "role": 1, "growth": 1, "lint": 0}
    assert "needs engine, which failed" in stages[1].log.read_text(encoding="utf-8")


def test_what_cannot_be_had_is_said_to_be_not_verified(logs: Path) -> None:
    stages = [stage("newest", group="prepare", status=1, optional=True), stage("latest_unit", "newest"), stage("lint")]
    runner = run(stages)
    assert set(runner.left_out) == {"newest", "latest_unit"}
    assert sum(item.failed for item in runner.done) == 0
    assert [item.name for item in runner.done if item.passed] == ["lint"]


def test_hosts_are_removed_also_after_a_failure(logs: Path) -> None:
    failing = stage("role", status=3)
    failing.commands.append([sys.executable, "-c", "print('not reached')"])
    failing.last = [sys.executable, "-c", "print('removed')"]
    run([failing])
    text = failing.log.read_text(encoding="utf-8")
    assert failing.failed == 1
    assert "\nnot reached" not in text
    assert "\nremoved" in text


def test_a_stage_goes_on_without_what_it_only_waits_for(logs: Path) -> None:
    newest, startup = stage("newest", group="prepare", status=1, optional=True), stage("startup")
    startup.after = ("newest",)
    assert [item.name for item in run([startup, newest]).done] == ["newest", "startup"]
    assert startup.failed == 0


def test_a_stage_that_was_never_started_fails_the_run(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "work", lambda self, lane: None)
    assert run_tests.run_all([stage("lint")], 1) == 1


def test_processor_seconds_of_a_command_and_its_children(logs: Path) -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(20_000_000))'])"
    busy = Stage("busy", "unit", [[sys.executable, "-c", burn]])
    run([busy])
    assert 0.1 < busy.cpu < 30


def test_what_runs_on_a_host_is_not_counted_twice(logs: Path) -> None:
    note = "import os; open(os.environ['UPTIER_ENTERED_SECONDS'], 'a').write('1000.00\\n')"
    busy = Stage("busy", "unit", [[sys.executable, "-c", f"sum(range(5_000_000)); {note}"]])
    run([busy])
    assert busy.own_seconds == 0.0


def test_what_a_killed_host_had_used_counts(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_tests, "processor_seconds", lambda name: 5.0)
    note = "import os; open(os.environ['UPTIER_LOST_SECONDS'], 'a').write('7.25\\n0.50\\n')"
    kills = Stage("kills", "molecule", [[sys.executable, "-c", note]], lab="mol-kills")
    run([kills])
    assert kills.host_seconds == 7.75


def test_every_stage_has_a_budget_and_no_budget_is_left_over() -> None:
    assert set(run_tests.budgets()) == {item.name for item in run_tests.all_stages()}


def test_the_table_names_what_is_over_its_budget_by_half() -> None:
    stages = [stage("fits"), stage("over")]
    stages[0].own_seconds, stages[1].own_seconds = 14.9, 15.1
    lines = run_tests.table(stages, {"fits": 10, "over": 10}, 100, 150).splitlines()
    assert "over by half" not in next(line for line in lines if line.startswith("fits"))
    assert "over by half" in next(line for line in lines if line.startswith("over"))
    assert "150 s of processor" in lines[-1]


def test_a_failure_is_named_and_a_shown_difference_is_not_one() -> None:
    log = "\n".join(
        [
            "+    except OSError as error:",
            "fatal: [db1]: FAILED! =>",
            "    msg: the disk is full",
            *["ok: [db1]"] * 80,
            "FAILED test_1_service.py::test_page[gw1] - AssertionError: 404",
            "== 1 failed, 3 passed in 9.10s ==",
            "ended with status 1",
        ]
    )
    assert run_tests.excerpt(log)[:2] == ["fatal: [db1]: FAILED! =>", "..."]
    assert run_tests.named_failures(log) == [
        "fatal: [db1]: FAILED! =>",
        "FAILED test_1_service.py::test_page[gw1] - AssertionError: 404",
    ]
    assert run_tests.named_failures("ok\nended here: the stage has used up its time\n") == ["ended here: the stage has used up its time"]
    assert run_tests.named_failures("nothing\nlast words\n") == ["last words"]


def test_the_syntax_stage_parses_every_role() -> None:
    """ansible-lint leaves that to it; what `include_role` names is parsed only when a run comes there."""
    (parsed,) = [command for command in run_tests.syntax() if "--syntax-check" in command]
    playbooks = [path for path in parsed if isinstance(path, Path) and path.suffix == ".yml"]
    roles: set[str] = set()
    for path in playbooks:
        for play in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            playbooks += [path.parent / play[word] for word in ("import_playbook", "ansible.builtin.import_playbook") if word in play]
            named = [role["role"] if isinstance(role, dict) else role for role in play.get("roles", [])]
            named += [
                task["ansible.builtin.import_role"]["name"] for task in play.get("tasks", []) if "ansible.builtin.import_role" in task
            ]
            roles |= {name.rpartition(".")[2] for name in named}
    assert {path.name for path in (ROOT / "roles").iterdir()} <= roles


def test_the_newest_core_runs_all_tests_that_import_ansible() -> None:
    left_out = {Path(word.partition("=")[2]) for word in run_tests.without_ansible() if word.startswith("--ignore=")}
    assert Path("tests/unit/docs/test_reference.py") in left_out
    parts = [*(ROOT / "plugins/plugin_utils").glob("*.py"), *(ROOT / "plugins/module_utils").rglob("*.py")]
    importing = {path.stem for path in parts if imports_ansible(path)}
    assert "specification" in importing
    for path in left_out:
        assert not imports_ansible(ROOT / path), path
        used = {alias.name for node in nodes(ROOT / path, ast.ImportFrom) for alias in node.names}
        assert not used & importing, path


def nodes(path: Path, kind: type[T]) -> list[T]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kind)]


def imports_ansible(path: Path) -> bool:
    names = [node.module or "" for node in nodes(path, ast.ImportFrom)] + [a.name for node in nodes(path, ast.Import) for a in node.names]
    return any(name.partition(".")[0] == "ansible" for name in names)


def test_a_stage_that_works_is_not_taken_for_one_that_hangs() -> None:
    """The slowest of a run on a busy machine took three times its processor seconds; a stage of the platform goes first and takes as many."""
    given = run_tests.budgets()
    short = {item.name: item.minutes for item in run_tests.all_stages() if item.minutes * 60 < given[item.name] * (1.5 if item.lane else 6)}
    assert short == {}
