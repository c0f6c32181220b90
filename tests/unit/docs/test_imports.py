# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sources below plugins/ import each other in one direction, file by file and part by part."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import imports  # noqa: E402 - the path has to be set first


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert imports.cycles(imports.graph()) == []


def test_no_part_imports_itself_by_way_of_others() -> None:
    assert imports.cycles(imports.parts(imports.graph())) == []


def test_what_is_shared_is_used() -> None:
    """A file of module_utils that nothing imports is dead, or the graph does not see its import."""
    whole = imports.graph()
    lonely = [name for name in whole if name.startswith("module_utils.") and not any(name in others for others in whole.values())]
    files = {
        path.read_text(encoding="utf-8")
        for path in (ROOT / "roles").glob("*/**/*")
        if path.is_file() and path.suffix in (".yml", ".py", ".j2")
    }
    unused = [name for name in lonely if not any(name.rpartition(".")[2] in text for text in files)]
    assert not unused, f"nothing imports {unused}"


@pytest.mark.parametrize(
    ("graph", "knots"),
    [
        ({"a": {"b"}, "b": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c", "a"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_knots(graph: dict[str, set[str]], knots: list[list[str]]) -> None:
    assert imports.cycles(graph) == knots


def test_forms_of_import(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        "import ansible_collections.uptier.platform.plugins.module_utils.a.b\n"
        "from ansible_collections.uptier.platform.plugins.module_utils.a import c\n"
        "from ..module_utils.d import name\n"
        "from . import e\n"
        "from ansible.module_utils.basic import AnsibleModule\n"
        "def late():\n    from .f import name\n",
        encoding="utf-8",
    )
    found = imports.wanted(path, "modules.x")
    assert {"module_utils.a.b", "module_utils.a.c", "module_utils.d", "modules.e", "modules.f"} <= found
    assert not [name for name in found if "basic" in name]
