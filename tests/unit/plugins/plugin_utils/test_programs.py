# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which modules go along with a program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils.programs import ProgramError, library, modules

SHARED = "ansible_collections.uptier.platform.plugins.module_utils"
TREE = {
    "data/sql.py": "",
    "data/plan.py": f"from __future__ import annotations\nimport json\nfrom {SHARED}.data.sql import quote\n",
    "data/act.py": f"from {SHARED}.data import plan, sql\n",
    "data/one.py": f"import {SHARED}.data.other\n",
    "data/other.py": f"from {SHARED}.data.one import x\n",
    "data/asks.py": "from ansible.module_utils.basic import AnsibleModule\n",
}


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    for name, text in TREE.items():
        path = tmp_path / "plugins" / "module_utils" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write(text: str) -> tuple[Path, Path]:
        path = tmp_path / "program.py"
        path.write_text(text, encoding="utf-8")
        return path, tmp_path / "plugins"

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import json, os.path\nfrom cryptography import x509\n", []),
        (f"from {SHARED}.data.sql import quote\n", ["data.sql"]),
        (f"import {SHARED}.data.plan as p\n", ["data.plan", "data.sql"]),
        (f"from {SHARED}.data import act\n", ["data.act", "data.plan", "data.sql"]),
        (f"def later():\n    from {SHARED}.data.plan import Plan\n", ["data.plan", "data.sql"]),
        (f"from {SHARED}.data.one import x\n", ["data.one", "data.other"]),
    ],
)
def test_imports_are_followed(program: Callable[[str], tuple[Path, Path]], text: str, expected: list[str]) -> None:
    assert list(modules(*program(text))) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from . import sql\n", r"program\.py: line 1 imports by a relative name\. Give the whole name\."),
        ("import ansible.errors\n", r"program\.py: imports ansible\.errors, which no host has\. Take what it needs from module_utils\."),
        ("from ansible_collections.uptier.platform.plugins.plugin_utils import names\n", "plugin_utils, which no host has"),
        ("from ansible_collections.community.general.plugins.module_utils import x\n", "which no host has"),
        (f"from {SHARED}.data.asks import x\n", r"asks\.py: imports ansible\.module_utils\.basic, which no host has"),
        (f"from {SHARED}.data import sql, quote\n", r"imports .*\.data, and there is no such module in"),
        (f"import {SHARED}.data\n", "there is no such module"),
        (f"from {SHARED}.gone import x\n", r"module_utils\.gone, and there is no such module"),
    ],
)
def test_what_no_host_has_is_refused(program: Callable[[str], tuple[Path, Path]], text: str, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        modules(*program(text))


def test_modules_keep_their_package(program: Callable[[str], tuple[Path, Path]]) -> None:
    assert library(*program("import json\n")) == {}
    found = library(*program(f"from {SHARED}.data import plan\n"))
    folder = SHARED.replace(".", "/")
    assert found[f"{folder}/data/plan.py"] == TREE["data/plan.py"]
    inits = [name for name in found if name.endswith("/__init__.py")]
    assert inits[0] == "ansible_collections/__init__.py"
    assert inits[-1] == f"{folder}/data/__init__.py"
    assert [found[name] for name in inits] == [""] * 6
    assert len(found) == 6 + 2
