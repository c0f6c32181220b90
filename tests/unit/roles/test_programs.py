# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs of roles start on a host from what is installed there, and no role says by hand what that is."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils.programs import COLLECTIONS, library, modules

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = sorted((ROOT / "roles").glob("*/files/**/*.py"))
# What a program takes from packages that its role installs.
PACKAGES = {"renew_certificates.py": {"cryptography"}}
PYTHON = next((path for path in ("/usr/bin/python3.11", "/usr/bin/python3") if os.access(path, os.X_OK)), sys.executable)


def entries(value: Any) -> Iterator[dict[str, Any]]:
    """Give each file of config_files in a document that is a program."""
    if isinstance(value, dict):
        if "program" in value and "dest" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from entries(item)


INSTALLED = [
    (path.parents[1].name, entry)
    for path in sorted((ROOT / "roles").glob("*/[vt]a*/*.yml"))
    for entry in entries(yaml.safe_load(path.read_text(encoding="utf-8")))
]


def source(role: str, entry: dict[str, Any]) -> Path:
    path = entry["program"].replace("{{ role_path }}", str(ROOT / "roles" / role))
    return (ROOT / "roles" / role / "files" / path).resolve()


def imported(path: Path) -> set[str]:
    """Return the first names of all that is imported anywhere in a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_every_program_is_installed_as_one() -> None:
    assert {source(*installed) for installed in INSTALLED} == set(PROGRAMS)
    assert len(PROGRAMS) >= 7


def test_no_role_names_modules_of_the_collection() -> None:
    """A list kept by hand goes wrong unseen when a module is split or renamed."""
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "roles").rglob("*")
        if path.is_file() and path.suffix in (".yml", ".j2")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "module_utils" in line or "plugin_utils" in line
    ]
    assert named == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_it_starts_from_what_is_installed(program: Path, tmp_path: Path) -> None:
    """In an empty environment, without the packages of this Python: what it imports, wherever in its text, lies beside it."""
    for package in PACKAGES.get(program.name, ()):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("x509 = None\n", encoding="ascii")
    shutil.copy(program, tmp_path)
    for name, text in library(program).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    names = [program.stem, *(f"ansible_collections.uptier.platform.plugins.module_utils.{name}" for name in modules(program))]
    script = f"import importlib, sys; sys.path.insert(0, {str(tmp_path)!r}); [importlib.import_module(name) for name in {names!r}]"
    done = subprocess.run(
        [PYTHON, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=False, env={}, cwd="/", timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert [str(path) for path in tmp_path.rglob("__pycache__")] == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_it_needs_no_package_but_those_of_its_role(program: Path) -> None:
    for path in (program, *modules(program).values()):
        foreign = imported(path) - sys.stdlib_module_names - {COLLECTIONS}
        assert foreign <= PACKAGES.get(program.name, set()), path


def folder_of(role: str, entry: dict[str, Any]) -> str:
    """Return the directory in which a program is installed, by the role's own variables."""
    variables = yaml.safe_load((ROOT / "roles" / role / "vars" / "main.yml").read_text(encoding="utf-8"))

    def value(match: re.Match[str]) -> str:
        name, dummy, key = match[1].partition(".")
        return variables[name][key] if key else variables[name]

    return os.path.dirname(re.sub(r"{{ ([\w.]+) }}", value, entry["dest"]))


def test_a_program_with_modules_has_a_directory_to_itself() -> None:
    """What else lies among the modules is removed; two programs would take them from each other."""
    folders = [(folder_of(*installed), source(*installed)) for installed in INSTALLED]
    assert all(folder.startswith("/usr/local/lib/uptier") for folder, dummy in folders)
    needy = [folder for folder, program in folders if modules(program)]
    assert len(needy) >= 3
    assert [folder for folder in needy if [other for other, dummy in folders].count(folder) > 1 or folder.count("/") < 5] == []
