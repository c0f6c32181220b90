# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The conventions of CONTRIBUTING.md that a search can hold; ansible-lint holds the others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
TASKS = sorted((ROOT / "roles").glob("*/tasks/*.yml")) + sorted((ROOT / "roles").glob("*/handlers/*.yml"))
TEMPLATES = sorted(path for path in (ROOT / "roles").glob("*/templates/**/*") if path.is_file())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("**/*.yml"))
BLOCKS = ("block", "rescue", "always")
KEYWORDS = {
    "action", "any_errors_fatal", "args", "async", "become", "become_user", "become_method", "become_flags",
    "changed_when", "check_mode", "collections", "connection", "debugger", "delay", "delegate_facts", "delegate_to",
    "diff", "environment", "failed_when", "ignore_errors", "ignore_unreachable", "listen", "local_action", "loop",
    "loop_control", "module_defaults", "name", "no_log", "notify", "poll", "port", "register", "remote_user",
    "retries", "run_once", "tags", "throttle", "timeout", "until", "vars", "when", *BLOCKS,
}  # fmt: skip
OLD_FACT = re.compile(
    r"\bansible_(os_family|distribution\w*|default_ipv4|memtotal_mb|processor\w*|hostname|fqdn|virtualization_type"
    r"|mounts|service_mgr|date_time|architecture|kernel)\b"
)
RELATED = re.compile(r"(^|\W)groups\s*[\[.]")
INLINE_DEFAULT = re.compile(r"\|\s*default\((?!omit)|\|\s*d\(")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tasks_in(items: Any) -> Iterator[dict[str, Any]]:
    for item in items or []:
        if not isinstance(item, dict):
            continue
        yield item
        for key in (*BLOCKS, "tasks", "pre_tasks", "post_tasks", "handlers"):
            yield from tasks_in(item.get(key))


def code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are no comment."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.lstrip().startswith(("#", "{#")):
            yield number, line


def explained(lines: list[str], number: int) -> bool:
    """Tell whether a comment stands in the line or in the six lines above it."""
    return "#" in lines[number - 1] or any(line.lstrip().startswith("#") for line in lines[max(0, number - 7) : number - 1])


def found(paths: list[Path], pattern: re.Pattern[str]) -> list[str]:
    return [f"{name_of(path)}:{number}: {line.strip()}" for path in paths for number, line in code_lines(path) if pattern.search(line)]


@pytest.mark.parametrize("path", TASKS + PLAYBOOKS, ids=name_of)
def test_modules_are_named_in_full(path: Path) -> None:
    short = []
    for task in tasks_in(yaml.safe_load(path.read_text(encoding="utf-8"))):
        if "hosts" in task or "import_playbook" in task:
            continue
        actions = [key for key in task if key not in KEYWORDS and not key.startswith("with_")]
        short.extend(action for action in actions if action.count(".") < 2)
    assert not short, f"{name_of(path)}: {', '.join(short)}"


def test_no_error_is_ignored() -> None:
    assert found(TASKS + PLAYBOOKS, re.compile(r"ignore_errors|ignore_unreachable|\|\|\s*(/bin/)?true\b")) == []


def test_never_failing_tasks_say_why() -> None:
    silent = []
    pattern = re.compile(r"failed_when:\s*(false|no)\b|^\s*(-\s*)?(ansible\.builtin\.)?(shell|raw|command):(?!\s*/)")
    for path in TASKS + PLAYBOOKS:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in code_lines(path):
            if pattern.search(line) and not explained(lines, number):
                silent.append(f"{name_of(path)}:{number}: {line.strip()}")
    assert not silent, "no comment says why:\n" + "\n".join(silent)


def test_roles_do_not_read_the_inventory() -> None:
    assert found(TASKS + TEMPLATES, RELATED) == [], "take members through a variable whose default derives them"


def test_defaults_stand_in_defaults() -> None:
    assert found(TASKS + TEMPLATES, INLINE_DEFAULT) == []


def test_order_is_kept() -> None:
    """Ansible's filters on sets give their result in another order at every run: files would change, and the first would be anybody."""
    pattern = re.compile(
        r"\b(?:difference|intersect|union|symmetric_difference)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)(?!\s*\)*\s*\| (?:length|sort)\b)"
    )
    files = sorted(path for part in ("roles", "playbooks") for path in (ROOT / part).rglob("*") if path.suffix in (".yml", ".j2"))
    assert {str(path.relative_to(ROOT)): seen for path in files if (seen := pattern.findall(path.read_text(encoding="utf-8")))} == {}


def test_facts_are_read_from_ansible_facts() -> None:
    assert found(TASKS + TEMPLATES + PLAYBOOKS, OLD_FACT) == []


def test_file_modes_are_strings() -> None:
    assert found(TASKS, re.compile(r"^\s*mode:\s*0?[0-7]{3,4}\s*$")) == []


def test_certificates_are_verified() -> None:
    pattern = re.compile(r"validate_certs:\s*(false|no)\b|verify none|sslmode=(disable|allow|prefer|require)\b")
    assert found(TASKS + TEMPLATES + PLAYBOOKS, pattern) == []


def test_templates_say_who_manages_them() -> None:
    silent = []
    for path in TEMPLATES:
        if path.name.removesuffix(".j2").endswith((".json", ".html", ".pem", ".crt", ".txt", ".acl")):
            continue  # these know no comment
        if "ansible_managed" not in path.read_text(encoding="utf-8"):
            silent.append(name_of(path))
    assert not silent, "no ansible_managed in " + ", ".join(silent)


@pytest.mark.parametrize("path", sorted(ROOT.glob("plugins/**/*.py")), ids=name_of)
def test_sources_name_their_licence(path: Path) -> None:
    head = path.read_text(encoding="utf-8")[:400]
    assert "SPDX-License-Identifier: GPL-3.0-or-later" in head or not head.strip()


def test_modules_start_programs_by_run_command() -> None:
    """The part of ansible-test sanity that is met most often, in seconds."""
    assert found(sorted(ROOT.glob("plugins/modules/*.py")), re.compile(r"^(import|from) subprocess\b|\bos\.system\(")) == []


def test_nothing_is_left_to_do() -> None:
    assert found(TASKS + TEMPLATES + PLAYBOOKS, re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")) == []


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()), ids=str)
def test_what_is_written_is_recorded_as_in_use(role: str) -> None:
    """A bundle stays pending until the role says that the daemon runs with it; without that, every run reports a change."""
    written, recorded = set(), set()
    for path in TASKS:
        if path.parents[1].name != role:
            continue
        for task in tasks_in(yaml.safe_load(path.read_text(encoding="utf-8"))):
            bundle = task.get("uptier.platform.config_files")
            if isinstance(bundle, dict):
                loop = task.get("loop")
                names = loop if "{{" in bundle["name"] and isinstance(loop, list) else [bundle["name"]]
                (recorded if bundle.get("state") == "applied" else written).update(names)
    assert written - recorded == set(), "no config_files with state: applied for these"
