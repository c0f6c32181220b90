# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs that roles install on hosts, and the modules of this collection that they need there, as their imports say.

A program and its modules are installed as they are: the modules keep their package, below the program's own directory, where
Python looks first. Hosts have no Ansible, so what a program imports must come from `module_utils`, and from there on too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

COLLECTIONS = "ansible_collections"
PACKAGE = f"{COLLECTIONS}.uptier.platform.plugins"
SHARED = f"{PACKAGE}.module_utils"
PLUGINS = Path(__file__).resolve().parents[1]


class ProgramError(Exception):
    """A program cannot be installed; the message names the file and what it imports."""


def imports(source: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each module that a file imports anywhere, with the names that it takes from it."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"), str(source))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ProgramError(f"{source}: line {node.lineno} imports by a relative name. Give the whole name.")
            yield node.module or "", [alias.name for alias in node.names]


def needed(source: Path, plugins: Path = PLUGINS) -> set[str]:
    """Return the modules of the collection that a file imports itself, by their names below `module_utils`.

    Raises:
        ProgramError: it imports Ansible, or what never leaves the controller, or what is not there.
    """
    found: set[str] = set()
    for module, names in imports(source):
        if module.partition(".")[0] not in ("ansible", COLLECTIONS):
            continue
        if not module.startswith(f"{SHARED}."):
            raise ProgramError(f"{source}: imports {module}, which no host has. Take what it needs from module_utils.")
        name = module.removeprefix(f"{SHARED}.")
        path = (plugins / "module_utils").joinpath(*name.split("."))
        if path.with_suffix(".py").is_file():
            found.add(name)
        elif names and all((path / f"{item}.py").is_file() for item in names):
            found |= {f"{name}.{item}" for item in names}
        else:
            raise ProgramError(f"{source}: imports {module}, and there is no such module in {plugins}.")
    return found


def modules(program: Path, plugins: Path = PLUGINS) -> dict[str, Path]:
    """Return the files of all modules that a program needs, those of its modules included, by their names below `module_utils`."""
    found: dict[str, Path] = {}
    waiting = needed(program, plugins)
    while waiting:
        name = waiting.pop()
        found[name] = (plugins / "module_utils").joinpath(*name.split(".")).with_suffix(".py")
        waiting |= needed(found[name], plugins) - found.keys()
    return dict(sorted(found.items()))


def library(program: Path, plugins: Path = PLUGINS) -> dict[str, str]:
    """Return what is installed beside a program: contents by path below its directory. Nothing where it needs nothing.

    The packages are real ones: another `ansible_collections` on the host would come before a directory that is none.
    """
    found: dict[str, str] = {}
    for name, path in modules(program, plugins).items():
        parts = [*SHARED.split("."), *name.split(".")]
        found.update({"/".join([*parts[:depth], "__init__.py"]): "" for depth in range(1, len(parts))})
        found["/".join(parts) + ".py"] = path.read_text(encoding="utf-8")
    return found
