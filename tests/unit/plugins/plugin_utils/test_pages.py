# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages that are no YAML are named with their line, and what can be read is left alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.uptier.platform.plugins.plugin_utils.pages import unreadable
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[4]
PLAYBOOK = shutil.which("ansible-playbook") or str(Path(sys.executable).with_name("ansible-playbook"))
PAGE = "group_vars/all/platform.yml"
TABS, QUOTES = "Indent with spaces", "in quotes"


def page(folder: Path, content: str | bytes, name: str = PAGE) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "place", "fix"),
    [
        ("a: 1\nb:\n\tc: 2\n", "line 3, column 1,", TABS),
        ("a: b\n\tc: d\n", "line 2, column 1,", TABS),
        ("a: b: c\n", "line 1, column 5,", QUOTES),
        ("a: b\n  c: d\n", "line 2, column 4,", "indent the line"),
        ("a: {{ b }}\n", "line 1, column 5,", QUOTES),
        ("a: 'b\nc: d\n", "line 1, column 4,", "Close the quotation mark"),
        ("[section]\na=b\n", "line 2, column 1,", "`name: value`"),
        ("a: %b\n", "line 1, column 4,", "sign such as %"),
        ('a: "b" c\n', "line 1, column 8,", QUOTES),
        ("a:\n  - b\n - c\n", "line 3, column 2,", "same column"),
        ("a=b\n", "holds text without a colon", "`name: value`"),
        ("- a\n", "holds a list", "`name: value`"),
        ("7\n", "holds a single value", "`name: value`"),
        ("a: 2026-13-45\n", "month must be in 1..12", QUOTES),
        (b"a: 1\nb: \xe4\n", "line 2,", "UTF-8"),
        ("a: \x00\n", "is not valid YAML", "take the character out"),
    ],
)
def test_place_and_fix(tmp_path: Path, content: str | bytes, place: str, fix: str) -> None:
    path = page(tmp_path, content)
    (problem,) = unreadable([str(tmp_path)])
    assert problem.where.startswith(str(path))
    assert place in f"{problem.where} {problem.seen}"
    assert fix in problem.fix


@pytest.mark.parametrize(
    "content", ["", "# nothing yet\n", "---\n", "a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  33\n", "$ANSIBLE_VAULT;1.1;AES256\n33: [\n"]
)
def test_what_ansible_reads_is_left_alone(tmp_path: Path, content: str) -> None:
    page(tmp_path, content)
    assert unreadable([str(tmp_path)]) == []


def test_only_what_ansible_takes_for_variables_is_read(tmp_path: Path) -> None:
    for name in (
        "group_vars/all/.hidden.yml",
        "group_vars/all/page.yml~",
        "group_vars/all/notes.md",
        "files/a.yml",
        "group_vars/.git/a.yml",
    ):
        page(tmp_path, "a: b: c\n", name)
    hosts = page(tmp_path, "all: {}\n", "hosts.yml")
    assert unreadable([str(hosts), "db1,db2,", str(tmp_path / "absent")]) == []
    named = [page(tmp_path, "a: b: c\n", name) for name in ("group_vars/all/deep/a.yaml", "group_vars/web", "host_vars/db1.json")]
    assert [problem.where.split(",")[0] for problem in unreadable([str(hosts), str(tmp_path)])] == [str(path) for path in named]


def test_no_value_is_shown(tmp_path: Path) -> None:
    page(tmp_path, "vault_password: hunter2: x\n")
    (problem,) = unreadable([str(tmp_path)])
    assert "vault_password" in str(problem)
    assert "hunter2" not in str(problem)


LINES = st.lists(
    st.sampled_from(
        [
            "a: b",
            "a: b: c",
            "  c: d",
            "\td: e",
            "- f",
            "  - g",
            "'h",
            'i: "j" k',
            "l: {{ m }}",
            "n: [o",
            "# p",
            "q=r",
            "s: %t",
            "",
            "{}",
            "u: !unsafe v",
            "w: &x y",
            "z: *x",
        ]
    )
)


@given(LINES)
def test_it_agrees_with_ansible(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("pages")
    path = page(folder, "\n".join(lines) + "\n")
    try:
        value = DataLoader().load_from_file(str(path))
        good = value is None or isinstance(value, dict)
    except AnsibleError:
        good = False
    assert (unreadable([str(folder)]) == []) == good


def test_a_run_names_every_page_before_it_stops(tmp_path: Path) -> None:
    """With the project's own configuration, as a user starts it."""
    page(tmp_path, "all: {hosts: {one: {ansible_connection: local}}}\n", "hosts.yml")
    wrong = [page(tmp_path, "a: b: c\n"), page(tmp_path, "a: 'b\n", "host_vars/one.yml")]
    play = page(tmp_path, yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [{"debug": None}]}]), "play.yml")
    command = [PLAYBOOK, "-i", str(tmp_path), str(play)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert [f"[ERROR]: {path}, line 1" in done.stderr for path in wrong] == [True, True], done.stderr
