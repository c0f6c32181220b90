# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What becomes of a program on the way to the module."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.uptier.platform.plugins.action.config_files import ActionModule

SHARED = "ansible_collections.uptier.platform.plugins.module_utils"
TREE = "/usr/local/lib/uptier/x/ansible_collections/uptier/platform/plugins/module_utils"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], dict[str, str]]]:
    """Return what gives the module's arguments, and the contents."""
    (tmp_path / "plain.py").write_text("import json\n# {{ no template }}\n", encoding="utf-8")
    (tmp_path / "needy.py").write_text(f"from {SHARED}.postgresql.sql import literal\n", encoding="utf-8")
    (tmp_path / "wrong.py").write_text("import ansible\n", encoding="utf-8")

    def call(*files: dict[str, Any], **arguments: Any) -> tuple[dict[str, Any], dict[str, str]]:
        task = MagicMock(check_mode=False, diff=True, async_val=False, args={"name": "x", "files": list(files), **arguments})
        made = ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
        made._find_needle = lambda folder, name: str(tmp_path / name)
        made._execute_module = MagicMock(return_value={"changed": True})
        made.run(None, {})
        given = made._execute_module.call_args.kwargs["module_args"]
        return given, json.loads(zlib.decompress(base64.b64decode(given["payload"])))

    return call


def test_a_program_without_modules_is_a_file(run: Callable[..., Any]) -> None:
    given, contents = run({"program": "plain.py", "dest": "/usr/local/lib/uptier/plain.py", "mode": "0755"})
    assert given["files"] == [{"dest": "/usr/local/lib/uptier/plain.py", "mode": "0755"}]
    assert contents == {"/usr/local/lib/uptier/plain.py": "import json\n# {{ no template }}\n"}
    assert "purge" not in given  # other programs lie beside it


def test_its_modules_lie_beside_it_and_nothing_else_stays_among_them(run: Callable[..., Any], root: Path) -> None:
    given, contents = run({"program": "needy.py", "dest": "/usr/local/lib/uptier/x/needy.py"}, purge=["/etc/x/*"])
    assert contents[f"{TREE}/postgresql/sql.py"] == (root / "plugins/module_utils/postgresql/sql.py").read_text(encoding="utf-8")
    assert [item["dest"] for item in given["files"]] == list(contents)
    assert given["purge"][0] == "/etc/x/*"
    assert {f"{TREE}/*", f"{TREE}/postgresql/*", "/usr/local/lib/uptier/x/ansible_collections/*"} < set(given["purge"])
    assert "/usr/local/lib/uptier/x/*" not in given["purge"]


def test_an_absent_program_takes_its_modules_along(run: Callable[..., Any]) -> None:
    given, contents = run({"program": "needy.py", "dest": "/usr/local/lib/uptier/x/needy.py", "state": "absent"})
    assert given["files"] == [
        {"dest": "/usr/local/lib/uptier/x/needy.py", "state": "absent"},
        {"dest": "/usr/local/lib/uptier/x/ansible_collections", "state": "absent"},
    ]
    assert contents == {}


def test_what_is_to_be_absent_is_not_rendered(run: Callable[..., Any]) -> None:
    """Its template may ask for what is not there either."""
    given, contents = run({"src": "none.j2", "dest": "/etc/x", "state": "absent"}, {"content": "y", "dest": "/etc/y", "state": "absent"})
    assert [item["state"] for item in given["files"]] == ["absent", "absent"]
    assert contents == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"program": "plain.py", "dest": "/x", "content": ""}, "/x: program excludes src, content and vars"),
        ({"program": "wrong.py", "dest": "/x"}, "/x: .*wrong.py: imports ansible, which no host has"),
    ],
)
def test_what_cannot_be_installed_is_refused(run: Callable[..., Any], entry: dict[str, Any], said: str) -> None:
    with pytest.raises(AnsibleActionFail, match=said):
        run(entry)


def test_two_files_at_one_place_are_refused(run: Callable[..., Any]) -> None:
    entry = {"program": "needy.py", "dest": "/usr/local/lib/uptier/x/needy.py"}
    with pytest.raises(AnsibleActionFail, match="listed twice"):
        run(entry, {"dest": f"{TREE}/postgresql/sql.py", "content": ""})


class Large:
    """A variable of which a copy would take long."""

    def __deepcopy__(self, dummy: dict[int, Any]) -> Large:
        raise AssertionError("all variables are copied for each file")


def test_files_are_rendered_from_the_variables_and_change_none(tmp_path: Path) -> None:
    (tmp_path / "one.j2").write_text(
        "{% set dummy = names.append('b') %}{{ names | join(' ') }} {{ more }} {{ facts.a.pop() }}", encoding="utf-8"
    )
    (tmp_path / "two.j2").write_text("{{ names | join(' ') }} {{ facts.a | length }} {{ more is defined }}", encoding="utf-8")
    variables = {"names": ["a"], "facts": {"a": [1]}, "others": Large()}
    loader = DataLoader()
    loader.set_basedir(str(tmp_path))
    task = MagicMock(check_mode=False, diff=True, async_val=False, args={})
    task.get_search_path.return_value = [str(tmp_path)]
    made = ActionModule(task, MagicMock(), MagicMock(), loader, Templar(loader=loader, variables=variables), MagicMock())
    assert made._render("one.j2", "/one", variables, {"more": "now"}).endswith(" now 1")
    assert made._render("two.j2", "/two", variables, {}) == "a 1 False"
    assert variables["names"] == ["a"]
