# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""CI, pre-commit and labels run and name what there is."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import ci_matrix  # noqa: E402 - the path has to be set first
import run_tests  # noqa: E402
from support import BIN  # noqa: E402

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_matrix_has_every_scenario_once() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "ci_matrix.py"], capture_output=True, text=True, check=True)
    jobs = json.loads(done.stdout)
    stages = [stage for job in jobs for stage in job["stages"].split()]
    assert sorted(stages) == sorted(run_tests.scenarios())
    assert len({job["name"] for job in jobs}) == len(jobs)


def test_operations_run_after_their_platform() -> None:
    assert ci_matrix.matrix(["ops_b", "role_x", "tier_growth", "ops_a"]) == [
        {"name": "role_x", "stages": "role_x"},
        {"name": "tier_growth", "stages": "tier_growth ops_a ops_b"},
    ]


def test_stages_of_the_matrix_are_stages_of_the_tests() -> None:
    names = {stage.name for stage in run_tests.all_stages()}
    assert {stage for job in ci_matrix.matrix(run_tests.scenarios()) for stage in job["stages"].split()} <= names


def test_workflow_takes_its_matrix_from_the_script() -> None:
    jobs = load(ROOT / ".github/workflows/test.yml")["jobs"]
    assert "scripts/ci_matrix.py" in jobs["plan"]["steps"][-1]["run"]
    assert jobs["scenario"]["strategy"]["matrix"] == {"include": "${{ fromJSON(needs.plan.outputs.scenarios) }}"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_targets_that_exist_and_pin_actions(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for job in load(path)["jobs"].values():
        for step in job["steps"]:
            assert set(re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.M)) <= targets
            groups = re.findall(r"run_tests\.py ([a-z]+)$", step.get("run", ""), re.M)
            assert set(groups) <= set(run_tests.GROUPS)
            assert "uses" not in step or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])


def test_pre_commit_is_what_make_lint_runs() -> None:
    hooks = [hook for repo in load(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    ours = {tuple([str(ROOT / word) if word.startswith(".venv/") else word for word in shlex.split(hook["entry"])]) for hook in hooks}
    lint = {tuple(map(str, command)) for stage in run_tests.all_stages() if stage.group == "lint" for command in stage.commands}
    assert str(BIN) in str(lint)
    assert ours == lint
    assert all(hook["pass_filenames"] is False and hook["language"] == "system" for hook in hooks)


def test_labels_match_something() -> None:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=False
    ).stdout
    files = listed.split("\n") if listed else [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    patterns = [
        glob
        for rules in load(ROOT / ".github/labeler.yml").values()
        for rule in rules
        for match in rule["changed-files"]
        for glob in match["any-glob-to-any-file"]
    ]
    # fnmatch's `*` crosses slashes, which only makes it match more; a folder that was renamed matches nothing.
    assert not [glob for glob in patterns if not any(fnmatch.fnmatch(name, glob) for name in files)]


def test_every_role_has_a_label() -> None:
    text = (ROOT / ".github/labeler.yml").read_text(encoding="utf-8")
    assert not [path.name for path in (ROOT / "roles").iterdir() if f"roles/{path.name}/**" not in text]
